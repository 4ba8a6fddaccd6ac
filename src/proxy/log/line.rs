//! What a line says of a stream that is over, with HAProxy's habits: which times are there, which status, which level. It
//! decides nothing about where lines go; `writer` calls it.

use std::time::Duration;

use crate::base::net::Addr;
use crate::base::time::Now;
use crate::model::{Frontend, Mode};
use crate::policy::log::{Captured, EndWords, Levels, Line, Span, Timers};
use crate::policy::sample::{ConnError, Live, TimerName};
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::log::Record;
use crate::proxy::session::Session;
use crate::rt;

pub(super) const NORMAL: End = End::new(Side::Client, Phase::Data, Kind::Normal);

/// What kind of line.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub(super) is_early: bool,
    /// There was no whole request.
    pub(super) is_bad: bool,
}

/// Whether HAProxy would call it an error: anything but a normal end at once, or a rule's.
pub(super) fn is_error(end: End, status: i32, retries: u32, redispatched: bool) -> bool {
    let letter = end.code().as_bytes()[0];
    redispatched
        || !matches!(letter, b'-' | b'L')
        || (end.kind == Kind::Normal && retries > 0)
        || status >= 500
}

/// What a line of a whole request would say.
pub(in crate::proxy) fn line_of<'a>(
    session: &'a Session,
    record: &'a Record,
    end: End,
    now: Duration,
) -> Line<'a> {
    let status = status(session.frontend(), record, end);
    line(session, record, status, (end, Form { is_early: false, is_bad: false }), (rt::now(), now))
}

/// The status of a line. As with HAProxy it is 400 for a client that left before the response.
pub(super) fn status(frontend: &Frontend, record: &Record, end: End) -> i32 {
    let has_left = (end.side, end.phase, end.kind) == (Side::Client, Phase::Headers, Kind::Abort);
    match record.status {
        -1 if has_left && frontend.mode == Mode::Http => 400,
        // What is not HTTP has no status, which HAProxy writes as 0.
        -1 if frontend.mode == Mode::Tcp => 0,
        status => status,
    }
}

/// `at` and `now` are the same moment on the two clocks.
pub(super) fn line<'a>(
    session: &'a Session,
    record: &'a Record,
    status: i32,
    (end, form): (End, Form),
    (at, now): (Now, Duration),
) -> Line<'a> {
    let (info, core) = (&session.info, &session.core);
    let frontend = session.frontend();
    let facts = info.conn_facts();
    let timers = timers(session, end, record.status, form, at);
    // As with HAProxy a client that leaves before it is routed counts as one of the default backend.
    let is_left = ends_inspection(end) && (frontend.mode == Mode::Tcp || end.kind == Kind::Abort);
    let default = frontend.default_backend.filter(|_| is_left && !form.is_bad);
    let backend = info.backend.get().or(default);
    let failed = info.error.get() != ConnError::None;
    let server = info.server.get();
    let remote = server.filter(|_| frontend.log_reads(|reads| reads.remote));
    let tls = info.conn().tls();
    let is_tcp = frontend.mode == Mode::Tcp;
    let bytes = |total: u64, before: u64| if form.is_bad { 0 } else { total.saturating_sub(before) };
    Line {
        accepted: now.saturating_sub(Duration::from_micros(timers.total)),
        hostname: &core.log.hostname,
        pid: core.log.pid,
        client: facts.src,
        local: facts.dst,
        source: record.source,
        remote: remote.map_or(Addr::Unknown, |server| core.address(server)),
        frontend: &frontend.name,
        is_tls: tls.is_some(),
        tls: tls.map(|facts| (facts.protocol(), facts.cipher())),
        is_routed: backend.is_some(),
        backend: backend.map_or(&frontend.name, |id| &core.model.backends[id].name),
        server: server.map(|id| core.model.servers[id].name.as_str()),
        timers,
        status,
        bytes_out: bytes(info.bytes_out.get(), record.bytes_before.1),
        bytes_in: bytes(info.bytes_in.get(), record.bytes_before.0),
        is_early: form.is_early,
        origin: match form {
            Form { is_early: true, .. } => "txn_response",
            _ if failed => "sess_killed",
            Form { is_bad: true, .. } => "sess_error",
            _ => "txn_close",
        },
        // A PROXY header that did not come is the proxy's verdict in HAProxy's eyes.
        end: EndWords {
            letters: if failed { "PR" } else { end.letters(is_tcp) },
            name: end.name(),
            by: end.by(),
        },
        cookie: record.persist,
        retries: info.retries(),
        redispatched: info.redispatched.get(),
        queued_before: info.queued_before.get(),
        levels: Levels::default(),
        request: record.get(record.request),
        sent: record.get(record.sent),
        host: record.get(record.host),
        request_captures: requests(session, record),
        response_captures: responses(session, record, form),
        cookies: record.cookies.map(|span| record.get(span)),
        unique_id: record.get(record.unique_id),
        trace: record.trace.map(|traced| traced.header()),
        numbers: (0, 0),
        kept: Captured { text: &record.text, spans: &record.kept },
    }
}

/// The client left, or was too slow, while rules waited for more of it.
fn ends_inspection(end: End) -> bool {
    (end.side, end.phase) == (Side::Client, Phase::Inspect) && matches!(end.kind, Kind::Abort | Kind::Timeout)
}

const NO_CAPTURES: [Span; 32] = [None; 32];

/// In TCP mode no rule may have captured anything: the slots are there all the same.
fn requests<'a>(session: &'a Session, record: &'a Record) -> Captured<'a> {
    let frontend = session.frontend();
    let slots = frontend.captures.request.len();
    if frontend.mode == Mode::Tcp && record.request_captures.is_empty() {
        return Captured { text: &[], spans: &NO_CAPTURES[..slots.min(NO_CAPTURES.len())] };
    }
    Captured { text: &record.text, spans: &record.request_captures }
}

/// Slots of the response that no response filled are empty, but they are there.
fn responses<'a>(session: &'a Session, record: &'a Record, form: Form) -> Captured<'a> {
    let slots = session.frontend().captures.response.len();
    if form.is_bad || !record.response_captures.is_empty() {
        return Captured { text: &record.text, spans: &record.response_captures };
    }
    Captured { text: &[], spans: &NO_CAPTURES[..slots.min(NO_CAPTURES.len())] }
}

pub(super) fn levels(session: &Session) -> Levels {
    let (core, info) = (&session.core, &session.info);
    Levels {
        process: core.live.process.connections.get(),
        frontend: core.live.frontends[info.frontend].connections.get(),
        backend: info.backend.get().map_or(0, |id| core.backend_sessions(id)),
        server: info.server.get().map_or(0, |id| core.server_sessions(id)),
    }
}

/// The timers as HAProxy has them, with its habits: a request that was rejected, held or had nowhere to go was never
/// "received", and who was held in the tarpit waited in a queue.
fn timers(session: &Session, end: End, status: i32, form: Form, now: Now) -> Timers {
    let info = &session.info;
    let t = info.timings.borrow();
    let total = now.us_since(t.opened);
    let handshake = t.handshake.us().map_or(0, u64::from);
    let is_http = session.frontend().mode == Mode::Http;
    let idle = is_http.then(|| t.began.us_since(t.opened).saturating_sub(handshake));
    if form.is_bad {
        return Timers { handshake: Some(handshake), idle, total, ..Timers::default() };
    }
    let has_server = info.server.get().is_some();
    let never = matches!(end.kind, Kind::Unrouted | Kind::Tarpit)
        || end.kind == Kind::Denied && status < 0
        || ends_inspection(end) && end.kind == Kind::Timeout;
    let or_zero = |micros: crate::proxy::timings::Micros| Some(micros.us().map_or(0, u64::from));
    // A response that rules replaced was never there.
    let replaced =
        end.phase == Phase::Headers && matches!(end.kind, Kind::DeniedResponse | Kind::Intercepted);
    let is_answered = t.answered_at().is_some() && !replaced;
    Timers {
        handshake: Some(handshake),
        idle,
        request: t.receive.us().map(u64::from).filter(|_| is_http && !never),
        queue: match end.kind {
            Kind::Tarpit => Some(total),
            Kind::QueueFull => None,
            _ if has_server || t.queue.us().is_some() => or_zero(t.queue),
            _ => None,
        },
        connect: if t.is_connected { or_zero(t.connect) } else { None },
        response: if is_answered { or_zero(t.response) } else { None },
        data: t.answered_at().map(|answered| now.us_since(answered)),
        total,
    }
}

/// `txn.timer.*` and the like.
pub(in crate::proxy) fn timer(session: &Session, name: TimerName) -> Option<u64> {
    let t = timers(session, NORMAL, 0, Form { is_early: false, is_bad: false }, rt::now());
    match name {
        TimerName::Handshake => t.handshake,
        TimerName::Idle => t.idle,
        TimerName::Head => t.request,
        TimerName::Request => t.head(),
        TimerName::Queue => t.queue,
        TimerName::Connect => t.connect,
        TimerName::Response => t.response,
        TimerName::Data => t.data,
        TimerName::Active => Some(t.active()),
        TimerName::User => Some(t.user()),
        TimerName::Total => Some(t.total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_what_haproxy_calls_errors() {
        let normal = NORMAL;
        let denied = End::new(Side::Proxy, Phase::Inspect, Kind::Denied);
        let intercepted = End::new(Side::Proxy, Phase::Inspect, Kind::Intercepted);
        for (end, status, retries, redispatched, expected) in [
            (normal, 200, 0, false, false),
            (normal, 404, 0, false, false),
            (normal, 500, 0, false, true),
            (normal, 200, 1, false, true),
            (normal, 200, 1, true, true),
            (intercepted, 302, 0, false, false),
            (denied, 403, 0, false, true),
        ] {
            assert_eq!(is_error(end, status, retries, redispatched), expected, "{end:?} {status}");
        }
    }
}

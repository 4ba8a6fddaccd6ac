//! HTTP mode: one request after the other, each judged alike, whatever came before it on its connection.
//!
//! receive a head -> judge it -> rules and route -> `exchange` (server, send, retry) -> response rules -> head and body back.
//! While a client is quiet the session is a few words: what a request needs is made when its first byte arrives.

use std::time::Duration;

use crate::base::id::BackendId;
use crate::base::limits::BUSY_IDLE_MAX;
use crate::base::time::Now;
use crate::model::http::{self as model, ErrorPages, HttpBackend, HttpFrontend};
use crate::model::{Backend, Frontend};
use crate::policy::persist;
use crate::proto::h1::framing::Asked;
use crate::proto::h1::head::{Ambiguous, HeadOptions};
use crate::proto::h2::frame::Code;
use crate::proto::headers::HeadLimits;
use crate::proto::http::{H2_PREFACE, Method, Version};
use crate::proxy::client_h1::{Client, Waited};
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::exchange::Ends;
use crate::proxy::info::short;
use crate::proxy::input::Input;
use crate::proxy::lot::Rest;
use crate::proxy::pad::Pad;
use crate::proxy::session::Session;
use crate::proxy::timings::{self, Micros, Timings};
use crate::proxy::{dispatch, exchange, explain, http_after, http_request, http_response, log, reply};
use crate::rt;
use crate::stats::table::Stat;

/// How long a quiet session keeps the memory of a busy one.
const QUIET_GRACE: Duration = Duration::from_millis(100);
/// The core is not woken to take it back any sooner: `BUSY_IDLE_MAX` bounds what all of them have.
const QUIET_GRACE_ASLEEP: Duration = Duration::from_millis(2500);

/// Why a request ends early.
pub(super) enum Stop {
    /// The session ends without a further word.
    End(End),
    /// The client gets an error page.
    Reply {
        /// Its status.
        status: u16,
        /// What is counted.
        end: End,
    },
    /// The client's stream is reset: what it sent is no message of HTTP/2.
    Reset(End),
    /// The client gets what a rule made.
    Made(Box<Made>),
}

/// An answer of a rule.
pub(super) struct Made {
    pub(super) bytes: Vec<u8>,
    pub(super) status: u16,
    /// What is counted.
    pub(super) end: End,
    /// Whether the connection may stay open behind it.
    pub(super) may_stay: bool,
    /// How long the client waits for it (`tarpit`).
    pub(super) delay: Option<Duration>,
}

/// What became of a connection.
pub(super) enum Served {
    /// It is over.
    Over(End),
    /// Its client speaks HTTP/2; these are its first bytes.
    Http2(Input),
    /// Its next request is here, and is to be judged by a newer generation of the configuration.
    Stale,
    /// It is quiet, and no task has to wait for it.
    Quiet(Rest),
}

/// What became of a busy session.
enum Busy {
    Quiet,
    /// A request is here for a newer generation.
    Stale,
    Over(End),
}

/// Facts of the request in hand that outlive its bytes.
pub(super) struct Turn {
    pub(super) asked: Asked,
    pub(super) version: Version,
    /// Whether the client's connection may stay open.
    pub(super) may_stay: bool,
    /// Whether bytes of this request may still come.
    pub(super) unread: bool,
    /// What its persistence cookie came to.
    pub(super) persist: persist::Request,
}

const CLIENT_DONE: End = End::new(Side::Client, Phase::Data, Kind::Normal);

/// Serves requests until the connection is over, turns out to be one of HTTP/2, or has a request for a newer generation.
pub(super) async fn serve(session: &Session, client: &mut Client) -> Result<Served, End> {
    loop {
        let mut preface = Preface::No;
        if !client.is_known && !client.link.input.is_empty() {
            preface = preface_of(client.link.input.bytes());
            match preface {
                Preface::No => count_session(session, Stat::SessionsH1),
                Preface::Partial => client.link.input.detach(),
                Preface::Whole => {
                    count_session(session, Stat::SessionsH2);
                    return Ok(Served::Http2(std::mem::take(&mut client.link.input)));
                }
            }
            client.is_known = preface == Preface::No;
        }
        if client.link.input.is_empty() || preface == Preface::Partial {
            client.settle(session);
            session.info.resting.set(true);
            let waited = client.wait(session, idle_deadline(session, client)).await;
            session.info.resting.set(false);
            match waited {
                Waited::Arrived if client.is_known => {}
                Waited::Arrived => continue,
                Waited::Elapsed if client.requests == 0 => {
                    return Err(Box::pin(too_slow(session, client)).await);
                }
                Waited::Closed if client.requests == 0 => {
                    let end = End::new(Side::Client, Phase::Inspect, Kind::Abort);
                    log::finish_connection(session, end, 400);
                    return Ok(Served::Over(CLIENT_DONE));
                }
                Waited::Closed | Waited::Elapsed => return Ok(Served::Over(CLIENT_DONE)),
            }
        }
        match Box::pin(busy(session, client)).await? {
            Busy::Quiet => {
                // On a busy core the response is still on its way; whoever is gone meanwhile needs it no more.
                if client.flush(session).await.is_err() {
                    return Ok(Served::Over(CLIENT_DONE));
                }
                let deadline = idle_deadline(session, client);
                if let Some(rest) = client.rest(session, deadline) {
                    return Ok(Served::Quiet(rest));
                }
            }
            Busy::Stale => return Ok(Served::Stale),
            Busy::Over(end) => return Ok(Served::Over(end)),
        }
    }
}

fn count_session(session: &Session, stat: Stat) {
    let shard = session.core.shard();
    shard.frontends[session.info.frontend].count(stat);
    shard.listeners[session.info.bind].count(stat);
}

/// How first bytes compare with the preface of HTTP/2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Preface {
    No,
    Partial,
    Whole,
}

/// What a client with prior knowledge says first (RFC 9113 3.4). No request of HTTP/1 begins with more than its first
/// letter: the method PRI is reserved.
fn preface_of(bytes: &[u8]) -> Preface {
    let n = bytes.len().min(H2_PREFACE.len());
    match bytes[..n] == H2_PREFACE[..n] {
        false => Preface::No,
        true if n < H2_PREFACE.len() => Preface::Partial,
        true => Preface::Whole,
    }
}

/// Until when a client may be quiet.
fn idle_deadline(session: &Session, client: &Client) -> Option<Now> {
    let http = http_of(session.frontend());
    let timeout = if client.requests == 0 { http.timeout_request } else { http.timeout_keep_alive };
    timeout.map(|t| client.quiet_since + t)
}

async fn too_slow(session: &Session, client: &mut Client) -> End {
    let end = End::new(Side::Client, Phase::Inspect, Kind::Timeout);
    // The client may be gone; nothing is lost with it.
    let _ = answer(session, client, None, 408, true, false).await;
    log::finish_connection(session, end, 408);
    client.close_politely(session, false).await;
    end
}

/// Serves requests as long as they come in quick succession.
async fn busy(session: &Session, client: &mut Client) -> Result<Busy, End> {
    let busy = &session.core.busy;
    busy.set(busy.get() + 1);
    let result = requests(session, client).await;
    busy.set(busy.get() - 1);
    result
}

async fn requests(session: &Session, client: &mut Client) -> Result<Busy, End> {
    let info = &session.info;
    loop {
        if session.is_renewable() {
            return Ok(Busy::Stale);
        }
        if !request(session, client).await? {
            return Ok(Busy::Over(CLIENT_DONE));
        }
        info.phase.set(Phase::Inspect);
        info.backend.set(None);
        info.server.set(None);
        client.quiet_since = rt::now();
        if !client.link.input.is_empty() {
            continue;
        }
        if session.core.busy.get() > BUSY_IDLE_MAX {
            return Ok(Busy::Quiet);
        }
        let deadline = idle_deadline(session, client);
        let grace = (rt::now() + QUIET_GRACE, rt::now() + QUIET_GRACE_ASLEEP);
        let grace = deadline.map_or(grace, |d| (d.min(grace.0), d.min(grace.1)));
        info.resting.set(true);
        let waited = client.wait_between(session, Some(grace)).await;
        info.resting.set(false);
        match waited {
            Waited::Arrived => {}
            Waited::Closed => return Ok(Busy::Over(CLIENT_DONE)),
            Waited::Elapsed => return Ok(Busy::Quiet),
        }
    }
}

/// The HTTP settings of a frontend in HTTP mode.
pub(super) fn http_of(frontend: &Frontend) -> &HttpFrontend {
    frontend.http.as_ref().expect("sessions in HTTP mode belong to frontends in HTTP mode")
}

/// The HTTP settings of a backend that HTTP requests are sent to.
pub(super) fn backend_http(backend: &Backend) -> &HttpBackend {
    backend.http.as_ref().expect("resolve sends HTTP to backends in HTTP mode alone")
}

fn head_options(http: &HttpFrontend) -> HeadOptions {
    let limits = HeadLimits {
        head_bytes_max: http.limits.head_bytes as usize,
        headers_max: http.limits.headers as usize,
        target_bytes_max: http.limits.uri_bytes as usize,
    };
    let ambiguous = match http.ambiguous {
        model::Ambiguous::Reject => Ambiguous::Reject,
        model::Ambiguous::Repair => Ambiguous::Repair,
    };
    HeadOptions { limits, ambiguous }
}

/// The clock of a request that begins now.
fn start_timings(session: &Session, client: &Client) {
    let info = &session.info;
    let mut timings = info.timings.borrow_mut();
    let (opened, handshake, number) = match client.requests {
        0 => (info.started, timings.handshake, timings.number),
        _ => (client.quiet_since, Micros::NONE, short(session.core.next_session_id())),
    };
    *timings = Timings { opened, handshake, number, ..Timings::new(rt::now()) };
    drop(timings);
    info.set_retries(0);
    info.redispatched.set(false);
    info.queued_before.set((0, 0));
}

/// What is tracked for a request, until it is over.
struct Counted<'a>(&'a Session);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.info.forget_stream_counters();
    }
}

/// Counts what went wrong with a request for those that are tracked.
fn count_failure(session: &Session, stop: &Stop) {
    let end = match stop {
        Stop::End(end) | Stop::Reset(end) | Stop::Reply { end, .. } => end,
        Stop::Made(made) => &made.end,
    };
    match (end.side, end.kind) {
        (Side::Client, Kind::Malformed) | (_, Kind::Denied | Kind::Tarpit) => session.count_http_error(),
        (Side::Server, _) if matches!(stop, Stop::Reply { .. }) => session.count_http_failure(),
        _ => {}
    }
}

/// One request. True: the connection stays open for another.
pub(super) async fn request(session: &Session, client: &mut Client) -> Result<bool, End> {
    let mut pad = Pad::take(session.core.base());
    start_timings(session, client);
    log::begin(session);
    session.forget_request_variables();
    session.take_process_variables();
    session.forget_tuning();
    let _counted = Counted(session);
    let mut turn = Turn {
        asked: Asked::default(),
        version: Version::Http11,
        may_stay: false,
        unread: true,
        persist: persist::Request::NONE,
    };
    let outcome = exchange(session, client, &mut pad, &mut turn).await;
    timings::finish(session);
    let stop = match outcome {
        Ok(stays) => {
            drop(pad);
            log::finish(session, CLIENT_DONE);
            if !stays {
                client.close_politely(session, turn.unread).await;
            }
            return Ok(stays);
        }
        Err(stop) => stop,
    };
    count_failure(session, &stop);
    drop(pad);
    match stop {
        Stop::End(end) => {
            log::finish(session, end);
            Err(end)
        }
        Stop::Reset(end) => {
            client.reset(Code::PROTOCOL_ERROR);
            log::finish(session, end);
            Err(end)
        }
        Stop::Reply { status, end } => {
            let stays = turn.may_stay && !turn.unread;
            let is_head = turn.asked.method == Method::Head;
            let backend = session.info.backend.get();
            let stays = answer(session, client, backend, status, !stays, is_head).await? && stays;
            log::finish(session, end);
            if stays {
                session.count_end(end);
                return Ok(true);
            }
            client.close_politely(session, turn.unread).await;
            Err(end)
        }
        Stop::Made(made) => {
            let Made { bytes, status, end, may_stay, delay } = *made;
            if let Some(delay) = delay
                && session.core.trace.get().is_none()
            {
                log::on_own_answer(session, status);
                // Whoever leaves meanwhile needs no answer.
                if !client.hold(session, rt::now() + delay).await {
                    return Err(end);
                }
            }
            session.count_status(status, None);
            log::on_own_answer(session, status);
            let bytes = http_after::own_answer(session, session.info.backend.get(), bytes);
            client.send_whole(session, bytes, turn.asked.method == Method::Head).await?;
            log::finish(session, end);
            if may_stay {
                session.count_end(end);
                return Ok(true);
            }
            client.close_politely(session, turn.unread).await;
            Err(end)
        }
    }
}

/// The pages of errors: the backend's, then the frontend's.
pub(super) fn pages(session: &Session, backend: Option<BackendId>) -> [&ErrorPages; 2] {
    let frontend = &http_of(session.frontend()).error_pages;
    let own = backend.map(|id| &backend_http(&session.core.model.backends[id]).error_pages);
    [own.unwrap_or(frontend), frontend]
}

/// Sends an error page. False: the connection has to be closed behind it.
async fn answer(
    session: &Session,
    client: &mut Client,
    backend: Option<BackendId>,
    status: u16,
    close: bool,
    is_head: bool,
) -> Result<bool, End> {
    let pages = pages(session, backend);
    let is_page = pages.iter().any(|pages| pages.page(status).is_some());
    let mut out = session.core.pads.buffer();
    reply::error(status, &pages, close, is_head, &mut out);
    session.count_status(status, None);
    log::on_own_answer(session, status);
    let out = http_after::own_answer(session, backend, out);
    client.send_whole(session, out, is_head).await?;
    // What a configured page says of its length is its author's word.
    Ok(!is_page)
}

/// From the first byte of a request to the last of its response. True: the connection stays open.
async fn exchange(
    session: &Session,
    client: &mut Client,
    pad: &mut Pad,
    turn: &mut Turn,
) -> Result<bool, Stop> {
    let http = http_of(session.frontend());
    let options = head_options(http);
    http_request::receive(session, client, pad, &options).await?;
    let decision = http_request::judge(session, client, pad, turn, options.ambiguous)?;
    let mut ends = Ends::new();
    let upload = &mut ends.upload;
    let job = http_request::plan(session, client, pad, turn, (&decision, options.ambiguous), upload).await?;
    if session.core.trace.get().is_some() {
        return Err(Stop::End(explain::planned(session, pad, turn, &job)));
    }
    let settings = &session.core.model.backends[job.backend];
    let answered = if settings.abort_on_close && session.info.shared().is_none() {
        let running = Box::pin(exchange::run(session, client, pad, &job, &mut ends));
        match rt::select(running, dispatch::left(session, settings)).await {
            rt::Either::First(answered) => answered?,
            rt::Either::Second(end) => return Err(Stop::End(end)),
        }
    } else {
        exchange::run(session, client, pad, &job, &mut ends).await?
    };
    http_response::respond(session, client, pad, turn, &job, (answered, &mut ends)).await
}

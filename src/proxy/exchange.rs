//! One request and the head of its response: finds a server, takes an idle connection or opens one, sends, waits, and tries
//! again where that can do no harm. The only place with a retry loop for HTTP; `policy::retry` decides.

use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll, Waker};

use crate::base::id::{BackendId, ServerId};
use crate::base::time::Now;
use crate::model::Backend;
use crate::model::http::{KeepAlive, Reuse};
use crate::policy::balance::{Algorithm, Tried};
use crate::policy::http_action::TimeoutName;
use crate::policy::retry::{self, Attempt, Decision as Next, Failure, Policy, RetryOn};
use crate::proto::h1::encode::{self, BodyHeaders, ConnectionHeader, HeadOut};
use crate::proto::h1::framing::{self, Asked, Decision, Framing};
use crate::proto::h1::head::{Ambiguous, HeadOptions, parse_response};
use crate::proto::h1::outgoing::BodyForm;
use crate::proto::headers::Head;
use crate::proto::http::{StatusCode, Version};
use crate::proxy::capture;
use crate::proxy::client_h1::Client;
use crate::proxy::dispatch::{self, Assigned};
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::forward::{Broken, Pump, Waits};
use crate::proxy::h2_head;
use crate::proxy::h2_stream;
use crate::proxy::http::{Stop, http_of};
use crate::proxy::idle::{self, Upstream, Wire};
use crate::proxy::log;
use crate::proxy::observe;
use crate::proxy::pad::Pad;
use crate::proxy::queue::Slot;
use crate::proxy::reach;
use crate::proxy::session::Session;
use crate::proxy::timings::{self, Micros};
use crate::rt::{self, SendBuf};
use crate::stats::table::Stat;
use crate::stats::timers::Lap;

/// A request that is ready to be sent; its head is in the pad's `out`, with as much of the body as was there.
pub(super) struct Job {
    pub(super) backend: BackendId,
    /// The key of hashing algorithms.
    pub(super) key: Option<u64>,
    /// The server that persistence or a rule names.
    pub(super) wanted: Option<Wanted>,
    pub(super) asked: Asked,
    pub(super) version: Version,
    pub(super) ambiguous: Ambiguous,
}

/// A server that is used instead of balancing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) server: ServerId,
    /// Even when it is down or its queue is full (`force-persist`).
    pub(super) force: bool,
}

/// What a request and its response go over. Large, so that it stays where it was made.
pub(super) struct Ends {
    /// The rest of the body of the request.
    pub(super) upload: Pump,
    /// The connection to the server, while there is one.
    pub(super) server: Option<Upstream>,
}

impl Ends {
    /// Of a request without a body, before a server is chosen.
    pub(super) fn new() -> Ends {
        Ends { upload: Pump::new(Framing::None, BodyForm::AsIs), server: None }
    }

    /// Both, once there is a connection.
    pub(super) fn both(&mut self) -> (&mut Upstream, &mut Pump) {
        (self.server.as_mut().expect("connected before anything is sent"), &mut self.upload)
    }
}

/// What stays of an exchange once the head of its response is here.
pub(super) struct Answered {
    pub(super) slot: Slot,
    pub(super) decision: Decision,
    #[expect(dead_code, reason = "a guard: dropping it counts")]
    assigned: Assigned,
}

/// How an attempt failed.
enum Failed {
    /// In a way that another attempt may cure.
    Server(Failure),
    /// By the client, or beyond repair.
    Stop(Stop),
}

/// Sends a request and waits for the head of its final response, which is in the pad then.
pub(super) async fn run(
    session: &Session,
    client: &mut Client,
    pad: &mut Pad,
    job: &Job,
    ends: &mut Ends,
) -> Result<Answered, Stop> {
    let (core, info) = (&session.core, &session.info);
    let settings = &core.model.backends[job.backend];
    let assigned = Assigned::new(core, job.backend);
    let policy = policy_of(settings);
    let taken_before = ends.upload.taken;
    // For another attempt; a body that is over needs none.
    let planned = (!ends.upload.is_done()).then(|| ends.upload.clone());
    let mut tried = Tried::new();
    let mut slot: Option<Slot> = None;
    let mut fresh = false;
    let mut retries = 0;
    loop {
        let taken = match slot.take() {
            Some(slot) => slot,
            None => take_slot(session, job, &tried).await?,
        };
        let server = taken.server;
        info.server.set(Some(server));
        let mut sent = false;
        let mut reused = false;
        let mut replayable = true;
        let place = &mut ends.server;
        let failure = match reach::connect(session, client, job, place, server, fresh).await {
            Err(failure) => failure,
            Ok(is_reused) => {
                reused = is_reused;
                let result = attempt(session, client, pad, job, ends).await;
                let (up, upload) = ends.both();
                match result {
                    Ok(decision) => {
                        let status =
                            pad.response.view(up.link.input.bytes()).status().map_or(0, StatusCode::code);
                        observe::response(core, server, Some(status));
                        let wants_retry =
                            RetryOn::status(status).is_some_and(|s| policy.retry_on.contains(s));
                        if !wants_retry
                            || !retry_helps(
                                session,
                                job,
                                &policy,
                                (retries, status),
                                upload.taken == taken_before,
                            )
                        {
                            return Ok(Answered { slot: taken, decision, assigned });
                        }
                        sent = true;
                        recover(pad, up, upload).await;
                        Failure::Status(status)
                    }
                    Err(Failed::Stop(stop)) => {
                        ends.server = None;
                        return Err(stop);
                    }
                    Err(Failed::Server(failure)) => {
                        // The quiet close of a connection that was idle says nothing about the server.
                        if !(is_reused && matches!(failure, Failure::EmptyResponse)) {
                            observe::response(core, server, None);
                        }
                        sent = recover(pad, up, upload).await;
                        replayable = upload.taken == taken_before;
                        failure
                    }
                }
            }
        };
        ends.server = None;
        if let Some(planned) = &planned {
            ends.upload = planned.clone();
        }
        tried.insert(server);
        let facts = Attempt {
            retries_done: retries,
            response_started: false,
            request_sent: sent,
            idempotent: job.asked.method.is_idempotent() && !job.asked.upgrade,
            replayable: replayable && !pad.out.is_empty(),
            reused,
            persistent: job.wanted.is_some(),
            force_persist: job.wanted.is_some_and(|w| w.force),
            takes_turns: settings.balance.algorithm == Algorithm::RoundRobin,
            ..Attempt::tcp(retries, failure, core.usable_servers(job.backend) > 1)
        };
        let cells = (&core.shard().backends[job.backend], &core.shard().servers[server]);
        match retry::decide(&policy, &facts) {
            Next::GiveUp => return Err(given_up(failure)),
            Next::Refresh => {
                fresh = true;
                slot = Some(taken);
                continue;
            }
            Next::Retry { delay } => {
                cells.0.count(Stat::Retries);
                cells.1.count(Stat::Retries);
                rt::sleep_until(rt::now() + delay).await;
                slot = core.live.servers[server].is_usable().then_some(taken);
            }
            Next::Redispatch => {
                cells.0.count(Stat::Retries);
                cells.1.count(Stat::Retries);
                dispatch::redispatched(session, job.backend, server);
                drop(taken);
            }
        }
        retries += 1;
        info.set_retries(retries);
    }
}

fn policy_of(settings: &Backend) -> Policy {
    Policy {
        retries: settings.retries,
        redispatch: settings.redispatch,
        retry_on: settings.http.as_ref().map_or(RetryOn::CONN_FAILURE, |http| http.retry_on),
        timeout_connect: settings.timeout_connect,
    }
}

/// Whether a response with a status of `retry-on` would be asked for again; if not it goes to the client.
fn retry_helps(
    session: &Session,
    job: &Job,
    policy: &Policy,
    (retries, status): (u32, u16),
    replayable: bool,
) -> bool {
    let facts = Attempt {
        request_sent: true,
        idempotent: job.asked.method.is_idempotent() && !job.asked.upgrade,
        replayable,
        ..Attempt::tcp(retries, Failure::Status(status), session.core.usable_servers(job.backend) > 1)
    };
    retry::decide(policy, &facts) != Next::GiveUp
}

/// What the client gets when nothing helped.
fn given_up(failure: Failure) -> Stop {
    let server = |phase, kind| End::new(Side::Server, phase, kind);
    let (status, end) = match failure {
        Failure::ConnectRefused | Failure::ConnectTimeout | Failure::NoSourcePort | Failure::NoResources => {
            (503, dispatch::given_up(failure))
        }
        Failure::EmptyResponse | Failure::CutResponse => (502, server(Phase::Headers, Kind::Abort)),
        Failure::JunkResponse => (502, server(Phase::Headers, Kind::Malformed)),
        Failure::ResponseTimeout => (504, server(Phase::Headers, Kind::Timeout)),
        Failure::EarlyDataRejected | Failure::Status(_) => (502, server(Phase::Headers, Kind::Abort)),
    };
    Stop::Reply { status, end }
}

/// A slot of the server that is wanted, or of the one that balancing chooses.
async fn take_slot(session: &Session, job: &Job, tried: &Tried) -> Result<Slot, Stop> {
    let (core, info) = (&session.core, &session.info);
    let unavailable = |end: End| match (end.side, end.kind) {
        // Nobody is there who would read it.
        (Side::Client, Kind::Abort) => Stop::End(end),
        _ => Stop::Reply { status: 503, end },
    };
    if let Some(server) = wanted(session, job, tried) {
        if let Some(slot) = Slot::try_take(core, job.backend, server) {
            return Ok(slot);
        }
        let timeout = session.timeout(TimeoutName::Queue, core.model.backends[job.backend].timeout_queue);
        let deadline = timeout.map(|t| rt::now() + t);
        info.phase.set(Phase::Queue);
        let force = job.wanted.is_some_and(|wanted| wanted.force);
        let wanted = Wanted { server, force };
        return match Box::pin(dispatch::queue_for(session, job.backend, wanted, deadline)).await {
            Ok(Some(slot)) => Ok(slot),
            Ok(None) => dispatch::take_slot(session, job.backend, job.key, tried).await.map_err(unavailable),
            Err(end) => Err(unavailable(end)),
        };
    }
    // The first pick is made here: waiting in the queue is the rare case, and its state is large.
    if let Some(slot) = dispatch::try_slot(session, job.backend, job.key, tried) {
        return Ok(slot);
    }
    Box::pin(dispatch::take_slot(session, job.backend, job.key, tried)).await.map_err(unavailable)
}

/// The server that is used without asking the balance.
pub(super) fn wanted(session: &Session, job: &Job, tried: &Tried) -> Option<ServerId> {
    let Wanted { server, force } = job.wanted?;
    ((force || dispatch::takes_persistent(session, server)) && !tried.contains(server)).then_some(server)
}

/// Sends the request and waits for the head of the final response, passing interim ones on.
async fn attempt(
    session: &Session,
    client: &mut Client,
    pad: &mut Pad,
    job: &Job,
    ends: &mut Ends,
) -> Result<Decision, Failed> {
    let info = &session.info;
    let (up, upload) = ends.both();
    let settings = &session.core.model.backends[job.backend];
    info.phase.set(Phase::Headers);
    up.uses += 1;
    log::on_connected(session, || match &up.wire {
        Wire::Conn(conn) => conn.local_addr(),
        Wire::Stream(stream) => stream.local_addr(),
    });
    let started = rt::now();
    let request = mem::take(&mut pad.out);
    session.count_request_out(request.len() as u64, job.backend, up.server);
    match &mut up.wire {
        Wire::Conn(conn) => {
            up.link.sending.start(conn, SendBuf::from(request));
            up.link.recv.arm(conn);
        }
        Wire::Stream(stream) => {
            // The head was translated; the bytes stay for another attempt.
            let sent = stream.send(&request, upload.is_done());
            pad.out = request;
            upload.goes_to_stream();
            sent.map_err(Failed::Server)?;
        }
    }
    pad.response.clear();
    let options = HeadOptions { ambiguous: job.ambiguous, ..HeadOptions::default() };
    loop {
        let arrived = Waiting { session, client, up, upload, started, backend: job.backend };
        if let Err(failed) = arrived.head(settings, &options, &mut pad.response).await {
            if matches!(failed, Failed::Server(Failure::JunkResponse | Failure::CutResponse)) {
                capture_response(session, up, &options);
            }
            return Err(failed);
        }
        let bytes = up.link.input.bytes();
        let mut edit = pad.response.edit(bytes);
        let decision = framing::response(&mut edit, job.asked, job.ambiguous);
        let decision = decision.map_err(|refusal| {
            session.refused_response(refusal.reason);
            capture::response(session, up.server, bytes, &refusal);
            Failed::Server(Failure::JunkResponse)
        })?;
        if !pad.response.view(bytes).status().is_some_and(StatusCode::is_interim) {
            let us = u64::try_from(rt::now().since(started).as_micros()).unwrap_or(u64::MAX);
            session.core.shard().backends[job.backend].time(Stat::ResponseTime, us);
            session.core.shard().servers[up.server].time(Stat::ResponseTime, us);
            info.time(|t| t.answered(started, rt::now()));
            timings::record(session, up.server, Lap::FirstByte, Micros::between(started, rt::now()));
            return Ok(decision);
        }
        interim(session, client, job, up, &mut pad.response)
            .await
            .map_err(|end| Failed::Stop(Stop::End(end)))?;
    }
}

/// Keeps a head that was refused. It is parsed once more, which tells where it is wrong.
fn capture_response(session: &Session, up: &Upstream, options: &HeadOptions) {
    let bytes = up.link.input.bytes();
    if let Err(refusal) = parse_response(bytes, options, &mut Head::default()) {
        capture::response(session, up.server, bytes, &refusal);
    }
}

/// Passes a 1xx on; old clients do not know them.
async fn interim(
    session: &Session,
    client: &mut Client,
    job: &Job,
    up: &mut Upstream,
    head: &mut Head,
) -> Result<(), End> {
    let mut edit = head.edit(up.link.input.bytes());
    if let Some(stream) = &mut client.stream {
        let sent = h2_head::send_response(&mut stream.outgoing, &mut edit, false, false);
        up.link.input.consume(head.len());
        head.clear();
        session.count_out(sent.map_err(|e| End::io(Side::Client, Phase::Headers, &e))?);
        return Ok(());
    }
    let mut out = session.core.pads.buffer();
    let how = HeadOut { body: BodyHeaders::Neither, connection: ConnectionHeader::None };
    encode::response(&mut edit, how, &mut out);
    up.link.input.consume(head.len());
    head.clear();
    if job.version == Version::Http10 {
        return Ok(());
    }
    client.send(session, SendBuf::from(out)).await
}

/// Waiting for a response head while the body of the request goes up.
struct Waiting<'a> {
    session: &'a Session,
    client: &'a mut Client,
    up: &'a mut Upstream,
    upload: &'a mut Pump,
    started: Now,
    backend: BackendId,
}

impl Waiting<'_> {
    async fn head(self, settings: &Backend, options: &HeadOptions, head: &mut Head) -> Result<(), Failed> {
        let Waiting { session, client, up, upload, started, backend } = self;
        let mut uploading = !upload.is_done() || up.holds_body();
        poll_fn(|cx| {
            if uploading {
                match poll_upload(cx, session, client, up, upload, backend) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => uploading = false,
                    // What the server has to say about it may still come.
                    Poll::Ready(Err(Broken::Sink(_))) => uploading = false,
                    Poll::Ready(Err(broken)) => {
                        return Poll::Ready(Err(Failed::Stop(upload_broken(&broken))));
                    }
                }
            }
            if let Poll::Ready(result) = poll_head(cx, session, up, head, options) {
                return Poll::Ready(result.map_err(Failed::Server));
            }
            let (deadline, side) = deadline_of(session, settings, upload, uploading, started);
            match client.patience.poll(cx, deadline) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) if side == Side::Client => {
                    let end = End::new(Side::Client, Phase::Data, Kind::Timeout);
                    Poll::Ready(Err(Failed::Stop(Stop::Reply { status: 408, end })))
                }
                Poll::Ready(()) => Poll::Ready(Err(Failed::Server(Failure::ResponseTimeout))),
            }
        })
        .await
    }
}

/// Moves the request's body.
pub(super) fn poll_upload(
    cx: &Context<'_>,
    session: &Session,
    client: &mut Client,
    up: &mut Upstream,
    upload: &mut Pump,
    backend: BackendId,
) -> Poll<Result<(), Broken>> {
    let before = (upload.taken, upload.given, upload.spliced());
    let server = up.server;
    let Some(sink) = up.sink() else { return Poll::Ready(Err(Broken::Sink(h2_stream::gone()))) };
    let polled = upload.poll(cx, client.source(session), sink);
    session.count_in(upload.taken - before.0);
    session.count_request_out(upload.given - before.1, backend, server);
    session.count_spliced(upload.spliced() - before.2, backend, server);
    if let Poll::Ready(Err(Broken::Malformed(refusal))) = &polled {
        session.refused(refusal.reason);
    }
    polled
}

/// Who has to act next while a request is on its way, and until when.
fn deadline_of(
    session: &Session,
    settings: &Backend,
    upload: &Pump,
    uploading: bool,
    started: Now,
) -> (Option<Now>, Side) {
    if uploading && upload.waits == Waits::Source {
        return (session.timeout_client().map(|t| upload.active + t), Side::Client);
    }
    let since = upload.active.max(started);
    let timeout = session.timeout(TimeoutName::Server, settings.timeout_server);
    (timeout.map(|t| since + t), Side::Server)
}

/// How a broken upload ends the session.
pub(super) fn upload_broken(broken: &Broken) -> Stop {
    match broken {
        Broken::Malformed(refusal) => {
            let end = End::new(Side::Client, Phase::Data, Kind::Malformed);
            Stop::Reply { status: refusal.reason.status(), end }
        }
        Broken::Source(e) => Stop::End(End::io(Side::Client, Phase::Data, e)),
        Broken::Trailers => Stop::Reset(End::new(Side::Client, Phase::Data, Kind::Malformed)),
        Broken::Cut => Stop::End(End::new(Side::Client, Phase::Data, Kind::Abort)),
        Broken::Sink(e) => Stop::End(End::io(Side::Server, Phase::Data, e)),
    }
}

fn poll_head(
    cx: &Context<'_>,
    session: &Session,
    up: &mut Upstream,
    head: &mut Head,
    options: &HeadOptions,
) -> Poll<Result<(), Failure>> {
    let conn = match &mut up.wire {
        Wire::Conn(conn) => conn,
        Wire::Stream(stream) => return stream.poll_head(cx, &mut up.link.input, head),
    };
    loop {
        if !up.link.input.is_empty() {
            match parse_response(up.link.input.bytes(), options, head) {
                Ok(parsed) if !parsed.is_partial() => return Poll::Ready(Ok(())),
                Ok(_) => up.link.input.detach(),
                Err(refusal) => {
                    session.refused_response(refusal.reason);
                    return Poll::Ready(Err(Failure::JunkResponse));
                }
            }
        }
        let Poll::Ready(received) = up.link.recv.poll(conn, cx) else { return Poll::Pending };
        match received {
            Ok(Some(buf)) => up.link.input.push(buf),
            // It said something and not all of it: that is not the quiet close of an idle connection.
            Ok(None) | Err(_) if !up.link.input.is_empty() => return Poll::Ready(Err(Failure::CutResponse)),
            Ok(None) | Err(_) => return Poll::Ready(Err(Failure::EmptyResponse)),
        }
    }
}

/// Gets the bytes of a failed request back for another attempt. True: the server may have seen some of them.
async fn recover(pad: &mut Pad, up: &mut Upstream, upload: &mut Pump) -> bool {
    let conn = match &mut up.wire {
        Wire::Conn(conn) => conn,
        Wire::Stream(stream) => {
            stream.cancel();
            return !stream.unprocessed;
        }
    };
    if let Some(bytes) = upload.first_sent.take() {
        pad.out = bytes;
        return true;
    }
    if up.link.sending.is_idle() {
        return true;
    }
    // Whoever waits for its completion must know that it comes.
    let _ = conn.shutdown();
    let (result, data) = poll_fn(|cx| up.link.sending.poll(conn, cx)).await;
    let Some(SendBuf::Heap { bytes, start }) = data else { return true };
    pad.out = bytes;
    result.is_ok() || start > 0
}

/// Takes the memory of the request back, once its response is here.
pub(super) fn settle(session: &Session, up: &mut Upstream) {
    let cx = Context::from_waker(Waker::noop());
    if let Wire::Conn(conn) = &up.wire
        && let Poll::Ready((_, data)) = up.link.sending.poll(conn, &cx)
    {
        session.core.pads.keep(data);
    }
}

/// Keeps a connection after a whole exchange, if it may be used again.
pub(super) fn release(
    session: &Session,
    client: &mut Client,
    backend: BackendId,
    place: &mut Option<Upstream>,
) {
    let core = &session.core;
    let Some(up) = place else { return };
    let Some(http) = &core.model.backends[backend].http else { return };
    // A stream is over; its connection is shared already.
    let Wire::Conn(conn) = &up.wire else { return };
    let server = &core.model.servers[up.server].http;
    let worn_out = server.max_reuse.is_some_and(|max| up.uses > max);
    let is_dirty = !up.link.input.is_empty() || !up.link.sending.is_idle();
    // The stricter of frontend and backend holds.
    let keep_alive = http_of(session.frontend()).keep_alive.max(http.keep_alive);
    if worn_out || is_dirty || keep_alive != KeepAlive::Both {
        return;
    }
    let keep = idle::Keep::of(core, up.server);
    match up.pool.filter(|_| http.reuse != Reuse::Never) {
        Some(pool) => idle::put_from(core, pool, place, keep),
        // What its PROXY header said holds for this request alone.
        None if session.is_readdressed() => {}
        // The next request may be for another name.
        None if core.model.servers[up.server].sni.as_ref().is_some_and(|sni| sni.per_request) => {}
        None => {
            up.link.recv.arm(conn);
            client.own = place.take().map(Box::new);
        }
    }
}

/// What the body of a response makes of its connection.
pub(super) fn is_tunnel(decision: &Decision) -> bool {
    decision.framing == Framing::Tunnel
}

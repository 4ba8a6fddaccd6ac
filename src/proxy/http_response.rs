//! From the head of a response to its last byte at the client: response rules, persistence, framing for this client, body,
//! and what becomes of both connections.

use std::future::poll_fn;
use std::task::Poll;

use crate::policy::http_action::TimeoutName;
use crate::proto::h1::encode::{self, BodyHeaders};
use crate::proto::h1::framing::{self, Framing};
use crate::proto::h1::outgoing::{self, ResponsePlan};
use crate::proto::http::{Method, StatusCode};
use crate::proxy::client_h1::Client;
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::exchange::{self, Answered, Ends, Job};
use crate::proxy::facts::Message;
use crate::proxy::forward::{Broken, Pump, Waits};
use crate::proxy::h2_head;
use crate::proxy::http::{Made, Stop, Turn, backend_http, http_of, pages};
use crate::proxy::http_rules::{Halt, Subject};
use crate::proxy::idle::{Upstream, Wire};
use crate::proxy::log;
use crate::proxy::pad::{Memory, Pad};
use crate::proxy::relay::{self, Timeouts};
use crate::proxy::session::Session;
use crate::proxy::{h2_tunnel, http_after, http_insert, http_location, reply, tcp};
use crate::rt::SendBuf;

/// Sends the response. True: the connection stays open.
pub(super) async fn respond(
    session: &Session,
    client: &mut Client,
    pad: &mut Pad,
    turn: &mut Turn,
    job: &Job,
    (answered, ends): (Answered, &mut Ends),
) -> Result<bool, Stop> {
    let Answered { decision, slot, .. } = answered;
    let (up, upload) = ends.both();
    exchange::settle(session, up);
    session.info.phase.set(Phase::Data);
    let bytes = up.link.input.bytes();
    // The server's words about its connection, before rules change them.
    let server_stays = framing::stays_open(pad.response.view(bytes), &decision);
    log::on_response(session, pad.response.view(bytes));
    session.count_http_status(pad.response.view(bytes).status().map_or(0, StatusCode::code));
    if !session.core.model.backends[job.backend].stick.is_empty() {
        let message = Message { response: Some(pad.response.view(bytes)), ..Message::default() };
        session.stick_response(job.backend, up.server, message);
    }
    if !exchange::is_tunnel(&decision) {
        rules(session, turn, job, pad, up, upload.is_done())?;
    }
    let view = pad.response.view(bytes);
    let status = view.status().map_or(0, StatusCode::code);
    if client.stream.is_some() && turn.asked.upgrade && !exchange::is_tunnel(&decision) && status / 100 == 2 {
        // To an extended CONNECT a 2xx would open the tunnel that the server refused (RFC 8441 5).
        let end = End::new(Side::Server, Phase::Headers, Kind::Malformed);
        return Err(Stop::Reply { status: 502, end });
    }
    log::on_answer(session, view, &pad.unique_id);
    let may_stay = turn.may_stay && upload.is_done();
    let plan = outgoing::plan(
        view,
        &decision,
        outgoing::Client { asked: turn.asked, version: turn.version, may_stay },
    );
    let framing = if plan.leaves_out { Framing::None } else { decision.framing };
    let download = match &up.wire {
        Wire::Conn(_) => {
            Pump::new(framing, plan.body).splicing(session.core.model.backends[job.backend].splice)
        }
        Wire::Stream(stream) => Pump::of_stream(stream.incoming.as_ref(), framing, plan.body),
    };
    let mut out = if client.stream.is_some() { Vec::new() } else { session.core.pads.buffer() };
    let mut edit = pad.response.edit(bytes);
    match &mut client.stream {
        None => encode::response(&mut edit, plan.head, &mut out),
        Some(stream) if exchange::is_tunnel(&decision) => {
            let sent = h2_head::send_switched(&mut stream.outgoing, &mut edit);
            session.count_out(sent.map_err(|e| Stop::End(End::io(Side::Client, Phase::Headers, &e)))?);
        }
        Some(stream) => {
            let keeps_length = plan.head.body == BodyHeaders::Keep;
            let sent =
                h2_head::send_response(&mut stream.outgoing, &mut edit, keeps_length, download.is_done());
            session.count_out(sent.map_err(|e| Stop::End(End::io(Side::Client, Phase::Headers, &e)))?);
        }
    }
    let len = pad.response.len();
    match &up.wire {
        Wire::Conn(_) => up.link.input.consume(len),
        // Nothing follows the head there.
        Wire::Stream(stream) => stream.keep_head(&mut up.link.input),
    }
    session.count_status(status, Some((job.backend, up.server)));
    session.count_response_in(len as u64, job.backend, up.server);
    if exchange::is_tunnel(&decision) && client.stream.is_some() {
        return Err(Stop::End(Box::pin(h2_tunnel::run(session, client, job, up)).await));
    }
    if exchange::is_tunnel(&decision) {
        return tunnel(session, client, job, up, upload, out).await;
    }
    let mut body = Body { session, client, job, upload, download };
    body.run(up, out, &plan).await.map_err(Stop::End)?;
    let Body { mut download, .. } = body;
    debug_assert!(download.is_done());
    // Both heads went out in front of bodies, which were asked to keep them for another attempt.
    for pump in [&mut download, &mut *upload] {
        session.core.pads.keep(pump.first_sent.take().map(SendBuf::from));
    }
    turn.unread = !upload.is_done();
    if server_stays && !plan.leaves_out && upload.is_done() {
        exchange::release(session, client, job.backend, &mut ends.server);
    }
    drop(slot);
    Ok(!plan.close && ends.upload.is_done())
}

/// Response rules of backend and frontend, and the cookie of persistence.
fn rules(
    session: &Session,
    turn: &Turn,
    job: &Job,
    pad: &mut Pad,
    up: &Upstream,
    uploaded: bool,
) -> Result<(), Stop> {
    let own = backend_http(&session.core.model.backends[job.backend]);
    let frontend = http_of(session.frontend());
    let bytes = up.link.input.bytes();
    let Memory { response, text, unique_id, origin, .. } = &mut **pad;
    let is_plain = own.rules.response.is_empty() && frontend.rules.response.is_empty();
    if !is_plain {
        let message = Message { unique_id: Some(unique_id), ..Message::default() };
        let mut subject = Subject { session, head: &mut *response, bytes, is_response: true, message, text };
        for rules in [&own.rules.response, &frontend.rules.response] {
            subject.on_response(rules).map_err(|halt| halted(&halt, &subject, turn, job, uploaded))?;
        }
    }
    let answered = (&turn.persist, up.server, turn.asked.method);
    let failed = |_| failed_rewrite();
    http_location::rewrite(response, bytes, origin).map_err(failed)?;
    http_insert::persist_response(session, job.backend, own, answered, (response, bytes), text)
        .map_err(failed)?;
    for rules in http_after::lists(session, Some(job.backend)) {
        let message = Message { unique_id: Some(unique_id), ..Message::default() };
        let mut subject = Subject { session, head: &mut *response, bytes, is_response: true, message, text };
        subject.on_response(rules).map_err(|_| failed_rewrite())?;
    }
    Ok(())
}

fn failed_rewrite() -> Stop {
    Stop::Reply { status: 500, end: End::new(Side::Proxy, Phase::Headers, Kind::Resource) }
}

/// What rules that end a response make of it.
fn halted(halt: &Halt<'_>, subject: &Subject<'_>, turn: &Turn, job: &Job, uploaded: bool) -> Stop {
    let session = subject.session;
    let (reply, kind) = match halt {
        Halt::Deny(reply) => (reply, Kind::DeniedResponse),
        Halt::Return(reply) => (reply, Kind::Intercepted),
        _ => return failed_rewrite(),
    };
    let close = !turn.may_stay || !uploaded;
    let is_head = turn.asked.method == Method::Head;
    let mut bytes = session.core.pads.buffer();
    let pages = pages(session, Some(job.backend));
    let may_stay = reply::made(reply, subject, &pages, (close, is_head), &mut bytes) && !close;
    let end = End::new(Side::Proxy, Phase::Headers, kind);
    Stop::Made(Box::new(Made { bytes, status: reply.status, end, may_stay, delay: None }))
}

/// A response body on its way, beside what is left of the request's.
struct Body<'a> {
    session: &'a Session,
    client: &'a mut Client,
    job: &'a Job,
    upload: &'a mut Pump,
    download: Pump,
}

impl Body<'_> {
    /// Sends the head with what is there of the body, then the rest.
    async fn run(&mut self, up: &mut Upstream, mut out: Vec<u8>, plan: &ResponsePlan) -> Result<(), End> {
        if self.client.stream.is_some() {
            log::early(self.session);
            return if self.download.is_done() { Ok(()) } else { self.rest(up).await };
        }
        let junk = End::new(Side::Server, Phase::Data, Kind::Malformed);
        match &mut up.wire {
            Wire::Conn(_) => self.download.append_to(&mut out, &mut up.link.input).map_err(|refusal| {
                self.session.refused_response(refusal.reason);
                junk
            })?,
            Wire::Stream(stream) => {
                let Some(incoming) = &mut stream.incoming else { return Err(junk) };
                self.download.append_stream(&mut out, incoming).map_err(|broken| download_broken(&broken))?;
            }
        }
        self.session.count_response_in(self.download.taken, self.job.backend, up.server);
        self.client.send(self.session, SendBuf::from(out)).await?;
        log::early(self.session);
        if self.download.is_done() {
            return Ok(());
        }
        let broken = self.rest(up).await;
        let Err(end) = broken else { return Ok(()) };
        // The client must not take what it has for the whole: where only the close says the end, it has to be a reset.
        if plan.close && end.side == Side::Server {
            self.session.info.conn().reset_on_close();
        }
        Err(end)
    }

    async fn rest(&mut self, up: &mut Upstream) -> Result<(), End> {
        let Body { session, client, job, upload, download } = self;
        let settings = &session.core.model.backends[job.backend];
        let mut uploading = !upload.is_done() || up.holds_body();
        poll_fn(|cx| {
            if uploading
                && let Poll::Ready(result) =
                    exchange::poll_upload(cx, session, client, up, upload, job.backend)
            {
                match result {
                    Ok(()) | Err(Broken::Sink(_)) => uploading = false,
                    Err(_) => return Poll::Ready(Err(End::new(Side::Client, Phase::Data, Kind::Abort))),
                }
            }
            let before = (download.taken, download.given, download.spliced());
            let server = up.server;
            let Some(source) = up.source() else {
                return Poll::Ready(Err(End::new(Side::Server, Phase::Data, Kind::Abort)));
            };
            let polled = client.poll_download(cx, session, download, source);
            session.count_response_in(download.taken - before.0, job.backend, server);
            session.count_spliced(download.spliced() - before.2, job.backend, server);
            session.count_out(download.given - before.1);
            if let Poll::Ready(Err(Broken::Malformed(refusal))) = &polled {
                session.refused_response(refusal.reason);
            }
            if let Poll::Ready(result) = polled {
                return Poll::Ready(result.map_err(|broken| download_broken(&broken)));
            }
            let (timeout, side) = match download.waits {
                Waits::Source => {
                    (session.timeout(TimeoutName::Server, settings.timeout_server), Side::Server)
                }
                Waits::Sink => (session.timeout_client(), Side::Client),
            };
            let deadline = timeout.map(|t| download.active.max(upload.active) + t);
            let elapsed = client.patience.poll(cx, deadline);
            elapsed.map(|()| Err(End::new(side, Phase::Data, Kind::Timeout)))
        })
        .await
    }
}

fn download_broken(broken: &Broken) -> End {
    match broken {
        Broken::Source(e) => End::io(Side::Server, Phase::Data, e),
        Broken::Sink(e) => End::io(Side::Client, Phase::Data, e),
        Broken::Cut => End::new(Side::Server, Phase::Data, Kind::Abort),
        Broken::Malformed(_) | Broken::Trailers => End::new(Side::Server, Phase::Data, Kind::Malformed),
    }
}

/// Relays bytes after a 101 or an answered CONNECT.
async fn tunnel(
    session: &Session,
    client: &mut Client,
    job: &Job,
    up: &mut Upstream,
    upload: &Pump,
    mut out: Vec<u8>,
) -> Result<bool, Stop> {
    if !upload.is_done() {
        let end = End::new(Side::Server, Phase::Headers, Kind::Malformed);
        return Err(Stop::Reply { status: 502, end });
    }
    out.extend_from_slice(up.link.input.bytes());
    session.count_response_in(up.link.input.bytes().len() as u64, job.backend, up.server);
    up.link.input = Default::default();
    client.send(session, SendBuf::from(out)).await.map_err(Stop::End)?;
    client.flush(session).await.map_err(Stop::End)?;
    let Some(server) = up.conn() else {
        return Err(Stop::End(End::new(Side::Server, Phase::Data, Kind::Malformed)));
    };
    let frontend = session.frontend();
    let settings = &session.core.model.backends[job.backend];
    let len = client.link.input.bytes().len();
    let first = (len > 0).then(|| client.link.input.take_front(len));
    let mut setup = relay::Setup {
        client: session.info.conn(),
        server,
        first,
        timeouts: Timeouts {
            client: session.timeout_client(),
            server: session.timeout(TimeoutName::Server, settings.timeout_server),
            client_fin: frontend.timeout_client_fin,
            server_fin: settings.timeout_server_fin,
            tunnel: session.timeout(TimeoutName::Tunnel, settings.timeout_tunnel),
        },
        splice: settings.splice,
        count: tcp::counter(session, job.backend, up.server),
    };
    Err(Stop::End(Box::pin(relay::run(&mut setup)).await))
}

//! HTTP mode: one request after the other, each judged alike, whatever came before it on its connection.
//!
//! receive a head -> judge it -> rules and route -> `exchange` (server, send, retry) -> response rules -> head and body back.
//! While a client is quiet the session is a few words: what a request needs is made when its first byte arrives.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use crate::base::id::BackendId;
use crate::base::limits::BUSY_IDLE_MAX;
use crate::base::time::Now;
use crate::model::http::{self as model, HttpBackend, HttpFrontend, KeepAlive};
use crate::model::{Backend, Frontend};
use crate::proto::h1::connection;
use crate::proto::h1::encode::{self, BodyHeaders, ConnectionHeader, HeadOut};
use crate::proto::h1::framing::{self, Asked, Decision, Framing};
use crate::proto::h1::head::{Ambiguous, HeadOptions};
use crate::proto::h1::outgoing::{self, BodyForm, ResponsePlan};
use crate::proto::headers::HeadLimits;
use crate::proto::http::{Method, StatusCode, Version};
use crate::proxy::client_h1::{Client, NoHead, Waited};
use crate::proxy::dispatch;
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::exchange::{self, Answered, Job};
use crate::proxy::first_bytes::FirstBuf;
use crate::proxy::forward::{Broken, Pump, Waits};
use crate::proxy::idle::Upstream;
use crate::proxy::pad::Pad;
use crate::proxy::relay::{self, Timeouts};
use crate::proxy::reply;
use crate::proxy::session::Session;
use crate::proxy::tcp;
use crate::rt::{self, SendBuf};
use crate::stats::table::Stat;

/// How long a quiet session keeps the memory of a busy one.
const QUIET_GRACE: Duration = Duration::from_millis(100);

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
}

/// What became of a busy session.
enum Busy {
    Quiet,
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
}

const CLIENT_DONE: End = End::new(Side::Client, Phase::Data, Kind::Normal);

/// Serves requests until the connection is over.
pub(super) async fn serve(session: &Session, first: FirstBuf) -> Result<End, End> {
    let shard = session.core.shard();
    shard.frontends[session.info.frontend].count(Stat::SessionsH1);
    shard.listeners[session.info.bind].count(Stat::SessionsH1);
    let mut client = Client::new(session, first);
    loop {
        if client.link.input.is_empty() {
            client.settle(session);
            session.info.resting.set(true);
            let waited = client.wait(session, idle_deadline(session, &client)).await;
            session.info.resting.set(false);
            match waited {
                Waited::Arrived => {}
                Waited::Elapsed if client.requests == 0 => {
                    return Err(Box::pin(too_slow(session, &mut client)).await);
                }
                Waited::Closed | Waited::Elapsed => return Ok(CLIENT_DONE),
            }
        }
        match Box::pin(busy(session, &mut client)).await? {
            Busy::Quiet => {}
            Busy::Over(end) => return Ok(end),
        }
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
        let grace = rt::now() + QUIET_GRACE;
        info.resting.set(true);
        let waited = client.wait(session, Some(deadline.map_or(grace, |d| d.min(grace)))).await;
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

/// One request. True: the connection stays open for another.
async fn request(session: &Session, client: &mut Client) -> Result<bool, End> {
    let mut pad = Pad::take(&session.core);
    session.forget_request_variables();
    let mut turn = Turn { asked: Asked::default(), version: Version::Http11, may_stay: false, unread: true };
    let stop = match exchange(session, client, &mut pad, &mut turn).await {
        Ok(stays) => {
            drop(pad);
            if !stays {
                client.close_politely(session, turn.unread).await;
            }
            return Ok(stays);
        }
        Err(stop) => stop,
    };
    drop(pad);
    match stop {
        Stop::End(end) => Err(end),
        Stop::Reply { status, end } => {
            let stays = turn.may_stay && !turn.unread;
            let is_head = turn.asked.method == Method::Head;
            let backend = session.info.backend.get();
            let stays = answer(session, client, backend, status, !stays, is_head).await? && stays;
            if stays {
                session.count_end(end);
                return Ok(true);
            }
            client.close_politely(session, turn.unread).await;
            Err(end)
        }
    }
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
    let core = &session.core;
    let own = backend.map(|id| &backend_http(&core.model.backends[id]).error_pages);
    let frontend = &http_of(session.frontend()).error_pages;
    let pages = [own.unwrap_or(frontend), frontend];
    let is_page = pages.iter().any(|pages| pages.page(status).is_some());
    let mut out = core.pads.buffer();
    reply::error(status, &pages, close, is_head, &mut out);
    session.count_status(status, None);
    client.send(session, SendBuf::from(out)).await?;
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
    receive(session, client, pad, &options).await?;
    let decision = judge(session, client, pad, turn, options.ambiguous)?;
    let backend = route(session)?;
    let job = prepare(session, client, pad, turn, &decision, backend, options.ambiguous)?;
    let answered = exchange::run(session, client, pad, &job).await?;
    respond(session, client, pad, turn, &job, answered).await
}

/// Receives the head.
async fn receive(
    session: &Session,
    client: &mut Client,
    pad: &mut Pad,
    options: &HeadOptions,
) -> Result<(), Stop> {
    let http = http_of(session.frontend());
    let began = if client.requests == 0 { session.info.started } else { rt::now() };
    let deadline = http.timeout_request.map(|t| began + t);
    let ended = |kind| End::new(Side::Client, Phase::Inspect, kind);
    client.receive_head(session, options, deadline, &mut pad.request).await.map_err(|no| match no {
        NoHead::Refused(refusal) => {
            Stop::Reply { status: refusal.reason.status(), end: ended(Kind::Malformed) }
        }
        NoHead::Timeout => Stop::Reply { status: 408, end: ended(Kind::Timeout) },
        NoHead::Closed | NoHead::Failed => Stop::End(ended(Kind::Abort)),
    })
}

/// What the head says about its body and its connection.
fn judge(
    session: &Session,
    client: &mut Client,
    pad: &mut Pad,
    turn: &mut Turn,
    ambiguous: Ambiguous,
) -> Result<Decision, Stop> {
    let shard = session.core.shard();
    client.requests = client.requests.saturating_add(1);
    shard.frontends[session.info.frontend].count(Stat::Requests);
    shard.frontends[session.info.frontend].count(Stat::RequestsH1);
    shard.listeners[session.info.bind].count(Stat::RequestsH1);
    let bytes = client.link.input.bytes();
    let decision =
        framing::request(&mut pad.request.edit(bytes), ambiguous).map_err(|refusal| Stop::Reply {
            status: refusal.reason.status(),
            end: End::new(Side::Client, Phase::Inspect, Kind::Malformed),
        })?;
    let view = pad.request.view(bytes);
    turn.asked = Asked { method: view.method(), upgrade: connection::upgrade(view).is_some() };
    turn.version = view.version();
    turn.may_stay = framing::stays_open(view, &decision)
        && http_of(session.frontend()).keep_alive != KeepAlive::Neither
        && !session.core.draining.get();
    turn.unread = !matches!(decision.framing, Framing::None | Framing::Length(0));
    Ok(decision)
}

/// The backend of a request.
fn route(session: &Session) -> Result<BackendId, Stop> {
    let unrouted = End::new(Side::Proxy, Phase::Inspect, Kind::Unrouted);
    session.frontend().default_backend.ok_or(Stop::Reply { status: 503, end: unrouted })
}

/// Writes the request for the server; its bytes in the receive buffer are not needed afterwards.
fn prepare(
    session: &Session,
    client: &mut Client,
    pad: &mut Pad,
    turn: &mut Turn,
    decision: &Decision,
    backend: BackendId,
    ambiguous: Ambiguous,
) -> Result<Job, Stop> {
    let info = &session.info;
    info.backend.set(Some(backend));
    let settings = &session.core.model.backends[backend];
    let http = backend_http(settings);
    turn.may_stay &= http.keep_alive != KeepAlive::Neither;
    session.core.shard().backends[backend].count(Stat::Requests);
    let connection = match (turn.asked.upgrade, http.keep_alive) {
        (true, _) => ConnectionHeader::Upgrade,
        (false, KeepAlive::Both) => ConnectionHeader::None,
        (false, _) => ConnectionHeader::Close,
    };
    let key = dispatch::hash_of(session, settings, &[]);
    let pad = &mut **pad;
    if pad.out.capacity() == 0 {
        pad.out = session.core.pads.buffer();
    }
    pad.out.clear();
    let mut head = pad.request.edit(client.link.input.bytes());
    encode::request(&mut head, HeadOut { body: BodyHeaders::Keep, connection }, &mut pad.out);
    let len = pad.request.len();
    client.link.input.consume(len);
    session.count_in(len as u64);
    let mut upload = Pump::new(decision.framing, BodyForm::AsIs);
    upload.append_to(&mut pad.out, &mut client.link.input).map_err(|refusal| Stop::Reply {
        status: refusal.reason.status(),
        end: End::new(Side::Client, Phase::Data, Kind::Malformed),
    })?;
    session.count_in(upload.taken);
    // Whatever follows waits for this response: it must not keep a receive buffer of the core meanwhile.
    client.link.input.detach();
    let Turn { asked, version, .. } = *turn;
    Ok(Job { backend, key, wanted: None, asked, version, upload, ambiguous })
}

/// Sends the response. True: the connection stays open.
async fn respond(
    session: &Session,
    client: &mut Client,
    pad: &mut Pad,
    turn: &mut Turn,
    job: &Job,
    answered: Answered,
) -> Result<bool, Stop> {
    let Answered { mut up, mut upload, decision, pool, slot, .. } = answered;
    exchange::settle(session, &mut up);
    session.info.phase.set(Phase::Data);
    let bytes = up.link.input.bytes();
    let view = pad.response.view(bytes);
    let status = view.status().map_or(0, StatusCode::code);
    let server_stays = framing::stays_open(view, &decision);
    let may_stay = turn.may_stay && upload.is_done();
    let plan = outgoing::plan(
        view,
        &decision,
        outgoing::Client { asked: turn.asked, version: turn.version, may_stay },
    );
    let mut out = session.core.pads.buffer();
    encode::response(&mut pad.response.edit(bytes), plan.head, &mut out);
    let len = pad.response.len();
    up.link.input.consume(len);
    session.count_status(status, Some((job.backend, up.server)));
    session.count_response_in(len as u64, job.backend, up.server);
    if exchange::is_tunnel(&decision) {
        return tunnel(session, client, job, up, upload, out).await;
    }
    let download = Pump::new(decision.framing, plan.body);
    let mut body = Body { session, client, job, upload: &mut upload, download };
    body.run(&mut up, out, &plan).await.map_err(Stop::End)?;
    let Body { download, .. } = body;
    debug_assert!(download.is_done());
    turn.unread = !upload.is_done();
    if server_stays && upload.is_done() {
        exchange::release(session, client, job.backend, pool, up);
    }
    drop(slot);
    Ok(!plan.close && upload.is_done())
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
        let junk = End::new(Side::Server, Phase::Data, Kind::Malformed);
        self.download.append_to(&mut out, &mut up.link.input).map_err(|_| junk)?;
        self.session.count_response_in(self.download.taken, self.job.backend, up.server);
        self.client.send(self.session, SendBuf::from(out)).await?;
        if self.download.is_done() {
            return Ok(());
        }
        let broken = self.rest(up).await;
        let Err(end) = broken else { return Ok(()) };
        // The client must not take what it has for the whole: where only the close says the end, it has to be a reset.
        if plan.close && end.side == Side::Server {
            self.session.info.client.reset_on_close();
        }
        Err(end)
    }

    async fn rest(&mut self, up: &mut Upstream) -> Result<(), End> {
        let Body { session, client, job, upload, download } = self;
        let settings = &session.core.model.backends[job.backend];
        let frontend = session.frontend();
        let mut uploading = !upload.is_done();
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
            let before = (download.taken, download.given);
            let conn = &session.info.client;
            let polled = download.poll(cx, (&up.conn, &mut up.link), (conn, &mut client.link.sending));
            session.count_response_in(download.taken - before.0, job.backend, up.server);
            session.count_out(download.given - before.1);
            if let Poll::Ready(result) = polled {
                return Poll::Ready(result.map_err(|broken| download_broken(&broken)));
            }
            let (timeout, side) = match download.waits {
                Waits::Source => (settings.timeout_server, Side::Server),
                Waits::Sink => (frontend.timeout_client, Side::Client),
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
        Broken::Malformed(_) => End::new(Side::Server, Phase::Data, Kind::Malformed),
    }
}

/// Relays bytes after a 101 or an answered CONNECT.
async fn tunnel(
    session: &Session,
    client: &mut Client,
    job: &Job,
    mut up: Upstream,
    upload: Pump,
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
    let frontend = session.frontend();
    let settings = &session.core.model.backends[job.backend];
    let len = client.link.input.bytes().len();
    let first = (len > 0).then(|| client.link.input.take_front(len));
    let setup = relay::Setup {
        client: &session.info.client,
        server: &up.conn,
        first,
        timeouts: Timeouts {
            client: frontend.timeout_client,
            server: settings.timeout_server,
            client_fin: frontend.timeout_client_fin,
            server_fin: settings.timeout_server_fin,
            tunnel: settings.timeout_tunnel,
        },
        splice: settings.splice,
        count: tcp::counter(session, job.backend, up.server),
    };
    Err(Stop::End(Box::pin(relay::run(setup)).await))
}

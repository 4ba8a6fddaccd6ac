//! A connection of a client that speaks HTTP/2: handshake, streams, limits, and its end. Each stream is a task that goes
//! the way of `http::request`; frames are the `h2` crate's.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use ::http::Request;
use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};

use crate::base::limits::H2_GOODBYE;
use crate::base::time::Now;
use crate::policy::flood::{Flood, FloodGuard};
use crate::proxy::client_h1::Client;
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::h2_conn::H2Conn;
use crate::proxy::h2_stream::{Responder, Stream};
use crate::proxy::http::{self, http_of};
use crate::proxy::input::Input;
use crate::proxy::message::Event;
use crate::proxy::patience::Patience;
use crate::proxy::session::{Info, Session};
use crate::rt;
use crate::stats::table::Stat;

/// What a field costs in the size of a header list beyond its bytes (RFC 9113 6.5.2).
const FIELD_COST: u32 = 32;

/// A request as it came, with what its response goes to.
type Accepted = (Request<RecvStream>, SendResponse<Bytes>);

/// Serves a connection until it is over. `first` begins with the preface.
pub(super) async fn serve(session: &Session, first: Input) -> Result<End, End> {
    let http = http_of(session.frontend());
    let settings = &session.core.model.global.h2;
    let open = Rc::new(Open::default());
    let guard = FloodGuard::new(settings.resets_max, rt::now());
    let io = H2Conn::new(session.info.clone(), first).guarded(guard, open.flood.clone());
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(settings.streams_max)
        .initial_window_size(settings.window)
        .max_header_list_size(http.limits.head_bytes + FIELD_COST * http.limits.headers)
        .max_local_error_reset_streams(Some(settings.glitches_max as usize))
        .enable_connect_protocol();
    let deadline = http.timeout_request.map(|t| session.info.started + t);
    let shaken = rt::with_deadline(builder.handshake::<_, Bytes>(io), deadline).await;
    let early = |kind| End::new(Side::Client, Phase::Inspect, kind);
    let connection = match shaken {
        Err(rt::Elapsed) => return Err(early(Kind::Timeout)),
        Ok(Err(e)) if e.is_io() => return Err(early(Kind::Abort)),
        Ok(Err(_)) => return Err(early(Kind::Malformed)),
        Ok(Ok(connection)) => connection,
    };
    open.quiet_since.set(rt::now());
    let patience = Patience::default();
    Serving { session, connection, patience, requests: 0, open, leaving: None, is_wide: false }.run().await
}

/// A connection that is being served.
struct Serving<'a> {
    session: &'a Session,
    connection: Connection<H2Conn<Rc<Info>>, Bytes>,
    patience: Patience,
    /// Requests that were read.
    requests: u32,
    open: Rc<Open>,
    /// Since when we want no more requests: GOAWAY is sent.
    leaving: Option<Now>,
    /// Uploads move: the windows are as large as they get.
    is_wide: bool,
}

/// What streams and frames tell their connection.
#[derive(Default)]
struct Open {
    /// When the last of the streams ended.
    quiet_since: Cell<Now>,
    streams: Cell<u32>,
    /// Malformed requests.
    glitches: Cell<u32>,
    flood: Rc<Cell<Option<Flood>>>,
}

impl Serving<'_> {
    async fn run(mut self) -> Result<End, End> {
        let malformed = End::new(Side::Client, Phase::Inspect, Kind::Malformed);
        loop {
            match self.next().await {
                Some(Ok((request, respond))) => self.start(request, respond),
                Some(Err(e)) if e.is_io() => return Err(End::new(Side::Client, Phase::Inspect, Kind::Abort)),
                Some(Err(e)) => {
                    if self.open.flood.get().is_none() && e.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
                        // A limit inside the crate; ours are told where they are found.
                        self.tell(Flood::Frames);
                    }
                    return Err(malformed);
                }
                None if self.open.flood.get().is_some() => return Err(malformed),
                None => return Ok(End::new(Side::Client, Phase::Data, Kind::Normal)),
            }
        }
    }

    /// The next request; drives everything else of the connection meanwhile. `None`: it is over.
    async fn next(&mut self) -> Option<Result<Accepted, h2::Error>> {
        let info = &self.session.info;
        info.resting.set(true);
        let next = poll_fn(|cx| self.poll_next(cx)).await;
        info.resting.set(false);
        next
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Accepted, h2::Error>>> {
        let draining = self.session.core.draining.get() || self.session.is_orphan();
        if self.leaving.is_none() && (draining || self.is_worn_out()) {
            self.leave();
        }
        loop {
            let polled = self.connection.poll_accept(cx);
            if self.leaving.is_none() && self.found_flood() {
                continue;
            }
            if polled.is_ready() {
                return polled;
            }
            self.widen();
            if self.open.streams.get() > 0 {
                return Poll::Pending;
            }
            // Nothing is open: the client has so long for the next request, or to say goodbye.
            let http = http_of(self.session.frontend());
            let since = self.open.quiet_since.get();
            let deadline = match self.leaving {
                Some(leaving) => Some(leaving.max(since) + H2_GOODBYE),
                None if self.requests == 0 => http.timeout_request.map(|t| since + t),
                None => http.timeout_keep_alive.map(|t| since + t),
            };
            if self.patience.poll(cx, deadline).is_pending() {
                return Poll::Pending;
            }
            if self.leaving.is_some() {
                return Poll::Ready(None);
            }
            self.leave();
        }
    }

    /// Says that no more requests are wanted; those on their way are served.
    fn leave(&mut self) {
        self.leaving = Some(rt::now());
        self.connection.graceful_shutdown();
    }

    fn is_worn_out(&self) -> bool {
        let settings = &self.session.core.model.global.h2;
        settings.total_max.is_some_and(|max| self.requests >= max)
    }

    /// Closes the connection of a client that sends too much which moves nothing.
    fn found_flood(&mut self) -> bool {
        let settings = &self.session.core.model.global.h2;
        if self.open.glitches.get() > settings.glitches_max {
            self.open.flood.set(Some(Flood::Glitches));
        }
        let Some(flood) = self.open.flood.get() else { return false };
        self.tell(flood);
        self.leaving = Some(rt::now());
        self.connection.abrupt_shutdown(match flood {
            Flood::NoSettings => Reason::PROTOCOL_ERROR,
            _ => Reason::ENHANCE_YOUR_CALM,
        });
        true
    }

    fn tell(&self, flood: Flood) {
        let (core, info) = (&self.session.core, &self.session.info);
        core.shard().frontends[info.frontend].count(Stat::H2Floods);
        core.shard().listeners[info.bind].count(Stat::H2Floods);
        core.event(Event::Flood { frontend: info.frontend, client: info.conn_facts().src, flood });
    }

    /// Opens the windows of a client whose uploads reach their servers: a long path needs more on its way than a quiet
    /// connection may cost us.
    fn widen(&mut self) {
        let settings = &self.session.core.model.global.h2;
        if self.is_wide || self.session.info.bytes_in.get() < u64::from(settings.window) {
            return;
        }
        self.is_wide = true;
        self.connection.set_target_window_size(settings.rxbuf);
        // Refused only while an earlier change is not acknowledged; the first has the right of way then.
        let _ = self.connection.set_initial_window_size(settings.rxbuf.max(settings.window));
    }

    fn start(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let (parts, body) = request.into_parts();
        let stream = Stream::new(parts, body, respond);
        let before = self.requests;
        self.requests = before.saturating_add(1);
        self.open.streams.set(self.open.streams.get() + 1);
        let session = Session::of_stream(self.session);
        rt::spawn(run_stream(session, self.open.clone(), stream, before));
    }
}

/// One stream from its head to its end.
async fn run_stream(session: Session, open: Rc<Open>, stream: Stream, before: u32) {
    let place = Place(open);
    let responder = stream.responder.clone();
    let mut client = Client::of_stream(&session, stream, before);
    let end = until_reset(&session, &responder, &mut client).await;
    drop(client);
    if end.side == Side::Client && end.kind == Kind::Malformed {
        place.0.glitches.set(place.0.glitches.get() + 1);
    }
    session.close(end);
    drop(place);
}

/// The place of a stream among those that are open.
struct Place(Rc<Open>);

impl Drop for Place {
    fn drop(&mut self) {
        let open = &self.0;
        open.streams.set(open.streams.get() - 1);
        open.quiet_since.set(rt::now());
    }
}

async fn until_reset(session: &Session, responder: &RefCell<Responder>, client: &mut Client) -> End {
    let mut request = pin!(http::request(session, client));
    let phase = || session.info.phase.get();
    let end = poll_fn(|cx| {
        if session.info.is_killed() {
            return Poll::Ready(Err(End::new(Side::Proxy, phase(), Kind::Killed)));
        }
        if let Poll::Ready(result) = request.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        session.info.watch(cx);
        let reset = responder.borrow_mut().poll_reset(cx);
        reset.map(|()| Err(End::new(Side::Client, phase(), Kind::Abort)))
    })
    .await;
    match end {
        Ok(_) => End::new(Side::Client, Phase::Data, Kind::Normal),
        Err(end) => {
            let reason = match (end.side, end.kind) {
                (Side::Client, Kind::Malformed) => Reason::PROTOCOL_ERROR,
                (Side::Client, _) => Reason::CANCEL,
                _ => Reason::INTERNAL_ERROR,
            };
            responder.borrow_mut().reset_unless_done(reason);
            end
        }
    }
}

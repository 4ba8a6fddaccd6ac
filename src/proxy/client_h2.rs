//! A connection of a client that speaks HTTP/2: handshake, streams, and its end. Each stream is a task that goes the way of
//! `http::request`; frames are the `h2` crate's.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use ::http::Request;
use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};

use crate::base::time::Now;
use crate::proxy::client_h1::Client;
use crate::proxy::core::Core;
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::h2_conn::H2Conn;
use crate::proxy::h2_stream::{Responder, Stream};
use crate::proxy::http::{self, http_of};
use crate::proxy::input::Input;
use crate::proxy::patience::Patience;
use crate::proxy::session::{Info, Session};
use crate::rt;

type Served = Connection<H2Conn<Rc<Info>>, Bytes>;

/// Serves a connection until it is over. `first` begins with the preface.
pub(super) async fn serve(session: &Session, first: Input) -> Result<End, End> {
    let http = http_of(session.frontend());
    let io = H2Conn::new(session.info.clone(), first);
    let deadline = http.timeout_request.map(|t| session.info.started + t);
    let mut builder = Builder::new();
    builder.max_concurrent_streams(100).enable_connect_protocol();
    let shaken = rt::with_deadline(builder.handshake::<_, Bytes>(io), deadline).await;
    let early = |kind| End::new(Side::Client, Phase::Inspect, kind);
    let connection = match shaken {
        Err(rt::Elapsed) => return Err(early(Kind::Timeout)),
        Ok(Err(e)) if e.is_io() => return Err(early(Kind::Abort)),
        Ok(Err(_)) => return Err(early(Kind::Malformed)),
        Ok(Ok(connection)) => connection,
    };
    Serving {
        session,
        connection,
        patience: Patience::default(),
        requests: 0,
        open: Rc::default(),
        leaving: false,
    }
    .run()
    .await
}

/// A connection that is being served.
struct Serving<'a> {
    session: &'a Session,
    connection: Served,
    patience: Patience,
    requests: u32,
    open: Rc<Open>,
    /// GOAWAY is sent.
    leaving: bool,
}

/// What streams tell their connection.
#[derive(Default)]
struct Open {
    /// When the last of them ended.
    quiet_since: RefCell<Option<Now>>,
    streams: std::cell::Cell<u32>,
}

impl Serving<'_> {
    async fn run(mut self) -> Result<End, End> {
        *self.open.quiet_since.borrow_mut() = Some(rt::now());
        loop {
            match self.next().await {
                Some(Ok((request, respond))) => self.start(request, respond),
                Some(Err(e)) if e.is_io() => return Err(End::new(Side::Client, Phase::Inspect, Kind::Abort)),
                Some(Err(_)) => return Err(End::new(Side::Client, Phase::Inspect, Kind::Malformed)),
                None => return Ok(End::new(Side::Client, Phase::Data, Kind::Normal)),
            }
        }
    }

    /// The next request; drives everything else of the connection meanwhile.
    async fn next(&mut self) -> Option<Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>> {
        let Serving { session, connection, patience, open, leaving, requests } = self;
        let info = &session.info;
        let next = poll_fn(|cx| {
            if session.core.draining.get() && !*leaving {
                *leaving = true;
                connection.graceful_shutdown();
            }
            if let Poll::Ready(next) = connection.poll_accept(cx) {
                return Poll::Ready(next);
            }
            let is_quiet = open.streams.get() == 0;
            info.resting.set(true);
            if is_quiet && !*leaving {
                let http = http_of(session.frontend());
                let timeout = if *requests == 0 { http.timeout_request } else { http.timeout_keep_alive };
                let since = open.quiet_since.borrow().unwrap_or(info.started);
                if patience.poll(cx, timeout.map(|t| since + t)).is_ready() {
                    *leaving = true;
                    connection.graceful_shutdown();
                    return connection.poll_accept(cx);
                }
            }
            Poll::Pending
        })
        .await;
        info.resting.set(false);
        next
    }

    fn start(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let (parts, body) = request.into_parts();
        let stream = Stream::new(parts, body, respond);
        let before = self.requests;
        self.requests = before.saturating_add(1);
        self.open.streams.set(self.open.streams.get() + 1);
        rt::spawn(run_stream(
            self.session.core.clone(),
            self.session.info.clone(),
            self.open.clone(),
            stream,
            before,
        ));
    }
}

/// One stream from its head to its end.
async fn run_stream(core: Rc<Core>, connection: Rc<Info>, open: Rc<Open>, stream: Stream, before: u32) {
    let responder = stream.responder.clone();
    let session = Session::of_stream(core, connection);
    let mut client = Client::of_stream(&session, stream, before);
    let end = until_reset(&session, &responder, &mut client).await;
    drop(client);
    session.close(end);
    open.streams.set(open.streams.get() - 1);
    *open.quiet_since.borrow_mut() = Some(rt::now());
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

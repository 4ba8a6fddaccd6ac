//! A connection of a client that speaks HTTP/2: its IO, its limits, and its end. What its frames mean is
//! `proto::h2::connection`'s; each stream is a task that goes the way of `http::request`.
//!
//! One task receives and sends. Streams write into the connection, and what gathers in one turn of the core leaves in one
//! send.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::base::limits::{BUF_BYTES, H2_DRIBBLES_MAX, H2_GOODBYE, H2_SETTLED};
use crate::base::time::Now;
use crate::policy::flood::{Flood, FloodGuard};
use crate::proto::h2::connection::{Connection, Limits, Request};
use crate::proto::h2::frame::Code;
use crate::proto::h2::sending::OUT_BYTES_MAX;
use crate::proxy::client_h1::Client;
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::h2_conn::{RECEIVES_PER_TURN, Sends};
use crate::proxy::h2_stream::{Shared, Stream, StreamBox, StreamRef};
use crate::proxy::h2_tasks;
use crate::proxy::http::{self, http_of};
use crate::proxy::input::Input;
use crate::proxy::message::Event;
use crate::proxy::patience::Patience;
use crate::proxy::session::Session;
use crate::rt::{self, SendBuf};
use crate::stats::table::Stat;
use crate::tls::Receiving;

/// What a field costs in the size of a header list beyond its bytes (RFC 9113 6.5.2).
const FIELD_COST: u32 = 32;

/// How much a client may still send that was told why its connection ends: closing at once would reset the connection and
/// take what it was told away.
const LINGER_BYTES_MAX: usize = 64 * BUF_BYTES;

/// Serves a connection until it is over. `first` begins with the preface.
pub(super) async fn serve(session: &Session, first: Input) -> Result<End, End> {
    let http = http_of(session.frontend());
    let settings = &session.core.model.global.h2;
    let limits = Limits {
        streams_max: settings.streams_max,
        window: settings.window,
        window_max: settings.rxbuf,
        fields_max: http.limits.head_bytes + FIELD_COST * http.limits.headers,
    };
    let open = Rc::new(Open::default());
    open.quiet_since.set(session.info.started);
    let mut serving = Serving {
        session,
        recv: Receiving::default(),
        sends: Sends::default(),
        input: first,
        shared: Shared::new(Connection::within(limits, session.core.h2_spare.connections.clone())),
        guard: FloodGuard::new(settings.resets_max, rt::now()),
        flood: None,
        patience: Patience::default(),
        requests: 0,
        open,
        leaving: None,
        is_told: false,
        linger: None,
    };
    session.info.resting.set(true);
    let end = poll_fn(|cx| serving.poll(cx)).await;
    session.info.resting.set(false);
    // Streams that outlive their connection have nobody to talk to.
    serving.shared.drive(|connection| connection.abandon(Code::CANCEL));
    end
}

/// A connection that is being served. Fields in order of their drop: operations before the session and its connection.
struct Serving<'a> {
    recv: Receiving,
    sends: Sends,
    input: Input,
    session: &'a Session,
    shared: Rc<Shared>,
    guard: FloodGuard,
    flood: Option<Flood>,
    patience: Patience,
    /// Requests that were read.
    requests: u32,
    open: Rc<Open>,
    /// Since when we want no more requests: GOAWAY is sent.
    leaving: Option<Now>,
    /// A flood was counted.
    is_told: bool,
    /// How much may still come of a client that was told that it is over.
    linger: Option<usize>,
}

/// What streams tell their connection.
#[derive(Default)]
struct Open {
    /// When the last of the streams ended.
    quiet_since: Cell<Now>,
    streams: Cell<u32>,
    /// The task of the connection, which waits for the last of them.
    task: RefCell<Option<Waker>>,
}

const MALFORMED: End = End::new(Side::Client, Phase::Inspect, Kind::Malformed);
const ABORT: End = End::new(Side::Client, Phase::Inspect, Kind::Abort);
const DONE: End = End::new(Side::Client, Phase::Data, Kind::Normal);

impl Serving<'_> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<End, End>> {
        if self.leaving.is_none() && self.is_outdated() {
            self.leave();
        }
        let received = self.receive(cx);
        self.look_for_floods();
        if self.send(cx).is_err() {
            return Poll::Ready(Err(ABORT));
        }
        let is_over = self.shared.drive(|connection| connection.is_over());
        match received {
            Poll::Ready(Err(_)) => return Poll::Ready(Err(ABORT)),
            Poll::Ready(Ok(())) => return Poll::Ready(self.verdict()),
            Poll::Pending => {}
        }
        let everything_left = self.sends.is_idle() && self.shared.drive(|c| c.out().is_empty());
        if is_over && everything_left {
            return self.poll_over(cx);
        }
        self.poll_quiet(cx)
    }

    /// Receives and follows what came. Ready: the client is gone.
    fn receive(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..RECEIVES_PER_TURN {
            self.follow();
            // Answers to frames wait for a client that does not read; what it sends waits with them.
            if self.shared.drive(|connection| connection.out().len()) > 2 * OUT_BYTES_MAX {
                return Poll::Pending;
            }
            match self.recv.poll(self.session.info.conn(), cx) {
                Poll::Pending => {
                    // The rest of a frame must not keep a receive buffer of the core.
                    self.input.detach();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(Some(received))) => self.input.push(received),
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
            }
        }
        self.follow();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Follows the frames that are there, and starts their streams.
    fn follow(&mut self) {
        if let Some(left) = &mut self.linger {
            let len = self.input.bytes().len();
            *left = left.saturating_sub(len);
            return self.input.consume(len);
        }
        let now = rt::now();
        while !self.input.is_empty() {
            let Serving { session, shared, input, guard, flood, .. } = self;
            let (used, request) = shared.drive(|connection| {
                connection.lend(|| session.core.pads.buffer());
                connection.receive(input.bytes(), &mut |head| {
                    *flood = flood.or(guard.judge(head, now));
                    flood.map(code_of)
                })
            });
            self.input.consume(used);
            match request {
                Some(request) => self.start(request),
                None => break,
            }
        }
    }

    /// Starts to send what has gathered, as soon as what is on its way is gone.
    fn send(&mut self, cx: &Context<'_>) -> io::Result<()> {
        let Serving { sends, session, shared, .. } = self;
        sends.send(session.info.conn(), shared, || session.core.pads.buffer(), cx)
    }

    /// How a connection ended that ended in order.
    fn verdict(&self) -> Result<End, End> {
        if self.shared.drive(|connection| connection.is_failed()) { Err(MALFORMED) } else { Ok(DONE) }
    }

    /// The client was told that it is over: waits until it has heard it.
    fn poll_over(&mut self, cx: &Context<'_>) -> Poll<Result<End, End>> {
        let end = self.verdict();
        if self.linger.is_none() {
            self.linger = Some(LINGER_BYTES_MAX);
            if self.session.info.conn().shutdown_write().is_err() {
                return Poll::Ready(end);
            }
            self.leaving.get_or_insert(rt::now());
            cx.waker().wake_by_ref();
        }
        let deadline = self.leaving.map(|since| since + H2_GOODBYE);
        if self.linger == Some(0) || self.patience.poll(cx, deadline).is_ready() {
            return Poll::Ready(end);
        }
        Poll::Pending
    }

    /// While no stream is open the client has so long for the next request, or to say goodbye.
    fn poll_quiet(&mut self, cx: &Context<'_>) -> Poll<Result<End, End>> {
        if self.open.streams.get() > 0 {
            *self.open.task.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let pads = &self.session.core.pads;
        pads.keep(Some(SendBuf::from(std::mem::take(&mut self.sends.spare))));
        loop {
            let http = http_of(self.session.frontend());
            let since = self.open.quiet_since.get();
            let limit = match self.leaving {
                Some(leaving) => Some(leaving.max(since) + H2_GOODBYE),
                None if self.requests == 0 => http.timeout_request.map(|t| since + t),
                None => http.timeout_keep_alive.map(|t| since + t),
            };
            // One that rests keeps no old generation. A client that is only between two requests is not sent away: a GOAWAY
            // costs it a connection, and some clients the requests that they meant to send.
            let is_stale = self.leaving.is_none() && self.session.core.is_stale();
            let settled = is_stale.then(|| since + H2_SETTLED);
            let deadline = limit.into_iter().chain(settled).min();
            if self.patience.poll(cx, deadline).is_pending() {
                return Poll::Pending;
            }
            if self.leaving.is_some() {
                return Poll::Ready(Ok(DONE));
            }
            let has_settled = settled.is_some_and(|at| at <= rt::now());
            if !has_settled && !self.guard.has_begun() {
                return Poll::Ready(Err(End::new(Side::Client, Phase::Inspect, Kind::Timeout)));
            }
            self.leave();
            if self.send(cx).is_err() {
                return Poll::Ready(Err(ABORT));
            }
        }
    }

    /// Says that no more requests are wanted; those on their way are served.
    fn leave(&mut self) {
        self.leaving = Some(rt::now());
        self.shared.drive(|connection| connection.leave());
    }

    /// Whether no more requests are wanted of it at once. A newer generation is no reason: it has the next streams.
    fn is_outdated(&self) -> bool {
        self.session.core.draining.get() || self.is_worn_out() || self.session.is_orphan()
    }

    fn is_worn_out(&self) -> bool {
        let settings = &self.session.core.model.global.h2;
        settings.total_max.is_some_and(|max| self.requests >= max)
    }

    /// Closes the connection of a client that sends too much which moves nothing.
    fn look_for_floods(&mut self) {
        if self.linger.is_some() {
            return;
        }
        let settings = &self.session.core.model.global.h2;
        let glitches = self.shared.drive(|connection| connection.glitches());
        if self.flood.is_none() && glitches > settings.glitches_max {
            self.flood = Some(Flood::Glitches);
        }
        if self.flood.is_none() && self.shared.drive(|connection| connection.dribbles()) > H2_DRIBBLES_MAX {
            self.flood = Some(Flood::Dribbles);
        }
        let Some(flood) = self.flood.filter(|_| !self.is_told) else { return };
        self.is_told = true;
        self.shared.drive(|connection| connection.fail(code_of(flood)));
        let (core, info) = (&self.session.core, &self.session.info);
        core.shard().frontends[info.frontend].count(Stat::H2Floods);
        core.shard().listeners[info.bind].count(Stat::H2Floods);
        core.event(Event::Flood { frontend: info.frontend, client: info.conn_facts().src, flood });
    }

    fn start(&mut self, request: Request) {
        let stream = self.session.core.h2_spare.streams.lend(Stream::new(&self.shared, request));
        let before = self.requests;
        self.requests = before.saturating_add(1);
        self.open.streams.set(self.open.streams.get() + 1);
        let session = Session::of_stream(self.session);
        let job = Job { session, open: self.open.clone(), stream, before };
        h2_tasks::run(self.session.core.base(), job);
        if self.leaving.is_none() && self.is_worn_out() {
            self.leave();
        }
    }
}

fn code_of(flood: Flood) -> Code {
    match flood {
        Flood::NoSettings => Code::PROTOCOL_ERROR,
        _ => Code::ENHANCE_YOUR_CALM,
    }
}

/// A stream that is to be served.
pub(super) struct Job {
    session: Session,
    open: Rc<Open>,
    stream: StreamBox,
    /// Requests of its connection before it.
    before: u32,
}

/// One stream from its head to its end. `patience` is the task's: its timer stays armed from one stream to the next.
pub(super) async fn run_stream(job: Job, patience: &mut Patience) {
    let Job { session, open, stream, before } = job;
    let place = Place(open);
    let watched = stream.stream();
    let mut client = Client::of_stream(&session, stream, before);
    client.patience = std::mem::take(patience);
    let end = until_reset(&session, &watched, &mut client).await;
    if end.side == Side::Client && end.kind == Kind::Malformed {
        watched.with(|connection, _| connection.count_glitch());
    }
    *patience = std::mem::take(&mut client.patience);
    drop(client);
    session.close_stream(end);
    drop(place);
}

/// The place of a stream among those that are open.
struct Place(Rc<Open>);

impl Drop for Place {
    fn drop(&mut self) {
        let open = &self.0;
        open.streams.set(open.streams.get() - 1);
        if open.streams.get() == 0 {
            open.quiet_since.set(rt::now());
            if let Some(task) = open.task.take() {
                task.wake();
            }
        }
    }
}

async fn until_reset(session: &Session, stream: &StreamRef, client: &mut Client) -> End {
    let mut request = pin!(http::request(session, client));
    let phase = || session.info.phase.get();
    let end = poll_fn(|cx| {
        if let Some(end) = session.info.killed() {
            return Poll::Ready(Err(end));
        }
        if let Poll::Ready(result) = request.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        session.info.watch(cx);
        stream.poll_reset(cx).map(|()| Err(End::new(Side::Client, phase(), Kind::Abort).by_reset(false)))
    })
    .await;
    match end {
        Ok(_) => End::new(Side::Client, Phase::Data, Kind::Normal),
        Err(end) => {
            stream.reset_unless_sent(match (end.side, end.kind) {
                (Side::Client, Kind::Malformed) => Code::PROTOCOL_ERROR,
                (Side::Client, _) => Code::CANCEL,
                _ => Code::INTERNAL_ERROR,
            });
            end
        }
    }
}

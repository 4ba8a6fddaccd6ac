//! Moves bytes between two connections until both directions are closed. One idle deadline covers both.
//!
//! Copying passes each receive buffer on from where the kernel put it; bulk flows move to splice(2) where that is
//! cheaper. A half-close is passed on after everything before it; a reset is passed on as a reset.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::base::time::Now;
use crate::model::Splice;
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::rt::splice::{Moved, Pipe};
use crate::rt::{self, Conn, SendBuf, Timer};
use crate::tls::{Receiving, Sending, Transport};

/// Bytes that a direction copies before `auto` considers splicing: short flows never pay for a pipe.
const SPLICE_AFTER_BYTES: usize = 256 * 1024;
/// A flow is bulk when its receives fill this much of a buffer.
const BULK_RECV_BYTES: usize = crate::base::limits::BUF_BYTES / 2;

/// What a relay is told.
pub(super) struct Setup<'a, C> {
    pub(super) client: &'a Transport,
    pub(super) server: &'a Transport,
    /// Bytes received from the client before there was a server.
    pub(super) first: Option<SendBuf>,
    pub(super) timeouts: Timeouts,
    pub(super) splice: Splice,
    /// Called after each move: bytes from the client, bytes to the client, bytes of these that were spliced.
    pub(super) count: C,
}

/// Inactivity timeouts of a relay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub(super) client: Option<Duration>,
    pub(super) server: Option<Duration>,
    pub(super) client_fin: Option<Duration>,
    pub(super) server_fin: Option<Duration>,
    pub(super) tunnel: Option<Duration>,
}

/// Bytes that moved.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Count {
    pub(super) from_client: u64,
    pub(super) to_client: u64,
    pub(super) spliced: u64,
}

/// What both directions share.
struct Shared<'a, C> {
    last_activity: Cell<Now>,
    /// A timeout got shorter: the idle timer has to be looked at now.
    rearm: Cell<bool>,
    upstream: Direction,
    downstream: Direction,
    /// The side that closed first.
    first_ended: Cell<Option<Side>>,
    count: &'a C,
}

/// State of one direction as the idle timeout judges it.
#[derive(Default)]
struct Direction {
    /// Waiting for the receiving side to take bytes.
    blocked: Cell<bool>,
    ended: Cell<bool>,
}

/// Relays until both directions are closed or something ends them. A normal end names the side that closed first. By reference: what
/// is given to a future lies in it twice, and every quiet connection has one.
pub(super) async fn run<C: Fn(Count)>(setup: &mut Setup<'_, C>) -> End {
    let first = setup.first.take();
    let setup = &*setup;
    let shared = Shared {
        last_activity: Cell::new(rt::now()),
        rearm: Cell::new(false),
        upstream: Direction::default(),
        downstream: Direction::default(),
        first_ended: Cell::new(None),
        count: &setup.count,
    };
    let mut up = Pump::new(&shared, setup, Side::Client, first);
    let mut down = Pump::new(&shared, setup, Side::Server, None);
    let mut idle = Idle::new(&setup.timeouts);
    poll_fn(|cx| {
        for pump in [&mut up, &mut down] {
            if let Poll::Ready(Err(end)) = pump.poll(cx) {
                return Poll::Ready(end);
            }
        }
        if shared.upstream.ended.get() && shared.downstream.ended.get() {
            let first = shared.first_ended.get().unwrap_or(Side::Client);
            return Poll::Ready(End::new(first, Phase::Data, Kind::Normal));
        }
        idle.poll(cx, &shared)
    })
    .await
}

/// The rest of a bulk flow, out of line: few directions have one.
type Splicing<'a> = Pin<Box<dyn Future<Output = Result<(), End>> + 'a>>;

/// One direction. A state machine by hand: thousands of them wait at a time, and what waits is a few words.
///
/// ```text
/// receiving -> sending -> receiving ... -> ended
///                  +----> splicing ------> ended
/// ```
struct Pump<'a, C> {
    shared: &'a Shared<'a, C>,
    source: &'a Transport,
    sink: &'a Transport,
    /// The side that `source` belongs to.
    from: Side,
    splice: Splice,
    receiving: Receiving,
    sending: Sending,
    /// Bytes on their way to the sink.
    in_flight: usize,
    /// Bytes of an unbroken run of large receives.
    bulk_bytes: usize,
    splicing: Option<Splicing<'a>>,
}

impl<'a, C: Fn(Count)> Pump<'a, C> {
    fn new(shared: &'a Shared<'a, C>, setup: &Setup<'a, C>, from: Side, first: Option<SendBuf>) -> Self {
        let Setup { client, server, splice, .. } = *setup;
        let (source, sink) = if from == Side::Client { (client, server) } else { (server, client) };
        let (receiving, sending) = (Receiving::default(), Sending::default());
        let mut pump = Pump {
            shared,
            source,
            sink,
            from,
            splice,
            receiving,
            sending,
            in_flight: 0,
            bulk_bytes: 0,
            splicing: None,
        };
        match first {
            Some(first) => pump.send(first),
            None if splice == Splice::Always => pump.start_splicing(),
            None => {}
        }
        pump
    }

    /// Moves what can be moved now. Ready at the end of this direction, and then every time.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let direction = self.shared.direction(self.from);
        while !direction.ended.get() {
            if let Some(splicing) = &mut self.splicing {
                ready!(splicing.as_mut().poll(cx))?;
                self.end();
                break;
            }
            if self.in_flight > 0 {
                let (sent, _) = ready!(self.sending.poll(self.sink, cx));
                sent.map_err(|e| End::io(other(self.from), Phase::Data, &e))?;
                self.sent();
                continue;
            }
            match ready!(self.receiving.poll(self.source, cx)) {
                Ok(Some(data)) => self.send(data.into()),
                Ok(None) => self.end(),
                Err(e) => return Poll::Ready(Err(broken(self.from, self.sink, &e))),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, data: SendBuf) {
        self.in_flight = data.remaining().len();
        self.shared.direction(self.from).blocked.set(true);
        self.sending.start(self.sink, data);
    }

    /// Everything received so far is with the kernel of the sink.
    fn sent(&mut self) {
        let len = std::mem::take(&mut self.in_flight);
        self.shared.direction(self.from).blocked.set(false);
        self.shared.last_activity.set(rt::now());
        self.shared.moved(self.from, len, false);
        self.bulk_bytes = if len >= BULK_RECV_BYTES { self.bulk_bytes + len } else { 0 };
        let is_bulk = self.splice == Splice::Auto && self.bulk_bytes >= SPLICE_AFTER_BYTES;
        if is_bulk || self.splice == Splice::Always {
            self.bulk_bytes = 0;
            self.start_splicing();
        }
    }

    /// Splices the rest of the flow, if both sides are plain and there is a pipe for it.
    fn start_splicing(&mut self) {
        if let (Some(source), Some(sink)) = (self.source.as_plain(), self.sink.as_plain())
            && let Some(pipe) = Pipe::take()
        {
            self.splicing = Some(Box::pin(splice_rest(self.shared, source, sink, self.from, pipe)));
        }
    }

    /// The source has closed: the sink reads to the end of what was sent.
    fn end(&self) {
        self.shared.direction(self.from).ended.set(true);
        self.shared.rearm.set(true);
        if self.shared.first_ended.get().is_none() {
            self.shared.first_ended.set(Some(self.from));
        }
        if !self.shared.direction(other(self.from)).ended.get() || self.sink.as_plain().is_none() {
            // Both ended: closing says it all, but not in TLS. A peer that is gone already needs no half-close either.
            let _ = self.sink.shutdown_write();
        }
    }
}

async fn splice_rest<C: Fn(Count)>(
    shared: &Shared<'_, C>,
    source: &Conn,
    sink: &Conn,
    from: Side,
    mut pipe: Pipe,
) -> Result<(), End> {
    let blocked = &shared.direction(from).blocked;
    loop {
        // Waiting in the ring, even when there is data, is also what lets other sessions of this core run.
        source.readable().await.map_err(|e| cut(from, sink, &e))?;
        match pipe.fill_from(source, u64::MAX).map_err(|e| cut(from, sink, &e))? {
            Moved::End => return Ok(()),
            Moved::Blocked | Moved::Bytes(_) => {}
        }
        blocked.set(true);
        while pipe.filled() > 0 {
            let moved = pipe.drain_to(sink, false).map_err(|e| End::io(other(from), Phase::Data, &e))?;
            match moved {
                Moved::Bytes(n) => {
                    shared.last_activity.set(rt::now());
                    shared.moved(from, n, true);
                }
                Moved::Blocked | Moved::End => {
                    sink.writable().await.map_err(|e| End::io(other(from), Phase::Data, &e))?;
                }
            }
        }
        blocked.set(false);
    }
}

/// The source failed: the sink learns it by a reset, so that it cannot take what came so far for everything.
fn broken(from: Side, sink: &Transport, error: &io::Error) -> End {
    sink.reset_on_close();
    End::io(from, Phase::Data, error)
}

/// The same between plain connections.
fn cut(from: Side, sink: &Conn, error: &io::Error) -> End {
    sink.reset_on_close();
    End::io(from, Phase::Data, error)
}

fn other(side: Side) -> Side {
    if side == Side::Client { Side::Server } else { Side::Client }
}

impl<C: Fn(Count)> Shared<'_, C> {
    fn moved(&self, from: Side, len: usize, spliced: bool) {
        let len = len as u64;
        let mut count = Count { spliced: if spliced { len } else { 0 }, ..Count::default() };
        match from {
            Side::Client => count.from_client = len,
            _ => count.to_client = len,
        }
        (self.count)(count);
    }
}

impl<C> Shared<'_, C> {
    fn direction(&self, from: Side) -> &Direction {
        if from == Side::Client { &self.upstream } else { &self.downstream }
    }
}

/// The idle deadline of a relay. Activity only moves a time stamp; the timer looks at it when it fires.
struct Idle<'a> {
    timeouts: &'a Timeouts,
    timer: Option<Timer>,
}

impl<'a> Idle<'a> {
    fn new(timeouts: &'a Timeouts) -> Self {
        Idle { timeouts, timer: None }
    }

    fn poll<C>(&mut self, cx: &Context<'_>, shared: &Shared<'_, C>) -> Poll<End> {
        loop {
            let rearm = shared.rearm.take() || self.timer.is_none();
            if !rearm
                && let Some(timer) = &mut self.timer
                && timer.poll(cx).is_pending()
            {
                return Poll::Pending;
            }
            let Some((timeout, side)) = self.current(shared) else {
                self.timer = None;
                return Poll::Pending;
            };
            let deadline = shared.last_activity.get() + timeout;
            if deadline <= rt::now() {
                return Poll::Ready(End::new(side, Phase::Data, Kind::Timeout));
            }
            match &mut self.timer {
                Some(timer) => timer.reset(deadline),
                None => self.timer = Some(Timer::at(deadline)),
            }
        }
    }

    /// The timeout in force and whose inactivity it is. `tunnel` replaces `client` and `server`, as in HAProxy, from
    /// the moment both sides are connected; a `-fin` timeout holds for the side that was half-closed; of two the shorter one counts.
    fn current<C>(&self, shared: &Shared<'_, C>) -> Option<(Duration, Side)> {
        let t = self.timeouts;
        let client_fin = t.client_fin.filter(|_| shared.downstream.ended.get());
        let server_fin = t.server_fin.filter(|_| shared.upstream.ended.get());
        let client = client_fin.or(t.tunnel).or(t.client);
        let server = server_fin.or(t.tunnel).or(t.server);
        match (client, server) {
            (None, None) => None,
            (Some(c), None) => Some((c, Side::Client)),
            (None, Some(s)) => Some((s, Side::Server)),
            // Who is to blame: the side that does not take its bytes, else the one whose timeout is shorter.
            (Some(c), Some(s)) => {
                let side = if shared.upstream.blocked.get() {
                    Side::Server
                } else if shared.downstream.blocked.get() || c <= s {
                    Side::Client
                } else {
                    Side::Server
                };
                Some((c.min(s), side))
            }
        }
    }
}

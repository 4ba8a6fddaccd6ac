//! Accepts connections of one bind on one core: limits, hand-over to another core, and pauses when descriptors run out.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::task::Poll;

use crate::base::id::{CoreId, Id, ListenerId};
use crate::base::time::Now;
use crate::live::{FrontendState, Level};
use crate::model::{Accept, Bind};
use crate::proxy::core::{Core, CoreBase, SHORTAGE_PAUSE};
use crate::proxy::message::{Event, ToCore};
use crate::proxy::session;
use crate::rt::{self, Conn, ListenOptions, Listener};
use crate::stats::process::CoreStat;

/// `accept = "balanced"` hands a connection over when this core has so many sessions more than the least loaded one:
/// below it the cost of moving is more than it saves.
const IMBALANCE_MIN: u64 = 4;

/// The options of a bind's sockets; `cpus`: of its group, where they decide.
pub fn options<'a>(bind: &'a Bind, cpus: &'a [usize]) -> ListenOptions<'a> {
    ListenOptions {
        backlog: bind.backlog,
        interface: bind.interface.as_deref(),
        transparent: bind.transparent,
        defer_accept: bind.defer_accept,
        tfo_queue: bind.tfo_queue,
        mss: bind.mss,
        tcp_user_timeout: bind.tcp_user_timeout,
        v6only: bind.v6only,
        by_cpu: if bind.accept == Accept::Cpu { cpus } else { &[] },
    }
}

/// What a socket that listens can be given later.
fn tuning(bind: &Bind) -> impl PartialEq {
    let Bind { backlog, defer_accept, tfo_queue, mss, tcp_user_timeout, accept, .. } = bind;
    (*backlog, *defer_accept, *tfo_queue, *mss, *tcp_user_timeout, *accept == Accept::Cpu)
}

/// A core's part of a bind.
struct Acceptor {
    /// The newest generation that it knows, and the bind there.
    core: Rc<Core>,
    bind: ListenerId,
    /// Names the bind in every generation.
    key: u64,
    listener: Listener,
    /// Accepted already, but there was no room for them yet.
    held: VecDeque<Conn>,
    paused: bool,
}

/// Accepts until the core drains, the bind is gone or its frontend was shut down. `key`: of the bind's sockets.
pub(super) async fn run(base: Rc<CoreBase>, key: u64, socket: OwnedFd) {
    // Nobody opens sockets for a bind that its core does not know.
    let Some((core, bind)) = base.with_bind(key) else { return };
    base.acceptors.set(base.acceptors.get() + 1);
    let listener = Listener::new(socket);
    {
        let mut listening = base.listening.borrow_mut();
        listening.retain(|(_, socket)| socket.strong_count() > 0);
        listening.push((key, Rc::downgrade(listener.fd())));
    }
    let mut acceptor = Acceptor { core, bind, key, listener, held: VecDeque::new(), paused: false };
    while !acceptor.core.draining.get() && acceptor.follow() && !acceptor.is_shut() {
        acceptor.wait_until_enabled().await;
        acceptor.wait_for_descriptors().await;
        match acceptor.next().await {
            Ok(Some(conn)) => acceptor.admit(conn).await,
            Ok(None) => {}
            Err(e) => acceptor.rest(&e).await,
        }
    }
    acceptor.finish().await;
}

impl Acceptor {
    /// Goes on in the newest generation. False: it does not have this bind.
    fn follow(&mut self) -> bool {
        if !self.core.is_stale() {
            return true;
        }
        let newest = self.core.base().current();
        let Some(bind) = newest.live.bind_of(self.key) else { return false };
        let (old, new) = (&self.core.model.binds[self.bind], &newest.model.binds[bind]);
        if tuning(old) != tuning(new) {
            let by_cpu: &[usize] = if new.accept == Accept::Cpu { &newest.model.global.cores } else { &[] };
            // One core speaks for the group. Where the kernel refuses, the socket goes on as it was.
            let by_cpu = (self.core.id.index() == 0).then_some(by_cpu);
            let _ = self.listener.set_options(options(new, &[]), by_cpu);
        }
        (self.core, self.bind) = (newest, bind);
        true
    }

    fn is_shut(&self) -> bool {
        state(&self.core, self.bind) == FrontendState::Shut
    }

    /// Whether the loop has to look around: the core drains, there is a newer generation, or its frontend was shut down.
    fn is_called(core: &Core, bind: ListenerId) -> bool {
        core.draining.get() || core.is_stale() || state(core, bind) == FrontendState::Shut
    }

    /// The next connection; `None` when the core drains or the frontend is paused meanwhile.
    async fn next(&mut self) -> io::Result<Option<Conn>> {
        if let Some(conn) = self.held.pop_front() {
            return Ok(Some(conn));
        }
        let Acceptor { core, listener, bind, .. } = self;
        let stop = poll_fn(|cx| {
            if Self::is_called(core, *bind) || is_paused(core, *bind) {
                return Poll::Ready(());
            }
            core.wait_for_room(cx.waker());
            Poll::Pending
        });
        match rt::select(stop, listener.accept()).await {
            rt::Either::First(()) => Ok(None),
            rt::Either::Second(conn) => conn.map(Some),
        }
    }

    /// Starts a session as soon as no limit stands against it.
    async fn admit(&mut self, conn: Conn) {
        // The configuration may have changed since the kernel took it.
        self.follow();
        if self.paused {
            self.paused = false;
            self.core.event(Event::AcceptResumed { core: self.core.id, bind: self.bind });
        }
        if let Err(until) = take_rate(&self.core, self.bind) {
            // Who comes now waits in the kernel's accept queue, as with HAProxy.
            self.held.push_front(conn);
            self.stop_accepting().await;
            if !self.core.draining.get() {
                rt::sleep_until(until).await;
            }
            return;
        }
        if let Some(core) = self.less_loaded() {
            self.core.shard().core.count(CoreStat::HandoversOut);
            self.core.peers[core.index()].send(ToCore::Accepted { bind: self.key, conn: conn.into_fd() });
            return;
        }
        if enter(&self.core, self.bind) {
            session::start(&self.core, self.bind, conn);
            return;
        }
        // Who comes now waits in the kernel's accept queue, as with HAProxy.
        self.held.push_front(conn);
        self.stop_accepting().await;
        let core = &self.core;
        poll_fn(|cx| {
            core.wait_for_room(cx.waker());
            let go = Self::is_called(core, self.bind) || has_room(core, self.bind);
            if go { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Ends the accept operation and keeps what it brought.
    async fn stop_accepting(&mut self) {
        self.listener.cancel();
        while self.listener.is_accepting() {
            if let Ok(conn) = self.listener.accept().await {
                self.held.push_back(conn);
            }
        }
    }

    /// Descriptors or memory are short: one line, then a rest; nothing spins.
    async fn rest(&mut self, error: &io::Error) {
        let shard = self.core.shard();
        shard.core.count(CoreStat::AcceptErrors);
        // The client was gone before we came to it.
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) {
            return;
        }
        if !self.paused {
            self.paused = true;
            shard.core.count(CoreStat::AcceptPauses);
            let (core, bind, error) = (self.core.id, self.bind, error.to_string());
            self.core.event(Event::AcceptPaused { core, bind, error });
        }
        rt::sleep_until(rt::now() + SHORTAGE_PAUSE).await;
    }

    /// Sessions of this core found no descriptor for their server: who is accepted now would not find one either.
    async fn wait_for_descriptors(&mut self) {
        if rt::now() >= self.core.short_until.get() {
            return;
        }
        self.core.shard().core.count(CoreStat::AcceptPauses);
        self.stop_accepting().await;
        while rt::now() < self.core.short_until.get() && !self.core.draining.get() {
            rt::sleep_until(self.core.short_until.get()).await;
        }
    }

    async fn wait_until_enabled(&mut self) {
        if !is_paused(&self.core, self.bind) {
            return;
        }
        self.stop_accepting().await;
        let core = &self.core;
        poll_fn(|cx| {
            core.wait_for_room(cx.waker());
            let go = Self::is_called(core, self.bind) || !is_paused(core, self.bind);
            if go { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Serves what the kernel has accepted for this socket before it closes: closing would reset it.
    async fn finish(mut self) {
        self.stop_accepting().await;
        while let Some(conn) = self.listener.accept_now() {
            self.held.push_back(conn);
        }
        for conn in std::mem::take(&mut self.held) {
            enter_anyway(&self.core, self.bind);
            session::start(&self.core, self.bind, conn);
        }
        self.core.acceptors.set(self.core.acceptors.get() - 1);
    }

    /// The core that should have the next connection instead of this one, with `accept = "balanced"`.
    fn less_loaded(&self) -> Option<CoreId> {
        let core = &self.core;
        if core.model.binds[self.bind].accept != Accept::Balanced || core.shards.len() < 2 {
            return None;
        }
        let load = |id: usize| core.shards[id].core.get(CoreStat::Connections);
        let (least, lowest) = (0..core.peers.len()).map(|id| (id, load(id))).min_by_key(|(_, load)| *load)?;
        (load(core.id.index()) >= lowest + IMBALANCE_MIN).then(|| CoreId::from_index(least))
    }
}

/// One more connection of this second; when the next second begins, if this one has had all of its connections.
fn take_rate(core: &Core, bind: ListenerId) -> Result<(), Now> {
    let process = &core.live.process;
    process.rate.take(rt::now())?;
    if is_tls(core, bind) { process.tls_rate.take(rt::now()) } else { Ok(()) }
}

fn is_tls(core: &Core, bind: ListenerId) -> bool {
    core.model.binds[bind].tls.is_some()
}

/// Copies of all sockets that this core accepts from, with the keys of their binds.
pub(super) fn copies(base: &CoreBase) -> Vec<(u64, OwnedFd)> {
    let listening = base.listening.borrow();
    // Without a descriptor left this socket is not handed over; whoever asked opens another one.
    let copy = |(key, socket): &(u64, Weak<OwnedFd>)| Some((*key, socket.upgrade()?.try_clone().ok()?));
    listening.iter().filter_map(copy).collect()
}

/// Takes a connection that another core accepted.
pub(super) fn take_over(base: &CoreBase, key: u64, socket: OwnedFd) {
    base.cells.count(CoreStat::HandoversIn);
    // Its bind may have gone on the way, with the last session that lived by its generation.
    let Some((core, bind)) = base.with_bind(key) else { return };
    enter_anyway(&core, bind);
    session::start(&core, bind, Conn::from_fd(socket));
}

fn is_paused(core: &Core, bind: ListenerId) -> bool {
    state(core, bind) == FrontendState::Paused
}

fn state(core: &Core, bind: ListenerId) -> FrontendState {
    core.live.frontends[core.model.binds[bind].frontend].state()
}

/// The levels that a connection counts in.
fn levels(core: &Core, bind: ListenerId) -> impl Iterator<Item = &Level> {
    let live = &core.live;
    let frontend = core.model.binds[bind].frontend;
    let tls = is_tls(core, bind).then_some(&live.process.tls_connections);
    [&live.process.connections, &live.frontends[frontend].connections, &live.binds[bind].connections]
        .into_iter()
        .chain(tls)
}

/// Takes a place under every limit that is set, or under none.
fn enter(core: &Core, bind: ListenerId) -> bool {
    let Some(full) = levels(core, bind).position(|level| !level.try_enter()) else { return true };
    give_back(core, levels(core, bind).take(full));
    false
}

/// Takes a place for a connection that is here already and must be served.
pub(super) fn enter_anyway(core: &Core, bind: ListenerId) {
    levels(core, bind).for_each(Level::enter);
}

fn has_room(core: &Core, bind: ListenerId) -> bool {
    levels(core, bind).all(Level::has_room)
}

/// Gives the places of a session back, and wakes accept loops that wait for one, on every core.
pub(super) fn leave(core: &Core, bind: ListenerId) {
    give_back(core, levels(core, bind));
}

fn give_back<'a>(core: &Core, levels: impl Iterator<Item = &'a Level>) {
    // Every level is left, also after one that was full.
    if !levels.fold(false, |full, level| level.leave() | full) {
        return;
    }
    for (id, peer) in core.peers.iter().enumerate() {
        if id != core.id.index() {
            peer.send(ToCore::Room);
        }
    }
    core.wake_room();
}

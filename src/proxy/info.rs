//! What others on a core may know of a session while it lives: where it is, whom it is for, what it moved. It says too when the
//! session is to end, and takes little memory while the session is parked.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::rc::Rc;
use std::task::{Context, Waker};

use crate::base::id::{BackendId, FrontendId, ListenerId, ServerId};
use crate::base::net::Addr;
use crate::base::time::Now;
use crate::policy::sample::{ConnError, ConnFacts};
use crate::proxy::core::{Core, CoreBase};
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::log::Record;
use crate::proxy::message::SessionRow;
use crate::proxy::stick::CountersCell;
use crate::proxy::timings::Timings;
use crate::proxy::tuning::Special;
use crate::rt;
use crate::tls::Transport;

/// What others on this core may know of a session while it lives.
pub(super) struct Info {
    pub(super) id: u64,
    /// The generation that it lives by; its ids are those of that one.
    pub(super) generation: u32,
    pub(super) carrier: Carrier,
    pub(super) bind: ListenerId,
    pub(super) frontend: FrontendId,
    pub(super) started: Now,
    pub(super) backend: Cell<Option<BackendId>>,
    pub(super) server: Cell<Option<ServerId>>,
    pub(super) phase: Cell<Phase>,
    pub(super) bytes_in: Cell<u64>,
    pub(super) bytes_out: Cell<u64>,
    /// At most `limits::RETRIES_MAX`.
    retries: Cell<u16>,
    /// One of the attempts went to another server.
    pub(super) redispatched: Cell<bool>,
    /// Its places in the queues of the server and of the backend; 0: it did not wait.
    pub(super) queued_before: Cell<(u32, u32)>,
    /// Of the stream in hand.
    pub(super) timings: RefCell<Timings>,
    /// What the line of the request in hand says.
    pub(super) record: RefCell<Option<Box<Record>>>,
    pub(super) killed: Cell<Option<Kind>>,
    /// Between two requests: nobody misses it when the core drains.
    pub(super) resting: Cell<bool>,
    /// What went wrong before anything was served.
    pub(super) error: Cell<ConnError>,
    waker: Cell<Option<Waker>>,
    /// Addresses of the connection itself.
    pub(super) peer: OnceCell<Box<ConnFacts>>,
    /// The same, small, since the connection was parked; see [`Session::fold`].
    folded: Option<Pair>,
    /// What its PROXY header said; speaks for the client from then on.
    proxied: OnceCell<Box<ConnFacts>>,
    /// What rules set for the request in hand; made when the first of them does.
    pub(super) special: RefCell<Option<Box<Special>>>,
    /// What is counted for it in stick tables.
    pub(super) counters: CountersCell,
}

// With the counts of its `Rc` and the word of the allocator a block of 288 bytes.
const _: () = assert!(size_of::<Info>() <= 264);

/// HAProxy counts requests in 32 bits, too.
pub(super) fn short(id: u64) -> u32 {
    u32::try_from(id & u64::from(u32::MAX)).expect("it has no more bits")
}

/// Source and destination of a connection over IPv4: a tenth of a `ConnFacts`, which is made of it again when it is asked for.
#[derive(Clone, Copy)]
struct Pair {
    src: (Ipv4Addr, NonZeroU16),
    dst: (Ipv4Addr, u16),
}

impl Pair {
    /// If there is no more to know.
    fn of(facts: &ConnFacts) -> Option<Pair> {
        let (Addr::Ip(SocketAddr::V4(src)), Addr::Ip(SocketAddr::V4(dst))) = (facts.src, facts.dst) else {
            return None;
        };
        let ConnFacts { rcvd_proxy, pp_authority, pp_unique_id, .. } = facts;
        let is_all = !rcvd_proxy && pp_authority.is_none() && pp_unique_id.is_none();
        let src = (*src.ip(), NonZeroU16::new(src.port())?);
        is_all.then_some(Pair { src, dst: (*dst.ip(), dst.port()) })
    }

    fn addresses(self) -> (Addr, Addr) {
        let Pair { src, dst } = self;
        (Addr::Ip((src.0, src.1.get()).into()), Addr::Ip(dst.into()))
    }
}

/// What a client comes over.
pub(super) enum Carrier {
    /// A connection of its own.
    Conn(Transport),
    /// A stream of a connection that it shares with others, which is a session too.
    Stream(Rc<Info>),
    /// None any more: the session is over, and its memory waits for the next one.
    Gone,
}

impl Info {
    pub(super) fn new(core: &Core, carrier: Carrier, bind: ListenerId) -> Info {
        let id = core.next_session_id();
        Info {
            id,
            generation: core.live.generation,
            carrier,
            bind,
            frontend: core.model.binds[bind].frontend,
            started: rt::now(),
            backend: Cell::new(None),
            server: Cell::new(None),
            phase: Cell::new(Phase::Inspect),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            retries: Cell::new(0),
            redispatched: Cell::new(false),
            queued_before: Cell::new((0, 0)),
            timings: RefCell::new(Timings { number: short(id), ..Timings::new(rt::now()) }),
            record: RefCell::default(),
            killed: Cell::new(None),
            resting: Cell::new(false),
            error: Cell::default(),
            waker: Cell::new(None),
            peer: OnceCell::new(),
            folded: None,
            proxied: OnceCell::new(),
            special: RefCell::new(None),
            counters: CountersCell::default(),
        }
    }

    /// The connection of the client; that of a stream carries others too.
    pub(super) fn conn(&self) -> &Transport {
        let mut info = self;
        loop {
            match &info.carrier {
                Carrier::Conn(conn) => return conn,
                Carrier::Stream(connection) => info = connection,
                Carrier::Gone => unreachable!("nobody serves a session that is over"),
            }
        }
    }

    /// The session of the connection that a stream shares.
    pub(super) fn shared(&self) -> Option<&Rc<Info>> {
        match &self.carrier {
            Carrier::Conn(_) | Carrier::Gone => None,
            Carrier::Stream(connection) => Some(connection),
        }
    }

    /// Attempts beyond the first.
    pub(super) fn retries(&self) -> u32 {
        self.retries.get().into()
    }

    pub(super) fn set_retries(&self, retries: u32) {
        self.retries.set(u16::try_from(retries).unwrap_or(u16::MAX));
    }

    /// Ends the session at its next step.
    pub(super) fn kill(&self, why: Kind) {
        self.killed.set(Some(why));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// How it ends if it was ended from outside.
    pub(super) fn killed(&self) -> Option<End> {
        self.killed.get().map(|why| End::new(Side::Proxy, self.phase.get(), why))
    }

    /// Has the task woken when the session is killed or nudged.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        let waker = self.waker.take().filter(|waker| waker.will_wake(cx.waker()));
        self.waker.set(Some(waker.unwrap_or_else(|| cx.waker().clone())));
    }

    /// The same in another generation.
    pub(super) fn renewed(self, core: &Core, bind: ListenerId) -> Info {
        let frontend = core.model.binds[bind].frontend;
        Info { generation: core.live.generation, bind, frontend, ..self }
    }

    /// Forgets the task: it ends, the session does not.
    pub(super) fn forget_task(&self) {
        drop(self.waker.take());
    }

    /// Whether a session without a task has to look around.
    pub(super) fn is_wanted(&self, core: &CoreBase) -> bool {
        self.killed.get().is_some() || core.closing_idle.get()
    }

    /// Lets a session that rests between requests look around.
    pub(super) fn nudge(&self) {
        if self.resting.get()
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    /// Notes a step of the stream in hand.
    pub(super) fn time(&self, note: impl FnOnce(&mut Timings)) {
        note(&mut self.timings.borrow_mut());
    }

    /// Who the client is; asked of the kernel only once something needs it.
    pub(super) fn conn_facts(&self) -> &ConnFacts {
        if let Some(connection) = self.shared() {
            return connection.conn_facts();
        }
        if let Some(facts) = self.proxied.get() {
            return facts;
        }
        self.peer.get_or_init(|| {
            let ask = || (self.conn().peer_addr(), self.conn().local_addr());
            let (src, dst) = self.folded.map_or_else(ask, Pair::addresses);
            Box::new(ConnFacts { src, dst, ..ConnFacts::default() })
        })
    }

    /// Source and destination, without making more of what was folded.
    fn addresses(&self) -> (Addr, Addr) {
        match self.folded {
            Some(pair) if self.proxied.get().is_none() && self.shared().is_none() => pair.addresses(),
            _ => {
                let ConnFacts { src, dst, .. } = *self.conn_facts();
                (src, dst)
            }
        }
    }

    /// Keeps what is known of the peer in less memory, where it fits.
    pub(super) fn fold_peer(&mut self) {
        let Some(facts) = self.peer.take() else { return };
        match Pair::of(&facts) {
            Some(pair) => self.folded = Some(pair),
            None => self.peer = OnceCell::from(facts),
        }
    }

    /// Lets a PROXY header speak for the client. Once a connection.
    pub(super) fn set_proxied(&self, facts: ConnFacts) {
        let set = self.proxied.set(Box::new(facts));
        debug_assert!(set.is_ok(), "a connection has one PROXY header");
    }

    /// As the admin socket and the log show it.
    pub(super) fn row(&self, core: &Core) -> SessionRow {
        let (client, local) = self.addresses();
        SessionRow {
            id: self.id,
            generation: self.generation,
            core: core.id,
            frontend: self.frontend,
            bind: self.bind,
            backend: self.backend.get(),
            server: self.server.get(),
            client,
            local,
            remote: self.server.get().map_or(Addr::Unknown, |server| core.address(server)),
            age_ms: rt::now().ms_since(self.started),
            queue_ms: self.timings.borrow().queue.ms().unwrap_or(0).into(),
            connect_ms: self.timings.borrow().connect.ms().unwrap_or(0).into(),
            retries: self.retries(),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            phase: match self.phase.get() {
                Phase::Inspect => "inspect",
                Phase::Queue => "queue",
                Phase::Connect => "connect",
                Phase::Headers => "headers",
                Phase::Data => "relay",
            },
        }
    }
}

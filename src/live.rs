//! Layer 2, shared mutable facts: what the control core decides about servers and what all cores count together.
//!
//! Three kinds of facts, by who writes them:
//! - the control core writes state (health, administration, weight, address) and then bumps the backend's `epoch`, so that
//!   each core reads it again off its hot path;
//! - data cores write levels that must be exact over all cores: sessions against `maxconn`, and loads that decide
//!   balancing. Only objects whose configuration needs the exact level pay for it;
//! - the queue of a backend is behind a lock that is taken only by sessions that wait and by slots they wait for.
//!
//! A [`Live`] belongs to one generation of the configuration and is indexed by its ids. Facts of objects that stay are the
//! same in the next generation: a session that lives by an older one sees that a server went down, and holds its slot.

mod level;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
#[allow(
    clippy::disallowed_types,
    reason = "the queue: taken only while sessions wait, never by a session that gets its slot"
)]
use std::sync::{Mutex, MutexGuard};

use ahash::AHashMap;

use crate::base::id::{BackendId, CoreId, FrontendId, IdRange, IdVec, ListenerId, ServerId, ServerKey};
use crate::base::shared;
use crate::live::level::NO_LIMIT;
use crate::model::{Model, ServerAddress};
use crate::policy::admission::{Queue, default_fullconn, dynamic_maxconn};
use crate::policy::balance::{Algorithm, ServerView, WEIGHT_SCALE, takes_load};
use crate::stats::counters::Origins;

pub use level::{Level, RateLimit};

/// All shared facts of one model. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Live {
    /// The generation of the configuration, from 1.
    pub generation: u32,
    /// Of the process.
    pub process: Arc<ProcessLive>,
    /// Per frontend.
    pub frontends: Arc<IdVec<FrontendId, Arc<FrontendLive>>>,
    /// Per bind.
    pub binds: Arc<IdVec<ListenerId, Arc<BindLive>>>,
    /// Per backend.
    pub backends: Arc<IdVec<BackendId, Arc<BackendLive>>>,
    /// Per server.
    pub servers: Arc<IdVec<ServerId, Arc<ServerLive>>>,
    /// What balancers read that only a new generation changes.
    fixed: Arc<Fixed>,
}

/// What balancers read of the configuration.
#[derive(Debug)]
struct Fixed {
    /// The servers of a backend, and whether all its backups serve together (`option allbackups`).
    backends: IdVec<BackendId, (IdRange<ServerId>, bool)>,
    /// Whether a server is a backup, and its configured number: what identifies it to consistent hashing.
    servers: IdVec<ServerId, (bool, u32)>,
    /// Backends that have a server with `minconn`.
    counts_assigned: IdVec<BackendId, bool>,
    /// Binds by the key of their sockets.
    binds: AHashMap<u64, ListenerId>,
}

impl Fixed {
    fn new(model: &Model, binds: &IdVec<ListenerId, Arc<BindLive>>) -> Arc<Fixed> {
        Arc::new(Fixed {
            backends: model.backends.values().map(|b| (b.servers, b.allbackups)).collect(),
            servers: model.servers.values().map(|s| (s.backup, s.sid)).collect(),
            counts_assigned: model
                .backends
                .values()
                .map(|b| b.servers.iter().any(|id| model.servers[id].minconn.is_some()))
                .collect(),
            binds: binds.iter().map(|(id, bind)| (bind.key, id)).collect(),
        })
    }
}

/// Facts of the whole process.
#[derive(Debug)]
pub struct ProcessLive {
    /// Client connections against the global `maxconn`.
    pub connections: Level,
    /// New connections of each second (`set rate-limit`).
    pub rate: RateLimit,
    /// TLS connections of clients against `maxsslconn`.
    pub tls_connections: Level,
    /// New TLS connections of each second (`maxsslrate`).
    pub tls_rate: RateLimit,
    /// The process is stopping: no new connections.
    pub stopping: AtomicBool,
    /// Numbers sessions (`show sess`); each core takes a block at a time.
    session_block: AtomicU64,
    /// Names the sockets of binds.
    bind_keys: AtomicU64,
}

/// How many session numbers a core takes at a time: the shared counter is touched once in so many sessions.
pub const SESSION_BLOCK: u64 = 4096;

impl ProcessLive {
    /// The first of [`SESSION_BLOCK`] session numbers that are the caller's alone.
    pub fn take_session_block(&self) -> u64 {
        shared::wrote();
        self.session_block.fetch_add(SESSION_BLOCK, Ordering::Relaxed)
    }
}

/// Facts of a frontend.
#[derive(Debug)]
pub struct FrontendLive {
    /// Connections against `maxconn`.
    pub connections: Level,
    state: AtomicU8,
}

/// Whether the listeners of a frontend accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrontendState {
    /// They do.
    Open,
    /// Not now (`disable frontend`): who comes waits in the kernel.
    Paused,
    /// They were closed (`shutdown frontend`). Only a reload opens others.
    Shut,
}

impl FrontendLive {
    /// Whether its listeners accept.
    pub fn state(&self) -> FrontendState {
        match self.state.load(Ordering::SeqCst) {
            0 => FrontendState::Open,
            1 => FrontendState::Paused,
            _ => FrontendState::Shut,
        }
    }
    /// Changes it, and says what it was. Accept loops look when they are told that there is room.
    pub fn set_state(&self, state: FrontendState) -> FrontendState {
        let before = self.state();
        self.state.store(state as u8, Ordering::SeqCst);
        before
    }
}

/// State of a bind, for statistics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum BindState {
    /// Listens.
    Listening,
    /// Could not be bound; tried again by the control core.
    Waiting,
    /// Closed.
    Closed,
}

/// Facts of a bind.
#[derive(Debug)]
pub struct BindLive {
    /// Names its sockets, whatever its id is in a generation; unique in the process.
    pub key: u64,
    /// Connections against the bind's `maxconn`.
    pub connections: Level,
    state: AtomicU8,
}

impl BindLive {
    /// Its state.
    pub fn state(&self) -> BindState {
        match self.state.load(Ordering::Relaxed) {
            0 => BindState::Listening,
            1 => BindState::Waiting,
            _ => BindState::Closed,
        }
    }
    /// Changes its state.
    pub fn set_state(&self, state: BindState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }
}

/// Facts of a backend.
#[derive(Debug)]
pub struct BackendLive {
    /// Grows when state, weight or address of a server changed: balancers read everything again.
    pub epoch: AtomicU32,
    /// Sessions that wait, in all lines of the queue; read without the lock.
    pub queued: AtomicU32,
    /// Sessions that have this backend, waiting or served; see [`Live::assigned`].
    assigned: Arc<Level>,
    /// Sessions on all servers; counted only where bounded-load hashing needs the sum.
    pub sessions: Level,
    /// How many servers it ever had: the next one's key.
    server_keys: AtomicU32,
    #[allow(clippy::disallowed_types, reason = "see the module's documentation")]
    queue: Mutex<Queue<Waiting>>,
}

/// A session that waits for a slot: where to send the grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// The session's core.
    pub core: CoreId,
    /// Its number among the waiters of that core.
    pub waiter: u64,
    /// The generation that it lives by.
    pub generation: u32,
}

impl BackendLive {
    fn new() -> BackendLive {
        BackendLive {
            epoch: AtomicU32::new(1),
            queued: AtomicU32::new(0),
            assigned: Arc::new(Level::new(None)),
            sessions: Level::new(None),
            server_keys: AtomicU32::new(0),
            #[allow(clippy::disallowed_types, reason = "see the module's documentation")]
            queue: Mutex::new(Queue::new()),
        }
    }

    fn next_key(&self) -> ServerKey {
        ServerKey(self.server_keys.fetch_add(1, Ordering::Relaxed))
    }

    /// The queue. Hold it shortly: no IO, no waiting.
    #[allow(clippy::disallowed_types, reason = "see the module's documentation")]
    pub fn queue(&self) -> MutexGuard<'_, Queue<Waiting>> {
        shared::wrote();
        // A panic while it was held leaves a queue that is consistent between its methods.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an administrator said of a server (`set server state`, `disabled`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum AdminState {
    /// Takes load.
    Ready,
    /// Takes no new load but what persistence sends it.
    Drain,
    /// Takes none, is not checked.
    Maint,
}

/// Facts of a server.
#[derive(Debug)]
pub struct ServerLive {
    /// Sessions over all cores against `maxconn`; counted only if there is a limit or the balancing algorithm needs it,
    /// so that nothing shared is written per request otherwise.
    pub sessions: Level,
    /// Sessions that wait for this server alone.
    pub queued: AtomicU32,
    /// Errors of traffic in a row, where `observe` asks for them.
    pub errors: AtomicU32,
    /// Where its limit begins while the backend is quiet (`minconn`), and at which load of the backend it is reached.
    minconn: AtomicU32,
    fullconn: AtomicU32,
    /// The load of its backend.
    assigned: Arc<Level>,
    track: AtomicBool,
    /// Names it among all servers that its backend ever had.
    pub key: ServerKey,
    /// The first generation that has it.
    since: u32,
    /// The first generation that does not have it any more; it serves older ones as it was then.
    until: AtomicU32,
    up: AtomicBool,
    /// Its check asks for no new load (`disable-on-404`).
    stopping: AtomicBool,
    admin: AtomicU8,
    /// Weight in effect in units of 1/16, slow start included.
    weight: AtomicU32,
    /// Weight that configuration or administrator gave, 0 to 256.
    user_weight: AtomicU32,
    address: RwLock<Option<SocketAddr>>,
}

impl ServerLive {
    /// Takes a place for a session; `None`: the server is full. `Some(true)`: it was counted, so it has to leave.
    pub fn enter(&self) -> Option<bool> {
        if !self.track.load(Ordering::Relaxed) {
            return Some(false);
        }
        self.sessions.try_enter_below(self.limit_now()).then_some(true)
    }
    /// Whether there is a place.
    pub fn has_place(&self) -> bool {
        !self.track.load(Ordering::Relaxed) || self.sessions.get() < self.limit_now()
    }
    /// Its limit at the present load of the backend.
    fn limit_now(&self) -> u32 {
        let maxconn = self.sessions.raw_limit();
        let minconn = self.minconn.load(Ordering::Relaxed);
        if maxconn == NO_LIMIT || minconn == NO_LIMIT {
            return maxconn;
        }
        dynamic_maxconn(minconn, maxconn, self.fullconn.load(Ordering::Relaxed), self.assigned.get())
    }
    /// Sets the limit of sessions; `None` removes it. Sessions that were not counted so far never are: the limit is exact
    /// once they are over.
    pub fn set_maxconn(&self, limit: Option<u32>) {
        self.sessions.set_limit(limit);
        if limit.is_some() {
            self.track.store(true, Ordering::Relaxed);
        }
    }
    /// Whether sessions of a generation know it.
    pub fn is_known_in(&self, generation: u32) -> bool {
        (self.since..self.until.load(Ordering::Relaxed)).contains(&generation)
    }
    /// Whether its checks say that it works.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }
    /// Sets what the checks say.
    pub fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }
    /// Sets whether its checks ask for no new load.
    pub fn set_stopping(&self, stopping: bool) {
        self.stopping.store(stopping, Ordering::Relaxed);
    }
    /// What the administrator said.
    pub fn admin(&self) -> AdminState {
        match self.admin.load(Ordering::Relaxed) {
            0 => AdminState::Ready,
            1 => AdminState::Drain,
            _ => AdminState::Maint,
        }
    }
    /// Sets what the administrator said.
    pub fn set_admin(&self, state: AdminState) {
        self.admin.store(state as u8, Ordering::Relaxed);
    }
    /// Weight in effect, in units of 1/[`WEIGHT_SCALE`].
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }
    /// Sets the weight in effect, in units of 1/[`WEIGHT_SCALE`].
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }
    /// Weight that was asked for, 0 to 256.
    pub fn user_weight(&self) -> u32 {
        self.user_weight.load(Ordering::Relaxed)
    }
    /// Sets the weight that is asked for; the control core derives the weight in effect.
    pub fn set_user_weight(&self, weight: u32) {
        self.user_weight.store(weight, Ordering::Relaxed);
    }
    /// Where it is; `None` while its name does not resolve, and for UNIX sockets. Cores keep a copy per epoch.
    pub fn address(&self) -> Option<SocketAddr> {
        *self.address.read().unwrap_or_else(PoisonError::into_inner)
    }
    /// Sets where it is.
    pub fn set_address(&self, address: Option<SocketAddr>) {
        *self.address.write().unwrap_or_else(PoisonError::into_inner) = address;
    }
    /// Whether it takes new load: up and ready, with an address, and not about to stop.
    pub fn is_usable(&self) -> bool {
        self.is_up() && self.admin() == AdminState::Ready && !self.stopping.load(Ordering::Relaxed)
    }
}

impl Live {
    /// The facts at the start of the first generation. `maxconn`: the process's limit of client connections.
    pub fn new(model: &Model, maxconn: u32) -> Live {
        let process = Arc::new(ProcessLive {
            connections: Level::new(Some(maxconn)),
            rate: RateLimit::default(),
            tls_connections: Level::new(model.global.tls_connections_max),
            tls_rate: RateLimit::default(),
            stopping: AtomicBool::new(false),
            session_block: AtomicU64::new(0),
            bind_keys: AtomicU64::new(0),
        });
        process.rate.set_limit(model.global.rate_max.unwrap_or(0));
        process.tls_rate.set_limit(model.global.tls_rate_max.unwrap_or(0));
        Live::build(model, 1, process, None)
    }

    /// The facts of the next generation: those of the objects that stay, and new ones for the rest. Changes nothing that
    /// anybody sees; [`commit`](Self::commit) does.
    pub fn next(&self, model: &Model, origins: &Origins) -> Live {
        Live::build(model, self.generation + 1, self.process.clone(), Some((self, origins)))
    }

    fn build(
        model: &Model,
        generation: u32,
        process: Arc<ProcessLive>,
        before: Option<(&Live, &Origins)>,
    ) -> Live {
        let frontends = model.frontends.iter().map(|(id, frontend)| {
            let kept = before.and_then(|(live, o)| Some(live.frontends[o.frontends[id]?].clone()));
            kept.unwrap_or_else(|| {
                let state = AtomicU8::new(FrontendState::Open as u8);
                Arc::new(FrontendLive { connections: Level::new(frontend.maxconn), state })
            })
        });
        let binds = model.binds.iter().map(|(id, bind)| {
            let kept = before.and_then(|(live, o)| Some(live.binds[o.listeners[id]?].clone()));
            kept.unwrap_or_else(|| {
                let key = process.bind_keys.fetch_add(1, Ordering::Relaxed);
                let state = AtomicU8::new(BindState::Waiting as u8);
                Arc::new(BindLive { key, connections: Level::new(bind.maxconn), state })
            })
        });
        let backends = model.backends.ids().map(|id| {
            let kept = before.and_then(|(live, o)| Some(live.backends[o.backends[id]?].clone()));
            kept.unwrap_or_else(|| Arc::new(BackendLive::new()))
        });
        let (frontends, binds) = (Arc::new(frontends.collect()), Arc::new(binds.collect()));
        let backends: IdVec<BackendId, _> = backends.collect();
        let servers = model.servers.iter().map(|(id, server)| {
            let kept = before.and_then(|(live, o)| Some(live.servers[o.servers[id]?].clone()));
            kept.unwrap_or_else(|| {
                Arc::new(new_server(model, id, &backends[server.backend], generation, &process))
            })
        });
        let servers = Arc::new(servers.collect());
        let fixed = Fixed::new(model, &binds);
        Live { generation, process, frontends, binds, backends: Arc::new(backends), servers, fixed }
    }

    /// What a switch to this generation changes for everybody: configured values that are others now, and servers that are
    /// gone. Values that were not changed in the configuration stay as they are, and with them what an administrator set.
    pub fn commit(&self, model: &Model, before: (&Live, &Model), origins: &Origins) {
        let (old_live, old) = before;
        for (id, origin) in origins.frontends.iter().filter_map(|(id, o)| Some((id, (*o)?))) {
            if model.frontends[id].maxconn != old.frontends[origin].maxconn {
                self.frontends[id].connections.set_limit(model.frontends[id].maxconn);
            }
            // Its binds are others now.
            if self.frontends[id].state() == FrontendState::Shut {
                self.frontends[id].set_state(FrontendState::Open);
            }
        }
        for (id, origin) in origins.listeners.iter().filter_map(|(id, o)| Some((id, (*o)?))) {
            if model.binds[id].maxconn != old.binds[origin].maxconn {
                self.binds[id].connections.set_limit(model.binds[id].maxconn);
            }
        }
        let mut stays: IdVec<ServerId, bool> = old.servers.ids().map(|_| false).collect();
        for (id, origin) in origins.servers.iter().filter_map(|(id, o)| Some((id, (*o)?))) {
            stays[origin] = true;
            let (server, live) = (&model.servers[id], &self.servers[id]);
            live.minconn.store(server.minconn.unwrap_or(NO_LIMIT), Ordering::Relaxed);
            live.fullconn.store(fullconn(model, server.backend, &self.process), Ordering::Relaxed);
            if needs_level(model, id) {
                self.servers[id].track.store(true, Ordering::Relaxed);
            }
        }
        for (id, _) in stays.iter().filter(|(_, stays)| !**stays) {
            old_live.servers[id].until.store(self.generation, Ordering::Relaxed);
        }
        for id in model.backends.ids() {
            self.changed(id);
        }
    }

    /// The load of a backend; sessions of this generation count in it only if one of its servers has `minconn`.
    pub fn assigned(&self, backend: BackendId) -> Option<&Level> {
        self.fixed.counts_assigned[backend].then(|| &*self.backends[backend].assigned)
    }

    /// The bind whose sockets have this key, if this generation has it.
    pub fn bind_of(&self, key: u64) -> Option<ListenerId> {
        self.fixed.binds.get(&key).copied()
    }

    /// The id of a server in this generation; `None`: it is not in it. Looks through all servers: for rare events alone.
    pub fn find_server(&self, server: &Arc<ServerLive>) -> Option<ServerId> {
        self.servers.iter().find(|(_, known)| Arc::ptr_eq(known, server)).map(|(id, _)| id)
    }

    /// Tells all cores that something about a backend's servers changed.
    pub fn changed(&self, backend: BackendId) {
        self.backends[backend].epoch.fetch_add(1, Ordering::Release);
    }
}

/// What a balancer of one backend sees: shared facts, read without locks.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    live: &'a Live,
    backend: BackendId,
}

impl Live {
    /// The servers of a backend as its balancers see them.
    pub fn view(&self, backend: BackendId) -> View<'_> {
        View { live: self, backend }
    }

    /// Whether a server takes new load now; a backup does when its turn has come.
    pub fn takes_load(&self, backend: BackendId, server: ServerId) -> bool {
        let (servers, allbackups) = self.fixed.backends[backend];
        takes_load(servers, allbackups, server, &self.view(backend))
    }
}

impl ServerView for View<'_> {
    fn usable(&self, id: ServerId) -> bool {
        self.live.servers[id].is_usable()
    }
    fn weight(&self, id: ServerId) -> u32 {
        self.live.servers[id].weight()
    }
    fn backup(&self, id: ServerId) -> bool {
        self.live.fixed.servers[id].0
    }
    fn hash_id(&self, id: ServerId) -> u32 {
        self.live.fixed.servers[id].1
    }
    fn load(&self, id: ServerId) -> u32 {
        let server = &self.live.servers[id];
        server.sessions.get() + server.queued.load(Ordering::Relaxed)
    }
    fn free_slot(&self, id: ServerId) -> bool {
        let server = &self.live.servers[id];
        server.has_place() && server.queued.load(Ordering::Relaxed) == 0
    }
    fn load_total(&self) -> u32 {
        let backend = &self.live.backends[self.backend];
        backend.sessions.get() + backend.queued.load(Ordering::Relaxed)
    }
}

/// Whether the sessions of a server have to be counted over all cores.
fn needs_level(model: &Model, id: ServerId) -> bool {
    let server = &model.servers[id];
    let balance = &model.backends[server.backend].balance;
    let by_load = balance.balance_factor.is_some()
        || match balance.algorithm {
            Algorithm::LeastConn => true,
            Algorithm::Random { draws } => draws > 1,
            Algorithm::RoundRobin | Algorithm::First | Algorithm::Source | Algorithm::Hash => false,
        };
    server.maxconn.is_some() || by_load
}

/// Sessions of a backend at which servers with `minconn` reach their `maxconn`.
fn fullconn(model: &Model, id: BackendId, process: &ProcessLive) -> u32 {
    let process_maxconn = process.connections.limit().unwrap_or(NO_LIMIT);
    model.backends[id].fullconn.unwrap_or_else(|| default_fullconn(u64::from(process_maxconn)))
}

fn new_server(
    model: &Model,
    id: ServerId,
    backend: &BackendLive,
    since: u32,
    process: &ProcessLive,
) -> ServerLive {
    let server = &model.servers[id];
    let (address, resolved) = match &server.address {
        ServerAddress::Ip(address) => (Some(*address), true),
        ServerAddress::Name { .. } => (None, false),
        ServerAddress::Unix(_) | ServerAddress::Abstract(_) => (None, true),
    };
    ServerLive {
        sessions: Level::new(server.maxconn),
        queued: AtomicU32::new(0),
        errors: AtomicU32::new(0),
        minconn: AtomicU32::new(server.minconn.unwrap_or(NO_LIMIT)),
        fullconn: AtomicU32::new(fullconn(model, server.backend, process)),
        assigned: backend.assigned.clone(),
        track: AtomicBool::new(needs_level(model, id)),
        key: backend.next_key(),
        since,
        until: AtomicU32::new(u32::MAX),
        up: AtomicBool::new(resolved),
        stopping: AtomicBool::new(false),
        admin: AtomicU8::new(if server.disabled { AdminState::Maint } else { AdminState::Ready } as u8),
        weight: AtomicU32::new(server.weight * WEIGHT_SCALE),
        user_weight: AtomicU32::new(server.weight),
        address: RwLock::new(address),
    }
}

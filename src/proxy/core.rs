//! Core: what the sessions of one data core share. One thread, so plain cells; nothing here is seen by another core.
//!
//! A `Core` is one generation of the configuration on this core: sessions hold the one they live by, and the last to go
//! takes it along. What outlives generations is the `CoreBase`, which every `Core` leads to.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use ahash::AHashMap;
use slab::Slab;

use crate::base::id::{BackendId, CoreId, IdVec, ListenerId, ServerId};
use crate::base::limits::TIMER_BATCHES_MAX;
use crate::base::net::Addr;
use crate::base::rng::Rng;
use crate::base::time::Now;
use crate::live::{Live, SESSION_BLOCK, ServerLive};
use crate::model::http::Proto;
use crate::model::{Model, ServerAddress, Source};
use crate::policy::balance::{self, Balancer, Tried};
use crate::policy::persist;
use crate::policy::ports::{RouteId, SourcePorts, SourceRange};
use crate::policy::sample::{Scratch, VariableId, VariableScope};
use crate::proxy::auth::Desk;
use crate::proxy::capture;
use crate::proxy::explain::Trace;
use crate::proxy::h2_stream::H2Spare;
use crate::proxy::idle::{PoolId, PoolKey, PoolTarget, Pools};
use crate::proxy::idle_share::Asked;
use crate::proxy::info::Info;
use crate::proxy::log::{LogSetup, LogWriter};
use crate::proxy::lot::Lot;
use crate::proxy::message::{Event, ToControl, ToCore};
use crate::proxy::pad::Pads;
use crate::proxy::password::Passwords;
use crate::proxy::process_variables::ProcessVariables;
use crate::proxy::stick;
use crate::rt::{self, Sender};
use crate::stats::counters::{CoreCells, Shard};
use crate::stats::process::CoreStat;
use crate::stats::timers::{Batch, Lap};
use crate::tls;

/// How long accepting rests when descriptors or memory are short.
pub(super) const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Seeds differ between cores by this; any odd constant would do.
const SEED_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What the cores need to run a generation of the configuration.
#[derive(Debug)]
pub struct Generation {
    /// What to run; each core gets an `Arc` of its own allocation, so that no reference count is shared.
    pub model: Arc<Model>,
    /// Facts shared by all cores; they know the number of the generation.
    pub live: Live,
    /// The counters of all data cores.
    pub shards: Arc<[Shard]>,
    /// The certificates of all TLS binds.
    pub tls: Arc<tls::Store>,
    /// Added to the numbers of sets of log targets: the control core counts those of all generations.
    pub first_log_set: u16,
    /// The threads that check passwords.
    pub passwords: Passwords,
}

/// One generation of the configuration on one data core.
pub(super) struct Core {
    base: Rc<CoreBase>,
    pub(super) model: Arc<Model>,
    pub(super) live: Live,
    pub(super) shards: Arc<[Shard]>,
    /// Made when the first session needs it.
    backends: IdVec<BackendId, RefCell<Option<Backend>>>,
    /// Backends in HTTP mode by name, for names that are made at run time.
    http_backends: OnceCell<AHashMap<Box<str>, BackendId>>,
    /// Variables that live as long as one request.
    pub(super) request_variables: Vec<VariableId>,
    /// Stick tables.
    pub(super) tables: stick::Tables,
    /// Credentials.
    pub(super) desk: Desk,
    /// Variables of the process as this core knows them.
    pub(super) process_variables: ProcessVariables,
    /// What TLS binds answer with; another one after certificates changed.
    pub(super) tls: RefCell<Rc<tls::Binds>>,
    /// How to shake hands with servers that speak TLS.
    pub(super) tls_servers: RefCell<Rc<tls::Servers>>,
    /// Added to the numbers of sets of log targets.
    pub(super) first_log_set: u16,
}

/// What one data core has whatever its configuration is.
pub(super) struct CoreBase {
    pub(super) id: CoreId,
    cores: u32,
    pub(super) peers: Vec<Sender<ToCore>>,
    control: Sender<ToControl>,
    /// The generation that new sessions live by; there from the start on.
    current: RefCell<Option<Rc<Core>>>,
    /// Its number.
    newest: Cell<u32>,
    /// All generations that somebody lives by, the current one last.
    generations: RefCell<Vec<Weak<Core>>>,
    pub(super) ports: RefCell<SourcePorts>,
    pub(super) waiters: RefCell<AHashMap<u64, Waiter>>,
    next_waiter: Cell<u64>,
    pub(super) sessions: RefCell<Slab<Rc<Info>>>,
    /// Memory of what sessions of connections let others know: apart from that of their tasks, which quiet ones give back.
    pub(super) infos: RefCell<rt::Stock<Info>>,
    session_ids: Cell<(u64, u64)>,
    /// No new connections; report when the last session is over.
    pub(super) draining: Cell<bool>,
    /// Memory for streams of clients of HTTP/2.
    pub(super) h2_spare: H2Spare,
    /// Connections on which no request is under way close: the core drains, and the grace is over.
    pub(super) closing_idle: Cell<bool>,
    /// Accept loops; each wakes when a place under a maxconn is free, its frontend is paused, the configuration is another
    /// one, or the core drains.
    room: RefCell<Vec<Waker>>,
    /// Accepting rests until then: descriptors or memory are short.
    pub(super) short_until: Cell<Now>,
    /// Accept loops that run.
    pub(super) acceptors: Cell<usize>,
    /// Their sockets, by the keys of their binds; those of loops that have ended are gone.
    pub(super) listening: RefCell<Vec<(u64, Weak<OwnedFd>)>>,
    pub(super) scratch: RefCell<Scratch>,
    rng: RefCell<Rng>,
    /// Malformed messages that were handed over lately.
    pub(super) captures: Cell<capture::Budget>,
    /// Idle server connections.
    pub(super) pools: RefCell<Pools>,
    /// Memory of requests that are over.
    pub(super) pads: Pads,
    /// HTTP sessions that keep the memory of a busy one.
    pub(super) busy: Cell<usize>,
    /// Quiet connections without a task.
    pub(super) lot: Lot,
    /// What was counted in stick tables is told to the others soon.
    pub(super) stick_due: Cell<bool>,
    /// Questions to other cores about idle connections.
    pub(super) asked: Asked,
    /// Counters that belong to no object of the configuration.
    pub(super) cells: Arc<CoreCells>,
    /// Durations since they were last handed over.
    timers: RefCell<Timers>,
    /// Writes log lines.
    pub(super) log: LogWriter,
    /// What a request that is only explained comes to; never there where traffic is served.
    pub(super) trace: OnceCell<Trace>,
}

/// Durations on their way to the control core.
#[derive(Default)]
struct Timers {
    batch: Batch,
    /// Batches that came back.
    spare: Vec<Batch>,
    /// Batches that are with the control core.
    away: usize,
}

impl Deref for Core {
    type Target = CoreBase;
    fn deref(&self) -> &CoreBase {
        &self.base
    }
}

/// One backend as this core sees it: a balancer and copies of what `live` says, read again when its epoch moves.
struct Backend {
    epoch: u32,
    balancer: Balancer,
    targets: Vec<Target>,
    /// The cookies of its servers.
    cookies: persist::Table,
}

/// Where a server is now, and the source ports towards it.
#[derive(Clone, Copy, Default)]
pub(super) struct Target {
    pub(super) address: Option<SocketAddr>,
    pub(super) route: Option<RouteId>,
    /// Its idle connections.
    pub(super) pool: Option<PoolId>,
}

/// A session of this core that waits for a slot.
#[derive(Default)]
pub(super) struct Waiter {
    /// The slot that arrived: of which server, or "look again".
    pub(super) granted: Option<Option<(Arc<ServerLive>, bool)>>,
    pub(super) waker: Option<Waker>,
}

impl Core {
    fn new(base: &Rc<CoreBase>, generation: Generation, before: Option<&Core>) -> Rc<Core> {
        let Generation { model, live, shards, tls, first_log_set, passwords } = generation;
        // The control core made the same once before.
        let tls_servers = tls::Servers::new(&model, &tls).expect("configurations that were made before");
        let keys = before.map(|core| core.tls.borrow().clone());
        let keys = keys.as_deref();
        let tls = tls::Binds::new(&model, &tls, keys).expect("configurations that were made before");
        Rc::new(Core {
            base: base.clone(),
            backends: model.backends.ids().map(|_| RefCell::default()).collect(),
            http_backends: OnceCell::new(),
            request_variables: request_variables(&model),
            tables: stick::tables(&model, base.peers.len() > 1, before),
            desk: Desk::new(&model, passwords, before.map(|core| &core.desk)),
            process_variables: ProcessVariables::new(
                &model.variables,
                before.map(|core| (&core.process_variables, &core.model.variables)),
            ),
            model,
            live,
            shards,
            tls: RefCell::new(Rc::new(tls)),
            tls_servers: RefCell::new(Rc::new(tls_servers)),
            first_log_set,
        })
    }

    /// What this core has in every generation.
    pub(super) fn base(&self) -> &Rc<CoreBase> {
        &self.base
    }

    /// Shakes hands with other certificates from now on; handshakes under way end with those they began with.
    pub(super) fn renew_certificates(&self, store: &Arc<tls::Store>) {
        let before = self.tls.borrow().clone();
        // The control core made the same once before.
        let binds = tls::Binds::new(&self.model, store, Some(&before));
        let servers = tls::Servers::new(&self.model, store);
        self.tls.replace(Rc::new(binds.expect("configurations that were made before")));
        self.tls_servers.replace(Rc::new(servers.expect("configurations that were made before")));
        // Connections that were made with what is no longer there are left alone.
        for (id, backend) in self.backends.iter() {
            let Some(state) = &mut *backend.borrow_mut() else { continue };
            for (server, target) in self.model.backends[id].servers.iter().zip(&mut state.targets) {
                target.pool = self.pool_of(server, target.address);
            }
        }
    }

    /// Whether there is a newer generation.
    pub(super) fn is_stale(&self) -> bool {
        self.base.newest.get() != self.live.generation
    }

    fn balancer(&self, id: BackendId) -> Balancer {
        let backend = &self.model.backends[id];
        let balance = balance::Setup {
            servers: backend.servers,
            allbackups: backend.allbackups,
            core: self.id,
            cores: self.cores,
            seed: seed(self.id),
        };
        Balancer::new(&backend.balance, balance, &self.live.view(id))
    }

    fn with_backend<R>(&self, id: BackendId, act: impl FnOnce(&mut Backend) -> R) -> R {
        let mut state = self.backends[id].borrow_mut();
        let state = state.get_or_insert_with(|| Backend {
            epoch: 0,
            balancer: self.balancer(id),
            targets: Vec::new(),
            cookies: persist::Table::default(),
        });
        self.refresh(id, state);
        act(state)
    }

    /// The counters of this core.
    pub(super) fn shard(&self) -> &Shard {
        &self.shards[self.id.0 as usize]
    }

    /// Tells the operator.
    pub(super) fn event(&self, event: Event) {
        self.tell(ToControl::Event { generation: self.live.generation, event });
    }

    /// Descriptors or memory are short: accepting rests for a while. Told to the operator once a rest.
    pub(super) fn short_of(&self, error: &std::io::Error) {
        let now = rt::now();
        if now >= self.short_until.get() {
            self.event(Event::Shortage { core: self.id, error: error.to_string() });
        }
        self.short_until.set(now + SHORTAGE_PAUSE);
    }

    /// Counts a duration in microseconds of a server.
    pub(super) fn record_time(&self, server: ServerId, lap: Lap, us: u32) {
        let mut timers = self.timers.borrow_mut();
        if timers.batch.add(self.shard().servers[server].row(), lap, us) {
            self.flush_timers(&mut timers, Sender::send);
        }
    }

    /// A number for a new session, unique in the process.
    pub(super) fn next_session_id(&self) -> u64 {
        let (mut next, mut end) = self.session_ids.get();
        if next == end {
            next = self.live.process.take_session_block();
            end = next + SESSION_BLOCK;
        }
        self.session_ids.set((next + 1, end));
        next + 1
    }

    /// The server for the next session; see [`Balancer::pick`].
    pub(super) fn pick(&self, backend: BackendId, key: Option<u64>, tried: &Tried) -> Pick {
        self.with_backend(backend, |state| match state.balancer.pick(&self.live.view(backend), key, tried) {
            Some(server) => Pick::Server(server),
            None if state.balancer.usable_servers() == 0 => Pick::NoServer,
            None => Pick::Full,
        })
    }

    /// How many servers of a backend take new load.
    pub(super) fn usable_servers(&self, backend: BackendId) -> usize {
        self.with_backend(backend, |state| state.balancer.usable_servers())
    }

    /// Where a server is.
    pub(super) fn target(&self, backend: BackendId, server: ServerId) -> Target {
        let first = self.model.backends[backend].servers.start;
        self.with_backend(backend, |state| state.targets[(server.0 - first.0) as usize])
    }

    /// The address of a server, as others see it.
    pub(super) fn address(&self, server: ServerId) -> Addr {
        let settings = &self.model.servers[server];
        match settings.address {
            ServerAddress::Unix(_) | ServerAddress::Abstract(_) => Addr::Unix,
            _ => self.target(settings.backend, server).address.map_or(Addr::Unknown, Addr::Ip),
        }
    }

    fn refresh(&self, id: BackendId, state: &mut Backend) {
        let epoch = self.live.backends[id].epoch.load(Ordering::Acquire);
        if state.epoch == epoch {
            return;
        }
        state.epoch = epoch;
        state.balancer.resync(&self.live.view(id));
        let mut ports = self.ports.borrow_mut();
        let servers = self.model.backends[id].servers;
        state.targets = servers
            .iter()
            .map(|server| {
                let address = self.live.servers[server].address();
                let sources = &self.model.servers[server].source;
                let route = address.filter(|_| !sources.is_empty()).map(|to| {
                    let sources: Vec<SourceRange> = sources.iter().map(source_range).collect();
                    ports.route(&sources, to)
                });
                let pool = self.pool_of(server, address);
                Target { address, route, pool }
            })
            .collect();
        state.cookies = self.cookies_of(id);
    }
}

fn http_backends(model: &Model) -> AHashMap<Box<str>, BackendId> {
    let http = model.backends.iter().filter(|(_, backend)| backend.http.is_some() && !backend.is_internal());
    http.map(|(id, backend)| (backend.name.as_str().into(), id)).collect()
}

/// Variables of requests, in the order of their ids.
fn request_variables(model: &Model) -> Vec<VariableId> {
    let scopes = model.variables.iter().zip(0_u16..);
    let is_short = |scope| !matches!(scope, VariableScope::Proc | VariableScope::Session);
    scopes.filter(|((_, scope), _)| is_short(*scope)).map(|(_, id)| VariableId(id)).collect()
}

fn source_range(source: &Source) -> SourceRange {
    SourceRange { address: source.address, ports: source.ports }
}

impl Core {
    /// The cookies of a backend's servers: configured, or made of their addresses.
    fn cookies_of(&self, id: BackendId) -> persist::Table {
        let Some(http) = &self.model.backends[id].http else { return persist::Table::default() };
        let key = http.dynamic_cookie_key.as_deref();
        persist::Table::new(self.model.backends[id].servers.iter().filter_map(|server| {
            let fixed = self.model.servers[server].http.cookie.clone();
            let made = || Some(persist::dynamic_cookie(key?, self.live.servers[server].address()?));
            Some((server, fixed.or_else(made)?))
        }))
    }

    /// Looks at the cookies of a backend's servers.
    pub(super) fn with_cookies<R>(&self, id: BackendId, look: impl FnOnce(&persist::Table) -> R) -> R {
        self.with_backend(id, |state| look(&state.cookies))
    }

    /// The backend of a name, if it takes HTTP.
    pub(super) fn http_backend(&self, name: &[u8]) -> Option<BackendId> {
        let name = std::str::from_utf8(name).ok()?;
        self.http_backends.get_or_init(|| http_backends(&self.model)).get(name).copied()
    }

    /// The pool of a server's idle connections, by where they lead. A connection that began with a PROXY header, comes from the
    /// client's address or asked for a name that the client said speaks for one client and is never shared.
    fn pool_of(&self, server: ServerId, address: Option<SocketAddr>) -> Option<PoolId> {
        let settings = &self.model.servers[server];
        let is_personal =
            settings.send_proxy.is_some() || settings.source_is_client || settings.sni.is_some();
        let target = match (&settings.address, address) {
            _ if is_personal => return None,
            // Each client may want to go somewhere else.
            (_, Some(address)) if address.ip().is_unspecified() => return None,
            (ServerAddress::Unix(path), _) => PoolTarget::Unix(path.clone()),
            (ServerAddress::Abstract(name), _) => PoolTarget::Abstract(name.clone()),
            (_, address) => PoolTarget::Ip(address?),
        };
        let source = PoolKey::sources(&settings.source);
        let key = PoolKey {
            target,
            source,
            tcp_user_timeout: settings.tcp_user_timeout,
            is_h2: settings.http.proto == Proto::Http2,
            tls: settings.tls.clone(),
            tls_identity: self.tls_servers.borrow().get(server).map_or(0, |connector| connector.identity()),
        };
        Some(self.pools.borrow_mut().id(key))
    }
}

impl Drop for Core {
    /// Nobody lives by this generation any more. The control core takes it apart: that takes time that sessions would miss.
    fn drop(&mut self) {
        self.base.tell(ToControl::GenerationOver {
            core: self.base.id,
            generation: self.live.generation,
            model: self.model.clone(),
        });
    }
}

fn seed(core: CoreId) -> u64 {
    SEED_STEP.wrapping_mul(u64::from(core.0) + 1)
}

impl CoreBase {
    /// A core that runs its first generation. `peers`: to each data core.
    pub(super) fn start(
        id: CoreId,
        peers: Vec<Sender<ToCore>>,
        control: Sender<ToControl>,
        log: LogSetup,
        first: Generation,
    ) -> Rc<CoreBase> {
        let cores = u32::try_from(peers.len()).unwrap_or(u32::MAX);
        let base = Rc::new(CoreBase {
            id,
            cores,
            peers,
            control,
            current: RefCell::new(None),
            newest: Cell::new(0),
            generations: RefCell::default(),
            ports: RefCell::new(SourcePorts::new(id, cores)),
            waiters: RefCell::default(),
            next_waiter: Cell::new(0),
            sessions: RefCell::default(),
            infos: RefCell::default(),
            session_ids: Cell::new((0, 0)),
            draining: Cell::new(false),
            h2_spare: H2Spare::default(),
            closing_idle: Cell::new(false),
            room: RefCell::default(),
            short_until: Cell::default(),
            acceptors: Cell::new(0),
            listening: RefCell::default(),
            scratch: RefCell::default(),
            rng: RefCell::new(Rng::new(seed(id))),
            captures: Cell::default(),
            pools: RefCell::default(),
            pads: Pads::default(),
            busy: Cell::new(0),
            lot: Lot::default(),
            stick_due: Cell::new(false),
            asked: Asked::default(),
            cells: first.shards[id.0 as usize].core.clone(),
            timers: RefCell::default(),
            log: LogWriter::new(log),
            trace: OnceCell::new(),
        });
        base.switch(first);
        base
    }

    /// New sessions live by this generation from now on, and HTTP sessions from their next request.
    pub(super) fn switch(self: &Rc<Self>, generation: Generation) {
        let (number, held) = (generation.live.generation, rt::alloc::held());
        let core = Core::new(self, generation, self.current.borrow().as_deref());
        {
            let mut generations = self.generations.borrow_mut();
            generations.retain(|generation| generation.strong_count() > 0);
            generations.push(Rc::downgrade(&core));
        }
        // What it replaces is dropped when nothing is borrowed any more: that may be the end of it.
        self.newest.set(core.live.generation);
        let before = self.current.replace(Some(core));
        let bytes = u64::try_from(rt::alloc::held() - held).unwrap_or(0);
        drop(before);
        self.wake_room();
        self.tell(ToControl::Applied { core: self.id, generation: number, bytes });
    }

    /// The generation that new sessions live by.
    pub(super) fn current(&self) -> Rc<Core> {
        self.current.borrow().clone().expect("set when the core starts")
    }

    /// A generation that somebody still lives by.
    pub(super) fn generation(&self, number: u32) -> Option<Rc<Core>> {
        let generations = self.generations.borrow();
        generations.iter().filter_map(Weak::upgrade).find(|core| core.live.generation == number)
    }

    /// All generations that somebody lives by.
    pub(super) fn all(&self) -> Vec<Rc<Core>> {
        self.generations.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// The newest generation that has the bind of these sockets.
    pub(super) fn with_bind(&self, key: u64) -> Option<(Rc<Core>, ListenerId)> {
        let generations = self.generations.borrow();
        let newest_first = generations.iter().rev().filter_map(Weak::upgrade);
        newest_first.filter_map(|core| core.live.bind_of(key).map(|bind| (core.clone(), bind))).next()
    }

    /// The newest generation that has a server, and its id there.
    pub(super) fn with_server(&self, server: &Arc<ServerLive>) -> Option<(Rc<Core>, ServerId)> {
        let generations = self.generations.borrow();
        let newest_first = generations.iter().rev().filter_map(Weak::upgrade);
        newest_first.filter_map(|core| core.live.find_server(server).map(|id| (core.clone(), id))).next()
    }

    /// Tells the control core.
    pub(super) fn tell(&self, message: ToControl) {
        self.control.send(message);
    }

    /// Hands the durations over that were counted.
    pub(super) fn hand_over_times(&self) {
        let mut timers = self.timers.borrow_mut();
        if !timers.batch.is_empty() {
            // They are looked at once a second: nobody is woken for them.
            self.flush_timers(&mut timers, Sender::leave);
        }
    }

    /// A batch that comes back empty.
    pub(super) fn take_back(&self, batch: Batch) {
        let mut timers = self.timers.borrow_mut();
        timers.away = timers.away.saturating_sub(1);
        timers.spare.push(batch);
    }

    fn flush_timers(&self, timers: &mut Timers, send: fn(&Sender<ToControl>, ToControl)) {
        if timers.away >= TIMER_BATCHES_MAX {
            // The control core does not keep up: these are lost rather than memory.
            timers.batch = Batch::default();
            self.cells.count(CoreStat::TimersLost);
            return;
        }
        let fresh = timers.spare.pop().unwrap_or_default();
        timers.away += 1;
        let batch = std::mem::replace(&mut timers.batch, fresh);
        send(&self.control, ToControl::Timers { core: self.id, batch });
    }

    /// A fresh random number.
    pub(super) fn random(&self) -> u64 {
        self.rng.borrow_mut().bits()
    }

    /// Wakes the task at the next change that accept loops care about.
    pub(super) fn wait_for_room(&self, waker: &Waker) {
        let mut room = self.room.borrow_mut();
        if !room.iter().any(|w| w.will_wake(waker)) {
            room.push(waker.clone());
        }
    }

    /// Tells accept loops to look again.
    pub(super) fn wake_room(&self) {
        for waker in self.room.take() {
            waker.wake();
        }
    }

    /// A number for one who waits.
    pub(super) fn next_waiter_id(&self) -> u64 {
        let id = self.next_waiter.get();
        self.next_waiter.set(id + 1);
        id
    }
}

/// What balancing says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pick {
    /// This server.
    Server(ServerId),
    /// All usable servers are full: wait.
    Full,
    /// No server is usable.
    NoServer,
}

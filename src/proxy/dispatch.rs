//! From a backend to a connection to one of its servers: pick, wait for a slot, connect, try again.
//!
//! The decisions are policy's: which server (`balance`), who waits (`admission`), what after a failure (`retry`). This
//! file gathers facts, acts, and counts each attempt where it happens.

use std::rc::Rc;

use crate::base::id::{BackendId, ServerId};
use crate::base::time::Now;
use crate::model::{Backend, Mode};
use crate::policy::balance::{Algorithm, Tried, hash_key, source_key};
use crate::policy::http_action::TimeoutName;
use crate::policy::ports::Ended;
use crate::policy::retry::{self, Attempt, Decision, Failure, Policy, RetryOn};
use crate::policy::sample::FirstBytes;
use crate::proxy::core::{Core, Pick};
use crate::proxy::dial::{self, Dial, Port};
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::exchange::Wanted;
use crate::proxy::facts::Message;
use crate::proxy::log;
use crate::proxy::queue::{self, Slot, Waited};
use crate::proxy::session::Session;
use crate::proxy::timings::{self, Micros};
use crate::rt;
use crate::stats::table::Stat;
use crate::stats::timers::Lap;
use crate::tls::Transport;

/// A connection to a server, with what has to be given back when it is over.
pub(super) struct ServerConn {
    pub(super) conn: Transport,
    pub(super) slot: Slot,
    #[expect(dead_code, reason = "a guard: dropping it counts")]
    assigned: Assigned,
    port: Option<Port>,
}

impl ServerConn {
    /// Notes how it ended; a port is free at once when the server closed first.
    pub(super) fn finish(mut self, end: End) {
        if let Some(port) = &mut self.port
            && end.side == Side::Server
            && matches!(end.kind, Kind::Normal | Kind::Abort)
        {
            port.ended = Ended::Free;
        }
        drop(self);
    }
}

/// The session counts as one of its backend, waiting or connected.
pub(super) struct Assigned {
    core: Rc<Core>,
    backend: BackendId,
}

impl Assigned {
    pub(super) fn new(core: &Rc<Core>, backend: BackendId) -> Assigned {
        let cells = &core.shard().backends[backend];
        cells.count(Stat::SessionsTotal);
        cells.enter(Stat::SessionsCur);
        if let Some(level) = core.live.assigned(backend) {
            level.enter();
        }
        Assigned { core: core.clone(), backend }
    }
}

impl Drop for Assigned {
    fn drop(&mut self) {
        self.core.shard().backends[self.backend].leave(Stat::SessionsCur);
        if let Some(level) = self.core.live.assigned(self.backend) {
            level.leave();
        }
    }
}

/// Finds a server and connects to it.
pub(super) async fn connect(session: &Session, backend: BackendId, first: &[u8]) -> Result<ServerConn, End> {
    let (core, info) = (&session.core, &session.info);
    info.backend.set(Some(backend));
    let settings = &core.model.backends[backend];
    let assigned = Assigned::new(core, backend);
    let policy = Policy {
        retries: settings.retries,
        redispatch: settings.redispatch,
        retry_on: RetryOn::CONN_FAILURE,
        timeout_connect: settings.timeout_connect,
    };
    let key = hash_of(session, settings, first);
    let mut tried = Tried::new();
    let mut slot = remembered_slot(session, backend, first).await?;
    loop {
        let taken = match slot.take() {
            Some(slot) => slot,
            None => take_slot(session, backend, key, &tried).await?,
        };
        let server = taken.server;
        info.server.set(Some(server));
        let started = rt::now();
        info.phase.set(Phase::Connect);
        let result = Dial::of(session, settings, backend, server, first).run().await;
        info.time(|t| t.connected(started, rt::now()));
        let failure = match result {
            Ok((conn, port)) => {
                dial::made(core, backend, server, started);
                connected(session, server, started);
                session.stick_store(server);
                return Ok(ServerConn { conn, slot: taken, assigned, port });
            }
            Err(failure) => failure,
        };
        tried.insert(server);
        let other = core.usable_servers(backend) > 1;
        let facts = Attempt {
            takes_turns: settings.balance.algorithm == Algorithm::RoundRobin,
            ..Attempt::tcp(info.retries(), failure, other)
        };
        let cells = (&core.shard().backends[backend], &core.shard().servers[server]);
        match retry::decide(&policy, &facts) {
            Decision::GiveUp => return Err(given_up(failure)),
            Decision::Retry { delay } => {
                cells.0.count(Stat::Retries);
                cells.1.count(Stat::Retries);
                rt::sleep_until(rt::now() + delay).await;
                slot = core.live.servers[server].is_usable().then_some(taken);
            }
            Decision::Redispatch | Decision::Refresh => {
                cells.0.count(Stat::Retries);
                cells.1.count(Stat::Retries);
                redispatched(session, backend, server);
                drop(taken);
            }
        }
        info.set_retries(info.retries() + 1);
    }
}

/// A slot of the server that persistence by table knows, if it is up.
async fn remembered_slot(session: &Session, backend: BackendId, first: &[u8]) -> Result<Option<Slot>, End> {
    let settings = &session.core.model.backends[backend];
    if settings.stick.is_empty() {
        return Ok(None);
    }
    let seen = FirstBytes { data: first, complete: true };
    let known = session.stick_request(backend, (seen, Message::default()), false);
    let Some(server) = known.filter(|server| takes_persistent(session, *server)) else { return Ok(None) };
    if let Some(slot) = Slot::try_take(&session.core, backend, server) {
        return Ok(Some(slot));
    }
    let deadline = settings.timeout_queue.map(|t| rt::now() + t);
    session.info.phase.set(Phase::Queue);
    Box::pin(queue_for(session, backend, Wanted { server, force: false }, deadline)).await
}

/// Notes that a session leaves the server that it was meant for.
pub(super) fn redispatched(session: &Session, backend: BackendId, server: ServerId) {
    session.info.redispatched.set(true);
    log::on_redispatch(session);
    let shard = session.core.shard();
    shard.backends[backend].count(Stat::Redispatches);
    shard.servers[server].count(Stat::Redispatches);
}

/// Drained servers keep the clients that persistence sends them.
pub(super) fn takes_persistent(session: &Session, server: ServerId) -> bool {
    let live = &session.core.live.servers[server];
    live.is_up() && live.admin() != crate::live::AdminState::Maint
}

pub(super) fn given_up(failure: Failure) -> End {
    let kind = match failure {
        Failure::ConnectTimeout => Kind::Timeout,
        Failure::NoSourcePort => Kind::NoSourcePort,
        Failure::NoResources => Kind::Resource,
        _ => Kind::Abort,
    };
    End::new(Side::Server, Phase::Connect, kind)
}

/// Notes that the session has the connection that was made for it.
pub(super) fn connected(session: &Session, server: ServerId, started: Now) {
    timings::record(session, server, Lap::Connect, Micros::between(started, rt::now()));
    session.core.shard().servers[server].count(Stat::SessionsTotal);
    session.info.time(|t| t.is_connected = true);
}

/// A slot of the server that balancing chooses, if one is free now.
pub(super) fn try_slot(
    session: &Session,
    backend: BackendId,
    key: Option<u64>,
    tried: &Tried,
) -> Option<Slot> {
    let Pick::Server(server) = session.core.pick(backend, key, tried) else { return None };
    let slot = Slot::try_take(&session.core, backend, server)?;
    balanced(session, backend, &slot, None);
    Some(slot)
}

/// Waits for a slot of one server; `None`: it is gone, or its queue is full and another will do: balance instead.
pub(super) async fn queue_for(
    session: &Session,
    backend: BackendId,
    wanted: Wanted,
    deadline: Option<Now>,
) -> Result<Option<Slot>, End> {
    let Wanted { server, force } = wanted;
    let priority = session.priority();
    let ask = queue::Ask { backend, server: Some(server), deadline, priority };
    let settings = &session.core.model.backends[backend];
    session.info.phase.set(Phase::Queue);
    session.info.server.set(Some(server));
    let queueing = Queueing { session, since: rt::now() };
    let outcome =
        rt::select(queue::wait(&session.core, ask, placed(session, true)), left(session, settings)).await;
    drop(queueing);
    let outcome = match outcome {
        rt::Either::First(outcome) => outcome,
        rt::Either::Second(end) => return Err(end),
    };
    match outcome {
        Waited::Slot(slot) => Ok(Some(slot)),
        Waited::Again => {
            session.info.server.set(None);
            Ok(None)
        }
        Waited::Timeout => Err(End::new(Side::Server, Phase::Queue, Kind::Timeout)),
        Waited::Full if retry::leaves_full_queue(settings.redispatch, force) => {
            redispatched(session, backend, server);
            session.info.server.set(None);
            Ok(None)
        }
        Waited::Full => Err(End::new(Side::Proxy, Phase::Queue, Kind::QueueFull)),
    }
}

/// A session that waits. However it stops, also by a client that leaves, the time counts.
struct Queueing<'a> {
    session: &'a Session,
    since: Now,
}

impl Drop for Queueing<'_> {
    fn drop(&mut self) {
        self.session.info.time(|t| t.queued(self.since, rt::now()));
    }
}

/// Notes the place in the queue of a server or of the backend, as logs tell it (`%sq`, `%bq`).
fn placed(session: &Session, of_server: bool) -> impl FnOnce(u32) {
    move |place| {
        let (server, backend) = session.info.queued_before.get();
        let places = if of_server { (server + place, backend) } else { (server, backend + place) };
        session.info.queued_before.set(places);
    }
}

/// Waits until the client has left: a client that half-closed still wants its answer, unless `abortonclose` says otherwise;
/// one that is gone gives its place up.
pub(super) async fn left(session: &Session, settings: &Backend) -> End {
    let conn = session.info.conn();
    // The half-close of a connection with many streams says nothing about one of them.
    let half = settings.abort_on_close && session.info.shared().is_none();
    let is_tcp = session.frontend().mode == Mode::Tcp;
    let hangup = match half {
        true => conn.half_closed().await.unwrap_or(rt::Hangup::Reset),
        false => {
            let _ = conn.closed().await;
            // Our own direction is open still: it was no close.
            if is_tcp { rt::Hangup::Reset } else { rt::Hangup::Closed }
        }
    };
    let end = End::new(Side::Client, session.info.phase.get(), Kind::Abort);
    if hangup == rt::Hangup::Reset { end.by_reset(is_tcp) } else { end }
}

/// A slot of the server that balancing chooses; waits in the queue where all are taken.
pub(super) async fn take_slot(
    session: &Session,
    backend: BackendId,
    key: Option<u64>,
    tried: &Tried,
) -> Result<Slot, End> {
    let (core, info) = (&session.core, &session.info);
    let settings = &core.model.backends[backend];
    let started = rt::now();
    let timeout = session.timeout(TimeoutName::Queue, settings.timeout_queue);
    let deadline = timeout.map(|t| started + t);
    let place = |server| queue::Ask { backend, server, deadline, priority: session.priority() };
    let mut waited = false;
    loop {
        let wanted = match core.pick(backend, key, tried) {
            Pick::NoServer => return Err(End::new(Side::Server, Phase::Queue, Kind::NoServer)),
            Pick::Full => None,
            Pick::Server(server) => {
                if let Some(slot) = Slot::try_take(core, backend, server) {
                    balanced(session, backend, &slot, waited.then_some(started));
                    return Ok(slot);
                }
                // Hashing wants this server and no other; the rest lost a race for the last slot and wait for any.
                key.map(|_| server)
            }
        };
        waited = true;
        info.phase.set(Phase::Queue);
        info.server.set(wanted);
        let queueing = Queueing { session, since: rt::now() };
        let outcome = rt::select(
            queue::wait(core, place(wanted), placed(session, wanted.is_some())),
            left(session, settings),
        )
        .await;
        drop(queueing);
        let outcome = match outcome {
            rt::Either::First(outcome) => outcome,
            rt::Either::Second(end) => return Err(end),
        };
        match outcome {
            Waited::Slot(slot) => {
                balanced(session, backend, &slot, Some(started));
                return Ok(slot);
            }
            Waited::Again => {}
            Waited::Timeout => return Err(End::new(Side::Server, Phase::Queue, Kind::Timeout)),
            Waited::Full => return Err(End::new(Side::Proxy, Phase::Queue, Kind::QueueFull)),
        }
    }
}

/// Counts a balancing decision and the time it waited.
fn balanced(session: &Session, backend: BackendId, slot: &Slot, waited_since: Option<Now>) {
    let shard = session.core.shard();
    let (b, s) = (&shard.backends[backend], &shard.servers[slot.server]);
    b.count(Stat::LoadBalanced);
    s.count(Stat::LoadBalanced);
    let now = rt::now();
    let waited = Micros::between(waited_since.unwrap_or(now), now);
    if waited_since.is_none() {
        session.info.time(|t| t.queued(now, now));
    }
    timings::record(session, slot.server, Lap::Queue, waited);
    let us = waited.us().unwrap_or(0).into();
    b.time(Stat::QueueTime, us);
    s.time(Stat::QueueTime, us);
}

/// The key of the hashing algorithms.
pub(super) fn hash_of(session: &Session, settings: &Backend, first: &[u8]) -> Option<u64> {
    let hash_type = settings.balance.hash_type;
    match settings.balance.algorithm {
        Algorithm::Source => {
            let ip = session.with_conn(|facts| facts.src.ip())?;
            Some(source_key(ip, hash_type))
        }
        Algorithm::Hash => {
            let expr = settings.hash_key.as_ref()?;
            let seen = FirstBytes { data: first, complete: true };
            let variables = session.variables.borrow();
            let mut scratch = session.core.scratch.borrow_mut();
            let bytes = crate::proxy::facts::bytes_of(&session.facts(&variables, seen), expr, &mut scratch)?;
            Some(hash_key(&bytes, hash_type))
        }
        _ => None,
    }
}

//! Idle server connections of one core, by where they lead: resolved address, source and what else makes connections
//! different, never a configured name. Backends that share a target share its connections.
//!
//! An idle connection keeps a receive armed: if the server closes it or says something unasked, that is known before it
//! is used again, without a further operation.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;

use crate::base::id::ServerId;
use crate::base::limits::IDLE_PER_POOL_MAX;
use crate::base::time::Now;
use crate::model::Source;
use crate::model::tls::ServerTls;
use crate::proxy::core::{Core, CoreBase};
use crate::proxy::dial::Port;
use crate::proxy::forward::{self, Link, Sink};
use crate::proxy::h2_stream::Lent;
use crate::proxy::idle_wait::Line;
use crate::proxy::server_h2::{self, Opening, ServerStream, Shared};
use crate::rt;
use crate::stats::counters::ServerCells;
use crate::stats::process::CoreStat;
use crate::stats::table::Stat;
use crate::tls::Transport;

/// How often idle connections are looked through that nobody needed, at the most.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What an exchange with a server goes over. Fields in order of their drop: operations before the connection.
pub(super) struct Upstream {
    pub(super) link: Link,
    pub(super) wire: Wire,
    #[expect(dead_code, reason = "a guard: dropping it gives the port back")]
    pub(super) port: Option<Port>,
    /// Where it leads, whatever address its server has by now. `None`: it is for one client, or a stream.
    pub(super) pool: Option<PoolId>,
    /// The server that it is used for, or was last, in the generation of that session.
    pub(super) server: ServerId,
    /// The server whose idle connection it counts as: the one that it was opened for. `None`: it is a stream of a connection
    /// that others share.
    pub(super) opener: Option<Arc<ServerCells>>,
    /// Requests that were sent over it.
    pub(super) uses: u32,
}

/// How a server is reached.
pub(super) enum Wire {
    /// By a connection of HTTP/1, which is ours alone.
    Conn(Transport),
    /// By a stream of HTTP/2; the link's input holds the head of its response.
    Stream(Lent<ServerStream>),
}

impl Upstream {
    /// The connection, in HTTP/1.
    pub(super) fn conn(&self) -> Option<&Transport> {
        match &self.wire {
            Wire::Conn(conn) => Some(conn),
            Wire::Stream(_) => None,
        }
    }

    /// Where the body of the response comes from.
    pub(super) fn source(&mut self) -> Option<forward::Source<'_>> {
        match &mut self.wire {
            Wire::Conn(conn) => Some(forward::Source::Conn(conn, &mut self.link)),
            Wire::Stream(stream) => stream.incoming.as_mut().map(forward::Source::Stream),
        }
    }

    /// Where the body of the request goes.
    pub(super) fn sink(&mut self) -> Option<Sink<'_>> {
        match &mut self.wire {
            Wire::Conn(conn) => Some(Sink::Conn(conn, &mut self.link.sending)),
            Wire::Stream(stream) => stream.outgoing.as_mut().map(Sink::Stream),
        }
    }

    /// Whether bytes of the request wait for room in the window of a stream.
    pub(super) fn holds_body(&self) -> bool {
        match &self.wire {
            Wire::Conn(_) => false,
            Wire::Stream(stream) => stream.outgoing.as_ref().is_some_and(|outgoing| !outgoing.is_over()),
        }
    }

    /// Whether nothing arrived while it was idle. What did makes it useless: an end, an error, or bytes nobody asked for.
    pub(super) fn is_quiet(&mut self) -> bool {
        match &self.wire {
            Wire::Conn(conn) => self.link.input.is_empty() && self.link.recv.is_quiet(conn),
            Wire::Stream(_) => false,
        }
    }
}

/// Where connections lead.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct PoolKey {
    pub(super) target: PoolTarget,
    pub(super) source: Vec<(std::net::IpAddr, Option<(u16, u16)>)>,
    pub(super) tcp_user_timeout: Option<Duration>,
    /// HTTP/2 by prior knowledge.
    pub(super) is_h2: bool,
    /// What was verified, with whose certificate.
    pub(super) tls: Option<Box<ServerTls>>,
    /// What stood in the files that it names: with other authorities servers are verified again.
    pub(super) tls_identity: u64,
}

impl PoolKey {
    pub(super) fn sources(source: &[Source]) -> Vec<(std::net::IpAddr, Option<(u16, u16)>)> {
        source.iter().map(|s| (s.address, s.ports)).collect()
    }
}

/// The address of a pool.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum PoolTarget {
    Ip(SocketAddr),
    Unix(PathBuf),
    Abstract(String),
}

/// Names a pool of this core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PoolId(u32);

/// The pools of a core.
#[derive(Default)]
pub(super) struct Pools {
    index: AHashMap<Arc<PoolKey>, PoolId>,
    pools: Vec<Pool>,
}

struct Pool {
    key: Arc<PoolKey>,
    /// The one used last is used first: those at the front are the ones nobody needs.
    idle: Vec<Upstream>,
    /// The fewest that were idle since the last purge: so many were not needed.
    spare: usize,
    purge_at: Now,
    /// Connections of HTTP/2.
    shared: Vec<Rc<Shared>>,
    /// Those on their way.
    opening: Vec<Rc<Opening>>,
    /// Requests that wait for any of them.
    line: Line,
    /// As the last server that used it has it.
    purge_delay: Duration,
}

/// What becomes of connections that nobody needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    /// Idle connections at most.
    pub(super) max: usize,
    /// How often half of those that were not needed are closed.
    pub(super) purge_delay: Duration,
}

impl Keep {
    /// What a server's settings say. A core keeps its share of `pool-max-conn`.
    pub(super) fn of(core: &Core, server: ServerId) -> Keep {
        let settings = &core.model.servers[server].http;
        let max = settings.pool_max_conn.map_or(usize::MAX, |max| (max as usize).div_ceil(core.shards.len()));
        Keep { max, purge_delay: settings.pool_purge_delay }
    }
}

impl Pools {
    /// What the connections of a pool have in common, for people.
    pub(super) fn describe(&self, pool: PoolId) -> Option<String> {
        let (key, _) = self.index.iter().find(|(_, id)| **id == pool)?;
        let mut text = match &key.target {
            PoolTarget::Ip(address) => address.to_string(),
            PoolTarget::Unix(path) => path.display().to_string(),
            PoolTarget::Abstract(name) => format!("abns@{name}"),
        };
        for (address, ports) in &key.source {
            text.push_str(&format!(" from {address}"));
            if let Some((first, last)) = ports {
                text.push_str(&format!(":{first}-{last}"));
            }
        }
        if key.is_h2 {
            text.push_str(", HTTP/2");
        }
        Some(text)
    }

    /// The pool of a key.
    pub(super) fn id(&mut self, key: PoolKey) -> PoolId {
        if let Some(id) = self.find(&key) {
            return id;
        }
        let id = PoolId(u32::try_from(self.pools.len()).unwrap_or(u32::MAX));
        let key = Arc::new(key);
        self.index.insert(key.clone(), id);
        self.pools.push(Pool {
            key,
            idle: Vec::new(),
            spare: 0,
            purge_at: Now::default(),
            shared: Vec::new(),
            opening: Vec::new(),
            line: Line::default(),
            purge_delay: Duration::ZERO,
        });
        id
    }

    /// The pool of a key, if this core has it.
    pub(super) fn find(&self, key: &PoolKey) -> Option<PoolId> {
        self.index.get(key).copied()
    }

    /// Where the connections of a pool lead.
    pub(super) fn key(&self, id: PoolId) -> &Arc<PoolKey> {
        &self.pools[id.0 as usize].key
    }

    /// A connection of HTTP/2 that satisfies; the one opened first, so that later ones fall out of use.
    pub(super) fn shared(&mut self, id: PoolId, fits: impl Fn(&Shared) -> bool) -> Option<Rc<Shared>> {
        self.pool(id).shared.iter().find(|shared| fits(shared)).cloned()
    }

    /// Takes a connection of HTTP/2.
    pub(super) fn share(&mut self, id: PoolId, shared: Rc<Shared>) {
        self.pool(id).shared.push(shared);
    }

    /// Connections of HTTP/2 that are being opened.
    pub(super) fn opening(&mut self, id: PoolId) -> &mut Vec<Rc<Opening>> {
        &mut self.pool(id).opening
    }

    /// All of them.
    pub(super) fn all_shared(&self, id: PoolId) -> &[Rc<Shared>] {
        &self.pools[id.0 as usize].shared
    }

    /// Requests that wait.
    pub(super) fn line(&mut self, id: PoolId) -> &mut Line {
        &mut self.pool(id).line
    }

    fn pool(&mut self, id: PoolId) -> &mut Pool {
        &mut self.pools[id.0 as usize]
    }
}

/// Takes an idle connection that served at least `uses_min` requests into `place`, if there is one.
pub(super) fn take(core: &CoreBase, id: PoolId, uses_min: u32, place: &mut Option<Upstream>) {
    let mut pools = core.pools.borrow_mut();
    let pool = pools.pool(id);
    while let Some(at) = pool.idle.iter().rposition(|up| up.uses >= uses_min) {
        let up = place.insert(pool.idle.remove(at));
        pool.spare = pool.spare.min(pool.idle.len());
        if let Some(opener) = &up.opener {
            opener.leave(Stat::IdleConnections);
        }
        core.cells.leave(CoreStat::ServerConnections);
        if up.is_quiet() {
            return;
        }
        *place = None;
    }
}

/// Gives a connection to the request that waits longest, or keeps it for the next one, unless there are enough.
pub(super) fn put(core: &CoreBase, id: PoolId, up: Upstream, keep: Keep) {
    put_from(core, id, &mut Some(up), keep);
}

/// The same with the connection in `place`, which stays there if it is not kept.
pub(super) fn put_from(core: &CoreBase, id: PoolId, place: &mut Option<Upstream>, keep: Keep) {
    let Some(up) = place else { return };
    let Wire::Conn(conn) = &up.wire else { return };
    up.link.recv.arm(conn);
    let mut pools = core.pools.borrow_mut();
    let pool = pools.pool(id);
    if !pool.line.is_empty() {
        *place = place.take().and_then(|up| pool.line.hand(up));
    }
    let Some(up) = place else { return };
    if pool.idle.len() >= keep.max.min(IDLE_PER_POOL_MAX) || core.draining.get() {
        return;
    }
    pool.purge_delay = keep.purge_delay;
    if pool.idle.is_empty() {
        pool.spare = 0;
        pool.purge_at = rt::now() + keep.purge_delay;
    }
    if let Some(opener) = &up.opener {
        opener.enter(Stat::IdleConnections);
    }
    core.cells.enter(CoreStat::ServerConnections);
    pool.idle.extend(place.take());
}

/// Closes idle connections that their servers closed, and from time to time half of those that nobody needed. Returns when it has
/// to be done again if nothing happens until then.
pub(super) fn sweep(core: &CoreBase) -> Option<Now> {
    let now = rt::now();
    let (mut gone, mut next) = (Vec::new(), None::<Now>);
    for pool in &mut core.pools.borrow_mut().pools {
        let mut at = 0;
        while let Some(up) = pool.idle.get_mut(at) {
            if !core.draining.get() && up.is_quiet() {
                at += 1;
            } else {
                gone.push(pool.idle.remove(at));
            }
        }
        pool.spare = pool.spare.min(pool.idle.len());
        let mut one = server_h2::is_short(&pool.shared, |shared| !shared.is_quiet());
        pool.shared.retain(|shared| !shared.is_over() && (!shared.is_spare(now) || std::mem::take(&mut one)));
        if now >= pool.purge_at {
            gone.extend(pool.idle.drain(..pool.spare.div_ceil(2)));
            pool.spare = pool.idle.len();
            pool.purge_at = now + pool.purge_delay.max(SWEEP_EVERY);
        }
        let spare = pool.shared.iter().filter_map(|shared| shared.spare_at());
        let due = spare.chain((!pool.idle.is_empty()).then_some(pool.purge_at)).min();
        next = next.into_iter().chain(due).min();
    }
    for up in gone {
        if let Some(opener) = &up.opener {
            opener.leave(Stat::IdleConnections);
        }
        core.cells.leave(CoreStat::ServerConnections);
    }
    next.map(|next| next.max(now + SWEEP_EVERY))
}

//! Which server gets the next session. One file an algorithm; this one holds the words, the contract and the choice
//! between them. Each core has its own `Balancer` of each backend; `proxy::dispatch` calls it.
//!
//! A `Balancer` remembers which servers may get new load and their weights. Whoever changes those facts raises
//! `live.epoch`; the core that sees a new epoch calls [`Balancer::resync`]. [`Balancer::pick`] asks the view only for what
//! changes all the time: load and free slots. It never allocates.

mod first;
mod hash;
mod key;
mod least_conn;
mod map;
mod pool;
mod random;
mod ring;
mod round_robin;

use smallvec::SmallVec;

use crate::base::id::{CoreId, IdRange, ServerId};
use crate::base::rng::Rng;

pub(crate) use hash::mix;
pub use hash::{hash_key, key_from_hash, source_key};
pub use key::{KeySource, UriKey, uri_bytes, url_param};
use least_conn::LeastConn;
use map::Map;
use pool::Pool;
pub use pool::takes_load;
use ring::Ring;
use round_robin::RoundRobin;

/// How a backend distributes its load (`balance`, `hash-type`, `hash-balance-factor`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// How a key becomes a server, for the hashing algorithms.
    pub hash_type: HashType,
    /// Bounded load: no server gets more than this percentage of the average load (`hash-balance-factor`, at least 101).
    pub balance_factor: Option<u32>,
}

/// `balance`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// Smooth weighted round robin.
    RoundRobin,
    /// The server with the lowest load for its weight.
    LeastConn,
    /// The first server, in order, with a free slot.
    First,
    /// Hash of the client's address.
    Source,
    /// The least loaded of `draws` servers drawn at random by weight.
    Random {
        /// How many servers are drawn, at least 1.
        draws: u32,
    },
    /// Hash of an expression that the caller evaluates.
    Hash,
}

/// `hash-type`: method, function and modifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashType {
    /// Map-based (a table of slots) or consistent (a ring).
    pub method: HashMethod,
    /// The hash function over the key's bytes.
    pub function: HashFunction,
    /// Whether the hash is mixed once more (`avalanche`). HAProxy does so by itself for `hash-type consistent` without a
    /// function.
    pub avalanche: bool,
}

/// The method of `hash-type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashMethod {
    /// `map-based`: exact shares; a server that comes or goes moves most keys.
    MapBased,
    /// `consistent`: a server that comes or goes moves only its own keys.
    Consistent,
}

/// The function of `hash-type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashFunction {
    /// `sdbm`, HAProxy's default.
    Sdbm,
    /// `djb2`.
    Djb2,
    /// `wt6`.
    Wt6,
    /// `crc32`.
    Crc32,
    /// `none`: the key is an integer already.
    None,
}

/// The unit of [`ServerView::weight`]: a configured weight of 1 is this many. HAProxy scales the same way, so that
/// `slowstart` has steps below a weight of 1 and the consistent ring has enough points.
pub const WEIGHT_SCALE: u32 = 16;

/// What a balancer sees of the servers. In production it reads `live`, in tests an array. Only asked about servers of
/// the balancer's own range.
pub trait ServerView {
    /// Whether the server takes new load at all: up, not drained, not in maintenance. Read by `resync`.
    fn usable(&self, id: ServerId) -> bool;
    /// Effective weight in units of 1/[`WEIGHT_SCALE`], slow start included; 0 drains. Read by `resync`.
    fn weight(&self, id: ServerId) -> u32;
    /// Whether the server is a backup. Read by `resync`.
    fn backup(&self, id: ServerId) -> bool;
    /// What identifies the server on the consistent ring, unique in its backend: its configured `id`, so that a server
    /// keeps its keys when others are added or removed around it. Read by `resync`.
    fn hash_id(&self, id: ServerId) -> u32;
    /// Sessions that use the server or wait for it, over all cores. Read by `pick`.
    fn load(&self, id: ServerId) -> u32;
    /// Whether the server can start one more session now: below `maxconn` and nobody queued for it. Read by `pick`.
    fn free_slot(&self, id: ServerId) -> bool;
    /// Sessions that use or wait for any server of the backend, over all cores. Read by `pick`, only with
    /// `hash-balance-factor`.
    fn load_total(&self) -> u32;
}

/// Servers that this stream has tried already. They are picked again only when nothing else is left. Four fit without
/// an allocation, which is one more than the default `retries`.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    servers: SmallVec<[ServerId; 4]>,
}

impl Tried {
    /// Nothing tried yet.
    pub fn new() -> Self {
        Self::default()
    }
    /// Remembers a server; a second time changes nothing.
    pub fn insert(&mut self, id: ServerId) {
        if !self.contains(id) {
            self.servers.push(id);
        }
    }
    /// Whether the server was tried.
    pub fn contains(&self, id: ServerId) -> bool {
        self.servers.contains(&id)
    }
    /// Whether nothing was tried.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }
}

/// Which balancer this is: of which servers, on which core.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The servers of the backend.
    pub servers: IdRange<ServerId>,
    /// All backup servers share the load once no other is usable (`option allbackups`); else the first alone.
    pub allbackups: bool,
    /// This core.
    pub core: CoreId,
    /// How many data cores there are. Cursors start at different places, so that N cold cores do not all send their
    /// first session to the first server.
    pub cores: u32,
    /// Seed of `random`; give each core its own.
    pub seed: u64,
}

/// Distributes the sessions of one backend on one core.
#[derive(Clone, Debug)]
pub struct Balancer {
    setup: Setup,
    balance_factor: Option<u32>,
    pool: Pool,
    /// The algorithm, and what the hashing ones use when a request has no key (as HAProxy does).
    round_robin: RoundRobin,
    chooser: Chooser,
}

#[derive(Clone, Debug)]
enum Chooser {
    RoundRobin,
    LeastConn(LeastConn),
    First,
    Random { draws: u32, rng: Rng },
    Map(Map),
    Ring(Ring),
}

impl Balancer {
    /// Makes a balancer and reads the view for the first time.
    pub fn new(spec: &Spec, setup: Setup, view: &impl ServerView) -> Self {
        let chooser = match (spec.algorithm, spec.hash_type.method) {
            (Algorithm::RoundRobin, _) => Chooser::RoundRobin,
            (Algorithm::LeastConn, _) => Chooser::LeastConn(LeastConn::default()),
            (Algorithm::First, _) => Chooser::First,
            (Algorithm::Random { draws }, _) => Chooser::Random { draws, rng: Rng::new(setup.seed) },
            (Algorithm::Source | Algorithm::Hash, HashMethod::MapBased) => Chooser::Map(Map::default()),
            (Algorithm::Source | Algorithm::Hash, HashMethod::Consistent) => Chooser::Ring(Ring::default()),
        };
        let mut balancer = Balancer {
            setup,
            balance_factor: spec.balance_factor,
            pool: Pool::default(),
            round_robin: RoundRobin::default(),
            chooser,
        };
        balancer.resync(view);
        balancer
    }

    /// Reads again which servers are usable and their weights. Off the hot path; allocates.
    pub fn resync(&mut self, view: &impl ServerView) {
        self.pool = Pool::read(&self.setup, view);
        let phase = u64::from(self.setup.core.0 % self.setup.cores.max(1));
        self.round_robin.rebuild(&self.pool, phase, u64::from(self.setup.cores.max(1)));
        match &mut self.chooser {
            Chooser::LeastConn(c) => c.rebuild(&self.pool, phase, u64::from(self.setup.cores.max(1))),
            Chooser::Map(c) => c.rebuild(&self.pool, &self.setup, view),
            Chooser::Ring(c) => c.rebuild(&self.pool, view),
            Chooser::RoundRobin | Chooser::First | Chooser::Random { .. } => {}
        }
    }

    /// How many servers take new load now. When it is 0, `pick` gives `None` for lack of servers; otherwise `None`
    /// means that all of them are full and the session waits in the queue of the backend.
    pub fn usable_servers(&self) -> usize {
        self.pool.len()
    }

    /// The sum of their weights, in units of 1/[`WEIGHT_SCALE`] (`weight` of a backend in `show stat`).
    pub fn total_weight(&self) -> u64 {
        self.pool.total
    }

    /// The server for the next session, or `None` (see [`usable_servers`](Self::usable_servers)).
    ///
    /// `key` is the hash of what the algorithm hashes ([`hash_key`], [`source_key`]) and ignored by the others; without a
    /// key the hashing algorithms fall back to round robin. A hashing algorithm keeps to its server even when that is
    /// full, so that the session waits for it; the others give only servers with a free slot. Servers in `tried` are
    /// given only when no other qualifies.
    pub fn pick(&mut self, view: &impl ServerView, key: Option<u64>, tried: &Tried) -> Option<ServerId> {
        if self.pool.is_empty() {
            return None;
        }
        let found = self.pick_where(view, key, |id| !tried.contains(id));
        if found.is_some() || tried.is_empty() {
            return found;
        }
        self.pick_where(view, key, |_| true)
    }

    fn pick_where(
        &mut self,
        view: &impl ServerView,
        key: Option<u64>,
        fresh: impl Fn(ServerId) -> bool,
    ) -> Option<ServerId> {
        let pool = &self.pool;
        let free = |id: ServerId| fresh(id) && view.free_slot(id);
        let within_bound = |index: usize| {
            let entry = pool.entries[index];
            fresh(entry.id) && self.balance_factor.is_none_or(|factor| pool.within_bound(index, factor, view))
        };
        match (&mut self.chooser, key) {
            (Chooser::RoundRobin, _) => self.round_robin.pick(pool, free),
            (Chooser::LeastConn(c), _) => c.pick(pool, view, free),
            (Chooser::First, _) => first::pick(pool, free),
            (Chooser::Random { draws, rng }, _) => random::pick(pool, *draws, rng, view, free),
            (Chooser::Map(c), Some(key)) => c.pick(pool, key_from_hash(key), within_bound),
            (Chooser::Ring(c), Some(key)) => c.pick(pool, key_from_hash(key), within_bound),
            (Chooser::Map(_) | Chooser::Ring(_), None) => self.round_robin.pick(pool, free),
        }
    }
}

#[cfg(test)]
mod tests;

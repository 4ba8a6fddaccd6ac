//! Which server gets the next session. One file an algorithm.

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
    /// Whether the hash is mixed once more (`avalanche`).
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

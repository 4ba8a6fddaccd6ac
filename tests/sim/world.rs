//! What the simulators share: seeds, and servers as an array.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use shardgate::base::id::{CoreId, Id, IdRange, ServerId};
use shardgate::base::rng::Rng;
use shardgate::policy::balance::{
    Algorithm, Balancer, HashFunction, HashMethod, HashType, ServerView, Setup, Spec, WEIGHT_SCALE,
};

/// Runs a property in `worlds` random worlds, or in the one of `SHARDGATE_SEED`. A failure names its seed.
pub(crate) fn worlds(worlds: u64, property: impl Fn(&mut Rng)) {
    let seeds = match std::env::var("SHARDGATE_SEED") {
        Ok(seed) => vec![seed.parse().expect("SHARDGATE_SEED is a number")],
        Err(_) => (0..worlds).collect(),
    };
    for seed in seeds {
        let outcome = catch_unwind(AssertUnwindSafe(|| property(&mut Rng::new(seed))));
        if let Err(panic) = outcome {
            eprintln!("SHARDGATE_SEED={seed} replays this");
            resume_unwind(panic);
        }
    }
}

/// A number in `low..=high`.
pub(crate) fn between(rng: &mut Rng, low: u32, high: u32) -> u32 {
    low + u32::try_from(rng.below(u64::from(high - low) + 1)).expect("below a u32")
}

/// One server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    /// Configured weight.
    pub(crate) weight: u32,
    pub(crate) usable: bool,
    pub(crate) backup: bool,
    pub(crate) load: u32,
    pub(crate) maxconn: u32,
}

/// The servers of one backend as all cores see them.
#[derive(Clone, Debug)]
pub(crate) struct Servers(pub(crate) Vec<Server>);

impl Servers {
    pub(crate) fn with_weights(weights: impl IntoIterator<Item = u32>) -> Self {
        let server = |weight| Server { weight, usable: true, backup: false, load: 0, maxconn: u32::MAX };
        Servers(weights.into_iter().map(server).collect())
    }

    pub(crate) fn random(rng: &mut Rng, count_max: u32, weight_max: u32) -> Self {
        let count = between(rng, 1, count_max);
        Self::with_weights((0..count).map(|_| between(rng, 1, weight_max)).collect::<Vec<_>>())
    }

    pub(crate) fn total_weight(&self) -> u64 {
        self.0.iter().filter(|s| s.usable).map(|s| u64::from(s.weight)).sum()
    }

    pub(crate) fn ids(&self) -> IdRange<ServerId> {
        IdRange { start: ServerId(0), end: ServerId::from_index(self.0.len()) }
    }

    pub(crate) fn balancer(&self, spec: &Spec, core: u32, cores: u32) -> Balancer {
        let setup = Setup {
            servers: self.ids(),
            allbackups: false,
            core: CoreId(core),
            cores,
            seed: u64::from(core),
        };
        Balancer::new(spec, setup, self)
    }
}

impl ServerView for Servers {
    fn usable(&self, id: ServerId) -> bool {
        self.0[id.index()].usable
    }
    fn weight(&self, id: ServerId) -> u32 {
        self.0[id.index()].weight * WEIGHT_SCALE
    }
    fn backup(&self, id: ServerId) -> bool {
        self.0[id.index()].backup
    }
    fn hash_id(&self, id: ServerId) -> u32 {
        id.0 + 1
    }
    fn load(&self, id: ServerId) -> u32 {
        self.0[id.index()].load
    }
    fn free_slot(&self, id: ServerId) -> bool {
        self.0[id.index()].load < self.0[id.index()].maxconn
    }
    fn load_total(&self) -> u32 {
        self.0.iter().map(|s| s.load).sum()
    }
}

/// `balance ALGORITHM`.
pub(crate) fn spec(algorithm: Algorithm) -> Spec {
    hashing(algorithm, HashMethod::MapBased)
}

/// `balance ALGORITHM`, `hash-type METHOD sdbm avalanche`.
pub(crate) fn hashing(algorithm: Algorithm, method: HashMethod) -> Spec {
    let hash_type = HashType { method, function: HashFunction::Sdbm, avalanche: true };
    Spec { algorithm, hash_type, balance_factor: None }
}

//! Fairness, smoothness, load and movement of keys.

use shardgate::base::id::{Id, ServerId};
use shardgate::base::rng::Rng;
use shardgate::policy::balance::{Algorithm, Balancer, HashMethod, Tried, takes_load};

use crate::world::{Servers, between, hashing, spec, worlds};

fn pick(balancer: &mut Balancer, servers: &Servers, key: Option<u64>) -> usize {
    balancer.pick(servers, key, &Tried::new()).expect("a server is usable").index()
}

/// After a whole cycle every server has had exactly its weight, and it is never far from its share before.
#[test]
fn round_robin_gives_exact_shares_and_stays_close_to_them() {
    worlds(200, |rng| {
        let servers = Servers::random(rng, 12, 40);
        let total = servers.total_weight();
        let mut balancer = servers.balancer(&spec(Algorithm::RoundRobin), 0, 1);
        let mut counts = vec![0u64; servers.0.len()];
        for step in 1..=2 * total {
            counts[pick(&mut balancer, &servers, None)] += 1;
            for (count, server) in counts.iter().zip(&servers.0) {
                // Distance from the exact share, in units of 1/total.
                let lag = (count * total).abs_diff(step * u64::from(server.weight));
                assert!(lag < 2 * total, "step {step}: {counts:?} of {servers:?}");
            }
            if step % total == 0 {
                let whole: Vec<u64> =
                    servers.0.iter().map(|s| u64::from(s.weight) * (step / total)).collect();
                assert_eq!(counts, whole, "a cycle is exact");
            }
        }
    });
}

/// Cores that pick at different speeds still spread the sum of their sessions: no server is ahead because all cores
/// started at it.
#[test]
fn eight_cores_together_are_fair() {
    worlds(100, |rng| {
        let servers = Servers::random(rng, 30, 4);
        let cores = 8;
        let spec = spec(Algorithm::RoundRobin);
        let mut balancers: Vec<Balancer> =
            (0..cores).map(|core| servers.balancer(&spec, core, cores)).collect();
        let mut counts = vec![0u64; servers.0.len()];
        let picks = 4 * servers.total_weight();
        for _ in 0..picks {
            let core = between(rng, 0, cores - 1) as usize;
            counts[pick(&mut balancers[core], &servers, None)] += 1;
        }
        for (count, server) in counts.iter().zip(&servers.0) {
            let fair = picks * u64::from(server.weight) / servers.total_weight();
            let slack = 3 * u64::from(cores);
            assert!(count.abs_diff(fair) <= slack, "{count} instead of {fair} in {counts:?}");
        }
    });
}

/// The first session of each of N cold cores goes to another server.
#[test]
fn cold_cores_start_apart() {
    for cores in 1..=16 {
        let servers = Servers::with_weights(vec![1; cores as usize]);
        let mut first: Vec<usize> = (0..cores)
            .map(|core| {
                pick(&mut servers.balancer(&spec(Algorithm::RoundRobin), core, cores), &servers, None)
            })
            .collect();
        first.sort_unstable();
        assert_eq!(first, (0..cores as usize).collect::<Vec<_>>());
    }
}

/// leastconn on many cores over shared levels: sessions come and go, and no server strays from its share.
#[test]
fn leastconn_keeps_load_in_proportion_to_weight() {
    worlds(60, |rng| {
        let mut servers = Servers::random(rng, 10, 8);
        let cores = 4;
        let spec = spec(Algorithm::LeastConn);
        let mut balancers: Vec<Balancer> =
            (0..cores).map(|core| servers.balancer(&spec, core, cores)).collect();
        let mut sessions: Vec<usize> = Vec::new();
        let target = 40 * servers.0.len();
        for step in 0..10 * target {
            if sessions.len() < target || rng.below(2) == 0 {
                let core = between(rng, 0, cores - 1) as usize;
                let at = pick(&mut balancers[core], &servers, None);
                let chosen = &servers.0[at];
                for other in &servers.0 {
                    let (l, w) = (u64::from(chosen.load), u64::from(chosen.weight));
                    let (ol, ow) = (u64::from(other.load), u64::from(other.weight));
                    let counted = |load: u64| if load == 0 { 0 } else { load + 1 };
                    assert!(counted(l) * ow <= counted(ol) * w, "step {step}: not the least loaded");
                }
                servers.0[at].load += 1;
                sessions.push(at);
            } else {
                let gone = usize::try_from(rng.below(sessions.len() as u64)).expect("an index");
                servers.0[sessions.swap_remove(gone)].load -= 1;
            }
        }
    });
}

/// random(2) keeps the most loaded server close to the average; random(1) is random.
#[test]
fn two_draws_bound_the_load_where_one_does_not() {
    let most = |draws| {
        let mut servers = Servers::with_weights(vec![1; 50]);
        let mut balancer = servers.balancer(&spec(Algorithm::Random { draws }), 3, 4);
        for _ in 0..5000 {
            let at = pick(&mut balancer, &servers, None);
            servers.0[at].load += 1;
        }
        servers.0.iter().map(|s| s.load).max().expect("there are servers")
    };
    let (one, two) = (most(1), most(2));
    assert!(two <= 106, "{two} with an average of 100");
    assert!(one > 110, "{one}: a single draw has no such bound");
}

/// Draws follow the weights.
#[test]
fn random_draws_by_weight() {
    worlds(20, |rng| {
        let servers = Servers::random(rng, 8, 50);
        let mut balancer = servers.balancer(&spec(Algorithm::Random { draws: 1 }), 0, 1);
        let mut counts = vec![0u64; servers.0.len()];
        let picks = 40_000;
        for _ in 0..picks {
            counts[pick(&mut balancer, &servers, None)] += 1;
        }
        for (count, server) in counts.iter().zip(&servers.0) {
            let fair = picks * u64::from(server.weight) / servers.total_weight();
            // Six standard deviations of a binomial count are at most 3 * sqrt(picks).
            assert!(count.abs_diff(fair) <= 600, "{count} instead of {fair}");
        }
    });
}

/// With bounded load no pick puts a server above its share of (sessions + 1) times the factor, rounded up.
#[test]
fn the_bound_holds_whatever_the_keys() {
    worlds(60, |rng| {
        let mut servers = Servers::random(rng, 12, 6);
        let method = if rng.below(2) == 0 { HashMethod::MapBased } else { HashMethod::Consistent };
        let factor = between(rng, 101, 300);
        let mut spec = hashing(Algorithm::Hash, method);
        spec.balance_factor = Some(factor);
        let mut balancer = servers.balancer(&spec, 0, 1);
        let few_keys: Vec<u64> = (0..between(rng, 1, 4)).map(|_| rng.bits()).collect();
        for sessions in 1..=2000u64 {
            let key = few_keys[usize::try_from(rng.below(few_keys.len() as u64)).expect("an index")];
            let at = pick(&mut balancer, &servers, Some(key));
            servers.0[at].load += 1;
            let slots = (sessions * u64::from(factor)).div_ceil(100);
            let share = slots * u64::from(servers.0[at].weight) / servers.total_weight();
            assert!(u64::from(servers.0[at].load) <= share + 1, "{servers:?} after {sessions}");
        }
    });
}

fn owners(servers: &Servers, method: HashMethod, keys: &[u64]) -> Vec<usize> {
    let mut balancer = servers.balancer(&hashing(Algorithm::Hash, method), 0, 1);
    keys.iter().map(|key| pick(&mut balancer, servers, Some(*key))).collect()
}

/// A server that leaves a ring moves its own keys and no other; when it returns everything is as before.
#[test]
fn only_the_keys_of_a_lost_server_move() {
    worlds(30, |rng| {
        let mut servers = Servers::random(rng, 20, 10);
        if servers.0.len() < 2 {
            return;
        }
        let keys: Vec<u64> = (0..2000).map(|_| rng.bits()).collect();
        let before = owners(&servers, HashMethod::Consistent, &keys);
        let lost = usize::try_from(rng.below(servers.0.len() as u64)).expect("an index");
        servers.0[lost].usable = false;
        let without = owners(&servers, HashMethod::Consistent, &keys);
        for (old, new) in before.iter().zip(&without) {
            assert!(*new != lost);
            assert!(old == new || *old == lost, "a key of a server that stayed has moved");
        }
        servers.0[lost].usable = true;
        assert_eq!(owners(&servers, HashMethod::Consistent, &keys), before);
    });
}

/// All cores send a key to the same server, and shares follow the weights.
#[test]
fn hashing_agrees_between_cores_and_follows_the_weights() {
    let servers = Servers::with_weights([10, 20, 30, 40]);
    let mut rng = Rng::new(1);
    let keys: Vec<u64> = (0..50_000).map(|_| rng.bits()).collect();
    for (method, tolerance) in [(HashMethod::MapBased, 500), (HashMethod::Consistent, 2500)] {
        let first = owners(&servers, method, &keys);
        let mut other_core = servers.balancer(&hashing(Algorithm::Hash, method), 5, 8);
        let mut counts = [0u64; 4];
        for (key, owner) in keys.iter().zip(first) {
            assert_eq!(pick(&mut other_core, &servers, Some(*key)), owner);
            counts[owner] += 1;
        }
        for (count, weight) in counts.iter().zip([10, 20, 30, 40]) {
            assert!(count.abs_diff(500 * weight) < tolerance, "{method:?}: {counts:?}");
        }
    }
}

/// Whatever the algorithm and the state of the servers: a pick is usable, has weight, is free where that is promised, is
/// untried while an untried one qualifies, and there is one when there must be.
#[test]
fn picks_are_always_legal() {
    worlds(300, |rng| {
        let mut servers = Servers::random(rng, 9, 3);
        let algorithms = [
            spec(Algorithm::RoundRobin),
            spec(Algorithm::LeastConn),
            spec(Algorithm::First),
            spec(Algorithm::Random { draws: 2 }),
            hashing(Algorithm::Hash, HashMethod::MapBased),
            hashing(Algorithm::Source, HashMethod::Consistent),
        ];
        let mut balancers: Vec<Balancer> =
            algorithms.iter().map(|spec| servers.balancer(spec, 1, 2)).collect();
        for _ in 0..30 {
            for server in &mut servers.0 {
                server.usable = rng.below(4) > 0;
                server.backup = rng.below(4) == 0;
                server.weight = between(rng, 0, 3);
                server.maxconn = between(rng, 0, 4);
                server.load = between(rng, 0, 4);
            }
            let mut tried = Tried::new();
            for _ in 0..rng.below(4) {
                tried.insert(ServerId::from_index(usize::try_from(rng.below(9)).expect("small")));
            }
            let takes = |id| takes_load(servers.ids(), false, id, &servers);
            let candidates = |needs_slot: bool, skip_tried: bool| {
                servers.0.iter().enumerate().any(|(at, s)| {
                    let tried = tried.contains(ServerId::from_index(at));
                    takes(ServerId::from_index(at))
                        && (!needs_slot || s.load < s.maxconn)
                        && !(skip_tried && tried)
                })
            };
            let key = (rng.below(5) > 0).then(|| rng.bits());
            for (spec, balancer) in algorithms.iter().zip(&mut balancers) {
                balancer.resync(&servers);
                assert_eq!(balancer.usable_servers(), servers.ids().iter().filter(|id| takes(*id)).count());
                let hashes = matches!(spec.algorithm, Algorithm::Hash | Algorithm::Source) && key.is_some();
                let picked = balancer.pick(&servers, key, &tried);
                assert_eq!(picked.is_some(), candidates(!hashes, false), "{spec:?} {servers:?} {tried:?}");
                let Some(id) = picked else { continue };
                let server = servers.0[id.index()];
                assert!(server.usable && server.weight > 0 && takes(id), "{spec:?}");
                let better = servers.0.iter().any(|s| s.usable && s.weight > 0 && !s.backup);
                assert!(!server.backup || !better, "{spec:?} gives a backup too early");
                assert!(hashes || server.load < server.maxconn, "{spec:?}");
                assert!(!tried.contains(id) || !candidates(!hashes, true), "{spec:?}");
            }
        }
    });
}

//! Exact expectations, among them placements observed in HAProxy 2.6. Seeded properties are in tests/sim.

use super::*;
use crate::base::id::Id;

/// One server as an array entry.
#[derive(Clone, Copy)]
struct Server {
    weight: u32,
    usable: bool,
    backup: bool,
    load: u32,
    maxconn: u32,
}

struct Servers(Vec<Server>);

impl Servers {
    fn with_weights(weights: &[u32]) -> Self {
        let server = |weight: &u32| Server {
            weight: *weight,
            usable: true,
            backup: false,
            load: 0,
            maxconn: u32::MAX,
        };
        Servers(weights.iter().map(server).collect())
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

const PLAIN: HashType =
    HashType { method: HashMethod::MapBased, function: HashFunction::Sdbm, avalanche: false };

fn spec(algorithm: Algorithm) -> Spec {
    Spec { algorithm, hash_type: PLAIN, balance_factor: None }
}

fn hashing(algorithm: Algorithm, hash_type: HashType) -> Spec {
    Spec { algorithm, hash_type, balance_factor: None }
}

fn balancer(spec: &Spec, view: &Servers) -> Balancer {
    let end = ServerId::from_index(view.0.len());
    let servers = IdRange { start: ServerId(0), end };
    Balancer::new(spec, Setup { servers, allbackups: false, core: CoreId(0), cores: 1, seed: 1 }, view)
}

/// The next `n` picks as letters: `a` is the first server, `-` is none.
fn picks(balancer: &mut Balancer, view: &Servers, n: usize) -> String {
    (0..n).map(|_| letter(balancer.pick(view, None, &Tried::new()))).collect()
}

fn letter(id: Option<ServerId>) -> char {
    id.map_or('-', |id| char::from(b'a' + u8::try_from(id.0).expect("few servers")))
}

#[test]
fn round_robin_is_smooth() {
    for (weights, expected) in [
        (&[1, 1, 1][..], "abcabc"),
        (&[5, 1, 1], "abaaaca"),
        (&[2, 1], "abaaba"),
        (&[1, 2], "babbab"),
        (&[3, 3, 2], "abcabacb"),
        (&[0, 1, 0, 1], "bdbd"),
        (&[256], "aaa"),
        (&[0, 0], "--"),
    ] {
        let view = Servers::with_weights(weights);
        let mut b = balancer(&spec(Algorithm::RoundRobin), &view);
        assert_eq!(picks(&mut b, &view, expected.len()), expected, "weights {weights:?}");
    }
}

#[test]
fn round_robin_skips_full_servers_and_gives_none_when_all_are() {
    let mut view = Servers::with_weights(&[1, 1, 4]);
    let mut b = balancer(&spec(Algorithm::RoundRobin), &view);
    view.0[2].maxconn = 0;
    assert_eq!(picks(&mut b, &view, 4), "abab");
    view.0[0].maxconn = 0;
    assert_eq!(picks(&mut b, &view, 2), "bb");
    view.0[1].maxconn = 0;
    assert_eq!(picks(&mut b, &view, 2), "--");
    assert_eq!(b.usable_servers(), 3, "full is not down");
}

#[test]
fn round_robin_goes_on_where_it_was_after_a_resync() {
    let view = Servers::with_weights(&[1, 1, 1]);
    let mut b = balancer(&spec(Algorithm::RoundRobin), &view);
    let mut order = String::new();
    for _ in 0..6 {
        order += &picks(&mut b, &view, 1);
        b.resync(&view);
    }
    assert_eq!(order, "abcabc");
}

#[test]
fn cores_start_at_different_servers() {
    let view = Servers::with_weights(&[1; 8]);
    for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConn] {
        let mut seen: Vec<char> = (0..8)
            .map(|core| {
                let servers = IdRange { start: ServerId(0), end: ServerId(8) };
                let setup = Setup { servers, allbackups: false, core: CoreId(core), cores: 8, seed: 0 };
                let mut b = Balancer::new(&spec(algorithm), setup, &view);
                letter(b.pick(&view, None, &Tried::new()))
            })
            .collect();
        seen.sort_unstable();
        assert_eq!(seen.iter().collect::<String>(), "abcdefgh");
    }
}

#[test]
fn backups_serve_only_when_nothing_else_is_usable() {
    let mut view = Servers::with_weights(&[1, 1, 1, 1]);
    view.0[1].backup = true;
    view.0[3].backup = true;
    let mut b = balancer(&spec(Algorithm::RoundRobin), &view);
    assert_eq!(picks(&mut b, &view, 4), "acac");
    view.0[0].usable = false;
    view.0[2].weight = 0;
    b.resync(&view);
    assert_eq!(picks(&mut b, &view, 3), "bbb", "the first backup alone");
    view.0[1].usable = false;
    b.resync(&view);
    assert_eq!(picks(&mut b, &view, 3), "ddd", "then the next");
    view.0[1].usable = true;
    b.setup.allbackups = true;
    b.resync(&view);
    let both = picks(&mut b, &view, 4);
    assert!(both == "bdbd" || both == "dbdb", "{both}");
    view.0[1].usable = false;
    view.0[3].usable = false;
    b.resync(&view);
    assert_eq!(picks(&mut b, &view, 1), "-");
    assert_eq!(b.usable_servers(), 0);
}

#[test]
fn leastconn_takes_the_lowest_load_for_the_weight_and_rotates_equals() {
    for (weights, loads, expected) in [
        (&[1, 1, 1][..], &[3, 1, 2][..], "bbb"),
        (&[1, 1, 1], &[0, 0, 0], "abca"),
        (&[1, 1, 1], &[5, 0, 0], "bcbc"),
        (&[10, 1], &[9, 1], "aaa"),
        (&[1, 10], &[0, 1], "aaa"),
    ] {
        let mut view = Servers::with_weights(weights);
        for (server, load) in view.0.iter_mut().zip(loads) {
            server.load = *load;
        }
        let mut b = balancer(&spec(Algorithm::LeastConn), &view);
        assert_eq!(picks(&mut b, &view, expected.len()), expected, "{weights:?} {loads:?}");
    }
}

#[test]
fn first_fills_one_server_after_the_other() {
    let mut view = Servers::with_weights(&[1, 1, 1]);
    for server in &mut view.0 {
        server.maxconn = 2;
    }
    let mut b = balancer(&spec(Algorithm::First), &view);
    let mut order = String::new();
    for _ in 0..7 {
        let id = b.pick(&view, None, &Tried::new());
        order.push(letter(id));
        if let Some(id) = id {
            view.0[id.index()].load += 1;
        }
    }
    assert_eq!(order, "aabbcc-");
    view.0[0].load = 1;
    assert_eq!(picks(&mut b, &view, 1), "a");
}

#[test]
fn random_with_many_draws_finds_the_idle_server() {
    let mut view = Servers::with_weights(&[1, 1, 1]);
    view.0[0].load = 10;
    view.0[2].load = 10;
    let mut b = balancer(&spec(Algorithm::Random { draws: 64 }), &view);
    assert_eq!(picks(&mut b, &view, 5), "bbbbb");
    view.0[1].maxconn = 0;
    view.0[2].maxconn = 0;
    assert_eq!(picks(&mut b, &view, 3), "aaa", "full servers are passed over");
    view.0[0].maxconn = 0;
    assert_eq!(picks(&mut b, &view, 1), "-");
}

#[test]
fn tried_servers_come_last() {
    let view = Servers::with_weights(&[1, 1, 1]);
    let consistent = HashType { method: HashMethod::Consistent, ..PLAIN };
    for spec in [
        spec(Algorithm::RoundRobin),
        spec(Algorithm::LeastConn),
        spec(Algorithm::First),
        spec(Algorithm::Random { draws: 1 }),
        hashing(Algorithm::Hash, PLAIN),
        hashing(Algorithm::Hash, consistent),
    ] {
        let mut b = balancer(&spec, &view);
        let mut tried = Tried::new();
        for _ in 0..3 {
            let id = b.pick(&view, Some(12345), &tried).expect("a server is left");
            assert!(!tried.contains(id), "{spec:?} gives an untried server while there is one");
            tried.insert(id);
            tried.insert(id);
        }
        assert!(b.pick(&view, Some(12345), &tried).is_some(), "{spec:?} tries again at the end");
    }
}

#[test]
fn a_full_server_keeps_its_keys() {
    let mut view = Servers::with_weights(&[1, 1]);
    for method in [HashMethod::MapBased, HashMethod::Consistent] {
        view.0[0].maxconn = u32::MAX;
        let mut b = balancer(&hashing(Algorithm::Hash, HashType { method, ..PLAIN }), &view);
        let key = (0..).find(|k| letter(b.pick(&view, Some(*k << 8), &Tried::new())) == 'a');
        let key = key.map(|k| k << 8);
        view.0[0].maxconn = 0;
        assert_eq!(letter(b.pick(&view, key, &Tried::new())), 'a');
        assert_eq!(picks(&mut b, &view, 2), "bb", "without a key it is round robin over free servers");
    }
}

#[test]
fn the_bound_moves_keys_off_a_loaded_server() {
    let mut view = Servers::with_weights(&[1, 1]);
    for method in [HashMethod::MapBased, HashMethod::Consistent] {
        let mut spec = hashing(Algorithm::Hash, HashType { method, ..PLAIN });
        spec.balance_factor = Some(150);
        (view.0[0].load, view.0[1].load) = (0, 0);
        let mut b = balancer(&spec, &view);
        let key = (0..).find(|k| letter(b.pick(&view, Some(*k << 8), &Tried::new())) == 'a').map(|k| k << 8);
        (view.0[0].load, view.0[1].load) = (10, 10);
        assert_eq!(letter(b.pick(&view, key, &Tried::new())), 'a', "below 150% of the average");
        (view.0[0].load, view.0[1].load) = (17, 3);
        assert_eq!(letter(b.pick(&view, key, &Tried::new())), 'b', "above it");
    }
}

fn address(text: &str) -> std::net::IpAddr {
    text.parse().expect("an address")
}

#[test]
fn source_lands_where_haproxy_sends_it() {
    // `hash-type consistent` without a function implies avalanche in HAProxy.
    let ring = HashType { method: HashMethod::Consistent, avalanche: true, ..PLAIN };
    let map = HashType { avalanche: true, ..PLAIN };
    let (equal, weighted) = (Servers::with_weights(&[1, 1, 1]), Servers::with_weights(&[3, 5, 1]));
    let mut on_ring = balancer(&hashing(Algorithm::Source, ring), &equal);
    let mut on_map = balancer(&hashing(Algorithm::Source, map), &weighted);
    for (client, ring_server, map_server) in [
        ("10.0.0.1", 'a', 'b'),
        ("10.0.0.2", 'a', 'a'),
        ("10.0.0.77", 'a', 'b'),
        ("192.0.2.200", 'b', 'b'),
        ("172.16.9.3", 'b', 'b'),
        ("8.8.8.8", 'c', 'b'),
        ("203.0.113.99", 'b', 'b'),
        ("100.64.1.1", 'a', 'a'),
        ("2001:db8::1", 'a', 'b'),
        ("2001:db8::2", 'c', 'c'),
        ("fe80::1:2:3", 'a', 'a'),
        ("2a00:1450:4001:81b::200e", 'b', 'b'),
    ] {
        let key = Some(source_key(address(client), ring));
        assert_eq!(letter(on_ring.pick(&equal, key, &Tried::new())), ring_server, "{client} on the ring");
        let key = Some(source_key(address(client), map));
        assert_eq!(letter(on_map.pick(&weighted, key, &Tried::new())), map_server, "{client} in the map");
    }
}

#[test]
fn hashed_headers_land_where_haproxy_sends_them() {
    let ring = HashType { method: HashMethod::Consistent, function: HashFunction::Sdbm, avalanche: true };
    let map = HashType { function: HashFunction::Djb2, ..PLAIN };
    for (hash_type, weights, expected) in
        [(ring, &[1, 2, 100, 10, 30][..], "eceeeccccecc"), (map, &[2, 4, 10, 6], "bcdcbcdcccdc")]
    {
        let view = Servers::with_weights(weights);
        let mut b = balancer(&hashing(Algorithm::Hash, hash_type), &view);
        let order: String = (1..=12)
            .map(|n| hash_key(format!("key{n}").as_bytes(), hash_type))
            .map(|key| letter(b.pick(&view, Some(key), &Tried::new())))
            .collect();
        assert_eq!(order, expected, "{hash_type:?}");
    }
}

#[test]
fn tables_of_huge_backends_stay_within_their_limits() {
    use crate::base::limits::{HASH_MAP_SLOTS_MAX, HASH_RING_POINTS_MAX, SERVERS_PER_BACKEND_MAX};
    let weights: Vec<u32> = (0..SERVERS_PER_BACKEND_MAX).map(|n| if n % 2 == 0 { 256 } else { 1 }).collect();
    let view = Servers::with_weights(&weights);
    for method in [HashMethod::MapBased, HashMethod::Consistent] {
        let b = balancer(&hashing(Algorithm::Hash, HashType { method, ..PLAIN }), &view);
        let (len, limit) = match &b.chooser {
            Chooser::Map(map) => (map.len(), HASH_MAP_SLOTS_MAX),
            Chooser::Ring(ring) => (ring.len(), HASH_RING_POINTS_MAX),
            _ => unreachable!("both are hashing"),
        };
        // A server whose fraction rounds to nothing still gets one, so the limit may be passed by that many.
        assert!(len > limit / 4 && len <= limit + SERVERS_PER_BACKEND_MAX, "{method:?}: {len}");
    }
}

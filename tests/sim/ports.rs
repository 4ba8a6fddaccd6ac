//! Source ports: many cores and destinations, and no tuple twice at a time.

use std::collections::HashSet;
use std::net::SocketAddr;

use shardgate::base::id::CoreId;
use shardgate::base::time::Now;
use shardgate::policy::ports::{Ended, Lease, RouteId, SourcePorts, SourceRange, TIME_WAIT};

use crate::world::{between, worlds};

#[test]
fn no_tuple_is_given_twice_and_nothing_is_lost() {
    worlds(60, |rng| {
        let cores = between(rng, 1, 4);
        let width = between(rng, 1, 60);
        let low = u16::try_from(between(rng, 1, 60_000)).expect("a port");
        let high = low + u16::try_from(width - 1).expect("small");
        let source_count = between(rng, 1, 3);
        let sources: Vec<SourceRange> = (1..=source_count)
            .map(|n| SourceRange {
                address: [10, 0, 0, u8::try_from(n).expect("small")].into(),
                ports: Some((low, high)),
            })
            .collect();
        let destinations: [SocketAddr; 2] = [([10, 1, 1, 1], 80).into(), ([10, 1, 1, 2], 80).into()];
        let mut all: Vec<(SourcePorts, [RouteId; 2])> = (0..cores)
            .map(|core| {
                let mut ports = SourcePorts::new(CoreId(core), cores);
                let routes = destinations.map(|to| ports.route(&sources, to));
                (ports, routes)
            })
            .collect();
        let mut live: Vec<(usize, Lease, SocketAddr)> = Vec::new();
        let mut tuples: HashSet<(SocketAddr, SocketAddr)> = HashSet::new();
        let mut now = Now(0);
        for _ in 0..1500 {
            now = Now(now.0 + rng.below(500_000_000));
            let core = between(rng, 0, cores - 1) as usize;
            if rng.below(3) > 0 {
                let to = between(rng, 0, 1) as usize;
                let (ports, routes) = &mut all[core];
                if let Ok(lease) = ports.allocate(routes[to], now) {
                    assert!((low..=high).contains(&lease.address.port()));
                    assert!(tuples.insert((lease.address, destinations[to])), "{lease:?} is in use");
                    live.push((core, lease, destinations[to]));
                }
            } else if !live.is_empty() {
                let at = usize::try_from(rng.below(live.len() as u64)).expect("an index");
                let (core, lease, to) = live.swap_remove(at);
                tuples.remove(&(lease.address, to));
                let ended = if rng.below(2) == 0 { Ended::Free } else { Ended::TimeWait };
                all[core].0.release(lease, ended, now);
            }
            let counted: u32 = all.iter_mut().flat_map(|(ports, _)| ports.ledger(now)).map(|l| l.used).sum();
            assert_eq!(counted as usize, live.len());
        }
        for (core, lease, _) in live {
            all[core].0.release(lease, Ended::TimeWait, now);
        }
        let later = now + TIME_WAIT;
        let free: u32 = all.iter_mut().flat_map(|(ports, _)| ports.ledger(later)).map(|l| l.free).sum();
        assert_eq!(free, 2 * source_count * width, "every port is back");
    });
}

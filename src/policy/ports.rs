//! Source ports of connections to servers (`source = "ADDRESS:LOW-HIGH"`), chosen by us instead of by the kernel's search.
//!
//! One `SourcePorts` belongs to one core. Each core owns a disjoint part of every range, so that cores never meet. A port is
//! busy per (source address, destination): the same port may lead to two destinations at once. Ports are reused oldest
//! first; one that may be in TIME_WAIT waits [`TIME_WAIT`] and is taken earlier only when no other is left, because the
//! kernel accepts that after [`REUSE_AFTER`] (`tcp_tw_reuse`). Everything is O(1); memory grows with the ports in use.
//!
//! `proxy::dispatch` calls [`SourcePorts::allocate`] before it binds and [`SourcePorts::release`] when the socket is closed.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ahash::AHashMap;

use crate::base::id::CoreId;
use crate::base::time::Now;

/// How long Linux keeps the end that closed first in TIME_WAIT (TCP_TIMEWAIT_LEN).
pub const TIME_WAIT: Duration = Duration::from_secs(60);

/// The age from which Linux lets a new connection take over a TIME_WAIT entry, by the timestamp option.
pub const REUSE_AFTER: Duration = Duration::from_secs(1);

/// One entry of `source`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SourceRange {
    /// Local address.
    pub address: IpAddr,
    /// Ports to use, both included; `None`: the kernel chooses (the lease has port 0).
    pub ports: Option<(u16, u16)>,
}

/// A port in use, to be given back with [`SourcePorts::release`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a lease that is not released is a port lost"]
pub struct Lease {
    line: u32,
    /// What to bind to. Port 0 asks the kernel (IP_BIND_ADDRESS_NO_PORT).
    pub address: SocketAddr,
}

/// How the connection of a lease ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Never connected, reset, or the server closed first: the port is free at once.
    Free,
    /// We closed first, or the kernel still knew the port (EADDRINUSE, EADDRNOTAVAIL): it may be in TIME_WAIT.
    TimeWait,
}

/// No port is free on any source towards a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exhausted {
    /// Ports in use by live connections.
    pub used: u32,
    /// Ports that wait for the end of TIME_WAIT.
    pub waiting: u32,
}

/// The ledger of one source towards one destination, on this core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ledger {
    /// Local address.
    pub source: IpAddr,
    /// Where to.
    pub destination: SocketAddr,
    /// In use.
    pub used: u32,
    /// Free, never used or out of TIME_WAIT.
    pub free: u32,
    /// In TIME_WAIT by our count.
    pub waiting: u32,
    /// Ports that went into TIME_WAIT per second lately, rounded up.
    pub rate: u32,
}

impl Ledger {
    /// Seconds until no port is free if connections go on closing at this rate; `None`: there are always some, because
    /// those that come out of TIME_WAIT suffice.
    pub fn exhausted_in_s(&self) -> Option<u32> {
        let all = u64::from(self.used) + u64::from(self.free) + u64::from(self.waiting);
        let needed = u64::from(self.used) + u64::from(self.rate) * TIME_WAIT.as_secs();
        if needed <= all { None } else { self.free.checked_div(self.rate) }
    }
}

/// The ports of one core.
#[derive(Clone, Debug)]
pub struct SourcePorts {
    core: CoreId,
    cores: u32,
    lines: Vec<Line>,
    by_tuple: AHashMap<(SourceRange, SocketAddr), u32>,
    routes: Vec<Route>,
}

/// Names the sources of one server towards one address, from [`SourcePorts::route`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteId(u32);

/// The sources of one server towards one address; they take turns.
#[derive(Clone, Debug)]
struct Route {
    lines: Vec<u32>,
    turn: usize,
}

/// The ports of one source towards one destination.
#[derive(Clone, Debug)]
struct Line {
    source: SourceRange,
    destination: SocketAddr,
    /// This core's part of the range: from `next` on the ports were never used.
    next: u32,
    end: u32,
    free: VecDeque<u16>,
    waiting: VecDeque<(Now, u16)>,
    used: u32,
}

impl SourcePorts {
    /// No ports yet. `core` is below `cores`.
    pub fn new(core: CoreId, cores: u32) -> Self {
        debug_assert!(core.0 < cores);
        SourcePorts {
            core,
            cores: cores.max(1),
            lines: Vec::new(),
            by_tuple: AHashMap::new(),
            routes: Vec::new(),
        }
    }

    /// Prepares the way from some sources to one address; sources of the other address family are left out. Called when
    /// a server's address becomes known. Servers that share source and address share the ports.
    pub fn route(&mut self, sources: &[SourceRange], destination: SocketAddr) -> RouteId {
        let fits = |s: &&SourceRange| s.address.is_ipv4() == destination.is_ipv4();
        let lines: Vec<u32> =
            sources.iter().filter(fits).map(|source| self.line(*source, destination)).collect();
        // Cores start at different sources, as cursors of balancers do.
        let turn = self.core.0 as usize % lines.len().max(1);
        if let Some(at) = self.routes.iter().position(|route| route.lines == lines) {
            return RouteId(index(at));
        }
        self.routes.push(Route { lines, turn });
        RouteId(index(self.routes.len() - 1))
    }

    /// A source address and port for a new connection. Sources take turns; one without a free port is passed over.
    pub fn allocate(&mut self, route: RouteId, now: Now) -> Result<Lease, Exhausted> {
        let route = &mut self.routes[route.0 as usize];
        let count = route.lines.len();
        let at = |step: usize| (route.turn + step) % count;
        for attempt in [Line::take, Line::take_waiting] {
            for step in 0..count {
                let line = route.lines[at(step)];
                if let Some(port) = attempt(&mut self.lines[line as usize], now) {
                    route.turn = (at(step) + 1) % count;
                    let address = SocketAddr::new(self.lines[line as usize].source.address, port);
                    return Ok(Lease { line, address });
                }
            }
        }
        let lines = route.lines.iter().map(|line| &self.lines[*line as usize]);
        let (used, waiting) = lines.fold((0, 0), |(used, waiting), l| (used + l.used, waiting + l.waiting()));
        Err(Exhausted { used, waiting })
    }

    /// Gives a port back.
    pub fn release(&mut self, lease: Lease, ended: Ended, now: Now) {
        let line = &mut self.lines[lease.line as usize];
        debug_assert!(line.used > 0, "released twice");
        line.used = line.used.saturating_sub(1);
        match (line.source.ports, ended) {
            (None, _) => {}
            (Some(_), Ended::Free) => line.free.push_back(lease.address.port()),
            (Some(_), Ended::TimeWait) => line.waiting.push_back((now, lease.address.port())),
        }
    }

    /// Every source towards every destination, for `show source-ports`.
    pub fn ledger(&mut self, now: Now) -> impl Iterator<Item = Ledger> {
        self.lines.iter_mut().map(move |line| {
            line.end_time_wait(now);
            Ledger {
                source: line.source.address,
                destination: line.destination,
                used: line.used,
                free: index(line.free.len()) + (line.end - line.next),
                waiting: line.waiting(),
                rate: line.rate(now),
            }
        })
    }

    fn line(&mut self, source: SourceRange, destination: SocketAddr) -> u32 {
        if let Some(line) = self.by_tuple.get(&(source, destination)) {
            return *line;
        }
        let (next, end) = part_of_core(source.ports, self.core, self.cores);
        let line =
            Line { source, destination, next, end, free: VecDeque::new(), waiting: VecDeque::new(), used: 0 };
        self.lines.push(line);
        let at = index(self.lines.len() - 1);
        self.by_tuple.insert((source, destination), at);
        at
    }
}

impl Line {
    /// A port that is surely free: never used, or the one released longest ago.
    fn take(&mut self, now: Now) -> Option<u16> {
        if self.source.ports.is_none() {
            self.used += 1;
            return Some(0);
        }
        self.end_time_wait(now);
        let port = if self.next < self.end {
            self.next += 1;
            u16::try_from(self.next - 1).ok()
        } else {
            self.free.pop_front()
        }?;
        self.used += 1;
        Some(port)
    }

    /// The port that has waited longest, if the kernel may accept it.
    fn take_waiting(&mut self, now: Now) -> Option<u16> {
        let (since, port) = *self.waiting.front()?;
        if now.since(since) <= REUSE_AFTER {
            return None;
        }
        self.waiting.pop_front();
        self.used += 1;
        Some(port)
    }

    fn end_time_wait(&mut self, now: Now) {
        while let Some((since, port)) = self.waiting.front().copied() {
            if now.since(since) < TIME_WAIT {
                break;
            }
            self.waiting.pop_front();
            self.free.push_back(port);
        }
    }

    fn waiting(&self) -> u32 {
        index(self.waiting.len())
    }

    /// What waits came within the age of the oldest.
    fn rate(&self, now: Now) -> u32 {
        let Some((since, _)) = self.waiting.front() else { return 0 };
        // A burst of less than a second is a rate of that second.
        let millis = u64::try_from(now.since(*since).as_millis()).unwrap_or(u64::MAX).max(1000);
        u32::try_from((u64::from(self.waiting()) * 1000).div_ceil(millis)).unwrap_or(u32::MAX)
    }
}

/// The ports `start..end` of a range that belong to one core. Parts differ by at most one port and cover the range.
fn part_of_core(ports: Option<(u16, u16)>, core: CoreId, cores: u32) -> (u32, u32) {
    let Some((low, high)) = ports else { return (0, 0) };
    // Port 0 is no port.
    let low = low.max(1);
    let (low, count) = (u32::from(low), u32::from(high.saturating_sub(low)) + 1);
    let cut = |core: u32| {
        low + u32::try_from(u64::from(count) * u64::from(core) / u64::from(cores)).unwrap_or(count)
    };
    (cut(core.0), cut(core.0 + 1))
}

fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn range(address: &str, ports: Option<(u16, u16)>) -> SourceRange {
        SourceRange { address: address.parse().expect("an address"), ports }
    }

    fn at(seconds: u64) -> Now {
        Now(seconds * 1_000_000_000)
    }

    fn one_core() -> SourcePorts {
        SourcePorts::new(CoreId(0), 1)
    }

    #[test]
    fn every_port_is_given_once_and_then_there_is_none() {
        let mut ports = one_core();
        let route = ports.route(&[range("10.0.0.1", Some((1000, 1002)))], addr("10.9.9.9:80"));
        let given: Vec<u16> =
            (0..3).map(|_| ports.allocate(route, at(0)).expect("free").address.port()).collect();
        assert_eq!(given, [1000, 1001, 1002]);
        assert_eq!(ports.allocate(route, at(0)), Err(Exhausted { used: 3, waiting: 0 }));
    }

    #[test]
    fn ports_are_reused_oldest_first() {
        let mut ports = one_core();
        let route = ports.route(&[range("10.0.0.1", Some((1, 3)))], addr("10.9.9.9:80"));
        let mut leases: Vec<Lease> = (0..3).map(|_| ports.allocate(route, at(0)).expect("free")).collect();
        for lease in [leases.remove(1), leases.remove(1), leases.remove(0)] {
            ports.release(lease, Ended::Free, at(1));
        }
        let again: Vec<u16> =
            (0..3).map(|_| ports.allocate(route, at(1)).expect("free").address.port()).collect();
        assert_eq!(again, [2, 3, 1]);
    }

    #[test]
    fn time_wait_is_waited_out_or_cut_short_when_nothing_else_is_left() {
        let mut ports = one_core();
        let route = ports.route(&[range("10.0.0.1", Some((7, 7)))], addr("10.9.9.9:80"));
        let lease = ports.allocate(route, at(0)).expect("free");
        ports.release(lease, Ended::TimeWait, at(0));
        assert_eq!(ports.allocate(route, at(1)), Err(Exhausted { used: 0, waiting: 1 }), "too fresh");
        let lease = ports.allocate(route, at(2)).expect("the kernel may take it over");
        ports.release(lease, Ended::TimeWait, at(2));
        let row = |ports: &mut SourcePorts, now| {
            let l = ports.ledger(now).next().expect("one line");
            (l.used, l.free, l.waiting)
        };
        assert_eq!(row(&mut ports, at(3)), (0, 0, 1));
        assert_eq!(row(&mut ports, at(62)), (0, 1, 0));
    }

    #[test]
    fn the_ledger_foresees_when_ports_run_out() {
        let mut ports = one_core();
        let route = ports.route(&[range("10.0.0.1", Some((1, 1000)))], addr("10.9.9.9:80"));
        // 20 a second for 10 seconds: after 60 seconds 1,200 would wait.
        for second in 0..10 {
            for _ in 0..20 {
                let lease = ports.allocate(route, at(second)).expect("free");
                ports.release(lease, Ended::TimeWait, at(second));
            }
        }
        let row = ports.ledger(at(10)).next().expect("one line");
        assert_eq!((row.waiting, row.free, row.rate, row.exhausted_in_s()), (200, 800, 20, Some(40)));
        assert_eq!(Ledger { rate: 16, ..row }.exhausted_in_s(), None, "960 ports suffice");
        assert_eq!(Ledger { rate: 0, waiting: 0, ..row }.exhausted_in_s(), None);
    }

    #[test]
    fn a_fresh_source_goes_before_a_port_in_time_wait() {
        let mut ports = one_core();
        let sources = [range("10.0.0.1", Some((7, 7))), range("10.0.0.2", Some((8, 8)))];
        let route = ports.route(&sources, addr("10.9.9.9:80"));
        let first = ports.allocate(route, at(0)).expect("free");
        let second = ports.allocate(route, at(0)).expect("free");
        assert_eq!((first.address, second.address), (addr("10.0.0.1:7"), addr("10.0.0.2:8")));
        ports.release(first, Ended::TimeWait, at(0));
        ports.release(second, Ended::Free, at(5));
        assert_eq!(ports.allocate(route, at(5)).expect("free").address, addr("10.0.0.2:8"));
        assert_eq!(ports.allocate(route, at(5)).expect("waiting").address, addr("10.0.0.1:7"));
    }

    #[test]
    fn sources_take_turns_and_only_those_of_the_right_family() {
        let mut ports = one_core();
        let sources =
            [range("10.0.0.1", Some((1, 9))), range("2001:db8::1", Some((1, 9))), range("10.0.0.2", None)];
        let route = ports.route(&sources, addr("10.9.9.9:80"));
        let given: Vec<SocketAddr> =
            (0..4).map(|_| ports.allocate(route, at(0)).expect("free").address).collect();
        assert_eq!(given, ["10.0.0.1:1", "10.0.0.2:0", "10.0.0.1:2", "10.0.0.2:0"].map(addr));
        let none = ports.route(&[range("2001:db8::1", None)], addr("10.9.9.9:80"));
        assert_eq!(ports.allocate(none, at(0)), Err(Exhausted { used: 0, waiting: 0 }));
    }

    #[test]
    fn a_port_is_busy_only_towards_its_destination() {
        let mut ports = one_core();
        let sources = [range("10.0.0.1", Some((5, 5)))];
        let (web, db) = (addr("10.9.9.9:80"), addr("10.9.9.9:3306"));
        let (to_web, to_db) = (ports.route(&sources, web), ports.route(&sources, db));
        assert!(ports.allocate(to_web, at(0)).is_ok());
        assert!(ports.allocate(to_db, at(0)).is_ok());
        let same = ports.route(&sources, web);
        assert_eq!(same, to_web);
        assert!(ports.allocate(same, at(0)).is_err(), "another server at the same address shares the ports");
    }

    #[test]
    fn cores_have_disjoint_parts_that_cover_the_range() {
        for (low, high, cores) in [(1024, 65_535, 7), (1, 1, 4), (10, 12, 8), (1, u16::MAX, 64)] {
            let mut all: Vec<u32> = (0..cores)
                .flat_map(|core| {
                    let (start, end) = part_of_core(Some((low, high)), CoreId(core), cores);
                    start..end
                })
                .collect();
            all.sort_unstable();
            assert_eq!(all, (u32::from(low)..=u32::from(high)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_range_that_is_upside_down_is_one_port() {
        assert_eq!(part_of_core(Some((9, 3)), CoreId(0), 1), (9, 10));
        assert_eq!(part_of_core(Some((0, 0)), CoreId(0), 1), (1, 2));
    }
}

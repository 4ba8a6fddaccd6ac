//! Names of servers: looked up at the start and again as their TTL says, by a thread of its own (the resolver library brings
//! tokio along). A name that does not resolve leaves its servers without an address, and stops nothing.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use ahash::{AHashMap, AHashSet};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::base::id::ServerId;
use crate::base::limits::{RESOLVE_AT_ONCE, RESOLVE_RETRY, RESOLVE_START, RESOLVE_TTL_MAX, RESOLVE_TTL_MIN};
use crate::base::time::Now;
use crate::control::core::{Control, ControlBase, Notice};
use crate::control::dns::{self, Found};
use crate::control::doctor::Way;
use crate::control::events::Level;
use crate::model::{Lookup, Model, ServerAddress};
use crate::rt::{self, Receiver, Sender};
use crate::stats::process::CoreStat;

/// What one look-up found.
#[derive(Debug)]
pub(super) struct Resolved {
    host: String,
    /// Its addresses in the resolver's order, or why there are none.
    addresses: Result<Vec<Found>, String>,
}

/// A name and how its look-ups went.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) host: String,
    pub(super) found: u64,
    pub(super) failed: u64,
    pub(super) at: Now,
    pub(super) last: Result<Vec<Found>, String>,
}

impl Control {
    fn note_name(&self, resolved: &Resolved) {
        let mut names = self.names.borrow_mut();
        let at = names.iter().position(|name| name.host == resolved.host).unwrap_or_else(|| {
            let (host, last) = (resolved.host.clone(), Ok(Vec::new()));
            names.push(Name { host, found: 0, failed: 0, at: rt::now(), last });
            names.len() - 1
        });
        let name = &mut names[at];
        match &resolved.addresses {
            Ok(_) => name.found += 1,
            Err(_) => name.failed += 1,
        }
        (name.at, name.last) = (rt::now(), resolved.addresses.clone());
    }

    /// Takes over what a look-up found. After a failure servers keep the address that they have.
    pub(super) fn on_resolved(&self, resolved: Resolved) {
        self.note_name(&resolved);
        self.followed.note(&resolved);
        let Resolved { host, addresses } = resolved;
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(why) => {
                self.cells.core.count(CoreStat::Resolutions);
                self.say(Level::Warning, format!("cannot resolve {host}: {why}"));
                return;
            }
        };
        for (id, server) in self.model.servers.iter() {
            let Some(port) = self.port_of(id, &host).filter(|_| !self.has_own_address(id)) else { continue };
            // Servers of one backend with the same name are different machines behind it, if there are enough.
            let all = self.model.backends[server.backend].servers.iter();
            let siblings = all.filter(|other| *other != id && self.port_of(*other, &host).is_some());
            let taken: Vec<SocketAddr> =
                siblings.filter_map(|other| self.live.servers[other].address()).collect();
            let wish =
                Wish { lookup: server.lookup, current: self.live.servers[id].address(), taken: &taken };
            match wish.choose(&addresses, has_route) {
                Some(found) => self.set_address(id, Some(found.at(port)), "resolver"),
                None if server.lookup.distinct => self.set_address(id, None, "resolver"),
                None => {}
            }
        }
    }

    /// The port of a server, if it is resolved from this name.
    fn port_of(&self, id: ServerId, host: &str) -> Option<u16> {
        let states = self.states.borrow();
        let (own, port) = states.servers[id].aims.host(&self.model.servers[id])?;
        (own == host).then_some(port)
    }
}

/// What a server would like of the addresses of its name.
struct Wish<'a> {
    lookup: Lookup,
    current: Option<SocketAddr>,
    /// Addresses of its siblings.
    taken: &'a [SocketAddr],
}

impl Wish<'_> {
    /// The address that it gets: the one it has as long as the name has it, else the first that can be reached and that
    /// no sibling has.
    fn choose(&self, found: &[Found], has_route: impl Fn(IpAddr) -> bool) -> Option<Found> {
        let mut usable: Vec<Found> = found.iter().copied().filter(|found| has_route(found.ip)).collect();
        if usable.is_empty() {
            // Routes may come; without any answer the operator would not see where it points.
            usable = found.to_vec();
        }
        // HAProxy's `resolve-prefer` is IPv6. Not on this machine: what listens for one family there, listens for IPv4.
        let is_second = |ip: IpAddr| ip.is_ipv4() != (ip.is_loopback() || self.lookup.prefer_ipv4);
        usable.sort_by_key(|found| is_second(found.ip));
        if self.lookup.distinct {
            // Both families are the same machines. The order of an answer changes; that of the servers is to stay.
            let family = usable.first()?.ip.is_ipv4();
            usable.retain(|found| found.ip.is_ipv4() == family);
            usable.sort();
        }
        let is_taken = |found: &Found| self.taken.iter().any(|address| found.is(*address));
        let current = usable.iter().find(|found| self.current.is_some_and(|address| found.is(address)));
        if let Some(current) = current.filter(|found| !self.lookup.distinct || !is_taken(found)) {
            return Some(*current);
        }
        let free = usable.iter().find(|found| !is_taken(found));
        free.or(usable.first().filter(|_| !self.lookup.distinct)).copied()
    }
}

/// The addresses that servers of one backend get which share a name: how each would like it, and its port.
pub(super) fn give_out(servers: &[(Lookup, u16)], ways: &[Way]) -> Vec<Option<SocketAddr>> {
    let found: Vec<Found> = ways.iter().map(|way| Found { ip: way.ip, port: way.port }).collect();
    let has_route = |ip: IpAddr| ways.iter().any(|way| way.ip == ip && way.routed);
    let mut given = Vec::new();
    for (lookup, port) in servers {
        let taken: Vec<SocketAddr> = given.iter().copied().flatten().collect();
        let wish = Wish { lookup: *lookup, current: None, taken: &taken };
        given.push(wish.choose(&found, has_route).map(|found| found.at(*port)));
    }
    given
}

/// Whether the kernel knows a way there: connecting a datagram socket sends nothing.
pub(super) fn has_route(ip: IpAddr) -> bool {
    let any: SocketAddr = match ip {
        IpAddr::V4(_) => ([0; 4], 0).into(),
        IpAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    UdpSocket::bind(any).and_then(|socket| socket.connect((ip, 53))).is_ok()
}

/// The names of a configuration, each once.
fn hosts(model: &Model) -> Vec<String> {
    let mut seen = AHashSet::new();
    let names = model.servers.values().filter_map(|server| match &server.address {
        ServerAddress::Name { host, .. } => Some(host.clone()),
        ServerAddress::Ip(_) | ServerAddress::Unix(_) | ServerAddress::Abstract(_) => None,
    });
    names.filter(|host| seen.insert(host.clone())).collect()
}

/// The names that the servers which run are resolved from, each once: those that were set as well.
fn hosts_in_use(control: &Control) -> Vec<String> {
    let mut seen = AHashSet::new();
    let states = control.states.borrow();
    let servers = control.model.servers.iter();
    let names = servers.filter_map(|(id, server)| states.servers[id].aims.host(server));
    names.map(|(host, _)| host.to_owned()).filter(|host| seen.insert(host.clone())).collect()
}

/// What the thread is to do.
struct Order {
    /// All names that it is to follow.
    hosts: Vec<String>,
    /// Whom it asks.
    nameservers: Vec<SocketAddr>,
}

/// Names that are followed, and what is known of them.
#[derive(Default)]
pub(super) struct Names {
    /// To the thread, once it runs.
    thread: RefCell<Option<UnboundedSender<Order>>>,
    /// What was found last; `None`: nothing, and somebody was told why.
    known: RefCell<AHashMap<String, Option<Vec<Found>>>>,
    waiting: RefCell<Option<Waker>>,
}

impl Names {
    fn note(&self, resolved: &Resolved) {
        let mut known = self.known.borrow_mut();
        let addresses = resolved.addresses.as_ref().ok();
        match (known.get_mut(&resolved.host), addresses) {
            // A failure does not make an earlier answer wrong.
            (Some(_), None) => {}
            (_, addresses) => drop(known.insert(resolved.host.clone(), addresses.cloned())),
        }
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Follows these names and no others.
    fn follow(&self, hosts: &[String], nameservers: &[SocketAddr], base: &ControlBase) {
        self.known.borrow_mut().retain(|host, _| hosts.contains(host));
        let mut thread = self.thread.borrow_mut();
        if thread.is_none() && !hosts.is_empty() {
            let (sender, orders) = unbounded_channel();
            let tell = base.notices.clone();
            let builder = std::thread::Builder::new().name("resolver".to_owned());
            match builder.spawn(move || follow_all(orders, &tell)) {
                Ok(_) => *thread = Some(sender),
                Err(e) => {
                    let text = format!("no name of a server is resolved: cannot start a thread: {e}");
                    base.say(Level::Alert, text);
                }
            }
        }
        if let Some(thread) = &*thread {
            // It runs as long as the process.
            let _ = thread.send(Order { hosts: hosts.to_vec(), nameservers: nameservers.to_vec() });
        }
    }

    /// Waits until something is known of all these names, but not for ever.
    async fn wait_for(&self, hosts: &[String]) {
        let all = poll_fn(|cx| {
            if hosts.iter().all(|host| self.known.borrow().contains_key(host)) {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        });
        // Servers whose name is not known by then stay down until it is.
        let _ = rt::with_deadline(all, Some(rt::now() + RESOLVE_START)).await;
    }
}

/// Looks up the names of the next configuration beside those of the current one, and waits a moment for answers.
pub(super) async fn prepare(base: &ControlBase, next: &Model) {
    let wanted = hosts(next);
    let mut all = hosts_in_use(&base.current());
    all.extend(wanted.iter().filter(|host| !all.contains(host)).cloned().collect::<Vec<_>>());
    base.followed.follow(&all, &next.global.nameservers, base);
    if base.followed.thread.borrow().is_some() {
        base.followed.wait_for(&wanted).await;
    }
}

/// After a switch, or when a server was given another name: forgets names that nobody has any more, and gives servers the
/// addresses that are known already.
pub(super) fn settle(control: &Control) {
    let hosts = hosts_in_use(control);
    control.followed.follow(&hosts, &control.model.global.nameservers, control.base());
    for host in hosts {
        again(control, &host);
    }
}

/// Gives servers of this name the addresses that are known already.
pub(super) fn again(control: &Control, host: &str) {
    let known = control.followed.known.borrow().get(host).cloned().flatten();
    if let Some(addresses) = known {
        control.on_resolved(Resolved { host: host.to_owned(), addresses: Ok(addresses) });
    }
}

/// Starts looking up, and waits a moment for the first answers so that the first sessions find their servers.
pub(super) async fn start(control: &Rc<Control>, notices: &Receiver<Notice>) {
    let hosts = hosts(&control.model);
    let mut unanswered = hosts.len();
    if unanswered == 0 {
        return;
    }
    control.followed.follow(&hosts, &control.model.global.nameservers, control.base());
    let deadline = rt::now() + RESOLVE_START;
    while unanswered > 0 {
        match rt::with_deadline(notices.recv(), Some(deadline)).await {
            Ok(Notice::Resolved(resolved)) => {
                unanswered -= 1;
                control.on_resolved(resolved);
            }
            Ok(other) => {
                // Whatever it is, it is more urgent than names.
                control.notices.send(other);
                return;
            }
            Err(rt::Elapsed) => return,
        }
    }
}

/// The thread: every name is a task that sleeps until its TTL is over.
fn follow_all(mut orders: UnboundedReceiver<Order>, tell: &Sender<Notice>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            for host in orders.blocking_recv().into_iter().flat_map(|order| order.hosts) {
                tell.send(Notice::Resolved(Resolved { host, addresses: Err(e.to_string()) }));
            }
            return;
        }
    };
    runtime.block_on(async {
        let permits = Arc::new(Semaphore::new(RESOLVE_AT_ONCE));
        let mut tasks: AHashMap<String, JoinHandle<()>> = AHashMap::new();
        let mut asked = Vec::new();
        while let Some(Order { hosts, nameservers }) = orders.recv().await {
            let is_same = asked == nameservers;
            asked.clone_from(&nameservers);
            tasks.retain(|host, task| {
                let stays = is_same && hosts.contains(host);
                if !stays {
                    task.abort();
                }
                stays
            });
            for host in hosts {
                let task = |host: String| {
                    tokio::spawn(follow(host, nameservers.clone(), permits.clone(), tell.clone()))
                };
                tasks.entry(host.clone()).or_insert_with(|| task(host));
            }
        }
    });
}

async fn follow(host: String, nameservers: Vec<SocketAddr>, permits: Arc<Semaphore>, tell: Sender<Notice>) {
    loop {
        let found = {
            // The semaphore is never closed.
            let _permit = permits.acquire().await;
            dns::look_up(&host, &nameservers).await
        };
        let (addresses, wait) = match found {
            Ok((addresses, ttl)) => (Ok(addresses), ttl.clamp(RESOLVE_TTL_MIN, RESOLVE_TTL_MAX)),
            Err(why) => (Err(why), RESOLVE_RETRY),
        };
        tell.send(Notice::Resolved(Resolved { host: host.clone(), addresses }));
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 80;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn at(text: &str) -> SocketAddr {
        SocketAddr::new(ip(text), PORT)
    }

    /// What a server at port 80 gets.
    fn choose(
        found: &[&str],
        (current, taken): (Option<&str>, &[&str]),
        lookup: Lookup,
        has_route: impl Fn(IpAddr) -> bool,
    ) -> Option<SocketAddr> {
        let found: Vec<Found> = found.iter().map(|text| Found { ip: ip(text), port: None }).collect();
        let taken: Vec<SocketAddr> = taken.iter().map(|text| at(text)).collect();
        let wish = Wish { lookup, current: current.map(at), taken: &taken };
        wish.choose(&found, has_route).map(|found| found.at(PORT))
    }

    const A: &str = "10.0.0.1";
    const B: &str = "10.0.0.2";
    const C: &str = "2001:db8::1";

    #[test]
    fn the_address_is_kept_as_long_as_the_name_has_it() {
        for (found, current, taken, chosen) in [
            (&[A, B][..], None, &[][..], Some(A)),
            (&[A, B], Some(B), &[], Some(B)),
            (&[A], Some(B), &[], Some(A)),
            (&[A, B], None, &[A], Some(B)),
            (&[A], None, &[A], Some(A)),
            (&[A, C], None, &[], Some(C)),
            (&[A, C], Some(A), &[], Some(A)),
            (&[], Some(A), &[], None),
        ] {
            let seen = choose(found, (current, taken), Lookup::default(), |_| true);
            assert_eq!(seen, chosen.map(at), "{found:?} {current:?} {taken:?}");
        }
        let prefer = Lookup { prefer_ipv4: true, distinct: false };
        assert_eq!(choose(&[C, A], (None, &[]), prefer, |_| true), Some(at(A)));
    }

    #[test]
    fn an_address_is_given_to_one_server_of_a_template() {
        let distinct = Lookup { prefer_ipv4: false, distinct: true };
        for (found, current, taken, chosen) in [
            // The order of the answer means nothing.
            (&[B, A][..], None, &[][..], Some(A)),
            (&[B, A], Some(B), &[A], Some(B)),
            (&[A], None, &[A], None),
            (&[A], Some(B), &[A], None),
            (&[A], Some(A), &[A], None),
            // The two families are the same machines.
            (&[A, C], None, &[C], None),
        ] {
            let seen = choose(found, (current, taken), distinct, |_| true);
            assert_eq!(seen, chosen.map(at), "{found:?} {current:?} {taken:?}");
        }
    }

    #[test]
    fn the_port_of_a_service_is_part_of_what_is_taken() {
        let two = [8001, 8002].map(|port| Found { ip: ip(A), port: Some(port) });
        let taken = [two[0].at(0)];
        let wish =
            Wish { lookup: Lookup { prefer_ipv4: false, distinct: true }, current: None, taken: &taken };
        assert_eq!(wish.choose(&two, |_| true), Some(two[1]));
        assert_eq!(two[1].at(PORT).port(), 8002);
    }

    #[test]
    fn a_family_without_a_route_does_not_win() {
        let any = Lookup::default();
        assert_eq!(choose(&[C, A], (None, &[]), any, |ip| ip.is_ipv4()), Some(at(A)));
        let gone = choose(&[C, A], (Some(C), &[]), any, |ip| ip.is_ipv4());
        assert_eq!(gone, Some(at(A)), "the route went away");
        assert_eq!(choose(&[C], (None, &[]), any, |_| false), Some(at(C)), "better than nothing");
        assert_eq!(choose(&["::1", "127.0.0.1"], (None, &[]), any, |_| true), Some(at("127.0.0.1")));
        assert!(has_route(ip("127.0.0.1")));
    }
}

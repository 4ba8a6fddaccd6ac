//! Names of servers: looked up at the start and again as their TTL says, by a thread of its own (the resolver library brings
//! tokio along). A name that does not resolve leaves its servers without an address, and stops nothing.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use ahash::{AHashMap, AHashSet};
use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::base::limits::{RESOLVE_AT_ONCE, RESOLVE_RETRY, RESOLVE_START, RESOLVE_TTL_MAX, RESOLVE_TTL_MIN};
use crate::base::time::Now;
use crate::control::core::{Control, ControlBase, Notice};
use crate::control::events::Level;
use crate::model::{Model, ServerAddress};
use crate::rt::{self, Receiver, Sender};
use crate::stats::process::CoreStat;

/// What one look-up found.
#[derive(Debug)]
pub(super) struct Resolved {
    host: String,
    /// Its addresses in the resolver's order, or why there are none.
    addresses: Result<Vec<IpAddr>, String>,
}

/// A name and how its look-ups went.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) host: String,
    pub(super) found: u64,
    pub(super) failed: u64,
    pub(super) at: Now,
    pub(super) last: Result<Vec<IpAddr>, String>,
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
            let port = {
                let states = self.states.borrow();
                match states.servers[id].aims.host(server) {
                    Some((wanted, port)) if wanted == host && !self.has_own_address(id) => port,
                    _ => continue,
                }
            };
            // Servers of one backend with the same name are different machines behind it, if there are enough.
            let siblings = self.model.backends[server.backend].servers.iter().filter(|other| *other != id);
            let taken: Vec<IpAddr> =
                siblings.filter_map(|other| self.live.servers[other].address()).map(|a| a.ip()).collect();
            let current = self.live.servers[id].address().map(|a| a.ip());
            if let Some(ip) = choose(&addresses, current, &taken, has_route) {
                self.set_address(id, Some(SocketAddr::new(ip, port)), "resolver");
            }
        }
    }
}

/// The address that a server gets: the one it has as long as the name has it, else the first that can be reached and that
/// no sibling has.
fn choose(
    found: &[IpAddr],
    current: Option<IpAddr>,
    taken: &[IpAddr],
    has_route: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let mut usable: Vec<IpAddr> = found.iter().copied().filter(|ip| has_route(*ip)).collect();
    if usable.is_empty() {
        // Routes may come; without any answer the operator would not see where it points.
        usable = found.to_vec();
    }
    // HAProxy's `resolve-prefer` is IPv6. Not on this machine: what listens for one family there, listens for IPv4.
    usable.sort_by_key(|ip| ip.is_ipv4() != ip.is_loopback());
    if let Some(current) = current.filter(|ip| usable.contains(ip)) {
        return Some(current);
    }
    usable.iter().find(|ip| !taken.contains(ip)).or(usable.first()).copied()
}

/// Whether the kernel knows a way there: connecting a datagram socket sends nothing.
fn has_route(ip: IpAddr) -> bool {
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

/// Names that are followed, and what is known of them.
#[derive(Default)]
pub(super) struct Names {
    /// To the thread, once it runs: all names that it is to follow.
    thread: RefCell<Option<UnboundedSender<Vec<String>>>>,
    /// What was found last; `None`: nothing, and somebody was told why.
    known: RefCell<AHashMap<String, Option<Vec<IpAddr>>>>,
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
    fn follow(&self, hosts: &[String], base: &ControlBase) {
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
            let _ = thread.send(hosts.to_vec());
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
    base.followed.follow(&all, base);
    if base.followed.thread.borrow().is_some() {
        base.followed.wait_for(&wanted).await;
    }
}

/// After a switch, or when a server was given another name: forgets names that nobody has any more, and gives servers the
/// addresses that are known already.
pub(super) fn settle(control: &Control) {
    let hosts = hosts_in_use(control);
    control.followed.follow(&hosts, control.base());
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
    control.followed.follow(&hosts, control.base());
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

/// The thread: every name is a task that sleeps until its TTL is over. Orders: all names that are to be followed.
fn follow_all(mut orders: UnboundedReceiver<Vec<String>>, tell: &Sender<Notice>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            for host in orders.blocking_recv().into_iter().flatten() {
                tell.send(Notice::Resolved(Resolved { host, addresses: Err(e.to_string()) }));
            }
            return;
        }
    };
    runtime.block_on(async {
        let permits = Arc::new(Semaphore::new(RESOLVE_AT_ONCE));
        let mut tasks: AHashMap<String, JoinHandle<()>> = AHashMap::new();
        while let Some(hosts) = orders.recv().await {
            tasks.retain(|host, task| {
                let stays = hosts.contains(host);
                if !stays {
                    task.abort();
                }
                stays
            });
            for host in hosts {
                let task = |host: String| tokio::spawn(follow(host, permits.clone(), tell.clone()));
                tasks.entry(host.clone()).or_insert_with(|| task(host));
            }
        }
    });
}

async fn follow(host: String, permits: Arc<Semaphore>, tell: Sender<Notice>) {
    loop {
        let found = {
            // The semaphore is never closed.
            let _permit = permits.acquire().await;
            look_up(&host).await
        };
        let (addresses, wait) = match found {
            Ok((addresses, ttl)) => (Ok(addresses), ttl.clamp(RESOLVE_TTL_MIN, RESOLVE_TTL_MAX)),
            Err(why) => (Err(why), RESOLVE_RETRY),
        };
        tell.send(Notice::Resolved(Resolved { host: host.clone(), addresses }));
        tokio::time::sleep(wait).await;
    }
}

/// Looks up names once, all at the same time: how many addresses each has. Blocks; for the doctor.
pub(super) fn look_up_all(hosts: Vec<String>) -> Vec<(String, Result<usize, String>)> {
    if hosts.is_empty() {
        return Vec::new();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return hosts.into_iter().map(|host| (host, Err(e.to_string()))).collect(),
    };
    runtime.block_on(async {
        let permits = Arc::new(Semaphore::new(RESOLVE_AT_ONCE));
        let ask = |host: String| {
            let permits = permits.clone();
            tokio::spawn(async move {
                // The semaphore is never closed.
                let _permit = permits.acquire().await;
                look_up(&host).await.map(|(addresses, _)| addresses.len())
            })
        };
        let asked: Vec<_> = hosts.into_iter().map(|host| (host.clone(), ask(host))).collect();
        let mut found = Vec::new();
        for (host, answer) in asked {
            found.push((host, answer.await.unwrap_or_else(|e| Err(e.to_string()))));
        }
        found
    })
}

/// Both families, /etc/hosts included. Reads the system's configuration each time: it may change while the process runs.
async fn look_up(host: &str) -> Result<(Vec<IpAddr>, Duration), String> {
    let mut builder = TokioResolver::builder_tokio().map_err(|e| e.to_string())?;
    // Answers are kept by us, as long as their TTL says.
    builder.options_mut().cache_size = 0;
    let resolver = builder.build().map_err(|e| e.to_string())?;
    let (v6, v4) = tokio::join!(resolver.ipv6_lookup(host), resolver.ipv4_lookup(host));
    let mut found = Vec::new();
    let mut ttl_s = u32::MAX;
    for lookup in [&v6, &v4].into_iter().flatten() {
        for record in lookup.answers() {
            // Aliases on the way have a TTL too.
            ttl_s = ttl_s.min(record.ttl);
            found.extend(record.data.ip_addr());
        }
    }
    if found.is_empty() {
        Err(reason(v6.err(), v4.err()))
    } else {
        Ok((found, Duration::from_secs(ttl_s.into())))
    }
}

/// Why neither family has an address, in a few words.
fn reason(v6: Option<NetError>, v4: Option<NetError>) -> String {
    match v4.or(v6) {
        Some(e) if e.is_nx_domain() => "there is no such name".to_owned(),
        Some(e) if !e.is_no_records_found() => e.to_string(),
        _ => "it has no address".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_address_is_kept_as_long_as_the_name_has_it() {
        let (a, b, c) = (ip("10.0.0.1"), ip("10.0.0.2"), ip("2001:db8::1"));
        let all = |_| true;
        for (found, current, taken, chosen) in [
            (&[a, b][..], None, &[][..], Some(a)),
            (&[a, b], Some(b), &[], Some(b)),
            (&[a], Some(b), &[], Some(a)),
            (&[a, b], None, &[a], Some(b)),
            (&[a], None, &[a], Some(a)),
            (&[a, c], None, &[], Some(c)),
            (&[a, c], Some(a), &[], Some(a)),
            (&[], Some(a), &[], None),
        ] {
            assert_eq!(choose(found, current, taken, all), chosen, "{found:?} {current:?} {taken:?}");
        }
    }

    #[test]
    fn a_family_without_a_route_does_not_win() {
        let (v4, v6) = (ip("10.0.0.1"), ip("2001:db8::1"));
        assert_eq!(choose(&[v6, v4], None, &[], |ip| ip.is_ipv4()), Some(v4));
        assert_eq!(choose(&[v6, v4], Some(v6), &[], |ip| ip.is_ipv4()), Some(v4), "the route went away");
        assert_eq!(choose(&[v6], None, &[], |_| false), Some(v6), "better than nothing");
        assert_eq!(choose(&[ip("::1"), ip("127.0.0.1")], None, &[], |_| true), Some(ip("127.0.0.1")));
        assert!(has_route(ip("127.0.0.1")));
    }

    #[test]
    fn the_system_resolves_this_machine() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (addresses, _) = runtime.block_on(look_up("localhost")).expect("/etc/hosts has it");
        assert!(addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
    }
}

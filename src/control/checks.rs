//! Health checks: which probes run, for which servers, and when. One task a probe, so that a server that hangs delays
//! nobody else's; servers that ask for the same probe share it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use ahash::{AHashMap, AHashSet};

use crate::base::id::ServerId;
use crate::base::time::Now;
use crate::control::agents;
use crate::control::core::{Control, ControlBase};
use crate::control::probe::{ProbeTarget, Spec, probe};
use crate::live::AdminState;
use crate::model::ServerAddress;
use crate::policy::health;
use crate::rt;

/// The probes that run.
#[derive(Default)]
pub(super) struct Probes {
    running: AHashMap<Spec, Rc<Probe>>,
    /// Somebody will bring them up to date soon.
    stale: Cell<bool>,
}

/// One probe.
struct Probe {
    spec: Spec,
    /// Servers that it checks; none: it ends.
    servers: RefCell<Vec<ServerId>>,
    /// The next check has to run by then; its task, to be told.
    by: Cell<Option<Now>>,
    waker: RefCell<Option<Waker>>,
}

impl Control {
    /// Servers, their addresses or their administration changed: probes start and end soon. Many changes at once are one.
    pub(super) fn probes_changed(&self) {
        if self.probes.borrow().stale.replace(true) {
            return;
        }
        let control = self.strong();
        rt::spawn(async move {
            rt::yield_now().await;
            control.base().current().update_probes();
        });
    }

    /// Starts and ends probes as the configuration and the states want them.
    pub(super) fn update_probes(&self) {
        self.probes.borrow().stale.set(false);
        let mut wanted: AHashMap<Spec, Vec<ServerId>> = AHashMap::new();
        // In the order of the servers, so that starts are spread alike each time.
        let mut order = Vec::new();
        for id in self.model.servers.ids() {
            if let Some(spec) = self.spec(id) {
                let servers = wanted.entry(spec.clone()).or_default();
                if servers.is_empty() {
                    order.push(spec);
                }
                servers.push(id);
            }
        }
        let mut probes = self.probes.borrow_mut();
        probes.running.retain(|spec, probe| {
            let servers = wanted.remove(spec).unwrap_or_default();
            let stays = !servers.is_empty();
            *probe.servers.borrow_mut() = servers;
            stays
        });
        let fresh: AHashSet<&Spec> = wanted.keys().collect();
        order.retain(|spec| fresh.contains(spec));
        let shortest = order.iter().map(|spec| spec.check.inter).min().unwrap_or_default();
        let count = order.len();
        for (position, spec) in order.into_iter().enumerate() {
            let servers = RefCell::new(wanted.remove(&spec).unwrap_or_default());
            let probe = Rc::new(Probe {
                spec: spec.clone(),
                servers,
                by: Cell::default(),
                waker: RefCell::default(),
            });
            probes.running.insert(spec, probe.clone());
            let delay = health::start_offset(position, count, shortest);
            rt::spawn(run(self.base().clone(), probe, delay));
        }
    }

    /// The probe that a server asks for now; none in maintenance, without an address, or when its checks are disabled.
    fn spec(&self, id: ServerId) -> Option<Spec> {
        let (server, live) = (&self.model.servers[id], &self.live.servers[id]);
        let check = server.check.as_ref()?;
        let states = self.states.borrow();
        let state = &states.servers[id];
        if !state.checks_enabled || !state.resolved || live.admin() == AdminState::Maint {
            return None;
        }
        let target = match (&server.address, live.address()) {
            (_, Some(mut address)) => {
                let (ip, port) = state.aims.check(check);
                address.set_ip(ip.unwrap_or(address.ip()));
                address.set_port(port.unwrap_or(address.port()));
                ProbeTarget::Ip(address)
            }
            (ServerAddress::Unix(path), None) => ProbeTarget::Unix(path.clone()),
            (ServerAddress::Abstract(name), None) => ProbeTarget::Abstract(name.clone()),
            (ServerAddress::Ip(_) | ServerAddress::Name { .. }, None) => return None,
        };
        let family = match &target {
            ProbeTarget::Ip(address) => Some(address.is_ipv4()),
            ProbeTarget::Unix(_) | ProbeTarget::Abstract(_) => None,
        };
        let source = server.source.iter().map(|source| source.address);
        Some(Spec {
            target,
            check: check.clone(),
            proxy: server.send_proxy.filter(|_| check.send_proxy),
            source: source.into_iter().find(|ip| family == Some(ip.is_ipv4())),
            timeout_connect: self.model.backends[server.backend].timeout_connect,
        })
    }

    /// The next check of a server runs after its `fastinter` at the latest.
    pub(super) fn hurry(&self, id: ServerId) {
        let Some(check) = &self.model.servers[id].check else { return };
        let by = rt::now() + check.fastinter;
        let probes = self.probes.borrow();
        let of_server = |probe: &&Rc<Probe>| probe.servers.borrow().contains(&id);
        if let Some(probe) = probes.running.values().find(of_server) {
            probe.by.set(Some(probe.by.get().map_or(by, |old| old.min(by))));
            if let Some(waker) = probe.waker.take() {
                waker.wake();
            }
        }
    }

    /// Time until the next check of these servers: the shortest that one of them asks for.
    fn interval(&self, servers: &[ServerId]) -> Option<Duration> {
        let states = self.states.borrow();
        let asked = servers.iter().filter_map(|id| states.servers[*id].health.as_ref());
        let interval = asked.map(health::Health::interval).min()?;
        Some(health::spread(interval, self.model.global.spread_checks, &mut self.rng.borrow_mut()))
    }
}

impl ControlBase {
    /// Random bytes for a check.
    fn nonce(&self) -> [u8; 16] {
        let mut rng = self.rng.borrow_mut();
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&rng.bits().to_ne_bytes());
        nonce[8..].copy_from_slice(&rng.bits().to_ne_bytes());
        nonce
    }
}

/// Starts the checks of all servers.
pub(super) fn start_all(control: &Control) {
    control.follow_from_start();
    control.update_probes();
    agents::start_all(control, |_| true);
}

/// Probes again and again, until no server asks for it.
async fn run(base: Rc<ControlBase>, this: Rc<Probe>, delay: Duration) {
    let script = this.spec.script();
    rt::sleep_until(rt::now() + delay).await;
    loop {
        if this.servers.borrow().is_empty() {
            return;
        }
        // All of them have the same settings. What runs now decides, since certificates come with a reload.
        let tls =
            this.servers.borrow().first().and_then(|id| base.current().tls_checks.borrow().get(*id).cloned());
        let report = probe(&this.spec, &script, tls.as_deref(), base.nonce()).await;
        // Those who asked for it by now, not when it began: a server that left does not hear of it.
        let control = base.current();
        let servers = this.servers.borrow().clone();
        for id in &servers {
            control.on_check(*id, &report);
        }
        let Some(interval) = control.interval(&servers) else { return };
        drop(control);
        this.sleep_until(rt::now() + interval).await;
    }
}

impl Probe {
    /// Waits until then, or until it is told to hurry.
    async fn sleep_until(&self, due: Now) {
        self.by.set(None);
        loop {
            let until = self.by.get().map_or(due, |by| by.min(due));
            if rt::now() >= until {
                return;
            }
            let known = self.by.get();
            let told = poll_fn(|cx| {
                if self.by.get() != known {
                    return Poll::Ready(());
                }
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            });
            rt::select(rt::sleep_until(until), told).await;
        }
    }
}

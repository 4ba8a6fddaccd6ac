//! Facts behind the statistics: what `show stat` and `show info` say beside what is counted.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ahash::AHashMap;

use crate::base::id::{BackendId, FrontendId, IdVec, ListenerId, ServerId};
use crate::base::limits::BUF_BYTES;
use crate::base::time::Now;
use crate::control::core::Control;
use crate::control::servers::Report;
use crate::live::{AdminState, BindState, FrontendState};
use crate::model::{BindAddress, Mode, ServerAddress};
use crate::policy::admission::default_fullconn;
use crate::policy::balance::{Algorithm, WEIGHT_SCALE};
use crate::policy::health::{CheckStatus, State};
use crate::rt;
use crate::stats::collector::{Collector, Sums};
use crate::stats::counters::{Backend, Frontend, Kind, Listener, Server};
use crate::stats::history::{ObjectKey, Past};
use crate::stats::latency::{Histograms, Laps, Latency, Window, summed_up};
use crate::stats::process::CoreStat;
use crate::stats::render::Filter;
use crate::stats::snapshot::{
    BackendFacts, CheckFacts, Entry, Facts, FrontendFacts, ListenerFacts, ProcessFacts, ServerFacts, Snapshot,
};
use crate::stats::status::{Admin, CheckResult, Health, ListenStatus};
use crate::stats::table::Object;
use crate::stats::timers::Lap;

/// The day of the version, as `show info` has it.
const RELEASE_DATE: &str = "2026/11/21";

impl Control {
    /// The statistics of the lines that a filter may choose, with percentiles over a window of time.
    pub(super) fn snapshot(&self, window: Window, wanted: &Filter) -> Snapshot {
        self.snapshot_of(window, wanted, None)
    }

    fn snapshot_of(&self, window: Window, wanted: &Filter, past: Option<&Past>) -> Snapshot {
        let mut entries = Vec::new();
        self.each_entry(window, wanted, past, &mut |entry, _| entries.push(entry));
        let sums = self.collector.borrow().process_sums();
        Snapshot::new(rt::now(), self.process_facts(), sums, entries)
    }

    /// Hands out the lines that a filter may choose one by one, in their order: of thousands of servers not all are in memory at
    /// once.
    pub(super) fn each_entry(
        &self,
        window: Window,
        wanted: &Filter,
        past: Option<&Past>,
        take: &mut dyn FnMut(Entry, Now),
    ) {
        let lines = self.lines(wanted);
        if lines.is_empty() {
            return;
        }
        let (laps, collector, now) = (self.percentiles(window), self.collector.borrow(), rt::now());
        for (_, line) in lines {
            take(self.entry(line, &laps, &collector, past), now);
        }
    }

    /// The lines that a filter may choose, with what sorts them.
    fn lines(&self, wanted: &Filter) -> Vec<((u32, u8, u32), Line)> {
        let (model, mut lines) = (&self.model, Vec::new());
        let mut add = |name: &str, line: Line, object, (iid, sid)| {
            if wanted.chooses(object, (iid, name), sid) {
                lines.push((Snapshot::order(object, iid, sid), line));
            }
        };
        for (id, frontend) in model.frontends.iter() {
            add(&frontend.name, Line::Frontend(id), Object::Frontend, (frontend.iid, 0));
        }
        for (id, bind) in model.binds.iter() {
            let frontend = &model.frontends[bind.frontend];
            add(&frontend.name, Line::Listener(id), Object::Listener, (frontend.iid, bind.sid));
        }
        for (id, backend) in model.backends.iter().filter(|(_, backend)| !backend.is_internal()) {
            for server in backend.servers.iter() {
                let numbers = (backend.iid, model.servers[server].sid);
                add(&backend.name, Line::Server(server), Object::Server, numbers);
            }
            add(&backend.name, Line::Backend(id), Object::Backend, (backend.iid, 0));
        }
        lines.sort_by_key(|(order, _)| *order);
        lines
    }

    fn entry(&self, line: Line, laps: &Percentiles, collector: &Collector, past: Option<&Past>) -> Entry {
        let model = &self.model;
        match line {
            Line::Frontend(id) => {
                let frontend = &model.frontends[id];
                let facts = Facts::Frontend(self.frontend_facts(id));
                let sums = sums::<Frontend>(collector, id, past);
                entry(&frontend.name, "", (frontend.iid, 0, frontend.mode), facts, sums)
            }
            Line::Listener(id) => {
                let (bind, frontend) = (&model.binds[id], &model.frontends[model.binds[id].frontend]);
                let facts = Facts::Listener(self.listener_facts(id));
                let numbers = (frontend.iid, bind.sid, frontend.mode);
                entry(&frontend.name, &bind.name, numbers, facts, sums::<Listener>(collector, id, past))
            }
            Line::Server(id) => {
                let (server, backend) = (&model.servers[id], &model.backends[model.servers[id].backend]);
                let facts = Facts::Server(Box::new(self.server_facts(id)));
                let numbers = (backend.iid, server.sid, backend.mode);
                let latency = laps.servers.get(id).cloned().flatten();
                let sums = sums::<Server>(collector, id, past);
                Entry { latency, ..entry(&backend.name, &server.name, numbers, facts, sums) }
            }
            Line::Backend(id) => {
                let backend = &model.backends[id];
                let facts = Facts::Backend(self.backend_facts(id));
                let latency = laps.backends.get(id).cloned().flatten();
                let sums = sums::<Backend>(collector, id, past);
                Entry { latency, ..entry(&backend.name, "", (backend.iid, 0, backend.mode), facts, sums) }
            }
        }
    }

    /// Adds this second to the history.
    pub(super) fn note_history(&self, now: Now) {
        let objects = self.collector.borrow().kept();
        // Only the time that a frame is long is asked for, and most frames are a second long.
        let mut known: [Option<AHashMap<ObjectKey, (u64, u64)>>; 3] = Default::default();
        let mut history = self.history.borrow_mut();
        for (place, (seconds, window)) in
            known.iter_mut().zip([(1, None), (10, Some(Window::TenSeconds)), (60, Some(Window::Minute))])
        {
            if history.ends_frame(seconds) {
                *place = Some(self.total_percentiles(window));
            }
        }
        history.tick(now, &objects, |seconds, key| {
            let at = [1, 10, 60].iter().position(|s| *s == seconds)?;
            known[at].as_ref()?.get(&key).copied()
        });
    }

    /// p50 and p99 of the total time, over a window or the last second.
    fn total_percentiles(&self, window: Option<Window>) -> AHashMap<ObjectKey, (u64, u64)> {
        let latency = self.latency.borrow();
        let mut reader = window.map_or_else(|| latency.last_second(), |window| latency.window(window));
        let (mut own, mut all) = (Histograms::default(), Histograms::default());
        let mut found = AHashMap::new();
        let total = |laps: Laps| (laps[Lap::Total as usize].p50.into(), laps[Lap::Total as usize].p99.into());
        for (id, backend) in self.model.backends.iter() {
            let mut any = false;
            for server in backend.servers.iter() {
                let row = self.cells.servers[server].row();
                if reader.add(row, &mut [&mut own, &mut all]) {
                    any = true;
                    found.insert(ObjectKey::new(Object::Server, row), total(summed_up(&mut own)));
                }
            }
            if any {
                let key = ObjectKey::new(Object::Backend, self.cells.backends[id].row());
                found.insert(key, total(summed_up(&mut all)));
            }
        }
        found
    }

    /// All statistics as they were some time ago.
    ///
    /// # Errors
    /// The history does not go back so far; how far it does.
    pub(super) fn past(&self, ago: Duration, wanted: &Filter) -> Result<Snapshot, Duration> {
        let now = rt::now();
        let past = {
            let history = self.history.borrow();
            history.at(now - ago).ok_or_else(|| history.oldest(now))?
        };
        Ok(self.snapshot_of(Window::default(), wanted, Some(&past)))
    }

    /// Percentiles of all servers and backends that have any. They move with the ticks: whoever asks in between gets the same.
    fn percentiles(&self, window: Window) -> Rc<Percentiles> {
        let latency = self.latency.borrow();
        let key = (window, latency.ticks());
        let mut kept = self.percentiles.borrow_mut();
        if let Some((of, percentiles)) = &*kept
            && *of == key
        {
            return percentiles.clone();
        }
        let found = Rc::new(self.find_percentiles(&latency, window));
        *kept = Some((key, found.clone()));
        found
    }

    fn find_percentiles(&self, latency: &Latency, window: Window) -> Percentiles {
        let mut reader = latency.window(window);
        let (mut own, mut all) = (Histograms::default(), Histograms::default());
        let mut found = Percentiles::default();
        for backend in self.model.backends.values() {
            let mut any = false;
            for id in backend.servers.iter() {
                let row = self.cells.servers[id].row();
                let here = reader.add(row, &mut [&mut own, &mut all]);
                any |= here;
                found.servers.push(here.then(|| Box::new(summed_up(&mut own))));
            }
            found.backends.push(any.then(|| Box::new(summed_up(&mut all))));
        }
        found
    }

    /// The facts about the process.
    pub(super) fn process_facts(&self) -> ProcessFacts {
        let global = &self.model.global;
        let buffers = self.collector.borrow().process_sums().get(CoreStat::Buffers) * BUF_BYTES as u64;
        let cores = self.cores.len() as u64;
        let open = |state: BindState| self.live.binds.values().filter(|bind| bind.state() == state).count();
        let expiry = self.certificate_expiry();
        ProcessFacts {
            name: global.compat_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            release_date: RELEASE_DATE.to_owned(),
            threads: u32::try_from(cores).unwrap_or(u32::MAX),
            pid: std::process::id(),
            uptime: rt::now().since(self.started),
            start_time_s: self.process.started.as_secs(),
            boot_time_ms: u64::try_from(self.process.boot_time.as_millis()).unwrap_or(u64::MAX),
            fd_limit: self.process.open_files,
            maxconn: u64::from(self.maxconn()),
            hard_maxconn: u64::from(self.process.budget.hard_maxconn),
            rate_limit: self.live.process.rate.limit().into(),
            maxpipes: u64::from(global.pipes_max) * cores,
            buffer_bytes: (u64::from(global.buffers_max) * cores * BUF_BYTES as u64, buffers),
            sandbox: self.process.sandbox.as_ref().map_or_else(|| "off".to_owned(), |(_, on)| on.to_string()),
            vips: self.vip_roles(),
            node: global.node.clone(),
            description: global.description.clone(),
            stopping: self.live.process.stopping.load(Ordering::Relaxed),
            listeners: open(BindState::Listening) as u64,
            maxconn_reached: 0,
            warnings: self.process.warnings,
            tls_limit: self.live.process.tls_connections.limit().map_or(0, u64::from),
            tls_rate_limit: self.live.process.tls_rate.limit().into(),
            kernel_tls: self.certificates.kernel_tls,
            certificates: (expiry.certificates, expiry.expiring, expiry.expired),
            certificate_expiry_s: expiry.next_s.map_or(0, |left| u64::try_from(left).unwrap_or(0)),
        }
    }

    /// What is known of each address of several nodes.
    fn vip_roles(&self) -> Vec<(String, &'static str)> {
        let known = self.vips.borrow();
        let role = |name: &str| known.get(name)?.role.map(|(role, _)| role.name());
        self.model.vips.iter().map(|vip| (vip.name.clone(), role(&vip.name).unwrap_or("-"))).collect()
    }

    /// The limit of client connections in effect.
    pub(super) fn maxconn(&self) -> u32 {
        self.live.process.connections.limit().unwrap_or(self.process.budget.hard_maxconn)
    }

    fn frontend_facts(&self, id: FrontendId) -> FrontendFacts {
        let live = &self.live.frontends[id];
        let status = match () {
            () if self.live.process.stopping.load(Ordering::Relaxed) => ListenStatus::Stop,
            () => match live.state() {
                FrontendState::Open => ListenStatus::Open,
                FrontendState::Paused => ListenStatus::Paused,
                FrontendState::Shut => ListenStatus::Stop,
            },
        };
        let limit = u64::from(live.connections.limit().unwrap_or(self.maxconn()));
        FrontendFacts { status, limit, rate_limit: 0 }
    }

    fn listener_facts(&self, id: ListenerId) -> ListenerFacts {
        let (bind, live) = (&self.model.binds[id], &self.live.binds[id]);
        let paused = self.live.frontends[bind.frontend].state() == FrontendState::Paused;
        let status = match live.state() {
            BindState::Listening if paused => ListenStatus::Paused,
            BindState::Listening if !live.connections.has_room() => ListenStatus::Full,
            BindState::Listening => ListenStatus::Open,
            BindState::Waiting | BindState::Closed => ListenStatus::Stop,
        };
        let protocol = match &bind.address {
            BindAddress::Ip(ip) if ip.is_ipv4() => "tcpv4",
            BindAddress::Ip(_) => "tcpv6",
            BindAddress::Fd(_) if !self.addresses.borrow()[id].contains('@') => "tcp",
            BindAddress::Unix(_) | BindAddress::Abstract(_) | BindAddress::Fd(_) => "unix_stream",
        };
        let limit = u64::from(live.connections.limit().unwrap_or(0));
        ListenerFacts { status, limit, address: self.addresses.borrow()[id].clone(), protocol }
    }

    fn backend_facts(&self, id: BackendId) -> BackendFacts {
        let now = rt::now();
        let backend = &self.model.backends[id];
        let fullconn = backend.fullconn;
        let usable: Vec<ServerId> =
            backend.servers.iter().filter(|id| self.live.servers[*id].is_usable()).collect();
        let backup = usable.iter().filter(|id| self.model.servers[**id].backup).count();
        let sum = |of: &dyn Fn(ServerId) -> u32| usable.iter().map(|id| u64::from(of(*id))).sum();
        let clock = self.states.borrow().backends[id];
        BackendFacts {
            up: clock.up,
            weight: sum(&|id| whole(self.live.servers[id].weight())),
            user_weight: sum(&|id| self.live.servers[id].user_weight()),
            active: (usable.len() - backup) as u64,
            backup: backup as u64,
            limit: Some(u64::from(fullconn.unwrap_or_else(|| default_fullconn(u64::from(self.maxconn()))))),
            last_change: clock.last_change(now),
            downtime: clock.downtime(now),
            algorithm: algorithm(backend.balance.algorithm).to_owned(),
            cookie: backend.http.as_ref().and_then(|http| Some(http.cookie.as_ref()?.name.clone())),
        }
    }

    /// The facts about one server.
    pub(super) fn server_facts(&self, id: ServerId) -> ServerFacts {
        let now = rt::now();
        let (server, live) = (&self.model.servers[id], &self.live.servers[id]);
        let states = self.states.borrow();
        let state = &states.servers[id];
        // What it tracks, through all that track in between.
        let tracked = std::iter::successors(server.track, |id| self.model.servers[*id].track).last();
        let via_maint = tracked.is_some_and(|id| self.live.servers[id].admin() == AdminState::Maint);
        let health = tracked.map_or(&state.health, |id| &states.servers[id].health);
        let admin = match live.admin() {
            AdminState::Maint => Admin::Maint,
            _ if via_maint => Admin::MaintVia(tracked.map(|id| self.server_name(id)).unwrap_or_default()),
            _ if !state.resolved => Admin::MaintResolution,
            AdminState::Drain => Admin::Drain,
            AdminState::Ready => Admin::Ready,
        };
        let health = health.as_ref().map_or(Health::Unchecked, |health| {
            let (rise, fall, level) = health.columns();
            let now = health.state();
            Health::Checked { up: now != State::Down, stopping: now == State::NoLoad, level, rise, fall }
        });
        let (ip, port) = match (&server.address, live.address()) {
            (_, Some(address)) => (address.ip().to_string(), address.port()),
            (ServerAddress::Ip(address), None) => (address.ip().to_string(), address.port()),
            (ServerAddress::Name { port, .. }, None) => (String::new(), *port),
            (ServerAddress::Unix(path), None) => (path.display().to_string(), 0),
            (ServerAddress::Abstract(name), None) => (format!("abns@{name}"), 0),
        };
        ServerFacts {
            admin,
            health,
            weight: whole(live.weight()),
            user_weight: live.user_weight(),
            initial_weight: server.weight,
            backup: server.backup,
            limit: live.sessions.limit().map(u64::from),
            queue_limit: server.maxqueue.map(u64::from),
            last_change: state.clock.last_change(now),
            downtime: state.clock.downtime(now),
            throttle_percent: state.slow.and_then(|slow| slow.throttle_percent(now)),
            tracked: server.track.map(|id| self.server_name(id)),
            agent: state.agent.as_ref().map(|agent| {
                let facts = agent.last.as_ref().map(check_facts).unwrap_or_default();
                (facts, agent.health.state() != State::Down)
            }),
            check: state
                .health
                .as_ref()
                .map(|_| state.last_check.as_ref().map(check_facts).unwrap_or_default()),
            ip,
            port,
            fqdn: state.aims.host(server).map(|(host, _)| host.to_owned()),
            check_at: server.check.as_ref().map(|check| state.aims.check(check)).unwrap_or_default(),
            agent_at: server.agent.as_ref().map_or((None, None), |agent| {
                let (ip, port) = state.aims.agent(agent);
                (ip, Some(port))
            }),
            cookie: server.http.cookie.clone(),
            disabled: server.disabled,
            tls: server.tls.is_some(),
            asked: (state.checks_enabled, state.agent.as_ref().is_some_and(|agent| agent.enabled)),
        }
    }
}

/// Sums now, or as they were.
fn sums<K: Kind>(collector: &Collector, id: K::Id, past: Option<&Past>) -> Sums {
    match past {
        None => collector.sums::<K>(id),
        Some(past) => collector.past_sums::<K>(id, past),
    }
}

/// Names a line of `show stat`.
#[derive(Clone, Copy)]
enum Line {
    Frontend(FrontendId),
    Listener(ListenerId),
    Server(ServerId),
    Backend(BackendId),
}

/// Percentiles with the window and the tick they belong to.
pub(super) type KeptPercentiles = Option<((Window, u64), Rc<Percentiles>)>;

/// Percentiles of what has some.
#[derive(Default)]
pub(super) struct Percentiles {
    servers: IdVec<ServerId, Option<Box<Laps>>>,
    backends: IdVec<BackendId, Option<Box<Laps>>>,
}

fn entry(proxy: &str, name: &str, (iid, sid, mode): (u32, u32, Mode), facts: Facts, sums: Sums) -> Entry {
    let http = mode == Mode::Http;
    Entry { proxy: proxy.to_owned(), name: name.to_owned(), iid, sid, http, facts, sums, latency: None }
}

/// A weight in whole units, as HAProxy shows it: rounded up, so that only a weight of 0 shows as 0.
fn whole(weight: u32) -> u32 {
    weight.div_ceil(WEIGHT_SCALE)
}

fn algorithm(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RoundRobin => "roundrobin",
        Algorithm::LeastConn => "leastconn",
        Algorithm::First => "first",
        Algorithm::Source => "source",
        Algorithm::Random { .. } => "random",
        Algorithm::Hash => "hash",
    }
}

fn check_facts(report: &Report) -> CheckFacts {
    CheckFacts {
        result: result(report.status),
        last: report.info.clone(),
        code: report.code.map(u32::from),
        duration: report.duration,
    }
}

/// The result in the vocabulary of the statistics.
fn result(status: CheckStatus) -> CheckResult {
    match status {
        CheckStatus::Unknown | CheckStatus::Initializing | CheckStatus::Checked | CheckStatus::Analyzed => {
            CheckResult::Init
        }
        CheckStatus::SocketError => CheckResult::SocketError,
        CheckStatus::L4Ok => CheckResult::Layer4Ok,
        CheckStatus::L4Timeout => CheckResult::Layer4Timeout,
        CheckStatus::L4Connect => CheckResult::Layer4Error,
        CheckStatus::L6Ok => CheckResult::Layer6Ok,
        CheckStatus::L6Timeout => CheckResult::Layer6Timeout,
        CheckStatus::L6Response => CheckResult::Layer6Error,
        CheckStatus::L7Ok => CheckResult::Layer7Ok,
        CheckStatus::L7OkConditionally => CheckResult::Layer7Drain,
        CheckStatus::L7Timeout => CheckResult::Layer7Timeout,
        CheckStatus::L7Response => CheckResult::Layer7Error,
        CheckStatus::L7Status => CheckResult::Layer7Status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_has_the_same_code_in_both_vocabularies() {
        for row in CheckStatus::TABLE {
            let result = result(row.status);
            if result != CheckResult::Init {
                assert_eq!((result.code(), result.words()), (row.code, row.description));
            }
        }
    }

    #[test]
    fn only_a_weight_of_zero_shows_as_zero() {
        assert_eq!([0, 1, WEIGHT_SCALE, WEIGHT_SCALE + 1].map(whole), [0, 1, 1, 2]);
    }
}

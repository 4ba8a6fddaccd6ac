//! Facts behind the statistics: what `show stat` and `show info` say beside what is counted.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering;

use crate::base::id::{BackendId, FrontendId, ListenerId, ServerId};
use crate::base::limits::BUF_BYTES;
use crate::control::core::Control;
use crate::control::servers::Report;
use crate::control::statistics::refill;
use crate::live::{AdminState, BindState, FrontendState};
use crate::model::{BindAddress, ServerAddress};
use crate::policy::admission::default_fullconn;
use crate::policy::balance::{Algorithm, WEIGHT_SCALE};
use crate::policy::health::{CheckStatus, State};
use crate::rt;
use crate::stats::process::CoreStat;
use crate::stats::render::push_number;
use crate::stats::snapshot::{
    BackendFacts, CheckFacts, FrontendFacts, ListenerFacts, ProcessFacts, ServerFacts,
};
use crate::stats::status::{Admin, CheckResult, Health, ListenStatus};

/// The day of the version, as `show info` has it.
const RELEASE_DATE: &str = "2026/11/21";

impl Control {
    /// The facts about the process.
    pub(super) fn process_facts(&self) -> ProcessFacts {
        let global = &self.model.global;
        let buffers = self.collector.borrow().total(CoreStat::Buffers) * BUF_BYTES as u64;
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

    pub(super) fn frontend_facts(&self, id: FrontendId) -> FrontendFacts {
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

    pub(super) fn listener_facts(&self, id: ListenerId) -> ListenerFacts {
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

    pub(super) fn backend_facts(&self, id: BackendId) -> BackendFacts {
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
        self.server_facts_in(id, ServerFacts::default())
    }

    /// The same, with texts in the room that those of another server had.
    pub(super) fn server_facts_in(&self, id: ServerId, mut room: ServerFacts) -> ServerFacts {
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
        let port = self.push_address(id, &mut room.ip);
        let (agent_room, check_room) = (room.agent.map(|(agent, _)| agent), room.check);
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
                let facts = check_facts(agent.last.as_ref(), agent_room);
                (facts, agent.health.state() != State::Down)
            }),
            check: state.health.as_ref().map(|_| check_facts(state.last_check.as_ref(), check_room)),
            ip: room.ip,
            port,
            fqdn: refilled(room.fqdn, state.aims.host(server).map(|(host, _)| host)),
            check_at: server.check.as_ref().map(|check| state.aims.check(check)).unwrap_or_default(),
            agent_at: server.agent.as_ref().map_or((None, None), |agent| {
                let (ip, port) = state.aims.agent(agent);
                (ip, Some(port))
            }),
            cookie: refilled(room.cookie, server.http.cookie.as_deref()),
            disabled: server.disabled,
            tls: server.tls.is_some(),
            asked: (state.checks_enabled, state.agent.as_ref().is_some_and(|agent| agent.enabled)),
        }
    }

    /// Writes the address of a server without its port, and returns that.
    fn push_address(&self, id: ServerId, room: &mut String) -> u16 {
        room.clear();
        let mut say = |text: std::fmt::Arguments<'_>| {
            // Writing to a String cannot fail.
            let _ = room.write_fmt(text);
        };
        let (ip, port) = match (&self.model.servers[id].address, self.live.servers[id].address()) {
            (_, Some(address)) => (address.ip(), address.port()),
            (ServerAddress::Ip(address), None) => (address.ip(), address.port()),
            (ServerAddress::Name { port, .. }, None) => return *port,
            (ServerAddress::Unix(path), None) => {
                say(format_args!("{}", path.display()));
                return 0;
            }
            (ServerAddress::Abstract(name), None) => {
                say(format_args!("abns@{name}"));
                return 0;
            }
        };
        match ip {
            IpAddr::V4(ip) => push_ipv4(room, ip),
            IpAddr::V6(ip) => say(format_args!("{ip}")),
        }
        port
    }
}

/// Dotted decimal. Formatting was a tenth of the time of a line.
fn push_ipv4(out: &mut String, ip: Ipv4Addr) {
    for (at, octet) in ip.octets().into_iter().enumerate() {
        if at > 0 {
            out.push('.');
        }
        push_number(out, octet.into());
    }
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

/// What was seen last, in the room of what another server's check saw.
fn check_facts(report: Option<&Report>, room: Option<CheckFacts>) -> CheckFacts {
    let mut last = room.map(|room| room.last).unwrap_or_default();
    refill(&mut last, report.map_or("", |report| &report.info));
    match report {
        None => CheckFacts { last, ..CheckFacts::default() },
        Some(report) => CheckFacts {
            result: result(report.status),
            last,
            code: report.code.map(u32::from),
            duration: report.duration,
        },
    }
}

/// A text, if there is one, in the room of another.
fn refilled(room: Option<String>, text: Option<&str>) -> Option<String> {
    text.map(|text| {
        let mut room = room.unwrap_or_default();
        refill(&mut room, text);
        room
    })
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

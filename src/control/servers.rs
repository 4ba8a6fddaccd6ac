//! What is known of each server, and what its coming and going entails: `live` for the cores, the queue, sessions that end,
//! statistics, and a log line in HAProxy's words. Checks, the resolver and administrators call it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::id::{BackendId, IdVec, ServerId};
use crate::base::time::Now;
use crate::control::agents::AgentState;
use crate::control::aims::Aims;
use crate::control::core::Control;
use crate::control::events::Level;
use crate::live::AdminState;
use crate::model::{Check, Model, Server as ModelServer, ServerAddress};
use crate::policy::health::{self, CheckStatus, Health, Settings, State};
use crate::policy::slowstart::SlowStart;
use crate::proxy::end;
use crate::proxy::message::ToCore;
use crate::proxy::queue;
use crate::rt;
use crate::stats::counters::Server;
use crate::stats::table::Stat;

/// What the control core knows of all servers and backends.
pub(super) struct States {
    pub(super) servers: IdVec<ServerId, ServerState>,
    pub(super) backends: IdVec<BackendId, UpClock>,
}

/// What the control core knows of one server.
#[derive(Clone)]
pub(super) struct ServerState {
    /// The machine that its checks feed; `None`: it has none.
    pub(super) health: Option<Health>,
    /// What its agent says; `None`: it has none.
    pub(super) agent: Option<AgentState>,
    /// Checks run (`disable health` stops them).
    pub(super) checks_enabled: bool,
    /// The last check that has ended.
    pub(super) last_check: Option<Report>,
    /// Its name has an address, or needs none.
    pub(super) resolved: bool,
    /// Up or down, and since when.
    pub(super) clock: UpClock,
    /// It was up before: what comes up for the first time does so at once.
    was_up: bool,
    /// It came up a short time ago.
    pub(super) slow: Option<SlowStart>,
    /// Its `maxconn`, configured or set; slow start stays below.
    pub(super) maxconn: Option<u32>,
    /// What an administrator set about its checks and its name.
    pub(super) aims: Aims,
}

/// What one check found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Report {
    /// The result.
    pub(super) status: CheckStatus,
    /// What it saw, for the operator: an error or the answer. May be empty.
    pub(super) info: String,
    /// The status of the response, where there was one.
    pub(super) code: Option<u16>,
    /// How long it took.
    pub(super) duration: Duration,
}

/// How long something is up or down.
#[derive(Clone, Copy, Debug)]
pub(super) struct UpClock {
    pub(super) up: bool,
    changed: Now,
    down_before: Duration,
}

impl UpClock {
    fn new(up: bool, now: Now) -> UpClock {
        UpClock { up, changed: now, down_before: Duration::ZERO }
    }

    /// Notes the state; true if it is another one.
    pub(super) fn set(&mut self, up: bool, now: Now) -> bool {
        if self.up == up {
            return false;
        }
        self.down_before = self.downtime(now);
        (self.up, self.changed) = (up, now);
        true
    }

    /// Time down since the start, the present time included.
    pub(super) fn downtime(&self, now: Now) -> Duration {
        self.down_before + if self.up { Duration::ZERO } else { now.since(self.changed) }
    }

    /// Time since the last change.
    pub(super) fn last_change(&self, now: Now) -> Duration {
        now.since(self.changed)
    }
}

impl States {
    /// The states at the start: everything is up until a check says otherwise, but what has no address.
    pub(super) fn new(model: &Model, now: Now) -> States {
        States::with(model, now, |_| None)
    }

    /// The same, but for servers that are known.
    pub(super) fn with(
        model: &Model,
        now: Now,
        mut known: impl FnMut(ServerId) -> Option<ServerState>,
    ) -> States {
        let servers: IdVec<ServerId, ServerState> = model
            .servers
            .iter()
            .map(|(id, server)| known(id).unwrap_or_else(|| ServerState::new(server, now)))
            .collect();
        let backends = model
            .backends
            .values()
            .map(|backend| {
                let mut range = backend.servers.iter();
                let up = backend.servers.is_empty() || range.any(|id| servers[id].clock.up);
                UpClock::new(up, now)
            })
            .collect();
        States { servers, backends }
    }
}

impl ServerState {
    /// Of a server that nothing is known of.
    pub(super) fn new(server: &ModelServer, now: Now) -> ServerState {
        let resolved = !matches!(server.address, ServerAddress::Name { .. });
        ServerState {
            health: server.check.as_ref().map(|check| Health::new(settings(server, check))),
            agent: server.agent.as_ref().map(AgentState::new),
            checks_enabled: true,
            last_check: None,
            resolved,
            clock: UpClock::new(resolved && !server.disabled, now),
            was_up: resolved,
            slow: None,
            maxconn: server.maxconn,
            aims: Aims::default(),
        }
    }
}

/// The machine of a server whose check or address is another one now: as it was if that says something about the server as
/// it is now, else up, and down at the first failure.
pub(super) fn renewed(server: &ModelServer, before: Option<&Health>) -> Option<Health> {
    let mut health = Health::new(settings(server, server.check.as_ref()?));
    if let Some(state) = before.map(Health::state).filter(|state| *state != State::Up) {
        health.force(state);
    }
    Some(health)
}

fn settings(server: &ModelServer, check: &Check) -> Settings {
    let observe = server.observe;
    Settings {
        inter: check.inter,
        fastinter: check.fastinter,
        downinter: check.downinter,
        rise: check.rise,
        fall: check.fall,
        // The cores count to `error-limit` together: each row of errors that they tell of is one for the machine.
        observe: observe.map(|observe| health::Observe { error_limit: 1, on_error: observe.on_error }),
    }
}

/// The worse of two states.
fn worse(a: State, b: State) -> State {
    match (a, b) {
        (State::Down, _) | (_, State::Down) => State::Down,
        (State::NoLoad, _) | (_, State::NoLoad) => State::NoLoad,
        (State::Up, State::Up) => State::Up,
    }
}

/// Usable servers of a backend.
struct Usable {
    active: usize,
    backup: usize,
}

impl Control {
    fn usable(&self, backend: BackendId) -> Usable {
        let all = self.model.backends[backend].servers;
        let usable = |backup: bool| {
            let wanted = all.iter().filter(|id| self.model.servers[*id].backup == backup);
            wanted.filter(|id| self.live.servers[*id].is_usable()).count()
        };
        Usable { active: usable(false), backup: usable(true) }
    }

    /// The result of a check of this server.
    pub(super) fn on_check(&self, id: ServerId, report: &Report) {
        let entered = {
            let mut states = self.states.borrow_mut();
            let state = &mut states.servers[id];
            let Some(health) = &mut state.health else { return };
            let outcome = health.on_check(report.status);
            state.last_check = Some(report.clone());
            if outcome.failed_check {
                self.cells.servers[id].count(Stat::ChecksFailed);
            }
            outcome.entered
        };
        let Some(entered) = entered else { return };
        let row = report.status.row();
        let info =
            if report.info.is_empty() { String::new() } else { format!(", info: \"{}\"", report.info) };
        let ms = report.duration.as_millis();
        let code = report.code.map(|code| format!(", code: {code}")).unwrap_or_default();
        let reason = format!("reason: {}{code}{info}, check duration: {ms}ms", row.description);
        self.on_health(id, entered, &reason);
    }

    /// Its health has become another one.
    pub(super) fn on_health(&self, id: ServerId, entered: State, reason: &str) {
        if entered == State::Down {
            self.cells.servers[id].count(Stat::ChecksDown);
        }
        let word = match entered {
            State::Up => "UP",
            State::NoLoad => "stopping",
            State::Down => "DOWN",
        };
        self.apply(id, &format!("is {word}, {reason}."));
        self.remember_health(id);
        let ends_sessions = self.model.servers[id].on_marked_down_shutdown;
        if entered == State::Down && ends_sessions {
            self.broadcast(|| ToCore::ShutdownServer(self.live.servers[id].clone(), end::Kind::ServerDown));
        }
    }

    /// At the start: what another process knew of its health takes it out of the load.
    pub(super) fn resume_down(&self, id: ServerId) {
        self.apply(id, "is as before the restart, until its check says otherwise.");
    }

    /// What an administrator decided.
    pub(super) fn set_admin_state(&self, id: ServerId, admin: AdminState) {
        let live = &self.live.servers[id];
        let before = live.admin();
        if before == admin {
            return;
        }
        live.set_admin(admin);
        let words = match (before, admin) {
            (_, AdminState::Maint) => "is going DOWN for maintenance.",
            (_, AdminState::Drain) => "enters drain state.",
            (AdminState::Maint, AdminState::Ready) => "is UP/READY (leaving forced maintenance).",
            (_, AdminState::Ready) => "is UP (leaving forced drain).",
        };
        if before == AdminState::Maint {
            // What checks found before the maintenance says nothing any more: up, and down at the first failure.
            if let (Some(health), Some(check)) =
                (&mut self.states.borrow_mut().servers[id].health, &self.model.servers[id].check)
            {
                *health = Health::new(settings(&self.model.servers[id], check));
            }
        }
        self.apply(id, words);
        if admin == AdminState::Maint && self.model.servers[id].on_marked_down_shutdown {
            self.broadcast(|| ToCore::ShutdownServer(self.live.servers[id].clone(), end::Kind::ServerDown));
        }
        self.probes_changed();
    }

    /// Its address: from the resolver or an administrator. `None`: its name does not resolve.
    pub(super) fn set_address(&self, id: ServerId, address: Option<SocketAddr>, who: &str) {
        let before = self.live.servers[id].address();
        let first = !self.states.borrow().servers[id].resolved;
        if before == address && first == address.is_none() {
            return;
        }
        self.live.servers[id].set_address(address);
        self.states.borrow_mut().servers[id].resolved = address.is_some();
        match (first, address, before) {
            (true, Some(to), _) => self.apply(id, &format!("is UP/READY ({who}: {to}).")),
            (false, Some(to), from) => {
                let from = from.map(|from| from.to_string()).unwrap_or_default();
                let text =
                    format!("{} changed its address from {from} to {to} by {who}", self.server_name(id));
                self.say(Level::Notice, text);
                self.live.changed(self.model.servers[id].backend);
            }
            (_, None, _) => self.apply(id, &format!("is DOWN ({who}: no address).")),
        }
        self.probes_changed();
    }

    /// Brings `live` in line with what is known of a server, after one change of it, and tells everybody concerned.
    /// `words`: what to say of the server.
    fn apply(&self, id: ServerId, words: &str) {
        let now = rt::now();
        let server = &self.model.servers[id];
        let backend = server.backend;
        let live = &self.live.servers[id];
        let (was_up, is_up, first) = {
            let mut states = self.states.borrow_mut();
            let health = self.health_of(&states, id);
            let state = &mut states.servers[id];
            live.set_up(health != State::Down && state.resolved);
            live.set_stopping(health == State::NoLoad);
            let was_up = state.clock.up;
            state.clock.set(live.is_usable(), now);
            if !live.is_usable() {
                state.slow = None;
            }
            let first = !state.was_up;
            state.was_up |= live.is_usable();
            (was_up, live.is_usable(), first)
        };
        if is_up && !was_up && !first {
            self.warm_up(id, now);
        }
        self.live.changed(backend);
        let requeued = if is_up { 0 } else { queue::evict(&self.live, &self.cores, backend, id) };
        queue::pump(&self.live, &self.cores, backend, id, now);
        self.say_change(id, words, is_up, requeued);
        self.note_backend(backend, now);
        // HAProxy: a backup that comes up, or a server that takes no load, replaces nobody.
        if is_up
            && !was_up
            && server.on_marked_up_shutdown_backups
            && !server.backup
            && live.user_weight() > 0
        {
            self.shutdown_backup_sessions(backend);
        }
        self.apply_to_followers(id);
    }

    /// Ends the sessions of all backup servers of a backend.
    fn shutdown_backup_sessions(&self, backend: BackendId) {
        for id in self.model.backends[backend].servers.iter().filter(|id| self.model.servers[*id].backup) {
            self.broadcast(|| ToCore::ShutdownServer(self.live.servers[id].clone(), end::Kind::BackupOver));
        }
    }

    /// Servers that track this one change with it.
    fn apply_to_followers(&self, id: ServerId) {
        for (follower, server) in self.model.servers.iter().filter(|(_, server)| server.track == Some(id)) {
            let live = &self.live.servers[follower];
            let before = (live.is_up(), live.is_usable());
            let health = self.health_of(&self.states.borrow(), follower);
            if before == (health != State::Down, health == State::Up && live.admin() == AdminState::Ready) {
                continue;
            }
            let word = match health {
                State::Up => "UP",
                State::NoLoad => "stopping",
                State::Down => "DOWN",
            };
            self.apply(follower, &format!("is {word} via {}.", self.server_name(id)));
            if before.0 && health == State::Down && server.on_marked_down_shutdown {
                self.broadcast(|| ToCore::ShutdownServer(live.clone(), end::Kind::ServerDown));
            }
        }
    }

    /// The health of a server from all that is known of it: its checks, its agent, the server that it tracks.
    pub(super) fn health_of(&self, states: &States, id: ServerId) -> State {
        let state = &states.servers[id];
        let check = state.health.as_ref().map_or(State::Up, Health::state);
        let agent = state.agent.as_ref().map_or(State::Up, |agent| agent.health.state());
        let tracked = match self.model.servers[id].track {
            None => State::Up,
            Some(target) => match self.live.servers[target].admin() {
                AdminState::Maint => State::Down,
                _ if !states.servers[target].resolved => State::Down,
                AdminState::Drain => worse(State::NoLoad, self.health_of(states, target)),
                AdminState::Ready => self.health_of(states, target),
            },
        };
        worse(worse(check, agent), tracked)
    }

    /// At the start: servers that track one which is down or disabled begin so, without a word.
    pub(super) fn follow_from_start(&self) {
        for (id, _) in self.model.servers.iter().filter(|(_, server)| server.track.is_some()) {
            let mut states = self.states.borrow_mut();
            let health = self.health_of(&states, id);
            let live = &self.live.servers[id];
            live.set_up(health != State::Down && states.servers[id].resolved);
            live.set_stopping(health == State::NoLoad);
            states.servers[id].clock.set(live.is_usable(), rt::now());
            drop(states);
            self.live.changed(self.model.servers[id].backend);
        }
    }

    /// Traffic of a server met too many errors in a row (`observe`).
    pub(super) fn on_error_limit(&self, id: ServerId) {
        let outcome = {
            let mut states = self.states.borrow_mut();
            let state = &mut states.servers[id];
            let Some(health) = &mut state.health else { return };
            if !state.checks_enabled || self.live.servers[id].admin() == AdminState::Maint {
                return;
            }
            let outcome = health.on_traffic(false);
            if outcome.failed_check {
                self.cells.servers[id].count(Stat::ChecksFailed);
                let status = CheckStatus::Analyzed;
                let info = "errors of traffic reached error-limit".to_owned();
                state.last_check = Some(Report { status, info, code: None, duration: Duration::ZERO });
            }
            outcome
        };
        if let Some(entered) = outcome.entered {
            self.on_health(id, entered, "reason: Health analyze, errors of traffic reached error-limit");
        }
        if outcome.check_soon {
            self.hurry(id);
        }
    }

    /// The line that HAProxy writes when a server changes.
    fn say_change(&self, id: ServerId, words: &str, is_up: bool, requeued: usize) {
        let backend = self.model.servers[id].backend;
        let Usable { active, backup } = self.usable(backend);
        let sessions = self.collector.borrow().sums::<Server>(id).get(Stat::SessionsCur).unwrap_or(0);
        let queued = self.live.backends[backend].queued.load(std::sync::atomic::Ordering::Relaxed);
        let on_backup = if active == 0 && backup > 0 { " Running on backup." } else { "" };
        let name = self.server_name(id);
        let kind = if self.model.servers[id].backup { "Backup Server" } else { "Server" };
        // As with HAProxy who is drained is not down.
        let live = &self.live.servers[id];
        let is_down = !is_up && (live.admin() == AdminState::Maint || !live.is_up());
        let text = if !is_down {
            format!(
                "{kind} {name} {words} {active} active and {backup} backup servers online.{on_backup} {requeued} sessions \
                 requeued, {queued} total in queue."
            )
        } else {
            format!(
                "{kind} {name} {words} {active} active and {backup} backup servers left.{on_backup} {sessions} sessions active, \
                 {requeued} requeued, {queued} remaining in queue."
            )
        };
        self.say(if is_down { Level::Alert } else { Level::Notice }, text);
    }

    /// Whether the backend has a usable server now.
    pub(super) fn note_backend(&self, id: BackendId, now: Now) {
        let Usable { active, backup } = self.usable(id);
        let up = active + backup > 0;
        if self.states.borrow_mut().backends[id].set(up, now) && !up {
            self.cells.backends[id].count(Stat::ChecksDown);
            let name = &self.model.backends[id].name;
            self.say(Level::Alert, format!("backend {name} has no server available!"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downtime_adds_up_over_all_times_down() {
        let s = |n: u64| Now(n * 1_000_000_000);
        let mut clock = UpClock::new(true, s(0));
        assert!(!clock.set(true, s(5)));
        assert_eq!(clock.downtime(s(10)), Duration::ZERO);
        assert!(clock.set(false, s(10)));
        assert!(!clock.set(false, s(12)));
        assert_eq!(
            (clock.downtime(s(15)), clock.last_change(s(15))),
            (Duration::from_secs(5), Duration::from_secs(5))
        );
        assert!(clock.set(true, s(20)) && clock.set(false, s(30)));
        assert_eq!(
            (clock.downtime(s(31)), clock.last_change(s(31))),
            (Duration::from_secs(11), Duration::from_secs(1))
        );
    }
}

//! What admin commands see and change: [`AdminTarget`] over this core's state.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::base::id::{BackendId, FrontendId, IdRange, ServerId};
use crate::base::limits::DESCRIPTORS_SHOWN_MAX;
use crate::base::time::Now;
use crate::control::aims;
use crate::control::cli::{AdminTarget, Aim, Captured, HealthOrder, ResolvedName, VipOrder, Whose};
use crate::control::core::Control;
use crate::control::drift::Actor;
use crate::control::events::Level;
use crate::control::log_ring::EventRing;
use crate::control::origin;
use crate::control::resolve::Name;
use crate::control::state::overrides::{Field, Key};
use crate::control::vip::VipRow;
use crate::live::{AdminState, FrontendState};
use crate::model::Model;
use crate::policy::health::State;
use crate::policy::pattern::{Line, PatternFile};
use crate::proxy::end;
use crate::proxy::message::ToCore;
use crate::proxy::refusals;
use crate::rt;
use crate::stats::history::{ObjectKey, Point};
use crate::stats::latency::{Laps, Window, summed_up};
use crate::stats::process::CORE_CELLS;
use crate::stats::render::Filter;
use crate::stats::snapshot::{ProcessFacts, ServerFacts, Snapshot};
use crate::stats::status::Admin;
use crate::stats::table::Object;
use crate::tls;

/// The running process as the admin socket sees it.
pub(super) struct Target {
    pub(super) control: Rc<Control>,
    /// Who speaks.
    actor: Actor,
}

impl Target {
    /// The process as it runs now.
    pub(super) fn new(control: Rc<Control>) -> Target {
        Target { control, actor: Actor::default() }
    }

    fn note(&self, id: ServerId, field: Field, to: impl ToString) {
        self.control.note_change(self.control.key(id, field), Some(to.to_string()), &self.actor);
    }
}

impl AdminTarget for Target {
    fn model(&self) -> &Model {
        &self.control.model
    }

    fn snapshot(&self, window: Window, wanted: &Filter) -> Snapshot {
        self.control.snapshot(window, wanted)
    }

    fn series(&self, whose: Whose, ago: Duration) -> Vec<(Duration, Point)> {
        let cells = &self.control.cells;
        let key = match whose {
            Whose::Frontend(id) => ObjectKey::new(Object::Frontend, cells.frontends[id].row()),
            Whose::Backend(id) => ObjectKey::new(Object::Backend, cells.backends[id].row()),
            Whose::Server(id) => ObjectKey::new(Object::Server, cells.servers[id].row()),
        };
        let now = rt::now();
        let points = self.control.history.borrow().series(key, now - ago);
        points.into_iter().map(|point| (now.since(point.at), point)).collect()
    }

    fn latency(&self, servers: IdRange<ServerId>, window: Window) -> Laps {
        let cells = &self.control.cells.servers;
        let rows = servers.iter().map(|id| cells[id].row());
        summed_up(&mut self.control.latency.borrow().histograms(window, rows))
    }

    fn rule_hits(&self) -> Vec<(u64, Duration)> {
        let collector = self.control.collector.borrow();
        let now = rt::now();
        let rule = |id: usize| {
            let cells = collector.shards().iter().filter_map(|shard| shard.rules.get(id));
            let (hits, last) = cells
                .map(|cells| cells.get())
                .fold((0, Now(0)), |sum, (hits, last)| (sum.0 + hits, sum.1.max(last)));
            (hits, now.since(last))
        };
        (0..self.control.cells.rules.len()).map(rule).collect()
    }

    fn process(&self) -> ProcessFacts {
        self.control.process_facts()
    }

    fn cores(&self) -> Vec<[u64; CORE_CELLS]> {
        self.control.collector.borrow().core_values()
    }

    fn refusals(&self) -> Vec<refusals::Row> {
        refusals::rows(self.control.collector.borrow().shards())
    }

    fn rings(&self) -> Vec<(String, String)> {
        let describe = |ring: &Rc<EventRing>| {
            let settings = ring.settings();
            (settings.name.clone(), settings.description.clone())
        };
        self.control.rings().iter().map(describe).collect()
    }

    fn ring_lines(&self, name: &str, from: u64) -> Option<(String, u64)> {
        let ring = self.control.rings().into_iter().find(|ring| ring.settings().name == name)?;
        let mut text = String::new();
        let next = ring.read(from, &mut text);
        Some((text, next))
    }

    fn server(&self, id: ServerId) -> ServerFacts {
        self.control.server_facts(id)
    }

    fn errors(&self) -> (u64, Vec<Captured>) {
        self.control.events.captures.borrow().all()
    }

    fn descriptors(&self) -> Result<Vec<(u32, String)>, String> {
        let all = std::fs::read_dir("/proc/self/fd").map_err(|e| e.to_string())?;
        let mut found: Vec<(u32, String)> = all
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let number = entry.file_name().to_str()?.parse().ok()?;
                // The one that reads this directory is closed by the time it is asked.
                Some((number, std::fs::read_link(entry.path()).ok()?.display().to_string()))
            })
            .take(DESCRIPTORS_SHOWN_MAX)
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    fn statistics_bytes(&self) -> (usize, usize) {
        (self.control.latency.borrow().bytes(), self.control.history.borrow().bytes())
    }

    fn resolvers(&self) -> Vec<ResolvedName> {
        let names = self.control.names.borrow();
        let now = rt::now();
        let show = |name: &Name| ResolvedName {
            host: name.host.clone(),
            counts: (name.found, name.failed),
            age: now.since(name.at),
            found: name
                .last
                .as_ref()
                .map(|found| found.iter().map(ToString::to_string).collect())
                .map_err(Clone::clone),
        };
        names.iter().map(show).collect()
    }

    fn certificates(&mut self, order: &tls::Order<'_>) -> Result<(String, bool), String> {
        self.control.order_certificates(order)
    }

    fn update_ocsp(&mut self) {
        self.control.ocsp.hurry();
    }

    fn audit(&mut self, text: &str) {
        self.control.events.audit(text);
    }

    fn vips(&self) -> Vec<VipRow> {
        let known = self.control.vips.borrow();
        let row = |vip: &crate::model::vip::Vip| {
            let state = known.get(&vip.name).copied().unwrap_or_default();
            let usable = |backend: &BackendId| {
                let mut servers = self.control.model.backends[*backend].servers.iter();
                servers.any(|id| self.control.live.servers[id].is_usable())
            };
            let lacks = vip.track.iter().find(|backend| !usable(backend));
            VipRow {
                name: vip.name.clone(),
                role: state.role.map(|(role, _)| role),
                since: state.role.map_or(Duration::ZERO, |(_, at)| rt::now().since(at)),
                changes: state.changes,
                drain: state.drain,
                lacks: lacks.map(|backend| self.control.model.backends[*backend].name.clone()),
                announce: vip.announce,
                addresses: vip.addresses.clone(),
            }
        };
        self.control.model.vips.iter().map(row).collect()
    }

    fn set_vip(&mut self, name: &str, order: VipOrder) {
        let mut known = self.control.vips.borrow_mut();
        let state = known.entry(name.to_owned()).or_default();
        let said = match order {
            VipOrder::Drain(drain) if drain != state.drain => {
                state.drain = drain;
                Some(if drain { "drained from the admin socket" } else { "ready again" })
            }
            VipOrder::Role(role) if state.role.is_none_or(|(before, _)| before != role) => {
                state.role = Some((role, rt::now()));
                state.changes += 1;
                Some(role.name())
            }
            VipOrder::Drain(_) | VipOrder::Role(_) => None,
        };
        if let Some(said) = said {
            self.control.say(Level::Notice, format!("vip {name} is {said}"));
        }
        if let VipOrder::Drain(drain) = order {
            let to = if drain { "drain" } else { "ready" };
            self.control.note_change(Key::VipState(name.to_owned()), Some(to.to_owned()), &self.actor);
        }
    }

    fn actor(&mut self, who: &str, lifetime: Option<Duration>) {
        self.actor = Actor { who: who.to_owned(), lifetime };
    }

    fn patterns_changed(&mut self, file: &PatternFile, before: &[Line]) {
        self.control.note_patterns(file, before, &self.actor);
    }

    fn drift(&self, object: &str) -> String {
        origin::drift(&self.control, object)
    }

    fn adopt(&self, object: &str) -> String {
        origin::adopt(&self.control, object)
    }

    fn clear_overrides(&mut self, object: &str) -> usize {
        self.control.clear_overrides(object, &self.actor.who)
    }

    fn origins(&self, id: ServerId) -> String {
        origin::server(&self.control, id)
    }

    fn set_weight(&mut self, id: ServerId, weight: u32) {
        self.note(id, Field::Weight, weight);
        self.control.set_user_weight(id, weight);
    }

    fn set_admin(&mut self, id: ServerId, admin: Admin) {
        let state = match admin {
            Admin::Ready => AdminState::Ready,
            Admin::Drain => AdminState::Drain,
            Admin::Maint | Admin::MaintVia(_) | Admin::MaintResolution => AdminState::Maint,
        };
        self.note(id, Field::State, origin::state_word(state));
        self.control.set_admin_state(id, state);
    }

    fn set_health(&mut self, id: ServerId, order: HealthOrder) {
        let state = match order {
            HealthOrder::Up => State::Up,
            HealthOrder::Stopping => State::NoLoad,
            HealthOrder::Down => State::Down,
        };
        let entered = {
            let mut states = self.control.states.borrow_mut();
            states.servers[id].health.as_mut().and_then(|health| health.force(state).entered)
        };
        if let Some(entered) = entered {
            self.control.on_health(id, entered, "reason: changed from the admin socket");
        }
    }

    fn set_checks(&mut self, id: ServerId, enabled: bool) {
        let word = if enabled { aims::ENABLED } else { aims::DISABLED };
        self.note(id, Field::Health, word);
        self.control.put_aim(id, Field::Health, word);
    }

    fn set_agent_enabled(&mut self, id: ServerId, enabled: bool) {
        self.note(id, Field::Agent, if enabled { aims::ENABLED } else { aims::DISABLED });
        self.control.set_agent_enabled(id, enabled);
    }

    fn set_agent(&mut self, id: ServerId, order: HealthOrder) {
        let state = if order == HealthOrder::Down { State::Down } else { State::Up };
        self.control.force_agent(id, state);
    }

    fn set_address(&mut self, id: ServerId, address: SocketAddr) {
        self.note(id, Field::Addr, address);
        self.control.set_address(id, Some(address), "admin socket");
    }

    fn set_aim(&mut self, id: ServerId, aim: Aim) {
        for (field, to) in aim.changes(&self.control.model.servers[id]) {
            self.note(id, field, to);
        }
        let is_name = matches!(aim, Aim::Fqdn(_));
        self.control.set_aim(id, aim);
        if is_name {
            // Who gives it a name wants the address of that name.
            self.control.end_overrides(&[self.control.key(id, Field::Addr)], "another name was set");
        }
    }

    fn set_server_maxconn(&mut self, id: ServerId, maxconn: Option<u32>) {
        self.note(id, Field::Maxconn, maxconn.unwrap_or(0));
        self.control.set_server_limit(id, maxconn);
    }

    fn shutdown_server_sessions(&mut self, id: ServerId) {
        let control = &self.control;
        control.broadcast(|| ToCore::ShutdownServer(control.live.servers[id].clone(), end::Kind::Killed));
    }

    fn set_frontend_enabled(&mut self, id: FrontendId, enabled: bool) -> bool {
        let word = if enabled { aims::ENABLED } else { aims::DISABLED };
        let key = Key::FrontendState(self.control.model.frontends[id].name.clone());
        self.control.note_change(key, Some(word.to_owned()), &self.actor);
        self.control.set_frontend_enabled(id, enabled)
    }

    fn frontend_state(&self, id: FrontendId) -> FrontendState {
        self.control.live.frontends[id].state()
    }

    fn shut_frontend(&mut self, id: FrontendId) {
        // The reload that opens it again finds it as configured.
        let key = Key::FrontendState(self.control.model.frontends[id].name.clone());
        self.control.note_change(key, Some(aims::ENABLED.to_owned()), &self.actor);
        self.control.shut_frontend(id);
    }

    fn set_frontend_maxconn(&mut self, id: FrontendId, maxconn: Option<u32>) -> Option<u32> {
        let connections = &self.control.live.frontends[id].connections;
        let before = connections.limit();
        connections.set_limit(maxconn);
        let key = Key::FrontendMaxconn(self.control.model.frontends[id].name.clone());
        self.control.note_change(key, Some(maxconn.unwrap_or(0).to_string()), &self.actor);
        self.control.broadcast(|| ToCore::Room);
        before
    }

    fn set_global_maxconn(&mut self, maxconn: Option<u32>) -> bool {
        let budget = self.control.process.budget;
        let wanted = maxconn.unwrap_or(budget.maxconn);
        if wanted > budget.hard_maxconn {
            return false;
        }
        self.control.live.process.connections.set_limit(Some(wanted));
        // Back to what it started with is back to the configuration.
        let to = maxconn.or(self.control.model.global.maxconn).unwrap_or(0);
        self.control.note_change(Key::GlobalMaxconn, Some(to.to_string()), &self.actor);
        self.control.broadcast(|| ToCore::Room);
        true
    }

    fn set_rate_limit(&mut self, per_second: u32) {
        self.control.live.process.rate.set_limit(per_second);
        self.control.note_change(Key::GlobalRate, Some(per_second.to_string()), &self.actor);
    }

    fn set_tls_rate_limit(&mut self, per_second: u32) {
        self.control.live.process.tls_rate.set_limit(per_second);
        self.control.note_change(Key::GlobalTlsRate, Some(per_second.to_string()), &self.actor);
    }

    fn clear_counters(&mut self, all: bool) {
        self.control.collector.borrow_mut().clear(all);
    }
}

//! A target made of plain values, and a socket loop over it.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::*;
use crate::base::id::{FrontendId, IdRange, ServerId};
use crate::base::net::Addr;
use crate::config::{self, Env};
use crate::live::FrontendState;
use crate::model::Model;
use crate::policy::ports::Ledger;
use crate::proxy::capture::Malformed;
use crate::proxy::refusals;
use crate::stats::latency::{Laps, Window};
use crate::stats::process::CORE_CELLS;
use crate::stats::render::Filter;
use crate::stats::render::tests::snapshot;
use crate::stats::snapshot::{Facts, ProcessFacts, ServerFacts, Snapshot};
use crate::stats::status::Admin;

/// Remembers what was asked of it, in words.
pub(super) struct Fixture {
    pub(super) model: Model,
    pub(super) snapshot: Snapshot,
    pub(super) changes: Vec<String>,
    pub(super) audited: Vec<String>,
    pub(super) enabled: bool,
    pub(super) shut: bool,
}

impl AdminTarget for Fixture {
    fn model(&self) -> &Model {
        &self.model
    }
    fn snapshot(&self, _: Window, _: &Filter) -> Snapshot {
        self.snapshot.clone()
    }
    fn latency(&self, servers: IdRange<ServerId>, _: Window) -> Laps {
        if servers.start != ServerId(0) {
            return Laps::default();
        }
        let laps = self.snapshot.entries.iter().find_map(|entry| entry.latency.as_deref());
        laps.copied().unwrap_or_default()
    }
    fn rule_hits(&self) -> Vec<(u64, Duration)> {
        Vec::new()
    }
    fn process(&self) -> ProcessFacts {
        self.snapshot.process.clone()
    }
    fn cores(&self) -> Vec<[u64; CORE_CELLS]> {
        vec![[1; CORE_CELLS], [2; CORE_CELLS]]
    }
    fn refusals(&self) -> Vec<refusals::Row> {
        let from = refusals::From::Request;
        let row = |name, status, count, text| refusals::Row { from, name, status, count, text };
        vec![
            row("obs-fold", 400, 0, "a header goes on in the next line"),
            row("head-too-large", 431, 7, "the head is too large"),
        ]
    }
    fn server(&self, id: ServerId) -> ServerFacts {
        let servers = self.snapshot.entries.iter().filter_map(|entry| match &entry.facts {
            Facts::Server(facts) => Some(facts),
            _ => None,
        });
        (**servers.collect::<Vec<_>>()[id.0 as usize]).clone()
    }
    fn errors(&self) -> (u64, Vec<Captured>) {
        let request = Malformed {
            frontend: FrontendId(0),
            server: None,
            client: Addr::Ip("192.0.2.1:4242".parse().expect("an address")),
            session: 0x1f,
            reason: "a control character in a header",
            at: 20,
            len: 31,
            start: 0,
            bytes: b"GET / HTTP/1.1\r\nHost\x01: a\r\n\r\n".to_vec(),
        };
        let response = Malformed { server: Some(ServerId(0)), at: 0, ..request.clone() };
        let at = std::time::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let captured = |number, malformed| Captured { number, at, malformed };
        (7, vec![captured(7, request), captured(6, response)])
    }
    fn descriptors(&self) -> Result<Vec<(u32, String)>, String> {
        Ok(vec![(0, "/dev/null".to_owned()), (12, "socket:[4711]".to_owned())])
    }
    fn statistics_bytes(&self) -> (usize, usize) {
        (1000, 2000)
    }
    fn resolvers(&self) -> Vec<ResolvedName> {
        let name = |host: &str, found| ResolvedName {
            host: host.to_owned(),
            counts: (3, 1),
            age: Duration::from_secs(9),
            found,
        };
        vec![
            name("web.example", Ok(vec!["192.0.2.7".to_owned()])),
            name("gone.example", Err("there is no such name".to_owned())),
        ]
    }
    fn audit(&mut self, text: &str) {
        self.audited.push(text.to_owned());
    }
    fn set_weight(&mut self, id: ServerId, weight: u32) {
        self.changes.push(format!("weight {id:?} {weight}"));
    }
    fn set_admin(&mut self, id: ServerId, admin: Admin) {
        self.changes.push(format!("admin {id:?} {admin:?}"));
    }
    fn set_health(&mut self, id: ServerId, health: HealthOrder) {
        self.changes.push(format!("health {id:?} {health:?}"));
    }
    fn set_checks(&mut self, id: ServerId, enabled: bool) {
        self.changes.push(format!("checks {id:?} {enabled}"));
    }
    fn set_agent_enabled(&mut self, id: ServerId, enabled: bool) {
        self.changes.push(format!("agent {id:?} {enabled}"));
    }
    fn set_agent(&mut self, id: ServerId, health: HealthOrder) {
        self.changes.push(format!("agent {id:?} {health:?}"));
    }
    fn set_address(&mut self, id: ServerId, address: SocketAddr) {
        self.changes.push(format!("address {id:?} {address}"));
    }
    fn set_aim(&mut self, id: ServerId, aim: Aim) {
        self.changes.push(format!("{id:?} {aim:?}"));
    }
    fn set_server_maxconn(&mut self, id: ServerId, maxconn: Option<u32>) {
        self.changes.push(format!("maxconn {id:?} {maxconn:?}"));
    }
    fn shutdown_server_sessions(&mut self, id: ServerId) {
        self.changes.push(format!("shutdown {id:?}"));
    }
    fn set_frontend_enabled(&mut self, id: FrontendId, enabled: bool) -> bool {
        self.changes.push(format!("enabled {id:?} {enabled}"));
        std::mem::replace(&mut self.enabled, enabled) != enabled
    }
    fn frontend_state(&self, _: FrontendId) -> FrontendState {
        if self.shut { FrontendState::Shut } else { FrontendState::Open }
    }
    fn shut_frontend(&mut self, id: FrontendId) {
        self.shut = true;
        self.changes.push(format!("shut {id:?}"));
    }
    fn set_frontend_maxconn(&mut self, id: FrontendId, maxconn: Option<u32>) -> Option<u32> {
        self.changes.push(format!("maxconn {id:?} {maxconn:?}"));
        None
    }
    fn set_global_maxconn(&mut self, maxconn: Option<u32>) -> bool {
        self.changes.push(format!("maxconn {maxconn:?}"));
        maxconn.is_none_or(|n| n <= 2000)
    }
    fn set_rate_limit(&mut self, per_second: u32) {
        self.changes.push(format!("rate {per_second}"));
    }
    fn set_tls_rate_limit(&mut self, per_second: u32) {
        self.changes.push(format!("TLS rate {per_second}"));
    }
    fn clear_counters(&mut self, all: bool) {
        self.changes.push(format!("clear {all}"));
    }
}

/// The objects of [`snapshot`].
const CONFIG: &str = r#"
[global]
cores = "0-1"

[admin]
socket = [{ path = "/run/x.sock", level = "admin" }]

[defaults]
timeout = { client = "1s", connect = "1s", server = "1s" }

[frontend.public]
id = 2
bind = "127.0.0.1:0"
default-backend = "web"

[backend.web]
id = 3

[backend.web.server]
web1 = { address = "10.0.0.1:80", weight = 10, check = true, agent-check = true, agent-port = 9777 }
web2 = { address = "[2001:db8::1]:80", weight = 10, backup = true }
web3 = { address = "[2001:db8::1]:80", weight = 10 }
"#;

pub(super) fn fixture() -> Fixture {
    let env = Env {
        base: Default::default(),
        variable: Box::new(|_| None),
        read: Box::new(|_| Err("no files here".to_owned())),
        cpus: vec![0, 1],
        hostname: "lb1".to_owned(),
    };
    let (model, diagnostics) = config::load("test.toml", CONFIG, &env);
    let model = model.unwrap_or_else(|| panic!("{diagnostics:?}"));
    Fixture {
        model,
        snapshot: snapshot(),
        changes: Vec::new(),
        audited: Vec::new(),
        enabled: true,
        shut: false,
    }
}

/// What a socket loop does with the session, jobs included.
pub(super) fn talk(fixture: &mut Fixture, session: &mut AdminSession, input: &[u8]) -> (String, Next) {
    let mut out = String::new();
    session.handle_input(input);
    loop {
        match session.poll(fixture, &mut out) {
            Next::Continue => {}
            Next::Do(Job::Wait(delay)) => {
                fixture.changes.push(format!("wait {delay:?}"));
                session.handle_outcome(Outcome::Done);
            }
            Next::Do(Job::Statistics(asked)) => {
                let text = match asked.ago {
                    Some(ago) if ago > Duration::from_secs(60) => {
                        "The history goes back 60 seconds.".to_owned()
                    }
                    _ => {
                        let mut text = String::new();
                        asked.form.stat(&fixture.snapshot, &asked.filter, &mut text);
                        text
                    }
                };
                session.handle_outcome(Outcome::Text(text));
            }
            Next::Do(Job::Sessions) => session.handle_outcome(Outcome::Sessions(vec![session_info()])),
            Next::Do(Job::Sources) => {
                let (source, destination) = ("192.0.2.1", "10.0.0.1:80");
                let source = source.parse().expect("an address");
                let destination = destination.parse().expect("an address");
                let row = Ledger { source, destination, used: 3, free: 60_000, waiting: 17, rate: 2 };
                session.handle_outcome(Outcome::Sources(vec![row]));
            }
            Next::Do(Job::ShutdownSession(id)) => session.handle_outcome(Outcome::Found(id == 0x1f)),
            next => return (out, next),
        }
    }
}

fn session_info() -> SessionInfo {
    SessionInfo {
        id: 0x1f,
        core: 1,
        age: Duration::from_secs(65),
        frontend: "public".to_owned(),
        backend: Some("web".to_owned()),
        server: None,
        client: Addr::Ip(([192, 0, 2, 7], 4711).into()),
        local: Addr::Ip(([127, 0, 0, 1], 8080).into()),
        target: None,
        bytes_in: 10,
        bytes_out: 20,
        state: "queue",
    }
}

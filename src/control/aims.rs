//! Where an administrator had the checks of a server sent, and which name it was given, in place of what the configuration
//! says. They last until the configuration says something else about the same thing; `drift` remembers them as overrides.

use std::net::IpAddr;

use crate::base::id::ServerId;
use crate::control::cli::Aim;
use crate::control::core::Control;
use crate::control::drift::configured_address;
use crate::control::events::Level;
use crate::control::resolve;
use crate::control::state::overrides::Field;
use crate::model::{Agent, Check, Server, ServerAddress};

/// An address or port that is that of the server itself.
const OWN: &str = "of the server";
/// Checks, agents and frontends as they are configured, and otherwise.
pub(super) const ENABLED: &str = "enabled";
pub(super) const DISABLED: &str = "disabled";

/// The value of something that is the server's own unless it is said.
fn or_own<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| OWN.to_owned(), |value| value.to_string())
}

/// Text for an agent as it is typed: in one line.
fn typed(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace('\n', "\\n")
}

/// What the configuration says of one of `Field::MORE`; `None`: the server has no such thing.
pub(super) fn configured(server: &Server, field: Field) -> Option<String> {
    let (check, agent) = (server.check.as_ref(), server.agent.as_ref());
    match field {
        Field::Health => check.map(|_| ENABLED.to_owned()),
        Field::CheckAddr => check.map(|check| or_own(check.address)),
        Field::CheckPort => check.map(|check| or_own(check.port)),
        Field::Agent => agent.map(|_| ENABLED.to_owned()),
        Field::AgentAddr => agent.map(|agent| or_own(agent.address)),
        Field::AgentPort => agent.map(|agent| agent.port.to_string()),
        Field::AgentSend => agent.map(|agent| typed(&agent.send)),
        Field::Fqdn => {
            matches!(server.address, ServerAddress::Name { .. }).then(|| configured_address(&server.address))
        }
        Field::Addr | Field::Maxconn | Field::State | Field::Weight => None,
    }
}

/// What was set for one server; `None`: as configured.
#[derive(Clone, Default, Debug)]
pub(super) struct Aims {
    check_ip: Option<IpAddr>,
    check_port: Option<u16>,
    agent_ip: Option<IpAddr>,
    agent_port: Option<u16>,
    agent_send: Option<Vec<u8>>,
    fqdn: Option<String>,
}

impl Aims {
    /// What is left of them when the configuration of the server becomes another one.
    pub(super) fn carried(mut self, before: &Server, after: &Server) -> Aims {
        if before.check != after.check {
            (self.check_ip, self.check_port) = (None, None);
        }
        if before.agent != after.agent {
            (self.agent_ip, self.agent_port, self.agent_send) = (None, None, None);
        }
        if before.address != after.address {
            self.fqdn = None;
        }
        self
    }

    /// Address and port that are checked instead of the server's.
    pub(super) fn check(&self, check: &Check) -> (Option<IpAddr>, Option<u16>) {
        (self.check_ip.or(check.address), self.check_port.or(check.port))
    }

    /// Address (`None`: that of the server) and port of the agent.
    pub(super) fn agent(&self, agent: &Agent) -> (Option<IpAddr>, u16) {
        (self.agent_ip.or(agent.address), self.agent_port.unwrap_or(agent.port))
    }

    /// What the agent gets first.
    pub(super) fn agent_send<'a>(&'a self, agent: &'a Agent) -> &'a [u8] {
        self.agent_send.as_deref().unwrap_or(&agent.send)
    }

    /// The name that the server is resolved from, and its port.
    pub(super) fn host<'a>(&'a self, server: &'a Server) -> Option<(&'a str, u16)> {
        match &server.address {
            ServerAddress::Name { host, port } => Some((self.fqdn.as_deref().unwrap_or(host), *port)),
            ServerAddress::Ip(_) | ServerAddress::Unix(_) | ServerAddress::Abstract(_) => None,
        }
    }
}

impl Aim {
    /// What it changes and to what; `before`: the server's configuration.
    pub(super) fn changes(&self, before: &Server) -> Vec<(Field, String)> {
        let of = |ip: &Option<IpAddr>, port: &Option<u16>, fields: [Field; 2]| {
            let ip = ip.map(|ip| (fields[0], ip.to_string()));
            ip.into_iter().chain(port.map(|port| (fields[1], port.to_string()))).collect()
        };
        match self {
            Aim::Check { ip, port } => of(ip, port, [Field::CheckAddr, Field::CheckPort]),
            Aim::Agent { ip, port } => of(ip, port, [Field::AgentAddr, Field::AgentPort]),
            Aim::AgentSend(text) => vec![(Field::AgentSend, typed(text))],
            Aim::Fqdn(host) => match &before.address {
                ServerAddress::Name { port, .. } => vec![(Field::Fqdn, format!("{host}:{port}"))],
                _ => Vec::new(),
            },
        }
    }
}

impl Control {
    /// Sets one of `Field::MORE` as an override says it, or as it is configured.
    pub(super) fn put_aim(&self, id: ServerId, field: Field, value: &str) {
        {
            let mut states = self.states.borrow_mut();
            let state = &mut states.servers[id];
            let aims = &mut state.aims;
            match field {
                Field::Health => state.checks_enabled = value == ENABLED,
                Field::CheckAddr => aims.check_ip = value.parse().ok(),
                Field::CheckPort => aims.check_port = value.parse().ok(),
                Field::AgentAddr => aims.agent_ip = value.parse().ok(),
                Field::AgentPort => aims.agent_port = value.parse().ok(),
                Field::AgentSend => aims.agent_send = Some(value.replace("\\n", "\n").into_bytes()),
                Field::Fqdn => aims.fqdn = value.rsplit_once(':').map(|(host, _)| host.to_owned()),
                Field::Agent | Field::Addr | Field::Maxconn | Field::State | Field::Weight => {}
            }
        }
        match field {
            Field::Agent => self.set_agent_enabled(id, value == ENABLED),
            // A name that is known already counts at once.
            Field::Fqdn => resolve::settle(self),
            _ => {}
        }
        self.probes_changed();
    }

    /// `set server ... check-addr | check-port | agent-addr | agent-port | agent-send | fqdn`.
    pub(super) fn set_aim(&self, id: ServerId, aim: Aim) {
        let name = self.server_name(id);
        let is_name = matches!(aim, Aim::Fqdn(_));
        let text = {
            let aims = &mut self.states.borrow_mut().servers[id].aims;
            match aim {
                Aim::Check { ip, port } => {
                    (aims.check_ip, aims.check_port) = (ip.or(aims.check_ip), port.or(aims.check_port));
                    format!("{name} is checked elsewhere, as the admin socket says")
                }
                Aim::Agent { ip, port } => {
                    (aims.agent_ip, aims.agent_port) = (ip.or(aims.agent_ip), port.or(aims.agent_port));
                    format!("{name} has its agent elsewhere, as the admin socket says")
                }
                Aim::AgentSend(text) => {
                    aims.agent_send = Some(text);
                    format!("{name} sends its agent another text, as the admin socket says")
                }
                Aim::Fqdn(host) => {
                    let text = format!("{name} is resolved from {host}, as the admin socket says");
                    aims.fqdn = Some(host);
                    text
                }
            }
        };
        self.say(Level::Notice, text);
        self.probes_changed();
        if is_name {
            // A name that is known already counts at once.
            resolve::settle(self);
        }
    }
}

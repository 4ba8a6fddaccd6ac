//! Where an administrator had the checks of a server sent, and which name it was given, in place of what the configuration
//! says. They last until the configuration says something else about the same thing.

use std::net::IpAddr;

use crate::base::id::ServerId;
use crate::control::cli::Aim;
use crate::control::core::Control;
use crate::control::events::Level;
use crate::control::resolve;
use crate::model::{Agent, Check, Server, ServerAddress};

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

impl Control {
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

//! Agents on servers (`agent-check`): asks each again and again, and does what it says. What its words mean is
//! `policy::agent`'s; an agent that cannot be reached or talks nonsense changes nothing.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::id::ServerId;
use crate::base::limits::CHECK_BYTES_MAX;
use crate::control::core::{Control, ControlBase};
use crate::control::servers::Report;
use crate::live::{AdminState, ServerLive};
use crate::model::Agent;
use crate::policy::agent::{AgentAdmin, AgentError, parse_reply, percent_of_weight};
use crate::policy::health::{self, CheckStatus, Health, Settings, State};
use crate::rt::{self, ConnectOptions, Target};

/// What is known of one agent.
#[derive(Clone)]
pub(super) struct AgentState {
    /// The machine that its words feed; one word is enough in both directions.
    pub(super) health: Health,
    /// It is asked (`disable agent` stops that).
    pub(super) enabled: bool,
    /// The last answer, or why there was none.
    pub(super) last: Option<Report>,
}

impl AgentState {
    pub(super) fn new(agent: &Agent) -> AgentState {
        let inter = agent.inter;
        let health = Health::new(Settings {
            inter,
            fastinter: inter,
            downinter: inter,
            rise: 1,
            fall: 1,
            observe: None,
        });
        AgentState { health, enabled: true, last: None }
    }
}

/// Starts asking all agents that are `wanted`, spread over the shortest interval.
pub(super) fn start_all(control: &Control, wanted: impl Fn(ServerId) -> bool) {
    let agents = control.model.servers.iter().filter(|(id, _)| wanted(*id));
    let asked: Vec<(ServerId, &Agent)> = agents.filter_map(|(id, s)| Some((id, s.agent.as_ref()?))).collect();
    let shortest = asked.iter().map(|(_, agent)| agent.inter).min().unwrap_or_default();
    for (position, (id, agent)) in asked.iter().enumerate() {
        let delay = health::start_offset(position, asked.len(), shortest);
        let server = control.live.servers[*id].clone();
        rt::spawn(run(control.base().clone(), server, Agent::clone(agent), delay));
    }
}

/// Asks one agent, until its server is gone or has another one.
async fn run(base: Rc<ControlBase>, server: Arc<ServerLive>, agent: Agent, delay: Duration) {
    let id_in = |control: &Control| {
        let id = control.live.find_server(&server)?;
        (control.model.servers[id].agent.as_ref() == Some(&agent)).then_some(id)
    };
    rt::sleep_until(rt::now() + delay).await;
    loop {
        let control = base.current();
        let Some(id) = id_in(&control) else { return };
        let (enabled, ip, port, send) = {
            let state = &control.states.borrow().servers[id];
            let (ip, port) = state.aims.agent(&agent);
            let enabled = state.agent.as_ref().is_some_and(|agent| agent.enabled);
            (enabled, ip, port, state.aims.agent_send(&agent).to_vec())
        };
        drop(control);
        let ip = ip.or_else(|| Some(server.address()?.ip()));
        if enabled && let Some(ip) = ip {
            let began = rt::now();
            let asked = ask(SocketAddr::new(ip, port), send);
            let answer = rt::with_deadline(asked, Some(began + agent.inter)).await;
            let answer = answer.unwrap_or_else(|rt::Elapsed| Err(io::ErrorKind::TimedOut.into()));
            let control = base.current();
            let Some(id) = id_in(&control) else { return };
            control.on_agent(id, &answer, rt::now().since(began));
        }
        rt::sleep_until(rt::now() + agent.inter).await;
    }
}

/// Connects, says what it has to say, reads until the end of a line.
async fn ask(to: SocketAddr, send: Vec<u8>) -> io::Result<Vec<u8>> {
    let conn = rt::connect(Target::Ip(to), ConnectOptions::default()).await?;
    if !send.is_empty() {
        conn.send_all(send).await?;
    }
    let mut line = Vec::new();
    while line.len() < CHECK_BYTES_MAX {
        let Some(bytes) = conn.recv().await? else { return Ok(line) };
        line.extend_from_slice(&bytes);
        if parse_reply(&line, false) != Err(AgentError::Incomplete) {
            break;
        }
    }
    Ok(line)
}

impl Control {
    /// An agent has answered, or could not.
    fn on_agent(&self, id: ServerId, answer: &io::Result<Vec<u8>>, duration: Duration) {
        let note = |status, info: &str| {
            if let Some(agent) = &mut self.states.borrow_mut().servers[id].agent {
                agent.last = Some(Report { status, info: info.to_owned(), code: None, duration });
            }
        };
        let line = match answer {
            Ok(line) => line,
            Err(e) if e.kind() == io::ErrorKind::TimedOut => return note(CheckStatus::L4Timeout, ""),
            Err(e) => return note(CheckStatus::L4Connect, &rt::error::words(e)),
        };
        let Ok(said) = parse_reply(line, true) else {
            return note(CheckStatus::L7Response, "no word that an agent may say");
        };
        let status = said.health.map_or(CheckStatus::L7Ok, |health| health.check_status());
        note(status, said.description);
        if let Some(admin) = said.admin {
            self.set_admin_state(
                id,
                match admin {
                    AgentAdmin::Ready => AdminState::Ready,
                    AgentAdmin::Drain => AdminState::Drain,
                    AgentAdmin::Maint => AdminState::Maint,
                },
            );
        }
        if let Some(percent) = said.weight_percent {
            let weight = percent_of_weight(self.model.servers[id].weight, percent);
            if weight != self.live.servers[id].user_weight() {
                self.set_user_weight(id, weight);
            }
        }
        if let Some(maxconn) = said.maxconn
            && self.states.borrow().servers[id].maxconn != Some(maxconn)
        {
            self.set_server_limit(id, (maxconn > 0).then_some(maxconn));
        }
        if said.health.is_some() {
            let words = if said.description.is_empty() {
                "reason: agent".to_owned()
            } else {
                format!("reason: agent, info: \"{}\"", said.description)
            };
            self.agent_says(id, status, &words);
        }
    }

    /// The agent's word on the health of its server, or an administrator's in its place.
    fn agent_says(&self, id: ServerId, status: CheckStatus, words: &str) {
        let entered = {
            let mut states = self.states.borrow_mut();
            let Some(agent) = &mut states.servers[id].agent else { return };
            agent.health.on_check(status).entered
        };
        if let Some(entered) = entered {
            self.on_health(id, entered, words);
        }
    }

    /// `set server agent up|down`.
    pub(super) fn force_agent(&self, id: ServerId, state: State) {
        let status = if state == State::Down { CheckStatus::L7Status } else { CheckStatus::L7Ok };
        self.agent_says(id, status, "reason: agent, changed from the admin socket");
    }

    /// `enable agent`, `disable agent`. Without its agent a server is as its checks say.
    pub(super) fn set_agent_enabled(&self, id: ServerId, enabled: bool) {
        if let Some(agent) = &mut self.states.borrow_mut().servers[id].agent {
            agent.enabled = enabled;
        }
        if !enabled {
            self.agent_says(id, CheckStatus::L7Ok, "reason: agent disabled");
        }
    }
}

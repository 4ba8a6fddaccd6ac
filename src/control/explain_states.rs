//! What a running process says of itself over its admin socket, for `explain`: the configuration that runs, and how its servers are. Blocking.

use std::path::Path;

use crate::control::ctl;
use crate::live::{AdminState, Live};
use crate::model::Model;
use crate::policy::balance::WEIGHT_SCALE;

/// How servers are; empty: as at the start, all up.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct States {
    servers: Vec<State>,
}

/// How one server is.
#[derive(Clone, PartialEq, Eq, Debug)]
struct State {
    backend: String,
    name: String,
    /// As `show stat` has it: `UP 1/3`, `DRAIN`, `MAINT`, `no check`.
    status: String,
    weight: u32,
    sessions: u32,
}

/// The text of the configuration that a process runs, and how its servers are.
///
/// # Errors
/// It does not answer, or its socket does not allow so much.
pub fn running(socket: &Path) -> Result<(String, States), String> {
    let ask = |command: &str| {
        let mut answer = Vec::new();
        ctl::run(socket, &[command.to_owned()], &mut answer).map_err(|e| e.to_string())?;
        Ok::<String, String>(String::from_utf8_lossy(&answer).trim_end().to_owned())
    };
    let text = ask("show configuration")?;
    if !text.contains('[') {
        return Err(format!("{}: {text}", socket.display()));
    }
    Ok((text, States::parse(&ask("show stat")?)?))
}

impl States {
    fn parse(csv: &str) -> Result<States, String> {
        let mut lines = csv.lines();
        let header: Vec<&str> =
            lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
        let column = |name: &str| {
            let at = header.iter().position(|column| *column == name);
            at.ok_or_else(|| format!("show stat has no column {name}"))
        };
        let columns =
            [column("pxname")?, column("svname")?, column("status")?, column("weight")?, column("scur")?];
        let mut servers = Vec::new();
        for line in lines {
            let fields: Vec<&str> = line.split(',').collect();
            let [backend, name, status, weight, sessions] =
                columns.map(|at| fields.get(at).copied().unwrap_or_default().to_owned());
            if !matches!(name.as_str(), "" | "FRONTEND" | "BACKEND") {
                let number = |text: String| text.parse().unwrap_or(0);
                servers.push(State {
                    backend,
                    name,
                    status,
                    weight: number(weight),
                    sessions: number(sessions),
                });
            }
        }
        Ok(States { servers })
    }

    /// Makes servers be as they are there.
    pub(super) fn apply(&self, model: &Model, live: &Live) {
        for (id, server) in model.servers.iter() {
            let backend = &model.backends[server.backend].name;
            let Some(state) = self.servers.iter().find(|s| s.backend == *backend && s.name == server.name)
            else {
                continue;
            };
            let own = &live.servers[id];
            own.set_up(!state.status.starts_with("DOWN"));
            if state.status.starts_with("MAINT") {
                own.set_admin(AdminState::Maint);
            } else if state.status.starts_with("DRAIN") {
                own.set_admin(AdminState::Drain);
            } else {
                own.set_weight(state.weight.saturating_mul(WEIGHT_SCALE));
            }
            own.set_stopping(state.status.starts_with("NOLB"));
            (0..state.sessions).for_each(|_| own.sessions.enter());
            live.changed(server.backend);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_from_the_statistics() {
        let csv = "# pxname,svname,scur,status,weight,x\nfe,FRONTEND,1,OPEN,,\nbe,s1,2,UP 1/3,10,\nbe,s2,0,MAINT (via be/s1),1,\nbe,BACKEND,1,UP,11,\n";
        let states = States::parse(csv).expect("statistics");
        let seen: Vec<_> = states
            .servers
            .iter()
            .map(|s| (s.name.as_str(), s.status.as_str(), s.weight, s.sessions))
            .collect();
        assert_eq!(seen, [("s1", "UP 1/3", 10, 2), ("s2", "MAINT (via be/s1)", 1, 0)]);
        assert!(States::parse("Permission denied").is_err());
    }
}

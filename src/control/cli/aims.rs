//! `set server b/s check-addr | check-port | agent-addr | agent-port | agent-send | fqdn`: HAProxy's words and answers.

use std::net::IpAddr;

use crate::base::id::ServerId;
use crate::control::cli::parse;
use crate::control::cli::session::{Answer, Call, Reply, done};
use crate::control::cli::target::Aim;

/// What HAProxy's answers about a change end with.
const BY: &str = " by 'stats socket command'";
/// Longest name of a host (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 253;

pub(super) fn set(call: &mut Call<'_>, id: ServerId) -> Answer {
    let what = call.arg(1).to_owned();
    let aim = match what.as_str() {
        "check-addr" | "check-port" => {
            let (ip, port) = endpoint(call, &what)?;
            if call.target.model().servers[id].check.is_none() {
                return Err("health checks are not enabled on this server".to_owned());
            }
            let (old_ip, old_port) = call.target.server(id).check_at;
            call.changed(shown(old_ip, old_port), shown(ip.or(old_ip), port.or(old_port)));
            Aim::Check { ip, port }
        }
        "agent-addr" | "agent-port" => {
            let (ip, port) = endpoint(call, &what)?;
            agent(call, id)?;
            let (old_ip, old_port) = call.target.server(id).agent_at;
            call.changed(shown(old_ip, old_port), shown(ip.or(old_ip), port.or(old_port)));
            Aim::Agent { ip, port }
        }
        "agent-send" => {
            agent(call, id)?;
            Aim::AgentSend(call.arg(2).replace("\\n", "\n").into_bytes())
        }
        _ => return set_fqdn(call, id),
    };
    call.target.set_aim(id, aim);
    done()
}

fn agent(call: &Call<'_>, id: ServerId) -> Result<(), String> {
    match call.target.model().servers[id].agent {
        Some(_) => Ok(()),
        None => Err("agent checks are not enabled on this server".to_owned()),
    }
}

/// `check-addr IP [port PORT]` or `check-port PORT`, and likewise for the agent.
fn endpoint(call: &Call<'_>, what: &str) -> Result<(Option<IpAddr>, Option<u16>), String> {
    let text = call.arg(2);
    let is_port = what.ends_with("-port");
    if text.is_empty() {
        let needs = if is_port { "a port" } else { "an address and optionally a port" };
        return Err(format!("set server <b>/<s> {what} requires {needs}."));
    }
    if is_port {
        return Ok((None, Some(port(text)?)));
    }
    let ip = text.parse().map_err(|_| format!("invalid addr '{text}'"))?;
    let port = if call.arg(3) == "port" { Some(port(call.arg(4))?) } else { None };
    Ok((Some(ip), port))
}

fn port(text: &str) -> Result<u16, String> {
    match parse::number::<u64>(text) {
        None => Err("provided port is not an integer".to_owned()),
        Some(n) => {
            u16::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| "provided port is invalid".to_owned())
        }
    }
}

fn shown(ip: Option<IpAddr>, port: Option<u16>) -> String {
    let ip = ip.map_or("that of the server".to_owned(), |ip| ip.to_string());
    let port = port.map_or("that of the server".to_owned(), |port| port.to_string());
    format!("address {ip}, port {port}")
}

/// `set server b/s fqdn NAME`: only servers that have a name can have another one.
fn set_fqdn(call: &mut Call<'_>, id: ServerId) -> Answer {
    let name = call.arg(2).to_owned();
    if name.is_empty() {
        return Err("set server <b>/<s> fqdn requires a FQDN.".to_owned());
    }
    let Some(before) = call.target.server(id).fqdn else {
        return Err("set server <b>/<s> fqdn failed because no resolution is configured.".to_owned());
    };
    if before == name {
        return Ok(Reply::Text(format!("no need to change the FDQN{BY}")));
    }
    let is_name = name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !is_name {
        return Err(format!("invalid FQDN '{name}'{BY}"));
    }
    let server = call.arg(0).to_owned();
    call.changed(&before, &name);
    call.target.set_aim(id, Aim::Fqdn(name.clone()));
    Ok(Reply::Text(format!("{server} changed its FQDN from {before} to {name}{BY}")))
}

//! Commands about servers. Answers are HAProxy's word for word where tools compare them.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::base::id::{BackendId, ServerId};
use crate::base::limits::WEIGHT_MAX;
use crate::control::cli::session::{Answer, Call, Reply, done};
use crate::control::cli::target::HealthOrder;
use crate::control::cli::{aims, parse};
use crate::model::Model;
use crate::stats::latency::Window;
use crate::stats::render::Filter;
use crate::stats::snapshot::{Facts, ServerFacts};
use crate::stats::status::{Admin, Health};
use crate::stats::table::Stat;

/// The server that the first argument names: `backend/server`, each by name or as `#number`.
pub(super) fn server(call: &Call<'_>) -> Result<ServerId, String> {
    let (typed, model) = (call.arg(0), call.target.model());
    let Some((backend, server)) = typed.split_once('/') else {
        let mut named = model.servers.values().filter(|server| server.name == typed);
        return Err(match (named.next(), named.next()) {
            (Some(only), None) => {
                let backend = &model.backends[only.backend].name;
                format!("Require 'backend/server'.\nDid you mean {backend}/{typed}?")
            }
            _ => "Require 'backend/server'.".to_owned(),
        });
    };
    let backend = named_backend(model, backend)?;
    let servers = model.backends[backend].servers;
    let named = |id: &ServerId| is_named(server, &model.servers[*id].name, model.servers[*id].sid);
    servers.iter().find(named).ok_or_else(|| {
        let names = servers.iter().map(|id| model.servers[id].name.as_str());
        parse::no_such("No such server.", server, names)
    })
}

/// The backend of this name, or `#number`.
pub(super) fn named_backend(model: &Model, name: &str) -> Result<BackendId, String> {
    backend_by_name(model, name).ok_or_else(|| {
        let shown = model.backends.values().filter(|backend| !backend.is_internal());
        parse::no_such("No such backend.", name, shown.map(|backend| backend.name.as_str()))
    })
}

pub(super) fn backend_by_name(model: &Model, name: &str) -> Option<BackendId> {
    model
        .backends
        .iter()
        .find(|(_, backend)| !backend.is_internal() && is_named(name, &backend.name, backend.iid))
        .map(|(id, _)| id)
}

fn is_named(typed: &str, name: &str, number: u32) -> bool {
    match typed.strip_prefix('#') {
        Some(digits) => parse::number(digits) == Some(number),
        None => typed == name,
    }
}

pub(super) fn get_weight(call: &mut Call<'_>) -> Answer {
    let facts = call.target.server(server(call)?);
    Ok(Reply::Text(format!("{} (initial {})", facts.user_weight, facts.initial_weight)))
}

pub(super) fn set_weight(call: &mut Call<'_>) -> Answer {
    let id = server(call)?;
    change_weight(call, id, 1)
}

/// `N` sets the weight, `N%` a part of the initial weight. The text is the argument at `at`.
fn change_weight(call: &mut Call<'_>, id: ServerId, at: usize) -> Answer {
    let text = call.arg(at);
    if text.is_empty() {
        return Err("Require <weight> or <weight%>.".to_owned());
    }
    let Some((number, rest)) = parse::leading_number(text) else {
        return Err("Empty weight string empty or preceded by garbage".to_owned());
    };
    let weight = match rest {
        "" if (0..=i64::from(WEIGHT_MAX)).contains(&number) => number,
        "" => return Err("Absolute weight can only be between 0 and 256 inclusive.".to_owned()),
        "%" if number < 0 => return Err("Relative weight must be positive.".to_owned()),
        "%" => number.saturating_mul(call.target.server(id).initial_weight.into()) / 100,
        _ => return Err("Trailing garbage in weight string".to_owned()),
    };
    let weight = u32::try_from(weight).unwrap_or(WEIGHT_MAX).min(WEIGHT_MAX);
    call.changed(call.target.server(id).user_weight, weight);
    call.target.set_weight(id, weight);
    done()
}

pub(super) fn set(call: &mut Call<'_>) -> Answer {
    let id = server(call)?;
    match (call.arg(1), call.arg(2)) {
        ("weight", _) => change_weight(call, id, 2),
        ("state", "ready") => set_admin(call, id, Admin::Ready),
        ("state", "drain") => set_admin(call, id, Admin::Drain),
        ("state", "maint") => set_admin(call, id, Admin::Maint),
        ("state", _) => Err("'set server <srv> state' expects 'ready', 'drain' and 'maint'.".to_owned()),
        ("health", "up") => set_health(call, id, HealthOrder::Up),
        ("health", "stopping") => set_health(call, id, HealthOrder::Stopping),
        ("health", "down") => set_health(call, id, HealthOrder::Down),
        ("health", _) => Err("'set server <srv> health' expects 'up', 'stopping', or 'down'.".to_owned()),
        ("agent", "up") => set_agent(call, id, HealthOrder::Up),
        ("agent", "down") => set_agent(call, id, HealthOrder::Down),
        ("agent", _) => Err("'set server <srv> agent' expects 'up' or 'down'.".to_owned()),
        ("addr", _) => set_address(call, id),
        ("check-addr" | "check-port" | "agent-addr" | "agent-port" | "agent-send" | "fqdn", _) => aims::set(call, id),
        _ => Err("usage: set server <backend>/<server> addr | agent | agent-addr | agent-port | agent-send | check-addr | \
                  check-port | fqdn | health | state | weight"
            .to_owned()),
    }
}

fn set_admin(call: &mut Call<'_>, id: ServerId, admin: Admin) -> Answer {
    call.changed(admin_word(&call.target.server(id).admin), admin_word(&admin));
    call.target.set_admin(id, admin);
    done()
}

fn admin_word(admin: &Admin) -> &'static str {
    match admin {
        Admin::Ready => "ready",
        Admin::Drain => "drain",
        Admin::Maint | Admin::MaintVia(_) | Admin::MaintResolution => "maint",
    }
}

fn set_health(call: &mut Call<'_>, id: ServerId, health: HealthOrder) -> Answer {
    let before = call.target.server(id).status();
    call.target.set_health(id, health);
    call.changed(before, call.target.server(id).status());
    done()
}

/// `set server b/s addr IP [port PORT]`. Old tools compare the beginnings of these answers.
fn set_address(call: &mut Call<'_>, id: ServerId) -> Answer {
    const BY: &str = " by 'stats socket command'";
    let text = call.arg(2);
    if text.is_empty() {
        return Err("set server <b>/<s> addr requires an address and optionally a port.".to_owned());
    }
    let facts = call.target.server(id);
    let Ok(ip) = text.parse::<IpAddr>() else {
        return Err(format!("Invalid addr '{text}'{BY}"));
    };
    let same_ip = facts.ip.parse() == Ok(ip);
    let mut answer = if same_ip {
        "no need to change the addr".to_owned()
    } else {
        format!("IP changed from '{}' to '{ip}'", facts.ip)
    };
    let mut port = facts.port;
    if call.arg(3) == "port" {
        let text = call.arg(4);
        port = match parse::number::<u16>(text) {
            Some(port) if port > 0 => port,
            Some(_) => return Err(format!("{answer}, provided port is not valid{BY}")),
            None if parse::number::<u64>(text).is_some() => {
                return Err(format!("{answer}, provided port is not valid{BY}"));
            }
            None => return Err(format!("{answer}, problem converting port '{text}' to an int{BY}")),
        };
        if port == facts.port {
            answer.push_str(", no need to change the port");
        } else {
            let _ = write!(answer, ", port changed from '{}' to '{port}'", facts.port);
        }
    }
    if !same_ip || port != facts.port {
        let address = SocketAddr::new(ip, port);
        call.changed(facts.address(), address);
        call.target.set_address(id, address);
    }
    Ok(Reply::Text(answer + BY))
}

pub(super) fn enable(call: &mut Call<'_>) -> Answer {
    let id = server(call)?;
    set_admin(call, id, Admin::Ready)
}

pub(super) fn disable(call: &mut Call<'_>) -> Answer {
    let id = server(call)?;
    set_admin(call, id, Admin::Maint)
}

pub(super) fn enable_health(call: &mut Call<'_>) -> Answer {
    let id = server(call)?;
    if call.target.model().servers[id].check.is_none() {
        return Err("Health check was not configured on this server, cannot enable.".to_owned());
    }
    call.target.set_checks(id, true);
    done()
}

pub(super) fn disable_health(call: &mut Call<'_>) -> Answer {
    let id = server(call)?;
    if call.target.model().servers[id].check.is_some() {
        call.target.set_checks(id, false);
    }
    done()
}

pub(super) fn enable_agent(call: &mut Call<'_>) -> Answer {
    let id = server(call)?;
    if call.target.model().servers[id].agent.is_none() {
        return Err("Agent was not configured on this server, cannot enable.".to_owned());
    }
    call.target.set_agent_enabled(id, true);
    done()
}

pub(super) fn disable_agent(call: &mut Call<'_>) -> Answer {
    let id = server(call)?;
    if call.target.model().servers[id].agent.is_some() {
        call.target.set_agent_enabled(id, false);
    }
    done()
}

fn set_agent(call: &mut Call<'_>, id: ServerId, health: HealthOrder) -> Answer {
    if call.target.model().servers[id].agent.is_none() {
        return Err("agent checks are not enabled on this server".to_owned());
    }
    call.target.set_agent(id, health);
    done()
}

pub(super) fn set_maxconn(call: &mut Call<'_>) -> Answer {
    let id = server(call)?;
    let text = call.arg(1);
    if text.is_empty() {
        return Err("Require <maxconn>.".to_owned());
    }
    let Some((number, rest)) = parse::leading_number(text) else {
        return Err("maxconn string empty or preceded by garbage".to_owned());
    };
    if !rest.is_empty() {
        return Err("Trailing garbage in maxconn string".to_owned());
    }
    let maxconn = u32::try_from(number).map_err(|_| "Value out of range.".to_owned())?;
    call.changed(call.target.server(id).limit.unwrap_or(0), maxconn);
    call.target.set_server_maxconn(id, (maxconn > 0).then_some(maxconn));
    done()
}

pub(super) fn shutdown_sessions(call: &mut Call<'_>) -> Answer {
    let id = server(call)?;
    call.target.shutdown_server_sessions(id);
    done()
}

/// The backends that `show servers` lists: all, or the one that the argument names.
fn chosen_backends(call: &Call<'_>) -> Result<Vec<BackendId>, String> {
    let model = call.target.model();
    match call.arg(0) {
        "" => Ok(model.backends.iter().filter(|(_, b)| !b.is_internal()).map(|(id, _)| id).collect()),
        name => {
            let names = model.backends.values().filter(|backend| !backend.is_internal());
            let names = names.map(|backend| backend.name.as_str());
            backend_by_name(model, name)
                .map(|id| vec![id])
                .ok_or_else(|| parse::no_such("Can't find backend.", name, names))
        }
    }
}

pub(super) fn show_state(call: &mut Call<'_>) -> Answer {
    // The version of the format, then its columns.
    let mut out = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
        srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state \
        bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr \
        srv_agent_addr srv_agent_port\n"
        .to_owned();
    for backend_id in chosen_backends(call)? {
        let model = call.target.model();
        let backend = &model.backends[backend_id];
        for id in backend.servers.iter() {
            let server = &model.servers[id];
            let _ = write!(out, "{} {} {} {} ", backend.iid, backend.name, server.sid, server.name);
            push_state(&mut out, &call.target.server(id));
        }
    }
    Ok(Reply::Text(out))
}

/// HAProxy's numbers: operational state 0 stopped, 1 starting (slow start), 2 running, 3 stopping; bits of the administrative
/// state 1 maintenance, 2 inherited maintenance, 4 configured maintenance, 8 drain, 32 unresolved; check result 0 none, 2 failed,
/// 3 passed; bits of the check state 2 configured, 4 enabled, 8 paused, 16 it is an agent.
fn push_state(out: &mut String, facts: &ServerFacts) {
    let admin = match &facts.admin {
        Admin::Ready => 0,
        Admin::Maint if facts.disabled => 5,
        Admin::Maint => 1,
        Admin::MaintVia(_) => 2,
        Admin::Drain => 8,
        Admin::MaintResolution => 32,
    };
    let (stopping, level) = match facts.health {
        Health::Checked { stopping, level, .. } => (stopping, level),
        // HAProxy's counter stands at the default of `rise`.
        Health::Unchecked => (false, 2),
    };
    let is_maint = facts.admin.is_maint();
    let level = if is_maint { 0 } else { level };
    let operational = match (facts.is_up(), stopping) {
        (false, _) => 0,
        (true, false) if facts.throttle_percent.is_some() => 1,
        (true, false) => 2,
        (true, true) => 3,
    };
    // An agent is asked in maintenance too.
    let check_bits = match (facts.asked.0, is_maint) {
        (false, _) => 2,
        (true, false) => 6,
        (true, true) => 14,
    };
    let (status, result, state) = match &facts.check {
        None => (1, 0, 0),
        Some(check) => {
            let result = check.result.passed().map_or(0, |passed| if passed { 3 } else { 2 });
            (check.result.number(), result, check_bits)
        }
    };
    // Sockets of UNIX have none.
    let address = if facts.ip.parse::<IpAddr>().is_err() { "-" } else { &facts.ip };
    let named = |is_service: bool| facts.fqdn.as_deref().filter(|name| name.starts_with('_') == is_service);
    let (fqdn, service) = (named(false).unwrap_or("-"), named(true).unwrap_or("-"));
    let ip = |ip: Option<IpAddr>| ip.map_or("-".to_owned(), |ip| ip.to_string());
    let (check_ip, check_port) = (ip(facts.check_at.0), facts.check_at.1.unwrap_or(0));
    let (agent_ip, agent_port) = (ip(facts.agent_at.0), facts.agent_at.1.unwrap_or(0));
    let agent = if facts.agent.is_some() { 18 + if facts.asked.1 { 4 } else { 0 } } else { 0 };
    let tls = u8::from(facts.tls);
    let _ = writeln!(
        out,
        "{address} {operational} {admin} {} {} {} {status} {result} {level} {state} {agent} 0 0 {fqdn} {} {service} {tls} {check_port} {check_ip} {agent_ip} \
         {agent_port}",
        facts.user_weight,
        facts.initial_weight,
        facts.last_change.as_secs(),
        facts.port,
    );
}

pub(super) fn show_conn(call: &mut Call<'_>) -> Answer {
    let cores = call.target.model().global.cores.len();
    let mut out = format!(
        "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb safe_nb idle_lim idle_cur \
         idle_per_thr[{cores}]\n"
    );
    let model = call.target.model();
    let iids: Vec<u32> = chosen_backends(call)?.into_iter().map(|id| model.backends[id].iid).collect();
    for entry in call.target.snapshot(Window::default(), &Filter::ALL).entries {
        let Facts::Server(facts) = &entry.facts else { continue };
        if !iids.contains(&entry.iid) {
            continue;
        }
        let sum = |stat| entry.sums.get(stat).unwrap_or(0);
        let _ = write!(
            out,
            "{}/{} {}/{} {} {} - 0 {} {} 0 0 {idle} -1 {idle}",
            entry.proxy,
            entry.name,
            entry.iid,
            entry.sid,
            facts.ip,
            facts.port,
            sum(Stat::UsedConnections),
            sum(Stat::SessionsMax),
            idle = sum(Stat::IdleConnections),
        );
        out.push_str(&" 0".repeat(cores));
        out.push('\n');
    }
    Ok(Reply::Text(out))
}

//! Interfaces, addresses and ports: what is configured against what this machine has.

use std::net::IpAddr;

use super::{Area, Facts, Finding, Fix};
use crate::base::id::ServerId;
use crate::model::{BindAddress, Model, ServerAddress};
use crate::policy::ports::{REUSE_AFTER, TIME_WAIT};

pub(super) fn examine(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    let before = out.len();
    interfaces(model, facts, out);
    sources(model, facts, out);
    reserved(model, facts, out);
    let tightest = ports(model, facts, out);
    if out.len() == before {
        out.push(Finding::fine(Area::Network, tightest.unwrap_or_else(|| "no server by TCP".to_owned())));
    }
}

fn interfaces(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    for bind in model.binds.values() {
        let Some(interface) = &bind.interface else { continue };
        if !facts.interfaces.contains(interface) {
            let text = format!(
                "{}: there is no interface {interface}: the bind waits for it; this machine has {}",
                bind.origin,
                facts.interfaces.join(", ")
            );
            out.push(Finding::broken(Area::Network, text));
        }
    }
}

fn sources(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    let mut seen: Vec<IpAddr> = Vec::new();
    for server in model.servers.values() {
        for source in &server.source {
            if seen.contains(&source.address) || facts.local.contains(&source.address) {
                continue;
            }
            seen.push(source.address);
            let text = format!(
                "{}: source {} is no address of this machine: connections from it fail; `ip address add` it",
                server.origin, source.address
            );
            out.push(Finding::broken(Area::Network, text));
        }
    }
}

/// Ports that the kernel may give to somebody's outgoing connection although they are ours.
fn reserved(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    let (low, high) = facts.kernel_ports();
    let mut ours: Vec<(u16, u16)> = Vec::new();
    for bind in model.binds.values() {
        if let BindAddress::Ip(address) = bind.address
            && address.port() != 0
        {
            ours.push((address.port(), address.port()));
        }
    }
    ours.extend(model.servers.values().flat_map(|server| &server.source).filter_map(|source| source.ports));
    ours.retain(|(first, last)| *first <= high && *last >= low);
    ours.retain(|(first, last)| !(facts.is_reserved(*first) && facts.is_reserved(*last)));
    if ours.is_empty() {
        return;
    }
    let before = facts.sysctls.get("net.ipv4.ip_local_reserved_ports").map_or("", String::as_str);
    ours.sort_unstable();
    ours.dedup();
    let one = |(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let ports = ours.iter().map(one).collect::<Vec<_>>().join(",");
    let value = if before.is_empty() { ports.clone() } else { format!("{before},{ports}") };
    let text = format!(
        "ports {ports} of `bind` and `source` lie in the kernel's range {low}-{high}: an outgoing connection may hold one when it \
         is needed"
    );
    let fix = Fix::Sysctl { key: "net.ipv4.ip_local_reserved_ports".to_owned(), value };
    out.push(Finding::change(Area::Network, text).with(fix));
}

/// Local ports towards one server, and what they suffice for.
fn ports(model: &Model, facts: &Facts, out: &mut Vec<Finding>) -> Option<String> {
    let mut tightest: Option<(u64, ServerId)> = None;
    for (id, server) in model.servers.iter() {
        if matches!(server.address, ServerAddress::Unix(_) | ServerAddress::Abstract(_)) {
            continue;
        }
        let ports = capacity(model, facts, id);
        if tightest.is_none_or(|(least, _)| ports < least) {
            tightest = Some((ports, id));
        }
        let Some(wanted) = server.maxconn.or(model.global.maxconn).map(u64::from) else { continue };
        if wanted > ports {
            let name = name(model, id);
            let text = format!(
                "{name} may get {wanted} connections (maxconn) and there are {ports} local ports towards it; give it more \
                 addresses to connect from: source = [\"ADDRESS:1024-65535\", ...], or lower its maxconn"
            );
            out.push(Finding::change(Area::Network, text));
        }
    }
    let (ports, id) = tightest?;
    let reuse = facts.number("net.ipv4.tcp_tw_reuse") == Some(1);
    let rate = ports / if reuse { REUSE_AFTER } else { TIME_WAIT }.as_secs();
    Some(format!(
        "{ports} local ports towards {}: {rate} connections a second if we close first",
        name(model, id)
    ))
}

fn capacity(model: &Model, facts: &Facts, id: ServerId) -> u64 {
    let width = |(low, high): (u16, u16)| u64::from(high.saturating_sub(low)) + 1;
    let sources = &model.servers[id].source;
    let kernel = width(facts.kernel_ports());
    if sources.is_empty() {
        return kernel;
    }
    sources.iter().map(|source| source.ports.map_or(kernel, width)).sum()
}

fn name(model: &Model, id: ServerId) -> String {
    let server = &model.servers[id];
    format!("{}/{}", model.backends[server.backend].name, server.name)
}

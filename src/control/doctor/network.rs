//! Interfaces, addresses and ports: what is configured against what this machine has.

use std::net::IpAddr;

use super::{Area, Facts, Finding, Fix};
use crate::base::id::ServerId;
use crate::control::{transparent, vip};
use crate::model::vip::{Announce, Vip};
use crate::model::{BindAddress, Model, ServerAddress};
use crate::policy::ports::{REUSE_AFTER, TIME_WAIT};

pub(super) fn examine(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    transparent(model, facts, out);
    vips(model, facts, out);
    let before = out.len();
    interfaces(model, facts, out);
    addresses(model, facts, out);
    gateways(model, facts, out);
    return_paths(model, facts, out);
    sources(model, facts, out);
    reserved(model, facts, out);
    let tightest = ports(model, facts, out);
    if out.len() == before {
        out.push(Finding::fine(Area::Network, tightest.unwrap_or_else(|| "no server by TCP".to_owned())));
    }
}

/// CAP_NET_ADMIN as a bit (capabilities(7)).
const NET_ADMIN: u64 = 1 << 12;

/// The kernel's rules for addresses of other hosts.
fn transparent(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    let plan = transparent::plan(model);
    if plan.is_empty() {
        return;
    }
    let (listing, (v4, v6)) = &facts.transparent;
    let missing: Vec<&str> = plan
        .rules
        .iter()
        .filter(|(_, name)| !listing.contains(&transparent::comment(name)))
        .map(|(_, name)| name.as_str())
        .collect();
    let advice = "`shardgate transparent install`, or enable shardgate-transparent.service";
    if !missing.is_empty() {
        let text = format!("nftables has no rule for {}: {advice}", missing.join(", "));
        out.push(Finding::broken(Area::Transparent, text).with(Fix::Transparent(plan)));
    } else if (plan.families.0 && !v4) || (plan.families.1 && !v6) {
        let text = format!("the policy route of mark {:#x} is missing: {advice}", transparent::MARK);
        out.push(Finding::broken(Area::Transparent, text).with(Fix::Transparent(plan)));
    } else {
        out.push(Finding::fine(
            Area::Transparent,
            format!("{} rules and the policy route", plan.rules.len()),
        ));
    }
    if let Some(capabilities) = facts.capabilities
        && capabilities & NET_ADMIN == 0
    {
        let text =
            "the process that runs has no CAP_NET_ADMIN; AmbientCapabilities=CAP_NET_ADMIN in the unit";
        out.push(Finding::broken(Area::Transparent, text));
    }
}

/// keepalived and BIRD against `[vip.NAME]`.
fn vips(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    let speaks_vrrp = |vip: &&Vip| vip.announce == Announce::Vrrp;
    for vip in model.vips.iter().filter(speaks_vrrp).filter(|vip| !facts.interfaces.contains(&vip.interface))
    {
        let text = format!("{}: vip {}: there is no interface {}", vip.origin, vip.name, vip.interface);
        out.push(Finding::broken(Area::Vip, text));
    }
    announcer(
        Announcer { program: "keepalived", file: vip::KEEPALIVED_CONF, runs: facts.keepalived },
        facts.keepalived_wanted.as_ref(),
        facts.keepalived_conf.as_ref(),
        out,
    );
    announcer(
        Announcer { program: "bird", file: vip::bird::BIRD_CONF, runs: facts.bird },
        facts.bird_wanted.as_ref(),
        facts.bird_conf.as_ref(),
        out,
    );
}

/// A program that tells the network of addresses.
struct Announcer {
    program: &'static str,
    file: &'static str,
    runs: bool,
}

fn announcer(
    of: Announcer,
    wanted: Option<&Result<String, String>>,
    found: Option<&String>,
    out: &mut Vec<Finding>,
) {
    let Announcer { program, file, runs } = of;
    let Some(wanted) = wanted else { return };
    let before = out.len();
    let make = format!("`shardgate vip {program} -c FILE > {file} && systemctl reload-or-restart {program}`");
    match (wanted, found) {
        (Err(why), _) => out.push(Finding::broken(Area::Vip, why.clone())),
        (Ok(_), None) => {
            out.push(Finding::broken(Area::Vip, format!("{program} has no configuration: {make}")));
        }
        (Ok(wanted), Some(found)) if wanted != found => {
            let text = format!("{file} is not what this configuration says: {make}");
            out.push(Finding::broken(Area::Vip, text));
        }
        (Ok(_), Some(_)) => {}
    }
    if !runs {
        let text = format!("{program} does not run: install it, `systemctl enable --now {program}`");
        out.push(Finding::broken(Area::Vip, text));
    }
    if out.len() == before {
        out.push(Finding::fine(Area::Vip, format!("{program} runs and agrees with the configuration")));
    }
}

/// Binds to addresses that nobody brings here.
fn addresses(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    for bind in model.binds.values().filter(|bind| !bind.transparent) {
        let BindAddress::Ip(address) = bind.address else { continue };
        let ip = address.ip();
        let moves = model.vips.iter().flat_map(|vip| &vip.addresses).any(|(vip, _)| *vip == ip);
        if !ip.is_unspecified() && !moves && !facts.local.contains(&ip) {
            let text = format!(
                "{}: {ip} is no address of this machine and of no [vip.NAME]: nobody can connect to it; `ip address add` it",
                bind.origin
            );
            out.push(Finding::change(Area::Network, text));
        }
    }
}

/// Answers leave by the gateway of the interface that the question came by.
fn gateways(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    if !facts.gateways_missing.is_empty() {
        let text = format!(
            "no policy route for {}: answers would leave by the gateway of the machine; `shardgate gateways networkd -c FILE` has \
             the snippets, `shardgate gateways install` sets them at once",
            facts.gateways_missing.join(", ")
        );
        out.push(Finding::broken(Area::Network, text).with(Fix::Gateways));
    }
    for gateway in model.gateways.iter().filter(|gateway| !facts.interfaces.contains(&gateway.interface)) {
        let text = format!("gateway {}: there is no such interface", gateway.interface);
        out.push(Finding::broken(Area::Network, text));
    }
}

/// Where questions come by another interface than the one of the route back to whoever asks, a strict rp_filter drops them, and no
/// counter of ours sees it: several gateways, and addresses of other hosts. `all` counts where it is the higher one.
fn return_paths(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    let transparent = !transparent::plan(model).is_empty();
    let has_gateway = |name: &&String| model.gateways.iter().any(|gateway| gateway.interface == **name);
    let strict: Vec<&str> =
        facts.strict.iter().filter(|name| transparent || has_gateway(name)).map(String::as_str).collect();
    if strict.is_empty() {
        return;
    }
    let text = format!(
        "rp_filter of {} is strict: the kernel drops what comes by an interface that the route back to its sender does not lead by, \
         without a word",
        strict.join(", ")
    );
    let fix = Fix::Sysctl { key: "net.ipv4.conf.all.rp_filter".to_owned(), value: "2".to_owned() };
    out.push(Finding::change(Area::Network, text).with(fix));
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

//! `[vip.NAME]` and `[bgp]`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::layout::Layout;
use crate::config::diag::suggest;
use crate::config::file::{Data, Entry, Table};
use crate::config::keywords::Scope;
use crate::config::section::{Context, Section};
use crate::config::units::Problem;
use crate::model::vip::{Announce, Bgp, Vip};

const PRIORITY: u8 = 100;
const HOLD_TIME: Duration = Duration::from_secs(9);
const ADVERT_INTERVAL: Duration = Duration::from_millis(200);

pub(super) fn vips(context: &Context<'_>, layout: &Layout<'_>) -> Vec<Vip> {
    let Some(Data::Table(named)) = context.file.root.entry("vip").map(|entry| &entry.value.data) else {
        return Vec::new();
    };
    let mut vips: Vec<Vip> = Vec::new();
    for entry in &named.entries {
        let Data::Table(table) = &entry.value.data else { continue };
        let vip = vip(context, layout, entry, table);
        if let Some(other) =
            vips.iter().find(|v| v.router_id == vip.router_id && v.interface == vip.interface)
            && (other.announce, vip.announce) == (Announce::Vrrp, Announce::Vrrp)
        {
            let message =
                format!("{} and {} have the same virtual-router-id and interface", other.name, vip.name);
            let help = "give each a number of its own".to_owned();
            context.error(entry.key_span.start, message, Some(help));
        }
        vips.push(vip);
    }
    vips
}

fn vip<'a>(context: &'a Context<'a>, layout: &Layout<'_>, entry: &Entry, table: &'a Table) -> Vip {
    let section = Section::new(context, Scope::Vip, entry.key_span.start, vec![table]);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !entry.key.chars().all(is_plain) {
        let help = "keepalived knows it by this name".to_owned();
        let message = format!("\"{}\": letters, digits, -, _ and . only", entry.key);
        context.error(entry.key_span.start, message, Some(help));
    }
    let announce = match section.string("announce").as_deref() {
        Some("bgp") => Announce::Bgp,
        _ => Announce::Vrrp,
    };
    for key in ["addresses", "interface", "virtual-router-id"] {
        if section.value(key).is_none() && (key == "addresses" || announce == Announce::Vrrp) {
            context.error(entry.key_span.start, format!("vip {} has no {key}", entry.key), None);
        }
    }
    let parsed = |key: &str, parse: fn(&str) -> Result<(IpAddr, u8), Problem>| {
        let mut found = Vec::new();
        for (at, text) in section.texts(key) {
            match parse(&text.text) {
                Ok(value) => found.push(value),
                Err(problem) => context.problem(at, problem),
            }
        }
        found
    };
    let mut addresses = parsed("addresses", address);
    if let Some((first, _)) = addresses.first().copied() {
        // A stable sort: VRRP speaks of one family, the other one goes along.
        addresses.sort_by_key(|(address, _)| address.is_ipv4() != first.is_ipv4());
    }
    let mut track = Vec::new();
    for (at, text) in section.texts("track") {
        match layout.backend(&text.text) {
            Some(backend) => track.push(backend),
            None => {
                let help = suggest(&text.text, layout.backends().map(|(proxy, _)| proxy.name));
                context.error(at, format!("unknown backend \"{}\"", text.text), help);
            }
        }
    }
    let number = |key: &str| section.integer(key).and_then(|number| u8::try_from(number).ok());
    Vip {
        name: entry.key.clone(),
        announce,
        addresses,
        interface: interface(&section),
        router_id: number("virtual-router-id").unwrap_or(1),
        priority: number("priority").unwrap_or(PRIORITY),
        advert_interval: section.duration("advert-interval").unwrap_or(ADVERT_INTERVAL),
        peers: parsed("unicast-peers", |text| plain(text).map(|ip| (ip, 0)))
            .into_iter()
            .map(|(ip, _)| ip)
            .collect(),
        preempt: section.flag("preempt").unwrap_or(true),
        preempt_delay: section.duration("preempt-delay").unwrap_or(Duration::ZERO),
        track,
        origin: section.origin(),
    }
}

/// `[bgp]`, which the addresses that it announces need.
pub(super) fn bgp(context: &Context<'_>, vips: &[Vip]) -> Option<Bgp> {
    let announced: Vec<&Vip> = vips.iter().filter(|vip| vip.announce == Announce::Bgp).collect();
    let Some(entry) = context.file.root.entry("bgp") else {
        if let Some(vip) = announced.first() {
            let help = "add [bgp] with local-as and neighbors".to_owned();
            context.error(
                0,
                format!("vip {} is announced by BGP and there is no [bgp]", vip.name),
                Some(help),
            );
        }
        return None;
    };
    let Data::Table(table) = &entry.value.data else { return None };
    let at = entry.key_span.start;
    let section = Section::new(context, Scope::Bgp, at, vec![table]);
    let mut neighbors = Vec::new();
    for (at, text) in section.texts("neighbors") {
        match neighbor(&text.text) {
            Ok(neighbor) => neighbors.push(neighbor),
            Err(problem) => context.problem(at, problem),
        }
    }
    for key in ["local-as", "neighbors"] {
        if section.value(key).is_none() {
            context.error(at, format!("[bgp] has no {key}"), None);
        }
    }
    for vip in announced {
        let is_told = |ip: &IpAddr| neighbors.iter().any(|(router, _)| router.is_ipv4() == ip.is_ipv4());
        if let Some((ip, _)) = vip.addresses.iter().find(|(ip, _)| !is_told(ip)) {
            let help = "add a router with an address of that family to neighbors".to_owned();
            context.error(at, format!("vip {}: nobody is told of {ip}", vip.name), Some(help));
        }
    }
    Some(Bgp {
        local_as: section.integer("local-as").and_then(|number| u32::try_from(number).ok()).unwrap_or(0),
        neighbors,
        router_id: section.parsed("router-id", |text| {
            text.parse::<Ipv4Addr>().map_err(|_| Problem::new(format!("\"{text}\" is no IPv4 address")))
        }),
        hold_time: section.duration("hold-time").unwrap_or(HOLD_TIME),
        bfd: section.flag("bfd").unwrap_or(false),
    })
}

/// `10.0.0.1 64500`
fn neighbor(text: &str) -> Result<(IpAddr, u32), Problem> {
    let wrong = || {
        let help =
            "write the address of the router and the number of its autonomous system: \"10.0.0.1 64500\"";
        Problem::with_help(format!("\"{text}\" is no neighbor"), help)
    };
    let (address, remote_as) = text.split_once(' ').ok_or_else(wrong)?;
    let remote_as = remote_as.trim().parse::<u32>().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
    Ok((address.parse().map_err(|_| wrong())?, remote_as))
}

/// A name that the kernel takes; anything else would end a line of the files that we make.
fn interface(section: &Section<'_>) -> String {
    let name = section.string("interface").unwrap_or_default();
    check_interface(section.context, section.value_at("interface"), &name);
    name
}

/// Complains about what no interface can be called.
pub(super) fn check_interface(context: &Context<'_>, at: usize, name: &str) {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '"' | '{' | '}' | '#' | '!');
    if name.len() > 15 || !name.chars().all(is_plain) {
        context.error(at, format!("\"{name}\" is no interface"), None);
    }
}

pub(super) fn plain(text: &str) -> Result<IpAddr, Problem> {
    let help = "write an IP address without a port";
    text.parse().map_err(|_| Problem::with_help(format!("\"{text}\" is no address"), help))
}

fn address(text: &str) -> Result<(IpAddr, u8), Problem> {
    let wrong = || {
        let help = "write it with its prefix length: \"192.0.2.10/24\"";
        Problem::with_help(format!("\"{text}\" is no address of a network"), help)
    };
    let (ip, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    if prefix > if ip.is_ipv4() { 32 } else { 128 } {
        return Err(wrong());
    }
    Ok((ip, prefix))
}

//! `bind`: addresses as strings or tables -> one `Bind` per address and port.

use super::layout::{EMPTY, numbers};
use super::tls;
use crate::base::id::{FrontendId, IdRange, IdVec, ListenerId};
use crate::base::limits::BACKLOG_DEFAULT;
use crate::config::file::Data;
use crate::config::keywords::Scope;
use crate::config::section::{Context, Section, Text};
use crate::config::units;
use crate::model::{Accept, Bind, BindAddress, Cidr, Mode};

/// `tfo = true`: as many pending requests as an idle listener can be expected to see at once.
const TFO_QUEUE_DEFAULT: u32 = 256;

/// All binds, and where each stands.
#[derive(Default)]
pub(super) struct Binds {
    pub(super) table: IdVec<ListenerId, Bind>,
    pub(super) at: IdVec<ListenerId, usize>,
}

/// Adds the binds of a frontend.
pub(super) fn binds(
    frontend: &Section<'_>,
    (id, mode): (FrontendId, Mode),
    binds: &mut Binds,
) -> IdRange<ListenerId> {
    let start = binds.table.next_id();
    let mut made: Vec<Bind> = Vec::new();
    let mut wanted = Vec::new();
    for (section, at, text) in entries(frontend) {
        let addresses = match units::bind_addresses(&text.text) {
            Ok(addresses) => addresses,
            Err(problem) => {
                frontend.context.problem(at, problem);
                continue;
            }
        };
        if section.count("id").is_some() && addresses.len() > 1 {
            section.error("id", format!("one id cannot be that of {} binds", addresses.len()), None);
        }
        let template = bind(&section, (id, mode), &addresses);
        for address in addresses {
            wanted.push((section.count("id"), section.value_at("id")));
            binds.at.push(at);
            made.push(Bind { address, ..template.clone() });
        }
    }
    let sids = numbers(frontend.context, &wanted, "the id of another bind of this frontend");
    for (mut bind, sid) in made.into_iter().zip(sids) {
        bind.sid = sid;
        if bind.name.is_empty() {
            bind.name = format!("sock-{sid}");
        }
        binds.table.push(bind);
    }
    IdRange::new(start..binds.table.next_id())
}

/// The entries of `bind`: those that are only an address have an empty table.
fn entries<'a>(frontend: &Section<'a>) -> Vec<(Section<'a>, usize, Text)> {
    let context: &'a Context<'a> = frontend.context;
    let Some(value) = frontend.own().and_then(|own| own.at("bind")) else { return Vec::new() };
    let items = match &value.data {
        Data::Array(items) => items.as_slice(),
        _ => std::slice::from_ref(value),
    };
    let mut entries = Vec::new();
    for item in items {
        let at = item.span.start;
        match &item.data {
            Data::String(_) => {
                let section = Section::new(context, Scope::Bind, at, vec![&EMPTY]);
                entries.extend(context.text(item).map(|text| (section, at, text)));
            }
            Data::Table(table) => {
                let section = Section::new(context, Scope::Bind, at, vec![table]);
                if section.value("address").is_none() {
                    context.error(at, "this bind has no address", Some("add address = \"*:80\"".into()));
                }
                let text = section.text("address");
                let at = section.value_at("address");
                entries.extend(text.map(|text| (section, at, text)));
            }
            // Any other type was reported.
            _ => {}
        }
    }
    entries
}

fn bind(section: &Section<'_>, (frontend, mode): (FrontendId, Mode), addresses: &[BindAddress]) -> Bind {
    fits(section, addresses);
    Bind {
        name: section.string("name").unwrap_or_default(),
        sid: 0,
        frontend,
        // The caller fills in each of the addresses.
        address: BindAddress::Fd(-1),
        interface: section.string("interface"),
        transparent: section.flag("transparent").unwrap_or(false),
        backlog: section.count("backlog").unwrap_or(BACKLOG_DEFAULT),
        defer_accept: section.flag("defer-accept").unwrap_or(false),
        tfo_queue: tfo_queue(section),
        mss: section.count("mss").and_then(|mss| u16::try_from(mss).ok()),
        tcp_user_timeout: section.duration("tcp-ut"),
        maxconn: section.limit("maxconn"),
        accept: accept(section),
        accept_proxy: accept_proxy(section),
        v6only: section.flag("v6only").or(section.flag("v4v6").map(|both| !both)).unwrap_or(false),
        tls: tls::bind(section, mode),
        origin: section.origin(),
    }
}

/// Checks that the keywords fit the addresses.
fn fits(section: &Section<'_>, addresses: &[BindAddress]) {
    if !addresses.iter().all(|address| matches!(address, BindAddress::Ip(_))) {
        for key in ["interface", "transparent", "defer-accept", "tfo", "mss", "tcp-ut", "v4v6", "v6only"] {
            if section.value(key).is_some() {
                section.warning(key, format!("{key} has no effect: this bind is not an IP address"), None);
            }
        }
    }
    let only_v4 = addresses.iter().all(|a| matches!(a, BindAddress::Ip(a) if a.is_ipv4()));
    if only_v4 && section.flag("v6only") == Some(true) {
        let help = Some("for all IPv6 addresses write \"[::]:PORT\"".to_owned());
        section.error("v6only", "v6only is for IPv6 addresses, and this bind is IPv4", help);
    }
    if section.flag("v6only") == Some(true) && section.flag("v4v6") == Some(true) {
        section.error("v4v6", "v4v6 and v6only exclude each other", None);
    }
    // IFNAMSIZ is 16 with the final NUL (netdevice(7)).
    if let Some(name) = section.string("interface")
        && (name.is_empty() || name.len() > 15 || name.contains(['/', '\0']))
    {
        section.error("interface", format!("\"{name}\" is not the name of a network interface"), None);
    }
}

fn tfo_queue(section: &Section<'_>) -> u32 {
    match section.value("tfo").map(|value| &value.data) {
        Some(Data::Boolean(true)) => TFO_QUEUE_DEFAULT,
        _ => section.count("tfo").unwrap_or(0),
    }
}

fn accept(section: &Section<'_>) -> Accept {
    match section.string("accept").as_deref() {
        Some("cpu") => Accept::Cpu,
        Some("balanced") => Accept::Balanced,
        _ => Accept::Hash,
    }
}

/// The trusted networks, sorted and without those that lie in another one, so that the data plane may search in halves.
fn accept_proxy(section: &Section<'_>) -> Option<Vec<Cidr>> {
    section.value("accept-proxy")?;
    if section.texts("accept-proxy").is_empty() {
        let help =
            "name the networks of the load balancers in front, for example [\"10.0.0.0/8\"]".to_owned();
        section.error("accept-proxy", "accept-proxy names no network", Some(help));
    }
    Some(networks(section, "accept-proxy"))
}

/// The networks of a keyword, sorted and without those that lie in another one.
pub(super) fn networks(section: &Section<'_>, key: &str) -> Vec<Cidr> {
    let mut networks: Vec<Cidr> = Vec::new();
    for (at, text) in section.texts(key) {
        match units::cidr(&text.text) {
            Ok(network) => networks.push(network),
            Err(problem) => section.context.problem(at, problem),
        }
    }
    networks.sort_by_key(|network| (network.address, network.prefix));
    let mut disjoint: Vec<Cidr> = Vec::with_capacity(networks.len());
    for network in networks {
        if !disjoint.last().is_some_and(|last| last.contains(network.address)) {
            disjoint.push(network);
        }
    }
    disjoint
}

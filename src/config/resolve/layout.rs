//! Which sections there are: names, ids and the order of the file. What stands in them is read by the others.

use std::borrow::Cow;

use ahash::AHashMap;

use super::again::Again;
use crate::base::id::{BackendId, FrontendId, Id, IdRange, IdVec, ServerId, TableId};
use crate::config::diag::suggest;
use crate::config::file::{Data, Entry, Table};
use crate::config::keywords::Scope;
use crate::config::section::{Context, Section, Seen};
use crate::config::units;
use crate::policy::pattern::PatternTable;
use crate::policy::stick::Spec;

/// What kind of section a proxy is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ProxyKind {
    Frontend,
    Listen,
    Backend,
}

/// A named section: `[frontend.web]`.
pub(super) struct Proxy<'a> {
    pub(super) name: &'a str,
    pub(super) kind: ProxyKind,
    /// Where its name stands.
    pub(super) at: usize,
    pub(super) section: Section<'a>,
    /// Its number in statistics.
    pub(super) iid: u32,
    pub(super) frontend: Option<FrontendId>,
    pub(super) backend: Option<BackendId>,
    /// What its keywords needed so far.
    pub(super) seen: Seen,
}

/// A `server`, before it is read.
pub(super) struct ServerEntry<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) at: usize,
    pub(super) table: &'a Table,
    pub(super) backend: BackendId,
    /// One of those that a `server-template` makes.
    pub(super) is_of_template: bool,
}

/// All sections of the file, with their ids.
pub(super) struct Layout<'a> {
    pub(super) global: Section<'a>,
    pub(super) admin: Section<'a>,
    pub(super) defaults: Option<&'a Table>,
    pub(super) proxies: Vec<Proxy<'a>>,
    pub(super) servers: IdVec<ServerId, ServerEntry<'a>>,
    pub(super) server_ranges: IdVec<BackendId, IdRange<ServerId>>,
    backend_names: AHashMap<&'a str, BackendId>,
    /// Stick tables.
    pub(super) tables: IdVec<TableId, Spec>,
    /// Pattern files that conditions and maps name.
    pub(super) patterns: PatternTable,
}

const SECTIONS: &[&str] = &[
    "global",
    "admin",
    "defaults",
    "frontend",
    "listen",
    "backend",
    "http-errors",
    "userlist",
    "ring",
    "vip",
    "gateway",
    "bgp",
];

/// What an absent section contains.
pub(super) static EMPTY: Table = Table { entries: Vec::new() };

impl<'a> Layout<'a> {
    /// Finds the sections, checks their keys and gives out ids.
    pub(super) fn find(context: &'a Context<'a>, again: &Again) -> Layout<'a> {
        let root = &context.file.root;
        let single = |name: &str, scope| {
            let table = root.entry(name).and_then(|entry| section_table(context, entry));
            let at = root.entry(name).map_or(0, |entry| entry.key_span.start);
            context.check(scope, table.unwrap_or(&EMPTY));
            (at, table)
        };
        let (global_at, global) = single("global", Scope::Global);
        let (admin_at, admin) = single("admin", Scope::Admin);
        let (_, defaults) = single("defaults", Scope::Defaults);
        let _ = single("bgp", Scope::Bgp);
        for entry in root.entries.iter().filter(|entry| !SECTIONS.contains(&entry.key.as_str())) {
            let help = suggest(&entry.key, SECTIONS.iter().copied());
            context.error(entry.key_span.start, format!("unknown section \"{}\"", entry.key), help);
        }
        for (word, scope) in [
            ("http-errors", Scope::HttpErrors),
            ("userlist", Scope::Userlist),
            ("ring", Scope::Ring),
            ("vip", Scope::Vip),
            ("gateway", Scope::Gateway),
        ] {
            check_named(context, root, word, scope);
        }
        let mut proxies = find_proxies(context, root, defaults, again);
        give_ids(&mut proxies);
        give_iids(context, &mut proxies);
        let (servers, server_ranges) = find_servers(context, &mut proxies, again);
        let backend_names = proxies.iter().filter_map(|p| Some((p.name, p.backend?))).collect();
        let tables = super::stick::tables(context, &proxies);
        Layout {
            tables,
            backend_names,
            patterns: PatternTable::default(),
            global: Section::new(context, Scope::Global, global_at, vec![global.unwrap_or(&EMPTY)]),
            admin: Section::new(context, Scope::Admin, admin_at, vec![admin.unwrap_or(&EMPTY)]),
            defaults,
            proxies,
            servers,
            server_ranges,
        }
    }

    pub(super) fn backends(&self) -> impl Iterator<Item = (&Proxy<'a>, BackendId)> {
        self.proxies.iter().filter_map(|proxy| Some((proxy, proxy.backend?)))
    }

    pub(super) fn frontends(&self) -> impl Iterator<Item = (&Proxy<'a>, FrontendId)> {
        self.proxies.iter().filter_map(|proxy| Some((proxy, proxy.frontend?)))
    }

    /// The stick table of a section.
    pub(super) fn table(&self, name: &str) -> Option<TableId> {
        self.global.context.depends_on_others();
        self.tables.iter().find(|(_, table)| table.name == name).map(|(id, _)| id)
    }

    pub(super) fn backend(&self, name: &str) -> Option<BackendId> {
        self.global.context.depends_on_others();
        self.backend_names.get(name).copied()
    }
}

fn section_table<'a>(context: &Context<'_>, entry: &'a Entry) -> Option<&'a Table> {
    match &entry.value.data {
        Data::Table(table) => Some(table),
        other => {
            let message = format!("{} is a section, not {}", entry.key, other.type_name());
            context.error(entry.key_span.start, message, Some(format!("write [{}]", entry.key)));
            None
        }
    }
}

/// Checks the sections `[word.NAME]`; what they mean is read where they are referred to.
fn check_named(context: &Context<'_>, root: &Table, word: &str, scope: Scope) {
    let Some(named) = root.entry(word).and_then(|entry| section_table(context, entry)) else { return };
    for entry in &named.entries {
        match &entry.value.data {
            Data::Table(table) => context.check(scope, table),
            other => {
                let message = format!("{word} \"{}\" is a section, not {}", entry.key, other.type_name());
                let help = format!("name the section, [{word}.NAME], and put its keywords below");
                context.error(entry.key_span.start, message, Some(help));
            }
        }
    }
}

fn find_proxies<'a>(
    context: &'a Context<'a>,
    root: &'a Table,
    defaults: Option<&'a Table>,
    again: &Again,
) -> Vec<Proxy<'a>> {
    let kinds = [
        ("frontend", ProxyKind::Frontend, Scope::Frontend),
        ("listen", ProxyKind::Listen, Scope::Listen),
        ("backend", ProxyKind::Backend, Scope::Backend),
    ];
    let mut proxies: Vec<Proxy<'a>> = Vec::new();
    for (word, kind, scope) in kinds {
        let Some(named) = root.entry(word).and_then(|entry| section_table(context, entry)) else { continue };
        for entry in &named.entries {
            let at = entry.key_span.start;
            let Data::Table(table) = &entry.value.data else {
                let message =
                    format!("{word} \"{}\" is a section, not {}", entry.key, entry.value.data.type_name());
                let help = format!("name the section, [{word}.NAME], and put its keywords below");
                context.error(at, message, Some(help));
                continue;
            };
            let check = || {
                if let Err(problem) = units::check_name(&entry.key) {
                    context.problem(at, problem);
                }
                context.check(scope, table);
            };
            let seen = if again.knows(kind, &entry.key) { Seen::default() } else { context.watch(check).1 };
            let layers = std::iter::once(table).chain(defaults).collect();
            let section = Section::new(context, scope, at, layers);
            proxies.push(Proxy {
                name: &entry.key,
                kind,
                at,
                section,
                iid: 0,
                frontend: None,
                backend: None,
                seen,
            });
        }
    }
    proxies.sort_by_key(|proxy| proxy.at);
    let mut by_name: AHashMap<&str, &Proxy<'_>> = AHashMap::new();
    for proxy in &proxies {
        // A frontend and a backend may share a name, as in HAProxy; a listen is both.
        if let Some(other) = by_name.insert(proxy.name, proxy)
            && (other.kind == ProxyKind::Listen || proxy.kind == ProxyKind::Listen)
        {
            let help = format!("the other one is at {}", context.file.source.origin(other.at));
            let message = format!(
                "two sections have the name \"{}\", and a listen is both frontend and backend",
                proxy.name
            );
            context.error(proxy.at, message, Some(help));
        }
    }
    proxies
}

fn give_ids(proxies: &mut [Proxy<'_>]) {
    let (mut frontends, mut backends) = (0, 0);
    for proxy in proxies {
        if proxy.kind != ProxyKind::Backend {
            proxy.frontend = Some(FrontendId::from_index(frontends));
            frontends += 1;
        }
        if proxy.kind != ProxyKind::Frontend {
            proxy.backend = Some(BackendId::from_index(backends));
            backends += 1;
        }
    }
}

fn give_iids(context: &Context<'_>, proxies: &mut [Proxy<'_>]) {
    let wanted: Vec<_> = proxies.iter().map(|p| (p.section.count("id"), p.section.value_at("id"))).collect();
    let ids = numbers(context, &wanted, "the id of another section");
    for (proxy, id) in proxies.iter_mut().zip(ids) {
        proxy.iid = id;
    }
}

/// Gives the wanted numbers to those that want one and the lowest free ones, from 1, to the others.
pub(super) fn numbers(context: &Context<'_>, wanted: &[(Option<u32>, usize)], taken: &str) -> Vec<u32> {
    let mut used = std::collections::BTreeSet::new();
    for (want, at) in wanted {
        if let Some(want) = want
            && !used.insert(*want)
        {
            context.error(*at, format!("{want} is already {taken}"), None);
        }
    }
    let mut next = 1;
    let free = |next: &mut u32| {
        while !used.insert(*next) {
            *next += 1;
        }
        *next
    };
    let mut free = free;
    wanted.iter().map(|(want, _)| want.unwrap_or_else(|| free(&mut next))).collect()
}

type Servers<'a> = (IdVec<ServerId, ServerEntry<'a>>, IdVec<BackendId, IdRange<ServerId>>);

fn find_servers<'a>(context: &Context<'a>, proxies: &mut [Proxy<'a>], again: &Again) -> Servers<'a> {
    let mut servers = IdVec::new();
    let mut ranges = IdVec::new();
    for proxy in proxies {
        let Some(backend) = proxy.backend else { continue };
        let start = servers.next_id();
        let is_known = again.knows(proxy.kind, proxy.name);
        let mut entries = Vec::new();
        for (entry, table) in named_tables(context, proxy, ("server", is_known)) {
            let (name, at) = (Cow::Borrowed(entry.key.as_str()), entry.key_span.start);
            entries.push(ServerEntry { name, at, table, backend, is_of_template: false });
        }
        for (entry, table) in named_tables(context, proxy, ("server-template", is_known)) {
            proxy.seen.said |= table.entry("count").is_none();
            entries.extend(of_template(context, entry, table, backend));
        }
        // The order of the file; those of one template are in the order of their numbers.
        entries.sort_by_key(|entry| entry.at);
        let mut seen: AHashMap<String, usize> = AHashMap::new();
        for entry in entries {
            if let Some(other) = seen.insert(entry.name.to_string(), entry.at) {
                let help = format!("the other one is at {}", context.file.source.origin(other));
                let message = format!("two servers of {} have the name \"{}\"", proxy.name, entry.name);
                context.error(entry.at, message, Some(help));
                proxy.seen.said = true;
            }
            servers.push(entry);
        }
        ranges.push(IdRange::new(start..servers.next_id()));
    }
    (servers, ranges)
}

/// The tables `[backend.NAME.WORD.*]`; of a section that is known the names were looked at.
fn named_tables<'a>(
    context: &Context<'_>,
    proxy: &mut Proxy<'a>,
    (word, is_known): (&str, bool),
) -> Vec<(&'a Entry, &'a Table)> {
    let named = proxy.section.own().and_then(|own| own.entry(word)).map(|entry| &entry.value.data);
    let entries = match named {
        Some(Data::Table(named)) => named.entries.as_slice(),
        _ => &[],
    };
    let mut tables = Vec::with_capacity(entries.len());
    for entry in entries {
        if !is_known && let Err(problem) = units::check_name(&entry.key) {
            context.problem(entry.key_span.start, problem);
            proxy.seen.said = true;
        }
        // Not a table: the keyword check said so.
        if let Data::Table(table) = &entry.value.data {
            tables.push((entry, table));
        }
    }
    tables
}

/// The servers that a template makes.
fn of_template<'a>(
    context: &Context<'a>,
    entry: &'a Entry,
    table: &'a Table,
    backend: BackendId,
) -> impl Iterator<Item = ServerEntry<'a>> {
    let at = entry.key_span.start;
    let section = Section::new(context, Scope::ServerTemplate, at, vec![table]);
    if section.value("count").is_none() {
        let message = format!("server-template \"{}\" does not say how many servers it makes", entry.key);
        context.error(at, message, Some("add count = 3".to_owned()));
    }
    let first = section.count("first").unwrap_or(1);
    let numbers = first..first + section.count("count").unwrap_or(0);
    numbers.map(move |number| {
        let name = Cow::Owned(format!("{}{number}", entry.key));
        ServerEntry { name, at, table, backend, is_of_template: true }
    })
}

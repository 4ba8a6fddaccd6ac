//! `[backend.NAME.server.NAME]` with what it inherits from `default-server`. Its health check is `check`.

use std::sync::Arc;
use std::time::Duration;

use super::again::Again;
use super::language::Language;
use super::layout::{Layout, Proxy, ServerEntry, numbers};
use super::{check, http, tls, track};
use crate::base::id::{BackendId, IdVec, ServerId};
use crate::config::file::{Data, Table};
use crate::config::keywords::Scope;
use crate::config::section::Section;
use crate::config::units;
use crate::model::http::HttpServer;
use crate::model::{Backend, Lookup, SendProxy, Server, ServerAddress, Source};
use crate::policy::sample::VariableTable;

pub(super) fn servers(
    layout: &Layout<'_>,
    backends: &IdVec<BackendId, Arc<Backend>>,
    again: &Again,
    variables: &mut VariableTable,
) -> IdVec<ServerId, Arc<Server>> {
    let mut servers = IdVec::new();
    for (proxy, id) in layout.backends() {
        let found = again.servers(layout, proxy, id).unwrap_or_else(|| {
            again.read((proxy, id), variables, |variables| {
                of_backend(layout, (proxy, id), backends, variables)
            })
        });
        for server in found {
            servers.push(server);
        }
    }
    track::track(layout, &mut servers, (backends, again));
    servers
}

fn of_backend(
    layout: &Layout<'_>,
    (proxy, id): (&Proxy<'_>, BackendId),
    backends: &IdVec<BackendId, Arc<Backend>>,
    variables: &mut VariableTable,
) -> Vec<Arc<Server>> {
    let mut servers = Vec::new();
    let entries = layout.servers.slice(&backends[id].servers);
    let sections: Vec<Section<'_>> = entries.iter().map(|entry| section(layout, proxy, entry)).collect();
    let wanted: Vec<_> = sections.iter().map(|s| (s.count("id"), s.value_at("id"))).collect();
    let sids = numbers(proxy.section.context, &wanted, "the id of another server of this backend");
    let script = check::script(&proxy.section);
    let http = backends[id].http.as_deref();
    let http_check = http::check(&proxy.section);
    let grpc = proxy.section.string("grpc-check");
    let dialogue = check::Dialogue { script: &script, http: http_check.as_ref(), grpc: grpc.as_deref() };
    let cookie = http.and_then(|http| http.cookie.as_ref());
    for ((entry, section), sid) in entries.iter().zip(&sections).zip(sids) {
        let http = http::server(section, cookie);
        let tls = tls::server(section, backends[id].mode);
        let language = Language::new(layout, (proxy.frontend, Some(id)));
        let sni = tls::sni_expression(section, backends[id].mode, &language, variables);
        let mut server = Server { sid, http, tls, sni, ..server(proxy, entry, section, &dialogue) };
        // Part of what is verified, and so of what makes connections different.
        if let (Some(tls), ServerAddress::Name { host, .. }) = (&mut server.tls, &server.address)
            && tls.sni.is_none()
            && server.sni.is_none()
        {
            let is_service = host.starts_with('_');
            if is_service && tls.verify && tls.verify_host.is_none() {
                let help = "add sni to its tls, or verifyhost".to_owned();
                section.error("address", "the name of a service (SRV) is in no certificate", Some(help));
            }
            tls.sni = (!is_service).then(|| host.clone());
        }
        let check_tls = check::tls(section, &server);
        if let Some(check) = &mut server.check {
            check.tls = check_tls;
        }
        servers.push(Arc::new(server));
    }
    if grpc.is_some() && (http_check.is_some() || !script.is_empty()) {
        let help = "keep one of them".to_owned();
        let what = "httpchk and tcp-check have no effect beside grpc-check";
        proxy.section.warning("grpc-check", what, Some(help));
    } else if !script.is_empty() && http_check.is_some() {
        let help = "keep one of them; http-check has steps too".to_owned();
        proxy.section.warning("tcp-check", "tcp-check has no effect beside httpchk", Some(help));
    } else if !script.is_empty()
        && !sections.is_empty()
        && !sections.iter().any(|s| s.flag("check") == Some(true))
    {
        let help = "add check = true to the servers or to default-server".to_owned();
        proxy.section.warning("tcp-check", "tcp-check has no effect: no server here is checked", Some(help));
    }
    servers
}

pub(super) fn section<'a>(layout: &Layout<'a>, proxy: &Proxy<'a>, entry: &ServerEntry<'a>) -> Section<'a> {
    let default_server = |table: Option<&'a Table>| match &table?.entry("default-server")?.value.data {
        Data::Table(table) => Some(table),
        _ => None,
    };
    let layers = std::iter::once(entry.table)
        .chain(default_server(proxy.section.own()))
        .chain(default_server(layout.defaults))
        .collect();
    Section::new(proxy.section.context, Scope::Server, entry.at, layers)
}

fn server(
    proxy: &Proxy<'_>,
    entry: &ServerEntry<'_>,
    section: &Section<'_>,
    dialogue: &check::Dialogue<'_>,
) -> Server {
    let send_proxy = send_proxy(section);
    if section.value("address").is_none() {
        let help = Some("add address = \"192.0.2.1:80\"".to_owned());
        section.context.error(entry.at, format!("server \"{}\" has no address", entry.name), help);
    }
    // A wrong address was reported, so that the model with this placeholder is never handed out.
    let address =
        section.parsed("address", units::server_address).unwrap_or(ServerAddress::Abstract(String::new()));
    let traffic = check::Traffic { send_proxy, address: &address };
    Server {
        // Those who know of variables fill it in.
        sni: None,
        name: entry.name.to_string(),
        mark: crate::policy::stick::server_mark(&entry.name),
        lookup: lookup(section, entry, &address),
        // The caller numbers it and adds what it has in HTTP mode.
        sid: 0,
        http: HttpServer::default(),
        backend: entry.backend,
        weight: section.count("weight").unwrap_or(1),
        backup: section.flag("backup").unwrap_or(false),
        disabled: section.flag("disabled").unwrap_or(false),
        maxconn: maxconn(section),
        maxqueue: section.limit("maxqueue"),
        send_proxy,
        source_is_client: source_is_client(section, &address),
        source: sources(section, &address),
        check: check::check(section, &proxy.section, dialogue, &traffic),
        observe: check::observe(section),
        // Names are known when all servers are; the caller of this file's entry fills it in.
        track: None,
        agent: check::agent(section, &address),
        minconn: minconn(section),
        slowstart: section.duration("slowstart").unwrap_or(Duration::ZERO),
        on_marked_down_shutdown: section.string("on-marked-down").as_deref() == Some("shutdown-sessions"),
        on_marked_up_shutdown_backups: section.string("on-marked-up").is_some(),
        tcp_user_timeout: section.duration("tcp-ut"),
        tls: None,
        // Kept servers get another one where they moved.
        origin: section.context.file.source.origin(section.at),
        address,
    }
}

/// How the name of a server becomes its address.
fn lookup(section: &Section<'_>, entry: &ServerEntry<'_>, address: &ServerAddress) -> Lookup {
    let options: Vec<String> = section.texts("resolve-opts").into_iter().map(|(_, text)| text.text).collect();
    let has = |name: &str| options.iter().any(|option| option == name);
    if entry.is_of_template && !matches!(address, ServerAddress::Name { .. }) {
        let help = "write address = \"app.example.com:80\", or one server for each address".to_owned();
        section.error("address", "the servers of a template share a host name", Some(help));
    }
    Lookup {
        prefer_ipv4: section.string("resolve-prefer").as_deref() == Some("ipv4"),
        distinct: (entry.is_of_template || has("prevent-dup-ip")) && !has("allow-dup-ip"),
    }
}

/// HAProxy: a `minconn` above `maxconn`, or without one, is the limit.
fn maxconn(section: &Section<'_>) -> Option<u32> {
    match (section.limit("maxconn"), section.limit("minconn")) {
        (Some(max), Some(min)) => Some(max.max(min)),
        (max, min) => max.or(min),
    }
}

fn minconn(section: &Section<'_>) -> Option<u32> {
    section.limit("minconn").filter(|min| Some(*min) < maxconn(section))
}

fn send_proxy(section: &Section<'_>) -> Option<SendProxy> {
    let options: Vec<String> =
        section.texts("proxy-v2-options").into_iter().map(|(_, text)| text.text).collect();
    let has = |name: &str| options.iter().any(|option| option == name);
    let v1 = section.flag("send-proxy").unwrap_or(false);
    let v2 = section.flag("send-proxy-v2").unwrap_or(false);
    let own = |key: &str| section.own().is_some_and(|own| own.at(key).is_some());
    if v1 && v2 && own("send-proxy") == own("send-proxy-v2") {
        let help = "a connection starts with one header: keep the version that the server expects".to_owned();
        section.error("send-proxy-v2", "send-proxy and send-proxy-v2 exclude each other", Some(help));
    }
    // The server's own word wins over that of default-server.
    if v2 && !(v1 && own("send-proxy")) {
        return Some(SendProxy::V2 {
            crc32c: has("crc32c"),
            authority: has("authority"),
            unique_id: has("unique-id"),
            ssl: has("ssl"),
        });
    }
    if !options.is_empty() && own("proxy-v2-options") {
        let help = "add send-proxy-v2 = true".to_owned();
        section.warning(
            "proxy-v2-options",
            "proxy-v2-options has no effect without send-proxy-v2",
            Some(help),
        );
    }
    v1.then_some(SendProxy::V1)
}

/// `source = "client"`, which stands alone.
fn source_is_client(section: &Section<'_>, address: &ServerAddress) -> bool {
    let texts = section.texts("source");
    let Some((at, _)) = texts.iter().find(|(_, text)| text.text == CLIENT) else { return false };
    if texts.len() > 1 {
        let message = "\"client\" stands alone: a connection has one source".to_owned();
        section.context.error(*at, message, Some("remove the other addresses".to_owned()));
    }
    !matches!(address, ServerAddress::Unix(_) | ServerAddress::Abstract(_))
}

/// In `source`: the address of the client.
const CLIENT: &str = "client";

fn sources(section: &Section<'_>, address: &ServerAddress) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    if section.texts("source").iter().any(|(_, text)| text.text == CLIENT) {
        return sources;
    }
    for (at, text) in section.texts("source") {
        let source = match units::source(&text.text) {
            Ok(source) => source,
            Err(problem) => {
                section.context.problem(at, problem);
                continue;
            }
        };
        if let ServerAddress::Ip(server) = address
            && server.is_ipv4() != source.address.is_ipv4()
        {
            let message =
                format!("{} cannot connect to {}: one is IPv4, the other IPv6", source.address, server.ip());
            section.context.error(at, message, None);
        }
        if sources.iter().any(|other| overlap(other, &source)) {
            let message =
                format!("the ports of {} overlap with another source of this server", source.address);
            section.context.error(at, message, None);
        }
        sources.push(source);
    }
    if matches!(address, ServerAddress::Unix(_) | ServerAddress::Abstract(_)) && !sources.is_empty() {
        section.warning("source", "source has no effect: this server is a UNIX socket", None);
    }
    sources
}

fn overlap(a: &Source, b: &Source) -> bool {
    let ports = match (a.ports, b.ports) {
        (Some((a_low, a_high)), Some((b_low, b_high))) => a_low <= b_high && b_low <= a_high,
        _ => true,
    };
    a.address == b.address && ports
}

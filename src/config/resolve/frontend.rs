//! `[frontend.NAME]`, and the frontend half of `[listen.NAME]`. Its rules are `rules`.

use std::time::Duration;

use super::language::Language;
use super::layout::{Layout, Proxy};
use super::{backend, bind, http, log, rules};
use crate::base::id::{BackendId, FrontendId};
use crate::config::expr::Context as Place;
use crate::config::keywords::Scope;
use crate::model::{Frontend, Mode};
use crate::policy::rule::{RuleList, TcpAction};
use crate::policy::sample::VariableTable;

pub(super) fn frontend(
    layout: &Layout<'_>,
    proxy: &Proxy<'_>,
    id: FrontendId,
    (binds, logs): (&mut bind::Binds, &mut log::Logs),
    variables: &mut VariableTable,
) -> Frontend {
    let section = &proxy.section;
    let language = Language::new(layout, (Some(id), proxy.backend)).with_acls(section, variables);
    let mode = backend::mode(section);
    let mut captures = Box::new(log::captures(section));
    let mut http =
        (mode == Mode::Http).then(|| Box::new(http::frontend(layout, section, &language, variables)));
    if let Some(http) = &mut http {
        log::capture_in_rules(section, &mut http.rules, &mut captures);
    }
    let mut rules = |key, scope, place| {
        let mut reader = rules::Reader { layout, language: &language, place, variables: &mut *variables };
        section.tables(key, scope).iter().filter_map(|table| reader.rule(table)).collect()
    };
    let connection_rules = rules("connection-rules", Scope::ConnectionRule, Place::Connection);
    let mut content_rules: RuleList<TcpAction> = match mode {
        Mode::Tcp => rules("rules", Scope::Rule, Place::Content),
        Mode::Http => RuleList::default(),
    };
    log::capture_in_content(section, &mut content_rules, &mut captures);
    Frontend {
        name: proxy.name.to_owned(),
        iid: proxy.iid,
        mode,
        binds: bind::binds(section, (id, mode), binds),
        maxconn: section.limit("maxconn"),
        timeout_client: section.timeout("timeout.client"),
        timeout_client_fin: backend::timeout_or(section, "timeout.client-fin", "timeout.client"),
        timeout_client_hs: backend::timeout_or(section, "timeout.client-hs", "timeout.client"),
        inspect_delay: section.duration("inspect-delay").unwrap_or(Duration::ZERO),
        connection_rules,
        content_rules,
        default_backend: default_backend(layout, proxy),
        splice: backend::splice(section),
        log: logs.frontend(section, &language, mode, variables),
        trace: logs.trace(section, &language, mode, variables),
        captures,
        http,
    }
}

fn default_backend(layout: &Layout<'_>, proxy: &Proxy<'_>) -> Option<BackendId> {
    // The own servers of a listen section come before a default-backend that it only inherits.
    let own = proxy.section.own().is_some_and(|own| own.at("default-backend").is_some());
    let has_servers = proxy.backend.is_some_and(|id| !layout.server_ranges[id].is_empty());
    if !own && has_servers {
        return proxy.backend;
    }
    match proxy.section.string("default-backend") {
        Some(name) => rules::find_backend(layout, &proxy.section, "default-backend", &name),
        None => proxy.backend,
    }
}

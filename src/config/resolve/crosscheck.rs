//! What only shows when everything is known: frontends that lead nowhere, timeouts that are missing, binds in each other's
//! way.

use std::net::{IpAddr, SocketAddr};

use super::layout::Layout;
use crate::base::id::{IdVec, ListenerId};
use crate::config::section::Context;
use crate::model::{BindAddress, Mode, Model};
use crate::policy::acl::Condition;
use crate::policy::http_action::RequestAction;
use crate::policy::rule::{Rule, TcpAction};

pub(super) fn crosscheck(
    context: &Context<'_>,
    layout: &Layout<'_>,
    model: &Model,
    binds_at: &IdVec<ListenerId, usize>,
) {
    if layout.frontends().next().is_none() {
        let help = "add [frontend.NAME] with bind and default-backend, or [listen.NAME]".to_owned();
        context.error(0, "there is no frontend: nothing would be listened on", Some(help));
    }
    for (proxy, id) in layout.frontends() {
        let frontend = &model.frontends[id];
        if proxy.section.own().is_none_or(|own| own.at("bind").is_none()) {
            let help = "add bind = \"*:80\"".to_owned();
            context.error(proxy.at, format!("frontend \"{}\" has no bind", proxy.name), Some(help));
        }
        let routes =
            frontend.content_rules.iter().any(|rule| matches!(rule.action, TcpAction::UseBackend(_)))
                || frontend
                    .http
                    .as_ref()
                    // The statistics page needs nobody to pass requests on to.
                    .is_some_and(|http| {
                        http.stats.is_some() || http.rules.request.iter().any(|r| answers(&r.action))
                    });
        // A misspelt keyword was reported and may be the one that is missing here.
        let wanted = proxy.section.value("default-backend").is_some() || proxy.section.has_unknown_keys();
        if frontend.default_backend.is_none() && !routes && !wanted {
            let help = "add default-backend or a rule with use-backend".to_owned();
            let message = format!("frontend \"{}\" sends its sessions nowhere: they are closed", proxy.name);
            context.warning(proxy.at, message, Some(help));
        }
    }
    modes(layout, model);
    inspection(layout, model);
    timeouts(context, layout);
    binds(context, model, binds_at);
}

/// Whether requests that a rule takes need no default backend.
fn answers(action: &RequestAction) -> bool {
    matches!(
        action,
        RequestAction::UseBackend(_)
            | RequestAction::UseBackendNamed(_)
            | RequestAction::Return(_)
            | RequestAction::Redirect(_)
            | RequestAction::Deny(_)
    )
}

/// Sections understand what they pass on to each other, and keywords of HTTP stand where they are heeded.
fn modes(layout: &Layout<'_>, model: &Model) {
    let name = |mode| if mode == Mode::Http { "http" } else { "tcp" };
    for (proxy, id) in layout.frontends() {
        let frontend = &model.frontends[id];
        let content = frontend.content_rules.iter().filter_map(|rule| match rule.action {
            TcpAction::UseBackend(backend) => Some(backend),
            _ => None,
        });
        let request =
            frontend.http.iter().flat_map(|http| &http.rules.request).filter_map(|r| match r.action {
                RequestAction::UseBackend(backend) => Some(backend),
                _ => None,
            });
        let mut told = Vec::new();
        for target in frontend.default_backend.into_iter().chain(content).chain(request) {
            let backend = &model.backends[target];
            if backend.mode != frontend.mode && !told.contains(&target) {
                told.push(target);
                let (here, there) = (name(frontend.mode), name(backend.mode));
                let message = format!(
                    "frontend \"{}\" has mode {here} and its backend \"{}\" mode {there}",
                    frontend.name, backend.name
                );
                let help = "give both the same mode, for example in [defaults]".to_owned();
                proxy.section.context.error(proxy.at, message, Some(help));
            }
        }
    }
    for proxy in &layout.proxies {
        let http = proxy.frontend.is_some_and(|id| model.frontends[id].mode == Mode::Http)
            || proxy.backend.is_some_and(|id| model.backends[id].mode == Mode::Http);
        if !http {
            proxy.section.reject_http_keywords();
        } else if proxy.section.own().is_some_and(|own| own.entry("inspect-delay").is_some()) {
            let help =
                "rules are evaluated on whole requests; timeout.http-request limits the wait".to_owned();
            proxy.section.warning("inspect-delay", "inspect-delay has no effect in HTTP mode", Some(help));
        }
    }
}

/// Rules that look at bytes of the client see what is there when they are evaluated: mostly nothing, without waiting.
fn inspection(layout: &Layout<'_>, model: &Model) {
    for (proxy, id) in layout.frontends() {
        let frontend = &model.frontends[id];
        let reads = |rule: &Rule<TcpAction>| {
            rule.condition.as_ref().is_some_and(Condition::reads_first_bytes)
                || matches!(&rule.action, TcpAction::SetVar { value, .. } | TcpAction::Capture { value, .. }
                    if value.reads_first_bytes())
        };
        let first = frontend.content_rules.iter().find(|rule| reads(rule));
        if let Some(rule) = first
            && frontend.inspect_delay.is_zero()
        {
            let message = format!(
                "the rule at {} looks at bytes of the client, and nothing waits for them",
                rule.origin
            );
            proxy.section.warning("rules", message, Some("add inspect-delay = \"5s\"".to_owned()));
        }
    }
}

/// HAProxy warns about these too: without them a peer that vanishes holds its connection for ever.
fn timeouts(context: &Context<'_>, layout: &Layout<'_>) {
    for proxy in &layout.proxies {
        let wanted: &[&str] = match (proxy.frontend, proxy.backend) {
            (Some(_), Some(_)) => &["timeout.client", "timeout.connect", "timeout.server"],
            (Some(_), None) => &["timeout.client"],
            _ => &["timeout.connect", "timeout.server"],
        };
        let missing: Vec<&str> =
            wanted.iter().copied().filter(|key| proxy.section.value(key).is_none()).collect();
        if !missing.is_empty() {
            let usual = |key: &str| if key == "timeout.connect" { "5s" } else { "30s" };
            let lines: Vec<String> =
                missing.iter().map(|key| format!("{key} = \"{}\"", usual(key))).collect();
            let help = "peers that vanish hold their connections for ever; add, for example to [defaults], ";
            let message = format!("\"{}\" has no {}", proxy.name, missing.join(", "));
            context.warning(proxy.at, message, Some(format!("{help}{}", lines.join(" and "))));
        }
    }
}

fn binds(context: &Context<'_>, model: &Model, at: &IdVec<ListenerId, usize>) {
    // Sorted so that those in each other's way are neighbours: by port, the widest first.
    let mut sorted: Vec<(ListenerId, SocketAddr)> = model
        .binds
        .iter()
        .filter_map(|(id, bind)| match bind.address {
            BindAddress::Ip(address) if address.port() != 0 => Some((id, address)),
            _ => None,
        })
        .collect();
    sorted.sort_by_key(|(id, address)| {
        let ip = address.ip();
        (address.port(), !ip.is_unspecified(), ip.is_ipv4(), ip, id.0)
    });
    for group in sorted.chunk_by(|(_, a), (_, b)| a.port() == b.port()) {
        for (index, (id, address)) in group.iter().enumerate() {
            let bind = &model.binds[*id];
            let before =
                || group[..index].iter().filter(|(other, _)| model.binds[*other].interface == bind.interface);
            let same = before().find(|(_, a)| a == address);
            let wider = || before().find(|(other, a)| covers(*a, model.binds[*other].v6only, *address));
            let Some((other, wide)) = same.or_else(wider) else { continue };
            let there = &model.binds[*other].origin;
            if wide == address {
                let message = format!("{address} is listened on twice");
                context.error(at[*id], message, Some(format!("the other one is at {there}")));
            } else {
                let help =
                    format!("the kernel prefers the more specific address; the other one is at {there}");
                context.warning(at[*id], format!("{address} is also listened on by {wide}"), Some(help));
            }
        }
    }
    same_sockets(context, model, at);
}

/// Whether a wildcard address takes connections to another address of the same port.
fn covers(wildcard: SocketAddr, v6only: bool, address: SocketAddr) -> bool {
    wildcard.ip().is_unspecified()
        && match (wildcard.ip(), address.ip()) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => true,
            (IpAddr::V6(_), IpAddr::V4(_)) => !v6only,
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
        }
}

fn same_sockets(context: &Context<'_>, model: &Model, at: &IdVec<ListenerId, usize>) {
    let mut seen: Vec<(&BindAddress, ListenerId)> = Vec::new();
    for (id, bind) in model.binds.iter().filter(|(_, bind)| !matches!(bind.address, BindAddress::Ip(_))) {
        if let Some((_, other)) = seen.iter().find(|(address, _)| **address == bind.address) {
            let help = format!("the other one is at {}", model.binds[*other].origin);
            context.error(at[id], "this socket is listened on twice", Some(help));
        }
        seen.push((&bind.address, id));
    }
}

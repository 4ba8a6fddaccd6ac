//! `[backend.NAME]`, and the backend half of `[listen.NAME]`.

use super::language::Language;
use super::layout::{Layout, Proxy};
use super::{balance, http, stick};
use crate::base::id::BackendId;
use crate::base::limits::SERVERS_PER_BACKEND_MAX;
use crate::config::file::Data;
use crate::config::section::Section;
use crate::model::{Backend, Mode, Splice};
use crate::policy::sample::VariableTable;

/// HAProxy's default.
const RETRIES_DEFAULT: u32 = 3;

pub(super) fn backend(
    layout: &Layout<'_>,
    proxy: &Proxy<'_>,
    id: BackendId,
    variables: &mut VariableTable,
) -> Backend {
    let section = &proxy.section;
    let language = Language::new(layout, (proxy.frontend, Some(id)));
    let mode = mode(section);
    let language = language.with_acls(section, variables);
    let (balance, hash_key, key) = balance::balance(section, mode, &language, variables);
    let servers = layout.server_ranges[id];
    let word = if proxy.frontend.is_some() { "listen" } else { "backend" };
    // A section may be there for its stick table alone.
    let is_table = section.value("stick-table").is_some();
    if servers.is_empty() && !is_table && !routed_elsewhere(proxy) {
        let help = format!("add [{word}.{}.server.NAME] with an address", proxy.name);
        let message = format!("{word} \"{}\" has no server: every session sent to it fails", proxy.name);
        section.context.warning(proxy.at, message, Some(help));
    }
    if servers.len() > SERVERS_PER_BACKEND_MAX {
        let message = format!(
            "a backend has at most {SERVERS_PER_BACKEND_MAX} servers, this one has {}",
            servers.len()
        );
        section.context.error(proxy.at, message, None);
    }
    Backend {
        name: proxy.name.to_owned(),
        iid: proxy.iid,
        mode,
        servers,
        balance,
        hash_key,
        timeout_connect: section.timeout("timeout.connect"),
        timeout_server: section.timeout("timeout.server"),
        timeout_server_fin: timeout_or(section, "timeout.server-fin", "timeout.server"),
        timeout_tunnel: section.timeout("timeout.tunnel"),
        timeout_queue: timeout_or(section, "timeout.queue", "timeout.connect"),
        retries: section.count("retries").unwrap_or(RETRIES_DEFAULT),
        redispatch: redispatch(section),
        fullconn: section.limit("fullconn"),
        abort_on_close: section.flag("abortonclose").unwrap_or(false),
        allbackups: section.flag("allbackups").unwrap_or(false),
        splice: splice(section),
        stick: stick::stick(layout, section, &language, mode, variables),
        http: (mode == Mode::Http)
            .then(|| Box::new(http::backend(layout, section, &language, key, id, variables))),
    }
}

/// A listen section that sends everything to other backends, or shows statistics, needs no servers of its own.
fn routed_elsewhere(proxy: &Proxy<'_>) -> bool {
    let stats =
        ["stats.enable", "stats.uri", "stats.auth", "stats.refresh", "stats.http-request", "stats.admin"];
    let keys = std::iter::once("default-backend").chain(stats);
    proxy.frontend.is_some() && keys.into_iter().any(|key| proxy.section.value(key).is_some())
}

/// A timeout that is another one unless it is set. A 0 is set: no timeout.
pub(super) fn timeout_or(section: &Section<'_>, key: &str, otherwise: &str) -> Option<std::time::Duration> {
    section.timeout(if section.value(key).is_some() { key } else { otherwise })
}

pub(super) fn mode(section: &Section<'_>) -> Mode {
    if section.string("mode").as_deref() != Some("http") {
        return Mode::Tcp;
    }
    Mode::Http
}

pub(super) fn splice(section: &Section<'_>) -> Splice {
    match section.string("splice").as_deref() {
        Some("always") => Splice::Always,
        Some("never") => Splice::Never,
        _ => Splice::Auto,
    }
}

/// `true` is the last retry, as HAProxy's `option redispatch` without a number.
fn redispatch(section: &Section<'_>) -> i32 {
    match section.value("redispatch").map(|value| &value.data) {
        Some(Data::Boolean(true)) => -1,
        _ => section.integer("redispatch").and_then(|n| i32::try_from(n).ok()).unwrap_or(0),
    }
}

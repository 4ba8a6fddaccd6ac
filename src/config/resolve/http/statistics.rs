//! `stats.*` of a section, and the backend behind which the control core answers.

use std::sync::Arc;
use std::time::Duration;

use super::rules;
use crate::base::id::{BackendId, Id, IdRange, ServerId};
use crate::base::limits::WEB_CONNECTIONS_MAX;
use crate::config::file::Data;
use crate::config::resolve::language::Language;
use crate::config::resolve::layout::Layout;
use crate::config::section::Section;
use crate::model::http::*;
use crate::model::statistics::{INTERNAL, StatsPage};
use crate::model::{Backend, Mode, Model, Server, ServerAddress, Splice};
use crate::policy::balance::{Algorithm, HashFunction, HashMethod, HashType, Spec};
use crate::policy::http_action::RequestAction;
use crate::policy::retry::RetryOn;
use crate::policy::rule::Rule;
use crate::policy::sample::{UserlistId, VariableTable};

/// Each of them makes the page be served.
const KEYS: &[&str] = &[
    "stats.enable",
    "stats.uri",
    "stats.refresh",
    "stats.realm",
    "stats.auth",
    "stats.scope",
    "stats.hide-version",
    "stats.show-node",
    "stats.show-desc",
    "stats.show-legends",
];

/// Those that stand in sections alone.
const OWN_KEYS: &[&str] = &["stats.http-request", "stats.admin"];

/// How conditions name the users of `stats.auth`; the number of the list follows.
const LIST: &str = ".stats.";

pub(super) fn page(
    layout: &Layout<'_>,
    section: &Section<'_>,
    language: &Language<'_>,
    backend: Option<BackendId>,
    variables: &mut VariableTable,
) -> Option<Box<StatsPage>> {
    let is_asked = KEYS.iter().chain(OWN_KEYS).any(|key| section.value(key).is_some());
    if !is_asked || section.flag("stats.enable") == Some(false) {
        return None;
    }
    // Names and users of the whole file.
    section.context.depends_on_others();
    let uri = section.string("stats.uri").unwrap_or_else(|| "/haproxy?stats".to_owned());
    if !uri.starts_with('/') || uri.contains(|c: char| c.is_control() || c == ' ' || c == '#' || c == ';') {
        let help = Some("it begins with a slash, for example \"/stats\"".to_owned());
        section.error("stats.uri", format!("\"{uri}\" is not the beginning of a target"), help);
    }
    let mut rules = rules::list(layout, section, ("stats.http-request", backend), language, variables);
    for rule in &rules {
        let fits =
            matches!(rule.action, RequestAction::Allow | RequestAction::Deny(_) | RequestAction::Auth { .. });
        if !fits {
            let help = Some("write it in rules".to_owned());
            section.error("stats.http-request", "stats.http-request has allow, deny and auth alone", help);
        }
    }
    let origin = section.origin();
    if let Some(list) = lists(layout).position(|other| other.at == section.at) {
        let realm = section.string("stats.realm").unwrap_or_else(|| "Statistics".to_owned());
        if realm.contains(char::is_control) {
            section.error("stats.realm", "a realm is one line of text", None);
        }
        let known = language.preset(&format!("{{ http_auth({LIST}{list}) }}"), variables);
        // Without the condition everybody would be asked for ever, which lets nobody in.
        let condition = known.map(|condition| condition.negated());
        rules.push(Rule {
            id: 0,
            condition,
            action: RequestAction::Auth { realm },
            origin: origin.clone(),
            text: "stats.auth".into(),
        });
    }
    if let Some(text) = section.text("stats.admin")
        && let Some(condition) = language.condition(&text, crate::config::expr::Context::Request, variables)
    {
        rules.push(Rule {
            id: 0,
            condition: Some(condition),
            action: RequestAction::Administrate,
            origin,
            text: "stats.admin".into(),
        });
    }
    let shown = |key: &str, usual: String| match section.value(key).map(|value| &value.data) {
        Some(Data::Boolean(true)) => Some(usual),
        Some(Data::String(_)) => section.string(key),
        _ => None,
    };
    let name = language.section_name();
    let scope = section.texts("stats.scope").into_iter().map(|(_, text)| text.text);
    Some(Box::new(StatsPage {
        uri,
        refresh: section.duration("stats.refresh"),
        rules: rules.into(),
        scope: scope.map(|word| if word == "." { name.to_owned() } else { word }).collect(),
        hide_version: section.flag("stats.hide-version").unwrap_or(false),
        node: shown(
            "stats.show-node",
            layout.global.string("node").unwrap_or_else(|| section.context.env.hostname.clone()),
        ),
        legends: section.flag("stats.show-legends").unwrap_or(false),
        description: shown("stats.show-desc", layout.global.string("description").unwrap_or_default()),
    }))
}

/// The sections with `stats.auth`.
fn lists<'l>(layout: &'l Layout<'_>) -> impl Iterator<Item = &'l Section<'l>> {
    layout.proxies.iter().map(|proxy| &proxy.section).filter(|section| {
        section.value("stats.auth").is_some() && section.string("mode").as_deref() == Some("http")
    })
}

/// The list of `stats.auth` with this name.
pub(in crate::config::resolve) fn auth_list(layout: &Layout<'_>, name: &str) -> Option<UserlistId> {
    let number: usize = name.strip_prefix(LIST)?.parse().ok()?;
    let file = &layout.global.context.file.root;
    let named = match file.entry("userlist").map(|entry| &entry.value.data) {
        Some(Data::Table(lists)) => {
            lists.entries.iter().filter(|entry| matches!(entry.value.data, Data::Table(_))).count()
        }
        _ => 0,
    };
    u16::try_from(named + number).ok().map(UserlistId)
}

/// The users of `stats.auth`, one list a section.
pub(super) fn userlists<'l>(layout: &'l Layout<'_>) -> impl Iterator<Item = Userlist> + 'l {
    lists(layout).zip(0..).map(|(section, number)| {
        let mut users = Vec::new();
        for (at, text) in section.texts("stats.auth") {
            match text.text.split_once(':') {
                Some((name, password)) if !name.is_empty() => users.push(User {
                    name: name.to_owned(),
                    password: Password::Plain(password.to_owned()),
                    groups: Vec::new(),
                }),
                _ => section.context.error(at, "stats.auth takes USER:PASSWORD", None),
            }
        }
        // Inherited ones are reported where they stand.
        if section.own().is_some_and(|own| own.at("stats.auth").is_some()) {
            let help = "write a userlist with hashes and stats.http-request with auth".to_owned();
            section.warning("stats.auth", "whoever reads this file knows this password", Some(help));
        }
        Userlist { name: format!("{LIST}{number}"), users }
    })
}

/// Adds the backend that stands for the control core, if a page or service needs it.
pub(in crate::config::resolve) fn add_internal(model: &mut Model) {
    let asks = |rules: &HttpRules, page: &Option<Box<StatsPage>>| {
        page.is_some() || rules.request.iter().any(|r| matches!(r.action, RequestAction::UseService(_)))
    };
    let in_frontends = model.frontends.values().filter_map(|f| f.http.as_ref());
    let in_backends = model.backends.values().filter_map(|b| b.http.as_ref());
    if !in_frontends
        .map(|h| asks(&h.rules, &h.stats))
        .chain(in_backends.map(|h| asks(&h.rules, &h.stats)))
        .any(|a| a)
    {
        return;
    }
    let backend = BackendId::from_index(model.backends.len());
    let start = ServerId::from_index(model.servers.len());
    Arc::make_mut(&mut model.servers).push(Arc::new(internal_server(backend)));
    let servers = IdRange::new(start..ServerId::from_index(model.servers.len()));
    Arc::make_mut(&mut model.backends).push(Arc::new(internal_backend(servers)));
}

fn internal_backend(servers: IdRange<ServerId>) -> Backend {
    /// A connection within the machine; whoever serves it answers at once or streams something every second.
    const PATIENCE: Duration = Duration::from_secs(30);
    Backend {
        name: INTERNAL.to_owned(),
        iid: 0,
        mode: Mode::Http,
        servers,
        balance: Spec {
            algorithm: Algorithm::RoundRobin,
            hash_type: HashType {
                method: HashMethod::MapBased,
                function: HashFunction::Sdbm,
                avalanche: false,
            },
            balance_factor: None,
        },
        hash_key: None,
        timeout_connect: Some(PATIENCE),
        timeout_server: Some(PATIENCE),
        timeout_server_fin: None,
        timeout_tunnel: None,
        timeout_queue: Some(PATIENCE),
        retries: 1,
        redispatch: 0,
        fullconn: None,
        abort_on_close: false,
        allbackups: false,
        splice: Splice::Never,
        stick: Vec::new(),
        http: Some(Box::new(HttpBackend {
            keep_alive: KeepAlive::Both,
            reuse: Reuse::Never,
            rules: HttpRules::default(),
            insert: Insert::default(),
            error_pages: ErrorPages::default(),
            cookie: None,
            dynamic_cookie_key: None,
            ignore_persist: None,
            force_persist: None,
            key: None,
            retry_on: RetryOn::CONN_FAILURE,
            abort_on_close: false,
            fullconn: None,
            stats: None,
        })),
    }
}

fn internal_server(backend: BackendId) -> Server {
    Server {
        lookup: crate::model::Lookup::default(),
        sni: None,
        name: INTERNAL.to_owned(),
        mark: 0,
        sid: 1,
        backend,
        // It gets its real name at the start.
        address: ServerAddress::Abstract(String::new()),
        weight: 1,
        backup: false,
        disabled: false,
        maxconn: u32::try_from(WEB_CONNECTIONS_MAX).ok(),
        maxqueue: None,
        send_proxy: None,
        source: Vec::new(),
        source_is_client: false,
        check: None,
        observe: None,
        track: None,
        agent: None,
        minconn: None,
        slowstart: Duration::ZERO,
        on_marked_down_shutdown: false,
        on_marked_up_shutdown_backups: false,
        tcp_user_timeout: None,
        tls: None,
        origin: String::new(),
        http: HttpServer { max_streams: 1, ..HttpServer::default() },
    }
}

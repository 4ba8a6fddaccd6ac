//! What sections have in HTTP mode beyond TCP mode. `rules`, `reply`, `check` and `userlist` read the parts.

mod actions;
mod check;
mod reply;
mod rules;
mod statistics;
mod userlist;

use std::time::Duration;

use super::backend::timeout_or;
use super::bind::networks;
use super::language::Language;
use super::layout::Layout;
use crate::base::limits::BUF_BYTES;
use crate::config::diag::suggest;
use crate::config::expr::Context as Place;
use crate::config::file::Data;
use crate::config::keywords::Scope;
use crate::config::section::Section;
use crate::model::http::*;
use crate::policy::acl::Condition;
use crate::policy::balance::KeySource;
use crate::policy::persist;
use crate::policy::retry::RetryOn;
use crate::policy::sample::VariableTable;

pub(super) use actions::{capture, inner, log_level};
pub(super) use check::{check, connect};
pub(super) use statistics::{add_internal, auth_list};
pub(super) use userlist::userlists;

/// HAProxy's `tune.h2.be.max-concurrent-streams`.
const MAX_STREAMS_DEFAULT: u32 = 100;

/// HAProxy's `tune.http.maxhdr`.
const HEADERS_DEFAULT: u32 = 101;

/// HAProxy's default.
const POOL_PURGE_DELAY_DEFAULT: Duration = Duration::from_secs(5);

pub(super) fn frontend(
    layout: &Layout<'_>,
    section: &Section<'_>,
    language: &Language<'_>,
    variables: &mut VariableTable,
) -> HttpFrontend {
    let request = timeout_or(section, "timeout.http-request", "timeout.client");
    let keep_alive =
        section.value("timeout.http-keep-alive").map(|_| section.timeout("timeout.http-keep-alive"));
    let defaults = |key: &str| layout.defaults.and_then(|table| table.at(key)).is_some();
    let tarpit = if section.value("timeout.tarpit").is_some() || !defaults("timeout.connect") {
        section.timeout("timeout.tarpit")
    } else {
        Section::new(section.context, Scope::Defaults, section.at, layout.defaults.into_iter().collect())
            .timeout("timeout.connect")
    };
    let head_bytes =
        bytes(section, "max-header-bytes").unwrap_or(u32::try_from(BUF_BYTES).unwrap_or(u32::MAX));
    HttpFrontend {
        keep_alive: keep_alive_of(section),
        timeout_request: request,
        timeout_keep_alive: keep_alive.unwrap_or(request),
        timeout_tarpit: tarpit,
        limits: HeadLimits {
            head_bytes,
            headers: section.count("max-headers").unwrap_or(HEADERS_DEFAULT),
            uri_bytes: bytes(section, "max-uri-bytes").unwrap_or(head_bytes),
        },
        ambiguous: match section.string("ambiguous-messages").as_deref() {
            Some("repair") => Ambiguous::Repair,
            _ => Ambiguous::Reject,
        },
        rules: rules::read(layout, section, language, None, variables),
        insert: insert(section),
        error_pages: reply::error_pages(section),
        unique_id: section
            .text("unique-id-format")
            .and_then(|text| language.format(&text, 0, Place::Request, variables)),
        unique_id_header: actions::header_name(section, "unique-id-header"),
        location_same_host: section.string("location").as_deref() == Some("same-host"),
        stats: statistics::page(layout, section, language, None, variables),
    }
}

fn bytes(section: &Section<'_>, key: &str) -> Option<u32> {
    section.size(key).and_then(|size| u32::try_from(size).ok())
}

pub(super) fn backend(
    layout: &Layout<'_>,
    section: &Section<'_>,
    language: &Language<'_>,
    key: Option<KeySource>,
    here: crate::base::id::BackendId,
    variables: &mut VariableTable,
) -> HttpBackend {
    HttpBackend {
        keep_alive: keep_alive_of(section),
        reuse: match section.string("http-reuse").as_deref() {
            Some("never") => Reuse::Never,
            Some("aggressive") => Reuse::Aggressive,
            Some("always") => Reuse::Always,
            _ => Reuse::Safe,
        },
        // The rules of a listen section are those of its frontend half.
        rules: match section.scope {
            Scope::Backend => rules::read(layout, section, language, Some(here), variables),
            _ => HttpRules::default(),
        },
        insert: match section.scope {
            Scope::Backend => insert(section),
            _ => Insert::default(),
        },
        error_pages: reply::error_pages(section),
        cookie: cookie(section),
        dynamic_cookie_key: section.string("dynamic-cookie-key").filter(|_| {
            let table = section.table("cookie");
            let flag = |table| {
                Section::new(section.context, Scope::Cookie, section.value_at("cookie"), vec![table])
                    .flag("dynamic")
            };
            table.and_then(flag) == Some(true)
        }),
        ignore_persist: condition(section, "ignore-persist", language, variables),
        force_persist: condition(section, "force-persist", language, variables),
        key,
        retry_on: retry_on(section),
        abort_on_close: section.flag("abortonclose").unwrap_or(false),
        fullconn: section.limit("fullconn"),
        stats: match section.scope {
            Scope::Backend => statistics::page(layout, section, language, Some(here), variables),
            _ => None,
        },
    }
}

pub(super) fn server(section: &Section<'_>, cookie: Option<&persist::Spec>) -> HttpServer {
    let counted = |key: &str| section.integer(key).and_then(|n| u32::try_from(n).ok());
    if cookie.is_none() && section.own().is_some_and(|own| own.entry("cookie").is_some()) {
        let help = "add cookie = { name = \"SRV\" } to the backend".to_owned();
        section.warning("cookie", "cookie has no effect: the backend has none", Some(help));
    }
    HttpServer {
        cookie: section.string("cookie"),
        pool_max_conn: counted("pool-max-conn"),
        pool_purge_delay: section.duration("pool-purge-delay").unwrap_or(POOL_PURGE_DELAY_DEFAULT),
        max_reuse: counted("max-reuse"),
        minconn: section.limit("minconn"),
        proto: if section.string("proto").as_deref() == Some("h2") { Proto::Http2 } else { Proto::Http1 },
        max_streams: section.count("max-streams").unwrap_or(MAX_STREAMS_DEFAULT),
    }
}

fn keep_alive_of(section: &Section<'_>) -> KeepAlive {
    // A section's own word replaces an inherited one; HAProxy's last option wins likewise.
    let own = |key: &str| section.own().and_then(|own| own.at(key)).is_some();
    let keys = ["httpclose", "http-server-close", "http-keep-alive"];
    let any_own = keys.iter().any(|key| own(key));
    let says = |key: &str| section.flag(key) == Some(true) && (own(key) || !any_own);
    if any_own && keys.iter().filter(|key| own(key) && section.flag(key) == Some(true)).count() > 1 {
        let key = keys.iter().find(|key| own(key)).copied().unwrap_or(keys[0]);
        section.error(key, "httpclose, http-server-close and http-keep-alive exclude each other", None);
    }
    match (says("httpclose"), says("http-server-close")) {
        (true, _) => KeepAlive::Neither,
        (false, true) => KeepAlive::Client,
        _ if section.flag("http-keep-alive") == Some(false) => KeepAlive::Neither,
        _ => KeepAlive::Both,
    }
}

fn insert(section: &Section<'_>) -> Insert {
    Insert {
        forward_for: address_header(section, "forwardfor", b"X-Forwarded-For"),
        original_to: address_header(section, "originalto", b"X-Original-To"),
        forwarded: section.flag("forwarded").unwrap_or(false),
        client_certificate: section.scope != Scope::Backend
            && section.flag("forward-client-cert").unwrap_or(false),
    }
}

fn address_header(section: &Section<'_>, key: &str, usual: &[u8]) -> Option<AddressHeader> {
    let table = match &section.value(key)?.data {
        Data::Boolean(true) => None,
        Data::Table(table) => Some(table),
        _ => return None,
    };
    let Some(table) = table else {
        return Some(AddressHeader { name: usual.into(), except: Vec::new(), if_none: false });
    };
    let table = Section::new(section.context, Scope::AddressHeader, section.value_at(key), vec![table]);
    Some(AddressHeader {
        name: actions::header_name(&table, "header").unwrap_or_else(|| usual.into()),
        except: networks(&table, "except"),
        if_none: table.flag("if-none").unwrap_or(false),
    })
}

fn cookie(section: &Section<'_>) -> Option<persist::Spec> {
    let table = section.table("cookie")?;
    let table = Section::new(section.context, Scope::Cookie, section.value_at("cookie"), vec![table]);
    let name = table.string("name").unwrap_or_default();
    let token = !name.is_empty() && name.bytes().all(|b| crate::proto::http::is_token(&[b]));
    if !token {
        let help = "a name consists of letters, digits and !#$%&'*+-.^_`|~".to_owned();
        table.error("name", format!("\"{name}\" is not the name of a cookie"), Some(help));
    }
    let on = |key: &str| table.flag(key).unwrap_or(false);
    let mode = match table.string("mode").as_deref() {
        Some("rewrite") => persist::Mode::Rewrite,
        Some("prefix") => persist::Mode::Prefix,
        _ => persist::Mode::Insert,
    };
    if mode == persist::Mode::Prefix && (on("indirect") || on("dynamic")) {
        table.error("mode", "\"prefix\" goes together with neither indirect nor dynamic", None);
    }
    if mode != persist::Mode::Insert && (table.value("maxidle").is_some() || table.value("maxlife").is_some())
    {
        table.error("mode", "maxidle and maxlife need mode = \"insert\"", None);
    }
    if on("dynamic") && section.value("dynamic-cookie-key").is_none() {
        let help = "add dynamic-cookie-key = \"...\" to the backend".to_owned();
        table.error("dynamic", "dynamic cookies need a dynamic-cookie-key", Some(help));
    }
    let list = |key: &str| table.texts(key).into_iter().map(|(_, text)| text.text).collect::<Vec<_>>();
    let wrong = |text: &String| text.contains([';', ',']) || text.contains(char::is_control);
    if let Some(text) = list("attr").iter().chain(&list("domain")).find(|text| wrong(text)) {
        table.context.error(table.at, format!("\"{text}\" is not an attribute of a cookie"), None);
    }
    Some(persist::Spec {
        name,
        mode,
        nocache: on("nocache"),
        indirect: on("indirect"),
        postonly: on("postonly"),
        preserve: on("preserve"),
        httponly: on("httponly"),
        secure: on("secure"),
        domains: list("domain"),
        maxidle_s: table.duration("maxidle").map(|d| d.as_secs()),
        maxlife_s: table.duration("maxlife").map(|d| d.as_secs()),
        attributes: list("attr"),
    })
}

fn condition(
    section: &Section<'_>,
    key: &str,
    language: &Language<'_>,
    variables: &mut VariableTable,
) -> Option<Condition> {
    language.condition(&section.text(key)?, Place::Request, variables)
}

fn retry_on(section: &Section<'_>) -> RetryOn {
    const WORDS: &[&str] = &[
        "none",
        "conn-failure",
        "empty-response",
        "junk-response",
        "response-timeout",
        "all-retryable-errors",
        "404",
        "408",
        "425",
        "500",
        "501",
        "502",
        "503",
        "504",
    ];
    let texts = section.texts("retry-on");
    if texts.is_empty() {
        return RetryOn::CONN_FAILURE;
    }
    let mut all = RetryOn::NONE;
    for (at, text) in &texts {
        for word in text.text.split_whitespace() {
            match RetryOn::parse(word) {
                Some(set) => all = all.with(set),
                None => {
                    let help = suggest(word, WORDS.iter().copied()).or_else(|| {
                        Some("write for example [\"conn-failure\", \"empty-response\", \"503\"]".into())
                    });
                    section.context.error(*at, format!("\"{word}\" is no failure that retry-on knows"), help);
                }
            }
        }
    }
    all
}

//! The actions of rules in HTTP mode, each from its keyword.

use std::time::Duration;

use super::reply;
use super::rules::Reader;
use crate::config::diag::suggest;
use crate::config::expr::Context as Place;
use crate::config::file::{Data, Value};
use crate::config::keywords::Scope;
use crate::config::resolve::language::Language;
use crate::config::resolve::rules::{find_backend, set_var, variable};
use crate::config::resolve::stick;
use crate::config::section::Section;
use crate::config::units;
use crate::policy::format::Format;
use crate::policy::http_action::*;
use crate::policy::sample::{Expr, VariableId, VariableTable};
use crate::policy::stick::StickAction;

/// Actions on requests that are neither changes of headers nor of the request line.
pub(super) fn request(
    reader: &mut Reader<'_, '_>,
    table: &Section<'_>,
    key: &str,
    value: &Value,
) -> Option<RequestAction> {
    Some(match key {
        "allow" => RequestAction::Allow,
        "accept" => {
            table.error(
                key,
                "accept is for connection-rules and for TCP mode",
                Some("did you mean \"allow\"?".into()),
            );
            return None;
        }
        "deny" => RequestAction::Deny(reply::reply(reader, table, key, 403)?),
        "return" => RequestAction::Return(reply::reply(reader, table, key, 200)?),
        "tarpit" => RequestAction::Tarpit(reply::reply(reader, table, key, 500)?),
        "redirect" => RequestAction::Redirect(Box::new(redirect(reader, table, key)?)),
        "auth" => RequestAction::Auth { realm: realm(reader, table, key) },
        "reject" => RequestAction::Reject,
        "silent-drop" => RequestAction::SilentDrop,
        "use-backend" => return use_backend(reader, table, key),
        "use-server" => return use_server(reader, table, key),
        "use-service" => RequestAction::UseService(match table.string(key)?.as_str() {
            "prometheus-exporter" => Service::Prometheus,
            "api" => Service::Api,
            _ => return None,
        }),
        "set-var" => {
            let (variable, value) = set_var(reader.language, table, reader.place, reader.variables)?;
            RequestAction::SetVar { variable, value }
        }
        "set-var-fmt" => {
            let (variable, value) = set_var_fmt(reader, table, key)?;
            RequestAction::SetVarFmt { variable, value }
        }
        "unset-var" => RequestAction::UnsetVar(variable(table, key, reader.place, reader.variables)?),
        "capture" => {
            let (value, (slot, len)) =
                capture((reader.language, reader.place), reader.variables, table, key)?;
            RequestAction::Capture { value, slot, len }
        }
        "wait-for-body" => {
            let inner = inner(table, key, Scope::WaitForBody)?;
            let time = required(&inner, "time", Section::duration)?;
            RequestAction::WaitForBody { time, at_least: inner.size("at-least") }
        }
        "set-timeout" => return set_timeout(reader, table, key),
        "set-log-level" => RequestAction::SetLogLevel(log_level(table, key)?),
        "set-nice" => return ignored(table, key),
        "strict-mode" => RequestAction::StrictMode(matches!(value.data, Data::Boolean(true))),
        "early-hint" => {
            let (name, value) = header_value(reader, table, key)?;
            RequestAction::EarlyHint { name, value }
        }
        "set-src" => RequestAction::SetSrc(expression(reader, table, key)?),
        "set-dst" => RequestAction::SetDst(expression(reader, table, key)?),
        "set-src-port" => RequestAction::SetSrcPort(expression(reader, table, key)?),
        "set-dst-port" => RequestAction::SetDstPort(expression(reader, table, key)?),
        "set-priority-class" => RequestAction::SetPriorityClass(expression(reader, table, key)?),
        "set-priority-offset" => RequestAction::SetPriorityOffset(expression(reader, table, key)?),
        "normalize-uri" => RequestAction::NormalizeUri(normalizer(&table.string(key)?)?),
        key => RequestAction::Stick(counting(reader, table, key)?),
    })
}

/// Actions on responses that are not changes of headers.
pub(super) fn response(
    reader: &mut Reader<'_, '_>,
    table: &Section<'_>,
    key: &str,
) -> Option<ResponseAction> {
    Some(match key {
        "allow" => ResponseAction::Allow,
        "deny" => ResponseAction::Deny(reply::reply(reader, table, key, 502)?),
        "return" => ResponseAction::Return(reply::reply(reader, table, key, 200)?),
        "set-status" => {
            let inner = inner(table, key, Scope::SetStatus)?;
            let status = required(&inner, "status", |s, key| s.count(key))?;
            let reason = inner.string("reason");
            if reason.as_deref().is_some_and(|reason| reason.contains(char::is_control)) {
                inner.error("reason", "a reason phrase is one line of text", None);
            }
            ResponseAction::SetStatus { status: u16::try_from(status).ok()?, reason }
        }
        "set-var" => {
            let (variable, value) = set_var(reader.language, table, reader.place, reader.variables)?;
            ResponseAction::SetVar { variable, value }
        }
        "set-var-fmt" => {
            let (variable, value) = set_var_fmt(reader, table, key)?;
            ResponseAction::SetVarFmt { variable, value }
        }
        "unset-var" => ResponseAction::UnsetVar(variable(table, key, reader.place, reader.variables)?),
        "capture" => {
            let (value, (slot, len)) =
                capture((reader.language, reader.place), reader.variables, table, key)?;
            ResponseAction::Capture { value, slot, len }
        }
        "set-log-level" => ResponseAction::SetLogLevel(log_level(table, key)?),
        "set-nice" => return ignored(table, key),
        "strict-mode" => ResponseAction::StrictMode(table.flag(key)?),
        key => ResponseAction::Stick(counting(reader, table, key)?),
    })
}

fn set_var_fmt(reader: &mut Reader<'_, '_>, table: &Section<'_>, key: &str) -> Option<(VariableId, Format)> {
    let inner = inner(table, key, Scope::SetVar)?;
    required(&inner, "name", Section::string)?;
    let text = required(&inner, "value", Section::text)?;
    let value = reader.language.format(&text, 0, reader.place, reader.variables)?;
    Some((variable(&inner, "name", reader.place, reader.variables)?, value))
}

/// Actions on stick tables. Any other key was reported as unknown.
fn counting(reader: &mut Reader<'_, '_>, table: &Section<'_>, key: &str) -> Option<StickAction> {
    let place = (reader.language, reader.place);
    stick::ACTIONS
        .contains(&key)
        .then(|| stick::action(reader.layout, table, key, place, reader.variables))?
}

/// Changes of the request line. `None`: the action is none; `Some(None)`: it is, and it is wrong.
pub(super) fn line_edit(
    reader: &mut Reader<'_, '_>,
    table: &Section<'_>,
    key: &str,
) -> Option<Option<LineEdit>> {
    let replace = |reader: &mut Reader<'_, '_>| {
        replacement(reader, table, key, Scope::ReplaceUri).map(|(_, pattern, value)| (pattern, value))
    };
    Some(match key {
        "set-method" => format(reader, table, key).map(LineEdit::Method),
        "set-path" => format(reader, table, key).map(LineEdit::Path),
        "set-query" => format(reader, table, key).map(LineEdit::Query),
        "set-pathq" => format(reader, table, key).map(LineEdit::Pathq),
        "set-uri" => format(reader, table, key).map(LineEdit::Uri),
        "replace-path" => replace(reader).map(|(pattern, value)| LineEdit::ReplacePath { pattern, value }),
        "replace-pathq" => replace(reader).map(|(pattern, value)| LineEdit::ReplacePathq { pattern, value }),
        "replace-uri" => replace(reader).map(|(pattern, value)| LineEdit::ReplaceUri { pattern, value }),
        _ => return None,
    })
}

/// The table of an action.
pub(in crate::config::resolve) fn inner<'a>(
    table: &Section<'a>,
    key: &str,
    scope: Scope,
) -> Option<Section<'a>> {
    let inner = table.table(key)?;
    Some(Section::new(table.context, scope, table.value_at(key), vec![inner]))
}

/// A value that must be there. What is there and wrong was reported.
pub(super) fn required<'a, T>(
    section: &Section<'a>,
    key: &str,
    get: impl Fn(&Section<'a>, &str) -> Option<T>,
) -> Option<T> {
    if section.value(key).is_none() {
        let message = format!("{} has no {key}", section.scope.title());
        section.context.error(section.at, message, None);
        return None;
    }
    get(section, key)
}

fn format(reader: &mut Reader<'_, '_>, table: &Section<'_>, key: &str) -> Option<Format> {
    reader.language.format(&table.text(key)?, 0, reader.place, reader.variables)
}

fn expression(
    reader: &mut Reader<'_, '_>,
    table: &Section<'_>,
    key: &str,
) -> Option<crate::policy::sample::Expr> {
    reader.language.expression(&table.text(key)?, 0, reader.place, reader.variables)
}

/// The name of a header, if it is one.
pub(super) fn header_name(section: &Section<'_>, key: &str) -> Option<Box<[u8]>> {
    let name = section.string(key)?;
    if !crate::proto::http::is_token(name.as_bytes()) {
        let help = "a name consists of letters, digits and !#$%&'*+-.^_`|~".to_owned();
        section.error(key, format!("\"{name}\" is not the name of a header"), Some(help));
        return None;
    }
    Some(name.into_bytes().into_boxed_slice())
}

/// Name and value of `set-header` and its like.
pub(super) fn header_value(
    reader: &mut Reader<'_, '_>,
    table: &Section<'_>,
    key: &str,
) -> Option<(Box<[u8]>, Format)> {
    let inner = inner(table, key, Scope::HeaderValue)?;
    let name = required(&inner, "name", header_name);
    let value = required(&inner, "value", Section::text)
        .and_then(|text| reader.language.format(&text, 0, reader.place, reader.variables));
    Some((name?, value?))
}

pub(super) fn name_match(table: &Section<'_>) -> Option<NameMatch> {
    let key = "del-header";
    let Some(inner) = inner(table, key, Scope::DelHeader) else {
        return header_name(table, key).map(|name| NameMatch::Exact(name.to_ascii_lowercase().into()));
    };
    let text = required(&inner, "name", Section::string)?;
    let lower = || text.to_ascii_lowercase().into_bytes().into_boxed_slice();
    match inner.string("match").as_deref() {
        Some("beg") => Some(NameMatch::Begins(lower())),
        Some("end") => Some(NameMatch::Ends(lower())),
        Some("sub") => Some(NameMatch::Contains(lower())),
        Some("reg") => regex(&inner, "name", &format!("(?i){text}")).map(NameMatch::Matches),
        _ => header_name(&inner, "name").map(|name| NameMatch::Exact(name.to_ascii_lowercase().into())),
    }
}

type Replacement = (Option<Box<[u8]>>, regex::bytes::Regex, Format);

/// What `replace-header` and its like consist of; those of the request line have no name.
pub(super) fn replacement(
    reader: &mut Reader<'_, '_>,
    table: &Section<'_>,
    key: &str,
    scope: Scope,
) -> Option<Replacement> {
    let inner = inner(table, key, scope)?;
    let named = scope == Scope::ReplaceHeader;
    let name = if named { required(&inner, "name", header_name) } else { None };
    let pattern = required(&inner, "regex", Section::string).and_then(|text| regex(&inner, "regex", &text));
    let value = required(&inner, "value", Section::text)
        .and_then(|text| reader.language.format(&text, 0, reader.place, reader.variables));
    if named && name.is_none() {
        return None;
    }
    Some((name, pattern?, value?))
}

/// Compiles a regular expression over bytes.
pub(super) fn regex(section: &Section<'_>, key: &str, text: &str) -> Option<regex::bytes::Regex> {
    match regex::bytes::Regex::new(text) {
        Ok(regex) => Some(regex),
        Err(error) => {
            let told = error.to_string();
            let reason = told.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            section.error(key, format!("\"{text}\" is not a regular expression"), Some(reason));
            None
        }
    }
}

fn redirect(reader: &mut Reader<'_, '_>, table: &Section<'_>, key: &str) -> Option<Redirect> {
    let inner = inner(table, key, Scope::Redirect)?;
    let forms = ["location", "prefix", "scheme"];
    let present: Vec<&str> = forms.into_iter().filter(|form| inner.value(form).is_some()).collect();
    let [form] = present.as_slice() else {
        let help = "write for example redirect = { scheme = \"https\", code = 301 }".to_owned();
        inner.context.error(inner.at, "redirect has one of location, prefix and scheme", Some(help));
        return None;
    };
    let target = format(reader, &inner, form)?;
    let status = inner.count("code").and_then(|code| u16::try_from(code).ok()).unwrap_or(302);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        inner.error(
            "code",
            format!("{status} is no status of a redirect"),
            Some("301, 302, 303, 307 or 308".into()),
        );
    }
    let cookie = |key: &str| {
        let text = inner.string(key)?;
        if text.is_empty() || text.contains([';', ',']) || text.contains(char::is_control) {
            inner.error(key, format!("\"{text}\" is not a cookie"), None);
        }
        Some(text)
    };
    let set_cookie = match (cookie("set-cookie"), cookie("clear-cookie")) {
        (Some(_), Some(_)) => {
            inner.error("clear-cookie", "set-cookie and clear-cookie exclude each other", None);
            None
        }
        (Some(text), None) => Some(format!("{text}; path=/;")),
        (None, Some(text)) => Some(format!("{text}=; path=/; Max-Age=0;")),
        (None, None) => None,
    };
    Some(Redirect {
        target: match *form {
            "location" => RedirectTarget::Location(target),
            "prefix" => RedirectTarget::Prefix(target),
            _ => RedirectTarget::Scheme(target),
        },
        status,
        drop_query: inner.flag("drop-query").unwrap_or(false),
        append_slash: inner.flag("append-slash").unwrap_or(false),
        ignore_empty: inner.flag("ignore-empty").unwrap_or(false),
        set_cookie,
    })
}

fn realm(reader: &Reader<'_, '_>, table: &Section<'_>, key: &str) -> String {
    let section = inner(table, key, Scope::Auth);
    let realm = section.as_ref().and_then(|inner| inner.string("realm"));
    if let (Some(inner), Some(text)) = (&section, &realm)
        && text.contains(char::is_control)
    {
        inner.error("realm", "a realm is one line of text", None);
    }
    realm.unwrap_or_else(|| reader.language.section_name().to_owned())
}

fn use_backend(reader: &mut Reader<'_, '_>, table: &Section<'_>, key: &str) -> Option<RequestAction> {
    let name = table.string(key)?;
    if reader.backend.is_some() {
        let help = "write it in the frontend".to_owned();
        table.error(key, "use-backend has no place in a backend: the request is there already", Some(help));
        return None;
    }
    if name.contains("%[") {
        return format(reader, table, key).map(RequestAction::UseBackendNamed);
    }
    find_backend(reader.layout, table, key, &name).map(RequestAction::UseBackend)
}

fn use_server(reader: &Reader<'_, '_>, table: &Section<'_>, key: &str) -> Option<RequestAction> {
    let name = table.string(key)?;
    let Some(backend) = reader.backend.or(reader.language.own_backend()) else {
        table.error(key, "use-server is for backends: only there it is known which servers there are", None);
        return None;
    };
    let range = reader.layout.server_ranges[backend];
    let found = range.iter().find(|id| reader.layout.servers[*id].name == name);
    if found.is_none() {
        let names = range.iter().map(|id| &*reader.layout.servers[id].name);
        table.error(key, format!("unknown server \"{name}\""), suggest(&name, names));
    }
    found.map(RequestAction::UseServer)
}

/// Reads `capture`: the value, and its place and longest length. Without a length it is that of the place, which is known; otherwise
/// `log` gives it one.
pub(in crate::config::resolve) fn capture(
    (language, place): (&Language<'_>, Place),
    variables: &mut VariableTable,
    table: &Section<'_>,
    key: &str,
) -> Option<(Expr, (u16, u16))> {
    let inner = inner(table, key, Scope::Capture)?;
    if !language.is_frontend() {
        let help = "put the rule into the frontend".to_owned();
        table.error(key, "captures belong to frontends", Some(help));
        return None;
    }
    let value = required(&inner, "value", Section::text)
        .and_then(|text| language.expression(&text, 0, place, variables));
    let place = match (inner.count("len"), inner.count("id")) {
        (Some(_), Some(_)) => {
            let help = "write id for a place of capture.request-header, len for one of its own".to_owned();
            inner.error("id", "a value is kept in one place", Some(help));
            None
        }
        (None, Some(id)) => u16::try_from(id).ok().map(|id| (id, 0)),
        _ => {
            let len = required(&inner, "len", |s, key| s.count(key));
            len.and_then(|len| u16::try_from(len).ok()).map(|len| (0, len))
        }
    };
    Some((value?, place?))
}

fn set_timeout(reader: &mut Reader<'_, '_>, table: &Section<'_>, key: &str) -> Option<RequestAction> {
    let inner = inner(table, key, Scope::SetTimeout)?;
    let timeout = match required(&inner, "name", Section::string)?.as_str() {
        "client" => TimeoutName::Client,
        "server" => TimeoutName::Server,
        "tunnel" => TimeoutName::Tunnel,
        "connect" => TimeoutName::Connect,
        "queue" => TimeoutName::Queue,
        _ => return None,
    };
    let text = required(&inner, "value", Section::text)?;
    // What begins with a digit is a duration: no fetch does.
    let value = if text.text.starts_with(|c: char| c.is_ascii_digit()) {
        let fixed = inner.parsed("value", units::duration)?;
        if fixed == Duration::ZERO {
            inner.error("value", "a timeout of 0 would end the request at once", None);
        }
        TimeoutValue::Fixed(fixed)
    } else {
        TimeoutValue::Milliseconds(reader.language.expression(&text, 0, reader.place, reader.variables)?)
    };
    Some(RequestAction::SetTimeout { timeout, value })
}

/// Reads `set-log-level`.
pub(in crate::config::resolve) fn log_level(table: &Section<'_>, key: &str) -> Option<LogLevel> {
    Some(match table.string(key)?.as_str() {
        "emerg" => LogLevel::Emergency,
        "alert" => LogLevel::Alert,
        "crit" => LogLevel::Critical,
        "err" => LogLevel::Error,
        "warning" => LogLevel::Warning,
        "notice" => LogLevel::Notice,
        "info" => LogLevel::Info,
        "debug" => LogLevel::Debug,
        "silent" => LogLevel::Silent,
        _ => return None,
    })
}

fn normalizer(text: &str) -> Option<Normalizer> {
    Some(match text {
        "fragment-encode" => Normalizer::FragmentEncode,
        "fragment-strip" => Normalizer::FragmentStrip,
        "path-merge-slashes" => Normalizer::PathMergeSlashes,
        "path-strip-dot" => Normalizer::PathStripDot,
        "path-strip-dotdot" => Normalizer::PathStripDotDot { full: false },
        "path-strip-dotdot full" => Normalizer::PathStripDotDot { full: true },
        "percent-decode-unreserved" => Normalizer::PercentDecodeUnreserved { strict: false },
        "percent-decode-unreserved strict" => Normalizer::PercentDecodeUnreserved { strict: true },
        "percent-to-uppercase" => Normalizer::PercentToUppercase { strict: false },
        "percent-to-uppercase strict" => Normalizer::PercentToUppercase { strict: true },
        "query-sort-by-name" => Normalizer::QuerySortByName,
        _ => return None,
    })
}

fn ignored<A>(table: &Section<'_>, key: &str) -> Option<A> {
    table.warning(key, format!("{key} is ignored: cores do not queue tasks by niceness"), None);
    None
}

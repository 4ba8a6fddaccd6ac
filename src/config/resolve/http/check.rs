//! `httpchk` and `http-check`: health checks that are HTTP requests.

use std::net::IpAddr;

use super::actions::{inner, regex, required};
use crate::config::file::Data;
use crate::config::keywords::Scope;
use crate::config::section::{Section, texts_of};
use crate::config::units::Problem;
use crate::model::CheckConnect;
use crate::model::http::{Expect, HttpCheck, HttpCheckRequest, HttpCheckStep};

/// The HTTP check of a backend, if it has one.
pub(in crate::config::resolve) fn check(section: &Section<'_>) -> Option<HttpCheck> {
    let first = match &section.value("httpchk").map(|value| &value.data) {
        Some(Data::Boolean(true)) => HttpCheckRequest::default(),
        Some(Data::Table(_)) => request(&inner(section, "httpchk", Scope::HttpChk)?),
        _ => {
            if section.value("http-check").is_some() {
                let help = Some("add httpchk = true".to_owned());
                section.warning("http-check", "http-check has no effect without httpchk", help);
            }
            return None;
        }
    };
    let websocket =
        inner(section, "httpchk", Scope::HttpChk).and_then(|s| s.flag("websocket")).unwrap_or(false);
    let first = if websocket { handshake(section, first) } else { first };
    let mut steps: Vec<HttpCheckStep> =
        section.tables("http-check", Scope::HttpCheck).iter().filter_map(step).collect();
    // Without an explicit `send` the request of httpchk goes out first, after a `connect` if there is one.
    if !steps.iter().any(|step| matches!(step, HttpCheckStep::Send(_))) {
        let at = usize::from(matches!(steps.first(), Some(HttpCheckStep::Connect(_))));
        steps.insert(at, HttpCheckStep::Send(first));
    }
    if websocket && steps.iter().any(|step| matches!(step, HttpCheckStep::Expect { .. })) {
        section.error("http-check", "a websocket check expects 101 by itself", None);
    }
    let disable_on_404 = section.flag("disable-on-404").unwrap_or(false);
    Some(HttpCheck { steps, websocket, disable_on_404 })
}

fn request(section: &Section<'_>) -> HttpCheckRequest {
    let usual = HttpCheckRequest::default();
    let mut headers = Vec::new();
    for entry in section.table("hdr").iter().flat_map(|table| &table.entries) {
        if !crate::proto::http::is_token(entry.key.as_bytes()) {
            let message = format!("\"{}\" is not the name of a header", entry.key);
            section.context.error(entry.key_span.start, message, None);
        }
        for (at, text) in texts_of(section.context, &entry.value) {
            if text.text.contains(char::is_control) {
                section.context.error(at, "the value of a header is one line of text", None);
            }
            headers.push((entry.key.clone(), text.text));
        }
    }
    let host = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let method = section.string("method").unwrap_or(usual.method);
    if !crate::proto::http::is_token(method.as_bytes()) {
        section.error("method", format!("\"{method}\" is not a method"), None);
    }
    let uri = section.string("uri").unwrap_or(usual.uri);
    if uri.is_empty() || uri.contains([' ', '\t']) || uri.contains(char::is_control) {
        section.error("uri", format!("\"{uri}\" is not the target of a request"), None);
    }
    let body = if section.scope == Scope::HttpCheckSend { section.string("body") } else { None };
    HttpCheckRequest {
        method,
        uri,
        http_11: section.string("version").map_or(host, |version| version == "HTTP/1.1"),
        headers,
        body: body.unwrap_or_default().into_bytes(),
    }
}

fn step(table: &Section<'_>) -> Option<HttpCheckStep> {
    let entries = &table.own()?.entries;
    let [entry] = entries.as_slice() else {
        let help = "write { send = { uri = \"/health\" } } or { expect-status = \"200\" }".to_owned();
        let message = if entries.is_empty() { "this step does nothing" } else { "a step does one thing" };
        table.context.error(table.at, message, Some(help));
        return None;
    };
    let key = entry.key.as_str();
    let (what, negated) = match key.strip_prefix("not-") {
        Some(what) => (what, true),
        None => (key, false),
    };
    let expect = match what {
        "send" => return inner(table, key, Scope::HttpCheckSend).map(|s| HttpCheckStep::Send(request(&s))),
        "connect" => {
            return Some(HttpCheckStep::Connect(connect(&inner(table, key, Scope::CheckConnect)?)));
        }
        "expect-status" => Expect::Status(table.parsed(key, statuses)?),
        "expect-rstatus" => Expect::StatusRegex(pattern(table, key)?),
        "expect-string" => Expect::Body(required(table, key, Section::string)?.into_bytes()),
        "expect-rstring" => Expect::BodyRegex(pattern(table, key)?),
        "expect-hdr" => Expect::Headers(headers(table, key)?),
        "expect-fhdr" => Expect::FullHeaders(headers(table, key)?),
        // Any other key was reported as unknown.
        _ => return None,
    };
    Some(HttpCheckStep::Expect { negated, expect })
}

fn headers(table: &Section<'_>, key: &str) -> Option<Vec<(String, String)>> {
    let entries = table.table(key)?.entries.iter();
    let values = entries.flat_map(|entry| {
        texts_of(table.context, &entry.value).into_iter().map(|(_, text)| (entry.key.clone(), text.text))
    });
    Some(values.collect())
}

fn pattern(table: &Section<'_>, key: &str) -> Option<String> {
    let text = table.string(key)?;
    regex(table, key, &text).map(|_| text)
}

/// A WebSocket handshake is a GET in HTTP/1.1 (RFC 6455 section 4.1).
fn handshake(section: &Section<'_>, request: HttpCheckRequest) -> HttpCheckRequest {
    let own = inner(section, "httpchk", Scope::HttpChk);
    let says = |key: &str| own.as_ref().and_then(|own| own.string(key));
    let wrong =
        (says("method").filter(|method| method != "GET"), says("version").filter(|v| v != "HTTP/1.1"));
    if wrong != (None, None) {
        section.error("httpchk", "a WebSocket handshake is a GET in HTTP/1.1", None);
    }
    HttpCheckRequest { method: "GET".into(), http_11: true, ..request }
}

/// `connect` of `http-check` and `tcp-check`.
pub(in crate::config::resolve) fn connect(section: &Section<'_>) -> CheckConnect {
    let address = section.parsed("addr", |text| {
        text.parse::<IpAddr>().map_err(|_| Problem::new(format!("\"{text}\" is not an IP address")))
    });
    CheckConnect {
        address,
        port: section.count("port").and_then(|port| u16::try_from(port).ok()),
        send_proxy: section.flag("send-proxy"),
    }
}

/// `200`, `200-299,404`.
fn statuses(text: &str) -> Result<Vec<(u16, u16)>, Problem> {
    let wrong = || Problem::with_help(format!("\"{text}\" is no list of statuses"), "write \"200-299,404\"");
    let status =
        |text: &str| text.trim().parse::<u16>().ok().filter(|s| (100..=599).contains(s)).ok_or_else(wrong);
    let mut ranges = Vec::new();
    for part in text.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (status(low)?, status(high)?);
        if low > high {
            return Err(wrong());
        }
        ranges.push((low, high));
    }
    Ok(ranges)
}

//! Health checks: the keywords of a server that time them, and the steps of `tcp-check`.

use std::net::IpAddr;
use std::time::Duration;

use super::http::{connect, inner};
use crate::config::file::Value;
use crate::config::keywords::Scope;
use crate::config::section::Section;
use crate::config::units;
use crate::model::http::HttpCheck;
use crate::model::tls::ServerTls;
use crate::model::{Agent, Check, CheckKind, CheckStep, Observe, SendProxy, Server, ServerAddress};
use crate::policy::health::OnError;

/// HAProxy's default.
const INTER_DEFAULT: Duration = Duration::from_secs(2);
/// HAProxy's default.
const RISE_DEFAULT: u32 = 2;
/// HAProxy's default.
const FALL_DEFAULT: u32 = 3;

/// HAProxy's default.
const ERROR_LIMIT_DEFAULT: u32 = 10;

/// The way of the traffic, which checks take unless told otherwise.
pub(super) struct Traffic<'a> {
    pub(super) send_proxy: Option<SendProxy>,
    pub(super) address: &'a ServerAddress,
}

/// What checks of the backend say and expect once connected.
pub(super) struct Dialogue<'a> {
    pub(super) script: &'a [CheckStep],
    pub(super) http: Option<&'a HttpCheck>,
    /// The service that a gRPC check asks for.
    pub(super) grpc: Option<&'a str>,
}

pub(super) fn check(
    section: &Section<'_>,
    backend: &Section<'_>,
    dialogue: &Dialogue<'_>,
    traffic: &Traffic<'_>,
) -> Option<Check> {
    if section.flag("check") != Some(true) {
        forgotten(section);
        return None;
    }
    let inter = section.duration("inter").unwrap_or(INTER_DEFAULT);
    let address = section.parsed("addr", |text| {
        text.parse::<IpAddr>().map_err(|_| units::Problem::new(format!("\"{text}\" is not an IP address")))
    });
    let port = section.count("port").and_then(|port| u16::try_from(port).ok());
    let elsewhere = elsewhere(address, port, traffic.address);
    if let ServerAddress::Ip(server) = traffic.address
        && server.ip().is_unspecified()
        && address.is_none()
    {
        let help = "add addr, and port if the server has none, or leave check out".to_owned();
        section.error(
            "check",
            "this server is wherever clients want to go: there is nothing to check",
            Some(help),
        );
    }
    let explicit = section.flag("check-send-proxy");
    if elsewhere && traffic.send_proxy.is_some() && explicit.is_none() {
        let help = "a server can look up and still refuse the traffic: remove port and addr to check the way of the \
                    traffic, or say with check-send-proxy what the other port expects";
        let at = if port.is_some() { "port" } else { "addr" };
        section.warning(
            at,
            "the traffic starts with a PROXY header and these checks do not",
            Some(help.into()),
        );
    }
    Some(Check {
        kind: match dialogue {
            Dialogue { grpc: Some(service), .. } => CheckKind::Grpc((*service).to_owned()),
            Dialogue { http: Some(http), .. } => CheckKind::Http((*http).clone()),
            Dialogue { script: [], .. } => CheckKind::Connect,
            Dialogue { script, .. } => CheckKind::Script(script.to_vec()),
        },
        address,
        port,
        send_proxy: explicit.unwrap_or(traffic.send_proxy.is_some() && !elsewhere),
        // Known with the TLS of the server; `tls` fills it in.
        tls: None,
        inter,
        fastinter: section.duration("fastinter").unwrap_or(inter),
        downinter: section.duration("downinter").unwrap_or(inter),
        rise: section.count("rise").unwrap_or(RISE_DEFAULT),
        fall: section.count("fall").unwrap_or(FALL_DEFAULT),
        timeout: backend.timeout("timeout.check").unwrap_or(inter),
    })
}

/// `check-tls` and `check-sni`: how the checks of this server speak TLS.
pub(super) fn tls(section: &Section<'_>, server: &Server) -> Option<Box<ServerTls>> {
    let check = server.check.as_ref()?;
    let explicit = section.flag("check-tls");
    let Some(traffic) = &server.tls else {
        if explicit == Some(true) {
            let help = "add tls = true: checks have its settings".to_owned();
            section.error("check-tls", "check-tls needs tls", Some(help));
        }
        return None;
    };
    let sni = super::tls::name(section, "check-sni");
    if !explicit.unwrap_or(!elsewhere(check.address, check.port, &server.address)) {
        if sni.is_some() && explicit.is_none() {
            let help = "add check-tls = true".to_owned();
            section.warning(
                "check-sni",
                "check-sni has no effect: addr or port make these checks plain",
                Some(help),
            );
        }
        return None;
    }
    let mut tls = traffic.clone();
    // A check speaks HTTP/1 or what its script says, whatever the traffic agrees on.
    tls.parameters.alpn.clear();
    if matches!(check.kind, CheckKind::Grpc(_)) {
        tls.parameters.alpn.push(b"h2".to_vec());
    }
    // Said in full, so that servers share a check only if they have the name too.
    let own_name = || match &server.address {
        ServerAddress::Ip(address) => Some(address.ip().to_string()),
        _ => None,
    };
    tls.sni = sni.or(tls.sni).or_else(own_name);
    Some(tls)
}

/// `observe`, `error-limit`, `on-error`.
pub(super) fn observe(section: &Section<'_>) -> Option<Observe> {
    let layer = section.string("observe")?;
    if section.flag("check") != Some(true) {
        let help = Some("add check = true: a server that was taken down needs a check to come back".into());
        section.warning("observe", "observe has no effect without check", help);
        return None;
    }
    Some(Observe {
        responses: layer == "layer7",
        error_limit: section.count("error-limit").unwrap_or(ERROR_LIMIT_DEFAULT).max(1),
        on_error: match section.string("on-error").as_deref() {
            Some("fastinter") => OnError::FastInter,
            Some("sudden-death") => OnError::SuddenDeath,
            Some("mark-down") => OnError::MarkDown,
            _ => OnError::FailCheck,
        },
    })
}

/// `agent-check` and what belongs to it.
pub(super) fn agent(section: &Section<'_>, address: &ServerAddress) -> Option<Agent> {
    if section.flag("agent-check") != Some(true) {
        return None;
    }
    let own = section.parsed("agent-addr", |text| {
        text.parse::<IpAddr>().map_err(|_| units::Problem::new(format!("\"{text}\" is not an IP address")))
    });
    let Some(port) = section.count("agent-port").and_then(|port| u16::try_from(port).ok()) else {
        section.error("agent-check", "an agent needs a port", Some("add agent-port = 9777".into()));
        return None;
    };
    if own.is_none() && matches!(address, ServerAddress::Unix(_) | ServerAddress::Abstract(_)) {
        let help = Some("add agent-addr = \"127.0.0.1\"".into());
        section.error("agent-check", "the agent of a UNIX socket needs an address", help);
    }
    let inter = section.duration("agent-inter").or_else(|| section.duration("inter"));
    Some(Agent {
        address: own,
        port,
        inter: inter.unwrap_or(INTER_DEFAULT),
        send: section.string("agent-send").unwrap_or_default().into_bytes(),
    })
}

/// Warns about timings without the switch anywhere; `check = false` over inherited timings is meant.
fn forgotten(section: &Section<'_>) {
    let of_checks = [
        "addr",
        "port",
        "inter",
        "fastinter",
        "downinter",
        "rise",
        "fall",
        "check-send-proxy",
        "check-tls",
        "check-sni",
    ];
    let agent = section.flag("agent-check") == Some(true);
    let mut of_checks = of_checks.iter().filter(|key| !agent || **key != "inter");
    let own = of_checks.find(|key| section.own().is_some_and(|own| own.at(key).is_some()));
    if let Some(key) = own
        && section.value("check").is_none()
    {
        section.warning(key, format!("{key} has no effect without check"), Some("add check = true".into()));
    }
}

/// Whether checks go to another address or port than the traffic.
fn elsewhere(check_address: Option<IpAddr>, port: Option<u16>, address: &ServerAddress) -> bool {
    let (ip, traffic_port) = match address {
        ServerAddress::Ip(address) => (Some(address.ip()), Some(address.port())),
        ServerAddress::Name { port, .. } => (None, Some(*port)),
        ServerAddress::Unix(_) | ServerAddress::Abstract(_) => (None, None),
    };
    (check_address.is_some() && check_address != ip) || (port.is_some() && port != traffic_port)
}

/// The steps of `tcp-check`.
pub(super) fn script(section: &Section<'_>) -> Vec<CheckStep> {
    section.tables("tcp-check", Scope::TcpCheck).iter().filter_map(step).collect()
}

fn step(table: &Section<'_>) -> Option<CheckStep> {
    let entries = &table.own()?.entries;
    let [entry] = entries.as_slice() else {
        let help = "write { send = \"...\" } or { expect-string = \"...\" }".to_owned();
        let message = if entries.is_empty() { "this step does nothing" } else { "a step does one thing" };
        table.context.error(table.at, message, Some(help));
        return None;
    };
    let key = entry.key.as_str();
    if key == "connect" {
        return Some(CheckStep::Connect(connect(&inner(table, key, Scope::CheckConnect)?)));
    }
    let text = table.context.text(&entry.value)?.text;
    if text.is_empty() {
        table.context.error(entry.value.span.start, format!("{key} is empty"), None);
        return None;
    }
    Some(match key {
        "send" => CheckStep::Send(text.into_bytes()),
        "send-binary" => CheckStep::Send(hex(table, &entry.value, &text)?),
        "expect-string" => CheckStep::ExpectString(text.into_bytes()),
        "expect-binary" => CheckStep::ExpectString(hex(table, &entry.value, &text)?),
        "expect-regex" => CheckStep::ExpectRegex(pattern(table, &entry.value, text)?),
        "not-expect-string" => CheckStep::RejectString(text.into_bytes()),
        "not-expect-binary" => CheckStep::RejectString(hex(table, &entry.value, &text)?),
        "not-expect-regex" => CheckStep::RejectRegex(pattern(table, &entry.value, text)?),
        // Any other key was reported as unknown.
        _ => return None,
    })
}

fn hex(table: &Section<'_>, value: &Value, text: &str) -> Option<Vec<u8>> {
    units::hex(text).map_err(|problem| table.context.problem(value.span.start, problem)).ok()
}

fn pattern(table: &Section<'_>, value: &Value, text: String) -> Option<String> {
    if let Err(error) = regex::bytes::Regex::new(&text) {
        let told = error.to_string();
        let reason = told.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let message = format!("\"{text}\" is not a regular expression");
        table.context.error(value.span.start, message, Some(reason));
        return None;
    }
    Some(text)
}

//! `shardgate explain`: reads what is asked, finds the bind that it comes to, has `proxy::explain` serve it and shows what was seen.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use crate::base::id::{CoreId, ListenerId};
use crate::base::net::Addr;
use crate::control::explain_states::States;
use crate::control::load;
use crate::control::logs::Logs;
use crate::live::Live;
use crate::model::{BindAddress, Mode, Model};
use crate::policy::sample::ConnFacts;
use crate::proxy::core::Generation;
use crate::proxy::explain::{Ask, Explained, Outcome, RuleSeen, explain};
use crate::proxy::password::Passwords;
use crate::proxy::worker::Setup;
use crate::rt::{self, CoreSpec, Cores, StartError};
use crate::stats::counters::{Origins, Shard};
use crate::tls::{self, Asker};

/// Receive buffers of the core that explains.
const BUFFERS: u16 = 16;
/// The port of a client that names none.
const CLIENT_PORT: u16 = 50_000;

/// What is asked, as the operator gave it.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// `GET https://host/path`, or `tcp 203.0.113.7:5000 -> :443`.
    pub request: String,
    /// Header lines, `name: value`.
    pub headers: Vec<String>,
    /// The address of the client.
    pub source: Option<IpAddr>,
    /// The frontend; without it the port and the scheme choose.
    pub frontend: Option<String>,
    /// The body.
    pub body: Vec<u8>,
    /// The name that the client asks for in its TLS handshake; the host of the URL unless given.
    pub sni: Option<String>,
    /// The certificate that the client shows, with its key, PEM.
    pub client_certificate: Option<Vec<u8>>,
}

/// What a question comes to on the wire.
#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    is_tls: bool,
    is_tcp: bool,
    port: Option<u16>,
    destination: Option<IpAddr>,
    source: SocketAddr,
    bytes: Vec<u8>,
    /// The host of the URL.
    host: Option<String>,
}

/// Explains what a configuration would do, as text or as JSON.
///
/// # Errors
/// The question cannot be read, no bind is meant, or this machine cannot run a core.
pub fn run(model: Model, states: &States, question: &Question, json: bool) -> Result<String, String> {
    let mut model = model;
    let parsed = parse(question)?;
    let bind = find_bind(&model, question.frontend.as_deref(), &parsed)?;
    let mut ask = ask(&model, bind, &parsed)?;
    let heading = heading(&model, bind, question, &ask);
    let mut notes = Vec::new();
    let store = if model.binds[bind].tls.is_some() {
        load::certificates(&model, None)
    } else {
        leave_tls(&mut model)
    };
    let store = match store {
        Ok(store) => store,
        Err(error) => {
            let text = format!("TLS is left out, what reads it (ssl_fc and its like) sees none: {error}");
            notes.push(text.trim_end().to_owned());
            leave_tls(&mut model).map_err(|e| e.to_string())?
        }
    };
    let is_http = model.frontends[model.binds[bind].frontend].mode == Mode::Http;
    let name = question.sni.clone().or(parsed.host).unwrap_or_else(|| "127.0.0.1".to_owned());
    if model.binds[bind].tls.is_some() {
        ask.tls = Some((Asker::new(&name, is_http, question.client_certificate.as_deref())?, name));
    } else if let Some(sni) = question.sni.as_deref().filter(|_| notes.is_empty()) {
        if is_http {
            return Err(format!("{} does not speak TLS: nobody asks it for {sni}", model.binds[bind].name));
        }
        // TLS goes through to the server, and rules may look at its first bytes.
        ask.bytes = [Asker::new(sni, false, None)?.hello()?, ask.bytes].concat();
    }
    let mut explained = on_a_core(model, store, states, vec![ask])?.pop().ok_or("the core ended early")?;
    explained.notes.extend(notes);
    if json {
        return serde_json::to_string_pretty(&explained).map(|text| text + "\n").map_err(|e| e.to_string());
    }
    Ok(heading + &text(&explained))
}

/// Explains what a configuration would do with each of many, or why it cannot be told.
///
/// # Errors
/// This machine cannot run a core.
pub fn run_all(model: Model, questions: &[Question]) -> Result<Vec<Result<Explained, String>>, String> {
    let asked: Vec<Result<Ask, String>> = questions
        .iter()
        .map(|question| {
            let parsed = parse(question)?;
            ask(&model, find_bind(&model, question.frontend.as_deref(), &parsed)?, &parsed)
        })
        .collect();
    let mut model = model;
    // Handshakes would take most of the time, and a log does not know what was said in them.
    let store = leave_tls(&mut model).map_err(|e| e.to_string())?;
    let asks = asked.iter().flatten().cloned().collect();
    let mut explained = on_a_core(model, store, &States::default(), asks)?.into_iter();
    let early = || Err("the core ended early".to_owned());
    Ok(asked.into_iter().map(|ask| ask.and_then(|_| explained.next().map_or_else(early, Ok))).collect())
}

fn parse(question: &Question) -> Result<Parsed, String> {
    let source = question.source.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut parsed = Parsed {
        is_tls: false,
        is_tcp: false,
        port: None,
        destination: None,
        source: SocketAddr::new(source, CLIENT_PORT),
        bytes: question.body.clone(),
        host: None,
    };
    let words: Vec<&str> = question.request.split_whitespace().collect();
    match words.as_slice() {
        ["tcp", from, "->", to] => {
            parsed.is_tcp = true;
            parsed.source = from.parse().map_err(|_| format!("\"{from}\" is no address with a port"))?;
            let (address, port) = to.rsplit_once(':').unwrap_or((to, ""));
            parsed.port = Some(port.parse().map_err(|_| format!("\"{to}\" has no port"))?);
            if !address.is_empty() {
                let address = address.trim_start_matches('[').trim_end_matches(']');
                parsed.destination =
                    Some(address.parse().map_err(|_| format!("\"{address}\" is no address"))?);
            }
        }
        [method, url] => http(method, url, question, &mut parsed)?,
        _ => {
            return Err("ask for a request, 'GET https://host/path', or for a connection, \
                        'tcp 203.0.113.7:5000 -> :443'"
                .to_owned());
        }
    }
    Ok(parsed)
}

fn http(method: &str, url: &str, question: &Question, parsed: &mut Parsed) -> Result<(), String> {
    let (scheme, rest) =
        url.split_once("://").ok_or_else(|| format!("\"{url}\" is no URL: it has no scheme"))?;
    parsed.is_tls = match scheme {
        "http" => false,
        "https" => true,
        _ => return Err(format!("\"{scheme}\" is not http or https")),
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let slash = if path.starts_with('/') { "" } else { "/" };
    let port = authority.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
    parsed.port = port.map(|p| p.parse().map_err(|_| format!("\"{p}\" is no port"))).transpose()?;
    let host = port.map_or(authority, |port| &authority[..authority.len() - port.len() - 1]);
    parsed.host = Some(host.trim_start_matches('[').trim_end_matches(']').to_owned());
    let mut head = format!("{method} {slash}{path} HTTP/1.1\r\n");
    let has = |name: &str| {
        let names = question.headers.iter().filter_map(|line| line.split_once(':'));
        names.map(|(name, _)| name.trim()).any(|known| known.eq_ignore_ascii_case(name))
    };
    if !has("host") {
        let _ = write!(head, "Host: {authority}\r\n");
    }
    for line in &question.headers {
        if line.contains(['\r', '\n']) || !line.contains(':') {
            return Err(format!("\"{}\" is no header line, name: value", line.escape_debug()));
        }
        let _ = write!(head, "{line}\r\n");
    }
    if !question.body.is_empty() && !has("content-length") && !has("transfer-encoding") {
        let _ = write!(head, "Content-Length: {}\r\n", question.body.len());
    }
    head.push_str("\r\n");
    parsed.bytes.splice(0..0, head.into_bytes());
    Ok(())
}

/// The bind that is meant: of the frontend if one is named, of the port, and with TLS where the URL says https.
fn find_bind(model: &Model, frontend: Option<&str>, parsed: &Parsed) -> Result<ListenerId, String> {
    let port = parsed.port.unwrap_or(if parsed.is_tls { 443 } else { 80 });
    let mut candidates: Vec<ListenerId> = model.binds.ids().collect();
    if let Some(name) = frontend {
        candidates.retain(|id| model.frontends[model.binds[*id].frontend].name == name);
        if candidates.is_empty() {
            return Err(format!("there is no frontend \"{name}\" with a bind"));
        }
    }
    let port_of = |id: ListenerId| match model.binds[id].address {
        BindAddress::Ip(address) => Some(address.port()),
        _ => None,
    };
    let of_port: Vec<_> = candidates.iter().copied().filter(|id| port_of(*id) == Some(port)).collect();
    // Who names the frontend need not name its port.
    if !of_port.is_empty() || (frontend.is_none() && parsed.port.is_some()) {
        candidates = of_port;
    }
    // The address that the client wants, where several binds have the port: its own bind before that of all addresses.
    if let Some(wanted) = parsed.destination {
        let ip_of = |id: &ListenerId| match model.binds[*id].address {
            BindAddress::Ip(address) => Some(address.ip()),
            _ => None,
        };
        if candidates.iter().any(|id| ip_of(id) == Some(wanted)) {
            candidates.retain(|id| ip_of(id) == Some(wanted));
        } else if candidates.iter().any(|id| ip_of(id).is_some_and(|ip| ip.is_unspecified())) {
            candidates.retain(|id| ip_of(id).is_some_and(|ip| ip.is_unspecified()));
        }
    }
    let with_tls = |id: &ListenerId| model.binds[*id].tls.is_some() == parsed.is_tls;
    if candidates.iter().any(with_tls) {
        candidates.retain(with_tls);
    }
    let names: Vec<&str> =
        candidates.iter().map(|id| model.frontends[model.binds[*id].frontend].name.as_str()).collect();
    match (candidates.first(), names.windows(2).all(|pair| pair[0] == pair[1])) {
        (Some(first), true) => Ok(*first),
        (None, _) => Err(format!("nothing listens on port {port}; name a frontend with --frontend")),
        (Some(_), false) => Err(format!("it may come to {}; name one with --frontend", names.join(" or "))),
    }
}

fn ask(model: &Model, bind: ListenerId, parsed: &Parsed) -> Result<Ask, String> {
    let settings = &model.binds[bind];
    let frontend = &model.frontends[settings.frontend];
    if parsed.is_tcp && frontend.mode == Mode::Http {
        return Err(format!("frontend {} speaks HTTP: ask for a request", frontend.name));
    }
    let (address, port) = match settings.address {
        BindAddress::Ip(address) => (Some(address.ip()).filter(|ip| !ip.is_unspecified()), address.port()),
        _ => (None, 0),
    };
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let destination = parsed.destination.or(address).unwrap_or(local);
    let (src, dst) = (Addr::Ip(parsed.source), Addr::Ip(SocketAddr::new(destination, port)));
    // Where a PROXY header is believed, one speaks for the client.
    let trusted = settings.accept_proxy.as_ref().and_then(|networks| networks.first());
    let peer = trusted.map_or(src, |network| Addr::Ip(SocketAddr::new(network.address, CLIENT_PORT)));
    Ok(Ask {
        bind,
        peer: ConnFacts { src: peer, dst, ..ConnFacts::default() },
        proxied: trusted.map(|_| (src, dst)),
        bytes: parsed.bytes.clone(),
        tls: None,
    })
}

/// Makes all binds plain: what is asked is what is inside.
fn leave_tls(model: &mut Model) -> Result<Arc<tls::Store>, StartError> {
    for bind in model.binds.values_mut() {
        bind.tls = None;
    }
    load::certificates(model, None)
}

/// Runs a core of its own for some questions.
fn on_a_core(
    model: Model,
    tls: Arc<tls::Store>,
    states: &States,
    asks: Vec<Ask>,
) -> Result<Vec<Explained>, String> {
    let cpus = rt::machine::cpus().map_err(|e| format!("cannot read the CPU affinity: {e}"))?;
    let cpu = *cpus.first().ok_or("no CPU is allowed to this process")?;
    let spec = CoreSpec { name: "explain".to_owned(), cpu, buffers: BUFFERS, narrow: false };
    let core = rt::boot(vec![spec]).map_err(|e| e.to_string())?.remove(0);
    let (inbox, control) = (core.mailbox(), core.mailbox());
    let passwords = Passwords::start(&model, &cpus).map_err(|e| e.to_string())?;
    let (mut logs, _rings) = Logs::new(1);
    let log = logs.remove(0);
    let shards: Arc<[Shard]> = [Shard::default().next(&Origins::none(model.sizes()))].into();
    let live = Live::new(&model, model.global.maxconn.unwrap_or(u32::MAX - 1));
    states.apply(&model, &live);
    let setup = Setup {
        core: CoreId(0),
        generation: Generation { model: Arc::new(model), live, shards, tls, first_log_set: 0, passwords },
        peers: vec![inbox.sender()],
        inbox,
        control: control.sender(),
    };
    let result = Arc::new(OnceLock::new());
    let told = result.clone();
    let mut cores = Cores::new();
    cores
        .start(core, move || async move {
            let explained = explain(setup, log, asks).await;
            // Only this task sets it, once.
            let _ = told.set(explained.map_err(|e| e.to_string()));
        })
        .and_then(|()| cores.join())
        .map_err(|e| e.to_string())?;
    result.get().cloned().ok_or("the core ended early")?
}

fn heading(model: &Model, bind: ListenerId, question: &Question, ask: &Ask) -> String {
    let settings = &model.binds[bind];
    let frontend = &model.frontends[settings.frontend];
    let client = ask.proxied.map_or(ask.peer.src, |(client, _)| client);
    let client = client.ip().map_or_else(|| "?".to_owned(), |ip| ip.to_string());
    let tls = if settings.tls.is_some() { ", TLS" } else { "" };
    let address = match &settings.address {
        BindAddress::Ip(address) => address.to_string(),
        BindAddress::Unix(path) => path.display().to_string(),
        BindAddress::Abstract(name) => format!("abns@{name}"),
        BindAddress::Fd(fd) => format!("fd@{fd}"),
    };
    format!(
        "{} from {client}\nfrontend {}, bind {} {address}{tls} ({})\n",
        question.request, frontend.name, settings.name, settings.origin
    )
}

/// For people.
fn text(explained: &Explained) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    if let Some(tls) = &explained.tls {
        let name = &tls.name;
        let _ = match (&tls.certificate, &tls.error) {
            (_, Some(error)) => writeln!(out, "TLS for {name}: {error}"),
            (Some(certificate), _) => {
                let (alpn, end) =
                    (tls.alpn.as_deref().unwrap_or("none"), tls.not_after.as_deref().unwrap_or("?"));
                writeln!(
                    out,
                    "TLS for {name}: certificate {certificate} until {end}, {} {}, ALPN {alpn}",
                    tls.protocol, tls.cipher
                )
            }
            (None, None) => writeln!(out, "TLS for {name}: no certificate"),
        };
    }
    for list in &explained.lists {
        let _ = writeln!(out, "\n{} {}", list.of, list.list);
        list.rules.iter().for_each(|rule| push_rule(&mut out, rule));
    }
    if let Some(decision) = &explained.decision {
        let _ = writeln!(out, "\nbackend {}", decision.backend);
        if let Some(persistence) = &decision.persistence {
            let server = persistence.server.as_deref().unwrap_or("none");
            let _ = writeln!(out, "  cookie: {}, server {server}", persistence.found);
        }
        if let Some(hash) = decision.hash {
            let _ = writeln!(out, "  hash {hash}");
        }
        for server in &decision.servers {
            let mark = if decision.server.as_ref() == Some(&server.name) { "->" } else { "  " };
            let room = if server.free { "" } else { ", full" };
            let usable = if server.usable { "" } else { ", takes nothing" };
            let _ = writeln!(
                out,
                "  {mark} {} {} {} weight {} load {}{room}{usable}",
                server.name, server.address, server.state, server.weight, server.load
            );
        }
        let server = decision.server.as_deref().unwrap_or("no server");
        let _ = writeln!(out, "  {server}: {}", decision.why);
        if let Some(pool) = &decision.pool {
            let _ = writeln!(out, "  shares connections to {pool}");
        }
        let time = |ms: Option<u64>| ms.map_or("none".to_owned(), |ms| format!("{ms}ms"));
        let times: Vec<_> = decision.timeouts.iter().map(|t| format!("{} {}", t.name, time(t.ms))).collect();
        let _ = writeln!(out, "  timeouts: {}", times.join(", "));
        let _ = writeln!(out, "  retries {}, redispatch {}", decision.retries, decision.redispatch);
        if let Some(sent) = &decision.sent {
            let _ = writeln!(out, "\nthe server gets");
            push_lines(&mut out, sent);
        }
    }
    if let Some(answer) = &explained.answer {
        let _ = writeln!(out, "\nthe client gets");
        push_lines(&mut out, answer);
    } else if explained.decision.is_none() {
        let _ = writeln!(out, "\nthe connection is closed without an answer");
    }
    for note in &explained.notes {
        let _ = writeln!(out, "\nnote: {note}");
    }
    out
}

fn push_lines(out: &mut String, text: &str) {
    for line in text.lines() {
        let _ = writeln!(out, "  {line}");
    }
}

fn push_rule(out: &mut String, rule: &RuleSeen) {
    let outcome = match rule.outcome {
        Outcome::Applies => "applies",
        Outcome::No => "no",
        Outcome::LeftOut => "left out by allow",
        Outcome::Open => "waits for more bytes",
        Outcome::NotReached => "not reached",
    };
    let _ = writeln!(out, "  {}: {outcome}: {}", rule.origin, rule.rule);
    for test in &rule.tests {
        let matched = match test.matched {
            Some(true) => "matches",
            Some(false) => "does not match",
            None => "is open",
        };
        let values = if test.values.is_empty() { "no value".to_owned() } else { test.values.join(", ") };
        let _ = writeln!(out, "      {{ {} }} {matched}: {values}", test.test);
    }
    for change in &rule.changes {
        let _ = writeln!(out, "      {change}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(request: &str, headers: &[&str], body: &str) -> Question {
        Question {
            request: request.to_owned(),
            headers: headers.iter().map(|line| (*line).to_owned()).collect(),
            body: body.as_bytes().to_vec(),
            ..Question::default()
        }
    }

    #[test]
    fn a_question_becomes_a_request() {
        for (request, headers, body, expected) in [
            ("GET http://h/a?b", &[][..], "", "GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n"),
            ("GET http://h", &[], "", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
            ("GET http://h?x=/", &[], "", "GET /?x=/ HTTP/1.1\r\nHost: h\r\n\r\n"),
            ("GET https://h:8443/", &["host: other"], "", "GET / HTTP/1.1\r\nhost: other\r\n\r\n"),
            ("PUT http://h/", &[], "xy", "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nxy"),
        ] {
            let parsed = parse(&question(request, headers, body)).expect(request);
            assert_eq!(String::from_utf8_lossy(&parsed.bytes), expected, "{request}");
        }
        let parsed = parse(&question("GET https://[::1]:8443/", &[], "")).expect("a URL");
        assert_eq!((parsed.port, parsed.is_tls), (Some(8443), true));
        assert_eq!(parse(&question("GET http://[::1]/", &[], "")).expect("a URL").port, None);
        let parsed = parse(&question("tcp 203.0.113.7:5000 -> :443", &[], "")).expect("a connection");
        assert_eq!((parsed.port, parsed.is_tcp, parsed.source.port()), (Some(443), true, 5000));
    }

    #[test]
    fn what_is_no_question_is_refused() {
        for request in [
            "",
            "GET",
            "GET /path",
            "GET ftp://h/",
            "GET http://h:x/",
            "tcp x -> :1",
            "tcp 1.2.3.4:5 -> 7.7.7.7",
        ] {
            assert!(parse(&question(request, &[], "")).is_err(), "{request}");
        }
        assert!(parse(&question("GET http://h/", &["a: b\r\nc: d"], "")).is_err());
    }
}

//! `shardgate replay`: the requests of an access log, put to a configuration. Says which of them it would treat differently than the
//! log tells, in groups. Reads lines and compares; what a configuration does with a request is `explain`'s.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::io::BufRead;
use std::net::{IpAddr, SocketAddr};

use ahash::AHashMap;
use serde::Serialize;
use serde_json::Value;

use crate::control::explain::{self, Question};
use crate::model::Model;
use crate::proxy::explain::Explained;

/// Different requests that are put to the configuration: each takes memory, and some tenths of a millisecond.
const REQUESTS_MAX: usize = 1 << 20;
/// Examples of each group.
const EXAMPLES: usize = 3;

/// How the log is read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Which of the captured request headers of `httplog` is Host, from 1.
    pub host_capture: usize,
}

/// What became of a request.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Outcome {
    /// It went to a backend.
    Backend(String),
    /// The proxy answered itself.
    Answer(u16),
    /// The connection was closed.
    Closed,
    /// There is no such frontend any more, or nothing can be asked of it.
    Impossible(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Backend(name) => write!(f, "backend {name}"),
            Outcome::Answer(status) => write!(f, "answered with {status}"),
            Outcome::Closed => f.write_str("closed"),
            Outcome::Impossible(why) => f.write_str(why),
        }
    }
}

/// A request, as far as a log knows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Logged {
    client: SocketAddr,
    frontend: String,
    is_tls: bool,
    /// Method and target; `None`: a connection of TCP mode.
    request: Option<(String, String)>,
    host: Option<String>,
    user_agent: Option<String>,
}

/// What the log says became of one request: how often, and in which line first.
type Fates = BTreeMap<Outcome, (u64, u64)>;

/// Requests of one fate that have another now.
#[derive(Default)]
struct Moved {
    count: u64,
    /// Each different one with its line.
    examples: Vec<(u64, String)>,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Replayed {
    /// Lines of the log.
    pub lines: u64,
    /// Lines that are no requests that could be compared: other text, malformed requests, the statistics page.
    pub left_out: u64,
    /// Requests that the configuration treats as the log says.
    pub same: u64,
    /// Requests that it treats differently.
    pub different: u64,
    /// Those, by what they were and what they become; the largest first.
    pub groups: Vec<Group>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// Requests with the same fate.
#[derive(Debug, Serialize)]
pub struct Group {
    /// What the log says.
    pub was: String,
    /// What the configuration does.
    pub becomes: String,
    /// How many.
    pub count: u64,
    /// Some of them.
    pub examples: Vec<String>,
}

/// Puts the requests of a log to a configuration.
///
/// # Errors
/// The log cannot be read, or this machine cannot run a core.
pub fn run(model: Model, log: impl BufRead, options: Options) -> Result<Replayed, String> {
    let mut replayed = Replayed::default();
    let requests: Vec<(Logged, Fates)> = read(log, options, &mut replayed)?.into_iter().collect();
    if !model.tables.is_empty() {
        let note = "stick tables count the requests as fast as they are replayed, each different one once";
        replayed.notes.push(note.to_owned());
    }
    let questions: Vec<Question> = requests.iter().map(|(logged, _)| question(logged)).collect();
    let answers = explain::run_all(model, &questions)?;
    let mut groups: BTreeMap<(Outcome, Outcome), Moved> = BTreeMap::new();
    for ((logged, fates), answer) in requests.iter().zip(answers) {
        let becomes = judge(answer);
        for (was, (count, line)) in fates {
            if *was == becomes {
                replayed.same += count;
                continue;
            }
            replayed.different += count;
            let moved = groups.entry((was.clone(), becomes.clone())).or_default();
            moved.count += count;
            moved.examples.push((*line, format!("line {line}: {}", show(logged))));
        }
    }
    replayed.groups = groups
        .into_iter()
        .map(|((was, becomes), Moved { count, mut examples })| {
            examples.sort();
            let examples = examples.into_iter().take(EXAMPLES).map(|(_, text)| text).collect();
            Group { was: was.to_string(), becomes: becomes.to_string(), count, examples }
        })
        .collect();
    replayed.groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    Ok(replayed)
}

/// The different requests of a log.
fn read(
    log: impl BufRead,
    options: Options,
    replayed: &mut Replayed,
) -> Result<AHashMap<Logged, Fates>, String> {
    let mut known: AHashMap<Logged, Fates> = AHashMap::default();
    for line in log.split(b'\n') {
        let line = line.map_err(|e| format!("cannot read the log: {e}"))?;
        let line = String::from_utf8_lossy(&line);
        if line.trim().is_empty() {
            continue;
        }
        replayed.lines += 1;
        let Some((mut logged, outcome)) = parse(&line, options) else {
            replayed.left_out += 1;
            continue;
        };
        if logged.request.is_some() {
            // Nothing decides by the port of a client, or it would be no decision.
            logged.client.set_port(0);
        }
        if known.len() >= REQUESTS_MAX && !known.contains_key(&logged) {
            return Err(format!(
                "the log has more than {REQUESTS_MAX} different requests: replay a part of it"
            ));
        }
        known.entry(logged).or_default().entry(outcome).or_insert((0, replayed.lines)).0 += 1;
    }
    Ok(known)
}

impl Replayed {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{} lines: {} as the log says, {} different, {} left out",
            self.lines, self.same, self.different, self.left_out
        );
        for group in &self.groups {
            let _ = writeln!(out, "\n{} x {} -> {}", group.count, group.was, group.becomes);
            for example in &group.examples {
                let _ = writeln!(out, "  {example}");
            }
        }
        for note in &self.notes {
            let _ = writeln!(out, "\nnote: {note}");
        }
        out
    }
}

fn show(logged: &Logged) -> String {
    let client = logged.client.ip();
    match &logged.request {
        Some((method, target)) => {
            let host = logged.host.as_deref().unwrap_or("?");
            format!("{method} {host}{target} from {client} at {}", logged.frontend)
        }
        None => format!("connection from {} at {}", logged.client, logged.frontend),
    }
}

fn question(logged: &Logged) -> Question {
    let scheme = if logged.is_tls { "https" } else { "http" };
    let request = match &logged.request {
        Some((method, target)) => {
            let host = logged.host.as_deref().unwrap_or("localhost");
            format!("{method} {scheme}://{host}{target}")
        }
        // The port is that of the frontend, which is named.
        None => format!("tcp {} -> :0", logged.client),
    };
    Question {
        request,
        headers: logged.user_agent.iter().map(|agent| format!("User-Agent: {agent}")).collect(),
        source: Some(logged.client.ip()),
        frontend: Some(logged.frontend.clone()),
        ..Question::default()
    }
}

fn judge(answer: Result<Explained, String>) -> Outcome {
    let explained = match answer {
        Ok(explained) => explained,
        Err(why) => return Outcome::Impossible(why),
    };
    if let Some(decision) = explained.decision {
        return Outcome::Backend(decision.backend);
    }
    let status =
        explained.answer.as_deref().and_then(|answer| answer.split(' ').nth(1)?.get(..3)?.parse().ok());
    status.map_or(Outcome::Closed, Outcome::Answer)
}

/// What the words for the server mean, with the status and the code of the end.
fn outcome(backend: &str, server: &str, status: Option<u16>, end: &str) -> Option<Outcome> {
    match server {
        // A service of the proxy: nothing to compare.
        "<NOSRV>" | "" | "-" => {}
        server if server.starts_with('<') => return None,
        _ => return Some(Outcome::Backend(backend.to_owned())),
    }
    match (end.bytes().next(), status) {
        // It had a backend, which had no server for it.
        (Some(b'S' | b's'), _) => Some(Outcome::Backend(backend.to_owned())),
        // The client left before anything was decided.
        (Some(b'C' | b'c'), _) => None,
        (_, Some(status)) if status > 0 => Some(Outcome::Answer(status)),
        _ => Some(Outcome::Closed),
    }
}

fn parse(line: &str, options: Options) -> Option<(Logged, Outcome)> {
    match line.find("{\"") {
        Some(at) => json(&line[at..]),
        None => httplog(line, options),
    }
}

/// A line of `log-format = "json"`, behind whatever a transport put in front of it.
fn json(text: &str) -> Option<(Logged, Outcome)> {
    let value = serde_json::Deserializer::from_str(text).into_iter::<Value>().next()?.ok()?;
    let text = |name: &str| {
        let found = value.get(name).or_else(|| value.pointer(&format!("/{}", name.replace('.', "/"))))?;
        Some(found.as_str().map_or_else(|| found.to_string(), str::to_owned)).filter(|text| text != "null")
    };
    let number = |name: &str| text(name)?.parse::<u16>().ok();
    let ip: IpAddr = text("client.address")?.parse().ok()?;
    // What was no request cannot be sent again.
    if value.get("request").is_some_and(Value::is_null) {
        return None;
    }
    let request = text("request").map(|line| target(&line));
    let (request, absolute) = match request {
        Some(found) => {
            let (method, target, host) = found?;
            (Some((method, target)), host)
        }
        None => (None, None),
    };
    let logged = Logged {
        client: SocketAddr::new(ip, number("client.port").unwrap_or(0)),
        frontend: text("frontend")?.trim_end_matches('~').to_owned(),
        is_tls: text("tls.version").is_some_and(|version| version.len() > 1),
        request,
        host: absolute.or_else(|| text("host")).filter(|host| host.len() > 1),
        user_agent: text("user_agent").filter(|agent| agent.len() > 1),
    };
    let end = text("end.code").unwrap_or_default();
    let outcome = outcome(
        &text("backend").unwrap_or_default(),
        &text("server").unwrap_or_default(),
        number("status"),
        &end,
    )?;
    Some((logged, outcome))
}

/// A line of HAProxy's `httplog` or `tcplog`, which are ours too.
fn httplog(line: &str, options: Options) -> Option<(Logged, Outcome)> {
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let at = words.windows(2).position(|pair| client_of(pair[0]).is_some() && pair[1].starts_with('['))?;
    let word = |n: usize| words.get(at + n).copied();
    let frontend = word(2)?;
    let (backend, server) = word(3)?.split_once('/')?;
    let is_http = word(4)?.split('/').count() == 5;
    let (status, end, counts) = match is_http {
        true => (word(5)?.parse().ok(), word(9)?, 10),
        false => (None, word(6)?, 7),
    };
    word(counts)?.contains('/').then_some(())?;
    let request = match is_http {
        true => Some(target(line.get(line.find('"')? + 1..line.rfind('"')?)?)?),
        false => None,
    };
    let captured = line.find('{').zip(line.find('}')).filter(|(open, close)| open < close);
    let captured = captured.and_then(|(open, close)| line.get(open + 1..close));
    let captured = captured.and_then(|text| text.split('|').nth(options.host_capture.saturating_sub(1)));
    let (request, absolute) = match request {
        Some((method, target, host)) => (Some((method, target)), host),
        None => (None, None),
    };
    let logged = Logged {
        client: client_of(word(0)?)?,
        frontend: frontend.trim_end_matches('~').to_owned(),
        is_tls: frontend.ends_with('~'),
        request,
        host: absolute.or(captured.map(str::to_owned)).filter(|host| !host.is_empty()),
        user_agent: None,
    };
    Some((logged, outcome(backend, server, status, end)?))
}

/// The address and the port of a client; HAProxy writes IPv6 ones without brackets.
fn client_of(word: &str) -> Option<SocketAddr> {
    let (address, port) = word.rsplit_once(':')?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?))
}

/// Method and target of a request line, and the host of an absolute target. `None`: it was malformed, or is about no resource.
fn target(line: &str) -> Option<(String, String, Option<String>)> {
    let mut words = line.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let is_method = !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase());
    is_method.then_some(())?;
    if let Some((_, rest)) = target.split_once("://").filter(|_| !target.starts_with('/')) {
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = if path.is_empty() { "/" } else { path };
        return Some((method.to_owned(), path.to_owned(), Some(host.to_owned())));
    }
    target.starts_with('/').then(|| (method.to_owned(), target.to_owned(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Option<String> {
        let (logged, outcome) = parse(line, Options { host_capture: 1 })?;
        Some(format!("{} [{}] -> {outcome}", show(&logged), logged.is_tls))
    }

    #[test]
    fn lines_of_each_format_are_read() {
        for (line, expected) in [
            (
                r#"Feb  6 12:14:14 localhost haproxy[14389]: 10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu|Mozilla} {} "GET /index.html HTTP/1.1""#,
                Some("GET 1wt.eu/index.html from 10.0.1.2 at http-in [false] -> backend static"),
            ),
            (
                r#"10.0.1.2:33317 [06/Feb/2009:12:14:14.655] https~ https/<NOSRV> 0/-1/-1/-1/0 403 192 - - PR-- 1/1/0/0/0 0/0 "GET https://a.org/x?y=1 HTTP/2.0""#,
                Some("GET a.org/x?y=1 from 10.0.1.2 at https [true] -> answered with 403"),
            ),
            (
                r#"2001:db8::1:5000 [06/Feb/2009:12:14:14.655] f b/<NOSRV> 0/0/-1/-1/0 503 192 - - SC-- 1/1/0/0/0 0/0 "POST / HTTP/1.1""#,
                Some("POST ?/ from 2001:db8::1 at f [false] -> backend b"),
            ),
            (
                "10.0.1.2:33312 [06/Feb/2009:12:12:51.443] fnt bck/srv1 0/0/5007 212 -- 0/0/0/0/3 0/0",
                Some("connection from 10.0.1.2:33312 at fnt [false] -> backend bck"),
            ),
            (
                r#"<134>1 - - - {"client.address":"10.0.0.1","client.port":1,"frontend":"f","backend":"b","server":"s","request":"GET /a HTTP/1.1","host":"h.org","status":200,"end.code":"--"}"#,
                Some("GET h.org/a from 10.0.0.1 at f [false] -> backend b"),
            ),
            (r#"10.0.1.2:1 [x] f f/<NOSRV> -1/-1/-1/-1/0 400 192 - - PR-- 1/1/0/0/0 0/0 "<BADREQ>""#, None),
            (
                r#"10.0.1.2:1 [x] f f/<STATS> 0/0/0/0/0 200 192 - - LR-- 1/1/0/0/0 0/0 "GET /stats HTTP/1.1""#,
                None,
            ),
            (r#"10.0.1.2:1 [x] f b/<NOSRV> 0/-1/-1/-1/0 -1 0 - - CR-- 1/1/0/0/0 0/0 "GET / HTTP/1.1""#, None),
            ("haproxy started", None),
            ("{\"", None),
            ("1.2.3.4:5 [x", None),
        ] {
            assert_eq!(told(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn no_line_makes_it_panic() {
        let line = r#"10.0.1.2:33317 [06/Feb/2009] https~ https/<NOSRV> 0/-1/-1/-1/0 403 192 - - PR-- 1/1/0/0/0 0/0 {ä|b} {} "GET /ü HTTP/2.0""#;
        for cut in (0..=line.len()).filter(|at| line.is_char_boundary(*at)) {
            let _ = (told(&line[..cut]), told(&line[cut..]));
        }
    }
}

//! Access lines: compared with those of HAProxy for the same scripted exchanges, in real rsyslog and syslog-ng, to targets that are slow.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::harness::http::{Wire, ok};
use crate::harness::peers::{Peer, free_address};
use crate::harness::scenario::scenario;
use crate::harness::tls::Ca;
use crate::harness::{Origin, PATIENCE, Shardgate, connect, program, until};

/// Receives lines.
pub(crate) struct Syslog {
    socket: UdpSocket,
    /// Lines that came while a test waited for them.
    kept: RefCell<VecDeque<String>>,
}

impl Syslog {
    pub(crate) fn new() -> Syslog {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a local socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        Syslog { socket, kept: RefCell::default() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    /// The next line of traffic, as it came.
    pub(crate) fn line(&self) -> String {
        let mut buffer = [0; 9000];
        loop {
            let len = self.socket.recv(&mut buffer).expect("a line arrives");
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            // What the process says about itself has another level.
            if text.starts_with("<134>") {
                return text;
            }
        }
    }

    /// The next line of traffic, of level info or err.
    pub(crate) fn any_line(&self) -> String {
        let kept = self.kept.borrow_mut().pop_front();
        kept.unwrap_or_else(|| self.receive())
    }

    /// Waits until there are so many lines that nobody has taken.
    pub(crate) fn wait_for(&self, lines: usize) {
        let mut kept = self.kept.borrow_mut();
        while kept.len() < lines {
            kept.push_back(self.receive());
        }
    }

    fn receive(&self) -> String {
        let mut buffer = [0; 9000];
        loop {
            let len = self.socket.recv(&mut buffer).expect("a line arrives");
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if is_traffic(text.as_bytes()) {
                return text;
            }
        }
    }

    /// Waits until there is a line of any level, and leaves it.
    pub(crate) fn wait(&self) {
        let mut buffer = [0; 9000];
        loop {
            let len = self.socket.peek(&mut buffer).expect("a line arrives");
            if is_traffic(&buffer[..len]) {
                return;
            }
            self.socket.recv(&mut buffer).expect("it is there");
        }
    }
}

/// What the process says about itself has other levels than info and err.
fn is_traffic(line: &[u8]) -> bool {
    line.starts_with(b"<134>") || line.starts_with(b"<131>")
}

/// Answers by the path: how a server behaves.
fn scripted() -> Origin {
    Origin::new(|mut stream, shared| {
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            while !seen.windows(4).any(|w| w == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(len) => seen.extend_from_slice(&buffer[..len]),
                }
                shared.note(&seen);
            }
            let text = String::from_utf8_lossy(&seen).into_owned();
            seen.clear();
            let path = text.split(' ').nth(1).unwrap_or("/").to_owned();
            let cut = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
            let (answer, after) = match path.as_str() {
                "/close" => ("", "close"),
                "/junk" => ("junk\r\n\r\n", "close"),
                "/hang" => ("", "hang"),
                "/cut" => (cut, "close"),
                "/stall" => (cut, "hang"),
                "/500" => ("HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nok", ""),
                "/304" => ("HTTP/1.1 304 Not Modified\r\n\r\n", ""),
                "/upgrade" => {
                    ("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello", "close")
                }
                _ => (
                    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: x y\r\nSet-Cookie: SES=abc; path=/\r\n\r\nok",
                    "",
                ),
            };
            if stream.write_all(answer.as_bytes()).is_err() || after == "close" {
                return;
            }
            if after == "hang" {
                // Until the proxy gives up.
                let _ = stream.read(&mut buffer);
                return;
            }
        }
    })
}

const RULES: [(&str, &str, &str); 6] = [
    ("/deny", "deny", "deny = true"),
    (
        "/return",
        "return status 200 content-type text/plain string hi",
        "return = { status = 200, string = \"hi\" }",
    ),
    ("/redirect", "redirect location /", "redirect = { location = \"/\" }"),
    ("/tarpit", "tarpit", "tarpit = true"),
    ("/reject", "reject", "reject = true"),
    ("/drop", "silent-drop", "silent-drop = true"),
];

fn haproxy(syslog: &Syslog, origin: SocketAddr, dead: SocketAddr, mode: &str, timeout: &str) -> Peer {
    let log = syslog.address();
    let rules: String =
        RULES.iter().map(|(path, rule, _)| format!(" http-request {rule} if {{ path {path} }}\n")).collect();
    let http = format!(
        " capture request header Host len 8\n capture request header User-Agent len 20\n capture response header Server len \
         10\n capture cookie SES= len 20\n{rules} use_backend dead if {{ path /dead }}\n use_backend none if {{ path /none \
         }}\n use_backend ck if {{ path_beg /ck }}\n"
    );
    let (option, own) = match mode {
        "tcp" => ("tcplog", ""),
        mode => (if mode == "clf" { "httplog clf" } else { "httplog" }, http.as_str()),
    };
    let kind = if mode == "tcp" { "tcp" } else { "http" };
    Peer::haproxy(&format!(
        "global\n nbthread 1\ndefaults\n mode {kind}\n log {log} local0 info\n option {option}\n timeout client 1m\n timeout \
         server {timeout}\n timeout connect 1m\n timeout http-request {timeout}\n timeout tarpit 100ms\n retries 1\nfrontend fe\n bind @ADDRESS@\n{own} \
         default_backend be\nbackend be\n server s1 {origin}\nbackend dead\n server d1 {dead}\nbackend none\nbackend ck\n cookie \
         SRV insert indirect\n server c1 {origin} cookie c1\n server c2 {origin} cookie c2\n"
    ))
}

fn ours(syslog: &Syslog, origin: SocketAddr, dead: SocketAddr, mode: &str, timeout: &str) -> Shardgate {
    let rules: String = RULES
        .iter()
        .map(|(path, _, rule)| format!("  {{ {rule}, if = \"{{ path {path} }}\" }},\n"))
        .collect();
    let http = format!(
        "capture.request-header = [{{ name = \"Host\", len = 8 }}, {{ name = \"User-Agent\", len = 20 }}]\n\
         capture.response-header = [{{ name = \"Server\", len = 10 }}]\ncapture.cookie = {{ name = \"SES=\", len = 20 }}\n\
         rules = [\n{rules}  {{ use-backend = \"dead\", if = \"{{ path /dead }}\" }},\n  {{ use-backend = \"none\", if = \
         \"{{ path /none }}\" }},\n  {{ use-backend = \"ck\", if = \"{{ path_beg /ck }}\" }},\n]\n"
    );
    let (format, own) = match mode {
        "tcp" => ("tcplog", ""),
        "clf" => ("clf", http.as_str()),
        _ => ("httplog", http.as_str()),
    };
    let kind = if mode == "tcp" { "tcp" } else { "http" };
    let more = match kind {
        "tcp" => String::new(),
        _ => format!(
            "[backend.dead]\nserver.d1.address = \"{dead}\"\n[backend.none.server.n1]\naddress = \"{origin}\"\n\
             disabled = true\n[backend.ck]\ncookie = {{ name = \"SRV\", mode = \"insert\", indirect = true }}\n\
             server.c1 = {{ address = \"{origin}\", cookie = \"c1\" }}\n\
             server.c2 = {{ address = \"{origin}\", cookie = \"c2\" }}\n"
        ),
    };
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\n{own}default-backend = \"be\"\n[backend.be]\n\
         server.s1.address = \"{origin}\"\n{more}"
    );
    Shardgate::with(&body)
        .cores(1)
        .global(&format!(
            "log = [\"stderr\", {{ address = \"{}\", facility = \"local0\", level = \"info\" }}]\nlog-tag = \"haproxy\"",
            syslog.address()
        ))
        .defaults(&format!(
            "mode = \"{kind}\"\nlog = true\nlog-format = \"{format}\"\nretries = 1\ntimeout.client = \"1m\"\ntimeout.server = \"{timeout}\"\ntimeout.connect = \"1m\"\ntimeout.http-request = \"{timeout}\"\ntimeout.tarpit = \"100ms\""
        ))
        .start()
}

/// A compiled pattern; compiling is what costs most of a comparison.
fn regex(pattern: &'static str) -> regex::Regex {
    static COMPILED: Mutex<Vec<(&str, regex::Regex)>> = Mutex::new(Vec::new());
    let mut compiled = COMPILED.lock().expect("no test panics while it holds this");
    if let Some((_, regex)) = compiled.iter().find(|(text, _)| *text == pattern) {
        return regex.clone();
    }
    let regex = regex::Regex::new(pattern).expect("a pattern");
    compiled.push((pattern, regex.clone()));
    regex
}

/// Puts the same for what may differ: dates, the pid, ports, times that happened, sessions (one that ended is counted for a
/// moment more), and bytes (HAProxy counts those of its inner form of a message).
pub(crate) fn normal(line: &str) -> String {
    let mut text = line.to_owned();
    for (pattern, to) in [
        (r"^(<\d+>)\w{3} [ \d]\d \d\d:\d\d:\d\d \w+\[\d+\]: ", "$1 HEAD "),
        (r"127\.0\.0\.1:\d+", "CLIENT"),
        (r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d(\.\d{3}| \+0000)\]", "[DATE]"),
        // In clf: port, then milliseconds.
        (r#""" "" \d+ \d{3} "#, "\"\" \"\" PORT MS "),
    ] {
        text = regex(pattern).replace(&text, to).into_owned();
    }
    let text =
        regex(r" (-?\d+(?:/-?\d+){2,4}) (?:(-?\d+) )?(\d+) ").replace(&text, |c: &regex::Captures<'_>| {
            let times: Vec<&str> = c[1].split('/').map(|t| if t == "-1" { "-1" } else { "T" }).collect();
            let status = c.get(2).map_or(String::new(), |status| format!("{} ", status.as_str()));
            let bytes = if &c[3] == "0" { "0" } else { "BYTES" };
            format!(" {} {status}{bytes} ", times.join("/"))
        });
    let text = regex(r#" (\d{3}) \d+ "" "" "#).replace(&text, " $1 BYTES \"\" \"\" ").into_owned();
    let text = regex(r"( [-A-Za-z]{2,4}) \d+/\d+/\d+/\d+/").replace(&text, "$1 N/N/N/N/").into_owned();
    let text = regex(r"( [-A-Za-z]{4}) \d+ \d+ \d+ \d+ ").replace(&text, "$1 N N N N ").into_owned();
    regex(r#"("s1"|"<NOSRV>") (-?\d+) (-?\d+) (-?\d+) (-?\d+) (-?\d+) "#)
        .replace(&text, |c: &regex::Captures<'_>| {
            let time = |n: usize| if &c[n] == "-1" { "-1" } else { "T" };
            format!("{} {} {} {} {} {} ", &c[1], time(2), time(3), time(4), time(5), time(6))
        })
        .into_owned()
}

/// One exchange with a proxy.
fn exchange(address: SocketAddr, origin: &Origin, name: &str) {
    let mut client = connect(address);
    let request = |client: &mut TcpStream, path: &str, more: &str| {
        let text =
            format!("GET {path} HTTP/1.1\r\nHost: example.org\r\nUser-Agent: ua \"x\" {{y}}|#\r\n{more}\r\n");
        client.write_all(text.as_bytes()).expect("the proxy reads");
    };
    let to_end = |client: &mut TcpStream| {
        let mut seen = Vec::new();
        let _ = client.read_to_end(&mut seen);
    };
    match name {
        "connect" => {}
        // A client that leaves while its proxy still connects is another end than one that leaves later: the server has
        // to have heard of it first.
        "leave" => {
            let before = origin.notes().len();
            client.write_all(b"hello").expect("the proxy reads");
            until("the server reads", || origin.notes().len() > before);
        }
        "partial" => client.write_all(b"GET / HT").expect("the proxy reads"),
        "bad" => {
            client.write_all(b"GET / JUNK\r\n\r\n").expect("the proxy reads");
            to_end(&mut client);
        }
        "slow" => {
            client.write_all(b"GET / HT").expect("the proxy reads");
            to_end(&mut client);
        }
        "idle" => to_end(&mut client),
        "upgrade" => {
            request(&mut client, "/upgrade", "Connection: upgrade\r\nUpgrade: x\r\n");
            to_end(&mut client);
        }
        "keep-alive" => {
            for path in ["/1", "/2?x='y'", "/3"] {
                request(&mut client, path, "");
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                while !seen.ends_with(b"ok") && !seen.ends_with(b"</html>\n") {
                    let len = client.read(&mut buffer).expect("an answer");
                    assert!(len > 0, "{path}: {:?}", String::from_utf8_lossy(&seen));
                    seen.extend_from_slice(&buffer[..len]);
                }
            }
        }
        "cookie" => {
            request(&mut client, "/ck", "Cookie: SRV=c2; SES=zzz\r\nConnection: close\r\n");
            to_end(&mut client);
        }
        "no cookie" => {
            request(&mut client, "/ck", "Connection: close\r\n");
            to_end(&mut client);
        }
        "wrong cookie" => {
            request(&mut client, "/ck", "Cookie: SRV=c9\r\nConnection: close\r\n");
            to_end(&mut client);
        }
        // HAProxy forgets the client without a word, and so do we.
        "/drop" => request(&mut client, "/drop", ""),
        path => {
            request(&mut client, path, "Connection: close\r\n");
            to_end(&mut client);
        }
    }
}

/// `timeout`: that of servers and requests; a minute where a case is not about it.
fn compare(mode: &str, timeout: &str, cases: &[(&str, usize)]) {
    let origin = scripted();
    let dead = free_address();
    let (theirs, mine) = (Syslog::new(), Syslog::new());
    let peer = haproxy(&theirs, origin.address, dead, mode, timeout);
    // Somebody looked whether it listens, which left a line.
    theirs.line();
    let gate = ours(&mine, origin.address, dead, mode, timeout);
    let address = gate.address("fe");
    for (name, lines) in cases {
        exchange(peer.address, &origin, name);
        exchange(address, &origin, name);
        for _ in 0..*lines {
            let (expected, line) = (theirs.line(), mine.line());
            assert_eq!(normal(&line), normal(&expected), "{name}:\nours   {line}\ntheirs {expected}");
        }
    }
    gate.finish();
}

#[test]
fn httplog_lines_are_haproxys() {
    compare(
        "http",
        "1m",
        &[
            ("/a?b=c", 1),
            ("/500", 1),
            ("/304", 1),
            ("keep-alive", 3),
            ("/deny", 1),
            ("/return", 1),
            ("/redirect", 1),
            ("/tarpit", 1),
            ("/reject", 1),
            ("/drop", 1),
            ("/dead", 1),
            ("/none", 1),
            ("/close", 1),
            ("/junk", 1),
            ("/cut", 1),
            ("cookie", 1),
            ("upgrade", 1),
            ("connect", 1),
            ("partial", 1),
            ("bad", 1),
        ],
    );
}

#[test]
fn httplog_lines_of_timeouts_are_haproxys() {
    compare("http", "300ms", &[("/hang", 1), ("/stall", 1), ("slow", 1), ("idle", 1)]);
}

#[test]
fn httplog_lines_of_persistence_are_haproxys() {
    // The servers take turns on both sides alike.
    compare("http", "1m", &[("no cookie", 1), ("wrong cookie", 1), ("cookie", 1)]);
}

#[test]
fn clf_lines_are_haproxys() {
    compare("clf", "1m", &[("/a?b=c", 1), ("/deny", 1), ("/close", 1), ("bad", 1)]);
}

#[test]
fn tcplog_lines_are_haproxys() {
    compare("tcp", "1m", &[("/close", 1), ("/cut", 1), ("leave", 1)]);
    compare("tcp", "300ms", &[("/hang", 1)]);
}

#[test]
fn json_lines_have_names_and_nothing_breaks_out() {
    let origin = Origin::http(|_| ok("fine"));
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\nserver.s1.address = \"{}\"\n\
         [ring.last]\ndescription = \"tests\"\n",
        origin.address
    );
    let gate = Shardgate::with(&body)
        .global("log = [\"stderr\", \"ring@last\"]")
        .defaults("mode = \"http\"\nlog = true")
        .start();
    let mut client = gate.wire("fe");
    client.send("GET /a?\"b\" HTTP/1.1\r\nHost: example.org\r\nUser-Agent: \"quoted\" \\ \u{e9}\r\n\r\n");
    // Quotes have no place in a target; whatever becomes of it is one line.
    let _ = client.response("GET").status();
    drop(client);
    let mut client = gate.wire("fe");
    client.send(
        "GET /x HTTP/1.1\r\nHost: example.org\r\nUser-Agent: \"quoted\" \\ \u{e9}\u{9b}31m\u{2028}\r\n\r\n",
    );
    assert_eq!(client.response("GET").status(), 200);
    until("both lines in the ring", || {
        gate.ask("show events last").lines().filter(|l| l.starts_with('{')).count() == 2
    });
    let events = gate.ask("show events last");
    let lines: Vec<serde_json::Value> = events
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let good = lines.last().expect("two lines");
    assert_eq!(good["url.full"], "http://example.org/x");
    assert_eq!(good["user_agent"], "\"quoted\" \\ \u{e9}\u{9b}31m\u{2028}");
    assert!(!events.contains(['\u{9b}', '\u{2028}']), "terminals and viewers obey them: {events}");
    assert_eq!(
        (&good["status"], &good["end"], &good["server"]),
        (&200.into(), &"normal".into(), &"s1".into())
    );
    assert!(gate.ask("show events").contains("  last      : tests\n"));
    drop(client);
    gate.finish();
}

#[test]
fn json_lines_say_null_where_there_is_nothing() {
    let syslog = Syslog::new();
    let body = format!("[frontend.fe]\nbind = \"127.0.0.1:0\"\nlog = [\"{}\"]\n", syslog.address());
    let gate = Shardgate::with(&body).cores(1).defaults("mode = \"http\"").start();
    let mut client = gate.wire("fe");
    client.send("GET / JUNK\r\n\r\n");
    assert_eq!(client.response("GET").status(), 400);
    let line = json_of(&syslog.line());
    for name in ["backend", "server", "request", "upstream.request", "method", "url.full", "protocol", "host"]
    {
        assert!(line[name].is_null(), "{name} is {}", line[name]);
    }
    assert_eq!((&line["status"], &line["frontend"]), (&400.into(), &"fe".into()));
    // Sockets of targets stay open: nothing leaks, but it looks so.
    drop((client, gate));
}

fn json_of(line: &str) -> serde_json::Value {
    let at = line.find('{').expect("an object");
    serde_json::from_str(&line[at..]).unwrap_or_else(|e| panic!("{e}: {line}"))
}

/// An object has room for a long address; where an operator allows less it ends early and is an object still.
#[test]
fn json_lines_that_are_cut_are_objects_still() {
    let origin = Origin::http(|_| ok("fine"));
    let (whole, short) = (Syslog::new(), Syslog::new());
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\nlog = [\"{}\", {{ address = \"{}\", len = 900 }}]\n\
         [backend.be]\nserver.s1.address = \"{}\"\n",
        whole.address(),
        short.address(),
        origin.address
    );
    let gate = Shardgate::with(&body).cores(1).defaults("mode = \"http\"").start();
    let mut client = gate.wire("fe");
    for len in [900, 1500] {
        let path = format!("/{}", "x".repeat(len));
        assert_eq!(client.get(&path).status(), 200);
        assert!(json_of(&whole.line())["url.full"].as_str().is_some_and(|url| url.ends_with(&path)));
        let line = short.line();
        assert!(line.len() <= 901, "{}", line.len());
        let line = json_of(&line);
        assert_eq!((&line["status"], &line["method"]), (&200.into(), &"GET".into()));
        assert!(line["url.full"].as_str().is_some_and(|url| url.ends_with("xxx")));
    }
    drop((client, gate));
}

#[test]
fn a_target_that_takes_nothing_slows_nobody() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("log");
    let _silent = std::os::unix::net::UnixDatagram::bind(&path).expect("a socket that nobody reads");
    let origin = Origin::http(|_| ok("fine"));
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\nserver.s1.address = \"{}\"\n",
        origin.address
    );
    let gate = Shardgate::with(&body)
        .global(&format!("log = [\"stderr\", {{ address = \"{}\", level = \"info\" }}]", path.display()))
        .defaults(
            "mode = \"http\"\nlog = [\"@PATH@\"]\nlog-format = \"httplog\""
                .replace("@PATH@", &path.to_string_lossy())
                .as_str(),
        )
        .start();
    let mut client = gate.wire("fe");
    for _ in 0..500 {
        assert_eq!(client.get("/").status(), 200);
    }
    until("dropped lines are counted", || gate.info("DroppedLogs").parse::<u64>().unwrap_or(0) > 100);
    gate.wait_log("log lines were dropped: a target takes them too slowly or is not there");
    gate.wait_log(&format!("is not there ({} ", path.display()));
    assert_eq!(client.get("/").status(), 200);
    drop(client);
    gate.finish();
}

/// A recipe of the page about URLs, for this port and this file.
fn recipe(place: usize, proof: &str, port: u16, file: &Path) -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/scenarios/readable-urls-in-syslog.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let recipe = page.split("```\n").nth(place).expect("the recipe");
    assert!(recipe.contains(proof), "{recipe}");
    recipe
        .replace("port=\"514\"", &format!("port=\"{port}\""))
        .replace("port(514)", &format!("port({port})"))
        .replace("/var/log/lb.log", &file.to_string_lossy())
}

#[test]
fn rsyslog_writes_whole_urls() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (port, file) = (free_address().port(), dir.path().join("lb.log"));
    let conf = recipe(2, "imudp", port, &file);
    let path = dir.path().join("rsyslog.conf");
    std::fs::write(&path, format!("global(workDirectory=\"{}\")\n{conf}", dir.path().display()))
        .expect("written");
    let mut rsyslog = Command::new(program("rsyslogd"));
    rsyslog.args(["-n", "-f"]).arg(&path).arg("-i").arg(dir.path().join("pid"));
    whole_urls_arrive(&mut rsyslog, port, &file);
}

#[test]
fn syslog_ng_writes_whole_urls() {
    // Its package and that of rsyslog exclude each other: tests/run unpacks it here.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/syslog-ng/usr");
    let libraries = root.join("lib/syslog-ng");
    if !root.join("sbin/syslog-ng").is_file() {
        eprintln!(
            "not tested: syslog-ng is missing; tests/run unpacks it, and says at its end if it could not"
        );
        return;
    }
    let modules = std::fs::read_dir(&libraries).expect("its libraries").filter_map(Result::ok);
    let modules = modules.map(|entry| entry.path()).find(|path| path.is_dir()).expect("its modules");
    let version = modules.file_name().expect("the version").to_string_lossy().into_owned();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (port, file) = (free_address().port(), dir.path().join("lb.log"));
    let conf = recipe(4, "transport(\"udp\")", port, &file);
    let path = dir.path().join("syslog-ng.conf");
    std::fs::write(&path, format!("@version: {version}\n{conf}")).expect("written");
    let mut syslog_ng = Command::new(root.join("sbin/syslog-ng"));
    syslog_ng.args(["-F", "--no-caps"]).arg(format!("--module-path={}", modules.display()));
    for (option, name) in [("-p", "pid"), ("-R", "persist"), ("-c", "control")] {
        syslog_ng.arg(option).arg(dir.path().join(name));
    }
    syslog_ng.arg("-f").arg(&path).env("LD_LIBRARY_PATH", &libraries);
    whole_urls_arrive(&mut syslog_ng, port, &file);
}

/// What the page about URLs promises, with this syslog server, which writes to `file`.
fn whole_urls_arrive(server: &mut Command, port: u16, file: &Path) {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["test.domain.tld"]);
    let origin = Origin::http(|_| ok("fine"));
    let mut server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the server runs");
    until("the syslog server listens", || UdpSocket::bind(("127.0.0.1", port)).is_err());
    let gate = scenario(
        "readable-urls-in-syslog",
        &[
            ("\"*:80\"", "{ address = \"127.0.0.1:0\", name = \"clear\" }"),
            ("\"*:443\"", "\"127.0.0.1:0\", name = \"tls\""),
            ("/etc/shardgate/site.pem", &pem.to_string_lossy()),
            ("127.0.0.1:514", &format!("127.0.0.1:{port}")),
            ("192.0.2.10:80", &origin.address.to_string()),
        ],
    )
    .start();
    let mut client = Wire::new(connect(gate.bind_address("ft_http", "clear")));
    client.send("GET /blah HTTP/1.1\r\nHost: test.domain.tld\r\n\r\n");
    assert_eq!(client.response("GET").status(), 200);
    let tls = gate.bind_address("ft_http", "tls").port();
    let curl = Command::new(program("curl"))
        .args(["-s", "--http1.1", "-H", "Host: test.domain.tld", "--cacert"])
        .arg(ca.path("ca.pem"))
        .args(["--resolve", &format!("test.domain.tld:{tls}:127.0.0.1")])
        .arg(format!("https://test.domain.tld:{tls}/blah"))
        .output()
        .expect("curl runs");
    assert_eq!(String::from_utf8_lossy(&curl.stdout), "fine");
    let read = || std::fs::read_to_string(file).unwrap_or_default();
    // What the process says of itself is there too.
    until("both lines in the file", || read().matches("/blah HTTP/1.1").count() >= 2);
    let text = read();
    assert!(text.contains("\"GET http://test.domain.tld/blah HTTP/1.1\""), "{text}");
    assert!(
        text.contains("\"GET https://test.domain.tld/blah HTTP/1.1\"") && text.contains(" ft_http~ "),
        "{text}"
    );
    drop(client);
    gate.finish();
    // Ours, by its id; it ends on its own terms.
    server.kill().expect("our own child");
    server.wait().expect("our own child");
}

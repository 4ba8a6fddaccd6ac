//! Access lines for each way in which a connection, a request or a stream ends: HAProxy and Shardgate run the same file, have
//! the same scripted exchange, and write the same line.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::harness::origin::{Blackhole, Refusing, reset};
use crate::harness::peers::{Peer, free_address};
use crate::harness::tls::Ca;
use crate::harness::{Origin, connect, until};
use crate::logs::{Syslog, normal};

/// One proxy with its log.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    /// Where frontends beside the first one listen (`@A0@` to `@A3@`).
    pub(crate) more: [SocketAddr; 4],
    pub(crate) syslog: Syslog,
    /// The admin socket, where a test asked for one.
    admin: Option<PathBuf>,
    is_haproxy: bool,
    _peer: Peer,
}

impl Proxy {
    /// Waits until a number of a backend is not zero. HAProxy misses a client that leaves before it is where it would look
    /// for that; Shardgate need not be waited for.
    pub(crate) fn until_there_is(&self, backend: &str, column: &str) {
        if self.is_haproxy {
            self.until_it_shows(backend, column);
        }
    }

    /// The same for both.
    pub(crate) fn until_it_shows(&self, backend: &str, column: &str) {
        until("it is there", || {
            let text = self.ask("show stat");
            let mut rows = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
            let header = rows.next().expect("a header");
            let at = header.iter().position(|name| *name == column).expect("the column");
            rows.any(|row| row[0] == backend && row.get(at).is_some_and(|value| !matches!(*value, "" | "0")))
        });
    }

    /// What the admin socket answers.
    pub(crate) fn ask(&self, command: &str) -> String {
        let path = self.admin.as_ref().expect("started with a socket");
        let mut text = String::new();
        let mut socket = UnixStream::connect(path).expect("it listens");
        socket.write_all(format!("{command}\n").as_bytes()).expect("it reads");
        socket.read_to_string(&mut text).expect("text");
        text
    }
}

/// What the proxies lead to.
pub(crate) struct World {
    pub(crate) origin: Origin,
    /// Lets the origin reset a connection.
    go: Sender<()>,
    refusing: Refusing,
    silent: Blackhole,
    dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> World {
        let (go, gone) = channel();
        World {
            origin: origin(gone),
            go,
            refusing: Refusing::new(),
            silent: Blackhole::new(),
            dir: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    pub(crate) fn proxy(&self, file: &str, start: impl FnOnce(&str) -> Peer) -> Proxy {
        let (syslog, more) = (Syslog::new(), std::array::from_fn(|_| free_address()));
        let file =
            more.iter().enumerate().fold(file.to_owned(), |file, (n, address): (usize, &SocketAddr)| {
                file.replace(&format!("@A{n}@"), &address.to_string())
            });
        let text = file
            .replace("@LOG@", &syslog.address().to_string())
            .replace("@ORIGIN@", &self.origin.address.to_string())
            .replace("@REFUSING@", &self.refusing.address.to_string())
            .replace("@SILENT@", &self.silent.address.to_string());
        let peer = start(&text);
        // Somebody looked whether it listens, which left a line.
        syslog.line();
        Proxy { address: peer.address, more, syslog, admin: None, is_haproxy: false, _peer: peer }
    }

    /// Runs each case with HAProxy and with Shardgate, and compares so many lines. Timeouts that a case is not about are long.
    pub(crate) fn compare(&self, file: &str, cases: &[Case]) {
        let [(at, theirs), (own, ours)] = ["haproxy.sock", "ours.sock"].map(|name| {
            let path = self.dir.path().join(name);
            let socket = format!("global\n stats socket {} level admin\n", path.display());
            (path, file.replacen("global\n", &socket, 1))
        });
        let theirs = Proxy { is_haproxy: true, admin: Some(at), ..self.proxy(&theirs, Peer::haproxy) };
        let ours = Proxy { admin: Some(own), ..self.proxy(&ours, Peer::in_haproxys_place) };
        let mut wrong = Vec::new();
        for (name, lines, exchange) in cases {
            // For whoever looks for the case that failed.
            println!("{name}");
            exchange(self, &theirs);
            exchange(self, &ours);
            for _ in 0..*lines {
                let (expected, line) = (theirs.syslog.any_line(), ours.syslog.any_line());
                // It counts the bytes of an answer to a client that has left, which nobody gets.
                let unread = |line: &str| {
                    let line = normal(line).replace(" 400 BYTES - - CH", " 400 0 - - CH");
                    line.replace(" 500 BYTES - - PT", " 500 0 - - PT")
                };
                if unread(&line) != unread(&expected) {
                    wrong.push(format!("{name}:\nours   {line}theirs {expected}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// A name, how many lines it leaves, and what happens.
pub(crate) type Case = (&'static str, usize, fn(&World, &Proxy));

/// Answers by the path, and notes what it reads. `go` is told when a client has got what came before a reset.
fn origin(go: Receiver<()>) -> Origin {
    let (go, flaky) = (Mutex::new(go), AtomicBool::new(true));
    Origin::new(move |mut stream, shared| {
        let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
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
            let path =
                path.trim_start_matches("/full").trim_start_matches("/queue").trim_end_matches("-timeout");
            let (answer, after) = match path {
                "/hang" => ("", "hang"),
                "/stall" => ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "hang"),
                "/reset" => ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "reset"),
                // Every other time.
                "/flaky" if flaky.fetch_xor(true, Ordering::Relaxed) => {
                    ("HTTP/1.1 503 Not Now\r\nContent-Length: 0\r\n\r\n", "")
                }
                "/reset-head" => ("HTTP/1.1 200", "reset-at-once"),
                "/half-head" => ("HTTP/1.1 200 OK\r\nConte", "close"),
                "/early" => {
                    ("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "close")
                }
                "/204" => ("HTTP/1.1 204 None\r\n\r\n", ""),
                "/304" => ("HTTP/1.1 304 Same\r\nETag: \"x\"\r\n\r\n", ""),
                "/until-close" => ("HTTP/1.1 200 OK\r\n\r\nall of it", "close"),
                "/tunnel" => {
                    ("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhi", "hang")
                }
                "/big" => ("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", "big"),
                _ => ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Secret: s\r\n\r\nok", ""),
            };
            let answer = if text.starts_with("HEAD") { answer.trim_end_matches("ok") } else { answer };
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
            match after {
                "" => {}
                "close" => return,
                "reset" => {
                    let _ = go.lock().expect("no script panics while it holds this").recv();
                    return reset(stream);
                }
                "reset-at-once" => return reset(stream),
                "big" => {
                    while stream.write_all(&buffer).is_ok() {}
                    return;
                }
                _ => {
                    // Until the proxy gives up.
                    while matches!(stream.read(&mut buffer), Ok(n) if n > 0) {}
                    return;
                }
            }
        }
    })
}

pub(crate) fn send(address: SocketAddr, text: &str) -> TcpStream {
    let mut client = connect(address);
    client.write_all(text.as_bytes()).expect("the proxy reads");
    client
}

pub(crate) fn get(proxy: &Proxy, path: &str) -> TcpStream {
    send(proxy.address, &format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
}

pub(crate) fn to_end(mut client: TcpStream) {
    let _ = client.read_to_end(&mut Vec::new());
}

/// Waits until the client has got what the server sent, then has the server reset the connection.
pub(crate) fn until_reset(world: &World, mut client: TcpStream) {
    until_it_has(&mut client, "abc");
    world.go.send(()).expect("the origin listens");
    to_end(client);
}

/// Reads until there is this.
pub(crate) fn until_it_has(client: &mut TcpStream, end: &str) {
    let (mut seen, mut buffer) = (Vec::new(), [0; 1000]);
    while !seen.ends_with(end.as_bytes()) {
        let len = client.read(&mut buffer).expect("an answer");
        assert!(len > 0, "no {end} in {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..len]);
    }
}

/// Sends something and waits until the server has read it.
pub(crate) fn and_arrives(world: &World, request: impl FnOnce() -> TcpStream) -> TcpStream {
    let before = world.origin.notes().len();
    let client = request();
    until("the server reads", || world.origin.notes().len() > before);
    client
}

/// A whole file. One thread, so that servers take turns in the same order on both sides.
pub(crate) fn file(mode: &str, sections: &str) -> String {
    let more = if mode == "http" { " option abortonclose\n timeout tunnel 1m\n" } else { "" };
    format!(
        "global\n nbthread 1\ndefaults\n mode {mode}\n log @LOG@ local0 info\n option {mode}log\n{more} \
         timeout client 1m\n timeout server 1m\n timeout connect 1m\n timeout http-request 1m\n timeout queue 1m\n \
         timeout tarpit 1m\n retries 1\n{sections}"
    )
}

const HTTP: &str = "frontend fe
 bind @ADDRESS@
 bind @A0@ name other
 http-request set-log-level silent if { path /silent }
 http-request set-log-level err if { path /err }
 http-request tarpit if { path /tarpit }
 http-request deny deny_status 429 if { path /429 }
 http-request return status 503 if { path /503 }
 http-response deny if { capture.req.uri /secret }
 http-response return status 404 if { capture.req.uri /instead }
 use_backend silent if { path /silent-server }
 use_backend soon if { path /connect-timeout }
 use_backend redispatch if { path /redispatch }
 use_backend full if { path_beg /full }
 use_backend queue if { path_beg /queue }
 use_backend tunnel if { path /tunnel-timeout }
 use_backend server if { path /stall-timeout /hang-timeout }
 use_backend one if { path /hang }
 default_backend be
backend be
 server s1 @ORIGIN@
backend silent
 option abortonclose
 server d1 @SILENT@
backend soon
 timeout connect 150ms
 server d1 @SILENT@
backend redispatch
 option redispatch
 server d1 @REFUSING@
 server s1 @ORIGIN@
backend full
 option abortonclose
 server s1 @ORIGIN@ maxconn 1
backend queue
 timeout queue 100ms
 server s1 @ORIGIN@ maxconn 1
backend tunnel
 timeout tunnel 200ms
 server s1 @ORIGIN@
backend server
 timeout server 200ms
 server s1 @ORIGIN@
backend one
 option abortonclose
 server s1 @ORIGIN@
frontend request
 bind @A1@
 timeout http-request 200ms
 default_backend be
frontend tarpit
 bind @A2@
 timeout tarpit 100ms
 http-request tarpit
";

#[test]
fn lines_of_good_requests_are_haproxys() {
    World::new().compare(
        &file("http", HTTP),
        &[
            ("head", 1, |_, p| {
                to_end(send(p.address, "HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
            }),
            ("1.0", 1, |_, p| to_end(send(p.address, "GET /old HTTP/1.0\r\n\r\n"))),
            ("204", 1, |_, p| to_end(get(p, "/204"))),
            ("until close", 1, |_, p| to_end(get(p, "/until-close"))),
            ("body", 1, |_, p| {
                let head =
                    "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody";
                to_end(send(p.address, head));
            }),
            ("absolute", 1, |_, p| {
                to_end(send(p.address, "GET http://a/b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
            }),
            ("pipelined", 2, |_, p| {
                let one = "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n";
                let two = "GET /2 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
                to_end(send(p.address, &format!("{one}{two}")));
            }),
            ("redispatch", 1, |_, p| to_end(get(p, "/redispatch"))),
            ("level", 1, |_, p| to_end(get(p, "/err"))),
            ("silent, then one", 1, |_, p| {
                to_end(get(p, "/silent"));
                to_end(get(p, "/after"));
            }),
        ],
    );
}

/// Requests of the same frontend and backend, held by the server, are counted in the line of another.
#[test]
fn counters_of_sessions_are_haproxys() {
    let world = World::new();
    let text = file("http", HTTP);
    for proxy in [world.proxy(&text, Peer::haproxy), world.proxy(&text, Peer::in_haproxys_place)] {
        let held: Vec<TcpStream> = (0..3).map(|_| and_arrives(&world, || get(&proxy, "/stall"))).collect();
        // Who asked whether it listens may be counted for a moment.
        until("all are counted", || {
            to_end(get(&proxy, "/one"));
            let line = proxy.syslog.any_line();
            line.contains(" ---- 4/4/3/3/0 0/0 ")
        });
        drop(held);
    }
}

#[test]
fn lines_of_refused_requests_are_haproxys() {
    World::new().compare(
        &file("http", HTTP),
        &[
            ("429", 1, |_, p| to_end(get(p, "/429"))),
            ("503 of a rule", 1, |_, p| to_end(get(p, "/503"))),
            ("response denied", 1, |_, p| to_end(get(p, "/secret"))),
            ("response of a rule", 1, |_, p| to_end(get(p, "/instead"))),
            ("server resets", 1, |world, p| until_reset(world, get(p, "/reset"))),
            ("server resets in the head", 1, |_, p| to_end(get(p, "/reset-head"))),
            ("server closes in the head", 1, |_, p| to_end(get(p, "/half-head"))),
            // Where the client goes on sending, HAProxy waits for it; Shardgate closes.
            ("server answers and closes", 1, |_, p| to_end(get(p, "/early"))),
        ],
    );
}

#[test]
fn lines_of_timeouts_are_haproxys() {
    World::new().compare(
        &file("http", HTTP),
        &[
            ("connect timeout", 1, |_, p| to_end(get(p, "/connect-timeout"))),
            ("queue timeout", 2, |world, p| {
                let first = and_arrives(world, || get(p, "/queue/hang"));
                to_end(get(p, "/queue/two"));
                drop(first);
            }),
            ("server timeout in the head", 1, |_, p| to_end(get(p, "/hang-timeout"))),
            ("server timeout in the body", 1, |_, p| to_end(get(p, "/stall-timeout"))),
            ("half a request", 1, |_, p| to_end(send(p.more[1], "GET / HTTP/1.1\r\n"))),
            ("no request", 1, |_, p| to_end(connect(p.more[1]))),
            ("the tarpit opens", 1, |_, p| {
                to_end(send(p.more[2], "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
            }),
            ("tunnel timeout", 1, |_, p| {
                let head =
                    "GET /tunnel-timeout HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
                to_end(send(p.address, head));
            }),
        ],
    );
}

#[test]
fn lines_of_clients_that_leave_are_haproxys() {
    World::new().compare(
        &file("http", HTTP),
        &[
            ("in the queue", 2, |world, p| {
                let first = and_arrives(world, || get(p, "/full/hang"));
                let second = get(p, "/full/two");
                p.until_there_is("full", "qcur");
                drop(second);
                p.syslog.wait();
                drop(first);
            }),
            ("while connecting", 1, |_, p| {
                let client = get(p, "/silent-server");
                p.until_there_is("silent", "scur");
                drop(client);
            }),
            ("before the answer", 1, |world, p| drop(and_arrives(world, || get(p, "/hang")))),
            ("in the answer", 1, |_, p| {
                let mut client = get(p, "/big");
                client.read_exact(&mut [0; 100]).expect("the beginning");
                reset(client);
            }),
            ("in the upload", 1, |world, p| {
                let head = "POST /hang HTTP/1.1\r\nHost: h\r\nContent-Length: 40\r\n\r\nbody";
                drop(and_arrives(world, || send(p.address, head)));
            }),
            ("in the tarpit", 1, |_, p| {
                let client = get(p, "/tarpit");
                p.until_there_is("fe", "dreq");
                drop(client);
            }),
            ("in the tunnel", 1, |world, p| {
                let head = "GET /tunnel HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
                let mut client = and_arrives(world, || send(p.address, head));
                until_it_has(&mut client, "hi");
            }),
        ],
    );
}

const TCP: &str = "frontend fe
 bind @ADDRESS@
 tcp-request inspect-delay 1m
 tcp-request content reject if { req.payload(0,1) -m str r }
 use_backend refusing if { req.payload(0,1) -m str d }
 use_backend silent if { req.payload(0,1) -m str s }
 use_backend full if { req.payload(0,1) -m str f }
 use_backend redispatch if { req.payload(0,1) -m str 2 }
 use_backend timeout if { req.payload(0,1) -m str t }
 use_backend server if { req.payload(0,1) -m str G }
 default_backend be
frontend none
 bind @A0@
 bind @A1@ name refused
 tcp-request connection reject if { so_name refused }
frontend client
 bind @A2@
 timeout client 200ms
 default_backend be
backend be
 server s1 @ORIGIN@
backend server
 server s1 @ORIGIN@
backend refusing
 server d1 @REFUSING@
backend silent
 timeout connect 150ms
 server d1 @SILENT@
backend timeout
 timeout server 200ms
 server s1 @ORIGIN@
backend redispatch
 option redispatch
 server d1 @REFUSING@
 server s1 @ORIGIN@
backend full
 timeout queue 100ms
 server s1 @ORIGIN@ maxconn 1
";

#[test]
fn lines_of_connections_are_haproxys() {
    World::new().compare(
        &file("tcp", TCP),
        &[
            ("rejected", 1, |_, p| to_end(send(p.address, "r"))),
            ("refused", 1, |_, p| to_end(send(p.address, "d"))),
            ("connect timeout", 1, |_, p| to_end(send(p.address, "s"))),
            ("redispatch", 1, |world, p| drop(and_arrives(world, || send(p.address, "2")))),
            ("server timeout", 1, |_, p| to_end(send(p.address, "t"))),
            ("client timeout", 1, |_, p| to_end(send(p.more[2], "x"))),
            ("server closes", 1, |_, p| to_end(send(p.address, "GET /early HTTP/1.1\r\n\r\n"))),
            ("client resets", 1, |world, p| reset(and_arrives(world, || send(p.address, "x")))),
            ("server resets", 1, |world, p| {
                until_reset(world, send(p.address, "GET /reset HTTP/1.1\r\n\r\n"));
            }),
            ("queue timeout", 2, |world, p| {
                let first = and_arrives(world, || send(p.address, "f"));
                to_end(send(p.address, "f"));
                drop(first);
            }),
            ("no backend", 1, |_, p| to_end(send(p.more[0], "x"))),
            ("refused without a word, then one", 1, |world, p| {
                to_end(connect(p.more[1]));
                drop(and_arrives(world, || send(p.address, "x")));
            }),
        ],
    );
}

/// `@PEM@`: the site's certificate.
const REFUSED: &str = "global
 nbthread 1
defaults
 mode http
 log @LOG@ local0 info
 option httpslog
 timeout client 1m
 timeout http-request 1m
 timeout server 1m
 timeout connect 1m
frontend probe
 bind @ADDRESS@
 http-request return status 200
frontend fe
 bind @A0@ name tls ssl crt @PEM@ verify optional ca-file @CA@
 bind @A1@ name px accept-proxy
 @MORE@
 http-request return status 200
frontend soon
 bind @A2@ name tls ssl crt @PEM@ verify optional ca-file @CA@
 bind @A3@ accept-proxy
 @MORE@
 timeout client 200ms
 timeout http-request 200ms
 http-request return status 200
";

fn refused(more: &str, lines: usize) {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["h"]);
    let other = Ca::new();
    let stranger = other.bundle("client.pem", &["stranger"]);
    std::fs::copy(stranger, ca.path("stranger.pem")).expect("written");
    let file = REFUSED
        .replace("@PEM@", &pem.to_string_lossy())
        .replace("@CA@", &ca.path("ca.pem").to_string_lossy())
        .replace("@MORE@", more);
    World::new().compare(
        &file,
        &[
            ("plain HTTP on TLS", 1, |_, p| to_end(send(p.more[0], "GET / HTTP/1.1\r\n\r\n"))),
            ("no hello", lines, |_, p| drop(connect(p.more[0]))),
            ("idle", lines, |_, p| to_end(connect(p.more[2]))),
            ("half a hello", lines, |_, p| drop(send(p.more[0], "\x16\x03\x01"))),
            ("no PROXY header", 1, |_, p| to_end(send(p.more[1], "GET / HTTP/1.1\r\n\r\n"))),
            ("no PROXY header in time", lines, |_, p| to_end(connect(p.more[3]))),
            ("half a PROXY header", 1, |_, p| drop(send(p.more[1], "PROXY TCP4 1"))),
            ("a bad PROXY header", 1, |_, p| to_end(send(p.more[1], "PROXY TCP4 1.2.3.4 x 1 2\r\n"))),
        ],
    );
}

#[test]
fn lines_of_failed_handshakes_are_haproxys() {
    refused("", 1);
}

#[test]
fn dontlognull_leaves_out_the_same_handshakes() {
    refused("option dontlognull", 0);
}

#[test]
fn an_error_log_format_is_used_for_the_same_connections() {
    refused("error-log-format \"E %ci %[fc_err] %[fc_err_str] %tsc %ST %HM %r\"", 1);
}

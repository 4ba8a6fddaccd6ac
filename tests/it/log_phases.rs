//! Access lines of the phases that `log_lines` and `log_ends` have not: what waits for a body, TCP mode in inspection and in the
//! queue, streams of HTTP/2. HAProxy and Shardgate write the same line here, too.

use std::net::TcpStream;

use crate::harness::connect;
use crate::harness::frames::{CANCEL, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, request};
use crate::harness::origin::reset;
use crate::harness::peers::Peer;
use crate::log_lines::{Proxy, World, and_arrives, file, get, send, to_end, until_it_has};
use crate::logs::normal;

const HTTP: &str = "frontend fe
 bind @ADDRESS@
 use_backend killed if { path_beg /killed }
 use_backend full if { path_beg /full }
 default_backend be
frontend waits
 bind @A0@
 http-request wait-for-body time 1m
 default_backend be
frontend soon
 bind @A1@
 http-request wait-for-body time 150ms
 default_backend be
frontend behind
 bind @A2@
 default_backend behind
frontend impatient
 bind @A3@
 timeout client 200ms
 default_backend late
backend late
 timeout server 3s
 server s1 @ORIGIN@
backend be
 server s1 @ORIGIN@
backend full
 server s1 @ORIGIN@ maxconn 1
backend killed
 server s1 @ORIGIN@
backend behind
 http-request wait-for-body time 1m if { path /waits }
 http-request wait-for-body time 150ms if { path /soon }
 server s1 @ORIGIN@
";

fn half(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 40\r\n\r\nbody")
}

/// A client that leaves while its body is waited for.
fn leaves(proxy: &Proxy, place: usize, row: (&str, &str)) {
    let client = send(proxy.more[place], &half("/waits"));
    proxy.until_it_shows(row.0, row.1);
    drop(client);
}

#[test]
fn lines_of_bodies_that_are_waited_for_are_haproxys() {
    World::new().compare(
        &file("http", HTTP),
        &[
            ("the client leaves", 1, |_, p| leaves(p, 0, ("waits", "req_tot"))),
            ("it takes too long", 1, |_, p| to_end(send(p.more[1], &half("/")))),
            ("the client leaves the backend's rule", 1, |_, p| leaves(p, 2, ("behind", "scur"))),
            ("the backend's takes too long", 1, |_, p| to_end(send(p.more[2], &half("/soon")))),
        ],
    );
}

/// HAProxy's timeout of the client does not hold in an upload: it waits for the server, and says in the end that the server was
/// late. Here the client that stalls is cut off and named.
#[test]
fn a_client_that_stalls_in_its_upload_is_the_one_that_is_named() {
    let world = World::new();
    let text = file("http", HTTP);
    for (start, end) in [
        (Peer::haproxy as fn(&str) -> Peer, " 504 BYTES - - sH"),
        (Peer::in_haproxys_place, " 408 BYTES - - cD"),
    ] {
        let proxy = world.proxy(&text, start);
        to_end(and_arrives(&world, || send(proxy.more[3], &half("/hang"))));
        let line = normal(&proxy.syslog.any_line());
        assert!(line.contains(end), "no {end} in {line}");
    }
}

#[test]
fn lines_of_requests_without_an_answer_are_haproxys() {
    World::new().compare(
        &file("http", HTTP),
        &[
            ("the client resets", 1, |world, p| reset(and_arrives(world, || get(p, "/hang")))),
            ("the client resets in the queue", 2, |world, p| {
                let first = and_arrives(world, || get(p, "/full/hang"));
                let second = get(p, "/full/two");
                p.until_it_shows("full", "qcur");
                reset(second);
                p.syslog.wait_for(1);
                drop(first);
                p.syslog.wait_for(2);
            }),
            ("the administrator ends it", 1, |world, p| {
                let client = and_arrives(world, || get(p, "/killed/hang"));
                p.ask("shutdown sessions server killed/s1");
                to_end(client);
            }),
        ],
    );
}

const TCP: &str = "frontend fe
 bind @ADDRESS@
 tcp-request inspect-delay 1m
 tcp-request content accept if { req.len gt 1 }
 use_backend full if { req.payload(0,1) -m str f }
 use_backend closed if { req.payload(0,1) -m str c }
 use_backend held if { req.payload(0,1) -m str g }
 use_backend marked if { req.payload(0,1) -m str m }
 default_backend be
frontend soon
 bind @A0@
 tcp-request inspect-delay 100ms
 tcp-request content accept if { req.len gt 1 }
 tcp-request content reject
 default_backend be
frontend impatient
 bind @A1@
 timeout client 100ms
 tcp-request inspect-delay 1m
 tcp-request content accept if { req.len gt 1 }
 default_backend be
frontend own
 bind @A3@
 tcp-request inspect-delay 1m
 tcp-request content accept if { req.len gt 1 }
 default_backend be
frontend late
 bind @A2@
 tcp-request inspect-delay 100ms
 tcp-request content accept if { req.len gt 1 }
 default_backend be
backend be
 server s1 @ORIGIN@
backend full
 option abortonclose
 server s1 @ORIGIN@ maxconn 1
backend held
 server s1 @ORIGIN@ maxconn 1
backend marked
 server s1 @ORIGIN@ on-marked-down shutdown-sessions
backend closed
 server s1 @REFUSING@
";

/// One is served by the backend that this text leads to, and another leaves its queue.
fn queued(world: &World, proxy: &Proxy, (text, backend): (&str, &str), leave: impl FnOnce(TcpStream)) {
    let first = and_arrives(world, || send(proxy.address, text));
    let second = send(proxy.address, text);
    proxy.until_it_shows(backend, "qcur");
    leave(second);
    proxy.syslog.wait_for(1);
    drop(first);
    proxy.syslog.wait_for(2);
}

#[test]
fn lines_of_connections_in_inspection_are_haproxys() {
    World::new().compare(
        &file("tcp", TCP),
        &[
            ("the client leaves", 1, |_, p| drop(connect(p.address))),
            ("the client leaves with a byte sent", 1, |_, p| drop(send(p.address, "x"))),
            ("the client resets, perhaps before it is accepted", 1, |_, p| reset(connect(p.address))),
            ("the client resets with a byte sent", 1, |_, p| {
                let client = send(p.more[3], "x");
                p.until_it_shows("own", "scur");
                reset(client);
            }),
            ("nothing comes in time", 1, |_, p| to_end(connect(p.more[0]))),
            ("too little comes in time", 1, |_, p| to_end(send(p.more[0], "x"))),
            ("the client's timeout is shorter", 1, |_, p| to_end(send(p.more[1], "x"))),
            ("what came in time goes on", 1, |world, p| drop(and_arrives(world, || send(p.more[2], "x")))),
        ],
    );
}

#[test]
fn lines_of_connections_in_the_queue_are_haproxys() {
    World::new().compare(
        &file("tcp", TCP),
        &[
            ("the client leaves", 2, |world, p| queued(world, p, ("ff", "full"), drop)),
            ("the client resets", 2, |world, p| queued(world, p, ("ff", "full"), reset)),
            ("the client resets where nobody looks for one that leaves", 2, |world, p| {
                queued(world, p, ("gg", "held"), reset);
            }),
        ],
    );
}

fn killed(proxy: &Proxy, command: &str, client: TcpStream) {
    proxy.ask(command);
    to_end(client);
}

#[test]
fn lines_of_connections_that_somebody_ends_are_haproxys() {
    World::new().compare(
        &file("tcp", TCP),
        &[
            ("the administrator", 1, |world, p| {
                let client = and_arrives(world, || send(p.address, "xx"));
                killed(p, "shutdown sessions server be/s1", client);
            }),
            ("the administrator, in the queue", 2, |world, p| {
                let first = and_arrives(world, || send(p.address, "ff"));
                let second = send(p.address, "ff");
                p.until_it_shows("full", "qcur");
                let port = second.local_addr().expect("connected").port();
                let rows = p.ask("show sess");
                let row = rows.lines().find(|row| row.contains(&format!(":{port} "))).expect("its session");
                killed(p, &format!("shutdown session {}", row.split(':').next().expect("a word")), second);
                p.syslog.wait_for(1);
                drop(first);
                p.syslog.wait_for(2);
            }),
            ("its server goes down", 1, |world, p| {
                let client = and_arrives(world, || send(p.address, "mm"));
                killed(p, "set server marked/s1 state maint", client);
            }),
        ],
    );
}

const H2: &str = "frontend fe
 bind @ADDRESS@
 bind @A0@ proto h2
 capture request header X-Long len 5
 capture response header X-Secret len 5
 http-request deny if { path /deny }
 http-request redirect location /other if { path /redirect }
 http-request tarpit if { path /tarpit }
 use_backend none if { path /none }
 use_backend refusing if { path /refusing }
 use_backend timeout if { path /hang-timeout /stall-timeout }
 default_backend be
backend be
 server s1 @ORIGIN@
backend none
backend refusing
 server s1 @REFUSING@
backend timeout
 timeout server 200ms
 server s1 @ORIGIN@
";

/// A client with one stream.
fn stream(proxy: &Proxy, method: &str, path: &str, ends: bool) -> Frames {
    let mut client = Frames::over(connect(proxy.more[0]));
    let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
    client.send(HEADERS, flags, 1, &request(method, path, &[("x-long", "abcdefgh")]));
    client
}

/// Reads to the end of the stream's answer, whatever it is.
fn answered(mut client: Frames) {
    while let Some(frame) = client.next() {
        if frame.stream == 1 && (frame.kind == RST_STREAM || frame.ends()) {
            return;
        }
    }
}

#[test]
fn lines_of_streams_are_haproxys() {
    World::new().compare(
        &file("http", H2),
        &[
            ("good", 1, |_, p| answered(stream(p, "GET", "/a?b=c", true))),
            ("with a body", 1, |_, p| {
                let mut client = stream(p, "POST", "/", false);
                client.send(DATA, END_STREAM, 1, b"body");
                answered(client);
            }),
            ("only the head", 1, |_, p| answered(stream(p, "HEAD", "/", true))),
            ("204", 1, |_, p| answered(stream(p, "GET", "/204", true))),
            ("304", 1, |_, p| answered(stream(p, "GET", "/304", true))),
            ("denied", 1, |_, p| answered(stream(p, "GET", "/deny", true))),
            ("redirected", 1, |_, p| answered(stream(p, "GET", "/redirect", true))),
            ("no server", 1, |_, p| answered(stream(p, "GET", "/none", true))),
            ("refused", 1, |_, p| answered(stream(p, "GET", "/refusing", true))),
            ("the server's timeout", 1, |_, p| answered(stream(p, "GET", "/hang-timeout", true))),
            ("the server's timeout in the answer", 1, |_, p| {
                answered(stream(p, "GET", "/stall-timeout", true));
            }),
            ("two", 2, |_, p| {
                let mut client = stream(p, "GET", "/one", true);
                client.response(1);
                p.syslog.wait_for(1);
                client.get(3, "/two");
                client.response(3);
            }),
        ],
    );
}

/// The same response is as long in the log whatever the client speaks: its head counts as HTTP/1 writes it.
#[test]
fn a_head_counts_the_same_in_each_version() {
    let world = World::new();
    let proxy = world.proxy(&file("http", H2), Peer::in_haproxys_place);
    let bytes = || {
        let line = proxy.syslog.any_line();
        let words: Vec<&str> = line.split(' ').collect();
        let times = words.iter().position(|word| word.matches('/').count() == 4).expect("the times");
        words[times + 2].parse::<usize>().expect("a number")
    };
    for (method, path, answer) in [
        ("GET", "/", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Secret: s\r\n\r\nok"),
        ("HEAD", "/", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Secret: s\r\n\r\n"),
        ("GET", "/204", "HTTP/1.1 204 None\r\n\r\n"),
        ("GET", "/304", "HTTP/1.1 304 Same\r\nETag: \"x\"\r\n\r\n"),
    ] {
        let mut client = send(proxy.address, &format!("{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        until_it_has(&mut client, &answer[answer.len() - 4..]);
        let plain = bytes();
        answered(stream(&proxy, method, path, true));
        assert_eq!((plain, bytes()), (answer.len(), answer.len()), "{method} {path}");
    }
}

/// A server that fails in the middle of its head. HAProxy tells a client of HTTP/2 that nobody saw its request, which is not so,
/// and has no line for it; here it is the 502 that a client of HTTP/1 gets from both, and its line.
#[test]
fn a_stream_whose_server_fails_in_its_head_has_an_answer_and_a_line() {
    const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
    let world = World::new();
    let text = file("http", H2);
    let theirs = world.proxy(&text, Peer::haproxy);
    let ours = world.proxy(&text, Peer::in_haproxys_place);
    for path in ["/half-head", "/reset-head"] {
        let mut client = stream(&theirs, "GET", path, true);
        let reset = std::iter::from_fn(|| client.next()).find(|frame| frame.stream == 1).expect("a frame");
        assert_eq!((reset.kind, reset.payload.as_slice()), (RST_STREAM, REFUSED_STREAM.as_slice()));
        answered(stream(&theirs, "GET", "/after", true));
        assert!(theirs.syslog.any_line().contains("/after"));
        answered(stream(&ours, "GET", path, true));
        let line = ours.syslog.any_line();
        assert!(line.contains(" 502 ") && line.contains(" SH-- ") && line.contains(path), "{line}");
    }
}

#[test]
fn lines_of_streams_that_the_client_ends_are_haproxys() {
    World::new().compare(
        &file("http", H2),
        &[
            ("cancelled before the answer", 1, |world, p| {
                let mut client = arrived(world, p, "/hang");
                client.reset(1, CANCEL);
                p.syslog.wait_for(1);
            }),
            ("gone before the answer", 1, |world, p| drop(arrived(world, p, "/hang"))),
            ("cancelled in the answer", 1, |world, p| {
                let mut client = arrived(world, p, "/stall");
                until_it_has(&mut client.stream, "abc");
                client.reset(1, CANCEL);
                p.syslog.wait_for(1);
            }),
        ],
    );
}

fn arrived(world: &World, proxy: &Proxy, path: &str) -> Frames {
    let mut client = None;
    and_arrives(world, || {
        let stream = stream(proxy, "GET", path, true);
        let held = stream.stream.try_clone().expect("a descriptor");
        client = Some(stream);
        held
    });
    client.expect("made above")
}

//! HTTP health checks: what they send, how answers are judged, what follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::harness::http::{ok, sections};
use crate::harness::{Origin, Shardgate, until};

const FAST: &str = "check = true\ninter = \"50ms\"\nrise = 1\nfall = 2";

/// A status that a test changes while an origin answers with it.
fn switch(status: u16) -> (Arc<AtomicU16>, impl Fn() -> u16 + Send + Sync + Clone + 'static) {
    let switch = Arc::new(AtomicU16::new(status));
    let mine = Arc::clone(&switch);
    (switch, move || mine.load(Ordering::Acquire))
}

fn answer(status: u16) -> String {
    format!("HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n")
}

fn gate(origin: &Origin, backend: &str, keywords: &str) -> Shardgate {
    Shardgate::with(&sections(origin, "", backend, &format!("{FAST}\n{keywords}")))
        .defaults("mode = \"http\"")
        .start()
}

#[test]
fn the_status_of_the_answer_decides() {
    let (switch, status) = switch(204);
    let origin = Origin::http(move |_| answer(status()));
    let gate = gate(&origin, "httpchk = { uri = \"/health\", hdr = { Host = \"www.example.com\" } }", "");
    gate.wait_stat("be/s1", "check_status", "L7OK");
    assert_eq!(gate.stat("be/s1", "check_code"), "204");
    let request = String::from_utf8_lossy(&origin.notes()[0]).into_owned();
    assert_eq!(request, "OPTIONS /health HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n");
    switch.store(503, Ordering::Release);
    gate.wait_stat("be/s1", "status", "DOWN");
    let seen = (gate.stat("be/s1", "check_code"), gate.stat("be/s1", "last_chk"));
    assert_eq!(seen, ("503".to_owned(), "So".to_owned()));
    gate.wait_log("Layer7 wrong status, code: 503");
    switch.store(302, Ordering::Release);
    gate.wait_stat("be/s1", "status", "UP");
    gate.finish();
}

#[test]
fn expectations_look_at_all_of_the_answer() {
    let reply = "HTTP/1.1 200 Fine\r\nX-State: primary, ready\r\nContent-Length: 9\r\n\r\n{\"ok\":1}\n";
    // (steps, what the check says)
    for (steps, status) in [
        ("{ expect-status = \"200-204,301\" }", "L7OK"),
        ("{ not-expect-status = \"200\" }", "L7STS"),
        ("{ expect-rstatus = \"^2\" }", "L7OK"),
        ("{ expect-string = \"\\\"ok\\\":1\" }", "L7OK"),
        ("{ expect-string = \"\\\"ok\\\":0\" }", "L7RSP"),
        ("{ not-expect-string = \"ok\" }", "L7RSP"),
        ("{ expect-rstring = \"ok.:[0-9]\" }", "L7OK"),
        ("{ not-expect-rstring = \"ok.:[0-9]\" }", "L7RSP"),
        ("{ expect-hdr = { X-State = \"ready\" } }", "L7OK"),
        ("{ expect-fhdr = { X-State = \"ready\" } }", "L7RSP"),
        ("{ not-expect-hdr = { X-State = \"primary\" } }", "L7RSP"),
        (
            "{ expect-status = \"200\" }, { expect-hdr = { X-State = \"primary\" } }, { expect-string = \"ok\" }",
            "L7OK",
        ),
    ] {
        let origin = Origin::http(move |_| reply.to_owned());
        let gate = gate(&origin, &format!("httpchk = true\nhttp-check = [{steps}]"), "");
        gate.wait_stat("be/s1", "check_status", status);
        gate.finish();
    }
}

#[test]
fn a_sequence_speaks_to_several_ports() {
    let main = Origin::http(|request| match request.start() {
        "GET /a HTTP/1.1" => ok("a"),
        "POST /b HTTP/1.0" if request.text() == "ping" => ok("pong"),
        _ => answer(500),
    });
    let other = Origin::http(|_| ok("other"));
    let steps = format!(
        r#"httpchk = true
http-check = [
  {{ send = {{ method = "GET", uri = "/a", version = "HTTP/1.1" }} }}, {{ expect-string = "a" }},
  {{ send = {{ method = "POST", uri = "/b", body = "ping" }} }}, {{ expect-string = "pong" }},
  {{ connect = {{ port = {} }} }}, {{ send = {{ uri = "/c" }} }}, {{ expect-string = "other" }},
]"#,
        other.address.port()
    );
    let gate = gate(&main, &steps, "");
    gate.wait_stat("be/s1", "check_status", "L7OK");
    let heads: Vec<String> =
        main.notes().iter().map(|note| String::from_utf8_lossy(note).into_owned()).collect();
    let get = format!("GET /a HTTP/1.1\r\nHost: {}\r\n\r\n", main.address);
    // Earlier rounds may have ended before their second request; the one that was good went on to it.
    let gets = heads.iter().take_while(|head| **head == get).count();
    assert!(gets > 0, "{heads:?}");
    assert_eq!(heads[gets], "POST /b HTTP/1.0\r\nContent-Length: 4\r\n\r\n");
    assert!(other.accepted() > 0);
    drop(other);
    gate.wait_stat("be/s1", "status", "DOWN");
    until("the refused step", || gate.stat("be/s1", "check_status").trim_start_matches("* ") == "L4CON");
    gate.finish();
}

#[test]
fn a_404_drains_and_sticky_clients_stay() {
    let (switch, status) = switch(200);
    let a = Origin::http(move |r| if r.start().contains("/health") { answer(status()) } else { ok("a") });
    let b = Origin::http_named("b");
    let body = format!(
        r#"
[frontend.fe]
bind = "127.0.0.1:0"
default-backend = "be"
[backend.be]
httpchk = {{ uri = "/health" }}
disable-on-404 = true
cookie = {{ name = "SRV", mode = "insert" }}
default-server = {{ check = true, inter = "50ms", fall = 1, rise = 1 }}
server.s1 = {{ address = "{}", cookie = "one" }}
server.s2 = {{ address = "{}", cookie = "two" }}
"#,
        a.address, b.address
    );
    let gate = Shardgate::with(&body).defaults("mode = \"http\"").start();
    gate.wait_stat("be/s1", "check_status", "L7OK");
    switch.store(404, Ordering::Release);
    gate.wait_stat("be/s1", "status", "NOLB");
    assert_eq!(gate.stat("be/s1", "check_status").trim_start_matches("* "), "L7OKC");
    let mut client = gate.wire("fe");
    for _ in 0..6 {
        assert_eq!(client.get("/new").text(), "b", "nothing new goes there");
        client.send("GET /sticky HTTP/1.1\r\nHost: x\r\nCookie: SRV=one\r\n\r\n");
        assert_eq!(client.response("GET").text(), "a", "it keeps its own");
    }
    switch.store(500, Ordering::Release);
    gate.wait_stat("be/s1", "status", "DOWN");
    client.send("GET /sticky HTTP/1.1\r\nHost: x\r\nCookie: SRV=one\r\n\r\n");
    assert_eq!(client.response("GET").text(), "b");
    // A 404 does not bring back what is down.
    switch.store(404, Ordering::Release);
    until("a check with 404", || gate.stat("be/s1", "check_code") == "404");
    assert!(gate.stat("be/s1", "status").starts_with("DOWN"));
    switch.store(200, Ordering::Release);
    gate.wait_stat("be/s1", "status", "UP");
    drop(client);
    gate.finish();
}

#[test]
fn bytes_may_be_checked_by_http_and_by_steps_that_connect() {
    let [traffic, health] = [Origin::echo(), Origin::http(|_| ok("up"))];
    let port = health.address.port();
    for backend in [
        format!("httpchk = {{ method = \"GET\" }}\nhttp-check = [{{ connect = {{ port = {port} }} }}]"),
        format!(
            "tcp-check = [{{ connect = {{ port = {port} }} }}, {{ send = \"GET / HTTP/1.0\\r\\n\\r\\n\" }}, {{ expect-string = \"up\" }}]"
        ),
    ] {
        let gate = Shardgate::start(&sections(&traffic, "", &backend, FAST));
        gate.wait_stat("be/s1", "check_status", "L7OK");
        assert_eq!(traffic.accepted(), 0);
        gate.finish();
    }
    // Connections alone are a check of layer 4, of two ports here.
    let backend =
        format!("tcp-check = [{{ connect = {{}} }}, {{ connect = {{ port = {port}, send-proxy = true }} }}]");
    let gate = Shardgate::start(&sections(&traffic, "", &backend, FAST));
    gate.wait_stat("be/s1", "check_status", "L4OK");
    drop(health);
    gate.wait_stat("be/s1", "status", "DOWN");
    gate.finish();
}

#[test]
fn a_websocket_answer_without_the_right_key_is_a_failure() {
    let origin = Origin::http(|request| {
        assert_eq!(request.header("sec-websocket-version"), Some("13"));
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            .to_owned()
    });
    let gate = gate(&origin, "httpchk = { uri = \"/ws\", websocket = true }", "");
    gate.wait_stat("be/s1", "status", "DOWN");
    assert_eq!(gate.stat("be/s1", "check_status").trim_start_matches("* "), "L7RSP");
    gate.finish();
}

//! What rules do beyond headers: wait for bodies, set timeouts, hints, addresses, priorities, normal forms, and redirects that
//! lead back to us.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::http::{Wire, http_gate, ok, sections};
use crate::harness::{Origin, Shardgate, until};

/// Answers with the body that it received.
fn echo() -> Origin {
    Origin::http(|request| ok(&request.text()))
}

#[test]
fn bodies_are_waited_for_and_read() {
    let frontend = r#"rules = [
  { wait-for-body = { time = "10s" }, if = "{ method POST }" },
  { deny = true, if = "{ req.body -m sub evil }" },
  { set-header = { name = "X-Len", value = "%[req.body_len]" } },
  { set-header = { name = "X-Form", value = "%[req.body_param(a)]" } },
]"#;
    let origin = Origin::http(|r| {
        let header = |name| r.header(name).unwrap_or("").to_owned();
        ok(&format!("{}|{}|{}", header("x-len"), header("x-form"), r.text()))
    });
    let gate = http_gate(&origin, frontend, "", "");
    let mut client = gate.wire("fe");
    let post = "POST / HTTP/1.1\r\nHost: h\r\n";
    for _ in 0..2 {
        // In pieces: the rules see all of it.
        client.send(format!("{post}Content-Length: 11\r\n\r\n"));
        client.send("a=1&");
        client.send("b=two12");
        assert_eq!(client.response("POST").text(), "11|1|a=1&b=two12");
        // Chunks are put together for the rules and go on as they came.
        client.send(format!("{post}Transfer-Encoding: chunked\r\n\r\n3\r\na=x\r\n"));
        client.send("2\r\nyz\r\n0\r\n\r\n");
        assert_eq!(client.response("POST").text(), "5|xyz|a=xyz");
        // What follows the body is another request.
        client.send(format!("{post}Content-Length: 2\r\n\r\nokGET /evil HTTP/1.1\r\nHost: evil\r\n\r\n"));
        assert_eq!(client.response("POST").text(), "2||ok");
        assert_eq!(client.response("GET").text(), "0||");
    }
    client.send(format!("{post}Content-Length: 6\r\n\r\nan "));
    client.send("e");
    let mut other = gate.wire("fe");
    assert_eq!(other.get("/").status(), 200, "nobody waits for another's body");
    client.send("vi");
    assert_eq!(client.response("POST").text(), "6||an evi");
    client.send(format!("{post}Content-Length: 4\r\n\r\nev"));
    client.send("il");
    assert_eq!(client.response("POST").status(), 403);
    let mut client = gate.wire("fe");
    client.send(format!("{post}Transfer-Encoding: chunked\r\n\r\nxx\r\n"));
    assert_eq!(client.response("POST").status(), 400);
    drop((client, other));
    gate.finish();
}

#[test]
fn a_body_that_does_not_come_is_answered_with_408() {
    let frontend = "rules = [{ wait-for-body = { time = \"50ms\" } }]";
    let origin = echo();
    let gate = http_gate(&origin, frontend, "", "");
    let mut client = gate.wire("fe");
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab");
    assert_eq!(client.response("POST").status(), 408);
    drop(client);
    gate.finish();
}

#[test]
fn at_least_and_the_buffer_bound_what_is_waited_for() {
    let frontend = "rules = [{ wait-for-body = { time = \"10s\", at-least = 1024 } }, \
                    { set-header = { name = \"X-Len\", value = \"%[req.body_len]\" } }]";
    let origin = Origin::http(|r| ok(&format!("{} {}", r.header("x-len").unwrap_or("-"), r.body.len())));
    let gate = http_gate(&origin, frontend, "", "");
    let mut client = gate.wire("fe");
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
    let body = vec![b'x'; 100_000];
    client.send(&body[..1024]);
    // The origin answers the whole body; the rules went on with what was here.
    client.send(&body[1024..]);
    let text = client.response("POST").text();
    let (seen, whole) = text.split_once(' ').expect("two numbers");
    let seen: usize = seen.parse().expect("a number");
    assert!((1024..=100_000).contains(&seen) && whole == "100000", "{text}");
    drop(client);
    gate.finish();
}

#[test]
fn who_waits_for_leave_to_send_gets_it_before_the_body_is_looked_at() {
    let frontend =
        "rules = [{ wait-for-body = { time = \"10s\" } }, { deny = true, if = \"{ req.body -m str no }\" }]";
    let origin = Origin::http(|r| ok(&format!("{:?} {}", r.header("expect"), r.text())));
    let gate = http_gate(&origin, frontend, "", "");
    let mut client = gate.wire("fe");
    for (body, expected) in [("yes", "None yes"), ("no", "403"), ("yes", "None yes")] {
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        assert_eq!(client.head().expect("an interim response"), "HTTP/1.1 100 Continue");
        client.send(body);
        let response = client.response("POST");
        let seen = if response.status() == 200 { response.text() } else { response.status().to_string() };
        assert_eq!(seen, expected);
        if seen == "403" {
            client = gate.wire("fe");
        }
    }
    drop(client);
    gate.finish();
}

#[test]
fn timeouts_are_set_for_one_request() {
    let origin = Origin::wire(|wire, _| {
        while let Some(request) = wire.request() {
            if request.start().contains("/slow") {
                continue;
            }
            wire.send(ok("fast"));
        }
    });
    let frontend = r#"rules = [
  { set-timeout = { name = "server", value = "50ms" }, if = "{ path /slow }" },
  { set-timeout = { name = "server", value = "hdr_val(x-ms)" }, if = "{ path /slower }" },
]"#;
    let body = sections(&origin, frontend, "timeout.server = \"1h\"", "");
    let gate = Shardgate::with(&body).defaults("mode = \"http\"").start();
    let mut client = gate.wire("fe");
    assert_eq!(client.get("/slow").status(), 504);
    client.send("GET /slower HTTP/1.1\r\nHost: h\r\nX-Ms: 30\r\n\r\n");
    assert_eq!(client.response("GET").status(), 504);
    assert_eq!(client.get("/").text(), "fast");
    drop(client);
    gate.finish();
}

#[test]
fn hints_go_out_before_the_request_is_forwarded() {
    let frontend = r#"rules = [
  { early-hint = { name = "Link", value = "</a.css>; rel=preload" } },
  { early-hint = { name = "Link", value = "<%[path].js>; rel=preload" }, unless = "{ path /deny }" },
  { deny = true, if = "{ path /deny }" },
]"#;
    let origin = Origin::mirror();
    let gate = http_gate(&origin, frontend, "", "");
    let mut client = gate.wire("fe");
    for _ in 0..2 {
        client.send("GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
        let hint = client.head().expect("an interim response");
        assert_eq!(
            hint.lines().collect::<Vec<_>>(),
            ["HTTP/1.1 103 Early Hints", "Link: </a.css>; rel=preload", "Link: </x.js>; rel=preload"]
        );
        assert_eq!(client.response("GET").status(), 200);
    }
    client.send("GET /deny HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.response("GET").status(), 403, "no hint for what is refused");
    client.send("GET /x HTTP/1.0\r\nHost: h\r\n\r\n");
    assert_eq!(client.response("GET").status(), 200, "old clients do not know interim responses");
    drop(client);
    gate.finish();
}

#[test]
fn addresses_are_set_for_one_request() {
    let frontend = r#"
forwardfor = true
originalto = true
rules = [
  { set-src = "hdr_ip(x-real,-1)", if = "{ hdr(x-real) -m found }" },
  { set-src-port = "int(4711)", if = "{ hdr(x-real) -m found }" },
  { set-dst = "ipv4(192.0.2.80)", if = "{ hdr(x-real) -m found }" },
  { set-dst-port = "int(443)", if = "{ hdr(x-real) -m found }" },
  { set-header = { name = "X-Seen", value = "%[src]:%[src_port] %[dst]:%[dst_port]" } },
]
response-rules = [{ set-header = { name = "X-Src", value = "%[src]" } }]"#;
    let origin = Origin::mirror();
    let gate = http_gate(&origin, frontend, "", "");
    let mut client = gate.wire("fe");
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\nX-Real: 192.0.2.7\r\n\r\n");
        let response = client.response("GET");
        let text = response.text();
        for line in [
            "X-Seen: 192.0.2.7:4711 192.0.2.80:443",
            "X-Forwarded-For: 192.0.2.7",
            "X-Original-To: 192.0.2.80",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        assert_eq!(response.header("x-src"), Some("192.0.2.7"));
        let text = client.get("/").text();
        assert!(
            text.contains("X-Forwarded-For: 127.0.0.1"),
            "the next request is the client's own again: {text}"
        );
    }
    drop(client);
    gate.finish();
}

#[test]
fn a_proxy_header_says_the_address_that_rules_set() {
    let origin = Origin::wire(|wire, shared| {
        let Ok(header) = wire.exactly(14) else { return };
        let mut line = header;
        while !line.ends_with(b"\r\n") {
            let Ok(more) = wire.exactly(1) else { return };
            line.extend(more);
        }
        shared.note(&line);
        while wire.request().is_some() {
            wire.send(ok("x"));
        }
    });
    let frontend = "rules = [{ set-src = \"hdr_ip(x-real)\", if = \"{ hdr(x-real) -m found }\" }]";
    let gate = http_gate(&origin, frontend, "", "send-proxy = true");
    let mut client = gate.wire("fe");
    for (header, expected) in [
        ("X-Real: 192.0.2.7\r\n", "PROXY TCP4 192.0.2.7 "),
        ("", "PROXY TCP4 127.0.0.1 "),
        ("X-Real: 192.0.2.8\r\n", "PROXY TCP4 192.0.2.8 "),
    ] {
        client.send(format!("GET / HTTP/1.1\r\nHost: h\r\n{header}\r\n"));
        assert_eq!(client.response("GET").text(), "x");
        let notes = origin.notes();
        let last = String::from_utf8_lossy(notes.last().expect("a header")).into_owned();
        assert!(last.starts_with(expected), "{last}");
    }
    drop(client);
    gate.finish();
}

#[test]
fn targets_are_brought_into_their_normal_form() {
    let frontend = r#"rules = [
  { normalize-uri = "percent-decode-unreserved strict" },
  { normalize-uri = "percent-to-uppercase" },
  { normalize-uri = "path-merge-slashes" },
  { normalize-uri = "path-strip-dot" },
  { normalize-uri = "path-strip-dotdot full" },
  { normalize-uri = "query-sort-by-name" },
  { deny = true, if = "{ path_beg /admin }" },
]"#;
    let origin = Origin::mirror();
    let gate = http_gate(&origin, frontend, "", "");
    let mut client = gate.wire("fe");
    for (sent, expected) in [
        ("/x//y/./z/../w?b=2&a=%7e", "GET /x/y/w?a=~&b=2 HTTP/1.1"),
        ("/a%2fb", "GET /a%2Fb HTTP/1.1"),
        ("/", "GET / HTTP/1.1"),
    ] {
        let text = client.get(sent).text();
        assert_eq!(text.lines().next(), Some(expected), "{sent}");
    }
    for sent in ["/admin", "//admin", "/./admin", "/x/../admin", "/%61dmin", "/../admin/x"] {
        assert_eq!(client.get(sent).status(), 403, "{sent}");
    }
    assert_eq!(client.get("/%zz").status(), 400);
    drop(client);
    gate.finish();
}

#[test]
fn waiting_requests_are_served_by_class_and_offset() {
    // One request at a time; the first one holds the server until all others wait.
    let released = Arc::new(AtomicBool::new(false));
    let release = released.clone();
    let origin = Origin::wire(move |wire, shared| {
        while let Some(request) = wire.request() {
            shared.note(request.start().as_bytes());
            if request.start().contains("/first") {
                until("all others wait", || released.load(Ordering::Acquire));
            }
            wire.send(ok("x"));
        }
    });
    let frontend = r#"rules = [
  { set-priority-class = "hdr_val(x-class)", if = "{ hdr(x-class) -m found }" },
  { set-priority-offset = "hdr_val(x-offset)", if = "{ hdr(x-offset) -m found }" },
]"#;
    let gate = http_gate(&origin, frontend, "", "maxconn = 1");
    let mut clients: Vec<Wire> = Vec::new();
    let mut ask = |path: &str, headers: &str| {
        let mut client = gate.wire("fe");
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n"));
        clients.push(client);
    };
    ask("/first", "");
    until("the first one is at the server", || origin.notes().len() == 1);
    for (number, (path, headers)) in [
        ("/low", "X-Class: 10\r\n"),
        ("/plain", ""),
        ("/early", "X-Offset: -500000\r\n"),
        ("/vip", "X-Class: -5\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        ask(path, headers);
        gate.wait_stat("be/BACKEND", "qcur", &(number + 1).to_string());
    }
    release.store(true, Ordering::Release);
    for client in &mut clients {
        assert_eq!(client.response("GET").status(), 200);
    }
    let order: Vec<String> = origin.notes().iter().map(|n| String::from_utf8_lossy(n).into_owned()).collect();
    let paths: Vec<&str> = order.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(paths, ["/first", "/vip", "/early", "/plain", "/low"]);
    drop(clients);
    gate.finish();
}

#[test]
fn rewrites_that_do_not_fit_end_the_request_only_in_strict_mode() {
    let frontend = r#"rules = [
  { strict-mode = false, if = "{ path_beg /loose }" },
  { set-path = "%[url_param(v),url_dec]" },
  { set-header = { name = "X-Text", value = "%[url_param(v),url_dec]" } },
]"#;
    let origin = Origin::mirror();
    let gate = http_gate(&origin, frontend, "", "");
    let mut client = gate.wire("fe");
    assert_eq!(client.get("/?v=/a%20b").status(), 500);
    let loose = client.get("/loose?v=/a%20b").text();
    assert!(
        loose.starts_with("GET /loose?v=/a%20b HTTP/1.1\r\n") && loose.contains("\r\nX-Text: /a b"),
        "{loose}"
    );
    assert!(client.get("/?v=/good").text().starts_with("GET /good?v=/good HTTP/1.1\r\n"));
    gate.wait_stat("fe/FRONTEND", "wrew", "2");
    // What would end a line fits, and ends none.
    let evil = client.get("/?v=/a%0d%0aX-Evil:1").text();
    assert!(
        evil.starts_with("GET /a%0D%0AX-Evil:1?") && evil.contains("\r\nX-Text: /a%0D%0AX-Evil:1"),
        "{evil}"
    );
    assert!(!evil.contains("\r\nX-Evil"), "{evil}");
    drop(client);
    gate.finish();
}

#[test]
fn redirects_to_our_own_host_get_the_scheme_and_port_of_the_client() {
    let origin = Origin::http(|r| {
        let to = r.header("x-to").unwrap_or("-").to_owned();
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
    });
    let frontend = r#"
location = "same-host"
rules = [
  { set-header = { name = "X-Forwarded-Proto", value = "https" }, unless = "{ path /plain }" },
  { set-header = { name = "Host", value = "internal" } },
]"#;
    let gate = http_gate(&origin, frontend, "", "");
    let mut client = gate.wire("fe");
    for (path, host, sent, expected) in [
        ("/", "www.example.com", "http://www.example.com:8080/a?b", "https://www.example.com/a?b"),
        ("/", "www.example.com:8443", "http://www.example.com/a", "https://www.example.com:8443/a"),
        ("/plain", "www.example.com", "https://www.example.com:8443/a", "http://www.example.com/a"),
        ("/", "www.example.com", "http://other.example.com/", "http://other.example.com/"),
        ("/", "www.example.com", "/relative", "/relative"),
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX-To: {sent}\r\n\r\n"));
        assert_eq!(client.response("GET").header("location"), Some(expected), "{host} {sent}");
    }
    drop(client);
    gate.finish();
}

#[test]
fn variables_of_the_process_are_seen_by_all_cores() {
    let frontend = r#"rules = [
  { set-var = { name = "proc.mode", value = "url_param(to)" }, if = "{ path /set }" },
  { unset-var = "proc.mode", if = "{ path /unset }" },
  { return = { status = 200, content-type = "text/plain", lf-string = "%[var(proc.mode,none)]" } },
]"#;
    let origin = Origin::mirror();
    let gate = http_gate(&origin, frontend, "", "");
    let everywhere = |expected: &str| {
        // Enough connections to meet both cores.
        until(expected, || {
            (0..8).all(|_| {
                let mut client = gate.wire("fe");
                client.get("/").text() == expected
            })
        });
    };
    everywhere("none");
    assert_eq!(gate.wire("fe").get("/set?to=red").text(), "red");
    everywhere("red");
    assert_eq!(gate.wire("fe").get("/set?to=blue").text(), "blue");
    everywhere("blue");
    gate.wire("fe").get("/unset");
    everywhere("none");
    gate.finish();
}

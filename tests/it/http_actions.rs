//! What rules do beyond headers: wait for bodies, set timeouts, hints, addresses, priorities, normal forms, and redirects that
//! lead back to us.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::http::{Wire, http_gate, ok, sections};
use crate::harness::{Origin, Shardgate, until};

/// Answers with the head that it received.
fn mirror() -> Origin {
    Origin::http(|request| ok(&request.head))
}

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
    let origin = mirror();
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
    let origin = mirror();
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
    let origin = mirror();
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
  { set-header = { name = "X-Bad", value = "%[url_param(v),url_dec]" } },
]"#;
    let origin = mirror();
    let gate = http_gate(&origin, frontend, "", "");
    let mut client = gate.wire("fe");
    assert_eq!(client.get("/?v=a%0d%0aX-Evil:1").status(), 500);
    let loose = client.get("/loose?v=a%0d%0aX-Evil:1");
    assert!(loose.status() == 200 && !loose.text().lines().any(|l| l.starts_with("X-")), "{}", loose.text());
    assert!(client.get("/?v=good").text().contains("X-Bad: good"));
    gate.wait_stat("fe/FRONTEND", "wrew", "2");
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
    let origin = mirror();
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

#[test]
fn a_tarpit_holds_and_then_answers() {
    let frontend =
        "timeout.tarpit = \"100ms\"\nrules = [{ tarpit = { status = 429 }, if = \"{ path /t }\" }]";
    let origin = mirror();
    let gate = http_gate(&origin, frontend, "", "");
    let mut client = gate.wire("fe");
    let start = std::time::Instant::now();
    assert_eq!(client.get("/t").status(), 429);
    assert!(start.elapsed() >= std::time::Duration::from_millis(100));
    assert!(client.is_closed());
    // Who leaves early is let go.
    let mut client = gate.wire("fe");
    client.send("GET /t HTTP/1.1\r\nHost: h\r\n\r\n");
    drop(client);
    gate.wait_stat("fe/FRONTEND", "scur", "0");
    assert_eq!(origin.notes().len(), 0);
    gate.finish();
}

#[test]
fn a_silent_drop_says_nothing() {
    let origin = mirror();
    let gate = http_gate(&origin, "rules = [{ silent-drop = true, if = \"{ path /drop }\" }]", "", "");
    let mut client = gate.wire("fe");
    assert_eq!(client.get("/").status(), 200);
    client.send("GET /drop HTTP/1.1\r\nHost: h\r\n\r\n");
    gate.wait_stat("fe/FRONTEND", "scur", "0");
    client.stream.set_nonblocking(true).expect("a socket");
    let read = std::io::Read::read(&mut client.stream, &mut [0; 1]);
    // As root the kernel forgets the connection and the client hears nothing; otherwise it is reset.
    assert!(!matches!(read, Ok(0 | 1)), "{read:?}");
    let _ = client.stream.write_all(b"x");
    assert_eq!(origin.notes().len(), 1);
    gate.finish();
}

#[test]
fn local_time_is_that_of_the_machine() {
    let origin = mirror();
    let rules = "rules = [{ return = { status = 200, lf-string = '%[int(0),ltime(%H:%M)] %[int(0),utime(%H:%M)]' } }]";
    let start = Shardgate::with(&sections(&origin, rules, "", "")).defaults("mode = \"http\"");
    let gate = start.env("TZ", "JST-9").start();
    assert_eq!(gate.wire("fe").get("/").text(), "09:00 00:00");
    gate.finish();
}

#[test]
fn every_request_has_an_id_of_its_own() {
    let frontend = "unique-id-format = \"%[src]-%[rand(1000000000)]\"\nunique-id-header = \"X-Id\"\n\
                    response-rules = [{ set-header = { name = \"X-Was\", value = \"%[unique-id]\" } }]";
    let origin = mirror();
    let gate = http_gate(&origin, frontend, "", "");
    let mut client = gate.wire("fe");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..5 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\nX-Id: forged\r\n\r\n");
        let response = client.response("GET");
        let told: Vec<String> =
            response.text().lines().filter_map(|l| l.strip_prefix("X-Id: ").map(str::to_owned)).collect();
        let [told] = told.as_slice() else { panic!("one id in {}", response.text()) };
        assert!(told.starts_with("127.0.0.1-"), "{told}");
        assert_eq!(response.header("x-was"), Some(told.as_str()));
        seen.insert(told.clone());
    }
    assert_eq!(seen.len(), 5);
    drop(client);
    gate.finish();
}

#[test]
fn error_pages_come_from_files_the_nearer_first() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let page = |name: &str, status: &str| {
        let path = dir.path().join(name);
        let body = format!("{name} page");
        let text =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nX-Page: {name}\r\n\r\n{body}", body.len());
        std::fs::write(&path, text).expect("our own directory");
        path.to_string_lossy().into_owned()
    };
    let (own, site, backend) = (page("own", "403 No"), page("site", "403 No"), page("backend", "503 Later"));
    let site404 = page("site404", "404 Gone");
    let origin = mirror();
    let body = format!(
        "[http-errors.site]\nerrorfile.403 = \"{site}\"\nerrorfile.404 = \"{site404}\"\n\
         [frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\nerrorfile.403 = \"{own}\"\nerrorfiles = \"site\"\n\
         rules = [{{ deny = true, if = \"{{ path /403 }}\" }}, {{ deny = {{ status = 404 }}, if = \"{{ path /404 }}\" }}, \
         {{ deny = {{ status = 429 }}, if = \"{{ path /429 }}\" }}]\n\
         [backend.be]\nerrorfile.503 = \"{backend}\"\nserver.s1 = {{ address = \"{}\" }}\n",
        origin.address
    );
    let gate = Shardgate::with(&body).defaults("mode = \"http\"").start();
    for (path, status, seen) in
        [("/403", 403, Some("own")), ("/404", 404, Some("site404")), ("/429", 429, None), ("/", 200, None)]
    {
        let answer = gate.wire("fe").get(path);
        assert_eq!((answer.status(), answer.header("x-page")), (status, seen), "{path}");
        if let Some(name) = seen {
            assert_eq!(answer.text(), format!("{name} page"));
        }
    }
    gate.ask("disable server be/s1");
    let answer = gate.wire("fe").get("/");
    assert_eq!((answer.status(), answer.header("x-page")), (503, Some("backend")));
    gate.finish();
}

#[test]
fn a_file_is_returned_as_it_was_at_load() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), b"<p>\x00\xff</p>").expect("our own file");
    let frontend = format!(
        "rules = [{{ return = {{ status = 200, content-type = \"text/html\", file = \"{}\", hdr = {{ Cache-Control = \"no-store\" }} }} }}]",
        file.path().display()
    );
    let origin = mirror();
    let gate = http_gate(&origin, &frontend, "", "");
    std::fs::write(file.path(), b"changed").expect("our own file");
    let mut client = gate.wire("fe");
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!(answer.body, b"<p>\x00\xff</p>");
        assert_eq!(
            (answer.header("content-type"), answer.header("cache-control")),
            (Some("text/html"), Some("no-store"))
        );
    }
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.response("HEAD").header("content-length"), Some("9"));
    drop(client);
    gate.finish();
}

#[test]
fn redirects_of_every_form() {
    let frontend = r#"rules = [
  { redirect = { location = "https://a.example.com/x" }, if = "{ path /location }" },
  { redirect = { location = "/%[hdr(host),lower]%[path]", code = 307 }, if = "{ path /format }" },
  { redirect = { prefix = "https://b.example.com", code = 308 }, if = "{ path_beg /prefix }" },
  { redirect = { prefix = "/", drop-query = true, append-slash = true, code = 301 }, if = "{ path /slash }" },
  { redirect = { scheme = "https", code = 303 }, if = "{ path /scheme }" },
  { redirect = { location = "/in", set-cookie = "SEEN=1" }, if = "{ path /set }" },
  { redirect = { location = "/out", clear-cookie = "SEEN" }, if = "{ path /clear }" },
  { redirect = { location = "%[url_param(to),url_dec]" }, if = "{ path /bad }" },
]"#;
    let origin = mirror();
    let gate = http_gate(&origin, frontend, "", "");
    let mut client = gate.wire("fe");
    for (path, status, location) in [
        ("/location?q", 302, "https://a.example.com/x"),
        ("/format", 307, "/test/format"),
        ("/prefix/x?a=1&b=2", 308, "https://b.example.com/prefix/x?a=1&b=2"),
        ("/slash?q=1", 301, "/slash/"),
        ("/scheme?a", 303, "https://test/scheme?a"),
    ] {
        let answer = client.get(path);
        assert_eq!((answer.status(), answer.header("location")), (status, Some(location)), "{path}");
        assert_eq!(answer.header("content-length"), Some("0"));
    }
    assert!(client.get("/set").header("set-cookie").is_some_and(|c| c.starts_with("SEEN=1;")));
    assert!(
        client
            .get("/clear")
            .header("set-cookie")
            .is_some_and(|c| c.starts_with("SEEN=;") && c.contains("Max-Age=0"))
    );
    assert_eq!(client.get("/bad?to=a%0d%0aSet-Cookie:x").status(), 500, "no header is injected");
    assert_eq!(origin.notes().len(), 0);
    drop(client);
    gate.finish();
}

#[test]
fn a_connect_that_the_server_answers_becomes_a_tunnel() {
    let origin = Origin::wire(|wire, shared| {
        let Some(request) = wire.request() else { return };
        shared.note(request.head.as_bytes());
        if request.start().contains("refused") {
            wire.send("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n");
            return;
        }
        wire.send("HTTP/1.1 200 Connected\r\n\r\nhello");
        while let Ok(bytes) = wire.exactly(1) {
            wire.send(bytes);
        }
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = gate.wire("fe");
    // What follows the head is for the tunnel, and waits until there is one.
    client.send("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.head().expect("a head"), "HTTP/1.1 200 Connected");
    assert_eq!(client.exactly(5).expect("bytes"), b"hello");
    assert_eq!(client.exactly(18).expect("an echo"), b"GET / HTTP/1.1\r\n\r\n");
    client.send("more");
    assert_eq!(client.exactly(4).expect("an echo"), b"more");
    assert!(origin.notes()[0].starts_with(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443"));
    drop(client);
    let mut client = gate.wire("fe");
    client.send("CONNECT refused.example.com:443 HTTP/1.1\r\nHost: refused.example.com:443\r\n\r\n");
    assert_eq!(client.response("CONNECT").status(), 407);
    drop(client);
    gate.finish();
}

#[test]
fn leave_to_continue_is_passed_on_from_the_server() {
    let origin = Origin::wire(|wire, _| {
        while let Ok(head) = wire.head() {
            assert!(head.contains("Expect: 100-continue"), "{head}");
            if head.starts_with("POST /no") {
                wire.send("HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                return;
            }
            wire.send("HTTP/1.1 100 Continue\r\n\r\n");
            let Ok(body) = wire.exactly(5) else { return };
            wire.send(ok(&String::from_utf8_lossy(&body)));
        }
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = gate.wire("fe");
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(client.head().expect("an interim response"), "HTTP/1.1 100 Continue");
        client.send("12345");
        assert_eq!(client.response("POST").text(), "12345");
    }
    client.send("POST /no HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.response("POST").status(), 417, "the final answer comes before the body");
    drop(client);
    gate.finish();
}

#[test]
fn expressions_replace_on_every_request_of_a_connection() {
    let frontend = r#"
rules = [
  { replace-header = { name = "X-A", regex = '^(\w+)-(\d+)$', value = '\2-\1-%[path]' } },
  { replace-uri = { regex = '^/(\d+)/(.*)', value = '/\2/\1' } },
]
response-rules = [{ replace-value = { name = "Vary", regex = '^(a)ccept$', value = '\1-%[status]' } }]"#;
    let origin = Origin::http(|r| {
        let body = format!("{} {}", r.start(), r.header("x-a").unwrap_or("-"));
        format!("HTTP/1.1 200 OK\r\nVary: accept, cookie\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    let gate = http_gate(&origin, frontend, "", "");
    let mut client = gate.wire("fe");
    for number in 0..1000 {
        client.send(format!("GET /{number}/x HTTP/1.1\r\nHost: h\r\nX-A: n-{number}\r\n\r\n"));
        let answer = client.response("GET");
        assert_eq!(answer.text(), format!("GET /x/{number} HTTP/1.1 {number}-n-/{number}/x"));
        assert_eq!(answer.header("vary"), Some("a-200, cookie"));
    }
    drop(client);
    gate.finish();
}

#[test]
fn ten_thousand_routes_by_a_map() {
    let map = tempfile::NamedTempFile::new().expect("a temporary file");
    let lines: String = (0..10_000).map(|n| format!("host{n}.example.com/app{n}/ value{n}\n")).collect();
    std::fs::write(map.path(), lines).expect("our own file");
    let path = map.path().display();
    let frontend = format!(
        "rules = [{{ return = {{ status = 200, lf-string = \"%[base,lower,map_beg({path},none)]\" }} }}]"
    );
    let origin = mirror();
    let gate = http_gate(&origin, &frontend, "", "");
    let mut client = gate.wire("fe");
    for n in [0, 1, 77, 4999, 9998, 9999] {
        for (host, path, expected) in [
            (format!("HOST{n}.example.com"), format!("/app{n}/x"), format!("value{n}")),
            (format!("host{n}.example.com"), format!("/app{}/x", n + 1), "none".to_owned()),
            (format!("host{n}.example.org"), format!("/app{n}/x"), "none".to_owned()),
        ] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(client.response("GET").text(), expected, "{host}{path}");
        }
    }
    drop(client);
    gate.finish();
}

#[test]
fn refused_messages_are_counted_by_reason() {
    let origin = Origin::wire(|wire, _| {
        while wire.request().is_some() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx");
        }
    });
    let gate = http_gate(&origin, "timeout.http-request = \"50ms\"\nmax-uri-bytes = 256", "", "");
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(300));
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505),
        (long.as_str(), 414),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
        ("GET / HTTP/1.1\r\nHost", 408),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 502),
    ] {
        let mut client = gate.wire("fe");
        client.send(request);
        assert_eq!(client.response("GET").status(), status, "{request}");
    }
    let text = gate.ask("show errors reasons");
    for line in [
        "request length-with-coding 400 1 ",
        "request space-before-colon 400 1 ",
        "request host-missing 400 1 ",
        "request version-unsupported 505 1 ",
        "request target-too-long 414 1 ",
        "request coding-unknown 501 1 ",
        "request length-too-large 413 1 ",
        "request head-timeout 408 1 ",
        "response length-differs 502 1 ",
    ] {
        assert!(text.lines().any(|l| l.starts_with(line)), "{line} in:\n{text}");
    }
    gate.finish();
}

#[test]
fn old_requests_without_a_host_get_the_address_that_they_were_sent_to() {
    let origin = mirror();
    let gate = http_gate(&origin, "", "", "");
    let address = gate.address("fe");
    for (request, expected) in [
        ("GET /x HTTP/1.0\r\n\r\n", format!("Host: {address}")),
        ("GET /x HTTP/1.0\r\nHost: h\r\n\r\n", "Host: h".to_owned()),
        ("GET http://a.example.com/x HTTP/1.0\r\n\r\n", "Host: a.example.com".to_owned()),
    ] {
        let mut client = gate.wire("fe");
        client.send(request);
        let text = client.response("GET").text();
        let hosts: Vec<&str> = text.lines().filter(|line| line.starts_with("Host:")).collect();
        assert_eq!(hosts, [expected.as_str()], "{request}");
    }
    gate.finish();
}

//! What a proxy says itself: refusals, pages and files, redirects; and what passes through it unchanged.

use std::io::Write;

use crate::harness::http::{http_gate, ok, sections};
use crate::harness::{Origin, Shardgate};

#[test]
fn a_tarpit_holds_and_then_answers() {
    let frontend =
        "timeout.tarpit = \"100ms\"\nrules = [{ tarpit = { status = 429 }, if = \"{ path /t }\" }]";
    let origin = Origin::mirror();
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
    let origin = Origin::mirror();
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
    let origin = Origin::mirror();
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
    let origin = Origin::mirror();
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
    let origin = Origin::mirror();
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
    let origin = Origin::mirror();
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
    let origin = Origin::mirror();
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
    let evil = client.get("/bad?to=a%0d%0aSet-Cookie:x");
    assert_eq!((evil.status(), evil.header("location")), (302, Some("a%0D%0ASet-Cookie:x")));
    assert_eq!(evil.header("set-cookie"), None, "no header is injected");
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
    let origin = Origin::mirror();
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
    let origin = Origin::mirror();
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

//! Rules, inserted headers and persistence, as an origin and a client see them.

use crate::harness::http::{Message, http_gate, ok, sections};
use crate::harness::{Origin, Shardgate};

fn lines(message: &Message) -> Vec<String> {
    message.text().lines().map(str::to_owned).collect()
}

#[test]
fn requests_are_changed_in_order() {
    let origin = Origin::mirror();
    let frontend = r#"
forwardfor = true
acl.api = "path_beg /api/"
rules = [
  { set-header = { name = "X-Proto", value = "http" } },
  { add-header = { name = "X-Many", value = "%[method]-%[url_param(a)]" } },
  { del-header = "User-Agent" },
  { del-header = { name = "x-secret-", match = "beg" } },
  { replace-header = { name = "Cookie", regex = "foo=([^;]*)", value = "bar=\\1" } },
  { replace-value = { name = "X-List", regex = "^b(.*)", value = "B\\1" } },
  { set-var = { name = "txn.path", value = "path" } },
  { replace-path = { regex = "^/api/(.*)", value = "/v2/\\1" }, if = "api" },
  { set-query = "%[query]&more=1", if = "{ query -m found }" },
  { set-header = { name = "X-Was", value = "%[var(txn.path)]" } },
  { set-header = { name = "X-Now", value = "%[path]" } },
]
"#;
    let backend = "rules = [{ set-header = { name = \"X-Backend\", value = \"%[be_name]\" } }]";
    let gate = http_gate(&origin, frontend, backend, "");
    let mut client = gate.wire("fe");
    for _ in 0..3 {
        client.send(
            "GET /api/x?a=1 HTTP/1.1\r\nHost: h\r\nUser-Agent: u\r\nX-Proto: forged\r\nX-Secret-A: 1\r\nX-SECRET-B: 2\r\n\
             Cookie: foo=7\r\nX-List: a, bc, d\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        );
        let seen = lines(&client.response("GET"));
        assert_eq!(
            seen,
            [
                "GET /v2/x?a=1&more=1 HTTP/1.1",
                "Host: h",
                "Cookie: bar=7",
                "X-List: a, Bc, d",
                "X-Forwarded-For: 1.2.3.4",
                "X-Proto: http",
                "X-Many: GET-1",
                "X-Was: /api/x",
                "X-Now: /v2/x",
                "X-Backend: be",
                "X-Forwarded-For: 127.0.0.1",
            ]
        );
    }
    drop(client);
    gate.finish();
}

#[test]
fn a_target_that_names_another_host_is_for_that_one() {
    let origin = Origin::mirror();
    let frontend = r#"rules = [
  { set-uri = "http://else.example:81/y", if = "{ path /set }" },
  { replace-uri = { regex = "^/at/([^/]*)(.*)$", value = "http://\\1\\2" } },
  { replace-uri = { regex = "^(.*)/same$", value = "\\1/kept" } },
]"#;
    let gate = http_gate(&origin, frontend, "", "");
    let mut client = gate.wire("fe");
    for (request, expected) in [
        ("GET /set HTTP/1.1\r\nHost: h\r\n\r\n", ["GET /y HTTP/1.1", "Host: else.example:81"]),
        ("GET /at/far.example/x?y HTTP/1.1\r\nHost: h\r\n\r\n", ["GET /x?y HTTP/1.1", "Host: far.example"]),
        ("GET http://h/same HTTP/1.1\r\nHost: h\r\n\r\n", ["GET /kept HTTP/1.1", "Host: h"]),
        ("GET /same HTTP/1.1\r\nHost: h\r\n\r\n", ["GET /kept HTTP/1.1", "Host: h"]),
    ] {
        client.send(request);
        assert_eq!(lines(&client.response("GET"))[..2], expected, "{request}");
    }
    drop(client);
    gate.finish();
}

#[test]
fn an_address_is_told_once_and_not_where_it_is_excepted() {
    for (both, backend, expected) in [
        (
            "forwardfor = true\noriginalto = true",
            "",
            vec!["X-Forwarded-For: 127.0.0.1", "X-Original-To: 127.0.0.1"],
        ),
        ("forwardfor = true", "forwardfor = { header = \"X-Client\" }", vec!["X-Client: 127.0.0.1"]),
        ("forwardfor = { except = [\"127.0.0.0/8\"] }", "", vec![]),
        ("forwardfor = true", "forwardfor = { if-none = true, header = \"Host\" }", vec![]),
        ("forwarded = true", "", vec!["Forwarded: proto=http;for=127.0.0.1"]),
    ] {
        let origin = Origin::mirror();
        let gate = Shardgate::with(&sections(&origin, "", backend, ""))
            .defaults(&format!("mode = \"http\"\n{both}"))
            .start();
        let mut client = gate.wire("fe");
        let seen = lines(&client.get("/"));
        assert_eq!(seen[2..], expected, "{both} {backend}");
        drop(client);
        gate.finish();
    }
}

#[test]
fn rules_answer_themselves() {
    let origin = Origin::mirror();
    let frontend = r#"rules = [
  { allow = true, if = "{ path /open }" },
  { deny = true, if = "{ path /deny }" },
  { deny = { status = 429 }, if = "{ path /many }" },
  { return = { status = 200, content-type = "text/plain", lf-string = "%[method] %[path]", hdr = { X-H = "%[path]" } }, if = "{ path /return }" },
  { redirect = { scheme = "https", code = 301 }, if = "{ path /tls }" },
  { redirect = { location = "/new?from=%[path]", code = 303 }, if = "{ path /old }" },
  { redirect = { prefix = "http://other", drop-query = true, append-slash = true, set-cookie = "SEEN=1" }, if = "{ path /dir }" },
  { reject = true, if = "{ path /reject }" },
]"#;
    let gate = http_gate(&origin, frontend, "", "");
    let mut client = gate.wire("fe");
    assert_eq!(client.get("/open").status(), 200);
    assert_eq!(client.get("/deny").status(), 403);
    assert_eq!(client.get("/many").status(), 429);
    let made = client.get("/return");
    assert_eq!(
        (made.status(), made.text().as_str(), made.header("x-h")),
        (200, "GET /return", Some("/return"))
    );
    let tls = client.get("/tls?x=1");
    assert_eq!((tls.status(), tls.header("location")), (301, Some("https://test/tls?x=1")));
    let old = client.get("/old");
    assert_eq!((old.status(), old.header("location")), (303, Some("/new?from=/old")));
    let dir = client.get("/dir?x=1");
    assert_eq!(dir.header("location"), Some("http://other/dir/"));
    assert!(dir.header("set-cookie").is_some_and(|c| c.starts_with("SEEN=1")));
    client.send("HEAD /return HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response("HEAD").header("content-length"), Some("12"));
    client.send("GET /reject HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.is_closed());
    gate.wait_stat("fe/FRONTEND", "dreq", "3");
    gate.wait_stat("fe/FRONTEND", "intercepted", "5");
    assert_eq!(origin.notes().len(), 1);
    gate.finish();
}

#[test]
fn responses_are_changed_and_refused() {
    let origin = Origin::http(|request| {
        let status = request.start().split(['/', ' ']).nth(2).unwrap_or("200").to_owned();
        format!("HTTP/1.1 {status} X\r\nServer: secret\r\nX-Powered-By: php\r\nContent-Length: 2\r\n\r\nok")
    });
    let frontend = r#"
rules = [{ set-var = { name = "txn.path", value = "path" } }]
response-rules = [
  { del-header = "Server" },
  { del-header = { name = "^x-powered", match = "reg" } },
  { set-header = { name = "X-Path", value = "%[var(txn.path)]-%[status]" } },
  { set-status = { status = 404, reason = "Gone Fishing" }, if = "{ status 410 }" },
  { deny = true, if = "{ status 500 }" },
  { return = { status = 200, content-type = "text/plain", string = "instead" }, if = "{ status 501 }" },
]"#;
    let gate = http_gate(
        &origin,
        frontend,
        "response-rules = [{ add-header = { name = \"X-B\", value = \"b\" } }]",
        "",
    );
    let mut client = gate.wire("fe");
    for _ in 0..2 {
        let good = client.get("/200");
        assert_eq!(
            (good.header("server"), good.header("x-powered-by"), good.header("x-b")),
            (None, None, Some("b"))
        );
        assert_eq!(good.header("x-path"), Some("/200-200"));
        assert_eq!(client.get("/410").start(), "HTTP/1.1 404 Gone Fishing");
        assert_eq!(client.get("/500").status(), 502);
        assert_eq!(client.get("/501").text(), "instead");
        assert_eq!(client.get("/200").text(), "ok", "the connection goes on");
    }
    gate.wait_stat("be/s1", "dresp", "2");
    drop(client);
    gate.finish();
}

/// A frontend and a backend with two servers that have cookies.
fn two_servers(a: &Origin, b: &Origin, backend: &str) -> Shardgate {
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\n{backend}\n\
         server.a = {{ address = \"{}\", cookie = \"ca\" }}\nserver.b = {{ address = \"{}\", cookie = \"cb\" }}\n",
        a.address, b.address
    );
    Shardgate::with(&body).cores(1).defaults("mode = \"http\"").start()
}

fn get_with(gate: &Shardgate, headers: &str) -> Message {
    let mut client = gate.wire("fe");
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n"));
    client.response("GET")
}

#[test]
fn a_cookie_brings_a_client_back_to_its_server() {
    let (a, b) =
        (Origin::http(|r| ok(&format!("a {}", r.header("cookie").unwrap_or("-")))), Origin::http_named("b"));
    let gate = two_servers(&a, &b, "cookie = { name = \"SRV\", indirect = true, nocache = true }");
    let first = get_with(&gate, "");
    let cookie = first.header("set-cookie").expect("a cookie").to_owned();
    assert!(cookie == "SRV=ca; path=/" || cookie == "SRV=cb; path=/", "{cookie}");
    assert_eq!(first.header("cache-control"), Some("private"));
    for _ in 0..10 {
        let again = get_with(&gate, "Cookie: x=1; SRV=ca; y=2\r\n");
        assert_eq!(again.text(), "a x=1; y=2", "the server does not see our cookie");
        assert_eq!(again.header("set-cookie"), None);
        assert_eq!(get_with(&gate, "Cookie: SRV=cb\r\n").text(), "b");
    }
    assert_eq!(get_with(&gate, "Cookie: SRV=ca\r\n").text(), "a -");
    gate.ask("disable server be/b");
    let moved = get_with(&gate, "Cookie: SRV=cb\r\n");
    assert!(moved.text().starts_with('a'));
    assert_eq!(moved.header("set-cookie"), Some("SRV=ca; path=/"));
    gate.finish();
}

#[test]
fn cookies_of_the_application_carry_the_server() {
    let answer = |name: &'static str| {
        Origin::http(move |r| {
            let cookie = r.header("cookie").unwrap_or("-");
            let body = format!("{name} {cookie}");
            format!(
                "HTTP/1.1 200 OK\r\nSet-Cookie: JS=abc; Path=/\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        })
    };
    let (a, b) = (answer("a"), answer("b"));
    let gate = two_servers(&a, &b, "cookie = { name = \"JS\", mode = \"prefix\" }");
    for (sent, body, set) in
        [("JS=ca~abc", "a JS=abc", "JS=ca~abc; Path=/"), ("JS=cb~x", "b JS=x", "JS=cb~abc; Path=/")]
    {
        let message = get_with(&gate, &format!("Cookie: {sent}\r\n"));
        assert_eq!((message.text().as_str(), message.header("set-cookie")), (body, Some(set)));
    }
    gate.finish();
    let (a, b) = (answer("a"), answer("b"));
    let gate = two_servers(&a, &b, "cookie = { name = \"JS\", mode = \"rewrite\" }");
    let message = get_with(&gate, "Cookie: JS=cb\r\n");
    assert_eq!((message.text().as_str(), message.header("set-cookie")), ("b JS=cb", Some("JS=cb; Path=/")));
    gate.finish();
}

#[test]
fn backends_and_servers_are_chosen_by_rules_and_keys() {
    let (a, b) = (Origin::http_named("a"), Origin::http_named("b"));
    let body = format!(
        r#"
[frontend.fe]
bind = "127.0.0.1:0"
default-backend = "both"
rules = [
  {{ use-backend = "one", if = "{{ path_beg /one }}" }},
  {{ use-backend = "%[hdr(x-backend)]", if = "{{ hdr(x-backend) -m found }}" }},
]
[backend.one]
server.a = {{ address = "{a}" }}
[backend.both]
balance = "uri"
rules = [{{ use-server = "b", if = "{{ path /b }}" }}]
server.a = {{ address = "{a}" }}
server.b = {{ address = "{b}" }}
"#,
        a = a.address,
        b = b.address
    );
    let gate = Shardgate::with(&body).defaults("mode = \"http\"").start();
    let mut client = gate.wire("fe");
    assert_eq!(client.get("/one/x").text(), "a");
    assert_eq!(client.get("/b").text(), "b");
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..20 {
        let path = format!("/{number}");
        let text = client.get(&path).text();
        for query in ["", "?q=1", "?q=2"] {
            assert_eq!(
                client.get(&format!("{path}{query}")).text(),
                text,
                "the same path goes to the same server"
            );
        }
        seen.insert(text);
    }
    assert_eq!(seen.len(), 2);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Backend: one\r\n\r\n");
    assert_eq!(client.response("GET").text(), "a");
    client.send("GET /b HTTP/1.1\r\nHost: a\r\nX-Backend: nowhere\r\n\r\n");
    assert_eq!(client.response("GET").text(), "b", "an unknown name leaves the choice to default-backend");
    drop(client);
    gate.finish();
}

#[test]
fn allow_leaves_out_all_but_routing() {
    let (one, two) = (Origin::http_named("one"), Origin::http_named("two"));
    let frontend = r#"
rules = [
  { allow = true, if = "{ path_beg /free }" },
  { deny = true, if = "{ path_sub x }" },
  { use-backend = "two", if = "{ path_end /two }" },
]
[backend.two]
server.t = { address = "@TWO@" }
"#
    .replace("@TWO@", &two.address.to_string());
    let gate = http_gate(&one, &frontend, "", "");
    let mut client = gate.wire("fe");
    for (path, status, text) in
        [("/free/x", 200, "one"), ("/free/x/two", 200, "two"), ("/x/two", 403, ""), ("/two", 200, "two")]
    {
        let response = client.get(path);
        assert_eq!(response.status(), status, "{path}");
        assert!(status != 200 || response.text() == text, "{path}");
        if status != 200 {
            client = gate.wire("fe");
        }
    }
}

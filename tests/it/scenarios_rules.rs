//! The pages of docs/scenarios about rules, each with the very configuration that it shows.

use crate::harness::Origin;
use crate::harness::http::{Message, Wire, ok};
use crate::harness::scenario::scenario;

/// Says its name and the target that it saw.
fn named(name: &'static str) -> Origin {
    Origin::http(move |request| ok(&format!("{name} {}", request.start().split(' ').nth(1).unwrap_or("-"))))
}

fn ask(client: &mut Wire, host: &str, path: &str, headers: &str) -> Message {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n"));
    client.response("GET")
}

#[test]
fn route_by_url() {
    let (shop, api, files, partner) = (named("shop"), named("api"), named("static"), named("partner"));
    let map = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(map.path(), "www.example.com/partner/  partner\nold.example.com/ shop\n")
        .expect("our own file");
    let [a, b, c, d] = [&shop, &api, &files, &partner].map(|origin| origin.address.to_string());
    let gate = scenario(
        "route-by-url",
        &[
            ("*:80", "127.0.0.1:0"),
            ("192.0.2.11:8080", &a),
            ("192.0.2.21:8080", &b),
            ("192.0.2.31:8080", &c),
            ("192.0.2.41:8080", &d),
            ("/etc/shardgate/routes.map", &map.path().to_string_lossy()),
        ],
    )
    .start();
    let mut client = gate.wire("public");
    for (host, path, expected) in [
        ("www.example.com", "/", "shop /"),
        ("www.example.com", "/static/logo.png", "static /static/logo.png"),
        ("www.example.com", "/site.CSS", "static /site.CSS"),
        ("API.example.com", "/v1/items", "api /v1/items"),
        ("www.example.com", "/api/v1/items", "api /v1/items"),
        ("WWW.example.com", "/partner/x", "partner /partner/x"),
        ("old.example.com", "/partner/x", "shop /partner/x"),
        ("other.example.com", "/", "shop /"),
    ] {
        assert_eq!(ask(&mut client, host, path, "").text(), expected, "{host} {path}");
    }
    drop(client);
    gate.finish();
}

#[test]
fn protect_a_path() {
    let origin = named("page");
    let address = origin.address.to_string();
    let gate = scenario(
        "protect-a-path",
        &[("*:80", "127.0.0.1:0"), ("127.0.0.1:8443", "127.0.0.1:0"), ("192.0.2.10:80", &address)],
    )
    .start();
    let (mut clear, mut secure) = (gate.wire("Public-HTTP"), gate.wire("Public-HTTPS"));
    for path in ["/MyWebPage/", "/mywebpage", "//MyWebPage", "/x/../%6dywebpage", "/./MYWEBPAGE?x"] {
        assert_eq!(ask(&mut clear, "h", path, "").status(), 403, "{path}");
        assert_eq!(ask(&mut secure, "h", path, "").status(), 200, "{path}");
    }
    assert_eq!(ask(&mut clear, "h", "/other", "").text(), "page /other");
    drop((clear, secure));
    gate.finish();
}

#[test]
fn basic_auth() {
    let origin = Origin::http(|r| {
        ok(&format!(
            "{} {}",
            r.header("x-user").unwrap_or("-"),
            r.header("authorization").unwrap_or("hidden")
        ))
    });
    let address = origin.address.to_string();
    let gate =
        scenario("basic-auth", &[("127.0.0.1:8443", "127.0.0.1:0"), ("192.0.2.10:80", &address)]).start();
    let mut client = gate.wire("Public-HTTPS");
    let asked = ask(&mut client, "h", "/", "");
    assert_eq!((asked.status(), asked.header("www-authenticate")), (401, Some("Basic realm=\"AcmeCorp\"")));
    // joebloggs:secret, jane:secret, jane:wrong
    let joe = "Authorization: Basic am9lYmxvZ2dzOnNlY3JldA==\r\n";
    let jane = "Authorization: Basic amFuZTpzZWNyZXQ=\r\n";
    for _ in 0..2 {
        assert_eq!(ask(&mut client, "h", "/reports/", joe).text(), "joebloggs hidden");
        assert_eq!(ask(&mut client, "h", "/", jane).text(), "jane hidden");
        assert_eq!(ask(&mut client, "h", "/reports/", jane).status(), 403);
        assert_eq!(ask(&mut client, "h", "/", "Authorization: Basic amFuZTp3cm9uZw==\r\n").status(), 401);
    }
    drop(client);
    gate.finish();
}

#[test]
fn strip_banners() {
    let origin = Origin::http(|_| {
        "HTTP/1.1 200 OK\r\nServer: IIS/7.5\r\nX-Powered-By: ASP.NET\r\nx-aspnet-version: 4.0\r\nX-Other: 1\r\nContent-Length: 0\r\n\r\n"
            .to_owned()
    });
    let address = origin.address.to_string();
    let gate = scenario(
        "strip-banners",
        &[("*:80", "127.0.0.1:0"), ("192.0.2.1:8080", "127.0.0.1:0"), ("192.0.2.10:80", &address)],
    )
    .start();
    let (mut wan, mut lan) = (gate.wire("Public-HTTP"), gate.wire("Internal-HTTP"));
    for _ in 0..3 {
        let outside = ask(&mut wan, "h", "/", "");
        for name in ["server", "x-powered-by", "x-aspnet-version"] {
            assert_eq!(outside.header(name), None, "{name}");
        }
        assert_eq!(outside.header("x-other"), Some("1"));
        assert_eq!(ask(&mut lan, "h", "/", "").header("server"), Some("IIS/7.5"));
    }
    drop((wan, lan));
    gate.finish();
}

#[test]
fn redirects_behind_tls() {
    let origin = Origin::http(|r| {
        let to = r.header("x-to").unwrap_or("/").to_owned();
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
    });
    let address = origin.address.to_string();
    let gate = scenario(
        "redirects-behind-tls",
        &[("*:80", "127.0.0.1:0"), ("127.0.0.1:8443", "127.0.0.1:0"), ("192.0.2.10:80", &address)],
    )
    .start();
    let mut clear = gate.wire("Public-HTTP");
    let first = ask(&mut clear, "www.example.com", "/old?x=1", "");
    assert_eq!((first.status(), first.header("location")), (301, Some("https://www.example.com/old?x=1")));
    let mut secure = gate.wire("Public-HTTPS");
    for (to, expected) in [
        ("http://www.example.com/new", "https://www.example.com/new"),
        ("http://www.example.com:8080/new", "https://www.example.com/new"),
        ("http://other.example.com/", "http://other.example.com/"),
        (
            "/login?Redirect=http%3a%2f%2fwww.example.com%2fa",
            "/login?Redirect=https%3a%2f%2fwww.example.com%2fa",
        ),
        ("/relative", "/relative"),
    ] {
        let answer = ask(&mut secure, "www.example.com", "/old", &format!("X-To: {to}\r\n"));
        assert_eq!(answer.header("location"), Some(expected), "{to}");
    }
    drop((clear, secure));
    gate.finish();
}

#[test]
fn protocol_validation() {
    let web = named("web");
    let farm = Origin::wire(|wire, _| {
        while wire.request().is_some() {
            wire.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            );
            while let Ok(bytes) = wire.exactly(1) {
                wire.send(bytes);
            }
        }
    });
    let (a, b) = (web.address.to_string(), farm.address.to_string());
    let gate = scenario(
        "protocol-validation",
        &[("*:80", "127.0.0.1:0"), ("192.0.2.11:80", &a), ("192.0.2.21:80", &b)],
    )
    .start();
    let whole = [
        "Connection: Upgrade\r\n",
        "Upgrade: websocket\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Sec-WebSocket-Version: 13\r\n",
    ];
    let mut client = gate.wire("ft_web");
    assert_eq!(ask(&mut client, "www.example.com", "/x", "").text(), "web /x");
    for missing in 0..whole.len() {
        let some: String =
            whole.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, h)| *h).collect();
        let headers = format!("{some}Sec-WebSocket-Protocol: chat\r\n");
        assert_eq!(ask(&mut client, "ws.example.com", "/", &headers).status(), 400, "{headers}");
    }
    let headers = format!("{}Sec-WebSocket-Protocol: telnet\r\n", whole.concat());
    assert_eq!(ask(&mut client, "ws.example.com", "/", &headers).status(), 403);
    let headers = format!("{}Sec-WebSocket-Protocol: chat\r\n", whole.concat());
    assert_eq!(ask(&mut client, "ws.example.com", "/", &headers).status(), 101);
    client.send("echo");
    assert_eq!(client.exactly(4).expect("an echo"), b"echo");
    let mut smuggler = gate.wire("ft_web");
    smuggler.send("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(smuggler.response("GET").status(), 400);
    let reasons = gate.ask("show errors reasons");
    assert!(reasons.lines().any(|l| l.starts_with("request length-with-coding 400 1 ")), "{reasons}");
    drop((client, smuggler));
    gate.finish();
}

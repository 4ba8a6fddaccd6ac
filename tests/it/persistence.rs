//! Persistence by cookie with each of its options, its exceptions, and what balancing looks at.

use std::collections::BTreeSet;

use crate::harness::http::{Message, ok};
use crate::harness::{Origin, Shardgate};

/// A backend with two servers, on one core so that round robin takes turns.
fn gate(a: &Origin, b: &Origin, backend: &str, fixed: bool) -> Shardgate {
    let cookie = |value: &str| if fixed { format!(", cookie = \"{value}\"") } else { String::new() };
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\n{backend}\n\
         server.a = {{ address = \"{}\"{} }}\nserver.b = {{ address = \"{}\"{} }}\n",
        a.address,
        cookie("ca"),
        b.address,
        cookie("cb")
    );
    Shardgate::with(&body).cores(1).defaults("mode = \"http\"").start()
}

fn ask(gate: &Shardgate, start: &str, headers: &str) -> Message {
    let mut client = gate.wire("fe");
    client.send(format!("{start} HTTP/1.1\r\nHost: a\r\n{headers}\r\n"));
    client.response("GET")
}

fn value(message: &Message) -> String {
    let line = message.header("set-cookie").unwrap_or_else(|| panic!("no cookie in {}", message.head));
    line.split(';').next().unwrap_or_default().to_owned()
}

#[test]
fn each_option_shows_in_the_cookie() {
    let (a, b) = (Origin::http_named("a"), Origin::http_named("a"));
    for (options, attributes) in [
        ("", "path=/"),
        ("httponly = true", "path=/; HttpOnly"),
        ("secure = true", "path=/; Secure"),
        ("domain = [\".example.com\"]", "path=/; domain=.example.com"),
        ("attr = [\"SameSite=Lax\", \"Priority=High\"]", "path=/; SameSite=Lax; Priority=High"),
    ] {
        let comma = if options.is_empty() { "" } else { ", " };
        let gate = gate(&a, &b, &format!("cookie = {{ name = \"SRV\"{comma}{options} }}"), true);
        let message = ask(&gate, "GET /", "");
        let line = message.header("set-cookie").expect("a cookie").to_ascii_lowercase();
        let (value, rest) = line.split_once("; ").expect("attributes");
        assert!(value == "srv=ca" || value == "srv=cb", "{line}");
        let words =
            |text: &str| text.to_ascii_lowercase().split("; ").map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(words(rest), words(attributes), "{options}");
        assert_eq!(message.header("cache-control"), None, "{options}");
        gate.finish();
    }
}

#[test]
fn postonly_sets_it_in_answers_to_post_alone() {
    let (a, b) = (Origin::http_named("x"), Origin::http_named("x"));
    let gate = gate(&a, &b, "cookie = { name = \"SRV\", postonly = true }", true);
    assert_eq!(ask(&gate, "GET /", "").header("set-cookie"), None);
    assert!(value(&ask(&gate, "POST /", "Content-Length: 0\r\n")).starts_with("SRV=c"));
    gate.finish();
}

#[test]
fn preserve_leaves_the_servers_word_alone() {
    let answer =
        || Origin::http(|_| "HTTP/1.1 200 OK\r\nSet-Cookie: SRV=own\r\nContent-Length: 0\r\n\r\n".to_owned());
    let (a, b) = (answer(), answer());
    for (preserve, expected) in [(true, vec!["SRV=own"]), (false, vec!["SRV=ca; path=/"])] {
        let gate = gate(&a, &b, &format!("cookie = {{ name = \"SRV\", preserve = {preserve} }}"), true);
        let message = ask(&gate, "GET /", "");
        let mut seen = message.all("set-cookie");
        seen.iter_mut().for_each(|line| {
            if *line == "SRV=cb; path=/" {
                *line = "SRV=ca; path=/";
            }
        });
        assert_eq!(seen, expected, "preserve = {preserve}");
        gate.finish();
    }
}

#[test]
fn dates_in_the_cookie_bound_its_life() {
    let (a, b) = (Origin::http_named("a"), Origin::http_named("b"));
    let gate = gate(
        &a,
        &b,
        "cookie = { name = \"SRV\", maxidle = \"30m\", maxlife = \"8h\", indirect = true }",
        true,
    );
    let first = ask(&gate, "GET /", "");
    let cookie = value(&first);
    // The value carries the server and two dates.
    assert_eq!(cookie.split('|').count(), 3, "{cookie}");
    for _ in 0..4 {
        assert_eq!(ask(&gate, "GET /", &format!("Cookie: {cookie}\r\n")).text(), first.text());
    }
    // Dates of long ago: it is ignored, the client balanced anew, and it gets a fresh cookie.
    let server = cookie.split('|').next().expect("a part").to_owned();
    let old = ask(&gate, "GET /", &format!("Cookie: {server}|AAAAA|AAAAA\r\n"));
    assert!(old.header("set-cookie").is_some(), "{}", old.head);
    gate.finish();
}

#[test]
fn dynamic_cookies_agree_between_load_balancers_with_one_key() {
    let (a, b) = (Origin::http_named("a"), Origin::http_named("b"));
    let with = |key: &str| {
        gate(
            &a,
            &b,
            &format!("cookie = {{ name = \"SRV\", dynamic = true }}\ndynamic-cookie-key = \"{key}\""),
            false,
        )
    };
    let (one, two, other) = (with("k"), with("k"), with("another"));
    let first = ask(&one, "GET /", "");
    let cookie = value(&first);
    for gate in [&one, &two] {
        for _ in 0..4 {
            assert_eq!(ask(gate, "GET /", &format!("Cookie: {cookie}\r\n")).text(), first.text());
        }
    }
    let texts: BTreeSet<String> =
        (0..4).map(|_| ask(&other, "GET /", &format!("Cookie: {cookie}\r\n")).text()).collect();
    assert_eq!(texts.len(), 2, "it means nothing under another key");
    for gate in [one, two, other] {
        gate.finish();
    }
}

#[test]
fn persistence_can_be_ignored_and_forced() {
    let (a, b) = (Origin::http_named("a"), Origin::http_named("b"));
    let backend = "cookie = { name = \"SRV\" }\nignore-persist = \"{ path_beg /static/ }\"\nforce-persist = \"{ path_beg /debug/ }\"";
    let gate = gate(&a, &b, backend, true);
    let texts = |path: &str| -> BTreeSet<String> {
        (0..6).map(|_| ask(&gate, &format!("GET {path}"), "Cookie: SRV=ca\r\n").text()).collect()
    };
    let only = |name: &str| BTreeSet::from([name.to_owned()]);
    assert_eq!(texts("/x"), only("a"));
    assert_eq!(texts("/static/x").len(), 2);
    // Drained: sticky clients stay, others go elsewhere.
    gate.ask("set server be/a state drain");
    gate.wait_stat("be/a", "status", "DRAIN");
    assert_eq!(texts("/x"), only("a"));
    assert_eq!(texts("/static/x"), only("b"));
    // Maintenance: only who is forced.
    gate.ask("set server be/a state maint");
    gate.wait_stat("be/a", "status", "MAINT");
    assert_eq!(texts("/x"), only("b"));
    assert_eq!(texts("/debug/x"), only("a"));
    gate.finish();
}

#[test]
fn balancing_looks_at_parameters_headers_and_parts_of_the_target() {
    // (balance, a request for each of 24 values, another way to say the same)
    for (balance, one, same) in [
        ("url_param user", "GET /a?x=1&user=@", "GET /other?user=@&y=2"),
        ("hdr(X-User)", "GET /", "GET /other"),
        ("uri", "GET /@", "GET /@?q=1"),
        ("uri whole", "GET /p?@", "GET /p?@"),
        ("uri depth 1", "GET /@/x", "GET /@/y/z"),
        ("uri len 4", "GET /@@@@@@xx", "GET /@@@@@@yy"),
    ] {
        let (a, b) = (Origin::http(|_| ok("a")), Origin::http(|_| ok("b")));
        let gate = gate(&a, &b, &format!("balance = \"{balance}\""), false);
        let mut seen = BTreeSet::new();
        for value in 'a'..='x' {
            let header = format!("X-User: {value}\r\n");
            let say = |start: &str| ask(&gate, &start.replace('@', &value.to_string()), &header).text();
            let first = say(one);
            assert_eq!(say(same), first, "{balance} {value}");
            assert_eq!(say(one), first, "{balance} {value}");
            seen.insert(first);
        }
        assert_eq!(seen.len(), 2, "{balance} spreads");
        gate.finish();
    }
}

#[test]
fn limits_of_the_idle_pool_hold() {
    for (keywords, connections, idle) in
        [("", 1, "1"), ("pool-max-conn = 0", 6, "0"), ("max-reuse = 1", 3, "0"), ("max-reuse = 0", 6, "0")]
    {
        let origin = Origin::http_named("x");
        let body = crate::harness::http::sections(&origin, "", "http-reuse = \"always\"", keywords);
        let gate = Shardgate::with(&body).cores(1).defaults("mode = \"http\"").start();
        let mut client = gate.wire("fe");
        for _ in 0..6 {
            assert_eq!(client.get("/").text(), "x");
        }
        drop(client);
        assert_eq!(origin.accepted(), connections, "{keywords}");
        gate.wait_stat("be/s1", "srv_icur", idle);
        gate.finish();
    }
    let origin = Origin::http_named("x");
    let body =
        crate::harness::http::sections(&origin, "", "http-reuse = \"always\"", "pool-purge-delay = \"1ms\"");
    let gate = Shardgate::with(&body).cores(1).defaults("mode = \"http\"").start();
    let mut client = gate.wire("fe");
    client.get("/");
    gate.wait_stat("be/s1", "srv_icur", "0");
    client.get("/");
    assert_eq!(origin.accepted(), 2, "it was closed while nobody needed it");
    drop(client);
    gate.finish();
}

//! Stick tables: counters by key over all cores, what rules make of them, persistence by table, and the admin socket.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::gate::binary;
use crate::harness::http::{Wire, ok};
use crate::harness::peers::Peer;
use crate::harness::{Origin, Shardgate, connect_from, eventually, until};

const TABLE: &str = "stick-table = { type = \"ip\", size = \"1k\", expire = \"10m\", \
    store = [\"gpc0\", \"gpt0\", \"conn_cur\", \"conn_cnt\", \"conn_rate(1h)\", \"sess_cnt\", \"http_req_cnt\", \"http_req_rate(1h)\", \
    \"http_err_cnt\", \"http_fail_cnt\", \"bytes_in_cnt\", \"bytes_out_cnt\"] }";

fn gate(origin: &Origin, frontend: &str, cores: usize) -> Shardgate {
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n{TABLE}\n{frontend}\n[backend.be]\nserver.a = {{ address = \"{}\" }}\n",
        origin.address
    );
    Shardgate::with(&body).cores(cores).defaults("mode = \"http\"").start()
}

fn get(gate: &Shardgate, path: &str) -> u16 {
    gate.wire("fe").get(path).status()
}

/// The value of a column in a line of `show table`.
fn column(line: &str, name: &str) -> Option<u64> {
    line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

#[test]
fn requests_of_an_address_are_limited_on_all_cores_together() {
    let origin = Origin::http(|_| ok("x"));
    let rules = "connection-rules = [{ track-sc0 = \"src\" }]\n\
         rules = [{ deny = { status = 429 }, if = \"{ sc_http_req_rate(0) gt 20 }\" }]";
    let gate = gate(&origin, rules, 2);
    // Each connection may land on either core; in the end both know that there were more than 20.
    until("requests are refused", || get(&gate, "/") == 429);
    let mut refused = 0;
    until("both cores refuse", || {
        refused = if get(&gate, "/") == 429 { refused + 1 } else { 0 };
        refused == 10
    });
    let other = {
        let mut wire = Wire::new(connect_from("127.0.0.2", gate.address("fe")));
        wire.get("/").status()
    };
    assert_eq!(other, 200, "another address counts for itself");
    let shown = gate.ask("show table fe key 127.0.0.2");
    let line = shown.lines().nth(1).expect("an entry");
    assert_eq!(column(line, "http_req_cnt"), Some(1), "{shown}");
    assert_eq!(column(line, "sess_cnt"), Some(1), "{shown}");
    assert!(line.contains("http_req_rate(3600000)=1"), "{shown}");
    gate.finish();
}

#[test]
fn what_is_counted_is_what_happened() {
    let origin = Origin::http(|request| match request.start() {
        start if start.contains("/404") => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        start if start.contains("/500") => "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_owned(),
        start if start.contains("/501") => "HTTP/1.1 501 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
        _ => ok("0123456789"),
    });
    let rules = "connection-rules = [{ track-sc0 = \"src\" }]\n\
         rules = [{ sc-inc-gpc0 = 0, if = \"{ path /inc }\" }, { sc-set-gpt0 = { value = \"url_param(tag)\" }, if = \"{ path /tag }\" },\n\
         { deny = true, if = \"{ path /deny }\" }, { return = { string = \"yes\" }, if = \"{ path /is } { sc0_get_gpc0 gt 1 } { src_get_gpt0 7 } { src,table_gpc0(fe) 2 } { src,in_table(fe) }\" },\n\
         { return = { lf-string = \"%[sc_conn_cur(0)] %[sc0_http_req_cnt] %[sc_tracked(0)] %[sc_tracked(1)] %[src_http_err_cnt]\" }, if = \"{ path /show }\" }]";
    let gate = gate(&origin, rules, 2);
    let mut wire = gate.wire("fe");
    let statuses = ["/", "/404", "/500", "/501", "/inc", "/inc", "/tag?tag=7", "/is"]
        .map(|path| wire.get(path).status());
    assert_eq!(statuses, [200, 404, 500, 501, 200, 200, 200, 200]);
    assert_eq!(wire.get("/show").text(), "1 9 1 0 1");
    let mut second = gate.wire("fe");
    assert_eq!(second.get("/deny").status(), 403);
    until("all is counted", || {
        let shown = gate.ask("show table fe");
        let line = shown.lines().nth(1).unwrap_or_default().to_owned();
        let counted = [
            "conn_cur",
            "conn_cnt",
            "sess_cnt",
            "http_req_cnt",
            "http_err_cnt",
            "http_fail_cnt",
            "gpc0",
            "gpt0",
        ]
        .map(|name| column(&line, name).unwrap_or(999));
        counted == [2, 2, 2, 10, 2, 1, 2, 7]
            && column(&line, "bytes_in_cnt").is_some_and(|bytes| bytes > 300)
            && column(&line, "bytes_out_cnt").is_some_and(|bytes| bytes > 300)
    });
    drop((wire, second));
    until("the connections are over", || gate.ask("show table fe").contains("conn_cur=0"));
    gate.finish();
}

#[test]
fn a_request_may_track_what_it_says_itself() {
    let origin = Origin::http(|_| ok("x"));
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n\
         rules = [{{ track-sc1 = {{ key = \"req.hdr(X-Key),lower\", table = \"keys\" }} }}, {{ deny = {{ status = 429 }}, if = \"{{ sc1_http_req_rate gt 2 }}\" }}]\n\
         [backend.be]\nserver.a = {{ address = \"{}\" }}\n\
         [backend.keys]\nstick-table = {{ type = \"string\", len = 8, size = \"10\", expire = \"1m\", store = [\"http_req_rate(1h)\", \"conn_cur\"] }}\n",
        origin.address
    );
    let gate = Shardgate::with(&body).cores(1).defaults("mode = \"http\"").start();
    let ask = |key: &str| {
        let mut wire = gate.wire("fe");
        wire.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{key}\r\n"));
        wire.response("GET").status()
    };
    let (one, two) = ("X-Key: One\r\n", "X-Key: two-and-a-long-tail\r\n");
    assert_eq!([one, two, one, one, one, ""].map(ask), [200, 200, 200, 429, 429, 200]);
    let shown = gate.ask("show table keys");
    assert!(shown.starts_with("# table: keys, type: string, size:10, used:2\n"), "{shown}");
    assert!(shown.contains("key=one use=0 exp=") && shown.contains("key=two-and- "), "{shown}");
    assert!(shown.contains("http_req_rate(3600000)=4"), "{shown}");
    assert!(
        shown.lines().filter(|line| line.starts_with("0x")).all(|line| column(line, "conn_cur") == Some(0)),
        "{shown}"
    );
    gate.finish();
}

#[test]
fn the_admin_socket_shows_sets_and_clears() {
    let origin = Origin::http(|_| ok("x"));
    let rules = "rules = [{ return = { lf-string = \"%[src_get_gpt0]\" } }]";
    let mut gate = gate(&origin, rules, 2);
    assert_eq!(gate.ask("show table"), "# table: fe, type: ip, size:1024, used:0\n\n");
    assert_eq!(gate.ask("set table fe key 127.0.0.1 data.gpt0 7 data.gpc0 2").trim(), "");
    assert_eq!(gate.ask("set table fe key 192.0.2.1 data.gpc0 9").trim(), "");
    for _ in 0..10 {
        // Whichever core answers.
        eventually("both know it", || (gate.wire("fe").get("/").text() == "7").then_some(()));
    }
    let keys = |filter: &str| {
        let shown = gate.ask(&format!("show table fe {filter}"));
        let mut keys: Vec<String> = shown
            .lines()
            .filter_map(|line| Some(line.split_once("key=")?.1.split(' ').next()?.to_owned()))
            .collect();
        keys.sort();
        keys.join(" ")
    };
    assert_eq!(keys(""), "127.0.0.1 192.0.2.1");
    assert_eq!(keys("data.gpc0 gt 2"), "192.0.2.1");
    assert_eq!(keys("data.gpc0 ge 2 data.gpt0 eq 7"), "127.0.0.1");
    assert_eq!(keys("key 127.0.0.1"), "127.0.0.1");
    for (command, message) in [
        ("show table nothing", "No such table."),
        ("show table fe key x", "is no key of type ip"),
        ("show table fe data.gpc1 eq 1", "not stored in this table"),
        ("show table fe data.gpc0 is 1", "among"),
        ("show table fe data.gpc0 eq x", "valid integer"),
        ("set table fe 127.0.0.1", "Required arguments"),
        ("clear table", "No such table."),
    ] {
        let answer = gate.ask(command);
        assert!(answer.contains(message), "{command}: {answer}");
    }
    // A reload keeps what is there.
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\nstick-table = {{ type = \"ip\", size = \"2k\", expire = \"10m\", store = [\"conn_cnt\", \"gpc0\"] }}\n\
         [backend.be]\nserver.a = {{ address = \"{}\" }}\n",
        origin.address
    );
    gate.reload(&body);
    let shown = gate.ask("show table fe key 192.0.2.1");
    assert!(shown.contains("size:2048, used:2") && shown.contains("gpc0=9 conn_cnt=0"), "{shown}");
    assert_eq!(gate.ask("clear table fe key 192.0.2.1").trim(), "");
    assert!(gate.ask("show table").contains("used:1"));
    assert_eq!(gate.ask("clear table fe").trim(), "");
    assert!(gate.ask("show table").contains("used:0"));
    gate.finish();
}

#[test]
fn connections_in_tcp_mode_are_counted_and_refused() {
    let origin = Origin::named("x");
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\nstick-table = {{ type = \"ip\", size = \"1k\", store = [\"conn_cur\"] }}\n\
         connection-rules = [{{ track-sc0 = \"src\" }}, {{ reject = true, if = \"{{ sc_conn_cur(0) gt 2 }}\" }}]\n\
         [backend.be]\nserver.a = {{ address = \"{}\" }}\n",
        origin.address
    );
    let gate = Shardgate::with(&body).cores(1).defaults("mode = \"tcp\"").start();
    let open: Vec<_> = (0..2).map(|_| gate.connect("fe")).collect();
    until("both are counted", || gate.ask("show table fe").contains("conn_cur=2"));
    let mut third = gate.wire("fe");
    assert!(third.is_closed(), "one too many");
    drop(open);
    until("they are over", || gate.ask("show table fe").contains("conn_cur=0"));
    gate.finish();
}

#[test]
fn a_client_comes_back_to_the_server_of_its_address() {
    let (a, b) = (Origin::http_named("a"), Origin::http_named("b"));
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\n\
         stick-table = {{ type = \"ip\", size = \"1k\", expire = \"10m\" }}\nstick = [{{ on = \"src\" }}]\n\
         server.a = {{ address = \"{}\", id = 11 }}\nserver.b = {{ address = \"{}\", id = 12 }}\n",
        a.address, b.address
    );
    for cores in [1, 2] {
        let gate = Shardgate::with(&body).cores(cores).defaults("mode = \"http\"").start();
        let ask = |source: &str| Wire::new(connect_from(source, gate.address("fe"))).get("/").text();
        let mut used = std::collections::BTreeSet::new();
        for source in ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"] {
            let first = ask(source);
            // What one core remembers the other one knows a moment later.
            until("it is remembered", || {
                gate.ask(&format!("show table be key {source}")).contains("server_id=1")
            });
            for _ in 0..4 {
                assert_eq!(ask(source), first, "{source} on {cores} cores");
            }
            used.insert(first);
        }
        assert_eq!(used.len(), 2, "both servers are used");
        // The table has the last word while its server is up.
        let id = if ask("127.0.0.1") == "a" { 12 } else { 11 };
        let other = if id == 12 { "b" } else { "a" };
        gate.ask(&format!("set table be key 127.0.0.1 data.server_id {id}"));
        until("both cores know it", || (0..4).all(|_| ask("127.0.0.1") == other));
        gate.ask(&format!("disable server be/{other}"));
        assert_ne!(ask("127.0.0.1"), other, "a server in maintenance is left");
        gate.finish();
    }
}

/// A request that went where the table said tells nothing new: what was set while it was under way stays.
#[test]
fn what_is_set_during_a_request_is_not_taken_back_by_it() {
    let is_released = Arc::new(AtomicBool::new(false));
    let waits = is_released.clone();
    let a = Origin::http(move |request| {
        if request.start().contains("/hold") {
            until("the table to be set", || waits.load(Ordering::Relaxed));
        }
        ok("a")
    });
    let b = Origin::http_named("b");
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\nbalance = \"first\"\n\
         stick-table = {{ type = \"ip\", size = \"1k\", expire = \"10m\" }}\nstick = [{{ on = \"src\" }}]\n\
         server.a = {{ address = \"{}\", id = 11 }}\nserver.b = {{ address = \"{}\", id = 12 }}\n",
        a.address, b.address
    );
    let gate = Shardgate::with(&body).cores(1).defaults("mode = \"http\"").start();
    let mut client = gate.wire("fe");
    assert_eq!(client.get("/").text(), "a");
    client.send("GET /hold HTTP/1.1\r\nHost: h\r\n\r\n");
    a.wait_for_notes(2);
    gate.ask("set table be key 127.0.0.1 data.server_id 12");
    until("it is set", || gate.ask("show table be key 127.0.0.1").contains("server_id=12"));
    is_released.store(true, Ordering::Relaxed);
    assert_eq!(client.response("GET").text(), "a");
    assert_eq!(client.get("/").text(), "b");
    drop(client);
    gate.finish();
}

#[test]
fn a_response_names_the_key_of_its_server() {
    let origin = |name: &'static str| {
        Origin::http(move |_| {
            format!("HTTP/1.1 200 OK\r\nX-Session: of-{name}\r\nContent-Length: 1\r\n\r\n{name}")
        })
    };
    let (a, b) = (origin("a"), origin("b"));
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\n\
         stick-table = {{ type = \"string\", size = \"1k\" }}\n\
         stick = [{{ match = \"req.hdr(X-Session)\" }}, {{ store-response = \"res.hdr(X-Session)\" }}]\n\
         server.a = {{ address = \"{}\" }}\nserver.b = {{ address = \"{}\" }}\n",
        a.address, b.address
    );
    let gate = Shardgate::with(&body).cores(1).defaults("mode = \"http\"").start();
    let ask = |session: &str| {
        let mut wire = gate.wire("fe");
        wire.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{session}\r\n"));
        wire.response("GET").text()
    };
    // Round robin shows both to the table.
    assert_ne!(ask(""), ask(""));
    for _ in 0..3 {
        assert_eq!(ask("X-Session: of-a\r\n"), "a");
        assert_eq!(ask("X-Session: of-b\r\n"), "b");
    }
    gate.finish();
}

#[test]
fn haproxy_counts_the_same() {
    let origin = Origin::http(|request| match request.start().contains("/404") {
        true => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        false => ok("x"),
    });
    let sections = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
         backend st_err\n stick-table type string len 20 size 1k expire 1m store http_err_rate(1h),gpc0,gpc0_rate(1h)\n\
         frontend f\n bind @ADDRESS@\n stick-table type ip size 100k expire 30s store conn_cur,conn_rate(1h),http_req_rate(1h),http_err_rate(1h),gpc0,gpt0,sess_cnt\n\
         tcp-request connection track-sc0 src\n tcp-request content track-sc1 req.hdr(x-user) table st_err if {{ req.hdr(x-user) -m found }}\n\
         http-request sc-inc-gpc0(0) if {{ path_beg /inc }}\n http-request sc-set-gpt0(0) 5 if {{ path /tag }}\n http-request sc-inc-gpc0(1) if {{ path_beg /both }}\n\
         http-request deny deny_status 429 if {{ sc_http_err_rate(0) gt 3 }} !{{ path_beg /show }}\n http-request deny if {{ path /deny }}\n\
         http-request return status 200 content-type text/plain lf-string \"%[sc_conn_cur(0)] %[sc0_http_req_rate] %[sc0_http_err_rate] %[sc_get_gpc0(0)] %[sc0_get_gpt0] %[sc1_http_err_rate] %[sc1_get_gpc0] %[sc1_gpc0_rate] %[sc0_tracked] %[sc1_tracked] %[sc2_tracked] %[sc0_sess_cnt] %[src_get_gpc0(f)] %[req.hdr(x-user),table_gpc0(st_err)] %[req.hdr(x-user),in_table(st_err)] %[src_clr_gpc0(f)] %[src_inc_gpc0(f)]\" if {{ path_beg /show }}\n\
         default_backend b\nbackend b\n server a {}\n",
        origin.address
    );
    let theirs = Peer::haproxy(&sections);
    let ours = Peer::in_haproxys_place(&sections);
    let requests = [
        ("/", ""),
        ("/inc", ""),
        ("/show", ""),
        ("/404", "X-User: u\r\n"),
        ("/show", ""),
        ("/tag", ""),
        ("/both", "X-User: u\r\n"),
        ("/show", "X-User: u\r\n"),
        ("/show", "X-User: v\r\n"),
        ("/deny", ""),
        ("/404", "X-User: u\r\n"),
        ("/show", "X-User: u\r\n"),
        ("/404", ""),
        ("/", ""),
        ("/show", ""),
    ];
    // One connection, from an address that nobody probed from: what it counts is counted in order, on one core.
    let [mut a, mut b] = [&theirs, &ours].map(|peer| Wire::new(connect_from("127.0.0.2", peer.address)));
    for (path, header) in requests {
        let [left, right] = [&mut a, &mut b].map(|wire| {
            wire.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{header}\r\n"));
            let message = wire.response("GET");
            let text = if path == "/show" { message.text() } else { String::new() };
            (message.status(), text)
        });
        assert_eq!(left, right, "HAProxy and here, {path} {header}");
    }
}

#[test]
fn the_configurations_of_the_page_load() {
    let page = include_str!("../../docs/STICK_TABLES.md");
    let dir = tempfile::tempdir().expect("a directory");
    let blocks = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let mut count = 0;
    for (at, block) in blocks.enumerate() {
        let file = dir.path().join(format!("{at}.toml"));
        std::fs::write(&file, block).expect("our own directory");
        let output =
            Command::new(binary()).arg("check").arg("-c").arg(&file).output().expect("the binary runs");
        assert!(output.status.success(), "{block}\n{}", String::from_utf8_lossy(&output.stderr));
        count += 1;
    }
    assert_eq!(count, 3);
}

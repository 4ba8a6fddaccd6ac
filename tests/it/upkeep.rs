//! What takes servers out and in beside their own checks: errors of traffic, agents, other servers; limits that move with
//! the load, and clients that leave.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::harness::http::{http_gate, ok, sections};
use crate::harness::{Origin, Shardgate, until};

#[test]
fn errors_of_traffic_take_a_server_down() {
    // The check is slow and always content; only traffic knows better. (on-error, errors until it is down)
    for (on_error, fall, errors) in [("mark-down", 5, 4), ("sudden-death", 5, 8), ("fail-check", 1, 4)] {
        let status = Arc::new(AtomicU16::new(500));
        let mine = Arc::clone(&status);
        let origin = Origin::http(move |request| {
            if request.start().starts_with("OPTIONS") || request.start().contains("/good") {
                return ok("fine");
            }
            format!("HTTP/1.1 {} So\r\nContent-Length: 0\r\n\r\n", mine.load(Ordering::Acquire))
        });
        let keywords = format!(
            "check = true\ninter = \"1h\"\nrise = 1\nfall = {fall}\nobserve = \"layer7\"\nerror-limit = 4\non-error = \"{on_error}\"\nfastinter = \"1h\""
        );
        let gate = http_gate(&origin, "", "httpchk = true", &keywords);
        gate.wait_stat("be/s1", "check_status", "L7OK");
        let mut client = gate.wire("fe");
        // A success between them starts the row anew, and 404 is the client's fault.
        for _ in 0..3 {
            assert_eq!(client.get("/bad").status(), 500);
        }
        assert_eq!(client.get("/good").status(), 200);
        status.store(404, Ordering::Release);
        for _ in 0..5 {
            assert_eq!(client.get("/bad").status(), 404);
        }
        assert_eq!(gate.stat("be/s1", "status"), "UP", "{on_error}");
        status.store(500, Ordering::Release);
        for sent in 1..=errors {
            assert_eq!(client.get("/bad").status(), 500, "{on_error}, error {sent}");
            if sent == 4 && errors > 4 {
                until("the first row of errors to count", || gate.stat("be/s1", "status").starts_with("UP "));
            }
        }
        gate.wait_stat("be/s1", "status", "DOWN");
        assert_eq!(client.get("/bad").status(), 503);
        gate.wait_log("Health analyze");
        drop(client);
        gate.finish();
    }
}

#[test]
fn refused_connections_count_for_layer_4_and_bring_the_next_check_forward() {
    let origin = Origin::echo();
    let address = origin.address;
    let keywords =
        "check = true\ninter = \"1h\"\nfastinter = \"20ms\"\nfall = 2\nobserve = \"layer4\"\nerror-limit = 2";
    let gate = Shardgate::start(&sections(&origin, "", "retries = 0", keywords));
    gate.wait_stat("be/s1", "check_status", "L4OK");
    drop(origin);
    for _ in 0..2 {
        let mut client = gate.connect("fe");
        assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    }
    // One failed check by the traffic, one by the check that it brings forward.
    gate.wait_stat("be/s1", "status", "DOWN");
    assert_eq!(gate.stat("be/s1", "check_status").trim_start_matches("* "), "L4CON");
    drop(Origin::at(address, |_, _| {}));
    gate.finish();
}

/// An agent that says what the test wants it to say.
fn agent(word: &'static str) -> (Origin, Arc<Mutex<&'static str>>) {
    let says = Arc::new(Mutex::new(word));
    let mine = Arc::clone(&says);
    let origin = Origin::new(move |mut stream, shared| {
        let mut asked = [0; 3];
        if stream.read_exact(&mut asked).is_ok() {
            shared.note(&asked);
            let word = *mine.lock().expect("no test panics while it holds this");
            let _ = stream.write_all(format!("{word}\n").as_bytes());
        }
    });
    (origin, says)
}

#[test]
fn an_agent_rules_health_weight_and_limit() {
    let origin = Origin::http_named("a");
    let (agent, says) = agent("up");
    let keywords = format!(
        "weight = 40\nagent-check = true\nagent-inter = \"20ms\"\nagent-send = \"s1\\n\"\nagent-port = {}",
        agent.address.port()
    );
    let gate = http_gate(&origin, "", "", &keywords);
    let say = |word| *says.lock().expect("no test panics while it holds this") = word;
    gate.wait_stat("be/s1", "agent_status", "L7OK");
    assert_eq!(agent.notes()[0], b"s1\n");
    let mut client = gate.wire("fe");
    assert_eq!(client.get("/").text(), "a");
    say("down # disk full");
    gate.wait_stat("be/s1", "status", "DOWN (agent)");
    assert_eq!(gate.stat("be/s1", "last_agt"), "disk full");
    assert_eq!(gate.stat("be/BACKEND", "status"), "DOWN");
    assert_eq!(client.get("/").status(), 503);
    say("up 50% maxconn:7");
    gate.wait_stat("be/s1", "uweight", "20");
    gate.wait_stat("be/s1", "slim", "7");
    gate.wait_stat("be/BACKEND", "status", "UP");
    say("drain");
    gate.wait_stat("be/s1", "status", "DRAIN");
    say("ready");
    gate.wait_stat("be/s1", "agent_health", "1");
    gate.wait_stat("be/BACKEND", "status", "UP");
    // What it does not say stays, nonsense and silence included.
    say("hello");
    gate.wait_stat("be/s1", "agent_status", "L7RSP");
    assert_eq!(client.get("/").text(), "a");
    assert_eq!(gate.ask("disable agent be/s1").trim(), "");
    assert_eq!(gate.ask("set server be/s1 agent down").trim(), "");
    gate.wait_stat("be/s1", "status", "DOWN (agent)");
    assert_eq!(gate.ask("set server be/s1 agent up").trim(), "");
    gate.wait_stat("be/BACKEND", "status", "UP");
    drop(agent);
    assert_eq!(gate.ask("enable agent be/s1").trim(), "");
    gate.wait_stat("be/s1", "agent_status", "L4CON");
    assert_eq!(client.get("/").text(), "a", "an agent that is gone changes nothing");
    drop(client);
    gate.finish();
}

#[test]
fn servers_follow_the_one_they_track() {
    let checked = Origin::echo();
    let address = checked.address;
    let web = Origin::http_named("web");
    let body = format!(
        r#"
[frontend.fe]
bind = "127.0.0.1:0"
default-backend = "two"
[backend.one]
server.s1 = {{ address = "{address}", check = true, inter = "30ms", fall = 1, rise = 1 }}
[backend.two]
server.t1 = {{ address = "{web}", track = "one/s1" }}
server.t2 = {{ address = "{web}", track = "t1" }}
"#,
        web = web.address
    );
    let gate = Shardgate::with(&body).defaults("mode = \"http\"").start();
    gate.wait_stat("one/s1", "check_status", "L4OK");
    assert_eq!(gate.stat("two/t1", "tracked"), "one/s1");
    let mut client = gate.wire("fe");
    assert_eq!(client.get("/").text(), "web");
    drop(checked);
    gate.wait_stat("two/t2", "status", "DOWN");
    gate.wait_stat("two/BACKEND", "status", "DOWN");
    gate.wait_log("Server two/t2 is DOWN via two/t1.");
    assert_eq!(client.get("/").status(), 503);
    let back = Origin::at(address, |stream, _| crate::harness::origin::echo(stream));
    gate.wait_stat("two/BACKEND", "status", "UP");
    assert_eq!(client.get("/").text(), "web");
    gate.ask("set server one/s1 state maint");
    gate.wait_stat("two/t2", "status", "MAINT (via one/s1)");
    assert_eq!(client.get("/").status(), 503);
    gate.ask("set server one/s1 state drain");
    gate.wait_stat("two/BACKEND", "act", "0");
    gate.ask("set server one/s1 state ready");
    gate.wait_stat("two/BACKEND", "act", "2");
    assert_eq!(client.get("/").text(), "web");
    drop((client, back));
    gate.finish();
}

#[test]
fn minconn_grows_with_the_load_of_the_backend() {
    let origin = Origin::http(|request| ok(request.start()));
    let held = Arc::new(AtomicUsize::new(0));
    let release = Arc::new(AtomicUsize::new(0));
    let (mine, until_then) = (Arc::clone(&held), Arc::clone(&release));
    let slow = Origin::wire(move |wire, _| {
        while wire.request().is_some() {
            mine.fetch_add(1, Ordering::AcqRel);
            while until_then.load(Ordering::Acquire) == 0 {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            wire.send(ok("x"));
        }
    });
    let gate = http_gate(&slow, "", "fullconn = 10", "minconn = 2\nmaxconn = 10");
    // (sessions of the backend, how many of them the server has): maxconn * sessions / fullconn, at least minconn.
    let mut clients = Vec::new();
    for (sessions, served) in [(1, 1), (2, 2), (3, 3), (5, 5)] {
        while clients.len() < sessions {
            let mut client = gate.wire("fe");
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            clients.push(client);
        }
        until("they are served", || held.load(Ordering::Acquire) == served);
    }
    release.store(1, Ordering::Release);
    for client in &mut clients {
        assert_eq!(client.response("GET").text(), "x");
    }
    drop(clients);
    gate.finish();
    // Far from fullconn the limit is minconn.
    held.store(0, Ordering::Release);
    release.store(0, Ordering::Release);
    let gate = http_gate(&slow, "", "fullconn = 1000", "minconn = 2\nmaxconn = 10");
    let mut clients: Vec<_> = (0..6).map(|_| gate.wire("fe")).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    until("four wait", || gate.count("be/BACKEND", "qcur") + gate.count("be/s1", "qcur") == 4);
    assert_eq!(held.load(Ordering::Acquire), 2);
    release.store(1, Ordering::Release);
    for client in &mut clients {
        assert_eq!(client.response("GET").text(), "x");
    }
    drop((clients, origin));
    gate.finish();
}

#[test]
fn abortonclose_gives_up_for_clients_that_half_closed() {
    for (abort, served) in [(true, 1), (false, 2)] {
        let origin = Origin::http(|_| ok("x"));
        let release = Arc::new(AtomicUsize::new(0));
        let until_then = Arc::clone(&release);
        let slow = Origin::wire(move |wire, shared| {
            while let Some(request) = wire.request() {
                shared.note(request.start().as_bytes());
                while until_then.load(Ordering::Acquire) == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                let _ = wire.stream.write_all(ok("x").as_bytes());
            }
        });
        let body = sections(&slow, "", &format!("abortonclose = {abort}"), "maxconn = 1");
        let gate = Shardgate::with(&body).defaults("mode = \"http\"\ntimeout.queue = \"20s\"").start();
        let mut first = gate.wire("fe");
        first.send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\n");
        until("the first to be served", || slow.notes().len() == 1);
        let mut second = gate.wire("fe");
        second.send("GET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
        until("the second to wait", || gate.count("be/BACKEND", "qcur") + gate.count("be/s1", "qcur") == 1);
        second.stream.shutdown(Shutdown::Write).expect("open");
        if abort {
            gate.wait_stat("be/BACKEND", "qcur", "0");
            gate.wait_stat("be/s1", "qcur", "0");
        }
        release.store(1, Ordering::Release);
        assert_eq!(first.response("GET").text(), "x");
        let rest = second.rest();
        // An abort in the queue may still be told, to whoever reads on.
        assert_eq!(rest.starts_with(b"HTTP/1.1 200"), !abort, "{}", rest.escape_ascii());
        assert_eq!(slow.notes().len(), served, "abortonclose = {abort}");
        drop((first, second, origin));
        gate.finish();
    }
}

#[test]
fn checks_agents_and_names_can_be_sent_elsewhere() {
    let (traffic, health) = (Origin::echo(), Origin::echo());
    let (first, _) = agent("up");
    let (second, says) = agent("up");
    let keywords = format!(
        "check = true\ninter = \"20ms\"\nfall = 1\nrise = 1\nagent-check = true\nagent-inter = \"20ms\"\n\
         agent-send = \"s1\\n\"\nagent-port = {}",
        first.address.port()
    );
    let gate = Shardgate::start(&sections(&traffic, "", "", &keywords));
    gate.wait_stat("be/s1", "check_status", "L4OK");
    let port = health.address.port();
    assert_eq!(gate.ask(&format!("set server be/s1 check-port {port}")).trim(), "");
    until("checks go there", || health.accepted() > 1);
    let port = second.address.port();
    let words = format!("set server be/s1 agent-addr 127.0.0.1 port {port};set server be/s1 agent-send two");
    assert_eq!(gate.ask(&words).trim(), "");
    until("the other agent is asked", || second.notes().iter().any(|asked| asked == b"two"));
    let state = gate.ask("show servers state");
    let columns: Vec<&str> = state.lines().nth(2).expect("a row").split(' ').collect();
    let here = [health.address.port().to_string(), "-".to_owned(), "127.0.0.1".to_owned(), port.to_string()];
    assert_eq!(columns[21..25], here.each_ref().map(String::as_str));
    gate.wait_log(&format!("(from address that of the server, port {}", first.address.port()));
    // A reload that changes nothing about them leaves them alone.
    gate.ask("reload");
    *says.lock().expect("no test panics while it holds this") = "down";
    gate.wait_stat("be/s1", "status", "DOWN (agent)");
    gate.finish();
}

#[test]
fn a_server_gets_another_name() {
    let origin = Origin::http_named("a");
    let port = origin.address.port();
    let body = format!(
        "[frontend.fe]\nmode = \"http\"\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n\
         [backend.be]\nmode = \"http\"\nserver.s1 = {{ address = \"no-such-host.invalid:{port}\" }}\n"
    );
    let gate = Shardgate::start(&body);
    gate.wait_stat("be/s1", "status", "MAINT (resolution)");
    assert_eq!(
        gate.ask("set server be/s1 fqdn localhost").trim(),
        "be/s1 changed its FQDN from no-such-host.invalid to localhost by 'stats socket command'"
    );
    gate.wait_stat("be/s1", "status", "no check");
    assert_eq!(gate.wire("fe").get("/").text(), "a");
    assert!(gate.ask("set server be/s1 fqdn localhost").starts_with("no need to change the FDQN"));
    assert!(gate.ask("set server be/s1 fqdn loc*host").starts_with("invalid FQDN"));
    gate.finish();
}

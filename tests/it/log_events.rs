//! The log in times of trouble: targets that take nothing, resources that run out, events that repeat. What is lost is counted
//! and told, what repeats is told once, and traffic goes on.

use std::net::TcpListener;
use std::time::Instant;

use crate::harness::http::{Wire, ok, sections};
use crate::harness::{Origin, PATIENCE, Shardgate, until};

const DROPPED: &str = "log lines were dropped: a target takes them too slowly or is not there";

#[test]
fn a_stream_that_nobody_reads_drops_lines_and_traffic_goes_on() {
    // The kernel accepts what is sent, up to its buffers; then our own fills.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a local socket");
    let origin = Origin::http(|_| ok("fine"));
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\nlog-format = \"{}\"\n\
         log = [{{ address = \"tcp@{}\", len = 9000 }}]\n[backend.be]\nserver.s1.address = \"{}\"\n",
        "x".repeat(8000),
        silent.local_addr().expect("bound"),
        origin.address
    );
    let mut gate = Shardgate::with(&body).defaults("mode = \"http\"").start();
    let mut client = gate.wire("fe");
    let deadline = Instant::now() + PATIENCE;
    while gate.info("DroppedLogs") == "0" {
        assert!(Instant::now() < deadline, "a target that takes nothing takes everything");
        for _ in 0..100 {
            assert_eq!(client.get("/").status(), 200);
        }
    }
    gate.wait_log(DROPPED);
    assert_eq!(client.get("/").status(), 200);
    assert!(gate.ask("show events process").contains(DROPPED));
    drop(client);
    // What nobody takes keeps no process from ending.
    gate.signal("TERM");
    assert!(gate.wait_exit().success());
}

#[test]
fn an_event_that_a_target_loses_is_no_further_event() {
    let origin = Origin::http(|_| ok("fine"));
    let missing = "/nowhere/syslog.sock";
    let gate = Shardgate::with(&sections(&origin, "log-format = \"%HP\"\nlog = true", "", ""))
        .global(&format!("log = [\"stderr\", \"{missing}\"]"))
        .defaults("mode = \"http\"")
        .start();
    gate.ask("disable frontend fe");
    gate.ask("enable frontend fe");
    // Counters are looked at once a second.
    until("two looks", || gate.info("Uptime_sec").parse::<u64>().is_ok_and(|up| up >= 2));
    assert!(gate.log().contains("frontend fe was disabled"));
    assert_eq!(gate.info("DroppedLogs"), "0");
    assert!(!gate.log().contains(DROPPED));
    // What a frontend loses is told, and the telling is lost with it.
    assert_eq!(gate.wire("fe").get("/").status(), 200);
    gate.wait_log(&format!("1 {DROPPED} ({missing} 1)"));
    assert_eq!(gate.info("DroppedLogs"), "1");
    gate.finish();
}

#[test]
fn buffers_that_run_out_are_an_event() {
    // More than the kernel takes for a client that does not read, whatever its buffers have grown to.
    let block = "x".repeat(1 << 16);
    let origin = Origin::wire(move |wire, _| {
        if wire.request().is_some()
            && wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n").is_ok()
        {
            while wire.try_send(&block).is_ok() {}
        }
    });
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\n\
         server.s1.address = \"{}\"\n",
        origin.address
    );
    let gate = Shardgate::with(&body)
        .cores(1)
        .global("tune.buffers-max = 64")
        .defaults("mode = \"http\"\nsplice = \"never\"")
        .start();
    // Who does not read keeps the buffer that waits to be sent.
    let clients: Vec<Wire> = (0..80)
        .map(|_| {
            let mut client = gate.wire("fe");
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            client
        })
        .collect();
    gate.wait_log("core 0 has all 64 receive buffers in use (tune.buffers-max): connections wait");
    drop(clients);
    let mut client = gate.wire("fe");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.head().expect("an answer").starts_with("HTTP/1.1 200"), "traffic goes on");
    drop(client);
    gate.finish();
}

#[test]
fn an_event_that_repeats_is_told_once_and_counted() {
    let held = Origin::silent();
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\n\
         cookie = {{ name = \"SRV\" }}\n\
         server.s1 = {{ address = \"{}\", cookie = \"one\", maxconn = 1, maxqueue = 1 }}\n",
        held.address
    );
    let mut gate =
        Shardgate::with(&body).cores(1).defaults("mode = \"http\"\ntimeout.queue = \"60s\"").start();
    let request = "GET / HTTP/1.1\r\nHost: a\r\nCookie: SRV=one\r\n\r\n";
    let mut waiting: Vec<Wire> = Vec::new();
    for (column, value) in [("scur", "1"), ("qcur", "1")] {
        let mut client = gate.wire("fe");
        client.send(request);
        waiting.push(client);
        gate.wait_stat("be/s1", column, value);
    }
    for _ in 0..5 {
        let mut client = gate.wire("fe");
        client.send(request);
        assert_eq!(client.response("GET").status(), 503, "the queue is full");
    }
    drop(waiting);
    until("nobody is left", || {
        gate.ask("shutdown sessions server be/s1");
        gate.info("CurrConns") == "0"
    });
    // At the latest at the end it says how often.
    gate.signal("TERM");
    assert!(gate.wait_exit().success());
    let (log, text) = (gate.log(), "the queue of backend be is full");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(text)).collect();
    let count = |line: &&str| line.split("(repeated ").nth(1)?.split(' ').next()?.parse::<usize>().ok();
    let counts: Vec<usize> = lines.iter().filter_map(count).collect();
    let (repeated, told) = (counts.iter().sum::<usize>(), lines.len() - counts.len());
    assert_eq!(repeated + told, 5, "{log}");
    assert!(repeated > 0, "{log}");
}

/// The level of a target holds for what the process itself says, too.
#[test]
fn events_that_a_target_does_not_want_are_left_out() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("events");
    let gone = crate::harness::origin::Refusing::new();
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\n\
         server.s1 = {{ address = \"{}\", check = true, inter = \"100ms\", fall = 1 }}\n",
        gone.address
    );
    let gate = Shardgate::with(&body)
        .global(&format!("log = [{{ address = \"file:{}\", level = \"err\" }}]", file.display()))
        .start();
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    until("the alert is there", || read().contains("backend be has no server available!"));
    assert!(!read().contains("listens on"), "{}", read());
    assert!(gate.ask("show events process").contains("listens on"), "the ring has all");
    gate.finish();
}

/// All targets get them, each with its header.
#[test]
fn events_go_to_all_targets_as_these_want_them() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let [short, plain, more] = ["short", "plain", "more"].map(|name| dir.path().join(name));
    let entry =
        |path: &std::path::Path, format: &str| format!("{{ address = \"file:{}\"{format} }}", path.display());
    let log = [
        entry(&short, ", format = \"short\""),
        entry(&plain, ""),
        entry(&more, ", format = \"rfc5424\", level = \"notice\""),
    ];
    let body = "[frontend.fe]\nbind = \"127.0.0.1:0\"\n";
    let gate = Shardgate::with(body).global(&format!("log = [{}]", log.join(", "))).start();
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    for (path, pattern) in [
        (&short, r"(?m)^<5>frontend fe listens on "),
        (&plain, r"(?m)^\d{4}-\d\d-\d\dT\S+ frontend fe listens on "),
        (&more, r"(?m)^<133>1 \d{4}-\S+ \S+ shardgate \d+ - - frontend fe listens on "),
    ] {
        let pattern = regex::Regex::new(pattern).expect("a pattern");
        until("the event is there", || pattern.is_match(&read(path)));
        assert_eq!(read(path).matches("listens on").count(), 1, "{}", read(path));
    }
    gate.finish();
}

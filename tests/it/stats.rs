//! Statistics from outside: what is shown is what clients saw, to the last request and byte.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use crate::harness::gate::parse;
use crate::harness::http::{Wire, http_gate, ok, sections};
use crate::harness::{Origin, Shardgate, bytes, connect, eventually, until};

#[test]
fn a_slow_server_shows_in_the_percentiles() {
    const SLOW: Duration = Duration::from_millis(30);
    let origin = Origin::http(|request| {
        if request.start().contains("/slow") {
            thread::sleep(SLOW);
        }
        ok("x")
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = gate.wire("fe");
    for _ in 0..8 {
        client.get("/fast");
        client.get("/fast");
        client.get("/slow");
    }
    drop(client);
    let latency = eventually("all requests are in", || {
        let text = gate.ask("show latency be/s1 start");
        let total = text.lines().find(|line| line.contains(" total "))?.to_owned();
        total.contains(" 24 ").then_some(text)
    });
    // count, p50, p90, p99, p99.9, max
    let numbers = |step: &str| -> Vec<u64> {
        let line = latency.lines().find(|line| line.contains(&format!(" {step} "))).expect("a line");
        line.split_whitespace().skip(3).map(|word| word.parse().expect("a number")).collect()
    };
    let slow = u64::try_from(SLOW.as_micros()).expect("small");
    let first_byte = numbers("first_byte");
    assert!(first_byte[1] < slow && first_byte[2] >= slow * 15 / 16, "{latency}");
    assert!(first_byte.is_sorted_by(|a, b| a <= b || *a == 24), "{latency}");
    assert_eq!((numbers("queue")[0], numbers("connect")[0]), (24, 1), "{latency}");
    assert_eq!(numbers("queue")[5], 0, "{latency}");
    assert!(numbers("total")[2] >= first_byte[2] * 15 / 16, "{latency}");
    for row in ["be/s1", "be/BACKEND"] {
        assert!(gate.count(row, "total_p90") >= slow * 15 / 16);
        assert!(gate.count(row, "ttime") > 0);
    }
    assert_eq!(gate.stat("be/s1", "tls_p50"), "", "there was no TLS");
    gate.finish();
}

#[test]
fn sessions_in_tcp_mode_are_timed_too() {
    let server = Origin::echo();
    let gate = Shardgate::relay(server.address);
    for _ in 0..3 {
        let mut client = gate.connect("fe");
        client.write_all(b"hello").expect("sent");
        client.read_exact(&mut [0; 5]).expect("echoed");
    }
    let steps = eventually("all sessions are in", || {
        let text = gate.ask("show latency be start");
        let server = text.lines().filter(|line| line.starts_with("be/"));
        let counts: Vec<_> = server
            .map(|l| l.split_whitespace().skip(1).step_by(2).take(2).collect::<Vec<_>>().join(" "))
            .collect();
        (counts.len() == 5).then_some(counts)
    });
    assert_eq!(steps, ["queue 3", "connect 3", "first_byte 3", "transfer 3", "total 3"]);
    gate.finish();
}

#[test]
fn the_sum_over_cores_is_what_clients_counted_whatever_is_reloaded() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 250;
    let origin = Origin::http(|_| ok(&"b".repeat(100)));
    let body = |n: usize| {
        let balance = ["roundrobin", "leastconn", "random"][n % 3];
        let mut text = String::new();
        if n % 2 == 1 {
            // Objects before and behind move the numbers of those that stay.
            text.push_str(&format!("[backend.a.server.x]\naddress = \"{}\"\n", origin.address));
        }
        text + &sections(&origin, "", &format!("balance = \"{balance}\""), "")
    };
    let mut gate = Shardgate::with(&body(0)).defaults("mode = \"http\"").start();
    let address = gate.address("fe");
    let received: u64 = thread::scope(|scope| {
        let work = |client: usize| {
            scope.spawn(move || {
                let mut received = 0;
                // Several connections each, so that both cores accept some.
                for part in 0..5 {
                    let mut wire = Wire::new(connect(address));
                    for number in 0..REQUESTS / 5 {
                        let answer = wire.get(&format!("/{client}/{part}/{number}"));
                        received += (answer.head.len() + 4 + answer.body.len()) as u64;
                    }
                }
                received
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(work).collect();
        for n in 1.. {
            gate.reload(&body(n));
            if clients.iter().all(thread::ScopedJoinHandle::is_finished) {
                break;
            }
        }
        clients.into_iter().map(|client| client.join().expect("no panic")).sum()
    });
    let all = (CLIENTS * REQUESTS).to_string();
    gate.wait_stat("fe/FRONTEND", "bout", &received.to_string());
    for (row, column) in [
        ("fe/FRONTEND", "req_tot"),
        ("fe/FRONTEND", "hrsp_2xx"),
        ("fe/FRONTEND", "h1req"),
        ("be/BACKEND", "req_tot"),
        ("be/BACKEND", "hrsp_2xx"),
        ("be/s1", "hrsp_2xx"),
        ("be/s1", "lbtot"),
    ] {
        assert_eq!(gate.stat(row, column), all, "{row} {column}");
    }
    assert_eq!(gate.stat("fe/FRONTEND", "stot"), (CLIENTS * 5).to_string());
    assert_eq!(gate.stat("be/s1", "bout"), received.to_string());
    gate.finish();
}

#[test]
fn the_past_can_be_asked_for() {
    let origin = Origin::http(|_| ok("x"));
    let gate = http_gate(&origin, "", "", "");
    let mut client = gate.wire("fe");
    let was = |ago: &str| {
        let rows = parse(&gate.ask(&format!("show stat at -{ago}")));
        rows.get("fe/FRONTEND").and_then(|row| row["req_tot"].parse::<u64>().ok())
    };
    (0..5).for_each(|_| drop(client.get("/")));
    until("the first requests are in the history", || was("0s") == Some(5));
    (0..3).for_each(|_| drop(client.get("/")));
    until("the others are too", || was("0s") == Some(8));
    until("they were not a moment ago", || (1..5).any(|s| was(&format!("{s}s")) == Some(5)));
    let lines = gate.ask("show history be/s1 1m");
    let (header, rows) = lines.split_once('\n').expect("a header");
    let columns: Vec<&str> = header.trim_start_matches("# ").split(',').collect();
    let at = columns.iter().position(|column| *column == "hrsp_2xx").expect("a column");
    let grown = rows.lines().filter_map(|row| row.split(',').nth(at)?.parse::<u64>().ok()).sum::<u64>();
    assert_eq!(grown, 8, "{lines}");
    assert!(rows.starts_with("be,s1,"), "{lines}");
    assert_eq!(gate.ask("show history nothing"), "No such frontend or backend.\n\n");
    let row = parse(&gate.ask("show stat at 0s")).remove("be/s1").expect("a row");
    assert_eq!((row["hrsp_2xx"].as_str(), row["scur"].as_str(), row["weight"].as_str()), ("8", "0", ""));
    assert!(gate.ask("show stat at -2h").starts_with("The history goes back "));
    assert!(gate.ask("show stat at noon").starts_with("'at' expects"));
    drop(client);
    gate.finish();
}

#[test]
fn a_download_moves_the_counters_while_it_runs() {
    const BYTES: u64 = 300_000_000;
    let origin = Origin::wire(|wire, _| {
        if wire.request().is_some() {
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n"));
            // A client that leaves early is no matter of the origin.
            let _ = bytes::send(&mut wire.stream, BYTES);
        }
    });
    for splice in ["never", "auto"] {
        let gate = http_gate(&origin, "", &format!("splice = \"{splice}\""), "");
        let mut client = gate.wire("fe");
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.head().expect("a head");
        let seen = thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut left = BYTES;
                let mut block = vec![0; 1 << 16];
                while left > 0 {
                    let n = client.take(&mut block).expect("bytes of the body");
                    assert!(n > 0, "{left} bytes are missing");
                    left -= n as u64;
                }
            });
            let mut seen = Vec::new();
            while !reader.is_finished() {
                seen.push(gate.count("be/s1", "bout"));
            }
            seen
        });
        let distinct = seen.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!(distinct >= 3 && seen.is_sorted(), "{splice}: {seen:?}");
        let all = (head.len() as u64 + 4 + BYTES).to_string();
        for row in ["fe/FRONTEND", "be/BACKEND", "be/s1"] {
            gate.wait_stat(row, "bout", &all);
        }
        gate.finish();
    }
}

#[test]
fn a_long_answer_is_of_one_configuration_whatever_is_loaded_meanwhile() {
    const SERVERS: usize = 1500;
    let origin = Origin::http(|_| ok("x"));
    let more = |name: &str, n: usize| {
        let server = |n| format!("s{n} = {{ address = \"127.0.0.1:{}\" }}\n", 1000 + n);
        let servers: String = (0..n).map(server).collect();
        format!("{}\n[backend.{name}.server]\n{servers}", sections(&origin, "", "", ""))
    };
    let mut gate = http_gate(&origin, "", "", "");
    gate.reload(&more("first", SERVERS));
    let (socket, over) = (gate.dir().join("admin.sock"), std::sync::atomic::AtomicBool::new(false));
    let ask = |command: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
        stream.write_all(command.as_bytes()).expect("taken");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("text");
        text
    };
    let check = |answer: &str| {
        let rows = |name: &str| answer.lines().filter(|line| line.starts_with(name)).count();
        let (first, second) = (rows("first,"), rows("second,"));
        assert!([(SERVERS + 1, 0), (0, SERVERS / 2 + 1)].contains(&(first, second)), "{first} and {second}");
        let columns = |line: &str| line.split(',').count();
        let header = answer.lines().next().expect("a header");
        assert!(answer.trim_end().lines().all(|line| columns(line) == columns(header)));
    };
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !over.load(std::sync::atomic::Ordering::Acquire) {
                check(&ask("show stat\n"));
                asked += 1;
            }
            asked
        });
        for _ in 0..4 {
            gate.reload(&more("second", SERVERS / 2));
            gate.reload(&more("first", SERVERS));
        }
        over.store(true, std::sync::atomic::Ordering::Release);
        assert!(asking.join().expect("each answer is whole") > 0);
    });
    let json: serde_json::Value = serde_json::from_str(ask("show stat json\n").trim()).expect("JSON");
    assert!(json.as_array().is_some_and(|rows| rows.len() > SERVERS));
    assert_eq!(gate.ask("show stat first 4 7").lines().filter(|line| !line.is_empty()).count(), 2);
    gate.finish();
}

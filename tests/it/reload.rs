//! Changing a running proxy: no connection is lost, unchanged objects go on, and what is wrong changes nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::harness::http::{Wire, http_gate, ok, sections};
use crate::harness::peers::free_address;
use crate::harness::tls::Ca;
use crate::harness::{Origin, Shardgate, bytes, connect, until};

/// HTTP clients that ask as fast as they can until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    /// `requests`: on each connection, before the client opens another.
    fn start(address: SocketAddr, clients: usize, requests: usize) -> Load {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |_| {
            let (stop, done) = (stop.clone(), done.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    let mut wire = crate::harness::http::Wire::new(connect(address));
                    for _ in 0..requests {
                        if stop.load(Ordering::Acquire) {
                            break;
                        }
                        let response = wire.get("/");
                        assert_eq!(response.status(), 200, "{}", response.head);
                        done.fetch_add(1, Ordering::AcqRel);
                    }
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        Load { stop, done, clients }
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// Waits until so many more requests were answered.
    fn more(&self, requests: u64) {
        let goal = self.done() + requests;
        until("requests to be answered", || {
            assert!(!self.clients.iter().any(std::thread::JoinHandle::is_finished), "a client failed");
            self.done() >= goal
        });
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Release);
        for client in self.clients {
            client.join().expect("no request failed");
        }
    }
}

#[test]
fn a_kept_connection_gets_the_new_rules_at_its_next_request() {
    let origin = Origin::http_named("one");
    let header = |value: &str| {
        format!("response-rules = [{{ set-header = {{ name = \"x-rules\", value = \"{value}\" }} }}]")
    };
    let mut gate = http_gate(&origin, &header("old"), "", "");
    let mut wire = gate.wire("fe");
    assert_eq!(wire.get("/").header("x-rules"), Some("old"));
    gate.reload(&sections(&origin, &header("new"), "", ""));
    assert_eq!(wire.get("/").header("x-rules"), Some("new"));
    assert_eq!(gate.count("fe/FRONTEND", "req_tot"), 2, "counters go on");
    assert_eq!(gate.count("fe/FRONTEND", "stot"), 1, "it is still one session");
    assert_eq!(gate.count("be/s1", "reuse"), 1, "the server connection is still there");
    drop(wire);
    gate.finish();
}

#[test]
fn what_is_wrong_changes_nothing_and_says_where() {
    let origin = Origin::http_named("one");
    let gate = http_gate(&origin, "", "", "");
    let mut wire = gate.wire("fe");
    wire.get("/");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let good = sections(&origin, "", "", "");
    let bind = format!(
        "[frontend.other]\nbind = \"{}\"\ndefault-backend = \"be\"\n",
        taken.local_addr().expect("bound")
    );
    for (text, expected) in [
        ("[frontend.fe\n", "shardgate.toml:"),
        (&*good.replace("default-backend = \"be\"", "default-backend = \"bee\""), "did you mean \"be\"?"),
        (&*format!("{good}{bind}"), "Address already in use"),
    ] {
        gate.rewrite(text);
        let why = gate.try_reload().expect_err("it is wrong");
        assert!(why.contains(expected), "{why}");
        assert_eq!(wire.get("/").status(), 200);
    }
    let generations = gate.ask("show generations");
    assert!(generations.contains("\n1 current "), "{generations}");
    let memory = |text: &str| {
        let row = text.lines().find(|line| line.contains(" current ")).expect("one is").to_owned();
        row.split(' ').nth(4).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    };
    let small = memory(&generations);
    assert!(small > 0, "{generations}");
    assert_eq!(generations.matches("- refused ").count(), 3, "{generations}");
    let many: String =
        (0..300).map(|n| format!("[backend.b{n}.server.s]\naddress = \"127.0.0.1:1\"\n")).collect();
    gate.rewrite(&format!("{good}{many}"));
    gate.try_reload().expect("it is good");
    assert!(memory(&gate.ask("show generations")) > small + 100, "{}", gate.ask("show generations"));
    drop((wire, taken));
    gate.finish();
}

#[test]
fn a_server_that_moved_is_found_by_every_core_at_once() {
    let [a, b] = ["a", "b"].map(Origin::http_named);
    let mut gate = http_gate(&a, "", "", "");
    // Cores take the new configuration in the middle of requests.
    let load = Load::start(gate.address("fe"), 4, usize::MAX);
    let mut kept: Vec<Wire> = (0..6).map(|_| gate.wire("fe")).collect();
    for (origin, name) in [(&b, "b"), (&a, "a")].into_iter().cycle().take(40) {
        gate.reload(&sections(origin, "", "", ""));
        for wire in &mut kept {
            assert_eq!(wire.get("/").text(), name, "the configuration runs that has it elsewhere");
        }
    }
    load.finish();
    drop(kept);
    gate.finish();
}

#[test]
fn sighup_reloads_and_the_log_says_so() {
    let origin = Origin::http_named("one");
    let gate = http_gate(&origin, "", "", "");
    gate.rewrite(&sections(&origin, "", "", "weight = 7"));
    gate.signal("HUP");
    gate.wait_log("reloaded by SIGHUP");
    assert_eq!(gate.stat("be/s1", "weight"), "7");
    gate.rewrite("nonsense");
    gate.signal("HUP");
    gate.wait_log("nothing changed: ");
    gate.finish();
}

#[test]
fn no_request_is_lost_under_load() {
    let one = Origin::http_named("one");
    let two = Origin::http_named("two");
    let extra = free_address();
    let body = |n: usize| {
        let mut text = String::new();
        // Ids of what stays move around: other objects come and go before and between them.
        if n % 2 == 1 {
            text.push_str(&format!("[frontend.a]\nbind = \"{extra}\"\ndefault-backend = \"a\"\n"));
            text.push_str(&format!("[backend.a.server.x]\naddress = \"{}\"\n", two.address));
        }
        text.push_str(&sections(
            &one,
            "",
            &format!("balance = \"{}\"", ["roundrobin", "leastconn"][n % 2]),
            "",
        ));
        if !n.is_multiple_of(3) {
            text.push_str(&format!("[backend.be.server.s2]\naddress = \"{}\"\nweight = {n}\n", two.address));
        }
        text
    };
    let mut gate = Shardgate::with(&body(0)).defaults("mode = \"http\"").start();
    let kept = Load::start(gate.address("fe"), 3, usize::MAX);
    let fresh = Load::start(gate.address("fe"), 2, 3);
    for n in 1..=40 {
        gate.reload(&body(n));
        if n % 2 == 1 {
            assert!(TcpStream::connect(extra).is_ok(), "the new bind listens when the reload is reported");
        }
        fresh.more(4);
    }
    kept.more(1);
    fresh.finish();
    kept.finish();
    until("old generations to end", || !gate.ask("show generations").contains(" old "));
    assert_eq!(gate.count("fe/FRONTEND", "hrsp_5xx"), 0);
    assert_eq!(gate.count("fe/FRONTEND", "eresp") + gate.count("be/BACKEND", "econ"), 0);
    gate.finish();
}

#[test]
fn tunnels_and_downloads_live_on_and_take_their_generation_along() {
    const TOTAL: u64 = 3_000_000;
    let origin = Origin::wire(|wire, _| {
        while let Some(request) = wire.request() {
            if request.header("upgrade").is_some() {
                wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n");
                return crate::harness::origin::echo(wire.stream.try_clone().expect("a socket"));
            }
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n"));
            let _ = bytes::send(&mut wire.stream, TOTAL);
        }
    });
    let mut gate = http_gate(&origin, "", "", "");
    let address = gate.address("fe");
    let mut tunnel = gate.wire("fe");
    tunnel.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(tunnel.head().expect("a head").split(' ').nth(1), Some("101"));
    let mut download = connect(address);
    download.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        download.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    // The backend that they use is gone, and then the bind that they came by.
    let other = Origin::http_named("other");
    let moved = sections(&other, "", "", "")
        .replace("be]", "elsewhere]")
        .replace("be.", "elsewhere.")
        .replace("\"be\"", "\"elsewhere\"");
    gate.reload(&moved);
    tunnel.send("still here");
    assert_eq!(tunnel.exactly(10).expect("the echo"), b"still here");
    gate.reload(&moved.replace("frontend.fe", "frontend.fe2"));
    assert!(gate.ask("show generations").contains("\n1 old "), "{}", gate.ask("show generations"));
    bytes::receive(&mut download, TOTAL, bytes::Pace::Fast).expect("byte-exact");
    tunnel.send("and here");
    assert_eq!(tunnel.exactly(8).expect("the echo"), b"and here");
    assert_eq!(gate.wire("fe2").get("/").text(), "other");
    until("the bind to close", || TcpStream::connect(address).is_err());
    gate.ask("drain generation 1");
    assert!(tunnel.is_closed());
    until("the generation to end", || !gate.ask("show generations").contains("\n1 old "));
    drop(download);
    gate.finish();
}

#[test]
fn a_tcp_session_goes_on_and_a_new_one_goes_elsewhere() {
    let (one, two) = (Origin::named("1"), Origin::named("2"));
    let relay = |origin: &Origin| crate::harness::gate::relay(origin.address, "");
    let mut gate = Shardgate::start(&relay(&one));
    let mut old = gate.connect("fe");
    let mut byte = [0; 1];
    old.read_exact(&mut byte).expect("the name");
    gate.reload(&relay(&two));
    old.write_all(b"x").expect("sent");
    old.read_exact(&mut byte).expect("the echo");
    assert_eq!(&byte, b"x");
    gate.connect("fe").read_exact(&mut byte).expect("the name");
    assert_eq!(&byte, b"2");
    assert_eq!(gate.count("be/s1", "stot"), 2);
    drop(old);
    gate.finish();
}

#[test]
fn who_waits_in_the_queue_gets_a_slot_from_whatever_generation_gives_it_back() {
    let origin = Origin::http(|_| ok("done"));
    let go = Arc::new(AtomicBool::new(false));
    let may = go.clone();
    let slow = Origin::wire(move |wire, _| {
        while wire.request().is_some() {
            until("the test to let it go", || may.load(Ordering::Acquire));
            wire.send(ok("slow"));
        }
    });
    let body = |server: &Origin, more: &str| {
        let text = sections(server, "", "timeout.queue = \"20s\"", "maxconn = 1");
        format!("{more}{text}")
    };
    let mut gate = Shardgate::with(&body(&slow, "")).defaults("mode = \"http\"").start();
    let mut first = gate.wire("fe");
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    gate.wait_stat("be/s1", "scur", "1");
    let mut second = gate.wire("fe");
    second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    gate.wait_stat("be/BACKEND", "qcur", "1");
    // Other objects take the ids; a server that the waiter does not know comes in addition.
    let other = format!("[backend.aa.server.x]\naddress = \"{}\"\n", origin.address);
    gate.reload(&body(&slow, &other));
    let mut third = gate.wire("fe");
    third.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    gate.wait_stat("be/BACKEND", "qcur", "2");
    go.store(true, Ordering::Release);
    for wire in [&mut first, &mut second, &mut third] {
        assert_eq!(wire.response("GET").text(), "slow");
    }
    drop((first, second, third));
    gate.finish();
}

#[test]
fn checks_of_unchanged_servers_go_on_and_what_an_administrator_set_stays() {
    let origin = Origin::http_named("one");
    let body = |more: &str| sections(&origin, "", "", &format!("check = true\ninter = \"100ms\"\n{more}"));
    let mut gate = Shardgate::with(&body("weight = 10")).defaults("mode = \"http\"").start();
    until("a check", || gate.stat("be/s1", "check_status") == "L4OK");
    gate.ask("set server be/s1 weight 50");
    gate.ask("set server be/s1 state drain");
    gate.reload(&format!("{}[backend.other]\n", body("weight = 10")));
    assert_eq!(gate.stat("be/s1", "check_status"), "L4OK", "the last result is still known");
    assert_eq!(
        (gate.stat("be/s1", "weight"), gate.stat("be/s1", "status")),
        ("50".to_owned(), "DRAIN".to_owned())
    );
    gate.reload(&body("weight = 20"));
    assert_eq!(gate.stat("be/s1", "weight"), "20", "the configuration has changed: it wins");
    gate.finish();
}

#[test]
fn plan_tells_what_would_change_and_changes_nothing() {
    let origin = Origin::http_named("one");
    let body = |weight: &str| sections(&origin, "", "", &format!("weight = {weight}"));
    let mut gate = Shardgate::with(&body("1")).defaults("mode = \"http\"").start();
    assert_eq!(gate.plan(), (0, String::new()));
    let added = "[backend.new.server.x]\naddress = \"127.0.0.1:1\"\n[frontend.two]\nbind = \"127.0.0.1:0\"\n";
    gate.rewrite(&format!("# a comment\n{}{added}", body("7")));
    let (code, text) = gate.plan();
    assert_eq!(code, 2, "{text}");
    for line in
        ["~ backend.be.server.s1  weight: 1 -> 7", "+ backend.new", "+ frontend.two", "opens 127.0.0.1:0"]
    {
        assert!(text.lines().any(|l| l == line), "{line} in:\n{text}");
    }
    assert_eq!(gate.stat("be/s1", "weight"), "1");
    gate.reload(&body("7"));
    assert_eq!(gate.plan(), (0, String::new()));
    gate.rewrite("[frontend.x\n");
    assert_eq!(gate.plan().0, 1);
    gate.finish();
}

#[test]
fn sessions_of_an_older_generation_end_after_hard_stop_after() {
    let origin = Origin::echo();
    let body = |more: &str| crate::harness::gate::relay(origin.address, more);
    let mut gate = Shardgate::with(&body("")).global("hard-stop-after = \"200ms\"").start();
    let mut old = gate.connect("fe");
    old.write_all(b"x").expect("accepted");
    old.read_exact(&mut [0]).expect("echoed");
    gate.reload(&body("weight = 2"));
    let mut new = gate.connect("fe");
    assert!(matches!(old.read(&mut [0]), Ok(0) | Err(_)), "its patience is over");
    until("the generation to end", || !gate.ask("show generations").contains("\n1 old "));
    new.write_all(b"x").expect("accepted");
    new.read_exact(&mut [0]).expect("the current generation has all the time");
    drop(new);
    gate.finish();
}

#[test]
fn a_node_has_values_of_its_own() {
    let origin = Origin::http_named("one");
    let text = |weight: u32| {
        let node =
            format!("[node.lb2.backend.be.server.s1]\nweight = {weight}\n[node.lb1.global]\nmaxconn = 7\n");
        format!("{}{node}", sections(&origin, "", "", "weight = 1"))
    };
    let mut gate = Shardgate::with(&text(5)).defaults("mode = \"http\"").argument("--node=lb2").start();
    assert_eq!(gate.stat("be/s1", "weight"), "5");
    gate.reload(&text(6));
    assert_eq!(gate.stat("be/s1", "weight"), "6");
    // Whoever plans says for whom; values of the other node are no difference.
    gate.rewrite(&text(7).replace("maxconn = 7", "maxconn = 8"));
    let (code, plan) = gate.plan_of(&["--node", "lb2"]);
    assert_eq!(code, 2);
    assert_eq!(plan.lines().next(), Some("~ backend.be.server.s1  weight: 6 -> 7"), "{plan}");
    assert_eq!(plan.lines().filter(|line| line.starts_with('~')).count(), 1, "{plan}");
    gate.finish();
}

#[test]
fn plan_tells_of_files_idle_connections_and_sessions() {
    let origin = Origin::http_named("one");
    let rule = "rules = [{ deny = { status = 403 }, if = \"{ path -f @DIR@/paths }\" }]";
    let other = Origin::http_named("other");
    let files = tempfile::tempdir().expect("a temporary directory");
    let paths = files.path().join("paths");
    std::fs::write(&paths, "/private\n").expect("writable");
    let rule = rule.replace("@DIR@", &files.path().display().to_string());
    let body = |server: &Origin| sections(server, &rule, "", "");
    let gate = Shardgate::with(&body(&origin)).defaults("mode = \"http\"").start();
    let mut kept = gate.wire("fe");
    assert_eq!(kept.get("/private").status(), 403);
    assert_eq!(gate.plan(), (0, String::new()));
    std::fs::write(&paths, "/private\n/secret\n").expect("writable");
    let (code, text) = gate.plan();
    let line = format!("~ acl {}  is read again: it has changed", paths.display());
    assert!(code == 2 && text.lines().any(|l| l == line), "{text}");
    assert!(text.contains("sessions: 1 go on with generation 1 "), "{text}");
    gate.try_reload().expect("it is good");
    assert_eq!(kept.get("/secret").status(), 403);
    assert_eq!(gate.plan(), (0, String::new()));
    gate.rewrite(&body(&other));
    let (code, text) = gate.plan();
    assert_eq!(code, 2);
    assert!(text.contains("\nidle connections of be/s1 are of no more use: address\n"), "{text}");
    assert!(!text.contains("override"), "{text}");
    // A runtime change of the address is dropped with it, and one of the weight stays.
    gate.ask("set server be/s1 addr 127.0.0.1 port 1");
    gate.ask("set weight be/s1 7");
    let (_, text) = gate.plan();
    let dropped: Vec<&str> = text.lines().filter(|line| line.contains("override")).collect();
    assert!(dropped.len() == 1 && dropped[0].starts_with("drops override be/s1 addr: "), "{text}");
    assert!(dropped[0].ends_with(&format!(": the file says {}", other.address)), "{text}");
    drop(kept);
    gate.finish();
}

#[test]
fn who_waits_to_be_accepted_by_a_bind_that_goes_is_served() {
    let origin = Origin::http_named("one");
    let body = |more: &str, name: &str| {
        sections(&origin, more, "", "").replace("[frontend.fe]", &format!("[frontend.{name}]"))
    };
    let mut gate = Shardgate::with(&body("maxconn = 1", "fe")).defaults("mode = \"http\"").start();
    let address = gate.address("fe");
    let mut first = gate.wire("fe");
    assert_eq!(first.get("/").text(), "one");
    // There is room for one: the others wait in the accept queue.
    let mut waiting: Vec<Wire> = (0..6).map(|_| Wire::new(connect(address))).collect();
    for wire in &mut waiting {
        wire.send("GET /waited HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    assert_eq!(gate.stat("fe/FRONTEND", "scur"), "1");
    gate.reload(&body("", "other"));
    for wire in &mut waiting {
        let response = wire.response("GET");
        assert_eq!((response.status(), response.text()), (200, "one".to_owned()));
    }
    until("the bind to close", || TcpStream::connect(address).is_err());
    drop((first, waiting));
    gate.finish();
}

#[test]
fn a_frontend_that_was_shut_down_comes_back_with_a_reload_alone() {
    let origin = Origin::http_named("one");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fe.sock");
    let bind = format!("bind = [\"127.0.0.1:0\", \"unix@{}\"]", path.display());
    let body = sections(&origin, "", "", "").replace("bind = \"127.0.0.1:0\"", &bind);
    let mut gate = Shardgate::with(&body).defaults("mode = \"http\"").start();
    let address = gate.address("fe");
    let mut live = gate.wire("fe");
    assert_eq!(live.get("/").header("connection"), None);
    assert_eq!(gate.ask("disable frontend fe;shutdown frontend fe").trim(), "");
    until("its port to be free", || TcpListener::bind(address).is_ok());
    assert!(!path.exists(), "its UNIX socket is gone");
    assert_eq!(gate.stat("fe/FRONTEND", "status"), "STOP");
    assert!(gate.ask("show listeners").lines().all(|line| !line.ends_with(" OPEN")));
    assert_eq!(gate.ask("enable frontend fe").trim(), "Frontend was previously shut down, cannot enable.");
    // Who is here is served, and asked to leave.
    let last = live.get("/");
    assert_eq!((last.status(), last.header("connection")), (200, Some("close")));
    gate.reload(&body);
    assert_eq!(gate.stat("fe/FRONTEND", "status"), "OPEN");
    assert_eq!(gate.wire("fe").get("/").text(), "one");
    let unix = UnixStream::connect(&path).expect("it listens there again");
    drop((unix, live));
    assert_eq!(gate.ask("disable frontend fe;enable frontend fe").trim(), "");
    gate.finish();
}

#[test]
fn counters_and_histograms_of_what_stays_go_on() {
    let origin = Origin::http_named("one");
    let body = |before: &str, weight: u32| {
        format!("{before}{}", sections(&origin, "", "", &format!("weight = {weight}")))
    };
    let mut gate = Shardgate::with(&body("", 1)).defaults("mode = \"http\"").start();
    let mut wire = gate.wire("fe");
    for _ in 0..5 {
        assert_eq!(wire.get("/").status(), 200);
    }
    let counts = |gate: &Shardgate| {
        let columns = ["stot", "hrsp_2xx", "lbtot", "bin", "bout", "reuse", "connect"];
        let latency = gate.ask("show latency be/s1 start");
        let totals: Vec<String> =
            latency.lines().filter(|line| line.contains("total")).map(str::to_owned).collect();
        (columns.map(|column| gate.stat("be/s1", column)), totals)
    };
    until("the last response to be counted", || gate.count("be/s1", "hrsp_2xx") == 5);
    until("it in the histogram", || {
        counts(&gate).1.iter().any(|line| line.split_whitespace().any(|word| word == "5"))
    });
    let before = counts(&gate);
    // Others take their ids, and a value of the server itself is another one.
    gate.reload(&body("[backend.a.server.x]\naddress = \"127.0.0.1:1\"\n", 7));
    assert_eq!(counts(&gate), before);
    assert_eq!(wire.get("/").status(), 200);
    assert_eq!(gate.count("be/s1", "connect"), 1, "it goes over the connection that was there");
    drop(wire);
    gate.finish();
}

#[test]
fn what_was_counted_of_a_server_that_is_gone_takes_no_memory() {
    let origin = Origin::http_named("one");
    let body = |name: &str| sections(&origin, "", "", "").replace("server.s1", &format!("server.{name}"));
    let mut gate = Shardgate::with(&body("first")).defaults("mode = \"http\"").start();
    let held = |gate: &Shardgate| {
        let pools = gate.ask("show pools");
        let row =
            pools.lines().find(|line| line.starts_with("latency_histograms ")).expect("a row").to_owned();
        row.rsplit(' ').next().and_then(|bytes| bytes.parse::<u64>().ok()).expect("a number")
    };
    let mut wire = gate.wire("fe");
    for _ in 0..5 {
        assert_eq!(wire.get("/").status(), 200);
    }
    until("all of them in the histogram", || {
        let latency = gate.ask("show latency be/first start");
        let total = latency.lines().find(|line| line.contains("total"));
        total.is_some_and(|line| line.split_whitespace().any(|word| word == "5"))
    });
    let before = held(&gate);
    gate.reload(&body("second"));
    let after = held(&gate);
    assert!(after < before, "{before} before, {after} after");
    drop(wire);
    gate.finish();
}

#[test]
fn plan_compares_the_content_of_everything_that_is_read() {
    let origin = Origin::http_named("one");
    let authority = Ca::new();
    let write = |name: &str, text: &str| authority.write(name, text);
    let ca = || {
        let made = rcgen::generate_simple_self_signed(vec!["ca.test".to_owned()]).expect("made");
        made.cert.pem() + &made.signing_key.serialize_pem()
    };
    let page = |text: &str| format!("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 1\r\n\r\n{text}");
    write("server.pem", &ca());
    write("ca.pem", &ca());
    write("503.http", &page("a"));
    write("hosts", "a b\n");
    write("revoked.pem", &authority.crl(&[1]));
    let keys = |of: char| format!("{}\n", String::from(of).repeat(64));
    write("tickets.keys", &keys('A'));
    let path = |name: &str| authority.path(name).display().to_string();
    let tls = format!(
        "tls = {{ certificates = [\"{}\"], verify = \"optional\", ca-file = \"{}\", crl-file = \"{}\", tls-ticket-keys = \"{}\" }}",
        path("server.pem"),
        path("ca.pem"),
        path("revoked.pem"),
        path("tickets.keys"),
    );
    let rules = format!(
        "errorfile = {{ 503 = \"{}\" }}\nrules = [{{ set-header = {{ name = \"x\", value = \"%[hdr(host),map({})]\" }} }}, {{ deny = true, if = \"{{ ssl_c_used }}\" }}]",
        path("503.http"),
        path("hosts")
    );
    let body = sections(&origin, &rules, "", "")
        .replace("bind = \"127.0.0.1:0\"", &format!("bind = [{{ address = \"127.0.0.1:0\", {tls} }}]"));
    let gate = Shardgate::with(&body).defaults("mode = \"http\"").start();
    assert_eq!(gate.plan(), (0, String::new()));
    for (kind, name, text) in [
        ("ca", "ca.pem", ca()),
        ("crl", "revoked.pem", authority.crl(&[1, 2])),
        ("tickets", "tickets.keys", keys('A') + &keys('B')),
        ("file", "503.http", page("b")),
        ("map", "hosts", "a c\n".to_owned()),
    ] {
        write(name, &text);
        let (code, said) = gate.plan();
        let line = format!("~ {kind} {}  is read again: it has changed", path(name));
        assert!(code == 2 && said.lines().any(|l| l == line), "{said}");
        gate.try_reload().expect("it is good");
        assert_eq!(gate.plan(), (0, String::new()));
    }
    gate.finish();
}

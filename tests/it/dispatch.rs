//! Which server gets a session, and what happens when it cannot be reached.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use crate::harness::origin::Refusing;
use crate::harness::{Origin, Shardgate, connect_from, until};

/// A frontend `fe`, and a backend `be` with these keywords and one server `s0`, `s1`, ... for each address and its keywords.
fn backend(keywords: &str, servers: &[(String, &str)]) -> String {
    let mut text = format!(
        "\n[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\n{keywords}\n"
    );
    for (number, (address, more)) in servers.iter().enumerate() {
        text.push_str(&format!("[backend.be.server.s{number}]\naddress = \"{address}\"\n{more}\n"));
    }
    text
}

fn at(origin: &Origin) -> String {
    origin.address.to_string()
}

/// Connects once and says which origin it was.
fn who(gate: &Shardgate, source: &str) -> char {
    let mut client = connect_from(source, gate.address("fe"));
    let mut name = [0; 1];
    client.read_exact(&mut name).expect("the origin says its name");
    char::from(name[0])
}

/// Says the name and ends when the client does.
fn three() -> [Origin; 3] {
    [Origin::named("a"), Origin::named("b"), Origin::named("c")]
}

fn tally(gate: &Shardgate, sessions: usize) -> BTreeMap<char, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..sessions {
        *counts.entry(who(gate, "127.0.0.1")).or_insert(0) += 1;
    }
    counts
}

#[test]
fn roundrobin_follows_the_weights_exactly() {
    let [a, b, c] = three();
    let body = backend("", &[(at(&a), "weight = 1"), (at(&b), "weight = 2"), (at(&c), "weight = 3")]);
    let gate = Shardgate::with(&body).cores(1).start();
    assert_eq!(tally(&gate, 60), BTreeMap::from([('a', 10), ('b', 20), ('c', 30)]));
    gate.wait_stat("be/s2", "lbtot", "30");
    gate.finish();
}

#[test]
fn roundrobin_skips_weight_zero() {
    let [a, b, c] = three();
    let body = backend("", &[(at(&a), "weight = 0"), (at(&b), ""), (at(&c), "")]);
    let gate = Shardgate::with(&body).cores(1).start();
    assert_eq!(tally(&gate, 20), BTreeMap::from([('b', 10), ('c', 10)]));
    gate.finish();
}

#[test]
fn weights_change_while_it_runs() {
    let [a, b, c] = three();
    let gate = Shardgate::with(&backend("", &[(at(&a), ""), (at(&b), ""), (at(&c), "")])).cores(1).start();
    assert_eq!(tally(&gate, 9), BTreeMap::from([('a', 3), ('b', 3), ('c', 3)]));
    assert_eq!(gate.ask("set weight be/s0 0").trim(), "");
    assert_eq!(gate.ask("set weight be/s1 3").trim(), "");
    gate.wait_stat("be/s1", "weight", "3");
    assert_eq!(tally(&gate, 12), BTreeMap::from([('b', 9), ('c', 3)]));
    assert_eq!(gate.ask("get weight be/s1").trim(), "3 (initial 1)");
    gate.finish();
}

#[test]
fn leastconn_is_exact_over_all_cores() {
    let [a, b, c] = three();
    let servers = [(at(&a), ""), (at(&b), ""), (at(&c), "")];
    let gate = Shardgate::start(&backend("balance = \"leastconn\"", &servers));
    let mut held = Vec::new();
    for round in 1..=10_u64 {
        for _ in 0..3 {
            let mut client = gate.connect("fe");
            client.read_exact(&mut [0; 1]).expect("the name");
            held.push(client);
        }
        for server in ["be/s0", "be/s1", "be/s2"] {
            assert_eq!(gate.count(server, "scur"), round, "{server}");
        }
    }
    drop(held);
    gate.finish();
}

#[test]
fn first_fills_one_server_before_the_next() {
    let [a, b, c] = three();
    let servers = [(at(&a), "maxconn = 2"), (at(&b), "maxconn = 2"), (at(&c), "")];
    let gate = Shardgate::start(&backend("balance = \"first\"", &servers));
    let mut held = Vec::new();
    let mut order = String::new();
    for _ in 0..6 {
        let mut client = gate.connect("fe");
        let mut name = [0; 1];
        client.read_exact(&mut name).expect("the name");
        order.push(char::from(name[0]));
        held.push(client);
    }
    assert_eq!(order, "aabbcc");
    drop(held);
    gate.finish();
}

#[test]
fn source_sends_an_address_always_to_the_same_server() {
    for kind in ["map-based", "consistent"] {
        let [a, b, c] = three();
        let keywords = format!("balance = \"source\"\nhash-type = \"{kind}\"");
        let gate = Shardgate::start(&backend(&keywords, &[(at(&a), ""), (at(&b), ""), (at(&c), "")]));
        let mut used = BTreeMap::new();
        for host in 1..=30 {
            let source = format!("127.0.0.{host}");
            let first = who(&gate, &source);
            assert_eq!(who(&gate, &source), first, "{kind} {source}");
            *used.entry(first).or_insert(0) += 1;
        }
        assert_eq!(used.len(), 3, "{kind}: {used:?} of 30 addresses");
        gate.finish();
    }
}

#[test]
fn hash_of_an_expression_and_random_use_all_servers() {
    for balance in ["hash src_port", "random", "random(3)"] {
        let [a, b, c] = three();
        let keywords = format!("balance = \"{balance}\"");
        let gate = Shardgate::start(&backend(&keywords, &[(at(&a), ""), (at(&b), ""), (at(&c), "")]));
        let counts = tally(&gate, 60);
        assert_eq!(counts.len(), 3, "{balance}: {counts:?}");
        gate.finish();
    }
}

#[test]
fn a_backup_serves_only_when_no_other_can() {
    let refusing = Refusing::new();
    let [a, b, _] = three();
    let check = "check = true\ninter = \"50ms\"\nfall = 1";
    let body = backend("", &[(at(&a), ""), (at(&b), "backup = true")]);
    let gate = Shardgate::start(&body);
    assert_eq!(tally(&gate, 6), BTreeMap::from([('a', 6)]));
    gate.finish();

    let body = backend("", &[(refusing.address.to_string(), check), (at(&b), "backup = true")]);
    let gate = Shardgate::start(&body);
    gate.wait_stat("be/s0", "status", "DOWN");
    assert_eq!(tally(&gate, 4), BTreeMap::from([('b', 4)]));
    assert_eq!(gate.count("be/BACKEND", "bck"), 1);
    gate.finish();
}

#[test]
fn a_refused_connection_is_retried_on_the_same_server() {
    let refusing = Refusing::new();
    let body = backend("retries = 2", &[(refusing.address.to_string(), "")]);
    let gate = Shardgate::with(&body).defaults("log = true\nlog-format = \"tcplog\"").start();
    let mut client = gate.connect("fe");
    assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    drop(client);
    gate.wait_stat("be/s0", "wretr", "2");
    gate.wait_stat("be/s0", "econ", "1");
    assert_eq!(gate.count("be/BACKEND", "wredis"), 0);
    gate.wait_log(" SC ");
    gate.finish();
}

#[test]
fn redispatch_takes_another_server_and_the_client_does_not_notice() {
    let refusing = Refusing::new();
    let [a, ..] = three();
    let body = backend("retries = 1\nredispatch = true", &[(refusing.address.to_string(), ""), (at(&a), "")]);
    let gate = Shardgate::with(&body).cores(1).start();
    assert_eq!(tally(&gate, 6), BTreeMap::from([('a', 6)]));
    let redispatched = gate.count("be/BACKEND", "wredis");
    assert!(redispatched >= 2, "{redispatched} of 6 sessions met the refusing server first");
    assert_eq!(gate.count("be/BACKEND", "econ"), 0, "no session failed");
    gate.finish();
}

#[test]
fn what_the_client_sent_early_reaches_the_server_after_a_redispatch() {
    let refusing = Refusing::new();
    let origin = Origin::recorder();
    let body =
        backend("retries = 1\nredispatch = true", &[(refusing.address.to_string(), ""), (at(&origin), "")]);
    let gate = Shardgate::with(&body).cores(1).start();
    for number in 1..=4 {
        let mut client = gate.connect("fe");
        client.write_all(b"early bytes").expect("the proxy takes it");
        drop(client);
        origin.wait_for_notes(number);
    }
    assert!(origin.notes().iter().all(|note| note == b"early bytes"), "{:?}", origin.notes());
    gate.finish();
}

#[test]
fn without_a_usable_server_the_session_ends_at_once() {
    let origin = Origin::echo();
    let body = backend("", &[(at(&origin), "disabled = true")]);
    let gate = Shardgate::with(&body).defaults("log = true\nlog-format = \"tcplog\"").start();
    let mut client = gate.connect("fe");
    assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    drop(client);
    gate.wait_log(" SC ");
    assert_eq!(gate.stat("be/s0", "status"), "MAINT");
    assert_eq!(gate.stat("be/BACKEND", "status"), "DOWN");
    assert_eq!(origin.accepted(), 0);
    gate.finish();
}

#[test]
fn a_listen_section_is_both_halves() {
    let origin = Origin::named("a");
    let body = format!(
        "[listen.all]\nbind = \"127.0.0.1:0\"\n[listen.all.server.s0]\naddress = \"{}\"\n",
        at(&origin)
    );
    let gate = Shardgate::start(&body);
    let mut client = gate.connect("all");
    client.read_exact(&mut [0; 1]).expect("the name");
    drop(client);
    until("the session to be counted", || gate.count("all/s0", "stot") == 1);
    assert_eq!(gate.count("all/FRONTEND", "stot"), 1);
    assert_eq!(gate.count("all/BACKEND", "stot"), 1);
    gate.finish();
}

#[test]
fn a_server_by_name_is_resolved_and_one_that_does_not_exist_stops_nothing() {
    let origin = Origin::named("a");
    let port = origin.address.port();
    let body =
        backend("", &[(format!("localhost:{port}"), ""), (format!("no-such-host.invalid:{port}"), "")]);
    let gate = Shardgate::start(&body);
    until("localhost to be resolved", || gate.stat("be/s0", "status") != "MAINT (resolution)");
    assert_eq!(tally(&gate, 4), BTreeMap::from([('a', 4)]));
    assert_eq!(gate.stat("be/s1", "status"), "MAINT (resolution)");
    gate.finish();
}

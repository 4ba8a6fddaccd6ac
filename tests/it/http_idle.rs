//! Quiet keep-alive connections: they are parked, and nobody notices but their memory.

use crate::harness::http::{Wire, http_gate, ok, sections};
use crate::harness::{Origin, Shardgate, until};

/// More than may keep the memory of a busy session, so that some are parked at once and some when their grace is over.
const CLIENTS: usize = 200;

fn activity(gate: &Shardgate, name: &str) -> String {
    let text = gate.ask("show activity");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.and_then(|value| value.split_whitespace().next()).unwrap_or_default().to_owned()
}

fn parked(gate: &Shardgate) -> String {
    activity(gate, "conn_parked")
}

fn clients(gate: &Shardgate) -> Vec<Wire> {
    let clients = served_clients(gate);
    until("all are parked", || parked(gate) == CLIENTS.to_string());
    clients
}

fn served_clients(gate: &Shardgate) -> Vec<Wire> {
    let mut clients: Vec<Wire> = (0..CLIENTS).map(|_| gate.wire("fe")).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.get(&format!("/{number}")).text(), format!("/{number} first"));
    }
    clients
}

/// Says the path and what a rule saw of the connection.
fn origin() -> Origin {
    Origin::http(|request| {
        let path = request.start().split(' ').nth(1).unwrap_or_default().to_owned();
        ok(&format!("{path} {}", request.header("x-seen").unwrap_or("first")))
    })
}

/// A variable of the session outlives its rest.
const RULES: &str = r#"rules = [
    { set-header = { name = "X-Seen", value = "%[var(sess.seen)]" }, if = "{ var(sess.seen) -m found }" },
    { set-var = { name = "sess.seen", value = "path" } },
]"#;

#[test]
fn parked_connections_go_on_as_they_were() {
    let origin = origin();
    let gate = http_gate(&origin, RULES, "", "");
    let mut clients = clients(&gate);
    for round in 0..2 {
        for (number, client) in clients.iter_mut().enumerate() {
            let seen = if round == 0 { format!("/{number}") } else { "/again".to_owned() };
            assert_eq!(client.get("/again").text(), format!("/again {seen}"));
        }
        until("all are parked again", || parked(&gate) == CLIENTS.to_string());
    }
    assert!(gate.ask("show sess").lines().filter(|line| line.starts_with("0x")).count() >= CLIENTS);
    // Some leave by themselves, some while they are woken.
    for mut client in clients.drain(..CLIENTS / 2) {
        client.send("GET /half");
        drop(client);
    }
    gate.wait_stat("fe/FRONTEND", "scur", &(CLIENTS / 2).to_string());
    drop(clients);
    gate.wait_stat("fe/FRONTEND", "scur", "0");
    assert_eq!(parked(&gate), "0");
    gate.finish();
}

#[test]
fn parked_connections_keep_their_addresses() {
    let origin = origin();
    let addresses = "%[src]:%[src_port]>%[dst]:%[dst_port]";
    let rules = format!(r#"rules = [{{ set-header = {{ name = "X-Seen", value = "{addresses}" }} }}]"#);
    let gate = http_gate(&origin, &rules, "", "");
    let mut clients: Vec<Wire> = (0..CLIENTS).map(|_| gate.wire("fe")).collect();
    let mut seen = Vec::new();
    for round in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            let text = client.get("/").text();
            if round == 0 {
                seen.push(text);
            } else {
                assert_eq!(text, seen[number]);
            }
        }
        until("all are parked", || parked(&gate) == CLIENTS.to_string());
        let sessions = gate.ask("show sess");
        for text in &seen {
            let client = text.trim_start_matches("/ ").split('>').next().unwrap_or_default();
            assert!(client.starts_with("127.0.0.1:"), "{client}");
            assert!(sessions.contains(&format!("src={client} ")), "{client} in {sessions}");
        }
    }
    drop(clients);
    gate.finish();
}

#[test]
fn parked_connections_end_when_their_time_is_over() {
    let origin = origin();
    let gate = http_gate(&origin, "timeout.http-keep-alive = \"400ms\"", "", "");
    // Some may be gone before the last one came.
    for mut client in served_clients(&gate) {
        assert!(client.is_closed());
    }
    gate.wait_stat("fe/FRONTEND", "scur", "0");
    gate.finish();
}

#[test]
fn parked_connections_are_shut_down_one_by_one_and_by_a_stop() {
    let origin = origin();
    let mut gate = http_gate(&origin, "", "", "");
    let mut clients = clients(&gate);
    let sessions = gate.ask("show sess");
    let first = sessions.lines().find_map(|line| line.split(':').next().filter(|id| id.starts_with("0x")));
    gate.ask(&format!("shutdown session {}", first.expect("a session")));
    until("one is gone", || parked(&gate) == (CLIENTS - 1).to_string());
    gate.signal("USR1");
    for client in &mut clients {
        assert!(client.is_closed());
    }
    assert!(gate.wait_exit().success());
}

#[test]
fn parked_connections_get_the_new_rules_at_their_next_request() {
    let origin = origin();
    let header = |value: &str| format!("{{ set-header = {{ name = \"X-Rules\", value = \"{value}\" }} }}");
    let with = |value: &str| format!("{RULES}\nresponse-rules = [{}]", header(value));
    let mut gate = http_gate(&origin, &with("old"), "", "");
    let mut clients = clients(&gate);
    for value in ["new", "newer"] {
        gate.reload(&sections(&origin, &with(value), "", ""));
        assert_eq!(parked(&gate), CLIENTS.to_string(), "nobody is woken for it");
        for (number, client) in clients.iter_mut().enumerate() {
            let response = client.get("/again");
            assert_eq!(response.header("x-rules"), Some(value));
            let seen = if value == "new" { format!("/{number}") } else { "/again".to_owned() };
            assert_eq!(response.text(), format!("/again {seen}"), "variables of the session stay");
        }
        until("old generations to end", || !gate.ask("show generations").contains(" old "));
        until("all are parked again", || parked(&gate) == CLIENTS.to_string());
    }
    assert_eq!(gate.count("fe/FRONTEND", "stot"), CLIENTS as u64, "they are still the same sessions");
    drop(clients);
    gate.wait_stat("fe/FRONTEND", "scur", "0");
    assert_eq!(parked(&gate), "0");
    gate.finish();
}

/// Whether both cores served clients over one connection.
fn one_connection_serves_two_cores() -> bool {
    let origin = Origin::http_named("a");
    let gate = http_gate(&origin, "", "http-reuse = \"always\"", "");
    assert_eq!(gate.info("Nbthread"), "2", "with one core this says nothing");
    // The kernel spreads clients over the cores.
    until("the connection has changed hands", || {
        let mut client = gate.wire("fe");
        assert_eq!(client.get("/").text(), "a");
        activity(&gate, "idle_given") != "0"
    });
    let accepted = origin.accepted();
    assert!(accepted <= 2, "at most one a core: {accepted}");
    gate.finish();
    accepted == 1
}

#[test]
fn a_core_without_an_idle_connection_takes_one_of_another() {
    // A core whose thread does not run for a while answers too late, and the other one has opened a connection by then.
    assert!((0..5).any(|_| one_connection_serves_two_cores()), "two connections every time");
}

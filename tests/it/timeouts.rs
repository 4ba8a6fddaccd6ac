//! Each timeout ends what it is for, and only that.

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::harness::gate::relay;
use crate::harness::origin::Blackhole;
use crate::harness::{Origin, Shardgate, until};

fn with_timeouts(server: &Origin, timeouts: &str) -> Shardgate {
    Shardgate::with(&relay(server.address, "")).defaults(timeouts).start()
}

/// The client's view of a session that the proxy ended.
fn ended(client: &mut std::net::TcpStream) -> bool {
    match client.read(&mut [0; 16]) {
        Ok(0) => true,
        Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
        Ok(_) => false,
    }
}

#[test]
fn timeout_client_ends_a_client_that_says_nothing() {
    let origin = Origin::silent();
    let gate = with_timeouts(&origin, "timeout.client = \"150ms\"\nlog = true\nlog-format = \"tcplog\"");
    let mut client = gate.connect("fe");
    assert!(ended(&mut client));
    until("the origin's connection to end", || origin.open() == 0);
    gate.wait_stat("be/s1", "cli_timeout", "1");
    gate.wait_log(" cD ");
    drop(client);
    gate.finish();
}

#[test]
fn timeout_server_ends_a_server_that_does_not_answer() {
    let origin = Origin::silent();
    let gate = with_timeouts(&origin, "timeout.server = \"150ms\"\nlog = true\nlog-format = \"tcplog\"");
    let mut client = gate.connect("fe");
    client.write_all(b"hello?").expect("the proxy takes it");
    assert!(ended(&mut client));
    until("the origin's connection to end", || origin.open() == 0);
    gate.wait_stat("be/s1", "srv_timeout", "1");
    gate.wait_log(" sD ");
    drop(client);
    gate.finish();
}

#[test]
fn a_session_that_talks_outlives_its_timeouts() {
    let origin = Origin::echo();
    let gate = with_timeouts(&origin, "timeout.client = \"400ms\"\ntimeout.server = \"400ms\"");
    let mut client = gate.connect("fe");
    let start = std::time::Instant::now();
    let mut rounds = 0;
    // Talks for three times the timeout, and more than a few times; each pause is far below it.
    while start.elapsed().as_millis() < 1200 || rounds <= 5 {
        client.write_all(b"x").expect("still open");
        client.read_exact(&mut [0; 1]).expect("still open");
        std::thread::sleep(std::time::Duration::from_millis(20));
        rounds += 1;
    }
    drop(client);
    assert_eq!(gate.count("be/BACKEND", "cli_abrt"), 0);
    assert_eq!(gate.count("be/BACKEND", "srv_abrt"), 0);
    gate.finish();
}

#[test]
fn timeout_connect_gives_up_a_server_that_does_not_answer() {
    let hole = Blackhole::new();
    let gate = Shardgate::with(&relay(hole.address, ""))
        .defaults("timeout.connect = \"100ms\"\nretries = 1\nlog = true\nlog-format = \"tcplog\"")
        .start();
    let mut client = gate.connect("fe");
    assert!(ended(&mut client));
    gate.wait_stat("be/BACKEND", "econ", "1");
    gate.wait_stat("be/BACKEND", "wretr", "1");
    gate.wait_log(" sC ");
    drop(client);
    gate.finish();
}

#[test]
fn timeout_client_fin_ends_a_client_that_never_closes() {
    let origin = Origin::new(|mut stream, _| {
        let _ = stream.write_all(b"bye");
    });
    let gate = with_timeouts(&origin, "timeout.client-fin = \"150ms\"\ntimeout.server-fin = \"150ms\"");
    let mut client = gate.connect("fe");
    let mut all = Vec::new();
    client.read_to_end(&mut all).expect("the server's end");
    assert_eq!(all, b"bye");
    // The client keeps its side open; the long `timeout client` would hold the session for a minute.
    gate.wait_stat("fe/FRONTEND", "scur", "0");
    drop(client);
    gate.finish();
}

#[test]
fn timeout_server_fin_ends_a_server_that_never_closes() {
    let origin = Origin::new(|mut stream, shared| {
        let mut request = Vec::new();
        let _ = stream.read_to_end(&mut request);
        shared.note(&request);
        shared.hold();
    });
    let gate = with_timeouts(&origin, "timeout.server-fin = \"150ms\"");
    let mut client = gate.connect("fe");
    client.write_all(b"last words").expect("the proxy takes it");
    client.shutdown(Shutdown::Write).expect("still connected");
    assert_eq!(origin.wait_for_notes(1)[0], b"last words");
    assert!(ended(&mut client));
    gate.wait_stat("fe/FRONTEND", "scur", "0");
    drop(client);
    gate.finish();
}

#[test]
fn timeout_tunnel_replaces_the_others_once_both_sides_are_connected() {
    let origin = Origin::echo();
    let short = "timeout.client = \"150ms\"\ntimeout.server = \"150ms\"";
    let gate = with_timeouts(&origin, &format!("{short}\ntimeout.tunnel = \"60s\""));
    let clock = with_timeouts(&origin, short);
    // Neither of them carries a byte at first. While the tunnels live, sessions without one end several times over.
    let mut tunnels = [gate.connect("fe"), gate.connect("fe")];
    tunnels[0].write_all(b"x").expect("open");
    tunnels[0].read_exact(&mut [0; 1]).expect("the echo");
    for _ in 0..4 {
        assert!(ended(&mut clock.connect("fe")));
    }
    for tunnel in &mut tunnels {
        tunnel.write_all(b"y").expect("still open after several times its timeouts");
        tunnel.read_exact(&mut [0; 1]).expect("the echo");
    }
    drop(tunnels);
    clock.finish();
    gate.finish();
}

#[test]
fn timeout_tunnel_ends_a_tunnel() {
    let origin = Origin::echo();
    let gate = with_timeouts(&origin, "timeout.tunnel = \"150ms\"");
    let mut client = gate.connect("fe");
    client.write_all(b"x").expect("open");
    client.read_exact(&mut [0; 1]).expect("the echo");
    assert!(ended(&mut client));
    until("the origin's connection to end", || origin.open() == 0);
    drop(client);
    gate.finish();
}

#[test]
fn a_blocked_reader_runs_into_its_timeout() {
    // The client reads nothing: the server's bytes pile up in the kernel, and it is the client's turn.
    let origin = Origin::new(|mut stream, _| {
        let _ = crate::harness::bytes::send(&mut stream, 100_000_000);
    });
    let gate = with_timeouts(&origin, "timeout.client = \"200ms\"");
    let client = gate.connect("fe");
    gate.wait_stat("be/s1", "cli_timeout", "1");
    until("the origin's connection to end", || origin.open() == 0);
    drop(client);
    gate.finish();
}

//! `source`: which local addresses and ports connections to servers have.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use crate::harness::gate::{binary, relay};
use crate::harness::{Origin, Shardgate, program, until};

/// Notes who connects, then echoes.
fn who_connects() -> Origin {
    Origin::new(|stream, shared| {
        let peer = stream.peer_addr().expect("connected");
        shared.note(peer.to_string().as_bytes());
        crate::harness::origin::echo(stream);
    })
}

fn peers(origin: &Origin) -> Vec<SocketAddr> {
    origin.notes().iter().map(|n| String::from_utf8_lossy(n).parse().expect("an address")).collect()
}

fn open(gate: &Shardgate) -> std::io::Result<TcpStream> {
    let mut client = gate.connect("fe");
    client.write_all(b"x")?;
    client.read_exact(&mut [0; 1])?;
    Ok(client)
}

/// Three consecutive ports that nobody uses at 127.0.0.2 and 127.0.0.3 now.
fn free_range() -> (u16, u16) {
    loop {
        let probe = TcpListener::bind("127.0.0.2:0").expect("loopback is a /8");
        let first = probe.local_addr().expect("bound").port();
        drop(probe);
        let free = |host: &str, port: u16| TcpListener::bind((host, port)).is_ok();
        if first < 65_000 && (first..first + 3).all(|p| free("127.0.0.2", p) && free("127.0.0.3", p)) {
            return (first, first + 2);
        }
    }
}

#[test]
fn an_address_without_ports_is_where_connections_come_from() {
    let origin = who_connects();
    let gate = Shardgate::start(&relay(origin.address, "source = \"127.0.0.9\""));
    for _ in 0..5 {
        open(&gate).expect("served");
    }
    assert!(peers(&origin).iter().all(|p| p.ip() == "127.0.0.9".parse::<IpAddr>().expect("a literal")));
    gate.finish();
}

#[test]
fn a_list_of_addresses_with_ports_is_used_up_and_then_said_to_be() {
    let (first, last) = free_range();
    let origin = who_connects();
    let keywords = format!(
        "source = [\"127.0.0.2:{first}-{last}\", \"127.0.0.3:{first}-{last}\"]\ncheck = true\ninter = \"100ms\""
    );
    // One core, because each core has its own part of the ports.
    let body = relay(origin.address, &keywords);
    let gate = Shardgate::with(&body).cores(1).defaults("log = true").start();
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(open(&gate).expect("a port is left"));
    }
    let used: BTreeSet<SocketAddr> =
        peers(&origin).into_iter().filter(|p| (first..=last).contains(&p.port())).collect();
    assert_eq!(used.len(), 6, "{used:?}");
    // The seventh finds no port: it fails, that is counted, and the server's health does not suffer.
    assert!(open(&gate).is_err(), "seven connections from six ports");
    until("the exhaustion to be counted", || gate.count("be/s1", "eports") > 0);
    gate.wait_log("source port");
    assert!(gate.stat("be/s1", "status").starts_with("UP"), "{}", gate.stat("be/s1", "status"));
    drop(held);
    gate.wait_stat("be/s1", "scur", "0");
    // Ports come back.
    for _ in 0..3 {
        open(&gate).expect("a port is left again");
    }
    gate.finish();
}

#[test]
fn a_list_of_sources_has_ports_where_one_address_has_none() {
    let bench = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/source-ports");
    let done = std::process::Command::new(program("python3"))
        .args([bench, "--json", "--rate", "200", "--seconds", "2", "--ports", "250", "--binary", &binary()])
        .output()
        .expect("python runs");
    let error = String::from_utf8_lossy(&done.stderr);
    let rows: serde_json::Value =
        serde_json::from_slice(&done.stdout).unwrap_or_else(|e| panic!("{e}: {error}"));
    let number = |row: usize, key: &str| rows[row][key].as_u64().expect("a number");
    assert!((1..=250).contains(&number(0, "opened")) && number(0, "failed") >= 150, "{rows}");
    // Between them stands what `tcp_tw_reuse` brings, which is a matter of time.
    assert_eq!((number(2, "opened"), number(2, "failed")), (400, 0), "{rows}");
    let ledger = rows[2]["ledger"][1].as_str().expect("a line");
    let words: Vec<&str> = ledger.split(' ').collect();
    // The question that looks whether the proxy is there makes one more.
    assert!(
        words[..2] == ["127.0.0.10", "127.0.0.1:3306"] && (words[3] == "400" || words[3] == "401"),
        "{rows}"
    );
}

#[test]
fn a_server_without_an_address_is_where_the_client_wants_to_go() {
    let origin = Origin::http_named("there");
    let body = "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n\
         rules = [{ set-dst = \"url_ip\" }, { set-dst-port = \"url_port\" }, { set-uri = \"%[pathq]\" }]\n\
         [backend.be]\nserver.hop = { address = \"0.0.0.0:0\" }\n";
    let gate = Shardgate::with(body).defaults("mode = \"http\"").start();
    let mut wire = gate.wire("fe");
    let address = origin.address;
    wire.send(format!("GET http://{address}/x HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    assert_eq!(wire.response("GET").text(), "there");
    drop(wire);
    gate.finish();
}

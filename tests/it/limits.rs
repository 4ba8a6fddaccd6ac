//! When something runs out: file descriptors, disk, memory of the log's target. The proxy says so once and goes on.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::gate::relay;
use crate::harness::{Origin, Shardgate, until};

#[test]
fn maxconn_is_derived_from_the_limit_of_open_files() {
    let origin = Origin::echo();
    let gate = Shardgate::with(&relay(origin.address, "")).nofile(1000).start();
    let maxconn: usize = gate.info("Maxconn").parse().expect("a number");
    assert!(
        (100..500).contains(&maxconn),
        "{maxconn} connections with 1000 files: two files each, and some of its own"
    );
    assert_eq!(gate.info("Ulimit-n"), "1000");
    gate.finish();
}

#[test]
fn a_full_disk_under_the_log_stops_nothing() {
    let origin = Origin::echo();
    let gate = Shardgate::with(&relay(origin.address, ""))
        .global("log = \"file:/dev/full\"")
        .defaults("log = true")
        .start();
    for _ in 0..20 {
        let mut client = gate.connect("fe");
        client.write_all(b"x").expect("the proxy takes it");
        client.read_exact(&mut [0; 1]).expect("the echo");
    }
    gate.wait_stat("fe/FRONTEND", "stot", "20");
    until("the lost lines to be counted", || gate.info("DroppedLogs") != "0");
    gate.finish();
}

#[test]
fn thousands_of_connections_come_and_go() {
    let origin = Origin::echo();
    let gate = Shardgate::relay(origin.address);
    let address = gate.address("fe");
    for _ in 0..3 {
        let mut clients: Vec<TcpStream> = (0..400).map(|_| crate::harness::connect(address)).collect();
        for client in &mut clients {
            client.write_all(b"x").expect("the proxy takes it");
        }
        for client in &mut clients {
            client.read_exact(&mut [0; 1]).expect("the echo");
        }
        assert_eq!(gate.count("fe/FRONTEND", "scur"), 400);
        drop(clients);
        gate.wait_stat("fe/FRONTEND", "scur", "0");
    }
    gate.wait_stat("fe/FRONTEND", "stot", "1200");
    gate.finish();
}

//! Health checks: what they see, how soon, and what follows.

use std::io::{Read, Write};
use std::net::SocketAddr;

use crate::harness::{Origin, Shardgate};

fn one_server(address: SocketAddr, keywords: &str, backend: &str) -> String {
    format!(
        "\n[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\n{backend}\n[backend.be.server.s1]\naddress = \"{address}\"\n{keywords}\n"
    )
}

#[test]
fn an_operator_drains_and_enables_a_server() {
    let origin = Origin::echo();
    let gate = Shardgate::start(&one_server(origin.address, "", ""));
    assert_eq!(gate.stat("be/s1", "status"), "no check");
    let mut client = gate.connect("fe");
    client.write_all(b"x").expect("the proxy takes it");
    client.read_exact(&mut [0; 1]).expect("served");
    assert_eq!(gate.ask("set server be/s1 state drain").trim(), "");
    gate.wait_stat("be/s1", "status", "DRAIN");
    client.write_all(b"y").expect("still open");
    client.read_exact(&mut [0; 1]).expect("an open session goes on");
    let mut refused = gate.connect("fe");
    assert_eq!(refused.read(&mut [0; 1]).unwrap_or(0), 0, "no new ones");
    assert_eq!(gate.ask("set server be/s1 state ready").trim(), "");
    let mut again = gate.connect("fe");
    again.write_all(b"z").expect("the proxy takes it");
    again.read_exact(&mut [0; 1]).expect("new ones again");
    drop((client, refused, again));
    gate.finish();
}

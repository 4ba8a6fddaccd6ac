//! Servers behind names: several servers behind one name, services with ports of their own, and DNS servers that are not the machine's.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::harness::dns::{Dns, Record};
use crate::harness::peers::Peer;
use crate::harness::{Origin, Shardgate, connect, until};

fn local(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

/// Origins at addresses of this machine that share a port.
fn at_one_port(names: &[(u8, &'static str)]) -> Vec<Origin> {
    // The port that one address gives away may be in use at another.
    for _ in 0..100 {
        let first = TcpListener::bind((local(names[0].0), 0)).expect("a local address");
        let port = first.local_addr().expect("bound above").port();
        let free = |(last, _): &(u8, _)| TcpListener::bind((local(*last), port)).is_ok();
        if !names[1..].iter().all(free) {
            continue;
        }
        drop(first);
        let start = |(last, name): &(u8, &'static str)| named_at((local(*last), port).into(), name);
        return names.iter().map(start).collect();
    }
    panic!("no port is free at all of them");
}

fn named_at(address: SocketAddr, name: &'static str) -> Origin {
    Origin::at(address, move |mut stream, _| drop(std::io::Write::write_all(&mut stream, name.as_bytes())))
}

/// What the next sessions are greeted with, each name once.
fn greetings(gate: &Shardgate, n: usize) -> String {
    let mut seen: Vec<String> = (0..n)
        .map(|_| {
            let mut text = String::new();
            let _ = gate.connect("fe").read_to_string(&mut text);
            text
        })
        .collect();
    seen.sort();
    seen.dedup();
    seen.concat()
}

/// Address, name and service of each server in `show servers state`.
fn states(gate: &Shardgate) -> String {
    let text = gate.ask("show servers state be");
    let rows = text.lines().skip(2).map(|line| line.split(' ').collect::<Vec<_>>());
    let show = |row: Vec<&str>| format!("{}={} {} {}", row[3], row[4], row[17], row[19]);
    rows.filter(|row| row.len() > 19).map(show).collect::<Vec<_>>().join(", ")
}

fn config(template: &str) -> String {
    format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\nbalance = \"roundrobin\"\n\
         server-template.web = {{ {template} }}\n"
    )
}

#[test]
fn servers_of_a_template_share_the_addresses_of_a_name() {
    let dns = Dns::new();
    let origins = at_one_port(&[(2, "a"), (3, "b"), (4, "c")]);
    let port = origins[0].address.port();
    dns.set("app.test", &[Record::A(local(3)), Record::A(local(2))]);
    let body = config(&format!("count = 3, address = \"app.test:{port}\""));
    let gate = Shardgate::with(&body).global(&format!("nameserver = \"{}\"", dns.address)).start();
    until("both addresses to be known", || gate.stat("be/web2", "status") != "MAINT (resolution)");
    assert_eq!(
        states(&gate),
        "web1=127.0.0.2 app.test -, web2=127.0.0.3 app.test -, web3=- app.test -",
        "the order of the answer means nothing"
    );
    assert_eq!(gate.stat("be/web3", "status"), "MAINT (resolution)");
    assert_eq!(greetings(&gate, 6), "ab");
    // One goes, another comes: who has an address keeps it.
    dns.set("app.test", &[Record::A(local(4)), Record::A(local(3))]);
    until("the new address", || states(&gate).contains("web1=127.0.0.4"));
    assert!(states(&gate).contains("web2=127.0.0.3"), "{}", states(&gate));
    assert_eq!(greetings(&gate, 6), "bc");
    // Fewer: a server without an address gets nothing.
    dns.set("app.test", &[Record::A(local(3))]);
    until("one server less", || gate.stat("be/web1", "status") == "MAINT (resolution)");
    assert_eq!(greetings(&gate, 4), "b");
    gate.finish();
}

#[test]
fn a_service_says_names_and_ports() {
    let dns = Dns::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| named_at((local(1), 0).into(), name));
    let srv = |priority, origin: &Origin| Record::Srv(priority, origin.address.port(), "one.test");
    dns.set("one.test", &[Record::A(local(1))]);
    dns.set("_app._tcp.test", &[srv(10, &a), srv(20, &c), srv(10, &b)]);
    let body = config("count = 2, address = \"_app._tcp.test\"");
    let gate = Shardgate::with(&body).global(&format!("nameserver = \"{}\"", dns.address)).start();
    until("both targets to be known", || gate.stat("be/web2", "status") != "MAINT (resolution)");
    assert_eq!(greetings(&gate, 4), "ab", "the first priority");
    assert!(states(&gate).contains("web1=127.0.0.1 - _app._tcp.test"), "{}", states(&gate));
    dns.set("_app._tcp.test", &[srv(20, &c)]);
    until("the other priority", || greetings(&gate, 2) == "c");
    gate.finish();
}

#[test]
fn resolvers_and_templates_of_haproxy_do_the_same_there_and_here() {
    let dns = Dns::new();
    let origins = at_one_port(&[(2, "a"), (3, "b")]);
    dns.set("app.test", &[Record::A(local(2)), Record::A(local(3))]);
    let sections = format!(
        "resolvers dns\n nameserver one {}\n hold valid 1s\ndefaults\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
         listen fe\n bind @ADDRESS@\n server-template web 3-5 app.test:{} resolvers dns resolve-prefer ipv4 init-addr none\n",
        dns.address,
        origins[0].address.port()
    );
    for peer in [Peer::haproxy(&sections), Peer::in_haproxys_place(&sections)] {
        let mut seen = std::collections::BTreeSet::new();
        until("both servers", || {
            let mut text = String::new();
            let _ = connect(peer.address).read_to_string(&mut text);
            seen.insert(text);
            seen.contains("a") && seen.contains("b")
        });
    }
}

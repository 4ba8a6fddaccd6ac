//! Limits that are exact over all cores, and the queue before them.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::gate::relay;
use crate::harness::{Origin, Shardgate, connect, until};

/// One exchange to its end, which the origin or we make.
fn exchange(mut client: TcpStream) {
    client.write_all(b"x").expect("the proxy takes it");
    client.read_exact(&mut [0; 1]).expect("served, maybe after waiting");
}

/// Many clients at once, each with one exchange after the other, which the origin ends.
fn crowd(address: std::net::SocketAddr, clients: usize, exchanges: usize) {
    let clients: Vec<_> = (0..clients)
        .map(|_| {
            std::thread::spawn(move || {
                for _ in 0..exchanges {
                    let mut client = connect(address);
                    client.write_all(b"x").expect("the proxy takes it");
                    let mut all = Vec::new();
                    client.read_to_end(&mut all).expect("served, maybe after waiting");
                    assert_eq!(all, b"x");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("every client is served");
    }
}

#[test]
fn maxconn_of_a_server_is_exact_over_all_cores() {
    let origin = Origin::one_exchange();
    let gate =
        Shardgate::with(&relay(origin.address, "maxconn = 3")).defaults("timeout.queue = \"60s\"").start();
    crowd(gate.address("fe"), 60, 5);
    assert!(origin.most_inside() <= 3, "{} connections at once", origin.most_inside());
    assert_eq!(origin.accepted(), 300);
    assert!(gate.count("be/s1", "smax") <= 3);
    assert!(gate.count("be/BACKEND", "qmax") > 0, "nobody waited: the test shows nothing");
    gate.wait_stat("be/BACKEND", "qcur", "0");
    gate.finish();
}

#[test]
fn a_session_that_ends_lets_the_next_one_in_on_whatever_core() {
    let origin = Origin::echo();
    let gate =
        Shardgate::with(&relay(origin.address, "maxconn = 1")).defaults("timeout.queue = \"60s\"").start();
    let mut first = gate.connect("fe");
    first.write_all(b"x").expect("open");
    first.read_exact(&mut [0; 1]).expect("served");
    let mut waiting: Vec<TcpStream> = (0..8).map(|_| gate.connect("fe")).collect();
    for client in &mut waiting {
        client.write_all(b"y").expect("open");
    }
    until("all others to wait", || gate.count("be/BACKEND", "qcur") + gate.count("be/s1", "qcur") >= 8);
    assert_eq!(gate.count("be/s1", "scur"), 1);
    drop(first);
    // Each is served in its turn, and each end lets the next one in.
    let threads: Vec<_> = waiting
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || client.read_exact(&mut [0; 1]).expect("served, at last"))
        })
        .collect();
    for thread in threads {
        thread.join().expect("every one is served");
    }
    gate.wait_stat("be/s1", "smax", "1");
    gate.finish();
}

#[test]
fn timeout_queue_ends_who_waits_too_long() {
    let origin = Origin::echo();
    let gate = Shardgate::with(&relay(origin.address, "maxconn = 1"))
        .defaults("timeout.queue = \"150ms\"\nlog = true\nlog-format = \"tcplog\"")
        .start();
    let mut first = gate.connect("fe");
    first.write_all(b"x").expect("open");
    first.read_exact(&mut [0; 1]).expect("served");
    let mut second = gate.connect("fe");
    assert_eq!(second.read(&mut [0; 1]).unwrap_or(0), 0, "it ends without being served");
    gate.wait_log(" sQ ");
    gate.wait_stat("be/BACKEND", "equeue", "1");
    gate.wait_stat("be/BACKEND", "qcur", "0");
    first.write_all(b"x").expect("still open");
    first.read_exact(&mut [0; 1]).expect("still served");
    drop((first, second));
    gate.finish();
}

#[test]
fn a_client_that_leaves_the_queue_leaves_no_trace() {
    let origin = Origin::echo();
    let gate =
        Shardgate::with(&relay(origin.address, "maxconn = 1")).defaults("timeout.queue = \"60s\"").start();
    let mut first = gate.connect("fe");
    first.write_all(b"x").expect("open");
    first.read_exact(&mut [0; 1]).expect("served");
    let leaving: Vec<TcpStream> = (0..5).map(|_| gate.connect("fe")).collect();
    until("all to wait", || gate.count("be/BACKEND", "qcur") + gate.count("be/s1", "qcur") >= 5);
    for client in leaving {
        crate::harness::origin::reset(client);
    }
    gate.wait_stat("be/BACKEND", "qcur", "0");
    gate.wait_stat("be/s1", "qcur", "0");
    drop(first);
    exchange(gate.connect("fe"));
    assert_eq!(origin.accepted(), 2, "nobody connected for a client that had left");
    gate.finish();
}

#[test]
fn maxqueue_sends_the_next_one_elsewhere() {
    let [a, b] = [Origin::named("a"), Origin::named("b")];
    let body = format!(
        r#"
[frontend.fe]
bind = "127.0.0.1:0"
default-backend = "be"
[backend.be]
balance = "first"
[backend.be.server.s0]
address = "{}"
maxconn = 1
maxqueue = 1
[backend.be.server.s1]
address = "{}"
"#,
        a.address, b.address
    );
    let gate = Shardgate::with(&body).defaults("timeout.queue = \"60s\"").start();
    let mut held: Vec<TcpStream> = Vec::new();
    for expected in [b'a', b'b', b'b'] {
        let mut client = gate.connect("fe");
        let mut name = [0; 1];
        client.read_exact(&mut name).expect("a server has room");
        assert_eq!(name[0], expected);
        held.push(client);
    }
    drop(held);
    gate.finish();
}

#[test]
fn maxconn_of_a_frontend_is_exact_over_all_cores() {
    let origin = Origin::one_exchange();
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\nmaxconn = 4\ndefault-backend = \"be\"\n[backend.be.server.s1]\naddress = \"{}\"\n",
        origin.address
    );
    let gate = Shardgate::start(&body);
    crowd(gate.address("fe"), 40, 3);
    assert!(origin.most_inside() <= 4, "{} sessions at once", origin.most_inside());
    assert!(gate.count("fe/FRONTEND", "smax") <= 4);
    assert_eq!(gate.stat("fe/FRONTEND", "slim"), "4");
    gate.finish();
}

#[test]
fn maxconn_of_the_process_is_exact_over_all_cores() {
    let origin = Origin::one_exchange();
    let gate = Shardgate::with(&relay(origin.address, "")).global("maxconn = 5").start();
    assert_eq!(gate.info("Maxconn"), "5");
    crowd(gate.address("fe"), 40, 3);
    assert!(origin.most_inside() <= 5, "{} sessions at once", origin.most_inside());
    gate.finish();
}

#[test]
fn maxconn_of_one_bind_leaves_the_other_alone() {
    let origin = Origin::named("a");
    let body = format!(
        "[frontend.fe]\nbind = [{{ address = \"127.0.0.1:0\", name = \"small\", maxconn = 1 }}, {{ address = \"127.0.0.1:0\", name = \"large\" }}]\n\
         default-backend = \"be\"\n[backend.be.server.s1]\naddress = \"{}\"\n",
        origin.address
    );
    let gate = Shardgate::start(&body);
    let mut first = connect(gate.bind_address("fe", "small"));
    first.read_exact(&mut [0; 1]).expect("room for one");
    let mut waiting = connect(gate.bind_address("fe", "small"));
    for _ in 0..5 {
        connect(gate.bind_address("fe", "large"))
            .read_exact(&mut [0; 1])
            .expect("the other bind has no limit");
    }
    drop(first);
    waiting.read_exact(&mut [0; 1]).expect("its turn");
    drop(waiting);
    gate.finish();
}

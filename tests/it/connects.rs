//! Connects that take long: whoever waits for one takes a connection that becomes free before, and what comes of the connect
//! is kept for others. The accept queue of the server is full, so that the kernel answers no connect.

use std::net::{SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::harness::frames::*;
use crate::harness::http::{Wire, ok};
use crate::harness::{Shardgate, patient};

/// A server whose connections the test accepts one by one.
struct Server {
    listener: TcpListener,
    /// What fills its accept queue.
    crowd: Option<TcpStream>,
}

impl Server {
    fn new() -> Server {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        // Room for one connection that is not accepted yet.
        socket.listen(0).expect("listens");
        Server { listener: socket.into(), crowd: None }
    }

    fn gate(&self, backend: &str, keywords: &str) -> Shardgate {
        let address = self.listener.local_addr().expect("bound");
        let text = format!(
            "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\n{backend}\n\
             [backend.be.server.s1]\naddress = \"{address}\"\n{keywords}\n"
        );
        Shardgate::with(&text).cores(1).defaults("mode = \"http\"").start()
    }

    fn accept(&self) -> TcpStream {
        patient(self.listener.accept().expect("accepted").0)
    }

    /// Connects hang from now on.
    fn fill(&mut self) {
        let address = self.listener.local_addr().expect("bound");
        self.crowd = Some(TcpStream::connect(address).expect("room for one"));
    }

    /// Connects that hang come through, once the kernel tries again.
    fn clear(&mut self) {
        self.crowd = None;
        drop(self.accept());
    }
}

/// Reads the next request, which must be this one.
fn expect(server: &mut Wire, path: &str) {
    let request = server.request().expect("a request");
    assert_eq!(request.start(), format!("GET {path} HTTP/1.1"));
}

fn ask(client: &mut Wire, path: &str) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
}

/// Nothing went wrong, and each row has this value.
fn expect_stats(gate: &Shardgate, rows: &[(&str, &str)]) {
    gate.wait_stat("fe/FRONTEND", "scur", "0");
    for (name, value) in [("econ", "0"), ("wretr", "0"), ("scur", "0")].iter().chain(rows) {
        gate.wait_stat("be/s1", name, value);
    }
    gate.wait_stat("fe/FRONTEND", "hrsp_5xx", "0");
}

#[test]
fn who_waits_for_a_connect_takes_what_becomes_idle() {
    let mut server = Server::new();
    let gate = server.gate("http-reuse = \"always\"", "");
    let (mut a, mut b) = (gate.wire("fe"), gate.wire("fe"));
    ask(&mut a, "/a");
    let mut first = Wire::new(server.accept());
    expect(&mut first, "/a");
    server.fill();
    ask(&mut b, "/b");
    gate.wait_stat("be/s1", "connect", "2");
    first.send(ok("for a"));
    assert_eq!(a.response("GET").text(), "for a");
    expect(&mut first, "/b");
    first.send(ok("for b"));
    assert_eq!(b.response("GET").text(), "for b");
    // The connect goes on, and what comes of it is kept.
    server.clear();
    let mut second = Wire::new(server.accept());
    gate.wait_stat("be/s1", "srv_icur", "2");
    ask(&mut a, "/a2");
    ask(&mut b, "/b2");
    for server in [&mut first, &mut second] {
        assert!(server.request().is_some());
        server.send(ok("again"));
    }
    assert_eq!(a.response("GET").text(), "again");
    assert_eq!(b.response("GET").text(), "again");
    drop((a, b));
    expect_stats(&gate, &[("connect", "2"), ("stot", "4"), ("econ_refused", "0"), ("reuse", "3")]);
    gate.finish();
}

#[test]
fn a_connect_that_fails_when_nobody_waits_is_no_error_of_a_request() {
    let mut server = Server::new();
    let gate = server.gate("http-reuse = \"always\"\nretries = 0", "");
    let mut client = Frames::client(&gate, "fe");
    client.get(1, "/a");
    let mut first = Wire::new(server.accept());
    expect(&mut first, "/a");
    server.fill();
    client.get(3, "/b");
    gate.wait_stat("be/s1", "connect", "2");
    first.send(ok("for a"));
    assert_eq!(client.response(1), (200, b"for a".to_vec()));
    expect(&mut first, "/b");
    first.send(ok("for b"));
    assert_eq!(client.response(3), (200, b"for b".to_vec()));
    // The next try of the kernel finds nobody.
    drop(server);
    gate.wait_stat("be/s1", "econ_refused", "1");
    client.get(5, "/c");
    expect(&mut first, "/c");
    first.send(ok("for c"));
    assert_eq!(client.response(5), (200, b"for c".to_vec()));
    drop(client);
    expect_stats(&gate, &[("connect", "2"), ("reuse", "2"), ("srv_icur", "1")]);
    gate.finish();
}

#[test]
fn a_first_request_that_takes_no_risk_waits_for_a_connection_that_nobody_used() {
    let mut server = Server::new();
    let gate = server.gate("http-reuse = \"safe\"", "");
    let (mut a, mut b) = (gate.wire("fe"), gate.wire("fe"));
    ask(&mut a, "/a");
    let mut first = Wire::new(server.accept());
    expect(&mut first, "/a");
    server.fill();
    ask(&mut b, "/b");
    gate.wait_stat("be/s1", "connect", "2");
    first.send(ok("for a"));
    assert_eq!(a.response("GET").text(), "for a");
    gate.wait_stat("be/s1", "srv_icur", "1");
    server.clear();
    let mut second = Wire::new(server.accept());
    expect(&mut second, "/b");
    second.send(ok("for b"));
    assert_eq!(b.response("GET").text(), "for b");
    drop((a, b));
    expect_stats(&gate, &[("connect", "2"), ("reuse", "0"), ("srv_icur", "2")]);
    gate.finish();
}

#[test]
fn a_client_that_leaves_takes_its_connect_along() {
    let mut server = Server::new();
    let gate = server.gate("http-reuse = \"always\"", "");
    let mut client = Frames::client(&gate, "fe");
    client.get(1, "/a");
    let mut first = Wire::new(server.accept());
    expect(&mut first, "/a");
    server.fill();
    client.get(3, "/b");
    gate.wait_stat("be/s1", "connect", "2");
    client.reset(3, CANCEL);
    gate.wait_stat("be/s1", "scur", "1");
    first.send(ok("for a"));
    assert_eq!(client.response(1), (200, b"for a".to_vec()));
    gate.wait_stat("be/s1", "srv_icur", "1");
    drop(client);
    expect_stats(&gate, &[("connect", "2"), ("reuse", "0")]);
    gate.finish();
}

#[test]
fn who_waits_for_a_connection_of_http2_takes_a_stream_that_is_over() {
    let mut server = Server::new();
    let gate = server.gate("", "proto = \"h2\"\nmax-streams = 1");
    let (mut a, mut b) = (gate.wire("fe"), gate.wire("fe"));
    ask(&mut a, "/a");
    let mut first = Frames::server(server.accept(), &[]);
    let (stream, _) = first.request().expect("a request");
    server.fill();
    ask(&mut b, "/b");
    gate.wait_stat("be/s1", "connect", "2");
    first.answer(stream, &[(":status", "200")], b"for a");
    assert_eq!(a.response("GET").body, b"for a");
    let (stream, _) = first.request().expect("a request");
    first.answer(stream, &[(":status", "200")], b"for b");
    assert_eq!(b.response("GET").body, b"for b");
    server.clear();
    drop((server.accept(), a, b));
    expect_stats(&gate, &[("connect", "2"), ("stot", "2"), ("reuse", "1")]);
    gate.finish();
}

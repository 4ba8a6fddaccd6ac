//! Access lines of the ends that `log_lines` has not: phases in which a client stalls or leaves, queues that are full, retries,
//! sessions that somebody ends. HAProxy and Shardgate write the same line here, too.

use std::io::Read;
use std::net::TcpStream;

use crate::harness::origin::reset;
use crate::log_lines::{Proxy, World, and_arrives, file, get, send, to_end, until_it_has};

const HTTP: &str = "frontend fe
 bind @ADDRESS@
 use_backend bound if { path_beg /full } { hdr(x-how) bound }
 use_backend sticky if { path_beg /full } { hdr(x-how) sticky }
 use_backend forced if { path_beg /full } { hdr(x-how) forced }
 use_backend down if { path /down }
 use_backend retried if { path /flaky }
 use_backend marked if { path /hang /stall } { hdr(x-how) marked }
 use_backend one if { path /hang }
 default_backend be
frontend impatient
 bind @A0@
 timeout client 200ms
 default_backend be
frontend idle
 bind @A1@
 timeout http-keep-alive 100ms
 default_backend be
backend be
 server s1 @ORIGIN@
backend one
 server s1 @ORIGIN@
backend bound
 cookie SRV insert indirect
 server c1 @ORIGIN@ cookie c1 maxconn 1 maxqueue 1
 server c2 @ORIGIN@ cookie c2
backend sticky
 option redispatch
 cookie SRV insert indirect
 server c1 @ORIGIN@ cookie c1 maxconn 1 maxqueue 1
 server c2 @ORIGIN@ cookie c2
backend forced
 option redispatch
 force-persist if TRUE
 cookie SRV insert indirect
 server c1 @ORIGIN@ cookie c1 maxconn 1 maxqueue 1
 server c2 @ORIGIN@ cookie c2
backend down
 option redispatch
 cookie SRV insert indirect
 server c1 @REFUSING@ cookie c1
 server c2 @ORIGIN@ cookie c2
backend retried
 retry-on 503
 server s1 @ORIGIN@
backend marked
 server s1 @ORIGIN@ on-marked-down shutdown-sessions
";

fn full(proxy: &Proxy, path: &str, how: &str) -> TcpStream {
    let text = format!(
        "GET /full{path} HTTP/1.1\r\nHost: h\r\nX-How: {how}\r\nCookie: SRV=c1\r\nConnection: close\r\n\r\n"
    );
    send(proxy.address, &text)
}

/// One is served, one waits, and the third finds the queue of its server full: its line comes first.
fn third(world: &World, proxy: &Proxy, how: &str) {
    let first = and_arrives(world, || full(proxy, "/hang", how));
    let second = full(proxy, "/two", how);
    proxy.until_it_shows(how, "qcur");
    to_end(full(proxy, "/three", how));
    proxy.syslog.wait_for(1);
    drop(second);
    proxy.syslog.wait_for(2);
    drop(first);
}

#[test]
fn lines_of_full_queues_are_haproxys() {
    World::new().compare(
        &file("http", HTTP),
        &[
            ("the server's queue is full", 3, |world, p| third(world, p, "bound")),
            ("another server will do", 3, |world, p| third(world, p, "sticky")),
            ("another server must not", 3, |world, p| third(world, p, "forced")),
        ],
    );
}

#[test]
fn lines_of_retries_are_haproxys() {
    World::new().compare(
        &file("http", HTTP),
        &[
            ("the server of the cookie refuses", 1, |_, p| {
                let head = "GET /down HTTP/1.1\r\nHost: h\r\nCookie: SRV=c1\r\nConnection: close\r\n\r\n";
                to_end(send(p.address, head));
            }),
            ("the first answer is no good", 1, |_, p| to_end(get(p, "/flaky"))),
            ("an upgrade that the server does not want", 1, |_, p| {
                let head = "GET /no HTTP/1.1\r\nHost: h\r\nConnection: close, upgrade\r\nUpgrade: x\r\n\r\n";
                to_end(send(p.address, head));
            }),
        ],
    );
}

const UPLOAD: &str = "POST /hang HTTP/1.1\r\nHost: h\r\nContent-Length: 40\r\n\r\nbody";

#[test]
fn lines_of_clients_that_stall_are_haproxys() {
    World::new().compare(
        &file("http", HTTP),
        &[
            ("in the answer", 1, |_, p| {
                let mut client = send(p.more[0], "GET /big HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
                client.read_exact(&mut [0; 100]).expect("the beginning");
                p.syslog.wait_for(1);
            }),
            ("in the tunnel", 1, |world, p| {
                let head = "GET /tunnel HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
                let mut client = and_arrives(world, || send(p.more[0], head));
                until_it_has(&mut client, "hi");
                drop(client);
            }),
            ("after a request", 1, |_, p| to_end(send(p.more[1], "GET / HTTP/1.1\r\nHost: h\r\n\r\n"))),
        ],
    );
}

#[test]
fn lines_of_clients_that_leave_early_are_haproxys() {
    World::new().compare(
        &file("http", HTTP),
        &[
            ("in the upload, with a reset", 1, |world, p| {
                reset(and_arrives(world, || send(p.address, UPLOAD)));
            }),
            ("between requests", 1, |_, p| {
                let mut client = send(p.address, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
                until_it_has(&mut client, "ok");
            }),
            ("in the head of the second", 2, |_, p| {
                let mut client = send(p.address, "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /second");
                until_it_has(&mut client, "ok");
                p.syslog.wait_for(1);
                drop(client);
            }),
        ],
    );
}

fn marked(proxy: &Proxy, path: &str) -> TcpStream {
    send(
        proxy.address,
        &format!("GET {path} HTTP/1.1\r\nHost: h\r\nX-How: marked\r\nConnection: close\r\n\r\n"),
    )
}

#[test]
fn lines_of_sessions_that_somebody_ends_are_haproxys() {
    World::new().compare(
        &file("http", HTTP),
        &[
            ("the administrator, in the answer", 1, |_, p| {
                let mut client = get(p, "/stall");
                until_it_has(&mut client, "abc");
                p.ask("shutdown sessions server be/s1");
                to_end(client);
            }),
            ("a server that goes down, in the answer", 1, |_, p| {
                let mut client = marked(p, "/stall");
                until_it_has(&mut client, "abc");
                p.ask("set server marked/s1 state maint");
                to_end(client);
            }),
            ("no server is left", 1, |_, p| to_end(marked(p, "/hang"))),
        ],
    );
}

const TCP: &str = " option abortonclose
frontend fe
 bind @ADDRESS@
 tcp-request inspect-delay 1m
 tcp-request content accept if { req.len gt 0 }
 use_backend silent if { req.payload(0,1) -m str s }
 use_backend full if { req.payload(0,1) -m str f }
 use_backend sticky if { req.payload(0,1) -m str k }
 default_backend be
backend be
 server s1 @ORIGIN@
backend silent
 server d1 @SILENT@
backend full
 server s1 @ORIGIN@ maxconn 1
backend sticky
 option redispatch
 stick-table type ip size 100
 stick on src
 server s1 @ORIGIN@ maxconn 1 maxqueue 1
 server s2 @ORIGIN@
";

#[test]
fn lines_of_connections_that_wait_are_haproxys() {
    World::new().compare(
        &file("tcp", TCP),
        &[
            ("the client leaves while connecting", 1, |_, p| {
                let client = send(p.address, "s");
                p.until_there_is("silent", "scur");
                drop(client);
            }),
            ("the client leaves the queue", 2, |world, p| {
                let first = and_arrives(world, || send(p.address, "f"));
                let second = send(p.address, "f");
                p.until_it_shows("full", "qcur");
                drop(second);
                p.syslog.wait_for(1);
                drop(first);
            }),
            ("the queue of the server that the table knows is full", 3, |world, p| {
                let first = and_arrives(world, || send(p.address, "k"));
                let second = send(p.address, "k");
                p.until_it_shows("sticky", "qcur");
                drop(and_arrives(world, || send(p.address, "k")));
                p.syslog.wait_for(1);
                drop(second);
                p.syslog.wait_for(2);
                drop(first);
            }),
        ],
    );
}

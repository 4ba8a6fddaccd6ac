//! Stopping: sessions are drained, the deadline holds, and nothing is cut that could have finished.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::harness::bytes::{self, Pace};
use crate::harness::gate::relay;
use crate::harness::{Origin, Shardgate, connect, until};

const TOTAL: u64 = 20_000_000;

#[test]
fn sigterm_lets_transfers_finish_and_exits_0() {
    let origin = Origin::new(|mut stream, _| {
        let _ = bytes::send(&mut stream, TOTAL);
    });
    let mut gate = Shardgate::relay(origin.address);
    let address = gate.address("fe");
    let started = Arc::new(AtomicU64::new(0));
    let go = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (started, go) = (Arc::clone(&started), Arc::clone(&go));
            std::thread::spawn(move || {
                let mut client = connect(address);
                // One byte, so that the session is there; the rest only after the signal.
                let mut first = [0; 1];
                client.read_exact(&mut first).expect("the first byte");
                started.fetch_add(1, Ordering::AcqRel);
                until("the signal", || go.load(Ordering::Acquire));
                let rest = &mut Rest { first: Some(first[0]), stream: client };
                bytes::receive(rest, TOTAL, Pace::Fast).expect("the whole transfer, signal or not");
            })
        })
        .collect();
    until("all transfers to run", || started.load(Ordering::Acquire) == 4);
    gate.signal("TERM");
    until("new connections to be refused", || TcpStream::connect(address).is_err());
    go.store(true, Ordering::Release);
    for client in clients {
        client.join().expect("no transfer was cut");
    }
    assert_eq!(gate.wait_exit().code(), Some(0), "{}", gate.log());
}

/// A stream whose first byte was read already.
struct Rest {
    first: Option<u8>,
    stream: TcpStream,
}

impl Read for Rest {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self.first.take() {
            Some(byte) => {
                buf[0] = byte;
                Ok(1)
            }
            None => self.stream.read(buf),
        }
    }
}

#[test]
fn hard_stop_after_ends_what_does_not_end_itself() {
    let origin = Origin::echo();
    let mut gate = Shardgate::with(&relay(origin.address, "")).global("hard-stop-after = \"200ms\"").start();
    let mut client = gate.connect("fe");
    client.write_all(b"x").expect("the proxy takes it");
    client.read_exact(&mut [0; 1]).expect("the echo");
    gate.signal("TERM");
    assert_eq!(gate.wait_exit().code(), Some(0), "{}", gate.log());
    assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
}

#[test]
fn sigterm_without_sessions_ends_at_once() {
    let origin = Origin::echo();
    let mut gate = Shardgate::relay(origin.address);
    gate.signal("TERM");
    assert_eq!(gate.wait_exit().code(), Some(0), "{}", gate.log());
    assert!(!gate.dir().join("admin.sock").exists(), "the admin socket is removed");
}

#[test]
fn sigint_twice_ends_now() {
    let origin = Origin::echo();
    let mut gate = Shardgate::relay(origin.address);
    let mut client = gate.connect("fe");
    client.write_all(b"x").expect("the proxy takes it");
    client.read_exact(&mut [0; 1]).expect("the echo");
    let address = gate.address("fe");
    gate.signal("INT");
    until("new connections to be refused", || TcpStream::connect(address).is_err());
    client.write_all(b"y").expect("the session is drained, not cut");
    client.read_exact(&mut [0; 1]).expect("the echo");
    gate.signal("INT");
    let status = gate.wait_exit();
    assert!(status.code().is_some(), "it exits, it does not crash: {status}; {}", gate.log());
}

#[test]
fn sigterm_under_load_cuts_no_exchange() {
    let origin = Origin::echo();
    let mut gate = Shardgate::relay(origin.address);
    let address = gate.address("fe");
    let done = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let done = Arc::clone(&done);
            std::thread::spawn(move || {
                // Short sessions until no new one is accepted. A session that exchanged its first byte must get its last.
                loop {
                    let Ok(mut client) = TcpStream::connect(address) else { return };
                    client.set_read_timeout(Some(crate::harness::PATIENCE)).expect("not zero");
                    if client.write_all(b"x").is_err() || !matches!(client.read(&mut [0; 1]), Ok(1)) {
                        // It waited in the accept queue of a listener that went away: it never was a session.
                        return;
                    }
                    let message = bytes::window(0, 50_000);
                    client.write_all(message).expect("a session is not cut");
                    let mut back = vec![0; message.len()];
                    client.read_exact(&mut back).expect("a session is not cut");
                    assert_eq!(back, message);
                    done.fetch_add(1, Ordering::AcqRel);
                }
            })
        })
        .collect();
    until("load", || done.load(Ordering::Acquire) > 100);
    gate.signal("TERM");
    for client in clients {
        client.join().expect("no session was cut");
    }
    assert_eq!(gate.wait_exit().code(), Some(0), "{}", gate.log());
}

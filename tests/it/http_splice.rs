//! Long bodies in HTTP mode, copied and spliced: all of them arrives, nothing behind them is taken for them, and what is cut
//! short is never taken for whole.

use std::io::Read;

use crate::harness::http::{http_gate, ok};
use crate::harness::{Origin, Shardgate, bytes};

const WAYS: [&str; 3] = ["auto", "always", "never"];
/// Several pipes full.
const SIZE: u64 = 3_000_000;

fn gate_with(splice: &str, origin: &Origin) -> Shardgate {
    http_gate(origin, "", &format!("splice = \"{splice}\""), "")
}

/// Sends `size` bytes of the sequence as chunks of many sizes, some above and some below what is worth a pipe.
fn chunks(size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut at, mut n) = (0, 0_usize);
    while at < size {
        let len =
            [200_000, 1, 40_000, 7, 32_768, 100_003][n % 6].min(usize::try_from(size - at).expect("small"));
        out.extend_from_slice(format!("{len:x}\r\n").as_bytes());
        out.extend_from_slice(bytes::window(at, len));
        out.extend_from_slice(b"\r\n");
        at += len as u64;
        n += 1;
    }
    out.extend_from_slice(b"0\r\nX-Sum: 1\r\n\r\n");
    out
}

fn is_whole(body: &[u8]) -> bool {
    let mut at = 0;
    body.len() as u64 == SIZE
        && body.chunks(100_000).all(|piece| {
            let same = piece == bytes::window(at, piece.len());
            at += piece.len() as u64;
            same
        })
}

#[test]
fn long_bodies_are_whole_and_the_next_response_follows_them() {
    for splice in WAYS {
        let origin = Origin::wire(|wire, _| {
            while let Some(request) = wire.request() {
                if request.start().contains("/chunks") {
                    wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    wire.send(chunks(SIZE));
                } else if request.start().contains("/length") {
                    wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
                    let _ = bytes::send(&mut wire.stream, SIZE);
                } else {
                    wire.send(ok(&format!("{} {}", request.body.len(), is_whole(&request.body))));
                }
            }
        });
        let gate = gate_with(splice, &origin);
        let mut client = gate.wire("fe");
        for path in ["/length", "/chunks", "/length", "/chunks"] {
            assert!(is_whole(&client.get(path).body), "{splice} {path}");
            assert_eq!(client.get("/small").text(), "0 false");
        }
        // Behind the body stands the next request already.
        client.send(format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"));
        bytes::send(&mut client.stream, SIZE).expect("it is taken");
        client.send("GET /b HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response("POST").text(), format!("{SIZE} true"), "{splice}");
        assert_eq!(client.response("GET").text(), "0 false", "{splice}");
        client.send("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(chunks(SIZE));
        assert_eq!(client.response("POST").text(), format!("{SIZE} true"), "{splice}");
        assert_eq!(origin.accepted(), 1, "{splice}: the connection stays good");
        let is_spliced = gate.stat("be/s1", "spliced") != "0";
        assert_eq!(is_spliced, splice != "never", "{splice}");
        drop(client);
        gate.finish();
    }
}

#[test]
fn a_long_body_that_is_cut_short_is_never_taken_for_whole() {
    for splice in WAYS {
        let origin = Origin::wire(|wire, _| {
            if wire.request().is_some() {
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
                let _ = bytes::send(&mut wire.stream, SIZE / 2);
            }
        });
        let gate = gate_with(splice, &origin);
        let mut client = gate.wire("fe");
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.try_response("GET").is_err(), "{splice}");
        drop(client);
        gate.finish();
    }
}

#[test]
fn a_long_body_until_close_is_whole() {
    for splice in WAYS {
        let origin = Origin::wire(|wire, _| {
            if wire.request().is_some() {
                wire.send("HTTP/1.1 200 OK\r\n\r\n");
                let _ = bytes::send(&mut wire.stream, SIZE);
            }
        });
        let gate = gate_with(splice, &origin);
        // A client of 1.0 takes the close as the end, one of 1.1 gets chunks.
        for version in ["1.0", "1.1"] {
            let mut client = gate.wire("fe");
            client.send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
            assert!(is_whole(&client.response("GET").body), "{splice} {version}");
        }
        gate.finish();
    }
}

#[test]
fn a_client_that_leaves_in_a_long_body_is_counted_and_costs_the_server_its_connection_alone() {
    for splice in WAYS {
        let origin = Origin::wire(|wire, _| {
            while wire.request().is_some() {
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
                if bytes::send(&mut wire.stream, SIZE).is_err() {
                    return;
                }
            }
        });
        let gate = gate_with(splice, &origin);
        let mut client = gate.wire("fe");
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.head().expect("a head");
        client.stream.read_exact(&mut [0; 1000]).expect("a start");
        drop(client);
        gate.wait_stat("fe/FRONTEND", "scur", "0");
        let mut client = gate.wire("fe");
        assert!(is_whole(&client.get("/").body), "{splice}: what the other left behind is nobody's");
        drop(client);
        gate.finish();
    }
}

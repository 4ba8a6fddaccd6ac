//! How connections end: each side alone, both, with a reset, and never before the last byte is read.

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::harness::bytes::{self, Pace};
use crate::harness::gate::relay;
use crate::harness::origin::reset;
use crate::harness::{Origin, Shardgate, until};

const WAYS: [&str; 3] = ["never", "always", "auto"];
const TOTAL: u64 = 3_000_000;

fn relay_with(splice: &str, server: &Origin) -> Shardgate {
    Shardgate::with(&relay(server.address, "")).defaults(&format!("splice = \"{splice}\"")).start()
}

#[test]
fn a_client_that_half_closes_gets_the_whole_answer() {
    for splice in WAYS {
        let origin = Origin::new(|mut stream, shared| {
            let mut request = Vec::new();
            let _ = stream.read_to_end(&mut request);
            shared.note(&request);
            let _ = bytes::send(&mut stream, TOTAL);
        });
        let gate = relay_with(splice, &origin);
        let mut client = gate.connect("fe");
        client.write_all(b"question").expect("the proxy takes it");
        client.shutdown(Shutdown::Write).expect("still connected");
        bytes::receive(&mut client, TOTAL, Pace::Fast).expect("the answer after our end");
        assert_eq!(client.read(&mut [0; 1]).expect("the end, not a reset"), 0);
        assert_eq!(origin.wait_for_notes(1)[0], b"question");
        gate.finish();
    }
}

#[test]
fn a_server_that_half_closes_still_gets_what_the_client_sends() {
    for splice in WAYS {
        let origin = Origin::new(|mut stream, shared| {
            let _ = stream.write_all(b"bye");
            let _ = stream.shutdown(Shutdown::Write);
            let result = bytes::receive_to_end(&mut stream);
            shared.note(format!("{result:?}").as_bytes());
        });
        let gate = relay_with(splice, &origin);
        let mut client = gate.connect("fe");
        let mut all = Vec::new();
        client.read_to_end(&mut all).expect("the end of the server's side");
        assert_eq!(all, b"bye");
        bytes::send(&mut client, TOTAL).expect("the other direction is open");
        drop(client);
        assert_eq!(String::from_utf8_lossy(&origin.wait_for_notes(1)[0]), format!("Ok({TOTAL})"));
        gate.finish();
    }
}

#[test]
fn a_server_that_closes_at_once_does_not_cut_its_answer() {
    // The server closes while megabytes are on the way, and the client has sent bytes that nobody reads: a careless close
    // would answer those with a reset that destroys what the client has not read yet.
    for splice in WAYS {
        let origin = Origin::new(|mut stream, _| {
            let _ = stream.read(&mut [0; 1000]);
            let _ = bytes::send(&mut stream, TOTAL);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let gate = relay_with(splice, &origin);
        let mut client = gate.connect("fe");
        client.write_all(b"first").expect("the proxy takes it");
        until("all to be sent", || gate.count("fe/FRONTEND", "bout") > 0);
        client.write_all(&[b'x'; 5000]).expect("the proxy takes it");
        bytes::receive(&mut client, TOTAL, Pace::Slow).expect("every byte although the server closed");
        assert_eq!(client.read(&mut [0; 1]).expect("the end, not a reset"), 0);
        drop(client);
        gate.finish();
    }
}

#[test]
fn a_client_that_closes_at_once_does_not_cut_its_upload() {
    for splice in WAYS {
        let origin = Origin::new(|mut stream, shared| {
            let result =
                bytes::receive(&mut stream, TOTAL, Pace::Slow).and_then(|()| stream.read(&mut [0; 1]));
            shared.note(format!("{result:?}").as_bytes());
        });
        let gate = relay_with(splice, &origin);
        let mut client = gate.connect("fe");
        bytes::send(&mut client, TOTAL).expect("the proxy takes it");
        drop(client);
        assert_eq!(String::from_utf8_lossy(&origin.wait_for_notes(1)[0]), "Ok(0)");
        gate.finish();
    }
}

#[test]
fn a_reset_of_the_server_ends_the_client_and_is_counted() {
    for splice in WAYS {
        let origin = Origin::resetting();
        let gate = relay_with(splice, &origin);
        let mut client = gate.connect("fe");
        client.write_all(b"x").expect("the proxy takes it");
        let ended = client.read(&mut [0; 1]);
        assert!(matches!(ended, Ok(0)) || is_reset(&ended), "{ended:?}");
        drop(client);
        gate.wait_stat("be/s1", "srv_abrt", "1");
        assert_eq!(gate.count("be/BACKEND", "cli_abrt"), 0);
        gate.finish();
    }
}

#[test]
fn a_reset_of_the_client_ends_the_server_and_is_counted() {
    for splice in WAYS {
        let origin = Origin::new(|mut stream, shared| {
            let _ = stream.write_all(b"hello");
            let mut rest = Vec::new();
            let result = stream.read_to_end(&mut rest);
            shared.note(if result.is_ok() || is_reset(&result) { b"ended" } else { b"hangs" });
        });
        let gate = relay_with(splice, &origin);
        let mut client = gate.connect("fe");
        client.read_exact(&mut [0; 5]).expect("the greeting");
        reset(client);
        assert_eq!(origin.wait_for_notes(1)[0], b"ended");
        gate.wait_stat("be/s1", "cli_abrt", "1");
        assert_eq!(gate.count("be/BACKEND", "srv_abrt"), 0);
        gate.finish();
    }
}

#[test]
fn a_reset_in_the_middle_of_a_transfer_leaks_nothing() {
    for splice in WAYS {
        let origin = Origin::new(|mut stream, _| {
            let _ = bytes::send(&mut stream, 50_000_000);
        });
        let gate = relay_with(splice, &origin);
        for _ in 0..20 {
            let mut client = gate.connect("fe");
            bytes::receive(&mut client, 100_000, Pace::Fast).expect("the beginning");
            reset(client);
        }
        until("the origin's connections to end", || origin.open() == 0);
        gate.wait_stat("fe/FRONTEND", "stot", "20");
        gate.finish();
    }
}

#[test]
fn connections_without_a_byte_are_closed_on_both_sides() {
    let origin = Origin::silent();
    let gate = Shardgate::relay(origin.address);
    for _ in 0..30 {
        drop(gate.connect("fe"));
    }
    gate.wait_stat("fe/FRONTEND", "stot", "30");
    until("the origin's connections to end", || origin.open() == 0);
    gate.finish();
}

fn is_reset(result: &std::io::Result<usize>) -> bool {
    result.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
}

//! HTTP/2 frame by frame: what RFC 9113 says about errors, section by section, against the real binary.

use crate::harness::frames::*;
use crate::harness::http::{http_gate, ok};
use crate::harness::{Origin, Shardgate};

pub(crate) fn gate(origin: &Origin) -> Shardgate {
    http_gate(origin, "", "", "")
}

pub(crate) fn hello() -> Origin {
    Origin::http(|request| ok(request.start()))
}

/// A connection that works still.
pub(crate) fn works(client: &mut Frames, stream: u32) {
    client.get(stream, "/still");
    let (status, body) = client.response(stream);
    assert_eq!((status, body.as_slice()), (200, &b"GET /still HTTP/1.1"[..]));
}

/// What a case is answered with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// GOAWAY with this code, and the end of the connection.
    Connection(u32),
    /// RST_STREAM of stream 1 with this code, or GOAWAY, which is allowed always.
    Stream(u32),
    /// Nothing: it is ignored.
    Nothing,
}

use Answer::{Connection, Nothing, Stream};

/// Runs cases, each on a connection of its own.
pub(crate) fn run(cases: &[(&str, Answer, &[&[u8]])]) {
    let origin = hello();
    let gate = gate(&origin);
    let mut wrong = Vec::new();
    for (name, answer, bytes) in cases {
        let mut client = Frames::client(&gate, "fe");
        bytes.iter().for_each(|piece| client.bytes(piece));
        let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match *answer {
            Connection(code) => client.expect_goaway(code),
            Stream(code) => {
                if client.expect_reset(1, code) {
                    works(&mut client, 101);
                }
            }
            Nothing => works(&mut client, 101),
        }));
        if said.is_err() {
            wrong.push(format!("{name}: {answer:?} was expected"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Whatever they did, the next client is served.
    works(&mut Frames::client(&gate, "fe"), 1);
    gate.finish();
}

#[test]
fn section_3_4_preface() {
    let origin = hello();
    let gate = gate(&origin);
    // The preface in pieces is one still.
    let mut client = Frames::raw(&gate, "fe");
    for byte in PREFACE {
        client.bytes(&[*byte]);
    }
    client.send(SETTINGS, 0, 0, &[]);
    works(&mut client, 1);
    drop(client);
    // Anything but SETTINGS behind it is an error.
    let mut client = Frames::raw(&gate, "fe");
    client.bytes(PREFACE);
    client.send(PING, 0, 0, &[0; 8]);
    assert!(client.is_closed());
    // What only begins like it is a bad request of HTTP/1.
    let mut client = Frames::raw(&gate, "fe");
    client.bytes(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    assert!(client.is_closed());
    drop(client);
    works(&mut Frames::client(&gate, "fe"), 1);
    gate.finish();
}

#[test]
fn section_4_frames_and_their_sizes() {
    let get = frame(HEADERS, END_STREAM | END_HEADERS, 1, &request("GET", "/", &[]));
    let post = frame(HEADERS, END_HEADERS, 1, &request("POST", "/", &[]));
    let large = vec![0; 16_385];
    run(&[
        ("an unknown type is ignored", Nothing, &[&frame(0xbe, 0xff, 0, b"unknown")]),
        ("unknown flags are ignored", Nothing, &[&frame(PING, 0xf0 | ACK, 0, &[0; 8])]),
        ("the reserved bit is ignored", Nothing, &[&frame(PING, ACK, 1 << 31, &[0; 8])]),
        ("a frame larger than allowed", Connection(FRAME_SIZE_ERROR), &[&post, &frame(DATA, 0, 1, &large)]),
        (
            "a head larger than a frame",
            Connection(FRAME_SIZE_ERROR),
            &[&frame(HEADERS, END_HEADERS, 1, &large)],
        ),
        (
            "a block that does not decode",
            Connection(COMPRESSION_ERROR),
            &[&frame(HEADERS, 5, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff])],
        ),
        (
            "another frame inside of a head",
            Connection(PROTOCOL_ERROR),
            &[&frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[])), &get],
        ),
        (
            "a frame of another stream inside of a head",
            Connection(PROTOCOL_ERROR),
            &[
                &frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[])),
                &frame(CONTINUATION, END_HEADERS, 3, &[]),
            ],
        ),
        (
            "PRIORITY inside of a head",
            Connection(PROTOCOL_ERROR),
            &[
                &frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[])),
                &frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 7]),
            ],
        ),
        (
            "5.5 an unknown type inside of a head",
            Connection(PROTOCOL_ERROR),
            &[&frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[])), &frame(0xbe, 0, 1, b"unknown")],
        ),
    ]);
}

#[test]
fn section_4_2_data_that_fills_a_frame_is_taken() {
    let origin = Origin::http(|request| ok(&request.body.len().to_string()));
    let gate = gate(&origin);
    let mut client = Frames::client(&gate, "fe");
    client.post(1, "/");
    client.send(DATA, END_STREAM, 1, &[b'x'; 16_384]);
    assert_eq!(client.response(1), (200, b"16384".to_vec()));
    drop(client);
    gate.finish();
}

#[test]
fn section_5_1_states_and_numbers_of_streams() {
    let get = |stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, &request("GET", "/", &[]));
    let more = frame(CONTINUATION, END_HEADERS, 1, &block(&[("x", "y")]));
    let post = frame(HEADERS, END_HEADERS, 1, &request("POST", "/", &[]));
    run(&[
        ("CONTINUATION on a half-closed stream", Connection(PROTOCOL_ERROR), &[&get(1), &more]),
        (
            "CONTINUATION on a stream that was reset",
            Connection(PROTOCOL_ERROR),
            &[&post, &frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), &more],
        ),
        ("DATA on an idle stream", Connection(PROTOCOL_ERROR), &[&frame(DATA, 0, 1, b"x")]),
        (
            "RST_STREAM on an idle stream",
            Connection(PROTOCOL_ERROR),
            &[&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])],
        ),
        (
            "WINDOW_UPDATE on an idle stream",
            Connection(PROTOCOL_ERROR),
            &[&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 8])],
        ),
        (
            "CONTINUATION on an idle stream",
            Connection(PROTOCOL_ERROR),
            &[&frame(CONTINUATION, END_HEADERS, 1, b"x")],
        ),
        ("an even stream", Connection(PROTOCOL_ERROR), &[&get(2)]),
        ("a number below an earlier one", Connection(PROTOCOL_ERROR), &[&get(5), &get(3)]),
        ("HEADERS on stream 0", Connection(PROTOCOL_ERROR), &[&get(0)]),
        ("DATA on stream 0", Connection(PROTOCOL_ERROR), &[&frame(DATA, 0, 0, b"x")]),
        (
            "DATA on a number that was skipped",
            Connection(PROTOCOL_ERROR),
            &[&get(5), &frame(DATA, 0, 3, b"x")],
        ),
        (
            "7540 5.3.1 PRIORITY of a stream that waits for itself",
            Connection(PROTOCOL_ERROR),
            &[&frame(PRIORITY, 0, 3, &[0, 0, 0, 3, 7])],
        ),
        (
            "7540 5.3.1 HEADERS of a stream that waits for itself",
            Connection(PROTOCOL_ERROR),
            &[&frame(HEADERS, END_STREAM | END_HEADERS | 0x20, 1, &prioritized(&[0, 0, 0, 1, 7]))],
        ),
    ]);
}

/// A request behind a priority.
pub(crate) fn prioritized(priority: &[u8]) -> Vec<u8> {
    [priority, &request("GET", "/", &[])].concat()
}

#[test]
fn section_5_1_frames_for_streams_that_are_closed() {
    let origin = hello();
    let gate = gate(&origin);
    // Both sides had said everything: some frames may have been on their way.
    let mut client = Frames::client(&gate, "fe");
    works(&mut client, 1);
    client.send(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 8]);
    client.reset(1, CANCEL);
    client.send(PRIORITY, 0, 1, &[0, 0, 0, 0, 7]);
    works(&mut client, 3);
    drop(client);
    for (kind, flags, payload) in
        [(DATA, END_STREAM, b"x".to_vec()), (HEADERS, END_STREAM | END_HEADERS, request("GET", "/", &[]))]
    {
        let mut client = Frames::client(&gate, "fe");
        works(&mut client, 1);
        client.send(kind, flags, 1, &payload);
        client.expect_goaway(STREAM_CLOSED);
    }
    // The client reset it itself, and says more.
    let mut client = Frames::client(&gate, "fe");
    client.post(1, "/");
    client.reset(1, CANCEL);
    client.send(DATA, END_STREAM, 1, b"x");
    assert!(client.expect_reset(1, STREAM_CLOSED));
    client.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&[("x", "y")]));
    assert!(client.expect_reset(1, STREAM_CLOSED));
    works(&mut client, 3);
    drop(client);
    gate.finish();
}

#[test]
fn section_6_8_a_client_that_says_goodbye_gets_what_it_asked_for() {
    let origin = hello();
    let gate = gate(&origin);
    let mut client = Frames::client(&gate, "fe");
    client.get(1, "/last");
    client.goaway(0, NO_ERROR);
    assert_eq!(client.response(1), (200, b"GET /last HTTP/1.1".to_vec()));
    assert!(client.is_closed());
    drop(client);
    gate.finish();
}

#[test]
fn section_6_9_1_clients_that_send_beyond_a_window() {
    let origin = Origin::wire(|wire, shared| {
        let _ = wire.head();
        shared.note(b"held");
        shared.hold();
    });
    // Those behind the first one wait in the queue, and nobody takes their bodies.
    let gate = http_gate(&origin, "", "", "maxconn = 1");
    let mut client = Frames::client(&gate, "fe");
    client.get(1, "/");
    origin.wait_for_notes(1);
    // 65535 bytes for the connection, whatever its streams may have.
    [3, 5].iter().for_each(|stream| client.post(*stream, "/"));
    for n in 0..5 {
        client.send(DATA, 0, if n % 2 == 0 { 3 } else { 5 }, &[b'x'; 16_384]);
    }
    client.expect_goaway(FLOW_CONTROL_ERROR);
    // A window that SETTINGS make larger than there are.
    let mut client = Frames::client(&gate, "fe");
    client.post(1, "/");
    client.send(WINDOW_UPDATE, 0, 1, &[0x7f, 0, 0, 0]);
    client.send(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    client.expect_goaway(FLOW_CONTROL_ERROR);
    drop(client);
    gate.finish();
}

#[test]
fn section_5_1_data_behind_the_end_of_a_stream() {
    let origin = Origin::wire(|wire, _| {
        // Holds the stream half closed.
        wire.request();
        wire.request();
    });
    let gate = gate(&origin);
    for kind in [DATA, HEADERS] {
        let mut client = Frames::client(&gate, "fe");
        client.get(1, "/held");
        let payload = if kind == DATA { b"late".to_vec() } else { request("GET", "/", &[]) };
        client.send(kind, END_STREAM | END_HEADERS, 1, &payload);
        let ended = loop {
            let frame = client.next().expect("an error");
            if matches!(frame.kind, RST_STREAM | GOAWAY) {
                break frame;
            }
        };
        assert!([STREAM_CLOSED, PROTOCOL_ERROR].contains(&ended.code()), "{ended:?}");
    }
    gate.finish();
}

#[test]
fn section_5_1_2_more_streams_than_allowed_are_refused() {
    let origin = Origin::wire(|wire, shared| {
        wire.request();
        shared.hold();
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = Frames::client(&gate, "fe");
    // Wait for the acknowledged settings to hold: the limit is 100.
    for stream in 0..101 {
        client.get(stream * 2 + 1, "/");
    }
    client.expect_reset(201, REFUSED_STREAM);
    drop(client);
    gate.finish();
}

#[test]
fn section_6_sizes_and_streams_of_each_frame() {
    let post = frame(HEADERS, END_HEADERS, 1, &request("POST", "/", &[]));
    let padded = |len: u8| [&[len][..], b"abc"].concat();
    run(&[
        (
            "6.1 padding longer than the payload",
            Connection(PROTOCOL_ERROR),
            &[&post, &frame(DATA, PADDED, 1, &padded(4))],
        ),
        (
            "6.2 padding longer than the payload",
            Connection(PROTOCOL_ERROR),
            &[&frame(HEADERS, PADDED | END_HEADERS, 1, &padded(4))],
        ),
        ("6.3 PRIORITY on stream 0", Connection(PROTOCOL_ERROR), &[&frame(PRIORITY, 0, 0, &[0; 5])]),
        ("6.3 PRIORITY of another size", Stream(FRAME_SIZE_ERROR), &[&post, &frame(PRIORITY, 0, 1, &[0; 4])]),
        ("6.3 PRIORITY is ignored", Nothing, &[&frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 7])]),
        ("6.4 RST_STREAM on stream 0", Connection(PROTOCOL_ERROR), &[&frame(RST_STREAM, 0, 0, &[0; 4])]),
        (
            "6.4 RST_STREAM of another size",
            Connection(FRAME_SIZE_ERROR),
            &[&post, &frame(RST_STREAM, 0, 1, &[0; 3])],
        ),
        ("6.5 SETTINGS on a stream", Connection(PROTOCOL_ERROR), &[&frame(SETTINGS, 0, 1, &[])]),
        ("6.5 SETTINGS of a broken size", Connection(FRAME_SIZE_ERROR), &[&frame(SETTINGS, 0, 0, &[0; 5])]),
        (
            "6.5 SETTINGS that acknowledge and say",
            Connection(FRAME_SIZE_ERROR),
            &[&frame(SETTINGS, ACK, 0, &[0; 6])],
        ),
        (
            "6.5.2 ENABLE_PUSH other than 0 and 1",
            Connection(PROTOCOL_ERROR),
            &[&frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2])],
        ),
        (
            "6.5.2 a window beyond 2^31-1",
            Connection(FLOW_CONTROL_ERROR),
            &[&frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])],
        ),
        (
            "6.5.2 a frame size below 2^14",
            Connection(PROTOCOL_ERROR),
            &[&frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0x3f, 0xff])],
        ),
        (
            "6.5.2 a frame size above 2^24-1",
            Connection(PROTOCOL_ERROR),
            &[&frame(SETTINGS, 0, 0, &[0, 5, 1, 0, 0, 0])],
        ),
        ("6.5.2 an unknown setting", Nothing, &[&frame(SETTINGS, 0, 0, &[0xff, 0xff, 0, 0, 0, 1])]),
        (
            "6.6 PUSH_PROMISE of a client",
            Connection(PROTOCOL_ERROR),
            &[&post, &frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])],
        ),
        ("6.7 PING on a stream", Connection(PROTOCOL_ERROR), &[&frame(PING, 0, 1, &[0; 8])]),
        ("6.7 PING of another size", Connection(FRAME_SIZE_ERROR), &[&frame(PING, 0, 0, &[0; 6])]),
        ("6.8 GOAWAY on a stream", Connection(PROTOCOL_ERROR), &[&frame(GOAWAY, 0, 1, &[0; 8])]),
        (
            "6.2 a head that is too short for its priority",
            Connection(FRAME_SIZE_ERROR),
            &[&frame(HEADERS, END_HEADERS | 0x20, 1, &[0; 4])],
        ),
        (
            "6.10 CONTINUATION behind a complete head",
            Connection(PROTOCOL_ERROR),
            &[&post, &frame(CONTINUATION, END_HEADERS, 1, &[])],
        ),
        ("6.10 CONTINUATION on stream 0", Connection(PROTOCOL_ERROR), &[&frame(CONTINUATION, 0, 0, &[])]),
        (
            "6.10 CONTINUATION behind one that ends the head",
            Connection(PROTOCOL_ERROR),
            &[
                &frame(HEADERS, 0, 1, &request("POST", "/", &[])),
                &frame(CONTINUATION, END_HEADERS, 1, &block(&[("x", "y")])),
                &frame(CONTINUATION, END_HEADERS, 1, &block(&[("x", "y")])),
            ],
        ),
        (
            "6.10 CONTINUATION behind DATA",
            Connection(PROTOCOL_ERROR),
            &[&post, &frame(DATA, 0, 1, b"x"), &frame(CONTINUATION, END_HEADERS, 1, &[])],
        ),
        (
            "6.9 WINDOW_UPDATE of another size",
            Connection(FRAME_SIZE_ERROR),
            &[&frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
        ),
        ("6.9 WINDOW_UPDATE of nothing", Connection(PROTOCOL_ERROR), &[&frame(WINDOW_UPDATE, 0, 0, &[0; 4])]),
        (
            "6.9 WINDOW_UPDATE of nothing for a stream",
            Stream(PROTOCOL_ERROR),
            &[&post, &frame(WINDOW_UPDATE, 0, 1, &[0; 4])],
        ),
        (
            "6.9.1 a window of a stream beyond 2^31-1",
            Stream(FLOW_CONTROL_ERROR),
            &[&post, &frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])],
        ),
        ("7 RST_STREAM with an unknown code", Nothing, &[&post, &frame(RST_STREAM, 0, 1, &[0, 0, 0, 0xff])]),
        (
            "6.9.1 a window beyond 2^31-1",
            Connection(FLOW_CONTROL_ERROR),
            &[&frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])],
        ),
    ]);
}

#[test]
fn section_6_7_ping_is_answered() {
    let origin = hello();
    let gate = gate(&origin);
    let mut client = Frames::client(&gate, "fe");
    client.send(PING, 0, 0, b"8 octets");
    let pong = client.next().expect("an answer");
    assert_eq!((pong.kind, pong.flags, pong.payload.as_slice()), (PING, ACK, &b"8 octets"[..]));
    // An answer is not answered: the next frame is that of the next PING.
    client.send(PING, ACK, 0, b"no more!");
    client.send(PING, 0, 0, b"8 octets");
    assert_eq!(client.next().expect("an answer").payload, b"8 octets");
    drop(client);
    gate.finish();
}

#[test]
fn section_6_5_3_settings_are_acknowledged_and_hold_in_order() {
    let origin = hello();
    let gate = gate(&origin);
    let mut client = Frames::raw(&gate, "fe");
    client.bytes(PREFACE);
    // Of two values for one setting the later one holds.
    client.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 100, 0, 4, 0, 0, 0, 1]);
    let acknowledged = (0..3).filter_map(|_| client.read()).any(|f| (f.kind, f.flags) == (SETTINGS, ACK));
    assert!(acknowledged);
    client.get(1, "/x");
    assert_eq!(client.next().expect("a head").status(), 200);
    assert_eq!(client.next().expect("data").payload, b"G");
    drop(client);
    gate.finish();
}

#[test]
fn section_7_unknown_codes_of_errors_are_no_errors() {
    let origin = hello();
    let gate = gate(&origin);
    let mut client = Frames::client(&gate, "fe");
    client.get(1, "/last");
    client.goaway(0, 0xff);
    assert_eq!(client.response(1).0, 200);
    assert!(client.is_closed());
    drop(client);
    gate.finish();
}

//! HTTP/2 at work, frame by frame where it matters: floods, early and interim responses, tunnels, many streams, slow ones,
//! the end of a connection, and servers that speak HTTP/2.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::frames::*;
use crate::harness::http::{http_gate, ok, sections};
use crate::harness::{Origin, Shardgate, bytes, until};

/// Opens a stream and gives it up at once.
fn get_and_reset(client: &mut Frames, stream: u32) {
    client.get(stream, "/");
    client.send(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
}

/// What a client does.
type Script<'a> = &'a dyn Fn(&mut Frames);

#[test]
fn floods_end_the_connection() {
    let origin = Origin::http(|request| match request.start().contains("/large") {
        true => ok(&"x".repeat(20_000)),
        false => ok(request.start()),
    });
    let gate = Shardgate::with(&sections(&origin, "", "", ""))
        .defaults("mode = \"http\"")
        .global("tune.h2.fe.max-resets = 50\ntune.h2.fe.glitches-threshold = 10\n")
        .start();
    let bad = block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a"), (":x", "y")]);
    let differs = request("GET", "/", &[("host", "b.test")]);
    let nothing = 0u32.to_be_bytes();
    let cases: &[(&str, Script<'_>)] = &[
        ("too many resets", &|c| (0..60).for_each(|n| get_and_reset(c, n * 2 + 1))),
        ("too many PING", &|c| (0..2100).for_each(|_| c.send(PING, 0, 0, &[0; 8]))),
        ("too many SETTINGS", &|c| (0..110).for_each(|_| c.send(SETTINGS, 0, 0, &[]))),
        ("too many PRIORITY", &|c| (0..10_100).for_each(|_| c.send(PRIORITY, 0, 1, &[0, 0, 0, 3, 7]))),
        ("unknown types", &|c| (0..1100).for_each(|_| c.send(0xbe, 0, 0, b"x"))),
        ("without data", &|c| {
            c.post(1, "/");
            (0..1100).for_each(|_| c.send(DATA, 0, 1, &[]));
        }),
        ("too many CONTINUATION", &|c| {
            c.send(HEADERS, END_STREAM, 1, &request("GET", "/", &[]));
            (0..20).for_each(|_| c.send(CONTINUATION, 0, 1, &block(&[("x", "y")])));
        }),
        ("malformed", &|c| {
            (0..20).for_each(|n| c.send(HEADERS, END_STREAM | END_HEADERS, n * 2 + 1, &differs));
        }),
        ("malformed", &|c| (0..20).for_each(|n| c.send(HEADERS, END_STREAM | END_HEADERS, n * 2 + 1, &bad))),
        // Whoever makes us reset its streams (CVE-2025-8671).
        ("malformed", &|c| {
            for n in 0..20 {
                c.post(n * 2 + 1, "/");
                c.send(WINDOW_UPDATE, 0, n * 2 + 1, &nothing);
            }
        }),
        ("malformed", &|c| {
            for n in 0..20 {
                c.get(n * 2 + 1, "/");
                c.send(DATA, 0, n * 2 + 1, b"late");
            }
        }),
        ("windows of a few bytes", &|c| {
            c.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
            c.get(1, "/large");
            for _ in 0..1000 {
                c.send(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
                while c.next().is_some_and(|frame| frame.kind != DATA) {}
            }
            (0..10).for_each(|_| c.send(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]));
        }),
    ];
    for (text, flood) in cases {
        let mut client = Frames::client(&gate, "fe");
        flood(&mut client);
        let ended = loop {
            let frame = client.next().unwrap_or_else(|| panic!("{text}: no GOAWAY"));
            if frame.kind == GOAWAY {
                break frame;
            }
        };
        assert!(ended.code() == ENHANCE_YOUR_CALM, "{text}: {ended:?}");
        assert!(client.is_closed());
    }
    gate.wait_stat("fe/FRONTEND", "h2flood", &cases.len().to_string());
    gate.wait_log("closed: too many resets of streams");
    // Those who behave are served.
    let mut client = Frames::client(&gate, "fe");
    client.get(1, "/x");
    assert_eq!(client.response(1), (200, b"GET /x HTTP/1.1".to_vec()));
    drop(client);
    gate.finish();
}

#[test]
fn a_window_that_stays_shut_ends_its_stream_alone() {
    let origin = Origin::http(|request| ok(request.start()));
    let gate = http_gate(&origin, "timeout = { client = \"300ms\", http-keep-alive = \"30s\" }", "", "");
    let mut client = Frames::client(&gate, "fe");
    client.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    client.get(1, "/");
    assert_eq!(client.next().map(|frame| frame.status()), Some(200));
    let end = client.next().expect("an end");
    assert_eq!((end.kind, end.stream), (RST_STREAM, 1));
    client.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]);
    client.get(3, "/x");
    assert_eq!(client.response(3), (200, b"GET /x HTTP/1.1".to_vec()));
    drop(client);
    gate.finish();
}

#[test]
fn a_request_that_is_given_up_gives_its_server_up() {
    let origin = Origin::wire(|wire, shared| {
        wire.request();
        shared.note(b"asked");
        assert!(wire.is_closed(), "the proxy closes");
        shared.note(b"gone");
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = Frames::client(&gate, "fe");
    client.get(1, "/");
    origin.wait_for_notes(1);
    client.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
    origin.wait_for_notes(2);
    gate.wait_stat("be/BACKEND", "cli_abrt", "1");
    drop(client);
    gate.finish();
}

#[test]
fn interim_responses_pass() {
    let origin = Origin::wire(|wire, _| {
        while wire.request().is_some() {
            wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
            wire.send("HTTP/1.1 100 Continue\r\n\r\n");
            wire.send("HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = Frames::client(&gate, "fe");
    for stream in [1, 3] {
        client.get(stream, "/");
        for (status, ends) in [(103, false), (100, false), (204, true)] {
            let head = client.next().expect("a head");
            assert_eq!((head.stream, head.status(), head.ends()), (stream, status, ends));
        }
    }
    drop(client);
    gate.finish();
}

#[test]
fn an_early_response_ends_the_upload_without_error() {
    let origin = Origin::wire(|wire, shared| {
        let _ = wire.head();
        wire.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        shared.hold();
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = Frames::client(&gate, "fe");
    client.post(1, "/");
    client.send(DATA, 0, 1, b"the beginning");
    assert_eq!(client.response(1), (413, b"no".to_vec()));
    let reset = client.next().expect("a reset");
    assert_eq!((reset.kind, reset.stream, reset.code()), (RST_STREAM, 1, NO_ERROR));
    // What was on its way still is ignored.
    client.send(DATA, END_STREAM, 1, b"the end");
    client.send(PING, 0, 0, &[7; 8]);
    assert_eq!(client.next().expect("a pong").kind, PING);
    drop(client);
    gate.finish();
}

/// An extended CONNECT (RFC 8441 5.1).
const WEBSOCKET: [(&str, &str); 6] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/chat"),
    (":authority", "a.test"),
    ("sec-websocket-version", "13"),
];

#[test]
fn a_websocket_passes_over_extended_connect() {
    let origin = Origin::wire(|wire, shared| {
        let head = wire.head().expect("a handshake");
        shared.note(head.as_bytes());
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi");
        let said = wire.exactly(4).expect("frames");
        wire.send([&said[..], b"!"].concat());
        assert!(wire.is_closed(), "the end of the stream is a half-close");
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = Frames::client(&gate, "fe");
    client.send(HEADERS, END_HEADERS, 1, &block(&WEBSOCKET));
    let head = client.next().expect("a head");
    assert_eq!((head.status(), head.ends()), (200, false));
    let mut got = client.next().expect("data").payload;
    client.send(DATA, 0, 1, b"ping");
    while got.len() < 7 {
        got.extend(client.next().expect("data").payload);
    }
    assert_eq!(got, b"hiping!");
    client.send(DATA, END_STREAM, 1, b"");
    let last = client.next().expect("the end");
    assert!(last.ends() && last.payload.is_empty(), "{last:?}");
    let handshake = String::from_utf8(origin.wait_for_notes(1).remove(0)).expect("text");
    assert!(handshake.starts_with("GET /chat HTTP/1.1\r\nhost: a.test\r\n"), "{handshake}");
    for line in ["upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: "] {
        assert!(handshake.to_lowercase().contains(line), "{handshake}");
    }
    drop(client);
    gate.finish();
}

#[test]
fn a_websocket_that_the_server_refuses_is_refused() {
    for (answer, status) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 502),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403),
    ] {
        let origin = Origin::wire(move |wire, _| {
            let _ = wire.head();
            wire.send(answer);
        });
        let gate = http_gate(&origin, "", "", "");
        let mut client = Frames::client(&gate, "fe");
        client.send(HEADERS, END_HEADERS, 1, &block(&WEBSOCKET));
        assert_eq!(client.response(1).0, status);
        drop(client);
        gate.finish();
    }
}

#[test]
fn a_stream_that_reads_slowly_does_not_stop_others() {
    const LARGE: usize = 4_000_000;
    let origin = Origin::wire(|wire, _| {
        while let Some(request) = wire.request() {
            if request.start().contains("/large") {
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
                if bytes::send(&mut wire.stream, LARGE as u64).is_err() {
                    return;
                }
            } else {
                wire.send(ok("small"));
            }
        }
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = Frames::client(&gate, "fe");
    // The connection may take all; the streams have the first window of 65535 bytes.
    client.send(WINDOW_UPDATE, 0, 0, &0x1000_0000_u32.to_be_bytes());
    client.get(1, "/large");
    let mut got = 0;
    while got < 65_535 {
        got += client.next().filter(|frame| frame.kind == DATA).map_or(0, |frame| frame.payload.len());
    }
    for n in 1..50 {
        client.get(n * 2 + 1, "/small");
        assert_eq!(client.response(n * 2 + 1), (200, b"small".to_vec()));
    }
    // The slow one is as it was.
    client.send(WINDOW_UPDATE, 0, 1, &0x1000_0000_u32.to_be_bytes());
    while got < LARGE {
        got += client.next().expect("data").payload.len();
    }
    drop(client);
    gate.finish();
}

#[test]
fn a_thousand_streams_carry_their_bodies_unchanged() {
    const BODY: usize = 20_000;
    const STREAMS: u32 = 1000;
    let origin = Origin::wire(|wire, _| {
        while let Some(request) = wire.request() {
            let at: u64 = request.header("x-at").and_then(|at| at.parse().ok()).expect("a number");
            let intact = bytes::is_window(at, &request.body) && request.body.len() == BODY;
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\nX-Intact: {intact}\r\n\r\n"));
            wire.send(bytes::window(if intact { at + 7 } else { 0 }, BODY));
        }
    });
    let gate = Shardgate::with(&sections(&origin, "", "", ""))
        .defaults("mode = \"http\"")
        .global("tune.h2.fe.max-concurrent-streams = 1000\n")
        .start();
    let mut client = Frames::client(&gate, "fe");
    client.send(WINDOW_UPDATE, 0, 0, &0x4000_0000_u32.to_be_bytes());
    let mut writer = Frames { stream: client.stream.try_clone().expect("a socket") };
    let at = |stream: u32| u64::from(stream) * 101;
    // The window of the connection: what its reader is granted, the writer may send.
    let (grant, granted) = std::sync::mpsc::channel::<usize>();
    let uploads = std::thread::spawn(move || {
        let mut window = 65_535;
        for n in 0..STREAMS {
            let stream = n * 2 + 1;
            let head = request("POST", "/", &[("x-at", &at(stream).to_string())]);
            writer.send(HEADERS, END_HEADERS, stream, &head);
        }
        // A piece of each at a time; windows of 65535 bytes suffice for a stream, not for the connection.
        for (piece, flags) in [(0, 0), (1, END_STREAM)] {
            for n in 0..STREAMS {
                let stream = n * 2 + 1;
                let half = BODY / 2;
                while window < half {
                    window += granted.recv().expect("the reader grants");
                }
                window -= half;
                writer.send(DATA, flags, stream, bytes::window(at(stream) + (piece * half) as u64, half));
            }
        }
    });
    let mut bodies = vec![Vec::new(); STREAMS as usize];
    let mut open = STREAMS;
    while open > 0 {
        let frame = client.read().expect("frames");
        let body = &mut bodies[(frame.stream / 2) as usize];
        match frame.kind {
            // The writer may be done.
            WINDOW_UPDATE if frame.stream == 0 => drop(grant.send(frame.code() as usize)),
            WINDOW_UPDATE | SETTINGS => {}
            HEADERS => assert_eq!(frame.status(), 200),
            DATA => body.extend_from_slice(&frame.payload),
            _ => panic!("{frame:?}"),
        }
        open -= u32::from(frame.ends());
    }
    uploads.join().expect("uploads");
    for (n, body) in bodies.iter().enumerate() {
        let stream = u32::try_from(n).expect("small") * 2 + 1;
        assert!(body.len() == BODY && bytes::is_window(at(stream) + 7, body), "stream {stream}");
    }
    drop((client, bodies));
    gate.finish();
}

#[test]
fn a_drain_says_goodbye_and_serves_what_is_open() {
    let released = Arc::new(AtomicBool::new(false));
    let waits = released.clone();
    let origin = Origin::wire(move |wire, shared| {
        wire.request();
        shared.note(b"asked");
        until("the proxy drains", || waits.load(Ordering::Acquire));
        wire.send(ok("served"));
    });
    let mut gate = http_gate(&origin, "", "", "");
    let mut idle = Frames::client(&gate, "fe");
    let mut busy = Frames::client(&gate, "fe");
    busy.get(1, "/");
    origin.wait_for_notes(1);
    gate.signal("TERM");
    for client in [&mut idle, &mut busy] {
        let goaway = client.next().expect("GOAWAY");
        assert_eq!((goaway.kind, goaway.code()), (GOAWAY, NO_ERROR));
        let ping = client.next().expect("a ping");
        assert_eq!(ping.kind, PING);
        client.send(PING, ACK, 0, &ping.payload);
    }
    released.store(true, Ordering::Release);
    assert!(idle.is_closed());
    let last = busy.next().expect("the last GOAWAY");
    assert_eq!((last.kind, last.code()), (GOAWAY, NO_ERROR));
    assert_eq!(busy.response(1), (200, b"served".to_vec()));
    assert!(busy.is_closed());
    assert!(gate.wait_exit().success());
}

#[test]
fn a_reload_says_goodbye_to_those_without_a_request() {
    let released = Arc::new(AtomicBool::new(false));
    let waits = released.clone();
    let origin = Origin::wire(move |wire, shared| {
        while let Some(request) = wire.request() {
            if request.start().contains("/held") {
                shared.note(b"asked");
                until("the reload is over", || waits.load(Ordering::Acquire));
            }
            wire.send(ok(request.start()));
        }
    });
    let mut gate = http_gate(&origin, "", "", "");
    let (mut idle, mut busy) = (Frames::client(&gate, "fe"), Frames::client(&gate, "fe"));
    idle.get(1, "/");
    assert_eq!(idle.response(1).0, 200);
    busy.get(1, "/held");
    origin.wait_for_notes(1);
    let rules = "response-rules = [{ set-status = { status = 203 } }]";
    gate.reload(&sections(&origin, rules, "", ""));
    let goodbye = |client: &mut Frames| {
        let goaway = client.next().expect("GOAWAY");
        assert_eq!(
            (goaway.kind, goaway.code(), &goaway.payload[..4]),
            (GOAWAY, NO_ERROR, &[0x7f, 255, 255, 255][..])
        );
        client.next().filter(|frame| frame.kind == PING).expect("a ping").payload
    };
    let ping = goodbye(&mut idle);
    // What was on its way is served still.
    idle.get(3, "/late");
    assert_eq!(idle.response(3).0, 203, "by the new rules");
    idle.send(PING, ACK, 0, &ping);
    assert_eq!(idle.next().map(|frame| (frame.kind, frame.payload[3])), Some((GOAWAY, 3)));
    assert!(idle.is_closed());
    // A connection in use goes on, by the new rules, and leaves when it is quiet.
    busy.get(3, "/");
    assert_eq!(busy.response(3).0, 203);
    released.store(true, Ordering::Release);
    assert_eq!(busy.response(1).0, 200);
    let ping = goodbye(&mut busy);
    busy.send(PING, ACK, 0, &ping);
    assert!(busy.is_closed());
    drop((idle, busy));
    until("the generation to end", || !gate.ask("show generations").contains("\n1 old "));
    gate.finish();
}

/// A client that asks again and again, and one that does not, over a reload. False: the first one was sent away too.
fn only_who_rests_is_sent_away() -> bool {
    let origin = Origin::http(|request| ok(request.start()));
    let mut gate = http_gate(&origin, "", "", "");
    let (mut resting, mut busy) = (Frames::client(&gate, "fe"), Frames::client(&gate, "fe"));
    for client in [&mut resting, &mut busy] {
        client.get(1, "/");
        assert_eq!(client.response(1).0, 200);
    }
    gate.reload(&sections(&origin, "response-rules = [{ set-status = { status = 203 } }]", "", ""));
    let is_told = Arc::new(AtomicBool::new(false));
    let telling = is_told.clone();
    let rests = thread::spawn(move || {
        let goaway = resting.next().expect("GOAWAY");
        assert_eq!((goaway.kind, goaway.code()), (GOAWAY, NO_ERROR));
        telling.store(true, Ordering::Release);
    });
    let mut stays = true;
    // Between two requests it has none.
    for stream in (3..).step_by(2) {
        busy.get(stream, "/");
        let mut frames = std::iter::from_fn(|| busy.next());
        let (mut is_over, mut status) = (false, 0);
        while stays && !is_over {
            let frame = frames.next().expect("a frame");
            stays = frame.kind != GOAWAY;
            is_over = frame.ends();
            if frame.kind == HEADERS {
                status = frame.status();
            }
        }
        assert!(!stays || status == 203, "by the new rules: {status}");
        if !stays || is_told.load(Ordering::Acquire) {
            break;
        }
    }
    rests.join().expect("it is told");
    drop(busy);
    until("the generation to end", || !gate.ask("show generations").contains("\n1 old "));
    gate.finish();
    stays
}

#[test]
fn a_busy_client_keeps_its_connection_at_a_reload() {
    // On a machine that stands still for a second the busy client rests as well.
    assert!((0..5).any(|_| only_who_rests_is_sent_away()), "it was sent away every time");
}

#[test]
fn uploads_that_move_open_the_windows() {
    const WINDOW: u32 = 4 << 20;
    let origin = Origin::http(|request| ok(&request.body.len().to_string()));
    let gate = http_gate(&origin, "", "", "");
    let mut client = Frames::client(&gate, "fe");
    client.post(1, "/");
    let (mut connection, mut stream, mut initial, mut sent) = (65_535, 65_535, 65_535, 0);
    // A path of 50 ms needs some megabytes on their way, or HTTP/1 is faster.
    while initial < WINDOW {
        let room = connection.min(stream).min(16_384);
        if room > 0 {
            client.send(DATA, 0, 1, &vec![b'x'; room as usize]);
            (connection, stream, sent) = (connection - room, stream - room, sent + room);
            assert!(sent < 16 << 20, "windows stay at {initial}");
            continue;
        }
        let frame = client.read().expect("room");
        match (frame.kind, frame.stream) {
            (WINDOW_UPDATE, 0) => connection += frame.code(),
            (WINDOW_UPDATE, _) => stream += frame.code(),
            (SETTINGS, _) if frame.flags & ACK == 0 => {
                let window = u32::from_be_bytes(frame.payload[2..6].try_into().expect("one setting"));
                client.send(SETTINGS, ACK, 0, &[]);
                (stream, initial) = (stream + window - initial, window);
            }
            _ => assert_eq!(frame.kind, SETTINGS, "{frame:?}"),
        }
    }
    client.send(DATA, END_STREAM, 1, b"");
    assert_eq!(client.response(1), (200, sent.to_string().into_bytes()));
    drop(client);
    gate.finish();
}

#[test]
fn a_connection_ends_after_its_streams_and_when_it_is_quiet() {
    let origin = Origin::http(|_| ok("x"));
    let gate = Shardgate::with(&sections(&origin, "timeout.http-keep-alive = \"200ms\"", "", ""))
        .defaults("mode = \"http\"")
        .global("tune.h2.fe.max-total-streams = 2\n")
        .start();
    let mut client = Frames::client(&gate, "fe");
    client.get(1, "/");
    assert_eq!(client.response(1).0, 200);
    client.get(3, "/");
    let goaway = client.next().expect("GOAWAY");
    assert_eq!((goaway.kind, goaway.code()), (GOAWAY, NO_ERROR));
    let mut quiet = Frames::client(&gate, "fe");
    quiet.get(1, "/");
    assert_eq!(quiet.response(1).0, 200);
    let began = Instant::now();
    let goaway = quiet.next().expect("GOAWAY");
    assert_eq!((goaway.kind, goaway.code()), (GOAWAY, NO_ERROR));
    assert!(began.elapsed() >= Duration::from_millis(150));
    drop((client, quiet));
    gate.finish();
}

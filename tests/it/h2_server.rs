//! Servers that speak HTTP/2, frame by frame: answers that are none, refusals, goodbyes, limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::harness::frames::*;
use crate::harness::http::{Wire, sections};
use crate::harness::{Origin, Shardgate, until};

const OK: &[(&str, &str)] = &[(":status", "200")];

/// A proxy in front of a server whose connections are played by `script`, which gets their number too.
fn gate(script: impl Fn(&mut Frames, usize) + Send + Sync + 'static) -> (Origin, Shardgate) {
    gate_with(&[], "", script)
}

fn gate_with(
    settings: &'static [(u16, u32)],
    keywords: &str,
    script: impl Fn(&mut Frames, usize) + Send + Sync + 'static,
) -> (Origin, Shardgate) {
    let count = AtomicUsize::new(0);
    let origin = Origin::new(move |stream, _| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        script(&mut Frames::server(stream, settings), number);
    });
    let keywords = format!("proto = \"h2\"\npool-purge-delay = \"100ms\"\n{keywords}");
    // Requests share connections within a core.
    let gate = Shardgate::with(&sections(&origin, "", "", &keywords)).cores(1).defaults("mode = \"http\"");
    (origin, gate.start())
}

fn status_of(gate: &Shardgate, method: &str) -> u16 {
    let mut wire = gate.wire("fe");
    let length = if method == "POST" { "Content-Length: 4\r\n" } else { "" };
    let body = if method == "POST" { "body" } else { "" };
    wire.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n{length}\r\n{body}"));
    wire.response(method).status()
}

#[test]
fn answers_that_are_malformed_are_bad_gateways() {
    let cases: &[&[(&str, &str)]] = &[
        &[("x", "no status")],
        &[(":status", "abc")],
        &[(":status", "200"), (":status", "200")],
        &[(":status", "200"), ("X-Upper", "x")],
        &[(":status", "200"), ("connection", "close")],
        &[(":status", "200"), ("transfer-encoding", "chunked")],
        &[(":status", "200"), ("x", "a\r\nb: c")],
        &[(":status", "200"), ("a b", "x")],
        &[(":status", "101")],
        &[(":status", "200"), ("content-length", "1"), ("content-length", "2")],
    ];
    let (_origin, gate) = gate(move |server, _| {
        while let Some((stream, body)) = server.request() {
            match std::str::from_utf8(&body).ok().and_then(|n| n.trim().parse::<usize>().ok()) {
                Some(case) => server.answer(stream, cases[case], b"x"),
                None => server.answer(stream, OK, b"fine"),
            }
        }
    });
    for (case, fields) in cases.iter().enumerate() {
        let mut wire = gate.wire("fe");
        wire.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n{case:<4}"));
        assert_eq!(wire.response("POST").status(), 502, "{fields:?}");
        assert_eq!(status_of(&gate, "GET"), 200, "after {fields:?}");
    }
    gate.finish();
}

#[test]
fn broken_connections_are_bad_gateways_and_replaced() {
    // What a server sends instead of an answer.
    let pieces: &[(u8, u8, u32, &[u8])] = &[
        (PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
        (DATA, 0, 0, b"x"),
        (SETTINGS, 0, 0, &[0; 5]),
        (SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]),
        (WINDOW_UPDATE, 0, 0, &[0, 0, 0, 0]),
        (HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (RST_STREAM, 0, 1, &[0, 0, 0, 1]),
        (GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 2]),
    ];
    let (_origin, gate) = gate(move |server, _| {
        while let Some((stream, body)) = server.request() {
            match std::str::from_utf8(&body).ok().and_then(|n| n.trim().parse::<usize>().ok()) {
                None => server.answer(stream, OK, b"fine"),
                Some(case) => {
                    let (kind, flags, about, payload) = pieces[case];
                    server.send(kind, flags, if about == 0 { 0 } else { stream }, payload);
                    if kind == GOAWAY {
                        return;
                    }
                }
            }
        }
    });
    for (case, piece) in pieces.iter().enumerate() {
        // A POST is not sent again: the server may have done what it asks.
        let mut wire = gate.wire("fe");
        wire.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n{case:<4}"));
        assert_eq!(wire.response("POST").status(), 502, "{piece:?}");
        assert_eq!(status_of(&gate, "GET"), 200, "after {piece:?}");
    }
    gate.finish();
}

#[test]
fn a_stream_that_is_refused_is_sent_again() {
    let (_origin, gate) = gate(|server, _| {
        let mut refused = false;
        while let Some((stream, body)) = server.request() {
            if body == b"body" && !refused {
                refused = true;
                server.reset(stream, REFUSED_STREAM);
            } else {
                server.answer(stream, OK, &body);
            }
        }
    });
    // On the first stream of a connection, and on a later one.
    assert_eq!(status_of(&gate, "POST"), 200);
    assert_eq!(status_of(&gate, "GET"), 200);
    gate.finish();
}

#[test]
fn what_a_goodbye_leaves_out_is_sent_again() {
    let (origin, gate) = gate(|server, number| {
        let Some((first, body)) = server.request() else { return };
        if number == 0 {
            server.answer(first, OK, &body);
            let Some((second, _)) = server.request() else { return };
            // The first one was processed, the second was not.
            assert!(second > first);
            server.goaway(first, NO_ERROR);
        } else {
            server.answer(first, OK, &body);
        }
        while server.read().is_some() {}
    });
    assert_eq!(status_of(&gate, "GET"), 200);
    assert_eq!(status_of(&gate, "POST"), 200, "a POST too: nobody has seen it");
    assert_eq!(origin.accepted(), 2);
    gate.finish();
}

#[test]
fn an_answer_that_is_cut_is_not_whole_for_the_client() {
    let (_origin, gate) = gate(|server, _| {
        while let Some((stream, _)) = server.request() {
            server.send(
                HEADERS,
                END_HEADERS,
                stream,
                &block(&[(":status", "200"), ("content-length", "10")]),
            );
            server.send(DATA, 0, stream, b"half");
            server.reset(stream, 2);
        }
    });
    let mut wire = gate.wire("fe");
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(wire.try_response("GET").is_err());
    let mut client = Frames::client(&gate, "fe");
    client.get(1, "/");
    let end = loop {
        let frame = client.next().expect("an end");
        if frame.kind == RST_STREAM || frame.ends() {
            break frame;
        }
    };
    assert_eq!(end.kind, RST_STREAM, "{end:?}");
    drop((wire, client));
    gate.finish();
}

#[test]
fn interim_answers_and_trailers_pass() {
    let (_origin, gate) = gate(|server, _| {
        while let Some((stream, _)) = server.request() {
            server.send(HEADERS, END_HEADERS, stream, &block(&[(":status", "103"), ("link", "</s>")]));
            server.send(HEADERS, END_HEADERS, stream, &block(OK));
            server.send(DATA, PADDED, stream, b"\x02body\0\0");
            server.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[("x-sum", "1")]));
        }
    });
    let mut client = Frames::client(&gate, "fe");
    client.get(1, "/");
    assert_eq!(client.next().map(|frame| frame.status()), Some(103));
    assert_eq!(client.next().map(|frame| frame.status()), Some(200));
    let body = client.next().expect("a body");
    assert_eq!((body.kind, body.payload.as_slice()), (DATA, &b"body"[..]));
    let trailers = client.next().expect("trailers");
    assert!(trailers.kind == HEADERS && trailers.ends(), "{trailers:?}");
    assert!(String::from_utf8_lossy(&trailers.payload).contains("x-sum"));
    drop(client);
    gate.finish();
}

#[test]
fn no_server_gets_more_streams_than_it_allows() {
    // SETTINGS_MAX_CONCURRENT_STREAMS.
    const LIMIT: &[(u16, u32)] = &[(3, 2)];
    let waiting = AtomicUsize::new(0);
    let (origin, gate) = gate_with(LIMIT, "max-streams = 8", move |server, _| {
        let mut streams = Vec::new();
        while let Some((stream, body)) = server.request() {
            if !body.is_empty() {
                server.answer(stream, OK, b"at once");
                continue;
            }
            streams.push(stream);
            waiting.fetch_add(1, Ordering::Relaxed);
            if streams.len() == 2 {
                until("all are here", || waiting.load(Ordering::Relaxed) == 4);
                streams.drain(..).for_each(|stream| server.answer(stream, OK, b"pair"));
            }
        }
    });
    // The settings of the first connection are known after this.
    assert_eq!(status_of(&gate, "POST"), 200);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(status_of(&gate, "GET"), 200));
        }
    });
    assert_eq!(origin.accepted(), 2);
    gate.finish();
}

#[test]
fn an_upload_waits_for_the_window_of_the_server() {
    // SETTINGS_INITIAL_WINDOW_SIZE.
    const NARROW: &[(u16, u32)] = &[(4, 1000)];
    let (_origin, gate) = gate_with(NARROW, "", |server, _| {
        let (mut stream, mut got) = (0, 0);
        while let Some(frame) = server.next() {
            match frame.kind {
                HEADERS => stream = frame.stream,
                DATA => {
                    assert!(frame.payload.len() <= 1000, "{}", frame.payload.len());
                    got += frame.payload.len();
                    let more = u32::try_from(frame.payload.len()).expect("a frame").to_be_bytes();
                    if !frame.payload.is_empty() {
                        server.send(WINDOW_UPDATE, 0, stream, &more);
                    }
                }
                _ => {}
            }
            if frame.ends() {
                server.answer(stream, OK, got.to_string().as_bytes());
                got = 0;
            }
        }
    });
    // Before it knows the settings of the server the proxy may send more.
    assert_eq!(status_of(&gate, "GET"), 200);
    let mut wire = gate.wire("fe");
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n");
    wire.send(vec![b'x'; 50_000]);
    assert_eq!(wire.response("POST").text(), "50000");
    drop(wire);
    gate.finish();
}

#[test]
fn the_next_connection_is_opened_before_it_is_needed() {
    let seen = Arc::new(AtomicUsize::new(0));
    let (on_first, both) = (seen.clone(), AtomicUsize::new(0));
    let (_origin, gate) = gate_with(&[], "max-streams = 8", move |server, _| {
        both.fetch_add(1, Ordering::Relaxed);
        let mut streams = Vec::new();
        while let Some((stream, _)) = server.request() {
            streams.push(stream);
            on_first.store(streams.len(), Ordering::Relaxed);
            if streams.len() == 8 {
                // Nobody has asked for more than these eight.
                until("the next connection is there", || both.load(Ordering::Relaxed) == 2);
                streams.drain(..).for_each(|stream| server.answer(stream, OK, b"all"));
            }
        }
    });
    let mut clients: Vec<_> = (0..8).map(|_| gate.wire("fe")).collect();
    let ask = |client: &mut Wire| client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    clients[..7].iter_mut().for_each(ask);
    until("seven are here", || seen.load(Ordering::Relaxed) == 7);
    assert_eq!(gate.count("be/s1", "connect"), 1, "an eighth of the streams is free");
    ask(&mut clients[7]);
    clients.iter_mut().for_each(|client| assert_eq!(client.response("GET").text(), "all"));
    drop(clients);
    gate.wait_stat("be/s1", "connect", "2");
    gate.wait_stat("fe/FRONTEND", "scur", "0");
    gate.finish();
}

/// Each case is one connection: what a server sends on the stream of the request instead of an answer, and the code that it is
/// told the connection ends with.
#[test]
fn servers_that_break_the_rules_are_told_why() {
    type Case = (&'static str, u32, fn(&mut Frames, u32));
    let cases: &[Case] = &[
        ("a frame that is too long", FRAME_SIZE_ERROR, |server, stream| {
            // What is not read would take the goodbye away.
            server.bytes(&frame(DATA, 0, stream, &[0; 16_385])[..9]);
        }),
        ("a window of three bytes", FRAME_SIZE_ERROR, |server, _| {
            server.send(WINDOW_UPDATE, 0, 0, &[0, 0, 1])
        }),
        ("a ping of seven bytes", FRAME_SIZE_ERROR, |server, _| server.send(PING, 0, 0, &[0; 7])),
        ("a reset of five bytes", FRAME_SIZE_ERROR, |server, stream| {
            server.send(RST_STREAM, 0, stream, &[0; 5])
        }),
        ("a goodbye of four bytes", FRAME_SIZE_ERROR, |server, _| server.send(GOAWAY, 0, 0, &[0; 4])),
        ("an acknowledgement with settings", FRAME_SIZE_ERROR, |server, _| {
            server.send(SETTINGS, ACK, 0, &[0, 3, 0, 0, 0, 1]);
        }),
        ("a window that is too large", FLOW_CONTROL_ERROR, |server, _| {
            server.send(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]);
        }),
        ("an answer that nobody asked for", PROTOCOL_ERROR, |server, stream| {
            server.send(HEADERS, END_HEADERS | END_STREAM, stream + 2, &block(OK));
        }),
        ("something between the parts of a head", PROTOCOL_ERROR, |server, stream| {
            server.send(HEADERS, 0, stream, &block(OK));
            server.send(PING, 0, 0, &[0; 8]);
        }),
        ("a head without an end", ENHANCE_YOUR_CALM, |server, stream| {
            server.send(HEADERS, 0, stream, &block(OK));
            (0..9).for_each(|_| server.send(CONTINUATION, 0, stream, &block(&[("x", "y")])));
        }),
    ];
    let (_origin, gate) = gate(move |server, number| {
        if number % 2 == 1 {
            // The next case has a connection of its own.
            if let Some((stream, _)) = server.request() {
                server.answer(stream, OK, b"fine");
                server.goaway(stream, NO_ERROR);
            }
            while server.read().is_some() {}
            return;
        }
        let Some((stream, _)) = server.request() else { return };
        let (name, code, act) = cases[number / 2];
        act(server, stream);
        let goaway = loop {
            let frame = server.read().expect(name);
            if frame.kind == GOAWAY {
                break frame;
            }
        };
        assert_eq!(goaway.code(), code, "{name}");
    });
    for (name, ..) in cases {
        // A POST is not sent again: the server may have done what it asks.
        assert_eq!(status_of(&gate, "POST"), 502, "{name}");
        assert_eq!(status_of(&gate, "GET"), 200, "after {name}");
    }
    gate.finish();
}

#[test]
fn answers_that_are_too_much_end_their_streams_alone() {
    let cases: &[fn(&mut Frames, u32)] = &[
        // More than the window of the stream (`tune.h2.be.initial-window-size`).
        |server, stream| {
            server.send(HEADERS, END_HEADERS, stream, &block(OK));
            // The client has room for some of it.
            for _ in 0..24 {
                server.send(DATA, 0, stream, &[b'x'; 16_384]);
            }
        },
        |server, stream| {
            let value = "x".repeat(1000);
            let mut fields = vec![(":status", "200")];
            fields.extend((0..70).map(|_| ("x-long", value.as_str())));
            let section = block(&fields);
            let (first, rest) = section.split_at(16_000);
            server.send(HEADERS, END_STREAM, stream, first);
            let mut pieces = rest.chunks(16_000).peekable();
            while let Some(piece) = pieces.next() {
                let end = if pieces.peek().is_none() { END_HEADERS } else { 0 };
                server.send(CONTINUATION, end, stream, piece);
            }
        },
        |server, stream| server.send(DATA, END_STREAM, stream, b"no head"),
        |server, stream| {
            server.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[(":status", "100")]))
        },
        |server, stream| server.send(WINDOW_UPDATE, 0, stream, &[0; 4]),
    ];
    let (origin, gate) = gate(move |server, _| {
        while let Some((stream, body)) = server.request() {
            match std::str::from_utf8(&body).ok().and_then(|n| n.trim().parse::<usize>().ok()) {
                Some(case) => cases[case](server, stream),
                None => server.answer(stream, OK, b"fine"),
            }
        }
    });
    for case in 1..cases.len() {
        let mut wire = gate.wire("fe");
        wire.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n{case:<4}"));
        assert_eq!(wire.response("POST").status(), 502, "{case}");
        assert_eq!(status_of(&gate, "GET"), 200, "after {case}");
    }
    // A client without room lets the window fill up; what was too much is told when it has room again.
    let mut client = Frames::client(&gate, "fe");
    client.post(1, "/");
    client.send(DATA, END_STREAM, 1, b"0   ");
    let mut got = 0;
    while got < 65_535 {
        let frame = client.next().expect("data");
        got += if frame.kind == DATA { frame.payload.len() } else { 0 };
    }
    assert_eq!(status_of(&gate, "GET"), 200, "others are not held up");
    for stream in [0, 1] {
        client.send(WINDOW_UPDATE, 0, stream, &[0, 15, 0, 0]);
    }
    client.expect_reset(1, INTERNAL_ERROR);
    assert_eq!(status_of(&gate, "GET"), 200);
    assert_eq!(origin.accepted(), 1, "the connection goes on");
    drop(client);
    gate.finish();
}

#[test]
fn clients_that_take_nothing_hold_up_no_others() {
    const WINDOW: usize = 256 * 1024;
    const STALLED: usize = 49;
    let stalled = Arc::new(AtomicUsize::new(0));
    let count = stalled.clone();
    // It fills the window of every stream at once, whether the window of the connection has room or not.
    let (origin, gate) = gate(move |server, _| {
        while let Some((stream, _)) = server.request() {
            server.send(HEADERS, END_HEADERS, stream, &block(OK));
            let last = if count.load(Ordering::Relaxed) < STALLED { 0 } else { END_STREAM };
            for piece in 1..=WINDOW / 16_384 {
                let flags = if piece == WINDOW / 16_384 { last } else { 0 };
                server.send(DATA, flags, stream, &[b'x'; 16_384]);
            }
            count.fetch_add(usize::from(last == 0), Ordering::Relaxed);
        }
    });
    // Its own window is 65,535 for all streams together.
    let mut client = Frames::client(&gate, "fe");
    (0..STALLED).for_each(|n| client.get(u32::try_from(2 * n + 1).expect("small"), "/"));
    until("responses wait for a client", || stalled.load(Ordering::Relaxed) == STALLED);
    for _ in 0..20 {
        let response = gate.wire("fe").get("/");
        assert_eq!((response.status(), response.body.len()), (200, WINDOW));
    }
    assert_eq!(origin.accepted(), 1, "all on one connection");
    drop(client);
    gate.finish();
}

//! HTTP/2 frame by frame: header compression (RFC 7541), and what RFC 9113 8 says of malformed messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::h2_frames::Answer::Connection;
use crate::h2_frames::{Answer, gate, hello, prioritized, run, works};
use crate::harness::Origin;
use crate::harness::frames::*;
use crate::harness::http::{http_gate, ok};

/// RFC 7541, in the order of its sections.
#[test]
fn hpack_what_does_not_decode_ends_the_connection() {
    let get = request("GET", "/", &[]);
    let head = |section: &[u8]| frame(HEADERS, END_STREAM | END_HEADERS, 1, section);
    let behind = |more: &[u8]| head(&[&get[..], more].concat());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("2.3.3 an index that nothing has", behind(&[0xc6])),
        ("2.3.3 a name that nothing has", behind(&[0x7f, 0x07, 1, b'x'])),
        ("4.2 a size of the table behind fields", behind(&[0x21])),
        ("5.2 padding of more than 7 bits", behind(b"\x00\x01x\x84\x49\x50\x9f\xff")),
        ("5.2 padding of zeros", behind(b"\x00\x01x\x83\x49\x50\x90")),
        ("5.2 the end of a string inside of it", behind(b"\x00\x01x\x84\xff\xff\xff\xff")),
        ("6.1 index 0", behind(&[0x80])),
        ("6.3 a table larger than allowed", head(&[&[0x3f, 0xe2, 0x1f], &get[..]].concat())),
        ("5.1 a string longer than the section", behind(&[0, 5, b'x'])),
    ];
    let cases: Vec<(&str, Answer, [&[u8]; 1])> =
        cases.iter().map(|(name, bytes)| (*name, Connection(COMPRESSION_ERROR), [&bytes[..]])).collect();
    let cases: Vec<(&str, Answer, &[&[u8]])> =
        cases.iter().map(|(n, a, bytes)| (*n, *a, &bytes[..])).collect();
    run(&cases);
}

#[test]
fn hpack_all_forms_of_fields_are_read() {
    let origin = Origin::http(|request| {
        let value = |name| request.header(name).unwrap_or("-").to_owned();
        ok(&["host", "x", "user-agent", "z", "accept", "v"].map(value).join(" "))
    });
    let gate = gate(&origin);
    let mut client = Frames::client(&gate, "fe");
    let mut ask = |stream, section: &[u8]| {
        client.send(HEADERS, END_STREAM | END_HEADERS, stream, section);
        String::from_utf8(client.response(stream).1).expect("text")
    };
    // 6.1 indexed; 6.2.1 added to the table, a name of the static one (in Huffman's code, C.4.1) and a new one; 6.2.2 not
    // added; 6.2.3 never.
    let first = [
        b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\x40\x01x\x01y",
        &b"\x0f\x2b\x01u\x10\x01z\x01w\x1f\x04\x01a\x00\x01v\x83\x49\x50\x9f"[..],
    ];
    assert_eq!(ask(1, &first.concat()), "www.example.com y u w a test");
    // What was added is there for the next one, the newest first.
    assert_eq!(ask(3, b"\x82\x86\x84\xbf\xbe"), "www.example.com y - - - -");
    // 6.3: a table that is made empty forgets it, and grows again.
    assert_eq!(ask(5, b"\x20\x3f\xe1\x1f\x82\x86\x84\x41\x01b\x40\x01x\x01q"), "b q - - - -");
    assert_eq!(ask(7, b"\x82\x86\x84\xbf\xbe"), "b q - - - -");
    client.send(HEADERS, END_STREAM | END_HEADERS, 9, b"\x82\x86\x84\xc0");
    client.expect_goaway(COMPRESSION_ERROR);
    gate.finish();
}

#[test]
fn section_6_9_responses_wait_for_the_window() {
    let origin = hello();
    let gate = gate(&origin);
    let mut client = Frames::raw(&gate, "fe");
    client.bytes(PREFACE);
    // Windows of three bytes.
    client.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 3]);
    client.get(1, "/x");
    let head = client.next().expect("a head");
    assert_eq!(head.status(), 200);
    let first = client.next().expect("data");
    assert_eq!((first.kind, first.payload.as_slice(), first.ends()), (DATA, &b"GET"[..], false));
    // A request on the side is not held up, as far as its head goes.
    client.send(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
    let second = client.next().expect("data");
    assert_eq!(second.payload, b" ");
    // A smaller window for all may make one negative; more data comes when it is positive again.
    client.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    client.send(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 5]);
    let third = client.next().expect("data");
    assert_eq!(third.payload, b"/x");
    client.send(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 100]);
    let rest = client.next().expect("data");
    assert_eq!((rest.payload.as_slice(), rest.ends()), (&b" HTTP/1.1"[..], true));
    drop(client);
    gate.finish();
}

#[test]
fn section_8_malformed_requests_are_reset() {
    let reached = Arc::new(AtomicUsize::new(0));
    let counter = reached.clone();
    let origin = Origin::http(move |request| {
        let is_good = request.start() == "GET /still HTTP/1.1";
        counter.fetch_add(usize::from(!is_good), Ordering::Relaxed);
        ok(request.start())
    });
    let gate = gate(&origin);
    let base = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")];
    let with = |more: &[(&'static str, &'static str)]| [&base[..], more].concat();
    let without = |name: &str| base.iter().filter(|(n, _)| *n != name).copied().collect::<Vec<_>>();
    let swapped = |name: &str, value: &'static str| {
        base.iter().map(|(n, v)| if *n == name { (*n, value) } else { (*n, *v) }).collect::<Vec<_>>()
    };
    let cases = [
        ("8.2.1 an uppercase name", with(&[("X-Upper", "x")])),
        ("8.2.1 a colon in a name", with(&[("a:b", "x")])),
        ("8.2.1 a space in a name", with(&[("a b", "x")])),
        ("8.2.1 CR LF in a value", with(&[("x", "a\r\nhost: b")])),
        ("8.2.1 LF in a value", with(&[("x", "a\nb")])),
        ("8.2.1 NUL in a value", with(&[("x", "a\0b")])),
        ("8.2.1 a space in front of a value", with(&[("x", " a")])),
        ("8.2.1 a tab behind a value", with(&[("x", "a\t")])),
        ("8.2.2 connection", with(&[("connection", "keep-alive")])),
        ("8.2.2 transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("8.2.2 upgrade", with(&[("upgrade", "h2c")])),
        ("8.2.2 keep-alive", with(&[("keep-alive", "timeout=5")])),
        ("8.2.2 proxy-connection", with(&[("proxy-connection", "keep-alive")])),
        ("8.2.2 te other than trailers", with(&[("te", "trailers, deflate")])),
        ("8.3 an unknown pseudo-header field", with(&[(":test", "x")])),
        ("8.3 :status in a request", with(&[(":status", "200")])),
        ("8.3 a pseudo-header field behind others", [&[("x", "y")][..], &base[..]].concat()),
        ("8.3.1 no :method", without(":method")),
        ("8.3.1 no :scheme", without(":scheme")),
        ("8.3.1 no :path", without(":path")),
        ("8.3.1 an empty :path", swapped(":path", "")),
        ("8.3.1 a :path without slash", swapped(":path", "p")),
        ("8.3.1 a space in :path", swapped(":path", "/a b HTTP/1.1")),
        ("8.3.1 two :method", with(&[(":method", "POST")])),
        ("8.3.1 two :scheme", with(&[(":scheme", "http")])),
        ("8.3.1 two :path", with(&[(":path", "/b")])),
        ("8.3.1 a space in :method", swapped(":method", "GET /x")),
        ("8.3.1 user information in :authority", swapped(":authority", "u@a.test")),
        ("8.3.1 Host differs from :authority", with(&[("host", "b.test")])),
        ("8.1.1 a content-length without body", with(&[("content-length", "3")])),
        ("8.1.1 two content-length", with(&[("content-length", "0"), ("content-length", "1")])),
        ("8.5 CONNECT with a path", swapped(":method", "CONNECT")),
    ];
    for (name, fields) in &cases {
        let mut client = Frames::client(&gate, "fe");
        client.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(fields));
        eprintln!("{name}");
        if client.expect_reset(1, PROTOCOL_ERROR) {
            works(&mut client, 3);
        }
    }
    assert_eq!(reached.load(Ordering::Relaxed), 0, "none of them reached a server");
    gate.finish();
}

#[test]
fn section_4_3_heads_in_pieces_with_padding_and_priority_are_heads() {
    let origin = hello();
    let gate = gate(&origin);
    let mut client = Frames::client(&gate, "fe");
    let head = [&[3][..], &prioritized(&[0x80, 0, 0, 0, 7]), &[0; 3]].concat();
    client.send(HEADERS, END_STREAM | END_HEADERS | PADDED | 0x20, 1, &head);
    assert_eq!(client.response(1), (200, b"GET / HTTP/1.1".to_vec()));
    let section = request("GET", "/pieces", &[("x", "y")]);
    client.send(HEADERS, END_STREAM, 3, &section[..1]);
    section[1..].chunks(20).for_each(|piece| client.send(CONTINUATION, 0, 3, piece));
    client.send(CONTINUATION, END_HEADERS, 3, &[]);
    assert_eq!(client.response(3), (200, b"GET /pieces HTTP/1.1".to_vec()));
    drop(client);
    gate.finish();
}

#[test]
fn section_8_1_1_bodies_that_differ_from_their_length() {
    let origin = hello();
    let gate = gate(&origin);
    for (length, body) in [("5", ["abc", ""]), ("2", ["abc", ""]), ("5", ["abc", "d"]), ("5", ["abc", "def"])]
    {
        let mut client = Frames::client(&gate, "fe");
        client.send(HEADERS, END_HEADERS, 1, &request("POST", "/", &[("content-length", length)]));
        client.send(DATA, 0, 1, body[0].as_bytes());
        client.send(DATA, END_STREAM, 1, body[1].as_bytes());
        client.expect_reset(1, PROTOCOL_ERROR);
        works(&mut client, 3);
    }
    gate.finish();
}

#[test]
fn section_8_1_trailers() {
    let origin = Origin::http(|request| ok(&request.text()));
    let gate = gate(&origin);
    let mut client = Frames::client(&gate, "fe");
    client.post(1, "/");
    client.send(DATA, 0, 1, b"body");
    client.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&[("x-checksum", "1")]));
    assert_eq!(client.response(1), (200, b"body".to_vec()));
    drop(client);
    // Trailers that do not end the stream.
    let mut client = Frames::client(&gate, "fe");
    client.post(1, "/");
    client.send(DATA, 0, 1, b"body");
    client.send(HEADERS, END_HEADERS, 1, &block(&[("x", "y")]));
    client.expect_reset(1, PROTOCOL_ERROR);
    drop(client);
    // Trailers with a field that only stands in front.
    let mut client = Frames::client(&gate, "fe");
    client.post(1, "/");
    client.send(DATA, 0, 1, b"body");
    client.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&[(":method", "POST")]));
    client.expect_reset(1, PROTOCOL_ERROR);
    drop(client);
    // Trailers that frame or route.
    let mut client = Frames::client(&gate, "fe");
    client.post(1, "/");
    client.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&[("content-length", "4")]));
    client.expect_reset(1, PROTOCOL_ERROR);
    drop(client);
    gate.finish();
}

#[test]
fn limits_of_heads_are_answered() {
    let origin = Origin::http(|_| ok("x"));
    let gate =
        http_gate(&origin, "max-headers = 10\nmax-header-bytes = \"2k\"\nmax-uri-bytes = 1024", "", "");
    let long = "v".repeat(2500);
    let many: Vec<_> = (0..11).map(|_| ("x", "y")).collect();
    for (status, path, more) in [
        (431, "/", &[("x", long.as_str())][..]),
        (431, "/", &many),
        (414, &format!("/{}", &long[..1100]), &[]),
    ] {
        let mut client = Frames::client(&gate, "fe");
        client.send(HEADERS, END_STREAM | END_HEADERS, 1, &request("GET", path, more));
        assert_eq!(client.response(1).0, status, "{}", path.len());
        client.get(3, "/");
        assert_eq!(client.response(3).0, 200);
    }
    gate.finish();
}

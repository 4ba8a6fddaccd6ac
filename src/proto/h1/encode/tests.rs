//! What is written, byte for byte.

use super::*;
use crate::proto::h1::head::{Ambiguous, HeadOptions, parse_request, parse_response};
use crate::proto::headers::Head;
use crate::proto::http::{Name, StatusCode, Version};

const KEEP: HeadOut = HeadOut { body: BodyHeaders::Keep, connection: ConnectionHeader::None };

fn written(text: &str, how: HeadOut, edit: impl FnOnce(&mut HeadEdit<'_>)) -> String {
    let mut head = Head::new();
    let bytes = text.as_bytes();
    let options = HeadOptions { ambiguous: Ambiguous::Repair, ..HeadOptions::default() };
    let mut out = b"before ".to_vec();
    if text.starts_with("HTTP/") {
        parse_response(bytes, &options, &mut head).expect("a head").complete().expect("a whole head");
        edit(&mut head.edit(bytes));
        response(&mut head.edit(bytes), how, &mut out);
    } else {
        parse_request(bytes, &options, &mut head).expect("a head").complete().expect("a whole head");
        edit(&mut head.edit(bytes));
        request(&mut head.edit(bytes), how, &mut out);
    }
    String::from_utf8(out).expect("text").strip_prefix("before ").expect("what was there stays").to_owned()
}

#[test]
fn an_untouched_head_goes_on_as_it_came() {
    let request = "GET /a?b HTTP/1.1\r\nHost: a\r\nX-Odd:  two  \r\nUser-Agent: u\r\n\r\n";
    assert_eq!(written(request, KEEP, |_| ()), request);
    let response = "HTTP/1.1 404 Gone fishing\r\nServer: s\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(written(response, KEEP, |_| ()), response);
}

#[test]
fn start_lines_become_http_11_in_origin_form() {
    for (from, to) in [
        ("GET http://a:80/x?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x?y HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("GET http://a:80?y HTTP/1.0\r\n\r\n", "GET /?y HTTP/1.1\r\nHost: a:80\r\n\r\n"),
        ("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: \r\n\r\n"),
        ("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("HTTP/1.0 200\r\n\r\n", "HTTP/1.1 200 \r\n\r\n"),
    ] {
        assert_eq!(written(from, KEEP, |_| ()), to);
    }
}

#[test]
fn headers_of_the_hop_stay_on_it() {
    let request = "GET / HTTP/1.1\r\nConnection: close, X-Hop, Host, Content-Length, upgrade\r\nHost: a\r\n\
                   X-Hop: 1\r\nX-End: 2\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: trailers, gzip\r\n\
                   Upgrade: websocket\r\nHTTP2-Settings: x\r\nContent-Length: 0\r\nConnection: x-end\r\n\r\n";
    let plain = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nte: trailers\r\n\r\n";
    assert_eq!(written(request, KEEP, |_| ()), plain);
    let upgrade = HeadOut { connection: ConnectionHeader::Upgrade, ..KEEP };
    assert_eq!(
        written(request, upgrade, |_| ()),
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nContent-Length: 0\r\nte: trailers\r\nConnection: upgrade\r\n\r\n"
    );
    // What a rule added is not for the client to remove.
    let kept = written(request, KEEP, |edit| edit.add_as(b"X-Hop", b"ours").expect("room"));
    assert!(kept.contains("X-Hop: ours\r\n") && !kept.contains("X-Hop: 1"), "{kept}");
    let te = "GET / HTTP/1.1\r\nHost: a\r\nTE: deflate\r\n\r\n";
    assert_eq!(written(te, KEEP, |_| ()), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn body_and_connection_are_said_once() {
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\nConnection: keep-alive\r\n\r\n";
    for (how, tail) in [
        (KEEP, "Transfer-Encoding: chunked\r\nA: b\r\n\r\n"),
        (HeadOut { body: BodyHeaders::Chunked, ..KEEP }, "A: b\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (HeadOut { body: BodyHeaders::Length(12), ..KEEP }, "A: b\r\nContent-Length: 12\r\n\r\n"),
        (
            HeadOut { body: BodyHeaders::Neither, connection: ConnectionHeader::Close },
            "A: b\r\nConnection: close\r\n\r\n",
        ),
        (
            HeadOut { body: BodyHeaders::Neither, connection: ConnectionHeader::KeepAlive },
            "A: b\r\nConnection: keep-alive\r\n\r\n",
        ),
    ] {
        assert_eq!(written(response, how, |_| ()), format!("HTTP/1.1 200 OK\r\n{tail}"));
    }
}

#[test]
fn edits_are_written_between_untouched_lines() {
    let request = "GET /a HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: x\r\n y\r\nE: 5\r\n\r\n";
    let text = written(request, KEEP, |edit| {
        assert_eq!(edit.delete(Name::of(b"b")), 1);
        edit.rewrite_lines(Name::of(b"c"), |old, new| {
            new.extend_from_slice(old);
            new.push(b'!');
            true
        })
        .expect("room");
        edit.set_as(b"X-Forwarded-For", b"192.0.2.1").expect("room");
        edit.set_method(b"POST").expect("a method");
        edit.set_path(b"/b").expect("a path");
        edit.set_query(b"q").expect("a query");
    });
    assert_eq!(
        text,
        "POST /b?q HTTP/1.1\r\nHost: a\r\nA: 1\r\nC: 3!\r\nD: x y\r\nE: 5\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
    );
}

#[test]
fn heads_that_were_not_received_are_written() {
    let mut head = Head::new();
    head.start_request(b"GET", b"/x").expect("a request");
    head.set_version(Version::Http2);
    head.edit(b"").add(Known::Host, b"a").expect("room");
    let mut out = Vec::new();
    request(&mut head.edit(b""), KEEP, &mut out);
    assert_eq!(out, b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n");
    head.start_response(StatusCode::OK).expect("a response");
    out.clear();
    response(&mut head.edit(b""), HeadOut { body: BodyHeaders::Length(0), ..KEEP }, &mut out);
    assert_eq!(out, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn chunk_heads_are_hexadecimal() {
    let mut buffer = [0; CHUNK_HEAD_BYTES_MAX];
    for len in [1, 9, 10, 15, 16, 255, 4096, 65_535, usize::MAX] {
        assert_eq!(chunk_head(len, &mut buffer), format!("{len:x}\r\n").as_bytes());
    }
}

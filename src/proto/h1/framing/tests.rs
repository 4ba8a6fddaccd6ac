//! Tables of everything that decides about a body, in both modes.

use super::*;
use crate::proto::h1::head::{HeadOptions, parse_request, parse_response};
use crate::proto::headers::Head;

fn options(ambiguous: Ambiguous) -> HeadOptions {
    HeadOptions { ambiguous, ..HeadOptions::default() }
}

fn judge_request(text: &str, ambiguous: Ambiguous) -> std::result::Result<Decision, Reason> {
    let mut head = Head::new();
    parse_request(text.as_bytes(), &options(ambiguous), &mut head)
        .expect("a head")
        .complete()
        .expect("a whole head");
    request(&mut head.edit(text.as_bytes()), ambiguous).map_err(|refusal| refusal.reason)
}

/// A request with a Host and these lines.
fn with_lines(start: &str, lines: &str) -> String {
    format!("{start}\r\nHost: a\r\n{lines}\r\n")
}

#[test]
fn bodies_of_requests() {
    use Reason::*;
    let post = "POST / HTTP/1.1";
    let cases: &[(&str, &str, std::result::Result<Framing, Reason>)] = &[
        ("GET / HTTP/1.1", "", Ok(Framing::None)),
        (post, "", Ok(Framing::None)),
        (post, "Content-Length: 0\r\n", Ok(Framing::Length(0))),
        (post, "Content-Length:  42 \r\n", Ok(Framing::Length(42))),
        (post, "content-length: 9223372036854775807\r\n", Ok(Framing::Length(i64::MAX.unsigned_abs()))),
        (post, "Content-Length: 9223372036854775808\r\n", Err(LengthTooLarge)),
        (post, "Content-Length: 99999999999999999999999\r\n", Err(LengthTooLarge)),
        (post, "Content-Length: \r\n", Err(LengthSyntax)),
        (post, "Content-Length: +5\r\n", Err(LengthSyntax)),
        (post, "Content-Length: -5\r\n", Err(LengthSyntax)),
        (post, "Content-Length: 0x5\r\n", Err(LengthSyntax)),
        (post, "Content-Length: 5 5\r\n", Err(LengthSyntax)),
        (post, "Content-Length: 5, 5\r\n", Err(LengthList)),
        (post, "Content-Length: 5, 6\r\n", Err(LengthList)),
        (post, "Content-Length: 5\r\nContent-Length: 5\r\n", Err(LengthRepeated)),
        (post, "Content-Length: 5\r\nX: y\r\nCONTENT-LENGTH: 6\r\n", Err(LengthDiffers)),
        (post, "Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
        (post, "transfer-encoding:\tCHUNKED\r\n", Ok(Framing::Chunked)),
        (post, "Transfer-Encoding: gzip, chunked\r\n", Err(CodingUnknown)),
        (post, "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Err(CodingUnknown)),
        (post, "Transfer-Encoding: chunked, gzip\r\n", Err(ChunkedNotLast)),
        (post, "Transfer-Encoding: identity\r\n", Err(ChunkedNotLast)),
        (post, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Err(ChunkedNotLast)),
        (post, "Transfer-Encoding: chunked, chunked\r\n", Err(ChunkedRepeated)),
        (post, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(ChunkedRepeated)),
        (post, "Transfer-Encoding: xchunked\r\n", Err(ChunkedNotLast)),
        (post, "Transfer-Encoding: \r\n", Err(CodingSyntax)),
        (post, "Transfer-Encoding: chunked,\r\n", Err(CodingSyntax)),
        (post, "Transfer-Encoding: chunked;q=1\r\n", Err(CodingSyntax)),
        (post, "Transfer-Encoding: \"chunked\"\r\n", Err(CodingSyntax)),
        (post, "Transfer-Encoding: chun ked\r\n", Err(CodingSyntax)),
        (post, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(LengthWithCoding)),
        ("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n", Err(CodingOnHttp10)),
        ("POST / HTTP/1.0", "Content-Length: 5\r\n", Ok(Framing::Length(5))),
        ("CONNECT a:1 HTTP/1.1", "", Ok(Framing::None)),
        ("CONNECT a:1 HTTP/1.1", "Content-Length: 0\r\n", Ok(Framing::Length(0))),
        ("CONNECT a:1 HTTP/1.1", "Content-Length: 1\r\n", Err(ConnectBody)),
        ("CONNECT a:1 HTTP/1.1", "Transfer-Encoding: chunked\r\n", Err(ConnectBody)),
    ];
    for (start, lines, expected) in cases {
        let text = with_lines(start, lines);
        let decision = judge_request(&text, Ambiguous::Reject);
        assert_eq!(decision.map(|d| d.framing), *expected, "{text:?}");
        assert!(
            decision.is_err()
                || decision == Ok(Decision { framing: expected.expect("ok"), must_close: false })
        );
        if *expected != Err(LengthWithCoding) {
            assert_eq!(judge_request(&text, Ambiguous::Repair), decision, "repair changes nothing: {text:?}");
        }
    }
}

#[test]
fn a_length_beside_a_coding_is_dropped_when_repairing() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        let text = with_lines("POST / HTTP/1.1", lines);
        let mut head = Head::new();
        parse_request(text.as_bytes(), &options(Ambiguous::Repair), &mut head).expect("a head");
        let decision = request(&mut head.edit(text.as_bytes()), Ambiguous::Repair).expect("repaired");
        assert_eq!(decision, Decision { framing: Framing::Chunked, must_close: true });
        let view = head.view(text.as_bytes());
        assert!(!view.has(Known::ContentLength) && view.has(Known::TransferEncoding));
        assert!(!stays_open(view, &decision));
    }
    // What contradicts itself already is not repaired.
    for lines in [
        "Content-Length: x\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked, identity\r\n",
    ] {
        assert!(judge_request(&with_lines("POST / HTTP/1.1", lines), Ambiguous::Repair).is_err(), "{lines}");
    }
}

#[test]
fn hosts_and_targets() {
    use Reason::*;
    let cases: &[(&str, Option<Reason>)] = &[
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a:80\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", None),
        ("GET / HTTP/1.1\r\n\r\n", Some(HostMissing)),
        ("GET / HTTP/1.0\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Some(HostRepeated)),
        ("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", Some(HostRepeated)),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Some(HostSyntax)),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", Some(HostSyntax)),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Some(HostSyntax)),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Some(HostSyntax)),
        ("GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", Some(HostSyntax)),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Some(HostSyntax)),
        ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET http://a/ HTTP/1.1\r\nHost: A:80\r\n\r\n", None),
        ("GET https://a:443/ HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", Some(HostDiffers)),
        ("GET http://a/ HTTP/1.1\r\nHost: a:81\r\n\r\n", Some(HostDiffers)),
        ("GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n", Some(HostSyntax)),
        ("GET http://a/ HTTP/1.0\r\n\r\n", None),
        ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Some(Authority)),
        ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", Some(Authority)),
        ("GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", Some(TargetForm)),
        ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Some(TargetForm)),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Some(TargetForm)),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", None),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:80\r\n\r\n", Some(HostDiffers)),
        ("CONNECT a:443 HTTP/1.1\r\nHost: b\r\n\r\n", Some(HostDiffers)),
        ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", Some(Authority)),
        ("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", Some(Authority)),
    ];
    for (text, expected) in cases {
        for ambiguous in [Ambiguous::Reject, Ambiguous::Repair] {
            assert_eq!(judge_request(text, ambiguous).err(), *expected, "{text:?}");
        }
    }
}

fn judge_response(text: &str, asked: Asked, ambiguous: Ambiguous) -> std::result::Result<Decision, Reason> {
    let mut head = Head::new();
    parse_response(text.as_bytes(), &options(ambiguous), &mut head)
        .expect("a head")
        .complete()
        .expect("a whole head");
    response(&mut head.edit(text.as_bytes()), asked, ambiguous).map_err(|refusal| refusal.reason)
}

#[test]
fn bodies_of_responses() {
    use Reason::*;
    let get = Asked { method: Method::Get, upgrade: false };
    let head = Asked { method: Method::Head, ..get };
    let connect = Asked { method: Method::Connect, ..get };
    let upgrade = Asked { upgrade: true, ..get };
    let open = |framing| Ok(Decision { framing, must_close: false });
    let close = |framing| Ok(Decision { framing, must_close: true });
    let cases: &[(&str, Asked, std::result::Result<Decision, Reason>)] = &[
        ("200 OK\r\nContent-Length: 5\r\n", get, open(Framing::Length(5))),
        ("200 OK\r\nTransfer-Encoding: chunked\r\n", get, open(Framing::Chunked)),
        ("200 OK\r\n", get, close(Framing::UntilClose)),
        ("200 OK\r\nContent-Length: 5\r\n", head, open(Framing::None)),
        ("200 OK\r\nTransfer-Encoding: chunked\r\n", head, open(Framing::None)),
        ("200 OK\r\n", head, open(Framing::None)),
        ("204 No Content\r\n", get, open(Framing::None)),
        ("304 Not Modified\r\nContent-Length: 5\r\n", get, open(Framing::None)),
        ("100 Continue\r\nContent-Length: 5\r\n", get, open(Framing::None)),
        ("103 Early Hints\r\nLink: x\r\n", get, open(Framing::None)),
        ("101 Switching Protocols\r\nContent-Length: 5\r\n", upgrade, open(Framing::Tunnel)),
        ("101 Switching Protocols\r\n", get, Err(UnexpectedSwitch)),
        ("200 OK\r\nContent-Length: 5\r\n", connect, open(Framing::Tunnel)),
        ("200 OK\r\nTransfer-Encoding: chunked\r\n", connect, open(Framing::Tunnel)),
        ("407 Proxy Authentication Required\r\nContent-Length: 5\r\n", connect, open(Framing::Length(5))),
        ("200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n", get, Err(LengthDiffers)),
        ("200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n", head, Err(LengthDiffers)),
        ("304 Not Modified\r\nContent-Length: 5, 5\r\n", get, Err(LengthList)),
        ("200 OK\r\nTransfer-Encoding: gzip\r\n", get, Err(ChunkedNotLast)),
        ("200 OK\r\nTransfer-Encoding: gzip, chunked\r\n", get, Err(CodingUnknown)),
        ("200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", get, Err(LengthWithCoding)),
    ];
    for (text, asked, expected) in cases {
        let text = format!("HTTP/1.1 {text}\r\n");
        assert_eq!(judge_response(&text, *asked, Ambiguous::Reject), *expected, "{text:?}");
    }
    let both = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(judge_response(both, get, Ambiguous::Repair), close(Framing::Chunked));
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(judge_response(old, get, Ambiguous::Repair), Err(CodingOnHttp10));
}

#[test]
fn connections_stay_open_as_their_version_says() {
    for (text, expected) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: foo\r\nConnection: x, close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", true),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false),
    ] {
        let mut head = Head::new();
        parse_request(text.as_bytes(), &HeadOptions::default(), &mut head).expect("a head");
        let decision = request(&mut head.edit(text.as_bytes()), Ambiguous::Reject).expect("a good request");
        assert_eq!(stays_open(head.view(text.as_bytes()), &decision), expected, "{text:?}");
    }
}

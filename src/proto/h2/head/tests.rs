//! Tables of messages, good and bad, and what they become.

use super::*;
use crate::proto::h1::head::{HeadOptions, parse_request};

type Fields<'a> = &'a [(&'a str, &'a str)];

fn limits() -> HeadLimits {
    HeadLimits { head_bytes_max: 400, headers_max: 8, target_bytes_max: 100 }
}

fn translate(pseudo: &Pseudo<'_>, fields: Fields<'_>) -> Result<String> {
    let (mut out, mut head) = (Vec::new(), Head::new());
    let iter = || fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    request(pseudo, iter, &limits(), &[b'k'; WEBSOCKET_KEY_BYTES], &mut out, &mut head)?;
    // The head points where a parser would.
    let mut parsed = Head::new();
    parse_request(&out, &HeadOptions::default(), &mut parsed)
        .expect("well formed")
        .complete()
        .expect("whole");
    let view = head.view(&out);
    assert!(view.fields().eq(parsed.view(&out).fields()));
    assert_eq!(view.method_text(), parsed.view(&out).method_text());
    assert_eq!(view.target(), parsed.view(&out).target());
    assert_eq!((head.len(), view.version()), (out.len(), Version::Http2));
    Ok(String::from_utf8(out).expect("ASCII"))
}

fn get<'a>() -> Pseudo<'a> {
    let (scheme, authority, path) = (Some(&b"http"[..]), Some(&b"a.test"[..]), Some(&b"/p?q"[..]));
    Pseudo { method: b"GET", scheme, authority, path, protocol: None }
}

#[test]
fn a_request_is_written_as_http1_has_it() {
    let text = translate(&get(), &[("accept", "*/*"), ("x-empty", ""), ("te", "trailers")]);
    let wanted = "GET /p?q HTTP/1.1\r\nhost: a.test\r\naccept: */*\r\nx-empty: \r\nte: trailers\r\n\r\n";
    assert_eq!(text.as_deref(), Ok(wanted));
}

#[test]
fn host_stands_in_for_the_authority_and_must_not_differ() {
    let bare = Pseudo { authority: None, ..get() };
    let wanted = "GET /p?q HTTP/1.1\r\nhost: b.test\r\n\r\n";
    assert_eq!(translate(&bare, &[("host", "b.test")]).as_deref(), Ok(wanted));
    let empty = Pseudo { authority: Some(b""), ..get() };
    assert_eq!(translate(&empty, &[("host", "b.test")]).as_deref(), Ok(wanted));
    let same = translate(&get(), &[("host", "A.test")]);
    assert_eq!(same.as_deref(), Ok("GET /p?q HTTP/1.1\r\nhost: a.test\r\n\r\n"));
    assert_eq!(translate(&get(), &[("host", "b.test")]), Err(Malformed::AuthorityDiffers));
    let with_user = Pseudo { authority: Some(b"user@a.test"), ..get() };
    assert_eq!(translate(&with_user, &[]), Err(Malformed::Authority));
}

#[test]
fn crumbs_of_cookies_are_joined() {
    let text = translate(&get(), &[("cookie", "a=1"), ("x", "y"), ("cookie", ""), ("cookie", "b=2")]);
    let wanted = "GET /p?q HTTP/1.1\r\nhost: a.test\r\nx: y\r\ncookie: a=1; b=2\r\n\r\n";
    assert_eq!(text.as_deref(), Ok(wanted));
}

#[test]
fn an_extended_connect_becomes_a_websocket_handshake() {
    let chat = Pseudo { method: b"CONNECT", protocol: Some(b"websocket"), ..get() };
    let text = translate(&chat, &[("sec-websocket-version", "13"), ("sec-websocket-key", "forged")]);
    let wanted = "GET /p?q HTTP/1.1\r\nhost: a.test\r\nsec-websocket-version: 13\r\nconnection: upgrade\r\n\
                  upgrade: websocket\r\nsec-websocket-key: kkkkkkkkkkkkkkkkkkkkkkkk\r\n\r\n";
    assert_eq!(text.as_deref(), Ok(wanted));
    assert_eq!(translate(&Pseudo { protocol: Some(b"h2c"), ..chat }, &[]), Err(Malformed::Protocol));
    assert_eq!(translate(&Pseudo { method: b"GET", ..chat }, &[]), Err(Malformed::Connect));
    assert_eq!(translate(&Pseudo { path: None, ..chat }, &[]), Err(Malformed::Connect));
}

#[test]
fn connect_has_an_authority_alone() {
    let bare =
        Pseudo { method: b"CONNECT", scheme: None, path: None, authority: Some(b"a:1"), protocol: None };
    assert_eq!(translate(&bare, &[]).as_deref(), Ok("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n"));
    for wrong in [
        Pseudo { authority: None, ..bare },
        Pseudo { path: Some(b"/"), ..bare },
        Pseudo { scheme: Some(b"http"), ..bare },
    ] {
        assert_eq!(translate(&wrong, &[]), Err(Malformed::Connect), "{wrong:?}");
    }
}

#[test]
fn pseudo_header_fields_that_make_another_request_are_refused() {
    for method in ["", "GE T", "G\r\nX", "GET\0", "G:T"] {
        assert_eq!(
            translate(&Pseudo { method: method.as_bytes(), ..get() }, &[]),
            Err(Malformed::Method),
            "{method:?}"
        );
    }
    for path in ["", "p", "*", "/a b", "/a\r\nx: y", "/a\n", "/a\0", "/\x7f", "/a#b", "/\u{e9}", "http://b/"]
    {
        let refused = translate(&Pseudo { path: Some(path.as_bytes()), ..get() }, &[]);
        assert_eq!(refused, Err(Malformed::Path), "{path:?}");
    }
    assert_eq!(translate(&Pseudo { path: None, ..get() }, &[]), Err(Malformed::Path));
    assert!(translate(&Pseudo { method: b"OPTIONS", path: Some(b"*"), ..get() }, &[]).is_ok());
    for scheme in ["", "ht tp", "http:", "http\r\n"] {
        let refused = translate(&Pseudo { scheme: Some(scheme.as_bytes()), ..get() }, &[]);
        assert_eq!(refused, Err(Malformed::Scheme), "{scheme:?}");
    }
    for authority in ["a b", "a\r\nx: y", "a/b", "a:x", "[::1", "a@b"] {
        let refused = translate(&Pseudo { authority: Some(authority.as_bytes()), ..get() }, &[]);
        assert_eq!(refused, Err(Malformed::Authority), "{authority:?}");
    }
}

#[test]
fn fields_that_make_another_request_are_refused() {
    use Malformed::{HopByHop, Name, Uppercase, Value};
    for (name, value, reason) in [
        ("", "x", Name),
        ("a b", "x", Name),
        ("a:b", "x", Name),
        (":path", "/", Name),
        ("a\r\n", "x", Name),
        ("a\0", "x", Name),
        ("Host", "a.test", Uppercase),
        ("x-A", "x", Uppercase),
        ("x", "a\r\nb: c", Value),
        ("x", "a\nb", Value),
        ("x", "a\0", Value),
        ("x", " a", Value),
        ("x", "a\t", Value),
        ("connection", "close", HopByHop),
        ("keep-alive", "x", HopByHop),
        ("proxy-connection", "x", HopByHop),
        ("transfer-encoding", "chunked", HopByHop),
        ("upgrade", "h2c", HopByHop),
        ("te", "gzip", HopByHop),
        ("te", "trailers, chunked", HopByHop),
    ] {
        assert_eq!(translate(&get(), &[(name, value)]), Err(reason), "{name:?}: {value:?}");
    }
}

#[test]
fn limits_hold() {
    let many: Vec<_> = (0..8).map(|_| ("x", "y")).collect();
    assert!(translate(&get(), &many[..7]).is_ok());
    assert_eq!(translate(&get(), &many), Err(Malformed::TooMany));
    let long = "v".repeat(400);
    assert_eq!(translate(&get(), &[("x", &long)]), Err(Malformed::TooLarge));
    assert_eq!(translate(&get(), &[("cookie", &long)]), Err(Malformed::TooLarge));
    assert_eq!(translate(&get(), &[(&"n".repeat(HEADER_NAME_BYTES_MAX + 1), "x")]), Err(Malformed::TooLarge));
    let path = format!("/{}", "p".repeat(100));
    let refused = translate(&Pseudo { path: Some(path.as_bytes()), ..get() }, &[]);
    assert_eq!(refused, Err(Malformed::PathTooLong));
    // The largest head that is let through is as large as the limit.
    for len in 300..400 {
        let value = "v".repeat(len);
        match translate(&get(), &[("x", &value)]) {
            Ok(text) => assert!(text.len() <= 400),
            Err(reason) => assert_eq!(reason, Malformed::TooLarge),
        }
    }
}

#[test]
fn responses_are_written_as_http1_has_them() {
    let translate = |status, fields: Fields<'_>| {
        let (mut out, mut head) = (Vec::new(), Head::new());
        let iter = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        response(status, iter, &limits(), &mut out, &mut head)?;
        assert_eq!(head.view(&out).status().map(StatusCode::code), Some(status));
        Ok(String::from_utf8(out).expect("ASCII"))
    };
    assert_eq!(translate(200, &[("server", "x")]).as_deref(), Ok("HTTP/1.1 200 OK\r\nserver: x\r\n\r\n"));
    for status in [0, 99, 101, 1000] {
        assert_eq!(translate(status, &[]), Err(Malformed::Status), "{status}");
    }
    assert_eq!(translate(200, &[("connection", "close")]), Err(Malformed::HopByHop));
}

#[test]
fn trailers_do_not_frame_or_route() {
    let translate = |fields: Fields<'_>| {
        let mut out = Vec::new();
        let iter = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        trailers(iter, &limits(), &mut out).map(|()| String::from_utf8(out).expect("ASCII"))
    };
    assert_eq!(translate(&[("grpc-status", "0")]).as_deref(), Ok("grpc-status: 0\r\n"));
    for name in ["content-length", "host", "cookie", "te", "content-type"] {
        assert_eq!(translate(&[(name, "1")]), Err(Malformed::Trailer), "{name}");
    }
    assert_eq!(translate(&[("transfer-encoding", "chunked")]), Err(Malformed::HopByHop));
    assert_eq!(translate(&[("x", "a\r\n\r\nGET /")]), Err(Malformed::Value));
    assert_eq!(translate(&[("x", &"v".repeat(400))]), Err(Malformed::TooLarge));
    assert_eq!(translate(&[("x", "y"); 9]), Err(Malformed::TooMany));
    assert!(may_trail(b"grpc-status") && !may_trail(b"Content-Length"));
}

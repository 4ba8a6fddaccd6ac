//! Tables of heads, good and bad; cuts; limits; folds.

use super::*;
use crate::proto::http::Name;

fn options(ambiguous: Ambiguous) -> HeadOptions {
    HeadOptions { ambiguous, ..HeadOptions::default() }
}

fn request_error(bytes: &[u8]) -> Option<(Reason, usize)> {
    let mut head = Head::new();
    let result = parse_request(bytes, &options(Ambiguous::Reject), &mut head);
    result.map(|_| ()).err().map(|refusal| (refusal.reason, refusal.at))
}

#[test]
fn a_request_is_read_where_it_stands() {
    let text = b"POST /a?b=c HTTP/1.1\r\nHost: a.example\r\nx-own:\t v w \t\r\nEmpty:\r\n\r\nbody";
    let mut head = Head::new();
    let (view, len) = parse_request(text, &HeadOptions::default(), &mut head).unwrap().complete().unwrap();
    assert_eq!(&text[len..], b"body");
    assert_eq!(
        (view.method(), view.method_text(), view.version()),
        (Method::Post, &b"POST"[..], Version::Http11)
    );
    assert_eq!((view.target(), view.path(), view.query()), (&b"/a?b=c"[..], &b"/a"[..], &b"b=c"[..]));
    let fields: Vec<_> = view.fields().collect();
    let expected: [(&[u8], &[u8]); 3] = [(b"Host", b"a.example"), (b"x-own", b"v w"), (b"Empty", b"")];
    assert_eq!(fields, expected);
    assert_eq!(view.line(Name::of(b"X-OWN")), Some(&b"v w"[..]));
    assert_eq!(view.status(), None);
}

#[test]
fn a_response_is_read_where_it_stands() {
    for (text, code, reason, version) in [
        ("HTTP/1.1 200 OK\r\n\r\n", 200, "OK", Version::Http11),
        ("HTTP/1.0 404 Not \t Found \r\n\r\n", 404, "Not \t Found ", Version::Http10),
        ("HTTP/1.1 999 \r\n\r\n", 999, "", Version::Http11),
        ("HTTP/1.1 100\r\n\r\n", 100, "", Version::Http11),
        ("HTTP/1.1 200 \u{fc}\r\n\r\n", 200, "\u{fc}", Version::Http11),
    ] {
        let mut head = Head::new();
        let (view, len) =
            parse_response(text.as_bytes(), &HeadOptions::default(), &mut head).unwrap().complete().unwrap();
        assert_eq!(len, text.len());
        assert_eq!(view.status().map(|s| s.code()), Some(code));
        assert_eq!((view.reason(), view.version()), (reason.as_bytes(), version));
    }
}

#[test]
fn malformed_status_lines_are_refused() {
    for (text, reason, at) in [
        ("ICY 200 OK\r\n\r\n", Reason::VersionSyntax, 0),
        ("HTTP/2.0 200 OK\r\n\r\n", Reason::VersionUnsupported, 5),
        ("HTTP/1.1  200 OK\r\n\r\n", Reason::StatusSyntax, 9),
        ("HTTP/1.1 20 OK\r\n\r\n", Reason::StatusSyntax, 11),
        ("HTTP/1.1 099 OK\r\n\r\n", Reason::StatusSyntax, 9),
        ("HTTP/1.1 2000 OK\r\n\r\n", Reason::StatusSyntax, 12),
        ("HTTP/1.1 200 O\0K\r\n\r\n", Reason::Nul, 14),
        ("HTTP/1.1 200 OK\n\r\n", Reason::BareLf, 15),
        ("HTTP/1.1 200 O\rK\r\n\r\n", Reason::BareCr, 14),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", Reason::VersionSyntax, 0),
    ] {
        let mut head = Head::new();
        let error =
            parse_response(text.as_bytes(), &HeadOptions::default(), &mut head).map(|_| ()).unwrap_err();
        assert_eq!((error.reason, error.at), (reason, at), "{text:?}");
    }
}

#[test]
fn malformed_requests_are_refused_by_reason() {
    use Reason::*;
    let cases: &[(&str, Reason, usize)] = &[
        (" GET / HTTP/1.1\r\n", MethodSyntax, 0),
        ("G\u{e9}T / HTTP/1.1\r\n", MethodSyntax, 1),
        ("GET\t/ HTTP/1.1\r\n", MethodSyntax, 3),
        ("GET\r\n", MethodSyntax, 3),
        ("GET\n", BareLf, 3),
        ("\0", Nul, 0),
        ("\n", BareLf, 0),
        ("\rGET", BareCr, 0),
        ("\r\n\r\n\r\n", EmptyLines, 4),
        ("\x16\x03\x01", MethodSyntax, 0),
        ("GET  / HTTP/1.1\r\n", TargetSyntax, 4),
        ("GET /a#b HTTP/1.1\r\n", TargetSyntax, 6),
        ("GET /\u{e9} HTTP/1.1\r\n", TargetSyntax, 5),
        ("GET /\x7f HTTP/1.1\r\n", TargetSyntax, 5),
        ("GET /a\tb HTTP/1.1\r\n", TargetSyntax, 6),
        ("GET /\0 HTTP/1.1\r\n", Nul, 5),
        ("GET /\r\n", VersionSyntax, 5),
        ("GET /\n", BareLf, 5),
        ("GET /  HTTP/1.1\r\n", VersionSyntax, 6),
        ("GET / a HTTP/1.1\r\n", VersionSyntax, 6),
        ("GET / http/1.1\r\n", VersionSyntax, 6),
        ("GET / HTTP/1.1 \r\n", VersionSyntax, 14),
        ("GET / HTTP/1.10\r\n", VersionSyntax, 14),
        ("GET / HTTP/1.1\n", BareLf, 14),
        ("GET / HTTP/1.1\r\r\n", BareCr, 14),
        ("GET / HTTP/1x1\r\n", VersionSyntax, 12),
        ("GET / HTTP/2.0\r\n", VersionUnsupported, 11),
        ("GET / HTTP/1.2\r\n", VersionUnsupported, 11),
        ("GET / HTTP/0.9\r\n", VersionUnsupported, 11),
        ("GET / HTTP/1.1\r\n A: b\r\n", LeadingSpace, 16),
        ("GET / HTTP/1.1\r\n\tA: b\r\n", LeadingSpace, 16),
        ("GET / HTTP/1.1\r\n: b\r\n", NameSyntax, 16),
        ("GET / HTTP/1.1\r\nA : b\r\n", SpaceBeforeColon, 17),
        ("GET / HTTP/1.1\r\nA\t: b\r\n", SpaceBeforeColon, 17),
        ("GET / HTTP/1.1\r\nA b: c\r\n", SpaceBeforeColon, 17),
        ("GET / HTTP/1.1\r\nA\r\n", NoColon, 17),
        ("GET / HTTP/1.1\r\nA\rb: c\r\n", BareCr, 17),
        ("GET / HTTP/1.1\r\nA\nb: c\r\n", BareLf, 17),
        ("GET / HTTP/1.1\r\nA\0: c\r\n", Nul, 17),
        ("GET / HTTP/1.1\r\n\x0bA: c\r\n", NameSyntax, 16),
        ("GET / HTTP/1.1\r\nA[]: c\r\n", NameSyntax, 17),
        ("GET / HTTP/1.1\r\nA: b\0c\r\n", Nul, 20),
        ("GET / HTTP/1.1\r\nA: b\rc\r\n", BareCr, 20),
        ("GET / HTTP/1.1\r\nA: b\n\r\n", BareLf, 20),
        ("GET / HTTP/1.1\r\nA: \x0bb\r\n", ValueSyntax, 19),
        ("GET / HTTP/1.1\r\nA: b\x7f\r\n", ValueSyntax, 20),
        ("GET / HTTP/1.1\r\nA: b\r\n c\r\n", ObsFold, 22),
        ("GET / HTTP/1.1\r\nA: b\r\n\t\r\n\r\n", ObsFold, 22),
        ("GET / HTTP/1.1\r\nA: b\r\n\n", BareLf, 22),
        ("GET / HTTP/1.1\r\nA: b\r\n\r\r", BareCr, 22),
    ];
    for (text, reason, at) in cases {
        let bytes = text.as_bytes();
        assert_eq!(request_error(bytes), Some((*reason, *at)), "{text:?}");
        // Nothing is waited for behind the wrong byte, but LF behind CR and the rest of a version.
        let soon = bytes.len().min(at + 3);
        assert_eq!(request_error(&bytes[..soon]), Some((*reason, *at)), "{text:?} cut");
        assert_eq!(request_error(&bytes[..*at]), None, "{text:?} before the byte");
    }
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    for text in ["\r\nGET / HTTP/1.1\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\r\n\r\n"] {
        let mut head = Head::new();
        let (view, len) =
            parse_request(text.as_bytes(), &HeadOptions::default(), &mut head).unwrap().complete().unwrap();
        assert_eq!((view.target(), len), (&b"/"[..], text.len()));
    }
}

#[test]
fn any_cut_is_partial_and_the_parser_goes_on_where_it_stopped() {
    let text = b"\r\nGET /a HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    let options = HeadOptions::default();
    for first in 0..text.len() {
        let mut head = Head::new();
        assert!(parse_request(&text[..first], &options, &mut head).unwrap().is_partial(), "cut at {first}");
        for second in [first, (first + 5).min(text.len() - 1)] {
            assert!(parse_request(&text[..second], &options, &mut head).unwrap().is_partial());
        }
        let (view, len) = parse_request(text, &options, &mut head).unwrap().complete().unwrap();
        assert_eq!((len, view.fields().count(), view.target()), (text.len(), 2, &b"/a"[..]));
    }
}

#[test]
fn a_finished_head_is_used_again_without_its_old_headers() {
    let mut head = Head::new();
    let options = HeadOptions::default();
    parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: b\r\n\r\n", &options, &mut head).unwrap();
    let (view, _) =
        parse_request(b"PUT /x HTTP/1.0\r\n\r\n", &options, &mut head).unwrap().complete().unwrap();
    assert_eq!((view.method(), view.version(), view.fields().count()), (Method::Put, Version::Http10, 0));
    assert!(!view.has(Known::Cookie));
    assert!(parse_request(b"BAD\0", &options, &mut head).is_err());
    assert!(parse_request(b"GET / HTTP/1.1\r\n\r\n", &options, &mut head).unwrap().complete().is_some());
}

#[test]
fn limits_hold_at_their_last_byte() {
    let exact = |text: &str, options: &HeadOptions| {
        parse_request(text.as_bytes(), options, &mut Head::new())
            .map(|p| p.is_partial())
            .map_err(|e| e.reason)
    };
    let text = "GET /123 HTTP/1.1\r\nA: b\r\nC: d\r\n\r\n";
    let mut options = HeadOptions::default();
    options.limits.head_bytes_max = text.len();
    options.limits.headers_max = 2;
    options.limits.target_bytes_max = 4;
    assert_eq!(exact(text, &options), Ok(false));
    options.limits.head_bytes_max -= 1;
    assert_eq!(exact(text, &options), Err(Reason::HeadTooLarge));
    assert_eq!(exact(&text[..text.len() - 1], &options), Err(Reason::HeadTooLarge));
    assert_eq!(exact(&text[..text.len() - 2], &options), Ok(true));
    options = HeadOptions::default();
    options.limits.headers_max = 1;
    assert_eq!(exact(text, &options), Err(Reason::TooManyHeaders));
    options.limits.target_bytes_max = 3;
    assert_eq!(exact(text, &options), Err(Reason::TargetTooLong));
    assert_eq!(exact("GET /123", &options), Err(Reason::TargetTooLong));
    assert_eq!(exact("GET /12", &options), Ok(true));
    let method = "M".repeat(METHOD_BYTES_MAX);
    assert_eq!(exact(&method, &options), Ok(true));
    assert_eq!(exact(&format!("{method}M"), &options), Err(Reason::MethodTooLong));
    let name = "N".repeat(HEADER_NAME_BYTES_MAX);
    assert_eq!(exact(&format!("GET / HTTP/1.1\r\n{name}"), &options), Ok(true));
    assert_eq!(exact(&format!("GET / HTTP/1.1\r\n{name}N"), &options), Err(Reason::NameTooLong));
}

#[test]
fn folds_are_repaired_to_one_space() {
    for (folded, value) in [
        ("a\r\n b", "a b"),
        ("a \r\n \t b \r\n\tc", "a b c"),
        ("\r\n b", "b"),
        ("a\r\n ", "a"),
        ("a\r\n \r\n b", "a b"),
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {folded}\r\nY: z\r\n\r\n");
        let mut head = Head::new();
        for cut in 0..text.len() {
            let cut_text = &text.as_bytes()[..cut];
            assert!(parse_request(cut_text, &options(Ambiguous::Repair), &mut head).unwrap().is_partial());
        }
        let parsed = parse_request(text.as_bytes(), &options(Ambiguous::Repair), &mut head);
        let (view, len) = parsed.unwrap().complete().unwrap();
        assert_eq!(len, text.len());
        assert_eq!(view.line(Name::of(b"x")), Some(value.as_bytes()), "{folded:?}");
        assert_eq!(view.line(Name::of(b"y")), Some(&b"z"[..]));
    }
    let before_first = b"GET / HTTP/1.1\r\n X: y\r\n\r\n";
    let refusal =
        parse_request(before_first, &options(Ambiguous::Repair), &mut Head::new()).map(|_| ()).unwrap_err();
    assert_eq!(refusal.reason, Reason::LeadingSpace);
}

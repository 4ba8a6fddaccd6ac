//! Chunked bodies: what is taken, what is refused and where, cut at every byte.

use super::*;

/// Runs a decoder over `input` in pieces; the data, how many bytes were taken, and how it ended.
fn run(framing: Framing, input: &[u8], size: usize) -> (Vec<u8>, usize, Result<bool, Reason>) {
    let mut decoder = BodyDecoder::new(framing);
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let end = (at + size).min(input.len());
        match decoder.step(&input[at..end]) {
            Ok(step) => {
                data.extend_from_slice(&input[at + step.framing..at + step.framing + step.data]);
                at += step.framing + step.data;
                if step.done || at == input.len() {
                    return (data, at, Ok(step.done));
                }
            }
            Err(refusal) => return (data, at + refusal.at, Err(refusal.reason)),
        }
    }
}

#[test]
fn chunked_bodies_are_followed_to_their_end() {
    let cases: &[(&str, &str, &str)] = &[
        ("0\r\n\r\n", "", ""),
        ("5\r\nhello\r\n0\r\n\r\nGET", "hello", "GET"),
        ("a\r\n0123456789\r\nA\r\nabcdefghij\r\n000\r\n\r\n", "0123456789abcdefghij", ""),
        ("0000000000000002\r\nhi\r\n0\r\n\r\n", "hi", ""),
        ("1;a;b=c;d=\"e\\\" ;\"\r\nx\r\n0;z\r\n\r\n", "x", ""),
        ("1\r\nx\r\n0\r\nX-Sum: 1\r\nEmpty:\r\n\r\nrest", "x", "rest"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", ""),
    ];
    for (text, data, rest) in cases {
        for size in 1..=text.len() {
            let (seen, used, end) = run(Framing::Chunked, text.as_bytes(), size);
            assert_eq!((seen.as_slice(), &text[used..], end), (data.as_bytes(), *rest, Ok(true)), "{text:?}");
        }
    }
}

#[test]
fn malformed_chunks_are_refused_where_they_are_wrong() {
    use Reason::*;
    let cases: &[(&str, Reason, usize)] = &[
        ("\r\n", ChunkSize, 0),
        ("x\r\n", ChunkSize, 0),
        (" 1\r\n", ChunkSize, 0),
        ("1 \r\n", ChunkSize, 1),
        ("-1\r\n", ChunkSize, 0),
        ("+1\r\n", ChunkSize, 0),
        ("0x1\r\n", ChunkSize, 1),
        ("1_0\r\n", ChunkSize, 1),
        (";a\r\n", ChunkSize, 0),
        ("1\n", BareLf, 1),
        ("1\rx", BareCr, 2),
        ("00000000000000001", ChunkTooLarge, 16),
        ("8000000000000000", ChunkTooLarge, 15),
        ("ffffffffffffffff", ChunkTooLarge, 15),
        ("1\r\nab", ChunkEnd, 4),
        ("1\r\na\n", ChunkEnd, 4),
        ("1\r\na\rx", ChunkEnd, 5),
        ("1;\r\n", ChunkExtension, 2),
        ("1; a\r\n", ChunkExtension, 2),
        ("1;a =b\r\n", ChunkExtension, 3),
        ("1;a=\r\n", ChunkExtension, 4),
        ("1;a=b c\r\n", ChunkExtension, 5),
        ("1;a=\"b\r\n", ChunkExtension, 6),
        ("1;a=\"b\"c\r\n", ChunkExtension, 7),
        ("1;a\n", BareLf, 3),
        ("1;a=\"\n", BareLf, 5),
        ("1;a\0", Nul, 3),
        ("0\r\n\n", BareLf, 3),
        ("0\r\n\rx", BareCr, 4),
        ("0\r\n A: b\r\n", LeadingSpace, 3),
        ("0\r\nA: b\r\n c\r\n", ObsFold, 9),
        ("0\r\nA : b\r\n", SpaceBeforeColon, 4),
        ("0\r\nA\r\n", NoColon, 4),
        ("0\r\n: b\r\n", NameSyntax, 3),
        ("0\r\nA: b\rc\r\n", BareCr, 8),
        ("0\r\nA: b\n", BareLf, 7),
        ("0\r\nA: \0\r\n", Nul, 6),
        ("0\r\nA: \x01\r\n", ValueSyntax, 6),
        ("0\r\nContent-Length: 5\r\n", TrailerForbidden, 17),
        ("0\r\ntransfer-encoding: x\r\n", TrailerForbidden, 20),
        ("0\r\nA: b\r\nHOST: x\r\n", TrailerForbidden, 13),
    ];
    for (text, reason, at) in cases {
        for size in 1..=text.len() {
            let (_, used, end) = run(Framing::Chunked, text.as_bytes(), size);
            assert_eq!((end, used), (Err(*reason), *at), "{text:?} in pieces of {size}");
        }
    }
}

#[test]
fn extensions_and_trailers_have_bounds() {
    let extension = |len: usize| format!("1;{}\r\n", "x".repeat(len - 1));
    let run_one = |text: String| run(Framing::Chunked, text.as_bytes(), 1000).2;
    assert_eq!(run_one(extension(CHUNK_EXTENSION_BYTES_MAX)), Ok(false));
    assert_eq!(run_one(extension(CHUNK_EXTENSION_BYTES_MAX + 1)), Err(Reason::ChunkExtensionTooLong));
    let trailer = |len: usize| format!("0\r\nA: {}\r\n", "x".repeat(len - 4));
    assert_eq!(run_one(trailer(TRAILER_BYTES_MAX - 1)), Ok(false));
    assert_eq!(run_one(trailer(TRAILER_BYTES_MAX + 1)), Err(Reason::TrailerTooLarge));
    let name = |len: usize| format!("0\r\n{}", "N".repeat(len));
    assert_eq!(run_one(name(HEADER_NAME_BYTES_MAX)), Ok(false));
    assert_eq!(run_one(name(HEADER_NAME_BYTES_MAX + 1)), Err(Reason::NameTooLong));
    // The bound of extensions is one chunk's.
    let many = "1;abcdefgh=ijklmnop\r\nx\r\n".repeat(100) + "0\r\n\r\n";
    assert_eq!(run(Framing::Chunked, many.as_bytes(), 7).2, Ok(true));
}

#[test]
fn other_framings_are_counted() {
    assert_eq!(run(Framing::None, b"GET", 3), (vec![], 0, Ok(true)));
    assert_eq!(run(Framing::Length(0), b"GET", 3), (vec![], 0, Ok(true)));
    for size in 1..5 {
        assert_eq!(run(Framing::Length(3), b"abcGET", size), (b"abc".to_vec(), 3, Ok(true)));
        assert_eq!(run(Framing::Length(9), b"abc", size), (b"abc".to_vec(), 3, Ok(false)));
        assert_eq!(run(Framing::UntilClose, b"abc", size), (b"abc".to_vec(), 3, Ok(false)));
    }
    assert!(BodyDecoder::new(Framing::UntilClose).may_end_here());
    assert!(!BodyDecoder::new(Framing::Length(1)).may_end_here());
    assert!(!BodyDecoder::new(Framing::Chunked).may_end_here());
}

#[test]
fn data_can_be_moved_past_the_decoder() {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    assert_eq!(decoder.data_ahead(), Some(0));
    assert_eq!(decoder.step(b"8\r\nab"), Ok(Step { framing: 3, trailer: 0, data: 2, done: false }));
    assert_eq!(decoder.data_ahead(), Some(6));
    decoder.skip_data(5);
    assert_eq!(decoder.step(b"h\r\n0"), Ok(Step { framing: 0, trailer: 0, data: 1, done: false }));
    assert_eq!(decoder.step(b"\r\n0\r\n\r\n"), Ok(Step { framing: 7, trailer: 2, data: 0, done: true }));
    let mut decoder = BodyDecoder::new(Framing::Length(u64::MAX));
    decoder.skip_data(u64::MAX - 1);
    assert_eq!(decoder.step(b"xy"), Ok(Step { framing: 0, trailer: 0, data: 1, done: true }));
}

#[test]
fn trailers_are_handed_out_and_can_be_read() {
    use crate::proto::h1::head::{HeadOptions, parse_trailers};
    use crate::proto::headers::Head;
    let text = b"1\r\nx\r\n0;last\r\nX-Sum: 1\r\nX-More:  a \r\n\r\nGET";
    for size in 1..text.len() {
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        let (mut trailer, mut at) = (Vec::new(), 0);
        while !decoder.is_done() {
            let step = decoder.step(&text[at..(at + size).min(text.len())]).expect("a good body");
            trailer.extend_from_slice(&text[at + step.framing - step.trailer..at + step.framing]);
            at += step.framing + step.data;
        }
        assert_eq!(trailer, b"X-Sum: 1\r\nX-More:  a \r\n\r\n");
        let mut head = Head::new();
        let parsed = parse_trailers(&trailer, &HeadOptions::default(), &mut head);
        let (view, len) = parsed.expect("trailers").complete().expect("whole");
        assert_eq!(len, trailer.len());
        let expected: [(&[u8], &[u8]); 2] = [(b"X-Sum", b"1"), (b"X-More", b"a")];
        assert_eq!(view.fields().collect::<Vec<_>>(), expected);
    }
}

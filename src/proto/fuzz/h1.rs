//! Fuzz bodies of the HTTP/1 codec: cuts, round trips, and what is forwarded as a second, strict parser reads it.

use crate::proto::Parsed;
use crate::proto::h1::body::BodyDecoder;
use crate::proto::h1::encode::{self, BodyHeaders, ConnectionHeader, HeadOut};
use crate::proto::h1::framing::{self, Asked, Framing};
use crate::proto::h1::head::{Ambiguous, HeadOptions, parse_request, parse_response};
use crate::proto::h1::reason::Refusal;
use crate::proto::headers::{Head, HeadView};
use crate::proto::http::Method;

/// A head without its bytes, to compare.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    start: String,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
}

fn seen(view: HeadView<'_>) -> Seen {
    let start = format!(
        "{:?} {} {} {} {:?} {}",
        view.method(),
        view.method_text().escape_ascii(),
        view.target().escape_ascii(),
        view.version(),
        view.status(),
        view.reason().escape_ascii()
    );
    let lower = |name: &[u8]| name.to_ascii_lowercase();
    Seen { start, fields: view.fields().map(|(n, v)| (lower(n), v.to_vec())).collect() }
}

type ParseHead = for<'a> fn(&'a [u8], &HeadOptions, &'a mut Head) -> Result<Parsed<HeadView<'a>>, Refusal>;

fn parse_seen(
    parse: ParseHead,
    input: &[u8],
    options: &HeadOptions,
    head: &mut Head,
) -> Result<Parsed<Seen>, Refusal> {
    parse(input, options, head).map(|parsed| match parsed {
        Parsed::Partial => Parsed::Partial,
        Parsed::Complete { value, len } => Parsed::Complete { value: seen(value), len },
    })
}

/// The first byte chooses the options, the others are the message.
pub(super) fn options_and_message(data: &[u8]) -> Option<(HeadOptions, &[u8])> {
    let (first, message) = data.split_first()?;
    let ambiguous = if first & 1 == 0 { Ambiguous::Reject } else { Ambiguous::Repair };
    Some((HeadOptions { ambiguous, ..HeadOptions::default() }, message))
}

/// Decisions about a head are final, and the same whether its bytes come at once or one by one.
fn check_head(parse: ParseHead, options: &HeadOptions, message: &[u8]) -> Option<(Head, usize)> {
    super::never_takes_back(message, |bytes| parse_seen(parse, bytes, options, &mut Head::new()));
    let whole = parse_seen(parse, message, options, &mut Head::new());
    let mut head = Head::new();
    let mut piecewise = Ok(Parsed::Partial);
    for end in super::cuts(message.len()).chain([message.len()]) {
        if !matches!(piecewise, Ok(Parsed::Partial)) {
            break;
        }
        piecewise = parse_seen(parse, &message[..end], options, &mut head);
    }
    assert_eq!(piecewise, whole);
    match whole {
        Ok(Parsed::Complete { len, .. }) => Some((head, len)),
        _ => None,
    }
}

/// Request heads: decisions are final, what is written is read the same, a second parser agrees.
pub(super) fn request_head(data: &[u8]) {
    let Some((options, message)) = options_and_message(data) else { return };
    let Some((mut head, len)) = check_head(parse_request, &options, message) else { return };
    check_with_httparse(&message[..len], head.view(message));
    let Ok(decision) = framing::request(&mut head.edit(message), options.ambiguous) else { return };
    let out = HeadOut { body: BodyHeaders::Keep, connection: ConnectionHeader::None };
    let mut once = Vec::new();
    encode::request(&mut head.edit(message), out, &mut once);
    let mut twice = Vec::new();
    encode::request(&mut head.edit(message), out, &mut twice);
    assert_eq!(once, twice, "a retry writes the same");
    let expected = seen(head.view(message));

    let mut again = Head::new();
    let strict = HeadOptions { ambiguous: Ambiguous::Reject, ..roomy() };
    let (read, used) = parse_request(&once, &strict, &mut again)
        .expect("what is written can be read")
        .complete()
        .expect("and is complete");
    assert_eq!(used, once.len());
    let read = seen(read);
    let had_host = expected.fields.iter().any(|(name, _)| name == b"host");
    assert_eq!(read.fields[usize::from(!had_host)..], expected.fields[..]);
    let decided = framing::request(&mut again.edit(&once), Ambiguous::Reject);
    assert_eq!(decided.map(|d| d.framing), Ok(decision.framing));
}

/// Limits above those that the first parse had: encoding may add a Host.
fn roomy() -> HeadOptions {
    let mut options = HeadOptions::default();
    options.limits.head_bytes_max += 8192 + 64;
    options.limits.headers_max += 8;
    options
}

/// What we read of a head is what httparse reads of it. It accepts more than we do, never less.
fn check_with_httparse(message: &[u8], view: HeadView<'_>) {
    let mut slots = [httparse::EMPTY_HEADER; 128];
    let mut other = httparse::Request::new(&mut slots);
    let message = &message[message.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count()..];
    let is_folded = message.windows(2).any(|two| matches!(two, b"\n " | b"\n\t"));
    match other.parse(message) {
        Ok(httparse::Status::Complete(len)) => {
            assert_eq!(len, message.len());
            assert_eq!(other.method.map(str::as_bytes), Some(view.method_text()));
            assert_eq!(other.path.map(str::as_bytes), Some(view.target()));
            let fields: Vec<_> = other.headers.iter().map(|h| (h.name.as_bytes(), h.value)).collect();
            assert_eq!(view.fields().collect::<Vec<_>>(), fields);
        }
        outcome => assert!(is_folded, "{outcome:?}"),
    }
}

/// Response heads: decisions are final, what is written is read the same.
pub(super) fn response_head(data: &[u8]) {
    let Some((options, message)) = options_and_message(data) else { return };
    let Some((mut head, _)) = check_head(parse_response, &options, message) else { return };
    let asked = Asked {
        method: if data[0] & 2 == 0 { Method::Get } else { Method::Head },
        upgrade: data[0] & 4 != 0,
    };
    let Ok(decision) = framing::response(&mut head.edit(message), asked, options.ambiguous) else { return };
    let mut out = Vec::new();
    let how = HeadOut { body: BodyHeaders::Keep, connection: ConnectionHeader::None };
    encode::response(&mut head.edit(message), how, &mut out);
    let mut again = Head::new();
    parse_response(&out, &roomy(), &mut again)
        .expect("what is written can be read")
        .complete()
        .expect("complete");
    assert_eq!(seen(again.view(&out)).fields, seen(head.view(message)).fields);
    assert_eq!(again.view(&out).status(), head.view(message).status());
    // A version that cannot be coded is 1.1 from here on, which can.
    let decided = framing::response(&mut again.edit(&out), asked, Ambiguous::Reject);
    assert_eq!(decided.map(|d| d.framing), Ok(decision.framing));
}

/// What a decoder said about each byte, and how it ended.
#[derive(PartialEq, Eq, Debug)]
struct Labels {
    bytes: Vec<u8>,
    end: Option<Result<(), Refusal>>,
}

/// Runs a decoder over pieces of `size` bytes.
fn labels(framing: Framing, input: &[u8], size: usize) -> Labels {
    let mut decoder = BodyDecoder::new(framing);
    let mut bytes = Vec::new();
    for piece in input.chunks(size.max(1)) {
        let mut rest = piece;
        loop {
            match decoder.step(rest) {
                Ok(step) => {
                    assert!(step.framing + step.data <= rest.len());
                    bytes.extend(std::iter::repeat_n(b'f', step.framing));
                    bytes.extend(std::iter::repeat_n(b'd', step.data));
                    rest = &rest[step.framing + step.data..];
                    assert_eq!(step.done, decoder.is_done());
                    if step.done {
                        return Labels { bytes, end: Some(Ok(())) };
                    }
                    if rest.is_empty() {
                        break;
                    }
                    assert!(step.framing + step.data > 0, "no progress");
                }
                Err(refusal) => {
                    bytes.extend(std::iter::repeat_n(b'f', refusal.at));
                    return Labels { bytes, end: Some(Err(Refusal { at: 0, ..refusal })) };
                }
            }
        }
    }
    Labels { bytes, end: None }
}

/// Bodies: any cut gives the same events, and a second decoder reads the same data.
pub(super) fn body(data: &[u8]) {
    let Some((first, input)) = data.split_first() else { return };
    let framing = match first % 4 {
        0 => Framing::Length(u64::from(*first)),
        3 => Framing::UntilClose,
        _ => Framing::Chunked,
    };
    let whole = labels(framing, input, input.len());
    for size in [1, 2, 3, 7, usize::from(*first) + 1] {
        assert_eq!(labels(framing, input, size), whole, "pieces of {size}");
    }
    if framing != Framing::Chunked || whole.end != Some(Ok(())) {
        return;
    }
    let ours: Vec<u8> =
        input.iter().zip(&whole.bytes).filter(|(_, l)| **l == b'd').map(|(b, _)| *b).collect();
    let (theirs, used) = second_chunked(input);
    assert_eq!((ours, whole.bytes.len()), (theirs, used));
}

/// A second reading of a chunked body that is known to be well formed: its data, and how many bytes it takes.
pub(super) fn second_chunked(input: &[u8]) -> (Vec<u8>, usize) {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        let Ok(httparse::Status::Complete((head, size))) = httparse::parse_chunk_size(&input[at..]) else {
            panic!("a chunk size that only we accept: {}", input[at..].escape_ascii());
        };
        at += head;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).expect("as large as the input");
        data.extend_from_slice(&input[at..at + size]);
        assert_eq!(&input[at + size..at + size + 2], b"\r\n");
        at += size + 2;
    }
    // Trailers: lines up to an empty one.
    loop {
        let line = input[at..].windows(2).position(|two| two == b"\r\n").expect("a line ends");
        assert!(!input[at..at + line].iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
        at += line + 2;
        if line == 0 {
            return (data, at);
        }
        assert!(at <= input.len());
    }
}

/// A request as the second parser reads it.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Forwarded {
    pub(super) method: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// Reads a connection as a strict server does: anything that two readers could take differently is a panic.
pub(super) fn second_requests(mut input: &[u8]) -> Vec<Forwarded> {
    let mut requests = Vec::new();
    while !input.is_empty() {
        let end = input.windows(4).position(|four| four == b"\r\n\r\n").expect("a head ends") + 4;
        let mut slots = [httparse::EMPTY_HEADER; 512];
        let mut request = httparse::Request::new(&mut slots);
        let status = request.parse(input).unwrap_or_else(|e| panic!("{e}: {}", input[..end].escape_ascii()));
        assert_eq!(status, httparse::Status::Complete(end));
        assert_eq!(request.version, Some(1));
        let all = |name: &str| -> Vec<&[u8]> {
            let named = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name));
            named.map(|h| h.value).collect()
        };
        assert_eq!(all("host").len(), 1);
        assert!(matches!(all("connection")[..], [] | [b"upgrade"]));
        for line in input[..end - 4].split(|b| *b == b'\n') {
            assert!(!line.strip_suffix(b"\r").unwrap_or(line).iter().any(|b| matches!(b, b'\r' | 0)));
        }
        let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
        let is_right = match method {
            "CONNECT" => !target.contains(['/', '?', '*']),
            "OPTIONS" => target == "*" || target.starts_with('/'),
            _ => target.starts_with('/'),
        };
        assert!(is_right, "{method} {target}");
        let method = method.as_bytes().to_vec();
        let (body, used) = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
            ([], []) => (Vec::new(), 0),
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => second_chunked(&input[end..]),
            ([length], []) => {
                let length: usize = std::str::from_utf8(length).unwrap_or("").parse().expect("a length");
                (input[end..end + length].to_vec(), length)
            }
            other => panic!("ambiguous: {other:?}"),
        };
        requests.push(Forwarded { method, body });
        input = &input[end + used..];
    }
    requests
}

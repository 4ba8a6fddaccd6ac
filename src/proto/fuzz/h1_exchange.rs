//! Fuzz bodies of whole exchanges of HTTP/1, in any cuts and with edits as rules make them: what a server gets is the
//! requests that were taken, what a client gets is one response, as a second, strict reader sees them.
//!
//! The order of the steps is that of `proxy/http_request.rs` and `proxy/http_response.rs`, without their input and output.

use super::h1::{options_and_message, second_chunked, second_requests};
use crate::base::limits::{HEAD_EDIT_BYTES_MAX, HEAD_EDIT_FIELDS_MAX};
use crate::proto::Parsed;
use crate::proto::h1::body::BodyDecoder;
use crate::proto::h1::connection;
use crate::proto::h1::encode::{self, BodyHeaders, CHUNK_HEAD_BYTES_MAX, ConnectionHeader, HeadOut};
use crate::proto::h1::framing::{self, Asked, Framing};
use crate::proto::h1::head::{HeadOptions, parse_request, parse_response};
use crate::proto::h1::outgoing::{self, BodyForm, Client};
use crate::proto::headers::{Head, HeadEdit};
use crate::proto::http::{Method, Name, StatusCode, Version};

/// Names that rules are given: those that frame or route, and some that are none.
const NAMES: &[&[u8]] = &[
    b"X-A",
    b"Content-Length",
    b"Transfer-Encoding",
    b"Connection",
    b"Upgrade",
    b"TE",
    b"Keep-Alive",
    b"Expect",
    b"content-length ",
    b"X\r\nY",
    b"",
    b"Trailer",
];

/// Values, paths, queries and methods that rules are given, as formats make them of what clients send.
const VALUES: &[&[u8]] = &[
    b"1",
    b"",
    b"chunked",
    b"close, content-length, x-a",
    b"a\r\nContent-Length: 3",
    b"a\nb",
    b"\0",
    b"/a b HTTP/1.1",
    b"/x",
    b"x?y=1",
    b"*",
    b"http://h/p",
    b"GET",
    b"HEAD",
    b"CONNECT",
    b"POST",
    b"OPTIONS",
    b"upgrade",
];

/// Applies a script of pairs of bytes, what to do and with which words. Edits that are refused change nothing, as with
/// `strict-mode = false`.
fn edit(head: &mut HeadEdit<'_>, script: &[u8], is_response: bool) {
    for pair in script.chunks_exact(2) {
        let name = NAMES[usize::from(pair[1]) % NAMES.len()];
        let value = VALUES[usize::from(pair[1] / 4) % VALUES.len()];
        let put = |_: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(value);
            true
        };
        let _ = match pair[0] % 12 {
            0 => head.set_as(name, value),
            1 => head.add_as(name, value),
            2 => {
                head.delete(Name::of(name));
                Ok(())
            }
            3 => head.rewrite_lines(Name::of(name), put).map(drop),
            4 => head.rewrite_values(Name::of(name), put).map(drop),
            5 => {
                head.delete_where(|name| name.first() == value.first());
                Ok(())
            }
            6 => head.set_as(b"Host", value),
            7 if is_response => match StatusCode::new(200 + u16::from(pair[1])) {
                Some(status) => head.set_status(status, None),
                None => Ok(()),
            },
            7 => head.set_path(value),
            8 if !is_response => head.set_query(value),
            9 if !is_response => head.set_target(value),
            10 if !is_response => head.change_method(value),
            _ => head.set_as(b"X-B", pair),
        };
    }
}

/// The pieces that a connection is read in.
const CUTS: &[usize] = &[usize::MAX, 1, 7];

/// Method and body of a request.
type Taken = (Vec<u8>, Vec<u8>);

/// Requests of a connection on their way.
#[derive(Default)]
struct Requests<'a> {
    options: HeadOptions,
    script: &'a [u8],
    input: Vec<u8>,
    head: Head,
    /// The body on its way, and whether the connection ends behind it.
    body: Option<(BodyDecoder, bool)>,
    /// What the server gets, and where the last request starts there.
    sent: Vec<u8>,
    last_at: usize,
    taken: Vec<Taken>,
    is_over: bool,
}

impl Requests<'_> {
    fn feed(&mut self, piece: &[u8]) {
        if self.is_over {
            return;
        }
        self.input.extend_from_slice(piece);
        while !self.is_over && if self.body.is_some() { self.body() } else { self.head() } {}
        let bound = self.options.limits.head_bytes_max + piece.len();
        assert!(self.is_over || self.input.len() <= bound, "{} bytes wait", self.input.len());
    }

    /// True: there is more to do.
    fn head(&mut self) -> bool {
        let parsed = parse_request(&self.input, &self.options, &mut self.head);
        let len = match parsed {
            Ok(Parsed::Complete { len, .. }) => len,
            Ok(Parsed::Partial) => return false,
            Err(_) => {
                self.is_over = true;
                return false;
            }
        };
        let Requests { input, head, options, sent, .. } = self;
        let Ok(decision) = framing::request(&mut head.edit(input), options.ambiguous) else {
            self.is_over = true;
            return false;
        };
        let view = head.view(input);
        let stays = framing::stays_open(view, &decision) && view.method() != Method::Connect;
        let is_upgrade = connection::upgrade(view).is_some();
        edit(&mut head.edit(input), self.script, false);
        let connection = if is_upgrade { ConnectionHeader::Upgrade } else { ConnectionHeader::None };
        self.last_at = sent.len();
        encode::request(&mut head.edit(input), HeadOut { body: BodyHeaders::Keep, connection }, sent);
        let most = len + HEAD_EDIT_BYTES_MAX + 4 * HEAD_EDIT_FIELDS_MAX + 8192;
        assert!(sent.len() - self.last_at <= most, "a head grows without bound");
        self.taken.push((head.view(input).method_text().to_vec(), Vec::new()));
        self.input.drain(..len);
        self.head.clear();
        self.body = Some((BodyDecoder::new(decision.framing), stays));
        true
    }

    fn body(&mut self) -> bool {
        let Some((decoder, stays)) = &mut self.body else { return false };
        let Ok(step) = decoder.step(&self.input) else {
            self.is_over = true;
            return false;
        };
        let end = step.framing + step.data;
        self.sent.extend_from_slice(&self.input[..end]);
        if let Some((_, body)) = self.taken.last_mut() {
            body.extend_from_slice(&self.input[step.framing..end]);
        }
        self.input.drain(..end);
        if step.done {
            self.is_over = !*stays;
            self.body = None;
        }
        step.done || end > 0
    }

    /// The connection ends: a request whose body is not whole is none, its server's connection is closed.
    fn end(mut self) -> (Vec<u8>, Vec<Taken>) {
        if self.body.is_some() {
            self.sent.truncate(self.last_at);
            self.taken.pop();
        }
        (self.sent, self.taken)
    }
}

/// The first byte chooses the options, and how many bytes behind it are the script; the rest is the connection.
fn parts(data: &[u8]) -> Option<(HeadOptions, &[u8], &[u8])> {
    let (options, rest) = options_and_message(data)?;
    let (script, message) = rest.split_at_checked(usize::from(data[0] >> 1))?;
    Some((options, script, message))
}

/// A whole connection: every request that we take is forwarded, and the server reads exactly those requests.
pub(super) fn requests(data: &[u8]) {
    let Some((options, script, message)) = parts(data) else { return };
    let run = |cut: usize| {
        let mut requests = Requests { options, script, ..Requests::default() };
        message.chunks(cut).for_each(|piece| requests.feed(piece));
        requests.end()
    };
    let (sent, taken) = run(usize::MAX);
    for cut in &CUTS[1..] {
        assert_eq!(run(*cut), (sent.clone(), taken.clone()), "pieces of {cut}");
    }
    let read: Vec<_> = second_requests(&sent).into_iter().map(|r| (r.method, r.body)).collect();
    assert_eq!(read, taken, "{}", sent.escape_ascii());
}

/// What became of the response to one request.
#[derive(PartialEq, Eq, Debug)]
struct Answered {
    /// What the client got.
    sent: Vec<u8>,
    /// The data of its body.
    body: Vec<u8>,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// No final response came: the client gets one of ours.
    NoResponse,
    /// The response is whole and the client's connection stays open.
    Open,
    /// The response is whole and the client's connection is closed.
    Closed,
    /// The response is not whole: the client's connection is reset.
    Reset,
    /// Both connections are a tunnel now.
    Tunnel,
}

/// What arrives from a server until it closes, read in pieces, and what goes on to the client of that version.
fn answer(
    options: &HeadOptions,
    script: &[u8],
    (asked, version): (Asked, Version),
    message: &[u8],
    cut: usize,
) -> Answered {
    let client = Client { asked, version, may_stay: script.len() % 4 < 2 };
    let mut answered = Answered { sent: Vec::new(), body: Vec::new(), end: End::NoResponse };
    let mut input: Vec<u8> = Vec::new();
    let mut head = Head::new();
    let mut body: Option<(BodyDecoder, outgoing::ResponsePlan)> = None;
    for piece in message.chunks(cut) {
        input.extend_from_slice(piece);
        loop {
            if let Some((decoder, plan)) = &mut body {
                let Ok(step) = decoder.step(&input) else { return answered };
                let end = step.framing + step.data;
                let data = &input[step.framing..end];
                let out = &mut answered.sent;
                match plan.body {
                    BodyForm::AsIs => out.extend_from_slice(&input[..end]),
                    BodyForm::DataOnly => out.extend_from_slice(data),
                    BodyForm::Chunked if data.is_empty() => {}
                    BodyForm::Chunked => {
                        let mut room = [0; CHUNK_HEAD_BYTES_MAX];
                        out.extend_from_slice(encode::chunk_head(data.len(), &mut room));
                        out.extend_from_slice(data);
                        out.extend_from_slice(encode::CHUNK_END);
                    }
                }
                answered.body.extend_from_slice(data);
                input.drain(..end);
                if step.done {
                    // What follows was not asked for: it goes nowhere, and the server's connection ends.
                    answered.end = if plan.close { End::Closed } else { End::Open };
                    return answered;
                }
                if end == 0 {
                    break;
                }
                continue;
            }
            let len = match parse_response(&input, options, &mut head) {
                Ok(Parsed::Complete { len, .. }) => len,
                Ok(Parsed::Partial) => break,
                Err(_) => return answered,
            };
            let Ok(decision) = framing::response(&mut head.edit(&input), asked, options.ambiguous) else {
                return answered;
            };
            let out = &mut answered.sent;
            if head.view(&input).status().is_some_and(StatusCode::is_interim) {
                let how = HeadOut { body: BodyHeaders::Neither, connection: ConnectionHeader::None };
                let before = out.len();
                encode::response(&mut head.edit(&input), how, out);
                if version == Version::Http10 {
                    out.truncate(before);
                }
                input.drain(..len);
                head.clear();
                continue;
            }
            if decision.framing != Framing::Tunnel {
                edit(&mut head.edit(&input), script, true);
            }
            let plan = outgoing::plan(head.view(&input), &decision, client);
            encode::response(&mut head.edit(&input), plan.head, out);
            input.drain(..len);
            if decision.framing == Framing::Tunnel {
                answered.end = End::Tunnel;
                return answered;
            }
            let framing = if plan.leaves_out { Framing::None } else { decision.framing };
            answered.end = End::Reset;
            body = Some((BodyDecoder::new(framing), plan));
        }
        assert!(input.len() <= options.limits.head_bytes_max + piece.len(), "{} bytes wait", input.len());
    }
    if let Some((decoder, plan)) = body
        && decoder.may_end_here()
    {
        if plan.body == BodyForm::Chunked {
            answered.sent.extend_from_slice(encode::LAST_CHUNK);
        }
        answered.end = if plan.close { End::Closed } else { End::Open };
    }
    answered
}

/// Responses: whatever the server says, the client gets one response or sees that it did not.
pub(super) fn answers(data: &[u8]) {
    let Some((options, script, message)) = parts(data) else { return };
    let asked = |method, upgrade| Asked { method, upgrade };
    for asked in [
        asked(Method::Get, false),
        asked(Method::Head, false),
        asked(Method::Connect, false),
        asked(Method::Get, true),
    ] {
        for version in [Version::Http11, Version::Http10] {
            let run = |cut| answer(&options, script, (asked, version), message, cut);
            let whole = run(usize::MAX);
            for cut in &CUTS[1..] {
                let other = run(*cut);
                // Our own chunks are as large as the pieces are, and before an error more or less of them went out.
                assert_eq!(other.end, whole.end, "pieces of {cut}");
                assert!(other.body == whole.body || whole.end == End::Reset, "pieces of {cut}");
                check_answer(&other, asked, version);
            }
            check_answer(&whole, asked, version);
        }
    }
}

/// Reads what a client got as it does: a strict reader that knows only what it asked.
fn check_answer(answered: &Answered, asked: Asked, version: Version) {
    let mut rest = &answered.sent[..];
    loop {
        if rest.is_empty() {
            assert_eq!(answered.end, End::NoResponse);
            return;
        }
        let mut slots = [httparse::EMPTY_HEADER; 512];
        let mut response = httparse::Response::new(&mut slots);
        let Ok(httparse::Status::Complete(len)) = response.parse(rest) else {
            panic!("no response: {}", rest.escape_ascii());
        };
        let status = response.code.unwrap_or(0);
        let all = |name: &str| -> Vec<&[u8]> {
            let named = response.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name));
            named.map(|h| h.value).collect()
        };
        let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
        rest = &rest[len..];
        if (100..200).contains(&status) && status != 101 {
            assert!(lengths.is_empty() && codings.is_empty() && version != Version::Http10);
            continue;
        }
        assert_ne!(answered.end, End::NoResponse, "a final response went out");
        let says_close = all("connection").iter().any(|v| v.eq_ignore_ascii_case(b"close"));
        if answered.end == End::Tunnel {
            assert!(lengths.is_empty() && codings.is_empty() && rest.is_empty());
            return;
        }
        assert_ne!(status, 101);
        assert_eq!(says_close && answered.end != End::Reset, answered.end == End::Closed);
        assert!(version != Version::Http10 || codings.is_empty(), "an old client knows no codings");
        if asked.method == Method::Head || matches!(status, 204 | 304) {
            assert!(rest.is_empty(), "a body where none can be: {}", answered.sent.escape_ascii());
            assert!(status != 204 || lengths.is_empty() && codings.is_empty());
            return;
        }
        let is_whole = answered.end != End::Reset;
        match (&lengths[..], &codings[..]) {
            ([], []) => assert!(says_close && rest == answered.body, "{}", answered.sent.escape_ascii()),
            ([length], []) => {
                assert!(length.iter().all(u8::is_ascii_digit));
                let length: u64 = std::str::from_utf8(length).unwrap_or("").parse().expect("a length");
                assert_eq!(length == rest.len() as u64, is_whole, "{}", answered.sent.escape_ascii());
                assert!(rest.len() as u64 <= length && rest == answered.body);
            }
            ([], [coding]) => {
                assert!(coding.eq_ignore_ascii_case(b"chunked"));
                if is_whole {
                    let (body, used) = second_chunked(rest);
                    assert_eq!((&body, used), (&answered.body, rest.len()));
                }
            }
            other => panic!("ambiguous: {other:?}"),
        }
        return;
    }
}

//! Connections of HTTP/2, whatever bytes come; and the translation of requests: whatever the fields are, what comes out is one
//! request of HTTP/1 that says the same.

use crate::proto::h1::head::{HeadOptions, parse_request};
use crate::proto::h2::connection::to_server::{Asking, ServerLimits, parts_of};
use crate::proto::h2::connection::{Connection, Limits};
use crate::proto::h2::frame::Code;
use crate::proto::h2::head::{Pseudo, WEBSOCKET_KEY_BYTES, request, trailers};
use crate::proto::h2::hpack::write_pseudo;
use crate::proto::h2::sending::Received;
use crate::proto::h2::streams::{Key, Spare};
use crate::proto::headers::{Head, HeadLimits};
use crate::proto::http::H2_PREFACE;

/// Items are separated by 0xfe: method, scheme, authority, path, protocol, then names and values. An item of one byte 0xfd
/// is a pseudo-header field that is not there.
pub(super) fn translation(data: &[u8]) {
    let mut items = data.split(|byte| *byte == 0xfe);
    let mut pseudo = || items.next().filter(|item| *item != [0xfd]);
    let (method, scheme, authority) = (pseudo().unwrap_or_default(), pseudo(), pseudo());
    let (path, protocol) = (pseudo(), pseudo());
    let pseudo = Pseudo { method, scheme, authority, path, protocol };
    let rest: Vec<&[u8]> = items.collect();
    let fields = || rest.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    let limits = HeadLimits::default();
    let (mut text, mut head) = (Vec::new(), Head::new());
    if request(&pseudo, fields, &limits, &[b'k'; WEBSOCKET_KEY_BYTES], &mut text, &mut head).is_ok() {
        let options = HeadOptions { limits, ..HeadOptions::default() };
        let mut parsed = Head::new();
        let complete = parse_request(&text, &options, &mut parsed).expect("what we write is well formed");
        let (_, len) = complete.complete().expect("what we write is whole");
        assert_eq!((len, head.len()), (text.len(), text.len()), "nothing follows the head");
        let (ours, theirs) = (head.view(&text), parsed.view(&text));
        assert_eq!((ours.method_text(), ours.target()), (theirs.method_text(), theirs.target()));
        assert!(ours.fields().eq(theirs.fields()), "each field is one line");
        // A second parser agrees, which knows nothing of our rules.
        let mut slots = [httparse::EMPTY_HEADER; 256];
        let mut second = httparse::Request::new(&mut slots);
        if let Ok(httparse::Status::Complete(end)) = second.parse(&text) {
            assert_eq!((end, second.headers.len()), (text.len(), ours.fields().count()));
        }
    }
    let mut section = Vec::new();
    if trailers(fields(), &limits, &mut section).is_ok() {
        let lines = section.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
        assert_eq!(lines, fields().count(), "each trailer is one line");
    }
}

const LIMITS: Limits = Limits { streams_max: 8, window: 65_535, window_max: 200_000, fields_max: 2048 };

/// The first byte says what owners of streams do, the others follow the preface. However the bytes are cut, the client is
/// answered the same; and with owners that act, the books balance.
pub(super) fn frames(data: &[u8]) {
    let Some((&acts, data)) = data.split_first() else { return };
    let bytes = [H2_PREFACE, data].concat();
    let whole = answers(&bytes, bytes.len(), &mut |_, _| {});
    for cut in [1, 7, 9, 64] {
        assert!(answers(&bytes, cut, &mut |_, _| {}) == whole, "pieces of {cut}");
    }
    let mut keys: Vec<Key> = Vec::new();
    let mut count = acts;
    let body = vec![b'x'; 20_000];
    answers(&bytes, 1 + usize::from(acts), &mut |connection, key| {
        keys.extend(key);
        count = count.wrapping_mul(5).wrapping_add(acts | 1);
        if keys.is_empty() {
            return;
        }
        let key = keys[usize::from(count) % keys.len()];
        match count % 8 {
            0 => {
                keys.retain(|other| *other != key);
                connection.forget(key);
            }
            1 => connection.reset(key, Code::CANCEL),
            2 => connection.release(key),
            3 | 4 => {
                let _ = connection.take(key);
            }
            5 if !connection.is_sent(key) => {
                let _ = connection.send_head(key, 200, false, |_| {});
            }
            6 => {
                let _ = connection.take(key);
                connection.release(key);
            }
            _ if !connection.is_sent(key) => {
                let _ = connection.send_data(key, &body, count % 3 == 0);
            }
            _ => {}
        }
        connection.check_invariants();
    });
}

/// What a client is answered that sends `bytes` in pieces of `cut` bytes. `act` is called now and then, with each new stream.
fn answers(bytes: &[u8], cut: usize, act: &mut impl FnMut(&mut Connection, Option<Key>)) -> Vec<u8> {
    let mut connection = Connection::new(LIMITS);
    let (mut waiting, mut answers) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(cut.max(1)) {
        waiting.extend_from_slice(piece);
        loop {
            let (used, request) = connection.receive(&waiting, &mut |_| None);
            connection.check_invariants();
            waiting.drain(..used);
            let key = request.map(|request| request.key);
            act(&mut connection, key);
            answers.append(connection.out());
            connection.grant();
            if key.is_none() {
                break;
            }
        }
    }
    answers
}

const SERVER_LIMITS: ServerLimits =
    ServerLimits { window: 20_000, room: 200_000, streams_max: 5, fields_max: 2048 };

/// What a server sends to whom asked it for some responses, of which the first is to a HEAD. However the bytes are cut, what is
/// taken of each response is the same; and with owners that act (the first byte says how), the books balance.
pub(super) fn server_frames(data: &[u8]) {
    let Some((&acts, data)) = data.split_first() else { return };
    let whole = responses(data, data.len());
    for cut in [1, 7, 9, 64] {
        assert!(responses(data, cut) == whole, "pieces of {cut}");
    }
    let (mut connection, mut keys) = asked();
    let (mut count, body) = (acts, vec![b'x'; 20_000]);
    heard(&mut connection, data, 1 + usize::from(acts), &mut |connection| {
        count = count.wrapping_mul(5).wrapping_add(acts | 1);
        if keys.is_empty() {
            return;
        }
        let at = usize::from(count) % keys.len();
        let key = keys[at];
        match count % 8 {
            0 => connection.forget(keys.swap_remove(at)),
            1 => connection.reset(key, Code::CANCEL),
            2 => drop(connection.take_head(key)),
            3 | 4 => drop(connection.take(key)),
            5 => connection.release(key),
            6 => keys.extend(connection.ask(Asking { is_head: false, ends: false }, |_| {})),
            _ if !connection.is_sent(key) => {
                let _ = connection.send_data(key, &body, count % 3 == 0);
            }
            _ => {}
        }
        connection.check_invariants();
    });
}

/// A connection on which some requests were sent.
fn asked() -> (Connection, Vec<Key>) {
    let mut connection = Connection::to_server(SERVER_LIMITS, Spare::default());
    let mut ask = |n: usize| {
        let asking = Asking { is_head: n == 0, ends: n != 2 };
        connection.ask(asking, |out| write_pseudo(b"GET", b"a", b"/", out)).expect("a stream")
    };
    let keys = (0..4).map(&mut ask).collect();
    (connection, keys)
}

/// Hears `bytes` in pieces of `cut` bytes. `act` is called behind each.
fn heard(connection: &mut Connection, bytes: &[u8], cut: usize, act: &mut impl FnMut(&mut Connection)) {
    let mut waiting = Vec::new();
    for piece in bytes.chunks(cut.max(1)) {
        waiting.extend_from_slice(piece);
        let (used, request) = connection.receive(&waiting, &mut |_| None);
        assert!(request.is_none(), "a server asks for nothing");
        connection.check_invariants();
        waiting.drain(..used);
        act(connection);
        connection.out().clear();
        connection.grant();
    }
}

/// What can be taken of each response in the end: heads, data, and how it ended.
fn responses(bytes: &[u8], cut: usize) -> Vec<String> {
    let (mut connection, keys) = asked();
    heard(&mut connection, bytes, cut, &mut |_| {});
    let mut response = |key: Key| {
        let mut said = String::new();
        let end = loop {
            match connection.take_head(key) {
                Ok(Some(fields)) => {
                    let (status, rest) = parts_of(&fields).expect("a head that was judged");
                    said += &format!("{status} {rest:?} ", rest = rest.collect::<Vec<_>>());
                }
                Ok(None) => break None,
                Err(reset) => break Some(reset),
            }
        };
        let mut body = Vec::new();
        while let Ok(Received::Data(data)) = connection.take(key) {
            body.extend_from_slice(&data);
        }
        said + &format!("{body:?} {end:?} {}", connection.is_taken(key))
    };
    keys.into_iter().map(&mut response).collect()
}

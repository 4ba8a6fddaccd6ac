//! What is different where the peer is a server: requests open streams, heads of responses come on them, and how many there may
//! be is the server's to say.

use std::collections::VecDeque;

use crate::proto::h2::connection::{At, Connection, FIRST_WINDOW, Limits, length_of};
use crate::proto::h2::frame::{self, Code, MAX_31, setting};
use crate::proto::h2::hpack::{Fields, Iter};
use crate::proto::h2::streams::{Key, Reset, Spare, Stream};
use crate::proto::http::H2_PREFACE;

/// Streams at once until the server has said how many (RFC 9113 6.5.2 asks it for no fewer).
const STREAMS_AT_FIRST: u32 = 100;

/// Interim heads of one response that nobody has taken yet.
const INTERIM_MAX: usize = 16;

/// What we allow a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerLimits {
    /// Bytes of a response that nobody took, at first.
    pub window: u32,
    /// The same for all responses together. What is beyond the windows of all streams goes to those that move.
    pub room: u32,
    /// Streams that will be opened at once.
    pub streams_max: u32,
    /// The size of a list of fields.
    pub fields_max: u32,
}

/// A request that is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asking {
    /// It is a HEAD: its response has no body, whatever its head says.
    pub is_head: bool,
    /// Nothing follows its head.
    pub ends: bool,
}

/// What is known of a server.
#[derive(Clone, Copy, Debug)]
pub(in crate::proto::h2) struct ToServer {
    /// Streams that it allows at once.
    streams_max: u32,
    is_settled: bool,
}

impl Connection {
    /// A connection to a server, at its first byte. The preface and our settings are in `out`.
    pub fn to_server(limits: ServerLimits, spare: Spare) -> Connection {
        let ServerLimits { window, room, streams_max, fields_max } = limits;
        let limits = Limits { streams_max: u32::MAX, window, window_max: window, fields_max };
        let mut connection = Connection::within(limits, spare);
        connection.at = At::Frame;
        connection.to_server = Some(ToServer { streams_max: STREAMS_AT_FIRST, is_settled: false });
        let out = &mut connection.out;
        out.clear();
        out.extend_from_slice(H2_PREFACE);
        let settings = [
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, window),
            (setting::MAX_HEADER_LIST_SIZE, fields_max),
        ];
        frame::write_settings(&settings, out);
        if let Some(more) = room.checked_sub(FIRST_WINDOW).filter(|more| *more > 0) {
            frame::write_window_update(0, more, out);
            connection.receive_target = room;
            connection.receive_window = i64::from(room);
        }
        connection.unpromised = room.saturating_sub(window.saturating_mul(streams_max));
        // A server has read them before it reads the first request.
        connection.first_receive_window = window;
        connection.unacknowledged = VecDeque::new();
        connection
    }

    pub(in crate::proto::h2) fn is_to_server(&self) -> bool {
        self.to_server.is_some()
    }

    /// Streams that the server allows at once.
    pub fn streams_max(&self) -> u32 {
        self.to_server.map_or(0, |server| server.streams_max)
    }

    /// Whether another request may be sent, as far as the number of streams allows.
    pub fn takes_requests(&self) -> bool {
        self.fault.is_none() && !self.is_peer_leaving && self.goaway.is_none() && self.streams.last < MAX_31
    }

    /// Sends the head of a request, whose fields `write` appends, and opens its stream. `None`: no more may be sent.
    pub fn ask(&mut self, asking: Asking, write: impl FnOnce(&mut Vec<u8>)) -> Option<Key> {
        if !self.takes_requests() {
            return None;
        }
        let id = if self.streams.last == 0 { 1 } else { self.streams.last + 2 };
        self.streams.last = id;
        let key = self.streams.open(Stream {
            id,
            receive_window: i64::from(self.first_receive_window),
            send_window: self.first_send_window,
            awaits_head: true,
            is_bodiless: asking.is_head,
            ..Stream::default()
        });
        let sent = self.send_section(key, asking.ends, write);
        debug_assert!(sent.is_ok(), "nobody has reset it yet");
        Some(key)
    }

    /// Takes the next head of a response: interim ones, then the final one. It comes before the word that the server has reset
    /// the stream. Its memory goes back with [`keep`](Connection::keep).
    pub fn take_head(&mut self, key: Key) -> Result<Option<Fields>, Reset> {
        let stream = self.streams.get(key);
        let next = stream.more_heads.pop_front();
        match (std::mem::replace(&mut stream.head, next), stream.reset) {
            (None, Some(reset)) => Err(reset),
            (head, _) => Ok(head),
        }
    }

    /// A head of a response, which is complete.
    pub(super) fn response(&mut self, key: Key, ends: bool, fields: Fields) {
        let Some(fields) = self.on_live(key, fields) else { return };
        let stream = self.streams.get(key);
        let status = status_of(&fields).filter(|_| !fields.is_cut());
        let length = length_of(&fields);
        let (Some(status), Ok(length)) = (status, length) else {
            self.memory = fields;
            return self.stream_error(key, Code::PROTOCOL_ERROR);
        };
        let is_interim = status < 200;
        if is_interim && (ends || stream.more_heads.len() >= INTERIM_MAX) {
            self.memory = fields;
            return self.stream_error(key, Code::PROTOCOL_ERROR);
        }
        if !is_interim {
            stream.awaits_head = false;
            stream.expected =
                if stream.is_bodiless || matches!(status, 204 | 304) { Some(0) } else { length };
        }
        match stream.head {
            None => stream.head = Some(fields),
            Some(_) => stream.more_heads.push_back(fields),
        }
        stream.wake();
        if ends {
            self.end_received(key);
        }
    }

    /// The server wants nothing more of a request that it has answered as a whole (RFC 9113 8.1): the response stays.
    pub(super) fn ends_early(&mut self, key: Key, code: Code) -> bool {
        let is_to_server = self.is_to_server();
        let stream = self.streams.get(key);
        if !is_to_server || code != Code::NO_ERROR || !stream.is_received || stream.reset.is_some() {
            return false;
        }
        if !stream.is_closed() {
            stream.refuse_rest();
            stream.wake();
            self.streams.open -= 1;
        }
        true
    }

    /// The server has said which streams it will not look at (RFC 9113 6.8).
    pub(super) fn leave_out(&mut self, last: u32) {
        if !self.is_to_server() {
            return;
        }
        let left: Vec<u32> = self.streams.iter().map(|stream| stream.id).filter(|id| *id > last).collect();
        for id in left {
            if let Some(key) = self.streams.find(id).filter(|key| !self.streams.get(*key).is_closed()) {
                self.end_stream(key, Reset::Remote(Code::REFUSED_STREAM));
            }
        }
    }

    /// Nobody wants to send more requests: the server is told, and the connection is over with its last stream.
    pub(super) fn leave_server(&mut self) {
        if self.goaway.is_none() && self.fault.is_none() {
            self.goaway = Some(0);
            frame::write_goaway(0, Code::NO_ERROR, &mut self.out);
        }
    }

    pub(super) fn note_streams_max(&mut self, streams_max: u32) {
        if let Some(server) = &mut self.to_server {
            (server.streams_max, server.is_settled) = (streams_max, true);
        }
    }

    /// Settings came: without a word about streams there may be any number of them.
    pub(super) fn note_settled(&mut self) {
        if let Some(server) = &mut self.to_server
            && !std::mem::replace(&mut server.is_settled, true)
        {
            server.streams_max = u32::MAX;
        }
    }
}

/// The status of a response. It is the only pseudo-header field, in front of all others (RFC 9113 8.3.2); one that comes later
/// is refused with the names of fields.
fn status_of(fields: &Fields) -> Option<u16> {
    let (name, value) = fields.iter().next()?;
    let digits: &[u8; 3] = value.try_into().ok().filter(|_| name == b":status")?;
    let number = str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    // HTTP/2 has no 101 (RFC 9113 8.6).
    number.parse().ok().filter(|status| *status >= 100 && *status != 101)
}

/// What the head of a response says: its status, and its fields.
pub fn parts_of(fields: &Fields) -> Option<(u16, Iter<'_>)> {
    let mut rest = fields.iter();
    rest.next();
    Some((status_of(fields)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::h2::frame::{
        END_HEADERS, FLAG_FIRST, FrameHead, HEAD_BYTES, PAYLOAD_BYTES_MAX, kind, write,
    };
    use crate::proto::h2::hpack::{write_field, write_pseudo};
    use crate::proto::h2::sending::Received;

    const LIMITS: ServerLimits =
        ServerLimits { window: 100_000, room: 300_000, streams_max: 3, fields_max: 4096 };
    const LAST: u8 = FLAG_FIRST;
    const OK: u8 = 0x88;

    struct Server(Connection);

    impl Server {
        fn new() -> Server {
            let mut server = Server::silent();
            server.frame(kind::SETTINGS, 0, 0, &[]);
            server.frame(kind::SETTINGS, LAST, 0, &[]);
            server.said();
            server
        }

        fn silent() -> Server {
            Server::with(LIMITS)
        }

        fn with(limits: ServerLimits) -> Server {
            let mut connection = Connection::to_server(limits, Spare::default());
            let preface: Vec<u8> = connection.out().drain(..H2_PREFACE.len()).collect();
            assert_eq!(preface, H2_PREFACE);
            Server(connection)
        }

        fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
            let mut bytes = Vec::new();
            write(kind, flags, stream, payload, &mut bytes);
            let (used, request) = self.0.receive(&bytes, &mut |_| None);
            assert!(request.is_none());
            assert!(used == bytes.len() || self.0.is_failed());
            self.0.check_invariants();
        }

        fn head(&mut self, stream: u32, flags: u8, status: u8, fields: &[(&str, &str)]) {
            let mut block = vec![status];
            for (name, value) in fields {
                write_field(None, name.as_bytes(), value.as_bytes(), &mut block);
            }
            self.frame(kind::HEADERS, END_HEADERS | flags, stream, &block);
        }

        fn ask(&mut self, is_head: bool, ends: bool) -> Key {
            let asking = Asking { is_head, ends };
            self.0.ask(asking, |out| write_pseudo(b"GET", b"a", b"/", out)).expect("a stream")
        }

        fn status(&mut self, key: Key) -> Result<Option<u16>, Reset> {
            let head = self.0.take_head(key)?;
            Ok(head.and_then(|fields| parts_of(&fields).map(|(status, _)| status)))
        }

        fn body(&mut self, key: Key) -> Result<Vec<u8>, Reset> {
            let mut body = Vec::new();
            while let Received::Data(data) = self.0.take(key)? {
                body.extend_from_slice(&data);
            }
            Ok(body)
        }

        fn said(&mut self) -> Vec<(u8, u8, u32, Vec<u8>)> {
            let out = std::mem::take(self.0.out());
            let (mut at, mut said) = (0, Vec::new());
            while let Some(head) = FrameHead::read(&out[at..]) {
                let payload = &out[at + HEAD_BYTES..][..head.len as usize];
                said.push((head.kind, head.flags, head.stream, payload.to_vec()));
                at += HEAD_BYTES + payload.len();
            }
            said
        }
    }

    #[test]
    fn a_server_is_told_our_windows_before_the_first_request() {
        let mut server = Server::silent();
        server.ask(false, true);
        let said = server.said();
        let kinds: Vec<_> = said.iter().map(|frame| (frame.0, frame.2)).collect();
        assert_eq!(kinds, [(kind::SETTINGS, 0), (kind::WINDOW_UPDATE, 0), (kind::HEADERS, 1)]);
        assert_eq!(said[1].3, (300_000_u32 - 65_535).to_be_bytes());
    }

    #[test]
    fn a_response_that_moves_gets_more_room_than_others_need() {
        let mut server =
            Server::with(ServerLimits { window: 20_000, room: 100_000, streams_max: 3, ..LIMITS });
        let keys = [server.ask(false, true), server.ask(false, true), server.ask(false, true)];
        (1..6).step_by(2).for_each(|stream| server.head(stream, 0, OK, &[]));
        // Two whose clients take nothing.
        for stream in [3, 5] {
            server.frame(kind::DATA, 0, stream, &[0; 10_000]);
            server.frame(kind::DATA, 0, stream, &[0; 10_000]);
        }
        // The room that neither of them may need is 40,000: half of it at a time.
        let mut has = 20_000;
        for wider_by in [20_000, 30_000, 35_000] {
            for _ in 0..has / 10_000 {
                server.frame(kind::DATA, 0, 1, &[1; 10_000]);
                assert_eq!(server.body(keys[0]).expect("no reset").len(), 10_000);
                server.0.release(keys[0]);
                server.0.check_invariants();
            }
            let stream = server.0.streams.get(keys[0]);
            has = 20_000 + stream.wider_by;
            assert_eq!(
                (stream.wider_by, stream.receive_window + i64::from(stream.untold)),
                (wider_by, i64::from(has))
            );
            assert!(
                server.0.receive_window + i64::from(server.0.untold) >= i64::from(has),
                "the connection has room for it"
            );
        }
        server.0.forget(keys[0]);
        assert_eq!(server.0.unpromised, 40_000, "it gives back what it got");
    }

    #[test]
    fn a_connection_that_others_fill_is_told_of_little_room() {
        let mut server =
            Server::with(ServerLimits { window: 60_000, room: 180_000, streams_max: 3, ..LIMITS });
        let keys = [server.ask(false, true), server.ask(false, true), server.ask(false, true)];
        (1..6).step_by(2).for_each(|stream| server.head(stream, 0, OK, &[]));
        // What is left is less than what is worth a frame on a connection that nobody fills.
        for stream in [3, 5] {
            (0..6).for_each(|_| server.frame(kind::DATA, 0, stream, &[0; 10_000]));
        }
        for _ in 0..200 {
            let window =
                server.0.receive_window.min(server.0.streams.get(keys[0]).receive_window).min(10_000);
            assert!(window > 0, "stuck");
            server.frame(kind::DATA, 0, 1, &vec![1; usize::try_from(window).expect("positive")]);
            server.body(keys[0]).expect("no reset");
            server.0.release(keys[0]);
        }
    }

    #[test]
    fn heads_come_in_order_and_the_body_behind_them() {
        let mut server = Server::new();
        let (a, b) = (server.ask(false, true), server.ask(false, true));
        assert_eq!(server.status(a), Ok(None));
        server.head(3, LAST, 0x89, &[]);
        server.frame(kind::HEADERS, END_HEADERS, 1, b"\x08\x03103");
        server.frame(kind::HEADERS, END_HEADERS, 1, b"\x08\x03103");
        server.head(1, 0, OK, &[("content-length", "4")]);
        server.frame(kind::DATA, 0, 1, b"body");
        server.frame(kind::HEADERS, END_HEADERS | LAST, 1, b"\x00\x01x\x01y");
        let statuses: Vec<_> = (0..4).map(|_| server.status(a)).collect();
        assert_eq!(statuses, [Ok(Some(103)), Ok(Some(103)), Ok(Some(200)), Ok(None)]);
        assert_eq!((server.status(b), server.body(b)), (Ok(Some(204)), Ok(vec![])));
        assert!(matches!(server.0.take(a), Ok(Received::Data(data)) if data == b"body"));
        assert!(matches!(server.0.take(a), Ok(Received::End(Some(fields))) if !fields.is_empty()));
        server.0.forget(a);
        server.0.forget(b);
        server.0.check_invariants();
    }

    #[test]
    fn responses_that_are_malformed_end_their_streams() {
        type Case = (&'static str, fn(&mut Server, u32));
        let cases: [Case; 9] = [
            ("data without a head", |server, id| server.frame(kind::DATA, 0, id, b"x")),
            ("no status", |server, id| server.head(id, 0, 0x84, &[])),
            ("a short status", |server, id| server.frame(kind::HEADERS, END_HEADERS, id, b"\x08\x0220")),
            ("101", |server, id| server.frame(kind::HEADERS, END_HEADERS, id, b"\x08\x03101")),
            ("an interim end", |server, id| {
                server.frame(kind::HEADERS, END_HEADERS | LAST, id, b"\x08\x03100");
            }),
            ("two lengths", |server, id| {
                server.head(id, 0, OK, &[("content-length", "1"), ("content-length", "2")]);
            }),
            ("too short", |server, id| server.head(id, LAST, OK, &[("content-length", "1")])),
            ("too long", |server, id| {
                server.head(id, 0, OK, &[("content-length", "1")]);
                server.frame(kind::DATA, 0, id, b"xx");
            }),
            ("interim heads without an end", |server, id| {
                for _ in 0..40 {
                    server.frame(kind::HEADERS, END_HEADERS, id, b"\x08\x03103");
                }
            }),
        ];
        let mut server = Server::new();
        for (index, (name, act)) in cases.into_iter().enumerate() {
            let key = server.ask(false, true);
            let id = 2 * u32::try_from(index).expect("few") + 1;
            server.said();
            act(&mut server, id);
            assert_eq!(server.0.reset_of(key), Some(Reset::Local(Code::PROTOCOL_ERROR)), "{name}");
            assert!(server.said().contains(&(kind::RST_STREAM, 0, id, vec![0, 0, 0, 1])), "{name}");
            assert!(!server.0.is_failed(), "{name}");
            server.0.forget(key);
        }
        assert_eq!(server.0.held(), 0);
    }

    #[test]
    fn responses_without_a_body_may_say_how_long_it_would_be() {
        let mut server = Server::new();
        let (head, get) = (server.ask(true, true), server.ask(false, true));
        server.head(1, LAST, OK, &[("content-length", "5")]);
        server.head(3, LAST, 0x8b, &[("content-length", "5")]);
        assert_eq!((server.status(head), server.status(get)), (Ok(Some(200)), Ok(Some(304))));
    }

    #[test]
    fn what_came_before_a_reset_is_taken_first() {
        let mut server = Server::new();
        let key = server.ask(false, true);
        server.head(1, 0, OK, &[]);
        server.frame(kind::DATA, 0, 1, b"half");
        server.frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 2]);
        assert_eq!(server.status(key), Ok(Some(200)));
        let taken = server.0.take(key);
        assert!(matches!(taken, Ok(Received::Data(data)) if data == b"half"));
        assert_eq!(server.body(key), Err(Reset::Remote(Code(2))));
        server.0.release(key);
        server.0.check_invariants();
        server.0.forget(key);
        server.0.check_invariants();
    }

    #[test]
    fn a_whole_response_stays_whatever_comes_behind_it() {
        let ends: [fn(&mut Server); 3] = [
            |server| server.frame(kind::RST_STREAM, 0, 1, &[0; 4]),
            |server| server.0.abandon(Code::CANCEL),
            |server| server.frame(kind::GOAWAY, 0, 0, &[0; 8]),
        ];
        for (index, end) in ends.into_iter().enumerate() {
            let mut server = Server::new();
            let key = server.ask(false, index == 2);
            server.head(1, 0, OK, &[]);
            server.frame(kind::DATA, LAST, 1, b"all");
            end(&mut server);
            assert_eq!((server.status(key), server.body(key)), (Ok(Some(200)), Ok(b"all".to_vec())));
            if index < 2 {
                let refused = server.0.send_data(key, b"more", true);
                assert_eq!(refused, Err(Reset::Remote(Code::NO_ERROR)), "nobody reads it");
            }
            server.0.forget(key);
        }
    }

    #[test]
    fn a_goodbye_refuses_the_streams_that_it_leaves_out() {
        let mut server = Server::new();
        let (first, second) = (server.ask(false, true), server.ask(false, true));
        server.frame(kind::GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert!(!server.0.takes_requests() && !server.0.is_over());
        assert_eq!(server.0.reset_of(second), None);
        server.frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(server.status(second), Err(Reset::Remote(Code::REFUSED_STREAM)));
        server.head(1, LAST, OK, &[]);
        assert_eq!(server.status(first), Ok(Some(200)));
        server.0.forget(first);
        assert!(!server.0.is_over());
        server.0.forget(second);
        assert!(server.0.is_over());
    }

    #[test]
    fn settings_say_how_many_streams_there_may_be() {
        let mut server = Server::silent();
        assert_eq!(server.0.streams_max(), STREAMS_AT_FIRST);
        server.frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 7]);
        assert_eq!(server.0.streams_max(), 7);
        server.frame(kind::SETTINGS, 0, 0, &[]);
        assert_eq!(server.0.streams_max(), 7, "what is not said stays");
        assert_eq!(Server::new().0.streams_max(), u32::MAX);
    }

    #[test]
    fn a_server_that_breaks_the_rules_loses_its_connection() {
        type Case = (&'static str, Code, fn(&mut Server));
        let cases: [Case; 7] = [
            ("pushes", Code::PROTOCOL_ERROR, |server| {
                server.frame(kind::PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]);
            }),
            ("takes pushes", Code::PROTOCOL_ERROR, |server| {
                server.frame(kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 1]);
            }),
            ("opens a stream", Code::PROTOCOL_ERROR, |server| server.head(2, LAST, OK, &[])),
            ("answers what nobody asked", Code::PROTOCOL_ERROR, |server| server.head(3, LAST, OK, &[])),
            ("goes on behind the end", Code::STREAM_CLOSED, |server| {
                server.head(1, LAST, OK, &[]);
                let key = server.0.streams.find(1).expect("a stream");
                server.0.forget(key);
                server.head(1, LAST, OK, &[]);
            }),
            ("sends beyond the connection's window", Code::FLOW_CONTROL_ERROR, |server| {
                for id in [1, 3, 5, 7] {
                    server.ask(false, true);
                    server.head(id, 0, OK, &[]);
                    (0..6).for_each(|_| server.frame(kind::DATA, 0, id, &[0; PAYLOAD_BYTES_MAX]));
                }
            }),
            ("compresses badly", Code::COMPRESSION_ERROR, |server| server.head(1, 0, 0xff, &[])),
        ];
        for (name, code, act) in cases {
            let mut server = Server::new();
            let key = server.ask(false, true);
            act(&mut server);
            assert!(server.0.is_over() && server.0.is_failed(), "{name}");
            let goaway = server.said().pop().expect("a goodbye");
            assert_eq!((goaway.0, &goaway.3[4..]), (kind::GOAWAY, &code.0.to_be_bytes()[..]), "{name}");
            if code != Code::STREAM_CLOSED {
                assert!(matches!(server.0.reset_of(key), Some(Reset::Local(_))), "{name}");
            }
        }
    }

    #[test]
    fn the_window_of_a_stream_bounds_its_body_alone() {
        let mut server = Server::new();
        let (slow, other) = (server.ask(false, true), server.ask(false, true));
        server.head(1, 0, OK, &[]);
        for _ in 0..7 {
            server.frame(kind::DATA, 0, 1, &[0; PAYLOAD_BYTES_MAX]);
        }
        assert_eq!(server.0.reset_of(slow), Some(Reset::Local(Code::FLOW_CONTROL_ERROR)));
        server.head(3, LAST, OK, &[]);
        assert_eq!(server.status(other), Ok(Some(200)));
    }

    #[test]
    fn nobody_wants_it_any_more() {
        let mut server = Server::new();
        let key = server.ask(false, true);
        server.said();
        server.0.leave();
        server.0.leave();
        assert_eq!(server.said(), [(kind::GOAWAY, 0, 0, vec![0; 8])]);
        assert!(!server.0.takes_requests() && !server.0.is_over());
        server.0.forget(key);
        assert_eq!(server.said(), [(kind::RST_STREAM, 0, 1, vec![0, 0, 0, 8])]);
        assert!(server.0.is_over() && !server.0.is_failed());
    }
}

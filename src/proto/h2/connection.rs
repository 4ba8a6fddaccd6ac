//! A connection of HTTP/2 without its IO: of a client, bytes in, requests and bytes out; or to a server (`to_server`), requests
//! in, bytes out, bytes in, responses out. RFC 9113.
//!
//! [`receive`](Connection::receive) follows the frames of the peer; what they do to a stream is kept in it, and whoever
//! waits for that is woken. Owners of streams take data, give room back and send (`sending`). What is to be sent gathers in
//! [`out`](Connection::out). Limits against floods are the caller's, which sees every frame. Never waits, and never holds
//! more than the windows that it granted.

mod control;
#[cfg(test)]
mod tests;
pub mod to_server;
mod windows;

use std::collections::VecDeque;

use crate::proto::h2::connection::to_server::ToServer;
use crate::proto::h2::frame::{
    self, Code, END_HEADERS, FLAG_FIRST, FrameHead, HAS_PRIORITY, HEAD_BYTES, MAX_31, PADDED,
    PAYLOAD_BYTES_MAX, kind, setting,
};
use crate::proto::h2::hpack::{Decoder, Encoder, Fields};
use crate::proto::h2::streams::{Gone, Key, Reset, Spare, Stream, Streams};
use crate::proto::http::H2_PREFACE;

/// The windows that a connection begins with (RFC 9113 6.9.2).
const FIRST_WINDOW: u32 = 65_535;

/// What our PING of goodbye says.
const GOODBYE: [u8; 8] = *b"goodbye!";

/// What we allow a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Streams at once.
    pub streams_max: u32,
    /// Bytes of a stream that nobody took, at first.
    pub window: u32,
    /// What that grows to on a connection whose uploads move, and all of its streams may have together.
    pub window_max: u32,
    /// The size of a list of fields.
    pub fields_max: u32,
}

/// Why a connection is over: the client is told this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault(pub Code);

/// A request. Whoever takes it owns the stream and gives it up with [`Connection::forget`].
#[derive(Debug)]
pub struct Request {
    /// Its stream.
    pub key: Key,
    /// Its fields, with nothing about them checked.
    pub fields: Fields,
}

/// Where the bytes stand.
#[derive(Clone, Copy, Debug)]
enum At {
    /// So many bytes of the preface are missing.
    Preface(usize),
    /// A frame begins.
    Frame,
    /// Inside of DATA; without a key it is ignored, and its room is given back already.
    Data { key: Option<Key>, left: u32, padding: u32, ends: bool },
}

/// A section of which the rest comes in CONTINUATION.
#[derive(Debug)]
struct Section {
    stream: u32,
    flags: u8,
    bytes: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    at: At,
    limits: Limits,
    pub(super) streams: Streams,
    /// Whose turn to send comes.
    pub(super) line: VecDeque<Key>,
    /// Streams whose turn it is.
    pub(super) turns: u32,
    decoder: Decoder,
    pub(super) encoder: Encoder,
    section: Option<Box<Section>>,
    /// Memory for the next list of fields.
    memory: Fields,
    /// What is to be sent.
    pub(super) out: Vec<u8>,
    /// What the client may send, and what it could if nothing were held.
    receive_window: i64,
    receive_target: u32,
    untold: u32,
    /// What no stream of a server was promised; streams that move may have it.
    pub(super) unpromised: u32,
    /// Bytes of bodies that reached the other side.
    moved: u64,
    /// What we may send.
    pub(super) send_window: i64,
    /// What a stream of ours begins with.
    first_send_window: i64,
    /// What a stream of the client begins with, and the windows in settings that it has not acknowledged.
    first_receive_window: u32,
    unacknowledged: VecDeque<u32>,
    /// Largest payload of our frames.
    pub(super) payload_max: usize,
    /// Errors of single streams, and requests beyond the limit.
    glitches: u32,
    /// Windows of a few bytes that we were given, beyond what moved.
    pub(super) dribbles: u32,
    /// The number of the last stream that is served, once we said so.
    goaway: Option<u32>,
    is_peer_leaving: bool,
    /// What is known of the peer if it is a server.
    pub(super) to_server: Option<ToServer>,
    fault: Option<Code>,
}

type Result<T> = std::result::Result<T, Fault>;

/// The length of its body that a request promises; `Err`: it promises several, or none that is a number.
fn length_of(fields: &Fields) -> std::result::Result<Option<u64>, ()> {
    let mut length = None;
    for (_, value) in fields.iter().filter(|(name, _)| *name == b"content-length") {
        let digits = str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = digits.and_then(|text| text.parse::<u64>().ok()).ok_or(())?;
        if length.is_some_and(|before| before != number) {
            return Err(());
        }
        length = Some(number);
    }
    Ok(length)
}

fn check(is_good: bool, code: Code) -> Result<()> {
    if is_good { Ok(()) } else { Err(Fault(code)) }
}

impl Connection {
    /// A connection at its first byte, the preface. Our settings are in `out`.
    pub fn new(limits: Limits) -> Connection {
        Connection::within(limits, Spare::default())
    }

    /// The same with memory that it shares with others.
    pub fn within(limits: Limits, spare: Spare) -> Connection {
        let mut out = Vec::new();
        frame::write_settings(
            &[
                (setting::MAX_CONCURRENT_STREAMS, limits.streams_max),
                (setting::INITIAL_WINDOW_SIZE, limits.window),
                (setting::MAX_HEADER_LIST_SIZE, limits.fields_max),
                (setting::ENABLE_CONNECT_PROTOCOL, 1),
            ],
            &mut out,
        );
        Connection {
            at: At::Preface(H2_PREFACE.len()),
            limits,
            streams: Streams::within(spare),
            line: VecDeque::new(),
            turns: 0,
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            section: None,
            memory: Fields::default(),
            out,
            receive_window: i64::from(FIRST_WINDOW),
            receive_target: FIRST_WINDOW,
            untold: 0,
            unpromised: 0,
            moved: 0,
            send_window: i64::from(FIRST_WINDOW),
            first_send_window: i64::from(FIRST_WINDOW),
            first_receive_window: FIRST_WINDOW,
            unacknowledged: VecDeque::from([limits.window]),
            payload_max: PAYLOAD_BYTES_MAX,
            glitches: 0,
            dribbles: 0,
            goaway: None,
            is_peer_leaving: false,
            to_server: None,
            fault: None,
        }
    }

    /// What is to be sent; whoever sends it takes it.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Streams that have an owner.
    pub fn held(&self) -> u32 {
        self.streams.held
    }

    /// Errors of single streams so far.
    pub fn glitches(&self) -> u32 {
        self.glitches
    }

    /// Windows of a few bytes so far, beyond what moved.
    pub fn dribbles(&self) -> u32 {
        self.dribbles
    }

    /// Counts a request that turned out to be malformed.
    pub fn count_glitch(&mut self) {
        self.glitches = self.glitches.saturating_add(1);
    }

    /// Whether the peer wants nothing more, or no server is wanted any more, and nothing is left to do.
    pub fn is_over(&self) -> bool {
        let is_leaving = self.is_peer_leaving || (self.is_to_server() && self.goaway.is_some());
        self.fault.is_some() || (is_leaving && self.streams.held == 0)
    }

    /// Whether it ended with an error.
    pub fn is_failed(&self) -> bool {
        self.fault.is_some()
    }

    /// Memory for the fields of the next request.
    pub fn lend(&mut self, memory: impl FnOnce() -> Vec<u8>) {
        if self.memory.capacity() == 0 {
            self.memory = Fields::within(memory());
        }
    }

    /// Says that no more requests are wanted. Those on their way are served: the last number is said once the client has
    /// heard of it (RFC 9113 6.8).
    pub fn leave(&mut self) {
        if self.is_to_server() {
            return self.leave_server();
        }
        if self.goaway.is_none() && self.fault.is_none() {
            self.goaway = Some(MAX_31);
            frame::write_goaway(MAX_31, Code::NO_ERROR, &mut self.out);
            frame::write(kind::PING, 0, 0, &GOODBYE, &mut self.out);
        }
    }

    /// Ends everything.
    pub fn fail(&mut self, code: Code) {
        if self.fault.is_some() {
            return;
        }
        self.fault = Some(code);
        if self.is_to_server() {
            // It has opened no streams.
            frame::write_goaway(0, code, &mut self.out);
            return self.end_streams(Reset::Local(code));
        }
        frame::write_goaway(self.streams.last, code, &mut self.out);
        self.end_streams(Reset::Remote(code));
    }

    /// The connection is gone: nothing of any stream comes or goes.
    pub fn abandon(&mut self, code: Code) {
        self.fault.get_or_insert(code);
        self.end_streams(Reset::Remote(code));
    }

    fn end_streams(&mut self, reset: Reset) {
        let is_to_server = self.is_to_server();
        for stream in self.streams.iter() {
            if is_to_server && stream.is_received {
                // The response is here as a whole.
                stream.refuse_rest();
            } else {
                stream.reset.get_or_insert(reset);
            }
            stream.wake();
        }
        self.streams.open = 0;
    }

    /// Follows received bytes up to the next request, and says how many were used; without one, all that can be used were.
    /// `judge` sees every frame; a code ends the connection.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        judge: &mut impl FnMut(FrameHead) -> Option<Code>,
    ) -> (usize, Option<Request>) {
        let mut used = 0;
        while self.fault.is_none() {
            let left = &bytes[used..];
            let step = match self.at {
                At::Preface(missing) => self.preface(left, missing),
                At::Frame => self.frame(left, judge),
                At::Data { key, left: len, padding, ends } => Ok(self.data(left, (key, len, padding, ends))),
            };
            match step {
                Ok((0, None)) => break,
                Ok((n, event)) => {
                    used += n;
                    if event.is_some() {
                        return (used, event);
                    }
                }
                Err(Fault(code)) => self.fail(code),
            }
        }
        (used, None)
    }

    fn preface(&mut self, bytes: &[u8], missing: usize) -> Result<(usize, Option<Request>)> {
        let n = missing.min(bytes.len());
        let wanted = &H2_PREFACE[H2_PREFACE.len() - missing..][..n];
        check(bytes[..n] == *wanted, Code::PROTOCOL_ERROR)?;
        self.at = if n == missing { At::Frame } else { At::Preface(missing - n) };
        Ok((n, None))
    }

    /// One frame; of DATA only what is in front of the data. Nothing is used while it is not complete.
    fn frame(
        &mut self,
        bytes: &[u8],
        judge: &mut impl FnMut(FrameHead) -> Option<Code>,
    ) -> Result<(usize, Option<Request>)> {
        let Some(head) = FrameHead::read(bytes) else { return Ok((0, None)) };
        let len = head.len as usize;
        check(len <= PAYLOAD_BYTES_MAX, Code::FRAME_SIZE_ERROR)?;
        if let Some(section) = &self.section {
            let goes_on = head.kind == kind::CONTINUATION && head.stream == section.stream;
            check(goes_on, Code::PROTOCOL_ERROR)?;
        }
        let behind = &bytes[HEAD_BYTES..];
        if head.kind == kind::DATA {
            let has_padding = head.flags & PADDED != 0;
            if has_padding && behind.is_empty() && len > 0 {
                return Ok((0, None));
            }
            judge(head).map_or(Ok(()), |code| Err(Fault(code)))?;
            self.begin_data(head, behind.first().copied())?;
            return Ok((HEAD_BYTES + usize::from(has_padding), None));
        }
        let Some(payload) = behind.get(..len) else { return Ok((0, None)) };
        judge(head).map_or(Ok(()), |code| Err(Fault(code)))?;
        let event = match head.kind {
            kind::HEADERS => self.headers(head, payload)?,
            kind::CONTINUATION => self.continuation(head, payload)?,
            _ => {
                self.control(head, payload)?;
                None
            }
        };
        Ok((HEAD_BYTES + len, event))
    }

    /// DATA up to its data. Padding counts in the windows and is given back at once.
    fn begin_data(&mut self, head: FrameHead, padding: Option<u8>) -> Result<()> {
        check(head.stream != 0, Code::PROTOCOL_ERROR)?;
        let mut padding_len = 0;
        let mut extra = 0;
        if head.flags & PADDED != 0 {
            let padding = padding.filter(|padding| u32::from(*padding) < head.len);
            padding_len = u32::from(padding.ok_or(Fault(Code::PROTOCOL_ERROR))?);
            extra = padding_len + 1;
        }
        check(i64::from(head.len) <= self.receive_window, Code::FLOW_CONTROL_ERROR)?;
        self.receive_window -= i64::from(head.len);
        self.give_back(extra);
        let data_len = head.len - extra;
        let mut key = self.streams.find(head.stream);
        match key {
            None => match self.streams.gone(head.stream) {
                Gone::Idle | Gone::Skipped => return Err(Fault(Code::PROTOCOL_ERROR)),
                Gone::Closed => return Err(Fault(Code::STREAM_CLOSED)),
                Gone::Left => self.say_closed(head.stream),
                Gone::Reset => {}
            },
            Some(found) => {
                let stream = self.streams.get(found);
                if let Some(reset) = stream.reset {
                    key = None;
                    if matches!(reset, Reset::Remote(_)) {
                        self.say_closed(head.stream);
                    }
                } else if stream.is_received {
                    self.stream_error(found, Code::STREAM_CLOSED);
                    key = None;
                } else if stream.awaits_head {
                    self.stream_error(found, Code::PROTOCOL_ERROR);
                    key = None;
                } else if i64::from(head.len) > stream.receive_window {
                    self.stream_error(found, Code::FLOW_CONTROL_ERROR);
                    key = None;
                } else {
                    stream.receive_window -= i64::from(head.len);
                    if stream.expected.is_some_and(|left| left < u64::from(data_len)) {
                        self.stream_error(found, Code::PROTOCOL_ERROR);
                        key = None;
                    } else {
                        stream.expected = stream.expected.map(|left| left - u64::from(data_len));
                        self.give_back_stream(found, extra);
                    }
                }
            }
        }
        if key.is_none() {
            self.give_back(data_len);
        }
        let ends = head.flags & FLAG_FIRST != 0;
        self.at = At::Data { key, left: data_len, padding: padding_len, ends };
        if data_len == 0 && padding_len == 0 {
            self.end_data(key, ends);
        }
        Ok(())
    }

    /// What is there of the payload of DATA.
    fn data(
        &mut self,
        bytes: &[u8],
        (key, left, padding, ends): (Option<Key>, u32, u32, bool),
    ) -> (usize, Option<Request>) {
        let n = bytes.len().min((left + padding) as usize);
        let data_len = n.min(left as usize);
        if n == 0 {
            return (0, None);
        }
        let taken = u32::try_from(data_len).unwrap_or(left);
        if let Some(key) = key.filter(|_| data_len > 0) {
            if self.streams.get(key).received.capacity() == 0 {
                self.streams.get(key).received = self.streams.spare.buffer();
            }
            let stream = self.streams.get(key);
            stream.received.extend_from_slice(&bytes[..data_len]);
            stream.wake();
        }
        let padded = u32::try_from(n - data_len).unwrap_or(padding);
        let (left, padding) = (left - taken, padding - padded);
        self.at = At::Data { key, left, padding, ends };
        if left + padding == 0 {
            self.end_data(key, ends);
        }
        (n, None)
    }

    fn end_data(&mut self, key: Option<Key>, ends: bool) {
        self.at = At::Frame;
        if let Some(key) = key.filter(|_| ends) {
            self.end_received(key);
        }
    }

    /// The peer has said everything of a stream.
    fn end_received(&mut self, key: Key) {
        let stream = self.streams.get(key);
        if stream.expected.is_some_and(|left| left > 0) {
            // RFC 9113 8.1.1: the body is not as long as its head says.
            return self.stream_error(key, Code::PROTOCOL_ERROR);
        }
        stream.is_received = true;
        stream.wake();
        if stream.is_closed() {
            self.streams.open -= 1;
        }
    }

    fn headers(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Request>> {
        check(head.stream % 2 == 1, Code::PROTOCOL_ERROR)?;
        let mut section = payload;
        if head.flags & PADDED != 0 {
            let (padding, rest) = section.split_first().ok_or(Fault(Code::FRAME_SIZE_ERROR))?;
            let len = rest.len().checked_sub(usize::from(*padding)).ok_or(Fault(Code::PROTOCOL_ERROR))?;
            section = &rest[..len];
        }
        if head.flags & HAS_PRIORITY != 0 {
            let (priority, rest) = section.split_first_chunk::<5>().ok_or(Fault(Code::FRAME_SIZE_ERROR))?;
            control::check_priority(head.stream, priority)?;
            section = rest;
        }
        if head.flags & END_HEADERS == 0 {
            let section = Section { stream: head.stream, flags: head.flags, bytes: section.to_vec() };
            self.section = Some(Box::new(section));
            return Ok(None);
        }
        self.fields(head.stream, head.flags, section)
    }

    fn continuation(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Request>> {
        let Some(mut section) = self.section.take() else { return Err(Fault(Code::PROTOCOL_ERROR)) };
        section.bytes.extend_from_slice(payload);
        if head.flags & END_HEADERS == 0 {
            self.section = Some(section);
            return Ok(None);
        }
        self.fields(section.stream, section.flags, &section.bytes)
    }

    /// A whole section: a request, or trailers. It is decoded whatever it is for, as the table changes with it.
    fn fields(&mut self, id: u32, flags: u8, section: &[u8]) -> Result<Option<Request>> {
        if self.is_to_server() && self.memory.capacity() == 0 {
            self.memory = Fields::within(self.streams.spare.buffer());
        }
        let mut fields = std::mem::take(&mut self.memory);
        fields.clear();
        let decoded = self.decoder.decode(section, self.limits.fields_max as usize, &mut fields);
        check(decoded.is_ok(), Code::COMPRESSION_ERROR)?;
        let ends = flags & FLAG_FIRST != 0;
        if let Some(key) = self.streams.find(id) {
            match self.streams.get(key).awaits_head {
                true => self.response(key, ends, fields),
                false => self.trailers(key, ends, fields),
            }
            return Ok(None);
        }
        match self.streams.gone(id) {
            Gone::Idle if self.is_to_server() => Err(Fault(Code::PROTOCOL_ERROR)),
            Gone::Idle => Ok(self.request(id, ends, fields)),
            Gone::Closed => Err(Fault(Code::STREAM_CLOSED)),
            Gone::Skipped => Err(Fault(Code::PROTOCOL_ERROR)),
            Gone::Left => {
                self.say_closed(id);
                self.memory = fields;
                Ok(None)
            }
            Gone::Reset => {
                self.count_glitch();
                self.memory = fields;
                Ok(None)
            }
        }
    }

    fn request(&mut self, id: u32, ends: bool, fields: Fields) -> Option<Request> {
        self.streams.last = id;
        if self.goaway.is_some_and(|last| id > last) {
            self.streams.note_gone(id, Some(Reset::Local(Code::REFUSED_STREAM)));
            self.memory = fields;
            return None;
        }
        // Those that were reset and have an owner still are not open, but cost us as much.
        let is_full = self.streams.open >= self.limits.streams_max
            || self.streams.held >= self.limits.streams_max.saturating_mul(2);
        if is_full {
            // Before the client knows the limit it may go beyond it.
            if self.unacknowledged.is_empty() {
                self.count_glitch();
            }
            frame::write_reset(id, Code::REFUSED_STREAM, &mut self.out);
            self.streams.note_gone(id, Some(Reset::Local(Code::REFUSED_STREAM)));
            self.memory = fields;
            return None;
        }
        let length = length_of(&fields);
        if length.is_err() || (ends && length.is_ok_and(|length| length.is_some_and(|length| length > 0))) {
            frame::write_reset(id, Code::PROTOCOL_ERROR, &mut self.out);
            self.streams.note_gone(id, Some(Reset::Local(Code::REFUSED_STREAM)));
            self.count_glitch();
            self.memory = fields;
            return None;
        }
        let key = self.streams.open(Stream {
            id,
            receive_window: i64::from(self.first_receive_window),
            send_window: self.first_send_window,
            expected: length.unwrap_or(None),
            is_received: ends,
            ..Stream::default()
        });
        Some(Request { key, fields })
    }

    /// The fields, if the stream was not reset; a peer that has reset it itself is told that it is closed.
    pub(super) fn on_live(&mut self, key: Key, fields: Fields) -> Option<Fields> {
        let stream = self.streams.get(key);
        let Some(reset) = stream.reset else { return Some(fields) };
        let id = stream.id;
        self.memory = fields;
        if matches!(reset, Reset::Remote(_)) {
            self.say_closed(id);
        }
        None
    }

    fn trailers(&mut self, key: Key, ends: bool, fields: Fields) {
        let Some(fields) = self.on_live(key, fields) else { return };
        let stream = self.streams.get(key);
        if stream.is_received {
            self.stream_error(key, Code::STREAM_CLOSED);
        } else if !ends || fields.is_cut() || fields.iter().any(|(name, _)| name.starts_with(b":")) {
            // RFC 9113 8.1: trailers end their stream, and have no pseudo-header fields.
            self.stream_error(key, Code::PROTOCOL_ERROR);
        } else {
            stream.trailers = Some(Box::new(fields));
            self.end_received(key);
        }
    }

    /// A peer goes on with a stream that it reset itself (RFC 7540 5.1).
    fn say_closed(&mut self, id: u32) {
        self.count_glitch();
        frame::write_reset(id, Code::STREAM_CLOSED, &mut self.out);
    }

    /// An error of one stream, which the peer made.
    fn stream_error(&mut self, key: Key, code: Code) {
        self.count_glitch();
        let stream = self.streams.get(key);
        if stream.reset.is_none() {
            frame::write_reset(stream.id, code, &mut self.out);
            self.end_stream(key, Reset::Local(code));
        }
    }

    /// A stream is reset: what it holds goes back. What a server sent before stays until it is taken, or the stream given up.
    pub(super) fn end_stream(&mut self, key: Key, reset: Reset) {
        let keeps = self.is_to_server() && matches!(reset, Reset::Remote(_));
        let stream = self.streams.get(key);
        let was_closed = stream.is_closed();
        stream.reset.get_or_insert(reset);
        let received = if keeps { Vec::new() } else { std::mem::take(&mut stream.received) };
        let mut held = u32::try_from(received.len()).unwrap_or(0);
        stream.wake();
        if !was_closed {
            self.streams.open -= 1;
        }
        if let At::Data { key: at, left, .. } = &mut self.at
            && *at == Some(key)
        {
            *at = None;
            held += *left;
        }
        self.streams.spare.keep(received);
        self.give_back(held);
    }

    /// Panics if the books of the windows do not balance; for tests and fuzzing.
    pub fn check_invariants(&mut self) {
        if self.fault.is_some() {
            return;
        }
        let in_flight = if let At::Data { key: Some(_), left, .. } = self.at { left } else { 0 };
        let held: u32 = self.streams.iter().map(|stream| stream.holds()).sum();
        let all = self.receive_window + i64::from(self.untold + held + in_flight);
        assert_eq!(all, i64::from(self.receive_target), "room of the connection");
        let wider: u32 = self.streams.iter().map(|stream| stream.wider_by).sum();
        assert!(self.unpromised + wider <= self.receive_target, "what streams may have beyond their windows");
        let open = self.streams.iter().filter(|stream| !stream.is_closed()).count();
        assert_eq!(open, self.streams.open as usize, "open streams");
        assert!(self.streams.open <= self.limits.streams_max);
        let queued = self.streams.iter().filter(|stream| stream.is_queued).count();
        assert_eq!(queued, self.line.len(), "streams in the line");
        let turns = self.streams.iter().filter(|stream| stream.has_turn).count();
        assert_eq!(turns, self.turns as usize, "turns");
    }
}

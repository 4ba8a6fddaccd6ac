//! What owners of streams do with a connection: take data and give room back, send heads, data and trailers, reset.
//!
//! Data goes as far as the windows and the bound of what may gather allow. Whoever is held up by what all streams share
//! stands in a line and gets its turn in order, a frame at a time, so that no stream keeps another from sending.

use std::task::Context;

use crate::proto::h2::connection::Connection;
use crate::proto::h2::frame::{self, Code, END_HEADERS, FLAG_FIRST, FrameHead, HEAD_BYTES, kind};
use crate::proto::h2::hpack::{Fields, write_status};
use crate::proto::h2::streams::{Key, Reset};

/// Bytes that gather before streams have to wait for them to be sent.
pub const OUT_BYTES_MAX: usize = 128 * 1024;

/// Places in the line that a connection without streams keeps memory for.
const QUIET_LINE: usize = 16;

/// Data that makes up for one window of a few bytes: a client that opens its window with each frame that it reads may meet
/// small ones on the way of a large body.
const DRIBBLE_PAID_BY: u32 = 1024;

/// What there is of the body of a message.
#[derive(Debug)]
pub enum Received {
    /// Data; its room is given back with [`Connection::release`].
    Data(Vec<u8>),
    /// It is over, behind trailers if there are any.
    End(Option<Box<Fields>>),
    /// More may come.
    Nothing,
}

impl Connection {
    /// Has `cx` woken when something happens to a stream.
    pub fn wait(&mut self, key: Key, cx: &Context<'_>) {
        let waker = &mut self.streams.get(key).waker;
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Whether we have said everything.
    pub fn is_sent(&mut self, key: Key) -> bool {
        self.streams.get(key).is_sent
    }

    /// How a stream was ended early, if it was.
    pub fn reset_of(&mut self, key: Key) -> Option<Reset> {
        self.streams.get(key).reset
    }

    /// Whether the peer has said everything and all of it was taken.
    pub fn is_taken(&mut self, key: Key) -> bool {
        let stream = self.streams.get(key);
        stream.is_received && stream.received.is_empty() && stream.trailers.is_none()
    }

    /// Takes what was received. Of a server that comes before the word that it has reset the stream.
    pub fn take(&mut self, key: Key) -> Result<Received, Reset> {
        let keeps = self.is_to_server();
        let stream = self.streams.get(key);
        if let Some(reset) = stream.reset.filter(|_| !keeps || stream.received.is_empty()) {
            return Err(reset);
        }
        if !stream.received.is_empty() {
            let data = std::mem::take(&mut stream.received);
            stream.taken += u32::try_from(data.len()).unwrap_or(0);
            return Ok(Received::Data(data));
        }
        match stream.is_received {
            true => Ok(Received::End(stream.trailers.take())),
            false => Ok(Received::Nothing),
        }
    }

    /// Takes data as [`take`](Self::take) does, but lets it be read where it is, with whether it is the last. False: there is
    /// none.
    pub fn take_data(&mut self, key: Key, read: &mut impl FnMut(&[u8], bool)) -> bool {
        let keeps = self.is_to_server();
        let stream = self.streams.get(key);
        if stream.received.is_empty() || (stream.reset.is_some() && !keeps) {
            return false;
        }
        read(&stream.received, stream.is_received && stream.trailers.is_none());
        stream.taken += u32::try_from(stream.received.len()).unwrap_or(0);
        stream.received.clear();
        true
    }

    /// Memory for what a stream cannot send yet; goes back with [`keep`](Self::keep).
    pub fn buffer(&self) -> Vec<u8> {
        self.streams.spare.buffer()
    }

    /// Keeps memory for the next who needs some.
    pub fn keep(&self, buffer: Vec<u8>) {
        self.streams.spare.keep(buffer);
    }

    /// The other side has everything that was taken: the peer may send as much again.
    pub fn release(&mut self, key: Key) {
        let bytes = std::mem::take(&mut self.streams.get(key).taken);
        if bytes > 0 {
            self.give_back(bytes);
            if self.is_to_server() {
                self.widen_stream(key, bytes);
            }
            self.give_back_stream(key, bytes);
            self.note_moved(bytes);
        }
    }

    /// Sends the head of a response, whose fields `write` appends. `ends`: nothing follows.
    pub fn send_head(
        &mut self,
        key: Key,
        status: u16,
        ends: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Reset> {
        self.send_section(key, ends, |out| {
            write_status(status, out);
            write(out);
        })
    }

    /// Sends trailers, which end the stream.
    pub fn send_trailers(&mut self, key: Key, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Reset> {
        self.send_section(key, true, write)
    }

    pub(super) fn send_section(
        &mut self,
        key: Key,
        ends: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Reset> {
        let stream = self.streams.get(key);
        if let Some(reset) = stream.refusal() {
            return Err(reset);
        }
        debug_assert!(!stream.is_sent, "nothing follows the end");
        let id = stream.id;
        let at = self.out.len();
        self.out.extend_from_slice(&[0; HEAD_BYTES]);
        self.encoder.begin(&mut self.out);
        write(&mut self.out);
        let len = self.out.len() - at - HEAD_BYTES;
        let flags = u8::from(ends) * FLAG_FIRST;
        if len <= self.payload_max {
            let len = u32::try_from(len).unwrap_or(0);
            let head = FrameHead { len, kind: kind::HEADERS, flags: flags | END_HEADERS, stream: id };
            self.out[at..at + HEAD_BYTES].copy_from_slice(&head.bytes());
        } else {
            self.cut_section(at, flags, id);
        }
        if ends {
            self.end_sent(key);
        }
        Ok(())
    }

    /// Cuts a section that is larger than a frame.
    fn cut_section(&mut self, at: usize, flags: u8, id: u32) {
        let section = self.out.split_off(at + HEAD_BYTES);
        self.out.truncate(at);
        let count = section.len().div_ceil(self.payload_max);
        for (index, piece) in section.chunks(self.payload_max).enumerate() {
            let end = if index + 1 == count { END_HEADERS } else { 0 };
            match index {
                0 => frame::write(kind::HEADERS, flags | end, id, piece, &mut self.out),
                _ => frame::write(kind::CONTINUATION, end, id, piece, &mut self.out),
            }
        }
    }

    fn end_sent(&mut self, key: Key) {
        let stream = self.streams.get(key);
        stream.is_sent = true;
        if stream.is_closed() {
            self.streams.open -= 1;
        }
    }

    /// Sends data as far as there is room; `ends`: nothing follows it. Returns how much went. Whoever has data left is woken
    /// when there is room again.
    pub fn send_data(&mut self, key: Key, data: &[u8], ends: bool) -> Result<usize, Reset> {
        let stream = self.streams.get(key);
        let has_turn = std::mem::take(&mut stream.has_turn);
        self.turns -= u32::from(has_turn);
        if let Some(reset) = stream.refusal() {
            return Err(reset);
        }
        debug_assert!(!stream.is_sent, "nothing follows the end");
        if stream.is_queued {
            return Ok(0);
        }
        let mut sent = 0;
        loop {
            let left = &data[sent..];
            let is_alone = self.line.is_empty() && self.turns == 0;
            let may_send = is_alone || (has_turn && sent == 0) || left.is_empty();
            let room = frame::PAYLOAD_BYTES_MAX * usize::from(self.out.len() < OUT_BYTES_MAX);
            let shared = room.min(usize::try_from(self.send_window).unwrap_or(0));
            let stream = self.streams.get(key);
            let own = usize::try_from(stream.send_window).unwrap_or(0);
            if !left.is_empty() && own == 0 {
                break;
            }
            if !left.is_empty() && (shared == 0 || !may_send) {
                stream.is_queued = true;
                self.line.push_back(key);
                break;
            }
            let n = left.len().min(shared).min(own);
            let is_last = n == left.len();
            if n > 0 || ends {
                let len = u32::try_from(n).unwrap_or(0);
                stream.send_window -= i64::from(len);
                self.send_window -= i64::from(len);
                self.dribbles = self.dribbles.saturating_sub(len / DRIBBLE_PAID_BY);
                let flags = u8::from(is_last && ends) * FLAG_FIRST;
                FrameHead { len, kind: kind::DATA, flags, stream: stream.id }.write(&mut self.out);
                self.out.extend_from_slice(&left[..n]);
            }
            sent += n;
            if is_last {
                if ends {
                    self.end_sent(key);
                }
                break;
            }
        }
        self.grant();
        Ok(sent)
    }

    /// Lets those in the line send for whom there is room.
    pub fn grant(&mut self) {
        let granted = self.turns as usize * frame::PAYLOAD_BYTES_MAX;
        let window = usize::try_from(self.send_window).unwrap_or(0);
        let mut room = OUT_BYTES_MAX.saturating_sub(self.out.len()).min(window).saturating_sub(granted);
        while room > 0
            && let Some(key) = self.line.pop_front()
        {
            let stream = self.streams.get(key);
            (stream.is_queued, stream.has_turn) = (false, true);
            stream.wake();
            self.turns += 1;
            room = room.saturating_sub(frame::PAYLOAD_BYTES_MAX);
        }
    }

    /// Resets a stream, unless it is over.
    pub fn reset(&mut self, key: Key, code: Code) {
        let stream = self.streams.get(key);
        if !stream.is_closed() {
            frame::write_reset(stream.id, code, &mut self.out);
            self.end_stream(key, Reset::Local(code));
        }
    }

    /// Gives a stream up. What the peer still says on it is ignored.
    pub fn forget(&mut self, key: Key) {
        let stream = self.streams.get(key);
        // A server goes on until it hears that nobody wants its response.
        let has_served = stream.is_sent && self.to_server.is_none();
        self.reset(key, if has_served { Code::NO_ERROR } else { Code::CANCEL });
        let stream = self.streams.get(key);
        let (is_queued, has_turn, held) = (stream.is_queued, stream.has_turn, stream.holds());
        self.unpromised += stream.wider_by;
        let stream = self.streams.get(key);
        let (received, head) = (std::mem::take(&mut stream.received), stream.head.take());
        let more_heads = std::mem::take(&mut stream.more_heads);
        self.streams.remove(key);
        for head in head.into_iter().chain(more_heads) {
            self.streams.spare.keep(head.into_memory());
        }
        if is_queued {
            self.line.retain(|waiting| *waiting != key);
        }
        self.turns -= u32::from(has_turn);
        self.give_back(held);
        self.streams.spare.keep(received);
        if self.streams.held == 0 {
            self.line.shrink_to(QUIET_LINE);
        } else if has_turn {
            self.grant();
        }
    }
}

//! Room that a peer is given back: when it is told of it, and how windows of clients grow.

use crate::proto::h2::connection::Connection;
use crate::proto::h2::frame::{self, MAX_31, setting};
use crate::proto::h2::streams::Key;

/// How much windows grow at a time.
const WIDEN_BY: u32 = 4;

/// Room that is given back before half of a window is used up. What was not given back keeps a client from sending: with
/// large windows, which TCP fills on a long path, half of one would be much. Two frames for so many bytes cost nothing.
const TOLD_BYTES_MAX: u32 = 128 * 1024;

/// How much room has to be there until a peer is told of it.
fn told_from(window: u32) -> u32 {
    (window / 2).min(TOLD_BYTES_MAX)
}

impl Connection {
    /// Takes note of bytes that reached the other side, and opens the windows of a client whose uploads move. A long path
    /// needs more on its way than a quiet connection may cost us: TCP doubles what is on its way with every round trip, and
    /// a window four times what has moved twice over stays ahead of that.
    pub(in crate::proto::h2) fn note_moved(&mut self, bytes: u32) {
        if self.is_to_server() {
            // Requests of many clients share it: the body that nobody takes must not fill all of its window.
            return;
        }
        self.moved += u64::from(bytes);
        if self.limits.window < self.limits.window_max && self.moved >= u64::from(self.limits.window / 2) {
            let window = self.limits.window.saturating_mul(WIDEN_BY).min(self.limits.window_max.min(MAX_31));
            self.limits.window = window;
            self.unacknowledged.push_back(window);
            frame::write_settings(&[(setting::INITIAL_WINDOW_SIZE, window)], &mut self.out);
        }
        let target = self.limits.window.min(self.limits.window_max);
        if target > self.receive_target {
            let more = target - self.receive_target;
            self.receive_target = target;
            self.receive_window += i64::from(more);
            frame::write_window_update(0, more, &mut self.out);
        }
    }

    /// Widens the window of a response whose client takes a whole window of it: twice as much, as long as half of what no other
    /// stream was promised suffices. What a stream was promised is there for it, however many others wait for their clients.
    pub(in crate::proto::h2) fn widen_stream(&mut self, key: Key, bytes: u32) {
        let window = self.first_receive_window;
        let stream = self.streams.get(key);
        stream.moved = stream.moved.saturating_add(bytes);
        let has = window + stream.wider_by;
        if stream.is_received || stream.reset.is_some() || stream.moved < has {
            return;
        }
        stream.moved = 0;
        let more = has.min(self.unpromised / 2);
        stream.wider_by += more;
        stream.untold += more;
        self.unpromised -= more;
    }

    /// Gives room on the connection back to the peer, and tells it when that is worth a frame. A server is told too when most of
    /// what it may use is what it does not know of: streams of others may hold the rest for long.
    pub(in crate::proto::h2) fn give_back(&mut self, bytes: u32) {
        self.untold += bytes;
        let is_short = self.is_to_server() && i64::from(self.untold) > self.receive_window;
        if self.untold > 0 && (is_short || self.untold >= told_from(self.receive_target)) {
            let more = std::mem::take(&mut self.untold);
            self.receive_window += i64::from(more);
            frame::write_window_update(0, more, &mut self.out);
        }
    }

    /// Gives room of a stream back to the peer.
    pub(in crate::proto::h2) fn give_back_stream(&mut self, key: Key, bytes: u32) {
        let window = self.first_receive_window.min(self.limits.window);
        let stream = self.streams.get(key);
        let window = window + stream.wider_by;
        stream.untold += bytes;
        if stream.untold == 0
            || stream.is_received
            || stream.reset.is_some()
            || stream.untold < told_from(window)
        {
            return;
        }
        let more = std::mem::take(&mut stream.untold);
        stream.receive_window += i64::from(more);
        frame::write_window_update(stream.id, more, &mut self.out);
    }
}

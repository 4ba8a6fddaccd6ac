//! Frames that steer a connection and carry nothing of a message: settings, windows, pings, resets, goodbyes.

use crate::proto::h2::connection::{Connection, Fault, GOODBYE, Result, check};
use crate::proto::h2::frame::{self, Code, FLAG_FIRST, FrameHead, MAX_31, kind, setting};
use crate::proto::h2::streams::{Gone, Reset};

/// A window of less that was shut before makes more work than it moves.
const DRIBBLE_BYTES: i64 = 256;

/// Priorities of this kind mean nothing any more (RFC 9113 5.3.2), but no stream waits for itself (RFC 7540 5.3.1).
pub(super) fn check_priority(stream: u32, priority: &[u8; 5]) -> Result<()> {
    let [a, b, c, d, _] = *priority;
    check(u32::from_be_bytes([a, b, c, d]) & MAX_31 != stream, Code::PROTOCOL_ERROR)
}

impl Connection {
    /// Follows one of them.
    pub(super) fn control(&mut self, head: FrameHead, payload: &[u8]) -> Result<()> {
        match head.kind {
            kind::PRIORITY => self.priority(head, payload),
            kind::RST_STREAM => self.rst_stream(head, payload),
            kind::SETTINGS => self.settings(head, payload),
            kind::PING => self.ping(head, payload),
            kind::GOAWAY => {
                check(head.stream == 0, Code::PROTOCOL_ERROR)?;
                check(payload.len() >= 8, Code::FRAME_SIZE_ERROR)?;
                self.is_peer_leaving = true;
                self.leave_out(payload.first_chunk().map_or(0, |last| u32::from_be_bytes(*last) & MAX_31));
                Ok(())
            }
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            // A client pushes nothing, and a server that was told not to does not either.
            kind::PUSH_PROMISE => Err(Fault(Code::PROTOCOL_ERROR)),
            _ => Ok(()),
        }
    }

    fn priority(&mut self, head: FrameHead, payload: &[u8]) -> Result<()> {
        check(head.stream != 0, Code::PROTOCOL_ERROR)?;
        if payload.len() != 5 {
            // An error of its stream (RFC 9113 6.3), unless there is none.
            return match self.streams.find(head.stream) {
                Some(key) => {
                    self.stream_error(key, Code::FRAME_SIZE_ERROR);
                    Ok(())
                }
                None => Err(Fault(Code::FRAME_SIZE_ERROR)),
            };
        }
        payload.first_chunk().map_or(Ok(()), |priority| check_priority(head.stream, priority))
    }

    fn rst_stream(&mut self, head: FrameHead, payload: &[u8]) -> Result<()> {
        check(head.stream != 0, Code::PROTOCOL_ERROR)?;
        let code = payload.first_chunk::<4>().filter(|_| payload.len() == 4);
        let code = code.ok_or(Fault(Code::FRAME_SIZE_ERROR))?;
        let Some(key) = self.streams.find(head.stream) else {
            let gone = self.streams.gone(head.stream);
            return check(gone != Gone::Idle && gone != Gone::Skipped, Code::PROTOCOL_ERROR);
        };
        let code = Code(u32::from_be_bytes(*code));
        if !self.ends_early(key, code) {
            self.end_stream(key, Reset::Remote(code));
        }
        Ok(())
    }

    fn settings(&mut self, head: FrameHead, payload: &[u8]) -> Result<()> {
        check(head.stream == 0, Code::PROTOCOL_ERROR)?;
        if head.flags & FLAG_FIRST != 0 {
            check(payload.is_empty(), Code::FRAME_SIZE_ERROR)?;
            if let Some(window) = self.unacknowledged.pop_front() {
                let change = i64::from(window) - i64::from(self.first_receive_window);
                self.first_receive_window = window;
                self.streams.iter().for_each(|stream| stream.receive_window += change);
            }
            return Ok(());
        }
        let (settings, rest) = payload.as_chunks::<6>();
        check(rest.is_empty(), Code::FRAME_SIZE_ERROR)?;
        for [n0, n1, v0, v1, v2, v3] in settings {
            let value = u32::from_be_bytes([*v0, *v1, *v2, *v3]);
            self.setting(u16::from_be_bytes([*n0, *n1]), value)?;
        }
        self.note_settled();
        frame::write(kind::SETTINGS, FLAG_FIRST, 0, &[], &mut self.out);
        Ok(())
    }

    fn setting(&mut self, name: u16, value: u32) -> Result<()> {
        match name {
            setting::HEADER_TABLE_SIZE => self.encoder.resize(),
            // Servers never say that they take pushes (RFC 9113 6.5.2).
            setting::ENABLE_PUSH => check(value <= u32::from(!self.is_to_server()), Code::PROTOCOL_ERROR)?,
            setting::MAX_CONCURRENT_STREAMS => self.note_streams_max(value),
            setting::INITIAL_WINDOW_SIZE => {
                check(value <= MAX_31, Code::FLOW_CONTROL_ERROR)?;
                let change = i64::from(value) - self.first_send_window;
                self.first_send_window = i64::from(value);
                let mut is_good = true;
                for stream in self.streams.iter() {
                    stream.send_window += change;
                    is_good &= stream.send_window <= i64::from(MAX_31);
                    if change > 0 {
                        stream.wake();
                    }
                }
                check(is_good, Code::FLOW_CONTROL_ERROR)?;
            }
            setting::MAX_FRAME_SIZE => {
                let is_good = (16_384..1 << 24).contains(&value);
                check(is_good, Code::PROTOCOL_ERROR)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn ping(&mut self, head: FrameHead, payload: &[u8]) -> Result<()> {
        check(head.stream == 0, Code::PROTOCOL_ERROR)?;
        check(payload.len() == 8, Code::FRAME_SIZE_ERROR)?;
        if head.flags & FLAG_FIRST == 0 {
            frame::write(kind::PING, FLAG_FIRST, 0, payload, &mut self.out);
        } else if payload == GOODBYE && self.goaway == Some(MAX_31) {
            self.goaway = Some(self.streams.last);
            frame::write_goaway(self.streams.last, Code::NO_ERROR, &mut self.out);
        }
        Ok(())
    }

    fn window_update(&mut self, head: FrameHead, payload: &[u8]) -> Result<()> {
        let more = payload.first_chunk::<4>().filter(|_| payload.len() == 4);
        let more = more.ok_or(Fault(Code::FRAME_SIZE_ERROR))?;
        let more = i64::from(u32::from_be_bytes(*more) & MAX_31);
        if head.stream == 0 {
            check(more > 0, Code::PROTOCOL_ERROR)?;
            self.send_window += more;
            self.dribbles += u32::from(self.send_window < DRIBBLE_BYTES);
            check(self.send_window <= i64::from(MAX_31), Code::FLOW_CONTROL_ERROR)?;
            self.grant();
            return Ok(());
        }
        let Some(key) = self.streams.find(head.stream) else {
            let gone = self.streams.gone(head.stream);
            return check(gone != Gone::Idle && gone != Gone::Skipped, Code::PROTOCOL_ERROR);
        };
        let stream = self.streams.get(key);
        if stream.is_closed() {
            return Ok(());
        }
        if more == 0 {
            self.stream_error(key, Code::PROTOCOL_ERROR);
        } else if stream.send_window + more > i64::from(MAX_31) {
            self.stream_error(key, Code::FLOW_CONTROL_ERROR);
        } else {
            stream.send_window += more;
            let is_dribble = stream.send_window < DRIBBLE_BYTES;
            stream.wake();
            self.dribbles += u32::from(is_dribble);
        }
        Ok(())
    }
}

//! Frames of HTTP/2 on the wire: their heads, their types, and those that are written whole. RFC 9113 sections 4 and 6.

/// Bytes in front of every frame.
pub const HEAD_BYTES: usize = 9;

/// The largest payload that we take and send: what a peer may send that was told nothing else (RFC 9113 4.2).
pub const PAYLOAD_BYTES_MAX: usize = 16_384;

/// The largest window, and the largest number of a stream.
pub const MAX_31: u32 = (1 << 31) - 1;

/// The head of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHead {
    /// Bytes of its payload.
    pub len: u32,
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 for the connection.
    pub stream: u32,
}

/// Types of frames.
pub mod kind {
    /// DATA
    pub const DATA: u8 = 0;
    /// HEADERS
    pub const HEADERS: u8 = 1;
    /// PRIORITY
    pub const PRIORITY: u8 = 2;
    /// RST_STREAM
    pub const RST_STREAM: u8 = 3;
    /// SETTINGS
    pub const SETTINGS: u8 = 4;
    /// PUSH_PROMISE
    pub const PUSH_PROMISE: u8 = 5;
    /// PING
    pub const PING: u8 = 6;
    /// GOAWAY
    pub const GOAWAY: u8 = 7;
    /// WINDOW_UPDATE
    pub const WINDOW_UPDATE: u8 = 8;
    /// CONTINUATION
    pub const CONTINUATION: u8 = 9;
}

/// END_STREAM in DATA and HEADERS, ACK in SETTINGS and PING.
pub const FLAG_FIRST: u8 = 1;
/// The section is complete.
pub const END_HEADERS: u8 = 4;
/// The payload is padded.
pub const PADDED: u8 = 8;
/// HEADERS say a priority.
pub const HAS_PRIORITY: u8 = 0x20;

/// Settings that are understood (RFC 9113 6.5.2, RFC 8441 3).
pub mod setting {
    /// SETTINGS_HEADER_TABLE_SIZE
    pub const HEADER_TABLE_SIZE: u16 = 1;
    /// SETTINGS_ENABLE_PUSH
    pub const ENABLE_PUSH: u16 = 2;
    /// SETTINGS_MAX_CONCURRENT_STREAMS
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    /// SETTINGS_INITIAL_WINDOW_SIZE
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    /// SETTINGS_MAX_FRAME_SIZE
    pub const MAX_FRAME_SIZE: u16 = 5;
    /// SETTINGS_MAX_HEADER_LIST_SIZE
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    /// SETTINGS_ENABLE_CONNECT_PROTOCOL
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// Error codes (RFC 9113 7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code(pub u32);

impl Code {
    /// NO_ERROR
    pub const NO_ERROR: Code = Code(0);
    /// PROTOCOL_ERROR
    pub const PROTOCOL_ERROR: Code = Code(1);
    /// INTERNAL_ERROR
    pub const INTERNAL_ERROR: Code = Code(2);
    /// FLOW_CONTROL_ERROR
    pub const FLOW_CONTROL_ERROR: Code = Code(3);
    /// STREAM_CLOSED
    pub const STREAM_CLOSED: Code = Code(5);
    /// FRAME_SIZE_ERROR
    pub const FRAME_SIZE_ERROR: Code = Code(6);
    /// REFUSED_STREAM
    pub const REFUSED_STREAM: Code = Code(7);
    /// CANCEL
    pub const CANCEL: Code = Code(8);
    /// COMPRESSION_ERROR
    pub const COMPRESSION_ERROR: Code = Code(9);
    /// ENHANCE_YOUR_CALM
    pub const ENHANCE_YOUR_CALM: Code = Code(11);
}

impl FrameHead {
    /// The head at the front of `bytes`, if it is complete.
    #[inline]
    pub fn read(bytes: &[u8]) -> Option<FrameHead> {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *bytes.first_chunk::<HEAD_BYTES>()?;
        let (len, stream) = (u32::from_be_bytes([0, a, b, c]), u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]));
        Some(FrameHead { len, kind, flags, stream })
    }

    /// Its bytes.
    #[inline]
    pub fn bytes(self) -> [u8; HEAD_BYTES] {
        let [_, a, b, c] = self.len.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, s0, s1, s2, s3]
    }

    /// Appends it.
    #[inline]
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes());
    }
}

/// Appends a frame with a short payload.
pub fn write(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(payload.len() <= PAYLOAD_BYTES_MAX);
    let len = u32::try_from(payload.len()).unwrap_or(0);
    FrameHead { len, kind, flags, stream }.write(out);
    out.extend_from_slice(payload);
}

/// Appends SETTINGS.
pub fn write_settings(settings: &[(u16, u32)], out: &mut Vec<u8>) {
    let len = u32::try_from(settings.len() * 6).unwrap_or(0);
    FrameHead { len, kind: kind::SETTINGS, flags: 0, stream: 0 }.write(out);
    for (name, value) in settings {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends WINDOW_UPDATE.
pub fn write_window_update(stream: u32, more: u32, out: &mut Vec<u8>) {
    write(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes(), out);
}

/// Appends RST_STREAM.
pub fn write_reset(stream: u32, code: Code, out: &mut Vec<u8>) {
    write(kind::RST_STREAM, 0, stream, &code.0.to_be_bytes(), out);
}

/// Appends GOAWAY.
pub fn write_goaway(last: u32, code: Code, out: &mut Vec<u8>) {
    let [a, b, c, d] = last.to_be_bytes();
    let [e, f, g, h] = code.0.to_be_bytes();
    write(kind::GOAWAY, 0, 0, &[a, b, c, d, e, f, g, h], out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_were_written() {
        for head in [
            FrameHead { len: 0, kind: kind::SETTINGS, flags: 0, stream: 0 },
            FrameHead { len: (1 << 24) - 1, kind: 0xbe, flags: 0xff, stream: MAX_31 },
        ] {
            let mut out = Vec::new();
            head.write(&mut out);
            assert_eq!(FrameHead::read(&out), Some(head));
            assert_eq!(FrameHead::read(&out[..8]), None);
        }
        // The reserved bit is no part of the number.
        assert_eq!(FrameHead::read(&[0, 0, 0, 0, 0, 0x80, 0, 0, 1]).map(|head| head.stream), Some(1));
    }

    #[test]
    fn whole_frames_are_written() {
        let mut out = Vec::new();
        write_settings(&[(setting::ENABLE_PUSH, 0)], &mut out);
        assert_eq!(out, [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
        out.clear();
        write_goaway(5, Code::ENHANCE_YOUR_CALM, &mut out);
        assert_eq!(out, [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 11]);
        out.clear();
        write_window_update(3, 9, &mut out);
        write_reset(3, Code::CANCEL, &mut out);
        assert_eq!(out, [0, 0, 4, 8, 0, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 4, 3, 0, 0, 0, 0, 3, 0, 0, 0, 8]);
    }
}

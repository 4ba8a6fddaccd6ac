//! Following the frames of an HTTP/2 connection without decoding them: what kinds of frames a peer sends, for limits
//! against floods. Keeps nine bytes; never refuses anything. RFC 9113 4.1.

use crate::proto::http::H2_PREFACE;

/// Bytes in front of every frame.
const HEAD_BYTES: usize = 9;

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

/// Types of frames that are counted.
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
    /// PING
    pub const PING: u8 = 6;
    /// WINDOW_UPDATE
    pub const WINDOW_UPDATE: u8 = 8;
    /// CONTINUATION
    pub const CONTINUATION: u8 = 9;
}

/// END_STREAM in DATA, ACK in SETTINGS and PING.
pub const FLAG_FIRST: u8 = 1;

/// Follows one direction of a connection.
#[derive(Clone, Debug)]
pub struct FrameWatch {
    head: [u8; HEAD_BYTES],
    have: usize,
    /// Bytes that are no frame heads: the rest of the payload, or of the preface.
    skip: usize,
}

impl FrameWatch {
    /// A watch at the first byte that a client sends.
    pub fn of_client() -> FrameWatch {
        FrameWatch { head: [0; HEAD_BYTES], have: 0, skip: H2_PREFACE.len() }
    }

    /// Follows `bytes`, and tells of each frame as soon as its head is complete.
    pub fn see(&mut self, mut bytes: &[u8], mut on: impl FnMut(FrameHead)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let taken = (HEAD_BYTES - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < HEAD_BYTES {
                return;
            }
            self.have = 0;
            let [a, b, c, kind, flags, s0, s1, s2, s3] = self.head;
            let len = u32::from_be_bytes([0, a, b, c]);
            self.skip = len as usize;
            on(FrameHead { len, kind, flags, stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_however_the_bytes_are_cut() {
        let mut bytes = H2_PREFACE.to_vec();
        bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        bytes.extend_from_slice(&[0, 1, 0, 0, 1, 0x80, 0, 0, 5]);
        bytes.extend_from_slice(&[7; 256]);
        bytes.extend_from_slice(&[0, 0, 4, 3, 0, 0, 0, 0, 5, 0, 0, 0, 8]);
        let frame = |len, kind, flags, stream| FrameHead { len, kind, flags, stream };
        let wanted = [
            frame(0, kind::SETTINGS, 0, 0),
            frame(8, kind::PING, FLAG_FIRST, 0),
            frame(256, kind::DATA, FLAG_FIRST, 5),
            frame(4, kind::RST_STREAM, 0, 5),
        ];
        for cut in 1..bytes.len() {
            let (mut watch, mut seen) = (FrameWatch::of_client(), Vec::new());
            bytes.chunks(cut).for_each(|piece| watch.see(piece, |head| seen.push(head)));
            assert_eq!(seen, wanted, "pieces of {cut}");
        }
    }
}

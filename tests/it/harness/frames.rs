//! HTTP/2 frame by frame, written without the code under test: a peer sends exactly the frames that a test says, and reads
//! those that come. Heads are written as literals without Huffman codes and without the dynamic table.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::Shardgate;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Error codes (RFC 9113 7).
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const COMPRESSION_ERROR: u32 = 9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn ends(&self) -> bool {
        self.flags & END_STREAM != 0 && (self.kind == DATA || self.kind == HEADERS)
    }

    /// The error code of RST_STREAM and GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }

    /// The status of a response head, which is its first field.
    pub(crate) fn status(&self) -> u16 {
        assert_eq!(self.kind, HEADERS, "{self:?}");
        // The table may be said to be empty first (RFC 7541 6.3).
        let update = usize::from(self.payload[0] == 0x20);
        let block = &self.payload[update..];
        match block[0] {
            0x88 => 200,
            0x89 => 204,
            0x8a => 206,
            0x8b => 304,
            0x8c => 400,
            0x8d => 404,
            0x8e => 500,
            0x08 | 0x18 | 0x48 => {
                let len = usize::from(block[1] & 0x7f);
                let text = &block[2..2 + len];
                if block[1] & 0x80 == 0 { digits(text) } else { huffman_digits(text) }
            }
            other => panic!("no status first: {other:#x}"),
        }
    }
}

fn digits(text: &[u8]) -> u16 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).expect("a number")
}

/// Three digits in the code of RFC 7541 B: 0 to 2 have five bits, 3 to 9 six.
fn huffman_digits(text: &[u8]) -> u16 {
    let bits: String = text.iter().map(|byte| format!("{byte:08b}")).collect();
    let (mut rest, mut number) = (&bits[..], 0);
    for _ in 0..3 {
        let five = u16::from_str_radix(&rest[..5], 2).expect("bits");
        let (digit, len) = if five < 3 {
            (five, 5)
        } else {
            (u16::from_str_radix(&rest[..6], 2).expect("bits") - 25 + 3, 6)
        };
        number = number * 10 + digit;
        rest = &rest[len..];
    }
    number
}

/// One end of a connection.
pub(crate) struct Frames {
    pub(crate) stream: TcpStream,
}

impl Frames {
    /// A client that has sent the preface and empty settings, and seen those of the proxy.
    pub(crate) fn client(gate: &Shardgate, frontend: &str) -> Frames {
        Frames::over(gate.connect(frontend))
    }

    /// The same over any connection.
    pub(crate) fn over(stream: TcpStream) -> Frames {
        let mut frames = Frames { stream };
        frames.bytes(PREFACE);
        // No dynamic table, so that each head is told by its own bytes.
        frames.send(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
        let settings = frames.read().expect("settings");
        assert_eq!((settings.kind, settings.flags), (SETTINGS, 0));
        frames.send(SETTINGS, ACK, 0, &[]);
        frames
    }

    /// A client that has said nothing.
    pub(crate) fn raw(gate: &Shardgate, frontend: &str) -> Frames {
        Frames { stream: gate.connect(frontend) }
    }

    /// A server that has read the preface and the settings of the proxy, and said `settings` (name, value).
    pub(crate) fn server(stream: TcpStream, settings: &[(u16, u32)]) -> Frames {
        let mut frames = Frames { stream };
        let mut preface = [0; PREFACE.len()];
        frames.stream.read_exact(&mut preface).expect("a preface");
        assert_eq!(preface, PREFACE);
        let theirs = frames.read().expect("settings");
        assert_eq!((theirs.kind, theirs.flags), (SETTINGS, 0));
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        frames.send(SETTINGS, 0, 0, &payload);
        frames.send(SETTINGS, ACK, 0, &[]);
        frames
    }

    /// The stream of the next request, whose body is read too; `None` at the end.
    pub(crate) fn request(&mut self) -> Option<(u32, Vec<u8>)> {
        let (mut stream, mut body) = (0, Vec::new());
        loop {
            let frame = self.next()?;
            match frame.kind {
                HEADERS => stream = frame.stream,
                DATA => body.extend_from_slice(&frame.payload),
                _ => continue,
            }
            if frame.ends() {
                return Some((stream, body));
            }
        }
    }

    /// Answers a stream with a head and a body.
    pub(crate) fn answer(&mut self, stream: u32, fields: &[(&str, &str)], body: &[u8]) {
        self.send(HEADERS, END_HEADERS, stream, &block(fields));
        self.send(DATA, END_STREAM, stream, body);
    }

    pub(crate) fn reset(&mut self, stream: u32, code: u32) {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes());
    }

    pub(crate) fn goaway(&mut self, last: u32, code: u32) {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        // Whoever was refused may have closed already; what it said before is read afterwards.
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.bytes(&frame(kind, flags, stream, payload));
    }

    /// The next frame; `None` at the end.
    pub(crate) fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame that is not SETTINGS or WINDOW_UPDATE.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.read()?;
            if !matches!(frame.kind, SETTINGS | WINDOW_UPDATE) {
                return Some(frame);
            }
        }
    }

    /// Opens a stream with a request without body.
    pub(crate) fn get(&mut self, stream: u32, path: &str) {
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, &request("GET", path, &[]));
    }

    /// Opens a stream with a request whose body follows.
    pub(crate) fn post(&mut self, stream: u32, path: &str) {
        self.send(HEADERS, END_HEADERS, stream, &request("POST", path, &[]));
    }

    /// Status and body of the response to a stream; other streams' frames must not come between.
    pub(crate) fn response(&mut self, stream: u32) -> (u16, Vec<u8>) {
        let head = self.next().expect("a head");
        assert_eq!((head.kind, head.stream), (HEADERS, stream), "{head:?}");
        let status = head.status();
        let mut body = Vec::new();
        let mut last = head.ends();
        while !last {
            let frame = self.next().expect("more of the body");
            assert_eq!(frame.stream, stream, "{frame:?}");
            last = frame.ends();
            if frame.kind == DATA {
                body.extend_from_slice(&frame.payload);
            } else {
                assert_eq!(frame.kind, HEADERS, "{frame:?}");
            }
        }
        (status, body)
    }

    /// The proxy ends the stream with this code, or the connection, which is allowed always (RFC 9113 5.4); what it sent of
    /// a response before is skipped. True: the connection goes on.
    pub(crate) fn expect_reset(&mut self, stream: u32, code: u32) -> bool {
        let ended = self.ended();
        assert!(ended.kind == GOAWAY || ended.stream == stream, "{ended:?}");
        assert_eq!(ended.code(), code, "{ended:?}");
        ended.kind == RST_STREAM
    }

    /// The frame that ends a stream or the connection.
    fn ended(&mut self) -> Frame {
        loop {
            let frame = self.next().expect("an error");
            if frame.kind == RST_STREAM || (frame.kind == GOAWAY && frame.code() != NO_ERROR) {
                return frame;
            }
        }
    }

    /// The proxy ends the connection with this code.
    pub(crate) fn expect_goaway(&mut self, code: u32) {
        let ended = self.ended();
        assert_eq!((ended.kind, ended.code()), (GOAWAY, code), "{ended:?}");
        assert!(self.is_closed(), "the connection ends behind GOAWAY");
    }

    /// Whether nothing but frames that were on their way comes until the end.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(e) => e.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
    let mut bytes = vec![len[1], len[2], len[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        // RFC 7541 6.2.2: literal without indexing, new name.
        out.push(0);
        for text in [name, value] {
            integer(text.len(), &mut out);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// RFC 7541 5.1 with a prefix of seven bits.
fn integer(mut number: usize, out: &mut Vec<u8>) {
    if number < 127 {
        out.push(u8::try_from(number).expect("below 127"));
        return;
    }
    out.push(127);
    number -= 127;
    while number >= 128 {
        out.push(u8::try_from(number % 128 + 128).expect("a byte"));
        number /= 128;
    }
    out.push(u8::try_from(number).expect("below 128"));
}

/// The block of a request.
pub(crate) fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut fields =
        vec![(":method", method), (":scheme", "http"), (":authority", "a.test"), (":path", path)];
    fields.extend_from_slice(more);
    block(&fields)
}

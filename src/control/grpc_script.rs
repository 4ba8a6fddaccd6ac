//! The dialogue of a gRPC health check (`grpc-check`): one call of `grpc.health.v1.Health/Check` over HTTP/2, and its answer
//! judged. Pure, like `script`. <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>

use crate::base::limits::CHECK_BYTES_MAX;
use crate::control::dialogue::{Found, Want};
use crate::policy::health::CheckStatus;
use crate::proto::h2::frame::{
    self, END_HEADERS, FLAG_FIRST, FrameHead, HAS_PRIORITY, HEAD_BYTES, PADDED, PAYLOAD_BYTES_MAX, kind,
    setting,
};
use crate::proto::h2::hpack::{Decoder, Fields, write_field};
use crate::proto::http::H2_PREFACE;

/// Bytes of a field section that is decoded.
const FIELDS_BYTES_MAX: usize = 16 * 1024;

/// A check with its call encoded.
pub(super) struct Script {
    call: Vec<u8>,
}

/// One dialogue.
pub(super) struct Dialogue<'a> {
    script: &'a Script,
    is_sent: bool,
    input: Vec<u8>,
    /// Answers to frames of the server.
    replies: Vec<u8>,
    decoder: Decoder,
    /// A section of which the rest is missing.
    section: Option<(bool, Vec<u8>)>,
    answer: Answer,
    found: Option<Found>,
}

/// What the server has said.
#[derive(Default)]
struct Answer {
    status: Option<u16>,
    grpc_status: Option<u32>,
    grpc_message: String,
    message: Vec<u8>,
}

impl Script {
    /// The call that asks for a service; the empty name is the server as a whole.
    pub(super) fn new(service: &str, authority: &str) -> Script {
        let mut call = H2_PREFACE.to_vec();
        frame::write_settings(&[(setting::ENABLE_PUSH, 0)], &mut call);
        // POST and http; the other two are literals with names of the static table.
        let mut section = vec![0x83, 0x86];
        write_field(None, b":path", b"/grpc.health.v1.Health/Check", &mut section);
        write_field(None, b":authority", authority.as_bytes(), &mut section);
        write_field(None, b"te", b"trailers", &mut section);
        write_field(None, b"content-type", b"application/grpc", &mut section);
        write_field(None, b"user-agent", b"shardgate-check", &mut section);
        frame::write(kind::HEADERS, END_HEADERS, 1, &section, &mut call);
        // Not compressed, the length, and field 1 of HealthCheckRequest.
        let mut field = Vec::new();
        if !service.is_empty() {
            field.push(0x0a);
            write_varint(service.len(), &mut field);
            field.extend_from_slice(service.as_bytes());
        }
        let mut message = vec![0];
        message.extend_from_slice(&u32::try_from(field.len()).unwrap_or(0).to_be_bytes());
        message.extend_from_slice(&field);
        frame::write(kind::DATA, FLAG_FIRST, 1, &message, &mut call);
        Script { call }
    }

    /// Starts a dialogue.
    pub(super) fn start(&self) -> Dialogue<'_> {
        Dialogue {
            script: self,
            is_sent: false,
            input: Vec::new(),
            replies: Vec::new(),
            decoder: Decoder::default(),
            section: None,
            answer: Answer::default(),
            found: None,
        }
    }
}

fn write_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(0x80 | u8::try_from(value & 0x7f).unwrap_or(0));
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

impl Dialogue<'_> {
    /// What to do next.
    pub(super) fn next(&mut self) -> Want {
        if !std::mem::replace(&mut self.is_sent, true) {
            return Want::Send(self.script.call.clone());
        }
        if let Some(found) = &self.found {
            return Want::Done(found.clone());
        }
        if !self.replies.is_empty() {
            return Want::Send(std::mem::take(&mut self.replies));
        }
        Want::Receive
    }

    /// Bytes from the server.
    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while self.found.is_none()
            && let Some(head) = FrameHead::read(&self.input)
        {
            let len = head.len as usize;
            if len > PAYLOAD_BYTES_MAX {
                self.broken("the server does not speak HTTP/2");
                return;
            }
            let Some(payload) = self.input.get(HEAD_BYTES..HEAD_BYTES + len) else { return };
            let payload = payload.to_vec();
            self.input.drain(..HEAD_BYTES + len);
            self.handle_frame(head, &payload);
        }
    }

    /// The server has closed.
    pub(super) fn handle_end(&mut self) {
        self.broken("the server closed without an answer");
    }

    /// For the words of a timeout.
    pub(super) fn place(&self) -> String {
        "at the answer to the gRPC health check".to_owned()
    }

    fn broken(&mut self, why: &str) {
        self.found
            .get_or_insert(Found { code: self.answer.status, ..Found::new(CheckStatus::L7Response, why) });
    }

    fn handle_frame(&mut self, head: FrameHead, payload: &[u8]) {
        let is_ack = head.flags & FLAG_FIRST != 0;
        match head.kind {
            kind::SETTINGS if !is_ack => frame::write(kind::SETTINGS, FLAG_FIRST, 0, &[], &mut self.replies),
            kind::PING if !is_ack => frame::write(kind::PING, FLAG_FIRST, 0, payload, &mut self.replies),
            kind::GOAWAY => {
                let code = payload
                    .get(4..8)
                    .map_or(0, |code| u32::from_be_bytes([code[0], code[1], code[2], code[3]]));
                // One that is polite lets the call end.
                if code != 0 {
                    self.broken(&format!("the server ended the connection with error {code} of HTTP/2"));
                }
            }
            kind::RST_STREAM if head.stream == 1 => self.broken("the server reset the call"),
            kind::DATA if head.stream == 1 => self.handle_data(head, payload),
            kind::HEADERS | kind::CONTINUATION if head.stream == 1 => self.handle_section(head, payload),
            _ => {}
        }
    }

    fn handle_data(&mut self, head: FrameHead, payload: &[u8]) {
        let Some(data) = unpadded(head, payload) else { return self.broken("a frame is malformed") };
        if self.answer.message.len() + data.len() > CHECK_BYTES_MAX {
            return self.broken("the answer is too long");
        }
        self.answer.message.extend_from_slice(data);
        if head.flags & FLAG_FIRST != 0 {
            self.broken("the answer has no grpc-status");
        }
    }

    fn handle_section(&mut self, head: FrameHead, payload: &[u8]) {
        let (ends, mut section) = match self.section.take() {
            Some(begun) if head.kind == kind::CONTINUATION => begun,
            _ => (head.flags & FLAG_FIRST != 0, Vec::new()),
        };
        let piece = if head.kind == kind::HEADERS { unpadded(head, payload) } else { Some(payload) };
        let Some(piece) = piece else { return self.broken("a frame is malformed") };
        section.extend_from_slice(piece);
        if section.len() > FIELDS_BYTES_MAX {
            return self.broken("the answer is too long");
        }
        if head.flags & END_HEADERS == 0 {
            self.section = Some((ends, section));
            return;
        }
        let mut fields = Fields::default();
        if self.decoder.decode(&section, FIELDS_BYTES_MAX, &mut fields).is_err() {
            return self.broken("the head of the answer does not decode");
        }
        for (name, value) in &fields {
            let text = String::from_utf8_lossy(value);
            match name {
                b":status" => self.answer.status = text.parse().ok(),
                b"grpc-status" => self.answer.grpc_status = text.parse().ok(),
                b"grpc-message" => self.answer.grpc_message = text.into_owned(),
                _ => {}
            }
        }
        if ends {
            self.found = Some(self.answer.judge());
        }
    }
}

/// The payload of DATA or HEADERS without padding and priority.
fn unpadded(head: FrameHead, mut payload: &[u8]) -> Option<&[u8]> {
    if head.flags & PADDED != 0 {
        let (len, rest) = payload.split_first()?;
        payload = rest.get(..rest.len().checked_sub(usize::from(*len))?)?;
    }
    if head.kind == kind::HEADERS && head.flags & HAS_PRIORITY != 0 {
        payload = payload.get(5..)?;
    }
    Some(payload)
}

impl Answer {
    /// What a whole answer says.
    fn judge(&self) -> Found {
        let found = |status, info: String| Found { status, info, code: self.status };
        if self.status != Some(200) {
            return found(CheckStatus::L7Status, "the answer is none of gRPC".to_owned());
        }
        match self.grpc_status {
            None => return found(CheckStatus::L7Response, "the answer has no grpc-status".to_owned()),
            Some(0) => {}
            Some(code) => {
                let name = STATUS_NAMES.get(code as usize).copied().unwrap_or("unknown status");
                let colon = if self.grpc_message.is_empty() { "" } else { ": " };
                return found(
                    CheckStatus::L7Status,
                    format!("grpc-status {code} {name}{colon}{}", self.grpc_message),
                );
            }
        }
        match self.serving() {
            Some(1) => found(CheckStatus::L7Ok, "SERVING".to_owned()),
            Some(2) => found(CheckStatus::L7Status, "NOT_SERVING".to_owned()),
            Some(3) => found(CheckStatus::L7Status, "SERVICE_UNKNOWN".to_owned()),
            Some(_) => found(CheckStatus::L7Status, "UNKNOWN".to_owned()),
            None => found(CheckStatus::L7Response, "the answer is no HealthCheckResponse".to_owned()),
        }
    }

    /// Field 1 of HealthCheckResponse, a small number; 0 is not written.
    fn serving(&self) -> Option<u8> {
        let (prefix, message) = self.message.split_first_chunk::<5>()?;
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if prefix[0] != 0 || len != message.len() {
            return None;
        }
        match message {
            [] => Some(0),
            [0x08, status, ..] if status & 0x80 == 0 => Some(*status),
            _ => None,
        }
    }
}

/// The codes of gRPC.
const STATUS_NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::h2::hpack::write_status;

    fn answered(
        status: u16,
        fields: &[(&str, &str)],
        message: Option<&[u8]>,
        trailers: &[(&str, &str)],
    ) -> Found {
        let mut bytes = Vec::new();
        frame::write_settings(&[], &mut bytes);
        frame::write(kind::PING, 0, 0, b"01234567", &mut bytes);
        let mut section = Vec::new();
        write_status(status, &mut section);
        fields.iter().for_each(|(n, v)| write_field(None, n.as_bytes(), v.as_bytes(), &mut section));
        let ends = if message.is_none() { FLAG_FIRST } else { 0 };
        frame::write(kind::HEADERS, END_HEADERS | ends, 1, &section, &mut bytes);
        if let Some(message) = message {
            frame::write(kind::DATA, 0, 1, message, &mut bytes);
            let mut section = Vec::new();
            trailers.iter().for_each(|(n, v)| write_field(None, n.as_bytes(), v.as_bytes(), &mut section));
            frame::write(kind::HEADERS, FLAG_FIRST, 1, &section[..1], &mut bytes);
            frame::write(kind::CONTINUATION, END_HEADERS, 1, &section[1..], &mut bytes);
        }
        let script = Script::new("a.B", "127.0.0.1:1");
        for cut in [1, 10, bytes.len()] {
            let mut dialogue = script.start();
            assert!(matches!(dialogue.next(), Want::Send(call) if call.starts_with(H2_PREFACE)));
            for piece in bytes.chunks(cut) {
                dialogue.handle_bytes(piece);
                while let Want::Send(reply) = dialogue.next() {
                    assert!(!reply.is_empty());
                }
            }
            match dialogue.next() {
                Want::Done(found) if cut == bytes.len() => return found,
                Want::Done(_) => {}
                other => panic!("{other:?}"),
            }
        }
        unreachable!("the last round returns")
    }

    #[test]
    fn answers_are_judged() {
        let ok = [("grpc-status", "0")];
        let message = |status: u8| [0, 0, 0, 0, 2, 8, status];
        for (found, status, info) in [
            (answered(200, &[], Some(&message(1)), &ok), CheckStatus::L7Ok, "SERVING"),
            (answered(200, &[], Some(&message(2)), &ok), CheckStatus::L7Status, "NOT_SERVING"),
            (answered(200, &[], Some(&[0, 0, 0, 0, 0]), &ok), CheckStatus::L7Status, "UNKNOWN"),
            (
                answered(200, &[("grpc-status", "5"), ("grpc-message", "no")], None, &[]),
                CheckStatus::L7Status,
                "grpc-status 5 NOT_FOUND: no",
            ),
            (answered(404, &[], None, &[]), CheckStatus::L7Status, "the answer is none of gRPC"),
            (answered(200, &[], None, &[]), CheckStatus::L7Response, "the answer has no grpc-status"),
            (
                answered(200, &[], Some(b"junk"), &ok),
                CheckStatus::L7Response,
                "the answer is no HealthCheckResponse",
            ),
        ] {
            assert_eq!((found.status, found.info.as_str()), (status, info));
        }
    }

    #[test]
    fn what_is_not_http2_fails() {
        let script = Script::new("", "a");
        let mut dialogue = script.start();
        dialogue.next();
        dialogue.handle_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        assert!(matches!(dialogue.next(), Want::Done(found) if found.status == CheckStatus::L7Response));
        let mut dialogue = script.start();
        dialogue.next();
        dialogue.handle_end();
        assert!(matches!(dialogue.next(), Want::Done(found) if found.status == CheckStatus::L7Response));
    }
}

//! Variables of log lines as text, the way HAProxy writes them, with flags and escaped. `steps` calls it, which has the short ones
//! itself, and `format` for what goes into an object.

use std::io::Write;
use std::net::IpAddr;

use crate::base::net::Addr;
use crate::policy::format::Flags;
use crate::policy::log::escape::Map;
use crate::policy::log::pen::{NO_SERVER, ipv4_to, number_to};
use crate::policy::log::{Captured, Dates, Field, Line, Memory, Part, Timers, date};
use crate::policy::sample::{Facts, Value};

pub(super) fn part<F: Facts>(
    part: &Part,
    line: &Line<'_>,
    facts: &F,
    memory: &mut Memory<'_>,
    out: &mut Vec<u8>,
) {
    match part {
        Part::Field(field, flags, _) => {
            Plain { line, flags: *flags, raw: false, dates: memory.dates, out }.field(*field);
        }
        Part::Text(text) => out.extend_from_slice(text),
        Part::Space => {}
        Part::Value(expr, flags, _) => match expr.eval(facts, memory.scratch).value {
            Some(value) => sample(&value, *flags, out),
            None => text(None, *flags, Map::Value, false, out),
        },
        Part::Kept(slot, _, flags, _) => text(line.kept.get(*slot), *flags, Map::Value, false, out),
    }
}

/// A plus sign stands before it.
pub(super) fn is_marked(field: Field, line: &Line<'_>) -> bool {
    match field {
        Field::BytesOut | Field::Active | Field::Total | Field::User => line.is_early,
        Field::Retries => line.redispatched,
        _ => false,
    }
}

/// Whole milliseconds; -1: it did not come that far.
#[inline]
pub(super) fn ms(us: Option<u64>) -> i64 {
    us.map_or(-1, |us| signed(us / 1000))
}

/// The time in queues. HAProxy subtracts the -1 of a request that never was; in TCP mode there is none.
#[inline]
pub(super) fn queue_ms(t: &Timers) -> i64 {
    ms(t.queue) + i64::from(t.request.is_none() && t.queue.is_some())
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The value of a numeric variable; the inner `None`: it has none.
pub(super) fn number(field: Field, line: &Line<'_>) -> Option<Option<i64>> {
    let (t, levels) = (&line.timers, &line.levels);
    let port = |addr: &Addr| addr.port().map(i64::from);
    let reached = |us: Option<u64>| us.map(signed);
    Some(match field {
        Field::ClientPort => port(&line.client),
        Field::LocalPort => port(&line.local),
        Field::SourcePort => port(&line.source),
        Field::ServerPort => port(&line.remote),
        Field::Timestamp => Some(signed(line.accepted.as_secs())),
        Field::Milliseconds => Some(line.accepted.subsec_millis().into()),
        Field::Handshake => Some(ms(t.handshake).max(0)),
        Field::Idle => Some(ms(t.idle)),
        Field::Received => Some(ms(t.request)),
        Field::Head => Some(ms(t.head())),
        Field::Queue => Some(queue_ms(t)),
        Field::Connect => Some(ms(t.connect)),
        Field::Response => Some(ms(t.response)),
        Field::Data => Some(ms(t.data)),
        Field::Active => Some(signed(t.active() / 1000)),
        Field::User => Some(signed(t.user() / 1000)),
        Field::Total => Some(signed(t.total / 1000)),
        Field::ReceivedUs => reached(t.request),
        Field::QueueUs => reached(t.queue),
        Field::ConnectUs => reached(t.connect),
        Field::ResponseUs => reached(t.response),
        Field::DataUs => reached(t.data),
        Field::ActiveUs => Some(signed(t.active())),
        Field::Status => Some(line.status.into()),
        Field::BytesOut => Some(signed(line.bytes_out)),
        Field::BytesIn => Some(signed(line.bytes_in)),
        Field::ProcessSessions => Some(levels.process.into()),
        Field::FrontendSessions => Some(levels.frontend.into()),
        Field::BackendSessions => Some(levels.backend.into()),
        Field::ServerSessions => Some(levels.server.into()),
        Field::Retries => Some(line.retries.into()),
        Field::ServerQueue => Some(line.queued_before.0.into()),
        Field::BackendQueue => Some(line.queued_before.1.into()),
        Field::Pid => Some(line.pid.into()),
        Field::SessionNumber => Some(signed(line.numbers.0)),
        Field::LineNumber => Some(signed(line.numbers.1)),
        _ => return None,
    })
}

/// A value of an expression in text. As with HAProxy `X` is for variables: expressions have their converter `hex`.
fn sample(value: &Value<'_>, flags: Flags, out: &mut Vec<u8>) {
    value.with_text(|bytes| text(Some(bytes), flags, Map::Value, false, out));
}

/// A text as HAProxy writes it: `-` where there is none, quotes around it if asked for.
pub(super) fn text(bytes: Option<&[u8]>, flags: Flags, map: Map, raw: bool, out: &mut Vec<u8>) {
    let bytes = bytes.unwrap_or_default();
    if flags.quote {
        out.push(b'"');
    }
    match (raw, flags.escape) {
        _ if bytes.is_empty() => {
            if !flags.quote && !raw {
                out.push(b'-');
            }
        }
        (true, _) => out.extend_from_slice(bytes),
        (false, true) => map.append_escaped(bytes, out),
        (false, false) => map.append(bytes, out),
    }
    if flags.quote {
        out.push(b'"');
    }
}

/// An address without flags.
pub(super) fn address_to(addr: &Addr, out: &mut Vec<u8>) {
    match addr.ip() {
        Some(IpAddr::V4(ip)) => ipv4_to(ip, out),
        Some(ip) => Value::Ip(ip).with_text(|bytes| out.extend_from_slice(bytes)),
        None => out.extend_from_slice(if matches!(addr, Addr::Unix) { b"unix" } else { b"-" }),
    }
}

/// A variable in text.
pub(super) struct Plain<'a, 'o> {
    pub(super) line: &'a Line<'a>,
    pub(super) flags: Flags,
    /// Whoever takes it escapes it.
    pub(super) raw: bool,
    pub(super) dates: &'a mut Dates,
    pub(super) out: &'o mut Vec<u8>,
}

impl Plain<'_, '_> {
    pub(super) fn field(&mut self, field: Field) {
        let line = self.line;
        match field {
            Field::ClientIp => self.address(&line.client),
            Field::LocalIp => self.address(&line.local),
            Field::SourceIp => self.address(&line.source),
            Field::ServerIp => self.address(&line.remote),
            Field::AcceptDate => self.dates.log(line.accepted, self.out),
            Field::RequestDate => self.dates.log(line.accepted + line.timers.before(), self.out),
            Field::RequestDateUniversal => {
                Dates::universal(line.accepted + line.timers.before(), self.out);
            }
            Field::RequestDateLocal => self.dates.local(line.accepted + line.timers.before(), self.out),
            Field::RequestDateIso => self.dates.iso(line.accepted + line.timers.before(), self.out),
            Field::DateUniversal => Dates::universal(line.accepted, self.out),
            Field::DateLocal => self.dates.local(line.accepted, self.out),
            Field::Milliseconds if !self.flags.hex => date::millis(line.accepted, self.out),
            Field::Frontend => self.name(line.frontend),
            Field::FrontendTransport if line.is_tls => self.with_tilde(line.frontend),
            Field::FrontendTransport => self.name(line.frontend),
            Field::Backend => self.name(line.backend),
            Field::Server => self.name(line.server.unwrap_or(NO_SERVER)),
            Field::RequestCookie => self.value(line.cookies[0]),
            Field::ResponseCookie => self.value(line.cookies[1]),
            Field::End => self.out.extend_from_slice(line.end.letters.as_bytes()),
            Field::EndCookie => {
                self.out.extend_from_slice(line.end.letters.as_bytes());
                self.out.extend_from_slice(&line.cookie);
            }
            Field::EndName => self.own(line.end.name.as_bytes()),
            Field::EndBy => self.own(line.end.by.as_bytes()),
            Field::RequestCaptures => self.braces(line.request_captures),
            Field::ResponseCaptures => self.braces(line.response_captures),
            Field::RequestCapturesList => self.list(line.request_captures),
            Field::ResponseCapturesList => self.list(line.response_captures),
            Field::Request => self.of_request(|request| request),
            Field::Method => self.of_request(|request| words(request).0),
            Field::Uri => self.of_request(|request| words(request).1),
            Field::Version => self.of_request(|request| words(request).2),
            Field::Path => self.of_request(|request| path_and_query(words(request).1).0),
            Field::PathOnly => {
                self.of_request(|request| {
                    let target = words(request).1;
                    path_and_query(crate::proto::target::split_path(target).1).0
                });
            }
            Field::Query => self.of_request(|request| path_and_query(words(request).1).1),
            Field::SentRequest => self.url(line.sent),
            Field::HostHeader => self.url(line.host),
            Field::FullUrl => self.full_url(),
            Field::Origin => self.own(line.origin.as_bytes()),
            Field::Hostname => self.own(line.hostname.as_bytes()),
            Field::UniqueId => self.url(line.unique_id),
            Field::TraceId => self.url(line.trace.as_ref().map(|header| &header[3..35])),
            Field::SpanId => self.url(line.trace.as_ref().map(|header| &header[36..52])),
            Field::TlsVersion => self.own(line.tls.map_or("", |tls| tls.0).as_bytes()),
            Field::TlsCipher => self.own(line.tls.map_or("", |tls| tls.1).as_bytes()),
            numeric => self.number(numeric),
        }
    }

    fn number(&mut self, field: Field) {
        let line = self.line;
        let Some(value) = number(field, line) else { return };
        let Some(value) = value else { return self.own(b"") };
        if is_marked(field, line) {
            self.out.push(b'+');
        }
        let is_hex = matches!(
            field,
            Field::ClientPort
                | Field::LocalPort
                | Field::SourcePort
                | Field::ServerPort
                | Field::Timestamp
                | Field::Milliseconds
                | Field::Pid
                | Field::SessionNumber
                | Field::LineNumber
        );
        // Writing to a vector does not fail.
        match (self.flags.hex && is_hex, field) {
            (false, _) => number_to(value, self.out),
            (true, Field::Milliseconds) => drop(write!(self.out, "{value:02X}")),
            (true, _) => drop(write!(self.out, "{value:04X}")),
        }
    }

    /// The name of a proxy or a server, which has no byte to escape and is not empty.
    fn name(&mut self, name: &str) {
        if self.flags.quote {
            return self.own(name.as_bytes());
        }
        self.out.extend_from_slice(name.as_bytes());
    }

    fn value(&mut self, bytes: Option<&[u8]>) {
        text(bytes, self.flags, Map::Value, self.raw, self.out);
    }

    /// Names of ours.
    fn own(&mut self, bytes: &[u8]) {
        text(Some(bytes), self.flags, Map::Value, self.raw, self.out);
    }

    fn url(&mut self, bytes: Option<&[u8]>) {
        text(bytes, self.flags, Map::Url, self.raw, self.out);
    }

    fn with_tilde(&mut self, name: &str) {
        if self.flags.quote {
            self.out.push(b'"');
        }
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'~');
        if self.flags.quote {
            self.out.push(b'"');
        }
    }

    fn address(&mut self, addr: &Addr) {
        let Some(ip) = addr.ip() else {
            let is_local = matches!(addr, Addr::Unix);
            return self.own(if is_local { b"unix" } else { b"" });
        };
        if self.flags.hex {
            let mut hex = |bytes: &[u8]| {
                for byte in bytes {
                    let _ = write!(self.out, "{byte:02X}");
                }
            };
            return match ip {
                IpAddr::V4(ip) => hex(&ip.octets()),
                IpAddr::V6(ip) => hex(&ip.octets()),
            };
        }
        if let (IpAddr::V4(ip), false) = (ip, self.flags.quote) {
            return ipv4_to(ip, self.out);
        }
        Value::Ip(ip).with_text(|bytes| text(Some(bytes), self.flags, Map::Value, self.raw, self.out));
    }

    fn of_request(&mut self, part: impl Fn(&[u8]) -> &[u8]) {
        let Some(request) = self.line.request else { return self.own(b"<BADREQ>") };
        let part = part(request);
        // HAProxy writes nothing, not a dash, where there is no query.
        if part.is_empty() && !self.flags.quote {
            return;
        }
        self.url(Some(part));
    }

    fn full_url(&mut self) {
        let line = self.line;
        let Some(request) = line.request else { return self.own(b"<BADREQ>") };
        let (method, target, _) = words(request);
        if self.flags.quote {
            self.out.push(b'"');
        }
        let flags = Flags { quote: false, ..self.flags };
        if target.starts_with(b"/") && method != b"CONNECT" {
            self.out.extend_from_slice(if line.is_tls { b"https://" } else { b"http://" });
            text(line.host, flags, Map::Url, self.raw, self.out);
        }
        text(Some(target), flags, Map::Url, self.raw, self.out);
        if self.flags.quote {
            self.out.push(b'"');
        }
    }

    fn capture(&mut self, bytes: &[u8]) {
        match (self.raw, self.flags.escape) {
            (true, _) => self.out.extend_from_slice(bytes),
            (false, true) => Map::Header.append_escaped(bytes, self.out),
            (false, false) => Map::Header.append(bytes, self.out),
        }
    }

    /// `{one||three}`; nothing without captures.
    fn braces(&mut self, captures: Captured<'_>) {
        if captures.spans.is_empty() {
            return;
        }
        if self.flags.quote {
            self.out.push(b'"');
        }
        self.out.push(b'{');
        for index in 0..captures.spans.len() {
            if index > 0 {
                self.out.push(b'|');
            }
            self.capture(captures.get(index).unwrap_or_default());
        }
        self.out.push(b'}');
        if self.flags.quote {
            self.out.push(b'"');
        }
    }

    /// `one - three`, or `"one" "" "three"`.
    fn list(&mut self, captures: Captured<'_>) {
        for index in 0..captures.spans.len() {
            if index > 0 {
                self.out.push(b' ');
            }
            let capture = captures.get(index);
            if self.flags.quote {
                self.out.push(b'"');
            }
            match capture {
                Some(bytes) => self.capture(bytes),
                None if !self.flags.quote => self.out.push(b'-'),
                None => {}
            }
            if self.flags.quote {
                self.out.push(b'"');
            }
        }
    }
}

/// Method, target and version of a request line.
fn words(request: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let mut words = request.splitn(3, |byte| *byte == b' ');
    let mut next = || words.next().unwrap_or_default();
    (next(), next(), next())
}

fn path_and_query(target: &[u8]) -> (&[u8], &[u8]) {
    let at = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    target.split_at(at)
}

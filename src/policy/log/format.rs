//! Compiled log formats and how they are written: HAProxy's text, or one JSON or CBOR object of the named items.

use std::io::Write;
use std::net::IpAddr;

use crate::base::net::Addr;
use crate::policy::format::Flags;
use crate::policy::log::escape::{self, Map};
use crate::policy::log::{Captured, Dates, Field, Line, date};
use crate::policy::sample::{Expr, Facts, Kind, Scratch, Value};

/// A compiled log format.
#[derive(Clone, Debug, Default)]
pub struct LogFormat {
    parts: Vec<Part>,
    encoding: Encoding,
}

/// What a line looks like as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Encoding {
    /// Text.
    #[default]
    Plain,
    /// A JSON object of the items that have a name (`%{+json}o`).
    Json,
    /// A CBOR map of them (`%{+cbor}o`), in hexadecimal digits unless `bin` is set.
    Cbor {
        /// The bytes themselves.
        bin: bool,
    },
}

/// A piece of a log format.
#[derive(Clone, Debug)]
pub enum Part {
    /// Text of the operator.
    Text(Box<[u8]>),
    /// White space: one space, unless the line ends with one already.
    Space,
    /// A variable.
    Field(Field, Flags, Name),
    /// An expression that is evaluated when the line is written.
    Value(Expr, Flags, Name),
    /// A value that was kept: its number in [`Line::kept`] and its type.
    Kept(usize, Kind, Flags, Name),
}

/// The name of an item (`%(status)ST`).
pub type Name = Option<Box<str>>;

/// A value to keep while its message is there.
#[derive(Clone, Debug)]
pub struct Keep {
    /// What is evaluated.
    pub expr: Expr,
    /// When.
    pub moment: Moment,
}

/// When a value is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// When the request goes to a server, with the changes of rules.
    Request,
    /// When the response goes to the client, with the changes of rules.
    Response,
}

impl LogFormat {
    /// A format from its parts.
    pub fn new(parts: Vec<Part>, encoding: Encoding) -> LogFormat {
        LogFormat { parts, encoding }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether it reads levels of sessions.
    pub fn reads_levels(&self) -> bool {
        self.fields().any(Field::reads_levels)
    }

    /// Whether it reads our own address towards the server.
    pub fn reads_source(&self) -> bool {
        self.fields().any(Field::reads_source)
    }

    /// Whether a line is text and no object.
    pub fn is_text(&self) -> bool {
        self.encoding == Encoding::Plain
    }

    /// The variables in it.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        self.parts.iter().filter_map(|part| match part {
            Part::Field(field, ..) => Some(*field),
            _ => None,
        })
    }

    /// Appends the line, without an end of line.
    pub fn write<F: Facts>(&self, line: &Line<'_>, facts: &F, memory: &mut Memory<'_>, out: &mut Vec<u8>) {
        match self.encoding {
            Encoding::Plain => self.write_plain(line, facts, memory, out),
            Encoding::Json => {
                out.push(b'{');
                let mut between = "";
                self.each_named(line, facts, memory, out, |name, item, out| {
                    out.extend_from_slice(between.as_bytes());
                    between = ", ";
                    escape::json(name.as_bytes(), out);
                    out.extend_from_slice(b": ");
                    match item {
                        Item::Number(number) => number_to(number, out),
                        Item::Text(text) => escape::json(text, out),
                        Item::Missing => out.extend_from_slice(b"null"),
                    }
                });
                out.push(b'}');
            }
            Encoding::Cbor { bin } => {
                let from = out.len();
                out.push(0xbf);
                self.each_named(line, facts, memory, out, |name, item, out| {
                    escape::cbor_text(name.as_bytes(), out);
                    match item {
                        Item::Number(number) if number < 0 => {
                            escape::cbor_head(1, number.unsigned_abs() - 1, out);
                        }
                        Item::Number(number) => escape::cbor_head(0, number.unsigned_abs(), out),
                        Item::Text(text) => escape::cbor_text(text, out),
                        Item::Missing => out.push(0xf6),
                    }
                });
                out.push(0xff);
                if !bin {
                    escape::hex_from(from, memory.text, out);
                }
            }
        }
    }

    fn write_plain<F: Facts>(&self, line: &Line<'_>, facts: &F, memory: &mut Memory<'_>, out: &mut Vec<u8>) {
        // A space at the beginning is left out, too.
        let mut after_space = true;
        for part in &self.parts {
            let before = out.len();
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Space => {
                    if !after_space {
                        out.push(b' ');
                    }
                    after_space = true;
                    continue;
                }
                Part::Field(field, flags, _) => {
                    Plain { line, flags: *flags, raw: false, dates: memory.dates, out }.field(*field);
                    // Fields that say nothing leave the space before them.
                    after_space &= out.len() == before;
                    continue;
                }
                Part::Value(expr, flags, _) => match expr.eval(facts, memory.scratch).value {
                    Some(value) => sample(&value, *flags, out),
                    None => text(None, *flags, Map::Value, false, out),
                },
                Part::Kept(slot, _, flags, _) => {
                    text(line.kept.get(*slot), *flags, Map::Value, false, out);
                }
            }
            after_space = false;
        }
    }

    fn each_named<F: Facts>(
        &self,
        line: &Line<'_>,
        facts: &F,
        memory: &mut Memory<'_>,
        out: &mut Vec<u8>,
        mut write: impl FnMut(&str, Item<'_>, &mut Vec<u8>),
    ) {
        for part in &self.parts {
            match part {
                Part::Text(_) | Part::Space => {}
                Part::Field(field, flags, name) => {
                    let Some(name) = name else { continue };
                    let flags = Flags { hex: flags.hex, ..Flags::default() };
                    match number(*field, line) {
                        Some(number) if !flags.hex => {
                            write(name, number.map_or(Item::Missing, Item::Number), out);
                        }
                        _ => {
                            memory.text.clear();
                            let mut plain =
                                Plain { line, flags, raw: true, dates: memory.dates, out: memory.text };
                            plain.field(*field);
                            let text = memory.text.as_slice();
                            write(name, if text.is_empty() { Item::Missing } else { Item::Text(text) }, out);
                        }
                    }
                }
                Part::Value(expr, _, name) => {
                    let Some(name) = name else { continue };
                    memory.text.clear();
                    let number = match expr.eval(facts, memory.scratch).value {
                        None => {
                            write(name, Item::Missing, out);
                            continue;
                        }
                        Some(Value::Int(number)) => Some(number),
                        Some(value) => {
                            value.append_text(memory.text);
                            None
                        }
                    };
                    write(name, number.map_or(Item::Text(memory.text), Item::Number), out);
                }
                Part::Kept(slot, kind, _, name) => {
                    let Some(name) = name else { continue };
                    let text = line.kept.get(*slot);
                    let number = text.filter(|_| *kind == Kind::Int).and_then(|text| {
                        std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok())
                    });
                    let item = match (number, text) {
                        (Some(number), _) => Item::Number(number),
                        (None, Some(text)) => Item::Text(text),
                        (None, None) => Item::Missing,
                    };
                    write(name, item, out);
                }
            }
        }
    }
}

/// What writing a line works with.
pub struct Memory<'a> {
    /// For expressions.
    pub scratch: &'a mut Scratch,
    /// For dates.
    pub dates: &'a mut Dates,
    /// For texts on their way to an encoding.
    pub text: &'a mut Vec<u8>,
}

/// A value of an object.
enum Item<'a> {
    Number(i64),
    Text(&'a [u8]),
    Missing,
}

/// Appends a number in decimal. A line has some twenty of them, nearly all of one digit, which the general way of `write!`
/// makes the dearest part of it.
pub fn number_to(number: i64, out: &mut Vec<u8>) {
    let mut rest = number.unsigned_abs();
    if number < 0 {
        out.push(b'-');
    }
    if rest < 10 {
        out.push(b'0' + u8::try_from(rest).unwrap_or(0));
        return;
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

fn ms(us: Option<u64>) -> i64 {
    us.map_or(-1, |us| signed(us / 1000))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The value of a numeric variable; the inner `None`: it has none.
fn number(field: Field, line: &Line<'_>) -> Option<Option<i64>> {
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
        // HAProxy subtracts the -1 of a request that never was; in TCP mode there is none.
        Field::Queue if t.request.is_none() && t.queue.is_some() => Some(ms(t.queue) + 1),
        Field::Queue => Some(ms(t.queue)),
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

/// A value of an expression in text.
fn sample(value: &Value<'_>, flags: Flags, out: &mut Vec<u8>) {
    match value {
        Value::Int(number) if flags.hex => {
            let _ = write!(out, "{number:X}");
        }
        value => value.with_text(|bytes| text(Some(bytes), flags, Map::Value, false, out)),
    }
}

/// A text as HAProxy writes it: `-` where there is none, quotes around it if asked for.
fn text(bytes: Option<&[u8]>, flags: Flags, map: Map, raw: bool, out: &mut Vec<u8>) {
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

/// A variable in text.
struct Plain<'a, 'o> {
    line: &'a Line<'a>,
    flags: Flags,
    /// Whoever takes it escapes it.
    raw: bool,
    dates: &'a mut Dates,
    out: &'o mut Vec<u8>,
}

impl Plain<'_, '_> {
    fn field(&mut self, field: Field) {
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
            Field::Frontend => self.own(line.frontend.as_bytes()),
            Field::FrontendTransport if line.is_tls => self.with_tilde(line.frontend),
            Field::FrontendTransport => self.own(line.frontend.as_bytes()),
            Field::Backend => self.own(line.backend.as_bytes()),
            Field::Server => self.own(line.server.unwrap_or("<NOSRV>").as_bytes()),
            Field::RequestCookie => self.url(line.cookies[0]),
            Field::ResponseCookie => self.url(line.cookies[1]),
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
        let is_marked = match field {
            Field::BytesOut | Field::Active | Field::Total | Field::User => line.is_early,
            Field::Retries => line.redispatched,
            _ => false,
        };
        if is_marked {
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
            for (index, octet) in ip.octets().into_iter().enumerate() {
                if index > 0 {
                    self.out.push(b'.');
                }
                number_to(octet.into(), self.out);
            }
            return;
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

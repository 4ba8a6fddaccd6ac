//! What is kept of a request for its line, gathered while the stream goes its way. `http` and `session` call it at each step;
//! what a line makes of it is `line`.

use crate::base::net::Addr;
use crate::model::log::{CaptureSlot, FrontendLog};
use crate::policy::http_action::LogLevel;
use crate::policy::log::{Moment, Span};
use crate::policy::sample::{FirstBytes, Recorded};
use crate::proto::headers::HeadView;
use crate::proto::http::{Known, Name, StatusCode, Version};
use crate::proxy::facts::Message;
use crate::proxy::session::Session;
use crate::proxy::trace::Traced;

/// What is kept of one request for its line.
#[derive(Default)]
pub(in crate::proxy) struct Record {
    pub(super) text: Vec<u8>,
    pub(super) request: Span,
    pub(super) sent: Span,
    pub(super) host: Span,
    pub(super) unique_id: Span,
    pub(super) request_captures: Vec<Span>,
    pub(super) response_captures: Vec<Span>,
    pub(super) cookies: [Span; 2],
    pub(super) kept: Vec<Span>,
    /// Our own address towards the server, where a format reads it.
    pub(super) source: Addr,
    /// -1: no response.
    pub(super) status: i32,
    pub(super) level: Option<LogLevel>,
    /// Of the response as the server sent it.
    pub(super) version: Option<Version>,
    /// Letters about the persistence cookie.
    pub(super) persist: [u8; 2],
    pub(super) is_written: bool,
    /// Bytes of the connection before this request.
    pub(super) bytes_before: (u64, u64),
    /// Its place in a trace.
    pub(in crate::proxy) trace: Option<Traced>,
}

impl Record {
    fn clear(&mut self) {
        self.text.clear();
        self.request_captures.clear();
        self.response_captures.clear();
        self.kept.clear();
        (self.request, self.sent, self.host, self.unique_id) = (None, None, None, None);
        (self.cookies, self.level, self.is_written, self.trace) = ([None; 2], None, false, None);
        self.version = None;
        (self.status, self.persist, self.source) = (-1, *b"--", Addr::Unknown);
    }

    fn add(&mut self, bytes: &[u8]) -> Span {
        let from = u32::try_from(self.text.len()).ok()?;
        self.text.extend_from_slice(bytes);
        Some((from, u32::try_from(self.text.len()).ok()?))
    }

    /// The request line of HTTP/2 as HAProxy writes it.
    fn add_h2(&mut self, view: HeadView<'_>, is_tls: bool) -> Span {
        let from = u32::try_from(self.text.len()).ok()?;
        self.text.extend_from_slice(view.method_text());
        self.text.push(b' ');
        if view.target().starts_with(b"/") {
            self.text.extend_from_slice(if is_tls { b"https://" } else { b"http://" });
            self.text.extend_from_slice(view.line(Known::Host).unwrap_or_default());
        }
        self.text.extend_from_slice(view.target());
        self.text.extend_from_slice(b" HTTP/2.0");
        Some((from, u32::try_from(self.text.len()).ok()?))
    }

    pub(super) fn get(&self, span: Span) -> Option<&[u8]> {
        let (from, to) = span?;
        self.text.get(from as usize..to as usize)
    }
}

/// A request begins: there is a record if anybody will read it.
pub(in crate::proxy) fn begin(session: &Session) {
    let frontend = session.frontend();
    if frontend.log.is_none() && frontend.captures.is_empty() && frontend.trace.is_none() {
        return;
    }
    let pooled = session.core.log.records.borrow_mut().pop();
    let mut record = pooled.unwrap_or_default();
    record.clear();
    let info = &session.info;
    record.bytes_before = (info.bytes_in.get(), info.bytes_out.get());
    *session.info.record.borrow_mut() = Some(record);
}

/// There is something to keep of a connection in TCP mode, which is one request for its line.
pub(in crate::proxy) fn begin_once(session: &Session) {
    if session.info.record.borrow().is_some() {
        return;
    }
    begin(session);
    if let Some(record) = session.info.record.borrow_mut().as_deref_mut() {
        record.bytes_before = (0, 0);
    }
}

/// The head of the request is here, as the client sent it.
pub(in crate::proxy) fn on_request(session: &Session, view: HeadView<'_>, bytes: &[u8], is_h2: bool) {
    let mut record = session.info.record.borrow_mut();
    let Some(record) = record.as_deref_mut() else { return };
    let frontend = session.frontend();
    record.request = match is_h2 {
        true => record.add_h2(view, session.info.conn().tls().is_some()),
        false => {
            let start = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            let line = &bytes[start.min(bytes.len())..];
            let end = memchr::memchr2(b'\r', b'\n', line).unwrap_or(line.len());
            record.add(&line[..end])
        }
    };
    if frontend.log_reads(|reads| reads.host) {
        record.host = view.line(Known::Host).and_then(|host| record.add(host));
    }
    let captures = &frontend.captures;
    for slot in &captures.request {
        let span = header_of(record, view, slot);
        record.request_captures.push(span);
    }
    if let Some(slot) = &captures.cookie {
        record.cookies[0] = cookie_of(record, view, Known::Cookie, slot);
    }
}

fn header_of(record: &mut Record, view: HeadView<'_>, slot: &CaptureSlot) -> Span {
    let name = slot.name.as_deref()?;
    let value = view.lines(Name::of(name)).last()?;
    record.add(&value[..value.len().min(slot.len.into())])
}

/// A cookie whose name begins as configured, with its name.
fn cookie_of(record: &mut Record, view: HeadView<'_>, header: Known, slot: &CaptureSlot) -> Span {
    let name = slot.name.as_deref()?;
    for line in view.lines(header) {
        // A Set-Cookie has one cookie, with attributes behind it.
        let mut pairs = line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let pair = match header {
            Known::SetCookie => pairs.next().filter(|pair| pair.starts_with(name)),
            _ => pairs.find(|pair| pair.starts_with(name)),
        };
        if let Some(pair) = pair {
            return record.add(&pair[..pair.len().min(slot.len.into())]);
        }
    }
    None
}

/// The request is judged: it goes to a server, or rules answered it. `sent`: what goes to the server.
pub(in crate::proxy) fn on_planned(
    session: &Session,
    view: HeadView<'_>,
    unique_id: &[u8],
    sent: Option<&[u8]>,
    persist: [u8; 2],
) {
    let mut guard = session.info.record.borrow_mut();
    let Some(record) = guard.as_deref_mut() else { return };
    record.persist = persist;
    if !unique_id.is_empty() {
        record.unique_id = record.add(unique_id);
    }
    if let Some(sent) = sent.filter(|_| session.frontend().log_reads(|reads| reads.sent)) {
        let end = memchr::memchr(b'\r', sent).unwrap_or(sent.len());
        record.sent = record.add(&sent[..end]);
    }
    if let Some(log) = kept(session) {
        let message = Message { request: Some(view), unique_id: Some(unique_id), ..Message::default() };
        keep(session, log, record, Moment::Request, message);
    }
}

/// The head of the response is here, as the server sent it.
pub(in crate::proxy) fn on_response(session: &Session, view: HeadView<'_>) {
    let mut record = session.info.record.borrow_mut();
    let Some(record) = record.as_deref_mut() else { return };
    let captures = &session.frontend().captures;
    record.response_captures.clear();
    record.version = Some(view.version());
    for slot in &captures.response {
        let span = header_of(record, view, slot);
        record.response_captures.push(span);
    }
    if let Some(slot) = &captures.cookie {
        record.cookies[1] = cookie_of(record, view, Known::SetCookie, slot);
    }
}

/// The response goes to the client, with all changes.
pub(in crate::proxy) fn on_answer(session: &Session, view: HeadView<'_>, unique_id: &[u8]) {
    let mut guard = session.info.record.borrow_mut();
    let Some(record) = guard.as_deref_mut() else { return };
    record.status = view.status().map_or(-1, |status| StatusCode::code(status).into());
    if let Some(log) = kept(session) {
        let message = Message { response: Some(view), unique_id: Some(unique_id), ..Message::default() };
        keep(session, log, record, Moment::Response, message);
    }
}

/// There is a connection to the server. Asking for its address is a system call, made only for formats that read it.
pub(in crate::proxy) fn on_connected(session: &Session, address: impl FnOnce() -> Addr) {
    let Some(log) = &session.frontend().log else { return };
    if !log.reads.source {
        return;
    }
    begin_once(session);
    if let Some(record) = session.info.record.borrow_mut().as_deref_mut() {
        record.source = address();
    }
}

/// What the response does about the persistence cookie: HAProxy's fourth letter.
pub(in crate::proxy) fn on_cookie(session: &Session, letter: u8) {
    if let Some(record) = session.info.record.borrow_mut().as_deref_mut() {
        record.persist[1] = letter;
    }
}

/// The session goes to another server than its cookie names, which HAProxy writes as if that one were down.
pub(in crate::proxy) fn on_redispatch(session: &Session) {
    if let Some(record) = session.info.record.borrow_mut().as_deref_mut()
        && record.persist[0] == b'V'
    {
        record.persist[0] = b'D';
    }
}

/// We answer ourselves.
pub(in crate::proxy) fn on_own_answer(session: &Session, status: u16) {
    if let Some(record) = session.info.record.borrow_mut().as_deref_mut() {
        record.status = status.into();
    }
}

/// `capture` in a rule.
pub(in crate::proxy) fn capture(session: &Session, response: bool, (slot, len): (u16, u16), value: &[u8]) {
    let mut guard = session.info.record.borrow_mut();
    let Some(record) = guard.as_deref_mut() else { return };
    let span = record.add(&value[..value.len().min(len.into())]);
    let captures = &session.frontend().captures;
    let (spans, count) = match response {
        true => (&mut record.response_captures, captures.response.len()),
        false => (&mut record.request_captures, captures.request.len()),
    };
    spans.resize(count, None);
    if let Some(place) = spans.get_mut(usize::from(slot)) {
        *place = span;
    }
}

/// `set-log-level`.
pub(in crate::proxy) fn set_level(session: &Session, level: LogLevel) {
    if let Some(record) = session.info.record.borrow_mut().as_deref_mut() {
        record.level = Some(level);
    }
}

/// `capture.*`.
pub(in crate::proxy) fn recorded(session: &Session, what: Recorded, out: &mut Vec<u8>) -> bool {
    let Ok(record) = session.info.record.try_borrow() else { return false };
    let Some(record) = record.as_deref() else { return false };
    let slot = |spans: &[Span], place: u16| record.get(*spans.get(usize::from(place))?);
    let word = |place| record.get(record.request)?.splitn(3, |b| *b == b' ').nth(place);
    let found = match what {
        Recorded::Request(place) => slot(&record.request_captures, place),
        Recorded::Response(place) => slot(&record.response_captures, place),
        Recorded::Method => word(0),
        Recorded::Target => word(1),
        Recorded::Version => word(2),
        Recorded::ResponseVersion => record.version.map(|version| match version {
            Version::Http10 => &b"HTTP/1.0"[..],
            _ => b"HTTP/1.1",
        }),
    };
    found.is_some_and(|text| {
        out.extend_from_slice(text);
        true
    })
}

/// The log of the frontend, if its formats read something of a message.
fn kept(session: &Session) -> Option<&FrontendLog> {
    session.frontend().log.as_deref().filter(|log| !log.keep.is_empty())
}

/// Evaluates what the formats read of a message while it is there.
fn keep(session: &Session, log: &FrontendLog, record: &mut Record, moment: Moment, message: Message<'_>) {
    record.kept.resize(log.keep.len(), None);
    session.with_facts(FirstBytes { data: &[], complete: true }, message, |facts, scratch| {
        for (index, keep) in log.keep.iter().enumerate().filter(|(_, keep)| keep.moment == moment) {
            let Some(value) = keep.expr.eval(facts, scratch).value else { continue };
            let span = value.with_text(|text| record.add(text));
            record.kept[index] = span;
        }
    });
}

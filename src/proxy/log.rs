//! Access lines: gathers what a line says while the stream goes its way, writes it at the end and hands it to the control
//! core through this core's ring. Nobody waits here: a line that finds no room is dropped and counted.
//!
//! `http` and `session` call it; what a line looks like is `policy::log`, where it goes is `control::logs`.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rtrb::Producer;

use crate::base::limits::{LOG_CLOCK, LOG_RECORDS_MAX};
use crate::base::net::Addr;
use crate::base::time::Now;
use crate::model::Mode;
use crate::model::log::{CaptureSlot, FrontendLog};
use crate::policy::http_action::LogLevel;
use crate::policy::log::{Captured, Dates, EndWords, Levels, Line, LogFormat, Memory, Moment, Span, Timers};
use crate::policy::sample::{ConnError, FirstBytes, Live, Recorded, TimerName};
use crate::proto::headers::HeadView;
use crate::proto::http::{Known, Name, StatusCode};
use crate::proxy::core::Core;
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::facts::Message;
use crate::proxy::message::ToControl;
use crate::proxy::session::Session;
use crate::proxy::trace::{self, Traced};
use crate::rt;
use crate::stats::process::CoreStat;

/// Bytes of the header of an entry in the ring: length, set, level, a byte unused, length of the structured data, UNIX
/// time in microseconds.
pub const ENTRY_HEADER: usize = 20;

/// Levels of syslog.
const ERR: u8 = 3;
const INFO: u8 = 6;

/// What a core needs to write lines.
#[derive(Debug)]
pub struct LogSetup {
    /// Its ring.
    pub producer: Producer<u8>,
    /// The control core sleeps and has to be told of the next line.
    pub parked: Arc<AtomicBool>,
}

/// Writes the lines of a core.
pub(super) struct LogWriter {
    ring: RefCell<Producer<u8>>,
    parked: Arc<AtomicBool>,
    memory: RefCell<Buffers>,
    #[expect(
        clippy::vec_box,
        reason = "a record moves between sessions, which have no room for it while they are quiet"
    )]
    records: RefCell<Vec<Box<Record>>>,
    lines: Cell<u64>,
    /// The time of a turn, and what the wall clock said in it.
    clock: Cell<(Now, Duration)>,
    hostname: String,
    pid: u32,
}

struct Buffers {
    dates: Dates,
    text: Vec<u8>,
    entry: Vec<u8>,
}

impl LogWriter {
    pub(super) fn new(setup: LogSetup) -> LogWriter {
        LogWriter {
            ring: RefCell::new(setup.producer),
            parked: setup.parked,
            memory: RefCell::new(Buffers {
                dates: Dates::new(rt::machine::local_offset),
                text: Vec::new(),
                entry: Vec::new(),
            }),
            records: RefCell::default(),
            lines: Cell::new(0),
            clock: Cell::default(),
            hostname: rt::machine::hostname(),
            pid: std::process::id(),
        }
    }

    /// UNIX time. The wall clock is asked once in a while; how much later it is the time of the turn says.
    fn now(&self) -> Duration {
        let now = rt::now();
        let (then, wall) = self.clock.get();
        let since = now.since(then);
        if since < LOG_CLOCK && !wall.is_zero() {
            return wall + since;
        }
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.clock.set((now, wall));
        wall
    }

    /// Whether the control core has to be told; false: there was no room.
    fn push(&self, entry: &[u8]) -> Option<bool> {
        self.ring.borrow_mut().push_entire_slice(entry).ok()?;
        // Pairs with the fence of the drain: either it sees the entry or we see that it sleeps.
        fence(Ordering::SeqCst);
        Some(self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::Relaxed))
    }
}

/// What is kept of one request for its line.
#[derive(Default)]
pub(super) struct Record {
    text: Vec<u8>,
    request: Span,
    sent: Span,
    host: Span,
    unique_id: Span,
    request_captures: Vec<Span>,
    response_captures: Vec<Span>,
    cookies: [Span; 2],
    kept: Vec<Span>,
    /// Our own address towards the server, where a format reads it.
    source: Addr,
    /// -1: no response.
    status: i32,
    level: Option<LogLevel>,
    /// Letters about the persistence cookie.
    persist: [u8; 2],
    is_written: bool,
    /// Bytes of the connection before this request.
    bytes_before: (u64, u64),
    /// Its place in a trace.
    pub(super) trace: Option<Traced>,
}

impl Record {
    fn clear(&mut self) {
        self.text.clear();
        self.request_captures.clear();
        self.response_captures.clear();
        self.kept.clear();
        (self.request, self.sent, self.host, self.unique_id) = (None, None, None, None);
        (self.cookies, self.level, self.is_written, self.trace) = ([None; 2], None, false, None);
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

    fn get(&self, span: Span) -> Option<&[u8]> {
        let (from, to) = span?;
        self.text.get(from as usize..to as usize)
    }
}

/// A request begins: there is a record if anybody will read it.
pub(super) fn begin(session: &Session) {
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

/// The head of the request is here, as the client sent it.
pub(super) fn on_request(session: &Session, view: HeadView<'_>, bytes: &[u8], is_h2: bool) {
    let mut record = session.info.record.borrow_mut();
    let Some(record) = record.as_deref_mut() else { return };
    if is_h2 {
        record.request = record.add_h2(view, session.info.conn().tls().is_some());
    }
    let start = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let line = &bytes[start.min(bytes.len())..];
    let end = memchr::memchr2(b'\r', b'\n', line).unwrap_or(line.len());
    if !is_h2 {
        record.request = record.add(&line[..end]);
    }
    if session.frontend().log_reads(|reads| reads.host) {
        record.host = view.line(Known::Host).and_then(|host| record.add(host));
    }
    let captures = &session.frontend().captures;
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
pub(super) fn on_planned(
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
    let message = Message { request: Some(view), unique_id: Some(unique_id), ..Message::default() };
    keep(session, record, Moment::Request, message);
}

/// The head of the response is here, as the server sent it.
pub(super) fn on_response(session: &Session, view: HeadView<'_>) {
    let mut record = session.info.record.borrow_mut();
    let Some(record) = record.as_deref_mut() else { return };
    let captures = &session.frontend().captures;
    record.response_captures.clear();
    for slot in &captures.response {
        let span = header_of(record, view, slot);
        record.response_captures.push(span);
    }
    if let Some(slot) = &captures.cookie {
        record.cookies[1] = cookie_of(record, view, Known::SetCookie, slot);
    }
}

/// The response goes to the client, with all changes.
pub(super) fn on_answer(session: &Session, view: HeadView<'_>, unique_id: &[u8]) {
    let mut guard = session.info.record.borrow_mut();
    let Some(record) = guard.as_deref_mut() else { return };
    record.status = view.status().map_or(-1, |status| StatusCode::code(status).into());
    let message = Message { response: Some(view), unique_id: Some(unique_id), ..Message::default() };
    keep(session, record, Moment::Response, message);
}

/// There is a connection to the server. Asking for its address is a system call, made only for formats that read it.
pub(super) fn on_connected(session: &Session, address: impl FnOnce() -> Addr) {
    let Some(log) = &session.frontend().log else { return };
    if !log.reads.source {
        return;
    }
    if session.info.record.borrow().is_none() {
        begin(session);
    }
    if let Some(record) = session.info.record.borrow_mut().as_deref_mut() {
        record.source = address();
    }
}

/// What the response does about the persistence cookie: HAProxy's fourth letter.
pub(super) fn on_cookie(session: &Session, letter: u8) {
    if let Some(record) = session.info.record.borrow_mut().as_deref_mut() {
        record.persist[1] = letter;
    }
}

/// We answer ourselves.
pub(super) fn on_own_answer(session: &Session, status: u16) {
    if let Some(record) = session.info.record.borrow_mut().as_deref_mut() {
        record.status = status.into();
    }
}

/// `capture` in a rule.
pub(super) fn capture(session: &Session, response: bool, (slot, len): (u16, u16), value: &[u8]) {
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
pub(super) fn set_level(session: &Session, level: LogLevel) {
    if let Some(record) = session.info.record.borrow_mut().as_deref_mut() {
        record.level = Some(level);
    }
}

/// `capture.*`.
pub(super) fn recorded(session: &Session, what: Recorded, out: &mut Vec<u8>) -> bool {
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
    };
    found.is_some_and(|text| {
        out.extend_from_slice(text);
        true
    })
}

/// `txn.timer.*` and the like.
pub(super) fn timer(session: &Session, name: TimerName) -> Option<u64> {
    let t = timers(session, NORMAL, 0, Form { is_early: false, is_bad: false });
    match name {
        TimerName::Handshake => t.handshake,
        TimerName::Idle => t.idle,
        TimerName::Head => t.request,
        TimerName::Request => t.head(),
        TimerName::Queue => t.queue,
        TimerName::Connect => t.connect,
        TimerName::Response => t.response,
        TimerName::Data => t.data,
        TimerName::Active => Some(t.active()),
        TimerName::User => Some(t.user()),
        TimerName::Total => Some(t.total),
    }
}

/// Evaluates what the formats read of a message while it is there.
fn keep(session: &Session, record: &mut Record, moment: Moment, message: Message<'_>) {
    let Some(log) = &session.frontend().log else { return };
    if log.keep.is_empty() {
        return;
    }
    record.kept.resize(log.keep.len(), None);
    session.with_facts(FirstBytes { data: &[], complete: true }, message, |facts, scratch| {
        for (index, keep) in log.keep.iter().enumerate().filter(|(_, keep)| keep.moment == moment) {
            let Some(value) = keep.expr.eval(facts, scratch).value else { continue };
            let span = value.with_text(|text| record.add(text));
            record.kept[index] = span;
        }
    });
}

/// `logasap`: the response begins.
pub(super) fn early(session: &Session) {
    let Some(log) = &session.frontend().log else { return };
    if !log.asap {
        return;
    }
    write(session, log, NORMAL, Form { is_early: true, is_bad: false });
    if let Some(record) = session.info.record.borrow_mut().as_deref_mut() {
        record.is_written = true;
    }
}

const NORMAL: End = End::new(Side::Client, Phase::Data, Kind::Normal);

/// The request is over.
pub(super) fn finish(session: &Session, end: End) {
    let about = |record: &Record| (record.is_written, record.request.is_none());
    let Some((is_written, is_bad)) = session.info.record.borrow().as_deref().map(about) else { return };
    if let Some(log) = &session.frontend().log
        && !is_written
    {
        write(session, log, end, Form { is_early: false, is_bad });
    }
    if session.frontend().trace.is_some()
        && let Some(record) = session.info.record.borrow().as_deref().filter(|_| !is_bad)
    {
        trace::finish(session, record, end, session.core.log.now());
    }
    let mut records = session.core.log.records.borrow_mut();
    if let Some(record) = session.info.record.borrow_mut().take().filter(|_| records.len() < LOG_RECORDS_MAX)
    {
        records.push(record);
    }
}

/// A connection is over that had no request, or a whole one in TCP mode.
pub(super) fn finish_connection(session: &Session, end: End, status: u16) {
    let Some(log) = &session.frontend().log else { return };
    // As with HAProxy, connection rules refuse without a word.
    let error = session.info.error.get();
    let is_null = match error {
        ConnError::None => session.info.bytes_in.get() == 0,
        error => error.is_null(),
    };
    let is_silent = end.kind == Kind::DeniedConnection || log.dontlognull && is_null;
    let is_http = session.frontend().mode == Mode::Http;
    if is_silent || log.asap && !is_http && session.info.timings.get().is_connected {
        return;
    }
    if is_http {
        begin(session);
        on_own_answer(session, if error == ConnError::None { status } else { 0 });
        return finish(session, end);
    }
    write(session, log, end, Form { is_early: false, is_bad: error != ConnError::None });
}

/// What kind of line.
#[derive(Clone, Copy)]
struct Form {
    is_early: bool,
    /// There was no whole request.
    is_bad: bool,
}

/// Whether HAProxy would call it an error: anything but a normal end at once, or a rule's.
fn is_error(end: End, status: i32, retries: u32, redispatched: bool) -> bool {
    let letter = end.code().as_bytes()[0];
    redispatched
        || !matches!(letter, b'-' | b'L')
        || (end.kind == Kind::Normal && retries > 0)
        || status >= 500
}

fn write(session: &Session, log: &FrontendLog, end: End, form: Form) {
    let info = &session.info;
    let core = &session.core;
    let none;
    let record = session.info.record.borrow();
    let record = match record.as_deref() {
        Some(record) => record,
        None => {
            none = Record { status: -1, persist: *b"--", ..Record::default() };
            &none
        }
    };
    let (retries, redispatched) = (info.retries(), info.redispatched.get());
    let status = status(session, record, end);
    let is_error = is_error(end, status, retries, redispatched);
    if log.dontlog_normal && !is_error {
        return;
    }
    let level = match record.level {
        Some(LogLevel::Silent) => return,
        Some(level) => level as u8,
        None if is_error && log.separate_errors => ERR,
        None => INFO,
    };
    let lines = core.log.lines.get() + 1;
    core.log.lines.set(lines);
    let now = core.log.now();
    let mut line = line(session, record, (end, form), now);
    line.numbers = (info.id, lines);
    if log.reads.levels {
        line.levels = levels(session);
    }
    let mut buffers = core.log.memory.borrow_mut();
    let Buffers { dates, text, entry } = &mut *buffers;
    entry.clear();
    entry.extend_from_slice(&[0; ENTRY_HEADER]);
    let mut structured_len = 0;
    session.with_facts(FirstBytes { data: &[], complete: true }, Message::default(), |facts, scratch| {
        let mut memory = Memory { scratch, dates, text };
        if let Some(structured) = &log.structured {
            structured.write(&line, facts, &mut memory, entry);
        }
        structured_len = entry.len() - ENTRY_HEADER;
        let special = match info.error.get() {
            ConnError::None => log.error.as_ref().filter(|_| form.is_bad),
            _ => log.refused.as_ref(),
        };
        let format = special.unwrap_or(&log.line);
        format.write(&line, facts, &mut memory, entry);
    });
    seal(entry, core.first_log_set + log.set, level, structured_len, now);
    send(core, entry);
}

fn send(core: &Core, entry: &[u8]) {
    match core.log.push(entry) {
        Some(true) => core.tell(ToControl::Logs),
        Some(false) => {}
        None => core.shard().core.count(CoreStat::DroppedLogs),
    }
}

/// What a line of a whole request would say.
pub(super) fn line_of<'a>(session: &'a Session, record: &'a Record, end: End, now: Duration) -> Line<'a> {
    line(session, record, (end, Form { is_early: false, is_bad: false }), now)
}

/// Writes something else than a line: these bytes, and what a format says of a request.
pub(super) fn hand_over(
    session: &Session,
    (set, head): (u16, &[u8]),
    (format, line): (&LogFormat, &Line<'_>),
    now: Duration,
) {
    let core = &session.core;
    let mut buffers = core.log.memory.borrow_mut();
    let Buffers { dates, text, entry } = &mut *buffers;
    entry.clear();
    entry.extend_from_slice(&[0; ENTRY_HEADER]);
    entry.extend_from_slice(head);
    session.with_facts(FirstBytes { data: &[], complete: true }, Message::default(), |facts, scratch| {
        format.write(line, facts, &mut Memory { scratch, dates, text }, entry);
    });
    seal(entry, core.first_log_set + set, INFO, 0, now);
    send(core, entry);
}

/// The status of a line. As with HAProxy it is 400 for a client that left before the response.
fn status(session: &Session, record: &Record, end: End) -> i32 {
    let has_left = (end.side, end.phase, end.kind) == (Side::Client, Phase::Headers, Kind::Abort);
    match record.status {
        -1 if has_left && session.frontend().mode == Mode::Http => 400,
        status => status,
    }
}

/// Fills the header of an entry in.
fn seal(entry: &mut [u8], set: u16, level: u8, structured_len: usize, now: Duration) {
    let len = u32::try_from(entry.len()).unwrap_or(u32::MAX);
    let structured = u32::try_from(structured_len).unwrap_or(u32::MAX);
    let us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    entry[0..4].copy_from_slice(&len.to_ne_bytes());
    entry[4..6].copy_from_slice(&set.to_ne_bytes());
    entry[6] = level;
    entry[8..12].copy_from_slice(&structured.to_ne_bytes());
    entry[12..20].copy_from_slice(&us.to_ne_bytes());
}

fn line<'a>(session: &'a Session, record: &'a Record, (end, form): (End, Form), now: Duration) -> Line<'a> {
    let (info, core) = (&session.info, &session.core);
    let frontend = session.frontend();
    let facts = info.conn_facts();
    let timers = timers(session, end, record.status, form);
    let backend = info.backend.get();
    let failed = info.error.get() != ConnError::None;
    let remote = info.server.get().filter(|_| frontend.log_reads(|reads| reads.remote));
    let bytes = |total: u64, before: u64| if form.is_bad { 0 } else { total.saturating_sub(before) };
    Line {
        accepted: now.saturating_sub(Duration::from_micros(timers.total)),
        hostname: &core.log.hostname,
        pid: core.log.pid,
        client: facts.src,
        local: facts.dst,
        source: record.source,
        remote: remote.map_or(Addr::Unknown, |server| core.address(server)),
        frontend: &frontend.name,
        is_tls: info.conn().tls().is_some(),
        tls: info.conn().tls().map(|facts| (facts.protocol(), facts.cipher())),
        backend: backend.map_or(&frontend.name, |id| &core.model.backends[id].name),
        server: info.server.get().map(|id| core.model.servers[id].name.as_str()),
        timers,
        status: status(session, record, end),
        bytes_out: bytes(info.bytes_out.get(), record.bytes_before.1),
        bytes_in: bytes(info.bytes_in.get(), record.bytes_before.0),
        is_early: form.is_early,
        origin: match form {
            Form { is_early: true, .. } => "txn_response",
            _ if failed => "sess_killed",
            Form { is_bad: true, .. } => "sess_error",
            _ => "txn_close",
        },
        // A PROXY header that did not come is the proxy's verdict in HAProxy's eyes.
        end: EndWords { letters: if failed { "PR" } else { end.code() }, name: end.name(), by: end.by() },
        cookie: record.persist,
        retries: info.retries(),
        redispatched: info.redispatched.get(),
        queued_before: info.queued_before.get(),
        levels: Levels::default(),
        request: record.get(record.request),
        sent: record.get(record.sent),
        host: record.get(record.host),
        request_captures: Captured { text: &record.text, spans: &record.request_captures },
        response_captures: responses(session, record, form),
        cookies: record.cookies.map(|span| record.get(span)),
        unique_id: record.get(record.unique_id),
        trace: record.trace.map(|traced| traced.header()),
        numbers: (0, 0),
        kept: Captured { text: &record.text, spans: &record.kept },
    }
}

/// Slots of the response that no response filled are empty, but they are there.
fn responses<'a>(session: &'a Session, record: &'a Record, form: Form) -> Captured<'a> {
    const NONE: [Span; 32] = [None; 32];
    let slots = session.frontend().captures.response.len();
    if form.is_bad || !record.response_captures.is_empty() {
        return Captured { text: &record.text, spans: &record.response_captures };
    }
    Captured { text: &[], spans: &NONE[..slots.min(NONE.len())] }
}

fn levels(session: &Session) -> Levels {
    let (core, info) = (&session.core, &session.info);
    Levels {
        process: core.live.process.connections.get(),
        frontend: core.live.frontends[info.frontend].connections.get(),
        backend: info.backend.get().map_or(0, |id| core.backend_sessions(id)),
        server: info.server.get().map_or(0, |id| core.server(id).sessions),
    }
}

/// The timers as HAProxy has them, with its habits: a request that was rejected, held or had nowhere to go was never
/// "received", and who was held in the tarpit waited in a queue.
fn timers(session: &Session, end: End, status: i32, form: Form) -> Timers {
    let info = &session.info;
    let (now, t) = (rt::now(), info.timings.get());
    let us = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    let total = us(now.since(t.opened));
    let handshake = t.handshake.us().map_or(0, u64::from);
    let is_http = session.frontend().mode == Mode::Http;
    if form.is_bad {
        return Timers { handshake: Some(handshake), total, ..Timers::default() };
    }
    let has_server = info.server.get().is_some();
    let never = matches!(end.kind, Kind::Unrouted | Kind::Tarpit) || end.kind == Kind::Denied && status < 0;
    let idle = is_http.then(|| us(t.began.since(t.opened)).saturating_sub(handshake));
    let or_zero = |micros: crate::proxy::timings::Micros| Some(micros.us().map_or(0, u64::from));
    // A response that rules replaced was never there.
    let replaced =
        end.phase == Phase::Headers && matches!(end.kind, Kind::DeniedResponse | Kind::Intercepted);
    let is_answered = t.answered.is_some() && !replaced;
    Timers {
        handshake: Some(handshake),
        idle,
        request: t.receive.us().map(u64::from).filter(|_| is_http && !never),
        queue: match end.kind {
            Kind::Tarpit => Some(total),
            _ if has_server || t.queue.us().is_some() => or_zero(t.queue),
            _ => None,
        },
        connect: if t.is_connected { or_zero(t.connect) } else { None },
        response: if is_answered { or_zero(t.response) } else { None },
        data: t.answered.map(|answered| us(now.since(answered))),
        total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_what_haproxy_calls_errors() {
        let normal = NORMAL;
        let denied = End::new(Side::Proxy, Phase::Inspect, Kind::Denied);
        let intercepted = End::new(Side::Proxy, Phase::Inspect, Kind::Intercepted);
        for (end, status, retries, redispatched, expected) in [
            (normal, 200, 0, false, false),
            (normal, 404, 0, false, false),
            (normal, 500, 0, false, true),
            (normal, 200, 1, false, true),
            (normal, 200, 1, true, true),
            (intercepted, 302, 0, false, false),
            (denied, 403, 0, false, true),
        ] {
            assert_eq!(is_error(end, status, retries, redispatched), expected, "{end:?} {status}");
        }
    }
}

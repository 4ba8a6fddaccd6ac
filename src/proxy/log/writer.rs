//! Writes the lines of a core and hands them to the control core through the core's ring. Nobody waits here: a line that finds
//! no room is dropped and counted. Where lines go is `control::logs`.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rtrb::Producer;

use crate::base::limits::{LOG_CLOCK, LOG_RECORDS_MAX};
use crate::base::time::Now;
use crate::model::log::FrontendLog;
use crate::model::{Frontend, Mode};
use crate::policy::http_action::LogLevel;
use crate::policy::log::{Dates, Line, LogFormat, Memory};
use crate::policy::sample::{ConnError, FirstBytes};
use crate::proxy::core::Core;
use crate::proxy::end::{End, Kind};
use crate::proxy::facts::Message;
use crate::proxy::log::line::{Form, NORMAL, is_error, levels, line, status};
use crate::proxy::log::{Record, begin, on_own_answer};
use crate::proxy::message::ToControl;
use crate::proxy::session::Session;
use crate::proxy::trace;
use crate::rt;
use crate::stats::process::CoreStat;

/// Bytes of the header of an entry in the ring: length, set, level, whether the line is a JSON object, length of the
/// structured data, UNIX time in microseconds.
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
pub(in crate::proxy) struct LogWriter {
    ring: RefCell<Producer<u8>>,
    parked: Arc<AtomicBool>,
    memory: RefCell<Buffers>,
    #[expect(
        clippy::vec_box,
        reason = "a record moves between sessions, which have no room for it while they are quiet"
    )]
    pub(super) records: RefCell<Vec<Box<Record>>>,
    lines: Cell<u64>,
    /// The time of a turn, and what the wall clock said in it.
    clock: Cell<(Now, Duration)>,
    pub(super) hostname: String,
    pub(in crate::proxy) pid: u32,
}

struct Buffers {
    dates: Dates,
    text: Vec<u8>,
    entry: Vec<u8>,
}

impl LogWriter {
    pub(in crate::proxy) fn new(setup: LogSetup) -> LogWriter {
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

    /// UNIX time at a point of the other clock. The wall clock is asked once in a while; how much later it is that one says.
    fn wall(&self, now: Now) -> Duration {
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

/// `logasap`: the response begins.
pub(in crate::proxy) fn early(session: &Session) {
    let frontend = session.frontend();
    let Some(log) = &frontend.log else { return };
    if !log.asap {
        return;
    }
    let record = session.info.record.borrow();
    write(session, (frontend, log), record.as_deref(), NORMAL, Form { is_early: true, is_bad: false });
    drop(record);
    if let Some(record) = session.info.record.borrow_mut().as_deref_mut() {
        record.is_written = true;
    }
}

/// The request is over.
pub(in crate::proxy) fn finish(session: &Session, end: End) {
    let held = session.info.record.borrow();
    let Some(record) = held.as_deref() else { return };
    let frontend = session.frontend();
    let is_bad = record.request.is_none();
    if let Some(log) = &frontend.log
        && !record.is_written
    {
        write(session, (frontend, log), Some(record), end, Form { is_early: false, is_bad });
    }
    if frontend.trace.is_some() && !is_bad {
        trace::finish(session, record, end, session.core.log.wall(rt::now()));
    }
    drop(held);
    give_back(session);
}

/// Keeps the memory of a record for the next one.
fn give_back(session: &Session) {
    let mut records = session.core.log.records.borrow_mut();
    if let Some(record) = session.info.record.borrow_mut().take().filter(|_| records.len() < LOG_RECORDS_MAX)
    {
        records.push(record);
    }
}

/// A connection is over that had no request, or a whole one in TCP mode.
pub(in crate::proxy) fn finish_connection(session: &Session, end: End, status: u16) {
    let frontend = session.frontend();
    let Some(log) = &frontend.log else { return };
    // As with HAProxy, connection rules refuse without a word.
    let error = session.info.error.get();
    let is_null = match error {
        ConnError::None => session.info.bytes_in.get() == 0,
        error => error.is_null(),
    };
    let is_silent = end.kind == Kind::DeniedConnection || log.dontlognull && is_null;
    let is_http = frontend.mode == Mode::Http;
    if is_silent || log.asap && !is_http && session.info.timings.borrow().is_connected {
        return;
    }
    if is_http {
        begin(session);
        on_own_answer(session, if error == ConnError::None { status } else { 0 });
        return finish(session, end);
    }
    let record = session.info.record.borrow();
    let form = Form { is_early: false, is_bad: error != ConnError::None };
    write(session, (frontend, log), record.as_deref(), end, form);
    drop(record);
    give_back(session);
}

fn write(
    session: &Session,
    (frontend, log): (&Frontend, &FrontendLog),
    record: Option<&Record>,
    end: End,
    form: Form,
) {
    let info = &session.info;
    let core = &session.core;
    let none;
    let record = match record {
        Some(record) => record,
        None => {
            none = Record { status: -1, persist: *b"--", ..Record::default() };
            &none
        }
    };
    let (retries, redispatched) = (info.retries(), info.redispatched.get());
    let status = status(frontend, record, end);
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
    let at = rt::now();
    let now = core.log.wall(at);
    let mut line = line(session, record, status, (end, form), (at, now));
    // HAProxy marks all lines of such a frontend, also those that nothing follows.
    line.is_early = log.asap;
    line.numbers = (info.timings.borrow().number.into(), lines);
    if log.reads.levels {
        line.levels = levels(session);
    }
    let mut buffers = core.log.memory.borrow_mut();
    let Buffers { dates, text, entry } = &mut *buffers;
    entry.clear();
    entry.extend_from_slice(&[0; ENTRY_HEADER]);
    let mut structured_len = 0;
    let mut is_json = false;
    let message = Message { unique_id: line.unique_id, ..Message::default() };
    session.with_facts(FirstBytes { data: &[], complete: true }, message, |facts, scratch| {
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
        is_json = format.is_json();
        format.write(&line, facts, &mut memory, entry);
    });
    seal(entry, core.first_log_set + log.set, level, structured_len, now);
    entry[7] = u8::from(is_json);
    send(core, entry);
}

fn send(core: &Core, entry: &[u8]) {
    match core.log.push(entry) {
        Some(true) => core.tell(ToControl::Logs),
        Some(false) => {}
        None => core.shard().core.count(CoreStat::DroppedLogs),
    }
}

/// Writes something else than a line: these bytes, and what a format says of a request.
pub(in crate::proxy) fn hand_over(
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

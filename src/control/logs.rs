//! Where log lines go: takes them from the rings of the cores, puts the header of each target before them and hands them
//! out in batches. Nothing here waits for a target; what it does not take is dropped and counted.
//!
//! The drain sleeps while there is nothing to do. The first line after a rest goes out at once; lines that follow gather
//! for a few milliseconds, so that a busy log costs a system call for a batch and not for each line.

use std::cell::{Cell, RefCell};
use std::io::{IoSlice, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use rtrb::{Consumer, RingBuffer};

use crate::base::limits::{LOG_GATHER, LOG_REPEAT, LOG_RETRY, LOG_RING_BYTES, LOG_SORT_MIN};
use crate::base::time::Now;
use crate::control::events::Level;
use crate::control::log_ring::EventRing;
use crate::control::log_sets::{Change, Resolved};
use crate::control::log_sink::LogSink;
use crate::control::log_stream::LogStream;
use crate::control::otlp::{Collector, SpanExporter};
use crate::model::log::{Framing, Header, LogSet, Logging, Output, Ring, Target};
use crate::policy::log::{Dates, number_to, printable};
use crate::proxy::log::{ENTRY_HEADER, LogSetup};
use crate::rt::{self, Datagrams, StartError};
use crate::tls;

/// The ends of the cores' rings and what the lines go to; it travels to the control core.
pub(super) struct Logs {
    cores: Vec<CoreRing>,
    change: Option<Change>,
}

struct CoreRing {
    consumer: Consumer<u8>,
    /// Set while the drain sleeps; the core that clears it wakes it.
    parked: Arc<AtomicBool>,
}

/// An output that can be used: nothing about it fails any more.
pub(super) enum Opened {
    Sink(LogSink),
    Udp(SocketAddr),
    Unix(PathBuf),
    Stream(SocketAddr, Framing),
    Ring(Ring),
    Spans(Collector),
}

/// The same on the control core.
pub(super) enum Kind {
    Sink(LogSink),
    Udp(SocketAddr),
    Unix(PathBuf),
    Stream(LogStream),
    Ring(Rc<EventRing>),
    Spans(SpanExporter),
}

impl From<Opened> for Kind {
    fn from(opened: Opened) -> Kind {
        match opened {
            Opened::Sink(sink) => Kind::Sink(sink),
            Opened::Udp(address) => Kind::Udp(address),
            Opened::Unix(path) => Kind::Unix(path),
            Opened::Stream(address, framing) => Kind::Stream(LogStream::start(address, framing)),
            Opened::Spans(collector) => Kind::Spans(SpanExporter::start(collector)),
            Opened::Ring(ring) => Kind::Ring(Rc::new(EventRing::new(ring))),
        }
    }
}

impl Logs {
    /// The rings of so many cores.
    pub(super) fn new(cores: usize) -> (Vec<LogSetup>, Logs) {
        let pairs = (0..cores).map(|_| {
            let (producer, consumer) = RingBuffer::new(LOG_RING_BYTES);
            let parked = Arc::new(AtomicBool::new(true));
            let setup = LogSetup { producer, parked: parked.clone() };
            (setup, CoreRing { consumer, parked })
        });
        let (setups, cores) = pairs.unzip();
        (setups, Logs { cores, change: None })
    }

    /// Opens what a model logs to.
    ///
    /// # Errors
    /// A file cannot be opened, or a name not resolved.
    pub(super) fn open(&mut self, logging: &Logging, store: &tls::Store) -> Result<(), StartError> {
        self.change = Some(Change::new(logging, &Resolved::of(logging), store, |_| None)?);
        Ok(())
    }
}

/// The same on the control core.
pub(super) struct Outlets {
    pub(super) state: RefCell<State>,
    /// The drain runs.
    running: Cell<bool>,
    /// Lines that no target took.
    pub(super) dropped: Cell<u64>,
    /// How many dropped lines the log spoke of, and when it did.
    told: Cell<(u64, Now)>,
}

pub(super) struct State {
    cores: Vec<CoreRing>,
    /// The sets of all generations that somebody lives by.
    pub(super) sets: Vec<Option<LogSet>>,
    /// What these sets lead to.
    pub(super) outlets: Vec<Option<Outlet>>,
    /// Those of the current generation, in the order of its outputs.
    pub(super) current: Vec<usize>,
    /// The first set of the current generation: where events go.
    pub(super) first: usize,
    /// Lines that each target of each set was asked to take, for samples.
    pub(super) counts: Vec<Vec<u64>>,
    dates: Dates,
    hostname: String,
    pid: String,
    entry: Vec<u8>,
}

pub(super) struct Outlet {
    pub(super) output: Output,
    pub(super) kind: Kind,
    socket: Option<Datagrams>,
    /// Not before then is a socket made again.
    retry_at: Now,
    batch: Vec<u8>,
    ends: Vec<usize>,
    /// The last header that holds for a second.
    pub(super) head: HeldHead,
}

/// A syslog header, and what it is made of.
#[derive(Default)]
pub(super) struct HeldHead {
    text: Vec<u8>,
    /// Set, place of the target in it, level and second.
    made_of: Option<(usize, usize, u8, u64)>,
}

impl Outlets {
    /// Takes over on this core.
    pub(super) fn new(logs: Logs) -> Outlets {
        let outlets = Outlets {
            state: RefCell::new(State {
                outlets: Vec::new(),
                cores: logs.cores,
                sets: Vec::new(),
                current: Vec::new(),
                first: 0,
                counts: Vec::new(),
                dates: Dates::new(rt::machine::local_offset),
                hostname: rt::machine::hostname(),
                pid: std::process::id().to_string(),
                entry: Vec::new(),
            }),
            running: Cell::new(false),
            dropped: Cell::new(0),
            told: Cell::default(),
        };
        if let Some(change) = logs.change {
            outlets.add(change);
        }
        outlets
    }

    /// Lines that no target took.
    pub(super) fn dropped(&self) -> u64 {
        let state = self.state.borrow();
        self.dropped.get() + state.outlets.iter().flatten().map(Outlet::dropped_by_itself).sum::<u64>()
    }

    /// Lines dropped since somebody was told of them, if it is time to tell: not before [`LOG_REPEAT`] is over.
    pub(super) fn untold(&self, dropped: u64, now: Now) -> Option<u64> {
        let (told, since) = self.told.get();
        let is_due = told == 0 || now.since(since) >= LOG_REPEAT;
        let fresh = dropped.saturating_sub(told);
        if fresh == 0 || !is_due {
            return None;
        }
        self.told.set((dropped, now));
        Some(fresh)
    }

    /// A core has lines.
    pub(super) fn wake(self: &Rc<Outlets>) {
        if !self.running.replace(true) {
            rt::spawn(drain(self.clone()));
        }
    }

    /// Logs something about this process to the targets of `[global]` that its own log is not.
    pub(super) fn event(&self, level: Level, text: &str) {
        let level = match level {
            Level::Notice => 5,
            Level::Warning => 4,
            Level::Alert => 1,
        };
        let now = unix_now();
        let state = &mut *self.state.borrow_mut();
        let text = printable(text);
        state.hand_out(state.first, level, now, &[], text.as_bytes(), true);
        self.dropped.set(self.dropped.get() + state.flush());
    }

    /// Opens files again that were moved away.
    pub(super) fn reopen(&self) {
        for outlet in self.state.borrow().outlets.iter().flatten() {
            if let Kind::Sink(sink) = &outlet.kind {
                sink.reopen();
            }
        }
    }

    /// Hands out what is left: the process ends.
    pub(super) fn finish(&self) {
        self.drain_once();
        for outlet in self.state.borrow().outlets.iter().flatten() {
            if let Kind::Sink(sink) = &outlet.kind {
                sink.flush();
            }
        }
    }

    /// The rings of the current generation.
    pub(super) fn rings(&self) -> Vec<Rc<EventRing>> {
        let state = self.state.borrow();
        let ring = |place: &usize| match &state.outlets[*place].as_ref()?.kind {
            Kind::Ring(ring) => Some(ring.clone()),
            _ => None,
        };
        state.current.iter().filter_map(ring).collect()
    }

    /// Hands out everything that is there; whether there was something.
    pub(super) fn drain_once(&self) -> bool {
        let state = &mut *self.state.borrow_mut();
        let drained = state.drain();
        self.dropped.set(self.dropped.get() + state.flush());
        drained
    }

    /// Sleeps, unless there is something after all.
    fn park(&self) -> bool {
        let state = self.state.borrow();
        for core in &state.cores {
            core.parked.store(true, Ordering::Relaxed);
        }
        // Pairs with the fence of the writer.
        fence(Ordering::SeqCst);
        state.cores.iter().all(|core| core.consumer.is_empty())
    }
}

fn unix_now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

async fn drain(outlets: Rc<Outlets>) {
    loop {
        if outlets.drain_once() {
            rt::sleep_until(rt::now() + LOG_GATHER).await;
            continue;
        }
        if outlets.park() {
            outlets.running.set(false);
            return;
        }
    }
}

impl State {
    fn drain(&mut self) -> bool {
        let mut cores = std::mem::take(&mut self.cores);
        let mut drained = false;
        for core in &mut cores {
            let ready = core.consumer.slots();
            let Ok(chunk) = core.consumer.read_chunk(ready) else { continue };
            drained |= ready > 0;
            let (first, second) = chunk.as_slices();
            self.entries(first, second);
            chunk.commit_all();
        }
        self.cores = cores;
        drained
    }

    /// Entries in two pieces of a ring. A core hands over whole ones.
    fn entries(&mut self, first: &[u8], second: &[u8]) {
        let rest = self.whole_entries(first);
        let cut = &first[rest..];
        if cut.is_empty() {
            self.whole_entries(second);
            return;
        }
        let mut entry = std::mem::take(&mut self.entry);
        entry.clear();
        entry.extend_from_slice(cut);
        // The header may be cut as well.
        let header = ENTRY_HEADER.saturating_sub(cut.len()).min(second.len());
        entry.extend_from_slice(&second[..header]);
        let more = entry_len(&entry).saturating_sub(entry.len()).min(second.len() - header);
        entry.extend_from_slice(&second[header..header + more]);
        self.whole_entries(&entry);
        self.entry = entry;
        self.whole_entries(&second[header + more..]);
    }

    /// Hands out the whole entries of a piece; how many bytes they are.
    fn whole_entries(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while bytes.len() - at >= ENTRY_HEADER {
            let len = entry_len(&bytes[at..]);
            let Some(entry) = bytes.get(at..at + len).filter(|_| len >= ENTRY_HEADER) else { break };
            let set = u16::from_ne_bytes([entry[4], entry[5]]);
            let structured = u32::from_ne_bytes([entry[8], entry[9], entry[10], entry[11]]) as usize;
            let mut us = [0; 8];
            us.copy_from_slice(&entry[12..20]);
            let time = Duration::from_micros(u64::from_ne_bytes(us));
            let text = &entry[ENTRY_HEADER..];
            let (structured, text) = text.split_at(structured.min(text.len()));
            self.hand_out(set.into(), entry[6], time, structured, text, false);
            at += len;
        }
        at
    }

    /// Adds a line to the batches of a set's targets.
    fn hand_out(
        &mut self,
        set: usize,
        level: u8,
        time: Duration,
        structured: &[u8],
        text: &[u8],
        is_event: bool,
    ) {
        let Some(Some(set_of)) = self.sets.get(set) else { return };
        for (index, target) in set_of.targets.iter().enumerate() {
            let Some(outlet) = &mut self.outlets[target.output] else { continue };
            // Events have their own way to files and standard streams.
            if level > target.level || (is_event && matches!(outlet.kind, Kind::Sink(_))) {
                continue;
            }
            if let Some(sample) = &target.sample {
                let count = &mut self.counts[set][index];
                *count += 1;
                if !sample.takes(*count - 1) {
                    continue;
                }
            }
            let level = level.max(target.minlevel);
            let start = outlet.batch.len();
            let about = About { target, set: set_of, level, time, structured };
            let made_of = Some((set, index, level, time.as_secs()));
            if !matches!(target.format, Header::Local | Header::Rfc3164) {
                about.header(&mut self.dates, (&self.hostname, &self.pid), &mut outlet.batch);
            } else if outlet.head.made_of == made_of {
                outlet.batch.extend_from_slice(&outlet.head.text);
            } else {
                about.header(&mut self.dates, (&self.hostname, &self.pid), &mut outlet.batch);
                outlet.head.text.clear();
                outlet.head.text.extend_from_slice(&outlet.batch[start..]);
                outlet.head.made_of = made_of;
            }
            outlet.batch.extend_from_slice(text);
            // The end of the line counts.
            outlet.batch.truncate(start + (target.len as usize).saturating_sub(1));
            if outlet.kind.wants_line_ends() {
                outlet.batch.push(b'\n');
            }
            outlet.ends.push(outlet.batch.len());
        }
    }

    /// Sends all batches; how many lines were dropped.
    fn flush(&mut self) -> u64 {
        self.outlets.iter_mut().flatten().filter(|outlet| !outlet.ends.is_empty()).map(Outlet::flush).sum()
    }
}

fn entry_len(bytes: &[u8]) -> usize {
    match bytes {
        [a, b, c, d, ..] => u32::from_ne_bytes([*a, *b, *c, *d]) as usize,
        _ => usize::MAX,
    }
}

/// What the header of a line says.
struct About<'a> {
    target: &'a Target,
    set: &'a LogSet,
    level: u8,
    time: Duration,
    structured: &'a [u8],
}

impl About<'_> {
    fn header(&self, dates: &mut Dates, (machine, pid): (&str, &str), out: &mut Vec<u8>) {
        let priority = u32::from(self.target.facility) * 8 + u32::from(self.level);
        let (tag, hostname) = (&self.set.tag, self.set.hostname.as_deref());
        // Writing to a vector does not fail.
        let _ = match self.target.format {
            Header::Raw => Ok(()),
            Header::Short => write!(out, "<{}>", self.level),
            Header::Iso => {
                dates.iso(self.time, out);
                out.push(b' ');
                Ok(())
            }
            Header::Local | Header::Rfc3164 => {
                out.push(b'<');
                number_to(priority.into(), out);
                out.push(b'>');
                dates.syslog(self.time, out);
                let hostname = match self.target.format {
                    Header::Local => hostname,
                    _ => hostname.or(Some(machine)),
                };
                if let Some(hostname) = hostname {
                    out.push(b' ');
                    out.extend_from_slice(hostname.as_bytes());
                }
                for text in [" ", tag, "[", pid, "]: "] {
                    out.extend_from_slice(text.as_bytes());
                }
                Ok(())
            }
            Header::Rfc5424 => {
                let _ = write!(out, "<{priority}>1 ");
                dates.iso(self.time, out);
                let _ = write!(out, " {} {tag} {pid} - ", hostname.unwrap_or(machine));
                let nothing = self.structured.is_empty();
                out.extend_from_slice(if nothing { b"-" } else { self.structured });
                out.push(b' ');
                Ok(())
            }
        };
    }
}

impl Kind {
    /// Streams frame lines themselves.
    fn wants_line_ends(&self) -> bool {
        matches!(self, Kind::Sink(_) | Kind::Udp(_) | Kind::Unix(_))
    }
}

impl Outlet {
    /// Lines that those dropped who count them themselves.
    pub(super) fn dropped_by_itself(&self) -> u64 {
        match &self.kind {
            Kind::Sink(sink) => sink.dropped(),
            Kind::Spans(exporter) => exporter.dropped(),
            _ => 0,
        }
    }

    pub(super) fn new(output: Output, opened: Opened) -> Outlet {
        let (batch, ends) = (Vec::new(), Vec::new());
        let head = HeldHead::default();
        Outlet { output, kind: opened.into(), socket: None, retry_at: Now::default(), batch, ends, head }
    }

    /// Sends the batch; how many lines were dropped.
    fn flush(&mut self) -> u64 {
        let count = self.ends.len() as u64;
        let dropped = match &self.kind {
            Kind::Sink(sink) => {
                // What it drops it counts itself.
                sink.lines(std::mem::take(&mut self.batch), count);
                0
            }
            Kind::Udp(_) | Kind::Unix(_) => self.send(),
            Kind::Stream(stream) => {
                lines(&self.batch, &self.ends).filter(|line| !stream.push(line)).count() as u64
            }
            Kind::Spans(exporter) => {
                lines(&self.batch, &self.ends).filter(|span| !exporter.push(span)).count() as u64
            }
            Kind::Ring(ring) => {
                lines(&self.batch, &self.ends).for_each(|line| ring.push(line));
                0
            }
        };
        self.batch.clear();
        self.ends.clear();
        dropped
    }

    /// Sends datagrams. A UNIX socket may have been made anew by a syslog server that was restarted.
    fn send(&mut self) -> u64 {
        let (batch, ends) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.ends));
        let mut slices: Vec<IoSlice<'_>> = lines(&batch, &ends).map(IoSlice::new).collect();
        // Many at once: those of one length go together, which is far cheaper. Datagrams have no order to keep, and the lines
        // of one core still have theirs within each length.
        if matches!(self.kind, Kind::Udp(_)) && slices.len() >= LOG_SORT_MIN {
            slices.sort_by_key(|line| line.len());
        }
        let dropped = self.send_slices(&slices);
        drop(slices);
        (self.batch, self.ends) = (batch, ends);
        dropped
    }

    fn send_slices(&mut self, slices: &[IoSlice<'_>]) -> u64 {
        let mut at = 0;
        let mut dropped = 0;
        let mut fresh = false;
        while at < slices.len() {
            let Some(socket) = &self.socket else {
                if fresh || !self.connect() {
                    return dropped + (slices.len() - at) as u64;
                }
                fresh = true;
                continue;
            };
            let (sent, error) = socket.send(&slices[at..]);
            at += sent;
            let Some(error) = error else { continue };
            match error.kind() {
                // The receiver is slow: it does not get the rest of this batch.
                std::io::ErrorKind::WouldBlock => return dropped + (slices.len() - at) as u64,
                std::io::ErrorKind::ConnectionRefused
                | std::io::ErrorKind::ConnectionReset
                | std::io::ErrorKind::NotConnected
                | std::io::ErrorKind::NotFound
                    if !fresh =>
                {
                    self.socket = None;
                    self.retry_at = Now::default();
                }
                // Too long for a datagram, or no buffer for this one.
                _ => {
                    at += 1;
                    dropped += 1;
                }
            }
        }
        dropped
    }

    fn connect(&mut self) -> bool {
        let now = rt::now();
        if now < self.retry_at {
            return false;
        }
        let socket = match &self.kind {
            Kind::Udp(address) => Datagrams::udp(*address),
            Kind::Unix(path) => Datagrams::unix(path),
            _ => return false,
        };
        self.socket = socket.ok();
        self.retry_at = now + LOG_RETRY;
        self.socket.is_some()
    }
}

/// The lines of a batch.
fn lines<'a>(batch: &'a [u8], ends: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut start = 0;
    ends.iter().map(move |end| {
        let line = &batch[start..*end];
        start = *end;
        line
    })
}

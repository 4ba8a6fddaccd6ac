//! Where log lines go: takes them from the rings of the cores, puts the header of each target before them and hands them
//! out in batches. Nothing here waits for a target; what it does not take is dropped and counted.
//!
//! The drain sleeps while there is nothing to do. The first line after a rest goes out at once; lines that follow gather
//! for a few milliseconds, so that a busy log costs a system call for a batch and not for each line.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::io::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use rtrb::{Consumer, RingBuffer};

use crate::base::limits::{LOG_GATHER, LOG_LEAVE, LOG_REPEAT, LOG_RING_BYTES};
use crate::base::time::Now;
use crate::control::events::Level;
use crate::control::log_outlet::{Kind, Outlet};
use crate::control::log_ring::EventRing;
use crate::control::log_sets::{Change, Resolved};
use crate::model::log::{Header, LogSet, Logging, Target};
use crate::policy::log::{Dates, number_to, printable, shorten_json};
use crate::proxy::log::{ENTRY_HEADER, LogSetup};
use crate::rt::{self, StartError};
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

    /// What there is to say of targets. `dropped`: all lines that were dropped so far, also on the cores.
    pub(super) fn news(&self, dropped: u64, now: Now) -> Vec<(Level, String)> {
        let mut news = Vec::new();
        for outlet in self.state.borrow().outlets.iter().flatten() {
            news.extend(outlet.news());
        }
        if let Some(lines) = self.untold(dropped, now) {
            let mut text =
                format!("{lines} log lines were dropped: a target takes them too slowly or is not there");
            let mut state = self.state.borrow_mut();
            let who: Vec<String> = state.outlets.iter_mut().flatten().filter_map(Outlet::untold).collect();
            if !who.is_empty() {
                let _ = write!(text, " ({})", who.join(", "));
            }
            news.push((Level::Warning, text));
        }
        news
    }

    /// Lines dropped since somebody was told of them, if it is time to tell: not before [`LOG_REPEAT`] is over.
    fn untold(&self, dropped: u64, now: Now) -> Option<u64> {
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

    /// Least severe level that the log of this process is to have: that of its target. Nothing, where lines have a header there: they
    /// go the way of all others.
    pub(super) fn local_level(&self) -> u8 {
        let state = self.state.borrow();
        let set = state.sets.get(state.first).and_then(Option::as_ref);
        match set.and_then(|set| set.targets.iter().find(|target| state.is_local(target))) {
            Some(target) if target.format == Header::Raw => target.level,
            Some(_) => 0,
            None => u8::MAX,
        }
    }

    /// Logs something about this process to the targets of `[global]` that its own log is not.
    pub(super) fn event(&self, level: Level, text: &str) {
        let level = level.number();
        let now = unix_now();
        let state = &mut *self.state.borrow_mut();
        let text = printable(text);
        let (set, text) = (state.first, text.as_bytes());
        state.hand_out(Entry { set, level, time: now, structured: &[], text, kind: EntryKind::Event });
        // That one was dropped is not told: the telling would be dropped as well, and be told.
        state.flush(false);
    }

    /// Opens files again that were moved away.
    pub(super) fn reopen(&self) {
        for outlet in self.state.borrow().outlets.iter().flatten() {
            if let Kind::Sink(sink) = &outlet.kind {
                sink.reopen();
            }
        }
    }

    /// Hands out what is left: the process ends. Streams and collectors have [`LOG_LEAVE`] to take it.
    pub(super) async fn finish(&self) {
        self.drain_once();
        let deadline = rt::now() + LOG_LEAVE;
        let is_busy = |outlet: &Outlet| match &outlet.kind {
            Kind::Stream(stream) => stream.is_busy(),
            Kind::Spans(exporter) => exporter.is_busy_in_the_end(),
            _ => false,
        };
        // All are asked, so that all hurry.
        while self.state.borrow().outlets.iter().flatten().filter(|outlet| is_busy(outlet)).count() > 0
            && rt::now() < deadline
        {
            rt::sleep_until(rt::now() + LOG_GATHER).await;
        }
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
        self.dropped.set(self.dropped.get() + state.flush(true));
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
            let kind = if entry[7] == 0 { EntryKind::Text } else { EntryKind::Json };
            self.hand_out(Entry { set: set.into(), level: entry[6], time, structured, text, kind });
            at += len;
        }
        at
    }

    /// Whether it is a file or a standard stream.
    fn is_local(&self, target: &Target) -> bool {
        self.outlets[target.output].as_ref().is_some_and(|outlet| matches!(outlet.kind, Kind::Sink(_)))
    }

    /// Adds a line to the batches of a set's targets.
    fn hand_out(&mut self, entry: Entry<'_>) {
        let Entry { set, level, time, structured, text, kind } = entry;
        let Some(Some(set_of)) = self.sets.get(set) else { return };
        // The first file or standard stream has a log of its own for events, unless its lines have a header.
        let own = match kind {
            EntryKind::Event => set_of.targets.iter().position(|target| self.is_local(target)),
            _ => None,
        };
        for (index, target) in set_of.targets.iter().enumerate() {
            let Some(outlet) = &mut self.outlets[target.output] else { continue };
            if level > target.level || own == Some(index) && target.format == Header::Raw {
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
            if own.is_some() && target.format == Header::Raw && matches!(outlet.kind, Kind::Sink(_)) {
                self.dates.iso(time, &mut outlet.batch);
                outlet.batch.extend_from_slice(b" ");
            }
            // As with HAProxy the end of the line comes on top, but where nothing stands before it.
            let end = start + target.len as usize - usize::from(target.format == Header::Raw);
            match outlet.batch.len() + text.len() <= end {
                true => outlet.batch.extend_from_slice(text),
                false => cut(kind, end, text, &mut outlet.batch),
            }
            if outlet.kind.wants_line_ends() {
                outlet.batch.push(b'\n');
            }
            outlet.ends.push(outlet.batch.len());
        }
    }

    /// Sends all batches; how many lines were dropped.
    fn flush(&mut self, counts: bool) -> u64 {
        let outlets = self.outlets.iter_mut().flatten().filter(|outlet| !outlet.ends.is_empty());
        outlets.map(|outlet| outlet.flush(counts)).sum()
    }
}

/// A line on its way to its targets.
struct Entry<'a> {
    set: usize,
    level: u8,
    time: Duration,
    structured: &'a [u8],
    text: &'a [u8],
    kind: EntryKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EntryKind {
    Text,
    Json,
    /// What the process says of itself.
    Event,
}

/// Appends what fits of a text, up to this end of the batch.
#[cold]
fn cut(kind: EntryKind, end: usize, text: &[u8], batch: &mut Vec<u8>) {
    let room = end.saturating_sub(batch.len());
    let (len, close) = match kind {
        EntryKind::Json => shorten_json(text, room),
        _ => (room.min(text.len()), &b""[..]),
    };
    batch.extend_from_slice(&text[..len]);
    batch.extend_from_slice(close);
    batch.truncate(end);
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
            Header::Priority => write!(out, "<{priority}>"),
            Header::Short => write!(out, "<{}>", self.level),
            Header::Timed | Header::Iso => {
                if self.target.format == Header::Timed {
                    let _ = write!(out, "<{}>", self.level);
                }
                dates.iso(self.time, out);
                out.push(b' ');
                Ok(())
            }
            Header::Local | Header::Rfc3164 => {
                out.push(b'<');
                number_to(priority.into(), out);
                out.push(b'>');
                dates.syslog(self.time, out);
                if self.target.format == Header::Rfc3164 {
                    out.push(b' ');
                    out.extend_from_slice(hostname.unwrap_or(machine).as_bytes());
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

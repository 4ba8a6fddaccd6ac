//! One place where log lines end up: what is open of it, the batch on its way there, and what it did not take. `logs` fills batches.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use crate::base::limits::{LOG_RETRY, LOG_SORT_MIN};
use crate::base::time::Now;
use crate::control::events::Level;
use crate::control::log_ring::EventRing;
use crate::control::log_sink::LogSink;
use crate::control::log_stream::LogStream;
use crate::control::otlp::{Collector, SpanExporter};
use crate::model::log::{Framing, Output, Ring};
use crate::rt::{self, Datagrams};

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

pub(super) struct Outlet {
    pub(super) output: Output,
    pub(super) kind: Kind,
    socket: Option<Datagrams>,
    /// Lines that it did not take, and of how many of them the log spoke.
    dropped: u64,
    told: u64,
    /// Not before then is a socket made again.
    retry_at: Now,
    pub(super) batch: Vec<u8>,
    pub(super) ends: Vec<usize>,
    /// The last header that holds for a second.
    pub(super) head: HeldHead,
}

/// A syslog header, and what it is made of.
#[derive(Default)]
pub(super) struct HeldHead {
    pub(super) text: Vec<u8>,
    /// Set, place of the target in it, level and second.
    pub(super) made_of: Option<(usize, usize, u8, u64)>,
}

impl Kind {
    /// Streams frame lines themselves.
    pub(super) fn wants_line_ends(&self) -> bool {
        matches!(self, Kind::Sink(_) | Kind::Udp(_) | Kind::Unix(_))
    }
}

impl Outlet {
    /// Lines that those dropped who count them themselves.
    pub(super) fn dropped_by_itself(&self) -> u64 {
        match &self.kind {
            Kind::Sink(sink) => sink.dropped(),
            Kind::Spans(exporter) => exporter.dropped(),
            Kind::Stream(stream) => stream.lost(),
            _ => 0,
        }
    }

    /// What became of it; told once.
    pub(super) fn news(&self) -> Option<(Level, String)> {
        match &self.kind {
            Kind::Sink(sink) => sink.trouble().map(|text| (Level::Warning, text)),
            Kind::Spans(exporter) => exporter.news(),
            _ => None,
        }
    }

    /// Its name and how many lines it did not take since the log spoke of it.
    pub(super) fn untold(&mut self) -> Option<String> {
        let dropped = self.dropped + self.dropped_by_itself();
        let fresh = dropped - self.told;
        self.told = dropped;
        (fresh > 0).then(|| format!("{} {fresh}", self.output))
    }

    pub(super) fn new(output: Output, opened: Opened) -> Outlet {
        let (batch, ends) = (Vec::new(), Vec::new());
        let head = HeldHead::default();
        Outlet {
            output,
            kind: opened.into(),
            socket: None,
            dropped: 0,
            told: 0,
            retry_at: Now::default(),
            batch,
            ends,
            head,
        }
    }

    /// Sends the batch; how many lines were dropped. `counts`: the log is to speak of them.
    pub(super) fn flush(&mut self, counts: bool) -> u64 {
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
        if counts {
            self.dropped += dropped;
        }
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

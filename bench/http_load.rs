//! HTTP/1 loads that wrk cannot make: a connection per request, connections that stay idle, and a fixed rate without
//! coordinated omission (a request is due at its time whatever the answers before it take; latency counts from there).

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::common::{Io, write_once};
use crate::watch::Watch;
use crate::{Options, Tally, report};

/// Connections that are opened at once, so that no accept queue overflows.
const BATCH: usize = 256;
/// What a response may have before its body.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const TIMER: Token = Token(usize::MAX);

/// What is done with the connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Connect, one request, wait for the end; as many at a time as there are connections.
    Conn,
    /// One request each, then nothing: memory.
    Idle,
    /// Requests at a fixed rate over all connections.
    Rate,
}

struct Conn {
    stream: TcpStream,
    connected: bool,
    /// When the request in flight was due; `None`: idle.
    due: Option<Instant>,
    unsent: bool,
    received: Vec<u8>,
}

pub(crate) struct HttpLoad {
    mode: Mode,
    options: Options,
    request: Vec<u8>,
    poll: Poll,
    events: Events,
    conns: Vec<Conn>,
    /// Connections without a request, the one that is idle longest first.
    idle: VecDeque<usize>,
    /// Requests that were due when no connection was idle.
    late: VecDeque<Instant>,
    timer: OwnedFd,
    tally: Tally,
}

impl HttpLoad {
    pub(crate) fn new(mode: Mode, options: Options) -> io::Result<HttpLoad> {
        let close = if mode == Mode::Conn { "Connection: close\r\n" } else { "" };
        let request = format!("GET {} HTTP/1.1\r\nHost: bench\r\n{close}\r\n", options.path).into_bytes();
        let poll = Poll::new()?;
        // SAFETY: timerfd_create returns a fresh descriptor or -1, and nobody else owns it.
        let timer = unsafe {
            let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        let (events, tally) = (Events::with_capacity(1024), Tally::new()?);
        let (idle, late) = (VecDeque::new(), VecDeque::new());
        Ok(HttpLoad { mode, options, request, poll, events, conns: Vec::new(), idle, late, timer, tally })
    }

    pub(crate) fn run(mut self) -> io::Result<()> {
        match self.mode {
            Mode::Conn => self.measure_conn(),
            Mode::Idle => self.measure_idle(),
            Mode::Rate => self.measure_rate(),
        }
    }

    fn measure_conn(&mut self) -> io::Result<()> {
        for _ in 0..self.options.connections {
            self.add()?;
        }
        self.turn_until(Instant::now() + Duration::from_secs_f64(self.options.warmup))?;
        self.measured(|load| load.turn_until(Instant::now() + Duration::from_secs_f64(load.options.seconds)))
    }

    fn measure_idle(&mut self) -> io::Result<()> {
        let watch = Watch::new(&self.options.watch);
        let rss_before = watch.rss_kib()?;
        self.open_all()?;
        let opened = self.tally.units;
        // Time for the proxy to give memory back, then a window in which it has nothing to do.
        self.turn_until(Instant::now() + Duration::from_secs_f64(self.options.warmup))?;
        let before = watch.read()?;
        let start = Instant::now();
        self.turn_until(start + Duration::from_secs_f64(self.options.seconds))?;
        let seconds = start.elapsed().as_secs_f64();
        let used = watch.read()?.since(&before);
        self.tally.units = opened;
        report(&self.tally, seconds, &used, watch.rss_kib()?, Some(rss_before));
        Ok(())
    }

    fn measure_rate(&mut self) -> io::Result<()> {
        self.open_all()?;
        let gap = Duration::from_secs_f64(1.0 / self.options.rate.max(0.001));
        self.measured(|load| {
            let start = Instant::now();
            let end = start + Duration::from_secs_f64(load.options.seconds);
            let mut due = start;
            while due < end {
                load.sleep_until(due)?;
                let now = Instant::now();
                while due <= now && due < end {
                    load.late.push_back(due);
                    due += gap;
                }
                load.send_due()?;
            }
            // What is in flight belongs to the measurement; what never comes back is an error.
            let patience = end + Duration::from_secs(5);
            while load.in_flight() > 0 && Instant::now() < patience {
                load.sleep_until(Instant::now() + Duration::from_millis(10))?;
            }
            load.tally.errors += load.in_flight() as u64;
            Ok(())
        })
    }

    fn measured(&mut self, work: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.tally.reset();
        let watch = Watch::new(&self.options.watch);
        let before = watch.read()?;
        let start = Instant::now();
        work(self)?;
        let seconds = start.elapsed().as_secs_f64();
        let used = watch.read()?.since(&before);
        report(&self.tally, seconds, &used, watch.rss_kib()?, None);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.conns.len() - self.idle.len() + self.late.len()
    }

    /// Opens all connections and lets each make a request.
    fn open_all(&mut self) -> io::Result<()> {
        while self.conns.len() < self.options.connections {
            let target = (self.conns.len() + BATCH).min(self.options.connections);
            while self.conns.len() < target {
                self.add()?;
            }
            let patience = Instant::now() + Duration::from_secs(10);
            while self.idle.len() < target {
                self.sleep_until(Instant::now() + Duration::from_millis(100))?;
                if self.tally.errors > 0 || Instant::now() > patience {
                    return Err(io::Error::other(format!("connection {} failed", self.idle.len())));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self) -> io::Result<()> {
        let conn = open(&self.poll, self.options.target, self.conns.len())?;
        self.conns.push(conn);
        Ok(())
    }

    fn send_due(&mut self) -> io::Result<()> {
        while !self.late.is_empty()
            && let Some(at) = self.idle.pop_front()
        {
            self.conns[at].due = self.late.pop_front();
            self.conns[at].unsent = true;
            if let Err(e) = self.step(at) {
                self.fail(at, e)?;
            }
        }
        Ok(())
    }

    fn turn_until(&mut self, end: Instant) -> io::Result<()> {
        while Instant::now() < end {
            self.sleep_until(end)?;
        }
        Ok(())
    }

    /// Handles events until `until` or until some came. epoll counts in milliseconds, so a timer does the waiting.
    fn sleep_until(&mut self, until: Instant) -> io::Result<()> {
        arm(&self.timer, until.saturating_duration_since(Instant::now()))?;
        match self.poll.poll(&mut self.events, None) {
            Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let ready: Vec<usize> =
            self.events.iter().map(|e| e.token()).filter(|t| *t != TIMER).map(|t| t.0).collect();
        for at in ready {
            if let Err(e) = self.step(at) {
                self.fail(at, e)?;
            }
        }
        Ok(())
    }

    fn fail(&mut self, at: usize, error: io::Error) -> io::Result<()> {
        if self.tally.errors == 0 {
            eprintln!("bench-load: connection {at}: {error}");
        }
        self.tally.errors += 1;
        // A generator that hammers a dead target helps nobody.
        if self.tally.errors > 1000 {
            return Err(error);
        }
        self.conns[at] = open(&self.poll, self.options.target, at)?;
        Ok(())
    }

    /// Moves one connection as far as it goes.
    fn step(&mut self, at: usize) -> io::Result<()> {
        let conn = &mut self.conns[at];
        if !conn.connected {
            if let Some(e) = conn.stream.take_error()? {
                return Err(e);
            }
            match conn.stream.peer_addr() {
                Ok(_) => conn.connected = true,
                Err(e) if e.kind() == ErrorKind::NotConnected => return Ok(()),
                Err(e) => return Err(e),
            }
            conn.stream.set_nodelay(true)?;
        }
        if conn.unsent {
            match write_once(&mut conn.stream, &self.request)? {
                Io::Did(n) if n == self.request.len() => conn.unsent = false,
                Io::Blocked => return Ok(()),
                _ => return Err(ErrorKind::WriteZero.into()),
            }
        }
        let mut buf = [0; 16 * 1024];
        let ended = loop {
            match conn.stream.read(&mut buf) {
                Ok(0) => break true,
                Ok(n) => conn.received.extend_from_slice(&buf[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        };
        if ended && self.mode == Mode::Rate && conn.due.is_none() && conn.received.is_empty() {
            // A proxy may close what is idle; whoever has something to send connects again.
            self.idle.retain(|one| *one != at);
            self.conns[at] = open(&self.poll, self.options.target, at)?;
            return Ok(());
        }
        let complete = is_complete(&conn.received)?;
        if ended && !(complete && self.mode != Mode::Idle) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if !complete || (self.mode == Mode::Conn && !ended) {
            return Ok(());
        }
        conn.received.clear();
        if let Some(due) = conn.due.take() {
            self.tally.done(due);
        }
        if self.mode == Mode::Conn || ended {
            self.conns[at] = open(&self.poll, self.options.target, at)?;
        } else {
            self.idle.push_back(at);
            self.send_due()?;
        }
        Ok(())
    }
}

fn open(poll: &Poll, target: SocketAddr, at: usize) -> io::Result<Conn> {
    let mut stream = TcpStream::connect(target)?;
    poll.registry().register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
    Ok(Conn { stream, connected: false, due: Some(Instant::now()), unsent: true, received: Vec::new() })
}

/// Whether a whole response with a length is there; anything else, and a status that is not 200, is an error.
fn is_complete(received: &[u8]) -> io::Result<bool> {
    let Some(head) = received.windows(4).position(|w| w == b"\r\n\r\n") else {
        return if received.len() > HEAD_BYTES_MAX { Err(ErrorKind::InvalidData.into()) } else { Ok(false) };
    };
    let text = String::from_utf8_lossy(&received[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|v| v.trim().parse::<usize>().ok());
    match length {
        Some(length) if text.starts_with("http/1.1 200") && received.len() <= head + 4 + length => {
            Ok(received.len() == head + 4 + length)
        }
        _ => Err(io::Error::new(ErrorKind::InvalidData, text)),
    }
}

/// Lets the timer fire once after `after`; a past time fires at once.
fn arm(timer: &OwnedFd, after: Duration) -> io::Result<()> {
    let after = after.max(Duration::from_nanos(1));
    let value = libc::timespec {
        tv_sec: after.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(after.subsec_nanos()),
    };
    let spec = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    // SAFETY: the pointer is that of a live value, and the old value is not asked for.
    let done = unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

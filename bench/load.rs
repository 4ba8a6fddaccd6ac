//! The load generator of the benchmarks: one thread, closed loop, any number of connections to one address. Prints one JSON line.
//!
//! `bench-load SCENARIO --target ADDR [--connections N] [--seconds S] [--warmup S] [--watch PID,PID]`
//!
//! Scenarios: `small` (exchanges of 64 to 100 bytes on long connections), `websocket` (the same after an upgrade), `conn`
//! (connect, one exchange, wait for the end), `bulk` and `bulk-up` (bytes), `idle` (connections that stay open), `verify` (checksums; run before measuring), and those
//! of HTTP in `http_load`: `http-conn`, `http-idle`, `http-rate` with `--path P` and `--rate N`, and those of TLS in `tls_load`:
//! `tls-full`, `tls-resumed`, `tls-idle`.
//! CPU of the watched processes is read in the same instant in which the units are counted, so the two belong together.

#![allow(clippy::disallowed_methods, reason = "a load generator measures wall-clock time")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "lengths are bounded by a buffer before they are narrowed"
)]

#[allow(dead_code, reason = "each of the two programs uses its part of the shared module")]
mod common;
mod http_load;
mod tls_load;
mod verify;
mod watch;

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use common::{DIGEST_BYTES, Direction, Io, PATTERN_BYTES, encode_command, pattern, read_once, write_once};
use http_load::{HttpLoad, Mode};
use watch::{Usage, Watch};

/// Bytes of one bulk transfer; the connection then asks for the next.
const BULK_BYTES: u64 = 256 * 1024 * 1024;

/// Bytes received or sent at once in bulk.
const BULK_CALL_BYTES: usize = 256 * 1024;

/// Bytes one bulk connection may move before the others get their turn.
const TURN_BYTES: usize = 1024 * 1024;

/// Connections that `idle` opens at once, so that no accept queue overflows.
const IDLE_BATCH: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scenario {
    Small,
    /// Small exchanges after an upgrade.
    WebSocket,
    Conn,
    Bulk,
    BulkUp,
    Idle,
}

struct Options {
    target: SocketAddr,
    connections: usize,
    seconds: f64,
    warmup: f64,
    watch: Vec<u32>,
    path: String,
    /// Requests a second.
    rate: f64,
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let scenario = args.next().unwrap_or_default();
    let mut options = Options {
        target: SocketAddr::from(([127, 0, 0, 1], 0)),
        connections: 64,
        seconds: 1.0,
        warmup: 0.2,
        watch: Vec::new(),
        path: "/100".to_owned(),
        rate: 100.0,
    };
    while let Some(name) = args.next() {
        let value = args.next().unwrap_or_default();
        let bad = |_| usage(&format!("{name} {value}: not understood"));
        match name.as_str() {
            "--target" => {
                options.target = value.parse().map_err(|e: std::net::AddrParseError| bad(e.to_string()))?
            }
            "--connections" => options.connections = value.parse().map_err(|_| bad(String::new()))?,
            "--seconds" => options.seconds = value.parse().map_err(|_| bad(String::new()))?,
            "--warmup" => options.warmup = value.parse().map_err(|_| bad(String::new()))?,
            "--path" => options.path = value,
            "--rate" => options.rate = value.parse().map_err(|_| bad(String::new()))?,
            "--watch" => {
                let pids: Result<_, _> = value.split(',').map(str::parse).collect();
                options.watch = pids.map_err(|_| bad(String::new()))?;
            }
            _ => return Err(usage(&format!("unknown option {name}"))),
        }
    }
    let scenario = match scenario.as_str() {
        "small" => Scenario::Small,
        "websocket" => Scenario::WebSocket,
        "conn" => Scenario::Conn,
        "bulk" => Scenario::Bulk,
        "bulk-up" => Scenario::BulkUp,
        "idle" => Scenario::Idle,
        "http-conn" => return HttpLoad::new(Mode::Conn, options)?.run(),
        "http-idle" => return HttpLoad::new(Mode::Idle, options)?.run(),
        "http-rate" => return HttpLoad::new(Mode::Rate, options)?.run(),
        "tls-full" => return tls_load::run(tls_load::Mode::Full, &options),
        "tls-resumed" => return tls_load::run(tls_load::Mode::Resumed, &options),
        "tls-idle" => return tls_load::run(tls_load::Mode::Idle, &options),
        "verify-echo" => return verify::echo(options.target),
        "verify-conn" => return verify::conn(options.target),
        "verify-bulk" => return verify::bulk(options.target),
        _ => return Err(usage("which scenario?")),
    };
    let mut load = Load::new(scenario, options)?;
    if scenario == Scenario::Idle { load.idle() } else { load.measure() }
}

fn usage(why: &str) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidInput,
        format!(
            "{why}; bench-load small|websocket|conn|bulk|bulk-up|idle|http-*|tls-*|verify-* --target ADDR [--connections N] [--seconds S] [--warmup S] [--watch PIDS]"
        ),
    )
}

struct Load {
    scenario: Scenario,
    options: Options,
    poll: Poll,
    conns: Vec<Conn>,
    /// Bulk connections whose turn was over.
    ready: Vec<usize>,
    scratch: Vec<u8>,
    pattern: Vec<u8>,
    tally: Tally,
}

/// What was done since the last reset.
struct Tally {
    units: u64,
    errors: u64,
    latency_ns: Histogram<u64>,
}

/// One connection and where it stands in its exchange.
struct Conn {
    stream: TcpStream,
    /// Bytes of a small message, fixed per connection.
    size: usize,
    /// Bytes still to send and to receive in this exchange; 0 and 0: nothing in flight.
    to_send: u64,
    to_receive: u64,
    /// Position in the pattern of an upload.
    at: usize,
    started: Instant,
    connected: bool,
    /// The peer closed, as an event said.
    peer_closed: bool,
}

/// How a connection stands after its turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Wait,
    Over,
    /// The exchange is complete.
    Done,
    /// The peer ended the connection after a complete exchange.
    Closed,
}

impl Load {
    fn new(scenario: Scenario, options: Options) -> io::Result<Self> {
        let tally = Tally::new()?;
        Ok(Self {
            scenario,
            options,
            poll: Poll::new()?,
            conns: Vec::new(),
            ready: Vec::new(),
            scratch: vec![0; BULK_CALL_BYTES],
            pattern: pattern(),
            tally,
        })
    }

    /// Runs the closed loop: warm-up, then the measured window.
    fn measure(&mut self) -> io::Result<()> {
        for at in 0..self.options.connections {
            let conn = self.open(at)?;
            self.conns.push(conn);
        }
        self.drive(Duration::from_secs_f64(self.options.warmup))?;
        self.tally.reset();
        let watch = Watch::new(&self.options.watch);
        let before = watch.read()?;
        let start = Instant::now();
        self.drive(Duration::from_secs_f64(self.options.seconds))?;
        let seconds = start.elapsed().as_secs_f64();
        let used = watch.read()?.since(&before);
        report(&self.tally, seconds, &used, watch.rss_kib()?, None);
        Ok(())
    }

    /// Opens all connections, lets each make one exchange, and says what they cost while they do nothing.
    fn idle(&mut self) -> io::Result<()> {
        let watch = Watch::new(&self.options.watch);
        let rss_before = watch.rss_kib()?;
        while self.conns.len() < self.options.connections {
            let target = (self.conns.len() + IDLE_BATCH).min(self.options.connections);
            for at in self.conns.len()..target {
                let conn = self.open(at)?;
                self.conns.push(conn);
            }
            while (self.tally.units as usize) < target {
                self.turn(Some(Duration::from_secs(10)))?;
                if self.tally.errors > 0 {
                    return Err(io::Error::other(format!("connection {} failed", self.tally.units)));
                }
            }
        }
        // Time for the proxy to give memory back, then a window in which it has nothing to do.
        self.wait_quietly(Duration::from_secs_f64(self.options.warmup))?;
        let before = watch.read()?;
        let start = Instant::now();
        self.wait_quietly(Duration::from_secs_f64(self.options.seconds))?;
        let seconds = start.elapsed().as_secs_f64();
        let used = watch.read()?.since(&before);
        report(&self.tally, seconds, &used, watch.rss_kib()?, Some(rss_before));
        Ok(())
    }

    fn wait_quietly(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
            self.turn(Some(left))?;
        }
        Ok(())
    }

    fn drive(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(Some(Duration::from_millis(100)))?;
        }
        Ok(())
    }

    /// One epoll turn.
    fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        thread_local! {
            static EVENTS: std::cell::RefCell<Events> = std::cell::RefCell::new(Events::with_capacity(1024));
        }
        let mut turn = std::mem::take(&mut self.ready);
        let timeout = if turn.is_empty() { timeout } else { Some(Duration::ZERO) };
        EVENTS.with_borrow_mut(|events| -> io::Result<()> {
            match self.poll.poll(events, timeout) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => other?,
            }
            for event in events.iter() {
                let at = event.token().0;
                self.conns[at].peer_closed |= event.is_read_closed() || event.is_error();
                turn.push(at);
            }
            Ok(())
        })?;
        turn.sort_unstable();
        turn.dedup();
        for at in turn {
            if let Err(e) = self.step(at) {
                if self.tally.errors == 0 {
                    eprintln!("bench-load: connection {at}: {e}");
                }
                self.tally.errors += 1;
                // A generator that hammers a dead target helps nobody.
                if self.tally.errors > 1000 {
                    return Err(e);
                }
                self.conns[at] = self.open(at)?;
            }
        }
        Ok(())
    }

    fn open(&self, at: usize) -> io::Result<Conn> {
        let upgraded = self.scenario == Scenario::WebSocket;
        let mut stream =
            if upgraded { upgrade(self.options.target)? } else { TcpStream::connect(self.options.target)? };
        self.poll.registry().register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        let mut conn = Conn {
            stream,
            size: 64 + at * 7 % 37,
            to_send: 0,
            to_receive: 0,
            at: 0,
            started: Instant::now(),
            connected: false,
            peer_closed: false,
        };
        conn.begin(self.scenario);
        Ok(conn)
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
            let _ = conn.stream.set_nodelay(true);
            if matches!(self.scenario, Scenario::Bulk | Scenario::BulkUp) {
                conn.command(self.scenario)?;
            }
        }
        let turn = match self.scenario {
            Scenario::Small | Scenario::WebSocket | Scenario::Conn | Scenario::Idle => {
                conn.small(self.scenario, &self.pattern, &mut self.scratch)?
            }
            Scenario::Bulk => conn.bulk_down(&mut self.scratch, &mut self.tally.units)?,
            Scenario::BulkUp => conn.bulk_up(&self.pattern, &mut self.scratch, &mut self.tally.units)?,
        };
        match (turn, self.scenario) {
            (Turn::Wait, _) => {}
            (Turn::Over, _) => self.ready.push(at),
            (Turn::Done, Scenario::Bulk | Scenario::BulkUp) => {
                conn.begin(self.scenario);
                conn.command(self.scenario)?;
                self.ready.push(at);
            }
            (Turn::Done, Scenario::Small | Scenario::WebSocket) => {
                self.tally.done(conn.started);
                conn.begin(self.scenario);
                conn.send_small(&self.pattern)?;
            }
            (Turn::Done, Scenario::Idle) => self.tally.done(conn.started),
            (Turn::Closed, Scenario::Conn) => {
                self.tally.done(conn.started);
                self.conns[at] = self.open(at)?;
            }
            (Turn::Done, Scenario::Conn) => {}
            (Turn::Closed, _) => return Err(ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }
}

/// A connection on which the server speaks WebSocket. One after the other: there are few, and they are not what is measured.
fn upgrade(target: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = std::net::TcpStream::connect(target)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(
        b"GET /ws HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        return Err(io::Error::new(ErrorKind::InvalidData, String::from_utf8_lossy(&head).into_owned()));
    }
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream))
}

fn report(tally: &Tally, seconds: f64, used: &Usage, rss_kib: u64, rss_before_kib: Option<u64>) {
    let quantile = |q| tally.latency_ns.value_at_quantile(q) as f64 / 1000.0;
    println!(
        "{{\"units\": {}, \"seconds\": {seconds:.4}, \"errors\": {}, \"cpu_us\": {:.1}, \"user_us\": {:.1}, \
         \"sys_us\": {:.1}, \"p50_us\": {:.1}, \"p99_us\": {:.1}, \"p999_us\": {:.1}, \"rss_kib\": {rss_kib}, \
         \"rss_before_kib\": {}, \"switches_voluntary\": {}, \"switches_forced\": {}}}",
        tally.units,
        tally.errors,
        used.cpu_us,
        used.user_us,
        used.sys_us,
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
        rss_before_kib.map_or_else(|| "null".to_owned(), |kib| kib.to_string()),
        used.switches_voluntary,
        used.switches_forced,
    );
}

impl Tally {
    fn new() -> io::Result<Tally> {
        let latency_ns = Histogram::new_with_bounds(1000, 60_000_000_000, 3).map_err(io::Error::other)?;
        Ok(Tally { units: 0, errors: 0, latency_ns })
    }

    fn done(&mut self, started: Instant) {
        self.units += 1;
        let ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.latency_ns.saturating_record(ns);
    }

    fn reset(&mut self) {
        self.units = 0;
        self.latency_ns.reset();
    }
}

impl Conn {
    /// Sets the next exchange up; nothing is sent yet.
    fn begin(&mut self, scenario: Scenario) {
        (self.to_send, self.to_receive) = match scenario {
            Scenario::Small | Scenario::WebSocket | Scenario::Conn | Scenario::Idle => {
                (self.size as u64, self.size as u64)
            }
            Scenario::Bulk => (0, BULK_BYTES),
            Scenario::BulkUp => (BULK_BYTES, DIGEST_BYTES as u64),
        };
        self.at = 0;
        if self.connected {
            self.started = Instant::now();
        }
    }

    /// Sends the bulk command. It is the first thing in an empty send buffer, so it goes out whole.
    fn command(&mut self, scenario: Scenario) -> io::Result<()> {
        let direction = if scenario == Scenario::BulkUp { Direction::Up } else { Direction::Down };
        let command = encode_command(direction, BULK_BYTES);
        match write_once(&mut self.stream, &command)? {
            Io::Did(n) if n == command.len() => Ok(()),
            _ => Err(ErrorKind::WriteZero.into()),
        }
    }

    fn send_small(&mut self, pattern: &[u8]) -> io::Result<()> {
        match write_once(&mut self.stream, &pattern[..self.to_send as usize])? {
            Io::Did(n) => self.to_send -= n as u64,
            Io::Blocked | Io::Eof => {}
        }
        Ok(())
    }

    fn small(&mut self, scenario: Scenario, pattern: &[u8], scratch: &mut [u8]) -> io::Result<Turn> {
        if self.to_send > 0 {
            self.send_small(pattern)?;
            // The answer cannot be there yet.
            if !self.peer_closed {
                return Ok(Turn::Wait);
            }
        }
        let scratch = &mut scratch[..4096];
        loop {
            match read_once(&mut self.stream, scratch)? {
                Io::Blocked => return Ok(Turn::Wait),
                Io::Eof if self.to_receive == 0 => return Ok(Turn::Closed),
                Io::Eof => return Err(ErrorKind::UnexpectedEof.into()),
                Io::Did(n) if n as u64 > self.to_receive => return Err(ErrorKind::InvalidData.into()),
                Io::Did(n) => {
                    self.to_receive -= n as u64;
                    if self.to_receive == 0 && scenario != Scenario::Conn {
                        return Ok(Turn::Done);
                    }
                    // A short read emptied the socket; what comes next makes a new event, unless it was the end.
                    if !self.peer_closed {
                        return Ok(Turn::Wait);
                    }
                }
            }
        }
    }

    fn bulk_down(&mut self, scratch: &mut [u8], units: &mut u64) -> io::Result<Turn> {
        let mut moved = 0;
        while self.to_receive > 0 {
            if moved >= TURN_BYTES {
                return Ok(Turn::Over);
            }
            let want = self.to_receive.min(scratch.len() as u64) as usize;
            match discard(&self.stream, &mut scratch[..want])? {
                Io::Blocked => return Ok(Turn::Wait),
                Io::Eof => return Err(ErrorKind::UnexpectedEof.into()),
                Io::Did(n) => {
                    moved += n;
                    self.to_receive -= n as u64;
                    *units += n as u64;
                }
            }
        }
        Ok(Turn::Done)
    }

    fn bulk_up(&mut self, pattern: &[u8], scratch: &mut [u8], units: &mut u64) -> io::Result<Turn> {
        let mut moved = 0;
        while self.to_send > 0 {
            if moved >= TURN_BYTES {
                return Ok(Turn::Over);
            }
            let want = self.to_send.min((PATTERN_BYTES - self.at) as u64) as usize;
            match write_once(&mut self.stream, &pattern[self.at..self.at + want])? {
                Io::Blocked | Io::Eof => return Ok(Turn::Wait),
                Io::Did(n) => {
                    moved += n;
                    self.at = (self.at + n) % PATTERN_BYTES;
                    self.to_send -= n as u64;
                    *units += n as u64;
                }
            }
        }
        while self.to_receive > 0 {
            match read_once(&mut self.stream, &mut scratch[..self.to_receive as usize])? {
                Io::Blocked => return Ok(Turn::Wait),
                Io::Eof => return Err(ErrorKind::UnexpectedEof.into()),
                Io::Did(n) => self.to_receive -= n as u64,
            }
        }
        Ok(Turn::Done)
    }
}

/// Receives and throws away. MSG_TRUNC on a TCP socket drops the bytes in the kernel (tcp(7)), so that receiving costs the
/// generator next to nothing and the proxy is what is measured.
fn discard(stream: &TcpStream, buf: &mut [u8]) -> io::Result<Io> {
    loop {
        // SAFETY: the pointer and the length are those of a live, exclusively borrowed slice; the kernel writes at most that much.
        let n = unsafe {
            libc::recv(
                stream.as_raw_fd(),
                buf.as_mut_ptr().cast(),
                buf.len(),
                libc::MSG_TRUNC | libc::MSG_DONTWAIT,
            )
        };
        return match n {
            0 => Ok(Io::Eof),
            n if n > 0 => Ok(Io::Did(n as usize)),
            _ => match io::Error::last_os_error() {
                e if e.kind() == ErrorKind::WouldBlock => Ok(Io::Blocked),
                e if e.kind() == ErrorKind::Interrupted => continue,
                e => Err(e),
            },
        };
    }
}

//! The origin of the benchmarks: one thread, one epoll, four ports, and a port of UDP that swallows log lines on a thread of
//! its own, as a syslog server would. It prints them as `echo=N conn=N bulk=N http=N log=N` and serves until its standard input ends, so it never outlives the script that started it. It measures nothing.
//!
//! - `echo`: returns every byte; closes after the client did.
//! - `conn`: reads one message, answers it and closes first, so that TIME_WAIT stays off the proxy's source ports.
//! - `bulk`: sends or swallows as many bytes as a command asks for (`common::encode_command`).
//! - `http`: keep-alive HTTP/1.1; `GET /N` answers with N bytes, `POST` swallows the body and answers 200; after an upgrade to
//!   WebSocket it returns every byte.

#![allow(
    clippy::cast_possible_truncation,
    reason = "lengths are bounded by a buffer before they are narrowed"
)]

#[allow(dead_code, reason = "each of the two programs uses its part of the shared module")]
mod common;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, UdpSocket};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use common::{COMMAND_BYTES, Direction, Io, PATTERN_BYTES, decode_command, pattern, read_once, write_once};

/// What a port does, in the order of the listeners.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Service {
    Echo,
    Conn,
    Bulk,
    Http,
}

const SERVICES: [(Service, &str); 4] =
    [(Service::Echo, "echo"), (Service::Conn, "conn"), (Service::Bulk, "bulk"), (Service::Http, "http")];

/// First token of a connection; smaller ones are listeners and standard input.
const FIRST_CONN: usize = 16;

/// Bytes read at once. Small messages come in one read; bulk uploads are read in pieces that stay in the cache.
const READ_BYTES: usize = 256 * 1024;

/// Bytes one connection may send before the others get their turn.
const TURN_BYTES: usize = 1024 * 1024;

fn main() -> io::Result<()> {
    let mut server = Server::new()?;
    let log = UdpSocket::bind("127.0.0.1:0")?;
    println!(
        "{} log={}",
        SERVICES
            .iter()
            .zip(&server.listeners)
            .map(|((_, name), l)| Ok(format!("{name}={}", l.local_addr()?.port())))
            .collect::<io::Result<Vec<_>>>()?
            .join(" "),
        log.local_addr()?.port()
    );
    std::thread::spawn(move || {
        let mut line = [0; 65536];
        while log.recv(&mut line).is_ok() {}
    });
    // The script holds the other end of standard input: its end is the signal to go.
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    server.run()
}

struct Server {
    poll: Poll,
    listeners: Vec<TcpListener>,
    /// Connections by token; free places are reused.
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    /// Connections that stopped because their turn was over, not because they were blocked.
    ready: Vec<usize>,
    scratch: Vec<u8>,
    pattern: Vec<u8>,
}

struct Conn {
    stream: TcpStream,
    state: State,
    /// Bytes to send before anything else.
    out: Vec<u8>,
    /// How much of `out` is sent.
    sent: usize,
    /// Pattern bytes to send after `out`, and the position in the pattern.
    fill_left: u64,
    fill_at: usize,
    /// Nothing to read until the next event.
    drained: bool,
    /// An event said that the client closed its side; what it sent before may still have to be read.
    peer_closed: bool,
    /// All that the client sent is read.
    eof: bool,
}

enum State {
    Echo,
    Conn { answered: bool },
    Bulk { command: [u8; COMMAND_BYTES], have: usize, swallow: Option<Swallow> },
    Http { head: Vec<u8>, body_left: u64 },
}

/// An upload in progress.
struct Swallow {
    left: u64,
    checksum: Option<u32>,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Wait for the next event.
    Wait,
    /// Its turn is over; it can go on at once.
    Again,
    /// Close it.
    Close,
}

impl Server {
    fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listeners = Vec::new();
        for i in 0..SERVICES.len() {
            let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            poll.registry().register(&mut listener, Token(i), Interest::READABLE)?;
            listeners.push(listener);
        }
        Ok(Self {
            poll,
            listeners,
            conns: Vec::new(),
            free: Vec::new(),
            ready: Vec::new(),
            scratch: vec![0; READ_BYTES],
            pattern: pattern(),
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut turn = Vec::new();
        loop {
            let timeout = if self.ready.is_empty() { None } else { Some(std::time::Duration::ZERO) };
            match self.poll.poll(&mut events, timeout) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            turn.clear();
            turn.append(&mut self.ready);
            for event in &events {
                let token = event.token().0;
                if token < SERVICES.len() {
                    self.accept(token)?;
                } else if let Some(conn) = self.conns.get_mut(token - FIRST_CONN).and_then(Option::as_mut) {
                    conn.drained = false;
                    conn.peer_closed |= event.is_read_closed();
                    turn.push(token - FIRST_CONN);
                }
            }
            turn.sort_unstable();
            turn.dedup();
            for &at in &turn {
                self.step(at);
            }
        }
    }

    fn accept(&mut self, listener: usize) -> io::Result<()> {
        loop {
            let mut stream = match self.listeners[listener].accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // A connection that was reset before it was accepted is not the listener's trouble.
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e),
            };
            let _ = stream.set_nodelay(true);
            let at = self.free.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() - 1
            });
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(at + FIRST_CONN), interest)?;
            let state = match SERVICES[listener].0 {
                Service::Echo => State::Echo,
                Service::Conn => State::Conn { answered: false },
                Service::Bulk => State::Bulk { command: [0; COMMAND_BYTES], have: 0, swallow: None },
                Service::Http => State::Http { head: Vec::new(), body_left: 0 },
            };
            self.conns[at] = Some(Conn {
                stream,
                state,
                out: Vec::new(),
                sent: 0,
                fill_left: 0,
                fill_at: 0,
                drained: false,
                peer_closed: false,
                eof: false,
            });
        }
    }

    fn step(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at).and_then(Option::as_mut) else { return };
        // An error of one connection (a reset, mostly) ends that connection alone; the load generator counts it.
        match conn.step(&mut self.scratch, &self.pattern).unwrap_or(Next::Close) {
            Next::Wait => {}
            Next::Again => self.ready.push(at),
            Next::Close => {
                self.conns[at] = None;
                self.free.push(at);
            }
        }
    }
}

impl Conn {
    fn step(&mut self, scratch: &mut [u8], pattern: &[u8]) -> io::Result<Next> {
        let mut budget = TURN_BYTES;
        loop {
            match self.flush(pattern, &mut budget)? {
                Flush::Blocked => return Ok(Next::Wait),
                Flush::TurnOver => return Ok(Next::Again),
                Flush::Empty => {}
            }
            if self.eof || matches!(self.state, State::Conn { answered: true }) {
                return Ok(Next::Close);
            }
            if self.drained {
                return Ok(Next::Wait);
            }
            match read_once(&mut self.stream, scratch)? {
                Io::Blocked => self.drained = true,
                Io::Eof => self.eof = true,
                Io::Did(n) => {
                    // A short read emptied the socket; the next byte makes a new event. The end of the stream made
                    // its event already when the peer has closed.
                    self.drained = n < scratch.len() && !self.peer_closed;
                    self.receive(&scratch[..n])?;
                }
            }
        }
    }

    /// Sends what is pending, at most `budget` bytes of pattern.
    fn flush(&mut self, pattern: &[u8], budget: &mut usize) -> io::Result<Flush> {
        while self.sent < self.out.len() {
            match write_once(&mut self.stream, &self.out[self.sent..])? {
                Io::Did(n) => self.sent += n,
                Io::Blocked | Io::Eof => return Ok(Flush::Blocked),
            }
        }
        self.out.clear();
        self.sent = 0;
        while self.fill_left > 0 {
            if *budget == 0 {
                return Ok(Flush::TurnOver);
            }
            let most = (PATTERN_BYTES - self.fill_at).min(*budget) as u64;
            let want = self.fill_left.min(most) as usize;
            match write_once(&mut self.stream, &pattern[self.fill_at..self.fill_at + want])? {
                Io::Did(n) => {
                    self.fill_left -= n as u64;
                    self.fill_at = (self.fill_at + n) % PATTERN_BYTES;
                    *budget -= n;
                }
                Io::Blocked | Io::Eof => return Ok(Flush::Blocked),
            }
        }
        Ok(Flush::Empty)
    }

    fn receive(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let used = match &mut self.state {
                State::Echo => {
                    self.out.extend_from_slice(data);
                    data.len()
                }
                State::Conn { answered } => {
                    self.out.extend_from_slice(data);
                    *answered = true;
                    data.len()
                }
                State::Bulk { .. } => self.receive_bulk(data)?,
                State::Http { .. } => self.receive_http(data)?,
            };
            data = &data[used..];
        }
        Ok(())
    }

    /// Takes a command or a piece of an upload; returns how many bytes it was.
    fn receive_bulk(&mut self, data: &[u8]) -> io::Result<usize> {
        let State::Bulk { command, have, swallow } = &mut self.state else {
            unreachable!("the caller matched it")
        };
        if let Some(upload) = swallow {
            let n = upload.left.min(data.len() as u64) as usize;
            upload.left -= n as u64;
            if let Some(crc) = &mut upload.checksum {
                *crc = crc32c::crc32c_append(*crc, &data[..n]);
            }
            if upload.left == 0 {
                let digest = u64::from(upload.checksum.unwrap_or(0));
                self.out.extend_from_slice(&digest.to_le_bytes());
                *swallow = None;
            }
            return Ok(n);
        }
        let n = (COMMAND_BYTES - *have).min(data.len());
        command[*have..*have + n].copy_from_slice(&data[..n]);
        *have += n;
        if *have == COMMAND_BYTES {
            *have = 0;
            let (direction, length) = decode_command(command).ok_or(io::ErrorKind::InvalidData)?;
            match direction {
                Direction::Down => (self.fill_left, self.fill_at) = (length, 0),
                Direction::Up => *swallow = Some(Swallow { left: length, checksum: None }),
                Direction::UpChecked => *swallow = Some(Swallow { left: length, checksum: Some(0) }),
            }
        }
        Ok(n)
    }

    /// Takes a piece of a body or a whole head; returns how many bytes it was.
    fn receive_http(&mut self, data: &[u8]) -> io::Result<usize> {
        let State::Http { head, body_left } = &mut self.state else { unreachable!("the caller matched it") };
        if *body_left > 0 {
            let n = (*body_left).min(data.len() as u64) as usize;
            *body_left -= n as u64;
            if *body_left == 0 {
                self.out.extend_from_slice(POST_ANSWER);
            }
            return Ok(n);
        }
        // Heads come whole in one read as good as always; then nothing is copied.
        let before = head.len();
        let (request, used) = if before == 0 {
            let Some(at) = memchr::memmem::find(data, b"\r\n\r\n") else {
                head.extend_from_slice(data);
                return Ok(data.len());
            };
            (Request::parse(&data[..at + 4])?, at + 4)
        } else {
            head.extend_from_slice(data);
            let Some(at) = memchr::memmem::find(head, b"\r\n\r\n") else { return Ok(data.len()) };
            (Request::parse(&head[..at + 4])?, at + 4 - before)
        };
        head.clear();
        match request {
            Request::Upgrade => {
                self.out.extend_from_slice(UPGRADE_ANSWER);
                self.state = State::Echo;
            }
            Request::Post { length: 0 } => self.out.extend_from_slice(POST_ANSWER),
            Request::Post { length } => *body_left = length,
            Request::Get { bytes } => {
                self.out.extend_from_slice(GET_ANSWER);
                write!(self.out, "{bytes}\r\n\r\n")?;
                if bytes as usize <= PATTERN_BYTES {
                    self.out.resize(self.out.len() + bytes as usize, b'x');
                } else {
                    (self.fill_left, self.fill_at) = (bytes, 0);
                }
            }
        }
        Ok(used)
    }
}

/// The answer to the key that the load generator sends (RFC 6455 1.3).
const UPGRADE_ANSWER: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const POST_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET_ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\nContent-Length: ";

enum Flush {
    Empty,
    Blocked,
    TurnOver,
}

/// The requests that the load generators send.
enum Request {
    Get { bytes: u64 },
    Post { length: u64 },
    Upgrade,
}

impl Request {
    fn parse(head: &[u8]) -> io::Result<Self> {
        let mut slots = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut slots);
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        request.parse(head).map_err(|_| bad())?;
        if request.method == Some("POST") {
            let length = request
                .headers
                .iter()
                .find(|h| h.name.eq_ignore_ascii_case("content-length"))
                .and_then(|h| std::str::from_utf8(h.value).ok()?.trim().parse().ok())
                .ok_or_else(bad)?;
            return Ok(Self::Post { length });
        }
        if request.headers.iter().any(|h| h.name.eq_ignore_ascii_case("upgrade")) {
            return Ok(Self::Upgrade);
        }
        // The last path segment says how many bytes; anything else gets the small answer.
        let path = request.path.unwrap_or("/").split('?').next().unwrap_or("/");
        Ok(Self::Get { bytes: path.rsplit('/').next().and_then(|s| s.parse().ok()).unwrap_or(100) })
    }
}

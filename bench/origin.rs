//! The origin of the benchmarks: one core of `shardgate::rt`, four ports, and a port of UDP that swallows log lines on a thread of
//! its own, as a syslog server would. It prints them as `echo=N conn=N bulk=N http=N log=N` and serves until its standard input
//! ends, so it never outlives the script that started it. It measures nothing.
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
use std::mem::MaybeUninit;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;

use shardgate::rt::{self, Conn, CoreSpec, Cores, Endpoint, ListenOptions, Listener, SendBuf};

use common::{COMMAND_BYTES, Direction, PATTERN_BYTES, decode_command, pattern};

/// What a port does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Service {
    Echo,
    Conn,
    Bulk,
    Http,
}

const SERVICES: [(Service, &str); 4] =
    [(Service::Echo, "echo"), (Service::Conn, "conn"), (Service::Bulk, "bulk"), (Service::Http, "http")];

/// Bytes thrown away at once.
const DISCARD_BYTES: usize = 256 * 1024;

fn main() -> io::Result<()> {
    let log = UdpSocket::bind("127.0.0.1:0")?;
    let mut sockets = Vec::new();
    for (service, name) in SERVICES {
        let options = ListenOptions { backlog: 4096, ..ListenOptions::default() };
        let socket = rt::listen(Endpoint::Ip(([127, 0, 0, 1], 0).into()), options)?;
        print!(
            "{name}={} ",
            socket2::SockRef::from(&socket).local_addr()?.as_socket().map_or(0, |a| a.port())
        );
        sockets.push((service, socket));
    }
    println!("log={}", log.local_addr()?.port());
    std::thread::spawn(move || {
        let mut line = [0; 65536];
        while log.recv(&mut line).is_ok() {}
    });
    // The script holds the other end of standard input: its end is the signal to go.
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    serve_all(sockets)
}

/// Serves on one core, the first of those that it was started on.
fn serve_all(sockets: Vec<(Service, OwnedFd)>) -> io::Result<()> {
    rt::limits::raise_open_files()?;
    let cpu = rt::machine::cpus()?[0];
    let core = CoreSpec { name: "origin".to_owned(), cpu, buffers: 4096, narrow: false };
    let booted = rt::boot(vec![core]).map_err(io::Error::other)?.swap_remove(0);
    let main = || async {
        let pattern: &'static [u8] = pattern().leak();
        for (service, socket) in sockets {
            rt::spawn(accept(Listener::new(socket), service, pattern));
        }
        std::future::pending().await
    };
    let mut running = Cores::new();
    running.start(booted, main).map_err(io::Error::other)?;
    running.join().map_err(io::Error::other)
}

async fn accept(mut listener: Listener, service: Service, pattern: &'static [u8]) {
    loop {
        match listener.accept().await {
            Ok(conn) => rt::spawn(async move {
                // An error of one connection (a reset, mostly) ends that connection alone; the load generator counts it.
                let _ = match service {
                    Service::Echo => echo(&conn).await,
                    Service::Conn => answer_once(&conn).await,
                    Service::Bulk => bulk(&conn, pattern).await,
                    Service::Http => http(&conn, pattern).await,
                };
            }),
            // A connection that was reset before it was accepted is not the listener's trouble.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => {
                eprintln!("bench-origin: cannot accept: {e}");
                std::process::exit(1);
            }
        }
    }
}

async fn echo(conn: &Conn) -> io::Result<()> {
    while let Some(data) = conn.recv().await? {
        conn.send_all(data).await?;
    }
    Ok(())
}

async fn answer_once(conn: &Conn) -> io::Result<()> {
    match conn.recv().await? {
        Some(data) => conn.send_all(data).await,
        None => Ok(()),
    }
}

/// Sends so many bytes of the pattern.
async fn fill(conn: &Conn, pattern: &'static [u8], mut left: u64) -> io::Result<()> {
    while left > 0 {
        let piece = &pattern[..left.min(PATTERN_BYTES as u64) as usize];
        conn.send_all(SendBuf::Static(piece)).await?;
        left -= piece.len() as u64;
    }
    Ok(())
}

async fn bulk(conn: &Conn, pattern: &'static [u8]) -> io::Result<()> {
    let mut command = Vec::with_capacity(COMMAND_BYTES);
    // An upload in progress: what is missing, and the checksum of what came.
    let mut upload: Option<(u64, Option<u32>)> = None;
    while let Some(data) = conn.recv().await? {
        let mut data: &[u8] = &data;
        while !data.is_empty() {
            if let Some((left, checksum)) = &mut upload {
                let piece = take(&mut data, *left);
                *left -= piece.len() as u64;
                *checksum = checksum.map(|crc| crc32c::crc32c_append(crc, piece));
                if *left == 0 {
                    let digest = u64::from(checksum.unwrap_or(0));
                    upload = None;
                    conn.send_all(digest.to_le_bytes().to_vec()).await?;
                }
                continue;
            }
            let missing = (COMMAND_BYTES - command.len()) as u64;
            command.extend_from_slice(take(&mut data, missing));
            let Ok(whole) = command.as_slice().try_into() else { break };
            let (direction, length) = decode_command(whole).ok_or(io::ErrorKind::InvalidData)?;
            command.clear();
            match direction {
                Direction::Down => fill(conn, pattern, length).await?,
                Direction::Up => upload = Some((length, None)),
                Direction::UpChecked => upload = Some((length, Some(0))),
            }
        }
        // The digest follows the last byte, which is received.
        if let Some((left, None)) = &mut upload {
            discard(conn, left).await?;
        }
    }
    Ok(())
}

async fn http(conn: &Conn, pattern: &'static [u8]) -> io::Result<()> {
    // The beginning of a head, what is missing of a body, and memory for answers.
    let (mut head, mut body_left, mut out) = (Vec::new(), 0, Vec::new());
    while let Some(data) = conn.recv().await? {
        let mut data: &[u8] = &data;
        while !data.is_empty() {
            if body_left > 0 {
                body_left -= take(&mut data, body_left).len() as u64;
                if body_left == 0 {
                    out.extend_from_slice(POST_ANSWER);
                }
                continue;
            }
            match next_request(&mut head, &mut data)? {
                None => {}
                Some(Request::Upgrade) => {
                    out.extend_from_slice(UPGRADE_ANSWER);
                    out.extend_from_slice(data);
                    conn.send_all(out).await?;
                    return echo(conn).await;
                }
                Some(Request::Post { length: 0 }) => out.extend_from_slice(POST_ANSWER),
                Some(Request::Post { length }) => body_left = length,
                Some(Request::Get { bytes }) => {
                    out.extend_from_slice(GET_ANSWER);
                    write!(out, "{bytes}\r\n\r\n")?;
                    if bytes as usize <= PATTERN_BYTES {
                        out.resize(out.len() + bytes as usize, b'x');
                    } else {
                        out = send(conn, out).await?;
                        fill(conn, pattern, bytes).await?;
                    }
                }
            }
        }
        if !out.is_empty() {
            out = send(conn, out).await?;
        }
        discard(conn, &mut body_left).await?;
    }
    Ok(())
}

/// Sends all; gives the memory back, empty.
async fn send(conn: &Conn, out: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut data = SendBuf::from(out);
    loop {
        let (sent, rest) = conn.send(data).await;
        sent?;
        data = rest;
        if data.remaining().is_empty() {
            let SendBuf::Heap { mut bytes, .. } = data else { unreachable!("made of memory above") };
            bytes.clear();
            return Ok(bytes);
        }
    }
}

/// Throws away what comes, up to the last byte of `left`.
async fn discard(conn: &Conn, left: &mut u64) -> io::Result<()> {
    while *left > 1 {
        conn.readable().await?;
        match discard_now(conn, *left - 1) {
            Ok(0) => return Ok(()),
            Ok(n) => *left -= n as u64,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// MSG_TRUNC drops bytes in the kernel (tcp(7)).
#[inline(never)]
fn discard_now(conn: &Conn, most: u64) -> io::Result<usize> {
    let mut room = [MaybeUninit::uninit(); DISCARD_BYTES];
    let room = &mut room[..most.min(DISCARD_BYTES as u64) as usize];
    socket2::SockRef::from(conn).recv_with_flags(room, libc::MSG_TRUNC | libc::MSG_DONTWAIT)
}

/// Takes at most `most` bytes from the front.
fn take<'a>(data: &mut &'a [u8], most: u64) -> &'a [u8] {
    let (piece, rest) = data.split_at(most.min(data.len() as u64) as usize);
    *data = rest;
    piece
}

/// Takes a head, or the piece of one that is there.
fn next_request(head: &mut Vec<u8>, data: &mut &[u8]) -> io::Result<Option<Request>> {
    let before = head.len();
    // Heads come whole in one receive as good as always; then nothing is copied.
    if before > 0 {
        head.extend_from_slice(data);
    }
    let whole = if before > 0 { head.as_slice() } else { *data };
    let Some(at) = memchr::memmem::find(whole, b"\r\n\r\n") else {
        if before == 0 {
            head.extend_from_slice(data);
        }
        *data = &[];
        return Ok(None);
    };
    let request = Request::parse(&whole[..at + 4])?;
    *data = &data[at + 4 - before..];
    head.clear();
    Ok(Some(request))
}

/// The answer to the key that the load generator sends (RFC 6455 1.3).
const UPGRADE_ANSWER: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const POST_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET_ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\nContent-Length: ";

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

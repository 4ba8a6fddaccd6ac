//! Log lines: what a line says of a stream ([`Line`]), and compiled log formats that write it. `config::expr` compiles them,
//! `proxy::log` gathers a line's facts. Everything a peer sent is escaped where it is written: no byte of the network can
//! end a line, a quoted text or a JSON value.

mod date;
mod escape;
mod field;
mod format;
mod pen;
mod plain;
mod steps;

pub use date::{Dates, Zone};
pub use escape::{printable, shorten_json};
pub use field::{FIELDS, Field, FieldInfo, Reads};
pub use format::{Encoding, Keep, LogFormat, Memory, Moment, Name, Part};
pub use pen::number_to;

use std::time::Duration;

use crate::base::net::Addr;

/// What is known of a stream when its line is written.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// UNIX time of the accept, or of the end of the request before on the same connection.
    pub accepted: Duration,
    /// The host name of this machine.
    pub hostname: &'a str,
    /// The process.
    pub pid: u32,
    /// The client.
    pub client: Addr,
    /// Where it connected to.
    pub local: Addr,
    /// Our own address towards the server.
    pub source: Addr,
    /// The server.
    pub remote: Addr,
    /// Name of the frontend.
    pub frontend: &'a str,
    /// Whether the client's connection is TLS that ends here.
    pub is_tls: bool,
    /// Version and cipher of it.
    pub tls: Option<(&'a str, &'a str)>,
    /// Name of the backend; the frontend's own without one, as with HAProxy.
    pub backend: &'a str,
    /// There is a backend.
    pub is_routed: bool,
    /// Name of the server.
    pub server: Option<&'a str>,
    /// The times.
    pub timers: Timers,
    /// Status of the response; -1: none.
    pub status: i32,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Lines are written before streams are over (`logasap`): times and bytes are marked with `+`.
    pub is_early: bool,
    /// When the line is written, in HAProxy's words (`%OG`).
    pub origin: &'static str,
    /// Why it is over.
    pub end: EndWords,
    /// What the persistence cookie came to: two letters, `-` for nothing.
    pub cookie: [u8; 2],
    /// Attempts beyond the first.
    pub retries: u32,
    /// One of them went to another server.
    pub redispatched: bool,
    /// Its places in the queues of server and backend.
    pub queued_before: (u32, u32),
    /// Levels of sessions.
    pub levels: Levels,
    /// The first line of the request as the client sent it; `None`: there was none, or none that is HTTP.
    pub request: Option<&'a [u8]>,
    /// The first line of the request as it went to the server.
    pub sent: Option<&'a [u8]>,
    /// The `Host` of the request as the client sent it.
    pub host: Option<&'a [u8]>,
    /// Captured request headers.
    pub request_captures: Captured<'a>,
    /// Captured response headers.
    pub response_captures: Captured<'a>,
    /// Captured cookies of request and response, with their names.
    pub cookies: [Option<&'a [u8]>; 2],
    /// The id of the request.
    pub unique_id: Option<&'a [u8]>,
    /// The `traceparent` of the request as the server hears it.
    pub trace: Option<[u8; 55]>,
    /// Number of the request in the process, and of the line.
    pub numbers: (u64, u64),
    /// Values that were kept while their message was there.
    pub kept: Captured<'a>,
}

/// Sessions at the moment of the line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Levels {
    /// Of the process.
    pub process: u32,
    /// Of the frontend.
    pub frontend: u32,
    /// Of the backend.
    pub backend: u32,
    /// Of the server.
    pub server: u32,
}

/// Why a stream is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndWords {
    /// HAProxy's two letters.
    pub letters: &'static str,
    /// The same as a stable name.
    pub name: &'static str,
    /// Who ended it: `client`, `server` or `proxy`.
    pub by: &'static str,
}

/// The timers of a stream in microseconds; `None`: it did not come that far. Names and meaning are HAProxy's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timers {
    /// `%Th`: PROXY header and TLS handshake.
    pub handshake: Option<u64>,
    /// `%Ti`: until the first byte of the request.
    pub idle: Option<u64>,
    /// `%TR`: until its head was complete.
    pub request: Option<u64>,
    /// `%Tw`: in queues.
    pub queue: Option<u64>,
    /// `%Tc`: connecting.
    pub connect: Option<u64>,
    /// `%Tr`: until the head of the response.
    pub response: Option<u64>,
    /// `%Td`: from there to the end.
    pub data: Option<u64>,
    /// `%Tt`: from the accept to the end.
    pub total: u64,
}

impl Timers {
    /// `%Tq`: from the accept until the head of the request was complete.
    pub fn head(&self) -> Option<u64> {
        Some(self.request? + self.handshake.unwrap_or(0) + self.idle.unwrap_or(0))
    }

    /// `%Ta`: from the first byte of the request to the end.
    pub fn active(&self) -> u64 {
        self.total.saturating_sub(self.idle.map_or(0, |idle| idle + self.handshake.unwrap_or(0)))
    }

    /// `%Tu`: the same with the handshake.
    pub fn user(&self) -> u64 {
        self.total.saturating_sub(self.idle.unwrap_or(0))
    }

    /// From the accept to the first byte of the request.
    pub fn before(&self) -> Duration {
        Duration::from_micros(self.idle.map_or(0, |idle| idle + self.handshake.unwrap_or(0)))
    }
}

/// Texts in one buffer, by number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Captured<'a> {
    /// The buffer.
    pub text: &'a [u8],
    /// Where each one stands; `None`: there is none.
    pub spans: &'a [Span],
}

/// Where a text stands in its buffer.
pub type Span = Option<(u32, u32)>;

impl<'a> Captured<'a> {
    /// One of them.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let (from, to) = (*self.spans.get(index)?)?;
        self.text.get(from as usize..to as usize)
    }
}

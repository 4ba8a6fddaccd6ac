//! Where log lines go and what they say. Access lines of a frontend go to a set of targets; the sets and the outputs that
//! they lead to are shared by all frontends with the same words.

use std::fmt;
use std::path::PathBuf;

use crate::model::Frontend;
use crate::model::tls::ServerTls;
use crate::policy::log::{Keep, LogFormat, Reads};

/// All outputs and the sets of targets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Logging {
    /// Where lines end up, each once.
    pub outputs: Vec<Output>,
    /// Lists of targets; a line names one by its position. The first is that of `[global]`: events go there too.
    pub sets: Vec<LogSet>,
    /// Ring buffers (`[ring.NAME]`).
    pub rings: Vec<Ring>,
}

/// One place where lines end up.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Output {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file that is appended to.
    File(PathBuf),
    /// Syslog datagrams to `host:port`.
    Udp(String),
    /// Syslog datagrams to a UNIX socket.
    Unix(PathBuf),
    /// A syslog stream to `host:port`.
    Tcp {
        /// Where.
        address: String,
        /// How messages are told apart.
        framing: Framing,
    },
    /// A ring buffer, by its position.
    Ring(usize),
    /// Spans for an OpenTelemetry collector.
    Spans {
        /// `host:port`.
        address: String,
        /// The path of the URL.
        path: String,
        /// `service.name`.
        service: String,
        /// How to shake hands with it; `None`: it is plain.
        tls: Option<Box<ServerTls>>,
    },
}

impl fmt::Display for Output {
    /// As an operator writes it; a ring has no name here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Output::Stderr => f.write_str("stderr"),
            Output::Stdout => f.write_str("stdout"),
            Output::File(path) => write!(f, "file:{}", path.display()),
            Output::Udp(address) => f.write_str(address),
            Output::Unix(path) => write!(f, "{}", path.display()),
            Output::Tcp { address, .. } => write!(f, "tcp@{address}"),
            Output::Ring(place) => write!(f, "ring {place}"),
            Output::Spans { address, .. } => write!(f, "collector {address}"),
        }
    }
}

impl Logging {
    /// The peers that are spoken to over TLS: `host:port` and how.
    pub fn over_tls(&self) -> impl Iterator<Item = (&str, &ServerTls)> {
        self.outputs.iter().filter_map(|output| match output {
            Output::Spans { address, tls: Some(tls), .. } => Some((address.as_str(), &**tls)),
            _ => None,
        })
    }
}

/// How messages of a stream are told apart (RFC 6587).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Framing {
    /// The length stands before each.
    OctetCounting,
    /// A line each.
    Newline,
}

/// A list of targets and what all of them have in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogSet {
    /// The program name in syslog headers (`log-tag`).
    pub tag: String,
    /// The host name in syslog headers; `None`: none (RFC 3164 alone).
    pub hostname: Option<String>,
    /// The targets.
    pub targets: Vec<Target>,
}

/// One `log` target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Its place among the outputs.
    pub output: usize,
    /// What stands before the line.
    pub format: Header,
    /// Number of the facility (RFC 5424 table 1).
    pub facility: u8,
    /// Lines of a less severe level are left out (`level`); 7: none.
    pub level: u8,
    /// A more severe level is lowered to this one (`minlevel`); 0: it stays.
    pub minlevel: u8,
    /// Longest line with its header, in bytes (`len`).
    pub len: u32,
    /// Which lines of how many (`sample`).
    pub sample: Option<Sample>,
}

/// `sample = "1,3-5:10"`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// First and last of each range, from 1.
    pub ranges: Vec<(u32, u32)>,
    /// Lines of a round.
    pub round: u32,
}

impl Sample {
    /// Whether the line with this number, from 0, is one of them.
    pub fn takes(&self, number: u64) -> bool {
        let place = number % u64::from(self.round.max(1)) + 1;
        self.ranges.iter().any(|(from, to)| (u64::from(*from)..=u64::from(*to)).contains(&place))
    }
}

/// What stands before a line (`format`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Header {
    /// Nothing.
    Raw,
    /// `<134>Nov 21 04:47:10 tag[pid]: `.
    Local,
    /// The same with the host name before the tag.
    Rfc3164,
    /// `<134>1 2026-11-21T04:47:10.123456+00:00 host tag pid - - `.
    Rfc5424,
    /// `<134>`, facility and level.
    Priority,
    /// `<6>`, what systemd reads from standard error.
    Short,
    /// The same and the date.
    Timed,
    /// The date and nothing else.
    Iso,
}

/// A ring buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ring {
    /// Its name.
    pub name: String,
    /// Bytes it holds; the oldest lines go.
    pub size: u32,
    /// What it is for.
    pub description: String,
}

/// The log of a frontend.
#[derive(Clone, Debug)]
pub struct FrontendLog {
    /// Position of its targets in [`Logging::sets`].
    pub set: u16,
    /// What a line says.
    pub line: LogFormat,
    /// Structured data of RFC 5424 targets (`log-format-sd`).
    pub structured: Option<LogFormat>,
    /// What the line of a connection says that failed before its first request (`error-log-format`).
    pub error: Option<LogFormat>,
    /// What it says where a PROXY header or a handshake failed; `None`: the same as any other.
    pub refused: Option<LogFormat>,
    /// Values of these formats that have to be kept while their message is there.
    pub keep: Vec<Keep>,
    /// What they read that has to be fetched or kept for them.
    pub reads: Reads,
    /// No line for connections without a byte (`dontlognull`).
    pub dontlognull: bool,
    /// No line for what went well (`dontlog-normal`).
    pub dontlog_normal: bool,
    /// What went wrong has level "err" (`log-separate-errors`).
    pub separate_errors: bool,
    /// The line is written as soon as the response begins (`logasap`).
    pub asap: bool,
}

/// The traces of a frontend.
#[derive(Clone, Debug)]
pub struct FrontendTrace {
    /// Position of its collector in [`Logging::sets`]; `None`: it records nothing and passes on what clients say.
    pub set: Option<u16>,
    /// Traces that begin here are recorded if the last 56 bits of their id are below it.
    pub threshold: u64,
    /// What a span says.
    pub attributes: LogFormat,
    /// What that reads.
    pub reads: Reads,
}

impl Frontend {
    /// Whether its log or its traces read something.
    pub fn log_reads(&self, what: impl Fn(&Reads) -> bool) -> bool {
        self.log.as_ref().is_some_and(|log| what(&log.reads))
            || self.trace.as_ref().is_some_and(|trace| what(&trace.reads))
    }
}

/// What is kept of requests and responses for logs and for `capture.*`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Captures {
    /// Request headers, then the captures of rules: name (`None`: a rule's) and longest value.
    pub request: Vec<CaptureSlot>,
    /// The same for responses.
    pub response: Vec<CaptureSlot>,
    /// A cookie of both.
    pub cookie: Option<CaptureSlot>,
}

/// One captured value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptureSlot {
    /// The header, or the beginning of the cookie's name; `None`: a rule fills it.
    pub name: Option<Box<[u8]>>,
    /// Longest value that is kept, in bytes.
    pub len: u16,
}

impl Captures {
    /// Whether nothing is captured.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty() && self.cookie.is_none()
    }
}

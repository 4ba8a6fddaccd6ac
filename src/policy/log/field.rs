//! The variables of log formats (`%ci`, `%ST`): one table of names, meaning and type.

/// A variable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the table below says what each of them is")]
pub enum Field {
    ClientIp,
    ClientPort,
    LocalIp,
    LocalPort,
    SourceIp,
    SourcePort,
    ServerIp,
    ServerPort,
    AcceptDate,
    RequestDate,
    RequestDateUniversal,
    RequestDateLocal,
    RequestDateIso,
    DateUniversal,
    DateLocal,
    Timestamp,
    Milliseconds,
    Frontend,
    FrontendTransport,
    Backend,
    Server,
    Handshake,
    Idle,
    Received,
    Head,
    Queue,
    Connect,
    Response,
    Data,
    Active,
    User,
    Total,
    ReceivedUs,
    QueueUs,
    ConnectUs,
    ResponseUs,
    DataUs,
    ActiveUs,
    Status,
    BytesOut,
    BytesIn,
    RequestCookie,
    ResponseCookie,
    End,
    EndCookie,
    EndName,
    EndBy,
    ProcessSessions,
    FrontendSessions,
    BackendSessions,
    ServerSessions,
    Retries,
    ServerQueue,
    BackendQueue,
    RequestCaptures,
    RequestCapturesList,
    ResponseCaptures,
    ResponseCapturesList,
    Request,
    SentRequest,
    FullUrl,
    HostHeader,
    Method,
    Path,
    PathOnly,
    Query,
    Uri,
    Version,
    Hostname,
    Origin,
    Pid,
    UniqueId,
    TraceId,
    SpanId,
    SessionNumber,
    LineNumber,
    TlsCipher,
    TlsVersion,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct FieldInfo {
    /// What follows the percent sign.
    pub name: &'static str,
    /// The variable.
    pub field: Field,
    /// Whether it is a number.
    pub is_number: bool,
    /// What it says.
    pub help: &'static str,
}

macro_rules! fields {
    ($($name:literal $field:ident $kind:ident $help:literal)*) => {
        /// All variables.
        pub static FIELDS: &[FieldInfo] = &[$(FieldInfo {
            name: $name, field: Field::$field, is_number: fields!(@$kind), help: $help,
        }),*];
    };
    (@number) => { true };
    (@text) => { false };
}

fields! {
    "B" BytesOut number "bytes to the client"
    "CC" RequestCookie text "captured cookie of the request"
    "CS" ResponseCookie text "captured cookie of the response"
    "EB" EndBy text "who ended the stream: client, server or proxy (not HAProxy's)"
    "EC" EndName text "why the stream ended, as a stable name (not HAProxy's)"
    "H" Hostname text "host name of this machine"
    "HH" HostHeader text "`Host` of the request (not HAProxy's)"
    "HM" Method text "method of the request"
    "HP" Path text "path of the request"
    "HPO" PathOnly text "path of the request without scheme and host"
    "HQ" Query text "query of the request, with its question mark"
    "HU" Uri text "target of the request"
    "HUF" FullUrl text "scheme, host and target of the request (not HAProxy's)"
    "HV" Version text "version of the request"
    "ID" UniqueId text "id of the request (`unique-id-format`)"
    "OG" Origin text "when the line was written: txn_response (`logasap`), txn_close, sess_error (no whole request), sess_killed (PROXY header or handshake failed)"
    "SR" SentRequest text "request line as it went to the server (not HAProxy's)"
    "ST" Status number "status of the response"
    "T" DateUniversal text "date of the accept, universal time"
    "TI" RequestDateIso text "date of the first byte of the request as RFC 3339 writes it (not HAProxy's)"
    "TR" Received number "ms to receive the head of the request"
    "TRu" ReceivedUs number "the same in µs (not HAProxy's)"
    "Ta" Active number "ms from the first byte of the request to the end"
    "Tau" ActiveUs number "the same in µs (not HAProxy's)"
    "Tc" Connect number "ms to connect to the server"
    "Tcu" ConnectUs number "the same in µs (not HAProxy's)"
    "Td" Data number "ms from the head of the response to the end"
    "Tdu" DataUs number "the same in µs (not HAProxy's)"
    "Th" Handshake number "ms of PROXY header and TLS handshake"
    "Ti" Idle number "ms until the first byte of the request"
    "Tl" DateLocal text "date of the accept, local time"
    "Tq" Head number "ms from the accept until the head of the request was complete"
    "Tr" Response number "ms until the head of the response"
    "Tru" ResponseUs number "the same in µs (not HAProxy's)"
    "Ts" Timestamp number "UNIX time of the accept in seconds"
    "Tt" Total number "ms from the accept to the end"
    "Tu" User number "the same without idle time"
    "Tw" Queue number "ms in queues"
    "Twu" QueueUs number "the same in µs (not HAProxy's)"
    "U" BytesIn number "bytes from the client"
    "ac" ProcessSessions number "connections of the process"
    "b" Backend text "name of the backend"
    "bc" BackendSessions number "sessions of the backend"
    "bi" SourceIp text "our address towards the server"
    "bp" SourcePort number "our port towards the server"
    "bq" BackendQueue number "place of the request in the queue of the backend; 0: it did not wait there"
    "ci" ClientIp text "address of the client"
    "cp" ClientPort number "port of the client"
    "f" Frontend text "name of the frontend"
    "fc" FrontendSessions number "connections of the frontend"
    "fi" LocalIp text "address that the client connected to"
    "fp" LocalPort number "port that the client connected to"
    "ft" FrontendTransport text "name of the frontend, with `~` behind it for TLS"
    "hr" RequestCaptures text "captured request headers between braces"
    "hrl" RequestCapturesList text "the same as a list"
    "hs" ResponseCaptures text "captured response headers between braces"
    "hsl" ResponseCapturesList text "the same as a list"
    "lc" LineNumber number "number of the line"
    "ms" Milliseconds number "milliseconds of the accept date"
    "pid" Pid number "number of the process"
    "r" Request text "request line as the client sent it"
    "rc" Retries number "attempts beyond the first; `+` before it: another server was tried"
    "rt" SessionNumber number "number of the request in the process, in TCP mode of the connection"
    "s" Server text "name of the server"
    "sc" ServerSessions number "sessions of the server"
    "si" ServerIp text "address of the server"
    "sid" SpanId text "id of the span that the server hears of (`trace.context`; not HAProxy's)"
    "sp" ServerPort number "port of the server"
    "sq" ServerQueue number "place of the request in the queue of the server; 0: it did not wait there"
    "sslc" TlsCipher text "cipher of the client's TLS connection"
    "sslv" TlsVersion text "version of the client's TLS connection"
    "t" AcceptDate text "date of the accept, with milliseconds"
    "tid" TraceId text "id of the trace of the request (`trace.context`; not HAProxy's)"
    "tr" RequestDate text "date of the first byte of the request, with milliseconds"
    "trg" RequestDateUniversal text "the same in universal time"
    "trl" RequestDateLocal text "the same in local time"
    "ts" End text "termination state: two letters"
    "tsc" EndCookie text "the same with two letters about the persistence cookie"
}

impl Field {
    /// The row of a name.
    pub fn find(name: &str) -> Option<&'static FieldInfo> {
        FIELDS.iter().find(|info| info.name == name)
    }

    /// What it reads that has to be fetched or kept for it.
    pub(super) fn reads(self) -> Reads {
        use Field::*;
        Reads {
            levels: matches!(self, ProcessSessions | FrontendSessions | BackendSessions | ServerSessions),
            source: matches!(self, SourceIp | SourcePort),
            remote: matches!(self, ServerIp | ServerPort),
            host: matches!(self, HostHeader | FullUrl),
            sent: self == SentRequest,
        }
    }

    /// Whether it is a piece of the request line.
    pub(super) fn is_of_request(self) -> bool {
        use Field::*;
        matches!(self, Request | Method | Path | PathOnly | Query | Uri | Version | FullUrl)
    }

    /// Whether nothing but HTTP has it.
    pub fn is_http(self) -> bool {
        use Field::*;
        let more = matches!(self, SentRequest | HostHeader | RequestCookie | ResponseCookie);
        more || self.is_of_request()
    }

    /// Whether it is a number that is written in decimal digits.
    pub(super) fn is_decimal(self) -> bool {
        // Milliseconds of a date have three digits.
        self != Field::Milliseconds && FIELDS.iter().any(|info| info.field == self && info.is_number)
    }
}

/// What formats read that has to be fetched or kept for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reads {
    /// Levels of sessions, which are summed over cores.
    pub levels: bool,
    /// Our own address towards the server, which the kernel has to be asked for.
    pub source: bool,
    /// The address of the server.
    pub remote: bool,
    /// The `Host` of the request.
    pub host: bool,
    /// The request line as it went to the server.
    pub sent: bool,
}

impl std::ops::BitOr for Reads {
    type Output = Reads;

    fn bitor(self, other: Reads) -> Reads {
        Reads {
            levels: self.levels | other.levels,
            source: self.source | other.source,
            remote: self.remote | other.remote,
            host: self.host | other.host,
            sent: self.sent | other.sent,
        }
    }
}

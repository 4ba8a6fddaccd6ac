//! The fetches: where values come from. Names and meaning are HAProxy's; arguments are resolved at load.

use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use crate::base::id::{BackendId, FrontendId, ServerId};
use crate::policy::sample::eval::Cursor;
use crate::policy::sample::{
    Facts, FirstBytes, HttpFetch, Kind, Live, TlsAnswer, TlsFetch, Value, VariableId,
};
use crate::policy::sample::{Recorded, TimerName};
use crate::policy::stick;
use crate::proto::client_hello::{self, ClientHello};
use crate::proto::h1::head::{HeadOptions, parse_request};
use crate::proto::headers::Head;
use crate::proto::{Parsed, rdp};

/// Where a value comes from. The table in `config::expr` says what each one means to operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fetch {
    /// A value known at load: `str`, `int`, `bool`, `bin`, `env`, `hostname`, `always_true`, ...
    Const(Literal),
    /// A value known at load to be missing: `env` of a variable that is not set.
    Absent,
    /// `src`.
    Src,
    /// `src_port`.
    SrcPort,
    /// `src_is_local`.
    SrcIsLocal,
    /// `dst`.
    Dst,
    /// `dst_port`.
    DstPort,
    /// `dst_is_local`.
    DstIsLocal,
    /// `fc_rcvd_proxy`.
    RcvdProxy,
    /// `fc_err`.
    ConnError,
    /// `fc_err_str`.
    ConnErrorText,
    /// `fc_pp_authority`.
    PpAuthority,
    /// `fc_pp_unique_id`.
    PpUniqueId,
    /// `fe_id`.
    FrontendNumber,
    /// `fe_name`.
    FrontendName,
    /// `fe_defbe`.
    DefaultBackend,
    /// `so_id`.
    ListenerNumber,
    /// `so_name`.
    ListenerName,
    /// `be_id`.
    BackendNumber,
    /// `be_name`.
    BackendName,
    /// `srv_id`.
    ServerNumber,
    /// `srv_name`.
    ServerName,
    /// `nbsrv`.
    UsableServers(BackendId),
    /// `be_conn`.
    BackendSessions(BackendId),
    /// `be_conn_free`.
    BackendFree(BackendId),
    /// `connslots`.
    ConnSlots(BackendId),
    /// `queue`.
    Queue(BackendId),
    /// `avg_queue`.
    AvgQueue(BackendId),
    /// `fe_conn`.
    FrontendSessions(FrontendId),
    /// `srv_conn`.
    ServerSessions(ServerId),
    /// `srv_conn_free`.
    ServerFree(ServerId),
    /// `srv_is_up`.
    ServerIsUp(ServerId),
    /// `srv_queue`.
    ServerQueue(ServerId),
    /// `var`, and what it is when it is not set.
    Variable(VariableId, Option<Box<[u8]>>),
    /// `date`.
    Date {
        /// Added to the time.
        offset: i64,
        /// What is counted.
        unit: TimeUnit,
    },
    /// `rand`: below this number.
    Random(u64),
    /// `req.len`.
    Length,
    /// `req.payload`.
    Payload {
        /// First byte.
        offset: usize,
        /// Number of bytes; 0: all there are.
        length: usize,
    },
    /// `req.payload_lv`.
    PayloadLv {
        /// Where the length stands.
        offset: usize,
        /// Bytes of the length, 1 to 8, in network order.
        length: usize,
        /// Where the block begins.
        block: LengthOffset,
    },
    /// `req.ssl_sni`.
    SslSni,
    /// `req.ssl_alpn`.
    SslAlpn,
    /// `req.ssl_ver`.
    SslVersion,
    /// `req.ssl_hello_type`.
    SslHelloType,
    /// `req.rdp_cookie`, of one name or of any.
    RdpCookie(Option<Box<str>>),
    /// `req.rdp_cookie_cnt`.
    RdpCookieCount(Option<Box<str>>),
    /// `req.proto_http`.
    ProtoHttp,
    /// `wait_end`.
    WaitEnd,
    /// `ssl_fc`.
    IsTls,
    /// Other fetches of the client's TLS connection.
    Tls(TlsFetch),
    /// `unique-id`.
    UniqueId,
    /// `txn.id32`.
    RequestId,
    /// `pid`.
    Process,
    /// `uuid`.
    Uuid,
    /// `capture.*`: what was kept of messages.
    Recorded(Recorded),
    /// `txn.timer.*` and the like: milliseconds, or microseconds.
    Timer(TimerName, bool),
    /// What stick tables know of a key, and changes of it.
    Stick(stick::Place, stick::Read),
    /// Fetches of HTTP messages.
    Http(HttpFetch),
}

/// A value on its own, known at load or on its way to another thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Literal {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An address.
    Ip(IpAddr),
    /// Text.
    Str(Box<[u8]>),
    /// Bytes.
    Bin(Box<[u8]>),
}

impl From<Value<'_>> for Literal {
    fn from(value: Value<'_>) -> Literal {
        match value {
            Value::Bool(b) => Literal::Bool(b),
            Value::Int(i) => Literal::Int(i),
            Value::Ip(ip) => Literal::Ip(ip),
            Value::Str(b) => Literal::Str(b.into()),
            Value::Bin(b) => Literal::Bin(b.into()),
        }
    }
}

impl Literal {
    /// The value.
    pub fn value(&self) -> Value<'_> {
        match self {
            Literal::Bool(b) => Value::Bool(*b),
            Literal::Int(i) => Value::Int(*i),
            Literal::Ip(ip) => Value::Ip(*ip),
            Literal::Str(b) => Value::Str(b),
            Literal::Bin(b) => Value::Bin(b),
        }
    }
}

/// Units of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeUnit {
    /// `s`.
    Seconds,
    /// `ms`.
    Milliseconds,
    /// `us`.
    Microseconds,
}

impl TimeUnit {
    /// Whole units in a duration.
    pub fn count(self, time: Duration) -> i64 {
        let count = match self {
            TimeUnit::Seconds => u128::from(time.as_secs()),
            TimeUnit::Milliseconds => time.as_millis(),
            TimeUnit::Microseconds => time.as_micros(),
        };
        i64::try_from(count).unwrap_or(i64::MAX)
    }
}

/// Where the block of `req.payload_lv` begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LengthOffset {
    /// At this byte.
    Absolute(usize),
    /// So many bytes from the end of the length.
    Relative(i64),
}

/// What a fetch found.
pub(super) enum Fetched<'a> {
    /// A value that borrows from the facts or from the expression.
    Value(Value<'a>),
    /// Bytes that it wrote to the output buffer.
    Written(Kind),
    /// Nothing.
    Missing,
}

impl<'a, T: Into<Option<Value<'a>>>> From<T> for Fetched<'a> {
    fn from(value: T) -> Self {
        value.into().map_or(Fetched::Missing, Fetched::Value)
    }
}

impl Fetch {
    /// Whether it reads the first bytes of the client, which may have to be waited for.
    pub fn reads_first_bytes(&self) -> bool {
        matches!(
            self,
            Fetch::Length
                | Fetch::Payload { .. }
                | Fetch::PayloadLv { .. }
                | Fetch::SslSni
                | Fetch::SslAlpn
                | Fetch::SslVersion
                | Fetch::SslHelloType
                | Fetch::RdpCookie(_)
                | Fetch::RdpCookieCount(_)
                | Fetch::ProtoHttp
                | Fetch::WaitEnd
        )
    }

    /// Whether asking changes nothing, and gives the same while messages, variables and first bytes stay as they are.
    pub(super) fn is_steady(&self) -> bool {
        match self {
            Fetch::Http(fetch) => !matches!(fetch, HttpFetch::Auth(_) | HttpFetch::AuthGroup(_)),
            Fetch::Const(_)
            | Fetch::Absent
            | Fetch::Src
            | Fetch::SrcPort
            | Fetch::Dst
            | Fetch::DstPort
            | Fetch::RcvdProxy
            | Fetch::FrontendName
            | Fetch::ListenerName
            | Fetch::BackendName
            | Fetch::Variable(..)
            | Fetch::IsTls
            | Fetch::Tls(_) => true,
            _ => self.reads_first_bytes(),
        }
    }

    /// The value, and whether more bytes may change it.
    pub(super) fn fetch<'a, F: Facts>(
        &'a self,
        facts: &'a F,
        cursor: &mut Cursor,
        out: &mut Vec<u8>,
        message: &mut Vec<u8>,
    ) -> (Fetched<'a>, bool) {
        if let Fetch::Http(http) = self {
            return http.fetch(facts, cursor, out, message);
        }
        let first = facts.first_bytes();
        match self {
            Fetch::Tls(fetch) => {
                let fetched = match facts.tls(fetch, out) {
                    None => Fetched::Missing,
                    Some(TlsAnswer::Bool(b)) => Fetched::Value(Value::Bool(b)),
                    Some(TlsAnswer::Int(i)) => Fetched::Value(Value::Int(i)),
                    Some(TlsAnswer::Written(kind)) => Fetched::Written(kind),
                };
                (fetched, false)
            }
            Fetch::Uuid => (write_uuid(facts.random(), facts.random(), out), false),
            Fetch::Recorded(what) => {
                let found = facts.recorded(*what, out);
                (if found { Fetched::Written(Kind::Str) } else { Fetched::Missing }, false)
            }
            Fetch::Timer(name, micros) => {
                let us = facts.timer(*name).map(|us| if *micros { us } else { us / 1000 });
                (us.map(|us| Value::Int(i64::try_from(us).unwrap_or(i64::MAX))).into(), false)
            }
            Fetch::Length => (Fetched::Value(Value::Int(int(first.data.len()))), !first.complete),
            Fetch::Payload { offset, length } => payload(first, *offset, *length),
            Fetch::PayloadLv { offset, length, block } => payload_lv(first, *offset, *length, *block),
            Fetch::SslSni | Fetch::SslAlpn | Fetch::SslVersion | Fetch::SslHelloType => {
                self.client_hello(first, cursor, out, message)
            }
            Fetch::RdpCookie(name) => rdp_cookie(first, name.as_deref(), Value::Str),
            Fetch::RdpCookieCount(name) => rdp_cookie(first, name.as_deref(), |_| Value::Int(1)),
            Fetch::ProtoHttp if facts.request().is_some() || facts.response().is_some() => {
                (Fetched::Value(Value::Bool(true)), false)
            }
            Fetch::ProtoHttp => proto_http(first),
            Fetch::WaitEnd => (first.complete.then_some(Value::Bool(true)).into(), !first.complete),
            _ => (self.fixed(facts).into(), false),
        }
    }

    /// Fetches that do not depend on bytes of the client.
    fn fixed<'a, F: Facts>(&'a self, facts: &'a F) -> Option<Value<'a>> {
        let text = |name: &'a str| Some(Value::Str(name.as_bytes()));
        let number = |n: u32| Some(Value::Int(i64::from(n)));
        let conn = facts.conn();
        match self {
            Fetch::Const(literal) => Some(literal.value()),
            Fetch::Src => conn.src.ip().map(Value::Ip),
            Fetch::SrcPort => conn.src.port().map(|p| Value::Int(i64::from(p))),
            Fetch::SrcIsLocal => conn.src.ip().map(|ip| Value::Bool(facts.is_local(ip))),
            Fetch::Dst => conn.dst.ip().map(Value::Ip),
            Fetch::DstPort => conn.dst.port().map(|p| Value::Int(i64::from(p))),
            Fetch::DstIsLocal => conn.dst.ip().map(|ip| Value::Bool(facts.is_local(ip))),
            Fetch::Stick(place, read) => stick(facts, *place, *read),
            Fetch::IsTls => Some(Value::Bool(facts.is_tls())),
            Fetch::UniqueId => facts.unique_id().map(Value::Str),
            Fetch::RequestId => number(facts.request_id()),
            Fetch::Process => number(facts.process()),
            Fetch::RcvdProxy => Some(Value::Bool(conn.rcvd_proxy)),
            Fetch::ConnError => number(facts.conn_error().code().into()),
            Fetch::ConnErrorText => text(facts.conn_error().text()),
            Fetch::PpAuthority => conn.pp_authority.as_deref().map(Value::Str),
            Fetch::PpUniqueId => conn.pp_unique_id.as_deref().map(Value::Str),
            Fetch::FrontendNumber => number(facts.frontend().number),
            Fetch::FrontendName => text(facts.frontend().name),
            Fetch::DefaultBackend => text(facts.default_backend()?),
            Fetch::ListenerNumber => number(facts.listener().0),
            Fetch::ListenerName => text(facts.listener().1?),
            Fetch::BackendNumber => number(facts.backend()?.number),
            Fetch::BackendName => text(facts.backend()?.name),
            Fetch::ServerNumber => number(facts.server()?.number),
            Fetch::ServerName => text(facts.server()?.name),
            Fetch::Variable(id, default) => {
                facts.variables().get(*id).or_else(|| default.as_deref().map(Value::Str))
            }
            Fetch::Date { offset, unit } => {
                Some(Value::Int(unit.count(facts.unix_time()).saturating_add(*offset)))
            }
            Fetch::Random(range) => {
                // The upper half of a product spreads evenly without a division.
                let scaled = (u128::from(facts.random()) * u128::from(*range)) >> 64;
                i64::try_from(scaled).ok().map(Value::Int)
            }
            _ => self.level(facts.live()),
        }
    }

    /// Levels of frontends, backends and servers.
    fn level<'a>(&self, live: &impl Live) -> Option<Value<'a>> {
        Some(Value::Int(match self {
            Fetch::UsableServers(b) => i64::from(live.usable_servers(*b)),
            Fetch::BackendSessions(b) => i64::from(live.backend_sessions(*b)),
            Fetch::BackendFree(b) => free_slots(live, *b, false),
            Fetch::ConnSlots(b) => free_slots(live, *b, true),
            Fetch::Queue(b) => queued(live, *b),
            Fetch::AvgQueue(b) => match live.usable_servers(*b) {
                // No server: twice the queue, as HAProxy estimates it.
                0 => queued(live, *b) * 2,
                n => (queued(live, *b) + i64::from(n) - 1) / i64::from(n),
            },
            Fetch::FrontendSessions(f) => i64::from(live.frontend_sessions(*f)),
            Fetch::ServerSessions(s) => i64::from(live.server(*s).sessions),
            Fetch::ServerFree(s) => {
                let server = live.server(*s);
                server.maxconn.map_or(-1, |max| (i64::from(max) - i64::from(server.sessions)).max(0))
            }
            Fetch::ServerIsUp(s) => return Some(Value::Bool(live.server(*s).up)),
            Fetch::ServerQueue(s) => i64::from(live.server(*s).queued),
            _ => return None,
        }))
    }

    /// What the ClientHello says.
    fn client_hello<'a>(
        &self,
        first: FirstBytes<'_>,
        cursor: &mut Cursor,
        out: &mut Vec<u8>,
        message: &mut Vec<u8>,
    ) -> (Fetched<'a>, bool) {
        let hello = match client_hello::parse(first.data, message) {
            Ok(Parsed::Complete { value, .. }) => value,
            Ok(Parsed::Partial) => return (Fetched::Missing, !first.complete),
            Err(_) => return (Fetched::Missing, false),
        };
        let fetched = match self {
            Fetch::SslHelloType => Fetched::Value(Value::Int(1)),
            Fetch::SslVersion => Fetched::Value(Value::Int(i64::from(hello.ssl_ver()))),
            Fetch::SslAlpn => write_text(next_protocol(&hello, cursor), out),
            _ => write_text(hello.sni.map(str::as_bytes), out),
        };
        (fetched, false)
    }
}

/// What a stick table knows.
fn stick<'a, F: Facts>(facts: &F, place: stick::Place, read: stick::Read) -> Option<Value<'a>> {
    let entry = match place {
        stick::Place::Counter(number, table) => stick::Entry::Counter(number, table),
        stick::Place::Source(table) => stick::Entry::Key(table, Value::Ip(facts.conn().src.ip()?)),
    };
    stick_value(facts.stick(entry, read)?, read)
}

/// A number as the type that reading gives.
pub(crate) fn stick_value<'a>(number: u64, read: stick::Read) -> Option<Value<'a>> {
    Some(match read.is_bool() {
        true => Value::Bool(number != 0),
        false => Value::Int(i64::try_from(number).unwrap_or(i64::MAX)),
    })
}

/// All that wait in a backend, for one of its servers or for any.
fn queued(live: &impl Live, backend: BackendId) -> i64 {
    let servers = live.servers(backend).iter().map(|s| i64::from(live.server(s).queued));
    i64::from(live.backend_queued(backend)) + servers.sum::<i64>()
}

/// Free connections, and free places in queues if asked for, of the usable servers; -1 if one of them has no limit.
fn free_slots(live: &impl Live, backend: BackendId, with_queues: bool) -> i64 {
    let mut free = 0;
    for server in live.servers(backend).iter().map(|s| live.server(s)).filter(|s| s.usable) {
        let Some(maxconn) = server.maxconn else { return -1 };
        free += (i64::from(maxconn) - i64::from(server.sessions)).max(0);
        if with_queues {
            let Some(maxqueue) = server.maxqueue else { return -1 };
            free += (i64::from(maxqueue) - i64::from(server.queued)).max(0);
        }
    }
    free
}

fn payload<'a>(first: FirstBytes<'a>, offset: usize, length: usize) -> (Fetched<'a>, bool) {
    let block = if length == 0 { first.data.get(offset..) } else { slice_at(first.data, offset, length) };
    let may_change = !first.complete && (length == 0 || block.is_none());
    (block.map(Value::Bin).into(), may_change)
}

fn payload_lv<'a>(
    first: FirstBytes<'a>,
    offset: usize,
    length: usize,
    block: LengthOffset,
) -> (Fetched<'a>, bool) {
    let Some(prefix) = slice_at(first.data, offset, length) else {
        return (Fetched::Missing, !first.complete);
    };
    let size = prefix.iter().fold(0_u64, |sum, b| (sum << 8) | u64::from(*b));
    let end = offset + length;
    let start = match block {
        LengthOffset::Absolute(at) => Some(at),
        LengthOffset::Relative(by) => isize::try_from(by).ok().and_then(|by| end.checked_add_signed(by)),
    };
    match (start, usize::try_from(size)) {
        (Some(start), Ok(size)) if size > 0 => payload(first, start, size),
        // An empty block, or one that begins before the first byte.
        _ => (Fetched::Missing, false),
    }
}

fn rdp_cookie<'a>(
    first: FirstBytes<'a>,
    name: Option<&str>,
    value: impl FnOnce(&'a [u8]) -> Value<'a>,
) -> (Fetched<'a>, bool) {
    match rdp::parse(first.data) {
        Ok(Parsed::Complete { value: request, .. }) => (request.cookie(name).map(value).into(), false),
        Ok(Parsed::Partial) => (Fetched::Missing, !first.complete),
        Err(_) => (Fetched::Missing, false),
    }
}

/// Whether the first bytes are the head of an HTTP/1 request. Parsing one takes memory of its own: only TCP mode does this.
fn proto_http<'a>(first: FirstBytes<'_>) -> (Fetched<'a>, bool) {
    match parse_request(first.data, &HeadOptions::default(), &mut Head::new()) {
        Ok(parsed) if parsed.is_partial() => (Fetched::Value(Value::Bool(false)), !first.complete),
        Ok(_) => (Fetched::Value(Value::Bool(true)), false),
        Err(_) => (Fetched::Value(Value::Bool(false)), false),
    }
}

/// Each protocol in turn for conditions; the client's first choice otherwise.
fn next_protocol<'h>(hello: &ClientHello<'h>, cursor: &mut Cursor) -> Option<&'h [u8]> {
    let mut protocols = hello.alpn().skip(cursor.at);
    let protocol = protocols.next();
    cursor.at += 1;
    cursor.more = cursor.each && protocols.next().is_some();
    protocol
}

/// A hello that came in several records is joined in scratch memory, so what it says is copied.
fn write_text<'a>(text: Option<&[u8]>, out: &mut Vec<u8>) -> Fetched<'a> {
    match text {
        Some(text) => {
            out.extend_from_slice(text);
            Fetched::Written(Kind::Str)
        }
        None => Fetched::Missing,
    }
}

/// A random UUID, version 4 (RFC 9562 5.4).
fn write_uuid<'a>(high: u64, low: u64, out: &mut Vec<u8>) -> Fetched<'a> {
    let (high, low) = ((high & !0xf000) | 0x4000, (low & !(0b11 << 62)) | (0b10 << 62));
    // Writing to a vector does not fail.
    let _ = write!(
        out,
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    );
    Fetched::Written(Kind::Str)
}

fn slice_at(data: &[u8], offset: usize, length: usize) -> Option<&[u8]> {
    data.get(offset..offset.checked_add(length)?)
}

pub(super) fn int(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

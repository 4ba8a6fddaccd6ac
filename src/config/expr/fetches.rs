//! The table of sample fetches: name, arguments, type, where it has a value, help, and how it is compiled. Parsing, checks and
//! docs/EXPRESSIONS.md come from it.

use crate::config::expr::args::Args;
use crate::config::expr::http_fetches::HTTP_FETCHES;
use crate::config::expr::stick::STICK_FETCHES;
use crate::config::expr::stream_fetches::STREAM_FETCHES;
use crate::config::expr::tls_fetches::TLS_FETCHES;
use crate::config::expr::{Context, ExprError};
use crate::policy::pattern::Method;
use crate::policy::sample::{Fetch, Kind, LengthOffset, Literal};

/// One row.
pub struct FetchInfo {
    /// Its name.
    pub name: &'static str,
    /// Other names that HAProxy accepts.
    pub aliases: &'static [&'static str],
    /// Arguments, as documentation writes them.
    pub args: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// What it reads.
    pub needs: Needs,
    /// How it is matched when that is not the default of its type.
    pub method: Option<Method>,
    /// Whether names such as `NAME_beg` exist, which imply a method.
    pub derived: bool,
    /// One line for operators.
    pub help: &'static str,
    pub(super) build: fn(&mut Args<'_, '_>) -> Result<Fetch, ExprError>,
}

/// What a fetch reads, and with that where it has a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// Nothing of the client.
    Nothing,
    /// The client connection.
    Connection,
    /// The first bytes that the client sends.
    FirstBytes,
    /// A choice of backend or server, made after the rules of the frontend's connections.
    Routing,
    /// The HTTP request.
    Request,
    /// The HTTP response.
    Response,
}

impl Needs {
    /// The operator's words for it.
    pub fn name(self) -> &'static str {
        match self {
            Needs::Nothing => "anywhere",
            Needs::Connection => "connection",
            Needs::FirstBytes => "content (TCP mode)",
            Needs::Routing => "once routed",
            Needs::Request => "request",
            Needs::Response => "response",
        }
    }

    /// Fails, with help, where there is no such thing.
    pub(super) fn check(self, context: Context, fetch: &str) -> Result<(), (String, String)> {
        match (self, context) {
            (Needs::FirstBytes, Context::Connection) => Err((
                format!(
                    "`{fetch}` reads bytes of the client, and connection rules are evaluated before there are any"
                ),
                "move the rule to `rules` and set `inspect-delay`".to_owned(),
            )),
            (Needs::FirstBytes, Context::Log) => Err((
                format!("`{fetch}` reads the first bytes, which are gone when the line is written"),
                "keep the value in a variable: set-var with a name sess.NAME in `rules`".to_owned(),
            )),
            (Needs::FirstBytes, Context::Request | Context::Response) => Err((
                format!("`{fetch}` reads raw bytes, and in HTTP mode there are only requests and responses"),
                "use it in a frontend of TCP mode".to_owned(),
            )),
            (Needs::Routing, Context::Connection) => Err((
                format!("`{fetch}` has no value before a backend is chosen"),
                "move the rule to `rules`".to_owned(),
            )),
            (Needs::Request | Needs::Response, Context::Connection | Context::Content) => Err((
                format!("`{fetch}` reads HTTP, and here there are only connections and bytes"),
                "use it in the `rules` of a frontend or backend of HTTP mode".to_owned(),
            )),
            (Needs::Request, Context::Response) => Err((
                format!("`{fetch}` reads the request, which is gone when the response comes"),
                "keep the value in a variable: set-var with a name txn.NAME in a rule on the request"
                    .to_owned(),
            )),
            (Needs::Response, Context::Request) => Err((
                format!("`{fetch}` reads the response, which is not there yet"),
                "move the rule to the rules on the response".to_owned(),
            )),
            _ => Ok(()),
        }
    }
}

/// The methods that names such as `path_beg` imply.
const SUFFIXES: &[(&str, Method)] = &[
    ("_beg", Method::Beg),
    ("_dir", Method::Dir),
    ("_dom", Method::Dom),
    ("_end", Method::End),
    ("_len", Method::Len),
    ("_reg", Method::Reg),
    ("_sub", Method::Sub),
];

/// The fetch of a name, and the method that the name implies.
pub(super) fn find(name: &str) -> Option<(&'static FetchInfo, Option<Method>)> {
    let exact = |name: &str| all().find(|f| f.name == name || f.aliases.contains(&name));
    if let Some(info) = exact(name) {
        return Some((info, None));
    }
    SUFFIXES.iter().find_map(|(suffix, method)| {
        let info = exact(name.strip_suffix(suffix)?).filter(|f| f.derived)?;
        Some((info, Some(*method)))
    })
}

/// All rows.
pub fn all() -> impl Iterator<Item = &'static FetchInfo> {
    FETCHES.iter().chain(TLS_FETCHES).chain(STICK_FETCHES).chain(HTTP_FETCHES).chain(STREAM_FETCHES)
}

/// All names, for "did you mean".
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    all().map(|f| f.name)
}

/// A row of a fetch without arguments.
pub(super) const fn plain(
    name: &'static str,
    kind: Kind,
    needs: Needs,
    help: &'static str,
    build: fn(&mut Args<'_, '_>) -> Result<Fetch, ExprError>,
) -> FetchInfo {
    FetchInfo { name, aliases: &[], args: "", kind, needs, method: None, derived: false, help, build }
}

impl FetchInfo {
    pub(super) const fn args(mut self, args: &'static str) -> FetchInfo {
        self.args = args;
        self
    }
    pub(super) const fn aliases(mut self, aliases: &'static [&'static str]) -> FetchInfo {
        self.aliases = aliases;
        self
    }
    const fn matched(mut self, method: Method) -> FetchInfo {
        self.method = Some(method);
        self
    }
    pub(super) const fn derived(mut self) -> FetchInfo {
        self.derived = true;
        self
    }
}

use Kind::{Any, Bin, Bool, Int, Ip, Str};
use Needs::{Connection, FirstBytes, Nothing, Routing};

/// All fetches but those of HTTP, by group.
const FETCHES: &[FetchInfo] = &[
    plain("always_false", Bool, Nothing, "False.", |_| Ok(constant(Literal::Bool(false)))),
    plain("always_true", Bool, Nothing, "True.", |_| Ok(constant(Literal::Bool(true)))),
    plain("bool", Bool, Nothing, "A boolean: true, false, 1 or 0.", |a| {
        match &*a.string("true or false")? {
            "true" | "1" => Ok(constant(Literal::Bool(true))),
            "false" | "0" => Ok(constant(Literal::Bool(false))),
            other => Err(a.error(format!("`{other}` is not true, false, 1 or 0"))),
        }
    })
    .args("BOOLEAN"),
    plain("int", Int, Nothing, "An integer.", |a| Ok(constant(Literal::Int(a.int("the value")?)))).args("INTEGER"),
    plain("str", Str, Nothing, "A text.", |a| Ok(constant(Literal::Str(a.bytes_or_empty())))).args("TEXT"),
    plain("bin", Bin, Nothing, "Bytes, written as hexadecimal digits.", |a| {
        let digits = a.string("hexadecimal digits")?;
        let bytes = unhex(&digits).ok_or_else(|| a.error(format!("`{digits}` is not pairs of hexadecimal digits")))?;
        Ok(constant(Literal::Bin(bytes.into())))
    })
    .args("HEX"),
    plain("ipv4", Ip, Nothing, "An IPv4 address.", |a| match a.ip()? {
        ip if ip.is_ipv4() => Ok(constant(Literal::Ip(ip))),
        _ => Err(a.error("this is not an IPv4 address")),
    })
    .args("ADDRESS"),
    plain("ipv6", Ip, Nothing, "An IPv6 address.", |a| match a.ip()? {
        ip if ip.is_ipv6() => Ok(constant(Literal::Ip(ip))),
        _ => Err(a.error("this is not an IPv6 address")),
    })
    .args("ADDRESS"),
    plain("env", Str, Nothing, "An environment variable, as it was when the configuration was read.", |a| {
        let name = a.string("the name of a variable")?;
        let value = a.scope.resolver.env(&name);
        Ok(value.map_or(Fetch::Absent, |v| constant(Literal::Str(v.into_bytes().into()))))
    })
    .args("NAME"),
    plain("hostname", Str, Nothing, "The host name of this machine.", |a| {
        Ok(constant(Literal::Str(a.scope.resolver.hostname().into_bytes().into())))
    }),
    plain("pid", Int, Nothing, "Number of the process.", |_| Ok(Fetch::Process)),
    plain("proc", Int, Nothing, "1, as there is one process.", |_| Ok(constant(Literal::Int(1)))),
    plain("date", Int, Nothing, "Seconds since 1970 plus OFFSET; UNIT is s, ms or us.", |a| {
        let offset = a.optional_int("the offset")?.unwrap_or(0);
        Ok(Fetch::Date { offset, unit: a.time_unit()? })
    })
    .args("[OFFSET[,UNIT]]"),
    plain("rand", Int, Nothing, "A random number below RANGE (2^32 unless given). Not for secrets.", |a| {
        let range = a.optional_int("the range")?.unwrap_or(1 << 32);
        match u64::try_from(range) {
            Ok(range) if range > 0 => Ok(Fetch::Random(range)),
            _ => Err(a.error("the range is at least 1")),
        }
    })
    .args("[RANGE]"),
    plain("uuid", Str, Nothing, "A random UUID.", |a| match a.optional_int("the version")?.unwrap_or(4) {
        4 => Ok(Fetch::Uuid),
        _ => Err(a.error("there are only UUIDs of version 4")),
    })
    .args("[VERSION]"),
    plain("var", Any, Nothing, "A variable (SCOPE.NAME), or DEFAULT when it is not set.", |a| {
        let id = a.variable()?;
        Ok(Fetch::Variable(id, a.bytes()))
    })
    .args("NAME[,DEFAULT]"),
    // Levels.
    plain("nbsrv", Int, Nothing, "Usable servers of a backend.", |a| Ok(Fetch::UsableServers(a.backend()?)))
        .args("[BACKEND]"),
    plain("be_conn", Int, Nothing, "Sessions of a backend now.", |a| Ok(Fetch::BackendSessions(a.backend()?)))
        .args("[BACKEND]"),
    plain(
        "be_conn_free",
        Int,
        Nothing,
        "Free connections of the usable servers of a backend; -1 if one of them has no maxconn.",
        |a| Ok(Fetch::BackendFree(a.backend()?)),
    )
    .args("[BACKEND]"),
    plain(
        "connslots",
        Int,
        Nothing,
        "Free connections and places in queues of the usable servers; -1 if one has no maxconn or maxqueue.",
        |a| Ok(Fetch::ConnSlots(a.backend()?)),
    )
    .args("[BACKEND]"),
    plain("queue", Int, Nothing, "Sessions waiting in a backend, those waiting for one server included.", |a| {
        Ok(Fetch::Queue(a.backend()?))
    })
    .args("[BACKEND]"),
    plain("avg_queue", Int, Nothing, "Sessions waiting in a backend for each usable server, rounded up.", |a| {
        Ok(Fetch::AvgQueue(a.backend()?))
    })
    .args("[BACKEND]"),
    plain("fe_conn", Int, Nothing, "Connections of a frontend now.", |a| Ok(Fetch::FrontendSessions(a.frontend()?)))
        .args("[FRONTEND]"),
    plain("srv_conn", Int, Nothing, "Sessions on a server now.", |a| Ok(Fetch::ServerSessions(a.server()?)))
        .args("[BACKEND/]SERVER"),
    plain("srv_conn_free", Int, Nothing, "Free connections of a server; -1 if it has no maxconn.", |a| {
        Ok(Fetch::ServerFree(a.server()?))
    })
    .args("[BACKEND/]SERVER"),
    plain("srv_is_up", Bool, Nothing, "Whether a server is up and not in maintenance.", |a| {
        Ok(Fetch::ServerIsUp(a.server()?))
    })
    .args("[BACKEND/]SERVER"),
    plain("srv_queue", Int, Nothing, "Sessions waiting for a server.", |a| Ok(Fetch::ServerQueue(a.server()?)))
        .args("[BACKEND/]SERVER"),
    // The connection.
    plain("src", Ip, Connection, "Address of the client.", |_| Ok(Fetch::Src)),
    plain("src_port", Int, Connection, "Port of the client.", |_| Ok(Fetch::SrcPort)),
    plain("src_is_local", Bool, Connection, "Whether the client's address belongs to this machine.", |_| {
        Ok(Fetch::SrcIsLocal)
    }),
    plain("dst", Ip, Connection, "Address that the client connected to.", |_| Ok(Fetch::Dst)),
    plain("dst_port", Int, Connection, "Port that the client connected to.", |_| Ok(Fetch::DstPort)),
    plain("dst_is_local", Bool, Connection, "Whether that address belongs to this machine.", |_| Ok(Fetch::DstIsLocal)),
    plain("fc_err", Int, Connection, "What went wrong with the client connection before anything was served on it, by HAProxy's number; 0: nothing.", |_| Ok(Fetch::ConnError)),
    plain("fc_err_str", Str, Connection, "The same in words.", |_| Ok(Fetch::ConnErrorText)),
    plain("fc_rcvd_proxy", Bool, Connection, "Whether the client sent a PROXY header.", |_| Ok(Fetch::RcvdProxy)),
    plain("fc_pp_authority", Str, Connection, "The authority of the PROXY header: the host name the client asked for.", |_| {
        Ok(Fetch::PpAuthority)
    }),
    plain("fc_pp_unique_id", Str, Connection, "The unique id of the PROXY header.", |_| Ok(Fetch::PpUniqueId)),
    plain("ssl_fc", Bool, Connection, "Whether the client connection is TLS that ends here.", |_| Ok(Fetch::IsTls)),
    plain("txn.id32", Int, Connection, "Number of the request in the process; in TCP mode of the connection.", |_| {
        Ok(Fetch::RequestId)
    }),
    plain("unique-id", Str, Connection, "The unique id of the request or session.", |_| Ok(Fetch::UniqueId)),
    plain("fe_id", Int, Connection, "Number of the frontend.", |_| Ok(Fetch::FrontendNumber)),
    plain("fe_name", Str, Connection, "Name of the frontend.", |_| Ok(Fetch::FrontendName)),
    plain("fe_defbe", Str, Connection, "Name of the frontend's default backend.", |_| Ok(Fetch::DefaultBackend)),
    plain("so_id", Int, Connection, "Number of the bind.", |_| Ok(Fetch::ListenerNumber)),
    plain("so_name", Str, Connection, "Name of the bind; its number without one.", |_| Ok(Fetch::ListenerName)),
    plain("be_id", Int, Routing, "Number of the backend.", |_| Ok(Fetch::BackendNumber)),
    plain("be_name", Str, Routing, "Name of the backend.", |_| Ok(Fetch::BackendName)),
    plain("srv_id", Int, Routing, "Number of the server.", |_| Ok(Fetch::ServerNumber)),
    plain("srv_name", Str, Routing, "Name of the server.", |_| Ok(Fetch::ServerName)),
    // The first bytes.
    plain("req.len", Int, FirstBytes, "Bytes received so far. A test that fails waits for more.", |_| Ok(Fetch::Length))
        .aliases(&["req_len"]),
    plain(
        "req.proto_http",
        Bool,
        Nothing,
        "Whether this is HTTP: always in HTTP mode; in TCP mode once the first bytes are the whole head of a request.",
        |_| Ok(Fetch::ProtoHttp),
    )
    .aliases(&["req_proto_http"]),
    plain("req.payload", Bin, FirstBytes, "LENGTH bytes from OFFSET on; 0: all there are.", |a| {
        let offset = a.size("the offset")?;
        Ok(Fetch::Payload { offset, length: a.size("the length")? })
    })
    .args("OFFSET,LENGTH")
    .aliases(&["payload"])
    .matched(Method::Bin),
    plain(
        "req.payload_lv",
        Bin,
        FirstBytes,
        "A block whose size stands in LENGTH bytes at OFFSET; it follows, or begins at BLOCK, or so many bytes (+N, -N) from there.",
        payload_lv,
    )
    .args("OFFSET,LENGTH[,BLOCK]")
    .aliases(&["payload_lv"])
    .matched(Method::Bin),
    plain("req.ssl_sni", Str, FirstBytes, "The host name in the TLS ClientHello.", |_| Ok(Fetch::SslSni))
        .aliases(&["req_ssl_sni"]),
    plain("req.ssl_alpn", Str, FirstBytes, "The protocols that the TLS ClientHello offers; conditions see each of them.", |_| {
        Ok(Fetch::SslAlpn)
    }),
    plain("req.ssl_ver", Int, FirstBytes, "Version of the TLS ClientHello, matched as MAJOR.MINOR: 3.3 is TLS 1.2.", |_| {
        Ok(Fetch::SslVersion)
    })
    .aliases(&["req_ssl_ver"])
    .matched(Method::Version),
    plain("req.ssl_hello_type", Int, FirstBytes, "1 once a whole TLS ClientHello is there.", |_| Ok(Fetch::SslHelloType))
        .aliases(&["req_ssl_hello_type"]),
    plain("req.rdp_cookie", Str, FirstBytes, "The cookie of an RDP connection request, of NAME or of any.", |a| {
        Ok(Fetch::RdpCookie(a.optional_string()?.map(Into::into)))
    })
    .args("[NAME]")
    .aliases(&["rdp_cookie"]),
    plain("req.rdp_cookie_cnt", Int, FirstBytes, "How many such cookies there are: 1 or none.", |a| {
        Ok(Fetch::RdpCookieCount(a.optional_string()?.map(Into::into)))
    })
    .args("[NAME]")
    .aliases(&["rdp_cookie_cnt"]),
    plain("wait_end", Bool, FirstBytes, "True once the inspect delay is over; waits until then.", |_| Ok(Fetch::WaitEnd)),
];

fn constant(literal: Literal) -> Fetch {
    Fetch::Const(literal)
}

fn payload_lv(a: &mut Args<'_, '_>) -> Result<Fetch, ExprError> {
    let offset = a.size("the offset")?;
    let length = a.size("the size of the length")?;
    if !(1..=8).contains(&length) {
        return Err(a.error("the length has 1 to 8 bytes"));
    }
    let block = match a.optional_string()? {
        None => LengthOffset::Relative(0),
        Some(text) => {
            let value: i64 = text
                .trim()
                .parse()
                .map_err(|_| a.error(format!("`{text}` is not an offset such as 10, +2 or -4")))?;
            match usize::try_from(value) {
                Ok(at) if !text.trim().starts_with('+') => LengthOffset::Absolute(at),
                _ => LengthOffset::Relative(value),
            }
        }
    };
    Ok(Fetch::PayloadLv { offset, length, block })
}

pub(super) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let value = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    digits.chunks_exact(2).map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect()
}

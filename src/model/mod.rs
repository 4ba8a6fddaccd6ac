//! Layer 2: the validated, immutable description of what to run. Ids, not names; every default is filled in.
//!
//! `config::resolve` makes it, every core reads it. An `Option` here is part of the meaning (no limit, no timeout), never
//! "use the default".

pub mod http;
pub mod log;
mod origins;
mod rules;
pub mod statistics;
pub mod tls;
pub mod vip;

pub use origins::origins;
pub use rules::RuleRef;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::id::{BackendId, FrontendId, IdRange, IdVec, ListenerId, ServerId, TableId};
use crate::policy::balance;
use crate::policy::health::OnError;
use crate::policy::pattern::PatternFile;
use crate::policy::rule::{Rule, RuleList, TcpAction};
use crate::policy::sample::{Expr, VariableTable};
use crate::policy::stick::{self, Stick};

/// Everything that runs.
#[derive(Clone, Debug)]
pub struct Model {
    /// Process-wide settings.
    pub global: Global,
    /// All frontends; a `listen` section is one frontend and one backend of the same name.
    pub frontends: IdVec<FrontendId, Frontend>,
    /// All binds, those of one frontend consecutive.
    pub binds: IdVec<ListenerId, Bind>,
    /// All backends. Models share those that did not change: counted when a generation comes and goes, never by sessions.
    pub backends: Arc<IdVec<BackendId, Arc<Backend>>>,
    /// All servers, those of one backend consecutive; shared as backends are.
    pub servers: Arc<IdVec<ServerId, Arc<Server>>>,
    /// All variables that rules and formats name; sessions have a slot for each.
    pub variables: VariableTable,
    /// Stick tables.
    pub tables: IdVec<TableId, stick::Spec>,
    /// Pattern files, which the admin socket may change; the position is their id there.
    pub patterns: Vec<Arc<PatternFile>>,
    /// Files whose bytes are sent (`errorfile`, `file` of a reply), as they are named, and what stood in them.
    pub files: BTreeMap<String, Arc<[u8]>>,
    /// Where log lines go.
    pub logging: log::Logging,
    /// Lists of users (`[userlist.NAME]`), in the order of the file.
    pub userlists: Vec<http::Userlist>,
    /// Addresses that move between nodes (`[vip.NAME]`), in the order of the file.
    pub vips: Vec<vip::Vip>,
    /// Routers that are told of them (`[bgp]`).
    pub bgp: Option<vip::Bgp>,
    /// Gateways of uplinks (`[gateway.INTERFACE]`), in the order of the file.
    pub gateways: Vec<Gateway>,
}

/// `[global]` and `[admin]`.
#[derive(Clone, Debug)]
pub struct Global {
    /// CPU numbers of the data cores (`cores`), one executor each, pinned.
    pub cores: Vec<usize>,
    /// CPU of the control core (`control-core`); may be shared with a data core.
    pub control_core: usize,
    /// Client connections of the whole process; `None`: derived from RLIMIT_NOFILE at start.
    pub maxconn: Option<u32>,
    /// TLS connections of clients over all cores (`maxsslconn`).
    pub tls_connections_max: Option<u32>,
    /// New connections in each second over all cores (`maxconnrate`).
    pub rate_max: Option<u32>,
    /// New TLS connections in each second over all cores (`maxsslrate`).
    pub tls_rate_max: Option<u32>,
    /// How long a stopping process waits for its sessions (`hard-stop-after`); `None`: for ever.
    pub hard_stop_after: Option<Duration>,
    /// Name of this machine in statistics (`node`); default the host name.
    pub node: String,
    /// DNS servers that are asked for names of servers (`nameserver`); empty: those of the machine.
    pub nameservers: Vec<std::net::SocketAddr>,
    /// Free text in statistics (`description`).
    pub description: String,
    /// Admin sockets (`[admin]`).
    pub admin: Vec<AdminSocket>,
    /// Where messages of the process go.
    pub log: LogTarget,
    /// What `show info` says as `Name` (`stats.compat-name`).
    pub compat_name: String,
    /// Where runtime changes and health are remembered (`state-file`); `None`: nowhere.
    pub state_file: Option<PathBuf>,
    /// Spread of check starts in percent of the interval (`spread-checks`, 0 to 50).
    pub spread_checks: u32,
    /// Receive buffers a core may have at most (`tune.buffers-max`), each [`BUF_BYTES`](crate::base::limits::BUF_BYTES).
    pub buffers_max: u32,
    /// Bytes of a splice pipe (`tune.pipesize`).
    pub pipe_bytes: u32,
    /// Pipes a core may have at most (`maxpipes` divided by cores).
    pub pipes_max: u32,
    /// Give up what is not needed at the start (`sandbox`).
    pub sandbox: bool,
    /// HTTP/2 (`tune.h2.*`).
    pub h2: http::H2Settings,
}

/// `[gateway.INTERFACE]`: what leaves by the interface takes this way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gateway {
    /// `eth1`.
    pub interface: String,
    /// At most one of each family is of use.
    pub addresses: Vec<IpAddr>,
}

/// Where messages of the process go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogTarget {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file that is appended to.
    File(PathBuf),
}

impl std::fmt::Display for LogTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LogTarget::Stderr => f.write_str("stderr"),
            LogTarget::Stdout => f.write_str("stdout"),
            LogTarget::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// One admin socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdminSocket {
    /// Where it listens.
    pub at: AdminEndpoint,
    /// Permission bits of the socket file; 0o600 unless set.
    pub mode: u32,
    /// What its users may do.
    pub level: AdminLevel,
}

/// Where an admin socket listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdminEndpoint {
    /// A UNIX stream socket.
    Unix(PathBuf),
    /// TCP on an address of the loopback network: what is said there is neither encrypted nor authenticated.
    Tcp(std::net::SocketAddr),
    /// A listening socket that the parent left open.
    Fd(i32),
}

impl std::fmt::Display for AdminEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AdminEndpoint::Unix(path) => write!(f, "{}", path.display()),
            AdminEndpoint::Tcp(address) => write!(f, "{address}"),
            AdminEndpoint::Fd(fd) => write!(f, "fd@{fd}"),
        }
    }
}

/// HAProxy's levels of the admin socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AdminLevel {
    /// Reads non-sensitive statistics.
    User,
    /// Reads everything and makes changes that are not sensitive.
    Operator,
    /// Everything.
    Admin,
}

/// `mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Relay bytes.
    Tcp,
    /// Understand requests and responses.
    Http,
}

/// `[frontend.NAME]`, or the frontend half of `[listen.NAME]`.
#[derive(Clone, Debug)]
pub struct Frontend {
    /// Its name.
    pub name: String,
    /// Its number in statistics and `fe_id` (`id`); unique among frontends and backends.
    pub iid: u32,
    /// TCP.
    pub mode: Mode,
    /// Its binds.
    pub binds: IdRange<ListenerId>,
    /// Concurrent connections over all cores (`maxconn`); `None`: only the global limit.
    pub maxconn: Option<u32>,
    /// Inactivity of the client (`timeout client`).
    pub timeout_client: Option<Duration>,
    /// Inactivity of a client that we have half-closed (`timeout client-fin`); `timeout client` unless set.
    pub timeout_client_fin: Option<Duration>,
    /// How long a client may take for its TLS handshake (`timeout client-hs`); `timeout client` unless set.
    pub timeout_client_hs: Option<Duration>,
    /// How long content rules wait for first bytes (`inspect-delay`); zero: they do not wait.
    pub inspect_delay: Duration,
    /// Rules on a fresh connection, before any byte (`connection-rules`; HAProxy's `tcp-request connection`).
    pub connection_rules: RuleList<TcpAction>,
    /// Rules on the first bytes (`rules`; HAProxy's `tcp-request content` and `use_backend`).
    pub content_rules: RuleList<TcpAction>,
    /// Where sessions go that no rule routed; `None`: they are closed and counted.
    pub default_backend: Option<BackendId>,
    /// How bytes are moved.
    pub splice: Splice,
    /// Its log; `None`: it has none.
    pub log: Option<Box<log::FrontendLog>>,
    /// Its traces; `None`: it leaves them alone.
    pub trace: Option<Box<log::FrontendTrace>>,
    /// What is kept of requests and responses.
    pub captures: Box<log::Captures>,
    /// What it does with requests; there exactly in HTTP mode.
    pub http: Option<Box<http::HttpFrontend>>,
}

/// `splice`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Splice {
    /// Copy small and short flows, splice(2) bulk flows where that is cheaper.
    Auto,
    /// splice(2) from the first byte on.
    Always,
    /// Copy.
    Never,
}

/// One `bind`.
#[derive(Clone, Debug)]
pub struct Bind {
    /// Its name in statistics (`name`); default `sock-N`.
    pub name: String,
    /// Its number in statistics.
    pub sid: u32,
    /// The frontend it belongs to.
    pub frontend: FrontendId,
    /// Where it listens.
    pub address: BindAddress,
    /// SO_BINDTODEVICE (`interface`).
    pub interface: Option<String>,
    /// IP_TRANSPARENT (`transparent`): accept connections for any address.
    pub transparent: bool,
    /// Length of the accept queue (`backlog`).
    pub backlog: u32,
    /// TCP_DEFER_ACCEPT (`defer-accept`): accept when the first bytes are there.
    pub defer_accept: bool,
    /// TCP_FASTOPEN queue length (`tfo`); 0: off.
    pub tfo_queue: u32,
    /// TCP_MAXSEG (`mss`).
    pub mss: Option<u16>,
    /// TCP_USER_TIMEOUT (`tcp-ut`).
    pub tcp_user_timeout: Option<Duration>,
    /// Concurrent connections of this bind over all cores (`maxconn`).
    pub maxconn: Option<u32>,
    /// Which core accepts.
    pub accept: Accept,
    /// Peers that must send a PROXY header first (`accept-proxy`); `None`: nobody may. Sorted, and none lies in another.
    pub accept_proxy: Option<Vec<Cidr>>,
    /// IPV6_V6ONLY (`v6only`); false: an IPv6 wildcard takes IPv4 too (`v4v6`).
    pub v6only: bool,
    /// What makes it a TLS bind (`tls`).
    pub tls: Option<Box<tls::BindTls>>,
    /// `file:line:col` where it is configured.
    pub origin: String,
}

impl Bind {
    /// Its name, or its number without one.
    pub fn label(&self) -> &str {
        let number = self.name.strip_prefix("sock-").filter(|number| number.parse() == Ok(self.sid));
        number.unwrap_or(&self.name)
    }
}

/// Where a bind listens.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum BindAddress {
    /// TCP. Port 0 lets the kernel choose one (the same on all cores).
    Ip(std::net::SocketAddr),
    /// `unix@/path`.
    Unix(PathBuf),
    /// `abns@name`.
    Abstract(String),
    /// `fd@N`: a listening socket inherited from the parent, systemd's activation included.
    Fd(i32),
}

/// `accept`: which core gets a new connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accept {
    /// SO_REUSEPORT's hash.
    Hash,
    /// The core whose CPU received the packet (a CBPF program on the SO_REUSEPORT group).
    Cpu,
    /// The core with the fewest sessions; a fresh connection is handed over where that helps.
    Balanced,
}

/// A network in CIDR notation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    /// Address with host bits zero.
    pub address: IpAddr,
    /// Prefix length.
    pub prefix: u8,
}

impl Cidr {
    /// Whether an address lies in the network. IPv4 mapped in IPv6 is IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(a)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0);
                a.to_bits() & mask == network.to_bits()
            }
            (IpAddr::V6(network), IpAddr::V6(a)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix.min(128))).unwrap_or(0);
                a.to_bits() & mask == network.to_bits()
            }
            _ => false,
        }
    }
}

/// `[backend.NAME]`, or the backend half of `[listen.NAME]`.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// Its number in statistics and `be_id` (`id`). The two halves of a `listen` share one.
    pub iid: u32,
    /// TCP.
    pub mode: Mode,
    /// Its servers.
    pub servers: IdRange<ServerId>,
    /// How load is distributed.
    pub balance: balance::Spec,
    /// The key of `balance = "hash EXPR"`.
    pub hash_key: Option<Expr>,
    /// Time to establish a connection to a server (`timeout connect`).
    pub timeout_connect: Option<Duration>,
    /// Inactivity of the server (`timeout server`).
    pub timeout_server: Option<Duration>,
    /// Inactivity of a server that we have half-closed (`timeout server-fin`); default `timeout server`.
    pub timeout_server_fin: Option<Duration>,
    /// Inactivity once both sides are connected (`timeout tunnel`); replaces client and server timeouts then.
    pub timeout_tunnel: Option<Duration>,
    /// Time in the queue (`timeout queue`); default `timeout connect`.
    pub timeout_queue: Option<Duration>,
    /// Further attempts after a failed connect (`retries`).
    pub retries: u32,
    /// Whether a retry may take another server (`option redispatch`): 0 never, n > 0 every n-th retry, n < 0 the n-th from last.
    pub redispatch: i32,
    /// Sessions at which servers with `minconn` reach their `maxconn` (`fullconn`); `None`: a tenth of the process's.
    pub fullconn: Option<u32>,
    /// Give up for clients that closed or half-closed before the response (`abortonclose`).
    pub abort_on_close: bool,
    /// Use all backup servers together once no other is usable (`option allbackups`).
    pub allbackups: bool,
    /// How bytes are moved.
    pub splice: Splice,
    /// Persistence by stick tables, in order.
    pub stick: Vec<Rule<Stick>>,
    /// What it does with requests; there exactly in HTTP mode.
    pub http: Option<Box<http::HttpBackend>>,
}

/// The name that a server is asked for, said by an expression for each connection.
#[derive(Clone, Debug)]
pub struct SniExpression {
    /// What says it.
    pub expression: Expr,
    /// Whether it may be another one for each request of a client.
    pub per_request: bool,
}

/// `[backend.NAME.server.NAME]`.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its number in statistics (`id`).
    pub sid: u32,
    /// Its backend.
    pub backend: BackendId,
    /// Where it is.
    pub address: ServerAddress,
    /// How its name becomes an address.
    pub lookup: Lookup,
    /// Share of the load, 0 to 256 (`weight`).
    pub weight: u32,
    /// Used only when no other server is usable (`backup`).
    pub backup: bool,
    /// Starts in maintenance (`disabled`).
    pub disabled: bool,
    /// The name that it is asked for, where an expression says it (`tls.sni`).
    pub sni: Option<SniExpression>,
    /// Concurrent sessions over all cores (`maxconn`); more wait in the queue.
    pub maxconn: Option<u32>,
    /// Sessions that may wait for this server (`maxqueue`); `None`: no limit but the backend's.
    pub maxqueue: Option<u32>,
    /// PROXY header to send first.
    pub send_proxy: Option<SendProxy>,
    /// Local addresses of connections to it (`source`); empty: the kernel chooses.
    pub source: Vec<Source>,
    /// Connect from the address of the client (`source = "client"`), by IP_TRANSPARENT; then `source` is empty.
    pub source_is_client: bool,
    /// Health check; `None`: always considered up.
    pub check: Option<Check>,
    /// Errors of real traffic that count as well (`observe`); only beside a check.
    pub observe: Option<Observe>,
    /// What stands for it in stick tables.
    pub mark: u64,
    /// The server whose state it follows (`track`); then it has no check.
    pub track: Option<ServerId>,
    /// The agent that is asked about it (`agent-check`).
    pub agent: Option<Agent>,
    /// Concurrent sessions while the backend is quiet (`minconn`), below `maxconn`; `None`: always `maxconn`.
    pub minconn: Option<u32>,
    /// Time over which a server that came up regains its weight (`slowstart`); zero: at once.
    pub slowstart: Duration,
    /// End sessions of this server when it goes down (`on-marked-down shutdown-sessions`).
    pub on_marked_down_shutdown: bool,
    /// End sessions of the backend's backup servers when it comes up (`on-marked-up shutdown-backup-sessions`).
    pub on_marked_up_shutdown_backups: bool,
    /// TCP_USER_TIMEOUT towards it (`tcp-ut`).
    pub tcp_user_timeout: Option<Duration>,
    /// TLS with it (`tls`); `None`: plain.
    pub tls: Option<Box<tls::ServerTls>>,
    /// `file:line:col` where it is configured.
    pub origin: String,
    /// What it has in HTTP mode.
    pub http: http::HttpServer,
}

/// How the name of a server becomes its address (`resolve-prefer`, `resolve-opts`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Lookup {
    /// IPv4 where the name has both families.
    pub prefer_ipv4: bool,
    /// No other server of the backend with this name has its address; it rather has none.
    pub distinct: bool,
}

/// Where a server is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerAddress {
    /// A fixed address.
    Ip(std::net::SocketAddr),
    /// A name, resolved at start and again as its TTL says.
    Name {
        /// The host name; the name of a service (`_http._tcp.example.com`, an SRV record) if it begins with an underscore.
        host: String,
        /// The port; 0: that of the service.
        port: u16,
    },
    /// `unix@/path`.
    Unix(PathBuf),
    /// `abns@name`.
    Abstract(String),
}

/// `send-proxy`, `send-proxy-v2`, `proxy-v2-options`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum SendProxy {
    /// Version 1, text.
    V1,
    /// Version 2, binary, with the TLVs asked for.
    V2 {
        /// TLV 0x03, checksum (`crc32c`).
        crc32c: bool,
        /// TLV 0x02, the SNI of the client (`authority`).
        authority: bool,
        /// TLV 0x05 (`unique-id`).
        unique_id: bool,
        /// TLV 0x20 (`ssl`).
        ssl: bool,
    },
}

/// One entry of `source`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// Local address.
    pub address: IpAddr,
    /// Ports that we allocate ourselves; `None`: the kernel chooses one at connect.
    pub ports: Option<(u16, u16)>,
}

/// A health check.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Check {
    /// What is done once connected.
    pub kind: CheckKind,
    /// Address to check instead of the server's (`addr`).
    pub address: Option<IpAddr>,
    /// Port to check instead of the server's (`port`).
    pub port: Option<u16>,
    /// Send the PROXY header (LOCAL) first; default as the traffic does (`check-send-proxy`).
    pub send_proxy: bool,
    /// Speak TLS, with these settings: those of the traffic but for ALPN, and the name of `check-sni`. `None`: it is plain.
    pub tls: Option<Box<tls::ServerTls>>,
    /// Interval while up, or down for certain (`inter`).
    pub inter: Duration,
    /// Interval while in transition (`fastinter`); default `inter`.
    pub fastinter: Duration,
    /// Interval while down (`downinter`); default `inter`.
    pub downinter: Duration,
    /// Successes in a row that bring it up (`rise`).
    pub rise: u32,
    /// Failures in a row that take it down (`fall`).
    pub fall: u32,
    /// Time for the whole check once connected (`timeout check`); default `inter`.
    pub timeout: Duration,
}

/// `observe`, `error-limit`, `on-error`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observe {
    /// Responses count, and not connections alone (`layer7`).
    pub responses: bool,
    /// Errors in a row that trigger the action, at least 1.
    pub error_limit: u32,
    /// The action.
    pub on_error: OnError,
}

/// An agent on a server (`agent-check`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agent {
    /// Its address; `None`: that of the server.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// Time between two questions, and at most for one.
    pub inter: Duration,
    /// What it gets first; may be empty.
    pub send: Vec<u8>,
}

/// What a health check does.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum CheckKind {
    /// A TCP connect is enough.
    Connect,
    /// A dialogue: send and expect, in order (`tcp-check`).
    Script(Vec<CheckStep>),
    /// An HTTP exchange (`httpchk`, `http-check`).
    Http(http::HttpCheck),
    /// A call of `grpc.health.v1.Health/Check` for this service (`grpc-check`).
    Grpc(String),
}

/// A connection that a step of a check opens; what is `None` is as for the check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct CheckConnect {
    /// Its address.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: Option<u16>,
    /// Whether it starts with a PROXY header.
    pub send_proxy: Option<bool>,
}

/// One step of a scripted check.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum CheckStep {
    /// Open a connection.
    Connect(CheckConnect),
    /// Send these bytes.
    Send(Vec<u8>),
    /// Wait until the received bytes contain this.
    ExpectString(Vec<u8>),
    /// Fail as soon as the received bytes contain this.
    RejectString(Vec<u8>),
    /// Wait until the received bytes match this regular expression (bytes, not UTF-8).
    ExpectRegex(String),
    /// Fail as soon as the received bytes match this regular expression.
    RejectRegex(String),
}

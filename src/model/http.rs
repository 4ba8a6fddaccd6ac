//! The HTTP part of frontends, backends and servers, present exactly where `mode` is `http`.

use std::sync::Arc;
use std::time::Duration;

use crate::model::statistics::StatsPage;
use crate::model::{CheckConnect, Cidr};
use crate::policy::acl::Condition;
use crate::policy::balance::KeySource;
use crate::policy::format::Format;
use crate::policy::http_action::{RequestAction, ResponseAction};
use crate::policy::persist;
use crate::policy::retry::RetryOn;
use crate::policy::rule::RuleList;

/// HTTP settings of a frontend.
#[derive(Clone, Debug)]
pub struct HttpFrontend {
    /// What happens to connections after a response.
    pub keep_alive: KeepAlive,
    /// Time for a whole request head (`timeout http-request`); `timeout client` unless set.
    pub timeout_request: Option<Duration>,
    /// Time until the next request begins (`timeout http-keep-alive`); `timeout http-request` unless set.
    pub timeout_keep_alive: Option<Duration>,
    /// How long `tarpit` holds a client (`timeout tarpit`); `timeout connect` of the defaults unless set.
    pub timeout_tarpit: Option<Duration>,
    /// Limits of a request head.
    pub limits: HeadLimits,
    /// What to do about messages that RFC 9112 lets a proxy repair (`ambiguous-messages`).
    pub ambiguous: Ambiguous,
    /// Rules on each request, then on each response.
    pub rules: HttpRules,
    /// Headers that are added on the way.
    pub insert: Insert,
    /// Error pages.
    pub error_pages: ErrorPages,
    /// `unique-id-format`.
    pub unique_id: Option<Format>,
    /// Header that carries the unique id to the server (`unique-id-header`).
    pub unique_id_header: Option<Box<[u8]>>,
    /// Rewrite redirects of the server to our own hosts to the scheme of the client (`location = "same-host"`).
    pub location_same_host: bool,
    /// The statistics page.
    pub stats: Option<Box<StatsPage>>,
}

/// HTTP settings of a backend.
#[derive(Clone, Debug)]
pub struct HttpBackend {
    /// What happens to connections after a response; the stricter of frontend and backend wins.
    pub keep_alive: KeepAlive,
    /// Sharing of idle server connections (`http-reuse`).
    pub reuse: Reuse,
    /// Rules on each request, then on each response, after those of the frontend (requests) and before them (responses).
    pub rules: HttpRules,
    /// Headers that are added on the way.
    pub insert: Insert,
    /// Error pages.
    pub error_pages: ErrorPages,
    /// Persistence by cookie (`cookie`).
    pub cookie: Option<persist::Spec>,
    /// Key of `dynamic` cookies (`dynamic-cookie-key`).
    pub dynamic_cookie_key: Option<String>,
    /// Requests without persistence (`ignore-persist`).
    pub ignore_persist: Option<Condition>,
    /// Requests that may reach servers that are down (`force-persist`).
    pub force_persist: Option<Condition>,
    /// The key of `balance` uri, url_param and hdr.
    pub key: Option<KeySource>,
    /// Failures that are retried (`retry-on`).
    pub retry_on: RetryOn,
    /// Give up requests whose client is gone while they wait (`abortonclose`).
    pub abort_on_close: bool,
    /// Sessions of the backend at which servers reach their `maxconn` (`fullconn`); below it `minconn` counts.
    pub fullconn: Option<u32>,
    /// The statistics page.
    pub stats: Option<Box<StatsPage>>,
}

/// HTTP settings of a server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HttpServer {
    /// The value of the persistence cookie that means this server.
    pub cookie: Option<String>,
    /// Idle connections kept over all cores (`pool-max-conn`); `None`: no limit.
    pub pool_max_conn: Option<u32>,
    /// Half of the idle connections beyond what was needed is closed this often (`pool-purge-delay`); zero: at once.
    pub pool_purge_delay: Duration,
    /// Further requests on one connection (`max-reuse`); `None`: no limit.
    pub max_reuse: Option<u32>,
    /// The least `maxconn` while the backend is not busy (`minconn`).
    pub minconn: Option<u32>,
    /// What it speaks (`proto`).
    pub proto: Proto,
    /// Requests at once on one of its connections of HTTP/2 (`max-streams`).
    pub max_streams: u32,
}

/// Settings of HTTP/2 for all connections (`tune.h2.*`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct H2Settings {
    /// Requests at once on a connection of a client (`fe.max-concurrent-streams`).
    pub streams_max: u32,
    /// Bytes that a client may send of one request ahead, at first (`fe.initial-window-size`).
    pub window: u32,
    /// Bytes that a client may send ahead on one connection (`fe.rxbuf`).
    pub rxbuf: u32,
    /// Requests on a connection of a client before it is asked to open another (`fe.max-total-streams`).
    pub total_max: Option<u32>,
    /// Resets of a client in ten seconds before its connection is closed (`fe.max-resets`).
    pub resets_max: u32,
    /// Malformed requests of a connection before it is closed (`fe.glitches-threshold`).
    pub glitches_max: u32,
    /// Bytes that a server may send of one response ahead, at first (`be.initial-window-size`).
    pub server_window: u32,
    /// Bytes that a server may send ahead on one connection (`be.rxbuf`).
    pub server_rxbuf: Option<u32>,
}

/// What the windows of streams may grow by on a connection of a server.
const GROWTH_BYTES: u32 = 1600 * 1024;

impl H2Settings {
    /// Bytes that a server may send ahead on a connection with so many streams at once: as long as nobody says otherwise each has
    /// its window, so that clients that read nothing hold up nobody else.
    pub fn server_room(&self, streams_max: u32) -> u32 {
        // RFC 9113 6.9.1: no window is larger.
        let windows = || {
            self.server_window
                .saturating_mul(streams_max)
                .saturating_add(GROWTH_BYTES)
                .min(i32::MAX.cast_unsigned())
        };
        self.server_rxbuf.unwrap_or_else(windows)
    }
}

impl Default for H2Settings {
    fn default() -> H2Settings {
        H2Settings {
            streams_max: 100,
            window: 65_535,
            rxbuf: 4 * 1024 * 1024,
            total_max: None,
            resets_max: 1000,
            glitches_max: 100,
            server_window: 256 * 1024,
            server_rxbuf: None,
        }
    }
}

/// What is spoken to a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Proto {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2; on a clear connection by prior knowledge.
    Http2,
}

/// Rules on both directions.
#[derive(Clone, Debug, Default)]
pub struct HttpRules {
    /// `rules`.
    pub request: RuleList<RequestAction>,
    /// `response-rules`.
    pub response: RuleList<ResponseAction>,
    /// `after-response-rules`: of these none ends a response.
    pub after: RuleList<ResponseAction>,
}

impl HttpRules {
    /// Numbers and origins of all, to change them.
    pub fn names_mut(&mut self) -> impl Iterator<Item = (&mut u32, &mut String)> {
        self.request.names_mut().chain(self.response.names_mut()).chain(self.after.names_mut())
    }
}

/// What happens to connections after a response, from loose to strict.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum KeepAlive {
    /// Both sides stay open (`http-keep-alive`).
    Both,
    /// The server side is closed (`http-server-close`).
    Client,
    /// Both sides are closed (`httpclose`).
    Neither,
}

/// `http-reuse`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    /// Idle connections serve only the session that opened them.
    Never,
    /// The first request of a session takes a fresh connection, later ones any idle one.
    Safe,
    /// First requests take connections that served more than one request already.
    Aggressive,
    /// Any idle connection.
    Always,
}

/// Limits of a request head; beyond them 431 or 414.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head (`max-header-bytes`).
    pub head_bytes: u32,
    /// Header fields (`max-headers`).
    pub headers: u32,
    /// Bytes of the request target (`max-uri-bytes`).
    pub uri_bytes: u32,
}

/// `ambiguous-messages`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ambiguous {
    /// Refuse them.
    Reject,
    /// Content-Length beside Transfer-Encoding: drop the length and close afterwards. Folded lines: unfold.
    Repair,
}

/// Headers that are added to requests on the way.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Insert {
    /// `forwardfor`: the address of the client.
    pub forward_for: Option<AddressHeader>,
    /// `originalto`: the address that the client connected to.
    pub original_to: Option<AddressHeader>,
    /// `forwarded`: RFC 7239.
    pub forwarded: bool,
    /// `forward-client-cert`: what the client's certificate says, of a frontend.
    pub client_certificate: bool,
}

/// A header with an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressHeader {
    /// Its name.
    pub name: Box<[u8]>,
    /// Not for these addresses (`except`). Sorted, none lies in another.
    pub except: Vec<Cidr>,
    /// Not if the request has one already (`if-none`).
    pub if_none: bool,
}

/// Error pages: whole responses, as `errorfile` gives them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ErrorPages {
    /// Status and response, ascending by status.
    pub pages: Vec<(u16, Arc<[u8]>)>,
}

impl ErrorPages {
    /// The response for a status, if one is configured.
    pub fn page(&self, status: u16) -> Option<&Arc<[u8]>> {
        let at = self.pages.binary_search_by_key(&status, |(status, _)| *status).ok()?;
        Some(&self.pages[at].1)
    }
}

/// `[userlist.NAME]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Userlist {
    /// Its name.
    pub name: String,
    /// Its users.
    pub users: Vec<User>,
}

/// A user of a list.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// How its password is known.
    pub password: Password,
    /// Groups it belongs to.
    pub groups: Vec<Box<str>>,
}

/// How a password is known.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// A crypt(5) string (`password`).
    Hash(String),
    /// As it is (`insecure-password`).
    Plain(String),
}

// Passwords and their hashes stay out of logs and panics.
impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).field("groups", &self.groups).finish_non_exhaustive()
    }
}

/// A health check that speaks HTTP.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct HttpCheck {
    /// What is done in order. Without an expectation, statuses 200 to 399 are good.
    pub steps: Vec<HttpCheckStep>,
    /// The request is a WebSocket handshake and the answer must complete it.
    pub websocket: bool,
    /// A 404 drains the server instead of taking it down (`disable-on-404`).
    pub disable_on_404: bool,
}

/// One step of an HTTP check.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum HttpCheckStep {
    /// Open a connection (`http-check connect`).
    Connect(CheckConnect),
    /// Send a request.
    Send(HttpCheckRequest),
    /// Judge the response.
    Expect {
        /// It must not be so (`!`).
        negated: bool,
        /// What is expected.
        expect: Expect,
    },
}

/// A request of a check.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct HttpCheckRequest {
    /// Its method.
    pub method: String,
    /// Its target.
    pub uri: String,
    /// HTTP/1.1 rather than 1.0.
    pub http_11: bool,
    /// Its headers; `Content-Length` and `Connection` are added.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Default for HttpCheckRequest {
    /// HAProxy's `option httpchk` without arguments.
    fn default() -> Self {
        HttpCheckRequest {
            method: "OPTIONS".into(),
            uri: "/".into(),
            http_11: false,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }
}

/// What a check expects of a response.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Expect {
    /// The status lies in one of these ranges.
    Status(Vec<(u16, u16)>),
    /// The status matches.
    StatusRegex(String),
    /// The body contains this.
    Body(Vec<u8>),
    /// The body matches.
    BodyRegex(String),
    /// These headers have these values, or have them in their comma list.
    Headers(Vec<(String, String)>),
    /// These headers have these values as a whole.
    FullHeaders(Vec<(String, String)>),
}

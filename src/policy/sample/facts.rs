//! What expressions read: facts of the connection, of the first bytes, and live levels. The data plane implements the
//! traits; tests use plain structs. Nothing here decides anything.

use std::net::IpAddr;
use std::time::Duration;

use crate::base::id::{BackendId, FrontendId, IdRange, ServerId};
use crate::base::net::Addr;
use crate::policy::sample::tls::{TlsAnswer, TlsFetch};
use crate::policy::sample::variables::Variables;
use crate::policy::stick;
use crate::proto::headers::HeadView;

/// Facts that stay the same once a connection is accepted and its PROXY header, if any, is read.
#[derive(Clone, Debug, Default)]
pub struct ConnFacts {
    /// The client (`src`, `src_port`); from the PROXY header if there was one.
    pub src: Addr,
    /// The address that the client connected to (`dst`, `dst_port`); from the PROXY header if there was one.
    pub dst: Addr,
    /// Whether the connection began with a PROXY header (`fc_rcvd_proxy`).
    pub rcvd_proxy: bool,
    /// TLV 0x02 of that header (`fc_pp_authority`).
    pub pp_authority: Option<Vec<u8>>,
    /// TLV 0x05 of that header (`fc_pp_unique_id`).
    pub pp_unique_id: Option<Vec<u8>>,
}

/// What went wrong with a connection before anything was served on it: HAProxy's numbers and words (`fc_err`,
/// `fc_err_str`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConnError {
    /// Nothing.
    #[default]
    None,
    /// The client left before its PROXY header.
    ProxyEmpty,
    /// The connection broke while the PROXY header was due.
    ProxyAbort,
    /// The PROXY header did not come in time.
    ProxyTimeout,
    /// Only a part of it came.
    ProxyTruncated,
    /// What came is something else.
    ProxyMissing,
    /// It is one, but not a valid one.
    ProxyBad,
    /// The client left during the TLS handshake.
    TlsEmpty,
    /// The connection broke during the handshake.
    TlsAbort,
    /// The handshake took too long.
    TlsTimeout,
    /// Nobody we trust issued the client's certificate.
    TlsIssuer,
    /// The client's certificate is not good.
    TlsCertificate,
    /// Anything else about the handshake.
    TlsHandshake,
}

impl ConnError {
    /// HAProxy's number.
    pub fn code(self) -> u8 {
        self.info().0
    }

    /// HAProxy's words.
    pub fn text(self) -> &'static str {
        self.info().1
    }

    /// Whether the client said nothing that would be worth a line (`dontlognull`).
    pub fn is_null(self) -> bool {
        use ConnError::*;
        matches!(self, ProxyEmpty | ProxyAbort | ProxyTimeout | TlsEmpty | TlsAbort | TlsTimeout)
    }

    fn info(self) -> (u8, &'static str) {
        match self {
            ConnError::None => (0, "Success"),
            ConnError::ProxyEmpty => (11, "Connection closed while waiting for PROXY protocol header"),
            ConnError::ProxyAbort => (12, "Connection error while waiting for PROXY protocol header"),
            ConnError::ProxyTimeout => (13, "Timeout while waiting for PROXY protocol header"),
            ConnError::ProxyTruncated => (14, "Truncated PROXY protocol header received"),
            ConnError::ProxyMissing => {
                (15, "Received something which does not look like a PROXY protocol header")
            }
            ConnError::ProxyBad => (16, "Received an invalid PROXY protocol header"),
            ConnError::TlsEmpty => (24, "Connection closed during SSL handshake"),
            ConnError::TlsAbort => (25, "Connection error during SSL handshake"),
            ConnError::TlsTimeout => (26, "Timeout during SSL handshake"),
            ConnError::TlsIssuer => (30, "SSL client CA chain cannot be verified"),
            ConnError::TlsCertificate => (31, "SSL client certificate not trusted"),
            ConnError::TlsHandshake => (34, "SSL handshake failure"),
        }
    }
}

/// A frontend, backend, bind or server as statistics name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Named<'a> {
    /// Its number (`id`).
    pub number: u32,
    /// Its name.
    pub name: &'a str,
}

/// The bytes that a TCP session started with, as far as they are here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FirstBytes<'a> {
    /// What was received so far.
    pub data: &'a [u8],
    /// No more will come in time: the inspect delay is over, the client closed, or the buffer is full.
    /// Tests that would have waited for more fail then.
    pub complete: bool,
}

/// Everything that expressions read. Statically dispatched; each method is cheap and allocates nothing.
pub trait Facts {
    /// Where live levels come from.
    type Live: Live;

    /// Facts of the client connection.
    fn conn(&self) -> &ConnFacts;
    /// The frontend that accepted the connection.
    fn frontend(&self) -> Named<'_>;
    /// The frontend's default backend.
    fn default_backend(&self) -> Option<&str>;
    /// The bind that accepted the connection; its name is `None` unless the configuration gives one.
    fn listener(&self) -> (u32, Option<&str>);
    /// The backend of the stream, once one is chosen.
    fn backend(&self) -> Option<Named<'_>>;
    /// The server of the stream, once one is chosen.
    fn server(&self) -> Option<Named<'_>>;
    /// What the client sent first; empty and complete where the rule set does not look at it.
    fn first_bytes(&self) -> FirstBytes<'_>;
    /// Variables of the session and the stream.
    fn variables(&self) -> &Variables;
    /// Levels of frontends, backends and servers.
    fn live(&self) -> &Self::Live;
    /// Time since the UNIX epoch.
    fn unix_time(&self) -> Duration;
    /// A fresh random number.
    fn random(&self) -> u64;
    /// Number of the request (TCP: of the connection) in the process.
    fn request_id(&self) -> u32;
    /// Number of the process.
    fn process(&self) -> u32;
    /// Whether an address belongs to this machine (`src_is_local`).
    fn is_local(&self, address: IpAddr) -> bool;

    /// Whether the client connection is TLS that ends here (`ssl_fc`).
    fn is_tls(&self) -> bool {
        false
    }
    /// What went wrong with the client connection before anything was served on it.
    fn conn_error(&self) -> ConnError {
        ConnError::None
    }
    /// An answer about the client's TLS connection; text goes to `out`.
    fn tls(&self, fetch: &TlsFetch, out: &mut Vec<u8>) -> Option<TlsAnswer> {
        let _ = (fetch, out);
        None
    }
    /// The head of the request, with the changes of earlier rules.
    fn request(&self) -> Option<HeadView<'_>> {
        None
    }
    /// The head of the response, with the changes of earlier rules.
    fn response(&self) -> Option<HeadView<'_>> {
        None
    }
    /// What is here of the request's body (`req.body`).
    fn body(&self) -> &[u8] {
        &[]
    }
    /// Whether the request is the first one of its connection; `None` without a request.
    fn is_first_request(&self) -> Option<bool> {
        None
    }
    /// The unique id of the request.
    fn unique_id(&self) -> Option<&[u8]> {
        None
    }
    /// Appends what was kept of a message; false: there is no such thing.
    fn recorded(&self, what: Recorded, out: &mut Vec<u8>) -> bool {
        let _ = (what, out);
        false
    }
    /// A timer of the stream in microseconds.
    fn timer(&self, name: TimerName) -> Option<u64> {
        let _ = name;
        None
    }
    /// What a stick table knows of an entry. `None`: nothing is tracked, the value is no key, or the table does not keep such a
    /// thing; a key without an entry has 0 of everything.
    fn stick(&self, entry: stick::Entry<'_>, read: stick::Read) -> Option<u64> {
        let _ = (entry, read);
        None
    }
    /// Whether the request's credentials are those of a user of a list. Passwords are verified elsewhere: while the answer
    /// is [`Auth::Pending`] conditions that depend on it are open, and the caller evaluates again when it is known.
    fn auth(&self, list: UserlistId) -> Auth<'_> {
        let _ = list;
        Auth::Denied
    }
}

/// What is kept of messages for logs and `capture.*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recorded {
    /// A captured request header, by its place.
    Request(u16),
    /// A captured response header, by its place.
    Response(u16),
    /// The method as the client sent it.
    Method,
    /// The target as the client sent it.
    Target,
    /// The version as the client sent it.
    Version,
    /// The version as the server sent it.
    ResponseVersion,
}

/// A timer of a stream, see the variables of log formats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerName {
    /// `%Th`.
    Handshake,
    /// `%Ti`.
    Idle,
    /// `%TR`.
    Head,
    /// `%Tq`.
    Request,
    /// `%Tw`.
    Queue,
    /// `%Tc`.
    Connect,
    /// `%Tr`.
    Response,
    /// `%Td`.
    Data,
    /// `%Ta`.
    Active,
    /// `%Tu`.
    User,
    /// `%Tt`.
    Total,
}

/// A list of users (`[userlist.NAME]`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UserlistId(pub u16);

/// What is known of a request's credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Auth<'a> {
    /// The password is not verified yet.
    Pending,
    /// There are no credentials, or they are wrong.
    Denied,
    /// They are those of a user.
    User {
        /// The groups that the user belongs to.
        groups: &'a [Box<str>],
    },
}

/// Levels of one server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServerLevels {
    /// Whether its checks say so and it is not in maintenance (`srv_is_up`).
    pub up: bool,
    /// Whether it gets traffic now: up, with a weight, and not a backup that waits for the others to fail.
    pub usable: bool,
    /// Sessions on it now.
    pub sessions: u32,
    /// Sessions waiting for it.
    pub queued: u32,
    /// Its limit of sessions, if it has one.
    pub maxconn: Option<u32>,
    /// Its limit of waiting sessions, if it has one.
    pub maxqueue: Option<u32>,
}

/// Live levels by id. What is not one number in `live` is summed here.
pub trait Live {
    /// One server.
    fn server(&self, id: ServerId) -> ServerLevels;
    /// The servers of a backend.
    fn servers(&self, id: BackendId) -> IdRange<ServerId>;
    /// Sessions of a backend now (`be_conn`).
    fn backend_sessions(&self, id: BackendId) -> u32;
    /// Sessions waiting for any server of a backend.
    fn backend_queued(&self, id: BackendId) -> u32;
    /// Connections of a frontend now (`fe_conn`).
    fn frontend_sessions(&self, id: FrontendId) -> u32;
    /// Usable servers of a backend (`nbsrv`).
    fn usable_servers(&self, id: BackendId) -> u32 {
        let usable = self.servers(id).iter().filter(|s| self.server(*s).usable).count();
        u32::try_from(usable).unwrap_or(u32::MAX)
    }
}

//! What rules do with HTTP requests and responses, as compiled from `rules` and `response-rules`. Doing it is the data
//! plane's; ordering and conditions are `rule`.

use std::sync::Arc;
use std::time::Duration;

use crate::base::id::{BackendId, ServerId};
use crate::policy::format::Format;
use crate::policy::sample::{Expr, VariableId};
use crate::policy::stick::StickAction;

/// Actions on a request.
#[derive(Clone, Debug)]
pub enum RequestAction {
    /// Leave out the rules that follow but those that route (`allow`).
    Allow,
    /// Answer and stop; counted as denied (`deny`).
    Deny(Reply),
    /// Answer and stop; counted as intercepted (`return`).
    Return(Reply),
    /// Keep the client waiting for `timeout tarpit`, then answer (`tarpit`).
    Tarpit(Reply),
    /// Answer with a redirect (`redirect`).
    Redirect(Box<Redirect>),
    /// Ask for credentials with 401 (`auth`). The condition says who need not be asked.
    Auth {
        /// What the browser shows.
        realm: String,
    },
    /// Close the connection without an answer (`reject`).
    Reject,
    /// Forget the connection without telling the client (`silent-drop`).
    SilentDrop,
    /// Change a header.
    Edit(HeaderEdit),
    /// Change the request line.
    Line(LineEdit),
    /// Store the value of an expression (`set-var`).
    SetVar {
        /// The variable.
        variable: VariableId,
        /// The value.
        value: Expr,
    },
    /// Store a text in a variable (`set-var-fmt`).
    SetVarFmt {
        /// The variable.
        variable: VariableId,
        /// The text.
        value: Format,
    },
    /// Forget a variable (`unset-var`).
    UnsetVar(VariableId),
    /// Route to a backend and stop (`use-backend` with a name).
    UseBackend(BackendId),
    /// Route to the backend whose name the format gives; unknown names go to the default backend (`use-backend` with `%[...]`).
    UseBackendNamed(Format),
    /// Send to this server if it is usable (`use-server`).
    UseServer(ServerId),
    /// Keep a value for the log and for `capture.req.hdr` (`capture`).
    Capture {
        /// The value.
        value: Expr,
        /// Slot of captures.
        slot: u16,
        /// Longest value kept, in bytes.
        len: u16,
    },
    /// Wait for the body (`wait-for-body`).
    WaitForBody {
        /// At most this long.
        time: Duration,
        /// Until this many bytes are there; `None`: as many as the buffer holds.
        at_least: Option<u64>,
    },
    /// Replace a timeout for this request (`set-timeout`).
    SetTimeout {
        /// Which.
        timeout: TimeoutName,
        /// Its milliseconds.
        value: TimeoutValue,
    },
    /// Level of the log line of this request (`set-log-level`).
    SetLogLevel(LogLevel),
    /// Add a header to the 103 that goes out before the request is forwarded (`early-hint`).
    EarlyHint {
        /// Name of the header.
        name: Box<[u8]>,
        /// Its value.
        value: Format,
    },
    /// Take another source address for this request (`set-src`).
    SetSrc(Expr),
    /// Take another destination address for this request (`set-dst`).
    SetDst(Expr),
    /// Take another source port for this request (`set-src-port`).
    SetSrcPort(Expr),
    /// Take another destination port for this request (`set-dst-port`).
    SetDstPort(Expr),
    /// Bring the target into a normal form (`normalize-uri`).
    NormalizeUri(Normalizer),
    /// Whether a rewrite that fails ends the request with 500 (`strict-mode`).
    StrictMode(bool),
    /// Track a key, or change what is known of a tracked one (`track-sc0`, `sc-inc-gpc0`).
    Stick(StickAction),
    /// Let the control core answer (`use-service`).
    UseService(Service),
    /// Whoever asks may change something on the statistics page (`stats.admin`).
    Administrate,
    /// Order in the queue: lower first (`set-priority-class`).
    SetPriorityClass(Expr),
    /// Order in the queue within a class, milliseconds earlier or later (`set-priority-offset`).
    SetPriorityOffset(Expr),
}

impl RequestAction {
    /// Whether it says where a request goes; HAProxy has such rules in a list of their own, behind all others.
    pub fn routes(&self) -> bool {
        matches!(
            self,
            RequestAction::UseBackend(_)
                | RequestAction::UseBackendNamed(_)
                | RequestAction::UseServer(_)
                | RequestAction::Administrate
        )
    }
}

/// What the control core answers itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// Metrics in the text form of Prometheus (`prometheus-exporter`).
    Prometheus,
    /// The answers of `show` commands as JSON (`api`).
    Api,
    /// The statistics page; what asks for it is its URI and not a rule.
    Page,
}

impl Service {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Service::Prometheus => "prometheus-exporter",
            Service::Api => "api",
            Service::Page => "page",
        }
    }
}

/// Actions on a response.
#[derive(Clone, Debug)]
pub enum ResponseAction {
    /// Stop evaluating this rule set and go on (`allow`).
    Allow,
    /// Answer with an error instead and stop (`deny`).
    Deny(Reply),
    /// Answer with this instead and stop (`return`).
    Return(Reply),
    /// Change a header.
    Edit(HeaderEdit),
    /// Change the status (`set-status`).
    SetStatus {
        /// The new status.
        status: u16,
        /// The new reason phrase; `None`: the usual one.
        reason: Option<String>,
    },
    /// Store the value of an expression (`set-var`).
    SetVar {
        /// The variable.
        variable: VariableId,
        /// The value.
        value: Expr,
    },
    /// Store a text in a variable (`set-var-fmt`).
    SetVarFmt {
        /// The variable.
        variable: VariableId,
        /// The text.
        value: Format,
    },
    /// Forget a variable (`unset-var`).
    UnsetVar(VariableId),
    /// Keep a value for the log and for `capture.res.hdr` (`capture`).
    Capture {
        /// The value.
        value: Expr,
        /// Slot of captures.
        slot: u16,
        /// Longest value kept, in bytes.
        len: u16,
    },
    /// Level of the log line (`set-log-level`).
    SetLogLevel(LogLevel),
    /// Whether a rewrite that fails ends the exchange with 500 (`strict-mode`).
    StrictMode(bool),
    /// Track a key, or change what is known of a tracked one (`track-sc0`, `sc-inc-gpc0`).
    Stick(StickAction),
}

/// A change of header fields. Names are matched without regard to case.
#[derive(Clone, Debug)]
pub enum HeaderEdit {
    /// Remove all of that name, then add one (`set-header`).
    Set {
        /// The name as it is written out.
        name: Box<[u8]>,
        /// Its value.
        value: Format,
    },
    /// Add one (`add-header`).
    Add {
        /// The name as it is written out.
        name: Box<[u8]>,
        /// Its value.
        value: Format,
    },
    /// Remove (`del-header`).
    Del(NameMatch),
    /// Replace each whole value that the expression matches (`replace-header`).
    Replace {
        /// The name.
        name: Box<[u8]>,
        /// What to find in the value.
        pattern: regex::bytes::Regex,
        /// What to put there; `\1` is the first group.
        value: Format,
    },
    /// The same for each value of a comma list (`replace-value`).
    ReplaceValue {
        /// The name.
        name: Box<[u8]>,
        /// What to find in the value.
        pattern: regex::bytes::Regex,
        /// What to put there; `\1` is the first group.
        value: Format,
    },
}

/// Which names `del-header` means. Texts are in lower case.
#[derive(Clone, Debug)]
pub enum NameMatch {
    /// This name.
    Exact(Box<[u8]>),
    /// Names that begin with it (`-m beg`).
    Begins(Box<[u8]>),
    /// Names that end with it (`-m end`).
    Ends(Box<[u8]>),
    /// Names that contain it (`-m sub`).
    Contains(Box<[u8]>),
    /// Names that match (`-m reg`).
    Matches(regex::bytes::Regex),
}

/// A change of the request line.
#[derive(Clone, Debug)]
pub enum LineEdit {
    /// `set-method`.
    Method(Format),
    /// `set-path`: the path without the query.
    Path(Format),
    /// `replace-path`.
    ReplacePath {
        /// What to find.
        pattern: regex::bytes::Regex,
        /// What to put there.
        value: Format,
    },
    /// `set-query`: what follows the question mark.
    Query(Format),
    /// `set-uri`: the whole target.
    Uri(Format),
    /// Replace path and query together (`set-pathq`).
    Pathq(Format),
    /// Replace what matches in path and query (`replace-pathq`).
    ReplacePathq {
        /// What is looked for.
        pattern: regex::bytes::Regex,
        /// What takes the place of the whole.
        value: Format,
    },
    /// `replace-uri`.
    ReplaceUri {
        /// What to find.
        pattern: regex::bytes::Regex,
        /// What to put there.
        value: Format,
    },
}

/// An answer of our own.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// What it consists of.
    pub content: ReplyContent,
    /// Further headers.
    pub headers: Vec<(Box<[u8]>, Format)>,
}

/// The body of an answer of our own.
#[derive(Clone, Debug)]
pub enum ReplyContent {
    /// The error page of that status (`errorfile`), or the built-in one.
    ErrorPage,
    /// No body.
    Empty,
    /// A fixed body (`file`, `string`).
    Bytes {
        /// Its media type.
        content_type: String,
        /// The body.
        body: Arc<[u8]>,
    },
    /// A body made for the request (`lf-string`, `lf-file`).
    Format {
        /// Its media type.
        content_type: String,
        /// The body.
        body: Format,
    },
}

/// `redirect`.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// What `Location` becomes.
    pub target: RedirectTarget,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Leave the query out of the new target (`drop-query`).
    pub drop_query: bool,
    /// Add a slash to a path that has none at its end (`append-slash`).
    pub append_slash: bool,
    /// Pass the rule over where `location` is empty (`ignore-empty`).
    pub ignore_empty: bool,
    /// A whole `Set-Cookie` value: `set-cookie`, or `clear-cookie` with its Max-Age.
    pub set_cookie: Option<String>,
}

/// The forms of `redirect`.
#[derive(Clone, Debug)]
pub enum RedirectTarget {
    /// `location`: this target.
    Location(Format),
    /// `prefix`: this before the path and query of the request.
    Prefix(Format),
    /// `scheme`: the same host and target with another scheme.
    Scheme(Format),
}

/// Which timeout `set-timeout` replaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeoutName {
    /// `client`.
    Client,
    /// `server`.
    Server,
    /// `tunnel`.
    Tunnel,
    /// `connect`.
    Connect,
    /// `queue`.
    Queue,
}

/// The new value of a timeout.
#[derive(Clone, Debug)]
pub enum TimeoutValue {
    /// A fixed one.
    Fixed(Duration),
    /// Milliseconds, computed for the request.
    Milliseconds(Expr),
}

/// Syslog's levels, and none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// `emerg`.
    Emergency,
    /// `alert`.
    Alert,
    /// `crit`.
    Critical,
    /// `err`.
    Error,
    /// `warning`.
    Warning,
    /// `notice`.
    Notice,
    /// `info`.
    Info,
    /// `debug`.
    Debug,
    /// `silent`: no log line.
    Silent,
}

/// `normalize-uri`: one step towards the normal form of RFC 3986 section 6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Normalizer {
    /// `fragment-encode`: `#` becomes `%23`.
    FragmentEncode,
    /// `fragment-strip`: from `#` on is removed.
    FragmentStrip,
    /// `path-merge-slashes`.
    PathMergeSlashes,
    /// `path-strip-dot`.
    PathStripDot,
    /// `path-strip-dotdot`; `full`: leading ones too.
    PathStripDotDot {
        /// Remove `..` at the front too.
        full: bool,
    },
    /// `percent-decode-unreserved`.
    PercentDecodeUnreserved {
        /// Refuse invalid encodings with 400.
        strict: bool,
    },
    /// `percent-to-uppercase`.
    PercentToUppercase {
        /// Refuse invalid encodings with 400.
        strict: bool,
    },
    /// `query-sort-by-name`.
    QuerySortByName,
}

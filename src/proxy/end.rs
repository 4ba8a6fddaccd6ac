//! Why a session stopped: side, phase and kind, mapped once to counters, termination state and words.

use std::io;

use crate::stats::counters::Shard;
use crate::stats::table::Stat;

use crate::base::id::{BackendId, FrontendId, ListenerId, ServerId};

/// Who ended it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The client.
    Client,
    /// The server.
    Server,
    /// We did: a rule, a limit, the administrator.
    Proxy,
}

/// What the session was doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Waiting for a PROXY header or for first bytes that rules look at.
    Inspect,
    /// Waiting for a slot.
    Queue,
    /// Connecting to a server.
    Connect,
    /// Waiting for the head of a response.
    Headers,
    /// Relaying bytes.
    Data,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Both sides closed in order; `side` closed first.
    Normal,
    /// Reset or closed in the middle.
    Abort,
    /// What `side` sent is not HTTP as we accept it.
    Malformed,
    /// Answered by a rule.
    Intercepted,
    /// A response refused by a rule.
    DeniedResponse,
    /// Inactive for longer than the timeout.
    Timeout,
    /// Refused by a connection rule.
    DeniedConnection,
    /// Refused by a content rule.
    Denied,
    /// Held by a rule, then refused.
    Tarpit,
    /// No rule and no default backend.
    Unrouted,
    /// No usable server.
    NoServer,
    /// The queue was full.
    QueueFull,
    /// No free source port.
    NoSourcePort,
    /// The PROXY header was missing, malformed or not allowed.
    ProxyHeader,
    /// There was no TLS handshake, or none to agree on.
    Handshake,
    /// Ended by the administrator.
    Killed,
    /// Ended because its server went down (`on-marked-down shutdown-sessions`).
    ServerDown,
    /// Ended on a backup server because one that it stood in for came up (`on-marked-up shutdown-backup-sessions`).
    BackupOver,
    /// A limit of the process: descriptors, memory.
    Resource,
}

/// Why a session stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// Who ended it.
    pub side: Side,
    /// When.
    pub phase: Phase,
    /// How.
    pub kind: Kind,
}

impl Kind {
    /// Whether it came from outside of the session.
    pub fn is_kill(self) -> bool {
        matches!(self, Kind::Killed | Kind::ServerDown | Kind::BackupOver)
    }
}

impl End {
    /// Shorthand.
    pub const fn new(side: Side, phase: Phase, kind: Kind) -> End {
        End { side, phase, kind }
    }

    /// A connection of ours to `side` failed while it carried data.
    pub fn io(side: Side, phase: Phase, error: &io::Error) -> End {
        let kind = match error.kind() {
            io::ErrorKind::OutOfMemory => Kind::Resource,
            // ETIMEDOUT: the kernel gave up retransmitting (TCP_USER_TIMEOUT, keepalive).
            io::ErrorKind::TimedOut => Kind::Timeout,
            _ => Kind::Abort,
        };
        End { side, phase, kind }
    }

    /// The client did not close but reset. As HAProxy sees it that ends data where an answer was waited for, and in TCP mode
    /// where a server was.
    pub fn by_reset(self, is_tcp: bool) -> End {
        let phase = match self.phase {
            Phase::Headers => Phase::Data,
            Phase::Queue | Phase::Connect if is_tcp => Phase::Data,
            phase => phase,
        };
        End { phase, ..self }
    }

    /// [`End::code`] of a connection in that mode: what ended a relay from outside has no phase with HAProxy.
    pub fn letters(self, is_tcp: bool) -> &'static str {
        match (self.kind, self.phase) {
            (Kind::Killed, Phase::Data) if is_tcp => "K-",
            (Kind::ServerDown, Phase::Data) if is_tcp => "D-",
            (Kind::BackupOver, Phase::Data) if is_tcp => "U-",
            _ => self.code(),
        }
    }

    /// HAProxy's termination state: who and when, two letters ("cD", "SC", "--").
    pub fn code(self) -> &'static str {
        use Kind as K;
        use Phase as P;
        use Side as S;
        match (self.kind, self.side, self.phase) {
            (K::Normal, _, _) => "--",
            (K::Killed, _, P::Data) => "KD",
            (K::Killed, _, P::Headers) => "KH",
            (K::Killed, _, P::Connect) => "KC",
            (K::Killed, _, P::Queue) => "KQ",
            (K::Killed, _, P::Inspect) => "KR",
            (K::ServerDown, _, P::Data) => "DD",
            (K::ServerDown, _, P::Headers) => "DH",
            (K::ServerDown, _, P::Connect) => "DC",
            (K::ServerDown, _, P::Queue) => "DQ",
            (K::ServerDown, _, P::Inspect) => "DR",
            (K::BackupOver, _, P::Data) => "UD",
            (K::BackupOver, _, P::Headers) => "UH",
            (K::BackupOver, _, P::Connect) => "UC",
            (K::BackupOver, _, P::Queue) => "UQ",
            (K::BackupOver, _, P::Inspect) => "UR",
            (K::Intercepted, _, P::Headers) => "LH",
            (K::Intercepted, ..) => "LR",
            (K::Handshake, ..) => "PR",
            (K::Malformed, S::Client, _) => "PR",
            (K::Malformed | K::DeniedResponse, ..) => "PH",
            (K::Resource, _, P::Data) => "RD",
            (K::Resource, _, P::Headers) => "RH",
            (K::Resource, _, P::Connect) => "RC",
            (K::Resource | K::NoSourcePort, _, _) => "RC",
            (K::Tarpit, ..) => "PT",
            (K::DeniedConnection | K::Denied | K::ProxyHeader, _, _) => "PR",
            (K::Unrouted | K::NoServer, _, _) => "SC",
            (K::QueueFull, _, _) => "SQ",
            (K::Timeout, _, P::Queue) => "sQ",
            (K::Timeout, S::Client, P::Inspect) => "cR",
            (K::Timeout, S::Client, _) => "cD",
            (K::Timeout, _, P::Connect) => "sC",
            (K::Timeout, S::Server, P::Headers) => "sH",
            (K::Timeout, _, _) => "sD",
            (K::Abort, S::Client, P::Inspect) => "CR",
            (K::Abort, S::Client, P::Queue) => "CQ",
            (K::Abort, S::Client, P::Connect) => "CC",
            (K::Abort, S::Client, P::Headers) => "CH",
            (K::Abort, S::Client, P::Data) => "CD",
            (K::Abort, _, P::Headers) => "SH",
            (K::Abort, _, P::Connect) => "SC",
            (K::Abort, _, _) => "SD",
        }
    }

    /// The same as a name that stays.
    pub fn name(self) -> &'static str {
        use Kind as K;
        use Phase as P;
        use Side as S;
        match (self.kind, self.side, self.phase) {
            (K::Normal, ..) => "normal",
            (K::Handshake, ..) => "tls-handshake",
            (K::Malformed, S::Client, _) => "malformed-request",
            (K::Malformed, ..) => "malformed-response",
            (K::Intercepted, ..) => "answered-by-rule",
            (K::DeniedResponse, ..) => "response-denied",
            (K::Killed, ..) => "killed",
            (K::ServerDown, ..) => "server-down",
            (K::BackupOver, ..) => "backup-over",
            (K::Resource, ..) => "out-of-resources",
            (K::DeniedConnection, ..) => "connection-denied",
            (K::Denied, ..) => "denied",
            (K::Tarpit, ..) => "tarpit",
            (K::ProxyHeader, ..) => "bad-proxy-header",
            (K::Unrouted, ..) => "no-backend",
            (K::NoServer, ..) => "no-server",
            (K::QueueFull, ..) => "queue-full",
            (K::NoSourcePort, ..) => "no-source-port",
            (K::Timeout, _, P::Queue) => "queue-timeout",
            (K::Timeout, _, P::Connect) => "connect-timeout",
            (K::Timeout, S::Client, P::Inspect) => "request-timeout",
            (K::Timeout, S::Client, _) => "client-timeout",
            (K::Timeout, ..) => "server-timeout",
            (K::Abort, S::Client, _) => "client-abort",
            (K::Abort, _, P::Connect) => "connect-refused",
            (K::Abort, ..) => "server-abort",
        }
    }

    /// Who ended it, in a word.
    pub fn by(self) -> &'static str {
        match self.side {
            Side::Client => "client",
            Side::Server => "server",
            Side::Proxy => "proxy",
        }
    }

    /// The same in words.
    pub fn reason(self) -> &'static str {
        use Kind as K;
        use Phase as P;
        use Side as S;
        match (self.kind, self.side, self.phase) {
            (K::Normal, ..) => "closed in order",
            (K::Malformed, S::Client, _) => "malformed request",
            (K::Malformed, ..) => "malformed response",
            (K::Intercepted, ..) => "answered by a rule",
            (K::Handshake, ..) => "TLS handshake failed",
            (K::DeniedResponse, ..) => "response refused by a rule",
            (K::Killed, ..) => "ended by the administrator",
            (K::ServerDown, ..) => "its server went down",
            (K::BackupOver, ..) => "its backup server was replaced",
            (K::Resource, ..) => "out of descriptors or memory",
            (K::DeniedConnection, ..) => "refused by a connection rule",
            (K::Denied, ..) => "refused by a rule",
            (K::Tarpit, ..) => "held and refused by a rule",
            (K::ProxyHeader, ..) => "bad PROXY header",
            (K::Unrouted, ..) => "no rule and no default-backend sent it anywhere",
            (K::NoServer, ..) => "no usable server",
            (K::QueueFull, ..) => "queue full",
            (K::NoSourcePort, ..) => "no free source port",
            (K::Timeout, _, P::Queue) => "timeout queue",
            (K::Timeout, _, P::Connect) => "timeout connect",
            (K::Timeout, S::Client, P::Inspect) => "client sent too little in time",
            (K::Timeout, S::Client, _) => "timeout client",
            (K::Timeout, ..) => "timeout server",
            (K::Abort, S::Client, _) => "client aborted",
            (K::Abort, _, P::Connect) => "server refused the connection",
            (K::Abort, ..) => "server aborted",
        }
    }
}

/// The objects that a session touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    /// Where it came in.
    pub frontend: FrontendId,
    /// The bind.
    pub bind: ListenerId,
    /// Where it went.
    pub backend: Option<BackendId>,
    /// The server it was sent to last.
    pub server: Option<ServerId>,
}

/// Counts the end of a session: the only place that does.
pub fn count(end: End, path: Path, shard: &Shard) {
    use Kind as K;
    use Phase as P;
    let frontend = &shard.frontends[path.frontend];
    let bind = &shard.listeners[path.bind];
    let backend = path.backend.map(|id| &shard.backends[id]);
    let server = path.server.map(|id| &shard.servers[id]);
    let both = |stat: Stat| {
        if let Some(b) = backend {
            b.count(stat);
        }
        if let Some(s) = server {
            s.count(stat);
        }
    };
    match (end.kind, end.side, end.phase) {
        // A handshake counts where it fails, by its reason.
        (K::Normal | K::Handshake, ..) => {}
        (K::Malformed, Side::Client, _) => {
            frontend.count(Stat::RequestErrors);
            bind.count(Stat::RequestErrors);
        }
        (K::Malformed, ..) => both(Stat::ResponseErrors),
        (K::Intercepted, ..) => match backend {
            Some(b) => b.count(Stat::Intercepted),
            None => frontend.count(Stat::Intercepted),
        },
        (K::DeniedResponse, ..) => {
            frontend.count(Stat::ResponsesDenied);
            bind.count(Stat::ResponsesDenied);
            both(Stat::ResponsesDenied);
        }
        (K::DeniedConnection, ..) => {
            frontend.count(Stat::ConnectionsDenied);
            bind.count(Stat::ConnectionsDenied);
        }
        (K::Denied | K::Tarpit, ..) => {
            frontend.count(Stat::RequestsDenied);
            bind.count(Stat::RequestsDenied);
            // Only rules of the backend itself, in HTTP mode, come after the route.
            if let Some(b) = backend {
                b.count(Stat::RequestsDenied);
            }
        }
        (K::ProxyHeader, ..) => {
            frontend.count(Stat::ProxyHeaderErrors);
            bind.count(Stat::ProxyHeaderErrors);
        }
        (K::Unrouted, ..) => frontend.count(Stat::Unrouted),
        (K::NoServer, ..) => {
            if let Some(b) = backend {
                b.count(Stat::NoServer);
                b.count(Stat::ConnectErrors);
            }
        }
        (K::QueueFull, ..) => both(Stat::QueueFull),
        (K::Killed | K::ServerDown | K::BackupOver, ..) => {
            frontend.count(Stat::Killed);
            both(Stat::Killed);
        }
        (K::Resource, ..) => {
            frontend.count(Stat::InternalErrors);
            both(Stat::InternalErrors);
        }
        (K::NoSourcePort, ..) => {}
        (K::Timeout, _, P::Queue) => both(Stat::QueueTimeouts),
        // Each failed attempt was counted where it failed; this is the session that found no server in the end.
        (K::Timeout | K::Abort, Side::Server, P::Connect) => both(Stat::ConnectErrors),
        (K::Timeout, Side::Client, P::Inspect) => {
            frontend.count(Stat::RequestErrors);
            bind.count(Stat::RequestErrors);
            frontend.count(Stat::ClientTimeouts);
        }
        (K::Timeout, Side::Client, _) => {
            frontend.count(Stat::ClientTimeouts);
            both(Stat::ClientTimeouts);
        }
        (K::Timeout, ..) => {
            frontend.count(Stat::ServerTimeouts);
            both(Stat::ServerTimeouts);
        }
        (K::Abort, Side::Client, P::Inspect) => {
            frontend.count(Stat::RequestErrors);
            bind.count(Stat::RequestErrors);
        }
        (K::Abort, Side::Client, _) => both(Stat::ClientAborts),
        (K::Abort, Side::Server, P::Headers) => both(Stat::ResponseErrors),
        (K::Abort, ..) => both(Stat::ServerAborts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 19] = [
        Kind::Normal,
        Kind::Abort,
        Kind::Timeout,
        Kind::Malformed,
        Kind::Handshake,
        Kind::ProxyHeader,
        Kind::DeniedConnection,
        Kind::Denied,
        Kind::Tarpit,
        Kind::Intercepted,
        Kind::DeniedResponse,
        Kind::Unrouted,
        Kind::NoServer,
        Kind::QueueFull,
        Kind::NoSourcePort,
        Kind::Killed,
        Kind::ServerDown,
        Kind::BackupOver,
        Kind::Resource,
    ];

    /// Every name with its letters and what it says, as a table of docs/LOGGING.md.
    fn table() -> String {
        let mut rows: Vec<(&str, &str, Vec<&str>)> = Vec::new();
        for kind in KINDS {
            for side in [Side::Client, Side::Server, Side::Proxy] {
                for phase in [Phase::Inspect, Phase::Queue, Phase::Connect, Phase::Headers, Phase::Data] {
                    let end = End::new(side, phase, kind);
                    // Clients are not waited for while we connect.
                    if (kind, side, phase) == (Kind::Timeout, Side::Client, Phase::Connect) {
                        continue;
                    }
                    let at = rows.iter().position(|row| row.0 == end.name()).unwrap_or_else(|| {
                        rows.push((end.name(), end.reason(), Vec::new()));
                        rows.len() - 1
                    });
                    for code in [end.code(), end.letters(true)] {
                        if !rows[at].2.contains(&code) {
                            rows[at].2.push(code);
                        }
                    }
                }
            }
        }
        let mut text = "| `end` | letters | what it says |\n|---|---|---|\n".to_owned();
        for (name, reason, codes) in rows {
            let codes: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
            text.push_str(&format!("| `{name}` | {} | {reason} |\n", codes.join(" ")));
        }
        text
    }

    #[test]
    fn the_page_has_all_ends() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/LOGGING.md");
        let text = std::fs::read_to_string(page).expect("the page");
        let from = text.find("| `end` |").expect("the table");
        let to = from + text[from..].find("\n\n").expect("something behind it") + 1;
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(page, format!("{}{}{}", &text[..from], table(), &text[to..])).expect("written");
            return;
        }
        assert_eq!(&text[from..to], table(), "UPDATE_GOLDEN=1 writes it anew");
    }
}

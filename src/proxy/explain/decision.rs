//! The choice of a server, where serving would take one of its slots.

use std::time::Duration;

use serde::Serialize;

use crate::base::id::{BackendId, ServerId};
use crate::live::AdminState;
use crate::model::{Backend, ServerAddress};
use crate::policy::balance::{ServerView, Tried, WEIGHT_SCALE};
use crate::policy::http_action::TimeoutName;
use crate::proxy::core::Pick;
use crate::proxy::dispatch;
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::exchange::{self, Job};
use crate::proxy::http::{Turn, backend_http};
use crate::proxy::pad::Pad;
use crate::proxy::session::Session;

/// How explaining ends.
const EXPLAINED: End = End::new(Side::Proxy, Phase::Queue, Kind::Intercepted);

/// Where a request goes.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    /// The backend.
    pub backend: String,
    /// What the server would get, up to the end of the head; `None` in TCP mode.
    pub sent: Option<String>,
    /// Persistence and `use-server`, in HTTP mode.
    pub persistence: Option<Persistence>,
    /// `balance`, as it is in effect.
    pub balance: String,
    /// The hash that the key came to, where there is one.
    pub hash: Option<u64>,
    /// All servers of the backend.
    pub servers: Vec<ServerSeen>,
    /// The server that is used; `None`: see `why`.
    pub server: Option<String>,
    /// Why this one, or none.
    pub why: String,
    /// What connections to it that may be used again have in common; `None`: they are not shared.
    pub pool: Option<String>,
    /// Times in force.
    pub timeouts: Vec<TimeoutSeen>,
    /// Attempts after the first.
    pub retries: u32,
    /// Which of them may go to another server (`redispatch`).
    pub redispatch: i32,
}

/// What persistence came to.
#[derive(Clone, Debug, Serialize)]
pub struct Persistence {
    /// What was found: HAProxy's letter in the log, and a word.
    pub found: String,
    /// The server that it, or `use-server`, names.
    pub server: Option<String>,
}

/// A server as balancing sees it.
#[derive(Clone, Debug, Serialize)]
pub struct ServerSeen {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// `up`, `down`, `drain`, `maint`, and `backup`.
    pub state: String,
    /// Whether it takes new load now.
    pub usable: bool,
    /// The weight in effect; the configured one is 1 to 256.
    pub weight: f64,
    /// Sessions on it or waiting for it; counted only where something depends on it.
    pub load: u32,
    /// Whether it has room for one more now.
    pub free: bool,
}

/// A time that is in force.
#[derive(Clone, Debug, Serialize)]
pub struct TimeoutSeen {
    /// Its name.
    pub name: &'static str,
    /// Milliseconds; `None`: no limit.
    pub ms: Option<u64>,
}

/// A request is ready to be sent.
pub(in crate::proxy) fn planned(session: &Session, pad: &Pad, turn: &Turn, job: &Job) -> End {
    let model = &session.core.model;
    let settings = &model.backends[job.backend];
    let name = |id: ServerId| model.servers[id].name.clone();
    let found = turn.persist.found;
    let persistence = backend_http(settings).cookie.is_some().then(|| Persistence {
        found: format!("{} ({found:?})", found.code()).to_lowercase(),
        server: job.wanted.map(|wanted| name(wanted.server)),
    });
    let wanted = exchange::wanted(session, job, &Tried::new());
    let mut decision = decide(session, job.backend, job.key, wanted);
    if let (None, Some(unused)) = (wanted, job.wanted) {
        decision.why = format!("{} is wanted but takes nothing; {}", name(unused.server), decision.why);
    }
    let head = memchr::memmem::find(&pad.out, b"\r\n\r\n").map_or(pad.out.len(), |at| at + 2);
    decision.sent = Some(String::from_utf8_lossy(&pad.out[..head]).into_owned());
    decision.persistence = persistence;
    if let Some(trace) = session.core.trace.get() {
        trace.decided(decision);
    }
    EXPLAINED
}

/// A connection in TCP mode has its backend.
pub(in crate::proxy) fn routed(session: &Session, backend: BackendId, first: &[u8]) -> End {
    let settings = &session.core.model.backends[backend];
    let key = dispatch::hash_of(session, settings, first);
    let decision = decide(session, backend, key, None);
    if let Some(trace) = session.core.trace.get() {
        trace.decided(decision);
    }
    EXPLAINED
}

fn decide(session: &Session, backend: BackendId, key: Option<u64>, wanted: Option<ServerId>) -> Decision {
    let core = &session.core;
    let settings = &core.model.backends[backend];
    let balance = format!("{:?}", settings.balance.algorithm).to_lowercase();
    let (server, why) = match wanted {
        Some(server) => (Some(server), "persistence or use-server".to_owned()),
        None => match core.pick(backend, key, &Tried::new()) {
            Pick::Server(server) => (Some(server), format!("balance {balance}")),
            Pick::Full => (None, "all servers are full: it waits in the queue".to_owned()),
            Pick::NoServer => (None, "no server is usable: 503".to_owned()),
        },
    };
    Decision {
        backend: settings.name.clone(),
        sent: None,
        persistence: None,
        balance,
        hash: key,
        servers: settings.servers.iter().map(|id| server_seen(session, backend, id)).collect(),
        server: server.map(|id| core.model.servers[id].name.clone()),
        why,
        pool: server.and_then(|id| pool(session, backend, id)),
        timeouts: timeouts(session, settings),
        retries: settings.retries,
        redispatch: settings.redispatch,
    }
}

fn server_seen(session: &Session, backend: BackendId, id: ServerId) -> ServerSeen {
    let core = &session.core;
    let (settings, live, view) = (&core.model.servers[id], &core.live.servers[id], core.live.view(backend));
    let mut state = match (live.admin(), live.is_up()) {
        (AdminState::Maint, _) => "maint",
        (AdminState::Drain, true) => "drain",
        (_, false) => "down",
        (AdminState::Ready, true) if live.is_usable() => "up",
        (AdminState::Ready, true) => "stopping",
    }
    .to_owned();
    if settings.backup {
        state.push_str(", backup");
    }
    let address = match (&settings.address, live.address()) {
        (ServerAddress::Unix(path), _) => path.display().to_string(),
        (ServerAddress::Abstract(name), _) => format!("abns@{name}"),
        (_, Some(address)) => address.to_string(),
        (ServerAddress::Name { host, port }, None) => format!("{host}:{port} (not resolved)"),
        (ServerAddress::Ip(address), None) => address.to_string(),
    };
    ServerSeen {
        name: settings.name.clone(),
        address,
        state,
        usable: core.live.takes_load(backend, id),
        weight: f64::from(live.weight()) / f64::from(WEIGHT_SCALE),
        load: view.load(id),
        free: view.free_slot(id),
    }
}

/// The key of the idle connections.
fn pool(session: &Session, backend: BackendId, server: ServerId) -> Option<String> {
    let pool = session.core.target(backend, server).pool?;
    session.core.pools.borrow().describe(pool)
}

fn timeouts(session: &Session, backend: &Backend) -> Vec<TimeoutSeen> {
    let seen = |name, time: Option<Duration>| TimeoutSeen {
        name,
        ms: time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
    };
    let timeout = |name, configured| session.timeout(name, configured);
    let mut all = vec![
        seen("client", session.timeout_client()),
        seen("queue", timeout(TimeoutName::Queue, backend.timeout_queue)),
        seen("connect", timeout(TimeoutName::Connect, backend.timeout_connect)),
        seen("server", timeout(TimeoutName::Server, backend.timeout_server)),
        seen("tunnel", timeout(TimeoutName::Tunnel, backend.timeout_tunnel)),
    ];
    if let Some(http) = &session.frontend().http {
        all.push(seen("http-request", http.timeout_request));
        all.push(seen("http-keep-alive", http.timeout_keep_alive));
    }
    all
}

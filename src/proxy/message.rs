//! What cores and the control core tell each other.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::base::id::{BackendId, CoreId, FrontendId, ListenerId, ServerId};
use crate::base::net::Addr;
use crate::live::ServerLive;
use crate::model::Model;
use crate::policy::sample::Literal;
use crate::proxy::auth::Digest;
use crate::proxy::capture::Malformed;
use crate::proxy::core::Generation;
use crate::proxy::end::Kind;
use crate::proxy::idle::PoolKey;
use crate::proxy::stick;
use crate::proxy::stick_admin::{Question, Told};
use crate::stats::timers::Batch;
use crate::tls;

/// To a data core.
#[derive(Debug)]
pub enum ToCore {
    /// A slot for one who waits in a queue: the level is raised already. `None`: the server it waited for is gone, look
    /// for another.
    Grant {
        /// Its number among the waiters of that core.
        waiter: u64,
        /// The server whose slot it gets, and whether that raised the server's level.
        server: Option<(Arc<ServerLive>, bool)>,
    },
    /// A fresh connection that another core accepted.
    Accepted {
        /// The key of the bind's sockets.
        bind: u64,
        /// The socket.
        conn: OwnedFd,
    },
    /// A listening socket to accept from.
    Listen {
        /// The key of the bind's sockets.
        bind: u64,
        /// The socket.
        socket: OwnedFd,
    },
    /// Run another generation of the configuration: new sessions live by it, HTTP sessions from their next request. Answered
    /// by [`ToControl::Applied`]. Listeners of binds that it does not have take what waits for them, and close.
    Apply(Box<Generation>),
    /// Other certificates, or keys of session tickets, for the current generation.
    Certificates(Arc<tls::Store>),
    /// A frontend stops or goes on accepting (`disable frontend`), or a place under a `maxconn` became free on another core.
    Room,
    /// End one session.
    ShutdownSession(u64),
    /// End all sessions on a server, and why.
    ShutdownServer(Arc<ServerLive>, Kind),
    /// End all sessions that live by a generation.
    ShutdownGeneration(u32),
    /// Send all sessions to the control core with this number.
    Sessions(u64),
    /// Send copies of the listening sockets to the control core with this number.
    Listeners(u64),
    /// Send the ledger of source ports to the control core with this number.
    Ports(u64),
    /// Say that this core is there, with this number.
    Alive(u64),
    /// A batch of durations that was read; it is empty.
    Timers(Batch),
    /// Take what waits in the accept queues, close the listeners, and report when the last session is over.
    Drain {
        /// How long a connection on which no request is under way may stay for another one, which is answered with
        /// `connection: close`.
        grace: Duration,
    },
    /// End all sessions now.
    Kill,
    /// Return from the core's main task.
    Exit,
    /// A password was checked.
    Verified {
        /// The credentials that it belongs to.
        digest: Digest,
        /// Whether they are right.
        good: bool,
    },
    /// Another core stored the variable of the process with this name; `None`: it forgot it.
    Variable(Box<str>, Option<Literal>),
    /// What another core counted in stick tables.
    Stick(Arc<stick::Changes>),
    /// A question about stick tables; the answer goes to the control core with this number.
    StickAdmin(u64, Box<Question>),
    /// Another core has no idle connection to a server. Always answered.
    IdleWanted(IdleWanted),
    /// The answer to it.
    IdleGiven(IdleGiven),
}

/// Who wants an idle connection, and to where.
#[derive(Debug)]
pub struct IdleWanted {
    /// Who asks.
    pub(super) from: CoreId,
    /// The number of the question there.
    pub(super) waiter: u64,
    /// Where it leads.
    pub(super) key: Arc<PoolKey>,
    /// Requests that it must have served.
    pub(super) uses_min: u32,
}

/// An idle connection for another core.
#[derive(Debug)]
pub struct IdleGiven {
    /// The number of the question there.
    pub(super) waiter: u64,
    /// The socket and how many requests were sent over it; `None`: there is none after all.
    pub(super) given: Option<(OwnedFd, u32)>,
}

/// To the control core.
#[derive(Debug)]
pub enum ToControl {
    /// Something an operator wants to know.
    Event {
        /// The generation whose ids it has.
        generation: u32,
        /// What.
        event: Event,
    },
    /// Traffic of a server met as many errors in a row as its `error-limit`.
    ErrorLimit(Arc<ServerLive>),
    /// After the start and after each [`ToCore::Apply`].
    Applied {
        /// The core.
        core: CoreId,
        /// The generation that it runs now.
        generation: u32,
        /// What this core made for it.
        bytes: u64,
    },
    /// Nobody lives by a generation any more.
    GenerationOver {
        /// On this core.
        core: CoreId,
        /// Which.
        generation: u32,
        /// It takes time to drop: not on a data core.
        model: Arc<Model>,
    },
    /// The answer to [`ToCore::Sessions`].
    Sessions {
        /// The number of the question.
        reply: u64,
        /// The sessions of one core.
        rows: Vec<SessionRow>,
    },
    /// The answer to [`ToCore::Listeners`].
    Listeners {
        /// The number of the question.
        reply: u64,
        /// Copies of its sockets, with the keys of their binds.
        rows: Vec<(u64, OwnedFd)>,
    },
    /// The answer to [`ToCore::Ports`].
    Ports {
        /// The number of the question.
        reply: u64,
        /// The ledger of one core.
        rows: Vec<crate::policy::ports::Ledger>,
    },
    /// The answer to [`ToCore::StickAdmin`].
    StickAdmin {
        /// The number of the question.
        reply: u64,
        /// The answer of one core.
        told: Box<Told>,
    },
    /// A core is there.
    Alive {
        /// The number of the question.
        reply: u64,
        /// The core.
        core: CoreId,
    },
    /// Durations that a core counted; the batch is wanted back.
    Timers {
        /// The core.
        core: CoreId,
        /// What it counted.
        batch: Batch,
    },
    /// There are log lines in the ring of a core, and the drain sleeps.
    Logs,
    /// After [`ToCore::Drain`]: no session is left on this core.
    Drained(CoreId),
}

/// Something an operator wants to know.
#[derive(Debug)]
pub enum Event {
    /// Accepting failed and pauses; descriptors or memory are short.
    AcceptPaused {
        /// On which core.
        core: CoreId,
        /// Where.
        bind: ListenerId,
        /// What the kernel said.
        error: String,
    },
    /// Accepting goes on after a pause.
    AcceptResumed {
        /// On which core.
        core: CoreId,
        /// Where.
        bind: ListenerId,
    },
    /// A session found no descriptor or memory for a connection; accepting rests.
    Shortage {
        /// On which core.
        core: CoreId,
        /// What the kernel said.
        error: String,
    },
    /// Connections wait because every receive buffer of a core holds bytes.
    BuffersExhausted(CoreId),
    /// All source ports towards a server are in use.
    SourcePortsExhausted {
        /// The server.
        server: ServerId,
        /// In use.
        used: u32,
        /// In TIME_WAIT.
        waiting: u32,
    },
    /// The queue of a backend is full.
    QueueFull(BackendId),
    /// A message was refused: evidence for `show errors`.
    Malformed(Box<Malformed>),
    /// A connection of HTTP/2 is closed because of what its client sends.
    Flood {
        /// Where it came in.
        frontend: FrontendId,
        /// The client.
        client: Addr,
        /// What there was too much of.
        flood: crate::policy::flood::Flood,
    },
}

/// One session as `show sess` and the session log show it.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// Its number.
    pub id: u64,
    /// The generation that it lives by, and whose ids it has.
    pub generation: u32,
    /// Its core.
    pub core: CoreId,
    /// Where it came in.
    pub frontend: FrontendId,
    /// The bind.
    pub bind: ListenerId,
    /// Where it went.
    pub backend: Option<BackendId>,
    /// The server.
    pub server: Option<ServerId>,
    /// The client.
    pub client: Addr,
    /// The address the client connected to.
    pub local: Addr,
    /// The server's address, once connected.
    pub remote: Addr,
    /// Age in milliseconds.
    pub age_ms: u64,
    /// Time in the queue in milliseconds.
    pub queue_ms: u64,
    /// Time to connect in milliseconds, with retries.
    pub connect_ms: u64,
    /// Connection attempts beyond the first.
    pub retries: u32,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// What it does: `inspect`, `queue`, `connect`, `relay`.
    pub phase: &'static str,
}

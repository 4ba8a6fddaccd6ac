//! What admin commands see and change. The control core implements [`AdminTarget`] over `live` and the collector; tests
//! implement it over plain values. Everything here answers at once; what needs the data cores or time is a [`Job`].

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use crate::base::id::{BackendId, FrontendId, IdRange, ServerId};
use crate::base::net::Addr;
use crate::control::trial::Terms;
use crate::control::vip::{Role, VipRow};
use crate::live::FrontendState;
use crate::model::Model;
use crate::policy::pattern::{Line, PatternFile};
use crate::policy::ports::Ledger;
use crate::proxy::capture::Malformed;
use crate::proxy::refusals;
use crate::proxy::stick_admin::{Question, Told};
use crate::stats::history::Point;
use crate::stats::latency::{Laps, Window};
use crate::stats::process::CORE_CELLS;
use crate::stats::render::{Filter, Form};
use crate::stats::snapshot::{ProcessFacts, ServerFacts, Snapshot};
use crate::stats::status::Admin;
use crate::tls;

/// The running process as the admin socket sees it.
pub trait AdminTarget {
    /// What runs: names, numbers and configured values.
    fn model(&self) -> &Model;
    /// The statistics now of lines that a filter may choose, percentiles over this window.
    fn snapshot(&self, window: Window, wanted: &Filter) -> Snapshot;
    /// The history of an object: the frames of the last so long, oldest first, and how long ago each ended.
    fn series(&self, whose: Whose, ago: Duration) -> Vec<(Duration, Point)> {
        let _ = (whose, ago);
        Vec::new()
    }
    /// What is said of the steps of a server, or of the servers of a backend, over a window.
    fn latency(&self, servers: IdRange<ServerId>, window: Window) -> Laps;
    /// How often each rule applied, and how long ago for the last time, by the numbers of rules.
    fn rule_hits(&self) -> Vec<(u64, Duration)>;
    /// The facts about the process alone.
    fn process(&self) -> ProcessFacts;
    /// The numbers of each core, data cores first.
    fn cores(&self) -> Vec<[u64; CORE_CELLS]>;
    /// Refused messages by reason.
    fn refusals(&self) -> Vec<refusals::Row>;
    /// The rings of log lines: name and what each is for.
    fn rings(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    /// The lines of a ring from a number on, and the number to go on with; `None`: there is no such ring.
    fn ring_lines(&self, name: &str, from: u64) -> Option<(String, u64)> {
        let _ = (name, from);
        None
    }
    /// Addresses that move between nodes.
    fn vips(&self) -> Vec<VipRow> {
        Vec::new()
    }
    /// Changes what is known about one of them.
    fn set_vip(&mut self, name: &str, order: VipOrder) {
        let _ = (name, order);
    }
    /// The facts about one server.
    fn server(&self, id: ServerId) -> ServerFacts;

    /// How many malformed messages came, and the last of them, newest first.
    fn errors(&self) -> (u64, Vec<Captured>);
    /// Open descriptors and what they are; `Err`: why that cannot be read.
    fn descriptors(&self) -> Result<Vec<(u32, String)>, String>;
    /// Bytes that histograms and history hold.
    fn statistics_bytes(&self) -> (usize, usize);
    /// Names of servers and what their last look-up found.
    fn resolvers(&self) -> Vec<ResolvedName>;
    /// Does something about certificates: what to say, and whether data cores serve others now ([`Job::Settle`] waits for
    /// that); `Err`: why not.
    fn certificates(&mut self, order: &tls::Order<'_>) -> Result<(String, bool), String> {
        let _ = order;
        Err("There are no certificates.".to_owned())
    }
    /// Asks the responders about all certificates with `ocsp-update` again.
    fn update_ocsp(&mut self) {}
    /// Writes to the audit log: who did what.
    fn audit(&mut self, text: &str);

    /// Who speaks, and how long what is changed now is to last; `None`: until it is changed again.
    fn actor(&mut self, who: &str, lifetime: Option<Duration>) {
        let _ = (who, lifetime);
    }
    /// Lines of a pattern file were changed; these are the lines before.
    fn patterns_changed(&mut self, file: &PatternFile, before: &[Line]) {
        let _ = (file, before);
    }
    /// `show drift`: what runs otherwise than configured, of an object or all.
    fn drift(&self, object: &str) -> String {
        let _ = object;
        String::new()
    }
    /// `adopt`: the change of the configuration that would make it permanent.
    fn adopt(&self, object: &str) -> String {
        let _ = object;
        String::new()
    }
    /// `clear overrides`: configured values hold again; how many were others.
    fn clear_overrides(&mut self, object: &str) -> usize {
        let _ = object;
        0
    }
    /// Where the effective values of a server come from.
    fn origins(&self, id: ServerId) -> String {
        let _ = id;
        String::new()
    }

    /// Sets a server's weight, 0 to 256.
    fn set_weight(&mut self, id: ServerId, weight: u32);
    /// Puts a server into rotation, drain or maintenance; only `Ready`, `Drain` and `Maint` are asked for.
    fn set_admin(&mut self, id: ServerId, admin: Admin);
    /// Overrides what the checks found, until they find otherwise.
    fn set_health(&mut self, id: ServerId, health: HealthOrder);
    /// Starts or stops the checks of a server that has some.
    fn set_checks(&mut self, id: ServerId, enabled: bool);
    /// Starts or stops asking the agent of a server that has one.
    fn set_agent_enabled(&mut self, id: ServerId, enabled: bool);
    /// Overrides what the agent of a server said, until it says otherwise; only `Up` and `Down` are asked for.
    fn set_agent(&mut self, id: ServerId, health: HealthOrder);
    /// Sends new sessions of a server (and its checks) to another address.
    fn set_address(&mut self, id: ServerId, address: SocketAddr);
    /// Sends checks of a server elsewhere, or resolves it from another name.
    fn set_aim(&mut self, id: ServerId, aim: Aim);
    /// Sets a server's `maxconn`; `None`: no limit.
    fn set_server_maxconn(&mut self, id: ServerId, maxconn: Option<u32>);
    /// Ends all sessions of a server.
    fn shutdown_server_sessions(&mut self, id: ServerId);

    /// Stops or resumes accepting; false: it was so already.
    fn set_frontend_enabled(&mut self, id: FrontendId, enabled: bool) -> bool;
    /// Whether it accepts.
    fn frontend_state(&self, id: FrontendId) -> FrontendState;
    /// Closes its listeners until a reload opens others.
    fn shut_frontend(&mut self, id: FrontendId);
    /// Sets a frontend's `maxconn`, and says what it was; `None`: only the global limit.
    fn set_frontend_maxconn(&mut self, id: FrontendId, maxconn: Option<u32>) -> Option<u32>;
    /// Sets the process's `maxconn`; `None`: back to what it started with. False: more than the file descriptors allow.
    fn set_global_maxconn(&mut self, maxconn: Option<u32>) -> bool;

    /// Limits new connections of the process in each second; 0: no limit.
    fn set_rate_limit(&mut self, per_second: u32);
    /// Limits new TLS connections of clients in each second; 0: no limit.
    fn set_tls_rate_limit(&mut self, per_second: u32);
    /// `clear counters`: maxima, and with `all` counters too.
    fn clear_counters(&mut self, all: bool);
}

/// What `set vip` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VipOrder {
    /// Whether another node is to have the address.
    Drain(bool),
    /// What keepalived says.
    Role(Role),
}

/// Whose history is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// A frontend's.
    Frontend(FrontendId),
    /// A backend's.
    Backend(BackendId),
    /// A server's.
    Server(ServerId),
}

/// A malformed message that was kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captured {
    /// Its number among all.
    pub number: u64,
    /// When it came.
    pub at: SystemTime,
    /// The message.
    pub malformed: Malformed,
}

/// A name that is looked up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResolvedName {
    /// The name.
    pub host: String,
    /// Look-ups that found addresses, and that did not.
    pub counts: (u64, u64),
    /// Since the last one.
    pub age: Duration,
    /// What it found.
    pub found: Result<Vec<String>, String>,
}

/// What `set server ... health` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HealthOrder {
    /// Up, with full health.
    Up,
    /// Up, but without new sessions.
    Stopping,
    /// Down.
    Down,
}

/// Where checks of a server go, and what it is resolved from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Aim {
    /// Health checks; what is `None` stays.
    Check {
        /// Address.
        ip: Option<IpAddr>,
        /// Port.
        port: Option<u16>,
    },
    /// The agent; what is `None` stays.
    Agent {
        /// Address.
        ip: Option<IpAddr>,
        /// Port.
        port: Option<u16>,
    },
    /// What the agent gets first.
    AgentSend(Vec<u8>),
    /// The name.
    Fqdn(String),
}

/// What an administrator wants of the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Read the file again and run what it says.
    Reload {
        /// Who asked, for the history.
        who: String,
        /// Take it back unless it proves itself.
        trial: Option<Terms>,
    },
    /// Keep the configuration on trial.
    Confirm {
        /// Who asked, for the log.
        who: String,
    },
    /// Run an earlier configuration again; without a number the one before, or the one before the trial.
    RollBack {
        /// Who asked, for the history.
        who: String,
        /// The number of its generation.
        to: Option<u32>,
    },
    /// Tell about the configurations that are kept, or print one.
    ShowHistory(Option<u32>),
    /// Print the text of the configuration that runs.
    ShowConfiguration,
    /// What it was read from beside its file.
    ShowFiles,
    /// Tell about the generations that somebody lives by, and about failed attempts.
    ShowGenerations,
    /// End the sessions of a generation that is not the current one.
    DrainGeneration(u32),
}

/// What a process asks of the one that it replaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takeover {
    /// Copies of all listening sockets.
    Sockets,
    /// It accepts from them: stop, finish what runs, and leave.
    Done,
}

/// Work that takes time or needs the data cores. The socket loop does it and hands the [`Outcome`] back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Job {
    /// Wait this long; answer [`Outcome::Done`].
    Wait(Duration),
    /// Write the statistics of all objects down; answer [`Outcome::Text`].
    Statistics(Box<Asked>),
    /// Do something about the configuration; answer [`Outcome::Text`].
    Configuration(Order),
    /// Ask about stick tables; answer [`Outcome::Stick`].
    Stick(Box<Question>),
    /// Wait until all data cores have done what they were told; answer [`Outcome::Done`].
    Settle,
    /// Ask all data cores for their sessions; answer [`Outcome::Sessions`].
    Sessions,
    /// Ask all data cores for their ledgers of source ports; answer [`Outcome::Sources`].
    Sources,
    /// Wait for lines of a ring from a number on, or for the client to leave; answer [`Outcome::Lines`], or
    /// [`Outcome::Done`] when it left.
    Follow {
        /// Its name.
        ring: String,
        /// The number.
        from: u64,
    },
    /// Part of a takeover by another process; answer [`Outcome::Text`].
    TakeOver(Takeover),
    /// End the session with this id; answer [`Outcome::Found`].
    ShutdownSession(u64),
}

/// What `show stat` is to answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// How it is written.
    pub form: Form,
    /// The lines, and how much they say.
    pub filter: Filter,
    /// Percentiles are over this time.
    pub window: Window,
    /// As it was so long ago; `None`: now.
    pub ago: Option<Duration>,
}

/// What came of a [`Job`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is done.
    Done,
    /// Lines of a ring, and the number to go on with.
    Lines(String, u64),
    /// This is the answer.
    Text(String),
    /// All live sessions.
    Sessions(Vec<SessionInfo>),
    /// What stick tables answer.
    Stick(Box<Told>),
    /// Source ports of all cores together.
    Sources(Vec<Ledger>),
    /// Whether there was such a session.
    Found(bool),
}

/// One live session, as `show sess` prints it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionInfo {
    /// Unique in the life of the process.
    pub id: u64,
    /// The core that serves it.
    pub core: u32,
    /// Since it was accepted.
    pub age: Duration,
    /// Its frontend's name.
    pub frontend: String,
    /// Its backend's name, once chosen.
    pub backend: Option<String>,
    /// Its server's name, once chosen.
    pub server: Option<String>,
    /// The client.
    pub client: Addr,
    /// The address the client connected to.
    pub local: Addr,
    /// The server's address, once connected.
    pub target: Option<Addr>,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// What it does: `inspect`, `queue`, `connect`, `relay`, `close`.
    pub state: &'static str,
}

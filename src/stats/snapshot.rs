//! Everything `show stat` and `show info` say at one moment: sums of counters joined with facts that the control core
//! knows (names, states, limits). [`Entry::value`] is the one place that says where the value of a column comes from.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::base::time::Now;
use crate::stats::collector::ProcessSums;
use crate::stats::latency::Laps;
use crate::stats::render::push_number;
use crate::stats::status::{Admin, CheckResult, Health, ListenStatus, server_status};
use crate::stats::sums::Sums;
use crate::stats::table::{Nature, Object, Stat};

/// The statistics at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken.
    pub now: Now,
    /// What the control core knows about the process.
    pub process: ProcessFacts,
    /// What was counted for the process.
    pub process_sums: ProcessSums,
    /// One per line of `show stat`, in the order of [`Snapshot::new`].
    pub entries: Vec<Entry>,
}

impl Snapshot {
    /// Brings the entries into HAProxy's order: by proxy number; in a proxy the frontend, its binds, the servers, the
    /// backend.
    pub fn new(
        now: Now,
        process: ProcessFacts,
        process_sums: ProcessSums,
        mut entries: Vec<Entry>,
    ) -> Snapshot {
        entries.sort_by_key(|entry| Snapshot::order(entry.facts.object(), entry.iid, entry.sid));
        Snapshot { now, process, process_sums, entries }
    }

    /// What the lines are sorted by.
    pub fn order(object: Object, iid: u32, sid: u32) -> (u32, u8, u32) {
        let rank = match object {
            Object::Frontend => 0,
            Object::Listener => 1,
            Object::Server => 2,
            Object::Backend => 3,
        };
        (iid, rank, sid)
    }
}

/// What the control core knows about the process.
#[derive(Clone, Debug, Default)]
pub struct ProcessFacts {
    /// What `Name` says; tools accept `HAProxy` and `hapee-lb` alone (`stats.compat-name`).
    pub name: String,
    /// `X.Y.Z`: tools convert the first parts to integers.
    pub version: String,
    /// `YYYY/MM/DD`.
    pub release_date: String,
    /// Data cores.
    pub threads: u32,
    /// Process id.
    pub pid: u32,
    /// Since the start.
    pub uptime: Duration,
    /// UNIX time of the start, in seconds.
    pub start_time_s: u64,
    /// From the start of the process to the first accept, in milliseconds.
    pub boot_time_ms: u64,
    /// RLIMIT_NOFILE.
    pub fd_limit: u64,
    /// Connections in effect (`maxconn`, possibly set at run time).
    pub maxconn: u64,
    /// Connections that the file descriptors allow.
    pub hard_maxconn: u64,
    /// New connections a second (`set rate-limit`); 0: no limit.
    pub rate_limit: u64,
    /// Pipes of all cores at most.
    pub maxpipes: u64,
    /// Bytes reserved for receive buffers, and bytes of it in use.
    pub buffer_bytes: (u64, u64),
    /// What the process gave up; `off`: nothing.
    pub sandbox: String,
    /// Addresses of several nodes, and what is known of each here: `MASTER`, `BACKUP`, `ANNOUNCED`.
    pub vips: Vec<(String, &'static str)>,
    /// Name of this machine.
    pub node: String,
    /// Free text; no line if empty.
    pub description: String,
    /// Whether the process drains its sessions to end.
    pub stopping: bool,
    /// Binds that listen.
    pub listeners: u64,
    /// Times that `maxconn` kept connections from being accepted.
    pub maxconn_reached: u64,
    /// Warnings since the start.
    pub warnings: u64,
    /// TLS connections of clients (`maxsslconn`); 0: no limit.
    pub tls_limit: u64,
    /// New TLS connections of clients a second (`maxsslrate`); 0: no limit.
    pub tls_rate_limit: u64,
    /// Whether the kernel offers to protect TLS records itself.
    pub kernel_tls: bool,
    /// Certificates: how many there are, end soon, have ended.
    pub certificates: (u64, u64, u64),
    /// Seconds until the first of them ends; 0: it has, or there is none.
    pub certificate_expiry_s: u64,
}

/// One line of `show stat`.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Name of the frontend or backend.
    pub proxy: String,
    /// Name of the server or bind; unused for the proxy's own line.
    pub name: String,
    /// Number of the frontend or backend.
    pub iid: u32,
    /// Number of the server or bind, 0 for the proxy's own line.
    pub sid: u32,
    /// `mode http` rather than `mode tcp`.
    pub http: bool,
    /// What the control core knows about it.
    pub facts: Facts,
    /// What was counted for it.
    pub sums: Sums,
    /// Percentiles of its durations over the snapshot's window, if there were any.
    pub latency: Option<Rc<Laps>>,
}

/// What the control core knows about an object.
#[derive(Clone, Debug)]
pub enum Facts {
    /// A frontend.
    Frontend(FrontendFacts),
    /// A backend.
    Backend(BackendFacts),
    /// A server.
    Server(Box<ServerFacts>),
    /// A bind.
    Listener(ListenerFacts),
}

impl Facts {
    /// Which kind of object they describe.
    pub fn object(&self) -> Object {
        match self {
            Facts::Frontend(_) => Object::Frontend,
            Facts::Backend(_) => Object::Backend,
            Facts::Server(_) => Object::Server,
            Facts::Listener(_) => Object::Listener,
        }
    }
}

/// A frontend.
#[derive(Clone, Debug)]
pub struct FrontendFacts {
    /// Its state.
    pub status: ListenStatus,
    /// Its `maxconn`, or the process's.
    pub limit: u64,
    /// `rate-limit sessions`; 0: none.
    pub rate_limit: u64,
}

/// A bind.
#[derive(Clone, Debug)]
pub struct ListenerFacts {
    /// Its state.
    pub status: ListenStatus,
    /// Its `maxconn`; 0: none.
    pub limit: u64,
    /// The address it is bound to, with the port the kernel chose for port 0.
    pub address: String,
    /// `tcpv4`, `tcpv6`, `unix_stream`.
    pub protocol: &'static str,
}

/// A backend.
#[derive(Clone, Debug)]
pub struct BackendFacts {
    /// Whether a server is usable, or it has none.
    pub up: bool,
    /// Sum of the weights in effect of usable servers.
    pub weight: u64,
    /// Sum of the weights of usable servers without slow start.
    pub user_weight: u64,
    /// Usable active servers.
    pub active: u64,
    /// Usable backup servers.
    pub backup: u64,
    /// `fullconn`.
    pub limit: Option<u64>,
    /// Since `up` changed.
    pub last_change: Duration,
    /// Time without any usable server.
    pub downtime: Duration,
    /// Its load-balancing algorithm.
    pub algorithm: String,
    /// Name of its persistence cookie.
    pub cookie: Option<String>,
}

/// A server.
#[derive(Clone, Debug, Default)]
pub struct ServerFacts {
    /// What the administrator decided.
    pub admin: Admin,
    /// What the checks say.
    pub health: Health,
    /// Weight in effect.
    pub weight: u32,
    /// Weight as configured or set by the administrator.
    pub user_weight: u32,
    /// Weight as configured.
    pub initial_weight: u32,
    /// Whether it is a backup.
    pub backup: bool,
    /// Its `maxconn`.
    pub limit: Option<u64>,
    /// Its `maxqueue`.
    pub queue_limit: Option<u64>,
    /// Since its state changed.
    pub last_change: Duration,
    /// Time down.
    pub downtime: Duration,
    /// Percent of the weight during slow start.
    pub throttle_percent: Option<u32>,
    /// The server whose checks it follows, as `backend/server`.
    pub tracked: Option<String>,
    /// Its last check, if it is checked.
    pub check: Option<CheckFacts>,
    /// What its agent said last, if it has one, and whether that leaves it up.
    pub agent: Option<(CheckFacts, bool)>,
    /// Its address without port; empty: not resolved.
    pub ip: String,
    /// Its port; 0 for UNIX sockets.
    pub port: u16,
    /// The name it is resolved from.
    pub fqdn: Option<String>,
    /// Address and port of its checks, where they are not its own.
    pub check_at: (Option<IpAddr>, Option<u16>),
    /// Address and port of its agent, where they are not its own.
    pub agent_at: (Option<IpAddr>, Option<u16>),
    /// Its persistence cookie.
    pub cookie: Option<String>,
    /// It is configured as disabled.
    pub disabled: bool,
    /// It is spoken to in TLS.
    pub tls: bool,
    /// Its checks run, and its agent is asked, unless the server is in maintenance.
    pub asked: (bool, bool),
}

impl ServerFacts {
    /// `addr`: `10.0.0.1:80`, `[2001:db8::1]:80`, a UNIX path, or empty while not resolved.
    pub fn address(&self) -> String {
        if self.port == 0 || self.ip.is_empty() {
            return self.ip.clone();
        }
        // Formatting by `format!` was a tenth of the time of a line.
        let mut text = String::with_capacity(self.ip.len() + "[]:65535".len());
        if self.ip.contains(':') {
            text.push('[');
            text.push_str(&self.ip);
            text.push(']');
        } else {
            text.push_str(&self.ip);
        }
        text.push(':');
        push_number(&mut text, self.port.into());
        text
    }
    /// The status word.
    pub fn status(&self) -> Cow<'static, str> {
        if self.is_down_by_agent() && !self.admin.is_maint() && self.health.is_up() {
            return "DOWN (agent)".into();
        }
        server_status(&self.admin, self.health)
    }
    /// Whether it takes new sessions or finishes old ones; false in maintenance and while down.
    pub fn is_up(&self) -> bool {
        !self.admin.is_maint() && self.health.is_up() && !self.is_down_by_agent()
    }
    fn is_down_by_agent(&self) -> bool {
        matches!(self.agent, Some((_, false)))
    }
}

/// The last health check of a server.
#[derive(Clone, Debug, Default)]
pub struct CheckFacts {
    /// How it ended.
    pub result: CheckResult,
    /// What it saw: an error text or the answer.
    pub last: String,
    /// Status code of the answer.
    pub code: Option<u32>,
    /// How long it took.
    pub duration: Duration,
}

/// The value of a column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// Not set.
    Empty,
    /// A number.
    Number(u64),
    /// A number that may be negative.
    Signed(i64),
    /// Text.
    Text(Cow<'a, str>),
}

impl<'a> Value<'a> {
    fn text(text: impl Into<Cow<'a, str>>) -> Value<'a> {
        Value::Text(text.into())
    }
    fn optional_text(text: Option<&'a String>) -> Value<'a> {
        text.map_or(Value::Empty, |text| Value::Text(Cow::Borrowed(text)))
    }
}

impl From<u64> for Value<'_> {
    fn from(n: u64) -> Self {
        Value::Number(n)
    }
}

impl From<u32> for Value<'_> {
    fn from(n: u32) -> Self {
        Value::Number(n.into())
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Value::Number(flag.into())
    }
}

impl<N: Into<Value<'static>>> From<Option<N>> for Value<'_> {
    fn from(n: Option<N>) -> Self {
        n.map_or(Value::Empty, Into::into)
    }
}

impl Entry {
    /// Room for a line that is filled in later.
    #[cfg(feature = "rt")]
    pub(crate) fn nothing() -> Entry {
        let facts = FrontendFacts { status: ListenStatus::Stop, limit: 0, rate_limit: 0 };
        let (proxy, name, facts) = (String::new(), String::new(), Facts::Frontend(facts));
        Entry { proxy, name, iid: 0, sid: 0, http: false, facts, sums: Sums::nothing(), latency: None }
    }

    /// The value of a column, as seen by an operator; `now` is the snapshot's.
    pub fn value(&self, stat: Stat, now: Now) -> Value<'_> {
        let row = stat.row();
        if !row.objects.contains(self.facts.object()) || (row.objects.http_only() && !self.http) {
            return Value::Empty;
        }
        if self.sums.is_past {
            return self.past_value(stat, now);
        }
        if let Some((lap, percentile)) = stat.percentile() {
            return self.percentile(lap, percentile);
        }
        if let Some(n) = self.sums.get(stat) {
            return n.into();
        }
        self.fact(stat, now)
    }

    /// The value of a column that this kind of object has and that is not counted.
    pub(super) fn fact(&self, stat: Stat, now: Now) -> Value<'_> {
        self.common_value(stat, now).unwrap_or_else(|| match &self.facts {
            Facts::Frontend(facts) => facts.value(stat),
            Facts::Backend(facts) => facts.value(stat),
            Facts::Server(facts) => facts.value(stat),
            Facts::Listener(facts) => facts.value(stat),
        })
    }

    /// What it was, and who it is; nothing else is known of a former time.
    fn past_value(&self, stat: Stat, now: Now) -> Value<'_> {
        let is_percentile = stat.percentile().is_some();
        match (self.sums.get(stat), stat.row().nature) {
            (Some(0), _) if is_percentile => Value::Empty,
            (Some(n), _) => n.into(),
            (None, Nature::Name | Nature::KeyProcess | Nature::KeyService) => {
                self.common_value(stat, now).unwrap_or(Value::Empty)
            }
            (None, _) if matches!(stat, Stat::Type | Stat::Mode) => {
                self.common_value(stat, now).unwrap_or(Value::Empty)
            }
            (None, _) => Value::Empty,
        }
    }

    fn percentile(&self, lap: usize, percentile: usize) -> Value<'_> {
        match self.latency.as_ref().map(|laps| laps[lap]) {
            Some(q) if q.count > 0 => [q.p50, q.p90, q.p99, q.p999, q.max][percentile].into(),
            _ => Value::Empty,
        }
    }

    /// Columns that every kind of object answers alike.
    fn common_value(&self, stat: Stat, now: Now) -> Option<Value<'_>> {
        let object = self.facts.object();
        Some(match stat {
            Stat::ProxyName => Value::text(&self.proxy),
            Stat::ServiceName => match object {
                Object::Frontend => Value::text("FRONTEND"),
                Object::Backend => Value::text("BACKEND"),
                Object::Server | Object::Listener => Value::text(&self.name),
            },
            Stat::ProcessNumber => Value::Number(1),
            Stat::ProxyId => self.iid.into(),
            Stat::ServiceId => self.sid.into(),
            Stat::Type => Value::Number(object as u64),
            Stat::Mode => Value::text(if self.http { "http" } else { "tcp" }),
            Stat::LastSession => Value::Signed(match self.sums.last_session {
                Some(at) => i64::try_from(now.since(at).as_secs()).unwrap_or(i64::MAX),
                None => -1,
            }),
            Stat::RequestBytesIn | Stat::ResponseBytesOut => {
                copied(stat).and_then(|stat| self.sums.get(stat)).into()
            }
            _ => return None,
        })
    }
}

/// The counted column that another one repeats.
pub(super) const fn copied(stat: Stat) -> Option<Stat> {
    match stat {
        Stat::RequestBytesIn => Some(Stat::BytesIn),
        Stat::ResponseBytesOut => Some(Stat::BytesOut),
        _ => None,
    }
}

impl FrontendFacts {
    fn value(&self, stat: Stat) -> Value<'_> {
        match stat {
            Stat::Status => Value::text(self.status.to_string()),
            Stat::SessionsLimit => self.limit.into(),
            Stat::RateLimit => self.rate_limit.into(),
            _ => Value::Number(0),
        }
    }
}

impl ListenerFacts {
    fn value(&self, stat: Stat) -> Value<'_> {
        match stat {
            Stat::Status => Value::text(self.status.to_string()),
            Stat::SessionsLimit => self.limit.into(),
            Stat::Address => Value::text(&self.address),
            Stat::Protocol => Value::text(self.protocol),
            _ => Value::Number(0),
        }
    }
}

impl BackendFacts {
    fn value(&self, stat: Stat) -> Value<'_> {
        match stat {
            Stat::Status => Value::text(if self.up { "UP" } else { "DOWN" }),
            Stat::SessionsLimit => self.limit.into(),
            Stat::Weight => self.weight.into(),
            Stat::UserWeight => self.user_weight.into(),
            Stat::Active => self.active.into(),
            Stat::Backup => self.backup.into(),
            Stat::LastChange => self.last_change.as_secs().into(),
            Stat::Downtime => self.downtime.as_secs().into(),
            Stat::Algorithm => Value::text(&self.algorithm),
            Stat::Cookie => Value::optional_text(self.cookie.as_ref()),
            _ => Value::Number(0),
        }
    }
}

impl ServerFacts {
    fn value(&self, stat: Stat) -> Value<'_> {
        match stat {
            Stat::Status => Value::text(self.status()),
            Stat::SessionsLimit => self.limit.into(),
            Stat::QueueLimit => self.queue_limit.into(),
            Stat::Weight => self.weight.into(),
            Stat::UserWeight => self.user_weight.into(),
            Stat::Active => (!self.backup).into(),
            Stat::Backup => self.backup.into(),
            Stat::LastChange => self.last_change.as_secs().into(),
            Stat::Downtime if self.check.is_some() => self.downtime.as_secs().into(),
            Stat::Throttle => self.throttle_percent.into(),
            Stat::Tracked => Value::optional_text(self.tracked.as_ref()),
            Stat::Address => Value::text(self.address()),
            Stat::Cookie => Value::optional_text(self.cookie.as_ref()),
            Stat::LastAgent | Stat::AgentStatus | Stat::AgentCode | Stat::AgentDuration => {
                self.agent_value(stat)
            }
            Stat::AgentDescription | Stat::AgentRise | Stat::AgentFall | Stat::AgentHealth => {
                self.agent_value(stat)
            }
            // A limit of idle connections is not shown yet.
            Stat::IdleLimit => Value::Empty,
            Stat::CheckStatus
            | Stat::CheckCode
            | Stat::CheckDuration
            | Stat::CheckDescription
            | Stat::CheckRise
            | Stat::CheckFall
            | Stat::CheckHealth
            | Stat::LastCheck
            | Stat::Downtime => self.check_value(stat),
            _ => Value::Number(0),
        }
    }

    /// Columns of the agent: empty without one. One word of it is enough, so rise, fall and the top of its health are 1.
    fn agent_value(&self, stat: Stat) -> Value<'_> {
        let Some((agent, up)) = &self.agent else { return Value::Empty };
        match stat {
            Stat::AgentStatus => Value::text(agent.result.code()),
            Stat::AgentDescription => Value::text(agent.result.words()),
            Stat::AgentDuration => u64::try_from(agent.duration.as_millis()).unwrap_or(u64::MAX).into(),
            Stat::LastAgent => Value::text(&agent.last),
            Stat::AgentRise | Stat::AgentFall => 1_u64.into(),
            Stat::AgentHealth => u64::from(*up).into(),
            _ => Value::Empty,
        }
    }

    /// Columns of the check: empty without one, and (as in HAProxy) in maintenance.
    fn check_value(&self, stat: Stat) -> Value<'_> {
        let (Some(check), Health::Checked { level, rise, fall, .. }) = (&self.check, self.health) else {
            return Value::Empty;
        };
        if self.admin.is_maint() {
            return Value::Empty;
        }
        match stat {
            Stat::CheckStatus => Value::text(check.result.code()),
            Stat::CheckDescription => Value::text(check.result.words()),
            Stat::LastCheck => Value::text(&check.last),
            Stat::CheckCode => check.code.into(),
            Stat::CheckDuration => {
                Value::Number(u64::try_from(check.duration.as_millis()).unwrap_or(u64::MAX))
            }
            Stat::CheckRise => rise.into(),
            Stat::CheckFall => fall.into(),
            Stat::CheckHealth => level.into(),
            _ => Value::Empty,
        }
    }
}

//! THE table of statistics: one row per column of `show stat`, in HAProxy's column order. Storage cells, CSV, typed, JSON,
//! Prometheus names and docs/STATS.md are derived from it; nothing here counts or prints.
//!
//! To add a number: add one row below [`COMPATIBLE_COLUMNS`], run `UPDATE_GOLDEN=1 cargo test`, review the golden files.

/// The kinds of objects that have statistics. The numbers are HAProxy's `type` column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Object {
    /// A frontend (`FRONTEND`).
    Frontend = 0,
    /// A backend (`BACKEND`).
    Backend = 1,
    /// A server of a backend.
    Server = 2,
    /// A bind of a frontend, all cores together.
    Listener = 3,
}

impl Object {
    /// All of them, in the order of their numbers.
    pub const ALL: [Object; 4] = [Object::Frontend, Object::Backend, Object::Server, Object::Listener];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of object kinds a row applies to, and whether it applies to `mode http` alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Objects(u8);

const F: u8 = Object::Frontend.bit();
const B: u8 = Object::Backend.bit();
const S: u8 = Object::Server.bit();
const L: u8 = Object::Listener.bit();
/// Shown only where the proxy's mode is http.
const H: u8 = 1 << 7;

impl Objects {
    /// Whether rows of this kind of object have the column.
    pub const fn contains(self, object: Object) -> bool {
        self.0 & object.bit() != 0
    }
    /// Whether the column stays empty in TCP mode.
    pub const fn http_only(self) -> bool {
        self.0 & H != 0
    }
}

/// What kind of fact a column is; decides HAProxy's tags in the typed and JSON forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nature {
    /// A name that identifies the object.
    Name,
    /// A number that identifies the object in this process.
    KeyProcess,
    /// A number that identifies the object in every process of the service.
    KeyService,
    /// Only grows (until `clear counters all`).
    Counter,
    /// A level: goes up and down.
    Gauge,
    /// The highest value since the start or `clear counters`.
    Max,
    /// Events during the last second.
    Rate,
    /// A configured or imposed bound.
    Limit,
    /// Configuration.
    Config,
    /// A state, decided by checks or the administrator.
    State,
    /// An average over the last 1024 samples.
    Average,
    /// A percentile of durations over a window of time.
    Quantile,
    /// Seconds since something happened.
    Age,
    /// A duration.
    Duration,
    /// Free text.
    Output,
    /// What the product is.
    Product,
    /// Free text from the configuration.
    ConfigText,
}

impl Nature {
    /// HAProxy's tags as words: origin, nature, scope. Their first letters (`Avg` is `a`) form the three-letter code
    /// of the typed form.
    pub const fn tags(self) -> Tags {
        use Nature as N;
        let (code, origin, nature, scope) = match self {
            N::Name => ("KNS", "Key", "Name", "Service"),
            N::KeyProcess => ("KGP", "Key", "Gauge", "Process"),
            N::KeyService => ("KGS", "Key", "Gauge", "Service"),
            N::Counter => ("MCP", "Metric", "Counter", "Process"),
            N::Gauge => ("MGP", "Metric", "Gauge", "Process"),
            N::Max => ("MMP", "Metric", "Max", "Process"),
            N::Rate => ("MRP", "Metric", "Rate", "Process"),
            N::Limit => ("CLP", "Config", "Limit", "Process"),
            N::Config => ("CGS", "Config", "Gauge", "Service"),
            N::State => ("SGP", "Status", "Gauge", "Process"),
            N::Average => ("MaP", "Metric", "Avg", "Process"),
            N::Quantile => ("MDP", "Metric", "Duration", "Process"),
            N::Age => ("MAP", "Metric", "Age", "Process"),
            N::Duration => ("MDP", "Metric", "Duration", "Process"),
            N::Output => ("MOP", "Metric", "Output", "Process"),
            N::Product => ("POS", "Product", "Output", "Service"),
            N::ConfigText => ("COS", "Config", "Output", "Service"),
        };
        Tags { code, origin, nature, scope }
    }
}

/// HAProxy's description of a value in the typed (`code`) and JSON (the words) forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tags {
    /// Three letters.
    pub code: &'static str,
    /// Where the value comes from.
    pub origin: &'static str,
    /// How it behaves.
    pub nature: &'static str,
    /// How far it is valid.
    pub scope: &'static str,
}

/// Unit and width of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Text.
    Text,
    /// A small number.
    Number,
    /// A number that grows without bound.
    Total,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Micros,
    /// Seconds.
    Secs,
    /// Seconds, -1 for never.
    SignedSecs,
}

impl Unit {
    /// HAProxy's name of the value's type in the typed and JSON forms.
    pub const fn type_name(self) -> &'static str {
        match self {
            Unit::Text => "str",
            Unit::Number | Unit::Ms | Unit::Micros | Unit::Secs => "u32",
            Unit::Total | Unit::Bytes => "u64",
            Unit::SignedSecs => "s32",
        }
    }
    /// The unit in words, for the documentation.
    pub const fn words(self) -> &'static str {
        match self {
            Unit::Text => "text",
            Unit::Number | Unit::Total => "number",
            Unit::Bytes => "bytes",
            Unit::Ms => "ms",
            Unit::Micros => "µs",
            Unit::Secs | Unit::SignedSecs => "seconds",
        }
    }
}

/// How the data cores store a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Store {
    /// No cell: derived from other cells or known to the control core.
    Derived,
    /// Only added to; summed over cores.
    Count,
    /// Goes up and down; summed over cores. One core's part may be negative after a hand-over.
    Level,
    /// Highest value this core saw; the maximum over cores.
    Max,
    /// Two cells: total of the samples in microseconds and their number; the control core makes a moving average of it.
    TimeTotal,
}

impl Store {
    const fn cells(self) -> u8 {
        match self {
            Store::Derived => 0,
            Store::Count | Store::Level | Store::Max => 1,
            Store::TimeTotal => 2,
        }
    }
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its id.
    pub stat: Stat,
    /// Its name in the CSV header.
    pub csv: &'static str,
    /// Its name in Prometheus after `haproxy_<object>_`; empty: not exported.
    pub prometheus: &'static str,
    /// The objects that have it.
    pub objects: Objects,
    /// What kind of fact it is.
    pub nature: Nature,
    /// Unit and width.
    pub unit: Unit,
    /// How cores store it.
    pub store: Store,
    /// One sentence for the operator.
    pub help: &'static str,
}

macro_rules! table {
    ($($stat:ident $csv:literal $prometheus:literal [$($on:ident)+] $nature:ident $unit:ident $store:ident $help:literal;)*) => {
        /// A column of `show stat`. The number is the column's position.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Stat {
            $(#[doc = concat!("`", $csv, "`: ", $help)] $stat,)*
        }

        /// All rows in column order.
        pub const TABLE: &[Row] = &[$(Row {
            stat: Stat::$stat,
            csv: $csv,
            prometheus: $prometheus,
            objects: Objects(0 $(| $on)+),
            nature: Nature::$nature,
            unit: Unit::$unit,
            store: Store::$store,
            help: $help,
        }),*];
    };
}

table! {
    // id                csv                 prometheus                          objects     nature     unit   store   help
    ProxyName            "pxname"            ""                                  [F B S L]   Name       Text   Derived "Name of the frontend or backend.";
    ServiceName          "svname"            ""                                  [F B S L]   Name       Text   Derived "FRONTEND, BACKEND, or the name of the server or bind.";
    QueueCur             "qcur"              "current_queue"                     [B S]       Gauge      Number Level   "Sessions waiting for a slot now.";
    QueueMax             "qmax"              "max_queue"                         [B S]       Max        Number Max     "Highest qcur.";
    SessionsCur          "scur"              "current_sessions"                  [F B S L]   Gauge      Number Level   "Sessions now.";
    SessionsMax          "smax"              "max_sessions"                      [F B S L]   Max        Number Max     "Highest scur: the larger of the highest one-second sample over all cores and the highest value of one core.";
    SessionsLimit        "slim"              "limit_sessions"                    [F B S L]   Limit      Number Derived "Configured limit of scur (maxconn, fullconn of a backend).";
    SessionsTotal        "stot"              "sessions_total"                    [F B S L]   Counter    Total  Count   "Sessions since the start.";
    BytesIn              "bin"               "bytes_in_total"                    [F B S L]   Counter    Bytes  Count   "Bytes from clients; moves while connections are open.";
    BytesOut             "bout"              "bytes_out_total"                   [F B S L]   Counter    Bytes  Count   "Bytes to clients; moves while connections are open.";
    RequestsDenied       "dreq"              "requests_denied_total"             [F B L]     Counter    Total  Count   "Requests or sessions refused by a rule.";
    ResponsesDenied      "dresp"             "responses_denied_total"            [F B S L]   Counter    Total  Count   "Responses refused by a rule.";
    RequestErrors        "ereq"              "request_errors_total"              [F L]       Counter    Total  Count   "Requests that were malformed, cut short or too slow.";
    ConnectErrors        "econ"              "connection_errors_total"           [B S]       Counter    Total  Count   "Connections to a server that failed for good.";
    ResponseErrors       "eresp"             "response_errors_total"             [B S]       Counter    Total  Count   "Responses that were malformed or cut short by the server.";
    Retries              "wretr"             "retry_warnings_total"              [B S]       Counter    Total  Count   "Further connection attempts after a failure.";
    Redispatches         "wredis"            "redispatch_warnings_total"         [B S]       Counter    Total  Count   "Attempts that moved to another server.";
    Status               "status"            "status"                            [F B S L]   State      Text   Derived "Operational state: OPEN, STOP, PAUSED, FULL; UP, DOWN, NOLB, DRAIN, MAINT with details; no check.";
    Weight               "weight"            "weight"                            [B S]       Average    Number Derived "Weight in effect (server), sum over usable servers (backend).";
    Active               "act"               "active_servers"                    [B S]       State      Number Derived "1 for a server that is not a backup; number of usable active servers of a backend.";
    Backup               "bck"               "backup_servers"                    [B S]       State      Number Derived "1 for a backup server; number of usable backup servers of a backend.";
    ChecksFailed         "chkfail"           "check_failures_total"              [S]         Counter    Total  Count   "Checks that failed while the server was up.";
    ChecksDown           "chkdown"           "check_up_down_total"               [B S]       Counter    Total  Count   "Changes from up to down.";
    LastChange           "lastchg"           "last_change_seconds"               [B S]       Age        Secs   Derived "Seconds since the state changed.";
    Downtime             "downtime"          "downtime_seconds_total"            [B S]       Counter    Secs   Derived "Seconds spent down.";
    QueueLimit           "qlimit"            "queue_limit"                       [S]         Limit      Number Derived "Configured limit of qcur (maxqueue).";
    ProcessNumber        "pid"               ""                                  [F B S L]   KeyProcess Number Derived "Always 1: there is one process.";
    ProxyId              "iid"               ""                                  [F B S L]   KeyService Number Derived "Number of the frontend or backend.";
    ServiceId            "sid"               ""                                  [F B S L]   KeyService Number Derived "Number of the server or bind in its proxy; 0 for the proxy itself.";
    Throttle             "throttle"          "current_throttle"                  [S]         Average    Number Derived "Percent of the weight during slowstart.";
    LoadBalanced         "lbtot"             "loadbalanced_total"                [B S]       Counter    Total  Count   "Times a server was chosen by load balancing.";
    Tracked              "tracked"           ""                                  [S]         Config     Text   Derived "The server whose checks this one follows.";
    Type                 "type"              ""                                  [F B S L]   Config     Number Derived "0 frontend, 1 backend, 2 server, 3 listener.";
    Rate                 "rate"              "current_session_rate"              [F B S]     Rate       Number Derived "Sessions during the last second.";
    RateLimit            "rate_lim"          "limit_session_rate"                [F]         Limit      Number Derived "Configured limit of rate.";
    RateMax              "rate_max"          "max_session_rate"                  [F B S]     Max        Number Derived "Highest rate.";
    CheckStatus          "check_status"      "check_status"                      [S]         Output     Text   Derived "Result of the last check: L4OK, L4TOUT, L4CON, L7OK, L7RSP, ...";
    CheckCode            "check_code"        "check_code"                        [S]         Output     Number Derived "Code of the last check's answer, if the protocol has one.";
    CheckDuration        "check_duration"    "check_duration_seconds"            [S]         Duration   Ms     Derived "Time the last check took.";
    Responses1xx         "hrsp_1xx"          "http_responses_total"              [F B S H]   Counter    Total  Count   "Responses with status 1xx.";
    Responses2xx         "hrsp_2xx"          "http_responses_total"              [F B S H]   Counter    Total  Count   "Responses with status 2xx.";
    Responses3xx         "hrsp_3xx"          "http_responses_total"              [F B S H]   Counter    Total  Count   "Responses with status 3xx.";
    Responses4xx         "hrsp_4xx"          "http_responses_total"              [F B S H]   Counter    Total  Count   "Responses with status 4xx.";
    Responses5xx         "hrsp_5xx"          "http_responses_total"              [F B S H]   Counter    Total  Count   "Responses with status 5xx.";
    ResponsesOther       "hrsp_other"        "http_responses_total"              [F B S H]   Counter    Total  Count   "Responses with another status.";
    HealthAnalysis       "hanafail"          ""                                  [S H]       Counter    Total  Derived "Failures seen by passive health analysis.";
    RequestRate          "req_rate"          "http_requests_rate_current"        [F]         Rate       Number Derived "Requests during the last second.";
    RequestRateMax       "req_rate_max"      "http_requests_rate_max"            [F]         Max        Number Derived "Highest req_rate.";
    Requests             "req_tot"           "http_requests_total"               [F B S]     Counter    Total  Count   "HTTP requests since the start.";
    ClientAborts         "cli_abrt"          "client_aborts_total"               [B S]       Counter    Total  Count   "Transfers that the client broke off.";
    ServerAborts         "srv_abrt"          "server_aborts_total"               [B S]       Counter    Total  Count   "Transfers that the server broke off.";
    CompressionIn        "comp_in"           "http_comp_bytes_in_total"          [F B]       Counter    Bytes  Count   "Bytes given to compression.";
    CompressionOut       "comp_out"          "http_comp_bytes_out_total"         [F B]       Counter    Bytes  Count   "Bytes made by compression.";
    CompressionBypassed  "comp_byp"          "http_comp_bytes_bypassed_total"    [F B]       Counter    Bytes  Count   "Bytes that compression let pass.";
    CompressedResponses  "comp_rsp"          "http_comp_responses_total"         [F B]       Counter    Total  Count   "Compressed responses.";
    LastSession          "lastsess"          "last_session_seconds"              [B S]       Age        SignedSecs Derived "Seconds since the last session was assigned; -1: never.";
    LastCheck            "last_chk"          ""                                  [S]         Output     Text   Derived "What the last check saw, in words.";
    LastAgent            "last_agt"          ""                                  [S]         Output     Text   Derived "What the last agent check saw, in words.";
    QueueTime            "qtime"             "queue_time_average_seconds"        [B S]       Average    Ms     TimeTotal "Time in the queue, average over the last 1024 sessions.";
    ConnectTime          "ctime"             "connect_time_average_seconds"      [B S]       Average    Ms     TimeTotal "Time to connect, average over the last 1024 sessions.";
    ResponseTime         "rtime"             "response_time_average_seconds"     [B S]       Average    Ms     TimeTotal "Time to the first byte of the response, average over the last 1024 requests (0 in TCP mode).";
    TotalTime            "ttime"             "total_time_average_seconds"        [B S]       Average    Ms     TimeTotal "Length of a session, average over the last 1024 sessions.";
    AgentStatus          "agent_status"      ""                                  [S]         Output     Text   Derived "Result of the last agent check.";
    AgentCode            "agent_code"        ""                                  [S]         Output     Number Derived "Code of the last agent check's answer.";
    AgentDuration        "agent_duration"    ""                                  [S]         Duration   Ms     Derived "Time the last agent check took.";
    CheckDescription     "check_desc"        ""                                  [S]         Output     Text   Derived "check_status in words.";
    AgentDescription     "agent_desc"        ""                                  [S]         Output     Text   Derived "agent_status in words.";
    CheckRise            "check_rise"        ""                                  [S]         Config     Number Derived "Successes in a row that bring the server up.";
    CheckFall            "check_fall"        ""                                  [S]         Config     Number Derived "Failures in a row that take the server down.";
    CheckHealth          "check_health"      ""                                  [S]         Config     Number Derived "Health between 0 and rise + fall - 1; up from rise on.";
    AgentRise            "agent_rise"        ""                                  [S]         Config     Number Derived "check_rise of the agent check.";
    AgentFall            "agent_fall"        ""                                  [S]         Config     Number Derived "check_fall of the agent check.";
    AgentHealth          "agent_health"      ""                                  [S]         Config     Number Derived "check_health of the agent check.";
    Address              "addr"              ""                                  [S L]       Config     Text   Derived "Address and port.";
    Cookie               "cookie"            ""                                  [B S]       Config     Text   Derived "Cookie value of the server, cookie name of the backend.";
    Mode                 "mode"              ""                                  [F B S L]   Config     Text   Derived "tcp or http.";
    Algorithm            "algo"              ""                                  [B]         Config     Text   Derived "Load-balancing algorithm.";
    ConnectionRate       "conn_rate"         "connections_rate_current"          [F]         Rate       Number Derived "Connections during the last second.";
    ConnectionRateMax    "conn_rate_max"     "connections_rate_max"              [F]         Max        Number Derived "Highest conn_rate.";
    Connections          "conn_tot"          "connections_total"                 [F]         Counter    Total  Count   "Connections since the start.";
    Intercepted          "intercepted"       "intercepted_requests_total"        [F B H]     Counter    Total  Count   "Requests that were answered here (redirects, statistics, returns).";
    ConnectionsDenied    "dcon"              "denied_connections_total"          [F L]       Counter    Total  Count   "Connections refused by connection-rules.";
    SessionsDenied       "dses"              "denied_sessions_total"             [F L]       Counter    Total  Count   "Sessions refused by session rules.";
    RewriteErrors        "wrew"              "failed_header_rewriting_total"     [F B S L]   Counter    Total  Count   "Header changes that did not fit.";
    Connects             "connect"           "connection_attempts_total"         [B S]       Counter    Total  Count   "Connection attempts to servers.";
    Reuses               "reuse"             "connection_reuses_total"           [B S]       Counter    Total  Count   "Requests sent over an idle connection.";
    CacheLookups         "cache_lookups"     "http_cache_lookups_total"          [F B H]     Counter    Total  Derived "Look-ups in the cache.";
    CacheHits            "cache_hits"        "http_cache_hits_total"             [F B H]     Counter    Total  Derived "Answers from the cache.";
    IdleConnections      "srv_icur"          "idle_connections_current"          [S]         Gauge      Number Level   "Idle connections to the server.";
    IdleLimit            "src_ilim"          "idle_connections_limit"            [S]         Limit      Number Derived "Limit of srv_icur.";
    QueueTimeMax         "qtime_max"         "max_queue_time_seconds"            [B S]       Max        Ms     Max     "Longest time in the queue.";
    ConnectTimeMax       "ctime_max"         "max_connect_time_seconds"          [B S]       Max        Ms     Max     "Longest time to connect.";
    ResponseTimeMax      "rtime_max"         "max_response_time_seconds"         [B S]       Max        Ms     Max     "Longest time to the first byte.";
    TotalTimeMax         "ttime_max"         "max_total_time_seconds"            [B S]       Max        Ms     Max     "Longest session.";
    InternalErrors       "eint"              "internal_errors_total"             [F B S L]   Counter    Total  Count   "Sessions that ended by a fault of ours.";
    IdleUnsafe           "idle_conn_cur"     "unsafe_idle_connections_current"   [S]         Gauge      Number Derived "Idle connections that only a safe request may use.";
    IdleSafe             "safe_conn_cur"     "safe_idle_connections_current"     [S]         Gauge      Number Derived "Idle connections that every request may use.";
    UsedConnections      "used_conn_cur"     "used_connections_current"          [S]         Gauge      Number Derived "Connections to the server in use.";
    NeededConnections    "need_conn_est"     "need_connections_current"          [S]         Gauge      Number Derived "Estimate of the connections that are needed.";
    UserWeight           "uweight"           "uweight"                           [B S]       Average    Number Derived "Weight as configured or set by the administrator.";
    AggServerStatus      "agg_server_status"       "agg_server_status"           [B]         Gauge      Number Derived "Unused here: 0.";
    AggServerCheckStatus "agg_server_check_status" "agg_server_check_status"     [B]         Gauge      Number Derived "Unused here: 0.";
    AggCheckStatus       "agg_check_status"  "agg_check_status"                  [B]         Gauge      Number Derived "Unused here: 0.";
    ServerRevision       "srid"              ""                                  [S]         KeyService Number Derived "How often a server of this number was added at run time.";
    SessionsOther        "sess_other"        "sess_other_total"                  [F L]       Counter    Total  Derived "Sessions that are not HTTP/1, 2 or 3.";
    SessionsH1           "h1sess"            "h1sess_total"                      [F L]       Counter    Total  Count   "HTTP/1 sessions.";
    SessionsH2           "h2sess"            "h2sess_total"                      [F L]       Counter    Total  Count   "HTTP/2 sessions.";
    SessionsH3           "h3sess"            "h3sess_total"                      [F L]       Counter    Total  Derived "HTTP/3 sessions.";
    RequestsOther        "req_other"         "http_requests_other_total"         [F L]       Counter    Total  Derived "Requests that are not HTTP/1, 2 or 3.";
    RequestsH1           "h1req"             "h1_requests_total"                 [F L]       Counter    Total  Count   "HTTP/1 requests.";
    RequestsH2           "h2req"             "h2_requests_total"                 [F L]       Counter    Total  Count   "HTTP/2 requests.";
    RequestsH3           "h3req"             "h3_requests_total"                 [F L]       Counter    Total  Derived "HTTP/3 requests.";
    Protocol             "proto"             ""                                  [L]         Output     Text   Derived "Transport protocol of the bind.";
    IdlePrivate          "priv_idle_cur"     "private_idle_connections_current"  [S]         Gauge      Number Derived "Idle connections that belong to one client.";
    RequestBytesIn       "reqbin"            "request_bytes_in_total"            [F B S L]   Counter    Bytes  Derived "Request bytes from the client (bin).";
    RequestBytesOut      "reqbout"           "request_bytes_out_total"           [F B S L]   Counter    Bytes  Count   "Request bytes to the server.";
    ResponseBytesIn      "resbin"            "response_bytes_in_total"           [F B S L]   Counter    Bytes  Count   "Response bytes from the server.";
    ResponseBytesOut     "resbout"           "response_bytes_out_total"          [F B S L]   Counter    Bytes  Derived "Response bytes to the client (bout).";
    CacheHintHits        "cache_hint_hits"   "http_cache_hint_hits_total"        [F B H]     Counter    Total  Derived "Answers from the cache's hints.";
    // Our own columns: after HAProxy's `-`.
    ProxyHeaderErrors    "eproxy"            "proxy_header_errors_total"         [F L]       Counter    Total  Count   "Connections closed because their PROXY header was missing, malformed, or not allowed.";
    H2Floods             "h2flood"           "h2_floods_total"                   [F L]       Counter    Total  Count   "Connections of HTTP/2 that were closed because their client sent too much that moves nothing.";
    InspectTimeouts      "einspect"          "inspect_timeouts_total"            [F]         Counter    Total  Count   "Sessions whose first bytes did not suffice within inspect-delay.";
    Unrouted             "eroute"            "unrouted_sessions_total"           [F]         Counter    Total  Count   "Sessions that no rule sent to a backend.";
    NoServer             "enosrv"            "no_server_total"                   [B]         Counter    Total  Count   "Sessions that found no usable server.";
    ConnectRefused       "econ_refused"      "connect_refused_total"             [B S]       Counter    Total  Count   "Connection attempts that the server refused.";
    ConnectTimeouts      "econ_timeout"      "connect_timeouts_total"            [B S]       Counter    Total  Count   "Connection attempts that took longer than timeout connect.";
    SourcePortsExhausted "eports"            "source_ports_exhausted_total"      [B S]       Counter    Total  Count   "Connection attempts that found no free source port; never a failure of the server.";
    QueueTimeouts        "equeue"            "queue_timeouts_total"              [B S]       Counter    Total  Count   "Sessions that waited longer than timeout queue.";
    QueueFull            "qfull"             "queue_full_total"                  [B S]       Counter    Total  Count   "Sessions refused because the queue was full.";
    ClientTimeouts       "cli_timeout"       "client_timeouts_total"             [F B S]     Counter    Total  Count   "Sessions ended by inactivity of the client.";
    ServerTimeouts       "srv_timeout"       "server_timeouts_total"             [F B S]     Counter    Total  Count   "Sessions ended by inactivity of the server.";
    Killed               "killed"            "killed_sessions_total"             [F B S]     Counter    Total  Count   "Sessions ended by the administrator, by a server marked down, or at a hard stop.";
    SplicedBytes         "spliced"           "spliced_bytes_total"               [F B S]     Counter    Bytes  Count   "Bytes moved by splice(2), both directions.";
    // Percentiles of durations: steps in the order of `timers::Lap`, five of each.
    QueueP50             "queue_p50"         ""                                  [B S]       Quantile   Micros Derived "Time in the queue: half of them took no longer.";
    QueueP90             "queue_p90"         ""                                  [B S]       Quantile   Micros Derived "Time in the queue: 90 % took no longer.";
    QueueP99             "queue_p99"         ""                                  [B S]       Quantile   Micros Derived "Time in the queue: 99 % took no longer.";
    QueueP999            "queue_p999"        ""                                  [B S]       Quantile   Micros Derived "Time in the queue: 99.9 % took no longer.";
    QueueHighest         "queue_max"         ""                                  [B S]       Quantile   Micros Derived "Time in the queue: none took longer.";
    ConnectP50           "connect_p50"       ""                                  [B S]       Quantile   Micros Derived "Time to connect: half of them took no longer.";
    ConnectP90           "connect_p90"       ""                                  [B S]       Quantile   Micros Derived "Time to connect: 90 % took no longer.";
    ConnectP99           "connect_p99"       ""                                  [B S]       Quantile   Micros Derived "Time to connect: 99 % took no longer.";
    ConnectP999          "connect_p999"      ""                                  [B S]       Quantile   Micros Derived "Time to connect: 99.9 % took no longer.";
    ConnectHighest       "connect_max"       ""                                  [B S]       Quantile   Micros Derived "Time to connect: none took longer.";
    TlsP50               "tls_p50"           ""                                  [B S]       Quantile   Micros Derived "Time of the TLS handshake with the server: half of them took no longer.";
    TlsP90               "tls_p90"           ""                                  [B S]       Quantile   Micros Derived "Time of the TLS handshake with the server: 90 % took no longer.";
    TlsP99               "tls_p99"           ""                                  [B S]       Quantile   Micros Derived "Time of the TLS handshake with the server: 99 % took no longer.";
    TlsP999              "tls_p999"          ""                                  [B S]       Quantile   Micros Derived "Time of the TLS handshake with the server: 99.9 % took no longer.";
    TlsHighest           "tls_max"           ""                                  [B S]       Quantile   Micros Derived "Time of the TLS handshake with the server: none took longer.";
    FirstByteP50         "first_byte_p50"    ""                                  [B S]       Quantile   Micros Derived "Time from the request sent to the head of the response (in TCP mode from the connection to the first byte): half of them took no longer.";
    FirstByteP90         "first_byte_p90"    ""                                  [B S]       Quantile   Micros Derived "Time from the request sent to the head of the response (in TCP mode from the connection to the first byte): 90 % took no longer.";
    FirstByteP99         "first_byte_p99"    ""                                  [B S]       Quantile   Micros Derived "Time from the request sent to the head of the response (in TCP mode from the connection to the first byte): 99 % took no longer.";
    FirstByteP999        "first_byte_p999"   ""                                  [B S]       Quantile   Micros Derived "Time from the request sent to the head of the response (in TCP mode from the connection to the first byte): 99.9 % took no longer.";
    FirstByteHighest     "first_byte_max"    ""                                  [B S]       Quantile   Micros Derived "Time from the request sent to the head of the response (in TCP mode from the connection to the first byte): none took longer.";
    TransferP50          "transfer_p50"      ""                                  [B S]       Quantile   Micros Derived "Time from there to the end of the response: half of them took no longer.";
    TransferP90          "transfer_p90"      ""                                  [B S]       Quantile   Micros Derived "Time from there to the end of the response: 90 % took no longer.";
    TransferP99          "transfer_p99"      ""                                  [B S]       Quantile   Micros Derived "Time from there to the end of the response: 99 % took no longer.";
    TransferP999         "transfer_p999"     ""                                  [B S]       Quantile   Micros Derived "Time from there to the end of the response: 99.9 % took no longer.";
    TransferHighest      "transfer_max"      ""                                  [B S]       Quantile   Micros Derived "Time from there to the end of the response: none took longer.";
    TotalP50             "total_p50"         ""                                  [B S]       Quantile   Micros Derived "Time from the first byte of the request (in TCP mode from the accept) to the end: half of them took no longer.";
    TotalP90             "total_p90"         ""                                  [B S]       Quantile   Micros Derived "Time from the first byte of the request (in TCP mode from the accept) to the end: 90 % took no longer.";
    TotalP99             "total_p99"         ""                                  [B S]       Quantile   Micros Derived "Time from the first byte of the request (in TCP mode from the accept) to the end: 99 % took no longer.";
    TotalP999            "total_p999"        ""                                  [B S]       Quantile   Micros Derived "Time from the first byte of the request (in TCP mode from the accept) to the end: 99.9 % took no longer.";
    TotalHighest         "total_max"         ""                                  [B S]       Quantile   Micros Derived "Time from the first byte of the request (in TCP mode from the accept) to the end: none took longer.";
    BindErrors           "ebind"             "bind_errors_total"                 [L]         Counter    Total  Count   "Times that this address could not be bound or accepted from.";
    TlsHandshakes        "ssl_sess"          "ssl_sess_total"                    [F B S L]   Counter    Total  Count   "TLS handshakes that were completed, resumed ones included.";
    TlsResumed           "ssl_reused_sess"   "ssl_reused_sess_total"             [F B S L]   Counter    Total  Count   "TLS handshakes that resumed a former session.";
    TlsFailed            "ssl_failed_handshake" "ssl_failed_handshake_total"     [F B S L]   Counter    Total  Count   "TLS handshakes that failed, for whatever reason.";
    TlsTimeouts          "ssl_timeout"       "ssl_timeouts_total"                [F B S L]   Counter    Total  Count   "TLS handshakes that took too long.";
    TlsAborts            "ssl_abort"         "ssl_aborts_total"                  [F B S L]   Counter    Total  Count   "TLS handshakes that the peer left in the middle.";
    TlsNotTls            "ssl_not_tls"       "ssl_not_tls_total"                 [F L]       Counter    Total  Count   "Connections whose first bytes were no TLS.";
    TlsUnknownNames      "ssl_unknown_name"  "ssl_unknown_names_total"           [F L]       Counter    Total  Count   "Clients that asked for a name without a certificate (strict-sni).";
    TlsBadCertificates   "ssl_bad_cert"      "ssl_bad_certificates_total"        [F B S L]   Counter    Total  Count   "Certificates of peers that were missing, not trusted, expired, revoked or for another name.";
    TlsAlerts            "ssl_alert"         "ssl_alerts_total"                  [F B S L]   Counter    Total  Count   "TLS handshakes that the peer refused with an alert.";
    TlsIncompatible      "ssl_incompatible"  "ssl_incompatible_total"            [F B S L]   Counter    Total  Count   "TLS handshakes without a version, suite, group or protocol in common.";
    TlsMalformed         "ssl_malformed"     "ssl_malformed_total"               [F B S L]   Counter    Total  Count   "TLS handshakes that broke the rules of the protocol.";
    Tls13                "ssl_tls13"         "ssl_tls13_total"                   [F B S L]   Counter    Total  Count   "TLS handshakes of version 1.3.";
    TlsEarly             "ssl_early"         "ssl_early_total"                   [F L]       Counter    Total  Count   "TLS connections that began with early data (allow-0rtt).";
    TlsAlpnH2            "ssl_alpn_h2"       "ssl_alpn_h2_total"                 [F B S L]   Counter    Total  Count   "TLS handshakes whose ALPN chose h2.";
    TlsAlpnH1            "ssl_alpn_h1"       "ssl_alpn_h1_total"                 [F B S L]   Counter    Total  Count   "TLS handshakes whose ALPN chose http/1.1.";
}

/// Columns that HAProxy has too; ours come after them, behind the `-` column.
pub const COMPATIBLE_COLUMNS: usize = Stat::CacheHintHits as usize + 1;

const _: () = assert!(Stat::TotalHighest as usize - Stat::QueueP50 as usize + 1 == 5 * super::timers::LAPS);
const _: () = assert!(TABLE.len() < 200, "Stat and the index of a cell are u8");

impl Stat {
    /// The row of this column.
    pub const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The step and the percentile (by position in `Quantiles`) that this row shows.
    pub(crate) const fn percentile(self) -> Option<(usize, usize)> {
        let (first, last) = (Stat::QueueP50 as usize, Stat::TotalHighest as usize);
        let at = self as usize;
        if at < first || at > last { None } else { Some(((at - first) / 5, (at - first) % 5)) }
    }

    /// The row that keeps the highest value of this level or duration, if there is one.
    #[inline]
    pub(crate) const fn max(self) -> Option<Stat> {
        match self {
            Stat::QueueCur => Some(Stat::QueueMax),
            Stat::SessionsCur => Some(Stat::SessionsMax),
            Stat::QueueTime => Some(Stat::QueueTimeMax),
            Stat::ConnectTime => Some(Stat::ConnectTimeMax),
            Stat::ResponseTime => Some(Stat::ResponseTimeMax),
            Stat::TotalTime => Some(Stat::TotalTimeMax),
            _ => None,
        }
    }
}

/// How many cells an object of this kind has for the row.
const fn cells_of(row: &Row, object: Object) -> u8 {
    if row.objects.contains(object) { row.store.cells() } else { 0 }
}

/// How many cells an object of this kind has on each core.
pub const fn cell_count(object: Object) -> usize {
    let mut count = 0;
    let mut i = 0;
    while i < TABLE.len() {
        count += cells_of(&TABLE[i], object) as usize;
        i += 1;
    }
    count
}

/// The cell of a row in an object of this kind; cells are in column order, so the busiest ones (scur to bout) share the
/// first cache line. A row that such an object does not have gets the spare cell behind the last one.
#[inline]
pub(crate) fn cell_index(object: Object, stat: Stat) -> usize {
    CELL_INDEX[object as usize][stat as usize] as usize
}

/// Known at compile time: an access with a constant row becomes one load and store at a constant offset.
const CELL_INDEX: &[[u8; TABLE.len()]; 4] = &cell_indices();

const fn cell_indices() -> [[u8; TABLE.len()]; 4] {
    let mut all = [[0u8; TABLE.len()]; 4];
    let mut o = 0;
    while o < 4 {
        let object = Object::ALL[o];
        #[allow(
            clippy::cast_possible_truncation,
            reason = "fewer than 200 rows, four of them with two cells"
        )]
        let spare = cell_count(object) as u8;
        let mut next = 0;
        let mut i = 0;
        while i < TABLE.len() {
            let cells = cells_of(&TABLE[i], object);
            all[o][i] = if cells > 0 { next } else { spare };
            next += cells;
            i += 1;
        }
        o += 1;
    }
    all
}

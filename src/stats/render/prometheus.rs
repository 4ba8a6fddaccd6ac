//! Metrics in the text form of Prometheus: HAProxy's names and labels, our own columns and the numbers of each core beside.

use std::fmt::Write as _;

use crate::stats::latency::Histogram;
use crate::stats::process::{CORE_CELLS, CORE_TABLE};
use crate::stats::render::info::{INFO, info_value};
use crate::stats::snapshot::{Entry, Facts, Snapshot, Value};
use crate::stats::table::{COMPATIBLE_COLUMNS, Nature, Object, Row, Stat, TABLE, Unit};

/// What is wanted (parameters of the request).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// `scope=global`: the process and its cores.
    pub process: bool,
    /// `scope=frontend`, `backend`, `server`, `listener`, by `Object as usize`.
    pub objects: [bool; 4],
    /// `no-maint`: no servers in maintenance.
    pub no_maint: bool,
    /// `extra-counters`: our own columns too.
    pub extra: bool,
    /// `scope=sticktable`.
    pub tables: bool,
    /// What names begin with: `haproxy`, or `shardgate` (`names=shardgate`).
    pub prefix: &'static str,
}

impl Wanted {
    /// Everything but listeners and our own columns, as HAProxy does.
    pub const USUAL: Wanted = Wanted {
        process: true,
        objects: [true, true, true, false],
        no_maint: false,
        extra: false,
        tables: true,
        prefix: "haproxy",
    };

    /// The kinds of lines as [`Filter`](crate::stats::render::Filter) has them.
    pub fn types(&self) -> u32 {
        Object::ALL
            .into_iter()
            .filter(|object| self.objects[*object as usize])
            .map(|object| 1 << object as u8)
            .sum()
    }
}

/// Durations of one step of one server or backend.
pub struct Durations<'a> {
    /// The backend.
    pub proxy: &'a str,
    /// The server; `None`: of the whole backend.
    pub server: Option<&'a str>,
    /// The step.
    pub phase: &'static str,
    /// What was counted since the start.
    pub histogram: &'a Histogram,
}

/// HAProxy's names of the keys of `show info`, and what they are divided by.
const PROCESS: &[(&str, &str, f64)] = &[
    ("Nbthread", "nbthread", 1.0),
    ("Nbproc", "nbproc", 1.0),
    ("Process_num", "relative_process_id", 1.0),
    ("Uptime_sec", "uptime_seconds", 1.0),
    ("Start_time_sec", "start_time_seconds", 1.0),
    ("Memmax_bytes", "max_memory_bytes", 1.0),
    ("PoolAlloc_bytes", "pool_allocated_bytes", 1.0),
    ("PoolUsed_bytes", "pool_used_bytes", 1.0),
    ("PoolFailed", "pool_failures_total", 1.0),
    ("Ulimit-n", "max_fds", 1.0),
    ("Maxsock", "max_sockets", 1.0),
    ("Maxconn", "max_connections", 1.0),
    ("Hard_maxconn", "hard_max_connections", 1.0),
    ("CurrConns", "current_connections", 1.0),
    ("CumConns", "connections_total", 1.0),
    ("CumReq", "requests_total", 1.0),
    ("MaxSslConns", "max_ssl_connections", 1.0),
    ("CurrSslConns", "current_ssl_connections", 1.0),
    ("CumSslConns", "ssl_connections_total", 1.0),
    ("Maxpipes", "max_pipes", 1.0),
    ("PipesUsed", "pipes_used_total", 1.0),
    ("PipesFree", "pipes_free_total", 1.0),
    ("ConnRate", "current_connection_rate", 1.0),
    ("ConnRateLimit", "limit_connection_rate", 1.0),
    ("MaxConnRate", "max_connection_rate", 1.0),
    ("SessRate", "current_session_rate", 1.0),
    ("SessRateLimit", "limit_session_rate", 1.0),
    ("MaxSessRate", "max_session_rate", 1.0),
    ("SslRate", "current_ssl_rate", 1.0),
    ("SslRateLimit", "limit_ssl_rate", 1.0),
    ("MaxSslRate", "max_ssl_rate", 1.0),
    ("SslFrontendKeyRate", "current_frontend_ssl_key_rate", 1.0),
    ("SslFrontendMaxKeyRate", "max_frontend_ssl_key_rate", 1.0),
    ("SslFrontendSessionReuse_pct", "frontend_ssl_reuse", 1.0),
    ("SslBackendKeyRate", "current_backend_ssl_key_rate", 1.0),
    ("SslBackendMaxKeyRate", "max_backend_ssl_key_rate", 1.0),
    ("SslCacheLookups", "ssl_cache_lookups_total", 1.0),
    ("SslCacheMisses", "ssl_cache_misses_total", 1.0),
    ("CompressBpsIn", "http_comp_bytes_in_total", 1.0),
    ("CompressBpsOut", "http_comp_bytes_out_total", 1.0),
    ("CompressBpsRateLim", "limit_http_comp", 1.0),
    ("ZlibMemUsage", "current_zlib_memory", 1.0),
    ("MaxZlibMemUsage", "max_zlib_memory", 1.0),
    ("Tasks", "current_tasks", 1.0),
    ("Run_queue", "current_run_queue", 1.0),
    ("Idle_pct", "idle_time_percent", 1.0),
    ("Stopping", "stopping", 1.0),
    ("Jobs", "jobs", 1.0),
    ("Unstoppable Jobs", "unstoppable_jobs", 1.0),
    ("Listeners", "listeners", 1.0),
    ("ActivePeers", "active_peers", 1.0),
    ("ConnectedPeers", "connected_peers", 1.0),
    ("DroppedLogs", "dropped_logs_total", 1.0),
    ("BusyPolling", "busy_polling_enabled", 1.0),
    ("FailedResolutions", "failed_resolutions", 1.0),
    ("TotalBytesOut", "bytes_out_total", 1.0),
    ("TotalSplicedBytesOut", "spliced_bytes_out_total", 1.0),
    ("BytesOutRate", "bytes_out_rate", 1.0),
    ("CumRecvLogs", "recv_logs_total", 1.0),
    ("TotalWarnings", "total_warnings", 1.0),
    ("MaxconnReached", "maxconn_reached_total", 1.0),
    ("BootTime_ms", "boot_time_seconds", 1000.0),
    ("CurrStreams", "current_streams", 1.0),
    ("CumStreams", "streams_total", 1.0),
];

/// States of servers; a server has one of them.
const STATES: [&str; 6] = ["DOWN", "UP", "MAINT", "DRAIN", "NOLB", "no check"];

/// Appends all metrics.
pub fn metrics(
    snapshot: &Snapshot,
    cores: &[[u64; CORE_CELLS]],
    durations: &[Durations<'_>],
    wanted: Wanted,
    out: &mut String,
) {
    if wanted.process {
        process(snapshot, wanted.prefix, out);
        vips(snapshot, out);
        per_core(cores, out);
    }
    for object in [Object::Frontend, Object::Listener, Object::Backend, Object::Server] {
        if !wanted.objects[object as usize] {
            continue;
        }
        let is_kept = |entry: &&Entry| match &entry.facts {
            Facts::Server(server) => !(wanted.no_maint && server.admin.is_maint()),
            _ => true,
        };
        let entries = snapshot.entries.iter().filter(|entry| entry.facts.object() == object);
        let entries: Vec<&Entry> = entries.filter(is_kept).collect();
        objects(snapshot, object, &entries, wanted, out);
    }
    if wanted.objects[Object::Server as usize] {
        histograms(durations, "server", out);
    }
    if wanted.objects[Object::Backend as usize] {
        histograms(durations, "backend", out);
    }
}

fn head(name: &str, kind: &str, help: &str, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn kind_of(name: &str) -> &'static str {
    if name.ends_with("_total") { "counter" } else { "gauge" }
}

/// A stick table.
pub struct TableFacts<'a> {
    /// Its name.
    pub name: &'a str,
    /// The type of its key.
    pub kind: &'a str,
    /// Entries it can hold.
    pub size: u64,
    /// Entries it holds.
    pub used: u64,
}

/// Appends stick tables.
pub fn tables(tables: &[TableFacts<'_>], wanted: Wanted, out: &mut String) {
    type Number = fn(&TableFacts<'_>) -> u64;
    let rows: [(&str, &str, Number); 2] = [
        ("size", "Entries that the stick table can hold.", |table| table.size),
        ("used", "Entries of the stick table in use.", |table| table.used),
    ];
    for (name, help, value) in rows {
        let name = format!("{}_sticktable_{name}", wanted.prefix);
        head(&name, "gauge", help, out);
        for table in tables {
            let _ = writeln!(
                out,
                "{name}{{name=\"{}\",type=\"{}\"}} {}",
                escaped(table.name),
                table.kind,
                value(table)
            );
        }
    }
}

/// A name that is looked up.
pub struct NameFacts<'a> {
    /// The name.
    pub name: &'a str,
    /// Look-ups that found addresses.
    pub found: u64,
    /// Look-ups that did not.
    pub failed: u64,
    /// Addresses of the last look-up.
    pub addresses: usize,
}

/// Appends what look-ups of names found.
pub fn names(names: &[NameFacts<'_>], out: &mut String) {
    if names.is_empty() {
        return;
    }
    head("shardgate_resolver_lookups_total", "counter", "Look-ups of the name, by result.", out);
    for name in names {
        for (result, count) in [("found", name.found), ("failed", name.failed)] {
            let host = escaped(name.name);
            let _ = writeln!(
                out,
                "shardgate_resolver_lookups_total{{name=\"{host}\",result=\"{result}\"}} {count}"
            );
        }
    }
    head("shardgate_resolver_addresses", "gauge", "Addresses that the last look-up of the name found.", out);
    for name in names {
        let _ = writeln!(
            out,
            "shardgate_resolver_addresses{{name=\"{}\"}} {}",
            escaped(name.name),
            name.addresses
        );
    }
}

fn process(snapshot: &Snapshot, prefix: &str, out: &mut String) {
    for (key, name, divisor) in PROCESS {
        let Some(row) = INFO.iter().find(|row| row.name == *key) else { continue };
        let Value::Number(n) = info_value(row, snapshot) else { continue };
        let name = format!("{prefix}_process_{name}");
        head(&name, kind_of(&name), row.help, out);
        let _ = writeln!(out, "{name} {}", scaled(n, *divisor));
    }
    head(&format!("{prefix}_process_build_info"), "gauge", "Version.", out);
    let version = escaped(&snapshot.process.version);
    let _ = writeln!(out, "{prefix}_process_build_info{{version=\"{version}\"}} 1");
}

/// Whether traffic for service addresses of several nodes comes here.
fn vips(snapshot: &Snapshot, out: &mut String) {
    if snapshot.process.vips.is_empty() {
        return;
    }
    head("shardgate_vip_active", "gauge", "1 if this node has the address or announces it.", out);
    for (name, role) in &snapshot.process.vips {
        let active = u8::from(matches!(*role, "MASTER" | "ANNOUNCED"));
        let _ = writeln!(out, "shardgate_vip_active{{vip=\"{}\",role=\"{role}\"}} {active}", escaped(name));
    }
}

/// Whole numbers stay whole.
fn scaled(n: u64, divisor: f64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "durations in milliseconds are far below 2^52")]
    if divisor == 1.0 { n.to_string() } else { (n as f64 / divisor).to_string() }
}

fn per_core(cores: &[[u64; CORE_CELLS]], out: &mut String) {
    for row in CORE_TABLE {
        let base =
            ["_tot", "_cur", "_ns"].iter().fold(row.name, |name, end| name.strip_suffix(end).unwrap_or(name));
        let unit = if row.name.ends_with("_ns") { "_seconds" } else { "" };
        let end = if row.level { "" } else { "_total" };
        let name = format!("shardgate_core_{base}{unit}{end}");
        let help = row.help.replace("Nanoseconds", "Seconds");
        head(&name, if row.level { "gauge" } else { "counter" }, &help, out);
        for (core, cells) in cores.iter().enumerate() {
            let divisor = if unit.is_empty() { 1.0 } else { 1e9 };
            let _ = writeln!(out, "{name}{{core=\"{core}\"}} {}", scaled(cells[row.stat as usize], divisor));
        }
    }
}

fn objects(snapshot: &Snapshot, object: Object, entries: &[&Entry], wanted: Wanted, out: &mut String) {
    let kind = match object {
        Object::Frontend => "frontend",
        Object::Listener => "listener",
        Object::Backend => "backend",
        Object::Server => "server",
    };
    let columns = if wanted.extra { TABLE.len() } else { COMPATIBLE_COLUMNS };
    let rows =
        TABLE[..columns].iter().filter(|row| !row.prometheus.is_empty() && row.objects.contains(object));
    let mut last = "";
    for row in rows {
        let name = format!("{}_{kind}_{}", wanted.prefix, row.prometheus);
        let is_state = matches!(row.stat, Stat::Status | Stat::CheckStatus);
        let mut begun = row.prometheus == last;
        for entry in entries {
            let value = entry.value(row.stat, snapshot.now);
            if value == Value::Empty {
                continue;
            }
            if !std::mem::replace(&mut begun, true) {
                head(&name, kind_of(&name), row.help, out);
                last = row.prometheus;
            }
            let labels = labels(entry);
            match value {
                Value::Number(n) => sample(&name, &labels, row, n, out),
                Value::Signed(n) => drop(writeln!(out, "{name}{{{labels}}} {n}")),
                Value::Text(text) if is_state => state(&name, &labels, entry, row.stat, &text, out),
                Value::Text(_) | Value::Empty => {}
            }
        }
    }
}

fn labels(entry: &Entry) -> String {
    let proxy = format!("proxy=\"{}\"", escaped(&entry.proxy));
    match entry.facts.object() {
        Object::Frontend | Object::Backend => proxy,
        Object::Server => format!("{proxy},server=\"{}\"", escaped(&entry.name)),
        Object::Listener => format!("{proxy},listener=\"{}\"", escaped(&entry.name)),
    }
}

fn sample(name: &str, labels: &str, row: &Row, n: u64, out: &mut String) {
    let code = match row.stat {
        Stat::Responses1xx => ",code=\"1xx\"",
        Stat::Responses2xx => ",code=\"2xx\"",
        Stat::Responses3xx => ",code=\"3xx\"",
        Stat::Responses4xx => ",code=\"4xx\"",
        Stat::Responses5xx => ",code=\"5xx\"",
        Stat::ResponsesOther => ",code=\"other\"",
        _ => "",
    };
    let divisor = match row.unit {
        Unit::Ms => 1e3,
        Unit::Micros => 1e6,
        _ => 1.0,
    };
    debug_assert!(row.nature != Nature::Name, "names are text");
    let _ = writeln!(out, "{name}{{{labels}{code}}} {}", scaled(n, divisor));
}

/// One line a state that is possible: 1 for the one that holds.
fn state(name: &str, labels: &str, entry: &Entry, stat: Stat, text: &str, out: &mut String) {
    if stat == Stat::CheckStatus {
        let _ = writeln!(out, "{name}{{{labels},state=\"{}\"}} 1", escaped(text));
        return;
    }
    let now = match text {
        "no check" => "no check",
        "OPEN" => "UP",
        "STOP" | "PAUSED" => "DOWN",
        "FULL" => "UP",
        text => text.split([' ', '/']).next().unwrap_or(text),
    };
    let states = if entry.facts.object() == Object::Server { &STATES[..] } else { &STATES[..2] };
    for state in states {
        let _ = writeln!(out, "{name}{{{labels},state=\"{state}\"}} {}", u8::from(*state == now));
    }
}

/// Upper bounds of buckets, in microseconds and in seconds.
const BOUNDS: [(u64, &str); 14] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
];

/// A duration is counted where its bucket of ours ends, which is at most 6 % above it; the sum is as exact as that.
fn histograms(all: &[Durations<'_>], object: &str, out: &mut String) {
    let name = format!("shardgate_{object}_duration_seconds");
    let mut begun = false;
    for durations in all.iter().filter(|d| d.server.is_some() == (object == "server")) {
        if durations.histogram.count() == 0 {
            continue;
        }
        if !std::mem::replace(&mut begun, true) {
            head(&name, "histogram", "Durations of the steps of a request, since the start.", out);
        }
        let server = durations.server.map(|s| format!(",server=\"{}\"", escaped(s))).unwrap_or_default();
        let labels = format!("proxy=\"{}\"{server},phase=\"{}\"", escaped(durations.proxy), durations.phase);
        let buckets: Vec<(u64, u64)> = durations.histogram.buckets().collect();
        for (bound, text) in BOUNDS {
            let below: u64 =
                buckets.iter().filter(|(end, _)| *end <= bound + bound / 16).map(|(_, n)| n).sum();
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{text}\"}} {below}");
        }
        let count = durations.histogram.count();
        let sum: u64 = buckets.iter().map(|(end, n)| end.saturating_mul(*n)).fold(0, u64::saturating_add);
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", scaled(sum, 1e6));
        let _ = writeln!(out, "{name}_count{{{labels}}} {count}");
    }
}

/// The value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

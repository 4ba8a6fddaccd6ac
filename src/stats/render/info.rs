//! `show info`: the keys of HAProxy in their order, one `Key: value` a line. What does not exist here is 0, as HAProxy
//! says when a feature is off.
//!
//! Rules that tools rely on: `Name` comes first; no line before `Uptime_sec` holds a second colon; every line holds one.

use std::borrow::Cow;

use crate::stats::process::CoreStat;
use crate::stats::render::csv::push_value;
use crate::stats::snapshot::{ProcessFacts, Snapshot, Value};
use crate::stats::table::{Nature, Unit};

/// One key. Its position in [`INFO`] is its number in the typed and JSON forms.
#[derive(Clone, Copy, Debug)]
pub struct InfoRow {
    /// The key.
    pub name: &'static str,
    /// What kind of fact it is.
    pub nature: Nature,
    /// Unit and width.
    pub unit: Unit,
    value: fn(&Snapshot) -> Value<'_>,
    /// One sentence for the operator.
    pub help: &'static str,
}

/// Appends `show info`.
pub fn info(snapshot: &Snapshot, desc: bool, out: &mut String) {
    for row in INFO {
        let value = info_value(row, snapshot);
        if value != Value::Empty {
            out.push_str(row.name);
            out.push_str(": ");
            push_value(out, &value);
            if desc {
                out.push_str(":\"");
                out.push_str(row.help);
                out.push('"');
            }
            out.push('\n');
        }
    }
}

/// The value of a key.
pub(super) fn info_value<'a>(row: &InfoRow, snapshot: &'a Snapshot) -> Value<'a> {
    (row.value)(snapshot)
}

/// `web=MASTER,mail=BACKUP`; the text form has semicolons for commas.
fn vips(snapshot: &Snapshot) -> Value<'_> {
    let one = |(name, role): &(String, &'static str)| format!("{name}={role}");
    let all = snapshot.process.vips.iter().map(one).collect::<Vec<_>>().join(",");
    if all.is_empty() { word("-") } else { Value::Text(Cow::Owned(all)) }
}

/// A word without spaces, colons or control characters, never empty.
fn word(text: &str) -> Value<'_> {
    let odd = |c: char| c == ':' || c.is_whitespace() || c.is_control();
    Value::Text(match text {
        "" => Cow::Borrowed("-"),
        text if text.contains(odd) => Cow::Owned(text.replace(odd, "-")),
        text => Cow::Borrowed(text),
    })
}

/// HAProxy's form of a duration: `2d 5h08m31s`.
fn uptime(facts: &ProcessFacts) -> String {
    let s = facts.uptime.as_secs();
    format!("{}d {}h{:02}m{:02}s", s / 86400, s / 3600 % 24, s / 60 % 60, s % 60)
}

fn description(facts: &ProcessFacts) -> Value<'_> {
    if facts.description.is_empty() { Value::Empty } else { Value::Text(Cow::Borrowed(&facts.description)) }
}

fn megabytes(bytes: u64) -> u64 {
    bytes >> 20
}

fn zero(_: &Snapshot) -> Value<'_> {
    Value::Number(0)
}

/// Percent of the TLS handshakes with clients that resumed a session.
fn resumed_percent(snapshot: &Snapshot) -> u64 {
    let sums = &snapshot.process_sums;
    let (full, resumed) = (sums.get(CoreStat::TlsClientKeys), sums.get(CoreStat::TlsClientResumed));
    (resumed * 100).checked_div(full + resumed).unwrap_or(0)
}

macro_rules! info {
    ($($name:literal $nature:ident $unit:ident $value:expr, $help:literal;)*) => {
        /// All keys in HAProxy's order.
        pub const INFO: &[InfoRow] = &[$(InfoRow {
            name: $name, nature: Nature::$nature, unit: Unit::$unit, value: $value, help: $help,
        }),*];
    };
}

/// A value from the sums over cores.
macro_rules! sum {
    ($stat:ident) => {
        |s| s.process_sums.get(CoreStat::$stat).into()
    };
}

info! {
    "Name"                Product    Text   |s| word(&s.process.name), "Name of the product (stats.compat-name).";
    "Version"             Product    Text   |s| word(&s.process.version), "Version.";
    "Release_date"        Product    Text   |s| word(&s.process.release_date), "Date of the version.";
    "Nbthread"            Config     Number |s| s.process.threads.into(), "Data cores.";
    "Nbproc"              Config     Number |_| 1u32.into(), "Processes: always 1.";
    "Process_num"         KeyProcess Number |_| 1u32.into(), "Number of this process: always 1.";
    "Pid"                 State      Number |s| s.process.pid.into(), "Process id.";
    "Uptime"              Duration   Text   |s| Value::Text(uptime(&s.process).into()), "Time since the start.";
    "Uptime_sec"          Duration   Number |s| s.process.uptime.as_secs().into(), "Time since the start in seconds.";
    "Memmax_MB"           Limit      Number zero, "Limit of memory: none.";
    "PoolAlloc_MB"        Gauge      Number |s| megabytes(s.process.buffer_bytes.0).into(), "Memory of receive buffers.";
    "PoolUsed_MB"         Gauge      Number |s| megabytes(s.process.buffer_bytes.1).into(), "Memory of receive buffers in use.";
    "PoolFailed"          Counter    Number sum!(BufferWaits), "Receives that found no free buffer.";
    "Ulimit-n"            Limit      Number |s| s.process.fd_limit.into(), "Limit of file descriptors.";
    "Maxsock"             Limit      Number |s| s.process.fd_limit.into(), "Limit of sockets.";
    "Maxconn"             Limit      Number |s| s.process.maxconn.into(), "Limit of client connections in effect.";
    "Hard_maxconn"        Limit      Number |s| s.process.hard_maxconn.into(), "Limit of client connections that file descriptors allow.";
    "CurrConns"           Gauge      Number sum!(Connections), "Client connections now.";
    "CumConns"            Counter    Number sum!(ConnectionsTotal), "Client connections since the start.";
    "CumReq"              Counter    Number sum!(RequestsTotal), "Requests since the start.";
    "MaxSslConns"         Max        Number |s| s.process.tls_limit.into(), "Limit of TLS connections of clients (maxsslconn); 0: none.";
    "CurrSslConns"        Gauge      Number sum!(TlsConnections), "TLS connections now, both sides.";
    "CumSslConns"         Counter    Number sum!(TlsTotal), "TLS connections since the start, both sides.";
    "Maxpipes"            Limit      Number |s| s.process.maxpipes.into(), "Limit of pipes for splicing.";
    "PipesUsed"           Gauge      Number sum!(Pipes), "Pipes in use.";
    "PipesFree"           Gauge      Number sum!(PipesFree), "Pipes kept for the next use.";
    "ConnRate"            Rate       Number |s| s.process_sums.connection_rate.0.into(), "Client connections during the last second.";
    "ConnRateLimit"       Limit      Number |s| s.process.rate_limit.into(), "Limit of ConnRate (set rate-limit); 0: none.";
    "MaxConnRate"         Max        Number |s| s.process_sums.connection_rate.1.into(), "Highest ConnRate.";
    "SessRate"            Rate       Number |s| s.process_sums.session_rate.0.into(), "Sessions during the last second.";
    "SessRateLimit"       Limit      Number |s| s.process.rate_limit.into(), "The same: each connection is a session.";
    "MaxSessRate"         Rate       Number |s| s.process_sums.session_rate.1.into(), "Highest SessRate.";
    "SslRate"             Rate       Number |s| s.process_sums.tls_rate.0.into(), "TLS connections during the last second.";
    "SslRateLimit"        Limit      Number |s| s.process.tls_rate_limit.into(), "Limit of new TLS connections of clients (maxsslrate); 0: none.";
    "MaxSslRate"          Max        Number |s| s.process_sums.tls_rate.1.into(), "Highest SslRate.";
    "SslFrontendKeyRate"  Gauge      Number |s| s.process_sums.client_key_rate.0.into(), "Full TLS handshakes with clients during the last second.";
    "SslFrontendMaxKeyRate" Max      Number |s| s.process_sums.client_key_rate.1.into(), "Highest SslFrontendKeyRate.";
    "SslFrontendSessionReuse_pct" Gauge Number |s| resumed_percent(s).into(), "Percent of TLS sessions of clients that were resumed.";
    "SslBackendKeyRate"   Rate       Number |s| s.process_sums.server_key_rate.0.into(), "Full TLS handshakes with servers during the last second.";
    "SslBackendMaxKeyRate" Max       Number |s| s.process_sums.server_key_rate.1.into(), "Highest SslBackendKeyRate.";
    "SslCacheLookups"     Counter    Number zero, "Look-ups of TLS sessions.";
    "SslCacheMisses"      Counter    Number zero, "Look-ups of TLS sessions that found none.";
    "CompressBpsIn"       Rate       Number zero, "Bytes given to compression during the last second.";
    "CompressBpsOut"      Rate       Number zero, "Bytes made by compression during the last second.";
    "CompressBpsRateLim"  Limit      Number zero, "Limit of CompressBpsOut: none.";
    "ZlibMemUsage"        Gauge      Number zero, "Memory of zlib.";
    "MaxZlibMemUsage"     Limit      Number zero, "Limit of the memory of zlib: none.";
    "Tasks"               Gauge      Number sum!(Tasks), "Tasks alive.";
    "Run_queue"           Gauge      Number zero, "Tasks waiting to run.";
    "Idle_pct"            Average    Number |s| s.process_sums.idle_percent.into(), "Percent of the last second that data cores spent waiting.";
    "node"                ConfigText Text   |s| word(&s.process.node), "Name of this machine.";
    "description"         ConfigText Text   |s| description(&s.process), "Free text of the configuration.";
    "Stopping"            Gauge      Number |s| s.process.stopping.into(), "1 while the process drains its sessions to end.";
    "Jobs"                Gauge      Number |s| (s.process.listeners + s.process_sums.get(CoreStat::Connections)).into(), "Listeners and client connections now.";
    "Unstoppable Jobs"    Gauge      Number zero, "Jobs that a stop does not wait for.";
    "Listeners"           Gauge      Number |s| s.process.listeners.into(), "Binds that listen.";
    "ActivePeers"         Gauge      Number zero, "Connected peers that exchange tables.";
    "ConnectedPeers"      Gauge      Number zero, "Connected peers.";
    "DroppedLogs"         Gauge      Number sum!(DroppedLogs), "Log lines that were dropped.";
    "BusyPolling"         Gauge      Number zero, "Busy polling: never.";
    "FailedResolutions"   Gauge      Number sum!(Resolutions), "Name resolutions that failed.";
    "TotalBytesOut"       Gauge      Bytes  sum!(BytesOut), "Bytes sent since the start.";
    "TotalSplicedBytesOut" Gauge     Bytes  sum!(SplicedBytesOut), "Bytes of them that went through a pipe.";
    "BytesOutRate"        Rate       Bytes  |s| s.process_sums.bytes_out_rate.into(), "Bytes sent during the last second.";
    "DebugCommandsIssued" Gauge      Number zero, "Debug commands: there are none.";
    "CumRecvLogs"         Counter    Number zero, "Log lines received to be forwarded.";
    "Build info"          Product    Text   |s| word(&s.process.version), "Version once more.";
    "Memmax_bytes"        Limit      Bytes  zero, "Limit of memory: none.";
    "PoolAlloc_bytes"     Gauge      Bytes  |s| s.process.buffer_bytes.0.into(), "Memory of receive buffers.";
    "PoolUsed_bytes"      Gauge      Bytes  |s| s.process.buffer_bytes.1.into(), "Memory of receive buffers in use.";
    "Start_time_sec"      Duration   Number |s| s.process.start_time_s.into(), "UNIX time of the start.";
    "Tainted"             State      Text   |_| Value::Text("0".into()), "Experimental features in use: none.";
    "TotalWarnings"       Counter    Number |s| s.process.warnings.into(), "Warnings since the start.";
    "MaxconnReached"      Counter    Number |s| s.process.maxconn_reached.into(), "Times that Maxconn kept connections waiting.";
    "BootTime_ms"         Duration   Ms     |s| s.process.boot_time_ms.into(), "Time from the start to the first accept.";
    "Niced_tasks"         Gauge      Number zero, "Tasks with their own priority.";
    "CurrStreams"         Gauge      Total  sum!(Connections), "Streams now.";
    "CumStreams"          Counter    Total  sum!(SessionsTotal), "Streams since the start.";
    "BlockedTrafficWarnings" Counter Number zero, "Warnings about blocked traffic.";
    "PatternsAdded"       Counter    Number zero, "Patterns added at run time.";
    "PatternsFreed"       Counter    Number zero, "Patterns removed at run time.";
    "NbThreadGroups"      Gauge      Number |_| 1u32.into(), "Thread groups: always 1.";
    "SslKernelTls"        Gauge      Number |s| u64::from(s.process.kernel_tls).into(), "1 if the kernel offers to protect TLS records (kTLS); it is not used.";
    "SslCertificates"     Gauge      Number |s| s.process.certificates.0.into(), "Certificates that are shown to clients and servers.";
    "SslCertificatesExpiring" Gauge  Number |s| s.process.certificates.1.into(), "Certificates in the last quarter of their life, and in their last three weeks.";
    "SslCertificatesExpired" Gauge   Number |s| s.process.certificates.2.into(), "Certificates that have expired.";
    "SslNextExpiry_sec"   Duration   Number |s| s.process.certificate_expiry_s.into(), "Seconds until the first certificate expires; 0: one has, or there is none.";
    "Vips"                State      Text   |s| vips(s), "Addresses of several nodes and the role of this one: MASTER, BACKUP, FAULT, ANNOUNCED, WITHDRAWN; -: nobody said.";
    "Sandbox"             State      Text   |s| word(&s.process.sandbox), "What the process gave up: seccomp, landlock, capabilities; off: nothing.";
}

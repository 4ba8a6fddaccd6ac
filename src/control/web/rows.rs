//! What the page shows of each object, as texts: the same for the page itself and for its updates.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ahash::AHashMap;

use crate::base::limits::WEB_GRAPHS_MAX;
use crate::control::web::{Web, rules};
use crate::stats::history::{Graph, ObjectKey};
use crate::stats::render::Filter;
use crate::stats::snapshot::{Entry, Facts, Snapshot, Value};
use crate::stats::table::{Object, Stat};

/// Points of a graph.
pub(super) const GRAPH_POINTS: usize = 60;

/// A time that graphs show.
pub(super) struct Span {
    /// As it stands in a target.
    pub(super) word: &'static str,
    pub(super) name: &'static str,
    /// Seconds of one point.
    pub(super) part_s: u64,
}

/// The first one is the usual one, which moves with every update; the others are fetched again for each point.
pub(super) const SPANS: [Span; 4] = [
    Span { word: "", name: "1 min", part_s: 1 },
    Span { word: "g10m", name: "10 min", part_s: 10 },
    Span { word: "g2h", name: "2 h", part_s: 120 },
    Span { word: "g24h", name: "24 h", part_s: 1440 },
];

/// One column of the page.
pub(super) struct Column {
    /// What stands above it.
    pub(super) title: &'static str,
    /// What the title means.
    pub(super) help: &'static str,
    /// The views that have it: o(verview), t(raffic), e(rrors), l(atency), h(ealth); m: not on a phone;
    /// b: the first of a group.
    pub(super) views: &'static str,
    show: Show,
}

enum Show {
    /// Digits in groups.
    Number(Stat),
    Bytes(Stat),
    Micros(Stat),
    Seconds(Stat),
    Text(Stat),
    /// Requests or sessions during the last second.
    Rate,
    /// One column and the limit of another.
    Of(Stat, Stat),
    /// Graph of the rate, graph of p99.
    Graph(usize),
}

macro_rules! columns {
    ($($title:literal $views:literal $show:expr, $help:literal;)*) => {
        /// All columns behind name and status.
        pub(super) const COLUMNS: &[Column] =
            &[$(Column { title: $title, views: $views, show: $show, help: $help }),*];
    };
}

columns! {
    "Rate"      "o t"  Show::Rate, "Requests (in TCP mode sessions) during the last second";
    "Rate"      "o t m" Show::Graph(0), "The rate over the time that is chosen for graphs";
    "p50"       "o"    Show::Micros(Stat::TotalP50), "Half of the requests took no longer";
    "p99"       "o"    Show::Micros(Stat::TotalP99), "99 % of the requests took no longer";
    "p99"       "o l m" Show::Graph(1), "p99 over the time that is chosen for graphs";
    "Sessions"  "o t"  Show::Of(Stat::SessionsCur, Stat::SessionsLimit), "Sessions now, and their limit";
    "Max"       "t"    Show::Number(Stat::SessionsMax), "The most sessions at once";
    "Queue"     "o t"  Show::Of(Stat::QueueCur, Stat::QueueLimit), "Waiting for a server now, and the limit";
    "Queue max" "t"    Show::Number(Stat::QueueMax), "The most that waited at once";
    "Total"     "o t m" Show::Number(Stat::SessionsTotal), "Sessions since the start";
    "Requests"  "t"    Show::Number(Stat::Requests), "Requests since the start";
    "Chosen"    "t"    Show::Number(Stat::LoadBalanced), "How often balancing chose it";
    "In"        "o t m" Show::Bytes(Stat::BytesIn), "Bytes from clients";
    "Out"       "o t m" Show::Bytes(Stat::BytesOut), "Bytes to clients";
    "2xx"       "t e"  Show::Number(Stat::Responses2xx), "Responses with status 2xx";
    "3xx"       "t e"  Show::Number(Stat::Responses3xx), "Responses with status 3xx";
    "4xx"       "o t e m" Show::Number(Stat::Responses4xx), "Responses with status 4xx";
    "5xx"       "o t e m" Show::Number(Stat::Responses5xx), "Responses with status 5xx";
    "Req err"   "e"    Show::Number(Stat::RequestErrors), "Malformed or broken requests";
    "Conn err"  "o e m" Show::Number(Stat::ConnectErrors), "Connections to a server that failed";
    "Resp err"  "e"    Show::Number(Stat::ResponseErrors), "Responses that were malformed or broken";
    "Denied"    "e"    Show::Number(Stat::RequestsDenied), "Requests that a rule denied";
    "Retries"   "e"    Show::Number(Stat::Retries), "Further attempts";
    "Redisp"    "e"    Show::Number(Stat::Redispatches), "Attempts that went to another server";
    "Cli abort" "e"    Show::Number(Stat::ClientAborts), "Transfers that the client broke off";
    "Srv abort" "e"    Show::Number(Stat::ServerAborts), "Transfers that the server broke off";
    "Queue p50" "l b"    Show::Micros(Stat::QueueP50), "Time in the queue";
    "p99 "      "l"    Show::Micros(Stat::QueueP99), "Time in the queue";
    "Conn p50"  "l b"    Show::Micros(Stat::ConnectP50), "Time to connect";
    "p99  "     "l"    Show::Micros(Stat::ConnectP99), "Time to connect";
    "1st byte p50" "l b" Show::Micros(Stat::FirstByteP50), "Time to the head of the response";
    "p99   "    "l"    Show::Micros(Stat::FirstByteP99), "Time to the head of the response";
    "Total p50" "l b"    Show::Micros(Stat::TotalP50), "The whole request";
    "p90"       "l"    Show::Micros(Stat::TotalP90), "The whole request";
    "p99    "   "l"    Show::Micros(Stat::TotalP99), "The whole request";
    "p99.9"     "l"    Show::Micros(Stat::TotalP999), "The whole request";
    "max"       "l"    Show::Micros(Stat::TotalHighest), "The whole request";
    "Check"     "h"    Show::Text(Stat::CheckStatus), "What the last check found";
    "Took"      "h"    Show::Number(Stat::CheckDuration), "Milliseconds of the last check";
    "Since"     "o h m" Show::Seconds(Stat::LastChange), "Since the state changed";
    "Weight"    "o h m" Show::Number(Stat::Weight), "Weight in effect";
    "Active"    "h"    Show::Number(Stat::Active), "Active servers";
    "Backup"    "h"    Show::Number(Stat::Backup), "Backup servers";
    "Failed"    "h"    Show::Number(Stat::ChecksFailed), "Checks that failed";
    "Went down" "h"    Show::Number(Stat::ChecksDown), "Changes from up to down";
    "Downtime"  "h"    Show::Seconds(Stat::Downtime), "Time spent down";
    "Address"   "h"    Show::Text(Stat::Address), "Address and port";
}

/// What is shown of one object.
pub(super) struct Row {
    pub(super) key: String,
    pub(super) status: String,
    /// How it is coloured: `up`, `down`, `maint`, `drain`, `warn`, `none`.
    pub(super) class: &'static str,
    pub(super) cells: Vec<String>,
}

/// `4/2/2`: proxy, server, kind.
pub(super) fn key(entry: &Entry) -> String {
    format!("{}-{}-{}", entry.iid, entry.sid, entry.facts.object() as u8)
}

pub(super) fn row(entry: &Entry, snapshot: &Snapshot, filter: &Filter) -> Row {
    let value = |stat| entry.value(stat, snapshot.now);
    let status = match value(Stat::Status) {
        Value::Text(text) => text.into_owned(),
        _ => String::new(),
    };
    let hides_address = !filter.legends;
    let cells = COLUMNS.iter().map(|column| match column.show {
        Show::Text(Stat::Address) if hides_address => String::new(),
        Show::Number(stat) => grouped(&value(stat)),
        Show::Text(stat) => plain(&value(stat)),
        Show::Bytes(stat) => number(&value(stat)).map_or_else(String::new, bytes),
        Show::Micros(stat) => number(&value(stat)).map_or_else(String::new, micros),
        Show::Seconds(stat) => number(&value(stat)).map_or_else(String::new, seconds),
        Show::Rate => rate(entry, snapshot).map_or_else(String::new, |n| n.to_string()),
        Show::Of(stat, limit) => match (grouped(&value(stat)), grouped(&value(limit))) {
            (now, limit) if limit.is_empty() || limit == "0" => now,
            (now, limit) => format!("{now} / {limit}"),
        },
        Show::Graph(_) => String::new(),
    });
    Row { key: key(entry), class: class(entry, &status), cells: cells.collect(), status }
}

/// Which graph a column is.
pub(super) fn graph(column: &Column) -> Option<usize> {
    match column.show {
        Show::Graph(which) => Some(which),
        _ => None,
    }
}

fn class(entry: &Entry, status: &str) -> &'static str {
    match &entry.facts {
        Facts::Server(server) if server.admin.is_maint() => "maint",
        Facts::Server(server) if !server.is_up() => "down",
        _ if status.starts_with("DRAIN") || status == "NOLB" => "drain",
        _ if status.contains('/') || status == "FULL" => "warn",
        _ if status == "no check" => "none",
        _ if matches!(status, "DOWN" | "STOP" | "PAUSED") => "down",
        _ => "up",
    }
}

/// Requests in HTTP mode where they are counted, else sessions.
fn rate(entry: &Entry, snapshot: &Snapshot) -> Option<u64> {
    let requests = number(&entry.value(Stat::RequestRate, snapshot.now));
    requests.filter(|_| entry.http).or_else(|| number(&entry.value(Stat::Rate, snapshot.now)))
}

fn number(value: &Value<'_>) -> Option<u64> {
    match value {
        Value::Number(n) => Some(*n),
        Value::Signed(n) => u64::try_from(*n).ok(),
        _ => None,
    }
}

fn plain(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        value => number(value).map_or_else(String::new, |n| n.to_string()),
    }
}

/// `1 234 567`, with spaces that do not break.
pub(super) fn grouped(value: &Value<'_>) -> String {
    let Some(n) = number(value) else { return String::new() };
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} PB")
}

#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
fn micros(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        1000..100_000 => format!("{:.1} ms", us as f64 / 1e3),
        100_000..1_000_000 => format!("{} ms", us / 1000),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// Its two largest units.
pub(super) fn seconds(s: u64) -> String {
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} m {:02} s", s / 60, s % 60),
        3600..86400 => format!("{} h {:02} m", s / 3600, s / 60 % 60),
        _ => format!("{} d {:02} h", s / 86400, s / 3600 % 24),
    }
}

/// Graphs of all objects of the scope from the history, if they are not too many.
pub(super) fn graphs(web: &Web, scope: &[String], span: &Span) -> AHashMap<String, Graph> {
    let control = web.base.current();
    let mut keys: Vec<(String, ObjectKey)> = Vec::new();
    let mut wanted: AHashMap<ObjectKey, Stat> = AHashMap::new();
    let model = &control.model;
    let mut add = |(iid, sid, object): (u32, u32, Object), row: u32, stat: Stat| {
        let key = ObjectKey::new(object, row);
        keys.push((format!("{iid}-{sid}-{}", object as u8), key));
        wanted.insert(key, stat);
    };
    for (id, frontend) in model.frontends.iter().filter(|(_, f)| is_named(scope, &f.name)) {
        let stat = if frontend.http.is_some() { Stat::Requests } else { Stat::SessionsTotal };
        add((frontend.iid, 0, Object::Frontend), control.cells.frontends[id].row(), stat);
    }
    for (id, backend) in model.backends.iter().filter(|(_, b)| is_named(scope, &b.name)) {
        add((backend.iid, 0, Object::Backend), control.cells.backends[id].row(), Stat::SessionsTotal);
        for server in backend.servers.iter() {
            let (sid, row) = (model.servers[server].sid, control.cells.servers[server].row());
            add((backend.iid, sid, Object::Server), row, Stat::SessionsTotal);
        }
    }
    if keys.len() > WEB_GRAPHS_MAX {
        return AHashMap::new();
    }
    let mut graphs = control.history.borrow().graphs(&wanted, span.part_s, GRAPH_POINTS);
    let mut of = |(name, key): (String, ObjectKey)| {
        let mut graph = graphs.remove(&key).unwrap_or_default();
        if name.ends_with("-0") {
            // Frontends have no latency.
            graph[1].clear();
        }
        (name, graph)
    };
    keys.into_iter().map(&mut of).collect()
}

/// A graph as the points of a line in a box of 60 by 16.
pub(super) fn line(values: &[u64]) -> String {
    let max = values.iter().copied().max().unwrap_or(0).max(1);
    let kept = &values[values.len().saturating_sub(GRAPH_POINTS)..];
    let start = GRAPH_POINTS - kept.len();
    let mut out = String::new();
    for (at, value) in kept.iter().enumerate() {
        let y = 15 - value * 14 / max;
        // Writing to a String cannot fail.
        let _ = write!(out, "{},{y} ", start + at);
    }
    out
}

/// What a live page knows already.
#[derive(Default)]
pub(super) struct Sent {
    rows: AHashMap<String, String>,
    /// How often each rule applied, if they are shown.
    pub(super) rules: Option<Vec<u64>>,
}

/// Appends one event: the process, and the rows that changed.
///
/// `scope`: only these proxies; empty: all.
pub(super) fn event(
    web: &Web,
    snapshot: &Snapshot,
    (filter, scope): (&Filter, &[String]),
    sent: &mut Sent,
    out: &mut String,
) {
    let mut changed = BTreeMap::new();
    for entry in filter.entries(snapshot).filter(|entry| is_in(scope, entry)) {
        let row = row(entry, snapshot, filter);
        let graphs = [rate(entry, snapshot), number(&entry.value(Stat::TotalP99, snapshot.now))];
        let text = serde_json::json!([row.status, row.class, row.cells, graphs]);
        let known = sent.rows.entry(row.key.clone()).or_default();
        let line = text.to_string();
        if *known != line {
            changed.insert(row.key, text);
            *known = line;
        }
    }
    let tiles: Vec<String> = tiles(web, snapshot, scope).into_iter().map(|(_, value)| value).collect();
    let mut event =
        serde_json::json!({ "tiles": tiles, "cores": web.base.collector.borrow().loads(), "rows": changed });
    if let Some(known) = &mut sent.rules {
        event["rules"] = serde_json::json!(rules::changes(web, known));
    }
    let _ = write!(out, "data: {event}\n\n");
}

/// Whether a page shows the entry at all.
fn is_in(scope: &[String], entry: &Entry) -> bool {
    is_named(scope, &entry.proxy)
}

fn is_named(scope: &[String], proxy: &String) -> bool {
    scope.is_empty() || scope.contains(proxy)
}

/// The numbers above the table.
pub(super) fn tiles(web: &Web, snapshot: &Snapshot, scope: &[String]) -> Vec<(&'static str, String)> {
    use crate::stats::process::CoreStat;
    let sums = &snapshot.process_sums;
    let total = |stat| grouped(&Value::Number(sums.get(stat)));
    let limit = grouped(&Value::Number(snapshot.process.maxconn));
    let requests: u64 = snapshot
        .entries
        .iter()
        .filter(|entry| entry.facts.object() == Object::Frontend && is_in(scope, entry))
        .filter_map(|entry| number(&entry.value(Stat::RequestRate, snapshot.now)))
        .sum();
    let collector = web.base.collector.borrow();
    let loads = collector.loads();
    let cores = web.base.cores.len().min(loads.len());
    let busy = loads[..cores].iter().map(|load| u32::from(*load)).sum::<u32>();
    vec![
        ("Uptime", seconds(snapshot.process.uptime.as_secs())),
        ("Connections", format!("{} / {limit}", total(CoreStat::Connections))),
        ("Connections/s", grouped(&Value::Number(sums.connection_rate.0))),
        ("Requests/s", grouped(&Value::Number(requests))),
        ("Out/s", bytes(sums.bytes_out_rate)),
        ("Busy", format!("{} %", busy.checked_div(u32::try_from(cores).unwrap_or(1)).unwrap_or(0))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(grouped(&Value::Number(1_234_567)), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(&Value::Number(123)), "123");
        assert_eq!((bytes(999), bytes(1500)), ("999 B".to_owned(), "1.5 kB".to_owned()));
        assert_eq!(
            (micros(999), micros(1500), micros(2_500_000)),
            ("999 µs".into(), "1.5 ms".into(), "2.5 s".into())
        );
        assert_eq!(
            (seconds(59), seconds(3700), seconds(90_000)),
            ("59 s".into(), "1 h 01 m".into(), "1 d 01 h".into())
        );
        assert_eq!(line(&[0, 2]), "58,15 59,1 ");
    }
}

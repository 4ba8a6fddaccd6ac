//! What `shardgate top` knows: the answers of the admin socket as numbers, and two of them in a row as rates. Pure; `fetch` asks.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use ahash::AHashMap;

use crate::control::ctl;

/// What is asked each time.
const COMMANDS: [&str; 3] = ["show info", "show stat", "show activity"];
/// Values of a row's graph.
pub(super) const GRAPH: usize = 60;
/// Times that the graph of the selected row can show: name, as `show history` takes it, seconds of one value.
pub(super) const SPANS: [(&str, &str, u64); 4] =
    [("1 min", "1m", 1), ("10 min", "10m", 10), ("2 h", "2h", 120), ("24 h", "24h", 1440)];

/// The row whose history is wanted, and which of [`SPANS`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Watch {
    pub(super) what: What,
    pub(super) name: String,
    pub(super) span: usize,
}

/// What kind of thing a row is about, as the `type` column says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub(super) enum What {
    Frontend,
    Backend,
    Server,
}

/// One answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    info: AHashMap<String, String>,
    rows: Vec<AHashMap<String, String>>,
    /// Busy and idle nanoseconds of each core.
    cores: Vec<(u64, u64)>,
    /// Rates of the watched row, oldest first, if they were asked for.
    past: Option<(Watch, Vec<u64>)>,
}

/// One line of the screen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) what: What,
    pub(super) proxy: String,
    /// `proxy`, or `backend/server`.
    pub(super) name: String,
    pub(super) status: String,
    pub(super) sessions: u64,
    pub(super) queue: u64,
    /// Requests (sessions in TCP mode) in the last second.
    pub(super) rate: u64,
    /// Errors a second: 5xx, connections that failed, broken messages.
    pub(super) errors: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) weight: String,
    /// p50 and p99 of each step in microseconds, by [`STEPS`].
    pub(super) steps: [Option<(u64, u64)>; 4],
    pub(super) address: String,
    pub(super) check: String,
    /// Rates of the last seconds, oldest first.
    pub(super) graph: Vec<u64>,
}

/// The steps whose percentiles are shown; the last one is the whole.
pub(super) const STEPS: [(&str, &str); 4] =
    [("queue", "queue"), ("conn", "connect"), ("first", "first_byte"), ("total", "total")];

impl Row {
    pub(super) fn p50(&self) -> u64 {
        self.steps[3].map_or(0, |(p50, _)| p50)
    }
    pub(super) fn p99(&self) -> u64 {
        self.steps[3].map_or(0, |(_, p99)| p99)
    }
    /// Not as it should be.
    pub(super) fn is_bad(&self) -> bool {
        let status = self.status.as_str();
        self.errors > 0
            || self.queue > 0
            || status.contains('/')
            || !(status.starts_with("UP") || matches!(status, "OPEN" | "no check"))
    }
}

/// Everything that the screen shows, but for what the user chose.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) title: String,
    pub(super) uptime: String,
    pub(super) connections: String,
    pub(super) connection_rate: u64,
    pub(super) request_rate: u64,
    pub(super) bytes_out: u64,
    /// Percent that each data core was busy, then the control core.
    pub(super) cores: Vec<u64>,
    pub(super) rows: Vec<Row>,
    /// Rates of the watched row, oldest first.
    pub(super) past: Option<(Watch, Vec<u64>)>,
}

/// Asks once.
pub(super) fn fetch(socket: &Path, watch: Option<&Watch>) -> Result<Sample, String> {
    let mut commands = COMMANDS.map(str::to_owned).to_vec();
    commands.extend(watch.map(|watch| format!("show history {} {}", watch.name, SPANS[watch.span].1)));
    let mut out = Vec::new();
    ctl::run(socket, &commands, &mut out).map_err(|e| e.to_string())?;
    Sample::parse(&String::from_utf8_lossy(&out), watch)
}

impl Sample {
    /// Reads the answers to [`COMMANDS`], then the history of the watched row.
    pub(super) fn parse(text: &str, watch: Option<&Watch>) -> Result<Sample, String> {
        let mut blocks = text.split("\n\n");
        let mut next = || blocks.next().filter(|block| !block.is_empty());
        let (Some(info), Some(stat), Some(activity)) = (next(), next(), next()) else {
            return Err(format!(
                "this is no answer of shardgate: {}",
                text.lines().next().unwrap_or("nothing")
            ));
        };
        let past = watch.zip(next()).map(|(watch, history)| (watch.clone(), past(history, watch)));
        let info = info.lines().filter_map(|line| line.split_once(": "));
        let mut lines = stat.lines();
        let header = lines.next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
        let names = fields(header);
        let row =
            |line: &str| -> AHashMap<String, String> { names.iter().cloned().zip(fields(line)).collect() };
        let per_core = |name: &str| -> Vec<u64> {
            let line = activity.lines().find(|line| line.split(':').next() == Some(name));
            let parts = line.and_then(|line| line.split_once("[ ")?.1.strip_suffix(" ]")).unwrap_or_default();
            parts.split(' ').filter_map(|n| n.parse().ok()).collect()
        };
        Ok(Sample {
            info: info.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            rows: lines.map(row).collect(),
            cores: per_core("cpu_ns").into_iter().zip(per_core("idle_ns")).collect(),
            past,
        })
    }

    fn info(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }
}

/// Rates in equal parts of the time, from the lines of `show history`: what one second, ten seconds or a minute held.
fn past(history: &str, watch: &Watch) -> Vec<u64> {
    let part_s = SPANS[watch.span].2;
    let mut lines = history.lines();
    let header: Vec<&str> =
        lines.next().and_then(|l| l.strip_prefix("# ")).unwrap_or_default().split(',').collect();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let (Some(service), Some(seconds)) = (column("svname"), column("seconds")) else { return Vec::new() };
    let (sessions, requests) = (column("stot"), column("req_tot"));
    let wanted = match watch.what {
        What::Frontend => "FRONTEND",
        What::Backend => "BACKEND",
        What::Server => watch.name.split_once('/').map_or("", |(_, server)| server),
    };
    let (mut grown, mut offset) = ([0; GRAPH], 0);
    let mut first = GRAPH;
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    for row in rows.iter().rev().filter(|row| row.get(service) == Some(&wanted)) {
        let number = |at: Option<usize>| at.and_then(|at| row.get(at)?.parse::<u64>().ok()).unwrap_or(0);
        let back = usize::try_from(offset / part_s).unwrap_or(GRAPH);
        let Some(place) = (GRAPH - 1).checked_sub(back) else { break };
        grown[place] += number(sessions).max(number(requests));
        offset += number(Some(seconds)).max(1);
        first = place;
    }
    grown[first..].iter().map(|grown| grown.div_ceil(part_s)).collect()
}

/// The fields of a line of CSV: quoted ones may hold commas, and quotes doubled.
fn fields(line: &str) -> Vec<String> {
    let (mut out, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    out
}

/// What was seen, one sample after the other.
#[derive(Default)]
pub(super) struct Series {
    before: Option<Sample>,
    loads: Vec<u64>,
    graphs: AHashMap<String, VecDeque<u64>>,
    past: Option<(Watch, Vec<u64>)>,
}

impl Series {
    /// Takes the next sample, so long after the one before.
    pub(super) fn push(&mut self, mut sample: Sample, elapsed: Duration) -> Facts {
        self.measure(&sample);
        // It is not asked for each time.
        self.past = sample.past.take().or_else(|| self.past.take());
        let before = self.before.take();
        let old: AHashMap<(&str, &str), &AHashMap<String, String>> = before
            .iter()
            .flat_map(|sample| &sample.rows)
            .map(|row| ((text(row, "pxname"), text(row, "svname")), row))
            .collect();
        let mut rows = Vec::new();
        for now in &sample.rows {
            let then = old.get(&(text(now, "pxname"), text(now, "svname"))).copied();
            if let Some(mut row) = row(now, then, elapsed) {
                let graph = self.graphs.entry(row.name.clone() + what_word(row.what)).or_default();
                if graph.len() == GRAPH {
                    graph.pop_front();
                }
                graph.push_back(row.rate);
                row.graph = graph.iter().copied().collect();
                rows.push(row);
            }
        }
        arrange(&mut rows);
        let fronts = rows.iter().filter(|row| row.what == What::Frontend);
        let facts = Facts {
            title: format!("Shardgate {} on {}", sample.info("Version"), sample.info("node")),
            uptime: uptime(sample.info("Uptime")),
            connections: format!("{}/{}", sample.info("CurrConns"), sample.info("Maxconn")),
            connection_rate: sample.info("ConnRate").parse().unwrap_or(0),
            request_rate: fronts.map(|row| row.rate).sum(),
            bytes_out: sample.info("BytesOutRate").parse().unwrap_or(0),
            cores: self.loads.clone(),
            rows,
            past: self.past.clone(),
        };
        // Servers that are gone take their graphs with them.
        if self.graphs.len() > 2 * facts.rows.len() {
            self.graphs.clear();
        }
        self.before = Some(sample);
        facts
    }

    /// Busy time against busy and idle time: right whenever the cores published theirs.
    fn measure(&mut self, sample: &Sample) {
        let before = self.before.as_ref().map(|sample| sample.cores.as_slice()).unwrap_or_default();
        self.loads.resize(sample.cores.len(), 0);
        for (index, (load, (busy, idle))) in self.loads.iter_mut().zip(&sample.cores).enumerate() {
            let (old_busy, old_idle) = before.get(index).copied().unwrap_or_default();
            let (busy, idle) = (busy.saturating_sub(old_busy), idle.saturating_sub(old_idle));
            *load = (busy * 100).checked_div(busy + idle).unwrap_or(*load);
        }
    }
}

/// Days and hours, or hours, minutes and seconds: `1d 2h`, `2h03m04s`.
fn uptime(text: &str) -> String {
    match text.split_once(' ') {
        Some(("0d", rest)) => rest.to_owned(),
        Some((days, rest)) => format!("{days} {}h", rest.split('h').next().unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Frontends, then each backend before its servers; else as in the configuration.
fn arrange(rows: &mut [Row]) {
    let mut places: AHashMap<String, usize> = AHashMap::new();
    for row in rows.iter() {
        let next = places.len();
        places.entry(row.proxy.clone()).or_insert(next);
    }
    rows.sort_by_key(|row| (row.what != What::Frontend, places.get(&row.proxy).copied(), row.what));
}

fn what_word(what: What) -> &'static str {
    match what {
        What::Frontend => " F",
        What::Backend => " B",
        What::Server => " S",
    }
}

fn text<'a>(row: &'a AHashMap<String, String>, column: &str) -> &'a str {
    row.get(column).map_or("", String::as_str)
}

fn row(
    now: &AHashMap<String, String>,
    then: Option<&AHashMap<String, String>>,
    elapsed: Duration,
) -> Option<Row> {
    let what = match text(now, "type") {
        "0" => What::Frontend,
        "1" => What::Backend,
        "2" => What::Server,
        _ => return None,
    };
    let number = |column: &str| text(now, column).parse::<u64>().ok();
    let a_second = |columns: &[&str]| -> u64 {
        let Some(then) = then else { return 0 };
        let old = |column: &str| text(then, column).parse::<u64>().unwrap_or(0);
        let more: u64 =
            columns.iter().map(|column| number(column).unwrap_or(0).saturating_sub(old(column))).sum();
        let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        more.saturating_mul(1000).div_ceil(ms)
    };
    let proxy = text(now, "pxname").to_owned();
    let step = |(_, column): (&str, &str)| {
        Some((number(&format!("{column}_p50"))?, number(&format!("{column}_p99"))?))
    };
    let last = [text(now, "check_status"), text(now, "last_chk")].join(" ");
    Some(Row {
        what,
        name: if what == What::Server { format!("{proxy}/{}", text(now, "svname")) } else { proxy.clone() },
        proxy,
        status: text(now, "status").to_owned(),
        sessions: number("scur").unwrap_or(0),
        queue: number("qcur").unwrap_or(0),
        rate: number("req_rate").filter(|n| *n > 0).or(number("rate")).unwrap_or(0),
        errors: a_second(&["ereq", "econ", "eresp", "hrsp_5xx"]),
        bytes_in: a_second(&["bin"]),
        bytes_out: a_second(&["bout"]),
        weight: text(now, "uweight").to_owned(),
        steps: STEPS.map(step),
        address: text(now, "addr").to_owned(),
        check: last.trim().to_owned(),
        graph: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: &str = "Name: Shardgate\nVersion: 1.2.3\nnode: lb1\nUptime: 0d 1h02m03s\nCurrConns: 5\nMaxconn: 100\n\n\
        # pxname,svname,type,status,scur,hrsp_5xx,last_chk,bout,rate,\n\
        web,s1,2,UP 1/3,2,0,\"said \"\"no, never\"\"\",0,7,\nweb,BACKEND,1,UP,2,0,,0,0,\n\n\
        loops: 3 [ 1 2 ]\ncpu_ns: 3 [ 100 200 ]\nidle_ns: 3 [ 900 0 ]\n\n";

    #[test]
    fn answers_become_rows_and_two_of_them_rates() {
        let mut series = Series::default();
        let first = Sample::parse(ANSWERS, None).expect("an answer");
        let facts = series.push(first, Duration::from_secs(1));
        assert_eq!(facts.title, "Shardgate 1.2.3 on lb1");
        assert_eq!(facts.uptime, "1h02m03s");
        assert_eq!(uptime("12d 5h02m03s"), "12d 5h");
        let server = &facts.rows[1];
        assert_eq!(facts.rows[0].what, What::Backend, "it comes before its servers");
        assert_eq!((server.name.as_str(), server.rate, server.errors), ("web/s1", 7, 0));
        assert_eq!(server.check, "said \"no, never\"");
        assert!(server.is_bad(), "it is on its way down");
        let next = ANSWERS
            .replace("2,0,\"said", "2,9,\"said")
            .replace(",0,7,", ",3000,7,")
            .replace("[ 900 0 ]", "[ 1500 0 ]");
        let facts = series.push(Sample::parse(&next, None).expect("an answer"), Duration::from_millis(1500));
        assert_eq!((facts.rows[1].errors, facts.rows[1].bytes_out), (6, 2000));
        assert_eq!(facts.rows[1].graph, [7, 7]);
        assert_eq!(facts.cores, [0, 100], "one idled, one published nothing new");
    }

    #[test]
    fn the_history_becomes_a_graph_in_equal_parts() {
        let watch = |what, name: &str, span| Watch { what, name: name.to_owned(), span };
        let lines: String =
            (0..30).rev().map(|n| format!("web,FRONTEND,{},1,0,{n}\nweb,BACKEND,{0},1,7,0\n", n)).collect();
        let text = format!("{ANSWERS}# pxname,svname,ago,seconds,stot,req_tot\n{lines}\n\n");
        let graph = |watch: Watch| {
            let sample = Sample::parse(&text, Some(&watch)).expect("an answer");
            Series::default().push(sample, Duration::from_secs(1)).past.expect("asked for").1
        };
        let newest: Vec<u64> = (0..30).rev().collect();
        assert_eq!(graph(watch(What::Frontend, "web", 0)), newest);
        assert_eq!(graph(watch(What::Frontend, "web", 1)), [25, 15, 5], "means of ten seconds, rounded up");
        assert_eq!(graph(watch(What::Backend, "web", 1)), [7, 7, 7]);
        assert_eq!(graph(watch(What::Server, "web/s1", 2)), Vec::<u64>::new(), "it is not there");
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in ["", "Permission denied\n\n", "\n\n\n\n", "a\n\nb\n\n"] {
            assert!(Sample::parse(text, None).is_err(), "{text:?}");
        }
    }
}

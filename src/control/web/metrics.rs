//! `/metrics`: what a collector of Prometheus asks for. The text is `stats::render::prometheus`'s; here are the parameters of the
//! request, and what other cores and the control core have to be asked for.

use std::fmt::Write as _;

use crate::control::cli::AdminTarget;
use crate::control::core::Control;
use crate::control::gather;
use crate::control::target::Target;
use crate::control::web::Web;
use crate::policy::ports::Ledger;
use crate::proxy::stick_admin::Question;
use crate::stats::latency::{Histograms, Window};
use crate::stats::render::Filter;
use crate::stats::render::prometheus::{self, Durations, NameFacts, TableFacts, Wanted};

/// Names of the steps of a request, in the order of `timers::Lap`.
const PHASES: [&str; 6] = ["queue", "connect", "tls", "first_byte", "transfer", "total"];

/// Metrics for the parameters of a target: `scope` (several; `*`), `no-maint`, `extra-counters`, `names`, `metrics`.
pub(super) async fn answer(web: &Web, target: &str) -> String {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let wanted = wanted(query);
    let control = &web.base.current();
    let snapshot = control.snapshot(Window::Start, &Filter { types: Some(wanted.types()), ..Filter::ALL });
    let kept = histograms(control);
    let mut durations = Vec::new();
    for (proxy, server, histograms) in &kept {
        for (phase, histogram) in PHASES.into_iter().zip(histograms) {
            durations.push(Durations { proxy, server: server.as_deref(), phase, histogram });
        }
    }
    let cores = Target::new(control.clone()).cores();
    let mut out = String::new();
    prometheus::metrics(&snapshot, &cores, &durations, wanted, &mut out);
    if wanted.tables && !control.model.tables.is_empty() {
        let told = gather::stick(&web.base, Question::List).await;
        let rows = told.tables.iter().map(|(table, used)| TableFacts {
            name: &table.name,
            kind: table.kind.name(),
            size: table.size.into(),
            used: *used as u64,
        });
        prometheus::tables(&rows.collect::<Vec<_>>(), wanted, &mut out);
    }
    if wanted.process {
        let names = Target::new(control.clone()).resolvers();
        let rows = names.iter().map(|name| NameFacts {
            name: &name.host,
            found: name.counts.0,
            failed: name.counts.1,
            addresses: name.found.as_ref().map_or(0, Vec::len),
        });
        prometheus::names(&rows.collect::<Vec<_>>(), &mut out);
    }
    if wanted.process && control.model.servers.values().any(|server| !server.source.is_empty()) {
        push_source_ports(&gather::sources(&web.base).await, &mut out);
    }
    let chosen = query.split('&').filter_map(|part| part.strip_prefix("metrics="));
    chosen.fold(out, |out, names| only(&out, names))
}

/// The parameters of a request.
fn wanted(query: &str) -> Wanted {
    let mut wanted = Wanted::USUAL;
    let mut is_scoped = false;
    for part in query.split('&') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match (key, value) {
            ("scope", value) => {
                if !std::mem::replace(&mut is_scoped, true) {
                    wanted = Wanted { process: false, objects: [false; 4], tables: false, ..wanted };
                }
                match value {
                    "*" | "%2A" | "%2a" => {
                        wanted = Wanted { process: true, objects: [true; 4], tables: true, ..wanted };
                    }
                    "global" => wanted.process = true,
                    "frontend" => wanted.objects[0] = true,
                    "backend" => wanted.objects[1] = true,
                    "server" => wanted.objects[2] = true,
                    "listener" => wanted.objects[3] = true,
                    "sticktable" => wanted.tables = true,
                    _ => {}
                }
            }
            ("no-maint", _) => wanted.no_maint = true,
            ("extra-counters", _) => wanted.extra = true,
            ("names", "shardgate") => (wanted.prefix, wanted.extra) = ("shardgate", true),
            _ => {}
        }
    }
    wanted
}

/// The metrics that are named (`a,b`), or all but some (`-a,-b`): a name stands in the comments before its samples.
fn only(text: &str, names: &str) -> String {
    let names = names.replace("%2C", ",").replace("%2c", ",");
    let (without, with): (Vec<&str>, Vec<&str>) =
        names.split(',').filter(|name| !name.is_empty()).partition(|name| name.starts_with('-'));
    let is_wanted = |name: &str| {
        (with.is_empty() || with.contains(&name)) && !without.iter().any(|one| one[1..] == *name)
    };
    let mut keep = true;
    let lines = text.lines().filter(|line| {
        if let Some(name) = line.strip_prefix("# ").and_then(|comment| comment.split(' ').nth(1)) {
            keep = is_wanted(name);
        }
        keep
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The ledger of source ports: how many are used, in TIME_WAIT and free.
fn push_source_ports(rows: &[Ledger], out: &mut String) {
    let name = "shardgate_source_ports";
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "# HELP {name} Local ports from a source to a server address, by state.\n# TYPE {name} gauge"
    );
    for row in rows {
        for (state, count) in [("used", row.used), ("time_wait", row.waiting), ("free", row.free)] {
            let (source, destination) = (row.source, row.destination);
            let _ = writeln!(
                out,
                "{name}{{source=\"{source}\",destination=\"{destination}\",state=\"{state}\"}} {count}"
            );
        }
    }
}

/// Durations since the start: of each server, and of each backend.
fn histograms(control: &Control) -> Vec<(String, Option<String>, Histograms)> {
    let latency = control.latency.borrow();
    let mut kept = Vec::new();
    for backend in control.model.backends.values().filter(|backend| !backend.is_internal()) {
        let rows = |id| control.cells.servers[id].row();
        for id in backend.servers.iter() {
            let own = latency.histograms(Window::Start, std::iter::once(rows(id)));
            kept.push((backend.name.clone(), Some(control.model.servers[id].name.clone()), own));
        }
        let all = latency.histograms(Window::Start, backend.servers.iter().map(rows));
        kept.push((backend.name.clone(), None, all));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_can_be_chosen_by_name() {
        let text = "# HELP a An a.\n# TYPE a gauge\na{x=\"1\"} 1\n# HELP b A b.\n# TYPE b histogram\nb_bucket{le=\"1\"} 2\nb_sum 2\n";
        let at = text.find("# HELP b").expect("it is there");
        for (names, expected) in [
            ("a", &text[..at]),
            ("-b", &text[..at]),
            ("b,c", &text[at..]),
            ("a%2Cb", text),
            ("", text),
            ("c", ""),
        ] {
            assert_eq!(only(text, names), expected, "{names}");
        }
    }
}

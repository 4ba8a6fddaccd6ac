//! `log` of proxies and what their lines say: targets, and the formats that have a name. `proxy` calls it; what a target is, is
//! `global`'s.

use super::global;
use super::proxy::{Outcome, Proxy, inherited};
use super::report::{Report, State};
use super::source::{Directive, Place, Prefix, Section};
use super::toml::{Item, Table, Val};
use crate::config::keywords::Scope;

/// Whether sections log elsewhere than `log global`. HAProxy adds their targets to those of `defaults`, so each has to have all.
pub(super) fn differ(sections: &[Section]) -> bool {
    let mut lists = sections.iter().filter(|s| matches!(s.kind.as_str(), "defaults" | "frontend" | "listen"));
    let is_own = |d: &Directive| d.words[0] == "log" && d.words.get(1).is_some_and(|word| word != "global");
    lists.any(|section| section.directives.iter().any(is_own))
}

/// Whether `log global` leads anywhere.
fn has_global(sections: &[Section]) -> bool {
    let is_log = |d: &Directive| d.words[0] == "log" && d.prefix == Prefix::None;
    sections.iter().any(|section| section.kind == "global" && section.directives.iter().any(is_log))
}

/// `log global`, `log TARGET ...` and `no log`.
pub(super) fn log(proxy: &mut Proxy<'_, '_>, d: &Directive) -> Option<Outcome> {
    if proxy.scope == Scope::Backend {
        return Some(Outcome::Ignored("the lines are those of the frontends".to_owned()));
    }
    if d.prefix != Prefix::None {
        return Some(proxy.put(&["log"], Val::Flag(false), d));
    }
    let before = proxy.table.get(&["log"]).map(|setting| &setting.value);
    let is_list = matches!(before, Some(Item::Lines(_)));
    let is_global = matches!(before, Some(Item::One(Val::Flag(true))));
    match d.words.get(1).map(String::as_str) {
        Some("global") if !has_global(proxy.sections) => {
            Some(Outcome::Ignored("global has no log, so that this one has no target".to_owned()))
        }
        Some("global") if is_list => {
            proxy.table.push("log", Val::text("global"), d.place, &d.comments);
            Some(Outcome::Exact)
        }
        // By the table.
        Some("global") => None,
        None => Some(Outcome::Wrong("write log global or log TARGET FACILITY".to_owned())),
        Some(target) => Some(match global::log_target(target, &d.words[2..]) {
            Ok(value) => {
                if is_global {
                    proxy.table.push("log", Val::text("global"), d.place, &[]);
                }
                proxy.table.push("log", value, d.place, &d.comments);
                Outcome::Exact
            }
            Err(outcome) => outcome,
        }),
    }
}

/// The formats that have a name.
pub(super) fn format(proxy: &mut Proxy<'_, '_>, d: &Directive) -> Outcome {
    let format = match (d.words[1].as_str(), d.words.get(2).map(String::as_str)) {
        _ if proxy.scope == Scope::Backend => {
            return Outcome::Ignored("the lines are those of the frontends".to_owned());
        }
        _ if d.prefix != Prefix::None => return Outcome::Exact,
        ("httplog", Some("clf")) if proxy.http => "clf",
        // HAProxy writes what TCP mode has, too.
        ("httplog" | "httpslog", _) if !proxy.http => "tcplog",
        (format, _) => format,
    };
    proxy.put(&["log-format"], Val::text(format), d)
}

/// Whether a section logs and nothing says how: HAProxy tells of connections, then.
pub(super) fn is_bare<'d>(sections: &[Section], directives: impl Iterator<Item = &'d Directive>) -> bool {
    let (mut logs, mut has_format) = (false, false);
    for d in directives {
        match d.words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["log", "global"] if !has_global(sections) => {}
            ["log", ..] => logs = d.prefix == Prefix::None,
            ["log-format", ..] | ["option", "httplog" | "httpslog" | "tcplog", ..] => {
                has_format = d.prefix == Prefix::None;
            }
            _ => {}
        }
    }
    logs && !has_format
}

/// The line that HAProxy writes without a format.
pub(super) fn connect_line(proxy: &mut Proxy<'_, '_>, place: Place, report: &mut Report) {
    let mode = if proxy.http { "HTTP" } else { "TCP" };
    let line = format!("Connect from %ci:%cp to %fi:%fp (%f/{mode})");
    proxy.table.set(&["log-format"], Val::Text(line), place, &[]);
    let how = "no option says what its lines are: they tell of connections as HAProxy's do, but when one ends; option httplog \
               or log-format says more";
    report.add(place, &format!("log of {}", proxy.name), State::Approximate, how);
}

/// Without a log of the process HAProxy tells of servers where their backends log: what the process says goes there, too.
pub(super) fn events(tables: &mut Vec<Table>, sections: &[Section]) {
    let place = tables.iter().position(|table| table.header == ["global"]);
    let mut global = match place {
        Some(place) => tables.remove(place),
        None => Table::new(&["global"], Place::default(), Vec::new()),
    };
    if global.get(&["log"]).is_none() {
        log_as_backends(&mut global, sections);
    }
    if !global.is_empty() {
        tables.insert(place.unwrap_or(0), global);
    }
}

fn log_as_backends(global: &mut Table, sections: &[Section]) {
    let mut targets: Vec<Directive> = Vec::new();
    for section in sections.iter().filter(|s| matches!(s.kind.as_str(), "backend" | "listen")) {
        let mut own: Vec<Directive> = Vec::new();
        for d in inherited(sections, section).into_iter().chain(section.directives.iter().cloned()) {
            match d.words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["log", ..] if d.prefix != Prefix::None => own.clear(),
                ["log", target, ..] if *target != "global" => own.push(d),
                _ => {}
            }
        }
        own.retain(|d| targets.iter().all(|known| known.words != d.words));
        targets.extend(own);
    }
    for d in &targets {
        if let Ok(value) = global::log_target(&d.words[1], &d.words[2..]) {
            if global.get(&["log"]).is_none() {
                global.push("log", Val::text("stderr"), global.place, &[]);
            }
            global.push("log", value, d.place, &[]);
        }
    }
}

//! `global`: the process and its admin sockets.

use super::coverage::{self, Fate};
use super::proxy::{Outcome, split, tell, unknown};
use super::report::Report;
use super::source::{Directive, Prefix, Section};
use super::toml::{Table, Val};
use super::value::{self, Bad};
use super::words::Variables;
use crate::config::keywords::Scope;

/// The tables that it makes: `[global]` and `[admin]`.
pub(super) fn translate(
    section: &Section,
    defaults: &mut Table,
    variables: &Variables<'_>,
    report: &mut Report,
) -> Vec<Table> {
    let mut global = Table::new(&["global"], section.place, section.comments.clone());
    let mut admin = Table::new(&["admin"], section.place, Vec::new());
    for d in &section.directives {
        let outcome = directive(&mut global, &mut admin, defaults, d, variables);
        tell(report, d.place, &d.words.join(" "), outcome);
    }
    [global, admin].into_iter().filter(|table| !table.is_empty()).collect()
}

fn directive(
    global: &mut Table,
    admin: &mut Table,
    defaults: &mut Table,
    d: &Directive,
    variables: &Variables<'_>,
) -> Outcome {
    let words = d.words.as_slice();
    let Some((keyword, _, fate)) = coverage::find(coverage::GLOBAL, words) else {
        return unknown(&words[0], coverage::GLOBAL);
    };
    match fate {
        Fate::Ignored(why) => return Outcome::Ignored((*why).to_owned()),
        Fate::Near(_) | Fate::No(_) if d.prefix != Prefix::None => return Outcome::Exact,
        Fate::Near(how) => return Outcome::Near((*how).to_owned()),
        Fate::No(instead) => return Outcome::No((*instead).to_owned()),
        Fate::Mapped => {}
    }
    let rest = &words[1..];
    match (*keyword, rest) {
        ("setenv" | "presetenv" | "unsetenv" | "resetenv", _) => Outcome::Exact,
        ("nbthread", [number]) => match variables.expand(number).parse() {
            Ok(number) => set(global, "cores", Val::Int(number), d),
            Err(_) => Outcome::Wrong(format!("\"{number}\" is no number")),
        },
        ("stats", [socket, rest @ ..]) if socket == "socket" => stats_socket(admin, rest, d),
        ("stats", [timeout, _]) if timeout == "timeout" => {
            Outcome::Ignored("a quiet admin session is closed by set timeout cli".to_owned())
        }
        ("stats", [maxconn, _]) if maxconn == "maxconn" => {
            Outcome::Ignored("the number of admin sessions is bounded".to_owned())
        }
        ("stats", _) => Outcome::Ignored("there is one process".to_owned()),
        // What a buffer holds bounds what a head may be.
        ("tune.bufsize", [size]) => match variables.expand(size).parse::<i64>() {
            Ok(16384) => Outcome::Exact,
            Ok(size) if size < 16384 => set(defaults, "max-header-bytes", Val::Int(size), d),
            _ => Outcome::Near("a request head may have 16 kB at most".to_owned()),
        },
        ("tune.http.maxhdr", [number]) => match variables.expand(number).parse::<i64>() {
            Ok(number) if number <= 101 => set(defaults, "max-headers", Val::Int(number), d),
            _ => Outcome::Near("a request may have 101 header fields at most".to_owned()),
        },
        ("nosplice", []) => set(defaults, "splice", Val::text("never"), d),
        ("default-path", [word]) if word == "current" || word == "config" => {
            Outcome::Near("paths are relative to the configuration file".to_owned())
        }
        ("localpeer", _) => Outcome::Ignored("nothing here uses it".to_owned()),
        ("log", [target, rest @ ..]) => log(global, target, rest, d),
        _ => match value::simple(Scope::Global, words, d.prefix, variables) {
            Ok((key, value)) => set(global, key, value, d),
            Err(Bad::Unknown) if d.prefix != Prefix::None => Outcome::Exact,
            Err(Bad::Unknown) => Outcome::No("not in this version".to_owned()),
            Err(Bad::Arguments(message)) => Outcome::Wrong(message),
        },
    }
}

fn set(table: &mut Table, key: &str, value: Val, d: &Directive) -> Outcome {
    table.set(&split(key), value, d.place, &d.comments);
    Outcome::Exact
}

/// `stats socket PATH [mode M] [level L] ...`.
fn stats_socket(admin: &mut Table, words: &[String], d: &Directive) -> Outcome {
    let [path, options @ ..] = words else { return Outcome::Wrong("a path is missing".to_owned()) };
    let path = path.strip_prefix("unix@").unwrap_or(path);
    if !path.starts_with('/') {
        return Outcome::No("admin sockets are UNIX sockets with a path in this version".to_owned());
    }
    let mut entries = vec![("path".to_owned(), Val::text(path))];
    let mut near = None;
    let mut words = options.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "mode" | "level" => match words.next() {
                Some(value) => entries.push((word.clone(), Val::text(value))),
                None => return Outcome::Wrong(format!("{word} needs a value")),
            },
            "expose-fd" | "process" | "severity-output" | "thread" | "id" | "name" => drop(words.next()),
            "user" | "uid" | "group" | "gid" => {
                let owner = words.next();
                match (value::exists(Scope::AdminSocket, word), owner) {
                    (true, Some(owner)) => entries.push((word.clone(), Val::text(owner))),
                    (_, None) => return Outcome::Wrong(format!("{word} needs a value")),
                    (false, _) => near = Some("the socket belongs to the user and the group of the process"),
                }
            }
            _ => return Outcome::Wrong(format!("\"{word}\" is no option of stats socket")),
        }
    }
    admin.push("socket", Val::Table(entries), d.place, &d.comments);
    near.map_or(Outcome::Exact, |near| Outcome::Near(near.to_owned()))
}

/// `log TARGET FACILITY [LEVEL]`: what the process itself says goes there too.
fn log(global: &mut Table, target: &str, _: &[String], d: &Directive) -> Outcome {
    match target {
        "stdout" | "fd@1" => set(global, "log", Val::text("stdout"), d),
        "stderr" | "fd@2" => set(global, "log", Val::text("stderr"), d),
        _ => Outcome::Near(
            "lines go to stderr, where the service manager takes them to the journal and to syslog"
                .to_owned(),
        ),
    }
}

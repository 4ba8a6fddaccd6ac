//! `global`: the process and its admin sockets.

use std::net::Ipv6Addr;

use super::ProcessSettings;
use super::coverage::{self, Fate};
use super::crt_store::Stores;
use super::proxy::{Outcome, split, tell, unknown};
use super::report::Report;
use super::source::{Directive, Place, Prefix, Section};
use super::toml::{Table, Val};
use super::value::{self, Bad};
use super::words::Variables;
use crate::config::Reader;
use crate::config::keywords::Scope;

/// What `global` says about the lines of other sections.
pub(super) struct Globals<'e> {
    /// `crt-base` and `ca-base`: where relative paths begin.
    pub(super) crt_base: Option<String>,
    pub(super) ca_base: Option<String>,
    /// `ssl-default-bind-*` as options of a bind.
    pub(super) bind_tls: Vec<String>,
    /// `ssl-default-server-*` and `ssl-server-verify` as options of a server.
    pub(super) server_tls: Vec<String>,
    /// `crt-store` sections.
    pub(super) stores: Stores,
    /// Reads what is named: crt-lists.
    pub(super) read: &'e Reader,
}

impl<'e> Globals<'e> {
    /// Nothing is said.
    pub(super) fn none(read: &'e Reader) -> Globals<'e> {
        let (bind_tls, server_tls) = (Vec::new(), Vec::new());
        Globals { crt_base: None, ca_base: None, bind_tls, server_tls, stores: Stores::default(), read }
    }

    pub(super) fn of(sections: &[Section], read: &'e Reader) -> Globals<'e> {
        let mut globals = Globals::none(read);
        let mut key_base = None;
        for d in sections.iter().filter(|s| s.kind == "global").flat_map(|s| &s.directives) {
            match d.words.as_slice() {
                [word, path] if word == "crt-base" => globals.crt_base = Some(path.clone()),
                [word, path] if word == "key-base" => key_base = Some(path.as_str()),
                [word, path] if word == "ca-base" => globals.ca_base = Some(path.clone()),
                [word, how] if word == "ssl-server-verify" => {
                    globals.server_tls.extend(["verify".to_owned(), how.clone()]);
                }
                [word, options @ ..] if word.starts_with("ssl-default-") => {
                    let sides = [
                        ("ssl-default-bind-", &mut globals.bind_tls),
                        ("ssl-default-server-", &mut globals.server_tls),
                    ];
                    for (prefix, side) in sides {
                        let Some(option) = word.strip_prefix(prefix) else { continue };
                        if TLS_LISTS.contains(&option) {
                            side.push(option.to_owned());
                        } else if option != "options" {
                            continue;
                        }
                        side.extend(options.iter().cloned());
                    }
                }
                _ => {}
            }
        }
        globals.stores = Stores::of(sections, globals.crt_base.as_deref(), key_base);
        globals
    }
}

/// What the process is told about itself.
pub(super) fn process(sections: &[Section], variables: &Variables<'_>) -> ProcessSettings {
    let mut settings = ProcessSettings::default();
    for d in sections.iter().filter(|s| s.kind == "global").flat_map(|s| &s.directives) {
        match d.words.as_slice() {
            [word] if word == "daemon" => settings.daemon = true,
            [word, path] if word == "pidfile" => settings.pid_file = Some(variables.expand(path).into()),
            _ => {}
        }
    }
    settings
}

/// Options of binds and servers that `ssl-default-bind-*` and `ssl-default-server-*` set for all with `ssl`.
const TLS_LISTS: &[&str] = &["ciphers", "ciphersuites", "curves"];

/// The tables that it makes: `[global]` and `[admin]`. `nameservers`: what `resolvers` say.
pub(super) fn translate(
    sections: &[Section],
    nameservers: Option<(Place, Vec<String>)>,
    defaults: &mut Table,
    variables: &Variables<'_>,
    report: &mut Report,
) -> Vec<Table> {
    // Several sections were made one.
    let section = sections.iter().find(|section| section.kind == "global");
    let (place, comments) =
        section.map_or_else(Default::default, |section| (section.place, section.comments.clone()));
    let mut global = Table::new(&["global"], place, comments);
    let mut admin = Table::new(&["admin"], place, Vec::new());
    for d in section.iter().flat_map(|section| &section.directives) {
        let outcome = directive(&mut global, &mut admin, defaults, d, variables);
        tell(report, d.place, &d.words.join(" "), outcome);
    }
    if let Some((place, nameservers)) = nameservers {
        global.set(&["nameserver"], Val::texts(&nameservers), place, &[]);
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
    let Some((keyword, _, fate)) = coverage::find(coverage::global(), words) else {
        return unknown(&words[0], coverage::global());
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
        ("crt-base" | "ca-base" | "key-base", [_, ..]) => Outcome::Exact,
        ("ssl-default-bind-options" | "ssl-default-server-options", [_, ..]) => Outcome::Exact,
        (word, [_])
            if ["ssl-default-bind-", "ssl-default-server-"]
                .iter()
                .any(|prefix| word.strip_prefix(prefix).is_some_and(|list| TLS_LISTS.contains(&list))) =>
        {
            Outcome::Exact
        }
        (word, _) if word.starts_with("ssl-default-") || word == "ssl-dh-param-file" => {
            Outcome::Ignored("the TLS library chooses among strong ones".to_owned())
        }
        ("ssl-server-verify", [word]) if word == "required" || word == "none" => Outcome::Exact,
        ("maxsessrate", [number]) => match variables.expand(number).parse() {
            Ok(_) if global.get(&["maxconnrate"]).is_some() => {
                Outcome::Near("maxconnrate holds: connections are counted as they arrive".to_owned())
            }
            Ok(number) => {
                set(global, "maxconnrate", Val::Int(number), d);
                Outcome::Near("connections are counted as they arrive, before connection rules".to_owned())
            }
            Err(_) => Outcome::Wrong(format!("\"{number}\" is no number")),
        },
        ("tune.h2.initial-window-size", [size]) => match variables.expand(size).parse() {
            Ok(size) => {
                set(global, "tune.h2.fe.initial-window-size", Val::Int(size), d);
                set(global, "tune.h2.be.initial-window-size", Val::Int(size), d)
            }
            Err(_) => Outcome::Wrong(format!("\"{size}\" is no number")),
        },
        ("tune.h2.max-concurrent-streams", [number]) => match variables.expand(number).parse() {
            Ok(number) => set(global, "tune.h2.fe.max-concurrent-streams", Val::Int(number), d),
            Err(_) => Outcome::Wrong(format!("\"{number}\" is no number")),
        },
        (tune, _) if tune.starts_with("tune.ssl.") && !value_exists(words) => {
            Outcome::Ignored("the TLS library needs no such bound".to_owned())
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
    let path = ["unix@", "ipv4@", "ipv6@", "tcp@", "tcp4@", "tcp6@"]
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix))
        .unwrap_or(path);
    if path.contains("abns") || path.starts_with("sockpair@") {
        return Outcome::No(
            "an admin socket has a path, an address of the loopback network or fd@N".to_owned(),
        );
    }
    let key = if path.starts_with('/') { "path" } else { "address" };
    let mut entries = vec![(key.to_owned(), Val::text(path))];
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

fn value_exists(words: &[String]) -> bool {
    value::keyword(Scope::Global, words).is_some()
}

/// `log TARGET [OPTIONS] FACILITY [LEVEL [MINLEVEL]]`: what the process itself says goes there, too.
fn log(global: &mut Table, target: &str, words: &[String], d: &Directive) -> Outcome {
    match log_target(target, words) {
        Ok(value) => {
            global.push("log", value, d.place, &d.comments);
            Outcome::Exact
        }
        Err(outcome) => outcome,
    }
}

/// A target of logs, here and in proxies.
pub(super) fn log_target(target: &str, words: &[String]) -> Result<Val, Outcome> {
    let address = match target {
        "stdout" | "fd@1" => "stdout",
        "stderr" | "fd@2" => "stderr",
        other => ["ipv4@", "ipv6@", "udp@", "udp4@", "udp6@", "unix@"]
            .iter()
            .find_map(|prefix| other.strip_prefix(prefix))
            .unwrap_or(other),
    };
    // As with HAProxy the last colon of an IPv6 address stands before its port.
    let six = match address.rsplit_once(':') {
        Some((ip, port))
            if ip.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || port.parse::<u16>().is_ok()) =>
        {
            Some(format!("[{ip}]:{}", if port.is_empty() { "514" } else { port }))
        }
        _ => address.parse::<Ipv6Addr>().is_ok().then(|| format!("[{address}]:514")),
    };
    let address = six.as_deref().unwrap_or(address);
    // A host alone means the port of syslog.
    let is_host = !address.starts_with(['/', '@']) && !address.contains('@') && !address.contains("std");
    let has_port =
        address.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) && address.contains(':');
    let address = if is_host && !has_port { format!("{address}:514") } else { address.to_owned() };
    let mut entries = vec![("address".to_owned(), Val::Text(address))];
    let mut plain = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "len" | "format" | "sample" => {
                let text = words.next().ok_or_else(|| Outcome::Wrong(format!("{word} needs a value")))?;
                entries.push((word.clone(), text.parse().map_or(Val::text(text), Val::Int)));
            }
            "profile" => return Err(Outcome::No("profiles of logs are not in this version".to_owned())),
            _ => plain.push(word),
        }
    }
    if let Some(word) = plain.get(3) {
        return Err(Outcome::Wrong(format!(
            "log has a facility, a level and a least level, and {word} is none"
        )));
    }
    for (key, word) in ["facility", "level", "minlevel"].into_iter().zip(plain) {
        entries.push((key.to_owned(), Val::text(word)));
    }
    Ok(Val::Table(entries))
}

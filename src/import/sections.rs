//! Sections that are no proxies: lists of users, files for errors, resolvers, and those that nothing here uses.

use super::proxy::{Outcome, tell};
use super::report::Report;
use super::source::{Place, Section};
use super::toml::{Table, Val};
use super::words::Variables;

/// The tables that a section makes.
pub(super) fn translate(
    section: &Section,
    kind: &str,
    variables: &Variables<'_>,
    report: &mut Report,
) -> Vec<Table> {
    match kind {
        "userlist" => userlist(section, variables, report),
        "http-errors" => http_errors(section, report),
        _ => other(section, kind, report),
    }
}

/// The DNS servers of all `resolvers`, with where the first of them stands.
pub(super) fn nameservers(
    sections: &[Section],
    variables: &Variables<'_>,
    report: &mut Report,
) -> Option<(Place, Vec<String>)> {
    let mut all: Vec<String> = Vec::new();
    let mut first = None;
    for section in sections.iter().filter(|section| section.kind == "resolvers") {
        let outcome = match first.is_some() {
            true => {
                Outcome::Near("the servers of all resolvers are asked for every name, in order".to_owned())
            }
            false => Outcome::Exact,
        };
        tell(report, section.place, &format!("resolvers {}", section.name), outcome);
        for d in &section.directives {
            let outcome = match d.words.as_slice() {
                [word, _, address] if word == "nameserver" => {
                    let address = variables.expand(address);
                    let plain = ["udp@", "udp4@", "udp6@", "ipv4@", "ipv6@", "tcp@", "tcp4@", "tcp6@"]
                        .iter()
                        .find_map(|prefix| address.strip_prefix(prefix))
                        .unwrap_or(&address);
                    first = first.or(Some(d.place));
                    if !all.iter().any(|other| other == plain) {
                        all.push(plain.to_owned());
                    }
                    Outcome::Exact
                }
                [word] if word == "parse-resolv-conf" => {
                    Outcome::Ignored("it is so where no nameserver is named".to_owned())
                }
                [word, ..] if RESOLVERS.contains(&word.as_str()) => Outcome::Ignored(
                    "an answer holds as long as its TTL says, and the last one until there is another"
                        .to_owned(),
                ),
                _ => Outcome::Wrong("resolvers have nameserver NAME ADDRESS".to_owned()),
            };
            tell(report, d.place, &d.words.join(" "), outcome);
        }
    }
    first.map(|place| (place, all))
}

/// What else there is in `resolvers`.
const RESOLVERS: &[&str] = &["accepted_payload_size", "hold", "resolve_retries", "timeout"];

fn userlist(section: &Section, variables: &Variables<'_>, report: &mut Report) -> Vec<Table> {
    let mut table = Table::new(&["userlist", &section.name], section.place, section.comments.clone());
    for d in &section.directives {
        let outcome = match d.words.as_slice() {
            [kind, name, rest @ ..] if kind == "group" => {
                let users: Vec<String> = match rest {
                    [word, users] if word == "users" => {
                        variables.expand(users).split(',').map(str::to_owned).collect()
                    }
                    _ => Vec::new(),
                };
                let entries = if users.is_empty() {
                    Vec::new()
                } else {
                    vec![("users".to_owned(), Val::texts(&users))]
                };
                table.set(&["group", name], Val::Table(entries), d.place, &d.comments);
                Outcome::Exact
            }
            [kind, name, rest @ ..] if kind == "user" => {
                let entries = rest.chunks(2).filter_map(|pair| match pair {
                    [key, value] if key == "groups" => Some((
                        key.clone(),
                        Val::texts(&value.split(',').map(str::to_owned).collect::<Vec<_>>()),
                    )),
                    [key, value] if key == "password" || key == "insecure-password" => {
                        Some((key.clone(), Val::text(value)))
                    }
                    _ => None,
                });
                let mut fields: Vec<(String, Val)> = Vec::new();
                for (key, value) in entries {
                    fields.retain(|(other, _)| *other != key);
                    fields.push((key, value));
                }
                table.set(&["user", name], Val::Table(fields), d.place, &d.comments);
                Outcome::Exact
            }
            _ => {
                Outcome::Wrong("a userlist has user NAME password HASH and group NAME users LIST".to_owned())
            }
        };
        tell(report, d.place, &hide_password(&d.words), outcome);
    }
    vec![table]
}

/// The directive as it may be shown.
fn hide_password(words: &[String]) -> String {
    let mut shown = words.to_vec();
    for at in 1..shown.len() {
        if shown[at - 1].ends_with("password") {
            shown[at] = "...".to_owned();
        }
    }
    shown.join(" ")
}

fn http_errors(section: &Section, report: &mut Report) -> Vec<Table> {
    let mut table = Table::new(&["http-errors", &section.name], section.place, section.comments.clone());
    for d in &section.directives {
        let outcome = match d.words.as_slice() {
            [word, code, file] if word == "errorfile" => {
                table.set(&["errorfile", code], Val::text(file), d.place, &d.comments);
                Outcome::Exact
            }
            _ => Outcome::Wrong("http-errors has errorfile CODE FILE".to_owned()),
        };
        tell(report, d.place, &d.words.join(" "), outcome);
    }
    vec![table]
}

/// Sections that make no table.
fn other(section: &Section, kind: &str, report: &mut Report) -> Vec<Table> {
    let outcome = match kind {
        // See `nameservers`.
        "resolvers" => return Vec::new(),
        "program" => Outcome::Ignored("start programs from the service manager".to_owned()),
        "peers" | "mailers" | "traces" | "log-profile" => Outcome::Ignored("nothing here uses it".to_owned()),
        "cache" => Outcome::Ignored("responses are not cached".to_owned()),
        "ring" => Outcome::Ignored("events are kept in rings of their own".to_owned()),
        "acme" => Outcome::No("certificates come from files; run an ACME client beside it".to_owned()),
        _ => Outcome::No("not in this version".to_owned()),
    };
    tell(report, section.place, &format!("{kind} {}", section.name), outcome);
    Vec::new()
}

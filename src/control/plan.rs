//! `shardgate plan`: what a configuration file would change in a running process. It asks the admin socket for what runs and
//! compares here; nothing in the process is touched.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::base::id::{Id, IdVec};
use crate::config::{diff, file, overlay};
use crate::control::ctl;
use crate::control::drift::Lookup;
use crate::control::listeners::configured;
use crate::control::load::{self, Source};
use crate::control::state::overrides::{Configured, Field, Key, shown};
use crate::model::{self, Mode, Model, Server};
use crate::rt::StartError;
use crate::tls;

/// What would change, one line each; `None`: nothing.
///
/// # Errors
/// The process cannot be asked, or the file is wrong; the text says so.
pub fn plan(socket: &Path, source: &Source) -> Result<Option<String>, String> {
    let ask = |command: &str| {
        let mut answer = Vec::new();
        ctl::run(socket, &[command.to_owned()], &mut answer).map_err(|error| error.to_string())?;
        Ok::<_, String>(String::from_utf8_lossy(&answer).into_owned())
    };
    let running = ask("show configuration")?;
    let loaded = source.load()?;
    let said = loaded.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let next = loaded.model.ok_or(said)?;
    let certificates = load::certificates(&next, None).map_err(|StartError(why)| why)?;
    let parse = |name: &str, text: &str| {
        let (mut file, mut wrong) = file::parse(name, text);
        if let Some(file) = &mut file {
            wrong = overlay::apply(file, &load::node());
        }
        file.ok_or_else(|| wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    let mut out = String::new();
    for change in diff::changes(&parse("running", &running)?, &parse(&source.name(), &loaded.text)?) {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{change}");
    }
    compare_files(&ask("show files")?, &files(&next, &certificates, &source.base()), &mut out);
    if out.is_empty() {
        return Ok(None);
    }
    // What runs may name files that are gone since: then only the configuration is compared.
    if let (Some(old), _) = source.resolve(&running)? {
        effects(&old, &next, &mut out);
    }
    dropped_overrides(&ask("show drift")?, &next, &mut out);
    sessions(&ask("show generations")?, &mut out);
    Ok(Some(out))
}

/// `show files`: what a configuration was read from beside itself, one a line, with a hash of what stood there. Names below `base`
/// are relative to it: another configuration stands in another directory.
pub(super) fn files(model: &Model, certificates: &tls::Store, base: &Path) -> String {
    let mut out = "# kind hash name\n".to_owned();
    for entry in &certificates.entries {
        let path = entry.path.strip_prefix(base).unwrap_or(&entry.path).display();
        let _ = writeln!(out, "certificate {:016x} {path}", entry.hash);
    }
    for ((kind, path), hash) in &certificates.files {
        let _ = writeln!(out, "{kind} {hash:016x} {}", path.strip_prefix(base).unwrap_or(path).display());
    }
    for (name, bytes) in &model.files {
        let _ = writeln!(out, "file {:016x} {name}", xxh3_64(bytes));
    }
    for file in &model.patterns {
        let kind = if file.is_map { "map" } else { "acl" };
        let mut hash = Xxh3::new();
        for (pattern, value) in file.configured().iter() {
            for part in [pattern.as_slice(), value.as_deref().unwrap_or_default()] {
                hash.update(&part.len().to_le_bytes());
                hash.update(part);
            }
        }
        let _ = writeln!(out, "{kind} {:016x} {}", hash.digest(), file.name);
    }
    out
}

/// Which files a reload reads that were not there before, or had something else in them.
fn compare_files(old: &str, new: &str, out: &mut String) {
    fn rows(text: &str) -> BTreeMap<(&str, &str), &str> {
        text.lines().filter(|line| !line.starts_with('#')).filter_map(row).collect()
    }
    fn row(line: &str) -> Option<((&str, &str), &str)> {
        let (kind, rest) = line.split_once(' ')?;
        let (hash, name) = rest.split_once(' ')?;
        Some(((kind, name), hash))
    }
    let (old, new) = (rows(old), rows(new));
    for (file @ (kind, name), hash) in &new {
        let _ = match old.get(file) {
            None => writeln!(out, "+ {kind} {name}"),
            Some(before) if before != hash => writeln!(out, "~ {kind} {name}  is read again: it has changed"),
            Some(_) => Ok(()),
        };
    }
    for (kind, name) in old.keys().filter(|file| !new.contains_key(file)) {
        let _ = writeln!(out, "- {kind} {name}");
    }
}

/// What a reload would touch.
fn effects(old: &Model, new: &Model, out: &mut String) {
    let origins = model::origins(old, new);
    for (id, origin) in origins.listeners.iter() {
        if origin.is_none() {
            let _ = writeln!(out, "opens {}", configured(&new.binds[id].address));
        }
    }
    for (id, bind) in old.binds.iter() {
        if !origins.listeners.values().any(|origin| *origin == Some(id)) {
            let _ = writeln!(out, "closes {}", configured(&bind.address));
        }
    }
    for (id, origin) in origins.servers.iter() {
        let Some(origin) = origin else { continue };
        let (before, server) = (&old.servers[*origin], &new.servers[id]);
        let backend = &new.backends[server.backend];
        let why = pool_changes(before, server).join(", ");
        if backend.mode == Mode::Http && !why.is_empty() {
            let _ = writeln!(
                out,
                "idle connections of {}/{} are of no more use: {why}",
                backend.name, server.name
            );
        }
    }
    let mut count = |what: &str, kept: usize, before: usize, after: usize| {
        if (kept, kept) != (before, after) {
            let _ = writeln!(out, "{what}: {} added, {} removed, {kept} kept", after - kept, before - kept);
        }
    };
    count("frontends", kept(&origins.frontends), old.frontends.len(), new.frontends.len());
    count("backends", kept(&origins.backends), old.backends.len(), new.backends.len());
    count("servers", kept(&origins.servers), old.servers.len(), new.servers.len());
}

/// Why connections to the server before are not those to the server now: what `proxy::idle` tells pools apart by.
fn pool_changes(before: &Server, now: &Server) -> Vec<&'static str> {
    let differs = [
        ("address", before.address != now.address),
        ("send-proxy", before.send_proxy != now.send_proxy),
        ("source", before.source != now.source),
        ("tcp-ut", before.tcp_user_timeout != now.tcp_user_timeout),
        ("proto", before.http.proto != now.http.proto),
        ("tls", before.tls != now.tls),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
}

/// Overrides that hold no longer, since the file says something else than what they replaced.
fn dropped_overrides(drift: &str, next: &Model, out: &mut String) {
    let lookup = Lookup::new(next);
    for line in drift.lines() {
        let Some((name, rest)) = line.split_once(": ") else { continue };
        let Some((from, to)) = rest.split_once(" -> ") else { continue };
        let Some(key) = override_key(name) else { continue };
        let _ = match lookup.configured(&key) {
            Configured::NoObject => writeln!(out, "drops override {line}: it is gone"),
            Configured::Value(value) => match shown(value.as_deref()) {
                now if now == from => Ok(()),
                now if to.starts_with(&format!("{now} by ")) => {
                    writeln!(out, "adopts override {line}")
                }
                now => writeln!(out, "drops override {line}: the file says {now}"),
            },
        };
    }
}

/// What an override concerns, as `show drift` names it.
fn override_key(name: &str) -> Option<Key> {
    let (first, rest) = name.split_once(' ')?;
    let of_file = |make: fn(String, String) -> Key| {
        rest.split_once(' ').map(|(file, key)| make(file.to_owned(), key.to_owned()))
    };
    match first {
        "map" => of_file(Key::Map),
        "acl" => of_file(Key::Acl),
        "frontend" => rest.strip_suffix(" maxconn").map(|name| Key::FrontendMaxconn(name.to_owned())),
        "global" => match rest {
            "maxconn" => Some(Key::GlobalMaxconn),
            "maxconnrate" => Some(Key::GlobalRate),
            "maxsslrate" => Some(Key::GlobalTlsRate),
            _ => None,
        },
        _ => {
            let (backend, server) = first.split_once('/')?;
            let field = Field::ALL.into_iter().find(|field| field.word() == rest)?;
            Some(Key::Server(backend.to_owned(), server.to_owned(), field))
        }
    }
}

/// Who lives by what runs now, as `show generations` says it.
fn sessions(generations: &str, out: &mut String) {
    let mut rows = generations.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let current = rows.rfind(|fields| fields.get(1) == Some(&"current"));
    if let Some([number, _, _, count, ..]) = current.as_deref()
        && *count != "0"
    {
        let _ = writeln!(
            out,
            "sessions: {count} go on with generation {number} until they end, kept HTTP connections until their next request"
        );
    }
}

fn kept<I: Id>(origins: &IdVec<I, Option<I>>) -> usize {
    origins.values().flatten().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_came_went_or_changed_are_told() {
        let mut out = String::new();
        let old = "# kind hash name\ncertificate 01 /a b.pem\nmap 02 hosts\nacl 03 gone\n";
        let new = "# kind hash name\ncertificate 07 /a b.pem\nmap 02 hosts\nacl 02 hosts\n";
        compare_files(old, new, &mut out);
        assert_eq!(out, "+ acl hosts\n~ certificate /a b.pem  is read again: it has changed\n- acl gone\n");
        out.clear();
        compare_files(new, new, &mut out);
        assert_eq!(out, "");
    }

    #[test]
    fn every_override_is_found_by_its_name() {
        let server = |field| Key::Server("be".to_owned(), "s 1".replace(' ', "-"), field);
        let file = |make: fn(String, String) -> Key| make("hosts".to_owned(), "a key".to_owned());
        let keys = [
            server(Field::Addr),
            server(Field::State),
            Key::FrontendMaxconn("fe".to_owned()),
            Key::GlobalMaxconn,
            Key::GlobalRate,
            Key::GlobalTlsRate,
            file(Key::Map),
            file(Key::Acl),
        ];
        for key in keys {
            assert_eq!(override_key(&key.to_string()), Some(key));
        }
        assert_eq!(override_key("something"), None);
    }

    #[test]
    fn sessions_of_the_current_generation_are_counted() {
        let mut out = String::new();
        sessions(
            "# generation state age_s sessions who\n1 old 9 7 start\n2 current 3 12 SIGHUP\n- refused 1 0 x: y\n",
            &mut out,
        );
        assert!(out.starts_with("sessions: 12 go on with generation 2 "), "{out}");
        out.clear();
        sessions("# generation state age_s sessions who\n1 current 3 0 start\n", &mut out);
        assert_eq!(out, "");
    }
}

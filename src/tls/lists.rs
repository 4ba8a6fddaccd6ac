//! Lists of certificates at run time, which are lines of binds: `show ssl crt-list`, and the settings that lines have. A list is
//! named by its directory, by the crt-list that it came from, or by its bind. Called by `desk`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::desk::{Done, Settings};
use super::listing::Line;
use super::store::Store;
use crate::base::id::ListenerId;
use crate::model::Model;
use crate::model::tls::{BindTls, ClientAuth, Handshake, Listed, TlsVersion};

/// A bind as commands name it.
pub(super) fn bind_name(id: ListenerId, model: &Model) -> String {
    let bind = &model.binds[id];
    format!("{}/{}", model.frontends[bind.frontend].name, bind.name)
}

/// The list that an entry of the configuration is in, beside that of its bind: the crt-list that it comes from, or its directory.
fn list_name(listed: &Listed) -> Option<&Path> {
    listed.list.as_deref().or_else(|| Some(listed.path.as_path()).filter(|path| path.is_dir()))
}

/// The names of all lists: directories, crt-lists, and each bind's own list.
fn lists(model: &Model) -> BTreeSet<String> {
    let mut lists = BTreeSet::new();
    for (id, bind) in model.binds.iter() {
        let Some(tls) = &bind.tls else { continue };
        lists.insert(bind_name(id, model));
        let names = tls.certificates.iter().filter_map(list_name);
        lists.extend(names.map(|path| path.display().to_string()));
    }
    lists
}

/// The binds of a list: a directory, or a crt-list, may be that of several.
pub(super) fn binds_of(list: &str, model: &Model, store: &Store) -> Result<Vec<ListenerId>, String> {
    let path = Path::new(list.trim_end_matches('/'));
    let is_of = |id: &ListenerId| {
        let Some(tls) = &model.binds[*id].tls else { return false };
        bind_name(*id, model) == list || tls.certificates.iter().any(|listed| list_name(listed) == Some(path))
    };
    let binds: Vec<ListenerId> = store.lines.ids().filter(is_of).collect();
    if binds.is_empty() {
        return Err(format!("Can't find the crt-list '{list}' (see show ssl crt-list)."));
    }
    Ok(binds)
}

/// The lists, or the lines of one.
pub(super) fn show(name: Option<&str>, numbered: bool, model: &Model, store: &Store) -> Result<Done, String> {
    let Some(name) = name else {
        let mut out = String::new();
        lists(model).iter().for_each(|list| {
            let _ = writeln!(out, "{list}");
        });
        return Ok(Done { text: out, store: None });
    };
    let mut out = format!("# {name}\n");
    // All binds of a directory have the same lines of it.
    let first = binds_of(name, model, store)?.first().copied();
    let lines = first.and_then(|id| store.lines[id].as_ref());
    let is_bind = first.is_some_and(|id| bind_name(id, model) == name);
    for (at, line) in lines.into_iter().flatten().enumerate() {
        if !is_bind && line.list != Path::new(name.trim_end_matches('/')) && line.list != Path::new(name) {
            continue;
        }
        let _ = write!(out, "{}", store.entries[line.certificate as usize].path.display());
        if numbered {
            let _ = write!(out, ":{}", at + 1);
        }
        if let Some(tls) = first.and_then(|id| model.binds[id].tls.as_deref())
            && let Some(own) = first.and_then(|id| settings_of(tls, &store.added[id], line.settings))
        {
            let words = words_of(own, &tls.handshake);
            if !words.is_empty() {
                let _ = write!(out, " [{words}]");
            }
        }
        line.names.iter().for_each(|name| {
            let _ = write!(out, " {name}");
        });
        out.push('\n');
    }
    Ok(Done { text: out, store: None })
}

/// The number of the settings that an operator gives to a line; they are kept once however many lines have them.
pub(super) fn add_settings(
    settings: Option<Settings<'_>>,
    id: ListenerId,
    model: &Model,
    store: &mut Store,
) -> Result<u16, String> {
    let (Some(settings), Some(tls)) = (settings, model.binds[id].tls.as_deref()) else { return Ok(0) };
    let mut handshake = settings(tls)?;
    store.trust.include(&mut handshake)?;
    let all: Vec<&Handshake> = tls.handshakes().chain(&store.added[id]).collect();
    let (known, count) = (all.iter().position(|known| **known == handshake), all.len());
    if known.is_none() {
        store.added[id].push(handshake);
    }
    let number = known.unwrap_or(count);
    u16::try_from(number).map_err(|_| "This bind has too many different settings.".to_owned())
}

/// Forgets settings that no line has any more. Numbers stay what they are, so only from the end.
pub(super) fn drop_settings(model: &Model, store: &mut Store) {
    for (id, lines) in store.lines.iter() {
        let Some(tls) = model.binds[id].tls.as_deref() else { continue };
        let configured = tls.handshakes().count();
        let highest = lines.iter().flatten().map(|line: &Line| usize::from(line.settings)).max();
        store.added[id].truncate((highest.unwrap_or_default() + 1).saturating_sub(configured));
    }
}

/// The settings of a number; `None`: those of the bind.
fn settings_of<'a>(tls: &'a BindTls, added: &'a [Handshake], number: u16) -> Option<&'a Handshake> {
    tls.handshakes().chain(added).nth(usize::from(number)).filter(|_| number > 0)
}

/// In which way settings are not those of the bind, in HAProxy's words.
fn words_of(own: &Handshake, bind: &Handshake) -> String {
    let mut words = Vec::new();
    let (ours, theirs) = (&own.parameters, &bind.parameters);
    let join = |names: &[String], by: &str| names.join(by);
    let version = |version| if version == TlsVersion::V12 { "TLSv1.2" } else { "TLSv1.3" };
    if ours.alpn != theirs.alpn {
        let names: Vec<_> = ours.alpn.iter().map(|name| String::from_utf8_lossy(name)).collect();
        words.push(if names.is_empty() { "no-alpn".to_owned() } else { format!("alpn {}", names.join(",")) });
    }
    if own.verify != bind.verify {
        let verify = match own.verify {
            ClientAuth::None => "none",
            ClientAuth::Optional => "optional",
            ClientAuth::Required => "required",
        };
        words.push(format!("verify {verify}"));
    }
    for (name, ours, theirs) in [
        ("ca-file", &own.ca_files, &bind.ca_files),
        ("ca-verify-file", &own.ca_verify_files, &bind.ca_verify_files),
        ("crl-file", &own.crl_files, &bind.crl_files),
    ] {
        if ours != theirs {
            words.extend(ours.iter().map(|path| format!("{name} {}", path.display())));
        }
    }
    if ours.suites != theirs.suites {
        let is_tls13 = |name: &&String| name.starts_with("TLS_");
        let (new, old): (Vec<&String>, Vec<&String>) = ours.suites.iter().partition(is_tls13);
        for (name, suites) in [("ciphers", old), ("ciphersuites", new)] {
            let suites: Vec<String> = suites.into_iter().cloned().collect();
            if !suites.is_empty() {
                words.push(format!("{name} {}", join(&suites, ":")));
            }
        }
    }
    if ours.curves != theirs.curves {
        words.push(format!("curves {}", join(&ours.curves, ":")));
    }
    if ours.min_version != theirs.min_version {
        words.push(format!("ssl-min-ver {}", version(ours.min_version)));
    }
    if ours.max_version != theirs.max_version {
        words.push(format!("ssl-max-ver {}", version(ours.max_version)));
    }
    words.join(" ")
}

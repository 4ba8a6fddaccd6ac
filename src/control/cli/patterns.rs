//! Maps and ACL files at run time: `show`, `get`, `add`, `set`, `del`, `clear`, `prepare`, `commit`. A change is complete for a
//! core or not there: cores see the set before or the set after. What a file holds on disk is not touched.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::base::limits::PATTERN_ENTRIES_MAX;
use crate::control::cli::parse;
use crate::control::cli::session::{Answer, Call, Reply, done};
use crate::policy::pattern::{Line, PatternError, PatternFile};
use crate::policy::sample::Value;

macro_rules! both {
    ($($map:ident $acl:ident $run:ident;)*) => {$(
        pub(super) fn $map(call: &mut Call<'_>) -> Answer {
            watched(call, true, |call| $run(call, true))
        }
        pub(super) fn $acl(call: &mut Call<'_>) -> Answer {
            watched(call, false, |call| $run(call, false))
        }
    )*};
}

both! {
    show_map show_acl show;
    get_map get_acl get;
    add_map add_acl add;
    del_map del_acl del;
    clear_map clear_acl clear;
    prepare_map prepare_acl prepare;
    commit_map commit_acl commit;
}

/// Runs a command, and tells which lines it changed.
fn watched(call: &mut Call<'_>, is_map: bool, run: impl FnOnce(&mut Call<'_>) -> Answer) -> Answer {
    let file = named(call, is_map).ok().map(|(_, file, _)| (file.lines(), file));
    let answer = run(call);
    if let Some((before, file)) = file
        && !Arc::ptr_eq(&before, &file.lines())
    {
        call.target.patterns_changed(&file, &before);
    }
    answer
}

fn noun(is_map: bool) -> &'static str {
    if is_map { "map" } else { "ACL" }
}

/// The version (`@N`) and the file that the first arguments name, and where the rest begins.
fn named(call: &Call<'_>, is_map: bool) -> Result<(Option<u32>, Arc<PatternFile>, usize), String> {
    let version = match call.arg(0).strip_prefix('@') {
        Some(digits) => Some(parse::number(digits).ok_or_else(|| "Version must be a number.".to_owned())?),
        None => None,
    };
    let at = usize::from(version.is_some());
    let name = call.arg(at);
    if name.is_empty() {
        return Err(format!("Missing {} identifier.", noun(is_map)));
    }
    let files = &call.target.model().patterns;
    let found = match name.strip_prefix('#') {
        Some(id) => {
            parse::number::<usize>(id).and_then(|id| files.get(id)).filter(|file| file.is_map == is_map)
        }
        None => files.iter().find(|file| file.name == name && file.is_map == is_map),
    };
    let unknown = || format!("Unknown {} identifier. Please use #<id> or <file>.", noun(is_map));
    Ok((version, found.cloned().ok_or_else(unknown)?, at + 1))
}

/// Names a line: the same text has the same reference wherever it stands.
fn reference((pattern, value): &Line) -> u64 {
    let bytes = pattern.iter().chain(b"\0").chain(value.as_deref().unwrap_or_default());
    // FNV-1a: spread well enough for a name, and the same in each process.
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Whether a line is what `key` says: its pattern, or its reference as `#0x...`.
fn is_meant(line: &Line, key: &str) -> bool {
    match key.strip_prefix("#0x").map(|hex| u64::from_str_radix(hex, 16)) {
        Some(Ok(wanted)) => reference(line) == wanted,
        _ => line.0 == key.as_bytes(),
    }
}

fn show(call: &Call<'_>, is_map: bool) -> Answer {
    if call.arg(0).is_empty() {
        return Ok(Reply::Text(list(call, is_map)));
    }
    let (version, file, _) = named(call, is_map)?;
    let lines = match version.filter(|version| *version != file.versions().0) {
        None => file.lines(),
        Some(version) => Arc::new(file.prepared(version).ok_or_else(unknown_version)?),
    };
    let mut out = String::new();
    for line in lines.iter() {
        let _ = write!(out, "{:#x} {}", reference(line), printable(&line.0));
        if let Some(value) = &line.1 {
            let _ = write!(out, " {}", printable(value));
        }
        out.push('\n');
    }
    Ok(Reply::Text(out))
}

fn list(call: &Call<'_>, is_map: bool) -> String {
    let mut out = "# id (file) description\n".to_owned();
    for (id, file) in
        call.target.model().patterns.iter().enumerate().filter(|(_, file)| file.is_map == is_map)
    {
        let (current, next) = file.versions();
        let name = &file.name;
        let _ = writeln!(
            out,
            "{id} ({name}) pattern loaded from file '{name}' curr_ver={current} next_ver={next} entry_cnt={}",
            file.lines().len()
        );
    }
    out
}

/// One line of text, whatever the bytes are.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn unknown_version() -> String {
    "Unknown version; begin one with 'prepare'.".to_owned()
}

fn refused(error: &PatternError) -> String {
    format!("Entry {} is refused: {}.", error.entry + 1, error.message)
}

fn get(call: &Call<'_>, is_map: bool) -> Answer {
    let (_, file, at) = named(call, is_map)?;
    let text = call.arg(at);
    if text.is_empty() {
        return Err("Missing value to look up.".to_owned());
    }
    let lines = file.lines();
    let value = Value::Str(text.as_bytes());
    let mut out = String::new();
    for ((method, ignore_case), set) in file.uses().into_iter().zip(file.users()) {
        let case = if ignore_case { "insensitive" } else { "sensitive" };
        let _ = write!(out, "type={method}, case={case}, ");
        let found = set.with(|set| set.find(&value, &mut Vec::new()));
        match found.and_then(|entry| lines.get(entry)) {
            None => out.push_str("match=no"),
            Some((pattern, value)) => {
                let _ = write!(out, "match=yes, key=\"{}\"", printable(pattern));
                if let Some(value) = value {
                    let _ = write!(out, ", value=\"{}\", type=\"str\"", printable(value));
                }
            }
        }
        out.push('\n');
    }
    Ok(Reply::Text(out))
}

/// Changes the lines in use, or those of a version that is being prepared.
fn change<R>(
    file: &PatternFile,
    version: Option<u32>,
    change: impl FnOnce(&mut Vec<Line>) -> Result<R, String>,
) -> Result<R, String> {
    let bounded = |lines: &mut Vec<Line>| {
        let before = lines.len();
        let result = change(lines)?;
        if lines.len() > PATTERN_ENTRIES_MAX && lines.len() > before {
            lines.truncate(before);
            return Err(format!("A file has at most {PATTERN_ENTRIES_MAX} entries."));
        }
        Ok(result)
    };
    match version.filter(|version| *version != file.versions().0) {
        Some(version) => file.change_prepared(version, bounded).ok_or_else(unknown_version)?,
        None => {
            let mut lines = Vec::clone(&file.lines());
            let result = bounded(&mut lines)?;
            file.replace(lines).map_err(|e| refused(&e))?;
            Ok(result)
        }
    }
}

/// `add map FILE KEY VALUE`, `add acl FILE PATTERN`, or one of them a line in the payload.
fn add(call: &Call<'_>, is_map: bool) -> Answer {
    let (version, file, at) = named(call, is_map)?;
    let mut new: Vec<Line> = Vec::new();
    match call.payload {
        Some(text) => {
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                let line = line.trim_start();
                let (key, value) = match is_map {
                    true => line.split_once([' ', '\t']).ok_or("Each line needs a key and a value.")?,
                    false => (line, ""),
                };
                new.push(entry(key, value.trim(), is_map));
            }
        }
        None if call.arg(at).is_empty() && is_map => return Err("Missing key and value.".to_owned()),
        None if call.arg(at).is_empty() => return Err("Missing pattern.".to_owned()),
        None => {
            let value = call.args.get(at + 1..).unwrap_or_default().join(" ");
            if is_map && value.is_empty() {
                return Err("Missing value.".to_owned());
            }
            new.push(entry(call.arg(at), &value, is_map));
        }
    }
    change(&file, version, |lines| {
        lines.append(&mut new);
        Ok(())
    })?;
    done()
}

fn entry(key: &str, value: &str, is_map: bool) -> Line {
    (key.as_bytes().to_vec(), is_map.then(|| value.as_bytes().to_vec()))
}

/// `set map FILE KEY VALUE`.
pub(super) fn set_map(call: &mut Call<'_>) -> Answer {
    watched(call, true, set)
}

fn set(call: &mut Call<'_>) -> Answer {
    let (version, file, at) = named(call, true)?;
    let key = call.arg(at).to_owned();
    let value = call.args.get(at + 1..).unwrap_or_default().join(" ");
    if key.is_empty() || value.is_empty() {
        return Err("'set map' expects three parameters: map identifier, key and value.".to_owned());
    }
    let before = change(&file, version, |lines| {
        let mut before = None;
        for line in lines.iter_mut().filter(|line| is_meant(line, &key)) {
            let old = line.1.replace(value.as_bytes().to_vec());
            before.get_or_insert(old.unwrap_or_default());
        }
        before.ok_or_else(|| "entry not found.".to_owned())
    })?;
    call.changed(printable(&before), value);
    done()
}

fn del(call: &Call<'_>, is_map: bool) -> Answer {
    let (version, file, at) = named(call, is_map)?;
    // A pattern of an ACL may hold spaces.
    let key = call.args.get(at..).unwrap_or_default().join(" ");
    if key.is_empty() {
        return Err("This command expects two parameters: identifier and key.".to_owned());
    }
    change(&file, version, |lines| {
        let before = lines.len();
        lines.retain(|line| !is_meant(line, &key));
        if lines.len() == before { Err("Key not found.".to_owned()) } else { Ok(()) }
    })?;
    done()
}

fn clear(call: &mut Call<'_>, is_map: bool) -> Answer {
    let (version, file, _) = named(call, is_map)?;
    let entries = change(&file, version, |lines| Ok(std::mem::take(lines).len()))?;
    call.changed(format!("{entries} entries"), "none");
    done()
}

fn prepare(call: &Call<'_>, is_map: bool) -> Answer {
    let (_, file, _) = named(call, is_map)?;
    Ok(Reply::Text(format!("New version created: {}", file.prepare())))
}

fn commit(call: &mut Call<'_>, is_map: bool) -> Answer {
    let (version, file, _) = named(call, is_map)?;
    let version = version.ok_or_else(|| "This command expects a version, as @<version>.".to_owned())?;
    let before = file.versions().0;
    match file.commit(version) {
        Ok(true) => {
            call.changed(format!("version {before}"), format!("version {version}"));
            done()
        }
        Ok(false) => Err(unknown_version()),
        Err(error) => Err(refused(&error)),
    }
}

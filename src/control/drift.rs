//! What runs otherwise than the configuration says: notes runtime changes as overrides, puts them back in place at a start or a
//! reload where the configuration still says what they replaced, and drops the others with a word in the log. The decisions are
//! `state::overrides`'; this is where values are read and set.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ahash::{AHashMap, AHashSet};

use crate::base::id::{BackendId, FrontendId, ServerId};
use crate::control::aims;
use crate::control::core::Control;
use crate::control::events::Level;
use crate::control::listeners;
use crate::control::resolve;
use crate::control::state::journal::Record;
use crate::control::state::overrides::{Change, Configured, Field, Key, Override, shown};
use crate::live::{AdminState, BindState, FrontendState};
use crate::model::{Model, ServerAddress};
use crate::policy::pattern::{Line, PatternFile};
use crate::proxy::message::ToCore;

/// How many entries of one map are told of one by one.
const TOLD_MAX: usize = 10;

/// Who changes something, and for how long.
#[derive(Clone, Default, Debug)]
pub(super) struct Actor {
    pub(super) who: String,
    /// The change ends by itself after this.
    pub(super) lifetime: Option<Duration>,
}

/// UNIX time in seconds.
pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A time for people.
pub(super) fn date(unix_s: u64) -> String {
    let time = i64::try_from(unix_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    time.map_or_else(|| unix_s.to_string(), |time| time.to_string())
}

/// The address of a server as the configuration says it.
pub(super) fn configured_address(address: &ServerAddress) -> String {
    match address {
        ServerAddress::Ip(address) => address.to_string(),
        ServerAddress::Name { host, port } => format!("{host}:{port}"),
        ServerAddress::Unix(path) => format!("unix@{}", path.display()),
        ServerAddress::Abstract(name) => format!("abns@{name}"),
    }
}

/// The keys of entries that came, went or moved: what lies between the common beginning and the common end.
fn touched<'a>(before: &'a [Line], after: &'a [Line]) -> AHashSet<&'a [u8]> {
    let start = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let (before, after) = (&before[start..], &after[start..]);
    let end = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
    let middle = before[..before.len() - end].iter().chain(&after[..after.len() - end]);
    middle.map(|(key, _)| key.as_slice()).collect()
}

/// The values of these keys: those of several entries one a line; a pattern of an ACL has an empty one.
fn values(lines: &[Line], is_wanted: impl Fn(&[u8]) -> bool) -> AHashMap<&[u8], String> {
    let mut out: AHashMap<&[u8], String> = AHashMap::new();
    for (key, value) in lines.iter().filter(|(key, _)| is_wanted(key)) {
        let value = String::from_utf8_lossy(value.as_deref().unwrap_or_default());
        out.entry(key)
            .and_modify(|all| *all = format!("{all}\n{value}"))
            .or_insert_with(|| value.into_owned());
    }
    out
}

/// What a model says of values, by names.
pub(super) struct Lookup<'a> {
    model: &'a Model,
    backends: AHashMap<&'a str, BackendId>,
    files: RefCell<Files>,
}

/// The configured entries of files, by whether they are maps and by name; `None`: there is no such file.
type Files = AHashMap<(bool, String), Option<Rc<Entries>>>;

/// The configured entries of a file.
type Entries = AHashMap<Vec<u8>, String>;

impl<'a> Lookup<'a> {
    pub(super) fn new(model: &'a Model) -> Lookup<'a> {
        let backends = model.backends.iter().map(|(id, backend)| (backend.name.as_str(), id)).collect();
        Lookup { model, backends, files: RefCell::default() }
    }

    pub(super) fn server(&self, backend: &str, server: &str) -> Option<ServerId> {
        let backend = &self.model.backends[*self.backends.get(backend)?];
        backend.servers.iter().find(|id| self.model.servers[*id].name == server)
    }

    fn frontend(&self, name: &str) -> Option<FrontendId> {
        self.model.frontends.iter().find(|(_, frontend)| frontend.name == name).map(|(id, _)| id)
    }

    fn file(&self, name: &str, is_map: bool) -> Option<&'a Arc<PatternFile>> {
        self.model.patterns.iter().find(|file| file.name == name && file.is_map == is_map)
    }

    fn entry(&self, file: &str, is_map: bool, key: &str) -> Configured {
        let mut files = self.files.borrow_mut();
        let entries = files.entry((is_map, file.to_owned())).or_insert_with(|| {
            let lines = self.file(file, is_map)?.configured();
            Some(Rc::new(
                values(&lines, |_| true).into_iter().map(|(key, value)| (key.to_vec(), value)).collect(),
            ))
        });
        match entries {
            Some(entries) => Configured::Value(entries.get(key.as_bytes()).cloned()),
            None => Configured::NoObject,
        }
    }

    /// What the configuration says of a value.
    pub(super) fn configured(&self, key: &Key) -> Configured {
        let limit = |limit: Option<u32>| Configured::Value(Some(limit.unwrap_or(0).to_string()));
        match key {
            Key::Server(backend, server, field) => match self.server(backend, server) {
                None => Configured::NoObject,
                Some(id) => {
                    let server = &self.model.servers[id];
                    Configured::Value(Some(match field {
                        Field::Addr => configured_address(&server.address),
                        Field::Maxconn => server.maxconn.unwrap_or(0).to_string(),
                        Field::State => if server.disabled { "maint" } else { "ready" }.to_owned(),
                        Field::Weight => server.weight.to_string(),
                        more => match aims::configured(server, *more) {
                            Some(value) => value,
                            None => return Configured::NoObject,
                        },
                    }))
                }
            },
            Key::FrontendMaxconn(name) => match self.frontend(name) {
                Some(id) => limit(self.model.frontends[id].maxconn),
                None => Configured::NoObject,
            },
            Key::FrontendState(name) => match self.frontend(name) {
                Some(_) => Configured::Value(Some(aims::ENABLED.to_owned())),
                None => Configured::NoObject,
            },
            Key::VipState(name) => match self.model.vips.iter().any(|vip| vip.name == *name) {
                true => Configured::Value(Some("ready".to_owned())),
                false => Configured::NoObject,
            },
            Key::GlobalMaxconn => limit(self.model.global.maxconn),
            Key::GlobalRate => limit(self.model.global.rate_max),
            Key::GlobalTlsRate => limit(self.model.global.tls_rate_max),
            Key::Map(file, key) => self.entry(file, true, key),
            Key::Acl(file, key) => self.entry(file, false, key),
        }
    }
}

impl Control {
    /// What the configuration that runs says of values.
    pub(super) fn lookup(&self) -> Lookup<'_> {
        Lookup::new(&self.model)
    }

    /// The name of a value of a server.
    pub(super) fn key(&self, id: ServerId, field: Field) -> Key {
        let server = &self.model.servers[id];
        Key::Server(self.model.backends[server.backend].name.clone(), server.name.clone(), field)
    }

    /// Notes that somebody gave a value; it is in effect.
    pub(super) fn note_change(&self, key: Key, to: Option<String>, actor: &Actor) {
        let lookup = self.lookup();
        if let Configured::Value(from) = lookup.configured(&key) {
            self.note_override(key, from, to, actor);
        }
    }

    fn note_override(&self, key: Key, from: Option<String>, to: Option<String>, actor: &Actor) {
        let at = unix_now();
        let until = actor.lifetime.map(|lifetime| at + lifetime.as_secs().max(1));
        let change = Override { key, from, to, who: actor.who.clone(), at, until };
        let name = change.key.to_string();
        let noted = self.overrides.borrow_mut().note(change);
        match noted {
            Change::Set(one) => self.remember(vec![Record::Set(one)]),
            Change::Gone(key) => self.remember(vec![Record::Gone(key)]),
            Change::Nothing => {}
            Change::Full => {
                let text = format!(
                    "there are too many runtime changes to remember {name}: a reload or restart forgets it"
                );
                self.say(Level::Warning, text);
            }
        }
    }

    /// Notes what changed in a file of patterns: `before` are its lines before.
    pub(super) fn note_patterns(&self, file: &PatternFile, before: &[Line], actor: &Actor) {
        let (now, configured) = (file.lines(), file.configured());
        let keys = touched(before, &now);
        let chosen = |key: &[u8]| keys.contains(key);
        let (before, after) = (values(before, chosen), values(&now, chosen));
        let configured = values(&configured, chosen);
        for key in keys.iter().filter(|key| before.get(*key) != after.get(*key)) {
            // What was typed is text. A key that is not can come from a file alone, and goes with all others.
            let Ok(text) = std::str::from_utf8(key) else { continue };
            let (name, text) = (file.name.clone(), text.to_owned());
            let named = if file.is_map { Key::Map(name, text) } else { Key::Acl(name, text) };
            self.note_override(named, configured.get(key).cloned(), after.get(key).cloned(), actor);
        }
    }

    /// `enable frontend`, `disable frontend`. False: it was so, or was shut down.
    pub(super) fn set_frontend_enabled(&self, id: FrontendId, enabled: bool) -> bool {
        let live = &self.live.frontends[id];
        let wanted = if enabled { FrontendState::Open } else { FrontendState::Paused };
        if live.state() == FrontendState::Shut || live.set_state(wanted) == wanted {
            return false;
        }
        let name = &self.model.frontends[id].name;
        let word = if enabled { aims::ENABLED } else { aims::DISABLED };
        self.say(Level::Notice, format!("frontend {name} was {word} from the admin socket"));
        self.broadcast(|| ToCore::Room);
        true
    }

    /// `shutdown frontend`: its listeners close as soon as they have served whom the kernel accepted, and only a reload opens
    /// others. Its sessions go on.
    pub(super) fn shut_frontend(&self, id: FrontendId) {
        self.live.frontends[id].set_state(FrontendState::Shut);
        for bind in self.model.binds.ids().filter(|bind| self.model.binds[*bind].frontend == id) {
            self.live.binds[bind].set_state(BindState::Closed);
            listeners::remove_file(&self.model, bind);
        }
        self.waiting.borrow_mut().retain(|(bind, _)| self.model.binds[*bind].frontend != id);
        self.say(
            Level::Warning,
            format!("frontend {} was shut down from the admin socket", self.model.frontends[id].name),
        );
        self.broadcast(|| ToCore::Room);
    }

    /// Whether the configured address of a server is overridden: then its name says nothing.
    pub(super) fn has_own_address(&self, id: ServerId) -> bool {
        let overrides = self.overrides.borrow();
        overrides.len() > 0 && overrides.get(&self.key(id, Field::Addr)).is_some()
    }

    /// Writes to the state file, if there is one.
    pub(super) fn remember(&self, records: Vec<Record>) {
        if let Some(file) = &*self.state_file.borrow() {
            file.append(records);
        }
    }

    /// After a start or a switch: overrides hold where the configuration still says what they replaced; the others are dropped.
    /// `origin`: where they come from, for the log; empty: they hold already.
    pub(super) fn reapply(&self, origin: &str) {
        let mut told = AHashMap::new();
        let hold = self.drop_stale(&mut told);
        let lookup = self.lookup();
        for one in &hold {
            if !origin.is_empty() {
                let Override { key, from, to, who, at, .. } = one;
                let (from, to) = (shown(from.as_deref()), shown(to.as_deref()));
                let text = format!(
                    "override of {key} holds ({origin}): {to} instead of {from}, by {who} at {}",
                    date(*at)
                );
                self.tell_entry(key, text, &mut told);
            }
            self.put(&lookup, &one.key, one.to.as_deref());
        }
        self.put_patterns(&lookup);
        for (file, more) in told.into_iter().filter(|(_, count)| *count > TOLD_MAX) {
            self.say(Level::Notice, format!("{file}: {} more overrides", more - TOLD_MAX));
        }
    }

    /// Drops the overrides that are not of this configuration; returns those that are. `told`: see [`Control::tell_entry`].
    pub(super) fn drop_stale(&self, told: &mut AHashMap<String, usize>) -> Vec<Override> {
        let lookup = self.lookup();
        let (hold, stale) = {
            let overrides = self.overrides.borrow();
            let (hold, stale) = overrides.judge(|key| lookup.configured(key));
            let hold: Vec<Override> = hold.into_iter().cloned().collect();
            (hold, stale.into_iter().map(|(one, says)| (one.clone(), says)).collect::<Vec<_>>())
        };
        *self.dropped.borrow_mut() = stale.iter().map(|(one, _)| one.clone()).collect();
        for (one, says) in stale {
            self.overrides.borrow_mut().remove(&one.key);
            self.remember(vec![Record::Gone(one.key.clone())]);
            let Override { key, from, to, who, .. } = one;
            let text = match says {
                Configured::Value(value) if value == to => {
                    format!(
                        "override of {key} adopted: the configuration says {} now",
                        shown(value.as_deref())
                    )
                }
                says => {
                    let now = match says {
                        Configured::NoObject => "has no such object any more".to_owned(),
                        Configured::Value(value) => format!("says {} now", shown(value.as_deref())),
                    };
                    let (to, from) = (shown(to.as_deref()), shown(from.as_deref()));
                    format!(
                        "override of {key} dropped: {to} by {who} replaced {from}, and the configuration {now}"
                    )
                }
            };
            self.tell_entry(&key, text, told);
        }
        hold
    }

    /// Logs something about an override, but not of each entry of a large map.
    fn tell_entry(&self, key: &Key, text: String, told: &mut AHashMap<String, usize>) {
        if let Key::Map(file, _) | Key::Acl(file, _) = key {
            let count = told.entry(file.clone()).or_insert(0);
            *count += 1;
            if *count > TOLD_MAX {
                return;
            }
        }
        self.say(Level::Warning, text);
    }

    /// Sets a value that is not an entry of a file.
    fn put(&self, lookup: &Lookup<'_>, key: &Key, value: Option<&str>) {
        let value = value.unwrap_or_default();
        let number = || value.parse::<u32>().ok();
        let limit = || number().filter(|n| *n > 0);
        match key {
            Key::Server(backend, server, field) => {
                let Some(id) = lookup.server(backend, server) else { return };
                match field {
                    Field::Addr => self.put_address(id, value),
                    Field::Maxconn => self.set_server_limit(id, limit()),
                    Field::State => self.set_admin_state(
                        id,
                        match value {
                            "ready" => AdminState::Ready,
                            "drain" => AdminState::Drain,
                            _ => AdminState::Maint,
                        },
                    ),
                    Field::Weight => {
                        if let Some(weight) = number() {
                            self.set_user_weight(id, weight);
                        }
                    }
                    more => self.put_aim(id, *more, value),
                }
            }
            Key::FrontendMaxconn(name) => {
                if let Some(id) = lookup.frontend(name) {
                    self.live.frontends[id].connections.set_limit(limit());
                    self.broadcast(|| ToCore::Room);
                }
            }
            Key::FrontendState(name) => {
                if let Some(id) = lookup.frontend(name) {
                    self.set_frontend_enabled(id, value != aims::DISABLED);
                }
            }
            Key::VipState(name) => {
                self.vips.borrow_mut().entry(name.clone()).or_default().drain = value == "drain";
            }
            Key::GlobalMaxconn => {
                let budget = self.process.budget;
                let wanted = limit().unwrap_or(budget.maxconn).min(budget.hard_maxconn);
                self.live.process.connections.set_limit(Some(wanted));
                self.broadcast(|| ToCore::Room);
            }
            Key::GlobalRate => self.live.process.rate.set_limit(number().unwrap_or(0)),
            Key::GlobalTlsRate => self.live.process.tls_rate.set_limit(number().unwrap_or(0)),
            Key::Map(..) | Key::Acl(..) => {}
        }
    }

    fn put_address(&self, id: ServerId, value: &str) {
        match (value.parse(), &self.model.servers[id].address) {
            (Ok(address), _) => self.set_address(id, Some(address), "override"),
            (Err(_), ServerAddress::Name { .. }) => {
                let host = {
                    let states = self.states.borrow();
                    states.servers[id].aims.host(&self.model.servers[id]).map(|(host, _)| host.to_owned())
                };
                host.iter().for_each(|host| resolve::again(self, host));
            }
            (Err(_), _) => {
                self.live.servers[id].set_address(None);
                self.live.changed(self.model.servers[id].backend);
                self.probes_changed();
            }
        }
    }

    /// Brings each file of patterns to its configured lines with the overrides.
    fn put_patterns(&self, lookup: &Lookup<'_>) {
        let mut edits: AHashMap<(bool, String), AHashMap<Vec<u8>, Option<String>>> = AHashMap::new();
        for one in self.overrides.borrow().iter() {
            let (is_map, file, key) = match &one.key {
                Key::Map(file, key) => (true, file, key),
                Key::Acl(file, key) => (false, file, key),
                _ => continue,
            };
            let file = edits.entry((is_map, file.clone())).or_default();
            file.insert(key.clone().into_bytes(), one.to.clone());
        }
        for ((is_map, name), edits) in edits {
            let Some(file) = lookup.file(&name, is_map) else { continue };
            let lines = edited(&file.configured(), edits, is_map);
            if lines == *file.lines() {
                continue;
            }
            if let Err(e) = file.replace(lines) {
                let text =
                    format!("overrides of {name} have no effect: entry {}: {}", e.entry + 1, e.message);
                self.say(Level::Warning, text);
            }
        }
    }

    /// Ends overrides: the configured values hold again.
    pub(super) fn end_overrides(&self, keys: &[Key], why: &str) {
        let lookup = self.lookup();
        let mut told = AHashMap::new();
        let mut files: AHashSet<(bool, String)> = AHashSet::new();
        for key in keys {
            let Some(one) = self.overrides.borrow_mut().remove(key) else { continue };
            self.remember(vec![Record::Gone(key.clone())]);
            let back = shown(one.from.as_deref());
            self.tell_entry(key, format!("override of {key} ended ({why}): {back} as configured"), &mut told);
            self.put(&lookup, key, one.from.as_deref());
            match key {
                Key::Map(file, _) => drop(files.insert((true, file.clone()))),
                Key::Acl(file, _) => drop(files.insert((false, file.clone()))),
                _ => {}
            }
        }
        // Files without any override left are as they were read.
        for (is_map, name) in files {
            let left = self.overrides.borrow().iter().any(|one| {
                matches!((&one.key, is_map), (Key::Map(file, _), true) | (Key::Acl(file, _), false) if *file == name)
            });
            if let (false, Some(file)) = (left, lookup.file(&name, is_map)) {
                // They were good when they were read.
                let _ = file.replace(Vec::clone(&file.configured()));
            }
        }
        self.put_patterns(&lookup);
    }

    /// `clear overrides`: of an object, or all. Returns how many there were.
    pub(super) fn clear_overrides(&self, object: &str, who: &str) -> usize {
        let chosen = |one: &&Override| object.is_empty() || one.key.is_of(object);
        let keys: Vec<Key> =
            self.overrides.borrow().iter().filter(chosen).map(|one| one.key.clone()).collect();
        self.end_overrides(&keys, &format!("cleared by {who}"));
        keys.len()
    }

    /// Once a second: ends those whose time is over.
    pub(super) fn expire_overrides(&self) {
        let over = self.overrides.borrow().expired(unix_now());
        if !over.is_empty() {
            self.end_overrides(&over, "its time is over");
        }
    }
}

/// Lines with other values of some keys: where the first entry of the key stood, or at the end.
fn edited(lines: &[Line], mut edits: AHashMap<Vec<u8>, Option<String>>, is_map: bool) -> Vec<Line> {
    let make = |key: &[u8], values: &str| -> Vec<Line> {
        match is_map {
            true => values.split('\n').map(|value| (key.to_vec(), Some(value.as_bytes().to_vec()))).collect(),
            false => vec![(key.to_vec(), None)],
        }
    };
    let mut done: AHashMap<&[u8], ()> = AHashMap::new();
    let mut out = Vec::with_capacity(lines.len());
    for line in lines {
        match edits.get(&line.0) {
            None => out.push(line.clone()),
            Some(_) if done.contains_key(&line.0[..]) => {}
            Some(values) => {
                done.insert(&line.0, ());
                out.extend(values.iter().flat_map(|values| make(&line.0, values)));
            }
        }
    }
    edits.retain(|key, _| !done.contains_key(&key[..]));
    let mut new: Vec<(Vec<u8>, Option<String>)> = edits.into_iter().collect();
    new.sort();
    out.extend(new.iter().flat_map(|(key, values)| values.iter().flat_map(|values| make(key, values))));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_entries_that_changed_are_looked_at() {
        let line = |key: &str, value: &str| (key.as_bytes().to_vec(), Some(value.as_bytes().to_vec()));
        let before = [line("a", "1"), line("b", "2"), line("c", "3")];
        let after = [line("a", "1"), line("b", "9"), line("d", "4"), line("c", "3")];
        let mut keys: Vec<&[u8]> = touched(&before, &after).into_iter().collect();
        keys.sort_unstable();
        assert_eq!(keys, [b"b", b"d"]);
        assert!(touched(&before, &before).is_empty());
        assert_eq!(touched(&before, &[]).len(), 3);
        assert_eq!(touched(&before, &before[..2]).len(), 1);
    }

    #[test]
    fn edits_keep_the_place_of_what_was_there_and_append_what_is_new() {
        let line = |key: &str, value: &str| (key.as_bytes().to_vec(), Some(value.as_bytes().to_vec()));
        let lines = [line("a", "1"), line("b", "2"), line("a", "3"), line("c", "4")];
        let edits = [("a", Some("9")), ("b", None), ("z", Some("8\n7")), ("y", Some("6")), ("x", None)];
        let edits = edits.map(|(key, to)| (key.as_bytes().to_vec(), to.map(str::to_owned)));
        assert_eq!(
            edited(&lines, edits.into_iter().collect(), true),
            [line("a", "9"), line("c", "4"), line("y", "6"), line("z", "8"), line("z", "7")]
        );
        let acl = [(b"p".to_vec(), None)];
        let edits = [(b"q".to_vec(), Some(String::new()))];
        assert_eq!(
            edited(&acl, edits.into_iter().collect(), false),
            [(b"p".to_vec(), None), (b"q".to_vec(), None)]
        );
    }
}

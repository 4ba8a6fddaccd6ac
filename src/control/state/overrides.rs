//! Runtime changes as overrides: who changed what, when, from which configured value to which value, and for how long. An override
//! holds only as long as the configuration still says what it replaced; so no stored state can outlive a change of the file.
//! Pure: values are texts, as the operator writes them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What of a server can be changed at run time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::control) enum Field {
    /// `set server ... addr`.
    Addr,
    /// `set maxconn server`.
    Maxconn,
    /// `set server ... state`: `ready`, `drain`, `maint`.
    State,
    /// `set weight`.
    Weight,
    /// `enable health`, `disable health`.
    Health,
    /// `set server ... check-addr`.
    CheckAddr,
    /// `set server ... check-port`.
    CheckPort,
    /// `enable agent`, `disable agent`.
    Agent,
    /// `set server ... agent-addr`.
    AgentAddr,
    /// `set server ... agent-port`.
    AgentPort,
    /// `set server ... agent-send`.
    AgentSend,
    /// `set server ... fqdn`: the name, with the configured port.
    Fqdn,
}

impl Field {
    /// Those that each server has, in the order in which they are shown.
    pub(in crate::control) const ALL: [Field; 4] = [Field::Addr, Field::Weight, Field::Maxconn, Field::State];

    /// The others: shown where they were changed.
    pub(in crate::control) const MORE: [Field; 8] = [
        Field::Fqdn,
        Field::Health,
        Field::CheckAddr,
        Field::CheckPort,
        Field::Agent,
        Field::AgentAddr,
        Field::AgentPort,
        Field::AgentSend,
    ];

    /// The keyword that says it in the configuration.
    pub(in crate::control) fn keyword(self) -> &'static str {
        match self {
            Field::Addr | Field::Fqdn => "address",
            Field::Maxconn => "maxconn",
            Field::State => "disabled",
            Field::Weight => "weight",
            Field::Health => "check",
            Field::CheckAddr => "addr",
            Field::CheckPort => "port",
            Field::Agent => "agent-check",
            Field::AgentAddr => "agent-addr",
            Field::AgentPort => "agent-port",
            Field::AgentSend => "agent-send",
        }
    }

    /// As commands name it.
    pub(in crate::control) fn word(self) -> &'static str {
        match self {
            Field::Addr => "addr",
            Field::Maxconn => "maxconn",
            Field::State => "state",
            Field::Weight => "weight",
            Field::Health => "health",
            Field::CheckAddr => "check-addr",
            Field::CheckPort => "check-port",
            Field::Agent => "agent",
            Field::AgentAddr => "agent-addr",
            Field::AgentPort => "agent-port",
            Field::AgentSend => "agent-send",
            Field::Fqdn => "fqdn",
        }
    }
}

/// What an override concerns, by names: ids are another generation's tomorrow.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::control) enum Key {
    /// A server.
    Server(String, String, Field),
    /// The `maxconn` of a frontend.
    FrontendMaxconn(String),
    /// `enable frontend`, `disable frontend`.
    FrontendState(String),
    /// `set vip ... state`.
    VipState(String),
    /// The `maxconn` of the process.
    GlobalMaxconn,
    /// New connections of the process in each second.
    GlobalRate,
    /// New TLS connections of the process in each second.
    GlobalTlsRate,
    /// The entries of a map file with one key.
    Map(String, String),
    /// A pattern of an ACL file.
    Acl(String, String),
}

impl Key {
    /// Whether it belongs to what an operator names: `b/s`, `frontend NAME`, `map FILE`, `acl FILE`, `global`.
    pub(in crate::control) fn is_of(&self, object: &str) -> bool {
        let named = |word: &str, name: &str| {
            object == name
                || object.strip_prefix(word).is_some_and(|rest| rest.strip_prefix(' ') == Some(name))
        };
        match self {
            Key::Server(backend, server, _) => {
                object.split_once('/') == Some((backend, server)) || named("backend", backend)
            }
            Key::FrontendMaxconn(name) | Key::FrontendState(name) => named("frontend", name),
            Key::VipState(name) => named("vip", name),
            Key::GlobalMaxconn | Key::GlobalRate | Key::GlobalTlsRate => object == "global",
            Key::Map(file, _) => named("map", file),
            Key::Acl(file, _) => named("acl", file),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Server(backend, server, field) => write!(f, "{backend}/{server} {}", field.word()),
            Key::FrontendMaxconn(name) => write!(f, "frontend {name} maxconn"),
            Key::FrontendState(name) => write!(f, "frontend {name} state"),
            Key::VipState(name) => write!(f, "vip {name} state"),
            Key::GlobalMaxconn => f.write_str("global maxconn"),
            Key::GlobalRate => f.write_str("global maxconnrate"),
            Key::GlobalTlsRate => f.write_str("global maxsslrate"),
            Key::Map(file, key) => write!(f, "map {file} {key}"),
            Key::Acl(file, key) => write!(f, "acl {file} {key}"),
        }
    }
}

/// One runtime change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::control) struct Override {
    /// What it concerns.
    pub(in crate::control) key: Key,
    /// What the configuration said; `None`: there was no such entry.
    pub(in crate::control) from: Option<String>,
    /// What holds instead; `None`: the entry is gone.
    pub(in crate::control) to: Option<String>,
    /// Who changed it.
    pub(in crate::control) who: String,
    /// When, in seconds of UNIX time.
    pub(in crate::control) at: u64,
    /// When it ends; `None`: never by itself.
    pub(in crate::control) until: Option<u64>,
}

/// A value for people: entries that are not there, and several entries of one key.
pub(in crate::control) fn shown(value: Option<&str>) -> String {
    value.map_or_else(|| "(none)".to_owned(), |value| value.replace('\n', ", "))
}

/// What a change made of the set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::control) enum Change {
    /// This is remembered now.
    Set(Override),
    /// The value is the configured one again: nothing is remembered of it.
    Gone(Key),
    /// Nothing: it was so.
    Nothing,
    /// There are too many to remember one more.
    Full,
}

/// All overrides.
#[derive(Clone, Default, Debug)]
pub(in crate::control) struct Overrides {
    all: BTreeMap<Key, Override>,
    max: usize,
}

impl Overrides {
    /// None, and at most so many.
    pub(in crate::control) fn new(max: usize) -> Overrides {
        Overrides { all: BTreeMap::new(), max }
    }

    /// Somebody changed a value. `change.from` is what the configuration says.
    pub(in crate::control) fn note(&mut self, change: Override) -> Change {
        if change.from == change.to {
            return self.remove(&change.key).map_or(Change::Nothing, |gone| Change::Gone(gone.key));
        }
        if self.all.len() >= self.max && !self.all.contains_key(&change.key) {
            return Change::Full;
        }
        self.all.insert(change.key.clone(), change.clone());
        Change::Set(change)
    }

    /// The override of a value.
    pub(in crate::control) fn get(&self, key: &Key) -> Option<&Override> {
        self.all.get(key)
    }

    /// Forgets one.
    pub(in crate::control) fn remove(&mut self, key: &Key) -> Option<Override> {
        self.all.remove(key)
    }

    /// All, in the order of their keys.
    pub(in crate::control) fn iter(&self) -> impl Iterator<Item = &Override> {
        self.all.values()
    }

    /// How many there are.
    pub(in crate::control) fn len(&self) -> usize {
        self.all.len()
    }

    /// Those whose time is over.
    pub(in crate::control) fn expired(&self, now: u64) -> Vec<Key> {
        let over = self.all.values().filter(|o| o.until.is_some_and(|until| until <= now));
        over.map(|o| o.key.clone()).collect()
    }

    /// Splits them: those whose value the configuration still gives as it was, and those that it does not, with what it says now.
    pub(in crate::control) fn judge(
        &self,
        configured: impl Fn(&Key) -> Configured,
    ) -> (Vec<&Override>, Vec<(&Override, Configured)>) {
        let (mut hold, mut stale) = (Vec::new(), Vec::new());
        for one in self.all.values() {
            match configured(&one.key) {
                Configured::Value(value) if value == one.from => hold.push(one),
                other => stale.push((one, other)),
            }
        }
        (hold, stale)
    }
}

/// What the configuration says of a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::control) enum Configured {
    /// There is no such object.
    NoObject,
    /// This; `None`: the file has no such entry.
    Value(Option<String>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(from: &str, to: &str) -> Override {
        let key = Key::Server("app".into(), "s1".into(), Field::Weight);
        Override {
            key,
            from: Some(from.into()),
            to: Some(to.into()),
            who: "uid 0".into(),
            at: 100,
            until: None,
        }
    }

    #[test]
    fn going_back_to_the_configured_value_forgets_the_override() {
        let mut all = Overrides::new(10);
        assert!(matches!(all.note(weight("10", "50")), Change::Set(_)));
        assert!(matches!(all.note(weight("10", "60")), Change::Set(_)));
        assert_eq!(all.len(), 1);
        assert!(matches!(all.note(weight("10", "10")), Change::Gone(_)));
        assert_eq!(all.note(weight("10", "10")), Change::Nothing);
        assert_eq!(all.len(), 0);
    }

    #[test]
    fn one_holds_only_where_the_configured_value_is_the_one_it_replaced() {
        let mut all = Overrides::new(10);
        all.note(weight("10", "50"));
        let holds = |says: Configured| all.judge(|_| says.clone()).0.len() == 1;
        assert!(holds(Configured::Value(Some("10".into()))));
        assert!(!holds(Configured::Value(Some("20".into()))));
        assert!(!holds(Configured::Value(None)));
        assert!(!holds(Configured::NoObject));
    }

    #[test]
    fn they_are_bounded_and_end_in_time() {
        let mut all = Overrides::new(1);
        all.note(Override { until: Some(160), ..weight("10", "50") });
        let other = Override { key: Key::GlobalMaxconn, ..weight("1", "2") };
        assert_eq!(all.note(other), Change::Full);
        assert!(matches!(all.note(Override { until: Some(160), ..weight("10", "51") }), Change::Set(_)));
        assert_eq!((all.expired(159).len(), all.expired(160).len()), (0, 1));
    }

    #[test]
    fn objects_are_named_as_commands_name_them() {
        let server = weight("1", "2").key;
        for (object, is_of) in [
            ("app/s1", true),
            ("backend app", true),
            ("app", true),
            ("app/s2", false),
            ("global", false),
            ("", false),
        ] {
            assert_eq!(server.is_of(object), is_of, "{object}");
        }
        assert!(Key::Map("/a.map".into(), "k".into()).is_of("map /a.map"));
        assert!(Key::GlobalRate.is_of("global") && !Key::GlobalRate.is_of("globa"));
    }
}

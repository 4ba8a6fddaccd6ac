//! The one table of configuration keywords. Unknown-key detection, "did you mean", value checks and
//! docs/CONFIGURATION.md are derived from it; what a keyword does is `resolve`.
//!
//! To add one: add a row to `keywords/table.rs`, read it in `resolve`, run `UPDATE_GOLDEN=1 cargo test config`.

use std::sync::LazyLock;
use std::time::Duration;

use ahash::AHashMap;

macro_rules! keywords {
    ($(#[$doc:meta])* $table:ident, mode $mode:ident;
     $($key:literal in $scopes:expr, $kind:expr, default $default:literal, haproxy $haproxy:literal;
       $help:literal; $example:literal)*) => {
        $(#[$doc])*
        pub(super) static $table: &[Keyword] = &[$(Keyword {
            key: $key, scopes: $scopes, kind: $kind, default: $default, help: $help, example: $example,
            haproxy: $haproxy, mode: KeywordMode::$mode,
        }),*];
    };
}

mod check;
mod docs;
mod http;
mod log;
mod scopes;
mod statistics;
mod stick;
mod table;
mod tls;
mod vip;

pub use docs::markdown;
#[cfg(test)]
pub(super) use docs::whole;
pub(super) use log::{FACILITIES, LEVELS};
pub use scopes::{Scope, Scopes};

/// What a keyword takes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// true or false.
    Flag,
    /// Only true: the presence of an action without arguments.
    True,
    /// An integer in a range.
    Integer(i64, i64),
    /// true, false, or an integer in a range.
    FlagOrInteger(i64, i64),
    /// A duration of at least this; a string with a unit or an integer of milliseconds.
    Duration(Duration),
    /// A size in a range of bytes; a string with a unit or an integer of bytes.
    Size(u64, u64),
    /// A string.
    Text,
    /// A string or a list of strings.
    Texts,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// A list of these strings.
    SomeOf(&'static [&'static str]),
    /// true, or a table with the keywords of a scope.
    TrueOrTable(Scope),
    /// true or false, or such a table.
    FlagOrTable(Scope),
    /// true, false, or a string.
    FlagOrText,
    /// true or false, a string, a list of strings, or a list of tables; the list may mix both.
    FlagTextsOrTables(Scope),
    /// A string, or such a table.
    TextOrTable(Scope),
    /// A list of CPU numbers, a string like "0-3", or how many.
    Cpus,
    /// A file mode: an integer or a string of octal digits.
    FileMode,
    /// A table with the keywords of a scope.
    Table(Scope),
    /// A list of such tables.
    Tables(Scope),
    /// A string, a list of strings, or a list of such tables.
    TextsOrTables(Scope),
    /// A table of named tables: servers.
    Named(Scope),
    /// A table of named strings or lists of strings: ACLs.
    NamedTexts,
}

impl Kind {
    /// How the documentation and error messages call it.
    pub fn describe(self) -> String {
        match self {
            Kind::Flag => "true or false".to_owned(),
            Kind::True => "true".to_owned(),
            Kind::Integer(low, high) => range(low, high),
            Kind::FlagOrInteger(low, high) => format!("true, false or {}", range(low, high)),
            Kind::Duration(_) => "a duration".to_owned(),
            Kind::Size(..) => "a size".to_owned(),
            Kind::Text => "a string".to_owned(),
            Kind::Texts => "a string or a list of strings".to_owned(),
            Kind::OneOf(choices) => {
                choices.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(" or ")
            }
            Kind::SomeOf(choices) => {
                format!(
                    "a list of {}",
                    choices.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ")
                )
            }
            Kind::TrueOrTable(_) => "true or a table".to_owned(),
            Kind::FlagOrTable(_) => "true, false or a table".to_owned(),
            Kind::FlagOrText => "true, false or a string".to_owned(),
            Kind::FlagTextsOrTables(_) => {
                "true, false, a string, a list of strings or a list of tables".to_owned()
            }
            Kind::TextOrTable(_) => "a string or a table".to_owned(),
            Kind::Cpus => "CPU numbers (a list or \"0-3\") or how many".to_owned(),
            Kind::FileMode => "a file mode like \"600\"".to_owned(),
            Kind::Table(_) => "a table".to_owned(),
            Kind::Tables(_) => "a list of tables".to_owned(),
            Kind::TextsOrTables(_) => "a string, a list of strings or a list of tables".to_owned(),
            Kind::Named(_) => "named tables".to_owned(),
            Kind::NamedTexts => "named strings or lists of strings".to_owned(),
        }
    }
}

fn range(low: i64, high: i64) -> String {
    if high == i64::from(u32::MAX) {
        format!("an integer from {low}")
    } else {
        format!("an integer from {low} to {high}")
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Keyword {
    /// The key; dotted where it is a key of a table without meaning of its own (`timeout.client`).
    pub key: &'static str,
    /// Where it may stand.
    pub scopes: Scopes,
    /// What it takes.
    pub kind: Kind,
    /// What holds without it, as the documentation says it; empty if nothing does.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Lines of TOML that load in each of its scopes; in list scopes the whole entry.
    pub example: &'static str,
    /// HAProxy's keyword; empty if HAProxy has no such thing.
    pub haproxy: &'static str,
    /// Which mode it needs.
    pub mode: KeywordMode,
}

/// Keywords that the data plane does not do yet: what loads must also be done.
const NOT_YET: &[(Scope, &[&str])] = &[];

impl Keyword {
    /// Whether the data plane does what it says.
    pub fn is_done(&self) -> bool {
        let is_open =
            |(scope, keys): &(Scope, &[&str])| self.scopes.contains(*scope) && keys.contains(&self.key);
        !NOT_YET.iter().any(is_open)
    }
}

/// Which `mode` a keyword needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeywordMode {
    /// Either.
    Any,
    /// `mode = "http"`.
    Http,
}

/// Every keyword there is.
pub fn all() -> impl Iterator<Item = &'static Keyword> {
    table::KEYWORDS
        .iter()
        .chain(log::KEYWORDS)
        .chain(tls::KEYWORDS)
        .chain(vip::KEYWORDS)
        .chain(tls::HTTP_KEYWORDS)
        .chain(http::KEYWORDS)
        .chain(statistics::KEYWORDS)
        .chain(check::KEYWORDS)
        .chain(stick::KEYWORDS)
        .chain(stick::HTTP_KEYWORDS)
        .chain(log::HTTP_KEYWORDS)
}

/// The keyword of a key in a scope.
pub fn find(scope: Scope, key: &str) -> Option<&'static Keyword> {
    static BY_KEY: LazyLock<AHashMap<&'static str, Vec<&'static Keyword>>> = LazyLock::new(|| {
        let mut by_key: AHashMap<_, Vec<_>> = AHashMap::new();
        for keyword in all() {
            by_key.entry(keyword.key).or_default().push(keyword);
        }
        by_key
    });
    BY_KEY.get(key)?.iter().find(|keyword| keyword.scopes.contains(scope)).copied()
}

/// Keywords of a scope, in the order of the table.
pub fn of(scope: Scope) -> impl Iterator<Item = &'static Keyword> {
    all().filter(move |keyword| keyword.scopes.contains(scope))
}

/// Whether a key is the first part of dotted keywords of the scope (`timeout`).
pub fn is_prefix(scope: Scope, key: &str) -> bool {
    of(scope).any(|keyword| keyword.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

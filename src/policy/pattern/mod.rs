//! Pattern sets: which of many patterns a value matches, in sub-linear time. One type, [`PatternSet`], is compiled from a list
//! of entries and serves ACLs (does any match?) and maps (what is the value of the best match?). Conditions and map
//! converters call it; `config::expr` compiles it, and the admin socket compiles a new one when entries change.
//!
//! Which entry is the best: `beg` and `ip` the longest; everything else the first in the list, as HAProxy does.

use std::fmt;

use regex::bytes::Regex;

use crate::policy::sample::{Kind, Value};

mod interval;
mod ip;
mod number;
mod prefix;
mod regexes;
mod shared;
#[cfg(test)]
mod tests;
mod text;
mod which;

pub use ip::parse_network;
pub(crate) use regexes::compile_regex;
pub(crate) use which::Which;

pub use shared::{Line, PatternFile, PatternTable, SharedPatterns};

use ip::IpSet;
use number::NumberSet;
use regexes::RegexList;
use text::TextSet;

/// How a value is compared with patterns (`-m`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Method {
    /// There is a value; no patterns.
    Found,
    /// The value is true or not zero; no patterns.
    Bool,
    /// The integer is in a range: `5`, `1024:`, `:10`, `3:7`.
    Int,
    /// As `int`, for versions written `MAJOR.MINOR`: the value is `MAJOR * 65536 + MINOR`.
    Version,
    /// The address is in a network: `192.0.2.0/24`, `2001:db8::/32`.
    Ip,
    /// The bytes equal a hexadecimal pattern.
    Bin,
    /// The length is in a range.
    Len,
    /// The text equals a pattern.
    Str,
    /// The text begins with a pattern.
    Beg,
    /// The text ends with a pattern.
    End,
    /// The text contains a pattern.
    Sub,
    /// A part of the text between slashes equals a pattern.
    Dir,
    /// A part of the text between dots, colons, slashes and question marks equals a pattern.
    Dom,
    /// The text matches a regular expression.
    Reg,
}

impl Method {
    /// The methods that `-m` may name.
    pub const NAMED: &'static [(&'static str, Method)] = &[
        ("found", Method::Found),
        ("bool", Method::Bool),
        ("int", Method::Int),
        ("ip", Method::Ip),
        ("bin", Method::Bin),
        ("len", Method::Len),
        ("str", Method::Str),
        ("beg", Method::Beg),
        ("end", Method::End),
        ("sub", Method::Sub),
        ("dir", Method::Dir),
        ("dom", Method::Dom),
        ("reg", Method::Reg),
    ];

    /// The method that a value of a type is matched with when none is named; `None`: one must be named.
    pub fn default_for(kind: Kind) -> Option<Method> {
        match kind {
            Kind::Bool => Some(Method::Bool),
            Kind::Int => Some(Method::Int),
            Kind::Ip => Some(Method::Ip),
            Kind::Str => Some(Method::Str),
            Kind::Bin | Kind::Any => None,
        }
    }

    /// Whether values of a type can be matched so.
    pub fn accepts(self, kind: Kind) -> bool {
        match (self, kind) {
            (_, Kind::Any) => true,
            (Method::Bool, Kind::Ip | Kind::Bin) => false,
            (Method::Int | Method::Version, Kind::Ip | Kind::Bin) => false,
            (Method::Ip, Kind::Bool | Kind::Int) => false,
            (Method::Bin, Kind::Bool | Kind::Int | Kind::Ip) => false,
            _ => true,
        }
    }

    /// Whether it compares with patterns at all.
    pub fn takes_patterns(self) -> bool {
        !matches!(self, Method::Found | Method::Bool)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Method::NAMED.iter().find(|(_, m)| m == self).map_or("int", |(name, _)| name);
        f.write_str(name)
    }
}

/// One pattern, as written, and what it maps to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The pattern.
    pub pattern: Vec<u8>,
    /// The value of a map.
    pub value: Option<Vec<u8>>,
    /// Whether ASCII case is ignored (`-i`).
    pub ignore_case: bool,
}

/// An entry that cannot be compiled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PatternError {
    /// Position in the list.
    pub entry: usize,
    /// What is wrong with it.
    pub message: String,
}

/// A compiled list of patterns. Immutable: a changed list is compiled again.
#[derive(Clone, Debug)]
pub struct PatternSet {
    index: Index,
    values: Vec<Option<Box<[u8]>>>,
}

#[derive(Clone, Debug)]
enum Index {
    Found,
    Bool,
    Int(NumberSet),
    Len(NumberSet),
    Ip(Box<IpSet>),
    Text(Box<TextSet>),
    Reg(RegexList),
}

impl PatternSet {
    /// Compiles a list.
    ///
    /// # Errors
    /// The first entry that is no pattern of this method.
    pub fn compile(method: Method, entries: &[Entry]) -> Result<PatternSet, PatternError> {
        let index = match method {
            Method::Found => Index::Found,
            Method::Bool => Index::Bool,
            Method::Int => Index::Int(NumberSet::compile(entries, number::parse_range)?),
            Method::Version => Index::Int(NumberSet::compile(entries, number::parse_versions)?),
            Method::Len => Index::Len(NumberSet::compile(entries, number::parse_range)?),
            Method::Ip => Index::Ip(Box::new(IpSet::compile(entries)?)),
            Method::Reg => Index::Reg(RegexList::compile(entries)?),
            Method::Bin
            | Method::Str
            | Method::Beg
            | Method::End
            | Method::Sub
            | Method::Dir
            | Method::Dom => Index::Text(Box::new(TextSet::compile(method, entries)?)),
        };
        let values = if entries.iter().any(|e| e.value.is_some()) {
            entries.iter().map(|e| e.value.as_deref().map(Into::into)).collect()
        } else {
            Vec::new()
        };
        Ok(PatternSet { index, values })
    }

    /// Whether any pattern matches. `fold` is scratch memory.
    pub fn matches(&self, value: &Value<'_>, fold: &mut Vec<u8>) -> bool {
        match &self.index {
            Index::Found => true,
            Index::Bool => value.as_bool().unwrap_or(false),
            Index::Reg(list) => value.with_text(|text| list.is_match(text)),
            Index::Text(set) => value.with_text(|text| set.is_match(text, fold)),
            _ => self.find(value, fold).is_some(),
        }
    }

    /// The position of the best matching entry.
    pub fn find(&self, value: &Value<'_>, fold: &mut Vec<u8>) -> Option<usize> {
        match &self.index {
            Index::Found => Some(0),
            Index::Bool => value.as_bool().filter(|b| *b).map(|_| 0),
            Index::Int(set) => set.find(value.as_int()?),
            Index::Len(set) => set.find(i64::try_from(value.with_text(<[u8]>::len)).ok()?),
            Index::Ip(set) => set.find(value.as_ip()?),
            Index::Text(set) => value.with_text(|text| set.find(text, fold)),
            Index::Reg(list) => value.with_text(|text| list.find(text)),
        }
    }

    /// The value that the entry at a position maps to.
    pub fn value(&self, entry: usize) -> Option<&[u8]> {
        self.values.get(entry)?.as_deref()
    }

    /// The regular expression of an entry, for values that refer to its groups.
    pub fn regex(&self, entry: usize) -> Option<&Regex> {
        match &self.index {
            Index::Reg(list) => list.regex(entry),
            _ => None,
        }
    }
}

//! Maps: the value of the line that a key matches.

use regex::bytes::Regex;

use crate::policy::converter::Step;
use crate::policy::converter::text::expand;
use crate::policy::pattern::SharedPatterns;
use crate::policy::sample::{Kind, Literal, Value};

/// What the values of a map are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapResult {
    /// Text.
    Str,
    /// Integers.
    Int,
    /// Addresses.
    Ip,
    /// Text in which `\1` stands for a group of the key's regular expression (`map_regm`).
    Expanded,
}

impl MapResult {
    /// The type of the values.
    pub fn kind(self) -> Kind {
        match self {
            MapResult::Str | MapResult::Expanded => Kind::Str,
            MapResult::Int => Kind::Int,
            MapResult::Ip => Kind::Ip,
        }
    }
}

/// The value is copied: the map may be replaced while the value is in use.
pub(super) fn look_up<'a>(
    patterns: &SharedPatterns,
    key: &Value<'_>,
    result: MapResult,
    default: Option<&'a Literal>,
    out: &mut Vec<u8>,
    fold: &mut Vec<u8>,
) -> Step<'a> {
    let found = patterns.with(|set| {
        let entry = set.find(key, fold)?;
        let value = Value::Str(set.value(entry)?);
        match result {
            MapResult::Str => value.append_text(out),
            MapResult::Int => return value.as_int().map(|i| Step::Value(Value::Int(i))),
            MapResult::Ip => return value.as_ip().map(|ip| Step::Value(Value::Ip(ip))),
            MapResult::Expanded => expand_groups(set.regex(entry)?, key, value, out),
        }
        Some(Step::Written(Kind::Str))
    });
    found.or_else(|| default.map(|d| Step::Value(d.value()))).unwrap_or(Step::Missing)
}

fn expand_groups(regex: &Regex, key: &Value<'_>, value: Value<'_>, out: &mut Vec<u8>) {
    key.with_text(|key| {
        if let (Some(groups), Some(template)) = (regex.captures(key), value.bytes()) {
            expand(template, |n| groups.get(n).map(|m| m.as_bytes()), out);
        }
    });
}

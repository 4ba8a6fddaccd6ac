//! Integer ranges: `80`, `1024:`, `:1023`, `3:7`, and versions `3.1`.

use crate::policy::pattern::interval::{Flat, Interval};
use crate::policy::pattern::{Entry, PatternError};

/// Ranges, flattened.
#[derive(Clone, Debug)]
pub(super) struct NumberSet {
    flat: Flat<i64>,
}

impl NumberSet {
    pub(super) fn compile(
        entries: &[Entry],
        parse: fn(&str) -> Result<(i64, i64), String>,
    ) -> Result<NumberSet, PatternError> {
        let mut intervals = Vec::with_capacity(entries.len());
        for (at, entry) in entries.iter().enumerate() {
            let error = |message| PatternError { entry: at, message };
            let text = std::str::from_utf8(&entry.pattern).map_err(|_| error("not a number".to_owned()))?;
            let (low, high) = parse(text).map_err(error)?;
            let entry = u32::try_from(at).map_err(|_| error("too many patterns".to_owned()))?;
            intervals.push(Interval { low, high, rank: 0, entry });
        }
        Ok(NumberSet { flat: Flat::build(&intervals) })
    }

    pub(super) fn find(&self, value: i64) -> Option<usize> {
        self.flat.find(value)
    }
}

/// `5`, `a:b`, `a:`, `:b`.
pub(super) fn parse_range(text: &str) -> Result<(i64, i64), String> {
    bounds(text, |number| {
        number.parse().map_err(|_| format!("`{text}` is not an integer or a range such as 1024:65535"))
    })
}

/// As [`parse_range`], over versions `MAJOR.MINOR`.
pub(super) fn parse_versions(text: &str) -> Result<(i64, i64), String> {
    bounds(text, |version| {
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        match (major.parse::<u16>(), minor.parse::<u16>()) {
            (Ok(major), Ok(minor)) => Ok((i64::from(major) << 16) | i64::from(minor)),
            _ => Err(format!("`{text}` is not a version such as 3.1 or a range such as 3.1:3.3")),
        }
    })
}

fn bounds(text: &str, parse: impl Fn(&str) -> Result<i64, String>) -> Result<(i64, i64), String> {
    let Some((low, high)) = text.split_once(':') else {
        let value = parse(text)?;
        return Ok((value, value));
    };
    let low = if low.is_empty() { i64::MIN } else { parse(low)? };
    let high = if high.is_empty() { i64::MAX } else { parse(high)? };
    if low > high {
        return Err(format!("the range `{text}` is empty: its lower bound is above the upper one"));
    }
    Ok((low, high))
}

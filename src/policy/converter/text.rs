//! Text: parts of it, substitution, concatenation.

use std::cmp::Ordering;
use std::ops::Range;

use regex::bytes::Regex;

use crate::policy::converter::Step;
use crate::policy::sample::{Kind, Value};

/// `field` and `word`: which of the pieces between delimiters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pieces {
    /// Counts from 1, or from the end from -1; never 0.
    pub index: i64,
    /// Bytes that delimit.
    pub delimiters: Box<[u8]>,
    /// How many pieces; 0: all that remain.
    pub count: usize,
    /// Whether empty pieces count (`field`) or not (`word`).
    pub empty_count: bool,
}

impl Pieces {
    pub(super) fn apply(&self, text: &[u8]) -> Step<'static> {
        let nth = usize::try_from(self.index.unsigned_abs()).unwrap_or(usize::MAX).saturating_sub(1);
        let last = self.count.checked_sub(1).and_then(|more| nth.checked_add(more));
        let found = if self.index > 0 {
            span(self.ranges(text), nth, last).map(|(first, last)| first.start..last.end)
        } else {
            span(self.ranges_back(text), nth, last).map(|(first, last)| last.start..first.end)
        };
        match found {
            Some(range) => Step::Slice(Kind::Str, range),
            None if self.empty_count => Step::Missing,
            // As in HAProxy.
            None => Step::Slice(Kind::Str, 0..0),
        }
    }

    fn is_delimiter(&self, byte: u8) -> bool {
        self.delimiters.contains(&byte)
    }

    fn ranges(&self, text: &[u8]) -> impl Iterator<Item = Range<usize>> {
        let mut start = Some(0);
        std::iter::from_fn(move || {
            let from = start?;
            let end = text[from..].iter().position(|b| self.is_delimiter(*b)).map(|at| from + at);
            start = end.map(|e| e + 1);
            Some(from..end.unwrap_or(text.len()))
        })
        .filter(|range| self.empty_count || !range.is_empty())
    }

    fn ranges_back(&self, text: &[u8]) -> impl Iterator<Item = Range<usize>> {
        let mut end = Some(text.len());
        std::iter::from_fn(move || {
            let to = end?;
            let delimiter = text[..to].iter().rposition(|b| self.is_delimiter(*b));
            end = delimiter;
            Some(delimiter.map_or(0, |at| at + 1)..to)
        })
        .filter(|range| self.empty_count || !range.is_empty())
    }
}

/// The ranges at two places, or the last one there is instead of the second.
fn span(
    mut ranges: impl Iterator<Item = Range<usize>>,
    first: usize,
    last: Option<usize>,
) -> Option<(Range<usize>, Range<usize>)> {
    let start = ranges.nth(first)?;
    let more = last.map_or(usize::MAX, |last| last - first);
    let end = ranges.take(more).last().unwrap_or_else(|| start.clone());
    Some((start, end))
}

/// `regsub`.
#[derive(Clone, Debug)]
pub struct Regsub {
    /// What is replaced.
    pub regex: Regex,
    /// With what; `\0` to `\9` stand for groups.
    pub replacement: Box<[u8]>,
    /// All matches and not only the first one (`g`).
    pub all: bool,
}

impl Regsub {
    pub(super) fn apply(&self, text: &[u8], out: &mut Vec<u8>) -> Step<'static> {
        let has_groups = self.replacement.contains(&b'\\');
        let mut copied = 0;
        let mut at = 0;
        while let Some(found) = self.regex.find_at(text, at) {
            out.extend_from_slice(&text[copied..found.start()]);
            if has_groups && let Some(groups) = self.regex.captures_at(text, found.start()) {
                expand(&self.replacement, |n| groups.get(n).map(|m| m.as_bytes()), out);
            } else {
                out.extend_from_slice(&self.replacement);
            }
            copied = found.end();
            // An empty match must not be found again at its place.
            at = if found.is_empty() { found.end() + 1 } else { found.end() };
            if !self.all || at > text.len() {
                break;
            }
        }
        out.extend_from_slice(&text[copied..]);
        Step::Written(Kind::Str)
    }
}

/// Writes a template in which `\0` to `\9` stand for groups; a backslash keeps any other character as it is.
pub(super) fn expand<'t>(template: &[u8], group: impl Fn(usize) -> Option<&'t [u8]>, out: &mut Vec<u8>) {
    let mut bytes = template.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next() {
                Some(digit) if digit.is_ascii_digit() => {
                    out.extend_from_slice(group(usize::from(digit - b'0')).unwrap_or_default());
                }
                Some(other) => out.push(*other),
                None => out.push(b'\\'),
            },
            other => out.push(*other),
        }
    }
}

pub(super) fn map_bytes(text: &[u8], f: impl Fn(&u8) -> u8, out: &mut Vec<u8>) -> Step<'static> {
    out.extend(text.iter().map(f));
    Step::Written(Kind::Str)
}

/// `bytes`: what lies beyond the end is left out.
pub(super) fn part(text: &[u8], offset: usize, length: Option<usize>) -> Step<'static> {
    let start = offset.min(text.len());
    let end = length.map_or(text.len(), |length| start.saturating_add(length).min(text.len()));
    Step::Slice(Kind::Bin, start..end)
}

pub(super) fn trim_start(text: &[u8], set: &[u8]) -> Step<'static> {
    let start = text.iter().position(|b| !set.contains(b)).unwrap_or(text.len());
    Step::Slice(Kind::Str, start..text.len())
}

pub(super) fn trim_end(text: &[u8], set: &[u8]) -> Step<'static> {
    let end = text.iter().rposition(|b| !set.contains(b)).map_or(0, |at| at + 1);
    Step::Slice(Kind::Str, 0..end)
}

pub(super) fn cut_line(text: &[u8]) -> Step<'static> {
    Step::Slice(Kind::Str, 0..memchr::memchr2(b'\r', b'\n', text).unwrap_or(text.len()))
}

pub(super) fn host_only(text: &[u8], out: &mut Vec<u8>) -> Step<'static> {
    map_bytes(&text[..host_len(text)], u8::to_ascii_lowercase, out)
}

/// 0 if there is no port.
pub(super) fn port_only(text: &[u8]) -> Step<'static> {
    let port = text[host_len(text)..].strip_prefix(b":").unwrap_or_default();
    Step::int(std::str::from_utf8(port).ok().and_then(|p| p.parse::<u16>().ok()).map_or(0, i64::from))
}

/// Bytes of the host in `host`, `host:port`, `[v6]`, `[v6]:port`; a bare IPv6 address is a host.
fn host_len(text: &[u8]) -> usize {
    if text.first() == Some(&b'[') {
        return memchr::memchr(b']', text).map_or(text.len(), |at| at + 1);
    }
    match memchr::memchr(b':', text) {
        Some(at) if memchr::memchr(b':', &text[at + 1..]).is_none() => at,
        _ => text.len(),
    }
}

pub(super) fn concat(
    text: &[u8],
    before: &[u8],
    variable: Option<Value<'_>>,
    after: &[u8],
    out: &mut Vec<u8>,
) -> Step<'static> {
    out.extend_from_slice(text);
    out.extend_from_slice(before);
    if let Some(value) = variable {
        value.append_text(out);
    }
    out.extend_from_slice(after);
    Step::Written(Kind::Str)
}

/// The delimiter is written only between two things that are there.
pub(super) fn add_item(
    text: &[u8],
    delimiter: &[u8],
    variable: Option<Value<'_>>,
    after: &[u8],
    out: &mut Vec<u8>,
) -> Step<'static> {
    out.extend_from_slice(text);
    if !text.is_empty() && (variable.is_some() || !after.is_empty()) {
        out.extend_from_slice(delimiter);
    }
    if let Some(value) = variable {
        value.append_text(out);
    }
    out.extend_from_slice(after);
    Step::Written(Kind::Str)
}

/// `strcmp`: negative, zero or positive.
pub(super) fn compare(text: &[u8], other: &Value<'_>) -> Step<'static> {
    Step::int(match other.with_text(|other| text.cmp(other)) {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    })
}

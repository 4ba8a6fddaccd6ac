//! Regular expressions, over bytes. Many of them are searched together in groups; which one matched is looked for only in a
//! group that does match.

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use crate::policy::pattern::{Entry, PatternError};

/// Expressions of one group. Automata of large groups grow beyond the caches.
const GROUP: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct RegexList {
    each: Vec<Regex>,
    groups: Vec<RegexSet>,
}

impl RegexList {
    pub(super) fn compile(entries: &[Entry]) -> Result<RegexList, PatternError> {
        let mut each = Vec::with_capacity(entries.len());
        let mut texts = Vec::with_capacity(entries.len());
        for (at, entry) in entries.iter().enumerate() {
            let error = |message| PatternError { entry: at, message };
            let text = std::str::from_utf8(&entry.pattern).map_err(|_| {
                error("the regular expression is not UTF-8; write other bytes as \\xNN".to_owned())
            })?;
            each.push(compile_regex(text, entry.ignore_case).map_err(error)?);
            // Unicode is off for the same reason as in `compile_regex`.
            texts.push(if entry.ignore_case { format!("(?i-u){text}") } else { format!("(?-u){text}") });
        }
        let groups = if each.len() > 1 { groups(&texts)? } else { Vec::new() };
        Ok(RegexList { each, groups })
    }

    pub(super) fn is_match(&self, text: &[u8]) -> bool {
        match self.each.as_slice() {
            [] => false,
            [one] => one.is_match(text),
            _ => self.groups.iter().any(|g| g.is_match(text)),
        }
    }

    pub(super) fn find(&self, text: &[u8]) -> Option<usize> {
        if let [one] = self.each.as_slice() {
            return one.is_match(text).then_some(0);
        }
        let group = self.groups.iter().position(|g| g.is_match(text))?;
        let start = group * GROUP;
        let end = (start + GROUP).min(self.each.len());
        self.each[start..end].iter().position(|r| r.is_match(text)).map(|at| start + at)
    }

    pub(super) fn regex(&self, entry: usize) -> Option<&Regex> {
        self.each.get(entry)
    }
}

/// Compiles one expression as patterns and `regsub` take it: over bytes, so that `.` is any byte as in HAProxy.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn compile_regex(text: &str, ignore_case: bool) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .unicode(false)
        .case_insensitive(ignore_case)
        .build()
        .map_err(|e| format!("the regular expression is wrong: {}", short(&e)))
}

fn groups(texts: &[String]) -> Result<Vec<RegexSet>, PatternError> {
    texts
        .chunks(GROUP)
        .enumerate()
        .map(|(at, chunk)| {
            RegexSetBuilder::new(chunk).size_limit(256 << 20).build().map_err(|e| PatternError {
                entry: at * GROUP,
                message: format!("the regular expressions are too large together: {}", short(&e)),
            })
        })
        .collect()
}

/// The last line of the library's message says what is wrong; the others draw the expression.
fn short(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

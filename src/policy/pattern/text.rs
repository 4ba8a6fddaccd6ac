//! Text patterns: exact, prefix, suffix, substring, and parts between delimiters. Patterns with and without `-i` are kept
//! apart: the latter in lower case, and the value is folded once for them.

use ahash::AHashMap;
use aho_corasick::AhoCorasick;

use crate::policy::pattern::prefix::PrefixSet;
use crate::policy::pattern::{Entry, Method, PatternError};

/// Delimiters of `-m dir`.
const DIR: &[u8] = b"/?";
/// Delimiters of `-m dom`.
const DOM: &[u8] = b"./?:";

#[derive(Clone, Debug)]
pub(super) struct TextSet {
    /// Longest match wins (`beg`); otherwise the first entry.
    longest: bool,
    exact_case: Option<TextIndex>,
    any_case: Option<TextIndex>,
}

#[derive(Clone, Debug)]
enum TextIndex {
    Equal(AHashMap<Box<[u8]>, u32>),
    Begin(PrefixSet),
    End(PrefixSet),
    Contain(Search),
    /// Between delimiters.
    Part(Search, &'static [u8]),
}

#[derive(Clone, Debug)]
struct Search {
    automaton: AhoCorasick,
    /// The entry of each pattern of the automaton.
    entries: Vec<u32>,
    /// The first entry with an empty pattern, which is everywhere.
    empty: Option<u32>,
}

impl TextSet {
    pub(super) fn compile(method: Method, entries: &[Entry]) -> Result<TextSet, PatternError> {
        let mut exact_case = Vec::new();
        let mut any_case = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let error = |message: &str| PatternError { entry: at, message: message.to_owned() };
            let number = u32::try_from(at).map_err(|_| error("too many patterns"))?;
            if method == Method::Bin {
                let bytes =
                    unhex(&entry.pattern).ok_or_else(|| error("not an even number of hexadecimal digits"))?;
                exact_case.push((bytes, number));
            } else if entry.ignore_case {
                any_case.push((entry.pattern.to_ascii_lowercase(), number));
            } else {
                exact_case.push((entry.pattern.clone(), number));
            }
        }
        Ok(TextSet {
            longest: method == Method::Beg,
            exact_case: TextIndex::build(method, exact_case)?,
            any_case: TextIndex::build(method, any_case)?,
        })
    }

    pub(super) fn is_match(&self, text: &[u8], fold: &mut Vec<u8>) -> bool {
        self.exact_case.as_ref().is_some_and(|i| i.is_match(text))
            || self.any_case.as_ref().is_some_and(|i| i.is_match(lower(text, fold)))
    }

    pub(super) fn find(&self, text: &[u8], fold: &mut Vec<u8>) -> Option<usize> {
        let exact = self.exact_case.as_ref().and_then(|i| i.find(text));
        let any = self.any_case.as_ref().and_then(|i| i.find(lower(text, fold)));
        let best = match (exact, any) {
            (Some(a), Some(b)) if self.longest && a.0 != b.0 => {
                if a.0 > b.0 {
                    a.1
                } else {
                    b.1
                }
            }
            (Some(a), Some(b)) => a.1.min(b.1),
            (a, b) => a.or(b)?.1,
        };
        Some(best as usize)
    }
}

/// How a text is compared, where one look-up among many is possible.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum How {
    /// It is the text.
    Equal,
    /// It is what the text begins with.
    Begin,
    /// It is what the text ends with; written backwards.
    End,
}

/// A text of a set.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Text {
    pub(super) how: How,
    /// It is in lower case, and so has the value to be.
    pub(super) any_case: bool,
    pub(super) key: Box<[u8]>,
}

impl TextSet {
    /// Its texts; `None`: they are searched for inside of values.
    pub(super) fn texts(&self) -> Option<Vec<Text>> {
        let mut texts = Vec::new();
        for (index, any_case) in [(&self.exact_case, false), (&self.any_case, true)] {
            let mut add = |how, keys: &mut dyn Iterator<Item = &[u8]>| {
                texts.extend(keys.map(|key| Text { how, any_case, key: key.into() }));
            };
            match index {
                None => {}
                Some(TextIndex::Equal(map)) => add(How::Equal, &mut map.keys().map(|key| &**key)),
                Some(TextIndex::Begin(set)) => add(How::Begin, &mut set.keys()),
                Some(TextIndex::End(set)) => add(How::End, &mut set.keys()),
                Some(TextIndex::Contain(_) | TextIndex::Part(..)) => return None,
            }
        }
        Some(texts)
    }
}

impl TextIndex {
    fn build(method: Method, patterns: Vec<(Vec<u8>, u32)>) -> Result<Option<TextIndex>, PatternError> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let boxed = |p: Vec<(Vec<u8>, u32)>| p.into_iter().map(|(k, e)| (k.into_boxed_slice(), e));
        Ok(Some(match method {
            Method::Beg => TextIndex::Begin(PrefixSet::build(boxed(patterns).collect())),
            Method::End => TextIndex::End(PrefixSet::build(
                patterns.into_iter().map(|(k, e)| (k.into_iter().rev().collect(), e)).collect(),
            )),
            Method::Sub => TextIndex::Contain(Search::build(patterns)?),
            Method::Dir => TextIndex::Part(Search::build(trimmed(patterns, DIR)?)?, DIR),
            Method::Dom => TextIndex::Part(Search::build(trimmed(patterns, DOM)?)?, DOM),
            _ => {
                let mut map = AHashMap::with_capacity(patterns.len());
                for (key, entry) in boxed(patterns) {
                    map.entry(key).or_insert(entry);
                }
                TextIndex::Equal(map)
            }
        }))
    }

    fn is_match(&self, text: &[u8]) -> bool {
        match self {
            TextIndex::Contain(search) => search.empty.is_some() || search.automaton.is_match(text),
            TextIndex::Part(search, delimiters) => search
                .automaton
                .find_overlapping_iter(text)
                .any(|m| between_delimiters(text, m.start(), m.end(), delimiters)),
            _ => self.find(text).is_some(),
        }
    }

    /// The length of the pattern where that decides (`beg`), and the entry.
    fn find(&self, text: &[u8]) -> Option<(usize, u32)> {
        match self {
            TextIndex::Equal(map) => map.get(text).map(|e| (0, *e)),
            TextIndex::Begin(set) => set.longest(text),
            TextIndex::End(set) => set.first_suffix(text).map(|e| (0, e)),
            TextIndex::Contain(search) => {
                let found = search.automaton.find_overlapping_iter(text).map(|m| search.entry(m.pattern()));
                found.chain(search.empty).min().map(|e| (0, e))
            }
            TextIndex::Part(search, delimiters) => search
                .automaton
                .find_overlapping_iter(text)
                .filter(|m| between_delimiters(text, m.start(), m.end(), delimiters))
                .map(|m| search.entry(m.pattern()))
                .min()
                .map(|e| (0, e)),
        }
    }
}

impl Search {
    fn build(patterns: Vec<(Vec<u8>, u32)>) -> Result<Search, PatternError> {
        let last = patterns.last().map_or(0, |(_, e)| *e as usize);
        let empty = patterns.iter().find(|(p, _)| p.is_empty()).map(|(_, e)| *e);
        let patterns: Vec<_> = patterns.into_iter().filter(|(p, _)| !p.is_empty()).collect();
        let automaton = AhoCorasick::new(patterns.iter().map(|(p, _)| p))
            .map_err(|e| PatternError { entry: last, message: format!("too many patterns: {e}") })?;
        Ok(Search { automaton, entries: patterns.into_iter().map(|(_, e)| e).collect(), empty })
    }

    fn entry(&self, pattern: aho_corasick::PatternID) -> u32 {
        self.entries[pattern.as_usize()]
    }
}

/// Patterns without delimiters at their ends, which mean nothing there.
fn trimmed(patterns: Vec<(Vec<u8>, u32)>, delimiters: &[u8]) -> Result<Vec<(Vec<u8>, u32)>, PatternError> {
    let is = |b: &u8| delimiters.contains(b);
    patterns
        .into_iter()
        .map(|(p, entry)| {
            let start = p.iter().position(|b| !is(b));
            let end = p.iter().rposition(|b| !is(b));
            match (start, end) {
                (Some(start), Some(end)) => Ok((p[start..=end].to_vec(), entry)),
                _ => Err(PatternError {
                    entry: entry as usize,
                    message: "nothing is left of the pattern without its delimiters".to_owned(),
                }),
            }
        })
        .collect()
}

/// The text in lower case, in scratch memory.
pub(super) fn lower<'a>(text: &[u8], fold: &'a mut Vec<u8>) -> &'a [u8] {
    fold.clear();
    fold.extend(text.iter().map(u8::to_ascii_lowercase));
    fold
}

fn between_delimiters(text: &[u8], start: usize, end: usize, delimiters: &[u8]) -> bool {
    (start == 0 || delimiters.contains(&text[start - 1]))
        && (end == text.len() || delimiters.contains(&text[end]))
}

/// Bytes from hexadecimal digits.
fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2)
        .map(|pair| {
            let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
            Some(digit(pair[0])? << 4 | digit(pair[1])?)
        })
        .collect()
}

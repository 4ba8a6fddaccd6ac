//! A text as a row of pieces, one for each section, so that those that did not change need not be parsed again: the tree of the
//! last text in, the tree of the next one out. The tree is the one that `file::parse` would make. Pure; `kept` calls it.
//!
//! A piece is from the header of a section to that of the next one, with the headers of tables inside it. That a piece parses
//! alone means that the text before the next header is complete, whatever stands in it; what depends on how pieces stand to each
//! other (a section in two places, keys before the first header, `[[...]]`, `[node]`) is left to the parser of the whole.

use std::ops::Range;

use ahash::AHashMap;
use toml::de::DeTable;

use super::file::{self, Data, Entry, File, Source, Table, Value};
use super::overlay;

/// Sections that have names.
const NAMED: &[&str] =
    &["frontend", "listen", "backend", "http-errors", "userlist", "ring", "vip", "gateway"];

/// One section of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    /// `backend`.
    pub(super) section: String,
    /// Its name; empty where the section has none.
    pub(super) name: String,
    /// Its bytes.
    pub(super) range: Range<usize>,
    /// Where `section` stands in its first header, and that header.
    spans: (Range<usize>, Range<usize>),
}

impl Piece {
    fn key(&self) -> (&str, &str) {
        (&self.section, &self.name)
    }
}

/// A file, its pieces, and which of them are as they were before, by their position.
pub(super) struct Pieces {
    pub(super) file: File,
    pub(super) pieces: Vec<Piece>,
    pub(super) same: Vec<bool>,
}

/// Splits a text; `None`: it is for the parser of the whole.
pub(super) fn split(text: &str) -> Option<Vec<Piece>> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let at = start;
        start += line.len();
        if !line.starts_with('[') {
            let is_blank = line.trim_start().is_empty() || line.trim_start().starts_with('#');
            match pieces.last_mut() {
                Some(piece) => piece.range.end = start,
                None if is_blank => {}
                None => return None,
            }
            continue;
        }
        let (section, name) = header(line)?;
        match pieces.last_mut() {
            Some(piece) if piece.section == section && piece.name == name => piece.range.end = start,
            _ => pieces.push(Piece { section, name, range: at..start, spans: (0..0, 0..0) }),
        }
    }
    let mut seen = ahash::AHashSet::with_capacity(pieces.len());
    let once = pieces.iter().all(|piece| seen.insert(piece.key()));
    (once && !pieces.is_empty()).then_some(pieces)
}

/// Section and name of a line that looks like a header.
fn header(line: &str) -> Option<(String, String)> {
    let mut rest = line.strip_prefix('[')?;
    let mut parts: Vec<&str> = Vec::new();
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').filter(|(part, _)| !part.contains('\\'))?,
            None => {
                let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                rest.split_at(rest.find(|c| !bare(c))?)
            }
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None => {
                let end = after.strip_prefix(']')?.trim();
                if !end.is_empty() && !end.starts_with('#') {
                    return None;
                }
                break;
            }
        }
    }
    match (parts.first(), parts.get(1)) {
        (Some(&overlay::SECTION), _) => None,
        (Some(section), Some(name)) if NAMED.contains(section) => {
            Some(((*section).to_owned(), (*name).to_owned()))
        }
        (Some(section), _) if !NAMED.contains(section) => Some(((*section).to_owned(), String::new())),
        _ => None,
    }
}

/// What the last text leaves: its tree and its pieces.
pub(super) type Before = Option<(File, Vec<Piece>)>;

/// The tree of a text, of which the pieces that stood in `before` are taken from there.
///
/// # Errors
/// It is for the parser of the whole; `before` comes back.
pub(super) fn parse(name: &str, text: &str, before: Before) -> Result<Pieces, Before> {
    let Some(mut pieces) = split(text) else { return Err(before) };
    let known = before.as_ref().map(|(file, pieces)| known(file, pieces)).unwrap_or_default();
    let mut parsed = Vec::with_capacity(pieces.len());
    for piece in &mut pieces {
        let is_same = known.get(&piece.key()).is_some_and(|old| *old == &text[piece.range.clone()]);
        parsed.push(if is_same { None } else { parse_piece(piece, text) });
        if !is_same && parsed.last().is_some_and(Option::is_none) {
            drop(known);
            return Err(before);
        }
    }
    drop(known);
    let same = parsed.iter().map(Option::is_none).collect();
    let mut old = before.map_or_else(Old::default, |(file, pieces)| Old::new(file, pieces));
    let mut root = Root::default();
    for (piece, parsed) in pieces.iter_mut().zip(parsed) {
        let entry = parsed.unwrap_or_else(|| old.take(piece));
        root.add(piece, entry);
    }
    Ok(Pieces { file: File { source: Source::new(name, text), root: root.table }, pieces, same })
}

/// Parses one piece: the entry of its name, or that of its section if it has none.
fn parse_piece(piece: &mut Piece, text: &str) -> Option<Entry> {
    let (table, errors) = DeTable::parse_recoverable(&text[piece.range.clone()]);
    if !errors.is_empty() {
        return None;
    }
    let mut table = file::table(table.get_ref());
    shift_table(&mut table, piece.range.start, 0);
    let only = |table: Table, key: &str| -> Option<Entry> {
        let [entry] = <[Entry; 1]>::try_from(table.entries).ok()?;
        (entry.key == key).then_some(entry)
    };
    let entry = only(table, &piece.section)?;
    piece.spans = (entry.key_span.clone(), entry.value.span.clone());
    if piece.name.is_empty() {
        return Some(entry);
    }
    match entry.value.data {
        Data::Table(inner) => only(inner, &piece.name),
        _ => None,
    }
}

/// The tree that grows piece by piece.
#[derive(Default)]
struct Root {
    table: Table,
    /// Sections with names.
    at: AHashMap<String, usize>,
}

impl Root {
    fn add(&mut self, piece: &Piece, entry: Entry) {
        let entries = &mut self.table.entries;
        if piece.name.is_empty() {
            return entries.push(entry);
        }
        if let Some(at) = self.at.get(&piece.section) {
            if let Data::Table(table) = &mut entries[*at].value.data {
                table.entries.push(entry);
            }
            return;
        }
        self.at.insert(piece.section.clone(), entries.len());
        let (key_span, span) = piece.spans.clone();
        let value = Value { span, data: Data::Table(Table { entries: vec![entry] }) };
        entries.push(Entry { key: piece.section.clone(), key_span, value });
    }
}

/// The bytes of each piece.
fn known<'p>(file: &'p File, pieces: &'p [Piece]) -> AHashMap<(&'p str, &'p str), &'p str> {
    let text = |piece: &Piece| file.source.text.get(piece.range.clone()).unwrap_or_default();
    pieces.iter().map(|piece| (piece.key(), text(piece))).collect()
}

/// The pieces of the last text.
#[derive(Default)]
struct Old {
    pieces: AHashMap<(String, String), (Piece, Entry)>,
}

impl Old {
    fn new(file: File, pieces: Vec<Piece>) -> Old {
        // The entries of a section stand in the order of its pieces.
        let mut sections: AHashMap<String, std::vec::IntoIter<Entry>> = AHashMap::new();
        for entry in file.root.entries {
            let key = entry.key.clone();
            let entries = match entry.value.data {
                Data::Table(table) if NAMED.contains(&key.as_str()) => table.entries,
                _ => vec![entry],
            };
            sections.insert(key, entries.into_iter());
        }
        let with_entry = |piece: Piece| {
            let entry = sections.get_mut(&piece.section)?.next()?;
            Some(((piece.section.clone(), piece.name.clone()), (piece, entry)))
        };
        Old { pieces: pieces.into_iter().filter_map(with_entry).collect() }
    }

    /// The entry of a piece that is there with the same bytes, at its place in the new text.
    fn take(&mut self, piece: &mut Piece) -> Entry {
        let key = (piece.section.clone(), piece.name.clone());
        let (old, mut entry) = self.pieces.remove(&key).expect("its bytes were compared");
        let (to, from) = (piece.range.start, old.range.start);
        piece.spans = old.spans;
        if to != from {
            shift_entry(&mut entry, to, from);
            shift(&mut piece.spans.0, to, from);
            shift(&mut piece.spans.1, to, from);
        }
        entry
    }
}

fn shift(span: &mut Range<usize>, to: usize, from: usize) {
    *span = span.start + to - from..span.end + to - from;
}

fn shift_table(table: &mut Table, to: usize, from: usize) {
    table.entries.iter_mut().for_each(|entry| shift_entry(entry, to, from));
}

fn shift_entry(entry: &mut Entry, to: usize, from: usize) {
    shift(&mut entry.key_span, to, from);
    shift_value(&mut entry.value, to, from);
}

fn shift_value(value: &mut Value, to: usize, from: usize) {
    shift(&mut value.span, to, from);
    match &mut value.data {
        Data::Array(items) => items.iter_mut().for_each(|item| shift_value(item, to, from)),
        Data::Table(table) => shift_table(table, to, from),
        _ => {}
    }
}

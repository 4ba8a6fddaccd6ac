//! TOML text -> a tree that knows where everything stands. Only form is decided here; what keys mean is `keywords` and
//! `resolve`. It is a tree and not derived structs because derived structs stop at the first error, and the operator
//! is to see all of them at once.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diag::{Diagnostic, Severity};

/// A parsed file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// The text and its name.
    pub source: Source,
    /// The top-level table.
    pub root: Table,
}

/// Text with a name, and the way from byte offsets to lines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Name of the file as the operator gave it.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Where its lines start.
    lines: Vec<usize>,
}

/// A table, entries in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    /// Its entries.
    pub entries: Vec<Entry>,
}

/// One key and its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Range<usize>,
    /// The value.
    pub value: Value,
}

/// A value and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    /// Its bytes in the file, quotes included; for a table made by a header, the header.
    pub span: Range<usize>,
    /// What it is.
    pub data: Data,
}

/// The types of TOML.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Data {
    /// A string, escapes decoded.
    String(String),
    /// An integer.
    Integer(i64),
    /// A float; no keyword takes one.
    Float,
    /// true or false.
    Boolean(bool),
    /// A date or time; no keyword takes one.
    Datetime,
    /// A list.
    Array(Vec<Value>),
    /// A table.
    Table(Table),
}

impl Table {
    /// The entry of a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
    /// The value at a dotted path (`timeout.client`).
    pub fn at(&self, path: &str) -> Option<&Value> {
        let mut table = self;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            let value = &table.entry(part)?.value;
            if parts.peek().is_none() {
                return Some(value);
            }
            match &value.data {
                Data::Table(inner) => table = inner,
                _ => return None,
            }
        }
        None
    }
}

impl Data {
    /// The type as an operator calls it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Data::String(_) => "a string",
            Data::Integer(_) => "an integer",
            Data::Float => "a float",
            Data::Boolean(_) => "a boolean",
            Data::Datetime => "a date",
            Data::Array(_) => "a list",
            Data::Table(_) => "a table",
        }
    }
}

impl Source {
    /// Text with a name.
    pub fn new(name: &str, text: &str) -> Source {
        let ends = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        Source { name: name.to_owned(), text: text.to_owned(), lines }
    }

    /// Line and column (characters), both from 1, of a byte offset.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines[line - 1];
        (line, self.text[start..offset].chars().count() + 1)
    }

    /// A message about a place in the text.
    pub fn diagnostic(
        &self,
        severity: Severity,
        offset: usize,
        message: String,
        help: Option<String>,
    ) -> Diagnostic {
        let (line, column) = self.position(offset);
        Diagnostic { severity, file: self.name.clone(), offset, line, column, message, help }
    }

    /// `file:line:col` of a place in the text.
    pub fn origin(&self, offset: usize) -> String {
        let (line, column) = self.position(offset);
        format!("{}:{line}:{column}", self.name)
    }

    /// Where byte `at` of the decoded string at `span` stands in the file: escapes are longer in the file than decoded.
    pub fn string_offset(&self, span: &Range<usize>, at: usize) -> usize {
        let Some(raw) = self.text.get(span.clone()) else { return span.start };
        let (open, escapes) = match raw.as_bytes() {
            [b'"', b'"', b'"', ..] => (3, true),
            [b'\'', b'\'', b'\'', ..] => (3, false),
            [b'"', ..] => (1, true),
            [b'\'', ..] => (1, false),
            _ => return span.start,
        };
        // A newline right after the opening quotes of a multi-line string is not part of it (TOML "String").
        let body = &raw[open..];
        let trimmed = if open == 3 {
            body.strip_prefix('\n').or(body.strip_prefix("\r\n")).unwrap_or(body)
        } else {
            body
        };
        let mut file_at = raw.len() - trimmed.len();
        let mut decoded = 0;
        let mut rest = trimmed;
        while decoded < at && !rest.is_empty() {
            let (taken, produced) = if escapes { next_piece(rest) } else { one_char(rest) };
            file_at += taken;
            decoded += produced;
            rest = &rest[taken..];
        }
        span.start + file_at.min(raw.len())
    }
}

fn one_char(rest: &str) -> (usize, usize) {
    let len = rest.chars().next().map_or(1, char::len_utf8);
    (len, len)
}

/// Bytes in the file and bytes decoded of the next character or escape of a basic string.
fn next_piece(rest: &str) -> (usize, usize) {
    let bytes = rest.as_bytes();
    if bytes[0] != b'\\' {
        return one_char(rest);
    }
    let digits = match bytes.get(1) {
        Some(b'x') => 2,
        Some(b'u') => 4,
        Some(b'U') => 8,
        // A backslash at the end of a line swallows the white space up to the next character.
        Some(b'\n' | b'\r' | b' ' | b'\t') => {
            let kept = rest[1..].trim_start_matches([' ', '\t', '\r', '\n']);
            return (rest.len() - kept.len(), 0);
        }
        Some(_) => return (2.min(rest.len()), 1),
        None => return (1, 1),
    };
    let produced = rest
        .get(2..2 + digits)
        .and_then(|hex| u32::from_str_radix(hex, 16).ok())
        .and_then(char::from_u32)
        .map_or(1, char::len_utf8);
    let taken = (2 + digits).min(rest.len());
    (if rest.is_char_boundary(taken) { taken } else { 1 }, produced)
}

/// Parses the text. With a syntax error there is no tree: what recovery guesses would make more noise than sense.
pub fn parse(name: &str, text: &str) -> (Option<File>, Vec<Diagnostic>) {
    let source = Source::new(name, text);
    let (root, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let root = table(root.get_ref());
        return (Some(File { source, root }), Vec::new());
    }
    let mut diagnostics: Vec<Diagnostic> = errors
        .iter()
        .map(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let message = error.message().replace('\n', " ");
            source.diagnostic(Severity::Error, offset, message, syntax_help(error.message()))
        })
        .collect();
    diagnostics.sort_by_key(|diagnostic| diagnostic.offset);
    (None, diagnostics)
}

fn syntax_help(message: &str) -> Option<String> {
    let help = if message.contains("duplicate key") {
        "each key and each [section] may stand once; give several binds or rules as one list"
    } else if message.contains("string values must be quoted") {
        "strings are quoted in TOML: timeout.client = \"30s\""
    } else {
        return None;
    };
    Some(help.to_owned())
}

pub(super) fn table(from: &DeTable<'_>) -> Table {
    let mut entries: Vec<Entry> = from
        .iter()
        .map(|(key, item)| Entry { key: key.get_ref().to_string(), key_span: key.span(), value: value(item) })
        .collect();
    // The map is sorted by name; servers and rules are meant in the order of the file.
    entries.sort_by_key(|entry| entry.key_span.start);
    Table { entries }
}

fn value(from: &Spanned<DeValue<'_>>) -> Value {
    let data = match from.get_ref() {
        DeValue::String(text) => Data::String(text.to_string()),
        // An integer beyond i64 is beyond every range of ours; the range check then names the limit.
        DeValue::Integer(number) => Data::Integer(
            i64::from_str_radix(number.as_str(), number.radix())
                .unwrap_or(if number.as_str().starts_with('-') { i64::MIN } else { i64::MAX }),
        ),
        DeValue::Float(_) => Data::Float,
        DeValue::Boolean(flag) => Data::Boolean(*flag),
        DeValue::Datetime(_) => Data::Datetime,
        DeValue::Array(items) => Data::Array(items.iter().map(value).collect()),
        DeValue::Table(inner) => Data::Table(table(inner)),
    };
    Value { span: from.span(), data }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> File {
        let (file, diagnostics) = parse("t.toml", text);
        assert_eq!(diagnostics, vec![]);
        file.expect("no diagnostics")
    }

    #[test]
    fn entries_keep_the_order_of_the_file() {
        let file = tree("[b.x]\n[a]\n[b.w]\n[b.a]\n");
        let names: Vec<&str> = file.root.entries.iter().map(|e| e.key.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
        let Data::Table(b) = &file.root.entry("b").expect("there").value.data else { panic!("a table") };
        let names: Vec<&str> = b.entries.iter().map(|e| e.key.as_str()).collect();
        assert_eq!(names, ["x", "w", "a"]);
    }

    #[test]
    fn a_dotted_path_finds_both_forms() {
        for text in ["timeout.client = 1", "timeout = { client = 1 }", "[timeout]\nclient = 1"] {
            assert!(matches!(
                tree(text).root.at("timeout.client"),
                Some(Value { data: Data::Integer(1), .. })
            ));
        }
        assert!(tree("timeout = 1").root.at("timeout.client").is_none());
    }

    #[test]
    fn offsets_in_strings_are_those_of_the_file() {
        // (text, byte of the decoded string, what stands there in the file)
        for (text, at, expected) in [
            ("a = \"xyz\"", 1, "yz\""),
            ("a = 'xyz'", 2, "z'"),
            (r#"a = "x\tyz""#, 2, "yz\""),
            (r#"a = "\u00e9yz""#, 2, "yz\""),
            (r#"a = "éyz""#, 2, "yz\""),
            ("a = \"\"\"\nxyz\"\"\"", 1, "yz\"\"\""),
            ("a = '''\nx\ny'''", 2, "y'''"),
            ("a = \"\"\"x\\\n   yz\"\"\"", 2, "z\"\"\""),
        ] {
            let file = tree(text);
            let span = file.root.entry("a").expect("there").value.span.clone();
            let offset = file.source.string_offset(&span, at);
            assert_eq!(&file.source.text[offset..], expected, "{text}");
        }
    }

    #[test]
    fn every_offset_of_every_string_is_inside_the_file() {
        let file = tree("a = \"\\\\\\\"é\\U0001F600\"");
        let span = file.root.entry("a").expect("there").value.span.clone();
        for at in 0..40 {
            let offset = file.source.string_offset(&span, at);
            assert!(file.source.text.is_char_boundary(offset) && offset <= span.end);
        }
    }

    #[test]
    fn syntax_errors_have_a_position_and_all_are_told() {
        let (file, diagnostics) = parse("t.toml", "a = *\nb = 1\nb = 2\n");
        assert!(file.is_none());
        assert!(diagnostics.len() >= 2, "{diagnostics:?}");
        assert_eq!((diagnostics[0].line, diagnostics[0].column), (1, 5));
    }

    #[test]
    fn columns_count_characters() {
        let source = Source::new("t", "é = 1\nüü = 2");
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(2), (1, 2));
        assert_eq!(source.position(7), (2, 1));
        assert_eq!(source.position(9), (2, 2));
        assert_eq!(source.position(10), (2, 2), "inside a character is that character");
        assert_eq!(source.position(999), (2, 7));
    }
}

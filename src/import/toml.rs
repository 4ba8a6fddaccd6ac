//! The TOML that comes out: tables in order, with comments, and for each line the place it came from, so that what is wrong with it can
//! be said of haproxy.cfg. Knows nothing of keywords.

use super::source::Place;
use super::words;

/// A value.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Val {
    Flag(bool),
    Int(i64),
    Text(String),
    List(Vec<Val>),
    Table(Vec<(String, Val)>),
}

impl Val {
    pub(super) fn text(text: impl Into<String>) -> Val {
        Val::Text(text.into())
    }

    pub(super) fn texts(texts: &[String]) -> Val {
        match texts {
            [one] => Val::Text(one.clone()),
            many => Val::List(many.iter().cloned().map(Val::Text).collect()),
        }
    }

    pub(super) fn write(&self, out: &mut String) {
        match self {
            Val::Flag(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Val::Int(number) => out.push_str(&number.to_string()),
            Val::Text(text) => write_text(&words::to_config(text), out),
            Val::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { ", " });
                    item.write(out);
                }
                out.push(']');
            }
            Val::Table(entries) => {
                out.push_str("{ ");
                for (index, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { ", " });
                    out.push_str(&key_text(key));
                    out.push_str(" = ");
                    value.write(out);
                }
                out.push_str(" }");
            }
        }
    }
}

/// A string as a person writes it: literal where it has backslashes or quotes, if TOML allows.
fn write_text(text: &str, out: &mut String) {
    let literal = text.contains(['\\', '"']) && !text.contains('\'') && !text.chars().any(char::is_control);
    if literal {
        out.push('\'');
        out.push_str(text);
        out.push('\'');
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A key, quoted if it has to be.
fn key_text(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare {
        return key.to_owned();
    }
    let mut out = String::new();
    write_text(key, &mut out);
    out
}

/// One `key = value`. The key is a path: `["timeout", "client"]`.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) path: Vec<String>,
    pub(super) value: Item,
    pub(super) place: Place,
    pub(super) comments: Vec<String>,
}

/// What stands behind a key.
#[derive(Clone, Debug)]
pub(super) enum Item {
    One(Val),
    /// A list whose entries stand on lines of their own.
    Lines(Vec<Line>),
}

/// An entry of such a list.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) value: Val,
    pub(super) place: Place,
    pub(super) comments: Vec<String>,
}

/// A table with a header.
#[derive(Clone, Default, Debug)]
pub(super) struct Table {
    pub(super) header: Vec<String>,
    pub(super) place: Place,
    pub(super) comments: Vec<String>,
    settings: Vec<Setting>,
}

impl Table {
    pub(super) fn new(header: &[&str], place: Place, comments: Vec<String>) -> Table {
        Table {
            header: header.iter().map(|s| (*s).to_owned()).collect(),
            place,
            comments,
            settings: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }

    pub(super) fn get(&self, path: &[&str]) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.path == path)
    }

    /// Sets a key; a later value replaces an earlier one.
    pub(super) fn set(&mut self, path: &[&str], value: Val, place: Place, comments: &[String]) {
        let setting = Setting {
            path: path.iter().map(|s| (*s).to_owned()).collect(),
            value: Item::One(value),
            place,
            comments: comments.to_vec(),
        };
        match self.settings.iter_mut().find(|other| other.path == setting.path) {
            Some(other) => *other = setting,
            None => self.settings.push(setting),
        }
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, path: &[&str]) {
        self.settings.retain(|setting| setting.path != path);
    }

    /// Puts these keys behind all others, in the order that they have.
    pub(super) fn last(&mut self, is_last: impl Fn(&str) -> bool) {
        self.settings.sort_by_key(|setting| setting.path.first().is_some_and(|key| is_last(key)));
    }

    /// Adds to a list of texts, which is a plain text as long as there is one.
    pub(super) fn add_text(&mut self, path: &[&str], text: &str, place: Place, comments: &[String]) {
        let value = Val::text(text);
        match self.settings.iter_mut().find(|other| other.path == path) {
            Some(Setting { value: Item::One(Val::List(list)), .. }) => list.push(value),
            Some(Setting { value: Item::One(one), .. }) => *one = Val::List(vec![one.clone(), value]),
            _ => self.set(path, value, place, comments),
        }
    }

    /// Adds an entry to a list; the key is a path with dots.
    pub(super) fn push(&mut self, key: &str, value: Val, place: Place, comments: &[String]) {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        let line = Line { value, place, comments: comments.to_vec() };
        match self.settings.iter_mut().find(|other| other.path == path) {
            Some(Setting { value: Item::Lines(lines), .. }) => lines.push(line),
            // A list says more than the flag that was there.
            Some(other) => other.value = Item::Lines(vec![line]),
            None => {
                let value = Item::Lines(vec![line]);
                self.settings.push(Setting { path, value, place, comments: Vec::new() });
            }
        }
    }
}

/// Whether a list needs no brackets.
fn is_one_text(lines: &[Line]) -> bool {
    matches!(lines, [Line { value: Val::Text(_), .. }])
}

/// The text, and for each of its lines where it came from.
#[derive(Default, Debug)]
pub(super) struct Writer {
    pub(super) text: String,
    /// Index: line of the text, from 0.
    pub(super) origins: Vec<Place>,
}

impl Writer {
    fn line(&mut self, text: &str, place: Place) {
        self.text.push_str(text);
        self.text.push('\n');
        self.origins.push(place);
    }

    fn comments(&mut self, comments: &[String], indent: &str, place: Place) {
        for comment in comments {
            // `## so` stays as it is.
            let space = if comment.is_empty() || comment.starts_with('#') { "" } else { " " };
            // A comment of TOML may hold no control characters but tabs.
            let comment: String =
                comment.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
            self.line(&format!("{indent}#{space}{comment}"), place);
        }
    }

    pub(super) fn table(&mut self, table: &Table) {
        if !self.text.is_empty() {
            self.line("", table.place);
        }
        self.comments(&table.comments, "", table.place);
        let header: Vec<String> = table.header.iter().map(|part| key_text(part)).collect();
        self.line(&format!("[{}]", header.join(".")), table.place);
        for setting in &table.settings {
            self.comments(&setting.comments, "", setting.place);
            let key: Vec<String> = setting.path.iter().map(|part| key_text(part)).collect();
            let mut text = format!("{} = ", key.join("."));
            match &setting.value {
                Item::One(value) => {
                    value.write(&mut text);
                    self.line(&text, setting.place);
                }
                Item::Lines(lines) if is_one_text(lines) => {
                    self.comments(&lines[0].comments, "", lines[0].place);
                    lines[0].value.write(&mut text);
                    self.line(&text, lines[0].place);
                }
                Item::Lines(lines) => {
                    self.line(&format!("{text}["), setting.place);
                    for line in lines {
                        self.comments(&line.comments, "  ", line.place);
                        let mut text = "  ".to_owned();
                        line.value.write(&mut text);
                        text.push(',');
                        self.line(&text, line.place);
                    }
                    self.line("]", setting.place);
                }
            }
        }
    }
}

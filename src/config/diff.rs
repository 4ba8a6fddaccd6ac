//! The difference between two configurations in the operator's terms: objects and keywords, not lines. Order, comments and
//! spelling of a file do not matter. Pure; `shardgate plan` prints it.

use std::fmt::{self, Write as _};

use crate::config::file::{Data, File, Table, Value};

/// Keywords whose values are never shown.
const SECRET: &[&str] = &["password", "dynamic-cookie-key", "secret", "key"];
/// Sections whose tables are objects with names.
const NAMED: &[&str] = &["frontend", "listen", "backend", "server", "userlist", "http-errors", "node"];

/// One difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The object: `backend.app.server.s1`, `defaults`.
    pub object: String,
    /// What happens to it.
    pub what: What,
}

/// What happens to an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// A keyword has another value; `None`: it is not set.
    Field {
        /// The keyword, with its way inside the object: `timeout.client`.
        keyword: String,
        /// The value before.
        from: Option<String>,
        /// The value after.
        to: Option<String>,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = &self.object;
        match &self.what {
            What::Added => write!(f, "+ {object}"),
            What::Removed => write!(f, "- {object}"),
            What::Field { keyword, from, to } => {
                let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(not set)".to_owned());
                write!(f, "~ {object}  {keyword}: {} -> {}", shown(from), shown(to))
            }
        }
    }
}

/// Everything in which two configurations differ, in the order of the new file; what is gone comes last of its section.
pub fn changes(old: &File, new: &File) -> Vec<Change> {
    let mut out = Vec::new();
    tables(&Place::default(), &old.root, &new.root, &mut out);
    out
}

/// Where the comparison is.
#[derive(Clone, Default)]
struct Place {
    object: String,
    keyword: String,
    /// The keys here are names of objects.
    names: bool,
}

impl Place {
    fn enter(&self, key: &str) -> Place {
        let is_top = self.object.is_empty();
        let names =
            !self.names && NAMED.contains(&key) && (is_top || (key == "server" && self.keyword.is_empty()));
        if is_top || self.names || names {
            return Place { object: join(&self.object, key), keyword: String::new(), names };
        }
        Place { object: self.object.clone(), keyword: join(&self.keyword, key), names: false }
    }
}

fn join(before: &str, key: &str) -> String {
    if before.is_empty() { key.to_owned() } else { format!("{before}.{key}") }
}

fn tables(place: &Place, old: &Table, new: &Table, out: &mut Vec<Change>) {
    for entry in &new.entries {
        let inner = place.enter(&entry.key);
        compare(&inner, old.entry(&entry.key).map(|e| &e.value), Some(&entry.value), place.names, out);
    }
    for entry in old.entries.iter().filter(|entry| new.entry(&entry.key).is_none()) {
        compare(&place.enter(&entry.key), Some(&entry.value), None, place.names, out);
    }
}

/// `is_object`: the value is an object with a name, and no part of one.
fn compare(place: &Place, old: Option<&Value>, new: Option<&Value>, is_object: bool, out: &mut Vec<Change>) {
    static NOTHING: Table = Table { entries: Vec::new() };
    match (old.map(|v| &v.data), new.map(|v| &v.data)) {
        (Some(Data::Table(old)), Some(Data::Table(new))) => tables(place, old, new, out),
        (None, Some(Data::Table(_))) if is_object => push(place, What::Added, out),
        (Some(Data::Table(_)), None) if is_object => push(place, What::Removed, out),
        (None, Some(Data::Table(new))) => tables(place, &NOTHING, new, out),
        (Some(Data::Table(old)), None) => tables(place, old, &NOTHING, out),
        (Some(Data::Array(a)), Some(Data::Array(b))) => lists(place, a, b, out),
        (old, new) => field(place, &place.keyword, old.map(show), new.map(show), out),
    }
}

/// Lists differ by what came and what went; if only the order changed, the whole list is shown.
fn lists(place: &Place, old: &[Value], new: &[Value], out: &mut Vec<Change>) {
    let (old, new): (Vec<String>, Vec<String>) =
        (old.iter().map(|v| show(&v.data)).collect(), new.iter().map(|v| show(&v.data)).collect());
    if old == new {
        return;
    }
    let (mut gone, mut come) = (old.clone(), Vec::new());
    for item in &new {
        match gone.iter().position(|other| other == item) {
            Some(at) => drop(gone.remove(at)),
            None => come.push(item.clone()),
        }
    }
    if gone.is_empty() && come.is_empty() {
        let all = |items: &[String]| format!("[{}]", items.join(", "));
        return field(place, &place.keyword, Some(all(&old)), Some(all(&new)), out);
    }
    let keyword = format!("{}[]", place.keyword);
    let pairs = gone.len().max(come.len());
    for at in 0..pairs {
        field(place, &keyword, gone.get(at).cloned(), come.get(at).cloned(), out);
    }
}

fn field(place: &Place, keyword: &str, from: Option<String>, to: Option<String>, out: &mut Vec<Change>) {
    if from == to {
        return;
    }
    let last = keyword.rsplit('.').next().unwrap_or(keyword);
    let hide = |value: Option<String>| match SECRET.contains(&last) {
        true => value.map(|_| "(secret)".to_owned()),
        false => value,
    };
    push(place, What::Field { keyword: keyword.to_owned(), from: hide(from), to: hide(to) }, out);
}

fn push(place: &Place, what: What, out: &mut Vec<Change>) {
    out.push(Change { object: place.object.clone(), what });
}

/// The value of a keyword on one line, as TOML writes it; secrets are not shown.
pub fn shown(keyword: &str, data: &Data) -> String {
    if SECRET.contains(&keyword) { "(secret)".to_owned() } else { show(data) }
}

/// A value on one line, as TOML writes it.
fn show(data: &Data) -> String {
    match data {
        Data::String(text) => format!("{text:?}"),
        Data::Integer(n) => n.to_string(),
        Data::Boolean(b) => b.to_string(),
        Data::Float | Data::Datetime => data.type_name().to_owned(),
        Data::Array(items) => {
            format!("[{}]", items.iter().map(|v| show(&v.data)).collect::<Vec<_>>().join(", "))
        }
        Data::Table(table) => {
            let mut out = String::from("{ ");
            for (at, entry) in table.entries.iter().enumerate() {
                let comma = if at == 0 { "" } else { ", " };
                let value = match SECRET.contains(&entry.key.as_str()) {
                    true => "(secret)".to_owned(),
                    false => show(&entry.value.data),
                };
                // Writing to a string cannot fail.
                let _ = write!(out, "{comma}{} = {value}", entry.key);
            }
            out + " }"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::parse;

    fn diff(old: &str, new: &str) -> Vec<String> {
        let file = |text: &str| parse("t.toml", text).0.expect("it is TOML");
        changes(&file(old), &file(new)).iter().map(ToString::to_string).collect()
    }

    const OLD: &str = "[defaults]\ntimeout = { client = \"1s\", server = \"2s\" }\n[backend.app]\nserver.s1 = { address = \"a:1\", \
                       weight = 1 }\nserver.s2.address = \"b:1\"\n[frontend.web]\nbind = \":80\"\nrules = [{ deny = true }, { x = 1 }]\n";

    #[test]
    fn form_and_order_do_not_matter() {
        let other = "# a comment\n[frontend.web]\nrules = [\n { deny = true },\n { x = 1 } ]\nbind = ':80'\n[backend.app.server.s2]\naddress \
                     = \"b:1\"\n[backend.app.server.s1]\nweight = 1\naddress = \"a:1\"\n[defaults.timeout]\nserver = \"2s\"\nclient = \"1s\"\n";
        assert_eq!(diff(OLD, other), Vec::<String>::new());
    }

    #[test]
    fn objects_and_keywords_are_named() {
        let new = "[defaults]\ntimeout = { client = \"5s\" }\n[backend.app]\nserver.s1 = { address = \"a:1\", weight = 7 }\nserver.s3.address \
                   = \"c:1\"\n[backend.new]\n[frontend.web]\nbind = [\":80\", \":81\"]\nrules = [{ x = 1 }, { y = 2 }]\n";
        assert_eq!(
            diff(OLD, new),
            [
                "~ defaults  timeout.client: \"1s\" -> \"5s\"",
                "~ defaults  timeout.server: \"2s\" -> (not set)",
                "~ backend.app.server.s1  weight: 1 -> 7",
                "+ backend.app.server.s3",
                "- backend.app.server.s2",
                "+ backend.new",
                "~ frontend.web  bind: \":80\" -> [\":80\", \":81\"]",
                "~ frontend.web  rules[]: { deny = true } -> { y = 2 }",
            ]
        );
    }

    #[test]
    fn the_order_of_rules_is_their_meaning_and_secrets_are_not_shown() {
        let with = |rules: &str, password: &str| {
            format!("[frontend.a]\nrules = [{rules}]\n[userlist.u.user.x]\npassword = \"{password}\"\n")
        };
        assert_eq!(
            diff(&with("1, 2", "old"), &with("2, 1", "new")),
            ["~ frontend.a  rules: [1, 2] -> [2, 1]", "~ userlist.u  user.x.password: (secret) -> (secret)"]
        );
    }
}

//! Where the values of an object stand in a configuration file: its own, and those that it inherits. For answers to "where does
//! this come from"; what the values mean is `resolve`'s. Pure; the admin socket's `show server` and `adopt` ask.

use ahash::AHashSet;

use crate::config::diff;
use crate::config::file::{Data, Entry, File, Table};

/// A keyword with its value, as it stands in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The keyword, with its way inside the object: `agent.port`.
    pub keyword: String,
    /// Its value as TOML writes it; secrets are not shown.
    pub value: String,
    /// The section that it is inherited from; `None`: it is the object's own.
    pub inherited: Option<String>,
    /// `file:line:col`.
    pub origin: String,
}

/// A section of the file.
pub struct Object<'a> {
    /// As its header names it: `backend.app.server.s1`.
    pub name: String,
    /// `file:line:col` of it.
    pub origin: String,
    file: &'a File,
    /// Its own table, then those that it inherits from, with what to call them.
    layers: Vec<(String, &'a Table)>,
}

/// The section of a server.
pub fn server<'a>(file: &'a File, backend: &str, server: &str) -> Option<Object<'a>> {
    let (section, proxy) = proxy(file, &["backend", "listen"], backend)?;
    let proxy = table(proxy)?;
    let entry = table(proxy.entry("server")?)?.entry(server)?;
    let defaults = file.root.entry("defaults").and_then(table);
    let default_server = |table: &'a Table| self::table(table.entry("default-server")?);
    let mut layers = vec![(String::new(), table(entry)?)];
    layers.extend(default_server(proxy).map(|found| (format!("{section}.default-server"), found)));
    layers
        .extend(defaults.and_then(default_server).map(|found| ("defaults.default-server".to_owned(), found)));
    let name = format!("{section}.server.{}", quoted(server));
    Some(Object { name, origin: file.source.origin(entry.key_span.start), file, layers })
}

/// The section of a frontend.
pub fn frontend<'a>(file: &'a File, name: &str) -> Option<Object<'a>> {
    let (section, entry) = proxy(file, &["frontend", "listen"], name)?;
    let mut layers = vec![(String::new(), table(entry)?)];
    layers.extend(file.root.entry("defaults").and_then(table).map(|found| ("defaults".to_owned(), found)));
    Some(Object { name: section, origin: file.source.origin(entry.key_span.start), file, layers })
}

/// A section without a name, there or not.
pub fn section<'a>(file: &'a File, name: &str) -> Object<'a> {
    static NOTHING: Table = Table { entries: Vec::new() };
    let entry = file.root.entry(name);
    let at = entry.map_or(file.source.text.len(), |entry| entry.key_span.start);
    let layers = vec![(String::new(), entry.and_then(table).unwrap_or(&NOTHING))];
    Object { name: name.to_owned(), origin: file.source.origin(at), file, layers }
}

fn proxy<'a>(file: &'a File, words: &[&str], name: &str) -> Option<(String, &'a Entry)> {
    words.iter().find_map(|word| {
        let entry = table(file.root.entry(word)?)?.entry(name)?;
        Some((format!("{word}.{}", quoted(name)), entry))
    })
}

fn table(entry: &Entry) -> Option<&Table> {
    match &entry.value.data {
        Data::Table(table) => Some(table),
        _ => None,
    }
}

/// A part of a key: bare where TOML allows it.
fn quoted(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match name.chars().all(bare) && !name.is_empty() {
        true => name.to_owned(),
        false => toml::Value::String(name.to_owned()).to_string(),
    }
}

impl Object<'_> {
    /// Where a value comes from; `None`: it is the default.
    pub fn setting(&self, keyword: &str) -> Option<Setting> {
        self.settings().into_iter().find(|setting| setting.keyword == keyword)
    }

    /// All that is set for it, in the order of the file, its own first. What it inherits and sets itself is its own.
    pub fn settings(&self) -> Vec<Setting> {
        let (mut out, mut seen) = (Vec::new(), AHashSet::new());
        for (section, layer) in &self.layers {
            let mut found = Vec::new();
            self.collect(layer, "", section, &mut found);
            found.retain(|setting| seen.insert(setting.keyword.clone()));
            out.extend(found);
        }
        out
    }

    fn collect(&self, table: &Table, before: &str, section: &str, out: &mut Vec<Setting>) {
        for entry in &table.entries {
            let keyword = match before {
                "" => entry.key.clone(),
                before => format!("{before}.{}", entry.key),
            };
            match &entry.value.data {
                // They have answers of their own.
                Data::Table(_)
                    if before.is_empty() && ["server", "default-server"].contains(&&*entry.key) => {}
                Data::Table(inner) => self.collect(inner, &keyword, section, out),
                data => out.push(Setting {
                    value: diff::shown(&entry.key, data),
                    keyword,
                    inherited: (!section.is_empty()).then(|| section.to_owned()),
                    origin: self.file.source.origin(entry.key_span.start),
                }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::parse;

    #[test]
    fn each_value_of_a_server_is_found_where_it_stands() {
        let text = "[defaults.default-server]\ninter = \"2s\"\nrise = 3\n[backend.app]\ndefault-server = { inter = \"5s\", weight = 7 }\n\
                    [backend.app.server.\"s 1\"]\naddress = \"10.0.0.1:80\"\nweight = 9\nagent.port = 1\n";
        let file = parse("c.toml", text).0.expect("it is TOML");
        let object = server(&file, "app", "s 1").expect("it is there");
        assert_eq!((&*object.name, &*object.origin), ("backend.app.server.\"s 1\"", "c.toml:6:21"));
        let told: Vec<String> = object
            .settings()
            .iter()
            .map(|s| {
                format!("{}={} {} {}", s.keyword, s.value, s.inherited.as_deref().unwrap_or("own"), s.origin)
            })
            .collect();
        assert_eq!(
            told,
            [
                "address=\"10.0.0.1:80\" own c.toml:7:1",
                "weight=9 own c.toml:8:1",
                "agent.port=1 own c.toml:9:7",
                "inter=\"5s\" backend.app.default-server c.toml:5:20",
                "rise=3 defaults.default-server c.toml:3:1",
            ]
        );
        assert!(server(&file, "app", "s2").is_none() && server(&file, "ap", "s 1").is_none());
        assert_eq!(section(&file, "global").settings(), []);
    }

    #[test]
    fn a_listen_is_frontend_and_backend_and_secrets_stay_hidden() {
        let text = "[listen.web]\nmaxconn = 5\nserver.s1 = { address = \"a:1\", password = \"x\" }\n";
        let file = parse("c.toml", text).0.expect("it is TOML");
        let web = frontend(&file, "web").expect("it is there");
        assert_eq!((web.name.clone(), web.settings().len()), ("listen.web".to_owned(), 1));
        let object = server(&file, "web", "s1").expect("it is there");
        assert_eq!(object.name, "listen.web.server.s1");
        assert_eq!(object.setting("password").map(|s| s.value), Some("(secret)".to_owned()));
    }
}

//! `crt-store`: certificates whose keys stand elsewhere, and names for them. A bind that says `crt "@web/site"` shows the one that
//! `load ... alias "site"` of the store `web` means.

use super::proxy::{Outcome, tell};
use super::report::Report;
use super::source::Section;
use super::tls::path;
use super::toml::Val;

/// Certificates by the names that binds have for them.
#[derive(Default)]
pub(super) struct Stores {
    known: Vec<(Vec<String>, Loaded)>,
}

/// What `load` says.
#[derive(Clone, Default)]
struct Loaded {
    certificate: String,
    key: Option<String>,
    ocsp: Option<String>,
}

impl Stores {
    /// Reads the sections. `crt_base`, `key_base`: where relative paths begin, unless a store says otherwise.
    pub(super) fn of(sections: &[Section], crt_base: Option<&str>, key_base: Option<&str>) -> Stores {
        let mut stores = Stores::default();
        for section in sections.iter().filter(|s| s.kind == "crt-store") {
            let last = |key: &str| {
                let said = section.directives.iter().rfind(|d| d.words[0] == key);
                said.and_then(|d| d.words.get(1)).map(String::as_str)
            };
            let (crt_base, key_base) = (last("crt-base").or(crt_base), last("key-base").or(key_base));
            for d in section.directives.iter().filter(|d| d.words[0] == "load") {
                let of = |key: &str| {
                    let at = d.words.iter().position(|word| word == key)?;
                    d.words.get(at + 1).map(String::as_str)
                };
                let Some(certificate) = of("crt") else { continue };
                let loaded = Loaded {
                    certificate: path(crt_base, certificate),
                    key: of("key").map(|key| path(key_base.or(crt_base), key)),
                    ocsp: of("ocsp").map(|ocsp| path(crt_base, ocsp)),
                };
                let named = |name: &str| format!("@{}/{name}", section.name);
                let mut names = vec![loaded.certificate.clone(), named(certificate)];
                names.extend(of("alias").map(named));
                stores.known.push((names, loaded));
            }
        }
        stores
    }

    /// What a name means: the path of the certificate, or a table that says where its key is; `None`: nothing.
    pub(super) fn find(&self, name: &str) -> Option<Val> {
        let (_, loaded) = self.known.iter().find(|(names, _)| names.iter().any(|known| known == name))?;
        if loaded.key.is_none() && loaded.ocsp.is_none() {
            return Some(Val::text(&loaded.certificate));
        }
        let mut entries = vec![("certificate".to_owned(), Val::text(&loaded.certificate))];
        for (name, path) in [("key", &loaded.key), ("ocsp", &loaded.ocsp)] {
            entries.extend(path.as_ref().map(|path| (name.to_owned(), Val::text(path))));
        }
        Some(Val::Table(entries))
    }
}

/// Says what becomes of the lines of a section.
pub(super) fn tell_of(section: &Section, report: &mut Report) {
    for d in &section.directives {
        let words: Vec<&str> = d.words.iter().map(String::as_str).collect();
        let outcome = match words.as_slice() {
            ["crt-base" | "key-base", _] => Outcome::Exact,
            ["load", rest @ ..] => load(rest),
            _ => Outcome::Wrong("a crt-store has crt-base, key-base and load".to_owned()),
        };
        tell(report, d.place, &d.words.join(" "), outcome);
    }
}

fn load(words: &[&str]) -> Outcome {
    let mut near = Vec::new();
    if !words.contains(&"crt") {
        return Outcome::Wrong("load needs a certificate: load crt FILE".to_owned());
    }
    for pair in words.chunks(2) {
        match pair {
            ["crt" | "key" | "ocsp" | "alias", _] | ["ocsp-update", "off"] => {}
            ["issuer" | "sctl", _] => near.push(format!("{}: it is not needed here", pair[0])),
            ["ocsp-update", "on"] => {
                near.push("ocsp-update: write it at the binds that show the certificate".to_owned());
            }
            ["acme" | "domains", _] => {
                return Outcome::No("certificates come from files; run an ACME client beside it".to_owned());
            }
            [word, _] => return Outcome::Wrong(format!("\"{word}\" is no option of load")),
            _ => return Outcome::Wrong(format!("{} needs a value", pair[0])),
        }
    }
    if near.is_empty() { Outcome::Exact } else { Outcome::Near(near.join("; ")) }
}

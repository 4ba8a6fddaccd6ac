//! Which bind shows which certificate to whom: lines as the configuration and operators list them, and the names that come of
//! them. Used by `store`; asked by `server` for each handshake.

use std::path::PathBuf;

use ahash::AHashMap;

use super::store::Entry;

/// A certificate that a bind shows.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// The number of the certificate.
    pub(super) certificate: u32,
    /// The file or directory that is configured, or the list that an operator added it to.
    pub(super) list: PathBuf,
    /// Names that it is shown for, `!` in front of those that it is not; empty: those in the certificate.
    pub(super) names: Vec<String>,
    /// The number of its settings among those of the bind; 0: the bind's own.
    pub(super) settings: u16,
}

/// What is shown for a name: a certificate, and the settings of its line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shown {
    pub(super) certificate: u32,
    pub(super) settings: u16,
}

/// What a bind shows to whom.
#[derive(Clone, Debug, Default)]
pub(super) struct BindNames {
    exact: AHashMap<Box<str>, Vec<Shown>>,
    /// By what stands behind `*`, the dot included.
    wildcard: AHashMap<Box<str>, Vec<Shown>>,
    /// For names that there is nothing for; none with `strict-sni`.
    default: Vec<Shown>,
    /// Names that no wildcard covers, though it would.
    excluded: AHashMap<Box<str>, Vec<u32>>,
}

impl BindNames {
    pub(super) fn new(strict_sni: bool, lines: &[Line], entries: &[Entry]) -> BindNames {
        let mut names = BindNames::default();
        let certificate = |number: u32| &entries[number as usize].certificate;
        for line in lines {
            let shown = Shown { certificate: line.certificate, settings: line.settings };
            let has_own = line.names.iter().any(|name| !name.starts_with('!'));
            let all = if has_own { &line.names } else { &certificate(line.certificate).names };
            for name in all.iter().filter(|name| !name.starts_with('!')) {
                let list = match name.strip_prefix('*') {
                    // What is shown where nothing else is: see below.
                    Some("") => continue,
                    Some(suffix) => names.wildcard.entry(suffix.into()).or_default(),
                    None => names.exact.entry(name.as_str().into()).or_default(),
                };
                let key_type = |shown: &Shown| certificate(shown.certificate).key_type;
                // The first of a type for a name stays.
                if !list.iter().any(|seen| key_type(seen) == key_type(&shown)) {
                    list.push(shown);
                }
            }
            for name in line.names.iter().filter_map(|name| name.strip_prefix('!')) {
                names.excluded.entry(name.into()).or_default().push(line.certificate);
            }
        }
        let by_type = |shown: &Shown| certificate(shown.certificate).key_type;
        for list in names.exact.values_mut().chain(names.wildcard.values_mut()) {
            list.sort_by_key(by_type);
        }
        if !strict_sni && let Some(first) = lines.first() {
            let is_named = |line: &&Line| line.names.iter().any(|name| name == "*");
            let has_named = lines.iter().any(|line| is_named(&line));
            // The default may come in several types too: those with the names of the first.
            let same = &certificate(first.certificate).names;
            let is_like_first = |line: &&Line| certificate(line.certificate).names == *same;
            let alike =
                lines.iter().filter(|line| if has_named { is_named(line) } else { is_like_first(line) });
            let shown = alike.map(|line| Shown { certificate: line.certificate, settings: line.settings });
            names.default = shown.collect();
            // The first of a type stays the first.
            names.default.sort_by_key(by_type);
        }
        names
    }

    /// The certificates for a name, best type first; empty: there is none, and no default.
    pub(super) fn find(&self, sni: Option<&str>) -> &[Shown] {
        if let Some(sni) = sni {
            if let Some(found) = self.exact.get(sni) {
                return found;
            }
            // A wildcard stands for one label (RFC 6125 6.4.3).
            if let Some(dot) = sni.find('.')
                && let Some(found) = self.wildcard.get(&sni[dot..])
                && !self.is_excluded(sni, found)
            {
                return found;
            }
        }
        &self.default
    }

    fn is_excluded(&self, sni: &str, found: &[Shown]) -> bool {
        !self.excluded.is_empty()
            && self.excluded.get(sni).is_some_and(|not| found.iter().any(|f| not.contains(&f.certificate)))
    }
}

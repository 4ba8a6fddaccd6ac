//! The body of the fuzz target of the importer: any text, in any encoding, comes out as TOML and a report whose places are in the files.
//!
//! Not called by the product; see `proto::fuzz`.

use super::import;
use crate::config::{self, Env};
use crate::proto::fuzz::Body;

/// Every target of this layer, as `proto::fuzz` lists its own.
pub const TARGETS: &[(&str, Body)] = &[("haproxy_cfg", haproxy_cfg)];

/// Panics when a property does not hold for these bytes: two files, with a byte 0 between them.
pub fn haproxy_cfg(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (first, second) = text.split_once('\0').unwrap_or((&text, ""));
    let files = [("first.cfg", first), ("second.cfg", second)];
    let owned = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let env = Env {
        base: Default::default(),
        variable: Box::new(|name| (name.len() == 4).then(|| "192.0.2.10 b".to_owned())),
        read: Box::new(|_| Ok(b"10.0.0.0/8\n".to_vec())),
        cpus: vec![0, 1],
        hostname: "lb".to_owned(),
    };
    let imported = import(&owned, &env);
    let is_place = |file: &str, line: usize| {
        files.iter().any(|(name, text)| *name == file && (1..=text.lines().count().max(1)).contains(&line))
    };
    for note in imported.report.notes() {
        assert!(is_place(&note.file, note.line), "{note:?}");
    }
    assert_eq!(imported.origins.len(), imported.toml.lines().count(), "a place for each line");
    let file = config::file::parse("x.toml", &imported.toml);
    assert!(file.0.is_some(), "it is TOML: {:?}\n{}", file.1, imported.toml);
    // What it means may be wrong, and then it says where.
    let (_, diagnostics) = config::load("x.toml", &imported.toml, &env);
    for diagnostic in imported.diagnostics(&diagnostics).iter().filter(|d| d.line > 0) {
        assert!(is_place(&diagnostic.file, diagnostic.line), "{diagnostic}\n{}", imported.toml);
    }
    // The same import again is the same.
    assert_eq!(import(&owned, &env).toml, imported.toml);
}

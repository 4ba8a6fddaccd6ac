//! Every keyword of HAProxy's manual and what becomes of it: the tables `coverage/*.txt`, one line a keyword. They are behind unknown
//! keywords, wrong sections, the texts of the report and docs/HAPROXY_COMPATIBILITY.md. What `mapped` ones become is decided in the other files.

use std::sync::LazyLock;

/// What becomes of a keyword.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It is translated; the translation may still say that it cannot do what the arguments ask for.
    Mapped,
    /// Left out; this is why nobody misses it.
    Ignored(&'static str),
    /// Left out, and that can be noticed; this is how.
    Near(&'static str),
    /// Refused; this is what to do instead.
    No(&'static str),
}

/// A keyword, the sections it may stand in (`D`efaults, `F`rontend, `L`isten, `B`ackend) and its fate.
pub(super) type Row = (&'static str, &'static str, Fate);

/// Keywords of proxies.
pub(super) fn proxy() -> &'static [Row] {
    static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| rows(include_str!("coverage/proxy.txt")));
    &ROWS
}

/// Keywords of `global`.
pub(super) fn global() -> &'static [Row] {
    static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| rows(include_str!("coverage/global.txt")));
    &ROWS
}

/// Options of `bind`.
pub(super) fn bind() -> &'static [Row] {
    static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| rows(include_str!("coverage/bind.txt")));
    &ROWS
}

/// Options of `server` and `default-server`.
pub(super) fn server() -> &'static [Row] {
    static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| rows(include_str!("coverage/server.txt")));
    &ROWS
}

fn rows(text: &'static str) -> Vec<Row> {
    lines(text).filter_map(row).collect()
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// `None`: the line is none; a test looks for those.
fn row(line: &'static str) -> Option<Row> {
    let mut cells = line.split(" | ");
    let (keyword, sections) = (cells.next()?, cells.next()?);
    let fate = match (cells.next()?, cells.next()) {
        ("mapped", None) => Fate::Mapped,
        ("ignored", Some(why)) => Fate::Ignored(why),
        ("near", Some(how)) => Fate::Near(how),
        ("no", Some(instead)) => Fate::No(instead),
        _ => return None,
    };
    cells.next().is_none().then_some((keyword, sections, fate))
}

/// The row of the longest keyword that a directive begins with.
pub(super) fn find(table: &'static [Row], words: &[String]) -> Option<&'static Row> {
    table.iter().filter(|(keyword, ..)| begins(words, keyword)).max_by_key(|(keyword, ..)| keyword.len())
}

/// Whether the words begin with those of a keyword.
pub(super) fn begins(words: &[String], keyword: &str) -> bool {
    let mut parts = words.iter();
    keyword.split(' ').all(|part| parts.next().is_some_and(|word| word == part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_row_and_every_keyword_stands_once() {
        for (text, table) in [
            (include_str!("coverage/proxy.txt"), proxy()),
            (include_str!("coverage/global.txt"), global()),
            (include_str!("coverage/bind.txt"), bind()),
            (include_str!("coverage/server.txt"), server()),
        ] {
            for line in lines(text) {
                let (keyword, sections, _) = row(line).unwrap_or_else(|| panic!("no row: {line}"));
                assert_eq!(table.iter().filter(|(other, ..)| *other == keyword).count(), 1, "{keyword}");
                assert!(sections == "-" || sections.bytes().all(|b| b"DFLB".contains(&b)), "{line}");
            }
        }
    }
}

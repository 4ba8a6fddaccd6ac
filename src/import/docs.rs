//! docs/HAPROXY_COMPATIBILITY.md, made from the tables.

use std::fmt::Write as _;

use super::coverage::{self, Fate, Row};
use super::value;
use crate::config::keywords::Scope;

/// The page.
pub fn markdown() -> String {
    let mut out = String::from(HEAD);
    section(
        &mut out,
        "Keywords of proxies",
        coverage::PROXY,
        &[Scope::Frontend, Scope::Listen, Scope::Backend],
    );
    section(&mut out, "Keywords of global", coverage::GLOBAL, &[Scope::Global]);
    section(&mut out, "Options of bind", coverage::BIND, &[Scope::Bind]);
    section(&mut out, "Options of server and default-server", coverage::SERVER, &[Scope::Server]);
    out
}

const HEAD: &str = "# HAProxy compatibility

<!-- Made from src/import/coverage.rs: change that, then UPDATE_GOLDEN=1 cargo test import -->

`shardgate run -f haproxy.cfg` runs HAProxy's configuration, `shardgate import` writes it as TOML, with a report line for each directive that is not
exactly kept. This is every keyword of HAProxy's manual and what becomes of it:

- *translated*: it does what it does in HAProxy; arguments that it cannot have here are said line by line.
- *ignored*: left out, and nobody misses it.
- *approximate*: left out or done in another way, and that can be noticed.
- *unsupported*: refused, with what to do instead.
";

fn section(out: &mut String, title: &str, table: &'static [Row], scopes: &[Scope]) {
    // Writing to a String does not fail.
    let _ = write!(out, "\n## {title}\n\n| keyword | here | |\n|---|---|---|\n");
    for (keyword, _, fate) in table {
        let words: Vec<String> = keyword.split(' ').map(str::to_owned).collect();
        let ours =
            scopes.iter().find_map(|scope| value::keyword(*scope, &words)).map(|(keyword, _)| keyword.key);
        let (state, text) = match fate {
            Fate::Mapped => ("translated", ours.map_or(String::new(), |key| format!("`{key}`"))),
            Fate::Ignored(why) => ("ignored", (*why).to_owned()),
            Fate::Near(how) => ("approximate", (*how).to_owned()),
            Fate::No(instead) => ("unsupported", (*instead).to_owned()),
        };
        let _ = writeln!(out, "| `{keyword}` | {state} | {} |", text.replace('|', "\\|"));
    }
}

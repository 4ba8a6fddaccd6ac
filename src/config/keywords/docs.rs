//! docs/CONFIGURATION.md from the table: what the page says around the table stands in `intro.md`.

use std::fmt::Write;

use super::{Keyword, Scope};

/// The page.
pub fn markdown() -> String {
    let mut page = String::from(include_str!("intro.md"));
    for group in GROUPS {
        // Writing to a String cannot fail; the results are dropped.
        let _ = write!(page, "\n## {}\n\n{}\n", group.title, group.text);
        let mut seen = Vec::new();
        for scope in group.scopes {
            for keyword in super::of(*scope) {
                if !seen.contains(&std::ptr::from_ref(keyword)) {
                    seen.push(std::ptr::from_ref(keyword));
                    entry(&mut page, *scope, keyword);
                }
            }
        }
    }
    page
}

/// Scopes that are documented together because most of their keywords are the same.
struct Group {
    title: &'static str,
    text: &'static str,
    scopes: &'static [Scope],
}

const GROUPS: &[Group] = &[
    Group {
        title: "global",
        text: "`[global]`: the process. Every keyword is optional, and so is the section.",
        scopes: &[Scope::Global],
    },
    Group {
        title: "admin",
        text: "`[admin]`: sockets for `shardgate ctl` and for tools made for HAProxy's.",
        scopes: &[Scope::Admin, Scope::AdminSocket],
    },
    Group {
        title: "frontends and backends",
        text: "`[frontend.NAME]` listens, `[backend.NAME]` has servers, `[listen.NAME]` is both in one. `[defaults]` says what \
               holds in all of them unless they say otherwise themselves.",
        scopes: &[Scope::Frontend, Scope::Backend],
    },
    Group { title: "bind", text: "An entry of `bind` in its long form: a table.", scopes: &[Scope::Bind] },
    Group {
        title: "rules",
        text: "Entries of `connection-rules` and `rules`. They are tried in order. Each has one action and may have one \
               condition. `accept`, `reject`, `silent-drop` and `use-backend` end the evaluation.",
        scopes: &[Scope::Rule, Scope::ConnectionRule, Scope::SetVar],
    },
    Group {
        title: "servers",
        text: "`[backend.NAME.server.NAME]`, or `[listen.NAME.server.NAME]`. What stands in `default-server` of the backend, or \
               of `[defaults]`, holds for all servers that do not say otherwise.",
        scopes: &[Scope::Server],
    },
    Group {
        title: "tcp-check",
        text: "Entries of `tcp-check`: the dialogue of a health check, in order. Each does one thing.",
        scopes: &[Scope::TcpCheck],
    },
];

fn entry(page: &mut String, scope: Scope, keyword: &Keyword) {
    let places: Vec<&str> =
        Scope::ALL.iter().filter(|s| keyword.scopes.contains(**s)).map(|s| s.title()).collect();
    let _ = write!(page, "\n### `{}`\n\n{}\n\n", keyword.key, keyword.help);
    let _ = writeln!(page, "- takes: {}", keyword.kind.describe());
    if !keyword.default.is_empty() {
        let _ = writeln!(page, "- default: {}", keyword.default);
    }
    let _ =
        writeln!(page, "- in: {}", places.iter().map(|p| format!("`{p}`")).collect::<Vec<_>>().join(", "));
    if !keyword.haproxy.is_empty() {
        let _ = writeln!(page, "- HAProxy: `{}`", keyword.haproxy);
    }
    let _ = write!(page, "\n```toml\n{}\n```\n", snippet(scope, keyword).trim_end());
}

/// The example in the surroundings that show where it stands.
fn snippet(scope: Scope, keyword: &Keyword) -> String {
    let example = keyword.example;
    match scope {
        Scope::Global | Scope::Admin | Scope::Defaults => format!("{}\n{example}\n", scope.title()),
        Scope::AdminSocket => {
            format!("[admin]\nsocket = [{{ {} }}]\n", entry_with("path", "/run/a.sock", example))
        }
        Scope::Frontend => format!("[frontend.web]\n{example}\n"),
        Scope::Listen => format!("[listen.web]\n{example}\n"),
        Scope::Backend => format!("[backend.app]\n{example}\n"),
        Scope::Server => format!("[backend.app.server.s1]\n{example}\n"),
        Scope::DefaultServer => format!("[backend.app.default-server]\n{example}\n"),
        Scope::Bind => {
            format!("[frontend.web]\nbind = [{{ {} }}]\n", entry_with("address", "127.0.0.1:8080", example))
        }
        Scope::ConnectionRule => format!("[frontend.web]\nconnection-rules = [\n  {example},\n]\n"),
        Scope::Rule => format!("[frontend.web]\nrules = [\n  {example},\n]\n"),
        Scope::SetVar => format!("[frontend.web]\nrules = [\n  {{ set-var = {{ {example} }} }},\n]\n"),
        Scope::TcpCheck => format!("[backend.app]\ntcp-check = [\n  {example},\n]\n"),
    }
}

fn entry_with(key: &str, value: &str, example: &str) -> String {
    if example.starts_with(key) { example.to_owned() } else { format!("{key} = \"{value}\", {example}") }
}

/// A whole configuration around the example, for the test that loads every one.
#[cfg(test)]
pub(in crate::config) fn whole(scope: Scope, keyword: &Keyword) -> String {
    let part = snippet(scope, keyword);
    let needs =
        |line: &str, text: &str| if part.contains(text) { String::new() } else { format!("{line}\n") };
    let web_bind = needs("bind = \"127.0.0.1:8080\"", "bind =");
    let web_route = needs("default-backend = \"app\"", "default-backend =");
    let timeouts = "timeout = { client = \"30s\", connect = \"5s\", server = \"30s\" }";
    let server = "[backend.app.server.s0]\naddress = \"127.0.0.1:9000\"\ncheck = true\n";
    let frontend = "[frontend.web]\nbind = \"127.0.0.1:8080\"\ndefault-backend = \"app\"\n";
    let defaults = |extra: &str| {
        if extra.contains("timeout.") { String::new() } else { format!("[defaults]\n{timeouts}\n") }
    };
    match scope {
        Scope::Global | Scope::Admin | Scope::AdminSocket => {
            format!("{part}{}{frontend}{server}", defaults(""))
        }
        Scope::Defaults => format!("{part}{frontend}{server}"),
        Scope::Frontend | Scope::Bind | Scope::ConnectionRule | Scope::Rule | Scope::SetVar => {
            format!("{part}{web_bind}{web_route}{}{server}", defaults(""))
        }
        Scope::Listen => {
            let own_server = "[listen.web.server.s0]\naddress = \"127.0.0.1:9000\"\ncheck = true\n";
            format!("{part}{web_bind}{own_server}{}{server}", defaults(""))
        }
        Scope::Server => {
            let address = needs("address = \"127.0.0.1:9001\"", "address =");
            format!("{part}{address}{}{frontend}", defaults(""))
        }
        Scope::Backend | Scope::DefaultServer | Scope::TcpCheck => {
            format!("{part}{server}{}{frontend}", defaults(""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KEYWORDS, Kind};
    use super::*;

    #[test]
    fn every_row_is_documented_once() {
        let page = markdown();
        for keyword in KEYWORDS {
            let wanted = format!("### `{}`\n\n{}\n", keyword.key, keyword.help);
            let rows = KEYWORDS.iter().filter(|k| k.key == keyword.key && k.help == keyword.help).count();
            assert_eq!(page.matches(&wanted).count(), rows, "{}", keyword.key);
        }
    }

    #[test]
    fn rows_are_complete_and_unique() {
        for (index, keyword) in KEYWORDS.iter().enumerate() {
            assert!(keyword.help.ends_with('.') && !keyword.example.is_empty(), "{}", keyword.key);
            for other in &KEYWORDS[..index] {
                let both =
                    Scope::ALL.iter().any(|s| keyword.scopes.contains(*s) && other.scopes.contains(*s));
                assert!(!(both && other.key == keyword.key), "{} has two rows in one scope", keyword.key);
            }
            if let Kind::Table(scope) | Kind::Tables(scope) | Kind::Named(scope) = keyword.kind {
                assert!(super::super::of(scope).next().is_some());
            }
        }
    }
}

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
        coverage::proxy(),
        &[Scope::Frontend, Scope::Listen, Scope::Backend],
    );
    section(&mut out, "Keywords of global", coverage::global(), &[Scope::Global]);
    section(&mut out, "Options of bind", coverage::bind(), &[Scope::Bind, Scope::BindTls]);
    section(
        &mut out,
        "Options of server and default-server",
        coverage::server(),
        &[Scope::Server, Scope::ServerTls],
    );
    out
}

const HEAD: &str = "# HAProxy compatibility

<!-- Made from src/import/coverage/*.txt: change those, then UPDATE_GOLDEN=1 cargo test import -->

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
            Fate::Mapped => match ours {
                Some(key) => ("translated", format!("`{key}`")),
                None if is_translated(keyword) => ("translated", String::new()),
                None => ("unsupported", "not in this version".to_owned()),
            },
            Fate::Ignored(why) => ("ignored", (*why).to_owned()),
            Fate::Near(how) => ("approximate", (*how).to_owned()),
            Fate::No(instead) => ("unsupported", (*instead).to_owned()),
        };
        let _ = writeln!(out, "| `{keyword}` | {state} | {} |", text.replace('|', "\\|"));
    }
}

/// Keywords that are translated by a function of their own and not by the table of keywords alone.
fn is_translated(keyword: &str) -> bool {
    let without = keyword.strip_prefix("no-").map(|rest| vec![rest.to_owned()]);
    OWN.contains(&keyword) || without.is_some_and(|words| value::keyword(Scope::Server, &words).is_some())
}

const OWN: &[&str] = &[
    "declare capture",
    "dispatch",
    "errorloc",
    "http-error",
    "load-server-state-from-file",
    "maxsessrate",
    "option transparent",
    "transparent",
    "reqallow",
    "reqdeny",
    "reqiallow",
    "reqideny",
    "reqisetbe",
    "reqitarpit",
    "reqsetbe",
    "reqtarpit",
    "rspdeny",
    "rspideny",
    "send-proxy-v2-ssl",
    "send-proxy-v2-ssl-cn",
    "ssl-default-server-ciphers",
    "ssl-default-server-ciphersuites",
    "ssl-default-server-curves",
    "ssl-default-server-options",
    "tune.h2.initial-window-size",
    "tune.h2.max-concurrent-streams",
    "appsession",
    "block",
    "capture cookie",
    "capture request header",
    "capture response header",
    "clitimeout",
    "contimeout",
    "srvtimeout",
    "redispatch",
    "timeout clitimeout",
    "timeout contimeout",
    "timeout srvtimeout",
    "disabled",
    "errorfile",
    "errorfiles",
    "force-persist",
    "ignore-persist",
    "http-check connect",
    "http-check disable-on-404",
    "http-check expect",
    "http-check send",
    "http-request",
    "http-response",
    "log",
    "mode",
    "monitor fail",
    "monitor-uri",
    "option forceclose",
    "option http-buffer-request",
    "option httplog",
    "option httpslog",
    "option tcplog",
    "option httpchk",
    "option redis-check",
    "option smtpchk",
    "option splice-auto",
    "option splice-request",
    "option splice-response",
    "option tcp-check",
    "redirect",
    "reqadd",
    "reqdel",
    "reqidel",
    "reqrep",
    "reqirep",
    "rspadd",
    "rspdel",
    "rspidel",
    "rsprep",
    "rspirep",
    "server",
    "server-template",
    "source",
    "tcp-check connect",
    "tcp-check expect",
    "tcp-check send",
    "tcp-check send-binary",
    "tcp-request connection",
    "tcp-request content",
    "tcp-request inspect-delay",
    "tcp-request session",
    "use-server",
    "use_backend",
    "ca-base",
    "crt-base",
    "default-path",
    "localpeer",
    "nbthread",
    "nosplice",
    "presetenv",
    "resetenv",
    "setenv",
    "unsetenv",
    "ca-base",
    "crt-base",
    "key-base",
    "default-crt",
    "no-ca-names",
    "no-strict-sni",
    "no-verifyhost",
    "tls-tickets",
    "ssl-default-server-ciphers",
    "ssl-default-server-ciphersuites",
    "ssl-default-server-curves",
    "ssl-default-server-options",
    "ssl-default-bind-ciphers",
    "ssl-default-bind-ciphersuites",
    "ssl-default-bind-curves",
    "ssl-default-bind-options",
    "ssl-server-verify",
    "stats",
    "tune.bufsize",
    "tune.http.maxhdr",
    "ssl",
    "crt",
    "ciphers",
    "ciphersuites",
    "ecdhe",
    "curves",
    "no-alpn",
    "no-tlsv12",
    "no-tlsv13",
    "force-tlsv12",
    "force-tlsv13",
    "enabled",
    "no-ssl",
    "init-addr",
    "resolvers",
];

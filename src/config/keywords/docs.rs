//! docs/CONFIGURATION.md from the table: what the page says around the table stands in `intro.md`.

use std::fmt::Write;

use super::{Keyword, Scope};

/// The page.
pub fn markdown() -> String {
    let mut page = String::from(include_str!("intro.md"));
    let mut seen = Vec::new();
    for group in GROUPS.iter().chain(HTTP_GROUPS) {
        // Writing to a String cannot fail; the results are dropped.
        let _ = write!(page, "\n## {}\n\n{}\n", group.title, group.text);
        for scope in group.scopes {
            for keyword in super::of(*scope).filter(|k| k.is_done()) {
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
        title: "tls",
        text: "`tls` of a bind: TLS with clients. An entry of `certificates` in it may be a table, with settings for its names alone; what it \
               leaves out is as in the bind. `tls` of a server: TLS with it.",
        scopes: &[Scope::BindTls, Scope::BindCertificate, Scope::ServerTls],
    },
    Group {
        title: "rules",
        text: "Entries of `connection-rules` and `rules`. They are tried in order. Each has one action and may have one \
               condition. `reject`, `silent-drop` and `use-backend` end the evaluation; behind `accept` a backend is still chosen.",
        scopes: &[Scope::Rule, Scope::ConnectionRule, Scope::SetVar],
    },
    Group {
        title: "servers",
        text: "`[backend.NAME.server.NAME]`, or `[listen.NAME.server.NAME]`. What stands in `default-server` of the backend, or \
               of `[defaults]`, holds for all servers that do not say otherwise.",
        scopes: &[Scope::Server],
    },
    Group {
        title: "server templates",
        text: "`[backend.NAME.server-template.PREFIX]` makes several servers, `PREFIX1`, `PREFIX2` and so on, that share a host name. Each \
               takes another address of those that the name has, and keeps it for as long as the name has it; servers without an address \
               are shown as `MAINT (resolution)` and get nothing. All keywords of servers hold here but `id`.",
        scopes: &[Scope::ServerTemplate],
    },
    Group {
        title: "tcp-check",
        text: "Entries of `tcp-check`: the dialogue of a health check, in order. Each does one thing.",
        scopes: &[Scope::TcpCheck],
    },
    Group {
        title: "stick tables",
        text: "`stick-table` of a section keeps counters and servers by key; `track-sc0` and its kin in rules name the key to count \
               for, and `stick` of a backend remembers who went where. [STICK_TABLES.md](STICK_TABLES.md) says how they count \
               over the cores.",
        scopes: &[Scope::StickTable, Scope::StickRule, Scope::TrackSc, Scope::ScChange],
    },
    Group {
        title: "log",
        text: "Entries of `log` that are tables, captures, and `[ring.NAME]`: lines in memory, which `show events` reads.",
        scopes: &[Scope::LogTarget, Scope::CaptureHeader, Scope::Ring],
    },
];

/// What HTTP mode adds.
const HTTP_GROUPS: &[Group] = &[
    Group {
        title: "response rules",
        text: "Entries of `response-rules`, in HTTP mode. They are tried in order on each response. Actions of [rules](#rules) that \
               change headers or answer themselves are the same here.",
        scopes: &[Scope::ResponseRule],
    },
    Group {
        title: "actions",
        text: "The tables that actions of rules take in HTTP mode.",
        scopes: &[
            Scope::HeaderValue,
            Scope::DelHeader,
            Scope::ReplaceHeader,
            Scope::ReplaceUri,
            Scope::Reply,
            Scope::Redirect,
            Scope::Auth,
            Scope::Capture,
            Scope::WaitForBody,
            Scope::SetTimeout,
            Scope::SetStatus,
        ],
    },
    Group {
        title: "forwardfor",
        text: "`forwardfor` and `originalto` as tables.",
        scopes: &[Scope::AddressHeader],
    },
    Group { title: "cookie", text: "`cookie` of a backend.", scopes: &[Scope::Cookie] },
    Group {
        title: "http-check",
        text: "`httpchk` as a table, and entries of `http-check`: what an HTTP health check does, in order.",
        scopes: &[Scope::HttpChk, Scope::HttpCheck, Scope::HttpCheckSend, Scope::CheckConnect],
    },
    Group {
        title: "gateway",
        text: "`[gateway.INTERFACE]`: connections that come in by an uplink are answered through its gateway, where a bind has \
               `interface`. `shardgate gateways` puts it in force; see [tuning.md](tuning.md).",
        scopes: &[Scope::Gateway],
    },
    Group {
        title: "vip",
        text: "`[vip.NAME]`: addresses that one node of several has at a time. `shardgate vip keepalived` makes keepalived's \
               configuration of them; see [PAIR.md](PAIR.md).",
        scopes: &[Scope::Vip],
    },
    Group {
        title: "bgp",
        text: "`[bgp]`: routers that are told of each `[vip.NAME]` with `announce = \"bgp\"`. `shardgate vip bird` makes BIRD's \
               configuration of it; see [scale-out.md](scale-out.md).",
        scopes: &[Scope::Bgp],
    },
    Group {
        title: "error pages and users",
        text: "`[http-errors.NAME]` and `[userlist.NAME]`.",
        scopes: &[Scope::HttpErrors, Scope::Userlist, Scope::User, Scope::Group],
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
    let rule = |list: &str, rule: &str| format!("[frontend.web]\n{list} = [\n  {rule},\n]\n");
    let action = |name: &str| rule("rules", &format!("{{ {name} = {{ {example} }} }}"));
    let check = |step: &str| format!("[backend.app]\nhttpchk = true\nhttp-check = [\n  {step},\n]\n");
    match scope {
        Scope::Global | Scope::Admin | Scope::Defaults => format!("{}\n{example}\n", scope.title()),
        Scope::AdminSocket => match example.starts_with("address") {
            true => format!("[admin]\nsocket = [{{ {example} }}]\n"),
            false => {
                format!("[admin]\nsocket = [{{ {} }}]\n", entry_with("path", "/run/a.sock", example))
            }
        },
        Scope::Frontend => format!("[frontend.web]\n{example}\n"),
        Scope::Listen => format!("[listen.web]\n{example}\n"),
        Scope::Backend => format!("[backend.app]\n{example}\n"),
        Scope::Server => format!("[backend.app.server.s1]\n{example}\n"),
        Scope::ServerTemplate => {
            let count = if example.contains("count") { "" } else { "count = 3\n" };
            let address = if example.contains("address") { "" } else { "address = \"app.example.com:80\"\n" };
            format!("[backend.app.server-template.app]\n{count}{address}{example}\n")
        }
        Scope::DefaultServer => format!("[backend.app.default-server]\n{example}\n"),
        Scope::HttpErrors => format!("[http-errors.site]\n{example}\n"),
        Scope::Userlist => format!("[userlist.staff]\n{example}\n"),
        Scope::User => format!("[userlist.staff.user.adam]\n{example}\n"),
        Scope::Group => format!("[userlist.staff.group.admins]\n{example}\n"),
        Scope::Bind => {
            format!("[frontend.web]\nbind = [{{ {} }}]\n", entry_with("address", "127.0.0.1:8080", example))
        }
        Scope::BindTls => {
            let line = entry_with("certificates", "site.pem", &example.replace('\n', ", "));
            format!("[frontend.web]\nbind = [{{ address = \"127.0.0.1:8443\", tls = {{ {line} }} }}]\n")
        }
        Scope::BindCertificate => {
            let own =
                example.strip_prefix("certificates = \"site.pem\"\n").unwrap_or(example).replace('\n', ", ");
            let line = entry_with("certificate", "site.pem", &own);
            format!(
                "[frontend.web]\nbind = [{{ address = \"127.0.0.1:8443\", tls = {{ certificates = [{{ {line} }}] }} }}]\n"
            )
        }
        Scope::ServerTls => {
            let line = example.replace('\n', ", ");
            format!("[backend.app.server.s1]\naddress = \"127.0.0.1:443\"\ntls = {{ {line} }}\n")
        }
        Scope::ConnectionRule | Scope::Rule if example.contains("track-sc") => {
            let list = if scope == Scope::Rule { "rules" } else { "connection-rules" };
            counting(list, example)
        }
        Scope::ConnectionRule => rule("connection-rules", example),
        Scope::Rule => rule("rules", example),
        Scope::ResponseRule => rule("response-rules", example),
        Scope::SetVar => action("set-var"),
        Scope::HeaderValue => action("set-header"),
        Scope::DelHeader => action("del-header"),
        Scope::ReplaceHeader => action("replace-header"),
        Scope::ReplaceUri => {
            // The example is that of `replace-header`, which has a name before.
            let unnamed = example.find("regex").map_or(example, |at| &example[at..]);
            rule("rules", &format!("{{ replace-path = {{ {unnamed} }} }}"))
        }
        Scope::Reply => action("return"),
        Scope::Redirect => action("redirect"),
        Scope::Auth => action("auth"),
        Scope::Capture if example.contains("id") => format!(
            "[frontend.web]\ncapture.request-header = [{{ len = 40 }}]\nrules = [\n  {{ capture = {{ {example} }} }},\n]\n"
        ),
        Scope::Capture => action("capture"),
        Scope::WaitForBody => action("wait-for-body"),
        Scope::SetTimeout => action("set-timeout"),
        Scope::SetStatus => rule("response-rules", &format!("{{ set-status = {{ {example} }} }}")),
        Scope::AddressHeader => format!("[frontend.web]\nforwardfor = {{ {example} }}\n"),
        Scope::Cookie => format!("[backend.app]\ncookie = {{ {example} }}\n"),
        Scope::TcpCheck => format!("[backend.app]\ntcp-check = [\n  {example},\n]\n"),
        Scope::StickTable => {
            let line = entry_with("type", "ip", example);
            let line = if line.contains("size") { line } else { format!("{line}, size = \"1m\"") };
            format!("[backend.app]\nstick-table = {{ {line} }}\n")
        }
        Scope::StickRule => {
            let line =
                if example.starts_with("table") || example.starts_with("if") || example.starts_with("unless")
                {
                    format!("on = \"src\", {example}")
                } else {
                    example.to_owned()
                };
            format!(
                "[backend.app]\nstick-table = {{ type = \"ip\", size = \"1m\", expire = \"30m\" }}\nstick = [{{ {line} }}]\n"
            )
        }
        Scope::TrackSc => counting("rules", &format!("{{ track-sc0 = {{ {example} }} }}")),
        Scope::ScChange => counting("rules", &format!("{{ sc-add-gpc = {{ {example} }} }}")),
        Scope::HttpChk => format!("[backend.app]\nhttpchk = {{ {example} }}\n"),
        Scope::HttpCheck => check(example),
        Scope::HttpCheckSend => check(&format!("{{ send = {{ {example} }} }}")),
        Scope::CheckConnect => check(&format!("{{ connect = {{ {example} }} }}")),
        Scope::LogTarget => format!("[global]\nlog = [{{ {example} }}]\n"),
        Scope::CaptureHeader => format!("[frontend.web]\ncapture.request-header = [{{ {example} }}]\n"),
        Scope::Ring => format!("[ring.requests]\n{example}\n"),
        Scope::Gateway => format!("[gateway.eth1]\n{example}\n"),
        Scope::Bgp => {
            let needs =
                [("local-as", "local-as = 64512\n"), ("neighbors", "neighbors = \"10.0.0.1 64500\"\n")];
            let missing = needs.iter().filter(|(key, _)| !example.starts_with(key)).map(|(_, line)| *line);
            format!("[bgp]\n{}{example}\n", missing.collect::<String>())
        }
        Scope::Vip if example.starts_with("announce") => {
            let bgp = "[bgp]\nlocal-as = 64512\nneighbors = \"10.0.0.1 64500\"\n";
            format!("{bgp}[vip.web]\naddresses = \"192.0.2.10/32\"\n{example}\n")
        }
        Scope::Vip => {
            let needs = [
                ("addresses", "addresses = \"192.0.2.10/24\"\n"),
                ("interface", "interface = \"eth0\"\n"),
                ("virtual-router-id", "virtual-router-id = 51\n"),
            ];
            let missing = needs.iter().filter(|(key, _)| !example.starts_with(key)).map(|(_, line)| *line);
            format!("[vip.web]\n{}{example}\n", missing.collect::<String>())
        }
    }
}

/// A rule in a frontend that has a table.
fn counting(list: &str, rule: &str) -> String {
    let table =
        "stick-table = { type = \"ip\", size = \"1m\", expire = \"10m\", store = [\"gpc0\", \"gpt0\"] }";
    format!("[frontend.web]\n{table}\n{list} = [\n  {rule},\n]\n")
}

fn entry_with(key: &str, value: &str, example: &str) -> String {
    if example.starts_with(key) { example.to_owned() } else { format!("{key} = \"{value}\", {example}") }
}

/// A whole configuration around the example, for the test that loads every one.
#[cfg(test)]
pub(in crate::config) fn whole(scope: Scope, keyword: &Keyword) -> String {
    let mut part = snippet(scope, keyword);
    let needs = |part: &str, line: &str, text: &str| {
        if part.contains(text) { String::new() } else { format!("{line}\n") }
    };
    let only_http = scope as u8 >= Scope::HttpErrors as u8;
    let mode = if only_http || keyword.mode == super::KeywordMode::Http {
        "mode = \"http\""
    } else {
        "mode = \"tcp\""
    };
    let mut text = String::new();
    if scope != Scope::Defaults {
        let timeouts = "timeout = { client = \"30s\", connect = \"5s\", server = \"30s\" }";
        text += &format!("[defaults]\n{timeouts}\n{mode}\n");
    } else if keyword.key != "mode" {
        part += &format!("{mode}\n");
    }
    if keyword.key == "use-server" {
        part = part.replace("[frontend.web]", "[backend.app]");
    }
    if part.starts_with("[frontend.web]") || part.starts_with("[listen.web]") {
        part += &needs(&part, "bind = \"127.0.0.1:8080\"", "bind =");
        part += &needs(&part, "default-backend = \"app\"", "default-backend =");
    } else {
        text += "[frontend.web]\nbind = \"127.0.0.1:8080\"\ndefault-backend = \"app\"\n";
    }
    if part.contains("server.s1]") {
        part += &needs(&part, "address = \"127.0.0.1:9001\"", "address =");
    }
    text += &part;
    text += "[backend.app.server.s0]\naddress = \"127.0.0.1:9000\"\ncheck = true\n";
    if part.contains("\"site\"") {
        text += "[http-errors.site]\nerrorfile.503 = \"/etc/503.http\"\n";
    }
    if part.contains("\"adam\"") {
        text += "[userlist.staff.user.adam]\npassword = \"$6$a$b\"\n";
    }
    if part.contains("\"admins\"") {
        text += "[userlist.staff.group.admins]\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, all};
    use super::*;

    #[test]
    fn every_row_is_documented_once() {
        let page = markdown();
        for keyword in all().filter(|k| k.is_done()) {
            let wanted = format!("### `{}`\n\n{}\n", keyword.key, keyword.help);
            let rows = all()
                .filter(|k| k.is_done())
                .filter(|k| k.key == keyword.key && k.help == keyword.help)
                .count();
            assert_eq!(page.matches(&wanted).count(), rows, "{}", keyword.key);
        }
    }

    #[test]
    fn rows_are_complete_and_unique() {
        for (index, keyword) in all().enumerate() {
            assert!(keyword.help.ends_with('.') && !keyword.example.is_empty(), "{}", keyword.key);
            for other in all().take(index) {
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

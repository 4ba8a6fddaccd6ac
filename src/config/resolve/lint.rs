//! What is right by the rules and probably not meant: rules that never run, conditions that deny less than they seem to, names that nothing
//! uses, checks beside the traffic. Warnings only, each with an example of what it comes to; looks only at files without errors.

mod secrets;
mod suspect;

use std::net::SocketAddr;

use ahash::{AHashMap, AHashSet};

use super::layout::{Layout, Proxy};
use crate::base::id::ServerId;
use crate::config::file::{Data, Table, Value};
use crate::config::keywords::{self, Scope};
use crate::config::section::{Context, Section};
use crate::model::{CheckKind, CheckStep, Model, ServerAddress};

pub(super) fn lint(context: &Context<'_>, layout: &Layout<'_>, model: &Model) {
    for proxy in &layout.proxies {
        for (key, scope) in [
            ("connection-rules", Scope::ConnectionRule),
            ("rules", Scope::Rule),
            ("response-rules", Scope::ResponseRule),
            ("after-response-rules", Scope::ResponseRule),
        ] {
            if keywords::find(proxy.section.scope, key).is_none() {
                continue;
            }
            let rules = proxy.section.tables(key, scope);
            let rules: Vec<Entry<'_>> = rules.iter().filter_map(Entry::of).collect();
            unreachable(context, &rules);
            suspect::rules(context, proxy, &rules);
            rules.iter().for_each(|rule| negations(context, proxy, rule));
        }
        acls(context, proxy);
        suspect::acls(context, proxy);
        secrets::proxy(context, proxy, model);
        patience(context, proxy, model);
    }
    backends(context, layout);
    checks(context, layout, model);
    secrets::servers(context, layout, model);
}

/// A rule as it stands in the file.
struct Entry<'a> {
    at: usize,
    origin: String,
    action: &'a str,
    /// The text of `if` (false) or `unless` (true).
    condition: Option<(bool, String)>,
}

impl<'a> Entry<'a> {
    fn of(section: &Section<'a>) -> Option<Entry<'a>> {
        let own = section.own()?;
        let action = own.entries.iter().find(|entry| entry.key != "if" && entry.key != "unless")?;
        let condition = match (section.string("if"), section.string("unless")) {
            (Some(text), _) => Some((false, text)),
            (_, Some(text)) => Some((true, text)),
            _ => None,
        };
        Some(Entry { at: section.at, origin: section.origin(), action: &action.key, condition })
    }

    /// Whether another rule never runs behind it once it applies.
    fn shuts_out(&self, later: &Entry<'_>) -> bool {
        self.ends() && (self.action != "accept" || later.action != "use-backend")
    }

    /// Whether no rule behind it runs once it applies, or none but those that route.
    fn ends(&self) -> bool {
        matches!(
            self.action,
            "deny" | "return" | "tarpit" | "redirect" | "reject" | "silent-drop" | "use-backend" | "accept"
        )
    }
}

/// Rules behind one that always applies, or behind one with the same condition.
fn unreachable(context: &Context<'_>, rules: &[Entry<'_>]) {
    if let Some(at) = rules.iter().position(|rule| rule.ends() && rule.condition.is_none())
        && let Some(after) = rules[at + 1..].iter().find(|later| rules[at].shuts_out(later))
    {
        let message =
            format!("this rule never runs: {} at {} always applies", rules[at].action, rules[at].origin);
        let help = format!("move it before that rule, or give {} a condition", rules[at].action);
        context.warning(after.at, message, Some(help));
    }
    for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.ends()) {
        // What lies between may change what the condition looks at.
        let same = rules[index + 1..].iter().take_while(|later| later.ends()).find(|later| {
            later.condition == rule.condition && later.condition.is_some() && rule.shuts_out(later)
        });
        if let Some(later) = same {
            let message =
                format!("this rule never runs: {} at {} has the same condition", rule.action, rule.origin);
            context.warning(later.at, message, Some("remove one of them".to_owned()));
        }
    }
}

/// `deny if !a !b !c` denies only what fails all three, where often each alone was meant to be enough.
fn negations(context: &Context<'_>, proxy: &Proxy<'_>, rule: &Entry<'_>) {
    let Some((false, text)) = &rule.condition else { return };
    if !matches!(rule.action, "deny" | "reject" | "tarpit" | "silent-drop") {
        return;
    }
    let Some(names) = negated_terms(text) else { return };
    let fetches: Vec<String> = names.iter().filter_map(|name| fetch_of(proxy, name)).collect();
    // Several ways to be allowed (networks, users) are asked for in this very form, and then it is right.
    let all_of_the_request = fetches.len() == names.len() && fetches.iter().all(|fetch| of_request(fetch));
    let different = fetches.iter().any(|fetch| *fetch != fetches[0]);
    if names.len() < 2 || !all_of_the_request || !different {
        return;
    }
    let (first, rest) = (names[0], names[1..].join(", "));
    let message = format!(
        "it applies only if none of {} holds: a request with {first} and without {rest} passes",
        names.join(", ")
    );
    let help = format!(
        "to require all of them write unless = \"{}\"; if it is meant so, unless = \"{}\" says it more clearly",
        names.join(" "),
        names.join(" or ")
    );
    context.warning(rule.at, message, Some(help));
}

/// The terms of a condition that is nothing but negated names side by side.
fn negated_terms(text: &str) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let name = match word {
            "!" | "not" => words.next()?,
            "and" | "&&" => continue,
            word => word.strip_prefix('!')?,
        };
        let is_name =
            name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'));
        if !is_name || name.is_empty() {
            return None;
        }
        names.push(name);
    }
    Some(names)
}

/// The fetch of a named ACL, with its argument.
fn fetch_of(proxy: &Proxy<'_>, name: &str) -> Option<String> {
    let acl = match &proxy.section.own()?.entry("acl")?.value.data {
        Data::Table(named) => named.entry(name)?,
        _ => return None,
    };
    let text = match &acl.value.data {
        Data::String(text) => text,
        Data::Array(list) => match &list.first()?.data {
            Data::String(text) => text,
            _ => return None,
        },
        _ => return None,
    };
    text.split_whitespace().next().map(str::to_owned)
}

fn of_request(fetch: &str) -> bool {
    ["hdr", "req.hdr", "req.fhdr", "fhdr", "method", "path", "url", "cook", "req.cook", "query"]
        .iter()
        .any(|prefix| fetch.starts_with(prefix))
}

/// Named ACLs that no condition of their section names.
fn acls(context: &Context<'_>, proxy: &Proxy<'_>) {
    let Some(own) = proxy.section.own() else { return };
    let Some(Data::Table(named)) = own.entry("acl").map(|entry| &entry.value.data) else { return };
    let mut texts = Vec::new();
    for entry in own.entries.iter().filter(|entry| entry.key != "acl") {
        strings(&entry.value, &mut texts);
    }
    for acl in &named.entries {
        let used = texts.iter().any(|text| names(text, &acl.key));
        if !used {
            let message = format!("no condition uses the acl \"{}\"", acl.key);
            let help = "remove it, or look for a slip in the conditions that should use it".to_owned();
            context.warning(acl.key_span.start, message, Some(help));
        }
    }
}

/// Whether a text has a name as a word of its own.
fn names(text: &str, name: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    text.match_indices(name).any(|(at, _)| {
        let before = at.checked_sub(1).map(|at| text.as_bytes()[at]);
        let after = text.as_bytes().get(at + name.len()).copied();
        !before.is_some_and(inside) && !after.is_some_and(inside)
    })
}

fn strings<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
    match &value.data {
        Data::String(text) => out.push(text),
        Data::Array(list) => list.iter().for_each(|value| strings(value, out)),
        Data::Table(table) => table.entries.iter().for_each(|entry| strings(&entry.value, out)),
        _ => {}
    }
}

/// Backends that nothing leads to.
fn backends(context: &Context<'_>, layout: &Layout<'_>) {
    let mut texts = AHashSet::new();
    for table in layout.proxies.iter().filter_map(|proxy| proxy.section.own()).chain(layout.defaults) {
        texts.extend(targets(table));
    }
    // A name that is made at run time may be any.
    if texts.iter().any(|text| text.contains("%[") || text.contains("${")) {
        return;
    }
    for (proxy, _) in layout.backends().filter(|(proxy, _)| proxy.frontend.is_none()) {
        if !texts.contains(proxy.name) {
            let help = "name it in default-backend or in a rule with use-backend".to_owned();
            context.warning(proxy.at, format!("nothing leads to the backend \"{}\"", proxy.name), Some(help));
        }
    }
}

/// What `default-backend` and `use-backend` of a section say.
fn targets(table: &Table) -> Vec<&str> {
    let mut out = Vec::new();
    for entry in &table.entries {
        match (&entry.value.data, entry.key.as_str()) {
            (Data::String(text), "default-backend") => out.push(text.as_str()),
            (Data::Array(rules), "rules") => {
                let rules = rules.iter().filter_map(|rule| match &rule.data {
                    Data::Table(rule) => rule.entry("use-backend"),
                    _ => None,
                });
                out.extend(rules.filter_map(|entry| match &entry.value.data {
                    Data::String(text) => Some(text.as_str()),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    out
}

/// A client that gives up before the last retry: its request is lost though a server may take it.
fn patience(context: &Context<'_>, proxy: &Proxy<'_>, model: &Model) {
    let Some(frontend) = proxy.frontend.map(|id| &model.frontends[id]) else { return };
    let Some(backend) = frontend.default_backend.map(|id| &model.backends[id]) else { return };
    let (Some(client), Some(connect)) = (frontend.timeout_client, backend.timeout_connect) else { return };
    let all = connect.saturating_mul(backend.retries + 1);
    if client < all {
        let message = format!(
            "timeout.client of {}s is shorter than {} attempts to connect of {}s each: a client may be gone before the last",
            client.as_secs_f64(),
            backend.retries + 1,
            connect.as_secs_f64()
        );
        let help = format!("at least {}s, or a shorter timeout.connect, or fewer retries", all.as_secs_f64());
        context.warning(proxy.section.value_at("timeout.client"), message, Some(help));
    }
}

/// Checks that do not go where the traffic goes, and addresses that are checked in different ways.
fn checks(context: &Context<'_>, layout: &Layout<'_>, model: &Model) {
    let mut seen: AHashMap<SocketAddr, ServerId> = AHashMap::new();
    for (id, server) in model.servers.iter() {
        let Some(check) = &server.check else { continue };
        let at = layout.servers[id].at;
        let port = match &server.address {
            ServerAddress::Ip(address) => Some(address.port()),
            ServerAddress::Name { port, .. } => Some(*port),
            _ => None,
        };
        let other_port = check.port.filter(|port_of_check| port.is_some_and(|port| port != *port_of_check));
        // With PROXY headers `check` has more to say about it.
        if let Some((other, port)) = other_port.zip(port).filter(|_| server.send_proxy.is_none()) {
            let message = format!(
                "it is checked at port {other}, and its traffic goes to port {port}: it can be up and not serve"
            );
            context.warning(at, message, Some("leave port out to check where the traffic goes".to_owned()));
        }
        lost_escapes(context, at, &check.kind);
        if let ServerAddress::Ip(address) = &server.address
            && check.port.is_none()
            && check.address.is_none()
        {
            match seen.get(address).map(|other| (*other, model.servers[*other].check.as_ref())) {
                Some((other, Some(before))) if before.kind != check.kind => {
                    let message =
                        format!("{address} is checked in another way at {}", model.servers[other].origin);
                    let help = "they are one machine: one may be up while the other is down".to_owned();
                    context.warning(at, message, Some(help));
                }
                Some(_) => {}
                None => drop(seen.insert(*address, id)),
            }
        }
    }
}

/// A backslash and a letter where an end of line was meant.
fn lost_escapes(context: &Context<'_>, at: usize, kind: &CheckKind) {
    let CheckKind::Script(steps) = kind else { return };
    let written = steps.iter().any(|step| match step {
        CheckStep::Send(bytes) => bytes.windows(4).any(|w| w == b"\\r\\n"),
        _ => false,
    });
    if written {
        let message = "its check sends a backslash and the letters r and n, not an end of line";
        let help = "write the text in double quotes: \"PING\\r\\n\"".to_owned();
        context.warning(at, message, Some(help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_words() {
        assert!(names("!office { src 1.2.3.4 }", "office") && names("a office", "office"));
        assert!(!names("office-2 x.office", "office"));
        assert_eq!(negated_terms("!a ! b and not c"), Some(vec!["a", "b", "c"]));
        for text in ["!a b", "!a or !b", "!{ src 1 }", "not"] {
            assert_eq!(negated_terms(text), None, "{text}");
        }
    }
}

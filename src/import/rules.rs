//! Rules: `tcp-request`, `http-request`, `http-response`, `redirect`, `use_backend` and what is older than they are. HAProxy runs them in
//! phases whatever their order in the file; here a section has one list, so they are collected by phase first.

use super::captures;
use super::legacy;
use super::proxy::{Outcome, Proxy};
use super::source::{Directive, Place};
use super::stick;
use super::toml::{Table, Val};
use super::value;
use super::words;
use crate::config::keywords::Scope;

/// An entry on its way to a list.
struct Entry {
    action: (String, Val),
    condition: Option<(bool, String)>,
    place: Place,
    comments: Vec<String>,
}

/// Rules by the phase in which HAProxy runs them.
#[derive(Default)]
pub(super) struct Phases {
    connection: Vec<Entry>,
    /// `monitor-uri` answers before anything else.
    monitor: Vec<Entry>,
    block: Vec<Entry>,
    content: Vec<Entry>,
    request: Vec<Entry>,
    redirect: Vec<Entry>,
    route: Vec<Entry>,
    response: Vec<Entry>,
    after: Vec<Entry>,
    stats: Vec<Entry>,
    monitor_uri: Option<String>,
}

impl Phases {
    pub(super) fn finish(self, table: &mut Table, http: bool) {
        let request = [self.content, self.monitor, self.block, self.request, self.redirect, self.route];
        let mut push = |key: &str, entries: Vec<Entry>| {
            for entry in entries {
                let mut value = vec![entry.action];
                if let Some((unless, condition)) = entry.condition {
                    value.push((if unless { "unless" } else { "if" }.to_owned(), Val::Text(condition)));
                }
                table.push(key, Val::Table(value), entry.place, &entry.comments);
            }
        };
        push("connection-rules", self.connection);
        push("rules", request.into_iter().flatten().collect());
        if http {
            push("response-rules", self.response);
            push("after-response-rules", self.after);
            push("stats.http-request", self.stats);
        }
    }
}

/// Words of a condition as one text.
pub(super) fn join(words: &[String]) -> String {
    words.iter().map(|word| words::quote(word)).collect::<Vec<_>>().join(" ")
}

/// `if CONDITION` or `unless CONDITION`; true: unless.
pub(super) fn condition(words: &[String]) -> Result<Option<(bool, String)>, String> {
    match words {
        [] => Ok(None),
        [word, condition @ ..] if word == "if" || word == "unless" => {
            if condition.is_empty() {
                return Err(format!("{word} needs a condition"));
            }
            Ok(Some((word == "unless", join(condition))))
        }
        [word, ..] => Err(format!("\"{word}\" is too much; a condition begins with if or unless")),
    }
}

/// Splits the arguments of a rule from its condition.
pub(super) fn split_condition(words: &[String]) -> (&[String], &[String]) {
    match words.iter().position(|word| word == "if" || word == "unless") {
        Some(at) => words.split_at(at),
        None => (words, &[]),
    }
}

/// Directives that are rules, or `None`.
pub(super) fn directive(proxy: &mut Proxy<'_, '_>, keyword: &str, d: &Directive) -> Option<Outcome> {
    let rest = &d.words[keyword.split(' ').count()..];
    let only_http = matches!(
        keyword,
        "http-request"
            | "http-response"
            | "http-after-response"
            | "stats http-request"
            | "redirect"
            | "use-server"
            | "block"
            | "monitor-uri"
            | "option http-buffer-request"
            | "capture cookie"
            | "capture request header"
            | "capture response header"
            | "http-error"
            | "declare capture"
    ) || keyword.starts_with("req")
        || keyword.starts_with("rsp");
    if only_http && !proxy.http && keyword != "use-server" {
        return Some(Outcome::Ignored("only HTTP mode looks at it".to_owned()));
    }
    Some(match keyword {
        "http-request" => rule(proxy, rest, d, Phase::Request),
        "http-response" => rule(proxy, rest, d, Phase::Response),
        "http-after-response" => rule(proxy, rest, d, Phase::After),
        "stats http-request" => rule(proxy, rest, d, Phase::Stats),
        "redirect" => {
            let words: Vec<String> =
                std::iter::once("redirect".to_owned()).chain(rest.iter().cloned()).collect();
            rule(proxy, &words, d, Phase::Redirect)
        }
        "block" => {
            let words: Vec<String> = std::iter::once("deny".to_owned()).chain(rest.iter().cloned()).collect();
            rule(proxy, &words, d, Phase::Block)
        }
        "tcp-request connection" => rule(proxy, rest, d, Phase::Connection),
        "tcp-request session" => match rule(proxy, rest, d, Phase::Connection) {
            Outcome::Exact if value::exists(Scope::Frontend, "session-rules") => Outcome::Exact,
            Outcome::Exact => Outcome::Near(
                "it runs with the connection rules; with accept-proxy src is the address of the peer there"
                    .to_owned(),
            ),
            other => other,
        },
        "tcp-request content" => rule(proxy, rest, d, Phase::Content),
        "tcp-request inspect-delay" if proxy.http => Outcome::Ignored(
            "HTTP mode waits for the head of a request as long as timeout http-request says".to_owned(),
        ),
        "tcp-request inspect-delay" => return None,
        "use_backend" | "use-server" => {
            let key = if keyword == "use_backend" { "use-backend" } else { "use-server" };
            let [name, condition_words @ ..] = rest else {
                return Some(Outcome::Wrong(format!("{keyword} needs a name")));
            };
            if !proxy.http && key == "use-backend" && name.contains("%[") {
                return Some(Outcome::No("write one use_backend for each name in TCP mode".to_owned()));
            }
            add(proxy, Phase::Route, (key.to_owned(), Val::text(name)), condition_words, d)
        }
        "monitor-uri" => {
            let [uri] = rest else { return Some(Outcome::Wrong("write monitor-uri URI".to_owned())) };
            let reply = Val::Table(vec![
                ("status".to_owned(), Val::Int(200)),
                ("string".to_owned(), Val::text("OK\n")),
            ]);
            proxy.rules.monitor_uri = Some(uri.clone());
            let condition =
                vec!["if".to_owned(), "{".to_owned(), "url".to_owned(), uri.clone(), "}".to_owned()];
            add(proxy, Phase::Monitor, ("return".to_owned(), reply), &condition, d)
        }
        "monitor fail" => {
            let Some(uri) = proxy.rules.monitor_uri.clone() else {
                return Some(Outcome::Near("write it after monitor-uri".to_owned()));
            };
            let Ok(Some((false, text))) = condition(rest) else {
                return Some(Outcome::Wrong("write monitor fail if CONDITION".to_owned()));
            };
            let reply = Val::Table(vec![("status".to_owned(), Val::Int(503))]);
            let entry = Entry {
                action: ("return".to_owned(), reply),
                condition: Some((false, format!("{{ url {} }} and ({text})", words::quote(&uri)))),
                place: d.place,
                comments: d.comments.clone(),
            };
            proxy.rules.monitor.insert(0, entry);
            Outcome::Exact
        }
        "option http-buffer-request" => {
            let wait = Val::Table(vec![("time".to_owned(), Val::text("10s"))]);
            add(proxy, Phase::Request, ("wait-for-body".to_owned(), wait), &[], d)
        }
        "capture request header"
        | "capture response header"
        | "capture cookie"
        | "declare capture"
        | "http-error" => return None,
        old if old.starts_with("req") || old.starts_with("rsp") => self::old(proxy, d),
        _ => return None,
    })
}

/// A `req...` or `rsp...` line.
fn old(proxy: &mut Proxy<'_, '_>, d: &Directive) -> Outcome {
    let today = match legacy::rule(&d.words) {
        Ok(today) => today,
        Err(message) => return Outcome::No(message),
    };
    let outcome = match today.list {
        legacy::List::Request => rule(proxy, &today.words, d, Phase::Request),
        legacy::List::Response => rule(proxy, &today.words, d, Phase::Response),
        legacy::List::Route => {
            let (backend, condition) = today.words.split_at(1);
            add(proxy, Phase::Route, ("use-backend".to_owned(), Val::text(&backend[0])), condition, d)
        }
    };
    match (outcome, today.near) {
        (Outcome::Exact, Some(near)) => Outcome::Near(near.to_owned()),
        (outcome, _) => outcome,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connection,
    Content,
    Monitor,
    Block,
    Request,
    Redirect,
    Route,
    Response,
    After,
    /// On the statistics page.
    Stats,
}

/// Adds a rule that is known to be whole.
fn add(
    proxy: &mut Proxy<'_, '_>,
    phase: Phase,
    action: (String, Val),
    condition_words: &[String],
    d: &Directive,
) -> Outcome {
    let condition = match condition(condition_words) {
        Ok(condition) => condition,
        Err(message) => return Outcome::Wrong(message),
    };
    let entry = Entry { action, condition, place: d.place, comments: d.comments.clone() };
    let rules = &mut proxy.rules;
    match phase {
        Phase::Connection => rules.connection.push(entry),
        Phase::Content => rules.content.push(entry),
        Phase::Monitor => rules.monitor.push(entry),
        Phase::Block => rules.block.push(entry),
        Phase::Request => rules.request.push(entry),
        Phase::Redirect => rules.redirect.push(entry),
        Phase::Route => rules.route.push(entry),
        Phase::Response => rules.response.push(entry),
        Phase::After => rules.after.push(entry),
        Phase::Stats => rules.stats.push(entry),
    }
    Outcome::Exact
}

/// One rule: its action and arguments, then its condition.
fn rule(proxy: &mut Proxy<'_, '_>, words: &[String], d: &Directive, phase: Phase) -> Outcome {
    let Some((head, rest)) = words.split_first() else {
        return Outcome::Wrong("an action is missing".to_owned());
    };
    let (name, parameter) = match head.split_once('(') {
        Some((name, parameter)) => (name, parameter.strip_suffix(')')),
        None => (head.as_str(), None),
    };
    let (arguments, condition_words) = split_condition(rest);
    if let Some(outcome) = without_effect(proxy, name, arguments, phase) {
        return outcome;
    }
    let scope = match phase {
        Phase::Connection => Scope::ConnectionRule,
        Phase::Response | Phase::After => Scope::ResponseRule,
        _ => Scope::Rule,
    };
    let is_response = matches!(phase, Phase::Response | Phase::After);
    let with_place = match captures::of_rule(proxy, (name, arguments), is_response, d) {
        Ok(with_place) => with_place,
        Err(outcome) => return outcome,
    };
    match action(name, parameter, with_place.as_deref().unwrap_or(arguments)) {
        Ok((key, _)) if !value::exists(scope, &key) => {
            Outcome::No(format!("the action {name} is not in this version"))
        }
        Ok(action) => match parameter.is_some_and(|p| p.contains(',')) && name.starts_with("set-var") {
            true => Outcome::No(
                "conditions of set-var are not in this version; write a rule with a condition".to_owned(),
            ),
            false => add(proxy, phase, action, condition_words, d),
        },
        Err(message) => message,
    }
}

/// Actions that change nothing here.
fn without_effect(proxy: &Proxy<'_, '_>, name: &str, arguments: &[String], phase: Phase) -> Option<Outcome> {
    let ignored = |why: &str| Some(Outcome::Ignored(why.to_owned()));
    match name {
        "set-nice" => ignored("all streams have the same priority on the CPU"),
        "wait-for-handshake" => ignored("early data is off unless a bind allows it"),
        "disable-l7-retry" => ignored("retries beyond connecting are off unless retry-on says otherwise"),
        "cache-use" | "cache-store" => ignored("responses are not cached"),
        "accept" if phase == Phase::Content && proxy.http => {
            Some(Outcome::Near("it ends nothing: in HTTP mode there is one list of rules".to_owned()))
        }
        "set-mark" | "set-tos" | "set-fc-mark" | "set-fc-tos" | "set-bc-mark" | "set-bc-tos" => {
            Some(Outcome::Near("packets are not marked".to_owned()))
        }
        "expect-proxy" if arguments == ["layer4"] => Some(Outcome::No(
            "write accept-proxy with the networks of the trusted peers at the bind".to_owned(),
        )),
        _ => None,
    }
}

type Action = (String, Val);

fn entries<const N: usize>(pairs: [(&str, &str); N]) -> Val {
    Val::Table(pairs.into_iter().map(|(key, text)| (key.to_owned(), Val::text(text))).collect())
}

/// Key and value of an action.
fn action(name: &str, parameter: Option<&str>, arguments: &[String]) -> Result<Action, Outcome> {
    let wrong = |usage: &str| Outcome::Wrong(format!("write {usage}"));
    let ok = |key: &str, value: Val| Ok((key.to_owned(), value));
    let expression = || arguments.join(" ");
    if let Some(action) = stick::action(name, parameter, arguments) {
        return action;
    }
    match (name, arguments) {
        ("allow" | "accept" | "reject", []) => ok(name, Val::Flag(true)),
        ("silent-drop", []) => ok(name, Val::Flag(true)),
        ("silent-drop", _) => Err(Outcome::No("silent-drop takes no options in this version".to_owned())),
        ("deny" | "tarpit" | "return", arguments) => {
            reply(name, arguments).map(|value| (name.to_owned(), value))
        }
        ("redirect", arguments) => redirect(arguments).map(|value| (name.to_owned(), value)),
        ("use-service", [service]) => ok(name, Val::text(service)),
        ("auth", []) => ok(name, Val::Flag(true)),
        ("auth", [word, realm]) if word == "realm" => ok(name, entries([("realm", realm)])),
        ("set-header" | "add-header" | "early-hint", [header, format]) => {
            ok(name, entries([("name", header), ("value", format)]))
        }
        ("del-header", [header]) => ok(name, Val::text(header)),
        ("del-header", [header, flag, method]) if flag == "-m" => {
            ok(name, entries([("name", header), ("match", method)]))
        }
        ("replace-header" | "replace-value", [header, regex, format]) => {
            ok(name, entries([("name", header), ("regex", regex), ("value", format)]))
        }
        ("replace-path" | "replace-uri" | "replace-pathq", [regex, format]) => {
            ok(name, entries([("regex", regex), ("value", format)]))
        }
        ("set-path" | "set-pathq" | "set-query" | "set-uri" | "set-method", [format]) => {
            ok(name, Val::text(format))
        }
        ("set-status", [status]) => ok(name, Val::Table(vec![("status".to_owned(), number(status)?)])),
        ("set-status", [status, word, reason]) if word == "reason" => ok(
            name,
            Val::Table(vec![
                ("status".to_owned(), number(status)?),
                ("reason".to_owned(), Val::text(reason)),
            ]),
        ),
        ("set-var", [_, ..]) => {
            let variable = parameter.ok_or_else(|| wrong("set-var(NAME) EXPRESSION"))?;
            ok(name, entries([("name", variable), ("value", &expression())]))
        }
        ("set-var-fmt", [format]) => {
            let variable = parameter.ok_or_else(|| wrong("set-var-fmt(NAME) FORMAT"))?;
            ok(name, entries([("name", variable), ("value", format)]))
        }
        ("unset-var", []) => ok(name, Val::text(parameter.ok_or_else(|| wrong("unset-var(NAME)"))?)),
        ("set-log-level", [level]) => ok(name, Val::text(level)),
        ("set-timeout", [timeout, value]) => ok(name, entries([("name", timeout), ("value", value)])),
        (
            "set-src"
            | "set-dst"
            | "set-src-port"
            | "set-dst-port"
            | "set-priority-class"
            | "set-priority-offset",
            [_, ..],
        ) => ok(name, Val::Text(expression())),
        ("normalize-uri", [_, ..]) => ok(name, Val::Text(expression())),
        ("strict-mode", [word]) if word == "on" || word == "off" => ok(name, Val::Flag(word == "on")),
        ("capture", [expression @ .., word, count])
            if matches!(word.as_str(), "len" | "id") && !expression.is_empty() =>
        {
            ok(
                name,
                Val::Table(vec![
                    ("value".to_owned(), Val::Text(expression.join(" "))),
                    (word.clone(), number(count)?),
                ]),
            )
        }
        ("wait-for-body", arguments) => wait_for_body(arguments).map(|value| (name.to_owned(), value)),
        _ if known(name) => {
            Err(wrong(&format!("{name} as the manual says; \"{}\" does not fit", arguments.join(" "))))
        }
        _ => Err(Outcome::No(format!("the action {name} is not in this version"))),
    }
}

/// Actions of ours whose arguments were not understood.
fn known(name: &str) -> bool {
    value::exists(Scope::Rule, name) || value::exists(Scope::ResponseRule, name)
}

fn number(text: &str) -> Result<Val, Outcome> {
    text.parse().map(Val::Int).map_err(|_| Outcome::Wrong(format!("\"{text}\" is no number")))
}

/// `deny`, `tarpit`, `return` and `http-error`: status and body.
pub(super) fn reply(name: &str, arguments: &[String]) -> Result<Val, Outcome> {
    let mut fields: Vec<(String, Val)> = Vec::new();
    let mut headers: Vec<(String, Val)> = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut next = || words.next().ok_or_else(|| Outcome::Wrong(format!("{word} needs a value")));
        match word.as_str() {
            "deny_status" | "status" => fields.push(("status".to_owned(), number(next()?)?)),
            "content-type" | "string" | "file" | "lf-string" => {
                fields.push((word.clone(), Val::text(next()?)))
            }
            "hdr" => headers.push((next()?.clone(), Val::text(next()?))),
            "default-errorfiles" => {}
            "errorfile" | "errorfiles" | "lf-file" => {
                return Err(Outcome::No(format!(
                    "{word} of {name} is not in this version; write file and content-type"
                )));
            }
            _ => return Err(Outcome::Wrong(format!("\"{word}\" is no option of {name}"))),
        }
    }
    if !headers.is_empty() {
        fields.push(("hdr".to_owned(), Val::Table(headers)));
    }
    Ok(if fields.is_empty() { Val::Flag(true) } else { Val::Table(fields) })
}

fn redirect(arguments: &[String]) -> Result<Val, Outcome> {
    let mut fields: Vec<(String, Val)> = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut next = || words.next().ok_or_else(|| Outcome::Wrong(format!("{word} needs a value")));
        match word.as_str() {
            // The equals sign that HAProxy wants in the file is written by itself here.
            "clear-cookie" => {
                let name = next()?;
                fields.push((word.clone(), Val::text(name.strip_suffix('=').unwrap_or(name))));
            }
            "location" | "prefix" | "scheme" | "set-cookie" => {
                fields.push((word.clone(), Val::text(next()?)))
            }
            "code" => fields.push((word.clone(), number(next()?)?)),
            "drop-query" | "append-slash" | "ignore-empty" | "keep-query" => {
                fields.push((word.clone(), Val::Flag(true)))
            }
            _ => return Err(Outcome::Wrong(format!("\"{word}\" is no option of redirect"))),
        }
    }
    let unknown = fields.iter().find(|(key, _)| !value::exists(Scope::Redirect, key));
    match unknown {
        Some((key, _)) => Err(Outcome::No(format!("{key} of redirect is not in this version"))),
        None => Ok(Val::Table(fields)),
    }
}

fn wait_for_body(arguments: &[String]) -> Result<Val, Outcome> {
    let fields = arguments.chunks(2).map(|pair| match pair {
        [key, value] if key == "time" || key == "at-least" => {
            Ok((key.clone(), value.parse().map_or(Val::text(value), Val::Int)))
        }
        _ => Err(Outcome::Wrong("write wait-for-body time TIME [at-least SIZE]".to_owned())),
    });
    fields.collect::<Result<Vec<_>, _>>().map(Val::Table)
}

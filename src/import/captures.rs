//! Captures of frontends: headers, places that are declared, and what rules keep. HAProxy numbers the places of requests and of responses
//! in the order of the file, whatever makes them. `proxy` and `rules` call it.

use super::proxy::{Outcome, Proxy, inherited};
use super::source::Directive;
use super::toml::Val;
use crate::config::keywords::Scope;

impl Proxy<'_, '_> {
    /// `capture request header NAME len LENGTH`.
    pub(super) fn capture(&mut self, keyword: &str, d: &Directive) -> Outcome {
        if !self.http {
            return Outcome::Ignored("only HTTP mode looks at it".to_owned());
        }
        let [name, word, len] = &d.words[keyword.split(' ').count()..] else {
            return Outcome::Wrong(format!("write {keyword} NAME len LENGTH"));
        };
        let Some(len) = self.variables.expand(len).parse().ok().filter(|_| word == "len") else {
            return Outcome::Wrong(format!("write {keyword} NAME len LENGTH"));
        };
        if keyword == "capture cookie" {
            let value =
                Val::Table(vec![("name".to_owned(), Val::text(name)), ("len".to_owned(), Val::Int(len))]);
            return self.put(&["capture", "cookie"], value, d);
        }
        add(self, keyword != "capture request header", Some(name), len, d);
        Outcome::Exact
    }

    /// `declare capture request|response len LENGTH`: a place for what rules capture.
    pub(super) fn declare_capture(&mut self, d: &Directive) -> Outcome {
        let usage = || Outcome::Wrong("write declare capture request|response len LENGTH".to_owned());
        let [_, _, side, word, len] = d.words.as_slice() else { return usage() };
        let Some(len) = self.variables.expand(len).parse().ok().filter(|_| word == "len") else {
            return usage();
        };
        match side.as_str() {
            "request" | "response" => add(self, side == "response", None, len, d),
            _ => return usage(),
        }
        Outcome::Exact
    }
}

/// A place; without a name a rule fills it. In TCP mode there are none but those of rules.
fn add(proxy: &mut Proxy<'_, '_>, is_response: bool, name: Option<&str>, len: i64, d: &Directive) {
    proxy.captures[usize::from(is_response)].push(len);
    let mut entries = vec![("len".to_owned(), Val::Int(len))];
    if let Some(name) = name {
        entries.insert(0, ("name".to_owned(), Val::text(name)));
    }
    let key = if is_response { "capture.response-header" } else { "capture.request-header" };
    if proxy.http {
        proxy.table.push(key, Val::Table(entries), d.place, &d.comments);
    }
}

/// The arguments of `capture` in a rule, with its place: `None` where the order of the rules gives it the right one.
pub(super) fn of_rule(
    proxy: &mut Proxy<'_, '_>,
    (name, arguments): (&str, &[String]),
    is_response: bool,
    d: &Directive,
) -> Result<Option<Vec<String>>, Outcome> {
    let [expression @ .., word, number] = arguments else { return Ok(None) };
    if name != "capture" {
        return Ok(None);
    }
    let is_id = word == "id";
    if is_id && proxy.scope == Scope::Backend {
        return Err(Outcome::No("captures belong to frontends: put the rule there".to_owned()));
    }
    let side = usize::from(is_response);
    let with = |word: &str, number: i64| Some([expression, &[word.to_owned(), number.to_string()]].concat());
    match proxy.variables.expand(number).parse::<i64>() {
        Ok(id) if is_id => {
            let places = places(proxy, is_response);
            let is_there = usize::try_from(id).is_ok_and(|id| id < places);
            let len = proxy.captures[side].get(usize::try_from(id).unwrap_or(usize::MAX));
            match (is_there, len) {
                (false, _) => Err(Outcome::Wrong(format!("there is no capture with the id {id}"))),
                (true, _) if proxy.http => Ok(with("id", id)),
                (true, Some(len)) => Ok(with("len", *len)),
                (true, None) => {
                    Err(Outcome::No("declare the capture before the rule in TCP mode".to_owned()))
                }
            }
        }
        Ok(len) if word == "len" && proxy.http && is_mixed(proxy) => {
            add(proxy, is_response, None, len, d);
            let id = proxy.captures[side].len() - 1;
            Ok(with("id", i64::try_from(id).unwrap_or(i64::MAX)))
        }
        _ => Ok(None),
    }
}

/// The directives that hold for a section.
fn directives(proxy: &Proxy<'_, '_>) -> Vec<Directive> {
    let is_it = |s: &&super::source::Section| {
        s.name == proxy.name && matches!(s.kind.as_str(), "frontend" | "listen")
    };
    let Some(section) = proxy.sections.iter().find(is_it) else { return Vec::new() };
    let mut all = inherited(proxy.sections, section);
    all.extend(section.directives.iter().cloned());
    all
}

/// What a directive makes a place for.
fn kind(d: &Directive) -> Option<(Kind, bool)> {
    let words: Vec<&str> = d.words.iter().map(String::as_str).collect();
    let by = |word: &str| words.windows(2).any(|pair| pair[0] == word && pair[1].parse::<i64>().is_ok());
    Some(match words.as_slice() {
        ["capture", side @ ("request" | "response"), ..] => (Kind::Header, *side == "response"),
        ["declare", "capture", side, ..] => (Kind::Declared, *side == "response"),
        ["http-response" | "http-after-response", "capture", ..] if by("id") => (Kind::ById, true),
        [_, "capture", ..] | [_, _, "capture", ..] if by("id") => (Kind::ById, false),
        ["tcp-request", "content", "capture", ..] => (Kind::Content, false),
        ["http-request", "capture", ..] => (Kind::Request, false),
        _ => return None,
    })
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Header,
    Content,
    Request,
    Declared,
    ById,
}

/// How many places a section has.
fn places(proxy: &Proxy<'_, '_>, is_response: bool) -> usize {
    let kinds = directives(proxy);
    let kinds =
        kinds.iter().filter_map(kind).filter(|(kind, side)| *kind != Kind::ById && *side == is_response);
    kinds.count()
}

/// Whether the places of rules are not simply behind those of headers, in the order in which rules run.
fn is_mixed(proxy: &Proxy<'_, '_>) -> bool {
    let kinds: Vec<Kind> =
        directives(proxy).iter().filter_map(kind).filter(|(_, side)| !side).map(|(kind, _)| kind).collect();
    !kinds.is_sorted() || kinds.iter().any(|kind| *kind >= Kind::Declared)
}

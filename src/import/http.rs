//! Directives of proxies that HTTP mode alone looks at and that are no rules: error pages, cookies, headers with addresses.

use super::proxy::{Outcome, Proxy};
use super::rules;
use super::source::{Directive, Prefix};
use super::toml::Val;
use crate::config::keywords::Scope;

impl Proxy<'_, '_> {
    /// `errorfile CODE FILE` and `errorloc CODE URL`; the last of a code counts.
    pub(super) fn error_page(&mut self, keyword: &str, d: &Directive) -> Outcome {
        let [_, code, target] = d.words.as_slice() else {
            let what = if keyword == "errorfile" { "FILE" } else { "URL" };
            return Outcome::Wrong(format!("write {keyword} CODE {what}"));
        };
        let key = if keyword == "errorloc" { "errorloc302" } else { keyword };
        for other in ["errorfile", "errorloc302", "errorloc303"] {
            self.table.remove(&[other, code]);
        }
        self.put(&[key, code], Val::text(target), d)
    }

    /// `http-error status CODE ...`.
    pub(super) fn http_error(&mut self, d: &Directive) -> Outcome {
        match &d.words[1..] {
            [word, code, kind, file] if word == "status" && kind == "errorfile" => {
                self.put(&["errorfile", code], Val::text(file), d)
            }
            words => match rules::reply("http-error", words) {
                Ok(value) => {
                    self.table.push("http-error", value, d.place, &d.comments);
                    Outcome::Exact
                }
                Err(outcome) => outcome,
            },
        }
    }

    /// `cookie NAME [OPTIONS]`.
    pub(super) fn cookie(&mut self, d: &Directive) -> Outcome {
        if !self.http && self.scope != Scope::Defaults {
            return Outcome::Ignored("only HTTP mode looks at it".to_owned());
        }
        let mut words = d.words[1..].iter();
        let Some(name) = words.next() else { return Outcome::Wrong("write cookie NAME".to_owned()) };
        let mut entries = vec![("name".to_owned(), Val::text(name))];
        let mut lists: Vec<(String, Vec<String>)> = Vec::new();
        while let Some(word) = words.next() {
            match word.as_str() {
                "insert" | "rewrite" | "prefix" => entries.push(("mode".to_owned(), Val::text(word))),
                "indirect" | "nocache" | "postonly" | "preserve" | "httponly" | "secure" | "dynamic" => {
                    entries.push((word.clone(), Val::Flag(true)))
                }
                "domain" | "attr" | "maxidle" | "maxlife" => {
                    let Some(value) = words.next() else {
                        return Outcome::Wrong(format!("{word} needs a value"));
                    };
                    if word.starts_with("max") {
                        entries.push((
                            word.clone(),
                            value.parse::<i64>().map_or(Val::text(value), |s| Val::Text(format!("{s}s"))),
                        ));
                    } else if let Some((_, list)) = lists.iter_mut().find(|(key, _)| key == word) {
                        list.push(value.clone());
                    } else {
                        lists.push((word.clone(), vec![value.clone()]));
                    }
                }
                _ => return Outcome::Wrong(format!("\"{word}\" is no option of cookie")),
            }
        }
        entries.extend(lists.into_iter().map(|(key, list)| (key, Val::texts(&list))));
        let mode = entries.iter().any(|(key, _)| key == "mode");
        if !mode {
            // Without one of the three HAProxy only reads the cookie, as rewrite does with a server that never sets it.
            entries.push(("mode".to_owned(), Val::text("rewrite")));
        }
        self.put(&["cookie"], Val::Table(entries), d)
    }

    /// `option forwardfor [except NET] [header NAME] [if-none]`.
    pub(super) fn address_header(&mut self, d: &Directive) -> Outcome {
        let key = d.words[1].as_str();
        if d.prefix != Prefix::None {
            return self.put(&[key], Val::Flag(false), d);
        }
        if !self.http && self.scope != Scope::Defaults {
            return Outcome::Ignored("only HTTP mode looks at it".to_owned());
        }
        let mut entries = Vec::new();
        let mut except = Vec::new();
        let mut words = d.words[2..].iter();
        while let Some(word) = words.next() {
            match (word.as_str(), word.as_str() != "if-none") {
                ("if-none", _) => entries.push(("if-none".to_owned(), Val::Flag(true))),
                ("except" | "header", _) => match words.next() {
                    Some(value) if word == "except" => except.push(value.clone()),
                    Some(value) => entries.push(("header".to_owned(), Val::text(value))),
                    None => return Outcome::Wrong(format!("{word} needs a value")),
                },
                _ => return Outcome::Wrong(format!("\"{word}\" is no option of it")),
            }
        }
        if !except.is_empty() {
            entries.push(("except".to_owned(), Val::texts(&except)));
        }
        let value = if entries.is_empty() { Val::Flag(true) } else { Val::Table(entries) };
        self.put(&[key], value, d)
    }
}

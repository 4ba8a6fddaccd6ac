//! Tests that no request passes, and rules that find nothing because another rule took it. Looks at the texts of conditions: a test is
//! judged by the name of its fetch, its flags and its patterns, and whatever is less plain is taken for meant.

use super::{Entry, strings};
use crate::config::file::Data;
use crate::config::resolve::layout::Proxy;
use crate::config::section::Context;

/// One test: `path_beg -i /api /v1`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Test {
    /// The fetch with its converters and without the matching method: `path`, `hdr(host),lower`.
    fetch: String,
    method: Method,
    is_insensitive: bool,
    patterns: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Method {
    Exact,
    Begins,
    Ends,
    Other,
}

/// A part of a condition whose parts must all hold.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Term {
    is_negated: bool,
    /// How it is written.
    text: String,
    /// One of them must match; empty: it is not known what it tests.
    tests: Vec<Test>,
}

/// Tests of named ACLs that nothing passes.
pub(super) fn acls(context: &Context<'_>, proxy: &Proxy<'_>) {
    let Some(Data::Table(named)) =
        proxy.section.own().and_then(|own| own.entry("acl")).map(|entry| &entry.value.data)
    else {
        return;
    };
    for acl in &named.entries {
        let mut texts = Vec::new();
        strings(&acl.value, &mut texts);
        for text in texts {
            if let Some((message, help)) =
                words(text).and_then(|words| test(&words)).and_then(|t| impossible(&t))
            {
                context.warning(acl.value.span.start, message, Some(help));
            }
        }
    }
}

/// Conditions of rules that never hold, and rules that another takes everything from.
pub(super) fn rules(context: &Context<'_>, proxy: &Proxy<'_>, rules: &[Entry<'_>]) {
    let terms: Vec<Option<Vec<Term>>> = rules
        .iter()
        .map(|rule| match &rule.condition {
            Some((false, text)) => conjunction(proxy, text),
            _ => None,
        })
        .collect();
    for (rule, terms) in rules.iter().zip(&terms) {
        let Some(terms) = terms else { continue };
        let inline = terms.iter().filter(|term| term.text.starts_with('{'));
        if let Some((message, help)) = inline.flat_map(|term| &term.tests).find_map(impossible) {
            context.warning(rule.at, message, Some(help));
        }
        let both = terms.iter().find(|term| {
            !term.is_negated && terms.iter().any(|other| other.is_negated && other.text == term.text)
        });
        if let Some(term) = both {
            let message = format!("it never applies: nothing passes {0} and fails {0}", term.text);
            context.warning(rule.at, message, Some("write or between them, or remove one".to_owned()));
        }
    }
    for (index, (rule, own)) in rules.iter().zip(&terms).enumerate().filter(|(_, (rule, _))| rule.ends()) {
        // One term alone: whatever passes it is taken.
        let Some([taking]) = own.as_deref() else { continue };
        if taking.is_negated {
            continue;
        }
        let later = rules[index + 1..].iter().zip(&terms[index + 1..]).take_while(|(later, _)| later.ends());
        for (later, terms) in later.filter(|(later, _)| later.condition != rule.condition) {
            let found = terms.iter().flatten().find_map(|term| taken(taking, term));
            if let Some(example) = found {
                let message = format!(
                    "this rule never runs: {} at {} takes {example} as well",
                    rule.action, rule.origin
                );
                let help = "put the more specific rule first".to_owned();
                context.warning(later.at, message, Some(help));
            }
        }
    }
}

/// Whether all that passes a term passes another before it: an example of it.
fn taken(taking: &Term, term: &Term) -> Option<String> {
    if term.is_negated || term.tests.is_empty() || term.text == taking.text {
        return None;
    }
    let is_taken =
        |test: &Test, pattern: &String| taking.tests.iter().any(|taking| covers(taking, test, pattern));
    let all = term
        .tests
        .iter()
        .all(|test| !test.patterns.is_empty() && test.patterns.iter().all(|pattern| is_taken(test, pattern)));
    if all { term.tests.first()?.patterns.first().cloned() } else { None }
}

/// Whether a test matches everything that another matches by a pattern.
fn covers(taking: &Test, test: &Test, pattern: &str) -> bool {
    if taking.fetch != test.fetch || (test.is_insensitive && !taking.is_insensitive) {
        return false;
    }
    let fold = |text: &str| if taking.is_insensitive { text.to_ascii_lowercase() } else { text.to_owned() };
    let pattern = fold(pattern);
    taking.patterns.iter().map(|own| fold(own)).any(|own| match (taking.method, test.method) {
        (Method::Exact, Method::Exact) => pattern == own,
        (Method::Begins, Method::Begins | Method::Exact) => pattern.starts_with(&own),
        (Method::Ends, Method::Ends | Method::Exact) => pattern.ends_with(&own),
        _ => false,
    })
}

/// Why no request passes a test, and what may have been meant.
fn impossible(test: &Test) -> Option<(String, String)> {
    if test.patterns.is_empty() || test.patterns.iter().any(String::is_empty) {
        return None;
    }
    let all = |wrong: &dyn Fn(&str) -> bool| test.patterns.iter().all(|pattern| wrong(pattern));
    let first = &test.patterns[0];
    let has_capital = |text: &str| text.bytes().any(|b| b.is_ascii_uppercase());
    let has_small = |text: &str| text.bytes().any(|b| b.is_ascii_lowercase());
    let told = |message: String, help: String| Some((format!("this test never matches: {message}"), help));
    if test.method == Method::Other {
        return None;
    }
    let fetch = test.fetch.to_ascii_lowercase();
    let is_host = matches!(fetch.as_str(), "hdr(host)" | "req.hdr(host)");
    match fetch.as_str() {
        "path" if test.method != Method::Ends && all(&|p| !p.starts_with('/') && p != "*") => told(
            format!("a path begins with a slash, /{first}, and {first} does not"),
            format!("write /{first}, or path_sub to find it anywhere"),
        ),
        "method" if !test.is_insensitive && all(&has_small) => told(
            format!("methods are sent in capitals, and {first} is not"),
            format!("write {}", first.to_ascii_uppercase()),
        ),
        _ if is_host && all(&|p| p.contains('/')) => told(
            format!("Host holds no path and no scheme, and {first} does"),
            "test the path with path_beg, and Host with the name alone".to_owned(),
        ),
        _ if is_host && !test.is_insensitive && all(&has_capital) => {
            told(format!("clients send host names in small letters, and {first} is not"), "add -i".to_owned())
        }
        _ if fetch.ends_with(",lower") && !test.is_insensitive && all(&has_capital) => told(
            format!("what lower returns has no capitals, and {first} has"),
            format!("write {}", first.to_ascii_lowercase()),
        ),
        _ if fetch.ends_with(",upper") && !test.is_insensitive && all(&has_small) => told(
            format!("what upper returns has capitals alone, and {first} has others"),
            format!("write {}", first.to_ascii_uppercase()),
        ),
        _ => None,
    }
}

/// The terms of a condition that all have to hold; `None`: it is not of that kind.
fn conjunction(proxy: &Proxy<'_>, text: &str) -> Option<Vec<Term>> {
    let words = words(text)?;
    let mut terms = Vec::new();
    let mut is_negated = false;
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        let mut word = word.as_str();
        match word {
            "and" | "&&" => continue,
            "not" | "!" => {
                is_negated = !is_negated;
                continue;
            }
            "or" | "||" | "(" | ")" => return None,
            _ => {}
        }
        if let Some(rest) = word.strip_prefix('!') {
            (word, is_negated) = (rest, !is_negated);
        }
        let term = if word == "{" {
            let end = at + words[at..].iter().position(|word| word == "}")?;
            let inside = &words[at..end];
            at = end + 1;
            Term {
                is_negated,
                text: format!("{{ {} }}", inside.join(" ")),
                tests: test(inside).into_iter().collect(),
            }
        } else if word.contains(['(', ')', '{', '}']) {
            return None;
        } else {
            Term { is_negated, text: word.to_owned(), tests: named(proxy, word).unwrap_or_default() }
        };
        terms.push(term);
        is_negated = false;
    }
    Some(terms)
}

/// The tests of a named ACL; `None`: not all of them are plain.
fn named(proxy: &Proxy<'_>, name: &str) -> Option<Vec<Test>> {
    let acl = match &proxy.section.own()?.entry("acl")?.value.data {
        Data::Table(named) => named.entry(name)?,
        _ => return None,
    };
    let mut texts = Vec::new();
    strings(&acl.value, &mut texts);
    texts.into_iter().map(|text| test(&words(text)?)).collect()
}

/// One test out of its words; `None`: its patterns are in a file, or it is not plain.
fn test(words: &[String]) -> Option<Test> {
    let (fetch, rest) = words.split_first()?;
    let mut method = None;
    let mut is_insensitive = false;
    let mut words = rest.iter().peekable();
    while let Some(flag) = words.next_if(|word| word.starts_with('-') && word.len() == 2) {
        match flag.as_str() {
            "-i" => is_insensitive = true,
            "-m" => method = Some(words.next()?.clone()),
            "--" => break,
            _ => return None,
        }
    }
    let patterns: Vec<String> = words.cloned().collect();
    if patterns.iter().any(|pattern| pattern.contains("${") || pattern.contains('%')) {
        return None;
    }
    let name_end = fetch.find(['(', ',']).unwrap_or(fetch.len());
    let (name, arguments) = fetch.split_at(name_end);
    let known = [
        ("_beg", "beg"),
        ("_end", "end"),
        ("_sub", "sub"),
        ("_dir", "dir"),
        ("_dom", "dom"),
        ("_reg", "reg"),
        ("_len", "len"),
    ];
    let suffix = known.iter().find_map(|(suffix, method)| Some((name.strip_suffix(suffix)?, *method)));
    let (name, by_name) = suffix.map_or((name, None), |(name, method)| (name, Some(method.to_owned())));
    let method = match method.or(by_name).as_deref() {
        None | Some("str") => Method::Exact,
        Some("beg") => Method::Begins,
        Some("end") => Method::Ends,
        Some(_) => Method::Other,
    };
    Some(Test { fetch: format!("{name}{arguments}"), method, is_insensitive, patterns })
}

/// The words of a condition, without quotes and backslashes; `None`: a quote is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let mut out: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('\\', None | Some('"')) => word.get_or_insert_default().push(chars.next()?),
            (c, None) if c.is_whitespace() => out.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    out.extend(word);
    quote.is_none().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Test {
        test(&words(text).expect("words")).expect("a test")
    }

    #[test]
    fn tests_that_nothing_passes_are_found() {
        for (text, word) in [
            ("path_beg api", "slash"),
            ("path -m beg api v1", "slash"),
            ("path api", "slash"),
            ("method get post", "capitals"),
            ("hdr(host) example.com/app", "no path"),
            ("hdr(Host) WWW.example.com", "small letters"),
            ("req.hdr(x-a),lower -m str Yes", "no capitals"),
            ("path,upper /API", ""),
            ("path,upper /api", "capitals alone"),
            ("path_beg api /api", ""),
            ("path_beg ''", ""),
            ("path_sub api", ""),
            ("path_end .png", ""),
            ("path *", ""),
            ("path_reg ^api", ""),
            ("hdr(host) -i WWW.example.com", ""),
            ("method GET", ""),
            ("src 10.0.0.0/8", ""),
        ] {
            let found = impossible(&of(text)).map(|(message, _)| message).unwrap_or_default();
            assert!(found.contains(word) && found.is_empty() == word.is_empty(), "{text}: {found}");
        }
        for text in ["path -f /etc/list", "path_beg ${BASE}"] {
            assert_eq!(test(&words(text).expect("words")), None, "{text}");
        }
    }

    #[test]
    fn a_test_that_matches_more_takes_the_other() {
        for (first, second, is_taken) in [
            ("path_beg /api", "path_beg /api/v2", true),
            ("path_beg /api", "path /api/x", true),
            ("path_beg /api/v2", "path_beg /api", false),
            ("path_beg -i /API", "path_beg /api/v2", true),
            ("path_beg /api", "path_beg -i /api/v2", false),
            ("hdr_end(host) example.com", "hdr(host) www.example.com", true),
            ("path_beg /a", "path_beg /ab /b", false),
            ("path_beg /a", "url_beg /ab", false),
        ] {
            let term = |text: &str| Term { is_negated: false, text: text.to_owned(), tests: vec![of(text)] };
            assert_eq!(taken(&term(first), &term(second)).is_some(), is_taken, "{first}; {second}");
        }
    }
}

//! Words of HAProxy 1.x and what became of them.

/// The directive as it is written today, if it is one of the renamed.
pub(super) fn renamed(words: &[String]) -> Option<Vec<String>> {
    const NAMES: &[(&str, &str)] = &[
        ("redispatch", "option redispatch"),
        ("contimeout", "timeout connect"),
        ("clitimeout", "timeout client"),
        ("srvtimeout", "timeout server"),
        ("timeout contimeout", "timeout connect"),
        ("timeout clitimeout", "timeout client"),
        ("timeout srvtimeout", "timeout server"),
    ];
    let (old, new) = NAMES.iter().find(|(old, _)| super::coverage::begins(words, old))?;
    let rest = words[old.split(' ').count()..].iter().cloned();
    Some(new.split(' ').map(str::to_owned).chain(rest).collect())
}

/// What a `req...` or `rsp...` line means today.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Today {
    pub(super) list: List,
    /// The words of the rule, its condition included; of `use_backend` for routes.
    pub(super) words: Vec<String>,
    /// In what it differs.
    pub(super) near: Option<&'static str>,
}

/// Where a rule goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum List {
    Request,
    Response,
    Route,
}

/// The rule for a `req...` or `rsp...` line.
pub(super) fn rule(words: &[String]) -> Result<Today, String> {
    let keyword = words[0].as_str();
    let is_response = keyword.starts_with("rsp");
    let (arguments, condition) = super::rules::split_condition(&words[1..]);
    let what = keyword.trim_start_matches("req").trim_start_matches("rsp");
    // `i`: the pattern does not look at case.
    let (what, flags) = match what.strip_prefix('i') {
        Some(what) => (what, "(?i)"),
        None => (what, ""),
    };
    let list = if is_response { List::Response } else { List::Request };
    let done = |words: Vec<String>| Today {
        list,
        words: words.into_iter().chain(condition.iter().cloned()).collect(),
        near: None,
    };
    match (what, arguments) {
        ("add", [line]) => {
            let (name, value) = line.split_once(':').ok_or("the header has no colon")?;
            Ok(done(texts(&["add-header", name, &value.trim_start().replace('%', "%%")])))
        }
        ("del", [pattern]) => delete(pattern, flags, is_response, condition, done),
        ("rep", [pattern, replacement]) if !is_response && of_request_line(pattern).is_some() => {
            let (pattern, replacement) = request_line(pattern, replacement)?;
            let pattern = format!("{flags}^{pattern}");
            Ok(done(texts(&["replace-uri", &pattern, &replacement.replace('%', "%%")])))
        }
        ("rep", [pattern, replacement]) => {
            let (name, pattern) = header_of(pattern)
                .ok_or("it rewrites the request line: write set-path, replace-path or set-method")?;
            let (new_name, replacement) =
                header_of(replacement).ok_or("the replacement is not the same header")?;
            if !new_name.eq_ignore_ascii_case(&name) {
                return Err(format!("it renames the header {name}: write del-header and set-header"));
            }
            let pattern = format!("{flags}^{pattern}");
            Ok(done(texts(&["replace-header", &name, &pattern, &replacement.replace('%', "%%")])))
        }
        ("deny" | "tarpit" | "allow", [pattern]) => {
            let tests = tests(pattern, flags, is_response)?;
            let words = [vec![what.to_owned()], both(&tests, condition)?].concat();
            Ok(Today { list, words, near: None })
        }
        ("setbe", [pattern, backend]) if !is_response => {
            let tests = tests(pattern, flags, is_response)?;
            let words = [vec![backend.clone()], both(&tests, condition)?].concat();
            Ok(Today { list: List::Route, words, near: None })
        }
        _ => Err("write http-request and http-response rules".to_owned()),
    }
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// `reqdel` and its kin: headers by a pattern of their line.
fn delete(
    pattern: &str,
    flags: &str,
    is_response: bool,
    condition: &[String],
    done: impl Fn(Vec<String>) -> Today,
) -> Result<Today, String> {
    let is_any = |value: &str| matches!(value, "" | ".*" | ".*$");
    match header_of(pattern) {
        Some((name, value)) if is_any(&value) => Ok(done(texts(&["del-header", &name]))),
        Some((name, value)) => {
            let test = header_test(&name, &value, flags, is_response);
            let list = if is_response { List::Response } else { List::Request };
            let words = [texts(&["del-header", &name]), both(&[test], condition)?].concat();
            let near = "where a header has several lines and one of them matches, all of them go";
            Ok(Today { list, words, near: Some(near) })
        }
        None => {
            let (name, _) = pattern
                .strip_prefix('^')
                .and_then(name_and_value)
                .filter(|(name, value)| is_any(value) && !name.is_empty())
                .ok_or("write an http-request del-header rule: the pattern is more than names of headers")?;
            // Names of headers have no case.
            Ok(done(texts(&["del-header", &format!("(?i)^{name}$"), "-m", "reg"])))
        }
    }
}

/// The conditions that a pattern over a whole line comes to.
fn tests(pattern: &str, flags: &str, is_response: bool) -> Result<Vec<Vec<String>>, String> {
    if let Some((name, value)) = header_of(pattern) {
        return Ok(vec![header_test(&name, &value, flags, is_response)]);
    }
    let advice = "write a rule: the pattern is neither about one header nor about the request line";
    let line = pattern.strip_prefix('^').filter(|_| !is_response).ok_or(advice)?;
    let (method, uri) = line.split_once(' ').ok_or(advice)?;
    // What stands behind the URI is the version.
    let uri = uri.strip_suffix('$').unwrap_or(uri);
    if uri.contains(' ') {
        return Err(advice.to_owned());
    }
    let method = method.strip_prefix('(').and_then(|m| m.strip_suffix(')')).unwrap_or(method);
    let mut all = Vec::new();
    if !is_any_method(method) {
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'|') {
            return Err(advice.to_owned());
        }
        let methods = method.split('|').map(str::to_owned);
        all.push([texts(&["{", "method"]), methods.collect(), texts(&["}"])].concat());
    }
    all.push(texts(&["{", "url", "-m", "reg", &format!("{flags}^{uri}"), "}"]));
    Ok(all)
}

fn header_test(name: &str, value: &str, flags: &str, is_response: bool) -> Vec<String> {
    let fetch = format!("{}.fhdr({name})", if is_response { "res" } else { "req" });
    texts(&["{", &fetch, "-m", "reg", &format!("{flags}^{value}"), "}"])
}

/// A condition of which the tests are a part beside the one that the line has.
fn both(tests: &[Vec<String>], condition: &[String]) -> Result<Vec<String>, String> {
    let tests = tests.concat();
    let own: Vec<Vec<String>> = match condition {
        [] => vec![Vec::new()],
        [word, rest @ ..] if word == "if" => {
            rest.split(|word| word == "||" || word == "or").map(<[String]>::to_vec).collect()
        }
        [_, name] if !name.starts_with('!') => vec![vec![format!("!{name}")]],
        _ => return Err("write a rule with a condition: this one is too much for unless".to_owned()),
    };
    let alternatives: Vec<String> =
        own.into_iter().map(|own| [tests.clone(), own].concat()).collect::<Vec<_>>().join(&"||".to_owned());
    Ok(std::iter::once("if".to_owned()).chain(alternatives).collect())
}

/// A pattern that takes every method.
fn is_any_method(pattern: &str) -> bool {
    matches!(
        pattern,
        "[^ :]*"
            | "[^ ]*"
            | "[^ :]+"
            | "[^ ]+"
            | "[^:]*"
            | "\\w+"
            | "\\w*"
            | "[A-Z]*"
            | "[A-Z]+"
            | ".*"
            | ".*?"
    )
}

/// A pattern over the request line that begins with a group for the method: the rest, which is about the URI, and whether the space
/// behind the method is in the group.
fn of_request_line(pattern: &str) -> Option<(&str, bool)> {
    let inside = pattern.strip_prefix("^(")?;
    let (method, rest) = inside.split_once(')')?;
    // Nothing but a class or words: a colon in what it does not mean keeps headers out.
    let is_method = is_any_method(method.trim_end())
        || method.trim_end().bytes().all(|b| b.is_ascii_uppercase() || b == b'|');
    match (is_method, method.ends_with(' ')) {
        (true, true) => Some((rest, true)),
        (true, false) => Some((rest.strip_prefix(' ')?, false)),
        _ => None,
    }
}

/// The same as a pattern over the URI and its replacement: the group of the method goes, the others move up.
fn request_line(pattern: &str, replacement: &str) -> Result<(String, String), String> {
    let advice =
        "it changes more of the request line than the URI: write set-path, replace-path or set-method";
    let (uri, has_space) = of_request_line(pattern).ok_or(advice)?;
    let kept = if has_space { "\\1" } else { "\\1 " };
    let new = replacement.strip_prefix(kept).ok_or(advice)?;
    // The version stays behind what the last group took.
    let uri = uri.strip_suffix('$').unwrap_or(uri);
    if uri.contains(' ') || new.contains(' ') || new.contains("\\1") || new.contains("\\0") {
        return Err(advice.to_owned());
    }
    let mut moved = String::new();
    let mut chars = new.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek().and_then(|next| next.to_digit(10))) {
            ('\\', Some(number)) => {
                chars.next();
                // 1 was refused above.
                moved.push_str(&format!("\\{}", number.saturating_sub(1)));
            }
            (c, _) => moved.push(c),
        }
    }
    Ok((uri.to_owned(), moved))
}

/// A pattern over a whole header line that begins with a literal name: the name, and the pattern for the value.
fn header_of(pattern: &str) -> Option<(String, String)> {
    let (name, value) = name_and_value(pattern.strip_prefix('^').unwrap_or(pattern))?;
    let literal =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    literal.then(|| (name.to_owned(), value))
}

/// Cuts the pattern of a line at the colon behind the name.
fn name_and_value(pattern: &str) -> Option<(&str, String)> {
    let mut in_class = false;
    let colon = pattern.bytes().position(|byte| {
        in_class = match byte {
            b'[' => true,
            b']' => false,
            _ => in_class,
        };
        byte == b':' && !in_class
    })?;
    let (name, rest) = (&pattern[..colon], pattern[colon + 1..].trim_start_matches(' '));
    let spaces = ["\\s*", "\\s+", "[ ]*", "\\ *"];
    let rest = spaces.iter().find_map(|space| rest.strip_prefix(space)).unwrap_or(rest);
    (!name.contains(' ')).then(|| (name, rest.trim_start().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(';').map(str::to_owned).collect()
    }

    #[test]
    fn old_rules_become_new_ones() {
        for (old, new) in [
            ("rspidel;^Server:", "del-header;Server"),
            ("rspidel;^X-Powered-By:.*;if;x", "del-header;X-Powered-By;if;x"),
            ("reqadd;X-Proto: 100% https", "add-header;X-Proto;100%% https"),
            (
                "rspirep;^Location: http://(.*);Location: https://\\1",
                "replace-header;Location;(?i)^http://(.*);https://\\1",
            ),
            ("reqrep;^([^ :]*) /static/(.*);\\1 /\\2", "replace-uri;^/static/(.*);/\\1"),
            ("reqirep;^(\\w+ )https:/(/.*)$;\\1http:/\\2", "replace-uri;(?i)^https:/(/.*);http:/\\1"),
            ("reqidel;^(X-A|X-B):", "del-header;(?i)^(X-A|X-B)$;-m;reg"),
            ("rspdel;^X-[^:]*:.*$", "del-header;(?i)^X-[^:]*$;-m;reg"),
            ("rspidel;^A: b", "del-header;A;if;{;res.fhdr(A);-m;reg;(?i)^b;}"),
            (
                "reqideny;^[^:]* /admin;if;!local;or;night",
                "deny;if;{;url;-m;reg;(?i)^/admin;};!local;||;{;url;-m;reg;(?i)^/admin;};night",
            ),
            ("reqdeny;^(PUT|DELETE) /", "deny;if;{;method;PUT;DELETE;};{;url;-m;reg;^/;}"),
            (
                "reqtarpit;^User-Agent:.*bad;unless;good",
                "tarpit;if;{;req.fhdr(User-Agent);-m;reg;^.*bad;};!good",
            ),
            ("reqisetbe;^Host: img;static", "static;if;{;req.fhdr(Host);-m;reg;(?i)^img;}"),
            ("rspdeny;^Set-Cookie:", "deny;if;{;res.fhdr(Set-Cookie);-m;reg;^;}"),
        ] {
            let today = rule(&words(old)).expect(old);
            assert_eq!(today.words.join(";"), new);
            let list = match () {
                () if old.contains("setbe") => List::Route,
                () if old.starts_with("rsp") => List::Response,
                () => List::Request,
            };
            assert_eq!((today.list, today.near.is_some()), (list, old.ends_with("A: b")), "{old}");
        }
        for old in [
            "reqrep;^([^ ]*) /a(.*);GET /b\\2",
            "reqrep;^([^ ]*) /a(.*) HTTP/1.0;\\1 /b\\2 HTTP/1.1",
            "reqdel;(X-A|X-B):",
            "reqdel;secret",
            "reqadd;nothing",
            "reqdel",
            "reqpass;^X:",
            "reqdeny;bad",
            "reqdeny;^GET /a HTTP/1.0",
            "reqdeny;^X: y;unless;a;b",
        ] {
            assert!(rule(&words(old)).is_err(), "{old}");
        }
        assert_eq!(renamed(&words("clitimeout;50000")), Some(words("timeout;client;50000")));
        assert_eq!(renamed(&words("timeout;client;1")), None);
    }
}

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

/// What a `req...` or `rsp...` line means today: the words of an `http-request` or `http-response` rule after its first.
pub(super) fn rule(words: &[String]) -> Result<(bool, Vec<String>), String> {
    let keyword = words[0].as_str();
    let is_response = keyword.starts_with("rsp");
    let (arguments, condition) = match words.iter().position(|word| word == "if" || word == "unless") {
        Some(at) => (&words[1..at], &words[at..]),
        None => (&words[1..], &[][..]),
    };
    let mut rule: Vec<String> = match (keyword.trim_start_matches("req").trim_start_matches("rsp"), arguments)
    {
        ("add", [line]) => {
            let (name, value) = line.split_once(':').ok_or("the header has no colon")?;
            vec!["add-header".to_owned(), name.to_owned(), value.trim_start().replace('%', "%%")]
        }
        ("del" | "idel", [pattern]) => {
            let (name, rest) = header_of(pattern).ok_or(
                "write an http-request del-header rule: the pattern is more than the name of a header",
            )?;
            if !matches!(rest.as_str(), "" | ".*" | ".*$") {
                return Err("write a rule with a condition on the value of the header".to_owned());
            }
            vec!["del-header".to_owned(), name]
        }
        ("rep" | "irep", [pattern, replacement]) if !is_response && of_request_line(pattern).is_some() => {
            let flags = if keyword.contains('i') { "(?i)" } else { "" };
            let (pattern, replacement) = request_line(pattern, replacement)?;
            vec!["replace-uri".to_owned(), format!("{flags}^{pattern}"), replacement.replace('%', "%%")]
        }
        ("rep" | "irep", [pattern, replacement]) => {
            let (name, pattern) = header_of(pattern)
                .ok_or("it rewrites the request line: write set-path, replace-path or set-method")?;
            let (new_name, replacement) =
                header_of(replacement).ok_or("the replacement is not the same header")?;
            if !new_name.eq_ignore_ascii_case(&name) {
                return Err(format!("it renames the header {name}: write del-header and set-header"));
            }
            let flags = if keyword.contains('i') { "(?i)" } else { "" };
            vec![
                "replace-header".to_owned(),
                name,
                format!("{flags}^{pattern}"),
                replacement.replace('%', "%%"),
            ]
        }
        _ => return Err("write http-request and http-response rules".to_owned()),
    };
    rule.extend(condition.iter().cloned());
    Ok((is_response, rule))
}

/// A pattern over the request line that begins with a group for the method: the rest, which is about the URI, and whether the space
/// behind the method is in the group.
fn of_request_line(pattern: &str) -> Option<(&str, bool)> {
    let inside = pattern.strip_prefix("^(")?;
    let (method, rest) = inside.split_once(')')?;
    // Nothing but a class or words: a colon in what it does not mean keeps headers out.
    let is_method = matches!(
        method.trim_end(),
        "[^ :]*" | "[^ ]*" | "[^ :]+" | "[^ ]+" | "\\w+" | "\\w*" | "[A-Z]*" | "[A-Z]+" | ".*" | ".*?"
    ) || method.trim_end().bytes().all(|b| b.is_ascii_uppercase() || b == b'|');
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
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    let (name, rest) = pattern.split_once(':')?;
    let literal =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let rest = rest.trim_start_matches(' ');
    let rest =
        ["\\s*", "\\s+", "[ ]*", "\\ *"].iter().find_map(|space| rest.strip_prefix(space)).unwrap_or(rest);
    literal.then(|| (name.to_owned(), rest.trim_start().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split('|').map(str::to_owned).collect()
    }

    #[test]
    fn old_rules_become_new_ones() {
        for (old, new) in [
            ("rspidel|^Server:", "del-header|Server"),
            ("rspidel|^X-Powered-By:.*|if|x", "del-header|X-Powered-By|if|x"),
            ("reqadd|X-Proto: 100% https", "add-header|X-Proto|100%% https"),
            (
                "rspirep|^Location: http://(.*)|Location: https://\\1",
                "replace-header|Location|(?i)^http://(.*)|https://\\1",
            ),
            ("reqrep|^([^ :]*) /static/(.*)|\\1 /\\2", "replace-uri|^/static/(.*)|/\\1"),
            ("reqirep|^(\\w+ )https:/(/.*)$|\\1http:/\\2", "replace-uri|(?i)^https:/(/.*)|http:/\\1"),
        ] {
            let (is_response, rule) = rule(&words(old)).expect(old);
            assert_eq!(rule.join("|"), new);
            assert_eq!(is_response, old.starts_with("rsp"));
        }
        for old in [
            "reqrep|^([^ ]*) /a(.*)|GET /b\\2",
            "reqrep|^([^ ]*) /a(.*) HTTP/1.0|\\1 /b\\2 HTTP/1.1",
            "reqdel|^(X-A|X-B):",
            "reqadd|nothing",
            "reqdel",
            "rspidel|^A: b",
        ] {
            assert!(rule(&words(old)).is_err(), "{old}");
        }
        assert_eq!(renamed(&words("clitimeout|50000")), Some(words("timeout|client|50000")));
        assert_eq!(renamed(&words("timeout|client|1")), None);
    }
}

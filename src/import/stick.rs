//! `stick-table`, `stick on` and its kin, and the actions of rules that count.

use super::proxy::{Outcome, Proxy};
use super::rules;
use super::source::Directive;
use super::toml::Val;

/// `stick-table type ip size 1m expire 10s store gpc0,conn_rate(10s)`.
pub(super) fn table(proxy: &mut Proxy<'_, '_>, d: &Directive) -> Outcome {
    let mut entries: Vec<(String, Val)> = Vec::new();
    let mut store: Vec<String> = Vec::new();
    let mut near: Option<&str> = None;
    let mut words = d.words[1..].iter().peekable();
    while let Some(word) = words.next() {
        if word == "nopurge" {
            entries.push((word.clone(), Val::Flag(true)));
            continue;
        }
        if word == "recv-only" {
            near = Some("tables are not shared with peers");
            continue;
        }
        let Some(value) = words.next() else { return Outcome::Wrong(format!("{word} needs a value")) };
        match word.as_str() {
            "type" => {
                entries.push((word.clone(), Val::text(value)));
                match words.peek().map(|word| word.as_str()) {
                    Some("len" | "length") => {
                        words.next();
                        let len = words.next().and_then(|len| proxy.variables.expand(len).parse().ok());
                        let Some(len) = len else { return Outcome::Wrong("len needs a number".to_owned()) };
                        entries.push(("len".to_owned(), Val::Int(len)));
                    }
                    // HAProxy takes a bare number, too.
                    Some(number) if number.parse::<i64>().is_ok() => {
                        entries.push(("len".to_owned(), Val::Int(number.parse().unwrap_or(32))));
                        words.next();
                    }
                    _ => {}
                }
            }
            "size" | "expire" => entries.push((word.clone(), Val::text(unit(word, value)))),
            "store" => store.extend(pieces(value)),
            "peers" => near = Some("tables are not shared with peers: each machine counts for itself"),
            "srvkey" | "write-to" | "brates-factor" => {
                return Outcome::No(format!("{word} of stick-table is not in this version"));
            }
            _ => return Outcome::Wrong(format!("\"{word}\" is no option of stick-table")),
        }
    }
    // What HAProxy keeps to talk to others, and what it is made of here.
    store.retain(|word| word != "server_key" && word != "server_name");
    if let Some(word) = store.iter().find(|word| word.starts_with("glitch_")) {
        return Outcome::No(format!(
            "{word} is not in this version; h2 limits close connections that misbehave"
        ));
    }
    if !store.is_empty() {
        entries.push(("store".to_owned(), Val::texts(&store)));
    }
    match (proxy.put(&["stick-table"], Val::Table(entries), d), near) {
        (Outcome::Exact, Some(how)) => Outcome::Near(how.to_owned()),
        (outcome, _) => outcome,
    }
}

/// `appsession COOKIE len LENGTH timeout TIME [request-learn] [prefix] [mode ...]` of HAProxy 1.5 and before, as its manual says to
/// write it since: the server of a session is remembered under the cookie that the application sets.
pub(super) fn appsession(proxy: &mut Proxy<'_, '_>, d: &Directive) -> Outcome {
    let mut words = d.words[1..].iter();
    let Some(cookie) = words.next() else {
        return Outcome::Wrong("appsession needs the name of a cookie".to_owned());
    };
    let (mut len, mut expire) = (32, None);
    let mut learns = false;
    while let Some(word) = words.next() {
        match word.as_str() {
            "request-learn" => learns = true,
            "prefix" | "mode" => return Outcome::No("it also looks for the session in the URL, or for a part of the cookie: write a stick-table with stick on url_param()".to_owned()),
            "len" => match words.next().and_then(|len| proxy.variables.expand(len).parse::<i64>().ok()) {
                Some(number) => len = number,
                None => return Outcome::Wrong("len needs a number".to_owned()),
            },
            "timeout" => match words.next() {
                Some(time) => expire = Some(unit("expire", time)),
                None => return Outcome::Wrong("timeout needs a time".to_owned()),
            },
            _ => return Outcome::Wrong(format!("\"{word}\" is no option of appsession")),
        }
    }
    let Some(expire) = expire else { return Outcome::Wrong("appsession needs a timeout".to_owned()) };
    if proxy.table.get(&["stick-table"]).is_some() {
        return Outcome::No(
            "the section has a stick-table already: give appsession's cookie a backend of its own".to_owned(),
        );
    }
    let table = vec![
        ("type".to_owned(), Val::text("string")),
        ("len".to_owned(), Val::Int(len)),
        ("size".to_owned(), Val::text(SESSIONS)),
        ("expire".to_owned(), Val::Text(expire)),
    ];
    proxy.table.set(&["stick-table"], Val::Table(table), d.place, &d.comments);
    let verb = if learns { "on" } else { "match" };
    for (verb, key) in
        [(verb, format!("req.cook({cookie})")), ("store-response", format!("res.cook({cookie})"))]
    {
        proxy.table.push("stick", Val::Table(vec![(verb.to_owned(), Val::Text(key))]), d.place, &[]);
    }
    Outcome::Near(format!("a stick-table remembers {SESSIONS} sessions; the oldest make room for new ones"))
}

/// Sessions that a table made of `appsession` remembers, which had no bound of its own.
const SESSIONS: &str = "100k";

/// A time without unit is milliseconds in both; a size without one is a number.
fn unit(word: &str, value: &str) -> String {
    match value.bytes().all(|b| b.is_ascii_digit()) && word == "expire" {
        true => format!("{value}ms"),
        false => value.to_owned(),
    }
}

/// Splits at commas outside of parentheses; the period of a rate may be a bare number of milliseconds.
fn pieces(text: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut depth = 0_u32;
    for c in text.chars() {
        match c {
            ',' if depth == 0 => out.push(String::new()),
            c => {
                match c {
                    '(' => depth += 1,
                    ')' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                out.last_mut().expect("one at least").push(c);
            }
        }
    }
    out.retain(|word| !word.is_empty());
    out
}

/// `stick on EXPRESSION [table NAME] [if CONDITION]`.
pub(super) fn stick(proxy: &mut Proxy<'_, '_>, d: &Directive) -> Outcome {
    let [_, verb, rest @ ..] = d.words.as_slice() else {
        return Outcome::Wrong("write stick on EXPRESSION".to_owned());
    };
    if verb == "store-response" && !proxy.http {
        return Outcome::No("in TCP mode servers are remembered under keys of the client alone".to_owned());
    }
    let (arguments, condition) = rules::split_condition(rest);
    let (key, table) = key(arguments);
    if key.is_empty() {
        return Outcome::Wrong(format!("stick {verb} needs an expression"));
    }
    let mut entry = vec![(verb.clone(), Val::Text(key))];
    entry.extend(table.map(|table| ("table".to_owned(), Val::text(table))));
    match rules::condition(condition) {
        Ok(Some((unless, text))) => {
            entry.push((if unless { "unless" } else { "if" }.to_owned(), Val::Text(text)));
        }
        Ok(None) => {}
        Err(message) => return Outcome::Wrong(message),
    }
    proxy.table.push("stick", Val::Table(entry), d.place, &d.comments);
    Outcome::Exact
}

/// An expression, and the table behind it.
fn key(words: &[String]) -> (String, Option<&String>) {
    match words {
        [key @ .., word, table] if word == "table" => (key.join(" "), Some(table)),
        key => (key.join(" "), None),
    }
}

/// Key and value of an action that counts; `None`: it is another one.
pub(super) fn action(
    name: &str,
    parameter: Option<&str>,
    arguments: &[String],
) -> Option<Result<(String, Val), Outcome>> {
    let wrong = |usage: &str| Some(Err(Outcome::Wrong(format!("write {usage}"))));
    if let Some(number) = name.strip_prefix("track-sc") {
        if !matches!(number, "0" | "1" | "2") {
            return Some(Err(Outcome::No("there are the counters 0 to 2".to_owned())));
        }
        let (key, table) = key(arguments);
        if key.is_empty() {
            return wrong(&format!("{name} KEY [table NAME]"));
        }
        return Some(Ok((
            name.to_owned(),
            match table {
                None => Val::Text(key),
                Some(table) => Val::Table(vec![
                    ("key".to_owned(), Val::Text(key)),
                    ("table".to_owned(), Val::text(table)),
                ]),
            },
        )));
    }
    let numbers: Option<Vec<i64>> =
        parameter.map(|text| text.split(',').map(|number| number.trim().parse().ok()).collect())?;
    let value = || Val::Text(arguments.join(" "));
    let entry = |pairs: Vec<(&str, Val)>| {
        let pairs = pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Some(Ok((name.to_owned(), Val::Table(pairs))))
    };
    match (name, numbers.as_deref(), arguments.is_empty()) {
        ("sc-inc-gpc0" | "sc-inc-gpc1", Some([counter]), true) => {
            Some(Ok((name.to_owned(), Val::Int(*counter))))
        }
        ("sc-inc-gpc0" | "sc-inc-gpc1", ..) => wrong(&format!("{name}(COUNTER)")),
        ("sc-inc-gpc", Some([index, counter]), true) => {
            entry(vec![("index", Val::Int(*index)), ("sc", Val::Int(*counter))])
        }
        ("sc-inc-gpc", ..) => wrong("sc-inc-gpc(INDEX,COUNTER)"),
        ("sc-set-gpt0", Some([counter]), false) => {
            entry(vec![("sc", Val::Int(*counter)), ("value", value())])
        }
        ("sc-set-gpt0", ..) => wrong("sc-set-gpt0(COUNTER) VALUE"),
        ("sc-add-gpc" | "sc-set-gpt", Some([index, counter]), false) => {
            entry(vec![("index", Val::Int(*index)), ("sc", Val::Int(*counter)), ("value", value())])
        }
        ("sc-add-gpc" | "sc-set-gpt", ..) => wrong(&format!("{name}(INDEX,COUNTER) VALUE")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_is_split_at_its_own_commas() {
        assert_eq!(pieces("gpc0,gpc_rate(2,10s),conn_cur"), ["gpc0", "gpc_rate(2,10s)", "conn_cur"]);
        assert_eq!(pieces(""), [""; 0]);
    }
}

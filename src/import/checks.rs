//! Health checks: `option httpchk`, `http-check`, `tcp-check` and the checks of protocols that are a script of a few lines.

use super::proxy::{Outcome, Proxy};
use super::source::{Directive, Place};
use super::toml::{Table, Val};
use super::value;
use crate::config::keywords::Scope;

/// The fields of `option httpchk`, its place and its comments.
type HttpChk = (Vec<(String, Val)>, Place, Vec<String>);

/// What a section says about its checks so far.
#[derive(Default)]
pub(super) struct Checks {
    httpchk: Option<HttpChk>,
    /// Steps of `http-check`.
    http: Vec<(Val, Place, Vec<String>)>,
    /// Steps of `tcp-check`.
    tcp: Vec<(Val, Place, Vec<String>)>,
    /// Whether `option tcp-check` holds.
    tcp_check: bool,
    disable_on_404: Option<Place>,
}

impl Checks {
    pub(super) fn finish(self, table: &mut Table) {
        let steps = !self.http.is_empty();
        if let Some((fields, place, comments)) = self.httpchk {
            let value = if fields.is_empty() { Val::Flag(true) } else { Val::Table(fields) };
            table.set(&["httpchk"], value, place, &comments);
            if steps {
                self.http
                    .into_iter()
                    .for_each(|(value, place, comments)| table.push("http-check", value, place, &comments));
            }
            if let Some(place) = self.disable_on_404 {
                table.set(&["disable-on-404"], Val::Flag(true), place, &[]);
            }
        } else if self.tcp_check {
            self.tcp
                .into_iter()
                .for_each(|(value, place, comments)| table.push("tcp-check", value, place, &comments));
        }
    }
}

/// Directives about checks, or `None`.
pub(super) fn directive(proxy: &mut Proxy<'_, '_>, keyword: &str, d: &Directive) -> Option<Outcome> {
    let rest = &d.words[keyword.split(' ').count()..];
    Some(match keyword {
        "option httpchk" => httpchk(proxy, rest, d),
        "option tcp-check" => {
            proxy.checks.tcp_check = true;
            proxy.checks.httpchk = None;
            Outcome::Exact
        }
        "option redis-check" => script(proxy, &[("send", "*1\r\n$4\r\nPING\r\n"), ("expect-string", "+PONG\r\n")], d),
        "option smtpchk" => {
            let hello = if rest.is_empty() { "HELO localhost".to_owned() } else { rest.join(" ") };
            let hello = format!("{hello}\r\n");
            script(proxy, &[("expect-regex", "^220"), ("send", &hello), ("expect-regex", "^250"), ("send", "QUIT\r\n")], d)
        }
        "http-check disable-on-404" => {
            proxy.checks.disable_on_404 = Some(d.place);
            Outcome::Exact
        }
        "http-check send" => step(proxy, "send", send(rest), d),
        "http-check connect" => step(proxy, "connect", connect(rest), d),
        "http-check expect" => expect(proxy, rest, d),
        "tcp-check send" | "tcp-check send-binary" => match rest {
            [text, ..] => {
                let value = Val::Table(vec![(d.words[1].clone(), Val::text(text))]);
                proxy.checks.tcp.push((value, d.place, d.comments.clone()));
                Outcome::Exact
            }
            [] => Outcome::Wrong("a text is missing".to_owned()),
        },
        "tcp-check connect" if rest.is_empty() && proxy.checks.tcp.is_empty() => Outcome::Exact,
        "tcp-check connect" if value::exists(Scope::TcpCheck, "connect") => match connect(rest) {
            Ok(value) => {
                proxy.checks.tcp.push((Val::Table(vec![("connect".to_owned(), value)]), d.place, d.comments.clone()));
                Outcome::Exact
            }
            Err(outcome) => outcome,
        },
        "tcp-check connect" => Outcome::No("a tcp-check has one connection in this version; addr, port and check-send-proxy stand at the server".to_owned()),
        "tcp-check expect" => tcp_expect(proxy, rest, d),
        _ => return None,
    })
}

fn script(proxy: &mut Proxy<'_, '_>, steps: &[(&str, &str)], d: &Directive) -> Outcome {
    proxy.checks.tcp_check = true;
    proxy.checks.tcp = steps
        .iter()
        .map(|(key, text)| (Val::Table(vec![((*key).to_owned(), Val::text(*text))]), d.place, Vec::new()))
        .collect();
    Outcome::Exact
}

/// `option httpchk [METHOD] [URI] [VERSION]`; of old the version carries headers behind it.
fn httpchk(proxy: &mut Proxy<'_, '_>, rest: &[String], d: &Directive) -> Outcome {
    let mut fields = Vec::new();
    let mut put = |key: &str, text: &str| fields.push((key.to_owned(), Val::text(text)));
    match rest {
        [] => {}
        [uri] => put("uri", uri),
        [method, uri] => {
            put("method", method);
            put("uri", uri);
        }
        [method, uri, version @ ..] => {
            put("method", method);
            put("uri", uri);
            let text = version.join(" ");
            let mut lines = text.split("\r\n");
            let version = lines.next().unwrap_or_default();
            if !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
                return Outcome::Wrong(format!(
                    "\"{version}\" is no version of HTTP/1; were backslashes of \\r\\n lost?"
                ));
            }
            put("version", version);
            let headers: Vec<(String, Val)> = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.trim().to_owned(), Val::text(value.trim())))
                .collect();
            if !headers.is_empty() {
                fields.push(("hdr".to_owned(), Val::Table(headers)));
            }
        }
    }
    proxy.checks.httpchk = Some((fields, d.place, d.comments.clone()));
    Outcome::Exact
}

fn step(proxy: &mut Proxy<'_, '_>, key: &str, value: Result<Val, Outcome>, d: &Directive) -> Outcome {
    match value {
        Ok(value) => {
            proxy.checks.http.push((Val::Table(vec![(key.to_owned(), value)]), d.place, d.comments.clone()));
            Outcome::Exact
        }
        Err(outcome) => outcome,
    }
}

fn send(words: &[String]) -> Result<Val, Outcome> {
    let mut fields = Vec::new();
    let mut headers = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut next =
            || words.next().cloned().ok_or_else(|| Outcome::Wrong(format!("{word} needs a value")));
        match word.as_str() {
            "meth" => fields.push(("method".to_owned(), Val::Text(next()?))),
            "uri" | "body" => fields.push((word.clone(), Val::Text(next()?))),
            "ver" => fields.push(("version".to_owned(), Val::Text(next()?))),
            "hdr" => headers.push((next()?, Val::Text(next()?))),
            "comment" => drop(next()?),
            "uri-lf" | "body-lf" => {
                return Err(Outcome::No(
                    "formats in checks are not in this version; write uri and body".to_owned(),
                ));
            }
            _ => return Err(Outcome::Wrong(format!("\"{word}\" is no option of http-check send"))),
        }
    }
    if !headers.is_empty() {
        fields.push(("hdr".to_owned(), Val::Table(headers)));
    }
    Ok(Val::Table(fields))
}

fn connect(words: &[String]) -> Result<Val, Outcome> {
    let mut fields = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut next =
            || words.next().cloned().ok_or_else(|| Outcome::Wrong(format!("{word} needs a value")));
        match word.as_str() {
            "port" => {
                let text = next()?;
                let port = text
                    .parse()
                    .map_err(|_| Outcome::No("the port of a check is a number in this version".to_owned()))?;
                fields.push(("port".to_owned(), Val::Int(port)));
            }
            "addr" => fields.push(("addr".to_owned(), Val::Text(next()?))),
            "send-proxy" => fields.push(("send-proxy".to_owned(), Val::Flag(true))),
            "default" | "linger" => {}
            "comment" => drop(next()?),
            _ => return Err(Outcome::No(format!("{word} of connect is not in this version"))),
        }
    }
    Ok(Val::Table(fields))
}

/// `[!] MATCH PATTERN` behind options that do not change what is expected.
fn expectation(words: &[String]) -> Result<(bool, &str, &[String]), Outcome> {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        match word.as_str() {
            "min-recv" | "comment" | "ok-status" | "error-status" | "tout-status" | "on-success"
            | "on-error" | "status-code" => at += 2,
            "!" => break,
            _ => break,
        }
    }
    let (negated, rest) = match words.get(at..) {
        Some([sign, rest @ ..]) if sign == "!" => (true, rest),
        Some(rest) => (false, rest),
        None => (false, &[][..]),
    };
    match rest {
        [kind, pattern @ ..] if !pattern.is_empty() => Ok((negated, kind, pattern)),
        _ => Err(Outcome::Wrong("write expect [!] MATCH PATTERN".to_owned())),
    }
}

fn expect(proxy: &mut Proxy<'_, '_>, words: &[String], d: &Directive) -> Outcome {
    let (negated, kind, pattern) = match expectation(words) {
        Ok(found) => found,
        Err(outcome) => return outcome,
    };
    let key = format!("{}expect-{kind}", if negated { "not-" } else { "" });
    let value = match kind {
        "status" | "rstatus" | "string" | "rstring" => Val::Text(pattern.join(" ")),
        "hdr" | "fhdr" => match pattern {
            [name_word, name, value_word, value] if name_word == "name" && value_word == "value" => {
                Val::Table(vec![(name.clone(), Val::text(value))])
            }
            _ => return Outcome::No(format!("{kind} takes name NAME value VALUE in this version")),
        },
        _ => return Outcome::No(format!("expect {kind} is not in this version")),
    };
    if !value::exists(Scope::HttpCheck, &key) {
        return Outcome::No(format!(
            "expect {}{kind} is not in this version",
            if negated { "! " } else { "" }
        ));
    }
    proxy.checks.http.push((Val::Table(vec![(key, value)]), d.place, d.comments.clone()));
    Outcome::Exact
}

fn tcp_expect(proxy: &mut Proxy<'_, '_>, words: &[String], d: &Directive) -> Outcome {
    let (negated, kind, pattern) = match expectation(words) {
        Ok(found) => found,
        Err(outcome) => return outcome,
    };
    let name = match kind {
        "string" | "binary" => kind,
        "rstring" => "regex",
        _ => return Outcome::No(format!("expect {kind} is not in this version")),
    };
    let key = format!("{}expect-{name}", if negated { "not-" } else { "" });
    proxy.checks.tcp.push((
        Val::Table(vec![(key, Val::Text(pattern.join(" ")))]),
        d.place,
        d.comments.clone(),
    ));
    Outcome::Exact
}

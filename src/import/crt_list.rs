//! HAProxy's crt-lists: a line names a certificate, options in brackets, and names that it is shown for. Read from files at import, and
//! from operators (`add ssl crt-list`). What options mean is `tls`'s, and what that comes to is decided by `config`.

use std::path::Path;

use super::global::Globals;
use super::proxy::Outcome;
use super::tls;
use super::toml::Val;
use super::words::Variables;
use crate::config::keywords::Scope;
use crate::config::{self, Env};
use crate::model::tls::{BindTls, ClientAuth, Handshake, Ignored, TlsVersion, shown_name};

/// Options that HAProxy takes in a list.
const OPTIONS: &[&str] = &[
    "allow-0rtt",
    "alpn",
    "ca-file",
    "ca-verify-file",
    "ciphers",
    "ciphersuites",
    "client-sigalgs",
    "crl-file",
    "curves",
    "ecdhe",
    "key",
    "no-alpn",
    "no-ca-names",
    "npn",
    "ocsp",
    "ocsp-update",
    "sigalgs",
    "ssl-max-ver",
    "ssl-min-ver",
    "verify",
];

/// A line in pieces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line<'a> {
    /// The certificate.
    pub certificate: &'a str,
    /// What stands in brackets.
    pub options: Vec<&'a str>,
    /// Names, wildcards, and with `!` in front those that are left out.
    pub names: Vec<&'a str>,
}

/// Cuts a line; `None`: nothing stands in it.
///
/// # Errors
/// The brackets do not fit; the text says how.
pub fn line(text: &str) -> Result<Option<Line<'_>>, String> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let (head, options, rest) = match text.split_once('[') {
        None => (text, "", ""),
        Some((head, rest)) => {
            let (options, rest) = rest.split_once(']').ok_or("the bracket is not closed")?;
            (head, options, rest)
        }
    };
    let mut words = head.split_whitespace();
    let certificate = words.next().ok_or("options stand behind the certificate")?;
    let names: Vec<&str> = words.chain(rest.split_whitespace()).collect();
    if head.split_whitespace().count() > 1 && text.contains('[') {
        return Err("options stand between the certificate and the names".to_owned());
    }
    if names.iter().any(|name| name.contains(['[', ']'])) || options.contains('[') {
        return Err("there is one pair of brackets in a line".to_owned());
    }
    Ok(Some(Line { certificate, options: options.split_whitespace().collect(), names }))
}

/// The entries of `certificates` that a file makes. `bind`: what its options say about the whole bind.
pub(super) fn entries(
    (globals, variables): (&Globals<'_>, &Variables<'_>),
    file: &str,
    bind: &mut Vec<(String, Val)>,
    near: &mut Vec<String>,
) -> Result<Vec<Val>, Outcome> {
    let bytes = (globals.read)(Path::new(file)).map_err(|why| Outcome::Wrong(format!("{file}: {why}")))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut entries = Vec::new();
    for (at, text) in text.lines().enumerate() {
        let wrong = |why: String| Outcome::Wrong(format!("{file}:{}: {why}", at + 1));
        let Some(line) = line(text).map_err(wrong)? else { continue };
        let mut entry = match tls::certificate(globals, line.certificate)? {
            Val::Table(entry) => entry,
            path => vec![("certificate".to_owned(), path)],
        };
        options((globals, variables), &line, &mut entry, near).map_err(|outcome| match outcome {
            Outcome::Wrong(why) => wrong(why),
            Outcome::No(why) => Outcome::No(format!("{file}:{}: {why}", at + 1)),
            other => other,
        })?;
        // Responses are fetched for a whole bind.
        if let Some(at) = entry.iter().position(|(key, _)| key == "ocsp-update") {
            bind.retain(|(key, _)| key != "ocsp-update");
            bind.push(entry.remove(at));
        }
        entry.push(("list".to_owned(), Val::text(file)));
        if let Some(bad) = line.names.iter().find(|name| shown_name(name).is_none()) {
            return Err(wrong(format!("\"{bad}\" is no host name")));
        }
        if !line.names.is_empty() {
            entry.push((
                "names".to_owned(),
                Val::List(line.names.iter().map(|name| Val::text(*name)).collect()),
            ));
        }
        entries.push(Val::Table(entry));
    }
    Ok(entries)
}

/// Reads the options of a line into the entry that it makes.
fn options(
    given: (&Globals<'_>, &Variables<'_>),
    line: &Line<'_>,
    entry: &mut Vec<(String, Val)>,
    near: &mut Vec<String>,
) -> Result<(), Outcome> {
    let words: Vec<String> = line.options.iter().map(|word| (*word).to_owned()).collect();
    let mut at = 0;
    while let Some(word) = words.get(at).map(String::as_str) {
        if !OPTIONS.contains(&word) {
            let help = config::diag::suggest(word, OPTIONS.iter().copied());
            let help = help.map_or(String::new(), |help| format!("; {help}"));
            return Err(Outcome::Wrong(format!("\"{word}\" is no option of a crt-list{help}")));
        }
        at += match (word, words.get(at + 1).map(String::as_str)) {
            ("ocsp-update", Some(how @ ("on" | "off"))) => {
                if how == "on" {
                    near.push(
                        "ocsp-update: responses for all certificates of the bind are fetched".to_owned(),
                    );
                    entry.push((word.to_owned(), Val::Flag(true)));
                }
                2
            }
            ("allow-0rtt", _) => {
                return Err(Outcome::No("allow-0rtt holds for a whole bind: write it there".to_owned()));
            }
            _ => tls::option(given, Scope::BindCertificate, entry, near, &words[at..])?
                .ok_or_else(|| Outcome::No(format!("{word} is not in this version")))?,
        };
    }
    tls::finish(entry);
    Ok(())
}

/// The settings that the options of a line make out of those of its bind.
///
/// # Errors
/// Why they cannot be had, for the operator.
pub fn settings(line: &Line<'_>, bind: &BindTls) -> Result<Handshake, String> {
    let no_file: config::Reader = Box::new(|_| Err("files are not read here".to_owned()));
    let globals = Globals::none(&no_file);
    let no_variable: config::Lookup = Box::new(|_| None);
    let mut own = vec![("certificate".to_owned(), Val::text(line.certificate))];
    let mut near = Vec::new();
    if let Some(word) = line.options.iter().find(|word| ["key", "ocsp", "ocsp-update"].contains(*word)) {
        return Err(format!("'{word}' belongs to the certificate: see set ssl cert."));
    }
    options((&globals, &Variables::new(&no_variable)), line, &mut own, &mut near).map_err(|outcome| {
        match outcome {
            Outcome::Wrong(why) | Outcome::No(why) | Outcome::Near(why) | Outcome::Ignored(why) => {
                format!("{why}.")
            }
            Outcome::Exact => String::new(),
        }
    })?;
    // There is one meaning of everything: it is read as the configuration would be.
    let mut tls = table_of(bind);
    tls.insert(0, ("certificates".to_owned(), Val::List(vec![Val::Table(own)])));
    let mut text = "[frontend.f]\nmode = \"http\"\nbind = ".to_owned();
    let address = ("address".to_owned(), Val::text("127.0.0.1:1"));
    Val::List(vec![Val::Table(vec![address, ("tls".to_owned(), Val::Table(tls))])]).write(&mut text);
    text.push('\n');
    let env = Env {
        variable: no_variable,
        read: no_file,
        base: Default::default(),
        cpus: vec![0],
        hostname: String::new(),
    };
    let (model, diagnostics) = config::load("crt-list", &text, &env);
    if let Some(error) = diagnostics.iter().find(|d| d.is_error()) {
        let help = error.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
        return Err(format!("{}{help}.", error.message));
    }
    let binds = model
        .into_iter()
        .flat_map(|model| model.binds.iter().map(|(_, b)| b.tls.clone()).collect::<Vec<_>>());
    let mut entries = binds.flatten().flat_map(|tls| tls.certificates);
    let own = entries.next().ok_or_else(|| "this is no line of a crt-list.".to_owned())?;
    Ok(own.settings.map_or_else(|| bind.handshake.clone(), |settings| *settings))
}

/// What a bind says of handshakes.
fn table_of(bind: &BindTls) -> Vec<(String, Val)> {
    let handshake = &bind.handshake;
    let parameters = &handshake.parameters;
    let version = |version| Val::text(if version == TlsVersion::V12 { "TLSv1.2" } else { "TLSv1.3" });
    let verify = match handshake.verify {
        ClientAuth::None => "none",
        ClientAuth::Optional => "optional",
        ClientAuth::Required => "required",
    };
    let ignored = |list: &[Ignored]| {
        let name = |ignored: &Ignored| match ignored {
            Ignored::Expired => "expired",
            Ignored::NotYetValid => "not-yet-valid",
            Ignored::Revoked => "revoked",
            Ignored::UnknownIssuer => "unknown-issuer",
        };
        Val::List(list.iter().map(|ignored| Val::text(name(ignored))).collect())
    };
    let paths = |list: &[std::path::PathBuf]| {
        Val::List(list.iter().map(|p| Val::text(p.to_string_lossy())).collect())
    };
    let texts = |list: &[String]| Val::List(list.iter().map(Val::text).collect());
    let alpn = parameters.alpn.iter().map(|name| Val::text(String::from_utf8_lossy(name))).collect();
    let mut table = vec![
        ("min-version", version(parameters.min_version)),
        ("max-version", version(parameters.max_version)),
        ("cipher-suites", texts(&parameters.suites)),
        ("curves", texts(&parameters.curves)),
        ("alpn", Val::List(alpn)),
        ("verify", Val::text(verify)),
        ("ca-file", paths(&handshake.ca_files)),
        ("ca-verify-file", paths(&handshake.ca_verify_files)),
        ("crl-file", paths(&handshake.crl_files)),
        ("crt-ignore-err", ignored(&handshake.ignored)),
        ("ca-ignore-err", ignored(&handshake.ca_ignored)),
        ("allow-0rtt", Val::Flag(bind.early_data)),
    ];
    // What is empty says the default, but for `alpn`, where it says none.
    table.retain(|(key, value)| *key == "alpn" || !matches!(value, Val::List(list) if list.is_empty()));
    table.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut() {
        type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            ("a.pem", "a.pem", &[], &[]),
            (" a.pem  !x.test *.test ", "a.pem", &[], &["!x.test", "*.test"]),
            (
                "a.pem [alpn h2,http/1.1 verify none] x.test",
                "a.pem",
                &["alpn", "h2,http/1.1", "verify", "none"],
                &["x.test"],
            ),
            ("a.pem[no-alpn]", "a.pem", &["no-alpn"], &[]),
            ("a.pem []", "a.pem", &[], &[]),
        ];
        for (text, certificate, options, names) in cases {
            let line = line(text).expect(text).expect(text);
            assert_eq!(
                (line.certificate, &line.options[..], &line.names[..]),
                (*certificate, *options, *names)
            );
        }
        for nothing in ["", "  ", "# a.pem", " #"] {
            assert_eq!(line(nothing), Ok(None), "{nothing:?}");
        }
        for bad in ["[alpn h2] a.pem", "a.pem [alpn h2", "a.pem x.test [alpn h2]", "a.pem [a] [b]", "a.pem ]"]
        {
            assert!(line(bad).is_err(), "{bad}");
        }
    }
}

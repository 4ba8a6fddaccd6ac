//! TLS options of `bind` and `server`: they stand side by side in HAProxy and in a table of their own here.

use super::crt_list;
use super::global::Globals;
use super::proxy::Outcome;
use super::source::Prefix;
use super::toml::Val;
use super::value::{self, Bad};
use super::words::Variables;
use crate::config::keywords::Scope;
use crate::config::resolve::SUITES;

/// Reads one option into the table; how many words it took, or `None` if it is none of TLS.
pub(super) fn option(
    given: (&Globals<'_>, &Variables<'_>),
    scope: Scope,
    entries: &mut Vec<(String, Val)>,
    near: &mut Vec<String>,
    words: &[String],
) -> Result<Option<usize>, Outcome> {
    let (globals, _) = given;
    let is_bind = scope != Scope::ServerTls;
    let word = words[0].as_str();
    let next = || words.get(1).cloned().ok_or_else(|| Outcome::Wrong(format!("{word} needs a value")));
    let version =
        |entries: &mut Vec<(String, Val)>, key: &str, text: &str| replace(entries, key, Val::text(text));
    Ok(Some(match word {
        "ssl" => 1,
        "no-ssl" => 1,
        "crt" if !is_bind => {
            let Val::Text(path) = certificate(globals, &next()?)? else {
                return Err(Outcome::No(
                    "the key of a server's crt stands in its file, or beside it".to_owned(),
                ));
            };
            replace(entries, "certificate", Val::Text(path));
            2
        }
        "sni" if !is_bind => {
            let expression = next()?;
            let fixed = expression.strip_prefix("str(").and_then(|rest| rest.strip_suffix(')'));
            let is_known = ["ssl_fc_sni", "var("].iter().any(|known| expression.starts_with(known));
            match fixed {
                Some(fixed) => replace(entries, "sni", Val::text(fixed)),
                None if is_known => replace(entries, "sni", Val::text(&expression)),
                None => {
                    let why =
                        "the sni of a server is str(NAME), ssl_fc_sni or var(NAME): keep others with set-var";
                    return Err(Outcome::No(why.to_owned()));
                }
            }
            2
        }
        // The authorities that the system trusts are what there is without it.
        "ca-file" if !is_bind && words.get(1).is_some_and(|file| file == "@system-ca") => 2,
        "ca-file" if is_bind && words.get(1).is_some_and(|file| file == "@system-ca") => {
            let why = "name the file of the system's authorities, as /etc/ssl/certs/ca-certificates.crt";
            return Err(Outcome::No(why.to_owned()));
        }
        "crt" => {
            add_values(entries, "certificates", [certificate(globals, &next()?)?]);
            2
        }
        "default-crt" if scope == Scope::BindTls => {
            let shown = certificate(globals, &next()?)?;
            let mut default = match shown.clone() {
                Val::Table(entry) => entry,
                path => vec![("certificate".to_owned(), path)],
            };
            default.push(("names".to_owned(), Val::List(vec![Val::text("*")])));
            add_values(entries, "certificates", [shown, Val::Table(default)]);
            2
        }
        "crt-list" if scope == Scope::BindTls => {
            let list = crt_list::entries(given, &next()?, entries, near)?;
            add_values(entries, "certificates", list);
            2
        }
        "sigalgs" | "client-sigalgs" | "npn" => {
            near.push(format!("{word}: the TLS library chooses among strong ones"));
            2
        }
        "no-strict-sni" | "tls-tickets" if scope == Scope::BindTls => {
            let key = if word == "tls-tickets" { "no-tls-tickets" } else { "strict-sni" };
            replace(entries, key, Val::Flag(false));
            1
        }
        "no-verifyhost" if !is_bind => {
            entries.retain(|(key, _)| key != "verifyhost");
            1
        }
        // The list that clients get is that of `ca-file`; see `finish`.
        "no-ca-names" if is_bind => {
            replace(entries, "no-ca-names", Val::Flag(true));
            1
        }
        "ciphers" | "ciphersuites" => {
            let (known, other): (Vec<String>, Vec<String>) =
                next()?.split(':').map(str::to_owned).partition(|name| SUITES.contains(&name.as_str()));
            // Lists of today name the suites; what is beside them are those that only old clients need.
            if known.is_empty() {
                near.push(format!("{word}: strong suites alone are spoken"));
            } else {
                if !other.iter().all(|name| name.starts_with("DHE-") || name.starts_with('!')) {
                    near.push(format!("{word}: {} left out", other.join(" ")));
                }
                // The list of the one takes the place of what was said before of the same versions.
                forget_suites(entries, word == "ciphersuites");
                add(entries, "cipher-suites", known);
            }
            2
        }
        "curves" | "ecdhe" => {
            entries.retain(|(key, _)| key != "curves");
            add(entries, "curves", next()?.split(':').filter_map(curve));
            2
        }
        "alpn" => {
            replace(entries, "alpn", Val::List(next()?.split(',').map(Val::text).collect()));
            2
        }
        "no-alpn" => {
            replace(entries, "alpn", Val::List(Vec::new()));
            1
        }
        "ssl-min-ver" | "ssl-max-ver" => {
            let key = if word == "ssl-min-ver" { "min-version" } else { "max-version" };
            match next()?.as_str() {
                modern @ ("TLSv1.2" | "TLSv1.3") => version(entries, key, modern),
                _ if key == "min-version" => {}
                old => {
                    return Err(Outcome::No(format!("{old}: TLS 1.2 is the oldest version that is spoken")));
                }
            }
            2
        }
        "no-tlsv12" => {
            version(entries, "min-version", "TLSv1.3");
            1
        }
        "no-tlsv13" => {
            version(entries, "max-version", "TLSv1.2");
            1
        }
        "force-tlsv12" | "force-tlsv13" => {
            let only = if word == "force-tlsv12" { "TLSv1.2" } else { "TLSv1.3" };
            version(entries, "min-version", only);
            version(entries, "max-version", only);
            1
        }
        "crt-ignore-err" | "ca-ignore-err" if is_bind => {
            let texts = next()?;
            let known = |text: &str| ignorable(text).map(str::to_owned);
            let (errors, other): (Vec<_>, Vec<_>) =
                texts.split(',').map(|text| known(text).ok_or(text)).partition(Result::is_ok);
            let other: Vec<&str> = other.into_iter().filter_map(Result::err).collect();
            if !other.is_empty() {
                near.push(format!("{word}: {} still ends the handshake", other.join(" ")));
            }
            add(entries, word, errors.into_iter().flatten());
            2
        }
        "verify" if scope == Scope::BindTls && words.get(1).is_some_and(|how| how == "none") => 2,
        "ca-file" | "crl-file" | "ca-verify-file" if value::keyword(scope, &words[..1]).is_some() => {
            let key = value::keyword(scope, &words[..1]).map_or(word, |(keyword, _)| keyword.key);
            add(entries, key, [path(globals.ca_base.as_deref(), &next()?)]);
            2
        }
        _ => return by_table(given, scope, entries, words),
    }))
}

/// What the table of keywords knows.
fn by_table(
    (_, variables): (&Globals<'_>, &Variables<'_>),
    scope: Scope,
    entries: &mut Vec<(String, Val)>,
    words: &[String],
) -> Result<Option<usize>, Outcome> {
    let Some((keyword, _)) = value::keyword(scope, &words[..1]) else { return Ok(None) };
    let used = value::arity(keyword.kind);
    let wrong = |message: &str| Outcome::Wrong(format!("{}: {message}", words[0]));
    let arguments = words.get(1..=used).ok_or_else(|| wrong("a value is missing"))?;
    match value::value(keyword.kind, arguments, Prefix::None, variables) {
        Ok(value) => replace(entries, keyword.key, value),
        Err(Bad::Arguments(message)) => return Err(wrong(&message)),
        Err(Bad::Unknown) => return Ok(None),
    }
    Ok(Some(used + 1))
}

/// Takes suites of TLS 1.3, or of older versions, out of the list.
fn forget_suites(entries: &mut [(String, Val)], is_tls13: bool) {
    if let Some((_, Val::List(list))) = entries.iter_mut().find(|(key, _)| key == "cipher-suites") {
        list.retain(|value| matches!(value, Val::Text(name) if name.starts_with("TLS_") != is_tls13));
    }
}

/// What a row of options comes to together.
pub(super) fn finish(entries: &mut Vec<(String, Val)>) {
    let texts = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    if let Some((_, Val::List(list))) = entries.iter().find(|(key, _)| key == "cipher-suites") {
        // `ciphers` says nothing of TLS 1.3, and `ciphersuites` of nothing else.
        let is_tls13 = |value: &Val| matches!(value, Val::Text(name) if name.starts_with("TLS_"));
        let (new, old): (Vec<&str>, Vec<&str>) = SUITES.iter().partition(|name| name.starts_with("TLS_"));
        let missing = match (list.iter().any(is_tls13), list.iter().any(|value| !is_tls13(value))) {
            (false, true) => texts(&new),
            (true, false) => texts(&old),
            _ => Vec::new(),
        };
        add(entries, "cipher-suites", missing);
    }
    let before = entries.len();
    entries.retain(|(key, _)| key != "no-ca-names");
    if entries.len() < before {
        entries
            .iter_mut()
            .filter(|(key, _)| key == "ca-file")
            .for_each(|(key, _)| "ca-verify-file".clone_into(key));
    }
}

/// A certificate that a bind or a list names: its path, or a table that says where its key is.
pub(super) fn certificate(globals: &Globals<'_>, name: &str) -> Result<Val, Outcome> {
    let path = path(globals.crt_base.as_deref(), name);
    match (globals.stores.find(name).or_else(|| globals.stores.find(&path)), name.starts_with('@')) {
        (Some(known), _) => Ok(known),
        (None, true) => Err(Outcome::Wrong(format!("there is no \"{name}\" in a crt-store"))),
        (None, false) => Ok(Val::Text(path)),
    }
}

/// Curves by the names that TLS libraries have for them.
fn curve(name: &str) -> Option<String> {
    match name {
        "prime256v1" | "secp256r1" | "P-256" => Some("P-256".to_owned()),
        "secp384r1" | "P-384" => Some("P-384".to_owned()),
        "X25519" | "x25519" => Some("X25519".to_owned()),
        "X25519MLKEM768" => Some(name.to_owned()),
        _ => None,
    }
}

/// Errors in certificates by OpenSSL's numbers and names.
fn ignorable(text: &str) -> Option<&'static str> {
    Some(match text {
        "all" => "all",
        "9" | "X509_V_ERR_CERT_NOT_YET_VALID" => "not-yet-valid",
        "10" | "X509_V_ERR_CERT_HAS_EXPIRED" => "expired",
        "23" | "X509_V_ERR_CERT_REVOKED" => "revoked",
        "2"
        | "7"
        | "18"
        | "19"
        | "20"
        | "21"
        | "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT"
        | "X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT"
        | "X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN"
        | "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY"
        | "X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE" => "unknown-issuer",
        _ => return None,
    })
}

/// A path, relative ones below a directory.
pub(super) fn path(base: Option<&str>, path: &str) -> String {
    match base {
        Some(base) if !path.starts_with('/') => format!("{}/{path}", base.trim_end_matches('/')),
        _ => path.to_owned(),
    }
}

fn replace(entries: &mut Vec<(String, Val)>, key: &str, value: Val) {
    entries.retain(|(other, _)| other != key);
    entries.push((key.to_owned(), value));
}

/// Adds to a list, each once.
fn add(entries: &mut Vec<(String, Val)>, key: &str, texts: impl IntoIterator<Item = String>) {
    add_values(entries, key, texts.into_iter().map(Val::Text));
}

fn add_values(entries: &mut Vec<(String, Val)>, key: &str, values: impl IntoIterator<Item = Val>) {
    let at = entries.iter().position(|(other, _)| other == key).unwrap_or_else(|| {
        entries.push((key.to_owned(), Val::List(Vec::new())));
        entries.len() - 1
    });
    let Some((_, Val::List(list))) = entries.get_mut(at) else { return };
    for value in values {
        // Long lists are of entries, which are not looked for.
        if matches!(value, Val::Table(_)) || !list.contains(&value) {
            list.push(value);
        }
    }
}

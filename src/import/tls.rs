//! TLS options of `bind` and `server`: they stand side by side in HAProxy and in a table of their own here.

use super::proxy::{Outcome, Proxy};
use super::source::Prefix;
use super::toml::Val;
use super::value::{self, Bad};
use crate::config::keywords::Scope;
use crate::config::resolve::SUITES;

/// Reads one option into the table; how many words it took, or `None` if it is none of TLS.
pub(super) fn option(
    proxy: &Proxy<'_, '_>,
    scope: Scope,
    entries: &mut Vec<(String, Val)>,
    near: &mut Vec<String>,
    words: &[String],
) -> Result<Option<usize>, Outcome> {
    let is_bind = scope == Scope::BindTls;
    let word = words[0].as_str();
    let next = || words.get(1).cloned().ok_or_else(|| Outcome::Wrong(format!("{word} needs a value")));
    let version =
        |entries: &mut Vec<(String, Val)>, key: &str, text: &str| replace(entries, key, Val::text(text));
    Ok(Some(match word {
        "ssl" => 1,
        "no-ssl" => 1,
        "crt" if !is_bind => {
            replace(entries, "certificate", Val::Text(path(proxy.globals.crt_base.as_deref(), &next()?)));
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
        "crt" => {
            add(entries, "certificates", [path(proxy.globals.crt_base.as_deref(), &next()?)]);
            2
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
                add(entries, "cipher-suites", known);
            }
            2
        }
        "curves" | "ecdhe" => {
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
        "crt-ignore-err" if is_bind => {
            let texts = next()?;
            let known = |text: &str| ignorable(text).map(str::to_owned);
            let (errors, other): (Vec<_>, Vec<_>) =
                texts.split(',').map(|text| known(text).ok_or(text)).partition(Result::is_ok);
            let other: Vec<&str> = other.into_iter().filter_map(Result::err).collect();
            if !other.is_empty() {
                near.push(format!("{word}: {} still ends the handshake", other.join(" ")));
            }
            add(entries, "crt-ignore-err", errors.into_iter().flatten());
            2
        }
        "verify" if is_bind && words.get(1).is_some_and(|how| how == "none") => 2,
        "ca-file" | "crl-file" | "ca-verify-file" if value::keyword(scope, &words[..1]).is_some() => {
            let key = value::keyword(scope, &words[..1]).map_or(word, |(keyword, _)| keyword.key);
            add(entries, key, [path(proxy.globals.ca_base.as_deref(), &next()?)]);
            2
        }
        _ => return by_table(proxy, scope, entries, words),
    }))
}

/// What the table of keywords knows.
fn by_table(
    proxy: &Proxy<'_, '_>,
    scope: Scope,
    entries: &mut Vec<(String, Val)>,
    words: &[String],
) -> Result<Option<usize>, Outcome> {
    let Some((keyword, _)) = value::keyword(scope, &words[..1]) else { return Ok(None) };
    let used = value::arity(keyword.kind);
    let wrong = |message: &str| Outcome::Wrong(format!("{}: {message}", words[0]));
    let arguments = words.get(1..=used).ok_or_else(|| wrong("a value is missing"))?;
    match value::value(keyword.kind, arguments, Prefix::None, proxy.variables) {
        Ok(value) => replace(entries, keyword.key, value),
        Err(Bad::Arguments(message)) => return Err(wrong(&message)),
        Err(Bad::Unknown) => return Ok(None),
    }
    Ok(Some(used + 1))
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

fn path(base: Option<&str>, path: &str) -> String {
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
    let mut list = match entries.iter().find(|(other, _)| other == key) {
        Some((_, Val::List(list))) => list.clone(),
        _ => Vec::new(),
    };
    for text in texts.into_iter().map(Val::Text) {
        if !list.contains(&text) {
            list.push(text);
        }
    }
    replace(entries, key, Val::List(list));
}

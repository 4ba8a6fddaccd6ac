//! `balance`, `hash-type` and `hash-balance-factor`.

use super::language::Language;
use crate::config::diag::suggest;
use crate::config::expr::Context as Place;
use crate::config::section::Section;
use crate::config::units::Problem;
use crate::model::Mode;
use crate::policy::balance::{Algorithm, HashFunction, HashMethod, HashType, KeySource, Spec, UriKey};
use crate::policy::sample::{Expr, VariableTable};

/// What `random` draws without an argument: the best of two is close to the best of all (HAProxy's default too).
const DRAWS_DEFAULT: u32 = 2;

/// More draws than this only cost time.
const DRAWS_MAX: u32 = 64;

const ALGORITHMS: &[&str] =
    &["roundrobin", "leastconn", "first", "source", "random", "random(2)", "hash EXPR"];

const HASH_TYPE_DEFAULT: HashType =
    HashType { method: HashMethod::MapBased, function: HashFunction::Sdbm, avalanche: false };

pub(super) fn balance(
    section: &Section<'_>,
    mode: Mode,
    language: &Language<'_>,
    variables: &mut VariableTable,
) -> (Spec, Option<Expr>, Option<KeySource>) {
    let source = http_key(section);
    let (algorithm, key) = match &source {
        Some(_) => (Algorithm::Hash, None),
        None => algorithm(section, mode, language, variables).unwrap_or((Algorithm::RoundRobin, None)),
    };
    if source.is_some() && mode == Mode::Tcp {
        section.error("balance", "this balance needs mode = \"http\"", None);
    }
    let hash_type = section.parsed("hash-type", hash_type).unwrap_or(HASH_TYPE_DEFAULT);
    let balance_factor = section.limit("hash-balance-factor");
    let hashes = matches!(algorithm, Algorithm::Source | Algorithm::Hash);
    let own = |key: &str| section.own().is_some_and(|own| own.at(key).is_some());
    if balance_factor.is_some_and(|factor| factor < 101) {
        let help = "100 would leave no room above the average load; 125 to 200 is usual, 0 means no bound";
        section.error("hash-balance-factor", "hash-balance-factor is at least 101, or 0", Some(help.into()));
    } else if balance_factor.is_some() && own("hash-balance-factor") && !hashes {
        let help = "it bounds the load of balance = \"source\" and balance = \"hash EXPR\"".to_owned();
        section.warning(
            "hash-balance-factor",
            "hash-balance-factor has no effect with this balance",
            Some(help),
        );
    }
    if own("hash-type") && !hashes {
        let help = "it is for balance = \"source\" and balance = \"hash EXPR\"".to_owned();
        section.warning("hash-type", "hash-type has no effect with this balance", Some(help));
    }
    (Spec { algorithm, hash_type, balance_factor }, key, source)
}

fn algorithm(
    section: &Section<'_>,
    mode: Mode,
    language: &Language<'_>,
    variables: &mut VariableTable,
) -> Option<(Algorithm, Option<Expr>)> {
    let text = section.text("balance")?;
    let simple = |algorithm| Some((algorithm, None));
    match text.text.as_str() {
        "roundrobin" => return simple(Algorithm::RoundRobin),
        "leastconn" => return simple(Algorithm::LeastConn),
        "first" => return simple(Algorithm::First),
        "source" => return simple(Algorithm::Source),
        "random" => return simple(Algorithm::Random { draws: DRAWS_DEFAULT }),
        _ => {}
    }
    if let Some(inside) = text.text.strip_prefix("random(").and_then(|t| t.strip_suffix(')')) {
        let draws = inside.trim().parse::<u32>().ok().filter(|draws| (1..=DRAWS_MAX).contains(draws));
        if draws.is_none() {
            section.error(
                "balance",
                format!("random draws 1 to {DRAWS_MAX} servers, not \"{inside}\""),
                None,
            );
        }
        return simple(Algorithm::Random { draws: draws? });
    }
    if let Some(key) = text.text.strip_prefix("hash").filter(|rest| rest.is_empty() || rest.starts_with(' '))
    {
        if key.trim().is_empty() {
            let help = "name what to hash, for example balance = \"hash src\"".to_owned();
            section.error("balance", "balance = \"hash\" needs an expression", Some(help));
            return None;
        }
        let place = if mode == Mode::Http { Place::Request } else { Place::Content };
        let from = text.text.len() - key.trim_start().len();
        let key = language.expression(&text, from, place, variables)?;
        return Some((Algorithm::Hash, Some(key)));
    }
    let help = match text.text.as_str() {
        "static-rr" => Some("use \"roundrobin\": it keeps the shares of weights as exactly".to_owned()),
        word if word.starts_with("rdp-cookie") => Some("write \"hash rdp_cookie\"".to_owned()),
        word => suggest(word, ALGORITHMS.iter().copied()),
    };
    section.error("balance", format!("unknown algorithm \"{}\"", text.text), help);
    None
}

/// `uri [len N] [depth N] [whole] [path-only]`, `url_param NAME` and `hdr(NAME) [use_domain_only]`.
fn http_key(section: &Section<'_>) -> Option<KeySource> {
    let text = section.string("balance")?;
    let mut words = text.split_whitespace();
    let first = words.next()?;
    if first == "url_param" {
        let name = words.next().filter(|_| words.clone().next().is_none());
        if name.is_none() {
            let help = "write balance = \"url_param NAME\"".to_owned();
            section.error("balance", "url_param takes the name of one parameter", Some(help));
        }
        return Some(KeySource::UrlParam { name: name.unwrap_or_default().to_owned() });
    }
    if let Some(name) = first.strip_prefix("hdr(").and_then(|rest| rest.strip_suffix(')')) {
        let rest: Vec<&str> = words.collect();
        if !crate::proto::http::is_token(name.as_bytes())
            || !matches!(rest.as_slice(), [] | ["use_domain_only"])
        {
            let help = "write balance = \"hdr(NAME)\" or \"hdr(NAME) use_domain_only\"".to_owned();
            section.error("balance", format!("\"{text}\" is not a header to balance by"), Some(help));
        }
        return Some(KeySource::Header { name: name.to_owned(), domain_only: !rest.is_empty() });
    }
    if first != "uri" {
        return None;
    }
    let mut key = UriKey::default();
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse::<usize>().ok()).filter(|n| *n > 0);
        let good = match word {
            "whole" => {
                key.whole = true;
                true
            }
            "path-only" => {
                key.path_only = true;
                true
            }
            "len" => {
                key.len = number();
                key.len.is_some()
            }
            "depth" => {
                key.depth = number();
                key.depth.is_some()
            }
            _ => false,
        };
        if !good {
            let help = "write balance = \"uri\" with any of len N, depth N, whole, path-only".to_owned();
            section.error("balance", format!("\"{text}\" is not a way to balance by URI"), Some(help));
            break;
        }
    }
    Some(KeySource::Uri(key))
}

/// HAProxy's words in HAProxy's order: method, function, modifier.
fn hash_type(text: &str) -> Result<HashType, Problem> {
    const FORM: &str =
        "write method, function and modifier, for example \"consistent\" or \"map-based djb2 avalanche\"";
    const FUNCTIONS: &[(&str, HashFunction)] = &[
        ("sdbm", HashFunction::Sdbm),
        ("djb2", HashFunction::Djb2),
        ("wt6", HashFunction::Wt6),
        ("crc32", HashFunction::Crc32),
        ("none", HashFunction::None),
    ];
    let wrong = |word: &str, what: &str, help: Option<String>| {
        Problem::with_help(
            format!("\"{word}\" is no {what} of hash-type"),
            help.unwrap_or_else(|| FORM.to_owned()),
        )
    };
    let mut words = text.split_whitespace();
    let method = match words.next().unwrap_or("") {
        "map-based" => HashMethod::MapBased,
        "consistent" => HashMethod::Consistent,
        word => return Err(wrong(word, "method", suggest(word, ["map-based", "consistent"]))),
    };
    let Some(word) = words.next() else {
        // HAProxy mixes a consistent hash once more unless a function is named.
        let avalanche = method == HashMethod::Consistent;
        return Ok(HashType { method, function: HashFunction::Sdbm, avalanche });
    };
    let Some((_, function)) = FUNCTIONS.iter().find(|(name, _)| *name == word) else {
        return Err(wrong(word, "function", suggest(word, FUNCTIONS.iter().map(|(name, _)| *name))));
    };
    let avalanche = match words.next() {
        None => false,
        Some("avalanche") => true,
        Some(word) => return Err(wrong(word, "modifier", suggest(word, ["avalanche"]))),
    };
    match words.next() {
        None => Ok(HashType { method, function: *function, avalanche }),
        Some(word) => Err(wrong(word, "further word", None)),
    }
}

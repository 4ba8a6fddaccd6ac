//! Keywords that are translated by the table of our own keywords alone: its `haproxy` column says which words mean it, its kind what they
//! may take. A keyword added there is imported without a line here.

use super::source::Prefix;
use super::toml::Val;
use super::words::Variables;
use crate::config::keywords::{self, Keyword, Kind, Scope};

/// Why words cannot become a value.
pub(super) enum Bad {
    /// There is no keyword of ours for it.
    Unknown,
    /// The arguments are wrong.
    Arguments(String),
}

/// The keyword of ours that the words begin with, and how many of them name it.
pub(super) fn keyword(scope: Scope, words: &[String]) -> Option<(&'static Keyword, usize)> {
    let mut best: Option<(&'static Keyword, usize)> = None;
    for keyword in keywords::of(scope).filter(|keyword| keyword.is_done()) {
        for phrase in keyword.haproxy.split(", ").filter(|phrase| !phrase.is_empty()) {
            let len = phrase.split(' ').count();
            if super::coverage::begins(words, phrase) && best.is_none_or(|(_, other)| len > other) {
                best = Some((keyword, len));
            }
        }
    }
    best
}

/// Whether a key of ours exists and works.
pub(super) fn exists(scope: Scope, key: &str) -> bool {
    keywords::find(scope, key).is_some_and(Keyword::is_done)
}

/// Key and value of a directive.
pub(super) fn simple(
    scope: Scope,
    words: &[String],
    prefix: Prefix,
    variables: &Variables<'_>,
) -> Result<(&'static str, Val), Bad> {
    let (keyword, len) = keyword(scope, words).ok_or(Bad::Unknown)?;
    let value = value(keyword.kind, &words[len..], prefix, variables)?;
    Ok((keyword.key, value))
}

/// How many words an option of `bind` or `server` takes.
pub(super) fn arity(kind: Kind) -> usize {
    match kind {
        Kind::Flag | Kind::True => 0,
        _ => 1,
    }
}

/// The value that the words after a keyword make.
pub(super) fn value(
    kind: Kind,
    words: &[String],
    prefix: Prefix,
    variables: &Variables<'_>,
) -> Result<Val, Bad> {
    let expanded = || words.iter().map(|word| variables.expand(word)).collect::<Vec<_>>();
    let one = || match words {
        [one] => Ok(one.clone()),
        [] => Err(Bad::Arguments("a value is missing".to_owned())),
        [_, more @ ..] => Err(Bad::Arguments(format!("\"{}\" is too much", more.join(" ")))),
    };
    let integer = || {
        let text = variables.expand(&one()?);
        text.parse().map(Val::Int).map_err(|_| Bad::Arguments(format!("\"{text}\" is no number")))
    };
    match kind {
        Kind::Flag | Kind::True => match expanded().as_slice() {
            [] => Ok(Val::Flag(prefix == Prefix::None)),
            [word] if word == "on" => Ok(Val::Flag(true)),
            [word] if word == "off" => Ok(Val::Flag(false)),
            [word, ..] => Err(Bad::Arguments(format!("\"{word}\" is too much"))),
        },
        Kind::FlagOrInteger(..) if words.is_empty() => Ok(Val::Flag(prefix == Prefix::None)),
        Kind::Integer(..) | Kind::FlagOrInteger(..) => integer(),
        Kind::Duration(_) | Kind::Size(..) => {
            let text = one()?;
            Ok(text.parse().map_or(Val::Text(text), Val::Int))
        }
        Kind::Text | Kind::OneOf(_) | Kind::Cpus | Kind::FileMode if !words.is_empty() => {
            Ok(Val::Text(words.join(" ")))
        }
        Kind::FlagOrText if !words.is_empty() => Ok(Val::Text(words.join(" "))),
        Kind::Texts if !words.is_empty() => Ok(Val::texts(words)),
        Kind::SomeOf(_) if !words.is_empty() => {
            Ok(Val::List(words.iter().flat_map(|word| word.split(',')).map(Val::text).collect()))
        }
        Kind::Text | Kind::OneOf(_) | Kind::Cpus | Kind::FileMode | Kind::Texts | Kind::SomeOf(_) => {
            Err(Bad::Arguments("a value is missing".to_owned()))
        }
        Kind::FlagOrTable(_) | Kind::TrueOrTable(_) | Kind::FlagTextsOrTables(_) | Kind::FlagOrText
            if words.is_empty() =>
        {
            Ok(Val::Flag(prefix == Prefix::None))
        }
        _ => Err(Bad::Unknown),
    }
}

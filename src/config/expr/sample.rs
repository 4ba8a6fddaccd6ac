//! Sample expressions: `FETCH(args),CONVERTER(args),...`.

use crate::config::expr::args::Args;
use crate::config::expr::converters::{self, ConverterInfo};
use crate::config::expr::fetches::{self, FetchInfo, Needs};
use crate::config::expr::source::Source;
use crate::config::expr::{ExprError, Scope, closest};
use crate::policy::converter::Converter;
use crate::policy::pattern::Method;
use crate::policy::sample::Expr;

/// An expression as parsed, with what matters to whoever uses it.
#[derive(Debug)]
pub(super) struct ParsedExpr {
    pub(super) expr: Expr,
    /// The fetch, as written.
    pub(super) fetch: String,
    /// What the fetch reads.
    pub(super) needs: Needs,
    /// How it is matched unless `-m` says otherwise: by its name (`path_beg`) or by its fetch.
    pub(super) method: Option<Method>,
}

/// Parses the expression at `at`, up to white space, the end, or the byte that closes it. Also gives the place after it.
pub(super) fn parse(
    source: &Source,
    at: usize,
    closing: Option<u8>,
    scope: &mut Scope<'_>,
) -> Result<(ParsedExpr, usize), ExprError> {
    let (name, start, mut at) = name(source, at, "a sample fetch, such as src")?;
    let (info, derived) = find_fetch(&name, start)?;
    let (list, after) = optional_arguments(source, at)?;
    at = after;
    let mut args = Args::new(&name, start, list, scope);
    let fetch = (info.build)(&mut args)?;
    args.finish(info.args)?;
    let mut kind = info.kind;
    let mut converters = Vec::new();
    while source.peek(at) == Some(b',') {
        let (name, start, after_name) = self::name(source, at + 1, "a converter, such as lower")?;
        let info = find_converter(&name, start)?;
        let (list, after) = optional_arguments(source, after_name)?;
        at = after;
        let mut args = Args::new(&name, start, list, scope);
        let converter = (info.build)(&mut args)?;
        args.finish(info.args)?;
        if !kind.casts_to(converter.input()) {
            let message = format!(
                "`{name}` takes {}, but what comes before it gives {}",
                article(converter.input().name()),
                article(kind.name())
            );
            return Err(ExprError::at(start, message));
        }
        kind = match &converter {
            Converter::Map { result, .. } => result.kind(),
            _ => info.output,
        };
        converters.push(converter);
    }
    if let Some(byte) = source.peek(at).filter(|b| !b.is_ascii_whitespace() && Some(*b) != closing) {
        let message = format!("unexpected `{}` in an expression", char::from(byte).escape_default());
        return Err(ExprError::at(source.offset(at), message));
    }
    // HAProxy: what a name such as path_beg implies holds only when no converter follows.
    let method = if converters.is_empty() { derived.or(info.method) } else { None };
    let expr = Expr::new(fetch, converters, kind);
    Ok((ParsedExpr { expr, fetch: name, needs: info.needs, method }, at))
}

fn name(source: &Source, at: usize, what: &str) -> Result<(String, usize, usize), ExprError> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let end = source.bytes[at.min(source.bytes.len())..]
        .iter()
        .position(|b| !is_name(*b))
        .map_or(source.bytes.len(), |n| at + n);
    if end <= at {
        return Err(ExprError::at(source.offset(at), format!("expected {what}")));
    }
    let name = String::from_utf8_lossy(&source.bytes[at..end]).into_owned();
    Ok((name, source.offset(at), end))
}

fn optional_arguments(
    source: &Source,
    at: usize,
) -> Result<(Vec<crate::config::expr::source::Arg>, usize), ExprError> {
    if source.peek(at) == Some(b'(') { source.arguments(at + 1) } else { Ok((Vec::new(), at)) }
}

fn find_fetch(name: &str, offset: usize) -> Result<(&'static FetchInfo, Option<Method>), ExprError> {
    fetches::find(name).ok_or_else(|| {
        let error = ExprError::at(offset, format!("unknown sample fetch `{name}`"));
        if converters::find(name).is_some() {
            return error.help(format!("`{name}` is a converter: it stands after a fetch, as in src,{name}"));
        }
        match closest(name, fetches::names()) {
            Some(close) => error.help(format!("did you mean `{close}`?")),
            None => error,
        }
    })
}

fn find_converter(name: &str, offset: usize) -> Result<&'static ConverterInfo, ExprError> {
    converters::find(name).ok_or_else(|| {
        let error = ExprError::at(offset, format!("unknown converter `{name}`"));
        match closest(name, converters::names()) {
            Some(close) => error.help(format!("did you mean `{close}`?")),
            None => error,
        }
    })
}

fn article(noun: &str) -> String {
    let an = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if an { "an" } else { "a" })
}

//! Formats: `text %[expression] %{+Q}[expression] %ci`, as in HAProxy's log-format strings.

use crate::config::expr::sample;
use crate::config::expr::source::Source;
use crate::config::expr::{ExprError, Scope, closest};
use crate::policy::format::{Flags, Format, Part};

/// Variables of log-format and the expressions that they stand for.
pub const FORMAT_VARIABLES: &[(&str, &str)] = &[
    ("H", "hostname"),
    ("HM", "method"),
    ("HP", "path"),
    ("HPO", "path"),
    ("HQ", "query"),
    ("HU", "url"),
    ("HV", "req.ver"),
    ("ID", "unique-id"),
    ("ST", "status"),
    ("Ts", "date"),
    ("b", "be_name"),
    ("ci", "src"),
    ("cp", "src_port"),
    ("f", "fe_name"),
    ("fi", "dst"),
    ("fp", "dst_port"),
    ("pid", "pid"),
    ("rt", "txn.id32"),
    ("s", "srv_name"),
];

/// Compiles a format.
pub(super) fn parse(text: &str, scope: &mut Scope<'_>) -> Result<Format, ExprError> {
    let source = Source::new(text);
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut at = 0;
    // `%{+Q}o` holds for all that follows.
    let mut flags = Flags::default();
    while let Some(byte) = source.peek(at) {
        if byte != b'%' {
            literal.push(byte);
            at += 1;
            continue;
        }
        if source.peek(at + 1) == Some(b'%') {
            literal.push(b'%');
            at += 2;
            continue;
        }
        let percent = at;
        let (own, after) = parse_flags(&source, at + 1, flags)?;
        at = after;
        if source.peek(at) == Some(b'o') && !is_letter(source.peek(at + 1)) {
            flags = own;
            at += 1;
            // As with HAProxy a text does not begin with the space behind it.
            while parts.is_empty() && literal.is_empty() && source.peek(at) == Some(b' ') {
                at += 1;
            }
            continue;
        }
        let is_expression = source.peek(at) == Some(b'[');
        let (parsed, after) = match source.peek(at) {
            Some(b'[') => {
                let (parsed, end) = sample::parse(&source, source.skip_space(at + 1), Some(b']'), scope)?;
                let end = source.skip_space(end);
                if source.peek(end) != Some(b']') {
                    return Err(ExprError::at(source.offset(at), "this bracket is not closed".to_owned()));
                }
                (parsed, end + 1)
            }
            _ => variable(&source, percent, at, scope)?,
        };
        parsed.needs.check(scope.context, &parsed.fetch).map_err(|(message, help)| ExprError {
            offset: source.offset(percent),
            message,
            help: Some(help),
        })?;
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal).into()));
        }
        parts.push(match is_expression {
            true => Part::Value(parsed.expr, own),
            false => Part::Variable(parsed.expr, own),
        });
        at = after;
    }
    if !literal.is_empty() {
        parts.push(Part::Text(literal.into()));
    }
    Ok(Format::new(parts))
}

/// `{+Q,-X}` if it is there.
fn parse_flags(source: &Source, at: usize, mut flags: Flags) -> Result<(Flags, usize), ExprError> {
    if source.peek(at) != Some(b'{') {
        return Ok((flags, at));
    }
    let rest = &source.bytes[at + 1..];
    let Some(len) = rest.iter().position(|b| *b == b'}') else {
        return Err(ExprError::at(source.offset(at), "this brace is not closed".to_owned()));
    };
    for flag in rest[..len].split(|b| *b == b',') {
        let (on, letter) = match flag.trim_ascii() {
            [b'+', letter] => (true, letter),
            [b'-', letter] => (false, letter),
            other => (true, other.first().unwrap_or(&b' ')),
        };
        match letter {
            b'Q' => flags.quote = on,
            b'X' => flags.hex = on,
            b'E' => flags.escape = on,
            _ => {
                let flag = String::from_utf8_lossy(flag).into_owned();
                let error = ExprError::at(source.offset(at + 1), format!("unknown flag `{flag}`"));
                return Err(error.help("flags are +Q (quotes), +X (hexadecimal), +E (escapes)".to_owned()));
            }
        }
    }
    Ok((flags, at + len + 2))
}

fn is_letter(byte: Option<u8>) -> bool {
    byte.is_some_and(|b| b.is_ascii_alphabetic())
}

fn variable(
    source: &Source,
    percent: usize,
    at: usize,
    scope: &mut Scope<'_>,
) -> Result<(sample::ParsedExpr, usize), ExprError> {
    let offset = source.offset(percent);
    let len = source.bytes[at..].iter().position(|b| !is_letter(Some(*b)));
    let end = len.map_or(source.bytes.len(), |len| at + len);
    let name = String::from_utf8_lossy(&source.bytes[at..end]).into_owned();
    if name.is_empty() {
        let error = ExprError::at(offset, "nothing follows the percent sign".to_owned());
        return Err(error.help("write %% for a percent sign, %[EXPRESSION] for a value".to_owned()));
    }
    let Some((_, text)) = FORMAT_VARIABLES.iter().find(|(n, _)| *n == name) else {
        let error = ExprError::at(offset, format!("unknown variable `%{name}`"));
        let close = closest(&name, FORMAT_VARIABLES.iter().map(|(n, _)| *n));
        let close = close.map(|c| format!("did you mean `%{c}`? ")).unwrap_or_default();
        return Err(error.help(format!("{close}write %% for a percent sign, %[EXPRESSION] for a value")));
    };
    let (parsed, _) =
        sample::parse(&Source::new(text), 0, None, scope).map_err(|e| ExprError { offset, ..e })?;
    Ok((parsed, end))
}

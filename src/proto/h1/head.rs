//! The head of an HTTP/1 message: start line and header lines, up to the empty line.
//!
//! One pass over the bytes, and stricter than RFC 9112 has to be: whatever two recipients may read differently is refused
//! here or in `framing.rs`. Does not decide how long the body is. Called for each head by the data plane, again with more
//! bytes after `Partial`; it goes on at the line where it stopped, so slow senders do not cost a second look at old lines.

#[cfg(test)]
mod tests;

use crate::base::limits::{EMPTY_LINES_MAX, HEADER_NAME_BYTES_MAX, METHOD_BYTES_MAX};
use crate::proto::Parsed;
use crate::proto::h1::reason::{Reason, Refusal};
use crate::proto::headers::{Head, HeadLimits, HeadView, Stage, Text};
use crate::proto::http::{Known, Method, Version, class, first_control};

/// What to do with the two ambiguities that RFC 9112 lets a proxy repair (`ambiguous-messages`): a header that goes on in
/// the next line (5.2), and Content-Length beside Transfer-Encoding (6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ambiguous {
    /// Refuse the message.
    #[default]
    Reject,
    /// Replace the fold by a space; drop the length, honour the coding and close afterwards.
    Repair,
}

/// How heads are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeadOptions {
    /// Bounds.
    pub limits: HeadLimits,
    /// What to do with a header that goes on in the next line.
    pub ambiguous: Ambiguous,
}

type Result<T> = std::result::Result<T, Refusal>;

fn refuse<T>(reason: Reason, at: usize) -> Result<T> {
    Err(Refusal::new(reason, at))
}

/// Parses the request head at the front of `input`, which holds everything received so far of this message.
///
/// `head` is cleared when it holds a finished message; after `Partial` it remembers how far it came and must be given the
/// same bytes again, with more behind them. Call [`Head::clear`] to start over with other bytes.
pub fn parse_request<'a>(
    input: &'a [u8],
    options: &HeadOptions,
    head: &'a mut Head,
) -> Result<Parsed<HeadView<'a>>> {
    parse(input, options, head, request_line)
}

/// Parses the response head at the front of `input`; see [`parse_request`].
pub fn parse_response<'a>(
    input: &'a [u8],
    options: &HeadOptions,
    head: &'a mut Head,
) -> Result<Parsed<HeadView<'a>>> {
    parse(input, options, head, status_line)
}

/// Parses a trailer section, which is header lines up to an empty line; see [`parse_request`].
pub fn parse_trailers<'a>(
    input: &'a [u8],
    options: &HeadOptions,
    head: &'a mut Head,
) -> Result<Parsed<HeadView<'a>>> {
    parse(input, options, head, |_, _, _| Ok(Some(0)))
}

/// A start line parser: fills in the head and says where the next line begins, `None` when bytes are missing.
type StartLine = fn(&[u8], &HeadLimits, &mut Head) -> Result<Option<usize>>;

#[inline]
fn parse<'a>(
    input: &'a [u8],
    options: &HeadOptions,
    head: &'a mut Head,
    start_line: StartLine,
) -> Result<Parsed<HeadView<'a>>> {
    if head.stage == Stage::Done {
        head.clear();
    }
    let limit = options.limits.head_bytes_max;
    let window = &input[..input.len().min(limit)];
    match parse_window(window, options, head, start_line) {
        Ok(true) => {
            head.stage = Stage::Done;
            let len = head.parsed;
            Ok(Parsed::Complete { value: head.view(input), len })
        }
        Ok(false) if window.len() < limit => Ok(Parsed::Partial),
        Ok(false) => {
            head.stage = Stage::Done;
            refuse(Reason::HeadTooLarge, limit)
        }
        Err(refusal) => {
            head.stage = Stage::Done;
            Err(refusal)
        }
    }
}

/// Goes on reading lines. True when the empty line was read.
fn parse_window(
    window: &[u8],
    options: &HeadOptions,
    head: &mut Head,
    start_line: StartLine,
) -> Result<bool> {
    if head.stage == Stage::Start {
        let Some(next) = start_line(window, &options.limits, head)? else { return Ok(false) };
        head.fields_at = next;
        head.parsed = next;
        head.stage = Stage::Fields;
    }
    loop {
        match field_line(window, head.parsed, options, head)? {
            Line::Partial => return Ok(false),
            Line::Field(next) => head.parsed = next,
            Line::End(next) => {
                head.parsed = next;
                return Ok(true);
            }
        }
    }
}

/// Reads `method SP target SP version CRLF`, after at most [`EMPTY_LINES_MAX`] empty lines (RFC 9112 2.2).
fn request_line(window: &[u8], limits: &HeadLimits, head: &mut Head) -> Result<Option<usize>> {
    let mut at = 0;
    while let Some(b'\r') = window.get(at) {
        if at >= EMPTY_LINES_MAX * 2 {
            return refuse(Reason::EmptyLines, at);
        }
        let Some(next) = line_end(window, at)? else { return Ok(None) };
        at = next;
    }
    let method_at = at;
    let method_window = &window[method_at..window.len().min(method_at + METHOD_BYTES_MAX + 1)];
    at += class::run(method_window, class::TOKEN);
    if at - method_at > METHOD_BYTES_MAX {
        return refuse(Reason::MethodTooLong, method_at + METHOD_BYTES_MAX);
    }
    match window.get(at) {
        None => return Ok(None),
        Some(b' ') if at > method_at => {}
        Some(byte) => return refuse(control_reason(*byte, Reason::MethodSyntax), at),
    }
    let method_end = at;
    let target_at = at + 1;
    let target_window = &window[target_at..window.len().min(target_at + limits.target_bytes_max + 1)];
    at = target_at + class::run(target_window, class::TARGET);
    if at - target_at > limits.target_bytes_max {
        return refuse(Reason::TargetTooLong, at);
    }
    match window.get(at) {
        None => return Ok(None),
        Some(b' ') if at > target_at => {}
        // A line without version is HTTP/0.9.
        Some(b'\r') if at > target_at => return refuse(Reason::VersionSyntax, at),
        Some(byte) => return refuse(control_reason(*byte, Reason::TargetSyntax), at),
    }
    let target_end = at;
    let Some((version, version_end)) = version(window, target_end + 1)? else { return Ok(None) };
    match window.get(version_end) {
        None => return Ok(None),
        Some(b'\r') => {}
        Some(byte) => return refuse(control_reason(*byte, Reason::VersionSyntax), version_end),
    }
    let Some(next) = line_end(window, version_end)? else { return Ok(None) };
    head.method = Method::of(&window[method_at..method_end]);
    head.method_text = Text::of_input(method_at, method_end);
    head.target = Text::of_input(target_at, target_end);
    head.version = version;
    Ok(Some(next))
}

/// Reads `version SP status [SP reason] CRLF`. The second space is missing from too many servers to insist on it.
fn status_line(window: &[u8], _limits: &HeadLimits, head: &mut Head) -> Result<Option<usize>> {
    let Some((version, mut at)) = version(window, 0)? else { return Ok(None) };
    match window.get(at) {
        None => return Ok(None),
        Some(b' ') => at += 1,
        Some(byte) => return refuse(control_reason(*byte, Reason::StatusSyntax), at),
    }
    let mut status = 0;
    for index in 0..3 {
        match window.get(at + index) {
            None => return Ok(None),
            Some(digit) if digit.is_ascii_digit() && (index > 0 || *digit != b'0') => {
                status = status * 10 + u16::from(digit - b'0');
            }
            Some(byte) => return refuse(control_reason(*byte, Reason::StatusSyntax), at + index),
        }
    }
    at += 3;
    let reason_at = match window.get(at) {
        None => return Ok(None),
        Some(b' ') => at + 1,
        Some(b'\r') => at,
        Some(byte) => return refuse(control_reason(*byte, Reason::StatusSyntax), at),
    };
    let Some(end) = first_control(window, reason_at) else { return Ok(None) };
    if window[end] != b'\r' {
        return refuse(control_reason(window[end], Reason::StatusSyntax), end);
    }
    let Some(next) = line_end(window, end)? else { return Ok(None) };
    head.status = status;
    head.reason = Text::of_input(reason_at, end);
    head.version = version;
    Ok(Some(next))
}

/// Reads `HTTP/1.0` or `HTTP/1.1`, and where it ends.
#[inline]
fn version(window: &[u8], at: usize) -> Result<Option<(Version, usize)>> {
    match window.get(at..at + 8) {
        Some(b"HTTP/1.1") => return Ok(Some((Version::Http11, at + 8))),
        Some(b"HTTP/1.0") => return Ok(Some((Version::Http10, at + 8))),
        _ => {}
    }
    for (index, right) in b"HTTP/".iter().enumerate() {
        match window.get(at + index) {
            None => return Ok(None),
            Some(byte) if byte == right => {}
            Some(byte) => return refuse(control_reason(*byte, Reason::VersionSyntax), at + index),
        }
    }
    for (index, is_right) in [u8::is_ascii_digit, |b: &u8| *b == b'.', u8::is_ascii_digit].iter().enumerate()
    {
        match window.get(at + 5 + index) {
            None => return Ok(None),
            Some(byte) if is_right(byte) => {}
            Some(byte) => return refuse(control_reason(*byte, Reason::VersionSyntax), at + 5 + index),
        }
    }
    refuse(Reason::VersionUnsupported, at + 5)
}

/// Where the line after the CR at `at` begins; `None` when its LF is not there yet.
#[inline]
fn line_end(window: &[u8], at: usize) -> Result<Option<usize>> {
    match window.get(at + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some(at + 2)),
        Some(_) => refuse(Reason::BareCr, at),
    }
}

/// The reason that a byte has of its own, or the one of its place.
fn control_reason(byte: u8, reason: Reason) -> Reason {
    match byte {
        0 => Reason::Nul,
        b'\n' => Reason::BareLf,
        _ => reason,
    }
}

/// What a line after the start line is.
enum Line {
    /// Not all of it is there.
    Partial,
    /// A header, which is in the head now; the next line begins there.
    Field(usize),
    /// The empty line; the body begins there.
    End(usize),
}

/// Reads one header line at `line_at` into the head.
#[inline]
fn field_line(window: &[u8], line_at: usize, options: &HeadOptions, head: &mut Head) -> Result<Line> {
    let at = line_at + class::run(&window[line_at..], class::TOKEN);
    if at - line_at > HEADER_NAME_BYTES_MAX {
        return refuse(Reason::NameTooLong, line_at + HEADER_NAME_BYTES_MAX);
    }
    match window.get(at) {
        None => return Ok(Line::Partial),
        Some(b':') if at > line_at => {}
        Some(byte) => return name_end(window, line_at, at, *byte),
    }
    let name_end = at;
    let mut value_at = name_end + 1;
    while let Some(b' ' | b'\t') = window.get(value_at) {
        value_at += 1;
    }
    let Some((value_end, next)) = value_end(window, value_at)? else { return Ok(Line::Partial) };
    // Whether the line goes on is told by the first byte of the next.
    let is_folded = match window.get(next) {
        None => return Ok(Line::Partial),
        Some(b' ' | b'\t') => true,
        Some(_) => false,
    };
    if head.received_lines() >= options.limits.headers_max {
        return refuse(Reason::TooManyHeaders, line_at);
    }
    let mut trimmed = value_end;
    while trimmed > value_at && matches!(window[trimmed - 1], b' ' | b'\t') {
        trimmed -= 1;
    }
    let known = Known::of(&window[line_at..name_end]);
    let (name, value) = (Text::of_input(line_at, name_end), Text::of_input(value_at, trimmed));
    if !is_folded {
        head.push_received(name, value, known);
        return Ok(Line::Field(next));
    }
    if options.ambiguous == Ambiguous::Reject {
        return refuse(Reason::ObsFold, next);
    }
    let Some(end) = fold_end(window, next)? else { return Ok(Line::Partial) };
    head.push_received(name, value, known);
    head.replace_last_value(|arena| unfold(&window[value_at..end], arena));
    Ok(Line::Field(end))
}

/// What the byte after a name is when it is not a colon.
#[cold]
fn name_end(window: &[u8], line_at: usize, at: usize, byte: u8) -> Result<Line> {
    if at == line_at && byte == b'\r' {
        return Ok(line_end(window, at)?.map_or(Line::Partial, Line::End));
    }
    let reason = match byte {
        b' ' | b'\t' if at > line_at => Reason::SpaceBeforeColon,
        b' ' | b'\t' => Reason::LeadingSpace,
        b'\r' => match line_end(window, at)? {
            None => return Ok(Line::Partial),
            Some(_) => Reason::NoColon,
        },
        other => control_reason(other, Reason::NameSyntax),
    };
    refuse(reason, at)
}

/// Where the value that goes on at `at` ends, and where the next line begins.
#[inline]
fn value_end(window: &[u8], at: usize) -> Result<Option<(usize, usize)>> {
    let Some(end) = first_control(window, at) else { return Ok(None) };
    match window[end] {
        b'\r' => Ok(line_end(window, end)?.map(|next| (end, next))),
        byte => refuse(control_reason(byte, Reason::ValueSyntax), end),
    }
}

/// Where a folded value ends: the first line that does not begin with space.
fn fold_end(window: &[u8], mut at: usize) -> Result<Option<usize>> {
    loop {
        match window.get(at) {
            None => return Ok(None),
            Some(b' ' | b'\t') => {}
            Some(_) => return Ok(Some(at)),
        }
        let Some((_, next)) = value_end(window, at)? else { return Ok(None) };
        at = next;
    }
}

/// Writes a folded value on one line: each fold becomes one space (RFC 9112 5.2).
fn unfold(folded: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    for line in folded.split(|b| *b == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if out.len() > start {
            out.push(b' ');
        }
        out.extend_from_slice(line);
    }
}

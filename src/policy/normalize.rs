//! `normalize-uri`: one step of a request target towards its normal form (RFC 3986 section 6), as HAProxy's normalizers do it.
//! Pure text; rules call it.

use smallvec::SmallVec;

use crate::policy::http_action::Normalizer;
use crate::proto::target::split_path;

/// A `%` without two hexadecimal digits, in a `strict` step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadEscape;

/// Appends the target after one step. False: nothing was to do, and nothing was written.
///
/// # Errors
/// A strict step over a malformed escape.
pub fn normalize(step: Normalizer, target: &[u8], out: &mut Vec<u8>) -> Result<bool, BadEscape> {
    let (before, path, rest) = split_path(target);
    let start = out.len();
    match step {
        Normalizer::FragmentEncode => encode_fragment(target, out),
        Normalizer::FragmentStrip => {
            let end = memchr::memchr(b'#', target).unwrap_or(target.len());
            out.extend_from_slice(&target[..end]);
        }
        Normalizer::PathMergeSlashes => {
            out.extend_from_slice(before);
            for (at, byte) in path.iter().enumerate() {
                if *byte != b'/' || at == 0 || path[at - 1] != b'/' {
                    out.push(*byte);
                }
            }
            out.extend_from_slice(rest);
        }
        Normalizer::PathStripDot => {
            out.extend_from_slice(before);
            strip(path, Dots::One, out);
            out.extend_from_slice(rest);
        }
        Normalizer::PathStripDotDot { full } => {
            out.extend_from_slice(before);
            strip(path, if full { Dots::TwoFull } else { Dots::Two }, out);
            out.extend_from_slice(rest);
        }
        Normalizer::PercentDecodeUnreserved { strict } => {
            out.extend_from_slice(before);
            escapes(&target[before.len()..], strict, out, |digits, byte, out| {
                if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                    out.push(byte);
                } else {
                    out.push(b'%');
                    out.extend_from_slice(digits);
                }
            })?;
        }
        Normalizer::PercentToUppercase { strict } => {
            out.extend_from_slice(before);
            escapes(&target[before.len()..], strict, out, |digits, _, out| {
                out.push(b'%');
                out.extend(digits.iter().map(u8::to_ascii_uppercase));
            })?;
        }
        Normalizer::QuerySortByName => {
            let Some(query) = rest.strip_prefix(b"?") else { return Ok(false) };
            out.extend_from_slice(before);
            out.extend_from_slice(path);
            sort_query(query, out);
        }
    }
    let is_same = &out[start..] == target;
    if is_same {
        out.truncate(start);
    }
    Ok(!is_same)
}

fn encode_fragment(target: &[u8], out: &mut Vec<u8>) {
    for byte in target {
        match byte {
            b'#' => out.extend_from_slice(b"%23"),
            other => out.push(*other),
        }
    }
}

/// Which segments are taken out of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dots {
    /// `.`
    One,
    /// `..` with the segment before it; at the front it stays.
    Two,
    /// The same, and at the front it goes too.
    TwoFull,
}

fn strip(path: &[u8], dots: Dots, out: &mut Vec<u8>) {
    let Some(segments) = path.strip_prefix(b"/") else {
        out.extend_from_slice(path);
        return;
    };
    let mut kept: SmallVec<[&[u8]; 32]> = SmallVec::new();
    let mut parts = segments.split(|b| *b == b'/').peekable();
    while let Some(part) = parts.next() {
        let goes = match (part, dots) {
            (b".", Dots::One) => true,
            (b"..", Dots::Two | Dots::TwoFull) => match kept.last() {
                Some(last) if *last != b".." => kept.pop().is_some(),
                _ => dots == Dots::TwoFull,
            },
            _ => false,
        };
        match goes {
            false => kept.push(part),
            // `/a/..` is a directory: the slash at its end stays.
            true if parts.peek().is_none() => kept.push(b""),
            true => {}
        }
    }
    for part in &kept {
        out.push(b'/');
        out.extend_from_slice(part);
    }
}

/// Copies a text and lets `write` have each escape: its digits and the byte they mean.
fn escapes(
    text: &[u8],
    strict: bool,
    out: &mut Vec<u8>,
    write: impl Fn(&[u8], u8, &mut Vec<u8>),
) -> Result<(), BadEscape> {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'%', rest) {
        out.extend_from_slice(&rest[..at]);
        let digit = |n: usize| char::from(*rest.get(at + n)?).to_digit(16);
        match (digit(1), digit(2)) {
            (Some(high), Some(low)) => {
                write(&rest[at + 1..at + 3], u8::try_from(high << 4 | low).unwrap_or(b'%'), out);
                rest = &rest[at + 3..];
            }
            _ if strict => return Err(BadEscape),
            _ => {
                out.push(b'%');
                rest = &rest[at + 1..];
            }
        }
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// Parameters in the order of their names; those of one name keep theirs, because it means something to applications.
fn sort_query(query: &[u8], out: &mut Vec<u8>) {
    let mut pairs: SmallVec<[&[u8]; 32]> = query.split(|b| *b == b'&').collect();
    pairs.sort_by_key(|pair| pair.split(|b| *b == b'=').next());
    for (at, pair) in pairs.iter().enumerate() {
        out.push(if at == 0 { b'?' } else { b'&' });
        out.extend_from_slice(pair);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Normalizer::*;

    #[test]
    fn every_step_by_a_table() {
        let dot_dot = PathStripDotDot { full: false };
        let full = PathStripDotDot { full: true };
        let decode = PercentDecodeUnreserved { strict: false };
        let upper = PercentToUppercase { strict: false };
        for (step, target, expected) in [
            (FragmentEncode, "/#foo", "/%23foo"),
            (FragmentEncode, "/a?b#c#d", "/a?b%23c%23d"),
            (FragmentStrip, "/#foo", "/"),
            (FragmentStrip, "/a?b#c", "/a?b"),
            (PathMergeSlashes, "//", "/"),
            (PathMergeSlashes, "/foo//bar", "/foo/bar"),
            (PathMergeSlashes, "/foo///bar//?a=//", "/foo/bar/?a=//"),
            (PathMergeSlashes, "http://h//a//b", "http://h/a/b"),
            (PathStripDot, "/.", "/"),
            (PathStripDot, "/./bar/", "/bar/"),
            (PathStripDot, "/a/./a", "/a/a"),
            (PathStripDot, "/.well-known/", "/.well-known/"),
            (PathStripDot, "/a/.?x=/./", "/a/?x=/./"),
            (dot_dot, "/foo/../", "/"),
            (dot_dot, "/foo/../bar/", "/bar/"),
            (dot_dot, "/foo/bar/../", "/foo/"),
            (dot_dot, "/foo/..", "/"),
            (dot_dot, "/../bar/", "/../bar/"),
            (dot_dot, "/bar/../../", "/../"),
            (dot_dot, "/foo//../", "/foo/"),
            (dot_dot, "/foo/%2E%2E/", "/foo/%2E%2E/"),
            (dot_dot, "*", "*"),
            (full, "/../bar/", "/bar/"),
            (full, "/bar/../../", "/"),
            (full, "/..", "/"),
            (full, "/a/../..?q=/../", "/?q=/../"),
            (decode, "/%61dmin", "/admin"),
            (decode, "/%66oo%2Fbar?%7e", "/foo%2Fbar?~"),
            (decode, "/foo%2", "/foo%2"),
            (decode, "/%2561", "/%2561"),
            (upper, "/fo%6f", "/fo%6F"),
            (upper, "/%2f%e4?%ab", "/%2F%E4?%AB"),
            (upper, "/%zz%a", "/%zz%a"),
            (QuerySortByName, "/?c=3&a=1&b=2", "/?a=1&b=2&c=3"),
            (QuerySortByName, "/?aaa=3&a=1&aa=2", "/?a=1&aa=2&aaa=3"),
            (QuerySortByName, "/?a=3&b=4&a=1&b=5&a=2", "/?a=3&a=1&a=2&b=4&b=5"),
            (QuerySortByName, "/b?", "/b?"),
            (QuerySortByName, "/b", "/b"),
        ] {
            let mut out = Vec::new();
            let changed = normalize(step, target.as_bytes(), &mut out).expect("not strict");
            assert_eq!(changed, target != expected, "{step:?} {target}");
            if changed {
                assert_eq!(String::from_utf8_lossy(&out), expected, "{step:?} {target}");
                let mut again = Vec::new();
                assert_eq!(
                    normalize(step, &out, &mut again),
                    Ok(false),
                    "a step done twice is done once: {expected}"
                );
            }
        }
    }

    #[test]
    fn strict_steps_refuse_what_is_no_escape() {
        for step in [PercentDecodeUnreserved { strict: true }, PercentToUppercase { strict: true }] {
            for target in ["/%", "/%2", "/%zz", "/a?%g0"] {
                assert_eq!(normalize(step, target.as_bytes(), &mut Vec::new()), Err(BadEscape), "{target}");
            }
            assert!(normalize(step, b"/%41", &mut Vec::new()).is_ok());
        }
    }
}

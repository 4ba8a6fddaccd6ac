//! Cookies: reading them, and the edits that persistence makes. RFC 6265.
//!
//! Reads as servers do: pairs between semicolons, names compared with case, quotes left in the value. Works on one value
//! of a Cookie or Set-Cookie header; `policy::persist` decides, the data plane puts the result into the head.

use std::ops::Range;

/// One `name=value` of a Cookie header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// Its name; the whole text when there is no `=`.
    pub name: &'a [u8],
    /// Its value, quotes included.
    pub value: &'a [u8],
    /// Whether it has an `=`.
    pub is_whole: bool,
    /// Where the value stands in the header value.
    pub value_range: Range<usize>,
    /// Where the pair stands, with the semicolon and the space behind it, or those before it when it is the last.
    pub pair_range: Range<usize>,
}

/// The pairs of a Cookie header value, in order.
pub fn pairs(header: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < header.len() {
            let start = at;
            let end = memchr::memchr(b';', &header[start..]).map_or(header.len(), |i| start + i);
            at = end + 1;
            let inner = trim(header, start..end);
            if inner.is_empty() {
                continue;
            }
            let equals = memchr::memchr(b'=', &header[inner.clone()]).map(|i| inner.start + i);
            let name = trim(header, inner.start..equals.unwrap_or(inner.end));
            let value = equals.map_or(inner.end..inner.end, |equals| trim(header, equals + 1..inner.end));
            let pair_range = if end < header.len() {
                inner.start..trim(header, end + 1..header.len()).start
            } else {
                trim_end(header, start.saturating_sub(1))..header.len()
            };
            return Some(Pair {
                name: &header[name],
                value: &header[value.clone()],
                is_whole: equals.is_some(),
                value_range: value,
                pair_range,
            });
        }
        None
    })
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// A range without the space at its ends.
fn trim(text: &[u8], range: Range<usize>) -> Range<usize> {
    let (mut start, mut end) = (range.start, range.end);
    while start < end && is_space(text[start]) {
        start += 1;
    }
    while start < end && is_space(text[end - 1]) {
        end -= 1;
    }
    start..end
}

/// The end of the text before `at` without its trailing space.
fn trim_end(text: &[u8], at: usize) -> usize {
    trim(text, 0..at).end
}

/// `cook(name)`: the value of the first cookie of a name.
pub fn find<'a>(header: &'a [u8], name: &[u8]) -> Option<Pair<'a>> {
    pairs(header).find(|pair| pair.name == name)
}

/// Writes the header value without one of its pairs (`cookie ... indirect`). Empty when it was the only one: the header
/// then goes altogether.
pub fn without(header: &[u8], pair: &Pair<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&header[..pair.pair_range.start]);
    out.extend_from_slice(&header[pair.pair_range.end..]);
}

/// Writes the header value with another value for one of its pairs (`cookie ... rewrite`, `prefix`).
pub fn with_value(header: &[u8], pair: &Pair<'_>, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&header[..pair.value_range.start]);
    out.extend_from_slice(value);
    out.extend_from_slice(&header[pair.value_range.end..]);
}

/// Splits `SERVER~value`, what `cookie ... prefix` made of a value: the server, and what the application knows.
pub fn split_prefix(value: &[u8]) -> Option<(&[u8], &[u8])> {
    memchr::memchr(b'~', value).map(|at| (&value[..at], &value[at + 1..]))
}

/// A Set-Cookie header, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCookie<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its value, quotes included.
    pub value: &'a [u8],
    /// Where the value stands in the header value.
    pub value_range: Range<usize>,
    attributes: &'a [u8],
}

impl<'a> SetCookie<'a> {
    /// Reads the value of a Set-Cookie header. `None` without a name (RFC 6265 5.2).
    pub fn parse(header: &'a [u8]) -> Option<SetCookie<'a>> {
        let end = memchr::memchr(b';', header).unwrap_or(header.len());
        let equals = memchr::memchr(b'=', &header[..end])?;
        let name = &header[trim(header, 0..equals)];
        let value_range = trim(header, equals + 1..end);
        if name.is_empty() {
            return None;
        }
        let attributes = header.get(end + 1..).unwrap_or_default();
        Some(SetCookie { name, value: &header[value_range.clone()], value_range, attributes })
    }
    /// Attributes in order: name and value, which is empty for flags.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        pairs(self.attributes).map(|pair| (pair.name, pair.value))
    }
    /// Whether an attribute is there, whatever its case: `Secure`.
    pub fn has_attribute(&self, name: &[u8]) -> bool {
        self.attributes().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }
}

/// A Set-Cookie header to be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewCookie<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// `domain`
    pub domain: Option<&'a [u8]>,
    /// `httponly`
    pub is_http_only: bool,
    /// `secure`
    pub is_secure: bool,
    /// An attribute of the operator's (`attr`): `SameSite=None`.
    pub attribute: Option<&'a [u8]>,
}

impl NewCookie<'_> {
    /// Writes the header value, for the whole site (`path=/`).
    pub fn write(&self, out: &mut Vec<u8>) {
        for part in [self.name, b"=", self.value, b"; path=/"] {
            out.extend_from_slice(part);
        }
        if let Some(domain) = self.domain {
            out.extend_from_slice(b"; domain=");
            out.extend_from_slice(domain);
        }
        if self.is_http_only {
            out.extend_from_slice(b"; HttpOnly");
        }
        if self.is_secure {
            out.extend_from_slice(b"; Secure");
        }
        if let Some(attribute) = self.attribute {
            out.extend_from_slice(b"; ");
            out.extend_from_slice(attribute);
        }
    }
    /// Writes a header value that makes the client forget the cookie.
    pub fn write_expired(&self, out: &mut Vec<u8>) {
        NewCookie { value: b"", ..*self }.write(out);
        out.extend_from_slice(b"; Expires=Thu, 01-Jan-1970 00:00:01 GMT");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_servers_do() {
        let read = |header: &'static str| -> Vec<(String, String)> {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            pairs(header.as_bytes()).map(|p| (text(p.name), text(p.value))).collect()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read("a=b; c=d"), [pair("a", "b"), pair("c", "d")]);
        assert_eq!(
            read(" a = b ;c=\"x y\";; d ; =e;f=g=h"),
            [pair("a", "b"), pair("c", "\"x y\""), pair("d", ""), pair("", "e"), pair("f", "g=h"),]
        );
        assert_eq!(read(""), []);
        assert_eq!(read(" ; ;"), []);
    }

    #[test]
    fn pairs_are_removed_and_rewritten() {
        for (header, name, removed, rewritten) in [
            ("SRV=s1", "SRV", "", "SRV=x"),
            ("a=b; SRV=s1; c=d", "SRV", "a=b; c=d", "a=b; SRV=x; c=d"),
            ("SRV=s1; c=d", "SRV", "c=d", "SRV=x; c=d"),
            ("a=b; SRV=s1", "SRV", "a=b", "a=b; SRV=x"),
            ("a=b;SRV=s1;c=d", "SRV", "a=b;c=d", "a=b;SRV=x;c=d"),
            ("a=b ; SRV=\"s 1\" ", "SRV", "a=b", "a=b ; SRV=x "),
            ("a=b; SRV=", "SRV", "a=b", "a=b; SRV=x"),
        ] {
            let pair = find(header.as_bytes(), name.as_bytes()).expect("the cookie is there");
            let mut out = Vec::new();
            without(header.as_bytes(), &pair, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), removed, "{header}");
            out.clear();
            with_value(header.as_bytes(), &pair, b"x", &mut out);
            assert_eq!(String::from_utf8_lossy(&out), rewritten, "{header}");
        }
        assert_eq!(find(b"srv=1; XSRV=2", b"SRV"), None);
        assert_eq!(split_prefix(b"s1~abc~d"), Some((&b"s1"[..], &b"abc~d"[..])));
        assert_eq!(split_prefix(b"abc"), None);
    }

    #[test]
    fn set_cookie_is_read_and_written() {
        let cookie = SetCookie::parse(b"id = 7; Path=/; secure; SameSite=Lax").expect("a cookie");
        assert_eq!((cookie.name, cookie.value), (&b"id"[..], &b"7"[..]));
        assert!(cookie.has_attribute(b"Secure") && !cookie.has_attribute(b"HttpOnly"));
        assert_eq!(cookie.attributes().nth(2), Some((&b"SameSite"[..], &b"Lax"[..])));
        assert_eq!(SetCookie::parse(b"; a=b"), None);
        assert_eq!(SetCookie::parse(b"=b"), None);
        let new = NewCookie {
            name: b"SRV",
            value: b"s1",
            domain: Some(b"example.net"),
            is_http_only: true,
            is_secure: true,
            attribute: Some(b"SameSite=None"),
        };
        let mut out = Vec::new();
        new.write(&mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "SRV=s1; path=/; domain=example.net; HttpOnly; Secure; SameSite=None"
        );
        let written = SetCookie::parse(&out).expect("what is written can be read");
        assert_eq!(written.value, b"s1");
        out.clear();
        NewCookie { name: b"SRV", ..NewCookie::default() }.write_expired(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), "SRV=; path=/; Expires=Thu, 01-Jan-1970 00:00:01 GMT");
    }
}

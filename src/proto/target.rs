//! Request targets: their four forms, path and query, and strict authorities. RFC 9112 3.2, RFC 3986 3.2.

use std::net::Ipv6Addr;

use crate::proto::http::class;

/// A request target, split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target<'a> {
    /// `/path?query`, to servers.
    Origin {
        /// The path, from its slash on.
        path: &'a [u8],
        /// What follows the question mark, if there is one.
        query: Option<&'a [u8]>,
    },
    /// `scheme://authority/path?query`, to proxies.
    Absolute {
        /// The scheme.
        scheme: &'a [u8],
        /// Whom the request is for.
        authority: Authority<'a>,
        /// The path; empty in `http://host` and `http://host?query`.
        path: &'a [u8],
        /// What follows the question mark, if there is one.
        query: Option<&'a [u8]>,
    },
    /// `host:port`, with CONNECT.
    Authority(Authority<'a>),
    /// `*`, with OPTIONS.
    Asterisk,
}

/// A host and an optional port. User information is refused wherever an authority is read (RFC 9110 4.2.4).
///
/// ```
/// let authority = shardgate::proto::target::Authority::parse(b"[::1]:8080").unwrap();
/// assert_eq!((authority.host, authority.port), (&b"[::1]"[..], Some(8080)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Authority<'a> {
    /// The host, with brackets when it is an IPv6 address. Not empty.
    pub host: &'a [u8],
    /// The port; `None` when it is absent or empty.
    pub port: Option<u16>,
}

/// Why a target is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetError {
    /// None of the four forms.
    Form,
    /// The authority is malformed.
    Authority,
}

impl<'a> Authority<'a> {
    /// Parses `host`, `host:`, `host:port`, `[v6]`, `[v6]:port`. `None` when it is anything else.
    pub fn parse(text: &'a [u8]) -> Option<Authority<'a>> {
        let host_len = if text.first() == Some(&b'[') {
            let end = memchr::memchr(b']', text)?;
            let address = std::str::from_utf8(&text[1..end]).ok()?;
            address.parse::<Ipv6Addr>().ok()?;
            end + 1
        } else {
            let plain = class::run(text, class::HOST);
            match text.get(plain) {
                None | Some(b':') => plain,
                Some(_) => class::run(text, class::REG_NAME),
            }
        };
        let (host, rest) = text.split_at(host_len);
        if host.is_empty() || !are_escapes_whole(host) {
            return None;
        }
        let port = match rest {
            [] | [b':'] => None,
            [b':', digits @ ..] => Some(port_of(digits)?),
            _ => return None,
        };
        Some(Authority { host, port })
    }
    /// Whether two authorities name the same place, given the port that stands for none.
    pub fn is_same(&self, other: &Authority<'_>, default_port: Option<u16>) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.or(default_port) == other.port.or(default_port)
    }
}

/// Whether every `%` starts two hexadecimal digits.
fn are_escapes_whole(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text)
        .all(|at| text.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

/// A port, 0 to 65535 in at most five digits.
fn port_of(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0'));
    u16::try_from(number).ok()
}

/// The port of a scheme that HTTP is served on.
pub fn default_port(scheme: &[u8]) -> Option<u16> {
    if scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"ws") {
        Some(80)
    } else if scheme.eq_ignore_ascii_case(b"https") || scheme.eq_ignore_ascii_case(b"wss") {
        Some(443)
    } else {
        None
    }
}

impl<'a> Target<'a> {
    /// Splits a target. `is_connect` chooses the authority form, which no other method has. The bytes of the target are
    /// already known to be those that targets have.
    pub fn parse(text: &'a [u8], is_connect: bool) -> Result<Target<'a>, TargetError> {
        if is_connect {
            let authority = Authority::parse(text).ok_or(TargetError::Authority)?;
            // CONNECT has no default port (RFC 9110 9.3.6).
            return match authority.port {
                Some(port) if port > 0 => Ok(Target::Authority(authority)),
                _ => Err(TargetError::Authority),
            };
        }
        match text {
            [b'/', ..] => {
                let (path, query) = split_query(text);
                Ok(Target::Origin { path, query })
            }
            b"*" => Ok(Target::Asterisk),
            _ => Target::parse_absolute(text),
        }
    }
    fn parse_absolute(text: &'a [u8]) -> Result<Target<'a>, TargetError> {
        let scheme_len = scheme_len(text).ok_or(TargetError::Form)?;
        let rest = &text[scheme_len + 3..];
        let authority_len = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        let authority = Authority::parse(&rest[..authority_len]).ok_or(TargetError::Authority)?;
        let (path, query) = split_query(&rest[authority_len..]);
        Ok(Target::Absolute { scheme: &text[..scheme_len], authority, path, query })
    }
}

/// Length of the scheme in front of `://` (RFC 3986 3.1).
fn scheme_len(text: &[u8]) -> Option<usize> {
    let is_scheme = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    let len = text.iter().position(|b| !is_scheme(b))?;
    let is_right = text[0].is_ascii_alphabetic() && len > 0 && text[len..].starts_with(b"://");
    is_right.then_some(len)
}

/// Path, and query if there is a question mark.
fn split_query(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', text) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// What stands before the path, the path, and the question mark with the query.
pub fn split_path(target: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let path_at = match target.first() {
        Some(b'/') => 0,
        _ => match scheme_len(target) {
            Some(len) => {
                let rest = &target[len + 3..];
                len + 3 + rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len())
            }
            None => target.len(),
        },
    };
    let (before, rest) = target.split_at(path_at);
    let end = memchr::memchr(b'?', rest).unwrap_or(rest.len());
    (before, &rest[..end], &rest[end..])
}

/// The path of a target (`path`); empty for `*` and for authorities.
pub fn path_of(target: &[u8]) -> &[u8] {
    split_path(target).1
}

/// The query of a target (`query`); `None` without question mark.
pub fn query_of(target: &[u8]) -> Option<&[u8]> {
    memchr::memchr(b'?', target).map(|at| &target[at + 1..])
}

/// The target in origin form, as it goes to a server: path and query. `/` stands for an empty path, so the answer is two
/// pieces to write after each other. Authorities and `*` stay as they are.
pub fn origin_form(target: &[u8]) -> (&[u8], &[u8]) {
    match target.first() {
        Some(b'/') => (b"", target),
        _ if scheme_len(target).is_none() => (b"", target),
        _ => {
            let (before, path, _) = split_path(target);
            let slash: &[u8] = if path.is_empty() { b"/" } else { b"" };
            (slash, &target[before.len()..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_forms_are_told_apart() {
        let origin = |path, query| Ok(Target::Origin { path, query });
        assert_eq!(Target::parse(b"/", false), origin(b"/", None));
        assert_eq!(Target::parse(b"/a/b?c=d?e", false), origin(b"/a/b", Some(b"c=d?e")));
        assert_eq!(Target::parse(b"//x?", false), origin(b"//x", Some(b"")));
        assert_eq!(Target::parse(b"*", false), Ok(Target::Asterisk));
        let authority = Authority { host: b"a.b", port: Some(8080) };
        assert_eq!(Target::parse(b"a.b:8080", true), Ok(Target::Authority(authority)));
        let absolute = Target::Absolute { scheme: b"http", authority, path: b"/p", query: Some(b"q") };
        assert_eq!(Target::parse(b"http://a.b:8080/p?q", false), Ok(absolute));
        let bare = Target::Absolute {
            scheme: b"HTTPS",
            authority: Authority { host: b"h", port: None },
            path: b"",
            query: Some(b"q"),
        };
        assert_eq!(Target::parse(b"HTTPS://h?q", false), Ok(bare));
    }

    #[test]
    fn malformed_targets_are_refused() {
        for text in ["", "a", "a/b", "**", "*a", "a:b", "http:/a", "1ttp://a/", "://a", "http", "ht_tp://a"] {
            assert_eq!(Target::parse(text.as_bytes(), false), Err(TargetError::Form), "{text}");
        }
        for text in ["http://", "http:///x", "http://a@b/", "http://a:b/", "http://a:99999/", "http://[::1/"]
        {
            assert_eq!(Target::parse(text.as_bytes(), false), Err(TargetError::Authority), "{text}");
        }
        for text in ["", "/", "*", "a", "a:", "a:0", "a:65536", "a:80/", "http://a:80/", "u@a:80", "a:+80"] {
            assert_eq!(Target::parse(text.as_bytes(), true), Err(TargetError::Authority), "{text}");
        }
    }

    #[test]
    fn authorities_are_strict() {
        for (text, host, port) in [
            ("a", "a", None),
            ("a:", "a", None),
            ("a:0", "a", Some(0)),
            ("a-b.c_d~!$&'()*+,;=:65535", "a-b.c_d~!$&'()*+,;=", Some(65535)),
            ("%41b", "%41b", None),
            ("[::1]", "[::1]", None),
            ("[2001:db8::1]:443", "[2001:db8::1]", Some(443)),
            ("192.0.2.1:1", "192.0.2.1", Some(1)),
        ] {
            let expected = Authority { host: host.as_bytes(), port };
            assert_eq!(Authority::parse(text.as_bytes()), Some(expected), "{text}");
        }
        for text in [
            "",
            ":",
            ":80",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a@b",
            "a\\b",
            "a\"",
            "a<",
            "a%4",
            "a%zz",
            "a:8 0",
            "a:80:80",
            "a:000080",
            "[::1",
            "[::1]x",
            "[]",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "[v1.x]",
            "::1",
            "a\t",
            "\u{e4}",
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn paths_queries_and_origin_forms() {
        let cases: &[(&str, &str, Option<&str>, &str)] = &[
            ("/a?b", "/a", Some("b"), "/a?b"),
            ("/", "/", None, "/"),
            ("http://h/a?b", "/a", Some("b"), "/a?b"),
            ("http://h", "", None, "/"),
            ("http://h?b", "", Some("b"), "/?b"),
            ("*", "", None, "*"),
            ("h:80", "", None, "h:80"),
        ];
        for (target, path, query, origin) in cases {
            let bytes = target.as_bytes();
            assert_eq!(path_of(bytes), path.as_bytes(), "{target}");
            assert_eq!(query_of(bytes), query.map(str::as_bytes), "{target}");
            let (first, second) = origin_form(bytes);
            assert_eq!([first, second].concat(), origin.as_bytes(), "{target}");
        }
    }

    #[test]
    fn the_same_place_has_several_spellings() {
        let parse = |text: &'static str| Authority::parse(text.as_bytes()).expect("an authority");
        assert!(parse("A.b:80").is_same(&parse("a.B"), default_port(b"http")));
        assert!(parse("a:443").is_same(&parse("a"), default_port(b"HTTPS")));
        assert!(!parse("a:443").is_same(&parse("a"), default_port(b"http")));
        assert!(!parse("a").is_same(&parse("b"), None));
        assert!(parse("a:").is_same(&parse("a"), None));
    }
}

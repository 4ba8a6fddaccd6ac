//! `location = "same-host"`: redirects of a server to our own host lead back to us, by the scheme and the port that the client
//! came by. A server behind us does not know them: it sees plain HTTP on a port of its own, and a redirect made of that leads
//! nowhere, or round in circles. Redirects to other hosts are left alone.
//!
//! Our own host is the one of the request's Host header as the client sent it. The scheme is https if TLS ends here, or if the
//! request that goes to the server says so in X-Forwarded-Proto: set by a rule, or by whoever ends TLS in front of us.

use crate::proto::headers::{EditError, Head, HeadView};
use crate::proto::http::{Known, Name, StatusCode};
use crate::proto::target::{Authority, Target};

/// Writes where the client reaches us: `scheme://authority`. Nothing without a Host. The Host is taken before rules, the scheme
/// after them, so this is done in two parts.
pub(super) fn host_of(request: HeadView<'_>, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(request.line(Known::Host).unwrap_or_default());
}

/// Puts the scheme in front of the host.
pub(super) fn with_scheme(request: HeadView<'_>, is_tls: bool, origin: &mut Vec<u8>) {
    if origin.is_empty() {
        return;
    }
    let told = request.values(Name::of(b"x-forwarded-proto")).next().unwrap_or_default();
    let is_https = is_tls || told.eq_ignore_ascii_case(b"https");
    let scheme: &[u8] = if is_https { b"https://" } else { b"http://" };
    origin.splice(0..0, scheme.iter().copied());
}

/// Rewrites the Location of a response.
pub(super) fn rewrite(head: &mut Head, bytes: &[u8], origin: &[u8]) -> Result<(), EditError> {
    let may_redirect = |status: StatusCode| status.code() == 201 || status.code() / 100 == 3;
    if origin.is_empty() || !head.view(bytes).status().is_some_and(may_redirect) {
        return Ok(());
    }
    let rewritten =
        head.edit(bytes).rewrite_lines(Known::Location, |value, out| relocate(value, origin, out));
    rewritten.map(drop)
}

/// The same with one value. False: it stays.
fn relocate(value: &[u8], origin: &[u8], out: &mut Vec<u8>) -> bool {
    // A fragment is no part of a request target, but of a Location it is.
    let plain = &value[..memchr::memchr(b'#', value).unwrap_or(value.len())];
    let Ok(Target::Absolute { scheme, authority, .. }) = Target::parse(plain, false) else { return false };
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return false;
    }
    let ours = memchr::memmem::find(origin, b"://").map_or(origin, |at| &origin[at + 3..]);
    let is_ours = Authority::parse(ours).is_some_and(|own| own.host.eq_ignore_ascii_case(authority.host));
    if !is_ours {
        return false;
    }
    let after = scheme.len() + 3;
    let rest = value[after..].iter().position(|b| matches!(b, b'/' | b'?' | b'#'));
    out.extend_from_slice(origin);
    out.extend_from_slice(rest.map_or(&b""[..], |at| &value[after + at..]));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_host_gets_our_scheme_and_port_and_others_stay() {
        for (origin, location, expected) in [
            (
                "https://www.example.com",
                "http://www.example.com/a?b=c",
                Some("https://www.example.com/a?b=c"),
            ),
            ("https://www.example.com", "http://www.example.com:8080/a", Some("https://www.example.com/a")),
            ("http://www.example.com:81", "https://WWW.Example.com/", Some("http://www.example.com:81/")),
            ("https://a", "http://a", Some("https://a")),
            ("https://a", "HTTP://a?x#y/z", Some("https://a?x#y/z")),
            ("https://[::1]:8443", "http://[::1]/x", Some("https://[::1]:8443/x")),
            ("https://a", "http://b/a", None),
            ("https://a", "http://a.b/", None),
            ("https://a", "/relative", None),
            ("https://a", "//a/x", None),
            ("https://a", "ftp://a/x", None),
            ("https://a", "http://user@a/x", None),
            ("https://a", "", None),
            ("", "http://a/", None),
        ] {
            let mut out = Vec::new();
            let changed = relocate(location.as_bytes(), origin.as_bytes(), &mut out);
            let got = changed.then(|| String::from_utf8_lossy(&out).into_owned());
            assert_eq!(got.as_deref(), expected, "{origin} {location}");
        }
    }
}

//! What `balance uri`, `url_param` and `hdr` hash: slices of the request, cut as HAProxy cuts them. The hash over the slice
//! is [`hash_key`](super::hash_key). `None` means that the request has no key and is balanced by round robin.

/// The source of the key of an HTTP request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeySource {
    /// `balance uri`.
    Uri(UriKey),
    /// `balance url_param NAME`.
    UrlParam {
        /// The name of the parameter.
        name: String,
    },
    /// `balance hdr(NAME)`.
    Header {
        /// The name of the header; the caller looks it up and passes its value.
        name: String,
        /// Hash only the name of the domain: `example` of `www.example.com` (`use_domain_only`).
        domain_only: bool,
    },
}

/// The options of `balance uri`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UriKey {
    /// At most this many bytes (`len`).
    pub len: Option<usize>,
    /// At most this many directories (`depth`).
    pub depth: Option<usize>,
    /// The query too (`whole`).
    pub whole: bool,
    /// Without scheme and authority (`path-only`).
    pub path_only: bool,
}

impl KeySource {
    /// The bytes to hash. `uri` is the request target, `header` the value of the header that the source names.
    pub fn bytes<'a>(&self, uri: &'a [u8], header: Option<&'a [u8]>) -> Option<&'a [u8]> {
        match self {
            KeySource::Uri(options) => Some(uri_bytes(uri, *options)),
            KeySource::UrlParam { name } => url_param(uri, name.as_bytes()),
            KeySource::Header { domain_only, .. } => {
                let value = header.filter(|value| !value.is_empty())?;
                Some(if *domain_only { domain(value) } else { value })
            }
        }
    }
}

/// The part of a request target that `balance uri` hashes: up to the query, to `len` bytes, to `depth` directories.
pub fn uri_bytes(uri: &[u8], options: UriKey) -> &[u8] {
    let uri = if options.path_only { path(uri) } else { uri };
    let uri = &uri[..options.len.unwrap_or(usize::MAX).min(uri.len())];
    let mut slashes = 0;
    let end = uri.iter().position(|byte| match byte {
        b'/' => {
            slashes += 1;
            options.depth.is_some_and(|depth| slashes == depth.saturating_add(1))
        }
        b'?' => !options.whole,
        _ => false,
    });
    &uri[..end.unwrap_or(uri.len())]
}

/// The value of the first parameter of that name in the query; the bytes are taken as they are, not decoded.
pub fn url_param<'a>(uri: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let query = &uri[memchr::memchr(b'?', uri)? + 1..];
    query.split(|byte| *byte == b'&').find_map(|part| part.strip_prefix(name)?.strip_prefix(b"="))
}

/// From the first slash of the path: an absolute-form target loses scheme and authority.
fn path(uri: &[u8]) -> &[u8] {
    if uri.first() == Some(&b'/') {
        return uri;
    }
    let authority = memchr::memmem::find(uri, b"://").map_or(uri, |at| &uri[at + 3..]);
    memchr::memchr(b'/', authority).map_or(&[], |at| &authority[at..])
}

/// The label before the last dot, without what stands before it: `example` of `www.example.com:80`.
fn domain(host: &[u8]) -> &[u8] {
    let Some(end) = memchr::memrchr(b'.', host) else { return host };
    let host = &host[..end];
    memchr::memrchr(b'.', host).map_or(host, |at| &host[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).expect("the tests cut at ASCII")
    }

    #[test]
    fn uri_is_cut_at_query_length_and_depth() {
        let plain = UriKey::default();
        for (uri, options, expected) in [
            ("/a/b?x=1", plain, "/a/b"),
            ("/a/b?x=1", UriKey { whole: true, ..plain }, "/a/b?x=1"),
            ("/a/b/c", UriKey { depth: Some(1), ..plain }, "/a"),
            ("/a/b/c", UriKey { depth: Some(2), ..plain }, "/a/b"),
            ("/a/b/c", UriKey { depth: Some(9), ..plain }, "/a/b/c"),
            ("/a?/b", UriKey { depth: Some(1), ..plain }, "/a"),
            ("/a?/b/c", UriKey { depth: Some(1), whole: true, ..plain }, "/a?"),
            ("/abcdef", UriKey { len: Some(4), ..plain }, "/abc"),
            ("/ab", UriKey { len: Some(400), ..plain }, "/ab"),
            ("/ab", UriKey { len: Some(0), ..plain }, ""),
            ("http://h/a/b", plain, "http://h/a/b"),
            ("http://h/a/b", UriKey { path_only: true, ..plain }, "/a/b"),
            ("http://h", UriKey { path_only: true, ..plain }, ""),
            ("h:443", UriKey { path_only: true, ..plain }, ""),
            ("*", UriKey { path_only: true, ..plain }, ""),
            ("", plain, ""),
            ("/", UriKey { depth: Some(usize::MAX), ..plain }, "/"),
        ] {
            assert_eq!(text(uri_bytes(uri.as_bytes(), options)), expected, "{uri} {options:?}");
        }
    }

    #[test]
    fn the_first_parameter_of_the_name_is_taken() {
        for (uri, expected) in [
            ("/?id=7", Some("7")),
            ("/?x=1&id=7&id=8", Some("7")),
            ("/?id=", Some("")),
            ("/?myid=7", None),
            ("/?id", None),
            ("/?ids=7", None),
            ("/id=7", None),
            ("/?x?id=7", None),
            ("/?id=a=b", Some("a=b")),
            ("", None),
        ] {
            assert_eq!(url_param(uri.as_bytes(), b"id").map(text), expected, "{uri}");
        }
    }

    #[test]
    fn a_header_is_hashed_whole_or_by_its_domain() {
        let source = |domain_only| KeySource::Header { name: "host".to_owned(), domain_only };
        for (host, expected) in [
            ("www.example.com", "example"),
            ("example.com:8080", "example"),
            ("a.b.c.d", "c"),
            ("localhost", "localhost"),
            (".", ""),
        ] {
            assert_eq!(source(true).bytes(b"/", Some(host.as_bytes())).map(text), Some(expected), "{host}");
            assert_eq!(source(false).bytes(b"/", Some(host.as_bytes())).map(text), Some(host));
        }
        assert_eq!(source(false).bytes(b"/", Some(b"")), None);
        assert_eq!(source(true).bytes(b"/", None), None);
    }
}

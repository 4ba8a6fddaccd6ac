//! Words of HTTP that do not depend on its version: methods, versions, status codes, header names.
//!
//! Policy reads these types; the codecs of HTTP/1 and HTTP/2 fill them in. RFC 9110.

use std::fmt;

/// First bytes of an HTTP/2 connection with prior knowledge (RFC 9113 3.4).
pub const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A method, as far as a proxy tells methods apart; the text of [`Method::Other`] stays in the head.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Method {
    /// GET
    #[default]
    Get,
    /// HEAD: the response has no body.
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// CONNECT: a 2xx response starts a tunnel.
    Connect,
    /// OPTIONS
    Options,
    /// TRACE
    Trace,
    /// PATCH (RFC 5789)
    Patch,
    /// Any other token. Methods are case-sensitive: `get` is one of these.
    Other,
}

impl Method {
    /// The method of a token.
    pub fn of(token: &[u8]) -> Method {
        match token {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"CONNECT" => Method::Connect,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            _ => Method::Other,
        }
    }
    /// Whether doing it twice has the effect of doing it once (RFC 9110 9.2.2). Unknown methods are taken as not.
    pub const fn is_idempotent(self) -> bool {
        !matches!(self, Method::Post | Method::Patch | Method::Connect | Method::Other)
    }
    /// Whether it only reads (RFC 9110 9.2.1).
    pub const fn is_safe(self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Options | Method::Trace)
    }
}

/// Version of a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// `req.ver`, `res.ver`: `1.0`, `1.1`, `2.0`.
    pub const fn number(self) -> &'static str {
        match self {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
            Version::Http2 => "2.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP/{}", self.number())
    }
}

/// A status code, 100 to 999 (what [`StatusCode::new`] lets through).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StatusCode(u16);

impl StatusCode {
    /// 200 OK
    pub const OK: StatusCode = StatusCode(200);
    /// 101 Switching Protocols
    pub const SWITCHING_PROTOCOLS: StatusCode = StatusCode(101);

    /// `None` outside 100 to 999: three digits on the wire.
    pub const fn new(code: u16) -> Option<StatusCode> {
        if code >= 100 && code <= 999 { Some(StatusCode(code)) } else { None }
    }
    /// The number.
    pub const fn code(self) -> u16 {
        self.0
    }
    /// 1 for 1xx, 2 for 2xx, ...
    pub const fn class(self) -> u16 {
        self.0 / 100
    }
    /// Whether another response follows: 1xx but 101 (RFC 9110 15.2).
    pub const fn is_interim(self) -> bool {
        self.0 < 200 && self.0 != 101
    }
    /// The reason phrase of the IANA registry, or that of its class.
    pub const fn reason(self) -> &'static str {
        match self.0 {
            100 => "Continue",
            101 => "Switching Protocols",
            102 => "Processing",
            103 => "Early Hints",
            200 => "OK",
            201 => "Created",
            202 => "Accepted",
            203 => "Non-Authoritative Information",
            204 => "No Content",
            205 => "Reset Content",
            206 => "Partial Content",
            207 => "Multi-Status",
            208 => "Already Reported",
            226 => "IM Used",
            300 => "Multiple Choices",
            301 => "Moved Permanently",
            302 => "Found",
            303 => "See Other",
            304 => "Not Modified",
            305 => "Use Proxy",
            307 => "Temporary Redirect",
            308 => "Permanent Redirect",
            400 => "Bad Request",
            401 => "Unauthorized",
            402 => "Payment Required",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            406 => "Not Acceptable",
            407 => "Proxy Authentication Required",
            408 => "Request Timeout",
            409 => "Conflict",
            410 => "Gone",
            411 => "Length Required",
            412 => "Precondition Failed",
            413 => "Content Too Large",
            414 => "URI Too Long",
            415 => "Unsupported Media Type",
            416 => "Range Not Satisfiable",
            417 => "Expectation Failed",
            421 => "Misdirected Request",
            422 => "Unprocessable Content",
            423 => "Locked",
            424 => "Failed Dependency",
            425 => "Too Early",
            426 => "Upgrade Required",
            428 => "Precondition Required",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            451 => "Unavailable For Legal Reasons",
            500 => "Internal Server Error",
            501 => "Not Implemented",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            505 => "HTTP Version Not Supported",
            506 => "Variant Also Negotiates",
            507 => "Insufficient Storage",
            508 => "Loop Detected",
            511 => "Network Authentication Required",
            _ => match self.0 / 100 {
                1 => "Informational",
                2 => "Success",
                3 => "Redirection",
                4 => "Client Error",
                5 => "Server Error",
                _ => "Unknown",
            },
        }
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The table of interned header names: `Variant "lower-case-name"`.
macro_rules! known_headers {
    ($($variant:ident $name:literal,)*) => {
        /// A header name that has a number: found at parse time, compared as a byte, its presence one bit.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Known {
            $(#[doc = $name] $variant,)*
        }

        impl Known {
            /// All of them, in order of their numbers.
            pub const ALL: &'static [Known] = &[$(Known::$variant,)*];
            const NAMES: &'static [&'static str] = &[$($name,)*];
        }
    };
}

known_headers! {
    Accept "accept",
    AcceptCharset "accept-charset",
    AcceptEncoding "accept-encoding",
    AcceptLanguage "accept-language",
    AcceptRanges "accept-ranges",
    AccessControlAllowOrigin "access-control-allow-origin",
    Age "age",
    Allow "allow",
    AltSvc "alt-svc",
    Authorization "authorization",
    CacheControl "cache-control",
    Connection "connection",
    ContentDisposition "content-disposition",
    ContentEncoding "content-encoding",
    ContentLanguage "content-language",
    ContentLength "content-length",
    ContentLocation "content-location",
    ContentRange "content-range",
    ContentSecurityPolicy "content-security-policy",
    ContentType "content-type",
    Cookie "cookie",
    Date "date",
    Dnt "dnt",
    Etag "etag",
    Expect "expect",
    Expires "expires",
    Forwarded "forwarded",
    From "from",
    Host "host",
    Http2Settings "http2-settings",
    IfMatch "if-match",
    IfModifiedSince "if-modified-since",
    IfNoneMatch "if-none-match",
    IfRange "if-range",
    IfUnmodifiedSince "if-unmodified-since",
    KeepAlive "keep-alive",
    LastModified "last-modified",
    Link "link",
    Location "location",
    MaxForwards "max-forwards",
    Origin "origin",
    Pragma "pragma",
    ProxyAuthenticate "proxy-authenticate",
    ProxyAuthorization "proxy-authorization",
    ProxyConnection "proxy-connection",
    Range "range",
    Referer "referer",
    RetryAfter "retry-after",
    SecFetchDest "sec-fetch-dest",
    SecFetchMode "sec-fetch-mode",
    SecFetchSite "sec-fetch-site",
    SecWebsocketAccept "sec-websocket-accept",
    SecWebsocketExtensions "sec-websocket-extensions",
    SecWebsocketKey "sec-websocket-key",
    SecWebsocketProtocol "sec-websocket-protocol",
    SecWebsocketVersion "sec-websocket-version",
    Server "server",
    SetCookie "set-cookie",
    StrictTransportSecurity "strict-transport-security",
    Te "te",
    Trailer "trailer",
    TransferEncoding "transfer-encoding",
    Upgrade "upgrade",
    UpgradeInsecureRequests "upgrade-insecure-requests",
    UserAgent "user-agent",
    Vary "vary",
    Via "via",
    Warning "warning",
    WwwAuthenticate "www-authenticate",
    XForwardedBy "x-forwarded-by",
    XForwardedFor "x-forwarded-for",
    XForwardedHost "x-forwarded-host",
    XForwardedPort "x-forwarded-port",
    XForwardedProto "x-forwarded-proto",
    XFrameOptions "x-frame-options",
    XOriginalTo "x-original-to",
    XPoweredBy "x-powered-by",
    XRealIp "x-real-ip",
    XRequestId "x-request-id",
    XRequestedWith "x-requested-with",
}

// Presence is a bit of a u128, and 255 says "not known" in a header slot.
const _: () = assert!(Known::ALL.len() <= 128);

/// Slots of the name table: a power of two well above the number of names, so that probes stay short.
const TABLE_SLOTS: usize = 512;
const EMPTY: u8 = u8::MAX;
static TABLE: [u8; TABLE_SLOTS] = Known::build_table();

impl Known {
    /// Longest and shortest of the names.
    const LEN_MAX: usize = 27;
    const LEN_MIN: usize = 2;

    const fn hash(name: &[u8]) -> usize {
        // The first, the middle and the last letter and the length tell all but a few names apart.
        let first = (name[0] | 0x20) as usize;
        let middle = (name[name.len() / 2] | 0x20) as usize;
        let last = (name[name.len() - 1] | 0x20) as usize;
        (name.len() * 37 + first * 5 + middle * 113 + last * 17) % TABLE_SLOTS
    }
    #[allow(clippy::cast_possible_truncation)] // at most 128 names, see the assertion above
    const fn build_table() -> [u8; TABLE_SLOTS] {
        let mut table = [EMPTY; TABLE_SLOTS];
        let mut i = 0;
        while i < Known::NAMES.len() {
            let name = Known::NAMES[i].as_bytes();
            assert!(name.len() <= Known::LEN_MAX && name.len() >= Known::LEN_MIN);
            let mut slot = Known::hash(name);
            while table[slot] != EMPTY {
                slot = (slot + 1) % TABLE_SLOTS;
            }
            table[slot] = i as u8;
            i += 1;
        }
        table
    }
    /// The known name that these bytes are, whatever their case. They must be a token (RFC 9110 5.6.2).
    pub fn of(name: &[u8]) -> Option<Known> {
        if !(Known::LEN_MIN..=Known::LEN_MAX).contains(&name.len()) {
            return None;
        }
        let mut slot = Known::hash(name);
        loop {
            let index = TABLE[slot];
            if index == EMPTY {
                return None;
            }
            if is_folded(name, Known::NAMES[usize::from(index)].as_bytes()) {
                return Some(Known::ALL[usize::from(index)]);
            }
            slot = (slot + 1) % TABLE_SLOTS;
        }
    }
    /// The name in lower case.
    pub const fn name(self) -> &'static str {
        Known::NAMES[self as usize]
    }
    /// Its bit in a set of known names.
    pub const fn bit(self) -> u128 {
        1 << self as u8
    }
}

/// Whether a token is a name in lower case, whatever its own case. Among token bytes `| 0x20` folds the letters and makes no other
/// byte a letter, a digit or a dash.
#[inline]
fn is_folded(token: &[u8], name: &[u8]) -> bool {
    const CASE: u64 = 0x2020_2020_2020_2020;
    if token.len() != name.len() {
        return false;
    }
    let (Some(last), Some(name_last)) = (token.last_chunk(), name.last_chunk()) else {
        return token.iter().zip(name).all(|(token, name)| token | 0x20 == *name);
    };
    let is_same =
        |token: &[u8; 8], name: &[u8; 8]| u64::from_le_bytes(*token) | CASE == u64::from_le_bytes(*name);
    // Eight at a time; the last eight overlap those before.
    let (tokens, names) = (token.as_chunks().0, name.as_chunks().0);
    is_same(last, name_last) && tokens.iter().zip(names).all(|(token, name)| is_same(token, name))
}

/// A header name as look-ups take it. Make it once, at load, where the name is configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Name<'a> {
    /// One of the table.
    Known(Known),
    /// Any other, in any case. Only [`Name::of`] makes these: a known name in here would find nothing.
    Other(&'a [u8]),
}

impl<'a> Name<'a> {
    /// The name of a token.
    pub fn of(token: &'a [u8]) -> Name<'a> {
        Known::of(token).map_or(Name::Other(token), Name::Known)
    }
    /// Its text: lower case for known names, as given for others.
    pub fn text(&self) -> &'a [u8] {
        match self {
            Name::Known(known) => known.name().as_bytes(),
            Name::Other(text) => text,
        }
    }
}

impl From<Known> for Name<'_> {
    fn from(known: Known) -> Self {
        Name::Known(known)
    }
}

/// Classes of bytes, as bits.
pub(crate) mod class {
    /// `tchar` (RFC 9110 5.6.2).
    pub(crate) const TOKEN: u8 = 1;
    /// Bytes of a request target: visible ASCII but `#`, which no target has (RFC 9112 3.2).
    pub(crate) const TARGET: u8 = 2;
    /// `unreserved`, `sub-delims` and `%` (RFC 3986 3.2.2): bytes of a registered name.
    pub(crate) const REG_NAME: u8 = 4;
    /// The same without `%` and `,`: what host names are made of unless something is odd.
    pub(crate) const HOST: u8 = 8;

    pub(crate) static CLASSES: [u8; 256] = {
        let mut table = [0; 256];
        let mut byte = 0u8;
        loop {
            let is_alphanumeric = byte.is_ascii_alphanumeric();
            let mut class = 0;
            if is_alphanumeric || contains(b"!#$%&'*+-.^_`|~", byte) {
                class |= TOKEN;
            }
            if byte.is_ascii_graphic() && byte != b'#' {
                class |= TARGET;
            }
            if is_alphanumeric || contains(b"-._~!$&'()*+,;=%", byte) {
                class |= REG_NAME;
            }
            if class & REG_NAME != 0 && byte != b'%' && byte != b',' {
                class |= HOST;
            }
            table[byte as usize] = class;
            if byte == 255 {
                break;
            }
            byte += 1;
        }
        table
    };

    const fn contains(set: &[u8], byte: u8) -> bool {
        let mut i = 0;
        while i < set.len() {
            if set[i] == byte {
                return true;
            }
            i += 1;
        }
        false
    }

    /// How many bytes at the front are of a class.
    #[inline]
    pub(crate) fn run(bytes: &[u8], class: u8) -> usize {
        let (fours, _) = bytes.as_chunks();
        let of_class =
            |four: &&[u8; 4]| four.iter().fold(class, |all, b| all & CLASSES[usize::from(*b)]) == class;
        let at = fours.iter().take_while(of_class).count() * 4;
        at + bytes[at..].iter().position(|b| !is(*b, class)).unwrap_or(bytes.len() - at)
    }

    /// Whether a byte is of a class.
    #[inline]
    pub(crate) fn is(byte: u8, class: u8) -> bool {
        CLASSES[usize::from(byte)] & class != 0
    }
}

/// Whether bytes are a token: not empty, `tchar` only (RFC 9110 5.6.2).
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && class::run(bytes, class::TOKEN) == bytes.len()
}

/// Whether bytes may stand in a header value: visible characters, obs-text, space and tab (RFC 9110 5.5).
pub fn is_value(bytes: &[u8]) -> bool {
    first_control(bytes, 0).is_none()
}

/// Index of the first control byte but tab from `at` on: what ends a header value, or spoils it.
#[inline]
pub(crate) fn first_control(bytes: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    loop {
        while let Some(eight) = bytes.get(at..at + 8) {
            let word = u64::from_le_bytes(eight.try_into().unwrap_or([0; 8]));
            // Sets the high bit of bytes below 0x20; a borrow can only reach bytes above a true hit, so the lowest is exact.
            let below_space = word.wrapping_sub(ONES * 0x20) & !word;
            let delete = (word ^ (ONES * 0x7f)).wrapping_sub(ONES) & !(word ^ (ONES * 0x7f));
            let hits = (below_space | delete) & HIGHS;
            if hits == 0 {
                at += 8;
                continue;
            }
            at += hits.trailing_zeros() as usize / 8;
            break;
        }
        match bytes.get(at) {
            None => return None,
            Some(b'\t') => at += 1,
            Some(byte) if byte.is_ascii_control() => return Some(at),
            Some(_) => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_found_in_any_case() {
        for known in Known::ALL {
            let lower = known.name();
            assert_eq!(Known::of(lower.as_bytes()), Some(*known));
            assert_eq!(Known::of(lower.to_ascii_uppercase().as_bytes()), Some(*known));
            assert_eq!(Known::of(format!("{lower}x").as_bytes()), None);
        }
        for other in ["", "x", "hos", "hosts", "h0st", "content_length", "content-lengt~", "content-lengt^"] {
            assert_eq!(Known::of(other.as_bytes()), None, "{other}");
        }
        assert_eq!(Name::of(b"HOST"), Name::Known(Known::Host));
        assert_eq!(Name::of(b"X-Own").text(), b"X-Own");
    }

    #[test]
    fn the_first_control_byte_is_found_at_every_distance() {
        for len in 0..40 {
            for at in 0..len {
                for byte in 0..=255u8 {
                    let mut bytes = vec![b'a'; len];
                    bytes[at] = byte;
                    let is_control = byte.is_ascii_control() && byte != b'\t';
                    assert_eq!(
                        first_control(&bytes, 0),
                        is_control.then_some(at),
                        "{byte:#x} at {at} of {len}"
                    );
                }
            }
        }
        assert_eq!(first_control(b"\t\t\t\t\t\t\t\t\t\r\x7f", 0), Some(9));
        assert_eq!(first_control(b"\r123456789\x7f", 1), Some(10));
    }

    #[test]
    fn classes_are_those_of_the_rfcs() {
        let count = |class| (0..=255u8).filter(|b| class::is(*b, class)).count();
        assert_eq!(count(class::TOKEN), 62 + 15);
        assert_eq!(count(class::TARGET), 93);
        assert_eq!(count(class::REG_NAME), 62 + 16);
        assert_eq!(count(class::HOST), 62 + 14);
        assert_eq!((class::run(b"ab:c", class::TOKEN), class::run(b"ab", class::TOKEN)), (2, 2));
        assert!(is_token(b"a-b") && !is_token(b"") && !is_token(b"a b") && !is_token(b"a\xff"));
        assert!(is_value(b"a b\t\xff") && !is_value(b"a\0") && !is_value(b"\r") && !is_value(b"\x7f"));
    }

    #[test]
    fn methods_and_codes_have_their_properties() {
        assert_eq!((Method::of(b"GET"), Method::of(b"get")), (Method::Get, Method::Other));
        assert!(
            Method::Put.is_idempotent() && !Method::Post.is_idempotent() && !Method::Other.is_idempotent()
        );
        assert_eq!(StatusCode::new(99), None);
        assert_eq!(StatusCode::new(1000), None);
        let reason = |code| StatusCode::new(code).expect("three digits").reason();
        assert_eq!(
            (reason(200), reason(299), reason(431)),
            ("OK", "Success", "Request Header Fields Too Large")
        );
        assert!(StatusCode::new(103).expect("a code").is_interim());
        assert!(!StatusCode::SWITCHING_PROTOCOLS.is_interim());
    }
}

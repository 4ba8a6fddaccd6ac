//! Fetches of HTTP messages. They read heads through [`HeadView`], so that earlier rules' changes are seen. Called by `fetch`.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::policy::balance::{HashFunction, HashMethod, HashType, hash_key};
use crate::policy::sample::eval::Cursor;
use crate::policy::sample::fetch::{Fetched, int};
use crate::policy::sample::{Auth, Facts, Kind, UserlistId, Value};
use crate::proto::cookie::{self, SetCookie};
use crate::proto::headers::{HeadView, split_values};
use crate::proto::http::{Known, Name};
use crate::proto::target;

/// Which message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The request.
    Request,
    /// The response.
    Response,
}

/// What a text is read as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadAs {
    /// Text.
    Text,
    /// An integer.
    Int,
    /// An address, with an optional port that is dropped.
    Ip,
}

/// The name of a header, looked up in the table of known names at load.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderName {
    text: Box<[u8]>,
    known: Option<Known>,
}

impl HeaderName {
    /// From its text, in any case.
    pub fn new(text: &[u8]) -> HeaderName {
        HeaderName { text: text.into(), known: Known::of(text) }
    }
    fn name(&self) -> Name<'_> {
        self.known.map_or(Name::Other(&self.text), Name::Known)
    }
}

/// A header and which of its values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderFetch {
    /// In the request or the response.
    pub side: Side,
    /// Its name; `None`: any header.
    pub name: Option<HeaderName>,
    /// Whole lines (`fhdr`) and not values between commas (`hdr`).
    pub lines: bool,
    /// From 1 at the first, from -1 at the last. `None`: all of them for conditions, the last one otherwise.
    pub occurrence: Option<i32>,
    /// What the value is read as.
    pub read: ReadAs,
}

/// Fetches of HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HttpFetch {
    /// `method`.
    Method,
    /// `path`.
    Path,
    /// `pathq`.
    PathQuery,
    /// `query`.
    Query,
    /// `url`.
    Url,
    /// `url_ip`.
    UrlIp,
    /// `url_port`.
    UrlPort,
    /// `base`, `baseq`: host and path, with the query if asked for.
    Base {
        /// Whether the query belongs to it.
        query: bool,
    },
    /// `base32`, `url32`: a hash of the same.
    Hash32 {
        /// Whether the query belongs to it.
        query: bool,
    },
    /// `url_param`, `urlp_val`: a parameter of the query, or any.
    UrlParam(Option<Box<[u8]>>, u8, ReadAs),
    /// `req.body_param`.
    BodyParam(Option<Box<[u8]>>),
    /// `hdr`, `fhdr`, `hdr_ip`, `hdr_val`.
    Header(HeaderFetch),
    /// `hdr_cnt`, `fhdr_cnt`; the occurrence does not matter.
    HeaderCount(HeaderFetch),
    /// `req.hdr_names`, with what stands between them.
    HeaderNames(Side, u8),
    /// `req.hdrs`.
    Headers(Side),
    /// `cook`, `cook_val`, `scook`, `scook_val`: a cookie, or any.
    Cookie(Side, Option<Box<[u8]>>, ReadAs),
    /// `cook_cnt`, `scook_cnt`.
    CookieCount(Side, Option<Box<[u8]>>),
    /// `req.ver`, `res.ver`.
    Version(Side),
    /// `status`.
    Status,
    /// `req.body`.
    Body,
    /// `req.body_len`.
    BodyLength,
    /// `req.body_size`.
    BodySize,
    /// `http_auth`.
    Auth(UserlistId),
    /// `http_auth_group`: the groups of the user.
    AuthGroup(UserlistId),
    /// `http_auth_bearer`, with the header it stands in.
    AuthBearer(HeaderName),
    /// `http_auth_type`.
    AuthType,
    /// `http_auth_user`.
    AuthUser,
    /// `http_auth_pass`.
    AuthPass,
    /// `http_first_req`.
    FirstRequest,
}

impl HttpFetch {
    /// The value, and whether it may change: only credentials that are being verified do.
    pub(super) fn fetch<'a, F: Facts>(
        &'a self,
        facts: &'a F,
        cursor: &mut Cursor,
        out: &mut Vec<u8>,
        message: &mut Vec<u8>,
    ) -> (Fetched<'a>, bool) {
        match self {
            HttpFetch::Auth(list) => match facts.auth(*list) {
                Auth::Pending => (Fetched::Missing, true),
                Auth::Denied => (Fetched::Value(Value::Bool(false)), false),
                Auth::User { .. } => (Fetched::Value(Value::Bool(true)), false),
            },
            HttpFetch::AuthGroup(list) => match facts.auth(*list) {
                Auth::Pending => (Fetched::Missing, true),
                Auth::Denied => (Fetched::Missing, false),
                Auth::User { groups } => {
                    (pick(groups.iter().map(|g| g.as_bytes()), cursor).map(Value::Str).into(), false)
                }
            },
            HttpFetch::FirstRequest => (facts.is_first_request().map(Value::Bool).into(), false),
            HttpFetch::Body => (Fetched::Value(Value::Bin(facts.body())), false),
            HttpFetch::BodyLength => (Fetched::Value(Value::Int(int(facts.body().len()))), false),
            HttpFetch::BodyParam(name) => {
                let found = pick(parameters(facts.body(), name.as_deref()), cursor);
                (found.map(Value::Str).into(), false)
            }
            _ => match self.head(facts) {
                Some(head) => (self.of_head(head, facts.body(), cursor, out, message), false),
                None => (Fetched::Missing, false),
            },
        }
    }

    /// The head that it reads.
    fn head<'a, F: Facts>(&self, facts: &'a F) -> Option<HeadView<'a>> {
        let side = match self {
            HttpFetch::Header(h) | HttpFetch::HeaderCount(h) => h.side,
            HttpFetch::HeaderNames(side, _)
            | HttpFetch::Headers(side)
            | HttpFetch::Cookie(side, ..)
            | HttpFetch::CookieCount(side, _)
            | HttpFetch::Version(side) => *side,
            HttpFetch::Status => Side::Response,
            _ => Side::Request,
        };
        match side {
            Side::Request => facts.request(),
            Side::Response => facts.response(),
        }
    }

    fn of_head<'a>(
        &'a self,
        head: HeadView<'a>,
        body: &[u8],
        cursor: &mut Cursor,
        out: &mut Vec<u8>,
        message: &mut Vec<u8>,
    ) -> Fetched<'a> {
        let text = |bytes: &'a [u8]| Fetched::Value(Value::Str(bytes));
        match self {
            HttpFetch::Method => text(head.method_text()),
            HttpFetch::Path => text(head.path()),
            HttpFetch::PathQuery => text(&head.target()[target::split_path(head.target()).0.len()..]),
            HttpFetch::Query => target::query_of(head.target()).map(Value::Str).into(),
            HttpFetch::Url => text(head.target()),
            HttpFetch::UrlIp => authority(&head).and_then(|(host, _)| parse_ip(host)).map(Value::Ip).into(),
            HttpFetch::UrlPort => authority(&head).map(|(_, port)| Value::Int(i64::from(port))).into(),
            HttpFetch::Base { query } => {
                write_base(&head, *query, out);
                Fetched::Written(Kind::Str)
            }
            HttpFetch::Hash32 { query } => {
                write_base(&head, *query, message);
                let hash_type =
                    HashType { method: HashMethod::MapBased, function: HashFunction::Sdbm, avalanche: true };
                Fetched::Value(Value::Int(hash_key(message, hash_type).cast_signed()))
            }
            HttpFetch::UrlParam(name, delimiter, read) => {
                let start = memchr::memchr(*delimiter, head.target()).map(|at| at + 1);
                let query = start.map_or(&b""[..], |at| &head.target()[at..]);
                read_as(pick(parameters(query, name.as_deref()), cursor), *read)
            }
            HttpFetch::Header(header) => header.fetch(head, cursor),
            HttpFetch::HeaderCount(header) => Fetched::Value(Value::Int(int(header.count(head)))),
            HttpFetch::HeaderNames(_, delimiter) => {
                for (at, (name, _)) in head.fields().enumerate() {
                    if at > 0 {
                        out.push(*delimiter);
                    }
                    out.extend(name.iter().map(u8::to_ascii_lowercase));
                }
                Fetched::Written(Kind::Str)
            }
            HttpFetch::Headers(_) => {
                for (name, value) in head.fields() {
                    [name, b": ", value, b"\r\n"].iter().for_each(|part| out.extend_from_slice(part));
                }
                out.extend_from_slice(b"\r\n");
                Fetched::Written(Kind::Str)
            }
            HttpFetch::Cookie(side, name, read) => {
                let found = match side {
                    Side::Request => pick_named(request_cookies(head), name.as_deref(), cursor),
                    Side::Response => pick_named(response_cookies(head), name.as_deref(), cursor),
                };
                read_as(found, *read)
            }
            HttpFetch::CookieCount(side, name) => {
                let named = |(n, _): &(&[u8], &[u8])| name.as_deref().is_none_or(|name| name == *n);
                let count = match side {
                    Side::Request => request_cookies(head).filter(named).count(),
                    Side::Response => response_cookies(head).filter(named).count(),
                };
                Fetched::Value(Value::Int(int(count)))
            }
            HttpFetch::Version(_) => text(head.version().number().as_bytes()),
            HttpFetch::Status => head.status().map(|s| Value::Int(i64::from(s.code()))).into(),
            HttpFetch::BodySize => {
                let announced = head.line(Known::ContentLength).and_then(|v| Value::Str(v).as_int());
                Fetched::Value(Value::Int(announced.unwrap_or(int(body.len()))))
            }
            HttpFetch::AuthType => {
                head.line(Known::Authorization).map(|v| Value::Str(split_word(v).0)).into()
            }
            HttpFetch::AuthBearer(header) => bearer(&head, header).map(Value::Str).into(),
            HttpFetch::AuthUser | HttpFetch::AuthPass => {
                let wants_user = *self == HttpFetch::AuthUser;
                match credentials(&head, message) {
                    Some((user, pass)) => {
                        out.extend_from_slice(if wants_user { user } else { pass });
                        Fetched::Written(Kind::Str)
                    }
                    None => Fetched::Missing,
                }
            }
            // Those above in `fetch`.
            _ => Fetched::Missing,
        }
    }
}

impl HeaderFetch {
    fn fetch<'a>(&'a self, head: HeadView<'a>, cursor: &mut Cursor) -> Fetched<'a> {
        let found = match (&self.name, self.lines) {
            (Some(name), true) => self.pick(head.lines(name.name()), cursor),
            (Some(name), false) => self.pick(head.values(name.name()), cursor),
            (None, true) => self.pick(head.fields().map(|(_, value)| value), cursor),
            (None, false) => self.pick(head.fields().flat_map(|(_, value)| split_values(value)), cursor),
        };
        read_as(found, self.read)
    }

    fn count(&self, head: HeadView<'_>) -> usize {
        match (&self.name, self.lines) {
            (Some(name), true) => head.line_count(name.name()),
            (Some(name), false) => head.value_count(name.name()),
            (None, true) => head.fields().count(),
            (None, false) => head.fields().flat_map(|(_, value)| split_values(value)).count(),
        }
    }

    fn pick<'a>(&self, mut values: impl Iterator<Item = &'a [u8]>, cursor: &mut Cursor) -> Option<&'a [u8]> {
        match self.occurrence {
            None if cursor.each => pick(values, cursor),
            None | Some(0 | -1) => values.last(),
            Some(n @ 1..) => values.nth(usize::try_from(n).ok()?.checked_sub(1)?),
            Some(n) => {
                // A ring of the last values, so that one walk finds the one that stands so far from the end.
                let back = usize::try_from(n.unsigned_abs()).ok()?;
                let mut ring = [None; HEADER_OCCURRENCES_BACK_MAX];
                let mut count = 0;
                for value in values {
                    ring[count % HEADER_OCCURRENCES_BACK_MAX] = Some(value);
                    count += 1;
                }
                let at = count.checked_sub(back).filter(|_| back <= HEADER_OCCURRENCES_BACK_MAX)?;
                ring[at % HEADER_OCCURRENCES_BACK_MAX]
            }
        }
    }
}

/// How far `hdr(name,-N)` reaches back; HAProxy's limit (MAX_HDR_HISTORY) is ten too.
pub const HEADER_OCCURRENCES_BACK_MAX: usize = 10;

/// The value at the cursor for conditions; the first one otherwise.
fn pick<T>(values: impl Iterator<Item = T>, cursor: &mut Cursor) -> Option<T> {
    let mut values = values.skip(cursor.at);
    let value = values.next();
    cursor.at += 1;
    cursor.more = cursor.each && values.next().is_some();
    value
}

/// As [`pick`] among values of a name; without a cursor it is the last one of a name, or the first of any.
fn pick_named<'a>(
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    name: Option<&[u8]>,
    cursor: &mut Cursor,
) -> Option<&'a [u8]> {
    let mut values = pairs.filter(|(n, _)| name.is_none_or(|name| name == *n)).map(|(_, value)| value);
    match (cursor.each, name) {
        (true, _) => pick(values, cursor),
        (false, Some(_)) => values.last(),
        (false, None) => values.next(),
    }
}

fn read_as<'a>(text: Option<&'a [u8]>, read: ReadAs) -> Fetched<'a> {
    let value = text.map(Value::Str);
    match read {
        ReadAs::Text => value.into(),
        // What is there and empty is 0.
        ReadAs::Int => value.map(|v| Value::Int(v.as_int().unwrap_or(0))).into(),
        ReadAs::Ip => text.and_then(parse_ip).map(Value::Ip).into(),
    }
}

/// An address as RFC 7239 writes it: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`, in quotes or not.
fn parse_ip(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip()))
}

/// Values of parameters `name=value` between `&` and `;`.
fn parameters<'a>(query: &'a [u8], name: Option<&[u8]>) -> impl Iterator<Item = &'a [u8]> {
    query.split(|b| matches!(b, b'&' | b';')).filter_map(move |pair| {
        let equals = memchr::memchr(b'=', pair)?;
        let (key, value) = pair.split_at(equals);
        name.is_none_or(|name| name == key).then_some(&value[1..])
    })
}

/// What has no `=` is no cookie.
fn request_cookies<'a>(head: HeadView<'a>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let pairs = head.lines(Known::Cookie).flat_map(cookie::pairs);
    pairs.filter(|pair| pair.is_whole).map(|pair| (pair.name, pair.value))
}

fn response_cookies<'a>(head: HeadView<'a>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    head.lines(Known::SetCookie).filter_map(SetCookie::parse).map(|cookie| (cookie.name, cookie.value))
}

/// Host header and path, with the query if asked for.
fn write_base(head: &HeadView<'_>, query: bool, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(head.line(Known::Host).unwrap_or_default());
    let (_, path, rest) = target::split_path(head.target());
    out.extend_from_slice(path);
    if query {
        out.extend_from_slice(rest);
    }
}

/// Host and port of an absolute target; the port is that of the scheme when it is not written.
fn authority<'a>(head: &HeadView<'a>) -> Option<(&'a [u8], u16)> {
    match target::Target::parse(head.target(), false).ok()? {
        target::Target::Absolute { scheme, authority, .. } => {
            let port = authority.port.or_else(|| target::default_port(scheme))?;
            Some((authority.host, port))
        }
        _ => None,
    }
}

/// The first word and what follows the space after it.
fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b' ', text).unwrap_or(text.len());
    (&text[..end], text[end..].trim_ascii())
}

/// Other headers than Authorization may hold the token alone.
fn bearer<'a>(head: &HeadView<'a>, header: &HeaderName) -> Option<&'a [u8]> {
    let value = head.line(header.name())?;
    let (scheme, token) = split_word(value);
    match scheme.eq_ignore_ascii_case(b"bearer") {
        true => Some(token),
        false if header.known == Some(Known::Authorization) => None,
        false => Some(value),
    }
}

/// User and password of Basic authentication (RFC 7617), decoded into scratch memory.
pub fn credentials<'m>(head: &HeadView<'_>, message: &'m mut Vec<u8>) -> Option<(&'m [u8], &'m [u8])> {
    let (scheme, encoded) = split_word(head.line(Known::Authorization)?);
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    message.clear();
    STANDARD.decode_vec(encoded, message).ok()?;
    let colon = memchr::memchr(b':', message)?;
    Some((&message[..colon], &message[colon + 1..]))
}

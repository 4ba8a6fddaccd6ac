//! From the fields of an HTTP/2 message to a [`Head`]: the one place where HTTP/2 becomes what rules read and servers of
//! HTTP/1 get. RFC 9113 section 8.
//!
//! The message is written as HTTP/1 text, with a head that points into it, so that everything behind it is the same for
//! both versions; nothing is parsed. Whatever could make another message of that text is refused here, field by field,
//! whoever decoded it: this layer trusts no HPACK decoder.

#[cfg(test)]
mod tests;

use crate::base::limits::{HEADER_NAME_BYTES_MAX, METHOD_BYTES_MAX};
use crate::proto::h2::hpack::{Fields, Iter};
use crate::proto::h2::reason::Malformed;
use crate::proto::headers::{Head, HeadLimits, Stage, Text};
use crate::proto::http::{Known, Method, StatusCode, Version, class, is_value};
use crate::proto::target::Authority;

/// The pseudo-header fields of a request (RFC 9113 8.3.1, RFC 8441 4), as they were received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pseudo<'a> {
    /// `:method`
    pub method: &'a [u8],
    /// `:scheme`
    pub scheme: Option<&'a [u8]>,
    /// `:authority`
    pub authority: Option<&'a [u8]>,
    /// `:path`
    pub path: Option<&'a [u8]>,
    /// `:protocol`, of an extended CONNECT.
    pub protocol: Option<&'a [u8]>,
}

type Result<T> = std::result::Result<T, Malformed>;

impl<'a> Pseudo<'a> {
    /// Takes the pseudo-header fields at the front of a list: each at most once, and only those that a request has (RFC 9113
    /// 8.3). One behind other fields is refused with the rest of them.
    pub fn take(fields: &mut Iter<'a>) -> Result<Pseudo<'a>> {
        let (mut pseudo, mut method) = (Pseudo::default(), None);
        loop {
            let ahead = fields.clone();
            let Some((name, value)) = fields.next().filter(|(name, _)| name.starts_with(b":")) else {
                *fields = ahead;
                break;
            };
            let slot = match name {
                b":method" => &mut method,
                b":scheme" => &mut pseudo.scheme,
                b":authority" => &mut pseudo.authority,
                b":path" => &mut pseudo.path,
                b":protocol" => &mut pseudo.protocol,
                _ => return Err(Malformed::Pseudo),
            };
            if slot.replace(value).is_some() {
                return Err(Malformed::Pseudo);
            }
        }
        pseudo.method = method.ok_or(Malformed::Method)?;
        Ok(pseudo)
    }
}

/// Writes a request as it was decoded; see [`request`].
pub fn decoded(
    fields: &Fields,
    limits: &HeadLimits,
    websocket_key: &[u8; WEBSOCKET_KEY_BYTES],
    out: &mut Vec<u8>,
    head: &mut Head,
) -> Result<()> {
    if fields.is_cut() {
        return Err(Malformed::TooLarge);
    }
    let mut rest = fields.iter();
    let pseudo = Pseudo::take(&mut rest)?;
    request(&pseudo, || rest.clone(), limits, websocket_key, out, head)
}

/// Headers that are about one connection of HTTP/1 (RFC 9113 8.2.2).
const HOP_BY_HOP: u128 = Known::Connection.bit()
    | Known::KeepAlive.bit()
    | Known::ProxyConnection.bit()
    | Known::TransferEncoding.bit()
    | Known::Upgrade.bit();

/// Fields that a trailer section must not have: they frame, route or change how the message is read (RFC 9110 6.5.1).
const NOT_IN_TRAILERS: u128 = HOP_BY_HOP
    | Known::ContentLength.bit()
    | Known::Host.bit()
    | Known::Te.bit()
    | Known::Trailer.bit()
    | Known::Authorization.bit()
    | Known::ContentEncoding.bit()
    | Known::ContentRange.bit()
    | Known::ContentType.bit()
    | Known::Cookie.bit()
    | Known::SetCookie.bit()
    | Known::Expect.bit();

/// Bytes of the key that an HTTP/1 handshake of WebSocket needs and an extended CONNECT does not have: 16 bytes in base64.
pub const WEBSOCKET_KEY_BYTES: usize = 24;

/// Writes a request as text to `out`, which is empty, and describes it in `head`. `fields` are its regular fields in order.
///
/// An extended CONNECT for a WebSocket becomes the handshake of HTTP/1 (RFC 8441 5), with `websocket_key` as its key.
pub fn request<'a, I: Iterator<Item = (&'a [u8], &'a [u8])>>(
    pseudo: &Pseudo<'_>,
    fields: impl Fn() -> I,
    limits: &HeadLimits,
    websocket_key: &[u8; WEBSOCKET_KEY_BYTES],
    out: &mut Vec<u8>,
    head: &mut Head,
) -> Result<()> {
    debug_assert!(out.is_empty());
    head.clear();
    let is_websocket = match pseudo.protocol {
        None => false,
        Some(protocol) => check_extended_connect(pseudo, protocol)?,
    };
    check_method(pseudo.method)?;
    let is_connect = pseudo.method == b"CONNECT" && !is_websocket;
    let target = target(pseudo, is_connect, limits)?;
    let mut writer = Writer { limits, out, head };
    writer.start_line(if is_websocket { b"GET" } else { pseudo.method }, target);
    // An empty authority says nothing; Host may.
    let authority = pseudo.authority.filter(|authority| !authority.is_empty());
    if let Some(authority) = authority {
        if Authority::parse(authority).is_none() {
            return Err(Malformed::Authority);
        }
        writer.line(b"host", Some(Known::Host), authority)?;
    }
    let mut cookies = 0;
    for (name, value) in fields() {
        let known = check_field(name, value)?;
        match known {
            Some(Known::Host) => {
                if let Some(authority) = authority {
                    // A recipient that reads the other one would see another request (RFC 9113 8.3.1).
                    if !authority.eq_ignore_ascii_case(value) {
                        return Err(Malformed::AuthorityDiffers);
                    }
                    continue;
                }
            }
            Some(Known::Cookie) => {
                cookies += 1;
                continue;
            }
            Some(Known::Te) if !value.eq_ignore_ascii_case(b"trailers") => return Err(Malformed::HopByHop),
            // The version of the handshake and its key are said below, once.
            Some(Known::SecWebsocketKey) if is_websocket => continue,
            _ => {}
        }
        writer.line(name, known, value)?;
    }
    if cookies > 0 {
        writer.cookies(fields())?;
    }
    if is_websocket {
        writer.line(b"connection", Some(Known::Connection), b"upgrade")?;
        writer.line(b"upgrade", Some(Known::Upgrade), b"websocket")?;
        writer.line(b"sec-websocket-key", Some(Known::SecWebsocketKey), websocket_key)?;
    }
    writer.finish(Version::Http2)
}

/// Writes a response as text to `out`, which is empty, and describes it in `head`.
pub fn response<'a>(
    status: u16,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    limits: &HeadLimits,
    out: &mut Vec<u8>,
    head: &mut Head,
) -> Result<()> {
    debug_assert!(out.is_empty());
    head.clear();
    // There is no 101 in HTTP/2 (RFC 9113 8.6).
    let status = StatusCode::new(status).filter(|status| *status != StatusCode::SWITCHING_PROTOCOLS);
    let status = status.ok_or(Malformed::Status)?;
    let mut writer = Writer { limits, out, head };
    writer.status_line(status);
    for (name, value) in fields {
        let known = check_field(name, value)?;
        writer.line(name, known, value)?;
    }
    writer.finish(Version::Http2)
}

/// Writes the lines of a trailer section, without the empty line behind them.
pub fn trailers<'a>(
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    limits: &HeadLimits,
    out: &mut Vec<u8>,
) -> Result<()> {
    let start = out.len();
    for (index, (name, value)) in fields.enumerate() {
        let known = check_field(name, value)?;
        if known.is_some_and(|known| NOT_IN_TRAILERS & known.bit() != 0) {
            return Err(Malformed::Trailer);
        }
        if index >= limits.headers_max {
            return Err(Malformed::TooMany);
        }
        write_line(name, value, out);
        if out.len() - start > limits.head_bytes_max {
            return Err(Malformed::TooLarge);
        }
    }
    Ok(())
}

/// The `:path` of a target as HTTP/1 has it; `None` where HTTP/2 says it in another way, or not at all.
pub fn path_of(target: &[u8]) -> Option<&[u8]> {
    match target {
        [b'/', ..] | b"*" => Some(target),
        _ => {
            // An absolute URI: its scheme and authority are said in fields of their own.
            let at = memchr::memmem::find(target, b"://")? + 3;
            let end = memchr::memchr2(b'/', b'?', &target[at..]);
            match end.map(|end| &target[at + end..]) {
                None => Some(b"/"),
                Some(path) if path.starts_with(b"/") => Some(path),
                Some(_) => None,
            }
        }
    }
}

/// Whether a field of a trailer section of HTTP/1 may go on in HTTP/2.
pub fn may_trail(name: &[u8]) -> bool {
    Known::of(name).is_none_or(|known| NOT_IN_TRAILERS & known.bit() == 0)
}

/// RFC 8441 4: CONNECT with a protocol has a scheme and a path. True for WebSocket, the only one that is known.
fn check_extended_connect(pseudo: &Pseudo<'_>, protocol: &[u8]) -> Result<bool> {
    if pseudo.method != b"CONNECT" || pseudo.scheme.is_none() || pseudo.path.is_none() {
        return Err(Malformed::Connect);
    }
    if protocol.eq_ignore_ascii_case(b"websocket") { Ok(true) } else { Err(Malformed::Protocol) }
}

fn check_method(method: &[u8]) -> Result<()> {
    let is_good = !method.is_empty()
        && method.len() <= METHOD_BYTES_MAX
        && class::run(method, class::TOKEN) == method.len();
    if is_good { Ok(()) } else { Err(Malformed::Method) }
}

/// The target in the form that HTTP/1 has for it.
fn target<'a>(pseudo: &Pseudo<'a>, is_connect: bool, limits: &HeadLimits) -> Result<&'a [u8]> {
    if is_connect {
        // RFC 9113 8.5: an authority, no scheme, no path.
        return match (pseudo.authority, pseudo.scheme, pseudo.path) {
            (Some(authority), None, None) if !authority.is_empty() => Ok(authority),
            _ => Err(Malformed::Connect),
        };
    }
    let scheme = pseudo.scheme.ok_or(Malformed::Scheme)?;
    if scheme.is_empty()
        || !scheme.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    {
        return Err(Malformed::Scheme);
    }
    let path = pseudo.path.ok_or(Malformed::Path)?;
    let is_good = match path.first() {
        Some(b'/') => class::run(path, class::TARGET) == path.len(),
        _ => path == b"*" && pseudo.method == b"OPTIONS",
    };
    if !is_good {
        return Err(Malformed::Path);
    }
    if path.len() > limits.target_bytes_max {
        return Err(Malformed::PathTooLong);
    }
    Ok(path)
}

/// RFC 9113 8.2.1 and 8.2.2: what a field may be made of, and which there are not.
#[inline]
fn check_field(name: &[u8], value: &[u8]) -> Result<Option<Known>> {
    if name.is_empty() || class::run(name, class::TOKEN) != name.len() {
        return Err(Malformed::Name);
    }
    if name.len() > HEADER_NAME_BYTES_MAX {
        return Err(Malformed::TooLarge);
    }
    if name.iter().any(u8::is_ascii_uppercase) {
        return Err(Malformed::Uppercase);
    }
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if !is_value(value) || is_space(value.first()) || is_space(value.last()) {
        return Err(Malformed::Value);
    }
    let known = Known::of(name);
    if known.is_some_and(|known| HOP_BY_HOP & known.bit() != 0) {
        return Err(Malformed::HopByHop);
    }
    Ok(known)
}

fn write_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Text and head of one message.
struct Writer<'w> {
    limits: &'w HeadLimits,
    out: &'w mut Vec<u8>,
    head: &'w mut Head,
}

impl Writer<'_> {
    fn start_line(&mut self, method: &[u8], target: &[u8]) {
        self.out.extend_from_slice(method);
        self.out.push(b' ');
        let target_at = self.out.len();
        self.out.extend_from_slice(target);
        self.head.method = Method::of(method);
        self.head.method_text = Text::of_input(0, method.len());
        self.head.target = Text::of_input(target_at, self.out.len());
        self.out.extend_from_slice(b" HTTP/1.1\r\n");
        self.head.fields_at = self.out.len();
    }

    fn status_line(&mut self, status: StatusCode) {
        self.out.extend_from_slice(b"HTTP/1.1 ");
        let code = status.code();
        let digits = [code / 100, code / 10 % 10, code % 10];
        self.out.extend(digits.map(|digit| b'0' + u8::try_from(digit).unwrap_or(0)));
        self.out.push(b' ');
        let reason_at = self.out.len();
        self.out.extend_from_slice(status.reason().as_bytes());
        self.head.status = status.code();
        self.head.reason = Text::of_input(reason_at, self.out.len());
        self.out.extend_from_slice(b"\r\n");
        self.head.fields_at = self.out.len();
    }

    /// One line, whose name and value are checked.
    #[inline]
    fn line(&mut self, name: &[u8], known: Option<Known>, value: &[u8]) -> Result<()> {
        self.room(name.len() + value.len() + 4)?;
        let name_at = self.out.len();
        write_line(name, value, self.out);
        let end = self.out.len() - 2;
        let value_at = end - value.len();
        let name = Text::of_input(name_at, name_at + name.len());
        self.head.push_received(name, Text::of_input(value_at, end), known);
        Ok(())
    }

    fn room(&self, bytes: usize) -> Result<()> {
        if self.head.received_lines() >= self.limits.headers_max {
            return Err(Malformed::TooMany);
        }
        // The empty line is part of the head.
        if self.out.len() + bytes + 2 > self.limits.head_bytes_max {
            return Err(Malformed::TooLarge);
        }
        Ok(())
    }

    /// One line of all crumbs of cookies (RFC 9113 8.2.3).
    fn cookies<'a>(&mut self, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()> {
        self.room(b"cookie: ".len())?;
        let name_at = self.out.len();
        self.out.extend_from_slice(b"cookie: ");
        let value_at = self.out.len();
        for (name, crumb) in fields {
            if name != b"cookie" || crumb.is_empty() {
                continue;
            }
            if self.out.len() > value_at {
                self.out.extend_from_slice(b"; ");
            }
            self.out.extend_from_slice(crumb);
            if self.out.len() > self.limits.head_bytes_max {
                return Err(Malformed::TooLarge);
            }
        }
        let (name, value) =
            (Text::of_input(name_at, name_at + b"cookie".len()), Text::of_input(value_at, self.out.len()));
        self.head.push_received(name, value, Some(Known::Cookie));
        self.out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn finish(self, version: Version) -> Result<()> {
        if self.out.len() + 2 > self.limits.head_bytes_max {
            return Err(Malformed::TooLarge);
        }
        self.out.extend_from_slice(b"\r\n");
        self.head.version = version;
        self.head.parsed = self.out.len();
        self.head.stage = Stage::Done;
        Ok(())
    }
}

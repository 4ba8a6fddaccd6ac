//! The first message of an RDP client: an X.224 connection request, with a cookie that names the user or the server.
//!
//! Reads `Cookie: NAME=VALUE` for `rdp_cookie` and for persistence; the rest of RDP is not looked at. Called by
//! `proxy::tcp` while it waits for the first bytes. MS-RDPBCGR 2.2.1.1, RFC 1006, HAProxy's `req.rdp_cookie`.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::proto::Parsed;

/// Bytes of the TPKT header.
const TPKT_BYTES: usize = 4;
/// Bytes of TPKT and X.224 before the variable part.
const FIXED_BYTES: usize = 11;

/// A connection request.
///
/// ```
/// use shardgate::proto::{Parsed, rdp};
/// let bytes = b"\x03\x00\x00\x22\x1d\xe0\x00\x00\x00\x00\x00Cookie: mstshash=alice\r\n";
/// # let bytes = &{ let mut b = bytes.to_vec(); b[3] = b.len() as u8; b[4] = b[3] - 5; b };
/// let Ok(Parsed::Complete { value, .. }) = rdp::parse(bytes) else { panic!() };
/// assert_eq!(value.cookie(Some("mstshash")), Some(&b"alice"[..]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionRequest<'a> {
    /// The cookie, if the client sent one.
    pub cookie: Option<RdpCookie<'a>>,
}

/// A cookie of a connection request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RdpCookie<'a> {
    /// Its name: `mstshash` (a user) or `msts` (a server).
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> ConnectionRequest<'a> {
    /// `req.rdp_cookie(name)`: the value of the cookie of that name, or of any when `name` is `None`. Names are compared
    /// without case.
    pub fn cookie(&self, name: Option<&str>) -> Option<&'a [u8]> {
        let cookie = self.cookie.as_ref()?;
        let is_wanted = name.is_none_or(|name| cookie.name.eq_ignore_ascii_case(name.as_bytes()));
        is_wanted.then_some(cookie.value)
    }
    /// The server that a session broker put into an `msts` cookie, for `persist rdp-cookie`.
    pub fn routing_address(&self) -> Option<SocketAddrV4> {
        self.cookie(Some("msts")).and_then(routing_address)
    }
}

/// Reads the value of an `msts` cookie, `ADDRESS.PORT.0000`: decimal numbers of the bytes in network order read as
/// little-endian integers. `3640205228.15629.0000` is 172.31.249.216:3389.
pub fn routing_address(value: &[u8]) -> Option<SocketAddrV4> {
    let text = std::str::from_utf8(value).ok()?;
    let mut fields = text.split('.');
    let mut number = || {
        let digits = fields.next()?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u32>().ok())?
    };
    let (address, port) = (number()?, u16::try_from(number()?).ok()?);
    number()?;
    if fields.next().is_some() {
        return None;
    }
    Some(SocketAddrV4::new(Ipv4Addr::from(address.to_le_bytes()), port.swap_bytes()))
}

/// Why bytes are not an RDP connection request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RdpError {
    /// Not version 3 of TPKT, or its reserved byte is set.
    Tpkt {
        /// Index of the byte.
        at: usize,
    },
    /// The lengths of TPKT and X.224 do not fit each other.
    Length {
        /// Bytes that TPKT announces.
        tpkt: usize,
        /// Bytes that X.224 announces.
        x224: usize,
    },
    /// Not an X.224 connection request.
    NotConnectionRequest {
        /// The code of the message.
        code: u8,
    },
    /// `Cookie:` without `NAME=VALUE` and CRLF.
    Cookie,
}

impl RdpError {
    /// Stable name for counters and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            RdpError::Tpkt { .. } => "tpkt",
            RdpError::Length { .. } => "length",
            RdpError::NotConnectionRequest { .. } => "not-connection-request",
            RdpError::Cookie => "cookie",
        }
    }
}

impl fmt::Display for RdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            RdpError::Tpkt { at } => write!(f, "not RDP: byte {at} is not that of a TPKT header"),
            RdpError::Length { tpkt, x224 } => write!(f, "RDP: TPKT length {tpkt} with X.224 length {x224}"),
            RdpError::NotConnectionRequest { code } => {
                write!(f, "RDP: X.224 message 0x{code:02x} where a connection request is due")
            }
            RdpError::Cookie => f.write_str("RDP: cookie without NAME=VALUE and CRLF"),
        }
    }
}

impl std::error::Error for RdpError {}

/// Parses the connection request at the front of `input`, which holds everything received so far. At most 259 bytes are
/// needed for a decision: X.224 has a one-byte length.
pub fn parse(input: &[u8]) -> Result<Parsed<ConnectionRequest<'_>>, RdpError> {
    for (at, right) in [3, 0].into_iter().enumerate() {
        match input.get(at) {
            None => return Ok(Parsed::Partial),
            Some(&byte) if byte != right => return Err(RdpError::Tpkt { at }),
            Some(_) => {}
        }
    }
    let Some(length) = input.get(2..TPKT_BYTES) else { return Ok(Parsed::Partial) };
    let tpkt = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let Some(&x224) = input.get(TPKT_BYTES) else { return Ok(Parsed::Partial) };
    let x224 = usize::from(x224);
    // The X.224 length counts what follows its own byte and 255 is reserved; nothing else is in this packet.
    if x224 == 255 || x224 + TPKT_BYTES + 1 != tpkt || tpkt < FIXED_BYTES {
        return Err(RdpError::Length { tpkt, x224 });
    }
    match input.get(5) {
        None => return Ok(Parsed::Partial),
        // The low bits are the credit, which is zero in class 0.
        Some(code) if code & 0xf0 != 0xe0 => return Err(RdpError::NotConnectionRequest { code: *code }),
        Some(_) => {}
    }
    let Some(message) = input.get(..tpkt) else { return Ok(Parsed::Partial) };
    let cookie = parse_cookie(&message[FIXED_BYTES..])?;
    Ok(Parsed::Complete { value: ConnectionRequest { cookie }, len: tpkt })
}

/// The cookie at the front of the variable part. A routing token of another kind is left alone.
fn parse_cookie(variable: &[u8]) -> Result<Option<RdpCookie<'_>>, RdpError> {
    let Some((label, rest)) = variable.split_at_checked(7) else { return Ok(None) };
    if !label.eq_ignore_ascii_case(b"Cookie:") {
        return Ok(None);
    }
    let end = rest.windows(2).position(|two| two == b"\r\n").ok_or(RdpError::Cookie)?;
    let line = rest[..end].trim_ascii_start();
    let equals = memchr::memchr(b'=', line).ok_or(RdpError::Cookie)?;
    let (name, value) = (&line[..equals], &line[equals + 1..]);
    if name.is_empty() || line.iter().any(|b| b.is_ascii_control()) {
        return Err(RdpError::Cookie);
    }
    Ok(Some(RdpCookie { name, value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(variable: &[u8]) -> Vec<u8> {
        let len = u8::try_from(FIXED_BYTES + variable.len()).expect("short");
        let mut bytes = vec![3, 0, 0, len, len - 5, 0xe0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(variable);
        bytes
    }

    #[test]
    fn the_cookie_of_a_request_is_found_by_name() {
        let bytes = request(b"Cookie: mstshash=DOMAIN\\bob\r\n\x01\x00\x08\x00\x03\x00\x00\x00");
        let (value, len) = parse(&bytes).unwrap().complete().unwrap();
        assert_eq!(len, bytes.len());
        assert_eq!(value.cookie(Some("MSTSHASH")), Some(&b"DOMAIN\\bob"[..]));
        assert_eq!(value.cookie(None), Some(&b"DOMAIN\\bob"[..]));
        assert_eq!(value.cookie(Some("msts")), None);
        assert_eq!(value.routing_address(), None);
    }

    #[test]
    fn any_cut_is_partial() {
        let bytes = request(b"Cookie: mstshash=bob\r\n");
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Ok(Parsed::Partial), "cut at {cut}");
        }
        let mut more = bytes.clone();
        more.extend_from_slice(b"more");
        assert_eq!(parse(&more).unwrap().complete().unwrap().1, bytes.len());
    }

    #[test]
    fn a_request_without_cookie_is_complete() {
        for variable in [&b""[..], b"\x01\x00\x08\x00\x03\x00\x00\x00", b"tsv://MS Terminal\r\n"] {
            let bytes = request(variable);
            assert_eq!(parse(&bytes).unwrap().complete().unwrap().0.cookie, None);
        }
    }

    #[test]
    fn msts_cookies_name_a_server() {
        let cases: &[(&[u8], Option<&str>)] = &[
            (b"3640205228.15629.0000", Some("172.31.249.216:3389")),
            (b"16777343.47873.0000", Some("127.0.0.1:443")),
            (b"3640205228.15629", None),
            (b"3640205228.15629.0000.1", None),
            (b"99999999999.15629.0000", None),
            (b"1.70000.0000", None),
            (b"+1.2.0", None),
            (b"1..0", None),
            (b"", None),
            (b"\xff.1.0", None),
        ];
        for (value, expected) in cases {
            assert_eq!(routing_address(value).map(|a| a.to_string()).as_deref(), *expected, "{value:?}");
        }
    }

    #[test]
    fn what_is_not_a_request_is_refused_early() {
        let cases: &[(&[u8], RdpError)] = &[
            (b"G", RdpError::Tpkt { at: 0 }),
            (b"\x03\x01", RdpError::Tpkt { at: 1 }),
            (b"\x03\x00\x00\x0a\x05", RdpError::Length { tpkt: 10, x224: 5 }),
            (b"\x03\x00\x00\x20\x10", RdpError::Length { tpkt: 32, x224: 16 }),
            (b"\x03\x00\x01\x04\xff", RdpError::Length { tpkt: 260, x224: 255 }),
            (b"\x03\x00\x00\x0b\x06\xd0", RdpError::NotConnectionRequest { code: 0xd0 }),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parse(bytes), Err(*expected), "{bytes:?}");
        }
        for variable in
            [&b"Cookie: mstshash=x"[..], b"Cookie: nothing\r\n", b"Cookie: =x\r\n", b"Cookie: a=\0\r\n"]
        {
            assert_eq!(parse(&request(variable)), Err(RdpError::Cookie), "{variable:?}");
        }
    }
}

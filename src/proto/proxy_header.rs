//! The PROXY protocol header, versions 1 and 2: who the client of the previous proxy was.
//!
//! Reads and writes the header; whether a peer may send one, and which address is then used, is decided by the caller
//! (`proxy::session` for received headers, `proxy::dispatch` for sent ones). Source: HAProxy's proxy-protocol.txt.

mod encode;
#[cfg(test)]
mod tests;
mod tlv;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::base::limits::{PROXY_HEADER_BYTES_MAX, PROXY_V1_BYTES_MAX};
use crate::base::net::Addr;
use crate::proto::Parsed;

pub use encode::{OutOfSpace, V2_BYTES_MIN, V2Fields, V2Ssl, encode_v1, encode_v2, encode_v2_local};
pub use tlv::{SslTlv, Tlv, Tlvs, kind};

/// First bytes of a version 2 header (section 2.2). No other protocol starts like this.
pub const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// First bytes of a version 1 header (section 2.1).
pub const V1_SIGNATURE: &[u8; 6] = b"PROXY ";

/// Bytes of a version 2 header before the addresses.
const V2_FIXED_BYTES: usize = 16;

/// A received header.
///
/// ```
/// use shardgate::proto::{Parsed, proxy_header};
/// let bytes = b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 443\r\nGET /";
/// let Ok(Parsed::Complete { value, len }) = proxy_header::parse(bytes) else { panic!() };
/// assert_eq!(value.source.to_string(), "192.0.2.1:4000");
/// assert_eq!(&bytes[len..], b"GET /");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProxyHeader<'a> {
    /// Its version.
    pub version: Version,
    /// Whether it speaks for a client.
    pub command: Command,
    /// The client. [`Addr::Unknown`] with [`Command::Local`], `UNKNOWN` and `AF_UNSPEC`: use the real address.
    pub source: Addr,
    /// The address that the client connected to; unknown when `source` is.
    pub destination: Addr,
    /// What else the sender tells; empty in version 1.
    pub tlvs: Tlvs<'a>,
}

/// Version of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// What the connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// The sender speaks for itself, as in a health check: use the real addresses (section 2.2).
    Local,
    /// The sender relays a client.
    Proxy,
}

/// Why bytes are not a PROXY header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyHeaderError {
    /// They start like neither version.
    Signature {
        /// Index of the first byte that cannot be right.
        at: usize,
    },
    /// Version 1: the protocol is not `TCP4`, `TCP6` or `UNKNOWN`.
    V1Protocol,
    /// Version 1: not the text form of an address of that family.
    V1Address {
        /// Index of the first byte of the address.
        at: usize,
    },
    /// Version 1: not a port from 0 to 65535 without leading zeros.
    V1Port {
        /// Index of the first byte of the port.
        at: usize,
    },
    /// Version 1: something else than one space or CRLF between or after the fields.
    V1Separator {
        /// Index of the byte.
        at: usize,
    },
    /// Version 1: no CRLF within 107 bytes (section 2.1).
    V1TooLong,
    /// Version 2: the version is not 2 or the command is neither LOCAL nor PROXY.
    V2VersionCommand {
        /// The byte.
        byte: u8,
    },
    /// Version 2: a family and transport that the specification does not have.
    V2Family {
        /// The byte.
        byte: u8,
    },
    /// Version 2: longer than we accept.
    V2TooLong {
        /// Bytes of the whole header.
        seen: usize,
        /// What we accept.
        limit: usize,
    },
    /// Version 2: the length does not hold the addresses of its family.
    V2AddressTooShort {
        /// Bytes after the fixed part.
        seen: usize,
        /// Bytes that the addresses take.
        needed: usize,
    },
    /// Version 2: a TLV reaches beyond the header.
    TlvTruncated {
        /// Index of the TLV in the input.
        at: usize,
    },
    /// Version 2: a TLV whose value has an impossible length.
    TlvLength {
        /// Type of the TLV.
        kind: u8,
        /// Bytes of its value.
        seen: usize,
    },
    /// Version 2: a TLV that may be there once is there again.
    TlvRepeated {
        /// Type of the TLV.
        kind: u8,
    },
    /// Version 2: the checksum is not that of the header.
    Crc32c {
        /// What the header says.
        seen: u32,
        /// What it is.
        computed: u32,
    },
}

impl ProxyHeaderError {
    /// Stable name for counters and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            ProxyHeaderError::Signature { .. } => "signature",
            ProxyHeaderError::V1Protocol => "v1-protocol",
            ProxyHeaderError::V1Address { .. } => "v1-address",
            ProxyHeaderError::V1Port { .. } => "v1-port",
            ProxyHeaderError::V1Separator { .. } => "v1-separator",
            ProxyHeaderError::V1TooLong => "v1-too-long",
            ProxyHeaderError::V2VersionCommand { .. } => "v2-version-command",
            ProxyHeaderError::V2Family { .. } => "v2-family",
            ProxyHeaderError::V2TooLong { .. } => "v2-too-long",
            ProxyHeaderError::V2AddressTooShort { .. } => "v2-address-too-short",
            ProxyHeaderError::TlvTruncated { .. } => "tlv-truncated",
            ProxyHeaderError::TlvLength { .. } => "tlv-length",
            ProxyHeaderError::TlvRepeated { .. } => "tlv-repeated",
            ProxyHeaderError::Crc32c { .. } => "crc32c",
        }
    }
}

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ProxyHeaderError::Signature { at } => write!(f, "no PROXY signature: byte {at} differs"),
            ProxyHeaderError::V1Protocol => f.write_str("PROXY v1: protocol is not TCP4, TCP6 or UNKNOWN"),
            ProxyHeaderError::V1Address { at } => write!(f, "PROXY v1: bad address at byte {at}"),
            ProxyHeaderError::V1Port { at } => write!(f, "PROXY v1: bad port at byte {at}"),
            ProxyHeaderError::V1Separator { at } => write!(f, "PROXY v1: bad separator at byte {at}"),
            ProxyHeaderError::V1TooLong => write!(f, "PROXY v1: no CRLF within {PROXY_V1_BYTES_MAX} bytes"),
            ProxyHeaderError::V2VersionCommand { byte } => {
                write!(f, "PROXY v2: bad version or command 0x{byte:02x}")
            }
            ProxyHeaderError::V2Family { byte } => {
                write!(f, "PROXY v2: bad family or transport 0x{byte:02x}")
            }
            ProxyHeaderError::V2TooLong { seen, limit } => {
                write!(f, "PROXY v2: header of {seen} bytes, at most {limit} are accepted")
            }
            ProxyHeaderError::V2AddressTooShort { seen, needed } => {
                write!(f, "PROXY v2: {seen} bytes of addresses, the family needs {needed}")
            }
            ProxyHeaderError::TlvTruncated { at } => write!(f, "PROXY v2: TLV at byte {at} is cut"),
            ProxyHeaderError::TlvLength { kind, seen } => {
                write!(f, "PROXY v2: TLV 0x{kind:02x} has an impossible length of {seen}")
            }
            ProxyHeaderError::TlvRepeated { kind } => write!(f, "PROXY v2: TLV 0x{kind:02x} is repeated"),
            ProxyHeaderError::Crc32c { seen, computed } => {
                write!(f, "PROXY v2: checksum 0x{seen:08x} where 0x{computed:08x} is right")
            }
        }
    }
}

impl std::error::Error for ProxyHeaderError {}

type Result<T> = std::result::Result<T, ProxyHeaderError>;

/// Parses the header at the front of `input`, which holds everything received so far.
///
/// Gives `Partial` only while some continuation can still be a header, so that a peer which does not speak the protocol
/// is refused at its first wrong byte. At most [`PROXY_HEADER_BYTES_MAX`] bytes are needed for a decision.
pub fn parse(input: &[u8]) -> Result<Parsed<ProxyHeader<'_>>> {
    match input.first() {
        None => Ok(Parsed::Partial),
        Some(b'P') => parse_v1(input),
        Some(_) => parse_v2(input),
    }
}

/// Checks that `input` starts with `signature`, as far as it goes. True when all of it is there.
fn starts_with(input: &[u8], signature: &[u8]) -> Result<bool> {
    match input.iter().zip(signature).position(|(seen, right)| seen != right) {
        Some(at) => Err(ProxyHeaderError::Signature { at }),
        None => Ok(input.len() >= signature.len()),
    }
}

fn parse_v1(input: &[u8]) -> Result<Parsed<ProxyHeader<'_>>> {
    if !starts_with(input, V1_SIGNATURE)? {
        return Ok(Parsed::Partial);
    }
    let window = &input[..input.len().min(PROXY_V1_BYTES_MAX)];
    match v1_line(window)? {
        Some((source, destination, len)) => {
            let header = ProxyHeader {
                version: Version::V1,
                command: Command::Proxy,
                source,
                destination,
                tlvs: Tlvs::EMPTY,
            };
            Ok(Parsed::Complete { value: header, len })
        }
        None if window.len() < PROXY_V1_BYTES_MAX => Ok(Parsed::Partial),
        None => Err(ProxyHeaderError::V1TooLong),
    }
}

/// The rest of a version 1 line. `None`: nothing wrong so far, CRLF not seen.
fn v1_line(window: &[u8]) -> Result<Option<(Addr, Addr, usize)>> {
    let mut at = V1_SIGNATURE.len();
    let rest = &window[at..];
    let is_prefix = |name: &[u8]| rest.iter().zip(name).all(|(a, b)| a == b);
    if is_prefix(b"UNKNOWN") {
        if rest.len() < 7 {
            return Ok(None);
        }
        return v1_unknown(window, at + 7);
    }
    let (is_v6, protocol_len) = match rest {
        [b'T', b'C', b'P', b'4', ..] => (false, 4),
        [b'T', b'C', b'P', b'6', ..] => (true, 4),
        _ if is_prefix(b"TCP") && rest.len() < 4 => return Ok(None),
        _ => return Err(ProxyHeaderError::V1Protocol),
    };
    at += protocol_len;
    if !separator(window, &mut at, b' ')? {
        return Ok(None);
    }
    let Some(source) = v1_address(window, &mut at, is_v6)? else { return Ok(None) };
    let Some(destination) = v1_address(window, &mut at, is_v6)? else { return Ok(None) };
    let Some(source_port) = v1_port(window, &mut at, b' ')? else { return Ok(None) };
    let Some(destination_port) = v1_port(window, &mut at, b'\r')? else { return Ok(None) };
    if !separator(window, &mut at, b'\n')? {
        return Ok(None);
    }
    let source = Addr::Ip(SocketAddr::new(source, source_port));
    let destination = Addr::Ip(SocketAddr::new(destination, destination_port));
    Ok(Some((source, destination, at)))
}

/// After `UNKNOWN` anything may follow up to CRLF and must be ignored (section 2.1).
fn v1_unknown(window: &[u8], at: usize) -> Result<Option<(Addr, Addr, usize)>> {
    match window.get(at) {
        None | Some(b' ' | b'\r') => {}
        Some(_) => return Err(ProxyHeaderError::V1Separator { at }),
    }
    match memchr::memchr2(b'\r', b'\n', &window[at..]).map(|i| at + i) {
        None => Ok(None),
        Some(end) if window[end] == b'\n' => Err(ProxyHeaderError::V1Separator { at: end }),
        Some(end) => match window.get(end + 1) {
            None => Ok(None),
            Some(b'\n') => Ok(Some((Addr::Unknown, Addr::Unknown, end + 2))),
            Some(_) => Err(ProxyHeaderError::V1Separator { at: end + 1 }),
        },
    }
}

/// Takes one separator byte. False when the input ends before it.
fn separator(window: &[u8], at: &mut usize, right: u8) -> Result<bool> {
    match window.get(*at) {
        None => Ok(false),
        Some(byte) if *byte == right => {
            *at += 1;
            Ok(true)
        }
        Some(_) => Err(ProxyHeaderError::V1Separator { at: *at }),
    }
}

/// Takes an address and the space after it.
fn v1_address(window: &[u8], at: &mut usize, is_v6: bool) -> Result<Option<IpAddr>> {
    // The longest texts of section 2.1: "255.255.255.255" and eight groups of four digits.
    let (text_max, is_allowed): (usize, fn(&u8) -> bool) = if is_v6 {
        (39, |b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'))
    } else {
        (15, |b| b.is_ascii_digit() || *b == b'.')
    };
    let start = *at;
    let rest = &window[start..];
    let text_len = rest.iter().take_while(|b| is_allowed(b)).count();
    if text_len > text_max || (text_len == 0 && !rest.is_empty()) {
        return Err(ProxyHeaderError::V1Address { at: start });
    }
    *at += text_len;
    if !separator(window, at, b' ')? {
        return Ok(None);
    }
    let text = std::str::from_utf8(&rest[..text_len]).unwrap_or("");
    let address = if is_v6 {
        text.parse::<Ipv6Addr>().map(IpAddr::V6).ok()
    } else {
        text.parse::<Ipv4Addr>().map(IpAddr::V4).ok()
    };
    address.map(Some).ok_or(ProxyHeaderError::V1Address { at: start })
}

/// Takes a port and the byte after it.
fn v1_port(window: &[u8], at: &mut usize, end: u8) -> Result<Option<u16>> {
    let start = *at;
    let mut port: u32 = 0;
    while let Some(digit) = window.get(*at).filter(|b| b.is_ascii_digit()) {
        let is_leading_zero = *at > start && port == 0;
        port = port * 10 + u32::from(digit - b'0');
        if is_leading_zero || port > u32::from(u16::MAX) {
            return Err(ProxyHeaderError::V1Port { at: start });
        }
        *at += 1;
    }
    if *at == start && start < window.len() {
        return Err(ProxyHeaderError::V1Port { at: start });
    }
    if !separator(window, at, end)? {
        return Ok(None);
    }
    u16::try_from(port).map(Some).map_err(|_| ProxyHeaderError::V1Port { at: start })
}

/// Bytes of the two addresses of a family, as section 2.2 lays them out. `None`: the specification does not have it.
fn v2_address_bytes(family: u8) -> Option<usize> {
    match family {
        0x00 => Some(0),
        0x11 | 0x12 => Some(12),
        0x21 | 0x22 => Some(36),
        0x31 | 0x32 => Some(216),
        _ => None,
    }
}

fn parse_v2(input: &[u8]) -> Result<Parsed<ProxyHeader<'_>>> {
    if !starts_with(input, V2_SIGNATURE)? {
        return Ok(Parsed::Partial);
    }
    let command = match input.get(12) {
        None => return Ok(Parsed::Partial),
        Some(0x20) => Command::Local,
        Some(0x21) => Command::Proxy,
        Some(&byte) => return Err(ProxyHeaderError::V2VersionCommand { byte }),
    };
    let Some(&family) = input.get(13) else { return Ok(Parsed::Partial) };
    // With LOCAL the family is ignored whatever it is (section 2.2).
    let address_bytes = match (v2_address_bytes(family), command) {
        (Some(bytes), _) => bytes,
        (None, Command::Local) => 0,
        (None, Command::Proxy) => return Err(ProxyHeaderError::V2Family { byte: family }),
    };
    let Some(length) = input.get(14..16) else { return Ok(Parsed::Partial) };
    let payload_bytes = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let total = V2_FIXED_BYTES + payload_bytes;
    if total > PROXY_HEADER_BYTES_MAX {
        return Err(ProxyHeaderError::V2TooLong { seen: total, limit: PROXY_HEADER_BYTES_MAX });
    }
    if payload_bytes < address_bytes && command == Command::Proxy {
        return Err(ProxyHeaderError::V2AddressTooShort { seen: payload_bytes, needed: address_bytes });
    }
    let Some(header) = input.get(..total) else { return Ok(Parsed::Partial) };
    let tlvs_at = V2_FIXED_BYTES + address_bytes.min(payload_bytes);
    let tlvs = match (tlv::verify(header, tlvs_at), command) {
        (Ok(()), _) => Tlvs::new(&header[tlvs_at..]),
        (Err(e @ ProxyHeaderError::Crc32c { .. }), _) | (Err(e), Command::Proxy) => return Err(e),
        // A LOCAL connection is to be accepted and what follows discarded (section 2.2).
        (Err(_), Command::Local) => Tlvs::EMPTY,
    };
    let (source, destination) = match command {
        Command::Local => (Addr::Unknown, Addr::Unknown),
        Command::Proxy => v2_addresses(family, &header[V2_FIXED_BYTES..tlvs_at]),
    };
    let value = ProxyHeader { version: Version::V2, command, source, destination, tlvs };
    Ok(Parsed::Complete { value, len: total })
}

/// The addresses of a family; `bytes` has exactly the length of that family.
fn v2_addresses(family: u8, bytes: &[u8]) -> (Addr, Addr) {
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    match (family >> 4, bytes.len()) {
        (1, 12) => {
            let ip = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
            (SocketAddr::from((ip(0), port(8))).into(), SocketAddr::from((ip(4), port(10))).into())
        }
        (2, 36) => {
            let ip = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&bytes[at..at + 16]);
                Ipv6Addr::from(octets)
            };
            (SocketAddr::from((ip(0), port(32))).into(), SocketAddr::from((ip(16), port(34))).into())
        }
        (3, 216) => (Addr::Unix, Addr::Unix),
        _ => (Addr::Unknown, Addr::Unknown),
    }
}

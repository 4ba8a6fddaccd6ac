//! Writing PROXY headers into a buffer of the caller.

use std::io::{Cursor, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::tlv::{UNIQUE_ID_BYTES_MAX, checksum_of, kind};
use super::{SslTlv, V2_FIXED_BYTES, V2_SIGNATURE};
use crate::base::net::Addr;

/// Bytes that hold every header without TLVs: version 2 with UNIX addresses.
pub const V2_BYTES_MIN: usize = V2_FIXED_BYTES + 216;

/// The buffer does not hold the header, or a value does not fit the format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfSpace;

impl std::fmt::Display for OutOfSpace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the PROXY header does not fit")
    }
}

impl std::error::Error for OutOfSpace {}

/// The TLVs that a version 2 header is to carry (`proxy-v2-options`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct V2Fields<'a> {
    /// The protocol negotiated with ALPN.
    pub alpn: Option<&'a [u8]>,
    /// The host name that the client asked for (`authority`).
    pub authority: Option<&'a [u8]>,
    /// Identifier of the connection, up to 128 bytes (`unique-id`).
    pub unique_id: Option<&'a [u8]>,
    /// How the client is connected (`ssl`).
    pub ssl: Option<V2Ssl<'a>>,
    /// Add the checksum (`crc32c`).
    pub crc32c: bool,
}

/// What a sent `PP2_TYPE_SSL` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct V2Ssl<'a> {
    /// Bits of [`SslTlv`]; zero for a client in clear.
    pub client: u8,
    /// Zero when a client certificate was presented and verified.
    pub verify: u32,
    /// The version, such as `TLSv1.3`; the specification wants it whenever the client is over TLS.
    pub version: Option<&'a [u8]>,
    /// Common name of the client certificate.
    pub common_name: Option<&'a [u8]>,
    /// The cipher.
    pub cipher: Option<&'a [u8]>,
}

impl V2Ssl<'_> {
    /// A client over TLS without certificate.
    pub fn over_tls(version: &[u8]) -> V2Ssl<'_> {
        V2Ssl { client: SslTlv::CLIENT_SSL, verify: 1, version: Some(version), ..V2Ssl::default() }
    }
}

/// Two addresses as a header can carry them: of one family.
enum Pair {
    V4([u8; 4], [u8; 4], u16, u16),
    V6(Ipv6Addr, Ipv6Addr, u16, u16),
    Unix,
    Unknown,
}

/// Brings two addresses to one family. IPv4 mapped in IPv6 counts as IPv4; mixed pairs go as IPv6, IPv4 mapped.
fn pair(source: &Addr, destination: &Addr) -> Pair {
    let (Addr::Ip(source), Addr::Ip(destination)) = (source, destination) else {
        let is_unix = matches!((source, destination), (Addr::Unix, Addr::Unix));
        return if is_unix { Pair::Unix } else { Pair::Unknown };
    };
    let canonical = |a: &SocketAddr| a.ip().to_canonical();
    let mapped = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    match (canonical(source), canonical(destination)) {
        (IpAddr::V4(s), IpAddr::V4(d)) => Pair::V4(s.octets(), d.octets(), source.port(), destination.port()),
        (s, d) => Pair::V6(mapped(s), mapped(d), source.port(), destination.port()),
    }
}

/// Writes a version 1 header to the front of `out` and says how long it is, at most 107 bytes. Addresses that version 1
/// does not have (UNIX, unknown) go as `UNKNOWN`.
pub fn encode_v1(source: &Addr, destination: &Addr, out: &mut [u8]) -> Result<usize, OutOfSpace> {
    let mut cursor = Cursor::new(out);
    let written = match pair(source, destination) {
        Pair::V4(s, d, sp, dp) => {
            let (s, d) = (IpAddr::from(s), IpAddr::from(d));
            write!(cursor, "PROXY TCP4 {s} {d} {sp} {dp}\r\n")
        }
        Pair::V6(s, d, sp, dp) => write!(cursor, "PROXY TCP6 {s} {d} {sp} {dp}\r\n"),
        Pair::Unix | Pair::Unknown => cursor.write_all(b"PROXY UNKNOWN\r\n"),
    };
    written.map_err(|_| OutOfSpace)?;
    usize::try_from(cursor.position()).map_err(|_| OutOfSpace)
}

/// Writes a version 2 header with command LOCAL: the connection is our own, as health checks are.
pub fn encode_v2_local(out: &mut [u8]) -> Result<usize, OutOfSpace> {
    let mut writer = Writer { out, len: 0 };
    writer.put(V2_SIGNATURE)?;
    writer.put(&[0x20, 0x00, 0, 0])?;
    Ok(writer.len)
}

/// Writes a version 2 header with command PROXY for a stream to the front of `out` and says how long it is. Addresses
/// go as `AF_UNSPEC` when unknown. Without TLVs [`V2_BYTES_MIN`] bytes suffice.
pub fn encode_v2(
    source: &Addr,
    destination: &Addr,
    fields: &V2Fields<'_>,
    out: &mut [u8],
) -> Result<usize, OutOfSpace> {
    let mut writer = Writer { out, len: 0 };
    writer.put(V2_SIGNATURE)?;
    match pair(source, destination) {
        Pair::V4(s, d, sp, dp) => {
            writer.put(&[0x21, 0x11, 0, 0])?;
            writer.put(&s)?;
            writer.put(&d)?;
            writer.put(&sp.to_be_bytes())?;
            writer.put(&dp.to_be_bytes())?;
        }
        Pair::V6(s, d, sp, dp) => {
            writer.put(&[0x21, 0x21, 0, 0])?;
            writer.put(&s.octets())?;
            writer.put(&d.octets())?;
            writer.put(&sp.to_be_bytes())?;
            writer.put(&dp.to_be_bytes())?;
        }
        // Peers of UNIX sockets have no path: all zero (section 2.2).
        Pair::Unix => {
            writer.put(&[0x21, 0x31, 0, 0])?;
            writer.put(&[0; 216])?;
        }
        Pair::Unknown => writer.put(&[0x21, 0x00, 0, 0])?,
    }
    // The checksum goes first: a receiver that wants it need not skip the rest.
    let checksum_at = writer.len + 3;
    if fields.crc32c {
        writer.tlv(kind::CRC32C, Some(&[0; 4]))?;
    }
    if fields.unique_id.is_some_and(|id| id.len() > UNIQUE_ID_BYTES_MAX) {
        return Err(OutOfSpace);
    }
    writer.tlv(kind::ALPN, fields.alpn)?;
    writer.tlv(kind::AUTHORITY, fields.authority)?;
    writer.tlv(kind::UNIQUE_ID, fields.unique_id)?;
    if let Some(ssl) = &fields.ssl {
        writer.ssl(ssl)?;
    }
    let len = writer.len;
    let payload = u16::try_from(len - V2_FIXED_BYTES).map_err(|_| OutOfSpace)?;
    out[14..16].copy_from_slice(&payload.to_be_bytes());
    if fields.crc32c {
        let checksum = checksum_of(&out[..len], checksum_at);
        out[checksum_at..checksum_at + 4].copy_from_slice(&checksum.to_be_bytes());
    }
    Ok(len)
}

struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), OutOfSpace> {
        let end = self.len + bytes.len();
        self.out.get_mut(self.len..end).ok_or(OutOfSpace)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }
    fn tlv(&mut self, kind: u8, value: Option<&[u8]>) -> Result<(), OutOfSpace> {
        let Some(value) = value else { return Ok(()) };
        let length = u16::try_from(value.len()).map_err(|_| OutOfSpace)?;
        self.put(&[kind])?;
        self.put(&length.to_be_bytes())?;
        self.put(value)
    }
    fn ssl(&mut self, ssl: &V2Ssl<'_>) -> Result<(), OutOfSpace> {
        self.put(&[kind::SSL, 0, 0])?;
        let value_at = self.len;
        self.put(&[ssl.client])?;
        self.put(&ssl.verify.to_be_bytes())?;
        self.tlv(kind::SSL_VERSION, ssl.version)?;
        self.tlv(kind::SSL_CN, ssl.common_name)?;
        self.tlv(kind::SSL_CIPHER, ssl.cipher)?;
        let length = u16::try_from(self.len - value_at).map_err(|_| OutOfSpace)?;
        self.out[value_at - 2..value_at].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

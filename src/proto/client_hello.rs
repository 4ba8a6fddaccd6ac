//! The TLS ClientHello at the front of a TCP stream: who the client asks for, in TCP mode with `inspect-delay`.
//!
//! Reads what routing needs and checks the lengths of everything on the way to it; it does not judge what a TLS server
//! judges. Called by `proxy::tcp` while it waits for the first bytes. RFC 8446 4.1.2 and 5.1, RFC 6066 3, RFC 7301 3.1.

#[cfg(test)]
mod tests;

use std::fmt;

use crate::base::limits::INSPECT_BYTES_MAX;
use crate::proto::Parsed;
use crate::proto::reader::Reader;

/// Bytes of a record header: type, version, length.
const RECORD_HEADER_BYTES: usize = 5;
/// Bytes of a handshake header: type and length.
const HANDSHAKE_HEADER_BYTES: usize = 4;
/// Longest plain record (RFC 8446 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;

/// What a ClientHello says, borrowed from the input, or from the scratch buffer when it came in several records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientHello<'a> {
    /// `legacy_version`: 0x0303 from every client since TLS 1.2.
    pub legacy_version: u16,
    /// The highest version that `supported_versions` offers, GREASE left out; `None` without that extension.
    pub supported_version_max: Option<u16>,
    /// `legacy_session_id`, at most 32 bytes.
    pub session_id: &'a [u8],
    /// `cipher_suites`, two bytes each.
    pub cipher_suites: &'a [u8],
    /// The host name of `server_name` (`req.ssl_sni`), as sent: printable ASCII, not lowered.
    pub sni: Option<&'a str>,
    alpn: &'a [u8],
}

impl<'a> ClientHello<'a> {
    /// The protocols that ALPN offers (`req.ssl_alpn`), in the client's order.
    pub fn alpn(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = Reader::new(self.alpn);
        std::iter::from_fn(move || rest.vec8())
    }
    /// The highest version that the client speaks: 0x0304 is TLS 1.3.
    pub fn version_max(&self) -> u16 {
        self.supported_version_max.unwrap_or(self.legacy_version)
    }
    /// `req.ssl_ver`: major version times 65536 plus minor version, so that TLS 1.2 (3.3) is 196611.
    pub fn ssl_ver(&self) -> u32 {
        let version = u32::from(self.version_max());
        (version >> 8) << 16 | version & 0xff
    }
}

/// Why bytes are not a ClientHello.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientHelloError {
    /// The first byte is not that of a handshake record: not TLS.
    NotHandshake {
        /// The byte.
        byte: u8,
    },
    /// An SSLv2 hello (RFC 6101 appendix E), or bytes that look like one.
    Sslv2,
    /// The record's major version is not 3.
    RecordVersion {
        /// The major version.
        major: u8,
    },
    /// The record is empty or longer than TLS allows.
    RecordLength {
        /// The length.
        seen: usize,
    },
    /// The handshake message is not a ClientHello.
    NotClientHello {
        /// Its type.
        kind: u8,
    },
    /// The hello is longer than we look at.
    TooLong {
        /// Its length.
        seen: usize,
        /// What we look at.
        limit: usize,
    },
    /// `legacy_version` is below SSL 3.0.
    Version {
        /// The version.
        seen: u16,
    },
    /// A field reaches beyond the one that holds it, or has an impossible length.
    Truncated {
        /// Which field.
        field: &'static str,
    },
    /// Bytes follow the last field.
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// An extension that we read is there twice (RFC 8446 4.2).
    ExtensionRepeated {
        /// Its type.
        kind: u16,
    },
    /// The host name is empty, too long or not printable ASCII (RFC 6066 3).
    ServerName,
}

impl ClientHelloError {
    /// Stable name for counters and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            ClientHelloError::NotHandshake { .. } => "not-handshake",
            ClientHelloError::Sslv2 => "sslv2",
            ClientHelloError::RecordVersion { .. } => "record-version",
            ClientHelloError::RecordLength { .. } => "record-length",
            ClientHelloError::NotClientHello { .. } => "not-client-hello",
            ClientHelloError::TooLong { .. } => "too-long",
            ClientHelloError::Version { .. } => "version",
            ClientHelloError::Truncated { .. } => "truncated",
            ClientHelloError::TrailingBytes { .. } => "trailing-bytes",
            ClientHelloError::ExtensionRepeated { .. } => "extension-repeated",
            ClientHelloError::ServerName => "server-name",
        }
    }
}

impl fmt::Display for ClientHelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ClientHelloError::NotHandshake { byte } => {
                write!(f, "not TLS: first byte 0x{byte:02x} is no handshake")
            }
            ClientHelloError::Sslv2 => f.write_str("an SSLv2 hello"),
            ClientHelloError::RecordVersion { major } => write!(f, "TLS record of major version {major}"),
            ClientHelloError::RecordLength { seen } => write!(f, "TLS record of {seen} bytes"),
            ClientHelloError::NotClientHello { kind } => {
                write!(f, "TLS handshake message {kind} where a ClientHello is due")
            }
            ClientHelloError::TooLong { seen, limit } => {
                write!(f, "ClientHello of {seen} bytes, at most {limit} are inspected")
            }
            ClientHelloError::Version { seen } => write!(f, "ClientHello of version 0x{seen:04x}"),
            ClientHelloError::Truncated { field } => write!(f, "ClientHello: {field} has a wrong length"),
            ClientHelloError::TrailingBytes { count } => {
                write!(f, "ClientHello: {count} bytes after the last field")
            }
            ClientHelloError::ExtensionRepeated { kind } => {
                write!(f, "ClientHello: extension {kind} is repeated")
            }
            ClientHelloError::ServerName => f.write_str("ClientHello: bad server name"),
        }
    }
}

impl std::error::Error for ClientHelloError {}

type Result<T> = std::result::Result<T, ClientHelloError>;

/// Parses the ClientHello at the front of `input`, which holds everything received so far.
///
/// `scratch` is used when the hello came in several records: it is cleared and grows to the size of the hello, at most
/// [`INSPECT_BYTES_MAX`]. The caller keeps it for the next connection. `len` counts up to the end of the hello; the
/// stream itself is to be forwarded from its first byte.
pub fn parse<'a>(input: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Parsed<ClientHello<'a>>> {
    let Some((first, _)) = next_record(input)? else { return Ok(Parsed::Partial) };
    let Some(message_len) = message_len(first)? else {
        // Not even the header of the message is there: it may go on in the next record.
        return join(input, scratch);
    };
    match first.get(..message_len) {
        Some(message) => {
            let value = parse_message(message)?;
            Ok(Parsed::Complete { value, len: RECORD_HEADER_BYTES + message_len })
        }
        None => join(input, scratch),
    }
}

/// The payload of the record at the front of `input`, cut if it is not all there, and the length of the whole record.
fn next_record(input: &[u8]) -> Result<Option<(&[u8], usize)>> {
    match *input {
        [] => return Ok(None),
        [22, ..] => {}
        // SSLv2: the high bit, a length, then type 1.
        [byte, _, 1, ..] if byte & 0x80 != 0 => return Err(ClientHelloError::Sslv2),
        [byte] | [byte, _] if byte & 0x80 != 0 => return Ok(None),
        [byte, ..] => return Err(ClientHelloError::NotHandshake { byte }),
    }
    if let Some(&major) = input.get(1).filter(|major| **major != 3) {
        return Err(ClientHelloError::RecordVersion { major });
    }
    let Some(length) = input.get(3..RECORD_HEADER_BYTES) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length == 0 || length > RECORD_BYTES_MAX {
        return Err(ClientHelloError::RecordLength { seen: length });
    }
    let end = RECORD_HEADER_BYTES + length;
    Ok(Some((&input[RECORD_HEADER_BYTES..end.min(input.len())], end)))
}

/// Length of the handshake message at the front of `bytes`, its header included; `None` when that is not there yet.
fn message_len(bytes: &[u8]) -> Result<Option<usize>> {
    match bytes.first() {
        Some(&kind) if kind != 1 => return Err(ClientHelloError::NotClientHello { kind }),
        _ => {}
    }
    let Some(length) = Reader::new(bytes.get(1..).unwrap_or_default()).u24() else { return Ok(None) };
    let message_len = HANDSHAKE_HEADER_BYTES + length;
    if message_len > INSPECT_BYTES_MAX {
        return Err(ClientHelloError::TooLong { seen: message_len, limit: INSPECT_BYTES_MAX });
    }
    Ok(Some(message_len))
}

/// Joins the payloads of several records in `scratch`.
fn join<'a>(input: &[u8], scratch: &'a mut Vec<u8>) -> Result<Parsed<ClientHello<'a>>> {
    scratch.clear();
    let mut at = 0;
    loop {
        let Some((payload, record_len)) = next_record(&input[at..])? else { return Ok(Parsed::Partial) };
        let is_cut = at + record_len > input.len();
        // The header of the message is needed before it is known how much is wanted.
        let wanted = message_len(scratch)?.unwrap_or(INSPECT_BYTES_MAX) - scratch.len();
        scratch.extend_from_slice(&payload[..payload.len().min(wanted)]);
        if let Some(message_len) = message_len(scratch)?.filter(|len| *len <= scratch.len()) {
            let beyond = scratch.len() - message_len;
            let len = at + RECORD_HEADER_BYTES + payload.len().min(wanted) - beyond;
            let value = parse_message(&scratch[..message_len])?;
            return Ok(Parsed::Complete { value, len });
        }
        if is_cut {
            return Ok(Parsed::Partial);
        }
        at += record_len;
    }
}

fn parse_message(message: &[u8]) -> Result<ClientHello<'_>> {
    let truncated = |field| ClientHelloError::Truncated { field };
    let mut reader = Reader::new(&message[HANDSHAKE_HEADER_BYTES..]);
    let legacy_version = reader.u16().ok_or(truncated("version"))?;
    if !(0x0300..0x0400).contains(&legacy_version) {
        return Err(ClientHelloError::Version { seen: legacy_version });
    }
    reader.bytes(32).ok_or(truncated("random"))?;
    let session_id = reader.vec8().filter(|id| id.len() <= 32).ok_or(truncated("session id"))?;
    let is_whole = |suites: &&[u8]| suites.len() >= 2 && suites.len().is_multiple_of(2);
    let cipher_suites = reader.vec16().filter(is_whole).ok_or(truncated("cipher suites"))?;
    reader.vec8().filter(|m| !m.is_empty()).ok_or(truncated("compression methods"))?;
    let mut hello = ClientHello {
        legacy_version,
        supported_version_max: None,
        session_id,
        cipher_suites,
        sni: None,
        alpn: &[],
    };
    // Extensions are optional up to TLS 1.2.
    if reader.is_empty() {
        return Ok(hello);
    }
    let extensions = reader.vec16().ok_or(truncated("extensions"))?;
    if !reader.is_empty() {
        return Err(ClientHelloError::TrailingBytes { count: reader.len() });
    }
    parse_extensions(extensions, &mut hello)?;
    Ok(hello)
}

fn parse_extensions<'a>(extensions: &'a [u8], hello: &mut ClientHello<'a>) -> Result<()> {
    const SERVER_NAME: u16 = 0;
    const ALPN: u16 = 16;
    const SUPPORTED_VERSIONS: u16 = 43;
    let truncated = |field| ClientHelloError::Truncated { field };
    let mut seen = [false; 3];
    let mut once = |index: usize, kind: u16| match std::mem::replace(&mut seen[index], true) {
        true => Err(ClientHelloError::ExtensionRepeated { kind }),
        false => Ok(()),
    };
    let mut reader = Reader::new(extensions);
    while !reader.is_empty() {
        let kind = reader.u16().ok_or(truncated("extension type"))?;
        let body = reader.vec16().ok_or(truncated("extension"))?;
        match kind {
            SERVER_NAME => {
                once(0, kind)?;
                hello.sni = server_name(body)?;
            }
            ALPN => {
                once(1, kind)?;
                hello.alpn = protocol_names(body)?;
            }
            SUPPORTED_VERSIONS => {
                once(2, kind)?;
                hello.supported_version_max = supported_version_max(body)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// `ServerNameList`: the name of type host_name, of which there may be one.
fn server_name(body: &[u8]) -> Result<Option<&str>> {
    const HOST_NAME: u8 = 0;
    let truncated = ClientHelloError::Truncated { field: "server name" };
    let mut outer = Reader::new(body);
    let mut list = Reader::new(outer.vec16().filter(|l| !l.is_empty()).ok_or(truncated)?);
    if !outer.is_empty() {
        return Err(truncated);
    }
    let mut found = None;
    while !list.is_empty() {
        let kind = list.u8().ok_or(truncated)?;
        let name = list.vec16().ok_or(truncated)?;
        if kind != HOST_NAME {
            continue;
        }
        // 255 bytes is the longest DNS name.
        let is_host = (1..=255).contains(&name.len()) && name.iter().all(|b| b.is_ascii_graphic());
        let name = std::str::from_utf8(name).map_err(|_| ClientHelloError::ServerName)?;
        if !is_host || found.replace(name).is_some() {
            return Err(ClientHelloError::ServerName);
        }
    }
    Ok(found)
}

/// `ProtocolNameList`, checked: names of 1 to 255 bytes that fill it.
fn protocol_names(body: &[u8]) -> Result<&[u8]> {
    let truncated = ClientHelloError::Truncated { field: "ALPN" };
    let mut outer = Reader::new(body);
    let list = outer.vec16().filter(|l| !l.is_empty()).ok_or(truncated)?;
    let mut names = Reader::new(list);
    while !names.is_empty() {
        names.vec8().filter(|n| !n.is_empty()).ok_or(truncated)?;
    }
    if outer.is_empty() { Ok(list) } else { Err(truncated) }
}

/// The highest TLS version of `supported_versions`; GREASE values (RFC 8701) and drafts are not versions.
fn supported_version_max(body: &[u8]) -> Result<Option<u16>> {
    let truncated = ClientHelloError::Truncated { field: "supported versions" };
    let mut outer = Reader::new(body);
    let list = outer.vec8().filter(|l| l.len() >= 2 && l.len().is_multiple_of(2)).ok_or(truncated)?;
    if !outer.is_empty() {
        return Err(truncated);
    }
    let versions = list.chunks_exact(2).map(|v| u16::from_be_bytes([v[0], v[1]]));
    Ok(versions.filter(|v| v >> 8 == 3).max())
}

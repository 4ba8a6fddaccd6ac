//! Type-length-value fields of a version 2 header (section 2.2), read in place.

use super::ProxyHeaderError;
use crate::proto::reader::Reader;

/// Types of TLVs, with the specification's names.
pub mod kind {
    /// `PP2_TYPE_ALPN`: the protocol negotiated with ALPN.
    pub const ALPN: u8 = 0x01;
    /// `PP2_TYPE_AUTHORITY`: the host name that the client asked for (SNI).
    pub const AUTHORITY: u8 = 0x02;
    /// `PP2_TYPE_CRC32C`: checksum of the whole header.
    pub const CRC32C: u8 = 0x03;
    /// `PP2_TYPE_NOOP`: padding.
    pub const NOOP: u8 = 0x04;
    /// `PP2_TYPE_UNIQUE_ID`: an opaque identifier of the connection, up to 128 bytes.
    pub const UNIQUE_ID: u8 = 0x05;
    /// `PP2_TYPE_SSL`: how the client is connected over TLS.
    pub const SSL: u8 = 0x20;
    /// `PP2_SUBTYPE_SSL_VERSION`: such as `TLSv1.3`.
    pub const SSL_VERSION: u8 = 0x21;
    /// `PP2_SUBTYPE_SSL_CN`: common name of the client certificate.
    pub const SSL_CN: u8 = 0x22;
    /// `PP2_SUBTYPE_SSL_CIPHER`: name of the cipher.
    pub const SSL_CIPHER: u8 = 0x23;
    /// `PP2_SUBTYPE_SSL_SIG_ALG`: algorithm that signed the certificate of the server.
    pub const SSL_SIG_ALG: u8 = 0x24;
    /// `PP2_SUBTYPE_SSL_KEY_ALG`: algorithm of the key of that certificate.
    pub const SSL_KEY_ALG: u8 = 0x25;
    /// `PP2_TYPE_NETNS`: name of the network namespace.
    pub const NETNS: u8 = 0x30;
}

/// Longest unique id that the specification allows (section 2.2.5).
pub(super) const UNIQUE_ID_BYTES_MAX: usize = 128;

/// One TLV.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tlv<'a> {
    /// Its type; see [`kind`].
    pub kind: u8,
    /// Its value.
    pub value: &'a [u8],
}

/// The TLVs of a header, NOOP included, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tlvs<'a> {
    bytes: &'a [u8],
}

impl<'a> Tlvs<'a> {
    /// No TLVs.
    pub const EMPTY: Tlvs<'static> = Tlvs { bytes: &[] };

    /// `bytes` as they stand in the header; the iterator ends before a field that is cut.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Tlvs { bytes }
    }
    /// The value of the first TLV of a type (`fc_pp_tlv`).
    pub fn first(&self, kind: u8) -> Option<&'a [u8]> {
        self.into_iter().find(|t| t.kind == kind).map(|t| t.value)
    }
    /// The protocol negotiated with ALPN.
    pub fn alpn(&self) -> Option<&'a [u8]> {
        self.first(kind::ALPN)
    }
    /// The host name that the client asked for (`fc_pp_authority`).
    pub fn authority(&self) -> Option<&'a [u8]> {
        self.first(kind::AUTHORITY)
    }
    /// The identifier of the connection (`fc_pp_unique_id`).
    pub fn unique_id(&self) -> Option<&'a [u8]> {
        self.first(kind::UNIQUE_ID)
    }
    /// The network namespace.
    pub fn netns(&self) -> Option<&'a [u8]> {
        self.first(kind::NETNS)
    }
    /// How the client is connected over TLS. `None` without the TLV; a received header's is known to be well formed.
    pub fn ssl(&self) -> Option<SslTlv<'a>> {
        self.first(kind::SSL).and_then(SslTlv::read)
    }
}

impl<'a> IntoIterator for Tlvs<'a> {
    type Item = Tlv<'a>;
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        Iter { rest: Reader::new(self.bytes) }
    }
}

/// Iterator over TLVs.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: Reader<'a>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Tlv<'a>;
    fn next(&mut self) -> Option<Tlv<'a>> {
        let kind = self.rest.u8()?;
        let value = self.rest.vec16()?;
        Some(Tlv { kind, value })
    }
}

/// TLV 0x20 (section 2.2.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SslTlv<'a> {
    /// Bits [`SslTlv::CLIENT_SSL`], [`SslTlv::CLIENT_CERT_CONN`], [`SslTlv::CLIENT_CERT_SESS`].
    pub client: u8,
    /// Zero when the client presented a certificate and it was verified.
    pub verify: u32,
    /// Sub-TLVs, types 0x21 to 0x25.
    pub tlvs: Tlvs<'a>,
}

impl<'a> SslTlv<'a> {
    /// The client connected over TLS.
    pub const CLIENT_SSL: u8 = 0x01;
    /// It presented a certificate on this connection.
    pub const CLIENT_CERT_CONN: u8 = 0x02;
    /// It presented a certificate at least once in this TLS session.
    pub const CLIENT_CERT_SESS: u8 = 0x04;

    fn read(value: &'a [u8]) -> Option<SslTlv<'a>> {
        let mut reader = Reader::new(value);
        let client = reader.u8()?;
        let verify = reader.u32()?;
        Some(SslTlv { client, verify, tlvs: Tlvs::new(&value[5..]) })
    }
    /// Whether the client connected over TLS.
    pub fn is_ssl(&self) -> bool {
        self.client & SslTlv::CLIENT_SSL != 0
    }
    /// The version, such as `TLSv1.3`.
    pub fn version(&self) -> Option<&'a [u8]> {
        self.tlvs.first(kind::SSL_VERSION)
    }
    /// The common name of the client certificate.
    pub fn common_name(&self) -> Option<&'a [u8]> {
        self.tlvs.first(kind::SSL_CN)
    }
    /// The cipher.
    pub fn cipher(&self) -> Option<&'a [u8]> {
        self.tlvs.first(kind::SSL_CIPHER)
    }
}

/// Checks that the fields from `at` on fill the header exactly, that those we know have a possible length, and the
/// checksum when there is one.
pub(super) fn verify(header: &[u8], at: usize) -> Result<(), ProxyHeaderError> {
    let mut reader = Reader::new(&header[at..]);
    let mut checksum = None;
    while !reader.is_empty() {
        let field_at = header.len() - reader.len();
        let truncated = ProxyHeaderError::TlvTruncated { at: field_at };
        let kind = reader.u8().ok_or(truncated)?;
        let value = reader.vec16().ok_or(truncated)?;
        let wrong_length = ProxyHeaderError::TlvLength { kind, seen: value.len() };
        match kind {
            kind::CRC32C => {
                let seen = Reader::new(value).u32().filter(|_| value.len() == 4).ok_or(wrong_length)?;
                if checksum.replace((field_at + 3, seen)).is_some() {
                    return Err(ProxyHeaderError::TlvRepeated { kind });
                }
            }
            kind::UNIQUE_ID if value.len() > UNIQUE_ID_BYTES_MAX => return Err(wrong_length),
            kind::SSL => {
                let ssl = SslTlv::read(value).ok_or(wrong_length)?;
                let used: usize = ssl.tlvs.into_iter().map(|t| t.value.len() + 3).sum();
                if used + 5 != value.len() {
                    return Err(ProxyHeaderError::TlvTruncated { at: field_at + 3 + 5 + used });
                }
            }
            _ => {}
        }
    }
    let Some((value_at, seen)) = checksum else { return Ok(()) };
    let computed = checksum_of(header, value_at);
    if seen == computed { Ok(()) } else { Err(ProxyHeaderError::Crc32c { seen, computed }) }
}

/// The checksum of a header whose checksum value stands at `value_at`: its four bytes count as zero (section 2.2.3).
pub(super) fn checksum_of(header: &[u8], value_at: usize) -> u32 {
    let before = crc32c::crc32c(&header[..value_at]);
    let zeros = crc32c::crc32c_append(before, &[0; 4]);
    crc32c::crc32c_append(zeros, &header[value_at + 4..])
}

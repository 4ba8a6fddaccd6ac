//! `forward-client-cert`: what servers are told of the client's TLS connection and certificate. Whatever the request itself
//! says under these names is removed first, whoever sent it. What a certificate makes is written once for a connection.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::proto::headers::{EditError, Head};
use crate::proxy::session::Session;
use crate::tls::{Facts, Field, Part, Whose};

/// Fields of the certificate, by the names that HAProxy's documentation gives such headers.
const FIELDS: &[(&str, Field<'_>)] = &[
    ("X-SSL-Client-DN", Field::Subject(Part::Whole)),
    ("X-SSL-Client-CN", Field::Subject(Part::Attribute("CN"))),
    ("X-SSL-Issuer", Field::Issuer(Part::Whole)),
    ("X-SSL-Client-NotBefore", Field::NotBefore),
    ("X-SSL-Client-NotAfter", Field::NotAfter),
];

/// Replaces the headers of a request.
pub(super) fn forward(session: &Session, head: &mut Head, bytes: &[u8]) -> Result<(), EditError> {
    head.edit(bytes).delete_where(is_ours);
    let facts = session.info.conn().tls();
    head.edit(bytes).add_as(b"X-SSL", if facts.is_some() { b"1" } else { b"0" })?;
    let Some(facts) = facts.filter(|facts| !facts.chain().is_empty()) else { return Ok(()) };
    let mut rest = facts.forwarded(certificate);
    // Neither names nor values hold what stands between them.
    while let Some(end) = memchr::memchr(b'\n', rest)
        && let Some(colon) = memchr::memchr(b':', rest)
    {
        head.edit(bytes).add_as(&rest[..colon], &rest[colon + 1..end])?;
        rest = &rest[end + 1..];
    }
    Ok(())
}

/// Whether a header has one of our names, in any spelling that a server might take for it: some take `_` for `-`.
fn is_ours(name: &[u8]) -> bool {
    let starts = |with: &[u8]| {
        name.len() >= with.len()
            && name.iter().zip(with).all(|(a, b)| a.eq_ignore_ascii_case(b) || (*a == b'_' && *b == b'-'))
    };
    (starts(b"x-ssl") && matches!(name.get(5), None | Some(b'-' | b'_')))
        || (starts(b"client-cert") && matches!(name.get(11), None | Some(b'-' | b'_')))
}

/// The headers of a certificate, `name:value` and a line feed each; the same for all requests of a connection.
fn certificate(facts: &Facts) -> Vec<u8> {
    let mut text = Vec::new();
    let mut push = |name: &str, value: &[u8]| {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        // Whoever signs certificates may put anything into names.
        text.extend(value.iter().map(|byte| if byte.is_ascii_control() { b'_' } else { *byte }));
        text.push(b'\n');
    };
    push("X-SSL-Client-Verify", facts.problem().worst.to_string().as_bytes());
    for (name, field) in FIELDS {
        let mut value = Vec::new();
        if x509_field(facts, field, &mut value) {
            push(name, &value);
        }
    }
    let mut serial = Vec::new();
    x509_field(facts, &Field::Serial, &mut serial);
    push("X-SSL-Client-Serial", &hex(&serial));
    let Some((first, rest)) = facts.chain().split_first() else { return text };
    push("X-SSL-Client-SHA1", &hex(&Sha1::digest(first)));
    // RFC 9440 2.1: a byte sequence of RFC 8941.
    push("Client-Cert", format!(":{}:", STANDARD.encode(first)).as_bytes());
    if !rest.is_empty() {
        let items: Vec<String> = rest.iter().map(|der| format!(":{}:", STANDARD.encode(der))).collect();
        push("Client-Cert-Chain", items.join(", ").as_bytes());
    }
    text
}

fn x509_field(facts: &Facts, field: &Field<'_>, value: &mut Vec<u8>) -> bool {
    facts.certificate(Whose::Peer, field, value)
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_in_every_spelling() {
        for name in
            ["x-ssl", "X-SSL-Client-DN", "X_SSL_Client_CN", "client-cert", "Client-Cert-Chain", "CLIENT_CERT"]
        {
            assert!(is_ours(name.as_bytes()), "{name}");
        }
        for name in ["x-sslx", "x-ss", "client-certs", "x-client-cert", "host", ""] {
            assert!(!is_ours(name.as_bytes()), "{name}");
        }
    }
}

//! `forward-client-cert`: what servers are told of the client's TLS connection and certificate. Whatever the request itself
//! says under these names is removed first, whoever sent it.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::proto::headers::{EditError, Head};
use crate::proxy::session::Session;
use crate::tls::{Facts, Field, Part};

/// Fields of the certificate, by the names that HAProxy's documentation gives such headers.
const FIELDS: &[(&str, Field<'_>)] = &[
    ("X-SSL-Client-DN", Field::Subject(Part::Whole)),
    ("X-SSL-Client-CN", Field::Subject(Part::Attribute("CN"))),
    ("X-SSL-Issuer", Field::Issuer(Part::Whole)),
    ("X-SSL-Client-NotBefore", Field::NotBefore),
    ("X-SSL-Client-NotAfter", Field::NotAfter),
];

/// Replaces the headers of a request.
pub(super) fn forward(
    session: &Session,
    head: &mut Head,
    bytes: &[u8],
    text: &mut Vec<u8>,
) -> Result<(), EditError> {
    head.edit(bytes).delete_where(is_ours);
    let facts = session.info.conn().tls();
    head.edit(bytes).add_as(b"X-SSL", if facts.is_some() { b"1" } else { b"0" })?;
    match facts {
        Some(facts) if !facts.chain().is_empty() => certificate(facts, head, bytes, text),
        _ => Ok(()),
    }
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

fn certificate(facts: &Facts, head: &mut Head, bytes: &[u8], text: &mut Vec<u8>) -> Result<(), EditError> {
    text.clear();
    // Writing to memory does not fail.
    let _ = write!(text, "{}", facts.problem());
    head.edit(bytes).add_as(b"X-SSL-Client-Verify", text)?;
    for (name, field) in FIELDS {
        text.clear();
        if facts.certificate(field, text) {
            // Whoever signs certificates may put anything into names.
            text.iter_mut().filter(|byte| byte.is_ascii_control()).for_each(|byte| *byte = b'_');
            head.edit(bytes).add_as(name.as_bytes(), text)?;
        }
    }
    let mut serial = Vec::new();
    facts.certificate(&Field::Serial, &mut serial);
    push_hex(&serial, text);
    head.edit(bytes).add_as(b"X-SSL-Client-Serial", text)?;
    let Some((first, rest)) = facts.chain().split_first() else { return Ok(()) };
    push_hex(&Sha1::digest(first), text);
    head.edit(bytes).add_as(b"X-SSL-Client-SHA1", text)?;
    // RFC 9440 2.1: a byte sequence of RFC 8941.
    let value = format!(":{}:", STANDARD.encode(first));
    head.edit(bytes).add_as(b"Client-Cert", value.as_bytes())?;
    if !rest.is_empty() {
        let items: Vec<String> = rest.iter().map(|der| format!(":{}:", STANDARD.encode(der))).collect();
        head.edit(bytes).add_as(b"Client-Cert-Chain", items.join(", ").as_bytes())?;
    }
    Ok(())
}

fn push_hex(bytes: &[u8], text: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.clear();
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
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

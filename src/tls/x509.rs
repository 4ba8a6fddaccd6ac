//! What a certificate says, as rules and logs read it: names and dates in HAProxy's forms and in ISO's.

use std::fmt::Write;

use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

/// Which part of a distinguished name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part<'a> {
    /// All of it as `/C=FR/CN=name`.
    Whole,
    /// All of it as RFC 2253 has it: `CN=name,C=FR`.
    Rfc2253,
    /// The first value of an attribute: `CN`.
    Attribute(&'a str),
}

/// What is asked of a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Field<'a> {
    /// Whom it is for.
    Subject(Part<'a>),
    /// Who signed it.
    Issuer(Part<'a>),
    /// Since when it is valid: `YYMMDDhhmmssZ`.
    NotBefore,
    /// Until when.
    NotAfter,
    /// Since when: `YYYY-MM-DDThh:mm:ssZ`.
    NotBeforeIso,
    /// Until when.
    NotAfterIso,
    /// Its serial number, bytes.
    Serial,
    /// Its version.
    Version,
    /// How it is signed, by OpenSSL's name.
    SignatureAlgorithm,
    /// The type of its key, by OpenSSL's name.
    KeyAlgorithm,
}

impl Field<'_> {
    /// A number and an attribute by which fields are told apart.
    pub(super) fn key(&self) -> (u8, &str) {
        fn part<'a>(first: u8, part: &Part<'a>) -> (u8, &'a str) {
            match part {
                Part::Whole => (first, ""),
                Part::Rfc2253 => (first + 1, ""),
                Part::Attribute(name) => (first + 2, name),
            }
        }
        match self {
            Field::Subject(of) => part(0, of),
            Field::Issuer(of) => part(3, of),
            Field::NotBefore => (6, ""),
            Field::NotAfter => (7, ""),
            Field::NotBeforeIso => (8, ""),
            Field::NotAfterIso => (9, ""),
            Field::Serial => (10, ""),
            Field::Version => (11, ""),
            Field::SignatureAlgorithm => (12, ""),
            Field::KeyAlgorithm => (13, ""),
        }
    }
}

/// Appends a field of a certificate to `out`. False: there is no such thing.
pub(super) fn certificate_field(der: &[u8], field: &Field<'_>, out: &mut Vec<u8>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    let mut text = String::new();
    match field {
        Field::Subject(part) => name(certificate.subject(), part, &mut text),
        Field::Issuer(part) => name(certificate.issuer(), part, &mut text),
        Field::NotBefore => short_date(certificate.validity().not_before, &mut text),
        Field::NotAfter => short_date(certificate.validity().not_after, &mut text),
        Field::NotBeforeIso => iso_date(certificate.validity().not_before, &mut text),
        Field::NotAfterIso => iso_date(certificate.validity().not_after, &mut text),
        Field::Serial => {
            out.extend_from_slice(certificate.raw_serial());
            return true;
        }
        // The number on the wire counts from 0 (RFC 5280 4.1.2.1).
        Field::Version => {
            // Writing to memory does not fail.
            let _ = write!(text, "{}", certificate.version().0 + 1);
        }
        Field::SignatureAlgorithm => {
            text.push_str(algorithm(&certificate.signature_algorithm.algorithm.to_id_string()));
        }
        Field::KeyAlgorithm => {
            text.push_str(algorithm(&certificate.public_key().algorithm.algorithm.to_id_string()));
        }
    }
    out.extend_from_slice(text.as_bytes());
    !text.is_empty()
}

/// OpenSSL's long names of what certificates are signed with and have as keys.
fn algorithm(oid: &str) -> &'static str {
    match oid {
        "1.2.840.113549.1.1.1" => "rsaEncryption",
        "1.2.840.113549.1.1.5" => "RSA-SHA1",
        "1.2.840.113549.1.1.10" => "RSASSA-PSS",
        "1.2.840.113549.1.1.11" => "RSA-SHA256",
        "1.2.840.113549.1.1.12" => "RSA-SHA384",
        "1.2.840.113549.1.1.13" => "RSA-SHA512",
        "1.2.840.10045.2.1" => "id-ecPublicKey",
        "1.2.840.10045.4.3.2" => "ecdsa-with-SHA256",
        "1.2.840.10045.4.3.3" => "ecdsa-with-SHA384",
        "1.2.840.10045.4.3.4" => "ecdsa-with-SHA512",
        "1.3.101.112" => "ED25519",
        _ => "unknown",
    }
}

/// Short names of attributes (RFC 4514 3), and what is common beside them.
fn attribute(oid: &str) -> &str {
    match oid {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.42" => "GN",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        other => other,
    }
}

fn name(dn: &X509Name<'_>, part: &Part<'_>, out: &mut String) {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in dn.iter_attributes() {
        let value = pair.as_str().map_or_else(|_| hex(pair.as_slice()), str::to_owned);
        pairs.push((attribute(&pair.attr_type().to_id_string()).to_owned(), value));
    }
    match part {
        Part::Attribute(wanted) => {
            let found = pairs.iter().find(|(key, _)| key.eq_ignore_ascii_case(wanted));
            out.extend(found.map(|(_, value)| value.as_str()));
        }
        Part::Whole => {
            for (key, value) in &pairs {
                // A slash or a line end in a value must not look like another attribute.
                let _ = write!(out, "/{key}={}", value.replace(['/', '\r', '\n'], "_"));
            }
        }
        Part::Rfc2253 => {
            for (at, (key, value)) in pairs.iter().rev().enumerate() {
                let _ = write!(out, "{}{key}={}", if at == 0 { "" } else { "," }, escaped(value));
            }
        }
    }
}

/// RFC 4514 2.4: characters that mean something are written with a backslash.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let at_edge = (at == 0 && matches!(c, ' ' | '#')) || (at == last && c == ' ');
        if c.is_control() {
            let _ = write!(out, "\\{:02X}", u32::from(c));
        } else {
            if at_edge || matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
                out.push('\\');
            }
            out.push(c);
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02X}");
        out
    })
}

fn short_date(time: ASN1Time, out: &mut String) {
    let t = time.to_datetime();
    let (month, year) = (u8::from(t.month()), t.year().rem_euclid(100));
    let _ =
        write!(out, "{year:02}{month:02}{:02}{:02}{:02}{:02}Z", t.day(), t.hour(), t.minute(), t.second());
}

fn iso_date(time: ASN1Time, out: &mut String) {
    let t = time.to_datetime();
    let (year, month) = (t.year(), u8::from(t.month()));
    let (h, m, s) = (t.hour(), t.minute(), t.second());
    let _ = write!(out, "{year:04}-{month:02}-{:02}T{h:02}:{m:02}:{s:02}Z", t.day());
}

/// OpenSSL's form: `Sep 13 21:20:24 2019 GMT`.
pub(super) fn long_date(time: ASN1Time) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let t = time.to_datetime();
    let month = MONTHS[usize::from(u8::from(t.month())) - 1];
    format!("{month} {:2} {:02}:{:02}:{:02} {} GMT", t.day(), t.hour(), t.minute(), t.second(), t.year())
}

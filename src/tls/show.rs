//! A certificate as `show ssl cert` and `dump ssl cert` print it, in HAProxy's words.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivateKeyDer;
use sha1::{Digest, Sha1};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::cert::Certificate;
use super::x509::{self, Field, Part};

/// Everything about a certificate. `users`: who shows it.
pub(super) fn text(file: &str, certificate: &Certificate, status: &str, users: &[String]) -> String {
    let mut out = format!("Filename: {file}\nStatus: {status}\n");
    let Some(first) = certificate.chain.first() else { return out };
    let Ok((_, x509)) = X509Certificate::from_der(first) else { return out };
    let serial = x509.raw_serial().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02X}");
        hex
    });
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(out, "{key}: {value}");
    };
    line("Serial", &serial);
    line("notBefore", &x509::long_date(x509.validity().not_before));
    line("notAfter", &x509::long_date(x509.validity().not_after));
    line("Issuer", &field(first, &Field::Issuer(Part::Whole)));
    line("Subject", &field(first, &Field::Subject(Part::Whole)));
    line("Subject Alternative Name", &alternative_names(&x509));
    line("Algorithm", &algorithm(&x509));
    let print = Sha1::digest(first).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02X}");
        hex
    });
    line("SHA1 FingerPrint", &print);
    for der in certificate.chain.iter().skip(1) {
        line("Chain Subject", &field(der, &Field::Subject(Part::Whole)));
        line("Chain Issuer", &field(der, &Field::Issuer(Part::Whole)));
    }
    match &certificate.ocsp {
        Some(ocsp) => line("OCSP Response", &format!("{} bytes", ocsp.len())),
        None => line("OCSP Response", "none"),
    }
    if !users.is_empty() {
        line("Used by", &users.join(", "));
    }
    out
}

fn field(der: &[u8], field: &Field<'_>) -> String {
    let mut out = Vec::new();
    x509::certificate_field(der, field, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn alternative_names(x509: &X509Certificate<'_>) -> String {
    let mut names = Vec::new();
    if let Ok(Some(extension)) = x509.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push(format!("DNS:{name}")),
                GeneralName::IPAddress(bytes) => {
                    let v4 = <[u8; 4]>::try_from(*bytes).map(|b| Ipv4Addr::from(b).to_string());
                    let v6 = <[u8; 16]>::try_from(*bytes).map(|b| Ipv6Addr::from(b).to_string());
                    names.extend(v4.or(v6).ok().map(|address| format!("IP Address:{address}")));
                }
                GeneralName::URI(uri) => names.push(format!("URI:{uri}")),
                GeneralName::RFC822Name(name) => names.push(format!("email:{name}")),
                _ => {}
            }
        }
    }
    names.join(", ")
}

/// HAProxy's form: the kind of the key and its bits.
fn algorithm(x509: &X509Certificate<'_>) -> String {
    match x509.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA{}", key.key_size()),
        Ok(PublicKey::EC(key)) => format!("EC{}", key.key_size()),
        _ => field(x509.as_ref(), &Field::KeyAlgorithm),
    }
}

/// The certificate, its chain and its key as PEM.
pub(super) fn pem(certificate: &Certificate) -> String {
    let mut out = String::new();
    for der in &certificate.chain {
        push_pem("CERTIFICATE", der, &mut out);
    }
    let key = certificate.key();
    let label = match &key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    push_pem(label, key.secret_der(), &mut out);
    out
}

fn push_pem(label: &str, der: &[u8], out: &mut String) {
    let text = STANDARD.encode(der);
    let _ = writeln!(out, "-----BEGIN {label}-----");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        let _ = writeln!(out, "{line}");
        rest = more;
    }
    let _ = writeln!(out, "-----END {label}-----");
}

//! `tls` of a bind and of a server: paths and choices. Files are not read here.

use std::path::PathBuf;

use super::layout::EMPTY;
use crate::config::file::Data;
use crate::config::keywords::Scope;
use crate::config::section::Section;
use crate::model::Mode;
use crate::model::tls::{BindTls, ClientAuth, ServerTls, TlsParameters, TlsVersion};

/// Suites by OpenSSL's names.
pub(crate) const SUITES: &[&str] = &[
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

/// Groups of the key exchange.
const CURVES: &[&str] = &["X25519MLKEM768", "X25519", "P-256", "P-384"];

/// Bytes of a protocol name in ALPN (RFC 7301 3.1).
const ALPN_BYTES_MAX: usize = 255;

/// What makes a bind a TLS bind.
pub(super) fn bind(bind: &Section<'_>, mode: Mode) -> Option<Box<BindTls>> {
    let table = bind.table("tls")?;
    let section = Section::new(bind.context, Scope::BindTls, bind.value_at("tls"), vec![table]);
    let certificates = paths(&section, "certificates");
    if certificates.is_empty() {
        let help = Some("add certificates = [\"/etc/shardgate/site.pem\"]".to_owned());
        section.context.error(bind.value_at("tls"), "this TLS bind has no certificate", help);
    }
    let default_alpn: &[&[u8]] = if mode == Mode::Http { &[b"h2", b"http/1.1"] } else { &[] };
    Some(Box::new(BindTls {
        certificates,
        parameters: parameters(&section, default_alpn),
        strict_sni: section.flag("strict-sni").unwrap_or(false),
        verify: client_auth(&section),
        ca_files: paths(&section, "ca-file"),
        crl_files: paths(&section, "crl-file"),
    }))
}

fn client_auth(section: &Section<'_>) -> ClientAuth {
    let verify = match section.string("verify").as_deref() {
        Some("optional") => ClientAuth::Optional,
        Some("required") => ClientAuth::Required,
        _ => ClientAuth::None,
    };
    if verify == ClientAuth::None {
        for key in ["ca-file", "crl-file"] {
            if section.value(key).is_some() {
                let help = Some("add verify = \"required\", or \"optional\"".to_owned());
                section.warning(
                    key,
                    format!("{key} has no effect: clients are not asked for a certificate"),
                    help,
                );
            }
        }
    } else if section.texts("ca-file").is_empty() {
        let help = Some("name the authorities: ca-file = \"clients.pem\"".to_owned());
        section.error("verify", "clients can only be verified with the authorities that sign for them", help);
    }
    verify
}

/// TLS with a server.
pub(super) fn server(server: &Section<'_>, mode: Mode) -> Option<Box<ServerTls>> {
    let table = match &server.value("tls")?.data {
        Data::Boolean(true) => &EMPTY,
        Data::Table(table) => table,
        _ => return None,
    };
    let section = Section::new(server.context, Scope::ServerTls, server.value_at("tls"), vec![table]);
    let is_h2 = server.string("proto").as_deref() == Some("h2");
    let default_alpn: &[&[u8]] = match mode {
        Mode::Http if is_h2 => &[b"h2"],
        Mode::Http => &[b"http/1.1"],
        Mode::Tcp => &[],
    };
    for (at, text) in section.texts("alpn") {
        if mode == Mode::Http && (text.text == "h2") != is_h2 {
            let help =
                "proto says what is spoken to the server, and alpn follows it: leave alpn out".to_owned();
            section.context.error(at, "this is not the protocol of proto", Some(help));
        }
    }
    let verify = section.string("verify").as_deref() != Some("none");
    Some(Box::new(ServerTls {
        parameters: parameters(&section, default_alpn),
        verify,
        ca_files: paths(&section, "ca-file"),
        sni: name(&section, "sni"),
        verify_host: name(&section, "verifyhost"),
        certificate: paths(&section, "certificate").pop(),
    }))
}

/// A host name or an IP address.
pub(super) fn name(section: &Section<'_>, key: &str) -> Option<String> {
    let name = section.string(key)?;
    let is_name = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
    if !is_name {
        section.error(key, format!("\"{name}\" is no host name"), None);
        return None;
    }
    Some(name.to_ascii_lowercase())
}

/// The paths of a keyword, relative ones below the directory of the configuration.
fn paths(section: &Section<'_>, key: &str) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for (at, text) in section.texts(key) {
        if text.text.is_empty() {
            section.context.error(at, format!("{key} has an empty path"), None);
        }
        paths.push(section.context.env.base.join(&text.text));
    }
    paths
}

fn parameters(section: &Section<'_>, default_alpn: &[&[u8]]) -> TlsParameters {
    let version = |key: &str| match section.string(key).as_deref() {
        Some("TLSv1.2") => Some(TlsVersion::V12),
        Some("TLSv1.3") => Some(TlsVersion::V13),
        _ => None,
    };
    let min_version = version("min-version").unwrap_or(TlsVersion::V12);
    let max_version = version("max-version").unwrap_or(TlsVersion::V13);
    if min_version > max_version {
        section.error("min-version", "min-version is above max-version: no version is left", None);
    }
    let suites = known(section, "cipher-suites", SUITES);
    let is_tls13 = |name: &String| name.starts_with("TLS_");
    for (version, name, wanted) in [(TlsVersion::V12, "TLSv1.2", false), (TlsVersion::V13, "TLSv1.3", true)] {
        let is_needed = min_version <= version && version <= max_version;
        if is_needed && !suites.is_empty() && !suites.iter().any(|s| is_tls13(s) == wanted) {
            let help = "name one, or leave the version out with min-version or max-version".to_owned();
            section.error("cipher-suites", format!("no suite of {name} is left"), Some(help));
        }
    }
    TlsParameters {
        min_version,
        max_version,
        suites,
        curves: known(section, "curves", CURVES),
        alpn: match section.value("alpn") {
            None => default_alpn.iter().map(|name| name.to_vec()).collect(),
            Some(_) => alpn(section),
        },
    }
}

fn alpn(section: &Section<'_>) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for (at, text) in section.texts("alpn") {
        let name = text.text.into_bytes();
        if name.is_empty() || name.len() > ALPN_BYTES_MAX {
            section.context.error(at, "a protocol of ALPN has 1 to 255 bytes", None);
        } else if names.contains(&name) {
            section.context.error(at, "this protocol is there twice", None);
        } else {
            names.push(name);
        }
    }
    names
}

/// Names out of a list.
fn known(section: &Section<'_>, key: &str, known: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    for (at, text) in section.texts(key) {
        match known.iter().find(|name| name.eq_ignore_ascii_case(&text.text)) {
            Some(name) if names.iter().any(|seen| seen == name) => {
                section.context.error(at, format!("{name} is there twice"), None);
            }
            Some(name) => names.push((*name).to_owned()),
            None => {
                let message = format!("unknown name \"{}\" in {key}", text.text);
                section.context.error(at, message, Some(format!("there are {}", known.join(", "))));
            }
        }
    }
    names
}

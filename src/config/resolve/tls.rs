//! `tls` of a bind and of a server: paths and choices. Files are not read here.

use std::path::PathBuf;

use super::language::Language;
use super::layout::EMPTY;
use crate::base::limits::TLS_SESSION_CACHE_DEFAULT;
use crate::config::expr::Context as Place;
use crate::config::file::{Data, Table};
use crate::config::keywords::Scope;
use crate::config::section::Section;
use crate::model::tls::{
    BindTls, ClientAuth, Handshake, Ignored, Listed, ServerTls, TlsParameters, TlsVersion, shown_name,
};
use crate::model::{Mode, SniExpression};
use crate::policy::sample::VariableTable;

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
    let default_alpn: &[&[u8]] = if mode == Mode::Http { &[b"h2", b"http/1.1"] } else { &[] };
    let certificates = certificates(&section, table, default_alpn);
    if certificates.is_empty() {
        let help = Some("add certificates = [\"/etc/shardgate/site.pem\"]".to_owned());
        section.context.error(bind.value_at("tls"), "this TLS bind has no certificate", help);
    }
    let bind = BindTls {
        certificates,
        handshake: handshake(&section, default_alpn),
        strict_sni: section.flag("strict-sni").unwrap_or(false),
        ticket_keys: ticket_keys(&section),
        no_tickets: section.flag("no-tls-tickets").unwrap_or(false),
        key_log: key_log(&section),
        ocsp_update: section.flag("ocsp-update").unwrap_or(false),
        session_cache: section.count("session-cache").unwrap_or(TLS_SESSION_CACHE_DEFAULT) as usize,
        early_data: section.flag("allow-0rtt").unwrap_or(false),
    };
    if bind.early_data {
        judge_early_data(&section, &bind, mode);
    }
    Some(Box::new(bind))
}

/// What comes before the end of a handshake may be a replay: only HTTP can tell what that does no harm to, and nobody is known yet.
fn judge_early_data(section: &Section<'_>, bind: &BindTls, mode: Mode) {
    let refuse = |message: &str, help: &str| section.error("allow-0rtt", message, Some(help.to_owned()));
    if mode == Mode::Tcp {
        refuse("in TCP mode nobody can tell whether a replay does harm", "leave it out");
    }
    if bind.handshakes().any(|handshake| handshake.verify != ClientAuth::None) {
        let help = "verify clients on a bind of its own";
        refuse("a client whose certificate is verified is not known before the end of its handshake", help);
    }
    if bind.handshakes().any(|handshake| handshake.parameters.max_version < TlsVersion::V13) {
        refuse("only TLS 1.3 has early data", "leave max-version out");
    }
    if bind.ticket_keys.is_some() {
        let help = "leave tls-ticket-keys out: each session is good for one connection to this process";
        refuse("a ticket that other machines take as well could be replayed there", help);
    }
}

fn key_log(section: &Section<'_>) -> Option<PathBuf> {
    let path = paths(section, "tls-keylog").pop()?;
    let help = "take it out again when you have seen enough".to_owned();
    let message = "whoever reads this file can decrypt the traffic of this bind";
    section.warning("tls-keylog", message, Some(help));
    Some(path)
}

fn ticket_keys(section: &Section<'_>) -> Option<PathBuf> {
    let path = paths(section, "tls-ticket-keys").pop();
    if path.is_some() && section.flag("no-tls-tickets") == Some(true) {
        let help = Some("leave one of them out".to_owned());
        section.error("tls-ticket-keys", "no-tls-tickets leaves nothing to do for keys of tickets", help);
    }
    path
}

fn handshake(section: &Section<'_>, default_alpn: &[&[u8]]) -> Handshake {
    Handshake {
        parameters: parameters(section, default_alpn),
        verify: client_auth(section),
        ca_files: paths(section, "ca-file"),
        ca_verify_files: paths(section, "ca-verify-file"),
        ignored: ignored(section, "crt-ignore-err"),
        ca_ignored: ignored(section, "ca-ignore-err"),
        crl_files: paths(section, "crl-file"),
    }
}

fn ignored(section: &Section<'_>, key: &str) -> Vec<Ignored> {
    const ALL: [Ignored; 4] =
        [Ignored::Expired, Ignored::NotYetValid, Ignored::Revoked, Ignored::UnknownIssuer];
    let of = |text: &str| match text {
        "all" => ALL.to_vec(),
        "expired" => vec![Ignored::Expired],
        "not-yet-valid" => vec![Ignored::NotYetValid],
        "revoked" => vec![Ignored::Revoked],
        _ => vec![Ignored::UnknownIssuer],
    };
    section.texts(key).iter().flat_map(|(_, text)| of(&text.text)).collect()
}

/// What an entry says of its file, where all else is a setting of connections.
const OF_THE_FILE: [&str; 5] = ["certificate", "key", "ocsp", "list", "names"];

/// The entries of `certificates`: strings, and tables that inherit from the bind.
fn certificates(section: &Section<'_>, bind: &Table, default_alpn: &[&[u8]]) -> Vec<Listed> {
    let Some(value) = section.value("certificates") else { return Vec::new() };
    let items = match &value.data {
        Data::Array(items) => items.as_slice(),
        _ => std::slice::from_ref(value),
    };
    let mut listed = Vec::new();
    for item in items {
        match &item.data {
            Data::String(_) => {
                let Some(text) = section.context.text(item) else { continue };
                if text.text.is_empty() {
                    section.context.error(item.span.start, "certificates has an empty path", None);
                }
                let path = section.context.env.base.join(&text.text);
                listed.push(Listed {
                    path,
                    key: None,
                    ocsp: None,
                    list: None,
                    names: Vec::new(),
                    settings: None,
                });
            }
            Data::Table(own) => {
                let layers = vec![own, bind];
                let entry = Section::new(section.context, Scope::BindCertificate, item.span.start, layers);
                let Some(path) = paths(&entry, "certificate").pop() else {
                    let help = Some("add certificate = \"site.pem\"".to_owned());
                    section.context.error(item.span.start, "this entry names no certificate", help);
                    continue;
                };
                let has_settings = own.entries.iter().any(|e| !OF_THE_FILE.contains(&e.key.as_str()));
                let settings = has_settings.then(|| Box::new(handshake(&entry, default_alpn)));
                listed.push(Listed {
                    path,
                    key: paths(&entry, "key").pop(),
                    ocsp: paths(&entry, "ocsp").pop(),
                    list: entry.string("list").map(PathBuf::from),
                    names: names(&entry),
                    settings,
                });
            }
            // Any other type was reported.
            _ => {}
        }
    }
    listed
}

/// Names that a certificate is shown for: lower case, wildcards of one label, `!` for those that it is not.
fn names(section: &Section<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for (at, text) in section.texts("names") {
        match shown_name(&text.text) {
            Some(name) => names.push(name),
            None => {
                let help = "write a host name, or one with * in place of its first label".to_owned();
                section.context.error(at, format!("\"{}\" is no name", text.text), Some(help));
            }
        }
    }
    names
}

fn client_auth(section: &Section<'_>) -> ClientAuth {
    let verify = match section.string("verify").as_deref() {
        Some("optional") => ClientAuth::Optional,
        Some("required") => ClientAuth::Required,
        _ => ClientAuth::None,
    };
    if verify == ClientAuth::None {
        for key in ["ca-file", "ca-verify-file", "crl-file", "crt-ignore-err", "ca-ignore-err"] {
            if section.value(key).is_some() {
                let help = Some("add verify = \"required\", or \"optional\"".to_owned());
                section.warning(
                    key,
                    format!("{key} has no effect: clients are not asked for a certificate"),
                    help,
                );
            }
        }
    } else if section.texts("ca-file").is_empty() && section.texts("ca-verify-file").is_empty() {
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
    Some(Box::new(with_peer(&section, default_alpn)))
}

/// TLS with a peer that speaks HTTP/1 and is no server of a backend: its settings stand in the table `key`.
pub(super) fn peer(owner: &Section<'_>, key: &str) -> Box<ServerTls> {
    let table = owner.table(key).unwrap_or(&EMPTY);
    let section = Section::new(owner.context, Scope::ServerTls, owner.value_at(key), vec![table]);
    if section.text("sni").is_some_and(|text| is_expression(&text.text)) {
        section.error("sni", "there is no connection of a client that this expression could read", None);
    }
    Box::new(with_peer(&section, &[b"http/1.1"]))
}

fn with_peer(section: &Section<'_>, default_alpn: &[&[u8]]) -> ServerTls {
    ServerTls {
        parameters: parameters(section, default_alpn),
        verify: section.string("verify").as_deref() != Some("none"),
        ca_files: paths(section, "ca-file"),
        sni: section.text("sni").filter(|text| !is_expression(&text.text)).and_then(|_| name(section, "sni")),
        verify_host: name(section, "verifyhost"),
        certificate: paths(section, "certificate").pop(),
        no_reuse: section.flag("no-ssl-reuse").unwrap_or(false),
    }
}

/// Whether the text of `sni` is an expression: names have neither arguments nor, without a dot, underscores.
fn is_expression(text: &str) -> bool {
    text.contains(['(', ',']) || (text.contains('_') && !text.contains('.'))
}

/// The expression that says whom a server is asked for.
pub(super) fn sni_expression(
    server: &Section<'_>,
    mode: Mode,
    language: &Language<'_>,
    variables: &mut VariableTable,
) -> Option<SniExpression> {
    let Data::Table(table) = &server.value("tls")?.data else { return None };
    let section = Section::new(server.context, Scope::ServerTls, server.value_at("tls"), vec![table]);
    let text = section.text("sni").filter(|text| is_expression(&text.text))?;
    // In HTTP mode the request is rewritten and may be on its second attempt by then.
    let place = if mode == Mode::Http { Place::Connection } else { Place::Content };
    let expression = language.expression(&text, 0, place, variables)?;
    Some(SniExpression { expression, per_request: text.text.contains("var(") })
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
    // Policies of other years will differ in suites too; those of 2026 take all that there are of their versions.
    let is_modern = section.string("cipher-policy").is_some_and(|policy| policy.starts_with("modern"));
    let lowest = if is_modern { TlsVersion::V13 } else { TlsVersion::V12 };
    let min_version = version("min-version").unwrap_or(lowest);
    let max_version = version("max-version").unwrap_or(TlsVersion::V13);
    if min_version > max_version {
        section.error("min-version", "min-version is above max-version: no version is left", None);
    }
    if is_modern && min_version < TlsVersion::V13 {
        let help = Some("leave min-version out".to_owned());
        section.error("min-version", "cipher-policy modern is TLS 1.3 alone", help);
    }
    if section.value("cipher-policy").is_some() && section.value("cipher-suites").is_some() {
        let help = Some("leave one of them out".to_owned());
        section.error("cipher-suites", "cipher-policy and cipher-suites both name the suites", help);
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

//! TLS as it is configured: paths and choices. What is in the files is read and judged by the `tls` layer.

use std::path::PathBuf;

/// A version of TLS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V12,
    /// TLS 1.3 (RFC 8446).
    V13,
}

/// What both sides may be told of versions and ciphers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TlsParameters {
    /// Lowest version (`min-version`).
    pub min_version: TlsVersion,
    /// Highest version (`max-version`).
    pub max_version: TlsVersion,
    /// Suites of TLS 1.2 and 1.3 by OpenSSL's names, in order of preference (`cipher-suites`); empty: all.
    pub suites: Vec<String>,
    /// Groups of the key exchange, in order of preference (`curves`); empty: the default.
    pub curves: Vec<String>,
    /// Protocols for ALPN, in order of preference (`alpn`); empty: ALPN is not spoken.
    pub alpn: Vec<Vec<u8>>,
}

/// `verify`: whether clients show a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// They are asked, and may have none.
    Optional,
    /// Without one there is no connection.
    Required,
}

/// What may be wrong with the certificate of a client that is let through all the same (`crt-ignore-err`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ignored {
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// Its authority took it back.
    Revoked,
    /// No authority that is trusted signed it.
    UnknownIssuer,
}

/// An entry of `certificates`: what is shown, to whom, and with which settings.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Listed {
    /// A file, or a directory of files.
    pub path: PathBuf,
    /// Its key, where that stands neither in the file nor beside it (`key`).
    pub key: Option<PathBuf>,
    /// The OCSP response to staple, where that does not stand beside it (`ocsp`).
    pub ocsp: Option<PathBuf>,
    /// The crt-list that commands know it by (`list`); `None`: its path.
    pub list: Option<PathBuf>,
    /// Names that it is shown for, and with `!` in front those that it is not; `*`: all that nothing else is shown for. Without
    /// any of the first kind: those that stand in the certificate.
    pub names: Vec<String>,
    /// Settings of connections to these names; `None`: those of the bind.
    pub settings: Option<Box<Handshake>>,
}

/// How clients shake hands.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Handshake {
    /// Versions, suites, groups, ALPN.
    pub parameters: TlsParameters,
    /// Whether clients show a certificate (`verify`).
    pub verify: ClientAuth,
    /// Authorities that sign certificates of clients (`ca-file`).
    pub ca_files: Vec<PathBuf>,
    /// Authorities that sign them too, and that clients are not told of (`ca-verify-file`).
    pub ca_verify_files: Vec<PathBuf>,
    /// What may be wrong with a certificate, for rules to judge (`crt-ignore-err`).
    pub ignored: Vec<Ignored>,
    /// What may be wrong with those above it in its chain (`ca-ignore-err`).
    pub ca_ignored: Vec<Ignored>,
    /// Certificates that are revoked (`crl-file`); empty: it is not looked at.
    pub crl_files: Vec<PathBuf>,
}

/// `bind ... tls`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BindTls {
    /// Files and directories with certificates and keys (`certificates`). The first is the default.
    pub certificates: Vec<Listed>,
    /// How clients shake hands, unless their name has settings of its own.
    pub handshake: Handshake,
    /// Refuse names without a certificate (`strict-sni`) instead of showing the default.
    pub strict_sni: bool,
    /// Keys of session tickets (`tls-ticket-keys`); `None`: those of the process, which change by themselves.
    pub ticket_keys: Option<PathBuf>,
    /// No session tickets (`no-tls-tickets`).
    pub no_tickets: bool,
    /// Sessions that each core keeps for clients without tickets (`session-cache`).
    pub session_cache: usize,
    /// Whether clients may send requests before the end of a resumed handshake (`allow-0rtt`).
    pub early_data: bool,
    /// Whether OCSP responses are fetched (`ocsp-update`).
    pub ocsp_update: bool,
    /// Where secrets of connections are written (`tls-keylog`).
    pub key_log: Option<PathBuf>,
}

impl Handshake {
    /// All files of authorities.
    pub fn authorities(&self) -> Vec<PathBuf> {
        [&self.ca_files[..], &self.ca_verify_files].concat()
    }
}

impl BindTls {
    /// All settings of handshakes: of the bind, then those that names have.
    pub fn handshakes(&self) -> impl Iterator<Item = &Handshake> {
        let of_names = self.certificates.iter().filter_map(|listed| listed.settings.as_deref());
        std::iter::once(&self.handshake).chain(of_names)
    }
}

/// `tls` of a server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ServerTls {
    /// Versions, suites, groups, ALPN.
    pub parameters: TlsParameters,
    /// Whether the server's certificate is verified (`verify`).
    pub verify: bool,
    /// Authorities that sign it (`ca-file`); empty: those of the system.
    pub ca_files: Vec<PathBuf>,
    /// The name that it is asked for (`sni`); `None`: none is sent unless it is the server's own name.
    pub sni: Option<String>,
    /// The name that its certificate must have (`verifyhost`); the one that it is asked for unless set.
    pub verify_host: Option<String>,
    /// The certificate with its key that is shown to it (`certificate`).
    pub certificate: Option<PathBuf>,
    /// Every connection begins with a full handshake (`no-ssl-reuse`).
    pub no_reuse: bool,
}

/// A name as `names` and crt-lists have it, lower case: a host, `*.` in place of its first label, `!` in front of both, or `*`
/// alone; `None`: it is none.
pub fn shown_name(text: &str) -> Option<String> {
    if text == "*" {
        return Some(text.to_owned());
    }
    let name = text.strip_prefix('!').unwrap_or(text);
    let host = name.strip_prefix("*.").unwrap_or(name);
    let is_name = !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    is_name.then(|| text.to_ascii_lowercase())
}

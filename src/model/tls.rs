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

/// `ciphers`: a policy by its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CipherPolicy {
    /// TLS 1.3 alone.
    Modern,
    /// TLS 1.2 with forward secrecy and authenticated encryption too.
    Intermediate,
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

/// `bind ... tls`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BindTls {
    /// Files and directories with certificates and keys (`certificates`). The first is the default.
    pub certificates: Vec<PathBuf>,
    /// Versions, suites, groups, ALPN.
    pub parameters: TlsParameters,
    /// Refuse names without a certificate (`strict-sni`) instead of showing the default.
    pub strict_sni: bool,
    /// Whether clients show a certificate (`verify`).
    pub verify: ClientAuth,
    /// Authorities that sign certificates of clients (`ca-file`).
    pub ca_files: Vec<PathBuf>,
    /// Certificates that are revoked (`crl-file`); empty: it is not looked at.
    pub crl_files: Vec<PathBuf>,
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
}

//! The fetches of the client's TLS connection: what is asked. The data plane knows the answers.

use crate::policy::sample::Kind;

/// What is asked of the TLS connection of the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsFetch {
    /// `ssl_fc_protocol`.
    Protocol,
    /// `ssl_fc_cipher`.
    Cipher,
    /// `ssl_fc_curve`.
    Curve,
    /// `ssl_fc_sni`.
    Sni,
    /// `ssl_fc_alpn`.
    Alpn,
    /// `ssl_fc_is_resumed`.
    IsResumed,
    /// `ssl_fc_has_early`: whether what came so far may be a replay.
    HasEarly,
    /// `ssl_c_used` and `ssl_fc_has_crt`: whether the client showed a certificate.
    HasCertificate,
    /// `ssl_c_verify`: what is wrong with the client's certificate, or with those above it.
    Verify,
    /// `ssl_c_err`: what is wrong with its own.
    OwnError,
    /// `ssl_c_ca_err`: what is wrong with those above it.
    AuthorityError,
    /// `ssl_c_ca_err_depth`: how far above.
    AuthorityErrorDepth,
    /// `ssl_fc_err`: 0 on every connection with TLS.
    NoError,
    /// `ssl_c_s_dn`.
    Subject(DnPart),
    /// `ssl_c_i_dn`.
    Issuer(DnPart),
    /// `ssl_c_notbefore`; true: as an ISO date.
    NotBefore(bool),
    /// `ssl_c_notafter`; true: as an ISO date.
    NotAfter(bool),
    /// `ssl_c_serial`.
    Serial,
    /// `ssl_c_version`.
    Version,
    /// `ssl_c_sig_alg`.
    SignatureAlgorithm,
    /// `ssl_c_key_alg`.
    KeyAlgorithm,
    /// `ssl_c_der`.
    Der,
    /// `ssl_c_chain_der`.
    ChainDer,
    /// `ssl_c_sha1`.
    Sha1,
    /// `ssl_c_sha256`.
    Sha256,
    /// `ssl_f_*`: one of the fields above, of the certificate that the client was shown.
    Shown(Box<TlsFetch>),
}

/// Which part of a distinguished name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DnPart {
    /// All of it: `/C=FR/CN=name`.
    Whole,
    /// All of it in the order of RFC 2253: `CN=name,C=FR`.
    Rfc2253,
    /// The first value of an attribute.
    Attribute(Box<str>),
}

/// An answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsAnswer {
    /// Yes or no.
    Bool(bool),
    /// A number.
    Int(i64),
    /// Bytes that were appended to the buffer, of this kind.
    Written(Kind),
}

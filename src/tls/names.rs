//! Names of suites, groups and versions as operators write and read them: OpenSSL's, as HAProxy has them, beside IANA's.

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::{cipher_suite as suite, kx_group as group};
use rustls::{CipherSuite, NamedGroup, SupportedCipherSuite};

/// Every suite there is, strongest first: what is shown, what may be configured, what it is.
pub(super) static SUITES: &[(&str, SupportedCipherSuite)] = &[
    ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", suite::TLS13_CHACHA20_POLY1305_SHA256),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-AES128-GCM-SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES256-GCM-SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Every group there is.
pub(super) static GROUPS: &[(&str, &dyn SupportedKxGroup)] = &[
    ("X25519", group::X25519),
    ("X25519MLKEM768", group::X25519MLKEM768),
    ("P-256", group::SECP256R1),
    ("P-384", group::SECP384R1),
];

/// The suite as OpenSSL calls it.
pub(super) fn openssl_name(id: CipherSuite) -> &'static str {
    SUITES.iter().find(|(_, suite)| suite.suite() == id).map_or("unknown", |(name, _)| name)
}

/// The group as OpenSSL calls it.
pub(super) fn group_name(id: NamedGroup) -> Option<&'static str> {
    GROUPS.iter().find(|(_, group)| group.name() == id).map(|(name, _)| *name)
}

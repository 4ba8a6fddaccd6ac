//! What a handshake agreed on and what it proved: facts of a connection that outlive it. Read by rules, logs and pools.

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{CommonState, HandshakeKind, NamedGroup, ProtocolVersion, SupportedCipherSuite};

use super::lenient::Found;
use super::x509::{self, Field};
use crate::base::limits::TLS_FIELDS_KNOWN_MAX;

/// Whose certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// The peer's.
    Peer,
    /// The one that it was shown.
    Ours,
}

/// What was read of a certificate: the requests of a connection ask for the same again and again.
#[derive(Clone, Debug)]
struct Known {
    whose: Whose,
    kind: u8,
    attribute: Box<str>,
    /// `None`: there is no such thing.
    value: Option<Box<[u8]>>,
}

/// Facts of a TLS connection.
#[derive(Clone, Debug)]
pub struct Facts {
    version: ProtocolVersion,
    suite: SupportedCipherSuite,
    group: Option<NamedGroup>,
    alpn: Option<Box<[u8]>>,
    sni: Option<Box<str>>,
    resumed: bool,
    chain: Box<[CertificateDer<'static>]>,
    /// What the client was shown; each core has its own, so that no count of references is shared.
    shown: Option<Arc<CertifiedKey>>,
    /// What is wrong with the peer's certificate.
    problem: Found,
    /// The client has not finished its handshake.
    early: Cell<bool>,
    known: RefCell<Vec<Known>>,
    forwarded: OnceCell<Box<[u8]>>,
}

impl Facts {
    /// Reads them off a handshake that is over; `None` if it is not.
    pub(super) fn of(
        state: &CommonState,
        sni: Option<&str>,
        (shown, problem): (Option<Arc<CertifiedKey>>, Found),
    ) -> Option<Facts> {
        Some(Facts {
            version: state.protocol_version()?,
            suite: state.negotiated_cipher_suite()?,
            group: state.negotiated_key_exchange_group().map(|group| group.name()),
            alpn: state.alpn_protocol().map(Into::into),
            sni: sni.map(Into::into),
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
            chain: state.peer_certificates().unwrap_or_default().into(),
            shown,
            problem,
            early: Cell::new(state.is_handshaking()),
            known: RefCell::default(),
            forwarded: OnceCell::new(),
        })
    }

    /// The protocol that ALPN chose (`ssl_fc_alpn`): `b"h2"`, `b"http/1.1"`; `None`: none was.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// The host name that the client asked for (`ssl_fc_sni`).
    pub fn sni(&self) -> Option<&str> {
        self.sni.as_deref()
    }

    /// Whether a former session was resumed (`ssl_fc_is_resumed`).
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Whether the version is TLS 1.3; otherwise it is TLS 1.2.
    pub fn is_tls13(&self) -> bool {
        self.version == ProtocolVersion::TLSv1_3
    }

    /// Whether what came so far came before the client finished its handshake, and may be the replay of what another sent.
    pub fn is_early(&self) -> bool {
        self.early.get()
    }

    pub(super) fn shake(&self, early: bool) {
        if self.early.get() {
            self.early.set(early);
        }
    }

    /// The version as OpenSSL calls it (`ssl_fc_protocol`).
    pub fn protocol(&self) -> &'static str {
        if self.is_tls13() { "TLSv1.3" } else { "TLSv1.2" }
    }

    /// The cipher suite as OpenSSL calls it (`ssl_fc_cipher`).
    pub fn cipher(&self) -> &'static str {
        super::names::openssl_name(self.suite.suite())
    }

    /// The group of the key exchange (`ssl_fc_curve`); `None` where a session was resumed without one.
    pub fn curve(&self) -> Option<&'static str> {
        super::names::group_name(self.group?)
    }

    /// The certificate of the peer and those it sent with it; empty: it sent none.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// What is wrong with the certificate of a client that was let through.
    pub fn problem(&self) -> Found {
        self.problem
    }

    /// The certificate that the client was shown, and its chain; `None`: we are the client.
    pub fn shown(&self) -> Option<&[CertificateDer<'static>]> {
        self.shown.as_deref().map(|key| key.cert.as_slice())
    }

    /// Appends a field of a certificate to `out`. False: it has none, or there is no certificate. It is parsed for the first
    /// request that asks.
    pub fn certificate(&self, whose: Whose, field: &Field<'_>, out: &mut Vec<u8>) -> bool {
        let mut known = self.known.borrow_mut();
        let (kind, attribute) = field.key();
        let is_it = |known: &&Known| {
            known.whose == whose && known.kind == kind && known.attribute.eq_ignore_ascii_case(attribute)
        };
        if let Some(Known { value, .. }) = known.iter().find(is_it) {
            out.extend_from_slice(value.as_deref().unwrap_or_default());
            return value.is_some();
        }
        let chain = match whose {
            Whose::Peer => self.chain(),
            Whose::Ours => self.shown().unwrap_or_default(),
        };
        let Some(first) = chain.first() else { return false };
        let start = out.len();
        let is_there = x509::certificate_field(first, field, out);
        if known.len() < TLS_FIELDS_KNOWN_MAX {
            let value = is_there.then(|| out[start..].into());
            known.push(Known { whose, kind, attribute: attribute.into(), value });
        }
        is_there
    }

    /// What servers are told of the peer, as `make` writes it for the first request.
    pub fn forwarded(&self, make: impl FnOnce(&Facts) -> Vec<u8>) -> &[u8] {
        self.forwarded.get_or_init(|| make(self).into())
    }
}

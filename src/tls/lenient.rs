//! Certificates of clients that are let through although something is wrong with them (`crt-ignore-err`), or with those above them
//! (`ca-ignore-err`): rules read what it is and decide. One error does not hide another: what is let through is good but for what
//! is ignored. Used by `server` and `handshake`.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DistinguishedName, Error};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::signatures::checks_signatures;
use super::trust::Revoked;
use crate::base::limits::TLS_CHAIN_MAX;
use crate::model::tls::{Handshake, Ignored};

/// OpenSSL's numbers, which HAProxy's rules and logs have.
const BAD_SIGNATURE: u8 = 7;
const NOT_YET_VALID: u8 = 9;
const EXPIRED: u8 = 10;
const SELF_SIGNED: u8 = 18;
const SELF_SIGNED_IN_CHAIN: u8 = 19;
const UNKNOWN_ISSUER: u8 = 20;
const REVOKED: u8 = 23;

/// What is wrong with a client that was let through, by OpenSSL's numbers; 0: nothing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Found {
    /// The gravest of all (`ssl_c_verify`).
    pub worst: u8,
    /// Of its own certificate (`ssl_c_err`).
    pub own: u8,
    /// Of those above it (`ssl_c_ca_err`).
    pub authority: u8,
    /// Which of those, 1 being the one that signed its own (`ssl_c_ca_err_depth`).
    pub depth: u8,
}

impl Found {
    /// A rule that forgives what is over does not mean what nobody vouches for: what is noted last is the graver one.
    fn note(&mut self, depth: usize, number: u8) {
        self.worst = number;
        if depth == 0 {
            self.own = number;
        } else {
            self.authority = number;
            self.depth = u8::try_from(depth).unwrap_or(u8::MAX);
        }
    }
}

thread_local! {
    /// What was wrong with the certificate that was verified last on this core: rustls does not carry it.
    static FOUND: Cell<Option<Found>> = const { Cell::new(None) };
}

/// What was wrong with the certificate that was verified just now; `None`: none was.
pub(super) fn take_found() -> Option<Found> {
    FOUND.take()
}

/// Verifies clients, and lets some through.
#[derive(Debug)]
pub(super) struct Lenient {
    strict: Arc<dyn ClientCertVerifier>,
    /// The same without lists of revoked certificates.
    unrevoked: Arc<dyn ClientCertVerifier>,
    lists: Revoked,
    provider: Arc<CryptoProvider>,
    /// Of the client's own certificate, and of those above it.
    ignored: [Vec<Ignored>; 2],
}

impl Lenient {
    pub(super) fn new(
        (strict, unrevoked): (Arc<dyn ClientCertVerifier>, Arc<dyn ClientCertVerifier>),
        lists: Revoked,
        handshake: &Handshake,
        provider: &Arc<CryptoProvider>,
    ) -> Lenient {
        let ignored = [handshake.ignored.clone(), handshake.ca_ignored.clone()];
        Lenient { strict, unrevoked, lists, provider: provider.clone(), ignored }
    }

    /// What is wrong with a certificate.
    ///
    /// # Errors
    /// What is wrong and not ignored.
    pub(super) fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Found, Error> {
        let (own, rest) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let Err(error) = self.strict.verify_client_cert(own, rest, now) else { return Ok(Found::default()) };
        let path = path(chain);
        if path.is_empty() {
            return Err(error);
        }
        let mut found = Found::default();
        let within = self.time(&path, now, &mut found)?;
        let Err(error) = self.strict.verify_client_cert(own, rest, within) else { return Ok(found) };
        let error = if is(&error, &CertificateError::Revoked) {
            self.revocations(&path, &mut found, error)?;
            let Err(error) = self.unrevoked.verify_client_cert(own, rest, within) else { return Ok(found) };
            error
        } else {
            error
        };
        // Nobody vouches for anything in it; what else could be wrong with it is as good as nothing.
        let top = path.len() - 1;
        let number = match top {
            // An authority of the same name did not sign it.
            _ if is(&error, &CertificateError::BadSignature) => BAD_SIGNATURE,
            _ if !is(&error, &CertificateError::UnknownIssuer) => return Err(error),
            0 if is_self_signed(&path[0]) => SELF_SIGNED,
            _ if is_self_signed(&path[top]) => SELF_SIGNED_IN_CHAIN,
            _ => UNKNOWN_ISSUER,
        };
        self.may_ignore(top, Ignored::UnknownIssuer).then_some(()).ok_or(error)?;
        found.note(top, number);
        Ok(found)
    }

    fn may_ignore(&self, depth: usize, problem: Ignored) -> bool {
        self.ignored[depth.min(1)].contains(&problem)
    }

    /// A time at which all that is ignored for its time is valid: verification ends with the first error that it finds, and others
    /// are looked for past this one.
    fn time(
        &self,
        path: &[X509Certificate<'_>],
        now: UnixTime,
        found: &mut Found,
    ) -> Result<UnixTime, Error> {
        let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let (mut from, mut until) = (i64::MIN, i64::MAX);
        for (depth, certificate) in path.iter().enumerate().rev() {
            let validity = certificate.validity();
            let (begin, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
            let (problem, number, error) = match now_s {
                _ if now_s < begin => (Ignored::NotYetValid, NOT_YET_VALID, CertificateError::NotValidYet),
                _ if now_s > end => (Ignored::Expired, EXPIRED, CertificateError::Expired),
                _ => continue,
            };
            if !self.may_ignore(depth, problem) {
                return Err(error.into());
            }
            found.note(depth, number);
            (from, until) = (from.max(begin), until.min(end));
        }
        if from > until {
            // They were never valid together, and nothing more can be said of them.
            return Err(CertificateError::Expired.into());
        }
        let at = u64::try_from(now_s.clamp(from, until));
        Ok(at.map_or(now, |at| UnixTime::since_unix_epoch(Duration::from_secs(at))))
    }

    /// Finds what is revoked, once verification says that something is.
    fn revocations(
        &self,
        path: &[X509Certificate<'_>],
        found: &mut Found,
        error: Error,
    ) -> Result<(), Error> {
        let mut any = false;
        for (depth, certificate) in path.iter().enumerate().rev() {
            let is_listed = self.lists.iter().any(|list| {
                let Ok((_, list)) = CertificateRevocationList::from_der(list) else { return false };
                let has = |serial: &[u8]| serial == certificate.raw_serial();
                list.issuer().as_raw() == certificate.issuer().as_raw()
                    && list.iter_revoked_certificates().any(|revoked| has(revoked.raw_serial()))
            });
            if !is_listed {
                continue;
            }
            if !self.may_ignore(depth, Ignored::Revoked) {
                return Err(error);
            }
            found.note(depth, REVOKED);
            any = true;
        }
        any.then_some(()).ok_or(error)
    }
}

/// Whether it is this one, without what it carries.
fn is(error: &Error, wanted: &CertificateError) -> bool {
    matches!(error, Error::InvalidCertificate(error) if error == wanted)
}

/// A certificate and those of its chain that stand above it, by their names; empty: they cannot be parsed.
fn path<'a>(chain: &'a [CertificateDer<'_>]) -> Vec<X509Certificate<'a>> {
    let parse = |der: &'a CertificateDer<'_>| X509Certificate::from_der(der).ok().map(|(_, x509)| x509);
    let mut rest: Vec<X509Certificate<'a>> = chain.iter().skip(1).filter_map(parse).collect();
    let Some(own) = chain.first().and_then(parse) else { return Vec::new() };
    let mut path = vec![own];
    while path.len() < TLS_CHAIN_MAX {
        let last = &path[path.len() - 1];
        let is_issuer = |x509: &X509Certificate<'_>| x509.subject().as_raw() == last.issuer().as_raw();
        if is_self_signed(last) {
            break;
        }
        let Some(at) = rest.iter().position(is_issuer) else { break };
        path.push(rest.swap_remove(at));
    }
    path
}

fn is_self_signed(x509: &X509Certificate<'_>) -> bool {
    x509.issuer().as_raw() == x509.subject().as_raw()
}

impl ClientCertVerifier for Lenient {
    fn offer_client_auth(&self) -> bool {
        self.strict.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.strict.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.strict.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(own).chain(intermediates).cloned().collect();
        FOUND.set(Some(self.judge(&chain, now)?));
        Ok(ClientCertVerified::assertion())
    }

    checks_signatures!();
}

//! Certificates of clients that are let through although something is wrong with them (`crt-ignore-err`): rules read what it is
//! and decide. One error does not hide another: what is let through is good but for what is ignored. Used by `server` and `handshake`.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::model::tls::Ignored;

/// OpenSSL's numbers, which HAProxy's rules and logs have.
const BAD_SIGNATURE: u8 = 7;
const NOT_YET_VALID: u8 = 9;
const EXPIRED: u8 = 10;
const SELF_SIGNED: u8 = 18;
const UNKNOWN_ISSUER: u8 = 20;
const REVOKED: u8 = 23;

thread_local! {
    /// What was wrong with the certificate that was verified last on this core: rustls does not carry it.
    static FOUND: Cell<u8> = const { Cell::new(0) };
}

/// What was wrong with the certificate that was verified just now; 0: nothing.
pub(super) fn take_found() -> u8 {
    FOUND.take()
}

/// Verifies clients, and lets some through.
#[derive(Debug)]
pub(super) struct Lenient {
    strict: Arc<dyn ClientCertVerifier>,
    /// The same without lists of revoked certificates.
    unrevoked: Arc<dyn ClientCertVerifier>,
    ignored: Vec<Ignored>,
}

impl Lenient {
    pub(super) fn new(
        strict: Arc<dyn ClientCertVerifier>,
        unrevoked: Arc<dyn ClientCertVerifier>,
        ignored: &[Ignored],
    ) -> Lenient {
        Lenient { strict, unrevoked, ignored: ignored.to_vec() }
    }

    /// What is wrong with a certificate, by OpenSSL's number; 0: nothing.
    ///
    /// # Errors
    /// What is wrong and not ignored.
    pub(super) fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<u8, Error> {
        let (own, rest) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let Err(error) = self.strict.verify_client_cert(own, rest, now) else { return Ok(0) };
        let (problem, number) = self.ignorable(&error, own).ok_or(error)?;
        // Verification ends with the first error that it finds: look past this one for others.
        let looked = match problem {
            // Nobody vouches for anything in it; what else could be wrong with it is as good as nothing.
            Ignored::UnknownIssuer => Ok(ClientCertVerified::assertion()),
            Ignored::Revoked => self.unrevoked.verify_client_cert(own, rest, now),
            Ignored::Expired | Ignored::NotYetValid => {
                self.strict.verify_client_cert(own, rest, within(own, now))
            }
        };
        let Err(second) = looked else { return Ok(number) };
        let (other, second) =
            self.ignorable(&second, own).filter(|(other, _)| *other != problem).ok_or(second)?;
        // The graver one is told: a rule that forgives what is over does not mean what nobody vouches for.
        match (problem, other) {
            (_, Ignored::UnknownIssuer) => Ok(second),
            (Ignored::Revoked, _) => {
                self.unrevoked.verify_client_cert(own, rest, within(own, now)).map(|_| number)
            }
            _ => self.unrevoked.verify_client_cert(own, rest, within(own, now)).map(|_| second),
        }
    }

    /// Which error it is, if it is one that is ignored, and its number.
    fn ignorable(&self, error: &Error, own: &CertificateDer<'_>) -> Option<(Ignored, u8)> {
        use CertificateError as E;
        let Error::InvalidCertificate(error) = error else { return None };
        let found = match error {
            E::Expired | E::ExpiredContext { .. } => (Ignored::Expired, EXPIRED),
            E::NotValidYet | E::NotValidYetContext { .. } => (Ignored::NotYetValid, NOT_YET_VALID),
            E::Revoked => (Ignored::Revoked, REVOKED),
            E::UnknownIssuer if is_self_signed(own) => (Ignored::UnknownIssuer, SELF_SIGNED),
            // An authority of the same name did not sign it.
            E::BadSignature => (Ignored::UnknownIssuer, BAD_SIGNATURE),
            E::UnknownIssuer => (Ignored::UnknownIssuer, UNKNOWN_ISSUER),
            _ => return None,
        };
        self.ignored.contains(&found.0).then_some(found)
    }
}

/// A time at which the certificate is valid; `now` if there is none.
fn within(own: &CertificateDer<'_>, now: UnixTime) -> UnixTime {
    let Ok((_, x509)) = X509Certificate::from_der(own) else { return now };
    let (from, until) = (x509.validity().not_before.timestamp(), x509.validity().not_after.timestamp());
    let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let at = now_s.min(until).max(from);
    u64::try_from(at).map_or(now, |at| UnixTime::since_unix_epoch(Duration::from_secs(at)))
}

fn is_self_signed(own: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(own).is_ok_and(|(_, x509)| x509.issuer().as_raw() == x509.subject().as_raw())
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
        FOUND.set(self.judge(&chain, now)?);
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}

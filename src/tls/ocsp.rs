//! OCSP (RFC 6960): the question whether a certificate is revoked, and the authority's signed answer, which a server staples to
//! its certificate. Bytes in, bytes out; fetching is the control core's business.

use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, VerificationAlgorithm,
};
use rustls::pki_types::CertificateDer;
use sha1::{Digest, Sha1};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

/// SHA-1 as it names issuers: nothing rests on its strength here (RFC 6960 4.3).
const SHA1: &[u8] = &[0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a];

/// What to ask, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The responder: `http://...`.
    pub url: String,
    /// The request.
    pub request: Vec<u8>,
}

/// Why an answer is of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OcspError {
    /// It is no OCSP response.
    Malformed,
    /// The responder has none, or none for us.
    Unsuccessful,
    /// It is about another certificate.
    AnotherCertificate,
    /// The certificate is revoked.
    Revoked,
    /// The responder does not know the certificate.
    Unknown,
    /// Neither the issuer signed it nor somebody whom it lets.
    BadSignature,
    /// It has ended already.
    Expired,
}

impl std::fmt::Display for OcspError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            OcspError::Malformed => "this is no OCSP response",
            OcspError::Unsuccessful => "the responder has no answer",
            OcspError::AnotherCertificate => "the response is about another certificate",
            OcspError::Revoked => "the certificate is revoked; replace it",
            OcspError::Unknown => "the responder does not know the certificate",
            OcspError::BadSignature => "the response is not signed by the certificate's issuer",
            OcspError::Expired => "the response has ended",
        })
    }
}

/// What is asked about the first certificate of a chain; `None`: its authority names no responder, or is not in the chain.
pub fn question(chain: &[CertificateDer<'_>]) -> Option<Question> {
    let (_, own) = X509Certificate::from_der(chain.first()?).ok()?;
    let (_, issuer) = X509Certificate::from_der(chain.get(1)?).ok()?;
    let mut hash = Vec::new();
    push(0x30, &[SHA1, &[0x05, 0x00]].concat(), &mut hash);
    push(0x04, &Sha1::digest(own.issuer().as_raw()), &mut hash);
    push(0x04, &Sha1::digest(&issuer.public_key().subject_public_key.data), &mut hash);
    push(0x02, own.raw_serial(), &mut hash);
    // CertID, Request, requestList, TBSRequest, OCSPRequest.
    let mut request = hash;
    for _ in 0..5 {
        let inner = std::mem::take(&mut request);
        push(0x30, &inner, &mut request);
    }
    Some(Question { url: responder(&own)?, request })
}

/// The responder that a certificate names.
fn responder(own: &X509Certificate<'_>) -> Option<String> {
    const OCSP: &str = "1.3.6.1.5.5.7.48.1";
    own.extensions().iter().find_map(|extension| {
        let ParsedExtension::AuthorityInfoAccess(access) = extension.parsed_extension() else { return None };
        access.accessdescs.iter().find_map(|one| match &one.access_location {
            GeneralName::URI(uri) if one.access_method.to_id_string() == OCSP => Some((*uri).to_owned()),
            _ => None,
        })
    })
}

/// Checks an answer about the first certificate of a chain; until when it holds, in seconds since 1970, if it says so.
///
/// # Errors
/// Why it must not be stapled.
pub fn check(response: &[u8], chain: &[CertificateDer<'_>], now_s: i64) -> Result<Option<i64>, OcspError> {
    let parts = parts(response)?;
    let certificate = |at: usize| {
        let der = chain.get(at).ok_or(OcspError::BadSignature)?;
        X509Certificate::from_der(der).map(|(_, x509)| x509).map_err(|_| OcspError::Malformed)
    };
    let (own, issuer) = (certificate(0)?, certificate(1)?);
    if !is_signed(&parts, &issuer, now_s) {
        return Err(OcspError::BadSignature);
    }
    let single = single(parts.data, own.raw_serial())?;
    match single.status {
        0x80 => {}
        0xa1 => return Err(OcspError::Revoked),
        _ => return Err(OcspError::Unknown),
    }
    match single.next_update {
        Some(end) if end <= now_s => Err(OcspError::Expired),
        end => Ok(end),
    }
}

/// The parts of a BasicOCSPResponse.
struct Parts<'a> {
    /// What is signed, its header included.
    signed: &'a [u8],
    /// The same without its header.
    data: &'a [u8],
    /// The algorithm's object identifier.
    algorithm: &'a [u8],
    signature: &'a [u8],
    /// The responder's certificate, if it is not the issuer.
    responder: Option<&'a [u8]>,
}

fn parts(response: &[u8]) -> Result<Parts<'_>, OcspError> {
    let bad = || OcspError::Malformed;
    let outer = Element::of(response, 0x30).ok_or_else(bad)?;
    let status = Element::of(outer.content, 0x0a).ok_or_else(bad)?;
    if status.content != [0] {
        return Err(OcspError::Unsuccessful);
    }
    let bytes = Element::of(status.rest, 0xa0).ok_or_else(bad)?;
    let bytes = Element::of(bytes.content, 0x30).ok_or_else(bad)?;
    let kind = Element::of(bytes.content, 0x06).ok_or_else(bad)?;
    let basic = Element::of(kind.rest, 0x04).ok_or_else(bad)?;
    let basic = Element::of(basic.content, 0x30).ok_or_else(bad)?;
    let data = Element::of(basic.content, 0x30).ok_or_else(bad)?;
    let signed = &basic.content[..basic.content.len() - data.rest.len()];
    let algorithm = Element::of(data.rest, 0x30).ok_or_else(bad)?;
    let identifier = Element::of(algorithm.content, 0x06).ok_or_else(bad)?;
    let signature = Element::of(algorithm.rest, 0x03).ok_or_else(bad)?;
    let responder = Element::of(signature.rest, 0xa0).and_then(|all| Element::of(all.content, 0x30));
    let responder = responder.and_then(|all| {
        let first = Element::of(all.content, 0x30)?;
        all.content.get(..all.content.len() - first.rest.len())
    });
    // The first byte of a bit string counts bits that are not used: none here.
    let signature = signature.content.strip_prefix(&[0]).ok_or_else(bad)?;
    Ok(Parts { signed, data: data.content, algorithm: identifier.content, signature, responder })
}

/// Whether the issuer signed it, or somebody with a certificate of the issuer for just that (RFC 6960 4.2.2.2).
fn is_signed(parts: &Parts<'_>, issuer: &X509Certificate<'_>, now_s: i64) -> bool {
    let verify = |algorithm: &[u8], key: &[u8], message: &[u8], signature: &[u8]| {
        algorithm_of(algorithm)
            .is_some_and(|a| signature::UnparsedPublicKey::new(a, key).verify(message, signature).is_ok())
    };
    let key_of = |x509: &X509Certificate<'_>| x509.public_key().subject_public_key.data.to_vec();
    if verify(parts.algorithm, &key_of(issuer), parts.signed, parts.signature) {
        return true;
    }
    let Some((_, responder)) = parts.responder.and_then(|der| X509Certificate::from_der(der).ok()) else {
        return false;
    };
    let may_sign =
        responder.extended_key_usage().ok().flatten().is_some_and(|usage| usage.value.ocsp_signing);
    let is_valid = ASN1Time::from_timestamp(now_s).is_ok_and(|now| responder.validity().is_valid_at(now));
    let is_of_issuer = responder.issuer().as_raw() == issuer.subject().as_raw()
        && verify(
            responder.signature_algorithm.algorithm.as_bytes(),
            &key_of(issuer),
            responder.tbs_certificate.as_ref(),
            &responder.signature_value.data,
        );
    may_sign
        && is_valid
        && is_of_issuer
        && verify(parts.algorithm, &key_of(&responder), parts.signed, parts.signature)
}

fn algorithm_of(identifier: &[u8]) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match identifier {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b] => &RSA_PKCS1_2048_8192_SHA256,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c] => &RSA_PKCS1_2048_8192_SHA384,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d] => &RSA_PKCS1_2048_8192_SHA512,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02] => &ECDSA_P256_SHA256_ASN1,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03] => &ECDSA_P384_SHA384_ASN1,
        [0x2b, 0x65, 0x70] => &ED25519,
        _ => return None,
    })
}

/// The answer about one certificate.
struct Single {
    /// The tag of its status.
    status: u8,
    next_update: Option<i64>,
}

/// Finds the answer about a serial number in the signed data.
fn single(data: &[u8], serial: &[u8]) -> Result<Single, OcspError> {
    let bad = || OcspError::Malformed;
    // Version, responder and time come first; the list is the first plain sequence.
    let mut rest = data;
    let list = loop {
        let element = Element::next(rest).ok_or_else(bad)?;
        if element.tag == 0x30 {
            break element.content;
        }
        rest = element.rest;
    };
    let mut rest = list;
    while let Some(one) = Element::of(rest, 0x30) {
        rest = one.rest;
        let id = Element::of(one.content, 0x30).ok_or_else(bad)?;
        // Algorithm, hash of the name, hash of the key, serial number.
        let mut part = Element::next(id.content).ok_or_else(bad)?;
        for _ in 0..3 {
            part = Element::next(part.rest).ok_or_else(bad)?;
        }
        if part.content != serial {
            continue;
        }
        let status = Element::next(id.rest).ok_or_else(bad)?;
        let this_update = Element::of(status.rest, 0x18).ok_or_else(bad)?;
        let next_update =
            Element::of(this_update.rest, 0xa0).and_then(|next| Element::of(next.content, 0x18));
        let next_update = next_update.map(|next| time(next.content).ok_or_else(bad)).transpose()?;
        return Ok(Single { status: status.tag, next_update });
    }
    Err(OcspError::AnotherCertificate)
}

/// `YYYYMMDDhhmmssZ`.
fn time(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z').filter(|text| text.len() == 14)?;
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i8>().ok();
    let date = jiff::civil::DateTime::new(
        text.get(..4)?.parse().ok()?,
        number(4, 6)?,
        number(6, 8)?,
        number(8, 10)?,
        number(10, 12)?,
        number(12, 14)?,
        0,
    );
    Some(date.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// One element of DER.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    /// What follows it.
    rest: &'a [u8],
}

impl<'a> Element<'a> {
    fn next(bytes: &'a [u8]) -> Option<Element<'a>> {
        let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => rest.split_first().map(|(len, rest)| (usize::from(*len), rest))?,
            0x82 => {
                rest.split_first_chunk::<2>().map(|(len, r)| (usize::from(u16::from_be_bytes(*len)), r))?
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        Some(Element { tag, content, rest })
    }

    fn of(bytes: &'a [u8], tag: u8) -> Option<Element<'a>> {
        Element::next(bytes).filter(|element| element.tag == tag)
    }
}

fn push(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    let len = content.len();
    match u8::try_from(len) {
        Ok(short @ 0..=0x7f) => out.push(short),
        Ok(long) => out.extend_from_slice(&[0x81, long]),
        // No request of ours is longer than this allows.
        Err(_) => {
            out.push(0x82);
            out.extend_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(content);
}

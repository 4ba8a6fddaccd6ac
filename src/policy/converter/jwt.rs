//! JSON Web Tokens (RFC 7519): their parts, and their signatures. Keys are read at load.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};

use crate::policy::converter::{JsonQuery, Step};
use crate::policy::sample::{Facts, VariableId};

/// The parts of a token in the order they stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JwtPart {
    /// `jwt_header_query`.
    Header,
    /// `jwt_payload_query`.
    Payload,
}

impl JwtPart {
    /// A query over the part; without one the part itself.
    pub(super) fn apply(self, query: Option<&JsonQuery>, token: &[u8], out: &mut Vec<u8>) -> Step<'static> {
        let mut parts = token.split(|b| *b == b'.');
        let part = match self {
            JwtPart::Header => parts.next(),
            JwtPart::Payload => parts.nth(1),
        };
        let Some(json) = part.and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()) else {
            return Step::Missing;
        };
        match query {
            Some(query) => query.apply(&json, out),
            None => {
                out.extend_from_slice(&json);
                Step::Written(crate::policy::sample::Kind::Str)
            }
        }
    }
}

/// What `jwt_verify` says, HAProxy's numbers.
const GOOD: i64 = 1;
const BAD: i64 = 0;
const UNKNOWN_ALGORITHM: i64 = -1;
const UNMANAGED_ALGORITHM: i64 = -2;
const BAD_TOKEN: i64 = -3;

/// `jwt_verify`.
#[derive(Clone)]
pub struct JwtVerify {
    algorithm: JwtAlgorithm,
    key: JwtKey,
}

/// Which algorithm a token has to be signed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JwtAlgorithm {
    /// This one.
    Fixed(Algorithm),
    /// The one that a variable names. Whoever lets a token choose for itself must say which ones are good.
    Variable(VariableId),
}

/// What a signature is verified with.
#[derive(Clone)]
enum JwtKey {
    /// A secret that both sides know, for HS256, HS384 and HS512.
    Secret(DecodingKey),
    /// An RSA key, for RS and PS.
    Rsa(DecodingKey),
    /// An elliptic curve's key, for ES.
    Ec(DecodingKey),
    /// A secret in a variable.
    Variable(VariableId),
}

// Keys stay out of logs and panics.
impl std::fmt::Debug for JwtVerify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwtVerify").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// The algorithm of a name in a token's header.
pub fn algorithm(name: &str) -> Option<Algorithm> {
    name.parse().ok().filter(|algorithm| !matches!(algorithm, Algorithm::EdDSA))
}

impl JwtVerify {
    /// With a secret in the configuration.
    pub fn with_secret(algorithm: JwtAlgorithm, secret: &[u8]) -> JwtVerify {
        JwtVerify { algorithm, key: JwtKey::Secret(DecodingKey::from_secret(secret)) }
    }

    /// With a secret in a variable.
    pub fn with_variable(algorithm: JwtAlgorithm, secret: VariableId) -> JwtVerify {
        JwtVerify { algorithm, key: JwtKey::Variable(secret) }
    }

    /// With a public key in PEM.
    ///
    /// # Errors
    /// It holds no key of RSA or of an elliptic curve.
    pub fn with_pem(algorithm: JwtAlgorithm, pem: &[u8]) -> Result<JwtVerify, String> {
        let key = match (DecodingKey::from_rsa_pem(pem), DecodingKey::from_ec_pem(pem)) {
            (Ok(key), _) => JwtKey::Rsa(key),
            (_, Ok(key)) => JwtKey::Ec(key),
            _ => return Err("it holds no public key of RSA or of an elliptic curve in PEM".to_owned()),
        };
        Ok(JwtVerify { algorithm, key })
    }

    pub(super) fn apply<F: Facts>(&self, facts: &F, token: &[u8]) -> i64 {
        let wanted = match self.algorithm {
            JwtAlgorithm::Fixed(algorithm) => algorithm,
            JwtAlgorithm::Variable(id) => {
                let name = facts.variables().get(id).and_then(|value| value.bytes());
                match name.and_then(|name| algorithm(std::str::from_utf8(name).ok()?)) {
                    Some(algorithm) => algorithm,
                    None => return UNKNOWN_ALGORITHM,
                }
            }
        };
        let Some((signed, signature)) = split(token) else { return BAD_TOKEN };
        // The token's own word has to be the same: a key must not be used for what it was not made for.
        let says = JwtPart::Header.algorithm(token);
        if says != Some(wanted) {
            return if says.is_none() { BAD_TOKEN } else { BAD };
        }
        let made;
        let key = match (&self.key, family(wanted)) {
            (JwtKey::Secret(key), Family::Secret)
            | (JwtKey::Rsa(key), Family::Rsa)
            | (JwtKey::Ec(key), Family::Ec) => key,
            (JwtKey::Variable(id), Family::Secret) => {
                let Some(secret) = facts.variables().get(*id).and_then(|value| value.bytes()) else {
                    return BAD;
                };
                made = DecodingKey::from_secret(secret);
                &made
            }
            _ => return UNMANAGED_ALGORITHM,
        };
        match crypto::verify(signature, signed, key, wanted) {
            Ok(true) => GOOD,
            _ => BAD,
        }
    }
}

impl JwtPart {
    fn algorithm(self, token: &[u8]) -> Option<Algorithm> {
        let header = URL_SAFE_NO_PAD.decode(token.split(|b| *b == b'.').next()?).ok()?;
        let json: serde_json::Value = serde_json::from_slice(&header).ok()?;
        algorithm(json.get("alg")?.as_str()?)
    }
}

/// What needs which kind of key.
#[derive(PartialEq, Eq)]
enum Family {
    Secret,
    Rsa,
    Ec,
}

fn family(algorithm: Algorithm) -> Family {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Family::Secret,
        Algorithm::ES256 | Algorithm::ES384 => Family::Ec,
        _ => Family::Rsa,
    }
}

/// What is signed, and the signature: a token has three parts.
fn split(token: &[u8]) -> Option<(&[u8], &str)> {
    let last = memchr::memrchr(b'.', token)?;
    let dots = memchr::memchr_iter(b'.', token).count();
    let signature = std::str::from_utf8(&token[last + 1..]).ok()?;
    (dots == 2).then_some((&token[..last], signature))
}

//! One certificate with its chain and its key, as files hold them. Reads PEM, checks that the parts fit, and says what is in
//! the certificate. Which bind shows it to whom is `store`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SignatureAlgorithm};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use xxhash_rust::xxh3::Xxh3;

/// Why a file is of no use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CertError {
    /// It is no PEM.
    Pem(String),
    /// There is no certificate in it.
    NoCertificate,
    /// There is no key in it, nor beside it.
    NoKey,
    /// There are several keys.
    ManyKeys,
    /// The certificate cannot be parsed.
    BadCertificate(String),
    /// The key cannot be used.
    BadKey(String),
    /// The key is that of another certificate.
    Mismatch,
    /// It holds no keys of session tickets.
    Ticket(String),
    /// It cannot be read.
    Io(String),
}

impl fmt::Display for CertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertError::Pem(why) => write!(f, "this is no PEM: {why}"),
            CertError::NoCertificate => f.write_str("there is no certificate in it"),
            CertError::NoKey => f.write_str("there is no private key in it, nor in a .key file beside it"),
            CertError::ManyKeys => f.write_str("there are several private keys in it"),
            CertError::BadCertificate(why) => write!(f, "the certificate cannot be parsed: {why}"),
            CertError::BadKey(why) => write!(f, "the private key cannot be used: {why}"),
            CertError::Mismatch => f.write_str("the private key does not belong to the first certificate"),
            CertError::Ticket(why) | CertError::Io(why) => f.write_str(why),
        }
    }
}

/// The type of a key; of several certificates for a name the first in this order that a client can check is shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum KeyType {
    /// ECDSA, the cheapest to sign with and the most common.
    Ecdsa,
    /// Ed25519.
    Ed25519,
    /// RSA, which every client takes.
    Rsa,
}

impl KeyType {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            KeyType::Ecdsa => "ecdsa",
            KeyType::Ed25519 => "ed25519",
            KeyType::Rsa => "rsa",
        }
    }
}

/// A certificate that can be shown.
pub struct Certificate {
    /// The certificate and its chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    key: PrivateKeyDer<'static>,
    /// The key's type.
    pub key_type: KeyType,
    /// An OCSP response to staple.
    pub ocsp: Option<Vec<u8>>,
    /// Host names, lower case; wildcards begin with `*.`. The common name counts only where there is no other.
    pub names: Vec<String>,
    /// Since when it is valid, in seconds since 1970.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
}

impl fmt::Debug for Certificate {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).field("key_type", &self.key_type).finish()
    }
}

/// The parts of PEM text.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) keys: Vec<PrivateKeyDer<'static>>,
}

pub(super) fn parts(pem: &[u8]) -> Result<Parts, CertError> {
    let mut parts = Parts::default();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        let (kind, der) = section.map_err(|e| CertError::Pem(e.to_string()))?;
        match kind {
            SectionKind::Certificate => parts.chain.push(der.into()),
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                let key = PrivateKeyDer::from_pem(kind, der);
                parts.keys.extend(key);
            }
            // Parameters and the like, which OpenSSL writes.
            _ => {}
        }
    }
    Ok(parts)
}

impl Certificate {
    /// Reads a certificate: `pem` with its chain and perhaps its key, `key_pem` the key where it stands beside it.
    ///
    /// # Errors
    /// What keeps it from being shown.
    pub fn parse(
        pem: &[u8],
        key_pem: Option<&[u8]>,
        ocsp: Option<Vec<u8>>,
        provider: &CryptoProvider,
    ) -> Result<Certificate, CertError> {
        let Parts { chain, mut keys } = parts(pem)?;
        if keys.is_empty()
            && let Some(key_pem) = key_pem
        {
            keys = parts(key_pem)?.keys;
        }
        if chain.is_empty() {
            return Err(CertError::NoCertificate);
        }
        if keys.len() > 1 {
            return Err(CertError::ManyKeys);
        }
        let key = keys.pop().ok_or(CertError::NoKey)?;
        Certificate::new(chain, key, ocsp, provider)
    }

    /// Puts a certificate together.
    ///
    /// # Errors
    /// What keeps it from being shown.
    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        ocsp: Option<Vec<u8>>,
        provider: &CryptoProvider,
    ) -> Result<Certificate, CertError> {
        let Some(first) = chain.first() else { return Err(CertError::NoCertificate) };
        let signing = provider.key_provider.load_private_key(key.clone_key());
        let signing = signing.map_err(|e| CertError::BadKey(e.to_string()))?;
        let key_type = match signing.algorithm() {
            SignatureAlgorithm::ECDSA => KeyType::Ecdsa,
            SignatureAlgorithm::ED25519 => KeyType::Ed25519,
            _ => KeyType::Rsa,
        };
        let (_, x509) =
            X509Certificate::from_der(first).map_err(|e| CertError::BadCertificate(e.to_string()))?;
        let validity = x509.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let names = names(&x509);
        match CertifiedKey::new(chain.clone(), signing).keys_match() {
            // Without a public key there is nothing to compare.
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err(CertError::Mismatch),
            Err(e) => return Err(CertError::BadCertificate(e.to_string())),
        }
        Ok(Certificate { chain, key, key_type, ocsp, names, not_before, not_after })
    }

    /// The same with another OCSP response.
    pub(super) fn with_ocsp(&self, ocsp: Vec<u8>) -> Certificate {
        let (chain, names) = (self.chain.clone(), self.names.clone());
        Certificate { chain, names, key: self.key.clone_key(), ocsp: Some(ocsp), ..*self }
    }

    /// Its key.
    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// What rustls signs with. Each core makes its own.
    pub(super) fn certified(&self, provider: &CryptoProvider) -> Option<Arc<CertifiedKey>> {
        // It was loaded before, when the certificate was parsed.
        let key = provider.key_provider.load_private_key(self.key.clone_key()).ok()?;
        let mut certified = CertifiedKey::new(self.chain.clone(), key);
        certified.ocsp = self.ocsp.clone();
        Some(Arc::new(certified))
    }
}

/// Host names of a certificate: of subjectAltName, or the common name where that is missing (RFC 6125 6.4.4).
fn names(x509: &X509Certificate<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    if let Ok(Some(extension)) = x509.subject_alternative_name() {
        for name in &extension.value.general_names {
            if let GeneralName::DNSName(name) = name {
                names.push(name.to_ascii_lowercase());
            }
        }
    }
    if names.is_empty() {
        let common = x509.subject().iter_common_name().filter_map(|cn| cn.as_str().ok());
        names.extend(common.map(str::to_ascii_lowercase));
    }
    names.sort();
    names.dedup();
    names
}

/// Where a companion of a certificate may stand: `FILE.key` or the same name with `.key`.
fn beside(path: &Path, extension: &str) -> [PathBuf; 2] {
    let mut appended = path.as_os_str().to_owned();
    appended.push(".");
    appended.push(extension);
    [appended.into(), path.with_extension(extension)]
}

/// What tells that a certificate, its key and its OCSP response are as they were, without reading them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stamp([Option<FileStamp>; 5]);

/// Device, inode, size, and when content and inode changed: seconds and nanoseconds of each.
type FileStamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// A file that changed a moment ago may change once more in the same tick of the clock of its file system.
const SETTLED_S: i64 = 2;

impl Stamp {
    /// How the files are now that [`read`] would read; `None`: they say nothing reliable. Taken before they are read.
    pub(super) fn of(path: &Path, key: Option<&Path>, ocsp: Option<&Path>) -> Option<Stamp> {
        let one = |path: &Path| {
            let meta = std::fs::metadata(path).ok()?;
            let times = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
            Some((meta.dev(), meta.ino(), meta.size(), times.0, times.1))
        };
        let companion = |said: Option<&Path>, extension: &str| match said {
            Some(path) => [one(path), None],
            None => beside(path, extension).map(|path| one(&path)),
        };
        let [key, other_key] = companion(key, "key");
        let [ocsp, other_ocsp] = companion(ocsp, "ocsp");
        let stamps = [one(path), key, other_key, ocsp, other_ocsp];
        stamps[0].as_ref()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let newest = stamps.iter().flatten().map(|(.., (ctime_s, _))| *ctime_s).max()?;
        (newest.saturating_add(SETTLED_S) < i64::try_from(now).ok()?).then_some(Stamp(stamps))
    }
}

/// Reads a certificate, and its key and OCSP response where they are said to be or beside it: `FILE.key` or the same name with
/// `.key`, and `FILE.ocsp`.
pub(super) fn read(path: &Path, key: Option<&Path>, ocsp: Option<&Path>) -> Result<Files, CertError> {
    let io = |e: std::io::Error| CertError::Io(e.to_string());
    let pem = super::store::read_file(path).map_err(io)?;
    let beside = |extension: &str| beside(path, extension).into_iter().find(|p| p.is_file() && p != path);
    let named = |path: &Path| {
        let named = |e: std::io::Error| CertError::Io(format!("{}: {e}", path.display()));
        super::store::read_file(path).map_err(named)
    };
    let optional = |said: Option<&Path>, extension: &str| match said {
        Some(path) => named(path).map(Some),
        None => beside(extension).map(|path| super::store::read_file(&path)).transpose().map_err(io),
    };
    Ok(Files { key: optional(key, "key")?, ocsp: optional(ocsp, "ocsp")?, pem })
}

/// The files of one certificate.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) pem: Vec<u8>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) ocsp: Option<Vec<u8>>,
}

impl Files {
    /// Of all that is in them. Nothing depends on who could find another text with the same: files belong to the operator.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = Xxh3::new();
        (&self.pem, &self.key, &self.ocsp).hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn parse(self, provider: &CryptoProvider) -> Result<Certificate, CertError> {
        Certificate::parse(&self.pem, self.key.as_deref(), self.ocsp, provider)
    }
}

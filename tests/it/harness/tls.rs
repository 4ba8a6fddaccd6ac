//! Certificates made for a test, and a TLS client whose every step a test decides.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::connect;

/// A certificate authority with a directory to write into.
pub(crate) struct Ca {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    serial: std::cell::Cell<u64>,
}

/// A certificate that a test made.
pub(crate) struct Made {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) serial: u64,
}

impl Ca {
    pub(crate) fn new() -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Test CA");
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate");
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("ca.pem"), cert.pem()).expect("writable");
        std::fs::write(dir.path().join("ca.key"), key.serialize_pem()).expect("writable");
        Ca { dir, issuer: Issuer::new(params, key), der: cert.der().clone(), serial: 1.into() }
    }

    /// An authority of this name that this one vouches for.
    pub(crate) fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        self.serial.set(self.serial.get() + 1);
        params.serial_number = Some(self.serial.get().into());
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("ca.pem"), cert.pem()).expect("writable");
        Ca { dir, issuer: Issuer::new(params, key), der: cert.der().clone(), serial: 1000.into() }
    }

    /// Where the files are.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A certificate for these names with a key of this kind; `change` changes what is signed.
    pub(crate) fn make(
        &self,
        names: &[&str],
        algorithm: &'static rcgen::SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Made {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("names");
        if let Some(name) = names.first() {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        self.serial.set(self.serial.get() + 1);
        params.serial_number = Some(self.serial.get().into());
        change(&mut params);
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Made {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            der: cert.der().clone(),
            serial: self.serial.get(),
        }
    }

    /// Writes a bundle of certificate and key for these names.
    pub(crate) fn bundle(&self, file: &str, names: &[&str]) -> PathBuf {
        self.bundle_with(file, names, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// The same with a key of this kind.
    pub(crate) fn bundle_with(
        &self,
        file: &str,
        names: &[&str],
        algorithm: &'static rcgen::SignatureAlgorithm,
    ) -> PathBuf {
        let made = self.make(names, algorithm, |_| {});
        self.write(file, &format!("{}{}", made.cert_pem, made.key_pem))
    }

    /// Writes a file of the directory.
    pub(crate) fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().expect("below the directory")).expect("writable");
        std::fs::write(&path, text).expect("writable");
        path
    }

    /// A client that trusts this authority.
    pub(crate) fn client(&self) -> ClientConfig {
        self.client_of(rustls::ALL_VERSIONS)
    }

    /// The same with these versions alone.
    pub(crate) fn client_of(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
        let roots = self.roots();
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// A client with a certificate of its own.
    pub(crate) fn client_with(&self, own: &Made) -> ClientConfig {
        self.client_with_chain(own, &[])
    }

    /// The same that sends these authorities along.
    pub(crate) fn client_with_chain(&self, own: &Made, above: &[&Ca]) -> ClientConfig {
        let chain = std::iter::once(own.der.clone()).chain(above.iter().map(|ca| ca.der.clone())).collect();
        let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).expect("a key");
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain, key)
            .expect("a certificate with its key")
    }

    /// This authority as one to trust.
    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a root");
        roots
    }

    /// A list of revoked certificates.
    pub(crate) fn crl(&self, revoked: &[u64]) -> String {
        let params = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2100, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|serial| rcgen::RevokedCertParams {
                    serial_number: (*serial).into(),
                    revocation_time: rcgen::date_time_ymd(2021, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list").pem().expect("PEM")
    }
}

/// A TLS connection of a test.
pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Connects and shakes hands.
pub(crate) fn tls(address: SocketAddr, name: &str, config: ClientConfig) -> io::Result<Tls> {
    over(connect(address), name, Arc::new(config))
}

/// Shakes hands over a connection.
pub(crate) fn over(socket: TcpStream, name: &str, config: Arc<ClientConfig>) -> io::Result<Tls> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let client = ClientConnection::new(config, name).expect("a client");
    let mut stream = StreamOwned::new(client, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Reads one response of HTTP/1.1 with a Content-Length: its head and its body.
pub(crate) fn response(stream: &mut impl Read) -> io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let len = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; len];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}

/// Asks and reads the answer.
pub(crate) fn get(stream: &mut (impl Read + Write), path: &str) -> io::Result<(String, Vec<u8>)> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")?;
    stream.flush()?;
    response(stream)
}

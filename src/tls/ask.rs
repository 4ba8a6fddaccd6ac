//! A client of TLS that `explain` shakes hands with: what is shown to it is what a client of that name would be shown. It verifies nothing,
//! since it wants to see. Blocking, on a thread of its own.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection};

use super::cert;
use super::client::Verifier;
use super::x509::{self, Field, Part};

/// How a client of TLS looks.
#[derive(Clone, Debug)]
pub struct Asker {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// What a handshake came to.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Shown {
    /// `TLSv1.3`.
    pub protocol: String,
    /// The suite.
    pub cipher: String,
    /// The protocol that ALPN chose.
    pub alpn: Option<String>,
    /// The certificate with its chain, DER.
    pub chain: Vec<CertificateDer<'static>>,
}

impl Asker {
    /// A client that asks for a name (an address: for none), with HTTP/1.1 if it speaks that, and with a certificate and its key as PEM.
    ///
    /// # Errors
    /// The name is none, or the certificate is of no use.
    pub fn new(name: &str, is_http: bool, own: Option<&[u8]>) -> Result<Asker, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Arc::new(Verifier { inner: None, name: None, provider: provider.clone() });
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut parts =
                    cert::parts(pem).map_err(|e| format!("the certificate of the client: {e}"))?;
                let key = parts.keys.pop().ok_or(
                    "the certificate of the client needs its key in the same file: it is proved in the handshake",
                )?;
                let built = builder.with_client_auth_cert(parts.chain, key);
                built.map_err(|e| format!("the certificate of the client: {e}"))?
            }
        };
        if is_http {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        let name =
            ServerName::try_from(name.to_owned()).map_err(|_| format!("\"{name}\" is no name of a host"))?;
        Ok(Asker { config: Arc::new(config), name })
    }

    /// The first bytes that it sends: its ClientHello.
    ///
    /// # Errors
    /// What rustls says.
    pub fn hello(&self) -> Result<Vec<u8>, String> {
        let mut client =
            ClientConnection::new(self.config.clone(), self.name.clone()).map_err(|e| e.to_string())?;
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).map_err(|e| e.to_string())?;
        Ok(bytes)
    }

    /// Shakes hands, sends, and receives at most so many bytes until the other side closes. Once something has come it closes its
    /// own side, so that nobody waits for more. `Err`: what became of the handshake.
    ///
    /// # Errors
    /// It failed, on either side.
    pub fn talk<S: Read + Write>(
        &self,
        socket: &mut S,
        bytes: &[u8],
        limit: u64,
        close: impl FnOnce(&mut S),
    ) -> io::Result<(Shown, Vec<u8>)> {
        let mut client =
            ClientConnection::new(self.config.clone(), self.name.clone()).map_err(io::Error::other)?;
        while client.is_handshaking() {
            client.complete_io(socket)?;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let shown = Shown {
            protocol: client.protocol_version().map_or(String::new(), |version| match version {
                rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2".to_owned(),
                _ => "TLSv1.3".to_owned(),
            }),
            cipher: client
                .negotiated_cipher_suite()
                .map_or(String::new(), |suite| format!("{:?}", suite.suite())),
            alpn: client.alpn_protocol().map(text),
            chain: client
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|der| der.clone().into_owned())
                .collect(),
        };
        let mut received = vec![0; 1];
        let mut stream = rustls::Stream::new(&mut client, &mut *socket);
        stream.write_all(bytes)?;
        stream.flush()?;
        // In TLS 1.3 a certificate of a client is judged after its handshake: what is wrong with it comes here.
        match stream.read(&mut received) {
            Ok(1) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(error),
            _ => return Ok((shown, Vec::new())),
        }
        stream.conn.send_close_notify();
        // The other side may be gone already.
        let _ = stream.flush();
        close(&mut *stream.sock);
        let _ = stream.take(limit).read_to_end(&mut received);
        Ok((shown, received))
    }
}

impl Shown {
    /// The subject of the certificate, and until when it is valid.
    pub fn certificate(&self) -> Option<(String, String)> {
        let leaf = self.chain.first()?;
        let field = |field: Field<'_>| {
            let mut out = Vec::new();
            x509::certificate_field(leaf, &field, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        Some((field(Field::Subject(Part::Whole)), field(Field::NotAfterIso)))
    }
}

//! What one core shakes hands with servers with: a rustls configuration for each server that speaks TLS.

use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, Error};
use xxhash_rust::xxh3::Xxh3;

use super::server::{provider, versions};
use super::signatures::checks_signatures;
use super::store::Store;
use crate::base::id::{IdVec, ServerId};
use crate::model::tls::ServerTls;
use crate::model::{Model, Server, ServerAddress};

/// The TLS servers of one core.
pub struct Servers {
    servers: IdVec<ServerId, Option<Rc<Connector>>>,
}

/// How to shake hands with one server.
pub struct Connector {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
    /// What connections were verified with and what was shown on them: contents of files, which may change below their paths.
    identity: u64,
}

impl Servers {
    /// Makes the configurations of a core.
    ///
    /// # Errors
    /// What rustls refuses.
    pub fn new(model: &Model, store: &Store) -> Result<Servers, Error> {
        Servers::of(model, store, &store.tls_servers.0, |server| server.tls.as_deref())
    }

    /// Makes those of health checks.
    ///
    /// # Errors
    /// What rustls refuses.
    pub fn of_checks(model: &Model, store: &Store) -> Result<Servers, Error> {
        Servers::of(model, store, &store.tls_servers.1, |server| server.check.as_ref()?.tls.as_deref())
    }

    fn of(
        model: &Model,
        store: &Store,
        wanted: &[ServerId],
        settings: impl Fn(&Server) -> Option<&ServerTls>,
    ) -> Result<Servers, Error> {
        let mut servers: IdVec<ServerId, Option<Rc<Connector>>> = model.servers.ids().map(|_| None).collect();
        for id in wanted {
            let server = &model.servers[*id];
            let made = settings(server).map(|tls| Connector::new(tls, server, store)).transpose()?;
            servers[*id] = made.map(Rc::new);
        }
        Ok(Servers { servers })
    }

    /// How to shake hands with a server; `None`: it is plain.
    pub fn get(&self, id: ServerId) -> Option<&Rc<Connector>> {
        self.servers[id].as_ref()
    }
}

impl Connector {
    fn new(tls: &ServerTls, server: &Server, store: &Store) -> Result<Connector, Error> {
        let wanted = match (&tls.sni, &server.address) {
            (Some(sni), _) => sni.clone(),
            (None, ServerAddress::Name { host, .. }) => host.clone(),
            (None, ServerAddress::Ip(address)) => address.ip().to_string(),
            // A UNIX socket has no name: nothing is asked for, and only `verifyhost` can be verified.
            _ => "0.0.0.0".to_owned(),
        };
        Connector::build(tls, wanted, &server.origin, store)
    }

    /// How to shake hands with a peer `host:port` that is no server of a backend.
    ///
    /// # Errors
    /// What rustls refuses.
    pub fn of_peer(tls: &ServerTls, address: &str, store: &Store) -> Result<Connector, Error> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Connector::build(tls, tls.sni.clone().unwrap_or(host), address, store)
    }

    fn build(tls: &ServerTls, wanted: String, origin: &str, store: &Store) -> Result<Connector, Error> {
        let provider = Arc::new(provider(&tls.parameters));
        let name_of =
            |name: String| ServerName::try_from(name).map_err(|e| Error::General(format!("{origin}: {e}")));
        let mut identity = Xxh3::new();
        let inner = if tls.verify {
            let roots = store.trust.roots(&tls.ca_files);
            for root in &roots.roots {
                (root.subject.as_ref(), root.subject_public_key_info.as_ref()).hash(&mut identity);
            }
            let built = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
            Some(built.map_err(|e| Error::General(format!("{origin}: {e}")))?)
        } else {
            None
        };
        let verify_host = tls.verify_host.clone().map(name_of).transpose()?;
        let verifier = Arc::new(Verifier { inner, name: verify_host, provider: provider.clone() });
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions(&tls.parameters))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let own = tls.certificate.as_ref().and_then(|path| store.find(path));
        if let Some(certificate) = own {
            certificate.chain.iter().for_each(|der| der.as_ref().hash(&mut identity));
        }
        let mut config = match own.and_then(|certificate| certificate.certified(&provider)) {
            Some(key) => {
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&tls.parameters.alpn);
        config.enable_secret_extraction = true;
        if tls.no_reuse {
            config.resumption = Resumption::disabled();
        }
        Ok(Connector { config: Arc::new(config), name: name_of(wanted)?, identity: identity.finish() })
    }

    /// The same for connectors that verify with the same authorities and show the same certificate.
    pub fn identity(&self) -> u64 {
        self.identity
    }
}

/// Verifies the certificate of a server, for the name that is configured, or not at all.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) inner: Option<Arc<WebPkiServerVerifier>>,
    pub(super) name: Option<ServerName<'static>>,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        let name = self.name.as_ref().unwrap_or(server_name);
        inner.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    checks_signatures!();
}

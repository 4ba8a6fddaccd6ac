//! What one core answers handshakes of clients with: a rustls configuration for each TLS bind, and keys that are loaded when
//! somebody asks for them. Nothing here is shared with another core but the store, which is only read.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::handshake::Choose;
use super::names::{GROUPS, SUITES};
use super::store::Store;
use crate::base::id::{IdVec, ListenerId};
use crate::model::Model;
use crate::model::tls::{BindTls, ClientAuth, TlsParameters, TlsVersion};

/// The TLS binds of one core.
pub struct Binds {
    binds: IdVec<ListenerId, Option<Bind>>,
}

/// One TLS bind of one core.
pub struct Bind {
    config: Arc<ServerConfig>,
    resolver: Arc<Resolver>,
}

impl Binds {
    /// Makes the configurations of a core.
    ///
    /// # Errors
    /// What rustls refuses; resolve leaves nothing that it would.
    pub fn new(model: &Model, store: &Arc<Store>) -> Result<Binds, rustls::Error> {
        let keys: Arc<Keys> = store.entries.iter().map(|_| OnceLock::new()).collect();
        let mut binds = IdVec::new();
        for (id, bind) in model.binds.iter() {
            let made = bind.tls.as_deref().map(|tls| Bind::new(tls, id, store, &keys)).transpose()?;
            binds.push(made);
        }
        Ok(Binds { binds })
    }

    /// What a bind answers with; `None`: it is plain.
    pub fn get(&self, id: ListenerId) -> Option<&Bind> {
        self.binds[id].as_ref()
    }
}

impl Bind {
    fn new(
        tls: &BindTls,
        id: ListenerId,
        store: &Arc<Store>,
        keys: &Arc<Keys>,
    ) -> Result<Bind, rustls::Error> {
        let provider = Arc::new(provider(&tls.parameters));
        let resolver = Arc::new(Resolver {
            store: store.clone(),
            bind: id,
            keys: keys.clone(),
            provider: provider.clone(),
        });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(&tls.parameters))?
            .with_client_cert_verifier(verifier(tls, store, &resolver.provider)?)
            .with_cert_resolver(resolver.clone());
        config.alpn_protocols.clone_from(&tls.parameters.alpn);
        config.ignore_client_order = true;
        // The record layer goes on without rustls (`records`).
        config.enable_secret_extraction = true;
        config.ticketer = store.tickets.clone();
        Ok(Bind { config: Arc::new(config), resolver })
    }
}

impl Choose for Bind {
    fn choose(&self, sni: Option<&str>) -> Option<Arc<ServerConfig>> {
        (!self.resolver.find(sni).is_empty()).then(|| self.config.clone())
    }
}

/// Who may show a certificate, and must.
fn verifier(
    tls: &BindTls,
    store: &Store,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
    if tls.verify == ClientAuth::None {
        return Ok(WebPkiClientVerifier::no_client_auth());
    }
    let roots = store.trust.roots(&tls.ca_files);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    if !tls.crl_files.is_empty() {
        let lists = store.trust.revoked(&tls.crl_files).iter().cloned();
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    if tls.verify == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|e| rustls::Error::General(format!("cannot verify clients: {e}")))
}

/// Suites and groups as they are configured.
pub(super) fn provider(parameters: &TlsParameters) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let by_name = |name: &String| SUITES.iter().find(|(known, _)| known == name).map(|(_, suite)| *suite);
    provider.cipher_suites = if parameters.suites.is_empty() {
        SUITES.iter().map(|(_, suite)| *suite).collect::<Vec<SupportedCipherSuite>>()
    } else {
        parameters.suites.iter().filter_map(by_name).collect()
    };
    if !parameters.curves.is_empty() {
        let by_name = |name: &String| GROUPS.iter().find(|(known, _)| known == name).map(|(_, group)| *group);
        provider.kx_groups = parameters.curves.iter().filter_map(by_name).collect();
    }
    provider
}

/// The versions as they are configured.
pub(super) fn versions(parameters: &TlsParameters) -> &'static [&'static SupportedProtocolVersion] {
    static ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
    static ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];
    static BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    match (parameters.min_version, parameters.max_version) {
        (_, TlsVersion::V12) => ONLY_12,
        (TlsVersion::V13, TlsVersion::V13) => ONLY_13,
        (TlsVersion::V12, TlsVersion::V13) => BOTH,
    }
}

/// Loaded keys of one core, by the number of their certificate.
type Keys = [OnceLock<Option<Arc<CertifiedKey>>>];

struct Resolver {
    store: Arc<Store>,
    bind: ListenerId,
    keys: Arc<Keys>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificates of {:?}", self.bind)
    }
}

impl Resolver {
    fn find(&self, sni: Option<&str>) -> &[u32] {
        self.store.binds[self.bind].as_ref().map_or(&[], |names| names.find(sni))
    }

    fn key(&self, number: u32) -> Option<&Arc<CertifiedKey>> {
        let certificate = &self.store.entries[number as usize].certificate;
        self.keys[number as usize].get_or_init(|| certificate.certified(&self.provider)).as_ref()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let sni = hello.server_name().map(str::to_ascii_lowercase);
        let candidates = self.find(sni.as_deref());
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let found = candidates.iter().filter_map(|number| self.key(*number)).find(fits);
        // A client that can check none of them gets the first and may say so itself.
        found.or_else(|| self.key(*candidates.first()?)).cloned()
    }
}

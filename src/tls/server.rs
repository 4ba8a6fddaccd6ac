//! What one core answers handshakes of clients with: a rustls configuration for each TLS bind, and keys that are loaded when
//! somebody asks for them. Nothing here is shared with another core but the store, which is only read.

use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, OnceLock};

use ahash::AHashMap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::cert::Certificate;
use super::handshake::{Choose, Chosen};
use super::lenient::Lenient;
use super::listing::Shown;
use super::names::{GROUPS, SUITES};
use super::store::Store;
use crate::base::id::{IdVec, ListenerId};
use crate::base::limits::TLS_EARLY_BYTES_MAX;
use crate::model::Model;
use crate::model::tls::{BindTls, ClientAuth, Handshake, TlsParameters, TlsVersion};

/// The TLS binds of one core.
pub struct Binds {
    binds: IdVec<ListenerId, Option<Bind>>,
    store: Arc<Store>,
    keys: Arc<Keys>,
}

/// One TLS bind of one core.
pub struct Bind {
    /// By the number of the settings: the bind's own, then those of names.
    configs: Vec<Chosen>,
    resolver: Arc<Resolver>,
}

impl Binds {
    /// Makes the configurations of a core. Keys that were loaded `before` are taken from there.
    ///
    /// # Errors
    /// What rustls refuses; resolve leaves nothing that it would.
    pub fn new(model: &Model, store: &Arc<Store>, before: Option<&Binds>) -> Result<Binds, rustls::Error> {
        let keys: Arc<Keys> = store.entries.iter().map(|_| OnceLock::new()).collect();
        if let Some(before) = before {
            before.hand_over(store, &keys);
        }
        let mut binds = IdVec::new();
        for (id, bind) in model.binds.iter() {
            let made = bind.tls.as_deref().map(|tls| Bind::new(tls, id, store, &keys)).transpose()?;
            binds.push(made);
        }
        Ok(Binds { binds, store: store.clone(), keys })
    }

    /// Fills in the keys of certificates that stay.
    fn hand_over(&self, store: &Store, keys: &Keys) {
        let loaded: AHashMap<*const Certificate, &Arc<CertifiedKey>> = self
            .store
            .entries
            .iter()
            .zip(self.keys.iter())
            .filter_map(|(entry, key)| Some((Arc::as_ptr(&entry.certificate), key.get()?.as_ref()?)))
            .collect();
        for (entry, key) in store.entries.iter().zip(keys) {
            if let Some(known) = loaded.get(&Arc::as_ptr(&entry.certificate)) {
                // It is fresh.
                let _ = key.set(Some((*known).clone()));
            }
        }
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
        let resolver = Arc::new(Resolver {
            store: store.clone(),
            bind: id,
            keys: keys.clone(),
            provider: Arc::new(aws_lc_rs::default_provider()),
        });
        let all = tls.handshakes().chain(&store.added[id]);
        let configs = all.map(|handshake| config((tls, handshake), store, &resolver));
        Ok(Bind { configs: configs.collect::<Result<_, _>>()?, resolver })
    }
}

fn config(
    (tls, handshake): (&BindTls, &Handshake),
    store: &Store,
    resolver: &Arc<Resolver>,
) -> Result<Chosen, rustls::Error> {
    let provider = Arc::new(provider(&handshake.parameters));
    let (verifier, lenient) = verifier(handshake, store, &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions(&handshake.parameters))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver.clone());
    config.alpn_protocols.clone_from(&handshake.parameters.alpn);
    config.ignore_client_order = true;
    // The record layer goes on without rustls (`records`).
    config.enable_secret_extraction = true;
    config.session_storage = match tls.session_cache {
        0 => Arc::new(NoServerSessionStorage {}),
        sessions => ServerSessionMemoryCache::new(sessions),
    };
    if let Some(path) = &tls.key_log {
        let log = store.key_logs.get(path);
        config.key_log = log.map_err(|e| rustls::Error::General(format!("{}: {e}", path.display())))?;
    }
    if tls.early_data {
        config.max_early_data_size = TLS_EARLY_BYTES_MAX;
        config.send_half_rtt_data = true;
        // A ticket is good any number of times, and so would be what comes with it.
        config.session_storage = store.early_sessions.clone();
    } else if !tls.no_tickets {
        let of_file = tls.ticket_keys.as_ref().and_then(|path| store.ticket_files.get(path));
        let tickets = of_file.unwrap_or(&store.tickets).producer(&domain(handshake, store));
        let failed = || rustls::Error::General("keys of session tickets that cannot be used".into());
        config.ticketer = Arc::new(tickets.ok_or_else(failed)?);
    }
    Ok(Chosen { config: Arc::new(config), lenient })
}

/// What a ticket is good for: the same demands on clients, the same authorities, the same lists of revoked certificates. Paths
/// do not count, since machines that share keys may have them elsewhere.
fn domain(handshake: &Handshake, store: &Store) -> Vec<u8> {
    let mut domain =
        format!("{:?}{:?}{:?}\n", handshake.verify, handshake.ignored, handshake.ca_ignored).into_bytes();
    let mut push = |bytes: &[u8]| {
        domain.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        domain.extend_from_slice(bytes);
    };
    if handshake.verify != ClientAuth::None {
        for root in &store.trust.roots(&handshake.authorities()).roots {
            push(root.subject.as_ref());
            push(root.subject_public_key_info.as_ref());
        }
        store.trust.revoked(&handshake.crl_files).iter().for_each(|list| push(list.as_ref()));
    }
    domain
}

impl Choose for Bind {
    fn choose(&self, sni: Option<&str>) -> Option<Chosen> {
        let first = self.resolver.find(sni).first()?;
        self.configs.get(usize::from(first.settings)).cloned()
    }
}

/// Who verifies clients, and the same where it lets some through.
type Verifiers = (Arc<dyn ClientCertVerifier>, Option<Arc<Lenient>>);

/// Who may show a certificate, and must; and who is let through with a bad one.
fn verifier(
    handshake: &Handshake,
    store: &Store,
    provider: &Arc<CryptoProvider>,
) -> Result<Verifiers, rustls::Error> {
    if handshake.verify == ClientAuth::None {
        return Ok((WebPkiClientVerifier::no_client_auth(), None));
    }
    let roots = store.trust.roots(&handshake.authorities());
    let hints = if handshake.ca_files.is_empty() {
        Vec::new()
    } else {
        store.trust.roots(&handshake.ca_files).subjects()
    };
    let build = |with_lists: bool| {
        let mut builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .clear_root_hint_subjects()
            .add_root_hint_subjects(hints.iter().cloned());
        if with_lists && !handshake.crl_files.is_empty() {
            let lists = store.trust.revoked(&handshake.crl_files);
            builder = builder.with_crls(lists.iter().cloned()).allow_unknown_revocation_status();
        }
        if handshake.verify == ClientAuth::Optional {
            builder = builder.allow_unauthenticated();
        }
        builder.build().map_err(|e| rustls::Error::General(format!("cannot verify clients: {e}")))
    };
    let strict = build(true)?;
    if handshake.ignored.is_empty() && handshake.ca_ignored.is_empty() {
        return Ok((strict, None));
    }
    let lists = store.trust.revoked(&handshake.crl_files);
    let lenient = Arc::new(Lenient::new((strict, build(false)?), lists, handshake, provider));
    Ok((lenient.clone(), Some(lenient)))
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
    fn find(&self, sni: Option<&str>) -> &[Shown] {
        self.store.binds[self.bind].as_ref().map_or(&[], |names| names.find(sni))
    }

    fn key(&self, number: u32) -> Option<&Arc<CertifiedKey>> {
        let certificate = &self.store.entries[number as usize].certificate;
        self.keys[number as usize].get_or_init(|| certificate.certified(&self.provider)).as_ref()
    }
}

thread_local! {
    /// What the last hello on this core is answered with: rustls does not say it of a connection.
    static SHOWN: Cell<Option<Arc<CertifiedKey>>> = const { Cell::new(None) };
}

/// What the hello that was looked at just now is answered with.
pub(super) fn take_shown() -> Option<Arc<CertifiedKey>> {
    SHOWN.take()
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let sni = hello.server_name().map(str::to_ascii_lowercase);
        let candidates = self.find(sni.as_deref());
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let found = candidates.iter().filter_map(|shown| self.key(shown.certificate)).find(fits);
        // A client that can check none of them gets the first and may say so itself.
        let shown = found.or_else(|| self.key(candidates.first()?.certificate)).cloned();
        SHOWN.set(shown.clone());
        shown
    }
}

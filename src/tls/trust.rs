//! Whom we trust: authorities and lists of revoked certificates, as files hold them.

use std::path::PathBuf;
use std::sync::Arc;

use ahash::AHashMap;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::cert::CertError;
use super::store::{Problem, expand, read_file};
use crate::model::Model;

/// Authorities and revocation lists of a model, by the files that name them.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust {
    roots: AHashMap<Vec<PathBuf>, Arc<RootCertStore>>,
    revoked: AHashMap<Vec<PathBuf>, Vec<CertificateRevocationListDer<'static>>>,
}

impl Trust {
    /// Reads what the binds and servers of a model name.
    pub(super) fn load(model: &Model, problems: &mut Vec<Problem>) -> Trust {
        let mut trust = Trust::default();
        let mut note = |origin: &str, result: Result<(), (PathBuf, CertError)>| {
            if let Err((path, error)) = result {
                problems.push(Problem { origin: origin.to_owned(), path, error });
            }
        };
        for (_, bind) in model.binds.iter() {
            let all = bind.tls.iter().flat_map(|tls| tls.handshakes());
            for handshake in all.filter(|handshake| !handshake.authorities().is_empty()) {
                note(&bind.origin, trust.add_roots(&handshake.authorities()));
                if !handshake.ca_files.is_empty() {
                    note(&bind.origin, trust.add_roots(&handshake.ca_files));
                }
                note(&bind.origin, trust.add_revoked(&handshake.crl_files));
            }
        }
        for (_, server) in model.servers.iter() {
            if let Some(tls) = server.tls.as_deref().filter(|tls| tls.verify) {
                note(&server.origin, trust.add_roots(&tls.ca_files));
            }
        }
        trust
    }

    /// The authorities of these files; none: those of the system.
    pub(super) fn roots(&self, files: &[PathBuf]) -> Arc<RootCertStore> {
        self.roots.get(files).cloned().unwrap_or_else(|| Arc::new(RootCertStore::empty()))
    }

    /// The lists of these files.
    pub(super) fn revoked(&self, files: &[PathBuf]) -> &[CertificateRevocationListDer<'static>] {
        self.revoked.get(files).map_or(&[], Vec::as_slice)
    }

    fn add_roots(&mut self, files: &[PathBuf]) -> Result<(), (PathBuf, CertError)> {
        if self.roots.contains_key(files) {
            return Ok(());
        }
        let mut roots = RootCertStore::empty();
        if files.is_empty() {
            // What the system cannot read of its own store is no error of ours; an empty store trusts nobody.
            for der in rustls_native_certs::load_native_certs().certs {
                let _ = roots.add(der);
            }
        }
        for_each(files, |pem| {
            let mut any = false;
            for der in CertificateDer::pem_slice_iter(pem) {
                let der = der.map_err(|e| CertError::Pem(e.to_string()))?;
                roots.add(der).map_err(|e| CertError::BadCertificate(e.to_string()))?;
                any = true;
            }
            if any { Ok(()) } else { Err(CertError::NoCertificate) }
        })?;
        self.roots.insert(files.to_vec(), Arc::new(roots));
        Ok(())
    }

    fn add_revoked(&mut self, files: &[PathBuf]) -> Result<(), (PathBuf, CertError)> {
        let mut lists = Vec::new();
        for_each(files, |pem| {
            for der in CertificateRevocationListDer::pem_slice_iter(pem) {
                lists.push(der.map_err(|e| CertError::Pem(e.to_string()))?);
            }
            Ok(())
        })?;
        self.revoked.insert(files.to_vec(), lists);
        Ok(())
    }
}

fn for_each(
    files: &[PathBuf],
    mut look: impl FnMut(&[u8]) -> Result<(), CertError>,
) -> Result<(), (PathBuf, CertError)> {
    for file in files {
        for path in expand(file).map_err(|e| (file.clone(), e))? {
            let pem = read_file(&path).map_err(|e| (path.clone(), CertError::Io(e.to_string())))?;
            look(&pem).map_err(|e| (path.clone(), e))?;
        }
    }
    Ok(())
}

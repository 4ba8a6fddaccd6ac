//! Whom we trust: authorities and lists of revoked certificates, as files hold them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ahash::AHashMap;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use xxhash_rust::xxh3::xxh3_64;

use super::cert::CertError;
use super::store::{Problem, expand, read_file};
use crate::model::Model;
use crate::model::tls::Handshake;

/// Lists of revoked certificates.
pub(super) type Revoked = Arc<[CertificateRevocationListDer<'static>]>;

/// Authorities and revocation lists of a model, by the files that name them: each file by itself, and what is named together.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust {
    roots: AHashMap<Vec<PathBuf>, Arc<RootCertStore>>,
    revoked: AHashMap<Vec<PathBuf>, Revoked>,
    /// `ca` or `crl`, each file, and a hash of what stood there.
    pub(super) read: Read,
}

type Read = BTreeMap<(&'static str, PathBuf), u64>;

impl Trust {
    /// Reads what the binds, servers and log targets of a model name.
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
        for (peer, tls) in model.logging.over_tls().filter(|(_, tls)| tls.verify) {
            note(&format!("https://{peer}"), trust.add_roots(&tls.ca_files));
        }
        trust
    }

    /// The authorities of these files; none: those of the system.
    pub(super) fn roots(&self, files: &[PathBuf]) -> Arc<RootCertStore> {
        self.roots.get(files).cloned().unwrap_or_else(|| Arc::new(RootCertStore::empty()))
    }

    /// The lists of these files.
    pub(super) fn revoked(&self, files: &[PathBuf]) -> Revoked {
        self.revoked.get(files).cloned().unwrap_or_default()
    }

    /// Makes ready what an operator's settings name, out of files that were read when the configuration was: each by its whole
    /// path, or by the last parts of one. The settings get the whole paths.
    ///
    /// # Errors
    /// Which file was not read.
    pub(super) fn include(&mut self, handshake: &mut Handshake) -> Result<(), String> {
        for path in handshake.ca_files.iter_mut().chain(&mut handshake.ca_verify_files) {
            *path = known(self.roots.keys(), path)?;
        }
        for path in &mut handshake.crl_files {
            *path = known(self.revoked.keys(), path)?;
        }
        let failed = |(path, error): (PathBuf, CertError)| format!("{}: {error}", path.display());
        for files in [handshake.authorities(), handshake.ca_files.clone()] {
            if !files.is_empty() {
                self.add_roots(&files).map_err(failed)?;
            }
        }
        self.add_revoked(&handshake.crl_files).map_err(failed)
    }

    /// Several files are what each of them is.
    fn add_roots(&mut self, files: &[PathBuf]) -> Result<(), (PathBuf, CertError)> {
        if self.roots.contains_key(files) {
            return Ok(());
        }
        let mut roots = RootCertStore::empty();
        match files {
            // What the system cannot read of its own store is no error of ours; an empty store trusts nobody.
            [] => {
                for der in rustls_native_certs::load_native_certs().certs {
                    let _ = roots.add(der);
                }
            }
            [one] => for_each(("ca", one.as_path()), &mut self.read, |pem| {
                let mut any = false;
                for der in CertificateDer::pem_slice_iter(pem) {
                    let der = der.map_err(|e| CertError::Pem(e.to_string()))?;
                    roots.add(der).map_err(|e| CertError::BadCertificate(e.to_string()))?;
                    any = true;
                }
                if any { Ok(()) } else { Err(CertError::NoCertificate) }
            })?,
            _ => {
                for one in files {
                    self.add_roots(std::slice::from_ref(one))?;
                    roots.roots.extend(self.roots(std::slice::from_ref(one)).roots.iter().cloned());
                }
            }
        }
        self.roots.insert(files.to_vec(), Arc::new(roots));
        Ok(())
    }

    fn add_revoked(&mut self, files: &[PathBuf]) -> Result<(), (PathBuf, CertError)> {
        if self.revoked.contains_key(files) {
            return Ok(());
        }
        let mut lists = Vec::new();
        if let [one] = files {
            for_each(("crl", one.as_path()), &mut self.read, |pem| {
                for der in CertificateRevocationListDer::pem_slice_iter(pem) {
                    lists.push(der.map_err(|e| CertError::Pem(e.to_string()))?);
                }
                Ok(())
            })?;
        } else {
            for one in files {
                self.add_revoked(std::slice::from_ref(one))?;
                lists.extend(self.revoked(std::slice::from_ref(one)).iter().cloned());
            }
        }
        self.revoked.insert(files.to_vec(), lists.into());
        Ok(())
    }
}

/// The file among those that were read that a name means.
fn known<'a>(sets: impl Iterator<Item = &'a Vec<PathBuf>>, wanted: &Path) -> Result<PathBuf, String> {
    let single = sets.filter_map(|set| if let [one] = set.as_slice() { Some(one) } else { None });
    let found: Vec<&PathBuf> = single.filter(|path| path.ends_with(wanted)).collect();
    let name = wanted.display();
    match (found.iter().find(|path| **path == wanted), found.as_slice()) {
        (Some(one), _) | (None, [one]) => Ok((*one).clone()),
        (None, []) => {
            Err(format!("'{name}' was not read with the configuration; name it in a bind there and reload."))
        }
        _ => Err(format!("Several files end with '{name}'; use the whole path.")),
    }
}

fn for_each(
    (kind, file): (&'static str, &Path),
    read: &mut Read,
    mut look: impl FnMut(&[u8]) -> Result<(), CertError>,
) -> Result<(), (PathBuf, CertError)> {
    for path in expand(file).map_err(|e| (file.to_path_buf(), e))? {
        let pem = read_file(&path).map_err(|e| (path.clone(), CertError::Io(e.to_string())))?;
        look(&pem).map_err(|e| (path.clone(), e))?;
        read.insert((kind, path), xxh3_64(&pem));
    }
    Ok(())
}

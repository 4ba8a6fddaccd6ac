//! All certificates of a model and which bind shows which, shared by all cores and never changed: a new model, or an
//! operator's change, makes a new store out of the old one. What did not change is not parsed again.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::AHashMap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ProducesTickets;

use super::cert::{self, CertError, Certificate};
use super::trust::Trust;
use crate::base::id::{IdVec, ListenerId};
use crate::base::limits::{CERTIFICATE_FILE_BYTES_MAX, CERTIFICATES_PER_DIRECTORY_MAX};
use crate::model::Model;
use crate::model::tls::BindTls;

/// A file with a certificate.
#[derive(Debug)]
pub struct Entry {
    /// Where it was read, as it is shown and named by commands.
    pub path: PathBuf,
    /// The certificate.
    pub certificate: Arc<Certificate>,
    /// Of the bytes of its files: while it stays the same nothing is parsed again.
    hash: u64,
}

/// Certificates by where they were read.
#[derive(Debug)]
pub struct Store {
    /// Every certificate once.
    pub entries: Vec<Entry>,
    /// What each bind shows; `None`: it is plain.
    pub(super) binds: IdVec<ListenerId, Option<BindNames>>,
    /// Authorities and lists of revoked certificates.
    pub(super) trust: Trust,
    /// Keys of session tickets: a session that began on one core may go on on another.
    pub(super) tickets: Arc<dyn ProducesTickets>,
}

/// What a bind shows to whom.
#[derive(Debug, Default)]
pub(super) struct BindNames {
    pub(super) exact: AHashMap<Box<str>, Vec<u32>>,
    /// By what stands behind `*`, the dot included.
    pub(super) wildcard: AHashMap<Box<str>, Vec<u32>>,
    /// For names that there is nothing for; none with `strict-sni`.
    pub(super) default: Vec<u32>,
}

/// A file that is of no use.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The bind that names it: `file:line:col`.
    pub origin: String,
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub error: CertError,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.origin, self.path.display(), self.error)
    }
}

impl Store {
    /// Reads all certificates of a model. Those whose files are as they were in `old` are taken from there.
    ///
    /// # Errors
    /// Every file that is of no use.
    pub fn load(model: &Model, old: Option<&Store>) -> Result<Store, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
        let mut wanted: IdVec<ListenerId, Option<Vec<PathBuf>>> = IdVec::new();
        for (_, bind) in model.binds.iter() {
            let Some(tls) = &bind.tls else {
                wanted.push(None);
                continue;
            };
            let mut own = Vec::new();
            for path in &tls.certificates {
                match expand(path) {
                    Ok(paths) => own.extend(paths),
                    Err(error) => {
                        problems.push(Problem { origin: bind.origin.clone(), path: path.clone(), error });
                    }
                }
            }
            for path in &own {
                files.entry(path.clone()).or_insert_with(|| bind.origin.clone());
            }
            wanted.push(Some(own));
        }
        for (_, server) in model.servers.iter() {
            if let Some(path) = server.tls.as_deref().and_then(|tls| tls.certificate.clone()) {
                files.entry(path).or_insert_with(|| server.origin.clone());
            }
        }
        let paths: Vec<(PathBuf, String)> = files.into_iter().collect();
        let loaded = load_all(&paths, old);
        let tickets = match old {
            Some(old) => old.tickets.clone(),
            None => aws_lc_rs::Ticketer::new().map_err(|e| {
                let error = CertError::Io(format!("cannot make keys for session tickets: {e}"));
                vec![Problem { origin: String::new(), path: PathBuf::new(), error }]
            })?,
        };
        let trust = Trust::load(model, &mut problems);
        let mut store = Store { entries: Vec::new(), binds: IdVec::new(), trust, tickets };
        let mut index = AHashMap::new();
        for ((path, origin), loaded) in paths.into_iter().zip(loaded) {
            match loaded {
                Ok((certificate, hash)) => {
                    let number = u32::try_from(store.entries.len()).unwrap_or(u32::MAX);
                    index.insert(path.clone(), number);
                    store.entries.push(Entry { path, certificate, hash });
                }
                Err(error) => problems.push(Problem { origin, path, error }),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        for (id, paths) in wanted.iter() {
            let names = model.binds[id].tls.as_deref().zip(paths.as_ref()).map(|(tls, paths)| {
                let numbers: Vec<u32> = paths.iter().filter_map(|path| index.get(path).copied()).collect();
                BindNames::new(tls, &numbers, &store.entries)
            });
            store.binds.push(names);
        }
        Ok(store)
    }

    /// The certificate of a file.
    pub fn find(&self, path: &Path) -> Option<&Arc<Certificate>> {
        self.entries.iter().find(|entry| entry.path == path).map(|entry| &entry.certificate)
    }
}

impl BindNames {
    fn new(tls: &BindTls, numbers: &[u32], entries: &[Entry]) -> BindNames {
        let mut names = BindNames::default();
        let certificate = |number: u32| &entries[number as usize].certificate;
        for number in numbers.iter().copied() {
            for name in &certificate(number).names {
                let list = match name.strip_prefix('*') {
                    Some(suffix) => names.wildcard.entry(suffix.into()).or_default(),
                    None => names.exact.entry(name.as_str().into()).or_default(),
                };
                // The first of a type for a name stays.
                if !list.iter().any(|seen| certificate(*seen).key_type == certificate(number).key_type) {
                    list.push(number);
                }
            }
        }
        for list in names.exact.values_mut().chain(names.wildcard.values_mut()) {
            list.sort_by_key(|number| certificate(*number).key_type);
        }
        if !tls.strict_sni
            && let Some(first) = numbers.first().copied()
        {
            // The default may come in several types too: those with the names of the first.
            let same = certificate(first).names.clone();
            names.default = numbers.iter().copied().filter(|n| certificate(*n).names == same).collect();
            names.default.sort_by_key(|number| certificate(*number).key_type);
        }
        names
    }

    /// The certificates for a name, best type first; empty: there is none, and no default.
    pub(super) fn find(&self, sni: Option<&str>) -> &[u32] {
        if let Some(sni) = sni {
            if let Some(found) = self.exact.get(sni) {
                return found;
            }
            // A wildcard stands for one label (RFC 6125 6.4.3).
            if let Some(dot) = sni.find('.')
                && let Some(found) = self.wildcard.get(&sni[dot..])
            {
                return found;
            }
        }
        &self.default
    }
}

/// A file, or the files of a directory in the order of their names.
pub(super) fn expand(path: &Path) -> Result<Vec<PathBuf>, CertError> {
    let io = |e: io::Error| CertError::Io(e.to_string());
    if !std::fs::metadata(path).map_err(io)?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_companion = [".key", ".ocsp", ".issuer", ".sctl"].iter().any(|end| name.ends_with(end));
        if !name.starts_with('.') && !is_companion && path.is_file() {
            paths.push(path);
        }
        if paths.len() > CERTIFICATES_PER_DIRECTORY_MAX {
            let why = format!("more than {CERTIFICATES_PER_DIRECTORY_MAX} files");
            return Err(CertError::Io(why));
        }
    }
    if paths.is_empty() {
        return Err(CertError::NoCertificate);
    }
    paths.sort();
    Ok(paths)
}

type Loaded = Result<(Arc<Certificate>, u64), CertError>;

/// Reads and parses on all CPUs: the keys of a large directory take seconds on one.
fn load_all(paths: &[(PathBuf, String)], old: Option<&Store>) -> Vec<Loaded> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let known: AHashMap<&Path, &Entry> =
        old.into_iter().flat_map(|old| old.entries.iter()).map(|e| (e.path.as_path(), e)).collect();
    let threads =
        std::thread::available_parallelism().map_or(1, usize::from).min(paths.len().div_ceil(8)).max(1);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((path, _)) = paths.get(at) else { return done };
            done.push((at, load_one(path, known.get(path.as_path()).copied(), &provider)));
        }
    };
    let mut done = if threads == 1 {
        work()
    } else {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|t| t.join().unwrap_or_default()).collect::<Vec<_>>()
        })
    };
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, loaded)| loaded).collect()
}

fn load_one(path: &Path, known: Option<&Entry>, provider: &CryptoProvider) -> Loaded {
    let files = cert::read(path)?;
    let mut hasher = DefaultHasher::new();
    (&files.pem, &files.key, &files.ocsp).hash(&mut hasher);
    let hash = hasher.finish();
    if let Some(known) = known.filter(|known| known.hash == hash) {
        return Ok((known.certificate.clone(), hash));
    }
    Ok((Arc::new(files.parse(provider)?), hash))
}

/// A wrong path may be a device that never ends.
pub(super) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(CERTIFICATE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > CERTIFICATE_FILE_BYTES_MAX {
        return Err(io::Error::other(format!("the file is larger than {CERTIFICATE_FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

//! All certificates of a model and which bind shows which, shared by all cores and never changed: a new model, or an
//! operator's change, makes a new store out of the old one. What did not change is not parsed again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::AHashMap;
use rustls::crypto::CryptoProvider;
use rustls::server::ServerSessionMemoryCache;
use xxhash_rust::xxh3::xxh3_64;

use super::cert::{self, CertError, Certificate, Stamp};
use super::key_log::KeyLogs;
use super::listing::{BindNames, Line};
use super::ocsp::{self, Question};
use super::tickets::TicketKeys;
use super::trust::Trust;
use crate::base::id::{IdVec, ListenerId, ServerId};
use crate::base::limits::{
    CERTIFICATE_FILE_BYTES_MAX, CERTIFICATE_WARNING_PART, CERTIFICATE_WARNING_S,
    CERTIFICATES_PER_DIRECTORY_MAX, TLS_EARLY_SESSIONS,
};
use crate::model::tls::Handshake;
use crate::model::{Model, Server};

/// A file with a certificate.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it was read, as it is shown and named by commands.
    pub path: PathBuf,
    /// The certificate.
    pub certificate: Arc<Certificate>,
    /// Of the bytes of its files: while it stays the same nothing is parsed again.
    pub hash: u64,
    /// While it stays the same they are not even read again.
    pub(super) stamp: Option<Stamp>,
}

/// Certificates by where they were read.
#[derive(Clone, Debug)]
pub struct Store {
    /// Every certificate once.
    pub entries: Vec<Entry>,
    /// What each bind lists; `None`: it is plain.
    pub(super) lines: IdVec<ListenerId, Option<Vec<Line>>>,
    /// What comes of it.
    pub(super) binds: IdVec<ListenerId, Option<BindNames>>,
    /// Settings that operators gave to lines beyond those of the configuration, numbered behind those.
    pub(super) added: IdVec<ListenerId, Vec<Handshake>>,
    /// Authorities and lists of revoked certificates.
    pub(super) trust: Trust,
    /// Keys of session tickets: a session that began on one core may go on on another.
    pub(super) tickets: TicketKeys,
    /// Sessions that may begin with early data (`allow-0rtt`): each once, on whatever core.
    pub(super) early_sessions: Arc<ServerSessionMemoryCache>,
    /// Those of files (`tls-ticket-keys`), by the file.
    pub(super) ticket_files: BTreeMap<PathBuf, TicketKeys>,
    /// Files of `tls-keylog`.
    pub(super) key_logs: Arc<KeyLogs>,
    /// Servers that speak TLS, and those whose checks do: a core need not look at all others.
    pub(super) tls_servers: (Arc<[ServerId]>, Arc<[ServerId]>),
    /// What else was read: `ca`, `crl` or `tickets`, the file, and a hash of what stood there.
    pub files: BTreeMap<(&'static str, PathBuf), u64>,
}

/// When certificates end.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Expiry {
    /// How many there are.
    pub certificates: u64,
    /// How many of them end soon.
    pub expiring: u64,
    /// How many have ended.
    pub expired: u64,
    /// Seconds until the first of them ends; negative if it has.
    pub next_s: Option<i64>,
    /// Those that end soon or have ended, and in how many seconds.
    pub ending: Vec<(PathBuf, i64)>,
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
        let (mut files, wanted) = wanted(model, &mut problems);
        for (_, server) in model.servers.iter() {
            if let Some(path) = server.tls.as_deref().and_then(|tls| tls.certificate.clone()) {
                files
                    .entry(path.into())
                    .or_insert_with(|| Named { origin: server.origin.clone(), ..Named::default() });
            }
        }
        for (peer, tls) in model.logging.over_tls() {
            if let Some(path) = tls.certificate.clone() {
                let origin = format!("https://{peer}");
                files.entry(path.into()).or_insert_with(|| Named { origin, ..Named::default() });
            }
        }
        let paths: Vec<(PathBuf, Named)> =
            files.into_iter().map(|(path, named)| (path.into(), named)).collect();
        let loaded = load_all(&paths, old);
        let tickets = match old {
            Some(old) => old.tickets.clone(),
            None => TicketKeys::fresh().ok_or_else(|| {
                let error = CertError::Ticket("cannot make keys for session tickets".to_owned());
                vec![Problem { origin: String::new(), path: PathBuf::new(), error }]
            })?,
        };
        let trust = Trust::load(model, &mut problems);
        let ticket_files = ticket_files(model, &mut problems);
        let mut others = trust.read.clone();
        others.extend(ticket_files.keys().map(|path| (("tickets", path.clone()), hash_of(path))));
        let early_sessions = old.map_or_else(
            || ServerSessionMemoryCache::new(TLS_EARLY_SESSIONS),
            |old| old.early_sessions.clone(),
        );
        let mut store = Store {
            entries: Vec::new(),
            lines: IdVec::new(),
            binds: IdVec::new(),
            added: model.binds.iter().map(|_| Vec::new()).collect(),
            trust,
            tickets,
            ticket_files,
            early_sessions,
            files: others,
            key_logs: Arc::default(),
            tls_servers: tls_servers(model),
        };
        let mut index: AHashMap<OsString, u32> = AHashMap::new();
        for ((path, Named { origin, .. }), loaded) in paths.into_iter().zip(loaded) {
            match loaded {
                Ok((certificate, hash, stamp)) => {
                    let number = u32::try_from(store.entries.len()).unwrap_or(u32::MAX);
                    index.insert(path.clone().into(), number);
                    store.entries.push(Entry { path, certificate, hash, stamp });
                }
                Err(error) => problems.push(Problem { origin, path, error }),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        for (_, wanted) in wanted.iter() {
            let line = |wanted: &Wanted| {
                Some(Line {
                    certificate: *index.get(wanted.path.as_os_str())?,
                    list: wanted.list.clone(),
                    names: wanted.names.clone(),
                    settings: wanted.settings,
                })
            };
            store.lines.push(wanted.as_ref().map(|wanted| wanted.iter().filter_map(line).collect()));
        }
        store.name_binds(model);
        Ok(store)
    }

    /// Says which bind shows what, after entries or lines changed.
    pub(super) fn name_binds(&mut self, model: &Model) {
        let entries = &self.entries;
        let names = |(id, lines): (ListenerId, &Option<Vec<Line>>)| {
            let tls = model.binds[id].tls.as_deref()?;
            Some(BindNames::new(tls.strict_sni, lines.as_deref()?, entries))
        };
        self.binds = self.lines.iter().map(names).collect();
    }

    /// The same with a fresh key for session tickets; `None`: there is no randomness.
    pub fn with_turned_tickets(&self) -> Option<Store> {
        Some(Store { tickets: self.tickets.turned()?, ..self.clone() })
    }

    /// What to ask responders: the file of each certificate that is kept fresh (`ocsp-update`), and the question, if its
    /// authority has a responder.
    pub fn questions(&self, model: &Model) -> Vec<(PathBuf, Option<Question>)> {
        let mut wanted = BTreeSet::new();
        for (id, lines) in self.lines.iter() {
            if model.binds[id].tls.as_deref().is_some_and(|tls| tls.ocsp_update) {
                wanted.extend(lines.iter().flatten().map(|line| line.certificate));
            }
        }
        let entries = wanted.into_iter().filter_map(|number| self.entries.get(number as usize));
        entries.map(|entry| (entry.path.clone(), ocsp::question(&entry.certificate.chain))).collect()
    }

    /// The same with answers of responders to staple.
    pub fn with_responses(&self, responses: &[(PathBuf, Vec<u8>)]) -> Store {
        let mut next = self.clone();
        for entry in &mut next.entries {
            if let Some((_, response)) = responses.iter().find(|(path, _)| *path == entry.path) {
                entry.certificate = Arc::new(entry.certificate.with_ocsp(response.clone()));
            }
        }
        next
    }

    /// When certificates in use end.
    pub fn expiry(&self, now_s: i64) -> Expiry {
        let mut expiry = Expiry { certificates: self.entries.len() as u64, ..Expiry::default() };
        for entry in &self.entries {
            let (from, until) = (entry.certificate.not_before, entry.certificate.not_after);
            let left = until - now_s;
            expiry.next_s = Some(expiry.next_s.map_or(left, |next| next.min(left)));
            let patience = ((until - from) / CERTIFICATE_WARNING_PART).min(CERTIFICATE_WARNING_S);
            if left <= 0 {
                expiry.expired += 1;
            } else if left < patience {
                expiry.expiring += 1;
            } else {
                continue;
            }
            expiry.ending.push((entry.path.clone(), left));
        }
        expiry
    }

    /// The certificate of a file.
    pub fn find(&self, path: &Path) -> Option<&Arc<Certificate>> {
        self.entries.iter().find(|entry| entry.path == path).map(|entry| &entry.certificate)
    }
}

fn tls_servers(model: &Model) -> (Arc<[ServerId]>, Arc<[ServerId]>) {
    let of = |speaks: fn(&Server) -> bool| {
        model.servers.iter().filter(|(_, server)| speaks(server)).map(|(id, _)| id).collect()
    };
    (
        of(|server| server.tls.is_some()),
        of(|server| server.check.as_ref().is_some_and(|check| check.tls.is_some())),
    )
}

fn ticket_files(model: &Model, problems: &mut Vec<Problem>) -> BTreeMap<PathBuf, TicketKeys> {
    let mut files = BTreeMap::new();
    for (_, bind) in model.binds.iter() {
        let Some(path) = bind.tls.as_deref().and_then(|tls| tls.ticket_keys.clone()) else { continue };
        if files.contains_key(&path) {
            continue;
        }
        match TicketKeys::read(&path) {
            Ok(keys) => drop(files.insert(path, keys)),
            Err(error) => problems.push(Problem { origin: bind.origin.clone(), path, error }),
        }
    }
    files
}

/// A certificate that a bind is to show: a line before its number is known.
struct Wanted {
    path: PathBuf,
    list: PathBuf,
    names: Vec<String>,
    settings: u16,
}

/// How a file is named first.
#[derive(Clone, Default)]
struct Named {
    /// The place in the configuration.
    origin: String,
    /// Its key and its OCSP response, where they do not stand beside it.
    key: Option<PathBuf>,
    ocsp: Option<PathBuf>,
}

/// Each file. Paths as text: to compare thousands of them part by part takes its time.
type Origins = BTreeMap<OsString, Named>;

/// The files of the binds, and what each bind shows.
fn wanted(model: &Model, problems: &mut Vec<Problem>) -> (Origins, IdVec<ListenerId, Option<Vec<Wanted>>>) {
    let mut files = Origins::new();
    let mut wanted: IdVec<ListenerId, Option<Vec<Wanted>>> = IdVec::new();
    for (_, bind) in model.binds.iter() {
        let Some(tls) = &bind.tls else {
            wanted.push(None);
            continue;
        };
        let mut own = Vec::new();
        let mut settings = 0;
        for listed in &tls.certificates {
            settings += u16::from(listed.settings.is_some());
            match expand(&listed.path) {
                Ok(paths) => {
                    for path in &paths {
                        files.entry(path.clone().into()).or_insert_with(|| Named {
                            origin: bind.origin.clone(),
                            key: listed.key.clone(),
                            ocsp: listed.ocsp.clone(),
                        });
                    }
                    own.extend(paths.into_iter().map(|path| Wanted {
                        path,
                        list: listed.list.clone().unwrap_or_else(|| listed.path.clone()),
                        names: listed.names.clone(),
                        settings: if listed.settings.is_some() { settings } else { 0 },
                    }));
                }
                Err(error) => {
                    let (origin, path) = (bind.origin.clone(), listed.path.clone());
                    problems.push(Problem { origin, path, error });
                }
            }
        }
        wanted.push(Some(own));
    }
    (files, wanted)
}

/// A file, or the files of a directory in the order of their names.
pub(super) fn expand(path: &Path) -> Result<Vec<PathBuf>, CertError> {
    let io = |e: io::Error| CertError::Io(e.to_string());
    if !std::fs::metadata(path).map_err(io)?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?;
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Of a link it counts where it leads.
        let is_file = || match entry.file_type() {
            Ok(kind) if !kind.is_symlink() => kind.is_file(),
            _ => path.is_file(),
        };
        let is_companion = [".key", ".ocsp", ".issuer", ".sctl"].iter().any(|end| name.ends_with(end));
        if !name.starts_with('.') && !is_companion && is_file() {
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
    // All stand in one directory: this is the order of their names.
    paths.sort_unstable_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    Ok(paths)
}

type Loaded = Result<(Arc<Certificate>, u64, Option<Stamp>), CertError>;

/// Reads and parses on all CPUs: the keys of a large directory take seconds on one.
fn load_all(paths: &[(PathBuf, Named)], old: Option<&Store>) -> Vec<Loaded> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let known: AHashMap<&OsStr, &Entry> =
        old.into_iter().flat_map(|old| old.entries.iter()).map(|e| (e.path.as_os_str(), e)).collect();
    let threads =
        std::thread::available_parallelism().map_or(1, usize::from).min(paths.len().div_ceil(8)).max(1);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((path, named)) = paths.get(at) else { return done };
            done.push((at, load_one((path, named), known.get(path.as_os_str()).copied(), &provider)));
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

fn load_one((path, named): (&Path, &Named), known: Option<&Entry>, provider: &CryptoProvider) -> Loaded {
    let (key, ocsp) = (named.key.as_deref(), named.ocsp.as_deref());
    let stamp = Stamp::of(path, key, ocsp);
    if let Some(known) = known.filter(|known| stamp.is_some() && known.stamp == stamp) {
        return Ok((known.certificate.clone(), known.hash, stamp));
    }
    let files = cert::read(path, key, ocsp)?;
    let hash = files.hash();
    if let Some(known) = known.filter(|known| known.hash == hash) {
        return Ok((known.certificate.clone(), hash, stamp));
    }
    Ok((Arc::new(files.parse(provider)?), hash, stamp))
}

/// Of what stands in a file; one that is gone by now is another one too.
fn hash_of(path: &Path) -> u64 {
    read_file(path).map_or(0, |bytes| xxh3_64(&bytes))
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

//! Certificates at run time, in HAProxy's words: `set`, `commit`, `abort`, `new`, `del ssl cert`, `dump`, `add|del ssl crt-list`. An order
//! answers with a text, and with a new store where it changes what is served. Files are not touched: a reload reads them again,
//! and what was changed here and not there is gone. Text in, text out; the control core hands new stores to the cores.

use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::cert::{self, CertError, Certificate, Files};
use super::listing::Line;
use super::lists;
use super::show;
use super::store::{Entry, Store};
use crate::model::Model;
use crate::model::tls::{BindTls, Handshake, shown_name};

/// What an operator wants of certificates. Names are those of files.
#[derive(Clone, Debug)]
pub enum Order<'a> {
    /// The names, or all about one (`*NAME`: about what is not committed).
    Show(Option<&'a str>),
    /// One as PEM, with its key.
    Dump(&'a str),
    /// A place for one that is not there yet.
    New(&'a str),
    /// New content, served once it is committed.
    Set(&'a str, &'a str),
    /// Serve it.
    Commit(&'a str),
    /// Forget it.
    Abort(&'a str),
    /// Forget one that nobody uses.
    Del(&'a str),
    /// The lists, or the lines of one, numbered if so wished.
    ShowList(Option<&'a str>, bool),
    /// Show a certificate for names from now on.
    AddToList(NewLine<'a>),
    /// No longer.
    DelFromList(&'a str, &'a str),
}

/// A line of a list.
#[derive(Clone)]
pub struct NewLine<'a> {
    /// The list.
    pub list: &'a str,
    /// The certificate.
    pub certificate: &'a str,
    /// Names that it is shown for, or with `!` in front not.
    pub names: Vec<&'a str>,
    /// What becomes of the settings of a bind on connections to these names; `None`: they stay.
    pub settings: Option<Settings<'a>>,
}

/// Settings of names, given those of their bind; or why they cannot be had there.
pub type Settings<'a> = &'a dyn Fn(&BindTls) -> Result<Handshake, String>;

impl fmt::Debug for NewLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} in {}", self.certificate, self.names, self.list)
    }
}

/// What is said, and what is served from now on if that is something else.
#[derive(Debug)]
pub struct Done {
    /// The answer.
    pub text: String,
    /// The new certificates.
    pub store: Option<Arc<Store>>,
}

fn said(text: String) -> Result<Done, String> {
    Ok(Done { text, store: None })
}

/// What is under way.
#[derive(Debug, Default)]
pub struct Desk {
    pending: Option<Pending>,
    /// Places without a certificate.
    empty: BTreeSet<PathBuf>,
}

/// Content that is not committed.
#[derive(Debug)]
struct Pending {
    path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: Option<PrivateKeyDer<'static>>,
    ocsp: Option<Vec<u8>>,
    /// Of the payload, if a file with the same bytes is the same certificate.
    hash: u64,
}

impl Pending {
    fn certificate(&self) -> Result<Certificate, CertError> {
        let key = self.key.as_ref().ok_or(CertError::NoKey)?.clone_key();
        Certificate::new(self.chain.clone(), key, self.ocsp.clone(), &aws_lc_rs::default_provider())
    }
}

/// Which part of a certificate a name means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    All,
    Key,
    Ocsp,
}

impl Desk {
    /// Does it.
    ///
    /// # Errors
    /// Why not, for the operator.
    pub fn order(&mut self, order: &Order<'_>, model: &Model, store: &Arc<Store>) -> Result<Done, String> {
        match order {
            Order::Show(None) => said(self.list(store)),
            Order::Show(Some(name)) => self.show(name, model, store),
            Order::Dump(name) => {
                let path = self.place(store, name)?;
                let certificate = store.find(&path).ok_or_else(|| unknown(name))?;
                said(show::pem(certificate))
            }
            Order::New(name) => self.new_place(name, store),
            Order::Set(name, payload) => self.set(name, payload, store),
            Order::Commit(name) => self.commit(name, model, store),
            Order::Abort(name) => {
                let path = self.pending_of(name, store)?.path.display().to_string();
                self.pending = None;
                said(format!("Transaction aborted for certificate '{path}'!"))
            }
            Order::Del(name) => self.del(name, model, store),
            Order::ShowList(name, numbered) => lists::show(*name, *numbered, model, store),
            Order::AddToList(line) => self.add_to_list(line, model, store),
            Order::DelFromList(list, name) => self.del_from_list(list, name, model, store),
        }
    }

    /// Another configuration runs: what was under way belongs to the one before.
    pub fn reset(&mut self) {
        *self = Desk::default();
    }

    fn list(&self, store: &Store) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        if let Some(pending) = &self.pending {
            let _ = writeln!(out, "# transaction\n*{}", pending.path.display());
        }
        out.push_str("# filename\n");
        let mut paths: BTreeSet<&Path> = store.entries.iter().map(|entry| entry.path.as_path()).collect();
        paths.extend(self.empty.iter().map(PathBuf::as_path));
        for path in paths {
            let _ = writeln!(out, "{}", path.display());
        }
        out
    }

    fn show(&self, name: &str, model: &Model, store: &Store) -> Result<Done, String> {
        if let Some(name) = name.strip_prefix('*') {
            let pending = self.pending_of(name, store)?;
            let file = format!("*{}", pending.path.display());
            return match pending.certificate() {
                Ok(certificate) => said(show::text(&file, &certificate, "Unused", &[])),
                Err(why) => said(format!("Filename: {file}\nStatus: Unused\nProblem: {why}")),
            };
        }
        let path = self.place(store, name)?;
        let Some(number) = store.entries.iter().position(|entry| entry.path == path) else {
            return said(format!("Filename: {}\nStatus: Empty", path.display()));
        };
        let users = users(number, model, store);
        let status = if users.is_empty() { "Unused" } else { "Used" };
        said(show::text(&path.display().to_string(), &store.entries[number].certificate, status, &users))
    }

    /// The path that a name means: the whole one, or its last parts if no other ends with them.
    fn place(&self, store: &Store, name: &str) -> Result<PathBuf, String> {
        let wanted = Path::new(name);
        let all = || {
            store
                .entries
                .iter()
                .map(|entry| entry.path.as_path())
                .chain(self.empty.iter().map(PathBuf::as_path))
        };
        if let Some(path) = all().find(|path| *path == wanted) {
            return Ok(path.to_path_buf());
        }
        let mut found = all().filter(|path| !name.is_empty() && path.ends_with(wanted));
        match (found.next(), found.next()) {
            (Some(path), None) => Ok(path.to_path_buf()),
            (Some(_), Some(_)) => Err(format!("Several certificates end with '{name}'; use the whole path.")),
            _ => Err(unknown(name)),
        }
    }

    /// The same for the name of a part: `site.pem.key`, `site.key`, `site.pem.ocsp`.
    fn piece(&self, store: &Store, name: &str) -> Result<(PathBuf, Piece), String> {
        let whole = self.place(store, name);
        for (end, piece) in [(".key", Piece::Key), (".ocsp", Piece::Ocsp)] {
            let Some(stem) = name.strip_suffix(end).filter(|_| whole.is_err()) else { continue };
            let all = store.entries.iter().map(|entry| &entry.path).chain(&self.empty);
            let is_meant = |path: &&PathBuf| {
                let replaced = path.with_extension("");
                path.ends_with(stem) || replaced.ends_with(stem)
            };
            if let Some(path) = all.clone().find(is_meant) {
                return Ok((path.clone(), piece));
            }
        }
        whole.map(|path| (path, Piece::All))
    }

    fn pending_of(&self, name: &str, store: &Store) -> Result<&Pending, String> {
        let pending = self.pending.as_ref().ok_or_else(|| "No ongoing transaction!".to_owned())?;
        let (path, _) = self.piece(store, name)?;
        if pending.path == path {
            return Ok(pending);
        }
        let (current, wanted) = (pending.path.display(), path.display());
        Err(format!("The ongoing transaction is about '{current}' but you are trying to set '{wanted}'."))
    }

    fn new_place(&mut self, name: &str, store: &Store) -> Result<Done, String> {
        let path = PathBuf::from(name);
        let is_known = self.empty.contains(&path) || store.entries.iter().any(|entry| entry.path == path);
        if is_known {
            return Err(format!("Certificate '{name}' already exists!"));
        }
        self.empty.insert(path);
        said(format!("New empty certificate store '{name}'!"))
    }

    fn set(&mut self, name: &str, payload: &str, store: &Store) -> Result<Done, String> {
        let (path, piece) = self.piece(store, name)?;
        if self.pending.is_some() {
            self.pending_of(name, store)?;
        }
        let refused = |why: CertError| format!("Can't load the payload: {why}.");
        let is_new = self.pending.is_none();
        let known = store.find(&path);
        let mut next = match self.pending.as_ref() {
            Some(p) => Pending {
                path: p.path.clone(),
                chain: p.chain.clone(),
                key: p.key.as_ref().map(PrivateKeyDer::clone_key),
                ocsp: p.ocsp.clone(),
                hash: 0,
            },
            None => Pending {
                path: path.clone(),
                chain: known.map(|k| k.chain.clone()).unwrap_or_default(),
                key: known.map(|k| k.key()),
                ocsp: known.and_then(|k| k.ocsp.clone()),
                hash: 0,
            },
        };
        match piece {
            Piece::Ocsp => {
                let text: String = payload.split_whitespace().collect();
                let der = STANDARD
                    .decode(text)
                    .map_err(|_| "Can't load the payload: it is no base64.".to_owned())?;
                next.ocsp = Some(der);
            }
            Piece::All | Piece::Key => {
                let parts = cert::parts(payload.as_bytes()).map_err(refused)?;
                if parts.keys.len() > 1 {
                    return Err(refused(CertError::ManyKeys));
                }
                if piece == Piece::All && parts.chain.is_empty() {
                    return Err(refused(CertError::NoCertificate));
                }
                if piece == Piece::Key && parts.keys.is_empty() {
                    return Err(refused(CertError::NoKey));
                }
                let is_pair = piece == Piece::All && !parts.keys.is_empty();
                if piece == Piece::All {
                    next.chain = parts.chain;
                    // A response is about one certificate.
                    next.ocsp = None;
                }
                if let Some(key) = parts.keys.into_iter().next() {
                    next.key = Some(key);
                }
                if is_pair {
                    next.certificate().map_err(refused)?;
                    next.hash = Files { pem: payload.as_bytes().to_vec(), key: None, ocsp: None }.hash();
                }
            }
        }
        self.pending = Some(next);
        let word = if is_new { "created" } else { "updated" };
        said(format!("Transaction {word} for certificate {}!", path.display()))
    }

    fn commit(&mut self, name: &str, model: &Model, store: &Store) -> Result<Done, String> {
        let pending = self.pending_of(name, store)?;
        let (path, hash) = (pending.path.clone(), pending.hash);
        let certificate = pending.certificate().map_err(|why| {
            format!(
                "Can't commit '{}': {why}. What is served stays; set what is missing, or abort.",
                path.display()
            )
        })?;
        let mut next = store.clone();
        let entry = Entry { path: path.clone(), certificate: Arc::new(certificate), hash, stamp: None };
        match next.entries.iter_mut().find(|entry| entry.path == path) {
            Some(known) => *known = entry,
            None => next.entries.push(entry),
        }
        next.name_binds(model);
        self.pending = None;
        self.empty.remove(&path);
        let text = format!("Committing {}.\nSuccess!", path.display());
        Ok(Done { text, store: Some(Arc::new(next)) })
    }

    fn del(&mut self, name: &str, model: &Model, store: &Store) -> Result<Done, String> {
        let path = self.place(store, name)?;
        let text = format!("Certificate '{}' deleted!", path.display());
        if self.pending.as_ref().is_some_and(|pending| pending.path == path) {
            return Err(format!(
                "Certificate '{}' has an ongoing transaction; abort it first.",
                path.display()
            ));
        }
        if self.empty.remove(&path) {
            return said(text);
        }
        let Some(number) = store.entries.iter().position(|entry| entry.path == path) else {
            return Err(unknown(name));
        };
        let users = users(number, model, store);
        if !users.is_empty() {
            let (path, users) = (path.display(), users.join(", "));
            return Err(format!("Certificate '{path}' is in use, can't be deleted! It is used by {users}."));
        }
        let mut next = store.clone();
        next.entries.remove(number);
        for line in next.lines.values_mut().flatten().flatten() {
            let moved = line.certificate as usize > number;
            line.certificate -= u32::from(moved);
        }
        next.name_binds(model);
        Ok(Done { text, store: Some(Arc::new(next)) })
    }

    fn add_to_list(&self, line: &NewLine<'_>, model: &Model, store: &Store) -> Result<Done, String> {
        let NewLine { list, certificate: name, .. } = *line;
        let binds = lists::binds_of(list, model, store)?;
        let path = self.place(store, name)?;
        let number = store.entries.iter().position(|entry| entry.path == path);
        let number =
            number.ok_or_else(|| format!("Certificate '{name}' is empty; set and commit it first."))?;
        let certificate = u32::try_from(number).map_err(|_| unknown(name))?;
        let parsed = line
            .names
            .iter()
            .map(|text| shown_name(text).ok_or_else(|| format!("'{text}' is no host name.")));
        let names: Vec<String> = parsed.collect::<Result<_, _>>()?;
        let mut next = store.clone();
        for id in binds {
            let settings = lists::add_settings(line.settings, id, model, &mut next)?;
            let lines = next.lines[id].get_or_insert_default();
            let is_there = |line: &Line| line.certificate == certificate && line.names == names;
            if lines.iter().any(is_there) {
                return Err(format!("Certificate '{name}' is in crt-list '{list}' already."));
            }
            lines.push(Line { certificate, list: PathBuf::from(list), names: names.clone(), settings });
        }
        next.name_binds(model);
        let text = format!("Inserting certificate '{}' in crt-list '{list}'.\nSuccess!", path.display());
        Ok(Done { text, store: Some(Arc::new(next)) })
    }

    fn del_from_list(&self, list: &str, name: &str, model: &Model, store: &Store) -> Result<Done, String> {
        let binds = lists::binds_of(list, model, store)?;
        // `NAME:LINE`, as `show ssl crt-list -n` prints it.
        let (name, line_number) = match name.rsplit_once(':').map(|(name, n)| (name, n.parse::<usize>())) {
            Some((name, Ok(number))) => (name, Some(number)),
            _ => (name, None),
        };
        let path = self.place(store, name)?;
        let mut next = store.clone();
        let mut found = 0;
        for id in binds {
            let Some(lines) = &mut next.lines[id] else { continue };
            let before = lines.len();
            let mut number = 0;
            lines.retain(|line| {
                number += 1;
                let is_meant = store.entries[line.certificate as usize].path == path
                    && line_number.is_none_or(|wanted| wanted == number);
                !is_meant
            });
            found += before - lines.len();
            if lines.is_empty() {
                return Err(format!(
                    "'{name}' is the last certificate of '{}'.",
                    lists::bind_name(id, model)
                ));
            }
        }
        if found == 0 {
            return Err(format!("Certificate '{name}' is not in crt-list '{list}'."));
        }
        lists::drop_settings(model, &mut next);
        next.name_binds(model);
        let text = format!("Entry '{}' deleted in crtlist '{list}'!", path.display());
        Ok(Done { text, store: Some(Arc::new(next)) })
    }
}

fn unknown(name: &str) -> String {
    format!("Can't find the certificate '{name}' (see show ssl cert).")
}

/// Who uses a certificate: `frontend/bind`, `backend/server`.
fn users(number: usize, model: &Model, store: &Store) -> Vec<String> {
    let mut users = Vec::new();
    for (id, lines) in store.lines.iter() {
        if lines.iter().flatten().any(|line| line.certificate as usize == number) {
            users.push(lists::bind_name(id, model));
        }
    }
    for (_, server) in model.servers.iter() {
        let own = server.tls.as_deref().and_then(|tls| tls.certificate.as_deref());
        if own == Some(store.entries[number].path.as_path()) {
            users.push(format!("{}/{}", model.backends[server.backend].name, server.name));
        }
    }
    users
}

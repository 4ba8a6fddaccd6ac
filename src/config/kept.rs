//! What one load of a configuration leaves for the next: the tree of the file and the backends that were made of it, so that a
//! reload costs what changed. The result is that of a load from nothing, whatever changed; a test compares them.
//!
//! A backend is used again if the bytes of its section and those of `[defaults]` are the same, there was nothing to say about it,
//! and what else it needed (`section::Seen`) is as it was.

use std::sync::Arc;

use ahash::AHashMap;

use super::Env;
use super::diag::Diagnostic;
use super::file::{self, File};
use super::pieces::{self, Piece};
use super::resolve::{self, Again};
use crate::base::id::{BackendId, IdRange, ServerId};
use crate::model::{Backend, Model, Server};

/// The memory of loads of one file on one machine: environment and name of the node are the same for all of them.
#[derive(Debug, Default)]
pub struct Kept {
    /// The tree of the last file that was such a row of pieces.
    before: Option<(File, Vec<Piece>)>,
    backends: Backends,
}

/// Backends that may be used again, by name.
pub(super) type Backends = AHashMap<String, KeptBackend>;

/// A backend of the last load.
#[derive(Debug)]
pub(super) struct KeptBackend {
    pub(super) id: BackendId,
    pub(super) backend: Arc<Backend>,
    pub(super) servers: Vec<Arc<Server>>,
    /// The line of its section.
    pub(super) line: usize,
    /// It is of use only where it was, with the ids it had.
    pub(super) stays: bool,
}

impl KeptBackend {
    /// Whether it can stand there.
    pub(super) fn fits(&self, line: usize, id: BackendId, servers: &IdRange<ServerId>) -> bool {
        !self.stays || (self.line == line && self.id == id && self.backend.servers == *servers)
    }
}

impl Kept {
    /// Loads a text as [`config::load`](super::load) does, and remembers it.
    pub fn load(&mut self, name: &str, text: &str, env: &Env) -> (Option<Model>, Vec<Diagnostic>) {
        let before = self.before.take().filter(|(file, _)| file.source.name == name);
        let had_defaults = has_defaults(&before);
        match pieces::parse(name, text, before) {
            Ok(found) => {
                self.forget(&found.pieces, &found.same, had_defaults);
                let again = Again::of(std::mem::take(&mut self.backends));
                let (model, diagnostics, backends) = resolve::resolve(&found.file, env, again);
                self.backends = backends;
                self.before = Some((found.file, found.pieces));
                (model, diagnostics)
            }
            Err(before) => {
                let (file, diagnostics) = file::parse(name, text);
                let Some(file) = file else {
                    // A slip of the pen: what was good before is of use when it is mended.
                    self.before = before;
                    return (None, diagnostics);
                };
                *self = Kept::default();
                super::overlaid(file, env)
            }
        }
    }

    /// Forgets the backends whose sections are not as they were.
    fn forget(&mut self, pieces: &[Piece], same: &[bool], had_defaults: bool) {
        let defaults = pieces.iter().zip(same).find(|(piece, _)| piece.section == "defaults");
        if defaults.map_or(had_defaults, |(_, same)| !same) {
            return self.backends.clear();
        }
        let is_backend = |piece: &Piece| piece.section == "backend";
        let stays: ahash::AHashSet<&str> = pieces
            .iter()
            .zip(same)
            .filter(|(piece, same)| **same && is_backend(piece))
            .map(|(piece, _)| piece.name.as_str())
            .collect();
        self.backends.retain(|name, _| stays.contains(name.as_str()));
    }
}

fn has_defaults(before: &Option<(File, Vec<Piece>)>) -> bool {
    before.iter().flat_map(|(_, pieces)| pieces).any(|piece| piece.section == "defaults")
}

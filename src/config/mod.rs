//! Layer 2, text -> Model: TOML with HAProxy's keywords. No IO: files, environment and CPUs of the machine come in an [`Env`].
//!
//! [`load`] is the whole way: `file::parse` (form), `resolve` (meaning, with `section` to read a section and `keywords` as
//! its table), `expr` (conditions and expressions). All that is wrong comes back at once as [`Diagnostic`]s.

pub mod diag;
pub mod diff;
pub mod expr;
pub mod file;
mod kept;
pub mod keywords;
pub mod overlay;
mod pieces;
pub mod places;
pub mod resolve;
mod section;
#[cfg(test)]
mod tests;
pub mod units;

use std::path::{Path, PathBuf};

pub use diag::{Diagnostic, Severity};
pub use file::File;
pub use kept::Kept;

use crate::model::Model;

/// Finds the value of an environment variable.
pub type Lookup = Box<dyn Fn(&str) -> Option<String>>;

/// Reads a file, or says why it cannot be read.
pub type Reader = Box<dyn Fn(&Path) -> Result<Vec<u8>, String>>;

/// What the configuration may ask about the machine. Functions and values, so that this layer does no IO and tests decide
/// what the machine looks like.
pub struct Env {
    /// An environment variable, for `${NAME}`.
    pub variable: Lookup,
    /// Reads a pattern file (`-f`); relative paths are relative to the directory of the configuration file. The error is told to
    /// the operator behind the path.
    pub read: Reader,
    /// What relative paths of the configuration are relative to; empty: the working directory.
    pub base: PathBuf,
    /// CPU numbers that the process may use, ascending.
    pub cpus: Vec<usize>,
    /// Host name, or the node that the operator says it is.
    pub hostname: String,
}

/// Parses and resolves a configuration. There is a model exactly if no diagnostic is an error. `name` is the name of the file as
/// the messages show it.
pub fn load(name: &str, text: &str, env: &Env) -> (Option<Model>, Vec<Diagnostic>) {
    match file::parse(name, text) {
        (Some(file), _) => overlaid(file, env),
        (None, diagnostics) => (None, diagnostics),
    }
}

/// Resolves a file with the values of its node.
fn overlaid(mut file: File, env: &Env) -> (Option<Model>, Vec<Diagnostic>) {
    let said = overlay::apply(&mut file, &env.hostname);
    let (model, mut diagnostics, _) = resolve::resolve(&file, env, resolve::Again::nothing());
    diagnostics.extend(said);
    diagnostics.sort_by_key(|diagnostic| diagnostic.offset);
    (model.filter(|_| !diagnostics.iter().any(Diagnostic::is_error)), diagnostics)
}

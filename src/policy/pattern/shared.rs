//! Pattern files: lists that operators change while the process runs (`add acl`, `set map`, ...). Cores read the compiled set
//! through [`SharedPatterns`], one load without a shared write; the control core swaps in a new one.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;

use crate::policy::pattern::{Entry, Method, PatternError, PatternSet};

/// A compiled set that can be replaced while cores use it.
pub struct SharedPatterns {
    method: Method,
    ignore_case: bool,
    current: ArcSwap<PatternSet>,
}

impl SharedPatterns {
    /// Calls `f` with the current set.
    pub fn with<R>(&self, f: impl FnOnce(&PatternSet) -> R) -> R {
        f(&self.current.load())
    }
}

impl fmt::Debug for SharedPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPatterns").field("method", &self.method).finish_non_exhaustive()
    }
}

/// One line of a pattern file: the pattern and, in a map, its value.
pub type Line = (Vec<u8>, Option<Vec<u8>>);

/// A list of patterns with a name, and all sets compiled from it. A file that several conditions use is one list.
#[derive(Debug)]
pub struct PatternFile {
    /// The path as the configuration writes it; it names the list on the admin socket.
    pub name: String,
    /// Whether its lines have values.
    pub is_map: bool,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    lines: Arc<Vec<Line>>,
    users: Vec<Arc<SharedPatterns>>,
}

impl PatternFile {
    /// A list from the text of its file: one pattern a line; empty lines and lines that begin with `#` are skipped, spaces and
    /// tabs before a pattern are dropped. In a map the pattern is the first word and the rest of the line its value.
    pub fn parse(name: &str, text: &[u8], is_map: bool) -> PatternFile {
        let lines = text.split(|b| *b == b'\n').filter_map(|line| parse_line(line, is_map)).collect();
        let state = State { lines: Arc::new(lines), users: Vec::new() };
        PatternFile { name: name.to_owned(), is_map, state: RwLock::new(state) }
    }

    /// Compiles the list for one more use.
    ///
    /// # Errors
    /// The first line that is no pattern of this method; `entry` counts lines that hold one.
    pub fn compile(&self, method: Method, ignore_case: bool) -> Result<Arc<SharedPatterns>, PatternError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let used = state.users.iter().find(|u| u.method == method && u.ignore_case == ignore_case);
        if let Some(user) = used {
            return Ok(Arc::clone(user));
        }
        let set = PatternSet::compile(method, &entries(&state.lines, ignore_case))?;
        let user = Arc::new(SharedPatterns { method, ignore_case, current: ArcSwap::from_pointee(set) });
        state.users.push(Arc::clone(&user));
        Ok(user)
    }

    /// The lines now.
    pub fn lines(&self) -> Arc<Vec<Line>> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).lines)
    }

    /// Replaces all lines at once. Nothing changes on an error.
    ///
    /// # Errors
    /// The first line that is no pattern for one of the uses.
    pub fn replace(&self, lines: Vec<Line>) -> Result<(), PatternError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let sets: Result<Vec<_>, _> = state
            .users
            .iter()
            .map(|u| PatternSet::compile(u.method, &entries(&lines, u.ignore_case)).map(Arc::new))
            .collect();
        for (user, set) in state.users.iter().zip(sets?) {
            user.current.store(set);
        }
        state.lines = Arc::new(lines);
        Ok(())
    }
}

fn entries(lines: &[Line], ignore_case: bool) -> Vec<Entry> {
    lines
        .iter()
        .map(|(pattern, value)| Entry { pattern: pattern.clone(), value: value.clone(), ignore_case })
        .collect()
}

fn parse_line(line: &[u8], is_map: bool) -> Option<Line> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // A pattern that begins with `#` can be written after a space.
    if line.first() == Some(&b'#') {
        return None;
    }
    let line = line.trim_ascii_start();
    if line.is_empty() {
        return None;
    }
    if !is_map {
        return Some((line.to_vec(), None));
    }
    let end = line.iter().position(|b| *b == b' ' || *b == b'\t').unwrap_or(line.len());
    Some((line[..end].to_vec(), Some(line[end..].trim_ascii().to_vec())))
}

/// All pattern files of a configuration, for the admin socket. Shared while the configuration is read.
#[derive(Debug, Default)]
pub struct PatternTable {
    files: RwLock<Vec<Arc<PatternFile>>>,
}

impl PatternTable {
    /// A file that was read before.
    pub fn get(&self, name: &str, is_map: bool) -> Option<Arc<PatternFile>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.iter().find(|f| f.name == name && f.is_map == is_map).cloned()
    }
    /// Adds a file.
    pub fn add(&self, file: PatternFile) -> Arc<PatternFile> {
        let file = Arc::new(file);
        self.files.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&file));
        file
    }
    /// All of them, in the order in which the configuration names them; the position is the id on the admin socket.
    pub fn files(&self) -> Vec<Arc<PatternFile>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

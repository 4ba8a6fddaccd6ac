//! Pattern files: lists that operators change while the process runs (`add acl`, `set map`, ...). Cores read the compiled set
//! through [`SharedPatterns`], one load without a shared write; the control core swaps in a new one.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;

use crate::base::limits::PATTERN_VERSIONS_MAX;
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
    /// The lines as they were read, whatever was changed since.
    configured: Arc<Vec<Line>>,
    users: Vec<Arc<SharedPatterns>>,
    /// Versions that are being prepared, oldest first.
    prepared: Vec<(u32, Vec<Line>)>,
    /// The version in use, and the last one that was made.
    current: u32,
    newest: u32,
}

impl PatternFile {
    /// A list from the text of its file: one pattern a line; empty lines and lines that begin with `#` are skipped, spaces and
    /// tabs before a pattern are dropped. In a map the pattern is the first word and the rest of the line its value.
    pub fn parse(name: &str, text: &[u8], is_map: bool) -> PatternFile {
        let lines = text.split(|b| *b == b'\n').filter_map(|line| parse_line(line, is_map)).collect();
        let lines = Arc::new(lines);
        let state = State { configured: Arc::clone(&lines), lines, ..State::default() };
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

    /// The lines that the file held when it was read.
    pub fn configured(&self) -> Arc<Vec<Line>> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).configured)
    }

    /// The version in use, and the newest that is prepared (0: none).
    pub fn versions(&self) -> (u32, u32) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        (state.current, state.prepared.last().map_or(0, |(version, _)| *version))
    }

    /// How its patterns are compared, for each use.
    pub fn uses(&self) -> Vec<(Method, bool)> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.users.iter().map(|user| (user.method, user.ignore_case)).collect()
    }

    /// The sets that conditions use now.
    pub fn users(&self) -> Vec<Arc<SharedPatterns>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).users.clone()
    }

    /// Begins a new, empty version that [`commit`](Self::commit) puts in place of the one in use. The oldest one that is being
    /// prepared is forgotten when there are too many.
    pub fn prepare(&self) -> u32 {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.prepared.len() >= PATTERN_VERSIONS_MAX {
            state.prepared.remove(0);
        }
        state.newest += 1;
        let version = state.newest;
        state.prepared.push((version, Vec::new()));
        version
    }

    /// The lines of a version that is being prepared.
    pub fn prepared(&self, version: u32) -> Option<Vec<Line>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.prepared.iter().find(|(v, _)| *v == version).map(|(_, lines)| lines.clone())
    }

    /// Changes a version that is being prepared; `None`: there is none of this number.
    pub fn change_prepared<R>(&self, version: u32, change: impl FnOnce(&mut Vec<Line>) -> R) -> Option<R> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.prepared.iter_mut().find(|(v, _)| *v == version).map(|(_, lines)| change(lines))
    }

    /// Puts a prepared version in place, at once for each core. Older prepared ones are forgotten.
    ///
    /// # Errors
    /// There is no such version (`Ok(false)`), or one of its lines is no pattern; then nothing changes.
    pub fn commit(&self, version: u32) -> Result<bool, PatternError> {
        let Some(lines) = self.prepared(version) else { return Ok(false) };
        self.replace(lines)?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.prepared.retain(|(v, _)| *v > version);
        state.current = version;
        Ok(true)
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

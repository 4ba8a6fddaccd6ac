//! The state file on disk. A thread of its own writes it, so that a slow disk holds up nothing: records are appended and synced;
//! when most lines are of the past, the whole file is written anew beside the old one and renamed over it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::base::limits::{STATE_FILE_BYTES_MAX, STATE_LINES_SPARE};
use crate::control::load::read_at_most;
use crate::control::state::journal::{Record, State, push};

/// How long the end waits for the disk.
const FLUSH: Duration = Duration::from_secs(2);

/// What the thread is to do.
enum Task {
    /// Remember these.
    Append(Vec<Record>),
    /// Say when everything before is on disk.
    Flush(Sender<()>),
}

/// The file of this process; dropping it writes what is left.
pub(in crate::control) struct StateFile {
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
    /// Another process writes to the path now.
    is_anothers: Arc<AtomicBool>,
}

/// Whether there can be such a file. What is there is not touched.
///
/// # Errors
/// There cannot. A full disk is none.
pub(in crate::control) fn probe(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let temporary = beside(path);
    match OpenOptions::new().create(true).append(true).open(&temporary) {
        Err(e) if is_mistake(e.kind()) => Err(e),
        Err(_) => Ok(()),
        Ok(_) => fs::remove_file(&temporary),
    }
}

/// Reads a file; none is an empty one. Returns the lines that are of no use, too.
///
/// # Errors
/// It cannot be read.
pub(in crate::control) fn read(path: &Path) -> io::Result<(State, Vec<usize>)> {
    match read_at_most(path, STATE_FILE_BYTES_MAX) {
        Ok(bytes) => Ok(State::decode(&bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok((State::default(), Vec::new())),
        Err(e) => Err(e),
    }
}

impl StateFile {
    /// Goes on with a file that tells this; it is written anew at once, so that a path of no use is known at the start. `complain`
    /// is told if writing fails, a full disk at once, and when it works again.
    ///
    /// # Errors
    /// There can be no such file.
    pub(in crate::control) fn open(
        path: &Path,
        state: State,
        complain: impl Fn(String) + Send + 'static,
    ) -> io::Result<StateFile> {
        let file = match rewrite(path, &state) {
            Err(e) if is_mistake(e.kind()) => return Err(e),
            result => result,
        };
        let (tasks, orders) = mpsc::channel();
        let is_anothers = Arc::new(AtomicBool::new(false));
        let is_over = is_anothers.clone();
        let mut said = false;
        if let Err(e) = &file {
            said = true;
            complain(complaint(path, e));
        }
        let (is_behind, file) = (said, file.ok());
        let mut writer = Writer { path: path.to_owned(), file, lines: state.len(), state, is_behind };
        let thread = std::thread::Builder::new().name("state".to_owned()).spawn(move || {
            crate::rt::machine::step_back();
            loop {
                // What could not be written is tried again, whether or not more comes.
                let task = match writer.is_behind {
                    true => orders.recv_timeout(Duration::from_secs(1)),
                    false => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
                };
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                let mut waiting = Vec::new();
                let result = match task {
                    Ok(task) => {
                        // What has come meanwhile costs no further turn of the disk.
                        let tasks = std::iter::once(task).chain(orders.try_iter());
                        let records = gather(tasks, &mut waiting);
                        if records.is_empty() { Ok(()) } else { writer.append(records) }
                    }
                    Err(RecvTimeoutError::Timeout) => writer.rewrite(),
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                match result {
                    Err(e) if !said => {
                        said = true;
                        complain(complaint(&writer.path, &e));
                    }
                    Ok(()) if said && !writer.is_behind => {
                        said = false;
                        complain(format!("{} is written again", writer.path.display()));
                    }
                    _ => {}
                }
                for done in waiting {
                    // Who asked may have given up.
                    let _ = done.send(());
                }
            }
        })?;
        Ok(StateFile { tasks: Some(tasks), thread: Some(thread), is_anothers })
    }

    /// Remembers these, soon.
    pub(in crate::control) fn append(&self, records: Vec<Record>) {
        if let Some(tasks) = &self.tasks
            && !records.is_empty()
        {
            // It ends with the process alone.
            let _ = tasks.send(Task::Append(records));
        }
    }

    /// Another process goes on with the file: from now on nothing is written, and the path is left alone.
    pub(in crate::control) fn leave(mut self) {
        self.is_anothers.store(true, Ordering::Release);
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            // It may be in the middle of writing.
            let _ = thread.join();
        }
    }

    /// Waits until all is on disk, but not for ever.
    pub(in crate::control) fn flush(&self) {
        let (done, wait) = mpsc::channel();
        if self.tasks.as_ref().is_some_and(|tasks| tasks.send(Task::Flush(done)).is_ok()) {
            // A disk that hangs does not hold up the end of the process.
            let _ = wait.recv_timeout(FLUSH);
        }
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        self.flush();
        self.tasks = None;
        if let Some(thread) = self.thread.take()
            && thread.is_finished()
        {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

/// Whether the path is wrong. A disk that is full or fails is not the operator's word: the process serves, and tries again.
fn is_mistake(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
    matches!(kind, IsADirectory | NotADirectory | NotFound | PermissionDenied)
}

fn complaint(path: &Path, e: &io::Error) -> String {
    format!("cannot write the state file {}: {e}; runtime changes may be lost", path.display())
}

/// All records of some tasks; those who wait for them go to `waiting`.
fn gather(tasks: impl Iterator<Item = Task>, waiting: &mut Vec<Sender<()>>) -> Vec<Record> {
    let mut all = Vec::new();
    for task in tasks {
        match task {
            Task::Append(records) => all.extend(records),
            Task::Flush(done) => waiting.push(done),
        }
    }
    all
}

/// What the thread has.
struct Writer {
    path: PathBuf,
    /// `None`: it could not be made so far.
    file: Option<File>,
    /// Lines in the file.
    lines: usize,
    state: State,
    /// The file does not tell all of the state.
    is_behind: bool,
}

impl Writer {
    fn append(&mut self, records: Vec<Record>) -> io::Result<()> {
        let mut text = String::new();
        self.lines += records.len();
        for record in records {
            push(&record, &mut text);
            self.state.take(record);
        }
        let file = match &mut self.file {
            Some(file) if !self.is_behind && self.lines <= 2 * self.state.len() + STATE_LINES_SPARE => file,
            _ => return self.rewrite(),
        };
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
        // After a failure the end of the file is unknown: the next attempt writes all of it.
        self.is_behind = written.is_err();
        written
    }

    fn rewrite(&mut self) -> io::Result<()> {
        self.is_behind = true;
        self.file = Some(rewrite(&self.path, &self.state)?);
        self.lines = self.state.len();
        self.is_behind = false;
        Ok(())
    }
}

/// Where the next file is written.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push("~");
    PathBuf::from(name)
}

/// Puts a complete new file in place of the old one: a crash leaves one or the other.
fn rewrite(path: &Path, state: &State) -> io::Result<File> {
    let temporary = beside(path);
    // Who may read it sees addresses and names of the inside.
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o640).open(&temporary)?;
    file.write_all(state.encode().as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::state::overrides::{Key, Override};

    fn set(to: usize) -> Record {
        let (from, to) = (Some("0".to_owned()), Some(to.to_string()));
        Record::Set(Override { key: Key::GlobalRate, from, to, who: "t".to_owned(), at: 1, until: None })
    }

    #[test]
    fn what_was_appended_is_read_back_and_the_file_stays_small() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("state");
        let (state, torn) = read(&path).expect("no file is an empty one");
        assert!(torn.is_empty());
        let file = StateFile::open(&path, state, |_| {}).expect("writable");
        for n in 1..=STATE_LINES_SPARE * 3 {
            file.append(vec![set(n)]);
        }
        file.flush();
        let (state, torn) = read(&path).expect("readable");
        assert!(torn.is_empty());
        let last = state.overrides.get(&Key::GlobalRate).and_then(|one| one.to.clone());
        assert_eq!(last, Some((STATE_LINES_SPARE * 3).to_string()));
        let lines = fs::read_to_string(&path).expect("readable").lines().count();
        assert!(lines <= STATE_LINES_SPARE + 4, "{lines} lines");
    }

    #[test]
    fn half_a_new_file_beside_it_is_of_no_account() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("state");
        let file = StateFile::open(&path, State::default(), |_| {}).expect("writable");
        file.append(vec![set(1)]);
        drop(file);
        let whole = fs::read(&path).expect("readable");
        for cut in 0..whole.len() {
            // A process was killed while it wrote the file anew.
            fs::write(beside(&path), &whole[..cut]).expect("writable");
            let (state, torn) = read(&path).expect("readable");
            assert!(torn.is_empty() && state.len() == 1, "cut at {cut}");
            drop(StateFile::open(&path, state, |_| {}).expect("writable"));
            assert_eq!(fs::read(&path).expect("readable"), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_path_is_tried_without_touching_what_is_there() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("state");
        fs::write(&path, "precious").expect("writable");
        assert!(probe(&path).is_ok() && probe(&dir.path().join("nowhere/state")).is_err());
        assert!(probe(dir.path()).is_err(), "it is a directory");
        assert_eq!(fs::read(&path).expect("readable"), b"precious");
        assert!(!beside(&path).exists());
    }

    #[test]
    fn who_leaves_the_file_to_another_process_writes_no_more() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("state");
        let old = StateFile::open(&path, State::default(), |_| {}).expect("writable");
        old.append(vec![set(1)]);
        old.flush();
        let (state, _) = read(&path).expect("readable");
        for n in 0..3 * STATE_LINES_SPARE {
            old.append(vec![set(1000 + n)]);
        }
        old.leave();
        let new = StateFile::open(&path, state, |_| {}).expect("writable");
        new.append(vec![set(2)]);
        new.flush();
        let (state, _) = read(&path).expect("readable");
        assert_eq!(state.overrides.get(&Key::GlobalRate).and_then(|one| one.to.as_deref()), Some("2"));
    }

    #[test]
    fn a_disk_that_fails_is_told_once_and_caught_up_with() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = dir.path().join("home");
        fs::create_dir(&home).expect("made");
        let path = home.join("state");
        assert!(StateFile::open(&dir.path().join("nowhere/state"), State::default(), |_| {}).is_err());
        assert!(is_mistake(io::ErrorKind::NotFound) && !is_mistake(io::ErrorKind::StorageFull));
        let (tell, told) = mpsc::channel();
        let complain = move |text| drop(tell.send(text));
        let file = StateFile::open(&path, State::default(), complain).expect("writable");
        // The directory is gone: appending to the open file works, writing it anew does not.
        fs::rename(&home, dir.path().join("away")).expect("moved");
        for n in 0..=2 * STATE_LINES_SPARE {
            file.append(vec![set(n + 1)]);
        }
        file.flush();
        assert_eq!(told.try_iter().count(), 1);
        fs::rename(dir.path().join("away"), &home).expect("moved back");
        file.append(vec![set(7)]);
        file.flush();
        let (state, _) = read(&path).expect("readable");
        assert_eq!(state.overrides.get(&Key::GlobalRate).and_then(|one| one.to.as_deref()), Some("7"));
    }
}

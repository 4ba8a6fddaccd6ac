//! The event log: lines with a timestamp to standard error, standard output or a file. What is worth a line is decided by
//! the callers, which say it with `tracing`'s macros from any thread.
//!
//! Nothing that logs ever waits: lines go through a bounded queue to a thread of their own, and what does not fit, or what
//! a full disk or a closed pipe refuses, is dropped and counted (`DroppedLogs`).

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::base::limits::{LOG_FLUSH, LOG_QUEUE_BYTES, LOG_QUEUE_LINES};
use crate::model::LogTarget;

/// What the thread that writes is told.
enum Entry {
    /// Write these lines.
    Lines(Vec<u8>, u64),
    /// Open the file again: it was moved away (SIGHUP).
    Reopen,
    /// Write somewhere else from now on.
    Switch(Prepared),
    /// Say when everything before this is written.
    Flush(SyncSender<()>),
}

/// The way to the log. Cloning shares it.
#[derive(Clone)]
pub(super) struct LogSink {
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
    /// Bytes that wait.
    waiting: Arc<AtomicUsize>,
    trouble: Arc<Trouble>,
}

/// Why the file could not be opened again, until somebody asks. The thread that writes and the control core know of it alone.
#[expect(
    clippy::disallowed_types,
    reason = "it is touched when a file cannot be opened again, and once a second"
)]
type Trouble = std::sync::Mutex<Option<String>>;

impl LogSink {
    /// Opens the target and starts the thread that writes to it.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread can be made.
    pub(super) fn open(target: &LogTarget) -> io::Result<LogSink> {
        let output = Output::open(target)?;
        let (queue, entries) = sync_channel(LOG_QUEUE_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = dropped.clone();
        let waiting = Arc::new(AtomicUsize::new(0));
        let written = waiting.clone();
        let trouble = Arc::new(Trouble::default());
        let told = trouble.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(output, &entries, (&counter, &written), &told))?;
        Ok(LogSink { queue, dropped, waiting, trouble })
    }

    /// Makes `tracing`'s events and panics go here, for the whole process. Only the first call has an effect.
    pub(super) fn install(&self, colours: bool) {
        let format =
            tracing_subscriber::fmt::layer().with_writer(self.clone()).with_target(false).with_ansi(colours);
        // Libraries have their own idea of what is worth a line.
        let ours = Targets::new().with_target("shardgate", LevelFilter::INFO);
        let installed = tracing_subscriber::registry().with(format).with(ours).try_init().is_ok();
        if installed {
            std::panic::set_hook(Box::new(|panic| {
                let backtrace = std::backtrace::Backtrace::force_capture();
                tracing::error!("{panic}; this is a bug\n{backtrace}");
            }));
        }
    }

    /// Lines that were dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Why the file could not be opened again; told once.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().ok()?.take()
    }

    /// Opens the file again after it was moved away.
    pub(super) fn reopen(&self) {
        self.put(Entry::Reopen);
    }

    /// Writes there from now on; what was logged before goes where it was to go.
    pub(super) fn switch(&self, next: Prepared) {
        self.put(Entry::Switch(next));
    }

    /// Waits, but not for long, until what was logged is written: the process ends.
    pub(super) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.put(Entry::Flush(done)) {
            // An output that takes nothing must not keep the process from ending.
            let _ = wait.recv_timeout(LOG_FLUSH);
        }
    }

    /// Writes lines, this many, each with its end.
    pub(super) fn lines(&self, text: Vec<u8>, count: u64) {
        self.put(Entry::Lines(text, count));
    }

    fn put(&self, entry: Entry) -> bool {
        let (len, lines) = match &entry {
            Entry::Lines(text, count) => (text.len(), *count),
            _ => (0, 0),
        };
        let waiting = self.waiting.fetch_add(len, Ordering::Relaxed);
        let fits = (len == 0 || waiting + len <= LOG_QUEUE_BYTES) && self.queue.try_send(entry).is_ok();
        if !fits {
            self.waiting.fetch_sub(len, Ordering::Relaxed);
            self.dropped.fetch_add(lines, Ordering::Relaxed);
        }
        fits
    }
}

/// One event is one `write`: `tracing_subscriber` formats it as a whole first.
impl Write for LogSink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(Entry::Lines(line.to_vec(), 1));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogSink {
    type Writer = LogSink;

    fn make_writer(&self) -> LogSink {
        self.clone()
    }
}

/// Whether lines to this target may be coloured.
pub(super) fn is_terminal(target: &LogTarget) -> bool {
    match target {
        LogTarget::Stderr => io::stderr().is_terminal(),
        LogTarget::Stdout => io::stdout().is_terminal(),
        LogTarget::File(_) => false,
    }
}

/// A target that can be written to.
pub(super) struct Prepared(Output);

impl Prepared {
    /// Opens it.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn open(target: &LogTarget) -> io::Result<Prepared> {
        Output::open(target).map(Prepared)
    }
}

/// Where lines end up.
enum Output {
    Stderr,
    Stdout,
    File { path: PathBuf, file: File },
}

impl Output {
    fn open(target: &LogTarget) -> io::Result<Output> {
        Ok(match target {
            LogTarget::Stderr => Output::Stderr,
            LogTarget::Stdout => Output::Stdout,
            LogTarget::File(path) => Output::File { path: path.clone(), file: append_to(path)? },
        })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Output::Stderr => io::stderr().write_all(line),
            Output::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(line)?;
                stdout.flush()
            }
            Output::File { file, .. } => file.write_all(line),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Output::File { path, file } = self {
            *file = append_to(path)?;
        }
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// The thread: it alone may wait for a slow output.
fn write_all(
    mut output: Output,
    entries: &Receiver<Entry>,
    (dropped, waiting): (&AtomicU64, &AtomicUsize),
    trouble: &Trouble,
) {
    while let Ok(entry) = entries.recv() {
        match entry {
            Entry::Lines(text, count) => {
                if output.write(&text).is_err() {
                    dropped.fetch_add(count, Ordering::Relaxed);
                }
                waiting.fetch_sub(text.len(), Ordering::Relaxed);
            }
            // The old file goes on being written when the new one cannot be opened.
            Entry::Reopen => {
                if let (Err(error), Output::File { path, .. }, Ok(mut told)) =
                    (output.reopen(), &output, trouble.lock())
                {
                    let path = path.display();
                    *told = Some(format!(
                        "cannot open the log file {path} again: {error}; lines go on to the file that was moved away"
                    ));
                }
            }
            Entry::Switch(Prepared(next)) => output = next,
            Entry::Flush(done) => drop(done.send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sink: &LogSink, text: &str) {
        sink.clone().write_all(text.as_bytes()).expect("never fails");
    }

    #[test]
    fn a_file_is_appended_to_and_opened_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("events");
        std::fs::write(&path, "before\n").expect("writable");
        let sink = LogSink::open(&LogTarget::File(path.clone())).expect("opens");
        line(&sink, "one\n");
        sink.flush();
        std::fs::rename(&path, dir.path().join("events.1")).expect("moved");
        line(&sink, "two\n");
        sink.reopen();
        line(&sink, "three\n");
        sink.flush();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("readable");
        assert_eq!((read("events.1").as_str(), read("events").as_str()), ("before\none\ntwo\n", "three\n"));
        assert_eq!((sink.dropped(), sink.trouble()), (0, None));
        // One that cannot be opened is told of once, and the old one goes on.
        std::fs::remove_file(&path).expect("removed");
        std::fs::create_dir(&path).expect("made");
        std::fs::rename(dir.path().join("events.1"), dir.path().join("events.2")).expect("moved");
        sink.reopen();
        line(&sink, "four\n");
        sink.flush();
        let told = sink.trouble().expect("it cannot be opened");
        assert!(told.contains("events again: Is a directory"), "{told}");
        assert_eq!(sink.trouble(), None);
    }

    #[test]
    fn another_target_takes_what_comes_after() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let target = |name: &str| LogTarget::File(dir.path().join(name));
        let sink = LogSink::open(&target("one")).expect("opens");
        line(&sink, "first\n");
        assert!(Prepared::open(&LogTarget::File("/nowhere/at/all".into())).is_err());
        sink.switch(Prepared::open(&target("two")).expect("opens"));
        line(&sink, "second\n");
        sink.flush();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("readable");
        assert_eq!((read("one").as_str(), read("two").as_str()), ("first\n", "second\n"));
    }

    #[test]
    fn a_full_disk_drops_lines_and_counts_them() {
        let sink = LogSink::open(&LogTarget::File("/dev/full".into())).expect("opens");
        for _ in 0..3 {
            line(&sink, "lost\n");
        }
        sink.flush();
        assert_eq!(sink.dropped(), 3);
    }

    #[test]
    fn an_output_that_takes_nothing_never_makes_anybody_wait() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
        assert!(made.success());
        // Open for reading and writing, so that opening it for writing does not wait; nobody reads.
        let _reader = OpenOptions::new().read(true).write(true).open(&fifo).expect("opens");
        let sink = LogSink::open(&LogTarget::File(fifo)).expect("opens");
        let text = "x".repeat(1000);
        for _ in 0..2 * LOG_QUEUE_LINES {
            line(&sink, &text);
        }
        assert!(sink.dropped() > 0, "a pipe holds 64 KiB and the queue the rest");
    }

    #[test]
    fn a_directory_is_no_log_file() {
        assert!(LogSink::open(&LogTarget::File("/".into())).is_err());
    }
}

//! `tls-keylog`: secrets of connections in NSS's format, for tools that decrypt what was captured. Whoever has the file reads
//! the traffic.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use rustls::KeyLog;

/// Files that are open: a data core in the sandbox opens none, and finds here what was opened when the configuration was tried.
#[derive(Default, Debug)]
#[allow(clippy::disallowed_types, reason = "taken when a configuration is made, never for a connection")]
pub(super) struct KeyLogs(std::sync::Mutex<BTreeMap<PathBuf, Arc<KeyLogFile>>>);

impl KeyLogs {
    /// That of a path, which is opened if it is not open yet.
    pub(super) fn get(&self, path: &Path) -> io::Result<Arc<KeyLogFile>> {
        // A map is whole whatever panicked beside it.
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(path) {
            return Ok(file.clone());
        }
        let file = Arc::new(KeyLogFile::open(path)?);
        open.insert(path.to_owned(), file.clone());
        Ok(file)
    }
}

/// A file for all binds that name it, and all cores.
pub(super) struct KeyLogFile {
    file: File,
}

impl fmt::Debug for KeyLogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyLogFile")
    }
}

impl KeyLogFile {
    /// Opens it; a new one is for its owner alone.
    fn open(path: &Path) -> io::Result<KeyLogFile> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(KeyLogFile { file })
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8], line: &mut String| {
            for byte in bytes {
                // Writing to a String cannot fail.
                let _ = write!(line, "{byte:02x}");
            }
        };
        let mut line = format!("{label} ");
        hex(client_random, &mut line);
        line.push(' ');
        hex(secret, &mut line);
        line.push('\n');
        // One write a line: cores append to the same file. A full disk is no reason to refuse clients.
        let _ = (&self.file).write_all(line.as_bytes());
    }
}

//! `tls-keylog`: secrets of connections in NSS's format, for tools that decrypt what was captured. Whoever has the file reads
//! the traffic.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustls::KeyLog;

/// The file of one bind on one core.
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
    pub(super) fn open(path: &Path) -> io::Result<KeyLogFile> {
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

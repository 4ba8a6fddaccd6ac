//! `shardgate ctl`: the client of the admin socket. Blocking, in its own process; it works with HAProxy's socket too.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Where the admin socket is unless `-s` or the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/shardgate/admin.sock";

/// Why nothing came back.
#[derive(Debug)]
pub enum CtlError {
    /// Nobody listens there.
    Connect {
        /// The socket that was asked.
        socket: PathBuf,
        /// Why it did not work.
        error: io::Error,
    },
    /// The connection broke.
    Io(io::Error),
}

impl std::fmt::Display for CtlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CtlError::Connect { socket, error } => {
                let socket = socket.display();
                let hint = match error.kind() {
                    io::ErrorKind::NotFound => {
                        "is shardgate running, and is this the path of its [admin] section?"
                    }
                    io::ErrorKind::ConnectionRefused => {
                        "the socket is there but nobody listens: did shardgate stop?"
                    }
                    io::ErrorKind::PermissionDenied => {
                        "this user may not connect: see `mode` of its [admin] section"
                    }
                    _ => "see -s SOCKET",
                };
                write!(f, "{socket}: cannot connect: {error} ({hint})")
            }
            CtlError::Io(error) => write!(f, "the connection broke: {error}"),
        }
    }
}

impl std::error::Error for CtlError {}

impl From<io::Error> for CtlError {
    fn from(error: io::Error) -> Self {
        CtlError::Io(error)
    }
}

/// Sends the commands, one block of answer each, and copies the answers to `out` until the other side closes.
pub fn run(socket: &Path, commands: &[String], out: &mut impl Write) -> Result<(), CtlError> {
    let mut stream = connect(socket)?;
    stream.write_all(commands.join(";").as_bytes())?;
    stream.write_all(b"\n")?;
    copy_answers(&mut stream, out)
}

/// Sends a script (standard input): every line is run, payloads included, and answers are copied to `out`.
pub fn run_script(socket: &Path, script: &mut impl Read, out: &mut impl Write) -> Result<(), CtlError> {
    let mut text = Vec::new();
    script.read_to_end(&mut text)?;
    let mut stream = connect(socket)?;
    // A dialogue without prompt, so that the connection outlives the first lines; its own answer is an empty line.
    stream.write_all(b"prompt i\n")?;
    stream.read_exact(&mut [0])?;
    std::thread::scope(|scope| {
        // Answers are read while the script is sent: neither side can wait for the other with full buffers.
        let mut reader = stream.try_clone()?;
        let sender = scope.spawn(|| {
            stream.write_all(&text)?;
            if text.last().is_some_and(|byte| *byte != b'\n') {
                stream.write_all(b"\n")?;
            }
            stream.shutdown(Shutdown::Write)
        });
        let copied = copy_answers(&mut reader, out);
        // A `quit` in the script closes the connection before all of it is sent: not an error.
        let _ = sender.join();
        copied
    })
}

fn connect(socket: &Path) -> Result<UnixStream, CtlError> {
    UnixStream::connect(socket).map_err(|error| CtlError::Connect { socket: socket.to_owned(), error })
}

fn copy_answers(stream: &mut UnixStream, out: &mut impl Write) -> Result<(), CtlError> {
    match io::copy(stream, out).and_then(|_| out.flush()) {
        // The server closed while input that nobody will read was under way.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        // Whoever reads the answers has seen enough (`| head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        other => other?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    #[test]
    fn commands_are_sent_as_one_line_and_the_answer_is_copied() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("admin.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut line = [0; 20];
            stream.read_exact(&mut line).expect("a line");
            stream.write_all(b"answer\n\n").expect("sent");
            String::from_utf8_lossy(&line).into_owned()
        });
        let mut out = Vec::new();
        run(&path, &["show info".to_owned(), "show stat".to_owned()], &mut out).expect("an answer");
        assert_eq!(
            (out.as_slice(), server.join().expect("no panic").as_str()),
            (&b"answer\n\n"[..], "show info;show stat\n")
        );
    }

    #[test]
    fn a_script_is_sent_whole_in_a_dialogue() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("admin.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.read_exact(&mut [0; 9]).expect("prompt i");
            stream.write_all(b"\n").expect("sent");
            let mut script = String::new();
            stream.read_to_string(&mut script).expect("a script that ends");
            stream.write_all(b"one\n\ntwo\n\n").expect("sent");
            script
        });
        let mut out = Vec::new();
        run_script(&path, &mut "show info\nshow stat".as_bytes(), &mut out).expect("answers");
        assert_eq!(out, b"one\n\ntwo\n\n");
        assert_eq!(server.join().expect("no panic"), "show info\nshow stat\n");
    }

    #[test]
    fn a_missing_socket_is_explained() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("none.sock");
        let error = run(&path, &["show info".to_owned()], &mut Vec::new()).expect_err("nobody listens");
        let text = error.to_string();
        assert!(
            text.contains("none.sock: cannot connect") && text.contains("is shardgate running"),
            "{text}"
        );
    }
}

//! HAProxy's own command line (management guide, section 3), for a binary that is started under the name `haproxy`: units, containers and
//! scripts made for HAProxy need no change. What its configuration means is `import`'s.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use crate::control::{self, load};
use crate::import;
use crate::rt::{Signal, send_signal};

/// The version of HAProxy whose language and answers these are.
const LANGUAGE: &str = "3.4.0";
/// How often a starting daemon is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Set in the daemon's own environment: it is the one that stays.
const DAEMON: &str = "SHARDGATE_HAPROXY_DAEMON";

/// What the command line asks for.
#[derive(Default, Debug, PartialEq, Eq)]
struct Arguments {
    files: Vec<PathBuf>,
    check: bool,
    condition: Option<String>,
    version: u8,
    quiet: bool,
    daemon: bool,
    /// `-Ws`: SIGINT is how the unit stops it, and 130 how it leaves.
    master: bool,
    pid_file: Option<PathBuf>,
    directory: Option<PathBuf>,
    maxconn: Option<u32>,
    /// Processes to stop once this one serves: `-sf`, and with true `-st`.
    old: Vec<(u32, bool)>,
}

/// Runs HAProxy's command line, without its first word. The exit codes are HAProxy's.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = arguments.into_iter().collect();
    let parsed = match parse(words.iter().map(|word| word.to_string_lossy().into_owned())) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprintln!("{message}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    if parsed.version > 0 {
        print_version(parsed.version > 1);
        return ExitCode::SUCCESS;
    }
    if let Some(condition) = &parsed.condition {
        return match load::check_condition(condition) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(message) => {
                eprintln!("error: {message}");
                ExitCode::from(2)
            }
        };
    }
    if let Some(directory) = &parsed.directory
        && let Err(error) = std::env::set_current_dir(directory)
    {
        eprintln!("error: cannot go to {}: {error}", directory.display());
        return ExitCode::FAILURE;
    }
    serve(&parsed, &words)
}

const USAGE: &str = "Usage: haproxy [-f CFG]... [-c] [-cc CONDITION] [-v|-vv] [-q] [-d...] [-D|-W|-Ws] [-p PIDFILE] [-n MAXCONN] [-C DIR] [-sf|-st PID...] [-- CFG...]";

fn parse(words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut out = Arguments::default();
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let mut value = |what: &str| words.next().ok_or_else(|| format!("{word} needs {what}"));
        match word.as_str() {
            "-f" => out.files.push(value("a file")?.into()),
            "-c" => out.check = true,
            "-cc" => out.condition = Some(value("a condition")?),
            "-v" => out.version = 1,
            "-vv" => out.version = 2,
            "-q" => out.quiet = true,
            "-D" => out.daemon = true,
            "-W" => {}
            "-Ws" => out.master = true,
            "-p" => out.pid_file = Some(value("a file")?.into()),
            "-C" => out.directory = Some(value("a directory")?.into()),
            "-n" => out.maxconn = Some(number(&value("a number")?)?),
            // Names of peers, memory, connections of a proxy, the socket of a master: nothing here uses them. The socket that
            // listening sockets came over is not needed either: both processes listen until the old one is asked to finish.
            "-L" | "-m" | "-N" | "-S" | "-x" | "-o" => drop(value("a value")?),
            "-V" | "-G" => {}
            "-sf" | "-st" => {
                while let Some(pid) = words.peek().and_then(|next| next.parse().ok()) {
                    out.old.push((pid, word == "-st"));
                    words.next();
                }
            }
            "--" => out.files.extend(words.by_ref().map(PathBuf::from)),
            // -d, -db, -dM, ... are for debugging HAProxy itself.
            debug if debug.starts_with("-d") => {}
            _ => return Err(format!("haproxy: there is no option {word}")),
        }
    }
    if out.files.is_empty() && out.version == 0 && out.condition.is_none() {
        return Err("haproxy: a configuration file is missing (-f)".to_owned());
    }
    Ok(out)
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("haproxy: \"{text}\" is no number"))
}

fn print_version(with_features: bool) {
    let mut out = io::stdout();
    let ours = env!("CARGO_PKG_VERSION");
    // Whoever asked may not read to the end.
    let _ =
        writeln!(out, "HAProxy version {LANGUAGE}-shardgate {ours} - HAProxy's language, run by Shardgate");
    if with_features {
        let features: Vec<String> = import::features().iter().map(|name| format!("+{name}")).collect();
        let _ = writeln!(out, "\nFeature list : {}", features.join(" "));
    }
}

fn serve(arguments: &Arguments, words: &[OsString]) -> ExitCode {
    let source = load::Source::Haproxy(arguments.files.clone());
    let load::Loaded { model, diagnostics, text } = match source.load() {
        Ok(loaded) => loaded,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    let is_daemon = std::env::var_os(DAEMON).is_some();
    if !is_daemon {
        diagnostics.iter().filter(|d| d.is_error() || !arguments.quiet).for_each(|d| eprintln!("{d}"));
    }
    let Some(mut model) = model else { return ExitCode::FAILURE };
    if arguments.check {
        if !arguments.quiet {
            println!("Configuration file is valid");
        }
        return ExitCode::SUCCESS;
    }
    if arguments.daemon && !is_daemon {
        return daemon(words).unwrap_or_else(|error| {
            eprintln!("error: cannot start in the background: {error}");
            ExitCode::FAILURE
        });
    }
    model.global.maxconn = arguments.maxconn.or(model.global.maxconn);
    if let Some(path) = &arguments.pid_file
        && let Err(error) = std::fs::write(path, format!("{}\n", std::process::id()))
    {
        eprintln!("error: cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    let old = arguments.old.clone();
    let ready = move || old.iter().for_each(|(pid, now)| ask_to_leave(*pid, *now));
    let warnings = diagnostics.len() as u64;
    let code = control::run(
        model,
        control::Options {
            warnings,
            config: Some(control::Config { source, text }),
            on_ready: Some(Box::new(ready)),
            ..Default::default()
        },
    );
    match arguments.master && code == ExitCode::SUCCESS {
        // What HAProxy's units name as success.
        true => ExitCode::from(130),
        false => code,
    }
}

/// Asks a process to finish what it has, or to end now. One that is gone already needs nothing.
fn ask_to_leave(pid: u32, now: bool) {
    let signal = if now { Signal::Terminate } else { Signal::User1 };
    if let Err(error) = send_signal(pid, signal) {
        tracing::warn!("cannot ask process {pid} to finish: {error}");
    }
}

/// Starts this binary once more, in the background, and waits until it serves or fails.
fn daemon(words: &[OsString]) -> io::Result<ExitCode> {
    let name = format!("shardgate-daemon-{}", std::process::id());
    let address = {
        use std::os::linux::net::SocketAddrExt;
        std::os::unix::net::SocketAddr::from_abstract_name(&name)?
    };
    let socket = UnixDatagram::bind_addr(&address)?;
    socket.set_read_timeout(Some(LOOK))?;
    let mut command = Command::new(std::env::current_exe()?);
    // Under the same name: that is how it knows what its arguments mean.
    std::os::unix::process::CommandExt::arg0(&mut command, "haproxy");
    let mut child = command
        .args(words)
        .env(DAEMON, "1")
        .env("NOTIFY_SOCKET", format!("@{name}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    wait_until_ready(&socket, &mut child)
}

fn wait_until_ready(socket: &UnixDatagram, child: &mut Child) -> io::Result<ExitCode> {
    loop {
        let mut message = [0; 64];
        match socket.recv(&mut message) {
            Ok(len) if message[..len].starts_with(b"READY=1") => return Ok(ExitCode::SUCCESS),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        if child.try_wait()?.is_some() {
            if let Some(mut errors) = child.stderr.take() {
                let mut text = String::new();
                errors.read_to_string(&mut text)?;
                eprint!("{text}");
            }
            return Ok(ExitCode::FAILURE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Arguments, String> {
        parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn units_of_distributions_are_understood() {
        let unit = parsed("-Ws -f /etc/haproxy/haproxy.cfg -p /run/haproxy.pid -S /run/master.sock")
            .expect("Debian's unit");
        assert!(
            unit.master
                && unit.pid_file.is_some()
                && unit.files == [PathBuf::from("/etc/haproxy/haproxy.cfg")]
        );
        let check = parsed("-f a.cfg -f conf.d -c -q -db").expect("a check");
        assert!(check.check && check.quiet && check.files.len() == 2);
        let old = parsed("-D -f a -sf 12 13 -n 100 -st 14 -- b c").expect("a restart");
        assert_eq!(old.old, [(12, false), (13, false), (14, true)]);
        assert_eq!((old.maxconn, old.files.len(), old.daemon), (Some(100), 3, true));
        for text in ["", "-c", "-f", "-x", "-n x -f a", "--help", "-Z -f a"] {
            assert!(parsed(text).is_err(), "{text}");
        }
        assert!(parsed("-v").is_ok() && parsed("-cc 1").is_ok());
    }
}

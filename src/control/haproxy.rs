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
use crate::model::{AdminEndpoint, AdminLevel, AdminSocket};
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
    /// `-W`, `-Ws`: it has a master, so to say.
    worker: bool,
    /// `-d`, `-db`, `-Ws`: it stays in the foreground whatever the configuration says.
    foreground: bool,
    /// `-dW`: warnings are errors.
    strict: bool,
    /// `-S`: admin sockets beside those of the configuration.
    masters: Vec<String>,
    /// `-x`: it takes the place of the process that listens there.
    takes_over: bool,
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
            "-W" => out.worker = true,
            "-Ws" => (out.worker, out.foreground, out.master) = (true, true, true),
            "-d" | "-db" => out.foreground = true,
            "-dW" => out.strict = true,
            "-p" => out.pid_file = Some(value("a file")?.into()),
            "-C" => out.directory = Some(value("a directory")?.into()),
            "-n" => out.maxconn = Some(number(&value("a number")?)?),
            "-S" => out.masters.push(value("a socket")?),
            // Listening sockets need not come over it: both processes listen until the old one is asked to finish.
            "-x" => {
                value("a socket")?;
                out.takes_over = true;
            }
            // The name among peers, a bound for memory, connections of each proxy: nothing here uses them.
            "-L" | "-m" | "-N" | "-o" => drop(value("a value")?),
            "-V" | "-G" => {}
            "-sf" | "-st" => {
                while let Some(pid) = words.peek().and_then(|next| next.parse().ok()) {
                    out.old.push((pid, word == "-st"));
                    words.next();
                }
            }
            "--" => out.files.extend(words.by_ref().map(PathBuf::from)),
            // -dM, -dr, -dS, ... are for debugging HAProxy itself.
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
    let asks = load::process(&arguments.files);
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
    if arguments.strict && !diagnostics.is_empty() {
        eprintln!("error: there are warnings, and -dW takes them for errors");
        return ExitCode::FAILURE;
    }
    if arguments.check {
        if let Err(reasons) = load::certificates(&model, None) {
            reasons.to_string().lines().for_each(|reason| eprintln!("error: {reason}"));
            return ExitCode::FAILURE;
        }
        if !arguments.quiet {
            load::shared_addresses(&model).iter().for_each(|warning| eprintln!("{warning}"));
            println!("Configuration file is valid");
        }
        return ExitCode::SUCCESS;
    }
    let asks = asks.unwrap_or_default();
    if !is_daemon && (arguments.daemon || asks.daemon && !arguments.foreground) {
        return daemon(words).unwrap_or_else(|error| {
            eprintln!("error: cannot start in the background: {error}");
            ExitCode::FAILURE
        });
    }
    let more = match arguments.masters.iter().map(|text| master_socket(text)).collect() {
        Ok(more) => more,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    let admin = control::AdminSettings { more, replace: arguments.takes_over || !arguments.old.is_empty() };
    model.global.maxconn = arguments.maxconn.or(model.global.maxconn);
    // Of the two the command line wins; HAProxy writes none of its own accord in the foreground.
    let own = asks.pid_file.filter(|_| is_daemon || arguments.worker);
    if let Some(path) = arguments.pid_file.clone().or(own)
        && let Err(error) = std::fs::write(&path, format!("{}\n", std::process::id()))
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
            config: Some(control::Config { source, text, maxconn: arguments.maxconn }),
            on_ready: Some(Box::new(ready)),
            admin,
            ..Default::default()
        },
    );
    match arguments.master && code == ExitCode::SUCCESS {
        // What HAProxy's units name as success.
        true => ExitCode::from(130),
        false => code,
    }
}

/// `-S PATH[,mode,BITS][,level,LEVEL]`: the socket of HAProxy's master, an admin socket here.
fn master_socket(text: &str) -> Result<AdminSocket, String> {
    let mut words = text.split(',');
    let path = words.next().unwrap_or_default();
    let path = path.strip_prefix("unix@").unwrap_or(path);
    let fd = path.strip_prefix("fd@").and_then(|number| number.parse().ok());
    let at = match fd {
        Some(fd) => AdminEndpoint::Fd(fd),
        None if path.starts_with('/') => AdminEndpoint::Unix(path.into()),
        None => return Err(format!("-S takes the path of a socket, and \"{path}\" does not start with /")),
    };
    let mut socket = AdminSocket { at, mode: 0o600, level: AdminLevel::Admin };
    while let Some(word) = words.next() {
        let value = words.next().unwrap_or_default();
        match (word, value) {
            ("mode", bits) => {
                let mode = u32::from_str_radix(bits, 8).ok().filter(|mode| *mode <= 0o777);
                socket.mode = mode.ok_or_else(|| format!("-S: \"{bits}\" is no file mode"))?;
            }
            ("level", "user") => socket.level = AdminLevel::User,
            ("level", "operator") => socket.level = AdminLevel::Operator,
            ("level", "admin") => {}
            ("user" | "uid" | "group" | "gid", _) => {
                return Err(format!(
                    "-S: the socket belongs to the user of the process, {word} cannot change that"
                ));
            }
            _ => return Err(format!("-S: \"{word}\" is no option of the socket")),
        }
    }
    Ok(socket)
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
            // Its number stands in front.
            Ok(len) if message[..len].split(|b| *b == b'\n').any(|line| line == b"READY=1") => {
                return Ok(ExitCode::SUCCESS);
            }
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
        let master = parsed("-W -S /run/m.sock,mode,660,level,user -x /run/a.sock -f a").expect("a master");
        assert!(master.worker && master.takes_over && !master.daemon && !master.foreground);
        let socket = master_socket(&master.masters[0]).expect("a socket");
        assert_eq!((socket.mode, socket.level), (0o660, AdminLevel::User));
        assert_eq!(master_socket("fd@4").expect("a socket").at, AdminEndpoint::Fd(4));
        for text in ["run/m.sock", "/run/m,mode,9", "/run/m,colour,red", "127.0.0.1:1"] {
            assert!(master_socket(text).is_err(), "{text}");
        }
        for text in ["", "-c", "-f", "-x", "-n x -f a", "--help", "-Z -f a"] {
            assert!(parsed(text).is_err(), "{text}");
        }
        assert!(parsed("-v").is_ok() && parsed("-cc 1").is_ok());
    }
}

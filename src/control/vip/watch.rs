//! `shardgate vip watch`: asks the process several times a second whether this node is to have each address, and tells what
//! moves it: keepalived through a file that it watches, BIRD through its control socket. A process that ends or hangs serves
//! nothing, which is known here at once; keepalived's own scripts, once a second, are the second line.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::{PENALTY, bird};
use crate::control::transparent::ip;

/// Between two questions. A process that ends is noticed without one.
const INTERVAL: Duration = Duration::from_millis(100);
/// Between two attempts to find a process that starts again: each of these milliseconds is one more without it.
const RETRY: Duration = Duration::from_millis(20);
/// A process that does not answer for so long does not serve either.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// What keepalived adds to the priority makes it FAULT from here on.
const FAULT: i16 = -254;
/// A watcher that has not shown up for so long has ended or hangs: longer than it may wait for an answer.
const BEAT_MAX: Duration = Duration::from_secs(3);
/// Its file, with a name that no `[vip.NAME]` can have.
const BEAT: &str = "watching~";
/// `show vip` of as many addresses as there are is far below it.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Where keepalived's files are.
pub const DIRECTORY: &str = "/run/shardgate-vip";

/// What to talk to.
#[derive(Clone, Debug)]
pub struct Options {
    /// The admin socket of the process.
    pub socket: PathBuf,
    /// BIRD's control socket.
    pub bird: PathBuf,
    /// Where the files for keepalived are written.
    pub directory: PathBuf,
}

/// Whether this node is to have an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fit {
    /// It serves.
    Serves,
    /// Another node serves better: drained, or a tracked backend has no server.
    StepsBack,
    /// The process does not answer.
    Dead,
}

impl Fit {
    /// What keepalived adds to the priority.
    fn weight(self) -> i16 {
        match self {
            Fit::Serves => 0,
            Fit::StepsBack => -i16::from(PENALTY),
            Fit::Dead => FAULT,
        }
    }
}

/// A row of `show vip`, as far as it matters here.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Row {
    name: String,
    fit: Fit,
    /// BIRD announces it; else keepalived moves it.
    is_bgp: bool,
    addresses: Vec<IpAddr>,
    /// What the process believes.
    role: String,
}

/// Watches until it is killed.
///
/// # Errors
/// Files for keepalived cannot be written.
pub fn watch(options: &Options) -> Result<(), String> {
    std::fs::create_dir_all(&options.directory)
        .map_err(|e| format!("{}: {e}", options.directory.display()))?;
    // What a watcher before this one announced is not known to be true.
    tell_bird(options, "*", false);
    let mut told = Told::default();
    loop {
        if let Ok(mut process) = Process::connect(&options.socket) {
            // It ends when the process does.
            let ended = follow(&mut process, options, &mut told);
            eprintln!("shardgate vip watch: the process does not answer: {ended}");
        }
        told.dead(options)?;
        // Of a process that was never seen nothing is told: the scripts find out.
        if !told.0.is_empty() {
            beat(&options.directory)?;
        }
        wait();
    }
}

/// Whether somebody watches: keepalived's scripts need not ask then.
pub fn is_watched(directory: &Path) -> bool {
    let beat = std::fs::metadata(directory.join(BEAT)).and_then(|file| file.modified());
    // One from the future says that the clock was set, and nothing else.
    beat.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < BEAT_MAX))
}

fn beat(directory: &Path) -> Result<(), String> {
    let path = directory.join(BEAT);
    std::fs::write(&path, "\n").map_err(|e| format!("{}: {e}", path.display()))
}

/// Takes all addresses away from this node, as when the watcher stops. keepalived's scripts see for themselves.
///
/// # Errors
/// BIRD does not answer.
pub fn withdraw(bird: &Path) -> Result<(), String> {
    bird::switch(bird, "*", false)
}

/// Asks until the process does not answer any more; why it does not.
fn follow(process: &mut Process, options: &Options, told: &mut Told) -> String {
    loop {
        let answer = match process.ask("show vip") {
            Ok(answer) => answer,
            Err(e) => return e.to_string(),
        };
        let rows: Vec<Row> = answer.lines().filter_map(row).collect();
        let mut all_told = true;
        for row in &rows {
            if let Err(e) = told.tell(options, row) {
                eprintln!("shardgate vip watch: {e}");
                all_told = false;
            }
            let role = if row.fit == Fit::Serves { "ANNOUNCED" } else { "WITHDRAWN" };
            if row.is_bgp
                && row.role != role
                && let Err(e) = process.ask(&format!("set vip {} role {role}", row.name))
            {
                return e.to_string();
            }
        }
        told.forget(options, &rows);
        if all_told && let Err(e) = beat(&options.directory) {
            return e;
        }
        if let Err(e) = process.wait() {
            return e.to_string();
        }
    }
}

/// `name role seconds changes admin serves announce addresses`
fn row(line: &str) -> Option<Row> {
    let words: Vec<&str> = line.split(' ').collect();
    let [name, role, _, _, admin, serves, announce, addresses] = words[..] else { return None };
    let fit = if (admin, serves) == ("ready", "yes") { Fit::Serves } else { Fit::StepsBack };
    let addresses = addresses.split(',').filter_map(|address| address.split('/').next()?.parse().ok());
    (name != "#").then(|| Row {
        name: name.to_owned(),
        fit,
        is_bgp: announce == "bgp",
        addresses: addresses.collect(),
        role: role.to_owned(),
    })
}

/// What was told about each address.
#[derive(Default)]
struct Told(BTreeMap<String, (Fit, bool)>);

impl Told {
    fn tell(&mut self, options: &Options, row: &Row) -> Result<(), String> {
        let before = self.0.get(&row.name).copied();
        if before.is_none() && row.is_bgp {
            for address in &row.addresses {
                let prefix = if address.is_ipv4() { 32 } else { 128 };
                ip(&format!("address replace {address}/{prefix} dev lo"))?;
            }
        }
        if row.is_bgp {
            // Each time: BIRD may have been started again, and then everything is off.
            bird::switch(&options.bird, &row.name, row.fit == Fit::Serves)?;
        } else if before != Some((row.fit, false)) {
            write(&options.directory, &row.name, row.fit)?;
        }
        self.0.insert(row.name.clone(), (row.fit, row.is_bgp));
        Ok(())
    }

    /// The process is gone, and with it what it served.
    fn dead(&mut self, options: &Options) -> Result<(), String> {
        for (name, (fit, is_bgp)) in self.0.iter_mut().filter(|(_, (fit, _))| *fit != Fit::Dead) {
            *fit = Fit::Dead;
            if *is_bgp {
                tell_bird(options, name, false);
            } else {
                write(&options.directory, name, Fit::Dead)?;
            }
        }
        Ok(())
    }

    /// Addresses that a reload took out of the configuration.
    fn forget(&mut self, options: &Options, rows: &[Row]) {
        self.0.retain(|name, (_, is_bgp)| {
            let stays = rows.iter().any(|row| row.name == *name);
            if !stays && *is_bgp {
                tell_bird(options, name, false);
            }
            stays
        });
    }
}

fn tell_bird(options: &Options, name: &str, announce: bool) {
    // Without BIRD there is nothing to withdraw, and it starts with everything off.
    if options.bird.exists()
        && let Err(e) = bird::switch(&options.bird, name, announce)
        && name != "*"
    {
        eprintln!("shardgate vip watch: {e}");
    }
}

/// In place: keepalived watches the file, not the directory.
fn write(directory: &Path, name: &str, fit: Fit) -> Result<(), String> {
    let path = directory.join(name);
    std::fs::write(&path, format!("{}\n", fit.weight())).map_err(|e| format!("{}: {e}", path.display()))
}

fn wait() {
    let (_keep, never) = mpsc::channel::<()>();
    // Nobody sends: it is a pause.
    let _ = never.recv_timeout(RETRY);
}

/// A dialogue with the admin socket.
struct Process(UnixStream);

impl Process {
    fn connect(socket: &Path) -> io::Result<Process> {
        let stream = UnixStream::connect(socket)?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        let mut process = Process(stream);
        process.ask("prompt i")?;
        Ok(process)
    }

    fn ask(&mut self, command: &str) -> io::Result<String> {
        self.0.set_read_timeout(Some(ANSWER_MAX))?;
        self.0.write_all(format!("{command}\n").as_bytes())?;
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        // An answer ends with an empty line; one without text is that line alone.
        while answer != b"\n" && !answer.ends_with(b"\n\n") {
            match self.0.read(&mut chunk)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                _ if answer.len() > ANSWER_BYTES_MAX => return Err(ErrorKind::InvalidData.into()),
                n => answer.extend_from_slice(&chunk[..n]),
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Until the next question; the end of the process ends it at once.
    fn wait(&mut self) -> io::Result<()> {
        self.0.set_read_timeout(Some(INTERVAL))?;
        match self.0.read(&mut [0]) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => Err(ErrorKind::InvalidData.into()),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_who_is_to_have_the_address() {
        let of = |line: &str| row(line).map(|row| (row.fit, row.is_bgp, row.addresses.len()));
        assert_eq!(of("# name role seconds changes admin serves announce addresses"), None);
        assert_eq!(of("web MASTER 3 1 ready yes vrrp 192.0.2.10/24"), Some((Fit::Serves, false, 1)));
        assert_eq!(of("web BACKUP 3 1 drain yes vrrp 192.0.2.10/24"), Some((Fit::StepsBack, false, 1)));
        assert_eq!(
            of("web - 0 0 ready no:app bgp 192.0.2.10/32,2001:db8::1/128"),
            Some((Fit::StepsBack, true, 2))
        );
        assert_eq!(of(""), None);
    }

    #[test]
    fn a_process_that_is_gone_is_at_fault() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options {
            socket: dir.path().join("none"),
            bird: dir.path().join("none"),
            directory: dir.path().to_owned(),
        };
        let mut told = Told::default();
        let serving = row("web MASTER 3 1 ready yes vrrp 192.0.2.10/24").expect("a row");
        let written = || std::fs::read_to_string(dir.path().join("web")).expect("written");
        told.tell(&options, &serving).expect("told");
        assert_eq!(written(), "0\n");
        told.tell(&options, &Row { fit: Fit::StepsBack, ..serving }).expect("told");
        assert_eq!(written(), "-60\n");
        told.dead(&options).expect("told");
        assert_eq!(written(), "-254\n");
        assert!(!is_watched(dir.path()));
        beat(dir.path()).expect("written");
        assert!(is_watched(dir.path()));
    }
}

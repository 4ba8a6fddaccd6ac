//! Sockets that were open before this process began: those of the process that it replaces (`run --takeover`) and those of the
//! service manager (LISTEN_FDS, sd_listen_fds(3)). A bind or admin socket that finds its own here uses it, so that no
//! connection is refused or lost in between.
//!
//! The replaced process answers `takeover sockets` on its admin socket with one line a socket, and the socket beside it; on
//! `takeover done` it stops accepting, finishes what runs and leaves. If the connection ends before, nothing has happened.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

use crate::base::id::{Id, ListenerId};
use crate::control::admin;
use crate::control::core::Control;
use crate::control::listeners::configured;
use crate::control::notify::{self, Marks};
use crate::model::{AdminEndpoint, Bind, BindAddress, Model};
use crate::rt::{self, Conn, StartError};

/// The first descriptor that a service manager passes.
const LISTEN_FDS_START: i32 = 3;
/// How long the replaced process may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it keeps the connection while this process starts, in seconds.
const START_S: u32 = 600;
/// The line after the last socket.
const END: &str = "end";
/// The answer to `takeover done`.
const LEAVING: &str = "leaving";

/// A socket for a bind or for an admin socket.
struct Inherited {
    what: What,
    /// In the order of the cores that had them.
    sockets: Vec<OwnedFd>,
}

/// Whose a socket was.
#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    /// That of a bind of the replaced process.
    Bind(Described),
    /// An admin socket, by path or address.
    Admin(String),
    /// It comes from the service manager and listens there.
    Address(String),
    /// That of a bind of a process before, which left it with the service manager.
    Kept(Marks),
}

/// A bind as two processes can compare it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Described {
    frontend: String,
    name: String,
    socket: Socket,
}

/// What a socket is made of; a bind where this differs needs another one.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Socket {
    address: String,
    interface: String,
    transparent: bool,
    v6only: bool,
}

/// Everything that was there before, and the replaced process, if there is one.
#[derive(Default)]
pub(super) struct Legacy {
    sockets: Vec<Inherited>,
    replaced: Option<UnixStream>,
}

impl Legacy {
    /// What there is: of the process behind an admin socket, and of the service manager.
    ///
    /// # Errors
    /// The process does not hand its sockets over; the text says why.
    pub(super) fn find(takeover: Option<&Path>) -> Result<Legacy, StartError> {
        let mut legacy = Legacy { sockets: from_manager(), replaced: None };
        if let Some(path) = takeover {
            let failed = |e: io::Error| {
                StartError(format!("cannot take over from {}: {}", path.display(), rt::error::words(&e)))
            };
            let mut stream = UnixStream::connect(path).map_err(failed)?;
            legacy.sockets.extend(ask(&mut stream).map_err(failed)?);
            legacy.replaced = Some(stream);
        }
        Ok(legacy)
    }

    /// The sockets for a bind, if there are any. Those of the same frontend and name are taken first.
    pub(super) fn bind(&mut self, model: &Model, id: ListenerId) -> Option<Vec<OwnedFd>> {
        let wanted = describe(model, id);
        let bind = &model.binds[id];
        // Without a port of its own a socket is that of its frontend alone.
        let movable = !matches!(bind.address, BindAddress::Ip(ip) if ip.port() == 0);
        let marks = wanted.marks();
        let same = |level: usize, what: &What| match what {
            What::Bind(known) => known.marks()[level] == marks[level] && (level < 2 || movable),
            What::Kept(known) => known[level] == marks[level] && (level < 2 || movable),
            What::Address(address) => level == 2 && is_plain(bind) && *address == wanted.socket.address,
            What::Admin(_) => false,
        };
        let at = (0..3).find_map(|level| self.sockets.iter().position(|known| same(level, &known.what)))?;
        Some(self.sockets.remove(at).sockets)
    }

    /// The socket for an admin socket, if there is one.
    pub(super) fn admin(&mut self, at: &AdminEndpoint) -> Option<OwnedFd> {
        let wanted = admin::name(at);
        let same = |what: &What| match what {
            What::Admin(known) | What::Address(known) => *known == wanted,
            What::Bind(_) | What::Kept(_) => false,
        };
        let at = self.sockets.iter().position(|known| same(&known.what))?;
        self.sockets.remove(at).sockets.into_iter().next()
    }

    /// Whether a socket of this path will be here.
    pub(super) fn has_admin(&self, path: &Path) -> bool {
        let wanted = format!("unix@{}", path.display());
        self.sockets
            .iter()
            .any(|known| matches!(&known.what, What::Admin(at) | What::Address(at) if *at == wanted))
    }

    /// This process serves: the replaced one may go. Tells what it is like.
    ///
    /// # Errors
    /// The replaced process is gone or refuses.
    pub(super) fn finish(mut self) -> io::Result<Option<&'static str>> {
        let Some(mut stream) = self.replaced.take() else { return Ok(None) };
        stream.write_all(b"takeover done;quit\n")?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer)?;
        if answer.trim_end() == LEAVING {
            Ok(Some(LEAVING))
        } else {
            Err(io::Error::other(answer.trim_end().to_owned()))
        }
    }
}

impl Described {
    /// What two processes compare it by: the same bind, another one of the same frontend, another frontend's with such a
    /// socket.
    fn marks(&self) -> Marks {
        let Described { frontend, name, socket } = self;
        let Socket { address, interface, transparent, v6only } = socket;
        let flags = format!("{transparent}{v6only}");
        let mark = |parts: &[&str]| {
            let mut hash = Xxh3::new();
            for part in [address.as_str(), interface, &flags].iter().chain(parts) {
                hash.update(&part.len().to_le_bytes());
                hash.update(part.as_bytes());
            }
            hash.digest()
        };
        [mark(&[frontend, name]), mark(&[frontend]), mark(&[])]
    }
}

/// A service manager's socket carries no options but those of its own unit.
fn is_plain(bind: &Bind) -> bool {
    bind.interface.is_none() && !bind.transparent
}

fn describe(model: &Model, id: ListenerId) -> Described {
    let bind = &model.binds[id];
    Described {
        frontend: model.frontends[bind.frontend].name.clone(),
        name: bind.name.clone(),
        socket: Socket {
            address: configured(&bind.address),
            interface: bind.interface.clone().unwrap_or_default(),
            transparent: bind.transparent,
            v6only: bind.v6only,
        },
    }
}

/// Asks the process for its sockets.
fn ask(stream: &mut UnixStream) -> io::Result<Vec<Inherited>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // The connection stays open: its end before `takeover done` means that nothing has happened.
    stream.write_all(format!("prompt i;set timeout cli {START_S};takeover sockets\n").as_bytes())?;
    let (mut text, mut fds) = (Vec::new(), Vec::new());
    let end = format!("\n{END}\n");
    while !contains(&text, end.as_bytes()) {
        let mut bytes = [0; 4096];
        match rt::receive(stream, &mut bytes, &mut fds)? {
            0 => return Err(io::Error::other("it ended the connection")),
            n => text.extend_from_slice(&bytes[..n]),
        }
        // An answer without the first line is a refusal.
        let answer = text.trim_ascii_start();
        if !answer.starts_with(BEGIN.as_bytes()) && answer.ends_with(b"\n\n") {
            let text = String::from_utf8_lossy(&text);
            return Err(io::Error::other(text.trim().to_owned()));
        }
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.is_empty() && *line != END && *line != BEGIN).collect();
    if lines.len() != fds.len() {
        return Err(io::Error::other(format!("{} sockets came with {} lines", fds.len(), lines.len())));
    }
    let mut found: Vec<Inherited> = Vec::new();
    for (line, fd) in lines.into_iter().zip(fds) {
        let what = read_line(line).ok_or_else(|| io::Error::other(format!("unknown answer: {line}")))?;
        match found.iter_mut().find(|known| known.what == what) {
            Some(known) => known.sockets.push(fd),
            None => found.push(Inherited { what, sockets: vec![fd] }),
        }
    }
    Ok(found)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The line before the first socket.
const BEGIN: &str = "sockets";

fn read_line(line: &str) -> Option<What> {
    let fields: Vec<&str> = line.split('\t').collect();
    Some(match *fields {
        ["admin", at] => What::Admin(at.to_owned()),
        ["bind", frontend, name, address, interface, transparent, v6only] => What::Bind(Described {
            frontend: frontend.to_owned(),
            name: name.to_owned(),
            socket: Socket {
                address: address.to_owned(),
                interface: interface.to_owned(),
                transparent: transparent == "true",
                v6only: v6only == "true",
            },
        }),
        _ => return None,
    })
}

fn write_line(what: &What, out: &mut String) {
    // Writing to a string cannot fail.
    let _ = match what {
        What::Admin(at) | What::Address(at) => writeln!(out, "admin\t{at}"),
        // Only what this process has itself is passed on, and it knows whose that is.
        What::Kept(_) => Ok(()),
        What::Bind(Described { frontend, name, socket }) => {
            let Socket { address, interface, transparent, v6only } = socket;
            writeln!(out, "bind\t{frontend}\t{name}\t{address}\t{interface}\t{transparent}\t{v6only}")
        }
    };
}

/// Sends all listening sockets to the process that takes over.
///
/// # Errors
/// The other side is no process on this machine, or does not read.
pub(super) async fn hand_over(control: &Control, conn: &Conn) -> io::Result<()> {
    let mut all: Vec<(What, OwnedFd)> = Vec::new();
    for (key, fd) in crate::control::gather::listeners(control).await {
        if let Some(id) = control.live.bind_of(key) {
            all.push((What::Bind(describe(&control.model, id)), fd));
        }
    }
    for gate in control.admin_gates.borrow().iter() {
        all.push((What::Admin(gate.name()), gate.copy.try_clone()?));
    }
    // The other one reads it in a moment.
    control.show_state_file();
    rt::pass(conn, format!("{BEGIN}\n").as_bytes(), &[])?;
    while !all.is_empty() {
        let (mut text, mut fds) = (String::new(), Vec::new());
        for (what, fd) in all.drain(..all.len().min(rt::PASSED_MAX)) {
            write_line(&what, &mut text);
            fds.push(fd);
        }
        rt::pass(conn, text.as_bytes(), &fds)?;
        // The reader gets its turn.
        conn.writable().await?;
    }
    Ok(())
}

/// The process is about to stop: the service manager keeps what listens, so that who connects meanwhile waits for the process
/// that comes next rather than being refused. Inherited sockets it has already.
pub(super) async fn leave(control: &Control) {
    if control.handed_over.get() || !notify::is_managed() {
        return;
    }
    let mut binds: BTreeMap<Marks, Vec<OwnedFd>> = BTreeMap::new();
    for (key, socket) in crate::control::gather::listeners(control).await {
        let Some(id) = control.live.bind_of(key) else { continue };
        if !matches!(control.model.binds[id].address, BindAddress::Fd(_)) {
            binds.entry(describe(&control.model, id).marks()).or_default().push(socket);
        }
    }
    for (marks, sockets) in &binds {
        notify::keep(*marks, sockets);
    }
    control.left_behind.set(true);
}

/// What follows the sockets: the end of the answer.
pub(super) fn end() -> String {
    END.to_owned()
}

/// The answer to `takeover done`.
pub(super) fn leaving() -> String {
    LEAVING.to_owned()
}

/// The listening sockets that the service manager passes. A bind `fd@3` takes one by its number; others take theirs by
/// address.
fn from_manager() -> Vec<Inherited> {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").and_then(|count| i32::try_from(count).ok()).unwrap_or(0);
    let names = notify::kept();
    let mut found: Vec<Inherited> = Vec::new();
    for fd in (LISTEN_FDS_START..).take(usize::try_from(count).unwrap_or(0)) {
        // What is no listening socket is nobody's here.
        let Ok(socket) = rt::listen(rt::Endpoint::Fd(fd), rt::ListenOptions::default()) else { continue };
        let kept = usize::try_from(fd - LISTEN_FDS_START).ok().and_then(|at| *names.get(at)?);
        let what = match (kept, rt::bound_name(&socket)) {
            (Some(marks), _) => What::Kept(marks),
            (None, Some(address)) => What::Address(address),
            (None, None) => continue,
        };
        match found.iter_mut().find(|known| known.what == what) {
            Some(known) => known.sockets.push(socket),
            None => found.push(Inherited { what, sockets: vec![socket] }),
        }
    }
    found
}

/// Sockets of a bind for this many cores: what is missing is opened with `more`, what is too many goes to the first cores
/// too. Returns the core of each.
pub(super) fn spread(
    sockets: Vec<OwnedFd>,
    cores: usize,
    mut more: impl FnMut(&OwnedFd) -> io::Result<OwnedFd>,
) -> io::Result<Vec<(usize, OwnedFd)>> {
    let mut spread: Vec<(usize, OwnedFd)> =
        sockets.into_iter().enumerate().map(|(at, socket)| (at % cores.max(1), socket)).collect();
    for core in spread.len()..cores {
        let socket = more(&spread[0].1)?;
        spread.push((core, socket));
    }
    debug_assert!(spread.iter().all(|(core, _)| *core < ListenerId::from_index(cores).index()));
    Ok(spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let socket = |interface: &str, transparent| Socket {
            address: "[::1]:80".to_owned(),
            interface: interface.to_owned(),
            transparent,
            v6only: !transparent,
        };
        let bind =
            |socket| What::Bind(Described { frontend: "web".to_owned(), name: "web:1".to_owned(), socket });
        for what in
            [bind(socket("", false)), bind(socket("eth0", true)), What::Admin("unix@/run/a.sock".to_owned())]
        {
            let mut text = String::new();
            write_line(&what, &mut text);
            assert_eq!(read_line(text.trim_end_matches('\n')), Some(what));
        }
        assert_eq!(read_line("bind\tweb"), None);
    }

    #[test]
    fn every_core_gets_a_socket_and_no_socket_is_left_out() {
        let socket = || OwnedFd::from(UnixStream::pair().expect("a pair").0);
        for (before, cores) in [(1, 1), (2, 2), (1, 3), (4, 2), (3, 2)] {
            let sockets = (0..before).map(|_| socket()).collect();
            let spread = spread(sockets, cores, |first| first.try_clone()).expect("descriptors are there");
            assert_eq!(spread.len(), cores.max(before), "{before} {cores}");
            assert!((0..cores).all(|core| spread.iter().any(|(at, _)| *at == core)), "{before} {cores}");
        }
    }
}

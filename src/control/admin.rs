//! Admin sockets: listens, and moves bytes between each connection and its `cli::AdminSession`. What commands mean is there.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::base::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_HELD_BYTES_MAX, ADMIN_OUTPUT_BYTES};
use crate::control::cli::{AdminSession, Job, Next, Outcome, SessionInfo, Takeover};
use crate::control::core::{Control, ControlBase};
use crate::control::events::Level;
use crate::control::gather;
use crate::control::reload;
use crate::control::statistics;
use crate::control::takeover::{self, Legacy};
use crate::control::target::Target;
use crate::model::{AdminEndpoint, AdminLevel, AdminSocket, Model};
use crate::proxy::message::{SessionRow, ToCore};
use crate::rt::{self, Conn, Endpoint, ListenOptions, Listener, StartError};

/// How long accepting rests after an error: descriptors are short, and a session that ends gives some back.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 64;

/// What the command line says about admin sockets.
#[derive(Clone, Default, Debug)]
pub struct Settings {
    /// Sockets beside those of the configuration, which a reload leaves alone.
    pub more: Vec<AdminSocket>,
    /// Take the place of another process that listens at a path: it was asked to leave.
    pub replace: bool,
}

/// Looks, before anything is started, whether the admin sockets can be made.
///
/// # Errors
/// Another process listens on one, or something else than a socket has its name.
pub(super) fn check_sockets(model: &Model, legacy: &Legacy, settings: &Settings) -> Result<(), StartError> {
    for socket in model.global.admin.iter().chain(&settings.more) {
        if let AdminEndpoint::Unix(path) = &socket.at
            && !legacy.has_admin(path)
        {
            check(path, settings.replace).map_err(|e| refused(socket, &e))?;
        }
    }
    Ok(())
}

fn check(path: &Path, replace: bool) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file exists and is not a socket"))
        }
        Ok(_) if !replace && UnixStream::connect(path).is_ok() => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"))
        }
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

fn refused(socket: &AdminSocket, e: &io::Error) -> StartError {
    StartError(format!("cannot make the admin socket {}: {}", socket.at, rt::error::words(e)))
}

/// An admin socket that listens.
pub(super) struct Gate {
    at: AdminEndpoint,
    mode: Cell<u32>,
    level: Cell<AdminLevel>,
    /// Device and inode of its file.
    file: Option<(u64, u64)>,
    /// For a process that takes over.
    pub(super) copy: OwnedFd,
    /// It comes from a process before.
    is_inherited: bool,
    /// It is to be closed.
    over: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Gate {
    /// How a process that takes over names it.
    pub(super) fn name(&self) -> String {
        name(&self.at)
    }

    pub(super) fn close(&self) {
        self.over.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn closed(&self) {
        poll_fn(|cx| {
            if self.over.get() {
                return Poll::Ready(());
            }
            self.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Removes its file, unless another process has put its own there meanwhile.
    fn remove_file(&self) {
        if let (AdminEndpoint::Unix(path), Some(file)) = (&self.at, self.file)
            && identity(path).is_ok_and(|now| now == file)
        {
            // It was there a moment ago; if it is gone by now, that is what was wanted.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Opens all admin sockets and serves them.
///
/// # Errors
/// One cannot be made.
pub(super) fn listen_all(control: &Rc<Control>, legacy: &mut Legacy) -> Result<(), StartError> {
    let opened = open_new(control, &control.model, legacy)?;
    serve_all(control.base(), &control.model, opened);
    Ok(())
}

/// A socket that is ready to be served; dropping it closes it.
pub(super) struct Opened(Option<(Gate, OwnedFd)>);

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some((gate, _)) = &self.0
            && !gate.is_inherited
        {
            gate.remove_file();
        }
    }
}

/// Opens the admin sockets of a configuration that do not listen yet.
///
/// # Errors
/// One cannot be made; those that were made are closed again.
pub(super) fn open_new(
    base: &ControlBase,
    model: &Model,
    legacy: &mut Legacy,
) -> Result<Vec<Opened>, StartError> {
    let listens = |socket: &&AdminSocket| base.admin_gates.borrow().iter().any(|gate| gate.at == socket.at);
    // Once it serves it takes nobody's place any more.
    let replace = base.process.admin.replace && base.admin_gates.borrow().is_empty();
    wanted(base, model)
        .filter(|socket| !listens(socket))
        .map(|socket| open_one(socket, legacy.admin(&socket.at), replace))
        .collect()
}

/// The sockets of a configuration and those of the command line.
fn wanted<'a>(base: &'a ControlBase, model: &'a Model) -> impl Iterator<Item = &'a AdminSocket> {
    model.global.admin.iter().chain(&base.process.admin.more)
}

/// `there`: it listens already, for the process before.
fn open_one(socket: &AdminSocket, there: Option<OwnedFd>, replace: bool) -> Result<Opened, StartError> {
    let wrong = |e: io::Error| refused(socket, &e);
    let is_inherited = there.is_some();
    let (fd, file) = match &socket.at {
        AdminEndpoint::Unix(path) => {
            let fd = match there {
                Some(fd) => set_mode(path, socket.mode).map(|()| fd),
                None => open(path, socket.mode, replace),
            };
            let fd = fd.map_err(wrong)?;
            (fd, Some(identity(path).map_err(wrong)?))
        }
        AdminEndpoint::Tcp(address) => {
            let options = ListenOptions { backlog: BACKLOG, ..ListenOptions::default() };
            let fd = there.map_or_else(|| rt::listen(Endpoint::Ip(*address), options), Ok);
            (fd.map_err(wrong)?, None)
        }
        AdminEndpoint::Fd(fd) => {
            (rt::listen(Endpoint::Fd(*fd), ListenOptions::default()).map_err(wrong)?, None)
        }
    };
    let copy = rt::share(&fd).map_err(wrong)?;
    let (mode, level) = (Cell::new(socket.mode), Cell::new(socket.level));
    let gate = Gate {
        at: socket.at.clone(),
        mode,
        level,
        file,
        copy,
        is_inherited,
        over: Cell::new(false),
        waker: Cell::default(),
    };
    Ok(Opened(Some((gate, fd))))
}

/// Serves those that were opened, closes those that the configuration does not have, and gives the others what it says. Connections
/// go on.
pub(super) fn serve_all(base: &Rc<ControlBase>, model: &Model, opened: Vec<Opened>) {
    let mut gates = base.admin_gates.borrow_mut();
    gates.retain(|gate| {
        let stays = wanted(base, model).any(|socket| socket.at == gate.at);
        if !stays {
            gate.close();
            gate.remove_file();
        }
        stays
    });
    for gate in gates.iter() {
        let Some(socket) = wanted(base, model).find(|socket| socket.at == gate.at) else { continue };
        gate.level.set(socket.level);
        if let AdminEndpoint::Unix(path) = &socket.at
            && gate.mode.replace(socket.mode) != socket.mode
            && let Err(e) = std::fs::set_permissions(path, std::fs::Permissions::from_mode(socket.mode))
        {
            let text = format!("cannot change the mode of {}: {}", path.display(), rt::error::words(&e));
            base.say(Level::Warning, text);
        }
    }
    for (gate, fd) in opened.into_iter().filter_map(|mut opened| opened.0.take()) {
        let gate = Rc::new(gate);
        gates.push(gate.clone());
        rt::spawn(accept(base.clone(), Listener::new(fd), gate));
    }
}

/// How a process that takes over names an admin socket.
pub(super) fn name(at: &AdminEndpoint) -> String {
    match at {
        AdminEndpoint::Unix(path) => format!("unix@{}", path.display()),
        AdminEndpoint::Tcp(address) => address.to_string(),
        AdminEndpoint::Fd(fd) => format!("fd@{fd}"),
    }
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Makes the socket under another name first, so that its permissions are right from the moment when it can be found.
fn open(path: &Path, mode: u32, replace: bool) -> io::Result<OwnedFd> {
    check(path, replace)?;
    let mut name = path.to_owned().into_os_string();
    name.push("~");
    let temporary = PathBuf::from(name);
    let options = ListenOptions { backlog: BACKLOG, ..ListenOptions::default() };
    let fd = rt::listen(Endpoint::Unix(&temporary), options)?;
    let named = set_mode(&temporary, mode).and_then(|()| std::fs::rename(&temporary, path));
    if named.is_err() {
        // Only the leftover of an attempt that failed already.
        let _ = std::fs::remove_file(&temporary);
    }
    named.map(|()| fd)
}

/// Device and inode of a file: whether it is still the same one under its name.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// Removes the files of the admin sockets.
pub(super) fn remove_files(base: &ControlBase, with_inherited: bool) {
    for gate in base.admin_gates.take() {
        if with_inherited || !gate.is_inherited {
            gate.remove_file();
        }
    }
}

async fn accept(control: Rc<ControlBase>, mut listener: Listener, gate: Rc<Gate>) {
    while !gate.over.get() {
        match rt::select(listener.accept(), gate.closed()).await {
            rt::Either::First(Ok(conn)) => rt::spawn(serve(control.clone(), conn, gate.level.get())),
            rt::Either::First(Err(e)) => {
                control.say(Level::Warning, format!("cannot accept on an admin socket: {e}"));
                rt::sleep_until(rt::now() + ACCEPT_REST).await;
            }
            rt::Either::Second(()) => break,
        }
    }
    // What was accepted already is served; what waits in the queue is the other process's.
    listener.cancel();
    while listener.is_accepting() {
        if let Ok(conn) = listener.accept().await {
            rt::spawn(serve(control.clone(), conn, gate.level.get()));
        }
    }
}

/// Counts one connection as long as it lives.
struct Place {
    control: Rc<ControlBase>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.control.admin_connections.set(self.control.admin_connections.get() - 1);
    }
}

/// One connection, until it ends for whatever reason: there is nobody else to tell.
async fn serve(control: Rc<ControlBase>, conn: Conn, level: AdminLevel) {
    let open = control.admin_connections.get() + 1;
    control.admin_connections.set(open);
    let _place = Place { control: control.clone() };
    if open > ADMIN_CONNECTIONS_MAX {
        // Best effort: the client may be gone.
        let _ = write(&conn, "Too many admin connections.\n\n".to_owned(), Duration::from_secs(1)).await;
        return;
    }
    let mut session = AdminSession::new(level, who(&conn));
    loop {
        let mut out = String::new();
        // A connection may outlive the configuration.
        let next = session.poll(&mut Target::new(control.current()), &mut out);
        if !out.is_empty() && write(&conn, out, session.timeout()).await.is_none() {
            return;
        }
        match next {
            Next::Read => {
                let received = rt::with_deadline(conn.recv(), Some(rt::now() + session.timeout())).await;
                match received {
                    Ok(Ok(Some(bytes))) => session.handle_input(&bytes),
                    // Who sent a line and half-closed wants the answer.
                    Ok(Ok(None)) if session.handle_end() => {}
                    _ => return,
                }
            }
            Next::Do(job) => {
                let outcome = perform(&control, Some(&conn), job).await;
                session.handle_outcome(outcome);
            }
            // Other tasks of this core are not kept waiting by a long answer.
            Next::Continue => rt::yield_now().await,
            Next::Close => return,
        }
    }
}

/// Who is at the other end, as the audit log says it.
fn who(conn: &Conn) -> String {
    match conn.peer_credentials() {
        Some((uid, pid)) => format!("uid {uid} pid {pid}"),
        None => conn.peer_addr().to_string(),
    }
}

/// Writes everything; `None` if the client does not read in time or is gone.
async fn write(conn: &Conn, text: String, timeout: Duration) -> Option<()> {
    // Each turn of a long answer would wait for the client to read and for this core to get its CPU back.
    if text.len() > ADMIN_OUTPUT_BYTES {
        conn.hold(text.len().min(ADMIN_HELD_BYTES_MAX));
    }
    let sent = rt::with_deadline(conn.send_all(text.into_bytes()), Some(rt::now() + timeout)).await;
    sent.ok()?.ok()
}

/// Does what takes time. Following a ring needs a connection, whose end ends it.
pub(super) async fn perform(control: &Rc<ControlBase>, conn: Option<&Conn>, job: Job) -> Outcome {
    match job {
        Job::Wait(duration) => {
            rt::sleep_until(rt::now() + duration).await;
            Outcome::Done
        }
        Job::Follow { ring, from } => {
            let found = control.rings().into_iter().find(|other| other.settings().name == ring);
            let (Some(ring), Some(conn)) = (found, conn) else { return Outcome::Done };
            let from = from.min(ring.next());
            let more = poll_fn(|cx| {
                ring.follow(cx.waker());
                if ring.next() > from { Poll::Ready(()) } else { Poll::Pending }
            });
            match rt::select(more, conn.closed()).await {
                rt::Either::First(()) => {
                    let mut text = String::new();
                    let next = ring.read(from, &mut text);
                    Outcome::Lines(text, next)
                }
                rt::Either::Second(_) => Outcome::Done,
            }
        }
        Job::Sessions => {
            let rows = gather::sessions(control).await;
            let generations = control.generations.borrow();
            let told = rows.iter().filter_map(|row| Some(info(&*generations.model(row.generation)?, row)));
            Outcome::Sessions(told.collect())
        }
        Job::Statistics(asked) => Outcome::Text(statistics::text(control, &asked).await),
        Job::Stick(question) => Outcome::Stick(Box::new(gather::stick(control, *question).await)),
        Job::Settle => {
            // They answer in the order in which they were told.
            drop(gather::sessions(control).await);
            Outcome::Done
        }
        Job::Sources => Outcome::Sources(gather::sources(control).await),
        Job::Configuration(order) => Outcome::Text(reload::perform(control, order).await),
        Job::TakeOver(Takeover::Sockets) => match conn {
            Some(conn) => match takeover::hand_over(&control.current(), conn).await {
                Ok(()) => Outcome::Text(takeover::end()),
                Err(e) => {
                    Outcome::Text(format!("The sockets cannot be handed over: {}.", rt::error::words(&e)))
                }
            },
            None => Outcome::Text("This connection carries no sockets.".to_owned()),
        },
        Job::TakeOver(Takeover::Done) => {
            control.say(Level::Notice, "another process has taken over".to_owned());
            control.hand_over();
            control.current().leave_state_file();
            Outcome::Text(takeover::leaving())
        }
        Job::ShutdownSession(id) => {
            let rows = gather::sessions(control).await;
            let found = rows.iter().find(|row| row.id == id);
            if let Some(row) = found
                && let Some(core) = control.cores.get(row.core.0 as usize)
            {
                core.send(ToCore::ShutdownSession(id));
            }
            Outcome::Found(found.is_some())
        }
    }
}

fn info(model: &Model, row: &SessionRow) -> SessionInfo {
    SessionInfo {
        id: row.id,
        core: row.core.0,
        age: Duration::from_millis(row.age_ms),
        frontend: model.frontends[row.frontend].name.clone(),
        backend: row.backend.map(|id| model.backends[id].name.clone()),
        server: row.server.map(|id| model.servers[id].name.clone()),
        client: row.client,
        local: row.local,
        target: row.server.map(|_| row.remote),
        bytes_in: row.bytes_in,
        bytes_out: row.bytes_out,
        state: row.phase,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_appears_with_its_permissions_and_replaces_a_dead_one() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("admin.sock");
        let first = open(&path, 0o640, false).expect("made");
        let meta = std::fs::symlink_metadata(&path).expect("there");
        assert_eq!(meta.permissions().mode() & 0o777, 0o640);
        let taken = open(&path, 0o640, false).expect_err("somebody listens there");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        let before = identity(&path).expect("there");
        drop(first);
        let _second = open(&path, 0o640, false).expect("the dead one is replaced");
        let second = identity(&path).expect("there");
        assert_ne!(second, before);
        let _third = open(&path, 0o640, true).expect("the living one is replaced as well");
        assert_ne!(identity(&path).expect("there"), second);
        assert_eq!(
            std::fs::read_dir(directory.path()).expect("readable").count(),
            1,
            "nothing is left behind"
        );
    }

    #[test]
    fn what_is_no_socket_stays() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("precious");
        std::fs::write(&path, "data").expect("writable");
        assert!(open(&path, 0o600, false).is_err_and(|e| e.kind() == io::ErrorKind::AlreadyExists));
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "data");
    }
}

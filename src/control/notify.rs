//! Tells the service manager how the process is (sd_notify(3)): a datagram to the socket that `NOTIFY_SOCKET` names. While the
//! process stops, its listening sockets stay with the manager (FDSTORE): who connects meanwhile finds the process that comes next.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::rt;

/// How the names of sockets begin that are left with the manager.
const KEPT: &str = "shardgate";

/// What a socket that was left with the manager is named by: see `takeover::Described::marks`.
pub(super) type Marks = [u64; 3];

fn kept_name([bind, frontend, socket]: Marks) -> String {
    format!("{KEPT}-{bind:016x}-{frontend:016x}-{socket:016x}")
}

fn marks_of(name: &str) -> Option<Marks> {
    let mut parts =
        name.strip_prefix(KEPT)?.strip_prefix('-')?.split('-').map(|part| u64::from_str_radix(part, 16).ok());
    let marks = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(marks)
}

/// What each socket that the manager passes is named by, if a process of ours left it.
pub(super) fn kept() -> Vec<Option<Marks>> {
    env::var("LISTEN_FDNAMES").unwrap_or_default().split(':').map(marks_of).collect()
}

/// Says `READY=1`, `STOPPING=1` or another assignment. Without a service manager, or when it does not listen, nothing
/// happens: the process serves all the same.
pub(super) fn notify(message: &str) {
    if let Some(socket) = env::var_os("NOTIFY_SOCKET") {
        send(&socket, message, &[]);
    }
}

/// Whether somebody is told.
pub(super) fn is_managed() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

/// Leaves the sockets of a bind with the service manager. One that keeps none (`FileDescriptorStoreMax=`) closes them.
pub(super) fn keep(marks: Marks, sockets: &[OwnedFd]) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return };
    let message = format!("FDSTORE=1\nFDNAME={}", kept_name(marks));
    for some in sockets.chunks(rt::PASSED_MAX) {
        send(&socket, &message, some);
    }
}

/// What was left with the manager is in use here, or is of no use any more.
pub(super) fn forget_kept() {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let ours = |name: &&str| *name == KEPT || marks_of(name).is_some();
    for name in names.split(':').filter(ours).collect::<BTreeSet<_>>() {
        notify(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
    }
}

/// Within which time the manager wants to hear `WATCHDOG=1` again; `None`: it does not.
pub(super) fn watchdog() -> Option<Duration> {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|usec| is_ours && *usec > 0).map(Duration::from_micros)
}

fn send(socket: &OsStr, message: &str, fds: &[OwnedFd]) -> Option<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok()?,
        [b'/', ..] => SocketAddr::from_pathname(socket).ok()?,
        _ => return None,
    };
    let datagram = UnixDatagram::unbound().ok()?;
    datagram.connect_addr(&address).ok()?;
    // A manager that does not read must not stop the process: it does not wait.
    rt::pass_datagram(&datagram, message.as_bytes(), fds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_arrives_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("bound");
        let name = format!("shardgate-test-{}", path.display());
        let address = SocketAddr::from_abstract_name(&name).expect("an address");
        let by_name = UnixDatagram::bind_addr(&address).expect("bound");
        for (receiver, socket) in [(by_path, path.as_os_str()), (by_name, OsStr::new(&format!("@{name}")))] {
            assert!(send(socket, "READY=1", &[]).is_some());
            let mut message = [0; 64];
            let len = receiver.recv(&mut message).expect("received");
            assert_eq!(&message[..len], b"READY=1");
        }
    }

    #[test]
    fn marks_are_read_as_they_were_written() {
        for marks in [[1, 2, 3], [u64::MAX, 0, 7]] {
            assert_eq!(marks_of(&kept_name(marks)), Some(marks));
        }
        for name in ["", "shardgate", "shardgate-1-2", "shardgate-1-2-3-4", "web-1-2-3", "shardgate-x-1-2"] {
            assert_eq!(marks_of(name), None, "{name}");
        }
    }

    #[test]
    fn nobody_there_is_no_error() {
        for socket in ["", "relative", "/nonexistent/socket", "@shardgate-test-nobody"] {
            assert!(send(OsStr::new(socket), "READY=1", &[]).is_none(), "{socket}");
        }
    }
}

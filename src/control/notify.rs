//! Tells the service manager how the process is (sd_notify(3)): a datagram to the socket that `NOTIFY_SOCKET` names.

use std::env;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says `READY=1`, `STOPPING=1` or another assignment. Without a service manager, or when it does not listen, nothing
/// happens: the process serves all the same.
pub(super) fn notify(message: &str) {
    if let Some(socket) = env::var_os("NOTIFY_SOCKET") {
        send(&socket, message);
    }
}

fn send(socket: &OsStr, message: &str) -> Option<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok()?,
        [b'/', ..] => SocketAddr::from_pathname(socket).ok()?,
        _ => return None,
    };
    let datagram = UnixDatagram::unbound().ok()?;
    // A manager that does not read must not stop the process.
    datagram.set_nonblocking(true).ok()?;
    datagram.send_to_addr(message.as_bytes(), &address).ok()?;
    Some(())
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
            assert!(send(socket, "READY=1").is_some());
            let mut message = [0; 64];
            let len = receiver.recv(&mut message).expect("received");
            assert_eq!(&message[..len], b"READY=1");
        }
    }

    #[test]
    fn nobody_there_is_no_error() {
        for socket in ["", "relative", "/nonexistent/socket", "@shardgate-test-nobody"] {
            assert!(send(OsStr::new(socket), "READY=1").is_none(), "{socket}");
        }
    }
}

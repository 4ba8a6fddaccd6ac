//! Passing open descriptors to another process over a UNIX socket (SCM_RIGHTS, unix(7)). What they are for is said by the
//! bytes that travel with them; `control::takeover` reads those.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::conn::Conn;

/// Descriptors of one message: the kernel takes 253 (SCM_MAX_FD).
pub const PASSED_MAX: usize = 64;
/// Room for the control message of [`PASSED_MAX`] descriptors.
const SPACE: usize = 1024;

/// Sends bytes, of which there is at least one, and descriptors at once, without waiting.
///
/// # Errors
/// The peer does not read, or is not behind a UNIX socket.
pub fn pass(conn: &Conn, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
    send(conn.as_fd(), bytes, fds)
}

/// The same as one datagram, over a socket that is connected.
///
/// # Errors
/// The peer does not read, or is gone.
pub fn pass_datagram(socket: &UnixDatagram, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
    send(socket.as_fd(), bytes, fds)
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
    debug_assert!(!bytes.is_empty() && fds.len() <= PASSED_MAX);
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let sent =
        sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WouldBlock)) }
}

/// Receives bytes and the descriptors that came with them; no bytes: the end. Blocks, as the socket does.
///
/// # Errors
/// The connection broke, or the socket's time is over.
pub fn receive(stream: &UnixStream, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry_on_intr(|| {
        recvmsg(stream, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn descriptors_arrive_with_their_bytes_and_in_order() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let (mut first, first_end) = UnixStream::pair().expect("a pair");
        let (mut second, second_end) = UnixStream::pair().expect("a pair");
        let conn = Conn::from_fd(ours.into());
        pass(&conn, b"two", &[first_end.into(), second_end.into()]).expect("sent");
        pass(&conn, b" none", &[]).expect("sent");
        let (mut bytes, mut fds) = ([0; 64], Vec::new());
        let n = receive(&theirs, &mut bytes, &mut fds).expect("received");
        assert!(bytes[..n].starts_with(b"two"));
        assert_eq!(fds.len(), 2);
        for (end, fd) in [(&mut first, fds.remove(0)), (&mut second, fds.remove(0))] {
            let mut other = UnixStream::from(fd);
            other.write_all(b"x").expect("sent");
            end.read_exact(&mut [0]).expect("it is the same one");
        }
        // Dropping a connection closes through the ring of its core, and there is none here.
        drop(UnixStream::from(conn.into_fd()));
        let mut rest = Vec::new();
        let mut theirs = theirs;
        theirs.read_to_end(&mut rest).expect("the end");
        assert_eq!([&bytes[..n], &rest].concat(), b"two none");
    }
}

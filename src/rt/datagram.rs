//! Datagrams that nobody waits for: log lines to a syslog server. Batches go out in one system call; over UDP neighbours of
//! one length go as one message that the kernel cuts, which costs a fraction of as many datagrams.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::sys;

/// Bytes of datagrams that the kernel may hold for a slow receiver (SO_SNDBUF); it grants up to net.core.wmem_max.
const SEND_BUFFER: usize = 1 << 20;

/// A socket that datagrams are sent over.
#[derive(Debug)]
pub struct Datagrams {
    socket: OwnedFd,
    /// The kernel and the way to the receiver cut messages into datagrams, as far as is known.
    segments: Cell<bool>,
}

impl Datagrams {
    /// To an address.
    ///
    /// # Errors
    /// No socket, or no route.
    pub fn udp(to: SocketAddr) -> io::Result<Datagrams> {
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        Ok(Datagrams::over(socket.into(), true))
    }

    /// To a UNIX socket.
    ///
    /// # Errors
    /// No socket, or nobody listens at the path.
    pub fn unix(to: &Path) -> io::Result<Datagrams> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(to)?;
        Ok(Datagrams::over(socket.into(), false))
    }

    fn over(socket: OwnedFd, segments: bool) -> Datagrams {
        // What the kernel grants is enough.
        let _ = socket2::SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER);
        Datagrams { socket, segments: Cell::new(segments) }
    }

    /// Sends what the kernel takes without waiting. An error is that of the datagram behind those that went out, except
    /// ECONNREFUSED of UDP, which is that of an earlier one and is passed over.
    pub fn send(&self, datagrams: &[IoSlice<'_>]) -> (usize, Option<io::Error>) {
        let mut sent = 0;
        let mut refused = false;
        while sent < datagrams.len() {
            match sys::send_datagrams(self.socket.as_raw_fd(), &datagrams[sent..], self.segments.get()) {
                Ok(0) => break,
                Ok(count) => {
                    sent += count;
                    refused = false;
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused && !refused => refused = true,
                // No such option, no checksums in hardware, or longer than the way takes: one by one it may go.
                Err(e) if self.segments.get() && e.kind() != io::ErrorKind::WouldBlock => {
                    self.segments.set(false)
                }
                Err(e) => return (sent, Some(e)),
            }
        }
        (sent, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_batch_arrives_in_order() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        let sender = Datagrams::udp(receiver.local_addr().expect("bound")).expect("connected");
        let texts: Vec<String> = (0..150).map(|n| format!("line {n}")).collect();
        assert!(sender.segments.get());
        let slices: Vec<IoSlice<'_>> = texts.iter().map(|text| IoSlice::new(text.as_bytes())).collect();
        let (sent, error) = sender.send(&slices);
        assert_eq!((sent, error.is_none()), (150, true));
        let mut buffer = [0; 64];
        for text in &texts {
            let len = receiver.recv(&mut buffer).expect("a datagram");
            assert_eq!(&buffer[..len], text.as_bytes());
        }
    }

    #[test]
    fn a_receiver_that_takes_nothing_makes_nobody_wait() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("log");
        assert!(Datagrams::unix(&path).is_err(), "nobody is there");
        let _receiver = UnixDatagram::bind(&path).expect("a socket");
        let sender = Datagrams::unix(&path).expect("connected");
        let line = [b'x'; 1000];
        let slices = vec![IoSlice::new(&line); 5000];
        let (sent, error) = sender.send(&slices);
        assert!(sent < 5000);
        assert_eq!(error.map(|e| e.kind()), Some(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn a_udp_port_without_a_listener_is_no_reason_to_stop() {
        let port = UdpSocket::bind("127.0.0.1:0").expect("a socket").local_addr().expect("bound");
        let sender = Datagrams::udp(port).expect("connected");
        for _ in 0..5 {
            assert_eq!(sender.send(&[IoSlice::new(b"x"), IoSlice::new(b"y")]).0, 2);
        }
    }
}

//! What the black-box tests are written with: the proxy as a process, scripted origins and clients, real peers.
//!
//! Rules: ports come from the kernel; nothing waits for a time, everything waits for a condition with a deadline; every test
//! ends with [`Shardgate::finish`], which checks that nothing leaked and that the process stops as it should.

pub(crate) mod bytes;
pub(crate) mod dns;
pub(crate) mod frames;
pub(crate) mod gate;
pub(crate) mod hosts;
pub(crate) mod http;
pub(crate) mod origin;
pub(crate) mod peers;
pub(crate) mod scenario;
pub(crate) mod tls;

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub(crate) use gate::Shardgate;
pub(crate) use origin::Origin;

/// How long a condition may take to come true. Only a failing test waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until the probe gives a value.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "gave up waiting: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the condition holds.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    eventually(what, || condition().then_some(()));
}

/// A connection whose reads and writes fail instead of hanging the test.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("connect to {address}: {e}"));
    patient(stream)
}

/// A connection from a given local address.
pub(crate) fn connect_from(source: &str, address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)
        .expect("a socket can be made");
    let source: std::net::IpAddr = source.parse().expect("a literal in the test");
    socket.bind(&SocketAddr::new(source, 0).into()).expect("the address is of this machine");
    socket.connect(&address.into()).unwrap_or_else(|e| panic!("connect to {address}: {e}"));
    patient(socket.into())
}

/// Gives a connection the deadline of all tests.
pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
    stream.set_nodelay(true).expect("a TCP socket");
    stream
}

/// The path of a program of the system; what tests/run installs is a requirement, not an option.
pub(crate) fn program(name: &str) -> std::path::PathBuf {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is missing; tests/run installs it"))
}

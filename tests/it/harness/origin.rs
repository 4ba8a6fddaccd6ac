//! Scripted origins: a listener and a closure that plays each connection in a thread of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::{patient, until};

/// An origin on a port of its own, until it is dropped.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What the connections of an origin share with the test.
#[derive(Default)]
pub(crate) struct Shared {
    stop: AtomicBool,
    accepted: AtomicUsize,
    open: AtomicUsize,
    /// Scripts between `enter` and `leave`, and the most at once.
    inside: AtomicUsize,
    most_inside: AtomicUsize,
    /// What `note` recorded.
    notes: Mutex<Vec<Vec<u8>>>,
}

impl Shared {
    /// Records something for the test to look at.
    pub(crate) fn note(&self, bytes: &[u8]) {
        self.notes.lock().expect("no test panics while it holds this").push(bytes.to_vec());
    }
}

impl Shared {
    /// Keeps the connection as it is until the origin is dropped.
    pub(crate) fn hold(&self) {
        while !self.stop.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Origin {
    /// An origin that plays `script` on each connection.
    pub(crate) fn new(script: impl Fn(TcpStream, &Shared) + Send + Sync + 'static) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), script)
    }

    /// The same at a given address, for an origin that comes back.
    pub(crate) fn at(
        address: SocketAddr,
        script: impl Fn(TcpStream, &Shared) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("a local address");
        let address = listener.local_addr().expect("bound above");
        let shared = Arc::new(Shared::default());
        let script = Arc::new(script);
        let mine = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if mine.stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                mine.accepted.fetch_add(1, Ordering::AcqRel);
                mine.open.fetch_add(1, Ordering::AcqRel);
                let (shared, script) = (Arc::clone(&mine), Arc::clone(&script));
                std::thread::spawn(move || {
                    let _open = Leave(Arc::clone(&shared));
                    script(patient(stream), &shared);
                });
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// Returns what it gets, and the end when it gets that.
    pub(crate) fn echo() -> Self {
        Self::new(|stream, _| echo(stream))
    }

    /// Says its name, then returns what it gets.
    pub(crate) fn named(name: &'static str) -> Self {
        Self::new(move |mut stream, _| {
            if stream.write_all(name.as_bytes()).is_ok() {
                echo(stream);
            }
        })
    }

    /// Records all that a connection sends until its end, as one note, and answers nothing.
    pub(crate) fn recorder() -> Self {
        Self::new(|mut stream, shared| {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
            shared.note(&all);
        })
    }

    /// Accepts and then does nothing until the peer closes.
    pub(crate) fn silent() -> Self {
        Self::new(|mut stream, _| {
            let _ = stream.read_to_end(&mut Vec::new());
        })
    }

    /// Closes each connection with a reset as soon as it has one byte.
    pub(crate) fn resetting() -> Self {
        Self::new(|mut stream, _| {
            let _ = stream.read(&mut [0; 1]);
            reset(stream);
        })
    }

    /// Returns one byte and closes first. It counts itself out before it closes, so that [`most_inside`](Self::most_inside)
    /// is exact: who connects because this connection has ended finds it counted out.
    pub(crate) fn one_exchange() -> Self {
        Self::new(|mut stream, shared| {
            let inside = shared.inside.fetch_add(1, Ordering::AcqRel) + 1;
            shared.most_inside.fetch_max(inside, Ordering::AcqRel);
            let mut byte = [0; 1];
            let got = stream.read_exact(&mut byte).is_ok();
            if got {
                let _ = stream.write_all(&byte);
            }
            shared.inside.fetch_sub(1, Ordering::AcqRel);
        })
    }

    /// The most connections of [`one_exchange`](Self::one_exchange) at once.
    pub(crate) fn most_inside(&self) -> usize {
        self.shared.most_inside.load(Ordering::Acquire)
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// What was recorded so far.
    pub(crate) fn notes(&self) -> Vec<Vec<u8>> {
        self.shared.notes.lock().expect("no test panics while it holds this").clone()
    }

    /// Waits for the first `n` notes.
    pub(crate) fn wait_for_notes(&self, n: usize) -> Vec<Vec<u8>> {
        until(&format!("{n} notes of the origin"), || self.notes().len() >= n);
        self.notes()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Wakes the accept loop; it closes the listener on its way out.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Leave(Arc<Shared>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Returns what comes until the end.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut buf = vec![0; 64 * 1024];
    while let Ok(n) = stream.read(&mut buf) {
        if n == 0 || stream.write_all(&buf[..n]).is_err() {
            return;
        }
    }
}

/// Closes with RST: linger of zero seconds (socket(7)).
pub(crate) fn reset(stream: TcpStream) {
    let socket = socket2::Socket::from(stream);
    let _ = socket.set_linger(Some(Duration::ZERO));
}

/// An address that refuses connections for as long as the value lives: bound, never listening.
pub(crate) struct Refusing {
    pub(crate) address: SocketAddr,
    _socket: socket2::Socket,
}

impl Refusing {
    pub(crate) fn new() -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a local address");
        let address = socket.local_addr().ok().and_then(|a| a.as_socket()).expect("bound above");
        Self { address, _socket: socket }
    }
}

/// An address that never answers a SYN for as long as the value lives: its accept queue is full.
pub(crate) struct Blackhole {
    pub(crate) address: SocketAddr,
    _socket: socket2::Socket,
    _fill: Vec<TcpStream>,
}

impl Blackhole {
    pub(crate) fn new() -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a local address");
        socket.listen(0).expect("bound above");
        let address = socket.local_addr().ok().and_then(|a| a.as_socket()).expect("bound above");
        let mut fill = Vec::new();
        // The kernel drops SYNs once the queue holds more than its length; loopback needs no longer than this to answer.
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            fill.push(stream);
            assert!(fill.len() < 100, "the queue of length 0 fills");
        }
        Self { address, _socket: socket, _fill: fill }
    }
}

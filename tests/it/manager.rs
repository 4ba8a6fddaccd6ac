//! The service manager: what it is told, and what it keeps while one process follows another.

use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::harness::http::sections;
use crate::harness::{Origin, PATIENCE, Shardgate};

/// The other side of sd_notify(3).
struct Manager {
    dir: tempfile::TempDir,
    heard: mpsc::Receiver<(String, Vec<OwnedFd>)>,
    thread: Option<JoinHandle<()>>,
}

const QUIT: &str = "quit";

impl Manager {
    fn start() -> Manager {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("bound");
        let (tell, heard) = mpsc::channel();
        // It reads at once: a queue that is full loses messages, as with the real one.
        let thread = std::thread::spawn(move || {
            loop {
                let (text, fds) = receive(&socket);
                if text == QUIT || tell.send((text, fds)).is_err() {
                    return;
                }
            }
        });
        Manager { dir, heard, thread: Some(thread) }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("notify")
    }

    /// The next message with this text, and what came with it.
    fn hears(&self, text: &str) -> (String, Vec<OwnedFd>) {
        loop {
            let heard = self.heard.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{text} is not said"));
            if heard.0.contains(text) {
                return heard;
            }
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let quit = UnixDatagram::unbound().expect("a socket");
        quit.send_to(QUIT.as_bytes(), self.path()).expect("the thread reads");
        let _ = self.thread.take().expect("taken here alone").join();
    }
}

fn receive(socket: &UnixDatagram) -> (String, Vec<OwnedFd>) {
    let (mut bytes, mut fds) = ([0; 4096], Vec::new());
    let mut space = [MaybeUninit::uninit(); 1024];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .expect("a message");
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            fds.extend(passed);
        }
    }
    (String::from_utf8_lossy(&bytes[..received.bytes]).into_owned(), fds)
}

#[test]
fn it_is_told_how_the_process_is() {
    let origin = Origin::http_named("one");
    let manager = Manager::start();
    let body = sections(&origin, "", "", "");
    let mut gate = Shardgate::with(&body)
        .defaults("mode = \"http\"")
        .env("NOTIFY_SOCKET", &manager.path().display().to_string())
        .env("WATCHDOG_USEC", "200000")
        .start();
    let (ready, _) = manager.hears("READY=1");
    assert_eq!(ready, format!("MAINPID={}\nREADY=1", gate.pid()));
    assert_eq!(manager.hears("WATCHDOG").0, "WATCHDOG=1");
    gate.reload(&format!("{body}# another line\n"));
    assert!(manager.hears("RELOADING=1").0.contains("\nMONOTONIC_USEC="));
    assert_eq!(manager.hears("READY=1").0, "READY=1");
    assert_eq!(manager.hears("WATCHDOG").0, "WATCHDOG=1");
    gate.finish();
    assert_eq!(manager.hears("STOPPING").0, "STOPPING=1");
}

#[test]
fn who_connects_during_a_restart_finds_the_next_process() {
    let origin = Origin::http_named("one");
    let manager = Manager::start();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound");
    let body = sections(&origin, "", "", "").replace("127.0.0.1:0", &address.to_string());
    let start = || {
        let start = Shardgate::with(&body).defaults("mode = \"http\"");
        start.env("NOTIFY_SOCKET", &manager.path().display().to_string())
    };
    let gate = start().inherit(socket).start();
    assert_eq!(gate.wire("fe").get("/").text(), "one");
    gate.finish();
    let (message, mut kept) = manager.hears("FDSTORE=1");
    let name = message.strip_prefix("FDSTORE=1\nFDNAME=").expect("it has a name").to_owned();
    // Nobody is there, and the connection waits.
    let mut early = TcpStream::connect(address).expect("it is not refused");
    early.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
    let gate = start().env("LISTEN_FDNAMES", &name).inherit(kept.remove(0)).start();
    let mut answer = String::new();
    early.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("one"), "{answer}");
    assert_eq!(manager.hears("FDSTOREREMOVE").0, format!("FDSTOREREMOVE=1\nFDNAME={name}"));
    gate.finish();
}

#[test]
fn sockets_without_an_address_of_their_own_stay_over_a_restart() {
    let origin = Origin::http_named("one");
    for bind in
        ["\"unix@@BIND@/front.sock\"", "\"127.0.0.1:0\"", "{ address = \"127.0.0.1:0\", interface = \"lo\" }"]
    {
        let manager = Manager::start();
        let files = tempfile::tempdir().expect("a temporary directory");
        let bind = bind.replace("@BIND@", &files.path().display().to_string());
        let body = sections(&origin, "", "", "").replace("\"127.0.0.1:0\"", &format!("[{bind}]"));
        let start = || {
            let start = Shardgate::with(&body).defaults("mode = \"http\"").cores(1);
            start.env("NOTIFY_SOCKET", &manager.path().display().to_string())
        };
        let gate = start().start();
        let listens = |gate: &Shardgate| gate.ask("show listeners").lines().last().map(str::to_owned);
        let before = listens(&gate);
        let path = files.path().join("front.sock");
        let inode = |path: &std::path::Path| {
            std::fs::metadata(path).ok().map(|meta| std::os::unix::fs::MetadataExt::ino(&meta))
        };
        let file = inode(&path);
        gate.finish();
        let (message, mut kept) = manager.hears("FDSTORE=1");
        let name = message.strip_prefix("FDSTORE=1\nFDNAME=").expect("it has a name").to_owned();
        assert_eq!(inode(&path), file, "{bind}");
        let gate = start().env("LISTEN_FDNAMES", &name).inherit(kept.remove(0)).start();
        assert_eq!(listens(&gate), before, "{bind}");
        assert_eq!(inode(&path), file, "{bind}");
        gate.finish();
    }
}

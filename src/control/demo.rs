//! `shardgate demo`: three origin servers inside this process, a proxy in front of them, and what to try with them.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::base::limits::{BUF_BYTES, DEMO_IDLE};
use crate::base::net::Addr;
use crate::control::{Options, load, run};
use crate::model::Model;
use crate::rt::{self, Conn, Either, Endpoint, ListenOptions, Listener};

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Runs the demo until Ctrl-C.
pub fn demo() -> ExitCode {
    let directory = std::env::temp_dir().join(format!("shardgate-demo-{}", std::process::id()));
    let result = prepare(&directory);
    let code = match result {
        Ok((model, sockets)) => {
            let socket = directory.join("admin.sock");
            let companion = Box::new(move |listens: &[String]| start(sockets, listens, &socket));
            run(model, Options { companion: Some(companion), ..Default::default() })
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    };
    // Only what this process put there; a directory that is not empty stays.
    let _ = std::fs::remove_dir(&directory);
    code
}

type Sockets = Vec<(SocketAddr, OwnedFd)>;

fn prepare(directory: &Path) -> Result<(Model, Sockets), String> {
    let wrong = |e: io::Error| format!("cannot prepare the demo in {}: {e}", directory.display());
    std::fs::DirBuilder::new().mode(0o700).create(directory).map_err(wrong)?;
    let mut sockets = Vec::new();
    for _ in NAMES {
        let fd = listen((Ipv4Addr::LOCALHOST, 0).into()).map_err(wrong)?;
        let Addr::Ip(address) = rt::bound_addr(&fd) else {
            return Err("an origin has no address".to_owned());
        };
        sockets.push((address, fd));
    }
    let text = configuration(directory, &sockets);
    let (model, diagnostics) = load::from_text("demo.toml", &text)?;
    let told = diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    Ok((model.ok_or(told)?, sockets))
}

fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    rt::listen(Endpoint::Ip(address), ListenOptions { backlog: 128, ..ListenOptions::default() })
}

fn configuration(directory: &Path, sockets: &Sockets) -> String {
    let mut text = format!(
        "[admin]\nsocket = \"{}\"\n[defaults]\nmode = \"http\"\ntimeout = {{ client = \"30s\", connect = \"2s\", server = \"30s\" }}\n\
         [frontend.demo]\nbind = \"127.0.0.1:0\"\nforwardfor = true\nrules = [\n\
         {{ deny = true, if = \"{{ path_beg /private }}\" }},\n\
         {{ set-header = {{ name = \"X-Forwarded-Proto\", value = \"http\" }} }},\n]\n\
         default-backend = \"origins\"\n[backend.origins]\nbalance = \"roundrobin\"\n\
         httpchk = {{ method = \"GET\", uri = \"/health\" }}\ndefault-server = {{ check = true, inter = \"1s\", fall = 1, rise = 1 }}\n",
        directory.join("admin.sock").display()
    );
    for (name, (address, _)) in NAMES.iter().zip(sockets) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "server.{name} = {{ address = \"{address}\" }}");
    }
    text
}

/// Called on the control core: starts the origins and tells what to do with them.
fn start(sockets: Sockets, listens: &[String], socket: &Path) {
    let proxy = listens.first().map_or("", String::as_str);
    print!("{}", welcome(proxy, &sockets, socket));
    let origins: Rc<[Origin]> =
        NAMES.into_iter().zip(&sockets).map(|(name, (address, _))| Origin::new(name, *address)).collect();
    for (index, (_, fd)) in sockets.into_iter().enumerate() {
        rt::spawn(serve(origins.clone(), index, fd));
    }
}

fn welcome(proxy: &str, sockets: &Sockets, socket: &Path) -> String {
    let me = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("shardgate"));
    let (me, socket) = (me.display(), socket.display());
    let mut origins = String::new();
    for (name, (address, _)) in NAMES.iter().zip(sockets) {
        // Writing to a string cannot fail.
        let _ = writeln!(origins, "  origin {name:<6} http://{address}/");
    }
    format!(
        "Shardgate demo: an HTTP proxy in front of three origin servers, which are asked for their health once a second.\n\n\
         \x20 proxy         http://{proxy}/\n{origins}  admin socket  {socket}\n\n\
         Four things to try in another terminal:\n\
         \x20 1. Requests are spread over the origins, those of one connection too:\n\
         \x20      for i in 1 2 3 4 5 6; do curl -s http://{proxy}/; done\n\
         \x20 2. Stop the origin that answers; within a second its check fails and nobody is sent there any more:\n\
         \x20      curl http://{proxy}/stop\n\
         \x20      {me} ctl -s {socket} 'show stat' | cut -d, -f1,2,8,18,37\n\
         \x20      curl http://{proxy}/start     # starts all again\n\
         \x20 3. Change the weights while traffic flows:\n\
         \x20      {me} ctl -s {socket} 'set server origins/alpha weight 8' 'get weight origins/alpha'\n\
         \x20      for i in $(seq 20); do curl -s http://{proxy}/; done | sort | uniq -c\n\
         \x20 4. A rule of the frontend answers itself:\n\
         \x20      curl -i http://{proxy}/private/x\n\n\
         Ctrl-C stops everything.\n\n"
    )
}

/// One origin server.
struct Origin {
    name: &'static str,
    address: SocketAddr,
    /// It listens, or is to listen.
    runs: Cell<bool>,
    /// Its task, which waits for `runs` to change.
    waker: RefCell<Option<Waker>>,
}

impl Origin {
    fn new(name: &'static str, address: SocketAddr) -> Origin {
        Origin { name, address, runs: Cell::new(true), waker: RefCell::default() }
    }

    fn switch(&self, on: bool) {
        self.runs.set(on);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Waits until it is to run, or to stop.
    async fn until(&self, on: bool) {
        poll_fn(|cx| {
            if self.runs.get() == on {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Accepts while the origin runs; its socket is closed while it does not.
async fn serve(origins: Rc<[Origin]>, index: usize, first: OwnedFd) {
    let origin = &origins[index];
    let mut socket = Some(first);
    loop {
        origin.until(true).await;
        let Some(fd) = socket.take().or_else(|| listen(origin.address).ok()) else {
            tracing::error!("origin {} cannot listen on {} again", origin.name, origin.address);
            return;
        };
        let mut listener = Listener::new(fd);
        while let Either::Second(accepted) = rt::select(origin.until(false), listener.accept()).await {
            if let Ok(conn) = accepted {
                rt::spawn(answer(origins.clone(), index, conn));
            }
        }
    }
}

/// Answers requests of one connection until the client closes, or stays quiet for long.
async fn answer(origins: Rc<[Origin]>, index: usize, conn: Conn) {
    let mut head = Vec::new();
    loop {
        let received = rt::with_deadline(conn.recv(), Some(rt::now() + DEMO_IDLE)).await;
        let Ok(Ok(Some(bytes))) = received else { return };
        head.extend_from_slice(&bytes);
        drop(bytes);
        while let Some(end) = memchr::memmem::find(&head, b"\r\n\r\n") {
            let text = respond(&origins, index, &head[..end]);
            head.drain(..end + 4);
            if conn.send_all(text.into_bytes()).await.is_err() || !origins[index].runs.get() {
                return;
            }
        }
        if head.len() > BUF_BYTES {
            return;
        }
    }
}

fn respond(origins: &[Origin], index: usize, head: &[u8]) -> String {
    let name = origins[index].name;
    let path = head.split(|b| *b == b' ').nth(1).unwrap_or_default();
    let body = match path {
        b"/stop" => {
            origins[index].switch(false);
            format!("origin {name} stops\n")
        }
        b"/start" => {
            origins.iter().for_each(|origin| origin.switch(true));
            "all origins run\n".to_owned()
        }
        _ => format!("hello from origin {name}\n"),
    };
    let connection = if origins[index].runs.get() { "keep-alive" } else { "close" };
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_configuration_is_valid() {
        let directory = std::env::temp_dir().join(format!("shardgate-demo-test-{}", std::process::id()));
        let (model, sockets) = prepare(&directory).expect("prepared");
        std::fs::remove_dir(&directory).expect("nothing is left in it");
        assert_eq!((model.servers.len(), sockets.len()), (3, 3));
        let text = welcome("127.0.0.1:1", &sockets, Path::new("/run/x"));
        assert!(text.contains("http://127.0.0.1:1/stop") && text.contains("-s /run/x 'show stat'"));
    }

    #[test]
    fn origins_stop_and_start_by_path() {
        let at = (Ipv4Addr::LOCALHOST, 1).into();
        let origins = NAMES.map(|name| Origin::new(name, at));
        assert!(respond(&origins, 1, b"GET / HTTP/1.1").ends_with("hello from origin beta\n"));
        assert!(respond(&origins, 1, b"GET /stop HTTP/1.1").contains("Connection: close"));
        assert!(!origins[1].runs.get() && origins[0].runs.get());
        respond(&origins, 0, b"GET /start HTTP/1.1");
        assert!(origins[1].runs.get());
        assert!(respond(&origins, 0, b"").contains("200 OK"));
    }
}

//! Real programs beside the proxy: HAProxy, nginx, redis, openssl. Each on ports that the kernel just gave away.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use super::{program, until};

/// A program that runs until it is dropped.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// What stands for each `@FREE@` in its file.
    pub(crate) more: Vec<SocketAddr>,
    child: Child,
    dir: tempfile::TempDir,
}

/// An address that was free a moment ago, and another one each time. Another process may take it; the kernel hands ports out at
/// random, so it hardly does.
pub(crate) fn free_address() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().expect("nothing panics while it is held");
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a local address");
        let address = listener.local_addr().expect("bound above");
        if given.insert(address.port()) {
            return address;
        }
    }
}

impl Peer {
    fn spawn(command: &mut Command, address: SocketAddr, dir: tempfile::TempDir) -> Self {
        let log = fs::File::create(dir.path().join("log")).expect("our own directory");
        let child = command
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("the program runs");
        let mut peer = Self { address, more: Vec::new(), child, dir };
        until("the peer listens", || {
            if let Some(status) = peer.child.try_wait().expect("our own child") {
                panic!("the peer ended with {status}:\n{}", peer.log());
            }
            TcpStream::connect(address).is_ok()
        });
        peer
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Any program that listens at the address it is given.
    pub(crate) fn listening(command: impl FnOnce(SocketAddr) -> Command) -> Self {
        let address = free_address();
        Self::spawn(&mut command(address), address, directory())
    }

    /// HAProxy with these sections; `@ADDRESS@` is where it is to listen, each `@FREE@` another such address.
    pub(crate) fn haproxy(sections: &str) -> Self {
        Self::with_cfg(Command::new(program("haproxy")).args(["-db", "-f"]), sections)
    }

    /// The binary under test with the same file.
    pub(crate) fn in_haproxys_place(sections: &str) -> Self {
        Self::with_cfg(Command::new(super::gate::binary()).args(["run", "-f"]), sections)
    }

    fn with_cfg(command: &mut Command, sections: &str) -> Self {
        let (address, dir) = (free_address(), directory());
        let mut sections = sections.replace("@ADDRESS@", &address.to_string());
        let mut more = Vec::new();
        while sections.contains("@FREE@") {
            more.push(free_address());
            sections = sections.replacen("@FREE@", &more[more.len() - 1].to_string(), 1);
        }
        // A file that begins with `global` is whole.
        let text = match sections.starts_with("global") {
            true => sections,
            false => {
                format!("defaults\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n{sections}")
            }
        };
        let file = write(dir.path(), "haproxy.cfg", &text);
        let mut peer = Self::spawn(command.arg(file), address, dir);
        until("the peer listens everywhere", || {
            more.iter().all(|address| TcpStream::connect(address).is_ok())
        });
        peer.more = more;
        peer
    }

    /// nginx with this `http` or `stream` block; `@ADDRESS@` is where it is to listen.
    pub(crate) fn nginx(block: &str) -> Self {
        let (address, dir) = (free_address(), directory());
        let path = dir.path().to_string_lossy().into_owned();
        let text = format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nmaster_process off;\npid {path}/pid;\n\
             error_log stderr;\nevents {{}}\n{}",
            block.replace("@ADDRESS@", &address.to_string()).replace("@DIR@", &path)
        );
        let file = write(dir.path(), "nginx.conf", &text);
        Self::spawn(Command::new(program("nginx")).args(["-p", &path, "-c"]).arg(file), address, dir)
    }

    /// An empty redis.
    pub(crate) fn redis() -> Self {
        Self::redis_at(free_address())
    }

    /// An empty redis at a given address, for one that comes back.
    pub(crate) fn redis_at(address: SocketAddr) -> Self {
        let dir = directory();
        let path = dir.path().to_string_lossy().into_owned();
        let port = address.port().to_string();
        let mut command = Command::new(program("redis-server"));
        command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--dir", &path]);
        Self::spawn(&mut command, address, dir)
    }

    /// A TLS server with a self-signed certificate for this name. It answers HTTP requests with its status page.
    pub(crate) fn tls(name: &str) -> Self {
        let (address, dir) = (free_address(), directory());
        let (key, certificate) = (dir.path().join("key.pem"), dir.path().join("cert.pem"));
        let made = Command::new(program("openssl"))
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", &format!("/CN={name}")])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(Stdio::null())
            .status()
            .expect("openssl runs");
        assert!(made.success());
        let mut command = Command::new(program("openssl"));
        command.args(["s_server", "-quiet", "-www", "-accept", &address.to_string()]);
        command.arg("-key").arg(&key).arg("-cert").arg(&certificate);
        Self::spawn(&mut command, address, dir)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the peer at {} ---\n{}", self.address, self.log());
        }
    }
}

/// Runs a command to its end and returns what it printed.
pub(crate) fn output(command: &mut Command) -> String {
    let done = command.stdin(Stdio::null()).output().expect("the program runs");
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("shardgate-peer-").tempdir().expect("a temporary directory")
}

fn write(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let file = dir.join(name);
    fs::write(&file, text).expect("our own directory");
    file
}

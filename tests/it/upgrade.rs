//! One process takes over from another: no connection is refused or lost, and one that cannot start leaves the other alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use crate::harness::gate::{Process, relay};
use crate::harness::http::{http_gate, sections};
use crate::harness::{Origin, Shardgate, connect, eventually};

/// Waits for the end of a process that was replaced.
fn leaves(old: Process) {
    assert_eq!(old.wait().code(), Some(0));
}

/// wrk, until it is told to stop.
pub(crate) struct Wrk(Child);

impl Wrk {
    pub(crate) fn start(address: SocketAddr) -> Wrk {
        let url = format!("http://{address}/");
        let mut command = Command::new("wrk");
        command.args(["-t1", "-c12", "-d120s", &url]).stdout(Stdio::piped());
        Wrk(command.spawn().expect("wrk runs"))
    }

    /// Ends it; it must not have seen an error.
    pub(crate) fn finish(mut self) -> String {
        let stop = format!("kill -INT {}", self.0.id());
        assert!(Command::new("sh").args(["-c", &stop]).status().expect("sh runs").success());
        let mut text = String::new();
        self.0.stdout.take().expect("it is a pipe").read_to_string(&mut text).expect("a report");
        assert!(self.0.wait().expect("our own child").success(), "{text}");
        assert!(text.contains(" requests in "), "{text}");
        assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
        text
    }
}

impl Drop for Wrk {
    fn drop(&mut self) {
        // It is over already when the test is good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn upgrades_under_load_lose_no_request() {
    let origin = Origin::http_named("one");
    let mut gate = http_gate(&origin, "", "", "");
    let address = gate.address("fe");
    let wrk = Wrk::start(address);
    for _ in 0..3 {
        let served = gate.count("fe/FRONTEND", "req_tot");
        eventually("requests", || (gate.count("fe/FRONTEND", "req_tot") > served + 100).then_some(()));
        let old = gate.take_over();
        assert_eq!(gate.address("fe"), address, "it is the same port");
        eventually("requests", || (gate.count("fe/FRONTEND", "req_tot") > 100).then_some(()));
        leaves(old);
    }
    wrk.finish();
    assert_eq!(gate.count("fe/FRONTEND", "hrsp_5xx"), 0);
    gate.finish();
}

#[test]
fn sessions_stay_with_the_process_that_has_them() {
    let origin = Origin::echo();
    let unix = "\n[frontend.local]\nbind = \"unix@@DIR@/front.sock\"\ndefault-backend = \"be\"\n";
    let body = format!("{}{unix}", relay(origin.address, ""));
    let mut gate = Shardgate::with(&body).admin("\"@DIR@/second.sock\"").start();
    let mut kept = gate.connect("fe");
    let mut byte = [0];
    let mut echo = |stream: &mut dyn ReadWrite| {
        stream.write_all(b"x").expect("sent");
        stream.read_exact(&mut byte).expect("the echo");
    };
    echo(&mut kept);
    let first = gate.take_over();
    echo(&mut kept);
    echo(&mut gate.connect("fe"));
    let local = gate.dir().join("front.sock");
    echo(&mut UnixStream::connect(&local).expect("its file is still there"));
    // Another takes over while the first still has a session; both have drained or drain.
    let second = gate.take_over();
    leaves(second);
    echo(&mut kept);
    drop(kept);
    leaves(first);
    echo(&mut UnixStream::connect(&local).expect("its file is still there"));
    echo(&mut gate.connect("fe"));
    assert!(UnixStream::connect(gate.dir().join("second.sock")).is_ok());
    let dir = gate.dir().to_owned();
    let files = || std::fs::read_dir(&dir).expect("readable").count();
    let before = files();
    gate.wait_quiet();
    assert_eq!(files(), before);
    gate.finish();
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

#[test]
fn who_cannot_start_leaves_the_other_alone() {
    let origin = Origin::http_named("one");
    let mut gate = http_gate(&origin, "", "", "");
    let good = sections(&origin, "", "", "");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let bind = format!("[frontend.b]\nbind = \"{}\"\n", taken.local_addr().expect("bound"));
    let mut kept = gate.wire("fe");
    for body in ["nonsense".to_owned(), format!("{good}{bind}default-backend = \"be\"\n")] {
        gate.rewrite(&body);
        let status = Process::spawn(&mut gate.successor()).wait();
        assert_eq!(status.code(), Some(1), "{}", gate.log());
        assert_eq!((kept.get("/").status(), gate.wire("fe").get("/").status()), (200, 200));
    }
    assert!(!gate.log().contains("taken over"), "{}", gate.log());
    // Asked to take over from nobody it does not start either.
    let nobody = gate.dir().join("nobody.sock");
    let mut command = Command::new(crate::harness::gate::binary());
    command.args(["run", "-c"]).arg(gate.dir().join("shardgate.toml")).arg("--takeover").arg(nobody);
    assert_eq!(Process::spawn(&mut command).wait().code(), Some(1));
    gate.rewrite(&good);
    let old = gate.take_over();
    drop(kept);
    leaves(old);
    gate.finish();
}

#[test]
fn other_cores_and_other_binds_do_not_disturb() {
    let origin = Origin::http_named("one");
    let mut gate =
        Shardgate::with(&sections(&origin, "", "", "")).defaults("mode = \"http\"").cores(1).start();
    let address = gate.address("fe");
    let config = gate.dir().join("shardgate.toml");
    for cores in ["[0, 1]", "[0]"] {
        let text = std::fs::read_to_string(&config).expect("our own file");
        let at = text.find("cores = ").expect("the harness writes it");
        let end = at + text[at..].find('\n').expect("a line");
        let more = format!(
            "{}cores = {cores}{}\n[frontend.f{}]\nbind = \"127.0.0.1:0\"\n",
            &text[..at],
            &text[end..],
            cores.len()
        );
        std::fs::write(&config, format!("{more}default-backend = \"be\"\n")).expect("writable");
        leaves(gate.take_over());
        assert_eq!(gate.address("fe"), address);
        for _ in 0..20 {
            let mut wire = crate::harness::http::Wire::new(connect(address));
            assert_eq!(wire.get("/").status(), 200);
        }
    }
    gate.finish();
}

#[test]
fn a_socket_of_the_service_manager_serves_the_bind_with_its_address() {
    let origin = Origin::http_named("one");
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound");
    // Without SO_REUSEPORT nobody else can listen there.
    let body = sections(&origin, "", "", "").replace("127.0.0.1:0", &address.to_string());
    let gate = Shardgate::with(&body).defaults("mode = \"http\"").inherit(socket).start();
    assert_eq!(gate.address("fe"), address);
    for _ in 0..4 {
        let mut wire = crate::harness::http::Wire::new(connect(address));
        assert_eq!(wire.get("/").text(), "one");
    }
    gate.finish();
}

#[test]
fn the_state_file_goes_to_the_process_that_takes_over() {
    let origin = Origin::echo();
    let body = relay(origin.address, "weight = 10\nmaxconn = 5\n");
    let mut gate = Shardgate::with(&body).global("state-file = \"@DIR@/state\"").start();
    // The process before lives on with this session.
    let mut kept = gate.connect("fe");
    kept.write_all(b"x").expect("sent");
    kept.read_exact(&mut [0]).expect("the echo");
    gate.ask("set weight be/s1 50");
    let old = gate.take_over();
    assert_eq!(gate.ask("get weight be/s1"), "50 (initial 10)\n\n");
    gate.ask("set maxconn server be/s1 7");
    let state = gate.dir().join("state");
    let text = || std::fs::read_to_string(&state).unwrap_or_default();
    eventually("it on disk", || text().contains("\"maxconn\"").then_some(()));
    drop(kept);
    leaves(old);
    assert!(text().contains("\"maxconn\"") && text().contains("\"weight\""), "{}", text());
    gate.restart("KILL");
    assert_eq!(gate.ask("get weight be/s1"), "50 (initial 10)\n\n");
    assert_eq!(gate.stat("be/s1", "slim"), "7");
    gate.finish();
}

/// The listening sockets of a process: the inode of each, with its port or path.
fn listening(pid: u32) -> Vec<(String, String)> {
    let own: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("our own child")
        .filter_map(|entry| Some(std::fs::read_link(entry.ok()?.path()).ok()?.to_string_lossy().into_owned()))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let read = |table: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).expect("a table");
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let tcp = read("tcp");
    let tcp = tcp.lines().map(fields).filter(|f| f.get(3).is_some_and(|state| state == "0A"));
    let unix = read("unix");
    // __SO_ACCEPTCON
    let unix = unix.lines().map(fields).filter(|f| f.get(3).is_some_and(|flags| flags == "00010000"));
    let mut all: Vec<(String, String)> = tcp
        .map(|f| (f[9].clone(), f[1].clone()))
        .chain(unix.filter_map(|f| Some((f[6].clone(), f.get(7)?.clone()))))
        .filter(|(inode, _)| own.contains(inode))
        .collect();
    all.sort();
    all
}

#[test]
fn sockets_of_every_kind_are_the_same_ones_after_a_takeover() {
    let origin = Origin::http_named("one");
    let more = "[frontend.more]\nbind = [\"unix@@DIR@/front.sock\", \"abns@@DIR@/a\", { address = \"127.0.0.1:0\", interface = \"lo\" }, { \
                address = \"127.0.0.1:0\", transparent = true }]\ndefault-backend = \"be\"\n";
    let body = format!("{}{more}", sections(&origin, "", "", ""));
    let mut gate = Shardgate::with(&body).defaults("mode = \"http\"").start();
    let serving = |gate: &Shardgate| {
        let all = listening(gate.pid());
        // The socket behind the statistics page is each process's own.
        all.into_iter().filter(|(_, at)| !at.starts_with("@shardgate-")).collect::<Vec<_>>()
    };
    let before = serving(&gate);
    assert!(before.len() >= 6, "{before:?}");
    let old = gate.take_over();
    eventually("the same sockets", || (serving(&gate) == before).then_some(()));
    leaves(old);
    assert_eq!(serving(&gate), before);
    gate.finish();
}

#[test]
fn who_cannot_start_leaves_the_files_of_sockets_alone() {
    let origin = Origin::echo();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let unix = |name: &str| {
        format!("[frontend.{name}]\nbind = \"unix@@DIR@/{name}.sock\"\ndefault-backend = \"be\"\n")
    };
    let body = format!("{}{}", relay(origin.address, ""), unix("old"));
    let mut gate = Shardgate::start(&body);
    let occupied = format!("[frontend.b]\nbind = \"{}\"\n", taken.local_addr().expect("bound"));
    let bad = format!("{body}{}{occupied}default-backend = \"be\"\n", unix("new"));
    let file = |name: &str| gate.dir().join(format!("{name}.sock"));
    let (old, new) = (file("old"), file("new"));
    gate.rewrite(&bad);
    assert!(gate.try_reload().is_err());
    assert!(old.exists() && !new.exists(), "a reload that fails");
    assert_eq!(Process::spawn(&mut gate.successor()).wait().code(), Some(1));
    assert!(old.exists() && !new.exists(), "a takeover that fails");
    drop(taken);
    gate.reload(&bad);
    assert!(UnixStream::connect(&new).is_ok() && UnixStream::connect(&old).is_ok());
    gate.finish();
}

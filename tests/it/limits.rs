//! When something runs out: file descriptors, disk, memory of the log's target. The proxy says so once and goes on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::gate::{binary, relay};
use crate::harness::{Origin, Shardgate, eventually, program, until};

/// Sessions, more or less, for which the table gets room.
const ROOM: usize = 12;

/// Clients that want in.
const CROWD: usize = 60;

#[test]
fn a_full_fd_table_pauses_accepting_and_nothing_is_lost() {
    let origin = Origin::echo();
    let gate = Shardgate::relay(origin.address);
    let address = gate.address("fe");
    // The limit shrinks while it runs: at start it would have fitted its own maxconn to it.
    limit_files(gate.pid(), limit_with_room(gate.pid(), 2 * ROOM));
    // An accept operation keeps the limit of the moment in which it was submitted; these are submitted anew.
    assert_eq!(gate.ask("disable frontend fe").trim(), "");
    assert_eq!(gate.ask("enable frontend fe").trim(), "");
    let mut clients: Vec<TcpStream> = (0..CROWD).map(|_| crate::harness::connect(address)).collect();
    until("the log to say that the table is full", || complaints(&gate) > 0);
    let cpu_before = cpu_ticks(gate.pid());
    // Some are served, some wait, and some may have been refused because no descriptor was left for the server side. Where clients
    // took all at once, the first are served when attempts of others have failed and left theirs.
    until("somebody to be served", || clients.iter_mut().any(speaks));
    let served = clients.iter_mut().filter_map(|c| speaks(c).then_some(())).count();
    assert!(served < CROWD, "the table was not full: the test shows nothing");
    // Waiting for descriptors is not spinning: the looks above took a while, of which the proxy used little.
    let used = cpu_ticks(gate.pid()) - cpu_before;
    assert!(used < 50, "{used} ticks of CPU while it could do nothing");
    assert!(complaints(&gate) < 20, "{} lines say that the table is full", complaints(&gate));
    clients.clear();
    limit_files(gate.pid(), 1000);
    gate.wait_stat("fe/FRONTEND", "scur", "0");
    // It accepts again, as many as it should.
    for _ in 0..CROWD {
        let mut client = gate.connect("fe");
        client.write_all(b"x").expect("the proxy takes it");
        client.read_exact(&mut [0; 1]).expect("served again");
    }
    gate.finish();
}

#[test]
fn who_gets_no_ring_says_so_and_ends() {
    let origin = Origin::echo();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (config, log) = (dir.path().join("c.toml"), dir.path().join("log"));
    let head = "[global]\ncores = [0]\n[defaults]\ntimeout = { client = 1, connect = 1, server = 1 }\n";
    std::fs::write(&config, format!("{head}{}", relay(origin.address, ""))).expect("our own directory");
    // Whatever is refused first: the rings of a data core, those of the control core, or a socket before them.
    let served = (8..200).step_by(3).any(|limit| {
        let out = std::fs::File::create(&log).expect("our own directory");
        let script = format!("ulimit -n {limit}; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(binary()).args(["run", "-c"]).arg(&config);
        command.stdin(Stdio::null()).stdout(out.try_clone().expect("a file")).stderr(out);
        let mut child = Ended(command.spawn().expect("sh runs"));
        let text = || std::fs::read_to_string(&log).unwrap_or_default();
        let ended = eventually("it serves or ends", || match child.0.try_wait().expect("our own child") {
            Some(status) => Some(Some(status)),
            None => text().contains("ready: ").then_some(None),
        });
        if let Some(status) = ended {
            assert!(!status.success() && !text().trim().is_empty(), "{limit}: {status}, {:?}", text());
        }
        ended.is_none()
    });
    assert!(served, "it never had enough");
}

/// Killed when it is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may be over already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The limit below which so many numbers are free: those in use may have holes between them.
fn limit_with_room(pid: u32, room: usize) -> usize {
    let used: Vec<usize> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("our own child")
        .filter_map(|entry| entry.ok()?.file_name().to_string_lossy().parse().ok())
        .collect();
    (0..).filter(|fd| !used.contains(fd)).nth(room).expect("numbers do not end")
}

/// Sets the soft limit of open files of a running process.
fn limit_files(pid: u32, limit: usize) {
    let status = Command::new(program("prlimit"))
        .args(["--pid", &pid.to_string(), &format!("--nofile={limit}:")])
        .status()
        .expect("prlimit runs");
    assert!(status.success());
}

/// Lines of the log that speak of the table.
fn complaints(gate: &Shardgate) -> usize {
    let log = gate.log().to_lowercase();
    log.lines()
        .filter(|l| {
            l.contains("file descriptor") || l.contains("too many open files") || l.contains("open files")
        })
        .count()
}

/// Whether the connection is served within a moment.
fn speaks(client: &mut TcpStream) -> bool {
    client.set_read_timeout(Some(Duration::from_millis(20))).expect("not zero");
    client.write_all(b"x").is_ok() && matches!(client.read(&mut [0; 1]), Ok(1))
}

/// CPU time in clock ticks (10 ms), user and system.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("our own child");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("one").split_whitespace().collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}

#[test]
fn maxconn_is_derived_from_the_limit_of_open_files() {
    let origin = Origin::echo();
    let gate = Shardgate::with(&relay(origin.address, "")).nofile(1000).start();
    let maxconn: usize = gate.info("Maxconn").parse().expect("a number");
    assert!(
        (100..500).contains(&maxconn),
        "{maxconn} connections with 1000 files: two files each, and some of its own"
    );
    assert_eq!(gate.info("Ulimit-n"), "1000");
    gate.finish();
}

#[test]
fn a_full_disk_under_the_log_stops_nothing() {
    let origin = Origin::echo();
    let gate = Shardgate::with(&relay(origin.address, ""))
        .global("log = \"file:/dev/full\"")
        .defaults("log = true")
        .start();
    for _ in 0..20 {
        let mut client = gate.connect("fe");
        client.write_all(b"x").expect("the proxy takes it");
        client.read_exact(&mut [0; 1]).expect("the echo");
    }
    gate.wait_stat("fe/FRONTEND", "stot", "20");
    until("the lost lines to be counted", || gate.info("DroppedLogs") != "0");
    gate.finish();
}

#[test]
fn thousands_of_connections_come_and_go() {
    let origin = Origin::echo();
    let gate = Shardgate::relay(origin.address);
    let address = gate.address("fe");
    for _ in 0..3 {
        let mut clients: Vec<TcpStream> = (0..400).map(|_| crate::harness::connect(address)).collect();
        for client in &mut clients {
            client.write_all(b"x").expect("the proxy takes it");
        }
        for client in &mut clients {
            client.read_exact(&mut [0; 1]).expect("the echo");
        }
        assert_eq!(gate.count("fe/FRONTEND", "scur"), 400);
        drop(clients);
        gate.wait_stat("fe/FRONTEND", "scur", "0");
    }
    gate.wait_stat("fe/FRONTEND", "stot", "1200");
    gate.finish();
}

//! `sandbox = true`: what the process gave up, and that it does its work all the same.

use std::io::{Read, Write};

use crate::harness::http::ok;
use crate::harness::tls::{Ca, get, tls};
use crate::harness::{Origin, Shardgate, gate, until};

/// A line of /proc/PID/status of each thread of a process.
fn of_threads(pid: u32, key: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let statuses = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
    let line = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix(key).map(str::to_owned));
        line.map(|line| line.trim().to_owned())
    };
    statuses.filter_map(line).collect()
}

#[test]
fn a_process_in_the_sandbox_serves_and_reloads() {
    let origin = Origin::echo();
    let mut gate = Shardgate::with(&gate::relay(origin.address, "")).global("sandbox = true").start();
    assert_eq!(gate.info("Sandbox"), "seccomp+landlock+capabilities");
    let all = |key: &str, value: &str| {
        let values = of_threads(gate.pid(), key);
        assert!(!values.is_empty() && values.iter().all(|v| v == value), "{key} {values:?}");
    };
    all("Seccomp:", "2");
    // What is not made, what is refused by name, and what is refused without a line in the log; data cores have one of their own.
    // glommio's thread beside each core has the name of the core.
    let mut filters = of_threads(gate.pid(), "Seccomp_filters:");
    filters.sort_unstable();
    filters.dedup();
    assert_eq!(filters, ["3", "4"]);
    all("NoNewPrivs:", "1");
    // CAP_NET_BIND_SERVICE is bit 10; CAP_IPC_LOCK, bit 14, stays in containers whose root may not lift limits.
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gate.pid())).expect("the process runs");
    let locked =
        limits.lines().find(|line| line.starts_with("Max locked memory")).expect("the kernel says it");
    let capabilities = if locked.contains("unlimited") { "0000000000000400" } else { "0000000000004400" };
    all("CapEff:", capabilities);
    all("CapBnd:", capabilities);
    let echo = |gate: &Shardgate| {
        let mut stream = gate.connect("fe");
        stream.write_all(b"hello").expect("written");
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("answered");
        assert_eq!(&answer, b"hello");
    };
    echo(&gate);
    // The directory of the admin socket is its own: a UNIX bind there can come with a reload, elsewhere it cannot.
    let inside = gate.dir().join("second.sock");
    let second = |path: &std::path::Path| {
        format!(
            "{}\n[frontend.second]\nbind = \"unix@{}\"\ndefault-backend = \"be\"\n",
            gate::relay(origin.address, ""),
            path.display()
        )
    };
    gate.reload(&second(&inside));
    until("the bind of the reload is there", || inside.exists());
    echo(&gate);
    let elsewhere = tempfile::tempdir().expect("a directory");
    gate.rewrite(&second(&elsewhere.path().join("third.sock")));
    let refused = gate.try_reload().expect_err("it needs more than the sandbox allows");
    assert!(refused.contains("the sandbox of this process does not allow writing to"), "{refused}");
    echo(&gate);
    gate.finish();
}

#[test]
fn a_process_in_the_sandbox_hands_over_to_another_in_its_own() {
    let origin = Origin::echo();
    let global = "sandbox = true\nstate-file = \"@DIR@/state\"";
    let mut gate = Shardgate::with(&gate::relay(origin.address, "")).global(global).start();
    let address = gate.address("fe");
    let old = gate.take_over();
    assert_eq!(gate.address("fe"), address, "it is the same port");
    assert_eq!(gate.info("Sandbox"), "seccomp+landlock+capabilities");
    let mut stream = gate.connect("fe");
    stream.write_all(b"hello").expect("written");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).expect("answered");
    assert_eq!(&answer, b"hello");
    assert_eq!(old.wait().code(), Some(0), "it leaves when the other one serves");
    drop(stream);
    // What both of them write is inside.
    gate.ask("set maxconn frontend fe 77");
    until("the change to be remembered", || {
        std::fs::read(gate.dir().join("state"))
            .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains("77"))
    });
    gate.finish();
}

#[test]
fn names_certificates_checks_and_logs_work_in_the_sandbox() {
    let (ca, origin) = (Ca::new(), Origin::http(|request| ok(request.start())));
    let port = origin.address.port();
    let body = |certificate: &std::path::Path| {
        format!(
            "[frontend.fe]\nmode = \"http\"\nlog = true\nlog-format = \"%ci %ST\"\n\
             bind = [{{ address = \"127.0.0.1:0\", tls = {{ certificates = \"{}\" }} }}]\ndefault-backend = \"be\"\n\
             [backend.be]\nmode = \"http\"\nhttpchk = {{ uri = \"/\" }}\n\
             server.s1 = {{ address = \"localhost:{port}\", check = true, inter = \"100ms\" }}\n",
            certificate.display()
        )
    };
    let (first, second) =
        (ca.bundle("first.pem", &["first.test"]), ca.bundle("second.pem", &["second.test"]));
    let global = "sandbox = true\nlog = \"file:@DIR@/gate.log\"";
    let mut gate = Shardgate::with(&body(&first)).global(global).start();
    gate.wait_stat("be/s1", "check_status", "L7OK");
    let served = |gate: &Shardgate, name: &str| {
        let mut client = tls(gate.address("fe"), name, ca.client()).expect("a handshake");
        get(&mut client, "/").expect("an answer").0
    };
    assert!(served(&gate, "first.test").contains(" 200 "));
    gate.reload(&body(&second));
    assert!(served(&gate, "second.test").contains(" 200 "));
    assert!(gate.ask("show info").contains("Sandbox: seccomp"));
    let log = gate.dir().join("gate.log");
    until("both requests are logged", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.matches("127.0.0.1 200").count() == 2)
    });
    gate.finish();
}

//! `shardgate doctor` in a network namespace of its own, so that what it applies touches nothing else.

use std::process::{Command, Output};

use crate::harness::gate::binary;
use crate::harness::program;

/// A sysfs of its own shows the interfaces of the namespace alone.
fn doctor(dir: &std::path::Path, script: &str) -> Output {
    Command::new(program("unshare"))
        .args([
            "--net",
            "--mount",
            "bash",
            "-ec",
            &format!("mount -t sysfs none /sys; ip link set lo up\n{script}"),
        ])
        .env("DIR", dir)
        .env("DOCTOR", format!("{} doctor -c {}/gate.toml -s {0}/none", binary(), dir.display()))
        .output()
        .expect("unshare runs")
}

#[test]
fn the_doctor_says_what_to_change_and_applies_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = "[defaults]\ntimeout = { connect = \"2s\", client = \"5s\", server = \"5s\" }\nsplice = \"never\"\n\
                  [frontend.fe]\nbind = [{ address = \"127.0.0.1:40000\", backlog = 10000 }]\ndefault-backend = \"be\"\n\
                  [backend.be.server.s1]\naddress = \"127.0.0.1:8001\"\nsource = \"192.0.2.77\"\n";
    std::fs::write(dir.path().join("gate.toml"), config).expect("written");
    let script = "$DOCTOR >$DIR/before || echo exit $?
                  $DOCTOR --apply --sysctl-file $DIR/sysctl.conf >$DIR/after || echo exit $?
                  cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/ip_local_reserved_ports";
    let done = doctor(dir.path(), script);
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("there");
    let (before, after) = (read("before"), read("after"));
    let said = String::from_utf8_lossy(&done.stdout);
    // A source address that the machine has not is for the operator: it stays broken.
    assert_eq!(said, "exit 1\nexit 1\n65535\n40000\n", "{before}\n{after}\n{}", done.stderr.escape_ascii());
    for expected in [
        "ok     kernel",
        "CHANGE sysctl       net.core.somaxconn is 4096, should be at least 10000",
        "sysctl -w 'net.core.somaxconn=65535'",
        "source 192.0.2.77 is no address of this machine",
        "ports 40000 of `bind`",
    ] {
        assert!(before.contains(expected), "no {expected:?} in\n{before}");
    }
    assert!(!after.contains("CHANGE sysctl") && after.contains("done   sysctl -w"), "{after}");
    let kept = read("sysctl.conf");
    assert!(kept.contains("\nnet.core.somaxconn = 65535\n"), "{kept}");
}

//! `shardgate replay`: the log of one configuration put to another.

use std::process::Command;

use crate::harness::gate::binary;
use crate::harness::http::{Wire, ok};
use crate::harness::{Origin, Shardgate, connect_from, until};

const CANDIDATE: &str = "[defaults]\nmode = \"http\"\ntimeout = { client = \"5s\", connect = \"5s\", server = \"5s\" }\n\
    [frontend.fe]\nbind = \"127.0.0.1:8080\"\ndefault-backend = \"be\"\n\
    rules = [{ deny = true, if = \"{ path_beg /old }\" }, { use-backend = \"api\", if = \"{ req.hdr(Host) api.org }\" }, \
    { return = { status = 204 }, if = \"{ src 127.0.0.2 }\" }]\n\
    [backend.be]\nserver.a = { address = \"192.0.2.1:80\" }\n[backend.api]\nserver.a = { address = \"192.0.2.1:80\" }\n";

fn replay(log: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("log"), log).expect("our own directory");
    std::fs::write(dir.path().join("new.toml"), CANDIDATE).expect("our own directory");
    let done = Command::new(binary())
        .args(["replay", "log", "-c", "new.toml"])
        .args(arguments)
        .current_dir(dir.path())
        .output()
        .expect("the binary runs");
    (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned())
}

#[test]
fn what_would_change_is_grouped_with_examples() {
    let line = |client: &str, host: &str, path: &str, rest: &str| {
        format!(
            "{client}:1000 [06/Feb/2009:12:14:14.655] fe {rest} 0/0/0/1/1 200 99 - - ---- 1/1/0/0/0 0/0 {{{host}|curl}} \"GET {path} HTTP/1.1\"\n"
        )
    };
    let mut log = String::new();
    for n in 0..5 {
        log += &line("127.0.0.1", "www.org", &format!("/old/{n}"), "be/a");
        log += &line("127.0.0.1", "www.org", "/new", "be/a");
    }
    log += &line("127.0.0.1", "api.org", "/x", "be/a");
    log += "haproxy started\n";
    let (code, text) = replay(&log, &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.starts_with("12 lines: 5 as the log says, 6 different, 1 left out\n"), "{text}");
    assert!(
        text.contains(
            "5 x backend be -> answered with 403\n  line 1: GET www.org/old/0 from 127.0.0.1 at fe\n  line 3:"
        ),
        "{text}"
    );
    assert!(text.contains("1 x backend be -> backend api\n  line 11: GET api.org/x"), "{text}");
    let (_, json) = replay(&log, &["--json"]);
    let told: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(told["groups"][0]["count"], 5, "{json}");
    let (code, text) = replay(&line("127.0.0.1", "www.org", "/new", "be/a"), &[]);
    assert_eq!((code, text.as_str()), (Some(0), "1 lines: 1 as the log says, 0 different, 0 left out\n"));
    assert!(replay("", &["--host-capture", "x"]).0 != Some(0));
}

#[test]
fn our_own_log_is_read() {
    let origin = Origin::http(|_| ok("x"));
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n\
         rules = [{{ deny = true, if = \"{{ path /no }}\" }}]\n[ring.requests]\ndescription = \"tests\"\n[backend.be]\nserver.a = {{ address = \"{}\" }}\n",
        origin.address
    );
    let gate = Shardgate::with(&body)
        .cores(1)
        .global("log = [\"ring@requests\"]")
        .defaults("mode = \"http\"\nlog = true")
        .start();
    for (source, path) in
        [("127.0.0.1", "/a"), ("127.0.0.1", "/old"), ("127.0.0.2", "/b"), ("127.0.0.1", "/no")]
    {
        Wire::new(connect_from(source, gate.address("fe"))).get(path);
    }
    let mut log = String::new();
    until("all are in the log", || {
        log = gate.ask("show events requests");
        log.lines().filter(|line| line.contains("client.address")).count() == 4
    });
    let (code, text) = replay(&log, &[]);
    assert_eq!(code, Some(2), "{text}\n{log}");
    assert!(text.contains(" 1 as the log says, 3 different"), "{text}\n{log}");
    for group in [
        "backend be -> answered with 403",
        "backend be -> answered with 204",
        "answered with 403 -> backend be",
    ] {
        assert!(text.contains(&format!("1 x {group}")), "{text}\n{log}");
    }
    gate.finish();
}

//! What the operator reads: diagnostics of `check` and `run`, the admin socket, `ctl`.

use std::process::{Command, Output};

use crate::harness::gate::{binary, relay};
use crate::harness::{Origin, Shardgate};

const GOOD: &str = "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be.server.s1]\naddress = \"127.0.0.1:9\"\n";

fn check(body: &str) -> Output {
    Shardgate::with(body).run_to_end("check")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_good_file_checks_with_0() {
    let done = check(GOOD);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    assert!(!text(&done).contains("error"), "{}", text(&done));
}

#[test]
fn too_little_locked_memory_is_one_line_that_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("gate.toml");
    std::fs::write(&file, GOOD).expect("written");
    let run = Command::new(crate::harness::program("prlimit"))
        .arg("--memlock=65536:65536")
        .arg(binary())
        .args(["run", "-c"])
        .arg(&file)
        .output()
        .expect("prlimit runs");
    assert_eq!(run.status.code(), Some(1), "{}", text(&run));
    let told = text(&run);
    let errors: Vec<&str> = told.lines().filter(|l| l.contains("error")).collect();
    assert_eq!(errors.len(), 1, "{told}");
    assert!(errors[0].contains("locked-memory") && errors[0].contains("LimitMEMLOCK"), "{told}");
}

#[test]
fn the_examples_of_the_readme_are_valid() {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("it is there");
    let examples: Vec<&str> =
        readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 2, "the README shows TCP and HTTP");
    let dir = tempfile::tempdir().expect("a directory");
    for example in examples {
        let file = dir.path().join("example.toml");
        std::fs::write(&file, example).expect("written");
        let done = Command::new(binary()).arg("check").arg("-c").arg(&file).output().expect("check runs");
        assert_eq!(done.status.code(), Some(0), "{}\n{example}", text(&done));
    }
}

#[test]
fn every_mistake_is_told_in_one_run_with_place_and_help() {
    let done = check(
        "[frontend.fe]\nbimd = \"127.0.0.1:0\"\nbind = \"127.0.0.1:99999\"\ndefault-backend = \"bee\"\nmaxconn = \"many\"\n\
         rules = [{ reject = true, if = \"{ scr 10.0.0.0/8 }\" }]\n\
         [backend.be]\nbalance = \"rondrobin\"\n[backend.be.server.s1]\naddress = \"127.0.0.1:9\"\nweight = 300\n",
    );
    assert_eq!(done.status.code(), Some(1));
    let told = text(&done);
    let errors: Vec<&str> = told.lines().filter(|l| l.contains(": error: ")).collect();
    assert!(errors.len() >= 7, "seven mistakes, these lines:\n{told}");
    for line in &errors {
        let place = line.split(": error: ").next().unwrap_or_default();
        let numbers: Vec<&str> = place.rsplit(':').take(2).collect();
        assert!(numbers.iter().all(|n| n.parse::<usize>().is_ok_and(|n| n > 0)), "file:line:col in {line}");
    }
    for hint in ["bimd", "did you mean \"bind\"", "did you mean \"be\"", "roundrobin", "weight", "scr"] {
        assert!(told.contains(hint), "{hint:?} in:\n{told}");
    }
}

#[test]
fn a_file_that_cannot_be_read_and_one_that_is_no_toml() {
    let done = Command::new(binary())
        .args(["check", "-c", "/nonexistent/shardgate.toml"])
        .output()
        .expect("it runs");
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done).contains("/nonexistent/shardgate.toml"), "{}", text(&done));
    let done = check("[frontend.fe\nbind = ");
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done).contains(": error: "), "{}", text(&done));
}

#[test]
fn missing_timeouts_are_a_warning() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("no-timeouts.toml");
    std::fs::write(&file, GOOD).expect("our own directory");
    let done = Command::new(binary()).args(["check", "-c"]).arg(&file).output().expect("it runs");
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    assert!(text(&done).contains("warning") && text(&done).contains("timeout"), "{}", text(&done));
}

#[test]
fn run_refuses_a_bad_file_with_1() {
    let done = Shardgate::with("[frontend.fe]\nbind = \"nowhere\"\n").run_to_end("run");
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done).contains(": error: "), "{}", text(&done));
}

#[test]
fn a_core_that_does_not_exist_is_one_clear_line() {
    let done = Shardgate::with(GOOD).global("cores = [4000]").run_to_end("run");
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done).contains("4000"), "{}", text(&done));
}

/// Forbids io_uring_setup (425 on every architecture) with EPERM, as container runtimes do, and runs the rest.
const FORBID_IO_URING: &str = r#"
import ctypes, os, struct, sys
code = b"".join(struct.pack("HBBI", *i) for i in [
    (0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)])
buf = ctypes.create_string_buffer(code, len(code))
prog = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(buf)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, prog, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn a_sandbox_without_io_uring_is_one_clear_line() {
    let done = Shardgate::with(GOOD).through(&["python3", "-c", FORBID_IO_URING]).run_to_end("run");
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
    let told = text(&done);
    assert!(told.contains("io_uring"), "{told}");
    assert!(!told.contains("panicked"), "{told}");
    assert!(told.lines().filter(|l| !l.is_empty()).count() <= 3, "one clear line, not a trace:\n{told}");
}

#[test]
fn variables_of_the_environment_are_expanded() {
    let origin = Origin::named("a");
    let body = relay(origin.address, "").replace(&origin.address.to_string(), "${TEST_SERVER}");
    let gate = Shardgate::with(&body).env("TEST_SERVER", &origin.address.to_string()).start();
    let mut client = gate.connect("fe");
    std::io::Read::read_exact(&mut client, &mut [0; 1]).expect("the server of the variable");
    drop(client);
    gate.finish();
    let done = Shardgate::with(&body).run_to_end("check");
    assert_eq!(done.status.code(), Some(1), "the variable is not set: {}", text(&done));
    assert!(text(&done).contains("TEST_SERVER"));
}

#[test]
fn the_admin_socket_answers_as_tools_expect() {
    let origin = Origin::echo();
    let gate = Shardgate::start(&relay(origin.address, ""));
    let stat = gate.ask("show stat");
    assert!(stat.starts_with("# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,"), "{stat}");
    assert!(stat.ends_with("\n\n"), "an empty line ends the answer");
    let fields: Vec<usize> = stat.lines().filter(|l| !l.is_empty()).map(|l| l.split(',').count()).collect();
    assert!(fields.len() >= 4 && fields.iter().all(|n| *n == fields[0]), "{fields:?}");
    assert!(stat.lines().filter(|l| !l.is_empty()).all(|l| l.ends_with(',')));
    let info = gate.ask("show info");
    assert!(info.starts_with("Name: HAProxy\n"), "{info}");
    let version = gate.info("Version");
    assert!(version.split('.').take(2).all(|n| n.parse::<u32>().is_ok()), "{version}");
    assert_eq!(gate.info("Pid"), gate.pid().to_string());
    assert!(gate.ask("no such thing").starts_with("Unknown command"));
    assert!(gate.ask("help").contains("show stat"));
    let two = gate.ask("show info;show stat");
    assert_eq!(
        two.trim_end_matches('\n').matches("\n\n").count(),
        1,
        "two answers, one empty line between them"
    );
    gate.finish();
}

#[test]
fn ctl_is_a_client_of_the_admin_socket() {
    let origin = Origin::echo();
    let gate = Shardgate::start(&relay(origin.address, ""));
    let socket = gate.dir().join("admin.sock");
    let done =
        Command::new(binary()).arg("ctl").arg("-s").arg(&socket).arg("show stat").output().expect("it runs");
    assert_eq!(done.status.code(), Some(0));
    assert!(text(&done).contains("fe,FRONTEND,"), "{}", text(&done));
    let done = Command::new(binary())
        .args(["ctl", "-s", "/nonexistent.sock", "show stat"])
        .output()
        .expect("it runs");
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done).contains("/nonexistent.sock"), "{}", text(&done));
    gate.finish();
}

#[test]
fn the_admin_socket_survives_what_clients_do_to_it() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    let origin = Origin::echo();
    let gate = Shardgate::start(&relay(origin.address, ""));
    let socket = gate.dir().join("admin.sock");
    for bytes in [&b""[..], b"\n", b"show st", b"\0\xff\xfe\n", b";;;\n", &[b'x'; 200_000]] {
        let mut client = UnixStream::connect(&socket).expect("it listens");
        let _ = client.write_all(bytes);
    }
    let held: Vec<UnixStream> = (0..40).map(|_| UnixStream::connect(&socket).expect("it listens")).collect();
    assert!(gate.ask("show info").starts_with("Name: "));
    drop(held);
    gate.finish();
}

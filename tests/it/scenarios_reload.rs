//! The pages of docs/scenarios about changes of the configuration do what they say.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::gate::binary;
use crate::harness::peers::free_address;
use crate::harness::scenario::scenario;
use crate::harness::{Origin, Shardgate, program, until};

const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

#[test]
fn a_port_of_the_file_is_the_port_whatever_was_remembered() {
    let (old, new) = (Origin::recorder(), Origin::recorder());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let state = dir.path().join("state");
    let at = |port: u16| format!("localhost:{port}");
    let (before, after) = (at(old.address.port()), at(new.address.port()));
    let replacements = [
        ("/var/lib/shardgate/state", state.to_str().expect("it is text")),
        ("*:443", "127.0.0.1:0"),
        ("web-pages-01.internal:2443", &before),
        ("web-pages-02.internal:2443", &before),
        (", send-proxy-v2 = true", ""),
    ];
    let mut gate = scenario("changed-port", &replacements).start();
    until("a check", || gate.stat("pages_https/web-pages-01", "check_status") == "L4OK");
    let spare = free_address();
    gate.ask("set server pages_https/web-pages-02 state drain; set weight pages_https/web-pages-01 20");
    gate.ask(&format!("set server pages_https/web-pages-01 addr {} port {}", spare.ip(), spare.port()));
    until("it on disk", || fs::read_to_string(&state).is_ok_and(|text| text.contains("\"addr\"")));
    let file = gate.dir().join("shardgate.toml");
    let text = fs::read_to_string(&file).expect("written at the start");
    let text = text.replace(&before, &after).replace("fall = 3", "fall = 3, send-proxy-v2 = true");
    fs::write(&file, text).expect("our own directory");
    let (code, plan) = gate.plan();
    let moved = format!("~ backend.pages_https.server.web-pages-01  address: \"{before}\" -> \"{after}\"");
    assert!(code == 2 && plan.lines().any(|line| line == moved), "{moved} in:\n{plan}");
    assert!(
        plan.lines()
            .any(|line| line == "~ backend.pages_https  default-server.send-proxy-v2: (not set) -> true"),
        "{plan}"
    );
    gate.restart("KILL");
    gate.wait_log(&format!("override of pages_https/web-pages-01 addr dropped: {spare} by uid "));
    gate.wait_log(&format!("replaced {before}, and the configuration says {after} now"));
    let drift = gate.ask("show drift");
    assert!(
        drift.contains("web-pages-01 weight: 10 -> 20")
            && drift.contains("web-pages-02 state: ready -> drain"),
        "{drift}"
    );
    assert_eq!(drift.matches(" -> ").count(), 2, "{drift}");
    let shown = || gate.ask("show server pages_https/web-pages-01");
    until("the name to be resolved", || shown().contains(&format!("127.0.0.1:{} ", new.address.port())));
    let shown = shown();
    for (value, from) in [
        ("address", "DNS: localhost; "),
        ("weight               20", "override: 10 -> 20 by uid "),
        ("send-proxy-v2        true", "(backend.pages_https.default-server)"),
    ] {
        assert!(
            shown.lines().any(|line| line.starts_with(value) && line.contains(from)),
            "{value}, {from}:\n{shown}"
        );
    }
    let spoken_to = old.accepted();
    gate.connect("pages_https").write_all(b"hello").expect("accepted");
    until("the new port to be spoken to", || new.notes().iter().any(|note| note.ends_with(b"hello")));
    assert!(
        new.notes().iter().filter(|note| note.ends_with(b"hello")).all(|note| note.starts_with(PROXY_V2))
    );
    assert_eq!(old.accepted(), spoken_to, "nobody speaks to the old port");
    gate.finish();
}

fn git(directory: &Path, arguments: &[&str]) {
    let mut command = Command::new(program("git"));
    for who in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{who}_NAME"), "operator")
            .env(format!("GIT_{who}_EMAIL"), "operator@example.com");
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    let output = command.current_dir(directory).args(arguments).output().expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The script of the page, with the directory of this process.
fn script(gate: &Shardgate) -> Output {
    let path = format!("{}/docs/scenarios/distribute-configuration.md", env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(path).expect("a page");
    let block =
        page.split_once("```sh\n").and_then(|(_, rest)| rest.split_once("```")).expect("it has a script").0;
    let directory = gate.dir().display().to_string();
    let text = block.replace("/etc/shardgate", &directory).replace("/run/shardgate", &directory);
    assert_eq!(text.matches(&directory).count(), 3);
    let text = text.replace("shardgate plan", &format!("{} plan", binary()));
    let text = text.replace("shardgate reload", &format!("{} reload", binary()));
    Command::new("sh").args(["-c", &text]).output().expect("sh runs")
}

#[test]
fn a_repository_is_followed_and_a_mistake_in_it_changes_nothing() {
    let (one, two) = (Origin::http_named("one"), Origin::http_named("two"));
    let replacements = [
        ("*:80", "127.0.0.1:0"),
        ("192.0.2.51:80", &one.address.to_string()),
        ("192.0.2.52:80", &two.address.to_string()),
    ];
    let gate = scenario("distribute-configuration", &replacements).start();
    let home = tempfile::tempdir().expect("a temporary directory");
    let (here, away) = (gate.dir(), home.path());
    git(here, &["init", "-q", "-b", "main"]);
    git(here, &["add", "shardgate.toml"]);
    git(here, &["commit", "-q", "-m", "what runs"]);
    git(away, &["clone", "-q", "--bare", &here.display().to_string(), "central"]);
    git(here, &["remote", "add", "origin", &away.join("central").display().to_string()]);
    git(here, &["fetch", "-q"]);
    git(here, &["branch", "-q", "-u", "origin/main"]);
    git(away, &["clone", "-q", "central", "desk"]);
    let desk = away.join("desk");
    let push = |from: &str, to: &str| {
        let file = desk.join("shardgate.toml");
        let text = fs::read_to_string(&file).expect("it was cloned");
        assert!(text.contains(from), "{from} in:\n{text}");
        fs::write(&file, text.replacen(from, to, 1)).expect("our own directory");
        git(&desk, &["commit", "-q", "-a", "-m", to]);
        git(&desk, &["push", "-q"]);
    };
    let run = |code: i32| {
        let output = script(&gate);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        text
    };
    let generations = || gate.ask("show generations").lines().filter(|line| !line.is_empty()).count() - 1;
    run(0);
    assert_eq!(generations(), 1, "nothing new is no reload");
    push("weight = 10", "weight = 20");
    let said = run(0);
    assert!(said.contains("weight: 10 -> 20") && said.contains("generation 2 runs"), "{said}");
    assert_eq!(gate.stat("app/app1", "weight"), "20");
    push("weight = 20", "wieght = 30");
    let said = run(1);
    assert!(said.contains("shardgate.toml:") && said.contains("wieght"), "{said}");
    run(1);
    assert_eq!((gate.stat("app/app1", "weight"), generations()), ("20".to_owned(), 2));
    push("wieght = 30", "weight = 20");
    run(0);
    assert_eq!(generations(), 2, "it is what runs");
    gate.finish();
}

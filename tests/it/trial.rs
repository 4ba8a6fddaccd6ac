//! Configurations on trial, and the way back to earlier ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::gate::binary;
use crate::harness::http::{http_gate, ok, sections};
use crate::harness::{Origin, Shardgate, connect, until};

fn header(origin: &Origin, value: &str) -> String {
    let rules =
        format!("response-rules = [{{ set-header = {{ name = \"x-rules\", value = \"{value}\" }} }}]");
    sections(origin, &rules, "", "")
}

/// What the frontend's rules say now.
fn rules(gate: &Shardgate) -> String {
    gate.wire("fe").get("/").header("x-rules").unwrap_or("none").to_owned()
}

/// `shardgate reload` with further words, `confirm` or `rollback`.
pub(crate) fn order(gate: &Shardgate, words: &[&str]) -> Result<String, String> {
    let socket = gate.dir().join("admin.sock");
    let mut command = std::process::Command::new(binary());
    let output = command.arg(words[0]).arg("-s").arg(socket).args(&words[1..]).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn a_trial_is_confirmed_or_taken_back() {
    let origin = Origin::http_named("one");
    let mut gate = Shardgate::with(&header(&origin, "first")).defaults("mode = \"http\"").start();
    // The connection outlives every change.
    let mut kept = gate.wire("fe");
    assert_eq!(kept.get("/").header("x-rules"), Some("first"));
    gate.rewrite(&header(&origin, "second"));
    let said = order(&gate, &["reload", "--confirm", "1s"]).expect("it runs");
    assert!(
        said.contains("generation 2 is on trial: back to generation 1 unless confirmed within 1s"),
        "{said}"
    );
    assert_eq!(kept.get("/").header("x-rules"), Some("second"));
    gate.wait_log("generation 3 runs: back to generation 1 (trial of 2: not confirmed within 1s)");
    assert_eq!(kept.get("/").header("x-rules"), Some("first"));
    assert_eq!(gate.plan().0, 2, "the file still says otherwise");

    order(&gate, &["reload", "--confirm", "1h"]).expect("it runs");
    assert!(gate.ask("show generations").contains(", on trial for 3"), "{}", gate.ask("show generations"));
    let why = gate.try_reload().expect_err("one at a time");
    assert!(why.contains("generation 4 is on trial: confirm or rollback first"), "{why}");
    assert!(order(&gate, &["confirm"]).expect("it is on trial").contains("generation 4 confirmed"));
    assert!(order(&gate, &["confirm"]).expect_err("nothing is").contains("no configuration is on trial"));
    assert_eq!(rules(&gate), "second");

    gate.rewrite(&header(&origin, "third"));
    order(&gate, &["reload", "--confirm", "1h"]).expect("it runs");
    assert_eq!(rules(&gate), "third");
    order(&gate, &["rollback"]).expect("back at once");
    assert_eq!((rules(&gate), kept.get("/").header("x-rules")), ("second".to_owned(), Some("second")));
    gate.reload(&header(&origin, "fourth"));
    drop(kept);
    gate.finish();
}

/// Ends a load, also when its test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_condition_over_live_statistics_takes_a_trial_back() {
    let broken = Arc::new(AtomicBool::new(false));
    let is_broken = broken.clone();
    let good = Origin::http_named("good");
    let bad = Origin::http(move |_| match is_broken.load(Ordering::Acquire) {
        true => "HTTP/1.1 500 So\r\nContent-Length: 0\r\n\r\n".to_owned(),
        false => ok("bad"),
    });
    let gate = http_gate(&good, "", "", "");
    let stop = AtomicBool::new(false);
    let address = gate.address("fe");
    std::thread::scope(|s| {
        let _stop = Stop(&stop);
        s.spawn(|| {
            let mut wire = crate::harness::http::Wire::new(connect(address));
            while !stop.load(Ordering::Acquire) {
                wire.get("/");
            }
        });
        gate.rewrite(&sections(&bad, "", "", ""));
        let condition = "http_5xx > 1% or p99 > 100s";
        order(&gate, &["reload", "--confirm", "1h", "--abort-if", condition]).expect("it runs");
        // Twice it was looked at, and it was good.
        let requests = gate.count("fe/FRONTEND", "req_tot");
        until("requests to go on", || gate.count("fe/FRONTEND", "req_tot") > requests + 50);
        assert!(gate.ask("show generations").contains("\n2 current "));
        broken.store(true, Ordering::Release);
        gate.wait_log("generation 2 has failed its trial: http_5xx is ");
        gate.wait_log("generation 3 runs: back to generation 1");
        let bad = gate.count("fe/FRONTEND", "hrsp_5xx");
        let requests = gate.count("fe/FRONTEND", "req_tot");
        until("requests to go on", || gate.count("fe/FRONTEND", "req_tot") > requests + 50);
        let after = gate.count("fe/FRONTEND", "hrsp_5xx");
        assert!(after <= bad + 1, "the good server serves again: {bad}, {after}");
    });
    let generations = gate.ask("show generations");
    assert!(generations.contains("back to 1 (trial of 2: http_5xx is "), "{generations}");
    gate.finish();
}

#[test]
fn earlier_configurations_are_kept_and_run_again() {
    let origin = Origin::http_named("one");
    let mut gate = Shardgate::with(&header(&origin, "1")).defaults("mode = \"http\"").start();
    for n in 2..=30 {
        gate.reload(&header(&origin, &n.to_string()));
    }
    gate.rewrite("nonsense");
    gate.try_reload().expect_err("it is nonsense");
    let history = gate.ask("show configurations");
    assert!(history.lines().filter(|line| line.contains(" kept ")).count() >= 10, "{history}");
    assert!(history.contains("\n30 current ") && !history.contains("nonsense"), "{history}");
    assert!(gate.ask("show configurations 25").contains("value = \"25\""));
    assert!(order(&gate, &["rollback", "1"]).expect_err("forgotten").contains("see show configurations"));
    assert!(order(&gate, &["rollback", "25"]).expect("it is kept").contains("generation 31 runs"));
    assert_eq!(rules(&gate), "25");
    // The one before: what ran until then.
    order(&gate, &["rollback"]).expect("there is one");
    assert_eq!(rules(&gate), "30");
    gate.finish();
}

#[test]
fn a_wrong_trial_is_explained() {
    let origin = Origin::http_named("one");
    let gate = http_gate(&origin, "", "", "");
    for (words, expected) in [
        (&["reload", "--confirm", "soon"][..], "\"soon\" is no time"),
        (&["reload", "--confirm", "1m", "--abort-if", "http_6xx > 1%"], "unknown value \"http_6xx\""),
        (&["reload", "--abort-if", "http_5xx > 1%"], "--confirm"),
        (&["rollback"], "there is no configuration before this one"),
        (&["rollback", "7"], "see show configurations"),
    ] {
        let why = order(&gate, words).expect_err("it is wrong");
        assert!(why.contains(expected), "{words:?}: {why}");
    }
    assert!(gate.ask("show generations").contains("\n1 current "));
    gate.finish();
}

#[test]
fn overrides_that_a_trial_drops_hold_again_when_it_fails() {
    let origin = Origin::http_named("one");
    let body = |weight: u32| sections(&origin, "", "", &format!("weight = {weight}\nmaxconn = 5"));
    let gate = Shardgate::with(&body(10)).defaults("mode = \"http\"").start();
    gate.ask("set weight be/s1 50; set maxconn server be/s1 7");
    let drift = gate.ask("show drift");
    gate.rewrite(&body(20));
    order(&gate, &["reload", "--confirm", "1h"]).expect("it runs");
    assert_eq!((gate.stat("be/s1", "weight"), gate.stat("be/s1", "slim")), ("20".to_owned(), "7".to_owned()));
    order(&gate, &["rollback"]).expect("back at once");
    assert_eq!(gate.stat("be/s1", "weight"), "50");
    assert_eq!(gate.ask("show drift"), drift);
    gate.wait_log("override of be/s1 weight holds again");
    // What is confirmed is for good.
    order(&gate, &["reload", "--confirm", "1h"]).expect("it runs");
    order(&gate, &["confirm"]).expect("it is on trial");
    gate.rewrite(&body(10));
    gate.try_reload().expect("it is good");
    assert_eq!(gate.stat("be/s1", "weight"), "10");
    gate.finish();
}

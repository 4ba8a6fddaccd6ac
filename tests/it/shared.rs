//! What cores share is not written per request: `shared_writes` of `show activity`, and docs/PERFORMANCE.md, which says how many
//! there are of each kind.

use crate::harness::http::{http_gate, ok, sections};
use crate::harness::{Origin, Shardgate, until};

const REQUESTS: u64 = 1000;

/// The sum over all cores of a line of `show activity`.
pub(crate) fn activity(gate: &Shardgate, name: &str) -> u64 {
    let text = gate.ask("show activity");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).expect("a line");
    value.split_whitespace().next().and_then(|sum| sum.parse().ok()).expect("a number")
}

/// Shared writes while `work` runs, which completes at least `completions` operations. What the cores publish of themselves is
/// late by up to a tick, so the last few may be missing: a bound holds, an exact number does not.
fn writes_of(gate: &Shardgate, completions: u64, work: impl FnOnce()) -> u64 {
    let (before, done) = (activity(gate, "shared_writes"), activity(gate, "completions"));
    work();
    until("the work is counted", || activity(gate, "completions") >= done + completions);
    activity(gate, "shared_writes") - before
}

/// Those of [`REQUESTS`] requests of one connection. A request takes four operations: received, sent to the server, received from
/// it, sent. When half of them are published, so are the writes of half of the requests.
fn requests(gate: &Shardgate) -> u64 {
    let mut client = gate.wire("fe");
    client.get("/");
    writes_of(gate, 2 * REQUESTS, || {
        for _ in 0..REQUESTS {
            client.get("/");
        }
    })
}

#[test]
fn a_request_writes_nothing_that_is_shared() {
    let origin = Origin::http(|_| ok("x"));
    let gate = Shardgate::with(&sections(
        &origin,
        "rules = [{ set-header = { name = \"X-A\", value = \"b\" } }]",
        "",
        "",
    ))
    .defaults("mode = \"http\"")
    .cores(2)
    .start();
    let writes = requests(&gate);
    assert!(writes < REQUESTS / 20, "{writes} shared writes in {REQUESTS} requests");
    gate.finish();
}

#[test]
fn what_is_limited_over_all_cores_is_written() {
    let origin = Origin::http(|_| ok("x"));
    for (backend, server) in [("", "maxconn = 50"), ("balance = \"leastconn\"", "")] {
        let gate = http_gate(&origin, "", backend, server);
        let writes = requests(&gate);
        // Into the level and out of it; half of that, because the last may not be counted yet.
        assert!(writes >= REQUESTS, "{writes} shared writes in {REQUESTS} requests with {backend}{server}");
        assert!(
            writes <= REQUESTS * 5 / 2,
            "{writes} shared writes in {REQUESTS} requests with {backend}{server}"
        );
        gate.finish();
    }
}

#[test]
fn a_connection_writes_to_the_levels_it_is_limited_by() {
    const CONNECTIONS: u64 = 200;
    let origin = Origin::http(|_| ok("x"));
    let gate = http_gate(&origin, "", "", "");
    let writes = writes_of(&gate, 4 * CONNECTIONS, || {
        for _ in 0..CONNECTIONS {
            gate.wire("fe").get("/");
        }
    });
    assert!(writes <= 8 * CONNECTIONS, "{writes} shared writes in {CONNECTIONS} connections");
    gate.finish();
}

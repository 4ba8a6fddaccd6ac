//! What outlives a reload and a restart: runtime changes as overrides, and the health of servers. The configuration wins over all
//! of it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::gate::Start;
use crate::harness::peers::{Peer, free_address};
use crate::harness::scenario::scenario;
use crate::harness::{Origin, Shardgate, eventually, until};

const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// With a state file in its directory.
fn with_state(body: &str) -> Start {
    Shardgate::with(body).global("state-file = \"@DIR@/state\"")
}

fn state_file(gate: &Shardgate) -> PathBuf {
    gate.dir().join("state")
}

fn read_state(gate: &Shardgate) -> Vec<u8> {
    std::fs::read(state_file(gate)).expect("it is written at the start")
}

/// Waits until something is on disk.
fn wait_state(gate: &Shardgate, text: &str) {
    until(&format!("{text} in the state file"), || String::from_utf8_lossy(&read_state(gate)).contains(text));
}

/// One server with these keywords, behind a frontend of TCP.
fn tcp(address: impl ToString, keywords: &str) -> String {
    format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be.server.s1]\naddress = \"{}\"\n{keywords}\n",
        address.to_string()
    )
}

#[test]
fn runtime_changes_outlive_restarts_and_are_listed_adopted_and_cleared() {
    let origin = Origin::echo();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = dir.path().display().to_string();
    std::fs::write(dir.path().join("names.map"), "/a first\n/b second\n").expect("writable");
    std::fs::write(dir.path().join("bad.acl"), "192.0.2.0/24\n").expect("writable");
    let rule = "rules = [{ return = { status = 200, content-type = \"text/plain\", lf-string = \
                \"%[path,map_str(@DIR@/names.map,none)]\" }, if = \"!{ src -f @DIR@/bad.acl }\" }]";
    let web = format!("[frontend.web]\nmode = \"http\"\nbind = \"127.0.0.1:0\"\nmaxconn = 100\n{rule}\n");
    let body = tcp(origin.address, "weight = 10\n") + &web.replace("@DIR@", &at);
    let mut gate = with_state(&body).global("maxconnrate = 2000").start();
    assert_eq!((gate.info("ConnRateLimit"), gate.info("SslRateLimit")), ("2000".into(), "0".into()));
    assert_eq!(gate.ask("show drift"), "Everything runs as configured.\n\n");
    for command in [
        "set weight be/s1 50",
        "set server be/s1 state drain",
        "set maxconn server be/s1 7",
        "set maxconn frontend web 60",
        "set rate-limit connections global 1000",
        "set rate-limit ssl-sessions global 77",
        &format!("set map {at}/names.map /a changed"),
        &format!("del map {at}/names.map /b"),
        &format!("add map {at}/names.map /c third one"),
        &format!("add acl {at}/bad.acl 198.51.100.0/24"),
    ] {
        assert_eq!(gate.ask(command), "\n", "{command}");
    }
    let drift = gate.ask("show drift");
    for line in [
        "be/s1 weight: 10 -> 50 by uid ",
        "be/s1 state: ready -> drain by uid ",
        "be/s1 maxconn: 0 -> 7 by uid ",
        "frontend web maxconn: 100 -> 60 by uid ",
        "global maxconnrate: 2000 -> 1000 by uid ",
        "global maxsslrate: 0 -> 77 by uid ",
        &format!("map {at}/names.map /a: first -> changed by uid "),
        &format!("map {at}/names.map /b: second -> (none) by uid "),
        &format!("map {at}/names.map /c: (none) -> third one by uid "),
        &format!("acl {at}/bad.acl 198.51.100.0/24: (none) ->"),
    ] {
        assert!(drift.lines().any(|l| l.starts_with(line)), "{line} in:\n{drift}");
    }
    wait_state(&gate, "198.51.100.0/24");
    // A death without notice, and an orderly end.
    for signal in ["KILL", "TERM"] {
        gate.restart(signal);
        assert_eq!(gate.ask("show drift"), drift, "after {signal}");
        assert_eq!(gate.ask("get weight be/s1"), "50 (initial 10)\n\n");
        assert_eq!((gate.stat("be/s1", "status"), gate.stat("be/s1", "slim")), ("DRAIN".into(), "7".into()));
        assert_eq!(gate.stat("web/FRONTEND", "slim"), "60");
        assert_eq!((gate.info("ConnRateLimit"), gate.info("SslRateLimit")), ("1000".into(), "77".into()));
        let get = |path: &str| gate.wire("web").get(path).text();
        assert_eq!(["/a", "/b", "/c"].map(get), ["changed", "none", "third one"]);
        assert!(gate.ask(&format!("show acl {at}/bad.acl")).contains("198.51.100.0/24"));
    }
    let adopt = gate.ask("adopt");
    for line in [
        "weight = 50  # instead of 10, ",
        "maxconn = 7  # new; by uid ",
        "maxconn = 60  # instead of 100, ",
        "maxconnrate = 1000  # instead of 2000, ",
    ] {
        assert!(adopt.lines().any(|l| l.starts_with(line)), "{line} in:\n{adopt}");
    }
    assert!(adopt.parse::<toml::Table>().is_ok(), "it can be pasted: {adopt}");
    let map_lines = format!("#- /a first\n#+ /a changed\n# {at}/names.map");
    assert!(adopt.contains("[backend.be.server.s1]  # ") && adopt.contains(&map_lines), "{adopt}");
    assert_eq!(gate.ask("clear overrides be/s1"), "3 overrides cleared.\n\n");
    assert_eq!(gate.ask("get weight be/s1"), "10 (initial 10)\n\n");
    assert_eq!(gate.stat("be/s1", "status"), "no check");
    assert!(gate.ask("clear overrides be/s1").contains("There is no override of be/s1"));
    gate.ask("clear overrides");
    assert_eq!(gate.wire("web").get("/b").text(), "second");
    assert_eq!(gate.ask("show drift"), "Everything runs as configured.\n\n");
    gate.restart("TERM");
    assert_eq!(gate.ask("show drift"), "Everything runs as configured.\n\n");
    gate.finish();
}

#[test]
fn what_was_adopted_is_no_override_any_more_and_what_was_changed_otherwise_is_dropped() {
    let origin = Origin::echo();
    let body =
        |weight: u32, maxconn: u32| tcp(origin.address, &format!("weight = {weight}\nmaxconn = {maxconn}\n"));
    let mut gate = with_state(&body(10, 5)).start();
    gate.ask("set weight be/s1 50");
    gate.ask("set maxconn server be/s1 7");
    // As adopt says, and as it does not.
    gate.reload(&body(50, 8));
    gate.wait_log("override of be/s1 weight adopted: the configuration says 50 now");
    gate.wait_log("override of be/s1 maxconn dropped: 7 by uid ");
    assert_eq!(gate.ask("show drift"), "Everything runs as configured.\n\n");
    assert_eq!((gate.stat("be/s1", "weight"), gate.stat("be/s1", "slim")), ("50".into(), "8".into()));
    // A server that is gone takes what was changed along.
    gate.ask("set weight be/s1 60");
    gate.reload(&body(50, 8).replace("server.s1", "server.s2"));
    gate.wait_log("the configuration has no such object any more");
    gate.reload(&body(50, 8));
    assert_eq!(gate.stat("be/s1", "weight"), "50");
    gate.finish();
}

#[test]
fn a_change_for_a_time_ends_by_itself_whoever_runs_then() {
    let origin = Origin::echo();
    let mut gate = with_state(&tcp(origin.address, "weight = 10")).start();
    assert!(gate.ask("for 1h show info").starts_with("Only a runtime change"));
    assert!(gate.ask("for never set weight be/s1 1").starts_with("'for' expects a duration"));
    gate.ask("for 1h set server be/s1 state maint");
    gate.ask("for 2s set weight be/s1 50");
    assert!(gate.ask("show drift").contains(" until "));
    wait_state(&gate, "weight");
    gate.restart("TERM");
    gate.wait_log("override of be/s1 weight ended (its time is over): 10 as configured");
    assert_eq!(gate.ask("get weight be/s1"), "10 (initial 10)\n\n");
    assert_eq!(gate.stat("be/s1", "status"), "MAINT", "an hour is not over");
    gate.finish();
}

/// A balancer that remembers the port of a server beyond a change of its configuration sends PROXY headers to a port that knows none.
#[test]
fn a_changed_port_wins_over_everything_that_was_remembered() {
    let (old, new) = (Origin::recorder(), Origin::recorder());
    let checked = "check = true\ninter = \"100ms\"\nfall = 1";
    let mut gate = with_state(&tcp(old.address, checked)).start();
    until("a check", || gate.stat("be/s1", "check_status") == "L4OK");
    let spare = free_address();
    // The old state: an address by hand, a weight, and a server that is down.
    gate.ask(&format!("set server be/s1 addr {} port {}", spare.ip(), spare.port()));
    gate.ask("set weight be/s1 7");
    gate.wait_stat("be/s1", "check_status", "L4CON");
    wait_state(&gate, &spare.port().to_string());
    gate.rewrite(&tcp(new.address, &format!("{checked}\nsend-proxy-v2 = true")));
    gate.restart("TERM");
    gate.wait_log(&format!("override of be/s1 addr dropped: {spare} by uid "));
    assert!(
        gate.stat("be/s1", "status").starts_with("UP"),
        "what is known of another port says nothing of this one"
    );
    assert_eq!(gate.ask("get weight be/s1"), "7 (initial 1)\n\n", "this was not changed in the file");
    let shown = gate.ask("show server be/s1");
    let line = |start: &str| shown.lines().find(|l| l.starts_with(start)).unwrap_or_default().to_owned();
    let (address, proxy) = (line("address"), line("send-proxy-v2"));
    assert!(address.contains(&new.address.to_string()) && address.contains("shardgate.toml:"), "{shown}");
    assert!(proxy.contains("true") && proxy.contains("shardgate.toml:"), "{shown}");
    assert!(line("weight").contains("override: 1 -> 7 by uid "), "{shown}");
    let before = old.accepted();
    let mut client = gate.connect("fe");
    client.write_all(b"hello").expect("accepted");
    drop(client);
    until("the new port to be spoken to", || new.notes().iter().any(|note| note.ends_with(b"hello")));
    let note = new.notes().into_iter().find(|note| note.ends_with(b"hello")).expect("seen above");
    assert!(note.starts_with(PROXY_V2));
    assert_eq!(old.accepted(), before, "nobody speaks to the old port");
    gate.finish();
}

#[test]
fn a_server_that_was_down_is_down_after_a_restart_until_its_check_passes() {
    let origin = Origin::echo();
    let dead = free_address();
    let two = |address: String| {
        tcp(origin.address, "check = true\ninter = \"500ms\"")
            + &format!(
                "[backend.be.server.s2]\naddress = \"{address}\"\ncheck = true\ninter = \"500ms\"\nfastinter = \"50ms\"\ndowninter = \"100ms\"\n"
            )
    };
    let mut gate = with_state(&two(dead.to_string())).start();
    until("a check", || {
        gate.stat("be/s2", "status") == "DOWN" && gate.stat("be/s1", "check_status") == "L4OK"
    });
    // A process that is killed knows what it had written by then.
    wait_state(&gate, "\"server\":\"s2\"");
    for signal in ["KILL", "TERM"] {
        let ups = gate.log().matches("be/s2 is UP").count();
        gate.restart(signal);
        gate.wait_log("be/s2 is as before the restart, until its check says otherwise");
        assert_eq!(gate.stat("be/s2", "status"), "DOWN", "after {signal}");
        assert!(gate.stat("be/s1", "status").starts_with("UP"));
        assert_eq!(gate.log().matches("be/s2 is UP").count(), ups);
    }
    let _back = Origin::at(dead, |stream, shared| {
        shared.hold();
        drop(stream);
    });
    gate.wait_stat("be/s2", "status", "UP");
    gate.finish();
}

#[test]
fn a_torn_state_file_costs_the_torn_record_alone() {
    let origin = Origin::echo();
    let mut gate = with_state(&tcp(origin.address, "weight = 10\nmaxconn = 5")).start();
    gate.ask("set weight be/s1 50");
    gate.ask("set maxconn server be/s1 7");
    wait_state(&gate, "maxconn");
    // Each byte offset is a unit test; here the process starts with some.
    let whole = read_state(&gate);
    let lines: Vec<usize> =
        whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
    assert_eq!(lines.len(), 3, "a header and two records");
    for (cut, left) in [
        (0, 0),
        (7, 0),
        (lines[0], 0),
        (lines[0] + 3, 0),
        (lines[1] - 1, 0),
        (lines[1], 1),
        (whole.len() - 2, 1),
    ] {
        gate.signal("KILL");
        std::fs::write(state_file(&gate), &whole[..cut]).expect("writable");
        let warnings = gate.log().matches("count for nothing").count();
        gate.restart("KILL");
        let drift = gate.ask("show drift");
        assert_eq!(drift.matches(" -> ").count(), left, "cut at {cut}: {drift}");
        let is_torn = cut > 0 && !lines.contains(&cut);
        assert_eq!(gate.log().matches("count for nothing").count() > warnings, is_torn, "cut at {cut}");
    }
    gate.finish();
}

#[test]
fn the_state_file_itself_can_be_changed_by_a_reload() {
    let origin = Origin::echo();
    let body = tcp(origin.address, "weight = 10");
    // The sandbox would say no before the file system does.
    let mut gate = Shardgate::with(&body).global("sandbox = false").start();
    gate.ask("set weight be/s1 50");
    let write = |path: &str| {
        let line = format!("[global]\nstate-file = \"{path}\"\n");
        move |text: String| text.replacen("[global]\n", &line, 1)
    };
    let why = gate.edit(write("/nowhere/at/all")).expect_err("nothing can be written there");
    assert!(why.contains("cannot write the state file /nowhere/at/all"), "{why}");
    let path = state_file(&gate).display().to_string();
    gate.edit(|text| text.replace("/nowhere/at/all", &path)).expect("it can be written");
    wait_state(&gate, "weight");
    gate.restart("KILL");
    assert_eq!(gate.stat("be/s1", "weight"), "50");
    gate.finish();
}

#[test]
fn the_page_about_runtime_changes_shows_what_happens() {
    let (first, second) = (Origin::echo(), Origin::echo());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("state").display().to_string();
    let replacements = [
        ("/var/lib/shardgate/state", path.as_str()),
        ("*:443", "127.0.0.1:0"),
        ("192.0.2.41:1443", &first.address.to_string()),
        ("192.0.2.42:1443", &second.address.to_string()),
    ];
    let gate = scenario("runtime-changes", &replacements).start();
    until("checks", || gate.stat("pages/web2", "check_status") == "L4OK");
    let answer = gate.ask("set weight pages/web1 50; for 30m set server pages/web2 state drain; show drift");
    let lines: Vec<&str> = answer.lines().filter(|line| !line.is_empty()).collect();
    assert!(
        lines[0].starts_with("pages/web1 weight: 10 -> 50 by uid ") && !lines[0].contains(" until "),
        "{answer}"
    );
    assert!(
        lines[1].starts_with("pages/web2 state: ready -> drain by uid ") && lines[1].contains(" until "),
        "{answer}"
    );
    let shown = gate.ask("show server pages/web1");
    for (value, from) in [
        ("# value", "from"),
        ("weight               50", "override: 10 -> 50 by uid "),
        ("maxconn              (no limit)", "default"),
        ("state                ready", "default"),
        ("status               UP", "checks, last: Layer4 check passed"),
        ("check                true", "(backend.pages.default-server)"),
    ] {
        assert!(
            shown.lines().any(|l| l.starts_with(value) && l.contains(from)),
            "{value}, {from} in:\n{shown}"
        );
    }
    gate.finish();
}

#[test]
fn the_address_of_a_name_is_the_resolvers_until_somebody_sets_another() {
    let origin = Origin::named("one");
    let gate = with_state(&tcp(format!("localhost:{}", origin.address.port()), "")).start();
    let from = || {
        let shown = gate.ask("show server be/s1");
        shown.lines().find(|line| line.starts_with("address")).expect("it has one").to_owned()
    };
    until("the name to be resolved", || from().contains(&origin.address.to_string()));
    assert!(from().contains("DNS: localhost; ") && from().contains("shardgate.toml:"), "{}", from());
    gate.ask("set server be/s1 addr 192.0.2.1 port 81");
    assert!(from().contains("192.0.2.1:81") && from().contains("override: localhost:"), "{}", from());
    gate.ask("clear overrides be/s1");
    assert!(
        from().contains(&origin.address.to_string()),
        "what is known of the name counts again: {}",
        from()
    );
    let mut greeting = [0; 3];
    std::io::Read::read_exact(&mut gate.connect("fe"), &mut greeting).expect("the server greets");
    assert_eq!(&greeting, b"one");
    gate.finish();
}

#[test]
fn whatever_is_changed_at_run_time_is_an_override() {
    let origin = Origin::echo();
    let dead = free_address().port();
    let keywords = format!(
        "check = true\ninter = \"50ms\"\nagent-check = true\nagent-inter = \"50ms\"\nagent-port = {dead}\nagent-send = \"one\\n\""
    );
    let named = format!("[backend.be.server.s2]\naddress = \"localhost:{}\"\n", origin.address.port());
    let vip = "[vip.web]\naddresses = \"192.0.2.10/24\"\ninterface = \"lo\"\nvirtual-router-id = 51\npriority = 150\n";
    let body = |keywords: &str| tcp(origin.address, keywords) + &named + vip;
    let mut gate = with_state(&body(&keywords)).start();
    for command in [
        "disable frontend fe",
        "disable health be/s1",
        "set server be/s1 check-addr 127.0.0.2 port 7",
        "disable agent be/s1",
        "set server be/s1 agent-addr 127.0.0.3 port 8",
        "set server be/s1 agent-send two\\\\n",
        "set vip web state drain",
        "set server be/s2 addr 192.0.2.1 port 80",
    ] {
        assert_eq!(
            gate.ask(command).lines().filter(|line| line.contains(' ')).count(),
            usize::from(command.contains("s2")),
            "{command}"
        );
    }
    // Who gives a server another name wants the address of that name.
    gate.ask("set server be/s2 fqdn localhost.");
    let drift = gate.ask("show drift");
    let port = origin.address.port();
    for line in [
        "be/s1 health: enabled -> disabled by uid ",
        "be/s1 check-addr: of the server -> 127.0.0.2 by uid ",
        "be/s1 check-port: of the server -> 7 by uid ",
        "be/s1 agent: enabled -> disabled by uid ",
        "be/s1 agent-addr: of the server -> 127.0.0.3 by uid ",
        &format!("be/s1 agent-port: {dead} -> 8 by uid "),
        "be/s1 agent-send: one\\n -> two\\n by uid ",
        &format!("be/s2 fqdn: localhost:{port} -> localhost.:{port} by uid "),
        "frontend fe state: enabled -> disabled by uid ",
        "vip web state: ready -> drain by uid ",
    ] {
        assert!(drift.lines().any(|l| l.starts_with(line)), "{line} in:\n{drift}");
    }
    assert!(!drift.contains("be/s2 addr"), "{drift}");
    let shown = gate.ask("show server be/s1");
    let line = shown.lines().find(|l| l.starts_with("agent-port")).unwrap_or_default();
    assert!(
        line.contains(" 8 ") && line.contains("override: ") && line.contains("shardgate.toml:"),
        "{shown}"
    );
    wait_state(&gate, "agent-send");
    wait_state(&gate, "frontend-state");
    let state = |gate: &Shardgate| {
        let text = gate.ask("show servers state be");
        let row = text.lines().find(|l| l.contains(" s1 ")).expect("it is there").to_owned();
        let fields: Vec<String> = row.split(' ').map(str::to_owned).collect();
        // What is checked and asked, and where.
        [13, 14, 21, 22, 23, 24].map(|at| fields[at].clone())
    };
    let there = ["2", "18", "7", "127.0.0.2", "127.0.0.3", "8"].map(str::to_owned);
    assert_eq!(state(&gate), there);
    gate.restart("KILL");
    assert_eq!((gate.ask("show drift"), state(&gate)), (drift, there), "after a restart");
    assert_eq!(gate.stat("fe/FRONTEND", "status"), "PAUSED");
    assert!(gate.ask("show vip").contains(" drain "), "{}", gate.ask("show vip"));
    // A reload that says something else of the agent takes that, and nothing else.
    gate.reload(&body(&keywords.replace(&dead.to_string(), "9")));
    gate.wait_log("override of be/s1 agent-port dropped: 8 by uid ");
    assert_eq!(state(&gate), ["2", "18", "7", "127.0.0.2", "127.0.0.3", "9"].map(str::to_owned));
    assert!(
        gate.ask("adopt be/s1").contains("addr = \"127.0.0.2\"  # new; by uid "),
        "{}",
        gate.ask("adopt be/s1")
    );
    gate.ask("clear overrides");
    assert_eq!(state(&gate), ["6", "22", "0", "-", "-", "9"].map(str::to_owned));
    assert_eq!(gate.stat("fe/FRONTEND", "status"), "OPEN");
    assert!(gate.ask("show vip").contains(" ready "), "{}", gate.ask("show vip"));
    gate.reload(&body("weight = 1"));
    gate.reload(&body(&keywords));
    assert_eq!(gate.ask("show drift"), "Everything runs as configured.\n\n");
    gate.finish();
}

/// A machine whose name server never answers.
const NO_NAMES: &str = "ip link set lo up && ip link add mute type veth peer name end && ip link set mute up && \
                        ip link set end up && ip addr add 192.0.2.2/24 dev mute && \
                        ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev mute && mount -t tmpfs tmpfs /mnt && \
                        echo nameserver 192.0.2.1 > /mnt/names && mount --bind /mnt/names /etc/resolv.conf && exec \"$@\"";

#[test]
fn what_is_changed_while_the_start_waits_for_names_is_remembered() {
    let server = free_address();
    let named = "[backend.be.server.s2]\naddress = \"name.example:80\"\n";
    let start = with_state(&(tcp(server, "weight = 10\n") + named));
    let mut gate = start.through(&["unshare", "--net", "--mount", "sh", "-c", NO_NAMES, "sh"]).start();
    gate.ask("set weight be/s1 50");
    wait_state(&gate, "weight");
    gate.wait_log("ready: ");
    let log = gate.log();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text} in:\n{log}"));
    assert!(at("set weight be/s1 50") < at("ready: "), "names were waited for:\n{log}");
    assert_eq!(gate.stat("be/s1", "weight"), "50");
    gate.restart("KILL");
    assert_eq!(gate.stat("be/s1", "weight"), "50");
}

#[test]
fn what_an_agent_said_of_the_health_is_known_after_a_restart() {
    let origin = Origin::echo();
    let agent = Origin::new(|mut stream, _| drop(stream.write_all(b"down\n")));
    let keywords =
        format!("agent-check = true\nagent-inter = \"50ms\"\nagent-port = {}", agent.address.port());
    let mut gate = with_state(&tcp(origin.address, &keywords)).start();
    gate.wait_stat("be/s1", "status", "DOWN (agent)");
    // Nobody says so again.
    drop(agent);
    gate.restart("TERM");
    gate.wait_log("be/s1 is as before the restart");
    assert_eq!(gate.stat("be/s1", "status"), "DOWN (agent)");
    gate.ask("set server be/s1 agent up");
    assert_eq!(gate.stat("be/s1", "status"), "no check");
    gate.finish();
}

#[test]
fn a_death_at_any_moment_of_writing_leaves_what_was_set_before() {
    let origin = Origin::echo();
    let mut gate = with_state(&tcp(origin.address, "maxconn = 5")).start();
    let (mut known, mut next) = (5, 100);
    for round in 0..12_usize {
        let (socket, sent) = (gate.dir().join("admin.sock"), Arc::new(AtomicUsize::new(next)));
        let last = sent.clone();
        // Sets one value after another until nobody answers any more.
        let operator = std::thread::spawn(move || -> std::io::Result<()> {
            loop {
                let mut stream = UnixStream::connect(&socket)?;
                let value = last.fetch_add(1, Ordering::AcqRel) + 1;
                stream.write_all(format!("set maxconn server be/s1 {value}\n").as_bytes())?;
                stream.read_to_string(&mut String::new())?;
            }
        });
        // Far enough that the file is written anew in some rounds.
        let goal = next + 1 + round * 17;
        until("changes", || sent.load(Ordering::Acquire) >= goal);
        gate.signal("KILL");
        // It ends with an error, as the process does.
        let _ = operator.join().expect("it does not panic");
        gate.restart("KILL");
        let value: usize = gate.stat("be/s1", "slim").parse().expect("a number");
        let sent = sent.load(Ordering::Acquire);
        // At least what the process before had started with, at most what was said last, and nothing that nobody said.
        assert!(
            value >= known && value <= sent && (value == 5 || value > 100),
            "{value} of {known}..={sent}"
        );
        assert_eq!(
            gate.ask("show drift").lines().filter(|line| line.contains(" -> ")).count(),
            usize::from(value != 5)
        );
        (known, next) = (value, sent);
    }
    gate.finish();
}

/// Rows of `show servers state` by server, without what differs from run to run: ids of backends and the time.
fn rows(socket: &Path, backend: &str) -> BTreeMap<String, Vec<String>> {
    let text = ask(socket, "show servers state");
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.split(' ').nth(1) == Some(backend)) {
        let mut fields: Vec<String> = line.split(' ').map(str::to_owned).collect();
        (fields[0], fields[9]) = (String::new(), String::new());
        if fields[17] != "-" {
            // Which of its addresses a name gives is each resolver's choice.
            fields[4].clear();
        }
        if fields[6] == "1" {
            // A check that was under way when it was put out of service may still have counted.
            fields[12].clear();
        }
        rows.insert(fields[3].clone(), fields);
    }
    rows
}

/// Whether a check or an agent's check is under way, which shows in the state and, as HAProxy forgets it first, in the result.
fn is_checked(row: &[String]) -> bool {
    [13, 14].iter().any(|&bits| row[bits].parse::<u32>().expect("a number") & 1 == 1)
}

fn ask(socket: &Path, command: &str) -> String {
    let mut stream = eventually("the admin socket", || UnixStream::connect(socket).ok());
    stream.write_all(format!("{command}\n").as_bytes()).expect("accepted");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn the_state_of_servers_is_what_haproxy_says() {
    let (origin, dead) = (Origin::echo(), free_address());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (at, port) = (origin.address, dead.port());
    let sections = |name: &str| {
        format!(
            "global\n stats socket {}/{name} level admin\nfrontend f\n mode tcp\n bind @ADDRESS@\n default_backend b\nbackend b\n mode tcp\n \
             server up {at} weight 10 check inter 100ms rise 1 fall 1\n server dead {dead} check inter 100ms rise 1 fall 1\n \
             server plain {at}\n server off {at} disabled check inter 100ms\n server drained {at} check inter 100ms\n \
             server maint {at} check inter 100ms\n server quiet {at} check inter 100ms\n \
             server agent {at} agent-check agent-port {port} agent-inter 100ms\n \
             server mute {at} agent-check agent-port {port} agent-inter 100ms agent-addr 127.0.0.2\n \
             server name localhost:{}\n server slow {at} check inter 100ms rise 1 fall 1 slowstart 1h\n \
             server away {at} agent-check agent-port {port} agent-inter 100ms\n server follower {at} track b/maint\n",
            dir.path().display(),
            at.port()
        )
    };
    let (theirs, ours) = (Peer::haproxy(&sections("theirs")), Peer::in_haproxys_place(&sections("ours")));
    let sockets = ["theirs", "ours"].map(|name| dir.path().join(name));
    let field = |socket: &Path, server: &str, at: usize| rows(socket, "b")[server][at].clone();
    for socket in &sockets {
        // Checks were made: all know what they think of the servers.
        for server in ["up", "drained", "maint", "quiet", "slow"] {
            until(server, || field(socket, server, 10) == "6");
        }
        until("dead", || field(socket, "dead", 5) == "0");
        until("the name", || field(socket, "name", 5) == "2");
        for command in [
            "set server b/drained state drain",
            "set server b/maint state maint",
            "disable health b/quiet",
            "disable agent b/mute",
            "set server b/up weight 5",
            "set server b/slow health down",
            "set server b/away state maint",
        ] {
            ask(socket, command);
        }
        until("slow start", || field(socket, "slow", 5) == "1");
    }
    let [theirs_say, ours_say] = sockets.each_ref().map(|socket| {
        eventually("a moment between checks", || {
            Some(rows(socket, "b")).filter(|rows| !rows.values().any(|row| is_checked(row)))
        })
    });
    assert_eq!(ours_say, theirs_say);
    let header = |socket: &Path| {
        ask(socket, "show servers state").lines().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(header(&sockets[1]), header(&sockets[0]));
    drop((theirs, ours));
}

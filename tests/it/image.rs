//! What the bootable image brings along, as far as it can be proved without booting it; `appliance/smoke` boots it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::http::Wire;
use crate::harness::{Origin, Shardgate, gate, until};

const FIRST_BOOT: &str = "appliance/image/root/usr/share/shardgate/first-boot.toml";
const CONSOLE: &str = "appliance/image/root/usr/lib/shardgate/console";

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// What the console shows of the process behind this socket.
fn console(socket: &Path) -> String {
    let directory = Path::new(&gate::binary()).parent().expect("it is in a directory").to_owned();
    let search = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.arg(path(CONSOLE)).arg("--once").env("PATH", search).env("SHARDGATE_SOCKET", socket);
    let output = command.output().expect("bash runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The first-boot configuration with sockets of the test in place of the machine's ports.
fn first_boot() -> Shardgate {
    let mut text = read(FIRST_BOOT);
    for (from, to) in [
        ("\"*:80\"", "\"127.0.0.1:0\""),
        ("\"*:8404\"", "\"127.0.0.1:0\""),
        ("\"127.0.0.1:8081\"", "\"@DIR@/alpha.sock\""),
        ("\"127.0.0.1:8082\"", "\"@DIR@/beta.sock\""),
        ("\"127.0.0.1:8083\"", "\"@DIR@/gamma.sock\""),
    ] {
        assert!(text.contains(from), "{FIRST_BOOT}: nothing to replace for {from}");
        text = text.replace(from, to);
    }
    let (_, after) = text.split_once("[defaults]\n").expect("it has defaults");
    let (defaults, body) = after.split_at(after.find("\n[").expect("sections follow the defaults"));
    // The harness has timeouts of its own.
    let mode = defaults.lines().find(|line| line.starts_with("mode")).expect("it sets the mode");
    // Its idle connections to itself end soon.
    Shardgate::with(body).defaults(mode).defaults("timeout.http-keep-alive = \"500ms\"").start()
}

#[test]
fn the_first_boot_configuration_balances_over_servers_of_its_own() {
    let gate = first_boot();
    let mut client = gate.wire("web");
    let names: BTreeSet<String> = (0..6).map(|_| client.get("/").text()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.iter().all(|text| text.contains("saw client 127.0.0.1.")), "{names:?}");
    let mut statistics: Wire = gate.wire("statistics");
    assert!(statistics.get("/").text().contains("gamma"), "the page lists the servers");
    assert!(statistics.get("/metrics").text().contains("shardgate_"), "metrics are there too");
    drop((client, statistics));
    gate.finish();
}

#[test]
fn the_console_names_servers_that_do_not_serve() {
    let origin = Origin::http_named("web");
    let address = origin.address;
    let gate = Shardgate::start(&format!(
        "[frontend.fe]\nmode = \"http\"\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\nmode = \"http\"\n\
         default-server = {{ check = true, inter = \"1s\" }}\nserver.good = {{ address = \"{address}\" }}\n\
         server.gone = {{ address = \"127.0.0.1:1\", fall = 1 }}\n"
    ));
    gate.wait_stat("be/gone", "status", "DOWN");
    let socket = gate.dir().join("admin.sock");
    until("the good server is up", || console(&socket).contains("servers:   1 of 2 up"));
    let text = console(&socket);
    assert!(text.contains("health:    serving: version "), "{text}");
    assert!(text.contains("be/gone DOWN"), "{text}");
    assert!(!text.contains("be/good"), "{text}");
    gate.finish();
}

#[test]
fn the_console_tells_the_role_in_a_pair() {
    let origin = Origin::echo();
    let body = gate::relay(origin.address, "");
    let vip = "[vip.web]\naddresses = \"192.0.2.10/24\"\ninterface = \"lo\"\nvirtual-router-id = 1\n";
    for (more, before, after) in [
        ("", "role:      single (shardgate.toml has no [vip.NAME])\n", ""),
        (vip, "role:      web=-\n", "role:      web=MASTER\n"),
    ] {
        let gate = Shardgate::start(&format!("{body}{more}"));
        let socket = gate.dir().join("admin.sock");
        let text = console(&socket);
        assert!(text.contains(before), "{text}");
        if !after.is_empty() {
            gate.ask("set vip web role MASTER");
            let text = console(&socket);
            assert!(text.contains(after), "{text}");
        }
        gate.finish();
    }
}

/// What a pair needs beside Shardgate runs from the partition, as docs/appliance.md has it.
#[test]
fn units_of_a_pair_are_on_and_wait_for_their_files() {
    let finish = read("appliance/image/finish");
    let (_, enabled) =
        finish.split_once("systemctl --root=\"$root\" --quiet enable").expect("it enables units");
    let (enabled, _) = enabled.split_once("systemctl").expect("it masks others");
    for (unit, file) in [
        ("keepalived", "keepalived.conf"),
        ("bird", "bird.conf"),
        ("nftables", "nftables.conf"),
        ("shardgate-vip", "keepalived.conf"),
    ] {
        assert!(enabled.contains(&format!(" {unit}.service")), "{unit} is not enabled");
        let condition = read(&format!("appliance/image/root/etc/systemd/system/{unit}.service.d/image.conf"));
        let path = format!("/etc/shardgate/{file}\n");
        let waits = condition
            .lines()
            .any(|line| line.starts_with("ConditionPathExists=") && format!("{line}\n").ends_with(&path));
        assert!(waits, "{unit} does not wait for {file}");
    }
    assert!(enabled.contains(" shardgate-sync.timer"), "the timer is not enabled");
    let condition = read("appliance/image/root/etc/systemd/system/shardgate-sync.timer.d/image.conf");
    assert!(condition.contains("\nConditionPathExists=/etc/shardgate/sync.conf\n"), "{condition}");
    for (from, to) in [("keepalived", "keepalived/keepalived.conf"), ("bird", "bird/bird.conf")] {
        assert!(finish.contains(&format!("ln -sf /etc/shardgate/{from}.conf \"$root/etc/{to}\"")), "{to}");
    }
}

#[test]
fn the_console_says_when_nothing_serves() {
    let text = console(Path::new("/nonexistent"));
    assert!(text.contains("NOT SERVING"), "{text}");
}

#[test]
fn every_package_of_the_image_is_pinned() {
    let pin = read("appliance/image/packages.pin");
    let pinned: BTreeSet<&str> = pin.lines().filter_map(|line| line.split(' ').next()).collect();
    let list = read("appliance/image/packages.list");
    let wanted: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(wanted.len() > 20, "the list is read");
    for package in wanted {
        assert!(pinned.contains(package), "{package} is not in packages.pin: run appliance/build --refresh");
    }
}

#[test]
fn scripts_of_the_image_are_well_formed() {
    for script in [
        "appliance/build",
        CONSOLE,
        "appliance/image/root/usr/lib/shardgate/config",
        "appliance/image/root/usr/sbin/shardgate-image",
        "appliance/image/finish",
    ] {
        let output = Command::new("bash").arg("-n").arg(path(script)).output().expect("bash runs");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

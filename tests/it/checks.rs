//! Health checks: what they see, how soon, and what follows.

use std::io::{Read, Write};
use std::net::SocketAddr;

use crate::harness::peers::Peer;
use crate::harness::{Origin, Shardgate, until};

const FAST: &str = "check = true\ninter = \"50ms\"\nrise = 2\nfall = 2";

fn one_server(address: SocketAddr, keywords: &str, backend: &str) -> String {
    format!(
        "\n[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\n{backend}\n[backend.be.server.s1]\naddress = \"{address}\"\n{keywords}\n"
    )
}

#[test]
fn a_server_that_goes_is_down_and_one_that_comes_back_is_up() {
    let origin = Origin::echo();
    let address = origin.address;
    let gate = Shardgate::start(&one_server(address, FAST, ""));
    gate.wait_stat("be/s1", "check_status", "L4OK");
    gate.wait_stat("be/s1", "status", "UP");
    drop(origin);
    gate.wait_stat("be/s1", "status", "DOWN");
    assert_eq!(gate.stat("be/s1", "check_status"), "L4CON");
    assert_eq!(gate.stat("be/BACKEND", "status"), "DOWN");
    assert!(gate.count("be/s1", "chkfail") >= 1);
    assert_eq!(gate.count("be/s1", "chkdown"), 1);
    gate.wait_log("DOWN");
    let mut client = gate.connect("fe");
    assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0, "no server: it ends");
    drop(client);
    let back = Origin::at(address, |stream, _| crate::harness::origin::echo(stream));
    gate.wait_stat("be/s1", "status", "UP");
    gate.wait_log("UP");
    let mut client = gate.connect("fe");
    client.write_all(b"x").expect("the proxy takes it");
    client.read_exact(&mut [0; 1]).expect("served again");
    drop((client, back));
    gate.finish();
}

#[test]
fn redis_is_asked_for_its_health() {
    let redis = Peer::redis();
    let address = redis.address;
    let dialogue = r#"tcp-check = [{ send = "PING\r\n" }, { expect-string = "+PONG" }, { send = "info replication\r\n" }, { expect-regex = "role:(master|slave)" }]"#;
    let gate = Shardgate::start(&one_server(address, FAST, dialogue));
    gate.wait_stat("be/s1", "check_status", "L7OK");
    gate.wait_stat("be/s1", "status", "UP");
    drop(redis);
    gate.wait_stat("be/s1", "status", "DOWN");
    let redis = Peer::redis_at(address);
    gate.wait_stat("be/s1", "status", "UP");
    drop(redis);
    gate.finish();
}

#[test]
fn a_dialogue_that_goes_wrong_is_a_failed_check() {
    // (what the server says, the steps, what the check says)
    let cases: [(&'static str, &str, &str); 3] = [
        ("-ERR loading\r\n", r#"[{ expect-string = "+OK" }]"#, "L7TOUT"),
        ("+OK READONLY\r\n", r#"[{ not-expect-string = "READONLY" }, { expect-string = "never" }]"#, "L7RSP"),
        ("bye", r#"[{ expect-binary = "00 01" }]"#, "L7RSP"),
    ];
    for (says, steps, status) in cases {
        let closes = says == "bye";
        let origin = Origin::new(move |mut stream, _| {
            let _ = stream.write_all(says.as_bytes());
            if !closes {
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        let backend = format!("timeout.check = \"100ms\"\ntcp-check = {steps}");
        let gate = Shardgate::start(&one_server(origin.address, FAST, &backend));
        gate.wait_stat("be/s1", "status", "DOWN");
        assert_eq!(gate.stat("be/s1", "check_status"), status, "{says}");
        gate.finish();
    }
}

#[test]
fn a_check_that_hangs_times_out() {
    let hole = crate::harness::origin::Blackhole::new();
    let gate = Shardgate::with(&one_server(hole.address, FAST, "timeout.check = \"100ms\""))
        .defaults("timeout.connect = \"100ms\"")
        .start();
    gate.wait_stat("be/s1", "status", "DOWN");
    // An asterisk says that the next one runs already.
    assert_eq!(gate.stat("be/s1", "check_status").trim_start_matches("* "), "L4TOUT");
    gate.finish();
}

#[test]
fn servers_with_the_same_address_and_check_share_one_probe() {
    let origin = Origin::echo();
    let server = format!("address = \"{}\"\ncheck = true\ninter = \"1h\"\n", origin.address);
    let mut body = String::from("[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"b0\"\n");
    for n in 0..5 {
        body.push_str(&format!("[backend.b{n}.server.s1]\n{server}"));
    }
    let gate = Shardgate::start(&body);
    for n in 0..5 {
        gate.wait_stat(&format!("b{n}/s1"), "check_status", "L4OK");
    }
    assert_eq!(origin.accepted(), 1, "five servers, one target, one probe");
    gate.finish();
}

#[test]
fn another_port_can_answer_for_the_server() {
    let traffic = Origin::echo();
    let health = Origin::echo();
    let keywords = format!("{FAST}\nport = {}", health.address.port());
    let gate = Shardgate::start(&one_server(traffic.address, &keywords, ""));
    gate.wait_stat("be/s1", "check_status", "L4OK");
    until("a few checks", || health.accepted() > 3);
    assert_eq!(traffic.accepted(), 0);
    drop(health);
    gate.wait_stat("be/s1", "status", "DOWN");
    drop(traffic);
    gate.finish();
}

#[test]
fn checks_of_a_server_with_proxy_header_say_local() {
    let origin = Origin::recorder();
    let keywords = format!("{FAST}\nsend-proxy-v2 = true");
    let gate = Shardgate::start(&one_server(origin.address, &keywords, ""));
    let note = origin.wait_for_notes(1)[0].clone();
    assert!(
        note.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x20"),
        "version 2, command LOCAL: {}",
        note.escape_ascii()
    );
    gate.finish();
}

#[test]
fn on_marked_down_ends_the_sessions_of_the_server() {
    let health = Origin::echo();
    let traffic = Origin::echo();
    let keywords =
        format!("{FAST}\nport = {}\non-marked-down = \"shutdown-sessions\"", health.address.port());
    let gate = Shardgate::start(&one_server(traffic.address, &keywords, ""));
    gate.wait_stat("be/s1", "check_status", "L4OK");
    let mut clients: Vec<_> = (0..6).map(|_| gate.connect("fe")).collect();
    for client in &mut clients {
        client.write_all(b"x").expect("the proxy takes it");
        client.read_exact(&mut [0; 1]).expect("served");
    }
    drop(health);
    for client in &mut clients {
        assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0, "its session ends");
    }
    drop(clients);
    gate.finish();
}

#[test]
fn on_marked_up_ends_the_sessions_of_backups() {
    let (main, backup) = (Origin::named("main"), Origin::named("back"));
    let keywords = "disabled = true\non-marked-up = \"shutdown-backup-sessions\"";
    for (keywords, weight, ends) in
        [(keywords, "weight = 1", true), (keywords, "weight = 0", false), ("disabled = true", "", false)]
    {
        let backups = format!("server.b1 = {{ address = \"{}\", backup = true }}", backup.address);
        let gate = Shardgate::start(&one_server(main.address, &format!("{keywords}\n{weight}"), &backups));
        let mut clients: Vec<_> = (0..6).map(|_| gate.connect("fe")).collect();
        for client in &mut clients {
            let mut name = [0; 4];
            client.read_exact(&mut name).expect("served");
            assert_eq!(&name, b"back");
        }
        assert_eq!(gate.ask("set server be/s1 state ready").trim(), "");
        for client in &mut clients {
            if ends {
                assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0, "its session ends");
            } else {
                client.write_all(b"y").expect("still open");
                client.read_exact(&mut [0; 1]).expect("still served");
            }
        }
        drop(clients);
        gate.finish();
    }
}

#[test]
fn without_on_marked_down_sessions_go_on() {
    let health = Origin::echo();
    let traffic = Origin::echo();
    let keywords = format!("{FAST}\nport = {}", health.address.port());
    let gate = Shardgate::start(&one_server(traffic.address, &keywords, ""));
    gate.wait_stat("be/s1", "check_status", "L4OK");
    let mut client = gate.connect("fe");
    client.write_all(b"x").expect("the proxy takes it");
    client.read_exact(&mut [0; 1]).expect("served");
    drop(health);
    gate.wait_stat("be/s1", "status", "DOWN");
    client.write_all(b"y").expect("still open");
    client.read_exact(&mut [0; 1]).expect("still served");
    drop(client);
    gate.finish();
}

#[test]
fn an_operator_drains_and_enables_a_server() {
    let origin = Origin::echo();
    let gate = Shardgate::start(&one_server(origin.address, "", ""));
    assert_eq!(gate.stat("be/s1", "status"), "no check");
    let mut client = gate.connect("fe");
    client.write_all(b"x").expect("the proxy takes it");
    client.read_exact(&mut [0; 1]).expect("served");
    assert_eq!(gate.ask("set server be/s1 state drain").trim(), "");
    gate.wait_stat("be/s1", "status", "DRAIN");
    client.write_all(b"y").expect("still open");
    client.read_exact(&mut [0; 1]).expect("an open session goes on");
    let mut refused = gate.connect("fe");
    assert_eq!(refused.read(&mut [0; 1]).unwrap_or(0), 0, "no new ones");
    assert_eq!(gate.ask("set server be/s1 state ready").trim(), "");
    let mut again = gate.connect("fe");
    again.write_all(b"z").expect("the proxy takes it");
    again.read_exact(&mut [0; 1]).expect("new ones again");
    drop((client, refused, again));
    gate.finish();
}

//! What a reload changes of the process itself, without a restart: log targets, admin sockets, limits of pipes.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;

use crate::harness::peers::output;
use crate::harness::{Origin, PATIENCE, Shardgate, program, until};

/// A receiver of log lines.
struct Lines(UdpSocket);

impl Lines {
    fn new() -> Lines {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a local socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
        Lines(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound")
    }

    /// The next line of traffic.
    fn next(&self) -> String {
        let mut buffer = [0; 2048];
        let len = self.0.recv(&mut buffer).expect("a line arrives");
        String::from_utf8_lossy(&buffer[..len]).trim_end().to_owned()
    }
}

#[test]
fn log_targets_change_and_each_session_logs_where_its_generation_does() {
    let (old, new) = (Lines::new(), Lines::new());
    let origin = Origin::echo();
    let body = |frontend: &str, lines: &Lines, format: &str| {
        format!(
            "[frontend.{frontend}]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\nlog = [{{ address = \"{}\" }}]\nlog-format = \
             \"{format}\"\n[backend.be.server.s1]\naddress = \"{}\"\n",
            lines.address(),
            origin.address
        )
    };
    let session = |gate: &Shardgate| {
        let mut client = gate.connect("fe");
        client.write_all(b"x").expect("accepted");
        client.read_exact(&mut [0]).expect("echoed");
        client
    };
    let mut gate = Shardgate::start(&body("fe", &old, "first %ci"));
    drop(session(&gate));
    assert!(old.next().ends_with("first 127.0.0.1"));
    let long = session(&gate);
    gate.reload(&body("fe", &new, "second %ci"));
    drop(session(&gate));
    assert!(new.next().ends_with("second 127.0.0.1"));
    drop(long);
    assert!(old.next().ends_with("first 127.0.0.1"), "what its generation said holds for it");
    // Places of generations that are over are used again, and nothing piles up.
    for n in 0..8 {
        let (lines, format) = if n % 2 == 0 { (&old, "even") } else { (&new, "odd") };
        gate.reload(&body("fe", lines, format));
        until("the generation before to end", || !gate.ask("show generations").contains(" old "));
        drop(session(&gate));
        assert!(lines.next().ends_with(format), "round {n}");
    }
    let why = {
        gate.rewrite(
            &body("fe", &new, "odd").replace(&new.address().to_string(), "no.such.host.invalid:514"),
        );
        gate.try_reload().expect_err("it has no address")
    };
    assert!(why.contains("cannot resolve the log target no.such.host.invalid:514"), "{why}");
    drop(session(&gate));
    assert!(new.next().ends_with("odd"), "nothing has changed");
    gate.finish();
}

#[test]
fn the_log_of_the_process_itself_moves() {
    let origin = Origin::echo();
    let mut gate = Shardgate::relay(origin.address);
    let file = gate.dir().join("events");
    let line = format!("[global]\nlog = \"file:{}\"\n", file.display());
    gate.edit(|text| text.replacen("[global]\n", &line, 1)).expect("it can be written");
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    until("the reload to be told of there", || read().contains("generation 2"));
    assert!(!gate.log().contains("generation 2") && gate.log().contains("ready: "));
    let why =
        gate.edit(|text| text.replace("/events", "/no/such/directory")).expect_err("it cannot be opened");
    assert!(why.contains("cannot open the log"), "{why}");
    gate.edit(|text| text.replace(&line.replace("/events", "/no/such/directory"), "[global]\n"))
        .expect("as before");
    gate.wait_log("generation 3");
    gate.finish();
}

#[test]
fn admin_sockets_come_go_and_change() {
    let origin = Origin::echo();
    let mut gate = Shardgate::with(&crate::harness::gate::relay(origin.address, "")).start();
    let second = format!(
        "level = \"admin\" }}, {{ path = \"{}/second.sock\", level = \"user\" }}",
        gate.dir().display()
    );
    gate.edit(|text| text.replacen("level = \"admin\" }", &second, 1)).expect("it can be made");
    assert!(gate.ask_at("second.sock", "show drift").expect("it answers").contains("Permission denied"));
    let kept = gate.dir().join("second.sock");
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&kept), 0o600);
    gate.edit(|text| text.replace("level = \"user\"", "level = \"operator\", mode = \"660\"")).expect("good");
    assert!(gate.ask_at("second.sock", "show drift").expect("it answers").starts_with("Everything runs"));
    assert_eq!(mode(&kept), 0o660);
    // A name that is taken by something else changes nothing.
    std::fs::write(gate.dir().join("precious"), "data").expect("writable");
    let why = gate.edit(|text| text.replace("/second.sock", "/precious")).expect_err("it is a file");
    assert!(why.contains("is not a socket"), "{why}");
    assert!(gate.ask_at("second.sock", "show version").is_ok());
    gate.edit(|text| text.replace("/precious", "/third.sock")).expect("good");
    assert!(!kept.exists() && gate.ask_at("second.sock", "show version").is_err());
    assert!(gate.ask_at("third.sock", "show version").is_ok());
    gate.edit(|text| {
        text.replace(", mode = \"660\"", "")
            .replace("[global]\n", "[global]\ntune.pipesize = 65536\nmaxpipes = 2\n")
    })
    .expect("good");
    assert_eq!(gate.info("Maxpipes"), "2");
    gate.finish();
}

#[test]
fn options_of_sockets_that_stay_change_in_place() {
    let origin = Origin::echo();
    let body = |more: &str| {
        format!(
            "[frontend.fe]\nbind = [{{ address = \"127.0.0.1:0\"{more} }}]\ndefault-backend = \"be\"\n[backend.be.server.s1]\naddress = \
             \"{}\"\n",
            origin.address
        )
    };
    let mut gate = Shardgate::start(&body(""));
    let address = gate.address("fe");
    // What the kernel tells the client when it connects.
    let mss = || {
        let client = crate::harness::connect(address);
        socket2::SockRef::from(&client).tcp_mss().expect("a TCP socket")
    };
    let queue = || {
        let listening = ["-Hltn", "src", &address.to_string()];
        let line = output(std::process::Command::new(program("ss")).args(listening));
        line.split_whitespace().nth(2).unwrap_or_default().to_owned()
    };
    let usual = (mss(), queue());
    assert!(usual.0 > 1000 && usual.1 != "77", "{usual:?}");
    gate.reload(&body(
        ", defer-accept = true, mss = 1000, tfo = 16, tcp-ut = \"5s\", accept = \"cpu\", backlog = 77",
    ));
    assert_eq!(gate.address("fe"), address, "the socket is the same");
    until("the cores to follow", || mss() <= 1000 && queue() == "77");
    let mut client = gate.connect("fe");
    client.write_all(b"x").expect("accepted");
    client.read_exact(&mut [0]).expect("echoed");
    gate.reload(&body(""));
    until("the cores to follow", || (mss(), queue()) == usual);
    drop(client);
    gate.finish();
}

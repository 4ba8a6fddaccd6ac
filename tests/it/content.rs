//! Rules: on the connection, and on its first bytes (SNI, ALPN, RDP cookies, payload).

use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::Command;

use crate::harness::peers::{Peer, output};
use crate::harness::{Origin, Shardgate, connect_from, program, until};

/// A frontend with these lines, and backends `a`, `b` and `c` with one server each.
fn routed(lines: &str, servers: [&str; 3]) -> String {
    let mut text = format!("\n[frontend.fe]\nbind = \"127.0.0.1:0\"\n{lines}\n");
    for (name, address) in ["a", "b", "c"].iter().zip(servers) {
        text.push_str(&format!("[backend.{name}.server.s1]\naddress = \"{address}\"\n"));
    }
    text
}

/// Three origins that record what they get.
fn recorders() -> ([Origin; 3], [String; 3]) {
    let origins = [Origin::recorder(), Origin::recorder(), Origin::recorder()];
    let addresses = [&origins[0], &origins[1], &origins[2]].map(|o| o.address.to_string());
    (origins, addresses)
}

fn routed_to(lines: &str, addresses: &[String; 3]) -> Shardgate {
    let [a, b, c] = addresses;
    Shardgate::with(&routed(lines, [a, b, c])).defaults("log = true").start()
}

/// Sends the pieces and closes; says which origin got how many notes.
fn deliver(gate: &Shardgate, pieces: &[&[u8]]) {
    let mut client = gate.connect("fe");
    for piece in pieces {
        if client.write_all(piece).is_err() {
            return;
        }
    }
    let _ = client.shutdown(Shutdown::Write);
    let _ = client.read(&mut [0; 1]);
}

/// A real ClientHello, as openssl sends it.
fn client_hello(name: &str, alpn: Option<&str>) -> Vec<u8> {
    let recorder = Origin::new(|mut stream, shared| {
        let mut head = [0; 5];
        if stream.read_exact(&mut head).is_ok() {
            let mut record = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
            if stream.read_exact(&mut record).is_ok() {
                shared.note(&[&head[..], &record].concat());
            }
        }
    });
    let mut command = Command::new(program("openssl"));
    command.args(["s_client", "-connect", &recorder.address.to_string(), "-servername", name]);
    if let Some(alpn) = alpn {
        command.args(["-alpn", alpn]);
    }
    let _ = output(&mut command);
    recorder.wait_for_notes(1)[0].clone()
}

const BY_NAME: &str = r#"inspect-delay = "10s"
rules = [
  { use-backend = "a", if = "{ req.ssl_sni -i a.example }" },
  { use-backend = "b", if = "{ req.ssl_sni -m end .b.example }" },
]
default-backend = "c""#;

#[test]
fn tls_clients_reach_the_server_of_their_name() {
    let peers = [Peer::tls("a.example"), Peer::tls("b.example"), Peer::tls("c.example")];
    let addresses = [&peers[0], &peers[1], &peers[2]].map(|p| p.address.to_string());
    let gate = routed_to(BY_NAME, &addresses);
    for (asked, answered) in [
        ("a.example", "CN = a.example"),
        ("A.EXAMPLE", "CN = a.example"),
        ("www.b.example", "CN = b.example"),
        ("other.example", "CN = c.example"),
    ] {
        let address = gate.address("fe").to_string();
        let text = output(Command::new(program("openssl")).args([
            "s_client",
            "-connect",
            &address,
            "-servername",
            asked,
        ]));
        assert!(text.contains(answered), "{asked}: {text}");
        assert!(
            text.contains("Verification error: self-signed") || text.contains("self-signed"),
            "a handshake: {text}"
        );
    }
    let url = format!("https://a.example:{}/", gate.address("fe").port());
    let resolve = format!("a.example:{}:127.0.0.1", gate.address("fe").port());
    let page =
        output(Command::new(program("curl")).args(["-sSk", "--max-time", "20", "--resolve", &resolve, &url]));
    assert!(page.contains("s_server"), "{page}");
    gate.finish();
}

#[test]
fn a_client_hello_may_be_cut_anywhere() {
    let (origins, addresses) = recorders();
    let gate = routed_to(BY_NAME, &addresses);
    let hello = client_hello("a.example", None);
    assert!(hello.len() > 100);
    let cuts: Vec<usize> = (1..hello.len()).step_by(13).chain([1, 4, 5, 6, hello.len() - 1]).collect();
    for &cut in &cuts {
        deliver(&gate, &[&hello[..cut], &hello[cut..], b"more"]);
    }
    let single: Vec<&[u8]> = hello.chunks(1).collect();
    deliver(&gate, &single);
    let notes = origins[0].wait_for_notes(cuts.len() + 1);
    for note in &notes[..cuts.len()] {
        assert!(
            note.starts_with(&hello) && note.ends_with(b"more") && note.len() == hello.len() + 4,
            "bytes changed"
        );
    }
    assert_eq!(origins[1].accepted() + origins[2].accepted(), 0);
    gate.finish();
}

#[test]
fn a_client_hello_that_ends_early_or_is_broken_goes_where_others_go() {
    let (origins, addresses) = recorders();
    let gate = routed_to(BY_NAME, &addresses);
    let hello = client_hello("a.example", None);
    // The end of the stream ends the wait at once: nothing more can come.
    deliver(&gate, &[&hello[..hello.len() / 2]]);
    let mut broken = hello.clone();
    broken[5] = 0x77;
    deliver(&gate, &[&broken]);
    deliver(&gate, &[b"SSH-2.0-OpenSSH_9.2\r\n"]);
    let notes = origins[2].wait_for_notes(3);
    let mut lengths: Vec<usize> = notes.iter().map(Vec::len).collect();
    lengths.sort_unstable();
    let mut expected = vec![hello.len() / 2, hello.len(), 21];
    expected.sort_unstable();
    assert_eq!(lengths, expected);
    assert_eq!(origins[0].accepted() + origins[1].accepted(), 0);
    gate.finish();
}

/// The way HAProxy's documentation routes by name: what is accepted is still routed, and nothing else is asked of it.
#[test]
fn what_is_accepted_is_routed() {
    let (origins, addresses) = recorders();
    let [a, b, c] = &addresses;
    let sections = format!(
        "frontend fe\n bind @ADDRESS@\n tcp-request inspect-delay 20s\n\
         tcp-request content accept if {{ req_ssl_hello_type 1 }}\n\
         tcp-request content reject if {{ req.len ge 0 }}\n\
         use_backend a if {{ req_ssl_sni -i a.example }}\n use_backend b if {{ req_ssl_sni -m end .b.example }}\n\
         default_backend c\n\
         backend a\n server s {a}\nbackend b\n server s {b}\nbackend c\n server s {c}\n"
    );
    for (round, peer) in [Peer::haproxy(&sections), Peer::in_haproxys_place(&sections)].iter().enumerate() {
        for (index, name) in ["a.example", "x.b.example", "c.example"].iter().enumerate() {
            let mut client = std::net::TcpStream::connect(peer.address).expect("it listens");
            client.write_all(&client_hello(name, None)).expect("it is taken");
            client.shutdown(Shutdown::Write).expect("open");
            let _ = client.read(&mut [0; 1]);
            assert_eq!(origins[index].wait_for_notes(round + 1).len(), round + 1, "{name} in round {round}");
        }
        // What is no TLS is refused.
        let mut client = std::net::TcpStream::connect(peer.address).expect("it listens");
        let _ = client.write_all(b"SSH-2.0-x\r\n");
        assert!(client.read(&mut [0; 1]).is_ok_and(|n| n == 0) || client.peek(&mut [0; 1]).is_err());
        let counts = origins.each_ref().map(Origin::accepted);
        assert_eq!(counts, [round + 1; 3], "round {round}");
    }
}

#[test]
fn inspect_delay_ends_the_wait() {
    let (origins, addresses) = recorders();
    let lines = BY_NAME.replace("10s", "150ms");
    let gate = routed_to(&lines, &addresses);
    let mut client = gate.connect("fe");
    client.write_all(&[0x16, 3, 1]).expect("the proxy takes it");
    until("the session to be routed without its name", || origins[2].accepted() == 1);
    client.write_all(b"rest").expect("open");
    drop(client);
    assert_eq!(origins[2].wait_for_notes(1)[0], b"\x16\x03\x01rest");
    gate.finish();
}

#[test]
fn alpn_and_version_and_payload_are_conditions() {
    let (origins, addresses) = recorders();
    let lines = r#"inspect-delay = "10s"
rules = [
  { use-backend = "a", if = "{ req.ssl_alpn h2 }" },
  { use-backend = "b", if = "{ req.payload(0,4) -m str SSH- }" },
  { reject = true, if = "{ req.len gt 0 } { req.payload(0,3) -m str BAD }" },
]
default-backend = "c""#;
    let gate = routed_to(lines, &addresses);
    deliver(&gate, &[&client_hello("x.example", Some("h2,http/1.1"))]);
    deliver(&gate, &[b"SSH-2.0-x\r\n"]);
    deliver(&gate, &[b"BAD things"]);
    deliver(&gate, &[b"plain data"]);
    origins[0].wait_for_notes(1);
    assert_eq!(origins[1].wait_for_notes(1)[0], b"SSH-2.0-x\r\n");
    assert_eq!(origins[2].wait_for_notes(1)[0], b"plain data");
    assert_eq!([origins[0].accepted(), origins[1].accepted(), origins[2].accepted()], [1, 1, 1]);
    gate.wait_stat("fe/FRONTEND", "dreq", "1");
    gate.finish();
}

#[test]
fn the_name_goes_into_the_proxy_header() {
    let origin = Origin::recorder();
    let body = format!(
        r#"
[frontend.fe]
bind = "127.0.0.1:0"
inspect-delay = "10s"
rules = [{{ use-backend = "be", if = "{{ req.ssl_sni -m found }}" }}]
[backend.be.server.s1]
address = "{}"
send-proxy-v2 = true
proxy-v2-options = ["authority"]
"#,
        origin.address
    );
    let gate = Shardgate::start(&body);
    let hello = client_hello("name.example", None);
    deliver(&gate, &[&hello]);
    let note = origin.wait_for_notes(1)[0].clone();
    assert!(note.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x11") && note.ends_with(&hello));
    // PP2_TYPE_AUTHORITY is 0x02, followed by a 16-bit length.
    let tlv = b"\x02\0\x0cname.example";
    assert!(note.windows(tlv.len()).any(|w| w == tlv), "{}", note.escape_ascii());
    gate.finish();
}

#[test]
fn an_rdp_cookie_is_a_condition() {
    let (origins, addresses) = recorders();
    let lines = r#"inspect-delay = "10s"
rules = [{ use-backend = "a", if = "{ rdp_cookie(mstshash) -m beg alice }" }]
default-backend = "c""#;
    let gate = routed_to(lines, &addresses);
    // TPKT and X.224 connection request with a cookie ([MS-RDPBCGR] 2.2.1.1).
    let request = |user: &str| {
        let cookie = format!("Cookie: mstshash={user}\r\n");
        let length = u8::try_from(cookie.len() + 11).expect("short");
        let mut out = vec![3, 0, 0, length, length - 5, 0xe0, 0, 0, 0, 0, 0];
        out.extend_from_slice(cookie.as_bytes());
        out
    };
    deliver(&gate, &[&request("alice")]);
    deliver(&gate, &[&request("bob")]);
    assert_eq!(origins[0].wait_for_notes(1)[0], request("alice"));
    assert_eq!(origins[2].wait_for_notes(1)[0], request("bob"));
    gate.finish();
}

#[test]
fn connection_rules_reject_accept_and_drop_before_a_byte() {
    let (origins, addresses) = recorders();
    let lines = r#"acl.friend = "src 127.0.0.2"
connection-rules = [
  { accept = true, if = "friend" },
  { reject = true, if = "{ src -f @DIR@/../networks }" },
  { silent-drop = true, if = "{ src 127.0.0.66 }" },
]
default-backend = "a""#;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let list = dir.path().join("networks");
    let mut networks = String::from("# a comment\n\n127.0.0.4/31\n127.0.0.2\n");
    for n in 0..20_000 {
        networks.push_str(&format!("10.{}.{}.0/24\n", n / 256, n % 256));
    }
    std::fs::write(&list, networks).expect("our own directory");
    let gate = routed_to(&lines.replace("@DIR@/../networks", &list.to_string_lossy()), &addresses);
    let address = gate.address("fe");
    let ended = |source: &str| {
        let mut client = connect_from(source, address);
        let sent = client.write_all(b"x").is_ok();
        let _ = client.shutdown(Shutdown::Write);
        sent && matches!(client.read(&mut [0; 1]), Ok(0))
    };
    for (number, source) in ["127.0.0.1", "127.0.0.2"].into_iter().enumerate() {
        assert!(
            ended(source),
            "{source} is served: no rule speaks of it, or it is accepted although it is in the list"
        );
        until("the origin to see it", || origins[0].accepted() == number + 1);
    }
    for source in ["127.0.0.4", "127.0.0.5"] {
        ended(source);
    }
    gate.wait_stat("fe/FRONTEND", "dcon", "2");
    assert_eq!(origins[0].accepted(), 2, "the rejected ones reach nobody");
    // A dropped client hears nothing, neither an end nor a reset.
    let mut dropped = connect_from("127.0.0.66", address);
    // HAProxy counts a silent drop as a denied request.
    until("the drop to be counted", || {
        gate.count("fe/FRONTEND", "dcon") + gate.count("fe/FRONTEND", "dreq") == 3
    });
    dropped.set_read_timeout(Some(std::time::Duration::from_millis(200))).expect("not zero");
    let heard = dropped.read(&mut [0; 1]);
    assert!(heard.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "it hears nothing");
    assert_eq!(origins[0].accepted(), 2);
    gate.finish();
}

#[test]
fn rules_see_the_frontend_and_the_state_of_backends() {
    let (origins, addresses) = recorders();
    let lines = r#"id = 77
rules = [
  { set-var = { name = "sess.where", value = "dst_port" } },
  { use-backend = "a", if = "{ nbsrv(b) eq 0 }" },
  { use-backend = "b", if = "{ fe_id 77 } { fe_name fe } !{ src_port 1 }" },
]
default-backend = "c""#;
    let gate = routed_to(lines, &addresses);
    deliver(&gate, &[b"one"]);
    assert_eq!(origins[1].wait_for_notes(1)[0], b"one");
    assert_eq!(gate.ask("set server b/s1 state maint").trim(), "");
    gate.wait_stat("b/s1", "status", "MAINT");
    deliver(&gate, &[b"two"]);
    assert_eq!(origins[0].wait_for_notes(1)[0], b"two");
    gate.finish();
}

#[test]
fn a_frontend_without_a_way_closes_and_says_so() {
    let (_, addresses) = recorders();
    let gate = routed_to("rules = [{ use-backend = \"a\", if = \"{ src 192.0.2.1 }\" }]", &addresses);
    let mut client = gate.connect("fe");
    assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    drop(client);
    gate.wait_stat("fe/FRONTEND", "eroute", "1");
    gate.finish();
}

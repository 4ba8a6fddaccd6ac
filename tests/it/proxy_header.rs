//! The PROXY protocol in and out: against HAProxy and nginx, cut anywhere, malformed, and from those who may not send it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::harness::gate::relay;
use crate::harness::origin::Refusing;
use crate::harness::peers::{Peer, output};
use crate::harness::{Origin, Shardgate, program};

/// Signature of version 2 (PROXY protocol specification, section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A frontend that takes headers from 127.0.0.1 and passes them on as version 1, so that one sees what it understood.
fn accepting(origin: &Origin) -> Shardgate {
    let body = format!(
        r#"
[frontend.fe]
bind = [{{ address = "127.0.0.1:0", accept-proxy = ["127.0.0.1"] }}]
default-backend = "be"
[backend.be.server.s1]
address = "{}"
send-proxy = true
"#,
        origin.address
    );
    Shardgate::with(&body).defaults("log = true\ntimeout.client = \"5s\"").start()
}

/// Version 2 with command and family bytes, and what follows the first 16 bytes.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    out.extend_from_slice(&[0x20 | command, family]);
    out.extend_from_slice(&u16::try_from(rest.len()).expect("short").to_be_bytes());
    out.extend_from_slice(rest);
    out
}

/// 192.0.2.1:1111 -> 198.51.100.2:2222
const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x04, 0x57, 0x08, 0xae];

/// What the origin sees of a session that sends `bytes` in these pieces: the whole of it.
fn relayed(gate: &Shardgate, origin: &Origin, pieces: &[&[u8]]) -> String {
    let before = origin.notes().len();
    let mut client = gate.connect("fe");
    for piece in pieces {
        client.write_all(piece).expect("the proxy takes it");
    }
    client.shutdown(Shutdown::Write).expect("still connected");
    let note = origin.wait_for_notes(before + 1)[before].clone();
    String::from_utf8_lossy(&note).into_owned()
}

#[test]
fn good_headers_say_who_the_client_is() {
    let origin = Origin::recorder();
    let gate = accepting(&origin);
    let address = gate.address("fe");
    let v6 = {
        let mut out = vec![0; 36];
        out[..16].copy_from_slice(&"2001:db8::1".parse::<std::net::Ipv6Addr>().expect("a literal").octets());
        out[16..32]
            .copy_from_slice(&"2001:db8::2".parse::<std::net::Ipv6Addr>().expect("a literal").octets());
        out[32..].copy_from_slice(&[0x04, 0x57, 0x08, 0xae]);
        out
    };
    let with_tlv = [&V4[..], &[0x04, 0, 3, 0, 0, 0], &[0xe0, 0, 1, b'x']].concat();
    let cases: [(Vec<u8>, &str); 5] = [
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.2 1111 2222\r\n".to_vec(),
            "PROXY TCP4 192.0.2.1 198.51.100.2 1111 2222\r\n",
        ),
        (
            b"PROXY TCP6 2001:db8::1 2001:db8::2 1111 2222\r\n".to_vec(),
            "PROXY TCP6 2001:db8::1 2001:db8::2 1111 2222\r\n",
        ),
        (v2(1, 0x11, &V4), "PROXY TCP4 192.0.2.1 198.51.100.2 1111 2222\r\n"),
        (v2(1, 0x21, &v6), "PROXY TCP6 2001:db8::1 2001:db8::2 1111 2222\r\n"),
        (v2(1, 0x11, &with_tlv), "PROXY TCP4 192.0.2.1 198.51.100.2 1111 2222\r\n"),
    ];
    for (header, expected) in cases {
        let seen = relayed(&gate, &origin, &[&header, b"data"]);
        assert_eq!(seen, format!("{expected}data"), "{}", header.escape_ascii());
    }
    // LOCAL and UNKNOWN say nothing about the client: it is who connected.
    for header in [
        v2(0, 0, &[]),
        v2(0, 0x11, &V4),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ::1 ::1 1 2\r\n".to_vec(),
    ] {
        let seen = relayed(&gate, &origin, &[&header, b"data"]);
        let ours = format!(" {}\r\ndata", address.port());
        assert!(seen.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 ") && seen.ends_with(&ours), "{seen}");
    }
    // Addresses of UNIX sockets cannot be said in version 1; the data still arrives.
    let seen = relayed(&gate, &origin, &[&v2(1, 0x31, &[b'x'; 216]), b"data"]);
    assert!(seen.starts_with("PROXY ") && seen.ends_with("\r\ndata"), "{seen}");
    gate.finish();
}

#[test]
fn a_header_may_be_cut_anywhere() {
    let origin = Origin::recorder();
    let gate = accepting(&origin);
    for header in [b"PROXY TCP4 192.0.2.1 198.51.100.2 1111 2222\r\n".to_vec(), v2(1, 0x11, &V4)] {
        for cut in 1..header.len() {
            let seen = relayed(&gate, &origin, &[&header[..cut], &header[cut..], b"data"]);
            assert_eq!(seen, "PROXY TCP4 192.0.2.1 198.51.100.2 1111 2222\r\ndata", "cut at {cut}");
        }
        let single: Vec<&[u8]> = header.chunks(1).chain([&b"data"[..]]).collect();
        assert_eq!(relayed(&gate, &origin, &single), "PROXY TCP4 192.0.2.1 198.51.100.2 1111 2222\r\ndata");
    }
    gate.finish();
}

#[test]
fn bad_headers_end_the_session_before_a_server_hears_of_it() {
    let origin = Origin::recorder();
    let gate = accepting(&origin);
    let mut long = b"PROXY TCP4 ".to_vec();
    long.resize(200, b'1');
    let mut bad: Vec<Vec<u8>> = [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1111 22222222\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1111\r\n",
        b"PROXY TCP4 2001:db8::1 198.51.100.2 1111 2222\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 01111 2222\r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.2 1111 2222\r\n",
        b"PROXY TCP5 192.0.2.1 198.51.100.2 1111 2222\r\n",
        b"proxy TCP4 192.0.2.1 198.51.100.2 1111 2222\r\n",
        b"\r\n\r\n\0\r\nQUIX\n",
    ]
    .iter()
    .map(|b| b.to_vec())
    .collect();
    bad.push(long);
    bad.push(v2(2, 0x11, &V4)); // a command that does not exist
    bad.push(v2(1, 0x11, &V4[..8])); // too short for its family
    bad.push([&SIGNATURE[..], &[0x31, 0x11, 0, 12], &V4].concat()); // version 3
    bad.push(v2(1, 0x11, &[&V4[..], &[0x03, 0, 4, 1, 2, 3, 4]].concat())); // CRC32C that is wrong
    bad.push(v2(1, 0x11, &[&V4[..], &[0x04, 0, 9, 1]].concat())); // a TLV longer than the header
    for (number, bytes) in bad.iter().enumerate() {
        let mut client = gate.connect("fe");
        client.write_all(bytes).expect("the proxy takes it");
        assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0, "case {number}: {}", bytes.escape_ascii());
    }
    gate.wait_stat("fe/FRONTEND", "eproxy", &bad.len().to_string());
    assert_eq!(origin.accepted(), 0);
    gate.finish();
}

#[test]
fn a_header_that_never_comes_or_ends_early_ends_the_session() {
    let origin = Origin::recorder();
    let body = format!(
        "[frontend.fe]\nbind = [{{ address = \"127.0.0.1:0\", accept-proxy = [\"127.0.0.0/8\"] }}]\ndefault-backend = \"be\"\n\
         [backend.be.server.s1]\naddress = \"{}\"\n",
        origin.address
    );
    let gate = Shardgate::with(&body).defaults("timeout.client = \"150ms\"").start();
    let mut silent = gate.connect("fe");
    let mut partial = gate.connect("fe");
    partial.write_all(b"PROXY TC").expect("the proxy takes it");
    let mut ended = gate.connect("fe");
    ended.write_all(b"PROXY TC").expect("the proxy takes it");
    ended.shutdown(Shutdown::Write).expect("still connected");
    for client in [&mut silent, &mut partial, &mut ended] {
        assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    }
    assert_eq!(origin.accepted(), 0);
    gate.finish();
}

#[test]
fn a_header_of_a_stranger_is_data() {
    let origin = Origin::recorder();
    let body = format!(
        "[frontend.fe]\nbind = [{{ address = \"127.0.0.1:0\", accept-proxy = [\"10.0.0.0/8\"] }}]\ndefault-backend = \"be\"\n\
         [backend.be.server.s1]\naddress = \"{}\"\n",
        origin.address
    );
    let gate = Shardgate::start(&body);
    let header = b"PROXY TCP4 192.0.2.1 198.51.100.2 1111 2222\r\n";
    assert_eq!(relayed(&gate, &origin, &[header, b"data"]).as_bytes(), [&header[..], b"data"].concat());
    gate.finish();
}

/// HAProxy as an origin that takes a PROXY header and says what it says.
fn haproxy_that_tells() -> Peer {
    Peer::haproxy(
        "frontend f\n mode http\n bind @ADDRESS@ accept-proxy\n http-request return status 200 content-type text/plain \
         lf-string \"src=%[src] port=%[src_port] dst=%[dst] id=%[fc_pp_unique_id] sni=%[fc_pp_authority]\"\n",
    )
}

/// An HTTP request over a connection, and its whole answer with the local port of the client.
fn ask_http(mut client: TcpStream) -> (String, u16) {
    let port = client.local_addr().expect("connected").port();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("the proxy takes it");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("the answer");
    (answer, port)
}

#[test]
fn haproxy_understands_what_we_send() {
    for keyword in [
        "send-proxy = true",
        "send-proxy-v2 = true",
        "send-proxy-v2 = true\nproxy-v2-options = [\"crc32c\", \"unique-id\"]",
    ] {
        let haproxy = haproxy_that_tells();
        let gate = Shardgate::start(&relay(haproxy.address, keyword));
        let (answer, port) = ask_http(gate.connect("fe"));
        assert!(answer.contains(&format!("src=127.0.0.1 port={port} dst=127.0.0.1")), "{keyword}: {answer}");
        if keyword.contains("unique-id") {
            assert!(!answer.contains("id= "), "{answer}");
        }
        gate.finish();
    }
}

#[test]
fn nginx_understands_what_we_send() {
    for keyword in ["send-proxy = true", "send-proxy-v2 = true"] {
        let nginx = Peer::nginx(
            "http { access_log off; client_body_temp_path @DIR@/b; proxy_temp_path @DIR@/p; fastcgi_temp_path @DIR@/f;\n\
             uwsgi_temp_path @DIR@/u; scgi_temp_path @DIR@/s;\n server { listen @ADDRESS@ proxy_protocol;\n\
             return 200 'src=$proxy_protocol_addr port=$proxy_protocol_port'; } }",
        );
        let gate = Shardgate::start(&relay(nginx.address, keyword));
        let (answer, port) = ask_http(gate.connect("fe"));
        assert!(answer.ends_with(&format!("src=127.0.0.1 port={port}")), "{keyword}: {answer}");
        gate.finish();
    }
}

#[test]
fn we_understand_what_haproxy_sends() {
    for keyword in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        let origin = Origin::recorder();
        let gate = accepting(&origin);
        let sections = format!(
            "listen l\n mode tcp\n bind @ADDRESS@\n unique-id-format %ci-%cp\n server s {} {keyword}\n",
            gate.address("fe")
        );
        let haproxy = Peer::haproxy(&sections);
        let sessions_of_start = origin.notes().len();
        let mut client = crate::harness::connect(haproxy.address);
        let port = client.local_addr().expect("connected").port();
        client.write_all(b"data").expect("haproxy takes it");
        client.shutdown(Shutdown::Write).expect("still connected");
        // HAProxy's start was probed with a connection that sent nothing; look for ours.
        let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}\r\ndata", haproxy.address.port());
        crate::harness::until(&format!("{expected:?} to arrive ({sessions_of_start} before)"), || {
            origin.notes().iter().any(|n| n == expected.as_bytes())
        });
        drop((client, haproxy));
        gate.finish();
    }
}

#[test]
fn we_understand_what_nginx_sends() {
    let origin = Origin::recorder();
    let gate = accepting(&origin);
    let nginx = Peer::nginx(&format!(
        "stream {{ server {{ listen @ADDRESS@; proxy_pass {}; proxy_protocol on; }} }}",
        gate.address("fe")
    ));
    let mut client = crate::harness::connect(nginx.address);
    let port = client.local_addr().expect("connected").port();
    client.write_all(b"data").expect("nginx takes it");
    client.shutdown(Shutdown::Write).expect("still connected");
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}\r\ndata", nginx.address.port());
    crate::harness::until(&format!("{expected:?} to arrive"), || {
        origin.notes().iter().any(|n| n == expected.as_bytes())
    });
    drop((client, nginx));
    gate.finish();
}

#[test]
fn the_header_is_sent_once_after_a_redispatch() {
    let refusing = Refusing::new();
    let origin = Origin::recorder();
    let body = format!(
        r#"
[frontend.fe]
bind = "127.0.0.1:0"
default-backend = "be"
[backend.be]
retries = 1
redispatch = true
[backend.be.server.s0]
address = "{}"
send-proxy = true
[backend.be.server.s1]
address = "{}"
send-proxy = true
"#,
        refusing.address, origin.address
    );
    let gate = Shardgate::with(&body).cores(1).start();
    for _ in 0..3 {
        let seen = relayed(&gate, &origin, &[b"data"]);
        assert_eq!(seen.matches("PROXY").count(), 1, "{seen}");
        assert!(seen.ends_with("\r\ndata"), "{seen}");
    }
    gate.finish();
}

#[test]
fn curl_speaks_to_us_with_a_header() {
    // curl --haproxy-protocol sends version 1 before its request.
    let haproxy = haproxy_that_tells();
    let body = format!(
        "[frontend.fe]\nbind = [{{ address = \"127.0.0.1:0\", accept-proxy = [\"127.0.0.0/8\"] }}]\ndefault-backend = \"be\"\n\
         [backend.be.server.s1]\naddress = \"{}\"\nsend-proxy-v2 = true\n",
        haproxy.address
    );
    let gate = Shardgate::start(&body);
    let url = format!("http://{}/", gate.address("fe"));
    let answer = output(std::process::Command::new(program("curl")).args([
        "-sS",
        "--max-time",
        "20",
        "--haproxy-protocol",
        &url,
    ]));
    assert!(answer.contains("src=127.0.0.1"), "{answer}");
    gate.finish();
}

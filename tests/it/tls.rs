//! TLS with clients, from outside: handshakes of every kind, bytes in both modes, and every way in which it can go wrong.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::PublicKeyData as _;
use rustls::HandshakeKind;
use sha2::{Digest, Sha256};

use crate::harness::bytes::{self, Pace};
use crate::harness::http::{Wire, ok};
use crate::harness::peers::output;
use crate::harness::tls::{Ca, get, over, tls};
use crate::harness::{Origin, Shardgate, connect, program, until};

/// More than any buffer on the way.
const LARGE: u64 = 12_000_000;

/// A TLS frontend `fe` in a mode, with one server.
fn sections(mode: &str, server: SocketAddr, tls: &str, frontend: &str) -> String {
    format!(
        "[frontend.fe]\nmode = \"{mode}\"\nbind = [{{ address = \"127.0.0.1:0\", tls = {{ {tls} }} }}]\ndefault-backend = \
         \"be\"\n{frontend}\n[backend.be]\nmode = \"{mode}\"\nserver.s1.address = \"{server}\"\n"
    )
}

/// The keyword for these certificates.
pub(crate) fn certificates(paths: &[&Path]) -> String {
    let quoted: Vec<String> = paths.iter().map(|path| format!("\"{}\"", path.display())).collect();
    format!("certificates = [{}]", quoted.join(", "))
}

pub(crate) fn gate(mode: &str, server: &Origin, tls: &str, frontend: &str) -> Shardgate {
    Shardgate::start(&sections(mode, server.address, tls, frontend))
}

fn both_versions() -> [&'static rustls::SupportedProtocolVersion; 2] {
    [&rustls::version::TLS12, &rustls::version::TLS13]
}

#[test]
fn curl_and_openssl_are_served() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["site.test"]);
    let origin = Origin::http(|request| ok(request.start()));
    let gate = gate("http", &origin, &certificates(&[&pem]), "");
    let port = gate.address("fe").port();
    for version in ["1.2", "1.3"] {
        let text = output(
            Command::new(program("curl"))
                .args(["-s", "--http1.1", "--tls-max", version, "--cacert"])
                .arg(ca.path("ca.pem"))
                .args(["--resolve", &format!("site.test:{port}:127.0.0.1")])
                .args([&format!("https://site.test:{port}/one"), &format!("https://site.test:{port}/two")]),
        );
        assert_eq!(text, "GET /one HTTP/1.1GET /two HTTP/1.1", "TLS {version}");
    }
    let text = output(
        Command::new(program("curl"))
            .args(["-s", "--http2", "-w", " HTTP/%{http_version}", "--cacert"])
            .arg(ca.path("ca.pem"))
            .args(["--resolve", &format!("site.test:{port}:127.0.0.1")])
            .arg(format!("https://site.test:{port}/three")),
    );
    assert_eq!(text, "GET /three HTTP/1.1 HTTP/2");
    let text = s_client(&gate, &["-alpn", "http/1.1", "-servername", "site.test"], "");
    assert!(text.contains("ALPN protocol: http/1.1"), "{text}");
    assert!(text.contains("CN = site.test") || text.contains("CN=site.test"), "{text}");
    gate.wait_stat("fe/FRONTEND", "ssl_sess", "4");
    gate.wait_stat("fe/FRONTEND", "ssl_alpn_h2", "1");
    assert_eq!(gate.count("fe/FRONTEND", "ssl_failed_handshake"), 0);
    gate.finish();
}

#[test]
fn a_browser_is_served() {
    let ca = Ca::new();
    let made = ca.make(&["site.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let pem = ca.write("site.pem", &format!("{}{}", made.cert_pem, made.key_pem));
    let origin = Origin::http(|request| {
        let text = ok(request.start().split(' ').nth(1).unwrap_or_default());
        text.replacen("\r\n", "\r\nContent-Type: text/html\r\n", 1)
    });
    let key = rcgen::KeyPair::from_pem(&made.key_pem).expect("a key");
    let spki = STANDARD.encode(Sha256::digest(key.subject_public_key_info()));
    let numbers = (0..20).map(|n| format!("/{n}")).collect::<Vec<_>>().join(",");
    for (more, said) in [
        ("", "h2 TLS 1.3 AES_128_GCM X25519MLKEM768 "),
        (", alpn = [\"http/1.1\"], curves = [\"P-256\"]", "http/1.1 TLS 1.3 AES_128_GCM P-256 "),
        (", max-version = \"TLSv1.2\"", "h2 TLS 1.2 AES_128_GCM "),
    ] {
        let gate = gate("http", &origin, &format!("{}{more}", certificates(&[&pem])), "");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/browser_tls.mjs");
        let url = format!("https://site.test:{}/", gate.address("fe").port());
        let output = Command::new(program("node"))
            .args([script, &program("chromium").to_string_lossy(), &spki, &url])
            .output()
            .expect("node runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(text.starts_with(said) && text.trim_end().ends_with(&numbers), "{more}: {text}{errors}");
        if said.starts_with("h2") {
            let handshakes = gate.count("fe/FRONTEND", "ssl_sess");
            let requests = gate.count("fe/FRONTEND", "req_tot");
            assert!(requests >= 21 && handshakes <= 3, "{more}: {requests} over {handshakes}");
        }
        gate.finish();
    }
}

/// What openssl says about a connection on which this is sent.
pub(crate) fn s_client(gate: &Shardgate, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program("openssl"))
        .args(["s_client", "-connect", &gate.address("fe").to_string()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn a_connection_serves_many_requests_in_both_versions() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["site.test"]);
    let origin = Origin::http(|request| ok(request.start()));
    let gate = gate("http", &origin, &certificates(&[&pem]), "");
    for version in both_versions() {
        let mut config = ca.client_of(&[version]);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut client = tls(gate.address("fe"), "site.test", config).expect("a handshake");
        assert_eq!(client.conn.protocol_version(), Some(version.version));
        for number in 0..200 {
            let (head, body) =
                get(&mut client, &format!("/{number}")).unwrap_or_else(|e| panic!("{number}: {e}"));
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            assert_eq!(body, format!("GET /{number} HTTP/1.1").as_bytes());
        }
        client.conn.send_close_notify();
        client.flush().expect("still open");
        assert_eq!(client.read(&mut [0; 1]).expect("close_notify in turn"), 0);
    }
    gate.wait_stat("fe/FRONTEND", "req_tot", "400");
    gate.wait_stat("fe/FRONTEND", "ssl_tls13", "1");
    gate.finish();
}

#[test]
fn bytes_are_relayed_in_both_directions_and_versions() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["site.test"]);
    let origin = Origin::new(|mut stream, shared| {
        let result = bytes::receive(&mut stream, LARGE, Pace::Fast)
            .and_then(|()| stream.read(&mut [0; 1]))
            .and_then(|n| bytes::send(&mut stream, LARGE).map(|()| n));
        shared.note(format!("{result:?}").as_bytes());
    });
    let gate = gate("tcp", &origin, &certificates(&[&pem]), "");
    for (number, version) in both_versions().into_iter().enumerate() {
        let mut client = tls(gate.address("fe"), "site.test", ca.client_of(&[version])).expect("a handshake");
        bytes::send(&mut client, LARGE).expect("the proxy takes it");
        client.conn.send_close_notify();
        client.flush().expect("still open");
        client.sock.shutdown(Shutdown::Write).expect("still connected");
        bytes::receive(&mut client, LARGE, Pace::Fast).expect("every byte, in order");
        assert_eq!(client.read(&mut [0; 1]).expect("close_notify, not a cut"), 0);
        assert_eq!(String::from_utf8_lossy(&origin.wait_for_notes(number + 1)[number]), "Ok(0)");
    }
    gate.wait_stat("fe/FRONTEND", "bin", &(2 * LARGE).to_string());
    gate.wait_stat("fe/FRONTEND", "bout", &(2 * LARGE).to_string());
    gate.finish();
}

#[test]
fn a_cut_connection_is_no_orderly_end() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["site.test"]);
    let origin = Origin::new(|mut stream, shared| {
        let mut all = Vec::new();
        let result = stream.read_to_end(&mut all);
        shared.note(format!("{} {}", all.len(), result.is_err()).as_bytes());
    });
    let gate = gate("tcp", &origin, &certificates(&[&pem]), "");
    let mut client = tls(gate.address("fe"), "site.test", ca.client()).expect("a handshake");
    client.write_all(b"12345").expect("sent");
    until("the origin is connected", || origin.accepted() == 1);
    client.sock.shutdown(Shutdown::Write).expect("still connected");
    assert_eq!(String::from_utf8_lossy(&origin.wait_for_notes(1)[0]), "5 true", "a reset, not an end");
    gate.finish();
}

#[test]
fn new_keys_are_followed() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["site.test"]);
    let origin = Origin::http(|request| ok(request.start()));
    let gate = gate("http", &origin, &certificates(&[&pem]), "");
    let mut client = tls(gate.address("fe"), "site.test", ca.client()).expect("a handshake");
    for number in 0..20 {
        client.conn.refresh_traffic_keys().expect("TLS 1.3");
        let (_, body) = get(&mut client, &format!("/{number}")).unwrap_or_else(|e| panic!("{number}: {e}"));
        assert_eq!(body, format!("GET /{number} HTTP/1.1").as_bytes());
    }
    drop(client);
    gate.finish();
}

#[test]
fn sessions_are_resumed() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["site.test"]);
    let origin = Origin::http(|request| ok(request.start()));
    let gate = gate("http", &origin, &certificates(&[&pem]), "");
    for version in both_versions() {
        let config = Arc::new(ca.client_of(&[version]));
        for round in 0..3 {
            let mut client =
                over(connect(gate.address("fe")), "site.test", config.clone()).expect("a handshake");
            get(&mut client, "/").expect("a response, and tickets before it");
            let wanted = if round == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
            assert_eq!(client.conn.handshake_kind(), Some(wanted), "{version:?} {round}");
        }
    }
    gate.wait_stat("fe/FRONTEND", "ssl_sess", "6");
    gate.wait_stat("fe/FRONTEND", "ssl_reused_sess", "4");
    gate.finish();
}

#[test]
fn a_hello_may_come_in_single_bytes() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["site.test"]);
    let origin = Origin::http(|request| ok(request.start()));
    let gate = gate("http", &origin, &certificates(&[&pem]), "");
    let mut socket = connect(gate.address("fe"));
    let name = rustls::pki_types::ServerName::try_from("site.test").expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(ca.client()), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("memory");
    for byte in bytes {
        socket.write_all(&[byte]).expect("the proxy takes it");
    }
    let mut stream = rustls::StreamOwned::new(client, socket);
    let (_, body) = get(&mut stream, "/slow").expect("a response");
    assert_eq!(body, b"GET /slow HTTP/1.1");
    drop(stream);
    gate.finish();
}

/// The common name of what is shown to a client that asks for a name.
fn shown(gate: &Shardgate, name: Option<&str>) -> String {
    let mut arguments = vec!["-tls1_2"];
    match name {
        Some(name) => arguments.extend(["-servername", name]),
        None => arguments.push("-noservername"),
    }
    let text = s_client(gate, &arguments, "");
    let line = text.lines().find(|line| line.starts_with("subject=")).unwrap_or("none").replace(' ', "");
    line.rsplit_once("CN=").map_or(line.clone(), |(_, name)| name.to_owned())
}

#[test]
fn the_name_chooses_the_certificate() {
    let ca = Ca::new();
    let default = ca.bundle("default.pem", &["default.test"]);
    ca.bundle("more/one.pem", &["one.test", "alias.test"]);
    ca.bundle("more/wild.pem", &["*.wild.test"]);
    ca.bundle("more/exact.pem", &["exact.wild.test"]);
    let made = ca.make(&["apart.test"], &rcgen::PKCS_ED25519, |_| {});
    ca.write("more/apart.crt", &made.cert_pem);
    ca.write("more/apart.key", &made.key_pem);
    ca.write("more/apart.crt.ocsp", "");
    let origin = Origin::http(|request| ok(request.start()));
    let all = certificates(&[&default, &ca.path("more")]);
    for strict in [false, true] {
        let gate = gate("http", &origin, &format!("{all}, strict-sni = {strict}"), "");
        let fallback = if strict { "none" } else { "default.test" };
        for (name, wanted) in [
            (Some("one.test"), "one.test"),
            (Some("ALIAS.test"), "one.test"),
            (Some("a.wild.test"), "*.wild.test"),
            (Some("exact.wild.test"), "exact.wild.test"),
            (Some("apart.test"), "apart.test"),
            (Some("a.b.wild.test"), fallback),
            (Some("wild.test"), fallback),
            (Some("unknown.test"), fallback),
            (None, fallback),
        ] {
            assert_eq!(shown(&gate, name), wanted, "{name:?}, strict {strict}");
        }
        if strict {
            gate.wait_stat("fe/FRONTEND", "ssl_unknown_name", "4");
        }
        gate.finish();
    }
}

#[test]
fn a_client_gets_the_key_type_that_it_can_check() {
    let ca = Ca::new();
    let rsa = ca.bundle_with("rsa.pem", &["site.test"], &rcgen::PKCS_RSA_SHA256);
    let ecdsa = ca.bundle("ecdsa.pem", &["site.test"]);
    let origin = Origin::http(|request| ok(request.start()));
    let gate = gate("http", &origin, &certificates(&[&rsa, &ecdsa]), "");
    for (offered, wanted) in
        [("RSA-PSS+SHA256:RSA+SHA256:ECDSA+SHA256", "ECDSA"), ("RSA-PSS+SHA256:RSA+SHA256", "RSA-PSS")]
    {
        for version in ["-tls1_2", "-tls1_3"] {
            let text = s_client(&gate, &[version, "-sigalgs", offered, "-servername", "site.test"], "");
            let line = text.lines().find(|line| line.contains("ignature type")).unwrap_or("none");
            assert!(line.to_ascii_uppercase().contains(wanted), "{offered} {version}: {line}\n{text}");
        }
    }
    gate.finish();
}

#[test]
fn versions_suites_and_groups_are_as_configured() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["site.test"]);
    let origin = Origin::http(|request| ok(request.start()));
    let more = "max-version = \"TLSv1.2\", cipher-suites = [\"ECDHE-ECDSA-CHACHA20-POLY1305\"], curves = [\"P-384\"]";
    let gate = gate("http", &origin, &format!("{}, {more}", certificates(&[&pem])), "");
    let text = s_client(&gate, &[], "");
    assert!(text.contains("ECDHE-ECDSA-CHACHA20-POLY1305") && text.contains("384 bits"), "{text}");
    let refused = s_client(&gate, &["-tls1_3"], "");
    assert!(refused.contains("alert protocol version"), "{refused}");
    let refused = s_client(&gate, &["-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "");
    assert!(refused.contains("alert handshake failure"), "{refused}");
    gate.wait_stat("fe/FRONTEND", "ssl_incompatible", "2");
    gate.finish();
}

#[test]
fn plain_http_gets_a_readable_answer() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["site.test"]);
    let origin = Origin::http(|request| ok(request.start()));
    let gate = gate("http", &origin, &certificates(&[&pem]), "");
    let mut client = Wire::new(connect(gate.address("fe")));
    let answer = client.get("/");
    assert_eq!((answer.status(), answer.header("connection")), (400, Some("close")));
    assert!(answer.text().contains("TLS"), "{}", answer.text());
    assert!(client.is_closed());
    gate.wait_stat("fe/FRONTEND", "ssl_not_tls", "1");
    gate.finish();
}

#[test]
fn what_is_no_hello_is_closed_and_counted() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["site.test"]);
    let origin = Origin::http(|request| ok(request.start()));
    let tls = certificates(&[&pem]);
    let gate = gate("http", &origin, &tls, "timeout.client-hs = \"300ms\"");
    let closed = |bytes: &[u8]| {
        let mut socket = connect(gate.address("fe"));
        socket.write_all(bytes).expect("sent");
        let mut answer = Vec::new();
        // A reset is an end too.
        let _ = socket.read_to_end(&mut answer);
        answer
    };
    assert_eq!(closed(&[0; 300]), b"", "garbage");
    assert_eq!(
        closed(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\xff")[..3],
        [21, 3, 3],
        "an alert for a bad hello"
    );
    assert_eq!(closed(b"\x16\x03\x01\x02\x00\x01"), b"", "a hello that never ends");
    assert_eq!(closed(b""), b"", "nothing at all");
    drop(connect(gate.address("fe")));
    gate.wait_stat("fe/FRONTEND", "ssl_not_tls", "1");
    gate.wait_stat("fe/FRONTEND", "ssl_malformed", "1");
    gate.wait_stat("fe/FRONTEND", "ssl_timeout", "2");
    gate.wait_stat("fe/FRONTEND", "ssl_abort", "1");
    gate.wait_stat("fe/FRONTEND", "ssl_failed_handshake", "5");
    assert_eq!(gate.count("fe/FRONTEND", "ereq"), 0);
    gate.finish();
}

#[test]
fn a_proxy_header_comes_before_the_handshake() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["site.test"]);
    let origin = Origin::http(|request| ok(request.header("x-forwarded-for").unwrap_or("none")));
    let body = sections("http", origin.address, &certificates(&[&pem]), "forwardfor = true").replace(
        "address = \"127.0.0.1:0\",",
        "address = \"127.0.0.1:0\", accept-proxy = [\"127.0.0.0/8\"],",
    );
    let gate = Shardgate::start(&body);
    let mut socket = connect(gate.address("fe"));
    socket.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.8 1000 443\r\n").expect("sent");
    let mut client = over(socket, "site.test", Arc::new(ca.client())).expect("a handshake");
    assert_eq!(get(&mut client, "/").expect("a response").1, b"192.0.2.7");
    drop(client);
    gate.finish();
}

#[test]
fn bad_files_are_told_with_their_reason() {
    let ca = Ca::new();
    let one = ca.make(&["one.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let two = ca.make(&["two.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    ca.write("mismatch.pem", &format!("{}{}", one.cert_pem, two.key_pem));
    ca.write("nokey.pem", &one.cert_pem);
    ca.write("nocert.pem", &one.key_pem);
    ca.write("text.pem", "hello");
    let config = ca.write(
        "config.toml",
        "[frontend.fe]\nmode = \"tcp\"\ntimeout.client = \"1s\"\ndefault-backend = \"be\"\nbind = [{ address = \
         \"127.0.0.1:0\", tls = { certificates = [\"mismatch.pem\", \"nokey.pem\", \"nocert.pem\", \"text.pem\", \
         \"missing.pem\"] } }]\n[backend.be]\ntimeout = { connect = \"1s\", server = \"1s\" }\nserver.s.address = \
         \"127.0.0.1:1\"\n",
    );
    let output = Command::new(env!("CARGO_BIN_EXE_shardgate"))
        .args(["check", "--config"])
        .arg(&config)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    for (file, reason) in [
        ("mismatch.pem", "does not belong to the first certificate"),
        ("nokey.pem", "no private key"),
        ("nocert.pem", "no certificate"),
        ("text.pem", "no certificate"),
        ("missing.pem", "No such file"),
    ] {
        let line = text.lines().find(|line| line.contains(file)).unwrap_or_default();
        assert!(line.contains(reason) && line.contains("config.toml:"), "{file}: {text}");
    }
}

#[test]
fn an_origin_that_cuts_a_body_is_seen_by_the_client() -> io::Result<()> {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["site.test"]);
    let origin = Origin::new(|mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    });
    let gate = gate("http", &origin, &certificates(&[&pem]), "");
    let mut client = tls(gate.address("fe"), "site.test", ca.client())?;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let mut all = Vec::new();
    let _ = client.read_to_end(&mut all);
    let text = String::from_utf8_lossy(&all);
    assert!(text.contains("hello") && !text.ends_with("0\r\n\r\n"), "{text}");
    drop(client);
    gate.finish();
    Ok(())
}

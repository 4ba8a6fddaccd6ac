//! What goes wrong on TLS connections, by malice or accident, and what counts it. Handshakes that fail: `tls`; clients that are not let
//! in: `tls_peers`.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::harness::http::ok;
use crate::harness::tls::{Ca, Made, Tls, get, tls};
use crate::harness::{Origin, Shardgate, connect, until};
use crate::shared::activity;
use crate::tls::{certificates, gate, s_client};

/// Waits until cores have counted so many.
fn wait_activity(gate: &Shardgate, name: &str, count: u64) {
    until(&format!("{name} is {count}"), || activity(gate, name) == count);
}

#[test]
fn renegotiation_ends_the_connection_and_is_counted() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["site.test"]);
    let origin = Origin::http(|request| ok(request.start()));
    for mode in ["http", "tcp"] {
        let gate = gate(mode, &origin, &certificates(&[&pem]), "");
        // A line "R" is s_client's command to renegotiate.
        let text = s_client(&gate, &["-tls1_2", "-legacy_renegotiation"], "R\n");
        assert!(text.contains("unexpected message") || text.contains("no renegotiation"), "{mode}: {text}");
        wait_activity(&gate, "tls_unexpected", 1);
        gate.finish();
    }
}

#[test]
fn plain_http_in_tcp_mode_is_closed_without_a_word() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["site.test"]);
    let origin = Origin::echo();
    let gate = gate("tcp", &origin, &certificates(&[&pem]), "");
    let mut socket = connect(gate.address("fe"));
    socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = socket.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    gate.wait_stat("fe/FRONTEND", "ssl_not_tls", "1");
    assert_eq!(origin.accepted(), 0);
    gate.finish();
}

#[test]
fn records_that_were_tampered_with_and_alerts_end_the_connection() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["site.test"]);
    let origin = Origin::http(|request| ok(request.start()));
    let gate = gate("http", &origin, &certificates(&[&pem]), "");
    let shaken = || tls(gate.address("fe"), "site.test", ca.client()).expect("a handshake");
    let mut client = shaken();
    get(&mut client, "/").expect("an answer");
    // A record whose tag is that of nothing.
    client.sock.write_all(&[&[23, 3, 3, 0, 32][..], &[7; 32]].concat()).expect("sent");
    let mut rest = Vec::new();
    let end = client.read_to_end(&mut rest).expect_err("no orderly end");
    assert!(end.to_string().contains("BadRecordMac"), "{end}");
    wait_activity(&gate, "tls_bad_records", 1);
    // A record longer than any.
    let mut client = shaken();
    get(&mut client, "/").expect("an answer");
    client.sock.write_all(&[23, 3, 3, 0xff, 0xff, 0]).expect("sent");
    assert!(client.read_to_end(&mut rest).is_err());
    wait_activity(&gate, "tls_bad_records", 2);
    // OpenSSL says that it does not want the certificate when it sees it: this is counted with the handshakes.
    let text = s_client(&gate, &["-tls1_3", "-verify_return_error"], "");
    assert!(text.contains("verify error"), "{text}");
    gate.wait_stat("fe/FRONTEND", "ssl_alert", "1");
    gate.finish();
}

#[test]
fn a_request_that_is_cut_never_looks_whole() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["site.test"]);
    let origin = Origin::new(|mut stream, shared| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        shared.note(&all);
    });
    let gate = gate("http", &origin, &certificates(&[&pem]), "");
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let cut: [fn(Tls); 2] = [
        // The socket alone is closed.
        |client| client.sock.shutdown(Shutdown::Both).expect("still connected"),
        // It says that nothing more comes, and the body has no end.
        |mut client| {
            client.conn.send_close_notify();
            client.flush().expect("sent");
            client.sock.shutdown(Shutdown::Write).expect("still connected");
            let _ = client.read_to_end(&mut Vec::new());
        },
    ];
    for (at, cut) in cut.into_iter().enumerate() {
        let mut client = tls(gate.address("fe"), "site.test", ca.client()).expect("a handshake");
        client.write_all(head.as_bytes()).expect("sent");
        client.flush().expect("sent");
        until("the origin is connected", || origin.accepted() == at + 1);
        cut(client);
        let seen = String::from_utf8_lossy(&origin.wait_for_notes(at + 1)[at]).into_owned();
        assert!(!seen.ends_with("0\r\n\r\n"), "{seen}");
    }
    gate.wait_stat("be/BACKEND", "cli_abrt", "2");
    wait_activity(&gate, "tls_cut", 1);
    gate.finish();
}

/// A TLS origin that answers with a body without a length and closes, with or without close_notify.
fn closing(own: &Made, says_so: bool) -> Origin {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).expect("a key");
    let config = builder.expect("versions").with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![own.der.clone()], key).expect("a certificate"));
    Origin::new(move |stream, _| {
        let mut tls = StreamOwned::new(ServerConnection::new(config.clone()).expect("a server"), stream);
        let _ = tls.read(&mut [0; 4096]);
        let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello");
        if says_so {
            tls.conn.send_close_notify();
        }
        let _ = tls.flush();
        let _ = tls.sock.shutdown(Shutdown::Write);
        // Until it has been read.
        let _ = tls.sock.read_to_end(&mut Vec::new());
    })
}

fn reencrypting(ca: &Ca, server: SocketAddr) -> Shardgate {
    Shardgate::start(&format!(
        "[frontend.fe]\nmode = \"http\"\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\nmode = \
         \"http\"\nserver.s1 = {{ address = \"{server}\", tls = {{ sni = \"app.test\", ca-file = \"{}\" }} }}\n",
        ca.path("ca.pem").display()
    ))
}

#[test]
fn a_response_that_is_cut_never_looks_whole() {
    let ca = Ca::new();
    let own = ca.make(&["app.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    for says_so in [true, false] {
        let origin = closing(&own, says_so);
        let gate = reencrypting(&ca, origin.address);
        let mut socket = connect(gate.address("fe"));
        socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = Vec::new();
        let end = socket.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        // With a length of its own it ends with a last chunk, otherwise with the connection.
        let is_whole = end.is_ok() && (!text.contains("chunked") || text.ends_with("0\r\n\r\n"));
        assert!(is_whole == says_so && text.contains("hello"), "{says_so}: {end:?} {text}");
        gate.wait_stat("be/s1", "srv_abrt", if says_so { "0" } else { "1" });
        wait_activity(&gate, "tls_cut", u64::from(!says_so));
        gate.finish();
    }
}

#[test]
fn weak_protocols_and_ciphers_are_refused() {
    let ca = Ca::new();
    let (ecdsa, rsa) = (
        ca.bundle("ecdsa.pem", &["site.test"]),
        ca.bundle_with("rsa.pem", &["site.test"], &rcgen::PKCS_RSA_SHA256),
    );
    let origin = Origin::http(|request| ok(request.start()));
    let served = |said: &str| said.contains("Verification") && !said.contains("Cipher is (NONE)");
    for (policy, has_tls12) in [("", true), ("modern", false), ("intermediate", true)] {
        let policy =
            if policy.is_empty() { String::new() } else { format!(", cipher-policy = \"{policy}\"") };
        let gate = gate("http", &origin, &format!("{}{policy}", certificates(&[&ecdsa, &rsa])), "");
        for good in ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"] {
            assert_eq!(
                served(&s_client(&gate, &["-tls1_2", "-cipher", good], "")),
                has_tls12,
                "{policy} {good}"
            );
        }
        let said = s_client(&gate, &["-tls1_3", "-curves", "P-256"], "");
        assert!(served(&said) && !said.contains("Compression: zlib"), "{policy}: {said}");
        if !policy.is_empty() {
            // What is refused without a policy is no part of any.
            gate.finish();
            continue;
        }
        let weakest = "ALL:COMPLEMENTOFALL:@SECLEVEL=0";
        for old in ["-tls1", "-tls1_1"] {
            assert!(!served(&s_client(&gate, &[old, "-cipher", weakest], "")), "{policy} {old}");
        }
        // Without forward secrecy, without authentication, without encryption, in CBC, with 3DES, RC4 or CAMELLIA, with DH.
        for weak in [
            "kRSA", "aNULL", "eNULL", "3DES", "RC4", "CAMELLIA", "ARIA", "kDHE", "SHA1", "SHA256", "SHA384",
            "AESCCM", "PSK",
        ] {
            let ciphers = format!("{weak}:@SECLEVEL=0");
            let said = s_client(&gate, &["-tls1_2", "-cipher", &ciphers], "");
            // Groups of suites have those of GCM in them, which are good.
            let is_good =
                said.contains("Cipher is ECDHE-") && (said.contains("GCM") || said.contains("POLY1305"));
            assert!(!served(&said) || is_good, "{policy} {weak}: {said}");
        }
        assert!(!served(&s_client(
            &gate,
            &["-tls1_2", "-curves", "secp521r1:sect571r1", "-cipher", "ECDHE"],
            ""
        )));
        gate.finish();
    }
}

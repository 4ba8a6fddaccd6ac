//! The pages of docs/scenarios about TLS, each with the very configuration that it shows.

use std::io::Read;
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::harness::http::ok;
use crate::harness::scenario::scenario;
use crate::harness::tls::{Ca, get, response, tls};
use crate::harness::{Origin, connect, until};

/// An HTTPS origin that says its name; with `clients` it wants a certificate of theirs.
fn https(ca: &Ca, host: &str, name: &'static str, clients: Option<&Ca>) -> Origin {
    let own = ca.make(&[host], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let builder = match clients {
        Some(clients) => {
            let roots = Arc::new(clients.roots());
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).expect("a key");
    let config = Arc::new(builder.with_single_cert(vec![own.der.clone()], key).expect("a certificate"));
    Origin::new(move |stream, _| {
        let mut tls = StreamOwned::new(ServerConnection::new(config.clone()).expect("a server"), stream);
        while response(&mut tls).is_ok() {
            if std::io::Write::write_all(&mut tls, ok(name).as_bytes()).is_err() {
                return;
            }
        }
    })
}

#[test]
fn client_certificates() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let pem = ca.bundle("site.pem", &["www.example.com"]);
    let log = ca.path("access.log");
    let origin = Origin::http(|request| {
        let header = |name| request.header(name).unwrap_or("-").to_owned();
        ok(&["x-ssl", "x-ssl-client-verify", "x-ssl-client-cn", "x-ssl-client-serial"].map(header).join(" "))
    });
    let gate = scenario(
        "client-certificates",
        &[
            ("*:443", "127.0.0.1:0"),
            ("/etc/shardgate/site.pem", &pem.display().to_string()),
            ("/etc/shardgate/clients.pem", &clients.path("ca.pem").display().to_string()),
            ("/var/log/shardgate/access.log", &log.display().to_string()),
            ("192.0.2.11:80", &origin.address.to_string()),
        ],
    )
    .start();
    let ann = clients.make(&["ann"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let stranger = Ca::new().make(&["ann"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let ask = |config| {
        let mut client = tls(gate.address("secure"), "www.example.com", config)?;
        let request = b"GET / HTTP/1.1\r\nHost: www.example.com\r\nX-SSL-Client-CN: root\r\n\r\n";
        std::io::Write::write_all(&mut client, request)?;
        response(&mut client).map(|(_, body)| String::from_utf8_lossy(&body).into_owned())
    };
    let serial = format!("{:02X}", ann.serial);
    assert_eq!(ask(ca.client_with(&ann)).expect("trusted"), format!("1 0 ann {serial}"));
    assert_eq!(ask(ca.client()).expect("without one"), "1 0 - -", "what the client says is gone");
    assert!(ask(ca.client_with(&stranger)).is_err());
    let line = "verify=0 used=1 cn=\"ann\" \"GET / HTTP/1.1\"";
    until("the line is there", || std::fs::read_to_string(&log).is_ok_and(|text| text.contains(line)));
    gate.finish();
}

#[test]
fn tls_offload() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["www.example.com"]);
    let origin = Origin::http(|request| {
        assert_eq!(request.header("x-forwarded-proto"), Some("https"));
        "HTTP/1.1 302 Found\r\nLocation: http://test/new\r\nContent-Length: 0\r\n\r\n".to_owned()
    });
    let gate = scenario(
        "tls-offload",
        &[
            ("*:80", "127.0.0.1:0"),
            ("*:443", "127.0.0.1:0"),
            ("/etc/shardgate/site.pem", &pem.display().to_string()),
            ("192.0.2.11:80", &origin.address.to_string()),
        ],
    )
    .start();
    let mut client = tls(gate.address("secure"), "www.example.com", ca.client()).expect("TLS");
    let (head, _) = get(&mut client, "/old").expect("an answer");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("\r\nlocation: https://test/new\r\n"), "{head}");
    assert!(head.contains("\r\nstrict-transport-security: max-age=31536000\r\n"), "{head}");
    let mut clear = gate.wire("clear");
    assert_eq!(clear.get("/a").header("location"), Some("https://test/a"));
    drop((client, clear));
    gate.finish();
}

#[test]
fn sni_routing() {
    let ca = Ca::new();
    let sites = [("www.example.com", "www"), ("mail.example.com", "mail"), ("a.apps.example.com", "apps")];
    let [www, mail, apps] = sites.map(|(host, name)| https(&ca, host, name, None));
    let gate = scenario(
        "sni-routing",
        &[
            ("*:443", "127.0.0.1:0"),
            ("192.0.2.11:443", &www.address.to_string()),
            ("192.0.2.21:443", &mail.address.to_string()),
            ("192.0.2.31:443", &apps.address.to_string()),
        ],
    )
    .start();
    for (host, name) in sites {
        let mut client = tls(gate.address("tls"), host, ca.client()).expect("its own certificate");
        assert_eq!(get(&mut client, "/").expect("an answer").1, name.as_bytes());
    }
    let mut clear = connect(gate.address("tls"));
    std::io::Write::write_all(&mut clear, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    assert_eq!(clear.read(&mut [0; 1]).unwrap_or(0), 0, "no TLS");
    drop(clear);
    gate.finish();
}

#[test]
fn mutual_tls_to_servers() {
    let (ca, clients, others) = (Ca::new(), Ca::new(), Ca::new());
    let pem = ca.bundle("site.pem", &["www.example.com"]);
    let origin = https(&ca, "app.internal", "app1", Some(&clients));
    let run = |own: &Ca| {
        let own = own.bundle("gate.pem", &["gate"]);
        scenario(
            "mutual-tls-to-servers",
            &[
                ("*:443", "127.0.0.1:0"),
                ("/etc/shardgate/site.pem", &pem.display().to_string()),
                ("/etc/shardgate/internal-ca.pem", &ca.path("ca.pem").display().to_string()),
                ("/etc/shardgate/gate.pem", &own.display().to_string()),
                ("192.0.2.11:8443", &origin.address.to_string()),
                ("inter = \"2s\"", "inter = \"200ms\""),
            ],
        )
        .start()
    };
    let gate = run(&clients);
    gate.wait_stat("app/app1", "check_status", "L7OK");
    let mut client = tls(gate.address("secure"), "www.example.com", ca.client()).expect("TLS");
    assert_eq!(get(&mut client, "/").expect("an answer").1, b"app1");
    drop(client);
    gate.finish();
    let gate = run(&others);
    gate.wait_stat("app/app1", "status", "DOWN");
    gate.finish();
}

//! Who shows which certificate to whom: clients that are verified, what rules read of them, and TLS with servers.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::harness::http::{Wire, ok};
use crate::harness::tls::{Ca, Made, Tls, get, response, tls};
use crate::harness::{Origin, Shardgate, connect};

/// A TLS frontend that asks for certificates, with these rules.
fn asking(ca: &Ca, clients: &Ca, server: SocketAddr, more: &str, rules: &str) -> Shardgate {
    let pem = ca.bundle("site.pem", &["site.test"]);
    Shardgate::start(&format!(
        "[frontend.fe]\nmode = \"http\"\nbind = [{{ address = \"127.0.0.1:0\", tls = {{ certificates = \"{}\", ca-file = \
         \"{}\", {more} }} }}]\ndefault-backend = \"be\"\nrules = [{rules}]\n[backend.be]\nmode = \
         \"http\"\nserver.s1.address = \"{server}\"\n",
        pem.display(),
        clients.path("ca.pem").display(),
    ))
}

/// Connects with a certificate and asks; a refusal shows at the first read with TLS 1.3.
fn ask(gate: &Shardgate, config: rustls::ClientConfig) -> io::Result<String> {
    let mut client: Tls = tls(gate.address("fe"), "site.test", config)?;
    get(&mut client, "/").map(|(_, body)| String::from_utf8_lossy(&body).into_owned())
}

/// A certificate that nobody but itself vouches for.
fn self_signed(name: &str) -> Made {
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let key = rcgen::KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("a certificate");
    Made { cert_pem: cert.pem(), key_pem: key.serialize_pem(), der: cert.der().clone(), serial: 0 }
}

#[test]
fn clients_are_verified() {
    let (ca, clients, strangers) = (Ca::new(), Ca::new(), Ca::new());
    let origin = Origin::http(|request| ok(request.header("x-cn").unwrap_or("nobody")));
    let cn = "{ set-header = { name = \"X-CN\", value = \"%[ssl_c_s_dn(cn)]\" }, if = \"{ ssl_c_used }\" }";
    let good = clients.make(&["good"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let revoked = clients.make(&["revoked"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let expired = clients.make(&["expired"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    let usage = clients.make(&["usage"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    let stranger = strangers.make(&["stranger"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let itself = self_signed("itself");
    let crl = clients.write("revoked.pem", &clients.crl(&[revoked.serial]));
    for (verify, without) in [("required", None), ("optional", Some("nobody"))] {
        let more = format!("verify = \"{verify}\", crl-file = \"{}\"", crl.display());
        let gate = asking(&ca, &clients, origin.address, &more, cn);
        assert_eq!(ask(&gate, ca.client_with(&good)).expect("trusted"), "good");
        for bad in [&revoked, &expired, &usage, &stranger, &itself] {
            assert!(ask(&gate, ca.client_with(bad)).is_err(), "{verify}");
        }
        assert_eq!(ask(&gate, ca.client()).ok().as_deref(), without, "{verify}");
        let failures = if without.is_none() { 6 } else { 5 };
        gate.wait_stat("fe/FRONTEND", "ssl_bad_cert", &failures.to_string());
        gate.finish();
    }
}

#[test]
fn rules_judge_what_is_wrong_with_a_client() {
    let (ca, clients, strangers) = (Ca::new(), Ca::new(), Ca::new());
    let origin = Origin::http(|request| ok(request.header("x-cn").unwrap_or("-")));
    let rule = "{ set-header = { name = \"X-CN\", value = \"%[ssl_c_verify]\" } }";
    let with = |ca: &Ca, change: fn(&mut rcgen::CertificateParams)| {
        ca.make(&["client"], &rcgen::PKCS_ECDSA_P256_SHA256, change)
    };
    let over = |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let usage = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    };
    let (good, revoked) = (with(&clients, |_| {}), with(&clients, |_| {}));
    let (expired, both) = (with(&clients, over), with(&clients, over));
    let (stranger, expired_stranger) = (with(&strangers, |_| {}), with(&strangers, over));
    let crl = clients.write("revoked.pem", &clients.crl(&[revoked.serial, both.serial]));
    let gate = |ignored: &str| {
        let more =
            format!("verify = \"optional\", crl-file = \"{}\", crt-ignore-err = {ignored}", crl.display());
        asking(&ca, &clients, origin.address, &more, rule)
    };
    let all = gate("[\"all\"]");
    for (own, number) in [
        (&good, "0"),
        (&expired, "10"),
        (&revoked, "23"),
        (&stranger, "7"),
        (&both, "23"),
        (&expired_stranger, "7"),
        (&self_signed("client"), "18"),
    ] {
        assert_eq!(ask(&all, ca.client_with(own)).expect("let through"), number);
    }
    assert_eq!(ask(&all, ca.client()).expect("let through"), "0");
    assert!(ask(&all, ca.client_with(&with(&clients, usage))).is_err(), "made for another use");
    // A session that goes on is judged anew.
    let config = std::sync::Arc::new(ca.client_with(&expired));
    for resumed in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
        let mut client = crate::harness::tls::over(
            crate::harness::connect(all.address("fe")),
            "site.test",
            config.clone(),
        )
        .expect("a handshake");
        let (_, body) = get(&mut client, "/").expect("an answer");
        assert_eq!((client.conn.handshake_kind(), body), (Some(resumed), b"10".to_vec()));
    }
    all.finish();
    // What is ignored hides nothing else.
    let some = gate("[\"expired\"]");
    assert_eq!(ask(&some, ca.client_with(&expired)).expect("let through"), "10");
    for bad in [&revoked, &both, &stranger, &expired_stranger] {
        assert!(ask(&some, ca.client_with(bad)).is_err());
    }
    some.finish();
}

#[test]
fn what_is_wrong_above_a_client_is_judged_by_itself() {
    let (ca, root, strangers) = (Ca::new(), Ca::new(), Ca::new());
    let origin = Origin::http(|request| ok(request.header("x-cn").unwrap_or("-")));
    let rule = "{ set-header = { name = \"X-CN\", value = \"%[ssl_c_verify] %[ssl_c_err] %[ssl_c_ca_err] \
                %[ssl_c_ca_err_depth]\" } }";
    let over = |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let (good, old) = (root.below("Good CA", |_| {}), root.below("Old CA", over));
    let (revoked, strange) = (root.below("Revoked CA", |_| {}), strangers.below("Strange CA", |_| {}));
    // Serial numbers of authorities follow each other: good, old, revoked.
    let lists = root.crl(&[4]) + &good.crl(&[]) + &old.crl(&[]) + &revoked.crl(&[]);
    let crl = root.write("revoked.pem", &lists);
    let client = |ca: &Ca, change: fn(&mut rcgen::CertificateParams)| {
        ca.make(&["client"], &rcgen::PKCS_ECDSA_P256_SHA256, change)
    };
    let expired = |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let cases = [
        (client(&good, |_| {}), &good, "0 0 0 0"),
        (client(&good, expired), &good, "10 10 0 0"),
        (client(&old, |_| {}), &old, "10 0 10 1"),
        (client(&old, expired), &old, "10 10 10 1"),
        (client(&revoked, |_| {}), &revoked, "23 0 23 1"),
        // Its root has the name of the one that is trusted, and not its key.
        (client(&strange, |_| {}), &strange, "7 0 7 1"),
    ];
    for (ignored, expected) in [
        ("crt-ignore-err = [\"all\"]", [true, true, false, false, false, false]),
        ("ca-ignore-err = [\"all\"]", [true, false, true, false, true, true]),
        ("crt-ignore-err = [\"all\"], ca-ignore-err = [\"all\"]", [true; 6]),
        ("crt-ignore-err = [\"all\"], ca-ignore-err = [\"expired\"]", [true, true, true, true, false, false]),
    ] {
        let more = format!("verify = \"required\", crl-file = \"{}\", {ignored}", crl.display());
        let gate = asking(&ca, &root, origin.address, &more, rule);
        for ((own, above, found), is_let) in cases.iter().zip(expected) {
            let answer = ask(&gate, ca.client_with_chain(own, &[above]));
            assert_eq!(answer.ok().as_deref(), is_let.then_some(*found), "{ignored}: {found}");
        }
        gate.finish();
    }
}

#[test]
fn clients_are_not_told_of_all_authorities() {
    let (ca, named, silent) = (Ca::new(), Ca::new(), Ca::new());
    let origin = Origin::http(|_| ok("served"));
    let more = format!("verify = \"required\", ca-verify-file = \"{}\"", silent.path("ca.pem").display());
    let gate = asking(&ca, &named, origin.address, &more, "");
    for own in [&named, &silent] {
        let own = own.make(&["client"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
        assert_eq!(ask(&gate, ca.client_with(&own)).expect("let through"), "served");
    }
    // Both have the same name, so that what is sent is counted.
    let other = Ca::new().below("Other CA", |_| {});
    let hints = |ca_file: &str| {
        let more = format!("verify = \"optional\", ca-verify-file = \"{}\"", other.path("ca.pem").display());
        let pem = ca.bundle("site.pem", &["site.test"]);
        let gate = Shardgate::start(&format!(
            "[frontend.fe]\nmode = \"http\"\nbind = [{{ address = \"127.0.0.1:0\", tls = {{ certificates = \"{}\"{ca_file}, \
             {more} }} }}]\ndefault-backend = \"be\"\n[backend.be]\nmode = \"http\"\nserver.s1.address = \"{}\"\n",
            pem.display(),
            origin.address
        ));
        let said = crate::tls::s_client(&gate, &["-tls1_3"], "");
        gate.finish();
        said.lines().filter(|line| line.contains("CN = Test CA") || line.contains("CN=Test CA")).count()
    };
    let named = format!(", ca-file = \"{}\"", named.path("ca.pem").display());
    assert!(hints(&named) > hints(""), "only those of ca-file are named");
    gate.finish();
}

#[test]
fn rules_read_the_connection_and_the_certificate() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let origin = Origin::http(|request| ok(request.header("x-all").unwrap_or("none")));
    let fetches = [
        "ssl_fc",
        "ssl_fc_protocol",
        "ssl_fc_cipher",
        "ssl_fc_sni",
        "ssl_fc_alpn",
        "ssl_fc_is_resumed",
        "ssl_c_used",
        "ssl_c_verify",
        "ssl_c_s_dn",
        "ssl_c_s_dn(o)",
        "ssl_c_s_dn(,0,rfc2253)",
        "ssl_c_i_dn(cn)",
        "ssl_c_notbefore",
        "ssl_c_notafter(iso)",
        "ssl_c_serial,hex",
        "ssl_c_version",
        "ssl_c_sig_alg",
        "ssl_c_key_alg",
    ];
    let value: Vec<String> = fetches.iter().map(|fetch| format!("%[{fetch}]")).collect();
    let rule = format!("{{ set-header = {{ name = \"X-All\", value = \"{}\" }} }}", value.join("|"));
    let gate = asking(&ca, &clients, origin.address, "verify = \"optional\"", &rule);
    let own = clients.make(&["Ann, Example"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.not_before = rcgen::date_time_ymd(2021, 2, 3);
        params.not_after = rcgen::date_time_ymd(2099, 12, 31);
        params.subject_alt_names.clear();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Acme/Co");
    });
    let mut config = ca.client_with(&own);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let serial = format!("{:02X}", own.serial);
    assert_eq!(
        ask(&gate, config).expect("an answer"),
        format!(
            "1|TLSv1.3|TLS_AES_128_GCM_SHA256|site.test|http/1.1|0|1|0|/CN=Ann, Example/O=Acme_Co|Acme/Co|O=Acme/Co,CN=Ann\\, \
             Example|Test CA|210203000000Z|2099-12-31T00:00:00Z|{serial}|3|ecdsa-with-SHA256|id-ecPublicKey"
        )
    );
    let mut config = ca.client();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let plain = ask(&gate, config).expect("an answer");
    assert!(plain.ends_with("|0|0|0||||||||||"), "{plain}");
    gate.finish();
}

/// An HTTPS origin that says who asked for which name.
fn tls_origin(ca: &Ca, own: &Made, clients: Option<&Ca>) -> Origin {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        Some(clients) => {
            let roots = Arc::new(clients.roots());
            builder.with_client_cert_verifier(
                rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .expect("a verifier"),
            )
        }
        None => builder.with_no_client_auth(),
    };
    let _ = ca;
    let chain = vec![own.der.clone()];
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).expect("a key");
    let mut config = builder.with_single_cert(chain, key).expect("a certificate");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = Arc::new(config);
    Origin::new(move |stream, _| {
        let mut tls = StreamOwned::new(ServerConnection::new(config.clone()).expect("a server"), stream);
        loop {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                if !matches!(tls.read(&mut byte), Ok(1)) {
                    return;
                }
                head.push(byte[0]);
            }
            let asked = tls.conn.server_name().unwrap_or("none").to_owned();
            let shown = tls.conn.peer_certificates().map_or(0, <[_]>::len);
            if tls.write_all(ok(&format!("{asked} {shown}")).as_bytes()).is_err() || tls.flush().is_err() {
                return;
            }
        }
    })
}

/// A plain frontend whose server speaks TLS in this way.
fn reencrypting(server: SocketAddr, tls: &str) -> Shardgate {
    Shardgate::start(&format!(
        "[frontend.fe]\nmode = \"http\"\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\nmode = \
         \"http\"\nserver.s1 = {{ address = \"{server}\", tls = {tls} }}\n"
    ))
}

#[test]
fn servers_are_verified() {
    let (ca, others) = (Ca::new(), Ca::new());
    let own = ca.make(&["app.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let origin = tls_origin(&ca, &own, None);
    let (good, bad) = (ca.path("ca.pem"), others.path("ca.pem"));
    let (good, bad) = (good.display(), bad.display());
    for (tls, wanted) in [
        (format!("{{ sni = \"app.test\", ca-file = \"{good}\" }}"), Some("app.test 0")),
        (
            format!("{{ sni = \"x.test\", verifyhost = \"app.test\", ca-file = \"{good}\" }}"),
            Some("x.test 0"),
        ),
        (format!("{{ sni = \"x.test\", ca-file = \"{good}\" }}"), None),
        (format!("{{ sni = \"app.test\", ca-file = \"{bad}\" }}"), None),
        (format!("{{ ca-file = \"{good}\" }}"), None),
        ("{ sni = \"x.test\", verify = \"none\" }".to_owned(), Some("x.test 0")),
        ("true".to_owned(), None),
    ] {
        let gate = reencrypting(origin.address, &tls);
        let mut client: Wire = gate.wire("fe");
        let answer = client.get("/");
        match wanted {
            Some(text) => {
                assert_eq!((answer.status(), answer.text().as_str()), (200, text), "{tls}");
                assert_eq!(client.get("/").text(), text, "over the same connection");
                gate.wait_stat("be/s1", "ssl_sess", "1");
                gate.wait_stat("be/s1", "reuse", "1");
            }
            None => {
                assert_eq!(answer.status(), 503, "{tls}");
                gate.wait_stat("be/s1", "ssl_bad_cert", &gate.stat("be/s1", "ssl_failed_handshake"));
                assert!(gate.count("be/s1", "ssl_bad_cert") > 0);
            }
        }
        drop(client);
        gate.finish();
    }
}

#[test]
fn an_expression_says_whom_a_server_is_asked_for() {
    let ca = Ca::new();
    let own = ca.make(&["a.test", "b.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let origin = tls_origin(&ca, &own, None);
    let pem = ca.bundle("site.pem", &["a.test", "b.test", "c.test"]);
    let rules = "rules = [{ set-var = { name = \"txn.sni\", value = \"req.hdr(x-name)\" } }]";
    let gate = |sni: &str| {
        Shardgate::start(&format!(
            "[frontend.fe]\nmode = \"http\"\nbind = [{{ address = \"127.0.0.1:0\", tls = {{ certificates = \"{}\" }} \
             }}]\ndefault-backend = \"be\"\n{rules}\n[backend.be]\nmode = \"http\"\nserver.s1 = {{ address = \"{}\", tls = {{ sni = \
             \"{sni}\", ca-file = \"{}\" }} }}\n",
            pem.display(),
            origin.address,
            ca.path("ca.pem").display()
        ))
    };
    let ask = |client: &mut Tls, name: &str| {
        write!(client, "GET / HTTP/1.1\r\nHost: test\r\nX-Name: {name}\r\n\r\n").expect("open");
        client.flush().expect("open");
        let (head, body) = response(client).expect("an answer");
        (head[9..12].to_owned(), String::from_utf8_lossy(&body).into_owned())
    };
    let served = |name: &str| ("200".to_owned(), format!("{name} 0"));
    let by_client = gate("ssl_fc_sni");
    for name in ["a.test", "b.test"] {
        let mut client = tls(by_client.address("fe"), name, ca.client()).expect("a handshake");
        assert_eq!(ask(&mut client, "x"), served(name));
        assert_eq!(ask(&mut client, "x"), served(name));
    }
    assert_eq!(by_client.count("be/s1", "ssl_sess"), 2, "a connection each");
    let mut client = tls(by_client.address("fe"), "c.test", ca.client()).expect("a handshake");
    assert_eq!(ask(&mut client, "x").0, "503", "its certificate has no such name");
    drop(client);
    by_client.finish();
    let by_request = gate("var(txn.sni)");
    let mut client = tls(by_request.address("fe"), "a.test", ca.client()).expect("a handshake");
    for name in ["a.test", "b.test", "a.test"] {
        assert_eq!(ask(&mut client, name), served(name));
    }
    drop(client);
    by_request.finish();
}

#[test]
fn sessions_with_servers_are_resumed() {
    let ca = Ca::new();
    let own = ca.make(&["app.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let origin = tls_origin(&ca, &own, None);
    let good = ca.path("ca.pem");
    for (more, resumed) in [("", 2), (", no-ssl-reuse = true", 0)] {
        let gate = Shardgate::with(&format!(
            "[frontend.fe]\nmode = \"http\"\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\nmode = \
             \"http\"\nhttp-reuse = \"never\"\nserver.s1 = {{ address = \"{}\", tls = {{ sni = \"app.test\", ca-file = \"{}\"{more} }} \
             }}\n",
            origin.address,
            good.display()
        ));
        let gate = gate.cores(1).start();
        for _ in 0..3 {
            assert_eq!(gate.wire("fe").get("/").text(), "app.test 0");
        }
        gate.wait_stat("be/s1", "ssl_sess", "3");
        assert_eq!(gate.count("be/s1", "ssl_reused_sess"), resumed, "{more}");
        gate.finish();
    }
}

/// Two backends with the same server, each with TLS of its own.
fn two_backends(server: SocketAddr, tls: [&str; 2]) -> String {
    let backend = |name: &str, tls: &str| {
        format!(
            "[backend.{name}]\nmode = \"http\"\nhttp-reuse = \"always\"\nserver.s = {{ address = \"{server}\", tls = {tls} }}\n"
        )
    };
    format!(
        "[frontend.fe]\nmode = \"http\"\nbind = \"127.0.0.1:0\"\ndefault-backend = \"a\"\nrules = [{{ use-backend = \"b\", if = \
         \"{{ path /b }}\" }}]\n{}{}",
        backend("a", tls[0]),
        backend("b", tls[1])
    )
}

#[test]
fn connections_are_shared_only_where_the_same_was_verified() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let own = ca.make(&["app.test", "b.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let origin = tls_origin(&ca, &own, None);
    let (good, client) = (ca.path("ca.pem"), clients.bundle("client.pem", &["gate"]));
    let both = ca.write("both.pem", &std::fs::read_to_string(&good).expect("readable"));
    let base = format!("sni = \"app.test\", ca-file = \"{}\"", good.display());
    for (other, is_shared) in [
        (base.clone(), true),
        (format!("sni = \"b.test\", ca-file = \"{}\"", good.display()), false),
        (format!("{base}, verifyhost = \"b.test\""), false),
        (format!("sni = \"app.test\", ca-file = \"{}\"", both.display()), false),
        (format!("{base}, certificate = \"{}\"", client.display()), false),
        ("sni = \"app.test\", verify = \"none\"".to_owned(), false),
        (format!("{base}, min-version = \"TLSv1.3\""), false),
        (format!("sni = \"ssl_fc_sni\", verifyhost = \"app.test\", ca-file = \"{}\"", good.display()), false),
    ] {
        let text = two_backends(origin.address, [&format!("{{ {base} }}"), &format!("{{ {other} }}")]);
        let gate = Shardgate::with(&text).cores(1).start();
        let mut wire = gate.wire("fe");
        for path in ["/a", "/b", "/a", "/b"] {
            assert_eq!(wire.get(path).status(), 200, "{other}: {path}");
        }
        drop(wire);
        let opened = gate.count("a/s", "ssl_sess") + gate.count("b/s", "ssl_sess");
        assert_eq!(opened == 1, is_shared, "{other}: {opened}");
        gate.finish();
    }
}

#[test]
fn other_authorities_verify_servers_again() {
    let (ca, others, clients) = (Ca::new(), Ca::new(), Ca::new());
    let own = ca.make(&["app.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let origin = tls_origin(&ca, &own, None);
    let read = |ca: &Ca| std::fs::read_to_string(ca.path("ca.pem")).expect("readable");
    let trusted = ca.write("trusted.pem", &read(&ca));
    let client = clients.bundle("client.pem", &["gate"]);
    let tls = format!(
        "{{ sni = \"app.test\", ca-file = \"{}\", certificate = \"{}\" }}",
        trusted.display(),
        client.display()
    );
    let text = two_backends(origin.address, [&tls, &tls]);
    let mut gate = Shardgate::with(&text).cores(1).start();
    let get = |gate: &Shardgate| gate.wire("fe").get("/a").status();
    assert_eq!((get(&gate), get(&gate), gate.count("a/s", "ssl_sess")), (200, 200, 1));
    gate.reload(&text);
    assert_eq!((get(&gate), gate.count("a/s", "ssl_sess")), (200, 1), "what did not change is kept");
    ca.write("trusted.pem", &read(&others));
    gate.reload(&text);
    assert_eq!(get(&gate), 503, "nobody vouches for it any more");
    ca.write("trusted.pem", &(read(&ca) + &read(&others)));
    gate.reload(&text);
    assert_eq!((get(&gate), gate.count("a/s", "ssl_sess")), (200, 2));
    // Another certificate of ours is shown from then on.
    let other = clients.make(&["gate"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let payload = format!("{}{}", other.cert_pem, other.key_pem);
    gate.ask(&format!("set ssl cert client.pem <<\n{payload}\n"));
    assert!(gate.ask("commit ssl cert client.pem").contains("Success!"));
    assert_eq!((get(&gate), gate.count("a/s", "ssl_sess")), (200, 3));
    gate.finish();
}

#[test]
fn checks_may_ask_for_another_name_than_requests() {
    let ca = Ca::new();
    let own = ca.make(&["app.test", "health.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let origin = tls_origin(&ca, &own, None);
    let gate = Shardgate::start(&format!(
        "[frontend.fe]\nmode = \"http\"\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\nmode = \
         \"http\"\nhttpchk = true\nhttp-check = [{{ expect-string = \"health.test\" }}]\nserver.s1 = {{ address = \"{}\", check = true, inter = \
         \"50ms\", check-sni = \"health.test\", tls = {{ sni = \"app.test\", ca-file = \"{}\" }} }}\n",
        origin.address,
        ca.path("ca.pem").display()
    ));
    gate.wait_stat("be/s1", "check_status", "L7OK");
    for _ in 0..3 {
        assert_eq!(gate.wire("fe").get("/").text(), "app.test 0");
    }
    gate.wait_stat("be/s1", "check_status", "L7OK");
    assert_eq!(gate.wire("fe").get("/").text(), "app.test 0");
    gate.finish();
}

#[test]
fn a_server_gets_our_certificate() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let own = ca.make(&["app.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let origin = tls_origin(&ca, &own, Some(&clients));
    let client = clients.bundle("client.pem", &["gate"]);
    let tls = format!(
        "{{ sni = \"app.test\", ca-file = \"{}\", certificate = \"{}\" }}",
        ca.path("ca.pem").display(),
        client.display()
    );
    let gate = reencrypting(origin.address, &tls);
    assert_eq!(gate.wire("fe").get("/").text(), "app.test 1");
    gate.finish();
}

#[test]
fn our_own_tls_is_the_scheme_without_anybody_saying_so() {
    let ca = Ca::new();
    let origin = Origin::http(|request| {
        assert_eq!(request.header("x-forwarded-proto"), None);
        let host = request.header("host").unwrap_or_default().to_owned();
        let tls = request.header("x-tls").unwrap_or_default();
        format!("HTTP/1.1 302 Found\r\nLocation: http://{host}:8080/{tls}\r\nContent-Length: 0\r\n\r\n")
    });
    let pem = ca.bundle("site.pem", &["site.test"]);
    let gate = Shardgate::start(&format!(
        "[frontend.fe]\nmode = \"http\"\nbind = [\n  {{ name = \"tls\", address = \"127.0.0.1:0\", tls = {{ certificates = \
         \"{}\" }} }},\n  {{ name = \"plain\", address = \"127.0.0.1:0\" }},\n]\nlocation = \"same-host\"\ndefault-backend = \
         \"be\"\nrules = [{{ set-header = {{ name = \"X-TLS\", value = \"%[ssl_fc]\" }} }}]\n[backend.be]\nmode = \
         \"http\"\nserver.s1.address = \"{}\"\n",
        pem.display(),
        origin.address
    ));
    let mut client = tls(gate.bind_address("fe", "tls"), "site.test", ca.client()).expect("TLS");
    let (head, _) = get(&mut client, "/").expect("an answer");
    assert!(head.to_ascii_lowercase().contains("\r\nlocation: https://test/1\r\n"), "{head}");
    let mut plain = Wire::new(connect(gate.bind_address("fe", "plain")));
    assert_eq!(plain.get("/").header("location"), Some("http://test/0"));
    drop((client, plain));
    gate.finish();
}

#[test]
fn checks_go_the_way_of_the_traffic() {
    let (ca, others) = (Ca::new(), Ca::new());
    let own = ca.make(&["app.test", "health.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let origin = tls_origin(&ca, &own, None);
    let plain = Origin::http(|_| ok("in the clear"));
    let path = |ca: &Ca| ca.path("ca.pem").display().to_string();
    let (good, bad) = (path(&ca), path(&others));
    let app = format!("tls = {{ sni = \"app.test\", ca-file = \"{good}\" }}");
    let http = "httpchk = { method = \"GET\", uri = \"/\" }\n";
    let other_port = format!("{app}, port = {}", plain.address.port());
    for (kind, keys, server, status) in [
        ("", app.clone(), &origin, "L6OK"),
        (http, app.clone(), &origin, "L7OK"),
        (
            "tcp-check = [{ connect = {} }, { send = \"GET / HTTP/1.1\\r\\n\\r\\n\" }, { expect-string = \"app.test\" }]\n",
            app.clone(),
            &origin,
            "L7OK",
        ),
        (
            "http-check = [{ expect-string = \"health.test\" }]\n",
            format!("{app}, check-sni = \"health.test\""),
            &origin,
            "L7OK",
        ),
        // A name that the certificate does not have, and an authority that nobody trusts.
        (http, format!("{app}, check-sni = \"x.test\""), &origin, "L6RSP"),
        ("", format!("tls = {{ sni = \"app.test\", ca-file = \"{bad}\" }}"), &origin, "L6RSP"),
        // It waits for the end of a request.
        ("", app.clone(), &plain, "L6TOUT"),
        (http, format!("{app}, check-tls = false"), &origin, "L7RSP"),
        (http, format!("{app}, check-tls = false"), &plain, "L7OK"),
        (http, other_port.clone(), &origin, "L7OK"),
        (http, format!("{other_port}, check-tls = true"), &origin, "L6TOUT"),
    ] {
        let gate = Shardgate::start(&format!(
            "[frontend.fe]\nmode = \"http\"\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\nmode = \
             \"http\"\n{}{kind}server.s1 = {{ address = \"{}\", check = true, inter = \"200ms\", {keys} }}\n",
            if kind.starts_with("http-check") { http } else { "" },
            server.address
        ));
        gate.wait_stat("be/s1", "check_status", status);
        gate.finish();
    }
}

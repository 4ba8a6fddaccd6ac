//! Certificates that change while traffic flows, tickets of sessions, and settings of single names.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::{ClientConfig, HandshakeKind};

use crate::harness::http::ok;
use crate::harness::tls::{Ca, Made, Tls, get, over, response, tls};
use crate::harness::{Origin, Shardgate, connect, program, until};

/// An HTTPS frontend `fe` with one bind `b` and these keywords of `tls`.
fn gate(origin: &Origin, tls: &str) -> Shardgate {
    Shardgate::start(&body(origin, tls))
}

fn body(origin: &Origin, tls: &str) -> String {
    format!(
        "[frontend.fe]\nmode = \"http\"\nbind = [{{ name = \"b\", address = \"127.0.0.1:0\", tls = {{ {tls} }} \
         }}]\ndefault-backend = \"be\"\n[backend.be]\nmode = \"http\"\nserver.s1.address = \"{}\"\n",
        origin.address
    )
}

fn origin() -> Origin {
    Origin::http(|request| ok(request.start()))
}

fn pem(made: &Made) -> String {
    format!("{}{}", made.cert_pem, made.key_pem)
}

fn made(ca: &Ca, names: &[&str]) -> Made {
    ca.make(names, &rcgen::PKCS_ECDSA_P256_SHA256, |_| {})
}

/// The certificate that a client gets who asks for a name.
fn shown(gate: &Shardgate, ca: &Ca, name: &str) -> Vec<u8> {
    let client = tls(gate.address("fe"), name, ca.client()).expect("a handshake");
    client.conn.peer_certificates().expect("a certificate")[0].to_vec()
}

fn set(gate: &Shardgate, name: &Path, pem: &str) -> String {
    gate.ask(&format!("set ssl cert {} <<\n{pem}\n", name.display()))
}

#[test]
fn a_certificate_is_replaced_without_a_reload() {
    let (ca, origin) = (Ca::new(), origin());
    let (first, second) = (made(&ca, &["site.test"]), made(&ca, &["site.test"]));
    let path = ca.write("site.pem", &pem(&first));
    let gate = gate(&origin, &format!("certificates = \"{}\"", path.display()));
    let name = path.display();
    let mut old = tls(gate.address("fe"), "site.test", ca.client()).expect("a handshake");
    assert_eq!(gate.ask("show ssl cert").trim(), format!("# filename\n{name}"));
    assert!(gate.ask("commit ssl cert site.pem").contains("No ongoing transaction!"));
    assert!(set(&gate, &path, &pem(&second)).contains("Transaction created for certificate"));
    assert!(gate.ask("show ssl cert").contains(&format!("# transaction\n*{name}\n")));
    let text = gate.ask("show ssl cert *site.pem");
    assert!(
        text.contains("Status: Unused") && text.contains(&format!("Serial: {:02X}", second.serial)),
        "{text}"
    );
    assert_eq!(shown(&gate, &ca, "site.test"), first.der.to_vec(), "not before the commit");
    assert!(gate.ask("commit ssl cert site.pem").contains("Success!"));
    assert_eq!(shown(&gate, &ca, "site.test"), second.der.to_vec());
    assert!(get(&mut old, "/").expect("still served").0.starts_with("HTTP/1.1 200"));
    let text = gate.ask("show ssl cert site.pem");
    for line in [
        "Status: Used",
        "Subject: /CN=site.test",
        "Issuer: /CN=Test CA",
        "Subject Alternative Name: DNS:site.test",
        "Algorithm: EC256",
        "OCSP Response: none",
        "Used by: fe/b",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert_eq!(gate.ask("dump ssl cert site.pem").matches("-----BEGIN ").count(), 2);
    assert!(set(&gate, &path, &pem(&first)).contains("Transaction created"));
    assert!(gate.ask("abort ssl cert site.pem").contains("Transaction aborted"));
    assert_eq!(shown(&gate, &ca, "site.test"), second.der.to_vec());
    // The file is as it was, and a reload reads it.
    gate.try_reload().expect("a reload");
    assert_eq!(shown(&gate, &ca, "site.test"), first.der.to_vec());
    drop(old);
    gate.finish();
}

#[test]
fn what_does_not_fit_is_refused_and_the_old_one_served() {
    let (ca, origin) = (Ca::new(), origin());
    let (first, second) = (made(&ca, &["site.test"]), made(&ca, &["site.test"]));
    let path = ca.write("site.pem", &pem(&first));
    let gate = gate(&origin, &format!("certificates = \"{}\"", path.display()));
    let mixed = format!("{}{}", second.cert_pem, first.key_pem);
    for (payload, why) in [
        (mixed.as_str(), "the private key does not belong to the first certificate"),
        (first.key_pem.as_str(), "there is no certificate in it"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "the private key does not belong"),
    ] {
        let text = set(&gate, &path, payload);
        if text.contains("Transaction") {
            // A certificate alone is to go with the key that is there.
            let text = gate.ask("commit ssl cert site.pem");
            assert!(text.contains("Can't commit"), "{text}");
            assert!(gate.ask("abort ssl cert site.pem").contains("aborted"));
        } else {
            assert!(text.contains(why), "{text}");
        }
        assert_eq!(shown(&gate, &ca, "site.test"), first.der.to_vec());
    }
    assert!(
        set(&gate, Path::new("other.pem"), &pem(&second)).contains("Can't find the certificate 'other.pem'")
    );
    assert!(gate.ask("del ssl cert site.pem").contains("is in use"));
    // A part at a time.
    assert!(set(&gate, &path, &second.cert_pem).contains("Transaction created"));
    assert!(gate.ask("commit ssl cert site.pem").contains("does not belong"));
    assert!(set(&gate, Path::new("site.key"), &second.key_pem).contains("Transaction updated"));
    assert!(gate.ask("commit ssl cert site.pem").contains("Success!"));
    assert_eq!(shown(&gate, &ca, "site.test"), second.der.to_vec());
    // A reload does not take a broken file either.
    std::fs::write(&path, &mixed).expect("writable");
    let refused = gate.try_reload().expect_err("a broken pair");
    assert!(refused.contains("site.pem") && refused.contains("does not belong"), "{refused}");
    assert_eq!(shown(&gate, &ca, "site.test"), second.der.to_vec());
    gate.finish();
}

#[test]
fn names_come_and_go_with_lists() {
    let (ca, origin) = (Ca::new(), origin());
    let (site, shop) = (made(&ca, &["site.test"]), made(&ca, &["shop.test", "*.shop.test"]));
    ca.write("certs/site.pem", &pem(&site));
    let directory = ca.path("certs");
    let list = directory.display();
    let gate = gate(&origin, &format!("certificates = \"{list}\", strict-sni = true"));
    let is_known = |name: &str| tls(gate.address("fe"), name, ca.client()).is_ok();
    assert!(!is_known("shop.test"));
    let shop_path = ca.path("certs/shop.pem");
    let name = shop_path.display();
    assert!(gate.ask(&format!("new ssl cert {name}")).contains("New empty certificate store"));
    assert!(gate.ask(&format!("add ssl crt-list {list} {name}")).contains("set and commit it first"));
    assert!(set(&gate, &shop_path, &pem(&shop)).contains("Transaction created"));
    assert!(gate.ask("commit ssl cert shop.pem").contains("Success!"));
    assert!(!is_known("shop.test"), "no list has it");
    assert!(gate.ask("show ssl cert shop.pem").contains("Status: Unused"));
    assert!(gate.ask("show ssl crt-list").lines().any(|line| line == directory.to_string_lossy()));
    let added = gate.ask(&format!("add ssl crt-list {list} <<\n{name} *.shop.test !old.shop.test\n\n"));
    assert!(added.contains("Success!"), "{added}");
    assert!(is_known("new.shop.test") && !is_known("old.shop.test") && !is_known("shop.test"));
    assert!(
        gate.ask(&format!("show ssl crt-list -n {list}")).contains("shop.pem:2 *.shop.test !old.shop.test")
    );
    assert!(gate.ask(&format!("del ssl crt-list {list} {name}")).contains("deleted in crtlist"));
    assert!(!is_known("new.shop.test"));
    assert!(gate.ask("add ssl crt-list fe/b shop.pem").contains("Success!"));
    assert!(is_known("shop.test") && is_known("old.shop.test"));
    assert!(gate.ask("del ssl crt-list fe/b shop.pem").contains("deleted"));
    assert!(gate.ask("del ssl crt-list fe/b site.pem").contains("the last certificate"));
    assert!(gate.ask("del ssl cert shop.pem").contains("deleted!"));
    assert!(is_known("site.test"));
    gate.finish();
}

#[test]
fn certificates_near_their_end_are_told_of() {
    let (ca, origin) = (Ca::new(), origin());
    let make = |file: &str, name: &str, end: Option<(i32, u8, u8)>| {
        let made = ca.make(&[name], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
            if let Some((year, month, day)) = end {
                params.not_after = rcgen::date_time_ymd(year, month, day);
            }
        });
        ca.write(file, &pem(&made));
    };
    make("certs/gone.pem", "gone.test", Some((2020, 1, 1)));
    make("certs/good.pem", "good.test", None);
    let gate = gate(&origin, &format!("certificates = \"{}\"", ca.path("certs").display()));
    gate.wait_log("gone.pem has expired; replace it and reload");
    assert_eq!(gate.info("SslCertificates"), "2");
    assert_eq!(gate.info("SslCertificatesExpired"), "1");
    assert_eq!(gate.info("SslNextExpiry_sec"), "0");
    assert!(!gate.log().contains("good.pem"));
    gate.finish();
}

/// Connects twice with one memory of sessions: how the second handshake went.
fn again(
    first: &Shardgate,
    second: &Shardgate,
    binds: [&str; 2],
    config: ClientConfig,
) -> io::Result<Option<HandshakeKind>> {
    let config = Arc::new(config);
    let ask = |gate: &Shardgate, bind: &str| -> io::Result<Tls> {
        let mut client = over(connect(gate.bind_address("fe", bind)), "site.test", config.clone())?;
        // Tickets come with the answer.
        get(&mut client, "/")?;
        Ok(client)
    };
    ask(first, binds[0])?;
    Ok(ask(second, binds[1])?.conn.handshake_kind())
}

#[test]
fn a_session_is_no_way_around_a_client_certificate() {
    let (ca, clients, origin) = (Ca::new(), Ca::new(), origin());
    let path = ca.bundle("site.pem", &["site.test"]);
    let tls = |more: &str| format!("tls = {{ certificates = \"{}\"{more} }}", path.display());
    let asking = format!(", verify = \"required\", ca-file = \"{}\"", clients.path("ca.pem").display());
    let gate = Shardgate::start(&format!(
        "[frontend.fe]\nmode = \"http\"\nbind = [\n  {{ name = \"open\", address = \"127.0.0.1:0\", {} }},\n  {{ name = \
         \"same\", address = \"127.0.0.1:0\", {} }},\n  {{ name = \"closed\", address = \"127.0.0.1:0\", {} \
         }},\n]\ndefault-backend = \"be\"\n[backend.be]\nmode = \"http\"\nserver.s1.address = \"{}\"\n",
        tls(""),
        tls(""),
        tls(&asking),
        origin.address
    ));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = || ca.client_of(&[version]);
        let kind = again(&gate, &gate, ["open", "same"], config()).expect("served");
        assert_eq!(kind, Some(HandshakeKind::Resumed), "{version:?}");
        assert!(again(&gate, &gate, ["open", "closed"], config()).is_err(), "{version:?}");
    }
    gate.finish();
}

#[test]
fn machines_share_the_keys_of_a_file() {
    let (ca, origin) = (Ca::new(), origin());
    let path = ca.bundle("site.pem", &["site.test"]);
    let line = |byte: char| format!("{}\n", String::from(byte).repeat(64));
    let keys = ca.write("tickets.keys", &(line('A') + &line('B')));
    let tls = |more: &str| format!("certificates = \"{}\"{more}", path.display());
    let with_keys = tls(&format!(", tls-ticket-keys = \"{}\"", keys.display()));
    let (one, two) = (gate(&origin, &with_keys), gate(&origin, &with_keys));
    let apart = gate(&origin, &tls(""));
    let without = gate(&origin, &tls(", no-tls-tickets = true, session-cache = 0"));
    let kind = |first, second| again(first, second, ["b", "b"], ca.client()).expect("served");
    assert_eq!(kind(&one, &two), Some(HandshakeKind::Resumed));
    assert_ne!(kind(&one, &apart), Some(HandshakeKind::Resumed));
    assert_ne!(kind(&without, &without), Some(HandshakeKind::Resumed));
    // The key that sealed before still opens after the next one came.
    std::fs::write(&keys, line('B') + &line('C') + &line('D')).expect("writable");
    two.try_reload().expect("a reload");
    assert_ne!(kind(&one, &two), Some(HandshakeKind::Resumed), "the key is gone");
    std::fs::write(&keys, line('A') + &line('B') + &line('C')).expect("writable");
    two.try_reload().expect("a reload");
    assert_eq!(kind(&one, &two), Some(HandshakeKind::Resumed));
    std::fs::write(&keys, "nonsense\n").expect("writable");
    assert!(two.try_reload().expect_err("no key").contains("tickets.keys: line 1 is no key"));
    for gate in [one, two, apart, without] {
        gate.finish();
    }
}

#[test]
fn names_have_settings_of_their_own() {
    let (ca, clients, origin) = (Ca::new(), Ca::new(), origin());
    let (site, api) = (ca.bundle("site.pem", &["site.test"]), ca.bundle("api.pem", &["api.test", "x.test"]));
    let gate = gate(
        &origin,
        &format!(
            "certificates = [\"{}\", {{ certificate = \"{}\", names = [\"api.test\"], min-version = \"TLSv1.3\", alpn = \
             [\"http/1.1\"], verify = \"required\", ca-file = \"{}\" }}], alpn = [\"h2\", \"http/1.1\"]",
            site.display(),
            api.display(),
            clients.path("ca.pem").display()
        ),
    );
    let mine = clients.make(&["me"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let connect = |name: &str, mut config: ClientConfig| -> io::Result<Option<Vec<u8>>> {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut client = tls(gate.address("fe"), name, config)?;
        if client.conn.alpn_protocol() == Some(b"http/1.1") {
            get(&mut client, "/")?;
        }
        Ok(client.conn.alpn_protocol().map(<[u8]>::to_vec))
    };
    assert_eq!(connect("site.test", ca.client()).expect("no certificate is asked for"), Some(b"h2".to_vec()));
    assert!(connect("api.test", ca.client()).is_err(), "a certificate is asked for");
    assert_eq!(connect("api.test", ca.client_with(&mine)).expect("verified"), Some(b"http/1.1".to_vec()));
    assert!(connect("api.test", ca.client_of(&[&rustls::version::TLS12])).is_err());
    // `names` says which of its names it is shown for.
    assert!(connect("x.test", ca.client()).is_err());
    gate.finish();
}

#[test]
fn lines_of_lists_have_options() {
    let (ca, clients, origin) = (Ca::new(), Ca::new(), origin());
    let (site, api) = (ca.bundle("site.pem", &["site.test"]), made(&ca, &["api.test", "*.api.test"]));
    let cas = clients.path("ca.pem");
    let gate = gate(
        &origin,
        &format!(
            "certificates = [{{ certificate = \"{}\", list = \"sites.list\" }}], verify = \"optional\", ca-file = \"{}\", alpn = \
             [\"h2\", \"http/1.1\"]",
            site.display(),
            cas.display()
        ),
    );
    let file = ca.path("api.pem");
    let name = file.display();
    gate.ask(&format!("new ssl cert {name}"));
    set(&gate, &file, &pem(&api));
    assert!(gate.ask("commit ssl cert api.pem").contains("Success!"));
    let mine = clients.make(&["me"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let connect = |name: &str, mut config: ClientConfig| -> io::Result<Option<Vec<u8>>> {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut client = tls(gate.address("fe"), name, config)?;
        if client.conn.alpn_protocol() == Some(b"http/1.1") {
            get(&mut client, "/")?;
        }
        Ok(client.conn.alpn_protocol().map(<[u8]>::to_vec))
    };
    let add = |line: &str| gate.ask(&format!("add ssl crt-list sites.list <<\n{name} {line}\n\n"));
    for (line, said) in [
        ("[verify required", "the bracket is not closed"),
        ("api.test [verify required]", "options stand between the certificate and the names"),
        ("[verfy none] api.test", "\"verfy\" is no option of a crt-list; did you mean \"verify\"?"),
        ("[ca-file other.pem] api.test", "'other.pem' was not read with the configuration"),
        ("[ssl-min-ver TLSv1.3 ssl-max-ver TLSv1.2] api.test", "no version is left"),
        ("[ssl-max-ver TLSv1.1] api.test", "TLS 1.2 is the oldest version that is spoken"),
        ("[allow-0rtt] api.test", "allow-0rtt holds for a whole bind"),
        ("[ocsp-update on] api.test", "'ocsp-update' belongs to the certificate"),
        ("[verify maybe] api.test", "verify"),
        ("a!b", "'a!b' is no host name"),
    ] {
        let answer = add(line);
        assert!(answer.contains(said) && !answer.contains("Success"), "{line}: {answer}");
    }
    let line = "[verify required ssl-min-ver TLSv1.3 alpn http/1.1 ca-file ca.pem] *.api.test !old.api.test";
    let added = add(line);
    assert!(added.contains("Success!"), "{added}");
    let listed = gate.ask("show ssl crt-list -n sites.list");
    assert!(
        listed.contains(
            "api.pem:2 [alpn http/1.1 verify required ssl-min-ver TLSv1.3] *.api.test !old.api.test"
        ),
        "{listed}"
    );
    assert!(gate.ask("show ssl crt-list").lines().any(|list| list == "sites.list"));
    assert!(connect("a.api.test", ca.client()).is_err(), "a certificate is asked for");
    assert_eq!(connect("a.api.test", ca.client_with(&mine)).expect("verified"), Some(b"http/1.1".to_vec()));
    assert!(connect("a.api.test", ca.client_of(&[&rustls::version::TLS12])).is_err());
    assert_eq!(connect("site.test", ca.client()).expect("as before"), Some(b"h2".to_vec()));
    // The same certificate with other settings for another name, and what the bind says for the rest.
    assert!(add("[no-alpn verify none] api.test").contains("Success!"));
    assert_eq!(connect("api.test", ca.client()).expect("nobody is asked"), None);
    assert!(gate.ask("del ssl crt-list sites.list api.pem").contains("deleted"));
    assert!(connect("api.test", ca.client()).is_err(), "the certificate is that of site.test");
    assert!(!gate.ask("show ssl crt-list sites.list").contains("api.pem"));
    gate.finish();
}

#[test]
fn what_nothing_is_shown_for_may_be_named() {
    let (ca, origin) = (Ca::new(), origin());
    let (site, other) = (ca.bundle("site.pem", &["site.test"]), ca.bundle("other.pem", &["other.test"]));
    let gate = gate(
        &origin,
        &format!(
            "certificates = [\"{}\", {{ certificate = \"{}\", names = [\"*\", \"other.test\"], alpn = [\"http/1.1\"] }}]",
            site.display(),
            other.display()
        ),
    );
    let alpn = |name: &str| {
        let said = crate::tls::s_client(&gate, &["-servername", name, "-alpn", "h2,http/1.1"], "");
        (said.contains("CN = site.test") || said.contains("CN=site.test"), said.contains("ALPN protocol: h2"))
    };
    assert_eq!(alpn("site.test"), (true, true));
    assert_eq!(alpn("other.test"), (false, false));
    assert_eq!(alpn("unknown.test"), (false, false), "the one that is named");
    gate.finish();
}

#[test]
fn a_key_may_stand_elsewhere() {
    let (ca, origin) = (Ca::new(), origin());
    let made = made(&ca, &["site.test"]);
    let (pem, key) = (ca.write("certs/site.pem", &made.cert_pem), ca.write("keys/the.key", &made.key_pem));
    let tls_of = |key: &Path| {
        format!("certificates = [{{ certificate = \"{}\", key = \"{}\" }}]", pem.display(), key.display())
    };
    let gate = gate(&origin, &tls_of(&key));
    assert_eq!(shown(&gate, &ca, "site.test"), made.der.to_vec());
    gate.finish();
    let missing = Shardgate::with(&body(&origin, &tls_of(&ca.path("keys/no.key")))).run_to_end("check");
    let missing = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(missing.contains("site.pem") && missing.contains("no.key"), "{missing}");
}

#[test]
fn tls_connections_have_limits_of_their_own() {
    let (ca, origin) = (Ca::new(), origin());
    let path = ca.bundle("site.pem", &["site.test"]);
    let text = body(&origin, &format!("certificates = \"{}\"", path.display()));
    let gate = Shardgate::with(&text).global("maxsslconn = 1\nmaxsslrate = 1000000\n").start();
    assert_eq!((gate.info("MaxSslConns").as_str(), gate.info("SslRateLimit").as_str()), ("1", "1000000"));
    let mut first = tls(gate.address("fe"), "site.test", ca.client()).expect("a handshake");
    get(&mut first, "/").expect("served");
    until("it is counted", || gate.info("CurrSslConns") == "1");
    let socket = connect(gate.address("fe"));
    let config = Arc::new(ca.client());
    let second = std::thread::spawn(move || over(socket, "site.test", config).is_ok());
    // It is served once the first has gone, and not before.
    get(&mut first, "/").expect("served");
    assert_eq!(gate.count("fe/FRONTEND", "ssl_sess"), 1);
    drop(first);
    assert!(second.join().expect("no panic"), "it has its turn");
    assert_eq!(gate.ask("set rate-limit ssl-sessions global 7").trim(), "");
    assert_eq!(gate.info("SslRateLimit"), "7");
    gate.finish();
}

#[test]
fn servers_are_told_of_the_client_certificate_and_of_nothing_else() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let origin = Origin::http(|request| {
        let names = [
            "x-ssl",
            "x-ssl-client-verify",
            "x-ssl-client-dn",
            "x-ssl-client-cn",
            "x-ssl-issuer",
            "x-ssl-client-serial",
            "x-ssl-client-notafter",
            "x-ssl-other",
            "x_ssl_client_cn",
            "client-cert",
        ];
        let values: Vec<&str> = names.iter().map(|name| request.header(name).unwrap_or("-")).collect();
        ok(&values.join("|"))
    });
    let pem = ca.bundle("site.pem", &["site.test"]);
    let gate = Shardgate::start(&format!(
        "[frontend.fe]\nmode = \"http\"\nforward-client-cert = true\nbind = [\n  {{ name = \"tls\", address = \"127.0.0.1:0\", tls \
         = {{ certificates = \"{}\", verify = \"optional\", ca-file = \"{}\" }} }},\n  {{ name = \"plain\", address = \
         \"127.0.0.1:0\" }},\n]\ndefault-backend = \"be\"\n[backend.be]\nmode = \"http\"\nserver.s1.address = \"{}\"\n",
        pem.display(),
        clients.path("ca.pem").display(),
        origin.address
    ));
    let forged = "GET / HTTP/1.1\r\nHost: test\r\nX-SSL: 1\r\nX-SSL-Client-CN: root\r\nX_SSL_Client_CN: root\r\nX-SSL-Other: \
                  1\r\nClient-Cert: :AAAA:\r\n\r\n";
    let ask = |stream: &mut dyn ReadWrite| {
        stream.write_all(forged.as_bytes()).expect("open");
        stream.flush().expect("open");
        let mut stream = stream;
        String::from_utf8(response(&mut stream).expect("an answer").1).expect("text")
    };
    assert_eq!(ask(&mut connect(gate.bind_address("fe", "plain"))), "0|-|-|-|-|-|-|-|-|-");
    let mut client = tls(gate.bind_address("fe", "tls"), "site.test", ca.client()).expect("a handshake");
    assert_eq!(ask(&mut client), "1|-|-|-|-|-|-|-|-|-");
    drop(client);
    let own = clients.make(&["Ann"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.not_after = rcgen::date_time_ymd(2099, 12, 31);
    });
    let mut client =
        tls(gate.bind_address("fe", "tls"), "site.test", ca.client_with(&own)).expect("a handshake");
    let text = ask(&mut client);
    let serial = format!("{:02X}", own.serial);
    assert!(
        text.starts_with(&format!("1|0|/CN=Ann|Ann|/CN=Test CA|{serial}|991231000000Z|-|-|:"))
            && text.ends_with(':'),
        "{text}"
    );
    drop(client);
    gate.finish();
}

trait ReadWrite: io::Read + io::Write {}
impl<T: io::Read + io::Write> ReadWrite for T {}

/// What openssl says of a response that is stapled.
fn stapled(gate: &Shardgate) -> String {
    let mut command = Command::new(program("openssl"));
    command.args([
        "s_client",
        "-status",
        "-servername",
        "site.test",
        "-connect",
        &gate.address("fe").to_string(),
    ]);
    let done = command.stdin(Stdio::null()).output().expect("openssl runs");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[test]
fn responses_of_the_authority_are_stapled() {
    let (ca, origin) = (Ca::new(), origin());
    let directory = ca.path("");
    // A responder as openssl is one, behind HTTP of ours.
    let (answering, dir) = (Arc::new(AtomicBool::new(true)), directory);
    let is_answering = answering.clone();
    let responder = Origin::new(move |mut stream, _| {
        let mut request = Vec::new();
        let mut chunk = [0; 4096];
        let body = loop {
            let n = stream.read(&mut chunk).expect("a request");
            request.extend_from_slice(&chunk[..n]);
            let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
            let len = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if request.len() == end + 4 + len.expect("a length") {
                break request.split_off(end + 4);
            }
        };
        if !is_answering.load(Ordering::SeqCst) {
            stream.write_all(b"HTTP/1.0 503 Out\r\n\r\n").expect("open");
            return;
        }
        std::fs::write(dir.join("request.der"), body).expect("writable");
        let done = Command::new(program("openssl"))
            .current_dir(&dir)
            .args([
                "ocsp",
                "-index",
                "index.txt",
                "-CA",
                "ca.pem",
                "-rsigner",
                "ca.pem",
                "-rkey",
                "ca.key",
                "-ndays",
                "1",
            ])
            .args(["-reqin", "request.der", "-respout", "response.der"])
            .output()
            .expect("openssl runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let response = std::fs::read(dir.join("response.der")).expect("a response");
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").expect("open");
        stream.write_all(&response).expect("open");
    });
    let url = format!("http://{}/ocsp", responder.address);
    let own = ca.make(&["site.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        // AuthorityInfoAccess: one description, of OCSP, at a URI.
        let oid = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01];
        let len = u8::try_from(url.len()).expect("short");
        let uri = [&[0x86, len], url.as_bytes()].concat();
        let inner = [&oid[..], &uri].concat();
        let one = [&[0x30, u8::try_from(inner.len()).expect("short")], &inner[..]].concat();
        let all = [&[0x30, u8::try_from(one.len()).expect("short")], &one[..]].concat();
        let id = [1, 3, 6, 1, 5, 5, 7, 1, 1];
        params.custom_extensions.push(rcgen::CustomExtension::from_oid_content(&id, all));
    });
    let line =
        |status: &str| format!("{status}\t991231235959Z\t{{}}\t{:02X}\tunknown\t/CN=site.test\n", own.serial);
    ca.write("index.txt", &line("V").replace("{}", ""));
    ca.write("index.txt.attr", "unique_subject = no\n");
    let issuer = std::fs::read_to_string(ca.path("ca.pem")).expect("readable");
    let path = ca.write("site.pem", &format!("{}{}{issuer}", own.cert_pem, own.key_pem));
    let gate = gate(&origin, &format!("certificates = \"{}\", ocsp-update = true", path.display()));
    until("it is stapled", || stapled(&gate).contains("OCSP Response Status: successful"));
    assert!(stapled(&gate).contains("Cert Status: good"));
    assert!(gate.ask("show ssl cert site.pem").contains(" bytes"));
    // What the responder cannot say, or says of a revoked one, changes nothing that is served.
    answering.store(false, Ordering::SeqCst);
    gate.ask("update ssl ocsp-response");
    gate.wait_log("the responder answers with an error");
    answering.store(true, Ordering::SeqCst);
    ca.write("index.txt", &line("R").replace("{}", "240101000000Z"));
    gate.ask("update ssl ocsp-response");
    gate.wait_log("the certificate is revoked; replace it");
    assert!(stapled(&gate).contains("Cert Status: good"));
    gate.finish();
}

#[test]
fn a_response_beside_the_certificate_is_stapled() {
    let (ca, origin) = (Ca::new(), origin());
    let path = ca.bundle("site.pem", &["site.test"]);
    let gate = gate(&origin, &format!("certificates = \"{}\"", path.display()));
    assert!(stapled(&gate).contains("OCSP response: no response sent"));
    // An answer of five bytes: "try later" (RFC 6960 4.2.1), which is one nevertheless.
    let text = gate.ask("set ssl cert site.pem.ocsp <<\nMAMKAQM=\n\n");
    assert!(text.contains("Transaction created"), "{text}");
    assert!(gate.ask("commit ssl cert site.pem").contains("Success!"));
    assert!(stapled(&gate).contains("OCSP Response Status: trylater"));
    std::fs::write(ca.path("site.pem.ocsp"), [0x30, 0x03, 0x0a, 0x01, 0x02]).expect("writable");
    gate.try_reload().expect("a reload");
    assert!(stapled(&gate).contains("OCSP Response Status: internalerror"));
    gate.finish();
}

#[test]
fn secrets_are_logged_where_that_is_wanted() {
    let (ca, origin) = (Ca::new(), origin());
    let path = ca.bundle("site.pem", &["site.test"]);
    let log = ca.path("secrets.log");
    let gate =
        gate(&origin, &format!("certificates = \"{}\", tls-keylog = \"{}\"", path.display(), log.display()));
    drop(tls(gate.address("fe"), "site.test", ca.client()).expect("a handshake"));
    until("they are written", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("SERVER_TRAFFIC_SECRET_0 "))
    });
    gate.finish();
}

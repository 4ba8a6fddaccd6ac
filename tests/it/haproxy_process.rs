//! The process under the name `haproxy`: its command line, its background, sockets that are handed on, and the example of the documentation.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;

use crate::haproxy_cfg::mirror;
use crate::harness::gate::binary;
use crate::harness::peers::{Peer, free_address};
use crate::harness::tls::{Ca, get, tls};
use crate::harness::{Origin, PATIENCE, connect, until};

/// Runs the binary under the name `haproxy`.
#[test]
fn lists_of_certificates_show_the_same() {
    let (ca, clients, origin) = (Ca::new(), Ca::new(), mirror("a"));
    let site = ca.bundle("certs/site.pem", &["site.test"]);
    ca.bundle("certs/shop.pem", &["shop.test", "*.shop.test"]);
    ca.bundle("certs/api.pem", &["api.test"]);
    let list = ca.write(
        "sites.list",
        "# all of them\nsite.pem\n\nshop.pem [ssl-max-ver TLSv1.2] *.shop.test !old.shop.test\napi.pem [verify required ca-file \
         ca.pem alpn http/1.1]\n",
    );
    let sections = format!(
        "global\n crt-base {}\n ca-base {}\ndefaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
         frontend f\n bind @ADDRESS@ ssl crt-list {} alpn h2,http/1.1\n default_backend b\nbackend b\n server s {}\n",
        site.parent().expect("a directory").display(),
        clients.path("ca.pem").parent().expect("a directory").display(),
        list.display(),
        origin.address
    );
    let own = clients.make(&["me"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let seen = |peer: &Peer, name: &str, config: rustls::ClientConfig| {
        // Names that a certificate does not have are seen as well as others.
        let mut config = config;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.dangerous().set_certificate_verifier(Arc::new(Anybody));
        let mut client = match tls(peer.address, name, config) {
            Ok(client) => client,
            Err(_) => return "refused".to_owned(),
        };
        let shown = client.conn.peer_certificates().and_then(|chain| chain.first().cloned());
        let alpn = client.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        if alpn.as_deref() == Some("http/1.1") && get(&mut client, "/").is_err() {
            return "cut".to_owned();
        }
        format!("{:?} {alpn:?} {:?}", client.conn.protocol_version(), shown.map(|der| der.to_vec()))
    };
    let (theirs, ours) = (Peer::haproxy(&sections), Peer::in_haproxys_place(&sections));
    for name in
        ["site.test", "a.shop.test", "old.shop.test", "shop.test", "a.b.shop.test", "api.test", "no.test"]
    {
        for with_own in [false, true] {
            let config = || if with_own { ca.client_with(&own) } else { ca.client() };
            let (a, b) = (seen(&theirs, name, config()), seen(&ours, name, config()));
            assert_eq!(a, b, "{name}, {with_own}");
        }
    }
}

/// Takes any certificate: what is shown is looked at.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn as_haproxy(dir: &std::path::Path) -> Command {
    let link = dir.join("haproxy");
    if !link.exists() {
        std::os::unix::fs::symlink(binary(), &link).expect("our own directory");
    }
    Command::new(link)
}

#[test]
fn the_command_line_is_haproxys() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = dir.path().join("good.cfg");
    std::fs::write(&good, "defaults\n timeout connect 1s\n timeout client 9s\n timeout server 1s\nlisten a\n bind 127.0.0.1:0\n server s 127.0.0.1:1\n")
        .expect("our own directory");
    let bad = dir.path().join("bad.cfg");
    std::fs::write(&bad, "listen a\n bidn :1\n").expect("our own directory");
    let run = |arguments: &[&str]| {
        let output = as_haproxy(dir.path()).args(arguments).output().expect("the binary runs");
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let path = |path: &std::path::Path| path.display().to_string();
    let (code, text) = run(&["-c", "-f", &path(&good)]);
    assert_eq!((code, text.trim()), (Some(0), "Configuration file is valid"));
    assert_eq!(run(&["-c", "-q", "-f", &path(&good)]), (Some(0), String::new()));
    let (code, text) = run(&["-c", "-f", &path(&good), "-f", &path(&bad)]);
    assert!(
        code == Some(1) && text.contains("bad.cfg:2:1: error: bidn :1: there is no keyword \"bidn\""),
        "{text}"
    );
    for (condition, expected) in [("version_atleast(2.4)", 0), ("!feature(OPENSSL)", 1), ("nonsense", 2)] {
        assert_eq!(run(&["-cc", condition]).0, Some(expected), "{condition}");
    }
    assert!(run(&["-v"]).1.starts_with("HAProxy version 3."));
    assert!(run(&["-vv"]).1.contains("+OPENSSL"));
}

#[test]
fn an_import_that_would_not_load_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("haproxy.cfg");
    std::fs::write(&file, "listen a\n bind :80\n use_backend nowhere if { src 10.0.0.0/8 }\n")
        .expect("our own directory");
    let output = Command::new(binary()).arg("import").arg(&file).output().expect("the binary runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.contains("haproxy.cfg:3:1: error: unknown backend \"nowhere\""), "{errors}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("[listen.a]"), "it is written all the same");
}

#[test]
fn a_daemon_serves_when_the_command_returns_and_takes_over_from_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let address = free_address();
    let config = dir.path().join("haproxy.cfg");
    let origin = Origin::named("one");
    let text = format!(
        "defaults\n timeout connect 1s\n timeout client 9s\n timeout server 9s\nlisten a\n bind {address}\n server s {}\n",
        origin.address
    );
    std::fs::write(&config, text).expect("our own directory");
    let start = |pid_file: &str, old: Option<u32>| {
        let mut command = as_haproxy(dir.path());
        command.args(["-D", "-q", "-f"]).arg(&config).arg("-p").arg(dir.path().join(pid_file));
        if let Some(pid) = old {
            command.args(["-sf", &pid.to_string()]);
        }
        assert!(command.status().expect("the binary runs").success());
        let pid = std::fs::read_to_string(dir.path().join(pid_file)).expect("it wrote its number");
        Daemon(pid.trim().parse().expect("a number"))
    };
    let first = start("1.pid", None);
    assert_eq!(read_to_end(address), "one");
    let second = start("2.pid", Some(first.0));
    until("the first one is gone", || !first.runs());
    assert!(second.runs());
    assert_eq!(read_to_end(address), "one");
}

/// The lines of a section that relays to an origin, and what stands before it.
fn relay_cfg(global: &str, bind: &str, origin: &Origin) -> String {
    format!(
        "global\n{global}\ndefaults\n timeout connect 1s\n timeout client 9s\n timeout server 9s\nlisten a\n bind {bind}\n server s {}\n",
        origin.address
    )
}

#[test]
fn the_configuration_may_ask_for_the_background_and_old_sockets_are_taken_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let address = free_address();
    let config = dir.path().join("haproxy.cfg");
    let origin = Origin::named("one");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let global = format!(" daemon\n pidfile {}\n stats socket {} level admin", path("pid"), path("admin"));
    std::fs::write(&config, relay_cfg(&global, &address.to_string(), &origin)).expect("our own directory");
    let start = |more: &[&str]| {
        let mut command = as_haproxy(dir.path());
        command.args(["-q", "-f"]).arg(&config).args(more);
        assert!(command.status().expect("the binary runs").success());
        let pid = std::fs::read_to_string(dir.path().join("pid")).expect("it wrote its number");
        Daemon(pid.trim().parse().expect("a number"))
    };
    let first = start(&[]);
    let ask = |text: &str| {
        let mut socket = UnixStream::connect(path("admin")).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
        socket.write_all(text.as_bytes()).expect("it reads");
        socket.shutdown(std::net::Shutdown::Write).expect("it is connected");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("it answers");
        answer
    };
    // One line, with and without its end, and the client half-closes.
    for line in ["show info\n", "show info"] {
        let answer = ask(line);
        assert!(answer.contains(&format!("\nPid: {}\n", first.0)), "{answer}");
    }
    let master = path("master");
    let second = start(&[
        "-x",
        &path("admin"),
        "-S",
        &format!("{master},level,operator"),
        "-sf",
        &first.0.to_string(),
    ]);
    assert!(ask("show info\n").contains(&format!("\nPid: {}\n", second.0)));
    until("the first one is gone", || !first.runs());
    assert!(ask("show info\n").contains(&format!("\nPid: {}\n", second.0)), "its socket is still there");
    assert!(std::path::Path::new(&master).exists());
    assert_eq!(read_to_end(address), "one");
}

#[test]
fn sockets_of_the_parent_serve_and_sigusr2_reads_the_files_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("haproxy.cfg");
    let (one, two) = (Origin::named("one"), Origin::named("two"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a local address");
    let address = listener.local_addr().expect("bound");
    let admin = free_address();
    let global = format!(" stats socket ipv4@{admin} level admin");
    let write = |origin: &Origin| {
        std::fs::write(&config, relay_cfg(&global, "\"fd@${FE}\"", origin)).expect("our own directory");
    };
    write(&one);
    // The socket comes as standard input, because that is what can be handed over without unsafe code.
    as_haproxy(dir.path());
    let mut child = Command::new("sh")
        .args(["-c", "exec 3<&0 </dev/null; export FE=3; exec \"$@\"", "sh"])
        .arg(dir.path().join("haproxy"))
        .args(["-W", "-db", "-n", "77", "-f"])
        .arg(&config)
        .stdin(std::os::fd::OwnedFd::from(listener))
        .spawn()
        .expect("the binary runs");
    let guard = Daemon(child.id());
    until("it answers", || std::net::TcpStream::connect(admin).is_ok());
    assert_eq!(read_to_end(address), "one");
    let maxconn = || {
        let mut admin = std::net::TcpStream::connect(admin).expect("it listens");
        admin.write_all(b"show info\n").expect("sent");
        let mut text = String::new();
        admin.read_to_string(&mut text).expect("an answer");
        text.lines().find(|line| line.starts_with("Maxconn:")).map(str::to_owned)
    };
    assert_eq!(maxconn().as_deref(), Some("Maxconn: 77"));
    write(&two);
    let signal = |name: &str| {
        let status = Command::new("kill").args([name, &guard.0.to_string()]).status();
        assert!(status.expect("kill runs").success());
    };
    signal("-USR2");
    until("the new configuration serves", || read_to_end(address) == "two");
    // What the command line says holds whatever stands in the files.
    assert_eq!(maxconn().as_deref(), Some("Maxconn: 77"));
    signal("-INT");
    assert_eq!(child.wait().expect("our own child").code(), Some(0));
}

#[test]
fn an_admin_socket_may_come_from_the_parent() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("haproxy.cfg");
    let origin = Origin::named("one");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a local address");
    let admin = listener.local_addr().expect("bound");
    let text = relay_cfg(" stats socket \"fd@${CLI}\" level admin", &free_address().to_string(), &origin);
    std::fs::write(&config, text).expect("our own directory");
    as_haproxy(dir.path());
    let mut child = Command::new("sh")
        .args(["-c", "exec 3<&0 </dev/null; export CLI=3; exec \"$@\"", "sh"])
        .arg(dir.path().join("haproxy"))
        .args(["-Ws", "-f"])
        .arg(&config)
        .stdin(std::os::fd::OwnedFd::from(listener))
        .spawn()
        .expect("the binary runs");
    let guard = Daemon(child.id());
    let mut client = connect(admin);
    client.write_all(b"show cli sockets").expect("it is connected");
    client.shutdown(std::net::Shutdown::Write).expect("it is connected");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("it answers");
    assert!(answer.contains("fd@3 admin all"), "{answer}");
    let status = Command::new("kill").args(["-INT", &guard.0.to_string()]).status();
    assert!(status.expect("kill runs").success());
    assert_eq!(child.wait().expect("our own child").code(), Some(130));
}

fn read_to_end(address: std::net::SocketAddr) -> String {
    let mut text = String::new();
    let mut client = connect(address);
    client.shutdown(std::net::Shutdown::Write).expect("it is connected");
    client.read_to_string(&mut text).expect("it answers");
    text
}

/// A process that is no child of ours any more; ended with the test.
struct Daemon(u32);

impl Daemon {
    fn runs(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = Command::new("kill").args(["-KILL", &self.0.to_string()]).status();
    }
}

/// The text of the first block of a kind in a page.
fn block(page: &str, kind: &str) -> String {
    let (_, rest) = page.split_once(&format!("```{kind}\n")).expect("the page has such a block");
    rest.split_once("```").expect("it ends").0.to_owned()
}

#[test]
fn the_example_of_the_documentation_is_what_comes_out() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/COMING_FROM_HAPROXY.md"))
        .expect("the page is there");
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("haproxy.cfg"), block(&page, "haproxy")).expect("our own directory");
    let run = |arguments: &[&str]| {
        Command::new(binary()).args(arguments).current_dir(dir.path()).output().expect("the binary runs")
    };
    let output = run(&["import", "haproxy.cfg", "-o", "out.toml"]);
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{report}");
    let toml = std::fs::read_to_string(dir.path().join("out.toml")).expect("it wrote the file");
    assert_eq!(toml, block(&page, "toml"));
    let line = report.lines().next().expect("a line for what was ignored");
    assert!(page.contains(line), "{line}");
    for arguments in [["check", "-c", "out.toml"], ["check", "-f", "haproxy.cfg"]] {
        assert!(run(&arguments).status.success(), "{arguments:?}");
    }
}

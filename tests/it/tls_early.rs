//! Requests that come before the end of the handshake (0-RTT): who is answered, who is told to ask again, and what a replay gets.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::harness::http::ok;
use crate::harness::tls::{Ca, get, over, response};
use crate::harness::{Origin, Shardgate, connect, program};

/// A frontend that takes early data; the origin says what it was told of it.
fn gate(ca: &Ca, origin: &Origin, frontend: &str) -> Shardgate {
    let path = ca.bundle("site.pem", &["site.test"]);
    let tls = format!("certificates = \"{}\", allow-0rtt = true, alpn = [\"http/1.1\"]", path.display());
    Shardgate::start(&format!(
        "[frontend.fe]\nmode = \"http\"\nbind = [{{ address = \"127.0.0.1:0\", tls = {{ {tls} \
         }} }}]\ndefault-backend = \"be\"\n{frontend}\n[backend.be]\nmode = \"http\"\nserver.s1.address = \"{}\"\n",
        origin.address
    ))
}

fn origin() -> Origin {
    Origin::http(|request| {
        let told = |name: &str| request.header(name).unwrap_or("-").to_owned();
        ok(&format!("{} early={} rule={}", request.start(), told("early-data"), told("x-early")))
    })
}

/// A client that has a session to resume, with early data where the server lets it.
fn client(ca: &Ca, gate: &Shardgate) -> Arc<ClientConfig> {
    let mut config = ca.client();
    config.enable_early_data = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let mut first = over(connect(gate.address("fe")), "site.test", config.clone()).expect("a handshake");
    // Tickets come with the answer.
    get(&mut first, "/first").expect("served");
    config
}

/// A connection whose client says no more after its first flight until it is told to.
struct Early {
    tls: ClientConnection,
    socket: TcpStream,
    /// What it sent.
    flight: Vec<u8>,
}

impl Early {
    fn start(config: &Arc<ClientConfig>, gate: &Shardgate, request: &str) -> Early {
        let name = ServerName::try_from("site.test").expect("a name");
        let mut tls = ClientConnection::new(config.clone(), name).expect("a client");
        tls.early_data().expect("a session with early data").write_all(request.as_bytes()).expect("room");
        let mut socket = connect(gate.address("fe"));
        let mut flight = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut flight).expect("memory");
        }
        socket.write_all(&flight).expect("sent");
        Early { tls, socket, flight }
    }

    /// Finishes the handshake.
    fn finish(&mut self) {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket).expect("sent");
        }
    }
}

impl Read for Early {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            if self.tls.read_tls(&mut self.socket)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: site.test\r\n\r\n")
}

fn body(stream: &mut impl Read) -> String {
    let (head, body) = response(stream).expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    String::from_utf8_lossy(&body).into_owned()
}

#[test]
fn a_request_is_answered_before_the_end_of_the_handshake() {
    let (ca, origin) = (Ca::new(), origin());
    let rule = "rules = [{ set-header = { name = \"X-Early\", value = \"%[ssl_fc_has_early]\" } }]";
    let gate = gate(&ca, &origin, rule);
    let config = client(&ca, &gate);
    let mut early = Early::start(&config, &gate, &request("GET", "/early"));
    assert_eq!(body(&mut early), "GET /early HTTP/1.1 early=1 rule=1");
    assert!(early.tls.is_early_data_accepted());
    // The same connection once it is known who it is.
    early.finish();
    early.tls.writer().write_all(request("POST", "/late").as_bytes()).expect("room");
    early.finish();
    assert_eq!(body(&mut early), "POST /late HTTP/1.1 early=- rule=0");
    gate.wait_stat("fe/FRONTEND", "ssl_early", "1");
    gate.wait_stat("fe/FRONTEND", "ssl_reused_sess", "1");
    drop(early);
    gate.finish();
}

#[test]
fn a_long_answer_goes_on_over_the_end_of_the_handshake() {
    const LEN: usize = 3_000_000;
    let ca = Ca::new();
    let origin = Origin::http(|_| ok(&"x".repeat(LEN)));
    let gate = gate(&ca, &origin, "");
    let config = client(&ca, &gate);
    let mut early = Early::start(&config, &gate, &request("GET", "/long"));
    let mut begin = [0; 2000];
    early.read_exact(&mut begin).expect("its beginning");
    early.finish();
    let head = begin.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    let mut rest = vec![0; LEN - (begin.len() - head)];
    early.read_exact(&mut rest).expect("its end");
    assert!(rest.iter().all(|byte| *byte == b'x'));
    early.tls.writer().write_all(request("GET", "/again").as_bytes()).expect("room");
    early.finish();
    let (_, body) = response(&mut early).expect("an answer");
    assert_eq!(body.len(), LEN);
    drop(early);
    gate.finish();
}

#[test]
fn what_could_change_something_is_to_be_asked_again() {
    let (ca, origin) = (Ca::new(), origin());
    let gate = gate(&ca, &origin, "");
    let config = client(&ca, &gate);
    for request in [
        request("POST", "/change"),
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(),
    ] {
        let mut early = Early::start(&config, &gate, &request);
        let (head, _) = response(&mut early).expect("an answer");
        assert!(head.starts_with("HTTP/1.1 425 Too Early"), "{head}");
    }
    assert_eq!(gate.count("be/s1", "hrsp_2xx"), 1, "the first one alone");
    gate.finish();
}

#[test]
fn a_replay_is_not_answered() {
    let (ca, origin) = (Ca::new(), origin());
    let gate = gate(&ca, &origin, "");
    let config = client(&ca, &gate);
    let mut early = Early::start(&config, &gate, &request("GET", "/once"));
    assert_eq!(body(&mut early), "GET /once HTTP/1.1 early=1 rule=-");
    let mut replay = connect(gate.address("fe"));
    replay.write_all(&early.flight).expect("sent");
    // Our hello comes, and the session is not known any more.
    let mut byte = [0];
    replay.read_exact(&mut byte).expect("a hello");
    drop(replay);
    gate.wait_stat("fe/FRONTEND", "ssl_failed_handshake", "1");
    assert_eq!(gate.count("fe/FRONTEND", "ssl_early"), 1);
    assert_eq!(gate.count("fe/FRONTEND", "req_tot"), 2);
    drop(early);
    gate.finish();
}

#[test]
fn openssl_sends_early_data() {
    let (ca, origin) = (Ca::new(), origin());
    let gate = gate(&ca, &origin, "");
    let (session, early) = (ca.path("session.pem"), ca.write("early.txt", &request("GET", "/openssl")));
    let run = |arguments: &[&str]| {
        let mut child = Command::new(program("openssl"))
            .args(["s_client", "-connect", &gate.address("fe").to_string(), "-servername", "site.test"])
            .args(["-alpn", "http/1.1", "-ign_eof"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl runs");
        let last = "GET /last HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n";
        child.stdin.take().expect("piped").write_all(last.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let path = session.display().to_string();
    let first = run(&["-sess_out", &path]);
    assert!(first.contains("GET /last HTTP/1.1 early=-"), "{first}");
    let second = run(&["-sess_in", &path, "-early_data", &early.display().to_string()]);
    assert!(second.contains("Early data was accepted"), "{second}");
    assert!(second.contains("GET /openssl HTTP/1.1 early="), "{second}");
    assert!(second.contains("GET /last HTTP/1.1 early=-"), "{second}");
    gate.finish();
}

#[test]
fn where_a_replay_could_do_harm_there_is_none() {
    let ca = Ca::new();
    ca.bundle("site.pem", &["site.test"]);
    for (mode, more, why) in [
        ("tcp", "", "in TCP mode nobody can tell"),
        ("http", ", verify = \"required\", ca-file = \"ca.pem\"", "is not known before the end"),
        ("http", ", max-version = \"TLSv1.2\"", "only TLS 1.3 has early data"),
        ("http", ", tls-ticket-keys = \"x\"", "could be replayed there"),
    ] {
        let config = ca.write(
            "config.toml",
            &format!(
                "[frontend.fe]\nmode = \"{mode}\"\ntimeout.client = \"1s\"\ndefault-backend = \"be\"\nbind = [{{ address \
                 = \"127.0.0.1:0\", tls = {{ certificates = \"site.pem\", allow-0rtt = true{more} }} \
                 }}]\n[backend.be]\nmode = \"{mode}\"\ntimeout = {{ connect = \"1s\", server = \"1s\" \
                 }}\nserver.s.address = \"127.0.0.1:1\"\n"
            ),
        );
        let output = Command::new(env!("CARGO_BIN_EXE_shardgate"))
            .args(["check", "--config"])
            .arg(&config)
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(why), "{text}");
    }
}

//! Targets of log lines: the header, the framing and the choice of lines that each of them asks for.

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;

use crate::harness::http::ok;
use crate::harness::{Origin, PATIENCE, Shardgate, until};

fn udp() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a local socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    socket
}

fn address(socket: &UdpSocket) -> String {
    socket.local_addr().expect("bound").to_string()
}

/// The next datagram about a request; what the process says about itself has other levels than info and err.
fn line(receive: impl Fn(&mut [u8]) -> std::io::Result<usize>) -> String {
    let mut buffer = [0; 9000];
    loop {
        let len = receive(&mut buffer).expect("a line arrives");
        let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
        let level = text[1..].split('>').next().and_then(|priority| priority.parse::<u32>().ok());
        if level.is_some_and(|priority| matches!(priority % 8, 3 | 6)) {
            return text;
        }
    }
}

/// A server of syslog over TCP, which keeps all that comes.
fn stream() -> Origin {
    Origin::new(|mut stream, shared| {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            shared.note(&buffer[..len]);
        }
    })
}

fn all(stream: &Origin) -> String {
    String::from_utf8(stream.notes().concat()).expect("text")
}

fn gate(origin: &Origin, frontend: &str) -> Shardgate {
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n{frontend}\n[backend.be]\n\
         server.s1.address = \"{}\"\n",
        origin.address
    );
    Shardgate::with(&body).cores(1).defaults("mode = \"http\"").start()
}

fn matches(pattern: &str, text: &str) {
    let regex = regex::Regex::new(pattern).expect("a pattern");
    assert!(regex.is_match(text), "{text:?} is not {pattern}");
}

const RFC5424: &str = r#"1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d \S+ www \d+ - \[shardgate@0 status="200"\] GET /a 200"#;

#[test]
fn each_target_gets_its_header_and_framing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (path, file) = (dir.path().join("socket"), dir.path().join("access.log"));
    let unix = UnixDatagram::bind(&path).expect("bound");
    unix.set_read_timeout(Some(PATIENCE)).expect("set");
    let (datagrams, counted, lines) = (udp(), stream(), stream());
    let origin = Origin::http(|_| ok("fine"));
    let gate = gate(
        &origin,
        &format!(
            "log-tag = \"www\"\nlog-format = \"%HM %HP %ST\"\n\
             log-format-sd = \"[shardgate@0 status=\\\"%ST\\\"]\"\n\
             log = [\n  {{ address = \"{}\", format = \"rfc5424\", facility = \"local7\" }},\n\
             {{ address = \"tcp@{}\", format = \"rfc5424\" }},\n\
             {{ address = \"tcp@{}\", format = \"rfc3164\", framing = \"newline\" }},\n\
             {{ address = \"{}\", format = \"local\" }},\n  {{ address = \"file:{}\" }},\n]",
            address(&datagrams),
            counted.address,
            lines.address,
            path.display(),
            file.display()
        ),
    );
    let mut client = gate.wire("fe");
    assert_eq!(client.get("/a").status(), 200);
    matches(&format!("^<190>{RFC5424}\n$"), &line(|buffer| datagrams.recv(buffer)));
    matches(
        r"^<134>\w{3} [ \d]\d \d\d:\d\d:\d\d www\[\d+\]: GET /a 200\n$",
        &line(|buffer| unix.recv(buffer)),
    );
    until("the counted message", || all(&counted).ends_with("GET /a 200"));
    let message = all(&counted);
    let (len, message) = message.split_once(' ').expect("the length stands before it");
    assert_eq!(len.parse(), Ok(message.len()), "{message}");
    matches(&format!("^<134>{RFC5424}$"), message);
    until("the line over TCP", || all(&lines).ends_with('\n'));
    matches(r"^<134>\w{3} [ \d]\d \d\d:\d\d:\d\d \S+ www\[\d+\]: GET /a 200\n$", &all(&lines));
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    until("the line in the file", || read() == "GET /a 200\n");
    drop(client);
    // What logrotate does.
    let old = dir.path().join("access.log.1");
    std::fs::rename(&file, &old).expect("renamed");
    gate.signal("HUP");
    until("a line in the new file", || {
        gate.wire("fe").get("/b");
        read().contains("GET /b 200\n")
    });
    assert!(std::fs::read_to_string(&old).expect("it is there").starts_with("GET /a 200\n"));
    // Sockets of targets stay open: nothing leaks, but it looks so.
    drop(gate);
}

#[test]
fn targets_choose_lines_by_level_and_sample() {
    let (errors, sampled, short) = (udp(), udp(), udp());
    let origin = Origin::http(|request| match request.start().contains("/500") {
        true => "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_owned(),
        false => ok("fine"),
    });
    let gate = gate(
        &origin,
        &format!(
            "log-format = \"%HP\"\nlog-separate-errors = true\nlog = [\n  {{ address = \"{}\", level = \"err\" }},\n\
             {{ address = \"{}\", sample = \"2:2\" }},\n  {{ address = \"{}\", len = 80, minlevel = \"info\" }},\n]",
            address(&errors),
            address(&sampled),
            address(&short)
        ),
    );
    let long = format!("/{}", "x".repeat(200));
    let mut client = gate.wire("fe");
    for path in ["/1", "/500", "/3", &long] {
        client.get(path);
    }
    let of = |socket: &UdpSocket| line(|buffer| socket.recv(buffer));
    let error = of(&errors);
    assert!(error.starts_with("<131>") && error.ends_with(": /500\n"), "{error}");
    assert!(of(&sampled).ends_with(": /500\n"), "the second");
    assert!(of(&sampled).ends_with("xxx\n"), "the fourth, whole");
    let all: Vec<String> = (0..4).map(|_| of(&short)).collect();
    assert!(all.iter().all(|line| line.starts_with("<134>")), "{all:?}");
    // The end of the line comes on top, as with HAProxy.
    assert_eq!(all[3].len(), 81, "{all:?}");
    drop(client);
    // Sockets of targets stay open: nothing leaks, but it looks so.
    drop(gate);
}

/// A syslog server that is restarted: the end of its connection is noticed before there is a line, which then waits for the next one.
#[test]
fn a_stream_that_comes_back_has_the_lines_of_meanwhile() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a local socket");
    let address = server.local_addr().expect("bound");
    let accept = || {
        let (stream, _) = server.accept().expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream
    };
    let read_to = |stream: &mut TcpStream, what: &str| {
        let (mut seen, mut buffer) = (String::new(), [0; 4096]);
        while !seen.contains(what) {
            let len = stream.read(&mut buffer).expect("lines");
            assert!(len > 0, "{what} is not in {seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..len]));
        }
    };
    let origin = Origin::http(|_| ok("fine"));
    let gate = gate(&origin, &format!("log-format = \"%HP\"\nlog = [\"tcp@{address}\"]"));
    let mut client = gate.wire("fe");
    assert_eq!(client.get("/before").status(), 200);
    let mut stream = accept();
    read_to(&mut stream, "/before");
    stream.shutdown(std::net::Shutdown::Write).expect("still open");
    let rest = stream.read(&mut [0; 64]).expect("the end is noticed, and this connection closed");
    assert_eq!(rest, 0);
    assert_eq!(client.get("/meanwhile").status(), 200);
    read_to(&mut accept(), "/meanwhile");
    // Sockets of targets stay open: nothing leaks, but it looks so.
    drop((client, gate));
}

/// What is wrong is said when the file is loaded, with what to write instead.
#[test]
fn what_is_wrong_about_a_log_is_an_error_that_helps() {
    let long = format!("log = [\"/{}\"]", "x".repeat(120));
    for (frontend, code, told) in [
        ("log = [\"nowhere\"]", 1, "\"nowhere\" is no target of log"),
        (long.as_str(), 1, "the kernel takes at most 107 bytes as the name of a UNIX socket"),
        ("log = [\"127.0.0.1:99999\"]", 1, "write \"stderr\""),
        ("log = [\"ring@lost\"]", 1, "add [ring.lost]"),
        (
            "log = [{ address = \"stderr\", format = \"nope\" }]",
            1,
            "there are \"iso\", \"local\", \"priority\"",
        ),
        ("log = [{ address = \"stderr\", sample = \"5:3\" }]", 1, "write which lines out of how many"),
        ("log = true\nlog-tag = \"a\\n<0>b\"", 1, "is not empty and has no control characters"),
        ("log = true\nlog-format = \"httplgo\"", 1, "did you mean \"httplog\"?"),
        ("log = true\nlog-format = \"constant\"", 0, ""),
        ("log = true\nlog-format = \"%{+json}o %ci\"", 1, "no item of this object has a name"),
        (
            "log = true\nlog-format = \"%{+json}o %(a)ci %(a)cp\"",
            1,
            "two items of this object are named \"a\"",
        ),
        ("log = true\nlog-format = \"%{+json}ci\"", 1, "write %{+json}o at the beginning"),
        (
            "rules = [{ capture = { value = \"src\", id = 1 } }]",
            1,
            "there is no place 1 for a capture: there are 0",
        ),
        ("rules = [{ capture = { value = \"src\", id = 1, len = 2 } }]", 1, "a value is kept in one place"),
        ("trace.to = \"http://collector\"", 1, "is no URL of a collector"),
        ("trace.sample = \"5%\"", 0, "no span is recorded without trace.to"),
    ] {
        let body = format!(
            "[frontend.fe]\nbind = \"127.0.0.1:0\"\n{frontend}\ndefault-backend = \"be\"\n[backend.be]\n\
             server.s1.address = \"127.0.0.1:9\"\n"
        );
        let done = Shardgate::with(&body).defaults("mode = \"http\"").run_to_end("check");
        let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert_eq!(done.status.code(), Some(code), "{frontend}: {text}");
        assert!(text.contains(told), "{told:?} is not in {text}");
    }
}

//! The log of a haproxy.cfg: the same file in HAProxy and here, and the same client at both. What each of them writes is the same but
//! for dates, processes, ports and times.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};

use regex::Regex;

use crate::harness::http::ok;
use crate::harness::origin::Refusing;
use crate::harness::peers::Peer;
use crate::harness::{Origin, PATIENCE, connect};

/// Longer than any bound of a case.
const LONG: &str =
    "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Receives lines of any kind.
struct Lines(UdpSocket);

impl Lines {
    fn new() -> Lines {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a local socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        Lines(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound")
    }

    /// The next one that says this.
    fn next(&self, what: &str) -> String {
        let mut buffer = [0; 9000];
        loop {
            let len = self.0.recv(&mut buffer).unwrap_or_else(|e| panic!("no line with {what}: {e}"));
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if text.contains(what) {
                return text;
            }
        }
    }
}

fn normal(line: &str) -> String {
    let mut text = line.to_owned();
    for (pattern, to) in [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", "ISO"),
        (r"\w{3} [ \d]\d \d\d:\d\d:\d\d", "DATE"),
        (r"haproxy\[\d+\]", "haproxy[PID]"),
        (r"haproxy \d+ - ", "haproxy PID - "),
        (r"127\.0\.0\.1:\d+", "ADDRESS"),
        (r"7F000001:[0-9A-F]{4}", "ADDRESS"),
        // Times and sizes of lines that come early.
        (r"\+\d+ \+\d+ \+\d+ \+\d+ ", "TIMES AND SIZE "),
    ] {
        text = Regex::new(pattern).expect("a pattern").replace_all(&text, to).into_owned();
    }
    text
}

fn origin() -> Origin {
    Origin::http(|_| ok("fine"))
}

/// Both proxies with a frontend for each text, and where their lines arrive. `@LOG@` is where they are to go.
fn both(origin: &Origin, global: &str, defaults: &str, frontends: &[&str]) -> [(Peer, Lines); 2] {
    [Peer::haproxy, Peer::in_haproxys_place].map(|start| {
        let lines = Lines::new();
        let more: String = frontends
            .iter()
            .enumerate()
            .map(|(n, text)| {
                let backend = if text.contains("mode tcp") { "tb" } else { "hb" };
                format!("frontend f{n}\n bind @FREE@\n{text}\n default_backend {backend}\n")
            })
            .collect();
        let text = format!(
            "global\n nbthread 1\n log-tag haproxy\n{global}\ndefaults\n timeout client 1m\n timeout server 1m\n timeout connect \
             1m\n timeout http-request 1m\n option dontlognull\n mode http\n{defaults}\nfrontend probe\n no log\n bind @ADDRESS@\n \
             default_backend hb\n{more}backend hb\n server s1 {0}\nbackend tb\n mode tcp\n server s1 {0}\n",
            origin.address
        );
        (start(&text.replace("@LOG@", &lines.address().to_string())), lines)
    })
}

/// Asks for a path, and gives the port that asked.
fn get(address: SocketAddr, path: &str) -> u16 {
    let mut client = connect(address);
    let port = client.local_addr().expect("bound").port();
    let request = format!("GET {path} HTTP/1.1\r\nHost: h.example\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).expect("the proxy reads");
    // In TCP mode nobody closes before the client does.
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while !seen.ends_with(b"fine") {
        let len = client.read(&mut buffer).expect("an answer");
        assert!(len > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..len]);
    }
    port
}

/// Asks each frontend of both, and compares as many lines of each as are to come.
fn compare(global: &str, defaults: &str, frontends: &[(&str, usize)]) {
    let origin = origin();
    let texts: Vec<&str> = frontends.iter().map(|(text, _)| *text).collect();
    let [theirs, ours] = both(&origin, global, defaults, &texts);
    for (place, (text, count)) in frontends.iter().enumerate() {
        let [mut expected, mut got] = [&theirs, &ours].map(|(peer, lines)| {
            let path = format!("/{place}-");
            get(peer.more[place], &path);
            (0..*count).map(|_| normal(&lines.next(&path))).collect::<Vec<_>>()
        });
        expected.sort();
        got.sort();
        assert_eq!(got, expected, "{text}");
    }
}

#[test]
fn headers_of_all_formats_are_haproxys() {
    let formats = ["local", "rfc3164", "rfc5424", "priority", "short", "timed", "iso", "raw"];
    let frontends = formats.map(|format| {
        format!(" log @LOG@ format {format} local3 info\n log-format \"%HM %HP %ST\"\n log-tag haproxy")
    });
    let frontends: Vec<(&str, usize)> = frontends.iter().map(|text| (text.as_str(), 1)).collect();
    compare(" log-send-hostname lb1", "", &frontends);
}

#[test]
fn lines_are_cut_where_haproxy_cuts_them() {
    let origin = origin();
    for (format, more) in [("local", 1), ("rfc5424", 1), ("raw", 0)] {
        let text = format!(" log @LOG@ len 80 format {format} local3\n log-format \"path %HP\"");
        let lengths = both(&origin, "", "", &[&text]).map(|(peer, lines)| {
            get(peer.more[0], LONG);
            lines.next("path /a").len()
        });
        assert_eq!(lengths, [80 + more; 2], "{format}: eighty bytes, and mostly the end of the line");
    }
}

#[test]
fn targets_of_defaults_and_sections_add_up_as_haproxys_do() {
    let own = "log @LOG@ local4";
    let format = "log-format %HP";
    compare(
        " log @LOG@ local5",
        &format!(" log global\n {format}"),
        &[
            ("", 1),
            (&format!(" {own}"), 2),
            (&format!(" no log\n {own}"), 1),
            (&format!(" no log\n {own}\n log global"), 2),
            (&format!(" {own}\n no log\n log @LOG@ local6\n log @LOG@ sample 1:1 local7 debug info"), 2),
        ],
    );
    compare(" log @LOG@ local5", "", &[(&format!(" log global\n {own}\n {format}"), 2)]);
    compare("", &format!(" log @LOG@ local2\n {format}"), &[("", 1), (&format!(" {own}"), 2)]);
}

#[test]
fn levels_and_captures_of_tcp_mode_are_haproxys() {
    let tcp = " mode tcp\n log @LOG@ local0\n tcp-request inspect-delay 1m";
    let format = "log-format \"%[capture.req.hdr(0)] %hr %hrl %ts\"";
    let path = "tcp-request content capture req.payload(4,3) len 8 if { req.len gt 9 }";
    let [level, captured, short, none] = [
        format!("{tcp}\n tcp-request content set-log-level crit\n {path}\n {format}"),
        format!("{tcp}\n {path}\n tcp-request content capture src len 5\n {format}"),
        format!("{tcp}\n tcp-request content capture src len 3\n log-format \"%hr /2-\""),
        format!(
            "{tcp}\n tcp-request content capture src len 9 if {{ src 192.0.2.1 }}\n log-format \"%hr %hrl /3-\""
        ),
    ];
    compare("", "", &[(&level, 1), (&captured, 1), (&short, 1), (&none, 1)]);
}

#[test]
fn a_silent_connection_of_tcp_mode_has_no_line() {
    let text = " mode tcp\n log @LOG@ local0\n tcp-request inspect-delay 1m\n tcp-request content set-log-level silent if { \
                req.payload(4,6) -m bin 2f687573682d }\n tcp-request content capture req.payload(4,6) len 6\n log-format \
                \"asked for %[capture.req.hdr(0)]\"";
    for (peer, lines) in both(&origin(), "", "", &[text]) {
        get(peer.more[0], "/hush-");
        get(peer.more[0], "/loud-");
        let first = lines.next("asked for ");
        assert!(first.contains("asked for /loud-"), "{first}");
    }
}

#[test]
fn values_of_formats_are_haproxys() {
    let log = " log @LOG@ local0\n";
    compare(
        "",
        "",
        &[
            (
                &format!(
                    "{log} log-format \"%HP %{{+X}}[int(255)] %{{+X,+Q}}[int(10)] %{{+X}}[src] %{{+X}}ci\""
                ),
                1,
            ),
            (
                &format!(
                    "{log} unique-id-format %{{+X}}o\\ %ci-%HM\n unique-id-header X-Id\n log-format \"%HP %ID %[unique-id]\""
                ),
                1,
            ),
            (&format!("{log} log-format \"%HP %[capture.req.ver] %[capture.res.ver]\""), 1),
        ],
    );
}

/// Places are numbered in the order of the file, whatever makes them and whenever they are filled.
#[test]
fn captures_have_haproxys_places() {
    let log = " log @LOG@ local0\n log-format \"%HP %hr %hrl %hs %hsl\"\n";
    let cases = [
        " capture request header Host len 9\n capture response header Server len 9\n http-request capture method len 2",
        " http-request capture path len 9\n capture request header Host len 4\n http-request capture method len 3\n \
         tcp-request content capture src len 7",
        " declare capture request len 3\n declare capture response len 4\n declare capture request len 40\n declare capture \
         request len 5\n http-request capture url id 2\n http-request capture path id 0\n http-request capture method id 0 if \
         { method GET }\n http-response capture status id 0",
        " http-request capture path id 1\n capture request header Host len 4\n declare capture request len 9\n http-request \
         capture src id 0",
        " declare capture response len 5\n http-after-response capture status id 0",
    ];
    let frontends = cases.map(|text| format!("{log}{text}"));
    let frontends: Vec<(&str, usize)> = frontends.iter().map(|text| (text.as_str(), 1)).collect();
    compare("", "", &frontends);
}

/// As with HAProxy they are written at once, and each of them has its plus signs.
#[test]
fn lines_that_come_early_are_marked() {
    let log = " log @LOG@ local0\n option logasap";
    compare(
        "",
        "",
        &[
            (&format!("{log}\n log-format \"%HP %ST %ts\""), 1),
            (
                &format!(
                    "{log}\n log-format \"%HP %Ta %Tt %Tu %B %ST %ts\"\n http-request return status 200 content-type text/plain string fine"
                ),
                1,
            ),
        ],
    );
}

/// HAProxy tells of a connection when it comes, and we when it ends: the line is the same.
#[test]
fn a_log_without_a_format_tells_of_connections() {
    let origin = origin();
    let frontends = [" log @LOG@ local0", " mode tcp\n log @LOG@ local0"];
    let [theirs, ours] = both(&origin, "", "", &frontends);
    for place in 0..frontends.len() {
        let [expected, got] = [&theirs, &ours].map(|(peer, lines)| {
            let port = get(peer.more[place], "/");
            normal(&lines.next(&format!("from 127.0.0.1:{port} ")))
        });
        assert_eq!(got, expected);
        assert!(got.contains("Connect from ADDRESS to ADDRESS (f"), "{got}");
    }
}

/// Whoever has events of level alert sent to his telephone goes on being called.
#[test]
fn servers_that_go_down_are_told_of_as_haproxy_does() {
    let origin = origin();
    let dead = Refusing::new();
    let [expected, got] = [Peer::haproxy, Peer::in_haproxys_place].map(|start| {
        let lines = Lines::new();
        let text = format!(
            "global\n nbthread 1\n log-tag haproxy\n log {} local0\ndefaults\n mode http\n log global\n option httplog\n timeout \
             client 1m\n timeout server 1m\n timeout connect 5s\nfrontend probe\n bind @ADDRESS@\n default_backend hb\n\
             backend hb\n server s1 {} check inter 100ms fall 1\n server s2 {} backup\n",
            lines.address(),
            dead.address,
            origin.address
        );
        let _peer = start(&text);
        let line = normal(&lines.next("Server hb/s1 is DOWN"));
        Regex::new(r"\d+ms").expect("a pattern").replace(&line, "TIME").into_owned()
    });
    assert_eq!(got, expected);
    assert!(got.starts_with("<129>"), "{got}");
}

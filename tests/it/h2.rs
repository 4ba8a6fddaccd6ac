//! HTTP/2 from clients, with real ones: heads, bodies in both directions, rules and statistics as for HTTP/1.

use std::process::Command;

use crate::harness::http::{http_gate, ok};
use crate::harness::peers::output;
use crate::harness::{Origin, Shardgate, bytes, program};

/// More than any window or buffer on the way.
const LARGE: u64 = 12_000_000;

fn curl(arguments: &[&str]) -> String {
    output(Command::new(program("curl")).args(["-sS", "--http2-prior-knowledge"]).args(arguments))
}

#[test]
fn requests_go_the_way_of_http1() {
    let origin = Origin::http(|request| {
        ok(&format!("{} {}", request.start(), request.header("x-ver").unwrap_or("-")))
    });
    let rules = r#"rules = [
        { deny = true, if = "{ path /no }" },
        { set-header = { name = "X-Ver", value = "%[req.ver] %[req.hdr(host)] %[req.cook(b)]" } },
    ]"#;
    let gate = http_gate(&origin, rules, "", "");
    let base = format!("http://{}", gate.address("fe"));
    let text = curl(&["-H", "cookie: a=1; b=2", &format!("{base}/x?y=1")]);
    assert_eq!(text, format!("GET /x?y=1 HTTP/1.1 2.0 {} 2", gate.address("fe")));
    let denied = curl(&["-w", "%{http_code} %{http_version}", "-o", "/dev/null", &format!("{base}/no")]);
    assert_eq!(denied, "403 2");
    let post = curl(&["-d", "abc", &format!("{base}/post")]);
    assert!(post.starts_with("POST /post HTTP/1.1"), "{post}");
    let head = curl(&["-I", "-w", "%{http_code}", "-o", "/dev/null", &format!("{base}/head")]);
    assert_eq!(head, "200");
    gate.wait_stat("fe/FRONTEND", "h2req", "4");
    gate.wait_stat("fe/FRONTEND", "h2sess", "4");
    gate.wait_stat("fe/FRONTEND", "h1sess", "0");
    gate.wait_stat("fe/FRONTEND", "dreq", "1");
    gate.wait_stat("fe/FRONTEND", "hrsp_2xx", "3");
    gate.wait_stat("fe/FRONTEND", "stot", "4");
    gate.wait_stat("fe/FRONTEND", "scur", "0");
    gate.finish();
}

#[test]
fn one_port_serves_both_versions() {
    let origin = Origin::http(|request| ok(request.start()));
    let gate = http_gate(&origin, "", "", "");
    let mut one = gate.wire("fe");
    assert_eq!(one.get("/1").text(), "GET /1 HTTP/1.1");
    let url = format!("http://{}/2", gate.address("fe"));
    assert_eq!(curl(&[&url]), "GET /2 HTTP/1.1");
    assert_eq!(one.get("/3").text(), "GET /3 HTTP/1.1");
    drop(one);
    gate.finish();
}

#[test]
fn large_bodies_arrive_unchanged_both_ways() {
    let origin = Origin::wire(|wire, _| {
        while let Some(request) = wire.request() {
            let intact = bytes::is_window(0, &request.body);
            wire.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\nX-Intact: {intact} {}\r\n\r\n",
                request.body.len()
            ));
            bytes::send(&mut wire.stream, LARGE).expect("the proxy takes it");
        }
    });
    let gate = http_gate(&origin, "", "", "");
    let (up, down) = (gate.dir().join("up"), gate.dir().join("down"));
    bytes::send(&mut std::fs::File::create(&up).expect("a file"), LARGE).expect("a file");
    let url = format!("http://{}/", gate.address("fe"));
    let (up, down) = (format!("@{}", up.display()), down.display().to_string());
    for framing in [&[][..], &["-H", "content-length:"]] {
        let mut arguments = vec!["--data-binary", &up, "-o", &down, "-D", "-", &url];
        arguments.extend(framing);
        let head = curl(&arguments);
        assert!(head.contains(&format!("x-intact: true {LARGE}")), "{head}");
        let got = std::fs::read(&down).expect("a file");
        assert!(got.len() as u64 == LARGE && bytes::is_window(0, &got), "{} bytes", got.len());
    }
    gate.finish();
}

#[test]
fn many_streams_of_many_connections_are_all_answered() {
    let origin = Origin::http(|_| ok("hello"));
    let gate = http_gate(&origin, "", "", "");
    let url = format!("http://{}/", gate.address("fe"));
    let said = output(Command::new(program("h2load")).args(["-n", "3000", "-c", "8", "-m", "32", &url]));
    assert!(said.contains("3000 succeeded, 0 failed, 0 errored"), "{said}");
    gate.wait_stat("fe/FRONTEND", "h2req", "3000");
    gate.wait_stat("fe/FRONTEND", "hrsp_2xx", "3000");
    gate.finish();
}

/// A proxy whose second frontend is the server of the first, by HTTP/2, in front of the origin.
fn chain(origin: &Origin, keywords: &str) -> Shardgate {
    let port = crate::harness::peers::free_address().port();
    let text = format!(
        r#"
[frontend.fe]
bind = "127.0.0.1:0"
default-backend = "h2"
[backend.h2.server.s1]
address = "127.0.0.1:{port}"
proto = "h2"
{keywords}
[frontend.inner]
bind = "127.0.0.1:{port}"
default-backend = "be"
[backend.be.server.s1]
address = "{}"
"#,
        origin.address
    );
    Shardgate::with(&text).defaults("mode = \"http\"").start()
}

#[test]
fn servers_are_spoken_to_in_http2() {
    let origin = Origin::wire(|wire, _| {
        while let Some(request) = wire.request() {
            let intact = bytes::is_window(0, &request.body);
            let framing = if request.start().contains("/chunked") {
                wire.send(format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Intact: {intact}\r\n\r\n{LARGE:x}\r\n"
                ));
                "\r\n0\r\nx-trailer: yes\r\n\r\n"
            } else {
                wire.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\nX-Intact: {intact}\r\nX-Host: {}\r\n\r\n",
                    request.header("host").unwrap_or("none")
                ));
                ""
            };
            bytes::send(&mut wire.stream, LARGE).expect("the proxy takes it");
            wire.send(framing);
        }
    });
    let gate = chain(&origin, "");
    let (up, down) = (gate.dir().join("up"), gate.dir().join("down"));
    bytes::send(&mut std::fs::File::create(&up).expect("a file"), LARGE).expect("a file");
    let (up, down) = (format!("@{}", up.display()), down.display().to_string());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for (path, framing) in [("/length", "x: y"), ("/chunked", "transfer-encoding: chunked")] {
            let url = format!("http://{}{path}", gate.address("fe"));
            let mut command = Command::new(program("curl"));
            command.args(["-sS", version, "--data-binary", &up, "-o", &down, "-D", "-", &url]);
            if version == "--http1.1" {
                command.args(["-H", framing]);
            }
            let head = output(&mut command);
            assert!(head.to_lowercase().contains("x-intact: true"), "{version} {path}: {head}");
            let got = std::fs::read(&down).expect("a file");
            assert!(
                got.len() as u64 == LARGE && bytes::is_window(0, &got),
                "{version} {path}: {}",
                got.len()
            );
        }
    }
    gate.wait_stat("inner/FRONTEND", "h2req", "4");
    gate.wait_stat("h2/s1", "hrsp_2xx", "4");
    gate.finish();
}

#[test]
fn connections_to_servers_are_shared_and_opened_as_needed() {
    let origin = Origin::http(|_| ok("hello"));
    let gate = chain(&origin, "max-streams = 4");
    let url = format!("http://{}/", gate.address("fe"));
    let said = output(Command::new(program("h2load")).args(["-n", "2000", "-c", "4", "-m", "16", &url]));
    assert!(said.contains("2000 succeeded, 0 failed, 0 errored"), "{said}");
    let connects = gate.count("h2/s1", "connect");
    assert!((2..40).contains(&connects), "{connects} connections for 64 requests at once, 4 each");
    gate.wait_stat("inner/FRONTEND", "h2req", "2000");
    gate.finish();
}

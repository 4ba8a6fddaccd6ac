//! HTTP mode from outside: messages and bodies in every form, connections kept and closed, bad input on both sides.

use std::io::Read;
use std::net::Shutdown;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::http::{http_gate, ok, sections};
use crate::harness::origin::Refusing;
use crate::harness::peers::{Peer, output};
use crate::harness::{Origin, Shardgate, bytes, program};

/// More than any buffer on the way.
const LARGE: u64 = 12_000_000;

#[test]
fn request_1000_of_a_connection_is_judged_as_the_first() {
    let origin = Origin::http(|request| ok(request.header("x-path").unwrap_or("none")));
    let rules = r#"rules = [
        { deny = true, if = "{ path /no }" },
        { set-header = { name = "X-Path", value = "%[path]" } },
    ]"#;
    let gate = http_gate(&origin, rules, "", "");
    let mut client = gate.wire("fe");
    for number in 0..500 {
        let path = format!("/{number}");
        assert_eq!(client.get(&path).text(), path);
        assert_eq!(client.get("/no").status(), 403);
    }
    assert_eq!(origin.accepted(), 1, "one connection serves them all");
    drop(client);
    gate.wait_stat("fe/FRONTEND", "req_tot", "1000");
    gate.wait_stat("fe/FRONTEND", "dreq", "500");
    gate.wait_stat("fe/FRONTEND", "hrsp_2xx", "500");
    gate.wait_stat("fe/FRONTEND", "hrsp_4xx", "500");
    gate.wait_stat("fe/FRONTEND", "stot", "1");
    gate.wait_stat("be/s1", "reuse", "499");
    gate.wait_stat("be/s1", "connect", "1");
    gate.finish();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::http(|request| ok(request.start()));
    let gate = http_gate(&origin, "", "", "");
    let mut client = gate.wire("fe");
    let mut all = String::new();
    for number in 0..200 {
        all += &format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    }
    client.send(all);
    for number in 0..200 {
        assert_eq!(client.response("POST").text(), format!("POST /{number} HTTP/1.1"));
    }
    drop(client);
    gate.finish();
}

#[test]
fn a_request_may_be_cut_at_every_byte() {
    let origin = Origin::http(|request| ok(&request.text()));
    let gate = http_gate(&origin, "", "", "");
    let request: &[u8] = b"POST /x?y=1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                           5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\nX-Trailer: t\r\n\r\n";
    for cut in 1..request.len() {
        let mut client = gate.wire("fe");
        client.send(&request[..cut]);
        std::thread::yield_now();
        client.send(&request[cut..]);
        assert_eq!(client.response("POST").text(), "hello!", "cut at {cut}");
    }
    let mut client = gate.wire("fe");
    for byte in request {
        client.send([*byte]);
    }
    assert_eq!(client.response("POST").text(), "hello!");
    drop(client);
    gate.finish();
}

#[test]
fn what_two_recipients_may_read_differently_is_refused() {
    let origin = Origin::http(|_| ok("never"));
    let gate =
        http_gate(&origin, "max-header-bytes = \"4k\"\nmax-uri-bytes = \"1k\"\nmax-headers = 20", "", "");
    let long = "a".repeat(2000);
    let many: String = (0..30).map(|n| format!("X-{n}: 1\r\n")).collect();
    let huge = format!("X: {}\r\n", "a".repeat(8000));
    let cases = [
        (400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\nHost: a\n\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n".to_owned()),
        (400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_owned(),
        ),
        (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned()),
        (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n".to_owned()),
        (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n".to_owned()),
        (400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
        (400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n".to_owned()),
        (
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_owned(),
        ),
        (501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_owned()),
        (400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n".to_owned()),
        (400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n".to_owned()),
        (400, "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n".to_owned()),
        (400, "CONNECT / HTTP/1.1\r\nHost: b\r\n\r\n".to_owned()),
        (505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned()),
        (414, format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")),
        (431, format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")),
        (431, format!("GET / HTTP/1.1\r\nHost: a\r\n{huge}\r\n")),
        (413, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n".to_owned()),
    ];
    for (status, request) in &cases {
        let mut client = gate.wire("fe");
        // A second request behind it must not be served: that is what smuggling is about.
        client.send(format!("{request}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = client.response("GET");
        assert_eq!(answer.status(), *status, "{request:?}\n{}", answer.head);
        assert!(client.is_closed(), "closed behind {request:?}");
    }
    assert!(origin.notes().is_empty(), "the origin saw {:?}", origin.notes());
    gate.wait_stat("fe/FRONTEND", "ereq", &cases.len().to_string());
    gate.finish();
}

#[test]
fn ambiguous_messages_may_be_repaired() {
    let origin =
        Origin::http(|request| ok(&format!("{}|{}", request.text(), request.header("x").unwrap_or("-"))));
    let gate = http_gate(&origin, "ambiguous-messages = \"repair\"", "", "");
    let mut client = gate.wire("fe");
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nX: one\r\n two\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nhi\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let answer = client.response("POST");
    assert_eq!(answer.text(), "hi|one two");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed());
    assert!(!String::from_utf8_lossy(&origin.notes()[0]).to_ascii_lowercase().contains("content-length"));
    gate.finish();
}

#[test]
fn large_bodies_arrive_whole_in_both_directions() {
    // The origin checks what it gets and answers with a body of the same kind.
    let origin = Origin::wire(|wire, shared| {
        while let Ok(head) = wire.head() {
            let size = LARGE;
            if head.starts_with("POST") {
                let mut left = LARGE;
                let mut sum = 0_u64;
                while left > 0 {
                    let piece = wire.exactly(left.min(1 << 20) as usize).expect("the whole body");
                    left -= piece.len() as u64;
                    sum = piece
                        .iter()
                        .fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
                }
                shared.note(sum.to_string().as_bytes());
                wire.send(ok("thanks"));
            } else {
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"));
                let _ = bytes::send(&mut wire.stream, size);
            }
        }
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = gate.wire("fe");
    for _ in 0..2 {
        client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.head().expect("a head");
        assert!(head.contains(&LARGE.to_string()), "{head}");
        let mut left = LARGE;
        let mut at = 0;
        while left > 0 {
            let piece = client.exactly(left.min(60_000) as usize).expect("the whole body");
            assert!(piece == bytes::window(at, piece.len()), "wrong bytes at {at}");
            at += piece.len() as u64;
            left -= piece.len() as u64;
        }
    }
    let mut sum = 0_u64;
    client.send(format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n"));
    let mut at = 0;
    while at < LARGE {
        let piece = bytes::window(at, (LARGE - at).min(50_000) as usize);
        sum = piece.iter().fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        client.send(piece);
        at += piece.len() as u64;
    }
    assert_eq!(client.response("POST").text(), "thanks");
    assert_eq!(String::from_utf8_lossy(&origin.notes()[0]), sum.to_string());
    assert_eq!(origin.accepted(), 1);
    drop(client);
    gate.finish();
}

#[test]
fn chunks_and_trailers_pass_in_both_directions() {
    let origin = Origin::wire(|wire, shared| {
        while let Some(request) = wire.request() {
            shared.note(&request.body);
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n");
            wire.send("2;x=y\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n");
        }
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = gate.wire("fe");
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n");
        client.send("5\r\npedia\r\n0\r\nX-T: 1\r\n\r\n");
        assert_eq!(client.response("POST").text(), "abcde");
    }
    assert_eq!(origin.notes(), vec![b"wikipedia".to_vec(); 3]);
    assert_eq!(origin.accepted(), 1);
    // An old client gets the data alone, and the close as its end.
    let mut old = gate.wire("fe");
    old.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    let answer = old.response("GET");
    assert_eq!((answer.text().as_str(), answer.header("transfer-encoding")), ("abcde", None));
    assert_eq!(answer.header("connection"), Some("close"));
    drop((client, old));
    gate.finish();
}

#[test]
fn bodies_that_end_with_the_connection_become_chunks() {
    let origin = Origin::wire(|wire, _| {
        if wire.request().is_some() {
            wire.send("HTTP/1.1 200 OK\r\n\r\nuntil ");
            wire.send("the end");
        }
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = gate.wire("fe");
    for _ in 0..3 {
        let answer = client.get("/");
        assert_eq!(answer.text(), "until the end");
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"), "{}", answer.head);
    }
    assert_eq!(origin.accepted(), 3);
    drop(client);
    gate.finish();
}

#[test]
fn responses_without_body_leave_the_connection_usable() {
    let origin = Origin::http(|request| match request.start().split(' ').nth(1) {
        Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        Some("/304") => "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: \"x\"\r\n\r\n".to_owned(),
        _ if request.start().starts_with("HEAD") => {
            "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n".to_owned()
        }
        _ => ok("body"),
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = gate.wire("fe");
    for _ in 0..3 {
        client.send("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response("HEAD").header("content-length"), Some("1234"));
        assert_eq!(client.get("/204").status(), 204);
        assert_eq!(client.get("/304").status(), 304);
        assert_eq!(client.get("/").text(), "body");
    }
    assert_eq!(origin.accepted(), 1);
    drop(client);
    gate.finish();
}

#[test]
fn interim_responses_go_on_and_the_body_waits_for_them() {
    let origin = Origin::wire(|wire, _| {
        while let Ok(head) = wire.head() {
            assert!(head.to_ascii_lowercase().contains("expect: 100-continue"), "{head}");
            wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
            let Ok(body) = wire.exactly(5) else { return };
            wire.send(ok(&String::from_utf8_lossy(&body)));
        }
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = gate.wire("fe");
    for _ in 0..2 {
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        let hints = client.response("PUT");
        assert_eq!((hints.status(), hints.header("link")), (103, Some("</a.css>")));
        assert_eq!(client.response("PUT").status(), 100);
        client.send("12345");
        assert_eq!(client.response("PUT").text(), "12345");
    }
    drop(client);
    gate.finish();
}

#[test]
fn a_final_response_may_come_before_the_body_ends() {
    let origin = Origin::wire(|wire, _| {
        if wire.head().is_ok() {
            wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
        }
        // Reads on, as a polite server does, so that its answer is not lost in a reset.
        let _ = wire.stream.shutdown(Shutdown::Write);
        wire.rest();
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = gate.wire("fe");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nsome of it");
    let answer = client.response("POST");
    assert_eq!((answer.status(), answer.text().as_str()), (413, "big"));
    assert_eq!(answer.header("connection"), Some("close"), "what follows would be read as a request");
    assert!(client.is_closed());
    gate.finish();
}

#[test]
fn a_stale_connection_is_replaced_without_the_client_noticing() {
    // Answers one request on each connection and closes it when the next one arrives.
    let origin = Origin::wire(|wire, shared| {
        if let Some(request) = wire.request() {
            shared.note(request.start().as_bytes());
            wire.send(ok("once"));
            let _ = wire.stream.read(&mut [0; 1]);
        }
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = gate.wire("fe");
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "once");
    }
    assert_eq!(origin.accepted(), 20);
    gate.wait_stat("be/s1", "wretr", "0");
    // Twice the same POST could be two orders.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(client.response("POST").status(), 502);
    drop(client);
    gate.finish();
}

#[test]
fn a_server_that_closes_while_idle_costs_nothing() {
    let origin = Origin::wire(|wire, _| {
        if wire.request().is_some() {
            wire.send(ok("once"));
        }
    });
    let gate = http_gate(&origin, "", "retries = 0", "");
    let mut client = gate.wire("fe");
    for number in 1..=5 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!(client.response("POST").text(), "once");
        // Its close is seen by then: the idle connection is gone from the count, at the latest by the sweep.
        gate.wait_stat("be/s1", "srv_icur", "0");
        assert_eq!(origin.accepted(), number);
    }
    drop(client);
    gate.finish();
}

#[test]
fn servers_that_fail_are_answered_for() {
    for (answer, status) in [
        ("", 502),
        ("HTTP/1.1 2x0 OK\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n", 502),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 502),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", 502),
        ("SSH-2.0-OpenSSH\r\n", 502),
    ] {
        let origin = Origin::wire(move |wire, _| {
            if wire.request().is_some() {
                wire.send(answer);
            }
        });
        let gate = http_gate(&origin, "", "", "");
        let mut client = gate.wire("fe");
        assert_eq!(client.get("/").status(), status, "{answer:?}");
        gate.wait_stat("be/s1", "eresp", "1");
        drop(client);
        gate.finish();
    }
}

#[test]
fn a_body_that_is_cut_short_is_never_taken_for_whole() {
    for (head, body) in [
        ("Content-Length: 100", "only this"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
        ("Transfer-Encoding: chunked", "5\r\nhel"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\nnot a size\r\n"),
    ] {
        let origin = Origin::wire(move |wire, _| {
            if wire.request().is_some() {
                wire.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}"));
            }
        });
        let gate = http_gate(&origin, "", "", "");
        let mut client = gate.wire("fe");
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.try_response("GET").is_err(), "{head} {body:?}");
        drop(client);
        gate.finish();
    }
}

#[test]
fn what_cannot_be_reached_is_a_503_and_the_connection_stays() {
    let refusing = Refusing::new();
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[frontend.no]\nbind = \"127.0.0.1:0\"\n\
         [backend.be]\nretries = 0\nserver.s1 = {{ address = \"{}\" }}\n",
        refusing.address
    );
    let gate = Shardgate::with(&body).defaults("mode = \"http\"").start();
    let mut client = gate.wire("fe");
    for _ in 0..3 {
        assert_eq!(client.get("/").status(), 503);
    }
    gate.wait_stat("be/s1", "econ", "3");
    let mut lost = gate.wire("no");
    for _ in 0..3 {
        assert_eq!(lost.get("/").status(), 503, "no rule and no default-backend");
    }
    drop((client, lost));
    gate.finish();
}

#[test]
fn timeouts_are_answered() {
    let origin = Origin::silent();
    let body = sections(&origin, "", "", "");
    let timeouts = "mode = \"http\"\ntimeout.server = \"100ms\"\ntimeout.http-request = \"300ms\"\ntimeout.http-keep-alive = \"100ms\"";
    let gate = Shardgate::with(&body).defaults(timeouts).start();
    let mut client = gate.wire("fe");
    assert_eq!(client.get("/").status(), 504);
    gate.wait_stat("be/s1", "srv_timeout", "1");
    assert!(client.is_closed(), "timeout http-keep-alive closes without a word");
    let mut slow = gate.wire("fe");
    slow.send("GET / HTT");
    assert_eq!(slow.response("GET").status(), 408);
    assert!(slow.is_closed());
    let mut silent = gate.wire("fe");
    assert_eq!(silent.response("GET").status(), 408);
    drop((client, slow, silent));
    gate.finish();
}

#[test]
fn upgrades_become_tunnels_and_others_go_on() {
    let origin = Origin::wire(|wire, _| {
        while let Some(request) = wire.request() {
            if request.header("upgrade") == Some("echo") {
                assert_eq!(request.header("connection"), Some("upgrade"));
                wire.send(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\nhello ",
                );
                let mut buf = [0; 4096];
                while let Ok(n @ 1..) = wire.stream.read(&mut buf) {
                    wire.send(&buf[..n]);
                }
                return;
            }
            wire.send(ok("plain"));
        }
    });
    let gate = http_gate(&origin, "", "", "");
    let mut tunnel = gate.wire("fe");
    tunnel.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    let answer = tunnel.response("GET");
    assert_eq!((answer.status(), answer.header("upgrade")), (101, Some("echo")));
    assert_eq!(tunnel.exactly(6).expect("what came with the head"), b"hello ");
    let mut other = gate.wire("fe");
    for round in 0..5 {
        tunnel.send(format!("round {round}"));
        assert_eq!(tunnel.exactly(7).expect("an echo"), format!("round {round}").into_bytes());
        assert_eq!(other.get("/").text(), "plain");
    }
    tunnel.stream.shutdown(Shutdown::Write).expect("open");
    assert!(tunnel.is_closed());
    drop((tunnel, other));
    gate.finish();
}

#[test]
fn headers_of_one_hop_stay_there() {
    let origin = Origin::http(|_| {
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-End: 1\r\n\
         Content-Length: 0\r\n\r\n"
            .to_owned()
    });
    let gate = http_gate(&origin, "", "", "");
    let mut client = gate.wire("fe");
    client.send(
        "GET http://a/x HTTP/1.1\r\nHost: a\r\nConnection: X-Mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: 1\r\n\
         Proxy-Connection: x\r\nTE: gzip\r\nX-End: 1\r\n\r\n",
    );
    let answer = client.response("GET");
    assert_eq!(
        (answer.header("x-hop"), answer.header("keep-alive"), answer.header("x-end")),
        (None, None, Some("1"))
    );
    assert_eq!(String::from_utf8_lossy(&origin.notes()[0]), "GET /x HTTP/1.1\r\nHost: a\r\nX-End: 1\r\n\r\n");
    drop(client);
    gate.finish();
}

#[test]
fn connections_are_kept_as_configured() {
    // The stricter of both sections holds.
    for (frontend, backend, server_connections, client_stays) in [
        ("", "", 1, true),
        ("http-server-close = true", "", 3, true),
        ("", "http-server-close = true", 3, true),
        ("http-server-close = true", "http-keep-alive = true", 3, true),
        ("httpclose = true", "", 3, false),
        ("http-server-close = true", "httpclose = true", 3, false),
    ] {
        let keywords = format!("{frontend}, {backend}");
        let origin = Origin::http(|_| ok("x"));
        let gate = http_gate(&origin, frontend, backend, "");
        let mut client = gate.wire("fe");
        for _ in 0..3 {
            let answer = client.get("/");
            assert_eq!(answer.header("connection").is_none(), client_stays, "{keywords}: {}", answer.head);
            if !client_stays {
                assert!(client.is_closed());
                client = gate.wire("fe");
            }
        }
        assert_eq!(origin.accepted(), server_connections, "{keywords}");
        drop(client);
        gate.finish();
    }
}

#[test]
fn idle_connections_are_shared_as_http_reuse_says() {
    // Each session makes two requests; with "safe" its first takes a connection of its own.
    for (reuse, expected) in [("never", 4), ("safe", 4), ("always", 1)] {
        let origin = Origin::http(|_| ok("x"));
        let body = sections(&origin, "", &format!("http-reuse = \"{reuse}\""), "");
        let gate = Shardgate::with(&body).cores(1).defaults("mode = \"http\"").start();
        for _ in 0..4 {
            let mut client = gate.wire("fe");
            client.get("/1");
            client.get("/2");
            drop(client);
            gate.wait_stat("fe/FRONTEND", "scur", "0");
        }
        assert_eq!(origin.accepted(), expected, "{reuse}");
        gate.finish();
    }
}

#[test]
fn a_server_status_of_retry_on_is_asked_for_again() {
    let asked = AtomicUsize::new(0);
    let origin = Origin::http(move |_| match asked.fetch_add(1, Ordering::AcqRel) {
        0 | 1 => "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy".to_owned(),
        _ => ok("at last"),
    });
    let gate = http_gate(&origin, "", "retry-on = [\"503\"]\nretries = 2", "");
    let mut client = gate.wire("fe");
    assert_eq!(client.get("/").text(), "at last");
    gate.wait_stat("be/s1", "wretr", "2");
    drop(client);
    gate.finish();
}

#[test]
fn curl_and_nginx_work_through_it() {
    let nginx = Peer::nginx(
        "http { access_log off; server { listen @ADDRESS@; location / { return 200 \"$request_method $uri\\n\"; } } }",
    );
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\nserver.s1 = {{ address = \"{}\" }}\n",
        nginx.address
    );
    let gate = Shardgate::with(&body).defaults("mode = \"http\"").start();
    let url = |path: &str| format!("http://{}{path}", gate.address("fe"));
    let text =
        output(Command::new(program("curl")).args(["-sS", "--max-time", "20", &url("/a"), &url("/b")]));
    assert_eq!(text, "GET /a\nGET /b\n");
    let text =
        output(Command::new(program("curl")).args(["-sS", "--max-time", "20", "-d", "x=1", &url("/c")]));
    assert_eq!(text, "POST /c\n");
    gate.finish();
}

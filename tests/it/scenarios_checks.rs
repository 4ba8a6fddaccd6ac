//! The scenario pages about WebSockets, persistence, shared targets and health: the configuration of each page runs.

use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::http::ok;
use crate::harness::peers::{Peer, output};
use crate::harness::{Origin, Shardgate, program, until};

/// The configuration of a page, with addresses put in place of those that it names.
fn page(name: &str, replace: &[(&str, String)]) -> Shardgate {
    let path = format!("{}/docs/scenarios/{name}.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the page is there");
    let (_, block) = text.split_once("```toml\n").expect("a configuration");
    let (block, _) = block.split_once("```").expect("its end");
    let mut block = block.replace("*:80", "127.0.0.1:0");
    for (address, real) in replace {
        assert!(block.contains(address), "{name} names no {address}");
        block = block.replace(address, real);
    }
    let block =
        block.replace("inter = \"3s\"", "inter = \"50ms\"").replace("inter = \"2s\"", "inter = \"50ms\"");
    let block = block.replace("agent-inter = \"5s\"", "agent-inter = \"50ms\"");
    let (defaults, body) = block.split_once("\n\n").expect("defaults come first");
    let defaults = defaults.strip_prefix("[defaults]\n").expect("defaults come first");
    Shardgate::with(body).defaults(defaults).start()
}

/// A WebSocket server that echoes, and a web page beside it; its port is the first argument.
const ECHO: &str = r#"
const http = require('http'), { WebSocketServer } = require('ws');
const server = http.createServer((q, r) => { r.end('node ' + q.method + ' ' + q.url); });
new WebSocketServer({ server }).on('connection', (ws, q) => ws.on('message', (m, binary) => ws.send(m, { binary })));
server.listen(Number(process.argv[1]), '127.0.0.1');
"#;

/// Several tunnels at once, each with messages of many sizes one after the other.
const CLIENT: &str = r#"
const { WebSocket } = require('ws');
const [url, tunnels, rounds] = [process.argv[1], Number(process.argv[2]), Number(process.argv[3])];
const one = (n) => new Promise((done, fail) => {
  const ws = new WebSocket(url, 'echo-protocol');
  let round = 0, sent;
  const next = () => {
    if (round === rounds) { ws.close(); return; }
    sent = Buffer.alloc(1 + (round * 7919 + n) % 100000, n + round++);
    ws.send(sent);
  };
  ws.on('open', next);
  ws.on('message', (m) => { if (!sent.equals(m)) fail(new Error('wrong echo')); next(); });
  ws.on('close', (code) => round === rounds ? done() : fail(new Error('closed with ' + code)));
  ws.on('error', fail);
});
Promise.all([...Array(tunnels).keys()].map(one)).then(() => console.log('all echoed'), (e) => console.log('failed: ' + e));
"#;

fn node(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("node"));
    command.env("NODE_PATH", "/usr/share/nodejs").args(["-e", script, "--"]).args(arguments);
    command
}

#[test]
fn websockets_and_ordinary_requests_go_to_their_farms() {
    let ws = Peer::listening(|address| node(ECHO, &[&address.port().to_string()]));
    let web = Origin::http(|request| {
        if request.start().starts_with("HEAD") { "HTTP/1.1 200 OK\r\n\r\n".to_owned() } else { ok("web") }
    });
    let gate = page(
        "websocket-farm",
        &[("192.0.2.11:80", web.address.to_string()), ("192.0.2.21:8080", ws.address.to_string())],
    );
    gate.wait_stat("bk-ws/websrv1", "check_status", "L7OK");
    assert_eq!(gate.stat("bk-ws/websrv1", "check_code"), "101");
    let url = format!("ws://{}/chat", gate.address("ft-web"));
    let tunnels = std::thread::spawn(move || output(&mut node(CLIENT, &[&url, "8", "30"])));
    let mut client = gate.wire("ft-web");
    for _ in 0..50 {
        assert_eq!(client.get("/").text(), "web");
    }
    assert_eq!(tunnels.join().expect("it ends").trim(), "all echoed");
    let handshake = |without: &str, protocol: &str| {
        let mut client = gate.wire("ft-web");
        let mut request = "GET / HTTP/1.1\r\nHost: ws.example.com\r\n".to_owned();
        for line in [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
        ] {
            if !line.starts_with(without) || without.is_empty() {
                request += &format!("{line}\r\n");
            }
        }
        client.send(format!("{request}Sec-WebSocket-Protocol: {protocol}\r\n\r\n"));
        client.response("GET").status()
    };
    assert_eq!(handshake("", "echo-protocol"), 101);
    assert_eq!(handshake("", "other"), 403);
    // Each of the four is needed, and not only one of them.
    for header in ["Connection", "Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version"] {
        assert_eq!(handshake(header, "echo-protocol"), 400, "without {header}");
    }
    drop(client);
    gate.finish();
}

#[test]
fn servers_of_node_and_python_work_behind_it() {
    let node = Peer::listening(|address| node(ECHO, &[&address.port().to_string()]));
    let python = Peer::listening(|address| {
        let mut command = Command::new(program("python3"));
        command.args(["-m", "http.server", "--bind", "127.0.0.1", "--directory", env!("CARGO_MANIFEST_DIR")]);
        command.arg(address.port().to_string());
        command
    });
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\nrules = [{{ use-backend = \"node\", if = \"{{ path_beg /node }}\" }}]\n\
         default-backend = \"python\"\n[backend.node]\nserver.s1 = {{ address = \"{}\" }}\n\
         [backend.python]\nserver.s1 = {{ address = \"{}\" }}\n",
        node.address, python.address
    );
    let gate = Shardgate::with(&body).defaults("mode = \"http\"").start();
    let url = |path: &str| format!("http://{}{path}", gate.address("fe"));
    let curl = |arguments: &[&str]| {
        output(Command::new(program("curl")).args(["-sS", "--max-time", "20"]).args(arguments))
    };
    assert_eq!(curl(&[&url("/node/a"), &url("/node/b")]), "node GET /node/anode GET /node/b");
    assert_eq!(curl(&["-d", "x=1", &url("/node/c")]), "node POST /node/c");
    let file = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("ours");
    assert_eq!(curl(&[&url("/Cargo.toml")]), file);
    assert!(curl(&["-I", &url("/missing")]).starts_with("HTTP/1.1 404"));
    gate.finish();
}

#[test]
fn sticky_clients_wait_for_their_one_slot() {
    static INSIDE: AtomicUsize = AtomicUsize::new(0);
    let server = |name: &'static str| {
        let inside = AtomicUsize::new(0);
        Origin::http(move |_| {
            assert_eq!(inside.fetch_add(1, Ordering::AcqRel), 0, "two requests at once");
            INSIDE.fetch_add(1, Ordering::AcqRel);
            std::thread::yield_now();
            inside.fetch_sub(1, Ordering::AcqRel);
            ok(name)
        })
    };
    let (one, two) = (server("one"), server("two"));
    let gate = page(
        "sticky-one-at-a-time",
        &[("192.0.2.11:80", one.address.to_string()), ("192.0.2.12:80", two.address.to_string())],
    );
    let first = gate.wire("ft-www").get("/");
    let cookie =
        first.header("set-cookie").expect("a cookie").split(';').next().unwrap_or_default().to_owned();
    assert_eq!(first.header("cache-control"), Some("private"));
    let threads: Vec<_> = (0..20)
        .map(|_| {
            let (mut client, cookie) = (gate.wire("ft-www"), cookie.clone());
            std::thread::spawn(move || {
                let mut texts = Vec::new();
                for _ in 0..10 {
                    client.send(format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n"));
                    texts.push(client.response("GET").text());
                }
                texts
            })
        })
        .collect();
    for thread in threads {
        assert!(thread.join().expect("served").iter().all(|text| *text == first.text()));
    }
    assert_eq!(INSIDE.load(Ordering::Acquire), 201);
    gate.finish();
}

#[test]
fn targets_of_several_names_share_connections_and_checks() {
    let checks = std::sync::Arc::new(AtomicUsize::new(0));
    let mine = std::sync::Arc::clone(&checks);
    let origin = Origin::http(move |request| {
        if request.start().contains("/health") {
            assert_eq!(request.header("host"), Some("health.example.com"));
            mine.fetch_add(1, Ordering::AcqRel);
        }
        ok(request.header("host").unwrap_or_default())
    });
    let gate = page("shared-targets", &[("192.0.2.11:80", origin.address.to_string())]);
    gate.wait_stat("shop/s1", "check_status", "L7OK");
    gate.wait_stat("blog/s1", "check_status", "L7OK");
    let mut client = gate.wire("sites");
    for host in ["shop.example.com", "blog.example.com", "shop.example.com"] {
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.response("GET").text(), host);
    }
    gate.wait_stat("shop/s1", "reuse", "1");
    gate.wait_stat("blog/s1", "reuse", "1");
    assert_eq!(gate.count("shop/s1", "connect") + gate.count("blog/s1", "connect"), 1);
    drop(client);
    gate.finish();
}

#[test]
fn a_health_page_and_an_agent_rule_a_server() {
    let ready = std::sync::Arc::new(AtomicUsize::new(1));
    let mine = std::sync::Arc::clone(&ready);
    let app = Origin::http(move |_| ok(if mine.load(Ordering::Acquire) == 1 { "ready" } else { "starting" }));
    let agent = Origin::new(|mut stream, _| {
        let _ = stream.write_all(b"50%\n");
    });
    let port = agent.address.port().to_string();
    let gate = page("health-by-agent", &[("192.0.2.11:80", app.address.to_string()), ("9777", port)]);
    gate.wait_stat("app/app1", "check_status", "L7OK");
    gate.wait_stat("app/app1", "uweight", "50");
    ready.store(0, Ordering::Release);
    until("it is down", || gate.stat("app/app1", "status").starts_with("DOWN"));
    gate.finish();
}

#[test]
fn timeout_tunnel_ends_a_silent_tunnel() {
    let origin = Origin::wire(|wire, _| {
        if wire.request().is_some() {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhi");
            wire.rest();
        }
    });
    let body = crate::harness::http::sections(&origin, "", "timeout.tunnel = \"150ms\"", "");
    let gate = Shardgate::with(&body).defaults("mode = \"http\"").start();
    let mut client = gate.wire("fe");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(client.response("GET").status(), 101);
    client.send("some bytes in this direction too");
    assert_eq!(client.exactly(2).expect("what came"), b"hi");
    assert!(client.is_closed(), "no byte for as long as timeout tunnel, far below timeout client");
    drop(client);
    gate.finish();
}

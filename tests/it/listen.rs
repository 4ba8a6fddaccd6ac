//! Where it listens: UNIX and abstract sockets, inherited ones, ranges, addresses that are elsewhere, and which core accepts.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::process::{Command, Stdio};

use crate::harness::peers::output;
use crate::harness::{Origin, PATIENCE, Shardgate, connect, program, until};

fn frontend(bind: &str, server: &str) -> String {
    format!(
        "[frontend.fe]\nbind = {bind}\ndefault-backend = \"be\"\n[backend.be.server.s1]\naddress = \"{server}\"\n"
    )
}

/// One exchange over any kind of stream.
fn echoes(mut stream: impl Read + Write) {
    stream.write_all(b"hello").expect("the proxy takes it");
    let mut back = [0; 5];
    stream.read_exact(&mut back).expect("the echo");
    assert_eq!(&back, b"hello");
}

fn unix(stream: UnixStream) -> UnixStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

/// A name in the abstract namespace that no other test has.
fn abstract_name(what: &str) -> String {
    format!("shardgate-it-{what}-{}", std::process::id())
}

#[test]
fn a_unix_socket_is_a_bind() {
    let origin = Origin::echo();
    let gate = Shardgate::start(&frontend("\"unix@@DIR@/in.sock\"", &origin.address.to_string()));
    for _ in 0..5 {
        echoes(unix(UnixStream::connect(gate.dir().join("in.sock")).expect("it listens")));
    }
    gate.finish();
}

#[test]
fn an_abstract_socket_is_a_bind() {
    let origin = Origin::echo();
    let name = abstract_name("bind");
    let gate = Shardgate::start(&frontend(&format!("\"abns@{name}\""), &origin.address.to_string()));
    let address = UnixAddr::from_abstract_name(name).expect("a short name");
    echoes(unix(UnixStream::connect_addr(&address).expect("it listens")));
    gate.finish();
}

#[test]
fn unix_and_abstract_sockets_are_servers() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("server.sock");
    let name = abstract_name("server");
    let address = UnixAddr::from_abstract_name(&name).expect("a short name");
    let listeners = [
        (UnixListener::bind(&path).expect("our own directory"), format!("unix@{}", path.display())),
        (UnixListener::bind_addr(&address).expect("a name of our own"), format!("abns@{name}")),
    ];
    for (listener, server) in listeners {
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = stream.try_clone().expect("a socket");
                let mut stream = stream;
                let mut buf = [0; 5];
                if reader.read_exact(&mut buf).is_ok() {
                    let _ = stream.write_all(&buf);
                }
            }
        });
        let gate = Shardgate::start(&frontend("\"127.0.0.1:0\"", &server));
        echoes(gate.connect("fe"));
        echoes(gate.connect("fe"));
        gate.finish();
    }
}

#[test]
fn an_inherited_socket_is_a_bind() {
    let origin = Origin::echo();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a local address");
    let address = listener.local_addr().expect("bound");
    let gate = Shardgate::with(&frontend("\"fd@3\"", &origin.address.to_string())).inherit(listener).start();
    for _ in 0..10 {
        echoes(connect(address));
    }
    gate.wait_stat("fe/FRONTEND", "stot", "10");
    gate.finish();
}

#[test]
fn a_connection_that_waited_in_an_inherited_socket_is_served() {
    let origin = Origin::echo();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a local address");
    let early = connect(listener.local_addr().expect("bound"));
    let gate = Shardgate::with(&frontend("\"fd@3\"", &origin.address.to_string())).inherit(listener).start();
    echoes(early);
    gate.finish();
}

#[test]
fn several_binds_and_a_range_of_ports() {
    let origin = Origin::echo();
    // Two neighbouring ports that are free now.
    let (first, _second) = loop {
        let a = TcpListener::bind("127.0.0.1:0").expect("a local address");
        let port = a.local_addr().expect("bound").port();
        if let Some(Ok(b)) = port.checked_add(1).map(|p| TcpListener::bind(("127.0.0.1", p))) {
            break (port, b.local_addr().expect("bound").port());
        }
    };
    let bind = format!("[\"127.0.0.1:0\", \"[::1]:0\", \"127.0.0.1:{first}-{}\"]", first + 1);
    let gate = Shardgate::start(&frontend(&bind, &origin.address.to_string()));
    let listeners = gate.ask("show listeners");
    let addresses: Vec<SocketAddr> =
        listeners.lines().filter_map(|l| l.split_whitespace().nth(2)?.parse().ok()).collect();
    assert_eq!(addresses.len(), 4, "{listeners}");
    for address in addresses {
        assert_ne!(address.port(), 0, "{listeners}");
        echoes(connect(address));
    }
    gate.finish();
}

#[test]
fn an_address_that_is_elsewhere_is_listened_on_when_it_comes() {
    // A network name space of its own, where the address comes later. 192.0.2.0/24 is for documentation (RFC 5737).
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("server.sock");
    let listener = UnixListener::bind(&path).expect("our own directory");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(b"here");
        }
    });
    let body = frontend("\"192.0.2.77:8080\"", &format!("unix@{}", path.display()));
    let gate = Shardgate::with(&body)
        .through(&["unshare", "-rn", "sh", "-c", "ip link set lo up; exec \"$@\"", "sh"])
        .start();
    let listeners = gate.ask("show listeners");
    let line = listeners.lines().find(|l| l.contains("192.0.2.77:8080")).expect("the bind is there");
    assert!(line.split_whitespace().count() >= 4, "its state is shown: {line}");
    let inside = |script: &str| {
        let pid = gate.pid().to_string();
        output(
            Command::new(program("nsenter"))
                .args(["--preserve-credentials", "-U", "-n", "-t", &pid])
                .args(["sh", "-c", script]),
        )
    };
    let client = "python3 -c 'import socket; print(socket.create_connection((\"192.0.2.77\", 8080), 5).recv(9).decode())'";
    assert!(!inside(client).contains("here"), "the address is not there yet");
    assert_eq!(inside("ip addr add 192.0.2.77/32 dev lo"), "");
    assert_eq!(inside(client).trim(), "here");
    gate.finish();
}

#[test]
fn a_port_in_use_is_one_clear_line_and_exit_1() {
    let origin = Origin::echo();
    // Without SO_REUSEPORT nobody else can bind it.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a local address");
    let address = taken.local_addr().expect("bound").to_string();
    let done =
        Shardgate::with(&frontend(&format!("\"{address}\""), &origin.address.to_string())).run_to_end("run");
    assert_eq!(done.status.code(), Some(1));
    let text = String::from_utf8_lossy(&done.stderr);
    assert!(text.contains(&address), "{text}");
}

#[test]
fn every_way_of_accepting_serves_everybody() {
    for accept in ["hash", "cpu", "balanced"] {
        let origin = Origin::echo();
        let bind = format!("[{{ address = \"127.0.0.1:0\", accept = \"{accept}\" }}]");
        let gate = Shardgate::start(&frontend(&bind, &origin.address.to_string()));
        let clients: Vec<_> = (0..50).map(|_| gate.connect("fe")).collect();
        let mut ports = BTreeSet::new();
        for client in clients {
            ports.insert(client.local_addr().expect("connected").port());
            echoes(client);
        }
        gate.wait_stat("fe/FRONTEND", "stot", "50");
        assert_eq!(ports.len(), 50);
        gate.finish();
    }
}

#[test]
fn options_of_a_bind_are_taken() {
    let origin = Origin::echo();
    let bind = "[{ address = \"127.0.0.1:0\", interface = \"lo\", backlog = 100, defer-accept = true, tfo = true, \
                mss = 1400, tcp-ut = \"30s\", name = \"all\" }]";
    let gate = Shardgate::start(&frontend(bind, &origin.address.to_string()));
    echoes(gate.connect("fe"));
    // The kernel shows what was set; the queue length is the `Send-Q` of a listening socket.
    let port = gate.address("fe").port();
    let shown = Command::new(program("ss"))
        .args(["-Hltn", &format!("sport = :{port}")])
        .stderr(Stdio::null())
        .output()
        .expect("ss runs");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let queue = text.lines().next().and_then(|l| l.split_whitespace().nth(2)).map(str::to_owned);
    assert_eq!(queue.as_deref(), Some("100"), "{text}");
    gate.finish();
}

#[test]
fn every_socket_is_close_on_exec() {
    let origin = Origin::echo();
    let gate = Shardgate::relay(origin.address);
    let mut client = gate.connect("fe");
    client.write_all(b"x").expect("the proxy takes it");
    client.read_exact(&mut [0; 1]).expect("the echo");
    until("both sides to be open", || gate.count("be/s1", "scur") == 1);
    let mut seen = 0;
    for entry in std::fs::read_dir(format!("/proc/{}/fd", gate.pid())).expect("our own child").flatten() {
        let number = entry.file_name().to_string_lossy().into_owned();
        let info =
            std::fs::read_to_string(format!("/proc/{}/fdinfo/{number}", gate.pid())).unwrap_or_default();
        let Some(flags) = info.lines().find_map(|l| l.strip_prefix("flags:")) else { continue };
        let flags = u32::from_str_radix(flags.trim(), 8).expect("octal");
        // Files may come from whoever runs the tests; sockets and rings are the proxy's own. O_CLOEXEC is 0o2000000.
        let target = std::fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
        if target.starts_with("socket:") || target.starts_with("anon_inode:") {
            assert_ne!(flags & 0o2_000_000, 0, "fd {number} ({target}) is inherited");
            seen += 1;
        }
    }
    assert!(seen > 4);
    drop(client);
    gate.finish();
}

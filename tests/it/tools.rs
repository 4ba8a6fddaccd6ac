//! Tools that people run against HAProxy's socket, run against ours: prometheus-haproxy-exporter and hatop as Debian has
//! them, and haproxyadmin from PyPI, in a virtual environment below `target/`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::harness::http::{http_gate, ok};
use crate::harness::peers::{free_address, output};
use crate::harness::{Origin, Shardgate, eventually, program};

/// A gate with seven requests behind it.
fn gate(origin: &Origin) -> Shardgate {
    let gate = http_gate(origin, "", "", "");
    let mut client = gate.wire("fe");
    (0..7).for_each(|_| drop(client.get("/")));
    drop(client);
    gate.wait_stat("fe/FRONTEND", "req_tot", "7");
    gate
}

fn socket(gate: &Shardgate) -> String {
    gate.dir().join("admin.sock").display().to_string()
}

/// A program that runs until the test is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_prometheus_exporter_of_haproxy_reads_the_statistics() {
    let origin = Origin::http(|_| ok("x"));
    let gate = gate(&origin);
    let listen = free_address();
    let exporter = Command::new(program("prometheus-haproxy-exporter"))
        .arg(format!("--web.listen-address={listen}"))
        .arg(format!("--haproxy.scrape-uri=unix:{}", socket(&gate)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _exporter = Running(exporter.expect("it starts"));
    let metrics = eventually("the exporter has scraped", || {
        let text = output(Command::new(program("curl")).args(["-s", &format!("http://{listen}/metrics")]));
        text.contains("haproxy_up 1").then_some(text)
    });
    for line in [
        "haproxy_frontend_http_requests_total{frontend=\"fe\"} 7",
        "haproxy_backend_http_responses_total{backend=\"be\",code=\"2xx\"} 7",
        "haproxy_server_http_responses_total{backend=\"be\",code=\"2xx\",server=\"s1\"} 7",
        "haproxy_server_up{backend=\"be\",server=\"s1\"} 1",
        "haproxy_exporter_csv_parse_failures_total 0",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    gate.finish();
}

#[test]
fn hatop_shows_and_leaves() {
    let origin = Origin::http(|_| ok("x"));
    let gate = gate(&origin);
    // It wants a terminal; `script` gives it one, and the key that leaves comes when it has drawn.
    let command = format!(
        "(sleep 2; printf q) | timeout 20 script -qec 'stty rows 40 cols 150; hatop -s {}' /dev/null",
        socket(&gate)
    );
    let hatop = Command::new("bash").args(["-c", &command]).env("TERM", "xterm").output().expect("bash runs");
    let screen = String::from_utf8_lossy(&hatop.stdout).into_owned();
    assert!(hatop.status.success(), "{screen}");
    for word in ["BACKEND", "FRONTEND", "s1", "HAProxy"] {
        assert!(screen.contains(word), "{word} is not on the screen:\n{screen}");
    }
    gate.finish();
}

/// A Python with haproxyadmin, made once.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("haproxyadmin");
        let python = venv.join("bin/python");
        let works = |python: &Path| {
            Command::new(python)
                .args(["-c", "import haproxyadmin"])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|s| s.success())
        };
        if !works(&python) {
            output(Command::new(program("python3")).args(["-m", "venv"]).arg(&venv));
            output(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "haproxyadmin==0.2.4"]));
            assert!(works(&python), "haproxyadmin cannot be installed from PyPI");
        }
        python
    })
}

const HAPROXYADMIN: &str = r#"
import sys
from haproxyadmin import haproxy
gate = haproxy.HAProxy(socket_file=sys.argv[1])
server = gate.server("s1", backend="be")[0]
assert gate.metric("CumReq") == 7, gate.metric("CumReq")
assert [f.name for f in gate.frontends()] == ["fe"]
front = gate.frontend("fe")
assert front.requests == 7 and front.status == "OPEN", (front.requests, front.status)
assert gate.backend("be").metric("hrsp_2xx") == 7
assert server.metric("lbtot") == 7 and int(server.weight) == 1, (server.metric("lbtot"), server.weight)
assert server.setweight(17) and int(server.weight) == 17
assert server.setstate("drain") and server.status == "DRAIN", server.status
assert server.setstate("disable") and server.status == "MAINT", server.status
assert server.setstate("enable") and server.status in ("UP", "no check"), server.status
assert front.setmaxconn(100) and gate.setmaxconn(500)
assert gate.setratelimitsess(1000) and gate.setratelimitconn(1000)
assert gate.command("show version")
gate.errors()
assert gate.clearcounters(all=True)
assert gate.frontend("fe").requests == 0
server.address = "127.0.0.2"
assert server.address == "127.0.0.2"
server.port = 8888
assert int(server.port) == 8888, server.port
assert front.disable() and front.enable()
print("fine")
"#;

#[test]
fn haproxyadmin_reads_and_changes() {
    let origin = Origin::http(|_| ok("x"));
    let gate = gate(&origin);
    let script =
        Command::new(python()).args(["-c", HAPROXYADMIN, &socket(&gate)]).output().expect("python runs");
    let said = String::from_utf8_lossy(&script.stdout).into_owned();
    assert_eq!(said, "fine\n", "{}", String::from_utf8_lossy(&script.stderr));
    gate.wait_log("(from 1 to 17)");
    gate.finish();
}

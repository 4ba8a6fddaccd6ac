//! Hosts: network namespaces for tests in which clients, balancers and routers are machines of their own, joined by cables
//! (pairs of veth). A test writes a script of bash; what [`LIBRARY`] defines is there. The script's own namespace is one more
//! host: the network, the router, the servers. It is process 1 of a PID namespace, so that nothing outlives it.

use std::path::Path;
use std::process::Command;

use super::gate::binary;
use super::program;

/// Words of the scripts. Nothing has to be cleaned up; `$DIR` is the test's directory, `*.log` in it is evidence.
const LIBRARY: &str = r#"
set -e
ip link set lo up
# Names and addresses are there at once: nobody else has them.
quick() { sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.keep_addr_on_down=1; }
quick
# host NAME: with interfaces and mounts of its own; $NAME is a process there.
host() {
    unshare -n -m --propagation private sleep infinity & declare -g "$1=$!"
    local pid=$!
    until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/1/ns/net)" ] &&
        [ "$(readlink /proc/$pid/ns/mnt)" != "$(readlink /proc/1/ns/mnt)" ]; do :; done
    on $1 bash -c "$(declare -f quick); quick; ip link set lo up"
}
# on HOST COMMAND...: what runs there; `-` is the host of the script.
on() { local pid; of $1; nsenter -t $pid -n -m "${@:2}"; }
of() { pid=${!1-}; [ "$1" != - ] || pid=$$; }
# start NAME HOST COMMAND...: in the background; $NAME is its process.
start() { local pid; of $2; nsenter -t $pid -n -m "${@:3}" & declare -g "$1=$!"; }
# addresses HOST INTERFACE ADDRESS/PREFIX...
addresses() {
    local host=$1 interface=$2 address
    for address in "${@:3}"; do
        case $address in
            *:*) on $host ip addr add $address dev $interface nodad ;;
            *) on $host ip addr add $address dev $interface ;;
        esac
    done
}
# cable HOST INTERFACE ADDRESS/PREFIX...: from INTERFACE here to eth0 there, which has these addresses.
cable() {
    ip link add $2 type veth peer name eth0 netns ${!1}
    ip link set $2 up
    on $1 ip link set eth0 up
    addresses $1 eth0 "${@:3}"
}
# servers HOST ADDRESS PORT...: each answers with its name, s1 at port 8001, until the script ends.
servers() {
    start SERVERS $1 python3 -c '
import http.server, socket, sys, threading
class Name(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        name = b"s%d" % (self.server.server_address[1] - 8000)
        self.send_response(200)
        self.send_header("Content-Length", str(len(name)))
        self.end_headers()
        self.wfile.write(name)
    def log_message(self, *words): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
for port in sys.argv[2:]:
    threading.Thread(target=Server((sys.argv[1], int(port)), Name).serve_forever).start()' "${@:2}"
    local address=$2
    case $address in *:*) address="[$address]" ;; esac
    until on $1 curl -s -o /dev/null "http://$address:${!#}/"; do :; done
}
# admin SOCKET COMMAND
admin() { "$GATE_BINARY" ctl -s "$DIR/$1.sock" "$2" 2>/dev/null; }
"#;

/// Where one test's hosts have their files.
pub(crate) struct Hosts(tempfile::TempDir);

/// What came of a script.
pub(crate) struct Said {
    /// What it printed.
    pub(crate) out: String,
    /// What it complained about, and all logs.
    pub(crate) evidence: String,
}

impl Hosts {
    pub(crate) fn new() -> Hosts {
        Hosts(tempfile::tempdir().expect("a directory"))
    }

    /// `$DIR` of the script.
    pub(crate) fn dir(&self) -> &Path {
        self.0.path()
    }

    /// A file for it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir().join(name), text).expect("our own directory");
    }

    /// Runs a script to its end; after `seconds` it is stopped, for it hangs.
    pub(crate) fn run(&self, seconds: u32, script: &str) -> Said {
        // The namespace ends with its first process, whatever that left running.
        let done = Command::new(program("unshare"))
            .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["timeout", &seconds.to_string(), "bash", "-c", &format!("{LIBRARY}{script}")])
            .env("DIR", self.dir())
            .env("GATE_BINARY", binary())
            .env("PATH", std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin")
            .output()
            .expect("unshare runs");
        let mut evidence = format!("{}\n{}", done.status, String::from_utf8_lossy(&done.stderr));
        for entry in std::fs::read_dir(self.dir()).expect("our own directory").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                let text = std::fs::read(entry.path()).unwrap_or_default();
                evidence += &format!("\n--- {}\n{}", entry.path().display(), String::from_utf8_lossy(&text));
            }
        }
        Said { out: String::from_utf8_lossy(&done.stdout).into_owned(), evidence }
    }
}

//! Two balancers with two addresses between them, one each while both serve: keepalived with the configuration that we make for it, in network namespaces of
//! this test's own. The host's namespace is the network, with a client and two servers.

use std::process::Command;

use crate::harness::gate::binary;
use crate::harness::program;

/// Prints a line for each thing that happens to the pair, with what a client saw then.
const SCRIPT: &str = r#"
set -e
ip link set lo up
ip link add br0 type bridge; ip addr add 10.7.0.1/24 dev br0; ip link set br0 up
node() { # NUMBER, PRIORITIES
    unshare -n -m --propagation private sleep 60 & eval "NODE$1=$!"
    local pid=$!
    until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
    ip link add v$1 type veth peer name eth0 netns $pid
    ip link set v$1 master br0 up
    nsenter -t $pid -n sh -c "ip link set lo up; ip addr add 10.7.0.1$1/24 dev eth0; ip link set eth0 up"
    mkdir "$DIR/watch$1"
    sed "s/NODE/lb$1/g; s/PRIORITY/$2/; s/OTHER/$3/" "$DIR/gate.toml" >"$DIR/lb$1.toml"
}
trap 'kill -9 $GATE1 $GATE2 $WATCH1 $WATCH2 $ORIGIN $NODE1 $NODE2 2>/dev/null; kill $KEEP1 $KEEP2 2>/dev/null' EXIT
node 1 120 100; node 2 100 120
python3 -c '
import http.server, threading
class Name(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        name = b"s%d" % (self.server.server_address[1] - 8000)
        self.send_response(200)
        self.send_header("Content-Length", str(len(name)))
        self.end_headers()
        self.wfile.write(name)
    def log_message(self, *words): pass
for port in (8001, 8002):
    threading.Thread(target=http.server.ThreadingHTTPServer(("10.7.0.1", port), Name).serve_forever).start()' & ORIGIN=$!
start() { nsenter -t $(eval echo \$NODE$1) -n "$GATE_BINARY" run -c "$DIR/lb$1.toml" 2>>"$DIR/log" & eval "GATE$1=$!"; }
keep() {
    nsenter -t $(eval echo \$NODE$1) -n "$GATE_BINARY" vip keepalived -c "$DIR/lb$1.toml" --directory "$DIR/watch$1" >"$DIR/keepalived$1.conf"
    "$GATE_BINARY" vip watch -s "$DIR/lb$1.sock" --bird "$DIR/none" --directory "$DIR/watch$1" 2>>"$DIR/log" & eval "WATCH$1=$!"
    nsenter -t $(eval echo \$NODE$1) -n -m keepalived -n -l -P -f "$DIR/keepalived$1.conf" -p "$DIR/k$1.pid" -r "$DIR/v$1.pid" \
        >>"$DIR/keepalived$1.log" 2>&1 & eval "KEEP$1=$!"
}
admin() { "$GATE_BINARY" ctl -s "$DIR/lb$1.sock" "$2" 2>/dev/null; }
# Waits until a node says that it has the address, and a client is served by it. How long that took is evidence, no condition.
serves() { # NODE, VIP
    local began=$(date +%s%N)
    until admin $1 "show vip" | grep "^${2:-web} MASTER" >/dev/null; do :; done
    local address=10.7.0.100
    [ "$2" != mail ] || address=10.7.0.200
    until [ "$(curl -s -m 1 http://$address/ -o /dev/null -w '%{http_code}')" = 200 ]; do :; done
    echo "${2:-web} at lb$1 after $((($(date +%s%N) - began) / 1000000)) ms" >&2
}
start 1; start 2
until [ -S "$DIR/lb1.sock" ] && [ -S "$DIR/lb2.sock" ] && curl -s -o /dev/null http://10.7.0.1:8002/; do :; done
keep 1; keep 2
serves 1; serves 2 mail
cookie=$(curl -s -i http://10.7.0.100/ | sed -n 's/^set-cookie: \(SRV=[^;]*\).*/\1/Ip')
user() { printf '%s: ' "$1"; curl -s -m 5 -H "Cookie: $cookie" http://10.7.0.100/; echo; }
user first
kill -9 $GATE1; serves 2; user "lb1 killed"
start 1; serves 1; user "lb1 back"
kill -9 $GATE2; serves 1 mail; user "lb2 killed"
start 2; serves 2 mail; user "lb2 back"
admin 1 "set vip web state drain" >/dev/null; serves 2; user "lb1 drained"
admin 1 "set vip web state ready" >/dev/null; serves 1; user "lb1 ready"
ip link set v1 down; serves 2; user "cable cut"
admin 1 "show vip" | sed -n 's/^\(web [A-Z]*\).*/\1/p'
ip link set v1 up; serves 1; user "cable back"
admin 1 "show info" | sed -n 's/^Vips: //p'
"#;

#[test]
fn a_pair_serves_on_when_one_of_it_does_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().display();
    let config = format!(
        "[global]\nnode = \"NODE\"\ncores = 1\n[admin]\nsocket = [{{ path = \"{path}/NODE.sock\", level = \"admin\" }}]\n\
         [defaults]\nmode = \"http\"\ntimeout = {{ connect = \"1s\", client = \"8s\", server = \"5s\" }}\n\
         [frontend.fe]\nbind = [\"10.7.0.100:80\", \"10.7.0.200:80\"]\ndefault-backend = \"app\"\n\
         [backend.app]\ncookie = {{ name = \"SRV\", mode = \"insert\" }}\n\
         server.s1 = {{ address = \"10.7.0.1:8001\", cookie = \"a\" }}\nserver.s2 = {{ address = \"10.7.0.1:8002\", cookie = \"b\" }}\n\
         [vip.web]\naddresses = \"10.7.0.100/24\"\ninterface = \"eth0\"\nvirtual-router-id = 7\npriority = PRIORITY\n\
         advert-interval = \"100ms\"\nunicast-peers = [\"10.7.0.11\", \"10.7.0.12\"]\ntrack = \"app\"\n\
         [vip.mail]\naddresses = \"10.7.0.200/24\"\ninterface = \"eth0\"\nvirtual-router-id = 8\npriority = OTHER\n\
         advert-interval = \"100ms\"\nunicast-peers = [\"10.7.0.11\", \"10.7.0.12\"]\n"
    );
    std::fs::write(dir.path().join("gate.toml"), config).expect("written");
    let done = Command::new(program("unshare"))
        .args(["--net", "timeout", "100", "bash", "-c", SCRIPT])
        .env("DIR", dir.path())
        .env("GATE_BINARY", binary())
        .env("PATH", std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin")
        .output()
        .expect("unshare runs");
    let said = String::from_utf8_lossy(&done.stdout);
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let server =
        said.lines().next().and_then(|line| line.strip_prefix("first: ")).unwrap_or("none").to_owned();
    let expected = [
        "first",
        "lb1 killed",
        "lb1 back",
        "lb2 killed",
        "lb2 back",
        "lb1 drained",
        "lb1 ready",
        "cable cut",
        "web FAULT",
        "cable back",
        "web=MASTER;mail=BACKUP",
    ]
    .map(|what| match what {
        "web FAULT" | "web=MASTER;mail=BACKUP" => what.to_owned(),
        what => format!("{what}: {server}"),
    });
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        expected,
        "{}\n{}\n{}\n{}",
        String::from_utf8_lossy(&done.stderr),
        read("log"),
        read("keepalived1.log"),
        read("keepalived2.log")
    );
    println!("{}", String::from_utf8_lossy(&done.stderr));
}

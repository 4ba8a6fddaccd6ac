//! More than a pair: three balancers behind a router that spreads connections over them (BGP, ECMP), four servers. One balancer is
//! taken away under load, one is drained. Hosts are network namespaces of this test's own, the test's own is the router and has
//! the servers.

use std::process::Command;

use crate::harness::gate::binary;
use crate::harness::program;

/// Holds connections, opens new ones all the time, and says what came of them when it is asked.
const CLIENT: &str = r#"
import collections, http.client, sys, threading
held, servers, conflicts = [], {}, 0
def get(connection, path):
    global conflicts
    connection.request("GET", path)
    answer = connection.getresponse()
    name = answer.read()
    conflicts += servers.setdefault(path, name) != name
    return answer.headers["X-Node"]
def fresh(number):
    connection = http.client.HTTPConnection("10.77.0.10", timeout=5)
    connection.connect()
    # A connection that broke is not opened again behind our back.
    connection.auto_open = 0
    return connection, get(connection, "/%d" % (number % 12))
load, ended = collections.Counter(), threading.Event()
def background():
    number = 0
    while not ended.wait(0.02):
        number += 1
        try:
            fresh(number)[0].close()
            load["served"] += 1
        except (OSError, http.client.HTTPException):
            load["failed"] += 1
thread = threading.Thread(target=background)
for line in sys.stdin:
    nodes, broken, failed = set(), collections.Counter(), 0
    if line == "hold\n":
        while len(held) < 60:
            held.append(fresh(len(held)))
        print("held by", *sorted({node for _, node in held}))
        thread.start()
    elif line == "again\n":
        for number, (connection, node) in enumerate(held):
            try:
                get(connection, "/%d" % (number % 12))
            except (OSError, http.client.HTTPException):
                broken[node] += 1
        of = collections.Counter(node for _, node in held)
        print("of", *("%s %d/%d" % (node, broken[node], of[node]) for node in sorted(of)))
    elif line == "new\n":
        for number in range(60):
            try:
                connection, node = fresh(number)
                connection.close()
                nodes.add(node)
            except (OSError, http.client.HTTPException):
                failed += 1
        print("failed %d, served by" % failed, *sorted(nodes))
    sys.stdout.flush()
ended.set()
thread.join()
print("under way: %d served, %d failed" % (load["served"], load["failed"]), file=sys.stderr)
print("keys that went to two servers:", conflicts)
"#;

/// Prints what the client saw after each thing that happened.
const SCRIPT: &str = r#"
set -e
ip link set lo up
ip addr add 10.9.0.1/32 dev lo
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.fib_multipath_hash_policy=1
host() { # NAME, NETWORK
    unshare -n sleep 100 & eval "$1=$!"
    local pid=$!
    HOSTS="$HOSTS $pid"
    until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
    ip link add v$2 type veth peer name eth0 netns $pid
    ip addr add 10.7.$2.1/24 dev v$2; ip link set v$2 up
    nsenter -t $pid -n sh -c "ip link set lo up; ip addr add 10.7.$2.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.7.$2.1"
}
trap 'kill -9 $GATES $WATCHES $BIRDS $ORIGIN $HOSTS 2>/dev/null' EXIT
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
for port in range(8001, 8005):
    threading.Thread(target=http.server.ThreadingHTTPServer(("10.9.0.1", port), Name).serve_forever).start()' & ORIGIN=$!
cat >"$DIR/router.conf" <<END
router id 10.9.0.1;
log stderr all;
protocol device { }
protocol bfd { interface "*" { interval 100 ms; multiplier 3; }; }
protocol kernel { merge paths on; ipv4 { import none; export all; }; }
template bgp node { local as 64500; passive on; bfd on; ipv4 { import all; export none; }; }
protocol bgp n1 from node { neighbor 10.7.1.2 as 64512; }
protocol bgp n2 from node { neighbor 10.7.2.2 as 64512; }
protocol bgp n3 from node { neighbor 10.7.3.2 as 64512; }
END
bird -f -c "$DIR/router.conf" -s "$DIR/router.ctl" 2>>"$DIR/log" & BIRDS=$!
gate() { nsenter -t $(eval echo \$NODE$1) -n "$GATE_BINARY" run -c "$DIR/lb$1.toml" 2>>"$DIR/log" & eval "GATE$1=$!"; GATES="$GATES $!"; }
for n in 1 2 3; do
    host NODE$n $n
    sed "s/NODE/lb$n/g; s/ROUTER/10.7.$n.1/" "$DIR/gate.toml" >"$DIR/lb$n.toml"
    gate $n
    "$GATE_BINARY" vip bird -c "$DIR/lb$n.toml" >"$DIR/bird$n.conf"
    nsenter -t $(eval echo \$NODE$n) -n bird -f -c "$DIR/bird$n.conf" -s "$DIR/bird$n.ctl" -P "$DIR/bird$n.pid" 2>>"$DIR/log" & BIRDS="$BIRDS $!"
    nsenter -t $(eval echo \$NODE$n) -n "$GATE_BINARY" vip watch -s "$DIR/lb$n.sock" --bird "$DIR/bird$n.ctl" --directory "$DIR/watch$n" 2>>"$DIR/log" &
    WATCHES="$WATCHES $!"
done
host CLIENT 8
admin() { "$GATE_BINARY" ctl -s "$DIR/lb$1.sock" "$2"; }
# Waits until the router has these ways to the address, and no others.
ways() {
    until [ "$(ip route show 10.77.0.10 | grep -o '10\.7\.[0-9]*\.2' | sort | tr '\n' ' ')" = "$1" ]; do :; done
}
until curl -s -o /dev/null http://10.9.0.1:8004/; do :; done
ways "10.7.1.2 10.7.2.2 10.7.3.2 "
coproc LOAD { nsenter -t $CLIENT -n python3 "$DIR/client.py" 2>>"$DIR/load"; }
load() { echo $2 >&${LOAD[1]}; read -r line <&${LOAD[0]}; echo "$1: $line"; }
load start hold
admin 1 "show vip" | sed -n 's/^\(web [A-Z]*\).*/\1/p'
kill -9 $GATE2; ways "10.7.1.2 10.7.3.2 "
load "lb2 killed, broken" again
load "lb2 killed" new
admin 3 "set vip web state drain" >/dev/null; ways "10.7.1.2 "
load "lb3 drained" new
until admin 3 "show vip" | grep '^web WITHDRAWN' >/dev/null; do :; done
admin 3 "set vip web state ready" >/dev/null; gate 2; ways "10.7.1.2 10.7.2.2 10.7.3.2 "
load "all back" new
exec {LOAD[1]}>&-
cat <&${LOAD[0]}
"#;

#[test]
fn balancers_behind_a_router_share_an_address_and_come_and_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().display();
    let servers: String =
        (1..=4).map(|n| format!("server.s{n} = {{ address = \"10.9.0.1:800{n}\" }}\n")).collect();
    let config = format!(
        "[global]\nnode = \"NODE\"\ncores = 1\n[admin]\nsocket = [{{ path = \"{path}/NODE.sock\", level = \"admin\" }}]\n\
         [defaults]\nmode = \"http\"\ntimeout = {{ connect = \"2s\", client = \"60s\", server = \"30s\" }}\n\
         [frontend.fe]\nbind = \"10.77.0.10:80\"\ndefault-backend = \"app\"\n\
         response-rules = [{{ set-header = {{ name = \"X-Node\", value = \"NODE\" }} }}]\n\
         [backend.app]\nbalance = \"uri\"\nhash-type = \"consistent\"\n{servers}\
         [bgp]\nlocal-as = 64512\nneighbors = \"ROUTER 64500\"\nbfd = true\n\
         [vip.web]\nannounce = \"bgp\"\naddresses = \"10.77.0.10/32\"\ntrack = \"app\"\n"
    );
    std::fs::write(dir.path().join("gate.toml"), config).expect("written");
    std::fs::write(dir.path().join("client.py"), CLIENT).expect("written");
    let done = Command::new(program("unshare"))
        .args(["--net", "timeout", "90", "bash", "-c", SCRIPT])
        .env("DIR", dir.path())
        .env("GATE_BINARY", binary())
        .env("PATH", std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin")
        .output()
        .expect("unshare runs");
    let said = String::from_utf8_lossy(&done.stdout);
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let evidence =
        || format!("{said}\n{}\n{}\n{}", String::from_utf8_lossy(&done.stderr), read("load"), read("log"));
    let lines: Vec<&str> = said.lines().collect();
    let broken = lines.get(2).and_then(|line| line.strip_prefix("lb2 killed, broken: of ")).unwrap_or("none");
    let expected = [
        "start: held by lb1 lb2 lb3",
        "web ANNOUNCED",
        &format!("lb2 killed, broken: of {broken}"),
        "lb2 killed: failed 0, served by lb1 lb3",
        "lb3 drained: failed 0, served by lb1",
        "all back: failed 0, served by lb1 lb2 lb3",
        "keys that went to two servers: 0",
    ];
    assert_eq!(lines, expected, "{}", evidence());
    // "lb1 0/21 lb2 19/19 lb3 0/20": how many of those that a node held.
    let words: Vec<&str> = broken.split(' ').collect();
    let of = |node: &str| {
        let at = words.iter().position(|word| *word == node).expect("it held some");
        let (broken, held) = words[at + 1].split_once('/').expect("two numbers");
        (broken.parse::<u32>().expect("a number"), held.parse::<u32>().expect("a number"))
    };
    let (lost, held) = of("lb2");
    assert_eq!(lost, held, "{}", evidence());
    // The router gives parts of its hash away; connections of the others stay where they are but for those near the cut.
    let (others_lost, others_held) = (of("lb1").0 + of("lb3").0, of("lb1").1 + of("lb3").1);
    assert!(others_lost < others_held, "{}", evidence());
    println!("broken: {broken}\n{}", read("load"));
}

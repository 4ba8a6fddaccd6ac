//! More than a pair: three balancers behind a router that spreads connections over them (BGP, ECMP), four servers. One balancer is
//! taken away under load, one is drained, one has its cable cut. The script's host is the router and has the servers. Half of the
//! connections are IPv6's.

use crate::harness::hosts::Hosts;

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
    connection = http.client.HTTPConnection(("10.77.0.10", "fd77::10")[number % 2], 80, timeout=5)
    connection.connect()
    # A connection that broke is not opened again behind our back.
    connection.auto_open = 0
    return connection, get(connection, "/%d" % (number // 2 % 12))
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
        held = []
        while len(held) < 60:
            held.append(fresh(len(held)))
        print("held by", *sorted({node for _, node in held}))
        thread.is_alive() or thread.start()
    elif line == "again\n":
        for number, (connection, node) in enumerate(held):
            try:
                get(connection, "/%d" % (number // 2 % 12))
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
addresses - lo 10.9.0.1/32
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.fib_multipath_hash_policy=1 net.ipv6.conf.all.forwarding=1 net.ipv6.fib_multipath_hash_policy=1
behind() { # HOST, NETWORK
    host $1
    cable $1 v$2 10.7.$2.2/24 fd07:$2::2/64
    addresses - v$2 10.7.$2.1/24 fd07:$2::1/64
    on $1 ip route add default via 10.7.$2.1
    on $1 ip -6 route add default via fd07:$2::1
}
servers - 10.9.0.1 8001 8002 8003 8004
cat >"$DIR/router.conf" <<END
router id 10.9.0.1;
log stderr all;
protocol device { }
protocol bfd { interface "*" { interval 100 ms; multiplier 3; }; }
protocol kernel { merge paths on; ipv4 { import none; export all; }; }
protocol kernel { merge paths on; ipv6 { import none; export all; }; }
template bgp node4 { local as 64500; passive on; bfd on; ipv4 { import all; export none; }; }
template bgp node6 { local as 64500; passive on; bfd on; ipv6 { import all; export none; }; }
$(for n in 1 2 3; do
    echo "protocol bgp n$n from node4 { neighbor 10.7.$n.2 as 64512; }"
    echo "protocol bgp m$n from node6 { neighbor fd07:$n::2 as 64512; }"
done)
END
start ROUTER - bird -f -c "$DIR/router.conf" -s "$DIR/router.ctl" 2>>"$DIR/router.log"
gate() { start GATE$1 NODE$1 "$GATE_BINARY" run -c "$DIR/lb$1.toml" 2>>"$DIR/gate.log"; }
for n in 1 2 3; do
    behind NODE$n $n
    sed "s/NODE/lb$n/g; s/ROUTER4/10.7.$n.1/; s/ROUTER6/fd07:$n::1/" "$DIR/gate.toml" >"$DIR/lb$n.toml"
    gate $n
    "$GATE_BINARY" vip bird -c "$DIR/lb$n.toml" >"$DIR/bird$n.conf"
    start BIRD$n NODE$n bird -f -c "$DIR/bird$n.conf" -s "$DIR/bird$n.ctl" -P "$DIR/bird$n.pid" 2>>"$DIR/bird.log"
    start WATCH$n NODE$n "$GATE_BINARY" vip watch -s "$DIR/lb$n.sock" --bird "$DIR/bird$n.ctl" --directory "$DIR/watch$n" 2>>"$DIR/gate.log"
done
behind CLIENT 8
# Waits until the router has ways to these nodes, and to no others, for both addresses.
ways() {
    local family
    for family in "-4 route show 10.77.0.10" "-6 route show fd77::10"; do
        until [ "$(ip $family | grep -v linkdown | grep -o 'dev v[0-9]' | tr -dc '0-9\n' | sort | tr -d '\n')" = "$1" ]; do :; done
    done
}
ways 123
coproc LOAD { on CLIENT python3 "$DIR/client.py" 2>>"$DIR/load.log"; }
load() { echo $2 >&${LOAD[1]}; read -r line <&${LOAD[0]}; echo "$1: $line"; }
load start hold
admin lb1 "show vip" | sed -n 's/^\(web [A-Z]*\).*/\1/p'
kill -9 $GATE2; ways 13
load "lb2 killed" again
load "lb2 killed" new
admin lb3 "set vip web state drain" >/dev/null; ways 1
load "lb3 drained" new
until admin lb3 "show vip" | grep '^web WITHDRAWN' >/dev/null; do :; done
admin lb3 "set vip web state ready" >/dev/null; gate 2; ways 123
load "all back" hold
ip link set v3 down; ways 12
load "cable of lb3 cut" again
load "cable of lb3 cut" new
ip link set v3 up; ways 123
load "cable back" new
exec {LOAD[1]}>&-
cat <&${LOAD[0]}
"#;

#[test]
fn balancers_behind_a_router_share_an_address_and_come_and_go() {
    let hosts = Hosts::new();
    let path = hosts.dir().display();
    let servers: String =
        (1..=4).map(|n| format!("server.s{n} = {{ address = \"10.9.0.1:800{n}\" }}\n")).collect();
    let config = format!(
        "[global]\nnode = \"NODE\"\ncores = 1\n[admin]\nsocket = [{{ path = \"{path}/NODE.sock\", level = \"admin\" }}]\n\
         [defaults]\nmode = \"http\"\ntimeout = {{ connect = \"2s\", client = \"60s\", server = \"30s\" }}\n\
         [frontend.fe]\nbind = [\"10.77.0.10:80\", \"[fd77::10]:80\"]\ndefault-backend = \"app\"\n\
         response-rules = [{{ set-header = {{ name = \"X-Node\", value = \"NODE\" }} }}]\n\
         [backend.app]\nbalance = \"uri\"\nhash-type = \"consistent\"\n{servers}\
         [bgp]\nlocal-as = 64512\nneighbors = [\"ROUTER4 64500\", \"ROUTER6 64500\"]\nbfd = true\n\
         [vip.web]\nannounce = \"bgp\"\naddresses = [\"10.77.0.10/32\", \"fd77::10/128\"]\ntrack = \"app\"\n"
    );
    hosts.write("gate.toml", &config);
    hosts.write("client.py", CLIENT);
    let said = hosts.run(90, SCRIPT);
    let evidence = || format!("{}\n{}", said.out, said.evidence);
    let lines: Vec<&str> = said.out.lines().collect();
    let broken = |line: usize, what: &str| {
        lines.get(line).and_then(|text| text.strip_prefix(what)?.strip_prefix(": of ")).unwrap_or("none")
    };
    let (by_kill, by_cut) = (broken(2, "lb2 killed"), broken(6, "cable of lb3 cut"));
    let expected = [
        "start: held by lb1 lb2 lb3",
        "web ANNOUNCED",
        &format!("lb2 killed: of {by_kill}"),
        "lb2 killed: failed 0, served by lb1 lb3",
        "lb3 drained: failed 0, served by lb1",
        "all back: held by lb1 lb2 lb3",
        &format!("cable of lb3 cut: of {by_cut}"),
        "cable of lb3 cut: failed 0, served by lb1 lb2",
        "cable back: failed 0, served by lb1 lb2 lb3",
        "keys that went to two servers: 0",
    ];
    assert_eq!(lines, expected, "{}", evidence());
    for (broken, node) in [(by_kill, "lb2"), (by_cut, "lb3")] {
        let (lost, held) = of(broken, |name| name == node);
        assert_eq!(lost, held, "{}", evidence());
        // The router gives parts of its hash away; connections of the others stay where they are but for those near the cut.
        let (others_lost, others_held) = of(broken, |name| name != node);
        assert!(others_lost < others_held, "{}", evidence());
    }
    println!("broken by kill: {by_kill}, by cut: {by_cut}\n{}", evidence());
}

/// Of "lb1 0/21 lb2 19/19 lb3 0/20": how many are broken of how many that these nodes held.
fn of(broken: &str, is_meant: impl Fn(&str) -> bool) -> (u32, u32) {
    let words: Vec<&str> = broken.split(' ').collect();
    let mut sum = (0, 0);
    for pair in words.chunks_exact(2).filter(|pair| is_meant(pair[0])) {
        let (broken, held) = pair[1].split_once('/').expect("two numbers");
        sum.0 += broken.parse::<u32>().expect("a number");
        sum.1 += held.parse::<u32>().expect("a number");
    }
    sum
}

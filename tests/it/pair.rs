//! Two balancers with two addresses between them, one each while both serve: keepalived with the configuration that we make for it, each on a
//! host of its own. The script's host is the network, with a client and two servers. VRRP is spoken by IPv4 for one address, which an
//! IPv6 address goes along with, and by IPv6 for the other. All the time users ask at each address, and what they lose is counted.

use crate::harness::hosts::Hosts;

/// Ask one request after the other, each with a connection of its own. For each line of file descriptor 4 they say what became of them
/// since the line before: `LINE|ADDRESS answered refused cut longest-gap-ms|...`.
const USERS: &str = r#"
import collections, socket, sys, threading, time
class User(threading.Thread):
    def __init__(self, address):
        super().__init__(daemon=True)
        self.address, self.lock, self.asked, self.last = address, threading.Lock(), 0, time.monotonic()
        self.forget()
    def forget(self):
        self.came, self.gap = collections.Counter(), 0
    def ask(self):
        try:
            connection = socket.create_connection((self.address, 80), 5)
        except OSError as e:
            return "refused"
        try:
            with connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: connection.recv(4096), b""))
            return "answered" if answer.startswith(b"HTTP/1.1 200 ") else "cut"
        except OSError as e:
            return "cut"
    def run(self):
        while True:
            what = self.ask()
            with self.lock:
                self.asked += 1
                self.came[what] += 1
                if what == "answered":
                    now = time.monotonic()
                    self.gap, self.last = max(self.gap, now - self.last), now
            time.sleep(0.005)
    def said(self):
        with self.lock:
            text = f"{self.address} {self.came['answered']} {self.came['refused']} {self.came['cut']} {self.gap * 1000:.0f}"
            self.forget()
        return text
users = [User(address) for address in sys.argv[1:]]
for user in users: user.start()
for line in open(4):
    # Each of them got through a request that began after this.
    for user in users:
        before = user.asked
        while user.asked < before + 2: time.sleep(0.005)
    print(line.strip(), *[user.said() for user in users], sep="|", flush=True)
"#;

/// Prints a line for each thing that happens to the pair, with what a client saw then.
const SCRIPT: &str = r#"
ip link add br0 type bridge; ip link set br0 up; addresses - br0 10.7.0.1/24 fd07::1/64
node() { # NUMBER, PRIORITIES
    host NODE$1
    cable NODE$1 v$1 10.7.0.1$1/24 fd07::1$1/64
    ip link set v$1 master br0
    mkdir "$DIR/watch$1"
    sed "s/NODE/lb$1/g; s/PRIORITY/$2/; s/OTHER/$3/" "$DIR/gate.toml" >"$DIR/lb$1.toml"
}
node 1 120 100; node 2 100 120
servers - 10.7.0.1 8001 8002
gate() { start GATE$1 NODE$1 "$GATE_BINARY" run -c "$DIR/lb$1.toml" 2>>"$DIR/gate.log"; }
keep() {
    on NODE$1 "$GATE_BINARY" vip keepalived -c "$DIR/lb$1.toml" --directory "$DIR/watch$1" >"$DIR/keepalived$1.conf"
    start WATCH$1 NODE$1 "$GATE_BINARY" vip watch -s "$DIR/lb$1.sock" --bird "$DIR/none" --directory "$DIR/watch$1" 2>>"$DIR/gate.log"
    start KEEP$1 NODE$1 keepalived -n -l -P -f "$DIR/keepalived$1.conf" -p "$DIR/k$1.pid" -r "$DIR/v$1.pid" >>"$DIR/keepalived$1.log" 2>&1
}
# Waits until a node says that it has the address, and a client is served by it. How long that took is evidence, no condition.
serves() { # NODE, VIP
    local began=$(date +%s%N) address of="10.7.0.100 [fd07::100]"
    says $1 ${2:-web} MASTER
    [ "${2-}" != mail ] || of="[fd07::200]"
    for address in $of; do
        until [ "$(curl -g -s -m 1 http://$address/ -o /dev/null -w '%{http_code}')" = 200 ]; do :; done
    done
    echo "${2:-web} at lb$1 after $((($(date +%s%N) - began) / 1000000)) ms" >&2
}
says() { until admin lb$1 "show vip" | grep "^$2 $3" >/dev/null; do :; done; } # NODE, VIP, ROLE
gate 1; gate 2
until [ -S "$DIR/lb1.sock" ] && [ -S "$DIR/lb2.sock" ]; do :; done
keep 1; keep 2
serves 1; serves 2 mail
cookie=$(curl -s -i http://10.7.0.100/ | sed -n 's/^set-cookie: \(SRV=[^;]*\).*/\1/Ip')
user() { # WHAT HAPPENED: at all three addresses
    printf '%s:' "$1"
    for address in 10.7.0.100 [fd07::100] [fd07::200]; do
        printf ' '; curl -g -s -m 5 -H "Cookie: $cookie" http://$address/
    done
    echo
}
user first
mkfifo "$DIR/ask" "$DIR/said"
exec 4<>"$DIR/ask" 5<>"$DIR/said"
start USERS - python3 "$DIR/users.py" 10.7.0.100 fd07::100 fd07::200 >&5 2>"$DIR/users.log"
lost() { # WHAT HAPPENED: what that cost the users
    local line; echo "$1" >&4; read -r line <&5
    echo "lost at $line"; echo "$line" >&2
}
lost nothing
kill -9 $GATE1; serves 2; user "lb1 killed"; lost "lb1 killed"
gate 1; serves 1; user "lb1 back"; lost "lb1 back"
kill -9 $GATE2; serves 1 mail; user "lb2 killed"; lost "lb2 killed"
gate 2; serves 2 mail; user "lb2 back"; lost "lb2 back"
admin lb1 "set vip web state drain" >/dev/null; serves 2; user "lb1 drained"; lost "lb1 drained"
admin lb1 "set vip web state ready" >/dev/null; serves 1; user "lb1 ready"; lost "lb1 ready"
ip link set v1 down; serves 2; user "cable cut"; lost "cable cut"
says 1 web FAULT; echo "web FAULT"
ip link set v1 up; serves 1; user "cable back"; lost "cable back"
ip link set v2 down; serves 1 mail; user "the other cable cut"; lost "the other cable cut"
ip link set v2 up; serves 2 mail; user "the other cable back"; lost "the other cable back"
says 1 mail BACKUP; admin lb1 "show info" | sed -n 's/^Vips: //p'
"#;

#[test]
fn a_pair_serves_on_when_one_of_it_does_not() {
    let hosts = Hosts::new();
    let path = hosts.dir().display();
    let config = format!(
        "[global]\nnode = \"NODE\"\ncores = 1\n[admin]\nsocket = [{{ path = \"{path}/NODE.sock\", level = \"admin\" }}]\n\
         [defaults]\nmode = \"http\"\ntimeout = {{ connect = \"1s\", client = \"8s\", server = \"5s\" }}\n\
         [frontend.fe]\nbind = [\"10.7.0.100:80\", \"[fd07::100]:80\", \"[fd07::200]:80\"]\ndefault-backend = \"app\"\n\
         [backend.app]\ncookie = {{ name = \"SRV\", mode = \"insert\" }}\n\
         server.s1 = {{ address = \"10.7.0.1:8001\", cookie = \"a\" }}\nserver.s2 = {{ address = \"10.7.0.1:8002\", cookie = \"b\" }}\n\
         [vip.web]\naddresses = [\"10.7.0.100/24\", \"fd07::100/64\"]\ninterface = \"eth0\"\nvirtual-router-id = 7\n\
         priority = PRIORITY\nadvert-interval = \"100ms\"\nunicast-peers = [\"10.7.0.11\", \"10.7.0.12\"]\ntrack = \"app\"\n\
         [vip.mail]\naddresses = \"fd07::200/64\"\ninterface = \"eth0\"\nvirtual-router-id = 8\npriority = OTHER\n\
         advert-interval = \"100ms\"\nunicast-peers = [\"fd07::11\", \"fd07::12\"]\n"
    );
    hosts.write("gate.toml", &config);
    hosts.write("users.py", USERS);
    let said = hosts.run(100, SCRIPT);
    let first = said.out.lines().next().and_then(|line| line.strip_prefix("first: "));
    let server = first.and_then(|servers| servers.split(' ').next()).unwrap_or("none").to_owned();
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
        "the other cable cut",
        "the other cable back",
        "web=MASTER;mail=BACKUP",
    ]
    .map(|what| match what {
        "web FAULT" | "web=MASTER;mail=BACKUP" => what.to_owned(),
        what => format!("{what}: {server} {server} {server}"),
    });
    let (lost, happened): (Vec<&str>, Vec<&str>) =
        said.out.lines().partition(|line| line.starts_with("lost at "));
    assert_eq!(happened, expected, "{}", said.evidence);
    for line in &lost {
        assert_lost(line, &said.evidence);
    }
    assert_eq!(lost.len(), 11, "{}", said.evidence);
    println!("{}", said.evidence);
}

/// While an address moves by plan every new connection succeeds, and users of addresses that stay notice nothing. What a user is in the
/// middle of is cut, and once more if the node that gives the address up speaks of it last. How much an unplanned move costs depends
/// on how quick this machine is just now: it is evidence.
fn assert_lost(line: &str, evidence: &str) {
    let mut parts = line.trim_start_matches("lost at ").split('|');
    let what = parts.next().expect("there is a first part");
    let of = |user: &str| -> [u64; 3] {
        let numbers: Vec<u64> = user.split(' ').skip(1).filter_map(|number| number.parse().ok()).collect();
        numbers[..3].try_into().expect("three of four")
    };
    let users: Vec<[u64; 3]> = parts.map(of).collect();
    let [v4, v6, mail] = users[..] else { panic!("{line} in {evidence}") };
    let (stay, move_well) = match what {
        "nothing" => (vec![v4, v6, mail], vec![]),
        "lb1 killed" | "cable cut" => (vec![mail], vec![]),
        "lb1 back" | "lb1 drained" | "lb1 ready" => (vec![mail], vec![v4, v6]),
        "lb2 back" => (vec![v4, v6], vec![mail]),
        _ => (vec![], vec![]),
    };
    for [answered, refused, cut] in stay {
        assert!(answered > 0 && refused == 0 && cut == 0, "{line}\n{evidence}");
    }
    for [answered, refused, cut] in move_well {
        assert!(answered > 0 && refused == 0 && cut <= 2, "{line}\n{evidence}");
    }
}

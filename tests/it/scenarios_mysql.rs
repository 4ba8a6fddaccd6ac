//! docs/scenarios/mysql-at-high-rates.md: with the configuration of the page connections go on where those of one address have
//! used up the kernel's ports. The script's host is the balancer, with the page's addresses and a range of a hundred ports.

use crate::harness::hosts::Hosts;

/// Databases close last, as MySQL does after QUIT. Clients have addresses of their own, so that their ports do not run out.
const DATABASES: &str = r#"
import socketserver
class Database(socketserver.BaseRequestHandler):
    def handle(self):
        while question := self.request.recv(64):
            self.request.sendall(question)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, request_queue_size = True, 128
import threading
for host in ("192.0.2.11", "192.0.2.12"):
    threading.Thread(target=Server((host, 3306), Database).serve_forever).start()
"#;

const CLIENTS: &str = r#"
import socket
served = 0
while served < 400:
    with socket.socket() as client:
        client.settimeout(30)
        client.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        client.bind(("127.1.%d.%d" % (1 + served // 50, 1 + served % 50), 0))
        client.connect(("127.0.0.1", 3306))
        try:
            client.sendall(b"SELECT")
            if client.recv(64) != b"SELECT":
                break
        except OSError:
            break
    served += 1
print("all served" if served == 400 else "a port was missing" if served < 210 else "%d served" % served)
"#;

const SCRIPT: &str = r#"
host DATABASE
cable DATABASE v1 192.0.2.11/24 192.0.2.12/24
addresses - v1 192.0.2.20/24 192.0.2.21/24 192.0.2.22/24
sysctl -qw net.ipv4.tcp_tw_reuse=0 net.ipv4.ip_local_port_range='20000 20099'
start DATABASES DATABASE python3 "$DIR/databases.py"
for file in plain page; do
    start GATE - "$GATE_BINARY" run -c "$DIR/$file.toml" 2>>"$DIR/gate.log"
    until [ "$(admin $file 'show stat' | grep -c '^databases,db[12],.*,UP,')" = 2 ]; do :; done
    printf "$file: "; python3 "$DIR/clients.py"
    admin $file 'show sources' | awk '/^192/ { n++; waiting += $4 } END { if (n) print n, "pairs", (waiting >= 400 ? "all" : waiting), "in TIME_WAIT" }'
    kill -9 $GATE
done
"#;

#[test]
fn a_list_of_sources_serves_where_the_ports_of_one_address_run_out() {
    let hosts = Hosts::new();
    let page = include_str!("../../docs/scenarios/mysql-at-high-rates.md");
    let (_, text) = page.split_once("```toml\n").expect("the page has a configuration");
    let (text, _) = text.split_once("```").expect("its end");
    let list = ", source = [\"192.0.2.21:1024-65535\", \"192.0.2.22:1024-65535\"]";
    assert!(text.contains(list), "the page has {list}");
    for (name, text) in [("page", text.to_owned()), ("plain", text.replace(list, ""))] {
        let socket = format!("[admin]\nsocket = \"{}/{name}.sock\"\n", hosts.dir().display());
        hosts.write(&format!("{name}.toml"), &format!("{socket}{text}"));
    }
    hosts.write("databases.py", DATABASES);
    hosts.write("clients.py", CLIENTS);
    let said = hosts.run(90, SCRIPT);
    let expected = "plain: a port was missing\npage: all served\n4 pairs all in TIME_WAIT\n";
    assert_eq!(said.out, expected, "{}", said.evidence);
}

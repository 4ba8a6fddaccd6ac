//! Transparent mode: client, balancer and server are three hosts. The client sends to addresses that nobody has, and the server
//! sees the client's.

use crate::harness::hosts::Hosts;

/// Routes of both ends lead through the balancer; the server answers with the address that it sees.
const SCRIPT: &str = r#"
"$GATE_BINARY" transparent install -c "$DIR/gate.toml"
behind() { # NAME, its interface here, network
    host $1
    cable $1 $2 10.$3.0.2/24 10.$3.0.3/24 fd0$3::2/64
    addresses - $2 10.$3.0.1/24 fd0$3::1/64
    on $1 ip route add default via 10.$3.0.1
    on $1 ip -6 route add default via fd0$3::1
}
behind CLIENT v9 9
behind SERVER v8 8
# The strictest setting that a distribution has.
sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.v8.rp_filter=1 net.ipv4.conf.v9.rp_filter=1
start ORIGIN SERVER python3 -c '
import http.server, socket
class Seen(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        seen = (self.client_address[0].removeprefix("::ffff:") + " ").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(seen)))
        self.end_headers()
        self.wfile.write(seen)
    def log_message(self, *words): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
Server(("::", 8001), Seen).serve_forever()'
start GATE - "$GATE_BINARY" run -c "$DIR/gate.toml" 2>"$DIR/gate.log"
until curl -s -o /dev/null http://10.8.0.2:8001/ && [ -S "$DIR/admin.sock" ]; do :; done
client() { on CLIENT curl -s -m 5 "$@" || printf 'failed '; }
for port in 80 81; do
    printf "$port: "
    client http://203.0.113.7:$port/ http://203.0.113.9:$port/
    client --interface 10.9.0.3 http://203.0.113.7:$port/
    client "http://[2001:db8::7]:$port/" "http://[2001:db8::8]:$port/"
    echo
done
printf 'refused: '; client http://203.0.113.8:80/; echo
"$GATE_BINARY" doctor -c "$DIR/gate.toml" -s "$DIR/admin.sock" | grep transparent
"$GATE_BINARY" transparent remove
"$GATE_BINARY" doctor -c "$DIR/gate.toml" -s "$DIR/admin.sock" | grep "^BROKEN transparent" | cut -d: -f1
nft list tables; { ip rule show; ip -6 rule show; } | sed -n /0x5347/p
"#;

#[test]
fn servers_behind_a_transparent_bind_see_the_address_of_the_client() {
    let hosts = Hosts::new();
    let config = format!(
        "[admin]\nsocket = \"{}/admin.sock\"\n[defaults]\ntimeout = {{ connect = \"2s\", client = \"8s\", server = \"5s\" }}\n\
         default-server = {{ source = \"client\" }}\n\
         [frontend.tcp4]\nbind = [{{ address = \"0.0.0.0:80\", transparent = true }}]\ndefault-backend = \"tcp4\"\n\
         connection-rules = [{{ reject = true, if = \"{{ dst 203.0.113.8 }}\" }}]\n\
         [frontend.tcp6]\nbind = [{{ address = \"[::]:80\", v6only = true, transparent = true }}]\ndefault-backend = \"tcp6\"\n\
         [backend.tcp4.server.s]\naddress = \"10.8.0.2:8001\"\n[backend.tcp6.server.s]\naddress = \"[fd08::2]:8001\"\n\
         [frontend.http4]\nmode = \"http\"\nbind = [{{ address = \"0.0.0.0:81\", transparent = true }}]\n\
         default-backend = \"http4\"\n\
         [frontend.http6]\nmode = \"http\"\nbind = [{{ address = \"[::]:81\", v6only = true, transparent = true }}]\n\
         default-backend = \"http6\"\n\
         [backend.http4]\nmode = \"http\"\nhttp-reuse = \"always\"\nserver.s = {{ address = \"10.8.0.2:8001\" }}\n\
         [backend.http6]\nmode = \"http\"\nhttp-reuse = \"always\"\nserver.s = {{ address = \"[fd08::2]:8001\" }}\n",
        hosts.dir().display()
    );
    hosts.write("gate.toml", &config);
    let said = hosts.run(50, SCRIPT);
    // The rule on 203.0.113.8 sees the address that the client meant, not the one that the bind is on.
    assert_eq!(
        said.out,
        "80: 10.9.0.2 10.9.0.2 10.9.0.3 fd09::2 fd09::2 \n81: 10.9.0.2 10.9.0.2 10.9.0.3 fd09::2 fd09::2 \nrefused: failed \n\
         ok     transparent  5 rules and the policy route\n\
         BROKEN transparent  nftables has no rule for connections that have a socket, tcp4 0.0.0.0\n",
        "{}",
        said.evidence
    );
}

/// A node of a pair gives its address up while a request is with a server; the server answers when it is told to.
const MOVED: &str = r#"
host CLIENT
cable CLIENT v9 10.9.0.2/24
addresses - v9 10.9.0.1/24
ip addr add 10.9.0.100/32 dev v9
mkfifo "$DIR/asked" "$DIR/answer"
start ORIGIN - python3 -c '
import http.server, sys
class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open(sys.argv[1], "w").close()
        open(sys.argv[2]).close()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"answered")
    def log_message(self, *words): pass
http.server.HTTPServer(("127.0.0.1", 8001), Slow).serve_forever()' "$DIR/asked" "$DIR/answer"
start GATE - "$GATE_BINARY" run -c "$DIR/gate.toml" 2>"$DIR/gate.log"
until [ -S "$DIR/admin.sock" ] && "$GATE_BINARY" ctl -s "$DIR/admin.sock" "show info" >"$DIR/info"; do :; done
start USER CLIENT curl -s -m 40 http://10.9.0.100/ -o "$DIR/said"
: <"$DIR/asked"
ip addr del 10.9.0.100/32 dev v9
: >"$DIR/answer"
wait $USER
cat "$DIR/said"
"#;

#[test]
fn an_answer_under_way_outlives_the_address_that_it_comes_from() {
    let hosts = Hosts::new();
    let config = format!(
        "[admin]\nsocket = \"{}/admin.sock\"\n[defaults]\nmode = \"http\"\n\
         timeout = {{ connect = \"9s\", client = \"60s\", server = \"60s\" }}\n\
         [frontend.fe]\nbind = [{{ address = \"10.9.0.100:80\", transparent = true }}]\ndefault-backend = \"app\"\n\
         [backend.app.server.s]\naddress = \"127.0.0.1:8001\"\n",
        hosts.dir().display()
    );
    hosts.write("gate.toml", &config);
    let said = hosts.run(50, MOVED);
    assert_eq!(said.out, "answered", "{}", said.evidence);
}

//! Transparent binds: the client and the balancer are two hosts, made of network namespaces of this test's own.

use std::process::Command;

use crate::harness::gate::binary;
use crate::harness::program;

/// Sends what comes for any address to the bind (nftables TPROXY and a policy route, as docs of the kernel say), connects from
/// the other host to an address that nobody has, and prints the status and what the rule on that address answered.
const SCRIPT: &str = r#"
set -e
ip link set lo up
ip rule add fwmark 1 lookup 100
ip route add local 0.0.0.0/0 dev lo table 100
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
nft -f - <<'END'
table ip divert {
  chain prerouting {
    type filter hook prerouting priority mangle
    tcp dport 80 meta mark set 1 tproxy to 127.0.0.1:8000 accept
  }
}
END
unshare -n sleep 60 & CLIENT=$!
trap 'kill $CLIENT $ORIGIN $GATE 2>/dev/null' EXIT
until [ "$(readlink /proc/$CLIENT/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
ip link add v0 type veth peer name v1 netns $CLIENT
ip addr add 10.9.0.1/24 dev v0
ip link set v0 up
nsenter -t $CLIENT -n sh -c 'ip addr add 10.9.0.2/24 dev v1; ip link set v1 up; ip route add default via 10.9.0.1'
python3 -m http.server 8001 --bind 127.0.0.1 >/dev/null 2>&1 & ORIGIN=$!
"$GATE_BINARY" run -c "$DIR/gate.toml" 2>"$DIR/log" & GATE=$!
until curl -s -o /dev/null http://127.0.0.1:8001/; do :; done
until [ -S "$DIR/admin.sock" ]; do :; done
nsenter -t $CLIENT -n curl -s -m 10 --retry 20 --retry-all-errors --retry-delay 0 -o /dev/null -w 'good %{http_code}\n' http://203.0.113.7/
nsenter -t $CLIENT -n curl -s -m 10 -o /dev/null -w 'other %{http_code}\n' http://203.0.113.8/ || true
"#;

#[test]
fn a_transparent_bind_answers_for_addresses_that_are_not_ours() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = format!(
        "[admin]\nsocket = \"{}/admin.sock\"\n[defaults]\ntimeout = {{ connect = \"2s\", client = \"5s\", server = \"5s\" }}\n\
         [frontend.fe]\nbind = [{{ address = \"0.0.0.0:8000\", transparent = true }}]\n\
         rules = [{{ use-backend = \"be\", if = \"{{ dst 203.0.113.7 }} {{ src 10.9.0.2 }}\" }}]\n\
         [backend.be.server.s1]\naddress = \"127.0.0.1:8001\"\n",
        dir.path().display()
    );
    std::fs::write(dir.path().join("gate.toml"), config).expect("written");
    let done = Command::new(program("unshare"))
        .args(["--net", "timeout", "50", "bash", "-c", SCRIPT])
        .env("DIR", dir.path())
        .env("GATE_BINARY", binary())
        .output()
        .expect("unshare runs");
    let said = String::from_utf8_lossy(&done.stdout);
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    // The rule sees the address that the client meant, not the one that the bind is on.
    assert!(
        said.contains("good 200") && said.contains("other 000"),
        "{said}\n{:?}\n{log}",
        done.stderr.escape_ascii().to_string()
    );
}

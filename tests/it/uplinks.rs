//! Two uplinks with a gateway each: a client behind the second one is answered through it. Hosts are network namespaces of this
//! test's own.

use std::process::Command;

use crate::harness::gate::binary;
use crate::harness::program;

/// The client's address lies behind its end of the second uplink, which answers no question about it: the way must be known.
const SCRIPT: &str = r#"
set -e
ip link set lo up
unshare -n sleep 60 & CLIENT=$!
trap 'kill $CLIENT $GATE 2>/dev/null' EXIT
until [ "$(readlink /proc/$CLIENT/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
ip link add up0 type veth peer name peer0; ip addr add 10.1.0.2/24 dev up0; ip link set up0 up; ip link set peer0 up
ip link add up1 type veth peer name eth0 netns $CLIENT; ip addr add 10.2.0.2/24 dev up1; ip link set up1 up
ip route add default via 10.1.0.1
nsenter -t $CLIENT -n sh -c 'sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2; ip link set lo up; ip addr add 203.0.113.5/32 dev lo
    ip addr add 10.2.0.1/24 dev eth0; ip link set eth0 up'
"$GATE_BINARY" run -c "$DIR/gate.toml" 2>"$DIR/log" & GATE=$!
until [ -S "$DIR/admin.sock" ]; do :; done
client() {
    printf "$1: "
    nsenter -t $CLIENT -n curl -s -m 1 --interface 203.0.113.5 -o /dev/null -w '%{http_code}\n' http://10.2.0.2/ || true
}
doctor() { "$GATE_BINARY" doctor -c "$DIR/gate.toml" -s "$DIR/admin.sock" | grep -c 'no policy route for up1' || true; }
client before; doctor
"$GATE_BINARY" gateways install -c "$DIR/gate.toml"
client installed; doctor
"$GATE_BINARY" gateways remove
ip rule show | grep -c up1 || true
"#;

#[test]
fn a_client_is_answered_through_the_uplink_that_it_came_by() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = format!(
        "[admin]\nsocket = \"{}/admin.sock\"\n[defaults]\nmode = \"http\"\n\
         timeout = {{ connect = \"2s\", client = \"8s\", server = \"5s\" }}\n\
         [frontend.fe]\nbind = [{{ address = \"10.2.0.2:80\", interface = \"up1\" }}]\nrules = [{{ return = {{ status = 200 }} }}]\n\
         [gateway.up1]\naddresses = \"10.2.0.1\"\n",
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
    assert_eq!(
        said,
        "before: 000\n1\ninstalled: 200\n0\n0\n",
        "{}\n{log}",
        String::from_utf8_lossy(&done.stderr)
    );
}

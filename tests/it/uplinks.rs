//! Two uplinks with a gateway each: a client behind the second one is answered through it.

use crate::harness::hosts::Hosts;

/// The client's address lies behind its end of the second uplink, which answers no question about it: the way must be known.
const SCRIPT: &str = r#"
host CLIENT
ip link add up0 type veth peer name peer0; ip link set up0 up; ip link set peer0 up
on CLIENT sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
addresses CLIENT lo 203.0.113.5/32
cable CLIENT up1 10.2.0.1/24
addresses - up0 10.1.0.2/24
addresses - up1 10.2.0.2/24
ip route add default via 10.1.0.1
start GATE - "$GATE_BINARY" run -c "$DIR/gate.toml" 2>"$DIR/gate.log"
until [ -S "$DIR/admin.sock" ]; do :; done
client() {
    printf "$1: "
    on CLIENT curl -s -m 1 --interface 203.0.113.5 -o /dev/null -w '%{http_code}\n' http://10.2.0.2/ || true
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
    let hosts = Hosts::new();
    let config = format!(
        "[admin]\nsocket = \"{}/admin.sock\"\n[defaults]\nmode = \"http\"\n\
         timeout = {{ connect = \"2s\", client = \"8s\", server = \"5s\" }}\n\
         [frontend.fe]\nbind = [{{ address = \"10.2.0.2:80\", interface = \"up1\" }}]\nrules = [{{ return = {{ status = 200 }} }}]\n\
         [gateway.up1]\naddresses = \"10.2.0.1\"\n",
        hosts.dir().display()
    );
    hosts.write("gate.toml", &config);
    let said = hosts.run(50, SCRIPT);
    assert_eq!(said.out, "before: 000\n1\ninstalled: 200\n0\n0\n", "{}", said.evidence);
}

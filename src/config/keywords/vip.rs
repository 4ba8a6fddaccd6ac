//! The rows of `[vip.NAME]`, `[bgp]` and `[gateway.INTERFACE]`.

use std::time::Duration;

use super::Kind::*;
use super::{Keyword, KeywordMode, Scope, Scopes};

const GATEWAY: Scopes = Scopes::of(&[Scope::Gateway]);
const BGP: Scopes = Scopes::of(&[Scope::Bgp]);
const VIP: Scopes = Scopes::of(&[Scope::Vip]);

keywords! {
    /// Keywords of the network around the process.
    KEYWORDS, mode Any;

    "addresses" in GATEWAY, Texts, default "", haproxy "";
    "The gateway of this interface, one address for each family.";
    "addresses = [\"198.51.100.1\", \"2001:db8::1\"]"
    "addresses" in VIP, Texts, default "", haproxy "";
    "Service addresses with prefix lengths. With VRRP one node has them at a time and they move together; with BGP all nodes have them.";
    "addresses = [\"192.0.2.10/24\", \"2001:db8::10/64\"]"
    "announce" in VIP, OneOf(&["vrrp", "bgp"]), default "\"vrrp\"", haproxy "";
    "How the network learns where the addresses are: one node has them (`vrrp`, by keepalived), or routers spread connections over all \
     nodes that serve (`bgp`, by BIRD and `[bgp]`).";
    "announce = \"bgp\""
    "interface" in VIP, Text, default "", haproxy "";
    "Where the addresses are, and where VRRP is spoken. With BGP they are on `lo`.";
    "interface = \"eth0\""
    "virtual-router-id" in VIP, Integer(1, 255), default "", haproxy "";
    "Number of the VRRP instance: the same on all nodes, and of nobody else on that network.";
    "virtual-router-id = 51"
    "priority" in VIP, Integer(1, 254), default "100", haproxy "";
    "The node with the highest one has the addresses while it serves.";
    "priority = 150"
    "advert-interval" in VIP, Duration(std::time::Duration::from_millis(10)), default "\"200ms\"", haproxy "";
    "Time between two advertisements, in steps of 10 ms. A node that is silent for three of them and a bit is taken for dead.";
    "advert-interval = \"100ms\""
    "unicast-peers" in VIP, Texts, default "VRRP by multicast", haproxy "";
    "Addresses of all nodes, this one included, for networks without multicast. Each node leaves its own out.";
    "unicast-peers = [\"192.0.2.2\", \"192.0.2.3\"]"
    "preempt" in VIP, Flag, default "true", haproxy "";
    "Take the addresses back when this node has a higher priority than the one that has them.";
    "preempt = false"
    "preempt-delay" in VIP, Duration(Duration::ZERO), default "\"0s\"", haproxy "";
    "How long a node that comes back waits before it takes the addresses back.";
    "preempt-delay = \"30s\""
    "track" in VIP, Texts, default "none", haproxy "";
    "Backends that must have a usable server. While one of them has none here, a node where they all have is preferred (`vrrp`), or routers \
     do not come here (`bgp`).";
    "track = \"app\""

    "local-as" in BGP, Integer(1, 4_294_967_295), default "", haproxy "";
    "Number of the autonomous system of the nodes, the same on all of them.";
    "local-as = 64512"
    "neighbors" in BGP, Texts, default "", haproxy "";
    "Routers: address and number of the autonomous system. Each is told of the addresses of its own family.";
    "neighbors = [\"10.0.0.1 64500\", \"2001:db8::1 64500\"]"
    "router-id" in BGP, Text, default "an address of this machine", haproxy "";
    "Tells nodes apart, in the form of an IPv4 address.";
    "router-id = \"10.0.0.2\""
    "hold-time" in BGP, Duration(Duration::from_secs(3)), default "\"9s\"", haproxy "";
    "How long a node may be silent before routers take it for dead, in seconds; BFD is quicker.";
    "hold-time = \"30s\""
    "bfd" in BGP, Flag, default "false", haproxy "";
    "Speak BFD with the routers: a node that is silent for 300 ms is taken for dead. The routers must speak it too.";
    "bfd = true"
}

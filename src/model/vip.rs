//! Service addresses of several nodes (`[vip.NAME]`). keepalived moves those that one node has at a time, BIRD announces those
//! that all nodes have; what they are told and what they ask comes from here.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::base::id::BackendId;

/// `announce`: how the network learns where the addresses are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Announce {
    /// One node has them.
    Vrrp,
    /// Routers spread over all nodes that serve.
    Bgp,
}

impl Announce {
    /// As it is configured.
    pub fn name(self) -> &'static str {
        match self {
            Announce::Vrrp => "vrrp",
            Announce::Bgp => "bgp",
        }
    }
}

/// `[bgp]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bgp {
    /// Autonomous system of the nodes (`local-as`).
    pub local_as: u32,
    /// Routers and their autonomous systems (`neighbors`).
    pub neighbors: Vec<(IpAddr, u32)>,
    /// Tells nodes apart (`router-id`).
    pub router_id: Option<Ipv4Addr>,
    /// Silence after which a node is taken for dead (`hold-time`).
    pub hold_time: Duration,
    /// Quicker than that (`bfd`).
    pub bfd: bool,
}

/// `[vip.NAME]`: service addresses that are announced together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vip {
    /// Its name, also that of the VRRP instance.
    pub name: String,
    /// By whom it is announced (`announce`).
    pub announce: Announce,
    /// Addresses with prefix lengths (`addresses`), those of the first one's family first.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where they are added and where VRRP is spoken (`interface`).
    pub interface: String,
    /// Number of the virtual router, unique on the network (`virtual-router-id`).
    pub router_id: u8,
    /// The node with the highest has the addresses (`priority`).
    pub priority: u8,
    /// Time between two advertisements (`advert-interval`).
    pub advert_interval: Duration,
    /// Nodes by their addresses, this one included (`unicast-peers`); empty: multicast.
    pub peers: Vec<IpAddr>,
    /// Take the addresses back from a node of lower priority (`preempt`).
    pub preempt: bool,
    /// How long to wait before that (`preempt-delay`).
    pub preempt_delay: Duration,
    /// Backends without which another node serves better (`track`).
    pub track: Vec<BackendId>,
    /// `file:line:col` where it is configured.
    pub origin: String,
}

//! Service addresses that one node of several has at a time (`[vip.NAME]`). keepalived moves them; what it is told and what it
//! asks comes from here.

use std::net::IpAddr;
use std::time::Duration;

use crate::base::id::BackendId;

/// `[vip.NAME]`: one VRRP instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vip {
    /// Its name, also that of the VRRP instance.
    pub name: String,
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

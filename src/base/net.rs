//! Addresses of peers: IP or UNIX.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The address of a peer or of a socket of ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Addr {
    /// IPv4 or IPv6 with a port.
    Ip(SocketAddr),
    /// A UNIX socket; peers have no useful name there.
    Unix,
    /// Not known: PROXY v1 `UNKNOWN`, PROXY v2 `AF_UNSPEC`.
    #[default]
    Unknown,
}

impl Addr {
    /// The IP address, if there is one. IPv4 mapped in IPv6 comes back as IPv4.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Addr::Ip(a) => Some(a.ip().to_canonical()),
            _ => None,
        }
    }
    /// The port, if there is one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Addr::Ip(a) => Some(a.port()),
            _ => None,
        }
    }
}

impl From<SocketAddr> for Addr {
    fn from(a: SocketAddr) -> Self {
        Addr::Ip(a)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Addr::Ip(a) => a.fmt(f),
            Addr::Unix => f.write_str("unix"),
            Addr::Unknown => f.write_str("unknown"),
        }
    }
}

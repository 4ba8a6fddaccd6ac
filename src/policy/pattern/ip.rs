//! Networks: IPv4 and IPv6 in CIDR notation, flattened to disjoint sorted intervals. A table over the upper 16 bits of an IPv4
//! address leaves a few steps of binary search even among 100,000 networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::policy::pattern::interval::{Flat, Interval};
use crate::policy::pattern::{Entry, PatternError};

/// From this many stretches on the table of upper bits is worth its 256 kB.
const TABLE_FROM: usize = 256;

#[derive(Clone, Debug)]
pub(super) struct IpSet {
    v4: Flat<u32>,
    /// For each value of the upper 16 bits, how many stretches begin below it; one more entry at the end. May be empty.
    table: Vec<u32>,
    v6: Flat<u128>,
}

impl IpSet {
    pub(super) fn compile(entries: &[Entry]) -> Result<IpSet, PatternError> {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let error = |message| PatternError { entry: at, message };
            let text = String::from_utf8_lossy(&entry.pattern);
            let (address, prefix) = parse_network(&text).map_err(error)?;
            let entry = u32::try_from(at).map_err(|_| error("too many patterns".to_owned()))?;
            match address {
                IpAddr::V4(a) => {
                    let hosts = u32::MAX.checked_shr(prefix).unwrap_or(0);
                    let low = a.to_bits() & !hosts;
                    v4.push(Interval { low, high: low | hosts, rank: 32 - prefix, entry });
                }
                IpAddr::V6(a) => {
                    let hosts = u128::MAX.checked_shr(prefix).unwrap_or(0);
                    let low = a.to_bits() & !hosts;
                    v6.push(Interval { low, high: low | hosts, rank: 128 - prefix, entry });
                }
            }
        }
        let v4 = Flat::build(&v4);
        let table = upper_bits_table(v4.starts());
        Ok(IpSet { v4, table, v6: Flat::build(&v6) })
    }

    /// The longest network around an address. As in HAProxy an IPv4 address is also looked for among IPv6 networks as
    /// `::ffff:a.b.c.d`, and an IPv6 address that carries an IPv4 one among IPv4 networks.
    pub(super) fn find(&self, address: IpAddr) -> Option<usize> {
        match address {
            IpAddr::V4(a) => self.find_v4(a).or_else(|| self.v6.find(a.to_ipv6_mapped().to_bits())),
            IpAddr::V6(a) => self.v6.find(a.to_bits()).or_else(|| self.find_v4(embedded_v4(a)?)),
        }
    }

    fn find_v4(&self, address: Ipv4Addr) -> Option<usize> {
        let point = address.to_bits();
        if self.table.is_empty() {
            return self.v4.find(point);
        }
        let upper = (point >> 16) as usize;
        self.v4.find_within(point, self.table[upper] as usize, self.table[upper + 1] as usize)
    }
}

fn upper_bits_table(starts: &[u32]) -> Vec<u32> {
    if starts.len() < TABLE_FROM || u32::try_from(starts.len()).is_err() {
        return Vec::new();
    }
    let mut table = Vec::with_capacity(65537);
    let mut below = 0_u32;
    for upper in 0..=65536_u64 {
        while starts.get(below as usize).is_some_and(|s| u64::from(*s) < upper << 16) {
            below += 1;
        }
        table.push(below);
    }
    table
}

/// The IPv4 address in `::ffff:a.b.c.d`, `::a.b.c.d` and `2002:aabb:ccdd::`.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let from = |high: u16, low: u16| Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => Some(from(high, low)),
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

/// An address with an optional prefix length or, for IPv4, an optional dotted mask. IPv4 may be abbreviated as in HAProxy: the
/// octets left out are zero and stand before the last one (`127.1` is 127.0.0.1, `10.12/8` is 10.0.0.12/8).
///
/// # Errors
/// What is wrong, for the operator.
pub fn parse_network(text: &str) -> Result<(IpAddr, u32), String> {
    let (address, mask) = match text.split_once('/') {
        Some((address, mask)) => (address, Some(mask)),
        None => (text, None),
    };
    let ip = parse_address(address).ok_or_else(|| {
        format!(
            "`{text}` is not an IP address or network such as 192.0.2.0/24 (host names are not resolved here)"
        )
    })?;
    let width = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = match mask {
        None => width,
        Some(mask) => mask
            .parse::<u32>()
            .ok()
            .filter(|p| *p <= width)
            .or_else(|| dotted_mask(mask).filter(|_| ip.is_ipv4()))
            .ok_or_else(|| format!("`/{mask}` is not a prefix length of 0 to {width}"))?,
    };
    Ok((ip, prefix))
}

fn parse_address(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip);
    }
    let mut parts: Vec<u8> = Vec::with_capacity(4);
    for part in text.split('.') {
        if parts.len() == 4 || part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        parts.push(part.parse().ok()?);
    }
    let last = parts.pop()?;
    let mut octets = [0, 0, 0, last];
    octets[..parts.len()].copy_from_slice(&parts);
    (!parts.is_empty()).then(|| IpAddr::from(octets))
}

/// The prefix length of a contiguous dotted mask.
fn dotted_mask(text: &str) -> Option<u32> {
    let bits = text.parse::<Ipv4Addr>().ok()?.to_bits();
    (bits.leading_ones() + bits.trailing_zeros() >= 32).then(|| bits.leading_ones())
}

//! What `gather` saw and the checks judge: plain values, so that every check is a table in a test.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// This machine at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// Kernel release as (major, minor).
    pub kernel: (u32, u32),
    /// Operations that io_uring lacks, or why there is none.
    pub ring: Option<Result<Vec<&'static str>, String>>,
    /// The process that runs already; else limits are those of this one.
    pub running: Option<u32>,
    /// What it gave up, as `show info` says.
    pub sandbox: Option<String>,
    /// Hard limit of open files.
    pub open_files: u64,
    /// Hard limit of locked memory in bytes.
    pub locked_memory: u64,
    /// Sysctls that exist, by name; white space is single spaces.
    pub sysctls: BTreeMap<String, String>,
    /// Interfaces by name.
    pub interfaces: Vec<String>,
    /// Those whose rp_filter is strict.
    pub strict: Vec<String>,
    /// Those with hardware interrupts.
    pub nics: Vec<Nic>,
    /// Whether irqbalance runs: it moves interrupts again.
    pub irqbalance: bool,
    /// CPUs that the scheduler leaves alone (isolcpus).
    pub isolated: Vec<usize>,
    /// CPUs online.
    pub cpus: Vec<usize>,
    /// Addresses of the configuration that a socket can be bound to.
    pub local: Vec<IpAddr>,
    /// What nftables shows of our table, and which families (IPv4, IPv6) have our policy route; empty if nothing is transparent.
    pub transparent: (String, (bool, bool)),
    /// Gateways of interfaces without their policy route.
    pub gateways_missing: Vec<String>,
    /// What keepalived should read for this node, or why that cannot be said; `None`: there is no `[vip.NAME]`.
    pub keepalived_wanted: Option<Result<String, String>>,
    /// What it reads; `None`: there is no file.
    pub keepalived_conf: Option<String>,
    /// Whether it runs.
    pub keepalived: bool,
    /// What BIRD should read, or why that cannot be said; `None`: nothing is announced.
    pub bird_wanted: Option<Result<String, String>>,
    /// What it reads; `None`: there is no file.
    pub bird_conf: Option<String>,
    /// Whether it runs.
    pub bird: bool,
    /// Capabilities in force of the process that runs.
    pub capabilities: Option<u64>,
    /// Whether the clock is kept right; `None`: it cannot be told.
    pub clock: Option<bool>,
    /// Seconds since 1970.
    pub now: i64,
    /// Certificates of the configuration.
    pub certificates: Vec<CertificateFact>,
    /// What is wrong with certificates and keys.
    pub certificate_errors: Vec<String>,
    /// Names of servers and their addresses.
    pub names: Vec<(String, Result<Vec<Way>, String>)>,
}

/// An address of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// The address.
    pub ip: IpAddr,
    /// What a service says.
    pub port: Option<u16>,
    /// Whether the kernel knows a way there.
    pub routed: bool,
}

/// A network card.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Nic {
    /// `eth0`.
    pub name: String,
    /// Receive queues.
    pub queues: usize,
    /// How many it could have; `None`: it does not say.
    pub queues_max: Option<usize>,
    /// Interrupts of queues, in the order of queues.
    pub interrupts: Vec<Interrupt>,
    /// Of each receive queue the file with the mask of RPS, and the CPUs that it spreads packets to.
    pub rps: Vec<(PathBuf, Vec<usize>)>,
    /// Packets received.
    pub received: u64,
    /// Packets lost because no descriptor was free.
    pub missed: u64,
    /// Receive descriptors, and how many there could be; `None`: it does not say.
    pub ring: Option<(usize, usize)>,
}

/// An interrupt of a queue.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interrupt {
    /// Its number.
    pub number: u32,
    /// What the driver calls it: `eth0-TxRx-3`.
    pub name: String,
    /// CPUs that may get it.
    pub cpus: Vec<usize>,
    /// /proc/irq/N/smp_affinity_list.
    pub path: PathBuf,
}

/// A certificate in use.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CertificateFact {
    /// Its file.
    pub path: PathBuf,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl Facts {
    /// A sysctl as a number.
    pub(super) fn number(&self, key: &str) -> Option<i64> {
        self.sysctls.get(key)?.parse().ok()
    }

    /// The ports that the kernel chooses from, both included.
    pub(super) fn kernel_ports(&self) -> (u16, u16) {
        let text = self.sysctls.get("net.ipv4.ip_local_port_range");
        let numbers = text.and_then(|text| text.split_once(' '));
        let both = numbers.and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
        // The kernel's default, where it does not say.
        both.unwrap_or((32_768, 60_999))
    }

    /// Whether the kernel leaves a port alone when it chooses one (ip_local_reserved_ports).
    pub(super) fn is_reserved(&self, port: u16) -> bool {
        let Some(text) = self.sysctls.get("net.ipv4.ip_local_reserved_ports") else { return false };
        ranges(text).into_iter().any(|(low, high)| (low..=high).contains(&usize::from(port)))
    }
}

/// `0-3,8` as ranges, both ends included. What is no number is left out: the kernel writes none.
pub(super) fn ranges(text: &str) -> Vec<(usize, usize)> {
    let range = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        Some((low.trim().parse().ok()?, high.trim().parse().ok()?))
    };
    text.split(',').filter_map(range).collect()
}

/// `0-3,8` as numbers.
pub(super) fn list(text: &str) -> Vec<usize> {
    ranges(text).into_iter().flat_map(|(low, high)| low..=high.min(low.saturating_add(1 << 14))).collect()
}

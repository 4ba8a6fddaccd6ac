//! Sysctls: one table. The checks, the file that the package installs and the list in docs/tuning.md come from it.

use std::fmt::Write as _;

use super::{Area, Facts, Finding, Fix};
use crate::model::{Model, Splice};

/// Where `--apply` keeps sysctls for later starts; that of the package lies in /usr/lib/sysctl.d and comes earlier.
pub const DEFAULT_FILE: &str = "/etc/sysctl.d/90-shardgate.conf";

/// What a value must be.
enum Rule {
    /// One of these; the first is what is set.
    OneOf(&'static [&'static str]),
    /// A number that this configuration needs at least; 0 is no limit if `zero`.
    AtLeast { needed: fn(&Model) -> i64, zero: bool },
    /// Two ports with this many between them.
    Ports(u32),
    /// A number with these bits set.
    Bits(i64),
}

struct Row {
    key: &'static str,
    rule: Rule,
    /// Which configurations need it.
    when: fn(&Model) -> bool,
    /// What the package sets and the doctor proposes; empty: the package leaves it alone.
    set: &'static str,
    /// What comes of another value.
    why: &'static str,
}

const ALWAYS: fn(&Model) -> bool = |_| true;

const ROWS: &[Row] = &[
    Row {
        key: "kernel.io_uring_disabled",
        rule: Rule::OneOf(&["0"]),
        when: ALWAYS,
        set: "0",
        why: "io_uring is what all of Shardgate's input and output goes through",
    },
    Row {
        key: "net.core.somaxconn",
        rule: Rule::AtLeast { needed: backlog, zero: false },
        when: ALWAYS,
        set: "65535",
        why: "the kernel cuts `backlog` down to it; connections beyond wait for a retransmitted SYN, a second and more",
    },
    Row {
        key: "net.ipv4.tcp_max_syn_backlog",
        rule: Rule::AtLeast { needed: backlog, zero: false },
        when: ALWAYS,
        set: "65535",
        why: "handshakes that are under way beyond it fall back to SYN cookies, which lose TCP options",
    },
    Row {
        key: "net.ipv4.tcp_syncookies",
        rule: Rule::OneOf(&["1", "2"]),
        when: ALWAYS,
        set: "1",
        why: "without them a flood of SYNs keeps real clients out",
    },
    Row {
        key: "net.ipv4.tcp_migrate_req",
        rule: Rule::OneOf(&["1"]),
        when: ALWAYS,
        set: "1",
        why: "when a listener closes (fewer cores, an upgrade) its waiting connections go to another one of the same address \
              instead of being reset",
    },
    Row {
        key: "net.ipv4.ip_local_port_range",
        rule: Rule::Ports(50_000),
        when: ALWAYS,
        set: "10240 65535",
        why: "it bounds the connections to one server from one address; the default is 28,232",
    },
    Row {
        key: "net.ipv4.tcp_tw_reuse",
        rule: Rule::OneOf(&["1"]),
        when: ALWAYS,
        set: "1",
        why: "a local port can be used again one second after it was closed instead of sixty, where timestamps make that safe",
    },
    Row {
        key: "net.ipv4.tcp_slow_start_after_idle",
        rule: Rule::OneOf(&["0"]),
        when: ALWAYS,
        set: "0",
        why: "kept connections to clients and servers would start slowly again after each pause",
    },
    Row {
        key: "net.core.busy_poll",
        rule: Rule::OneOf(&["0"]),
        when: ALWAYS,
        set: "0",
        why: "waiting for a descriptor would spin on the CPU: data cores wait in io_uring, which is woken without it",
    },
    Row {
        key: "net.core.busy_read",
        rule: Rule::OneOf(&["0"]),
        when: ALWAYS,
        set: "0",
        why: "each receive from an empty socket would spin on the CPU that other connections need",
    },
    Row {
        key: "net.ipv4.tcp_fastopen",
        rule: Rule::Bits(2),
        when: |model| model.binds.values().any(|bind| bind.tfo_queue > 0),
        set: "3",
        why: "`tfo` of a bind has no effect without bit 2",
    },
    Row {
        key: "net.ipv4.ip_forward",
        rule: Rule::OneOf(&["0"]),
        when: ALWAYS,
        set: "0",
        why: "a proxy does not forward packets: with it on, networks on both sides reach each other past every rule",
    },
    Row {
        key: "net.ipv6.conf.all.forwarding",
        rule: Rule::OneOf(&["0"]),
        when: ALWAYS,
        set: "0",
        why: "as ip_forward",
    },
    Row {
        key: "fs.nr_open",
        rule: Rule::AtLeast { needed: files, zero: false },
        when: |model| model.global.maxconn.is_some(),
        set: "",
        why: "no limit of open files can be higher, and maxconn needs two a connection",
    },
    Row {
        key: "fs.file-max",
        rule: Rule::AtLeast { needed: files, zero: false },
        when: |model| model.global.maxconn.is_some(),
        set: "",
        why: "the whole machine's open files, and maxconn needs two a connection",
    },
    Row {
        key: "fs.pipe-max-size",
        rule: Rule::AtLeast { needed: |model| i64::from(model.global.pipe_bytes), zero: false },
        when: splices,
        set: "1048576",
        why: "splice pipes of a process that is not root stay below it",
    },
    Row {
        key: "fs.pipe-user-pages-soft",
        rule: Rule::AtLeast { needed: pipe_pages, zero: true },
        when: splices,
        set: "0",
        why: "beyond it pipes of a process that is not root shrink to one page, and splicing is slower than copying",
    },
    Row {
        key: "net.netfilter.nf_conntrack_max",
        rule: Rule::AtLeast { needed: files, zero: false },
        when: |model| model.global.maxconn.is_some(),
        set: "",
        why: "connection tracking drops packets of new connections beyond it; a proxy has two entries a session (or none: \
              `notrack` in nftables)",
    },
];

fn backlog(model: &Model) -> i64 {
    model.binds.values().map(|bind| i64::from(bind.backlog)).max().unwrap_or(0)
}

fn files(model: &Model) -> i64 {
    i64::from(model.global.maxconn.unwrap_or(0)) * 2
}

fn splices(model: &Model) -> bool {
    model.frontends.values().any(|frontend| frontend.splice != Splice::Never)
}

fn pipe_pages(model: &Model) -> i64 {
    let cores = i64::try_from(model.global.cores.len()).unwrap_or(i64::MAX);
    i64::from(model.global.pipe_bytes.div_ceil(4096)) * i64::from(model.global.pipes_max) * cores
}

/// What `gather` reads.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    ROWS.iter()
        .map(|row| row.key)
        .chain(["net.ipv4.ip_local_reserved_ports", "net.core.rps_sock_flow_entries"])
}

pub(super) fn examine(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    let before = out.len();
    let mut seen = 0;
    for row in ROWS.iter().filter(|row| (row.when)(model)) {
        // One that this kernel or namespace has not cannot be wrong.
        let Some(value) = facts.sysctls.get(row.key) else { continue };
        seen += 1;
        if let Some((wanted, value_to_set)) = row.complaint(model, value) {
            let text = format!("{} is {value}, should be {wanted}: {}", row.key, row.why);
            let fix = Fix::Sysctl { key: row.key.to_owned(), value: value_to_set };
            out.push(Finding::change(Area::Sysctl, text).with(fix));
        }
    }
    if out.len() == before {
        out.push(Finding::fine(Area::Sysctl, format!("{seen} looked at")));
    }
}

impl Row {
    /// What it should be in words, and what to set; `None`: it is right.
    fn complaint(&self, model: &Model, value: &str) -> Option<(String, String)> {
        let number = value.parse::<i64>().unwrap_or(0);
        match self.rule {
            Rule::OneOf(values) => {
                (!values.contains(&value)).then(|| (values.join(" or "), values[0].to_owned()))
            }
            Rule::AtLeast { needed, zero } => {
                let needed = needed(model);
                let enough = number >= needed || (zero && number == 0);
                let proposed = self.set.parse::<i64>().unwrap_or(0);
                let set = if zero || proposed >= needed { proposed } else { needed };
                (!enough).then(|| (format!("at least {needed}"), set.to_string()))
            }
            Rule::Ports(width) => {
                let both = value.split_once(' ').unwrap_or(("0", "0"));
                let parse = |text: &str| text.parse::<u32>().unwrap_or(0);
                let enough = parse(both.1).saturating_sub(parse(both.0)) >= width;
                (!enough).then(|| (format!("at least {width} wide"), self.set.to_owned()))
            }
            Rule::Bits(bits) => {
                (number & bits != bits).then(|| (format!("with bit {bits}"), (number | bits).to_string()))
            }
        }
    }
}

/// What the package installs as /usr/lib/sysctl.d/60-shardgate.conf.
pub fn sysctl_file() -> String {
    let mut out = String::from(
        "# Made from the table in src/control/doctor/sysctls.rs. Change single values in /etc/sysctl.d; `shardgate doctor` looks at \
         them.\n",
    );
    for row in ROWS.iter().filter(|row| !row.set.is_empty()) {
        // Writing to a string cannot fail. A dash: no error where the kernel has it not.
        let _ = write!(out, "\n# {}\n-{} = {}\n", row.why, row.key, row.set);
    }
    out
}

/// The list in docs/tuning.md.
pub fn tuning_table() -> String {
    let mut out = String::from("| sysctl | the package sets | without it |\n|---|---|---|\n");
    for row in ROWS {
        let set = if row.set.is_empty() { "as `maxconn` needs" } else { row.set };
        let _ = writeln!(out, "| `{}` | {set} | {} |", row.key, row.why);
    }
    out
}

//! `shardgate doctor`: this machine against this configuration. `gather` looks at the machine and decides nothing; what is to
//! be said about it is decided by pure functions over [`Facts`] and the model, one file a subject.

mod apply;
mod facts;
mod gather;
mod gather_nics;
mod machine;
mod names;
mod network;
mod nics;
mod sysctls;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::control::transparent;
use crate::model::Model;

pub use facts::{CertificateFact, Facts, Interrupt, Nic, Way};
pub use sysctls::{DEFAULT_FILE, sysctl_file, tuning_table};

/// What is looked at, in the order of the report.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Area {
    /// The kernel and io_uring.
    Kernel,
    /// Limits of the process.
    Limits,
    /// What the process may still do.
    Sandbox,
    /// Settings of the kernel.
    Sysctl,
    /// Cores, network cards and their interrupts.
    Cores,
    /// Addresses, interfaces and ports.
    Network,
    /// Addresses of other hosts.
    Transparent,
    /// Addresses that move between nodes.
    Vip,
    /// The clock.
    Clock,
    /// Certificates.
    Certificates,
    /// Names of servers.
    Dns,
}

impl Area {
    const ALL: [Area; 11] = [
        Area::Kernel,
        Area::Limits,
        Area::Sandbox,
        Area::Sysctl,
        Area::Cores,
        Area::Network,
        Area::Transparent,
        Area::Vip,
        Area::Clock,
        Area::Certificates,
        Area::Dns,
    ];

    fn name(self) -> &'static str {
        match self {
            Area::Kernel => "kernel",
            Area::Limits => "limits",
            Area::Sandbox => "sandbox",
            Area::Sysctl => "sysctl",
            Area::Cores => "cores",
            Area::Network => "network",
            Area::Transparent => "transparent",
            Area::Vip => "vip",
            Area::Clock => "clock",
            Area::Certificates => "certificates",
            Area::Dns => "dns",
        }
    }
}

/// How much it matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// As it should be.
    Fine,
    /// It serves, but less well or less safely than it could.
    Change,
    /// Something that is configured does not work.
    Broken,
}

/// What can be done about it without a human.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fix {
    /// Set a sysctl now and for later starts.
    Sysctl {
        /// `net.core.somaxconn`.
        key: String,
        /// Its value.
        value: String,
    },
    /// Write a file of /proc or /sys; it holds until the next start of the machine.
    Write {
        /// The file.
        path: PathBuf,
        /// What to write.
        text: String,
    },
    /// `shardgate transparent install`.
    Transparent(transparent::Plan),
    /// `shardgate gateways install`.
    Gateways,
}

impl std::fmt::Display for Fix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fix::Sysctl { key, value } => write!(f, "sysctl -w '{key}={value}'"),
            Fix::Gateways => f.write_str("shardgate gateways install"),
            Fix::Transparent(_) => f.write_str("shardgate transparent install"),
            Fix::Write { path, text } => write!(f, "echo '{text}' > {}", path.display()),
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Where it belongs.
    pub area: Area,
    /// How much it matters.
    pub level: Level,
    /// What is, why it matters, and what to do.
    pub text: String,
    /// What `--apply` does about it.
    pub fix: Option<Fix>,
}

impl Finding {
    fn new(area: Area, level: Level, text: impl Into<String>) -> Finding {
        Finding { area, level, text: text.into(), fix: None }
    }

    fn fine(area: Area, text: impl Into<String>) -> Finding {
        Finding::new(area, Level::Fine, text)
    }

    fn change(area: Area, text: impl Into<String>) -> Finding {
        Finding::new(area, Level::Change, text)
    }

    fn broken(area: Area, text: impl Into<String>) -> Finding {
        Finding::new(area, Level::Broken, text)
    }

    fn with(self, fix: Fix) -> Finding {
        Finding { fix: Some(fix), ..self }
    }
}

/// Everything that there is to say, worst of each area first.
pub fn examine(model: &Model, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    machine::examine(model, facts, &mut findings);
    sysctls::examine(model, facts, &mut findings);
    network::examine(model, facts, &mut findings);
    names::examine(model, facts, &mut findings);
    findings.sort_by_key(|finding| (finding.area, std::cmp::Reverse(finding.level)));
    findings
}

/// The report: a line for what is fine, more for what is not.
pub fn report(findings: &[Finding]) -> String {
    let mut out = String::new();
    for area in Area::ALL {
        for finding in findings.iter().filter(|finding| finding.area == area) {
            let mark = match finding.level {
                Level::Fine => "ok    ",
                Level::Change => "CHANGE",
                Level::Broken => "BROKEN",
            };
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{mark} {:<12} {}", area.name(), finding.text);
            if let Some(fix) = &finding.fix {
                let _ = writeln!(out, "{:20}{fix}", "");
            }
        }
    }
    out
}

/// 0: nothing to change; 2: something should be changed; 1: something that is configured does not work.
fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.level).max() {
        None | Some(Level::Fine) => 0,
        Some(Level::Change) => 2,
        Some(Level::Broken) => 1,
    }
}

/// What to do beside looking.
#[derive(Clone, Debug)]
pub struct Options {
    /// The admin socket of a process that may run already.
    pub socket: PathBuf,
    /// Do what can be done.
    pub apply: bool,
    /// Where sysctls are kept for later starts.
    pub sysctl_file: PathBuf,
}

/// Looks, reports to standard output, applies if asked to and looks again.
pub fn run(model: &Model, options: &Options) -> ExitCode {
    let mut findings = examine(model, &gather::gather(model, &options.socket));
    if options.apply {
        for line in apply::apply(model, &findings, Path::new("/proc/sys"), &options.sysctl_file) {
            println!("{line}");
        }
        findings = examine(model, &gather::gather(model, &options.socket));
    }
    print!("{}", report(&findings));
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let fixable = findings.iter().filter(|finding| finding.fix.is_some()).count();
    let (broken, change) = (count(Level::Broken), count(Level::Change));
    if broken + change > 0 {
        println!("{broken} broken, {change} to change; --apply can do {fixable} of them");
    }
    ExitCode::from(exit_code(&findings))
}

#[cfg(test)]
mod tests;

//! Looks at the machine. What it cannot see is left out: the checks say nothing about it.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::facts::{Way, list};
use super::{CertificateFact, Facts, gather_nics, sysctls};
use crate::control::{ctl, dns, gateways, load, resolve, transparent, vip};
use crate::model::vip::Announce;
use crate::model::{BindAddress, Model, ServerAddress};
use crate::rt::{limits, machine};

pub(super) fn gather(model: &Model, socket: &Path) -> Facts {
    let (running, sandbox) = match running(socket) {
        Some((pid, sandbox)) => (Some(pid), Some(sandbox)),
        None => (None, None),
    };
    let (open_files, locked_memory) =
        running.and_then(limits_of).or_else(|| limits::hard().ok()).unwrap_or((0, 0));
    let (certificates, certificate_errors) = certificates(model);
    let mut interfaces = entries(Path::new("/sys/class/net"));
    interfaces.sort();
    let announces = model.vips.iter().any(|vip| vip.announce == Announce::Bgp);
    Facts {
        kernel: machine::kernel().unwrap_or_default(),
        ring: Some(machine::missing_operations()),
        running,
        sandbox,
        open_files,
        locked_memory,
        sysctls: sysctls::keys().filter_map(|key| Some((key.to_owned(), sysctl(key)?))).collect(),
        nics: gather_nics::all(&interfaces),
        strict: strict(&interfaces),
        interfaces,
        irqbalance: runs("irqbalance"),
        isolated: read("/sys/devices/system/cpu/isolated").map(|text| list(&text)).unwrap_or_default(),
        cpus: read("/sys/devices/system/cpu/online").map(|text| list(&text)).unwrap_or_default(),
        local: local(model),
        transparent: match transparent::plan(model).is_empty() {
            true => Default::default(),
            false => transparent::installed(),
        },
        gateways_missing: gateways::missing(model),
        keepalived_wanted: vip::needs_keepalived(model)
            .then(|| vip::keepalived_here(model, Path::new(vip::watch::DIRECTORY))),
        keepalived_conf: fs::read_to_string(vip::KEEPALIVED_CONF).ok(),
        keepalived: runs("keepalived"),
        bird_wanted: announces.then(|| vip::bird::configuration(model)),
        bird_conf: fs::read_to_string(vip::bird::BIRD_CONF).ok(),
        bird: runs("bird"),
        capabilities: running.and_then(capabilities_of),
        clock: machine::is_clock_synchronised().ok(),
        now: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
        certificates,
        certificate_errors,
        names: names(model),
    }
}

pub(super) fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

pub(super) fn entries(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Its value with single spaces.
fn sysctl(key: &str) -> Option<String> {
    let text = read(Path::new("/proc/sys").join(key.replace('.', "/")))?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Interfaces that drop packets whose sender they would not answer by the same interface: the higher of two settings holds.
fn strict(interfaces: &[String]) -> Vec<String> {
    let value = |name: &str| -> u8 {
        let path = Path::new("/proc/sys/net/ipv4/conf").join(name).join("rp_filter");
        read(path).and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let all = value("all");
    interfaces.iter().filter(|name| value(name).max(all) == 1).cloned().collect()
}

/// The process that answers at the admin socket, and what it gave up.
fn running(socket: &Path) -> Option<(u32, String)> {
    let mut answer = Vec::new();
    ctl::run(socket, &["show info".to_owned()], &mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let value = |key: &str| answer.lines().find_map(|line| line.strip_prefix(key));
    let sandbox = value("Sandbox: ").unwrap_or("off").to_owned();
    Some((value("Pid: ")?.trim().parse().ok()?, sandbox))
}

/// Hard limits of open files and locked memory of another process.
fn limits_of(pid: u32) -> Option<(u64, u64)> {
    let text = read(format!("/proc/{pid}/limits"))?;
    // "Max open files            1024                 1048576              files"
    let hard = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        match line.split_whitespace().nth(1)? {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        }
    };
    Some((hard("Max open files")?, hard("Max locked memory")?))
}

fn capabilities_of(pid: u32) -> Option<u64> {
    let text = read(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn runs(name: &str) -> bool {
    let is_pid = |entry: &String| entry.bytes().all(|byte| byte.is_ascii_digit());
    entries(Path::new("/proc"))
        .iter()
        .filter(|entry| is_pid(entry))
        .any(|pid| read(format!("/proc/{pid}/comm")).is_some_and(|comm| comm == name))
}

/// Addresses of the configuration that are of this machine.
fn local(model: &Model) -> Vec<IpAddr> {
    let sources = model.servers.values().flat_map(|server| &server.source).map(|source| source.address);
    let binds = model.binds.values().filter_map(|bind| match bind.address {
        BindAddress::Ip(address) => Some(address.ip()),
        _ => None,
    });
    let mut wanted: Vec<IpAddr> = sources.chain(binds).collect();
    wanted.sort_unstable();
    wanted.dedup();
    wanted.retain(|address| machine::is_local(*address));
    wanted
}

fn certificates(model: &Model) -> (Vec<CertificateFact>, Vec<String>) {
    match load::certificates(model, None) {
        Ok(store) => {
            let fact = |entry: &crate::tls::Entry| CertificateFact {
                path: entry.path.clone(),
                not_before: entry.certificate.not_before,
                not_after: entry.certificate.not_after,
            };
            (store.entries.iter().map(fact).collect(), Vec::new())
        }
        Err(problems) => (Vec::new(), problems.to_string().lines().map(str::to_owned).collect()),
    }
}

fn names(model: &Model) -> Vec<(String, Result<Vec<Way>, String>)> {
    let mut hosts: Vec<String> = Vec::new();
    for server in model.servers.values() {
        if let ServerAddress::Name { host, .. } = &server.address
            && !hosts.contains(host)
        {
            hosts.push(host.clone());
        }
    }
    let way = |(ip, port)| Way { ip, port, routed: resolve::has_route(ip) };
    let found = dns::look_up_all(hosts, &model.global.nameservers).into_iter();
    found.map(|(host, all)| (host, all.map(|all| all.into_iter().map(way).collect()))).collect()
}

//! Looks at network cards: queues, interrupts, and what was lost for lack of room. Decides nothing (`nics`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::facts::list;
use super::gather::{entries, read};
use super::{Interrupt, Nic};

/// The interfaces with a device behind them.
pub(super) fn all(interfaces: &[String]) -> Vec<Nic> {
    let interrupts = interrupt_names();
    interfaces.iter().filter_map(|name| nic(name, &interrupts)).collect()
}

/// What drivers call interrupts: the last word of each line of /proc/interrupts.
fn interrupt_names() -> BTreeMap<u32, String> {
    let text = read("/proc/interrupts").unwrap_or_default();
    let line = |line: &str| {
        let (number, rest) = line.split_once(':')?;
        Some((number.trim().parse().ok()?, rest.split_whitespace().last()?.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// An interface with a device behind it.
fn nic(name: &str, names: &BTreeMap<u32, String>) -> Option<Nic> {
    let class = Path::new("/sys/class/net").join(name);
    let device = class.join("device");
    if !device.exists() {
        return None;
    }
    let queues: Vec<String> = entries(&class.join("queues"));
    let receive: Vec<&String> = queues.iter().filter(|queue| queue.starts_with("rx-")).collect();
    let rps = |queue: &&String| {
        let path = class.join("queues").join(queue).join("rps_cpus");
        let cpus = mask_cpus(&read(&path)?);
        Some((path, cpus))
    };
    let count = |name: &str| -> u64 {
        read(class.join("statistics").join(name)).and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    // A virtio device has those of the PCI device that it hangs on.
    let mut numbers: Vec<u32> = [device.join("msi_irqs"), device.join("../msi_irqs")]
        .iter()
        .map(|dir| entries(dir).iter().filter_map(|number| number.parse().ok()).collect::<Vec<u32>>())
        .find(|numbers| !numbers.is_empty())
        .unwrap_or_default();
    numbers.sort_unstable();
    let interrupts =
        numbers.into_iter().filter_map(|number| interrupt(number, names.get(&number)?)).collect();
    Some(Nic {
        name: name.to_owned(),
        queues: receive.len(),
        queues_max: ethtool("-l", name).and_then(|text| most(&text, &["Combined:", "RX:"])),
        rps: receive.iter().filter_map(rps).collect(),
        received: count("rx_packets"),
        missed: count("rx_missed_errors") + count("rx_fifo_errors"),
        ring: ethtool("-g", name).and_then(|text| Some((now(&text, "RX:")?, most(&text, &["RX:"])?))),
        interrupts,
    })
}

/// The interrupt of a receive queue; cards have others for errors, for links and for sending alone.
fn interrupt(number: u32, name: &str) -> Option<Interrupt> {
    let lower = name.to_ascii_lowercase();
    let receives = ["rx", "input", "comp", "queue"].iter().any(|word| lower.contains(word));
    let path = PathBuf::from(format!("/proc/irq/{number}/smp_affinity_list"));
    let cpus = list(&read(&path)?);
    receives.then(|| Interrupt { number, name: name.to_owned(), cpus, path })
}

/// What ethtool shows; nothing where there is none, or the card cannot say.
fn ethtool(what: &str, name: &str) -> Option<String> {
    let shown = Command::new("ethtool").args([what, name]).output().ok()?;
    shown.status.success().then(|| String::from_utf8_lossy(&shown.stdout).into_owned())
}

/// The highest of these values that the card could be set to.
fn most(text: &str, keys: &[&str]) -> Option<usize> {
    let (most, _) = text.split_once("Current hardware settings:")?;
    let value = |line: &str| keys.iter().find_map(|key| line.strip_prefix(key)?.trim().parse().ok());
    most.lines().filter_map(value).max()
}

/// The value that it is set to.
fn now(text: &str, key: &str) -> Option<usize> {
    let (_, now) = text.split_once("Current hardware settings:")?;
    now.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

/// CPUs of a mask as the kernel writes it: `00000000,0000000e`.
fn mask_cpus(mask: &str) -> Vec<usize> {
    let digits = mask.bytes().rev().filter_map(|byte| char::from(byte).to_digit(16));
    let bits = digits.enumerate().flat_map(|(at, digit)| {
        (0..4).filter(move |bit| digit & (1 << bit) != 0).map(move |bit| at * 4 + bit)
    });
    bits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ethtool_and_the_kernel_show_is_read() {
        let channels = "Channel parameters for eth0:\nPre-set maximums:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t8\n\
                        Current hardware settings:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t2\n";
        assert_eq!(most(channels, &["Combined:", "RX:"]), Some(8));
        let rings = "Ring parameters for eth0:\nPre-set maximums:\nRX:\t\t4096\nRX Mini:\tn/a\nRX Jumbo:\tn/a\nTX:\t\t4096\n\
                     Current hardware settings:\nRX:\t\t256\nRX Mini:\tn/a\nRX Jumbo:\tn/a\nTX:\t\t256\n";
        assert_eq!((now(rings, "RX:"), most(rings, &["RX:"])), (Some(256), Some(4096)));
        assert_eq!(most("netlink error: Operation not supported\n", &["RX:"]), None);
        assert!(mask_cpus("0").is_empty());
        assert_eq!(mask_cpus("e"), [1, 2, 3]);
        assert_eq!(mask_cpus("00000001,00000010"), [4, 32]);
    }
}

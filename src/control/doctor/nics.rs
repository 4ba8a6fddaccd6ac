//! Network cards against data cores. A queue of a card, its interrupt and a data core belong together: the packet is where the
//! session is.

use super::{Area, Facts, Finding, Fix, Nic};

/// One packet in this many may be lost for lack of a descriptor before it is worth a word: a burst once is no pattern.
const MISSED_PART: u64 = 10_000;

pub(super) fn examine(data: &[usize], facts: &Facts, out: &mut Vec<Finding>) {
    // A card without interrupts of its own is none whose packets could be led anywhere.
    let nics = || facts.nics.iter().filter(|nic| !nic.interrupts.is_empty());
    for nic in nics().filter(|_| !data.is_empty()) {
        queues(nic, data, out);
        interrupts(nic, data, facts.irqbalance, out);
    }
    facts.nics.iter().for_each(|nic| ring(nic, out));
    flows(nics().all(|nic| nic.queues >= data.len()), facts, out);
    if facts.irqbalance && nics().next().is_some() {
        out.push(Finding::change(
            Area::Cores,
            "irqbalance runs and moves interrupts away from the data cores; `systemctl disable --now irqbalance`",
        ));
    }
}

/// A queue for each data core, or else packets spread by the kernel (RPS).
fn queues(nic: &Nic, data: &[usize], out: &mut Vec<Finding>) {
    let Nic { name, queues, .. } = nic;
    let (few, cores) = (*queues < data.len(), data.len());
    let could = nic.queues_max.filter(|most| few && most > queues);
    if let Some(most) = could {
        let wanted = most.min(cores);
        out.push(Finding::change(
            Area::Cores,
            format!(
                "{name} has {queues} receive queues for {cores} data cores and could have {most}: one core takes most packets; \
                 `ethtool -L {name} combined {wanted}` (its link is down for a moment)"
            ),
        ));
    }
    for (path, cpus) in &nic.rps {
        // RPS is what is left where the card cannot have enough queues.
        let (wanted, why) = match (few, cpus.is_empty()) {
            (false, false) => (
                &[][..],
                format!(
                    "there is a queue for each of {cores} data cores: RPS costs an interrupt between CPUs for each packet"
                ),
            ),
            (true, true) if could.is_none() => (
                data,
                format!(
                    "{queues} receive queues are there for {cores} data cores: one core takes most packets without RPS"
                ),
            ),
            (true, false) if *cpus != data => {
                (data, format!("RPS spreads packets to CPUs {cpus:?}, data cores run on {data:?}"))
            }
            _ => continue,
        };
        let fix = Fix::Write { path: path.clone(), text: mask(wanted) };
        out.push(Finding::change(Area::Cores, format!("{name}: {why}")).with(fix));
    }
}

/// RFS sends packets to where the receiver ran last: with a queue for each core they are there already.
fn flows(queues_suffice: bool, facts: &Facts, out: &mut Vec<Finding>) {
    const KEY: &str = "net.core.rps_sock_flow_entries";
    let Some(entries) = facts.number(KEY).filter(|entries| *entries > 0) else { return };
    if queues_suffice && !facts.nics.is_empty() {
        let text = format!(
            "{KEY} is {entries} (RFS): cards have a queue for each data core, and the look-up for each packet is in vain"
        );
        let fix = Fix::Sysctl { key: KEY.to_owned(), value: "0".to_owned() };
        out.push(Finding::change(Area::Cores, text).with(fix));
    }
}

/// The mask of these CPUs, as the kernel reads it: groups of 32.
fn mask(cpus: &[usize]) -> String {
    let groups = cpus.iter().max().map_or(0, |most| most / 32) + 1;
    let group = |at: usize| {
        cpus.iter().filter(|cpu| **cpu / 32 == at).fold(0_u32, |bits, cpu| bits | 1 << (cpu % 32))
    };
    (0..groups).rev().map(|at| format!("{:x}", group(at))).collect::<Vec<_>>().join(",")
}

/// Packets that came while no descriptor was free.
fn ring(nic: &Nic, out: &mut Vec<Finding>) {
    let Nic { name, missed, received, .. } = nic;
    if *missed <= received / MISSED_PART {
        return;
    }
    let advice = match nic.ring {
        Some((now, most)) if now < most => {
            format!(
                "raise its ring: `ethtool -G {name} rx {most}` (now {now}; its link is down for a moment)"
            )
        }
        Some((now, _)) => format!("its ring of {now} is as large as it can be: more queues, or faster cores"),
        None => format!("raise its ring: `ethtool -g {name}` says how far"),
    };
    out.push(Finding::change(
        Area::Cores,
        format!("{name} lost {missed} of {received} packets for lack of receive descriptors; {advice}"),
    ));
}

fn interrupts(nic: &Nic, data: &[usize], irqbalance: bool, out: &mut Vec<Finding>) {
    for (interrupt, wanted) in nic.interrupts.iter().zip(layout(nic.interrupts.len(), data)) {
        if interrupt.cpus == [wanted] {
            continue;
        }
        let text = format!(
            "interrupt {} ({}) of {} goes to CPUs {:?}: to core {wanted} alone, a packet is where its session is",
            interrupt.number, interrupt.name, nic.name, interrupt.cpus
        );
        let finding = Finding::change(Area::Cores, text);
        let fix = Fix::Write { path: interrupt.path.clone(), text: wanted.to_string() };
        // What irqbalance undoes is no fix.
        out.push(if irqbalance { finding } else { finding.with(fix) });
    }
}

/// The CPU of each queue's interrupt: queues go round the data cores.
fn layout(queues: usize, data: &[usize]) -> impl Iterator<Item = usize> {
    data.iter().copied().cycle().take(queues)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_as_the_kernel_reads_them() {
        for (cpus, expected) in
            [(&[][..], "0"), (&[0], "1"), (&[1, 2, 3], "e"), (&[4, 32], "1,10"), (&[64], "1,0,0")]
        {
            assert_eq!(mask(cpus), expected, "{cpus:?}");
        }
    }
}

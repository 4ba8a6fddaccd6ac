//! The kernel, io_uring, limits, the clock, and cores.

use super::{Area, Facts, Finding, nics};
use crate::base::limits::MAXCONN_MAX;
use crate::control::descriptors;
use crate::model::Model;
use crate::rt::machine::{KERNEL_MIN, LOCKED_BYTES_PER_CORE};

pub(super) fn examine(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    kernel(facts, out);
    limits(model, facts, out);
    sandbox(model, facts, out);
    cores(model, facts, out);
    clock(facts, out);
}

fn kernel(facts: &Facts, out: &mut Vec<Finding>) {
    let ((major, minor), (want_major, want_minor)) = (facts.kernel, KERNEL_MIN);
    if facts.kernel < KERNEL_MIN {
        out.push(Finding::broken(
            Area::Kernel,
            format!(
                "kernel {major}.{minor} is too old, {want_major}.{want_minor} is needed; boot that of Debian 12 or later"
            ),
        ));
        return;
    }
    out.push(match &facts.ring {
        Some(Ok(missing)) if missing.is_empty() => Finding::fine(
            Area::Kernel,
            format!("{major}.{minor}, io_uring with all operations that are used"),
        ),
        Some(Ok(missing)) => Finding::broken(
            Area::Kernel,
            format!("io_uring of kernel {major}.{minor} lacks {}; boot another kernel", missing.join(", ")),
        ),
        Some(Err(why)) => Finding::broken(Area::Kernel, why.clone()),
        None => Finding::fine(Area::Kernel, format!("{major}.{minor}")),
    });
}

fn limits(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    let whose = match facts.running {
        Some(pid) => format!("of process {pid}"),
        None => "of this shell (a unit has its own)".to_owned(),
    };
    let reserved = descriptors::reserved(model, facts.open_files);
    let budget = descriptors::budget(facts.open_files, reserved, model.global.maxconn);
    match model.global.maxconn {
        Some(wanted) if wanted > budget.maxconn => {
            let needed = u64::from(wanted) * 2 + descriptors::reserved(model, u64::from(wanted) * 4);
            out.push(Finding::change(
                Area::Limits,
                format!(
                    "maxconn = {wanted} needs {needed} open files, the hard limit {whose} is {}: it would be {}; \
                     LimitNOFILE={needed} in the unit, or `ulimit -Hn {needed}`",
                    facts.open_files, budget.maxconn
                ),
            ));
        }
        _ => out.push(Finding::fine(
            Area::Limits,
            format!(
                "{} open files {whose}: maxconn is {}",
                facts.open_files,
                budget.maxconn.min(MAXCONN_MAX)
            ),
        )),
    }
    if facts.locked_memory < LOCKED_BYTES_PER_CORE {
        out.push(Finding::broken(
            Area::Limits,
            format!(
                "{} bytes of locked memory {whose}, io_uring needs {LOCKED_BYTES_PER_CORE}; LimitMEMLOCK=infinity in the \
                 unit, or `ulimit -l unlimited`",
                facts.locked_memory
            ),
        ));
    }
}

/// What the process that runs gave up, against what its configuration says.
fn sandbox(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    let Some(in_force) = &facts.sandbox else { return };
    out.push(match (model.global.sandbox, in_force.as_str()) {
        (true, "off") => Finding::change(Area::Sandbox, "off in the process that runs: restart it"),
        (false, "off") => Finding::change(
            Area::Sandbox,
            "off: whoever takes the process over can do what its user can; sandbox = true in [global]",
        ),
        (_, parts) if !parts.contains("landlock") => Finding::change(
            Area::Sandbox,
            format!("{parts}; this kernel has no Landlock (lsm= of its command line)"),
        ),
        (_, parts) => Finding::fine(Area::Sandbox, parts),
    });
}

fn clock(facts: &Facts, out: &mut Vec<Finding>) {
    match facts.clock {
        Some(true) => out.push(Finding::fine(Area::Clock, "synchronised")),
        Some(false) => out.push(Finding::change(
            Area::Clock,
            "nothing keeps it right: certificates, log lines and cookies with an expiry go by it; install chrony, or enable \
             systemd-timesyncd",
        )),
        None => {}
    }
}

fn cores(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    let data = &model.global.cores;
    let before = out.len();
    let outside: Vec<usize> = data.iter().copied().filter(|cpu| !facts.cpus.contains(cpu)).collect();
    if !outside.is_empty() && !facts.cpus.is_empty() {
        out.push(Finding::broken(Area::Cores, format!("CPUs {outside:?} of `cores` are not online")));
    }
    nics::examine(data, facts, out);
    if !facts.isolated.is_empty() && !data.iter().all(|cpu| facts.isolated.contains(cpu)) {
        out.push(Finding::change(
            Area::Cores,
            format!(
                "the kernel isolates CPUs {:?}, data cores run on {data:?}: they should be the same; set `cores`, or isolcpus= \
                 of the kernel's command line",
                facts.isolated
            ),
        ));
    }
    if out.len() == before {
        let text = format!("data on CPUs {data:?}, control on {}", model.global.control_core);
        out.push(Finding::fine(Area::Cores, text));
    }
}

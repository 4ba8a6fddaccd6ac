//! CPU time, memory and context switches of the processes under test, from /proc. Used by the load generator only.

use std::fs;
use std::io;

/// The processes to look at.
pub(crate) struct Watch {
    pids: Vec<u32>,
}

/// What they used, summed over all their threads (kernel workers of io_uring are threads of the process).
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Usage {
    /// On-CPU time, exact (`schedstat`).
    pub(crate) cpu_us: f64,
    /// `cpu_us`, divided as the tick-based `utime` and `stime` say.
    pub(crate) user_us: f64,
    /// The rest.
    pub(crate) sys_us: f64,
    /// Times they gave the CPU up.
    pub(crate) switches_voluntary: u64,
    /// Times it was taken.
    pub(crate) switches_forced: u64,
    utime_ticks: u64,
    stime_ticks: u64,
}

impl Watch {
    pub(crate) fn new(pids: &[u32]) -> Self {
        Self { pids: pids.to_vec() }
    }

    pub(crate) fn read(&self) -> io::Result<Usage> {
        let mut sum = Usage::default();
        for pid in &self.pids {
            for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
                let task = entry?.path();
                // A thread may end between the listing and the reading.
                let (Ok(stat), Ok(sched), Ok(status)) = (
                    fs::read_to_string(task.join("stat")),
                    fs::read_to_string(task.join("schedstat")),
                    fs::read_to_string(task.join("status")),
                ) else {
                    continue;
                };
                // The name in parentheses may contain anything; fields are counted from behind it (utime is field 14).
                let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
                sum.utime_ticks += number(fields.get(11));
                sum.stime_ticks += number(fields.get(12));
                sum.cpu_us += number(sched.split_whitespace().next().as_ref()) as f64 / 1000.0;
                sum.switches_voluntary += field(&status, "voluntary_ctxt_switches:");
                sum.switches_forced += field(&status, "nonvoluntary_ctxt_switches:");
            }
        }
        Ok(sum)
    }

    /// Resident memory that is theirs alone (anonymous), plus what they share through files: VmRSS, summed.
    pub(crate) fn rss_kib(&self) -> io::Result<u64> {
        let mut sum = 0;
        for pid in &self.pids {
            sum += field(&fs::read_to_string(format!("/proc/{pid}/status"))?, "VmRSS:");
        }
        Ok(sum)
    }
}

impl Usage {
    /// What was used between `before` and this.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let utime_ticks = self.utime_ticks.saturating_sub(before.utime_ticks);
        let stime_ticks = self.stime_ticks.saturating_sub(before.stime_ticks);
        let cpu_us = self.cpu_us - before.cpu_us;
        let share = utime_ticks as f64 / (utime_ticks + stime_ticks).max(1) as f64;
        Self {
            cpu_us,
            user_us: cpu_us * share,
            sys_us: cpu_us * (1.0 - share),
            switches_voluntary: self.switches_voluntary.saturating_sub(before.switches_voluntary),
            switches_forced: self.switches_forced.saturating_sub(before.switches_forced),
            utime_ticks,
            stime_ticks,
        }
    }
}

fn number(text: Option<&&str>) -> u64 {
    text.and_then(|t| t.parse().ok()).unwrap_or(0)
}

/// The number behind a name of /proc/PID/status.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix(name));
    number(line.and_then(|rest| rest.split_whitespace().next()).as_ref())
}

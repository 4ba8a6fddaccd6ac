//! `leastconn`: the server with the lowest load for its weight, over all cores.
//!
//! Loads are shared between the cores and change without notice, so nothing can be kept sorted: a pick reads them all,
//! from a rotating start, and stops at the first idle server because none can be better.

use crate::base::id::ServerId;
use crate::policy::balance::ServerView;
use crate::policy::balance::pool::Pool;

/// Where the next search starts.
#[derive(Clone, Debug, Default)]
pub(super) struct LeastConn {
    start: usize,
    picks: u64,
}

impl LeastConn {
    /// Takes over the servers; `phase` of `phases` is this core's place among the cores.
    pub(super) fn rebuild(&mut self, pool: &Pool, phase: u64, phases: u64) {
        let len = (pool.len() as u64).max(1);
        let start = (phase * len / phases).wrapping_add(self.picks) % len;
        self.start = usize::try_from(start).unwrap_or(0);
    }

    /// The best server that is `free`; equals take turns.
    pub(super) fn pick(
        &mut self,
        pool: &Pool,
        view: &impl ServerView,
        free: impl Fn(ServerId) -> bool,
    ) -> Option<ServerId> {
        let len = pool.len();
        let mut best: Option<(usize, Pressure)> = None;
        for step in 0..len {
            let at = (self.start + step) % len;
            let entry = pool.entries[at];
            if !free(entry.id) {
                continue;
            }
            let pressure = Pressure::of(view.load(entry.id), entry.weight);
            if best.is_none_or(|(_, b)| pressure.is_below(b)) {
                best = Some((at, pressure));
                if pressure.is_idle() {
                    break;
                }
            }
        }
        let (at, _) = best?;
        self.start = (at + 1) % len;
        self.picks = self.picks.wrapping_add(1);
        Some(pool.entries[at].id)
    }
}

/// Load over weight, compared without a division. An idle server is below every other whatever its weight; otherwise
/// the session to come counts, as in HAProxy.
#[derive(Clone, Copy)]
pub(super) struct Pressure {
    load: u64,
    weight: u64,
}

impl Pressure {
    pub(super) fn of(load: u32, weight: u32) -> Self {
        let load = if load == 0 { 0 } else { u64::from(load) + 1 };
        Pressure { load, weight: u64::from(weight) }
    }
    fn is_idle(self) -> bool {
        self.load == 0
    }
    pub(super) fn is_below(self, other: Pressure) -> bool {
        self.load * other.weight < other.load * self.weight
    }
}

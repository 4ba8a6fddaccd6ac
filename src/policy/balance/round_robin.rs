//! `roundrobin`: smooth weighted round robin.
//!
//! Servers of equal weight form a class. Classes take turns by smooth weighted round robin (each turn every class gains
//! its weight, the richest pays the total), servers within a class one after the other. So a pick costs as many steps
//! as there are different weights, one in the common case, however many servers there are.

use crate::base::id::ServerId;
use crate::policy::balance::pool::Pool;

/// Turns that a new class table is advanced at most, to place this core in the cycle. More would only place it finer.
const PHASE_TURNS_MAX: u64 = 4096;

/// The cursors of one core.
#[derive(Clone, Debug, Default)]
pub(super) struct RoundRobin {
    classes: Vec<Class>,
    /// Picks so far, so that a resync goes on where it was instead of favouring the first servers again.
    picks: u64,
}

#[derive(Clone, Debug)]
struct Class {
    /// Weight of one member.
    weight: u32,
    /// Weight of all members.
    gain: i64,
    /// What it has saved up.
    credit: i64,
    /// Member that is next.
    cursor: usize,
    members: Vec<ServerId>,
    /// Found without a free server during this pick.
    exhausted: bool,
}

impl RoundRobin {
    /// Takes over the servers; `phase` of `phases` is this core's place in the cycle.
    pub(super) fn rebuild(&mut self, pool: &Pool, phase: u64, phases: u64) {
        self.classes.clear();
        for entry in &pool.entries {
            match self.classes.iter_mut().find(|c| c.weight == entry.weight) {
                Some(class) => class.members.push(entry.id),
                None => self.classes.push(Class {
                    weight: entry.weight,
                    gain: 0,
                    credit: 0,
                    cursor: 0,
                    members: vec![entry.id],
                    exhausted: false,
                }),
            }
        }
        for class in &mut self.classes {
            let len = class.members.len() as u64;
            class.gain = i64::from(class.weight) * i64::try_from(len).unwrap_or(i64::MAX);
            let start = (phase * len / phases).wrapping_add(self.picks) % len;
            class.cursor = usize::try_from(start).unwrap_or(0);
        }
        if self.classes.len() > 1 {
            let cycle = (pool.len() as u64).saturating_mul(4).min(PHASE_TURNS_MAX);
            for _ in 0..(phase * cycle / phases).wrapping_add(self.picks) % cycle {
                self.next_class();
            }
        }
    }

    /// The next server that is `free`.
    pub(super) fn pick(&mut self, pool: &Pool, free: impl Fn(ServerId) -> bool) -> Option<ServerId> {
        debug_assert_eq!(pool.len(), self.classes.iter().map(|c| c.members.len()).sum::<usize>());
        for class in &mut self.classes {
            class.exhausted = false;
        }
        while let Some(index) = self.next_class() {
            let class = &mut self.classes[index];
            let len = class.members.len();
            for step in 0..len {
                let at = (class.cursor + step) % len;
                let id = class.members[at];
                if free(id) {
                    class.cursor = (at + 1) % len;
                    self.picks = self.picks.wrapping_add(1);
                    return Some(id);
                }
            }
            class.exhausted = true;
        }
        None
    }

    /// One turn of smooth weighted round robin over the classes that are not exhausted.
    fn next_class(&mut self) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<usize> = None;
        for at in 0..self.classes.len() {
            let class = &mut self.classes[at];
            if class.exhausted {
                continue;
            }
            class.credit += class.gain;
            total += class.gain;
            if best.is_none_or(|b| self.classes[at].credit > self.classes[b].credit) {
                best = Some(at);
            }
        }
        let best = best?;
        self.classes[best].credit -= total;
        Some(best)
    }
}

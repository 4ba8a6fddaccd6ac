//! `hash-type map-based`: a table with as many slots per server as its weight; the hash modulo its size is the slot.
//! The shares are exact, but almost every key moves when a server comes or goes.

use crate::base::id::ServerId;
use crate::base::limits::HASH_MAP_SLOTS_MAX;
use crate::policy::balance::hash::mix;
use crate::policy::balance::pool::Pool;
use crate::policy::balance::{ServerView, Setup, WEIGHT_SCALE};

/// Slots times servers up to which the table is laid out in HAProxy's order. It costs that many steps; beyond, the
/// servers' slots stand side by side, which gives the same shares.
const INTERLEAVE_STEPS_MAX: u64 = 1 << 22;

/// Second choices that are hashed before the search goes on from server to server.
const REHASHES: u32 = 8;

/// The table; entries are positions in the pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Map {
    slots: Vec<u32>,
}

impl Map {
    /// Lays out the table. As in HAProxy, weights are divided by the greatest common divisor of all servers, down ones
    /// included, and a share of a weight that `slowstart` leaves counts as a whole one.
    pub(super) fn rebuild(&mut self, pool: &Pool, setup: &Setup, view: &impl ServerView) {
        let whole = |weight: u32| weight.div_ceil(WEIGHT_SCALE);
        let divisor = setup.servers.iter().map(|id| whole(view.weight(id))).fold(0, gcd).max(1);
        let mut weights: Vec<u32> = pool.entries.iter().map(|e| (whole(e.weight) / divisor).max(1)).collect();
        let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        if total > HASH_MAP_SLOTS_MAX as u64 {
            let shrink = total.div_ceil(HASH_MAP_SLOTS_MAX as u64);
            for weight in &mut weights {
                *weight = u32::try_from((u64::from(*weight) / shrink).max(1)).unwrap_or(1);
            }
        }
        self.slots.clear();
        let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        if total * weights.len() as u64 <= INTERLEAVE_STEPS_MAX {
            self.slots.extend(interleaved(&weights, total));
        } else {
            for (at, weight) in (0u32..).zip(&weights) {
                self.slots.extend(std::iter::repeat_n(at, *weight as usize));
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The server of the key's slot. While it is not `fit`, the key is hashed again, so that the keys of one server
    /// that is left out spread over all the others.
    pub(super) fn pick(&self, pool: &Pool, key: u32, fit: impl Fn(usize) -> bool) -> Option<ServerId> {
        let slot = |hash: u32| self.slots[hash as usize % self.slots.len()] as usize;
        let home = slot(key);
        if fit(home) {
            return Some(pool.entries[home].id);
        }
        let len = pool.len();
        let second = (1..=REHASHES).map(|n| slot(mix(key.wrapping_add(n))));
        let rest = (1..len).map(|step| (home + step) % len);
        second.chain(rest).find(|at| fit(*at)).map(|at| pool.entries[at].id)
    }
}

/// The order of HAProxy's map, so that keys land on the same servers: each turn every server gains its weight and the
/// first of those that have most whole turns saved up pays one.
fn interleaved(weights: &[u32], total: u64) -> impl Iterator<Item = u32> {
    let total = i64::try_from(total).unwrap_or(i64::MAX);
    let mut score: Vec<i64> = vec![0; weights.len()];
    (0..total).map(move |_| {
        let mut best = 0;
        let mut most = i64::MIN;
        for (at, weight) in weights.iter().enumerate() {
            score[at] += i64::from(*weight);
            let turns = (score[at] + total) / total;
            if turns > most {
                most = turns;
                best = at;
            }
        }
        score[best] -= total;
        u32::try_from(best).unwrap_or(0)
    })
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

//! The servers that take new load now, with their weights: what every algorithm works on.

use crate::base::id::{IdRange, ServerId};
use crate::policy::balance::{ServerView, Setup};

/// Whether a server takes new load now: usable with a weight and, if it is a backup, when its turn has come. Who hands a
/// free slot to the queue asks this to know whether those who wait for any server may have it.
pub fn takes_load(
    servers: IdRange<ServerId>,
    allbackups: bool,
    id: ServerId,
    view: &impl ServerView,
) -> bool {
    let takes = |id: ServerId| view.usable(id) && view.weight(id) > 0;
    if !takes(id) || !view.backup(id) {
        return takes(id);
    }
    let mut others = servers.iter().filter(|other| *other != id && takes(*other));
    !others.any(|other| !view.backup(other) || (!allbackups && other < id))
}

/// One server that takes new load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) id: ServerId,
    /// Effective weight, above 0.
    pub(super) weight: u32,
    /// Sum of the weights of the entries before this one.
    pub(super) before: u64,
}

/// The servers that take new load, in configured order.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    pub(super) entries: Vec<Entry>,
    /// Sum of all weights.
    pub(super) total: u64,
}

impl Pool {
    /// The usable servers; when there are none, the first usable backup server, or all of them with `allbackups`.
    pub(super) fn read(setup: &Setup, view: &impl ServerView) -> Pool {
        let takes_load = |id: &ServerId| view.usable(*id) && view.weight(*id) > 0;
        let mut pool = Pool::default();
        for id in setup.servers.iter().filter(takes_load).filter(|id| !view.backup(*id)) {
            pool.push(id, view.weight(id));
        }
        if pool.is_empty() {
            let backups = if setup.allbackups { usize::MAX } else { 1 };
            for id in setup.servers.iter().filter(takes_load).take(backups) {
                pool.push(id, view.weight(id));
            }
        }
        pool
    }

    fn push(&mut self, id: ServerId, weight: u32) {
        self.entries.push(Entry { id, weight, before: self.total });
        self.total += u64::from(weight);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, arXiv 1608.01350), with weights: the
    /// sessions of the backend and the one to come, times the factor, are slots; each server owns its share of them by
    /// weight, at least one. The shares are cut from one line so that rounding neither loses nor adds a slot.
    pub(super) fn within_bound(&self, index: usize, factor_percent: u32, view: &impl ServerView) -> bool {
        let entry = self.entries[index];
        let slots = ((u64::from(view.load_total()) + 1) * u64::from(factor_percent)).div_ceil(100);
        let cut = |weight: u64| u128::from(weight) * u128::from(slots) / u128::from(self.total);
        let share = cut(entry.before + u64::from(entry.weight)) - cut(entry.before);
        u128::from(view.load(entry.id)) < share.max(1)
    }
}

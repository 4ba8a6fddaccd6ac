//! `hash-type consistent`: each server owns points on a ring of 2^32, as many as its weight in units of
//! 1/[`WEIGHT_SCALE`](super::WEIGHT_SCALE); a key belongs to the nearest point. A server that comes or goes moves only
//! its own keys. Points are placed as HAProxy places them, so keys keep their servers in a migration.

use crate::base::id::ServerId;
use crate::base::limits::{HASH_RING_POINTS_MAX, WEIGHT_MAX};
use crate::policy::balance::hash::mix;
use crate::policy::balance::pool::Pool;
use crate::policy::balance::{ServerView, WEIGHT_SCALE};

/// Distance between the point numbers of two servers: none has more points than this.
const POINTS_PER_SERVER_MAX: u32 = WEIGHT_MAX * WEIGHT_SCALE;

/// The points in ring order.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring {
    points: Vec<Point>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    at: u32,
    /// Position of the owner in the pool.
    owner: u32,
}

impl Ring {
    /// Places the points. When there would be too many, every server gets the same fraction of its own, at least one.
    pub(super) fn rebuild(&mut self, pool: &Pool, view: &impl ServerView) {
        let shrink = pool.total.div_ceil(HASH_RING_POINTS_MAX as u64).max(1);
        self.points.clear();
        for (owner, entry) in (0u32..).zip(&pool.entries) {
            let base = view.hash_id(entry.id).wrapping_mul(POINTS_PER_SERVER_MAX);
            let share = (u64::from(entry.weight) / shrink).max(1);
            let points = u32::try_from(share).unwrap_or(u32::MAX).min(POINTS_PER_SERVER_MAX);
            self.points.extend((0..points).map(|n| Point { at: mix(base.wrapping_add(n)), owner }));
        }
        self.points.sort_unstable_by_key(|p| (p.at, p.owner));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.points.len()
    }

    /// The owner of the point nearest to the key; while it is not `fit`, the owner of the next point clockwise.
    pub(super) fn pick(&self, pool: &Pool, key: u32, fit: impl Fn(usize) -> bool) -> Option<ServerId> {
        let len = self.points.len();
        let after = self.points.partition_point(|p| p.at < key) % len;
        let before = (after + len - 1) % len;
        let (next, previous) = (self.points[after], self.points[before]);
        let nearest =
            if key.wrapping_sub(previous.at) <= next.at.wrapping_sub(key) { previous } else { next };
        if fit(nearest.owner as usize) {
            return Some(pool.entries[nearest.owner as usize].id);
        }
        let mut refused = nearest.owner;
        for step in 0..len {
            let owner = self.points[(after + step) % len].owner;
            if owner == refused {
                continue;
            }
            if fit(owner as usize) {
                return Some(pool.entries[owner as usize].id);
            }
            refused = owner;
        }
        None
    }
}

//! Levels that many cores raise and lower against a limit, and rates that they share. Nothing here knows what is counted;
//! `live` says of which objects.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use crate::base::shared;
use crate::base::time::Now;

/// A limit that is not set.
pub(super) const NO_LIMIT: u32 = u32::MAX;

/// A level that many cores raise and lower, with a limit.
#[derive(Debug)]
pub struct Level {
    now: CachePadded<AtomicU32>,
    limit: AtomicU32,
}

impl Level {
    /// A level at zero.
    pub fn new(limit: Option<u32>) -> Self {
        Level { now: CachePadded::new(AtomicU32::new(0)), limit: AtomicU32::new(limit.unwrap_or(NO_LIMIT)) }
    }

    /// Raises the level by one unless it is at its limit. Exact: it never exceeds the limit, on any number of cores.
    pub fn try_enter(&self) -> bool {
        self.try_enter_below(self.limit.load(Ordering::Relaxed))
    }

    /// The same with another limit.
    pub(super) fn try_enter_below(&self, limit: u32) -> bool {
        shared::wrote();
        if limit == NO_LIMIT {
            self.now.fetch_add(1, Ordering::SeqCst);
            return true;
        }
        let raise = |now: u32| (now < limit).then_some(now + 1);
        self.now.fetch_update(Ordering::SeqCst, Ordering::Relaxed, raise).is_ok()
    }

    /// Raises it whatever the limit says (persistence that must be honoured).
    pub fn enter(&self) {
        shared::wrote();
        self.now.fetch_add(1, Ordering::SeqCst);
    }

    /// Lowers it by one. Whether it was at its limit: somebody may wait for this place, and nobody else tells them.
    ///
    /// A look at the level before would not do: it may be filled between the look and this.
    pub fn leave(&self) -> bool {
        shared::wrote();
        let before = self.now.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before > 0, "left a level that was not entered");
        // Read after the level fell: who came to wait under a limit lowered meanwhile is seen here, or sees the room.
        before >= self.limit.load(Ordering::SeqCst)
    }

    /// The level now.
    pub fn get(&self) -> u32 {
        self.now.load(Ordering::SeqCst)
    }

    /// Whether one more fits.
    pub fn has_room(&self) -> bool {
        // In this order: see `leave`.
        self.limit.load(Ordering::SeqCst) > self.get()
    }

    /// The limit as it is kept.
    pub(super) fn raw_limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// The limit; `None`: no limit.
    pub fn limit(&self) -> Option<u32> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|l| *l != NO_LIMIT)
    }

    /// Sets the limit; `None` removes it. Sessions above a lower limit stay.
    pub fn set_limit(&self, limit: Option<u32>) {
        self.limit.store(limit.unwrap_or(NO_LIMIT), Ordering::SeqCst);
    }
}

/// A limit of events in each second over all cores. Nothing shared is written while there is no limit.
#[derive(Debug, Default)]
pub struct RateLimit {
    /// 0: none.
    limit: AtomicU32,
    /// The second and what happened in it: 32 bits each.
    window: CachePadded<AtomicU64>,
}

impl RateLimit {
    /// The limit; 0: none.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets the limit; 0 lifts it.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// One event now.
    ///
    /// # Errors
    /// The second has had all of its events; when the next one begins.
    pub fn take(&self, now: Now) -> Result<(), Now> {
        const SECOND: u64 = 1_000_000_000;
        let limit = u64::from(self.limit());
        if limit == 0 {
            return Ok(());
        }
        let second = (now.0 / SECOND) & u64::from(u32::MAX);
        let count = |window: u64| if window >> 32 == second { window & u64::from(u32::MAX) } else { 0 };
        let step = |window| (count(window) < limit).then(|| second << 32 | (count(window) + 1));
        shared::wrote();
        let taken = self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        taken.map(drop).map_err(|_| Now((now.0 / SECOND + 1) * SECOND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_never_exceeds_its_limit_whatever_the_number_of_cores() {
        let level = Level::new(Some(50));
        let entered = AtomicU32::new(0);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..20_000 {
                        if level.try_enter() {
                            let inside = entered.fetch_add(1, Ordering::SeqCst) + 1;
                            assert!(inside <= 50, "{inside} inside");
                            entered.fetch_sub(1, Ordering::SeqCst);
                            level.leave();
                        }
                    }
                });
            }
        });
        assert_eq!(level.get(), 0);
    }

    #[test]
    fn who_leaves_a_full_level_is_told_so_whenever_it_was_filled() {
        let level = Level::new(Some(2));
        assert!(level.try_enter() && !level.leave(), "one of two places was free");
        assert!(level.try_enter() && level.has_room(), "whoever leaves now has not seen it full");
        assert!(level.try_enter() && !level.try_enter());
        assert!(level.leave(), "somebody waits for this place");
        assert!(!level.leave());
        level.enter();
        level.enter();
        level.enter();
        assert!(level.leave() && level.leave() && !level.leave(), "above the limit counts as full");
    }

    #[test]
    fn a_rate_limit_lets_just_so_many_through_each_second() {
        let rate = RateLimit::default();
        let at = |ms: u64| Now(ms * 1_000_000);
        assert!((0..100).all(|n| rate.take(at(n)).is_ok()), "no limit yet");
        rate.set_limit(3);
        let passed = |from: u64| (0..10).filter(|n| rate.take(at(from + n)).is_ok()).count();
        assert_eq!((passed(5000), passed(5500), passed(6000)), (3, 0, 3));
        assert_eq!(rate.take(at(6900)), Err(at(7000)));
        rate.set_limit(0);
        assert_eq!(passed(6950), 10);
    }

    #[test]
    fn a_lower_limit_keeps_who_is_inside() {
        let level = Level::new(None);
        assert!(level.try_enter() && level.try_enter());
        level.set_limit(Some(1));
        assert!(!level.try_enter() && !level.has_room());
        level.leave();
        level.leave();
        assert!(level.try_enter() && !level.try_enter());
        assert_eq!(level.limit(), Some(1));
    }
}

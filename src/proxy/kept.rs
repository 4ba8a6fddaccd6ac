//! Things that were used and wait for the next who needs one: memory of requests, of streams, of sessions, and tasks. The one
//! given back last is taken first, so that a core works on the same few cache lines however many it has; what a burst needed
//! goes once nobody needs it any more.

use std::cell::{Cell, RefCell};

use crate::base::limits::KEPT_FOR_REQUESTS_MAX;

/// What a quiet core keeps beyond what it needs: a small burst makes nothing anew.
pub(super) const QUIET_KEPT: usize = 32;

/// Things of one kind.
pub(super) struct Kept<T> {
    /// Those used last lie at the end.
    things: RefCell<Vec<T>>,
    /// The fewest that lay here since it was last looked: so many were not needed.
    least: Cell<usize>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept { things: RefCell::default(), least: Cell::new(0) }
    }
}

impl<T> Kept<T> {
    /// The one that was given back last.
    pub(super) fn take(&self) -> Option<T> {
        let mut things = self.things.borrow_mut();
        let thing = things.pop();
        self.least.set(self.least.get().min(things.len()));
        thing
    }

    /// Keeps one; false: enough others are here, and it is dropped.
    pub(super) fn keep(&self, thing: T) -> bool {
        let mut things = self.things.borrow_mut();
        let has_room = things.len() < KEPT_FOR_REQUESTS_MAX;
        if has_room {
            things.push(thing);
        }
        has_room
    }

    /// Whether there are more than a few.
    pub(super) fn is_large(&self) -> bool {
        self.things.borrow().len() > QUIET_KEPT
    }

    /// Takes those out that nobody needed since it was last called, but for a few. For now and then.
    pub(super) fn unused(&self) -> Vec<T> {
        let mut things = self.things.borrow_mut();
        let count = self.least.get().saturating_sub(QUIET_KEPT);
        self.least.set(things.len() - count);
        // Most often there are none, and a core that slept has none of this in its caches.
        if count == 0 {
            return Vec::new();
        }
        things.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_burst_needed_goes_when_it_was_not_needed_for_a_while() {
        let kept = Kept::default();
        (0..200).for_each(|n| assert!(kept.keep(n)));
        // From now on it is looked at how many are needed.
        kept.unused();
        let busy: Vec<_> = (0..100).filter_map(|_| kept.take()).collect();
        busy.into_iter().for_each(|n| assert!(kept.keep(n)));
        assert_eq!(kept.unused(), (0..100 - QUIET_KEPT).collect::<Vec<_>>(), "those used last stay");
        assert!(kept.is_large());
        assert_eq!(kept.unused().len(), 100);
        assert_eq!(kept.things.borrow().len(), QUIET_KEPT);
        assert!(!kept.is_large());
    }

    #[test]
    fn no_more_are_kept_than_a_core_serves_at_a_time() {
        let kept = Kept::default();
        (0..KEPT_FOR_REQUESTS_MAX).for_each(|n| assert!(kept.keep(n)));
        assert!(!kept.keep(0));
    }
}

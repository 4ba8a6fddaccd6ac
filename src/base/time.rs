//! Time as a value. `now` is always an argument; only `rt` reads a clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on the monotonic clock (CLOCK_MONOTONIC), in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Now(pub u64);

impl Now {
    /// The time since an earlier point; zero if `earlier` is later.
    pub fn since(self, earlier: Now) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
    /// Whole microseconds since an earlier point.
    pub fn us_since(self, earlier: Now) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }
    /// Whole milliseconds since an earlier point.
    pub fn ms_since(self, earlier: Now) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}

impl Add<Duration> for Now {
    type Output = Now;
    fn add(self, d: Duration) -> Now {
        Now(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Now {
    type Output = Now;
    fn sub(self, d: Duration) -> Now {
        Now(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

//! Events per period, as HAProxy's `freq_ctr` counts them: two rotating periods and no timer. `now` is an argument.

use crate::base::time::Now;

/// Counts events over the last second (or another period) by weighing the previous period with the part of it that
/// still lies in the window.
#[derive(Clone, Debug)]
pub struct Rate {
    period_ms: u64,
    start: Now,
    current: u32,
    previous: u32,
}

impl Rate {
    /// Events per second.
    pub fn per_second() -> Self {
        Self::per_period_ms(1000)
    }

    /// Events per `period_ms` milliseconds; 0 counts as 1.
    pub fn per_period_ms(period_ms: u64) -> Self {
        Rate { period_ms: period_ms.max(1), start: Now(0), current: 0, previous: 0 }
    }

    /// Counts `events` at `now` and returns how many the current period has now.
    pub fn add(&mut self, now: Now, events: u32) -> u32 {
        let (previous, current, start) = self.at(now);
        self.previous = previous;
        self.current = current.saturating_add(events);
        self.start = start;
        self.current
    }

    /// Events over the last period, for people: a single event per period does not flap between 0 and 1.
    pub fn read(&self, now: Now) -> u32 {
        let (previous, current, start) = self.at(now);
        if current == 0 && previous <= 1 {
            return previous;
        }
        self.window(previous, current, now.ms_since(start))
    }

    /// How many more events fit under `limit` at `now` (`rate-limit sessions`, `maxconnrate`).
    pub fn remaining(&self, now: Now, limit: u32) -> u32 {
        let (previous, current, start) = self.at(now);
        limit.saturating_sub(self.window(previous, current, now.ms_since(start)))
    }

    /// Milliseconds from `now` until [`remaining`](Self::remaining) can be positive again; 0 if it is already.
    /// Never less than 1 when something has to be waited for, so that a timer set to it makes progress.
    pub fn wait_ms(&self, now: Now, limit: u32) -> u64 {
        if self.remaining(now, limit) > 0 {
            return 0;
        }
        let (_, current, start) = self.at(now);
        let age = now.ms_since(start);
        if limit == 0 || current >= limit {
            return (self.period_ms - age).max(1);
        }
        // The previous period leaves the window evenly: one event every period/previous.
        (self.period_ms / u64::from(self.previous.max(self.current)).max(1)).max(1)
    }

    /// Previous count, current count and start of the current period, as they are at `now`.
    fn at(&self, now: Now) -> (u32, u32, Now) {
        let age = now.ms_since(self.start);
        if age < self.period_ms {
            return (self.previous, self.current, self.start);
        }
        let period_ns = self.period_ms * 1_000_000;
        if age < 2 * self.period_ms {
            return (self.current, 0, Now(self.start.0 + period_ns));
        }
        (0, 0, now)
    }

    fn window(&self, previous: u32, current: u32, age_ms: u64) -> u32 {
        let left = u128::from(previous) * u128::from(self.period_ms.saturating_sub(age_ms));
        let sum = left / u128::from(self.period_ms) + u128::from(current);
        u32::try_from(sum).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(t: u64) -> Now {
        Now(1_000_000_000_000 + t * 1_000_000)
    }

    #[test]
    fn counts_over_the_last_second() {
        let mut rate = Rate::per_second();
        rate.add(ms(0), 100);
        assert_eq!(rate.read(ms(999)), 100);
        assert_eq!(rate.read(ms(1250)), 75, "a quarter of the previous period has left the window");
        rate.add(ms(1500), 10);
        assert_eq!(rate.read(ms(1500)), 60);
        assert_eq!(rate.read(ms(2000)), 10);
        assert_eq!(rate.read(ms(5000)), 0);
    }

    #[test]
    fn one_event_a_period_does_not_flap() {
        let mut rate = Rate::per_second();
        rate.add(ms(0), 1);
        for t in [0, 500, 999, 1000, 1500, 1999] {
            assert_eq!(rate.read(ms(t)), 1, "at {t} ms");
        }
        assert_eq!(rate.read(ms(2000)), 0);
    }

    #[test]
    fn a_limit_leaves_room_and_then_a_wait_that_ends() {
        let mut rate = Rate::per_second();
        assert_eq!(rate.remaining(ms(0), 3), 3);
        rate.add(ms(0), 3);
        assert_eq!(rate.remaining(ms(1), 3), 0);
        let mut t = 1;
        let mut turns = 0;
        while rate.remaining(ms(t), 3) == 0 {
            let wait = rate.wait_ms(ms(t), 3);
            assert!(wait > 0);
            t += wait;
            turns += 1;
            assert!(turns < 10, "the wait makes progress");
        }
        assert!(t > 1000 && t < 1700, "{t}");
        assert_eq!(rate.wait_ms(ms(t), 3), 0);
    }

    #[test]
    fn counts_saturate_and_time_that_goes_back_is_harmless() {
        let mut rate = Rate::per_second();
        rate.add(ms(10_000), u32::MAX);
        rate.add(ms(10_000), 5);
        assert_eq!(rate.read(ms(9_000)), u32::MAX);
        assert_eq!(rate.remaining(ms(9_000), 10), 0);
    }
}

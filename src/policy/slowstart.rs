//! `slowstart`: a server that came up regains its weight and its `maxconn` linearly. The control core asks at each step
//! and publishes the weight in `live`; balancers see only the weight.

use std::time::Duration;

use crate::base::time::Now;
use crate::policy::balance::WEIGHT_SCALE;

/// The way up of one server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlowStart {
    up_since: Now,
    duration: Duration,
}

impl SlowStart {
    /// Starts when the server comes up; a `duration` of zero is over at once.
    pub fn new(up_since: Now, duration: Duration) -> Self {
        SlowStart { up_since, duration }
    }

    /// Effective weight of a configured `weight` (0 to 256), in units of 1/[`WEIGHT_SCALE`]. Grows in [`WEIGHT_SCALE`]
    /// steps as in HAProxy, from the first step at once; a weight of 0 stays 0.
    pub fn weight(&self, weight: u32, now: Now) -> u32 {
        weight * self.step(now)
    }

    /// When [`weight`](Self::weight) changes next; `None` once it is whole.
    pub fn next_step(&self, now: Now) -> Option<Now> {
        let step = self.step(now);
        if step >= WEIGHT_SCALE {
            return None;
        }
        let nanos = (self.duration.as_nanos() * u128::from(step)).div_ceil(u128::from(WEIGHT_SCALE));
        Some(self.up_since + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Percent of the weight that is reached (`throttle` of `show stat`); `None` once it is whole.
    pub fn throttle_percent(&self, now: Now) -> Option<u32> {
        let step = self.step(now);
        (step < WEIGHT_SCALE).then(|| (100 * step).div_ceil(WEIGHT_SCALE))
    }

    /// `maxconn` while the server warms up: the part of it that the time has reached, at least 1.
    pub fn maxconn(&self, maxconn: u32, now: Now) -> u32 {
        let elapsed = now.since(self.up_since);
        if elapsed >= self.duration {
            return maxconn;
        }
        let part = u128::from(maxconn) * elapsed.as_nanos() / self.duration.as_nanos();
        u32::try_from(part).unwrap_or(maxconn).max(1)
    }

    /// 1 to [`WEIGHT_SCALE`].
    fn step(&self, now: Now) -> u32 {
        let elapsed = now.since(self.up_since);
        if elapsed >= self.duration {
            return WEIGHT_SCALE;
        }
        let whole = elapsed.as_nanos() * u128::from(WEIGHT_SCALE) / self.duration.as_nanos();
        u32::try_from(whole).map_or(WEIGHT_SCALE, |whole| whole + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn weight_grows_in_steps_from_the_start() {
        let up = Now(1_000_000_000_000);
        let slow = SlowStart::new(up, s(16));
        for (after, weight, throttle) in [
            (s(0), 10, Some(7)),
            (Duration::from_millis(999), 10, Some(7)),
            (s(1), 20, Some(13)),
            (s(8), 90, Some(57)),
            (Duration::from_millis(14_999), 150, Some(94)),
            (s(16), 160, None),
            (s(1000), 160, None),
        ] {
            assert_eq!(slow.weight(10, up + after), weight, "after {after:?}");
            assert_eq!(slow.throttle_percent(up + after), throttle, "after {after:?}");
        }
        assert_eq!(slow.weight(0, up), 0, "a drained server stays drained");
        assert_eq!(slow.weight(256, up + s(16)), 256 * WEIGHT_SCALE);
    }

    #[test]
    fn following_the_steps_reaches_the_whole_weight() {
        for duration in [s(1), s(7), Duration::from_nanos(3), s(86_400)] {
            let mut now = Now(5);
            let slow = SlowStart::new(now, duration);
            let mut weights = vec![slow.weight(1, now)];
            while let Some(next) = slow.next_step(now) {
                assert!(next > now, "time goes on");
                now = next;
                weights.push(slow.weight(1, now));
            }
            assert!(weights.windows(2).all(|w| w[0] < w[1]), "{weights:?}");
            assert_eq!(weights.last(), Some(&WEIGHT_SCALE));
        }
    }

    #[test]
    fn no_slowstart_is_whole_at_once() {
        let slow = SlowStart::new(Now(5), s(0));
        assert_eq!((slow.weight(3, Now(5)), slow.next_step(Now(5))), (48, None));
        assert_eq!(slow.maxconn(7, Now(5)), 7);
    }

    #[test]
    fn maxconn_grows_with_time_and_is_never_zero() {
        let up = Now(9);
        let slow = SlowStart::new(up, s(10));
        for (after, maxconn) in [(0, 1), (1, 10), (5, 50), (10, 100), (11, 100)] {
            assert_eq!(slow.maxconn(100, up + s(after)), maxconn);
        }
    }

    #[test]
    fn a_clock_that_goes_back_counts_as_the_start() {
        let slow = SlowStart::new(Now(1_000), s(10));
        assert_eq!(slow.weight(1, Now(0)), 1);
    }
}

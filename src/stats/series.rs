//! What is remembered about one object from second to second: rates, maxima of sums, averages, and whether anything happens. Pure;
//! the collector hands in what it read.

use crate::base::time::Now;
use crate::stats::history::FRAME_SECONDS_MAX;
use crate::stats::table::Stat;

/// Samples that HAProxy's time averages look back on.
const AVERAGE_WINDOW: u64 = 1024;

/// The durations with a moving average.
pub(super) const TIMES: [Stat; 4] = [Stat::QueueTime, Stat::ConnectTime, Stat::ResponseTime, Stat::TotalTime];

/// What is remembered about one object.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    pub(super) sessions: Rate,
    pub(super) connections: Rate,
    pub(super) requests: Rate,
    /// Highest sampled sum over cores.
    pub(super) sessions_max: u64,
    pub(super) queue_max: u64,
    times: [Average; TIMES.len()],
    pub(super) last_session: Option<Now>,
    /// What its cells came to at the last tick.
    fingerprint: u64,
    /// Ticks for which the history still has to hear of the last change.
    untold_ticks: u32,
    /// It had sessions, now or in the queue, at the last change.
    is_in_use: bool,
    /// Counters at the last `clear counters all`, by row; empty: never cleared.
    pub(super) baseline: Vec<u64>,
}

/// What the collector keeps of an object beside its cells, in bytes.
pub(crate) const SERIES_BYTES: usize = size_of::<Series>();

/// What was read of an object for one tick, over all cores; zero: it has no such row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    pub(super) sessions: u64,
    pub(super) connections: u64,
    pub(super) requests: u64,
    pub(super) sessions_now: u64,
    pub(super) queue_now: u64,
    /// Total in microseconds and number of samples, by the order of [`TIMES`].
    pub(super) times: [(u64, u64); TIMES.len()],
}

impl Series {
    /// Notes what the cells came to. False: they did not change since the last tick, and no rate has to come down to zero. Then the
    /// rest of the tick would change nothing; of thousands of servers most are so most of the time.
    pub(super) fn stirs(&mut self, fingerprint: u64) -> bool {
        let has_changed = fingerprint != self.fingerprint;
        self.fingerprint = fingerprint;
        self.untold_ticks = if has_changed { FRAME_SECONDS_MAX } else { self.untold_ticks.saturating_sub(1) };
        has_changed || [self.sessions, self.connections, self.requests].iter().any(|rate| rate.now != 0)
    }

    /// The tick of an object that [stirs](Self::stirs).
    pub(super) fn tick(&mut self, now: Now, elapsed_ns: u64, read: &Reading) {
        if read.sessions != self.sessions.last {
            self.last_session = Some(now);
        }
        self.sessions.tick(read.sessions, elapsed_ns);
        self.connections.tick(read.connections, elapsed_ns);
        self.requests.tick(read.requests, elapsed_ns);
        self.sessions_max = self.sessions_max.max(read.sessions_now);
        self.queue_max = self.queue_max.max(read.queue_now);
        self.is_in_use = read.sessions_now > 0 || read.queue_now > 0;
        for ((total_us, samples), average) in read.times.into_iter().zip(&mut self.times) {
            average.tick(total_us, samples);
        }
    }

    /// Whether a frame of the history that ends now has anything to say of it.
    pub(super) fn is_told(&self) -> bool {
        self.untold_ticks > 0 || self.is_in_use
    }

    /// Averages in milliseconds.
    pub(super) fn averages(&self) -> impl Iterator<Item = (Stat, u64)> {
        TIMES.into_iter().zip(&self.times).map(|(stat, average)| (stat, average.ms()))
    }

    /// Starts maxima again. The next tick samples levels even if nothing happens until then.
    pub(super) fn forget_maxima(&mut self) {
        (self.sessions_max, self.queue_max) = (0, 0);
        (self.sessions.max, self.connections.max, self.requests.max) = (0, 0, 0);
        self.fingerprint = !self.fingerprint;
    }
}

/// Events per second, from a counter that wraps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    last: u64,
    pub(super) now: u64,
    pub(super) max: u64,
}

impl Rate {
    pub(super) fn tick(&mut self, count: u64, elapsed_ns: u64) {
        let events = count.wrapping_sub(self.last);
        let per_second =
            (u128::from(events) * 1_000_000_000 + u128::from(elapsed_ns) / 2) / u128::from(elapsed_ns);
        self.last = count;
        self.now = u64::try_from(per_second).unwrap_or(u64::MAX);
        self.max = self.max.max(self.now);
    }
}

/// The mean of about the last [`AVERAGE_WINDOW`] samples.
#[derive(Clone, Copy, Debug, Default)]
struct Average {
    total_us: u64,
    samples: u64,
    mean_us: u64,
}

impl Average {
    fn tick(&mut self, total_us: u64, samples: u64) {
        let new = samples.wrapping_sub(self.samples);
        if new == 0 {
            return;
        }
        let window = samples.clamp(new, AVERAGE_WINDOW.max(new));
        let old_us = u128::from(self.mean_us) * u128::from(window - new);
        let mean_us = (old_us + u128::from(total_us.wrapping_sub(self.total_us))) / u128::from(window);
        self.mean_us = u64::try_from(mean_us).unwrap_or(u64::MAX);
        (self.total_us, self.samples) = (total_us, samples);
    }

    fn ms(&self) -> u64 {
        (self.mean_us + 500) / 1000
    }
}

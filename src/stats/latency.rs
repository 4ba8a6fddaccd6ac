//! Durations of all cores together: percentiles over the last ten seconds, minute and five minutes, and since the start. The
//! control core feeds it with [`Latency::take`], calls [`Latency::tick`] once a second, and asks [`Latency::histograms`].
//!
//! What arrived is kept as sorted lists of (server, step, bucket, count), one list a second, which are joined into lists of
//! ten and of thirty seconds. Servers and steps without traffic take no memory.

use crate::stats::timers::{BUCKETS, Batch, Count, Key, LAPS, bucket_start};

/// How far back percentiles look.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Window {
    /// The last 10 seconds; moves every second.
    TenSeconds,
    /// The last 60 to 70 seconds.
    #[default]
    Minute,
    /// The last 300 to 330 seconds.
    FiveMinutes,
    /// Since the start.
    Start,
}

impl Window {
    /// All of them and their words.
    pub const NAMED: [(&'static str, Window); 4] = [
        ("10s", Window::TenSeconds),
        ("1m", Window::Minute),
        ("5m", Window::FiveMinutes),
        ("start", Window::Start),
    ];

    /// The window of a word.
    pub fn of(word: &str) -> Option<Window> {
        Window::NAMED.iter().find(|(name, _)| *name == word).map(|(_, window)| *window)
    }
}

/// What is said of one step of a server, in microseconds. A percentile is right within 6 %, the highest value too.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Quantiles {
    /// How many durations there were; 0: the rest means nothing.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: u32,
    /// 90 % took no longer.
    pub p90: u32,
    /// 99 % took no longer.
    pub p99: u32,
    /// 99.9 % took no longer.
    pub p999: u32,
    /// None took longer.
    pub max: u32,
}

/// One [`Quantiles`] a step, by `Lap as usize`.
pub type Laps = [Quantiles; LAPS];

/// Durations in buckets, of one step.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    total: u64,
    /// Buckets outside of it are empty.
    used: std::ops::Range<usize>,
}

/// The used range of an empty histogram: its start shrinks and its end grows.
const NOTHING: std::ops::Range<usize> = std::ops::Range { start: BUCKETS, end: 0 };

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: Box::new([0; BUCKETS]), total: 0, used: NOTHING }
    }
}

impl Histogram {
    fn add(&mut self, bucket: usize, count: u64) {
        self.counts[bucket] += count;
        self.total += count;
        self.used = self.used.start.min(bucket)..self.used.end.max(bucket + 1);
    }

    fn clear(&mut self) {
        if self.total > 0 {
            self.counts[self.used.clone()].fill(0);
            (self.total, self.used) = (0, NOTHING);
        }
    }

    /// Buckets that hold something: the duration in microseconds that they stay below, and their count. In order.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let used = self.used.clone().filter(|bucket| self.counts[*bucket] > 0);
        used.map(|bucket| (bucket_start(bucket + 1), self.counts[bucket]))
    }

    /// How many durations it holds.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// What is said of it.
    pub fn quantiles(&self) -> Quantiles {
        if self.total == 0 {
            return Quantiles::default();
        }
        // The rank of each: the least number of values that makes up this part of all.
        let rank = |thousandths: u64| {
            u64::try_from((u128::from(self.total) * u128::from(thousandths)).div_ceil(1000))
                .unwrap_or(u64::MAX)
        };
        let ranks = [500, 900, 990, 999].map(rank);
        let mut values = [0; 4];
        let (mut at, mut before) = (0, 0);
        for bucket in self.used.clone() {
            let count = self.counts[bucket];
            while at < ranks.len() && ranks[at] <= before + count {
                values[at] = self.within(bucket, ranks[at] - before);
                at += 1;
            }
            before += count;
        }
        let [p50, p90, p99, p999] = values;
        Quantiles { count: self.total, p50, p90, p99, p999, max: micros(bucket_start(self.used.end) - 1) }
    }

    /// The value of a rank within its bucket, as if its values lay evenly.
    fn within(&self, bucket: usize, rank: u64) -> u32 {
        let (start, width) = (bucket_start(bucket), bucket_start(bucket + 1) - bucket_start(bucket));
        let part = u128::from(width - 1) * u128::from(rank) / u128::from(self.counts[bucket].max(1));
        micros(start + u64::try_from(part).unwrap_or(0))
    }
}

fn micros(us: u64) -> u32 {
    u32::try_from(us).unwrap_or(u32::MAX)
}

/// The histograms of one object, by `Lap as usize`.
pub type Histograms = [Histogram; LAPS];

/// Seconds that are kept one by one.
pub const SECONDS_KEPT: usize = 20;

/// Sorted by key; a key may come twice when its count does not fit.
type Slice = Vec<Count>;

/// Durations of all servers.
#[derive(Debug, Default)]
pub struct Latency {
    /// Since the last tick, unsorted.
    pending: Vec<Count>,
    /// The last seconds that are not joined yet and those of the last 10 seconds, oldest first.
    seconds: Vec<Slice>,
    /// Ten seconds each, those of the last minute.
    tens: Vec<Slice>,
    /// Thirty seconds each, those of the last five minutes.
    thirties: Vec<Slice>,
    /// Since the start, by key.
    start: Vec<(Key, u64)>,
    ticks: u64,
}

impl Latency {
    /// Takes over what a core counted.
    pub fn take(&mut self, batch: &mut Batch) {
        batch.drain(&mut self.pending);
    }

    /// Once a second.
    pub fn tick(&mut self) {
        self.ticks += 1;
        let mut pending = std::mem::take(&mut self.pending);
        let second = joined(&mut pending);
        pending.clear();
        self.pending = pending;
        add_to_start(&mut self.start, &second);
        push(&mut self.seconds, second, SECONDS_KEPT);
        if self.ticks.is_multiple_of(10) {
            let ten = join_last(&self.seconds, 10);
            push(&mut self.tens, ten, 9);
        }
        if self.ticks.is_multiple_of(30) {
            let thirty = join_last(&self.tens, 3);
            push(&mut self.thirties, thirty, 10);
        }
    }

    /// After a reload: forgets rows that are gone. `stays` says of a row whether it is there.
    pub fn retain(&mut self, stays: impl Fn(u32) -> bool) {
        self.pending.retain(|count| stays(count.key().row()));
        self.start.retain(|(key, _)| stays(key.row()));
        // What stays may grow a little without another allocation; the room of a backend that is gone is given back.
        self.start.shrink_to(self.start.len() + self.start.len() / 2);
        for slice in self.seconds.iter_mut().chain(&mut self.tens).chain(&mut self.thirties) {
            slice.retain(|count| stays(count.key().row()));
            slice.shrink_to_fit();
        }
    }

    /// How often [`Latency::tick`] was called: what windows hold changes only then.
    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        let slices = self.seconds.iter().chain(&self.tens).chain(&self.thirties);
        let counts = slices.map(Vec::capacity).sum::<usize>() + self.pending.capacity();
        counts * size_of::<Count>() + self.start.capacity() * size_of::<(Key, u64)>()
    }

    /// A reader of one window. It is fastest when rows are asked for in order.
    pub fn window(&self, window: Window) -> Reader<'_> {
        let since = |n: u64| usize::try_from(self.ticks % n).unwrap_or(0);
        let chosen = match window {
            Window::TenSeconds => [(&self.seconds, 10), (&self.tens, 0), (&self.thirties, 0)],
            Window::Minute => [(&self.seconds, since(10)), (&self.tens, 6), (&self.thirties, 0)],
            Window::FiveMinutes => {
                [(&self.seconds, since(10)), (&self.tens, since(30) / 10), (&self.thirties, 10)]
            }
            Window::Start => [(&self.seconds, 0), (&self.tens, 0), (&self.thirties, 0)],
        };
        let newest = |(slices, n): (&'_ Vec<Slice>, usize)| slices.len() - n.min(slices.len());
        let slices: Vec<&[Count]> =
            chosen.into_iter().flat_map(|c| c.0[newest(c)..].iter().map(Vec::as_slice)).collect();
        let cursors = vec![0; slices.len()];
        let start = if window == Window::Start { self.start.as_slice() } else { &[] };
        Reader { slices, cursors, start }
    }

    /// What the last ticks brought, at most [`SECONDS_KEPT`] of them.
    pub fn last_seconds(&self, seconds: usize) -> Reader<'_> {
        let first = self.seconds.len().saturating_sub(seconds);
        let slices: Vec<&[Count]> = self.seconds[first..].iter().map(Vec::as_slice).collect();
        Reader { cursors: vec![0; slices.len()], slices, start: &[] }
    }

    /// The seconds alone: what the last tick brought.
    pub fn last_second(&self) -> Reader<'_> {
        let slices: Vec<&[Count]> = self.seconds.last().map(Vec::as_slice).into_iter().collect();
        Reader { cursors: vec![0; slices.len()], slices, start: &[] }
    }

    /// Histograms of some rows together.
    pub fn histograms(&self, window: Window, rows: impl Iterator<Item = u32>) -> Histograms {
        let mut histograms = Histograms::default();
        let mut reader = self.window(window);
        for row in rows {
            reader.add(row, &mut [&mut histograms]);
        }
        histograms
    }
}

/// Reads one window of a [`Latency`].
#[derive(Debug)]
pub struct Reader<'a> {
    slices: Vec<&'a [Count]>,
    /// Where the last row ended in each slice.
    cursors: Vec<usize>,
    start: &'a [(Key, u64)],
}

impl Reader<'_> {
    /// Whether there is nothing of any row.
    pub fn is_empty(&self) -> bool {
        self.start.is_empty() && self.slices.iter().all(|slice| slice.is_empty())
    }

    /// Adds what is known of a row to histograms. True: there was something.
    pub fn add(&mut self, row: u32, to: &mut [&mut Histograms]) -> bool {
        let mut any = false;
        let mut put = |key: Key, count: u64| {
            let (lap, bucket) = key.place();
            any = true;
            for histograms in &mut *to {
                histograms[lap].add(bucket, count);
            }
        };
        let first = Key::first_of(row);
        for (slice, cursor) in self.slices.iter().zip(&mut self.cursors) {
            let is_next = *cursor == 0 || slice[*cursor - 1].key() < first;
            let is_here = slice.get(*cursor).is_none_or(|count| count.key() >= first);
            if !(is_next && is_here) {
                *cursor = slice.partition_point(|count| count.key() < first);
            }
            while let Some(count) = slice.get(*cursor)
                && count.key().row() == row
            {
                put(count.key(), count.count());
                *cursor += 1;
            }
        }
        let at = self.start.partition_point(|(key, _)| *key < first);
        for (key, count) in self.start[at..].iter().take_while(|(key, _)| key.row() == row) {
            put(*key, *count);
        }
        any
    }
}

/// What is said of the steps of one object, and the histograms empty again.
pub fn summed_up(histograms: &mut Histograms) -> Laps {
    histograms.each_mut().map(|histogram| {
        let quantiles = histogram.quantiles();
        histogram.clear();
        quantiles
    })
}

/// Sorted, with equal keys joined.
fn joined(counts: &mut [Count]) -> Slice {
    counts.sort_unstable();
    let mut slice: Slice = Vec::with_capacity(counts.len());
    for count in counts.iter() {
        match slice.last_mut() {
            Some(last) if last.key() == count.key() => {
                let sum = last.count() + count.count();
                *last = Count::new(count.key(), sum.min(Count::MAX));
                if sum > Count::MAX {
                    slice.push(Count::new(count.key(), sum - Count::MAX));
                }
            }
            _ => slice.push(*count),
        }
    }
    slice.shrink_to_fit();
    slice
}

fn join_last(slices: &[Slice], n: usize) -> Slice {
    joined(&mut slices[slices.len() - n.min(slices.len())..].concat())
}

fn push(slices: &mut Vec<Slice>, slice: Slice, max: usize) {
    if slices.len() == max {
        slices.remove(0);
    }
    slices.push(slice);
}

/// Adds a slice to the sums; keys that are new there are sorted in.
fn add_to_start(start: &mut Vec<(Key, u64)>, slice: &[Count]) {
    let (mut at, len) = (0, start.len());
    for count in slice {
        at += start[at..len].partition_point(|(key, _)| *key < count.key());
        if at < len && start[at].0 == count.key() {
            start[at].1 += count.count();
        } else {
            start.push((count.key(), count.count()));
        }
    }
    if start.len() > len {
        start.sort_unstable_by_key(|(key, _)| *key);
        start.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 += later.1;
            }
            same
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::timers::Lap;

    fn second(latency: &mut Latency, values: &[(u32, Lap, u32)]) {
        let mut batch = Batch::default();
        for (row, lap, us) in values {
            assert!(!batch.add(*row, *lap, *us));
        }
        latency.take(&mut batch);
        latency.tick();
    }

    fn of(latency: &Latency, window: Window, row: u32) -> Laps {
        summed_up(&mut latency.histograms(window, [row].into_iter()))
    }

    #[test]
    fn percentiles_are_right_within_six_percent() {
        let mut latency = Latency::default();
        let values: Vec<_> = (1..=10_000).map(|us| (3, Lap::Total, us)).collect();
        for part in values.chunks(1000) {
            second(&mut latency, part);
        }
        let quantiles = of(&latency, Window::Start, 3)[Lap::Total as usize];
        assert_eq!(quantiles.count, 10_000);
        let all = [quantiles.p50, quantiles.p90, quantiles.p99, quantiles.p999, quantiles.max];
        for (value, exact) in all.into_iter().zip([5000u32, 9000, 9900, 9990, 10_000]) {
            assert!(value.abs_diff(exact) * 100 <= exact * 6, "{value} for {exact}");
        }
        assert_eq!(of(&latency, Window::Start, 2), Laps::default());
    }

    #[test]
    fn small_values_are_exact() {
        let mut latency = Latency::default();
        second(&mut latency, &[(0, Lap::Queue, 0), (0, Lap::Queue, 0), (0, Lap::Queue, 17)]);
        let queue = of(&latency, Window::TenSeconds, 0)[Lap::Queue as usize];
        assert_eq!((queue.count, queue.p50, queue.p999, queue.max), (3, 0, 17, 17));
    }

    #[test]
    fn windows_forget() {
        let mut latency = Latency::default();
        let count = |latency: &Latency, window| of(latency, window, 9)[Lap::Connect as usize].count;
        for tick in 1..=400u64 {
            second(&mut latency, &[(9, Lap::Connect, 50)]);
            let ten = count(&latency, Window::TenSeconds);
            assert_eq!(ten, tick.min(10));
            let minute = count(&latency, Window::Minute);
            assert!((60..70).contains(&minute) || minute == tick, "{minute} at {tick}");
            let five = count(&latency, Window::FiveMinutes);
            assert!((300..330).contains(&five) || five == tick, "{five} at {tick}");
            assert_eq!(count(&latency, Window::Start), tick);
        }
        (0..330).for_each(|_| latency.tick());
        let all = Window::NAMED.map(|(_, window)| count(&latency, window));
        assert_eq!(all, [0, 0, 0, 400]);
    }

    #[test]
    fn rows_are_found_in_any_order_and_together() {
        let mut latency = Latency::default();
        let values: Vec<_> = (0..100).map(|row| (row, Lap::FirstByte, row)).collect();
        second(&mut latency, &values);
        second(&mut latency, &values[50..]);
        for window in [Window::TenSeconds, Window::Start] {
            let mut reader = latency.window(window);
            for row in [99, 0, 49, 50, 51, 98, 2, 200, 3] {
                let mut histograms = Histograms::default();
                let expected = if row < 50 { 1 } else { 2 } * u64::from(row < 100);
                assert_eq!(reader.add(row, &mut [&mut histograms]), expected > 0);
                assert_eq!(histograms[Lap::FirstByte as usize].count(), expected, "{row} {window:?}");
            }
            let together = latency.histograms(window, 0..100);
            assert_eq!(together[Lap::FirstByte as usize].count(), 150);
            assert!(together[Lap::FirstByte as usize].buckets().is_sorted());
        }
        let before = latency.bytes();
        latency.retain(|row| row == 60);
        assert!(latency.bytes() < before / 2, "{} of {before}", latency.bytes());
        assert_eq!(latency.histograms(Window::Start, 0..100)[Lap::FirstByte as usize].count(), 2);
    }

    #[test]
    fn counts_beyond_one_entry_are_kept() {
        let key = Key::new(1, Lap::Total, 5);
        let mut counts = vec![Count::new(key, Count::MAX); 3];
        let slice = joined(&mut counts);
        assert_eq!(slice.iter().map(|c| c.count()).sum::<u64>(), 3 * Count::MAX);
        let mut start = Vec::new();
        add_to_start(&mut start, &slice);
        add_to_start(&mut start, &slice);
        assert_eq!(start, [(key, 6 * Count::MAX)]);
    }
}

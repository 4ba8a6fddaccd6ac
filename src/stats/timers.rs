//! How data cores count durations: per server, phase and size in a small hash table of their own ([`Batch`]), which goes to
//! the control core about twice a second and comes back empty. A core's memory for it does not depend on how many servers
//! there are. [`super::latency`] keeps what arrives.
//!
//! Sizes are log-linear buckets: 16 to each power of two, so a value is known to 6 %, and exactly below 32 µs.

use crate::stats::COUNTED;

/// A step of a stream that is timed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Lap {
    /// Waiting for a slot of a server; 0 where one was free.
    Queue,
    /// Connecting to the server; idle connections that are used again do not count.
    Connect,
    /// The TLS handshake with the server.
    Tls,
    /// From the request sent to the head of the response; in TCP mode from the connection to the first byte.
    FirstByte,
    /// From there to the end of the response.
    Transfer,
    /// The whole: from the first byte of the request, in TCP mode from the accept, to the end.
    Total,
}

impl Lap {
    /// All of them, in the order of the columns.
    pub const ALL: [Lap; LAPS] =
        [Lap::Queue, Lap::Connect, Lap::Tls, Lap::FirstByte, Lap::Transfer, Lap::Total];

    /// Its word in columns and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Lap::Queue => "queue",
            Lap::Connect => "connect",
            Lap::Tls => "tls",
            Lap::FirstByte => "first_byte",
            Lap::Transfer => "transfer",
            Lap::Total => "total",
        }
    }
}

/// How many steps are timed.
pub const LAPS: usize = 6;

/// Buckets to each power of two.
const PARTS: u32 = 16;
const PART_BITS: u32 = PARTS.ilog2();

/// How many buckets there are; the last ones hold 71 minutes.
pub const BUCKETS: usize = ((32 - PART_BITS + 1) * PARTS) as usize;

/// The bucket of a duration in microseconds.
pub fn bucket(us: u32) -> usize {
    if us < PARTS {
        return us as usize;
    }
    let exponent = us.ilog2();
    let part = (us >> (exponent - PART_BITS)) & (PARTS - 1);
    ((exponent - PART_BITS + 1) * PARTS + part) as usize
}

/// The least duration of a bucket, in microseconds.
pub fn bucket_start(bucket: usize) -> u64 {
    let (group, part) = (bucket as u64 / u64::from(PARTS), bucket as u64 % u64::from(PARTS));
    if group == 0 { part } else { (u64::from(PARTS) + part) << (group - 1) }
}

/// Slots of a batch: 64 KiB, which stays in the second-level cache beside the connections.
const SLOTS: usize = 8192;
/// A batch is full before probing gets slow.
const SLOTS_USED_MAX: usize = SLOTS / 4 * 3;
/// Bits of an entry that hold the count; the rest is the key.
const COUNT_BITS: u32 = 24;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// What is counted: a server's row, a step, a bucket. 40 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key(u64);

impl Key {
    const BUCKET_BITS: u32 = 9;
    const LAP_BITS: u32 = 3;
    const LOW_BITS: u32 = Key::BUCKET_BITS + Key::LAP_BITS;

    /// From its parts.
    pub fn new(row: u32, lap: Lap, bucket: usize) -> Key {
        debug_assert!(bucket < BUCKETS && row < 1 << 28);
        let low = u64::from(lap as u8) << Key::BUCKET_BITS | bucket as u64;
        Key((u64::from(row) & ((1 << 28) - 1)) << Key::LOW_BITS | low)
    }
    /// The first key of a row.
    pub fn first_of(row: u32) -> Key {
        Key(u64::from(row) << Key::LOW_BITS)
    }
    /// The row.
    pub fn row(self) -> u32 {
        u32::try_from(self.0 >> Key::LOW_BITS).unwrap_or(u32::MAX)
    }
    /// The number of the step, and the bucket.
    pub fn place(self) -> (usize, usize) {
        let bucket = self.0 & ((1 << Key::BUCKET_BITS) - 1);
        let lap = self.0 >> Key::BUCKET_BITS & ((1 << Key::LAP_BITS) - 1);
        (usize::try_from(lap).unwrap_or(0), usize::try_from(bucket).unwrap_or(0))
    }
}

/// A key and how often it came, in one word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Count(u64);

impl Count {
    /// From key and count; what is beyond the room for it is the caller's to keep.
    pub(crate) fn new(key: Key, count: u64) -> Count {
        debug_assert!(count <= Count::MAX);
        Count(key.0 << COUNT_BITS | count.min(Count::MAX))
    }
    /// The highest count.
    pub(crate) const MAX: u64 = COUNT_MAX;
    /// What was counted.
    pub fn key(self) -> Key {
        Key(self.0 >> COUNT_BITS)
    }
    /// How often.
    pub fn count(self) -> u64 {
        self.0 & COUNT_MAX
    }
}

/// The durations that one core counted since it last handed them over.
///
/// ```
/// use shardgate::stats::timers::{Batch, Lap};
///
/// let mut batch = Batch::default();
/// for us in [100, 100, 2000] {
///     assert!(!batch.add(7, Lap::Connect, us));
/// }
/// let mut all = Vec::new();
/// batch.drain(&mut all);
/// assert_eq!(all.iter().map(|c| (c.key().row(), c.count())).collect::<Vec<_>>().len(), 2);
/// ```
#[derive(Debug)]
pub struct Batch {
    slots: Box<[u64]>,
    used: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Batch { slots: vec![0; SLOTS].into_boxed_slice(), used: 0 }
    }
}

impl Batch {
    /// Counts one duration. True: it is full and must be handed over before the next one.
    #[inline]
    pub fn add(&mut self, row: u32, lap: Lap, us: u32) -> bool {
        if !COUNTED {
            return false;
        }
        let key = Key::new(row, lap, bucket(us)).0;
        // Fibonacci hashing: the high bits of the product depend on all bits of the key.
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOTS.ilog2());
        let mut at = usize::try_from(hash).unwrap_or(0);
        loop {
            let slot = &mut self.slots[at & (SLOTS - 1)];
            if *slot == 0 {
                *slot = key << COUNT_BITS | 1;
                self.used += 1;
                return self.used >= SLOTS_USED_MAX;
            }
            if *slot >> COUNT_BITS == key {
                *slot += 1;
                return *slot & COUNT_MAX == COUNT_MAX;
            }
            at += 1;
        }
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Appends what was counted, in no order, and starts again.
    pub fn drain(&mut self, into: &mut Vec<Count>) {
        for slot in &mut self.slots {
            if *slot != 0 {
                into.push(Count(std::mem::take(slot)));
            }
        }
        self.used = 0;
    }
}

const _: () =
    assert!(SLOTS.is_power_of_two() && BUCKETS <= 1 << Key::BUCKET_BITS && LAPS <= 1 << Key::LAP_BITS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_leave_no_gap() {
        for us in (0..100_000).chain([1 << 20, (1 << 31) - 1, 1 << 31, u32::MAX]) {
            let bucket = bucket(us);
            let (start, next) = (bucket_start(bucket), bucket_start(bucket + 1));
            assert!(start <= u64::from(us) && u64::from(us) < next, "{us} in {bucket}: {start}..{next}");
            assert!((next - start) * u64::from(PARTS) <= start.max(u64::from(PARTS)), "{us}");
        }
        assert_eq!(bucket(u32::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_batch_counts_each_key_by_itself() {
        let mut batch = Batch::default();
        for round in 0..3 {
            for row in 0..100 {
                for lap in Lap::ALL {
                    assert!(!batch.add(row, lap, row * 1000), "{round}");
                }
            }
        }
        let mut all = Vec::new();
        batch.drain(&mut all);
        assert!(batch.is_empty());
        assert_eq!(all.len(), 600);
        for count in all {
            let (lap, place) = count.key().place();
            assert_eq!((count.count(), place), (3, bucket(count.key().row() * 1000)));
            assert!(lap < LAPS);
        }
    }

    #[test]
    fn a_full_batch_says_so_before_it_has_no_room() {
        let mut batch = Batch::default();
        let filled = (0..).position(|row| batch.add(row, Lap::Total, 1)).expect("it is full at some time");
        assert_eq!(filled + 1, SLOTS_USED_MAX);
        let mut all = Vec::new();
        batch.drain(&mut all);
        assert_eq!(all.len(), SLOTS_USED_MAX);
        assert!(!batch.add(0, Lap::Total, 1));
    }

    #[test]
    fn a_count_that_is_full_says_so() {
        let mut batch = Batch::default();
        let full = (0..COUNT_MAX).filter(|_| batch.add(1, Lap::Queue, 0)).count();
        assert_eq!(full, 1);
    }
}

//! Many overlapping intervals flattened to disjoint sorted ones, so that a look-up is one binary search over integers.

use std::collections::BTreeSet;

/// No entry owns this stretch.
pub(super) const NOBODY: u32 = u32::MAX;

/// An interval with both ends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval<T> {
    pub(super) low: T,
    pub(super) high: T,
    /// Where intervals overlap the one with the lower rank owns the stretch; then the lower entry.
    pub(super) rank: u32,
    pub(super) entry: u32,
}

/// Disjoint stretches: stretch `i` begins at `starts[i]` and ends before `starts[i + 1]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Flat<T> {
    starts: Vec<T>,
    owners: Vec<u32>,
}

/// Integers with a successor.
pub(super) trait Next: Copy + Ord {
    /// The next integer; `None` at the end.
    fn next(self) -> Option<Self>;
}

macro_rules! next {
    ($($t:ty)*) => {$(
        impl Next for $t {
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
        }
    )*};
}
next!(u32 u128 i64);

impl<T: Next> Flat<T> {
    /// Flattens. O(n log n).
    pub(super) fn build(intervals: &[Interval<T>]) -> Flat<T> {
        // Opening and closing points in order; the active intervals ordered by (rank, entry), the first one owns.
        let mut points: Vec<(T, bool, u32, u32)> = Vec::with_capacity(intervals.len() * 2);
        for i in intervals.iter().filter(|i| i.low <= i.high) {
            points.push((i.low, true, i.rank, i.entry));
            if let Some(end) = i.high.next() {
                points.push((end, false, i.rank, i.entry));
            }
        }
        points.sort_unstable();
        let mut active = BTreeSet::new();
        let mut flat = Flat { starts: Vec::new(), owners: Vec::new() };
        let mut at = 0;
        while at < points.len() {
            let start = points[at].0;
            while at < points.len() && points[at].0 == start {
                let (_, open, rank, entry) = points[at];
                if open {
                    active.insert((rank, entry));
                } else {
                    active.remove(&(rank, entry));
                }
                at += 1;
            }
            let owner = active.first().map_or(NOBODY, |(_, entry)| *entry);
            if flat.owners.last().copied().unwrap_or(NOBODY) != owner {
                flat.starts.push(start);
                flat.owners.push(owner);
            }
        }
        flat
    }

    /// The entry that owns a point.
    pub(super) fn find(&self, point: T) -> Option<usize> {
        self.find_within(point, 0, self.starts.len())
    }

    /// As [`find`](Self::find), when it is known that `starts[first..last]` holds the answer's right neighbour.
    pub(super) fn find_within(&self, point: T, first: usize, last: usize) -> Option<usize> {
        let after = first + self.starts[first..last].partition_point(|s| *s <= point);
        let owner = *self.owners.get(after.checked_sub(1)?)?;
        (owner != NOBODY).then_some(owner as usize)
    }

    /// Where the stretches begin.
    pub(super) fn starts(&self) -> &[T] {
        &self.starts
    }
}

//! The numbers of one object that come from counting, by the columns of the table: which of them there are, and how they are made
//! of the cells of all cores. Pure; [`super::collector`] adds what only time tells.

use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::base::time::Now;
use crate::stats::history::{self, PastRow};
use crate::stats::table::{Object, Row, Stat, Store, TABLE, cell_count, cell_index};

/// All numbers of one object that come from counting.
#[derive(Clone, Debug)]
pub struct Sums {
    pub(super) object: Object,
    pub(super) rows: Box<[u64]>,
    /// When the last session was assigned, as seen by the once-a-second tick.
    pub last_session: Option<Now>,
    /// They are of a former time: only what the history keeps has a value.
    pub is_past: bool,
}

impl Sums {
    /// Room for those of an object of any kind.
    pub(crate) fn nothing() -> Sums {
        let rows = vec![0; TABLE.len()].into_boxed_slice();
        Sums { object: Object::Frontend, rows, last_session: None, is_past: false }
    }

    /// The value of a row that is counted or derived from counts; `None`: the row is a fact, or no row of this object.
    pub fn get(&self, stat: Stat) -> Option<u64> {
        let is_there = match self.is_past {
            true => is_kept(stat) && stat.row().objects.contains(self.object),
            false => has_sum(self.object, stat),
        };
        is_there.then(|| self.rows[stat as usize])
    }

    /// The values of all rows, by column; those without a sum mean nothing.
    pub(super) fn rows(&self) -> &[u64] {
        &self.rows
    }

    /// Puts what was then in place of what is now.
    pub(super) fn go_back(&mut self, then: &PastRow, frame_seconds: u64, baseline: &[u64]) {
        for (stat, counter) in history::COUNTERS.into_iter().zip(then.counters) {
            // After a `clear counters` there was less before it than what it took away.
            let cleared = baseline.get(stat as usize).copied().unwrap_or(0);
            self.rows[stat as usize] = counter.saturating_sub(cleared);
        }
        for (stat, value) in history::LEVELS.into_iter().zip(&then.frame[history::COUNTERS.len()..]) {
            self.rows[stat as usize] = *value;
        }
        let rate = |stat: Stat| history::position(stat).map_or(0, |at| then.frame[at] / frame_seconds.max(1));
        self.rows[Stat::Rate as usize] = rate(Stat::SessionsTotal);
        self.rows[Stat::RequestRate as usize] = rate(Stat::Requests);
        self.rows[Stat::ConnectionRate as usize] = rate(Stat::Connections);
        self.is_past = true;
    }
}

/// Rows that [`Sums::go_back`] fills in.
fn is_kept(stat: Stat) -> bool {
    history::position(stat).is_some() || matches!(stat, Stat::Rate | Stat::RequestRate | Stat::ConnectionRate)
}

/// Whether such objects have a sum in this row.
pub(super) fn has_sum(object: Object, stat: Stat) -> bool {
    static HAS: [[bool; TABLE.len()]; 4] = {
        let mut all = [[false; TABLE.len()]; 4];
        let mut o = 0;
        while o < all.len() {
            let mut i = 0;
            while i < TABLE.len() {
                all[o][i] = TABLE[i].objects.contains(Object::ALL[o]) && is_counted(&TABLE[i]);
                i += 1;
            }
            o += 1;
        }
        all
    };
    HAS[object as usize][stat as usize]
}

/// Rows that are summed up.
const fn is_counted(row: &Row) -> bool {
    use Stat as S;
    !matches!(row.store, Store::Derived)
        || matches!(
            row.stat,
            S::Rate
                | S::RateMax
                | S::RequestRate
                | S::RequestRateMax
                | S::ConnectionRate
                | S::ConnectionRateMax
                | S::UsedConnections
        )
}

/// All stored rows of an object from its cells on each core, levels clamped; rows without cell are 0.
pub(super) fn fill<'a>(
    object: Object,
    cores: impl Iterator<Item = &'a [AtomicU64]> + Clone,
    rows: &mut [u64],
) {
    let stored = &STORED[object as usize];
    // First cell by cell in the order of memory; maxima are not meant to be added, and are seen to below.
    let mut sums = [0_u64; CELLS_MAX];
    for block in cores.clone() {
        for (sum, cell) in sums.iter_mut().zip(block) {
            *sum = sum.wrapping_add(cell.load(Relaxed));
        }
    }
    rows.fill(0);
    for (stat, cell) in &stored.sums {
        rows[*stat as usize] = sums[*cell];
    }
    for (stat, cell) in &stored.maxima {
        let all = cores.clone().map(|block| block[*cell].load(Relaxed));
        rows[*stat as usize] = all.max().unwrap_or(0);
    }
    for stat in &stored.levels {
        let sum = &mut rows[*stat as usize];
        *sum = level(*sum);
    }
}

/// Room for the cells of an object of any kind.
const CELLS_MAX: usize = 128;
const _: () = {
    let mut o = 0;
    while o < Object::ALL.len() {
        assert!(cell_count(Object::ALL[o]) < CELLS_MAX);
        o += 1;
    }
};

/// The rows that a kind of object stores, with their cells. Most rows of the table are stored by some kinds alone, or by none.
struct Stored {
    /// Counters and levels.
    sums: Vec<(Stat, usize)>,
    maxima: Vec<(Stat, usize)>,
    levels: Vec<Stat>,
}

static STORED: LazyLock<[Stored; 4]> = LazyLock::new(|| {
    Object::ALL.map(|object| {
        let stored = |is: fn(Store) -> bool| {
            TABLE.iter().filter(move |row| row.objects.contains(object) && is(row.store)).map(|row| row.stat)
        };
        let cells = |is| stored(is).map(|stat| (stat, cell_index(object, stat))).collect();
        Stored {
            sums: cells(|store| !matches!(store, Store::Derived | Store::Max)),
            maxima: cells(|store| store == Store::Max),
            levels: stored(|store| store == Store::Level).collect(),
        }
    })
});

/// A sum of levels. It can be negative for a moment, when one core's part was read before and the other's after a
/// hand-over.
pub(super) fn level(sum: u64) -> u64 {
    u64::try_from(sum.cast_signed()).unwrap_or(0)
}

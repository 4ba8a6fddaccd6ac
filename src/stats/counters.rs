//! The cells that data cores count in. Each cell has one writer, its core, which loads, adds and stores with relaxed
//! order: no locked instruction, no shared cache line. The control core reads them at any time ([`super::collector`]).
//!
//! A [`Shard`] is everything one core counts in. Cells are `Arc`s so that a reload keeps those of objects that stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam::utils::CachePadded;

use crate::base::id::{BackendId, FrontendId, Id, IdVec, ListenerId, ServerId};
use crate::base::time::Now;
use crate::stats::COUNTED;
use crate::stats::process::{CORE_CELLS, CoreStat};
use crate::stats::table::{Object, Stat, Store, cell_count, cell_index};

/// A kind of object: which rows of the table it stores, and under which id.
pub trait Kind: Sized + 'static {
    /// The kind as a value.
    const OBJECT: Object;
    /// The id of such objects.
    type Id: Id + 'static;
    /// An array of all cells, and a spare one that nobody reads.
    type Block: AsRef<[AtomicU64]>;
    /// A block of zeros.
    fn zeroed() -> Self::Block;
    /// The table of such objects in a shard.
    fn of(shard: &Shard) -> &IdVec<Self::Id, Arc<Cells<Self>>>;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $cells:ident $id:ident $field:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $kind;

        #[doc = concat!("The cells of one ", stringify!($kind), " on one core.")]
        pub type $cells = Cells<$kind>;

        impl Kind for $kind {
            const OBJECT: Object = Object::$kind;
            type Id = $id;
            type Block = [AtomicU64; cell_count(Object::$kind) + 1];
            fn zeroed() -> Self::Block {
                [const { AtomicU64::new(0) }; cell_count(Object::$kind) + 1]
            }
            fn of(shard: &Shard) -> &IdVec<$id, Arc<Cells<Self>>> {
                &shard.$field
            }
        }
    )*};
}

kinds! {
    /// Frontends.
    Frontend FrontendCells FrontendId frontends;
    /// Backends.
    Backend BackendCells BackendId backends;
    /// Servers.
    Server ServerCells ServerId servers;
    /// Binds.
    Listener ListenerCells ListenerId listeners;
}

/// The cells of one object on one core. Only that core calls the writing methods.
///
/// ```
/// use shardgate::stats::counters::FrontendCells;
/// use shardgate::stats::table::Stat;
///
/// let cells = FrontendCells::default();
/// cells.enter(Stat::SessionsCur);
/// cells.add(Stat::BytesIn, 1500);
/// cells.leave(Stat::SessionsCur);
/// assert_eq!((cells.get(Stat::BytesIn), cells.get(Stat::SessionsCur), cells.get(Stat::SessionsMax)), (1500, 0, 1));
/// ```
pub struct Cells<K: Kind> {
    block: CachePadded<K::Block>,
    row: u32,
}

impl<K: Kind> Cells<K> {
    fn new(row: u32) -> Self {
        Cells { block: CachePadded::new(K::zeroed()), row }
    }

    /// What names the object in histograms and in the history: the same on all cores and for as long as the object stays
    /// over reloads; never given to another object of its kind.
    #[inline]
    pub fn row(&self) -> u32 {
        self.row
    }

    #[inline]
    fn cell(&self, stat: Stat) -> &AtomicU64 {
        debug_assert!(has_cell(K::OBJECT, stat), "{stat:?} has no cell in a {:?}", K::OBJECT);
        &self.block.as_ref()[cell_index(K::OBJECT, stat)]
    }

    /// Adds to a counter.
    #[inline]
    pub fn add(&self, stat: Stat, n: u64) {
        debug_assert!(matches!(stat.row().store, Store::Count), "{stat:?} is not a counter");
        if !COUNTED {
            return;
        }
        let cell = self.cell(stat);
        cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds one to a counter.
    #[inline]
    pub fn count(&self, stat: Stat) {
        self.add(stat, 1);
    }

    /// Raises a level by one, and its maximum when this is the highest value on this core.
    #[inline]
    pub fn enter(&self, stat: Stat) {
        debug_assert!(matches!(stat.row().store, Store::Level), "{stat:?} is not a level");
        if !COUNTED {
            return;
        }
        let cell = self.cell(stat);
        let now = cell.load(Relaxed).wrapping_add(1);
        cell.store(now, Relaxed);
        // The level may be negative here when sessions were handed over: then it is no maximum.
        if let Some(max) = stat.max()
            && now.cast_signed() > 0
        {
            self.raise(max, now);
        }
    }

    /// Lowers a level by one. A session that another core entered makes it negative here; the sum over cores is right.
    #[inline]
    pub fn leave(&self, stat: Stat) {
        debug_assert!(matches!(stat.row().store, Store::Level), "{stat:?} is not a level");
        if !COUNTED {
            return;
        }
        let cell = self.cell(stat);
        cell.store(cell.load(Relaxed).wrapping_sub(1), Relaxed);
    }

    /// Records a duration in microseconds: the sum behind the average, and the maximum in milliseconds.
    #[inline]
    pub fn time(&self, stat: Stat, us: u64) {
        debug_assert!(matches!(stat.row().store, Store::TimeTotal), "{stat:?} is not a duration");
        if !COUNTED {
            return;
        }
        let cell = self.cell(stat);
        cell.store(cell.load(Relaxed).wrapping_add(us), Relaxed);
        let samples = self.samples_cell(stat);
        samples.store(samples.load(Relaxed).wrapping_add(1), Relaxed);
        if let Some(max) = stat.max() {
            self.raise(max, us / 1000);
        }
    }

    /// The number of samples stands behind their total.
    #[inline]
    fn samples_cell(&self, stat: Stat) -> &AtomicU64 {
        &self.block.as_ref()[cell_index(K::OBJECT, stat) + 1]
    }

    /// How many samples of a duration were recorded on this core.
    pub fn samples(&self, stat: Stat) -> u64 {
        debug_assert!(matches!(stat.row().store, Store::TimeTotal), "{stat:?} is not a duration");
        self.samples_cell(stat).load(Relaxed)
    }

    #[inline]
    fn raise(&self, max: Stat, value: u64) {
        let cell = self.cell(max);
        if cell.load(Relaxed) < value {
            cell.store(value, Relaxed);
        }
    }

    /// The value on this core; a level is two's complement. Any core may read.
    #[inline]
    pub fn get(&self, stat: Stat) -> u64 {
        self.cell(stat).load(Relaxed)
    }

    /// All cells, by [`cell_index`]: for who reads most of them at once.
    #[inline]
    pub(super) fn block(&self) -> &[AtomicU64] {
        self.block.as_ref()
    }

    /// One number for all cells: another one when cells have changed, unless the changes cancel each other out to the last of 64
    /// bits. 0: nothing was counted.
    pub(super) fn fingerprint(&self) -> u64 {
        weighed(self.block())
    }

    /// Forgets a maximum. The one write that comes from the control core (`clear counters`): if the owner stores a new
    /// maximum at the same time, either order leaves a value that was true after the clear began.
    pub(crate) fn clear_max(&self, stat: Stat) {
        debug_assert!(matches!(stat.row().store, Store::Max), "{stat:?} is not a maximum");
        self.cell(stat).store(0, Relaxed);
    }
}

/// The code of all kinds of objects in one place: it runs on a core that slept, which has none of it in its caches.
#[inline(never)]
fn weighed(cells: &[AtomicU64]) -> u64 {
    let weighed = cells.iter().zip(&WEIGHTS).map(|(cell, weight)| cell.load(Relaxed).wrapping_mul(*weight));
    weighed.fold(0, u64::wrapping_add)
}

/// What cells weigh in a fingerprint: odd numbers without a pattern, so that no sum of small multiples of some is zero.
static WEIGHTS: [u64; WEIGHTS_LEN] = {
    let (mut weights, mut state, mut i) = ([0; WEIGHTS_LEN], 0u64, 0);
    while i < weights.len() {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        weights[i] = (z ^ z >> 31) | 1;
        i += 1;
    }
    weights
};
const WEIGHTS_LEN: usize = 128;
const _: () = {
    let mut o = 0;
    while o < Object::ALL.len() {
        assert!(cell_count(Object::ALL[o]) < WEIGHTS_LEN, "every cell has a weight");
        o += 1;
    }
};

/// Whether an object of this kind stores the row.
fn has_cell(object: Object, stat: Stat) -> bool {
    /// Counted once: this is asked at each access in debug builds.
    static COUNTS: [usize; 4] = [
        cell_count(Object::ALL[0]),
        cell_count(Object::ALL[1]),
        cell_count(Object::ALL[2]),
        cell_count(Object::ALL[3]),
    ];
    cell_index(object, stat) < COUNTS[object as usize]
}

impl<K: Kind> Default for Cells<K> {
    fn default() -> Self {
        Cells::new(0)
    }
}

impl<K: Kind> std::fmt::Debug for Cells<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}Cells", K::OBJECT)
    }
}

/// The cells of one core that belong to no object: its own work and the process-wide totals.
#[derive(Debug)]
pub struct CoreCells {
    block: CachePadded<[AtomicU64; CORE_CELLS]>,
    /// Refused messages by the number of their reason.
    refusals: Box<[AtomicU64; REFUSAL_CELLS]>,
}

/// Reasons for which messages are refused that cells can count.
pub const REFUSAL_CELLS: usize = 192;

impl CoreCells {
    /// Adds to a counter.
    #[inline]
    pub fn add(&self, stat: CoreStat, n: u64) {
        if !COUNTED {
            return;
        }
        self.change(stat, n);
    }
    #[inline]
    fn change(&self, stat: CoreStat, n: u64) {
        let cell = &self.block[stat as usize];
        cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
    }
    /// Adds one to a counter.
    #[inline]
    pub fn count(&self, stat: CoreStat) {
        self.add(stat, 1);
    }
    /// Raises a level by one.
    #[inline]
    pub fn enter(&self, stat: CoreStat) {
        self.change(stat, 1);
    }
    /// Lowers a level by one.
    #[inline]
    pub fn leave(&self, stat: CoreStat) {
        self.change(stat, u64::MAX);
    }
    /// Replaces a level that its owner knows as a whole (buffers in use).
    #[inline]
    pub fn set(&self, stat: CoreStat, value: u64) {
        self.block[stat as usize].store(value, Relaxed);
    }
    /// Counts a refused message by the number of its reason, below [`REFUSAL_CELLS`]; what a number means is the data plane's.
    pub fn refuse(&self, reason: usize) {
        if let Some(cell) = self.refusals.get(reason) {
            cell.store(cell.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }
    /// How many messages this core refused for a reason.
    pub fn refused(&self, reason: usize) -> u64 {
        self.refusals.get(reason).map_or(0, |cell| cell.load(Relaxed))
    }
    /// The value on this core; a level is two's complement. Any core may read.
    #[inline]
    pub fn get(&self, stat: CoreStat) -> u64 {
        self.block[stat as usize].load(Relaxed)
    }
}

impl Default for CoreCells {
    fn default() -> Self {
        CoreCells {
            block: CachePadded::new([const { AtomicU64::new(0) }; CORE_CELLS]),
            refusals: Box::new([const { AtomicU64::new(0) }; REFUSAL_CELLS]),
        }
    }
}

/// What one core counts of a rule. One writer.
#[derive(Debug, Default)]
pub struct RuleCells {
    hits: AtomicU64,
    last: AtomicU64,
}

impl RuleCells {
    /// The rule applied.
    pub fn hit(&self, now: Now) {
        if !COUNTED {
            return;
        }
        self.hits.store(self.hits.load(Relaxed).wrapping_add(1), Relaxed);
        self.last.store(now.0, Relaxed);
    }

    /// How often it applied, and when for the last time; that means nothing while it never did.
    pub fn get(&self) -> (u64, Now) {
        (self.hits.load(Relaxed), Now(self.last.load(Relaxed)))
    }
}

/// Everything one core counts in, indexed by the ids of one model.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    /// The core itself.
    pub core: Arc<CoreCells>,
    /// Frontends.
    pub frontends: IdVec<FrontendId, Arc<FrontendCells>>,
    /// Backends.
    pub backends: IdVec<BackendId, Arc<BackendCells>>,
    /// Servers.
    pub servers: IdVec<ServerId, Arc<ServerCells>>,
    /// Binds.
    pub listeners: IdVec<ListenerId, Arc<ListenerCells>>,
    /// Rules, by their numbers.
    pub rules: Vec<Arc<RuleCells>>,
    /// The row of the next new object, by `Object as usize`.
    next_rows: [u32; 4],
}

/// For each object of a model the id it had in the model before, if it was there: what a reload keeps. At the first start
/// all are `None`.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// Frontends.
    pub frontends: IdVec<FrontendId, Option<FrontendId>>,
    /// Backends.
    pub backends: IdVec<BackendId, Option<BackendId>>,
    /// Servers.
    pub servers: IdVec<ServerId, Option<ServerId>>,
    /// Binds.
    pub listeners: IdVec<ListenerId, Option<ListenerId>>,
    /// Rules, by their numbers.
    pub rules: Vec<Option<u32>>,
}

/// How many objects of each kind a model has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sizes {
    /// Frontends.
    pub frontends: usize,
    /// Backends.
    pub backends: usize,
    /// Servers.
    pub servers: usize,
    /// Binds.
    pub listeners: usize,
    /// Rules.
    pub rules: usize,
}

impl Origins {
    /// The origins of a first model: nothing was there before.
    pub fn none(sizes: Sizes) -> Origins {
        fn nothing<I: Id>(len: usize) -> IdVec<I, Option<I>> {
            (0..len).map(|_| None).collect()
        }
        Origins {
            frontends: nothing(sizes.frontends),
            backends: nothing(sizes.backends),
            servers: nothing(sizes.servers),
            listeners: nothing(sizes.listeners),
            rules: vec![None; sizes.rules],
        }
    }
}

impl Shard {
    /// The shard of the next model: the same cells where the object stays, new ones for the rest. Start with
    /// `Shard::default().next(&Origins::none(..))`.
    pub fn next(&self, origins: &Origins) -> Shard {
        let mut next_rows = self.next_rows;
        Shard {
            core: Arc::clone(&self.core),
            frontends: keep_cells(&self.frontends, &origins.frontends, &mut next_rows),
            backends: keep_cells(&self.backends, &origins.backends, &mut next_rows),
            servers: keep_cells(&self.servers, &origins.servers, &mut next_rows),
            listeners: keep_cells(&self.listeners, &origins.listeners, &mut next_rows),
            rules: origins
                .rules
                .iter()
                .map(|origin| origin.and_then(|id| self.rules.get(id as usize)).cloned().unwrap_or_default())
                .collect(),
            next_rows,
        }
    }
}

/// The cells of a new table: those of the origin where there is one, else new ones. All cores go through the same models, so
/// that an object has the same row on each.
fn keep_cells<K: Kind>(
    old: &IdVec<K::Id, Arc<Cells<K>>>,
    origins: &IdVec<K::Id, Option<K::Id>>,
    next_rows: &mut [u32; 4],
) -> IdVec<K::Id, Arc<Cells<K>>> {
    let next = &mut next_rows[K::OBJECT as usize];
    let mut fresh = || {
        *next += 1;
        Arc::new(Cells::new(*next - 1))
    };
    origins
        .values()
        .map(|origin| origin.and_then(|id| old.get(id)).cloned().unwrap_or_else(&mut fresh))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::table::TABLE;

    #[test]
    fn every_stored_row_has_its_own_cell_in_every_object_that_has_it() {
        for object in Object::ALL {
            let mut used = vec![false; cell_count(object)];
            for row in TABLE {
                if row.objects.contains(object) && row.store != Store::Derived {
                    let width = if row.store == Store::TimeTotal { 2 } else { 1 };
                    for cell in &mut used[cell_index(object, row.stat)..][..width] {
                        assert!(!std::mem::replace(cell, true), "{:?} shares a cell in {object:?}", row.stat);
                    }
                } else {
                    assert_eq!(cell_index(object, row.stat), cell_count(object), "{:?} {object:?}", row.stat);
                }
            }
            assert!(used.iter().all(|u| *u));
        }
    }

    #[test]
    fn the_busiest_cells_share_the_first_cache_line() {
        for object in Object::ALL {
            for stat in [Stat::SessionsCur, Stat::SessionsTotal, Stat::BytesIn, Stat::BytesOut] {
                assert!(cell_index(object, stat) < 8, "{stat:?} {object:?}");
            }
        }
    }

    #[test]
    fn a_level_of_a_handed_over_session_wraps_and_is_no_maximum() {
        let (here, there) = (ServerCells::default(), ServerCells::default());
        here.enter(Stat::SessionsCur);
        there.leave(Stat::SessionsCur);
        assert_eq!(here.get(Stat::SessionsCur).wrapping_add(there.get(Stat::SessionsCur)), 0);
        there.enter(Stat::SessionsCur);
        assert_eq!(there.get(Stat::SessionsMax), 0);
    }

    #[test]
    fn a_duration_is_summed_in_microseconds_and_its_maximum_kept_in_milliseconds() {
        let cells = BackendCells::default();
        cells.time(Stat::ConnectTime, 2_500);
        cells.time(Stat::ConnectTime, 900);
        assert_eq!((cells.get(Stat::ConnectTime), cells.samples(Stat::ConnectTime)), (3_400, 2));
        assert_eq!(cells.get(Stat::ConnectTimeMax), 2);
    }

    #[test]
    fn a_reload_keeps_the_cells_of_what_stays() {
        let first =
            Shard::default().next(&Origins::none(Sizes { frontends: 2, servers: 1, ..Sizes::default() }));
        first.frontends[FrontendId(1)].count(Stat::SessionsTotal);
        first.core.count(CoreStat::Turns);
        let mut origins = Origins::none(Sizes { frontends: 2, ..Sizes::default() });
        origins.frontends[FrontendId(0)] = Some(FrontendId(1));
        let second = first.next(&origins);
        first.frontends[FrontendId(1)].count(Stat::SessionsTotal);
        assert_eq!(second.frontends[FrontendId(0)].get(Stat::SessionsTotal), 2);
        assert_eq!(second.frontends[FrontendId(1)].get(Stat::SessionsTotal), 0);
        assert_eq!((second.servers.len(), second.core.get(CoreStat::Turns)), (0, 1));
        let rows = |shard: &Shard| shard.frontends.values().map(|cells| cells.row()).collect::<Vec<_>>();
        assert_eq!((rows(&first), rows(&second)), (vec![0, 1], vec![1, 2]));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "has no cell")]
    fn counting_what_an_object_does_not_have_is_found_in_debug_builds() {
        ServerCells::default().count(Stat::RequestsDenied);
    }
}

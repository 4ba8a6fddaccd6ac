//! What the main counters did during the last day: one frame a second for ten minutes, one every ten seconds for two hours,
//! one a minute for 24 hours. The control core calls [`History::tick`] once a second; `show stat at`, graphs and
//! `shardgate top` read it.
//!
//! A frame holds the objects that counted something, packed; an object without traffic takes no room. All frames together
//! stay below `HISTORY_BYTES_MAX`: beyond it the oldest frames of the level that takes most are forgotten first.

use std::collections::VecDeque;
use std::time::Duration;

use ahash::AHashMap;

use crate::base::limits::HISTORY_BYTES_MAX;
use crate::base::time::Now;
use crate::stats::table::{Object, Stat};

/// Counters that are kept; a frame has what they grew by.
pub const COUNTERS: [Stat; 16] = [
    Stat::SessionsTotal,
    Stat::Connections,
    Stat::Requests,
    Stat::BytesIn,
    Stat::BytesOut,
    Stat::Responses2xx,
    Stat::Responses3xx,
    Stat::Responses4xx,
    Stat::Responses5xx,
    Stat::RequestErrors,
    Stat::RequestsDenied,
    Stat::ConnectErrors,
    Stat::ResponseErrors,
    Stat::Retries,
    Stat::Redispatches,
    Stat::LoadBalanced,
];

/// Values that are kept as they were at the end of a frame; the percentiles are those of its time.
pub const LEVELS: [Stat; 4] = [Stat::SessionsCur, Stat::QueueCur, Stat::TotalP50, Stat::TotalP99];

/// Values of one object: counters, then levels.
pub type Values = [u64; COUNTERS.len() + LEVELS.len()];

/// Where a column is in [`Values`], if it is kept.
pub fn position(stat: Stat) -> Option<usize> {
    let counter = COUNTERS.iter().position(|s| *s == stat);
    counter.or_else(|| LEVELS.iter().position(|s| *s == stat).map(|at| COUNTERS.len() + at))
}

/// An object: its kind and its row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectKey(u64);

impl ObjectKey {
    /// From kind and row (`Cells::row`).
    pub fn new(object: Object, row: u32) -> ObjectKey {
        ObjectKey(u64::from(row) << 2 | object as u64)
    }
}

/// Seconds of a frame, and how many frames there are, from fine to coarse. Each is a multiple of the one before.
const PLAN: [(u64, usize); 3] = [(1, 600), (10, 720), (60, 1440)];

/// Seconds of the longest frame: for so long a change has to be told.
pub(super) const FRAME_SECONDS_MAX: u32 = 60;
const _: () = assert!(PLAN[PLAN.len() - 1].0 == FRAME_SECONDS_MAX as u64);

/// The last day.
#[derive(Debug, Default)]
pub struct History {
    levels: [Level; PLAN.len()],
    ticks: u64,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Level {
    /// Oldest first.
    frames: VecDeque<Frame>,
    /// Counters at the end of the last frame.
    last: AHashMap<ObjectKey, [u64; COUNTERS.len()]>,
}

#[derive(Debug)]
struct Frame {
    /// The tick that ended it.
    tick: u64,
    at: Now,
    seconds: u64,
    data: Box<[u8]>,
}

/// One object as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PastRow {
    /// The counters, since the start of the process.
    pub counters: [u64; COUNTERS.len()],
    /// What the frame holds: growth of counters, then levels.
    pub frame: Values,
}

/// All objects as they were at the end of a frame.
#[derive(Clone, Debug)]
pub struct Past {
    /// When.
    pub at: Now,
    /// The length of the frame that holds it.
    pub seconds: u64,
    rows: AHashMap<ObjectKey, PastRow>,
}

impl Past {
    /// One object; all zero if it was not there.
    pub fn row(&self, key: ObjectKey) -> PastRow {
        self.rows.get(&key).copied().unwrap_or_default()
    }
}

/// Two lines of one object, oldest first: growth a second, and the highest p99 of its total time.
pub type Graph = [Vec<u64>; 2];

/// One frame of one object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    /// When it ended.
    pub at: Now,
    /// How long it was.
    pub seconds: u64,
    /// Growth of counters, then levels; see [`position`].
    pub values: Values,
}

impl History {
    /// Once a second, with all objects that changed within the longest frame or are in use, in the order of their keys: counters
    /// and levels as they are. `percentiles` gives the last two levels of an object for the last so many seconds.
    pub fn tick(
        &mut self,
        now: Now,
        objects: &[(ObjectKey, Values)],
        percentiles: impl Fn(u64, ObjectKey) -> Option<(u64, u64)>,
    ) {
        self.ticks += 1;
        for (level, (seconds, frames_max)) in self.levels.iter_mut().zip(PLAN) {
            if !self.ticks.is_multiple_of(seconds) {
                continue;
            }
            let data = level.pack(objects, |key| percentiles(seconds, key));
            if level.frames.len() == frames_max
                && let Some(old) = level.frames.pop_front()
            {
                self.bytes -= old.bytes();
            }
            let frame = Frame { tick: self.ticks, at: now, seconds, data };
            self.bytes += frame.bytes();
            level.frames.push_back(frame);
        }
        self.forget();
    }

    /// After a reload: forgets objects that are gone.
    pub fn retain(&mut self, stays: impl Fn(ObjectKey) -> bool) {
        for level in &mut self.levels {
            level.last.retain(|key, _| stays(*key));
        }
    }

    /// Whether the next tick ends a frame of so many seconds.
    pub fn ends_frame(&self, seconds: u64) -> bool {
        (self.ticks + 1).is_multiple_of(seconds)
    }

    /// Keeps to the bound.
    fn forget(&mut self) {
        while self.bytes > HISTORY_BYTES_MAX {
            let size = |level: &&mut Level| level.frames.iter().map(Frame::bytes).sum::<usize>();
            let Some(largest) = self.levels.iter_mut().max_by_key(size) else { return };
            // A few at a time: the sizes are summed up for each round.
            for frame in largest.frames.drain(..largest.frames.len().min(16)) {
                self.bytes -= frame.bytes();
            }
        }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        let last = self.levels.iter().map(|level| level.last.len()).sum::<usize>();
        self.bytes + last * size_of::<(ObjectKey, [u64; COUNTERS.len()])>()
    }

    /// Frames that cover the time without overlap, newest first: fine ones as far back as they go.
    fn cover(&self) -> impl Iterator<Item = &Frame> {
        let mut until = u64::MAX;
        let mut chosen = Vec::with_capacity(PLAN.len());
        for (index, level) in self.levels.iter().enumerate() {
            // The next level takes over at a tick where one of its frames ended.
            let oldest = level.frames.front().map_or(u64::MAX, |frame| frame.tick - frame.seconds);
            let step = PLAN.get(index + 1).map_or(1, |(seconds, _)| *seconds);
            let from = oldest.checked_next_multiple_of(step).unwrap_or(u64::MAX);
            chosen.push((level, from, until));
            until = until.min(from);
        }
        chosen.into_iter().flat_map(|(level, from, until)| {
            level.frames.iter().rev().filter(move |frame| frame.tick > from && frame.tick <= until)
        })
    }

    /// How far back it goes.
    pub fn oldest(&self, now: Now) -> Duration {
        self.cover().last().map_or(Duration::ZERO, |frame| now.since(frame.at))
    }

    /// All objects as they were at a point in time; `None`: too long ago.
    pub fn at(&self, when: Now) -> Option<Past> {
        let began =
            |counters: &[u64; COUNTERS.len()]| PastRow { counters: *counters, frame: Values::default() };
        let mut rows: AHashMap<ObjectKey, PastRow> =
            self.levels[0].last.iter().map(|(key, counters)| (*key, began(counters))).collect();
        for frame in self.cover() {
            if frame.at <= when {
                unpack(&frame.data, |key, values| {
                    if let Some(row) = rows.get_mut(&key) {
                        row.frame = *values;
                    }
                });
                return Some(Past { at: frame.at, seconds: frame.seconds, rows });
            }
            unpack(&frame.data, |key, values| {
                let Some(row) = rows.get_mut(&key) else { return };
                for (counter, grown) in row.counters.iter_mut().zip(values) {
                    *counter = counter.wrapping_sub(*grown);
                }
            });
        }
        None
    }

    /// The frames of one object since a point in time, oldest first.
    pub fn series(&self, key: ObjectKey, since: Now) -> Vec<Point> {
        let frames = self.cover().take_while(|frame| frame.at > since);
        let mut points: Vec<Point> = frames
            .map(|frame| {
                let mut values = Values::default();
                unpack(&frame.data, |found, all| {
                    if found == key {
                        values = *all;
                    }
                });
                Point { at: frame.at, seconds: frame.seconds, values }
            })
            .collect();
        points.reverse();
        points
    }
}

impl History {
    /// Graphs of objects, for the counter that each is asked for: `parts` points of so many seconds each, up to now. They begin
    /// where the history does.
    pub fn graphs(
        &self,
        wanted: &AHashMap<ObjectKey, Stat>,
        seconds: u64,
        parts: usize,
    ) -> AHashMap<ObjectKey, Graph> {
        const P99: usize = COUNTERS.len() + LEVELS.len() - 1;
        let empty = || [vec![0; parts], vec![0; parts]];
        let mut graphs: AHashMap<ObjectKey, Graph> = wanted.keys().map(|key| (*key, empty())).collect();
        let mut first = parts;
        for frame in self.cover() {
            // By ticks, not by clock: no point has two frames while its neighbour has none.
            let back = usize::try_from((self.ticks - frame.tick) / seconds).unwrap_or(parts);
            let Some(place) = (parts - 1).checked_sub(back) else { break };
            first = place;
            unpack(&frame.data, |key, values| {
                if let (Some(graph), Some(stat)) = (graphs.get_mut(&key), wanted.get(&key)) {
                    graph[0][place] += position(*stat).map_or(0, |at| values[at]);
                    graph[1][place] = graph[1][place].max(values[P99]);
                }
            });
        }
        for graph in graphs.values_mut() {
            graph[0].iter_mut().for_each(|grown| *grown = grown.div_ceil(seconds));
            graph.iter_mut().for_each(|line| drop(line.drain(..first)));
        }
        graphs
    }
}

impl Frame {
    fn bytes(&self) -> usize {
        self.data.len() + size_of::<Frame>()
    }
}

impl Level {
    /// Packs what changed since the last frame.
    fn pack(
        &mut self,
        objects: &[(ObjectKey, Values)],
        percentiles: impl Fn(ObjectKey) -> Option<(u64, u64)>,
    ) -> Box<[u8]> {
        let mut out = Vec::new();
        let mut before = 0;
        for (key, values) in objects {
            let mut frame = *values;
            // A row is new only once: its counters began at zero.
            let last = self.last.entry(*key).or_default();
            for ((grown, value), last) in frame.iter_mut().zip(values).zip(last.iter_mut()) {
                *grown = value.wrapping_sub(*last);
                *last = *value;
            }
            let has_moved = frame.iter().any(|value| *value != 0);
            if let Some((p50, p99)) = has_moved.then(|| percentiles(*key)).flatten() {
                frame[Values::default().len() - 2] = p50;
                frame[Values::default().len() - 1] = p99;
            }
            if has_moved {
                push_varint(&mut out, key.0 - before);
                before = key.0;
                let mask =
                    (0..frame.len()).filter(|at| frame[*at] != 0).fold(0u64, |mask, at| mask | 1 << at);
                push_varint(&mut out, mask);
                frame.iter().filter(|value| **value != 0).for_each(|value| push_varint(&mut out, *value));
            }
        }
        out.into_boxed_slice()
    }
}

/// Calls `each` with every object of a frame.
fn unpack(mut data: &[u8], mut each: impl FnMut(ObjectKey, &Values)) {
    let mut key = 0;
    while let Some(step) = pop_varint(&mut data) {
        key += step;
        let mask = pop_varint(&mut data).unwrap_or(0);
        let mut values = Values::default();
        for (at, value) in values.iter_mut().enumerate() {
            if mask & 1 << at != 0 {
                *value = pop_varint(&mut data).unwrap_or(0);
            }
        }
        each(ObjectKey(key), &values);
    }
}

/// Seven bits a byte, low ones first; the high bit says that more follow.
fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

fn pop_varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

const _: () = assert!(COUNTERS.len() + LEVELS.len() <= 64, "the mask of a packed object is a u64");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    const SECOND: u64 = 1_000_000_000;

    fn key(row: u32) -> ObjectKey {
        ObjectKey::new(Object::Server, row)
    }

    /// Sessions and bytes of one object.
    fn values(sessions: u64, bytes: u64, current: u64) -> Values {
        let mut values = Values::default();
        values[0] = sessions;
        values[position(Stat::BytesOut).expect("kept")] = bytes;
        values[position(Stat::SessionsCur).expect("kept")] = current;
        values
    }

    #[test]
    fn varints_come_back() {
        let mut out = Vec::new();
        let all = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        all.iter().for_each(|n| push_varint(&mut out, *n));
        let mut data = out.as_slice();
        assert_eq!(all.map(|_| pop_varint(&mut data)), all.map(Some));
        assert_eq!(pop_varint(&mut data), None);
    }

    #[test]
    fn the_past_is_exact_on_every_level() {
        let seed = 7;
        let mut rng = Rng::new(seed);
        let mut history = History::default();
        let mut log = vec![(0, 0)];
        let (mut sessions, mut bytes) = (0, 0);
        const TICKS: u64 = 3 * 3600;
        for tick in 1..=TICKS {
            if !rng.bits().is_multiple_of(3) {
                sessions += rng.bits() % 1000;
                bytes += rng.bits() % (1 << 33);
            }
            log.push((sessions, bytes));
            let objects = [(key(2), values(sessions, bytes, tick)), (key(9), values(0, 0, 0))];
            history.tick(Now(tick * SECOND), &objects, |_, _| None);
        }
        // (ago, resolution)
        for (ago, step) in
            [(0, 1), (1, 1), (17, 1), (590, 1), (605, 10), (3600, 10), (7100, 10), (7300, 60), (10_000, 60)]
        {
            let past = history.at(Now((TICKS - ago) * SECOND)).expect("kept");
            let tick = past.at.0 / SECOND;
            assert!(tick <= TICKS - ago && TICKS - ago - tick < step, "{tick} for {ago} ago");
            let then = log[usize::try_from(tick).expect("small")];
            let row = past.row(key(2));
            assert_eq!((row.counters[0], row.counters[4]), then, "{ago} ago");
            assert_eq!(row.frame[position(Stat::SessionsCur).expect("kept")], tick);
            assert_eq!(past.row(key(9)), PastRow::default());
        }
        let series = history.series(key(2), Now(0));
        let grown: u64 = series.iter().map(|point| point.values[0]).sum();
        assert_eq!(series.first().map(|point| point.seconds), Some(60));
        assert_eq!(grown, sessions);
        assert!(series.is_sorted_by_key(|point| point.at));
        assert!(history.at(Now(SECOND)).is_none());
    }

    #[test]
    fn graphs_have_what_grew_in_equal_parts() {
        let mut history = History::default();
        let wanted = [(key(1), Stat::SessionsTotal), (key(2), Stat::BytesOut)].into_iter().collect();
        assert_eq!(history.graphs(&wanted, 1, 60)[&key(1)], Graph::default(), "nothing yet");
        for tick in 1..=3600 {
            let objects = [(key(1), values(tick, 0, 0)), (key(2), values(0, 7 * tick, 0))];
            history.tick(Now(tick * SECOND), &objects, |_, _| Some((1, tick)));
        }
        for (seconds, points, p99) in [(1, 60, 3600), (10, 60, 3600), (120, 30, 3600), (1440, 3, 3600)] {
            let graphs = history.graphs(&wanted, seconds, 60);
            assert_eq!(graphs[&key(1)][0].len(), points, "{seconds}");
            assert_eq!(graphs[&key(2)][0].last(), Some(&7), "{seconds}");
            assert_eq!(graphs[&key(1)][1].last(), Some(&p99), "{seconds}");
            let all: u64 = graphs[&key(1)][0].iter().sum();
            assert!(seconds > 120 || all == points as u64, "{seconds}: one a second");
        }
    }

    #[test]
    fn what_does_nothing_takes_no_room() {
        let mut history = History::default();
        let objects: Vec<_> = (0..100).map(|row| (key(row), values(0, 0, 0))).collect();
        for tick in 1..=1000 {
            history.tick(Now(tick * SECOND), &objects, |_, _| None);
        }
        let frames: usize = history.levels.iter().map(|level| level.frames.len()).sum();
        assert_eq!(history.bytes, frames * size_of::<Frame>());
    }

    #[test]
    fn an_object_that_is_gone_is_forgotten_and_percentiles_are_kept() {
        let mut history = History::default();
        let both = |n| [(key(1), values(n, 0, 0)), (key(2), values(n, 0, 0))];
        for tick in 1..=20 {
            history.tick(Now(tick * SECOND), &both(tick), |seconds, _| Some((seconds, 2 * seconds)));
        }
        history.tick(Now(21 * SECOND), &both(21)[..1], |_, _| None);
        assert_eq!(history.levels[0].last.len(), 2, "it may only have nothing to tell");
        history.retain(|of| of == key(1));
        assert_eq!(history.levels[0].last.len(), 1);
        let past = history.at(Now(15 * SECOND)).expect("kept");
        assert_eq!((past.row(key(1)).counters[0], past.row(key(2)).counters[0]), (15, 0));
        assert_eq!(past.row(key(1)).frame[COUNTERS.len() + 2..], [1, 2]);
    }

    #[test]
    fn who_has_nothing_to_tell_is_not_told_and_the_past_stays_exact() {
        let mut history = History::default();
        // It does something in one second of every three minutes.
        for tick in 0..2000 {
            let objects = [(key(1), values(7 * (tick / 180 + 1), 0, 0))];
            let is_told = tick % 180 < u64::from(FRAME_SECONDS_MAX);
            history.tick(Now((tick + 1) * SECOND), if is_told { &objects } else { &[] }, |_, _| None);
        }
        for (ago, step) in [(0, 1), (100, 1), (300, 1), (900, 10), (1900, 10)] {
            let past = history.at(Now((2000 - ago) * SECOND)).expect("kept");
            let tick = past.at.0 / SECOND;
            assert!(2000 - ago - tick < step, "{ago}");
            assert_eq!(past.row(key(1)).counters[0], 7 * ((tick - 1) / 180 + 1), "{ago} ago");
        }
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut history = History::default();
        let mut objects: Vec<_> = (0..9000).map(|row| (key(row), Values::default())).collect();
        for tick in 1..=110 {
            for (row, (_, values)) in objects.iter_mut().enumerate() {
                values.iter_mut().for_each(|value| *value += 1 << 20 | row as u64);
            }
            history.tick(Now(tick * SECOND), &objects, |_, _| None);
            assert!(history.bytes <= HISTORY_BYTES_MAX);
        }
        assert!(history.bytes > HISTORY_BYTES_MAX / 2);
        assert!(history.at(Now(105 * SECOND)).is_some());
    }
}

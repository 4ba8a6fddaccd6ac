//! Coarse timers for connection deadlines: a hierarchical wheel of 6 levels of 64 slots, one tick a millisecond.
//!
//! Insert, remove and re-arm are O(1); a deadline is rounded up, so a timer is never early. The wheel knows no clock:
//! the core's driver tells it `now` once a turn and asks when to wake up next.
#![allow(
    clippy::cast_possible_truncation,
    reason = "levels are below 6 and slots below 64 wherever they are cast"
)]

use std::task::Waker;

use crate::base::time::Now;

const LEVELS: usize = 6;
const SLOTS: usize = 64;
const SLOT_BITS: u32 = 6;
const NONE: u32 = u32::MAX;
/// `Entry::slot` of a timer that is in no slot: it has fired.
const FIRED: u16 = u16::MAX;
const NS_PER_TICK: u64 = 1_000_000;
/// Deadlines further away than the wheel reaches (2 years) wait there and are placed again. One slot less than the wheel has: a whole
/// round ahead would be the slot that is current, whose turn is now.
const HORIZON: u64 = ((SLOTS as u64 - 1) << (SLOT_BITS * (LEVELS as u32 - 1))) - 1;

/// Names a timer in the wheel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TimerKey(u32);

impl TimerKey {
    /// Names none: a key that may be missing takes no more room.
    pub(super) const NONE: TimerKey = TimerKey(NONE);

    /// Itself, unless it names none.
    pub(super) fn some(self) -> Option<TimerKey> {
        (self != TimerKey::NONE).then_some(self)
    }
}

struct Entry {
    deadline: u64,
    prev: u32,
    next: u32,
    slot: u16,
    waker: Option<Waker>,
}

/// The timers of one core.
pub(super) struct Wheel {
    tick: u64,
    heads: [u32; LEVELS * SLOTS],
    /// The earliest deadline of a slot that is occupied, or earlier: a timer that was taken away counts until its slot is empty.
    earliest: [u64; LEVELS * SLOTS],
    occupied: [u64; LEVELS],
    entries: Vec<Entry>,
    free: Vec<u32>,
}

impl Wheel {
    pub(super) fn new(now: Now) -> Self {
        Wheel {
            tick: now.0 / NS_PER_TICK,
            heads: [NONE; LEVELS * SLOTS],
            earliest: [u64::MAX; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            entries: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Adds a timer.
    pub(super) fn insert(&mut self, deadline: Now) -> TimerKey {
        let entry = Entry { deadline: to_tick(deadline), prev: NONE, next: NONE, slot: FIRED, waker: None };
        let key = match self.free.pop() {
            Some(key) => {
                self.entries[key as usize] = entry;
                key
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).expect("fewer timers than 2^32")
            }
        };
        self.link(key);
        TimerKey(key)
    }

    /// Takes a timer away, fired or not.
    pub(super) fn remove(&mut self, key: TimerKey) -> Option<Waker> {
        self.unlink(key.0);
        self.free.push(key.0);
        self.entries[key.0 as usize].waker.take()
    }

    /// Moves a timer to another deadline; a fired one is armed again.
    pub(super) fn reset(&mut self, key: TimerKey, deadline: Now) {
        self.unlink(key.0);
        self.entries[key.0 as usize].deadline = to_tick(deadline);
        self.link(key.0);
    }

    /// Whether the timer has fired; if not, `waker` is woken when it does.
    pub(super) fn poll(&mut self, key: TimerKey, waker: &Waker) -> bool {
        let entry = &mut self.entries[key.0 as usize];
        if entry.slot == FIRED {
            return true;
        }
        match &mut entry.waker {
            Some(w) if w.will_wake(waker) => {}
            w => *w = Some(waker.clone()),
        }
        false
    }

    /// When the driver has to look again: at the deadline that comes first. May be early if that one was taken away, never late.
    /// A slot of a higher level may be spread out long after it began: whoever is in it is due later.
    pub(super) fn next_wake(&self) -> Option<Now> {
        let first = (0..LEVELS).filter_map(|level| {
            let (slot, start) = self.first_slot(level)?;
            // Slots of a level follow each other in time, so the first has its earliest deadline.
            Some(self.earliest[level * SLOTS + slot].max(start))
        });
        first.min().map(|tick| Now(tick * NS_PER_TICK))
    }

    /// Fires all timers due at `now`; their wakers are appended to `woken`.
    pub(super) fn advance(&mut self, now: Now, woken: &mut Vec<Waker>) {
        let target = now.0 / NS_PER_TICK;
        while let Some((level, slot, tick)) = self.next_slot() {
            if tick > target {
                break;
            }
            self.tick = self.tick.max(tick);
            let index = level * SLOTS + slot;
            let mut key = std::mem::replace(&mut self.heads[index], NONE);
            self.occupied[level] &= !(1 << slot);
            while key != NONE {
                let entry = &mut self.entries[key as usize];
                let next = entry.next;
                entry.prev = NONE;
                entry.next = NONE;
                entry.slot = FIRED;
                if entry.deadline <= self.tick {
                    woken.extend(entry.waker.take());
                } else {
                    self.link(key);
                }
                key = next;
            }
        }
        self.tick = self.tick.max(target);
    }

    /// Takes all wakers out; nobody will be woken any more.
    pub(super) fn take_wakers(&mut self, out: &mut Vec<Waker>) {
        out.extend(self.entries.iter_mut().filter_map(|e| e.waker.take()));
    }

    /// The first occupied slot in time: level, slot and the tick at which it starts.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let mut best: Option<(usize, usize, u64)> = None;
        for level in 0..LEVELS {
            let Some((slot, start)) = self.first_slot(level) else { continue };
            if best.is_none_or(|(_, _, tick)| start < tick) {
                best = Some((level, slot, start));
            }
        }
        best
    }

    /// The first occupied slot of a level in time, and the tick at which it starts.
    fn first_slot(&self, level: usize) -> Option<(usize, u64)> {
        if self.occupied[level] == 0 {
            return None;
        }
        let shift = SLOT_BITS * level as u32;
        let current = (self.tick >> shift) as usize % SLOTS;
        let ahead = self.occupied[level].rotate_right(current as u32).trailing_zeros() as usize;
        let start = ((self.tick >> shift) + ahead as u64) << shift;
        // The current slot of a higher level started in the past: its timers are due for spreading at once.
        Some(((current + ahead) % SLOTS, start.max(self.tick)))
    }

    fn link(&mut self, key: u32) {
        let deadline = self.entries[key as usize].deadline;
        let placed = deadline.clamp(self.tick, self.tick.saturating_add(HORIZON));
        let level = level_of(self.tick, placed);
        let slot = (placed >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        let index = level * SLOTS + slot;
        let head = self.heads[index];
        let earliest = if head == NONE { deadline } else { self.earliest[index].min(deadline) };
        self.earliest[index] = earliest;
        let entry = &mut self.entries[key as usize];
        entry.slot = u16::try_from(index).expect("384 slots");
        entry.prev = NONE;
        entry.next = head;
        if head != NONE {
            self.entries[head as usize].prev = key;
        }
        self.heads[index] = key;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, key: u32) {
        let entry = &mut self.entries[key as usize];
        if entry.slot == FIRED {
            return;
        }
        let (index, prev, next) = (entry.slot as usize, entry.prev, entry.next);
        entry.slot = FIRED;
        entry.prev = NONE;
        entry.next = NONE;
        if next != NONE {
            self.entries[next as usize].prev = prev;
        }
        if prev != NONE {
            self.entries[prev as usize].next = next;
        } else {
            self.heads[index] = next;
            if next == NONE {
                self.occupied[index / SLOTS] &= !(1 << (index % SLOTS));
            }
        }
    }
}

/// A deadline in ticks, rounded up: a timer is never early.
fn to_tick(deadline: Now) -> u64 {
    deadline.0.div_ceil(NS_PER_TICK)
}

/// The level at which `placed` differs from the present: all higher digits agree, so the slot is reached before it wraps.
fn level_of(tick: u64, placed: u64) -> usize {
    let differ = (tick ^ placed) | (SLOTS as u64 - 1);
    let level = (63 - differ.leading_zeros()) / SLOT_BITS;
    (level as usize).min(LEVELS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    const MS: u64 = 1_000_000;

    fn fired(wheel: &mut Wheel, key: TimerKey) -> bool {
        wheel.poll(key, Waker::noop())
    }

    #[test]
    fn a_timer_fires_at_its_deadline_and_not_before() {
        for ms in [1, 2, 63, 64, 65, 4095, 4096, 4097, 300_000, 20_000_000] {
            let start = Now(777 * MS + 123);
            let mut wheel = Wheel::new(start);
            let deadline = start + Duration::from_millis(ms);
            let key = wheel.insert(deadline);
            let mut woken = Vec::new();
            while let Some(at) = wheel.next_wake().filter(|at| *at < deadline) {
                wheel.advance(at, &mut woken);
                assert!(!fired(&mut wheel, key), "early for {ms} ms");
            }
            wheel.advance(deadline, &mut woken);
            wheel.advance(deadline + Duration::from_millis(1), &mut woken);
            assert!(fired(&mut wheel, key), "late for {ms} ms");
        }
    }

    #[test]
    fn the_driver_sleeps_until_the_deadline_in_one_go() {
        let start = Now(777 * MS + 123);
        let mut wheel = Wheel::new(start);
        wheel.insert(start + Duration::from_secs(3600));
        wheel.insert(start + Duration::from_millis(5000));
        assert_eq!(wheel.next_wake(), Some(Now(5778 * MS)));
    }

    #[test]
    fn a_deadline_beyond_the_wheel_waits_for_its_time() {
        let year = Duration::from_secs(366 * 24 * 3600);
        let mut wheel = Wheel::new(Now(5_001 * MS));
        let key = wheel.insert(Now(5_001 * MS) + 5 * year);
        for round in 1..5 {
            wheel.advance(Now(5_001 * MS) + round * year, &mut Vec::new());
            assert!(!fired(&mut wheel, key), "after {round} years");
        }
        wheel.advance(Now(5_001 * MS) + 5 * year, &mut Vec::new());
        assert!(fired(&mut wheel, key));
    }

    #[test]
    fn a_deadline_in_the_past_fires_on_the_next_turn() {
        let mut wheel = Wheel::new(Now(5_000 * MS));
        let key = wheel.insert(Now(10));
        wheel.advance(Now(5_000 * MS), &mut Vec::new());
        assert!(fired(&mut wheel, key));
    }

    #[test]
    fn random_timers_agree_with_a_sorted_map() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let mut now = Now(1_000_000 * MS);
        let mut wheel = Wheel::new(now);
        let mut live: BTreeMap<u32, u64> = BTreeMap::new();
        for _ in 0..20_000 {
            match next() % 4 {
                0 | 1 => {
                    let deadline = now + Duration::from_millis(next() % (1 << (next() % 24)));
                    let key = wheel.insert(deadline);
                    assert!(live.insert(key.0, to_tick(deadline)).is_none(), "key in use twice");
                }
                2 => {
                    if let Some((&key, _)) = live.iter().next() {
                        live.remove(&key);
                        wheel.remove(TimerKey(key));
                    }
                }
                _ => {
                    let step = next() % (1 << (next() % 16));
                    now = now + Duration::from_millis(step);
                    if let Some(wake) = wheel.next_wake() {
                        let first = live.values().min().expect("the wheel has a timer");
                        assert!(wake.0 / MS <= (*first).max(wheel.tick), "the driver would sleep too long");
                    }
                    wheel.advance(now, &mut Vec::new());
                    live.retain(|&key, deadline| {
                        let due = *deadline <= now.0 / MS;
                        assert_eq!(fired(&mut wheel, TimerKey(key)), due, "deadline {deadline}, now {now:?}");
                        if due {
                            wheel.remove(TimerKey(key));
                        }
                        !due
                    });
                }
            }
        }
    }

    #[test]
    fn reset_moves_and_rearms() {
        let start = Now(MS);
        let mut wheel = Wheel::new(start);
        let key = wheel.insert(start + Duration::from_millis(5));
        wheel.reset(key, start + Duration::from_millis(500));
        wheel.advance(start + Duration::from_millis(100), &mut Vec::new());
        assert!(!fired(&mut wheel, key));
        wheel.advance(start + Duration::from_millis(501), &mut Vec::new());
        assert!(fired(&mut wheel, key));
        wheel.reset(key, start + Duration::from_millis(600));
        assert!(!fired(&mut wheel, key));
    }
}

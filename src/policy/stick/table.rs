//! The entries of one stick table on one core. Lives by `now` alone; knows nothing of who tracks an entry but how many do.
//!
//! Cores do not share entries: each has all of them, counts its own events at once, and takes those of the others over as
//! [`Change`]s. Sums stay sums that way, levels (`conn_cur`) included, and nothing that another core reads is written for a
//! request. What a core does not know yet is what the others counted since they last told.

use ahash::AHashMap;
use smallvec::SmallVec;

use crate::base::rate::Rate;
use crate::base::time::Now;
use crate::policy::stick::{Cell, Data, Key, Spec, Store};

/// The place of an entry. It is the same entry as long as somebody [holds](Table::hold) it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(u32);

/// The table takes no further key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// What one core tells the others of one entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Which.
    pub key: Key,
    /// It is gone; what follows is of a new one.
    pub removed: bool,
    /// Values that were set, and when: the later one holds, in whatever order cores hear of them.
    pub set: SmallVec<[(Cell, u64, Now); 1]>,
    /// Events that were counted.
    pub added: SmallVec<[(Cell, i64); 4]>,
}

/// An entry for operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Where it is.
    pub slot: u32,
    /// Its key.
    pub key: Key,
    /// How many track it on this core.
    pub uses: u32,
    /// Until it is forgotten, if it ever is.
    pub expires_ms: Option<u64>,
    /// Its values, in the order of the table's columns.
    pub values: Vec<u64>,
}

/// No entry.
const NONE: u32 = u32::MAX;
/// Entries that one insertion looks at to find one that can go: work of one event stays bounded.
const PURGE_LOOK: usize = 32;

struct Entry {
    key: Key,
    expires: Now,
    uses: u32,
    before: u32,
    after: u32,
    /// The others have to hear of it.
    is_dirty: bool,
    /// Columns whose value was set since they last heard; the others hear the value, not the difference.
    set: u64,
}

/// Where a column keeps its values.
#[derive(Clone, Copy)]
enum Place {
    Count(usize),
    Rate(usize),
}

/// See the top of the file.
pub struct Table {
    spec: Spec,
    places: Vec<Place>,
    counts_per_entry: usize,
    rates_per_entry: usize,
    index: AHashMap<Key, u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    counts: Vec<u64>,
    rates: Vec<Rate>,
    /// What was counted since the others last heard; empty if there are none.
    pending: Vec<i64>,
    /// When each column was last set, here or elsewhere; empty if there are no others.
    set_at: Vec<Now>,
    /// Oldest and newest by the time of their last touch.
    oldest: u32,
    newest: u32,
    dirty: Vec<u32>,
    gone: Vec<Key>,
    has_others: bool,
}

impl Table {
    /// An empty table. `has_others`: there are other cores, which want to hear of changes.
    pub fn new(spec: Spec, has_others: bool) -> Table {
        let mut table = Table {
            places: Vec::new(),
            counts_per_entry: 0,
            rates_per_entry: 0,
            index: AHashMap::default(),
            entries: Vec::new(),
            free: Vec::new(),
            counts: Vec::new(),
            rates: Vec::new(),
            pending: Vec::new(),
            set_at: Vec::new(),
            oldest: NONE,
            newest: NONE,
            dirty: Vec::new(),
            gone: Vec::new(),
            has_others,
            spec,
        };
        table.lay_out();
        table
    }

    /// What it is.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Entries in use.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn lay_out(&mut self) {
        let (mut counts, mut rates) = (0, 0);
        self.places = self
            .spec
            .store
            .iter()
            .map(|store| match store.cell.data.info().is_rate {
                true => {
                    rates += 1;
                    Place::Rate(rates - 1)
                }
                false => {
                    counts += 1;
                    Place::Count(counts - 1)
                }
            })
            .collect();
        (self.counts_per_entry, self.rates_per_entry) = (counts, rates);
    }

    /// Becomes what another specification with the same kind of keys says; entries keep the columns that both have.
    pub fn reshape(&mut self, spec: Spec) {
        debug_assert_eq!(self.spec.kind, spec.kind, "keys cannot become others");
        if self.spec.store == spec.store {
            self.spec = spec;
            return;
        }
        let old = std::mem::replace(&mut self.spec, spec);
        let (places, counts_per, rates_per) =
            (std::mem::take(&mut self.places), self.counts_per_entry, self.rates_per_entry);
        let (counts, rates) = (std::mem::take(&mut self.counts), std::mem::take(&mut self.rates));
        let (pending, set_at) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.set_at));
        self.lay_out();
        for slot in 0..self.entries.len() {
            self.push_columns();
            self.entries[slot].set = 0;
            for column in 0..self.spec.store.len() {
                let store = self.spec.store[column];
                let Some(before) = old.store.iter().position(|known| *known == store) else { continue };
                match (self.places[column], places[before]) {
                    (Place::Count(to), Place::Count(from)) => {
                        self.counts[slot * self.counts_per_entry + to] = counts[slot * counts_per + from];
                    }
                    (Place::Rate(to), Place::Rate(from)) => {
                        self.rates[slot * self.rates_per_entry + to] = rates[slot * rates_per + from].clone();
                    }
                    _ => {}
                }
                if self.has_others {
                    let (to, from) = (slot * self.spec.store.len() + column, slot * old.store.len() + before);
                    self.pending[to] = pending[from];
                    self.set_at[to] = set_at[from];
                }
            }
        }
    }

    /// The entry of a key.
    pub fn find(&self, key: &[u8], now: Now) -> Option<Slot> {
        let slot = *self.index.get(key)?;
        let is_alive = self.entries[slot as usize].expires > now || self.is_in_use(slot);
        is_alive.then_some(Slot(slot))
    }

    /// The entry of a key, which is made if there is none.
    ///
    /// # Errors
    /// There is no room, and nothing that could be forgotten for it.
    pub fn entry(&mut self, key: &[u8], now: Now) -> Result<Slot, Full> {
        let (slot, is_new) = self.find_or_make(key, now)?;
        if is_new {
            self.note(slot);
        }
        Ok(Slot(slot))
    }

    /// The same, and whether it is new; the others hear nothing of it.
    fn find_or_make(&mut self, key: &[u8], now: Now) -> Result<(u32, bool), Full> {
        if let Some(Slot(slot)) = self.find(key, now) {
            return Ok((slot, false));
        }
        if let Some(slot) = self.index.get(key).copied() {
            self.remove_slot(slot);
        }
        self.purge(now)?;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(self.entries.len()).map_err(|_| Full)?;
                self.entries.push(Entry {
                    key: Key::new(),
                    expires: now,
                    uses: 0,
                    before: NONE,
                    after: NONE,
                    is_dirty: false,
                    set: 0,
                });
                self.push_columns();
                slot
            }
        };
        self.clear_columns(slot);
        let entry = &mut self.entries[slot as usize];
        entry.key = Key::from_slice(key);
        (entry.uses, entry.set, entry.is_dirty) = (0, 0, false);
        self.index.insert(Key::from_slice(key), slot);
        self.link(slot);
        self.renew(slot, now);
        Ok((slot, true))
    }

    /// Forgets what is over, and the oldest if the table is full.
    fn purge(&mut self, now: Now) -> Result<(), Full> {
        let mut at = self.oldest;
        for _ in 0..PURGE_LOOK {
            if at == NONE {
                break;
            }
            let is_full = self.index.len() >= self.spec.size as usize;
            let is_over = self.entries[at as usize].expires <= now;
            if !is_over && (!is_full || self.spec.nopurge) {
                break;
            }
            let next = self.entries[at as usize].after;
            if !self.is_in_use(at) {
                self.remove_slot(at);
            } else if is_over {
                // It lives as long as it is in use; it is not to be looked at each time.
                self.renew(at, now);
            }
            at = next;
        }
        if self.index.len() < self.spec.size as usize { Ok(()) } else { Err(Full) }
    }

    fn is_in_use(&self, slot: u32) -> bool {
        // Open connections of other cores hold it too: what is left of them would be lost with it.
        self.entries[slot as usize].uses > 0
            || self.value(slot, Cell::of(Data::ConnCur), Now(0)).is_some_and(|open| open > 0)
    }

    /// It lives on for the whole of `expire`.
    pub fn touch(&mut self, Slot(slot): Slot, now: Now) {
        self.renew(slot, now);
        self.note(slot);
    }

    fn renew(&mut self, slot: u32, now: Now) {
        let expires = self.spec.expire.map_or(Now(u64::MAX), |time| now + time);
        self.unlink(slot);
        self.entries[slot as usize].expires = expires;
        self.link(slot);
    }

    /// Somebody tracks it: it is not forgotten.
    pub fn hold(&mut self, slot: Slot, now: Now) {
        self.entries[slot.0 as usize].uses += 1;
        self.touch(slot, now);
    }

    /// The end of that.
    pub fn release(&mut self, slot: Slot, now: Now) {
        let uses = &mut self.entries[slot.0 as usize].uses;
        debug_assert!(*uses > 0, "it was held");
        *uses = uses.saturating_sub(1);
        self.touch(slot, now);
    }

    /// How many track it on this core.
    pub fn uses(&self, slot: Slot) -> u32 {
        self.entries[slot.0 as usize].uses
    }

    /// Its key.
    pub fn key(&self, slot: Slot) -> &Key {
        &self.entries[slot.0 as usize].key
    }

    /// A value; `None`: the table does not keep it.
    pub fn read(&self, slot: Slot, cell: Cell, now: Now) -> Option<u64> {
        self.value(slot.0, cell, now)
    }

    fn column(&self, cell: Cell) -> Option<usize> {
        self.spec.store.iter().position(|store| store.cell == cell)
    }

    fn value(&self, slot: u32, cell: Cell, now: Now) -> Option<u64> {
        Some(self.value_of(slot, self.column(cell)?, now))
    }

    fn value_of(&self, slot: u32, column: usize, now: Now) -> u64 {
        let slot = slot as usize;
        match self.places[column] {
            Place::Count(at) => self.counts[slot * self.counts_per_entry + at],
            Place::Rate(at) => u64::from(self.rates[slot * self.rates_per_entry + at].read(now)),
        }
    }

    /// Counts events; a table that does not keep them does nothing.
    pub fn add(&mut self, slot: Slot, cell: Cell, events: i64, now: Now) {
        let Some(column) = self.column(cell) else { return };
        self.add_to(slot.0, column, events, now);
        if self.has_others {
            self.pending[slot.0 as usize * self.spec.store.len() + column] += events;
            self.note(slot.0);
        }
    }

    fn add_to(&mut self, slot: u32, column: usize, events: i64, now: Now) {
        let slot = slot as usize;
        match self.places[column] {
            Place::Count(at) => {
                let value = &mut self.counts[slot * self.counts_per_entry + at];
                *value = value.saturating_add_signed(events);
            }
            Place::Rate(at) => {
                let events = u32::try_from(events.max(0)).unwrap_or(u32::MAX);
                self.rates[slot * self.rates_per_entry + at].add(now, events);
            }
        }
    }

    /// Sets a value; of a rate, the events of the period that begins.
    pub fn set(&mut self, slot: Slot, cell: Cell, value: u64, now: Now) {
        let Some(column) = self.column(cell) else { return };
        self.set_in(slot.0, column, value, now);
        if self.has_others {
            let at = slot.0 as usize * self.spec.store.len() + column;
            self.pending[at] = 0;
            // Clocks of cores differ by a turn: what is set last here is later than what was heard before.
            self.set_at[at] = now.max(Now(self.set_at[at].0 + 1));
            self.entries[slot.0 as usize].set |= 1 << column;
            self.note(slot.0);
        }
    }

    fn set_in(&mut self, slot: u32, column: usize, value: u64, now: Now) {
        let period_ms = self.spec.store[column].period_ms;
        let slot = slot as usize;
        match self.places[column] {
            Place::Count(at) => self.counts[slot * self.counts_per_entry + at] = value,
            Place::Rate(at) => {
                let mut rate = Rate::per_period_ms(period_ms);
                rate.add(now, u32::try_from(value).unwrap_or(u32::MAX));
                self.rates[slot * self.rates_per_entry + at] = rate;
            }
        }
    }

    /// Forgets an entry; false: it is in use.
    pub fn remove(&mut self, slot: Slot) -> bool {
        if self.is_in_use(slot.0) {
            return false;
        }
        if self.has_others {
            self.gone.push(self.entries[slot.0 as usize].key.clone());
        }
        self.remove_slot(slot.0);
        true
    }

    /// Entries that live among the `look` places from one on, and the place to go on from if there are more. Whoever wants all
    /// asks again and again: a table of millions is not walked in one turn.
    pub fn part(&self, from: u32, look: u32, now: Now) -> (Vec<Slot>, Option<u32>) {
        let len = u32::try_from(self.entries.len()).unwrap_or(NONE);
        let end = from.saturating_add(look).min(len);
        let is_there = |slot: &u32| {
            let entry = &self.entries[*slot as usize];
            !entry.key.is_empty() && (entry.expires > now || self.is_in_use(*slot))
        };
        ((from..end).filter(is_there).map(Slot).collect(), (end < len).then_some(end))
    }

    /// An entry for operators.
    pub fn row(&self, slot: Slot, now: Now) -> Row {
        let entry = &self.entries[slot.0 as usize];
        Row {
            slot: slot.0,
            key: entry.key.clone(),
            uses: entry.uses,
            expires_ms: self.spec.expire.map(|_| entry.expires.ms_since(now)),
            values: (0..self.spec.store.len()).map(|column| self.value_of(slot.0, column, now)).collect(),
        }
    }

    /// Whether the others have something to hear.
    pub fn has_changes(&self) -> bool {
        !self.dirty.is_empty() || !self.gone.is_empty()
    }

    /// What happened since this was last called.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let gone = std::mem::take(&mut self.gone).into_iter();
        let mut changes: Vec<Change> = gone
            .map(|key| Change { key, removed: true, set: SmallVec::new(), added: SmallVec::new() })
            .collect();
        let columns = self.spec.store.len();
        for slot in std::mem::take(&mut self.dirty) {
            let entry = &mut self.entries[slot as usize];
            if !std::mem::take(&mut entry.is_dirty) {
                continue;
            }
            let (key, set_mask) = (entry.key.clone(), std::mem::take(&mut entry.set));
            let mut change = Change { key, removed: false, set: SmallVec::new(), added: SmallVec::new() };
            for column in 0..columns {
                let cell = self.spec.store[column].cell;
                let added = std::mem::take(&mut self.pending[slot as usize * columns + column]);
                if set_mask & (1 << column) != 0 {
                    // A rate that was set hears nothing of the time since.
                    let value = self.value_of(slot, column, Now(0));
                    change.set.push((cell, value, self.set_at[slot as usize * columns + column]));
                } else if added != 0 {
                    change.added.push((cell, added));
                }
            }
            changes.push(change);
        }
        changes
    }

    /// Takes over what another core told.
    pub fn apply(&mut self, changes: &[Change], now: Now) {
        for change in changes {
            if change.removed {
                if let Some(slot) = self.index.get(&change.key).copied()
                    && !self.is_in_use(slot)
                {
                    self.remove_slot(slot);
                }
                continue;
            }
            // The end of what this core has forgotten is no reason to remember it again.
            let ends = !change.added.is_empty() && change.added.iter().all(|(_, events)| *events < 0);
            if ends && change.set.is_empty() && self.find(&change.key, now).is_none() {
                continue;
            }
            let Ok((slot, _)) = self.find_or_make(&change.key, now) else { continue };
            for (cell, value, at) in &change.set {
                if let Some(column) = self.column(*cell) {
                    self.hear(slot, column, (*at, *value), now);
                }
            }
            for (cell, events) in &change.added {
                if let Some(column) = self.column(*cell) {
                    self.add_to(slot, column, *events, now);
                }
            }
            self.renew(slot, now);
        }
    }

    /// Another core set a column: its value holds unless one that was set later is here already. Of two that were set at the same
    /// time all cores keep the greater.
    fn hear(&mut self, slot: u32, column: usize, (at, value): (Now, u64), now: Now) {
        let own = slot as usize * self.spec.store.len() + column;
        let known = self.set_at.get(own).copied().unwrap_or_default();
        if (at, value) > (known, self.value_of(slot, column, Now(0))) {
            self.set_in(slot, column, value, now);
            self.set_at[own] = at;
        }
    }

    fn note(&mut self, slot: u32) {
        if self.has_others && !std::mem::replace(&mut self.entries[slot as usize].is_dirty, true) {
            self.dirty.push(slot);
        }
    }

    fn push_columns(&mut self) {
        for store in &self.spec.store {
            match store.cell.data.info().is_rate {
                true => self.rates.push(empty_rate(*store)),
                false => self.counts.push(0),
            }
        }
        if self.has_others {
            let len = self.pending.len() + self.spec.store.len();
            self.pending.resize(len, 0);
            self.set_at.resize(len, Now(0));
        }
    }

    fn clear_columns(&mut self, slot: u32) {
        let slot = slot as usize;
        for (store, place) in self.spec.store.iter().zip(&self.places) {
            match *place {
                Place::Count(at) => self.counts[slot * self.counts_per_entry + at] = 0,
                Place::Rate(at) => self.rates[slot * self.rates_per_entry + at] = empty_rate(*store),
            }
        }
        if self.has_others {
            let columns = self.spec.store.len();
            self.pending[slot * columns..(slot + 1) * columns].fill(0);
            self.set_at[slot * columns..(slot + 1) * columns].fill(Now(0));
        }
    }

    fn remove_slot(&mut self, slot: u32) {
        debug_assert_eq!(self.entries[slot as usize].uses, 0, "nobody tracks what goes");
        self.unlink(slot);
        let entry = &mut self.entries[slot as usize];
        entry.is_dirty = false;
        let key = std::mem::take(&mut entry.key);
        self.index.remove(&key);
        self.free.push(slot);
    }

    fn link(&mut self, slot: u32) {
        let before = std::mem::replace(&mut self.newest, slot);
        (self.entries[slot as usize].before, self.entries[slot as usize].after) = (before, NONE);
        match before {
            NONE => self.oldest = slot,
            before => self.entries[before as usize].after = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let (before, after) = (self.entries[slot as usize].before, self.entries[slot as usize].after);
        match before {
            NONE => self.oldest = after,
            before => self.entries[before as usize].after = after,
        }
        match after {
            NONE => self.newest = before,
            after => self.entries[after as usize].before = before,
        }
    }
}

fn empty_rate(store: Store) -> Rate {
    Rate::per_period_ms(store.period_ms)
}

/// Entries are many and of clients: not for logs and panics.
impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("spec", &self.spec).field("len", &self.len()).finish_non_exhaustive()
    }
}

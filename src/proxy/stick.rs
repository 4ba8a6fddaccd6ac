//! Stick tables at work: which entries a connection and its requests track, what is counted for them, which server persistence
//! remembers, and what this core tells the others of it. What an entry is, and when it goes, is `policy::stick`'s.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::id::{BackendId, IdVec, ServerId, TableId};
use crate::base::limits::{STICK_COUNTERS, STICK_SHARE_EVERY, STICK_STORES_MAX};
use crate::model::Model;
use crate::policy::acl::Truth;
use crate::policy::rule::Rule;
use crate::policy::sample::{Expr, FirstBytes, Value};
use crate::policy::stick::{
    Amount, Cell, Change, Data, Entry, Key, Read, Slot, Stick, StickAction, StickWhen, Table,
};
use crate::proxy::core::{Core, CoreBase};
use crate::proxy::facts::Message;
use crate::proxy::info::Info;
use crate::proxy::message::ToCore;
use crate::proxy::session::Session;
use crate::rt;

/// What one core tells the others of its tables, by the name of each: generations may number them differently.
pub type Changes = Vec<(Arc<str>, Vec<Change>)>;

/// A table of this core; generations that have the same share it.
pub(super) struct StickTable {
    pub(super) name: Arc<str>,
    pub(super) table: RefCell<Table>,
}

/// The tables of a generation.
pub(super) type Tables = IdVec<TableId, Rc<StickTable>>;

/// The tables of a generation, with what is in those of the one before.
pub(super) fn tables(model: &Model, has_others: bool, before: Option<&Core>) -> Tables {
    let known = |name: &str| before?.tables.values().find(|table| &*table.name == name);
    let tables = model.tables.values().map(|spec| {
        let same_keys = |table: &&Rc<StickTable>| table.table.borrow().spec().kind == spec.kind;
        if let Some(table) = known(&spec.name).filter(same_keys) {
            table.table.borrow_mut().reshape(spec.clone());
            return table.clone();
        }
        let table = RefCell::new(Table::new(spec.clone(), has_others));
        Rc::new(StickTable { name: spec.name.as_str().into(), table })
    });
    tables.collect()
}

/// An entry that a counter tracks; dropped with what it is tracked for.
pub(super) struct Tracked {
    base: Rc<CoreBase>,
    table: Rc<StickTable>,
    slot: Slot,
}

impl Tracked {
    fn add(&self, cell: Cell, events: i64) {
        self.table.table.borrow_mut().add(self.slot, cell, events, rt::now());
        self.base.stick_changed(&self.table);
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let now = rt::now();
        let mut table = self.table.table.borrow_mut();
        table.add(self.slot, Cell::of(Data::ConnCur), -1, now);
        table.release(self.slot, now);
        drop(table);
        self.base.stick_changed(&self.table);
    }
}

/// A server that is to be remembered once it answered.
struct Store {
    table: TableId,
    key: Key,
    /// The one that the table named when the request was asked about.
    known: Option<ServerId>,
}

/// What the counters of a session track; made when the first of them does.
#[derive(Default)]
pub(super) struct Counters {
    /// For as long as the connection lasts.
    session: RefCell<[Option<Tracked>; STICK_COUNTERS]>,
    /// For as long as the request lasts.
    stream: RefCell<[Option<Tracked>; STICK_COUNTERS]>,
    /// Under which keys the server of the request is to be remembered.
    stores: RefCell<SmallVec<[Store; 1]>>,
}

/// How long a counter tracks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Span {
    /// Until the connection is over.
    Session,
    /// Until the stream is.
    Stream,
    /// The same, of a request: it is counted.
    Request,
}

/// Where the counters of a session are; empty as long as nothing tracks.
pub(super) type CountersCell = OnceCell<Box<Counters>>;

impl Info {
    /// Lets something look at what a counter tracks: for the request, or for the connection.
    fn with_tracked<R>(&self, counter: u8, look: impl FnOnce(&Tracked) -> R) -> Option<R> {
        let at = usize::from(counter);
        if let Some(own) = self.counters.get() {
            if let Some(tracked) = &own.stream.borrow()[at] {
                return Some(look(tracked));
            }
            if let Some(tracked) = &own.session.borrow()[at] {
                return Some(look(tracked));
            }
        }
        let session = self.shared()?.counters.get()?.session.borrow();
        session[at].as_ref().map(look)
    }

    fn counts_nothing(&self) -> bool {
        self.counters.get().is_none() && self.shared().is_none_or(|shared| shared.counters.get().is_none())
    }

    /// Counts events for all that is tracked.
    pub(super) fn count_tracked(&self, cells: [Data; 2], events: u64) {
        if self.counts_nothing() {
            return;
        }
        let events = i64::try_from(events).unwrap_or(i64::MAX);
        for counter in 0..STICK_COUNTERS {
            let counter = u8::try_from(counter).expect("few");
            self.with_tracked(counter, |tracked| {
                cells.iter().for_each(|data| tracked.add(Cell::of(*data), events));
            });
        }
    }

    /// Counts bytes from the client.
    pub(super) fn count_tracked_in(&self, bytes: u64) {
        self.count_tracked([Data::BytesInCnt, Data::BytesInRate], bytes);
    }

    /// Counts bytes to the client.
    pub(super) fn count_tracked_out(&self, bytes: u64) {
        self.count_tracked([Data::BytesOutCnt, Data::BytesOutRate], bytes);
    }

    /// A request is over: what was tracked for it is not any more.
    pub(super) fn forget_stream_counters(&self) {
        if let Some(counters) = self.counters.get() {
            // Dropped when nothing is borrowed: each tells its table.
            let tracked = counters.stream.take();
            counters.stores.borrow_mut().clear();
            drop(tracked);
        }
    }
}

impl Session {
    /// A rule that counts.
    pub(super) fn stick_action(
        &self,
        action: &StickAction,
        (first, message): (FirstBytes<'_>, Message<'_>),
        span: Span,
    ) {
        let (counter, cell, amount) = match action {
            StickAction::Track { counter, table, key } => {
                return self.track(*counter, *table, key, (first, message), span);
            }
            StickAction::Add { counter, cell, amount } | StickAction::Set { counter, cell, amount } => {
                (*counter, *cell, amount)
            }
        };
        let number = match amount {
            Amount::Fixed(number) => Some(*number),
            Amount::Expr(expr) => self.with_facts(first, message, |facts, scratch| {
                expr.eval(facts, scratch).value.and_then(|value| value.as_int())
            }),
        };
        let Some(number) = number.filter(|number| *number >= 0) else { return };
        let is_set = matches!(action, StickAction::Set { .. });
        self.info.with_tracked(counter, |tracked| match is_set {
            true => {
                let value = u64::try_from(number).unwrap_or(0);
                tracked.table.table.borrow_mut().set(tracked.slot, cell, value, rt::now());
                self.core.base().stick_changed(&tracked.table);
            }
            false => increase(cell).for_each(|cell| tracked.add(cell, number)),
        });
    }

    fn track(
        &self,
        counter: u8,
        table: TableId,
        key: &Expr,
        (first, message): (FirstBytes<'_>, Message<'_>),
        span: Span,
    ) {
        let counters = self.info.counters.get_or_init(Box::default);
        let place = if span == Span::Session { &counters.session } else { &counters.stream };
        if place.borrow()[usize::from(counter)].is_some() {
            return;
        }
        let table = &self.core.tables[table];
        let Some(key) = self.key_of(table, key, first, message) else { return };
        let now = rt::now();
        let mut entries = table.table.borrow_mut();
        // Without room it is not counted.
        let Ok(slot) = entries.entry(&key, now) else { return };
        entries.hold(slot, now);
        for data in [Data::ConnCnt, Data::ConnCur, Data::ConnRate] {
            entries.add(slot, Cell::of(data), 1, now);
        }
        if span == Span::Request {
            for data in [Data::HttpReqCnt, Data::HttpReqRate] {
                entries.add(slot, Cell::of(data), 1, now);
            }
        }
        drop(entries);
        self.core.base().stick_changed(table);
        let tracked = Tracked { base: self.core.base().clone(), table: table.clone(), slot };
        place.borrow_mut()[usize::from(counter)] = Some(tracked);
    }

    fn key_of(
        &self,
        table: &StickTable,
        key: &Expr,
        first: FirstBytes<'_>,
        message: Message<'_>,
    ) -> Option<Key> {
        let kind = table.table.borrow().spec().kind;
        self.with_facts(first, message, |facts, scratch| {
            key.eval(facts, scratch).value.and_then(|value| kind.key(value))
        })
    }

    /// The connection is let in by its rules.
    pub(super) fn count_session(&self) {
        self.info.count_tracked([Data::SessCnt, Data::SessRate], 1);
    }

    /// A request is here.
    pub(super) fn count_http_request(&self) {
        self.info.count_tracked([Data::HttpReqCnt, Data::HttpReqRate], 1);
    }

    /// A request is malformed or refused, or a server says that it is wrong.
    pub(super) fn count_http_error(&self) {
        self.info.count_tracked([Data::HttpErrCnt, Data::HttpErrRate], 1);
    }

    /// A server failed a request.
    pub(super) fn count_http_failure(&self) {
        self.info.count_tracked([Data::HttpFailCnt, Data::HttpFailRate], 1);
    }

    /// A server answered with this status.
    pub(super) fn count_http_status(&self, status: u16) {
        match status {
            400..=499 => self.count_http_error(),
            501 | 505 => {}
            500..=599 => self.count_http_failure(),
            _ => {}
        }
    }

    /// The persistence rules of a backend on a request: the server that one of them knows, unless `is_chosen`. Keys under
    /// which the server is to be remembered are kept until there is one.
    pub(super) fn stick_request(
        &self,
        backend: BackendId,
        (first, message): (FirstBytes<'_>, Message<'_>),
        is_chosen: bool,
    ) -> Option<ServerId> {
        let rules = &self.core.model.backends[backend].stick;
        let mut server = None;
        for rule in rules {
            let wants_server = rule.action.when.matches() && server.is_none() && !is_chosen;
            if !(wants_server || rule.action.when.stores_request())
                || !self.stick_applies(rule, (first, message))
            {
                continue;
            }
            self.hit(rule);
            let table = &self.core.tables[rule.action.table];
            let Some(key) = self.key_of(table, &rule.action.key, first, message) else { continue };
            let known = if wants_server { self.remembered(backend, table, &key) } else { None };
            server = server.or(known);
            if rule.action.when.stores_request() {
                self.keep_store(rule.action.table, key, known);
            }
        }
        server
    }

    fn stick_applies(&self, rule: &Rule<Stick>, (first, message): (FirstBytes<'_>, Message<'_>)) -> bool {
        let Some(condition) = &rule.condition else { return true };
        let truth = self.with_facts(first, message, |facts, scratch| condition.eval(facts, scratch));
        truth == Truth::True
    }

    /// The server of a backend that a table knows for a key.
    fn remembered(&self, backend: BackendId, table: &Rc<StickTable>, key: &Key) -> Option<ServerId> {
        let now = rt::now();
        let mut entries = table.table.borrow_mut();
        let slot = entries.find(key, now)?;
        let mark = entries.read(slot, Cell::of(Data::ServerId), now).filter(|mark| *mark != 0)?;
        entries.touch(slot, now);
        drop(entries);
        self.core.base().stick_changed(table);
        let model = &self.core.model;
        model.backends[backend].servers.iter().find(|server| model.servers[*server].mark == mark)
    }

    fn keep_store(&self, table: TableId, key: Key, known: Option<ServerId>) {
        let mut stores = self.info.counters.get_or_init(Box::default).stores.borrow_mut();
        // As in HAProxy the first rule for a table counts.
        if stores.len() < STICK_STORES_MAX && stores.iter().all(|other| other.table != table) {
            stores.push(Store { table, key, known });
        }
    }

    /// A server answered, or in TCP mode it is connected: it is remembered.
    pub(super) fn stick_store(&self, server: ServerId) {
        let Some(counters) = self.info.counters.get() else { return };
        let stores = std::mem::take(&mut *counters.stores.borrow_mut());
        for Store { table, key, known } in stores {
            self.remember(table, &key, server, known);
        }
    }

    /// A request that went to the server that the table named (`known`) says nothing new: what an operator or another core set meanwhile
    /// stays.
    fn remember(&self, table: TableId, key: &Key, server: ServerId, known: Option<ServerId>) {
        let table = &self.core.tables[table];
        let (now, mark, cell) = (rt::now(), self.core.model.servers[server].mark, Cell::of(Data::ServerId));
        let mut entries = table.table.borrow_mut();
        let Ok(slot) = entries.entry(key, now) else { return };
        entries.touch(slot, now);
        let there = entries.read(slot, cell, now).filter(|mark| *mark != 0);
        let is_newer = there.is_some() && known == Some(server);
        if there != Some(mark) && !is_newer {
            entries.set(slot, cell, mark, now);
        }
        drop(entries);
        self.core.base().stick_changed(table);
    }

    /// The persistence rules of a backend on a response.
    pub(super) fn stick_response(&self, backend: BackendId, server: ServerId, message: Message<'_>) {
        self.stick_store(server);
        let first = FirstBytes { data: &[], complete: true };
        for rule in &self.core.model.backends[backend].stick {
            if rule.action.when != StickWhen::StoreResponse || !self.stick_applies(rule, (first, message)) {
                continue;
            }
            self.hit(rule);
            let table = &self.core.tables[rule.action.table];
            if let Some(key) = self.key_of(table, &rule.action.key, first, message) {
                self.remember(rule.action.table, &key, server, None);
            }
        }
    }

    /// What expressions read.
    pub(super) fn stick_fact(&self, entry: Entry<'_>, read: Read) -> Option<u64> {
        match entry {
            Entry::Counter(_, _) if read == Read::Tracked => {
                let Entry::Counter(counter, _) = entry else { return None };
                Some(u64::from(self.info.with_tracked(counter, |_| ()).is_some()))
            }
            Entry::Counter(counter, None) => self
                .info
                .with_tracked(counter, |tracked| {
                    let found = Found { table: &tracked.table, slot: Some(tracked.slot), key: None };
                    self.core.read_stick(found, read)
                })
                .flatten(),
            Entry::Counter(counter, Some(table)) => {
                let key = self.info.with_tracked(counter, |tracked| {
                    tracked.table.table.borrow().key(tracked.slot).clone()
                })?;
                self.core.read_key(table, &key, read)
            }
            Entry::Key(table, value) => self.core.read_value(table, value, read),
        }
    }
}

/// An entry, or none, that something is read from.
struct Found<'a> {
    table: &'a Rc<StickTable>,
    slot: Option<Slot>,
    /// For one that has to be made.
    key: Option<&'a Key>,
}

/// What an increase of a counter concerns: itself, and its rate.
fn increase(cell: Cell) -> impl Iterator<Item = Cell> {
    let rate = match cell.data {
        Data::Gpc => Some(Data::GpcRate),
        Data::ConnCnt => Some(Data::ConnRate),
        _ => None,
    };
    std::iter::once(cell).chain(rate.map(|data| Cell { data, index: cell.index }))
}

impl Core {
    fn read_value(&self, table: TableId, value: Value<'_>, read: Read) -> Option<u64> {
        let kind = self.tables[table].table.borrow().spec().kind;
        self.read_key(table, &kind.key(value)?, read)
    }

    fn read_key(&self, table: TableId, key: &Key, read: Read) -> Option<u64> {
        let table = &self.tables[table];
        let slot = table.table.borrow().find(key, rt::now());
        self.read_stick(Found { table, slot, key: Some(key) }, read)
    }

    fn read_stick(&self, found: Found<'_>, read: Read) -> Option<u64> {
        let now = rt::now();
        let Found { table, slot, key } = found;
        let entries = table.table.borrow();
        let value = |cell: Cell| {
            let is_kept = entries.spec().store.iter().any(|store| store.cell == cell);
            is_kept.then(|| slot.and_then(|slot| entries.read(slot, cell, now)).unwrap_or(0))
        };
        match read {
            Read::Exists | Read::Tracked => Some(u64::from(slot.is_some())),
            Read::Trackers => Some(slot.map_or(0, |slot| entries.uses(slot).into())),
            Read::Value(cell) if cell.data == Data::ServerId => {
                let mark = value(cell)?;
                Some(self.server_number(&entries, mark))
            }
            Read::Value(cell) => value(cell),
            Read::Kilo(cell) => value(cell).map(|bytes| bytes >> 10),
            Read::Increment(cell) => {
                increase(cell).find_map(&value)?;
                drop(entries);
                let mut entries = table.table.borrow_mut();
                let slot = match slot {
                    Some(slot) => slot,
                    None => entries.entry(key?, now).ok()?,
                };
                entries.touch(slot, now);
                increase(cell).for_each(|cell| entries.add(slot, cell, 1, now));
                let after = entries.read(slot, cell, now).unwrap_or(1);
                drop(entries);
                self.base().stick_changed(table);
                Some(after)
            }
            Read::Clear(cell) => {
                let before = value(cell)?;
                drop(entries);
                if let Some(slot) = slot.filter(|_| before != 0) {
                    table.table.borrow_mut().set(slot, cell, 0, now);
                    self.base().stick_changed(table);
                }
                Some(before)
            }
        }
    }

    /// The number of the server that a mark stands for, in the backend of the table.
    fn server_number(&self, entries: &Table, mark: u64) -> u64 {
        let Some(backend) = entries.spec().backend else { return 0 };
        let Some(backend) = self.model.backends.get(backend) else { return 0 };
        let servers = backend.servers.iter().map(|server| &self.model.servers[server]);
        servers.into_iter().find(|server| server.mark == mark).map_or(0, |server| server.sid.into())
    }
}

impl CoreBase {
    /// A table may have changes that the others have to hear of: they do so soon, together with those of the next milliseconds.
    pub(super) fn stick_changed(self: &Rc<Self>, table: &StickTable) {
        if self.peers.len() < 2 || self.stick_due.get() || !table.table.borrow().has_changes() {
            return;
        }
        self.stick_due.set(true);
        let base = self.clone();
        rt::spawn(async move {
            rt::sleep_until(rt::now() + STICK_SHARE_EVERY).await;
            base.share_stick();
        });
    }

    /// Tells the others what happened in tables.
    pub(super) fn share_stick(&self) {
        self.stick_due.set(false);
        if self.peers.len() < 2 {
            return;
        }
        let mut changes: Changes = Vec::new();
        for core in self.all() {
            for table in core.tables.values() {
                let told = table.table.borrow_mut().take_changes();
                if !told.is_empty() {
                    changes.push((table.name.clone(), told));
                }
            }
        }
        if changes.is_empty() {
            return;
        }
        let changes = Arc::new(changes);
        for (at, peer) in self.peers.iter().enumerate() {
            if at != self.id.0 as usize {
                peer.send(ToCore::Stick(changes.clone()));
            }
        }
    }

    /// Takes over what another core told.
    pub(super) fn take_stick(&self, changes: &Changes) {
        let core = self.current();
        for (name, told) in changes {
            if let Some(table) = core.tables.values().find(|table| table.name == *name) {
                table.table.borrow_mut().apply(told, rt::now());
            }
        }
    }
}

//! The lines of `show stat`: which there are, in which order, and what each is made of. Facts about the objects are `facts`'s, sums
//! the collector's.

use std::rc::Rc;
use std::time::Duration;

use ahash::AHashMap;

use crate::base::id::{BackendId, FrontendId, IdVec, ListenerId, ServerId};
use crate::base::limits::STATISTICS_LINES_A_TURN;
use crate::base::time::Now;
use crate::control::cli::Asked;
use crate::control::core::{Control, ControlBase};
use crate::model::Mode;
use crate::rt;
use crate::stats::collector::Collector;
use crate::stats::counters::{Backend, Frontend, Kind, Listener, Server};
use crate::stats::history::{ObjectKey, Past};
use crate::stats::latency::{Histograms, Laps, Latency, Window, summed_up};
use crate::stats::render::Filter;
use crate::stats::snapshot::{Entry, Facts, Snapshot};
use crate::stats::sums::Sums;
use crate::stats::table::Object;
use crate::stats::timers::Lap;

/// Times that an answer begins again because another configuration took over; after them it is written in one go.
const RESTARTS: usize = 3;

/// What `show stat` answers. Other tasks of this core have their turn between the lines of thousands of servers.
pub(super) async fn text(base: &ControlBase, asked: &Asked) -> String {
    for attempt in 0..=RESTARTS {
        let control = base.current();
        let past = match asked.ago.map(|ago| control.past(ago)).transpose() {
            Ok(past) => past,
            Err(oldest) => return format!("The history goes back {} seconds.", oldest.as_secs()),
        };
        let (form, filter, mut out) = (asked.form, &asked.filter, String::new());
        let mut lines = control.lines(asked.window, filter);
        form.begin(&mut out);
        let is_complete = loop {
            let print = &mut |entry: &Entry, now| form.line(entry, now, filter, &mut out);
            if !control.take_lines(&mut lines, past.as_ref(), STATISTICS_LINES_A_TURN, print) {
                break true;
            }
            if attempt < RESTARTS {
                rt::yield_now().await;
                // Its numbers name others now.
                if !Rc::ptr_eq(&control, &base.current()) {
                    break false;
                }
            }
        };
        if is_complete {
            form.end(&mut out);
            return out;
        }
    }
    String::new()
}

/// Names a line of `show stat`.
#[derive(Clone, Copy)]
enum Line {
    Frontend(FrontendId),
    Listener(ListenerId),
    Server(ServerId),
    Backend(BackendId),
}

/// The lines of one answer, in their order.
pub(super) struct Lines {
    /// With what sorts them.
    all: Vec<((u32, u8, u32), Line)>,
    next: usize,
    laps: Rc<Percentiles>,
    now: Now,
    /// The last one: the next is written in its place, so that lines allocate nothing.
    entry: Entry,
}

impl Control {
    /// The statistics of the lines that a filter may choose, with percentiles over a window of time.
    pub(super) fn snapshot(&self, window: Window, wanted: &Filter) -> Snapshot {
        let mut lines = self.lines(window, wanted);
        let mut entries = Vec::with_capacity(lines.all.len());
        self.take_lines(&mut lines, None, usize::MAX, &mut |entry, _| entries.push(entry.clone()));
        let sums = self.collector.borrow().process_sums();
        Snapshot::new(rt::now(), self.process_facts(), sums, entries)
    }

    /// All counters as they were some time ago.
    ///
    /// # Errors
    /// The history does not go back so far; how far it does.
    fn past(&self, ago: Duration) -> Result<Past, Duration> {
        let (now, history) = (rt::now(), self.history.borrow());
        history.at(now - ago).ok_or_else(|| history.oldest(now))
    }

    /// The lines that a filter may choose.
    fn lines(&self, window: Window, wanted: &Filter) -> Lines {
        let all = self.chosen(wanted);
        let laps = if all.is_empty() { Rc::default() } else { self.percentiles(window) };
        Lines { all, next: 0, laps, now: rt::now(), entry: Entry::nothing() }
    }

    /// Hands out the next lines one by one, at most so many. False: those were all.
    fn take_lines(
        &self,
        lines: &mut Lines,
        past: Option<&Past>,
        max: usize,
        take: &mut dyn FnMut(&Entry, Now),
    ) -> bool {
        let collector = self.collector.borrow();
        let Lines { all, next, laps, now, entry } = lines;
        let end = all.len().min(next.saturating_add(max));
        for (_, line) in &all[*next..end] {
            self.fill(*line, laps, &collector, past, entry);
            take(entry, *now);
        }
        *next = end;
        end < all.len()
    }

    fn chosen(&self, wanted: &Filter) -> Vec<((u32, u8, u32), Line)> {
        let (model, mut lines) = (&self.model, Vec::new());
        let mut add = |name: &str, line: Line, object, (iid, sid)| {
            if wanted.chooses(object, (iid, name), sid) {
                lines.push((Snapshot::order(object, iid, sid), line));
            }
        };
        for (id, frontend) in model.frontends.iter() {
            add(&frontend.name, Line::Frontend(id), Object::Frontend, (frontend.iid, 0));
        }
        for (id, bind) in model.binds.iter() {
            let frontend = &model.frontends[bind.frontend];
            add(&frontend.name, Line::Listener(id), Object::Listener, (frontend.iid, bind.sid));
        }
        for (id, backend) in model.backends.iter().filter(|(_, backend)| !backend.is_internal()) {
            for server in backend.servers.iter() {
                let numbers = (backend.iid, model.servers[server].sid);
                add(&backend.name, Line::Server(server), Object::Server, numbers);
            }
            add(&backend.name, Line::Backend(id), Object::Backend, (backend.iid, 0));
        }
        lines.sort_by_key(|(order, _)| *order);
        lines
    }

    /// Puts a line in the place of another.
    fn fill(
        &self,
        line: Line,
        laps: &Percentiles,
        collector: &Collector,
        past: Option<&Past>,
        entry: &mut Entry,
    ) {
        let model = &self.model;
        entry.latency = None;
        let (proxy, name, iid, sid, mode) = match line {
            Line::Frontend(id) => {
                let frontend = &model.frontends[id];
                entry.facts = Facts::Frontend(self.frontend_facts(id));
                sum_up::<Frontend>(collector, id, past, &mut entry.sums);
                (&frontend.name, "", frontend.iid, 0, frontend.mode)
            }
            Line::Listener(id) => {
                let (bind, frontend) = (&model.binds[id], &model.frontends[model.binds[id].frontend]);
                entry.facts = Facts::Listener(self.listener_facts(id));
                sum_up::<Listener>(collector, id, past, &mut entry.sums);
                (&frontend.name, bind.name.as_str(), frontend.iid, bind.sid, frontend.mode)
            }
            Line::Server(id) => {
                let (server, backend) = (&model.servers[id], &model.backends[model.servers[id].backend]);
                match &mut entry.facts {
                    Facts::Server(facts) => **facts = self.server_facts_in(id, std::mem::take(facts)),
                    facts => *facts = Facts::Server(Box::new(self.server_facts(id))),
                }
                entry.latency = laps.servers.get(id).cloned().flatten();
                sum_up::<Server>(collector, id, past, &mut entry.sums);
                (&backend.name, server.name.as_str(), backend.iid, server.sid, backend.mode)
            }
            Line::Backend(id) => {
                let backend = &model.backends[id];
                entry.facts = Facts::Backend(self.backend_facts(id));
                entry.latency = laps.backends.get(id).cloned().flatten();
                sum_up::<Backend>(collector, id, past, &mut entry.sums);
                (&backend.name, "", backend.iid, 0, backend.mode)
            }
        };
        refill(&mut entry.proxy, proxy);
        refill(&mut entry.name, name);
        (entry.iid, entry.sid, entry.http) = (iid, sid, mode == Mode::Http);
    }

    /// Adds this second to the history.
    pub(super) fn note_history(&self, now: Now) {
        let objects = self.collector.borrow().kept();
        // Only the time that a frame is long is asked for, and most frames are a second long.
        let mut known: [Option<AHashMap<ObjectKey, (u64, u64)>>; 3] = Default::default();
        let mut history = self.history.borrow_mut();
        for (place, (seconds, window)) in
            known.iter_mut().zip([(1, None), (10, Some(Window::TenSeconds)), (60, Some(Window::Minute))])
        {
            if !objects.is_empty() && history.ends_frame(seconds) {
                *place = Some(self.total_percentiles(window));
            }
        }
        history.tick(now, &objects, |seconds, key| {
            let at = [1, 10, 60].iter().position(|s| *s == seconds)?;
            known[at].as_ref()?.get(&key).copied()
        });
    }

    /// p50 and p99 of the total time, over a window or the last second.
    fn total_percentiles(&self, window: Option<Window>) -> AHashMap<ObjectKey, (u64, u64)> {
        let latency = self.latency.borrow();
        let mut reader = window.map_or_else(|| latency.last_second(), |window| latency.window(window));
        let mut found = AHashMap::new();
        if reader.is_empty() {
            return found;
        }
        let (own, all) = &mut *self.room.borrow_mut();
        let total = |laps: Laps| (laps[Lap::Total as usize].p50.into(), laps[Lap::Total as usize].p99.into());
        for (id, backend) in self.model.backends.iter() {
            let mut any = false;
            for server in backend.servers.iter() {
                let row = self.cells.servers[server].row();
                if reader.add(row, &mut [&mut *own, &mut *all]) {
                    any = true;
                    found.insert(ObjectKey::new(Object::Server, row), total(summed_up(own)));
                }
            }
            if any {
                let key = ObjectKey::new(Object::Backend, self.cells.backends[id].row());
                found.insert(key, total(summed_up(all)));
            }
        }
        found
    }

    /// Percentiles of all servers and backends that have any. They move with the ticks: whoever asks in between gets the same.
    fn percentiles(&self, window: Window) -> Rc<Percentiles> {
        let latency = self.latency.borrow();
        let key = (window, latency.ticks());
        let mut kept = self.percentiles.borrow_mut();
        if let Some((of, percentiles)) = &*kept
            && *of == key
        {
            return percentiles.clone();
        }
        let found = Rc::new(self.find_percentiles(&latency, window));
        *kept = Some((key, found.clone()));
        found
    }

    fn find_percentiles(&self, latency: &Latency, window: Window) -> Percentiles {
        let mut reader = latency.window(window);
        let (mut own, mut all) = (Histograms::default(), Histograms::default());
        let mut found = Percentiles::default();
        for backend in self.model.backends.values() {
            let mut any = false;
            for id in backend.servers.iter() {
                let row = self.cells.servers[id].row();
                let here = reader.add(row, &mut [&mut own, &mut all]);
                any |= here;
                found.servers.push(here.then(|| Rc::new(summed_up(&mut own))));
            }
            found.backends.push(any.then(|| Rc::new(summed_up(&mut all))));
        }
        found
    }
}

/// Sums now, or as they were.
fn sum_up<K: Kind>(collector: &Collector, id: K::Id, past: Option<&Past>, sums: &mut Sums) {
    match past {
        None => collector.sum_up::<K>(id, sums),
        Some(past) => collector.past_sum_up::<K>(id, past, sums),
    }
}

/// Another text in the room of one.
pub(super) fn refill(room: &mut String, text: &str) {
    room.clear();
    room.push_str(text);
}

/// Percentiles with the window and the tick they belong to.
pub(super) type KeptPercentiles = Option<((Window, u64), Rc<Percentiles>)>;

/// Percentiles of what has some.
#[derive(Default)]
pub(super) struct Percentiles {
    servers: IdVec<ServerId, Option<Rc<Laps>>>,
    backends: IdVec<BackendId, Option<Rc<Laps>>>,
}

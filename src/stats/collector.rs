//! Sums over cores, and what only time tells: rates, maxima of sums, averages. Pure: the control core calls
//! [`Collector::tick`] about once a second and [`Collector::sums`] when somebody asks.
//!
//! `clear counters` cannot write the cores' cells, so it remembers where the counters stood.

use std::array;

use crate::base::id::{Id, IdVec};
use crate::base::time::Now;
use crate::stats::counters::{self, Backend, Frontend, Kind, Listener, Origins, Server, Shard};
use crate::stats::history::{self, ObjectKey, Past, Values};
use crate::stats::process::{self, CORE_CELLS, CORE_TABLE, CoreStat};
use crate::stats::series::{Rate, Reading, Series, TIMES};
use crate::stats::sums::{self, Sums, level};
use crate::stats::table::{Object, Stat, Store, TABLE};

/// Reads the shards of all cores.
#[derive(Debug)]
pub struct Collector {
    shards: Vec<Shard>,
    /// How many of them belong to data cores; the rest (the control core) does not count for `Idle_pct`.
    data_cores: usize,
    /// History of each object, by `Object as usize`, then id.
    series: [Vec<Series>; 4],
    process: ProcessSeries,
    ticked: Now,
    /// The history has to hear of some object.
    is_any_told: bool,
}

#[derive(Clone, Debug, Default)]
struct ProcessSeries {
    connections: Rate,
    sessions: Rate,
    tls: Rate,
    client_keys: Rate,
    server_keys: Rate,
    bytes_out: Rate,
    /// Time that each core had slept at the last tick.
    idle_ns: Vec<u64>,
    /// Percent of the time between the last ticks that each was busy.
    loads: Vec<u8>,
    idle_percent: u64,
}

/// All numbers of the process that come from counting.
#[derive(Clone, Debug)]
pub struct ProcessSums {
    /// Sums over cores, by `CoreStat as usize`.
    pub totals: [u64; CORE_CELLS],
    /// Connections accepted during the last second, and the most so far.
    pub connection_rate: (u64, u64),
    /// Sessions started during the last second, and the most so far.
    pub session_rate: (u64, u64),
    /// TLS connections during the last second, and the most so far.
    pub tls_rate: (u64, u64),
    /// Full TLS handshakes with clients during the last second, and the most so far.
    pub client_key_rate: (u64, u64),
    /// The same with servers.
    pub server_key_rate: (u64, u64),
    /// Bytes sent during the last second.
    pub bytes_out_rate: u64,
    /// Percent of the last second that the data cores spent blocked.
    pub idle_percent: u64,
}

impl ProcessSums {
    /// One of the sums.
    pub fn get(&self, stat: CoreStat) -> u64 {
        self.totals[stat as usize]
    }
}

impl Collector {
    /// Reads these shards: those of the data cores first, then others. `now` starts the first second.
    pub fn new(shards: Vec<Shard>, data_cores: usize, now: Now) -> Collector {
        fn series<K: Kind>(shards: &[Shard]) -> Vec<Series> {
            vec![Series::default(); shards.first().map_or(0, |shard| K::of(shard).len())]
        }
        let mut all = array::from_fn(|_| Vec::new());
        all[Object::Frontend as usize] = series::<Frontend>(&shards);
        all[Object::Backend as usize] = series::<Backend>(&shards);
        all[Object::Server as usize] = series::<Server>(&shards);
        all[Object::Listener as usize] = series::<Listener>(&shards);
        Collector {
            shards,
            data_cores,
            series: all,
            process: ProcessSeries::default(),
            ticked: now,
            is_any_told: false,
        }
    }

    /// Goes on with the shards of the next model; objects that stay keep their rates, maxima and baselines.
    pub fn reload(&mut self, shards: Vec<Shard>, origins: &Origins) {
        self.shards = shards;
        let mut old = std::mem::take(&mut self.series);
        fn carry<I: Id>(old: &mut Vec<Series>, origins: &IdVec<I, Option<I>>) -> Vec<Series> {
            let stays =
                |(id, origin): (I, &Option<I>)| origin.is_some_and(|origin| origin.index() == id.index());
            if old.len() == origins.len() && origins.iter().all(stays) {
                return std::mem::take(old);
            }
            // An object is the origin of one other at most.
            let mut take = |origin: I| old.get_mut(origin.index()).map(std::mem::take);
            origins.values().map(|origin| origin.and_then(&mut take).unwrap_or_default()).collect()
        }
        self.series[Object::Frontend as usize] =
            carry(&mut old[Object::Frontend as usize], &origins.frontends);
        self.series[Object::Backend as usize] = carry(&mut old[Object::Backend as usize], &origins.backends);
        self.series[Object::Server as usize] = carry(&mut old[Object::Server as usize], &origins.servers);
        self.series[Object::Listener as usize] =
            carry(&mut old[Object::Listener as usize], &origins.listeners);
    }

    /// Once a second: rates and averages of the time since the last call, and samples of the levels.
    pub fn tick(&mut self, now: Now) {
        let elapsed_ns = now.0.saturating_sub(self.ticked.0);
        if elapsed_ns == 0 {
            return;
        }
        self.ticked = now;
        self.is_any_told = false;
        self.tick_objects::<Frontend>(now, elapsed_ns);
        self.tick_objects::<Backend>(now, elapsed_ns);
        self.tick_objects::<Server>(now, elapsed_ns);
        self.tick_objects::<Listener>(now, elapsed_ns);

        use CoreStat::{ConnectionsTotal, SessionsTotal, TlsClientKeys, TlsServerKeys, TlsTotal};
        let [connections, sessions, tls, client_keys, server_keys, bytes_out] =
            [ConnectionsTotal, SessionsTotal, TlsTotal, TlsClientKeys, TlsServerKeys, CoreStat::BytesOut]
                .map(|stat| self.total(stat));
        self.process.connections.tick(connections, elapsed_ns);
        self.process.sessions.tick(sessions, elapsed_ns);
        self.process.tls.tick(tls, elapsed_ns);
        self.process.client_keys.tick(client_keys, elapsed_ns);
        self.process.server_keys.tick(server_keys, elapsed_ns);
        self.process.bytes_out.tick(bytes_out, elapsed_ns);
        self.tick_idle(elapsed_ns);
    }

    fn tick_idle(&mut self, elapsed_ns: u64) {
        let percent = |slept_ns: u64, elapsed_ns: u64| (slept_ns.saturating_mul(100) / elapsed_ns).min(100);
        let ProcessSeries { idle_ns, loads, .. } = &mut self.process;
        idle_ns.resize(self.shards.len(), 0);
        loads.resize(self.shards.len(), 0);
        let (mut of_data_cores, data_cores) = (0, self.data_cores.min(self.shards.len()));
        for (core, shard) in self.shards.iter().enumerate() {
            let idle = process::idle_ns(shard.core.get(CoreStat::IdleNs), self.ticked);
            // What a core said last may be older than a tick, so that it seems to have slept longer, or backwards.
            let slept = idle.saturating_sub(std::mem::replace(&mut idle_ns[core], idle));
            loads[core] = 100 - u8::try_from(percent(slept, elapsed_ns)).unwrap_or(100);
            if core < data_cores {
                of_data_cores += slept;
            }
        }
        self.process.idle_percent = percent(of_data_cores, elapsed_ns * data_cores.max(1) as u64);
    }

    /// Percent of the last second that each core was busy, in the order of the shards.
    pub fn loads(&self) -> &[u8] {
        &self.process.loads
    }

    fn tick_objects<K: Kind>(&mut self, now: Now, elapsed_ns: u64) {
        let mut all = std::mem::take(&mut self.series[K::OBJECT as usize]);
        for (index, series) in all.iter_mut().enumerate() {
            let id = K::Id::from_index(index);
            // First: what happens while the rest is read is the next tick's too.
            let fingerprint =
                self.cells::<K>(id).fold(0u64, |sum, cells| sum.wrapping_add(cells.fingerprint()));
            if series.stirs(fingerprint) {
                series.tick(now, elapsed_ns, &self.read::<K>(id));
            }
            self.is_any_told |= series.is_told();
        }
        self.series[K::OBJECT as usize] = all;
    }

    fn read<K: Kind>(&self, id: K::Id) -> Reading {
        let stores = |stat: Stat| stat.row().objects.contains(K::OBJECT);
        let sum = |stat: Stat| if stores(stat) { self.sum::<K>(id, stat) } else { 0 };
        let samples =
            |stat: Stat| self.cells::<K>(id).fold(0u64, |n, cells| n.wrapping_add(cells.samples(stat)));
        Reading {
            sessions: sum(Stat::SessionsTotal),
            connections: sum(Stat::Connections),
            requests: sum(Stat::Requests),
            sessions_now: level(sum(Stat::SessionsCur)),
            queue_now: level(sum(Stat::QueueCur)),
            times: TIMES.map(|stat| if stores(stat) { (sum(stat), samples(stat)) } else { (0, 0) }),
        }
    }

    /// `clear counters`: forgets maxima, and with `all` starts every counter from zero.
    pub fn clear(&mut self, all: bool) {
        self.clear_objects::<Frontend>(all);
        self.clear_objects::<Backend>(all);
        self.clear_objects::<Server>(all);
        self.clear_objects::<Listener>(all);
        let ProcessSeries { connections, sessions, tls, client_keys, server_keys, .. } = &mut self.process;
        for rate in [connections, sessions, tls, client_keys, server_keys] {
            rate.max = 0;
        }
    }

    fn clear_objects<K: Kind>(&mut self, all: bool) {
        for index in 0..self.series[K::OBJECT as usize].len() {
            let id = K::Id::from_index(index);
            for row in TABLE.iter().filter(|r| r.store == Store::Max && r.objects.contains(K::OBJECT)) {
                self.cells::<K>(id).for_each(|cells| cells.clear_max(row.stat));
            }
            let baseline = all.then(|| {
                let mut rows = vec![0; TABLE.len()];
                self.raw_rows::<K>(id, &mut rows);
                rows
            });
            let series = &mut self.series[K::OBJECT as usize][index];
            series.forget_maxima();
            if let Some(baseline) = baseline {
                series.baseline = baseline;
            }
        }
    }

    /// The shards it reads: those of the data cores, then others.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// How many objects of a kind there are.
    pub fn count<K: Kind>(&self) -> usize {
        self.series[K::OBJECT as usize].len()
    }

    /// The numbers of one object, over all cores.
    pub fn sums<K: Kind>(&self, id: K::Id) -> Sums {
        let mut sums = Sums::nothing();
        self.sum_up::<K>(id, &mut sums);
        sums
    }

    /// The same in place of what was there: whoever goes through thousands of objects needs room for one.
    pub fn sum_up<K: Kind>(&self, id: K::Id, sums: &mut Sums) {
        let series = &self.series[K::OBJECT as usize][id.index()];
        (sums.object, sums.last_session, sums.is_past) = (K::OBJECT, series.last_session, false);
        let rows = &mut sums.rows[..];
        self.raw_rows::<K>(id, rows);
        if !series.baseline.is_empty() {
            for row in TABLE.iter().filter(|row| row.store == Store::Count) {
                let baseline = series.baseline.get(row.stat as usize).copied().unwrap_or(0);
                let value = &mut rows[row.stat as usize];
                *value = value.wrapping_sub(baseline);
            }
        }
        let mut set = |stat: Stat, value: u64| rows[stat as usize] = value;
        series.averages().for_each(|(stat, ms)| set(stat, ms));
        set(Stat::Rate, series.sessions.now);
        set(Stat::RateMax, series.sessions.max);
        set(Stat::RequestRate, series.requests.now);
        set(Stat::RequestRateMax, series.requests.max);
        set(Stat::ConnectionRate, series.connections.now);
        set(Stat::ConnectionRateMax, series.connections.max);
        if K::OBJECT == Object::Server {
            // A session of a server has one connection to it.
            rows[Stat::UsedConnections as usize] = rows[Stat::SessionsCur as usize];
        }
        for (max, sampled, now) in [
            (Stat::SessionsMax, series.sessions_max, Stat::SessionsCur),
            (Stat::QueueMax, series.queue_max, Stat::QueueCur),
        ] {
            rows[max as usize] = rows[max as usize].max(sampled).max(rows[now as usize]);
        }
    }

    /// What the history keeps of every object that did something lately, in the order of their keys.
    pub fn kept(&self) -> Vec<(ObjectKey, Values)> {
        let mut all = Vec::new();
        if !self.is_any_told {
            return all;
        }
        self.kept_of::<Frontend>(&mut all);
        self.kept_of::<Backend>(&mut all);
        self.kept_of::<Server>(&mut all);
        self.kept_of::<Listener>(&mut all);
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }

    /// The keys of all objects.
    pub fn keys(&self) -> impl Iterator<Item = ObjectKey> {
        fn of<K: Kind>(shard: &Shard) -> impl Iterator<Item = ObjectKey> {
            K::of(shard).values().map(|cells| ObjectKey::new(K::OBJECT, cells.row()))
        }
        self.shards.first().into_iter().flat_map(|shard| {
            let proxies = of::<Frontend>(shard).chain(of::<Backend>(shard));
            proxies.chain(of::<Server>(shard)).chain(of::<Listener>(shard))
        })
    }

    fn kept_of<K: Kind>(&self, all: &mut Vec<(ObjectKey, Values)>) {
        let series = self.series[K::OBJECT as usize].iter().enumerate();
        for (index, _) in series.filter(|(_, series)| series.is_told()) {
            let id = K::Id::from_index(index);
            let Some(row) = self.cells::<K>(id).next().map(counters::Cells::row) else { continue };
            let mut values = Values::default();
            let kept = history::COUNTERS.into_iter().chain(history::LEVELS);
            for (value, stat) in values.iter_mut().zip(kept) {
                let row = stat.row();
                if row.objects.contains(K::OBJECT) && row.store != Store::Derived {
                    *value = self.sum::<K>(id, stat);
                    if row.store == Store::Level {
                        *value = level(*value);
                    }
                }
            }
            all.push((ObjectKey::new(K::OBJECT, row), values));
        }
    }

    /// The numbers of one object as they were; what the history does not keep has no value.
    pub fn past_sum_up<K: Kind>(&self, id: K::Id, past: &Past, sums: &mut Sums) {
        self.sum_up::<K>(id, sums);
        let row = self.cells::<K>(id).next().map_or(0, counters::Cells::row);
        let then = past.row(ObjectKey::new(K::OBJECT, row));
        let baseline = &self.series[K::OBJECT as usize][id.index()].baseline;
        sums.go_back(&then, past.seconds, baseline);
    }

    /// The same as [`Collector::past_sum_up`], for one object alone.
    pub fn past_sums<K: Kind>(&self, id: K::Id, past: &Past) -> Sums {
        let mut sums = Sums::nothing();
        self.past_sum_up::<K>(id, past, &mut sums);
        sums
    }

    /// The numbers of the process, over all cores.
    pub fn process_sums(&self) -> ProcessSums {
        let process = &self.process;
        ProcessSums {
            totals: array::from_fn(|i| self.total(CORE_TABLE[i].stat)),
            connection_rate: (process.connections.now, process.connections.max),
            session_rate: (process.sessions.now, process.sessions.max),
            tls_rate: (process.tls.now, process.tls.max),
            client_key_rate: (process.client_keys.now, process.client_keys.max),
            server_key_rate: (process.server_keys.now, process.server_keys.max),
            bytes_out_rate: process.bytes_out.now,
            idle_percent: process.idle_percent,
        }
    }

    /// The numbers of each core, in the order of the shards.
    pub fn core_values(&self) -> Vec<[u64; CORE_CELLS]> {
        self.shards
            .iter()
            .map(|shard| array::from_fn(|i| clamp(i, self.core_value(shard, CORE_TABLE[i].stat))))
            .collect()
    }

    /// One number of the process, over all cores.
    pub fn total(&self, stat: CoreStat) -> u64 {
        let values = self.shards.iter().map(|shard| self.core_value(shard, stat));
        clamp(stat as usize, values.fold(0, u64::wrapping_add))
    }

    fn core_value(&self, shard: &Shard, stat: CoreStat) -> u64 {
        let cell = shard.core.get(stat);
        if stat == CoreStat::IdleNs { process::idle_ns(cell, self.ticked) } else { cell }
    }

    fn cells<K: Kind>(&self, id: K::Id) -> impl Iterator<Item = &counters::Cells<K>> + Clone {
        self.shards.iter().map(move |shard| &*K::of(shard)[id])
    }

    fn sum<K: Kind>(&self, id: K::Id, stat: Stat) -> u64 {
        self.cells::<K>(id).fold(0, |sum, cells| sum.wrapping_add(cells.get(stat)))
    }

    /// All stored rows over all cores, levels clamped, nothing subtracted; rows without cell are 0.
    fn raw_rows<K: Kind>(&self, id: K::Id, rows: &mut [u64]) {
        sums::fill(K::OBJECT, self.cells::<K>(id).map(counters::Cells::block), rows);
    }
}

fn clamp(core_row: usize, value: u64) -> u64 {
    if CORE_TABLE[core_row].level { level(value) } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{FrontendId, ServerId};
    use crate::stats::counters::Sizes;
    use crate::stats::history::FRAME_SECONDS_MAX;

    const SECOND: u64 = 1_000_000_000;

    fn cores(n: usize) -> (Vec<Shard>, Collector) {
        let origins = Origins::none(Sizes { frontends: 1, backends: 1, servers: 1, listeners: 1, rules: 0 });
        let shards: Vec<Shard> = (0..n).map(|_| Shard::default().next(&origins)).collect();
        let collector = Collector::new(shards.clone(), n, Now(0));
        (shards, collector)
    }

    fn server(collector: &Collector, stat: Stat) -> u64 {
        collector.sums::<Server>(ServerId(0)).get(stat).expect("a counted row of servers")
    }

    fn frontend(collector: &Collector, stat: Stat) -> u64 {
        collector.sums::<Frontend>(FrontendId(0)).get(stat).expect("a counted row of frontends")
    }

    #[test]
    fn counters_add_up_over_cores_and_clear_starts_them_from_zero() {
        let (shards, mut collector) = cores(3);
        for shard in &shards {
            shard.servers[ServerId(0)].add(Stat::BytesOut, 10);
        }
        assert_eq!(server(&collector, Stat::BytesOut), 30);
        collector.clear(false);
        assert_eq!(server(&collector, Stat::BytesOut), 30);
        collector.clear(true);
        assert_eq!(server(&collector, Stat::BytesOut), 0);
        shards[1].servers[ServerId(0)].add(Stat::BytesOut, 4);
        assert_eq!(server(&collector, Stat::BytesOut), 4);
    }

    #[test]
    fn sums_only_grow_while_cores_count_and_are_exact_in_the_end() {
        const EACH: u64 = 200_000;
        let (shards, collector) = cores(2);
        std::thread::scope(|scope| {
            let count =
                |shard: &Shard| (0..EACH).for_each(|_| shard.servers[ServerId(0)].count(Stat::SessionsTotal));
            let writers: Vec<_> = shards.iter().map(|shard| scope.spawn(move || count(shard))).collect();
            let mut last = 0;
            while !writers.iter().all(|writer| writer.is_finished()) {
                let now = server(&collector, Stat::SessionsTotal);
                assert!((last..=2 * EACH).contains(&now), "{last} then {now}");
                last = now;
            }
        });
        assert_eq!(server(&collector, Stat::SessionsTotal), 2 * EACH);
    }

    #[test]
    fn a_counter_that_wraps_has_the_right_rate() {
        let (shards, mut collector) = cores(1);
        shards[0].frontends[FrontendId(0)].add(Stat::SessionsTotal, u64::MAX - 1);
        collector.tick(Now(SECOND));
        shards[0].frontends[FrontendId(0)].add(Stat::SessionsTotal, 7);
        collector.clear(false);
        collector.tick(Now(2 * SECOND));
        assert_eq!((frontend(&collector, Stat::Rate), frontend(&collector, Stat::RateMax)), (7, 7));
        collector.tick(Now(3 * SECOND));
        assert_eq!((frontend(&collector, Stat::Rate), frontend(&collector, Stat::RateMax)), (0, 7));
        collector.clear(false);
        assert_eq!(frontend(&collector, Stat::RateMax), 0);
    }

    #[test]
    fn a_rate_is_per_second_whatever_the_tick() {
        let (shards, mut collector) = cores(1);
        shards[0].frontends[FrontendId(0)].add(Stat::SessionsTotal, 100);
        collector.tick(Now(SECOND / 4));
        assert_eq!(frontend(&collector, Stat::Rate), 400);
        collector.tick(Now(SECOND / 4));
        assert_eq!(frontend(&collector, Stat::Rate), 400, "no time passed: nothing changes");
    }

    #[test]
    fn the_maximum_of_a_level_is_the_larger_of_samples_and_cores() {
        let (shards, mut collector) = cores(2);
        let on = |core: usize| &shards[core].servers[ServerId(0)];
        on(0).enter(Stat::SessionsCur);
        on(0).enter(Stat::SessionsCur);
        on(1).enter(Stat::SessionsCur);
        collector.tick(Now(SECOND));
        for core in [0, 0, 1] {
            on(core).leave(Stat::SessionsCur);
        }
        assert_eq!((server(&collector, Stat::SessionsCur), server(&collector, Stat::SessionsMax)), (0, 3));
        collector.clear(false);
        assert_eq!(server(&collector, Stat::SessionsMax), 0);
        on(1).enter(Stat::SessionsCur);
        on(1).leave(Stat::SessionsCur);
        assert_eq!(server(&collector, Stat::SessionsMax), 1, "shorter than a tick, seen by its core");
    }

    #[test]
    fn a_session_handed_over_counts_once() {
        let (shards, collector) = cores(2);
        shards[0].servers[ServerId(0)].leave(Stat::SessionsCur);
        assert_eq!(server(&collector, Stat::SessionsCur), 0, "read between the two halves");
        shards[1].servers[ServerId(0)].enter(Stat::SessionsCur);
        shards[1].servers[ServerId(0)].enter(Stat::SessionsCur);
        assert_eq!(server(&collector, Stat::SessionsCur), 1);
    }

    #[test]
    fn averages_follow_the_last_samples() {
        let (shards, mut collector) = cores(1);
        let cells = &shards[0].servers[ServerId(0)];
        for _ in 0..10 {
            cells.time(Stat::ConnectTime, 4_000);
        }
        collector.tick(Now(SECOND));
        assert_eq!(server(&collector, Stat::ConnectTime), 4, "few samples: their mean");
        for _ in 0..5_000 {
            cells.time(Stat::ConnectTime, 9_000);
        }
        collector.tick(Now(2 * SECOND));
        assert_eq!(
            server(&collector, Stat::ConnectTime),
            9,
            "a full window of newer samples replaces the old"
        );
        collector.tick(Now(3 * SECOND));
        assert_eq!(server(&collector, Stat::ConnectTime), 9, "no samples: unchanged");
        assert_eq!(server(&collector, Stat::ConnectTimeMax), 9);
    }

    #[test]
    fn idle_percent_is_the_share_of_time_that_data_cores_slept() {
        let (shards, _) = cores(3);
        let mut collector = Collector::new(shards.clone(), 2, Now(0));
        shards[0].core.add(CoreStat::IdleNs, SECOND);
        shards[1].core.add(CoreStat::IdleNs, SECOND / 2);
        shards[2].core.add(CoreStat::IdleNs, SECOND);
        collector.tick(Now(SECOND));
        assert_eq!(collector.process_sums().idle_percent, 75);
        assert_eq!(collector.loads(), [0, 50, 0]);
    }

    #[test]
    fn a_core_that_sleeps_and_says_nothing_is_idle() {
        let (shards, _) = cores(1);
        let mut collector = Collector::new(shards.clone(), 1, Now(0));
        shards[0].core.set(CoreStat::IdleNs, process::idle_cell(Some(Now(SECOND)), SECOND * 3 / 4));
        for second in 1..10 {
            collector.tick(Now(second * SECOND));
        }
        assert_eq!((collector.process_sums().idle_percent, collector.loads()), (100, &[0][..]));
        assert_eq!(collector.process_sums().get(CoreStat::IdleNs), 8 * SECOND + SECOND * 3 / 4);
        shards[0].core.set(CoreStat::IdleNs, process::idle_cell(None, 9 * SECOND));
        collector.tick(Now(10 * SECOND));
        assert_eq!(collector.process_sums().get(CoreStat::IdleNs), 9 * SECOND);
        assert_eq!((collector.process_sums().idle_percent, collector.loads()), (25, &[75][..]));
    }

    #[test]
    fn what_does_nothing_is_passed_over_once_its_rates_are_zero_and_all_is_told() {
        let (shards, mut collector) = cores(2);
        let told = |collector: &Collector| {
            collector.kept().iter().map(|(key, values)| (*key, values[0])).collect::<Vec<_>>()
        };
        let key = ObjectKey::new(Object::Server, 0);
        let mut second = 0;
        let mut tick = |collector: &mut Collector| {
            second += 1;
            collector.tick(Now(second * SECOND));
        };
        tick(&mut collector);
        assert_eq!(told(&collector), [], "it never did anything");
        shards[1].servers[ServerId(0)].add(Stat::SessionsTotal, 5);
        tick(&mut collector);
        assert_eq!((server(&collector, Stat::Rate), told(&collector)), (5, vec![(key, 5)]));
        tick(&mut collector);
        assert_eq!((server(&collector, Stat::Rate), server(&collector, Stat::RateMax)), (0, 5));
        for _ in 2..FRAME_SECONDS_MAX {
            assert_eq!(told(&collector), [(key, 5)], "a frame of a minute may begin at any time");
            tick(&mut collector);
        }
        tick(&mut collector);
        assert_eq!(told(&collector), []);
        assert_eq!((server(&collector, Stat::SessionsTotal), server(&collector, Stat::Rate)), (5, 0));
        assert_eq!(collector.sums::<Server>(ServerId(0)).last_session, Some(Now(2 * SECOND)));
        shards[0].servers[ServerId(0)].count(Stat::SessionsTotal);
        tick(&mut collector);
        assert_eq!((server(&collector, Stat::Rate), told(&collector)), (1, vec![(key, 6)]));
    }

    #[test]
    fn what_is_in_use_is_told_for_as_long_as_it_is_and_sampled_after_a_clear() {
        let (shards, mut collector) = cores(1);
        shards[0].servers[ServerId(0)].enter(Stat::SessionsCur);
        for second in 1..200 {
            collector.tick(Now(second * SECOND));
            assert_eq!(collector.kept().len(), 1, "{second}");
        }
        collector.clear(false);
        collector.tick(Now(200 * SECOND));
        shards[0].servers[ServerId(0)].leave(Stat::SessionsCur);
        collector.tick(Now(201 * SECOND));
        assert_eq!((server(&collector, Stat::SessionsCur), server(&collector, Stat::SessionsMax)), (0, 1));
    }

    #[test]
    fn changes_that_add_up_to_nothing_are_seen() {
        let (shards, mut collector) = cores(1);
        let cells = &shards[0].servers[ServerId(0)];
        cells.enter(Stat::SessionsCur);
        (1..=200).for_each(|second| collector.tick(Now(second * SECOND)));
        cells.leave(Stat::SessionsCur);
        cells.count(Stat::ClientAborts);
        collector.tick(Now(201 * SECOND));
        (0..4).for_each(|_| cells.enter(Stat::QueueCur));
        collector.tick(Now(202 * SECOND));
        assert_eq!(server(&collector, Stat::QueueMax), 4);
        assert_eq!(collector.kept().len(), 1);
    }

    #[test]
    fn a_reload_keeps_history_of_what_stays() {
        let (shards, mut collector) = cores(1);
        shards[0].frontends[FrontendId(0)].add(Stat::SessionsTotal, 5);
        collector.tick(Now(SECOND));
        let mut origins = Origins::none(Sizes { frontends: 2, ..Sizes::default() });
        origins.frontends[FrontendId(1)] = Some(FrontendId(0));
        let next: Vec<Shard> = shards.iter().map(|shard| shard.next(&origins)).collect();
        collector.reload(next, &origins);
        let of = |id| collector.sums::<Frontend>(FrontendId(id));
        assert_eq!((of(0).get(Stat::RateMax), of(1).get(Stat::RateMax)), (Some(0), Some(5)));
        assert_eq!((of(0).get(Stat::SessionsTotal), of(1).get(Stat::SessionsTotal)), (Some(0), Some(5)));
        assert_eq!(of(1).get(Stat::ConnectErrors), None, "frontends have no such row");
        assert_eq!((of(1).last_session, of(0).last_session), (Some(Now(SECOND)), None));
    }
}

//! The queue of one backend: sessions that wait for a slot of one server or of any. Shared by all cores behind a lock that
//! `proxy::dispatch` takes; everything here is O(log n).
//!
//! The order is HAProxy's: priority class first, then the time of arrival shifted by the priority offset, then arrival.
//! A waiter is known by its [`Ticket`]. Whoever frees a slot calls [`Queue::next_for`], which removes the waiter and
//! hands it the slot. Whoever stops waiting (timeout, client gone) calls [`Queue::cancel`]: when that finds nothing, the
//! slot has been handed over meanwhile and must be used or given back.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::id::{Id, ServerKey};
use crate::base::limits::QUEUE_LEN_MAX;
use crate::base::time::Now;

/// `set-priority-class` and `set-priority-offset`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Priority {
    /// Lower classes go first (-2047 to 2047).
    pub class: i16,
    /// Shifts the time of arrival: a negative offset goes first within the class.
    pub offset_ms: i32,
}

/// A session that asks to wait.
#[derive(Clone, Copy, Debug)]
pub struct Wait<T> {
    /// The server it must have (persistence, hashing); `None` for any.
    pub server: Option<ServerKey>,
    /// Its place.
    pub priority: Priority,
    /// When it stops waiting (`timeout queue`). A waiter past it is never handed a slot.
    pub deadline: Option<Now>,
    /// How to wake it: opaque here.
    pub waker: T,
}

/// Names a waiter until it is handed a slot or cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    server: Option<ServerKey>,
    key: Key,
}

/// Why a session cannot wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueueFull {
    /// The server's queue has reached its `maxqueue`: another server may do.
    Server {
        /// The limit that was reached.
        limit: usize,
    },
    /// The backend's queue is full.
    Backend {
        /// The limit that was reached.
        limit: usize,
    },
}

/// Order in the queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    class: i16,
    /// Time of arrival with the offset, in milliseconds.
    due_ms: i64,
    /// Arrival; also makes keys unique.
    serial: u64,
}

#[derive(Clone, Debug)]
struct Waiter<T> {
    deadline: Option<Now>,
    waker: T,
}

/// One line of waiters.
#[derive(Clone, Debug)]
struct Line<T> {
    waiters: BTreeMap<Key, Waiter<T>>,
    longest: usize,
}

/// The queue.
#[derive(Clone, Debug)]
pub struct Queue<T> {
    any: Line<T>,
    /// By key; as long as the highest key that anybody waited for.
    by_server: Vec<Line<T>>,
    len: usize,
    longest: usize,
    len_max: usize,
    serial: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Queue<T> {
    /// An empty queue; at most [`QUEUE_LEN_MAX`] wait in it.
    pub fn new() -> Self {
        Queue {
            any: Line::new(),
            by_server: Vec::new(),
            len: 0,
            longest: 0,
            len_max: QUEUE_LEN_MAX,
            serial: 0,
        }
    }

    /// The same with another bound.
    pub fn with_len_max(len_max: usize) -> Self {
        Queue { len_max, ..Self::new() }
    }

    /// Lines up. `maxqueue` bounds the line of the server it waits for; `None` for no bound but the backend's.
    pub fn enqueue(&mut self, wait: Wait<T>, maxqueue: Option<u32>, now: Now) -> Result<Ticket, QueueFull> {
        if self.len >= self.len_max {
            return Err(QueueFull::Backend { limit: self.len_max });
        }
        if let (Some(server), Some(limit)) = (wait.server, maxqueue) {
            let limit = limit as usize;
            if self.waiting_for(server) >= limit {
                return Err(QueueFull::Server { limit });
            }
        }
        self.serial += 1;
        let arrived_ms = i64::try_from(now.0 / 1_000_000).unwrap_or(i64::MAX);
        let key = Key {
            class: wait.priority.class,
            due_ms: arrived_ms.saturating_add(i64::from(wait.priority.offset_ms)),
            serial: self.serial,
        };
        self.line_mut(wait.server).insert(key, Waiter { deadline: wait.deadline, waker: wait.waker });
        self.len += 1;
        self.longest = self.longest.max(self.len);
        self.check_invariants();
        Ok(Ticket { server: wait.server, key })
    }

    /// Leaves the queue. `None`: the waiter was handed a slot already, or dropped for its deadline.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<T> {
        let waiter = self.line_mut(ticket.server).waiters.remove(&ticket.key)?;
        self.len -= 1;
        self.check_invariants();
        Some(waiter.waker)
    }

    /// Takes out the waiter that gets a free slot of `server`: the first of those that wait for it or for any server.
    /// Waiters past their deadline are dropped on the way; their own timers tell them.
    pub fn next_for(&mut self, server: ServerKey, now: Now) -> Option<T> {
        self.next(server, true, |_| true, now)
    }

    /// The same, passing over those that wait for any server but not for this one: it does not exist for them, because they
    /// live by another generation of the configuration.
    pub fn next_fit(&mut self, server: ServerKey, fits: impl Fn(&T) -> bool, now: Now) -> Option<T> {
        self.next(server, true, fits, now)
    }

    /// The same from the server's own line alone. For a server that gets no new load by balancing (drained, or a backup
    /// while others are usable): it serves those that persistence sent it, and nobody who waits for any server.
    pub fn next_own(&mut self, server: ServerKey, now: Now) -> Option<T> {
        self.next(server, false, |_| true, now)
    }

    fn next(&mut self, server: ServerKey, with_any: bool, fits: impl Fn(&T) -> bool, now: Now) -> Option<T> {
        loop {
            let own = self.line(server).and_then(|line| line.waiters.first_key_value()).map(|(key, _)| *key);
            let mut any = self.any.waiters.iter().filter(|_| with_any);
            let any = any.find(|(_, waiter)| fits(&waiter.waker)).map(|(key, _)| *key);
            let (line, key) = match (own, any) {
                (None, None) => return None,
                (Some(own), Some(any)) if own < any => (Some(server), own),
                (Some(own), None) => (Some(server), own),
                (_, Some(any)) => (None, any),
            };
            let waiter = self.line_mut(line).waiters.remove(&key).expect("it was found above");
            self.len -= 1;
            self.check_invariants();
            if waiter.deadline.is_none_or(|deadline| deadline > now) {
                return Some(waiter.waker);
            }
        }
    }

    /// Takes out everybody who waits for this server alone, in order: it went down and they have to be balanced again.
    pub fn take_all_of(&mut self, server: ServerKey) -> impl Iterator<Item = T> + use<T> {
        let line = self.line_mut(Some(server));
        let waiters = std::mem::take(&mut line.waiters);
        self.len -= waiters.len();
        self.check_invariants();
        waiters.into_values().map(|waiter| waiter.waker)
    }

    /// How many wait, in all lines (`qcur` of the backend).
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many wait for this server alone (`qcur` of the server).
    pub fn waiting_for(&self, server: ServerKey) -> usize {
        self.line(server).map_or(0, |line| line.waiters.len())
    }

    /// How many wait for any server.
    pub fn waiting_for_any(&self) -> usize {
        self.any.waiters.len()
    }

    /// Whether a free slot of this server would be taken at once.
    pub fn wants(&self, server: ServerKey) -> bool {
        self.waiting_for_any() > 0 || self.waiting_for(server) > 0
    }

    /// The most that ever waited, in all lines (`qmax` of the backend).
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The most that ever waited for this server alone (`qmax` of the server).
    pub fn longest_for(&self, server: ServerKey) -> usize {
        self.line(server).map_or(0, |line| line.longest)
    }

    fn line(&self, server: ServerKey) -> Option<&Line<T>> {
        self.by_server.get(server.index())
    }

    fn line_mut(&mut self, server: Option<ServerKey>) -> &mut Line<T> {
        let Some(server) = server else { return &mut self.any };
        if self.by_server.len() <= server.index() {
            self.by_server.resize_with(server.index() + 1, Line::new);
        }
        &mut self.by_server[server.index()]
    }

    fn check_invariants(&self) {
        debug_assert!(self.len <= self.len_max);
        debug_assert!(self.len >= self.any.waiters.len());
        debug_assert!(self.longest >= self.len);
    }
}

impl<T> Line<T> {
    fn new() -> Self {
        Line { waiters: BTreeMap::new(), longest: 0 }
    }

    fn insert(&mut self, key: Key, waiter: Waiter<T>) {
        self.waiters.insert(key, waiter);
        self.longest = self.longest.max(self.waiters.len());
    }
}

/// The limit of a server that grows with the load of its backend (`minconn`, `maxconn`, `fullconn`): `minconn` while the
/// backend is quiet, `maxconn` once it holds `fullconn` sessions, in proportion between.
pub fn dynamic_maxconn(minconn: u32, maxconn: u32, fullconn: u32, backend_sessions: u32) -> u32 {
    if backend_sessions >= fullconn || minconn >= maxconn {
        return maxconn;
    }
    let part = u64::from(maxconn) * u64::from(backend_sessions) / u64::from(fullconn);
    u32::try_from(part).unwrap_or(maxconn).max(minconn)
}

/// `fullconn` when it is not set: a tenth of the sum of `maxconn` of the frontends that may use the backend, rounded up.
pub fn default_fullconn(frontends_maxconn: u64) -> u32 {
    u32::try_from(frontends_maxconn.div_ceil(10)).unwrap_or(u32::MAX).max(1)
}

/// A deadline `timeout` after `now`; `None` waits forever.
pub fn deadline(now: Now, timeout: Option<Duration>) -> Option<Now> {
    timeout.map(|timeout| now + timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ServerKey = ServerKey(10);
    const B: ServerKey = ServerKey(11);

    fn queue() -> Queue<&'static str> {
        Queue::new()
    }

    fn ms(n: u64) -> Now {
        Now(n * 1_000_000)
    }

    fn wait(waker: &'static str, server: Option<ServerKey>) -> Wait<&'static str> {
        Wait { server, priority: Priority::default(), deadline: None, waker }
    }

    fn add(q: &mut Queue<&'static str>, wait: Wait<&'static str>, at_ms: u64) -> Ticket {
        q.enqueue(wait, None, ms(at_ms)).expect("there is room")
    }

    /// Everybody that slots of this server would serve, in order.
    fn order(q: &mut Queue<&'static str>, server: ServerKey) -> String {
        std::iter::from_fn(|| q.next_for(server, ms(1_000_000))).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn first_come_first_served_over_both_lines() {
        let mut q = queue();
        for (at, (name, server)) in
            [("any1", None), ("a1", Some(A)), ("b1", Some(B)), ("any2", None), ("a2", Some(A))]
                .into_iter()
                .enumerate()
        {
            add(&mut q, wait(name, server), at as u64);
        }
        assert_eq!((q.len(), q.waiting_for(A), q.waiting_for(B), q.waiting_for_any()), (5, 2, 1, 2));
        assert_eq!(order(&mut q, A), "any1 a1 any2 a2");
        assert!(q.wants(B) && !q.wants(A));
        assert_eq!(order(&mut q, B), "b1");
        assert_eq!((q.len(), q.longest(), q.longest_for(A), q.longest_for(B)), (0, 5, 2, 1));
    }

    #[test]
    fn class_goes_before_offset_and_offset_before_arrival() {
        let mut q = queue();
        for (name, class, offset_ms, at) in [
            ("plain", 0, 0, 100),
            ("late", 0, 50, 60),
            ("early", 0, -80, 150),
            ("vip", -1, 0, 200),
            ("low", 1, -10_000, 0),
            ("same", 0, 0, 100),
        ] {
            let wait = Wait { priority: Priority { class, offset_ms }, ..wait(name, None) };
            add(&mut q, wait, at);
        }
        assert_eq!(order(&mut q, A), "vip early plain same late low");
    }

    #[test]
    fn a_server_without_new_load_serves_its_own_line_alone() {
        let mut q = queue();
        add(&mut q, wait("any", None), 0);
        add(&mut q, wait("sticky", Some(A)), 1);
        assert_eq!(q.next_own(A, ms(2)), Some("sticky"));
        assert_eq!(q.next_own(A, ms(2)), None);
        assert_eq!(q.next_for(A, ms(2)), Some("any"));
    }

    #[test]
    fn a_cancelled_waiter_is_gone_and_a_served_one_cannot_cancel() {
        let mut q = queue();
        let first = add(&mut q, wait("first", None), 0);
        let second = add(&mut q, wait("second", Some(A)), 1);
        assert_eq!(q.cancel(first), Some("first"));
        assert_eq!(q.cancel(first), None, "twice");
        assert_eq!(q.next_for(A, ms(2)), Some("second"));
        assert_eq!(q.cancel(second), None, "the slot has been handed over");
        assert!(q.is_empty());
    }

    #[test]
    fn a_waiter_past_its_deadline_gets_no_slot() {
        let mut q = queue();
        let late = Wait { deadline: Some(ms(10)), ..wait("late", None) };
        let ticket = add(&mut q, late, 0);
        add(&mut q, wait("patient", None), 1);
        assert_eq!(q.next_for(A, ms(10)), Some("patient"));
        assert_eq!(q.cancel(ticket), None);
        assert!(q.is_empty());
        add(&mut q, Wait { deadline: Some(ms(10)), ..wait("in time", None) }, 0);
        assert_eq!(q.next_for(A, ms(9)), Some("in time"));
    }

    #[test]
    fn bounds_of_server_and_backend() {
        let mut q = Queue::with_len_max(3);
        assert!(q.enqueue(wait("1", Some(A)), Some(1), ms(0)).is_ok());
        assert_eq!(q.enqueue(wait("2", Some(A)), Some(1), ms(0)), Err(QueueFull::Server { limit: 1 }));
        assert_eq!(q.enqueue(wait("2", Some(B)), Some(0), ms(0)), Err(QueueFull::Server { limit: 0 }));
        assert!(q.enqueue(wait("2", Some(A)), None, ms(0)).is_ok());
        assert!(q.enqueue(wait("3", None), Some(0), ms(0)).is_ok(), "maxqueue is a server's");
        assert_eq!(q.enqueue(wait("4", None), None, ms(0)), Err(QueueFull::Backend { limit: 3 }));
    }

    #[test]
    fn waiters_of_a_server_that_went_down_are_taken_out() {
        let mut q = queue();
        add(&mut q, wait("a1", Some(A)), 0);
        add(&mut q, wait("any", None), 1);
        add(&mut q, wait("a2", Some(A)), 2);
        assert_eq!(q.take_all_of(A).collect::<Vec<_>>(), ["a1", "a2"]);
        assert_eq!((q.len(), q.waiting_for(A)), (1, 0));
        assert_eq!(q.next_for(B, ms(3)), Some("any"));
    }

    #[test]
    fn a_server_that_a_waiter_does_not_know_is_not_given_to_it() {
        let mut q = queue();
        for (at, name) in ["old1", "new1", "old2"].into_iter().enumerate() {
            add(&mut q, wait(name, None), at as u64);
        }
        add(&mut q, wait("new for a", Some(A)), 3);
        let new = |name: &&str| name.starts_with("new");
        assert_eq!(q.next_fit(A, new, ms(9)), Some("new1"));
        assert_eq!(q.next_fit(A, new, ms(9)), Some("new for a"));
        assert_eq!(q.next_fit(A, new, ms(9)), None);
        let left = order(&mut q, B);
        assert_eq!((q.len(), left.as_str()), (0, "old1 old2"));
    }

    #[test]
    fn dynamic_maxconn_follows_the_load() {
        for (minconn, maxconn, fullconn, sessions, expected) in [
            (10, 100, 1000, 0, 10),
            (10, 100, 1000, 50, 10),
            (10, 100, 1000, 500, 50),
            (10, 100, 1000, 999, 99),
            (10, 100, 1000, 1000, 100),
            (10, 100, 1000, u32::MAX, 100),
            (100, 100, 1000, 1, 100),
            (200, 100, 1000, 1, 100),
            (1, 100, 0, 0, 100),
            (1, u32::MAX, u32::MAX, u32::MAX - 1, u32::MAX - 1),
        ] {
            let actual = dynamic_maxconn(minconn, maxconn, fullconn, sessions);
            assert_eq!(actual, expected, "{minconn} {maxconn} {fullconn} {sessions}");
        }
        assert_eq!((default_fullconn(0), default_fullconn(2000), default_fullconn(2001)), (1, 200, 201));
    }

    #[test]
    fn a_queue_timeout_is_a_deadline() {
        assert_eq!(deadline(ms(5), Some(Duration::from_millis(7))), Some(ms(12)));
        assert_eq!(deadline(ms(5), None), None);
    }
}

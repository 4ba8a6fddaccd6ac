//! The admission queue against a naive model: a vector that is sorted at every question.

use shardgate::base::id::{Id, IdRange, ServerKey};
use shardgate::base::time::Now;
use shardgate::policy::admission::{Priority, Queue, QueueFull, Ticket, Wait};

use crate::world::{between, worlds};

#[derive(Clone, Debug)]
struct Waiter {
    name: u64,
    server: Option<ServerKey>,
    class: i16,
    due_ms: i64,
    deadline: Option<Now>,
    ticket: Ticket,
}

#[derive(Default)]
struct Model {
    /// In order of arrival.
    waiters: Vec<Waiter>,
}

impl Model {
    fn count(&self, server: Option<ServerKey>) -> usize {
        self.waiters.iter().filter(|w| w.server == server).count()
    }

    fn next_for(&mut self, server: ServerKey, now: Now) -> Option<u64> {
        let fits = |w: &Waiter| w.server.is_none_or(|s| s == server);
        loop {
            // `min_by_key` gives the first of equals, which arrived first.
            let order = |(_, w): &(usize, &Waiter)| (w.class, w.due_ms);
            let (at, _) = self.waiters.iter().enumerate().filter(|(_, w)| fits(w)).min_by_key(order)?;
            let waiter = self.waiters.remove(at);
            if waiter.deadline.is_none_or(|deadline| deadline > now) {
                return Some(waiter.name);
            }
        }
    }
}

#[test]
fn the_queue_agrees_with_sorting() {
    worlds(300, |rng| {
        let count = between(rng, 1, 5);
        let servers = IdRange { start: ServerKey(7), end: ServerKey(7 + count) };
        let len_max = between(rng, 1, 40) as usize;
        let mut queue = Queue::with_len_max(len_max);
        let mut model = Model::default();
        let mut gone: Vec<Ticket> = Vec::new();
        let mut now = Now(1_000_000_000);
        for name in 0..400u64 {
            now = Now(now.0 + u64::from(between(rng, 0, 3)) * 1_000_000);
            let server = ServerKey(7 + between(rng, 0, count - 1));
            match between(rng, 0, 9) {
                0..=4 => {
                    let server = (rng.below(2) == 0).then_some(server);
                    let class = i16::try_from(between(rng, 0, 2)).expect("small") - 1;
                    let offset_ms = i32::try_from(between(rng, 0, 20)).expect("small") - 10;
                    let deadline = (rng.below(3) == 0).then(|| Now(now.0 + rng.below(30_000_000)));
                    let maxqueue = (rng.below(2) == 0).then(|| between(rng, 0, 6));
                    let priority = Priority { class, offset_ms };
                    let entered =
                        queue.enqueue(Wait { server, priority, deadline, waker: name }, maxqueue, now);
                    let limit = maxqueue.unwrap_or(u32::MAX) as usize;
                    let server_full = server.is_some() && model.count(server) >= limit;
                    match entered {
                        Ok(ticket) => {
                            assert!(model.waiters.len() < len_max && !server_full);
                            let due_ms =
                                i64::try_from(now.0 / 1_000_000).expect("small") + i64::from(offset_ms);
                            model.waiters.push(Waiter { name, server, class, due_ms, deadline, ticket });
                        }
                        Err(QueueFull::Backend { limit }) => assert_eq!(model.waiters.len(), limit),
                        Err(QueueFull::Server { .. }) => assert!(server_full),
                    }
                }
                5..=6 if !model.waiters.is_empty() => {
                    let at = usize::try_from(rng.below(model.waiters.len() as u64)).expect("an index");
                    let waiter = model.waiters.remove(at);
                    assert_eq!(queue.cancel(waiter.ticket), Some(waiter.name));
                    gone.push(waiter.ticket);
                }
                7 if rng.below(10) == 0 => {
                    let expected = model.waiters.iter().filter(|w| w.server == Some(server)).count();
                    assert_eq!(queue.take_all_of(server).count(), expected);
                    model.waiters.retain(|w| w.server != Some(server));
                }
                _ => assert_eq!(queue.next_for(server, now), model.next_for(server, now), "at {name}"),
            }
            assert_eq!(queue.len(), model.waiters.len());
            assert_eq!(queue.waiting_for_any(), model.count(None));
            for id in servers.iter() {
                assert_eq!(queue.waiting_for(id), model.count(Some(id)));
                assert!(queue.longest_for(id) >= queue.waiting_for(id));
            }
            assert!(queue.longest() >= queue.len() && queue.longest() <= len_max);
        }
        for ticket in gone {
            assert_eq!(queue.cancel(ticket), None, "a ticket works once");
        }
        assert_eq!(servers.start.index() + count as usize, servers.end.index());
    });
}

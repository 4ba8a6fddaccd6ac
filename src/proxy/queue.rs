//! Slots of servers and the queue for them, exact over all cores.
//!
//! A `Slot` is the right to use a server; dropping it lowers the server's level and hands the room to the first who
//! waits, on whatever core. The shared lock is taken only while somebody waits.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use crate::base::id::{BackendId, ServerId};
use crate::base::time::Now;
use crate::live::{AdminState, Live, ServerLive, Waiting};
use crate::policy::admission::{Priority, QueueFull, Ticket, Wait};
use crate::proxy::core::{Core, CoreBase, Waiter};
use crate::proxy::message::{Event, ToCore};
use crate::rt::{self, Sender};
use crate::stats::process::CoreStat;
use crate::stats::table::Stat;

/// The right to use a server, held by one stream. Dropping it gives it back.
pub(super) struct Slot {
    core: Rc<Core>,
    pub(super) server: ServerId,
    backend: BackendId,
    /// It raised the server's level.
    counted: bool,
}

impl Slot {
    /// Takes a slot if there is one. Exact over all cores.
    pub(super) fn try_take(core: &Rc<Core>, backend: BackendId, server: ServerId) -> Option<Slot> {
        let counted = core.live.servers[server].enter()?;
        Some(Slot::adopt(core, backend, server, counted))
    }

    /// Holds a slot whose level was raised by whoever granted it.
    fn adopt(core: &Rc<Core>, backend: BackendId, server: ServerId, counted: bool) -> Slot {
        if core.model.backends[backend].balance.balance_factor.is_some() {
            core.live.backends[backend].sessions.enter();
        }
        core.shard().servers[server].enter(Stat::SessionsCur);
        core.shard().core.enter(CoreStat::ServerConnections);
        Slot { core: core.clone(), server, backend, counted }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let core = &self.core;
        if core.model.backends[self.backend].balance.balance_factor.is_some() {
            core.live.backends[self.backend].sessions.leave();
        }
        core.shard().servers[self.server].leave(Stat::SessionsCur);
        core.shard().core.leave(CoreStat::ServerConnections);
        release(&core.live, &core.peers, self.backend, self.server, self.counted, rt::now());
    }
}

/// Lowers a server's level and hands the room on.
fn release(
    live: &Live,
    peers: &[Sender<ToCore>],
    backend: BackendId,
    server: ServerId,
    counted: bool,
    now: Now,
) {
    if counted {
        live.servers[server].sessions.leave();
    }
    pump(live, peers, backend, server, now);
}

/// Grants slots of a server to those who wait, as long as it has room. Called when a session leaves, when the server
/// comes up, and when its limit is raised.
pub fn pump(live: &Live, peers: &[Sender<ToCore>], backend: BackendId, server: ServerId, now: Now) {
    let shared = &live.backends[backend];
    // Pairs with the store in `wait`: either this load sees the waiter, or its own pump sees the room.
    while shared.queued.load(Ordering::SeqCst) > 0 && takes_sessions(live, server) {
        let (counted, next) = {
            // Whoever comes to wait while a slot is taken here for nobody finds it given back once the lock is free.
            let mut queue = shared.queue();
            let Some(counted) = live.servers[server].enter() else { return };
            // Who waits for any server must not get one that is drained or a backup that stands by; who waits for this
            // one wants just that.
            let open = live.takes_load(backend, server);
            let (granted, key) = (&live.servers[server], live.servers[server].key);
            let next = match open {
                // Who lives by an older generation does not know a server that came later, and the other way round.
                true => queue.next_fit(key, |w| granted.is_known_in(w.generation), now),
                false => queue.next_own(key, now),
            };
            publish(live, backend, Some(server), &queue);
            if next.is_none() && counted {
                live.servers[server].sessions.leave();
            }
            (counted, next)
        };
        let Some(waiting) = next else { return };
        let server = Some((live.servers[server].clone(), counted));
        peers[waiting.core.0 as usize].send(ToCore::Grant { waiter: waiting.waiter, server });
    }
}

/// Whether a server may get sessions at all, those that persistence sends to a drained one included.
fn takes_sessions(live: &Live, server: ServerId) -> bool {
    live.servers[server].is_up() && live.servers[server].admin() != AdminState::Maint
}

/// Sends everybody who waits for this server alone to look for another: it went down.
pub fn evict(live: &Live, peers: &[Sender<ToCore>], backend: BackendId, server: ServerId) -> usize {
    let mut queue = live.backends[backend].queue();
    let waiting: Vec<Waiting> = queue.take_all_of(live.servers[server].key).collect();
    publish(live, backend, Some(server), &queue);
    drop(queue);
    for w in &waiting {
        peers[w.core.0 as usize].send(ToCore::Grant { waiter: w.waiter, server: None });
    }
    waiting.len()
}

/// Copies the lengths to where they are read without the lock.
fn publish(
    live: &Live,
    backend: BackendId,
    server: Option<ServerId>,
    queue: &crate::policy::admission::Queue<Waiting>,
) {
    let len = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    live.backends[backend].queued.store(len(queue.len()), Ordering::SeqCst);
    if let Some(server) = server {
        let server = &live.servers[server];
        server.queued.store(len(queue.waiting_for(server.key)), Ordering::SeqCst);
    }
}

/// What waiting came to.
pub(super) enum Waited {
    /// A slot.
    Slot(Slot),
    /// The server that it waited for is gone: balance again.
    Again,
    /// `timeout queue`.
    Timeout,
    /// The queue is full.
    Full,
}

/// Who waits for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) backend: BackendId,
    /// One server, or any.
    pub(super) server: Option<ServerId>,
    pub(super) deadline: Option<Now>,
    pub(super) priority: Priority,
}

/// Waits for a slot of one server, or of any. `placed` learns how many were in the queue then, this one included.
pub(super) async fn wait(core: &Rc<Core>, ask: Ask, placed: impl FnOnce(u32)) -> Waited {
    let Ask { backend, server, deadline, .. } = ask;
    let place = match Place::take(core, ask) {
        Ok(place) => place,
        Err(_) => {
            core.event(Event::QueueFull(backend));
            return Waited::Full;
        }
    };
    placed(match server {
        Some(server) => core.live.servers[server].queued.load(Ordering::Relaxed),
        None => core.live.backends[backend].queued.load(Ordering::Relaxed),
    });
    // A slot may have become free before this waiter was in the queue.
    let candidates = core.model.backends[backend].servers;
    for id in candidates.iter().filter(|id| server.is_none_or(|s| s == *id)) {
        pump(&core.live, &core.peers, backend, id, rt::now());
    }
    let granted = rt::with_deadline(poll_fn(|cx| place.poll(cx)), deadline).await;
    match granted {
        Ok(Some((server, counted))) => Waited::Slot(Slot::adopt(core, backend, server, counted)),
        Ok(None) => Waited::Again,
        Err(rt::Elapsed) => Waited::Timeout,
    }
}

/// A place in the queue. Dropping it leaves the queue, and passes on a slot that arrived too late.
struct Place {
    core: Rc<Core>,
    backend: BackendId,
    server: Option<ServerId>,
    ticket: Ticket,
    waiter: u64,
}

impl Place {
    fn take(core: &Rc<Core>, ask: Ask) -> Result<Place, QueueFull> {
        let Ask { backend, server, deadline, priority } = ask;
        let waiter = core.next_waiter_id();
        let wait = Wait {
            server: server.map(|id| core.live.servers[id].key),
            priority,
            deadline,
            waker: Waiting { core: core.id, waiter, generation: core.live.generation },
        };
        let maxqueue = server.and_then(|id| core.model.servers[id].maxqueue);
        let mut queue = core.live.backends[backend].queue();
        let ticket = queue.enqueue(wait, maxqueue, rt::now())?;
        publish(&core.live, backend, server, &queue);
        drop(queue);
        core.waiters.borrow_mut().insert(waiter, Waiter::default());
        core.shard().backends[backend].enter(Stat::QueueCur);
        if let Some(server) = server {
            core.shard().servers[server].enter(Stat::QueueCur);
        }
        Ok(Place { core: core.clone(), backend, server, ticket, waiter })
    }

    /// Ready with the server of the slot that was granted, or `None` to look again.
    fn poll(&self, cx: &std::task::Context<'_>) -> Poll<Option<(ServerId, bool)>> {
        let granted = {
            let mut waiters = self.core.waiters.borrow_mut();
            let waiter = waiters.get_mut(&self.waiter).expect("listed until this place is dropped");
            match waiter.granted.take() {
                Some(granted) => granted,
                None => {
                    waiter.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        };
        let Some((server, counted)) = granted else { return Poll::Ready(None) };
        let mut candidates = self.core.model.backends[self.backend].servers.iter();
        match candidates.find(|id| Arc::ptr_eq(&self.core.live.servers[*id], &server)) {
            Some(id) => Poll::Ready(Some((id, counted))),
            None => {
                pass_on(&self.core, &server, counted);
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let core = &self.core;
        core.shard().backends[self.backend].leave(Stat::QueueCur);
        if let Some(server) = self.server {
            core.shard().servers[server].leave(Stat::QueueCur);
        }
        let waiter = core.waiters.borrow_mut().remove(&self.waiter);
        {
            let mut queue = core.live.backends[self.backend].queue();
            queue.cancel(self.ticket);
            publish(&core.live, self.backend, self.server, &queue);
        }
        // Granted but not taken. A grant that is still on its way finds no waiter and is passed on by `deliver`.
        if let Some(Some(Some((server, counted)))) = waiter.map(|w| w.granted) {
            pass_on(core, &server, counted);
        }
    }
}

/// Gives back a slot that nobody took here.
fn pass_on(core: &CoreBase, server: &Arc<ServerLive>, counted: bool) {
    match core.with_server(server) {
        Some((core, id)) => {
            let backend = core.model.servers[id].backend;
            release(&core.live, &core.peers, backend, id, counted, rt::now());
        }
        // No generation has it any more: nobody waits for it.
        None => {
            if counted {
                server.sessions.leave();
            }
        }
    }
}

/// Hands a grant to its waiter on this core, or passes it on if nobody waits any more.
pub(super) fn deliver(core: &CoreBase, waiter: u64, server: Option<(Arc<ServerLive>, bool)>) {
    let waker = match core.waiters.borrow_mut().get_mut(&waiter) {
        Some(entry) => {
            entry.granted = Some(server);
            entry.waker.take()
        }
        None => {
            if let Some((server, counted)) = server {
                pass_on(core, &server, counted);
            }
            None
        }
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

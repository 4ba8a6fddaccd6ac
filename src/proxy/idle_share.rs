//! Idle server connections of other cores: a core that has none to a server asks one that has. A service of a few requests
//! a second would otherwise keep as many connections as there are cores times servers.
//!
//! `exchange` asks before it opens a connection; `worker` hands the mail here. What is asked for is named by where it leads
//! ([`PoolKey`]): cores may run different generations of the configuration. The connection travels as a bare socket: its
//! armed receive is taken back first, and if that brought anything the connection is of no use to anybody.

use std::cell::RefCell;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use ahash::AHashMap;

use crate::base::id::{BackendId, CoreId, Id, ServerId};
use crate::proxy::core::{Core, CoreBase};
use crate::proxy::forward::Link;
use crate::proxy::idle::{self, Keep, PoolId, PoolKey, Upstream, Wire};
use crate::proxy::message::{IdleGiven, IdleWanted, ToCore};
use crate::rt::{self, Conn};
use crate::stats::counters::ServerCells;
use crate::stats::process::CoreStat;
use crate::stats::table::Stat;
use crate::tls::Transport;

/// How long a core waits for the answer of another before it opens a connection itself. What comes later goes to the pool.
const ANSWER_WAIT: Duration = Duration::from_millis(5);

/// Questions of this core that are not answered yet. Each is: the other core answers all it gets.
#[derive(Default)]
pub(super) struct Asked {
    open: RefCell<AHashMap<u64, Question>>,
}

/// What was asked, and what to make of the answer.
struct Question {
    pool: PoolId,
    server: ServerId,
    opener: Arc<ServerCells>,
    keep: Keep,
    /// The request still waits.
    is_waited_for: bool,
    waker: Option<Waker>,
    /// The socket and how many requests were sent over it, or that there is none after all.
    given: Option<Option<(OwnedFd, u32)>>,
}

impl Question {
    /// The connection of the answer. Nothing may have arrived on its way here either: it would pass for a response.
    fn upstream(&self, socket: OwnedFd, uses: u32) -> Option<Upstream> {
        let conn = Conn::from_fd(socket);
        conn.is_silent().then(|| Upstream {
            link: Link::default(),
            wire: Wire::Conn(Transport::plain(conn)),
            port: None,
            pool: Some(self.pool),
            server: self.server,
            opener: Some(self.opener.clone()),
            uses,
        })
    }

    /// What came too late for the request goes to the pool.
    fn settle(self, core: &CoreBase, given: Option<(OwnedFd, u32)>) {
        let up = given.and_then(|(socket, uses)| self.upstream(socket, uses));
        if let Some(up) = up {
            idle::put(core, self.pool, up, self.keep);
        }
    }
}

/// A request that waits for an answer. It may end before: its client is gone, or it waited long enough.
struct Waiting<'a> {
    core: &'a CoreBase,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut open = self.core.asked.open.borrow_mut();
        let Some(question) = open.get_mut(&self.id) else { return };
        question.is_waited_for = false;
        question.waker = None;
        let Some(given) = question.given.take() else { return };
        let question = open.remove(&self.id);
        drop(open);
        if let Some(question) = question {
            question.settle(self.core, given);
        }
    }
}

/// A core that has idle connections to a server, if this one has none at all. A look at the counters of the others, which
/// they may have changed since. A core that has connections in use opens another one as it needs it: under load
/// connections would go to and fro between busy cores.
pub(super) fn core_with(core: &Core, server: ServerId) -> Option<CoreId> {
    // The request that wants to know has its slot already.
    if core.shard().servers[server].get(Stat::SessionsCur) > 1 {
        return None;
    }
    let (own, cores) = (core.id.index(), core.shards.len());
    // Each begins behind itself, so that not all ask the same.
    let mut others = (1..cores).map(|step| (own + step) % cores);
    let has = |other: &usize| core.shards[*other].servers[server].get(Stat::IdleConnections) > 0;
    others.find(has).map(CoreId::from_index)
}

/// Asks another core for an idle connection that served at least `uses_min` requests.
pub(super) async fn ask(
    core: &Core,
    other: CoreId,
    (backend, server): (BackendId, ServerId),
    uses_min: u32,
) -> Option<Upstream> {
    let pool = core.target(backend, server).pool?;
    let key = core.pools.borrow().key(pool).clone();
    if !is_shareable(&key) {
        return None;
    }
    let question = Question {
        pool,
        server,
        opener: core.shard().servers[server].clone(),
        keep: Keep::of(core, server),
        is_waited_for: true,
        waker: None,
        given: None,
    };
    let id = core.next_waiter_id();
    core.asked.open.borrow_mut().insert(id, question);
    let waiting = Waiting { core: core.base(), id };
    let wanted = IdleWanted { from: core.id, waiter: id, key, uses_min };
    core.peers[other.index()].send(ToCore::IdleWanted(wanted));
    let answer = poll_fn(|cx| {
        let mut open = core.asked.open.borrow_mut();
        let Some(question) = open.get_mut(&id) else { return Poll::Ready(None) };
        if let Some(given) = question.given.take() {
            let question = open.remove(&id);
            return Poll::Ready(question.zip(given));
        }
        question.waker = Some(cx.waker().clone());
        Poll::Pending
    });
    let answered = rt::with_deadline(answer, Some(rt::now() + ANSWER_WAIT)).await;
    drop(waiting);
    let (question, (socket, uses)) = answered.ok()??;
    question.upstream(socket, uses)
}

/// Whether another core could use a connection of a pool: the state of TLS and HTTP/2 is of the core that opened it, and so
/// is the ledger of source ports.
fn is_shareable(key: &PoolKey) -> bool {
    key.tls.is_none() && !key.is_h2 && key.source.is_empty()
}

/// Another core asks.
pub(super) fn wanted(core: &Rc<CoreBase>, wanted: IdleWanted) {
    let pool = core.pools.borrow().find(&wanted.key);
    let mut place = None;
    if let Some(pool) = pool {
        idle::take(core, pool, wanted.uses_min, &mut place);
    }
    match place {
        Some(up) => rt::spawn(give(core.clone(), wanted, up)),
        None => answer(core, &wanted, None),
    }
}

/// Takes the armed receive back and sends the socket.
async fn give(core: Rc<CoreBase>, wanted: IdleWanted, mut up: Upstream) {
    let socket = match &up.wire {
        Wire::Conn(conn) if up.link.recv.disarm(conn).await => conn.duplicate().ok(),
        _ => None,
    };
    if socket.is_some() {
        core.cells.count(CoreStat::IdleGiven);
    }
    answer(&core, &wanted, socket.map(|socket| (socket, up.uses)));
}

fn answer(core: &CoreBase, wanted: &IdleWanted, given: Option<(OwnedFd, u32)>) {
    let answer = IdleGiven { waiter: wanted.waiter, given };
    core.peers[wanted.from.index()].send(ToCore::IdleGiven(answer));
}

/// The answer of another core.
pub(super) fn given(core: &CoreBase, answer: IdleGiven) {
    let mut open = core.asked.open.borrow_mut();
    let Some(question) = open.get_mut(&answer.waiter) else { return };
    if question.is_waited_for {
        question.given = Some(answer.given);
        if let Some(waker) = question.waker.take() {
            waker.wake();
        }
        return;
    }
    // Whoever asked has a connection of its own by now, or is gone.
    let question = open.remove(&answer.waiter);
    drop(open);
    if let Some(question) = question {
        question.settle(core, answer.given);
    }
}

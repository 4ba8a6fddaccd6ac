//! Requests that wait for a connect take a connection that becomes free meanwhile: one that another request gives back, one
//! that was opened for somebody who found another, or a stream of one that is shared. Connects of a burst overflow the
//! accept queue of a server, and those that do come a second later.
//!
//! `reach` waits here, `idle` and `server_h2` hand over what becomes free, to who waits longest. A connect that nobody waits
//! for any more goes on, and what comes of it goes to the next who waits, or to the idle ones.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::base::id::{BackendId, ServerId};
use crate::base::limits::IDLE_PER_POOL_MAX;
use crate::base::time::Now;
use crate::policy::retry::Failure;
use crate::proxy::core::{Core, CoreBase};
use crate::proxy::dial::{self, Dialed};
use crate::proxy::forward::Link;
use crate::proxy::idle::{self, Keep, PoolId, Upstream, Wire};
use crate::proxy::server_h2::Opening;
use crate::rt;

/// A connect under way.
pub(super) type Dialing = Pin<Box<dyn Future<Output = Dialed>>>;

/// Who may have what.
pub(super) struct Wish {
    /// How many requests a connection must have served. `None`: one that nobody used.
    pub(super) uses_min: Option<u32>,
    /// The shared connection that is opened for this one among others.
    pub(super) opening: Option<Rc<Opening>>,
}

impl Wish {
    fn takes(&self, up: &Upstream) -> bool {
        up.uses == 0 || self.uses_min.is_some_and(|min| up.uses >= min)
    }
}

/// How waiting ended; an error without a failure: look again.
pub(super) type Outcome = Result<Upstream, Option<Failure>>;

/// The place of one that waits.
pub(super) struct Place {
    wish: Wish,
    outcome: RefCell<Option<Outcome>>,
    waker: RefCell<Option<Waker>>,
}

impl Place {
    fn settle(&self, outcome: Outcome) {
        *self.outcome.borrow_mut() = Some(outcome);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Those who wait for connections of one pool, the longest first.
#[derive(Default)]
pub(super) struct Line {
    places: VecDeque<Rc<Place>>,
    /// Connects that nobody waits for.
    orphans: usize,
}

impl Line {
    /// Hands a connection to the first who may have it; gives it back if nobody may.
    pub(super) fn hand(&mut self, up: Upstream) -> Option<Upstream> {
        let Some(at) = self.places.iter().position(|place| place.wish.takes(&up)) else { return Some(up) };
        if let Some(place) = self.places.remove(at) {
            place.settle(Ok(up));
        }
        None
    }

    /// Whether anybody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A shared connection is there or failed: those who still wait for it look again, or fail too.
    pub(super) fn end(&mut self, opening: &Rc<Opening>, failure: Option<Failure>) {
        self.places.retain(|place| {
            let waits = place.wish.opening.as_ref().is_some_and(|other| Rc::ptr_eq(other, opening));
            if waits {
                place.settle(Err(failure));
            }
            !waits
        });
    }
}

/// A request that waits.
pub(super) struct Wait<'a> {
    core: &'a CoreBase,
    pool: PoolId,
    keep: Keep,
    place: Rc<Place>,
}

impl<'a> Wait<'a> {
    /// Takes the last place.
    pub(super) fn new(core: &'a Core, pool: PoolId, server: ServerId, wish: Wish) -> Wait<'a> {
        if let Some(opening) = &wish.opening {
            opening.join();
        }
        let place = Rc::new(Place { wish, outcome: RefCell::default(), waker: RefCell::default() });
        core.pools.borrow_mut().line(pool).places.push_back(place.clone());
        Wait { core: core.base(), pool, keep: Keep::of(core, server), place }
    }

    /// Ready with a connection that is good for use.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Outcome> {
        let outcome = self.place.outcome.borrow_mut().take();
        match outcome {
            Some(Ok(mut up)) => {
                if matches!(up.wire, Wire::Stream(_)) || up.is_quiet() {
                    return Poll::Ready(Ok(up));
                }
                // Its server closed it on the way here.
                drop(up);
                self.core.pools.borrow_mut().line(self.pool).places.push_front(self.place.clone());
            }
            Some(failed) => return Poll::Ready(failed),
            None => {}
        }
        *self.place.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(opening) = &self.place.wish.opening {
            opening.leave();
        }
        let mut pools = self.core.pools.borrow_mut();
        let places = &mut pools.line(self.pool).places;
        if let Some(at) = places.iter().position(|place| Rc::ptr_eq(place, &self.place)) {
            places.remove(at);
        }
        drop(pools);
        // What came for a request that is gone is for the next; a stream hands itself over when it is dropped.
        let outcome = self.place.outcome.borrow_mut().take();
        if let Some(Ok(up)) = outcome {
            idle::put(self.core, self.pool, up, self.keep);
        }
    }
}

/// Lets a connect go on whose request found another connection.
pub(super) fn leave(
    core: &Rc<Core>,
    pool: PoolId,
    (backend, server): (BackendId, ServerId),
    started: Now,
    dialing: Dialing,
) {
    let mut pools = core.pools.borrow_mut();
    let line = pools.line(pool);
    // More would not be kept.
    if line.orphans >= IDLE_PER_POOL_MAX {
        return;
    }
    line.orphans += 1;
    drop(pools);
    let orphan = Orphan { core: core.base().clone(), pool };
    let core = core.clone();
    rt::spawn(async move {
        if let Ok((conn, port)) = dialing.await {
            dial::made(&core, backend, server, started);
            let opener = Some(core.shard().servers[server].clone());
            let (link, wire) = (Link::default(), Wire::Conn(conn));
            let up = Upstream { link, wire, port, pool: Some(pool), server, opener, uses: 0 };
            idle::put(&core, pool, up, Keep::of(&core, server));
        }
        drop(orphan);
    });
}

/// A connect that nobody waits for.
struct Orphan {
    core: Rc<CoreBase>,
    pool: PoolId,
}

impl Drop for Orphan {
    fn drop(&mut self) {
        self.core.pools.borrow_mut().line(self.pool).orphans -= 1;
    }
}

//! Where quiet HTTP connections are parked: without a task, with the receive that was armed last. The core's one lot task
//! starts a session again when its client sends, its time is over, or somebody wants it to end; the session then does what
//! it would have done. Nothing is decided here.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::base::chunks::Chunks;
use crate::base::time::Now;
use crate::proxy::core::CoreBase;
use crate::proxy::patience::Patience;
use crate::proxy::session::{self, Session};
use crate::rt;
use crate::stats::process::CoreStat;
use crate::tls::Receiving;

/// Deadlines are rounded up to this, so that the many of a second cost few looks through the lot.
const DEADLINE_STEP: Duration = Duration::from_millis(250);

/// What a client's side keeps while it is parked; its buffers are empty and nothing is on its way to it.
pub(super) struct Rest {
    pub(super) recv: Receiving,
    pub(super) requests: u32,
    pub(super) quiet_since: Now,
    pub(super) deadline: Option<Now>,
}

struct Parked {
    /// Before the session, which owns the connection.
    rest: Rest,
    session: Session,
}

// What every idle connection costs, beside its `Info` and its operation in the ring.
const _: () = assert!(size_of::<Option<Parked>>() <= 112);

/// Where each is; its number is what its receive is listed under.
#[derive(Default)]
struct Places {
    parked: Chunks<Option<Parked>>,
    free: Vec<u32>,
}

impl Places {
    /// A free place.
    fn find(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.parked.push(None);
            u32::try_from(self.parked.len() - 1).expect("fewer connections than 2^32")
        })
    }

    fn take(&mut self, place: u32) -> Option<Parked> {
        let parked = self.parked.get_mut(place as usize)?.take()?;
        self.free.push(place);
        Some(parked)
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &Parked)> {
        (0..).zip(self.parked.iter()).filter_map(|(place, parked)| Some((place, parked.as_ref()?)))
    }
}

/// The parked connections of a core.
#[derive(Default)]
pub(super) struct Lot {
    places: RefCell<Places>,
    /// The earliest deadline, or earlier.
    next: Cell<Option<Now>>,
    /// Somebody may want some of them to end.
    look: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Lot {
    /// Has the lot task look whether sessions were killed or should leave.
    pub(super) fn look(&self) {
        self.look.set(true);
        self.wake();
    }

    /// Drops everything, when the core ends: a session holds its core, which holds the lot.
    pub(super) fn clear(&self) {
        let places = self.places.take();
        drop(places);
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    fn is_due(&self, now: Now) -> bool {
        self.next.get().is_some_and(|next| next <= now)
    }
}

/// Parks a session whose task ends now.
pub(super) fn park(mut session: Session, rest: Rest) {
    let core = session.core.base().clone();
    let lot = &core.lot;
    session.info.forget_task();
    session.fold();
    if let Some(deadline) = rest.deadline {
        let step = DEADLINE_STEP.as_nanos().try_into().unwrap_or(u64::MAX);
        let rounded = Now(deadline.0.div_ceil(step).saturating_mul(step));
        if lot.next.get().is_none_or(|next| rounded < next) {
            lot.next.set(Some(rounded));
            lot.wake();
        }
    }
    core.cells.enter(CoreStat::Parked);
    let mut places = lot.places.borrow_mut();
    let place = places.find();
    let parked = places.parked[place as usize].insert(Parked { rest, session });
    parked.rest.recv.list(parked.session.info.conn(), place);
    // It may have been killed while it was on its way here.
    if parked.session.info.is_wanted(&core) {
        lot.look();
    }
}

/// Starts sessions again as they are wanted, as long as the core runs.
pub(super) async fn run(core: Rc<CoreBase>) {
    let lot = &core.lot;
    let mut tokens = Vec::new();
    let mut patience = Patience::default();
    loop {
        poll_fn(|cx| {
            lot.watch(cx);
            let is_listed = rt::poll_listed(cx, &mut tokens).is_ready();
            let is_due = patience.poll(cx, lot.next.get()).is_ready();
            if is_listed || is_due || lot.look.get() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        for token in tokens.drain(..) {
            // The token of one that was started for another reason may come late; whoever has its place then starts for
            // nothing and waits as a task.
            let parked = lot.places.borrow_mut().take(token);
            parked.into_iter().for_each(start);
        }
        let now = rt::now();
        let is_due = lot.is_due(now);
        if lot.look.take() || is_due {
            let wanted = |parked: &Parked| {
                parked.rest.deadline.is_some_and(|deadline| deadline <= now)
                    || parked.session.info.is_wanted(&core)
            };
            let due: Vec<u32> =
                lot.places.borrow().iter().filter(|(_, p)| wanted(p)).map(|(place, _)| place).collect();
            for place in due {
                let parked = lot.places.borrow_mut().take(place);
                parked.into_iter().for_each(start);
            }
        }
        if is_due {
            let step = |deadline: Now| (now + DEADLINE_STEP).max(deadline);
            let next = lot.places.borrow().iter().filter_map(|(_, p)| p.rest.deadline).min().map(step);
            lot.next.set(next);
        }
    }
}

fn start(parked: Parked) {
    let Parked { rest, session } = parked;
    session.core.cells.leave(CoreStat::Parked);
    session::resume(session, rest);
}

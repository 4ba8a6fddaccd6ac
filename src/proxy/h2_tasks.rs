//! The tasks of streams, of which a core keeps some for the next streams: the state of a request on its way is some kilobytes,
//! and the allocator would take them apart and put them together again for each one.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::proxy::client_h2::{self, Job};
use crate::proxy::core::CoreBase;
use crate::proxy::kept::Kept;
use crate::proxy::patience::Patience;
use crate::rt;

/// Tasks of a core that wait for a stream.
#[derive(Default)]
pub(super) struct Tasks(Kept<Rc<Seat>>);

impl Tasks {
    /// Ends those that nobody needed since it was last called, but for a few. Returns how many.
    pub(super) fn shrink(&self) -> usize {
        let unused = self.0.unused();
        for seat in &unused {
            seat.is_dismissed.set(true);
            seat.call();
        }
        unused.len()
    }

    /// Whether there are more than a few.
    pub(super) fn is_large(&self) -> bool {
        self.0.is_large()
    }
}

/// Where a task waits.
#[derive(Default)]
struct Seat {
    job: RefCell<Option<Job>>,
    waker: RefCell<Option<Waker>>,
    /// Nobody needs the task any more.
    is_dismissed: Cell<bool>,
}

impl Seat {
    fn call(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Runs a stream in a task that waits, or in another one.
pub(super) fn run(core: &Rc<CoreBase>, job: Job) {
    let Some(seat) = core.h2_spare.tasks.0.take() else {
        return rt::spawn(serve(core.clone(), job));
    };
    *seat.job.borrow_mut() = Some(job);
    seat.call();
}

/// Serves a stream, and then those that come, unless enough others wait.
async fn serve(core: Rc<CoreBase>, first: Job) {
    let seat = Rc::new(Seat::default());
    let (mut job, mut patience) = (first, Patience::default());
    loop {
        client_h2::run_stream(job, &mut patience).await;
        if !core.h2_spare.tasks.0.keep(seat.clone()) {
            return;
        }
        let next = poll_fn(|cx| match seat.job.take() {
            None if !seat.is_dismissed.get() => {
                *seat.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
            next => Poll::Ready(next),
        });
        match next.await {
            Some(next) => job = next,
            None => return,
        }
    }
}

//! The tasks of streams, of which a core keeps some for the next streams: the state of a request on its way is some kilobytes,
//! and the allocator would take them apart and put them together again for each one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::base::limits::H2_TASKS_KEPT;
use crate::proxy::client_h2::{self, Job};
use crate::proxy::core::CoreBase;
use crate::rt;

/// Tasks of a core that wait for a stream.
#[derive(Default)]
pub(super) struct Tasks(RefCell<Vec<Rc<Seat>>>);

impl Tasks {
    /// Lets a task wait here; false: enough others do.
    fn keep(&self, seat: &Rc<Seat>) -> bool {
        let mut waiting = self.0.borrow_mut();
        let has_room = waiting.len() < H2_TASKS_KEPT;
        if has_room {
            waiting.push(seat.clone());
        }
        has_room
    }
}

/// Where a task waits.
#[derive(Default)]
struct Seat {
    job: RefCell<Option<Job>>,
    waker: RefCell<Option<Waker>>,
}

/// Runs a stream in a task that waits, or in another one.
pub(super) fn run(core: &Rc<CoreBase>, job: Job) {
    let Some(seat) = core.h2_spare.tasks.0.borrow_mut().pop() else {
        return rt::spawn(serve(core.clone(), job));
    };
    *seat.job.borrow_mut() = Some(job);
    if let Some(waker) = seat.waker.take() {
        waker.wake();
    }
}

/// Serves a stream, and then those that come, unless enough others wait.
async fn serve(core: Rc<CoreBase>, first: Job) {
    let seat = Rc::new(Seat::default());
    let mut job = first;
    loop {
        client_h2::run_stream(job).await;
        if !core.h2_spare.tasks.keep(&seat) {
            return;
        }
        job = poll_fn(|cx| match seat.job.take() {
            Some(job) => Poll::Ready(job),
            None => {
                *seat.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await;
    }
}

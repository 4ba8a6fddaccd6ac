//! A deadline that moves with every message. The timer stays armed for the earliest deadline it was given and is looked
//! at when it fires, so that a request that is answered in time touches no timer at all.

use std::task::{Context, Poll};

use crate::base::time::Now;
use crate::rt::{self, Timer};

/// The deadline of one session.
#[derive(Default)]
pub(super) struct Patience {
    /// With the time at which it wakes the core.
    timer: Option<(Timer, Now)>,
}

impl Patience {
    /// Ready when `deadline` has passed; the task is woken then or earlier. Ask again whenever it is woken.
    pub(super) fn poll(&mut self, cx: &Context<'_>, deadline: Option<Now>) -> Poll<()> {
        deadline.map_or(Poll::Pending, |deadline| self.poll_between(cx, deadline, deadline))
    }

    /// The same for what has time: ready from `from` on where the core is awake anyway, and the core is woken for it at `until`.
    pub(super) fn poll_between(&mut self, cx: &Context<'_>, from: Now, until: Now) -> Poll<()> {
        loop {
            let (timer, armed) = self.timer.get_or_insert_with(|| (Timer::between(from, until), until));
            if until < *armed {
                timer.reset_between(from, until);
                *armed = until;
            }
            if timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
            if rt::now() >= from {
                return Poll::Ready(());
            }
            timer.reset_between(from, until);
            *armed = until;
        }
    }
}

//! A deadline that moves with every message. The timer stays armed for the earliest deadline it was given and is looked
//! at when it fires, so that a request that is answered in time touches no timer at all.

use std::task::{Context, Poll};

use crate::base::time::Now;
use crate::rt::Timer;

/// The deadline of one session.
#[derive(Default)]
pub(super) struct Patience {
    timer: Option<(Timer, Now)>,
}

impl Patience {
    /// Ready when `deadline` has passed; the task is woken then or earlier. Ask again whenever it is woken.
    pub(super) fn poll(&mut self, cx: &Context<'_>, deadline: Option<Now>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        loop {
            let (timer, armed) = self.timer.get_or_insert_with(|| (Timer::at(deadline), deadline));
            if deadline < *armed {
                timer.reset(deadline);
                *armed = deadline;
            }
            if timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
            if *armed >= deadline {
                return Poll::Ready(());
            }
            timer.reset(deadline);
            *armed = deadline;
        }
    }
}

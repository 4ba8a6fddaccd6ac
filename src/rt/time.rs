//! Waiting for time on a core: deadlines on the core's wheel.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::ring;
use super::wheel::TimerKey;
use crate::base::time::Now;

/// The time of the current turn (CLOCK_MONOTONIC): constant while a task runs, so that reading it costs nothing.
pub fn now() -> Now {
    ring::now()
}

/// The deadline passed first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elapsed;

/// A timer of this core. Coarse: up to a millisecond late, never early.
#[derive(Debug)]
pub struct Timer {
    /// When the core is woken for it.
    key: TimerKey,
    /// From when on it fires if the core is awake anyway.
    early: TimerKey,
}

// Every session that is served has one.
const _: () = assert!(size_of::<Timer>() == 8);

impl Timer {
    /// Arms a timer.
    pub fn at(deadline: Now) -> Timer {
        Timer { key: ring::with(|r| r.wheel().insert(deadline)), early: TimerKey::NONE }
    }

    /// Arms one for what has time: it fires when the core is awake anyway, at `from` or after it, and wakes the core for itself
    /// only at `until`.
    pub fn between(from: Now, until: Now) -> Timer {
        ring::with(|r| Timer {
            early: if from < until { r.lax_wheel().insert(from) } else { TimerKey::NONE },
            key: r.wheel().insert(until),
        })
    }

    /// Moves it; one that has fired is armed again.
    pub fn reset(&mut self, deadline: Now) {
        self.reset_between(deadline, deadline);
    }

    /// The same for one that has time.
    pub fn reset_between(&mut self, from: Now, until: Now) {
        let waker = ring::with(|r| {
            r.wheel().reset(self.key, until);
            match self.early.some() {
                Some(early) if from < until => r.lax_wheel().reset(early, from),
                Some(early) => {
                    self.early = TimerKey::NONE;
                    return r.lax_wheel().remove(early);
                }
                None if from < until => self.early = r.lax_wheel().insert(from),
                None => {}
            }
            None
        });
        drop(waker);
    }

    /// Ready once the deadline has passed.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let has_fired = ring::with(|r| {
            // Each has to know the waker.
            let early = self.early.some().is_some_and(|early| r.lax_wheel().poll(early, cx.waker()));
            r.wheel().poll(self.key, cx.waker()) || early
        });
        if has_fired { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // The waker is dropped outside of the ring's borrow: it may be the last reference to its task.
        let wakers = ring::with(|r| {
            let early = self.early.some().and_then(|early| r.lax_wheel().remove(early));
            (r.wheel().remove(self.key), early)
        });
        drop(wakers);
    }
}

/// Waits for a point in time.
pub async fn sleep_until(deadline: Now) {
    let mut timer = Timer::at(deadline);
    poll_fn(|cx| timer.poll(cx)).await;
}

/// Waits for `from` where the core is awake then or later, and for `until` where it sleeps: what has time wakes nobody.
pub async fn sleep_between(from: Now, until: Now) {
    let mut timer = Timer::between(from, until);
    poll_fn(|cx| timer.poll(cx)).await;
}

/// Runs a future until a deadline (`None`: without one); the future is dropped, and so cancelled, when it passes.
pub async fn with_deadline<F: Future>(future: F, deadline: Option<Now>) -> Result<F::Output, Elapsed> {
    let Some(deadline) = deadline else { return Ok(future.await) };
    let mut future = pin!(future);
    // Most operations are ready at once or soon: the timer is made only when there is something to wait for.
    let mut timer: Option<Timer> = None;
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match timer.get_or_insert_with(|| Timer::at(deadline)).poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(Elapsed)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Lets other tasks of this core run; used after a fixed amount of work on network data.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Which of two futures was ready first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Either<A, B> {
    /// The first.
    First(A),
    /// The second.
    Second(B),
}

/// Waits for the first of two futures; the other is dropped, and so cancelled. The first is looked at first.
pub async fn select<A: Future, B: Future>(a: A, b: B) -> Either<A::Output, B::Output> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|cx: &mut Context<'_>| {
        let (a, b): (Pin<&mut A>, Pin<&mut B>) = (a.as_mut(), b.as_mut());
        if let Poll::Ready(out) = a.poll(cx) {
            return Poll::Ready(Either::First(out));
        }
        b.poll(cx).map(Either::Second)
    })
    .await
}

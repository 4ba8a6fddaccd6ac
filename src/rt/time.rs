//! Waiting for time on a core: deadlines on the core's wheel.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::ring;
use super::wheel::TimerKey;
use crate::base::time::Now;

/// The time of the current turn (CLOCK_MONOTONIC): constant while a task runs, so that reading it costs nothing.
pub fn now() -> Now {
    ring::with(|r| r.now())
}

/// The deadline passed first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elapsed;

/// A timer on the wheel of this core. Coarse: up to a millisecond late, never early.
#[derive(Debug)]
pub struct Timer {
    key: TimerKey,
}

impl Timer {
    /// Arms a timer.
    pub fn at(deadline: Now) -> Timer {
        Timer { key: ring::with(|r| r.wheel().insert(deadline)) }
    }

    /// Moves it; one that has fired is armed again.
    pub fn reset(&mut self, deadline: Now) {
        ring::with(|r| r.wheel().reset(self.key, deadline));
    }

    /// Ready once the deadline has passed.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if ring::with(|r| r.wheel().poll(self.key, cx.waker())) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // The waker is dropped outside of the ring's borrow: it may be the last reference to its task.
        let waker = ring::with(|r| r.wheel().remove(self.key));
        drop(waker);
    }
}

/// Waits for a point in time.
pub async fn sleep_until(deadline: Now) {
    let mut timer = Timer::at(deadline);
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

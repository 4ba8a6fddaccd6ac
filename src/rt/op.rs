//! One operation = one future that owns what the kernel works on, until the completion is in.
//!
//! Dropping an [`Op`] mid-flight cancels it; what it keeps stays in the ring's slab until the kernel has answered. No
//! pointer into a task's own memory is ever handed to the ring.

use std::io;
use std::task::{Context, Poll, Waker};

use io_uring::squeue;
use socket2::SockAddr;

use super::bufs::{self, RecvBuf};
use super::ring;

/// Bytes to send, owned by the operation while it runs.
#[derive(Debug)]
pub enum SendBuf {
    /// Received bytes that are passed on from where the kernel put them.
    Recv(RecvBuf),
    /// Bytes of our own; `start..` is sent.
    Heap {
        /// The bytes.
        bytes: Vec<u8>,
        /// Where to start.
        start: usize,
    },
    /// A constant.
    Static(&'static [u8]),
}

impl SendBuf {
    /// What is still to be sent.
    pub fn remaining(&self) -> &[u8] {
        match self {
            SendBuf::Recv(b) => b,
            SendBuf::Heap { bytes, start } => &bytes[*start..],
            SendBuf::Static(b) => b,
        }
    }

    /// Forgets `n` bytes at the front.
    pub fn advance(&mut self, n: usize) {
        match self {
            SendBuf::Recv(b) => b.advance(n),
            SendBuf::Heap { start, .. } => *start += n,
            SendBuf::Static(b) => *b = &b[n..],
        }
    }
}

impl From<RecvBuf> for SendBuf {
    fn from(b: RecvBuf) -> Self {
        SendBuf::Recv(b)
    }
}

impl From<Vec<u8>> for SendBuf {
    fn from(bytes: Vec<u8>) -> Self {
        SendBuf::Heap { bytes, start: 0 }
    }
}

/// What an operation needs to stay alive until it is complete.
#[derive(Debug, Default)]
pub(super) enum Keep {
    #[default]
    Nothing,
    Send(SendBuf),
    Addr(#[expect(dead_code, reason = "only the kernel reads it")] Box<SockAddr>),
    /// Bytes that the kernel writes into, whole.
    Bytes(Box<[u8]>),
}

/// What the result of an operation stands for, so that one whose future is gone is cleaned up rightly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Yields {
    /// A number.
    Count,
    /// A descriptor that is ours to close.
    Descriptor,
}

/// A completion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) result: i32,
    pub(super) flags: u32,
}

impl Done {
    /// The count, or the error.
    pub(super) fn count(self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

/// An operation in flight.
#[derive(Debug)]
pub(super) struct Op {
    key: u32,
}

const FINISHED: u32 = u32::MAX;

impl Op {
    /// Queues an operation; it reaches the kernel with the next turn.
    ///
    /// # Safety
    /// Every pointer in `entry` must point into `keep`, into memory that lives as long as the process, or be null.
    pub(super) unsafe fn submit(entry: squeue::Entry, keep: Keep, yields: Yields) -> Op {
        Op { key: ring::with(|r| r.push_op(entry, keep, yields, false)) }
    }

    /// As [`submit`](Self::submit) for an operation that completes several times.
    ///
    /// # Safety
    /// As for `submit`.
    pub(super) unsafe fn submit_multi(entry: squeue::Entry, keep: Keep, yields: Yields) -> Op {
        Op { key: ring::with(|r| r.push_op(entry, keep, yields, true)) }
    }

    /// One that was done without the ring: ready when it is polled.
    pub(super) fn done(done: Done, keep: Keep) -> Op {
        Op { key: ring::with(|r| r.push_done(done, keep)) }
    }

    /// The completion and what the operation kept. Must not be polled again after it was ready.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<(Done, Keep)> {
        assert!(self.key != FINISHED, "operation polled after its completion");
        let ready = ring::with(|r| r.poll_op(self.key, cx.waker()));
        if ready.is_some() {
            self.key = FINISHED;
        }
        ready.map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether it is complete, for whoever does not wait for it.
    pub(super) fn is_done(&self) -> bool {
        self.key == FINISHED || ring::with(|r| r.is_done(self.key))
    }

    /// The next completion of a multishot operation; `(_, false)` is its last.
    pub(super) fn poll_multi(&mut self, cx: &Context<'_>) -> Poll<(Done, bool)> {
        assert!(self.key != FINISHED, "operation polled after its last completion");
        let Some((done, more)) = ring::with(|r| r.poll_multi(self.key, cx.waker())) else {
            return Poll::Pending;
        };
        if !more {
            self.key = FINISHED;
        }
        Poll::Ready((done, more))
    }
}

impl Op {
    /// Lets its completion be listed under `token` instead of waking whoever polled it last; see [`poll_listed`].
    pub(super) fn list(&self, token: u32) {
        let waker = ring::with(|r| r.list(self.key, token));
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Asks the kernel to end the operation; its completion still comes.
    pub(super) fn cancel(&self) {
        ring::with(|r| r.cancel(self.key));
    }
}

/// Ready when operations that were marked are complete: their tokens are appended to `out`. For one task a core.
pub fn poll_listed(cx: &Context<'_>, out: &mut Vec<u32>) -> Poll<()> {
    if ring::with(|r| r.poll_listed(cx.waker(), out)) { Poll::Ready(()) } else { Poll::Pending }
}

impl Drop for Op {
    fn drop(&mut self) {
        if self.key != FINISHED {
            // What was kept of an operation that is already complete is dropped outside of the ring's borrow.
            ring::with(|r| r.orphan(self.key)).settle();
        }
    }
}

/// Cleans up after an operation whose future is gone.
pub(super) fn discard(done: Done, yields: Yields) {
    if let Some(id) = io_uring::cqueue::buffer_select(done.flags) {
        drop(bufs::take(id, usize::try_from(done.result).unwrap_or(0)));
    }
    if yields == Yields::Descriptor && done.result >= 0 {
        super::sys::close(done.result);
    }
}

/// Completions and their wakers, collected while the ring is borrowed.
#[derive(Default)]
pub(super) struct Reaped {
    pub(super) wakers: Vec<Waker>,
    pub(super) discarded: Vec<(Done, Yields, Keep)>,
}

impl Reaped {
    /// Wakes and cleans up; the ring must not be borrowed.
    pub(super) fn settle(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
        for (done, yields, keep) in self.discarded.drain(..) {
            discard(done, yields);
            drop(keep);
        }
    }
}

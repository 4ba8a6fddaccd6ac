//! Messages between cores. Sending never blocks and never fails; a sleeping core is woken through its eventfd, a core
//! that is awake sees a flag on its next turn and costs the sender no system call.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use crossbeam::queue::SegQueue;

use super::sys;
use crate::base::shared;

/// Wakes a core from any thread.
#[derive(Debug)]
pub struct CoreWaker {
    event: OwnedFd,
    /// Somebody sent something since the core last looked.
    mail: AtomicBool,
    /// The core is parked or about to park: a sender has to write to the eventfd.
    asleep: AtomicBool,
}

thread_local! {
    /// Receivers of this core that wait for mail.
    static WAITING: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}

impl CoreWaker {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(CoreWaker {
            event: sys::eventfd()?,
            mail: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
        }))
    }

    pub(super) fn fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Makes the core look at its mailboxes.
    pub(super) fn wake(&self) {
        shared::wrote();
        // Pairs with `prepare_to_sleep`: of "mail is set" and "asleep is set" one side sees the other's.
        self.mail.store(true, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            sys::eventfd_signal(self.fd());
        }
    }

    /// Leaves word for the core without waking it: it looks the next time that it is awake, and before it parks.
    fn leave(&self) {
        shared::wrote();
        self.mail.store(true, Ordering::SeqCst);
    }

    /// Announces that the core is about to park; false if there is mail, then it must not.
    pub(super) fn prepare_to_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        !self.mail.load(Ordering::SeqCst)
    }

    pub(super) fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// If there is mail, everybody on this core who waits for some.
    pub(super) fn deliver(&self, wakers: &mut Vec<Waker>) {
        if self.mail.load(Ordering::Relaxed) && self.mail.swap(false, Ordering::SeqCst) {
            WAITING.with_borrow_mut(|w| wakers.append(w));
        }
    }
}

/// Sends to one core from any thread.
#[derive(Debug)]
pub struct Sender<M> {
    queue: Arc<SegQueue<M>>,
    core: Arc<CoreWaker>,
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Self {
        Sender { queue: self.queue.clone(), core: self.core.clone() }
    }
}

impl<M> Sender<M> {
    /// Puts a message into the core's mailbox.
    pub fn send(&self, message: M) {
        self.queue.push(message);
        self.core.wake();
    }

    /// Puts a message there for when the core is awake: it is not woken for it.
    pub fn leave(&self, message: M) {
        self.queue.push(message);
        self.core.leave();
    }
}

/// The receiving end; belongs to one core.
#[derive(Debug)]
pub struct Receiver<M> {
    queue: Arc<SegQueue<M>>,
    /// Stays on its core.
    _local: std::marker::PhantomData<Rc<()>>,
}

impl<M> Receiver<M> {
    /// The next message; waits for one.
    pub async fn recv(&self) -> M {
        poll_fn(|cx| match self.queue.pop() {
            Some(message) => Poll::Ready(message),
            None => {
                WAITING.with_borrow_mut(|waiting| {
                    if !waiting.iter().any(|w| w.will_wake(cx.waker())) {
                        waiting.push(cx.waker().clone());
                    }
                });
                // A message that came between the look and the registration set the flag, and the driver's next turn
                // delivers it: no wake-up is lost.
                Poll::Pending
            }
        })
        .await
    }
}

/// A mailbox before its core runs: the half that may still travel to that core's thread.
#[derive(Debug)]
pub struct Mailbox<M> {
    queue: Arc<SegQueue<M>>,
    core: Arc<CoreWaker>,
}

impl<M> Mailbox<M> {
    pub(super) fn new(core: Arc<CoreWaker>) -> Self {
        Mailbox { queue: Arc::new(SegQueue::new()), core }
    }

    /// A sender to this mailbox.
    pub fn sender(&self) -> Sender<M> {
        Sender { queue: self.queue.clone(), core: self.core.clone() }
    }

    /// The receiving end; call it on the mailbox's own core.
    pub fn receiver(self) -> Receiver<M> {
        Receiver { queue: self.queue, _local: std::marker::PhantomData }
    }
}

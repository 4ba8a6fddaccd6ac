//! The io_uring of one core: operations in flight, the timer wheel, and the turn that drives both.
//!
//! One `io_uring_enter` a turn submits everything queued and reaps everything complete. A core with nothing to do parks
//! in that same call (`min_complete` = 1, the wheel's next deadline as its timeout), so parking costs no extra call.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::task::Waker;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use super::bufs;
use super::mailbox::CoreWaker;
use super::op::{Done, Keep, Reaped, Yields};
use super::sys;
use super::wheel::Wheel;
use crate::base::chunks::Chunks;
use crate::base::time::Now;

/// Submission entries: what one turn queues under full load; beyond it the turn is split.
const SQ_ENTRIES: u32 = 1024;
/// Completion entries: multishot operations may complete more often than they are submitted.
const CQ_ENTRIES: u32 = 8192;
/// Completions of a turn up to which a core that slept is taken to have little to do, and nanoseconds from which on it slept.
const FEW: u64 = 2;
const SLEPT_NS: u64 = 50_000;
/// Completions without an operation.
const IGNORED: u64 = u64::MAX;
/// The poll on the core's eventfd.
const MAIL: u64 = u64::MAX - 1;

thread_local! {
    static RING: RefCell<Option<Ring>> = const { RefCell::new(None) };
    /// The time of the turn. Apart from the ring, as it is read many times a request.
    static NOW: Cell<Now> = const { Cell::new(Now(0)) };
}

/// The time of the turn.
pub(super) fn now() -> Now {
    NOW.get()
}

/// What became of an operation. A slot is used again only after the kernel's last word on it.
///
/// ```text
/// push -> Waiting -> Done -> (polled) free
///          | |  |       +---> (dropped) free
///          | |  +-> Orphan -> (last completion) free
///          | v          ^
///          Listed ------+----> Done, and its token is listed
/// ```
#[derive(Debug)]
enum State {
    Waiting(Option<Waker>),
    /// Nobody waits for it: what it was marked with is listed when it completes.
    Listed(u32),
    Done(Done),
    Orphan,
}

#[derive(Debug)]
struct Slot {
    state: State,
    keep: Keep,
    yields: Yields,
    /// Completions of a multishot operation that nobody has taken yet; `false` marks the last.
    #[allow(clippy::box_collection, reason = "few slots have one; inline it would be a third of every slot")]
    multi: Option<Box<VecDeque<(Done, bool)>>>,
    /// Tells a completion for an earlier use of this slot apart.
    generation: u32,
}

/// Counts of what a core did.
#[derive(Clone, Copy, Default, Debug)]
pub struct Activity {
    /// Turns of the driver that entered the kernel.
    pub enters: u64,
    /// Operations submitted, or done at once.
    pub submitted: u64,
    /// Operations completed.
    pub completed: u64,
    /// Times the core was woken by another.
    pub mails: u64,
    /// Turns that blocked because nothing was runnable.
    pub waits: u64,
    /// Nanoseconds spent blocked.
    pub idle_ns: u64,
    /// Timers that fired.
    pub timers: u64,
}

/// The ring of one core.
pub(super) struct Ring {
    io: IoUring,
    slots: Chunks<Slot>,
    free: Vec<u32>,
    /// Entries that found the submission queue full, in order.
    backlog: VecDeque<squeue::Entry>,
    wheel: Wheel,
    /// Timers that the core is not woken for: looked at when it is awake anyway.
    lax: Wheel,
    waker: Arc<CoreWaker>,
    mail_armed: bool,
    /// The core slept before this turn and woke for little: what is submitted shares its system call with nothing.
    calm: bool,
    activity: Activity,
    /// Tokens of operations that are complete, and who asked for them.
    listed: Vec<u32>,
    lister: Option<Waker>,
}

/// Makes the ring of this core.
pub(super) fn install(waker: Arc<CoreWaker>, buffers: u16) -> io::Result<()> {
    let io: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(CQ_ENTRIES)
        .setup_clamp()
        .build(SQ_ENTRIES)?;
    bufs::install(&io.submitter(), buffers)?;
    let now = sys::clock();
    NOW.set(now);
    let ring = Ring {
        io,
        slots: Chunks::default(),
        free: Vec::new(),
        backlog: VecDeque::new(),
        wheel: Wheel::new(now),
        lax: Wheel::new(now),
        waker,
        mail_armed: false,
        calm: false,
        activity: Activity::default(),
        listed: Vec::new(),
        lister: None,
    };
    RING.with_borrow_mut(|r| *r = Some(ring));
    Ok(())
}

/// Runs `f` on the ring of this core. `f` must not wake, drop operations or otherwise come back here.
pub(super) fn with<R>(f: impl FnOnce(&mut Ring) -> R) -> R {
    RING.with_borrow_mut(|r| f(r.as_mut().expect("IO belongs to a core that runs")))
}

/// Cancels everything in flight and waits for the kernel's answers, so that the ring's memory may go with the thread.
/// Nobody is woken: tasks do not run any more, they are dropped with their executor.
pub(super) fn wind_down() {
    let mut reaped = Reaped::default();
    with(|r| {
        r.push(opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(IGNORED));
    });
    // Sockets answer a cancel at once; the bound is for a file system that does not.
    for _ in 0..100 {
        with(|r| r.turn(false, &mut reaped));
        if with(|r| r.waiting()) == 0 {
            break;
        }
    }
    // Wakers name tasks of the executor, which goes before the ring does.
    with(|r| {
        r.wheel.take_wakers(&mut reaped.wakers);
        r.lax.take_wakers(&mut reaped.wakers);
        reaped.wakers.extend(r.lister.take());
    });
    reaped.wakers.clear();
    reaped.settle();
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Closes that dropped tasks queued. What fails here fails with the thread.
        let _ = self.io.submit();
        if self.waiting() > 0 {
            // The kernel may still write into what these operations keep: leaking it is the sound way out.
            std::mem::forget(std::mem::take(&mut self.slots));
        }
    }
}

impl Ring {
    pub(super) fn wheel(&mut self) -> &mut Wheel {
        &mut self.wheel
    }

    pub(super) fn lax_wheel(&mut self) -> &mut Wheel {
        &mut self.lax
    }

    pub(super) fn activity(&self) -> Activity {
        self.activity
    }

    /// Where the kernel stands in the ring of receive buffers; it tells from 6.8 on.
    pub(super) fn buffers_head(&self) -> Option<u16> {
        sys::buffer_ring_head(self.io.as_raw_fd(), bufs::GROUP)
    }

    /// Operations that the kernel has not answered for the last time.
    fn waiting(&self) -> usize {
        let open = |slot: &&Slot| match slot.state {
            State::Waiting(_) => slot.multi.as_ref().is_none_or(|m| m.back().is_none_or(|(_, more)| *more)),
            State::Orphan | State::Listed(_) => true,
            State::Done(_) => false,
        };
        let free = self.free.iter().filter(|key| open(&&self.slots[**key as usize])).count();
        self.slots.iter().filter(open).count() - free
    }

    /// Queues an operation and returns its slot.
    pub(super) fn push_op(&mut self, entry: squeue::Entry, keep: Keep, yields: Yields, multi: bool) -> u32 {
        let (key, generation) = self.slot(keep, yields, multi.then(Box::default));
        self.push(entry.user_data(user_data(key, generation)));
        self.activity.submitted += 1;
        key
    }

    /// A slot that waits, and its generation.
    #[allow(clippy::box_collection, reason = "as in `Slot`")]
    fn slot(&mut self, keep: Keep, yields: Yields, multi: Option<Box<VecDeque<(Done, bool)>>>) -> (u32, u32) {
        let state = State::Waiting(None);
        match self.free.pop() {
            Some(key) => {
                let slot = &mut self.slots[key as usize];
                let generation = slot.generation.wrapping_add(1) & 0x7fff_ffff;
                *slot = Slot { state, keep, yields, multi, generation };
                (key, generation)
            }
            None => {
                let key = u32::try_from(self.slots.len()).expect("fewer operations than 2^32");
                self.slots.push(Slot { state, keep, yields, multi, generation: 0 });
                (key, 0)
            }
        }
    }

    /// Whether a system call of its own is cheaper for what need not wait than an operation: the core is woken for it, submits and
    /// reaps it alone.
    pub(super) fn is_calm(&self) -> bool {
        self.calm
    }

    /// A slot of an operation that was done without the ring.
    pub(super) fn push_done(&mut self, done: Done, keep: Keep) -> u32 {
        let key = self.slot(keep, Yields::Count, None).0;
        self.slots[key as usize].state = State::Done(done);
        self.activity.submitted += 1;
        self.activity.completed += 1;
        key
    }

    /// Queues a close; nobody waits for it.
    pub(super) fn push_close(&mut self, fd: RawFd) {
        self.activity.submitted += 1;
        // A completion that nobody waits for would end the next wait at once.
        let close = opcode::Close::new(Fd(fd)).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(close.user_data(IGNORED));
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: what `entry` points at is kept in its slot until its completion (the contract of `Op::submit`), or it
        // points at nothing (cancel, poll).
        let full = !self.backlog.is_empty() || unsafe { self.io.submission().push(&entry).is_err() };
        if full {
            self.backlog.push_back(entry);
        }
    }

    /// Whether an operation that nobody polls is complete.
    pub(super) fn is_done(&self, key: u32) -> bool {
        matches!(self.slots[key as usize].state, State::Done(_))
    }

    pub(super) fn poll_op(&mut self, key: u32, waker: &Waker) -> Option<(Done, Keep)> {
        let slot = &mut self.slots[key as usize];
        match &mut slot.state {
            State::Done(done) => {
                let done = *done;
                let keep = std::mem::take(&mut slot.keep);
                self.free.push(key);
                Some((done, keep))
            }
            State::Waiting(registered) => {
                register(registered, waker);
                None
            }
            State::Listed(_) => {
                slot.state = State::Waiting(Some(waker.clone()));
                None
            }
            State::Orphan => unreachable!("an orphan has no future that could poll it"),
        }
    }

    pub(super) fn poll_multi(&mut self, key: u32, waker: &Waker) -> Option<(Done, bool)> {
        let slot = &mut self.slots[key as usize];
        let queue = slot.multi.as_mut().expect("polled as what it was submitted as");
        if let Some((done, more)) = queue.pop_front() {
            if !more {
                self.free.push(key);
            }
            return Some((done, more));
        }
        if let State::Waiting(registered) = &mut slot.state {
            register(registered, waker);
        }
        None
    }

    /// The future of an operation is gone: cancel it, or free its slot if it is complete.
    #[must_use = "what was kept is dropped outside of the ring's borrow"]
    pub(super) fn orphan(&mut self, key: u32) -> Reaped {
        let mut left = Reaped::default();
        let slot = &mut self.slots[key as usize];
        let mut complete = false;
        for (done, more) in slot.multi.take().into_iter().flat_map(|queue| *queue) {
            left.discarded.push((done, slot.yields, Keep::Nothing));
            complete |= !more;
        }
        if let State::Done(done) = slot.state {
            left.discarded.push((done, slot.yields, std::mem::take(&mut slot.keep)));
            complete = true;
        }
        if complete {
            self.free.push(key);
        } else {
            slot.state = State::Orphan;
            self.cancel(key);
        }
        left
    }

    /// Lets the completion of an operation be listed under `token`; nobody is woken for it but who asks for the list.
    #[must_use = "what it holds is dropped outside of the ring's borrow"]
    pub(super) fn list(&mut self, key: u32, token: u32) -> Option<Waker> {
        let slot = &mut self.slots[key as usize];
        match &mut slot.state {
            State::Waiting(waker) => {
                let waker = waker.take();
                slot.state = State::Listed(token);
                waker
            }
            State::Listed(listed) => {
                *listed = token;
                None
            }
            State::Done(_) => {
                self.listed.push(token);
                self.lister.take()
            }
            State::Orphan => unreachable!("an orphan has no future that could list it"),
        }
    }

    /// Moves the list of completions to `out`; false: there is none, and `waker` is woken when there is.
    pub(super) fn poll_listed(&mut self, waker: &Waker, out: &mut Vec<u32>) -> bool {
        if self.listed.is_empty() {
            register(&mut self.lister, waker);
            return false;
        }
        out.append(&mut self.listed);
        true
    }

    /// Asks the kernel to end an operation in flight.
    pub(super) fn cancel(&mut self, key: u32) {
        let target = user_data(key, self.slots[key as usize].generation);
        let cancel = opcode::AsyncCancel::new(target).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(cancel.user_data(IGNORED));
    }

    /// One turn: submit everything queued, reap everything complete, fire the timers that are due. With `block` it waits
    /// for a completion, a timer or another core, unless mail came in meanwhile. True: something completed.
    pub(super) fn turn(&mut self, block: bool, reaped: &mut Reaped) -> bool {
        bufs::offer();
        self.arm_mail();
        let block = block && self.backlog.is_empty() && self.waker.prepare_to_sleep();
        let blocked_at = block.then(sys::clock);
        self.enter(blocked_at);
        self.waker.awake();
        while !self.backlog.is_empty() {
            self.drain_backlog();
            self.enter(None);
        }
        let now = sys::clock();
        NOW.set(now);
        let slept_ns = blocked_at.map_or(0, |at| now.0.saturating_sub(at.0));
        self.activity.waits += u64::from(blocked_at.is_some());
        self.activity.idle_ns += slept_ns;
        let completed = self.activity.completed;
        self.reap(reaped);
        let Ring { wheel, lax, .. } = self;
        let due = reaped.wakers.len();
        wheel.advance(now, &mut reaped.wakers);
        lax.advance(now, &mut reaped.wakers);
        self.activity.timers += (reaped.wakers.len() - due) as u64;
        let completed = self.activity.completed - completed;
        self.calm = slept_ns >= SLEPT_NS && completed <= FEW;
        completed > 0
    }

    /// `block`: the time at which it begins to wait, if it may.
    fn enter(&mut self, block: Option<Now>) {
        self.activity.enters += 1;
        let result = if let Some(now) = block {
            let timeout = self.wheel.next_wake().map(|at| {
                let ns = at.since(now);
                Timespec::new().sec(ns.as_secs()).nsec(ns.subsec_nanos())
            });
            let mut args = SubmitArgs::new();
            if let Some(timespec) = &timeout {
                args = args.timespec(timespec);
            }
            self.io.submitter().submit_with_args(1, &args)
        } else {
            self.io.submitter().submit_with_args(0, &SubmitArgs::new())
        };
        match result {
            Ok(_) => {}
            Err(e) => match e.raw_os_error() {
                // ETIME: the wheel's turn. EINTR: a signal for somebody else. EBUSY, EAGAIN: completions must be reaped
                // first; entries stay queued for the next turn.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                _ => panic!("io_uring_enter failed: {e}"),
            },
        }
    }

    fn drain_backlog(&mut self) {
        let mut sq = self.io.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: as in `push`.
            if unsafe { sq.push(entry).is_err() } {
                break;
            }
            self.backlog.pop_front();
        }
    }

    fn arm_mail(&mut self) {
        if !self.mail_armed {
            self.mail_armed = true;
            let events = u32::try_from(libc::POLLIN).expect("a small flag");
            let poll = opcode::PollAdd::new(Fd(self.waker.fd()), events).multi(true).build();
            self.push(poll.user_data(MAIL));
        }
    }

    fn reap(&mut self, reaped: &mut Reaped) {
        let Ring { io, slots, free, activity, mail_armed, listed, .. } = self;
        for cqe in io.completion() {
            activity.completed += 1;
            let more = cqueue::more(cqe.flags());
            match cqe.user_data() {
                IGNORED => {}
                MAIL => {
                    activity.mails += 1;
                    *mail_armed = more;
                }
                data => {
                    let key = u32::try_from(data & u64::from(u32::MAX)).expect("masked");
                    let slot = &mut slots[key as usize];
                    debug_assert_eq!(
                        u64::from(slot.generation),
                        data >> 32,
                        "completion of a slot's former use"
                    );
                    let done = Done { result: cqe.result(), flags: cqe.flags() };
                    if complete(slot, done, more, reaped, listed) {
                        free.push(key);
                    }
                }
            }
        }
        if !self.listed.is_empty() {
            reaped.wakers.extend(self.lister.take());
        }
        // Wakes whoever waits for mail: a flag that is set without an eventfd write is seen here too.
        self.waker.deliver(&mut reaped.wakers);
    }
}

/// Notes a completion; true when the slot is free.
fn complete(slot: &mut Slot, done: Done, more: bool, reaped: &mut Reaped, listed: &mut Vec<u32>) -> bool {
    match &mut slot.state {
        State::Listed(token) => {
            listed.push(*token);
            slot.state = State::Done(done);
            false
        }
        State::Orphan => {
            let keep = if more { Keep::Nothing } else { std::mem::take(&mut slot.keep) };
            reaped.discarded.push((done, slot.yields, keep));
            !more
        }
        State::Waiting(waker) => {
            reaped.wakers.extend(waker.take());
            match &mut slot.multi {
                Some(queue) => queue.push_back((done, more)),
                None => slot.state = State::Done(done),
            }
            false
        }
        State::Done(_) => unreachable!("a single operation completes once"),
    }
}

fn register(registered: &mut Option<Waker>, waker: &Waker) {
    match registered {
        Some(w) if w.will_wake(waker) => {}
        r => *r = Some(waker.clone()),
    }
}

fn user_data(key: u32, generation: u32) -> u64 {
    // Generations of 31 bits (see `push_op`) keep user data away from the two special values.
    u64::from(generation) << 32 | u64::from(key)
}

/// Whether this kernel lets us have a ring as the cores use it.
pub(super) fn probe() -> io::Result<()> {
    let _: IoUring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8)?;
    Ok(())
}

/// What the cores submit.
const OPERATIONS: [(u8, &str); 8] = [
    (opcode::AcceptMulti::CODE, "accept"),
    (opcode::AsyncCancel::CODE, "async cancel"),
    (opcode::Close::CODE, "close"),
    (opcode::Connect::CODE, "connect"),
    (opcode::PollAdd::CODE, "poll"),
    (opcode::Read::CODE, "read"),
    (opcode::Recv::CODE, "recv"),
    (opcode::Send::CODE, "send"),
];

/// Those of [`OPERATIONS`] that this kernel has not.
pub(super) fn missing_operations() -> io::Result<Vec<&'static str>> {
    let ring: IoUring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    Ok(OPERATIONS.iter().filter(|(code, _)| !probe.is_supported(*code)).map(|(_, name)| *name).collect())
}

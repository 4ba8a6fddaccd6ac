//! Receive buffers of one core: one reserved address range, a part of which the kernel may fill at any time.
//!
//! A receive names no buffer; the kernel takes one from the provided-buffer ring when data is there
//! (IORING_REGISTER_PBUF_RING), so an idle connection holds none. Only a few buffers are offered at a time and the one
//! given back last is offered first: the same memory stays in the cache however many there are. Pages that were never
//! offered cost no memory, and those of a burst go back to the kernel after it.

use std::cell::RefCell;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::Waker;

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::base::limits::BUF_BYTES;

/// The only buffer group of a ring.
pub(super) const GROUP: u16 = 0;
/// Buffers offered to the kernel at first: what a turn under moderate load consumes, 256 KiB of cache.
const OFFER_MIN: u16 = 16;

/// Turns after which it is judged whether fewer would do.
const ADJUST_TURNS: u16 = 1000;

/// Buffers in use lately above which it is worth asking the kernel to take pages back.
const TOUCHED_KEPT: u16 = 2 * OFFER_MIN;

/// The id of bytes that lie in no buffer of the pool.
const NO_BUFFER: u16 = u16::MAX;

thread_local! {
    static POOL: RefCell<Option<Pool>> = const { RefCell::new(None) };
}

struct Pool {
    memory: NonNull<u8>,
    ring: NonNull<BufRingEntry>,
    ring_entries: u16,
    tail: u16,
    /// How many buffers the kernel should have: more after a turn in which it ran out, fewer when it never needs them.
    offer: u16,
    ran_out: bool,
    /// The fewest buffers that the kernel had left at the end of a turn lately, and of how many turns.
    left_min: u16,
    turns: u16,
    offered: u16,
    free: Vec<u16>,
    waiting: Vec<Waker>,
    count: u16,
    exhausted: u64,
    /// Receives that waited because all buffers hold bytes.
    short: u64,
    /// Buffers with pages, a bit each.
    touched: Vec<u64>,
    /// How many they are.
    touched_len: u16,
    /// Room to look which of them hold nothing.
    empty: Vec<u64>,
    /// Filled buffers that were taken over, ever.
    taken: u64,
    /// As it was when it was last looked whether pages may go.
    taken_before: u64,
}

impl Pool {
    /// Follows the load: once a turn, so that a burst of failures counts as one.
    fn adjust(&mut self) {
        if std::mem::take(&mut self.ran_out) {
            self.offer = self.offer.saturating_mul(2).min(self.count);
            self.turns = 0;
            self.left_min = u16::MAX;
            return;
        }
        self.left_min = self.left_min.min(self.offered);
        self.turns += 1;
        if self.turns == ADJUST_TURNS {
            // Half of them were never touched: the same memory again is better than more of it.
            if self.left_min > self.offer / 2 {
                self.offer = (self.offer / 2).max(OFFER_MIN.min(self.count));
            }
            self.turns = 0;
            self.left_min = u16::MAX;
        }
    }

    fn touch(&mut self, id: u16) {
        let is_new = set_bit(&mut self.touched, id);
        self.touched_len += u16::from(is_new);
    }

    /// Forgets the pages of touched buffers that hold nothing, but for those of the few that are taken next; calls `give` with
    /// each run of them. `head`: where the kernel stands in the ring.
    fn forget_touched(&mut self, head: Option<u16>, give: impl Fn(Range<u16>)) {
        self.empty.fill(0);
        let cold = self.free.len().saturating_sub(usize::from(OFFER_MIN));
        for id in &self.free[..cold] {
            set_bit(&mut self.empty, *id);
        }
        let left = head.map_or(0, |head| self.tail.wrapping_sub(head)).min(self.ring_entries);
        for back in 1..=left {
            let at = self.tail.wrapping_sub(back) & (self.ring_entries - 1);
            // SAFETY: the masked index lies inside the ring, whose entries nobody but us writes.
            let id = unsafe { (*self.ring.as_ptr().add(usize::from(at))).bid() };
            set_bit(&mut self.empty, id);
        }
        let mut run = 0..0;
        for id in 0..self.count {
            let (word, bit) = (usize::from(id / 64), 1 << (id % 64));
            if self.empty[word] & self.touched[word] & bit == 0 {
                continue;
            }
            self.touched[word] &= !bit;
            self.touched_len -= 1;
            if run.end != id {
                give(std::mem::replace(&mut run, id..id));
            }
            run.end = id + 1;
        }
        give(run);
    }
}

/// True: it was not set before.
fn set_bit(bits: &mut [u64], at: u16) -> bool {
    let (word, bit) = (&mut bits[usize::from(at / 64)], 1 << (at % 64));
    let is_new = *word & bit == 0;
    *word |= bit;
    is_new
}

/// Bytes that a connection received. Gives its buffer back when dropped.
#[derive(Debug)]
pub struct RecvBuf {
    data: NonNull<u8>,
    start: u16,
    end: u16,
    /// The buffer of the pool.
    id: u16,
    /// Bytes of a block of our own instead; 0: a buffer of the pool.
    owned: u16,
}

impl RecvBuf {
    /// Bytes that were put together elsewhere, shown as if they had been received at once: `range` of `bytes`, which must
    /// be shorter than 64 KiB.
    pub fn from_block(bytes: Box<[u8]>, range: Range<usize>) -> RecvBuf {
        assert!(range.start <= range.end && range.end <= bytes.len(), "the range lies in the block");
        let owned = u16::try_from(bytes.len()).expect("shorter than 64 KiB");
        let at = |n: usize| u16::try_from(n).expect("inside the block");
        let (start, end) = (at(range.start), at(range.end));
        if owned == 0 {
            // There is nothing to own; the pointer of an empty block is never read through.
            return RecvBuf { data: NonNull::dangling(), start: 0, end: 0, id: NO_BUFFER, owned: 0 };
        }
        let data = NonNull::from(Box::leak(bytes)).cast::<u8>();
        RecvBuf { data, start, end, id: NO_BUFFER, owned }
    }

    /// Forgets `n` bytes at the front.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len(), "advance past the end");
        self.start += u16::try_from(n).expect("shorter than the buffer");
    }

    /// Forgets everything after `n` bytes.
    pub fn truncate(&mut self, n: usize) {
        if n < self.len() {
            self.end = self.start + u16::try_from(n).expect("shorter than the buffer");
        }
    }
}

impl Deref for RecvBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the kernel filled `start..end` before it handed the buffer over, and until `drop` gives the id back
        // neither the kernel nor anybody else may touch this buffer. The pool's memory is never unmapped.
        unsafe {
            std::slice::from_raw_parts(
                self.data.as_ptr().add(self.start as usize),
                (self.end - self.start) as usize,
            )
        }
    }
}

impl DerefMut for RecvBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`; and `self` is the only one who knows this buffer.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.data.as_ptr().add(self.start as usize),
                (self.end - self.start) as usize,
            )
        }
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        if self.owned > 0 {
            let block = ptr::slice_from_raw_parts_mut(self.data.as_ptr(), usize::from(self.owned));
            // SAFETY: `from_block` leaked a box of exactly this address and length, and nobody else knows it.
            drop(unsafe { Box::from_raw(block) });
        } else if self.id != NO_BUFFER {
            recycle(self.id);
        }
    }
}

/// Gives a buffer back that the kernel chose for a receive that nobody wants.
pub(super) fn refuse(id: u16) {
    drop(take(id, 0));
}

fn recycle(id: u16) {
    // When the thread ends the pool may go before the last buffer; then there is nothing to give it back to.
    let woken = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        let Some(pool) = pool.as_mut() else { return Vec::new() };
        debug_assert!(id < pool.count && !pool.free.contains(&id), "a buffer is given back once");
        pool.free.push(id);
        std::mem::take(&mut pool.waiting)
    });
    woken.into_iter().flatten().for_each(Waker::wake);
}

/// Makes the pool of this core and registers its ring.
pub(super) fn install(submitter: &Submitter<'_>, count: u16) -> io::Result<()> {
    let entries = count.next_power_of_two();
    let memory = map(usize::from(count) * BUF_BYTES)?;
    let ring = map(usize::from(entries) * size_of::<BufRingEntry>())?.cast::<BufRingEntry>();
    // SAFETY: the ring is page-aligned memory of `entries` entries that is never unmapped while the process lives.
    unsafe { submitter.register_buf_ring_with_flags(ring.as_ptr() as u64, entries, GROUP, 0)? };
    POOL.with_borrow_mut(|pool| {
        *pool = Some(Pool {
            memory,
            ring,
            ring_entries: entries,
            tail: 0,
            offer: OFFER_MIN.min(count),
            ran_out: false,
            left_min: u16::MAX,
            turns: 0,
            offered: 0,
            free: (0..count).rev().collect(),
            waiting: Vec::new(),
            count,
            exhausted: 0,
            short: 0,
            touched: vec![0; usize::from(count).div_ceil(64)],
            touched_len: 0,
            empty: vec![0; usize::from(count).div_ceil(64)],
            taken: 0,
            taken_before: 0,
        });
    });
    offer();
    Ok(())
}

/// Hands free buffers to the kernel until it has enough. Called once a turn, before the ring is entered.
pub(super) fn offer() {
    with_pool(|pool| {
        pool.adjust();
        if pool.offered >= pool.offer {
            return;
        }
        let mask = pool.ring_entries - 1;
        while pool.offered < pool.offer {
            let Some(id) = pool.free.pop() else { break };
            // SAFETY: the masked index lies inside the ring; the entry at the tail belongs to us until the tail moves
            // past it. The buffer is free, so nobody reads or writes it until the kernel does.
            unsafe {
                let entry = &mut *pool.ring.as_ptr().add(usize::from(pool.tail & mask));
                entry.set_addr(pool.memory.as_ptr().add(usize::from(id) * BUF_BYTES) as u64);
                entry.set_len(u32::try_from(BUF_BYTES).expect("16 KiB"));
                entry.set_bid(id);
            }
            pool.tail = pool.tail.wrapping_add(1);
            pool.offered += 1;
        }
        // SAFETY: the tail is the 16-bit field that the kernel ABI puts into the first entry; it is written by us alone
        // and read by the kernel, which is what the release store is for.
        unsafe {
            let tail = BufRingEntry::tail(pool.ring.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(pool.tail, Ordering::Release);
        }
    });
}

/// Takes over a buffer that the kernel filled with `len` bytes.
pub(super) fn take(id: u16, len: usize) -> RecvBuf {
    with_pool(|pool| {
        debug_assert!(id < pool.count && len <= BUF_BYTES);
        pool.offered -= 1;
        pool.taken += 1;
        pool.touch(id);
        // SAFETY: `id` is below `count`, so the offset is inside the mapping.
        let data = unsafe { pool.memory.add(usize::from(id) * BUF_BYTES) };
        RecvBuf { data, start: 0, end: u16::try_from(len).expect("at most 16 KiB"), id, owned: 0 }
    })
}

/// Gives the pages of a burst that is over back to the kernel. `head` says where it stands in the ring, if it tells: what it has
/// there is left alone otherwise. For now and then, not for every turn. True: the burst goes on, so it should be asked again.
pub(super) fn give_back(head: impl FnOnce() -> Option<u16>) -> bool {
    with_pool(|pool| {
        let lately = pool.taken - std::mem::replace(&mut pool.taken_before, pool.taken);
        // As long as they are used in turn, what is given back would be wanted again.
        if pool.touched_len <= TOUCHED_KEPT || lately >= u64::from(pool.touched_len) {
            return lately > 0 && pool.touched_len > TOUCHED_KEPT;
        }
        pool.offer = OFFER_MIN.min(pool.count);
        let memory = pool.memory;
        pool.forget_touched(head(), |run| {
            if run.is_empty() {
                return;
            }
            // SAFETY: the range lies inside the mapping. Its buffers hold nothing: they are free, or lie in the ring where the
            // kernel has not come to, and it comes to them while this thread enters the ring. So nobody reads them or misses
            // what was in them. (A worker thread of the ring would be the exception; the kernel has those for receives that it
            // cannot poll for, and it polls for sockets.)
            unsafe {
                let at = memory.add(usize::from(run.start) * BUF_BYTES).as_ptr();
                // Refused, the pages stay, as they would without asking.
                libc::madvise(at.cast(), run.len() * BUF_BYTES, libc::MADV_DONTNEED);
            }
        });
        false
    })
}

/// Buffers that have pages.
#[cfg(test)]
pub(super) fn touched() -> u16 {
    with_pool(|pool| pool.touched_len)
}

/// The kernel had no buffer for a receive: it is offered more from the next turn on.
pub(super) fn ran_out() {
    with_pool(|pool| {
        pool.exhausted += 1;
        pool.ran_out = true;
    });
}

/// Whether a receive may find a buffer after the next turn; if not, `waker` is woken when one comes back.
pub(super) fn available(waker: &Waker) -> bool {
    with_pool(|pool| {
        let any = pool.offered > 0 || !pool.free.is_empty();
        if !any && !pool.waiting.iter().any(|w| w.will_wake(waker)) {
            pool.short += 1;
            pool.waiting.push(waker.clone());
        }
        any
    })
}

/// Buffers of this core that hold bytes.
pub(super) fn used() -> u64 {
    POOL.with_borrow(|pool| {
        pool.as_ref().map_or(0, |p| (usize::from(p.count - p.offered)).saturating_sub(p.free.len()) as u64)
    })
}

/// How often the kernel ran out of buffers on this core.
pub(super) fn exhausted() -> u64 {
    POOL.with_borrow(|pool| pool.as_ref().map_or(0, |p| p.exhausted))
}

/// How many receives of this core waited because every buffer held bytes.
pub(super) fn short() -> u64 {
    POOL.with_borrow(|pool| pool.as_ref().map_or(0, |p| p.short))
}

fn with_pool<R>(f: impl FnOnce(&mut Pool) -> R) -> R {
    POOL.with_borrow_mut(|pool| f(pool.as_mut().expect("receive buffers belong to a core that runs")))
}

/// Anonymous memory that costs nothing until it is touched. It is never unmapped: a buffer may outlive its ring.
fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice overlaps nothing.
    let p = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if p == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(p.cast()).ok_or_else(|| io::Error::other("mmap returned null"))
}

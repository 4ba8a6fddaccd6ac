//! Memory of one request, used again by the next: heads, and buffers for what is written. The one given back last is
//! taken first, so that a core works on the same few cache lines however many connections it has.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use crate::base::limits::{HEAD_BYTES_MAX, REQUEST_PADS_MAX};
use crate::proto::headers::Head;
use crate::proxy::auth::Memo;
use crate::proxy::core::CoreBase;
use crate::rt::SendBuf;

/// Buffers larger than this are freed rather than kept: one large message must not cost memory for ever.
const KEPT_BYTES_MAX: usize = 2 * HEAD_BYTES_MAX;
/// What a quiet core keeps beyond what it needs: a small burst makes nothing anew.
const QUIET_KEPT: usize = 32;

/// Memory of requests that are over.
#[derive(Default)]
pub(super) struct Pads {
    #[expect(
        clippy::vec_box,
        reason = "a pad moves between sessions; its address does not matter but its size does"
    )]
    pads: RefCell<Vec<Box<Memory>>>,
    buffers: RefCell<Vec<Vec<u8>>>,
    /// The fewest of both that lay here since it was last looked.
    least: Cell<(usize, usize)>,
}

/// What one request works with.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) request: Head,
    pub(super) response: Head,
    /// The request as it is sent, kept for another attempt.
    pub(super) out: Vec<u8>,
    /// Text that rules make.
    pub(super) text: Vec<u8>,
    /// The unique id of the request.
    pub(super) unique_id: Vec<u8>,
    /// The data of a chunked body, as far as rules may look at it.
    pub(super) body: Vec<u8>,
    /// What became of its credentials.
    pub(super) auth: Memo,
    /// Where clients reach us by the word of this request, `scheme://authority`, for `location`.
    pub(super) origin: Vec<u8>,
}

impl Pads {
    /// An empty buffer.
    pub(super) fn buffer(&self) -> Vec<u8> {
        let mut buffers = self.buffers.borrow_mut();
        let buffer = buffers.pop().unwrap_or_default();
        let (pads, least) = self.least.get();
        self.least.set((pads, least.min(buffers.len())));
        buffer
    }

    fn pad(&self) -> Box<Memory> {
        let mut pads = self.pads.borrow_mut();
        let pad = pads.pop().unwrap_or_default();
        let (least, buffers) = self.least.get();
        self.least.set((least.min(pads.len()), buffers));
        pad
    }

    /// Whether there is more than a few of something.
    pub(super) fn is_large(&self) -> bool {
        self.pads.borrow().len().max(self.buffers.borrow().len()) > QUIET_KEPT
    }

    /// Frees what nobody needed since it was last called, but for a few. For now and then. True: it was as much as a burst takes.
    pub(super) fn shrink(&self) -> bool {
        let (mut pads, mut buffers) = (self.pads.borrow_mut(), self.buffers.borrow_mut());
        let (least_pads, least_buffers) = self.least.get();
        // Those used last lie at the end.
        let unused_pads = least_pads.saturating_sub(QUIET_KEPT);
        pads.drain(..unused_pads);
        buffers.drain(..least_buffers.saturating_sub(QUIET_KEPT));
        self.least.set((pads.len(), buffers.len()));
        unused_pads > QUIET_KEPT
    }

    /// Keeps the memory of what was sent.
    pub(super) fn keep(&self, sent: Option<SendBuf>) {
        if let Some(SendBuf::Heap { mut bytes, .. }) = sent {
            let mut buffers = self.buffers.borrow_mut();
            if (1..=KEPT_BYTES_MAX).contains(&bytes.capacity()) && buffers.len() < REQUEST_PADS_MAX {
                bytes.clear();
                buffers.push(bytes);
            }
        }
    }
}

/// The memory of one request; goes back when it is over.
pub(super) struct Pad {
    memory: Option<Box<Memory>>,
    core: Rc<CoreBase>,
}

impl Pad {
    pub(super) fn take(core: &Rc<CoreBase>) -> Pad {
        Pad { memory: Some(core.pads.pad()), core: core.clone() }
    }
}

impl Deref for Pad {
    type Target = Memory;
    fn deref(&self) -> &Memory {
        self.memory.as_ref().expect("present until drop")
    }
}

impl DerefMut for Pad {
    fn deref_mut(&mut self) -> &mut Memory {
        self.memory.as_mut().expect("present until drop")
    }
}

impl Drop for Pad {
    fn drop(&mut self) {
        let Some(mut memory) = self.memory.take() else { return };
        let mut pads = self.core.pads.pads.borrow_mut();
        if pads.len() < REQUEST_PADS_MAX && memory.out.capacity() <= KEPT_BYTES_MAX {
            memory.out.clear();
            memory.text.clear();
            memory.unique_id.clear();
            memory.body.clear();
            memory.auth.get_mut().clear();
            memory.origin.clear();
            pads.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_burst_needed_goes_when_it_was_not_needed_for_a_while() {
        let pads = Pads::default();
        pads.pads.borrow_mut().extend((0..200).map(|_| Box::default()));
        pads.buffers.borrow_mut().extend((0..200).map(|_| vec![0; 8]));
        // From now on it is looked at how many are needed.
        pads.shrink();
        let busy: Vec<_> = (0..100).map(|_| (pads.pad(), pads.buffer())).collect();
        for (pad, buffer) in busy {
            pads.pads.borrow_mut().push(pad);
            pads.keep(Some(SendBuf::from(buffer)));
        }
        assert!(pads.shrink());
        assert_eq!(pads.pads.borrow().len(), 100 + QUIET_KEPT);
        assert_eq!(pads.buffers.borrow().len(), 100 + QUIET_KEPT, "not one of them was needed");
        assert!(pads.shrink());
        assert_eq!((pads.pads.borrow().len(), pads.buffers.borrow().len()), (QUIET_KEPT, QUIET_KEPT));
        assert!(!pads.shrink());
    }
}

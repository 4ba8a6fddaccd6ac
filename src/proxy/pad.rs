//! Memory of one request, used again by the next: heads, and buffers for what is written. The one given back last is
//! taken first, so that a core works on the same few cache lines however many connections it has.

use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use crate::base::limits::HEAD_BYTES_MAX;
use crate::proto::headers::Head;
use crate::proxy::auth::Memo;
use crate::proxy::core::CoreBase;
use crate::proxy::kept::{Kept, QUIET_KEPT};
use crate::rt::SendBuf;

/// Buffers larger than this are freed rather than kept: one large message must not cost memory for ever.
const KEPT_BYTES_MAX: usize = 2 * HEAD_BYTES_MAX;

/// Memory of requests that are over.
#[derive(Default)]
pub(super) struct Pads {
    pads: Kept<Box<Memory>>,
    buffers: Kept<Vec<u8>>,
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
        self.buffers.take().unwrap_or_default()
    }

    /// Whether there is more than a few of something.
    pub(super) fn is_large(&self) -> bool {
        self.pads.is_large() || self.buffers.is_large()
    }

    /// Frees what nobody needed since it was last called, but for a few. For now and then. True: it was as much as a burst takes.
    pub(super) fn shrink(&self) -> bool {
        let (pads, _) = (self.pads.unused(), self.buffers.unused());
        pads.len() > QUIET_KEPT
    }

    /// Keeps the memory of what was sent.
    pub(super) fn keep(&self, sent: Option<SendBuf>) {
        if let Some(SendBuf::Heap { mut bytes, .. }) = sent
            && (1..=KEPT_BYTES_MAX).contains(&bytes.capacity())
        {
            bytes.clear();
            self.buffers.keep(bytes);
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
        Pad { memory: Some(core.pads.pads.take().unwrap_or_default()), core: core.clone() }
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
        if memory.out.capacity() <= KEPT_BYTES_MAX {
            memory.out.clear();
            memory.text.clear();
            memory.unique_id.clear();
            memory.body.clear();
            memory.auth.get_mut().clear();
            memory.origin.clear();
            self.core.pads.pads.keep(memory);
        }
    }
}

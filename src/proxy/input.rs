//! What a peer sent and nobody has taken yet: the buffer it was received in, or a copy where it has to wait or to be put
//! together. A copy gives the receive buffer back, so that slow peers do not pin the pool of a core.

use crate::proxy::first_bytes::FirstBuf;
use crate::rt::{RecvBuf, SendBuf};

/// Received bytes, in order.
#[derive(Default)]
pub(super) enum Input {
    /// Nothing.
    #[default]
    Empty,
    /// One receive, as the kernel left it.
    One(RecvBuf),
    /// A copy; `start..` is left.
    Copied {
        /// The bytes.
        bytes: Vec<u8>,
        /// Where to go on.
        start: usize,
    },
}

impl Input {
    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Input::Empty => &[],
            Input::One(buf) => buf,
            Input::Copied { bytes, start } => &bytes[*start..],
        }
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// The memory of a copy.
    pub(super) fn into_memory(self) -> Vec<u8> {
        match self {
            Input::Copied { bytes, .. } => bytes,
            Input::Empty | Input::One(_) => Vec::new(),
        }
    }

    /// Appends a receive.
    pub(super) fn push(&mut self, buf: RecvBuf) {
        if self.is_empty() {
            *self = Input::One(buf);
            return;
        }
        self.detach();
        if let Input::Copied { bytes, start } = self {
            bytes.drain(..std::mem::take(start));
            bytes.extend_from_slice(&buf);
        }
    }

    /// Copies what is there and gives the receive buffer back; for whatever has to wait.
    pub(super) fn detach(&mut self) {
        if let Input::One(buf) = self {
            let bytes = buf.to_vec();
            *self = if bytes.is_empty() { Input::Empty } else { Input::Copied { bytes, start: 0 } };
        }
    }

    /// Forgets `n` bytes at the front.
    pub(super) fn consume(&mut self, n: usize) {
        match self {
            Input::Empty => debug_assert_eq!(n, 0, "nothing is there"),
            Input::One(buf) => buf.advance(n),
            Input::Copied { start, .. } => *start += n,
        }
        if self.is_empty() {
            *self = Input::Empty;
        }
    }

    /// Takes the first `n` bytes to send them on; the rest stays.
    pub(super) fn take_front(&mut self, n: usize) -> SendBuf {
        debug_assert!(n <= self.bytes().len());
        let is_all = n == self.bytes().len();
        match std::mem::take(self) {
            Input::Empty => SendBuf::Static(&[]),
            Input::One(mut buf) => {
                if !is_all {
                    *self = Input::Copied { bytes: buf[n..].to_vec(), start: 0 };
                    buf.truncate(n);
                }
                buf.into()
            }
            Input::Copied { bytes, start } if is_all => SendBuf::Heap { bytes, start },
            Input::Copied { bytes, start } => {
                let front = bytes[start..start + n].to_vec();
                *self = Input::Copied { bytes, start: start + n };
                front.into()
            }
        }
    }
}

impl From<FirstBuf> for Input {
    fn from(first: FirstBuf) -> Input {
        match first {
            FirstBuf::Empty => Input::Empty,
            FirstBuf::One(buf) => Input::One(buf),
            FirstBuf::Joined(bytes) => Input::Copied { bytes, start: 0 },
        }
    }
}

impl From<Vec<u8>> for Input {
    fn from(bytes: Vec<u8>) -> Input {
        Input::Copied { bytes, start: 0 }
    }
}

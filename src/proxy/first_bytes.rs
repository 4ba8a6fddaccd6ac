//! What a client sent before there is anybody to send it to: at first the buffer it was received in, a copy only when
//! more has to be put together.

use crate::base::limits::INSPECT_BYTES_MAX;
use crate::rt::{RecvBuf, SendBuf};

/// First bytes of a session, in order.
#[derive(Default)]
pub(super) enum FirstBuf {
    /// Nothing yet.
    #[default]
    Empty,
    /// One receive, as the kernel left it.
    One(RecvBuf),
    /// Several receives.
    Joined(Vec<u8>),
}

impl FirstBuf {
    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            FirstBuf::Empty => &[],
            FirstBuf::One(buf) => buf,
            FirstBuf::Joined(bytes) => bytes,
        }
    }

    /// Whether no more may be put together.
    pub(super) fn is_full(&self) -> bool {
        self.bytes().len() >= INSPECT_BYTES_MAX
    }

    /// Appends a receive.
    pub(super) fn push(&mut self, buf: RecvBuf) {
        *self = match std::mem::take(self) {
            FirstBuf::Empty => FirstBuf::One(buf),
            FirstBuf::One(first) => {
                let mut bytes = Vec::with_capacity(first.len() + buf.len());
                bytes.extend_from_slice(&first);
                bytes.extend_from_slice(&buf);
                FirstBuf::Joined(bytes)
            }
            FirstBuf::Joined(mut bytes) => {
                bytes.extend_from_slice(&buf);
                FirstBuf::Joined(bytes)
            }
        };
    }

    /// Forgets `n` bytes at the front.
    pub(super) fn consume(&mut self, n: usize) {
        let rest = match std::mem::take(self) {
            FirstBuf::Empty => FirstBuf::Empty,
            FirstBuf::One(mut buf) => {
                buf.advance(n);
                FirstBuf::One(buf)
            }
            FirstBuf::Joined(mut bytes) => {
                bytes.drain(..n);
                FirstBuf::Joined(bytes)
            }
        };
        if !rest.bytes().is_empty() {
            *self = rest;
        }
    }

    /// The bytes to send on; `None` if there are none.
    pub(super) fn into_send(self) -> Option<SendBuf> {
        match self {
            FirstBuf::Empty => None,
            FirstBuf::One(buf) => Some(buf.into()),
            FirstBuf::Joined(bytes) => Some(bytes.into()),
        }
    }
}

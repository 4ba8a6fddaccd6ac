//! The data of long bodies on its way through a pipe (splice(2)) instead of through our memory. `forward` says what is data;
//! framing never goes this way.

use std::task::{Context, Poll, ready};

use crate::base::time::Now;
use crate::model::Splice;
use crate::proto::h1::body::BodyDecoder;
use crate::proxy::forward::{Broken, Link, Waits};
use crate::rt::splice::{SpliceError, Spliced, Splicer};
use crate::rt::{self, Conn};

/// Data of known length from which `splice = "auto"` takes a pipe: below it the calls cost more than the copies.
const KNOWN_BYTES_MIN: u64 = 32 * 1024;
/// Bytes of a body of unknown length that are copied before.
const UNKNOWN_BYTES_MIN: u64 = 256 * 1024;

/// Whether a body may use a pipe, and the pipe while it does.
pub(super) struct Piping {
    splice: Splice,
    splicer: Option<Splicer>,
    /// Bytes that were spliced.
    pub(super) spliced: u64,
}

/// What [`Piping::poll`] did.
pub(super) enum Piped {
    /// So many bytes were taken from the sender.
    Taken(u64),
    /// So many bytes are with the receiver.
    Given(u64),
    /// The pipe is given back. True: the sender closed before all of the data.
    Over(bool),
}

impl Piping {
    pub(super) fn new(splice: Splice) -> Piping {
        Piping { splice, splicer: None, spliced: 0 }
    }

    /// Whether the pipe is in use; takes one where the data ahead is worth it and there is one.
    pub(super) fn is_on(&mut self, decoder: &BodyDecoder, taken: u64, from: &Link) -> bool {
        if self.splicer.is_some() {
            return true;
        }
        if self.splice == Splice::Never || !from.input.is_empty() || from.recv.is_armed() {
            return false;
        }
        let ahead = decoder.data_ahead();
        let is_worth = match ahead {
            Some(0) => false,
            _ if self.splice == Splice::Always => true,
            Some(ahead) => ahead >= KNOWN_BYTES_MIN,
            None => taken >= UNKNOWN_BYTES_MIN,
        };
        if is_worth {
            self.splicer = Splicer::new(ahead.unwrap_or(u64::MAX));
            if self.splicer.is_none() {
                // All pipes are taken: this body is copied.
                self.splice = Splice::Never;
            }
        }
        self.splicer.is_some()
    }

    /// Whether data is on its way through a pipe.
    pub(super) fn is_in_use(&self) -> bool {
        self.splicer.is_some()
    }

    /// Moves on; polled only while the pipe is in use.
    pub(super) fn poll(
        &mut self,
        cx: &Context<'_>,
        (source, sink): (&Conn, &Conn),
        (active, waits): (&mut Now, &mut Waits),
    ) -> Poll<Result<Piped, Broken>> {
        let Some(splicer) = &mut self.splicer else { return Poll::Ready(Ok(Piped::Over(false))) };
        let polled = splicer.poll(source, sink, cx);
        *waits = if splicer.waits_for_sink() { Waits::Sink } else { Waits::Source };
        let spliced = match ready!(polled) {
            Ok(spliced) => spliced,
            Err(SpliceError::Source(e)) => return Poll::Ready(Err(Broken::Source(e))),
            Err(SpliceError::Sink(e)) => return Poll::Ready(Err(Broken::Sink(e))),
        };
        *active = rt::now();
        Poll::Ready(Ok(match spliced {
            Spliced::Taken(n) => Piped::Taken(n as u64),
            Spliced::Given(n) => {
                self.spliced += n as u64;
                Piped::Given(n as u64)
            }
            Spliced::Done => {
                let is_short = splicer.is_short();
                self.splicer = None;
                Piped::Over(is_short)
            }
        }))
    }
}

impl Clone for Piping {
    /// For another attempt, which starts where nothing has been moved.
    fn clone(&self) -> Piping {
        Piping::new(self.splice)
    }
}

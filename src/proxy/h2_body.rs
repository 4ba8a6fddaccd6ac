//! The two directions of one stream of HTTP/2 as bodies move over them: data with flow control tied to what the other
//! side took, trailers, and their ends. Heads are `h2_head`'s.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;

/// The body that a peer sends.
pub(super) struct Incoming {
    body: RecvStream,
    /// Bytes that were taken and whose window was not given back.
    held: usize,
    /// The data is over; trailers may follow.
    no_more_data: bool,
    /// What rules waited for and the upload takes first.
    ahead: VecDeque<Piece>,
}

/// What comes next of a body.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
    /// The body is over, behind trailers if there are any.
    End(Option<HeaderMap>),
}

impl Incoming {
    pub(super) fn new(body: RecvStream) -> Incoming {
        Incoming { body, held: 0, no_more_data: false, ahead: VecDeque::new() }
    }

    /// Whether the peer ended the stream and everything of it was taken.
    pub(super) fn is_done(&self) -> bool {
        self.ahead.is_empty() && self.body.is_end_stream()
    }

    /// Takes what comes next without taking it away: it comes again. Data is appended to `data` too. False: there is no more.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>, data: &mut Vec<u8>) -> Poll<io::Result<bool>> {
        if matches!(self.ahead.back(), Some(Piece::End(_))) || self.body.is_end_stream() {
            return Poll::Ready(Ok(false));
        }
        let piece = ready!(self.poll_next(cx))?;
        let is_data = match &piece {
            Piece::Data(bytes) => {
                data.extend_from_slice(bytes);
                true
            }
            Piece::End(_) => false,
        };
        self.ahead.push_back(piece);
        Poll::Ready(Ok(is_data))
    }

    /// Takes what comes next. Its window stays closed until [`give_back`](Self::give_back).
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        match self.ahead.pop_front() {
            Some(piece) => Poll::Ready(Ok(piece)),
            None => self.poll_next(cx),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        if !self.no_more_data {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.held += data.len();
                    return Poll::Ready(Ok(Piece::Data(data)));
                }
                Some(Err(e)) => return Poll::Ready(Err(to_io(e))),
                None => self.no_more_data = true,
            }
        }
        let trailers = ready!(self.body.poll_trailers(cx)).map_err(to_io)?;
        Poll::Ready(Ok(Piece::End(trailers)))
    }

    /// Lets the peer send as much more as was taken: the other side has it.
    pub(super) fn give_back(&mut self) {
        let held = std::mem::take(&mut self.held);
        if held > 0 {
            // A stream that was reset meanwhile has no window; then there is nothing to give back.
            let _ = self.body.flow_control().release_capacity(held);
        }
    }
}

/// How a body goes on behind what is pending.
#[derive(Debug)]
enum Last {
    /// More follows.
    No,
    /// It ends.
    End,
    /// It ends with trailers.
    Trailers(HeaderMap),
    /// The end is on its way.
    Sent,
}

/// The body that a peer gets.
pub(super) struct Outgoing {
    stream: SendStream<Bytes>,
    pending: Bytes,
    last: Last,
}

impl Outgoing {
    /// A body behind a head that is sent. `is_over`: the head ended the stream.
    pub(super) fn new(stream: SendStream<Bytes>, is_over: bool) -> Outgoing {
        let last = if is_over { Last::Sent } else { Last::No };
        Outgoing { stream, pending: Bytes::new(), last }
    }

    /// Ready when everything that was pushed has left for the connection.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            if self.stream.capacity() == 0 {
                self.stream.reserve_capacity(self.pending.len());
                if self.stream.capacity() == 0 {
                    match ready!(self.stream.poll_capacity(cx)) {
                        Some(Ok(_)) => {}
                        Some(Err(e)) => return Poll::Ready(Err(to_io(e))),
                        None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                    }
                }
            }
            let piece = self.pending.split_to(self.stream.capacity().min(self.pending.len()));
            let ends = self.pending.is_empty() && matches!(self.last, Last::End);
            self.stream.send_data(piece, ends).map_err(to_io)?;
            if ends {
                self.last = Last::Sent;
            }
        }
        match std::mem::replace(&mut self.last, Last::Sent) {
            Last::No => self.last = Last::No,
            Last::Sent => {}
            Last::End => self.stream.send_data(Bytes::new(), true).map_err(to_io)?,
            Last::Trailers(trailers) => self.stream.send_trailers(trailers).map_err(to_io)?,
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next piece. Nothing may be pending.
    pub(super) fn push(&mut self, data: Bytes, is_last: bool) {
        debug_assert!(self.pending.is_empty() && matches!(self.last, Last::No));
        self.pending = data;
        if is_last {
            self.last = Last::End;
        }
    }

    /// Takes the end of the body, behind what was pushed.
    pub(super) fn finish(&mut self, trailers: Option<HeaderMap>) {
        debug_assert!(matches!(self.last, Last::No));
        self.last = match trailers {
            Some(trailers) if !trailers.is_empty() => Last::Trailers(trailers),
            _ => Last::End,
        };
    }

    /// Whether its end is on its way.
    pub(super) fn is_over(&self) -> bool {
        self.pending.is_empty() && matches!(self.last, Last::Sent)
    }

    /// Ends the stream in both directions.
    pub(super) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }

    /// Ready when the peer has reset the stream, or the connection is gone.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(drop)
    }
}

/// What happened to a stream, in the words of connections.
pub(super) fn to_io(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into());
    }
    let kind = match error.reason() {
        Some(Reason::CANCEL | Reason::NO_ERROR | Reason::REFUSED_STREAM) => io::ErrorKind::ConnectionReset,
        _ => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, error)
}

//! The two directions of one stream of HTTP/2 as bodies move over them: data with flow control tied to what the other
//! side took, trailers, and their ends. Heads are `h2_head`'s.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};

use crate::proto::h2::frame::Code;
use crate::proto::h2::hpack::Fields;
use crate::proto::h2::sending::Received;
use crate::proto::h2::streams::Reset;
use crate::proxy::h2_head;
use crate::proxy::h2_stream::{StreamRef, reset_to_io};

/// The body that a peer sends.
pub(super) struct Incoming {
    body: Body,
    /// What rules waited for and the upload takes first.
    ahead: VecDeque<Piece>,
}

struct Body {
    stream: StreamRef,
    is_of_server: bool,
    /// Something was taken whose room was not given back.
    holds: bool,
    is_over: bool,
}

/// What comes next of a body.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Vec<u8>),
    /// The body is over, behind trailers if there are any.
    End(Option<Fields>),
    /// It is over, behind trailers that are malformed.
    BadTrailers,
}

impl Incoming {
    /// The body of a client's request.
    pub(super) fn of_client(stream: StreamRef) -> Incoming {
        Incoming::new(stream, false)
    }

    /// The body of a server's response.
    pub(super) fn of_server(stream: StreamRef) -> Incoming {
        Incoming::new(stream, true)
    }

    fn new(stream: StreamRef, is_of_server: bool) -> Incoming {
        Incoming { body: Body { stream, is_of_server, holds: false, is_over: false }, ahead: VecDeque::new() }
    }

    /// Whether the peer ended the stream and everything of it was taken.
    pub(super) fn is_done(&self) -> bool {
        self.ahead.is_empty() && self.body.is_done()
    }

    /// Takes what comes next without taking it away: it comes again. Data is appended to `data` too. False: there is no more.
    pub(super) fn poll_ahead(&mut self, cx: &Context<'_>, data: &mut Vec<u8>) -> Poll<io::Result<bool>> {
        if matches!(self.ahead.back(), Some(Piece::End(_))) || self.body.is_done() {
            return Poll::Ready(Ok(false));
        }
        let piece = ready!(self.body.poll_next(cx))?;
        let is_data = match &piece {
            Piece::Data(bytes) => {
                data.extend_from_slice(bytes);
                true
            }
            Piece::End(_) | Piece::BadTrailers => false,
        };
        self.ahead.push_back(piece);
        Poll::Ready(Ok(is_data))
    }

    /// Takes what comes next. Its window stays closed until [`give_back`](Self::give_back).
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<io::Result<Piece>> {
        match self.ahead.pop_front() {
            Some(piece) => Poll::Ready(Ok(piece)),
            None => self.body.poll_next(cx),
        }
    }

    /// The same, but data is read where it is, with whether it is the last: a piece of data is empty where that was possible.
    pub(super) fn poll_with(
        &mut self,
        cx: &Context<'_>,
        read: &mut impl FnMut(&[u8], bool),
    ) -> Poll<io::Result<Piece>> {
        if self.ahead.is_empty() && self.body.stream.with(|connection, key| connection.take_data(key, read)) {
            self.body.holds = true;
            return Poll::Ready(Ok(Piece::Data(Vec::new())));
        }
        let piece = ready!(self.poll(cx))?;
        if let Piece::Data(data) = &piece {
            read(data, self.is_done());
        }
        Poll::Ready(Ok(piece))
    }

    /// Lets the peer send as much more as was taken: the other side has it.
    pub(super) fn give_back(&mut self) {
        if std::mem::take(&mut self.body.holds) {
            self.body.stream.with(|connection, key| connection.release(key));
        }
    }
}

impl Body {
    fn is_done(&self) -> bool {
        self.is_over || self.stream.with(|connection, key| connection.is_taken(key))
    }

    fn poll_next(&mut self, cx: &Context<'_>) -> Poll<io::Result<Piece>> {
        let polled = self.stream.poll(cx, |connection, key| match connection.take(key) {
            Ok(Received::Nothing) => Poll::Pending,
            other => Poll::Ready(other),
        });
        Poll::Ready(match ready!(polled).map_err(reset_to_io)? {
            Received::Data(data) => {
                self.holds = true;
                Ok(Piece::Data(data))
            }
            Received::End(fields) => {
                self.is_over = true;
                // What must not be there is left out of a server's, as it is of trailers that come over HTTP/1.
                let fields = fields.map(|f| if self.is_of_server { h2_head::cleaned(*f) } else { *f });
                Ok(match fields {
                    Some(fields) if !h2_head::are_good(&fields) => Piece::BadTrailers,
                    fields => Piece::End(fields),
                })
            }
            Received::Nothing => return Poll::Pending,
        })
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
    Trailers(Fields),
    /// The end is on its way.
    Sent,
}

/// What a peer gets: the body, and on the way to a client the heads in front of it.
pub(super) struct Outgoing {
    stream: StreamRef,
    /// The head in front of the body was sent.
    has_head: bool,
    /// What could not go yet, from `copied_at` on; in memory of the connection.
    copied: Vec<u8>,
    copied_at: usize,
    last: Last,
}

impl Outgoing {
    /// A response, of which nothing was sent.
    pub(super) fn to_client(stream: StreamRef) -> Outgoing {
        Outgoing::new(stream, false, Last::No)
    }

    /// A body behind a head that is sent. `is_over`: the head ended the stream.
    pub(super) fn to_server(stream: StreamRef, is_over: bool) -> Outgoing {
        Outgoing::new(stream, true, if is_over { Last::Sent } else { Last::No })
    }

    fn new(stream: StreamRef, has_head: bool, last: Last) -> Outgoing {
        Outgoing { stream, has_head, copied: Vec::new(), copied_at: 0, last }
    }

    fn has_pending(&self) -> bool {
        !self.copied.is_empty()
    }

    /// Sends a head to a client; `write` appends its fields. `ends`: nothing follows it.
    pub(super) fn head(
        &mut self,
        status: u16,
        ends: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        let is_interim = status < 200;
        if self.has_head {
            // An interim head that comes too late says nothing any more.
            return if is_interim { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) };
        }
        self.has_head = !is_interim;
        if ends {
            self.last = Last::Sent;
        }
        self.stream
            .with(|connection, key| connection.send_head(key, status, ends, write))
            .map_err(reset_to_io)
    }

    /// Whether a body may be sent: its head was.
    pub(super) fn has_head(&self) -> bool {
        self.has_head
    }

    /// Ready when everything that was pushed has left for the connection.
    pub(super) fn poll_room(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.has_pending() {
            ready!(self.poll_pending(cx)).map_err(reset_to_io)?;
        }
        let stream = &self.stream;
        let ended = match std::mem::replace(&mut self.last, Last::Sent) {
            Last::No => {
                self.last = Last::No;
                Ok(())
            }
            Last::Sent => Ok(()),
            Last::End => stream.with(|connection, key| connection.send_data(key, &[], true)).map(drop),
            Last::Trailers(trailers) => stream.with(|connection, key| {
                let sent = connection.send_trailers(key, |out| h2_head::write_fields(trailers.iter(), out));
                connection.keep(trailers.into_memory());
                sent
            }),
        };
        Poll::Ready(ended.map_err(reset_to_io))
    }

    fn poll_pending(&mut self, cx: &Context<'_>) -> Poll<Result<(), Reset>> {
        let ends = matches!(self.last, Last::End);
        let (copied, at) = (&mut self.copied, &mut self.copied_at);
        let sent = self.stream.poll(cx, |connection, key| {
            let left = &copied[*at..];
            let sent = match connection.send_data(key, left, ends) {
                Ok(sent) => sent,
                Err(reset) => return Poll::Ready(Err(reset)),
            };
            let is_over = sent == left.len();
            if !is_over {
                *at += sent;
                return Poll::Pending;
            }
            copied.clear();
            Poll::Ready(Ok(()))
        });
        ready!(sent)?;
        if ends {
            self.last = Last::Sent;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next piece and copies what cannot go at once. Nothing may be pending.
    pub(super) fn push_copy(&mut self, data: &[u8], is_last: bool) -> io::Result<()> {
        debug_assert!(!self.has_pending() && matches!(self.last, Last::No));
        let copied = &mut self.copied;
        let sent = self.stream.with(|connection, key| {
            let sent = connection.send_data(key, data, is_last)?;
            if sent < data.len() {
                if copied.capacity() == 0 {
                    *copied = connection.buffer();
                }
                copied.extend_from_slice(&data[sent..]);
            }
            Ok(sent)
        });
        let is_whole = sent.map_err(reset_to_io)? == data.len();
        self.copied_at = 0;
        if is_last {
            // Data that went took the end with it.
            self.last = if is_whole { Last::Sent } else { Last::End };
        }
        Ok(())
    }

    /// Memory for data that is put together for [`push_buffer`](Self::push_buffer).
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        match self.copied.capacity() {
            0 => self.stream.with(|connection, _| connection.buffer()),
            _ => std::mem::take(&mut self.copied),
        }
    }

    /// Takes the next piece with its memory. Nothing may be pending.
    pub(super) fn push_buffer(&mut self, data: Vec<u8>, is_last: bool) -> io::Result<()> {
        debug_assert!(!self.has_pending() && matches!(self.last, Last::No));
        self.copied = data;
        let (copied, at) = (&mut self.copied, &mut self.copied_at);
        let sent = self.stream.with(|connection, key| connection.send_data(key, copied, is_last));
        *at = sent.map_err(reset_to_io)?;
        let is_whole = *at == copied.len();
        if is_whole {
            copied.clear();
        }
        if is_last {
            self.last = if is_whole { Last::Sent } else { Last::End };
        }
        Ok(())
    }

    /// Takes the end of the body, behind what was pushed.
    pub(super) fn finish(&mut self, trailers: Option<Fields>) {
        debug_assert!(matches!(self.last, Last::No));
        self.last = match trailers {
            Some(trailers) if !trailers.is_empty() => Last::Trailers(trailers),
            _ => Last::End,
        };
    }

    /// Whether its end is on its way.
    pub(super) fn is_over(&self) -> bool {
        !self.has_pending() && matches!(self.last, Last::Sent)
    }

    /// Ends the stream in both directions.
    pub(super) fn reset(&self, code: Code) {
        self.stream.reset(code);
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let copied = std::mem::take(&mut self.copied);
        if copied.capacity() > 0 {
            self.stream.with(|connection, _| connection.keep(copied));
        }
    }
}

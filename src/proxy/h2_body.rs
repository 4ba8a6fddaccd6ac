//! The two directions of one stream of HTTP/2 as bodies move over them: data with flow control tied to what the other
//! side took, trailers, and their ends. Heads are `h2_head`'s.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;

use crate::proto::h2::frame::Code;
use crate::proto::h2::sending::Received;
use crate::proxy::h2_head;
use crate::proxy::h2_stream::{StreamRef, reset_to_io};

/// The body that a peer sends.
pub(super) struct Incoming {
    body: Body,
    /// What rules waited for and the upload takes first.
    ahead: VecDeque<Piece>,
}

enum Body {
    /// A client's.
    Client {
        stream: StreamRef,
        /// Something was taken whose room was not given back.
        holds: bool,
        is_over: bool,
    },
    Server {
        body: RecvStream,
        /// Bytes that were taken and whose window was not given back.
        held: usize,
        /// The data is over; trailers may follow.
        no_more_data: bool,
    },
}

/// What comes next of a body.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
    /// The body is over, behind trailers if there are any.
    End(Option<HeaderMap>),
    /// It is over, behind trailers that are malformed.
    BadTrailers,
}

impl Incoming {
    /// The body of a client's request.
    pub(super) fn of_client(stream: StreamRef) -> Incoming {
        Incoming { body: Body::Client { stream, holds: false, is_over: false }, ahead: VecDeque::new() }
    }

    /// The body of a server's response.
    pub(super) fn of_server(body: RecvStream) -> Incoming {
        Incoming { body: Body::Server { body, held: 0, no_more_data: false }, ahead: VecDeque::new() }
    }

    /// Whether the peer ended the stream and everything of it was taken.
    pub(super) fn is_done(&self) -> bool {
        self.ahead.is_empty() && self.body.is_done()
    }

    /// Takes what comes next without taking it away: it comes again. Data is appended to `data` too. False: there is no more.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>, data: &mut Vec<u8>) -> Poll<io::Result<bool>> {
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
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        match self.ahead.pop_front() {
            Some(piece) => Poll::Ready(Ok(piece)),
            None => self.body.poll_next(cx),
        }
    }

    /// The same, but data is read where it is: a piece of data is empty where that was possible.
    pub(super) fn poll_with(
        &mut self,
        cx: &mut Context<'_>,
        read: &mut impl FnMut(&[u8]),
    ) -> Poll<io::Result<Piece>> {
        if let (true, Body::Client { stream, holds, .. }) = (self.ahead.is_empty(), &mut self.body)
            && stream.with(|connection, key| connection.take_data(key, read))
        {
            *holds = true;
            return Poll::Ready(Ok(Piece::Data(Bytes::new())));
        }
        let piece = ready!(self.poll(cx))?;
        if let Piece::Data(data) = &piece {
            read(data);
        }
        Poll::Ready(Ok(piece))
    }

    /// Lets the peer send as much more as was taken: the other side has it.
    pub(super) fn give_back(&mut self) {
        match &mut self.body {
            Body::Client { stream, holds, .. } => {
                if std::mem::take(holds) {
                    stream.with(|connection, key| connection.release(key));
                }
            }
            Body::Server { body, held, .. } => {
                let held = std::mem::take(held);
                if held > 0 {
                    // A stream that was reset meanwhile has no window; then there is nothing to give back.
                    let _ = body.flow_control().release_capacity(held);
                }
            }
        }
    }
}

impl Body {
    fn is_done(&self) -> bool {
        match self {
            Body::Client { stream, is_over, .. } => {
                *is_over || stream.with(|connection, key| connection.is_taken(key))
            }
            Body::Server { body, .. } => body.is_end_stream(),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        match self {
            Body::Client { stream, holds, is_over } => {
                let polled = stream.poll(cx, |connection, key| match connection.take(key) {
                    Ok(Received::Nothing) => Poll::Pending,
                    other => Poll::Ready(other),
                });
                Poll::Ready(match ready!(polled).map_err(reset_to_io)? {
                    Received::Data(data) => {
                        *holds = true;
                        Ok(Piece::Data(Bytes::from(data)))
                    }
                    Received::End(fields) => {
                        *is_over = true;
                        Ok(match fields.map(|fields| h2_head::received_trailers(&fields)) {
                            None => Piece::End(None),
                            Some(Ok(trailers)) => Piece::End(Some(trailers)),
                            Some(Err(_)) => Piece::BadTrailers,
                        })
                    }
                    Received::Nothing => return Poll::Pending,
                })
            }
            Body::Server { body, held, no_more_data } => {
                if !*no_more_data {
                    match ready!(body.poll_data(cx)) {
                        Some(Ok(data)) => {
                            *held += data.len();
                            return Poll::Ready(Ok(Piece::Data(data)));
                        }
                        Some(Err(e)) => return Poll::Ready(Err(to_io(e))),
                        None => *no_more_data = true,
                    }
                }
                let trailers = ready!(body.poll_trailers(cx)).map_err(to_io)?;
                Poll::Ready(Ok(Piece::End(trailers)))
            }
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

/// What a peer gets: the body, and on the way to a client the heads in front of it.
pub(super) struct Outgoing {
    way: Way,
    pending: Bytes,
    /// The same as a copy, from `copied_at` on; in memory of the connection.
    copied: Vec<u8>,
    copied_at: usize,
    last: Last,
}

enum Way {
    /// To a client. `has_head`: the final head was sent.
    Client {
        stream: StreamRef,
        has_head: bool,
    },
    Server(SendStream<Bytes>),
}

impl Outgoing {
    /// A response, of which nothing was sent.
    pub(super) fn to_client(stream: StreamRef) -> Outgoing {
        Outgoing::new(Way::Client { stream, has_head: false }, Last::No)
    }

    /// A body behind a head that is sent. `is_over`: the head ended the stream.
    pub(super) fn to_server(stream: SendStream<Bytes>, is_over: bool) -> Outgoing {
        let last = if is_over { Last::Sent } else { Last::No };
        Outgoing::new(Way::Server(stream), last)
    }

    fn new(way: Way, last: Last) -> Outgoing {
        Outgoing { way, pending: Bytes::new(), copied: Vec::new(), copied_at: 0, last }
    }

    fn has_pending(&self) -> bool {
        !self.pending.is_empty() || !self.copied.is_empty()
    }

    /// Sends a head to a client; `write` appends its fields. `ends`: nothing follows it.
    pub(super) fn head(
        &mut self,
        status: u16,
        ends: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        let Way::Client { stream, has_head } = &mut self.way else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let is_interim = status < 200;
        if *has_head {
            // An interim head that comes too late says nothing any more.
            return if is_interim { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) };
        }
        *has_head = !is_interim;
        if ends {
            self.last = Last::Sent;
        }
        stream.with(|connection, key| connection.send_head(key, status, ends, write)).map_err(reset_to_io)
    }

    /// Whether a body may be sent: its head was.
    pub(super) fn has_head(&self) -> bool {
        match &self.way {
            Way::Client { has_head, .. } => *has_head,
            Way::Server(_) => true,
        }
    }

    /// Ready when everything that was pushed has left for the connection.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.way {
            Way::Client { stream, .. } => {
                if !self.pending.is_empty() || !self.copied.is_empty() {
                    let ends = matches!(self.last, Last::End);
                    let (pending, copied, at) = (&mut self.pending, &mut self.copied, &mut self.copied_at);
                    let polled = stream.poll(cx, |connection, key| {
                        let left = if copied.is_empty() { &pending[..] } else { &copied[*at..] };
                        let sent = match connection.send_data(key, left, ends) {
                            Ok(sent) => sent,
                            Err(reset) => return Poll::Ready(Err(reset)),
                        };
                        let is_over = sent == left.len();
                        if copied.is_empty() {
                            pending.advance(sent);
                        } else if is_over {
                            copied.clear();
                        } else {
                            *at += sent;
                        }
                        if is_over { Poll::Ready(Ok(())) } else { Poll::Pending }
                    });
                    ready!(polled).map_err(reset_to_io)?;
                    if ends {
                        self.last = Last::Sent;
                    }
                }
                let ended = match std::mem::replace(&mut self.last, Last::Sent) {
                    Last::No => {
                        self.last = Last::No;
                        Ok(())
                    }
                    Last::Sent => Ok(()),
                    Last::End => {
                        stream.with(|connection, key| connection.send_data(key, &[], true)).map(drop)
                    }
                    Last::Trailers(trailers) => stream.with(|connection, key| {
                        connection.send_trailers(key, |out| h2_head::write_fields(&trailers, out))
                    }),
                };
                Poll::Ready(ended.map_err(reset_to_io))
            }
            Way::Server(stream) => poll_server(stream, &mut self.pending, &mut self.last, cx),
        }
    }

    /// Takes the next piece. Nothing may be pending.
    pub(super) fn push(&mut self, data: Bytes, is_last: bool) {
        debug_assert!(!self.has_pending() && matches!(self.last, Last::No));
        self.pending = data;
        if is_last {
            self.last = Last::End;
        }
    }

    /// Takes the next piece and copies what cannot go at once. Nothing may be pending.
    pub(super) fn push_copy(&mut self, data: &[u8], is_last: bool) -> io::Result<()> {
        debug_assert!(!self.has_pending() && matches!(self.last, Last::No));
        let Way::Client { stream, .. } = &self.way else {
            self.push(Bytes::copy_from_slice(data), is_last);
            return Ok(());
        };
        let copied = &mut self.copied;
        let sent = stream.with(|connection, key| {
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
        match &self.way {
            Way::Client { stream, .. } if self.copied.capacity() == 0 => {
                stream.with(|connection, _| connection.buffer())
            }
            _ => std::mem::take(&mut self.copied),
        }
    }

    /// Takes the next piece with its memory. Nothing may be pending.
    pub(super) fn push_buffer(&mut self, data: Vec<u8>, is_last: bool) -> io::Result<()> {
        debug_assert!(!self.has_pending() && matches!(self.last, Last::No));
        let Way::Client { stream, .. } = &self.way else {
            self.push(Bytes::from(data), is_last);
            return Ok(());
        };
        self.copied = data;
        let (copied, at) = (&mut self.copied, &mut self.copied_at);
        *at =
            stream.with(|connection, key| connection.send_data(key, copied, is_last)).map_err(reset_to_io)?;
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
    pub(super) fn finish(&mut self, trailers: Option<HeaderMap>) {
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
    pub(super) fn reset(&mut self, reason: Reason) {
        match &mut self.way {
            Way::Client { stream, .. } => stream.reset(Code(u32::from(reason))),
            Way::Server(stream) => stream.send_reset(reason),
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let copied = std::mem::take(&mut self.copied);
        if let Way::Client { stream, .. } = &self.way
            && copied.capacity() > 0
        {
            stream.with(|connection, _| connection.keep(copied));
        }
    }
}

fn poll_server(
    stream: &mut SendStream<Bytes>,
    pending: &mut Bytes,
    last: &mut Last,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !pending.is_empty() {
        if stream.capacity() == 0 {
            stream.reserve_capacity(pending.len());
            if stream.capacity() == 0 {
                match ready!(stream.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(e)) => return Poll::Ready(Err(to_io(e))),
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                }
            }
        }
        let piece = pending.split_to(stream.capacity().min(pending.len()));
        let ends = pending.is_empty() && matches!(last, Last::End);
        stream.send_data(piece, ends).map_err(to_io)?;
        if ends {
            *last = Last::Sent;
        }
    }
    match std::mem::replace(last, Last::Sent) {
        Last::No => *last = Last::No,
        Last::Sent => {}
        Last::End => stream.send_data(Bytes::new(), true).map_err(to_io)?,
        Last::Trailers(trailers) => stream.send_trailers(trailers).map_err(to_io)?,
    }
    Poll::Ready(Ok(()))
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

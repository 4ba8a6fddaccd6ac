//! Moves one body from one side to the other, with one piece in flight, between HTTP/1 and HTTP/2 in any direction. In
//! HTTP/1 `BodyDecoder` says where it ends.
//!
//! A pump is polled by whoever owns both connections, so that a request's body and its response go on side by side. The
//! last piece is started and not waited for: the next message on that connection waits for it.

use std::io;
use std::task::{Context, Poll, Waker, ready};

use crate::base::limits::BUF_BYTES;
use crate::base::time::Now;
use crate::model::Splice;
use crate::proto::h1::body::BodyDecoder;
use crate::proto::h1::encode::{CHUNK_END, CHUNK_HEAD_BYTES_MAX, LAST_CHUNK, chunk_head};
use crate::proto::h1::framing::Framing;
use crate::proto::h1::outgoing::BodyForm;
use crate::proto::h1::reason::Refusal;
use crate::proxy::h2_body::{Incoming, Outgoing, Piece};
use crate::proxy::h2_head;
use crate::proxy::input::Input;
use crate::proxy::piping::{Piped, Piping};
use crate::rt::{self, SendBuf};
use crate::tls::{Receiving, Sending, Transport};

/// Bytes of frames that are put together to one send.
const JOINED_BYTES: usize = 4 * BUF_BYTES;

/// The operations of one connection and what it received. Drop it before its connection.
#[derive(Default)]
pub(super) struct Link {
    pub(super) recv: Receiving,
    pub(super) sending: Sending,
    pub(super) input: Input,
}

/// What a pump waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waits {
    /// Bytes of the sender.
    Source,
    /// Room at the receiver.
    Sink,
}

/// Why a body did not come to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection of the sender failed.
    Source(io::Error),
    /// The connection of the receiver failed.
    Sink(io::Error),
    /// The sender closed too early.
    Cut,
    /// The body is malformed.
    Malformed(Refusal),
    /// Its trailers are.
    Trailers,
}

/// Where a body comes from.
pub(super) enum Source<'a> {
    /// A connection of HTTP/1.
    Conn(&'a Transport, &'a mut Link),
    /// A stream of HTTP/2.
    Stream(&'a mut Incoming),
}

/// Where a body goes.
pub(super) enum Sink<'a> {
    /// A connection of HTTP/1.
    Conn(&'a Transport, &'a mut Sending),
    /// A stream of HTTP/2.
    Stream(&'a mut Outgoing),
}

impl Sink<'_> {
    /// Ready when the last piece is gone; gives its memory back.
    fn poll_room(&mut self, cx: &Context<'_>) -> Poll<(io::Result<()>, Option<SendBuf>)> {
        match self {
            Sink::Conn(conn, sending) => sending.poll(conn, cx),
            Sink::Stream(outgoing) => outgoing.poll_room(cx).map(|result| (result, None)),
        }
    }
}

/// One body on its way.
#[derive(Clone)]
pub(super) struct Pump {
    decoder: BodyDecoder,
    form: BodyForm,
    ended: bool,
    /// When something moved last.
    pub(super) active: Now,
    pub(super) waits: Waits,
    /// Bytes that were taken from the sender.
    pub(super) taken: u64,
    /// Bytes that were given to the receiver.
    pub(super) given: u64,
    /// What was on its way before the first piece, for another attempt.
    pub(super) first_sent: Option<Vec<u8>>,
    /// The trailer section as HTTP/1 has it, as far as it was read; kept only for HTTP/2.
    trailers: Vec<u8>,
    keeps_trailers: bool,
    piping: Piping,
}

impl Pump {
    /// A pump at the first byte of a body.
    pub(super) fn new(framing: Framing, form: BodyForm) -> Pump {
        let decoder = BodyDecoder::new(framing);
        let ended = decoder.is_done();
        let (active, waits) = (rt::now(), Waits::Source);
        Pump {
            decoder,
            form,
            ended,
            active,
            waits,
            taken: 0,
            given: 0,
            first_sent: None,
            trailers: Vec::new(),
            keeps_trailers: false,
            piping: Piping::new(Splice::Never),
        }
    }

    /// Lets data that goes on as it came pass through a pipe.
    pub(super) fn splicing(mut self, splice: Splice) -> Pump {
        if self.form != BodyForm::Chunked {
            self.piping = Piping::new(splice);
        }
        self
    }

    /// Bytes of it that went through a pipe.
    pub(super) fn spliced(&self) -> u64 {
        self.piping.spliced
    }

    /// A pump for a body that comes over a stream of HTTP/2, which knows its end by itself. `framing` says whether there
    /// is one, `form` how it goes on over HTTP/1.
    pub(super) fn of_stream(incoming: Option<&Incoming>, framing: Framing, form: BodyForm) -> Pump {
        let is_none = matches!(framing, Framing::None | Framing::Length(0));
        // A last chunk has to be written even where no data comes.
        let is_over = form != BodyForm::Chunked && incoming.is_none_or(Incoming::is_done);
        Pump::new(if is_none || is_over { Framing::None } else { Framing::UntilClose }, form)
    }

    /// From here on the body goes to a stream, as data alone.
    pub(super) fn goes_to_stream(&mut self) {
        self.form = BodyForm::DataOnly;
    }

    /// Appends what is there of a stream's body behind a head that is not sent yet.
    pub(super) fn append_stream(&mut self, out: &mut Vec<u8>, incoming: &mut Incoming) -> Result<(), Broken> {
        let cx = Context::from_waker(Waker::noop());
        match self.pull(&cx, incoming, out) {
            Poll::Ready(Err(broken)) => Err(broken),
            Poll::Ready(Ok(())) | Poll::Pending => {
                incoming.give_back();
                Ok(())
            }
        }
    }

    /// Whether all of the body was taken and handed on.
    pub(super) fn is_done(&self) -> bool {
        self.ended
    }

    /// Appends what is there of the body behind a head that is not sent yet.
    pub(super) fn append_to(&mut self, out: &mut Vec<u8>, input: &mut Input) -> Result<(), Refusal> {
        if self.ended || input.is_empty() {
            return Ok(());
        }
        let before = out.len();
        let n = self.measure(input.bytes(), Some(out))?;
        self.taken += n as u64;
        self.given += (out.len() - before) as u64;
        input.consume(n);
        self.ended = self.decoder.is_done();
        Ok(())
    }

    /// Follows the body over `bytes` and says how many of them belong to it; `out` gets what goes on.
    fn measure(&mut self, bytes: &[u8], mut out: Option<&mut Vec<u8>>) -> Result<usize, Refusal> {
        let mut at = 0;
        loop {
            let step = self.decoder.step(&bytes[at..])?;
            let data_at = at + step.framing;
            // A section that is nothing but its empty line needs no memory.
            let is_empty_section = step.done && step.trailer <= "\r\n".len() && self.trailers.is_empty();
            if step.trailer > 0 && self.keeps_trailers && !is_empty_section {
                self.trailers.extend_from_slice(&bytes[data_at - step.trailer..data_at]);
            }
            let data = &bytes[data_at..data_at + step.data];
            if let Some(out) = &mut out {
                match self.form {
                    BodyForm::AsIs => out.extend_from_slice(&bytes[at..data_at + step.data]),
                    BodyForm::DataOnly => out.extend_from_slice(data),
                    BodyForm::Chunked if !data.is_empty() => {
                        out.extend_from_slice(chunk_head(data.len(), &mut [0; CHUNK_HEAD_BYTES_MAX]));
                        out.extend_from_slice(data);
                        out.extend_from_slice(CHUNK_END);
                    }
                    BodyForm::Chunked => {}
                }
            }
            let end = data_at + step.data;
            if step.done || end == at || end == bytes.len() {
                return Ok(end);
            }
            at = end;
        }
    }

    /// The next piece to send, if bytes of the body are there.
    fn next_piece(&mut self, input: &mut Input) -> Result<Option<SendBuf>, Refusal> {
        if input.is_empty() {
            return Ok(None);
        }
        let mut made = Vec::new();
        let is_copied = self.form != BodyForm::AsIs;
        let n = self.measure(input.bytes(), is_copied.then_some(&mut made))?;
        self.taken += n as u64;
        self.ended = self.decoder.is_done();
        let piece = if is_copied {
            input.consume(n);
            SendBuf::from(made)
        } else {
            input.take_front(n)
        };
        self.given += piece.remaining().len() as u64;
        Ok(Some(piece).filter(|piece| !piece.remaining().is_empty()))
    }

    fn sent(&mut self, sent: Option<SendBuf>) {
        let Some(sent) = sent else { return };
        self.active = rt::now();
        if let SendBuf::Heap { bytes, .. } = sent
            && self.first_sent.is_none()
        {
            self.first_sent = Some(bytes);
        }
    }

    /// Moves on. Ready when the last piece is on its way, or when something broke.
    pub(super) fn poll(
        &mut self,
        cx: &Context<'_>,
        mut source: Source<'_>,
        mut sink: Sink<'_>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            match sink.poll_room(cx) {
                Poll::Pending => {
                    self.waits = Waits::Sink;
                    return Poll::Pending;
                }
                Poll::Ready((result, sent)) => {
                    self.sent(sent);
                    // A pipe says itself what it waits for: there is room before it all the time.
                    if self.waits == Waits::Sink && !self.piping.is_in_use() {
                        self.active = rt::now();
                        self.waits = Waits::Source;
                    }
                    if let Err(e) = result {
                        return Poll::Ready(Err(Broken::Sink(e)));
                    }
                    if let Source::Stream(incoming) = &mut source {
                        incoming.give_back();
                    }
                }
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            let moved = match (&mut source, &mut sink) {
                (Source::Conn(conn, link), sink) => ready!(self.take_conn(cx, conn, link, sink)),
                (Source::Stream(incoming), Sink::Conn(conn, sending)) => {
                    let mut made = Vec::new();
                    let pulled = self.pull(cx, incoming, &mut made);
                    if !made.is_empty() {
                        sending.start(conn, SendBuf::from(made));
                    }
                    ready!(pulled)
                }
                (Source::Stream(incoming), Sink::Stream(outgoing)) => {
                    ready!(self.pass(cx, incoming, outgoing))
                }
            };
            if let Err(broken) = moved {
                return Poll::Ready(Err(broken));
            }
            // A connection finishes the last send by itself, a stream may still wait for room.
            if self.ended && matches!(sink, Sink::Conn(..)) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Hands on what a connection of HTTP/1 received, or receives more. Ready when something happened.
    fn take_conn(
        &mut self,
        cx: &Context<'_>,
        conn: &Transport,
        link: &mut Link,
        sink: &mut Sink<'_>,
    ) -> Poll<Result<(), Broken>> {
        if let Sink::Conn(to, _) = sink
            && let (Some(from), Some(to)) = (conn.as_plain(), to.as_plain())
            && self.piping.is_on(&self.decoder, self.taken, link)
        {
            return self.pipe(cx, from, to);
        }
        let is_moved = match sink {
            Sink::Conn(to, sending) => match self.next_piece(&mut link.input) {
                Ok(Some(piece)) => {
                    sending.start(to, piece);
                    true
                }
                Ok(None) => self.ended,
                Err(refusal) => return Poll::Ready(Err(Broken::Malformed(refusal))),
            },
            Sink::Stream(outgoing) => match self.feed(&mut link.input, outgoing) {
                Ok(is_moved) => is_moved,
                Err(broken) => return Poll::Ready(Err(broken)),
            },
        };
        if is_moved {
            return Poll::Ready(Ok(()));
        }
        self.waits = Waits::Source;
        match ready!(link.recv.poll(conn, cx)) {
            Err(e) => return Poll::Ready(Err(Broken::Source(e))),
            Ok(Some(buf)) => {
                self.active = rt::now();
                link.input.push(buf);
            }
            Ok(None) if self.decoder.may_end_here() => {
                self.ended = true;
                match sink {
                    Sink::Conn(to, sending) if self.form == BodyForm::Chunked => {
                        self.given += LAST_CHUNK.len() as u64;
                        sending.start(to, SendBuf::Static(LAST_CHUNK));
                    }
                    Sink::Conn(..) => {}
                    Sink::Stream(outgoing) => outgoing.finish(None),
                }
            }
            Ok(None) => return Poll::Ready(Err(Broken::Cut)),
        }
        Poll::Ready(Ok(()))
    }

    /// Moves data through the pipe.
    fn pipe(&mut self, cx: &Context<'_>, from: &rt::Conn, to: &rt::Conn) -> Poll<Result<(), Broken>> {
        let progress = (&mut self.active, &mut self.waits);
        match ready!(self.piping.poll(cx, (from, to), progress))? {
            Piped::Taken(n) => {
                self.taken += n;
                self.decoder.skip_data(n);
            }
            Piped::Given(n) => self.given += n,
            Piped::Over(is_cut) => {
                if is_cut && !self.decoder.may_end_here() {
                    return Poll::Ready(Err(Broken::Cut));
                }
                self.ended = is_cut || self.decoder.is_done();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the data of received bytes to a stream. True: there was something, or it was the end.
    fn feed(&mut self, input: &mut Input, outgoing: &mut Outgoing) -> Result<bool, Broken> {
        if input.is_empty() {
            return Ok(false);
        }
        debug_assert!(self.form == BodyForm::DataOnly, "frames carry data alone");
        self.keeps_trailers = true;
        if let Some(len) = self.decoder.bare(input.bytes().len()) {
            // Data and nothing else: it goes from where it was received.
            self.decoder.skip_data(len as u64);
            self.ended = self.decoder.is_done();
            outgoing.push_copy(&input.bytes()[..len], self.ended).map_err(Broken::Sink)?;
            input.consume(len);
            self.taken += len as u64;
            self.given += len as u64;
            return Ok(true);
        }
        let mut data = outgoing.buffer();
        let n = self.measure(input.bytes(), Some(&mut data)).map_err(Broken::Malformed)?;
        input.consume(n);
        self.taken += n as u64;
        self.given += data.len() as u64;
        self.ended = self.decoder.is_done();
        let has_trailers = self.ended && !self.trailers.is_empty();
        let trailers =
            has_trailers.then(|| h2_head::trailers_of(&self.trailers)).filter(|fields| !fields.is_empty());
        let is_moved = self.ended || !data.is_empty();
        outgoing.push_buffer(data, self.ended && trailers.is_none()).map_err(Broken::Sink)?;
        if trailers.is_some() {
            outgoing.finish(trailers);
        }
        Ok(is_moved)
    }

    /// Appends what is there of a stream's body as HTTP/1 has it, up to a bound. Ready when there was something.
    fn pull(
        &mut self,
        cx: &Context<'_>,
        incoming: &mut Incoming,
        out: &mut Vec<u8>,
    ) -> Poll<Result<(), Broken>> {
        let before = out.len();
        while !self.ended && out.len() - before < JOINED_BYTES {
            let (is_chunked, taken) = (self.form == BodyForm::Chunked, &mut self.taken);
            let piece = incoming.poll_with(cx, &mut |data, _| {
                *taken += data.len() as u64;
                if is_chunked && !data.is_empty() {
                    out.extend_from_slice(chunk_head(data.len(), &mut [0; CHUNK_HEAD_BYTES_MAX]));
                    out.extend_from_slice(data);
                    out.extend_from_slice(CHUNK_END);
                } else {
                    out.extend_from_slice(data);
                }
            });
            let Poll::Ready(piece) = piece else { break };
            self.active = rt::now();
            match piece {
                Err(e) => return Poll::Ready(Err(Broken::Source(e))),
                Ok(Piece::Data(_)) => {}
                Ok(Piece::BadTrailers) => return Poll::Ready(Err(Broken::Trailers)),
                Ok(Piece::End(trailers)) => {
                    self.ended = true;
                    if self.form == BodyForm::Chunked && h2_head::last_chunk(trailers.as_ref(), out).is_err()
                    {
                        return Poll::Ready(Err(Broken::Trailers));
                    }
                }
            }
        }
        self.given += (out.len() - before) as u64;
        if out.len() == before && !self.ended {
            self.waits = Waits::Source;
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Passes frames from stream to stream.
    fn pass(
        &mut self,
        cx: &Context<'_>,
        incoming: &mut Incoming,
        outgoing: &mut Outgoing,
    ) -> Poll<Result<(), Broken>> {
        let (mut len, mut is_last, mut sent) = (0, false, Ok(()));
        let piece = incoming.poll_with(cx, &mut |data, ends| {
            (len, is_last) = (data.len() as u64, ends);
            sent = outgoing.push_copy(data, ends);
        });
        let Poll::Ready(piece) = piece else {
            self.waits = Waits::Source;
            return Poll::Pending;
        };
        self.active = rt::now();
        sent.map_err(Broken::Sink)?;
        match piece {
            Err(e) => return Poll::Ready(Err(Broken::Source(e))),
            Ok(Piece::Data(_)) => {
                self.taken += len;
                self.given += len;
                self.ended = is_last;
            }
            Ok(Piece::BadTrailers) => return Poll::Ready(Err(Broken::Trailers)),
            Ok(Piece::End(trailers)) => {
                self.ended = true;
                outgoing.finish(trailers);
            }
        }
        Poll::Ready(Ok(()))
    }
}

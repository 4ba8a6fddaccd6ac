//! Moves one body from one connection to the other, with one buffer in flight. `BodyDecoder` says where it ends.
//!
//! A pump is polled by whoever owns both connections, so that a request's body and its response go on side by side. The
//! last piece is started and not waited for: the next message on that connection waits for it.

use std::io;
use std::task::{Context, Poll};

use crate::base::time::Now;
use crate::proto::h1::body::BodyDecoder;
use crate::proto::h1::encode::{CHUNK_END, CHUNK_HEAD_BYTES_MAX, LAST_CHUNK, chunk_head};
use crate::proto::h1::framing::Framing;
use crate::proto::h1::outgoing::BodyForm;
use crate::proto::h1::reason::Refusal;
use crate::proxy::input::Input;
use crate::rt::{self, Conn, Receiving, SendBuf, Sending};

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
}

impl Pump {
    /// A pump at the first byte of a body.
    pub(super) fn new(framing: Framing, form: BodyForm) -> Pump {
        let decoder = BodyDecoder::new(framing);
        let ended = decoder.is_done();
        let (active, waits) = (rt::now(), Waits::Source);
        Pump { decoder, form, ended, active, waits, taken: 0, given: 0, first_sent: None }
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
        (source, from): (&Conn, &mut Link),
        (sink, to): (&Conn, &mut Sending),
    ) -> Poll<Result<(), Broken>> {
        loop {
            match to.poll(sink, cx) {
                Poll::Pending => {
                    self.waits = Waits::Sink;
                    return Poll::Pending;
                }
                Poll::Ready((result, sent)) => {
                    self.sent(sent);
                    if let Err(e) = result {
                        return Poll::Ready(Err(Broken::Sink(e)));
                    }
                }
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            match self.next_piece(&mut from.input) {
                Err(refusal) => return Poll::Ready(Err(Broken::Malformed(refusal))),
                Ok(Some(piece)) => {
                    to.start(sink, piece);
                    if self.ended {
                        return Poll::Ready(Ok(()));
                    }
                    continue;
                }
                Ok(None) if self.ended => return Poll::Ready(Ok(())),
                Ok(None) => {}
            }
            self.waits = Waits::Source;
            let Poll::Ready(received) = from.recv.poll(source, cx) else { return Poll::Pending };
            match received {
                Err(e) => return Poll::Ready(Err(Broken::Source(e))),
                Ok(Some(buf)) => {
                    self.active = rt::now();
                    from.input.push(buf);
                }
                Ok(None) if self.decoder.may_end_here() => {
                    self.ended = true;
                    if self.form == BodyForm::Chunked {
                        self.given += LAST_CHUNK.len() as u64;
                        to.start(sink, SendBuf::Static(LAST_CHUNK));
                    }
                    return Poll::Ready(Ok(()));
                }
                Ok(None) => return Poll::Ready(Err(Broken::Cut)),
            }
        }
    }
}

//! The client of a request: of HTTP/1, waits for requests without holding memory, receives heads, sends responses, closes
//! politely; of HTTP/2, the same steps on one stream.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::base::limits::BUF_BYTES;
use crate::base::time::Now;
use crate::proto::h1::head::{HeadOptions, parse_request};
use crate::proto::h1::reason::Refusal;
use crate::proto::h2::frame::Code;
use crate::proto::h2::head::{WEBSOCKET_KEY_BYTES, decoded};
use crate::proto::h2::reason::Malformed;
use crate::proto::headers::Head;
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::first_bytes::FirstBuf;
use crate::proxy::forward::{Broken, Link, Pump, Sink, Source};
use crate::proxy::h2_head;
use crate::proxy::h2_stream::StreamBox;
use crate::proxy::idle::Upstream;
use crate::proxy::input::Input;
use crate::proxy::lot::Rest;
use crate::proxy::patience::Patience;
use crate::proxy::session::Session;
use crate::rt::{self, SendBuf};

/// How long and how much a client may still send that gets an answer before its request was read: closing at once would
/// reset the connection and the answer with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 64 * BUF_BYTES;

/// What a connection keeps between its requests.
pub(super) struct Client {
    pub(super) link: Link,
    pub(super) patience: Patience,
    /// A server connection that no other client may use.
    pub(super) own: Option<Box<Upstream>>,
    /// Requests that were read.
    pub(super) requests: u32,
    /// Its first bytes are not the preface of HTTP/2.
    pub(super) is_known: bool,
    /// When the last response was handed over, or the connection came in.
    pub(super) quiet_since: Now,
    /// The stream that it speaks HTTP/2 over; the link is unused then, but for the head of the request.
    pub(super) stream: Option<StreamBox>,
}

/// What waiting for a request came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waited {
    /// Bytes are here.
    Arrived,
    /// The client is done.
    Closed,
    /// The time is over.
    Elapsed,
}

/// Why no head came.
#[derive(Debug)]
pub(super) enum NoHead {
    Refused(Refusal),
    Malformed(Malformed),
    Timeout,
    Closed,
    Failed,
}

impl Client {
    pub(super) fn new(session: &Session, first: FirstBuf) -> Client {
        let link = Link { input: first.into(), ..Link::default() };
        let quiet_since = session.info.started;
        Client {
            link,
            patience: Patience::default(),
            own: None,
            requests: 0,
            is_known: false,
            quiet_since,
            stream: None,
        }
    }

    /// The client of one stream; `before` requests came over its connection earlier.
    pub(super) fn of_stream(session: &Session, stream: StreamBox, before: u32) -> Client {
        Client { requests: before, stream: Some(stream), ..Client::new(session, FirstBuf::default()) }
    }

    /// Where the body of the request comes from.
    pub(super) fn source<'a>(&'a mut self, session: &'a Session) -> Source<'a> {
        match &mut self.stream {
            None => Source::Conn(session.info.conn(), &mut self.link),
            Some(stream) => Source::Stream(&mut stream.incoming),
        }
    }

    /// Moves the body of a response on.
    pub(super) fn poll_download(
        &mut self,
        cx: &Context<'_>,
        session: &Session,
        download: &mut Pump,
        from: Source<'_>,
    ) -> Poll<Result<(), Broken>> {
        match &mut self.stream {
            None => download.poll(cx, from, Sink::Conn(session.info.conn(), &mut self.link.sending)),
            Some(stream) if stream.outgoing.has_head() => {
                download.poll(cx, from, Sink::Stream(&mut stream.outgoing))
            }
            Some(_) => Poll::Ready(Err(Broken::Sink(std::io::ErrorKind::InvalidInput.into()))),
        }
    }

    /// The client of a connection that was parked.
    pub(super) fn resume(rest: Rest) -> Client {
        let Rest { recv, requests, quiet_since, .. } = rest;
        let link = Link { recv, ..Link::default() };
        let patience = Patience::default();
        Client { link, patience, own: None, requests, is_known: true, quiet_since, stream: None }
    }

    /// What is left of a quiet client, if no task has to wait for it: all it may do is send, or leave.
    pub(super) fn rest(&mut self, session: &Session, deadline: Option<Now>) -> Option<Rest> {
        let is_bare = self.own.is_none() && self.stream.is_none() && session.info.shared().is_none();
        // TLS keeps its state in the connection and receives by itself.
        let is_bare = is_bare && session.info.conn().as_plain().is_some();
        let is_still = self.link.input.is_empty() && self.link.sending.is_idle();
        let Client { requests, quiet_since, .. } = *self;
        let is_parked = is_bare && is_still && !session.core.closing_idle.get();
        is_parked.then(|| Rest { recv: std::mem::take(&mut self.link.recv), requests, quiet_since, deadline })
    }

    /// Waits for the first bytes of a request, holding no receive buffer.
    pub(super) fn wait(&mut self, session: &Session, deadline: Option<Now>) -> impl Future<Output = Waited> {
        self.wait_between(session, deadline.map(|deadline| (deadline, deadline)))
    }

    /// The same where the end has time: the core is woken for it only at the second deadline. No `async fn`: it would hold what it is
    /// given twice, in every session that waits.
    pub(super) fn wait_between(
        &mut self,
        session: &Session,
        deadlines: Option<(Now, Now)>,
    ) -> impl Future<Output = Waited> {
        poll_fn(move |cx| {
            if let Poll::Ready(received) = self.link.recv.poll(session.info.conn(), cx) {
                return Poll::Ready(match received {
                    Ok(Some(buf)) => {
                        self.link.input.push(buf);
                        Waited::Arrived
                    }
                    Ok(None) | Err(_) => Waited::Closed,
                });
            }
            if session.core.closing_idle.get() {
                return Poll::Ready(Waited::Closed);
            }
            let Some((from, until)) = deadlines else { return Poll::Pending };
            self.patience.poll_between(cx, from, until).map(|()| Waited::Elapsed)
        })
    }

    /// Keeps the client waiting, whatever it sends. False: it left.
    pub(super) async fn hold(&mut self, session: &Session, until: Now) -> bool {
        if self.stream.is_some() {
            // The task of the stream watches whether it leaves.
            rt::sleep_until(until).await;
            return true;
        }
        loop {
            match self.wait(session, Some(until)).await {
                Waited::Arrived => self.link.input.consume(self.link.input.bytes().len()),
                Waited::Closed => return false,
                Waited::Elapsed => return true,
            }
        }
    }

    /// Receives a whole head.
    pub(super) async fn receive_head(
        &mut self,
        session: &Session,
        options: &HeadOptions,
        deadline: Option<Now>,
        head: &mut Head,
    ) -> Result<(), NoHead> {
        head.clear();
        if let Some(stream) = &mut self.stream {
            let fields = stream.fields.take().ok_or(NoHead::Failed)?;
            let mut text = session.core.pads.buffer();
            // Only a WebSocket needs one.
            let is_extended = fields.iter().any(|(name, _)| name == b":protocol");
            let key = if is_extended { websocket_key(session) } else { [b'A'; WEBSOCKET_KEY_BYTES] };
            let read = decoded(&fields, &options.limits, &key, &mut text, head);
            session.core.pads.keep(Some(SendBuf::from(fields.into_memory())));
            return match read {
                Ok(()) => {
                    self.link.input = text.into();
                    Ok(())
                }
                Err(malformed) => Err(NoHead::Malformed(malformed)),
            };
        }
        loop {
            match parse_request(self.link.input.bytes(), options, head) {
                Ok(parsed) if !parsed.is_partial() => return Ok(()),
                Ok(_) => self.link.input.detach(),
                Err(refusal) => return Err(NoHead::Refused(refusal)),
            }
            self.more(session, deadline).await?;
        }
    }

    /// Forgets the head of a request, which is over. That of a stream is text that we wrote.
    pub(super) fn consume_head(&mut self, session: &Session, len: usize) {
        if self.stream.is_none() {
            return self.link.input.consume(len);
        }
        if let Input::Copied { bytes, .. } = std::mem::take(&mut self.link.input) {
            session.core.pads.keep(Some(SendBuf::from(bytes)));
        }
    }

    /// Sends a 1xx of ours, written as HTTP/1 has it.
    pub(super) async fn send_interim(&mut self, session: &Session, bytes: Vec<u8>) -> Result<(), End> {
        let Some(stream) = &mut self.stream else { return self.send(session, SendBuf::from(bytes)).await };
        let sent = h2_head::send_page(&mut stream.outgoing, &bytes, true);
        sent.map(drop).map_err(|e| End::io(Side::Client, Phase::Inspect, &e))
    }

    /// Takes a piece of a stream's body ahead of its upload; false: there is no more.
    pub(super) async fn more_ahead(
        &mut self,
        deadline: Option<Now>,
        data: &mut Vec<u8>,
    ) -> Result<bool, NoHead> {
        let Client { stream: Some(stream), patience, .. } = self else { return Ok(false) };
        let polled = poll_fn(|cx| {
            if let Poll::Ready(piece) = stream.incoming.poll_ahead(cx, data) {
                return Poll::Ready(Some(piece));
            }
            patience.poll(cx, deadline).map(|()| None)
        });
        match polled.await {
            Some(Ok(more)) => Ok(more),
            Some(Err(_)) => Err(NoHead::Failed),
            None => Err(NoHead::Timeout),
        }
    }

    /// Receives once.
    pub(super) async fn more(&mut self, session: &Session, deadline: Option<Now>) -> Result<(), NoHead> {
        let Client { link, patience, .. } = self;
        let received = poll_fn(|cx| {
            if let Poll::Ready(received) = link.recv.poll(session.info.conn(), cx) {
                return Poll::Ready(Some(received));
            }
            patience.poll(cx, deadline).map(|()| None)
        })
        .await;
        match received {
            Some(Ok(Some(buf))) => self.link.input.push(buf),
            Some(Ok(None)) => return Err(NoHead::Closed),
            Some(Err(_)) => return Err(NoHead::Failed),
            None => return Err(NoHead::Timeout),
        }
        Ok(())
    }

    /// Starts to send, after what is on its way already. Nobody waits for the end of it but the next send.
    pub(super) async fn send(&mut self, session: &Session, data: SendBuf) -> Result<(), End> {
        debug_assert!(self.stream.is_none(), "a stream has no bytes of its own");
        self.flush(session).await?;
        let len = data.remaining().len();
        if len > 0 {
            self.link.sending.start(session.info.conn(), data);
            session.count_out(len as u64);
        }
        Ok(())
    }

    /// Sends a whole response of ours, which is written as HTTP/1 has it.
    pub(super) async fn send_whole(
        &mut self,
        session: &Session,
        bytes: Vec<u8>,
        is_head: bool,
    ) -> Result<(), End> {
        let Client { patience, stream: Some(stream), .. } = self else {
            return self.send(session, SendBuf::from(bytes)).await;
        };
        if bytes.is_empty() {
            // An operator's empty page.
            stream.outgoing.reset(Code::CANCEL);
            return Ok(());
        }
        session.count_out(bytes.len() as u64);
        let failed = |e: &std::io::Error| End::io(Side::Client, Phase::Data, e);
        let out = &mut stream.outgoing;
        let body = h2_head::send_page(out, &bytes, is_head).map_err(|e| failed(&e))?;
        if !body.is_empty() {
            out.push_copy(body, true).map_err(|e| failed(&e))?;
        }
        let deadline = session.timeout_client().map(|t| rt::now() + t);
        poll_fn(|cx| {
            if let Poll::Ready(sent) = out.poll_room(cx) {
                return Poll::Ready(sent.map_err(|e| failed(&e)));
            }
            patience.poll(cx, deadline).map(|()| Err(End::new(Side::Client, Phase::Data, Kind::Timeout)))
        })
        .await
    }

    /// Ends the stream in both directions.
    pub(super) fn reset(&mut self, code: Code) {
        if let Some(stream) = &mut self.stream {
            stream.outgoing.reset(code);
        }
    }

    /// Waits until everything is with the kernel.
    pub(super) async fn flush(&mut self, session: &Session) -> Result<(), End> {
        if self.link.sending.is_idle() {
            return Ok(());
        }
        let deadline = session.timeout_client().map(|t| rt::now() + t);
        let Client { link, patience, .. } = self;
        let (sent, data) = poll_fn(|cx| {
            if let Poll::Ready(done) = link.sending.poll(session.info.conn(), cx) {
                return Poll::Ready(Ok(done));
            }
            patience.poll(cx, deadline).map(|()| Err(End::new(Side::Client, Phase::Data, Kind::Timeout)))
        })
        .await?;
        session.core.pads.keep(data);
        sent.map_err(|e| End::io(Side::Client, Phase::Data, &e))
    }

    /// Takes the memory of a send that is over, without waiting for one that is not.
    pub(super) fn settle(&mut self, session: &Session) {
        let cx = Context::from_waker(Waker::noop());
        if let Poll::Ready((_, data)) = self.link.sending.poll(session.info.conn(), &cx) {
            session.core.pads.keep(data);
        }
    }

    /// Ends a connection whose client may still be sending.
    pub(super) async fn close_politely(&mut self, session: &Session, unread: bool) {
        // What is left of a stream is reset with NO_ERROR behind the response (RFC 9113 8.1).
        if self.stream.is_some() || self.flush(session).await.is_err() || !unread {
            return;
        }
        let conn = session.info.conn();
        if conn.shutdown_write().is_err() {
            return;
        }
        let deadline = Some(rt::now() + LINGER);
        let mut seen = 0;
        while seen < LINGER_BYTES_MAX {
            self.link.input.consume(self.link.input.bytes().len());
            match self.wait(session, deadline).await {
                Waited::Arrived => seen += self.link.input.bytes().len(),
                Waited::Closed | Waited::Elapsed => return,
            }
        }
    }
}

/// A fresh key for a handshake of WebSocket.
fn websocket_key(session: &Session) -> [u8; WEBSOCKET_KEY_BYTES] {
    use base64::Engine;
    let mut key = [b'A'; WEBSOCKET_KEY_BYTES];
    let (a, b) = (session.core.random(), session.core.random());
    let nonce = (u128::from(a) << 64 | u128::from(b)).to_be_bytes();
    let written = base64::engine::general_purpose::STANDARD.encode_slice(nonce, &mut key);
    debug_assert_eq!(written, Ok(WEBSOCKET_KEY_BYTES));
    key
}

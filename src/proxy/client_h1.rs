//! The client side of HTTP/1: waits for requests without holding memory, receives heads, sends responses, closes politely.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::base::limits::BUF_BYTES;
use crate::base::time::Now;
use crate::proto::h1::head::{HeadOptions, parse_request};
use crate::proto::h1::reason::Refusal;
use crate::proto::headers::Head;
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::first_bytes::FirstBuf;
use crate::proxy::forward::Link;
use crate::proxy::idle::Upstream;
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
    /// When the last response was handed over, or the connection came in.
    pub(super) quiet_since: Now,
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
    Timeout,
    Closed,
    Failed,
}

impl Client {
    pub(super) fn new(session: &Session, first: FirstBuf) -> Client {
        let link = Link { input: first.into(), ..Link::default() };
        let quiet_since = session.info.started;
        Client { link, patience: Patience::default(), own: None, requests: 0, quiet_since }
    }

    /// Waits for the first bytes of a request, holding no receive buffer.
    pub(super) async fn wait(&mut self, session: &Session, deadline: Option<Now>) -> Waited {
        poll_fn(|cx| {
            if let Poll::Ready(received) = self.link.recv.poll(&session.info.client, cx) {
                return Poll::Ready(match received {
                    Ok(Some(buf)) => {
                        self.link.input.push(buf);
                        Waited::Arrived
                    }
                    Ok(None) | Err(_) => Waited::Closed,
                });
            }
            if session.core.draining.get() {
                return Poll::Ready(Waited::Closed);
            }
            self.patience.poll(cx, deadline).map(|()| Waited::Elapsed)
        })
        .await
    }

    /// Keeps the client waiting, whatever it sends. False: it left.
    pub(super) async fn hold(&mut self, session: &Session, until: Now) -> bool {
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
        loop {
            match parse_request(self.link.input.bytes(), options, head) {
                Ok(parsed) if !parsed.is_partial() => return Ok(()),
                Ok(_) => self.link.input.detach(),
                Err(refusal) => return Err(NoHead::Refused(refusal)),
            }
            let Client { link, patience, .. } = self;
            let received = poll_fn(|cx| {
                if let Poll::Ready(received) = link.recv.poll(&session.info.client, cx) {
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
        }
    }

    /// Starts to send, after what is on its way already. Nobody waits for the end of it but the next send.
    pub(super) async fn send(&mut self, session: &Session, data: SendBuf) -> Result<(), End> {
        self.flush(session).await?;
        let len = data.remaining().len();
        if len > 0 {
            self.link.sending.start(&session.info.client, data);
            session.count_out(len as u64);
        }
        Ok(())
    }

    /// Waits until everything is with the kernel.
    pub(super) async fn flush(&mut self, session: &Session) -> Result<(), End> {
        if self.link.sending.is_idle() {
            return Ok(());
        }
        let deadline = session.frontend().timeout_client.map(|t| rt::now() + t);
        let Client { link, patience, .. } = self;
        let (sent, data) = poll_fn(|cx| {
            if let Poll::Ready(done) = link.sending.poll(&session.info.client, cx) {
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
        if let Poll::Ready((_, data)) = self.link.sending.poll(&session.info.client, &cx) {
            session.core.pads.keep(data);
        }
    }

    /// Ends a connection whose client may still be sending.
    pub(super) async fn close_politely(&mut self, session: &Session, unread: bool) {
        if self.flush(session).await.is_err() || !unread {
            return;
        }
        let conn = &session.info.client;
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

//! Transport: a connection as the proxy uses it, plain or TLS. Plain connections pay one test for it.
//!
//! It begins plain; [`accept`](super::accept) and [`connect`](super::connect) make it TLS once it is known that it is. Operations stay
//! outside of it, as those of [`rt::Conn`](crate::rt::Conn) do: [`Receiving`] and [`Sending`] are polled with the same transport
//! always.

use std::cell::OnceCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, Waker};

use super::facts::Facts;
use super::session::{Established, Session};
use crate::base::net::Addr;
use crate::rt::{self, Conn, Hangup, RecvBuf, SendBuf};

/// A connection, plain or TLS.
pub struct Transport {
    /// Dropped before the socket: it has operations on it.
    tls: OnceCell<Box<Session>>,
    conn: Conn,
}

impl Transport {
    /// A plain connection.
    pub fn plain(conn: Conn) -> Transport {
        Transport { tls: OnceCell::new(), conn }
    }

    /// The socket, where the bytes on it are those of the peers; `None` with TLS.
    pub fn as_plain(&self) -> Option<&Conn> {
        self.tls.get().is_none().then_some(&self.conn)
    }

    /// The socket of a plain connection once more, to give it to another core; this one is only good for closing then.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        match self.as_plain() {
            Some(conn) => conn.as_fd().try_clone_to_owned(),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// What the handshake agreed on; `None` on a plain connection.
    pub fn tls(&self) -> Option<&Facts> {
        self.tls.get().map(|tls| &tls.facts)
    }

    pub(super) fn establish(&self, established: Established) {
        let set = self.tls.set(Box::new(Session::new(established)));
        debug_assert!(set.is_ok(), "a connection has one handshake");
    }

    pub(super) fn conn(&self) -> &Conn {
        &self.conn
    }

    /// Waits until [`recv`](Self::recv) would be ready. Nothing is lost when the future is dropped.
    pub async fn readable(&self) -> io::Result<()> {
        match self.tls.get() {
            None => self.conn.readable().await,
            Some(tls) => {
                poll_fn(|cx| tls.poll_readable(&self.conn, cx)).await;
                Ok(())
            }
        }
    }

    /// Receives what is there; `None`: the peer has half-closed. With TLS an end without close_notify is an error.
    pub async fn recv(&self) -> io::Result<Option<RecvBuf>> {
        let mut receiving = Receiving::default();
        poll_fn(|cx| receiving.poll(self, cx)).await
    }

    /// Sends everything.
    pub async fn send_all(&self, data: impl Into<SendBuf>) -> io::Result<()> {
        let mut sending = Sending::default();
        sending.start(self, data.into());
        poll_fn(|cx| sending.poll(self, cx)).await.0
    }

    /// Half-closes: the peer reads to the end of what was sent, and knows that it is the end.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match self.tls.get() {
            None => self.conn.shutdown_write(),
            Some(tls) => tls.close_write(&self.conn),
        }
    }

    /// Waits until the connection is over in both directions; see [`Conn::closed`].
    pub async fn closed(&self) -> io::Result<()> {
        self.conn.closed().await
    }

    /// Waits until the peer has closed its side of the socket; see [`Conn::half_closed`].
    pub async fn half_closed(&self) -> io::Result<Hangup> {
        self.conn.half_closed().await
    }

    /// Ends both directions at once; operations in flight complete.
    pub fn shutdown(&self) -> io::Result<()> {
        if let Some(tls) = self.tls.get() {
            tls.abandon();
        }
        self.conn.shutdown()
    }

    /// The address of the other end.
    pub fn peer_addr(&self) -> Addr {
        self.conn.peer_addr()
    }

    /// The address of this end.
    pub fn local_addr(&self) -> Addr {
        self.conn.local_addr()
    }

    /// Makes the close a reset (RST): the peer learns that something went wrong. For errors only.
    pub fn reset_on_close(&self) {
        if let Some(tls) = self.tls.get() {
            tls.abandon();
        }
        self.conn.reset_on_close();
    }

    /// The peer vanishes silently; see [`Conn::forget_peer`].
    pub fn forget_peer(&self) {
        if let Some(tls) = self.tls.get() {
            tls.abandon();
        }
        self.conn.forget_peer();
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        if let Some(tls) = self.tls.get() {
            tls.farewell(&self.conn);
        }
    }
}

/// A receive that borrows no transport; see [`rt::Receiving`].
#[derive(Debug, Default)]
pub struct Receiving {
    plain: rt::Receiving,
}

impl Receiving {
    /// Whether a receive is on its way on a plain connection.
    pub fn is_armed(&self) -> bool {
        self.plain.is_armed()
    }

    /// Arms it, unless it is; nobody is woken when it completes before it is polled.
    pub fn arm(&mut self, transport: &Transport) {
        match transport.tls.get() {
            None => self.plain.arm(&transport.conn),
            Some(tls) => tls.arm(&transport.conn),
        }
    }

    /// Whether nothing came of the peer, neither bytes nor its end. Arms it if it is not.
    pub fn is_quiet(&mut self, transport: &Transport) -> bool {
        let waits = transport.tls.get().is_none() && self.plain.is_waiting();
        waits || self.poll(transport, &Context::from_waker(Waker::noop())).is_pending()
    }

    /// Lets its completion be listed under `token`; see [`rt::Receiving::list`]. For plain connections.
    pub fn list(&mut self, transport: &Transport, token: u32) {
        debug_assert!(transport.tls.get().is_none(), "TLS receives by itself");
        self.plain.list(&transport.conn, token);
    }

    /// Ends it; see [`rt::Receiving::disarm`]. With TLS nothing can be told of the connection: false.
    pub async fn disarm(&mut self, transport: &Transport) -> bool {
        transport.tls.get().is_none() && self.plain.disarm().await
    }

    /// Ready with what arrived, `None` at the end; arms it if it is not.
    pub fn poll(&mut self, transport: &Transport, cx: &Context<'_>) -> Poll<io::Result<Option<RecvBuf>>> {
        match transport.tls.get() {
            None => self.plain.poll(&transport.conn, cx),
            Some(tls) => tls.poll_recv(&transport.conn, cx),
        }
    }
}

/// A send that borrows no transport; see [`rt::Sending`].
#[derive(Debug, Default)]
pub struct Sending {
    plain: rt::Sending,
    /// TLS has bytes of this one; it keeps them, so that this is small.
    is_protected: bool,
}

impl Sending {
    /// Whether nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.plain.is_idle() && !self.is_protected
    }

    /// Starts to send bytes, which must not be empty. One at a time.
    pub fn start(&mut self, transport: &Transport, data: SendBuf) {
        match transport.tls.get() {
            None => self.plain.start(&transport.conn, data),
            Some(tls) => {
                assert!(!self.is_protected, "one send at a time keeps the order");
                tls.write(&transport.conn, data);
                self.is_protected = true;
            }
        }
    }

    /// Ready with the bytes that were sent, all of them, or with what stopped it and what is left of them; with TLS nobody
    /// knows how much the peer has seen, and nothing is given back. Ready at once when nothing is on its way.
    pub fn poll(
        &mut self,
        transport: &Transport,
        cx: &Context<'_>,
    ) -> Poll<(io::Result<()>, Option<SendBuf>)> {
        let Some(tls) = transport.tls.get() else { return self.plain.poll(&transport.conn, cx) };
        if !self.is_protected {
            return Poll::Ready((Ok(()), None));
        }
        let polled = tls.poll_flush(&transport.conn, cx);
        self.is_protected = polled.is_pending();
        polled
    }
}

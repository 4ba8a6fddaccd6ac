//! A connection to a server as the `h2` crate reads and writes it: tokio's IO traits over completions. Frames of one turn are
//! gathered and leave in one send; what is received comes in the buffers of the core.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::base::limits::BUF_BYTES;
use crate::proxy::input::Input;
use crate::rt::SendBuf;
use crate::tls::{Receiving, Sending, Transport};

/// Bytes that wait for the send on its way before the crate is asked to wait.
const GATHERED_BYTES_MAX: usize = 8 * BUF_BYTES;

/// Where the socket of a connection is.
pub(super) trait HasConn: Unpin {
    /// The connection.
    fn conn(&self) -> &Transport;
}

/// A connection under HTTP/2. Fields in order of their drop: operations before the connection.
pub(super) struct H2Conn<C> {
    recv: Receiving,
    sending: Sending,
    input: Input,
    /// What leaves with the next send.
    gathered: Vec<u8>,
    /// Memory of the send before.
    spare: Vec<u8>,
    owner: C,
}

impl<C: HasConn> H2Conn<C> {
    /// Takes over a connection, of which `input` is received already.
    pub(super) fn new(owner: C, input: Input) -> H2Conn<C> {
        let (recv, sending) = (Receiving::default(), Sending::default());
        H2Conn { recv, sending, input, gathered: Vec::new(), spare: Vec::new(), owner }
    }

    /// Sends what was gathered, as soon as what is on its way is gone. Pending while something waits for that; nobody is
    /// woken for the end of a send that nothing waits for.
    fn poll_start(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let (result, sent) = ready!(self.sending.poll(self.owner.conn(), cx));
        if let Some(SendBuf::Heap { mut bytes, .. }) = sent {
            bytes.clear();
            self.spare = bytes;
        }
        result?;
        let data = std::mem::replace(&mut self.gathered, std::mem::take(&mut self.spare));
        self.sending.start(self.owner.conn(), SendBuf::from(data));
        Poll::Ready(Ok(()))
    }

    fn has_room(&self) -> bool {
        self.gathered.len() < GATHERED_BYTES_MAX
    }
}

impl<C: HasConn> AsyncRead for H2Conn<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // The task that reads is woken when a send is over that others wait for: the next one starts here.
        if let Poll::Ready(Err(e)) = this.poll_start(cx) {
            return Poll::Ready(Err(e));
        }
        if this.input.is_empty() {
            match ready!(this.recv.poll(this.owner.conn(), cx))? {
                Some(received) => this.input.push(received),
                None => return Poll::Ready(Ok(())),
            }
        }
        let bytes = this.input.bytes();
        let n = bytes.len().min(buf.remaining());
        buf.put_slice(&bytes[..n]);
        this.input.consume(n);
        Poll::Ready(Ok(()))
    }
}

impl<C: HasConn> AsyncWrite for H2Conn<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.has_room() {
            ready!(self.poll_start(cx))?;
        }
        self.gathered.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.has_room() {
            ready!(self.poll_start(cx))?;
        }
        bufs.iter().for_each(|buf| self.gathered.extend_from_slice(buf));
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Starts to send what was gathered. Nobody waits for the kernel: what is gathered meanwhile is bounded.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_start(cx) {
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending if !self.has_room() => Poll::Pending,
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_start(cx))?;
        let this = &mut *self;
        ready!(this.sending.poll(this.owner.conn(), cx)).0?;
        Poll::Ready(this.owner.conn().shutdown_write())
    }
}

//! Connections of HTTP/2 under their streams: what the streams wrote leaves in one send for each turn of the core; and the task
//! that drives a connection to a server. What its frames mean is `proto::h2::connection`'s.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::policy::flood::ServerGuard;
use crate::proto::h2::frame::Code;
use crate::proto::h2::sending::OUT_BYTES_MAX;
use crate::proxy::dial::Port;
use crate::proxy::h2_stream::Shared;
use crate::proxy::input::Input;
use crate::rt::SendBuf;
use crate::tls::{Receiving, Sending, Transport};

/// Receives of one turn: other connections of the core have theirs.
pub(super) const RECEIVES_PER_TURN: u32 = 8;

/// The sends of a connection.
#[derive(Default)]
pub(super) struct Sends {
    pub(super) sending: Sending,
    /// Memory of the send before.
    pub(super) spare: Vec<u8>,
}

impl Sends {
    /// Starts to send what has gathered, as soon as what is on its way is gone.
    pub(super) fn send(
        &mut self,
        conn: &Transport,
        shared: &Shared,
        buffer: impl Fn() -> Vec<u8>,
        cx: &Context<'_>,
    ) -> io::Result<()> {
        loop {
            if shared.drive(|connection| connection.out().is_empty()) {
                // Nobody has to know when the last send is over, unless the end waits for it.
                if shared.drive(|connection| connection.is_over()) {
                    let _ = self.sending.poll(conn, cx);
                }
                shared.watch(cx);
                return Ok(());
            }
            let Poll::Ready((result, sent)) = self.sending.poll(conn, cx) else { return Ok(()) };
            result?;
            if let Some(SendBuf::Heap { mut bytes, .. }) = sent {
                bytes.clear();
                self.spare = bytes;
            }
            let mut spare = std::mem::take(&mut self.spare);
            if spare.capacity() == 0 {
                spare = buffer();
            }
            let data = shared.drive(|connection| {
                let data = std::mem::replace(connection.out(), spare);
                connection.grant();
                data
            });
            self.sending.start(conn, SendBuf::from(data));
        }
    }

    /// Whether everything is with the kernel.
    pub(super) fn is_idle(&self) -> bool {
        self.sending.is_idle()
    }
}

/// A connection to a server. Fields in order of their drop: operations before the connection.
pub(super) struct ServerConn {
    recv: Receiving,
    sends: Sends,
    input: Input,
    guard: ServerGuard,
    shared: Rc<Shared>,
    conn: Transport,
    _port: Option<Port>,
}

impl ServerConn {
    /// Takes a fresh connection over.
    pub(super) fn new((conn, port): (Transport, Option<Port>), shared: Rc<Shared>) -> ServerConn {
        ServerConn {
            recv: Receiving::default(),
            sends: Sends::default(),
            input: Input::Empty,
            guard: ServerGuard::default(),
            shared,
            conn,
            _port: port,
        }
    }

    /// Drives it until the server has closed it, or until nobody wants it any more.
    pub(super) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
        // What the streams have not heard by now does not come any more.
        self.shared.drive(|connection| connection.abandon(Code::CANCEL));
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let received = self.receive(cx);
        let ServerConn { sends, shared, conn, .. } = self;
        let buffer = || shared.drive(|connection| connection.buffer());
        if sends.send(conn, shared, buffer, cx).is_err() || received.is_ready() {
            return Poll::Ready(());
        }
        if sends.is_idle() && shared.drive(|connection| connection.is_over() && connection.out().is_empty()) {
            let _ = conn.shutdown_write();
            return Poll::Ready(());
        }
        if sends.is_idle() && shared.drive(|connection| connection.held() == 0) {
            // One that is quiet keeps no memory.
            let spare = std::mem::take(&mut sends.spare);
            shared.drive(|connection| connection.keep(spare));
        }
        Poll::Pending
    }

    /// Receives and follows what came. Ready: the server is gone.
    fn receive(&mut self, cx: &Context<'_>) -> Poll<()> {
        for _ in 0..RECEIVES_PER_TURN {
            self.follow();
            // Answers to frames wait for a server that does not read; what it sends waits with them.
            if self.shared.drive(|connection| connection.out().len()) > 2 * OUT_BYTES_MAX {
                return Poll::Pending;
            }
            match self.recv.poll(&self.conn, cx) {
                Poll::Pending => {
                    // The rest of a frame must not keep a receive buffer of the core.
                    self.input.detach();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(Some(received))) => self.input.push(received),
                Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(()),
            }
        }
        self.follow();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Follows the frames that are there.
    fn follow(&mut self) {
        let ServerConn { shared, input, guard, .. } = self;
        if input.is_empty() {
            return;
        }
        let (used, request) =
            shared.drive(|connection| connection.receive(input.bytes(), &mut |head| guard.judge(head)));
        debug_assert!(request.is_none(), "servers send no requests");
        input.consume(used);
    }
}

//! Syslog over TCP (RFC 6587): one connection that is made again when it breaks. Lines wait in a bounded buffer; what does
//! not fit is dropped by the caller.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::base::limits::{LOG_RETRY, LOG_STREAM_BYTES};
use crate::model::log::Framing;
use crate::rt::{self, ConnectOptions};

/// The way to a syslog server.
pub(super) struct LogStream {
    shared: Rc<Shared>,
    framing: Framing,
}

#[derive(Default)]
struct Shared {
    waiting: RefCell<Vec<u8>>,
    waker: Cell<Option<Waker>>,
    /// Nobody adds anything any more.
    over: Cell<bool>,
    /// Lines that wait.
    lines: Cell<u64>,
    /// Lines that a connection took with it when it broke.
    lost: Cell<u64>,
    /// Some are on their way.
    is_sending: Cell<bool>,
    /// The last attempt to connect failed.
    is_down: Cell<bool>,
}

impl Shared {
    /// Until there is something to send, or nothing will come any more.
    async fn more(&self) {
        poll_fn(|cx| {
            if self.waiting.borrow().is_empty() && !self.over.get() {
                self.waker.set(Some(cx.waker().clone()));
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// All is sent, and nothing will come any more.
    fn is_done(&self) -> bool {
        self.over.get() && self.waiting.borrow().is_empty()
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        self.shared.over.set(true);
        if let Some(waker) = self.shared.waker.take() {
            waker.wake();
        }
    }
}

impl LogStream {
    /// Starts the task that sends.
    pub(super) fn start(address: SocketAddr, framing: Framing) -> LogStream {
        let shared = Rc::new(Shared::default());
        rt::spawn(send(shared.clone(), address));
        LogStream { shared, framing }
    }

    /// Lines that a connection took with it when it broke.
    pub(super) fn lost(&self) -> u64 {
        self.shared.lost.get()
    }

    /// Whether lines are on their way, or wait for a server that is there.
    pub(super) fn is_busy(&self) -> bool {
        let waits = !self.shared.waiting.borrow().is_empty() && !self.shared.is_down.get();
        self.shared.is_sending.get() || waits
    }

    /// Adds a message; false: there is no room.
    pub(super) fn push(&self, line: &[u8]) -> bool {
        let mut waiting = self.shared.waiting.borrow_mut();
        if waiting.len() + line.len() > LOG_STREAM_BYTES {
            return false;
        }
        if self.framing == Framing::OctetCounting {
            // Writing to a vector does not fail.
            let _ = write!(waiting, "{} ", line.len());
        }
        waiting.extend_from_slice(line);
        if self.framing == Framing::Newline {
            waiting.push(b'\n');
        }
        drop(waiting);
        self.shared.lines.set(self.shared.lines.get() + 1);
        if let Some(waker) = self.shared.waker.take() {
            waker.wake();
        }
        true
    }
}

/// Sends until nothing will come any more. What a broken connection was taking is lost; of what it took before TCP does not say
/// whether it arrived.
async fn send(shared: Rc<Shared>, address: SocketAddr) {
    loop {
        shared.more().await;
        if shared.is_done() {
            return;
        }
        let connected = rt::with_deadline(
            rt::connect(rt::Target::Ip(address), ConnectOptions::default()),
            Some(rt::now() + LOG_RETRY),
        );
        let connected = connected.await;
        shared.is_down.set(!matches!(connected, Ok(Ok(_))));
        if let Ok(Ok(conn)) = connected {
            loop {
                let batch = std::mem::take(&mut *shared.waiting.borrow_mut());
                let lines = shared.lines.take();
                shared.is_sending.set(true);
                let sent = batch.is_empty() || conn.send_all(batch).await.is_ok();
                shared.is_sending.set(false);
                if !sent {
                    shared.lost.set(shared.lost.get() + lines);
                    break;
                }
                if shared.is_done() {
                    return;
                }
                // A server that closes its direction is gone, and lines would be written into the void. It says nothing otherwise.
                if let rt::Either::Second(_) = rt::select(shared.more(), conn.half_closed()).await {
                    break;
                }
            }
        }
        // A server that does not answer keeps nobody who is over.
        if shared.over.get() {
            return;
        }
        rt::sleep_until(rt::now() + LOG_RETRY).await;
    }
}

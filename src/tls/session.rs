//! TLS on an established connection: receives, opens records, protects and sends. It owns the operations of its socket, so
//! that nothing is lost when somebody stops waiting. No buffer is held while nothing is received. Used by `transport`.

use std::cell::{Cell, RefCell};
use std::io;
use std::task::{Context, Poll, Waker};

use super::early::Layer;
use super::facts::Facts;
use super::records::{Broken, Front, HEADER_BYTES, Opened, front};
use super::seal;
use crate::base::limits::TLS_QUEUED_BYTES_MAX;
use crate::rt::{Conn, Receiving, RecvBuf, SendBuf, Sending};

/// The TLS side of a connection.
pub(super) struct Session {
    pub(super) facts: Facts,
    state: RefCell<State>,
}

/// Fields in order of their drop: operations first.
struct State {
    receiving: Receiving,
    sending: Sending,
    records: Layer,
    /// Received and not opened yet.
    incoming: Option<RecvBuf>,
    /// The beginning of a record whose end is not here.
    partial: Vec<u8>,
    /// Opened and not taken yet.
    ready: Option<RecvBuf>,
    /// Protected and not on its way yet.
    queued: Vec<u8>,
    /// What was written last, for whoever wants its memory or another attempt.
    protected: Option<SendBuf>,
    /// How far the receive side is.
    input: Input,
    /// Whether nothing more will be sent.
    closed: bool,
    /// Half-close the socket once everything is with the kernel.
    fin: bool,
    failed: Option<io::ErrorKind>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Input {
    Open,
    /// close_notify came.
    Ended,
    /// Nothing that comes can be trusted any more.
    Broken(io::ErrorKind, String),
}

/// What the handshake leaves behind.
pub(super) struct Established {
    pub(super) records: Layer,
    pub(super) facts: Facts,
    /// Data that came with the handshake.
    pub(super) data: Vec<u8>,
    /// What follows it, not opened.
    pub(super) rest: Vec<u8>,
    /// What is to be sent before anything else.
    pub(super) queued: Vec<u8>,
    /// The peer closed already.
    pub(super) ended: bool,
}

/// How connections of a core ended that did not end in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endings {
    /// By a message that has no place behind the handshake.
    pub unexpected: u64,
    /// By a record that could not be opened, or with keys that are worn out.
    pub bad_records: u64,
    /// By an alert of the peer.
    pub alerts: u64,
    /// Without close_notify.
    pub cut: u64,
}

thread_local! {
    /// TLS connections of this core.
    static OPEN: Cell<u64> = const { Cell::new(0) };
    static ENDINGS: Cell<Endings> = const { Cell::new(Endings { unexpected: 0, bad_records: 0, alerts: 0, cut: 0 }) };
}

/// How connections of this core ended.
pub fn endings() -> Endings {
    ENDINGS.get()
}

/// `None`: without close_notify.
fn count_ending(broken: Option<&Broken>) {
    let mut endings = ENDINGS.get();
    *match broken {
        Some(Broken::Unexpected) => &mut endings.unexpected,
        Some(Broken::BadRecord | Broken::Keys) => &mut endings.bad_records,
        Some(Broken::Alert(_)) => &mut endings.alerts,
        None => &mut endings.cut,
    } += 1;
    ENDINGS.set(endings);
}

/// TLS connections of this core that are open, both sides.
pub fn open_connections() -> u64 {
    OPEN.get()
}

impl Drop for Session {
    fn drop(&mut self) {
        OPEN.set(OPEN.get() - 1);
    }
}

impl Session {
    pub(super) fn new(established: Established) -> Session {
        let Established { records, facts, data, rest, queued, ended } = established;
        let block = |bytes: Vec<u8>| {
            let len = bytes.len();
            (len > 0).then(|| RecvBuf::from_block(bytes.into(), 0..len))
        };
        let state = State {
            receiving: Receiving::default(),
            sending: Sending::default(),
            records,
            incoming: block(rest),
            partial: Vec::new(),
            ready: block(data),
            queued,
            protected: None,
            input: if ended { Input::Ended } else { Input::Open },
            closed: false,
            fin: false,
            failed: None,
        };
        OPEN.set(OPEN.get() + 1);
        Session { facts, state: RefCell::new(state) }
    }

    /// Arms a receive, unless something is there to be taken.
    pub(super) fn arm(&self, conn: &Conn) {
        let state = &mut *self.state.borrow_mut();
        if state.ready.is_none() && state.incoming.is_none() && state.input == Input::Open {
            state.receiving.arm(conn);
        }
    }

    /// Ready with data, with `None` at the orderly end, or with an error; an end without close_notify is one.
    pub(super) fn poll_recv(&self, conn: &Conn, cx: &Context<'_>) -> Poll<io::Result<Option<RecvBuf>>> {
        let state = &mut *self.state.borrow_mut();
        let filled = state.fill(conn, cx);
        self.facts.shake(state.records.is_early());
        filled.map(|filled| {
            filled?;
            Ok(state.ready.take())
        })
    }

    /// Ready when [`poll_recv`](Self::poll_recv) is; takes nothing.
    pub(super) fn poll_readable(&self, conn: &Conn, cx: &Context<'_>) -> Poll<()> {
        let state = &mut *self.state.borrow_mut();
        let filled = state.fill(conn, cx);
        self.facts.shake(state.records.is_early());
        filled.map(drop)
    }

    /// Protects data and hands it to the kernel behind what is on its way.
    pub(super) fn write(&self, conn: &Conn, data: SendBuf) {
        let state = &mut *self.state.borrow_mut();
        state.write(conn, data.remaining());
        // A received buffer is good for the next receive at once; nobody wants it back.
        state.protected = Some(match data {
            SendBuf::Recv(_) => SendBuf::Static(&[]),
            kept => kept,
        });
    }

    /// Ready when everything is with the kernel, with the data that was written last; or with what stopped it.
    pub(super) fn poll_flush(
        &self,
        conn: &Conn,
        cx: &Context<'_>,
    ) -> Poll<(io::Result<()>, Option<SendBuf>)> {
        let state = &mut *self.state.borrow_mut();
        state.flush(conn, cx).map(|sent| {
            let data = state.protected.take();
            if sent.is_ok() { (sent, data) } else { (sent, None) }
        })
    }

    /// Says that nothing more comes, and half-closes the socket when that is said.
    pub(super) fn close_write(&self, conn: &Conn) -> io::Result<()> {
        let state = &mut *self.state.borrow_mut();
        state.say_closed();
        state.fin = true;
        let cx = Context::from_waker(Waker::noop());
        match state.push_out(conn, &cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Nothing will be said at the end: the peer is to see that it was cut off.
    pub(super) fn abandon(&self) {
        let state = &mut *self.state.borrow_mut();
        state.closed = true;
        state.queued.clear();
    }

    /// The end of an orderly connection: close_notify, if the kernel takes it at once.
    pub(super) fn farewell(&self, conn: &Conn) {
        let state = &mut *self.state.borrow_mut();
        if !state.closed && !state.fin {
            state.say_closed();
            let cx = Context::from_waker(Waker::noop());
            // A peer that takes nothing more learns it by the end of the connection.
            let _ = state.push_out(conn, &cx);
        }
    }
}

impl State {
    /// Ready when something can be taken: data, the end, or an error.
    fn fill(&mut self, conn: &Conn, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if !self.queued.is_empty() && !self.sending.is_idle() {
            // An error shows again when somebody sends.
            let _ = self.flush(conn, cx);
        }
        loop {
            if self.ready.is_some() {
                return Poll::Ready(Ok(()));
            }
            match &self.input {
                Input::Open => {}
                Input::Ended => return Poll::Ready(Ok(())),
                Input::Broken(kind, text) => return Poll::Ready(Err(io::Error::new(*kind, text.clone()))),
            }
            if let Some(buf) = self.incoming.take() {
                if let Err(broken) = self.open(buf) {
                    count_ending(Some(&broken));
                    self.records.refuse(&broken, &mut self.queued);
                    self.input = Input::Broken(io::ErrorKind::InvalidData, broken.to_string());
                    self.closed = true;
                }
                // Answers to key updates and alerts; nobody waits for them.
                if !self.queued.is_empty()
                    && let Poll::Ready(Err(e)) = self.push_out(conn, cx)
                {
                    self.input = Input::Broken(e.kind(), e.to_string());
                }
                continue;
            }
            let Poll::Ready(received) = self.receiving.poll(conn, cx) else { return Poll::Pending };
            match received {
                Ok(Some(buf)) => self.incoming = Some(buf),
                Ok(None) => {
                    count_ending(None);
                    let text = "the connection ended without close_notify";
                    self.input = Input::Broken(io::ErrorKind::UnexpectedEof, text.to_owned());
                }
                Err(e) => self.input = Input::Broken(e.kind(), e.to_string()),
            }
        }
    }

    /// Opens what it can: the record that was begun, or all whole records of the buffer.
    fn open(&mut self, mut buf: RecvBuf) -> Result<(), Broken> {
        if !self.partial.is_empty() {
            return self.open_partial(buf);
        }
        // Data of several records is moved together in place, over headers and tags.
        let (mut at, mut start, mut end) = (0, 0, 0);
        while at < buf.len() {
            let len = match front(&buf[at..])? {
                Front::Record(len) => len,
                Front::Partial(whole) => {
                    self.begin_partial(&buf[at..], whole);
                    break;
                }
            };
            match self.records.open(&mut buf[at..at + len], &mut self.queued)? {
                Opened::Data(range) if range.is_empty() => {}
                Opened::Data(range) if end == start => (start, end) = (at + range.start, at + range.end),
                Opened::Data(range) => {
                    let n = range.len();
                    buf.copy_within(at + range.start..at + range.end, end);
                    end += n;
                }
                Opened::Nothing => self.check_queued()?,
                Opened::Closed => {
                    self.input = Input::Ended;
                    break;
                }
            }
            at += len;
        }
        if end > start {
            buf.truncate(end);
            buf.advance(start);
            self.ready = Some(buf);
        }
        Ok(())
    }

    fn begin_partial(&mut self, bytes: &[u8], whole: usize) {
        let mut partial = Vec::with_capacity(whole);
        partial.extend_from_slice(bytes);
        self.partial = partial;
    }

    /// Completes the record that was begun; the rest of the buffer waits for the next turn.
    fn open_partial(&mut self, mut buf: RecvBuf) -> Result<(), Broken> {
        loop {
            let whole = match front(&self.partial)? {
                Front::Record(_) => break,
                Front::Partial(whole) => whole,
            };
            if buf.is_empty() {
                return Ok(());
            }
            let n = (whole - self.partial.len()).min(buf.len());
            self.partial.reserve_exact(whole - self.partial.len());
            self.partial.extend_from_slice(&buf[..n]);
            buf.advance(n);
        }
        if !buf.is_empty() {
            self.incoming = Some(buf);
        }
        let mut record = std::mem::take(&mut self.partial).into_boxed_slice();
        debug_assert!(record.len() >= HEADER_BYTES);
        match self.records.open(&mut record, &mut self.queued)? {
            Opened::Data(range) if range.is_empty() => {}
            Opened::Data(range) => self.ready = Some(RecvBuf::from_block(record, range)),
            Opened::Nothing => self.check_queued()?,
            Opened::Closed => {
                self.input = Input::Ended;
                self.incoming = None;
            }
        }
        Ok(())
    }

    /// A peer that asks for new keys without end and takes no answer is not served.
    fn check_queued(&self) -> Result<(), Broken> {
        if self.queued.len() > TLS_QUEUED_BYTES_MAX { Err(Broken::Unexpected) } else { Ok(()) }
    }

    fn write(&mut self, conn: &Conn, data: &[u8]) {
        if self.closed {
            self.failed = Some(io::ErrorKind::BrokenPipe);
            return;
        }
        if let Err(broken) = self.records.protect(data, &mut self.queued) {
            self.records.refuse(&broken, &mut self.queued);
            self.closed = true;
            self.failed = Some(io::ErrorKind::InvalidData);
        }
        // What is on its way may be done; if it is not, whoever waits next goes on with it.
        let _ = self.flush(conn, &Context::from_waker(Waker::noop()));
    }

    fn flush(&mut self, conn: &Conn, cx: &Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Poll::Ready((sent, sealed)) = self.sending.poll(conn, cx) else { return Poll::Pending };
            if let Some(SendBuf::Heap { bytes, .. }) = sealed {
                seal::keep(bytes);
            }
            if let Err(e) = sent {
                self.failed = Some(e.kind());
                self.closed = true;
                self.queued.clear();
                return Poll::Ready(Err(e));
            }
            if !self.queued.is_empty() {
                self.sending.start(conn, SendBuf::from(std::mem::take(&mut self.queued)));
                continue;
            }
            if std::mem::take(&mut self.fin) {
                return Poll::Ready(conn.shutdown_write());
            }
            return Poll::Ready(self.failed.map_or(Ok(()), |kind| Err(kind.into())));
        }
    }

    /// Sends at once what the kernel takes of what is queued, and the rest as an operation.
    fn push_out(&mut self, conn: &Conn, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.sending.is_idle()
            && !self.queued.is_empty()
            && let Ok(n) = conn.send_now(&self.queued)
        {
            self.queued.drain(..n);
        }
        self.flush(conn, cx)
    }

    fn say_closed(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            // Without it the peer sees a connection that was cut.
            let _ = self.records.close(&mut self.queued);
        }
    }
}

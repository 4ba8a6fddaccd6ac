//! Streams of HTTP/2: what those of a connection share, which is its state, and the client's end of each: its request, its body,
//! and its response. `client_h1::Client` holds one where HTTP/1 has its connection; `server_h2` has the server's end.

use std::cell::RefCell;
use std::io;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::proto::h2::connection::to_server::Asking;
use crate::proto::h2::connection::{Connection, Request};
use crate::proto::h2::frame::Code;
use crate::proto::h2::hpack::Fields;
use crate::proto::h2::streams::{Key, Reset, Spare};
use crate::proxy::h2_body::{Incoming, Outgoing};
use crate::proxy::h2_tasks::Tasks;
use crate::proxy::kept::{Kept, QUIET_KEPT};
use crate::proxy::server_h2::ServerStream;
use crate::proxy::session::Remains;

/// The state of a connection, which its task and its streams share.
pub(super) struct Shared {
    connection: RefCell<Connection>,
    /// The task of the connection, while it waits for something to send.
    task: RefCell<Option<Waker>>,
}

impl Shared {
    pub(super) fn new(connection: Connection) -> Rc<Shared> {
        Rc::new(Shared { connection: RefCell::new(connection), task: RefCell::default() })
    }

    /// For the task of the connection, which sends what comes of it.
    pub(super) fn drive<T>(&self, act: impl FnOnce(&mut Connection) -> T) -> T {
        act(&mut self.connection.borrow_mut())
    }

    /// For a stream: what comes of it is sent by the task of the connection.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Connection) -> T) -> T {
        let mut connection = self.connection.borrow_mut();
        let result = act(&mut connection);
        if !connection.out().is_empty()
            && let Some(task) = self.task.take()
        {
            task.wake();
        }
        result
    }

    /// Has the task of the connection woken once something is to be sent.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
    }
}

/// One stream, for whoever moves something over it.
#[derive(Clone)]
pub(super) struct StreamRef {
    shared: Rc<Shared>,
    key: Key,
}

impl StreamRef {
    /// Acts on the stream.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Connection, Key) -> T) -> T {
        self.shared.with(|connection| act(connection, self.key))
    }

    /// Acts on the stream; if that has to wait, `cx` is woken when something happens to it.
    pub(super) fn poll<T>(
        &self,
        cx: &Context<'_>,
        act: impl FnOnce(&mut Connection, Key) -> Poll<T>,
    ) -> Poll<T> {
        self.with(|connection, key| {
            let polled = act(connection, key);
            if polled.is_pending() {
                connection.wait(key, cx);
            }
            polled
        })
    }

    /// Ends the stream in both directions.
    pub(super) fn reset(&self, code: Code) {
        self.with(|connection, key| connection.reset(key, code));
    }

    /// Ends what is left of the stream after something went wrong.
    pub(super) fn reset_unless_sent(&self, code: Code) {
        self.with(|connection, key| {
            if !connection.is_sent(key) {
                connection.reset(key, code);
            }
        });
    }

    /// Ready when the client has reset the stream, or its connection is gone.
    pub(super) fn poll_reset(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll(cx, |connection, key| match connection.reset_of(key) {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        })
    }
}

/// Gives the stream up once its task is done with it.
pub(super) struct Owner(StreamRef);

impl Owner {
    /// A stream to a server, with the head of a request that `write` appends; `None`: no more requests may be sent.
    pub(super) fn ask(
        shared: &Rc<Shared>,
        asking: Asking,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Owner> {
        let key = shared.with(|connection| connection.ask(asking, write))?;
        Some(Owner(StreamRef { shared: shared.clone(), key }))
    }

    /// The stream.
    pub(super) fn stream(&self) -> &StreamRef {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.with(|connection, key| connection.forget(key));
    }
}

/// One stream of a client. Fields in order of their drop.
pub(super) struct Stream {
    /// The request as it came; taken when its head is read.
    pub(super) fields: Option<Fields>,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    owner: Owner,
}

impl Stream {
    pub(super) fn new(shared: &Rc<Shared>, request: Request) -> Stream {
        let Request { key, fields } = request;
        let stream = StreamRef { shared: shared.clone(), key };
        Stream {
            fields: Some(fields),
            incoming: Incoming::of_client(stream.clone()),
            outgoing: Outgoing::to_client(stream.clone()),
            owner: Owner(stream),
        }
    }

    /// For whoever watches it beside its request.
    pub(super) fn stream(&self) -> StreamRef {
        self.owner.0.clone()
    }
}

/// A stream in memory that is used again.
pub(super) type StreamBox = Lent<Stream>;

/// Something in memory that is used again.
pub(super) struct Lent<T> {
    memory: Option<Box<Option<T>>>,
    home: Rc<Boxes<T>>,
}

/// Memory that waits for the next who needs some.
pub(super) struct Boxes<T>(Kept<Box<Option<T>>>);

impl<T> Default for Boxes<T> {
    fn default() -> Self {
        Boxes(Kept::default())
    }
}

impl<T> Boxes<T> {
    /// Puts something into memory of one before it.
    pub(super) fn lend(self: &Rc<Self>, value: T) -> Lent<T> {
        let mut memory = self.0.take().unwrap_or_default();
        *memory = Some(value);
        Lent { memory: Some(memory), home: self.clone() }
    }
}

impl<T> Deref for Lent<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.memory.as_deref().and_then(Option::as_ref).expect("present until drop")
    }
}

impl<T> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.memory.as_deref_mut().and_then(Option::as_mut).expect("present until drop")
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        let Some(mut memory) = self.memory.take() else { return };
        // It may hand on what it had, to somebody who takes memory from here.
        *memory = None;
        self.home.0.keep(memory);
    }
}

/// Memory of streams that are over, for the next ones.
#[derive(Default)]
pub(super) struct H2Spare {
    pub(super) streams: Rc<Boxes<Stream>>,
    /// Of streams to servers.
    pub(super) server_streams: Rc<Boxes<ServerStream>>,
    pub(super) sessions: Kept<Remains>,
    pub(super) connections: Spare,
    pub(super) tasks: Tasks,
}

impl H2Spare {
    /// Frees what nobody needed since it was last called, but for a few. For now and then. True: it was as much as a burst takes.
    pub(super) fn shrink(&self) -> bool {
        let _ = (self.streams.0.unused(), self.server_streams.0.unused(), self.sessions.unused());
        self.tasks.shrink() > QUIET_KEPT
    }

    /// Whether there is more than a few of something.
    pub(super) fn is_large(&self) -> bool {
        let boxes = self.streams.0.is_large() || self.server_streams.0.is_large();
        boxes || self.sessions.is_large() || self.tasks.is_large()
    }
}

/// What stands for a stream that is not there.
pub(super) fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

/// How a stream ended, in the words of connections.
pub(super) fn reset_to_io(reset: Reset) -> io::Error {
    let kind = match reset {
        Reset::Remote(_) => io::ErrorKind::ConnectionReset,
        Reset::Local(_) => io::ErrorKind::ConnectionAborted,
    };
    kind.into()
}

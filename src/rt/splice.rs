//! Zero-copy relay: socket -> pipe -> socket with splice(2).
//!
//! The ring waits for readiness and splice(2) runs non-blocking (the ring's own SPLICE operation always goes to a kernel
//! worker thread). Pipes are kept for the next bulk flow, bounded by `maxpipes`.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::task::{Context, Poll, ready};

use super::conn::{Conn, start_poll};
use super::op::Op;
use super::sys;

/// Bytes that one transfer may move before other tasks of the core have their turn.
const TURN_BYTES: usize = 1024 * 1024;

thread_local! {
    static PIPES: RefCell<Pipes> = const { RefCell::new(Pipes { idle: Vec::new(), open: 0, max: 0, bytes: 0, misses: 0 }) };
}

struct Pipes {
    idle: Vec<PipeEnds>,
    open: u32,
    max: u32,
    bytes: u32,
    /// Times that nobody got one.
    misses: u64,
}

#[derive(Debug)]
struct PipeEnds {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
}

/// Sets the bounds for this core: pipes at the most, and the capacity asked for.
pub fn configure(max: u32, bytes: u32) {
    PIPES.with_borrow_mut(|p| {
        p.max = max;
        p.bytes = bytes;
    });
}

/// Pipes of this core as (open, idle), and how often none was to be had.
pub fn counts() -> (u32, u32, u64) {
    PIPES.with_borrow(|p| (p.open, u32::try_from(p.idle.len()).unwrap_or(u32::MAX), p.misses))
}

/// One pipe in use by one direction of a relay.
#[derive(Debug)]
pub struct Pipe {
    ends: Option<PipeEnds>,
    filled: usize,
}

/// What one move did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moved {
    /// So many bytes.
    Bytes(usize),
    /// The source is at its end.
    End,
    /// Nothing could be moved now.
    Blocked,
}

impl Pipe {
    /// A pipe, or `None` when the bound is reached or descriptors are short: copy instead.
    pub fn take() -> Option<Pipe> {
        PIPES.with_borrow_mut(|pipes| {
            if let Some(ends) = pipes.idle.pop() {
                return Some(Pipe { ends: Some(ends), filled: 0 });
            }
            let made = if pipes.open < pipes.max { sys::pipe().ok() } else { None };
            let Some((read, write)) = made else {
                pipes.misses += 1;
                return None;
            };
            // Above fs.pipe-user-pages-soft the kernel refuses to grow it; the default 64 KiB works too.
            let capacity = sys::set_pipe_size(&write, pipes.bytes).unwrap_or(64 * 1024) as usize;
            pipes.open += 1;
            Some(Pipe { ends: Some(PipeEnds { read, write, capacity }), filled: 0 })
        })
    }

    /// Bytes in the pipe.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Whether it holds what it can.
    fn is_full(&self) -> bool {
        self.ends.as_ref().is_some_and(|ends| self.filled >= ends.capacity)
    }

    /// Moves what the connection has into the pipe, at most `limit` bytes.
    pub fn fill_from(&mut self, conn: &Conn, limit: u64) -> io::Result<Moved> {
        let ends = self.ends.as_ref().expect("present until drop");
        let room = ends.capacity.saturating_sub(self.filled);
        let room = usize::try_from(limit).map_or(room, |limit| limit.min(room));
        if room == 0 {
            return Ok(Moved::Blocked);
        }
        let moved = sys::splice(conn.raw_fd(), ends.write.as_raw_fd(), room, false);
        match moved {
            Ok(0) => Ok(Moved::End),
            Ok(n) => {
                self.filled += n;
                Ok(Moved::Bytes(n))
            }
            // EAGAIN is ambiguous: socket empty, or pipe full of small segments. The caller flushes first.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Moved::Blocked),
            Err(e) => Err(e),
        }
    }

    /// Moves what the pipe holds into the connection. `more`: further bytes follow at once.
    pub fn drain_to(&mut self, conn: &Conn, more: bool) -> io::Result<Moved> {
        let ends = self.ends.as_ref().expect("present until drop");
        if self.filled == 0 {
            return Ok(Moved::Blocked);
        }
        match sys::splice(ends.read.as_raw_fd(), conn.raw_fd(), self.filled, more) {
            Ok(n) => {
                self.filled -= n;
                Ok(Moved::Bytes(n))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Moved::Blocked),
            Err(e) => Err(e),
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let ends = self.ends.take().expect("present until drop");
        PIPES.with_borrow_mut(|pipes| {
            // A pipe with bytes of one session in it must never serve another.
            if self.filled == 0 {
                pipes.idle.push(ends);
            } else {
                pipes.open -= 1;
            }
        });
    }
}

/// A part of a byte stream on its way from one connection to another through a pipe. Borrows neither; poll it with the same
/// two always, with no receive armed on the source and nothing on its way to the sink.
#[derive(Debug)]
pub struct Splicer {
    pipe: Pipe,
    /// Bytes that the source may still give.
    left: u64,
    wait: Option<Op>,
    /// The pipe was filled and flushed in this turn: whether there is more is for the ring to say.
    look: bool,
    /// Bytes moved since the ring was last asked.
    turn: usize,
}

/// What a [`Splicer`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spliced {
    /// So many bytes left the source; they are in the pipe.
    Taken(usize),
    /// So many bytes are with the kernel of the sink.
    Given(usize),
    /// All that was asked for was moved, or the source is at its end.
    Done,
}

/// Which connection failed.
#[derive(Debug)]
pub enum SpliceError {
    /// The source.
    Source(io::Error),
    /// The sink.
    Sink(io::Error),
}

impl Splicer {
    /// Moves `left` bytes. `None`: there is no pipe, copy instead.
    pub fn new(left: u64) -> Option<Splicer> {
        Some(Splicer { pipe: Pipe::take()?, left, wait: None, look: true, turn: 0 })
    }

    /// Whether bytes wait for the sink; otherwise the source has to act next.
    pub fn waits_for_sink(&self) -> bool {
        self.pipe.filled() > 0
    }

    /// Whether bytes are missing that were asked for.
    pub fn is_short(&self) -> bool {
        self.left > 0
    }

    /// The next step; poll again until it is pending or done.
    pub fn poll(
        &mut self,
        source: &Conn,
        sink: &Conn,
        cx: &Context<'_>,
    ) -> Poll<Result<Spliced, SpliceError>> {
        loop {
            if let Some(wait) = &mut self.wait {
                // What a poll reports, the next splice says better.
                let _ = ready!(wait.poll(cx));
                self.wait = None;
                self.look = true;
                self.turn = 0;
            }
            if self.pipe.filled() > 0 {
                match self.pipe.drain_to(sink, false) {
                    Ok(Moved::Bytes(n)) => return Poll::Ready(Ok(Spliced::Given(n))),
                    Ok(Moved::Blocked | Moved::End) => self.wait = Some(start_poll(sink, libc::POLLOUT)),
                    Err(e) => return Poll::Ready(Err(SpliceError::Sink(e))),
                }
                continue;
            }
            if self.left == 0 {
                return Poll::Ready(Ok(Spliced::Done));
            }
            if !std::mem::take(&mut self.look) {
                self.wait = Some(start_poll(source, libc::POLLIN | libc::POLLRDHUP));
                continue;
            }
            match self.pipe.fill_from(source, self.left) {
                Ok(Moved::Bytes(n)) => {
                    self.left -= n as u64;
                    self.turn += n;
                    self.look = self.pipe.is_full() && self.turn < TURN_BYTES;
                    return Poll::Ready(Ok(Spliced::Taken(n)));
                }
                Ok(Moved::End) => return Poll::Ready(Ok(Spliced::Done)),
                Ok(Moved::Blocked) => {}
                Err(e) => return Poll::Ready(Err(SpliceError::Source(e))),
            }
        }
    }
}

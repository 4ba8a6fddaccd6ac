//! Zero-copy relay: socket -> pipe -> socket with splice(2).
//!
//! The ring waits for readiness and splice(2) runs non-blocking (the ring's own SPLICE operation always goes to a kernel
//! worker thread). Pipes are kept for the next bulk flow, bounded by `maxpipes`.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::conn::Conn;
use super::sys;

thread_local! {
    static PIPES: RefCell<Pipes> = const { RefCell::new(Pipes { idle: Vec::new(), open: 0, max: 0, bytes: 0 }) };
}

struct Pipes {
    idle: Vec<PipeEnds>,
    open: u32,
    max: u32,
    bytes: u32,
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

/// Pipes of this core as (open, idle).
pub fn counts() -> (u32, u32) {
    PIPES.with_borrow(|p| (p.open, u32::try_from(p.idle.len()).unwrap_or(u32::MAX)))
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
            if pipes.open >= pipes.max {
                return None;
            }
            let (read, write) = sys::pipe().ok()?;
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

    /// Moves what the connection has into the pipe.
    pub fn fill_from(&mut self, conn: &Conn) -> io::Result<Moved> {
        let ends = self.ends.as_ref().expect("present until drop");
        let room = ends.capacity.saturating_sub(self.filled);
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

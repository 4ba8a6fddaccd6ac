//! Signals of the process, read from a signalfd on the control core.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use io_uring::opcode;
use io_uring::types::Fd;

use super::op::{Keep, Op, Yields};
use super::sys;

/// A signal that the process reacts to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGTERM: finish what runs, then leave.
    Terminate,
    /// SIGINT: as SIGTERM; the second one leaves at once.
    Interrupt,
    /// SIGHUP.
    Hangup,
    /// SIGUSR1.
    User1,
    /// SIGUSR2: read the configuration again, as HAProxy's master does.
    User2,
}

/// Signals blocked for the whole process and delivered here.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

const WATCHED: [(i32, Signal); 5] = [
    (libc::SIGTERM, Signal::Terminate),
    (libc::SIGINT, Signal::Interrupt),
    (libc::SIGHUP, Signal::Hangup),
    (libc::SIGUSR1, Signal::User1),
    (libc::SIGUSR2, Signal::User2),
];

/// Sends a signal to another process.
///
/// # Errors
/// There is no such process, or it belongs to somebody else (kill(2)).
pub fn send_signal(pid: u32, signal: Signal) -> io::Result<()> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let (number, _) = WATCHED.iter().find(|(_, known)| *known == signal).ok_or_else(invalid)?;
    // 0 and numbers beyond the type would mean groups of processes.
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or_else(invalid)?;
    sys::kill(pid, *number)
}

impl Signals {
    /// Blocks them in the calling thread; call it before any thread is made.
    pub fn install() -> io::Result<Signals> {
        let numbers = WATCHED.map(|(number, _)| number);
        // A write to a peer that is gone is an error where it happens, not a signal.
        sys::ignore_sigpipe();
        Ok(Signals { fd: sys::signalfd(&numbers)? })
    }

    /// Blocks until the next signal. For threads that are no core.
    ///
    /// # Errors
    /// Those of poll(2) and read(2).
    pub fn wait(&self) -> io::Result<Signal> {
        let mut bytes = [0; size_of::<libc::signalfd_siginfo>()];
        let mut file = File::from(self.fd.try_clone()?);
        loop {
            sys::wait_readable(self.fd.as_fd())?;
            match file.read_exact(&mut bytes) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                Err(e) => return Err(e),
            }
            if let Some(signal) = signal_of(&bytes) {
                return Ok(signal);
            }
        }
    }

    /// The next signal.
    pub async fn next(&self) -> io::Result<Signal> {
        loop {
            let mut buf = vec![0_u8; size_of::<libc::signalfd_siginfo>()].into_boxed_slice();
            let len = u32::try_from(buf.len()).expect("128 bytes");
            let entry = opcode::Read::new(Fd(self.fd.as_raw_fd()), buf.as_mut_ptr(), len).build();
            // SAFETY: the entry points into the boxed bytes, which are kept until the completion.
            let mut op = unsafe { Op::submit(entry, Keep::Bytes(buf), Yields::Count) };
            let (done, keep) = std::future::poll_fn(|cx| op.poll(cx)).await;
            done.count()?;
            let Keep::Bytes(bytes) = keep else { unreachable!("a read keeps its bytes") };
            if let Some(signal) = signal_of(&bytes) {
                return Ok(signal);
            }
        }
    }
}

/// ssi_signo is the first field of signalfd_siginfo, a native-endian u32.
fn signal_of(info: &[u8]) -> Option<Signal> {
    let number = u32::from_ne_bytes(*info.first_chunk()?);
    WATCHED.iter().find(|(n, _)| n.unsigned_abs() == number).map(|(_, signal)| *signal)
}

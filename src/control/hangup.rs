//! When a program in a terminal ends without being asked by a key: with its terminal, or by a signal. Called by `top` and `ctl`.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use crate::rt::{self, Signal, Signals};

/// What a shell says of a program that SIGTERM ended.
const TERMINATED: i32 = 128 + 15;

/// Exits with code 1, after `last`, when the terminal at standard input is gone. SIGHUP does that unless it is ignored (nohup,
/// some supervisors); then reads fail at once and for ever, which libraries for terminals take for a reason to read again.
pub(super) fn end_with_terminal(last: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        if rt::wait_hangup(io::stdin().as_fd()).is_ok() {
            last();
            std::process::exit(1);
        }
    });
}

/// The same for a program that has changed its terminal and must put it right: before its end by a signal too. Call it before any
/// other thread is made.
///
/// # Errors
/// There is no descriptor left for the signals.
pub(super) fn end_with_terminal_or_signal(last: impl Fn() + Send + Sync + 'static) -> io::Result<()> {
    let signals = Signals::install()?;
    let last = Arc::new(last);
    let again = last.clone();
    end_with_terminal(move || again());
    thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            if matches!(signal, Signal::Terminate | Signal::Interrupt | Signal::Hangup) {
                last();
                std::process::exit(TERMINATED);
            }
        }
    });
    Ok(())
}

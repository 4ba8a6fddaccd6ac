//! A program in a terminal ends with its terminal. SIGHUP does that unless it is ignored (nohup, some supervisors); then reads
//! fail at once and for ever, which libraries for terminals take for a reason to read again. Called by `top` and `ctl`.

use std::io;
use std::os::fd::AsFd;
use std::thread;

use crate::rt;

/// Exits with code 1, after `last`, when the terminal at standard input is gone.
pub(super) fn end_with_terminal(last: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        if rt::wait_hangup(io::stdin().as_fd()).is_ok() {
            last();
            std::process::exit(1);
        }
    });
}

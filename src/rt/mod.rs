//! Layer 3: the only layer that names glommio, io_uring or libc, and the only one with `unsafe`.
//!
//! A core is a thread pinned to a CPU that runs a glommio executor and, as one task of it, the driver of our own io_uring
//! (`ring`). Everything that can wake a task completes on that ring: IO, timers, mail from other cores. So the driver may
//! park in `io_uring_enter` as soon as no task is runnable.

pub mod alloc;
mod bufs;
mod conn;
mod cpu;
mod datagram;
pub mod error;
mod listen;
mod mailbox;
mod op;
mod pass;
mod ring;
pub mod sandbox;
mod signal;
pub mod splice;
mod stock;
mod sys;
#[cfg(test)]
mod tests;
mod time;
mod wheel;

pub use bufs::RecvBuf;
pub use conn::{Conn, ConnectOptions, Hangup, Receiving, Recv, Send, Sending, Target, connect};
pub use cpu::{Booted, CoreSpec, Cores, StartError, boot, limits, machine, spawn, stirred};
pub use datagram::Datagrams;
pub use listen::{Endpoint, ListenOptions, Listener, bound_addr, bound_name, listen, share};
pub use mailbox::{CoreWaker, Mailbox, Receiver, Sender};
pub use op::{SendBuf, poll_listed};
pub use pass::{PASSED_MAX, pass, pass_datagram, receive};
pub use ring::Activity;
pub use signal::{Signal, Signals, send_signal};
pub use stock::Stock;
pub use sys::wait_hangup;
pub use time::{Either, Elapsed, Timer, now, select, sleep_between, sleep_until, with_deadline, yield_now};

//! Shardgate: a thread-per-core load balancer for TCP and HTTP.
//!
//! The crate is a stack of layers; a module may use only lower layers (`tests/architecture.rs` keeps the rule):
//!
//! | layer | modules | what it is |
//! |---|---|---|
//! | 0 | [`base`] | ids, buffers, time as an argument, limits |
//! | 1 | [`proto`], [`policy`], [`stats`] | wire formats, decisions, counters: pure, no IO, no clock |
//! | 2 | [`model`], [`live`], [`config`], [`import`] | what to run, shared facts about servers, text -> model, haproxy.cfg -> text |
//! | 3 | `rt` | the only layer that touches the kernel |
//! | 4 | `tls` | certificates, handshakes, and a connection that is plain or TLS |
//! | 5 | `proxy` | the data plane: everything one core does |
//! | 6 | `control` | the control core: checks, statistics, admin socket |
//!
//! docs/ARCHITECTURE.md tells the way of a connection through them.

pub mod base;

pub mod policy;
pub mod proto;
pub mod stats;

pub mod config;
pub mod import;
pub mod live;
pub mod model;

#[cfg(feature = "rt")]
pub mod rt;

#[cfg(feature = "rt")]
pub mod tls;

#[cfg(feature = "rt")]
pub mod proxy;

#[cfg(feature = "rt")]
pub mod control;

//! Layer 5, the data plane: everything one core does.
//!
//! The way of a connection: `listener` accepts, `session` applies connection rules and the PROXY header, `tcp` routes,
//! `dispatch` finds a server (waiting in `queue`), `relay` moves bytes, `end` says once how it ended.

mod core;
mod dispatch;
pub mod end;
mod facts;
mod first_bytes;
mod listener;
pub mod message;
mod proxy_header;
pub mod queue;
mod relay;
mod session;
mod tcp;
pub mod worker;

//! The admin socket's language: HAProxy's commands and answers. Pure: bytes in, bytes out ([`session`]); one table of
//! commands ([`table`]); what the commands see and change is a trait ([`target`]) that the control core implements.

mod frontends;
mod latency;
mod parse;
mod servers;
pub mod session;
mod settings;
mod show;
pub mod table;
pub mod target;

pub use session::{AdminSession, Next};
pub use target::{AdminTarget, HealthOrder, Job, Outcome, SessionInfo};

#[cfg(test)]
mod tests;

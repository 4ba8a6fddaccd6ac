//! The admin socket's language: HAProxy's commands and answers. Pure: bytes in, bytes out ([`session`]); one table of
//! commands ([`table`]); what the commands see and change is a trait ([`target`]) that the control core implements.

mod aims;
mod certificates;
mod configuration;
mod drift;
mod elsewhere;
mod frontends;
mod history;
mod inspect;
mod latency;
mod parse;
mod patterns;
mod servers;
pub mod session;
mod settings;
mod show;
mod stick;
pub mod table;
pub mod target;
mod vips;

pub use session::{AdminSession, Next};
pub use target::{
    AdminTarget, Aim, Asked, Captured, HealthOrder, Job, Order, Outcome, ResolvedName, SessionInfo, Takeover,
    VipOrder, Whose,
};

#[cfg(test)]
mod tests;

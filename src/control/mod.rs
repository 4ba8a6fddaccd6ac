//! Layer 6, the control plane, on one core.

mod admin;
mod checks;
pub mod cli;
mod core;
pub mod ctl;
mod descriptors;
mod events;
mod facts;
mod gather;
mod listeners;
pub mod load;
mod log_sink;
mod notify;
mod resolve;
mod run;
mod servers;
mod stop;
mod target;
mod weights;

pub use run::{Options, run};

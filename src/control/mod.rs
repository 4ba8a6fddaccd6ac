//! Layer 6, the control plane, on one core.

mod admin;
mod agents;
mod checks;
pub mod cli;
mod core;
pub mod ctl;
pub mod ctl_prompt;
mod demo;
mod descriptors;
mod dialogue;
mod events;
mod facts;
mod gather;
mod generations;
mod handover;
pub mod haproxy;
mod http_script;
mod listeners;
pub mod load;
mod log_ring;
mod log_sink;
mod log_stream;
mod logs;
mod notify;
mod probe;
mod reload;
mod resolve;
mod run;
mod script;
mod servers;
mod stop;
mod target;
mod weights;

pub use core::{Companion, Config};
pub use demo::demo;
pub use run::{OnReady, Options, run};

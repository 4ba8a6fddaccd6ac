//! Layer 6, the control plane, on one core.

pub mod cli;
pub mod ctl;
pub mod load;

//! Layer 6, the control plane, on one core.

pub mod load;

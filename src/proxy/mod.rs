//! Layer 5, the data plane: everything one core does.

pub mod end;
pub mod message;
pub mod worker;

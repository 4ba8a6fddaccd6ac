//! Layer 0: no policy, no IO, no unsafe.

pub mod chunks;
pub mod id;
pub mod limits;
pub mod net;
pub mod rate;
pub mod rng;
pub mod shared;
pub mod time;

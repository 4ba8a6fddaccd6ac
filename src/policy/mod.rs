//! Layer 1, decisions, pure: facts in -> decision out; no clock, no IO, no names.

pub mod acl;
pub mod balance;
pub mod rule;
pub mod sample;

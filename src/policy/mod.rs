//! Layer 1, decisions, pure: facts in -> decision out; no clock, no IO, no names.

pub mod abort;
pub mod acl;
pub mod admission;
pub mod agent;
pub mod balance;
pub mod converter;
pub mod flood;
pub mod format;
pub mod health;
pub mod http_action;
pub mod log;
pub mod normalize;
pub mod pattern;
pub mod persist;
pub mod ports;
pub mod retry;
pub mod rule;
pub mod sample;
pub mod slowstart;
pub mod stick;

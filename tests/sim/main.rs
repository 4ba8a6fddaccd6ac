//! Seeded simulators of the pure machines: each property runs over many random worlds. A failure prints its seed;
//! `SHARDGATE_SEED=N cargo test --test sim` replays that world alone.

mod balance;
mod health;
mod ports;
mod queue;
mod world;

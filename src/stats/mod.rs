//! Layer 1, counters and how they are shown. One table ([`table`]) declares every number; storage, sums, every output
//! format and docs/STATS.md are derived from it.
//!
//! The way of a number: a data core adds to its own cell ([`counters`]), once a second and on demand the control core sums
//! the cells of all cores ([`collector`]).

pub mod collector;
pub mod counters;
pub mod process;
pub mod status;
pub mod table;

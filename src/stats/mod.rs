//! Layer 1, counters and how they are shown. One table ([`table`]) declares every number; storage, sums, every output
//! format and docs/STATS.md are derived from it.
//!
//! The way of a number: a data core adds to its own cell ([`counters`]), once a second and on demand the control core sums
//! the cells of all cores ([`collector`]), joins the sums with facts such as names and states ([`snapshot`]), and prints
//! the result ([`render`]).

pub mod collector;
pub mod counters;
pub mod history;
pub mod latency;
pub mod process;
pub mod render;
mod series;
pub mod snapshot;
pub mod status;
pub mod sums;
pub mod table;
pub mod timers;

/// Whether data cores count: always, but in a binary that is built to measure what that costs. What is decided by (levels of
/// a core) is kept even then.
const COUNTED: bool = !cfg!(feature = "uncounted");

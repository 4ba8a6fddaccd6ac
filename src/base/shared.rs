//! Counts what a core writes into memory that other cores write too. Such a write moves a cache line between cores, which is what
//! limits a machine of many cores; the sum is `shared_writes` of `show activity`, and docs/PERFORMANCE.md says what it must be.

use std::cell::Cell;

thread_local! {
    static WRITES: Cell<u64> = const { Cell::new(0) };
}

/// To be called at each such write. Costs an increment of the core's own.
pub fn wrote() {
    WRITES.set(WRITES.get() + 1);
}

/// How many this thread has made.
pub fn writes() -> u64 {
    WRITES.get()
}

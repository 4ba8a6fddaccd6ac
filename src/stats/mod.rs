//! Layer 1, counters and how they are shown.

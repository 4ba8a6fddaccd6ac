//! Layer 2, shared mutable facts per server: admin state, health, weight, current sessions.

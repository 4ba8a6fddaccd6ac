//! Layer 5, the data plane: everything one core does.

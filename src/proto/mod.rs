//! Layer 1, wire formats, sans-IO: bytes in -> values or events out; values in -> bytes out.

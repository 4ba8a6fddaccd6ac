//! Layer 3: the only layer that names glommio, io_uring or libc, and the only one with `unsafe`.

//! HTTP/2: connections of clients and to servers frame by frame (`connection`, `sending`), HPACK, and what a message means
//! (`head`), whoever decoded it.

pub mod connection;
pub mod frame;
pub mod head;
pub mod hpack;
pub mod reason;
pub mod sending;
pub mod streams;

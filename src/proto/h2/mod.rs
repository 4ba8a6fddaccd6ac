//! HTTP/2: connections of clients frame by frame (`connection`, `sending`), HPACK, and what a message means (`head`), whoever
//! decoded it. Connections to servers are the `h2` crate's.

pub mod connection;
pub mod frame;
pub mod head;
pub mod hpack;
pub mod reason;
pub mod sending;
pub mod streams;

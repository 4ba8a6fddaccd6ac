//! HTTP/2 messages as the rest of the proxy reads them. Frames and HPACK are the `h2` crate's; here is what a message means.

pub mod head;
pub mod reason;
pub mod watch;

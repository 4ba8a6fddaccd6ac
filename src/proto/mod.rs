//! Layer 1, wire formats, sans-IO: bytes in -> values or events out; values in -> bytes out.
//!
//! Parsers here take all bytes received so far and are called again with more after [`Parsed::Partial`]. They refuse as
//! soon as a byte cannot be right, keep nothing between calls and borrow their results from the input.

pub mod client_hello;
pub mod cookie;
pub mod fuzz;
pub mod h1;
pub mod h2;
pub mod headers;
pub mod http;
pub mod proxy_header;
pub mod rdp;
pub mod target;
pub mod trace_context;
pub mod websocket;

mod reader;

/// What a parser made of the bytes received so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed<T> {
    /// Nothing wrong so far, but the message is not complete.
    Partial,
    /// The message is complete.
    Complete {
        /// What it says.
        value: T,
        /// How many bytes of the input it takes.
        len: usize,
    },
}

impl<T> Parsed<T> {
    /// The value and its length when complete.
    pub fn complete(self) -> Option<(T, usize)> {
        match self {
            Parsed::Partial => None,
            Parsed::Complete { value, len } => Some((value, len)),
        }
    }
    /// Whether more bytes are needed.
    pub fn is_partial(&self) -> bool {
        matches!(self, Parsed::Partial)
    }
}

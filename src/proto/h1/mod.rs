//! HTTP/1.0 and HTTP/1.1 on the wire: heads, how long a body is, bodies, and writing heads. RFC 9112.
//!
//! The order of a request on the server side of a client: [`head::parse_request`], [`framing::request`], rules edit the
//! head, [`encode::request`] writes it for the server while [`body::BodyDecoder`] follows the body's bytes.

pub mod body;
pub mod connection;
pub mod encode;
pub mod framing;
pub mod head;
pub mod outgoing;
pub mod reason;

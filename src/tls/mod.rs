//! Layer 4: TLS with rustls on both sides. A [`Transport`] is a connection, plain or TLS; [`accept`] makes it TLS; [`Store`] holds
//! certificates, [`Binds`] is what a core answers with. Nothing here knows of sessions, rules or statistics.

mod cert;
mod client;
mod facts;
mod handshake;
mod names;
mod records;
mod server;
mod session;
mod store;
mod transport;
mod trust;
mod x509;

pub use cert::{CertError, Certificate, KeyType};
pub use client::{Connector, Servers};
pub use facts::Facts;
pub use handshake::{Choose, Failure, accept, connect};
pub use server::{Bind, Binds};
pub use store::{Entry, Problem, Store};
pub use transport::{Receiving, Sending, Transport};
pub use x509::{Field, Part};

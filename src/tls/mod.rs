//! Layer 4: TLS with rustls on both sides. A [`Transport`] is a connection, plain or TLS; [`accept`] makes it TLS; [`Store`] holds
//! certificates, [`Binds`] is what a core answers with. Nothing here knows of sessions, rules or statistics.

mod ask;
mod cert;
mod client;
mod desk;
mod early;
mod facts;
mod handshake;
mod key_log;
mod lenient;
mod listing;
mod lists;
mod names;
pub mod ocsp;
mod records;
mod seal;
mod server;
mod session;
mod show;
mod signatures;
mod store;
mod tickets;
mod transport;
mod trust;
mod x509;

pub use ask::{Asker, Shown};
pub use cert::{CertError, Certificate, KeyType};
pub use client::{Connector, Servers};
pub use desk::{Desk, Done, NewLine, Order, Settings};
pub use facts::{Facts, Whose};
pub use handshake::{Choose, Failure, accept, connect};
pub use lenient::Found;
pub use seal::give_back_memory;
pub use server::{Bind, Binds};
pub use session::{Endings, endings, open_connections};
pub use store::{Entry, Expiry, Problem, Store};
pub use transport::{Receiving, Sending, Transport};
pub use x509::{Field, Part};

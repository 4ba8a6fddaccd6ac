//! What becomes of a request that nobody sent: the very code that serves goes its way with it, on a core of its own that counts
//! where nobody looks, and stops where it would take a slot of a server. What it decides on the way is written down by `Trace`.
//!
//! `control::explain` asks; `run` is the client and the core, `trace` what rules see, `decision` the choice of a server.

mod decision;
mod run;
mod trace;

pub use decision::{Decision, Persistence, ServerSeen, TimeoutSeen};
pub(super) use decision::{planned, routed};
pub use run::{Ask, explain};
pub(super) use trace::{List, Trace, next_rule};
pub use trace::{ListSeen, Outcome, RuleSeen, TestSeen};

use serde::Serialize;

/// The handshake of the client as it was seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TlsSeen {
    /// The name that the client asked for.
    pub name: String,
    /// Subject of the certificate that it was shown.
    pub certificate: Option<String>,
    /// Until when that is valid.
    pub not_after: Option<String>,
    /// `TLSv1.3`.
    pub protocol: String,
    /// The suite.
    pub cipher: String,
    /// The protocol that ALPN chose.
    pub alpn: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Everything that was seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Explained {
    /// Lists of rules, in the order in which they were walked.
    pub lists: Vec<ListSeen>,
    /// Where it goes; `None`: to no server.
    pub decision: Option<Decision>,
    /// What TLS came to; `None`: the bind is plain.
    pub tls: Option<TlsSeen>,
    /// What the client gets from the proxy itself: the head, and the beginning of the body.
    pub answer: Option<String>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

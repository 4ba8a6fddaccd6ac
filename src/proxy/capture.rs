//! Malformed messages as evidence for `show errors`: the bytes around the offending one, sent to the control core. A flood of
//! them is sampled.

use crate::base::id::{FrontendId, ServerId};
use crate::base::limits::{CAPTURE_BYTES_MAX, CAPTURES_PER_SECOND};
use crate::base::net::Addr;
use crate::base::time::Now;
use crate::proto::h1::reason::Refusal;
use crate::proxy::message::Event;
use crate::proxy::session::Session;
use crate::rt;

/// A message that was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// Where it came in.
    pub frontend: FrontendId,
    /// Whose response it was; `None`: it is a request.
    pub server: Option<ServerId>,
    /// The client.
    pub client: Addr,
    /// The number of the session.
    pub session: u64,
    /// What is wrong with it.
    pub reason: &'static str,
    /// Where the offending byte stands in the message.
    pub at: usize,
    /// How much of the message was there.
    pub len: usize,
    /// Where the bytes that were kept begin in the message.
    pub start: usize,
    /// The bytes around the offending one.
    pub bytes: Vec<u8>,
}

/// How many were sent in the second that began then.
pub(super) type Budget = (Now, u32);

/// Sends a request that was refused.
pub(super) fn request(session: &Session, bytes: &[u8], refusal: &Refusal) {
    send(session, None, bytes, refusal);
}

/// Sends a response that was refused.
pub(super) fn response(session: &Session, server: ServerId, bytes: &[u8], refusal: &Refusal) {
    send(session, Some(server), bytes, refusal);
}

fn send(session: &Session, server: Option<ServerId>, bytes: &[u8], refusal: &Refusal) {
    let (core, info) = (&session.core, &session.info);
    let (began, sent) = core.captures.get();
    let (began, sent) = if rt::now().ms_since(began) >= 1000 { (rt::now(), 0) } else { (began, sent) };
    core.captures.set((began, sent + 1));
    if sent >= CAPTURES_PER_SECOND {
        return;
    }
    let start = refusal.at.saturating_sub(CAPTURE_BYTES_MAX / 2).min(bytes.len());
    let end = (start + CAPTURE_BYTES_MAX).min(bytes.len());
    core.event(Event::Malformed(Box::new(Malformed {
        frontend: info.frontend,
        server,
        client: info.conn_facts().src,
        session: info.id,
        reason: refusal.reason.text(),
        at: refusal.at,
        len: bytes.len(),
        start,
        bytes: bytes[start..end].to_vec(),
    })));
}

//! Messages that are refused, counted by reason: which rows there are, and where they are counted. `show errors reasons` shows them.

use crate::proto::h1::reason::Reason;
use crate::proto::h2::reason::{Answer, Malformed};
use crate::proxy::session::Session;
use crate::stats::counters::{REFUSAL_CELLS, Shard};

/// Whose message was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    /// A client's, over HTTP/1.
    Request,
    /// A server's, over HTTP/1.
    Response,
    /// A client's, over HTTP/2.
    Stream,
}

/// One reason and how often it applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Whose messages.
    pub from: From,
    /// The name of the reason.
    pub name: &'static str,
    /// What the client is answered; 0: nothing, its stream is reset.
    pub status: u16,
    /// Over all cores, since the start.
    pub count: u64,
    /// The reason in words.
    pub text: &'static str,
}

const REASONS: usize = Reason::ALL.len();
const _: () = assert!(2 * REASONS + Malformed::ALL.len() <= REFUSAL_CELLS);

/// All reasons with their counts, in the order of the tables.
pub fn rows(shards: &[Shard]) -> Vec<Row> {
    let count = |at: usize| shards.iter().map(|shard| shard.core.refused(at)).sum();
    let of = |from: From, first: usize| {
        Reason::ALL.iter().map(move |reason| Row {
            from,
            name: reason.name(),
            // Whatever a server does wrong is a 502 to the client.
            status: if from == From::Response { 502 } else { reason.status() },
            count: count(first + reason.index()),
            text: reason.text(),
        })
    };
    let streams = Malformed::ALL.iter().zip(2 * REASONS..).map(|(malformed, at)| Row {
        from: From::Stream,
        name: malformed.name(),
        status: match malformed.answer() {
            Answer::Status(status) => status,
            Answer::Reset => 0,
        },
        count: count(at),
        text: malformed.text(),
    });
    of(From::Request, 0).chain(of(From::Response, REASONS)).chain(streams).collect()
}

impl Session {
    /// Counts a request that is refused.
    pub(super) fn refused(&self, reason: Reason) {
        self.core.shard().core.refuse(reason.index());
    }

    /// Counts a response that is refused.
    pub(super) fn refused_response(&self, reason: Reason) {
        self.core.shard().core.refuse(REASONS + reason.index());
    }

    /// Counts a request over a stream that is refused.
    pub(super) fn refused_stream(&self, malformed: Malformed) {
        self.core.shard().core.refuse(2 * REASONS + malformed as usize);
    }
}

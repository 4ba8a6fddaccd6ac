//! What to do after an attempt at a server failed: the same server again, another one, or give up. `proxy::dispatch` owns
//! the loop and asks here; choosing the other server is `balance`.

use std::time::Duration;

/// The longest wait before the same server is tried again; a connect timeout below it is waited instead.
const TURNAROUND_MAX: Duration = Duration::from_secs(1);

/// The settings of a backend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Further attempts after the first (`retries`).
    pub retries: u32,
    /// Which retries may take another server (`option redispatch`): 0 none, n > 0 every n-th, -1 the last, -n the n-th
    /// from last and its multiples.
    pub redispatch: i32,
    /// Which failures are retried (`retry-on`).
    pub retry_on: RetryOn,
    /// The backend's `timeout connect`.
    pub timeout_connect: Option<Duration>,
}

/// `retry-on`: a set of failures. Failed connects are in the default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryOn {
    bits: u32,
}

impl RetryOn {
    /// `none`.
    pub const NONE: RetryOn = RetryOn { bits: 0 };
    /// `conn-failure`, the default.
    pub const CONN_FAILURE: RetryOn = RetryOn { bits: 1 };
    /// `empty-response`.
    pub const EMPTY_RESPONSE: RetryOn = RetryOn { bits: 2 };
    /// `junk-response`.
    pub const JUNK_RESPONSE: RetryOn = RetryOn { bits: 4 };
    /// `response-timeout`.
    pub const RESPONSE_TIMEOUT: RetryOn = RetryOn { bits: 8 };
    /// `0rtt-rejected`.
    pub const EARLY_DATA_REJECTED: RetryOn = RetryOn { bits: 16 };

    /// The statuses that `retry-on` accepts, each with its bit.
    const STATUSES: [u16; 12] = [401, 403, 404, 408, 421, 425, 429, 500, 501, 502, 503, 504];

    /// `all-retryable-errors`: failures that a second attempt may cure.
    pub const ALL_RETRYABLE_ERRORS: RetryOn = RetryOn::CONN_FAILURE
        .with(RetryOn::EMPTY_RESPONSE)
        .with(RetryOn::JUNK_RESPONSE)
        .with(RetryOn::RESPONSE_TIMEOUT)
        .with(RetryOn::EARLY_DATA_REJECTED)
        .with(RetryOn::status_set(500))
        .with(RetryOn::status_set(502))
        .with(RetryOn::status_set(503))
        .with(RetryOn::status_set(504));

    /// A response status, if `retry-on` knows it.
    pub fn status(status: u16) -> Option<RetryOn> {
        Some(Self::status_set(status)).filter(|set| *set != RetryOn::NONE)
    }

    /// One word of `retry-on`.
    pub fn parse(word: &str) -> Option<RetryOn> {
        Some(match word {
            "none" => RetryOn::NONE,
            "conn-failure" => RetryOn::CONN_FAILURE,
            "empty-response" => RetryOn::EMPTY_RESPONSE,
            "junk-response" => RetryOn::JUNK_RESPONSE,
            "response-timeout" => RetryOn::RESPONSE_TIMEOUT,
            "0rtt-rejected" => RetryOn::EARLY_DATA_REJECTED,
            "all-retryable-errors" => RetryOn::ALL_RETRYABLE_ERRORS,
            _ => return word.parse().ok().and_then(RetryOn::status),
        })
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: RetryOn) -> RetryOn {
        RetryOn { bits: self.bits | other.bits }
    }

    /// Whether everything in `other` is in this set, and `other` is not empty.
    pub const fn contains(self, other: RetryOn) -> bool {
        other.bits != 0 && self.bits & other.bits == other.bits
    }

    const fn status_set(status: u16) -> RetryOn {
        let mut at = 0;
        while at < Self::STATUSES.len() {
            if Self::STATUSES[at] == status {
                return RetryOn { bits: 32 << at };
            }
            at += 1;
        }
        RetryOn::NONE
    }
}

/// How an attempt failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The connect was refused or the network said no. Trying again at once would only be refused again.
    ConnectRefused,
    /// The connect took longer than `timeout connect`, which has been waited already.
    ConnectTimeout,
    /// No source port is free towards this server; says nothing about the server.
    NoSourcePort,
    /// No descriptor or memory is free for a connection; says nothing about the server.
    NoResources,
    /// The server closed or reset before the first byte of a response.
    EmptyResponse,
    /// The response is not HTTP.
    JunkResponse,
    /// The server closed or reset in the middle of the head of a response.
    CutResponse,
    /// No response within `timeout server`.
    ResponseTimeout,
    /// TLS early data was rejected.
    EarlyDataRejected,
    /// A whole response with this status.
    Status(u16),
}

/// The facts of the attempt that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// Retries made before it: 0 for the first attempt.
    pub retries_done: u32,
    /// How it failed.
    pub failure: Failure,
    /// Whether a byte of a response went to the client. After that there is no retry, ever.
    pub response_started: bool,
    /// Whether bytes of the request went to the server, which may have acted on them.
    pub request_sent: bool,
    /// Whether the request can be processed twice with the effect of once (RFC 9110 section 9.2.2).
    pub idempotent: bool,
    /// Whether all bytes of the request are still at hand.
    pub replayable: bool,
    /// Whether the connection was kept alive from an earlier request and may have been closed meanwhile.
    pub reused: bool,
    /// Whether another usable server exists that was not tried.
    pub other_server: bool,
    /// Whether the server was given by persistence rather than by balancing.
    pub persistent: bool,
    /// Whether persistence must not be left (`force-persist`).
    pub force_persist: bool,
    /// Whether the algorithm takes turns (`roundrobin`), so that no server is better for this session than another.
    pub takes_turns: bool,
}

impl Attempt {
    /// A failed connect of a TCP session.
    pub fn tcp(retries_done: u32, failure: Failure, other_server: bool) -> Self {
        Attempt {
            retries_done,
            failure,
            response_started: false,
            request_sent: false,
            idempotent: false,
            replayable: true,
            reused: false,
            other_server,
            persistent: false,
            force_persist: false,
            takes_turns: false,
        }
    }
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Connect to the same server again after a delay; counts as a retry (`wretr`).
    Retry {
        /// Zero to one second.
        delay: Duration,
    },
    /// Send it again to the same server at once on a fresh connection. Counts as nothing: the connection was stale, the
    /// server has not failed.
    Refresh,
    /// Pick another server at once; counts as a retry and as a redispatch (`wredis`).
    Redispatch,
    /// Report the failure to the client.
    GiveUp,
}

/// Decides.
pub fn decide(policy: &Policy, attempt: &Attempt) -> Decision {
    if attempt.response_started || !attempt.replayable || !repeatable(attempt) {
        return Decision::GiveUp;
    }
    if attempt.reused && attempt.failure == Failure::EmptyResponse {
        return Decision::Refresh;
    }
    if attempt.retries_done >= policy.retries || !policy.retry_on.contains(kind(attempt.failure)) {
        return Decision::GiveUp;
    }
    let turn = attempt.retries_done + 1;
    let free_choice = attempt.takes_turns && !attempt.persistent;
    if policy.redispatch != 0
        && attempt.other_server
        && !attempt.force_persist
        && (free_choice || is_redispatch_turn(policy, turn))
    {
        return Decision::Redispatch;
    }
    Decision::Retry { delay: turnaround(policy, attempt) }
}

/// Whether a session whose server's queue is full (`maxqueue`) goes to another server. Only one that persistence or a rule
/// bound to it can gain by that: balancing passes such servers by, and a hash would name the same one again.
pub fn leaves_full_queue(redispatch: i32, force_persist: bool) -> bool {
    redispatch != 0 && !force_persist
}

/// Whether a second attempt cannot do harm: the server has not seen the request, or says that it has not acted on it, or
/// acting twice is the same as once.
fn repeatable(attempt: &Attempt) -> bool {
    let not_processed = matches!(
        attempt.failure,
        // 421 and 425 say that the request was not processed (RFC 9110 section 15.5.20, RFC 8470 section 5.2).
        Failure::EarlyDataRejected | Failure::Status(421 | 425)
    );
    !attempt.request_sent || attempt.idempotent || not_processed
}

fn kind(failure: Failure) -> RetryOn {
    match failure {
        Failure::ConnectRefused | Failure::ConnectTimeout | Failure::NoSourcePort | Failure::NoResources => {
            RetryOn::CONN_FAILURE
        }
        Failure::EmptyResponse => RetryOn::EMPTY_RESPONSE,
        Failure::JunkResponse | Failure::CutResponse => RetryOn::JUNK_RESPONSE,
        Failure::ResponseTimeout => RetryOn::RESPONSE_TIMEOUT,
        Failure::EarlyDataRejected => RetryOn::EARLY_DATA_REJECTED,
        Failure::Status(status) => RetryOn::status_set(status),
    }
}

/// Whether retry number `turn` (from 1) may take another server. A negative setting counts from the last retry.
fn is_redispatch_turn(policy: &Policy, turn: u32) -> bool {
    let every = match policy.redispatch {
        n if n > 0 => i64::from(n),
        n => i64::from(policy.retries) + 1 + i64::from(n),
    };
    every > 0 && i64::from(turn) % every == 0
}

/// The same server would most likely refuse again at once. After a timeout enough time has passed, and on a reused connection
/// the server was not asked at all.
fn turnaround(policy: &Policy, attempt: &Attempt) -> Duration {
    match attempt.failure {
        Failure::ConnectRefused | Failure::NoSourcePort if !attempt.reused => {
            policy.timeout_connect.map_or(TURNAROUND_MAX, |timeout| timeout.min(TURNAROUND_MAX))
        }
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Decision = Decision::Retry { delay: Duration::from_secs(1) };

    fn policy(retries: u32, redispatch: i32) -> Policy {
        Policy { retries, redispatch, retry_on: RetryOn::CONN_FAILURE, timeout_connect: None }
    }

    /// The decisions after attempts 0, 1, 2, ... of a refusing server, as letters.
    fn course(policy: &Policy, attempt: Attempt) -> String {
        (0..=policy.retries + 1)
            .map(|retries_done| match decide(policy, &Attempt { retries_done, ..attempt }) {
                Decision::Retry { .. } => 'r',
                Decision::Refresh => 'f',
                Decision::Redispatch => 'd',
                Decision::GiveUp => '.',
            })
            .collect()
    }

    #[test]
    fn redispatch_takes_the_turns_that_are_configured() {
        let refused = Attempt::tcp(0, Failure::ConnectRefused, true);
        for (retries, redispatch, expected) in [
            (3, 0, "rrr.."),
            (3, -1, "rrd.."),
            (3, -2, "rdr.."),
            (3, -3, "ddd.."),
            (3, -4, "rrr.."),
            (3, 1, "ddd.."),
            (4, 2, "rdrd.."),
            (1, -1, "d.."),
            (0, 1, ".."),
            (2, i32::MIN, "rr.."),
            (2, i32::MAX, "rr.."),
        ] {
            assert_eq!(course(&policy(retries, redispatch), refused), expected, "{retries} {redispatch}");
        }
    }

    #[test]
    fn without_another_server_the_same_one_is_tried() {
        let refused = Attempt::tcp(0, Failure::ConnectRefused, false);
        assert_eq!(course(&policy(3, 1), refused), "rrr..");
    }

    #[test]
    fn round_robin_redispatches_at_once_unless_a_cookie_holds_it() {
        let refused = Attempt { takes_turns: true, ..Attempt::tcp(0, Failure::ConnectRefused, true) };
        assert_eq!(course(&policy(3, -1), refused), "ddd..");
        assert_eq!(course(&policy(3, 0), refused), "rrr..", "only with option redispatch");
        assert_eq!(course(&policy(3, -1), Attempt { persistent: true, ..refused }), "rrd..");
        assert_eq!(course(&policy(3, -1), Attempt { force_persist: true, ..refused }), "rrr..");
    }

    #[test]
    fn the_same_server_is_given_time_only_when_it_refused() {
        let mut p = policy(3, 0);
        assert_eq!(decide(&p, &Attempt::tcp(0, Failure::ConnectRefused, true)), SECOND);
        assert_eq!(decide(&p, &Attempt::tcp(0, Failure::NoSourcePort, true)), SECOND);
        let at_once = Decision::Retry { delay: Duration::ZERO };
        assert_eq!(decide(&p, &Attempt::tcp(0, Failure::ConnectTimeout, true)), at_once);
        p.timeout_connect = Some(Duration::from_millis(200));
        let short = Decision::Retry { delay: Duration::from_millis(200) };
        assert_eq!(decide(&p, &Attempt::tcp(0, Failure::ConnectRefused, true)), short);
        p.timeout_connect = Some(Duration::from_secs(60));
        assert_eq!(decide(&p, &Attempt::tcp(0, Failure::ConnectRefused, true)), SECOND);
    }

    #[test]
    fn http_failures_are_retried_only_when_asked_for_and_harmless() {
        let sent = Attempt {
            request_sent: true,
            idempotent: true,
            ..Attempt::tcp(0, Failure::EmptyResponse, false)
        };
        let all = Policy { retry_on: RetryOn::ALL_RETRYABLE_ERRORS, ..policy(3, 0) };
        for failure in [
            Failure::EmptyResponse,
            Failure::JunkResponse,
            Failure::CutResponse,
            Failure::ResponseTimeout,
            Failure::EarlyDataRejected,
            Failure::Status(503),
        ] {
            let attempt = Attempt { failure, ..sent };
            assert_eq!(decide(&policy(3, 0), &attempt), Decision::GiveUp, "{failure:?} by default");
            assert_ne!(decide(&all, &attempt), Decision::GiveUp, "{failure:?}");
            for never in
                [Attempt { response_started: true, ..attempt }, Attempt { replayable: false, ..attempt }]
            {
                assert_eq!(decide(&all, &never), Decision::GiveUp, "{never:?}");
            }
            let post = decide(&all, &Attempt { idempotent: false, ..attempt });
            assert_eq!(post == Decision::GiveUp, failure != Failure::EarlyDataRejected, "{failure:?}");
        }
        assert_eq!(decide(&all, &Attempt { failure: Failure::Status(404), ..sent }), Decision::GiveUp);
        assert_eq!(decide(&all, &Attempt { failure: Failure::Status(299), ..sent }), Decision::GiveUp);
    }

    #[test]
    fn a_stale_connection_is_replaced_without_counting() {
        let stale = Attempt {
            reused: true,
            request_sent: true,
            idempotent: true,
            ..Attempt::tcp(9, Failure::EmptyResponse, false)
        };
        assert_eq!(decide(&policy(0, 0), &stale), Decision::Refresh);
        let post = Attempt { idempotent: false, ..stale };
        assert_eq!(decide(&policy(0, 0), &post), Decision::GiveUp, "it may have been processed");
        let unsent = Attempt { request_sent: false, ..post };
        assert_eq!(decide(&policy(0, 0), &unsent), Decision::Refresh);
    }

    #[test]
    fn words_of_retry_on() {
        for (word, expected) in [
            ("none", Some(RetryOn::NONE)),
            ("conn-failure", Some(RetryOn::CONN_FAILURE)),
            ("503", RetryOn::status(503)),
            ("200", None),
            ("99999", None),
            ("sometimes", None),
        ] {
            assert_eq!(RetryOn::parse(word), expected, "{word}");
        }
        let set = RetryOn::parse("404").expect("known").with(RetryOn::EMPTY_RESPONSE);
        assert!(set.contains(RetryOn::EMPTY_RESPONSE) && !set.contains(RetryOn::CONN_FAILURE));
        assert!(!set.contains(RetryOn::NONE));
        let bits: std::collections::BTreeSet<u32> =
            RetryOn::STATUSES.iter().map(|s| RetryOn::status(*s).expect("known").bits).collect();
        assert_eq!(bits.len(), RetryOn::STATUSES.len());
    }
}

//! When the steps of one stream happened: a request and its response, or the one relay of a TCP session. `session`,
//! `http_request`, `dispatch` and `exchange` note each step where it happens; `finish` closes the record, and statistics
//! and access logs read it.

use crate::base::id::ServerId;
use crate::base::time::Now;
use crate::proxy::session::Session;
use crate::rt;
use crate::stats::table::Stat;
use crate::stats::timers::Lap;

/// A duration in microseconds that may not have happened. Longer than 71 minutes counts as that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Micros(u32);

impl Micros {
    /// It did not happen.
    pub const NONE: Micros = Micros(u32::MAX);

    /// From one point to a later one.
    pub fn between(from: Now, to: Now) -> Micros {
        let us = to.since(from).as_micros();
        Micros(u32::try_from(us).unwrap_or(u32::MAX).min(u32::MAX - 1))
    }

    /// Microseconds; `None`: it did not happen.
    pub fn us(self) -> Option<u32> {
        (self != Micros::NONE).then_some(self.0)
    }

    /// Whole milliseconds; `None`: it did not happen. Logs write -1 then.
    pub fn ms(self) -> Option<u32> {
        self.us().map(|us| us / 1000)
    }

    fn plus(self, more: Micros) -> Micros {
        match (self.us(), more.us()) {
            (Some(a), Some(b)) => Micros(a.saturating_add(b).min(u32::MAX - 1)),
            (None, _) => more,
            (_, None) => self,
        }
    }
}

/// The record of one stream. Steps that were repeated (retries) add up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timings {
    /// Its number, which no other stream of the process has but for those of four billion streams before.
    pub number: u32,
    /// When it opened: the accept, or the end of the request before on the same connection.
    pub opened: Now,
    /// The PROXY header and the TLS handshake.
    pub handshake: Micros,
    /// Whether it has a connection to a server.
    pub is_connected: bool,
    /// When it began: the first byte of the request was here; in TCP mode, the connection was accepted.
    pub began: Now,
    pub(super) is_answered: bool,
    pub(super) answered: Now,
    /// When it was over.
    pub ended: Option<Now>,
    /// From the first byte of the request to the end of its head.
    pub receive: Micros,
    /// Waiting for a slot of a server; 0 where one was free.
    pub queue: Micros,
    /// Connecting to servers, failed attempts included; none on an idle connection.
    pub connect: Micros,
    /// The TLS handshake with the server, part of `connect`.
    pub tls: Micros,
    /// From the request sent to the head of its final response; in TCP mode from the connection to the first byte.
    pub response: Micros,
}

impl Timings {
    /// A stream that begins.
    pub fn new(began: Now) -> Timings {
        let none = Micros::NONE;
        Timings {
            number: 0,
            opened: began,
            handshake: none,
            is_connected: false,
            began,
            is_answered: false,
            answered: began,
            ended: None,
            receive: none,
            queue: none,
            connect: none,
            tls: none,
            response: none,
        }
    }

    /// When the head of the final response was here; in TCP mode, the first byte of the server.
    pub fn answered_at(&self) -> Option<Now> {
        self.is_answered.then_some(self.answered)
    }

    /// From the first byte of the answer to the end.
    pub fn transfer(&self) -> Micros {
        match (self.answered_at(), self.ended) {
            (Some(from), Some(to)) => Micros::between(from, to),
            _ => Micros::NONE,
        }
    }

    /// From the beginning to the end.
    pub fn total(&self) -> Micros {
        self.ended.map_or(Micros::NONE, |ended| Micros::between(self.began, ended))
    }

    /// The head of the request is here.
    pub(super) fn received(&mut self, now: Now) {
        self.receive = Micros::between(self.began, now);
    }

    /// It waited for a slot.
    pub(super) fn queued(&mut self, since: Now, now: Now) {
        self.queue = self.queue.plus(Micros::between(since, now));
    }

    /// An attempt to connect is over.
    pub(super) fn connected(&mut self, since: Now, now: Now) {
        self.connect = self.connect.plus(Micros::between(since, now));
    }

    /// The answer begins; `asked`: when the request was sent.
    pub(super) fn answered(&mut self, asked: Now, now: Now) {
        self.response = Micros::between(asked, now);
        (self.is_answered, self.answered) = (true, now);
    }
}

/// Closes the record of the stream in hand, and counts its durations on the server that it was sent to. Once a stream.
pub(super) fn finish(session: &Session) {
    let info = &session.info;
    let (total, transfer) = {
        let mut timings = info.timings.borrow_mut();
        if timings.ended.is_some() {
            return;
        }
        timings.ended = Some(rt::now());
        (timings.total(), timings.transfer())
    };
    let Some(server) = info.server.get() else { return };
    record(session, server, Lap::Total, total);
    record(session, server, Lap::Transfer, transfer);
    let total = u64::from(total.0);
    let shard = session.core.shard();
    shard.servers[server].time(Stat::TotalTime, total);
    shard.backends[session.core.model.servers[server].backend].time(Stat::TotalTime, total);
}

/// Counts one duration of a server.
pub(super) fn record(session: &Session, server: ServerId, lap: Lap, took: Micros) {
    if let Some(us) = took.us() {
        session.core.record_time(server, lap, us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Now {
        Now(n * 1_000_000)
    }

    #[test]
    fn steps_that_did_not_happen_have_no_duration() {
        let timings = Timings::new(ms(5));
        for step in [timings.receive, timings.queue, timings.connect, timings.transfer(), timings.total()] {
            assert_eq!((step.us(), step.ms()), (None, None));
        }
    }

    #[test]
    fn attempts_add_up_and_the_rest_is_told_from_points() {
        let mut timings = Timings::new(ms(100));
        timings.received(ms(101));
        timings.connected(ms(101), ms(104));
        timings.connected(ms(110), ms(112));
        timings.answered(ms(112), ms(120));
        timings.ended = Some(ms(150));
        let all = [timings.receive, timings.queue, timings.connect, timings.response, timings.transfer()];
        assert_eq!(all.map(Micros::ms), [Some(1), None, Some(5), Some(8), Some(30)]);
        assert_eq!(timings.total().us(), Some(50_000));
    }

    #[test]
    fn a_very_long_duration_is_still_one() {
        let day = Micros::between(ms(0), ms(86_400_000));
        assert_eq!(day.us(), Some(u32::MAX - 1));
        assert_eq!(day.plus(day).us(), Some(u32::MAX - 1));
    }
}

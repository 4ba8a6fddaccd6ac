//! The rows about a stream in the table of sample fetches: what was captured, and its timers; see `fetches`.

use crate::config::expr::ExprError;
use crate::config::expr::args::Args;
use crate::config::expr::fetches::Needs::Routing;
use crate::config::expr::fetches::{FetchInfo, plain};
use crate::policy::sample::Kind::{Int, Str};
use crate::policy::sample::{Fetch, Recorded, TimerName};

/// All of them. Most have a value in log formats alone: before, the step may not be over.
pub(super) const STREAM_FETCHES: &[FetchInfo] = &[
    plain("capture.req.hdr", Str, Routing, "A captured request header, by its place from 0.", |a| {
        Ok(Fetch::Recorded(Recorded::Request(place(a)?)))
    })
    .args("INDEX"),
    plain("capture.res.hdr", Str, Routing, "A captured response header, by its place from 0.", |a| {
        Ok(Fetch::Recorded(Recorded::Response(place(a)?)))
    })
    .args("INDEX"),
    plain(
        "capture.req.method",
        Str,
        Routing,
        "The method as the client sent it; needs a log or a capture.",
        |_| Ok(Fetch::Recorded(Recorded::Method)),
    ),
    plain("capture.req.uri", Str, Routing, "The request target as the client sent it.", |_| {
        Ok(Fetch::Recorded(Recorded::Target))
    }),
    plain(
        "capture.req.ver",
        Str,
        Routing,
        "The version as the client sent it, with HTTP/ before it.",
        |_| Ok(Fetch::Recorded(Recorded::Version)),
    ),
    plain(
        "capture.res.ver",
        Str,
        Routing,
        "The version as the server sent it, with HTTP/ before it.",
        |_| Ok(Fetch::Recorded(Recorded::ResponseVersion)),
    ),
    timer("fc.timer.handshake", "ms of PROXY header and TLS handshake.", |_| ms(TimerName::Handshake)),
    timer("fc.timer.total", "ms since the stream began.", |_| ms(TimerName::Total)),
    timer("req.timer.idle", "ms until the first byte of the request.", |_| ms(TimerName::Idle)),
    timer("req.timer.hdr", "ms to receive the head of the request.", |_| ms(TimerName::Head)),
    timer("req.timer.tq", "ms from the accept until the head of the request was complete.", |_| {
        ms(TimerName::Request)
    }),
    timer("req.timer.queue", "ms in queues.", |_| ms(TimerName::Queue)),
    timer("bc.timer.connect", "ms to connect to the server.", |_| ms(TimerName::Connect)),
    timer("res.timer.hdr", "ms until the head of the response.", |_| ms(TimerName::Response)),
    timer("res.timer.data", "ms from the head of the response on.", |_| ms(TimerName::Data)),
    timer("txn.timer.total", "ms since the first byte of the request.", |_| ms(TimerName::Active)),
    timer("txn.timer.user", "ms since the accept without idle time.", |_| ms(TimerName::User)),
    timer("txn.timer.total_us", "µs since the first byte of the request.", |_| {
        Ok(Fetch::Timer(TimerName::Active, true))
    }),
];

const fn timer(
    name: &'static str,
    help: &'static str,
    build: fn(&mut Args<'_, '_>) -> Result<Fetch, ExprError>,
) -> FetchInfo {
    plain(name, Int, Routing, help, build)
}

fn ms(name: TimerName) -> Result<Fetch, ExprError> {
    Ok(Fetch::Timer(name, false))
}

fn place(args: &mut Args<'_, '_>) -> Result<u16, ExprError> {
    let place = args.int("the place of a capture")?;
    u16::try_from(place).map_err(|_| args.error("the place of a capture is a number from 0"))
}

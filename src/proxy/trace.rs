//! Traces: gives each request its place in one (W3C Trace Context), and hands a span over to the control core when a request
//! that is recorded ends. What a span says is a log format; where it goes is `control::otlp`.

use std::time::Duration;

use crate::model::log::FrontendTrace;
use crate::proto::headers::{EditError, HeadEdit, HeadView};
use crate::proto::http::Name;
use crate::proto::trace_context::{TRACEPARENT_BYTES, TraceContext};
use crate::proxy::end::End;
use crate::proxy::log::{self, Record};
use crate::proxy::session::Session;

/// Bytes before the attributes of a span: trace, span and parent, start and end in UNIX nanoseconds, whether it failed.
pub const SPAN_HEADER: usize = 16 + 8 + 8 + 8 + 8 + 1;

const TRACEPARENT: &[u8] = b"traceparent";
const TRACESTATE: &[u8] = b"tracestate";

/// The place of a request in a trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traced {
    /// As the server hears of it.
    context: TraceContext,
    /// The span of the client; zeros: this request begins the trace.
    parent: [u8; 8],
    /// The client's own header is good and stays.
    stays: bool,
}

impl Traced {
    /// The header that the server hears, for logs.
    pub(super) fn header(&self) -> [u8; TRACEPARENT_BYTES] {
        self.context.header()
    }
}

/// The head of a request is here, as the client sent it.
pub(super) fn begin(session: &Session, view: HeadView<'_>) {
    let Some(settings) = &session.frontend().trace else { return };
    let mut record = session.info.record.borrow_mut();
    let Some(record) = record.as_deref_mut() else { return };
    let mut lines = view.lines(Name::of(TRACEPARENT));
    // More than one is as good as none.
    let theirs = match (lines.next(), lines.next()) {
        (Some(line), None) => TraceContext::parse(line),
        _ => None,
    };
    record.trace = Some(place(settings, theirs, || session.core.random()));
}

/// Who has a place keeps it, and its caller's mind about recording; others begin a trace.
fn place(settings: &FrontendTrace, theirs: Option<TraceContext>, mut random: impl FnMut() -> u64) -> Traced {
    let span = random().max(1).to_be_bytes();
    if let Some(theirs) = theirs {
        let stays = settings.set.is_none();
        let context = if stays { theirs } else { TraceContext { span, ..theirs } };
        return Traced { context, parent: theirs.span, stays };
    }
    let low = random().max(1);
    let mut trace = [0; 16];
    trace[..8].copy_from_slice(&random().to_be_bytes());
    trace[8..].copy_from_slice(&low.to_be_bytes());
    // The random part of a trace's id decides, so that all who look at it decide alike.
    let is_sampled = low >> 8 < settings.threshold;
    Traced { context: TraceContext { trace, span, is_sampled }, parent: [0; 8], stays: false }
}

/// Puts the header of a request right before it goes to a server.
pub(super) fn insert(session: &Session, mut edit: HeadEdit<'_>) -> Result<(), EditError> {
    if session.frontend().trace.is_none() {
        return Ok(());
    }
    let Some(traced) = session.info.record.borrow().as_deref().and_then(|record| record.trace) else {
        return Ok(());
    };
    if traced.parent == [0; 8] {
        // It belongs to a header that was no good.
        edit.delete(Name::of(TRACESTATE));
    }
    match traced.stays {
        true => Ok(()),
        false => edit.set_as(TRACEPARENT, &traced.context.header()),
    }
}

/// The request is over.
pub(super) fn finish(session: &Session, record: &Record, end: End, now: Duration) {
    let Some(trace) = &session.frontend().trace else { return };
    let (Some(traced), Some(set)) = (record.trace, trace.set) else { return };
    if !traced.context.is_sampled {
        return;
    }
    let line = log::line_of(session, record, end, now);
    // What the client did wrong, or what was forbidden to it, is no failure of this side.
    let failed = line.status >= 500 || !matches!(end.code().as_bytes()[0], b'-' | b'L' | b'C' | b'c' | b'P');
    let began = line.accepted + line.timers.before();
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).to_ne_bytes();
    let mut head = [0; SPAN_HEADER];
    head[..16].copy_from_slice(&traced.context.trace);
    head[16..24].copy_from_slice(&traced.context.span);
    head[24..32].copy_from_slice(&traced.parent);
    head[32..40].copy_from_slice(&ns(began));
    head[40..48].copy_from_slice(&ns(now));
    head[48] = u8::from(failed);
    log::hand_over(session, (set, &head), (&trace.attributes, &line), now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::log::{LogFormat, Reads};

    fn settings(set: Option<u16>, threshold: u64) -> FrontendTrace {
        FrontendTrace { set, threshold, attributes: LogFormat::default(), reads: Reads::default() }
    }

    const THEIRS: TraceContext = TraceContext { trace: [7; 16], span: [8; 8], is_sampled: false };

    #[test]
    fn who_records_speaks_for_itself_and_who_does_not_passes_on() {
        let recorded = place(&settings(Some(0), u64::MAX), Some(THEIRS), || 5);
        assert_eq!((recorded.context.trace, recorded.parent), (THEIRS.trace, THEIRS.span));
        assert_eq!(recorded.context.span, 5_u64.to_be_bytes());
        assert!(!recorded.context.is_sampled, "the caller decided");
        let passed = place(&settings(None, u64::MAX), Some(THEIRS), || 5);
        assert!(passed.stays && passed.context == THEIRS);
    }

    #[test]
    fn a_new_trace_is_sampled_by_its_id() {
        let half = 1 << 55;
        for (low, expected) in [(0, true), (u64::MAX / 2, true), (u64::MAX, false)] {
            let traced = place(&settings(Some(0), half), None, || low);
            assert_eq!(traced.context.is_sampled, expected, "{low}");
            assert_ne!((traced.context.trace, traced.context.span), ([0; 16], [0; 8]));
        }
        assert!(!place(&settings(Some(0), 0), None, || 1).context.is_sampled);
    }
}

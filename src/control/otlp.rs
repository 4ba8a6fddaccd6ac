//! Spans on their way to a collector: OTLP over HTTP or HTTPS in batches, protobuf. Spans wait in a bounded queue; what does not fit, or
//! what the collector does not take in time, is dropped and counted like a log line.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData};
use prost::Message;
use serde_json::Value;

use crate::base::limits::{LOG_RETRY, SPAN_ATTEMPTS, SPAN_BATCH, SPAN_GATHER, SPAN_QUEUE, SPAN_TIMEOUT};
use crate::control::events::Level;
use crate::proxy::trace::SPAN_HEADER;
use crate::rt::{self, ConnectOptions};
use crate::tls::{self, Connector, Failure, Transport};

/// The way to a collector.
pub(super) struct SpanExporter {
    shared: Rc<Shared>,
}

/// Where spans go, and who sends them.
pub(super) struct Collector {
    pub(super) address: SocketAddr,
    /// As the URL has it.
    pub(super) host: String,
    pub(super) path: String,
    /// `service.name`.
    pub(super) service: String,
    /// How to shake hands with it; `None`: it is plain.
    pub(super) tls: Option<Connector>,
}

struct Shared {
    collector: Collector,
    waiting: RefCell<VecDeque<Span>>,
    waker: Cell<Option<Waker>>,
    dropped: Cell<u64>,
    /// Nobody adds anything any more.
    over: Cell<bool>,
    /// The process ends: what waits goes at once.
    hurry: Cell<bool>,
    /// Some are on their way.
    is_sending: Cell<bool>,
    /// It did not take the last ones.
    is_down: Cell<bool>,
    /// What became of the collector, until somebody asks.
    news: Cell<Option<(Level, String)>>,
}

impl Shared {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for SpanExporter {
    fn drop(&mut self) {
        self.shared.over.set(true);
        self.shared.wake();
    }
}

impl SpanExporter {
    /// Starts the task that sends.
    pub(super) fn start(collector: Collector) -> SpanExporter {
        let shared = Rc::new(Shared {
            collector,
            waiting: RefCell::default(),
            waker: Cell::default(),
            dropped: Cell::default(),
            over: Cell::default(),
            hurry: Cell::default(),
            is_sending: Cell::default(),
            is_down: Cell::default(),
            news: Cell::default(),
        });
        rt::spawn(export(shared.clone()));
        SpanExporter { shared }
    }

    /// Adds a span as a data core wrote it; false: there is no room.
    pub(super) fn push(&self, entry: &[u8]) -> bool {
        let mut waiting = self.shared.waiting.borrow_mut();
        if waiting.len() >= SPAN_QUEUE {
            return false;
        }
        let Some(span) = span(entry) else { return false };
        waiting.push_back(span);
        drop(waiting);
        self.shared.wake();
        true
    }

    /// Whether spans wait for a collector that takes some, or are on their way to it. What waits goes at once from now on.
    pub(super) fn is_busy_in_the_end(&self) -> bool {
        self.shared.hurry.set(true);
        let waits = self.shared.is_sending.get() || !self.shared.waiting.borrow().is_empty();
        waits && !self.shared.is_down.get()
    }

    /// What became of the collector; told once.
    pub(super) fn news(&self) -> Option<(Level, String)> {
        self.shared.news.take()
    }

    /// Spans that the collector did not take.
    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped.get()
    }
}

async fn export(shared: Rc<Shared>) {
    loop {
        poll_fn(|cx| {
            if shared.waiting.borrow().is_empty() && !shared.over.get() {
                shared.waker.set(Some(cx.waker().clone()));
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        // What a generation that has gone left behind goes at once, and the task with it.
        if !shared.over.get() {
            let gathered = rt::now() + SPAN_GATHER;
            while rt::now() < gathered && !shared.hurry.get() {
                rt::sleep_until(gathered.min(rt::now() + SPAN_GATHER / 10)).await;
            }
        } else if shared.waiting.borrow().is_empty() {
            return;
        }
        let batch: Vec<Span> = {
            let mut waiting = shared.waiting.borrow_mut();
            let count = waiting.len().min(SPAN_BATCH);
            waiting.drain(..count).collect()
        };
        let count = batch.len() as u64;
        shared.is_sending.set(true);
        let sent = send(&shared.collector, batch).await;
        shared.is_sending.set(false);
        let host = &shared.collector.host;
        match &sent {
            Ok(()) if shared.is_down.get() => {
                shared.news.set(Some((Level::Notice, format!("the collector {host} takes spans again"))));
            }
            Err(why) if !shared.is_down.get() => {
                let text =
                    format!("the collector {host} takes no spans: {why}; they are dropped until it does");
                shared.news.set(Some((Level::Warning, text)));
            }
            _ => {}
        }
        shared.is_down.set(sent.is_err());
        if sent.is_err() {
            shared.dropped.set(shared.dropped.get() + count);
        }
    }
}

/// Hands a batch to the collector; `Err`: why it did not take it.
async fn send(collector: &Collector, batch: Vec<Span>) -> Result<(), String> {
    let body = body(&collector.service, batch);
    let mut why = String::new();
    for _ in 0..SPAN_ATTEMPTS {
        let status = rt::with_deadline(post(collector, &body), Some(rt::now() + SPAN_TIMEOUT)).await;
        why = match status {
            Ok(Ok(200..=299)) => return Ok(()),
            // These ask for another attempt (OTLP, "Retryable Response Codes"); whatever else is an answer stays.
            Ok(Ok(status @ (429 | 502..=504))) => format!("status {status}"),
            Ok(Ok(status)) => return Err(format!("status {status}")),
            Ok(Err(error)) => rt::error::words(&error),
            Err(rt::Elapsed) => "it does not answer".to_owned(),
        };
        rt::sleep_until(rt::now() + LOG_RETRY).await;
    }
    Err(why)
}

/// One request; the status of its response.
async fn post(collector: &Collector, body: &[u8]) -> io::Result<u16> {
    let conn = rt::connect(rt::Target::Ip(collector.address), ConnectOptions::default()).await?;
    let conn = Transport::plain(conn);
    if let Some(connector) = &collector.tls {
        // Boxed: most collectors are plain, and a handshake is large.
        Box::pin(tls::connect(&conn, connector, None)).await.map_err(failed)?;
    }
    let Collector { host, path, .. } = collector;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    let mut request = head.into_bytes();
    request.extend_from_slice(body);
    conn.send_all(request).await?;
    let mut seen = Vec::new();
    // `HTTP/1.1 200`
    while seen.len() < 12 {
        let Some(bytes) = conn.recv().await? else { break };
        seen.extend_from_slice(&bytes);
    }
    let status = seen.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    status.filter(|_| seen.starts_with(b"HTTP/1.")).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn failed(failure: Failure) -> io::Error {
    match failure {
        Failure::Io(error) => error,
        Failure::Tls(error) => io::Error::other(error),
        Failure::Closed => io::ErrorKind::UnexpectedEof.into(),
        Failure::NotTls(_) | Failure::UnknownName(_) => io::Error::other("it does not speak TLS"),
    }
}

fn body(service: &str, spans: Vec<Span>) -> Vec<u8> {
    let scope = InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let resource = Resource { attributes: vec![text("service.name", service)], ..Resource::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
    let spans = ResourceSpans { resource: Some(resource), scope_spans, schema_url: String::new() };
    TracesData { resource_spans: vec![spans] }.encode_to_vec()
}

/// A span from what `proxy::trace` wrote.
fn span(entry: &[u8]) -> Option<Span> {
    let (header, attributes) = entry.split_at_checked(SPAN_HEADER)?;
    let time = |at: usize| header[at..at + 8].try_into().map(u64::from_ne_bytes).unwrap_or_default();
    let parent = &header[24..32];
    // A line that was cut is no object any more: the span is there, with nothing to say.
    let attributes: serde_json::Map<String, Value> = serde_json::from_slice(attributes).unwrap_or_default();
    let method = attributes.get("http.request.method").and_then(Value::as_str).unwrap_or("HTTP");
    let failed = header[48] != 0;
    Some(Span {
        trace_id: header[..16].to_vec(),
        span_id: header[16..24].to_vec(),
        parent_span_id: if parent == [0; 8] { Vec::new() } else { parent.to_vec() },
        name: method.to_owned(),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: time(32),
        end_time_unix_nano: time(40),
        status: failed.then(|| Status { code: StatusCode::Error.into(), ..Status::default() }),
        attributes: attributes.iter().filter_map(|(name, value)| attribute(name, value)).collect(),
        ..Span::default()
    })
}

fn attribute(name: &str, value: &Value) -> Option<KeyValue> {
    match value {
        Value::Number(number) => Some(pair(name, Any::IntValue(number.as_i64()?))),
        // The semantic conventions want the number alone.
        Value::String(version) if name == "network.protocol.version" => {
            Some(text(name, version.trim_start_matches("HTTP/")))
        }
        Value::String(value) => Some(text(name, value)),
        _ => None,
    }
}

fn text(name: &str, value: &str) -> KeyValue {
    pair(name, Any::StringValue(value.to_owned()))
}

fn pair(name: &str, value: Any) -> KeyValue {
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_becomes_a_span() {
        let mut entry = vec![1; 16];
        entry.extend_from_slice(&[2; 8]);
        entry.extend_from_slice(&[0; 8]);
        entry.extend_from_slice(&10_u64.to_ne_bytes());
        entry.extend_from_slice(&30_u64.to_ne_bytes());
        entry.push(1);
        assert_eq!(entry.len(), SPAN_HEADER);
        let attributes = br#"{"http.request.method": "GET", "http.response.status_code": 503, "x": null,
            "network.protocol.version": "HTTP/1.1"}"#;
        entry.extend_from_slice(attributes);
        let span = span(&entry).expect("whole");
        assert_eq!((span.name.as_str(), span.kind, span.parent_span_id.len()), ("GET", 2, 0));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (10, 30));
        assert_eq!(span.attributes.len(), 3);
        assert!(span.attributes.contains(&text("network.protocol.version", "1.1")));
        assert_eq!(span.status.as_ref().map(|status| status.code), Some(2));
        let data = TracesData::decode(body("edge", vec![span.clone()]).as_slice()).expect("protobuf");
        assert_eq!(data.resource_spans[0].scope_spans[0].spans, [span]);
    }

    #[test]
    fn what_is_cut_is_no_span() {
        assert!(span(&[0; SPAN_HEADER - 1]).is_none());
        assert!(span(&[1; SPAN_HEADER]).is_some_and(|span| span.attributes.is_empty()));
    }
}

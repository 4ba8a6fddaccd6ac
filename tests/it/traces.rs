//! Traces: what servers hear of them, and the spans that a collector gets.

use std::io::Write as _;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{Span, TracesData};
use prost::Message as _;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::harness::http::ok;
use crate::harness::tls::{Ca, response};
use crate::harness::{Origin, Shardgate, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Keeps what is posted to it.
fn collector() -> Origin {
    Origin::wire(|wire, shared| {
        while let Some(request) = wire.request() {
            if request.start() != "POST /v1/traces HTTP/1.1" {
                return;
            }
            shared.note(&request.body);
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    })
}

/// The same over TLS, as `collector.example`.
fn collector_over_tls(ca: &Ca) -> Origin {
    let own = ca.make(&["collector.example"], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_no_client_auth();
    let config = Arc::new(builder.with_single_cert(vec![own.der.clone()], key).expect("a certificate"));
    Origin::new(move |stream, shared| {
        let mut tls = StreamOwned::new(ServerConnection::new(config.clone()).expect("a server"), stream);
        while let Ok((head, body)) = response(&mut tls) {
            assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
            shared.note(&body);
            if tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    })
}

fn gate(origin: &Origin, keywords: &str) -> Shardgate {
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n{keywords}\nrules = [{{ deny = true, if = \"{{ path \
         /deny }}\" }}]\n[backend.be]\nserver.s1.address = \"{}\"\n[ring.lines]\n",
        origin.address
    );
    Shardgate::with(&body).defaults("mode = \"http\"\nlog = [\"ring@lines\"]").start()
}

fn get(gate: &Shardgate, path: &str, headers: &str) -> u16 {
    let mut client = gate.wire("fe");
    client.send(format!("GET {path} HTTP/1.1\r\nHost: example.org\r\n{headers}\r\n"));
    client.response("GET").status()
}

/// A header of the last request that the server got.
fn heard(origin: &Origin, name: &str) -> Option<String> {
    let notes = origin.notes();
    let text = String::from_utf8_lossy(notes.last().expect("a request")).into_owned();
    let line = text.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")))?;
    Some(line.split_once(": ").expect("just found").1.to_owned())
}

fn spans(collector: &Origin) -> Vec<Span> {
    let data = collector.notes();
    let data = data.iter().map(|body| TracesData::decode(body.as_slice()).expect("OTLP"));
    let resources = data.flat_map(|data| data.resource_spans);
    resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, name: &str) -> Option<Value> {
    let found = span.attributes.iter().find(|pair| pair.key == name)?;
    found.value.clone()?.value
}

#[test]
fn a_trace_context_is_passed_on_or_begun() {
    let origin = Origin::http(|_| ok("fine"));
    let gate = gate(&origin, "trace.context = true");
    let theirs = format!("00-{TRACE}-{PARENT}-00");
    assert_eq!(get(&gate, "/", &format!("traceparent: {theirs}\r\ntracestate: a=b\r\n")), 200);
    assert_eq!(heard(&origin, "traceparent"), Some(theirs));
    assert_eq!(heard(&origin, "tracestate").as_deref(), Some("a=b"));

    assert_eq!(get(&gate, "/", ""), 200);
    let fresh = heard(&origin, "traceparent").expect("one was begun");
    assert!(fresh.len() == 55 && fresh.starts_with("00-") && fresh.ends_with("-01"), "{fresh}");

    // One that is no good is replaced, and what belongs to it goes.
    assert_eq!(get(&gate, "/", "traceparent: 00-0-0-0\r\ntracestate: a=b\r\n"), 200);
    let fresh = heard(&origin, "traceparent").expect("one was begun");
    assert!(fresh.len() == 55, "{fresh}");
    assert_eq!(heard(&origin, "tracestate"), None);
    gate.finish();
}

#[test]
fn a_collector_gets_a_span_for_each_recorded_request() {
    let origin = Origin::http(|_| ok("fine"));
    let collector = collector();
    let keywords = format!("trace.to = \"http://{}/v1/traces\"\ntrace.service = \"edge\"", collector.address);
    let gate = gate(&origin, &keywords);
    assert_eq!(get(&gate, "/a?b", &format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n")), 200);
    let told = heard(&origin, "traceparent").expect("the server hears of it");
    // Its caller does not record it, so nobody does.
    assert_eq!(get(&gate, "/unrecorded", &format!("traceparent: 00-{TRACE}-{PARENT}-00\r\n")), 200);
    assert_eq!(get(&gate, "/deny", ""), 403);
    until("both spans", || spans(&collector).len() == 2);
    let spans = spans(&collector);
    let span = spans.iter().find(|span| hex(&span.trace_id) == TRACE).expect("that of the client's trace");
    assert_eq!(hex(&span.parent_span_id), PARENT);
    assert_eq!(told, format!("00-{TRACE}-{}-01", hex(&span.span_id)));
    assert_eq!((span.name.as_str(), span.kind), ("GET", 2));
    assert!(span.start_time_unix_nano > 0 && span.start_time_unix_nano <= span.end_time_unix_nano);
    assert!(span.status.is_none(), "nothing failed");
    let text = |name: &str| match attribute(span, name) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(text("url.full"), "http://example.org/a?b");
    assert_eq!((text("shardgate.server"), text("network.protocol.version")), ("s1".into(), "1.1".into()));
    assert_eq!(attribute(span, "http.response.status_code"), Some(Value::IntValue(200)));
    let denied = spans.iter().find(|span| hex(&span.trace_id) != TRACE).expect("the other");
    assert!(denied.parent_span_id.is_empty());
    assert_eq!(attribute(denied, "http.response.status_code"), Some(Value::IntValue(403)));
    // The line of the request names its trace.
    until("the line is there", || gate.ask("show events lines").contains(TRACE));
    gate.finish();
}

#[test]
fn a_collector_that_is_away_slows_nobody() {
    let origin = Origin::http(|_| ok("fine"));
    let away = crate::harness::origin::Refusing::new();
    let gate = gate(&origin, &format!("trace.to = \"http://{}\"", away.address));
    for _ in 0..100 {
        assert_eq!(get(&gate, "/", ""), 200);
    }
    until("spans are dropped and counted", || gate.info("DroppedLogs").parse::<u64>().unwrap_or(0) >= 100);
    let why = format!("the collector {} takes no spans: ", away.address);
    until("the event log says so", || gate.ask("show events process").contains(&why));
    until("and who drops what", || gate.log().contains(&format!("(collector {} ", away.address)));
    gate.finish();
}

#[test]
fn a_process_that_ends_hands_its_spans_over() {
    let origin = Origin::http(|_| ok("fine"));
    let collector = collector();
    let mut gate = gate(&origin, &format!("trace.to = \"http://{}\"", collector.address));
    for _ in 0..3 {
        assert_eq!(get(&gate, "/", ""), 200);
    }
    gate.signal("TERM");
    assert!(gate.wait_exit().success());
    assert_eq!(spans(&collector).len(), 3);
}

#[test]
fn a_collector_is_spoken_to_over_tls() {
    let (ca, other) = (Ca::new(), Ca::new());
    let origin = Origin::http(|_| ok("fine"));
    let collector = collector_over_tls(&ca);
    let keywords = |ca: &Ca| {
        format!(
            "trace.to = \"https://{}\"\ntrace.tls = {{ ca-file = \"{}\", verifyhost = \"collector.example\" }}",
            collector.address,
            ca.path("ca.pem").display()
        )
    };
    let trusting = gate(&origin, &keywords(&ca));
    assert_eq!(get(&trusting, "/secret", ""), 200);
    until("the span is there", || spans(&collector).len() == 1);
    trusting.finish();

    // Who is not who it should be hears nothing, and the log says so.
    let wary = gate(&origin, &keywords(&other));
    assert_eq!(get(&wary, "/secret", ""), 200);
    until("the span is dropped", || wary.info("DroppedLogs").parse::<u64>().unwrap_or(0) >= 1);
    until("the log says why", || wary.log().contains("takes no spans: invalid peer certificate"));
    assert_eq!(spans(&collector).len(), 1);
    wary.finish();
}

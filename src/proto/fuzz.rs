//! Bodies of the fuzz targets under tests/fuzz: each takes any bytes and panics when a property of a parser does not hold.
//!
//! Not called by the product. The targets are three lines around these functions, and tests/fuzz_corpus.rs replays the
//! corpora through [`TARGETS`] with ordinary `cargo test`.

mod h1;
mod h1_exchange;
mod h2;

use crate::proto::proxy_header::{self, Command, Version};
use crate::proto::{Parsed, client_hello, rdp};

/// Panics when a property does not hold for these bytes.
pub type Body = fn(&[u8]);

/// Every target: its name, which is the name of its corpus directory, and its body.
pub const TARGETS: &[(&str, Body)] = &[
    ("proxy_header", proxy_header),
    ("client_hello", client_hello),
    ("rdp", rdp),
    ("h1_request_head", h1_request_head),
    ("h1_response_head", h1_response_head),
    ("h1_body", h1_body),
    ("h1_forward", h1_forward),
    ("h1_answers", h1_answers),
    ("h2_translation", h2_translation),
    ("h2_frames", h2_frames),
    ("h2_server_frames", h2_server_frames),
];

/// Translation of requests and trailers of HTTP/2.
pub fn h2_translation(data: &[u8]) {
    h2::translation(data);
}

/// Connections of HTTP/2, frame by frame.
pub fn h2_frames(data: &[u8]) {
    h2::frames(data);
}

/// The same of what servers send.
pub fn h2_server_frames(data: &[u8]) {
    h2::server_frames(data);
}

/// Checks that a parser never takes a decision back: once a prefix is complete or wrong, every longer input says the same.
/// Complete results also never need more bytes than they say.
fn never_takes_back<'a, T, E>(data: &'a [u8], mut parse: impl FnMut(&'a [u8]) -> Result<Parsed<T>, E>)
where
    T: PartialEq + std::fmt::Debug,
    E: PartialEq + std::fmt::Debug,
{
    let whole = parse(data);
    match &whole {
        Ok(Parsed::Partial) => {
            for cut in cuts(data.len()) {
                assert_eq!(parse(&data[..cut]), Ok(Parsed::Partial), "cut at {cut}");
            }
        }
        Ok(Parsed::Complete { len, .. }) => {
            assert!(*len <= data.len());
            assert_eq!(parse(&data[..*len]), whole);
            for cut in cuts(*len) {
                assert_eq!(parse(&data[..cut]), Ok(Parsed::Partial), "cut at {cut}");
            }
        }
        Err(_) => {
            for cut in cuts(data.len()) {
                let cut_result = parse(&data[..cut]);
                assert!(
                    matches!(cut_result, Ok(Parsed::Partial)) || cut_result == whole,
                    "cut at {cut}: {cut_result:?}"
                );
            }
        }
    }
}

/// Lengths below `len` to cut at: all of them for short inputs, the interesting ones for long inputs.
fn cuts(len: usize) -> impl Iterator<Item = usize> {
    let step = len / 256 + 1;
    (0..len.min(64)).chain((64..len).step_by(step)).chain(len.checked_sub(1))
}

/// PROXY headers: decisions are final, and what we read we write back to something that reads the same.
pub fn proxy_header(data: &[u8]) {
    never_takes_back(data, proxy_header::parse);
    let Ok(Parsed::Complete { value, .. }) = proxy_header::parse(data) else { return };
    for tlv in value.tlvs {
        assert!(tlv.value.len() <= data.len());
    }
    let mut out = [0; 8192];
    let len = match (value.version, value.command) {
        (Version::V1, _) => proxy_header::encode_v1(&value.source, &value.destination, &mut out),
        (Version::V2, Command::Local) => proxy_header::encode_v2_local(&mut out),
        (Version::V2, Command::Proxy) => {
            let fields = proxy_header::V2Fields {
                alpn: value.tlvs.alpn(),
                authority: value.tlvs.authority(),
                unique_id: value.tlvs.unique_id(),
                ssl: None,
                crc32c: true,
            };
            proxy_header::encode_v2(&value.source, &value.destination, &fields, &mut out)
        }
    };
    let len = len.expect("fits: no longer than what was read, plus a checksum");
    match proxy_header::parse(&out[..len]) {
        Ok(Parsed::Complete { value: again, len: used }) => {
            assert_eq!(used, len);
            assert_eq!(again.command, value.command);
            assert_eq!(again.source.ip(), value.source.ip());
            assert_eq!(again.source.port(), value.source.port());
            assert_eq!(again.destination.ip(), value.destination.ip());
            assert_eq!(again.destination.port(), value.destination.port());
            assert_eq!(
                again.tlvs.authority(),
                value.tlvs.authority().filter(|_| value.command == Command::Proxy)
            );
        }
        // The checksum may push a header that was at the limit over it.
        Err(proxy_header::ProxyHeaderError::V2TooLong { .. }) => {}
        other => panic!("{other:?}"),
    }
}

/// ClientHellos: decisions are final, and the cut into records does not matter.
pub fn client_hello(data: &[u8]) {
    // Owned results: the borrowed ones live in the scratch buffer of one call.
    let parse = |bytes: &[u8]| {
        let mut scratch = Vec::new();
        client_hello::parse(bytes, &mut scratch).map(|parsed| match parsed {
            Parsed::Partial => Parsed::Partial,
            Parsed::Complete { value, len } => Parsed::Complete {
                value: (
                    value.version_max(),
                    value.sni.map(str::to_owned),
                    value.alpn().map(<[u8]>::to_vec).collect::<Vec<_>>(),
                    value.session_id.to_vec(),
                ),
                len,
            },
        })
    };
    never_takes_back(data, parse);
    let Ok(Parsed::Complete { value, len }) = parse(data) else { return };
    let size = usize::from(data[len - 1]) % 40 + 1;
    let split = client_hello_in_records(&data[..len], size);
    let Ok(Parsed::Complete { value: again, len: used }) = parse(&split) else {
        panic!("records of {size} bytes are read differently");
    };
    assert_eq!(again, value);
    assert_eq!(used, split.len());
}

/// The handshake bytes of whole records, cut into records of `size` bytes.
fn client_hello_in_records(mut records: &[u8], size: usize) -> Vec<u8> {
    let mut handshake = Vec::new();
    while records.len() > 5 {
        let length = usize::from(u16::from_be_bytes([records[3], records[4]]));
        let end = records.len().min(5 + length);
        handshake.extend_from_slice(&records[5..end]);
        records = &records[end..];
    }
    let mut out = Vec::new();
    for chunk in handshake.chunks(size) {
        out.extend_from_slice(&[22, 3, 1]);
        out.extend_from_slice(&u16::try_from(chunk.len()).expect("a chunk is short").to_be_bytes());
        out.extend_from_slice(chunk);
    }
    out
}

/// RDP connection requests: decisions are final.
pub fn rdp(data: &[u8]) {
    never_takes_back(data, rdp::parse);
    if let Ok(Parsed::Complete { value, .. }) = rdp::parse(data) {
        let _ = value.routing_address();
    }
    let _ = rdp::routing_address(data);
}

/// Request heads of HTTP/1: decisions are final, what is written is read the same, a second parser agrees.
pub fn h1_request_head(data: &[u8]) {
    h1::request_head(data);
}

/// Response heads of HTTP/1: decisions are final, what is written is read the same.
pub fn h1_response_head(data: &[u8]) {
    h1::response_head(data);
}

/// Bodies of HTTP/1: any cut gives the same events, a second decoder reads the same data.
pub fn h1_body(data: &[u8]) {
    h1::body(data);
}

/// Connections of HTTP/1 in any cuts, with edits of rules: what is forwarded for each request is that request for a
/// second, strict parser.
pub fn h1_forward(data: &[u8]) {
    h1_exchange::requests(data);
}

/// Responses of HTTP/1: what goes to a client is one response, as a second, strict reader sees it.
pub fn h1_answers(data: &[u8]) {
    h1_exchange::answers(data);
}

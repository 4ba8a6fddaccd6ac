//! The translation of HTTP/2 requests: whatever the fields are, what comes out is one request of HTTP/1 that says the same.

use crate::proto::h1::head::{HeadOptions, parse_request};
use crate::proto::h2::head::{Pseudo, WEBSOCKET_KEY_BYTES, request, trailers};
use crate::proto::headers::{Head, HeadLimits};

/// Items are separated by 0xfe: method, scheme, authority, path, protocol, then names and values. An item of one byte 0xfd
/// is a pseudo-header field that is not there.
pub(super) fn translation(data: &[u8]) {
    let mut items = data.split(|byte| *byte == 0xfe);
    let mut pseudo = || items.next().filter(|item| *item != [0xfd]);
    let (method, scheme, authority) = (pseudo().unwrap_or_default(), pseudo(), pseudo());
    let (path, protocol) = (pseudo(), pseudo());
    let pseudo = Pseudo { method, scheme, authority, path, protocol };
    let rest: Vec<&[u8]> = items.collect();
    let fields = || rest.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    let limits = HeadLimits::default();
    let (mut text, mut head) = (Vec::new(), Head::new());
    if request(&pseudo, fields, &limits, &[b'k'; WEBSOCKET_KEY_BYTES], &mut text, &mut head).is_ok() {
        let options = HeadOptions { limits, ..HeadOptions::default() };
        let mut parsed = Head::new();
        let complete = parse_request(&text, &options, &mut parsed).expect("what we write is well formed");
        let (_, len) = complete.complete().expect("what we write is whole");
        assert_eq!((len, head.len()), (text.len(), text.len()), "nothing follows the head");
        let (ours, theirs) = (head.view(&text), parsed.view(&text));
        assert_eq!((ours.method_text(), ours.target()), (theirs.method_text(), theirs.target()));
        assert!(ours.fields().eq(theirs.fields()), "each field is one line");
        // A second parser agrees, which knows nothing of our rules.
        let mut slots = [httparse::EMPTY_HEADER; 256];
        let mut second = httparse::Request::new(&mut slots);
        if let Ok(httparse::Status::Complete(end)) = second.parse(&text) {
            assert_eq!((end, second.headers.len()), (text.len(), ours.fields().count()));
        }
    }
    let mut section = Vec::new();
    if trailers(fields(), &limits, &mut section).is_ok() {
        let lines = section.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
        assert_eq!(lines, fields().count(), "each trailer is one line");
    }
}

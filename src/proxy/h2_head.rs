//! Heads and trailers on their way over streams: to clients as HPACK, from and to servers in the `h2` crate's types. What they
//! mean and what is refused is `proto::h2`'s.

use std::io;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Uri};

use crate::proto::h1::connection;
use crate::proto::h1::encode::LAST_CHUNK;
use crate::proto::h1::head::{HeadOptions, parse_response, parse_trailers};
use crate::proto::h2::head;
use crate::proto::h2::hpack::{Fields, write_field};
use crate::proto::h2::reason::Malformed;
use crate::proto::headers::{Head, HeadEdit, HeadLimits, HeadView};
use crate::proto::http::{Known, StatusCode};
use crate::proxy::h2_body::Outgoing;

/// The fields of a message in order.
pub(super) fn fields(map: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    map.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// Sends the head of a response over a stream. Framing and hop-by-hop headers of HTTP/1 are deleted from it. `ends`: nothing
/// follows it.
pub(super) fn send_response(
    out: &mut Outgoing,
    head: &mut HeadEdit<'_>,
    keep_length: bool,
    ends: bool,
) -> io::Result<()> {
    send_as(out, head, keep_length, ends, |status| status)
}

fn send_as(
    out: &mut Outgoing,
    head: &mut HeadEdit<'_>,
    keep_length: bool,
    ends: bool,
    status: impl FnOnce(u16) -> u16,
) -> io::Result<()> {
    connection::strip_hop_by_hop(head, false);
    head.delete_framing(Known::TransferEncoding);
    if !keep_length {
        head.delete_framing(Known::ContentLength);
    }
    let view = head.view();
    let status = status(view.status().map_or(502, StatusCode::code));
    out.head(status, ends, |out| {
        view.known_fields().for_each(|(known, name, value)| write_field(known, name, value, out));
    })
}

/// The head of a request for a server that speaks HTTP/2; `None` where it cannot be said in HTTP/2.
pub(super) fn for_server(head: &mut HeadEdit<'_>) -> Option<Request<()>> {
    connection::strip_hop_by_hop(head, false);
    head.delete_framing(Known::TransferEncoding);
    let view = head.view();
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(PathAndQuery::try_from(view.target()).ok()?);
    let authority = view.line(Known::Host).and_then(|host| Authority::try_from(host).ok());
    let has_authority = authority.is_some();
    uri.authority = authority;
    if has_authority {
        uri.scheme = Some(Scheme::HTTP);
    }
    let mut request = Request::new(());
    *request.method_mut() = http::Method::from_bytes(view.method_text()).ok()?;
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    *request.version_mut() = http::Version::HTTP_2;
    if has_authority {
        head.delete(Known::Host);
    }
    copy_fields(head.view(), request.headers_mut());
    Some(request)
}

/// Sends the head that opens a tunnel over a stream: HTTP/2 has no 101, a WebSocket is there with a 200 (RFC 8441 5).
pub(super) fn send_switched(out: &mut Outgoing, head: &mut HeadEdit<'_>) -> io::Result<()> {
    head.delete(Known::SecWebsocketAccept);
    let switching = StatusCode::SWITCHING_PROTOCOLS.code();
    send_as(out, head, false, false, |status| if status == switching { 200 } else { status })
}

/// Copies header lines. Values share one copy of the text, so that a message costs few allocations.
fn copy_fields(view: HeadView<'_>, map: &mut HeaderMap) {
    let (count, total) = view.fields().fold((0, 0), |(n, sum), (_, value)| (n + 1, sum + value.len()));
    let mut text = Vec::with_capacity(total);
    view.fields().for_each(|(_, value)| text.extend_from_slice(value));
    let mut text = Bytes::from(text);
    map.reserve(count);
    for (name, value) in view.fields() {
        let value = text.split_to(value.len());
        // Names and values were checked when they were parsed or set, by rules that are as strict.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_maybe_shared(value)) {
            map.append(name, value);
        }
    }
}

/// The trailers that an HTTP/1 section has, without those that must not be there.
pub(super) fn trailers_of(section: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    let mut head = Head::new();
    if let Ok(parsed) = parse_trailers(section, &HeadOptions::default(), &mut head)
        && !parsed.is_partial()
    {
        copy_fields(head.view(section), &mut map);
    }
    cleaned(map)
}

/// Trailers without the fields that must not be there.
pub(super) fn cleaned(trailers: HeaderMap) -> HeaderMap {
    if trailers.keys().all(|name| head::may_trail(name.as_str().as_bytes())) {
        return trailers;
    }
    let mut map = HeaderMap::with_capacity(trailers.len());
    for (name, value) in &trailers {
        if head::may_trail(name.as_str().as_bytes()) {
            map.append(name.clone(), value.clone());
        }
    }
    map
}

/// Appends the last chunk of an HTTP/1 body, with trailers if there are any.
pub(super) fn last_chunk(trailers: Option<&HeaderMap>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let Some(trailers) = trailers.filter(|trailers| !trailers.is_empty()) else {
        out.extend_from_slice(LAST_CHUNK);
        return Ok(());
    };
    out.extend_from_slice(b"0\r\n");
    head::trailers(fields(trailers), &HeadLimits::default(), out)?;
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Sends a whole response of HTTP/1 as head and body, or only its head; `is_head`: the body is left out. Returns the body that
/// follows.
pub(super) fn send_page<'b>(out: &mut Outgoing, bytes: &'b [u8], is_head: bool) -> io::Result<&'b [u8]> {
    let mut head = Head::new();
    match parse_response(bytes, &HeadOptions::default(), &mut head) {
        Ok(parsed) if !parsed.is_partial() => {
            let body = if is_head { &[] } else { &bytes[head.len()..] };
            let keeps_length = is_head
                || head
                    .view(bytes)
                    .line(Known::ContentLength)
                    .is_some_and(|length| length == body.len().to_string().as_bytes());
            let is_interim = head.view(bytes).status().is_some_and(StatusCode::is_interim);
            let ends = body.is_empty() && !is_interim;
            send_response(out, &mut head.edit(bytes), keeps_length, ends)?;
            Ok(body)
        }
        // Pages are checked when they are loaded; one that is no response at all says at least that.
        _ => out.head(500, true, |_| {}).map(|()| &[][..]),
    }
}

/// The trailers that a client sent, if they are well formed.
pub(super) fn received_trailers(fields: &Fields) -> Result<HeaderMap, Malformed> {
    head::trailers(fields.iter(), &HeadLimits::default(), &mut Vec::new())?;
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    Ok(map)
}

/// Appends fields to a section for a client.
pub(super) fn write_fields(map: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in fields(map) {
        write_field(Known::of(name), name, value, out);
    }
}

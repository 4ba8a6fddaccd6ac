//! Heads and trailers between the `h2` crate's types and ours. What they mean and what is refused is `proto::h2`'s.

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, Uri, request};

use crate::proto::h1::connection;
use crate::proto::h1::encode::LAST_CHUNK;
use crate::proto::h1::head::{HeadOptions, parse_response, parse_trailers};
use crate::proto::h2::head::{self, Pseudo, WEBSOCKET_KEY_BYTES};
use crate::proto::h2::reason::Malformed;
use crate::proto::headers::{Head, HeadEdit, HeadLimits, HeadView};
use crate::proto::http::{Known, StatusCode};

/// Writes a request that came over a stream as text, and describes it in `head`.
pub(super) fn request(
    parts: &request::Parts,
    limits: &HeadLimits,
    websocket_key: &[u8; WEBSOCKET_KEY_BYTES],
    out: &mut Vec<u8>,
    head: &mut Head,
) -> Result<(), Malformed> {
    let protocol = parts.extensions.get::<Protocol>();
    let is_plain_connect = parts.method == http::Method::CONNECT && protocol.is_none();
    let pseudo = Pseudo {
        method: parts.method.as_str().as_bytes(),
        // The crate refuses a request without scheme, and forgets the scheme of one without authority.
        scheme: (!is_plain_connect).then(|| parts.uri.scheme_str().unwrap_or("http").as_bytes()),
        authority: parts.uri.authority().map(|authority| authority.as_str().as_bytes()),
        path: parts.uri.path_and_query().map(|path| path.as_str().as_bytes()).filter(|_| !is_plain_connect),
        protocol: protocol.map(|protocol| protocol.as_str().as_bytes()),
    };
    head::request(&pseudo, || fields(&parts.headers), limits, websocket_key, out, head)
}

/// The fields of a message in order.
pub(super) fn fields(map: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    map.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// The head of a response for a stream. Framing and hop-by-hop headers of HTTP/1 are deleted from it.
pub(super) fn response(head: &mut HeadEdit<'_>, keep_length: bool) -> Response<()> {
    connection::strip_hop_by_hop(head, false);
    head.delete_framing(Known::TransferEncoding);
    if !keep_length {
        head.delete_framing(Known::ContentLength);
    }
    let view = head.view();
    let mut response = Response::new(());
    let status = view.status().map_or(502, |status| status.code());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
    *response.version_mut() = http::Version::HTTP_2;
    copy_fields(view, response.headers_mut());
    response
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

/// The head that opens a tunnel for a stream.
pub(super) fn switched(head: &mut HeadEdit<'_>) -> Response<()> {
    head.delete(Known::SecWebsocketAccept);
    let is_switch = head.view().status() == Some(StatusCode::SWITCHING_PROTOCOLS);
    let mut response = response(head, false);
    if is_switch {
        *response.status_mut() = http::StatusCode::OK;
    }
    response
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

/// A whole response of HTTP/1 as head and body; `is_head`: the body is left out.
pub(super) fn page(bytes: &[u8], is_head: bool) -> (Response<()>, Bytes) {
    let mut head = Head::new();
    match parse_response(bytes, &HeadOptions::default(), &mut head) {
        Ok(parsed) if !parsed.is_partial() => {
            let body = if is_head { &[] } else { &bytes[head.len()..] };
            let keeps_length = is_head
                || head
                    .view(bytes)
                    .line(Known::ContentLength)
                    .is_some_and(|length| length == body.len().to_string().as_bytes());
            (response(&mut head.edit(bytes), keeps_length), Bytes::copy_from_slice(body))
        }
        // Pages are checked when they are loaded; one that is no response at all says at least that.
        _ => {
            let mut response = Response::new(());
            *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            (response, Bytes::new())
        }
    }
}

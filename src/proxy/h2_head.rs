//! Heads and trailers on their way over streams, to clients and to servers. What they mean and what is refused is `proto::h2`'s.

use std::io;

use crate::proto::h1::connection;
use crate::proto::h1::encode::LAST_CHUNK;
use crate::proto::h1::head::{HeadOptions, parse_response, parse_trailers};
use crate::proto::h2::head;
use crate::proto::h2::hpack::{Fields, write_field, write_pseudo};
use crate::proto::h2::reason::Malformed;
use crate::proto::headers::{Head, HeadEdit, HeadLimits, HeadView};
use crate::proto::http::{Known, StatusCode};
use crate::proxy::h2_body::Outgoing;

/// Sends the head of a response over a stream. Framing and hop-by-hop headers of HTTP/1 are deleted from it. `ends`: nothing
/// follows it. How many bytes it would be in HTTP/1, which is what counters and logs say in every version.
pub(super) fn send_response(
    out: &mut Outgoing,
    head: &mut HeadEdit<'_>,
    keep_length: bool,
    ends: bool,
) -> io::Result<u64> {
    send_as(out, head, keep_length, ends, |status| status)
}

fn send_as(
    out: &mut Outgoing,
    head: &mut HeadEdit<'_>,
    keep_length: bool,
    ends: bool,
    status: impl FnOnce(u16) -> u16,
) -> io::Result<u64> {
    connection::strip_hop_by_hop(head, false);
    head.delete_framing(Known::TransferEncoding);
    if !keep_length {
        head.delete_framing(Known::ContentLength);
    }
    let view = head.view();
    let status = status(view.status().map_or(502, StatusCode::code));
    let mut bytes = "HTTP/1.1 200 \r\n\r\n".len() + view.reason().len();
    out.head(status, ends, |out| {
        view.known_fields().for_each(|(known, name, value)| {
            bytes += name.len() + ": \r\n".len() + value.len();
            write_field(known, name, value, out);
        });
    })?;
    Ok(bytes as u64)
}

/// Makes the head of a request ready for a server that speaks HTTP/2; false where it cannot be said in HTTP/2.
pub(super) fn for_server(head: &mut HeadEdit<'_>) -> bool {
    connection::strip_hop_by_hop(head, false);
    head.delete_framing(Known::TransferEncoding);
    head::path_of(head.view().target()).is_some()
}

/// Appends the head of a request that is ready.
pub(super) fn write_request(view: HeadView<'_>, out: &mut Vec<u8>) {
    let host = view.line(Known::Host).unwrap_or_default();
    let path = head::path_of(view.target()).unwrap_or(b"/");
    write_pseudo(view.method_text(), host, path, out);
    for (known, name, value) in view.known_fields() {
        if known != Some(Known::Host) {
            write_field(known, name, value, out);
        }
    }
}

/// Sends the head that opens a tunnel over a stream: HTTP/2 has no 101, a WebSocket is there with a 200 (RFC 8441 5).
pub(super) fn send_switched(out: &mut Outgoing, head: &mut HeadEdit<'_>) -> io::Result<u64> {
    head.delete(Known::SecWebsocketAccept);
    let switching = StatusCode::SWITCHING_PROTOCOLS.code();
    send_as(out, head, false, false, |status| if status == switching { 200 } else { status })
}

/// The trailers that an HTTP/1 section has, without those that must not be there.
pub(super) fn trailers_of(section: &[u8]) -> Fields {
    let mut fields = Fields::default();
    let mut head = Head::new();
    if let Ok(parsed) = parse_trailers(section, &HeadOptions::default(), &mut head)
        && !parsed.is_partial()
    {
        let those = head.view(section).fields().filter(|(name, _)| head::may_trail(name));
        those.for_each(|(name, value)| fields.push(name, value));
    }
    fields
}

/// Trailers without the fields that must not be there.
pub(super) fn cleaned(trailers: Fields) -> Fields {
    if trailers.iter().all(|(name, _)| head::may_trail(name)) {
        return trailers;
    }
    let mut fields = Fields::default();
    let those = trailers.iter().filter(|(name, _)| head::may_trail(name));
    those.for_each(|(name, value)| fields.push(name, value));
    fields
}

/// Appends the last chunk of an HTTP/1 body, with trailers if there are any.
pub(super) fn last_chunk(trailers: Option<&Fields>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let Some(trailers) = trailers.filter(|trailers| !trailers.is_empty()) else {
        out.extend_from_slice(LAST_CHUNK);
        return Ok(());
    };
    out.extend_from_slice(b"0\r\n");
    head::trailers(trailers.iter(), &HeadLimits::default(), out)?;
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

/// Whether trailers are well formed.
pub(super) fn are_good(fields: &Fields) -> bool {
    head::trailers(fields.iter(), &HeadLimits::default(), &mut Vec::new()).is_ok()
}

/// Appends fields to a section.
pub(super) fn write_fields<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>, out: &mut Vec<u8>) {
    for (name, value) in fields {
        write_field(Known::of(name), name, value, out);
    }
}

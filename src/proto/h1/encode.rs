//! Writing the head of an HTTP/1 message, and chunks.
//!
//! What goes on is always HTTP/1.1 with one meaning: hop-by-hop headers are taken out, how the body ends is said once.
//! Writes to the end of a buffer of the caller, which keeps its memory.

#[cfg(test)]
mod tests;

use std::io::Write;

use crate::proto::h1::connection;
use crate::proto::headers::{HeadEdit, HeadView, Piece};
use crate::proto::http::{Known, Method};
use crate::proto::target;

/// How the head that is written says where the body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyHeaders {
    /// As the received head says it: the body goes on as it came.
    Keep,
    /// `Transfer-Encoding: chunked`: the body came without framing of HTTP/1.
    Chunked,
    /// `Content-Length`.
    Length(u64),
    /// Neither: there is no body, or it ends with the connection.
    Neither,
}

/// The Connection header of the head that is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionHeader {
    /// None: HTTP/1.1 stays open.
    None,
    /// `close`
    Close,
    /// `keep-alive`, for a client that speaks HTTP/1.0.
    KeepAlive,
    /// `upgrade`; the Upgrade header stays.
    Upgrade,
}

/// How a head is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadOut {
    /// Where the body ends.
    pub body: BodyHeaders,
    /// What the connection does afterwards.
    pub connection: ConnectionHeader,
}

/// Writes a request head for a server: target in origin form, a Host in any case. Hop-by-hop headers are deleted from
/// `head`; doing it again, for a retry, writes the same.
pub fn request(head: &mut HeadEdit<'_>, how: HeadOut, out: &mut Vec<u8>) {
    prepare(head, how);
    let view = head.view();
    out.extend_from_slice(view.method_text());
    out.push(b' ');
    let (slash, rest) = if view.method() == Method::Connect {
        (&b""[..], view.target())
    } else {
        target::origin_form(view.target())
    };
    // `OPTIONS http://host` asks about the server itself (RFC 9112 3.2.4).
    let is_server_itself = view.method() == Method::Options && slash == b"/" && rest.is_empty();
    out.extend_from_slice(if is_server_itself { b"*" } else { slash });
    out.extend_from_slice(rest);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if !view.has(Known::Host) {
        line(b"Host", authority(view.target(), view.method()), out);
    }
    finish(view, how, out);
}

/// Writes a response head for a client. Hop-by-hop headers are deleted from `head`.
pub fn response(head: &mut HeadEdit<'_>, how: HeadOut, out: &mut Vec<u8>) {
    prepare(head, how);
    let view = head.view();
    let code = view.status().map_or(502, |status| status.code());
    out.extend_from_slice(b"HTTP/1.1 ");
    let digit = |n: u16| b'0' + u8::try_from(n % 10).unwrap_or(0);
    out.extend_from_slice(&[digit(code / 100), digit(code / 10), digit(code), b' ']);
    out.extend_from_slice(view.reason());
    out.extend_from_slice(b"\r\n");
    finish(view, how, out);
}

fn prepare(head: &mut HeadEdit<'_>, how: HeadOut) {
    connection::strip_hop_by_hop(head, how.connection == ConnectionHeader::Upgrade);
    if how.body != BodyHeaders::Keep {
        head.delete_framing(Known::ContentLength);
        head.delete_framing(Known::TransferEncoding);
    }
}

/// Writes the header lines and the empty line.
fn finish(view: HeadView<'_>, how: HeadOut, out: &mut Vec<u8>) {
    for piece in view.pieces() {
        match piece {
            Piece::Raw(lines) => out.extend_from_slice(lines),
            Piece::Line { name, value } => line(name, value, out),
        }
    }
    match how.body {
        BodyHeaders::Keep | BodyHeaders::Neither => {}
        BodyHeaders::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        // Writing to memory does not fail.
        BodyHeaders::Length(length) => drop(write!(out, "Content-Length: {length}\r\n")),
    }
    out.extend_from_slice(match how.connection {
        ConnectionHeader::None => b"\r\n",
        ConnectionHeader::Close => b"Connection: close\r\n\r\n",
        ConnectionHeader::KeepAlive => b"Connection: keep-alive\r\n\r\n",
        ConnectionHeader::Upgrade => b"Connection: upgrade\r\n\r\n",
    });
}

fn line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The authority of a target; empty in origin form.
fn authority(target: &[u8], method: Method) -> &[u8] {
    if method == Method::Connect {
        return target;
    }
    let (before, _, _) = target::split_path(target);
    let at = before.windows(3).position(|three| three == b"://").map_or(before.len(), |at| at + 3);
    &before[at..]
}

/// Longest framing in front of a chunk: sixteen digits and CRLF.
pub const CHUNK_HEAD_BYTES_MAX: usize = 18;
/// What follows the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// The last chunk, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The framing in front of a chunk of `len` bytes: writes into `out` and gives the part that was written. `len` is not
/// zero, which would end the body.
pub fn chunk_head(len: usize, out: &mut [u8; CHUNK_HEAD_BYTES_MAX]) -> &[u8] {
    debug_assert!(len > 0);
    out[CHUNK_HEAD_BYTES_MAX - 2..].copy_from_slice(CHUNK_END);
    let mut at = CHUNK_HEAD_BYTES_MAX - 2;
    let mut rest = len;
    while at > 0 {
        at -= 1;
        out[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    &out[at..]
}

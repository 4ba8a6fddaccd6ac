//! Answers of our own: error pages and what rules return. Makes bytes; sending them is the client side's.

use std::borrow::Cow;
use std::io::Write;

use crate::model::http::ErrorPages;
use crate::policy::http_action::{Redirect, Reply, ReplyContent};
use crate::proto::http::{StatusCode, is_value};
use crate::proxy::http_rules::Subject;

/// One sentence for whoever reads the page of a status.
fn sentence(status: u16) -> &'static str {
    match status {
        400 => "The request could not be understood.",
        401 => "This page needs a user name and a password.",
        403 => "Access to this page is refused.",
        404 => "There is no such page.",
        405 => "This method is not allowed here.",
        408 => "The request took too long to arrive.",
        410 => "This page is gone.",
        413 => "The request is too large.",
        414 => "The address of the page is too long.",
        425 => "The request came too early; please send it again.",
        429 => "There were too many requests in a short time.",
        431 => "The headers of the request are too large.",
        500 => "Something went wrong inside the proxy.",
        501 => "The request asks for something that is not implemented.",
        502 => "The server gave no usable answer.",
        503 => "No server is available to handle this request.",
        504 => "The server took too long to answer.",
        505 => "This version of HTTP is not supported.",
        _ => "",
    }
}

/// Appends the answer to a request in plain text where TLS is spoken.
pub(super) fn plain_on_tls(pages: &[&ErrorPages], out: &mut Vec<u8>) {
    if let Some(page) = pages.iter().find_map(|pages| pages.page(400)) {
        out.extend_from_slice(page);
        return;
    }
    let page = "<html><body><h1>400 Bad Request</h1>\nThis is a plain HTTP request on a port that speaks TLS. Please use \
                https://.\n</body></html>\n";
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\nCache-Control: no-cache\r\nContent-Type: text/html\r\n\
         Connection: close\r\n\r\n{page}",
        page.len()
    );
}

/// Appends a whole error response: the configured page of its status, or the built-in one.
pub(super) fn error(status: u16, pages: &[&ErrorPages], close: bool, is_head: bool, out: &mut Vec<u8>) {
    if let Some(page) = pages.iter().find_map(|pages| pages.page(status)) {
        out.extend_from_slice(page);
        return;
    }
    let reason = StatusCode::new(status).map_or("Error", StatusCode::reason);
    let text = sentence(status);
    let len = "<html><body><h1>".len()
        + 3
        + 1
        + reason.len()
        + "</h1>\n".len()
        + text.len()
        + "\n</body></html>\n".len();
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "HTTP/1.1 {status} {reason}\r\nContent-Length: {len}\r\nCache-Control: no-cache\r\nContent-Type: text/html\r\n{}\r\n",
        if close { "Connection: close\r\n" } else { "" }
    );
    if !is_head {
        let _ = write!(out, "<html><body><h1>{status} {reason}</h1>\n{text}\n</body></html>\n");
    }
}

/// Appends the reply of a rule. False: the connection has to be closed behind it.
pub(super) fn made(
    reply: &Reply,
    subject: &Subject<'_>,
    pages: &[&ErrorPages],
    (close, is_head): (bool, bool),
    out: &mut Vec<u8>,
) -> bool {
    let status = reply.status;
    let mut body: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut media_type = "";
    match &reply.content {
        ReplyContent::ErrorPage if reply.headers.is_empty() => {
            let is_page = pages.iter().any(|pages| pages.page(status).is_some());
            error(status, pages, close, is_head, out);
            return !is_page;
        }
        ReplyContent::ErrorPage => {
            media_type = "text/html";
            body = Cow::Owned(page(status).into_bytes());
        }
        ReplyContent::Empty => {}
        ReplyContent::Bytes { content_type, body: bytes } => {
            media_type = content_type;
            body = Cow::Borrowed(bytes);
        }
        ReplyContent::Format { content_type, body: format } => {
            media_type = content_type;
            let mut text = Vec::new();
            subject.append_raw(format, &mut text);
            body = Cow::Owned(text);
        }
    }
    start(status, body.len(), close, out);
    if !media_type.is_empty() {
        line(b"Content-Type", media_type.as_bytes(), out);
    }
    for (name, value) in &reply.headers {
        let mut text = Vec::new();
        subject.append(value, &mut text);
        // As in HAProxy: what a format gives nothing for is not there.
        if !text.is_empty() {
            line(name, &text, out);
        }
    }
    out.extend_from_slice(b"\r\n");
    if !is_head {
        out.extend_from_slice(&body);
    }
    true
}

/// Appends the demand for credentials of `auth` (RFC 7617), in the configured page if there is one. False: the connection has to
/// be closed behind it.
pub(super) fn challenge(
    realm: &str,
    pages: &[&ErrorPages],
    (close, is_head): (bool, bool),
    out: &mut Vec<u8>,
) -> bool {
    let mut whole = Vec::new();
    error(401, pages, close, is_head, &mut whole);
    let line_end = memchr::memmem::find(&whole, b"\r\n").map_or(whole.len(), |at| at + 2);
    out.extend_from_slice(&whole[..line_end]);
    out.extend_from_slice(b"WWW-Authenticate: Basic realm=\"");
    for byte in realm.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.extend_from_slice(b"\"\r\n");
    out.extend_from_slice(&whole[line_end..]);
    !pages.iter().any(|pages| pages.page(401).is_some())
}

/// The built-in page of a status.
fn page(status: u16) -> String {
    let reason = StatusCode::new(status).map_or("Error", StatusCode::reason);
    let text = sentence(status);
    format!("<html><body><h1>{status} {reason}</h1>\n{text}\n</body></html>\n")
}

/// Appends a redirect. False: where it leads cannot stand in a header.
pub(super) fn redirect(redirect: &Redirect, subject: &Subject<'_>, close: bool, out: &mut Vec<u8>) -> bool {
    let mut location = Vec::new();
    subject.location(redirect, &mut location);
    if !is_value(&location) {
        return false;
    }
    start(redirect.status, 0, close, out);
    line(b"Location", &location, out);
    if let Some(cookie) = &redirect.set_cookie {
        line(b"Set-Cookie", cookie.as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n");
    true
}

fn start(status: u16, len: usize, close: bool, out: &mut Vec<u8>) {
    let reason = StatusCode::new(status).map_or("Error", StatusCode::reason);
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "HTTP/1.1 {status} {reason}\r\nContent-Length: {len}\r\n{}",
        if close { "Connection: close\r\n" } else { "" }
    );
}

/// Appends a header; one whose value would break the message is left out.
fn line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let value = value.trim_ascii();
    if is_value(value) {
        for part in [name, b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_every_page_is_the_one_it_says() {
        for status in [400, 401, 403, 404, 408, 413, 414, 431, 499, 500, 501, 502, 503, 504, 505, 999] {
            let mut out = Vec::new();
            error(status, &[], true, false, &mut out);
            let text = String::from_utf8(out).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{text}");
            assert!(
                head.starts_with(&format!("HTTP/1.1 {status} ")) && head.ends_with("Connection: close"),
                "{text}"
            );
            let mut out = Vec::new();
            error(status, &[], false, true, &mut out);
            assert!(out.ends_with(b"text/html\r\n\r\n"), "no body for HEAD, no close");
        }
    }
}

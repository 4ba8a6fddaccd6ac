//! How long the body of an HTTP/1 message is, and every rule against request smuggling that is not about single bytes.
//!
//! The rules about bytes (bare CR and LF, NUL, space before the colon, folds) are in `head.rs`, those inside a chunked body
//! in `body.rs`. Reading the body is `body.rs`. RFC 9112 6.3 is the order of the decisions here.

#[cfg(test)]
mod tests;

use crate::proto::h1::connection;
use crate::proto::h1::head::Ambiguous;
use crate::proto::h1::reason::{Reason, Refusal};
use crate::proto::headers::{HeadEdit, HeadView};
use crate::proto::http::{Known, Method, StatusCode, Version, is_token};
use crate::proto::target::{Authority, Target, TargetError, default_port};

/// How the end of a body is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// There is no body.
    None,
    /// That many bytes.
    Length(u64),
    /// Chunks, then trailers.
    Chunked,
    /// Everything until the sender closes; responses only.
    UntilClose,
    /// No messages follow: both directions are relayed as they are.
    Tunnel,
}

/// What was decided about a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// How its body ends.
    pub framing: Framing,
    /// Whether the connection that it came on must be closed after this exchange, whatever the peers wish: the message
    /// was repaired (RFC 9112 6.3), or its end is the end of the connection.
    pub must_close: bool,
}

/// What a response answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Asked {
    /// The method of the request.
    pub method: Method,
    /// Whether the request asked for another protocol; see [`connection::upgrade`].
    pub upgrade: bool,
}

type Result<T> = std::result::Result<T, Refusal>;

fn refuse<T>(reason: Reason) -> Result<T> {
    Err(Refusal::new(reason, 0))
}

/// Judges a request head: target, Host and body. With [`Ambiguous::Repair`] a Content-Length beside Transfer-Encoding is
/// deleted from the head.
pub fn request(head: &mut HeadEdit<'_>, ambiguous: Ambiguous) -> Result<Decision> {
    let view = head.view();
    let is_connect = view.method() == Method::Connect;
    let target = Target::parse(view.target(), is_connect).map_err(|error| match error {
        TargetError::Form => Refusal::new(Reason::TargetForm, 0),
        TargetError::Authority => Refusal::new(Reason::Authority, 0),
    })?;
    if target == Target::Asterisk && view.method() != Method::Options {
        return refuse(Reason::TargetForm);
    }
    // Without a Host it becomes one, where a comma is refused.
    if let Target::Absolute { authority, .. } | Target::Authority(authority) = &target
        && authority.host.contains(&b',')
    {
        return refuse(Reason::Authority);
    }
    check_host(view, &target)?;
    let decision = body_headers(head, ambiguous)?;
    match decision.framing {
        Framing::None | Framing::UntilClose => Ok(Decision { framing: Framing::None, ..decision }),
        // What a body would mean there is not defined, and it would look like the first bytes of the tunnel (RFC 9110 9.3.6).
        Framing::Length(1..) | Framing::Chunked if is_connect => refuse(Reason::ConnectBody),
        _ => Ok(decision),
    }
}

/// RFC 9112 3.2: one Host in HTTP/1.1, at most one in HTTP/1.0, well formed, and not another than the target's.
fn check_host(view: HeadView<'_>, target: &Target<'_>) -> Result<()> {
    let mut hosts = view.lines(Known::Host);
    let Some(host) = hosts.next() else {
        return if view.version() == Version::Http10 { Ok(()) } else { refuse(Reason::HostMissing) };
    };
    if hosts.next().is_some() {
        return refuse(Reason::HostRepeated);
    }
    let authority = match Authority::parse(host) {
        // A comma may stand in a name by its grammar, but means two Host headers joined on the way.
        Some(authority) if !authority.host.contains(&b',') => authority,
        None if host.is_empty() && matches!(target, Target::Origin { .. } | Target::Asterisk) => {
            return Ok(());
        }
        _ => return refuse(Reason::HostSyntax),
    };
    let is_same = match target {
        Target::Origin { .. } | Target::Asterisk => true,
        Target::Absolute { scheme, authority: wanted, .. } => {
            wanted.is_same(&authority, default_port(scheme))
        }
        // Clients differ in whether they repeat the port of a CONNECT.
        Target::Authority(wanted) => wanted.is_same(&authority, authority.port.or(wanted.port)),
    };
    if is_same { Ok(()) } else { refuse(Reason::HostDiffers) }
}

/// Judges a response head. With [`Ambiguous::Repair`] a Content-Length beside Transfer-Encoding is deleted from the head.
/// An interim response (1xx but 101) has no body and another response follows.
pub fn response(head: &mut HeadEdit<'_>, asked: Asked, ambiguous: Ambiguous) -> Result<Decision> {
    let view = head.view();
    let status = view.status().map_or(0, StatusCode::code);
    let open = |framing| Decision { framing, must_close: false };
    match status {
        101 if asked.upgrade => return Ok(open(Framing::Tunnel)),
        101 => return refuse(Reason::UnexpectedSwitch),
        100..=199 => return Ok(open(Framing::None)),
        200..=299 if asked.method == Method::Connect => return Ok(open(Framing::Tunnel)),
        _ => {}
    }
    // Also where there is no body its headers must not contradict each other: a cache or a client behind us may believe them.
    let decision = body_headers(head, ambiguous)?;
    if asked.method == Method::Head || status == 204 || status == 304 {
        return Ok(Decision { framing: Framing::None, must_close: decision.must_close });
    }
    match decision.framing {
        Framing::UntilClose => Ok(Decision { framing: Framing::UntilClose, must_close: true }),
        _ => Ok(decision),
    }
}

/// What Transfer-Encoding and Content-Length say; `UntilClose` when neither is there.
#[inline]
fn body_headers(head: &mut HeadEdit<'_>, ambiguous: Ambiguous) -> Result<Decision> {
    let view = head.view();
    if !view.may_have_any(Known::TransferEncoding.bit() | Known::ContentLength.bit()) {
        return Ok(Decision { framing: Framing::UntilClose, must_close: false });
    }
    let is_coded = view.has(Known::TransferEncoding);
    let length = content_length(view)?;
    if !is_coded {
        let framing = length.map_or(Framing::UntilClose, Framing::Length);
        return Ok(Decision { framing, must_close: false });
    }
    // An HTTP/1.0 sender cannot mean it, and recipients differ in whether they honour it (RFC 9112 6.1).
    if view.version() == Version::Http10 {
        return refuse(Reason::CodingOnHttp10);
    }
    check_codings(view)?;
    if length.is_none() {
        return Ok(Decision { framing: Framing::Chunked, must_close: false });
    }
    if ambiguous == Ambiguous::Reject {
        return refuse(Reason::LengthWithCoding);
    }
    head.delete_framing(Known::ContentLength);
    Ok(Decision { framing: Framing::Chunked, must_close: true })
}

/// The only Content-Length, digits and nothing else (RFC 9110 8.6). A repeated or listed one is refused even where all
/// values are the same.
fn content_length(view: HeadView<'_>) -> Result<Option<u64>> {
    let mut lines = view.lines(Known::ContentLength);
    let Some(line) = lines.next() else { return Ok(None) };
    if let Some(other) = lines.next() {
        return refuse(if other == line { Reason::LengthRepeated } else { Reason::LengthDiffers });
    }
    if line.contains(&b',') {
        return refuse(Reason::LengthList);
    }
    if line.is_empty() || !line.iter().all(u8::is_ascii_digit) {
        return refuse(Reason::LengthSyntax);
    }
    let mut length: u64 = 0;
    for digit in line {
        let next = length.checked_mul(10).and_then(|l| l.checked_add(u64::from(digit - b'0')));
        // Other implementations count in signed numbers.
        match next.filter(|l| *l <= i64::MAX.unsigned_abs()) {
            Some(next) => length = next,
            None => return refuse(Reason::LengthTooLarge),
        }
    }
    Ok(Some(length))
}

/// The only coding that is understood is chunked, once and last (RFC 9112 6.1).
fn check_codings(view: HeadView<'_>) -> Result<()> {
    let mut chunked = 0;
    let mut is_last = false;
    let mut others = 0;
    for line in view.lines(Known::TransferEncoding) {
        for coding in line.split(|b| *b == b',') {
            let coding = coding.trim_ascii();
            if !is_token(coding) {
                return refuse(Reason::CodingSyntax);
            }
            is_last = coding.eq_ignore_ascii_case(b"chunked");
            chunked += usize::from(is_last);
            others += usize::from(!is_last);
        }
    }
    match (chunked, is_last, others) {
        (1, true, 0) => Ok(()),
        (2.., _, _) => refuse(Reason::ChunkedRepeated),
        (_, false, _) => refuse(Reason::ChunkedNotLast),
        _ => refuse(Reason::CodingUnknown),
    }
}

/// Whether the connection that a message came on stays open after this exchange, as far as the message decides it.
pub fn stays_open(view: HeadView<'_>, decision: &Decision) -> bool {
    !decision.must_close && connection::is_persistent(view)
}

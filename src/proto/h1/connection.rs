//! What a head says about its own connection, and taking that out before the message goes on. RFC 9110 7.6.1 and 7.8.

use crate::proto::headers::{HeadEdit, HeadView};
use crate::proto::http::{Known, Method, Name, Version};

/// Whether the sender is ready for another message on this connection (RFC 9112 9.3).
pub fn is_persistent(view: HeadView<'_>) -> bool {
    match view.version() {
        Version::Http10 => {
            view.has_token(Known::Connection, b"keep-alive") && !view.has_token(Known::Connection, b"close")
        }
        _ => !view.has_token(Known::Connection, b"close"),
    }
}

/// The protocols that a request asks to switch to, if it may: not HTTP/1.0, Connection names Upgrade, and none of them is
/// HTTP/2, which would hide further requests from us (`h2c` smuggling). In a request of HTTP/2 only `h2::head` writes a
/// Connection header: for an extended CONNECT.
pub fn upgrade<'a>(view: HeadView<'a>) -> Option<&'a [u8]> {
    let protocols = view.line(Known::Upgrade).filter(|p| !p.is_empty())?;
    let is_http = |p: &[u8]| {
        p.eq_ignore_ascii_case(b"h2c") || p.get(..5).is_some_and(|p| p.eq_ignore_ascii_case(b"HTTP/"))
    };
    let may = view.version() != Version::Http10
        && view.method() != Method::Connect
        && view.has_token(Known::Connection, b"upgrade")
        && !view.values(Known::Upgrade).any(is_http);
    may.then_some(protocols)
}

/// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 10.1.1).
pub fn expects_continue(view: HeadView<'_>) -> bool {
    view.version() != Version::Http10 && view.has_token(Known::Expect, b"100-continue")
}

/// Deletes what is meant for this hop: Connection, what it names, Keep-Alive, Proxy-Connection, TE but `trailers`,
/// HTTP2-Settings, and Upgrade unless `keep_upgrade`. Lines that rules added stay, whatever the sender's Connection names.
pub fn strip_hop_by_hop(head: &mut HeadEdit<'_>, keep_upgrade: bool) {
    const HOP: u128 = Known::Connection.bit()
        | Known::KeepAlive.bit()
        | Known::ProxyConnection.bit()
        | Known::Http2Settings.bit()
        | Known::Upgrade.bit()
        | Known::Te.bit();
    if !head.view().may_have_any(HOP) {
        return;
    }
    if head.view().has(Known::Connection) {
        strip_named(head, keep_upgrade);
        head.delete(Known::Connection);
    }
    for known in [Known::KeepAlive, Known::ProxyConnection, Known::Http2Settings] {
        head.delete(known);
    }
    if !keep_upgrade {
        head.delete(Known::Upgrade);
    }
    let view = head.view();
    if view.has(Known::Te) {
        let has_trailers = view.has_token(Known::Te, b"trailers");
        if !has_trailers {
            head.delete(Known::Te);
        } else if view.value_count(Known::Te) > 1 {
            // One line of eight bytes: there is room for it unless rules filled the arena, and then TE just goes.
            head.delete(Known::Te);
            let _ = head.add(Known::Te, b"trailers");
        }
    }
}

/// Deletes received lines that Connection names. Not those that frame or route the message: a sender that names them
/// wants us to forward something else than we read.
fn strip_named(head: &mut HeadEdit<'_>, keep_upgrade: bool) {
    const NEVER: [Known; 5] =
        [Known::Host, Known::ContentLength, Known::TransferEncoding, Known::Connection, Known::Te];
    let is_usual = |token: &[u8]| {
        token.eq_ignore_ascii_case(b"keep-alive")
            || token.eq_ignore_ascii_case(b"close")
            || token.eq_ignore_ascii_case(b"upgrade")
            || token.eq_ignore_ascii_case(b"te")
    };
    if head.view().values(Known::Connection).all(is_usual) {
        return;
    }
    let names = head.collect_values(Known::Connection);
    for token in names.split(|b| *b == b',') {
        match Name::of(token.trim_ascii()) {
            Name::Known(known) if NEVER.contains(&known) || (keep_upgrade && known == Known::Upgrade) => {}
            name => {
                head.delete_received(name);
            }
        }
    }
    head.give_back(names);
}

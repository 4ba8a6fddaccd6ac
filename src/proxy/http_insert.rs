//! Headers that the proxy itself adds to messages or changes in them: the client's address, ids, and the cookie of persistence.
//! Which cookie means what is `policy::persist`'s to decide.

use std::io::Write;
use std::net::IpAddr;

use crate::base::id::{BackendId, ServerId};
use crate::base::net::Addr;
use crate::model::http::{AddressHeader, HttpBackend, Insert};
use crate::policy::persist::{self, Binding, Found, RequestEdit, ResponseEdit, Set};
use crate::proto::cookie::{self, SetCookie};
use crate::proto::headers::{EditError, Head};
use crate::proto::http::{Known, Method, Name};
use crate::proxy::log;
use crate::proxy::session::Session;

/// `forwardfor`, `originalto`, `forwarded`: once a request, whether frontend, backend or both say so. The name is the
/// backend's; exceptions of both hold.
pub(super) fn addresses(
    session: &Session,
    (frontend, backend): (&Insert, &Insert),
    head: &mut Head,
    bytes: &[u8],
    text: &mut Vec<u8>,
) -> Result<(), EditError> {
    let is_plain =
        |insert: &Insert| insert.forward_for.is_none() && insert.original_to.is_none() && !insert.forwarded;
    if is_plain(frontend) && is_plain(backend) {
        return Ok(());
    }
    let (src, dst) = session.with_conn(|facts| (facts.src, facts.dst));
    for (own, other, address) in [
        (&backend.forward_for, &frontend.forward_for, src),
        (&backend.original_to, &frontend.original_to, dst),
    ] {
        if let (Some(header), Some(ip)) = (own.as_ref().or(other.as_ref()), address.ip())
            && [own, other].into_iter().flatten().all(|header| applies(header, ip, head, bytes))
        {
            text.clear();
            write_ip(ip, text);
            head.edit(bytes).add_as(&header.name, text)?;
        }
    }
    if frontend.forwarded || backend.forwarded {
        text.clear();
        text.extend_from_slice(b"proto=http;for=");
        match src {
            Addr::Ip(address) => match address.ip().to_canonical() {
                IpAddr::V4(ip) => write_ip(IpAddr::V4(ip), text),
                // Writing to memory does not fail.
                IpAddr::V6(ip) => drop(write!(text, "\"[{ip}]\"")),
            },
            Addr::Unix | Addr::Unknown => text.extend_from_slice(b"unknown"),
        }
        head.edit(bytes).add_as(b"Forwarded", text)?;
    }
    Ok(())
}

/// A client of HTTP/1.0 may leave Host out, but what goes on is HTTP/1.1, where servers refuse a request without one or with an empty
/// one: it gets the address that the client connected to, which is all that such a client said about whom it wants.
pub(super) fn host(
    session: &Session,
    head: &mut Head,
    bytes: &[u8],
    text: &mut Vec<u8>,
) -> Result<(), EditError> {
    let view = head.view(bytes);
    let is_known = view.has(Known::Host) || !view.target().starts_with(b"/");
    if is_known || view.method() == Method::Connect {
        return Ok(());
    }
    text.clear();
    match session.with_conn(|facts| facts.dst) {
        Addr::Ip(address) => {
            match address.ip().to_canonical() {
                IpAddr::V4(ip) => write_ip(IpAddr::V4(ip), text),
                // Writing to memory does not fail.
                IpAddr::V6(ip) => drop(write!(text, "[{ip}]")),
            }
            if address.port() != 80 {
                let _ = write!(text, ":{}", address.port());
            }
        }
        Addr::Unix | Addr::Unknown => text.extend_from_slice(b"localhost"),
    }
    head.edit(bytes).add_as(b"Host", text)
}

fn applies(header: &AddressHeader, ip: IpAddr, head: &Head, bytes: &[u8]) -> bool {
    let is_there = header.if_none && head.view(bytes).has(Name::of(&header.name));
    !is_there && !header.except.iter().any(|network| network.contains(ip))
}

/// Writes an address; IPv4 without the machinery of formatting, because every request does it.
fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => {
            for (at, byte) in ip.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                if byte >= 100 {
                    out.push(b'0' + byte / 100);
                }
                if byte >= 10 {
                    out.push(b'0' + byte / 10 % 10);
                }
                out.push(b'0' + byte % 10);
            }
        }
        // Writing to memory does not fail.
        IpAddr::V6(ip) => drop(write!(out, "{ip}")),
    }
}

/// Looks at the persistence cookie of a request and hides from the server what is ours.
pub(super) fn persist_request(
    session: &Session,
    backend: BackendId,
    http: &HttpBackend,
    binding: Binding,
    (head, bytes): (&mut Head, &[u8]),
    text: &mut Vec<u8>,
) -> Result<persist::Request, EditError> {
    let Some(spec) = &http.cookie else { return Ok(persist::Request::NONE) };
    let name = spec.name.as_bytes();
    let value = head.view(bytes).lines(Known::Cookie).find_map(|line| Some(cookie::find(line, name)?.value));
    let Some(value) = value else {
        let mut request = persist::Request::NONE;
        if binding == Binding::Ignore {
            request.found = Found::Unused;
        }
        return Ok(request);
    };
    let request = session.core.with_cookies(backend, |table| {
        persist::on_request(spec, table, value, binding, session.unix_s(), |server| takes(session, server))
    });
    match request.edit {
        RequestEdit::Keep => {}
        RequestEdit::Remove => {
            let mut is_empty = false;
            head.edit(bytes).rewrite_lines(Known::Cookie, |line, out| {
                let Some(pair) = cookie::find(line, name) else { return false };
                cookie::without(line, &pair, out);
                is_empty |= out.is_empty();
                true
            })?;
            if is_empty {
                head.edit(bytes).delete_lines(Known::Cookie, <[u8]>::is_empty);
            }
        }
        RequestEdit::KeepFrom(at) => {
            text.clear();
            head.edit(bytes).rewrite_lines(Known::Cookie, |line, out| {
                let Some(pair) = cookie::find(line, name) else { return false };
                cookie::with_value(line, &pair, pair.value.get(at..).unwrap_or_default(), out);
                true
            })?;
        }
    }
    Ok(request)
}

/// Drained servers keep the clients that persistence sends them.
fn takes(session: &Session, server: ServerId) -> bool {
    let live = &session.core.live.servers[server];
    live.is_up() && live.admin() != crate::live::AdminState::Maint
}

/// Sets the persistence cookie in a response, and changes the one that the server set.
pub(super) fn persist_response(
    session: &Session,
    backend: BackendId,
    http: &HttpBackend,
    answered: (&persist::Request, ServerId, Method),
    (head, bytes): (&mut Head, &[u8]),
    text: &mut Vec<u8>,
) -> Result<(), EditError> {
    let Some(spec) = &http.cookie else { return Ok(()) };
    let (request, server, method) = answered;
    let name = spec.name.as_bytes();
    let is_ours = |line: &[u8]| SetCookie::parse(line).is_some_and(|c| c.name == name);
    session.core.with_cookies(backend, |table| {
        let server_cookie = table.cookie(server);
        let server_sets_it = head.view(bytes).lines(Known::SetCookie).any(is_ours);
        if server_sets_it {
            let edit = persist::on_set_cookie(spec, request, server_cookie);
            log::on_cookie(
                session,
                match edit {
                    ResponseEdit::Keep => b'P',
                    ResponseEdit::Remove => b'D',
                    ResponseEdit::Replace | ResponseEdit::Prefix => b'R',
                },
            );
            match edit {
                ResponseEdit::Keep => {}
                ResponseEdit::Remove => {
                    head.edit(bytes).delete_lines(Known::SetCookie, is_ours);
                }
                edit @ (ResponseEdit::Replace | ResponseEdit::Prefix) => {
                    head.edit(bytes).rewrite_lines(Known::SetCookie, |line, out| {
                        let Some(cookie) = SetCookie::parse(line).filter(|c| c.name == name) else {
                            return false;
                        };
                        out.extend_from_slice(&line[..cookie.value_range.start]);
                        out.extend_from_slice(server_cookie.unwrap_or_default());
                        if edit == ResponseEdit::Prefix {
                            out.push(b'~');
                            out.extend_from_slice(cookie.value);
                        }
                        out.extend_from_slice(&line[cookie.value_range.end..]);
                        true
                    })?;
                }
            }
        }
        text.clear();
        let is_post = method == Method::Post;
        let unix_s = session.unix_s();
        let response = persist::Response { request, server, server_cookie, server_sets_it, is_post, unix_s };
        match persist::write_set_cookie(spec, &response, text) {
            Set::Nothing => return Ok(()),
            set => {
                log::on_cookie(session, if set == Set::Inserted { b'I' } else { b'U' });
                head.edit(bytes).add_as(b"Set-Cookie", text)?;
            }
        }
        // A cache in front of us must not give one client's server to all.
        if spec.nocache {
            head.edit(bytes).add_as(b"Cache-Control", b"private")?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_usual() {
        for text in ["0.0.0.0", "9.10.99.100", "255.255.255.255", "192.0.2.1", "::1", "2001:db8::10"] {
            let mut out = Vec::new();
            write_ip(text.parse().expect("an address"), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), text);
        }
    }
}

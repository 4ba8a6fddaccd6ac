//! Receives the PROXY header of a trusted peer and writes the one for a server.

use crate::base::limits::PROXY_HEADER_BYTES_MAX;
use crate::base::net::Addr;
use crate::base::time::Now;
use crate::model::{Bind, SendProxy};
use crate::policy::sample::{ConnError, ConnFacts};
use crate::proto::proxy_header::{
    self, Command, ProxyHeader, ProxyHeaderError, V2_BYTES_MIN, V2Fields, V2Ssl,
};
use crate::proto::{Parsed, client_hello};
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::first_bytes::FirstBuf;
use crate::proxy::session::Session;
use crate::rt;

const BAD: End = End::new(Side::Client, Phase::Inspect, Kind::ProxyHeader);

/// Waits for the header if the peer is one that must send it. What follows the header stays in `first`.
pub(super) async fn receive(session: &Session, first: &mut FirstBuf) -> Result<(), End> {
    let info = &session.info;
    if !must_send(session.bind(), &info.conn_facts().src) {
        return Ok(());
    }
    let deadline: Option<Now> = session.frontend().timeout_client.map(|t| info.started + t);
    let failed = |error: ConnError, end: End| {
        info.error.set(error);
        end
    };
    loop {
        // What came already makes it a header that was cut short, whatever cut it.
        let is_cut = !first.bytes().is_empty();
        let cut_or = |error| if is_cut { ConnError::ProxyTruncated } else { error };
        let received = rt::with_deadline(info.conn().recv(), deadline).await;
        let timeout = End::new(Side::Client, Phase::Inspect, Kind::Timeout);
        let data = received
            .map_err(|_| failed(cut_or(ConnError::ProxyTimeout), timeout))?
            .map_err(|e| failed(cut_or(ConnError::ProxyAbort), End::io(Side::Client, Phase::Inspect, &e)))?;
        first.push(data.ok_or_else(|| failed(cut_or(ConnError::ProxyEmpty), BAD))?);
        match proxy_header::parse(first.bytes()) {
            Ok(Parsed::Complete { value, len }) => {
                let facts = facts_of(&value, info.conn_facts());
                info.set_proxied(facts);
                first.consume(len);
                return Ok(());
            }
            Ok(Parsed::Partial) if first.bytes().len() < PROXY_HEADER_BYTES_MAX => {}
            Err(ProxyHeaderError::Signature { .. }) => return Err(failed(ConnError::ProxyMissing, BAD)),
            Ok(Parsed::Partial) | Err(_) => return Err(failed(ConnError::ProxyBad, BAD)),
        }
    }
}

/// Only these peers are believed; who is not listed speaks for itself.
fn must_send(bind: &Bind, peer: &Addr) -> bool {
    let Some(trusted) = &bind.accept_proxy else { return false };
    match peer.ip() {
        Some(ip) => trusted.iter().any(|network| network.contains(ip)),
        // Over a UNIX socket the file's permissions are the trust.
        None => true,
    }
}

fn facts_of(header: &ProxyHeader<'_>, real: &ConnFacts) -> ConnFacts {
    let speaks = header.command == Command::Proxy && header.source != Addr::Unknown;
    let (src, dst) = if speaks { (header.source, header.destination) } else { (real.src, real.dst) };
    ConnFacts {
        src,
        dst,
        rcvd_proxy: true,
        pp_authority: header.tlvs.authority().map(<[u8]>::to_vec),
        pp_unique_id: header.tlvs.unique_id().map(<[u8]>::to_vec),
    }
}

/// The header for a server. `first`: what the client sent so far; the name in a ClientHello is what it asked for.
pub(super) fn for_server(options: SendProxy, session: &Session, first: &[u8]) -> Vec<u8> {
    session.with_conn(|facts| write(options, facts, session.info.id, first))
}

fn write(options: SendProxy, facts: &ConnFacts, id: u64, first: &[u8]) -> Vec<u8> {
    // Two values of up to 255 bytes (a host name) and 128 bytes (an id) fit beside the largest addresses.
    let mut out = vec![0; V2_BYTES_MIN + 512];
    let written = match options {
        SendProxy::V1 => proxy_header::encode_v1(&facts.src, &facts.dst, &mut out),
        SendProxy::V2 { crc32c, authority, unique_id, ssl } => {
            let mut scratch = Vec::new();
            let sni = match client_hello::parse(first, &mut scratch) {
                Ok(Parsed::Complete { value, .. }) if authority => value.sni.map(str::as_bytes),
                _ => None,
            };
            let own_id = format!("{id:016x}");
            let fields = V2Fields {
                alpn: None,
                authority: sni.or(facts.pp_authority.as_deref()).filter(|a| authority && a.len() <= 255),
                unique_id: unique_id.then_some(facts.pp_unique_id.as_deref().unwrap_or(own_id.as_bytes())),
                // A client that connected in clear goes without a version, as the specification wants it.
                ssl: ssl.then(V2Ssl::default),
                crc32c,
            };
            proxy_header::encode_v2(&facts.src, &facts.dst, &fields, &mut out)
        }
    };
    out.truncate(written.expect("sized for the largest header above"));
    out
}

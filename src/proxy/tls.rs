//! TLS with clients and servers: handshakes, what they count as, what rules read of them, and an answer for those who speak plain HTTP where TLS is
//! spoken.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::base::id::{BackendId, ServerId};
use crate::model::Mode;
use crate::policy::sample::{ConnError, DnPart, Kind as ValueKind, TlsAnswer, TlsFetch};
use crate::proxy::core::Core;
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::first_bytes::FirstBuf;
use crate::proxy::http::http_of;
use crate::proxy::reply;
use crate::proxy::session::Session;
use crate::rt;
use crate::stats::process::CoreStat;
use crate::stats::table::Stat;
use crate::tls::{self, Failure, Field, Part, Transport, Whose};

const BROKEN: End = End::new(Side::Client, Phase::Inspect, Kind::Handshake);

/// Shakes hands where the bind speaks TLS. `first` holds what came behind a PROXY header; afterwards it is empty.
pub(super) async fn accept(session: &Session, first: &mut FirstBuf) -> Result<(), End> {
    let (core, info) = (&session.core, &session.info);
    let binds = core.tls.borrow().clone();
    let Some(bind) = binds.get(info.bind) else { return Ok(()) };
    let first = std::mem::take(first).bytes().to_vec();
    let deadline = session.frontend().timeout_client_hs.map(|t| rt::now() + t);
    let result = rt::with_deadline(tls::accept(info.conn(), bind, first), deadline).await;
    let failure = match result {
        Ok(Ok(())) => {
            count_done(session);
            return Ok(());
        }
        Ok(Err(failure)) => failure,
        Err(rt::Elapsed) => {
            count_failed(session, Stat::TlsTimeouts);
            session.info.error.set(ConnError::TlsTimeout);
            return Err(BROKEN);
        }
    };
    let reason = match &failure {
        Failure::Closed | Failure::Io(_) => Stat::TlsAborts,
        Failure::NotTls(_) => Stat::TlsNotTls,
        Failure::UnknownName(_) => Stat::TlsUnknownNames,
        Failure::Tls(rustls) => failed_by(rustls),
    };
    count_failed(session, reason);
    session.info.error.set(error_of(&failure));
    if let Failure::NotTls(bytes) = failure
        && session.frontend().mode == Mode::Http
        && looks_like_http(&bytes)
    {
        refuse_plain(session).await;
    }
    Err(BROKEN)
}

fn count_done(session: &Session) {
    let Some(facts) = session.info.conn().tls() else { return };
    let shard = session.core.shard();
    let (frontend, bind) = (&shard.frontends[session.info.frontend], &shard.listeners[session.info.bind]);
    let both = |stat| {
        frontend.count(stat);
        bind.count(stat);
    };
    both(Stat::TlsHandshakes);
    shard.core.count(CoreStat::TlsTotal);
    if facts.is_resumed() {
        both(Stat::TlsResumed);
        shard.core.count(CoreStat::TlsClientResumed);
    } else {
        shard.core.count(CoreStat::TlsClientKeys);
    }
    if facts.is_tls13() {
        both(Stat::Tls13);
    }
    if facts.is_early() {
        both(Stat::TlsEarly);
    }
    match facts.alpn() {
        Some(b"h2") => both(Stat::TlsAlpnH2),
        Some(b"http/1.1") => both(Stat::TlsAlpnH1),
        _ => {}
    }
}

fn count_failed(session: &Session, reason: Stat) {
    let shard = session.core.shard();
    let (frontend, bind) = (&shard.frontends[session.info.frontend], &shard.listeners[session.info.bind]);
    for stat in [Stat::TlsFailed, reason] {
        frontend.count(stat);
        bind.count(stat);
    }
}

/// The counter of what went wrong.
fn failed_by(error: &rustls::Error) -> Stat {
    use rustls::Error as E;
    match error {
        E::NoCertificatesPresented | E::InvalidCertificate(_) | E::InvalidCertRevocationList(_) => {
            Stat::TlsBadCertificates
        }
        E::AlertReceived(_) => Stat::TlsAlerts,
        E::PeerIncompatible(_) | E::NoApplicationProtocol => Stat::TlsIncompatible,
        _ => Stat::TlsMalformed,
    }
}

/// What logs call it.
fn error_of(failure: &Failure) -> ConnError {
    use rustls::{CertificateError, Error as E};
    match failure {
        Failure::Closed => ConnError::TlsEmpty,
        Failure::Io(_) => ConnError::TlsAbort,
        Failure::Tls(E::InvalidCertificate(CertificateError::UnknownIssuer)) => ConnError::TlsIssuer,
        Failure::Tls(E::InvalidCertificate(_) | E::InvalidCertRevocationList(_)) => ConnError::TlsCertificate,
        Failure::Tls(_) | Failure::NotTls(_) | Failure::UnknownName(_) => ConnError::TlsHandshake,
    }
}

/// Whether the bytes are the beginning of a request in plain text.
fn looks_like_http(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().take(16).all(|b| b.is_ascii_graphic() || b" \r\n".contains(b))
}

/// Says in plain text what is wrong: a browser shows it, where TLS bytes would be an empty page.
async fn refuse_plain(session: &Session) {
    let pages = [&http_of(session.frontend()).error_pages];
    let mut out = Vec::new();
    reply::plain_on_tls(&pages, &mut out);
    session.count_status(400, None);
    session.count_out(out.len() as u64);
    // Whoever is gone misses nothing.
    let _ = session.info.conn().send_all(out).await;
    let _ = session.info.conn().shutdown_write();
    // Closing over bytes that were not read would reset the connection and the answer with it.
    let deadline = Some(rt::now() + LINGER);
    let drained = async { while let Ok(Some(_)) = session.info.conn().recv().await {} };
    let _ = rt::with_deadline(drained, deadline).await;
}

/// How long a client may take to read the refusal.
const LINGER: std::time::Duration = std::time::Duration::from_secs(1);

/// What rules read of the client's TLS connection.
pub(super) fn answer(facts: &tls::Facts, fetch: &TlsFetch, out: &mut Vec<u8>) -> Option<TlsAnswer> {
    let mut text = |text: &[u8]| {
        out.extend_from_slice(text);
        Some(TlsAnswer::Written(ValueKind::Str))
    };
    match fetch {
        TlsFetch::Protocol => text(facts.protocol().as_bytes()),
        TlsFetch::Cipher => text(facts.cipher().as_bytes()),
        TlsFetch::Curve => text(facts.curve()?.as_bytes()),
        TlsFetch::Sni => text(facts.sni()?.as_bytes()),
        TlsFetch::Alpn => text(facts.alpn()?),
        TlsFetch::IsResumed => Some(TlsAnswer::Bool(facts.is_resumed())),
        TlsFetch::HasEarly => Some(TlsAnswer::Bool(facts.is_early())),
        TlsFetch::HasCertificate => Some(TlsAnswer::Bool(!facts.chain().is_empty())),
        TlsFetch::NoError => Some(TlsAnswer::Int(0)),
        TlsFetch::Verify => Some(TlsAnswer::Int(facts.problem().worst.into())),
        TlsFetch::OwnError => Some(TlsAnswer::Int(facts.problem().own.into())),
        TlsFetch::AuthorityError => Some(TlsAnswer::Int(facts.problem().authority.into())),
        TlsFetch::AuthorityErrorDepth => Some(TlsAnswer::Int(facts.problem().depth.into())),
        TlsFetch::Shown(fetch) => certificate((facts, Whose::Ours), fetch, out),
        _ => certificate((facts, Whose::Peer), fetch, out),
    }
}

/// What they read of a certificate.
fn certificate(
    (facts, whose): (&tls::Facts, Whose),
    fetch: &TlsFetch,
    out: &mut Vec<u8>,
) -> Option<TlsAnswer> {
    let chain = match whose {
        Whose::Peer => facts.chain(),
        Whose::Ours => facts.shown()?,
    };
    let first = chain.first()?;
    let field = match fetch {
        TlsFetch::Subject(part) => Field::Subject(part_of(part)),
        TlsFetch::Issuer(part) => Field::Issuer(part_of(part)),
        TlsFetch::NotBefore(false) => Field::NotBefore,
        TlsFetch::NotBefore(true) => Field::NotBeforeIso,
        TlsFetch::NotAfter(false) => Field::NotAfter,
        TlsFetch::NotAfter(true) => Field::NotAfterIso,
        TlsFetch::SignatureAlgorithm => Field::SignatureAlgorithm,
        TlsFetch::KeyAlgorithm => Field::KeyAlgorithm,
        TlsFetch::Version => {
            let start = out.len();
            facts.certificate(whose, &Field::Version, out);
            let number = std::str::from_utf8(&out[start..]).ok().and_then(|text| text.parse().ok());
            out.truncate(start);
            return number.map(TlsAnswer::Int);
        }
        TlsFetch::Serial => {
            let is_there = facts.certificate(whose, &Field::Serial, out);
            return is_there.then_some(TlsAnswer::Written(ValueKind::Bin));
        }
        _ => {
            match fetch {
                TlsFetch::Der => out.extend_from_slice(first),
                TlsFetch::ChainDer => chain.iter().for_each(|der| out.extend_from_slice(der)),
                TlsFetch::Sha1 => out.extend_from_slice(&Sha1::digest(first)),
                TlsFetch::Sha256 => out.extend_from_slice(&Sha256::digest(first)),
                _ => return None,
            }
            return Some(TlsAnswer::Written(ValueKind::Bin));
        }
    };
    facts.certificate(whose, &field, out).then_some(TlsAnswer::Written(ValueKind::Str))
}

fn part_of(part: &DnPart) -> Part<'_> {
    match part {
        DnPart::Whole => Part::Whole,
        DnPart::Rfc2253 => Part::Rfc2253,
        DnPart::Attribute(name) => Part::Attribute(name),
    }
}

/// Shakes hands with a server that speaks TLS; what came of it is counted there. `name`: whom it is asked for, if an expression says it.
pub(super) async fn connect(
    core: &Core,
    (backend, server): (BackendId, ServerId),
    transport: &Transport,
    name: Option<&str>,
) -> Result<(), Failure> {
    let servers = core.tls_servers.borrow().clone();
    let Some(connector) = servers.get(server) else { return Ok(()) };
    let result = tls::connect(transport, connector, name).await;
    let shard = core.shard();
    let both = |stat| {
        shard.backends[backend].count(stat);
        shard.servers[server].count(stat);
    };
    match &result {
        Ok(()) => {
            both(Stat::TlsHandshakes);
            shard.core.count(CoreStat::TlsTotal);
            if let Some(facts) = transport.tls() {
                if facts.is_resumed() {
                    both(Stat::TlsResumed);
                } else {
                    shard.core.count(CoreStat::TlsServerKeys);
                }
                if facts.is_tls13() {
                    both(Stat::Tls13);
                }
            }
        }
        Err(failure) => {
            both(Stat::TlsFailed);
            both(match failure {
                Failure::Tls(rustls) => failed_by(rustls),
                _ => Stat::TlsAborts,
            });
        }
    }
    result
}

//! TLS with clients: the handshake of a session, what it counts as, and an answer for those who speak plain HTTP where TLS is
//! spoken.

use crate::model::Mode;
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::first_bytes::FirstBuf;
use crate::proxy::http::http_of;
use crate::proxy::reply;
use crate::proxy::session::Session;
use crate::rt;
use crate::stats::table::Stat;
use crate::tls::{self, Failure};

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
    if facts.is_resumed() {
        both(Stat::TlsResumed);
    }
    if facts.is_tls13() {
        both(Stat::Tls13);
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

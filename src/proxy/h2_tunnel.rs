//! Bytes both ways between a stream of HTTP/2 and a connection to a server, after an answered CONNECT or a WebSocket
//! handshake (RFC 9113 8.5, RFC 8441). `relay` does the same between two connections.

use std::future::poll_fn;
use std::task::Poll;

use crate::policy::http_action::TimeoutName;
use crate::proto::h1::framing::Framing;
use crate::proto::h1::outgoing::BodyForm;
use crate::proxy::client_h1::Client;
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::exchange::{self, Job};
use crate::proxy::forward::{Broken, Pump, Source, Waits};
use crate::proxy::idle::{Upstream, Wire};
use crate::proxy::session::Session;

/// Relays until both directions are over or something ends them.
pub(super) async fn run(session: &Session, client: &mut Client, job: &Job, up: &mut Upstream) -> End {
    let Some(stream) = &client.stream else { return End::new(Side::Proxy, Phase::Data, Kind::Resource) };
    let frontend = session.frontend();
    let settings = &session.core.model.backends[job.backend];
    let mut upload = Pump::of_stream(Some(&stream.incoming), Framing::Tunnel, BodyForm::DataOnly);
    let mut download = Pump::new(Framing::UntilClose, BodyForm::DataOnly);
    let broken = End::new(Side::Server, Phase::Data, Kind::Malformed);
    let (mut uploading, mut downloading) = (true, true);
    let mut first = None;
    let client_timeout = session.timeout_client();
    let server_timeout = session.timeout(TimeoutName::Server, settings.timeout_server);
    let tunnel_timeout = session.timeout(TimeoutName::Tunnel, settings.timeout_tunnel);
    poll_fn(|cx| {
        if uploading {
            let polled = exchange::poll_upload(cx, session, client, up, &mut upload, job.backend);
            if let Poll::Ready(result) = polled {
                match result {
                    Ok(()) => {}
                    Err(Broken::Sink(e)) => return Poll::Ready(End::io(Side::Server, Phase::Data, &e)),
                    Err(_) => return Poll::Ready(End::new(Side::Client, Phase::Data, Kind::Abort)),
                }
                // The last bytes are with the kernel already, or ahead of the half-close in its order.
                let Wire::Conn(conn) = &up.wire else { return Poll::Ready(broken) };
                if let Poll::Ready((sent, _)) = up.link.sending.poll(conn, cx) {
                    uploading = false;
                    first.get_or_insert(Side::Client);
                    if sent.is_err() || conn.shutdown_write().is_err() {
                        return Poll::Ready(End::new(Side::Server, Phase::Data, Kind::Abort));
                    }
                }
            }
        }
        if downloading {
            let before = (download.taken, download.given);
            let Wire::Conn(conn) = &up.wire else { return Poll::Ready(broken) };
            let source = Source::Conn(conn, &mut up.link);
            let polled = client.poll_download(cx, session, &mut download, source);
            session.count_response_in(download.taken - before.0, job.backend, up.server);
            session.count_out(download.given - before.1);
            match polled {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => {
                    downloading = false;
                    first.get_or_insert(Side::Server);
                }
                Poll::Ready(Err(Broken::Sink(e))) => {
                    return Poll::Ready(End::io(Side::Client, Phase::Data, &e));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(End::new(Side::Server, Phase::Data, Kind::Abort)),
            }
        }
        if !uploading && !downloading {
            return Poll::Ready(End::new(first.unwrap_or(Side::Client), Phase::Data, Kind::Normal));
        }
        let side = if downloading && download.waits == Waits::Source { Side::Server } else { Side::Client };
        let timeout = match (uploading, downloading) {
            (true, true) => tunnel_timeout.or(match side {
                Side::Client => client_timeout,
                _ => server_timeout,
            }),
            (false, _) => settings.timeout_server_fin.or(tunnel_timeout).or(server_timeout),
            (true, false) => frontend.timeout_client_fin.or(tunnel_timeout).or(client_timeout),
        };
        let deadline = timeout.map(|t| download.active.max(upload.active) + t);
        client.patience.poll(cx, deadline).map(|()| End::new(side, Phase::Data, Kind::Timeout))
    })
    .await
}

//! A core that serves one client that is not there.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use crate::base::id::ListenerId;
use crate::base::net::Addr;
use crate::policy::sample::ConnFacts;
use crate::proto::proxy_header::{self, V2_BYTES_MIN, V2Fields};
use crate::proxy::core::CoreBase;
use crate::proxy::explain::{Explained, TlsSeen, Trace};
use crate::proxy::log::LogSetup;
use crate::proxy::worker::{Setup, handle};
use crate::proxy::{listener, session};
use crate::rt::{self, Conn};
use crate::tls::{Asker, Shown};

/// How long the client waits for an answer: longer than anything in the proxy but its own timeouts.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer that are shown.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The bind that it comes to.
    pub bind: ListenerId,
    /// Who sends it, and where to.
    pub peer: ConnFacts,
    /// What a PROXY header says in front of it; `None`: there is none.
    pub proxied: Option<(Addr, Addr)>,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// How the client shakes hands, and the name that it asks for; `None`: it does not speak TLS.
    pub tls: Option<(Asker, String)>,
}

/// Serves what is asked, one after the other, up to the choice of a server, with the settings of a core that nobody else uses.
///
/// # Errors
/// No sockets or no thread for a client.
pub async fn explain(setup: Setup, log: LogSetup, asks: Vec<Ask>) -> io::Result<Vec<Explained>> {
    let Setup { core, generation, inbox, peers, control } = setup;
    let base = CoreBase::start(core, peers, control, log, generation);
    let inbox = inbox.receiver();
    // Threads that check passwords answer by mail.
    let mail = async {
        loop {
            handle(&base, inbox.recv().await);
        }
    };
    let all = async {
        let mut explained = Vec::with_capacity(asks.len());
        for ask in asks {
            explained.push(one(&base, ask).await?);
        }
        Ok(explained)
    };
    match rt::select(Box::pin(all), Box::pin(mail)).await {
        rt::Either::First(explained) => explained,
        rt::Either::Second(never) => never,
    }
}

async fn one(base: &Rc<CoreBase>, ask: Ask) -> io::Result<Explained> {
    let trace = base.trace.get_or_init(Trace::default);
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let Ask { bind, peer, proxied, bytes, tls } = ask;
    let mut header = Vec::new();
    if let Some((source, destination)) = proxied {
        header.resize(V2_BYTES_MIN, 0);
        let len = proxy_header::encode_v2(&source, &destination, &V2Fields::default(), &mut header)
            .map_err(|_| io::Error::other("the PROXY header is too long"))?;
        header.truncate(len);
    }
    let thread = std::thread::Builder::new().name("explain".to_owned());
    let client = thread.spawn(move || match tls {
        None => (None, client(theirs, &[header, bytes].concat())),
        Some((asker, name)) => client_of_tls(theirs, &header, &bytes, &asker, name),
    })?;
    let current = base.current();
    listener::enter_anyway(&current, bind);
    let conn = Conn::from_fd(OwnedFd::from(ours));
    session::explain(&current, bind, conn, peer).await;
    // The ring closes the socket, so it has to turn while the client reads to the end.
    while !client.is_finished() {
        rt::yield_now().await;
    }
    let (tls, received) = client.join().unwrap_or_default();
    let (lists, decision) = trace.take();
    let answer = Some(received).filter(|bytes| !bytes.is_empty());
    let answer = answer.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Explained { lists, decision, tls, answer, notes: Vec::new() })
}

/// The same over TLS, behind a PROXY header in the clear.
fn client_of_tls(
    mut socket: UnixStream,
    header: &[u8],
    bytes: &[u8],
    asker: &Asker,
    name: String,
) -> (Option<TlsSeen>, Vec<u8>) {
    let _ = socket.set_read_timeout(Some(PATIENCE));
    let _ = socket.write_all(header);
    let talked = asker.talk(&mut socket, bytes, ANSWER_BYTES_MAX, |socket| {
        let _ = socket.shutdown(Shutdown::Write);
    });
    match talked {
        Ok((shown, received)) => {
            let (certificate, not_after) = shown.certificate().unzip();
            let Shown { protocol, cipher, alpn, .. } = shown;
            (Some(TlsSeen { name, certificate, not_after, protocol, cipher, alpn, error: None }), received)
        }
        Err(error) => {
            (Some(TlsSeen { name, error: Some(error.to_string()), ..TlsSeen::default() }), Vec::new())
        }
    }
}

/// Sends and receives until the proxy closes. Whatever fails, the proxy has seen what it has seen.
fn client(mut socket: UnixStream, bytes: &[u8]) -> Vec<u8> {
    let _ = socket.set_read_timeout(Some(PATIENCE));
    let _ = socket.write_all(bytes);
    let mut received = vec![0; 1];
    if !matches!(socket.read(&mut received), Ok(1)) {
        return Vec::new();
    }
    // There is an answer: the proxy need not wait for another request.
    let _ = socket.shutdown(Shutdown::Write);
    let _ = socket.take(ANSWER_BYTES_MAX).read_to_end(&mut received);
    received
}

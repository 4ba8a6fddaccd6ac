//! One health check of one address: connect, PROXY header, TLS, dialogue. What its result means is `policy::health`'s.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::base::net::Addr;
use crate::base::time::Now;
use crate::control::dialogue::{Dialogue, Found, Script, Want};
use crate::control::servers::Report;
use crate::model::{Check, CheckConnect, SendProxy};
use crate::policy::health::CheckStatus;
use crate::proto::proxy_header::{V2_BYTES_MIN, encode_v1, encode_v2_local};
use crate::rt::{self, ConnectOptions, Target};
use crate::tls::{self, Connector, Failure, Transport};

/// What is probed, and how. Servers that agree in all of it share one probe.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Spec {
    pub(super) target: ProbeTarget,
    pub(super) check: Check,
    /// The PROXY header to start with.
    pub(super) proxy: Option<SendProxy>,
    /// Local address, as the traffic has it.
    pub(super) source: Option<IpAddr>,
    pub(super) timeout_connect: Option<Duration>,
}

/// Where to connect.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum ProbeTarget {
    Ip(SocketAddr),
    Unix(PathBuf),
    Abstract(String),
}

impl Spec {
    /// The script of the dialogue.
    pub(super) fn script(&self) -> Script {
        let host = match &self.target {
            ProbeTarget::Ip(address) => address.to_string(),
            ProbeTarget::Unix(_) | ProbeTarget::Abstract(_) => "localhost".to_owned(),
        };
        Script::new(&self.check.kind, &host)
    }

    /// Where a step connects; what it does not say is as for the check.
    fn target(&self, way: CheckConnect) -> Target<'_> {
        match &self.target {
            ProbeTarget::Ip(address) => {
                let ip = way.address.unwrap_or(address.ip());
                Target::Ip(SocketAddr::new(ip, way.port.unwrap_or(address.port())))
            }
            ProbeTarget::Unix(path) => Target::Unix(path),
            ProbeTarget::Abstract(name) => Target::Abstract(name),
        }
    }

    /// Whether a connection of that way starts with a PROXY header, and with which.
    fn proxy(&self, way: CheckConnect) -> Option<SendProxy> {
        match way.send_proxy {
            None => self.proxy,
            Some(false) => None,
            Some(true) => Some(self.proxy.unwrap_or(SendProxy::V1)),
        }
    }
}

/// A PROXY header that names nobody.
fn header(proxy: Option<SendProxy>) -> Vec<u8> {
    let mut bytes = vec![0; V2_BYTES_MIN];
    let len = match proxy {
        None => Ok(0),
        // A check is no connection of a client: there are no addresses to tell.
        Some(SendProxy::V1) => encode_v1(&Addr::Unknown, &Addr::Unknown, &mut bytes),
        Some(SendProxy::V2 { .. }) => encode_v2_local(&mut bytes),
    };
    bytes.truncate(len.unwrap_or(0));
    bytes
}

/// Runs one check. `tls`: how it shakes hands; `None`: it is plain. `nonce`: random bytes.
pub(super) async fn probe(spec: &Spec, script: &Script, tls: Option<&Connector>, nonce: [u8; 16]) -> Report {
    let began = rt::now();
    let found = attempt(spec, script, tls, nonce).await;
    Report { status: found.status, info: found.info, code: found.code, duration: rt::now().since(began) }
}

async fn attempt(spec: &Spec, script: &Script, tls: Option<&Connector>, nonce: [u8; 16]) -> Found {
    let mut dialogue = script.start(nonce);
    let scripted = dialogue.is_scripted();
    let mut line = Line { spec, tls, conn: None, deadline: None };
    let mut wanted = dialogue.next();
    // Without a step that says how, the connection is that of the check itself.
    if !matches!(wanted, Want::Connect(_))
        && let Err(found) = line.open(CheckConnect::default(), scripted).await
    {
        return found;
    }
    loop {
        let result = match wanted {
            // Without a dialogue the handshake is what passed.
            Want::Done(found) if tls.is_some() && found.status == CheckStatus::L4Ok => {
                return Found { status: CheckStatus::L6Ok, ..found };
            }
            Want::Done(found) => return found,
            Want::Connect(way) => line.open(way, scripted).await,
            Want::Send(bytes) => line.say(bytes, &dialogue).await,
            Want::Receive => line.hear(&mut dialogue).await,
        };
        if let Err(found) = result {
            return found;
        }
        wanted = dialogue.next();
    }
}

/// The connection of a check.
struct Line<'a> {
    spec: &'a Spec,
    tls: Option<&'a Connector>,
    conn: Option<Transport>,
    /// `timeout check`, from the first connection on.
    deadline: Option<Now>,
}

impl Line<'_> {
    /// Opens a connection in place of the one there is, PROXY header included. `Err`: how the check ends.
    async fn open(&mut self, way: CheckConnect, scripted: bool) -> Result<(), Found> {
        let (spec, now) = (self.spec, rt::now());
        let failed = |status, error: Option<io::Error>| {
            Err(Found::new(status, error.map(|e| rt::error::words(&e)).unwrap_or_default()))
        };
        // HAProxy: connecting takes at most `timeout connect`, and never longer than the interval.
        let patience = spec.timeout_connect.map_or(spec.check.inter, |timeout| timeout.min(spec.check.inter));
        let until = self.deadline.map_or(now + patience, |deadline| deadline.min(now + patience));
        let target = spec.target(way);
        let fits = |ip: &IpAddr| !matches!(target, Target::Ip(to) if to.is_ipv4() != ip.is_ipv4());
        let source = spec.source.filter(fits).map(|ip| SocketAddr::new(ip, 0));
        let options = ConnectOptions { source, ..ConnectOptions::default() };
        let conn = match rt::with_deadline(rt::connect(target, options), Some(until)).await {
            Err(rt::Elapsed) => return failed(CheckStatus::L4Timeout, None),
            Ok(Err(e)) if rt::error::is_shortage(&e) => return failed(CheckStatus::SocketError, Some(e)),
            Ok(Err(e)) if e.kind() == io::ErrorKind::TimedOut => return failed(CheckStatus::L4Timeout, None),
            Ok(Err(e)) => return failed(CheckStatus::L4Connect, Some(e)),
            Ok(Ok(conn)) => conn,
        };
        let deadline = *self.deadline.get_or_insert(rt::now() + spec.check.timeout);
        let header = header(spec.proxy(way));
        if header.is_empty() {
            if !scripted && self.tls.is_none() {
                // As HAProxy: a reset leaves no TIME_WAIT behind, and the server sees a connection that nobody used.
                conn.reset_on_close();
            }
        } else {
            match rt::with_deadline(conn.send_all(header), Some(deadline)).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return failed(CheckStatus::L4Connect, Some(e)),
                Err(rt::Elapsed) => return failed(CheckStatus::L4Timeout, None),
            }
        }
        let conn = Transport::plain(conn);
        if let Some(connector) = self.tls {
            // Boxed: most checks are plain, and a handshake is large.
            match rt::with_deadline(Box::pin(tls::connect(&conn, connector, None)), Some(deadline)).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => return Err(Found::new(CheckStatus::L6Response, reason(&failure))),
                Err(rt::Elapsed) => return failed(CheckStatus::L6Timeout, None),
            }
        }
        self.conn = Some(conn);
        Ok(())
    }

    async fn say(&self, bytes: Vec<u8>, dialogue: &Dialogue<'_>) -> Result<(), Found> {
        let Some(conn) = &self.conn else { return Ok(()) };
        let sent = rt::with_deadline(conn.send_all(bytes), self.deadline).await;
        sent.unwrap_or_else(|rt::Elapsed| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|e| broken(&e, dialogue))
    }

    async fn hear(&self, dialogue: &mut Dialogue<'_>) -> Result<(), Found> {
        let Some(conn) = &self.conn else { return Ok(()) };
        match rt::with_deadline(conn.recv(), self.deadline).await {
            Ok(Ok(Some(bytes))) => dialogue.handle_bytes(&bytes),
            Ok(Ok(None)) => dialogue.handle_end(),
            Ok(Err(e)) => return Err(broken(&e, dialogue)),
            Err(rt::Elapsed) => return Err(Found::new(CheckStatus::L7Timeout, dialogue.place())),
        }
        Ok(())
    }
}

/// Why there is no TLS, for the operator.
fn reason(failure: &Failure) -> String {
    match failure {
        Failure::Closed => "the server closed the connection during the TLS handshake".to_owned(),
        Failure::Io(error) => format!("{} during the TLS handshake", rt::error::words(error)),
        Failure::NotTls(_) => "the server does not speak TLS".to_owned(),
        // A server is asked for a name, and asks for none.
        Failure::UnknownName(name) => format!("no certificate for {name}"),
        Failure::Tls(error) => error.to_string(),
    }
}

fn broken(error: &io::Error, dialogue: &Dialogue<'_>) -> Found {
    match error.kind() {
        io::ErrorKind::TimedOut => Found::new(CheckStatus::L7Timeout, dialogue.place()),
        _ => Found::new(CheckStatus::L7Response, format!("{} {}", rt::error::words(error), dialogue.place())),
    }
}

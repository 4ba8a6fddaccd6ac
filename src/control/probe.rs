//! One health check of one address: connect, PROXY header, dialogue. What its result means is `policy::health`'s.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::base::net::Addr;
use crate::control::script::{Dialogue, Script, Want};
use crate::control::servers::Report;
use crate::model::{Check, CheckKind, SendProxy};
use crate::policy::health::CheckStatus;
use crate::proto::proxy_header::{V2_BYTES_MIN, encode_v1, encode_v2_local};
use crate::rt::{self, Conn, ConnectOptions, Target};

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
    /// The script of the dialogue; without steps when connecting is enough.
    pub(super) fn script(&self) -> Script {
        match &self.check.kind {
            // `httpchk` is not available yet: it does not load.
            CheckKind::Connect | CheckKind::Http(_) => Script::new(&[]),
            CheckKind::Script(steps) => Script::new(steps),
        }
    }

    fn target(&self) -> Target<'_> {
        match &self.target {
            ProbeTarget::Ip(address) => Target::Ip(*address),
            ProbeTarget::Unix(path) => Target::Unix(path),
            ProbeTarget::Abstract(name) => Target::Abstract(name),
        }
    }

    fn header(&self) -> Vec<u8> {
        let mut bytes = vec![0; V2_BYTES_MIN];
        let len = match self.proxy {
            None => Ok(0),
            // A check is no connection of a client: there are no addresses to tell.
            Some(SendProxy::V1) => encode_v1(&Addr::Unknown, &Addr::Unknown, &mut bytes),
            Some(SendProxy::V2 { .. }) => encode_v2_local(&mut bytes),
        };
        bytes.truncate(len.unwrap_or(0));
        bytes
    }
}

/// Runs one check.
pub(super) async fn probe(spec: &Spec, script: &Script) -> Report {
    let began = rt::now();
    let (status, info) = attempt(spec, script).await;
    Report { status, info, duration: rt::now().since(began) }
}

async fn attempt(spec: &Spec, script: &Script) -> (CheckStatus, String) {
    // HAProxy: connecting takes at most `timeout connect`, and never longer than the interval.
    let patience = spec.timeout_connect.map_or(spec.check.inter, |timeout| timeout.min(spec.check.inter));
    let source = spec.source.map(|ip| SocketAddr::new(ip, 0));
    let options = ConnectOptions { source, ..ConnectOptions::default() };
    let connected = rt::with_deadline(rt::connect(spec.target(), options), Some(rt::now() + patience)).await;
    let conn = match connected {
        Err(rt::Elapsed) => return (CheckStatus::L4Timeout, String::new()),
        Ok(Err(e)) if rt::error::is_shortage(&e) => return (CheckStatus::SocketError, rt::error::words(&e)),
        Ok(Err(e)) if e.kind() == io::ErrorKind::TimedOut => return (CheckStatus::L4Timeout, String::new()),
        Ok(Err(e)) => return (CheckStatus::L4Connect, rt::error::words(&e)),
        Ok(Ok(conn)) => conn,
    };
    let header = spec.header();
    let scripted = spec.check.kind != CheckKind::Connect;
    if !scripted && header.is_empty() {
        // As HAProxy: a reset leaves no TIME_WAIT behind, and the server sees a connection that nobody used.
        conn.reset_on_close();
        return (CheckStatus::L4Ok, String::new());
    }
    let deadline = rt::now() + spec.check.timeout;
    let mut dialogue = script.start();
    let talked = rt::with_deadline(talk(&conn, header, &mut dialogue), Some(deadline)).await;
    let passed = if scripted { CheckStatus::L7Ok } else { CheckStatus::L4Ok };
    match talked {
        Ok(Ok(None)) => (passed, String::new()),
        Ok(Ok(Some(why))) => (CheckStatus::L7Response, why),
        Ok(Err(e)) if scripted => {
            (CheckStatus::L7Response, format!("{} {}", rt::error::words(&e), dialogue.place()))
        }
        Ok(Err(e)) => (CheckStatus::L4Connect, rt::error::words(&e)),
        Err(rt::Elapsed) if scripted => (CheckStatus::L7Timeout, dialogue.place()),
        Err(rt::Elapsed) => (CheckStatus::L4Timeout, String::new()),
    }
}

/// The dialogue; what is wrong with the answer, if anything is.
async fn talk(conn: &Conn, header: Vec<u8>, dialogue: &mut Dialogue<'_>) -> io::Result<Option<String>> {
    if !header.is_empty() {
        conn.send_all(header).await?;
    }
    loop {
        match dialogue.next() {
            Want::Send(bytes) => conn.send_all(bytes).await?,
            Want::Receive => match conn.recv().await? {
                Some(bytes) => dialogue.handle_bytes(&bytes),
                None => dialogue.handle_end(),
            },
            Want::Passed => return Ok(None),
            Want::Failed(why) => return Ok(Some(why)),
        }
    }
}

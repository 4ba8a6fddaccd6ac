//! One attempt to connect to a server: from a source port of ours where it has one, with the PROXY header and the handshake
//! that the server wants. What it needs of the session is gathered before it starts: it may outlive the request that started
//! it, which found another connection meanwhile.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use crate::base::id::{BackendId, ServerId};
use crate::base::net::Addr;
use crate::base::time::Now;
use crate::model::{Backend, ServerAddress};
use crate::policy::http_action::TimeoutName;
use crate::policy::ports::{Ended, Lease};
use crate::policy::retry::Failure;
use crate::policy::sample::FirstBytes;
use crate::proxy::core::{Core, CoreBase, Target};
use crate::proxy::idle::PoolId;
use crate::proxy::message::Event;
use crate::proxy::observe;
use crate::proxy::proxy_header;
use crate::proxy::session::Session;
use crate::proxy::tls;
use crate::rt::{self, Conn, ConnectOptions};
use crate::stats::table::Stat;
use crate::tls::Transport;

/// Source ports tried for one attempt when the kernel still knows one of ours: after a restart TIME_WAIT of the process
/// before us is not in our ledger.
const PORTS_PER_ATTEMPT: u32 = 16;

/// What comes of an attempt.
pub(super) type Dialed = Result<(Transport, Option<Port>), Failure>;

/// A source port of ours in use.
pub(super) struct Port {
    core: Rc<CoreBase>,
    lease: Option<Lease>,
    pub(super) ended: Ended,
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.core.ports.borrow_mut().release(lease, self.ended, rt::now());
        }
    }
}

/// An attempt before it starts.
pub(super) struct Dial {
    core: Rc<Core>,
    backend: BackendId,
    server: ServerId,
    target: Target,
    deadline: Option<Now>,
    /// The client, where the server is to be connected to from its address.
    client: Option<IpAddr>,
    /// The PROXY header.
    greeting: Option<Vec<u8>>,
    /// The name that the server is asked for, where an expression says it.
    name: Option<String>,
}

impl Dial {
    /// For one session. `first`: what its client sent so far.
    pub(super) fn of(
        session: &Session,
        settings: &Backend,
        backend: BackendId,
        server: ServerId,
        first: &[u8],
    ) -> Dial {
        let core = &session.core;
        let model = &core.model.servers[server];
        let timeout = session.timeout(TimeoutName::Connect, settings.timeout_connect);
        Dial {
            core: core.clone(),
            backend,
            server,
            target: aim(session, core.target(backend, server)),
            deadline: timeout.map(|t| rt::now() + t),
            client: if model.source_is_client { session.with_conn(|facts| facts.src.ip()) } else { None },
            greeting: model.send_proxy.map(|options| proxy_header::for_server(options, session, first)),
            name: model.tls.as_ref().and_then(|_| sni_of(session, server, first)),
        }
    }

    /// The pool of what it connects to: the address may change meanwhile.
    pub(super) fn pool(&self) -> Option<PoolId> {
        self.target.pool
    }

    /// For whoever comes; only where nothing of a connection depends on the client.
    pub(super) fn of_pool(core: &Rc<Core>, backend: BackendId, server: ServerId) -> Dial {
        debug_assert!(core.target(backend, server).pool.is_some());
        let timeout = core.model.backends[backend].timeout_connect;
        Dial {
            core: core.clone(),
            backend,
            server,
            target: core.target(backend, server),
            deadline: timeout.map(|t| rt::now() + t),
            client: None,
            greeting: None,
            name: None,
        }
    }

    /// Connects.
    pub(super) async fn run(self) -> Dialed {
        let Dial { core, backend, server, target, deadline, client, greeting, name } = self;
        let shard = core.shard();
        shard.backends[backend].count(Stat::Connects);
        shard.servers[server].count(Stat::Connects);
        let result = rt::with_deadline(open(&core, server, target, client), deadline).await;
        let failure = match result {
            Ok(Ok((conn, port))) => {
                if let Some(greeting) = greeting
                    && conn.send_all(greeting).await.is_err()
                {
                    return Err(refused(&core, backend, server));
                }
                let transport = Transport::plain(conn);
                if core.model.servers[server].tls.is_none() {
                    return Ok((transport, port));
                }
                // Boxed: most servers are plain, and a handshake is large.
                let shaken = Box::pin(tls::connect(&core, (backend, server), &transport, name.as_deref()));
                match rt::with_deadline(shaken, deadline).await {
                    Ok(Ok(())) => return Ok((transport, port)),
                    Ok(Err(_)) => refused(&core, backend, server),
                    Err(rt::Elapsed) => too_late(&core, backend, server),
                }
            }
            Ok(Err(OpenError::NoSourcePort { used, waiting })) => {
                shard.backends[backend].count(Stat::SourcePortsExhausted);
                shard.servers[server].count(Stat::SourcePortsExhausted);
                core.event(Event::SourcePortsExhausted { server, used, waiting });
                Failure::NoSourcePort
            }
            Ok(Err(OpenError::Shortage(error))) => {
                core.short_of(&error);
                Failure::NoResources
            }
            Ok(Err(OpenError::Refused)) => refused(&core, backend, server),
            Err(rt::Elapsed) => too_late(&core, backend, server),
        };
        Err(failure)
    }
}

/// Counts a connection that was made, whoever has it now.
pub(super) fn made(core: &Core, backend: BackendId, server: ServerId, started: Now) {
    let shard = core.shard();
    observe::connection(core, server, true);
    let us = u64::try_from(rt::now().since(started).as_micros()).unwrap_or(u64::MAX);
    shard.backends[backend].time(Stat::ConnectTime, us);
    shard.servers[server].time(Stat::ConnectTime, us);
}

/// The name that a server is asked for, where an expression says it.
fn sni_of(session: &Session, server: ServerId, first: &[u8]) -> Option<String> {
    let sni = session.core.model.servers[server].sni.as_ref()?;
    let seen = FirstBytes { data: first, complete: true };
    let variables = session.variables.borrow();
    let mut scratch = session.core.scratch.borrow_mut();
    let facts = session.facts(&variables, seen);
    let bytes = crate::proxy::facts::bytes_of(&facts, &sni.expression, &mut scratch)?;
    String::from_utf8(bytes.to_vec()).ok()
}

fn too_late(core: &Core, backend: BackendId, server: ServerId) -> Failure {
    observe::connection(core, server, false);
    core.shard().backends[backend].count(Stat::ConnectTimeouts);
    core.shard().servers[server].count(Stat::ConnectTimeouts);
    Failure::ConnectTimeout
}

fn refused(core: &Core, backend: BackendId, server: ServerId) -> Failure {
    observe::connection(core, server, false);
    core.shard().backends[backend].count(Stat::ConnectRefused);
    core.shard().servers[server].count(Stat::ConnectRefused);
    Failure::ConnectRefused
}

enum OpenError {
    NoSourcePort {
        used: u32,
        waiting: u32,
    },
    /// No descriptor or memory for a socket: says nothing about the server.
    Shortage(io::Error),
    /// The server or the network said no.
    Refused,
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        // The kernel's own search found no source port.
        if error.kind() == io::ErrorKind::AddrNotAvailable {
            return OpenError::NoSourcePort { used: 0, waiting: 0 };
        }
        if rt::error::is_shortage(&error) { OpenError::Shortage(error) } else { OpenError::Refused }
    }
}

/// Where the client wanted to go, if the address of the server leaves it open (0.0.0.0).
fn aim(session: &Session, target: Target) -> Target {
    let open = target.address.filter(|address| address.ip().is_unspecified());
    let Some(open) = open else { return target };
    let Addr::Ip(wanted) = session.with_conn(|facts| facts.dst) else {
        return Target { address: None, ..target };
    };
    let port = if open.port() == 0 { wanted.port() } else { open.port() };
    Target { address: Some(SocketAddr::new(wanted.ip(), port)), ..target }
}

/// The address of the client as one to connect from (`source = "client"`); the kernel chooses the port.
fn client_source(client: Option<IpAddr>, to: Option<SocketAddr>) -> Option<SocketAddr> {
    let client = client?.to_canonical();
    (client.is_ipv4() == to?.is_ipv4()).then_some(SocketAddr::new(client, 0))
}

/// Connects, from a source port of ours or from the client's address where the server has `source`.
async fn open(
    core: &Rc<Core>,
    server: ServerId,
    target: Target,
    client: Option<IpAddr>,
) -> Result<(Conn, Option<Port>), OpenError> {
    let settings = &core.model.servers[server];
    let source = client_source(client, target.address);
    let options =
        ConnectOptions { source, transparent: source.is_some(), tcp_user_timeout: settings.tcp_user_timeout };
    let to = match (&settings.address, target.address) {
        (ServerAddress::Unix(path), _) => rt::Target::Unix(path),
        (ServerAddress::Abstract(name), _) => rt::Target::Abstract(name),
        (_, Some(address)) => rt::Target::Ip(address),
        (_, None) => return Err(OpenError::Refused),
    };
    let Some(route) = target.route else {
        return Ok((rt::connect(to, options).await?, None));
    };
    for _ in 0..PORTS_PER_ATTEMPT {
        let leased = core.ports.borrow_mut().allocate(route, rt::now());
        let lease = leased.map_err(|e| OpenError::NoSourcePort { used: e.used, waiting: e.waiting })?;
        let source: SocketAddr = lease.address;
        let mut port = Port { core: core.base().clone(), lease: Some(lease), ended: Ended::TimeWait };
        match rt::connect(to, ConnectOptions { source: Some(source), ..options }).await {
            Ok(conn) => return Ok((conn, Some(port))),
            // The kernel still knows this port, from before our time or from somebody else: take another.
            Err(e) if matches!(e.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => {}
            Err(e) => {
                port.ended = Ended::Free;
                return Err(e.into());
            }
        }
    }
    Err(OpenError::NoSourcePort { used: PORTS_PER_ATTEMPT, waiting: 0 })
}

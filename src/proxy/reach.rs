//! A connection for a request: an idle one where reuse allows it, a stream of a shared one, or a new one.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::base::id::{BackendId, ServerId};
use crate::model::Backend;
use crate::model::http::{KeepAlive, Proto, Reuse};
use crate::policy::retry::Failure;
use crate::proxy::client_h1::Client;
use crate::proxy::dial::{self, Dial, Port};
use crate::proxy::dispatch;
use crate::proxy::end::Phase;
use crate::proxy::exchange::Job;
use crate::proxy::forward::Link;
use crate::proxy::idle::{self, PoolId, Upstream, Wire};
use crate::proxy::idle_share;
use crate::proxy::idle_wait::{self, Dialing, Wait, Wish};
use crate::proxy::server_h2;
use crate::proxy::session::Session;
use crate::rt::{self, Either};
use crate::stats::table::Stat;

/// Puts a connection to the server into `place`, which is empty. True: it was used before. `fresh`: one that was not.
pub(super) async fn connect(
    session: &Session,
    client: &mut Client,
    job: &Job,
    place: &mut Option<Upstream>,
    server: ServerId,
    fresh: bool,
) -> Result<bool, Failure> {
    let core = &session.core;
    let settings = &core.model.backends[job.backend];
    if !fresh {
        reuse(session, client, job.backend, server, place);
        if place.is_none()
            && let Some(uses_min) = shared_uses(settings, client)
            && let Some(other) = idle_share::core_with(core, server)
        {
            *place = Box::pin(idle_share::ask(core, other, (job.backend, server), uses_min)).await;
        }
    }
    if place.is_some() {
        count_reuse(session, job.backend, server);
        return Ok(true);
    }
    session.info.phase.set(Phase::Connect);
    session.info.time(|t| t.is_connected = false);
    let started = rt::now();
    let uses_min = if fresh { None } else { shared_uses(settings, client) };
    let asked = Asked { settings, backend: job.backend, server, uses_min };
    // Boxed: most requests find a connection.
    let opened = Box::pin(asked.open(session, fresh)).await;
    session.info.time(|t| t.connected(started, rt::now()));
    let (up, is_own) = opened?;
    let is_used = up.uses > 0 || !is_own && matches!(up.wire, Wire::Stream(_));
    if is_own {
        dispatch::connected(session, server, started);
    } else if is_used {
        count_reuse(session, job.backend, server);
    } else {
        core.shard().servers[server].count(Stat::SessionsTotal);
        session.info.time(|t| t.is_connected = true);
    }
    *place = Some(up);
    Ok(is_used)
}

/// Counts a request that goes over a connection that is there.
fn count_reuse(session: &Session, backend: BackendId, server: ServerId) {
    let shard = session.core.shard();
    shard.backends[backend].count(Stat::Reuses);
    shard.servers[server].count(Stat::Reuses);
    shard.servers[server].count(Stat::SessionsTotal);
    session.info.time(|t| t.is_connected = true);
}

/// Takes an idle connection to the server that this request may use.
fn reuse(
    session: &Session,
    client: &mut Client,
    backend: BackendId,
    server: ServerId,
    place: &mut Option<Upstream>,
) {
    if let Some(mut own) = client.own.take() {
        let leads_there = own.server == server && own.pool == session.core.target(backend, server).pool;
        if leads_there && own.is_quiet() && !session.is_readdressed() {
            *place = Some(*own);
        }
        return;
    }
    let Some(pool) = session.core.target(backend, server).pool else { return };
    if session.core.model.servers[server].http.proto == Proto::Http2 {
        // Connections are made to be shared, whoever opened them.
        *place = server_h2::take(&session.core, pool, (backend, server));
        return;
    }
    let Some(uses_min) = shared_uses(&session.core.model.backends[backend], client) else { return };
    idle::take(&session.core, pool, uses_min, place);
    if let Some(up) = place {
        // Another server with the same address may have opened it, or the same one under another generation.
        up.server = server;
    }
}

/// How many requests a connection must have served that this client may share, if it may.
fn shared_uses(settings: &Backend, client: &Client) -> Option<u32> {
    let is_first = client.requests <= 1;
    match settings.http.as_ref().map_or(Reuse::Never, |http| http.reuse) {
        Reuse::Never => None,
        // A stale connection cannot be told from a server that refuses this client: its first request takes no risk.
        Reuse::Safe if is_first => None,
        Reuse::Aggressive if is_first => Some(2),
        Reuse::Safe | Reuse::Aggressive | Reuse::Always => Some(0),
    }
}

/// Whether connections of a backend outlive their requests.
fn keeps(settings: &Backend) -> bool {
    let http = settings.http.as_ref();
    http.is_some_and(|http| http.reuse != Reuse::Never && http.keep_alive == KeepAlive::Both)
}

/// What a request needs for which no connection is free.
struct Asked<'a> {
    settings: &'a Backend,
    backend: BackendId,
    server: ServerId,
    uses_min: Option<u32>,
}

impl Asked<'_> {
    /// Opens a connection, or takes one that becomes free before. True: it was opened for this request.
    async fn open(self, session: &Session, fresh: bool) -> Result<(Upstream, bool), Failure> {
        let core = &session.core;
        let Asked { settings, backend, server, .. } = self;
        let started = rt::now();
        let dial = Dial::of(session, settings, backend, server, &[]);
        match (core.model.servers[server].http.proto, dial.pool()) {
            (Proto::Http1, Some(pool)) if keeps(settings) => self.open_or_take(session, dial, pool).await,
            (Proto::Http1, pool) => {
                let (conn, port) = dial.run().await?;
                dial::made(core, backend, server, started);
                Ok((self.upstream(session, Wire::Conn(conn), port, pool), true))
            }
            (Proto::Http2, Some(pool)) if !fresh => self.share(session, dial, pool).await,
            (Proto::Http2, pool) => {
                let dialed = dial.run().await?;
                dial::made(core, backend, server, started);
                let shared = server_h2::open(core, pool, server, dialed).await?;
                Ok((shared.stream(server), true))
            }
        }
    }

    fn upstream(&self, session: &Session, wire: Wire, port: Option<Port>, pool: Option<PoolId>) -> Upstream {
        let opener = Some(session.core.shard().servers[self.server].clone());
        Upstream { link: Link::default(), wire, port, pool, server: self.server, opener, uses: 0 }
    }

    /// Connects, and takes what becomes idle before the server has answered.
    async fn open_or_take(
        self,
        session: &Session,
        dial: Dial,
        pool: PoolId,
    ) -> Result<(Upstream, bool), Failure> {
        let Asked { backend, server, uses_min, .. } = self;
        let (core, started) = (&session.core, rt::now());
        let wait = Wait::new(core, pool, server, Wish { uses_min, opening: None });
        let mut dialing: Dialing = Box::pin(dial.run());
        let first = poll_fn(|cx| {
            if let Poll::Ready(Ok(up)) = wait.poll(cx) {
                return Poll::Ready(Either::First(up));
            }
            dialing.as_mut().poll(cx).map(Either::Second)
        });
        match first.await {
            Either::First(mut up) => {
                up.server = server;
                idle_wait::leave(core, pool, (backend, server), started, dialing);
                Ok((up, false))
            }
            Either::Second(dialed) => {
                let (conn, port) = dialed?;
                dial::made(core, backend, server, started);
                Ok((self.upstream(session, Wire::Conn(conn), port, Some(pool)), true))
            }
        }
    }

    /// Waits for a stream: of the connection that is opened, or of one that gets room before.
    async fn share(
        self,
        session: &Session,
        mut dial: Dial,
        mut pool: PoolId,
    ) -> Result<(Upstream, bool), Failure> {
        let Asked { settings, backend, server, .. } = self;
        let core = &session.core;
        loop {
            let joined = server_h2::join(core, pool, server);
            let is_own = joined.is_none();
            let opening = joined.unwrap_or_else(|| server_h2::start(core, pool, (backend, server), dial));
            let wish = Wish { uses_min: Some(0), opening: Some(Rc::clone(&opening)) };
            let wait = Wait::new(core, pool, server, wish);
            match poll_fn(|cx| wait.poll(cx)).await {
                Ok(mut up) => {
                    up.server = server;
                    return Ok((up, is_own && opening.is_done()));
                }
                Err(Some(failure)) => return Err(failure),
                Err(None) => {}
            }
            dial = Dial::of(session, settings, backend, server, &[]);
            pool = dial.pool().unwrap_or(pool);
            if let Some(up) = server_h2::take(core, pool, (backend, server)) {
                return Ok((up, false));
            }
        }
    }
}

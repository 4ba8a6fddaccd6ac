//! Session: the life of one client connection, from accept to the one place that records its end.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use crate::base::id::{BackendId, ListenerId, ServerId};
use crate::live::FrontendState;
use crate::model::{Bind, Frontend, Mode};
use crate::policy::rule::{Rule, TcpAction, Verdict};
use crate::policy::sample::{ConnFacts, Expr, FirstBytes, VariableId, Variables};
use crate::proxy::client_h1::Client;
use crate::proxy::core::Core;
use crate::proxy::end::{self, End, Kind, Path, Phase, Side};
use crate::proxy::explain::{List, next_rule};
use crate::proxy::facts::{self, Message, SessionFacts};
use crate::proxy::first_bytes::FirstBuf;
use crate::proxy::http::{self, Served};
use crate::proxy::info::{Carrier, Info};
use crate::proxy::log;
use crate::proxy::lot::{self, Rest};
use crate::proxy::stick::Span;
use crate::proxy::timings;
use crate::proxy::{client_h2, listener, proxy_header, tcp, tls};
use crate::rt::{self, Conn};
use crate::stats::process::CoreStat;
use crate::stats::table::Stat;
use crate::tls::Transport;

/// One session as its own task sees it.
pub(super) struct Session {
    pub(super) core: Rc<Core>,
    pub(super) info: Rc<Info>,
    pub(super) variables: RefCell<Variables>,
    key: usize,
}

/// Memory of the session of a stream that is over.
pub(super) struct Remains {
    info: Rc<Info>,
    variables: Variables,
}

/// Serves a client connection from its first byte to its last. The modes are tasks of their own: a quiet HTTP session
/// must not carry the memory of a relay.
pub(super) fn start(core: &Rc<Core>, bind: ListenerId, client: Conn) {
    let session = Session::open(core.clone(), bind, client);
    match session.frontend().mode {
        Mode::Tcp => rt::spawn(run_tcp(session)),
        Mode::Http => rt::spawn(run_http(session, None)),
    }
}

/// Goes on with a session that was parked.
pub(super) fn resume(session: Session, rest: Rest) {
    rt::spawn(run_http(session, Some(rest)));
}

/// Serves a client that is not there, up to the choice of a server; `peer` is what it looks like.
pub(super) async fn explain(core: &Rc<Core>, bind: ListenerId, client: Conn, peer: ConnFacts) {
    let session = Session::open_as(core.clone(), bind, client, Some(peer));
    match session.frontend().mode {
        Mode::Tcp => run_tcp(session).await,
        Mode::Http => run_http(session, None).await,
    }
}

async fn run_tcp(session: Session) {
    let served = until_killed(&session, pin!(serve_tcp(&session))).await;
    let (Ok(end) | Err(end)) = served;
    session.close(end);
}

async fn run_http(mut session: Session, rest: Option<Rest>) {
    let mut client = rest.map(Client::resume);
    loop {
        let served = until_killed(&session, pin!(serve_http(&session, &mut client))).await;
        match served {
            Ok(Served::Over(end)) | Err(end) => return session.close(end),
            Ok(Served::Quiet(rest)) => return lot::park(session, rest),
            // Serving has taken HTTP/2 to its end.
            Ok(Served::Stale | Served::Http2(_)) => session = session.renew(client.as_mut()),
        }
    }
}

/// Runs a session to its end, unless it is killed before. The future is pinned by the caller: handed over by value it
/// would take its room twice for as long as the session lives.
async fn until_killed<T>(
    session: &Session,
    mut serve: Pin<&mut impl Future<Output = Result<T, End>>>,
) -> Result<T, End> {
    poll_fn(|cx| {
        if let Some(end) = session.info.killed() {
            return Poll::Ready(Err(end));
        }
        let polled = serve.as_mut().poll(cx);
        if polled.is_pending() {
            session.info.watch(cx);
        }
        polled
    })
    .await
}

/// The way of a connection in TCP mode; `Err` leaves it early.
async fn serve_tcp(session: &Session) -> Result<End, End> {
    let first = begin(session).await?;
    tcp::serve(session, first).await
}

/// The way of a connection in HTTP mode.
async fn serve_http(session: &Session, client: &mut Option<Client>) -> Result<Served, End> {
    let client = match client {
        Some(client) => client,
        None => match begin(session).await {
            Ok(first) => client.insert(Client::new(session, first)),
            Err(end) => {
                log::finish_connection(session, end, 400);
                return Err(end);
            }
        },
    };
    match http::serve(session, client).await? {
        // Only those that speak HTTP/2 carry the memory of it.
        Served::Http2(first) => Box::pin(client_h2::serve(session, first)).await.map(Served::Over),
        served => Ok(served),
    }
}

/// Connection rules and the PROXY header.
async fn begin(session: &Session) -> Result<FirstBuf, End> {
    session.take_process_variables();
    session.connection_rules()?;
    session.count_session();
    let mut first = FirstBuf::default();
    if session.bind().accept_proxy.is_some() {
        // Connection rules saw the peer itself; from here on the header speaks for the client.
        Box::pin(proxy_header::receive(session, &mut first)).await?;
    }
    if session.bind().tls.is_some() {
        Box::pin(tls::accept(session, &mut first)).await?;
    }
    session.info.time(|t| t.handshake = timings::Micros::between(t.opened, rt::now()));
    Ok(first)
}

impl Session {
    fn open(core: Rc<Core>, bind: ListenerId, client: Conn) -> Session {
        Session::open_as(core, bind, client, None)
    }

    /// The session of a connection, whose peer may be said to be another than it is.
    fn open_as(core: Rc<Core>, bind: ListenerId, client: Conn, peer: Option<ConnFacts>) -> Session {
        let frontend = core.model.binds[bind].frontend;
        let carrier = Carrier::Conn(Transport::plain(client));
        let info = core.infos.borrow_mut().make(Info::new(&core, carrier, bind));
        if let Some(peer) = peer {
            info.peer.get_or_init(|| Box::new(peer));
        }
        if core.model.frontends[frontend].log.is_some() {
            // A client that resets its connection has no address any more when its line is written.
            info.conn_facts();
        }
        let shard = core.shard();
        shard.core.count(CoreStat::ConnectionsTotal);
        shard.core.count(CoreStat::SessionsTotal);
        let (f, l) = (&shard.frontends[frontend], &shard.listeners[bind]);
        f.count(Stat::Connections);
        f.count(Stat::SessionsTotal);
        l.count(Stat::SessionsTotal);
        Session::of(core, info, Variables::default())
    }

    /// A session as one of its generation. It holds its places under the limits already.
    fn of(core: Rc<Core>, info: Rc<Info>, variables: Variables) -> Session {
        let shard = core.shard();
        shard.core.enter(CoreStat::Connections);
        shard.frontends[info.frontend].enter(Stat::SessionsCur);
        shard.listeners[info.bind].enter(Stat::SessionsCur);
        let key = core.sessions.borrow_mut().insert(info.clone());
        Session { core, info, variables: RefCell::new(variables), key }
    }

    /// Takes less memory from now on, until somebody asks for more than its addresses: it is to be parked.
    pub(super) fn fold(&mut self) {
        if self.info.peer.get().is_none() {
            return;
        }
        // The table of sessions holds it too, and has it back below.
        let mut sessions = self.core.sessions.borrow_mut();
        drop(sessions.remove(self.key));
        if let Some(info) = Rc::get_mut(&mut self.info) {
            info.fold_peer();
        }
        self.key = sessions.insert(self.info.clone());
    }

    /// Where it lives on in the newest generation: there, if its bind is still one in HTTP mode.
    fn successor(&self) -> Option<(Rc<Core>, ListenerId)> {
        let core = self.core.base().current();
        let bind = core.live.bind_of(self.core.live.binds[self.info.bind].key)?;
        let is_http = core.model.frontends[core.model.binds[bind].frontend].mode == Mode::Http;
        is_http.then_some((core, bind))
    }

    /// Whether its next request is to be judged by a newer generation.
    pub(super) fn is_renewable(&self) -> bool {
        // Two hold it: this session and the table of sessions. Somebody else would keep the old facts.
        self.core.is_stale() && Rc::strong_count(&self.info) == 2 && self.successor().is_some()
    }

    /// Whether it is to end after what is under way: it cannot follow the configuration because its bind is gone, or its
    /// frontend was shut down.
    pub(super) fn is_orphan(&self) -> bool {
        let is_shut = self.core.live.frontends[self.info.frontend].state() == FrontendState::Shut;
        is_shut || (self.core.is_stale() && self.successor().is_none())
    }

    /// The same connection in the newest generation.
    fn renew(self, client: Option<&mut Client>) -> Session {
        let Some((core, bind)) = self.successor() else { return self };
        let before = self.core.clone();
        let (info, variables) = (self.info.clone(), self.variables.take());
        // It gives its old places back only once it has its new ones: nobody comes between.
        listener::enter_anyway(&core, bind);
        drop(self);
        let Some(old) = Rc::into_inner(info) else {
            unreachable!("the table and the session gave theirs back")
        };
        let info = old.renewed(&core, bind);
        if let Some(client) = client
            && let Some(own) = &mut client.own
        {
            match core.live.find_server(&before.live.servers[own.server]) {
                Some(server) => own.server = server,
                None => client.own = None,
            }
        }
        let variables = variables.renumber(&before.model.variables, &core.model.variables);
        let info = core.infos.borrow_mut().make(info);
        Session::of(core, info, variables)
    }

    /// The session of one stream of a shared connection. Streams live by the newest generation that has their bind.
    pub(super) fn of_stream(connection: &Session) -> Session {
        let newest = if connection.core.is_stale() { connection.successor() } else { None };
        let (core, bind) = newest.unwrap_or_else(|| (connection.core.clone(), connection.info.bind));
        let mut new = Info::new(&core, Carrier::Stream(connection.info.clone()), bind);
        let spare = core.h2_spare.sessions.take();
        let (info, variables) = match spare {
            Some(Remains { mut info, variables }) => {
                match Rc::get_mut(&mut info) {
                    Some(old) => {
                        new.special = RefCell::new(old.special.take());
                        *old = new;
                    }
                    None => info = Rc::new(new),
                }
                (info, variables)
            }
            None => (Rc::new(new), Variables::default()),
        };
        let key = core.sessions.borrow_mut().insert(info.clone());
        Session { core, info, variables: RefCell::new(variables), key }
    }

    /// Records how the session of a stream ended, and keeps its memory for the next one.
    pub(super) fn close_stream(self, end: End) {
        self.record(end);
        let (core, mut info, mut variables) =
            (self.core.base().clone(), self.info.clone(), self.variables.take());
        drop(self);
        let Some(old) = Rc::get_mut(&mut info) else { return };
        old.carrier = Carrier::Gone;
        variables.clear();
        core.h2_spare.sessions.keep(Remains { info, variables });
    }

    /// The one place that records how a session ended.
    pub(super) fn close(self, end: End) {
        self.record(end);
        let (core, info) = (self.core.base().clone(), self.info.clone());
        drop(self);
        core.infos.borrow_mut().give_back(info);
    }

    fn record(&self, end: End) {
        let info = &self.info;
        end::count(end, self.path(), self.core.shard());
        timings::finish(self);
        match self.frontend().mode {
            Mode::Http => log::finish(self, end),
            Mode::Tcp => log::finish_connection(self, end, 0),
        }
        // In HTTP mode the client has an answer by now, which a reset would take away; a body that was cut short resets
        // where it is cut.
        // A stream is reset by its own task; the connection goes on.
        if info.shared().is_some() {
            return;
        }
        let is_relay = self.frontend().mode == Mode::Tcp || info.phase.get() == Phase::Data;
        if is_relay && (end.kind == Kind::Abort || end.kind.is_kill()) && end.side != Side::Client {
            info.conn().reset_on_close();
        }
    }

    /// Counts the end of a request whose connection goes on.
    pub(super) fn count_end(&self, end: End) {
        end::count(end, self.path(), self.core.shard());
    }

    fn path(&self) -> Path {
        let info = &self.info;
        Path {
            frontend: info.frontend,
            bind: info.bind,
            backend: info.backend.get(),
            server: info.server.get(),
        }
    }

    /// Counts bytes from the client.
    pub(super) fn count_in(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let (info, shard) = (&self.info, self.core.shard());
        for info in std::iter::once(info).chain(info.shared()) {
            info.bytes_in.set(info.bytes_in.get() + bytes);
        }
        info.count_tracked_in(bytes);
        shard.frontends[info.frontend].add(Stat::BytesIn, bytes);
        shard.listeners[info.bind].add(Stat::BytesIn, bytes);
        if let Some(backend) = info.backend.get() {
            shard.backends[backend].add(Stat::BytesIn, bytes);
        }
    }

    /// Counts bytes to the client.
    pub(super) fn count_out(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let (info, shard) = (&self.info, self.core.shard());
        for info in std::iter::once(info).chain(info.shared()) {
            info.bytes_out.set(info.bytes_out.get() + bytes);
        }
        info.count_tracked_out(bytes);
        shard.frontends[info.frontend].add(Stat::BytesOut, bytes);
        shard.listeners[info.bind].add(Stat::BytesOut, bytes);
        shard.core.add(CoreStat::BytesOut, bytes);
        if let Some(backend) = info.backend.get() {
            shard.backends[backend].add(Stat::BytesOut, bytes);
        }
        if let Some(server) = info.server.get() {
            shard.servers[server].add(Stat::BytesOut, bytes);
        }
    }

    /// Counts bytes of a request that go to a server.
    pub(super) fn count_request_out(&self, bytes: u64, backend: BackendId, server: ServerId) {
        if bytes == 0 {
            return;
        }
        let shard = self.core.shard();
        shard.frontends[self.info.frontend].add(Stat::RequestBytesOut, bytes);
        shard.backends[backend].add(Stat::RequestBytesOut, bytes);
        shard.servers[server].add(Stat::RequestBytesOut, bytes);
        shard.servers[server].add(Stat::BytesIn, bytes);
    }

    /// Counts bytes of a response that came from a server.
    pub(super) fn count_response_in(&self, bytes: u64, backend: BackendId, server: ServerId) {
        if bytes == 0 {
            return;
        }
        let shard = self.core.shard();
        shard.frontends[self.info.frontend].add(Stat::ResponseBytesIn, bytes);
        shard.backends[backend].add(Stat::ResponseBytesIn, bytes);
        shard.servers[server].add(Stat::ResponseBytesIn, bytes);
    }

    /// Counts bytes of bodies that went through a pipe.
    pub(super) fn count_spliced(&self, bytes: u64, backend: BackendId, server: ServerId) {
        if bytes == 0 {
            return;
        }
        let shard = self.core.shard();
        shard.frontends[self.info.frontend].add(Stat::SplicedBytes, bytes);
        shard.backends[backend].add(Stat::SplicedBytes, bytes);
        shard.servers[server].add(Stat::SplicedBytes, bytes);
        shard.core.add(CoreStat::SplicedBytesOut, bytes);
    }

    /// Counts a response by its class; of a server, or our own.
    pub(super) fn count_status(&self, status: u16, from: Option<(BackendId, ServerId)>) {
        let shard = self.core.shard();
        let stat = match status / 100 {
            1 => Stat::Responses1xx,
            2 => Stat::Responses2xx,
            3 => Stat::Responses3xx,
            4 => Stat::Responses4xx,
            5 => Stat::Responses5xx,
            _ => Stat::ResponsesOther,
        };
        shard.frontends[self.info.frontend].count(stat);
        if let Some(backend) = from.map(|(backend, _)| backend).or(self.info.backend.get()) {
            shard.backends[backend].count(stat);
        }
        if let Some((_, server)) = from {
            shard.servers[server].count(stat);
        }
    }

    /// UNIX time in seconds.
    pub(super) fn unix_s(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }

    pub(super) fn frontend(&self) -> &Frontend {
        &self.core.model.frontends[self.info.frontend]
    }

    pub(super) fn bind(&self) -> &Bind {
        &self.core.model.binds[self.info.bind]
    }

    /// What rules read, with the first bytes as they are.
    pub(super) fn facts<'a>(&'a self, variables: &'a Variables, first: FirstBytes<'a>) -> SessionFacts<'a> {
        SessionFacts { session: self, variables, first, message: Message::default(), rewritten: None }
    }

    /// Rules on a fresh connection, before any byte.
    fn connection_rules(&self) -> Result<(), End> {
        let rules = &self.frontend().connection_rules;
        let mut at = 0;
        while !rules.is_empty() {
            let first = FirstBytes { data: &[], complete: true };
            let verdict = {
                let variables = self.variables.borrow();
                let mut scratch = self.core.scratch.borrow_mut();
                next_rule(List::Connection, rules, at, &self.facts(&variables, first), &mut scratch)
            };
            let Verdict::Apply(index, action) = verdict else { break };
            self.hit(&rules[index]);
            match action {
                TcpAction::Accept | TcpAction::UseBackend(_) => break,
                TcpAction::Reject => {
                    return Err(End::new(Side::Proxy, Phase::Inspect, Kind::DeniedConnection));
                }
                TcpAction::SilentDrop => return Err(self.drop_silently(Kind::DeniedConnection)),
                TcpAction::SetVar { variable, value } => self.set_variable(*variable, value, first),
                TcpAction::Stick(action) => {
                    self.stick_action(action, (first, Message::default()), Span::Session);
                }
                // These are no connection rules.
                TcpAction::Capture { .. } | TcpAction::SetLogLevel(_) => {}
            }
            at = index + 1;
        }
        Ok(())
    }

    /// Counts that a rule applied.
    pub(super) fn hit<A>(&self, rule: &Rule<A>) {
        if let Some(cells) = self.core.shard().rules.get(rule.id as usize) {
            cells.hit(rt::now());
        }
    }

    /// Forgets the client without telling it.
    pub(super) fn drop_silently(&self, kind: Kind) -> End {
        self.info.conn().forget_peer();
        End::new(Side::Proxy, Phase::Inspect, kind)
    }

    /// Forgets what rules stored about the request before.
    pub(super) fn forget_request_variables(&self) {
        let ids = &self.core.request_variables;
        if !ids.is_empty() {
            let mut variables = self.variables.borrow_mut();
            ids.iter().for_each(|id| variables.unset(*id));
        }
    }

    /// `set-var`.
    pub(super) fn set_variable(&self, variable: VariableId, value: &Expr, first: FirstBytes<'_>) {
        let around = (first, Message::default());
        facts::set_variable(self, around, variable, value, &mut Vec::new());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let core = &self.core;
        core.sessions.borrow_mut().remove(self.key);
        if self.info.shared().is_some() {
            return;
        }
        let shard = core.shard();
        shard.frontends[self.info.frontend].leave(Stat::SessionsCur);
        shard.listeners[self.info.bind].leave(Stat::SessionsCur);
        shard.core.leave(CoreStat::Connections);
        listener::leave(core, self.info.bind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<A, F: Future>(_: impl Fn(Session, A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_session_that_waits_is_small() {
        // Thousands of them wait at a time; a growth here is memory of every idle connection.
        assert!(
            bytes(|session, ()| run_tcp(session)) <= 1024,
            "a TCP session takes {} bytes",
            bytes(|session, ()| run_tcp(session))
        );
        // Quiet ones leave their task (`proxy::lot`): this is what one takes that waits for its first request.
        assert!(bytes(run_http) <= 512, "an HTTP session takes {} bytes", bytes(run_http));
    }
}

//! Connections to servers that speak HTTP/2: shared by the requests of a core, each driven by a task of its own. A request
//! takes a stream of one that has room. Where there is none it waits for one that is being opened, as long as that has room
//! for it, or opens another; a stream that another request gives back does as well (`idle_wait`). The next connection is
//! opened before the last streams are taken.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use crate::base::id::{BackendId, ServerId};
use crate::base::limits::{H2_AHEAD_SHARE, HEAD_BYTES_MAX};
use crate::base::net::Addr;
use crate::base::time::Now;
use crate::policy::retry::Failure;
use crate::proto::h1::body::BodyDecoder;
use crate::proto::h1::framing::{self, Framing};
use crate::proto::h1::head::{Ambiguous, HeadOptions, parse_request};
use crate::proto::h2::connection::Connection;
use crate::proto::h2::connection::to_server::{Asking, ServerLimits, parts_of};
use crate::proto::h2::frame::Code;
use crate::proto::h2::head;
use crate::proto::h2::hpack::Fields;
use crate::proto::h2::streams::Reset;
use crate::proto::headers::{Head, HeadLimits};
use crate::proxy::core::{Core, CoreBase};
use crate::proxy::dial::{self, Dial, Port};
use crate::proxy::forward::Link;
use crate::proxy::h2_body::{Incoming, Outgoing};
use crate::proxy::h2_conn::ServerConn;
use crate::proxy::h2_head;
use crate::proxy::h2_stream::{self, Boxes, Owner};
use crate::proxy::idle::{self, PoolId, Upstream, Wire};
use crate::proxy::input::Input;
use crate::rt;
use crate::tls::Transport;

/// A connection that requests share.
pub(super) struct Shared {
    /// Its state, which its task and its streams have too.
    frames: Rc<h2_stream::Shared>,
    /// Where heads of requests are parsed.
    scratch: RefCell<Head>,
    /// Where memory of its streams comes from.
    boxes: Rc<Boxes<ServerStream>>,
    /// How long it may be quiet.
    purge_delay: Duration,
    streams: Cell<u32>,
    /// Streams at once that the configuration allows.
    streams_max: u32,
    /// Requests that were sent over it.
    uses: Cell<u32>,
    quiet_since: Cell<Now>,
    /// Our own address.
    local: Addr,
    /// Where those wait who need a stream; `None`: nobody else may have one.
    pool: Option<(Weak<CoreBase>, PoolId)>,
}

impl Shared {
    /// How many streams it may have at once.
    fn limit(&self) -> u32 {
        self.streams_max.min(self.frames.drive(|connection| connection.streams_max()))
    }

    /// How many more requests may be sent over it now.
    fn room(&self) -> u32 {
        if self.is_over() { 0 } else { self.limit().saturating_sub(self.streams.get()) }
    }

    /// Whether another request may be sent over it.
    fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// Whether it takes no more requests.
    pub(super) fn is_over(&self) -> bool {
        !self.frames.drive(|connection| connection.takes_requests())
    }

    /// Whether no request is on it.
    pub(super) fn is_quiet(&self) -> bool {
        self.streams.get() == 0
    }

    /// From when on nobody needed it for so long, if it is quiet.
    pub(super) fn spare_at(&self) -> Option<Now> {
        self.is_quiet().then(|| self.quiet_since.get() + self.purge_delay)
    }

    /// Whether nobody needed it for so long.
    pub(super) fn is_spare(&self, now: Now) -> bool {
        self.spare_at().is_some_and(|at| now >= at)
    }

    /// A stream of it.
    pub(super) fn stream(self: &Rc<Self>, server: ServerId) -> Upstream {
        let wire = Wire::Stream(self.boxes.lend(ServerStream::new(self.clone())));
        Upstream { link: Link::default(), wire, port: None, pool: None, server, opener: None, uses: 0 }
    }

    /// Gives its streams to those who wait.
    fn hand(self: &Rc<Self>, core: &CoreBase, pool: PoolId) {
        while self.has_room() && !core.pools.borrow_mut().line(pool).is_empty() {
            let up = self.stream(ServerId(0));
            let unwanted = core.pools.borrow_mut().line(pool).hand(up);
            debug_assert!(unwanted.is_none(), "all who wait take a stream");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.frames.with(Connection::leave);
    }
}

/// Whether those of the connections that count have few streams left.
pub(super) fn is_short(shared: &[Rc<Shared>], counts: impl Fn(&Shared) -> bool) -> bool {
    let those = || shared.iter().filter(|shared| !shared.is_over() && counts(shared));
    let limit = those().map(|shared| shared.limit()).max().unwrap_or(0);
    let room: u32 = those().fold(0, |sum, shared| sum.saturating_add(shared.room()));
    room < limit / H2_AHEAD_SHARE
}

/// A connection that is opened for all who need one.
#[derive(Default)]
pub(super) struct Opening {
    /// Requests that wait for it.
    requests: Cell<u32>,
    is_done: Cell<bool>,
}

impl Opening {
    /// One more waits for it.
    pub(super) fn join(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    /// One waits no more.
    pub(super) fn leave(&self) {
        self.requests.set(self.requests.get() - 1);
    }

    /// Whether it is there.
    pub(super) fn is_done(&self) -> bool {
        self.is_done.get()
    }
}

/// Whoever opens a connection; those who wait for it look again when this is over.
struct Opener {
    opening: Rc<Opening>,
    pool: PoolId,
    core: Rc<Core>,
    failure: Option<Failure>,
}

impl Drop for Opener {
    fn drop(&mut self) {
        let mut pools = self.core.pools.borrow_mut();
        pools.opening(self.pool).retain(|other| !Rc::ptr_eq(other, &self.opening));
        pools.line(self.pool).end(&self.opening, self.failure);
    }
}

/// Opens a connection for whoever waits for it.
pub(super) fn start(
    core: &Rc<Core>,
    pool: PoolId,
    (backend, server): (BackendId, ServerId),
    dial: Dial,
) -> Rc<Opening> {
    let opening = Rc::new(Opening::default());
    core.pools.borrow_mut().opening(pool).push(opening.clone());
    let mut opener = Opener { opening: opening.clone(), pool, core: core.clone(), failure: None };
    rt::spawn(async move {
        let (core, started) = (opener.core.clone(), rt::now());
        let opened = match dial.run().await {
            Ok(dialed) => {
                dial::made(&core, backend, server, started);
                open(&core, Some(pool), server, dialed).await
            }
            Err(failure) => Err(failure),
        };
        match opened {
            Ok(shared) => {
                opener.opening.is_done.set(true);
                shared.hand(&core, pool);
            }
            Err(failure) => opener.failure = Some(failure),
        }
        drop(opener);
    });
    opening
}

/// A connection that is being opened and will have room for another request.
pub(super) fn join(core: &Core, pool: PoolId, server: ServerId) -> Option<Rc<Opening>> {
    let streams_max = core.model.servers[server].http.max_streams;
    let mut pools = core.pools.borrow_mut();
    pools.opening(pool).iter().find(|opening| opening.requests.get() < streams_max).cloned()
}

/// The place of one request on a shared connection.
pub(super) struct Lease {
    shared: Rc<Shared>,
}

impl Lease {
    fn new(shared: Rc<Shared>) -> Lease {
        shared.streams.set(shared.streams.get() + 1);
        shared.uses.set(shared.uses.get().saturating_add(1));
        Lease { shared }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.streams.set(shared.streams.get() - 1);
        shared.quiet_since.set(rt::now());
        let Some((core, pool)) = &shared.pool else { return };
        if let Some(core) = core.upgrade() {
            shared.hand(&core, *pool);
        }
    }
}

/// One exchange with a server. Fields in order of their drop.
pub(super) struct ServerStream {
    pub(super) incoming: Option<Incoming>,
    pub(super) outgoing: Option<Outgoing>,
    /// The stream, once the request is sent.
    owner: Option<Owner>,
    lease: Lease,
    /// The server did not process the request: a second attempt does no harm.
    pub(super) unprocessed: bool,
}

impl ServerStream {
    /// Our own address towards the server.
    pub(super) fn local_addr(&self) -> Addr {
        self.lease.shared.local
    }
}

/// A stream of a connection with room, if there is one. Opens the next connection when little room is left.
pub(super) fn take(
    core: &Rc<Core>,
    pool: PoolId,
    (backend, server): (BackendId, ServerId),
) -> Option<Upstream> {
    let shared = core.pools.borrow_mut().shared(pool, Shared::has_room)?;
    let stream = shared.stream(server);
    let pools = &core.pools;
    if is_short(pools.borrow().all_shared(pool), |_| true) && pools.borrow_mut().opening(pool).is_empty() {
        start(core, pool, (backend, server), Dial::of_pool(core, backend, server));
    }
    Some(stream)
}

/// Starts HTTP/2 on a fresh connection, and shares it.
pub(super) async fn open(
    core: &Rc<Core>,
    pool: Option<PoolId>,
    server: ServerId,
    (conn, port): (Transport, Option<Port>),
) -> Result<Rc<Shared>, Failure> {
    let streams_max = core.model.servers[server].http.max_streams;
    let settings = &core.model.global.h2;
    let limits = ServerLimits {
        window: settings.server_window,
        room: settings.server_room(streams_max),
        streams_max,
        fields_max: u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX),
    };
    let local = conn.local_addr();
    let spare = core.h2_spare.connections.clone();
    let frames = h2_stream::Shared::new(Connection::to_server(limits, spare));
    // It sends the preface and waits for nothing.
    rt::spawn(ServerConn::new((conn, port), frames.clone()).run());
    let shared = Rc::new(Shared {
        frames,
        scratch: RefCell::default(),
        boxes: core.h2_spare.server_streams.clone(),
        purge_delay: core.model.servers[server].http.pool_purge_delay.max(idle::SWEEP_EVERY),
        streams: Cell::new(0),
        streams_max,
        uses: Cell::new(0),
        quiet_since: Cell::new(rt::now()),
        local,
        pool: pool.map(|pool| (Rc::downgrade(core.base()), pool)),
    });
    if let Some(pool) = pool {
        core.pools.borrow_mut().share(pool, shared.clone());
    }
    Ok(shared)
}

impl ServerStream {
    fn new(shared: Rc<Shared>) -> ServerStream {
        let lease = Lease::new(shared);
        ServerStream { incoming: None, outgoing: None, owner: None, lease, unprocessed: true }
    }

    /// Sends a request that is written as HTTP/1 has it: its head, and what is there of its body. `is_over`: that is all
    /// of it.
    pub(super) fn send(&mut self, bytes: &[u8], is_over: bool) -> Result<(), Failure> {
        let mut parsed = self.lease.shared.scratch.take();
        let sent = self.send_parsed(bytes, is_over, &mut parsed);
        self.lease.shared.scratch.replace(parsed);
        sent
    }

    fn send_parsed(&mut self, bytes: &[u8], is_over: bool, parsed: &mut Head) -> Result<(), Failure> {
        // What we wrote ourselves is well formed; if it is not, no server gets it.
        let broken = |_| Failure::NoResources;
        let mut options = HeadOptions::default();
        options.limits.head_bytes_max = 2 * HeadLimits::default().head_bytes_max;
        options.limits.headers_max *= 2;
        parsed.clear();
        let complete = parse_request(bytes, &options, parsed).map_err(broken)?;
        if complete.is_partial() {
            return Err(Failure::NoResources);
        }
        let body = &bytes[parsed.len()..];
        let mut edit = parsed.edit(bytes);
        let decision = framing::request(&mut edit, Ambiguous::Reject).map_err(broken)?;
        let (data, trailers) = self.data_of(body, decision.framing);
        if !h2_head::for_server(&mut edit) {
            return Err(Failure::NoResources);
        }
        let view = edit.view();
        let is_bare = is_over && data.is_empty() && trailers.is_none();
        let asking = Asking { is_head: view.method_text() == b"HEAD", ends: is_bare };
        let owner = Owner::ask(&self.lease.shared.frames, asking, |out| h2_head::write_request(view, out));
        let owner = owner.ok_or_else(|| self.failed(Reset::Remote(Code::REFUSED_STREAM)))?;
        let mut outgoing = Outgoing::to_server(owner.stream().clone(), is_bare);
        if !is_bare {
            let ends_here = is_over && trailers.is_none();
            // What does not fit the window yet is sent by the pump of the body. A stream that is over already says so to
            // whoever waits for its response.
            let _ = outgoing.push_buffer(data, ends_here);
            if is_over && trailers.is_some() {
                outgoing.finish(trailers);
                let _ = outgoing.poll_room(&Context::from_waker(Waker::noop()));
            }
        }
        (self.owner, self.outgoing) = (Some(owner), Some(outgoing));
        self.unprocessed = false;
        Ok(())
    }

    /// The data and the trailers in the first bytes of a body, which we framed ourselves.
    fn data_of(&self, mut bytes: &[u8], framing: Framing) -> (Vec<u8>, Option<Fields>) {
        if bytes.is_empty() {
            return (Vec::new(), None);
        }
        let mut decoder = BodyDecoder::new(framing);
        let mut data = self.lease.shared.frames.drive(|connection| connection.buffer());
        let mut section = Vec::new();
        while let Ok(step) = decoder.step(bytes) {
            section.extend_from_slice(&bytes[step.framing - step.trailer..step.framing]);
            data.extend_from_slice(&bytes[step.framing..step.framing + step.data]);
            bytes = &bytes[step.framing + step.data..];
            if step.done || bytes.is_empty() {
                break;
            }
        }
        let trailers = (decoder.is_done() && !section.is_empty()).then(|| h2_head::trailers_of(&section));
        (data, trailers.filter(|fields| !fields.is_empty()))
    }

    /// The next head of the response, written to `input` as HTTP/1 has it.
    pub(super) fn poll_head(
        &mut self,
        cx: &Context<'_>,
        input: &mut Input,
        head: &mut Head,
    ) -> Poll<Result<(), Failure>> {
        let Some(owner) = &self.owner else { return Poll::Ready(Err(Failure::EmptyResponse)) };
        let stream = owner.stream().clone();
        let polled = stream.poll(cx, |connection, key| match connection.take_head(key) {
            Ok(None) => Poll::Pending,
            Ok(Some(fields)) => Poll::Ready(Ok((fields, connection.buffer()))),
            Err(reset) => Poll::Ready(Err(reset)),
        });
        let (fields, mut text) = match ready!(polled) {
            Ok(taken) => taken,
            Err(reset) => return Poll::Ready(Err(self.failed(reset))),
        };
        let written = match parts_of(&fields) {
            None => Err(Failure::JunkResponse),
            Some((status, rest)) => {
                let limits = HeadLimits::default();
                let written = head::response(status, rest, &limits, &mut text, head);
                written.map(|()| status).map_err(|_| Failure::JunkResponse)
            }
        };
        stream.with(|connection, _| connection.keep(fields.into_memory()));
        *input = text.into();
        if written.is_ok_and(|status| status >= 200) {
            self.incoming = Some(Incoming::of_server(stream));
        }
        Poll::Ready(written.map(drop))
    }

    /// Keeps the memory of a head that was read.
    pub(super) fn keep_head(&self, input: &mut Input) {
        let memory = std::mem::take(input).into_memory();
        self.lease.shared.frames.drive(|connection| connection.keep(memory));
    }

    /// What the end of a stream means for another attempt.
    fn failed(&mut self, reset: Reset) -> Failure {
        // So are those that a GOAWAY leaves out: their numbers are above the last that the server will process (RFC 9113 6.8).
        self.unprocessed |= reset == Reset::Remote(Code::REFUSED_STREAM);
        let is_first = self.lease.shared.uses.get() <= 1;
        match reset {
            _ if self.unprocessed && is_first => Failure::ConnectRefused,
            // What it sent made us end the stream.
            Reset::Local(_) => Failure::JunkResponse,
            Reset::Remote(_) => Failure::EmptyResponse,
        }
    }

    /// Gives the request up.
    pub(super) fn cancel(&self) {
        if let Some(owner) = &self.owner {
            owner.stream().reset(Code::CANCEL);
        }
    }
}

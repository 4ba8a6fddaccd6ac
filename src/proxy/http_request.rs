//! From the head of a request to what is sent to a server: its framing, the rules of frontend and backend, headers of our
//! own, persistence. Everything here is done before a server is chosen; `exchange` does that.

use crate::base::id::{BackendId, ServerId};
use crate::model::Backend;
use crate::model::http::{HttpBackend, HttpFrontend, KeepAlive};
use crate::policy::acl::{Condition, Truth};
use crate::policy::balance::KeySource;
use crate::policy::balance::hash_key;
use crate::policy::http_action::{RequestAction, Service};
use crate::policy::persist::Binding;
use crate::policy::rule::RuleList;
use crate::policy::sample::FirstBytes;
use crate::proto::h1::connection;
use crate::proto::h1::encode::{self, BodyHeaders, ConnectionHeader, HeadOut};
use crate::proto::h1::framing::{self, Asked, Decision, Framing};
use crate::proto::h1::head::{Ambiguous, HeadOptions};
use crate::proto::h1::outgoing::BodyForm;
use crate::proto::h1::reason::Reason;
use crate::proto::h2::reason::Answer;
use crate::proto::headers::Head;
use crate::proto::http::{Method, Name, Version};
use crate::proxy::capture;
use crate::proxy::client_cert;
use crate::proxy::client_h1::{Client, NoHead};
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::exchange::{Job, Wanted, upload_broken};
use crate::proxy::facts::Message;
use crate::proxy::forward::{Broken, Pump};
use crate::proxy::h2_body::Incoming;
use crate::proxy::http::{Made, Stop, Turn, backend_http, http_of, pages};
use crate::proxy::http_rules::{Halt, Pause, Route, Subject, Walk};
use crate::proxy::pad::{Memory, Pad};
use crate::proxy::session::Session;
use crate::proxy::{dispatch, http_insert, http_location, http_wait, log, reply, statistics, trace};
use crate::rt;
use crate::stats::process::CoreStat;
use crate::stats::table::Stat;

/// Receives the head.
pub(super) async fn receive(
    session: &Session,
    client: &mut Client,
    pad: &mut Pad,
    options: &HeadOptions,
) -> Result<(), Stop> {
    let http = http_of(session.frontend());
    let began = if client.requests == 0 { session.info.started } else { rt::now() };
    let deadline = http.timeout_request.map(|t| began + t);
    let ended = |kind| End::new(Side::Client, Phase::Inspect, kind);
    client.receive_head(session, options, deadline, &mut pad.request).await.map_err(|no| match no {
        NoHead::Refused(refusal) => {
            session.refused(refusal.reason);
            capture::request(session, client.link.input.bytes(), &refusal);
            Stop::Reply { status: refusal.reason.status(), end: ended(Kind::Malformed) }
        }
        NoHead::Malformed(malformed) => {
            session.refused_stream(malformed);
            match malformed.answer() {
                Answer::Reset => Stop::Reset(ended(Kind::Malformed)),
                Answer::Status(status) => Stop::Reply { status, end: ended(Kind::Malformed) },
            }
        }
        NoHead::Timeout => {
            session.refused(Reason::HeadTimeout);
            Stop::Reply { status: 408, end: ended(Kind::Timeout) }
        }
        NoHead::Closed | NoHead::Failed => {
            log::on_own_answer(session, 400);
            Stop::End(ended(Kind::Abort))
        }
    })?;
    session.info.time(|t| t.received(rt::now()));
    Ok(())
}

/// What the head says about its body and its connection.
pub(super) fn judge(
    session: &Session,
    client: &mut Client,
    pad: &mut Pad,
    turn: &mut Turn,
    ambiguous: Ambiguous,
) -> Result<Decision, Stop> {
    let shard = session.core.shard();
    client.requests = client.requests.saturating_add(1);
    shard.core.count(CoreStat::RequestsTotal);
    shard.frontends[session.info.frontend].count(Stat::Requests);
    let by_version = if client.stream.is_some() { Stat::RequestsH2 } else { Stat::RequestsH1 };
    shard.frontends[session.info.frontend].count(by_version);
    session.count_http_request();
    shard.listeners[session.info.bind].count(by_version);
    let bytes = client.link.input.bytes();
    let mut decision = framing::request(&mut pad.request.edit(bytes), ambiguous).map_err(|refusal| {
        session.refused(refusal.reason);
        capture::request(session, bytes, &refusal);
        let end = End::new(Side::Client, Phase::Inspect, Kind::Malformed);
        Stop::Reply { status: refusal.reason.status(), end }
    })?;
    let view = pad.request.view(bytes);
    log::on_request(session, view, bytes, client.stream.is_some());
    trace::begin(session, view);
    if let Some(stream) = &client.stream
        && decision.framing == Framing::None
        && view.method() != Method::Connect
        && !stream.incoming.is_done()
    {
        // A body whose length only its end tells; a tunnel's bytes wait for the answer.
        decision.framing = if connection::upgrade(view).is_some() { Framing::None } else { Framing::Chunked };
    }
    turn.asked = Asked { method: view.method(), upgrade: connection::upgrade(view).is_some() };
    turn.version = view.version();
    turn.may_stay = framing::stays_open(view, &decision)
        && http_of(session.frontend()).keep_alive != KeepAlive::Neither
        && !session.core.draining.get()
        && !session.is_orphan();
    // What a client of HTTP/2 reads ends with its stream; its connection is not this request's business.
    turn.may_stay |= client.stream.is_some();
    turn.unread = !matches!(decision.framing, Framing::None | Framing::Length(0));
    Ok(decision)
}

/// Rules, route and persistence, then the bytes for the server and what is left of the body, which `upload` becomes. Those in
/// the receive buffer are not needed afterwards.
pub(super) async fn plan(
    session: &Session,
    client: &mut Client,
    pad: &mut Pad,
    turn: &mut Turn,
    (decision, ambiguous): (&Decision, Ambiguous),
    upload: &mut Pump,
) -> Result<Job, Stop> {
    let mut route = Route::default();
    let planned = prepare(session, client, pad, turn, decision, &mut route).await;
    let memory = &mut **pad;
    let persist = match &planned {
        Ok((backend, ..)) if backend_http(&session.core.model.backends[*backend]).cookie.is_some() => {
            [u8::try_from(turn.persist.found.code()).unwrap_or(b'-'), b'N']
        }
        _ => *b"--",
    };
    let sent = planned.is_ok().then_some(memory.out.as_slice());
    let view = memory.request.view(client.link.input.bytes());
    log::on_planned(session, view, &memory.unique_id, sent, persist);
    let len = memory.request.len();
    client.consume_head(session, len);
    session.count_in(len as u64);
    let (backend, key, wanted) = planned?;
    if !route.hints.is_empty() && turn.version != Version::Http10 {
        let mut hints = session.core.pads.buffer();
        hints.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\n");
        hints.extend_from_slice(&route.hints);
        hints.extend_from_slice(b"\r\n");
        client.send_interim(session, hints).await.map_err(Stop::End)?;
    }
    match &mut client.stream {
        None => {
            *upload = Pump::new(decision.framing, BodyForm::AsIs)
                .splicing(session.core.model.backends[backend].splice);
            let appended = upload.append_to(&mut memory.out, &mut client.link.input);
            appended.map_err(|refusal| {
                session.refused(refusal.reason);
                upload_broken(&Broken::Malformed(refusal))
            })?;
        }
        Some(stream) => {
            *upload = upload_of(&stream.incoming, decision.framing);
            upload.append_stream(&mut memory.out, &mut stream.incoming).map_err(|b| upload_broken(&b))?;
        }
    }
    turn.unread = !upload.is_done();
    session.count_in(upload.taken);
    // Whatever follows waits for this response: it must not keep a receive buffer of the core meanwhile.
    client.link.input.detach();
    let method = memory.request.view(&[]).method();
    let asked = Asked { method, ..turn.asked };
    Ok(Job { backend, key, wanted, asked, version: turn.version, ambiguous })
}

/// The body of a stream on its way to a server.
fn upload_of(incoming: &Incoming, framing: Framing) -> Pump {
    match framing {
        Framing::Chunked => Pump::of_stream(Some(incoming), framing, BodyForm::Chunked),
        Framing::Length(1..) => Pump::of_stream(Some(incoming), framing, BodyForm::DataOnly),
        _ => Pump::new(Framing::None, BodyForm::AsIs),
    }
}

/// Rules of frontend and backend, then what is sent, in `out` of the memory.
async fn prepare(
    session: &Session,
    client: &mut Client,
    pad: &mut Pad,
    turn: &mut Turn,
    decision: &Decision,
    route: &mut Route,
) -> Result<(BackendId, Option<u64>, Option<Wanted>), Stop> {
    // RFC 8470 5.2: the client asks again once its handshake is over.
    if session.is_early() && (!turn.asked.method.is_safe() || turn.asked.upgrade) {
        let end = End::new(Side::Proxy, Phase::Inspect, Kind::Denied);
        return Err(Stop::Reply { status: 425, end });
    }
    let http = http_of(session.frontend());
    let (is_first, is_stream) = (client.requests == 1, client.stream.is_some());
    let bytes = client.link.input.bytes();
    if http.location_same_host {
        let Memory { request, origin, .. } = &mut **pad;
        http_location::host_of(request.view(bytes), origin);
    }
    Planning { session, turn, is_first, bytes, decision, is_stream }.make_unique_id(pad, http)?;
    walk(session, client, pad, turn, (decision, None, &http.rules.request), route).await?;
    if let Some(internal) = served_here(session, client, pad, turn, (decision, None), route).await? {
        return finish(session, client, pad, turn, decision, (internal, route));
    }
    let unrouted = End::new(Side::Proxy, Phase::Inspect, Kind::Unrouted);
    let backend = route.backend.or(session.frontend().default_backend);
    let backend = backend.ok_or(Stop::Reply { status: 503, end: unrouted })?;
    session.info.backend.set(Some(backend));
    session.core.shard().backends[backend].count(Stat::Requests);
    let own = backend_http(&session.core.model.backends[backend]);
    turn.may_stay &= own.keep_alive != KeepAlive::Neither;
    walk(session, client, pad, turn, (decision, Some(backend), &own.rules.request), route).await?;
    let internal = served_here(session, client, pad, turn, (decision, Some(backend)), route).await?;
    finish(session, client, pad, turn, decision, (internal.unwrap_or(backend), route))
}

/// What is sent, in `out` of the memory.
fn finish(
    session: &Session,
    client: &Client,
    pad: &mut Pad,
    turn: &mut Turn,
    decision: &Decision,
    chosen: (BackendId, &Route),
) -> Result<(BackendId, Option<u64>, Option<Wanted>), Stop> {
    let (is_first, is_stream) = (client.requests == 1, client.stream.is_some());
    let mut out = std::mem::take(&mut pad.out);
    if out.capacity() == 0 {
        out = session.core.pads.buffer();
    }
    out.clear();
    let bytes = client.link.input.bytes();
    let planning = Planning { session, turn, is_first, bytes, decision, is_stream };
    let finished = planning.finish(pad, chosen, &mut out);
    pad.out = out;
    finished
}

/// The control core, if it is to answer: for a statistics page of the frontend or of this backend, whose own rules the request
/// passes then, or because a rule says so.
async fn served_here(
    session: &Session,
    client: &mut Client,
    pad: &mut Pad,
    turn: &mut Turn,
    (decision, backend): (&Decision, Option<BackendId>),
    route: &mut Route,
) -> Result<Option<BackendId>, Stop> {
    let page = match backend {
        None => http_of(session.frontend()).stats.as_deref(),
        Some(id) => backend_http(&session.core.model.backends[id]).stats.as_deref(),
    };
    let page = page.filter(|page| statistics::is_for(page, pad.request.view(client.link.input.bytes())));
    let service = match (route.service, page) {
        (Some(service), _) => service,
        (None, None) => return Ok(None),
        (None, Some(page)) => {
            let rules = (decision, backend, &page.rules);
            Box::pin(walk(session, client, pad, turn, rules, route)).await?;
            Service::Page
        }
    };
    let Some(internal) = session.core.model.internal_backend() else { return Ok(None) };
    session.info.backend.set(Some(internal));
    let shard = session.core.shard();
    shard.backends[internal].count(Stat::Requests);
    shard.frontends[session.info.frontend].count(Stat::Intercepted);
    let mut head = pad.request.edit(client.link.input.bytes());
    let failed = |_| Stop::Reply { status: 500, end: End::new(Side::Proxy, Phase::Inspect, Kind::Resource) };
    statistics::write_ticket(session, &mut head, (service, route.is_admin), backend).map_err(failed)?;
    Ok(Some(internal))
}

/// Walks the rules of the frontend, of a backend, or of a page, waiting where a rule wants it.
async fn walk(
    session: &Session,
    client: &mut Client,
    pad: &mut Pad,
    turn: &mut Turn,
    (decision, backend, rules): (&Decision, Option<BackendId>, &RuleList<RequestAction>),
    route: &mut Route,
) -> Result<(), Stop> {
    if rules.is_empty() {
        return Ok(());
    }
    let mut walk = Walk::START;
    loop {
        let (is_first, is_stream) = (client.requests == 1, client.stream.is_some());
        let bytes = client.link.input.bytes();
        if decision.framing == Framing::Chunked && !is_stream {
            let behind = bytes.get(pad.request.len()..).unwrap_or_default();
            http_wait::look(session, decision, behind, &mut pad.body)?;
        }
        let planning = Planning { session, turn, is_first, bytes, decision, is_stream };
        match planning.rules(pad, rules, (&mut walk, route), backend)? {
            None => return Ok(()),
            // Waiting is the rare case: its state is made when it is needed.
            Some(pause) => Box::pin(http_wait::wait(session, client, pad, turn, (decision, pause))).await?,
        }
    }
}

/// A request that is being planned.
struct Planning<'a> {
    session: &'a Session,
    turn: &'a mut Turn,
    is_first: bool,
    bytes: &'a [u8],
    decision: &'a Decision,
    /// The request came over a stream: its body is in the memory, as far as it was waited for.
    is_stream: bool,
}

impl Planning<'_> {
    /// Headers of our own and persistence, then the bytes for the server.
    fn finish(
        self,
        memory: &mut Memory,
        (backend, route): (BackendId, &Route),
        out: &mut Vec<u8>,
    ) -> Result<(BackendId, Option<u64>, Option<Wanted>), Stop> {
        let session = self.session;
        let http = http_of(session.frontend());
        let settings = &session.core.model.backends[backend];
        let own = backend_http(settings);
        let failed =
            |_| Stop::Reply { status: 500, end: End::new(Side::Proxy, Phase::Inspect, Kind::Resource) };
        self.insert(memory, http, own).map_err(failed)?;
        http_location::with_scheme(memory.request.view(self.bytes), session.is_tls(), &mut memory.origin);
        let key = self.key(&memory.request, settings, own);
        let binding = self.binding(memory, own);
        let Memory { request, text, .. } = memory;
        let head = (&mut *request, self.bytes);
        self.turn.persist =
            http_insert::persist_request(session, backend, own, binding, head, text).map_err(failed)?;
        let named = |server, force| Wanted { server, force };
        let is_chosen = self.turn.persist.server.is_some() || binding == Binding::Ignore;
        let remembered = self.remembered(memory, backend, is_chosen);
        let wanted = self
            .turn
            .persist
            .server
            .map(|server| named(server, binding == Binding::Force))
            .or(route.server.map(|server| named(server, false)))
            .or(remembered.map(|server| named(server, binding == Binding::Force)));
        let request = &mut memory.request;
        let connection = match (self.turn.asked.upgrade, http.keep_alive.max(own.keep_alive)) {
            (true, _) => ConnectionHeader::Upgrade,
            (false, KeepAlive::Both) => ConnectionHeader::None,
            (false, _) => ConnectionHeader::Close,
        };
        // A body without framing of HTTP/1 gets chunks.
        let is_chunked = self.is_stream && self.decision.framing == Framing::Chunked;
        let body = if is_chunked { BodyHeaders::Chunked } else { BodyHeaders::Keep };
        let how = HeadOut { body, connection };
        encode::request(&mut request.edit(self.bytes), how, out);
        Ok((backend, key, wanted))
    }

    fn message<'m>(&self, unique_id: &'m [u8]) -> Message<'m>
    where
        Self: 'm,
    {
        Message { is_first: Some(self.is_first), unique_id: Some(unique_id), ..Message::default() }
    }

    /// Walks one list of rules.
    fn rules(
        &self,
        memory: &mut Memory,
        rules: &RuleList<RequestAction>,
        (walk, route): (&mut Walk, &mut Route),
        backend: Option<BackendId>,
    ) -> Result<Option<Pause>, Stop> {
        let Memory { request, text, unique_id, body, auth, .. } = memory;
        let behind = self.bytes.get(request.len()..).unwrap_or_default();
        let message = Message {
            is_first: Some(self.is_first),
            unique_id: Some(unique_id),
            body: if self.is_stream { body } else { http_wait::body_of(self.decision, behind, body) },
            auth: Some(auth),
            ..Message::default()
        };
        let (session, bytes) = (self.session, self.bytes);
        let mut subject = Subject { session, head: request, bytes, is_response: false, message, text };
        subject.on_request(rules, walk, route).map_err(|halt| halted(&halt, &subject, self.turn, backend))
    }

    fn make_unique_id(&self, memory: &mut Memory, http: &HttpFrontend) -> Result<(), Stop> {
        let Some(format) = &http.unique_id else { return Ok(()) };
        let mut id = std::mem::take(&mut memory.unique_id);
        id.clear();
        let Memory { request, text, .. } = memory;
        let message = Message { is_first: Some(self.is_first), ..Message::default() };
        let (session, bytes) = (self.session, self.bytes);
        Subject { session, head: request, bytes, is_response: false, message, text }.append(format, &mut id);
        memory.unique_id = id;
        Ok(())
    }

    /// Headers of our own, after all rules.
    fn insert(
        &self,
        memory: &mut Memory,
        http: &HttpFrontend,
        own: &HttpBackend,
    ) -> Result<(), crate::proto::headers::EditError> {
        let Memory { request, text, unique_id, .. } = memory;
        if self.turn.version == Version::Http10 {
            http_insert::host(self.session, request, self.bytes, text)?;
        }
        http_insert::addresses(self.session, (&http.insert, &own.insert), request, self.bytes, text)?;
        if self.session.is_early() && !request.view(self.bytes).has(Name::of(b"Early-Data")) {
            request.edit(self.bytes).add_as(b"Early-Data", b"1")?;
        }
        if http.insert.client_certificate {
            client_cert::forward(self.session, request, self.bytes)?;
        }
        match &http.unique_id_header {
            Some(name) if !unique_id.is_empty() => request.edit(self.bytes).set_as(name, unique_id)?,
            _ => {}
        }
        trace::insert(self.session, request.edit(self.bytes))
    }

    /// The key of hashing algorithms.
    fn key(&self, head: &Head, settings: &Backend, own: &HttpBackend) -> Option<u64> {
        let Some(source) = &own.key else { return self.expression_key(head, settings) };
        let view = head.view(self.bytes);
        let header = match source {
            KeySource::Header { name, .. } => view.line(Name::of(name.as_bytes())),
            _ => None,
        };
        let bytes = source.bytes(view.target(), header)?;
        Some(hash_key(bytes, settings.balance.hash_type))
    }

    /// The key of `balance = "hash EXPR"`, and the one of the client's address.
    fn expression_key(&self, head: &Head, settings: &Backend) -> Option<u64> {
        let Some(expr) = &settings.hash_key else { return dispatch::hash_of(self.session, settings, &[]) };
        let message = Message { request: Some(head.view(self.bytes)), ..self.message(&[]) };
        let first = FirstBytes { data: &[], complete: true };
        let bytes = self.session.with_facts(first, message, |facts, scratch| {
            crate::proxy::facts::bytes_of(facts, expr, scratch)
        })?;
        Some(hash_key(&bytes, settings.balance.hash_type))
    }

    /// The server that persistence by table knows.
    fn remembered(&self, memory: &Memory, backend: BackendId, is_chosen: bool) -> Option<ServerId> {
        if self.session.core.model.backends[backend].stick.is_empty() {
            return None;
        }
        let message =
            Message { request: Some(memory.request.view(self.bytes)), ..self.message(&memory.unique_id) };
        let first = FirstBytes { data: &[], complete: true };
        self.session.stick_request(backend, (first, message), is_chosen)
    }

    /// `ignore-persist` and `force-persist`.
    fn binding(&self, memory: &Memory, own: &HttpBackend) -> Binding {
        let holds = |condition: &Option<Condition>| {
            let Some(condition) = condition else { return false };
            let message =
                Message { request: Some(memory.request.view(self.bytes)), ..self.message(&memory.unique_id) };
            let first = FirstBytes { data: &[], complete: true };
            let truth =
                self.session.with_facts(first, message, |facts, scratch| condition.eval(facts, scratch));
            truth == Truth::True
        };
        if holds(&own.ignore_persist) {
            Binding::Ignore
        } else if holds(&own.force_persist) {
            Binding::Force
        } else {
            Binding::Normal
        }
    }
}

/// What rules that end a request make of it.
fn halted(halt: &Halt<'_>, subject: &Subject<'_>, turn: &Turn, backend: Option<BackendId>) -> Stop {
    let session = subject.session;
    let ended = |kind| End::new(Side::Proxy, Phase::Inspect, kind);
    let close = !turn.may_stay || turn.unread;
    let is_head = turn.asked.method == Method::Head;
    let mut bytes = session.core.pads.buffer();
    let (reply, kind) = match halt {
        Halt::Deny(reply) => (reply, Kind::Denied),
        Halt::Tarpit(reply) => (reply, Kind::Tarpit),
        Halt::Return(reply) => (reply, Kind::Intercepted),
        Halt::Redirect(redirect) => {
            if !reply::redirect(redirect, subject, close, &mut bytes) {
                return Stop::Reply { status: 500, end: ended(Kind::Resource) };
            }
            let (status, end) = (redirect.status, ended(Kind::Intercepted));
            return Stop::Made(Box::new(Made { bytes, status, end, may_stay: !close, delay: None }));
        }
        Halt::Auth(realm) => {
            let may_stay =
                reply::challenge(realm, &pages(session, backend), (close, is_head), &mut bytes) && !close;
            let end = ended(Kind::Intercepted);
            return Stop::Made(Box::new(Made { bytes, status: 401, end, may_stay, delay: None }));
        }
        Halt::BadTarget => {
            let end = End::new(Side::Client, Phase::Inspect, Kind::Malformed);
            return Stop::Reply { status: 400, end };
        }
        Halt::Reject => return Stop::End(ended(Kind::Denied)),
        Halt::SilentDrop => return Stop::End(session.drop_silently(Kind::Denied)),
        Halt::Failed => return Stop::Reply { status: 500, end: ended(Kind::Resource) },
    };
    let delay = match halt {
        Halt::Tarpit(_) => http_of(session.frontend()).timeout_tarpit,
        _ => None,
    };
    // Who is held in the tarpit may send on; nothing of it is read.
    let close = close || delay.is_some();
    let may_stay = reply::made(reply, subject, &pages(session, backend), (close, is_head), &mut bytes);
    let may_stay = may_stay && !close;
    Stop::Made(Box::new(Made { bytes, status: reply.status, end: ended(kind), may_stay, delay }))
}

//! What conditions and expressions see of a session: gathers, decides nothing.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use smallvec::SmallVec;

use crate::base::id::{BackendId, FrontendId, IdRange, ServerId};
use crate::policy::sample::{
    Auth, ConnError, ConnFacts, Expr, Facts, FirstBytes, Live, Named, Recorded, Scratch, ServerLevels,
    TimerName, TlsAnswer, TlsFetch, UserlistId, Value, VariableId, Variables,
};
use crate::policy::stick::{Entry, Read};
use crate::proto::headers::HeadView;
use crate::proxy::auth::{self, Memo};
use crate::proxy::core::Core;
use crate::proxy::log;
use crate::proxy::session::Session;
use crate::proxy::tls;
use crate::rt;
use crate::stats::counters::Shard;
use crate::stats::table::Stat;

/// A session with its first bytes as far as they are here.
pub(super) struct SessionFacts<'a> {
    pub(super) session: &'a Session,
    pub(super) variables: &'a Variables,
    pub(super) first: FirstBytes<'a>,
    /// What is there in HTTP mode.
    pub(super) message: Message<'a>,
    /// Facts of the connection as rules changed them for this request.
    pub(super) rewritten: Option<&'a ConnFacts>,
}

/// The messages of an exchange, as far as they are here.
#[derive(Clone, Copy, Default)]
pub(super) struct Message<'a> {
    pub(super) request: Option<HeadView<'a>>,
    pub(super) response: Option<HeadView<'a>>,
    pub(super) body: &'a [u8],
    pub(super) is_first: Option<bool>,
    pub(super) unique_id: Option<&'a [u8]>,
    /// What became of the request's credentials; `None` where nothing asks for them.
    pub(super) auth: Option<&'a Memo>,
}

impl Session {
    /// Lets something look at all that is known, with memory to work in.
    pub(super) fn with_facts<R>(
        &self,
        first: FirstBytes<'_>,
        message: Message<'_>,
        look: impl FnOnce(&SessionFacts<'_>, &mut Scratch) -> R,
    ) -> R {
        let variables = self.variables.borrow();
        let special = self.info.special.borrow();
        let mut scratch = self.core.scratch.borrow_mut();
        let rewritten = special.as_ref().and_then(|special| special.conn.as_ref());
        look(&SessionFacts { session: self, variables: &variables, first, message, rewritten }, &mut scratch)
    }
}

impl Facts for SessionFacts<'_> {
    type Live = Core;

    fn conn(&self) -> &ConnFacts {
        self.rewritten.unwrap_or_else(|| self.session.info.conn_facts())
    }
    fn frontend(&self) -> Named<'_> {
        let frontend = self.session.frontend();
        Named { number: frontend.iid, name: &frontend.name }
    }
    fn default_backend(&self) -> Option<&str> {
        self.session.frontend().default_backend.map(|id| self.session.core.model.backends[id].name.as_str())
    }
    fn listener(&self) -> (u32, Option<&str>) {
        let bind = self.session.bind();
        (bind.sid, Some(bind.label()))
    }
    fn backend(&self) -> Option<Named<'_>> {
        let backend = &self.session.core.model.backends[self.session.info.backend.get()?];
        Some(Named { number: backend.iid, name: &backend.name })
    }
    fn server(&self) -> Option<Named<'_>> {
        let server = &self.session.core.model.servers[self.session.info.server.get()?];
        Some(Named { number: server.sid, name: &server.name })
    }
    fn first_bytes(&self) -> FirstBytes<'_> {
        self.first
    }
    fn variables(&self) -> &Variables {
        self.variables
    }
    fn live(&self) -> &Core {
        &self.session.core
    }
    fn unix_time(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
    fn random(&self) -> u64 {
        self.session.core.random()
    }
    fn request_id(&self) -> u32 {
        self.session.info.timings.borrow().number
    }
    fn process(&self) -> u32 {
        self.session.core.log.pid
    }
    fn is_local(&self, address: IpAddr) -> bool {
        rt::machine::is_local(address)
    }
    fn recorded(&self, what: Recorded, out: &mut Vec<u8>) -> bool {
        log::recorded(self.session, what, out)
    }
    fn timer(&self, name: TimerName) -> Option<u64> {
        log::timer(self.session, name)
    }
    fn conn_error(&self) -> ConnError {
        self.session.info.error.get()
    }
    fn is_tls(&self) -> bool {
        self.session.info.conn().tls().is_some()
    }
    fn tls(&self, fetch: &TlsFetch, out: &mut Vec<u8>) -> Option<TlsAnswer> {
        tls::answer(self.session.info.conn().tls()?, fetch, out)
    }
    fn request(&self) -> Option<HeadView<'_>> {
        self.message.request
    }
    fn response(&self) -> Option<HeadView<'_>> {
        self.message.response
    }
    fn body(&self) -> &[u8] {
        self.message.body
    }
    fn is_first_request(&self) -> Option<bool> {
        self.message.is_first
    }
    fn unique_id(&self) -> Option<&[u8]> {
        self.message.unique_id
    }
    fn stick(&self, entry: Entry<'_>, read: Read) -> Option<u64> {
        self.session.stick_fact(entry, read)
    }
    fn auth(&self, list: UserlistId) -> Auth<'_> {
        auth::auth(self.session, self.message.request, self.message.auth, list)
    }
}

/// Sums a level over all cores; only rules that ask for it pay.
fn sum(shards: &[Shard], level: impl Fn(&Shard) -> u64) -> u32 {
    let total = shards.iter().map(|s| level(s).cast_signed()).sum::<i64>();
    u32::try_from(total.max(0)).unwrap_or(u32::MAX)
}

impl Core {
    /// Sessions of a server now.
    pub(super) fn server_sessions(&self, id: ServerId) -> u32 {
        sum(&self.shards, |s| s.servers[id].get(Stat::SessionsCur))
    }
}

impl Live for Core {
    fn server(&self, id: ServerId) -> ServerLevels {
        let (live, settings) = (&self.live.servers[id], &self.model.servers[id]);
        let load = std::sync::atomic::Ordering::Relaxed;
        let sessions = self.server_sessions(id);
        ServerLevels {
            up: live.is_up() && live.admin() != crate::live::AdminState::Maint,
            usable: self.live.takes_load(settings.backend, id),
            sessions,
            queued: live.queued.load(load),
            maxconn: live.sessions.limit(),
            maxqueue: settings.maxqueue,
        }
    }
    fn servers(&self, id: BackendId) -> IdRange<ServerId> {
        self.model.backends[id].servers
    }
    fn backend_sessions(&self, id: BackendId) -> u32 {
        sum(&self.shards, |s| s.backends[id].get(Stat::SessionsCur))
    }
    fn backend_queued(&self, id: BackendId) -> u32 {
        self.live.backends[id].queued.load(std::sync::atomic::Ordering::Relaxed)
    }
    fn frontend_sessions(&self, id: FrontendId) -> u32 {
        sum(&self.shards, |s| s.frontends[id].get(Stat::SessionsCur))
    }
}

/// `set-var`: evaluates and stores; without a value the variable is left as it is. `text` holds the bytes of the value on
/// the way, because it may be made of variables: they are read to the end before one is written.
pub(super) fn set_variable(
    session: &Session,
    (first, message): (FirstBytes<'_>, Message<'_>),
    variable: VariableId,
    value: &Expr,
    text: &mut Vec<u8>,
) {
    text.clear();
    let detached = session.with_facts(first, message, |facts, scratch| {
        value.eval(facts, scratch).value.map(|value| detach(value, text))
    });
    let value = match detached {
        None => return,
        Some(Detached::Scalar(value)) => value,
        Some(Detached::Str) => Value::Str(text),
        Some(Detached::Bin) => Value::Bin(text),
    };
    session.store_variable(variable, value);
}

/// The bytes of an expression as hashing sees them: text as it is, addresses in network order, numbers in decimal.
pub(super) fn bytes_of(
    facts: &SessionFacts<'_>,
    expr: &Expr,
    scratch: &mut Scratch,
) -> Option<SmallVec<[u8; 64]>> {
    Some(match expr.eval(facts, scratch).value? {
        Value::Str(bytes) | Value::Bin(bytes) => SmallVec::from_slice(bytes),
        Value::Ip(IpAddr::V4(ip)) => SmallVec::from_slice(&ip.octets()),
        Value::Ip(IpAddr::V6(ip)) => SmallVec::from_slice(&ip.octets()),
        Value::Int(n) => SmallVec::from_slice(n.to_string().as_bytes()),
        Value::Bool(b) => SmallVec::from_slice(if b { b"1" } else { b"0" }),
    })
}

/// A value without its bytes, which are in a buffer.
enum Detached {
    Scalar(Value<'static>),
    Str,
    Bin,
}

fn detach(value: Value<'_>, text: &mut Vec<u8>) -> Detached {
    match value {
        Value::Bool(b) => Detached::Scalar(Value::Bool(b)),
        Value::Int(i) => Detached::Scalar(Value::Int(i)),
        Value::Ip(ip) => Detached::Scalar(Value::Ip(ip)),
        Value::Str(bytes) => {
            text.extend_from_slice(bytes);
            Detached::Str
        }
        Value::Bin(bytes) => {
            text.extend_from_slice(bytes);
            Detached::Bin
        }
    }
}

//! TCP mode: rules on the first bytes choose a backend, then bytes are relayed.

use crate::base::id::{BackendId, ServerId};
use crate::base::time::Now;
use crate::policy::rule::{TcpAction, Verdict};
use crate::policy::sample::FirstBytes;
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::explain::{self, List, next_rule};
use crate::proxy::facts::Message;
use crate::proxy::first_bytes::FirstBuf;
use crate::proxy::relay::{self, Count, Timeouts};
use crate::proxy::session::Session;
use crate::proxy::stick::Span;
use crate::proxy::{dispatch, log};
use crate::rt;
use crate::stats::process::CoreStat;
use crate::stats::table::Stat;
use crate::stats::timers::Lap;

/// Routes, connects and relays.
pub(super) async fn serve(session: &Session, mut first: FirstBuf) -> Result<End, End> {
    let frontend = session.frontend();
    let routed = if frontend.content_rules.is_empty() {
        None
    } else {
        Box::pin(content_rules(session, &mut first)).await?
    };
    let unrouted = End::new(Side::Proxy, Phase::Inspect, Kind::Unrouted);
    let backend = routed.or(frontend.default_backend).ok_or(unrouted)?;
    let settings = &session.core.model.backends[backend];
    if session.core.trace.get().is_some() {
        return Err(explain::routed(session, backend, first.bytes()));
    }
    let connecting = Box::pin(dispatch::connect(session, backend, first.bytes()));
    let server = if settings.abort_on_close {
        match rt::select(connecting, dispatch::left(session, settings)).await {
            rt::Either::First(connected) => connected?,
            rt::Either::Second(end) => return Err(end),
        }
    } else {
        connecting.await?
    };

    let info = &session.info;
    info.phase.set(Phase::Data);
    log::on_connected(session, || server.conn.local_addr());
    log::early(session);
    let mut setup = relay::Setup {
        client: info.conn(),
        server: &server.conn,
        first: first.into_send(),
        timeouts: Timeouts {
            client: frontend.timeout_client,
            server: settings.timeout_server,
            client_fin: frontend.timeout_client_fin,
            server_fin: settings.timeout_server_fin,
            tunnel: settings.timeout_tunnel,
        },
        splice: settings.splice,
        count: counter(session, backend, server.slot.server),
    };
    let end = relay::run(&mut setup).await;
    server.finish(end);
    Ok(end)
}

/// Walks the rules; waits for first bytes only where a rule needs them, and at most `inspect-delay`. Behind an `accept` nothing is
/// waited for, and only those that route count: HAProxy has them in a list of their own behind all others.
async fn content_rules(session: &Session, first: &mut FirstBuf) -> Result<Option<BackendId>, End> {
    let frontend = session.frontend();
    let deadline = session.info.started + frontend.inspect_delay;
    let mut complete = false;
    let mut accepted = false;
    let mut at = 0;
    loop {
        complete |= accepted || first.is_full() || rt::now() >= deadline;
        let seen = FirstBytes { data: first.bytes(), complete };
        let verdict = {
            let variables = session.variables.borrow();
            let mut scratch = session.core.scratch.borrow_mut();
            next_rule(
                List::Content,
                &frontend.content_rules,
                at,
                &session.facts(&variables, seen),
                &mut scratch,
            )
        };
        match verdict {
            Verdict::End => return Ok(None),
            Verdict::NeedMore(index) => {
                at = index;
                debug_assert!(!complete, "nothing is open once all bytes are there");
                complete = !more(session, first, deadline).await?;
            }
            Verdict::Apply(index, action) if accepted && !matches!(action, TcpAction::UseBackend(_)) => {
                if let Some(trace) = session.core.trace.get() {
                    trace.skipped(&frontend.content_rules, index);
                }
                at = index + 1;
            }
            Verdict::Apply(index, action) => {
                session.hit(&frontend.content_rules[index]);
                match action {
                    TcpAction::Accept => accepted = true,
                    TcpAction::Reject => return Err(End::new(Side::Proxy, Phase::Inspect, Kind::Denied)),
                    TcpAction::SilentDrop => return Err(session.drop_silently(Kind::Denied)),
                    TcpAction::UseBackend(backend) => return Ok(Some(*backend)),
                    TcpAction::SetVar { variable, value } => session.set_variable(*variable, value, seen),
                    TcpAction::Stick(action) => {
                        session.stick_action(action, (seen, Message::default()), Span::Stream);
                    }
                    TcpAction::Capture { value, slot, len } => {
                        log::begin_once(session);
                        session.with_facts(seen, Message::default(), |facts, scratch| {
                            if let Some(value) = value.eval(facts, scratch).value {
                                value.with_text(|text| log::capture(session, false, (*slot, *len), text));
                            }
                        });
                    }
                    TcpAction::SetLogLevel(level) => {
                        log::begin_once(session);
                        log::set_level(session, *level);
                    }
                }
                at = index + 1;
            }
        }
    }
}

/// Waits for more first bytes; false when none will come in time. A client that is silent for longer than it may is cut off.
async fn more(session: &Session, first: &mut FirstBuf, deadline: Now) -> Result<bool, End> {
    let client = session.info.conn();
    let broken = |e: std::io::Error| End::io(Side::Client, Phase::Inspect, &e);
    let patience = session.frontend().timeout_client.map(|timeout| rt::now() + timeout);
    let first_of_both = patience.map_or(deadline, |patience| patience.min(deadline));
    // The connection goes on when the delay is over: only a wait for readiness may be given up without losing bytes.
    match rt::with_deadline(client.readable(), Some(first_of_both)).await {
        Err(rt::Elapsed) if first_of_both < deadline => {
            return Err(End::new(Side::Client, Phase::Inspect, Kind::Timeout));
        }
        Err(rt::Elapsed) => {
            session.core.shard().frontends[session.info.frontend].count(Stat::InspectTimeouts);
            return Ok(false);
        }
        Ok(ready) => ready.map_err(broken)?,
    }
    match client.recv().await.map_err(broken)? {
        Some(data) => {
            first.push(data);
            Ok(true)
        }
        None => Ok(false),
    }
}

/// Counts moved bytes on every object of the session, while it runs. It holds no more than it must: every quiet connection has one.
pub(super) fn counter(session: &Session, backend: BackendId, server: ServerId) -> impl Fn(Count) {
    let connected = rt::now();
    move |count: Count| {
        let (info, core, shard) = (&session.info, &session.core, session.core.shard());
        let (frontend, bind) = (&shard.frontends[info.frontend], &shard.listeners[info.bind]);
        let (on_backend, on_server) = (&shard.backends[backend], &shard.servers[server]);
        if count.from_client > 0 {
            info.bytes_in.set(info.bytes_in.get() + count.from_client);
            info.count_tracked_in(count.from_client);
            frontend.add(Stat::BytesIn, count.from_client);
            bind.add(Stat::BytesIn, count.from_client);
            on_backend.add(Stat::BytesIn, count.from_client);
            on_server.add(Stat::BytesIn, count.from_client);
        }
        if count.to_client > 0 {
            if info.timings.borrow().answered_at().is_none() {
                let now = rt::now();
                info.time(|t| t.answered(connected, now));
                core.record_time(server, Lap::FirstByte, info.timings.borrow().response.us().unwrap_or(0));
            }
            info.bytes_out.set(info.bytes_out.get() + count.to_client);
            info.count_tracked_out(count.to_client);
            frontend.add(Stat::BytesOut, count.to_client);
            bind.add(Stat::BytesOut, count.to_client);
            on_backend.add(Stat::BytesOut, count.to_client);
            on_server.add(Stat::BytesOut, count.to_client);
        }
        shard.core.add(CoreStat::BytesOut, count.from_client + count.to_client);
        if count.spliced > 0 {
            frontend.add(Stat::SplicedBytes, count.spliced);
            on_backend.add(Stat::SplicedBytes, count.spliced);
            on_server.add(Stat::SplicedBytes, count.spliced);
            shard.core.add(CoreStat::SplicedBytesOut, count.spliced);
        }
    }
}

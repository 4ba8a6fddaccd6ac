//! Commands that change frontends, the process, and sessions.

use crate::base::id::FrontendId;
use crate::control::cli::parse;
use crate::control::cli::session::{Answer, Call, Reply, done};
use crate::control::cli::target::{Job, Outcome};
use crate::live::FrontendState;
use crate::model::{AdminLevel, Frontend};

/// The frontend that the first argument names, or numbers as `#iid`.
fn frontend(call: &Call<'_>) -> Result<FrontendId, String> {
    let name = call.arg(0);
    if name.is_empty() {
        return Err("A frontend name is expected.".to_owned());
    }
    let iid = name.strip_prefix('#').and_then(parse::number::<u32>);
    let is_it = |frontend: &Frontend| iid.map_or(frontend.name == name, |iid| frontend.iid == iid);
    let named = call.target.model().frontends.iter().find(|(_, frontend)| is_it(frontend));
    named.map(|(id, _)| id).ok_or_else(|| {
        let names = call.target.model().frontends.values().map(|frontend| frontend.name.as_str());
        parse::no_such("No such frontend.", name, names)
    })
}

/// The same, if it was not shut down.
fn frontend_that_listens(call: &Call<'_>, verb: &str) -> Result<FrontendId, String> {
    let id = frontend(call)?;
    match call.target.frontend_state(id) {
        FrontendState::Shut => Err(format!("Frontend was previously shut down, cannot {verb}.")),
        FrontendState::Open | FrontendState::Paused => Ok(id),
    }
}

pub(super) fn shutdown(call: &mut Call<'_>) -> Answer {
    let id = frontend(call)?;
    if call.target.frontend_state(id) == FrontendState::Shut {
        return Err("Frontend was already shut down.".to_owned());
    }
    call.target.shut_frontend(id);
    done()
}

pub(super) fn enable(call: &mut Call<'_>) -> Answer {
    let id = frontend_that_listens(call, "enable")?;
    if call.target.set_frontend_enabled(id, true) {
        done()
    } else {
        Err("All sockets are already enabled.".to_owned())
    }
}

pub(super) fn disable(call: &mut Call<'_>) -> Answer {
    let id = frontend_that_listens(call, "disable")?;
    if call.target.set_frontend_enabled(id, false) {
        done()
    } else {
        Err("All sockets are already disabled.".to_owned())
    }
}

pub(super) fn set_maxconn(call: &mut Call<'_>) -> Answer {
    let id = frontend(call)?;
    let maxconn = maxconn(call.arg(1), "Integer value expected.")?;
    let before = call.target.set_frontend_maxconn(id, maxconn);
    call.changed(before.unwrap_or(0), maxconn.unwrap_or(0));
    done()
}

pub(super) fn set_maxconn_global(call: &mut Call<'_>) -> Answer {
    let maxconn = maxconn(call.arg(0), "Expects an integer value.")?;
    let before = call.target.process().maxconn;
    call.changed(before, maxconn.map_or("the start's".to_owned(), |n| n.to_string()));
    if call.target.set_global_maxconn(maxconn) { done() } else { Err("Value out of range.".to_owned()) }
}

/// `set rate-limit connections|sessions|ssl-sessions global N`. A connection is a session here.
pub(super) fn set_rate_limit(call: &mut Call<'_>) -> Answer {
    let is_tls = call.arg(0) == "ssl-sessions";
    if !is_tls && !matches!(call.arg(0), "connections" | "sessions") {
        return Err("'set rate-limit' supports 'connections', 'sessions' and 'ssl-sessions'.".to_owned());
    }
    if call.arg(1) != "global" {
        return Err("'set rate-limit' only supports 'global'.".to_owned());
    }
    let Some(limit) = parse::number::<u32>(call.arg(2)) else {
        return Err("Expects an integer value.".to_owned());
    };
    let process = call.target.process();
    if is_tls {
        call.changed(process.tls_rate_limit, limit);
        call.target.set_tls_rate_limit(limit);
    } else {
        call.changed(process.rate_limit, limit);
        call.target.set_rate_limit(limit);
    }
    done()
}

/// A limit; 0 lifts it.
fn maxconn(text: &str, missing: &str) -> Result<Option<u32>, String> {
    match parse::number::<u64>(text) {
        None if text.starts_with('-') => Err("Value out of range.".to_owned()),
        None => Err(missing.to_owned()),
        Some(0) => Ok(None),
        Some(n) => u32::try_from(n).map(Some).map_err(|_| "Value out of range.".to_owned()),
    }
}

pub(super) fn clear_counters(call: &mut Call<'_>) -> Answer {
    let all = match call.arg(0) {
        "" => false,
        "all" if call.settings.level < AdminLevel::Admin => return Err("Permission denied".to_owned()),
        "all" => true,
        _ => return Err("'clear counters' only supports 'all'.".to_owned()),
    };
    call.target.clear_counters(all);
    done()
}

pub(super) fn shutdown_session(call: &mut Call<'_>) -> Answer {
    let Some(id) = session_id(call.arg(0)) else {
        return Err("Session pointer expected (use 'show sess').".to_owned());
    };
    let answer = |outcome| match outcome {
        Outcome::Found(true) => String::new(),
        _ => "No such session (use 'show sess').".to_owned(),
    };
    Ok(Reply::Job(Job::ShutdownSession(id), Box::new(answer)))
}

/// The id that `show sess` prints: hexadecimal, with or without `0x`.
pub(super) fn session_id(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

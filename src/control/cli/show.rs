//! Commands that show the process, its statistics and its sessions.

use std::fmt::Write as _;
use std::time::Duration;

use crate::control::cli::frontends::session_id;
use crate::control::cli::parse;
use crate::control::cli::session::{Answer, Call, Reply};
use crate::control::cli::table::level_name;
use crate::control::cli::target::{Asked, Job, Outcome, SessionInfo};
use crate::model::{AdminEndpoint, AdminLevel};
use crate::proxy::refusals::From;
use crate::stats::latency::Window;
use crate::stats::process::CORE_TABLE;
use crate::stats::render::{Filter, Form, ProxyChoice, info as info_text, json, typed};
use crate::stats::snapshot::Facts;
use crate::stats::table::Object;

pub(super) fn version(call: &mut Call<'_>) -> Answer {
    Ok(Reply::Text(call.target.process().version))
}

/// `show events`: the rings, or the lines of one.
pub(super) fn events(call: &mut Call<'_>) -> Answer {
    let mut flags = call.args.iter().filter_map(|arg| arg.strip_prefix('-')).flat_map(str::chars);
    if let Some(unknown) = flags.find(|flag| !matches!(flag, 'w' | 'n')) {
        return Err(format!("unknown option '{unknown}'"));
    }
    let has = |flag: char| {
        let is_it = |arg: &String| arg.starts_with('-') && arg.contains(flag);
        call.args.iter().any(is_it)
    };
    let Some(name) = call.args.iter().find(|arg| !arg.starts_with('-')) else {
        let rings = call.target.rings();
        let mut out = String::from("Rings:\n");
        for (name, description) in rings {
            let _ = writeln!(out, "  {name:10}: {description}");
        }
        return Ok(Reply::Text(out));
    };
    let from = if has('n') { u64::MAX } else { 0 };
    let (text, next) = call.target.ring_lines(name, from).ok_or_else(|| {
        let rings = call.target.rings();
        parse::no_such(&format!("No such ring: {name}"), name, rings.iter().map(|(name, _)| name.as_str()))
    })?;
    if has('w') { Ok(Reply::Follow(text, name.clone(), next)) } else { Ok(Reply::Text(text)) }
}

pub(super) fn info(call: &mut Call<'_>) -> Answer {
    let has = |word: &str| call.args.iter().any(|arg| arg == word);
    let (snapshot, mut out) = (call.target.snapshot(Window::default(), &Filter::NOTHING), String::new());
    match () {
        _ if has("json") => json::info(&snapshot, &mut out),
        _ if has("typed") => typed::info(&snapshot, has("desc"), &mut out),
        _ => info_text::info(&snapshot, has("desc"), &mut out),
    }
    Ok(Reply::Text(out))
}

pub(super) fn stat(call: &mut Call<'_>) -> Answer {
    let has = |word: &str| call.args.iter().any(|arg| arg == word);
    let mut filter = Filter {
        up: has("up"),
        no_maint: has("no-maint"),
        desc: has("desc"),
        legends: call.settings.level >= AdminLevel::Operator,
        ..Filter::ALL
    };
    let args = match call.args {
        [word, domain, rest @ ..] if word == "domain" => match domain.as_str() {
            "proxy" => rest,
            "dns" | "resolvers" => {
                return Err("Names of servers and their look-ups: 'show resolvers'.".to_owned());
            }
            _ => return Err("invalid proxy domain".to_owned()),
        },
        args => args,
    };
    if let [proxy, types, sid, ..] = args
        && !KEYWORDS.contains(&proxy.as_str())
        && Window::of(proxy).is_none()
    {
        // HAProxy reads a type that is no number as 0, which matches nothing.
        filter.proxy = proxy_choice(call, proxy)?;
        filter.types = u32::try_from(types.parse().unwrap_or(0i64)).ok();
        filter.sid = u32::try_from(sid.parse().unwrap_or(0i64)).ok();
    }
    let window = call.args.iter().find_map(|arg| Window::of(arg)).unwrap_or_default();
    let ago = match call.args.iter().position(|arg| arg == "at") {
        Some(at) => Some(ago(call.arg(at + 1))?),
        None => None,
    };
    let form = match () {
        _ if has("json") => Form::Json,
        _ if has("typed") => Form::Typed,
        _ => Form::Csv,
    };
    let answer = |outcome| match outcome {
        Outcome::Text(text) => text,
        _ => String::new(),
    };
    let asked = Asked { form, filter, window, ago };
    Ok(Reply::Job(Job::Statistics(Box::new(asked)), Box::new(answer)))
}

/// `at -15m`: everything as it was. The sign may be left out.
fn ago(text: &str) -> Result<Duration, String> {
    let ago = parse::duration(text.strip_prefix('-').unwrap_or(text), Duration::from_secs(1));
    ago.ok_or_else(|| "'at' expects how long ago, for example -15m.".to_owned())
}

/// Words of `show stat` that are no proxy.
const KEYWORDS: [&str; 6] = ["typed", "json", "desc", "up", "no-maint", "at"];

/// A number is an iid, a negative one means all, anything else is a name.
fn proxy_choice(call: &Call<'_>, text: &str) -> Result<ProxyChoice, String> {
    if let Ok(iid) = text.parse::<i64>() {
        return Ok(u32::try_from(iid).map_or(ProxyChoice::All, ProxyChoice::Iid));
    }
    let model = call.target.model();
    let frontends = model.frontends.values().map(|frontend| frontend.name.as_str());
    let mut names = frontends.chain(model.backends.values().map(|backend| backend.name.as_str()));
    if names.clone().any(|name| name == text) {
        return Ok(ProxyChoice::Name(text.to_owned()));
    }
    Err(parse::no_such("No such proxy.", text, &mut names))
}

pub(super) fn backend(call: &mut Call<'_>) -> Answer {
    let mut out = "# name\n".to_owned();
    for backend in call.target.model().backends.values().filter(|backend| !backend.is_internal()) {
        out.push_str(&backend.name);
        out.push('\n');
    }
    Ok(Reply::Text(out))
}

pub(super) fn listeners(call: &mut Call<'_>) -> Answer {
    let mut out = "# frontend bind address state\n".to_owned();
    let binds = Filter { types: Some(1 << Object::Listener as u8), ..Filter::ALL };
    for entry in call.target.snapshot(Window::default(), &binds).entries {
        if let Facts::Listener(listener) = &entry.facts {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{} {} {} {}", entry.proxy, entry.name, listener.address, listener.status);
        }
    }
    Ok(Reply::Text(out))
}

pub(super) fn cli_sockets(call: &mut Call<'_>) -> Answer {
    let mut out = "# socket lvl processes\n".to_owned();
    for socket in &call.target.model().global.admin {
        let kind = match &socket.at {
            AdminEndpoint::Unix(_) => "unix@",
            AdminEndpoint::Tcp(_) | AdminEndpoint::Fd(_) => "",
        };
        let _ = writeln!(out, "{kind}{} {} all", socket.at, level_name(socket.level));
    }
    Ok(Reply::Text(out))
}

/// One line a number: the sum, then each core's part; with `desc` what it counts.
pub(super) fn activity(call: &mut Call<'_>) -> Answer {
    let desc = match call.arg(0) {
        "" => false,
        "desc" => true,
        other => return Err(format!("unknown argument '{other}': there is desc.")),
    };
    let process = call.target.snapshot(Window::default(), &Filter::NOTHING).process_sums;
    let (totals, cores) = (process.totals, call.target.cores());
    let names: Vec<String> = (1..cores.len()).map(|core| format!("core-{}", core - 1)).collect();
    let mut out = format!("# name: all [ {} control ]\n", names.join(" "));
    for (row, total) in CORE_TABLE.iter().zip(totals) {
        let parts: Vec<String> = cores.iter().map(|core| core[row.stat as usize].to_string()).collect();
        let _ = write!(out, "{}: {total} [ {} ]", row.name, parts.join(" "));
        out.push_str(&if desc { format!(" {}\n", row.help) } else { "\n".to_owned() });
    }
    Ok(Reply::Text(out))
}

/// One line a reason that occurred: whose message, its name, the status of the answer, how often, and the reason in words.
pub(super) fn error_reasons(call: &mut Call<'_>) -> Answer {
    let all = match call.arg(0) {
        "" => false,
        "all" => true,
        other => return Err(format!("unknown argument '{other}': there is all.")),
    };
    let mut out = String::from("# from reason status count text\n");
    for row in call.target.refusals().iter().filter(|row| all || row.count > 0) {
        let from = match row.from {
            From::Request => "request",
            From::Response => "response",
            From::Stream => "h2-request",
        };
        let _ = writeln!(out, "{from} {} {} {} {}", row.name, row.status, row.count, row.text);
    }
    Ok(Reply::Text(out))
}

pub(super) fn sessions(call: &mut Call<'_>) -> Answer {
    let wanted = match call.arg(0) {
        "" | "all" => None,
        id => Some(session_id(id).ok_or_else(|| "Session not found.".to_owned())?),
    };
    let answer = move |outcome| match outcome {
        Outcome::Sessions(sessions) => session_list(&sessions, wanted),
        _ => String::new(),
    };
    Ok(Reply::Job(Job::Sessions, Box::new(answer)))
}

fn session_list(sessions: &[SessionInfo], wanted: Option<u64>) -> String {
    let chosen = |session: &&SessionInfo| wanted.is_none_or(|id| session.id == id);
    let mut out = String::new();
    for s in sessions.iter().filter(chosen) {
        let target = s.target.map_or("<none>".to_owned(), |address| address.to_string());
        let _ = writeln!(
            out,
            "{:#x}: src={} dst={} fe={} be={} srv={} addr={target} core={} age={}s state={} in={} out={}",
            s.id,
            s.client,
            s.local,
            s.frontend,
            s.backend.as_deref().unwrap_or("<NONE>"),
            s.server.as_deref().unwrap_or("<none>"),
            s.core,
            s.age.as_secs(),
            s.state,
            s.bytes_in,
            s.bytes_out,
        );
    }
    if wanted.is_some() && out.is_empty() {
        out.push_str("Session not found.");
    }
    out
}

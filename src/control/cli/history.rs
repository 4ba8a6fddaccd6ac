//! `show history`: what an object did during the last minutes or hours, one line for each second, ten seconds or minute.

use std::fmt::Write as _;
use std::time::Duration;

use crate::control::cli::parse;
use crate::control::cli::servers::{backend_by_name, server};
use crate::control::cli::session::{Answer, Call, Reply};
use crate::control::cli::target::Whose;
use crate::stats::history::{COUNTERS, LEVELS};

/// How far it goes back unless it is asked for more: as far as there is a line for each second.
const USUAL: Duration = Duration::from_secs(600);

pub(super) fn show(call: &mut Call<'_>) -> Answer {
    let ago = match call.arg(1) {
        "" => USUAL,
        text => parse::duration(text.strip_prefix('-').unwrap_or(text), Duration::from_secs(1))
            .ok_or_else(|| "Expected how far back, for example 2h.".to_owned())?,
    };
    let mut out = "# pxname,svname,ago,seconds".to_owned();
    for stat in COUNTERS.iter().chain(&LEVELS) {
        // Writing to a String cannot fail.
        let _ = write!(out, ",{}", stat.row().csv);
    }
    out.push('\n');
    for (proxy, service, whose) in named(call)? {
        for (age, point) in call.target.series(whose, ago) {
            let _ = write!(out, "{proxy},{service},{},{}", age.as_secs(), point.seconds);
            for value in point.values {
                let _ = write!(out, ",{value}");
            }
            out.push('\n');
        }
    }
    Ok(Reply::Text(out))
}

/// A server, or the frontend and the backend of a name.
fn named(call: &Call<'_>) -> Result<Vec<(String, String, Whose)>, String> {
    let (name, model) = (call.arg(0), call.target.model());
    if let Some((backend, _)) = name.split_once('/') {
        let id = server(call)?;
        return Ok(vec![(backend.to_owned(), model.servers[id].name.clone(), Whose::Server(id))]);
    }
    let frontend = model.frontends.iter().find(|(_, frontend)| frontend.name == name);
    let mut found = Vec::new();
    found.extend(frontend.map(|(id, _)| (name.to_owned(), "FRONTEND".to_owned(), Whose::Frontend(id))));
    let backend = backend_by_name(model, name);
    found.extend(backend.map(|id| (name.to_owned(), "BACKEND".to_owned(), Whose::Backend(id))));
    if !found.is_empty() {
        return Ok(found);
    }
    let frontends = model.frontends.values().map(|frontend| frontend.name.as_str());
    let backends = model.backends.values().map(|backend| backend.name.as_str());
    Err(parse::no_such("No such frontend or backend.", name, frontends.chain(backends)))
}

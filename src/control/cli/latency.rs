//! `show latency`: percentiles of durations, a table that people read.

use std::fmt::Write as _;

use crate::base::id::{IdRange, ServerId};
use crate::control::cli::servers::{named_backend, server};
use crate::control::cli::session::{Answer, Call, Reply};
use crate::stats::latency::Window;
use crate::stats::timers::Lap;

pub(super) fn show(call: &mut Call<'_>) -> Answer {
    let window = call.args.iter().find_map(|arg| Window::of(arg));
    let name = call.arg(0);
    let named = (!name.is_empty() && Window::of(name).is_none()).then_some(name);
    let mut out = format!(
        "{:<40} {:<10} {:>5} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}\n",
        "# backend/server", "step", "over", "count", "p50_us", "p90_us", "p99_us", "p99.9_us", "max_us"
    );
    for (name, servers) in chosen(call, named)? {
        for (word, window) in Window::NAMED.into_iter().filter(|(_, w)| window.is_none_or(|one| one == *w)) {
            let laps = call.target.latency(servers, window);
            for (lap, q) in Lap::ALL.into_iter().zip(laps).filter(|(_, q)| q.count > 0) {
                // Writing to a String cannot fail.
                let _ = writeln!(
                    out,
                    "{name:<40} {:<10} {word:>5} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}",
                    lap.name(),
                    q.count,
                    q.p50,
                    q.p90,
                    q.p99,
                    q.p999,
                    q.max
                );
            }
        }
    }
    Ok(Reply::Text(out))
}

/// One server, or a backend and its servers, or all backends.
fn chosen(call: &Call<'_>, named: Option<&str>) -> Result<Vec<(String, IdRange<ServerId>)>, String> {
    let model = call.target.model();
    let one = |id: ServerId| IdRange::new(id..ServerId(id.0 + 1));
    let Some(name) = named else {
        return Ok(model
            .backends
            .values()
            .filter(|b| !b.is_internal())
            .map(|b| (b.name.clone(), b.servers))
            .collect());
    };
    if name.contains('/') {
        return Ok(vec![(name.to_owned(), one(server(call)?))]);
    }
    let id = named_backend(model, name)?;
    let backend = &model.backends[id];
    let servers = backend.servers.iter().map(|id| {
        let name = format!("{}/{}", backend.name, model.servers[id].name);
        (name, one(id))
    });
    Ok([(backend.name.clone(), backend.servers)].into_iter().chain(servers).collect())
}

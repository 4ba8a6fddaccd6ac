//! `shardgate plan`: what a configuration file would change in a running process. It asks the admin socket for what runs and
//! compares here; nothing in the process is touched.

use std::fmt::Write as _;
use std::path::Path;

use crate::base::id::{Id, IdVec};
use crate::config::{diff, file, overlay};
use crate::control::ctl;
use crate::control::listeners::configured;
use crate::control::load::{self, Source};
use crate::model::{self, Model};

/// What would change, one line each; `None`: nothing.
///
/// # Errors
/// The process cannot be asked, or the file is wrong; the text says so.
pub fn plan(socket: &Path, source: &Source) -> Result<Option<String>, String> {
    let mut running = Vec::new();
    ctl::run(socket, &["show configuration".to_owned()], &mut running).map_err(|error| error.to_string())?;
    let running = String::from_utf8_lossy(&running);
    let loaded = source.load()?;
    let said = loaded.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let next = loaded.model.ok_or(said)?;
    let parse = |name: &str, text: &str| {
        let (mut file, mut wrong) = file::parse(name, text);
        if let Some(file) = &mut file {
            wrong = overlay::apply(file, &load::node());
        }
        file.ok_or_else(|| wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    let changes = diff::changes(&parse("running", &running)?, &parse(&source.name(), &loaded.text)?);
    if changes.is_empty() {
        return Ok(None);
    }
    let mut out = String::new();
    for change in &changes {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{change}");
    }
    // What runs may name files that have changed since: then only the configuration is compared.
    if let (Some(old), _) = source.resolve(&running)? {
        effects(&old, &next, &mut out);
    }
    Ok(Some(out))
}

/// What a reload would touch.
fn effects(old: &Model, new: &Model, out: &mut String) {
    let origins = model::origins(old, new);
    for (id, origin) in origins.listeners.iter() {
        if origin.is_none() {
            let _ = writeln!(out, "opens {}", configured(&new.binds[id].address));
        }
    }
    for (id, bind) in old.binds.iter() {
        if !origins.listeners.values().any(|origin| *origin == Some(id)) {
            let _ = writeln!(out, "closes {}", configured(&bind.address));
        }
    }
    let mut count = |what: &str, kept: usize, before: usize, after: usize| {
        if (kept, kept) != (before, after) {
            let _ = writeln!(out, "{what}: {} added, {} removed, {kept} kept", after - kept, before - kept);
        }
    };
    count("frontends", kept(&origins.frontends), old.frontends.len(), new.frontends.len());
    count("backends", kept(&origins.backends), old.backends.len(), new.backends.len());
    count("servers", kept(&origins.servers), old.servers.len(), new.servers.len());
}

fn kept<I: Id>(origins: &IdVec<I, Option<I>>) -> usize {
    origins.values().flatten().count()
}

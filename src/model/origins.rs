//! What of a model was there in the model before: objects by name, binds by what makes their sockets. Pure; a reload carries
//! over what it finds here, and `plan` tells the difference.

use std::sync::Arc;

use ahash::AHashMap;

use crate::base::id::{Id, IdVec, ListenerId};
use crate::model::rules::rule_origins;
use crate::model::{Bind, BindAddress, Model};
use crate::stats::counters::{Origins, Sizes};

impl Model {
    /// How many objects of each kind there are.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            frontends: self.frontends.len(),
            backends: self.backends.len(),
            servers: self.servers.len(),
            listeners: self.binds.len(),
            rules: self.rules().len(),
        }
    }
}

/// For each object of `new` the id of the same object in `old`. Frontends, backends and servers are the same by name, binds by
/// address, interface and what else only a new socket can change.
pub fn origins(old: &Model, new: &Model) -> Origins {
    let mut origins = Origins::none(new.sizes());
    let names: AHashMap<&str, _> = old.frontends.iter().map(|(id, f)| (f.name.as_str(), id)).collect();
    for (id, frontend) in new.frontends.iter() {
        origins.frontends[id] = names.get(frontend.name.as_str()).copied();
    }
    let names: AHashMap<&str, _> = old.backends.iter().map(|(id, b)| (b.name.as_str(), id)).collect();
    let mut servers: AHashMap<&str, _> = AHashMap::new();
    for (id, backend) in new.backends.iter() {
        let Some(origin) = names.get(backend.name.as_str()).copied() else { continue };
        origins.backends[id] = Some(origin);
        let before = &old.backends[origin].servers;
        if before.len() == backend.servers.len()
            && before.iter().zip(backend.servers.iter()).all(|(a, b)| {
                Arc::ptr_eq(&old.servers[a], &new.servers[b]) || old.servers[a].name == new.servers[b].name
            })
        {
            // The usual case needs no table.
            for (origin, id) in before.iter().zip(backend.servers.iter()) {
                origins.servers[id] = Some(origin);
            }
            continue;
        }
        servers.clear();
        servers.extend(old.backends[origin].servers.iter().map(|id| (old.servers[id].name.as_str(), id)));
        for server in backend.servers.iter() {
            origins.servers[server] = servers.get(new.servers[server].name.as_str()).copied();
        }
    }
    origins.listeners = binds(old, new);
    origins.rules = rule_origins(old, new);
    origins
}

/// What a socket is made of; a change of it needs another socket.
#[derive(PartialEq, Eq, Hash)]
struct Socket<'a> {
    address: &'a BindAddress,
    interface: Option<&'a str>,
    transparent: bool,
    v6only: bool,
}

fn socket(bind: &Bind) -> Socket<'_> {
    let Bind { address, interface, transparent, v6only, .. } = bind;
    Socket { address, interface: interface.as_deref(), transparent: *transparent, v6only: *v6only }
}

/// Binds may look alike (port 0): those of the same frontend and name are taken first, then those of the same frontend.
fn binds(old: &Model, new: &Model) -> IdVec<ListenerId, Option<ListenerId>> {
    let mut free: AHashMap<Socket<'_>, Vec<ListenerId>> = AHashMap::new();
    for (id, bind) in old.binds.iter() {
        free.entry(socket(bind)).or_default().push(id);
    }
    let frontend = |model: &Model, id: ListenerId| model.frontends[model.binds[id].frontend].name.clone();
    let mut found: IdVec<ListenerId, Option<ListenerId>> = new.binds.ids().map(|_| None).collect();
    type Same<'a> = &'a dyn Fn(ListenerId, ListenerId) -> bool;
    let same_frontend = |a, b| frontend(old, a) == frontend(new, b);
    let same_name = |a, b| same_frontend(a, b) && old.binds[a].name == new.binds[b].name;
    // Without a port of its own a socket is that of its frontend alone.
    let movable = |_, b: ListenerId| !matches!(new.binds[b].address, BindAddress::Ip(ip) if ip.port() == 0);
    for same in [&same_name as Same<'_>, &same_frontend, &movable] {
        for (id, bind) in new.binds.iter() {
            if found[id].is_none()
                && let Some(candidates) = free.get_mut(&socket(bind))
                && let Some(at) = candidates.iter().position(|origin| same(*origin, id))
            {
                found[id] = Some(candidates.remove(at));
            }
        }
    }
    debug_assert!(found.values().flatten().all(|id| id.index() < old.binds.len()));
    found
}

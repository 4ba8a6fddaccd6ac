//! `track`: servers whose state is that of another server. Names to ids, once all servers are known.

use std::sync::Arc;

use super::again::Again;
use super::layout::Layout;
use super::server;
use crate::base::id::{BackendId, IdVec, ServerId};
use crate::config::diag::suggest;
use crate::config::section::Seen;
use crate::model::{Backend, Server};

/// Fills in `track` of all servers, and reports names that lead nowhere.
pub(super) fn track(
    layout: &Layout<'_>,
    servers: &mut IdVec<ServerId, Arc<Server>>,
    (backends, again): (&IdVec<BackendId, Arc<Backend>>, &Again),
) {
    // What is known tracks nobody.
    for (proxy, id) in layout.backends().filter(|(proxy, id)| !again.has(layout, proxy, *id)) {
        let range = backends[id].servers;
        for (entry, own) in layout.servers.slice(&range).iter().zip(range.iter()) {
            let section = server::section(layout, proxy, entry);
            let Some(name) = section.string("track") else { continue };
            again.note(id, Seen { outside: true, ..Seen::default() });
            let (backend, wanted) = match name.split_once('/') {
                Some((backend, server)) => {
                    (backends.iter().find(|(_, b)| b.name == backend).map(|(id, _)| id), server)
                }
                None => (Some(id), name.as_str()),
            };
            let Some(backend) = backend else {
                section.error("track", format!("\"{name}\" names no backend"), None);
                continue;
            };
            let all = backends[backend].servers;
            let Some(target) = all.iter().find(|id| servers[*id].name == wanted) else {
                let names = all.iter().map(|id| servers[id].name.as_str());
                let message = format!("unknown server \"{wanted}\"");
                section.error("track", message, suggest(wanted, names));
                continue;
            };
            if servers[own].check.is_some() || servers[own].agent.is_some() {
                let help = Some("remove check and agent-check, or track".to_owned());
                section.error("track", "a server that tracks another has no check of its own", help);
            }
            Arc::make_mut(&mut servers[own]).track = Some(target);
            if leads_back(servers, own) {
                section.error("track", "these servers track each other", None);
                Arc::make_mut(&mut servers[own]).track = None;
            }
        }
    }
}

/// Whether following `track` from a server comes back to it. What closed a circle before was not kept, so this ends.
fn leads_back(servers: &IdVec<ServerId, Arc<Server>>, start: ServerId) -> bool {
    let mut at = start;
    while let Some(next) = servers[at].track {
        if next == start {
            return true;
        }
        at = next;
    }
    false
}

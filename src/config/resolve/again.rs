//! Backends of the last load, used again where nothing they depend on changed: `kept` has sorted out those whose text did.

use std::cell::Cell;
use std::sync::Arc;

use super::backend;
use super::layout::{Layout, Proxy, ProxyKind};
use crate::base::id::{BackendId, IdVec};
use crate::config::kept::{Backends, KeptBackend};
use crate::config::section::Seen;
use crate::model::{Backend, Model, Server};
use crate::policy::sample::VariableTable;

/// What is there of the last load, and what each section needed in this one.
pub(in crate::config) struct Again {
    backends: Backends,
    seen: IdVec<BackendId, Cell<Seen>>,
}

impl Again {
    /// From the backends whose text is as it was.
    pub(in crate::config) fn of(backends: Backends) -> Again {
        Again { backends, seen: IdVec::new() }
    }

    /// Nothing is there.
    pub(in crate::config) fn nothing() -> Again {
        Again::of(Backends::default())
    }

    /// A backend whose text and defaults are as they were: there is nothing to say about its keywords.
    pub(super) fn knows(&self, kind: ProxyKind, name: &str) -> bool {
        kind == ProxyKind::Backend && self.backends.contains_key(name)
    }

    /// The backend of the last load that can stand here.
    fn find(&self, layout: &Layout<'_>, proxy: &Proxy<'_>, id: BackendId) -> Option<&KeptBackend> {
        let kept = self.backends.get(proxy.name).filter(|_| proxy.kind == ProxyKind::Backend)?;
        kept.fits(line(proxy), id, &layout.server_ranges[id]).then_some(kept)
    }

    /// Reads a backend, or takes the one of the last load.
    pub(super) fn backend(
        &mut self,
        layout: &Layout<'_>,
        (proxy, id): (&Proxy<'_>, BackendId),
        variables: &mut VariableTable,
    ) -> Arc<Backend> {
        self.seen.push(Cell::default());
        let servers = layout.server_ranges[id];
        if let Some(kept) = self.find(layout, proxy, id) {
            let same = kept.backend.iid == proxy.iid && kept.backend.servers == servers;
            return match same {
                true => kept.backend.clone(),
                false => Arc::new(Backend { iid: proxy.iid, servers, ..Backend::clone(&kept.backend) }),
            };
        }
        let read = |variables: &mut VariableTable| backend::backend(layout, proxy, id, variables);
        Arc::new(self.read((proxy, id), variables, read))
    }

    /// Whether a backend is that of the last load.
    pub(super) fn has(&self, layout: &Layout<'_>, proxy: &Proxy<'_>, id: BackendId) -> bool {
        self.find(layout, proxy, id).is_some()
    }

    /// The servers of a backend of the last load.
    pub(super) fn servers(
        &self,
        layout: &Layout<'_>,
        proxy: &Proxy<'_>,
        id: BackendId,
    ) -> Option<Vec<Arc<Server>>> {
        let kept = self.find(layout, proxy, id)?;
        if kept.line == line(proxy) && kept.id == id {
            return Some(kept.servers.clone());
        }
        let entries = layout.servers.slice(&layout.server_ranges[id]);
        let source = &proxy.section.context.file.source;
        let moved = kept.servers.iter().zip(entries).map(|(server, entry)| {
            Arc::new(Server { backend: id, origin: source.origin(entry.at), ..Server::clone(server) })
        });
        Some(moved.collect())
    }

    /// Reads a part of a backend, and notes what that needed.
    pub(super) fn read<R>(
        &self,
        (proxy, id): (&Proxy<'_>, BackendId),
        variables: &mut VariableTable,
        read: impl FnOnce(&mut VariableTable) -> R,
    ) -> R {
        let asked = variables.asked();
        let (done, seen) = proxy.section.context.watch(|| read(variables));
        self.note(id, Seen { outside: seen.outside || variables.asked() != asked, ..seen });
        done
    }

    /// A backend needed something more.
    pub(super) fn note(&self, id: BackendId, seen: Seen) {
        let all = &self.seen[id];
        all.set(all.get().and(seen));
    }

    /// What there is for the next load.
    pub(super) fn keep(self, layout: &Layout<'_>, model: &Model) -> Backends {
        let mut kept = Backends::with_capacity(model.backends.len());
        for (proxy, id) in layout.backends().filter(|(proxy, _)| proxy.kind == ProxyKind::Backend) {
            let before = self.find(layout, proxy, id).map(|kept| kept.stays);
            let seen = self.seen[id].get().and(proxy.seen);
            if before.is_none() && (seen.said || seen.outside) {
                continue;
            }
            let backend = model.backends[id].clone();
            let servers = model.servers.slice(&backend.servers).to_vec();
            let stays = before.unwrap_or(seen.here);
            kept.insert(
                proxy.name.to_owned(),
                KeptBackend { id, backend, servers, line: line(proxy), stays },
            );
        }
        kept
    }
}

/// The line of a section.
fn line(proxy: &Proxy<'_>) -> usize {
    proxy.section.context.file.source.position(proxy.at).0
}

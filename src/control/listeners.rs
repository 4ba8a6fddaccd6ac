//! Binds into listening sockets: one a core for TCP, one that is shared for UNIX and inherited sockets. A bind that has to
//! wait (its interface does not exist yet) is tried again once a second; `run` opens all, `core` retries.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::base::id::{IdVec, ListenerId};
use crate::base::net::Addr;
use crate::control::takeover::{self, Legacy};
use crate::model::{Bind, BindAddress, Model};
use crate::proxy::listener::options;
use crate::rt::{self, Endpoint, StartError, error, machine};

/// The sockets of all binds at the start.
pub(super) struct Opened {
    /// For each core its sockets.
    pub(super) sockets: Vec<Vec<(ListenerId, OwnedFd)>>,
    /// The address of each bind as it is, with the port that the kernel chose.
    pub(super) addresses: IdVec<ListenerId, String>,
    /// Binds that wait, and why.
    pub(super) waiting: Vec<(ListenerId, String)>,
    /// Files of sockets that nobody serves yet.
    pub(super) made: Made,
}

/// Files of UNIX sockets that were made; they go again unless somebody serves what listens there.
#[derive(Default)]
pub(super) struct Made(Vec<PathBuf>);

impl Made {
    /// They are served.
    pub(super) fn keep(&mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.0 {
            // Somebody else may have removed it; there is nobody to tell.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Opens the sockets of all binds that are `wanted`; `cpus` are those of the data cores.
///
/// # Errors
/// An address is in use, forbidden or otherwise impossible: then nothing is served at all, as in HAProxy.
pub(super) fn open_all(
    model: &Model,
    cpus: &[usize],
    wanted: impl Fn(ListenerId) -> bool,
    legacy: &mut Legacy,
) -> Result<Opened, StartError> {
    let mut opened = Opened {
        sockets: cpus.iter().map(|_| Vec::new()).collect(),
        addresses: model.binds.values().map(|bind| configured(&bind.address)).collect(),
        waiting: Vec::new(),
        made: Made::default(),
    };
    let mut failed = Vec::new();
    if let Some(server) = model.servers.values().find(|server| server.source_is_client)
        && !machine::may_be_transparent()
    {
        failed.push(format!(
            "{}: source = \"client\" of server {} needs CAP_NET_ADMIN: run as root, or AmbientCapabilities=CAP_NET_ADMIN in the \
             unit",
            server.origin, server.name
        ));
    }
    for (id, bind) in model.binds.iter().filter(|(id, _)| wanted(*id)) {
        let there = legacy.bind(model, id);
        let is_new = there.is_none();
        match open(bind, cpus, there) {
            Ok((sockets, address)) => {
                if let (true, BindAddress::Unix(path)) = (is_new, &bind.address) {
                    opened.made.0.push(path.clone());
                }
                opened.addresses[id] = address;
                for (core, socket) in sockets {
                    opened.sockets[core].push((id, socket));
                }
            }
            Err(e) if error::is_interface_missing(&e) => opened.waiting.push((id, error::words(&e))),
            Err(e) => failed.push(complaint(model, bind, &e)),
        }
    }
    if failed.is_empty() { Ok(opened) } else { Err(StartError(failed.join("\n"))) }
}

/// `cannot bind 127.0.0.1:80 for frontend web (config.toml:3:8): Address already in use`.
pub(super) fn complaint(model: &Model, bind: &Bind, e: &io::Error) -> String {
    let hint = match e.kind() {
        io::ErrorKind::AddrInUse => "; another process listens there",
        io::ErrorKind::PermissionDenied => {
            "; run as root or give CAP_NET_BIND_SERVICE (ports below 1024), CAP_NET_RAW (interface) \
             or CAP_NET_ADMIN (transparent)"
        }
        _ => "",
    };
    format!(
        "cannot bind {} for frontend {} ({}): {}{hint}",
        configured(&bind.address),
        model.frontends[bind.frontend].name,
        bind.origin,
        error::words(e)
    )
}

/// Opens one socket a core, as far as there are none yet. Returns them with their cores, and the address as it is.
pub(super) fn open(
    bind: &Bind,
    cpus: &[usize],
    there: Option<Vec<OwnedFd>>,
) -> io::Result<(Vec<(usize, OwnedFd)>, String)> {
    let sockets = match there.filter(|sockets| !sockets.is_empty()) {
        Some(sockets) => sockets,
        None => vec![rt::listen(endpoint(&bind.address), options(bind, cpus))?],
    };
    let bound = rt::bound_addr(&sockets[0]);
    let address = match bound {
        Addr::Ip(ip) => ip.to_string(),
        Addr::Unix | Addr::Unknown => configured(&bind.address),
    };
    // A service manager's socket may be the only one that can be bound there.
    let sockets = takeover::spread(sockets, cpus.len(), |first| match (&bind.address, bound) {
        (BindAddress::Ip(_), Addr::Ip(same)) => {
            let endpoint = Endpoint::Ip(with_scope(&bind.address, same));
            rt::listen(endpoint, options(bind, &[])).or_else(|_| rt::share(first))
        }
        _ => rt::share(first),
    })?;
    Ok((sockets, address))
}

/// The configured address with the port that the first socket got.
fn with_scope(configured: &BindAddress, bound: SocketAddr) -> SocketAddr {
    match configured {
        BindAddress::Ip(address) => {
            let mut address = *address;
            address.set_port(bound.port());
            address
        }
        _ => bound,
    }
}

fn endpoint(address: &BindAddress) -> Endpoint<'_> {
    match address {
        BindAddress::Ip(ip) => Endpoint::Ip(*ip),
        BindAddress::Unix(path) => Endpoint::Unix(path),
        BindAddress::Abstract(name) => Endpoint::Abstract(name),
        BindAddress::Fd(fd) => Endpoint::Fd(*fd),
    }
}

/// A bind's address as it stands in the configuration.
pub(super) fn configured(address: &BindAddress) -> String {
    match address {
        BindAddress::Ip(ip) => ip.to_string(),
        BindAddress::Unix(path) => format!("unix@{}", path.display()),
        BindAddress::Abstract(name) => format!("abns@{name}"),
        BindAddress::Fd(fd) => format!("fd@{fd}"),
    }
}

/// Removes the files of UNIX binds: their sockets are closed.
pub(super) fn remove_files(model: &Model) {
    for id in model.binds.ids() {
        remove_file(model, id);
    }
}

/// Removes the file of one bind, if it has one.
pub(super) fn remove_file(model: &Model, id: ListenerId) {
    if let BindAddress::Unix(path) = &model.binds[id].address {
        // Somebody else may have removed or replaced it; there is nobody to tell.
        let _ = std::fs::remove_file(path);
    }
}

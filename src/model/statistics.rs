//! The statistics page of a frontend or backend (`stats.*`), and the backend behind which the control core serves it.

use std::sync::Arc;
use std::time::Duration;

use crate::base::id::{BackendId, Id, ServerId};
use crate::model::{Backend, Model, ServerAddress};
use crate::policy::http_action::RequestAction;
use crate::policy::rule::RuleList;

/// Name of the backend and server that stand for the control core; no section can have it.
pub const INTERNAL: &str = "<STATS>";

/// The header in which data cores tell the control core what is asked for and by whom; clients' own are removed.
pub const TICKET: &str = "shardgate-ticket";

/// `stats.*` of a frontend or backend.
#[derive(Clone, Debug)]
pub struct StatsPage {
    /// How the targets of its requests begin (`stats.uri`).
    pub uri: String,
    /// How often a browser without scripts asks again (`stats.refresh`).
    pub refresh: Option<Duration>,
    /// Who may see it (`stats.http-request`, `stats.auth`), then who may change something (`stats.admin`).
    pub rules: RuleList<RequestAction>,
    /// The only proxies it shows (`stats.scope`); empty: all.
    pub scope: Vec<String>,
    /// Keep the version to ourselves (`stats.hide-version`).
    pub hide_version: bool,
    /// The name of this machine, if it is shown (`stats.show-node`).
    pub node: Option<String>,
    /// Show addresses, cookies and algorithms (`stats.show-legends`).
    pub legends: bool,
    /// The description, if it is shown (`stats.show-desc`).
    pub description: Option<String>,
}

impl Backend {
    /// Whether it stands for the control core: it has no number, which all others have.
    pub fn is_internal(&self) -> bool {
        self.iid == 0
    }
}

impl Model {
    /// The backend that stands for the control core, if anything needs it. It is the last one.
    pub fn internal_backend(&self) -> Option<BackendId> {
        let last = self.backends.len().checked_sub(1)?;
        let id = BackendId::from_index(last);
        self.backends[id].is_internal().then_some(id)
    }

    /// The server of that backend: the last one.
    pub fn internal_server(&self) -> Option<ServerId> {
        self.internal_backend().and_then(|id| self.backends[id].servers.iter().next())
    }

    /// Gives the socket of the control core a name that nobody can foresee.
    pub fn name_internal_socket(&mut self, name: String) {
        if let Some(id) = self.internal_server() {
            let servers = Arc::make_mut(&mut self.servers);
            Arc::make_mut(&mut servers[id]).address = ServerAddress::Abstract(name);
        }
    }
}

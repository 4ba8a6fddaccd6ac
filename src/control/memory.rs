//! What a process hands to the next one by its state file: overrides, which `drift` puts back in place, and the health of servers.

use std::path::Path;

use crate::base::id::ServerId;
use crate::control::core::{Control, Notice};
use crate::control::drift::configured_address;
use crate::control::servers::ServerState;
use crate::control::state::file::StateFile;
use crate::control::state::journal::{HealthRecord, Record, State};
use crate::model::Model;
use crate::policy::health::{self, Health};

impl Control {
    /// Starts with what another process remembered.
    pub(super) fn resume(&self, state: State, origin: &str) {
        {
            let mut overrides = self.overrides.borrow_mut();
            for one in state.overrides.into_values() {
                overrides.note(one);
            }
        }
        self.reapply(origin);
        let lookup = self.lookup();
        for record in state.health.into_values() {
            if let Some(id) = lookup.server(&record.backend, &record.server)
                && configured_address(&self.model.servers[id].address) == record.address
            {
                self.resume_health(id, &record);
            }
        }
    }

    fn resume_health(&self, id: ServerId, record: &HealthRecord) {
        let is_down = {
            let mut states = self.states.borrow_mut();
            let state = &mut states.servers[id];
            if let Some(health) = &mut state.health {
                health.resume(record.level, record.no_load);
            }
            if let Some(agent) = &mut state.agent
                && record.agent_down
            {
                agent.health.force(health::State::Down);
            }
            self.health_of(&states, id) != health::State::Up
        };
        if is_down {
            self.resume_down(id);
        }
    }

    /// Everything that is to be remembered.
    pub(super) fn all_records(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self.overrides.borrow().iter().cloned().map(Record::Set).collect();
        records.extend(self.health_records());
        records
    }

    /// The state file of a configuration, if it is another one now: what runs is written there, whatever stood in it.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn next_state_file(&self, next: &Model) -> Result<Option<Option<StateFile>>, String> {
        match &next.global.state_file {
            same if *same == self.model.global.state_file => Ok(None),
            None => Ok(Some(None)),
            Some(path) => self.open_state_file(path, State::default()).map(|file| Some(Some(file))),
        }
    }

    /// Goes on writing to a file that tells this.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn open_state_file(&self, path: &Path, state: State) -> Result<StateFile, String> {
        let events = self.notices.clone();
        let complain = move |text| events.send(Notice::Said(text));
        StateFile::open(path, state, complain)
            .map_err(|e| format!("cannot write the state file {}: {e}", path.display()))
    }

    /// How all checked servers are.
    pub(super) fn health_records(&self) -> Vec<Record> {
        let states = self.states.borrow();
        states.servers.iter().filter_map(|(id, state)| self.health_record(id, state)).collect()
    }

    /// How one server is, when it has changed.
    pub(super) fn remember_health(&self, id: ServerId) {
        if self.state_file.borrow().is_none() {
            return;
        }
        let record = self.health_record(id, &self.states.borrow().servers[id]);
        self.remember(record.into_iter().collect());
    }

    fn health_record(&self, id: ServerId, state: &ServerState) -> Option<Record> {
        if state.health.is_none() && state.agent.is_none() {
            return None;
        }
        let (level, no_load) = state.health.as_ref().map(Health::memory).unwrap_or_default();
        let agent_down =
            state.agent.as_ref().is_some_and(|agent| agent.health.state() == health::State::Down);
        let server = &self.model.servers[id];
        Some(Record::Health(HealthRecord {
            backend: self.model.backends[server.backend].name.clone(),
            server: server.name.clone(),
            address: configured_address(&server.address),
            level,
            no_load,
            agent_down,
        }))
    }
}

//! What a process hands to the next one by its state file: overrides, which `drift` puts back in place, and the health of servers.

use std::io;
use std::path::Path;

use ahash::AHashMap;

use crate::base::id::ServerId;
use crate::control::core::{Control, Notice};
use crate::control::drift::configured_address;
use crate::control::events::Level;
use crate::control::servers::ServerState;
use crate::control::state::file::{self, StateFile};
use crate::control::state::journal::{HealthRecord, Record, State};
use crate::control::state::overrides::{Change, Override};
use crate::model::Model;
use crate::policy::health::{self, Health};

fn unwritable(path: &Path, e: &io::Error) -> String {
    format!("cannot write the state file {}: {e}", path.display())
}

impl Control {
    /// Knows what another process remembered, as far as it is of this configuration; commands of operators see and replace it from
    /// now on.
    pub(super) fn recall(&self, overrides: impl IntoIterator<Item = Override>) {
        for one in overrides {
            self.overrides.borrow_mut().note(one);
        }
        // Before names are asked: a server whose address is its name's again takes its turn among the others.
        self.drop_stale(&mut AHashMap::new());
    }

    /// Once the names of servers are known as far as they will be: puts in place what was recalled, from `origin`.
    pub(super) fn resume(&self, health: impl IntoIterator<Item = HealthRecord>, origin: &str) {
        self.reapply(origin);
        let lookup = self.lookup();
        for record in health {
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

    /// Back to the configuration before: overrides that the one on trial had no use for hold again.
    pub(super) fn restore(&self, dropped: Vec<Override>) {
        for one in dropped {
            let is_there = self.overrides.borrow().get(&one.key).is_some();
            if is_there {
                continue;
            }
            let noted = self.overrides.borrow_mut().note(one);
            if let Change::Set(one) = noted {
                self.say(Level::Notice, format!("override of {} holds again", one.key));
                self.remember(vec![Record::Set(one)]);
            }
        }
        self.reapply("");
    }

    /// Everything that is to be remembered.
    pub(super) fn all_records(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self.overrides.borrow().iter().cloned().map(Record::Set).collect();
        records.extend(self.health_records());
        records
    }

    /// Whether the state file of a configuration can be written, if it is another one than now.
    ///
    /// # Errors
    /// It cannot.
    pub(super) fn try_state_file(&self, next: &Model) -> Result<(), String> {
        match &next.global.state_file {
            Some(path) if next.global.state_file != self.model.global.state_file => {
                file::probe(path).map_err(|e| unwritable(path, &e))
            }
            _ => Ok(()),
        }
    }

    /// After a switch: what runs is written to the state file of this configuration, whatever stood in it.
    pub(super) fn change_state_file(&self, before: &Model) {
        let path = &self.model.global.state_file;
        if *path == before.global.state_file {
            return;
        }
        self.write_state_file();
    }

    /// Writes everything to the state file, whatever stood in it.
    fn write_state_file(&self) {
        let mut state = State::default();
        self.all_records().into_iter().for_each(|record| state.take(record));
        // What the one before has still to write comes first.
        drop(self.state_file.take());
        let path = self.model.global.state_file.as_ref();
        let opened = path.map(|path| self.open_state_file(path, state));
        let file = opened.transpose().unwrap_or_else(|why| {
            self.say(Level::Alert, format!("{why}: runtime changes are forgotten with this process"));
            None
        });
        *self.state_file.borrow_mut() = file;
    }

    /// Another process is about to read the state file.
    pub(super) fn show_state_file(&self) {
        self.remember(self.health_records());
        if let Some(file) = &*self.state_file.borrow() {
            file.flush();
        }
    }

    /// Another process goes on with the state file.
    pub(super) fn leave_state_file(&self) {
        if let Some(file) = self.state_file.take() {
            file.leave();
        }
    }

    /// The process before writes no more: the file is as this one has it, whatever the other one did last.
    pub(super) fn own_state_file(&self) {
        if self.model.global.state_file.is_some() {
            self.write_state_file();
        }
    }

    /// Goes on writing to a file that tells this.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn open_state_file(&self, path: &Path, state: State) -> Result<StateFile, String> {
        let events = self.notices.clone();
        let complain = move |text| events.send(Notice::Said(text));
        StateFile::open(path, state, complain).map_err(|e| unwritable(path, &e))
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

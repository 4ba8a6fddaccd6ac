//! What the control core carries over from one generation to the next: states of servers and backends, addresses of binds.
//! What was not changed in the configuration stays as it is, and with it what an administrator set; what was changed is as
//! the configuration says.

use std::sync::Arc;

use crate::base::id::ServerId;
use crate::base::time::Now;
use crate::control::agents::{self, AgentState};
use crate::control::core::{Control, View};
use crate::control::listeners::Opened;
use crate::control::servers::{States, renewed};
use crate::control::weights;
use crate::live::{AdminState, Live};
use crate::model::{Model, Server, ServerAddress};
use crate::policy::health::State;
use crate::rt;
use crate::stats::counters::{Origins, Shard};
use crate::tls;

impl States {
    /// The states in the next generation.
    fn next(&self, old: &Model, new: &Model, origins: &Origins, now: Now) -> States {
        let mut states = States::with(new, now, |id| {
            let origin = origins.servers[id]?;
            let (before, after) = (&old.servers[origin], &new.servers[id]);
            let mut kept = self.servers[origin].clone();
            if Arc::ptr_eq(before, after) {
                return Some(kept);
            }
            kept.aims = kept.aims.carried(before, after);
            if before.maxconn != after.maxconn {
                kept.maxconn = after.maxconn;
            }
            let moved = before.address != after.address;
            if before.check != after.check || before.observe != after.observe || moved {
                kept.health = renewed(after, kept.health.as_ref().filter(|_| !moved));
                kept.last_check = kept.last_check.filter(|_| !moved && after.check.is_some());
            }
            // Checks that come anew run.
            kept.checks_enabled |= before.check.is_none();
            if before.agent != after.agent {
                kept.agent = after.agent.as_ref().map(AgentState::new);
            }
            if moved {
                kept.resolved = !matches!(after.address, ServerAddress::Name { .. });
            }
            Some(kept)
        });
        for (id, clock) in states.backends.iter_mut() {
            if let Some(origin) = origins.backends[id] {
                *clock = self.backends[origin];
            }
        }
        states
    }
}

impl Control {
    /// The control core's part of the next generation. `opened`: addresses of binds that are new.
    pub(super) fn next_view(
        &self,
        next: (&Arc<Model>, &Live, &Arc<tls::Store>, Shard),
        origins: &Origins,
        opened: Opened,
    ) -> View {
        let (model, live, tls, cells) = next;
        let states = self.states.borrow().next(&self.model, model, origins, rt::now());
        let mut addresses = opened.addresses;
        let mut waiting = opened.waiting;
        for (id, origin) in origins.listeners.iter().filter_map(|(id, o)| Some((id, (*o)?))) {
            addresses[id] = self.addresses.borrow()[origin].clone();
            let why = self.waiting.borrow().iter().find(|(w, _)| *w == origin).map(|(_, why)| why.clone());
            waiting.extend(why.map(|why| (id, why)));
        }
        View { model: model.clone(), live: live.clone(), tls: tls.clone(), cells, states, addresses, waiting }
    }

    /// Brings the shared facts in line with the configuration of a generation that has just begun.
    pub(super) fn take_over(&self, old: &Model, origins: &Origins) {
        for (id, origin) in origins.servers.iter() {
            if let Some(origin) = *origin {
                self.reconfigure(id, &old.servers[origin]);
            }
        }
        self.follow_from_start();
        agents::start_all(self, |id| {
            let before = origins.servers[id].map(|origin| &old.servers[origin].agent);
            before != Some(&self.model.servers[id].agent)
        });
        let is_same = |id| {
            origins.servers[id]
                .is_some_and(|origin| Arc::ptr_eq(&old.servers[origin], &self.model.servers[id]))
        };
        for (id, backend) in self.model.backends.iter() {
            let before = origins.backends[id].map(|origin| old.backends[origin].servers.len());
            if before != Some(backend.servers.len()) || !backend.servers.iter().all(is_same) {
                self.note_backend(id, rt::now());
            }
        }
    }

    fn reconfigure(&self, id: ServerId, before: &Arc<Server>) {
        let now = rt::now();
        let (server, live) = (&self.model.servers[id], &self.live.servers[id]);
        if Arc::ptr_eq(server, before) && self.states.borrow().servers[id].slow.is_none() {
            return;
        }
        if server.address != before.address {
            live.set_address(match &server.address {
                ServerAddress::Ip(address) => Some(*address),
                ServerAddress::Name { .. } | ServerAddress::Unix(_) | ServerAddress::Abstract(_) => None,
            });
        }
        if server.weight != before.weight {
            live.set_user_weight(server.weight);
        }
        if server.disabled != before.disabled {
            live.set_admin(if server.disabled { AdminState::Maint } else { AdminState::Ready });
        }
        let slow = {
            let mut states = self.states.borrow_mut();
            let health = self.health_of(&states, id);
            let state = &mut states.servers[id];
            live.set_up(health != State::Down && state.resolved);
            live.set_stopping(health == State::NoLoad);
            state.clock.set(live.is_usable(), now);
            state.slow.is_some()
        };
        if server.weight != before.weight || server.maxconn != before.maxconn {
            self.publish_weight(id);
        }
        if slow {
            rt::spawn(weights::warm(self.strong(), id));
        }
        // Cores have the new generation already, and may have looked at the server before all this.
        self.live.changed(server.backend);
    }
}

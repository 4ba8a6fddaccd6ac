//! Weights and limits in effect: what was asked for, less what slow start holds back.

use std::rc::Rc;

use crate::base::id::ServerId;
use crate::base::time::Now;
use crate::control::core::Control;
use crate::policy::balance::WEIGHT_SCALE;
use crate::policy::slowstart::SlowStart;
use crate::proxy::queue;
use crate::rt;

impl Control {
    /// A server came up: `slowstart` begins.
    pub(super) fn warm_up(&self, id: ServerId, now: Now) {
        let duration = self.model.servers[id].slowstart;
        let slow = (!duration.is_zero()).then(|| SlowStart::new(now, duration));
        self.states.borrow_mut().servers[id].slow = slow;
        self.publish_weight(id);
        if slow.is_some() {
            rt::spawn(warm(self.strong(), id));
        }
    }

    /// The weight that an administrator wants.
    pub(super) fn set_user_weight(&self, id: ServerId, weight: u32) {
        self.live.servers[id].set_user_weight(weight);
        self.publish_weight(id);
    }

    /// The `maxconn` that an administrator wants.
    pub(super) fn set_server_limit(&self, id: ServerId, maxconn: Option<u32>) {
        self.states.borrow_mut().servers[id].maxconn = maxconn;
        self.publish_weight(id);
    }

    /// Tells the cores the weight and the limit that are in effect now. Returns when they change next.
    pub(super) fn publish_weight(&self, id: ServerId) -> Option<Now> {
        let now = rt::now();
        let live = &self.live.servers[id];
        let (slow, maxconn) = {
            let mut states = self.states.borrow_mut();
            let state = &mut states.servers[id];
            if state.slow.is_some_and(|slow| slow.next_step(now).is_none()) {
                state.slow = None;
            }
            (state.slow, state.maxconn)
        };
        let weight = live.user_weight();
        live.set_weight(slow.map_or(weight * WEIGHT_SCALE, |slow| slow.weight(weight, now)));
        live.set_maxconn(maxconn.map(|maxconn| slow.map_or(maxconn, |slow| slow.maxconn(maxconn, now))));
        let backend = self.model.servers[id].backend;
        self.live.changed(backend);
        queue::pump(&self.live, &self.cores, backend, id, now);
        slow.and_then(|slow| slow.next_step(now))
    }
}

/// Lets one server regain its weight, step by step, until it is whole, down again, or another warm-up began.
pub(super) async fn warm(control: Rc<Control>, id: ServerId) {
    let mine = control.states.borrow().servers[id].slow;
    while let Some(next) = control.publish_weight(id) {
        rt::sleep_until(next).await;
        // Another generation has its own task and other ids.
        if !control.is_current() || control.states.borrow().servers[id].slow != mine {
            return;
        }
    }
}

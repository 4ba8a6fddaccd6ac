//! `observe`: what traffic says about the health of a server. Errors in a row are counted over all cores; the control core
//! hears of a row that is long enough and decides.
//!
//! Only errors write anything shared, and the first success behind them.

use std::sync::atomic::Ordering;

use crate::base::id::ServerId;
use crate::base::shared;
use crate::proxy::core::Core;
use crate::proxy::message::ToControl;

/// A connection to a server was made or failed. Failures count for both layers, successes for layer 4 alone.
pub(super) fn connection(core: &Core, server: ServerId, good: bool) {
    let Some(observe) = core.model.servers[server].observe else { return };
    if !(good && observe.responses) {
        note(core, server, observe.error_limit, good);
    }
}

/// A response came, with its status, or none that is one.
pub(super) fn response(core: &Core, server: ServerId, status: Option<u16>) {
    let Some(observe) = core.model.servers[server].observe else { return };
    if observe.responses {
        note(core, server, observe.error_limit, status.is_some_and(is_healthy));
    }
}

/// HAProxy: 501 and 505 say something about the request.
fn is_healthy(status: u16) -> bool {
    matches!(status, 100..=499 | 501 | 505)
}

fn note(core: &Core, server: ServerId, error_limit: u32, good: bool) {
    let errors = &core.live.servers[server].errors;
    if good {
        if errors.load(Ordering::Relaxed) != 0 {
            shared::wrote();
            errors.store(0, Ordering::Relaxed);
        }
        return;
    }
    shared::wrote();
    if errors.fetch_add(1, Ordering::Relaxed) + 1 >= error_limit {
        errors.store(0, Ordering::Relaxed);
        core.tell(ToControl::ErrorLimit(core.live.servers[server].clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::is_healthy;

    #[test]
    fn only_the_faults_of_the_server_are_errors() {
        for (status, healthy) in
            [(101, true), (200, true), (404, true), (499, true), (500, false), (501, true)]
                .into_iter()
                .chain([(502, false), (503, false), (504, false), (505, true), (599, false)])
        {
            assert_eq!(is_healthy(status), healthy, "{status}");
        }
    }
}

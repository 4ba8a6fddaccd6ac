//! The service manager's watchdog (`WatchdogSec=`): it hears that the process lives as long as every data core answers. When one
//! is stuck it hears nothing, and starts the process anew.

use std::rc::Rc;

use crate::control::core::ControlBase;
use crate::control::events::Level;
use crate::control::gather;
use crate::control::notify::{notify, watchdog};
use crate::rt;

/// Looks twice within the time that the manager waits, as long as the process runs.
pub(super) async fn run(base: Rc<ControlBase>) {
    let Some(patience) = watchdog() else { return };
    loop {
        let began = rt::now();
        let silent = gather::silent(&base).await;
        if silent.is_empty() {
            notify("WATCHDOG=1");
        } else {
            let cores: Vec<String> = silent.iter().map(|core| core.0.to_string()).collect();
            let text = format!(
                "data core {} does not answer: the service manager is not told that all is well",
                cores.join(", ")
            );
            base.say(Level::Alert, text);
        }
        rt::sleep_until(began + patience / 2).await;
    }
}

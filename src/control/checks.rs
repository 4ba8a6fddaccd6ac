//! Health checks.

use std::rc::Rc;

use crate::control::core::Control;

/// Probes that run.
#[derive(Default)]
pub(super) struct Probes;

impl Control {
    /// Servers, their addresses or their administration changed.
    pub(super) fn probes_changed(&self) {}
}

/// Starts all checks.
pub(super) fn start_all(control: &Rc<Control>) {
    control.probes_changed();
}

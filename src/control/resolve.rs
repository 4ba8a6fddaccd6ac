//! Names of servers.

use std::rc::Rc;

use crate::control::core::Control;

/// A name was looked up.
#[derive(Debug)]
pub(super) enum Resolved {}

impl Control {
    /// Takes over what a look-up found.
    pub(super) fn on_resolved(&self, resolved: Resolved) {
        match resolved {}
    }
}

/// Starts looking up.
pub(super) fn start(_control: &Rc<Control>) {}

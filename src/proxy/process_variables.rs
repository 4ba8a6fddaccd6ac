//! Variables of the process (`proc.NAME`): every core has its own copy, and tells the others what it stores. A session takes
//! them over when a request begins, so that all rules of a request see the same values and nothing is shared.

use std::cell::{Cell, RefCell};

use crate::policy::sample::{Literal, Value, VariableId, VariableScope, VariableTable, Variables};
use crate::proxy::core::Core;
use crate::proxy::message::ToCore;
use crate::proxy::session::Session;

/// The copy of one core.
pub(super) struct ProcessVariables {
    ids: Vec<VariableId>,
    values: RefCell<Variables>,
    /// Whether one was ever stored.
    used: Cell<bool>,
}

impl ProcessVariables {
    pub(super) fn new(table: &VariableTable) -> ProcessVariables {
        let scopes = table.iter().zip(0_u16..);
        let ids =
            scopes.filter(|((_, scope), _)| *scope == VariableScope::Proc).map(|(_, id)| VariableId(id));
        ProcessVariables { ids: ids.collect(), values: RefCell::default(), used: Cell::new(false) }
    }
}

impl Core {
    /// Keeps what this core or another one stored.
    pub(super) fn keep_variable(&self, id: VariableId, value: Option<Literal>) {
        let own = &self.process_variables;
        own.used.set(true);
        match value {
            Some(value) => own.values.borrow_mut().set(id, value.value()),
            None => own.values.borrow_mut().unset(id),
        }
    }

    fn share_variable(&self, id: VariableId, value: Option<Value<'_>>) {
        let owned = value.map(Literal::from);
        for (at, peer) in self.peers.iter().enumerate() {
            if at != self.id.0 as usize {
                peer.send(ToCore::Variable(id, owned.clone()));
            }
        }
        self.keep_variable(id, owned);
    }
}

impl Session {
    /// Stores a variable where its scope says.
    pub(super) fn store_variable(&self, id: VariableId, value: Value<'_>) {
        if self.core.process_variables.ids.contains(&id) {
            self.core.share_variable(id, Some(value));
        }
        self.variables.borrow_mut().set(id, value);
    }

    /// `unset-var`.
    pub(super) fn unset_variable(&self, id: VariableId) {
        if self.core.process_variables.ids.contains(&id) {
            self.core.share_variable(id, None);
        }
        self.variables.borrow_mut().unset(id);
    }

    /// Takes the variables of the process over, for a request that begins.
    pub(super) fn take_process_variables(&self) {
        let own = &self.core.process_variables;
        if !own.used.get() {
            return;
        }
        let (values, mut variables) = (own.values.borrow(), self.variables.borrow_mut());
        for id in &own.ids {
            match values.get(*id) {
                Some(value) => variables.set(*id, value),
                None => variables.unset(*id),
            }
        }
    }
}

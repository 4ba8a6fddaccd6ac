//! Variables of the process (`proc.NAME`): every core has its own copy, and tells the others what it stores. A session takes
//! them over when a request begins, so that all rules of a request see the same values and nothing is shared.

use std::cell::{Cell, RefCell};

use crate::policy::sample::{Literal, Value, VariableId, VariableScope, VariableTable, Variables};
use crate::proxy::core::{Core, CoreBase};
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
    /// The variables of a generation, with the values of the one before.
    pub(super) fn new(
        table: &VariableTable,
        before: Option<(&ProcessVariables, &VariableTable)>,
    ) -> ProcessVariables {
        let scopes = table.iter().zip(0_u16..);
        let ids =
            scopes.filter(|((_, scope), _)| *scope == VariableScope::Proc).map(|(_, id)| VariableId(id));
        let values = before.map(|(own, old)| own.values.borrow().clone().renumber(old, table));
        ProcessVariables {
            ids: ids.collect(),
            values: RefCell::new(values.unwrap_or_default()),
            used: Cell::new(before.is_some_and(|(own, _)| own.used.get())),
        }
    }
}

impl CoreBase {
    /// Keeps what this core or another one stored, in every generation that has the variable.
    pub(super) fn keep_variable(&self, name: &str, value: Option<&Literal>) {
        for core in self.all() {
            let own = &core.process_variables;
            let names = core.model.variables.iter().zip(0_u16..);
            let Some(id) =
                names.filter(|((known, _), _)| *known == name).map(|(_, id)| VariableId(id)).next()
            else {
                continue;
            };
            own.used.set(true);
            match value {
                Some(value) => own.values.borrow_mut().set(id, value.value()),
                None => own.values.borrow_mut().unset(id),
            }
        }
    }
}

impl Core {
    fn share_variable(&self, id: VariableId, value: Option<Value<'_>>) {
        let Some((name, _)) = self.model.variables.iter().nth(usize::from(id.0)) else { return };
        let owned = value.map(Literal::from);
        for (at, peer) in self.peers.iter().enumerate() {
            if at != self.id.0 as usize {
                peer.send(ToCore::Variable(name.into(), owned.clone()));
            }
        }
        self.keep_variable(name, owned.as_ref());
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

//! Variables: `set-var` writes them, `var()` and some converters read them. Names are resolved to ids at load.

use std::net::IpAddr;

use crate::policy::sample::{Kind, Value};

/// How long a variable lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VariableScope {
    /// `proc`: as long as the process, shared by all sessions.
    Proc,
    /// `sess`: one client connection.
    Session,
    /// `txn`: one request and its response; in TCP mode the session.
    Transaction,
    /// `req`: one request.
    Request,
    /// `res`: one response.
    Response,
}

/// A variable: its slot in [`Variables`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct VariableId(pub u16);

/// Names of variables and their ids, for one configuration. Made at load; ids are dense.
#[derive(Clone, Debug, Default)]
pub struct VariableTable {
    names: Vec<(String, VariableScope)>,
    asked: u64,
}

impl VariableTable {
    /// The id of `scope.name`, which is added if it is new. `None`: 65,536 variables exist already.
    pub fn id(&mut self, name: &str, scope: VariableScope) -> Option<VariableId> {
        self.asked += 1;
        if let Some(at) = self.names.iter().position(|(n, _)| n == name) {
            return u16::try_from(at).ok().map(VariableId);
        }
        let id = u16::try_from(self.names.len()).ok()?;
        self.names.push((name.to_owned(), scope));
        Some(VariableId(id))
    }
    /// How often an id was asked for: whether a piece of the configuration depends on this table.
    pub fn asked(&self) -> u64 {
        self.asked
    }
    /// How many variables there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
    /// Full name (`txn.host`) and scope of each variable, in id order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, VariableScope)> {
        self.names.iter().map(|(name, scope)| (name.as_str(), *scope))
    }
}

/// The values of the variables of one session. Grows to the slots used and keeps its memory when cleared.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    slots: Vec<Slot>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    kind: Option<Kind>,
    number: i64,
    ip: Option<IpAddr>,
    bytes: Vec<u8>,
}

impl Variables {
    /// The value of a variable, if it is set.
    pub fn get(&self, id: VariableId) -> Option<Value<'_>> {
        let slot = self.slots.get(usize::from(id.0))?;
        Some(match slot.kind? {
            Kind::Bool => Value::Bool(slot.number != 0),
            Kind::Int => Value::Int(slot.number),
            Kind::Ip => Value::Ip(slot.ip?),
            Kind::Str | Kind::Any => Value::Str(&slot.bytes),
            Kind::Bin => Value::Bin(&slot.bytes),
        })
    }

    /// Stores a copy of a value.
    pub fn set(&mut self, id: VariableId, value: Value<'_>) {
        let at = usize::from(id.0);
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, Slot::default);
        }
        let slot = &mut self.slots[at];
        slot.kind = Some(value.kind());
        match value {
            Value::Bool(b) => slot.number = i64::from(b),
            Value::Int(i) => slot.number = i,
            Value::Ip(ip) => slot.ip = Some(ip),
            Value::Str(b) | Value::Bin(b) => {
                slot.bytes.clear();
                slot.bytes.extend_from_slice(b);
            }
        }
    }

    /// Forgets the value of a variable.
    pub fn unset(&mut self, id: VariableId) {
        if let Some(slot) = self.slots.get_mut(usize::from(id.0)) {
            slot.kind = None;
        }
    }

    /// The same values under the ids of another configuration; variables that it does not name are forgotten.
    pub fn renumber(mut self, from: &VariableTable, to: &VariableTable) -> Variables {
        let mut renumbered = Variables::default();
        for ((name, _), slot) in from.iter().zip(&mut self.slots) {
            let Some(at) = to.names.iter().position(|(known, _)| known == name) else { continue };
            if renumbered.slots.len() <= at {
                renumbered.slots.resize_with(at + 1, Slot::default);
            }
            renumbered.slots[at] = std::mem::take(slot);
        }
        renumbered
    }

    /// Forgets all values and keeps the memory.
    pub fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.kind = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_keeps_the_type_of_its_value() {
        let mut table = VariableTable::default();
        let a = table.id("sess.a", VariableScope::Session).expect("room");
        let b = table.id("txn.b", VariableScope::Transaction).expect("room");
        assert_eq!(table.id("sess.a", VariableScope::Session), Some(a));
        assert_ne!(a, b);
        let mut variables = Variables::default();
        assert_eq!(variables.get(b), None);
        for value in [Value::Int(-3), Value::Bool(true), Value::Str(b"x"), Value::Bin(b"\0")] {
            variables.set(b, value);
            assert_eq!(variables.get(b), Some(value));
            assert_eq!(variables.get(a), None);
        }
        variables.unset(b);
        assert_eq!(variables.get(b), None);
    }

    #[test]
    fn values_follow_their_names_into_another_configuration() {
        let (mut old, mut new) = (VariableTable::default(), VariableTable::default());
        let a = old.id("sess.a", VariableScope::Session).expect("room");
        let b = old.id("sess.b", VariableScope::Session).expect("room");
        let new_b = new.id("sess.b", VariableScope::Session).expect("room");
        let new_c = new.id("sess.c", VariableScope::Session).expect("room");
        let mut variables = Variables::default();
        variables.set(a, Value::Int(1));
        variables.set(b, Value::Str(b"two"));
        let variables = variables.renumber(&old, &new);
        assert_eq!((variables.get(new_b), variables.get(new_c)), (Some(Value::Str(b"two")), None));
    }
}

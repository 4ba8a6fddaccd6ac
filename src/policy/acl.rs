//! Conditions over samples, in HAProxy's ACL grammar.

/// A compiled condition.
#[derive(Clone, Debug)]
pub struct Condition;

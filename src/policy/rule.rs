//! Ordered rules: the first one that ends evaluation decides.

use crate::base::id::BackendId;
use crate::policy::acl::Condition;
use crate::policy::sample::{Expr, VariableId};

/// One rule: an action and when it applies. No condition means always.
#[derive(Clone, Debug)]
pub struct Rule<A> {
    /// When it applies (`if`; `unless` is compiled to its negation).
    pub condition: Option<Condition>,
    /// What it does.
    pub action: A,
    /// `file:line:col` of the rule, for `show rules` and `explain`.
    pub origin: String,
}

/// Actions on connections and on the first bytes of a TCP session.
#[derive(Clone, Debug)]
pub enum TcpAction {
    /// Stop evaluating this rule set and go on.
    Accept,
    /// Close the connection.
    Reject,
    /// Forget the connection without telling the client.
    SilentDrop,
    /// Route to a backend and stop evaluating.
    UseBackend(BackendId),
    /// Store the value of an expression in a variable.
    SetVar {
        /// The slot that the variable's name was resolved to.
        variable: VariableId,
        /// The value.
        value: Expr,
    },
}

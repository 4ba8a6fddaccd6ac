//! Sample fetches and the expressions made of them: `src`, `req.ssl_sni,lower`. An expression is compiled at load by
//! `config::expr` and evaluated over [`Facts`]; it knows ids, not names, and allocates nothing once its scratch memory grew.

use std::net::IpAddr;

mod facts;
mod variables;

pub use facts::{ConnFacts, Facts, FirstBytes, Live, Named, ServerLevels};
pub use variables::{VariableId, VariableScope, VariableTable, Variables};

/// The value of a sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An IP address.
    Ip(IpAddr),
    /// Text; not necessarily UTF-8.
    Str(&'a [u8]),
    /// Bytes.
    Bin(&'a [u8]),
}

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// A boolean.
    Bool,
    /// A signed integer.
    Int,
    /// An IPv4 or IPv6 address.
    Ip,
    /// Text.
    Str,
    /// Bytes.
    Bin,
    /// Known only when it is evaluated: a variable.
    Any,
}

impl Value<'_> {
    /// Its type.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Bool(_) => Kind::Bool,
            Value::Int(_) => Kind::Int,
            Value::Ip(_) => Kind::Ip,
            Value::Str(_) => Kind::Str,
            Value::Bin(_) => Kind::Bin,
        }
    }
}

/// What the evaluation of an expression gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample<'a> {
    /// The value; `None`: there is no such thing here.
    pub value: Option<Value<'a>>,
    /// Another value may come when more bytes arrive.
    pub may_change: bool,
}

/// Memory that evaluation writes intermediate values to. One per core is enough; it grows to the largest value.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    front: Vec<u8>,
}

/// A compiled expression: one fetch and its converters.
#[derive(Clone, Debug)]
pub struct Expr;

impl Expr {
    /// Evaluates. The value borrows from the facts, from the expression or from the scratch memory.
    pub fn eval<'a, F: Facts>(&'a self, facts: &'a F, scratch: &'a mut Scratch) -> Sample<'a> {
        let _ = (facts, &mut scratch.front);
        Sample { value: None, may_change: false }
    }

    /// The type of its values.
    pub fn kind(&self) -> Kind {
        Kind::Any
    }
}

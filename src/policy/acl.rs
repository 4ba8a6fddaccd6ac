//! Conditions over samples: a tree of and, or, not and tests, compiled at load by `config::expr`. Evaluation is three-valued,
//! because a test over first bytes may have to wait for more of them.

use crate::policy::sample::{Facts, Scratch};

/// The result of a condition or of one test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is open until more bytes arrive.
    NeedMore,
}

/// A compiled condition.
#[derive(Clone, Debug)]
pub struct Condition;

impl Condition {
    /// Evaluates, stopping as soon as the result is known.
    pub fn eval<F: Facts>(&self, facts: &F, scratch: &mut Scratch) -> Truth {
        let _ = (facts, scratch);
        Truth::False
    }
}

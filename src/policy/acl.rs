//! Conditions over samples: a tree of and, or, not and tests, compiled at load by `config::expr`. Evaluation is three-valued,
//! because a test over first bytes may have to wait for more of them.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::policy::pattern::{Method, PatternSet, SharedPatterns};
use crate::policy::sample::{Cursor, Expr, Facts, Scratch, Value};

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

impl std::ops::Not for Truth {
    type Output = Truth;
    fn not(self) -> Truth {
        match self {
            Truth::True => Truth::False,
            Truth::False => Truth::True,
            Truth::NeedMore => Truth::NeedMore,
        }
    }
}

/// A compiled condition.
#[derive(Clone, Debug)]
pub struct Condition {
    root: Node,
}

/// A part of a condition.
#[derive(Clone, Debug)]
pub enum Node {
    /// All of them.
    And(Vec<Node>),
    /// Any of them.
    Or(Vec<Node>),
    /// Not it.
    Not(Box<Node>),
    /// One test. A named ACL that is used often is one test that is shared.
    Test(Arc<Test>),
}

/// Sees an evaluation as it happens. What serves traffic is watched by `()`, which costs nothing; `explain` writes down what it sees,
/// so that both go the same way.
pub trait Watch {
    /// The condition of the rule at this place of its list comes to this; rules without a condition always hold.
    fn rule(&mut self, at: usize, truth: Truth) {
        let _ = (at, truth);
    }
    /// A test looks at a value; `None`: there is none.
    fn value(&mut self, value: Option<&Value<'_>>) {
        let _ = value;
    }
    /// A test is decided, after its values.
    fn test(&mut self, test: &Test, truth: Truth) {
        let _ = (test, truth);
    }
}

impl Watch for () {}

/// A value compared with patterns.
#[derive(Clone, Debug)]
pub struct Test {
    /// As the operator wrote it.
    text: Box<str>,
    expr: Expr,
    method: Method,
    patterns: SmallVec<[Patterns; 1]>,
}

/// The patterns of a test.
#[derive(Clone, Debug)]
pub enum Patterns {
    /// Written in the condition.
    Inline(PatternSet),
    /// A pattern file, which may change while the process runs.
    File(Arc<SharedPatterns>),
}

impl Condition {
    /// A condition from its tree.
    pub fn new(root: Node) -> Condition {
        Condition { root }
    }

    /// The condition that holds when this one does not (`unless`).
    pub fn negated(self) -> Condition {
        Condition { root: Node::Not(Box::new(self.root)) }
    }

    /// Whether a test of it reads the first bytes of the client, which may have to be waited for.
    pub fn reads_first_bytes(&self) -> bool {
        self.root.reads_first_bytes()
    }

    /// Tests on texts of which one holds whenever the condition does. Where none does, evaluation comes to false without having
    /// asked anything that changes by being asked. `None`: no such tests, they have to be looked at.
    pub(crate) fn guard(&self) -> Option<Vec<&Test>> {
        self.root.guard()
    }

    /// Evaluates, stopping as soon as the result is known.
    pub fn eval<F: Facts>(&self, facts: &F, scratch: &mut Scratch) -> Truth {
        self.root.eval(facts, scratch, &mut ())
    }

    /// The same, watched.
    pub fn eval_watched<F: Facts>(&self, facts: &F, scratch: &mut Scratch, watch: &mut impl Watch) -> Truth {
        self.root.eval(facts, scratch, watch)
    }
}

impl Node {
    fn reads_first_bytes(&self) -> bool {
        match self {
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().any(Node::reads_first_bytes),
            Node::Not(node) => node.reads_first_bytes(),
            Node::Test(test) => test.expr.reads_first_bytes(),
        }
    }

    fn guard(&self) -> Option<Vec<&Test>> {
        match self {
            Node::Test(test) => test.shortest_text().map(|_| vec![&**test]),
            Node::Or(nodes) => {
                let each = nodes.iter().map(Node::guard).collect::<Option<Vec<_>>>()?;
                Some(each.concat())
            }
            Node::And(nodes) => {
                // A longer text is matched by fewer values. What stands behind a node with effects is no guard: it stays asked.
                let reached = nodes.iter().position(|node| !node.is_steady()).unwrap_or(nodes.len());
                let guards = nodes.iter().take(reached + 1).filter_map(Node::guard);
                guards.max_by_key(|guard| guard.iter().filter_map(|test| test.shortest_text()).min())
            }
            Node::Not(_) => None,
        }
    }

    fn is_steady(&self) -> bool {
        match self {
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().all(Node::is_steady),
            Node::Not(node) => node.is_steady(),
            Node::Test(test) => test.expr.is_steady(),
        }
    }

    /// Kleene's logic: what is open does not matter if the rest decides.
    fn eval<F: Facts>(&self, facts: &F, scratch: &mut Scratch, watch: &mut impl Watch) -> Truth {
        let (nodes, decides) = match self {
            Node::Test(test) => {
                let truth = test.eval(facts, scratch, watch);
                watch.test(test, truth);
                return truth;
            }
            Node::Not(node) => return !node.eval(facts, scratch, watch),
            Node::And(nodes) => (nodes, Truth::False),
            Node::Or(nodes) => (nodes, Truth::True),
        };
        let mut result = !decides;
        for node in nodes {
            match node.eval(facts, scratch, watch) {
                truth if truth == decides => return decides,
                Truth::NeedMore => result = Truth::NeedMore,
                _ => {}
            }
        }
        result
    }
}

impl Test {
    /// A test from its parts. Methods without patterns (`found`, `bool`) take none; the others match if any set does.
    pub fn new(expr: Expr, method: Method, patterns: impl IntoIterator<Item = Patterns>) -> Test {
        Test { text: Box::default(), expr, method, patterns: patterns.into_iter().collect() }
    }

    /// The same test with the text that the operator wrote for it.
    #[must_use]
    pub fn written(self, text: impl Into<Box<str>>) -> Test {
        Test { text: text.into(), ..self }
    }

    /// The text that the operator wrote for it; a named ACL's begins with its name and a colon.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it looks at.
    pub(crate) fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Its patterns, unless they are those of a file.
    pub(crate) fn inline(&self) -> impl Iterator<Item = &PatternSet> {
        self.patterns.iter().filter_map(|patterns| match patterns {
            Patterns::Inline(set) => Some(set),
            Patterns::File(_) => None,
        })
    }

    /// The length of the shortest pattern, if all are known texts that a value is, begins or ends with.
    fn shortest_text(&self) -> Option<usize> {
        let of = |patterns: &Patterns| match patterns {
            Patterns::Inline(set) => set.shortest_text(),
            Patterns::File(_) => None,
        };
        let each = self.patterns.iter().map(of).collect::<Option<SmallVec<[usize; 1]>>>()?;
        each.into_iter().min().filter(|_| self.expr.is_steady())
    }

    /// Any of the values of the fetch may match. A value that does not may still become one that does.
    fn eval<F: Facts>(&self, facts: &F, scratch: &mut Scratch, watch: &mut impl Watch) -> Truth {
        let Scratch { values, fold, .. } = scratch;
        let mut cursor = Cursor::each();
        let mut open = false;
        loop {
            let sample = self.expr.eval_next(facts, values, &mut cursor);
            open |= sample.may_change;
            watch.value(sample.value.as_ref());
            if sample.value.is_some_and(|value| self.matches(&value, fold)) {
                return Truth::True;
            }
            if !cursor.more() {
                return if open { Truth::NeedMore } else { Truth::False };
            }
        }
    }

    fn matches(&self, value: &Value<'_>, fold: &mut Vec<u8>) -> bool {
        match self.method {
            Method::Found => true,
            Method::Bool => value.as_bool().unwrap_or(false),
            _ => self.patterns.iter().any(|patterns| match patterns {
                Patterns::Inline(set) => set.matches(value, fold),
                Patterns::File(shared) => shared.with(|set| set.matches(value, fold)),
            }),
        }
    }
}

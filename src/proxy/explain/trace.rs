//! What rules see of a request and what they do to it, written down while they are walked.

use std::cell::RefCell;

use serde::Serialize;

use crate::policy::acl::{Test, Truth, Watch};
use crate::policy::rule::{self, Rule, RuleList, Verdict, next_rule_watched};
use crate::policy::sample::{Scratch, Value};
use crate::proto::headers::HeadView;
use crate::proxy::explain::Decision;
use crate::proxy::facts::SessionFacts;

/// Which list of rules is walked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::proxy) enum List {
    /// `connection-rules`.
    Connection,
    /// `rules` in TCP mode.
    Content,
    /// `rules` in HTTP mode.
    Request,
    /// `response-rules`.
    Response,
}

/// The next rule that applies: [`crate::policy::rule::next_rule`], written down where a request is only explained.
pub(in crate::proxy) fn next_rule<'r, A>(
    list: List,
    rules: &'r RuleList<A>,
    from: usize,
    facts: &SessionFacts<'_>,
    scratch: &mut Scratch,
) -> Verdict<'r, A> {
    match facts.session.core.trace.get() {
        None => rule::next_rule(rules, from, facts, scratch),
        Some(trace) => trace.walk(list, rules, from, facts, scratch),
    }
}

/// A list of rules as it was walked.
#[derive(Clone, Debug, Serialize)]
pub struct ListSeen {
    /// Whose rules they are: `frontend www`.
    pub of: String,
    /// `connection-rules`, `rules` or `response-rules`.
    pub list: &'static str,
    /// Its rules in order, all of them.
    pub rules: Vec<RuleSeen>,
}

/// What became of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its condition holds, or it has none.
    Applies,
    /// Its condition does not hold.
    No,
    /// Its condition holds, but an `allow` before it leaves it out.
    LeftOut,
    /// Its condition was still open when the walk ended.
    Open,
    /// A rule before it ended the walk.
    NotReached,
}

/// A rule as it was seen.
#[derive(Clone, Debug, Serialize)]
pub struct RuleSeen {
    /// `file:line:col`.
    pub origin: String,
    /// The rule as it is written.
    pub rule: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The tests of its condition that were looked at.
    pub tests: Vec<TestSeen>,
    /// Lines of the head that it took away (`- `) and put there (`+ `).
    pub changes: Vec<String>,
}

/// A test as it was decided.
#[derive(Clone, Debug, Serialize)]
pub struct TestSeen {
    /// The test as it is written, behind the name of its ACL.
    pub test: String,
    /// The values that it looked at; none: there was none.
    pub values: Vec<String>,
    /// Whether it matched; `None`: it is open until there are more bytes.
    pub matched: Option<bool>,
}

/// What was written down so far.
#[derive(Default)]
pub(in crate::proxy) struct Trace {
    notes: RefCell<Notes>,
}

#[derive(Default)]
struct Notes {
    lists: Vec<(usize, ListSeen)>,
    /// The rule that was applied last, and the head before it.
    applied: Option<(usize, usize, Vec<String>)>,
    decision: Option<Decision>,
}

impl Trace {
    /// Walks rules on, and writes down what is seen.
    fn walk<'r, A>(
        &self,
        list: List,
        rules: &'r [Rule<A>],
        from: usize,
        facts: &SessionFacts<'_>,
        scratch: &mut Scratch,
    ) -> Verdict<'r, A> {
        let notes = &mut *self.notes.borrow_mut();
        let head = facts.message.request.or(facts.message.response).map(lines).unwrap_or_default();
        if let Some((list, rule, before)) = notes.applied.take() {
            notes.lists[list].1.rules[rule].changes.extend(changes(&before, &head));
        }
        let key = rules.as_ptr() as usize;
        let at = notes.lists.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            notes.lists.push((key, unseen(list, rules, facts)));
            notes.lists.len() - 1
        });
        let mut recorder =
            Recorder { rules: &mut notes.lists[at].1.rules, values: Vec::new(), tests: Vec::new() };
        let verdict = next_rule_watched(rules, from, facts, scratch, &mut recorder);
        if let Verdict::Apply(rule, _) = verdict {
            notes.applied = Some((at, rule, head));
        }
        verdict
    }

    /// An `allow` before this rule leaves it out.
    pub(in crate::proxy) fn skipped<A>(&self, rules: &[Rule<A>], index: usize) {
        let key = rules.as_ptr() as usize;
        let notes = &mut *self.notes.borrow_mut();
        if let Some((_, list)) = notes.lists.iter_mut().find(|(known, _)| *known == key) {
            list.rules[index].outcome = Outcome::LeftOut;
        }
    }

    pub(super) fn decided(&self, decision: Decision) {
        self.notes.borrow_mut().decision = Some(decision);
    }

    /// Everything that was seen.
    pub(super) fn take(&self) -> (Vec<ListSeen>, Option<Decision>) {
        let notes = self.notes.take();
        (notes.lists.into_iter().map(|(_, list)| list).collect(), notes.decision)
    }
}

/// A list of which nothing is known yet.
fn unseen<A>(list: List, rules: &[Rule<A>], facts: &SessionFacts<'_>) -> ListSeen {
    let session = facts.session;
    let of = match session.info.backend.get() {
        Some(backend) => format!("backend {}", session.core.model.backends[backend].name),
        None => format!("frontend {}", session.frontend().name),
    };
    let name = match list {
        List::Connection => "connection-rules",
        List::Content | List::Request => "rules",
        List::Response => "response-rules",
    };
    let unseen = |rule: &Rule<A>| RuleSeen {
        origin: rule.origin.clone(),
        rule: rule.text.clone(),
        outcome: Outcome::NotReached,
        tests: Vec::new(),
        changes: Vec::new(),
    };
    ListSeen { of, list: name, rules: rules.iter().map(unseen).collect() }
}

/// A head as lines of text.
fn lines(view: HeadView<'_>) -> Vec<String> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let start = format!("{} {}", text(view.method_text()), text(view.target()));
    let fields = view.fields().map(|(name, value)| format!("{}: {}", text(name), text(value)));
    std::iter::once(start).chain(fields).collect()
}

/// What is not in both.
fn changes(before: &[String], after: &[String]) -> Vec<String> {
    let missing = |from: &[String], sign: char, other: &[String]| {
        let mut other: Vec<&String> = other.iter().collect();
        let mut out = Vec::new();
        for line in from {
            match other.iter().position(|known| *known == line) {
                Some(at) => drop(other.swap_remove(at)),
                None => out.push(format!("{sign} {line}")),
            }
        }
        out
    };
    let mut out = missing(before, '-', after);
    out.extend(missing(after, '+', before));
    out
}

/// Writes down one walk.
struct Recorder<'n> {
    rules: &'n mut [RuleSeen],
    values: Vec<String>,
    tests: Vec<TestSeen>,
}

impl Watch for Recorder<'_> {
    fn rule(&mut self, at: usize, truth: Truth) {
        let seen = &mut self.rules[at];
        seen.tests = std::mem::take(&mut self.tests);
        seen.outcome = match truth {
            Truth::True => Outcome::Applies,
            Truth::False => Outcome::No,
            Truth::NeedMore => Outcome::Open,
        };
    }

    fn value(&mut self, value: Option<&Value<'_>>) {
        if let Some(value) = value {
            self.values.push(shown(value));
        }
    }

    fn test(&mut self, test: &Test, truth: Truth) {
        let matched = match truth {
            Truth::True => Some(true),
            Truth::False => Some(false),
            Truth::NeedMore => None,
        };
        let values = std::mem::take(&mut self.values);
        self.tests.push(TestSeen { test: test.text().to_owned(), values, matched });
    }
}

/// A value as an operator reads it.
fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Ip(ip) => ip.to_string(),
        Value::Str(bytes) => bytes.escape_ascii().to_string(),
        Value::Bin(bytes) => bytes.iter().map(|b| format!("{b:02x}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_lines_that_are_not_in_both() {
        let lines = |text: &[&str]| text.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
        let (before, after) =
            (lines(&["GET /a", "X: 1", "X: 1", "Y: 2"]), lines(&["GET /b", "X: 1", "Y: 2"]));
        assert_eq!(changes(&before, &after), lines(&["- GET /a", "- X: 1", "+ GET /b"]));
        assert!(changes(&after, &after).is_empty());
    }
}

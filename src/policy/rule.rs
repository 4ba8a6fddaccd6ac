//! Ordered rules: the first one that ends evaluation decides.

use std::ops::Deref;

use crate::base::id::BackendId;
use crate::policy::acl::{Condition, Truth, Watch};
use crate::policy::http_action::LogLevel;
use crate::policy::sample::{Expr, Facts, Scratch, VariableId};
use crate::policy::stick::StickAction;

mod index;

use index::Run;

/// One rule: an action and when it applies. No condition means always.
#[derive(Clone, Debug)]
pub struct Rule<A> {
    /// When it applies (`if`; `unless` is compiled to its negation).
    pub condition: Option<Condition>,
    /// What it does.
    pub action: A,
    /// Its number among all rules of a model.
    pub id: u32,
    /// `file:line:col` of the rule, for `show rules` and `explain`.
    pub origin: String,
    /// The rule as the operator wrote it, on one line.
    pub text: String,
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
    /// Track a key, or change what is known of a tracked one.
    Stick(StickAction),
    /// Keep a value for the log.
    Capture {
        /// The value.
        value: Expr,
        /// Its place among the captures.
        slot: u16,
        /// Longest value that is kept, in bytes.
        len: u16,
    },
    /// Level of the log line.
    SetLogLevel(LogLevel),
}

/// What a walk over rules found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict<'a, A> {
    /// This rule applies, the first one from where the walk began. The index is its place in the list.
    Apply(usize, &'a A),
    /// The condition of the rule at this place needs more bytes; the walk goes on from there.
    NeedMore(usize),
    /// No further rule applies.
    End,
}

/// Rules in order. Conditions that look for texts in the same place, as hundreds of `path_beg` do, are found by one look-up.
#[derive(Clone, Debug)]
pub struct RuleList<A> {
    rules: Vec<Rule<A>>,
    runs: Vec<Run>,
}

impl<A> RuleList<A> {
    /// The actions, to complete them.
    pub fn actions_mut(&mut self) -> impl Iterator<Item = &mut A> {
        self.rules.iter_mut().map(|rule| &mut rule.action)
    }

    /// Numbers and origins, to change them.
    pub fn names_mut(&mut self) -> impl Iterator<Item = (&mut u32, &mut String)> {
        self.rules.iter_mut().map(|rule| (&mut rule.id, &mut rule.origin))
    }
}

impl<A> Default for RuleList<A> {
    fn default() -> RuleList<A> {
        RuleList { rules: Vec::new(), runs: Vec::new() }
    }
}

impl<A> From<Vec<Rule<A>>> for RuleList<A> {
    fn from(rules: Vec<Rule<A>>) -> RuleList<A> {
        let runs = index::runs(&rules);
        RuleList { rules, runs }
    }
}

impl<A> FromIterator<Rule<A>> for RuleList<A> {
    fn from_iter<I: IntoIterator<Item = Rule<A>>>(rules: I) -> RuleList<A> {
        rules.into_iter().collect::<Vec<_>>().into()
    }
}

impl<A> Deref for RuleList<A> {
    type Target = [Rule<A>];
    fn deref(&self) -> &[Rule<A>] {
        &self.rules
    }
}

impl<'a, A> IntoIterator for &'a RuleList<A> {
    type Item = &'a Rule<A>;
    type IntoIter = std::slice::Iter<'a, Rule<A>>;
    fn into_iter(self) -> Self::IntoIter {
        self.rules.iter()
    }
}

/// Finds the next rule that applies, from a place in the list on. Callers act on it and, unless it ended the evaluation, call again
/// from the place after it.
pub fn next_rule<'a, A, F: Facts>(
    list: &'a RuleList<A>,
    from: usize,
    facts: &F,
    scratch: &mut Scratch,
) -> Verdict<'a, A> {
    let mut at = from;
    for run in list.runs.iter().filter(|run| run.end() > from) {
        if let verdict @ (Verdict::Apply(..) | Verdict::NeedMore(_)) =
            walk(list, at..run.start().max(at), facts, scratch)
        {
            return verdict;
        }
        at = at.max(run.start());
        let mut candidates = std::mem::take(&mut scratch.rules);
        let verdict = match run.candidates(at, facts, scratch, &mut candidates) {
            true => walk(list, candidates.iter().map(|at| *at as usize), facts, scratch),
            false => walk(list, at..run.end(), facts, scratch),
        };
        scratch.rules = candidates;
        if !matches!(verdict, Verdict::End) {
            return verdict;
        }
        at = run.end();
    }
    walk(list, at..list.len(), facts, scratch)
}

/// The first of these rules that applies.
fn walk<'a, A, F: Facts>(
    rules: &'a [Rule<A>],
    places: impl Iterator<Item = usize>,
    facts: &F,
    scratch: &mut Scratch,
) -> Verdict<'a, A> {
    for at in places {
        let rule = &rules[at];
        match rule.condition.as_ref().map_or(Truth::True, |c| c.eval(facts, scratch)) {
            Truth::True => return Verdict::Apply(at, &rule.action),
            Truth::NeedMore => return Verdict::NeedMore(at),
            Truth::False => {}
        }
    }
    Verdict::End
}

/// The same, one by one and watched.
pub fn next_rule_watched<'a, A, F: Facts>(
    rules: &'a [Rule<A>],
    from: usize,
    facts: &F,
    scratch: &mut Scratch,
    watch: &mut impl Watch,
) -> Verdict<'a, A> {
    for (at, rule) in rules.iter().enumerate().skip(from) {
        let truth =
            rule.condition.as_ref().map_or(Truth::True, |c| c.eval_watched(facts, scratch, &mut *watch));
        watch.rule(at, truth);
        match truth {
            Truth::True => return Verdict::Apply(at, &rule.action),
            Truth::NeedMore => return Verdict::NeedMore(at),
            Truth::False => {}
        }
    }
    Verdict::End
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::acl::{Node, Patterns, Test};
    use crate::policy::pattern::{Entry, Method, PatternSet};
    use crate::policy::sample::testing::TestFacts;
    use crate::policy::sample::{Fetch, Kind};
    use std::sync::Arc;

    /// A rule that applies when a number of bytes is there.
    fn when_bytes(range: &str, action: char) -> Rule<char> {
        let entry = Entry { pattern: range.as_bytes().to_vec(), value: None, ignore_case: false };
        let set = PatternSet::compile(Method::Int, &[entry]).expect("a range");
        let expr = Expr::new(Fetch::Length, Vec::new(), Kind::Int);
        let test = Test::new(expr, Method::Int, [Patterns::Inline(set)]);
        let condition = Some(Condition::new(Node::Test(Arc::new(test))));
        Rule { condition, action, id: 0, origin: String::new(), text: String::new() }
    }

    #[test]
    fn the_walk_stops_at_what_applies_or_is_open() {
        let always = Rule { condition: None, action: 'z', id: 0, origin: String::new(), text: String::new() };
        let rules = RuleList::from(vec![when_bytes("1", 'a'), when_bytes("2:", 'b'), always]);
        let mut facts = TestFacts { bytes: vec![0], ..TestFacts::default() };
        let scratch = &mut Scratch::default();
        assert_eq!(next_rule(&rules, 0, &facts, scratch), Verdict::Apply(0, &'a'));
        assert_eq!(next_rule(&rules, 1, &facts, scratch), Verdict::NeedMore(1));
        facts.bytes.push(0);
        assert_eq!(next_rule(&rules, 1, &facts, scratch), Verdict::Apply(1, &'b'));
        assert_eq!(next_rule(&rules, 2, &facts, scratch), Verdict::Apply(2, &'z'));
        assert_eq!(next_rule(&rules, 3, &facts, scratch), Verdict::End);
        facts.bytes.clear();
        facts.complete = true;
        assert_eq!(next_rule(&rules, 0, &facts, scratch), Verdict::Apply(2, &'z'));
        let rules = RuleList::from(rules[..2].to_vec());
        assert_eq!(next_rule(&rules, 0, &facts, scratch), Verdict::End);
    }
}

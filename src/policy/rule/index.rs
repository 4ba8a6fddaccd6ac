//! Which rules of a list are worth a look. Built once a list from the guards of its conditions: tests on texts of which one holds
//! whenever the condition does. Of a stretch of rules with conditions, one look-up for each thing that is looked at (`path`,
//! `hdr(host)`) leaves the rules whose guard holds, and those without a guard; what they come to is `acl`'s to say, in order.

use crate::base::limits::{RULES_GROUP_MIN, RULES_RUN_MIN};
use crate::policy::acl::Test;
use crate::policy::pattern::Which;
use crate::policy::rule::Rule;
use crate::policy::sample::{Cursor, Expr, Facts, Scratch};

/// A stretch of rules.
#[derive(Clone, Debug)]
pub(super) struct Run {
    start: u32,
    end: u32,
    groups: Vec<Group>,
    /// Rules that are looked at whatever the look-ups find.
    always: Vec<u32>,
}

/// Guards that look at the same.
#[derive(Clone, Debug)]
struct Group {
    expr: Expr,
    which: Which,
}

/// The stretches of a list in which look-ups find more than they cost.
pub(super) fn runs<A>(rules: &[Rule<A>]) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut start = 0;
    // A rule without a condition applies and ends the walk: what stands behind it is looked up when the walk goes on.
    for part in rules.split(|rule| rule.condition.is_none()) {
        runs.extend(Run::new(part, start));
        start += part.len() + 1;
    }
    runs
}

impl Run {
    fn new<A>(rules: &[Rule<A>], start: usize) -> Option<Run> {
        let place = |n: usize| u32::try_from(start + n).ok();
        let guards: Vec<(u32, Option<Vec<&Test>>)> = rules
            .iter()
            .enumerate()
            .map(|(n, rule)| Some((place(n)?, rule.condition.as_ref().and_then(|c| c.guard()))))
            .collect::<Option<_>>()?;
        let tests = || guards.iter().flat_map(|(at, tests)| tests.iter().flatten().map(move |t| (*t, *at)));
        let mut kinds: Vec<(&Expr, usize)> = Vec::new();
        for (test, _) in tests() {
            match kinds.iter_mut().find(|(expr, _)| expr.is_same(test.expr())) {
                Some((_, count)) => *count += 1,
                None => kinds.push((test.expr(), 1)),
            }
        }
        // A look-up for a few rules costs more than they do.
        kinds.retain(|(_, count)| *count >= RULES_GROUP_MIN);
        let is_found = |test: &Test| kinds.iter().any(|(expr, _)| expr.is_same(test.expr()));
        let is_guarded = |tests: &Option<Vec<&Test>>| {
            tests.as_ref().is_some_and(|tests| tests.iter().all(|test| is_found(test)))
        };
        let always: Vec<u32> = guards.iter().filter(|(_, t)| !is_guarded(t)).map(|(at, _)| *at).collect();
        if rules.len() - always.len() < RULES_RUN_MIN {
            return None;
        }
        let group = |(expr, _): &(&Expr, usize)| {
            let of =
                tests().filter(|(test, at)| expr.is_same(test.expr()) && always.binary_search(at).is_err());
            let sets = of.flat_map(|(test, at)| test.inline().map(move |set| (set, at)));
            Group { expr: (*expr).clone(), which: Which::new(sets) }
        };
        let groups = kinds.iter().map(group).collect();
        Some(Run { start: place(0)?, end: place(rules.len())?, groups, always })
    }

    /// Its first rule.
    pub(super) fn start(&self) -> usize {
        self.start as usize
    }

    /// The place behind its last rule.
    pub(super) fn end(&self) -> usize {
        self.end as usize
    }

    /// Leaves the places from `from` on that are worth a look in `out`, in order. False: it cannot be said, because few are left
    /// or because more bytes may change what is found.
    pub(super) fn candidates<F: Facts>(
        &self,
        from: usize,
        facts: &F,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> bool {
        out.clear();
        if self.end() - from < RULES_GROUP_MIN {
            return false;
        }
        let Ok(from) = u32::try_from(from) else { return false };
        let Scratch { values, fold, .. } = scratch;
        let rest = |places: &[u32]| places.partition_point(|at| *at < from);
        for group in &self.groups {
            let mut cursor = Cursor::each();
            loop {
                let sample = group.expr.eval_next(facts, values, &mut cursor);
                if sample.may_change {
                    return false;
                }
                if let Some(value) = &sample.value {
                    group.which.each(value, fold, |owners| out.extend_from_slice(&owners[rest(owners)..]));
                }
                if !cursor.more() {
                    break;
                }
            }
        }
        out.extend_from_slice(&self.always[rest(&self.always)..]);
        out.sort_unstable();
        out.dedup();
        true
    }
}

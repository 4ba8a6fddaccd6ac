//! All rules of a model in one order: their numbers, which counters go by, and where they stand.

use ahash::AHashMap;

use crate::model::Model;
use crate::policy::rule::Rule;

/// A rule of a model, whatever it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RuleRef<'a> {
    /// `frontend` or `backend`.
    pub kind: &'static str,
    /// The name of that.
    pub section: &'a str,
    /// `connection-rules`, `rules`, `response-rules` or `stick`.
    pub list: &'static str,
    /// Its number.
    pub id: u32,
    /// `file:line:col`.
    pub origin: &'a str,
    /// As it is written.
    pub text: &'a str,
}

impl Model {
    /// All rules, in the order of their numbers.
    pub fn rules(&self) -> Vec<RuleRef<'_>> {
        fn add<'a, A>(
            all: &mut Vec<RuleRef<'a>>,
            (kind, section, list): (&'static str, &'a str, &'static str),
            rules: &'a [Rule<A>],
        ) {
            all.extend(rules.iter().map(|rule| RuleRef {
                kind,
                section,
                list,
                id: rule.id,
                origin: &rule.origin,
                text: &rule.text,
            }));
        }
        let mut all = Vec::new();
        for frontend in self.frontends.values() {
            let of = |list| ("frontend", frontend.name.as_str(), list);
            add(&mut all, of("connection-rules"), &frontend.connection_rules);
            add(&mut all, of("rules"), &frontend.content_rules);
            if let Some(http) = &frontend.http {
                add(&mut all, of("rules"), &http.rules.request);
                add(&mut all, of("response-rules"), &http.rules.response);
            }
        }
        for backend in self.backends.values() {
            let of = |list| ("backend", backend.name.as_str(), list);
            add(&mut all, of("stick"), &backend.stick);
            if let Some(http) = &backend.http {
                add(&mut all, of("rules"), &http.rules.request);
                add(&mut all, of("response-rules"), &http.rules.response);
            }
        }
        all
    }

    /// Changes numbers and origins of all rules, in the order of [`rules`](Self::rules).
    fn change_rules(&mut self, mut change: impl FnMut(&mut u32, &mut String)) {
        for frontend in self.frontends.values_mut() {
            let http = frontend.http.iter_mut().flat_map(|http| http.rules.names_mut());
            let own = frontend.connection_rules.names_mut().chain(frontend.content_rules.names_mut());
            own.chain(http).for_each(|(id, origin)| change(id, origin));
        }
        for backend in self.backends.values_mut() {
            let stick = backend.stick.iter_mut().map(|rule| (&mut rule.id, &mut rule.origin));
            let http = backend.http.iter_mut().flat_map(|http| http.rules.names_mut());
            stick.chain(http).for_each(|(id, origin)| change(id, origin));
        }
    }

    /// Numbers all rules from 0.
    pub fn number_rules(&mut self) {
        let mut next = 0;
        self.change_rules(|id, _| {
            *id = next;
            next += 1;
        });
    }

    /// Says of all rules where they stand in another file than the one that was read.
    pub fn relocate_rules(&mut self, place: impl Fn(&str) -> Option<String>) {
        self.change_rules(|_, origin| {
            if let Some(other) = place(origin) {
                *origin = other;
            }
        });
    }
}

/// For each rule of `new` the number of the same rule in `old`: one of the same section and list with the same text.
pub(super) fn rule_origins(old: &Model, new: &Model) -> Vec<Option<u32>> {
    let mut known: AHashMap<_, std::collections::VecDeque<u32>> = AHashMap::new();
    let key = |rule: &RuleRef<'_>| (rule.kind, rule.section.to_owned(), rule.list, rule.text.to_owned());
    for rule in old.rules() {
        known.entry(key(&rule)).or_default().push_back(rule.id);
    }
    new.rules().iter().map(|rule| known.get_mut(&key(rule))?.pop_front()).collect()
}

//! All rules of a model in one order: their numbers, which counters go by, and where they stand.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use ahash::AHashMap;

use crate::model::{Backend, Model};
use crate::policy::rule::Rule;

/// A rule of a model, whatever it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RuleRef<'a> {
    /// `frontend` or `backend`.
    pub kind: &'static str,
    /// The name of that.
    pub section: &'a str,
    /// `connection-rules`, `rules`, `response-rules`, `after-response-rules` or `stick`.
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
                add(&mut all, of("after-response-rules"), &http.rules.after);
            }
        }
        for backend in self.backends.values() {
            let of = |list| ("backend", backend.name.as_str(), list);
            add(&mut all, of("stick"), &backend.stick);
            if let Some(http) = &backend.http {
                add(&mut all, of("rules"), &http.rules.request);
                add(&mut all, of("response-rules"), &http.rules.response);
                add(&mut all, of("after-response-rules"), &http.rules.after);
            }
        }
        all
    }

    /// Changes numbers and origins of all rules, in the order of [`rules`](Self::rules). `stays`: the rules of a backend are
    /// right already, so that it need not be another one.
    fn change_rules(
        &mut self,
        mut change: impl FnMut(&mut u32, &mut String),
        mut stays: impl FnMut(&Backend) -> bool,
    ) {
        for frontend in self.frontends.values_mut() {
            let http = frontend.http.iter_mut().flat_map(|http| http.rules.names_mut());
            let own = frontend.connection_rules.names_mut().chain(frontend.content_rules.names_mut());
            own.chain(http).for_each(|(id, origin)| change(id, origin));
        }
        for backend in Arc::make_mut(&mut self.backends).values_mut() {
            if count(backend) == 0 || stays(backend) {
                continue;
            }
            let backend = Arc::make_mut(backend);
            let stick = backend.stick.iter_mut().map(|rule| (&mut rule.id, &mut rule.origin));
            let http = backend.http.iter_mut().flat_map(|http| http.rules.names_mut());
            stick.chain(http).for_each(|(id, origin)| change(id, origin));
        }
    }

    /// Numbers all rules from 0.
    pub fn number_rules(&mut self) {
        let next = Cell::new(0);
        let take = |count: u32| next.replace(next.get() + count);
        let number = |id: &mut u32, _: &mut String| *id = take(1);
        self.change_rules(number, |backend| {
            let stays = ids(backend).zip(next.get()..).all(|(id, wanted)| id == wanted);
            if stays {
                take(u32::try_from(count(backend)).unwrap_or(u32::MAX));
            }
            stays
        });
    }

    /// Says of all rules where they stand in another file than the one that was read.
    pub fn relocate_rules(&mut self, place: impl Fn(&str) -> Option<String>) {
        let change = |_: &mut u32, origin: &mut String| {
            if let Some(other) = place(origin) {
                *origin = other;
            }
        };
        self.change_rules(change, |_| false);
    }
}

/// The numbers of the rules of a backend, in their order.
fn ids(backend: &Backend) -> impl Iterator<Item = u32> {
    let request = backend.http.iter().flat_map(|http| http.rules.request.iter().map(|rule| rule.id));
    let response = backend.http.iter().flat_map(|http| http.rules.response.iter().map(|rule| rule.id));
    backend.stick.iter().map(|rule| rule.id).chain(request).chain(response)
}

fn count(backend: &Backend) -> usize {
    let http = backend.http.as_ref().map_or(0, |http| http.rules.request.len() + http.rules.response.len());
    backend.stick.len() + http
}

/// For each rule of `new` the number of the same rule in `old`: one of the same section and list with the same text.
pub(super) fn rule_origins(old: &Model, new: &Model) -> Vec<Option<u32>> {
    type Key<'a> = (&'static str, &'a str, &'static str, &'a str);
    fn key<'a>(rule: &RuleRef<'a>) -> Key<'a> {
        (rule.kind, rule.section, rule.list, rule.text)
    }
    let mut known: AHashMap<Key<'_>, VecDeque<u32>> = AHashMap::new();
    for rule in old.rules() {
        known.entry(key(&rule)).or_default().push_back(rule.id);
    }
    new.rules().iter().map(|rule| known.get_mut(&key(rule))?.pop_front()).collect()
}

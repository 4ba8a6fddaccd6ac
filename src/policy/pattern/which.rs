//! Which of many owners have a pattern that a value matches: the texts of many conditions in one look-up. `policy::rule` asks it
//! which rules of a list are worth a look.

use std::collections::BTreeMap;

use ahash::AHashMap;

use crate::policy::pattern::prefix::PrefixSet;
use crate::policy::pattern::text::{How, Text, lower};
use crate::policy::pattern::{Index, PatternSet};
use crate::policy::sample::Value;

/// Texts of many owners.
#[derive(Clone, Debug, Default)]
pub(crate) struct Which {
    exact_case: Option<Texts>,
    any_case: Option<Texts>,
    /// Who has a text: what the look-ups lead to.
    owners: Vec<Box<[u32]>>,
}

#[derive(Clone, Debug, Default)]
struct Texts {
    equal: AHashMap<Box<[u8]>, u32>,
    begin: PrefixSet,
    end: PrefixSet,
}

impl PatternSet {
    /// The length of the shortest text, where all its patterns are texts that one look-up can find among many.
    pub(crate) fn shortest_text(&self) -> Option<usize> {
        self.texts()?.iter().map(|text| text.key.len()).min()
    }

    fn texts(&self) -> Option<Vec<Text>> {
        match &self.index {
            Index::Text(set) => set.texts(),
            _ => None,
        }
    }
}

impl Which {
    /// From sets of patterns and who has them. Sets that are not of texts are passed over.
    pub(crate) fn new<'a>(sets: impl IntoIterator<Item = (&'a PatternSet, u32)>) -> Which {
        let mut all: BTreeMap<Text, Vec<u32>> = BTreeMap::new();
        for (set, owner) in sets {
            for text in set.texts().into_iter().flatten() {
                all.entry(text).or_default().push(owner);
            }
        }
        let mut owners = Vec::new();
        let mut side = |any_case: bool| {
            let mut texts = Texts::default();
            let (mut begin, mut end) = (Vec::new(), Vec::new());
            for (text, of) in all.iter().filter(|(text, _)| text.any_case == any_case) {
                let number = u32::try_from(owners.len()).unwrap_or(u32::MAX);
                owners.push(of.clone().into_boxed_slice());
                match text.how {
                    How::Equal => drop(texts.equal.insert(text.key.clone(), number)),
                    How::Begin => begin.push((text.key.clone(), number)),
                    How::End => end.push((text.key.clone(), number)),
                }
            }
            let is_empty = texts.equal.is_empty() && begin.is_empty() && end.is_empty();
            (texts.begin, texts.end) = (PrefixSet::build(begin), PrefixSet::build(end));
            (!is_empty).then_some(texts)
        };
        let (exact_case, any_case) = (side(false), side(true));
        Which { exact_case, any_case, owners }
    }

    /// Names the owners of each pattern that matches.
    pub(crate) fn each(&self, value: &Value<'_>, fold: &mut Vec<u8>, mut found: impl FnMut(&[u32])) {
        let mut owners = |number: u32| found(&self.owners[number as usize]);
        value.with_text(|text| {
            if let Some(texts) = &self.exact_case {
                texts.each(text, &mut owners);
            }
            if let Some(texts) = &self.any_case {
                texts.each(lower(text, fold), &mut owners);
            }
        });
    }
}

impl Texts {
    fn each(&self, text: &[u8], found: &mut impl FnMut(u32)) {
        if let Some(number) = self.equal.get(text) {
            found(*number);
        }
        self.begin.each_prefix(text, &mut *found);
        self.end.each_suffix(text, found);
    }
}

//! Longest prefix among many strings: sorted strings with links to the longest other string that is a prefix. A look-up is
//! one binary search and a walk over the links.

const NONE: u32 = u32::MAX;

/// Strings for prefix look-ups.
#[derive(Clone, Debug, Default)]
pub(super) struct PrefixSet {
    /// Sorted and distinct.
    keys: Vec<Box<[u8]>>,
    /// The first entry of the list with this key.
    entries: Vec<u32>,
    /// The longest other key that is a prefix of this one.
    parents: Vec<u32>,
    /// The first entry of the list among this key and its prefixes.
    firsts: Vec<u32>,
}

impl PrefixSet {
    /// From keys with their position in the list.
    pub(super) fn build(mut pairs: Vec<(Box<[u8]>, u32)>) -> PrefixSet {
        pairs.sort_unstable();
        pairs.dedup_by(|later, earlier| later.0 == earlier.0);
        let mut set = PrefixSet::default();
        let mut open: Vec<u32> = Vec::new();
        for (key, entry) in pairs {
            while open.last().is_some_and(|top| !key.starts_with(&set.keys[*top as usize])) {
                open.pop();
            }
            let parent = open.last().copied().unwrap_or(NONE);
            let first = if parent == NONE { entry } else { entry.min(set.firsts[parent as usize]) };
            // Entries are numbered in u32 already, so the distinct keys fit.
            open.push(u32::try_from(set.keys.len()).unwrap_or(NONE));
            set.keys.push(key);
            set.entries.push(entry);
            set.parents.push(parent);
            set.firsts.push(first);
        }
        set
    }

    /// The longest key that `text` starts with: its length and entry.
    pub(super) fn longest(&self, text: &[u8]) -> Option<(usize, u32)> {
        let at = self.position(|k| k <= text, |k| text.starts_with(k))?;
        Some((self.keys[at].len(), self.entries[at]))
    }

    /// The first entry of the list whose key, written backwards, `text` ends with.
    pub(super) fn first_suffix(&self, text: &[u8]) -> Option<u32> {
        let at = self.position(
            |k| k.iter().le(text.iter().rev()),
            |k| k.len() <= text.len() && k.iter().eq(text[text.len() - k.len()..].iter().rev()),
        )?;
        Some(self.firsts[at])
    }

    /// Names the entry of each key that `text` starts with.
    pub(super) fn each_prefix(&self, text: &[u8], found: impl FnMut(u32)) {
        self.climb(self.position(|k| k <= text, |k| text.starts_with(k)), found);
    }

    /// Names the entry of each key that, written backwards, `text` ends with.
    pub(super) fn each_suffix(&self, text: &[u8], found: impl FnMut(u32)) {
        let at = self.position(
            |k| k.iter().le(text.iter().rev()),
            |k| k.len() <= text.len() && k.iter().eq(text[text.len() - k.len()..].iter().rev()),
        );
        self.climb(at, found);
    }

    /// From a key to all its prefixes.
    fn climb(&self, from: Option<usize>, mut found: impl FnMut(u32)) {
        let mut next = from;
        while let Some(at) = next {
            found(self.entries[at]);
            next = Some(self.parents[at]).filter(|parent| *parent != NONE).map(|parent| parent as usize);
        }
    }

    /// The keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().map(|key| &**key)
    }

    /// The longest prefix of a text. Every key between a prefix of the text and the text itself begins with that prefix, so the
    /// links of the last key that does not sort after the text lead to its longest prefix.
    fn position(
        &self,
        not_after: impl Fn(&[u8]) -> bool,
        is_prefix: impl Fn(&[u8]) -> bool,
    ) -> Option<usize> {
        let mut at = self.keys.partition_point(|k| not_after(k)).checked_sub(1)?;
        while !is_prefix(&self.keys[at]) {
            let parent = self.parents[at];
            if parent == NONE {
                return None;
            }
            at = parent as usize;
        }
        Some(at)
    }
}

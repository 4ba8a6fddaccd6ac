//! `language`: the language that a client prefers among those that there are (Accept-Language, RFC 9110 12.5.4).

use crate::policy::converter::Step;
use crate::policy::sample::Value;

/// The languages that there are, and what is chosen when none is accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Languages {
    /// Language tags.
    pub known: Vec<Box<[u8]>>,
    /// Used when none is accepted.
    pub default: Option<Box<[u8]>>,
}

impl Languages {
    /// The first of the highest weight.
    pub(super) fn apply<'a>(&'a self, accepted: &[u8]) -> Step<'a> {
        let mut best: Option<(u32, &'a [u8])> = None;
        for item in accepted.split(|b| *b == b',') {
            let mut parts = item.split(|b| *b == b';').map(<[u8]>::trim_ascii);
            let tag = parts.next().unwrap_or_default();
            let weight = parts.find_map(|p| p.strip_prefix(b"q=")).map_or(1000, weight);
            if weight > 0
                && best.is_none_or(|(highest, _)| weight > highest)
                && let Some(known) = self.find(tag)
            {
                best = Some((weight, known));
            }
        }
        let chosen = best.map(|(_, known)| known).or(self.default.as_deref());
        chosen.map_or(Step::Missing, |text| Step::Value(Value::Str(text)))
    }

    /// The tag itself, or its language without the variant after the dash.
    fn find(&self, tag: &[u8]) -> Option<&[u8]> {
        let exact = |tag: &[u8]| self.known.iter().find(|k| &***k == tag).map(|k| &**k);
        let base = tag.split(|b| *b == b'-').next().unwrap_or_default();
        exact(tag).or_else(|| exact(base))
    }
}

/// A weight in thousandths: `1`, `0.5`, `0.123`. What is not one counts as 0.
fn weight(text: &[u8]) -> u32 {
    let (whole, fraction) = match text.split_first() {
        Some((b'1', _)) => return 1000,
        Some((b'0', rest)) => (0, rest.strip_prefix(b".").unwrap_or_default()),
        _ => return 0,
    };
    let digits = fraction.iter().take(3).take_while(|b| b.is_ascii_digit());
    digits.zip([100, 10, 1]).fold(whole, |sum, (digit, place)| sum + u32::from(digit - b'0') * place)
}

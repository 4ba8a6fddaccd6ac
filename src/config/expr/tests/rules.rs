//! Lists of rules that are looked up apply as the same rules one by one, whatever the request.

use proptest::prelude::*;

use super::{World, condition_in};
use crate::config::expr::Context;
use crate::policy::acl::{Condition, Truth, Watch};
use crate::policy::rule::{Rule, RuleList, Verdict, next_rule, next_rule_watched};
use crate::policy::sample::Scratch;
use crate::policy::sample::testing::TestFacts;

/// Tests that often hold, often not, and sometimes cannot be decided.
const TESTS: &[&str] = &[
    "path_beg /a",
    "path_beg /a /b",
    "path_beg -i /AB",
    "path_beg /",
    "path /a/b",
    "path -i /A/B",
    "path_end .png",
    "path_end -i B .GIF",
    "path_sub b",
    "path_dir b",
    "path_reg ^/a",
    "path -f list",
    "path,lower -m beg /ab",
    "path,lower /ab",
    "hdr(host) a.example",
    "hdr(host) -i A.example b.example",
    "hdr_end(host) .example",
    "hdr_dom(host) example",
    "hdr(x) 1",
    "hdr(x) 2 3",
    "hdr_beg(x) 1",
    "hdr(x) -m found",
    "method GET",
    "method POST PUT",
    "query q=1",
    "var(txn.v) -m str v",
    "src 192.0.2.0/24",
    "always_false",
    "rand(2) 0",
    "http_auth(staff)",
    "http_auth_group(staff) admins",
];

fn conditions() -> impl Strategy<Value = Option<String>> {
    let test = prop::sample::select(TESTS).prop_map(|test| format!("{{ {test} }}")).boxed();
    let tree = test.clone().prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|text| format!("not ( {text} )")),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|all| format!("( {} )", all.join(" and "))),
            prop::collection::vec(inner, 2..4).prop_map(|all| format!("( {} )", all.join(" or "))),
        ]
    });
    prop_oneof![1 => Just(None), 12 => test.prop_map(Some), 8 => tree.prop_map(Some)]
}

fn requests() -> impl Strategy<Value = TestFacts> {
    let one = |all: Vec<&'static str>| prop::sample::select(all);
    let path = one(vec!["/", "/a", "/a/b", "/A/B", "/ab", "/b", "/c/b/x.png", "/c.GIF", "*"]);
    let host = one(vec!["a.example", "B.Example", "example", "a.example.org", ""]);
    let x = one(vec!["", "X: 1\r\n", "X: 1, 2\r\n", "X: 9\r\nX: 3\r\n", "X:\r\n"]);
    let more = (one(vec!["GET", "POST", "PUT"]), one(vec!["", "?q=1", "?"]), any::<(bool, bool)>(), 0..2_u64);
    (path, host, x, more).prop_map(|(path, host, x, (method, query, (pending, known), random))| {
        let (method, query) = if path == "*" { ("OPTIONS", "") } else { (method, query) };
        let text = format!("{method} {path}{query} HTTP/1.1\r\nHost: {host}\r\n{x}\r\n");
        let mut facts = TestFacts::new("192.0.2.7:1", "192.0.2.8:80").with_request(&text);
        (facts.auth_pending, facts.random) = (pending, random);
        facts.auth = known.then(|| vec!["admins".into()]);
        facts
    })
}

fn list(conditions: &[Option<String>], context: Context) -> Vec<Rule<usize>> {
    let world = World { files: vec![("list", "/a/b\n/b\n".to_owned())], ..World::default() };
    let compile = |text: &String| -> Condition {
        condition_in(&world, text, &[], context).unwrap_or_else(|e| panic!("{text}: {e:?}"))
    };
    let rule = |(action, text): (usize, &Option<String>)| Rule {
        condition: text.as_ref().map(compile),
        action,
        id: 0,
        origin: String::new(),
        text: text.clone().unwrap_or_default(),
    };
    conditions.iter().enumerate().map(rule).collect()
}

/// Counts the tests that are looked at.
#[derive(Default)]
struct Count(usize);

impl Watch for Count {
    fn rule(&mut self, _: usize, _: Truth) {
        self.0 += 1;
    }
}

proptest! {
    #[test]
    fn what_is_looked_up_applies_as_one_by_one(
        conditions in prop::collection::vec(conditions(), 0..40),
        facts in prop::collection::vec(requests(), 4),
    ) {
        let rules = list(&conditions, Context::Request);
        let looked_up = RuleList::from(rules.clone());
        let scratch = &mut Scratch::default();
        for facts in facts {
            for from in 0..=rules.len() {
                let expected = next_rule_watched(&rules, from, &facts, scratch, &mut ());
                prop_assert_eq!(next_rule(&looked_up, from, &facts, scratch), expected, "from {}", from);
            }
        }
    }
}

#[test]
fn open_first_bytes_are_waited_for() {
    let sni = |name: usize| Some(format!("{{ req.ssl_sni -m end .n{name}.example }}"));
    let rules: RuleList<usize> = list(&(0..20).map(sni).collect::<Vec<_>>(), Context::Content).into();
    let mut facts = TestFacts { bytes: vec![0x16, 3, 1], ..TestFacts::default() };
    let scratch = &mut Scratch::default();
    assert_eq!(next_rule(&rules, 0, &facts, scratch), Verdict::NeedMore(0));
    facts.complete = true;
    assert_eq!(next_rule(&rules, 0, &facts, scratch), Verdict::End);
}

#[test]
fn effects_of_conditions_are_kept() {
    // What may have effects is asked although the path that stands behind it does not match.
    let text = |n: usize| Some(format!("{{ rand(2) 0 }} {{ path_beg /p{n} }}"));
    let rules = list(&(0..20).map(text).collect::<Vec<_>>(), Context::Request);
    assert!(rules.iter().all(|rule| rule.condition.as_ref().is_some_and(|c| c.guard().is_none())));
    let text = |n: usize| Some(format!("{{ path_beg /p{n} }} {{ rand(2) 0 }}"));
    let rules = list(&(0..20).map(text).collect::<Vec<_>>(), Context::Request);
    assert!(rules.iter().all(|rule| rule.condition.as_ref().is_some_and(|c| c.guard().is_some())));
}

#[test]
fn a_watched_walk_sees_every_rule() {
    let text = |n: usize| Some(format!("{{ path_beg /p{n}/ }}"));
    let rules = list(&(0..20).map(text).collect::<Vec<_>>(), Context::Request);
    let facts = TestFacts::default().with_request("GET /p19/x HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut count = Count::default();
    let verdict = next_rule_watched(&rules, 0, &facts, &mut Scratch::default(), &mut count);
    assert_eq!((verdict, count.0), (Verdict::Apply(19, &19), 20));
}

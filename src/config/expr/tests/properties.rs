//! Texts made at random: the parser never panics, and conditions agree with a naive evaluator.

use proptest::prelude::*;

use super::{World, condition, expr};
use crate::config::expr::Context;
use crate::policy::acl::Truth;
use crate::policy::sample::Scratch;
use crate::policy::sample::testing::TestFacts;

/// Pieces that texts are made of, so that many are nearly right.
const PIECES: &[&str] = &[
    "{",
    "}",
    "(",
    ")",
    "!",
    "or",
    "and",
    "not",
    "||",
    " ",
    " ",
    " ",
    ",",
    "\"",
    "'",
    "\\",
    "src",
    "req.len",
    "str",
    "str(a)",
    "TRUE",
    "10.0.0.0/8",
    "::/0",
    "-i",
    "-m",
    "-f",
    "--",
    "reg",
    "sub",
    "beg",
    "ip",
    "int",
    "gt",
    "1",
    "1:",
    ":",
    "lower",
    "field(1,.)",
    "regsub(a,b)",
    "map(x)",
    "var(txn.a)",
    "be_conn(web)",
    "é",
    "\0",
    "\n",
    "[",
    "*",
    "?",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::collection::vec(prop::sample::select(PIECES), 0..20).prop_map(|p| p.concat()),
        prop::collection::vec(prop::sample::select(PIECES), 0..20).prop_map(|p| p.join(" ")),
        any::<String>(),
    ]
}

/// A condition of constants, and its value.
fn tree() -> impl Strategy<Value = (String, Truth)> {
    let leaf = prop_oneof![
        Just(("TRUE".to_owned(), Truth::True)),
        Just(("{ always_false }".to_owned(), Truth::False)),
        Just(("{ req.len gt 9 }".to_owned(), Truth::NeedMore)),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let many = || prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            inner.clone().prop_map(|(text, truth)| (format!("!({text})"), !truth)),
            (many(), prop::sample::select(vec![" ", " and ", " && "])).prop_map(|(terms, sign)| {
                let truth = naive(&terms, Truth::False, Truth::True);
                (join(&terms, sign), truth)
            }),
            (many(), prop::sample::select(vec![" or ", " || "])).prop_map(|(terms, sign)| {
                let truth = naive(&terms, Truth::True, Truth::False);
                (join(&terms, sign), truth)
            }),
        ]
    })
}

fn join(terms: &[(String, Truth)], sign: &str) -> String {
    terms.iter().map(|(text, _)| format!("({text})")).collect::<Vec<_>>().join(sign)
}

fn naive(terms: &[(String, Truth)], decides: Truth, otherwise: Truth) -> Truth {
    let has = |truth| terms.iter().any(|(_, t)| *t == truth);
    match () {
        () if has(decides) => decides,
        () if has(Truth::NeedMore) => Truth::NeedMore,
        () => otherwise,
    }
}

proptest! {
    #[test]
    fn any_text_is_compiled_or_refused(text in text()) {
        if let Err(error) = condition(&text, &[], Context::Content) {
            prop_assert!(error.offset <= text.len(), "{error:?}");
            prop_assert!(text.is_char_boundary(error.offset), "{error:?}");
        }
        if let Err(error) = super::formats::format(&text, Context::Request) {
            prop_assert!(error.offset <= text.len(), "{error:?}");
        }
        if let Err(error) = expr(&text, &World::default()) {
            prop_assert!(error.offset <= text.len(), "{error:?}");
        }
    }

    #[test]
    fn conditions_agree_with_a_naive_evaluator((text, expected) in tree()) {
        let compiled = condition(&text, &[], Context::Content).expect("well formed");
        let facts = TestFacts::default();
        prop_assert_eq!(compiled.eval(&facts, &mut Scratch::default()), expected, "{}", text);
    }
}

//! No text makes the configuration layer panic, and every message points into the file.

use proptest::prelude::*;

use super::*;

/// Text that reaches far into the layer, to be damaged.
const SEEDS: &[&str] = &[
    include_str!("../../../tests/golden/config/everything.toml"),
    include_str!("../../../tests/golden/config/values.toml"),
];

/// What operators and accidents put where something else belongs.
const PIECES: &[&str] = &[
    "[",
    "]",
    "{",
    "}",
    "=",
    "\"",
    "'",
    ",",
    ".",
    "\n",
    "\\",
    "${",
    "}",
    "$${",
    "é",
    "\u{0}",
    "true",
    "-1",
    "0",
    "1e9",
    "99999999999999999999",
    "\"\"",
    "[]",
    "{}",
    "1979-05-27",
    "[backend.app]",
    "server.x = 1",
    "if = \"{ src \"",
    "bind = \"*:1-65535\"",
    "\"\"\"",
    "timeout = 3",
    "acl = []",
    "hash ",
    "random(",
    "fd@",
    "unix@",
    "::",
    ":0",
];

fn survives(text: &str) {
    let (model, diagnostics) = load("n.toml", text, &env());
    assert_eq!(model.is_none(), diagnostics.iter().any(Diagnostic::is_error));
    for d in &diagnostics {
        assert!(d.offset <= text.len() && d.line >= 1 && d.column >= 1 && !d.message.is_empty(), "{d:?}");
        assert!(d.line <= text.matches('\n').count() + 1, "{d:?}");
    }
}

fn boundary(text: &str, at: usize) -> usize {
    (at % (text.len() + 1)..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn damaged_configurations_are_reported(
        seed in 0..SEEDS.len(),
        damage in prop::collection::vec((any::<usize>(), 0..40_usize, 0..PIECES.len()), 1..6),
    ) {
        let mut text = SEEDS[seed].to_owned();
        for (at, cut, piece) in damage {
            let from = boundary(&text, at);
            let to = boundary(&text, (from + cut).min(text.len()));
            text.replace_range(from..to.max(from), PIECES[piece]);
        }
        survives(&text);
    }

    #[test]
    fn any_text_is_reported(text in "\\PC{0,80}") {
        survives(&text);
    }

    #[test]
    fn any_value_of_any_keyword_is_reported(
        keyword in 0..keywords::all().count(),
        value in prop_oneof![
            "[-0-9a-z:.*@/ ,()\\[\\]{}$]{0,20}".prop_map(|s| format!("\"{s}\"")),
            any::<i64>().prop_map(|n| n.to_string()),
            any::<bool>().prop_map(|b| b.to_string()),
            "[a-z{} ]{0,8}".prop_map(|s| format!("[\"{s}\", {{ address = \"{s}\" }}]")),
            "[a-z]{1,5}".prop_map(|s| format!("{{ {s} = \"{s}\", client = 1 }}")),
        ],
    ) {
        let Some(keyword) = keywords::all().nth(keyword) else { return Ok(()) };
        for scope in Scope::ALL.iter().filter(|scope| keyword.scopes.contains(**scope)) {
            let text = keywords::whole(*scope, keyword);
            let line = format!("{} = ", keyword.key);
            if let Some(at) = text.find(&line) {
                let end = text[at..].find('\n').map_or(text.len(), |i| at + i);
                survives(&format!("{}{line}{value}{}", &text[..at], &text[end..]));
            }
        }
    }
}

#[test]
fn deep_and_long_texts_are_reported() {
    for piece in ["[", "a = [", "a = {b=", "a.", "[a.", "\"", "{", "a = \"${"] {
        survives(&piece.repeat(20_000));
    }
    survives(&format!("[frontend.f]\nrules = {}", "[{ if = \"".repeat(5_000)));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let text = "[frontend.f]\nbind = \"\\u001b[2J\\n\"\n\"a\\u0007\" = 1\n";
    let (_, diagnostics) = load("n.toml", text, &env());
    let said: String =
        diagnostics.iter().map(|d| format!("{}{}", d.message, d.help.clone().unwrap_or_default())).collect();
    assert!(said.contains("\\u{1b}[2J") && !said.contains(char::is_control), "{said}");
}

#[test]
fn every_prefix_of_a_configuration_is_reported() {
    let text = SEEDS[0];
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)).step_by(7) {
        survives(&text[..end]);
    }
}

//! `json_query`: one value out of a JSON text. Reading JSON builds a tree, so this converter allocates.

use serde_json::Value as Json;

use crate::policy::converter::Step;
use crate::policy::sample::{Kind, Value};

/// A path into JSON: `$.a.b[0]`, `$['a.b']`, and HAProxy's `$.a\.b`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JsonQuery {
    steps: Vec<Member>,
    /// Whether the value is to be an integer.
    int: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Member {
    Name(String),
    Index(usize),
}

impl JsonQuery {
    /// Parses a path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(path: &str, int: bool) -> Result<JsonQuery, String> {
        let wrong = || format!("`{path}` is not a JSON path such as $.name, $.list[0] or $['odd name']");
        let mut rest = path.strip_prefix('$').ok_or_else(wrong)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let (name, after) = dotted(after);
                if name.is_empty() {
                    return Err(wrong());
                }
                steps.push(Member::Name(name));
                rest = after;
                continue;
            }
            let inner = rest.strip_prefix('[').ok_or_else(wrong)?;
            let quote = inner.chars().next().filter(|c| matches!(c, '\'' | '"'));
            let (step, after) = match quote {
                Some(quote) => {
                    let (name, after) = inner[1..].split_once(quote).ok_or_else(wrong)?;
                    (Member::Name(name.to_owned()), after.strip_prefix(']').ok_or_else(wrong)?)
                }
                None => {
                    let (index, after) = inner.split_once(']').ok_or_else(wrong)?;
                    (Member::Index(index.parse().map_err(|_| wrong())?), after)
                }
            };
            steps.push(step);
            rest = after;
        }
        Ok(JsonQuery { steps, int })
    }

    pub(super) fn apply(&self, text: &[u8], out: &mut Vec<u8>) -> Step<'static> {
        let Ok(tree) = serde_json::from_slice::<Json>(text) else { return Step::Missing };
        let found = self.steps.iter().try_fold(&tree, |value, step| match step {
            Member::Name(name) => value.get(name),
            Member::Index(index) => value.get(index),
        });
        match found {
            Some(Json::Bool(b)) => Step::bool(*b),
            Some(Json::String(text)) if self.int => {
                text.trim().parse().map_or(Step::Missing, |i| Step::Value(Value::Int(i)))
            }
            Some(Json::String(text)) => {
                out.extend_from_slice(text.as_bytes());
                Step::Written(Kind::Str)
            }
            Some(Json::Number(number)) => match number.as_i64() {
                Some(i) => Step::Value(Value::Int(i)),
                None if self.int => Step::Missing,
                None => {
                    out.extend_from_slice(number.to_string().as_bytes());
                    Step::Written(Kind::Str)
                }
            },
            Some(list @ (Json::Array(_) | Json::Object(_))) if !self.int => {
                out.extend_from_slice(list.to_string().as_bytes());
                Step::Written(Kind::Str)
            }
            _ => Step::Missing,
        }
    }
}

/// A name up to the next dot or bracket; a backslash keeps the next character.
fn dotted(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '.' | '[' => return (name, &text[at..]),
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            c => name.push(c),
        }
    }
    (name, "")
}

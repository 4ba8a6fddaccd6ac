//! `connection-rules` and `rules`: one action and its condition each.

use super::http;
use super::language::Language;
use super::layout::Layout;
use super::stick;
use crate::base::id::BackendId;
use crate::config::diag::suggest;
use crate::config::expr::Context as Place;
use crate::config::keywords::{self, KeywordMode, Scope};
use crate::config::section::Section;
use crate::policy::acl::Condition;
use crate::policy::rule::{Rule, TcpAction};
use crate::policy::sample::{Expr, VariableId, VariableScope, VariableTable};

/// What a rule may do; one of them stands in each rule.
const ACTIONS: &[&str] =
    &["accept", "reject", "silent-drop", "use-backend", "set-var", "capture", "set-log-level"];

/// Reads the rules of one list.
pub(super) struct Reader<'r, 'a> {
    pub(super) layout: &'r Layout<'a>,
    pub(super) language: &'r Language<'r>,
    pub(super) place: Place,
    pub(super) variables: &'r mut VariableTable,
}

/// Whether a rule has a condition.
pub(super) enum When {
    Always,
    If(Condition),
    /// There is one, and it is wrong: the rule must not become unconditional.
    Wrong,
}

impl Reader<'_, '_> {
    pub(super) fn rule(&mut self, table: &Section<'_>) -> Option<Rule<TcpAction>> {
        let action = self.only_action(table);
        // The condition is read even if the action is wrong: its errors belong to the same run.
        let condition = match condition(self.language, table, self.place, self.variables) {
            When::Always => None,
            When::If(condition) => Some(condition),
            When::Wrong => return None,
        };
        Some(Rule { condition, action: action?, id: 0, origin: table.origin(), text: table.written() })
    }

    fn only_action(&mut self, table: &Section<'_>) -> Option<TcpAction> {
        let own = table.own()?;
        let mut present =
            ACTIONS.iter().chain(stick::ACTIONS).copied().filter(|key| own.entry(key).is_some());
        match (present.next(), present.next()) {
            (Some(key), None) => self.action(table, key),
            (Some(first), Some(second)) => {
                let help = format!("write two rules, one with {first} and one with {second}");
                table.context.error(table.at, "a rule does one thing", Some(help));
                None
            }
            (None, _) => {
                // Anything else than a condition was reported as an unknown keyword, and was meant to be the action.
                if own.entries.iter().all(|entry| entry.key == "if" || entry.key == "unless") {
                    let help = "add what it does, for example reject = true".to_owned();
                    table.context.error(table.at, "this rule does nothing", Some(help));
                } else if let Some(entry) = own.entries.iter().find(|entry| needs_http(&entry.key)) {
                    let message = format!("{} needs mode = \"http\"", entry.key);
                    table.context.error(entry.key_span.start, message, None);
                }
                None
            }
        }
    }

    fn action(&mut self, table: &Section<'_>, key: &str) -> Option<TcpAction> {
        match key {
            "accept" => Some(TcpAction::Accept),
            "reject" => Some(TcpAction::Reject),
            "silent-drop" => Some(TcpAction::SilentDrop),
            "use-backend" if self.place == Place::Content => {
                find_backend(self.layout, table, key, &table.string(key)?).map(TcpAction::UseBackend)
            }
            "set-var" => {
                let (variable, value) = set_var(self.language, table, self.place, self.variables)?;
                Some(TcpAction::SetVar { variable, value })
            }
            "capture" if self.place == Place::Content => {
                let place = (self.language, self.place);
                let (value, (slot, len)) = http::capture(place, self.variables, table, key)?;
                Some(TcpAction::Capture { value, slot, len })
            }
            "set-log-level" if self.place == Place::Content => {
                http::log_level(table, key).map(TcpAction::SetLogLevel)
            }
            key if stick::ACTIONS.contains(&key) => {
                let place = (self.language, self.place);
                stick::action(self.layout, table, key, place, self.variables).map(TcpAction::Stick)
            }
            // `use-backend` before any byte was reported as an unknown keyword of that place.
            _ => None,
        }
    }
}

fn needs_http(key: &str) -> bool {
    keywords::find(Scope::Rule, key).is_some_and(|keyword| keyword.mode == KeywordMode::Http)
}

/// Reads `if` or `unless` of a rule.
pub(super) fn condition(
    language: &Language<'_>,
    table: &Section<'_>,
    place: Place,
    variables: &mut VariableTable,
) -> When {
    let (key, negated) = match (table.value("if"), table.value("unless")) {
        (None, None) => return When::Always,
        (Some(_), None) => ("if", false),
        (None, Some(_)) => ("unless", true),
        (Some(_), Some(_)) => {
            let help = "write one condition: if = \"A and not ( B )\"".to_owned();
            table.error("unless", "a rule has one condition, if or unless", Some(help));
            return When::Wrong;
        }
    };
    match table.text(key).and_then(|text| language.condition(&text, place, variables)) {
        Some(condition) if negated => When::If(condition.negated()),
        Some(condition) => When::If(condition),
        None => When::Wrong,
    }
}

/// Reads `set-var`: the variable and its value.
pub(super) fn set_var(
    language: &Language<'_>,
    table: &Section<'_>,
    place: Place,
    variables: &mut VariableTable,
) -> Option<(VariableId, Expr)> {
    let inner = table.table("set-var")?;
    let section = Section::new(table.context, Scope::SetVar, table.value_at("set-var"), vec![inner]);
    for key in ["name", "value"] {
        if section.value(key).is_none() {
            let help = "write set-var = { name = \"sess.x\", value = \"src\" }".to_owned();
            section.context.error(section.at, format!("set-var has no {key}"), Some(help));
        }
    }
    let value = section.text("value").and_then(|text| language.expression(&text, 0, place, variables));
    section.value("name")?;
    Some((variable(&section, "name", place, variables)?, value?))
}

/// The variable that a keyword names.
pub(super) fn variable(
    section: &Section<'_>,
    key: &str,
    place: Place,
    variables: &mut VariableTable,
) -> Option<VariableId> {
    let name = section.string(key)?;
    let Some(scope) = variable_scope(&name, place) else {
        let help =
            "a variable has a scope and a name of letters, digits, \"_\" and \".\": sess.NAME or txn.NAME";
        section.error(key, format!("\"{name}\" is not a variable"), Some(help.into()));
        return None;
    };
    let id = variables.id(&name, scope);
    if id.is_none() {
        section.error(key, "too many variables in this configuration", None);
    }
    id
}

/// The scope of `sess.NAME`, if the whole is a variable that may be set in that place.
fn variable_scope(name: &str, place: Place) -> Option<VariableScope> {
    let (scope, rest) = name.split_once('.')?;
    let named = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b));
    let http = matches!(place, Place::Request | Place::Response);
    match scope {
        "sess" if named => Some(VariableScope::Session),
        "txn" if named => Some(VariableScope::Transaction),
        "proc" if named => Some(VariableScope::Proc),
        "req" if named && http => Some(VariableScope::Request),
        "res" if named && http => Some(VariableScope::Response),
        _ => None,
    }
}

/// The backend of a name, or a message.
pub(super) fn find_backend(
    layout: &Layout<'_>,
    section: &Section<'_>,
    key: &str,
    name: &str,
) -> Option<BackendId> {
    let found = layout.backend(name);
    if found.is_none() {
        let names: Vec<&str> = layout.backends().map(|(proxy, _)| proxy.name).collect();
        let help = suggest(name, names).unwrap_or_else(|| format!("add [backend.{name}]"));
        section.error(key, format!("unknown backend \"{name}\""), Some(help));
    }
    found
}

//! `rules` and `response-rules` of HTTP mode: one action and its condition each.

use super::actions;
use crate::base::id::BackendId;
use crate::config::expr::Context as Place;
use crate::config::file::Value;
use crate::config::keywords::Scope;
use crate::config::resolve::language::Language;
use crate::config::resolve::layout::Layout;
use crate::config::resolve::rules::{When, condition};
use crate::config::section::Section;
use crate::model::http::HttpRules;
use crate::policy::http_action::{HeaderEdit, RequestAction, ResponseAction};
use crate::policy::rule::Rule;
use crate::policy::sample::VariableTable;

/// What reading an action may need.
pub(super) struct Reader<'r, 'a> {
    pub(super) layout: &'r Layout<'a>,
    pub(super) language: &'r Language<'r>,
    pub(super) place: Place,
    pub(super) variables: &'r mut VariableTable,
    /// The backend whose rules these are.
    pub(super) backend: Option<BackendId>,
}

/// Reads both lists of a section.
pub(super) fn read(
    layout: &Layout<'_>,
    section: &Section<'_>,
    language: &Language<'_>,
    backend: Option<BackendId>,
    variables: &mut VariableTable,
) -> HttpRules {
    let mut reader = Reader { layout, language, place: Place::Request, variables, backend };
    let request = section.tables("rules", Scope::Rule);
    let request = request.iter().filter_map(|table| reader.rule(table, Reader::request)).collect();
    reader.place = Place::Response;
    let response = section.tables("response-rules", Scope::ResponseRule);
    let response = response.iter().filter_map(|table| reader.rule(table, Reader::response)).collect();
    let after = section.tables("after-response-rules", Scope::ResponseRule);
    let after = after.iter().filter_map(|table| reader.rule(table, Reader::after_response)).collect();
    HttpRules { request, response, after }
}

/// Reads rules on requests that stand under another key.
pub(super) fn list(
    layout: &Layout<'_>,
    section: &Section<'_>,
    (key, backend): (&str, Option<BackendId>),
    language: &Language<'_>,
    variables: &mut VariableTable,
) -> Vec<Rule<RequestAction>> {
    let mut reader = Reader { layout, language, place: Place::Request, variables, backend };
    let tables = section.tables(key, Scope::Rule);
    tables.iter().filter_map(|table| reader.rule(table, Reader::request)).collect()
}

impl Reader<'_, '_> {
    fn rule<A>(
        &mut self,
        table: &Section<'_>,
        action: fn(&mut Self, &Section<'_>, &str, &Value) -> Option<A>,
    ) -> Option<Rule<A>> {
        let own = table.own()?;
        let mut rest = own.entries.iter().filter(|entry| entry.key != "if" && entry.key != "unless");
        let action = match (rest.next(), rest.next()) {
            (Some(entry), None) => action(self, table, &entry.key, &entry.value),
            (Some(first), Some(second)) => {
                let help = format!("write two rules, one with {} and one with {}", first.key, second.key);
                table.context.error(table.at, "a rule does one thing", Some(help));
                None
            }
            (None, _) => {
                let help = "add what it does, for example deny = true".to_owned();
                table.context.error(table.at, "this rule does nothing", Some(help));
                None
            }
        };
        let condition = match condition(self.language, table, self.place, self.variables) {
            When::Always => None,
            When::If(condition) => Some(condition),
            When::Wrong => return None,
        };
        Some(Rule { condition, action: action?, id: 0, origin: table.origin(), text: table.written() })
    }

    fn request(&mut self, table: &Section<'_>, key: &str, value: &Value) -> Option<RequestAction> {
        if let Some(edit) = self.header_edit(table, key) {
            return edit.map(RequestAction::Edit);
        }
        if let Some(line) = actions::line_edit(self, table, key) {
            return line.map(RequestAction::Line);
        }
        actions::request(self, table, key, value)
    }

    fn response(&mut self, table: &Section<'_>, key: &str, _: &Value) -> Option<ResponseAction> {
        if let Some(edit) = self.header_edit(table, key) {
            return edit.map(ResponseAction::Edit);
        }
        actions::response(self, table, key)
    }

    fn after_response(&mut self, table: &Section<'_>, key: &str, value: &Value) -> Option<ResponseAction> {
        let action = self.response(table, key, value)?;
        if matches!(action, ResponseAction::Deny(_) | ResponseAction::Return(_)) {
            let help = "write it as one of response-rules".to_owned();
            table.error(key, format!("{key} comes too late here: the response is made"), Some(help));
            return None;
        }
        Some(action)
    }

    /// `None`: the action is no change of headers; `Some(None)`: it is, and it is wrong.
    fn header_edit(&mut self, table: &Section<'_>, key: &str) -> Option<Option<HeaderEdit>> {
        Some(match key {
            "set-header" => {
                actions::header_value(self, table, key).map(|(name, value)| HeaderEdit::Set { name, value })
            }
            "add-header" => {
                actions::header_value(self, table, key).map(|(name, value)| HeaderEdit::Add { name, value })
            }
            "del-header" => actions::name_match(table).map(HeaderEdit::Del),
            "replace-header" => actions::replacement(self, table, key, Scope::ReplaceHeader)
                .and_then(|(name, pattern, value)| Some(HeaderEdit::Replace { name: name?, pattern, value })),
            "replace-value" => actions::replacement(self, table, key, Scope::ReplaceHeader).and_then(
                |(name, pattern, value)| Some(HeaderEdit::ReplaceValue { name: name?, pattern, value }),
            ),
            _ => return None,
        })
    }
}

//! Reading one section: checks its keys and values against the keyword table, and hands out typed values that fall back to
//! the layers below it (`default-server`, `[defaults]`). Reports what is wrong and goes on; `resolve` decides what it means.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::Env;
use super::diag::{Diagnostic, Severity, suggest};
use super::file::{Data, Entry, File, Table, Value};
use super::keywords::{self, Keyword, KeywordMode, Kind, Scope};
use super::units::{self, Problem};

/// The file, its surroundings, and what was found wrong so far.
pub(super) struct Context<'a> {
    pub(super) file: &'a File,
    pub(super) env: &'a Env,
    diagnostics: RefCell<Vec<Diagnostic>>,
    seen: Cell<Seen>,
    /// Files whose bytes are sent.
    files: RefCell<BTreeMap<String, Arc<[u8]>>>,
}

/// What a piece of the configuration needed while it was read, beside itself and `[defaults]`: what has to be as it was for
/// the result to be used again.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Seen {
    /// There was something to say about it.
    pub(super) said: bool,
    /// Where it stands, or which ids it has.
    pub(super) here: bool,
    /// Other sections, or files.
    pub(super) outside: bool,
}

impl Seen {
    pub(super) fn and(self, other: Seen) -> Seen {
        Seen {
            said: self.said || other.said,
            here: self.here || other.here,
            outside: self.outside || other.outside,
        }
    }
}

/// A string of the file after `${}` expansion, which can say where in the file its bytes stand.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) text: String,
    expanded: units::Expanded,
    span: Range<usize>,
}

impl<'a> Context<'a> {
    pub(super) fn new(file: &'a File, env: &'a Env) -> Context<'a> {
        Context {
            file,
            env,
            diagnostics: RefCell::default(),
            seen: Cell::default(),
            files: RefCell::default(),
        }
    }

    /// Remembers a file whose bytes are sent.
    pub(super) fn note_file(&self, name: &str, bytes: &Arc<[u8]>) {
        self.files.borrow_mut().insert(name.to_owned(), bytes.clone());
    }

    /// Files whose bytes are sent.
    pub(super) fn files(&self) -> BTreeMap<String, Arc<[u8]>> {
        self.files.take()
    }

    /// Does a part of the work, and says what it needed.
    pub(super) fn watch<R>(&self, work: impl FnOnce() -> R) -> (R, Seen) {
        let before = self.seen.take();
        let done = work();
        let seen = self.seen.get();
        self.seen.set(before.and(seen));
        (done, seen)
    }

    /// What is being read depends on where it stands.
    pub(super) fn depends_on_place(&self) {
        self.seen.set(Seen { here: true, ..self.seen.get() });
    }

    /// What is being read depends on other sections, or on files.
    pub(super) fn depends_on_others(&self) {
        self.seen.set(Seen { outside: true, ..self.seen.get() });
    }

    pub(super) fn error(&self, at: usize, message: impl Into<String>, help: Option<String>) {
        self.report(Severity::Error, at, message.into(), help);
    }

    pub(super) fn warning(&self, at: usize, message: impl Into<String>, help: Option<String>) {
        self.report(Severity::Warning, at, message.into(), help);
    }

    pub(super) fn problem(&self, at: usize, problem: Problem) {
        self.error(at, problem.message, problem.help);
    }

    fn report(&self, severity: Severity, at: usize, message: String, help: Option<String>) {
        self.seen.set(Seen { said: true, ..self.seen.get() });
        let (message, help) = (printable(message), help.map(printable));
        self.diagnostics.borrow_mut().push(self.file.source.diagnostic(severity, at, message, help));
    }

    /// Whether anything so far keeps the file from running.
    pub(super) fn has_errors(&self) -> bool {
        self.diagnostics.borrow().iter().any(Diagnostic::is_error)
    }

    /// All messages in the order of the file, each once: a default is read by every section that inherits it.
    pub(super) fn finish(self) -> Vec<Diagnostic> {
        let mut all = self.diagnostics.into_inner();
        all.sort_by_key(|diagnostic| (diagnostic.offset, diagnostic.severity));
        let mut kept: Vec<Diagnostic> = Vec::with_capacity(all.len());
        for diagnostic in all {
            if !kept.iter().rev().take_while(|k| k.offset == diagnostic.offset).any(|k| *k == diagnostic) {
                kept.push(diagnostic);
            }
        }
        kept
    }

    /// A string with its variables expanded.
    pub(super) fn text(&self, value: &Value) -> Option<Text> {
        let Data::String(raw) = &value.data else { return None };
        match units::expand(raw, &self.env.variable) {
            Ok(expanded) => Some(Text { text: expanded.text.clone(), expanded, span: value.span.clone() }),
            Err((at, problem)) => {
                self.problem(self.file.source.string_offset(&value.span, at), problem);
                None
            }
        }
    }

    /// Where byte `at` of a string stands in the file.
    pub(super) fn offset_in(&self, text: &Text, at: usize) -> usize {
        self.file.source.string_offset(&text.span, text.expanded.original_offset(at))
    }

    /// Checks that all keys of a table are keywords of the scope and that their values have the right form.
    pub(super) fn check(&self, scope: Scope, table: &Table) {
        self.check_below(scope, table, "");
    }

    fn check_below(&self, scope: Scope, table: &Table, prefix: &str) {
        for entry in &table.entries {
            let key = format!("{prefix}{}", entry.key);
            match (keywords::find(scope, &key), &entry.value.data) {
                // Tests of this layer know keywords before the data plane does.
                (Some(keyword), _) if !keyword.is_done() && !cfg!(test) => {
                    let message = format!("{key} is not available in this version");
                    self.error(entry.key_span.start, message, None);
                }
                (Some(keyword), _) => self.check_value(keyword, &entry.value),
                (None, Data::Table(inner)) if keywords::is_prefix(scope, &key) => {
                    self.check_below(scope, inner, &format!("{key}."));
                }
                (None, data) if keywords::is_prefix(scope, &key) => {
                    let below = keywords::of(scope).find(|k| k.key.starts_with(&format!("{key}.")));
                    let help = below.map(|k| format!("write {}", k.example.lines().next().unwrap_or(k.key)));
                    self.error(
                        entry.value.span.start,
                        format!("{key} takes a table, not {}", data.type_name()),
                        help,
                    );
                }
                (None, _) => self.unknown_key(scope, &key, entry),
            }
        }
    }

    fn unknown_key(&self, scope: Scope, key: &str, entry: &Entry) {
        let title = scope.title();
        let message = format!("unknown keyword \"{key}\" in {title}");
        self.error(entry.key_span.start, message, Some(help_for_unknown(scope, key)));
    }

    /// The form of one value; the typed getters read it again and may rely on it.
    fn check_value(&self, keyword: &Keyword, value: &Value) {
        match (keyword.kind, &value.data) {
            (
                Kind::Flag
                | Kind::FlagOrInteger(..)
                | Kind::FlagOrTable(_)
                | Kind::FlagOrText
                | Kind::FlagTextsOrTables(_),
                Data::Boolean(_),
            ) => {}
            (Kind::True | Kind::TrueOrTable(_), Data::Boolean(true)) => {}
            (Kind::Integer(low, high) | Kind::FlagOrInteger(low, high), Data::Integer(_)) => {
                self.integer_in(keyword, value, low, high);
            }
            (Kind::Duration(least), Data::Integer(_) | Data::String(_)) => {
                self.duration_of(keyword, value, least);
            }
            (Kind::Size(low, high), Data::Integer(_) | Data::String(_)) => {
                self.size_of(keyword, value, low, high);
            }
            (
                Kind::Text
                | Kind::Texts
                | Kind::TextsOrTables(_)
                | Kind::FlagTextsOrTables(_)
                | Kind::FlagOrText
                | Kind::TextOrTable(_)
                | Kind::Cpus
                | Kind::FileMode,
                Data::String(_),
            ) => {
                self.text(value);
            }
            (Kind::OneOf(choices), Data::String(_)) => self.choice_of(keyword, value, choices),
            (Kind::SomeOf(choices), Data::Array(items)) => {
                items.iter().for_each(|item| match item.data {
                    Data::String(_) => self.choice_of(keyword, item, choices),
                    _ => self.wrong_type(keyword, item),
                });
            }
            (Kind::Texts, Data::Array(items)) => self.check_texts(keyword, items),
            (Kind::Cpus | Kind::FileMode, Data::Integer(_)) | (Kind::Cpus, Data::Array(_)) => {}
            (
                Kind::Table(scope)
                | Kind::TrueOrTable(scope)
                | Kind::FlagOrTable(scope)
                | Kind::TextOrTable(scope),
                Data::Table(inner),
            ) => self.check(scope, inner),
            (
                Kind::Tables(scope) | Kind::TextsOrTables(scope) | Kind::FlagTextsOrTables(scope),
                Data::Array(items),
            ) => {
                for item in items {
                    match &item.data {
                        Data::Table(inner) => self.check(scope, inner),
                        Data::String(_)
                            if matches!(
                                keyword.kind,
                                Kind::TextsOrTables(_) | Kind::FlagTextsOrTables(_)
                            ) =>
                        {
                            self.text(item);
                        }
                        _ => self.wrong_type(keyword, item),
                    }
                }
            }
            (Kind::Named(scope), Data::Table(inner)) => {
                for entry in &inner.entries {
                    match &entry.value.data {
                        Data::Table(table) => self.check(scope, table),
                        _ => self.wrong_type(keyword, &entry.value),
                    }
                }
            }
            (Kind::NamedTexts, Data::Table(inner)) => {
                for entry in &inner.entries {
                    match &entry.value.data {
                        Data::String(_) => {
                            self.text(&entry.value);
                        }
                        Data::Array(items) => self.check_texts(keyword, items),
                        _ => self.wrong_type(keyword, &entry.value),
                    }
                }
            }
            _ => self.wrong_type(keyword, value),
        }
    }

    fn check_texts(&self, keyword: &Keyword, items: &[Value]) {
        for item in items {
            match item.data {
                Data::String(_) => {
                    self.text(item);
                }
                _ => self.wrong_type(keyword, item),
            }
        }
    }

    fn wrong_type(&self, keyword: &Keyword, value: &Value) {
        let expected = keyword.kind.describe();
        let found = match value.data {
            Data::Boolean(flag) => flag.to_string(),
            _ => value.data.type_name().to_owned(),
        };
        let example = keyword.example.lines().last().unwrap_or_default();
        let help = (!example.is_empty()).then(|| format!("for example: {example}"));
        self.error(value.span.start, format!("{} takes {expected}, not {found}", keyword.key), help);
    }

    fn integer_in(&self, keyword: &Keyword, value: &Value, low: i64, high: i64) -> Option<i64> {
        let Data::Integer(number) = value.data else { return None };
        if (low..=high).contains(&number) {
            return Some(number);
        }
        let message = format!("{} takes {}, not {number}", keyword.key, keyword.kind.describe());
        self.error(value.span.start, message, None);
        None
    }

    fn duration_of(&self, keyword: &Keyword, value: &Value, least: Duration) -> Option<Duration> {
        let parsed = match &value.data {
            Data::Integer(number) => units::duration(&number.to_string()),
            _ => units::duration(&self.text(value)?.text),
        };
        match parsed {
            Ok(duration) if duration < least => {
                let message = format!("{} is at least {}", keyword.key, units::show_duration(least));
                self.error(value.span.start, message, None);
                None
            }
            Ok(duration) => Some(duration),
            Err(problem) => {
                self.problem(value.span.start, problem);
                None
            }
        }
    }

    fn size_of(&self, keyword: &Keyword, value: &Value, low: u64, high: u64) -> Option<u64> {
        let parsed = match &value.data {
            Data::Integer(number) => units::size(&number.to_string()),
            _ => units::size(&self.text(value)?.text),
        };
        match parsed {
            Ok(size) if (low..=high).contains(&size) => Some(size),
            Ok(size) => {
                let message = format!("{} is from {low} to {high} bytes, and {size} is not", keyword.key);
                self.error(value.span.start, message, None);
                None
            }
            Err(problem) => {
                self.problem(value.span.start, problem);
                None
            }
        }
    }

    fn choice_of(&self, keyword: &Keyword, value: &Value, choices: &[&str]) {
        let Some(text) = self.text(value) else { return };
        if !choices.contains(&text.text.as_str()) {
            let message = format!("\"{}\" is no value of {}", text.text, keyword.key);
            self.error(value.span.start, message, suggest(&text.text, choices.iter().copied()));
        }
    }
}

/// One section and the layers it inherits from. The keys of every layer are checked where that layer is a section itself.
#[derive(Clone)]
pub(super) struct Section<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) scope: Scope,
    /// Where the section stands, for messages about what it lacks.
    pub(super) at: usize,
    /// The section's own table, then what it inherits from, nearest first.
    layers: Vec<&'a Table>,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        context: &'a Context<'a>,
        scope: Scope,
        at: usize,
        layers: Vec<&'a Table>,
    ) -> Section<'a> {
        Section { context, scope, at, layers }
    }

    /// The section's own table.
    pub(super) fn own(&self) -> Option<&'a Table> {
        self.layers.first().copied()
    }

    /// Reports keywords of HTTP mode in a section of TCP mode. Inherited ones are meant for other sections.
    pub(super) fn reject_http_keywords(&self) {
        for entry in self.own().iter().flat_map(|own| &own.entries) {
            if keywords::find(self.scope, &entry.key).is_some_and(|k| k.mode == KeywordMode::Http) {
                let message = format!("{} needs mode = \"http\"", entry.key);
                self.context.error(entry.key_span.start, message, None);
            }
        }
    }

    /// Whether a key of the section's own table was reported as unknown.
    pub(super) fn has_unknown_keys(&self) -> bool {
        let known =
            |key: &str| keywords::find(self.scope, key).is_some() || keywords::is_prefix(self.scope, key);
        self.own().is_some_and(|own| own.entries.iter().any(|entry| !known(&entry.key)))
    }

    /// `file:line:col` of the section.
    pub(super) fn origin(&self) -> String {
        self.context.depends_on_place();
        self.context.file.source.origin(self.at)
    }

    /// The entries of the section as they are written, on one line.
    pub(super) fn written(&self) -> String {
        let text = &self.context.file.source.text;
        let mut out = String::new();
        for entry in self.own().iter().flat_map(|own| &own.entries) {
            let value = text.get(entry.value.span.clone()).unwrap_or_default();
            out.push_str(if out.is_empty() { "" } else { ", " });
            out.push_str(&entry.key);
            out.push_str(" = ");
            out.push_str(&value.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        out
    }

    /// The value of a keyword, its own or inherited.
    pub(super) fn value(&self, key: &str) -> Option<&'a Value> {
        debug_assert!(keywords::find(self.scope, key).is_some(), "{key} has no row for {:?}", self.scope);
        self.layers.iter().find_map(|layer| layer.at(key))
    }

    /// The section's own table and those that it inherits from, each alone, for keywords that add up.
    pub(super) fn each_layer(&self) -> impl Iterator<Item = Section<'a>> + '_ {
        self.layers.iter().map(|layer| Section::new(self.context, self.scope, self.at, vec![layer]))
    }

    /// Where a keyword's value stands; the section itself if it is absent.
    pub(super) fn value_at(&self, key: &str) -> usize {
        self.value(key).map_or(self.at, |value| value.span.start)
    }

    fn keyword(&self, key: &str) -> Option<&'static Keyword> {
        keywords::find(self.scope, key)
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        match self.value(key)?.data {
            Data::Boolean(flag) => Some(flag),
            _ => None,
        }
    }

    /// An integer; its range is the keyword's.
    pub(super) fn integer(&self, key: &str) -> Option<i64> {
        let keyword = self.keyword(key)?;
        match keyword.kind {
            Kind::Integer(low, high) | Kind::FlagOrInteger(low, high) => {
                self.context.integer_in(keyword, self.value(key)?, low, high)
            }
            _ => None,
        }
    }

    /// An integer whose range in the table fits 32 bits.
    pub(super) fn count(&self, key: &str) -> Option<u32> {
        self.integer(key).and_then(|number| u32::try_from(number).ok())
    }

    /// A count of which 0 means no limit.
    pub(super) fn limit(&self, key: &str) -> Option<u32> {
        self.count(key).filter(|count| *count != 0)
    }

    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        let keyword = self.keyword(key)?;
        match keyword.kind {
            Kind::Duration(least) => self.context.duration_of(keyword, self.value(key)?, least),
            _ => None,
        }
    }

    /// A duration of which 0 means no timeout.
    pub(super) fn timeout(&self, key: &str) -> Option<Duration> {
        self.duration(key).filter(|duration| !duration.is_zero())
    }

    pub(super) fn size(&self, key: &str) -> Option<u64> {
        let keyword = self.keyword(key)?;
        match keyword.kind {
            Kind::Size(low, high) => self.context.size_of(keyword, self.value(key)?, low, high),
            _ => None,
        }
    }

    /// A string, with where it stands.
    pub(super) fn text(&self, key: &str) -> Option<Text> {
        self.context.text(self.value(key)?)
    }

    pub(super) fn string(&self, key: &str) -> Option<String> {
        self.text(key).map(|text| text.text)
    }

    /// A string or a list of strings, each with where it stands.
    pub(super) fn texts(&self, key: &str) -> Vec<(usize, Text)> {
        self.value(key).map_or_else(Vec::new, |value| texts_of(self.context, value))
    }

    /// The tables of a list, each as a section without inheritance.
    pub(super) fn tables(&self, key: &str, scope: Scope) -> Vec<Section<'a>> {
        let Some(Value { data: Data::Array(items), .. }) = self.value(key) else { return Vec::new() };
        items
            .iter()
            .filter_map(|item| match &item.data {
                Data::Table(table) => Some(Section::new(self.context, scope, item.span.start, vec![table])),
                _ => None,
            })
            .collect()
    }

    /// The table of a keyword, if it is one.
    pub(super) fn table(&self, key: &str) -> Option<&'a Table> {
        match &self.value(key)?.data {
            Data::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(super) fn error(&self, key: &str, message: impl Into<String>, help: Option<String>) {
        self.context.error(self.value_at(key), message, help);
    }

    pub(super) fn warning(&self, key: &str, message: impl Into<String>, help: Option<String>) {
        self.context.warning(self.value_at(key), message, help);
    }

    /// Reads a string with a parser of `units`.
    pub(super) fn parsed<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, Problem>) -> Option<T> {
        let text = self.text(key)?;
        match parse(&text.text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.context.problem(self.value_at(key), problem);
                None
            }
        }
    }
}

/// A string or the strings of a list, each with where it stands.
pub(super) fn texts_of(context: &Context<'_>, value: &Value) -> Vec<(usize, Text)> {
    let one = |value: &Value| Some((value.span.start, context.text(value)?));
    match &value.data {
        Data::Array(items) => items.iter().filter_map(one).collect(),
        _ => one(value).into_iter().collect(),
    }
}

/// Quoted text of the file may contain anything; a message is one line and does not steer the terminal.
fn printable(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// What the operator may have meant: a keyword of another section, HAProxy's spelling of one of ours, or a slip.
fn help_for_unknown(scope: Scope, key: &str) -> String {
    let elsewhere: Vec<&str> =
        Scope::ALL.iter().filter(|s| keywords::find(**s, key).is_some()).map(|s| s.title()).collect();
    if !elsewhere.is_empty() {
        return format!("\"{key}\" belongs into {}", elsewhere.join(" or "));
    }
    let kebab = |text: &str| text.replace([' ', '_'], "-");
    let haproxys = keywords::of(scope).find(|k| k.haproxy.split(", ").any(|h| kebab(h) == kebab(key)));
    let close = |scope: Scope| super::diag::closest(key, keywords::of(scope).map(|k| k.key));
    if let Some(meant) = haproxys.map(|k| k.key).or_else(|| close(scope)) {
        return format!("did you mean \"{meant}\"?");
    }
    match Scope::ALL.iter().find_map(|other| Some((other, close(*other)?))) {
        Some((other, meant)) => format!("did you mean \"{meant}\"? It belongs into {}", other.title()),
        None => format!("docs/CONFIGURATION.md lists the keywords of {}", scope.title()),
    }
}

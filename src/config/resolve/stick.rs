//! Stick tables: `stick-table` of sections, `stick` of backends, and the actions of rules that count.

use super::language::Language;
use super::layout::{Layout, Proxy};
use super::rules::{When, condition};
use crate::base::id::{IdVec, TableId};
use crate::base::limits::STICK_COLUMNS_MAX;
use crate::config::diag::suggest;
use crate::config::expr::Context as Place;
use crate::config::keywords::Scope;
use crate::config::section::{Context, Section};
use crate::config::units;
use crate::model::Mode;
use crate::policy::rule::Rule;
use crate::policy::sample::VariableTable;
use crate::policy::stick::{
    Amount, Cell, DATA, Data, KeyKind, Spec, Stick, StickAction, StickWhen, Store, parse_store,
};

/// Bytes of a key of text unless `len` says otherwise: HAProxy's default.
const KEY_LEN: u16 = 32;

/// Actions of rules that count; all modes and lists have them.
pub(super) const ACTIONS: &[&str] = &[
    "track-sc0",
    "track-sc1",
    "track-sc2",
    "sc-inc-gpc0",
    "sc-inc-gpc1",
    "sc-inc-gpc",
    "sc-add-gpc",
    "sc-set-gpt0",
    "sc-set-gpt",
];

/// All tables of the file.
pub(super) fn tables(context: &Context<'_>, proxies: &[Proxy<'_>]) -> IdVec<TableId, Spec> {
    let mut tables: Vec<Spec> = Vec::new();
    for proxy in proxies {
        let Some(spec) = table(context, proxy) else { continue };
        if tables.iter().any(|other| other.name == spec.name) {
            let message = format!("there are two tables with the name \"{}\"", spec.name);
            let help = "a table has the name of its section: give one of them another".to_owned();
            context.error(proxy.section.value_at("stick-table"), message, Some(help));
            continue;
        }
        tables.push(spec);
    }
    for proxy in proxies.iter().filter(|proxy| proxy.backend.is_some()) {
        for rule in proxy.section.tables("stick", Scope::StickRule) {
            let name = rule.string("table").unwrap_or_else(|| proxy.name.to_owned());
            let Some(table) = tables.iter_mut().find(|table| table.name == name) else { continue };
            let cell = Cell::of(Data::ServerId);
            if table.store.iter().all(|store| store.cell != cell) {
                table.store.insert(0, Store { cell, period_ms: 0 });
            }
        }
    }
    tables.into_iter().collect()
}

fn table(context: &Context<'_>, proxy: &Proxy<'_>) -> Option<Spec> {
    let table = proxy.section.table("stick-table")?;
    let at = proxy.section.value_at("stick-table");
    let section = Section::new(context, Scope::StickTable, at, vec![table]);
    for key in ["type", "size"] {
        if section.value(key).is_none() {
            let help = "write stick-table = { type = \"ip\", size = \"1m\", expire = \"10m\" }".to_owned();
            context.error(at, format!("stick-table has no {key}"), Some(help));
        }
    }
    let len = section.count("len").and_then(|len| u16::try_from(len).ok());
    let kind = match section.string("type")?.as_str() {
        "ip" => KeyKind::Ip,
        "ipv6" => KeyKind::Ipv6,
        "integer" => KeyKind::Integer,
        "string" => KeyKind::String(len.unwrap_or(KEY_LEN)),
        "binary" => KeyKind::Binary(len.unwrap_or(KEY_LEN)),
        _ => return None,
    };
    if len.is_some() && !matches!(kind, KeyKind::String(_) | KeyKind::Binary(_)) {
        section.error("len", format!("keys of type {} have no len", kind.name()), None);
    }
    let mut store: Vec<Store> = Vec::new();
    for (at, text) in section.texts("store") {
        let period = |text: &str| units::duration(text).map_err(|problem| problem.message);
        match parse_store(&text.text, period) {
            Ok(columns) => {
                for column in columns {
                    if store.iter().any(|known| known.cell == column.cell) {
                        context.error(at, format!("{} is stored already", column.cell.name()), None);
                    } else {
                        store.push(column);
                    }
                }
            }
            Err(message) => {
                context.error(at, message, Some("docs/STICK_TABLES.md lists what there is".into()))
            }
        }
    }
    // As `show table` has them.
    let rank = |store: &Store| (DATA.iter().position(|info| info.data == store.cell.data), store.cell.index);
    store.sort_by_key(rank);
    // One place stays for `server_id`, which persistence adds.
    if store.len() >= STICK_COLUMNS_MAX {
        section.error("store", format!("a table has fewer than {STICK_COLUMNS_MAX} columns"), None);
    }
    Some(Spec {
        name: proxy.name.to_owned(),
        kind,
        size: u32::try_from(section.size("size")?).unwrap_or(u32::MAX),
        expire: section.duration("expire"),
        nopurge: section.flag("nopurge").unwrap_or(false),
        store,
        backend: proxy.backend,
    })
}

/// The table that a keyword names, or that of the section.
fn find_table(layout: &Layout<'_>, language: &Language<'_>, section: &Section<'_>) -> Option<TableId> {
    let Some(name) = section.string("table") else {
        let own = language.own_table();
        if own.is_none() {
            let message = "this section has no stick-table of its own";
            section.context.error(
                section.at,
                message,
                Some("add one, or name that of another: table = \"NAME\"".into()),
            );
        }
        return own;
    };
    let found = layout.table(&name);
    if found.is_none() {
        let names = layout.tables.values().map(|table| table.name.as_str());
        let help =
            suggest(&name, names).unwrap_or_else(|| format!("add a stick-table to the section \"{name}\""));
        section.error("table", format!("no section \"{name}\" has a stick-table"), Some(help));
    }
    found
}

/// `stick` of a backend.
pub(super) fn stick(
    layout: &Layout<'_>,
    section: &Section<'_>,
    language: &Language<'_>,
    mode: Mode,
    variables: &mut VariableTable,
) -> Vec<Rule<Stick>> {
    let rules = section.tables("stick", Scope::StickRule);
    rules.iter().filter_map(|rule| stick_rule(layout, rule, language, mode, variables)).collect()
}

fn stick_rule(
    layout: &Layout<'_>,
    rule: &Section<'_>,
    language: &Language<'_>,
    mode: Mode,
    variables: &mut VariableTable,
) -> Option<Rule<Stick>> {
    let words = [
        ("on", StickWhen::On),
        ("match", StickWhen::Match),
        ("store-request", StickWhen::StoreRequest),
        ("store-response", StickWhen::StoreResponse),
    ];
    let present: Vec<_> = words.iter().filter(|(word, _)| rule.value(word).is_some()).collect();
    let [(word, when)] = present.as_slice() else {
        let message = "an entry of stick has one of on, match, store-request and store-response";
        rule.context.error(rule.at, message, Some("for example { on = \"src\" }".into()));
        return None;
    };
    let place = match (mode, when) {
        (Mode::Tcp, StickWhen::StoreResponse) => {
            rule.error(word, "store-response needs mode = \"http\": there are no responses otherwise", None);
            return None;
        }
        (Mode::Tcp, _) => Place::Content,
        (Mode::Http, StickWhen::StoreResponse) => Place::Response,
        (Mode::Http, _) => Place::Request,
    };
    let table = find_table(layout, language, rule);
    let key = language.expression(&rule.text(word)?, 0, place, variables);
    let condition = match condition(language, rule, place, variables) {
        When::Always => None,
        When::If(condition) => Some(condition),
        When::Wrong => return None,
    };
    let action = Stick { when: *when, table: table?, key: key? };
    Some(Rule { condition, action, id: 0, origin: rule.origin(), text: rule.written() })
}

/// One of [`ACTIONS`].
pub(super) fn action(
    layout: &Layout<'_>,
    table: &Section<'_>,
    key: &str,
    (language, place): (&Language<'_>, Place),
    variables: &mut VariableTable,
) -> Option<StickAction> {
    if let Some(number) = key.strip_prefix("track-sc") {
        let counter = number.parse().ok()?;
        return track(layout, table, key, counter, (language, place), variables);
    }
    if let Some(cell) = match key {
        "sc-inc-gpc0" => Some(Cell { data: Data::Gpc, index: 0 }),
        "sc-inc-gpc1" => Some(Cell { data: Data::Gpc, index: 1 }),
        _ => None,
    } {
        let counter = u8::try_from(table.count(key)?).ok()?;
        return Some(StickAction::Add { counter, cell, amount: Amount::Fixed(1) });
    }
    let inner = Section::new(table.context, Scope::ScChange, table.value_at(key), vec![table.table(key)?]);
    let counter = u8::try_from(inner.count("sc").unwrap_or(0)).ok()?;
    let index = u8::try_from(inner.count("index").unwrap_or(0)).ok()?;
    let data = if key.contains("gpt") { Data::Gpt } else { Data::Gpc };
    if key == "sc-set-gpt0" && index != 0 {
        inner.error("index", "sc-set-gpt0 sets the first gpt; sc-set-gpt has an index", None);
    }
    let cell = Cell { data, index };
    if key == "sc-inc-gpc" {
        if inner.value("value").is_some() {
            inner.error("value", "sc-inc-gpc adds 1; sc-add-gpc has a value", None);
        }
        return Some(StickAction::Add { counter, cell, amount: Amount::Fixed(1) });
    }
    if inner.value("value").is_none() {
        inner.context.error(inner.at, format!("{key} has no value"), Some("write value = \"1\"".into()));
    }
    let text = inner.text("value")?;
    let amount = match text.text.trim().parse::<u32>() {
        Ok(number) => Amount::Fixed(i64::from(number)),
        Err(_) => Amount::Expr(Box::new(language.expression(&text, 0, place, variables)?)),
    };
    Some(match key {
        "sc-add-gpc" => StickAction::Add { counter, cell, amount },
        _ => StickAction::Set { counter, cell, amount },
    })
}

fn track(
    layout: &Layout<'_>,
    table: &Section<'_>,
    word: &str,
    counter: u8,
    (language, place): (&Language<'_>, Place),
    variables: &mut VariableTable,
) -> Option<StickAction> {
    let (id, key) = match table.table(word) {
        Some(inner) => {
            let inner = Section::new(table.context, Scope::TrackSc, table.value_at(word), vec![inner]);
            if inner.value("key").is_none() {
                let help = format!("write {word} = {{ key = \"src\" }}");
                inner.context.error(inner.at, format!("{word} has no key"), Some(help));
            }
            (find_table(layout, language, &inner), inner.text("key")?)
        }
        None => (
            find_table(layout, language, &Section::new(table.context, Scope::TrackSc, table.at, vec![])),
            table.text(word)?,
        ),
    };
    let key = language.expression(&key, 0, place, variables)?;
    Some(StickAction::Track { counter, table: id?, key })
}

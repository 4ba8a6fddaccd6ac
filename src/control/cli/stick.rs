//! `show table`, `clear table` and `set table`: stick tables, as HAProxy shows them.

use std::fmt::Write as _;

use crate::control::cli::parse;
use crate::control::cli::session::{Answer, Call, Reply};
use crate::control::cli::target::{Job, Outcome};
use crate::model::Model;
use crate::policy::stick::{Cell, Data, Key, Row, Spec};
use crate::proxy::stick_admin::{Comparison, Filter, Part, Question, Told};

/// Conditions on values in one command: HAProxy's limit.
const CONDITIONS_MAX: usize = 4;

fn ask(question: Question, then: impl FnOnce(Told) -> String + 'static) -> Answer {
    let answer = |outcome| match outcome {
        Outcome::Stick(told) => then(*told),
        _ => String::new(),
    };
    Ok(Reply::Job(Job::Stick(Box::new(question)), Box::new(answer)))
}

/// The table that the first argument names.
fn named<'m>(call: &'m Call<'_>) -> Result<&'m Spec, String> {
    let name = call.arg(0);
    call.target.model().tables.values().find(|table| table.name == name).ok_or_else(|| {
        let names = call.target.model().tables.values().map(|table| table.name.as_str());
        parse::no_such("No such table.", name, names)
    })
}

/// What follows the name: which entries.
fn filter(call: &Call<'_>, table: &Spec) -> Result<Filter, String> {
    if call.arg(1).is_empty() {
        return Ok(Filter::All);
    }
    if call.arg(1) == "key" {
        return key(table, call.arg(2)).map(Filter::Key);
    }
    let mut conditions = Vec::new();
    let mut at = 1;
    while !call.arg(at).is_empty() {
        if conditions.len() == CONDITIONS_MAX {
            return Err(format!("At most {CONDITIONS_MAX} conditions."));
        }
        let cell = cell(table, call.arg(at))?;
        let comparison = match call.arg(at + 1) {
            "eq" => Comparison::Eq,
            "ne" => Comparison::Ne,
            "le" => Comparison::Le,
            "ge" => Comparison::Ge,
            "lt" => Comparison::Lt,
            "gt" => Comparison::Gt,
            _ => {
                return Err(
                    "Require and operator among \"eq\", \"ne\", \"le\", \"ge\", \"lt\", \"gt\".".to_owned()
                );
            }
        };
        conditions.push((cell, comparison, value(call, table, (at + 2, cell))?));
        at += 3;
    }
    Ok(Filter::Values(conditions))
}

fn key(table: &Spec, text: &str) -> Result<Key, String> {
    if text.is_empty() {
        return Err("\"key\" needs a key.".to_owned());
    }
    table.kind.parse(text).ok_or_else(|| format!("\"{text}\" is no key of type {}.", table.kind.name()))
}

/// The column of `data.NAME`.
fn cell(table: &Spec, text: &str) -> Result<Cell, String> {
    let Some(name) = text.strip_prefix("data.") else {
        return Err("Expected \"data.<type>\" or \"key\".".to_owned());
    };
    let cell = Cell::parse(name).ok_or_else(|| format!("Unknown data type \"{name}\"."))?;
    match table.store.iter().any(|store| store.cell == cell) {
        true => Ok(cell),
        false => Err(format!("Data type \"{name}\" is not stored in this table.")),
    }
}

/// A number; of a server, as the admin socket numbers it, what stands for it.
fn value(call: &Call<'_>, table: &Spec, (at, cell): (usize, Cell)) -> Result<u64, String> {
    let number: u64 = parse::number(call.arg(at))
        .ok_or_else(|| "Require a valid integer value to compare against or to store.".to_owned())?;
    if cell.data != Data::ServerId || number == 0 {
        return Ok(number);
    }
    let model = call.target.model();
    let mut servers = table.backend.into_iter().flat_map(|id| model.backends[id].servers.iter());
    let found = servers.find(|id| u64::from(model.servers[*id].sid) == number);
    found
        .map(|id| model.servers[id].mark)
        .ok_or_else(|| format!("There is no server {number} in this backend."))
}

fn head(out: &mut String, table: &Spec, used: usize) {
    let _ = writeln!(
        out,
        "# table: {}, type: {}, size:{}, used:{used}",
        table.name,
        table.kind.name(),
        table.size
    );
}

fn line(out: &mut String, row: &Row, table: &Spec, servers: &[(u64, u32, String)]) {
    let _ = write!(
        out,
        "{:#x}: key={} use={} exp={}",
        row.slot,
        table.kind.show(&row.key),
        row.uses,
        row.expires_ms.unwrap_or(0)
    );
    for (store, value) in table.store.iter().zip(&row.values) {
        let name = store.cell.name();
        let _ = match store.cell.data {
            Data::ServerId => match servers.iter().find(|(mark, ..)| mark == value) {
                Some((_, sid, name)) => write!(out, " server_id={sid} server_key={name}"),
                None => write!(out, " server_id=0"),
            },
            data if data.info().is_rate => write!(out, " {name}({})={value}", store.period_ms),
            _ => write!(out, " {name}={value}"),
        };
    }
    out.push('\n');
}

/// What marks in a table may stand for: its own servers first.
fn servers(model: &Model, table: &Spec) -> Vec<(u64, u32, String)> {
    let own = table.backend.into_iter().flat_map(|id| model.backends[id].servers.iter());
    let row = |id| {
        let server = &model.servers[id];
        (server.mark, server.sid, server.name.clone())
    };
    own.chain(model.servers.ids()).map(row).collect()
}

/// `show table`.
pub(super) fn show(call: &mut Call<'_>) -> Answer {
    if call.arg(0).is_empty() {
        return ask(Question::List, |told| {
            let mut out = String::new();
            told.tables.iter().for_each(|(table, used)| head(&mut out, table, *used));
            out
        });
    }
    let table = named(call)?;
    let filter = filter(call, table)?;
    let servers = servers(call.target.model(), table);
    let part = Part { table: table.name.clone(), filter, from: 0 };
    ask(Question::Show(part), move |told| {
        let Some((table, used)) = told.tables.first() else { return "No such table.".to_owned() };
        let mut out = String::new();
        head(&mut out, table, *used);
        told.rows.iter().for_each(|row| line(&mut out, row, table, &servers));
        out
    })
}

/// `clear table`.
pub(super) fn clear(call: &mut Call<'_>) -> Answer {
    let table = named(call)?;
    let filter = filter(call, table)?;
    let is_one = matches!(filter, Filter::Key(_));
    let part = Part { table: table.name.clone(), filter, from: 0 };
    ask(Question::Clear(part), move |told| match told.in_use {
        n if n > 0 && is_one => "Entry currently in use, cannot remove.".to_owned(),
        _ => String::new(),
    })
}

/// `set table`.
pub(super) fn set(call: &mut Call<'_>) -> Answer {
    let table = named(call)?;
    if call.arg(1) != "key" {
        return Err("Required arguments: <table> \"key\" <key> [data.<type> <value>]*".to_owned());
    }
    let key = key(table, call.arg(2))?;
    let mut values = Vec::new();
    let mut at = 3;
    while !call.arg(at).is_empty() {
        let cell = cell(table, call.arg(at))?;
        values.push((cell, value(call, table, (at + 1, cell))?));
        at += 2;
    }
    let question = Question::Set { table: table.name.clone(), key, values };
    ask(question, |told| match told.is_full {
        true => "Unable to allocate a new entry: the table is full.".to_owned(),
        false => String::new(),
    })
}

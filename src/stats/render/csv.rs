//! `show stat`: HAProxy's CSV. Header and lines end with a comma; empty means not set; our own columns follow `-`.

use std::fmt::Write as _;
use std::sync::LazyLock;

use crate::base::time::Now;
use crate::stats::render::{Filter, push_number, push_text};
use crate::stats::snapshot::{Entry, Facts, ServerFacts, Value, copied};
use crate::stats::sums::has_sum;
use crate::stats::table::{COMPATIBLE_COLUMNS, Object, Row, Stat, TABLE};

/// Appends the header line.
pub fn header(out: &mut String) {
    out.push_str("# ");
    for (column, row) in TABLE.iter().enumerate() {
        if column == COMPATIBLE_COLUMNS {
            out.push_str("-,");
        }
        out.push_str(row.csv);
        out.push(',');
    }
    out.push('\n');
}

/// Appends the line of an entry.
pub(super) fn line(entry: &Entry, now: Now, filter: &Filter, out: &mut String) {
    let is_past = entry.sums.is_past;
    for part in &PLANS[entry.facts.object() as usize * 2 + usize::from(entry.http)] {
        match part {
            Part::Same(text) => out.push_str(text),
            Part::Group(group, text, _) if !group.is_there(entry) => out.push_str(text),
            Part::Group(_, _, rows) => rows.iter().for_each(|row| push_column(entry, row, now, out)),
            Part::Counts(run) if is_past => run.rows.iter().for_each(|row| push_column(entry, row, now, out)),
            Part::Counts(run) => run.push(entry.sums.rows(), out),
            Part::Column(row) if filter.hides(row.stat) => out.push(','),
            Part::Column(row) if is_past => push_column(entry, row, now, out),
            Part::Column(row) => {
                push_value(out, &entry.fact(row.stat, now));
                out.push(',');
            }
        }
    }
    out.push('\n');
}

/// Columns side by side whose values are sums that stand side by side too.
struct Counts {
    rows: &'static [Row],
    /// Where the first value stands.
    from: usize,
    /// What is written if all of them are zero, as most are of most servers.
    zeros: String,
}

impl Counts {
    fn push(&self, sums: &[u64], out: &mut String) {
        let values = &sums[self.from..self.from + self.rows.len()];
        if values.iter().fold(0, |all, value| all | value) == 0 {
            return out.push_str(&self.zeros);
        }
        for value in values {
            push_number(out, *value);
            out.push(',');
        }
    }
}

/// Where the value of a column stands that an object of this kind has, if it is a sum.
fn source(object: Object, stat: Stat) -> Option<usize> {
    let stat = copied(stat).unwrap_or(stat);
    has_sum(object, stat).then_some(stat as usize)
}

/// Columns that have a value together, or none of them has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Percentiles,
    Check,
    Agent,
}

impl Group {
    fn of(stat: Stat) -> Option<Group> {
        use Stat as S;
        match stat {
            stat if stat.percentile().is_some() => Some(Group::Percentiles),
            S::CheckStatus | S::CheckCode | S::CheckDuration | S::CheckDescription => Some(Group::Check),
            S::CheckRise | S::CheckFall | S::CheckHealth | S::LastCheck => Some(Group::Check),
            S::AgentStatus | S::AgentCode | S::AgentDuration | S::AgentDescription => Some(Group::Agent),
            S::AgentRise | S::AgentFall | S::AgentHealth | S::LastAgent => Some(Group::Agent),
            _ => None,
        }
    }

    /// False: none of the columns has a value.
    fn is_there(self, entry: &Entry) -> bool {
        let has = |of: fn(&ServerFacts) -> bool| matches!(&entry.facts, Facts::Server(facts) if of(facts));
        match self {
            Group::Percentiles => entry.latency.is_some() || entry.sums.is_past,
            Group::Check => has(|facts| facts.check.is_some()),
            Group::Agent => has(|facts| facts.agent.is_some()),
        }
    }
}

fn push_column(entry: &Entry, row: &Row, now: Now, out: &mut String) {
    push_value(out, &entry.value(row.stat, now));
    out.push(',');
}

/// What a line is made of. Most columns of an object are empty or zero: they are written together.
enum Part {
    /// Columns that it does not have, and those that are alike for all of its kind.
    Same(String),
    /// What is written where they have no value, and the columns.
    Group(Group, String, &'static [Row]),
    Counts(Counts),
    Column(&'static Row),
}

/// Of each kind of object in TCP and in HTTP mode.
static PLANS: LazyLock<Vec<Vec<Part>>> = LazyLock::new(|| {
    Object::ALL.into_iter().flat_map(|object| [plan(object, false), plan(object, true)]).collect()
});

/// Whether such an object has the column.
fn has(row: &Row, object: Object, http: bool) -> bool {
    row.objects.contains(object) && (http || !row.objects.http_only())
}

/// What all of a kind have in a column; `None`: it depends.
fn same(row: &Row, object: Object, http: bool) -> Option<String> {
    if !has(row, object, http) {
        return Some(String::new());
    }
    match row.stat {
        Stat::ProcessNumber => Some("1".to_owned()),
        Stat::Type => Some((object as u8).to_string()),
        Stat::Mode => Some(if http { "http" } else { "tcp" }.to_owned()),
        _ => None,
    }
}

fn plan(object: Object, http: bool) -> Vec<Part> {
    let (mut parts, mut text) = (Vec::new(), String::new());
    let mut column = 0;
    while column < TABLE.len() {
        let row = &TABLE[column];
        if column == COMPATIBLE_COLUMNS {
            text.push_str("-,");
        }
        if let Some(value) = same(row, object, http) {
            text.push_str(&value);
            text.push(',');
            column += 1;
            continue;
        }
        if !text.is_empty() {
            parts.push(Part::Same(std::mem::take(&mut text)));
        }
        // Ours are behind a column of their own.
        let end = if column < COMPATIBLE_COLUMNS { COMPATIBLE_COLUMNS } else { TABLE.len() };
        let rest = &TABLE[column..end];
        let from = source(object, row.stat);
        let len = if let Some(from) = from {
            let is_next = |(at, row): (usize, &Row)| {
                has(row, object, http) && source(object, row.stat) == Some(from + at)
            };
            let len = rest.iter().enumerate().take_while(|(at, row)| is_next((*at, row))).count();
            parts.push(Part::Counts(Counts { rows: &rest[..len], from, zeros: "0,".repeat(len) }));
            len
        } else if let Some(group) = Group::of(row.stat) {
            let is_in = |row: &&Row| has(row, object, http) && Group::of(row.stat) == Some(group);
            let len = rest.iter().take_while(is_in).count();
            parts.push(Part::Group(group, ",".repeat(len), &rest[..len]));
            len
        } else {
            parts.push(Part::Column(row));
            1
        };
        column += len;
    }
    if !text.is_empty() {
        parts.push(Part::Same(text));
    }
    parts
}

/// A value as the CSV and typed forms write it.
pub(super) fn push_value(out: &mut String, value: &Value<'_>) {
    match value {
        Value::Empty => {}
        Value::Number(n) => push_number(out, *n),
        // Writing to a String cannot fail.
        Value::Signed(n) => drop(write!(out, "{n}")),
        Value::Text(text) => push_text(out, text),
    }
}

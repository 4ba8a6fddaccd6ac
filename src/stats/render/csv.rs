//! `show stat`: HAProxy's CSV. Header and lines end with a comma; empty means not set; our own columns follow `-`.

use std::fmt::Write as _;
use std::sync::LazyLock;

use crate::base::time::Now;
use crate::stats::render::{Filter, push_number, push_text};
use crate::stats::snapshot::{Entry, Value, copied};
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
    let plan = &PLANS[entry.facts.object() as usize * 2 + usize::from(entry.http)];
    for part in plan {
        match part {
            Part::Empty(text) => out.push_str(text),
            Part::Percentiles(text, _) if entry.latency.is_none() && !entry.sums.is_past => {
                out.push_str(text)
            }
            Part::Percentiles(_, rows) => rows.iter().for_each(|row| push_column(entry, row, now, out)),
            Part::Counts(run) if entry.sums.is_past => {
                run.rows.iter().for_each(|row| push_column(entry, row, now, out))
            }
            Part::Counts(run) => run.push(entry.sums.rows(), out),
            Part::Column(row) if filter.hides(row.stat) => out.push(','),
            Part::Column(row) if entry.sums.is_past => push_column(entry, row, now, out),
            Part::Column(row) => {
                push_value(out, &entry.fact(row.stat, now));
                out.push(',');
            }
        }
    }
    out.push('\n');
}

/// Columns side by side whose values are sums.
struct Counts {
    rows: &'static [Row],
    /// Where the values stand.
    sources: Vec<Stat>,
    /// What is written if all of them are zero, as most are of most servers.
    zeros: String,
}

impl Counts {
    fn push(&self, sums: &[u64], out: &mut String) {
        let values = || self.sources.iter().map(|stat| sums[*stat as usize]);
        if values().fold(0, |all, value| all | value) == 0 {
            return out.push_str(&self.zeros);
        }
        for value in values() {
            push_number(out, value);
            out.push(',');
        }
    }
}

/// Where the value of a column stands that an object of this kind has, if it is a sum.
fn source(object: Object, stat: Stat) -> Option<Stat> {
    let stat = copied(stat).unwrap_or(stat);
    has_sum(object, stat).then_some(stat)
}

fn push_column(entry: &Entry, row: &Row, now: Now, out: &mut String) {
    push_value(out, &entry.value(row.stat, now));
    out.push(',');
}

/// What a line is made of. Most columns of an object are empty: they are written together.
enum Part {
    /// Columns that it does not have.
    Empty(String),
    /// Those of percentiles, and what is written where there are none.
    Percentiles(String, &'static [Row]),
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

fn plan(object: Object, http: bool) -> Vec<Part> {
    let (mut parts, mut empty) = (Vec::new(), String::new());
    let mut column = 0;
    while column < TABLE.len() {
        let row = &TABLE[column];
        if column == COMPATIBLE_COLUMNS {
            empty.push_str("-,");
        }
        if !has(row, object, http) {
            empty.push(',');
            column += 1;
            continue;
        }
        if !empty.is_empty() {
            parts.push(Part::Empty(std::mem::take(&mut empty)));
        }
        // Ours are behind a column of their own.
        let end = if column < COMPATIBLE_COLUMNS { COMPATIBLE_COLUMNS } else { TABLE.len() };
        let sources: Vec<Stat> = TABLE[column..end]
            .iter()
            .map_while(|row| has(row, object, http).then(|| source(object, row.stat)).flatten())
            .collect();
        if !sources.is_empty() {
            let (rows, zeros) = (&TABLE[column..column + sources.len()], "0,".repeat(sources.len()));
            column += sources.len();
            parts.push(Part::Counts(Counts { rows, sources, zeros }));
            continue;
        }
        let percentiles = TABLE[column..].iter().take_while(|row| row.stat.percentile().is_some()).count();
        if percentiles > 0 {
            parts.push(Part::Percentiles(",".repeat(percentiles), &TABLE[column..column + percentiles]));
            column += percentiles;
        } else {
            parts.push(Part::Column(row));
            column += 1;
        }
    }
    if !empty.is_empty() {
        parts.push(Part::Empty(empty));
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

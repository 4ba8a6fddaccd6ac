//! `show stat`: HAProxy's CSV. Header and lines end with a comma; empty means not set; our own columns follow `-`.

use std::fmt::Write as _;
use std::sync::LazyLock;

use crate::base::time::Now;
use crate::stats::render::{Filter, push_text};
use crate::stats::snapshot::{Entry, Snapshot, Value};
use crate::stats::table::{COMPATIBLE_COLUMNS, Object, Row, TABLE};

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

/// Appends header and lines.
pub fn stat(snapshot: &Snapshot, filter: &Filter, out: &mut String) {
    header(out);
    for entry in &snapshot.entries {
        line(entry, snapshot.now, filter, out);
    }
}

/// Appends the line of an entry, if the filter shows it.
pub fn line(entry: &Entry, now: Now, filter: &Filter, out: &mut String) {
    if !filter.shows(entry) {
        return;
    }
    let plan = &PLANS[entry.facts.object() as usize * 2 + usize::from(entry.http)];
    for part in plan {
        match part {
            Part::Empty(text) => out.push_str(text),
            Part::Percentiles(text, _) if entry.latency.is_none() && !entry.sums.is_past => {
                out.push_str(text)
            }
            Part::Percentiles(_, rows) => rows.iter().for_each(|row| push_column(entry, row, now, out)),
            Part::Column(row) if filter.hides(row.stat) => out.push(','),
            Part::Column(row) => push_column(entry, row, now, out),
        }
    }
    out.push('\n');
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
    Column(&'static Row),
}

/// Of each kind of object in TCP and in HTTP mode.
static PLANS: LazyLock<Vec<Vec<Part>>> = LazyLock::new(|| {
    Object::ALL.into_iter().flat_map(|object| [plan(object, false), plan(object, true)]).collect()
});

fn plan(object: Object, http: bool) -> Vec<Part> {
    let (mut parts, mut empty) = (Vec::new(), String::new());
    let mut column = 0;
    while column < TABLE.len() {
        let row = &TABLE[column];
        if column == COMPATIBLE_COLUMNS {
            empty.push_str("-,");
        }
        if !row.objects.contains(object) || (row.objects.http_only() && !http) {
            empty.push(',');
            column += 1;
            continue;
        }
        if !empty.is_empty() {
            parts.push(Part::Empty(std::mem::take(&mut empty)));
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

/// Decimal digits. Half of the time of a large `show stat` went into the general formatting of numbers.
fn push_number(out: &mut String, mut n: u64) {
    // Most counters of most servers are zero.
    if n < 10 {
        return out.push(char::from(b'0' + u8::try_from(n).unwrap_or(0)));
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(n % 10).unwrap_or(0);
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or("0"));
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

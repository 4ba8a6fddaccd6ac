//! `show stat`: HAProxy's CSV. Header and lines end with a comma; empty means not set; our own columns follow `-`.

use std::fmt::Write as _;

use crate::stats::render::{Filter, push_text};
use crate::stats::snapshot::{Snapshot, Value};
use crate::stats::table::{COMPATIBLE_COLUMNS, TABLE};

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
    for entry in filter.entries(snapshot) {
        for (column, (_, value)) in filter.values(entry, snapshot).enumerate() {
            if column == COMPATIBLE_COLUMNS {
                out.push_str("-,");
            }
            push_value(out, &value);
            out.push(',');
        }
        out.push('\n');
    }
}

/// Decimal digits. Half of the time of a large `show stat` went into the general formatting of numbers.
fn push_number(out: &mut String, mut n: u64) {
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

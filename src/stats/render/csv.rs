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

/// A value as the CSV and typed forms write it.
pub(super) fn push_value(out: &mut String, value: &Value<'_>) {
    match value {
        Value::Empty => {}
        // Writing to a String cannot fail.
        Value::Number(n) => drop(write!(out, "{n}")),
        Value::Signed(n) => drop(write!(out, "{n}")),
        Value::Text(text) => push_text(out, text),
    }
}

//! `show stat typed` and `show info typed`: one value per line with position, tags and type, as HAProxy writes them.

use std::fmt::Write as _;

use crate::base::time::Now;
use crate::stats::render::Filter;
use crate::stats::render::csv::push_value;
use crate::stats::render::info::{INFO, info_value};
use crate::stats::snapshot::{Entry, Snapshot, Value};
use crate::stats::table::{Nature, Object, Unit};

/// Appends an entry of `show stat typed`: lines such as `S.3.1.5.smax.1:MMP:u32:7`.
pub(super) fn line(entry: &Entry, now: Now, filter: &Filter, out: &mut String) {
    let letter = match entry.facts.object() {
        Object::Frontend => 'F',
        Object::Backend => 'B',
        Object::Server => 'S',
        Object::Listener => 'L',
    };
    for (row, value) in filter.values(entry, now) {
        if value != Value::Empty {
            // Writing to a String cannot fail.
            let _ = write!(out, "{letter}.{}.{}.{}.{}", entry.iid, entry.sid, row.stat as u8, row.csv);
            push_tagged(out, row.nature, row.unit, &value);
            if filter.desc {
                let _ = write!(out, ":\"{}\"", row.help);
            }
            out.push('\n');
        }
    }
}

/// Appends `show info typed`: `17.CurrConns.1:MGP:u32:0`.
pub fn info(snapshot: &Snapshot, desc: bool, out: &mut String) {
    for (position, row) in INFO.iter().enumerate() {
        let value = info_value(row, snapshot);
        if value != Value::Empty {
            let _ = write!(out, "{position}.{}", row.name);
            push_tagged(out, row.nature, row.unit, &value);
            if desc {
                let _ = write!(out, ":\"{}\"", row.help);
            }
            out.push('\n');
        }
    }
}

/// The part behind the name. The `1` is the process number.
fn push_tagged(out: &mut String, nature: Nature, unit: Unit, value: &Value<'_>) {
    let _ = write!(out, ".1:{}:{}:", nature.tags().code, unit.type_name());
    push_value(out, value);
}

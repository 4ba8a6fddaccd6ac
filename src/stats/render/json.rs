//! `show stat json` and `show info json`: HAProxy's shape, one object per value. `show schema json` describes it.

use serde::Serialize;

use crate::base::time::Now;
use crate::stats::render::Filter;
use crate::stats::render::info::{INFO, info_value};
use crate::stats::snapshot::{Entry, Snapshot, Value};
use crate::stats::table::{Nature, Object, Unit};

/// Numbers above it are not exact in JavaScript; HAProxy's schema stops there.
const JSON_INT_MAX: u64 = (1 << 53) - 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    #[serde(flatten)]
    subject: Option<Subject>,
    field: Field,
    process_num: u32,
    tags: Tags,
    value: Typed<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Subject {
    obj_type: &'static str,
    proxy_id: u32,
    id: u32,
}

#[derive(Serialize)]
struct Field {
    pos: usize,
    name: &'static str,
}

#[derive(Serialize)]
struct Tags {
    origin: &'static str,
    nature: &'static str,
    scope: &'static str,
}

#[derive(Serialize)]
struct Typed<'a> {
    r#type: &'static str,
    value: Json<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Json<'a> {
    Number(u64),
    Signed(i64),
    Text(&'a str),
}

/// Appends a line of `show stat json`: an array of values, in an array of lines.
pub(super) fn line(entry: &Entry, now: Now, filter: &Filter, out: &mut String) {
    out.push_str(if out.ends_with(']') { ",[" } else { "[" });
    let obj_type = match entry.facts.object() {
        Object::Frontend => "Frontend",
        Object::Backend => "Backend",
        Object::Server => "Server",
        Object::Listener => "Listener",
    };
    let mut first = true;
    for (row, value) in filter.values(entry, now) {
        let subject = Subject { obj_type, proxy_id: entry.iid, id: entry.sid };
        let field = Field { pos: row.stat as usize, name: row.csv };
        push_item(out, &mut first, Some(subject), field, (row.nature, row.unit), &value);
    }
    out.push(']');
}

/// Appends `show info json`: an array of values.
pub fn info(snapshot: &Snapshot, out: &mut String) {
    out.push('[');
    let mut first = true;
    for (pos, row) in INFO.iter().enumerate() {
        let value = info_value(row, snapshot);
        push_item(out, &mut first, None, Field { pos, name: row.name }, (row.nature, row.unit), &value);
    }
    out.push_str("]\n");
}

/// Appends one value, and nothing when it is not set.
fn push_item(
    out: &mut String,
    first: &mut bool,
    subject: Option<Subject>,
    field: Field,
    (nature, unit): (Nature, Unit),
    value: &Value<'_>,
) {
    let json = match value {
        Value::Empty => return,
        Value::Number(n) => Json::Number(*n.min(&JSON_INT_MAX)),
        Value::Signed(n) => Json::Signed(*n),
        Value::Text(text) => Json::Text(text),
    };
    let tags = nature.tags();
    let item = Item {
        subject,
        field,
        process_num: 1,
        tags: Tags { origin: tags.origin, nature: tags.nature, scope: tags.scope },
        value: Typed { r#type: unit.type_name(), value: json },
    };
    if !std::mem::take(first) {
        out.push(',');
    }
    let text = serde_json::to_string(&item).expect("strings and numbers always serialize");
    out.push_str(&text);
}

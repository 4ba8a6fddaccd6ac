//! The rules on the page of an administrator: how often each applied, and how long ago for the last time. The text of a rule may
//! hold what users should not know, hence administrators alone see them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::control::cli::AdminTarget;
use crate::control::target::Target;
use crate::control::web::Web;
use crate::control::web::page::escaped;
use crate::control::web::rows::{grouped, seconds};
use crate::stats::snapshot::Value;

/// Appends the table of rules of the proxies in `scope` (empty: all), closed until it is wanted.
pub(super) fn section(web: &Web, scope: &[String], out: &mut String) {
    let control = web.base.current();
    let hits = Target::new(control.clone()).rule_hits();
    let rules = control.model.rules();
    let shown: Vec<_> = rules
        .iter()
        .filter(|rule| scope.is_empty() || scope.iter().any(|name| name == rule.section))
        .collect();
    if shown.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "<details class=\"rules\"><summary>Rules <small>{}</small></summary><div class=\"scroll\"><table><thead><tr>\
         <th>Applied</th><th>Last</th><th class=\"name\">Where</th><th class=\"name\">Rule</th></tr></thead><tbody>",
        shown.len()
    );
    for rule in shown {
        let (count, since) = hits.get(rule.id as usize).copied().unwrap_or_default();
        let ago = if count > 0 { since.as_secs().to_string() } else { String::new() };
        let last = if count > 0 { seconds(since.as_secs()) } else { "never".to_owned() };
        let _ = write!(
            out,
            "<tr id=\"u{}\" class=\"{}\"><td>{}</td><td data-ago=\"{ago}\">{last}</td><td class=\"name\" title=\"{}\">{} {}, \
             {}</td><td class=\"name\"><code>{}</code></td></tr>",
            rule.id,
            if count > 0 { "hit" } else { "never" },
            grouped(&Value::Number(count)),
            escaped(rule.origin),
            rule.kind,
            escaped(rule.section),
            rule.list,
            escaped(rule.text)
        );
    }
    out.push_str("</tbody></table></div></details>");
}

/// How often the rules applied that did so since the last time, by their numbers; all of them the first time.
pub(super) fn changes(web: &Web, known: &mut Vec<u64>) -> BTreeMap<usize, String> {
    let hits = Target::new(web.base.current()).rule_hits();
    known.resize(hits.len(), u64::MAX);
    let mut changed = BTreeMap::new();
    for (id, ((count, _), known)) in hits.into_iter().zip(known).enumerate() {
        if *known != count && (count > 0 || *known != u64::MAX) {
            changed.insert(id, grouped(&Value::Number(count)));
        }
        *known = count;
    }
    changed
}

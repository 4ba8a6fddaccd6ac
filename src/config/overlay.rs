//! `[node.NAME]`: values of one machine laid over those of all, so that a pair runs from one file. The name is that of the host,
//! or what `--node` says. Pure: a tree in, a tree out; what the values mean is `resolve`.
//!
//! ```toml
//! [frontend.web]
//! bind = ":80"
//! [node.lb2.frontend.web]
//! maxconn = 500
//! ```

use crate::config::diag::{Diagnostic, Severity};
use crate::config::file::{Data, Entry, File, Table};

/// The section.
pub const SECTION: &str = "node";

/// Lays the values of a node over the others and forgets all nodes; what there is to say about it. Tables are joined key by
/// key; any other value takes the place of the one that stood there, lists as a whole.
pub fn apply(file: &mut File, node: &str) -> Vec<Diagnostic> {
    let Some(at) = file.root.entries.iter().position(|entry| entry.key == SECTION) else { return Vec::new() };
    let nodes = file.root.entries.remove(at);
    let mut said = Vec::new();
    let tell = |severity, at: usize, message: String, help: &str| {
        file.source.diagnostic(severity, at, message, Some(help.to_owned()))
    };
    let Data::Table(table) = nodes.value.data else {
        let message = format!("{SECTION} is a section, not {}", nodes.value.data.type_name());
        return vec![tell(
            Severity::Error,
            nodes.key_span.start,
            message,
            "name the machine: [node.NAME.global]",
        )];
    };
    let names: Vec<String> = table.entries.iter().map(|entry| entry.key.clone()).collect();
    let mut chosen = None;
    for entry in table.entries {
        let Data::Table(values) = entry.value.data else {
            let message =
                format!("{SECTION} \"{}\" is a section, not {}", entry.key, entry.value.data.type_name());
            said.push(tell(
                Severity::Error,
                entry.key_span.start,
                message,
                "name the section too: [node.NAME.global]",
            ));
            continue;
        };
        if let Some(inner) = values.entry(SECTION) {
            let message = format!("{SECTION} \"{}\" has a node of its own", entry.key);
            said.push(tell(Severity::Error, inner.key_span.start, message, "write [node.NAME.SECTION]"));
        } else if entry.key == node {
            chosen = Some(values);
        }
    }
    let mut clashes = Vec::new();
    match chosen {
        Some(values) => join(&mut file.root, values, &mut clashes),
        None => {
            let message = format!("no [{SECTION}.{node}] for this machine; there are {}", names.join(", "));
            let help = "nothing of them applies here; if that is wrong, say which one it is: --node NAME";
            said.push(file.source.diagnostic(
                Severity::Warning,
                nodes.key_span.start,
                message,
                Some(help.to_owned()),
            ));
        }
    }
    said.extend(clashes.into_iter().map(|(at, message)| {
        file.source.diagnostic(
            Severity::Error,
            at,
            message,
            Some("write it in the same form as without the node".to_owned()),
        )
    }));
    said
}

fn join(base: &mut Table, over: Table, clashes: &mut Vec<(usize, String)>) {
    for entry in over.entries {
        let Some(below) = base.entries.iter_mut().find(|below| below.key == entry.key) else {
            base.entries.push(entry);
            continue;
        };
        lay(below, entry, clashes);
    }
}

fn lay(below: &mut Entry, over: Entry, clashes: &mut Vec<(usize, String)>) {
    match (&mut below.value.data, over.value.data) {
        (Data::Table(base), Data::Table(values)) => join(base, values, clashes),
        (Data::Table(_), data) => {
            let message = format!("\"{}\" is a table for all nodes, and {} here", over.key, data.type_name());
            clashes.push((over.key_span.start, message));
        }
        (_, data) => {
            below.key_span = over.key_span;
            below.value.span = over.value.span;
            below.value.data = data;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diff;
    use crate::config::file::parse;

    fn file(text: &str) -> File {
        parse("t.toml", text).0.expect("it is TOML")
    }

    fn applied(text: &str, node: &str) -> (File, Vec<String>) {
        let mut file = file(text);
        let said = apply(&mut file, node).iter().map(ToString::to_string).collect();
        (file, said)
    }

    const PAIR: &str = "[frontend.web]\nbind = [\":80\", \":81\"]\nmaxconn = 100\ntimeout.client = \"5s\"\n[backend.app.server.a]\naddress = \
                        \"192.0.2.1:80\"\n[node.lb1]\n[node.lb2.frontend.web]\nbind = \":90\"\ntimeout = { http-request = \"1s\" }\n[node.lb2.backend.app.server.b]\naddress \
                        = \"192.0.2.2:80\"\n";

    #[test]
    fn values_of_the_node_take_the_place_of_those_of_all() {
        let (first, said) = applied(PAIR, "lb1");
        assert_eq!(said, Vec::<String>::new());
        let plain = file(PAIR.split("[node").next().expect("it begins so"));
        assert_eq!(diff::changes(&plain, &first), vec![]);
        let (second, said) = applied(PAIR, "lb2");
        assert_eq!(said, Vec::<String>::new());
        let changes: Vec<String> = diff::changes(&plain, &second).iter().map(ToString::to_string).collect();
        assert_eq!(
            changes,
            [
                "~ frontend.web  bind: [\":80\", \":81\"] -> \":90\"",
                "~ frontend.web  timeout.http-request: (not set) -> \"1s\"",
                "+ backend.app.server.b",
            ]
        );
    }

    #[test]
    fn a_node_that_is_not_there_is_a_warning_and_a_wrong_form_an_error() {
        let (_, said) = applied(PAIR, "lb3");
        assert!(
            said.len() == 1 && said[0].contains("warning: no [node.lb3]") && said[0].contains("lb1, lb2"),
            "{said:?}"
        );
        for (text, expected) in [
            ("node = 1\n", "1:1: error: node is a section, not an integer"),
            ("node.lb1 = 1\n", "error: node \"lb1\" is a section"),
            ("[node.lb1.node.lb2]\n", "has a node of its own"),
            (
                "timeout.client = 1\n[node.lb1]\ntimeout = 5\n",
                "3:1: error: \"timeout\" is a table for all nodes, and an integer here",
            ),
        ] {
            let (_, said) = applied(text, "lb1");
            assert!(said.iter().any(|line| line.contains(expected)), "{text}: {said:?}");
        }
    }
}

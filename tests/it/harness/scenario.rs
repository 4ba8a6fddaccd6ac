//! The configurations of docs/scenarios, as the pages show them: only addresses, ports and paths of files are put in.

use super::Shardgate;
use super::gate::Start;

/// The configuration of a page. Each replacement must be needed, so that page and test stay together.
pub(crate) fn scenario(name: &str, replacements: &[(&str, &str)]) -> Start {
    let path = format!("{}/docs/scenarios/{name}.md", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let block = page.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```"));
    let mut text = block.unwrap_or_else(|| panic!("{path} has no block of TOML")).0.to_owned();
    assert!(page.contains("Try it"), "{path} says how to try it");
    for (from, to) in replacements {
        assert!(text.contains(from), "{path}: nothing to replace for {from}");
        text = text.replace(from, to);
    }
    // The harness has a section of defaults of its own, which takes the lines of the page's.
    let (before, after) =
        text.split_once("[defaults]\n").unwrap_or_else(|| panic!("{path} has no [defaults]"));
    let (defaults, body) = after.split_at(after.find("\n[").expect("sections follow the defaults"));
    let global = before.split_once("[global]\n").map_or("", |(_, lines)| lines);
    Shardgate::with(body).global(global).defaults(defaults)
}

//! The pages about machines (docs/appliance.md and those that it leads to) name commands, flags, units and scripts that exist.

use std::path::Path;
use std::process::Command;

use crate::harness::gate::binary;

const PAGES: &[&str] =
    &["appliance.md", "image.md", "tuning.md", "scale-out.md", "PAIR.md", "TRANSPARENT.md", "CHANGING.md"];
/// Subcommands with subcommands of their own.
const NESTED: &[&str] = &["vip", "gateways", "transparent"];

/// What stands in `backticks` and in indented lines, one command each.
fn commands(page: &str) -> Vec<String> {
    let mut snippets: Vec<String> = Vec::new();
    let mut prose = String::new();
    for line in page.lines() {
        match line.strip_prefix("    ") {
            Some(code) if !code.trim_start().starts_with(['-', '*']) => snippets.push(code.to_owned()),
            _ => prose += &format!("{line} "),
        }
    }
    snippets.extend(prose.split('`').skip(1).step_by(2).map(str::to_owned));
    let cut = |snippet: &String| {
        let parts = snippet.split(['|', ';', '>', '(', ')']).flat_map(|part| part.split("&&"));
        let clean = |part: &str| part.trim().trim_start_matches(['$', '#']).trim().to_owned();
        parts.map(clean).collect::<Vec<_>>()
    };
    snippets.iter().flat_map(cut).collect()
}

fn help(words: &[&str]) -> Option<String> {
    let output = Command::new(binary()).args(words).arg("--help").output().expect("the binary runs");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What is wrong with a command, if anything.
fn wrong(command: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words: Vec<&str> = command.split_whitespace().collect();
    match words[..] {
        ["shardgate", first, ..] if first.starts_with(|c: char| c.is_ascii_lowercase()) => {
            let depth = if NESTED.contains(&first) && words.len() > 2 { 3 } else { 2 };
            let Some(help) = help(&words[1..depth]) else { return Some("no such subcommand".to_owned()) };
            let flags = words[depth..].iter().take_while(|word| !word.starts_with(['\'', '"']));
            let mut unknown = flags.filter(|word| word.starts_with('-') && **word != "--");
            let is_there = |flag: &str| {
                help.split([' ', ',', '\n', '=', '['])
                    .any(|word| word == flag.split('=').next().unwrap_or(flag))
            };
            unknown.find(|flag| !is_there(flag)).map(|flag| format!("{flag} is not in its help"))
        }
        ["systemctl", ..] => {
            let ours = words[1..].iter().filter(|word| word.starts_with("shardgate"));
            let missing = |unit: &&&str| {
                let file = if unit.contains('.') { (**unit).to_owned() } else { format!("{unit}.service") };
                let of_image = format!("appliance/image/root/etc/systemd/system/{file}");
                !root.join("appliance/systemd").join(&file).exists() && !root.join(of_image).exists()
            };
            ours.clone().find(missing).map(|unit| format!("there is no unit {unit}"))
        }
        [script, ..] if script.starts_with("appliance/") || script.starts_with("bench/") => {
            let path = script.trim_end_matches(['.', ',']);
            (!root.join(path).exists()).then(|| "there is no such file".to_owned())
        }
        _ => None,
    }
}

#[test]
fn commands_of_the_pages_about_machines_exist() {
    let mut seen = 0;
    let mut problems = Vec::new();
    for page in PAGES {
        let path = format!("{}/docs/{page}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        for command in commands(&text) {
            seen += usize::from(command.starts_with("shardgate ") || command.starts_with("systemctl "));
            problems.extend(wrong(&command).map(|why| format!("{page}: `{command}`: {why}")));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(seen > 30, "the pages are read: {seen}");
    let bad =
        ["shardgate serve", "shardgate check --frob", "systemctl enable shardgate-frob", "appliance/frob"];
    assert!(bad.iter().all(|command| wrong(command).is_some()), "what is wrong is seen");
}

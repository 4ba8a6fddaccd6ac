//! Keeps the layer rule of docs/ARCHITECTURE.md: a module uses only lower layers, and only `rt` touches the kernel.

use std::fs;
use std::path::{Path, PathBuf};

/// Module -> what it may use of this crate.
const MAY_USE: &[(&str, &[&str])] = &[
    ("base", &["base"]),
    ("proto", &["base", "proto"]),
    ("policy", &["base", "policy", "proto"]),
    ("stats", &["base", "stats"]),
    ("model", &["base", "proto", "policy", "stats", "model"]),
    ("live", &["base", "proto", "policy", "stats", "model", "live"]),
    ("config", &["base", "proto", "policy", "stats", "model", "config"]),
    ("import", &["base", "proto", "policy", "stats", "model", "config", "import"]),
    ("rt", &["base", "rt"]),
    ("tls", &["base", "proto", "model", "rt", "tls"]),
    ("proxy", &["base", "proto", "policy", "stats", "model", "live", "config", "rt", "tls", "proxy"]),
    (
        "control",
        &[
            "base", "proto", "policy", "stats", "model", "live", "config", "import", "rt", "tls", "proxy",
            "control",
        ],
    ),
];

/// What may stand only under `src/rt`.
const ONLY_RT: &[&str] =
    &["unsafe {", "unsafe fn", "unsafe impl", "libc::", "glommio::", "io_uring::", "Instant::now"];

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("source directory is readable") {
        let path = entry.expect("entry is readable").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The code of a file without its comments.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, line)| (i + 1, line.split("//").next().unwrap_or("")))
}

fn all_sources() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 5, "the scan finds the sources");
    files
        .into_iter()
        .map(|path| {
            let relative = path.strip_prefix(&root).expect("below src").to_owned();
            let module = relative.components().next().expect("a name").as_os_str().to_string_lossy();
            (module.trim_end_matches(".rs").to_owned(), path)
        })
        .collect()
}

#[test]
fn modules_use_only_lower_layers() {
    let mut wrong = Vec::new();
    for (module, path) in all_sources() {
        if module == "lib" || module == "bin" {
            continue;
        }
        let allowed = MAY_USE
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("module {module} has no row in MAY_USE"))
            .1;
        let text = fs::read_to_string(&path).expect("source is readable");
        for (number, line) in code_lines(&text) {
            for (at, _) in line.match_indices("crate::") {
                let used: String =
                    line[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !used.is_empty() && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{}:{number}: {module} may not use {used}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_rt_touches_the_kernel() {
    let mut wrong = Vec::new();
    for (module, path) in all_sources() {
        if module == "rt" {
            continue;
        }
        let text = fs::read_to_string(&path).expect("source is readable");
        for (number, line) in code_lines(&text) {
            for word in ONLY_RT {
                if line.contains(word) {
                    wrong.push(format!("{}:{number}: `{word}` stands outside src/rt", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

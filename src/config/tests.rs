//! The whole way from text to model, on whole configurations.

use std::path::{Path, PathBuf};

use super::keywords::{self, Scope};
use super::*;
use crate::base::id::{BackendId, FrontendId, ServerId};
use crate::model::*;
use crate::policy::balance::{Algorithm, HashFunction, HashMethod, HashType};

mod good;
mod http;
mod kept;
mod noise;

/// A machine with CPUs 0 to 3, no files but `/etc/ips`, and the variables of the list.
fn env() -> Env {
    Env {
        base: Default::default(),
        variable: Box::new(|name| match name {
            "PORT" => Some("8080".into()),
            "BACKEND" => Some("app".into()),
            _ => None,
        }),
        read: Box::new(|path| match path.to_str() {
            Some("/etc/503.http") => Ok(b"HTTP/1.0 503 Service Unavailable\r\n\r\n".to_vec()),
            Some("/etc/page.html") => Ok(b"<p>".to_vec()),
            Some("/etc/ips") => Ok(b"192.0.2.0/24\n".to_vec()),
            _ => Err("No such file or directory".into()),
        }),
        cpus: vec![0, 1, 2, 3],
        hostname: "host1".into(),
    }
}

fn shown(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| format!("{d}\n")).collect()
}

/// Loads a configuration that must not give a single message.
fn clean(text: &str) -> Model {
    let (model, diagnostics) = load("t.toml", text, &env());
    assert!(diagnostics.is_empty(), "{text}\n{}", shown(&diagnostics));
    model.expect("no diagnostics")
}

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config")
}

/// Compares with a golden file, or writes it if `UPDATE_GOLDEN` is set.
fn golden(path: &Path, actual: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, actual).expect("the golden file is writable");
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} differs (UPDATE_GOLDEN=1 cargo test refreshes it); now:\n{actual}",
        path.display()
    );
}

#[test]
fn messages_are_those_of_the_golden_files() {
    let mut seen = 0;
    let mut files: Vec<PathBuf> = std::fs::read_dir(golden_dir())
        .expect("the golden files are there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("readable");
        let name = path.file_name().expect("a file").to_string_lossy();
        let (model, diagnostics) = load(&name, &text, &env());
        let wrong = diagnostics.iter().any(Diagnostic::is_error);
        assert_eq!(model.is_none(), wrong, "{name}: a model exactly if there is no error");
        golden(&path.with_extension("expected"), &shown(&diagnostics));
        seen += 1;
    }
    assert!(seen >= 8, "only {seen} golden configurations");
}

#[test]
fn the_documentation_is_that_of_the_table() {
    golden(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION.md"), &keywords::markdown());
}

#[test]
fn every_example_loads_wherever_its_keyword_may_stand() {
    for keyword in keywords::all() {
        for scope in Scope::ALL.iter().filter(|scope| keyword.scopes.contains(**scope)) {
            let text = keywords::whole(*scope, keyword);
            let (model, diagnostics) = load("example.toml", &text, &env());
            let errors: Vec<_> = diagnostics.into_iter().filter(Diagnostic::is_error).collect();
            assert!(model.is_some(), "{} in {scope:?}:\n{text}\n{}", keyword.key, shown(&errors));
        }
    }
}

#[test]
fn the_example_of_the_documentation_loads_without_a_message() {
    let page = keywords::markdown();
    let example =
        page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let model = clean(example);
    assert_eq!(model.servers.len(), 2);
}

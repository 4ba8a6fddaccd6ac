//! Layer 2, haproxy.cfg -> TOML and a report. No IO: the texts of the files and the environment come in.
//!
//! `words` cuts lines, `condition` decides `.if`, `source` makes sections of directives; `coverage` knows every keyword of HAProxy
//! and its fate; `proxy`, `http`, `options`, `tls`, `crt_list`, `rules`, `checks`, `sections`, `global` and `legacy` translate what is
//! `Mapped`; `toml` writes it down. What comes
//! out is loaded by `config` as any other file, so that there is one meaning of everything; [`Imported::located`] leads its messages back to haproxy.cfg.

mod captures;
mod checks;
mod condition;
mod coverage;
pub mod crt_list;
mod crt_store;
mod docs;
pub mod fuzz;
mod global;
mod http;
mod legacy;
mod logs;
mod options;
mod proxy;
mod report;
mod rules;
mod sections;
mod source;
mod stick;
#[cfg(test)]
mod tests;
mod tls;
mod toml;
mod value;
mod words;

pub use docs::markdown;
pub use report::{Note, Report, State};

use std::path::PathBuf;

use crate::config::{Diagnostic, Env, Severity};
use source::Place;
use words::Variables;

/// What an import comes to.
#[derive(Debug)]
pub struct Imported {
    /// The configuration.
    pub toml: String,
    /// What became of each directive.
    pub report: Report,
    /// What it says about the process, for whoever takes HAProxy's place.
    pub process: ProcessSettings,
    origins: Vec<Place>,
}

/// What `global` says about how the process starts.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ProcessSettings {
    /// `daemon`: it goes into the background.
    pub daemon: bool,
    /// `pidfile`.
    pub pid_file: Option<PathBuf>,
}

/// Translates HAProxy's configuration files, names and texts, read in order as one.
pub fn import(files: &[(String, String)], env: &Env) -> Imported {
    let mut variables = Variables::new(&env.variable);
    let mut report = Report::new(files.iter().map(|(name, _)| name.clone()).collect());
    let sections = source::read(files, &mut variables, &mut report);
    let writer = proxy::translate(&sections, (&variables, &env.read), &mut report);
    report.finish();
    let process = global::process(&sections, &variables);
    Imported { toml: writer.text, report, process, origins: writer.origins }
}

/// Whether a condition of `-cc` holds.
///
/// # Errors
/// It is no condition; the text says why.
pub fn check_condition(text: &str, env: &Env) -> Result<bool, String> {
    condition::evaluate(text, &Variables::new(&env.variable))
}

/// What `haproxy -vv` lists as features, and `feature()` knows.
pub fn features() -> &'static [&'static str] {
    condition::FEATURES
}

impl Imported {
    /// What there is to say before anything runs: the notes that matter, and what `config` said of the TOML, both as places in haproxy.cfg.
    pub fn diagnostics(&self, of_toml: &[Diagnostic]) -> Vec<Diagnostic> {
        let notes = self.report.notes().filter_map(|note| {
            let severity = note.severity()?;
            let message = format!("{}: {}", note.directive, note.text);
            Some(diagnostic(severity, note.file.clone(), note.line, message, None))
        });
        let mut all: Vec<Diagnostic> = notes.collect();
        all.extend(self.located(of_toml));
        all
    }

    /// What `config` said of the TOML, as places in haproxy.cfg.
    pub fn located(&self, of_toml: &[Diagnostic]) -> Vec<Diagnostic> {
        of_toml.iter().map(|d| self.locate(d)).collect()
    }

    /// The place in haproxy.cfg, `file:line`, that a place of the TOML, `name:line:col`, came from.
    pub fn origin(&self, of_toml: &str) -> Option<String> {
        let line: usize = of_toml.rsplit(':').nth(1)?.parse().ok()?;
        let place = self.origins.get(line.checked_sub(1)?)?;
        Some(format!("{}:{}", self.report.files.get(place.file)?, place.line))
    }

    /// The same message at the line of haproxy.cfg that its line of TOML came from.
    fn locate(&self, d: &Diagnostic) -> Diagnostic {
        let place =
            d.line.checked_sub(1).and_then(|line| self.origins.get(line)).copied().unwrap_or_default();
        let file = self.report.files.get(place.file).cloned().unwrap_or_default();
        diagnostic(d.severity, file, place.line, d.message.clone(), d.help.clone())
    }
}

fn diagnostic(
    severity: Severity,
    file: String,
    line: usize,
    message: String,
    help: Option<String>,
) -> Diagnostic {
    Diagnostic { severity, file, offset: 0, line, column: 1, message, help }
}

//! What the operator is told about a configuration: position, message, help. Collecting them is the callers' job
//! (`resolve::Context`); this file knows how one looks and how to guess what was meant.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// The configuration cannot run.
    Error,
    /// It runs, but probably not as meant.
    Warning,
}

/// One message about a configuration, shown as `file:line:col: error: message` and, below it, `help: ...`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Name of the file as the operator gave it.
    pub file: String,
    /// Byte offset in the file; orders the messages.
    pub offset: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Whether the configuration cannot run because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: {severity}: {}", self.file, self.line, self.column, self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\nhelp: {help}")?;
        }
        Ok(())
    }
}

/// The candidate that is most like `word`, if one is so alike that a typing error explains it.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = |s: &str| s.to_ascii_lowercase().replace('_', "-");
    let word = folded(word);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &folded(candidate)), candidate))
        // One error in three characters is a slip; more is another word. `=` keeps the first of equals.
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean "x"?`, or all the choices if there are few, or nothing.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const LISTED_MAX: usize = 12;
    let mut candidates: Vec<&str> = candidates.into_iter().collect();
    candidates.sort_unstable();
    candidates.dedup();
    if let Some(best) = closest(word, candidates.iter().copied()) {
        return Some(format!("did you mean \"{best}\"?"));
    }
    match candidates.as_slice() {
        [] => None,
        [only] => Some(format!("there is only \"{only}\"")),
        few if few.len() <= LISTED_MAX => Some(format!(
            "there are {}",
            few.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ")
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let words = ["balance", "default-backend", "timeout", "id"];
        assert_eq!(closest("blance", words), Some("balance"));
        assert_eq!(closest("default_backend", words), Some("default-backend"));
        assert_eq!(closest("Timeotu", words), Some("timeout"));
        assert_eq!(closest("compression", words), None);
        assert_eq!(closest("x", ["y"]), Some("y"), "one character off in a one-character name");
    }

    #[test]
    fn few_candidates_are_listed() {
        assert_eq!(suggest("zzzzzz", ["web", "db"]).as_deref(), Some("there are \"db\", \"web\""));
        assert_eq!(suggest("zzzzzz", ["web"]).as_deref(), Some("there is only \"web\""));
        assert_eq!(suggest("zzzzzz", []), None);
    }

    #[test]
    fn the_form_is_that_of_a_compiler() {
        let d = Diagnostic {
            severity: Severity::Error,
            file: "config.toml".into(),
            offset: 7,
            line: 2,
            column: 3,
            message: "unknown server \"web3\"".into(),
            help: Some("did you mean \"web2\"?".into()),
        };
        assert_eq!(
            d.to_string(),
            "config.toml:2:3: error: unknown server \"web3\"\nhelp: did you mean \"web2\"?"
        );
    }
}

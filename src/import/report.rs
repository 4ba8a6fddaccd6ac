//! What became of each directive, as `shardgate import` tells it.

use std::fmt::Write as _;

use super::source::Place;
use crate::config::Severity;

/// How well a directive is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// It does what it does in HAProxy.
    Exact,
    /// Left out, and nobody will miss it.
    Ignored,
    /// It does nearly what it does in HAProxy.
    Approximate,
    /// Shardgate cannot do it.
    Unsupported,
}

impl State {
    /// As the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            State::Exact => "exact",
            State::Ignored => "ignored",
            State::Approximate => "approximate",
            State::Unsupported => "unsupported",
        }
    }
}

/// One directive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// Name of its file.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// Its words.
    pub directive: String,
    /// What became of it.
    pub state: State,
    /// How it differs, why it does no harm, or what to do instead; empty if exact.
    pub text: String,
    /// Whether the file is wrong, for HAProxy as well.
    pub is_error: bool,
}

impl Note {
    /// Whether a configuration with it must not run: then somebody would rely on what is not there.
    pub fn severity(&self) -> Option<Severity> {
        match self.state {
            State::Exact | State::Ignored => None,
            State::Approximate => Some(Severity::Warning),
            State::Unsupported => Some(Severity::Error),
        }
    }
}

/// All of them, in the order of the files.
#[derive(Clone, Default, Debug)]
pub struct Report {
    /// Names of the files.
    pub(super) files: Vec<String>,
    notes: Vec<(Place, Note)>,
}

impl Report {
    pub(super) fn new(files: Vec<String>) -> Report {
        Report { files, notes: Vec::new() }
    }

    pub(super) fn add(&mut self, place: Place, directive: &str, state: State, text: &str) {
        self.push(place, directive, state, text, false);
    }

    /// A file that HAProxy would not take either.
    pub(super) fn error(&mut self, place: Place, directive: &str, text: &str) {
        self.push(place, directive, State::Unsupported, text, true);
    }

    fn push(&mut self, place: Place, directive: &str, state: State, text: &str, is_error: bool) {
        let file = self.files.get(place.file).cloned().unwrap_or_default();
        let note = Note {
            file,
            line: place.line,
            directive: super::words::to_config(directive),
            state,
            text: text.to_owned(),
            is_error,
        };
        // A line of defaults is read once for each section that it holds for; what it comes to is said once, at its worst.
        let same = |(at, other): &&mut (Place, Note)| *at == place && other.directive == note.directive;
        match self.notes.iter_mut().rev().find(same) {
            Some((_, other)) if other.state >= state => {}
            Some((_, other)) => *other = note,
            None => self.notes.push((place, note)),
        }
    }

    pub(super) fn finish(&mut self) {
        self.notes.sort_by_key(|(place, _)| *place);
    }

    /// The directives, in the order of the files.
    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        self.notes.iter().map(|(_, note)| note)
    }

    /// The worst state.
    pub fn worst(&self) -> State {
        self.notes().map(|note| note.state).max().unwrap_or(State::Exact)
    }

    /// 0: all exact or ignored, 2: some approximate, 3: some unsupported.
    pub fn exit_code(&self) -> u8 {
        match self.worst() {
            State::Exact | State::Ignored => 0,
            State::Approximate => 2,
            State::Unsupported => 3,
        }
    }

    /// The whole report as text, one line a directive; exact ones are only counted.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for note in self.notes().filter(|note| note.state != State::Exact) {
            let Note { file, line, directive, state, text, .. } = note;
            // Writing to a String does not fail.
            let _ = writeln!(out, "{file}:{line}: {}: {directive}: {text}", state.name());
        }
        let count = |state| self.notes().filter(|note| note.state == state).count();
        let _ = writeln!(
            out,
            "{} exact, {} ignored, {} approximate, {} unsupported",
            count(State::Exact),
            count(State::Ignored),
            count(State::Approximate),
            count(State::Unsupported)
        );
        out
    }
}

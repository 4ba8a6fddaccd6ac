//! The files of a HAProxy configuration -> sections of directives, each with its place: lines joined to words, conditional blocks
//! decided, several `global` sections made one, `defaults` tied to the sections that they hold for. What directives mean is decided elsewhere.

use super::condition::Blocks;
use super::report::{Report, State};
use super::words::{self, Variables};

/// Where a line stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(super) struct Place {
    /// Which of the files.
    pub(super) file: usize,
    /// Line, from 1.
    pub(super) line: usize,
}

/// One directive.
#[derive(Clone, Debug)]
pub(super) struct Directive {
    pub(super) place: Place,
    /// Never empty; a `no` or `default` before it is taken off.
    pub(super) words: Vec<String>,
    pub(super) prefix: Prefix,
    /// Comment lines before it and the comment behind it.
    pub(super) comments: Vec<String>,
}

/// What stood before a directive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Prefix {
    None,
    /// `no option ...`
    No,
    /// `default option ...`
    Default,
}

/// A section.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) place: Place,
    /// `frontend`, `backend`, ...
    pub(super) kind: String,
    pub(super) name: String,
    /// Words of its header after the name.
    pub(super) rest: Vec<String>,
    /// The `defaults` section that holds for it, as a place in the list of sections.
    pub(super) defaults: Option<usize>,
    pub(super) comments: Vec<String>,
    /// There is one of its kind and name already, which was reported.
    pub(super) twice: bool,
    pub(super) directives: Vec<Directive>,
}

/// The words that begin a section.
const SECTIONS: &[&str] = &[
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "userlist",
    "peers",
    "resolvers",
    "mailers",
    "program",
    "http-errors",
    "ring",
    "log-forward",
    "log-profile",
    "cache",
    "fcgi-app",
    "crt-store",
    "traces",
    "acme",
    "healthcheck",
];

/// Keywords that take `no` before them.
const NEGATABLE: &[&str] = &[
    "option",
    "log",
    "busy-polling",
    "insecure-fork-wanted",
    "insecure-setuid-wanted",
    "numa-cpu-mapping",
    "set-dumpable",
    "strict-limits",
    "expose-experimental-directives",
    "prefer-client-ciphers",
    "zero-warning",
    "h2-workaround-bogus-websocket-clients",
];

/// Reads the files, in order, as if they were one.
pub(super) fn read(
    files: &[(String, String)],
    variables: &mut Variables<'_>,
    report: &mut Report,
) -> Vec<Section> {
    let mut reader = Reader { sections: Vec::new(), comments: Vec::new(), last_defaults: None, report };
    for (file, (name, text)) in files.iter().enumerate() {
        variables.set(".FILE", Some(name.clone()));
        let mut blocks = Blocks::default();
        for (index, line) in text.lines().enumerate() {
            let place = Place { file, line: index + 1 };
            variables.set(".LINE", Some(place.line.to_string()));
            reader.line(line, place, &mut blocks, variables);
        }
        if let Some(line) = blocks.unclosed() {
            reader.report.error(Place { file, line }, ".if", "this block has no .endif");
        }
        reader.comments.clear();
    }
    reader.sections
}

struct Reader<'r> {
    sections: Vec<Section>,
    /// Comment lines that belong to what comes next.
    comments: Vec<String>,
    last_defaults: Option<usize>,
    report: &'r mut Report,
}

impl Reader<'_> {
    fn line(&mut self, line: &str, place: Place, blocks: &mut Blocks, variables: &mut Variables<'_>) {
        if !blocks.active() && !line.trim_start().starts_with('.') {
            return;
        }
        let words::Words { words, comment } = match words::split(line, variables) {
            Ok(words) => words,
            Err(error) => {
                let column = error.column;
                self.report.error(place, line.trim(), &format!("column {column}: {}", error.message));
                return;
            }
        };
        let Some(first) = words.first().cloned() else {
            match comment {
                Some(comment) => self.comments.push(comment),
                // What stands before an empty line belongs to nothing in particular.
                None => self.comments.clear(),
            }
            return;
        };
        if first.starts_with('.') {
            self.directive_of_blocks(&first, &words, place, blocks, variables);
            return;
        }
        let mut comments = std::mem::take(&mut self.comments);
        comments.extend(comment.filter(|comment| !comment.is_empty()));
        if SECTIONS.contains(&first.as_str()) {
            self.section(words, place, comments, variables);
        } else {
            self.directive(words, place, comments, variables);
        }
    }

    fn directive_of_blocks(
        &mut self,
        first: &str,
        words: &[String],
        place: Place,
        blocks: &mut Blocks,
        variables: &Variables<'_>,
    ) {
        let text = variables.expand(&words[1..].join(" "));
        match first {
            ".if" | ".elif" | ".else" | ".endif" => {
                if let Err(message) = blocks.directive(first, &text, place.line, variables) {
                    self.report.error(place, first, &message);
                }
            }
            _ if !blocks.active() => {}
            ".alert" => self.report.error(place, first, &text),
            ".warning" | ".notice" => self.report.add(place, first, State::Ignored, &format!("the file says: {text}")),
            ".diag" => {}
            _ => self.report.error(place, first, "there is no such directive; there are .if, .elif, .else, .endif, .notice, .warning, .alert and .diag"),
        }
    }

    fn section(
        &mut self,
        mut words: Vec<String>,
        place: Place,
        comments: Vec<String>,
        variables: &mut Variables<'_>,
    ) {
        let kind = words.remove(0);
        let words: Vec<String> = words.iter().map(|word| variables.expand(word)).collect();
        let (name, mut rest) = match words.split_first() {
            Some((name, rest)) if !(kind == "defaults" && name == "from") => (name.clone(), rest.to_vec()),
            _ => (String::new(), words),
        };
        variables.set(".SECTION", Some(if name.is_empty() { kind.clone() } else { name.clone() }));
        let defaults = self.defaults_of(&kind, &mut rest, place);
        let needs_name = !matches!(kind.as_str(), "global" | "defaults" | "traces" | "crt-store");
        if needs_name && name.is_empty() {
            self.report.error(place, &kind, &format!("a {kind} section needs a name"));
        }
        let twice = |s: &&Section| s.kind == kind && s.name == name && needs_name;
        let first = self.sections.iter().find(twice).map(|first| first.place.line);
        if let Some(line) = first {
            let message = format!("there is a {kind} \"{name}\" already, at line {line}");
            self.report.error(place, &kind, &message);
        }
        if kind == "global"
            && let Some(at) = self.sections.iter().position(|s| s.kind == "global")
        {
            // Several of them are one.
            let global = self.sections.remove(at);
            self.last_defaults = self.last_defaults.map(|d| if d > at { d - 1 } else { d });
            for section in &mut self.sections {
                section.defaults = section.defaults.map(|d| if d > at { d - 1 } else { d });
            }
            self.sections.push(global);
            return;
        }
        if kind == "defaults" {
            self.last_defaults = Some(self.sections.len());
        }
        let twice = first.is_some();
        let directives = Vec::new();
        self.sections.push(Section { place, kind, name, rest, defaults, comments, twice, directives });
    }

    /// The defaults of a section: those before it, or those that it names with `from`.
    fn defaults_of(&mut self, kind: &str, rest: &mut Vec<String>, place: Place) -> Option<usize> {
        let named = rest.iter().position(|word| word == "from").map(|at| {
            let name = rest.get(at + 1).cloned().unwrap_or_default();
            rest.truncate(at);
            name
        });
        match named {
            Some(name) => {
                let found = self.sections.iter().rposition(|s| s.kind == "defaults" && s.name == name);
                if found.is_none() {
                    self.report.error(
                        place,
                        kind,
                        &format!("there is no defaults section \"{name}\" before this line"),
                    );
                }
                found
            }
            // A defaults section begins from nothing.
            None if kind == "defaults" => None,
            None => self.last_defaults,
        }
    }

    fn directive(
        &mut self,
        mut words: Vec<String>,
        place: Place,
        comments: Vec<String>,
        variables: &mut Variables<'_>,
    ) {
        let prefix = match (words[0].as_str(), words.get(1)) {
            ("no", Some(next)) if NEGATABLE.contains(&next.as_str()) => Prefix::No,
            ("default", Some(next)) if NEGATABLE.contains(&next.as_str()) => Prefix::Default,
            ("no", Some(next)) => {
                let message = format!("\"{next}\" takes no \"no\" before it");
                self.report.error(place, &words.join(" "), &message);
                return;
            }
            _ => Prefix::None,
        };
        if prefix != Prefix::None {
            words.remove(0);
        }
        let Some(section) = self.sections.last_mut() else {
            let message = if words[0].starts_with('[') && words[0].ends_with(']') {
                "sections are in brackets in files for --config: give it to that, -f takes haproxy.cfg"
            } else {
                "this stands before the first section (global, defaults, frontend, ...)"
            };
            self.report.error(place, &words.join(" "), message);
            return;
        };
        if section.kind == "global" {
            set_environment(&words, variables);
        }
        section.directives.push(Directive { place, words, prefix, comments });
    }
}

/// `setenv` and its relatives act at once: the lines below them already see it.
fn set_environment(words: &[String], variables: &mut Variables<'_>) {
    match words {
        [set, name, value] if set == "setenv" || (set == "presetenv" && variables.get(name).is_none()) => {
            let value = variables.expand(value);
            variables.set(name, Some(value));
        }
        [unset, names @ ..] if unset == "unsetenv" => names.iter().for_each(|name| variables.set(name, None)),
        _ => {}
    }
}

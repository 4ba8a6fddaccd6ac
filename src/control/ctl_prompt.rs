//! `shardgate ctl` in a terminal: a dialogue with completion and history. Words come from the same table as the commands;
//! names of frontends, backends and servers are asked of the process.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};

use crate::control::cli::table::COMMANDS;
use crate::control::ctl::{self, CtlError};
use crate::control::hangup;

/// Lines of history that are kept.
const HISTORY_LINES: usize = 1000;

/// Reads commands from the terminal until `quit` or the end of input.
///
/// # Errors
/// Nobody listens on the socket, or the terminal fails.
pub fn run(socket: &Path) -> Result<(), CtlError> {
    let names = names(socket)?;
    let failed = |e: ReadlineError| CtlError::Io(io::Error::other(e));
    let config = rustyline::Config::builder().auto_add_history(true).max_history_size(HISTORY_LINES);
    let config = config.map_err(failed)?.build();
    let mut editor: Editor<Words, DefaultHistory> = Editor::with_config(config).map_err(failed)?;
    editor.set_helper(Some(Words { names }));
    let history = history_file();
    if let Some(file) = &history {
        // A first start has none.
        let _ = editor.load_history(file);
    }
    hangup::end_with_terminal(|| {});
    println!("{}: `help` lists the commands, Tab completes, `quit` or Ctrl-D ends.", socket.display());
    loop {
        let read = editor.readline("shardgate> ");
        if let Some(file) = &history {
            // At once, as the terminal may go. Not being able to keep it is no reason to complain after every line.
            let _ = editor.append_history(file);
        }
        match read {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) if matches!(line.trim(), "quit" | "exit") => break,
            Ok(line) => answer(socket, line.trim())?,
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(())
}

/// Each line is a connection of its own: a process that was restarted meanwhile is no broken dialogue. What comes is shown as it
/// comes: `show events -w` goes on until Ctrl-C, which ends the program.
fn answer(socket: &Path, line: &str) -> Result<(), CtlError> {
    let mut shown = Shown { out: io::stdout().lock(), ends: 0, is_open: true };
    if let Err(error) = ctl::run(socket, &[line.to_owned()], &mut shown) {
        eprintln!("error: {error}");
    }
    // An answer without words is one empty line.
    if shown.is_open {
        shown.out.write_all(b"\n")?;
    }
    Ok(shown.out.flush()?)
}

/// Holds the ends of the last lines back: an answer is followed by an empty line, which a person does not need.
struct Shown<'a> {
    out: io::StdoutLock<'a>,
    ends: usize,
    /// The last line that was written has no end yet.
    is_open: bool,
}

impl Write for Shown<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == b'\n').count();
        if text > 0 {
            for _ in 0..std::mem::take(&mut self.ends) {
                self.out.write_all(b"\n")?;
            }
            self.out.write_all(&bytes[..text])?;
            self.is_open = true;
        }
        self.ends += bytes.len() - text;
        if self.ends > 0 && text > 0 {
            // The line is complete, and who follows a log wants to see it.
            self.out.write_all(b"\n")?;
            self.ends -= 1;
            self.is_open = false;
            self.out.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Frontends, backends and `backend/server`.
fn names(socket: &Path) -> Result<Vec<String>, CtlError> {
    let mut out = Vec::new();
    ctl::run(socket, &["show stat".to_owned()], &mut out)?;
    let text = String::from_utf8_lossy(&out).into_owned();
    let rows = text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split(',');
        Some((fields.next()?, fields.next()?))
    });
    let mut names: Vec<String> = rows
        .map(|(proxy, service)| match service {
            "FRONTEND" | "BACKEND" => proxy.to_owned(),
            server => format!("{proxy}/{server}"),
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state"));
    let dir = state.or_else(home)?.join("shardgate");
    std::fs::create_dir_all(&dir).ok()?;
    Some(dir.join("ctl-history"))
}

/// What can be completed.
struct Words {
    names: Vec<String>,
}

impl Words {
    /// Where the last word of a line begins, and what it may become.
    fn candidates(&self, line: &str) -> (usize, Vec<String>) {
        let command_at = line.rfind(';').map_or(0, |at| at + 1);
        let at = line.rfind([' ', ';']).map_or(0, |at| at + 1);
        let (before, partial) = (line[command_at..at].split_whitespace().collect::<Vec<_>>(), &line[at..]);
        // `help` takes commands.
        let before = before.strip_prefix(&["help"]).unwrap_or(&before);
        let mut found: Vec<String> = Vec::new();
        for command in COMMANDS {
            if let Some(word) = command.words.get(before.len())
                && command.words.starts_with(before)
            {
                found.push((*word).to_owned());
            }
            if before.len() >= command.words.len() && before.starts_with(command.words) {
                found.extend(self.names.iter().cloned());
                found.extend(choices(command.usage));
            }
        }
        found.retain(|word| word.starts_with(partial));
        found.sort_unstable();
        found.dedup();
        (at, found)
    }
}

/// Fixed words among the arguments of a usage: `[typed|json]`.
fn choices(usage: &str) -> impl Iterator<Item = String> {
    let groups = usage.split(['[', ']']).skip(1).step_by(2);
    let words = groups.flat_map(|group| group.split(['|', ' ']));
    words.filter(|word| !word.is_empty() && !word.contains(['<', '>', '/', '%'])).map(str::to_owned)
}

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let (at, mut found) = self.candidates(&line[..pos]);
        if let [only] = &mut found[..] {
            // The next word can follow at once.
            only.push(' ');
        }
        Ok((at, found))
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        Cow::Borrowed(line)
    }
}

impl Validator for Words {}

impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_names_and_choices_are_completed() {
        let words = Words { names: vec!["web".to_owned(), "web/s1".to_owned()] };
        for (line, at, expected) in [
            ("sh", 0, &["show", "shutdown"][..]),
            ("show st", 5, &["stat"]),
            ("show info; show ver", 16, &["version"]),
            ("help show servers ", 18, &["conn", "state"]),
            ("disable server web/", 15, &["web/s1"]),
            ("show info ty", 10, &["typed"]),
            ("nonsense ", 9, &[]),
        ] {
            let (found_at, found) = words.candidates(line);
            assert_eq!(
                (found_at, found.as_slice()),
                (at, expected.iter().map(|w| w.to_string()).collect::<Vec<_>>().as_slice()),
                "{line:?}"
            );
        }
    }
}

//! One admin connection, without IO: [`AdminSession::handle_input`] and [`AdminSession::handle_outcome`] take what came,
//! [`AdminSession::poll`] runs commands and says what to do next. Every answer is one block that ends with an empty line.
//!
//! Without `prompt` the connection ends once the lines that came are answered, as HAProxy's does.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::limits::{
    ADMIN_LINE_BYTES_MAX, ADMIN_OUTPUT_BYTES, ADMIN_PAYLOAD_BYTES_MAX, ADMIN_TIMEOUT_S, AUDIT_CHARS_MAX,
};
use crate::control::cli::elsewhere;
use crate::control::cli::parse;
use crate::control::cli::table::{self, Found};
use crate::control::cli::target::{AdminTarget, Job, Outcome};
use crate::model::AdminLevel;

/// What the socket loop does next, after it has written `out`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Read more and call [`AdminSession::handle_input`]; close when the client closed or stayed quiet for
    /// [`AdminSession::timeout`].
    Read,
    /// Do this and call [`AdminSession::handle_outcome`].
    Do(Job),
    /// Call [`AdminSession::poll`] again: there is more to say once this much is written.
    Continue,
    /// Close.
    Close,
}

/// One admin connection.
pub struct AdminSession {
    settings: Settings,
    /// Who it is, in words.
    peer: String,
    /// Bytes of the client; those before `taken` belong to lines that were taken.
    input: Vec<u8>,
    taken: usize,
    /// Commands of the current line that are still to run.
    commands: VecDeque<Vec<String>>,
    /// A line whose payload is still arriving.
    pending: Option<Pending>,
    /// The payload of the current line's last command.
    payload: Option<String>,
    /// What to answer when the outcome of the job arrives.
    waiting: Option<Then>,
    outcome: Option<Outcome>,
    /// The ring whose lines it gets as they come.
    following: Option<String>,
    /// A line was run, so that a connection without prompt may end.
    served: bool,
}

/// What commands can change about their own connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Settings {
    pub(super) level: AdminLevel,
    pub(super) mode: Mode,
    pub(super) timeout: Duration,
    /// What stands before an error (`set severity-output`).
    pub(super) severity: &'static str,
}

/// Whether the connection goes on after the first lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// It ends once they are answered.
    OneShot,
    /// It goes on (`prompt i`).
    Interactive,
    /// It goes on, and each answer is followed by `> ` (`prompt`).
    Prompt,
}

/// A line whose payload is still arriving.
struct Pending {
    commands: Vec<Vec<String>>,
    terminator: String,
    payload: String,
}

/// A command in the making: its words after those that name it, and what it may change.
pub(super) struct Call<'a> {
    pub(super) args: &'a [String],
    /// Lines that followed the command (`<<`).
    pub(super) payload: Option<&'a str>,
    pub(super) settings: &'a mut Settings,
    pub(super) target: &'a mut dyn AdminTarget,
    /// From which value to which a change went.
    pub(super) change: Option<(String, String)>,
}

impl Call<'_> {
    /// Notes for the audit log from which value to which a change went.
    pub(super) fn changed(&mut self, from: impl ToString, to: impl ToString) {
        self.change = Some((from.to_string(), to.to_string()));
    }

    /// The argument at a position; empty if there is none.
    pub(super) fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }
}

/// What a command answers; an error is a text for the operator too.
pub(super) type Answer = Result<Reply, String>;

/// A good answer.
pub(super) enum Reply {
    /// This text; empty: done, nothing to say.
    Text(String),
    /// These lines, then those of a ring from a number on as they come, until the client says something or leaves.
    Follow(String, String, u64),
    /// First a job, then the text that its outcome makes.
    Job(Job, Then),
    /// The connection ends without another word.
    Quit,
}

/// Makes the answer from the outcome of a job.
pub(super) type Then = Box<dyn FnOnce(Outcome) -> String>;

/// A good answer without words.
pub(super) fn done() -> Answer {
    Ok(Reply::Text(String::new()))
}

impl AdminSession {
    /// A fresh connection whose socket allows this much.
    /// `peer`: who it is, for the audit log.
    pub fn new(level: AdminLevel, peer: String) -> AdminSession {
        AdminSession {
            peer,
            settings: Settings {
                level,
                mode: Mode::OneShot,
                timeout: Duration::from_secs(ADMIN_TIMEOUT_S),
                severity: "",
            },
            input: Vec::new(),
            taken: 0,
            commands: VecDeque::new(),
            pending: None,
            payload: None,
            waiting: None,
            outcome: None,
            following: None,
            served: false,
        }
    }

    /// How long the client may stay quiet.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// Bytes from the client. Hand in what one read brought, then [`poll`](Self::poll) until it asks to read again.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The client will send no more. Whether a last line without its end is left to be run.
    pub fn handle_end(&mut self) -> bool {
        let is_line = self.pending.is_none() && self.taken < self.input.len();
        if is_line {
            self.input.push(b'\n');
        }
        is_line
    }

    /// What came of the job that [`poll`](Self::poll) asked for; [`poll`](Self::poll) goes on from there.
    pub fn handle_outcome(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// Runs commands until it needs something; appends their answers to `out`.
    pub fn poll(&mut self, target: &mut dyn AdminTarget, out: &mut String) -> Next {
        if let Some(ring) = self.following.take() {
            match self.outcome.take() {
                Some(Outcome::Lines(text, from)) => {
                    out.push_str(&text);
                    self.following = Some(ring.clone());
                    return Next::Do(Job::Follow { ring, from });
                }
                // The client left or wants something else.
                _ => return Next::Close,
            }
        }
        debug_assert_eq!(
            self.outcome.is_some(),
            self.waiting.is_some(),
            "an outcome for each job, nothing else"
        );
        if let (Some(outcome), Some(then)) = (self.outcome.take(), self.waiting.take()) {
            self.answer(&then(outcome), out);
        }
        loop {
            while let Some(words) = self.commands.pop_front() {
                match self.execute(&words, target) {
                    Ok(Reply::Text(text)) => self.answer(&text, out),
                    Err(text) => {
                        out.push_str(self.settings.severity);
                        self.answer(&text, out);
                    }
                    Ok(Reply::Job(job, then)) => {
                        self.waiting = Some(then);
                        return Next::Do(job);
                    }
                    Ok(Reply::Follow(text, ring, from)) => {
                        out.push_str(&text);
                        self.following = Some(ring.clone());
                        return Next::Do(Job::Follow { ring, from });
                    }
                    Ok(Reply::Quit) => return Next::Close,
                }
                if out.len() >= ADMIN_OUTPUT_BYTES {
                    return Next::Continue;
                }
            }
            self.payload = None;
            match self.take_line() {
                Ok(Some(line)) => self.handle_line(line, out),
                Ok(None) if self.served && self.pending.is_none() && self.settings.mode == Mode::OneShot => {
                    return Next::Close;
                }
                Ok(None) => return Next::Read,
                Err(TooLong) => {
                    out.push_str("Line or payload too long.\n\n");
                    return Next::Close;
                }
            }
        }
    }

    /// The next complete line of the input, without its end.
    fn take_line(&mut self) -> Result<Option<String>, TooLong> {
        let rest = &self.input[self.taken..];
        let end = rest.iter().position(|byte| *byte == b'\n');
        if end.unwrap_or(rest.len()) > ADMIN_LINE_BYTES_MAX
            || self.pending.as_ref().is_some_and(|pending| pending.payload.len() > ADMIN_PAYLOAD_BYTES_MAX)
        {
            return Err(TooLong);
        }
        let Some(end) = end else {
            self.input.drain(..std::mem::take(&mut self.taken));
            return Ok(None);
        };
        let line = &rest[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = String::from_utf8_lossy(line).into_owned();
        self.taken += end + 1;
        Ok(Some(line))
    }

    /// Queues the commands of a line, or adds it to the payload that is arriving.
    fn handle_line(&mut self, line: String, out: &mut String) {
        if let Some(mut pending) = self.pending.take() {
            if line == pending.terminator {
                self.commands.extend(pending.commands);
                self.payload = Some(pending.payload);
            } else {
                pending.payload.push_str(&line);
                pending.payload.push('\n');
                self.pending = Some(pending);
                self.push_prompt("+ ", out);
            }
            return;
        }
        self.served = true;
        let parsed = parse::line(&line);
        match parsed.terminator {
            Some(terminator) => {
                self.pending =
                    Some(Pending { commands: parsed.commands, terminator, payload: String::new() });
                self.push_prompt("+ ", out);
            }
            // An empty line in a dialogue only shows the prompt again.
            None if parsed.commands.is_empty() && self.settings.mode != Mode::OneShot => {
                self.push_prompt("> ", out)
            }
            None if parsed.commands.is_empty() => self.commands.push_back(Vec::new()),
            None => self.commands.extend(parsed.commands),
        }
    }

    fn execute(&mut self, words: &[String], target: &mut dyn AdminTarget) -> Answer {
        // `for 10m set weight ...`: the change ends by itself.
        let typed = words;
        let (lifetime, words) = match words {
            [first, delay, rest @ ..] if first == "for" && !rest.is_empty() => {
                let lifetime = parse::duration(delay, Duration::from_secs(1)).filter(|time| !time.is_zero());
                let wrong = || "'for' expects a duration and a command.".to_owned();
                (Some(lifetime.ok_or_else(wrong)?), rest)
            }
            _ => (None, words),
        };
        target.actor(&self.peer, lifetime);
        match table::find(words) {
            Found::Command(command) if lifetime.is_some() && !command.is_override() => {
                Err("Only a runtime change that 'show drift' tells of can end by itself.".to_owned())
            }
            Found::Command(command) if command.level > self.settings.level => {
                target.audit(&format!("{} was refused `{}`", self.peer, shown(typed)));
                Err("Permission denied".to_owned())
            }
            Found::Command(command) => {
                let args = &words[command.words.len()..];
                let payload = self.payload.as_deref().filter(|_| self.commands.is_empty());
                let mut call = Call { args, payload, settings: &mut self.settings, target, change: None };
                let answer = (command.run)(&mut call);
                if answer.is_ok() && command.changes() {
                    let change = call.change.take().map(|(from, to)| format!(" (from {from} to {to})"));
                    let text = format!("{} did `{}`{}", self.peer, shown(typed), change.unwrap_or_default());
                    call.target.audit(&text);
                }
                answer
            }
            Found::Unknown { candidates } => {
                let unknown = || table::unknown(&candidates, self.settings.level);
                Err(elsewhere::instead(words).unwrap_or_else(unknown))
            }
        }
    }

    /// One block: the text, its last line ended, an empty line, and in a dialogue the prompt.
    fn answer(&self, text: &str, out: &mut String) {
        out.push_str(text);
        if !text.is_empty() && !text.ends_with('\n') {
            out.push('\n');
        }
        out.push('\n');
        self.push_prompt("> ", out);
    }

    fn push_prompt(&self, prompt: &str, out: &mut String) {
        if self.settings.mode == Mode::Prompt {
            out.push_str(prompt);
        }
    }
}

/// The words of a command for the audit log: printable, and not longer than a line.
fn shown(words: &[String]) -> String {
    let line = words.join(" ");
    let mut text: String =
        line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(AUDIT_CHARS_MAX).collect();
    if line.len() > text.len() {
        text.push_str("...");
    }
    text
}

/// A line or payload passed its bound.
struct TooLong;

//! What the user of `shardgate top` chose, and what each key does about it. Pure: keys in, effects out.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::control::top::sample::{Facts, Row, SPANS, Watch, What};

/// Characters of a filter or a weight.
const INPUT_MAX: usize = 60;

/// What the rows are sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sort {
    /// As in the configuration.
    Order,
    Sessions,
    Queue,
    Rate,
    Errors,
    P50,
    P99,
    Out,
}

impl Sort {
    const ALL: [Sort; 8] =
        [Sort::Order, Sort::Sessions, Sort::Queue, Sort::Rate, Sort::Errors, Sort::P50, Sort::P99, Sort::Out];

    /// The other way from this one.
    fn next(self, step: usize) -> Sort {
        let at = Sort::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Sort::ALL[(at + step) % Sort::ALL.len()]
    }

    fn of(self, row: &Row) -> u64 {
        match self {
            Sort::Order => 0,
            Sort::Sessions => row.sessions,
            Sort::Queue => row.queue,
            Sort::Rate => row.rate,
            Sort::Errors => row.errors,
            Sort::P50 => row.p50(),
            Sort::P99 => row.p99(),
            Sort::Out => row.bytes_out,
        }
    }
}

/// What keys are read for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// Moving about.
    Look,
    /// The filter is being typed.
    Filter,
    /// A weight for this server is being typed.
    Weight { server: String, text: String },
    /// `y` sends this command.
    Confirm { question: String, command: String },
    /// The keys are explained.
    Help,
}

/// What the loop does about a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    None,
    Quit,
    /// Send this.
    Send(String),
}

/// The choices.
pub(super) struct Screen {
    pub(super) sort: Sort,
    pub(super) filter: String,
    /// Only rows of this kind.
    pub(super) what: Option<What>,
    /// Only rows that are not as they should be.
    pub(super) bad: bool,
    pub(super) mode: Mode,
    /// The row that commands are about, by kind and name: it stays the same one when the order changes.
    pub(super) selected: Option<(What, String)>,
    /// What came of the last command, or what is wrong.
    pub(super) message: String,
    pub(super) facts: Facts,
    /// Which of `SPANS` the graph shows.
    pub(super) span: usize,
}

impl Default for Screen {
    fn default() -> Screen {
        Screen {
            sort: Sort::Order,
            filter: String::new(),
            what: None,
            bad: false,
            mode: Mode::Look,
            selected: None,
            message: String::new(),
            facts: Facts::default(),
            span: 0,
        }
    }
}

impl Screen {
    /// The rows that are shown, in their order.
    pub(super) fn rows(&self) -> Vec<&Row> {
        let wanted = |row: &&Row| {
            self.what.is_none_or(|what| row.what == what)
                && (!self.bad || row.is_bad())
                && (self.filter.is_empty()
                    || row.name.contains(&self.filter)
                    || row.status.contains(&self.filter))
        };
        let mut rows: Vec<&Row> = self.facts.rows.iter().filter(wanted).collect();
        if self.sort != Sort::Order {
            // Equal ones stay as in the configuration.
            rows.sort_by_key(|row| std::cmp::Reverse(self.sort.of(row)));
        }
        rows
    }

    /// The place of the selected row among those that are shown; the first one if it is not there.
    pub(super) fn position(&self, rows: &[&Row]) -> usize {
        let is_it = |row: &&Row| {
            self.selected.as_ref().is_some_and(|(what, name)| row.what == *what && row.name == *name)
        };
        rows.iter().position(is_it).unwrap_or(0)
    }

    /// The row whose history is shown.
    pub(super) fn watch(&self) -> Option<Watch> {
        let rows = self.rows();
        let row = rows.get(self.position(&rows))?;
        Some(Watch { what: row.what, name: row.name.clone(), span: self.span })
    }

    /// The graph of a row: of its history, or of what was seen of the last minute.
    pub(super) fn graph<'a>(&'a self, row: &'a Row) -> &'a [u64] {
        match &self.facts.past {
            Some((of, graph)) if (of.what, of.span) == (row.what, self.span) && of.name == row.name => graph,
            _ if self.span == 0 => &row.graph,
            _ => &[],
        }
    }

    pub(super) fn on_key(&mut self, key: KeyEvent) -> Effect {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Effect::Quit } else { Effect::None };
        }
        match std::mem::replace(&mut self.mode, Mode::Look) {
            Mode::Look => self.look(key.code),
            Mode::Help => Effect::None,
            Mode::Filter => {
                match key.code {
                    KeyCode::Enter => return Effect::None,
                    KeyCode::Esc => {
                        self.filter.clear();
                        return Effect::None;
                    }
                    code => edit(&mut self.filter, code, |c| !c.is_control()),
                }
                self.mode = Mode::Filter;
                Effect::None
            }
            Mode::Weight { server, mut text } => {
                match key.code {
                    KeyCode::Esc => return Effect::None,
                    KeyCode::Enter if text.is_empty() => return Effect::None,
                    KeyCode::Enter => {
                        let command = format!("set weight {server} {text}");
                        self.mode =
                            Mode::Confirm { question: format!("give {server} the weight {text}"), command };
                        return Effect::None;
                    }
                    code => edit(&mut text, code, |c| c.is_ascii_digit() || c == '%'),
                }
                self.mode = Mode::Weight { server, text };
                Effect::None
            }
            Mode::Confirm { command, .. } => match key.code {
                KeyCode::Char('y' | 'Y') => Effect::Send(command),
                _ => {
                    "nothing was changed".clone_into(&mut self.message);
                    Effect::None
                }
            },
        }
    }

    fn look(&mut self, code: KeyCode) -> Effect {
        match code {
            KeyCode::Char('q') => return Effect::Quit,
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Esc => {
                (self.what, self.bad) = (None, false);
                self.filter.clear();
                self.message.clear();
            }
            KeyCode::Char('s' | '>') => self.sort = self.sort.next(1),
            KeyCode::Char('S' | '<') => self.sort = self.sort.next(Sort::ALL.len() - 1),
            KeyCode::Char('f') => self.what = (self.what != Some(What::Frontend)).then_some(What::Frontend),
            KeyCode::Char('b') => self.what = (self.what != Some(What::Backend)).then_some(What::Backend),
            KeyCode::Char('v') => self.what = (self.what != Some(What::Server)).then_some(What::Server),
            KeyCode::Char('t') => self.span = (self.span + 1) % SPANS.len(),
            KeyCode::Char('!') => self.bad = !self.bad,
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::PageDown => self.go(10),
            KeyCode::PageUp => self.go(-10),
            KeyCode::Home | KeyCode::Char('g') => self.go(isize::MIN / 2),
            KeyCode::End | KeyCode::Char('G') => self.go(isize::MAX / 2),
            KeyCode::Char('d') => self.ask("drain", "drain (sessions finish, no new ones)"),
            KeyCode::Char('e') => self.ask("ready", "make ready"),
            KeyCode::Char('m') => self.ask("maint", "put into maintenance"),
            KeyCode::Char('w') => {
                if let Some(server) = self.server() {
                    self.mode = Mode::Weight { server, text: String::new() };
                }
            }
            KeyCode::Char('x') => {
                if let Some(server) = self.server() {
                    let question = format!("end all sessions of {server}");
                    self.mode =
                        Mode::Confirm { question, command: format!("shutdown sessions server {server}") };
                }
            }
            _ => {}
        }
        Effect::None
    }

    /// The selected server, or a word about there being none.
    fn server(&mut self) -> Option<String> {
        let rows = self.rows();
        let found = rows.get(self.position(&rows)).filter(|row| row.what == What::Server);
        let name = found.map(|row| row.name.clone());
        if name.is_none() {
            "select a server first".clone_into(&mut self.message);
        }
        name
    }

    fn ask(&mut self, state: &str, words: &str) {
        if let Some(server) = self.server() {
            let command = format!("set server {server} state {state}");
            self.mode = Mode::Confirm { question: format!("{words} {server}"), command };
        }
    }

    fn go(&mut self, by: isize) {
        let rows = self.rows();
        let at = self.position(&rows).saturating_add_signed(by).min(rows.len().saturating_sub(1));
        self.selected = rows.get(at).map(|row| (row.what, row.name.clone()));
    }

    /// What a command was answered.
    pub(super) fn on_answer(&mut self, command: &str, answer: &str) {
        self.message = match answer.trim() {
            "" => format!("done: {command}"),
            other => other.lines().next().unwrap_or_default().to_owned(),
        };
    }
}

fn edit(text: &mut String, code: KeyCode, takes: impl Fn(char) -> bool) {
    match code {
        KeyCode::Backspace => drop(text.pop()),
        KeyCode::Char(c) if takes(c) && text.len() < INPUT_MAX => text.push(c),
        _ => {}
    }
}

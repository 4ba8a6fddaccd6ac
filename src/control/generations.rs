//! Which generations of the configuration there are: the current one, older ones that sessions still live by, and attempts
//! that failed. The control core keeps the names of an older generation for as long as somebody speaks of it by its ids.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use crate::base::limits::{CONFIGURATIONS_BYTES_MAX, GENERATIONS_KEPT};
use crate::base::time::Now;
use crate::control::core::Process;
use crate::model::Model;

/// What came of an attempt to run a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// It is the current generation, or was.
    Ran(u32),
    /// It was refused; the first line of why.
    Refused(String),
}

/// One attempt to run a configuration.
pub(super) struct Attempt {
    pub(super) when: Now,
    pub(super) who: String,
    pub(super) outcome: Outcome,
    /// What stood in the file.
    pub(super) text: Option<Arc<str>>,
}

/// A generation that somebody may live by.
struct Alive {
    number: u32,
    model: Arc<Model>,
    /// Its sets of log targets.
    log_sets: Range<u16>,
    /// Data cores on which somebody lives by it.
    cores: usize,
    /// When it was replaced.
    replaced: Option<Now>,
    /// What its model and what the cores made of it hold.
    bytes: u64,
}

/// All generations.
pub(super) struct Generations {
    alive: Vec<Alive>,
    attempts: VecDeque<Attempt>,
    cores: usize,
}

impl Generations {
    /// The first one has just begun.
    pub(super) fn new(model: &Arc<Model>, process: &Process, cores: usize, now: Now) -> Generations {
        let sets = u16::try_from(model.logging.sets.len()).unwrap_or(u16::MAX);
        let text = process.config.as_ref().map(|config| config.text.clone());
        let mut generations = Generations { alive: Vec::new(), attempts: VecDeque::new(), cores };
        generations.begin(1, model, 0..sets, now);
        generations.note(Attempt { when: now, who: "start".to_owned(), outcome: Outcome::Ran(1), text });
        generations
    }

    /// A generation is the current one from now on.
    pub(super) fn begin(&mut self, number: u32, model: &Arc<Model>, log_sets: Range<u16>, now: Now) {
        if let Some(last) = self.alive.last_mut() {
            last.replaced = Some(now);
        }
        let model = model.clone();
        self.alive.push(Alive { number, model, log_sets, cores: self.cores, replaced: None, bytes: 0 });
    }

    /// Remembers an attempt. Those that were refused take at most half of the room; of either kind the oldest is forgotten.
    pub(super) fn note(&mut self, mut attempt: Attempt) {
        let refused = |attempt: &Attempt| matches!(attempt.outcome, Outcome::Refused(_));
        if self.attempts.len() >= GENERATIONS_KEPT {
            let mostly_refused =
                self.attempts.iter().filter(|other| refused(other)).count() >= GENERATIONS_KEPT / 2;
            let at = self.attempts.iter().position(|other| refused(other) == mostly_refused);
            self.attempts.remove(at.unwrap_or(0));
        }
        // A configuration that was run before is kept once.
        let same = attempt.text.as_ref().and_then(|text| {
            self.attempts.iter().filter_map(|other| other.text.as_ref()).find(|other| *other == text)
        });
        if let Some(same) = same {
            attempt.text = Some(same.clone());
        }
        self.attempts.push_back(attempt);
        self.forget_texts();
    }

    /// Forgets the oldest texts beyond the bound; that of the last attempt stays in any case.
    fn forget_texts(&mut self) {
        let (mut bytes, mut seen) = (0, Vec::new());
        for attempt in self.attempts.iter_mut().rev() {
            let Some(text) = &attempt.text else { continue };
            if !seen.iter().any(|other| Arc::ptr_eq(other, text)) {
                bytes += if seen.is_empty() { 0 } else { text.len() };
                seen.push(text.clone());
            }
            if bytes > CONFIGURATIONS_BYTES_MAX {
                attempt.text = None;
            }
        }
    }

    /// So much more was allocated for it.
    pub(super) fn note_memory(&mut self, number: u32, bytes: u64) {
        if let Some(alive) = self.alive.iter_mut().find(|alive| alive.number == number) {
            alive.bytes += bytes;
        }
    }

    /// KiB of a generation that somebody lives by.
    fn kib(&self, number: u32) -> u64 {
        self.alive.iter().find(|alive| alive.number == number).map_or(0, |alive| alive.bytes.div_ceil(1024))
    }

    /// On one core nobody lives by it any more. Returns the sets of log targets that nobody needs any more.
    pub(super) fn over(&mut self, number: u32) -> Option<Range<u16>> {
        let at = self.alive.iter().position(|alive| alive.number == number)?;
        self.alive[at].cores -= 1;
        if self.alive[at].cores > 0 {
            return None;
        }
        let sets = self.alive.remove(at).log_sets;
        (!self.alive.iter().any(|alive| alive.log_sets == sets)).then_some(sets)
    }

    /// The sets of log targets of the current generation.
    pub(super) fn log_sets(&self) -> Range<u16> {
        self.alive.last().map_or(0..0, |alive| alive.log_sets.clone())
    }

    /// The configuration of a generation, if somebody may still live by it.
    pub(super) fn model(&self, number: u32) -> Option<Arc<Model>> {
        self.alive.iter().find(|alive| alive.number == number).map(|alive| alive.model.clone())
    }

    /// What stood in the file of the current generation.
    pub(super) fn text(&self) -> Option<Arc<str>> {
        let ran = self.attempts.iter().rev().find(|attempt| matches!(attempt.outcome, Outcome::Ran(_)));
        ran.and_then(|attempt| attempt.text.clone())
    }

    /// What stood in the file of a generation, if it is kept.
    pub(super) fn text_of(&self, number: u32) -> Option<Arc<str>> {
        let ran = self.attempts.iter().find(|attempt| attempt.outcome == Outcome::Ran(number));
        ran.and_then(|attempt| attempt.text.clone())
    }

    /// The newest generation with another configuration than the current one.
    pub(super) fn previous(&self) -> Option<u32> {
        let current = self.text()?;
        self.attempts.iter().rev().find_map(|attempt| match (&attempt.outcome, &attempt.text) {
            (Outcome::Ran(number), Some(text)) if *text != current => Some(*number),
            _ => None,
        })
    }

    /// `show configurations`: those that `rollback` can run again.
    pub(super) fn history(&self, now: Now) -> String {
        let mut out = "# generation state age_s bytes who\n".to_owned();
        let current = self.alive.last().map(|alive| alive.number);
        for attempt in &self.attempts {
            let (Outcome::Ran(number), Some(text)) = (&attempt.outcome, &attempt.text) else { continue };
            let state = if current == Some(*number) { "current" } else { "kept" };
            let age = now.since(attempt.when).as_secs();
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{number} {state} {age} {} {}", text.len(), attempt.who);
        }
        out
    }

    /// `show generations`. `sessions`: how many live by a generation; `trial`: the one on trial, and until when.
    pub(super) fn show(
        &self,
        sessions: impl Fn(u32) -> usize,
        trial: Option<(u32, Now)>,
        now: Now,
    ) -> String {
        let mut out = "# generation state age_s sessions mem_kib who\n".to_owned();
        let current = self.alive.last().map(|alive| alive.number);
        for attempt in &self.attempts {
            let age = now.since(attempt.when).as_secs();
            // Writing to a string cannot fail.
            let _ = match &attempt.outcome {
                Outcome::Ran(number) => {
                    let state = match self.alive.iter().any(|alive| alive.number == *number) {
                        _ if current == Some(*number) => "current",
                        true => "old",
                        false => "over",
                    };
                    let trial = trial
                        .filter(|(on_trial, _)| on_trial == number)
                        .map_or_else(String::new, |(_, until)| {
                            format!(", on trial for {} s", until.since(now).as_secs())
                        });
                    let (count, kib) = (sessions(*number), self.kib(*number));
                    writeln!(out, "{number} {state} {age} {count} {kib} {}{trial}", attempt.who)
                }
                Outcome::Refused(why) => writeln!(out, "- refused {age} 0 0 {}: {why}", attempt.who),
            };
        }
        for alive in &self.alive {
            if !self.attempts.iter().any(|attempt| attempt.outcome == Outcome::Ran(alive.number)) {
                let age = alive.replaced.map_or(0, |since| now.since(since).as_secs());
                let (number, kib) = (alive.number, self.kib(alive.number));
                let _ = writeln!(out, "{number} old {age} {} {kib} -", sessions(number));
            }
        }
        out
    }
}

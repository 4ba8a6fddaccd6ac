//! Which generations of the configuration there are: the current one, older ones that sessions still live by, and attempts
//! that failed. The control core keeps the names of an older generation for as long as somebody speaks of it by its ids.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::base::limits::GENERATIONS_KEPT;
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
    /// Data cores on which somebody lives by it.
    cores: usize,
    /// When it was replaced.
    replaced: Option<Now>,
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
        let text = process.config.as_ref().map(|config| config.text.clone());
        let mut generations = Generations { alive: Vec::new(), attempts: VecDeque::new(), cores };
        generations.begin(1, model, now);
        generations.note(Attempt { when: now, who: "start".to_owned(), outcome: Outcome::Ran(1), text });
        generations
    }

    /// A generation is the current one from now on.
    pub(super) fn begin(&mut self, number: u32, model: &Arc<Model>, now: Now) {
        if let Some(last) = self.alive.last_mut() {
            last.replaced = Some(now);
        }
        self.alive.push(Alive { number, model: model.clone(), cores: self.cores, replaced: None });
    }

    /// Remembers an attempt; the oldest is forgotten.
    pub(super) fn note(&mut self, attempt: Attempt) {
        if self.attempts.len() >= GENERATIONS_KEPT {
            // The one that runs stays, however many were refused since.
            let last = self.attempts.iter().rposition(|attempt| matches!(attempt.outcome, Outcome::Ran(_)));
            let at = usize::from(last == Some(0) && matches!(attempt.outcome, Outcome::Refused(_)));
            self.attempts.remove(at);
        }
        self.attempts.push_back(attempt);
    }

    /// On one core nobody lives by it any more.
    pub(super) fn over(&mut self, number: u32) {
        if let Some(at) = self.alive.iter().position(|alive| alive.number == number) {
            self.alive[at].cores -= 1;
            if self.alive[at].cores == 0 {
                self.alive.remove(at);
            }
        }
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

    /// `show generations`. `sessions`: how many live by a generation.
    pub(super) fn show(&self, sessions: impl Fn(u32) -> usize, now: Now) -> String {
        let mut out = "# generation state age_s sessions who\n".to_owned();
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
                    writeln!(out, "{number} {state} {age} {} {}", sessions(*number), attempt.who)
                }
                Outcome::Refused(why) => writeln!(out, "- refused {age} 0 {}: {why}", attempt.who),
            };
        }
        for alive in &self.alive {
            if !self.attempts.iter().any(|attempt| attempt.outcome == Outcome::Ran(alive.number)) {
                let age = alive.replaced.map_or(0, |since| now.since(since).as_secs());
                let _ = writeln!(out, "{} old {age} {} -", alive.number, sessions(alive.number));
            }
        }
        out
    }
}

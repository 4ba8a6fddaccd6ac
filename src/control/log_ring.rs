//! Log lines in memory: a ring that keeps the last ones, and wakes those who follow it (`show events -w`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::Waker;

use crate::model::log::Ring;

/// Lines without a gap between them: one allocation for each would leave memory in pieces that nobody else can use.
#[derive(Default)]
struct Lines {
    bytes: VecDeque<u8>,
    /// Of each line, oldest first.
    lengths: VecDeque<usize>,
}

/// One ring.
pub(super) struct EventRing {
    settings: Ring,
    lines: RefCell<Lines>,
    /// The number of the line that comes next, from 0.
    next: Cell<u64>,
    followers: RefCell<Vec<Waker>>,
}

impl EventRing {
    /// An empty ring.
    pub(super) fn new(settings: Ring) -> EventRing {
        EventRing { settings, lines: RefCell::default(), next: Cell::new(0), followers: RefCell::default() }
    }

    /// Its name and what it is for.
    pub(super) fn settings(&self) -> &Ring {
        &self.settings
    }

    /// The number of the line that comes next.
    pub(super) fn next(&self) -> u64 {
        self.next.get()
    }

    /// Adds a line; the oldest ones make room.
    pub(super) fn push(&self, line: &[u8]) {
        let mut lines = self.lines.borrow_mut();
        while lines.bytes.len() + line.len() > self.settings.size as usize {
            let Some(oldest) = lines.lengths.pop_front() else { break };
            lines.bytes.drain(..oldest);
        }
        lines.bytes.extend(line);
        lines.lengths.push_back(line.len());
        self.next.set(self.next.get() + 1);
        self.followers.take().into_iter().for_each(Waker::wake);
    }

    /// Appends the lines from a number on, each with its end; the number to go on with.
    pub(super) fn read(&self, from: u64, out: &mut String) -> u64 {
        let lines = self.lines.borrow();
        let oldest = self.next.get() - lines.lengths.len() as u64;
        let skip = usize::try_from(from.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let (mut start, mut text) = (0, Vec::new());
        for (at, length) in lines.lengths.iter().enumerate() {
            let line = start..start + length;
            start = line.end;
            if at >= skip {
                text.clear();
                text.extend(lines.bytes.range(line));
                out.push_str(&String::from_utf8_lossy(&text));
                out.push('\n');
            }
        }
        self.next.get()
    }

    /// Wakes the task with the next line.
    pub(super) fn follow(&self, waker: &Waker) {
        let mut followers = self.followers.borrow_mut();
        if !followers.iter().any(|other| other.will_wake(waker)) {
            followers.push(waker.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_make_room() {
        let ring = EventRing::new(Ring { name: "r".to_owned(), size: 20, description: String::new() });
        for n in 0..10 {
            ring.push(format!("line {n}").as_bytes());
        }
        let mut all = String::new();
        assert_eq!(ring.read(0, &mut all), 10);
        assert_eq!(all, "line 7\nline 8\nline 9\n");
        let mut rest = String::new();
        ring.push(b"more");
        assert_eq!(ring.read(10, &mut rest), 11);
        assert_eq!(rest, "more\n");
    }
}

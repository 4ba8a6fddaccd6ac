//! The dialogue of a scripted health check (`tcp-check`). Pure: received bytes in, what to do next out; `probe` does it.

use regex::bytes::Regex;

use crate::base::limits::CHECK_BYTES_MAX;
use crate::control::dialogue::{Found, Want};
use crate::model::{CheckConnect, CheckStep};
use crate::policy::health::CheckStatus;

/// A script with its expressions compiled.
pub(super) struct Script {
    steps: Vec<Step>,
}

enum Step {
    Connect(CheckConnect),
    Send(Vec<u8>),
    Expect {
        matcher: Matcher,
        /// The bytes must not match.
        negated: bool,
    },
}

enum Matcher {
    Bytes(Vec<u8>),
    Regex(Regex),
    /// An expression that does not compile; `config` refuses those, so this matches nothing.
    Nothing(String),
}

/// One dialogue.
pub(super) struct Dialogue<'a> {
    script: &'a Script,
    at: usize,
    received: Vec<u8>,
    ended: bool,
}

impl Script {
    /// Compiles the steps of a configuration.
    pub(super) fn new(steps: &[CheckStep]) -> Script {
        let regex = |text: &str| match Regex::new(text) {
            Ok(regex) => Matcher::Regex(regex),
            Err(_) => Matcher::Nothing(text.to_owned()),
        };
        let steps = steps.iter().map(|step| match step {
            CheckStep::Connect(way) => Step::Connect(*way),
            CheckStep::Send(bytes) => Step::Send(bytes.clone()),
            CheckStep::ExpectString(s) => Step::Expect { matcher: Matcher::Bytes(s.clone()), negated: false },
            CheckStep::RejectString(s) => Step::Expect { matcher: Matcher::Bytes(s.clone()), negated: true },
            CheckStep::ExpectRegex(text) => Step::Expect { matcher: regex(text), negated: false },
            CheckStep::RejectRegex(text) => Step::Expect { matcher: regex(text), negated: true },
        });
        Script { steps: steps.collect() }
    }

    /// Starts a dialogue.
    pub(super) fn start(&self) -> Dialogue<'_> {
        Dialogue { script: self, at: 0, received: Vec::new(), ended: false }
    }
}

impl Matcher {
    fn is_in(&self, bytes: &[u8]) -> bool {
        match self {
            Matcher::Bytes(needle) => memchr::memmem::find(bytes, needle).is_some(),
            Matcher::Regex(regex) => regex.is_match(bytes),
            Matcher::Nothing(_) => false,
        }
    }

    /// How many bytes it takes to say that something is not there.
    fn conclusive_len(&self) -> usize {
        match self {
            Matcher::Bytes(needle) => needle.len(),
            Matcher::Regex(_) | Matcher::Nothing(_) => 1,
        }
    }

    fn words(&self) -> String {
        match self {
            Matcher::Bytes(needle) => format!("'{}'", needle.escape_ascii()),
            Matcher::Regex(regex) => format!("regex '{regex}'"),
            Matcher::Nothing(text) => format!("regex '{text}'"),
        }
    }
}

impl Dialogue<'_> {
    /// What to do next. After [`Want::Send`] it is the next step's turn.
    pub(super) fn next(&mut self) -> Want {
        loop {
            match self.script.steps.get(self.at) {
                None => return Want::Done(self.passed()),
                Some(Step::Connect(way)) => {
                    self.at += 1;
                    self.received.clear();
                    self.ended = false;
                    return Want::Connect(*way);
                }
                Some(Step::Send(bytes)) => {
                    self.at += 1;
                    // What came before belongs to the question before.
                    self.received.clear();
                    return Want::Send(bytes.clone());
                }
                Some(Step::Expect { matcher, negated }) => match self.judge(matcher, *negated) {
                    Some(true) => self.at += 1,
                    Some(false) => {
                        let why = self.failure(matcher, *negated);
                        return Want::Done(Found::new(CheckStatus::L7Response, why));
                    }
                    None => return Want::Receive,
                },
            }
        }
    }

    /// Whether there is more to it than connections.
    pub(super) fn is_scripted(&self) -> bool {
        self.script.steps.iter().any(|step| !matches!(step, Step::Connect(_)))
    }

    fn passed(&self) -> Found {
        Found::new(if self.is_scripted() { CheckStatus::L7Ok } else { CheckStatus::L4Ok }, "")
    }

    /// Bytes from the server.
    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) {
        let room = CHECK_BYTES_MAX.saturating_sub(self.received.len());
        self.received.extend_from_slice(&bytes[..bytes.len().min(room)]);
        // An answer that is longer than anybody expects has no end that is worth waiting for.
        self.ended |= bytes.len() >= room;
    }

    /// The server has closed.
    pub(super) fn handle_end(&mut self) {
        self.ended = true;
    }

    /// The step that waits, for the words of a timeout.
    pub(super) fn place(&self) -> String {
        let what = match self.script.steps.get(self.at) {
            Some(Step::Expect { matcher, negated: false }) => format!(" (expect {})", matcher.words()),
            Some(Step::Expect { matcher, negated: true }) => format!(" (expect not {})", matcher.words()),
            Some(Step::Send(_)) => " (send)".to_owned(),
            Some(Step::Connect(_)) => " (connect)".to_owned(),
            None => String::new(),
        };
        format!("at step {} of tcp-check{what}", self.at + 1)
    }

    /// Whether the step is fulfilled; `None`: more bytes decide. That bytes are absent is known as soon as as many came.
    fn judge(&self, matcher: &Matcher, negated: bool) -> Option<bool> {
        let found = matcher.is_in(&self.received);
        match (found, negated) {
            (true, negated) => Some(!negated),
            (false, false) => self.ended.then_some(false),
            (false, true) if self.received.len() >= matcher.conclusive_len() => Some(true),
            (false, true) => self.ended.then_some(!self.received.is_empty()),
        }
    }

    fn failure(&self, matcher: &Matcher, negated: bool) -> String {
        let step = self.at + 1;
        if self.received.is_empty() {
            return format!("TCPCHK got an empty response at step {step}");
        }
        let words = matcher.words();
        if negated {
            format!("TCPCHK matched unwanted content {words} at step {step}")
        } else {
            format!("TCPCHK did not match content {words} at step {step}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expect(s: &str) -> CheckStep {
        CheckStep::ExpectString(s.into())
    }
    fn reject(s: &str) -> CheckStep {
        CheckStep::RejectString(s.into())
    }

    /// Runs a script against what the server says in pieces, `None`: it closes; the last thing it wants.
    fn play(steps: &[CheckStep], server: &[Option<&str>]) -> Want {
        let script = Script::new(steps);
        let mut dialogue = script.start();
        let mut server = server.iter();
        loop {
            match dialogue.next() {
                Want::Send(_) | Want::Connect(_) => {}
                Want::Receive => match server.next() {
                    Some(Some(bytes)) => dialogue.handle_bytes(bytes.as_bytes()),
                    Some(None) => dialogue.handle_end(),
                    None => return Want::Receive,
                },
                done => return done,
            }
        }
    }

    #[test]
    fn dialogues() {
        let regex = |s: &str| CheckStep::ExpectRegex(s.into());
        let failed = |s: &str| Want::Done(Found::new(CheckStatus::L7Response, s));
        let passed = || Want::Done(Found::new(CheckStatus::L7Ok, ""));
        let ping = CheckStep::Send(b"PING\r\n".to_vec());
        let redis = [ping.clone(), expect("+PONG")];
        for (steps, server, wanted) in [
            (&redis[..], &[Some("+PONG\r\n")][..], passed()),
            (&redis, &[Some("+PO"), Some("NG\r\n")], passed()),
            (&redis, &[Some("+PO")], Want::Receive),
            (&redis, &[], Want::Receive),
            (&redis, &[Some("-ERR"), None], failed("TCPCHK did not match content '+PONG' at step 2")),
            (&redis, &[None], failed("TCPCHK got an empty response at step 2")),
            (&[regex("^220 .*\r\n")], &[Some("220 mail\r\n")], passed()),
            (
                &[regex("^220")],
                &[Some("421"), None],
                failed("TCPCHK did not match content regex '^220' at step 1"),
            ),
            (&[reject("-ERR")], &[Some("+OK\r\n")], passed()),
            (&[reject("-ERR")], &[Some("+OK")], Want::Receive),
            (&[reject("-ERR")], &[Some("+OK"), None], passed()),
            (&[reject("-ERR")], &[None], failed("TCPCHK got an empty response at step 1")),
            (
                &[reject("-ERR")],
                &[Some("-ER"), Some("R no")],
                failed("TCPCHK matched unwanted content '-ERR' at step 1"),
            ),
            (&[expect("a"), expect("b")], &[Some("ab")], passed()),
            (&[expect("a"), ping, expect("a")], &[Some("a")], Want::Receive),
            (&[], &[], Want::Done(Found::new(CheckStatus::L4Ok, ""))),
        ] {
            assert_eq!(play(steps, server), wanted, "{steps:?} {server:?}");
        }
    }

    #[test]
    fn bytes_need_not_be_text() {
        let steps = [CheckStep::ExpectString(vec![0, 0xff]), CheckStep::ExpectRegex("(?-u)\\xfe$".into())];
        let script = Script::new(&steps);
        let mut dialogue = script.start();
        dialogue.handle_bytes(&[1, 0, 0xff]);
        assert_eq!(dialogue.next(), Want::Receive);
        assert_eq!(dialogue.place(), "at step 2 of tcp-check (expect regex '(?-u)\\xfe$')");
        dialogue.handle_bytes(&[0xfe]);
        assert!(matches!(dialogue.next(), Want::Done(found) if found.status == CheckStatus::L7Ok));
    }

    #[test]
    fn an_endless_answer_ends() {
        let script = Script::new(&[expect("never")]);
        let mut dialogue = script.start();
        for _ in 0..CHECK_BYTES_MAX {
            dialogue.handle_bytes(b"xxxx");
        }
        assert_eq!(dialogue.received.len(), CHECK_BYTES_MAX);
        assert!(matches!(dialogue.next(), Want::Done(found) if found.status == CheckStatus::L7Response));
    }
}

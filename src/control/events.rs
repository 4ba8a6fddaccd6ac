//! Events of the data cores and of this core as log lines. An event that repeats is counted instead of logged again, so
//! that a flood of one kind does not bury the others.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use ahash::AHashMap;
use tracing::{error, info, warn};

use crate::base::limits::{CAPTURES_MAX, LOG_REPEAT, LOG_REPEAT_TEXTS_MAX, PROCESS_RING_BYTES};
use crate::base::time::Now;
use crate::control::cli::Captured;
use crate::control::log_ring::EventRing;
use crate::control::logs::Outlets;
use crate::model::Model;
use crate::model::log::Ring;
use crate::proxy::capture::Malformed;
use crate::proxy::message::Event;
use crate::rt;

/// How bad it is, in HAProxy's terms.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Level {
    /// Good to know.
    Notice,
    /// Something is not as it should be.
    Warning,
    /// Traffic suffers.
    Alert,
}

impl Level {
    /// That of syslog.
    pub(super) fn number(self) -> u8 {
        match self {
            Level::Notice => 5,
            Level::Warning => 4,
            Level::Alert => 1,
        }
    }
}

/// The log of this core.
pub(super) struct Events {
    repeats: RefCell<Repeats>,
    /// The last malformed messages.
    pub(super) captures: RefCell<Captures>,
    /// Targets beside the log of the process itself.
    targets: Rc<Outlets>,
    /// The last lines, for `show events process`.
    pub(super) ring: Rc<EventRing>,
}

/// The last malformed messages.
#[derive(Default)]
pub(super) struct Captures {
    count: u64,
    kept: VecDeque<Captured>,
}

impl Captures {
    fn push(&mut self, malformed: Malformed) {
        if self.kept.len() == CAPTURES_MAX {
            self.kept.pop_front();
        }
        self.count += 1;
        self.kept.push_back(Captured { number: self.count, at: SystemTime::now(), malformed });
    }

    /// How many came, and the last of them, newest first.
    pub(super) fn all(&self) -> (u64, Vec<Captured>) {
        (self.count, self.kept.iter().rev().cloned().collect())
    }
}

impl Events {
    /// With these targets beside the log of the process itself.
    pub(super) fn new(targets: Rc<Outlets>) -> Events {
        let ring = EventRing::new(Ring {
            name: "process".to_owned(),
            size: PROCESS_RING_BYTES,
            description: "what the process logged: states of servers, reloads, changes by administrators"
                .to_owned(),
        });
        Events { repeats: RefCell::default(), captures: RefCell::default(), targets, ring: Rc::new(ring) }
    }

    fn write(&self, level: Level, text: &str) {
        match level {
            level if level.number() > self.targets.local_level() => {}
            Level::Notice => info!("{text}"),
            Level::Warning => warn!("{text}"),
            Level::Alert => error!("{text}"),
        }
        self.targets.event(level, text);
        let word = match level {
            Level::Notice => "INFO",
            Level::Warning => "WARN",
            Level::Alert => "ERROR",
        };
        self.ring.push(format!("{:.3} {word} {text}", jiff::Timestamp::now()).as_bytes());
    }

    /// Logs what an operator did, each time.
    pub(super) fn audit(&self, text: &str) {
        self.write(Level::Notice, &format!("admin: {text}"));
    }

    /// Logs a text, unless it was logged moments ago: then it is counted.
    pub(super) fn say(&self, level: Level, text: String) {
        let fresh = self.repeats.borrow_mut().push(level, &text, rt::now());
        if fresh {
            self.write(level, &text);
        }
    }

    /// Once a second: tells how often events were repeated.
    pub(super) fn tick(&self) {
        let told = self.repeats.borrow_mut().expire(rt::now());
        for (level, text) in told {
            self.write(level, &text);
        }
    }

    /// At the end: tells the same of all events.
    pub(super) fn finish(&self) {
        let told = self.repeats.borrow_mut().expire(Now(u64::MAX));
        for (level, text) in told {
            self.write(level, &text);
        }
    }

    /// Logs what a data core reports.
    pub(super) fn report(&self, event: Event, model: &Model) {
        match event {
            Event::Malformed(malformed) => self.captures.borrow_mut().push(*malformed),
            other => {
                let (level, text) = text(&other, model);
                self.say(level, text);
            }
        }
    }
}

fn text(event: &Event, model: &Model) -> (Level, String) {
    match event {
        Event::AcceptPaused { core, bind, error } => {
            let (frontend, bind) = names(model, *bind);
            (Level::Alert, format!("core {} pauses accepting on {frontend}/{bind}: {error}", core.0))
        }
        Event::AcceptResumed { core, bind } => {
            let (frontend, bind) = names(model, *bind);
            (Level::Notice, format!("core {} accepts again on {frontend}/{bind}", core.0))
        }
        Event::Shortage { core, error } => {
            let help = "raise the limit of open files (LimitNOFILE in the unit) or lower maxconn";
            (Level::Alert, format!("core {} cannot open connections to servers: {error}; {help}", core.0))
        }
        Event::BuffersExhausted(core) => {
            let max = model.global.buffers_max;
            let help = "raise it, or find out who sends and is not read (show sess)";
            let text = format!(
                "core {} has all {max} receive buffers in use (tune.buffers-max): connections wait; {help}",
                core.0
            );
            (Level::Alert, text)
        }
        Event::SourcePortsExhausted { server, used, waiting } => {
            let server = &model.servers[*server];
            let backend = &model.backends[server.backend].name;
            let text = format!(
                "no free source port towards {backend}/{}: {used} in use, {waiting} in TIME_WAIT; add addresses or ports to \
                 its source",
                server.name
            );
            (Level::Alert, text)
        }
        Event::QueueFull(id) => {
            (Level::Warning, format!("the queue of backend {} is full", model.backends[*id].name))
        }
        Event::Malformed(malformed) => (Level::Notice, malformed.reason.to_owned()),
        Event::Flood { frontend, client, flood } => {
            let name = &model.frontends[*frontend].name;
            let text = format!("frontend {name}: HTTP/2 connection of {client} closed: {}", flood.text());
            (Level::Warning, text)
        }
    }
}

fn names(model: &Model, bind: crate::base::id::ListenerId) -> (&str, &str) {
    let bind = &model.binds[bind];
    (&model.frontends[bind.frontend].name, &bind.name)
}

/// Which texts were logged moments ago, and how often they were left out since.
#[derive(Default)]
struct Repeats {
    recent: AHashMap<(Level, String), (Now, u64)>,
}

impl Repeats {
    /// Whether the text is to be logged now.
    fn push(&mut self, level: Level, text: &str, now: Now) -> bool {
        if let Some((_, count)) = self.recent.get_mut(&(level, text.to_owned())) {
            *count += 1;
            return false;
        }
        if self.recent.len() < LOG_REPEAT_TEXTS_MAX {
            self.recent.insert((level, text.to_owned()), (now, 0));
        }
        true
    }

    /// Forgets what was logged long ago; the summaries of what was left out.
    fn expire(&mut self, now: Now) -> Vec<(Level, String)> {
        let mut told = Vec::new();
        self.recent.retain(|(level, text), (since, count)| {
            let elapsed: Duration = now.since(*since);
            if elapsed < LOG_REPEAT {
                return true;
            }
            if *count > 0 {
                told.push((*level, format!("{text} (repeated {count} times)")));
            }
            false
        });
        told.sort_by(|a, b| a.1.cmp(&b.1));
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_where_and_what_to_do() {
        let config = "[global]\ntune.buffers-max = 64\n[defaults]\ntimeout.connect = \"1s\"\ntimeout.client = \"1s\"\n\
            timeout.server = \"1s\"\n[frontend.fe]\nbind = [{ address = \"127.0.0.1:0\", name = \"b\" }]\n\
            default-backend = \"be\"\n[backend.be.server.s1]\naddress = \"127.0.0.1:1\"\n";
        let (model, diagnostics) =
            crate::control::load::from_text("t.toml", config).expect("the machine is known");
        let model = model.unwrap_or_else(|| panic!("{diagnostics:?}"));
        let core = crate::base::id::CoreId(3);
        let bind = crate::base::id::ListenerId(0);
        let error = "Too many open files".to_owned();
        for (event, level, said) in [
            (
                Event::AcceptPaused { core, bind, error: error.clone() },
                Level::Alert,
                "core 3 pauses accepting on fe/b: Too many open files",
            ),
            (Event::AcceptResumed { core, bind }, Level::Notice, "core 3 accepts again on fe/b"),
            (Event::Shortage { core, error }, Level::Alert, "LimitNOFILE"),
            (Event::BuffersExhausted(core), Level::Alert, "all 64 receive buffers in use (tune.buffers-max)"),
            (
                Event::SourcePortsExhausted { server: crate::base::id::ServerId(0), used: 5, waiting: 2 },
                Level::Alert,
                "no free source port towards be/s1: 5 in use, 2 in TIME_WAIT; add",
            ),
            (
                Event::QueueFull(crate::base::id::BackendId(0)),
                Level::Warning,
                "the queue of backend be is full",
            ),
        ] {
            let (found, words) = text(&event, &model);
            assert!(found == level && words.contains(said), "{found:?} {words}");
        }
    }

    fn s(n: u64) -> Now {
        Now(n * 1_000_000_000)
    }

    #[test]
    fn a_repeated_event_is_counted_and_told_once() {
        let mut repeats = Repeats::default();
        assert!(repeats.push(Level::Alert, "full", s(1)));
        assert!(!repeats.push(Level::Alert, "full", s(2)));
        assert!(repeats.push(Level::Notice, "full", s(2)), "another level is another event");
        assert!(!repeats.push(Level::Alert, "full", s(3)));
        assert!(repeats.expire(s(10)).is_empty());
        assert_eq!(repeats.expire(s(11)), [(Level::Alert, "full (repeated 2 times)".to_owned())]);
        assert!(repeats.push(Level::Alert, "full", s(11)), "then it is news again");
    }

    #[test]
    fn what_does_not_repeat_is_not_told_again() {
        let mut repeats = Repeats::default();
        assert!(repeats.push(Level::Notice, "once", s(1)));
        assert!(repeats.expire(s(60)).is_empty() && repeats.recent.is_empty());
    }

    #[test]
    fn more_texts_than_the_bound_are_all_logged() {
        let mut repeats = Repeats::default();
        for n in 0..LOG_REPEAT_TEXTS_MAX {
            assert!(repeats.push(Level::Notice, &n.to_string(), s(1)));
        }
        assert!(
            repeats.push(Level::Notice, "one more", s(1)) && repeats.push(Level::Notice, "one more", s(1))
        );
        assert_eq!(repeats.recent.len(), LOG_REPEAT_TEXTS_MAX);
    }
}

//! Everything the control core knows, and its tasks. `run` starts it; `stop` ends it; `servers`, `checks`, `weights` and
//! `admin` are the parts that change something.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use crate::base::id::{CoreId, IdVec, ListenerId, ServerId};
use crate::base::rng::Rng;
use crate::base::time::Now;
use crate::control::checks::Probes;
use crate::control::descriptors::Budget;
use crate::control::events::{Events, Level};
use crate::control::gather::Gathers;
use crate::control::listeners;
use crate::control::log_sink::LogSink;
use crate::control::logs::{Logs, Outlets};
use crate::control::resolve::{Name, Resolved};
use crate::control::servers::States;
use crate::live::{BindState, Live};
use crate::model::Model;
use crate::proxy::message::{ToControl, ToCore};
use crate::proxy::worker;
use crate::rt::{self, Mailbox, Receiver, Sender, Signal, Signals};
use crate::stats::collector::Collector;
use crate::stats::counters::Shard;
use crate::stats::history::History;
use crate::stats::latency::Latency;
use crate::stats::process::CoreStat;

/// Time between looks at rates, repeated events and binds that wait.
const TICK: Duration = Duration::from_secs(1);

/// What wakes the main task of the control core.
#[derive(Debug)]
pub(super) enum Notice {
    /// A data core runs.
    Started,
    /// A data core has ended.
    Gone(CoreId),
    /// No session is left on a core.
    Drained(CoreId),
    /// The process was told something.
    Signal(Signal),
    /// A name was looked up.
    Resolved(Resolved),
}

/// What the control core starts with; it travels to its thread.
pub(super) struct Start {
    pub(super) model: Arc<Model>,
    pub(super) live: Live,
    /// Those of the data cores, then this core's own.
    pub(super) shards: Vec<Shard>,
    pub(super) cores: Vec<Sender<ToCore>>,
    pub(super) notices: Mailbox<Notice>,
    pub(super) inbox: Mailbox<ToControl>,
    pub(super) addresses: IdVec<ListenerId, String>,
    pub(super) waiting: Vec<(ListenerId, String)>,
    pub(super) signals: Signals,
    pub(super) log: LogSink,
    pub(super) logs: Logs,
    pub(super) process: Process,
    /// The sockets of each data core, handed over when the process is ready for connections.
    pub(super) sockets: Vec<Vec<(ListenerId, OwnedFd)>>,
    pub(super) companion: Option<Companion>,
    /// What is to be done once the process serves.
    pub(super) on_ready: Option<crate::control::run::OnReady>,
}

/// Called on the control core once everything listens, with the address of each bind; it may start tasks there.
pub type Companion = Box<dyn FnOnce(&[String]) + Send>;

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) budget: Budget,
    pub(super) open_files: u64,
    pub(super) warnings: u64,
    /// UNIX time of the start.
    pub(super) started: Duration,
    /// From the start to the first accept.
    pub(super) boot_time: Duration,
}

/// The control core.
pub(super) struct Control {
    pub(super) model: Arc<Model>,
    pub(super) live: Live,
    /// This core's own counters.
    pub(super) cells: Shard,
    pub(super) cores: Vec<Sender<ToCore>>,
    pub(super) notices: Sender<Notice>,
    pub(super) collector: RefCell<Collector>,
    pub(super) latency: RefCell<Latency>,
    pub(super) history: RefCell<History>,
    pub(super) names: RefCell<Vec<Name>>,
    pub(super) states: RefCell<States>,
    pub(super) probes: RefCell<Probes>,
    pub(super) addresses: RefCell<IdVec<ListenerId, String>>,
    /// Binds that could not be bound yet, and why.
    waiting: RefCell<Vec<(ListenerId, String)>>,
    pub(super) gathers: Gathers,
    pub(super) events: Events,
    pub(super) log: LogSink,
    /// Where log lines go.
    pub(super) logs: Rc<Outlets>,
    pub(super) process: Process,
    pub(super) started: Now,
    pub(super) rng: RefCell<Rng>,
    pub(super) admin_connections: Cell<usize>,
    /// Files of admin sockets: path, device and inode.
    pub(super) admin_files: RefCell<Vec<(PathBuf, (u64, u64))>>,
    /// Itself, for tasks that it starts.
    me: Weak<Control>,
}

impl Control {
    /// Takes over on this core. The receivers go to its main tasks.
    pub(super) fn new(start: Start) -> (Rc<Control>, Receiver<Notice>, Receiver<ToControl>, Signals) {
        let now = rt::now();
        let Start {
            model,
            live,
            shards,
            cores,
            notices,
            inbox,
            addresses,
            waiting,
            signals,
            log,
            logs,
            process,
            ..
        } = start;
        let cells = shards.last().cloned().unwrap_or_default();
        let data_cores = shards.len().saturating_sub(1);
        let logs = Rc::new(Outlets::new(logs));
        let control = Rc::new_cyclic(|me| Control {
            collector: RefCell::new(Collector::new(shards, data_cores, now)),
            latency: RefCell::default(),
            history: RefCell::default(),
            names: RefCell::default(),
            states: RefCell::new(States::new(&model, now)),
            probes: RefCell::default(),
            addresses: RefCell::new(addresses),
            waiting: RefCell::new(waiting),
            gathers: Gathers::default(),
            events: Events::new(logs.clone()),
            started: now,
            rng: RefCell::new(Rng::new(now.0)),
            notices: notices.sender(),
            admin_connections: Cell::new(0),
            admin_files: RefCell::default(),
            model,
            live,
            cells,
            cores,
            log,
            logs,
            process,
            me: me.clone(),
        });
        (control, notices.receiver(), inbox.receiver(), signals)
    }

    /// Itself, for a task.
    pub(super) fn strong(&self) -> Rc<Control> {
        self.me.upgrade().expect("a method runs, so it is alive")
    }

    /// Tells all data cores.
    pub(super) fn broadcast(&self, message: impl Fn() -> ToCore) {
        for core in &self.cores {
            core.send(message());
        }
    }

    /// Logs something about this process.
    pub(super) fn say(&self, level: Level, text: String) {
        self.events.say(level, text);
    }

    /// `backend/server`, as HAProxy names it.
    pub(super) fn server_name(&self, id: ServerId) -> String {
        let server = &self.model.servers[id];
        format!("{}/{}", self.model.backends[server.backend].name, server.name)
    }

    /// Says where everything listens.
    pub(super) fn say_ready(&self) {
        for (id, bind) in self.model.binds.iter() {
            let frontend = &self.model.frontends[bind.frontend].name;
            let address = &self.addresses.borrow()[id];
            let waiting = self.waiting.borrow().iter().find(|(w, _)| *w == id).map(|(_, why)| why.clone());
            match waiting {
                None => self.say(Level::Notice, format!("frontend {frontend} listens on {address}")),
                Some(why) => {
                    let text = format!("frontend {frontend} cannot listen on {address} yet: {why}");
                    self.say(Level::Warning, text);
                }
            }
        }
        let (cores, maxconn) = (self.cores.len(), self.process.budget.maxconn);
        self.say(Level::Notice, format!("ready: {cores} data cores, maxconn {maxconn}"));
    }

    fn tick(&self) {
        let now = rt::now();
        self.collector.borrow_mut().tick(now);
        self.latency.borrow_mut().tick();
        self.note_history(now);
        self.events.tick();
        self.cells.core.set(CoreStat::DroppedLogs, self.log.dropped() + self.logs.dropped());
        worker::publish_runtime(&self.cells.core);
    }

    /// Tries the binds again that could not be bound.
    fn retry_binds(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for (id, why) in waiting {
            let bind = &self.model.binds[id];
            match listeners::open(bind, &self.model.global.cores) {
                Ok((sockets, address)) => {
                    for (core, socket) in self.cores.iter().zip(sockets) {
                        core.send(ToCore::Listen { bind: id, socket });
                    }
                    let frontend = &self.model.frontends[bind.frontend].name;
                    self.say(Level::Notice, format!("frontend {frontend} listens on {address} now"));
                    self.addresses.borrow_mut()[id] = address;
                    self.live.binds[id].set_state(BindState::Listening);
                }
                Err(e) => {
                    let now = rt::error::words(&e);
                    if now != why {
                        self.say(Level::Warning, listeners::complaint(&self.model, bind, &e));
                    }
                    self.waiting.borrow_mut().push((id, now));
                }
            }
        }
    }

    /// No bind is tried again: the process stops.
    pub(super) fn forget_waiting_binds(&self) {
        self.waiting.borrow_mut().clear();
    }
}

/// Once a second, as long as the process runs.
pub(super) async fn tick(control: Rc<Control>) {
    let mut next = rt::now();
    loop {
        control.tick();
        control.retry_binds();
        // A late tick does not make the next one early.
        next = (next + TICK).max(rt::now());
        rt::sleep_until(next).await;
    }
}

/// Reads what the data cores say.
pub(super) async fn read_mail(control: Rc<Control>, inbox: Receiver<ToControl>) {
    loop {
        match inbox.recv().await {
            ToControl::Logs => control.logs.wake(),
            ToControl::Event(event) => control.events.report(event, &control.model),
            ToControl::ErrorLimit(server) => control.on_error_limit(server),
            ToControl::Sessions { reply, rows } => control.gathers.answer(reply, rows, Vec::new()),
            ToControl::Ports { reply, rows } => control.gathers.answer(reply, Vec::new(), rows),
            ToControl::Timers { core, mut batch } => {
                control.latency.borrow_mut().take(&mut batch);
                control.cores[core.0 as usize].send(ToCore::Timers(batch));
            }
            ToControl::Drained(core) => control.notices.send(Notice::Drained(core)),
        }
    }
}

/// Reads signals.
pub(super) async fn read_signals(control: Rc<Control>, signals: Signals) {
    loop {
        match signals.next().await {
            Ok(signal) => control.notices.send(Notice::Signal(signal)),
            Err(e) => {
                control.say(Level::Alert, format!("cannot read signals any more: {e}"));
                return;
            }
        }
    }
}

//! Everything the control core knows, and its tasks. `run` starts it; `stop` ends it; `servers`, `checks`, `weights` and
//! `admin` are the parts that change something.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use crate::base::id::{CoreId, IdVec, ListenerId, ServerId};
use crate::base::limits::OVERRIDES_MAX;
use crate::base::rng::Rng;
use crate::base::time::Now;
use crate::control::admin;
use crate::control::certificates::Certificates;
use crate::control::checks::Probes;
use crate::control::descriptors::Budget;
use crate::control::events::{Events, Level};
use crate::control::gather::Gathers;
use crate::control::generations::Generations;
use crate::control::listeners::{self, Made};
use crate::control::load::Source;
use crate::control::log_ring::EventRing;
use crate::control::log_sink::LogSink;
use crate::control::logs::{Logs, Outlets};
use crate::control::ocsp::{Answers, Ocsp};
use crate::control::reload::{Loaded, Reload};
use crate::control::resolve::{Name, Names, Resolved};
use crate::control::servers::States;
use crate::control::state::file::StateFile;
use crate::control::state::overrides::{Override, Overrides};
use crate::control::statistics::KeptPercentiles;
use crate::control::takeover::Legacy;
use crate::control::trial::Trial;
use crate::control::vip::Vips;
use crate::live::{BindState, Live};
use crate::model::Model;
use crate::proxy::message::{ToControl, ToCore};
use crate::proxy::password::Passwords;
use crate::proxy::worker;
use crate::rt::{self, Mailbox, Receiver, Sender, Signal, Signals};
use crate::stats::collector::Collector;
use crate::stats::counters::Shard;
use crate::stats::history::History;
use crate::stats::latency::{Histograms, Latency};
use crate::stats::process::CoreStat;
use crate::tls;

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
    /// Another process accepts from all sockets: this one may go.
    HandedOver,
    /// A configuration was read.
    Loaded(Box<Loaded>),
    /// A thread has something for the log.
    Said(String),
    /// Responders were asked about certificates.
    Asked(Box<Answers>),
}

/// What the control core starts with; it travels to its thread.
pub(super) struct Start {
    pub(super) model: Arc<Model>,
    pub(super) live: Live,
    pub(super) tls: Arc<tls::Store>,
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
    /// The threads that check passwords.
    pub(super) passwords: Passwords,
    /// Bytes of the model, with the copies of all cores.
    pub(super) model_bytes: u64,
    /// What the state file tells.
    pub(super) memory: crate::control::run::Memory,
    pub(super) companion: Option<Companion>,
    /// What is to be done once the process serves.
    pub(super) on_ready: Option<crate::control::run::OnReady>,
    /// Sockets of the process before, as far as they are not in use yet.
    pub(super) legacy: Legacy,
    /// Files of sockets that nobody serves yet.
    pub(super) made: Made,
}

/// Called on the control core once everything listens, with the address of each bind; it may start tasks there.
pub type Companion = Box<dyn FnOnce(&[String]) + Send>;

/// The configuration that the process was started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it is.
    pub source: Source,
    /// What stood in it.
    pub text: Arc<str>,
    /// What the command line says of `maxconn`, whatever stands there.
    pub maxconn: Option<u32>,
}

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) budget: Budget,
    pub(super) open_files: u64,
    /// Pipes of a core at most that descriptors were kept for.
    pub(super) pipes_max: u32,
    pub(super) warnings: u64,
    /// What may be done inside the sandbox, and what is in force; `None`: there is none.
    pub(super) sandbox: Option<(rt::sandbox::Needs, rt::sandbox::InForce)>,
    /// Name of the socket behind which the control core answers requests.
    pub(super) web_socket: String,
    /// The configuration that it was started with.
    pub(super) config: Option<Config>,
    /// What the command line says about admin sockets.
    pub(super) admin: admin::Settings,
    /// UNIX time of the start.
    pub(super) started: Duration,
    /// From the start to the first accept.
    pub(super) boot_time: Duration,
}

/// The control core as one generation of the configuration sees it. Tasks that outlive a generation hold the
/// [`ControlBase`] and ask it for the current one.
pub(super) struct Control {
    base: Rc<ControlBase>,
    pub(super) model: Arc<Model>,
    pub(super) live: Live,
    /// Certificates.
    pub(super) tls: RefCell<Arc<tls::Store>>,
    /// How health checks shake hands.
    pub(super) tls_checks: RefCell<tls::Servers>,
    /// This core's own counters.
    pub(super) cells: Shard,
    pub(super) states: RefCell<States>,
    pub(super) addresses: RefCell<IdVec<ListenerId, String>>,
    /// Binds that could not be bound yet, and why.
    pub(super) waiting: RefCell<Vec<(ListenerId, String)>>,
    /// What was computed since the last tick, for whoever asks next.
    pub(super) percentiles: RefCell<KeptPercentiles>,
    /// Itself, for tasks that it starts.
    me: Weak<Control>,
}

/// What the control core has whatever the configuration is.
pub(super) struct ControlBase {
    /// There from the start on.
    current: RefCell<Option<Rc<Control>>>,
    pub(super) generations: RefCell<Generations>,
    pub(super) reload: Reload,
    pub(super) trial: RefCell<Option<Trial>>,
    pub(super) cores: Vec<Sender<ToCore>>,
    pub(super) notices: Sender<Notice>,
    pub(super) collector: RefCell<Collector>,
    pub(super) latency: RefCell<Latency>,
    /// Room to sum percentiles up once a second; empty in between.
    pub(super) room: RefCell<(Histograms, Histograms)>,
    pub(super) history: RefCell<History>,
    pub(super) names: RefCell<Vec<Name>>,
    pub(super) probes: RefCell<Probes>,
    pub(super) gathers: Gathers,
    /// OCSP responses that are kept fresh.
    pub(super) ocsp: Ocsp,
    /// Orders about certificates that are under way.
    pub(super) certificates: Certificates,
    /// Names that are looked up.
    pub(super) followed: Names,
    pub(super) events: Events,
    pub(super) log: LogSink,
    /// Where log lines go.
    pub(super) logs: Rc<Outlets>,
    pub(super) process: Process,
    pub(super) started: Now,
    pub(super) rng: RefCell<Rng>,
    pub(super) admin_connections: Cell<usize>,
    /// What keepalived and operators said of addresses that move between nodes.
    pub(super) vips: RefCell<Vips>,
    /// What runs otherwise than configured.
    pub(super) overrides: RefCell<Overrides>,
    /// What the last switch dropped of it.
    pub(super) dropped: RefCell<Vec<Override>>,
    /// Remembers it.
    pub(super) state_file: RefCell<Option<StateFile>>,
    /// Admin sockets that listen.
    pub(super) admin_gates: RefCell<Vec<Rc<admin::Gate>>>,
    /// The threads that check passwords.
    pub(super) passwords: RefCell<Passwords>,
    /// Another process has taken over: files of sockets and of state are its own, and admin connections too.
    pub(super) handed_over: Cell<bool>,
    /// The sockets of binds are with the service manager: the files of UNIX sockets stay for the process that comes next.
    pub(super) left_behind: Cell<bool>,
}

impl Deref for Control {
    type Target = ControlBase;
    fn deref(&self) -> &ControlBase {
        &self.base
    }
}

/// What a generation begins with on the control core.
pub(super) struct View {
    pub(super) model: Arc<Model>,
    pub(super) live: Live,
    pub(super) tls: Arc<tls::Store>,
    pub(super) cells: Shard,
    pub(super) states: States,
    pub(super) addresses: IdVec<ListenerId, String>,
    pub(super) waiting: Vec<(ListenerId, String)>,
}

impl ControlBase {
    /// The generation that runs.
    pub(super) fn current(&self) -> Rc<Control> {
        self.current.borrow().clone().expect("set when the control core starts")
    }

    /// Goes on with another generation.
    pub(super) fn switch(self: &Rc<Self>, view: View) -> Rc<Control> {
        let View { model, live, tls, cells, states, addresses, waiting } = view;
        let tls_checks = tls::Servers::of_checks(&model, &tls).expect("configurations that were made before");
        let control = Rc::new_cyclic(|me| Control {
            base: self.clone(),
            model,
            live,
            tls: RefCell::new(tls),
            tls_checks: RefCell::new(tls_checks),
            cells,
            states: RefCell::new(states),
            addresses: RefCell::new(addresses),
            waiting: RefCell::new(waiting),
            percentiles: RefCell::default(),
            me: me.clone(),
        });
        let before = self.current.replace(Some(control.clone()));
        drop(before);
        control
    }

    /// Tells all data cores.
    pub(super) fn broadcast(&self, message: impl Fn() -> ToCore) {
        for core in &self.cores {
            core.send(message());
        }
    }

    /// Another process accepts from all sockets.
    pub(super) fn hand_over(&self) {
        self.handed_over.set(true);
        self.admin_gates.borrow().iter().for_each(|gate| gate.close());
        drop(self.state_file.take());
        self.notices.send(Notice::HandedOver);
    }

    /// Logs something about this process.
    pub(super) fn say(&self, level: Level, text: String) {
        self.events.say(level, text);
    }

    /// The rings of the configuration, and the one with what the process logged itself.
    pub(super) fn rings(&self) -> Vec<Rc<EventRing>> {
        let mut rings = self.logs.rings();
        rings.push(self.events.ring.clone());
        rings
    }
}

impl Control {
    /// Takes over on this core. The receivers go to its main tasks.
    pub(super) fn new(start: Start) -> (Rc<Control>, Receiver<Notice>, Receiver<ToControl>, Signals) {
        let now = rt::now();
        let Start {
            model,
            live,
            tls,
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
            model_bytes,
            passwords,
            ..
        } = start;
        let cells = shards.last().cloned().unwrap_or_default();
        let data_cores = shards.len().saturating_sub(1);
        let logs = Rc::new(Outlets::new(logs));
        let base = Rc::new(ControlBase {
            current: RefCell::new(None),
            generations: RefCell::new(Generations::new(&model, &process, cores.len(), now)),
            reload: Reload::default(),
            trial: RefCell::default(),
            collector: RefCell::new(Collector::new(shards, data_cores, now)),
            latency: RefCell::default(),
            room: RefCell::default(),
            history: RefCell::default(),
            names: RefCell::default(),
            probes: RefCell::default(),
            gathers: Gathers::default(),
            ocsp: Ocsp::default(),
            certificates: Certificates::default(),
            followed: Names::default(),
            events: Events::new(logs.clone()),
            started: now,
            rng: RefCell::new(Rng::new(now.0)),
            notices: notices.sender(),
            admin_connections: Cell::new(0),
            vips: RefCell::default(),
            overrides: RefCell::new(Overrides::new(OVERRIDES_MAX)),
            dropped: RefCell::default(),
            state_file: RefCell::default(),
            admin_gates: RefCell::default(),
            passwords: RefCell::new(passwords),
            handed_over: Cell::new(false),
            left_behind: Cell::new(false),
            cores,
            log,
            logs,
            process,
        });
        base.generations.borrow_mut().note_memory(1, model_bytes);
        let states = States::new(&model, now);
        let control = base.switch(View { model, live, tls, cells, states, addresses, waiting });
        (control, notices.receiver(), inbox.receiver(), signals)
    }

    /// What this core has in every generation.
    pub(super) fn base(&self) -> &Rc<ControlBase> {
        &self.base
    }

    /// Whether this is the generation that runs.
    pub(super) fn is_current(&self) -> bool {
        self.base.current.borrow().as_ref().is_some_and(|current| std::ptr::eq(Rc::as_ptr(current), self))
    }

    /// Itself, for a task.
    pub(super) fn strong(&self) -> Rc<Control> {
        self.me.upgrade().expect("a method runs, so it is alive")
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
        self.tend_certificates(now);
        self.expire_overrides();
        self.tend_ocsp(now);
        self.events.tick();
        self.cells.core.set(CoreStat::DroppedLogs, self.log.dropped() + self.logs.dropped());
        let dropped = self.collector.borrow().total(CoreStat::DroppedLogs);
        for (level, text) in self.logs.news(dropped, now) {
            self.events.say(level, text);
        }
        worker::publish_runtime(&self.cells.core, None);
    }

    /// Tries the binds again that could not be bound.
    fn retry_binds(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for (id, why) in waiting {
            let bind = &self.model.binds[id];
            match listeners::open(bind, &self.model.global.cores, None) {
                Ok((sockets, address)) => {
                    for (core, socket) in sockets {
                        self.cores[core].send(ToCore::Listen { bind: self.live.binds[id].key, socket });
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
pub(super) async fn tick(base: Rc<ControlBase>) {
    let mut next = rt::now();
    loop {
        let control = base.current();
        control.tick();
        control.retry_binds();
        drop(control);
        // A late tick does not make the next one early.
        next = (next + TICK).max(rt::now());
        rt::sleep_until(next).await;
    }
}

/// Reads what the data cores say.
pub(super) async fn read_mail(base: Rc<ControlBase>, inbox: Receiver<ToControl>) {
    loop {
        match inbox.recv().await {
            ToControl::Logs => base.logs.wake(),
            ToControl::Event { generation, event } => {
                let model = base.generations.borrow().model(generation);
                if let Some(model) = model {
                    base.events.report(event, &model);
                }
            }
            ToControl::ErrorLimit(server) => {
                let control = base.current();
                // A server that is gone by now needs no judgement.
                if let Some(id) = control.live.find_server(&server) {
                    control.on_error_limit(id);
                }
            }
            ToControl::Sessions { reply, rows } => base.gathers.answer(reply, |told| told.rows.extend(rows)),
            ToControl::Ports { reply, rows } => base.gathers.answer(reply, |told| told.ports.extend(rows)),
            ToControl::StickAdmin { reply, told: part } => {
                base.gathers.answer(reply, |told| told.stick.push(*part));
            }
            ToControl::Listeners { reply, rows } => {
                base.gathers.answer(reply, |told| told.listeners.extend(rows))
            }
            ToControl::Alive { reply, core } => base.gathers.answer(reply, |told| told.alive.push(core)),
            ToControl::Timers { core, mut batch } => {
                base.latency.borrow_mut().take(&mut batch);
                base.cores[core.0 as usize].leave(ToCore::Timers(batch));
            }
            ToControl::Applied { generation, bytes, .. } => {
                base.generations.borrow_mut().note_memory(generation, bytes);
                base.reload.applied(generation);
            }
            ToControl::GenerationOver { generation, model, .. } => {
                drop(model);
                let unused = base.generations.borrow_mut().over(generation);
                if let Some(sets) = unused {
                    base.logs.release(sets);
                }
            }
            ToControl::Drained(core) => base.notices.send(Notice::Drained(core)),
        }
    }
}

/// Reads signals.
pub(super) async fn read_signals(base: Rc<ControlBase>, signals: Signals) {
    loop {
        match signals.next().await {
            Ok(signal) => base.notices.send(Notice::Signal(signal)),
            Err(e) => {
                base.say(Level::Alert, format!("cannot read signals any more: {e}"));
                return;
            }
        }
    }
}

//! `shardgate run`: from a model to a process that serves, and to its exit code. Opens everything that may fail before the
//! first thread starts, so that a process that cannot serve says so in one line and ends.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::id::{CoreId, Id};
use crate::control::core::{Companion, Config, Control, Notice, Process, Start};
use crate::control::events::Level;
use crate::control::listeners::{self, Opened};
use crate::control::log_sink::{self, LogSink};
use crate::control::logs::Logs;
use crate::control::notify::{self, notify};
use crate::control::state::journal::{HealthRecord, State};
use crate::control::takeover::Legacy;
use crate::control::{admin, checks, core, descriptors, load, resolve, sandbox, state, stop, watchdog, web};
use crate::live::{BindState, Live};
use crate::model::Model;
use crate::proxy::core::Generation;
use crate::proxy::message::ToCore;
use crate::proxy::password::Passwords;
use crate::proxy::worker::{self, Setup};
use crate::rt::sandbox::{InForce, Needs};
use crate::rt::{self, Booted, CoreSpec, Cores, Sender, Signals, StartError};
use crate::stats::counters::{Origins, Shard};
use crate::tls;

/// Receive buffers of the control core: answers to checks and admin commands are short.
const CONTROL_BUFFERS: u16 = 64;
/// The most that io_uring's ring of provided buffers holds.
const BUFFERS_MAX: u32 = 1 << 15;

/// How to run, beside the model.
#[derive(Default)]
pub struct Options {
    /// Warnings about the configuration (`TotalWarnings`).
    pub warnings: u64,
    /// Where the model comes from: what a reload reads again. `None`: it cannot be reloaded.
    pub config: Option<Config>,
    /// What the control core starts beside its own tasks: the origins of `shardgate demo`.
    pub companion: Option<Companion>,
    /// What is to be done once the process serves.
    pub on_ready: Option<OnReady>,
    /// The admin socket of a process to take over from.
    pub takeover: Option<PathBuf>,
    /// What the command line says about admin sockets.
    pub admin: admin::Settings,
}

/// See [`Options::on_ready`].
pub type OnReady = Box<dyn FnOnce() + Send>;

/// Runs the process until a signal ends it. Failure: it could not start, or a data core ended by itself; the reason is on
/// standard error.
pub fn run(model: Model, options: Options) -> ExitCode {
    match serve(model, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError(reasons)) => {
            for reason in reasons.lines() {
                eprintln!("error: {reason}");
            }
            ExitCode::FAILURE
        }
    }
}

fn serve(mut model: Model, options: Options) -> Result<(), StartError> {
    let web_socket = web::socket_name();
    model.name_internal_socket(web_socket.clone());
    let began = SystemTime::now();
    let wrong = |what: &str| {
        let what = what.to_owned();
        move |e: std::io::Error| StartError(format!("{what}: {e}"))
    };
    let sandbox = enter_sandbox(&model, &options.admin)?;
    let signals = Signals::install().map_err(wrong("cannot set up signals"))?;
    let log = LogSink::open(&model.global.log)
        .map_err(wrong(&format!("cannot open the log {}", model.global.log)))?;
    let open_files = rt::limits::raise_open_files().map_err(wrong("cannot raise the limit of open files"))?;
    let budget =
        descriptors::budget(open_files, descriptors::reserved(&model, open_files), model.global.maxconn);
    let tls = load::certificates(&model, None)?;
    let booted = rt::boot(specs(&model))?;
    let mut legacy = Legacy::find(options.takeover.as_deref())?;
    admin::check_sockets(&model, &legacy, &options.admin)?;
    let opened = listeners::open_all(&model, &model.global.cores, |_| true, &mut legacy)?;
    let memory = remembered(&model)?;
    log.install(log_sink::is_terminal(&model.global.log));
    if let Some(wanted) = model.global.maxconn.filter(|wanted| *wanted > budget.maxconn) {
        tracing::warn!(
            "maxconn {wanted} needs more file descriptors than the limit of {open_files} allows: it is {} now; raise the hard \
             limit (`ulimit -Hn`, LimitNOFILE= in the unit)",
            budget.maxconn
        );
    }
    let process = Process {
        budget,
        open_files,
        pipes_max: model.global.pipes_max,
        warnings: options.warnings,
        sandbox,
        web_socket,
        config: options.config,
        admin: options.admin,
        started: began.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO),
        boot_time: began.elapsed().unwrap_or(Duration::ZERO),
    };
    let Options { companion, on_ready, .. } = options;
    let setting = Setting { signals, log: log.clone(), process, tls, memory, companion, on_ready, legacy };
    let result = start_threads(model, booted, opened, setting);
    log.flush();
    result
}

/// Before anything is opened: what works at the start works after a reload.
fn enter_sandbox(model: &Model, admin: &admin::Settings) -> Result<Option<(Needs, InForce)>, StartError> {
    if !model.global.sandbox {
        return Ok(None);
    }
    let needs = sandbox::needs(model, &admin.more);
    match rt::sandbox::enter(&needs) {
        Ok(in_force) => Ok(Some((needs, in_force))),
        Err(e) => Err(StartError(format!("cannot enter the sandbox: {e}; sandbox = false runs without it"))),
    }
}

/// What the state file tells, and the lines of it that are of no use.
pub(super) type Memory = Option<(PathBuf, State, Vec<usize>)>;

fn remembered(model: &Model) -> Result<Memory, StartError> {
    let Some(path) = model.global.state_file.clone() else { return Ok(None) };
    let read = state::file::read(&path);
    let (state, torn) =
        read.map_err(|e| StartError(format!("cannot read the state file {}: {e}", path.display())))?;
    Ok(Some((path, state, torn)))
}

/// Knows what another process remembered, and goes on with its file. Called before an operator can say a word: whatever is changed
/// from then on is remembered, even while names are still looked up.
fn recall(control: &Control, memory: Memory) -> Result<Option<(String, Vec<HealthRecord>)>, StartError> {
    let Some((path, state, torn)) = memory else { return Ok(None) };
    let name = path.display();
    if !torn.is_empty() {
        let text = format!("{name}: lines {torn:?} are torn or were edited, and count for nothing");
        control.say(Level::Warning, text);
    }
    let file = control.open_state_file(&path, state.clone()).map_err(StartError)?;
    *control.state_file.borrow_mut() = Some(file);
    control.recall(state.overrides.into_values());
    Ok(Some((format!("from {name}"), state.health.into_values().collect())))
}

fn specs(model: &Model) -> Vec<CoreSpec> {
    let global = &model.global;
    let buffers = u16::try_from(global.buffers_max.clamp(1, BUFFERS_MAX)).unwrap_or(1 << 15);
    let data = global.cores.iter().enumerate().map(|(index, cpu)| CoreSpec {
        name: format!("core-{index}"),
        cpu: *cpu,
        buffers,
        narrow: global.sandbox,
    });
    let control = CoreSpec {
        name: "control".to_owned(),
        cpu: global.control_core,
        buffers: CONTROL_BUFFERS,
        narrow: false,
    };
    data.chain([control]).collect()
}

/// What the control core alone gets.
struct Setting {
    signals: Signals,
    log: LogSink,
    process: Process,
    /// For the data cores too.
    tls: Arc<tls::Store>,
    memory: Memory,
    companion: Option<Companion>,
    on_ready: Option<OnReady>,
    legacy: Legacy,
}

/// The last core of `booted` is the control core.
fn start_threads(
    model: Model,
    mut booted: Vec<Booted>,
    opened: Opened,
    setting: Setting,
) -> Result<(), StartError> {
    let Setting { signals, log, process, tls, memory, companion, on_ready, legacy } = setting;
    let Some(control_core) = booted.pop() else { return Ok(()) };
    let live = Live::new(&model, process.budget.maxconn);
    for id in model.binds.ids() {
        if !opened.waiting.iter().any(|(waiting, _)| *waiting == id) {
            live.binds[id].set_state(BindState::Listening);
        }
    }
    let none = Origins::none(model.sizes());
    let shards: Vec<Shard> = (0..=booted.len()).map(|_| Shard::default().next(&none)).collect();
    let data_shards: Arc<[Shard]> = shards[..booted.len()].into();

    let inbox = control_core.mailbox();
    let notices = control_core.mailbox();
    let inboxes: Vec<_> = booted.iter().map(|core| core.mailbox()).collect();
    let peers: Vec<Sender<ToCore>> = inboxes.iter().map(rt::Mailbox::sender).collect();
    let cpus = rt::machine::cpus().unwrap_or_else(|_| model.global.cores.clone());
    let passwords = Passwords::start(&model, &cpus)
        .map_err(|e| StartError(format!("cannot start a thread that checks passwords: {e}")))?;
    let (log_setups, mut logs) = Logs::new(booted.len());
    logs.open(&model.logging, &tls)?;
    let leader = peers.clone();
    let mut cores = Cores::new();
    let (mut copy_bytes, copies) = (0, booted.len() as u64 + 1);
    for (index, ((core, core_inbox), log)) in booted.into_iter().zip(inboxes).zip(log_setups).enumerate() {
        let id = CoreId::from_index(index);
        // Each core has its own allocation: no reference count is shared.
        let held = rt::alloc::held();
        let own = Arc::new(model.clone());
        copy_bytes = u64::try_from(rt::alloc::held() - held).unwrap_or(0);
        let setup = Setup {
            core: id,
            generation: Generation {
                model: own,
                live: live.clone(),
                shards: data_shards.clone(),
                tls: tls.clone(),
                first_log_set: 0,
                passwords: passwords.clone(),
            },
            inbox: core_inbox,
            peers: peers.clone(),
            control: inbox.sender(),
        };
        let alive = Alive { core: id, notices: notices.sender() };
        cores.start(core, move || {
            alive.notices.send(Notice::Started);
            async move {
                worker::run(setup, log).await;
                drop(alive);
            }
        })?;
    }
    let start = Start {
        model: Arc::new(model),
        live,
        tls,
        shards,
        cores: peers,
        notices,
        inbox,
        addresses: opened.addresses,
        waiting: opened.waiting,
        signals,
        log,
        logs,
        process,
        sockets: opened.sockets,
        model_bytes: copies * copy_bytes,
        passwords,
        memory,
        companion,
        on_ready,
        legacy,
        made: opened.made,
    };
    let outcome = Arc::new(OnceLock::new());
    let told = outcome.clone();
    let leader = Leader(leader);
    cores.start(control_core, move || async move {
        // Only this task sets it, once.
        let _ = told.set(control(start).await);
        drop(leader);
    })?;
    // An error of a core's thread says more than the control core's "has ended".
    cores.join()?;
    outcome.get().cloned().unwrap_or(Ok(()))
}

/// Lets the process go that this one replaces.
fn replace(control: &Control, legacy: Legacy) {
    match legacy.finish() {
        Ok(None) => {}
        Ok(Some(_)) => {
            control.own_state_file();
            control.say(Level::Notice, "the process before has handed over and leaves".to_owned());
        }
        Err(e) => control.say(Level::Alert, format!("the process before may go on, stop it by hand: {e}")),
    }
}

/// Lives as long as the control core: without it, and also if its thread never came to run, the data cores leave.
struct Leader(Vec<Sender<ToCore>>);

impl Drop for Leader {
    fn drop(&mut self) {
        self.0.iter().for_each(|core| core.send(ToCore::Exit));
    }
}

/// Lives as long as a data core: its end is noticed however it comes.
struct Alive {
    core: CoreId,
    notices: Sender<Notice>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.notices.send(Notice::Gone(self.core));
    }
}

/// The main task of the control core.
async fn control(mut start: Start) -> Result<(), StartError> {
    let sockets = std::mem::take(&mut start.sockets);
    let companion = start.companion.take();
    let on_ready = start.on_ready.take();
    let memory = start.memory.take();
    let mut legacy = std::mem::take(&mut start.legacy);
    let mut made = std::mem::take(&mut start.made);
    let mut serves = false;
    let (control, notices, inbox, signals) = Control::new(start);
    let base = control.base().clone();
    rt::spawn(core::read_signals(base.clone(), signals));
    rt::spawn(core::read_mail(base.clone(), inbox));
    let mut result = stop::wait_for_cores(&base, &notices).await;
    let mut recalled = None;
    if result.is_ok() {
        result = admin::listen_all(&control, &mut legacy)
            .and_then(|()| web::start(control.base()))
            .and_then(|()| recall(&control, memory))
            .map(|known| recalled = known);
    }
    if result.is_ok() {
        resolve::start(&control, &notices).await;
        if let Some((origin, health)) = recalled {
            control.resume(health, &origin);
        }
        if let Some(companion) = companion {
            companion(&control.addresses.borrow().values().cloned().collect::<Vec<_>>());
        }
        checks::start_all(&control);
        for (core, sockets) in control.cores.iter().zip(sockets) {
            for (bind, socket) in sockets {
                core.send(ToCore::Listen { bind: control.live.binds[bind].key, socket });
            }
        }
        rt::spawn(core::tick(base.clone()));
        control.say_ready();
        replace(&control, legacy);
        made.keep();
        serves = true;
        notify(&format!("MAINPID={}\nREADY=1", std::process::id()));
        notify::forget_kept();
        rt::spawn(watchdog::run(base.clone()));
        if let Some(on_ready) = on_ready {
            on_ready();
        }
        // Tasks that live longer than a generation ask for the current one.
        drop(control);
        result = stop::supervise(&base, &notices).await;
    }
    let control = base.current();
    if let Err(StartError(reason)) = &result {
        control.say(Level::Alert, reason.clone());
    }
    // What did not come to serve removes what it made and nothing of another process.
    drop(made);
    if !control.handed_over.get() {
        if serves {
            // Last, so that it tells how everything was at the end.
            control.remember(control.health_records());
            if !control.left_behind.get() {
                listeners::remove_files(&control.model);
            }
        }
        drop(control.state_file.take());
        admin::remove_files(&control, serves);
    }
    control.events.finish();
    control.logs.finish().await;
    control.broadcast(|| ToCore::Exit);
    result
}

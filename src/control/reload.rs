//! From a changed configuration file to cores that run it, without a restart. What may fail happens first and changes nothing:
//! read and resolve (on a thread of its own), look up names, open sockets. Then the switch: shared facts, data cores, this
//! core; and when all cores run the new generation, the new sockets accept.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use ahash::AHashSet;

use crate::base::id::ListenerId;
use crate::control::cli::Order;
use crate::control::core::{Control, ControlBase, Notice};
use crate::control::events::Level;
use crate::control::generations::{Attempt, Outcome};
use crate::control::listeners::{self, Opened};
use crate::control::load;
use crate::control::log_sets::{Change, Resolved};
use crate::control::log_sink::Prepared;
use crate::control::notify::notify;
use crate::control::takeover::Legacy;
use crate::control::trial::{self, Before, Terms};
use crate::control::{admin, gather, plan, resolve, sandbox};
use crate::live::{BindState, FrontendState};
use crate::model::{self, Model};
use crate::proxy::core::Generation;
use crate::proxy::message::ToCore;
use crate::rt;
use crate::stats::counters::{Origins, Shard};
use crate::stats::history::ObjectKey;
use crate::stats::table::Object;
use crate::tls;

/// Reads a configuration on its own thread.
#[derive(Debug)]
pub(super) struct Loaded(Result<Read, String>);

/// What was read, the certificates and the addresses of log targets that it names.
type Read = (load::Loaded, Option<Arc<tls::Store>>, Resolved);

/// The reload that is under way, if there is one.
#[derive(Default)]
pub(super) struct Reload {
    busy: Cell<bool>,
    loaded: RefCell<Option<Loaded>>,
    /// Cores that do not run the next generation yet.
    left: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

impl Reload {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The thread has read the configuration.
    pub(super) fn loaded(&self, loaded: Loaded) {
        *self.loaded.borrow_mut() = Some(loaded);
        self.wake();
    }

    /// Takes the place of the only reload; `None`: it is taken.
    pub(super) fn enter(&self) -> Option<Busy<'_>> {
        (!self.busy.replace(true)).then_some(Busy(&self.busy))
    }

    /// A core runs a generation.
    pub(super) fn applied(&self, _generation: u32) {
        self.left.set(self.left.get().saturating_sub(1));
        self.wake();
    }

    async fn until<T>(&self, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        poll_fn(|cx| match found(self) {
            Some(found) => Poll::Ready(found),
            None => {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

/// Why nothing changed, one line each.
type Refused = Vec<String>;

/// A configuration that may be run.
struct Candidate {
    model: Model,
    tls: Arc<tls::Store>,
    warnings: Vec<String>,
    text: Arc<str>,
    /// Addresses of log targets.
    log_names: Resolved,
}

/// Where another generation logs to, if that is somewhere else.
struct Logs {
    lines: Option<Change>,
    events: Option<Prepared>,
}

impl Logs {
    fn open(
        base: &ControlBase,
        (old, new): (&Model, &Model),
        names: &Resolved,
        store: &tls::Store,
    ) -> Result<Logs, rt::StartError> {
        // Files of authorities may have changed where their names did not.
        let differs = old.logging != new.logging || new.logging.over_tls().next().is_some();
        let lines = differs.then(|| base.logs.prepare(&new.logging, names, store));
        let events = (old.global.log != new.global.log).then(|| Prepared::open(&new.global.log));
        let wrong = |e| rt::StartError(format!("cannot open the log {}: {e}", new.global.log));
        Ok(Logs { lines: lines.transpose()?, events: events.transpose().map_err(wrong)? })
    }
}

/// Does what an administrator wants; the answer.
pub(super) async fn perform(base: &Rc<ControlBase>, order: Order) -> String {
    match order {
        Order::Reload { who, trial } => result(reload(base, &who, trial).await),
        Order::Confirm { who } => {
            result(trial::confirm(base, &who).map(|said| vec![said]).map_err(|why| vec![why]))
        }
        Order::RollBack { who, to } => result(roll_back(base, &who, to).await),
        Order::ShowHistory(None) => base.generations.borrow().history(rt::now()),
        Order::ShowHistory(Some(number)) => {
            let text = base.generations.borrow().text_of(number);
            text.map_or_else(|| NOT_KEPT.to_owned(), |text| text.to_string())
        }
        Order::ShowGenerations => {
            let rows = gather::sessions(base).await;
            let count = |number| rows.iter().filter(|row| row.generation == number).count();
            let trial = base.trial.borrow().as_ref().map(|trial| (trial.number, trial.until));
            base.generations.borrow().show(count, trial, rt::now())
        }
        Order::ShowConfiguration => {
            let text = base.generations.borrow().text();
            text.map_or_else(|| "There is no configuration file.".to_owned(), |text| text.to_string())
        }
        Order::ShowFiles => {
            let base_path =
                base.process.config.as_ref().map(|config| config.source.base()).unwrap_or_default();
            let control = base.current();
            let certificates = control.tls.borrow().clone();
            plan::files(&control.model, &certificates, &base_path)
        }
        Order::DrainGeneration(number) => drain(base, number),
    }
}

const NOT_KEPT: &str = "No configuration of such a generation is kept (see show configurations).";

/// What came of it, a line of two dashes, and what there is to say, as HAProxy's master socket answers.
fn result(result: Result<Vec<String>, Refused>) -> String {
    match result {
        Ok(said) => format!("Success=1\n--\n{}", said.join("\n")),
        Err(why) => format!("Success=0\n--\n{}", why.join("\n")),
    }
}

fn drain(base: &ControlBase, number: u32) -> String {
    if base.current().live.generation == number {
        return "This is the current generation.".to_owned();
    }
    if base.generations.borrow().model(number).is_none() {
        return "Nobody lives by such a generation.".to_owned();
    }
    base.broadcast(|| ToCore::ShutdownGeneration(number));
    String::new()
}

/// SIGHUP or SIGUSR2, `who`: the log says what came of it.
pub(super) fn by_signal(base: &Rc<ControlBase>, who: &'static str) {
    if base.process.config.is_none() {
        return;
    }
    let base = base.clone();
    rt::spawn(async move {
        // It says so itself.
        let _ = reload(&base, who, None).await;
    });
}

/// Frees the place of the only reload.
pub(super) struct Busy<'a>(&'a Cell<bool>);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Reads the configuration again and runs it. Returns what there is to say about it, or why nothing changed.
pub(super) async fn reload(
    base: &Rc<ControlBase>,
    who: &str,
    terms: Option<Terms>,
) -> Result<Vec<String>, Refused> {
    let Some(config) = &base.process.config else {
        return Err(vec!["there is no configuration file to read again".to_owned()]);
    };
    let Some(_busy) = base.reload.enter() else {
        return Err(vec!["another reload is under way".to_owned()]);
    };
    let began = rt::now();
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", began.0 / 1000));
    let before = terms.is_some().then(|| Before::take(&base.current()));
    let on_trial = base.trial.borrow().as_ref().map(|trial| trial.number);
    let result = match on_trial {
        Some(number) => Err(vec![format!("generation {number} is on trial: confirm or rollback first")]),
        None => {
            let source = config.source.clone();
            attempt(base, move || source.load()).await
        }
    };
    notify("READY=1");
    let (outcome, text) = match &result {
        Ok((number, _, text)) => (Outcome::Ran(*number), Some(text.clone())),
        Err(why) => (Outcome::Refused(why.first().cloned().unwrap_or_default()), None),
    };
    let ms = rt::now().since(began).as_millis();
    match &outcome {
        Outcome::Ran(number) => {
            base.say(Level::Notice, format!("reloaded by {who} in {ms} ms: generation {number}"));
        }
        Outcome::Refused(why) => {
            base.say(Level::Alert, format!("reload by {who} refused, nothing changed: {why}"));
        }
    }
    base.generations.borrow_mut().note(Attempt { when: rt::now(), who: who.to_owned(), outcome, text });
    let (number, mut said, _) = result?;
    said.push(format!("generation {number} runs after {ms} ms"));
    said.extend(terms.zip(before).map(|(terms, before)| trial::begin(base, number, terms, before)));
    Ok(said)
}

/// Runs an earlier configuration again. Without a number: the one before, which during a trial is the one before it.
async fn roll_back(base: &Rc<ControlBase>, who: &str, to: Option<u32>) -> Result<Vec<String>, Refused> {
    if base.trial.borrow().is_some() {
        let Some(number) = to else { return trial::back(base, who).await };
        return Err(vec![format!(
            "a configuration is on trial: confirm first, or rollback without {number}"
        )]);
    }
    let Some(config) = &base.process.config else {
        return Err(vec!["there is no configuration file".to_owned()]);
    };
    let Some(_busy) = base.reload.enter() else {
        return Err(vec!["another reload is under way".to_owned()]);
    };
    let to = to
        .or_else(|| base.generations.borrow().previous())
        .ok_or("there is no configuration before this one");
    let to = to.map_err(|why| vec![why.to_owned()])?;
    let text = base.generations.borrow().text_of(to).ok_or_else(|| vec![NOT_KEPT.to_owned()])?;
    let (source, began) = (config.source.clone(), rt::now());
    let result = attempt(base, move || {
        let (model, diagnostics) = source.resolve(&text)?;
        Ok(load::Loaded { model, diagnostics, text })
    })
    .await;
    let (outcome, text) = match &result {
        Ok((number, _, text)) => (Outcome::Ran(*number), Some(text.clone())),
        Err(why) => (Outcome::Refused(why.first().cloned().unwrap_or_default()), None),
    };
    let who = format!("back to {to} ({who})");
    base.generations.borrow_mut().note(Attempt { when: rt::now(), who: who.clone(), outcome, text });
    let (number, mut said, _) = result.inspect_err(|why| {
        base.say(Level::Alert, format!("{who} refused, nothing changed: {}", why.join("; ")));
    })?;
    let ms = rt::now().since(began).as_millis();
    base.say(Level::Notice, format!("{who}: generation {number} runs after {ms} ms"));
    said.push(format!("generation {number} runs after {ms} ms: back to {to}"));
    said.push(trial::FILE_STAYS.to_owned());
    Ok(said)
}

/// Runs a configuration that ran before, with the certificates it had.
pub(super) async fn run_again(
    base: &Rc<ControlBase>,
    model: Model,
    tls: Arc<tls::Store>,
) -> Result<u32, Refused> {
    if is_stopping(base) {
        return Err(vec!["the process is stopping".to_owned()]);
    }
    // Where log lines go may have changed with it.
    let logging = model.logging.clone();
    let nothing = load::Loaded { model: None, diagnostics: Vec::new(), text: "".into() };
    let (_, _, names) = on_thread(base, move || Ok((nothing, None, Resolved::of(&logging)))).await?;
    run(base, model, tls, &names).await
}

fn is_stopping(base: &ControlBase) -> bool {
    base.current().live.process.stopping.load(std::sync::atomic::Ordering::SeqCst)
}

/// Runs what `read` finds. It is called on a thread of its own.
async fn attempt(
    base: &Rc<ControlBase>,
    read: impl FnOnce() -> Result<load::Loaded, String> + Send + 'static,
) -> Result<(u32, Vec<String>, Arc<str>), Refused> {
    let Candidate { mut model, tls, mut warnings, text, log_names } = load(base, read).await?;
    let before = base.current();
    if is_stopping(base) {
        return Err(vec!["the process is stopping".to_owned()]);
    }
    if let Some((allowed, _)) = &base.process.sandbox
        && let Some(missing) = sandbox::misses(allowed, &sandbox::needs(&model, &base.process.admin.more))
    {
        return Err(vec![format!("error: the sandbox of this process does not allow {missing}: restart it")]);
    }
    keep_fixed(base, &before.model, &mut model, &mut warnings);
    if let Some(maxconn) = base.process.config.as_ref().and_then(|config| config.maxconn) {
        model.global.maxconn = Some(maxconn);
    }
    model.name_internal_socket(base.process.web_socket.clone());
    drop(before);
    let number = run(base, model, tls, &log_names).await?;
    Ok((number, warnings, text))
}

/// Runs a model: what it needs beside cores and sockets, and the switch.
async fn run(
    base: &Rc<ControlBase>,
    model: Model,
    tls: Arc<tls::Store>,
    log_names: &Resolved,
) -> Result<u32, Refused> {
    base.current().try_state_file(&model).map_err(|why| vec![format!("error: {why}")])?;
    resolve::prepare(base, &model).await;
    let before = base.current().model.clone();
    let number = switch(base, model, tls, log_names).await?;
    base.current().change_state_file(&before);
    Ok(number)
}

/// Reads and resolves on a thread of its own: it may take a second, and checks and admin sessions go on.
async fn load(
    base: &Rc<ControlBase>,
    read: impl FnOnce() -> Result<load::Loaded, String> + Send + 'static,
) -> Result<Candidate, Refused> {
    let certificates = base.current().tls.borrow().clone();
    let (loaded, tls, log_names) = on_thread(base, move || with_certificates(read(), &certificates)).await?;
    let said = loaded.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>();
    match loaded.model.zip(tls) {
        Some((model, tls)) => Ok(Candidate { model, tls, warnings: said, text: loaded.text, log_names }),
        None => Err(said),
    }
}

/// Does what may take long on a thread of its own.
async fn on_thread(
    base: &ControlBase,
    work: impl FnOnce() -> Result<Read, String> + Send + 'static,
) -> Result<Read, Refused> {
    let tell = base.notices.clone();
    let thread = std::thread::Builder::new().name("reload".to_owned());
    thread
        .spawn(move || {
            rt::machine::step_aside(&load::cpus().unwrap_or_default());
            tell.send(Notice::Loaded(Box::new(Loaded(work()))));
        })
        .map_err(|e| vec![format!("cannot start a thread: {e}")])?;
    let Loaded(result) = base.reload.until(|reload| reload.loaded.take()).await;
    result.map_err(|why| why.lines().map(str::to_owned).collect::<Refused>())
}

/// On the thread: the configuration, and what it names elsewhere.
fn with_certificates(loaded: Result<load::Loaded, String>, before: &tls::Store) -> Result<Read, String> {
    let loaded = loaded?;
    let certificates = loaded.model.as_ref().map(|model| load::certificates(model, Some(before)));
    let certificates = certificates.transpose().map_err(|rt::StartError(why)| {
        why.lines().map(|line| format!("error: {line}")).collect::<Vec<_>>().join("\n")
    })?;
    let names = loaded.model.as_ref().map(|model| Resolved::of(&model.logging)).unwrap_or_default();
    Ok((loaded, certificates, names))
}

/// What a running process cannot change stays as it is, and is said: threads are bound to their CPUs and have registered their
/// buffers, and the descriptors of pipes were counted at the start.
fn keep_fixed(base: &ControlBase, running: &Model, next: &mut Model, warnings: &mut Vec<String>) {
    let (old, new) = (&running.global, &mut next.global);
    let mut keep = |what: &str, changed: bool| {
        if changed {
            warnings.push(format!("warning: {what}: the change takes effect at the next start"));
        }
    };
    keep("cores", old.cores != new.cores);
    keep("control-core", old.control_core != new.control_core);
    keep("tune.buffers-max", old.buffers_max != new.buffers_max);
    keep("maxpipes", new.pipes_max > base.process.pipes_max);
    keep("sandbox", old.sandbox != new.sandbox);
    new.cores.clone_from(&old.cores);
    new.control_core = old.control_core;
    new.buffers_max = old.buffers_max;
    new.pipes_max = new.pipes_max.min(base.process.pipes_max);
}

/// Runs a model: opens the sockets that are new, switches all cores, and then lets the new sockets accept.
async fn switch(
    base: &Rc<ControlBase>,
    model: Model,
    tls: Arc<tls::Store>,
    log_names: &Resolved,
) -> Result<u32, Refused> {
    let before = base.current();
    let mut origins = model::origins(&before.model, &model);
    forget_shut(&before, &mut origins);
    let cpus = &model.global.cores;
    let wrong = |rt::StartError(why): rt::StartError| {
        why.lines().map(|line| format!("error: {line}")).collect::<Refused>()
    };
    let logs = Logs::open(base, (&before.model, &model), log_names, &tls).map_err(wrong)?;
    let admin = admin::open_new(base, &model, &mut Legacy::default()).map_err(wrong)?;
    let passwords = base.passwords.borrow().next(&model, &load::cpus().unwrap_or_default());
    let passwords =
        passwords.map_err(|e| vec![format!("error: cannot start a thread that checks passwords: {e}")])?;
    *base.passwords.borrow_mut() = passwords;
    let is_new = |id| origins.listeners[id].is_none();
    let mut opened = listeners::open_all(&model, cpus, is_new, &mut Legacy::default()).map_err(wrong)?;
    let sockets = std::mem::take(&mut opened.sockets);
    // Nothing fails from here on.
    opened.made.keep();
    let shards: Vec<Shard> =
        base.collector.borrow().shards().iter().map(|shard| shard.next(&origins)).collect();
    let control = commit(base, &before, (Arc::new(model), tls, logs), &origins, shards, opened);
    admin::serve_all(base, &control.model, admin);
    base.reload.until(|reload| (reload.left.get() == 0).then_some(())).await;
    for (core, sockets) in base.cores.iter().zip(sockets) {
        for (bind, socket) in sockets {
            control.live.binds[bind].set_state(BindState::Listening);
            core.send(ToCore::Listen { bind: control.live.binds[bind].key, socket });
        }
    }
    Ok(control.live.generation)
}

/// The switch itself: nothing can fail any more, and nobody runs on this core meanwhile.
fn commit(
    base: &Rc<ControlBase>,
    before: &Rc<Control>,
    (model, tls, logs): (Arc<Model>, Arc<tls::Store>, Logs),
    origins: &Origins,
    shards: Vec<Shard>,
    opened: Opened,
) -> Rc<Control> {
    let live = before.live.next(&model, origins);
    let number = live.generation;
    let cells = shards.last().cloned().unwrap_or_default();
    let view = before.next_view((&model, &live, &tls, cells), origins, opened);
    live.commit(&model, (&before.live, &before.model), origins);
    let kept = base.generations.borrow().log_sets();
    let log_sets = logs.lines.map_or(kept, |change| base.logs.add(change));
    if let Some(events) = logs.events {
        base.log.switch(events);
    }
    base.generations.borrow_mut().begin(number, &model, log_sets.clone(), rt::now());
    base.reload.left.set(base.cores.len());
    let data: Arc<[Shard]> = shards[..base.cores.len()].into();
    let mut copy_bytes = 0;
    for core in &base.cores {
        // Each core has its own allocation: no reference count is shared.
        let held = rt::alloc::held();
        let model = Arc::new(Model::clone(&model));
        copy_bytes = u64::try_from(rt::alloc::held() - held).unwrap_or(0);
        core.send(ToCore::Apply(Box::new(Generation {
            model,
            live: live.clone(),
            shards: data.clone(),
            tls: tls.clone(),
            first_log_set: log_sets.start,
            passwords: base.passwords.borrow().clone(),
        })));
    }
    // This core's copy is as large, and was made on another thread.
    let copies = base.cores.len() as u64 + 1;
    base.generations.borrow_mut().note_memory(number, copies * copy_bytes);
    base.collector.borrow_mut().reload(shards, origins);
    forget_gone(base, &before.model, origins);
    let control = base.switch(view);
    base.certificates.reset();
    base.ocsp.hurry();
    control.take_over(&before.model, origins);
    apply_limits(&control, &before.model);
    close_removed(before, origins);
    control.update_probes();
    resolve::settle(&control);
    control.reapply("");
    end_later(base, before);
    control
}

/// Durations and history of what is gone: their rows are never used again, and nobody can ask for them.
fn forget_gone(base: &ControlBase, old: &Model, origins: &Origins) {
    let stays = [
        origins.frontends.values().flatten().count() == old.frontends.len(),
        origins.backends.values().flatten().count() == old.backends.len(),
        origins.servers.values().flatten().count() == old.servers.len(),
        origins.listeners.values().flatten().count() == old.binds.len(),
    ];
    if stays.iter().all(|all| *all) {
        return;
    }
    let known: AHashSet<ObjectKey> = base.collector.borrow().keys().collect();
    base.latency.borrow_mut().retain(|row| known.contains(&ObjectKey::new(Object::Server, row)));
    base.history.borrow_mut().retain(|key| known.contains(&key));
}

/// Limits of the process that are others now; what an administrator set in their place comes back after this.
fn apply_limits(control: &Control, old: &Model) {
    let (global, old, process) = (&control.model.global, &old.global, &control.live.process);
    if global.maxconn != old.maxconn {
        let budget = control.process.budget;
        let wanted = global.maxconn.map_or(budget.maxconn, |wanted| wanted.min(budget.hard_maxconn));
        process.connections.set_limit(Some(wanted));
    }
    if global.rate_max != old.rate_max {
        process.rate.set_limit(global.rate_max.unwrap_or(0));
    }
    if global.tls_connections_max != old.tls_connections_max {
        process.tls_connections.set_limit(global.tls_connections_max);
    }
    if global.tls_rate_max != old.tls_rate_max {
        process.tls_rate.set_limit(global.tls_rate_max.unwrap_or(0));
    }
}

/// Listeners of a frontend that was shut down are closed: its binds are new ones.
fn forget_shut(before: &Control, origins: &mut Origins) {
    let is_shut = |bind: ListenerId| {
        before.live.frontends[before.model.binds[bind].frontend].state() == FrontendState::Shut
    };
    for id in origins.listeners.ids() {
        origins.listeners[id] = origins.listeners[id].filter(|bind| !is_shut(*bind));
    }
}

/// Binds that are gone: their listeners close by themselves; new clients find no file of theirs.
fn close_removed(before: &Control, origins: &Origins) {
    for id in before.model.binds.ids() {
        let is_closed = before.live.binds[id].state() == BindState::Closed;
        if !is_closed && !origins.listeners.values().any(|origin| *origin == Some(id)) {
            before.live.binds[id].set_state(BindState::Closed);
            listeners::remove_file(&before.model, id);
        }
    }
}

/// `hard-stop-after` is the patience with sessions of an older generation too.
fn end_later(base: &Rc<ControlBase>, before: &Control) {
    let Some(patience) = before.model.global.hard_stop_after else { return };
    let number = before.live.generation;
    let base = base.clone();
    rt::spawn(async move {
        rt::sleep_until(rt::now() + patience).await;
        if base.generations.borrow().model(number).is_some() {
            base.broadcast(|| ToCore::ShutdownGeneration(number));
        }
    });
}

//! The main task of a data core.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::id::{CoreId, ListenerId};
use crate::live::Live;
use crate::model::Model;
use crate::proxy::core::Core;
use crate::proxy::log::LogSetup;
use crate::proxy::message::{ToControl, ToCore};
use crate::proxy::password::Passwords;
use crate::proxy::session::Info;
use crate::proxy::{idle, listener, queue};
use crate::rt::{self, Mailbox, Sender};
use crate::stats::counters::{CoreCells, Shard};
use crate::stats::process::CoreStat;
use crate::tls;

/// How often a draining core looks whether it is empty.
const DRAIN_LOOK: Duration = Duration::from_millis(10);
/// How often what the runtime counts is copied into cells.
const ACTIVITY_EVERY: Duration = Duration::from_millis(500);

/// What a data core starts with.
#[derive(Debug)]
pub struct Setup {
    /// This core, below `cores`.
    pub core: CoreId,
    /// How many data cores there are.
    pub cores: u32,
    /// What to run; each core gets an `Arc` of its own allocation, so that no reference count is shared.
    pub model: Arc<Model>,
    /// Facts shared by all cores.
    pub live: Live,
    /// The counters of all data cores, this one's at `core`. It writes its own and reads the others for levels.
    pub shards: Arc<[Shard]>,
    /// The certificates of all TLS binds.
    pub tls: Arc<tls::Store>,
    /// Mail for this core.
    pub inbox: Mailbox<ToCore>,
    /// To each data core, itself included.
    pub peers: Vec<Sender<ToCore>>,
    /// To the control core.
    pub control: Sender<ToControl>,
    /// The threads that check passwords.
    pub passwords: Passwords,
    /// Listening sockets of this core.
    pub listeners: Vec<(ListenerId, OwnedFd)>,
}

/// Runs a data core until [`ToCore::Exit`].
pub async fn run(mut setup: Setup, log: LogSetup) {
    rt::splice::configure(setup.model.global.pipes_max, setup.model.global.pipe_bytes);
    let listeners = std::mem::take(&mut setup.listeners);
    let core = Core::new(&setup, log);
    let inbox = setup.inbox.receiver();
    for (bind, socket) in listeners {
        rt::spawn(listener::run(core.clone(), bind, socket));
    }
    rt::spawn(publish_activity(core.clone()));
    rt::spawn(idle::sweep(core.clone()));
    loop {
        let message = inbox.recv().await;
        core.shard().core.count(CoreStat::Messages);
        if matches!(message, ToCore::Exit) {
            return;
        }
        handle(&core, message);
    }
}

fn handle(core: &Rc<Core>, message: ToCore) {
    match message {
        ToCore::Grant { waiter, server } => queue::deliver(core, waiter, server),
        ToCore::Accepted { bind, conn } => listener::take_over(core, bind, conn),
        ToCore::Listen { bind, socket } => rt::spawn(listener::run(core.clone(), bind, socket)),
        ToCore::Pause(_) | ToCore::Resume(_) | ToCore::Room => core.wake_room(),
        ToCore::ShutdownSession(id) => kill(core, |info| info.id == id),
        ToCore::ShutdownServer(server) => kill(core, |info| info.server.get() == Some(server)),
        ToCore::Sessions(reply) => {
            let rows = core.sessions.borrow().iter().map(|(_, info)| info.row(core)).collect();
            core.tell(ToControl::Sessions { reply, rows });
        }
        ToCore::Ports(reply) => {
            let rows = core.ports.borrow_mut().ledger(rt::now()).collect();
            core.tell(ToControl::Ports { reply, rows });
        }
        ToCore::Timers(batch) => core.take_back(batch),
        ToCore::Drain => {
            core.draining.set(true);
            core.wake_room();
            core.sessions.borrow().iter().for_each(|(_, info)| info.nudge());
            rt::spawn(report_drained(core.clone()));
        }
        ToCore::Kill => kill(core, |_| true),
        ToCore::Verified { digest, good } => core.desk.finish(digest, good, rt::now()),
        ToCore::Variable(id, value) => core.keep_variable(id, value),
        ToCore::Exit => unreachable!("handled by the caller"),
    }
}

fn kill(core: &Core, which: impl Fn(&Info) -> bool) {
    // Killing wakes tasks only; nothing ends, and so nothing leaves the table, before this returns.
    for (_, info) in core.sessions.borrow().iter() {
        if which(info) {
            info.kill();
        }
    }
}

/// Reports when the accept loops have handed over what they held and the last session is over.
async fn report_drained(core: Rc<Core>) {
    while core.acceptors.get() > 0 || !core.sessions.borrow().is_empty() {
        rt::sleep_until(rt::now() + DRAIN_LOOK).await;
    }
    core.tell(ToControl::Drained(core.id));
}

/// Copies what the runtime of any core counts into its cells.
pub fn publish_runtime(cells: &CoreCells) {
    let activity = rt::limits::activity();
    cells.set(CoreStat::Turns, rt::limits::loops());
    cells.set(CoreStat::Enters, activity.enters);
    cells.set(CoreStat::Waits, activity.waits);
    cells.set(CoreStat::IdleNs, activity.idle_ns);
    cells.set(CoreStat::CpuNs, rt::limits::cpu_ns());
    cells.set(CoreStat::Completions, activity.completed);
    cells.set(CoreStat::Submissions, activity.submitted);
    cells.set(CoreStat::TimersFired, activity.timers);
    cells.set(CoreStat::Tasks, rt::limits::tasks());
    cells.set(CoreStat::Buffers, rt::limits::buffers_used());
    cells.set(CoreStat::BufferWaits, rt::limits::buffers_exhausted());
    cells.set(CoreStat::Panics, rt::limits::panics());
}

/// Copies what the runtime counts into this core's cells.
async fn publish_activity(core: Rc<Core>) {
    loop {
        let (pipes, free) = rt::splice::counts();
        let cells = &core.shard().core;
        publish_runtime(cells);
        cells.set(CoreStat::Pipes, u64::from(pipes - free));
        cells.set(CoreStat::PipesFree, u64::from(free));
        core.hand_over_times();
        rt::sleep_until(rt::now() + ACTIVITY_EVERY).await;
    }
}

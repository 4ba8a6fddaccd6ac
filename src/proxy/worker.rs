//! The main task of a data core.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::id::CoreId;
use crate::base::shared;
use crate::base::time::Now;
use crate::proxy::core::{CoreBase, Generation};
use crate::proxy::end::Kind;
use crate::proxy::info::Info;
use crate::proxy::log::LogSetup;
use crate::proxy::message::{Event, ToControl, ToCore};
use crate::proxy::{idle, idle_share, listener, lot, queue};
use crate::rt::{self, Mailbox, Sender};
use crate::stats::counters::CoreCells;
use crate::stats::process::{CoreStat, idle_cell};
use crate::tls;

/// How often a draining core looks whether it is empty.
const DRAIN_LOOK: Duration = Duration::from_millis(10);
/// How often pages of the heap are given back, at the most: all cores feel it.
const PAGES_EVERY: Duration = Duration::from_secs(10);
/// How often the core looks after itself while it works.
const HOUSE_EVERY: Duration = Duration::from_millis(500);
/// The last time that it does, after work: it is woken for it, if nothing else wakes it before.
const HOUSE_LATEST: Duration = Duration::from_millis(1500);

/// What a data core starts with.
#[derive(Debug)]
pub struct Setup {
    /// This core, below `cores`.
    pub core: CoreId,
    /// What to run first.
    pub generation: Generation,
    /// Mail for this core.
    pub inbox: Mailbox<ToCore>,
    /// To each data core, itself included.
    pub peers: Vec<Sender<ToCore>>,
    /// To the control core.
    pub control: Sender<ToControl>,
}

/// Runs a data core until [`ToCore::Exit`].
pub async fn run(setup: Setup, log: LogSetup) {
    let Setup { core, generation, inbox, peers, control } = setup;
    let global = &generation.model.global;
    rt::splice::configure(global.pipes_max, global.pipe_bytes);
    let core = CoreBase::start(core, peers, control, log, generation);
    let inbox = inbox.receiver();
    rt::spawn(keep_house(core.clone()));
    rt::spawn(lot::run(core.clone()));
    loop {
        let message = inbox.recv().await;
        core.cells.count(CoreStat::Messages);
        if matches!(message, ToCore::Exit) {
            core.lot.clear();
            return;
        }
        handle(&core, message);
    }
}

pub(super) fn handle(core: &Rc<CoreBase>, message: ToCore) {
    match message {
        ToCore::Grant { waiter, server } => queue::deliver(core, waiter, server),
        ToCore::Accepted { bind, conn } => listener::take_over(core, bind, conn),
        ToCore::Listen { bind, socket } => rt::spawn(listener::run(core.clone(), bind, socket)),
        ToCore::Apply(generation) => {
            let global = &generation.model.global;
            rt::splice::configure(global.pipes_max, global.pipe_bytes);
            core.switch(*generation);
            // Those without a request follow, or leave.
            core.sessions.borrow().iter().for_each(|(_, info)| info.nudge());
        }
        ToCore::Certificates(store) => core.current().renew_certificates(&store),
        ToCore::Room => core.wake_room(),
        ToCore::ShutdownSession(id) => kill(core, Kind::Killed, |info| info.id == id),
        ToCore::ShutdownServer(server, why) => kill(core, why, |info| {
            let Some(id) = info.server.get() else { return false };
            // The ids of a session are those of the generation that it lives by.
            core.generation(info.generation).is_some_and(|g| Arc::ptr_eq(&g.live.servers[id], &server))
        }),
        ToCore::ShutdownGeneration(generation) => {
            kill(core, Kind::Killed, |info| info.generation == generation);
        }
        ToCore::Sessions(reply) => {
            let sessions = core.sessions.borrow();
            let row = |info: &Rc<Info>| Some(info.row(&*core.generation(info.generation)?));
            let rows = sessions.iter().filter_map(|(_, info)| row(info)).collect();
            core.tell(ToControl::Sessions { reply, rows });
        }
        ToCore::Ports(reply) => {
            let rows = core.ports.borrow_mut().ledger(rt::now()).collect();
            core.tell(ToControl::Ports { reply, rows });
        }
        ToCore::Listeners(reply) => core.tell(ToControl::Listeners { reply, rows: listener::copies(core) }),
        ToCore::Alive(reply) => core.tell(ToControl::Alive { reply, core: core.id }),
        ToCore::Timers(batch) => core.take_back(batch),
        ToCore::Drain { grace } => {
            core.draining.set(true);
            core.wake_room();
            if grace.is_zero() {
                close_idle(core);
            } else {
                // Connections of HTTP/2 say goodbye at once: that loses no request.
                core.sessions.borrow().iter().for_each(|(_, info)| info.nudge());
                let core = core.clone();
                rt::spawn(async move {
                    rt::sleep_until(rt::now() + grace).await;
                    close_idle(&core);
                });
            }
            rt::spawn(report_drained(core.clone()));
        }
        ToCore::Kill => kill(core, Kind::Killed, |_| true),
        ToCore::Verified { digest, good } => {
            // Whichever generation asked: the others remember it.
            core.all().iter().for_each(|generation| generation.desk.finish(digest, good, rt::now()));
        }
        ToCore::Variable(name, value) => core.keep_variable(&name, value.as_ref()),
        ToCore::Stick(changes) => core.take_stick(&changes),
        ToCore::StickAdmin(reply, question) => {
            let told = Box::new(core.answer_stick(&question));
            core.tell(ToControl::StickAdmin { reply, told });
        }
        ToCore::IdleWanted(wanted) => idle_share::wanted(core, wanted),
        ToCore::IdleGiven(answer) => idle_share::given(core, answer),
        ToCore::Exit => unreachable!("handled by the caller"),
    }
}

/// Ends the connections on which no request is under way.
fn close_idle(core: &CoreBase) {
    core.closing_idle.set(true);
    core.sessions.borrow().iter().for_each(|(_, info)| info.nudge());
    core.lot.look();
}

fn kill(core: &CoreBase, why: Kind, which: impl Fn(&Info) -> bool) {
    // Killing wakes tasks only; nothing ends, and so nothing leaves the table, before this returns.
    for (_, info) in core.sessions.borrow().iter() {
        if which(info) {
            info.kill(why);
        }
    }
    core.lot.look();
}

/// Reports when the accept loops have handed over what they held and the last session is over.
async fn report_drained(core: Rc<CoreBase>) {
    while core.acceptors.get() > 0 || !core.sessions.borrow().is_empty() {
        rt::sleep_until(rt::now() + DRAIN_LOOK).await;
    }
    core.tell(ToControl::Drained(core.id));
}

/// Copies what the runtime of any core counts into its cells; `still_at` as [`idle_cell`] has it.
pub fn publish_runtime(cells: &CoreCells, still_at: Option<Now>) {
    let activity = rt::limits::activity();
    cells.set(CoreStat::Turns, rt::limits::loops());
    cells.set(CoreStat::Enters, activity.enters);
    cells.set(CoreStat::Waits, activity.waits);
    cells.set(CoreStat::IdleNs, idle_cell(still_at, activity.idle_ns));
    cells.set(CoreStat::CpuNs, rt::limits::cpu_ns());
    cells.set(CoreStat::Completions, activity.completed);
    cells.set(CoreStat::Submissions, activity.submitted);
    cells.set(CoreStat::TimersFired, activity.timers);
    cells.set(CoreStat::Tasks, rt::limits::tasks());
    cells.set(CoreStat::Buffers, rt::limits::buffers_used());
    cells.set(CoreStat::BufferWaits, rt::limits::buffers_exhausted());
    cells.set(CoreStat::SharedWrites, shared::writes());
    cells.set(CoreStat::Panics, rt::limits::panics());
}

/// What looking after a core remembers.
#[derive(Default)]
struct House {
    /// Receives that waited for a buffer, as far as they were told.
    shortages: u64,
    /// Pages of the heap go back to the kernel.
    pages_due: bool,
    pages_not_before: Now,
    /// When it was looked last, and how long the core had slept.
    looked: (Now, u64),
}

/// Does what has to be done now and then while a core works, and once after it; a core on which nothing happens is not woken.
async fn keep_house(core: Rc<CoreBase>) {
    let mut house = House::default();
    loop {
        house.publish(&core);
        core.hand_over_times();
        let is_burst_over = house.give_memory_back(&core);
        match idle::sweep(&core) {
            _ if !is_burst_over => {}
            None => rt::stirred().await,
            Some(at) => {
                rt::select(rt::stirred(), rt::sleep_between(at, at + HOUSE_LATEST)).await;
            }
        }
        let now = rt::now();
        rt::sleep_between(now + HOUSE_EVERY, now + HOUSE_LATEST).await;
    }
}

impl House {
    /// Copies what the runtime counts into this core's cells.
    fn publish(&mut self, core: &CoreBase) {
        let short = rt::limits::buffers_short();
        if short > self.shortages {
            core.current().event(Event::BuffersExhausted(core.id));
            self.shortages = short;
        }
        let (pipes, free, misses) = rt::splice::counts();
        let cells = &core.cells;
        let (now, idle_ns) = (rt::now(), rt::limits::activity().idle_ns);
        let (before, idle_before) = std::mem::replace(&mut self.looked, (now, idle_ns));
        let is_still = u128::from(idle_ns - idle_before) * 2 > now.since(before).as_nanos();
        publish_runtime(cells, is_still.then_some(now));
        cells.set(CoreStat::TlsConnections, tls::open_connections());
        let endings = tls::endings();
        cells.set(CoreStat::TlsUnexpected, endings.unexpected);
        cells.set(CoreStat::TlsBadRecords, endings.bad_records);
        cells.set(CoreStat::TlsAlerts, endings.alerts);
        cells.set(CoreStat::TlsCut, endings.cut);
        cells.set(CoreStat::Pipes, u64::from(pipes - free));
        cells.set(CoreStat::PipesFree, u64::from(free));
        cells.set(CoreStat::PipeMisses, misses);
    }

    /// Gives back what a burst took and nobody needs any more. False: there is more that may go later.
    fn give_memory_back(&mut self, core: &CoreBase) -> bool {
        let has_more =
            rt::limits::give_back_buffers() | tls::give_back_memory() | core.h2_spare.connections.shrink();
        self.pages_due |= core.pads.shrink() | core.h2_spare.shrink();
        let now = rt::now();
        if self.pages_due && self.pages_not_before <= now {
            (self.pages_due, self.pages_not_before) = (false, now + PAGES_EVERY);
            rt::alloc::give_pages_back();
        }
        !has_more && !self.pages_due && !core.pads.is_large() && !core.h2_spare.is_large()
    }
}

//! Questions to all data cores, and the wait for their answers.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::task::{Poll, Waker};
use std::time::Duration;

use ahash::AHashMap;

use crate::base::id::CoreId;
use crate::control::core::ControlBase;
use crate::policy::ports::Ledger;
use crate::proxy::message::{SessionRow, ToCore};
use crate::proxy::stick_admin::{Part, Question, Told};
use crate::rt;

/// How long a data core may take to answer. It answers between two turns unless it is stuck; then the others' answers are shown.
const ANSWER: Duration = Duration::from_secs(1);

/// Questions that are open.
#[derive(Default)]
pub(super) struct Gathers {
    next: Cell<u64>,
    open: RefCell<AHashMap<u64, Gather>>,
}

/// What was answered so far.
#[derive(Default)]
pub(super) struct Gather {
    pub(super) rows: Vec<SessionRow>,
    pub(super) ports: Vec<Ledger>,
    pub(super) stick: Vec<Told>,
    /// Sockets with the keys of their binds; those of one core together.
    pub(super) listeners: Vec<(u64, OwnedFd)>,
    /// Cores that are there.
    pub(super) alive: Vec<CoreId>,
    /// Cores that have not answered.
    left: usize,
    waker: Option<Waker>,
}

impl Gathers {
    /// An answer of one core. One that comes too late finds nobody.
    pub(super) fn answer(&self, reply: u64, take: impl FnOnce(&mut Gather)) {
        if let Some(gather) = self.open.borrow_mut().get_mut(&reply) {
            take(gather);
            gather.left = gather.left.saturating_sub(1);
            if let Some(waker) = gather.waker.take() {
                waker.wake();
            }
        }
    }
}

/// The sessions of all data cores, by number.
pub(super) async fn sessions(control: &ControlBase) -> Vec<SessionRow> {
    let mut rows = ask(control, ToCore::Sessions).await.rows;
    rows.sort_by_key(|row| row.id);
    rows
}

/// The source ports of all data cores, those of each source and destination together.
pub(super) async fn sources(control: &ControlBase) -> Vec<Ledger> {
    let mut sums: Vec<Ledger> = Vec::new();
    for row in ask(control, ToCore::Ports).await.ports {
        let is_same = |sum: &&mut Ledger| (sum.source, sum.destination) == (row.source, row.destination);
        match sums.iter_mut().find(is_same) {
            Some(sum) => {
                sum.used += row.used;
                sum.free += row.free;
                sum.waiting += row.waiting;
                sum.rate += row.rate;
            }
            None => sums.push(row),
        }
    }
    sums
}

/// What stick tables answer. Cores tell each other first what they counted, so that one of them knows all.
pub(super) async fn stick(control: &ControlBase, question: Question) -> Told {
    let share = |reply| ToCore::StickAdmin(reply, Box::new(Question::Share));
    if control.cores.len() > 1 {
        ask(control, share).await;
    }
    let first = |question: Question| async move {
        let send = |reply| control.cores[0].send(ToCore::StickAdmin(reply, Box::new(question)));
        let mut told = wait(control, 1, send).await.stick;
        told.pop().unwrap_or_default()
    };
    let mut all = first(question.clone()).await;
    while let Some(next) = all.next.take() {
        let again = match &question {
            Question::Show(part) => Question::Show(Part { from: next, ..part.clone() }),
            Question::Clear(part) => Question::Clear(Part { from: next, ..part.clone() }),
            _ => break,
        };
        let part = first(again).await;
        all.rows.extend(part.rows);
        all.in_use += part.in_use;
        all.next = part.next;
    }
    all
}

/// Copies of the listening sockets of all data cores, with the keys of their binds.
pub(super) async fn listeners(control: &ControlBase) -> Vec<(u64, OwnedFd)> {
    ask(control, ToCore::Listeners).await.listeners
}

/// The data cores that do not answer.
pub(super) async fn silent(control: &ControlBase) -> Vec<CoreId> {
    let alive = ask(control, ToCore::Alive).await.alive;
    (0u32..).map(CoreId).take(control.cores.len()).filter(|core| !alive.contains(core)).collect()
}

/// Asks every data core, with a number for the answers.
async fn ask(control: &ControlBase, question: fn(u64) -> ToCore) -> Gather {
    wait(control, control.cores.len(), |reply| control.broadcast(|| question(reply))).await
}

/// Sends a question to so many cores and waits for their answers.
async fn wait(control: &ControlBase, cores: usize, send: impl FnOnce(u64)) -> Gather {
    let gathers = &control.gathers;
    let reply = gathers.next.get();
    gathers.next.set(reply + 1);
    let gather = Gather { left: cores, ..Gather::default() };
    gathers.open.borrow_mut().insert(reply, gather);
    send(reply);
    let complete = poll_fn(|cx| {
        let mut open = gathers.open.borrow_mut();
        match open.get_mut(&reply) {
            Some(gather) if gather.left > 0 => {
                gather.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    });
    // Without the answer of a core that is stuck, the rest is still worth showing.
    let _ = rt::with_deadline(complete, Some(rt::now() + ANSWER)).await;
    gathers.open.borrow_mut().remove(&reply).unwrap_or_default()
}

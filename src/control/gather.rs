//! Questions to all data cores, and the wait for their answers.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use ahash::AHashMap;

use crate::control::core::ControlBase;
use crate::policy::ports::Ledger;
use crate::proxy::message::{SessionRow, ToCore};
use crate::rt;

/// How long a data core may take to answer. It answers between two turns unless it is stuck; then the others' answers are shown.
const ANSWER: Duration = Duration::from_secs(1);

/// Questions that are open.
#[derive(Default)]
pub(super) struct Gathers {
    next: Cell<u64>,
    open: RefCell<AHashMap<u64, Gather>>,
}

#[derive(Default)]
struct Gather {
    rows: Vec<SessionRow>,
    ports: Vec<Ledger>,
    /// Cores that have not answered.
    left: usize,
    waker: Option<Waker>,
}

impl Gathers {
    /// An answer of one core. One that comes too late finds nobody.
    pub(super) fn answer(&self, reply: u64, rows: Vec<SessionRow>, ports: Vec<Ledger>) {
        if let Some(gather) = self.open.borrow_mut().get_mut(&reply) {
            gather.rows.extend(rows);
            gather.ports.extend(ports);
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
            }
            None => sums.push(row),
        }
    }
    sums
}

/// Asks every data core, with a number for the answers.
async fn ask(control: &ControlBase, question: fn(u64) -> ToCore) -> Gather {
    let gathers = &control.gathers;
    let reply = gathers.next.get();
    gathers.next.set(reply + 1);
    let gather = Gather { left: control.cores.len(), ..Gather::default() };
    gathers.open.borrow_mut().insert(reply, gather);
    control.broadcast(|| question(reply));
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

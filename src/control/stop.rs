//! How the process ends: the machine of stopping, and the task that waits for reasons to.
//!
//! ```text
//!   Running --SIGTERM, SIGUSR1, SIGINT--> Draining --all cores drained------------------> Done
//!      |                                     |  \--hard-stop-after, SIGINT--> Killing --> Done
//!      |                                                                        (drained, or KILL_WAIT)
//!      +--a data core ends by itself: Done, with an error
//! ```

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::id::CoreId;
use crate::base::limits::{HANDOVER_GRACE, KILL_WAIT, STOP_REPORT};
use crate::base::time::Now;
use crate::control::core::{Control, ControlBase, Notice};
use crate::control::events::Level;
use crate::control::listeners;
use crate::control::notify::notify;
use crate::control::{reload, takeover};
use crate::live::BindState;
use crate::proxy::message::ToCore;
use crate::rt::{self, Receiver, Signal, StartError};
use crate::stats::process::CoreStat;

/// Where the process is on its way to the end.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Phase {
    /// Serves.
    Running,
    /// Accepts nothing; sessions finish.
    Draining {
        /// Cores with sessions.
        left: Vec<CoreId>,
        /// When they are ended (`hard-stop-after`).
        deadline: Option<Now>,
    },
    /// Sessions were ended.
    Killing {
        /// Cores that have not confirmed.
        left: Vec<CoreId>,
        /// When nobody waits for them any longer.
        deadline: Now,
    },
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Nothing.
    Wait,
    /// Stop accepting.
    Drain,
    /// End all sessions.
    Kill,
    /// Leave.
    Leave,
}

impl Phase {
    fn on_signal(&mut self, signal: Signal, cores: &[CoreId], hard_stop: Option<Now>, now: Now) -> Step {
        match (&self, signal) {
            (_, Signal::Hangup | Signal::User2) => Step::Wait,
            (Phase::Running, _) => {
                *self = Phase::Draining { left: cores.to_vec(), deadline: hard_stop };
                Step::Drain
            }
            (Phase::Draining { .. }, Signal::Interrupt) => self.kill(now),
            (Phase::Killing { .. }, Signal::Interrupt) => Step::Leave,
            (_, Signal::Terminate | Signal::User1) => Step::Wait,
        }
    }

    fn on_drained(&mut self, core: CoreId) -> Step {
        match self {
            Phase::Running => Step::Wait,
            Phase::Draining { left, .. } | Phase::Killing { left, .. } => {
                left.retain(|c| *c != core);
                if left.is_empty() { Step::Leave } else { Step::Wait }
            }
        }
    }

    fn on_time(&mut self, now: Now) -> Step {
        match self {
            Phase::Draining { deadline: Some(at), .. } if *at <= now => self.kill(now),
            Phase::Killing { deadline, .. } if *deadline <= now => Step::Leave,
            _ => Step::Wait,
        }
    }

    fn kill(&mut self, now: Now) -> Step {
        if let Phase::Draining { left, .. } = self {
            *self = Phase::Killing { left: std::mem::take(left), deadline: now + KILL_WAIT };
        }
        Step::Kill
    }

    /// When to look again without any news.
    fn wake(&self, now: Now) -> Option<Now> {
        match self {
            Phase::Running => None,
            Phase::Draining { deadline, .. } => {
                let report = now + STOP_REPORT;
                Some(deadline.map_or(report, |at| at.min(report)))
            }
            Phase::Killing { deadline, .. } => Some(*deadline),
        }
    }
}

/// Waits until all data cores run.
///
/// # Errors
/// One of them does not: the thread's own error says why.
pub(super) async fn wait_for_cores(
    control: &ControlBase,
    notices: &Receiver<Notice>,
) -> Result<(), StartError> {
    let mut started = 0;
    while started < control.cores.len() {
        match notices.recv().await {
            Notice::Started => started += 1,
            Notice::Gone(core) => return Err(gone(core)),
            Notice::Signal(Signal::Terminate | Signal::Interrupt | Signal::User1) => {
                return Err(StartError("stopped while starting".to_owned()));
            }
            Notice::Said(text) => control.say(Level::Warning, text),
            Notice::Signal(Signal::Hangup | Signal::User2)
            | Notice::Drained(_)
            | Notice::Resolved(_)
            | Notice::HandedOver
            | Notice::Loaded(_)
            | Notice::Asked(_) => {}
        }
    }
    Ok(())
}

fn gone(core: CoreId) -> StartError {
    StartError(format!("data core {} has ended unexpectedly", core.0))
}

/// Waits for reasons to stop, stops, and returns when the process may end.
///
/// # Errors
/// A data core ended by itself.
pub(super) async fn supervise(base: &Rc<ControlBase>, notices: &Receiver<Notice>) -> Result<(), StartError> {
    let mut phase = Phase::Running;
    let cores: Vec<CoreId> = (0u32..).map(CoreId).take(base.cores.len()).collect();
    loop {
        let wake = phase.wake(rt::now());
        let notice = rt::with_deadline(notices.recv(), wake).await;
        let now = rt::now();
        let control = &*base.current();
        let step = match notice {
            Ok(Notice::Gone(core)) => return Err(gone(core)),
            Ok(Notice::Started) => Step::Wait,
            Ok(Notice::Drained(core)) => phase.on_drained(core),
            Ok(Notice::Resolved(resolved)) => {
                control.on_resolved(resolved);
                Step::Wait
            }
            Ok(Notice::Said(text)) => {
                control.say(Level::Warning, text);
                Step::Wait
            }
            Ok(Notice::Asked(answers)) => {
                base.current().on_answers(*answers);
                Step::Wait
            }
            Ok(Notice::Loaded(loaded)) => {
                base.reload.loaded(*loaded);
                Step::Wait
            }
            Ok(Notice::HandedOver) => {
                let hard_stop = control.model.global.hard_stop_after.map(|after| now + after);
                phase.on_signal(Signal::Terminate, &cores, hard_stop, now)
            }
            Ok(Notice::Signal(signal)) => {
                if let Signal::Hangup | Signal::User2 = signal {
                    control.log.reopen();
                    control.logs.reopen();
                    reload::by_signal(base, if signal == Signal::User2 { "SIGUSR2" } else { "SIGHUP" });
                }
                let hard_stop = control.model.global.hard_stop_after.map(|after| now + after);
                phase.on_signal(signal, &cores, hard_stop, now)
            }
            Err(rt::Elapsed) => {
                report(control);
                phase.on_time(now)
            }
        };
        match step {
            Step::Wait => {}
            Step::Drain => {
                takeover::leave(control).await;
                drain(control);
            }
            Step::Kill => {
                let text = format!("ending {} sessions now", sessions(control));
                control.say(Level::Warning, text);
                control.broadcast(|| ToCore::Kill);
            }
            Step::Leave => {
                let text = match sessions(control) {
                    0 => "stopped".to_owned(),
                    left => format!("stopped with {left} sessions open"),
                };
                control.say(Level::Notice, text);
                return Ok(());
            }
        }
    }
}

fn drain(control: &Control) {
    // Of a service that another process provides the manager must not think that it stops.
    if !control.handed_over.get() {
        notify("STOPPING=1");
    }
    control.live.process.stopping.store(true, Ordering::SeqCst);
    control.forget_waiting_binds();
    for bind in control.live.binds.values() {
        bind.set_state(BindState::Closed);
    }
    let patience = match control.model.global.hard_stop_after {
        Some(after) => format!("at most {}s", after.as_secs_f64()),
        None => "as long as they take".to_owned(),
    };
    let count = sessions(control);
    control.say(
        Level::Notice,
        format!("stopping: no new connections, waiting for {count} sessions, {patience}"),
    );
    // A client that has just sent a request on a connection that closes would lose it: with another process there, there is
    // time for it.
    let grace = if control.handed_over.get() { HANDOVER_GRACE } else { Duration::ZERO };
    control.broadcast(|| ToCore::Drain { grace });
    // New connections are refused rather than left to wait in a socket whose file is still there, unless somebody comes for them.
    if !control.handed_over.get() && !control.left_behind.get() {
        listeners::remove_files(&control.model);
    }
}

fn report(control: &Control) {
    control.say(Level::Notice, format!("stopping: {} sessions left", sessions(control)));
}

/// Client connections now.
fn sessions(control: &Control) -> u64 {
    control.collector.borrow().total(CoreStat::Connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORES: [CoreId; 2] = [CoreId(0), CoreId(1)];

    fn s(n: u64) -> Now {
        Now(n * 1_000_000_000)
    }

    #[test]
    fn a_drained_process_leaves() {
        let mut phase = Phase::Running;
        assert_eq!(phase.on_drained(CoreId(0)), Step::Wait, "nobody asked");
        assert_eq!(phase.on_signal(Signal::Terminate, &CORES, Some(s(30)), s(1)), Step::Drain);
        assert_eq!(
            phase.on_signal(Signal::Terminate, &CORES, Some(s(30)), s(2)),
            Step::Wait,
            "it stops already"
        );
        assert_eq!(phase.on_drained(CoreId(1)), Step::Wait);
        assert_eq!(phase.on_drained(CoreId(1)), Step::Wait, "told twice");
        assert_eq!(phase.on_drained(CoreId(0)), Step::Leave);
    }

    #[test]
    fn sessions_that_stay_are_ended_after_hard_stop_after() {
        let mut phase = Phase::Running;
        phase.on_signal(Signal::User1, &CORES, Some(s(30)), s(1));
        assert_eq!(phase.wake(s(1)), Some(s(1) + STOP_REPORT));
        assert_eq!((phase.on_time(s(29)), phase.wake(s(29))), (Step::Wait, Some(s(30))));
        assert_eq!(phase.on_drained(CoreId(0)), Step::Wait);
        assert_eq!(phase.on_time(s(30)), Step::Kill);
        assert_eq!(phase.clone().on_drained(CoreId(1)), Step::Leave);
        assert_eq!(phase.on_time(s(30)), Step::Wait);
        assert_eq!(
            phase.on_time(s(30) + KILL_WAIT),
            Step::Leave,
            "a core that is stuck does not hold the others"
        );
    }

    #[test]
    fn the_second_interrupt_means_now() {
        let mut phase = Phase::Running;
        assert_eq!(phase.on_signal(Signal::Interrupt, &CORES, None, s(1)), Step::Drain);
        assert_eq!(phase.on_time(s(1_000_000)), Step::Wait, "no hard-stop-after: for ever");
        assert_eq!(phase.on_signal(Signal::Interrupt, &CORES, None, s(2)), Step::Kill);
        assert_eq!(phase.on_signal(Signal::Interrupt, &CORES, None, s(2)), Step::Leave);
    }

    #[test]
    fn an_interrupt_after_terminate_means_now() {
        let mut phase = Phase::Running;
        phase.on_signal(Signal::Terminate, &CORES, None, s(1));
        assert_eq!(phase.on_signal(Signal::Interrupt, &CORES, None, s(2)), Step::Kill);
    }

    #[test]
    fn hangup_stops_nothing() {
        let mut phase = Phase::Running;
        assert_eq!(phase.on_signal(Signal::Hangup, &CORES, None, s(1)), Step::Wait);
        assert_eq!(phase, Phase::Running);
    }
}

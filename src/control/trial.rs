//! A configuration on trial (`reload confirm 2m abort-if ...`): it is taken back by itself unless it is confirmed in time, or as
//! soon as its condition holds. Going back is a switch to the model before: no connection is lost. What the condition
//! compares is in `policy::abort`; the switch is in `reload`.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::limits::{TRIAL_RETRY, TRIAL_WINDOW_S};
use crate::base::time::Now;
use crate::config::units;
use crate::control::core::{Control, ControlBase};
use crate::control::events::Level;
use crate::control::generations::{Attempt, Outcome};
use crate::control::reload;
use crate::control::state::overrides::Override;
use crate::model::Model;
use crate::policy::abort::{Condition, Readings};
use crate::policy::health::State;
use crate::rt;
use crate::stats::counters::{Backend, Frontend};
use crate::stats::history::Past;
use crate::stats::latency::{Histograms, summed_up};
use crate::stats::sums::Sums;
use crate::stats::table::Stat;
use crate::stats::timers::Lap;
use crate::tls;

/// How to try a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// How long it runs without being confirmed.
    pub patience: Duration,
    /// When it is taken back before.
    pub condition: Option<Condition>,
}

/// What runs again if the trial fails.
#[derive(Clone)]
pub(super) struct Before {
    number: u32,
    model: Arc<Model>,
    tls: Arc<tls::Store>,
    text: Option<Arc<str>>,
    readings: Readings,
}

/// A trial that is under way.
pub(super) struct Trial {
    /// The generation on trial.
    pub(super) number: u32,
    /// When it ends.
    pub(super) until: Now,
    terms: Terms,
    before: Before,
    /// Overrides that had no place in it.
    dropped: Vec<Override>,
}

impl Before {
    /// What runs now, and what is measured of it.
    pub(super) fn take(control: &Control) -> Before {
        let window = Duration::from_secs(TRIAL_WINDOW_S);
        let past = control.history.borrow().at(rt::now() - window);
        let (then, seconds) = match &past {
            Some(past) => (Totals::of(control, Some(past)), TRIAL_WINDOW_S),
            // The process is younger than the window.
            None => (Totals { at: control.started, ..Totals::default() }, TRIAL_WINDOW_S),
        };
        let readings = readings(control, &then, &Totals::of(control, None), seconds);
        Before {
            number: control.live.generation,
            model: control.model.clone(),
            tls: control.tls.borrow().clone(),
            text: control.generations.borrow().text(),
            readings,
        }
    }
}

/// A generation runs, on trial.
pub(super) fn begin(base: &Rc<ControlBase>, number: u32, terms: Terms, before: Before) -> String {
    let until = rt::now() + terms.patience;
    let condition = terms.condition.as_ref().map(|c| format!(", or if {c}")).unwrap_or_default();
    let said = format!(
        "generation {number} is on trial: back to generation {} unless confirmed within {}{condition}",
        before.number,
        units::show_duration(terms.patience)
    );
    base.say(Level::Notice, said.clone());
    *base.trial.borrow_mut() = Some(Trial { number, until, terms, before, dropped: base.dropped.take() });
    rt::spawn(watch(base.clone(), number));
    said
}

/// `confirm`: the configuration on trial stays.
pub(super) fn confirm(base: &ControlBase, who: &str) -> Result<String, String> {
    let trial = base.trial.take().ok_or("no configuration is on trial")?;
    let said = format!("generation {} confirmed by {who}", trial.number);
    base.say(Level::Notice, said.clone());
    Ok(said)
}

/// Looks once a second whether the trial has failed, until it is over.
async fn watch(base: Rc<ControlBase>, number: u32) {
    let mut totals = VecDeque::from([Totals::of(&base.current(), None)]);
    loop {
        let Some(next) = running(&base, number, |trial| trial.until.min(rt::now() + Duration::from_secs(1)))
        else {
            return;
        };
        rt::sleep_until(next).await;
        let control = base.current();
        totals.push_back(Totals::of(&control, None));
        if totals.len() as u64 > TRIAL_WINDOW_S + 1 {
            totals.pop_front();
        }
        let failed = running(&base, number, |trial| trial.failed(&control, &totals));
        drop(control);
        match failed {
            None => return,
            Some(None) => {}
            Some(Some(why)) => return go_back(&base, number, &why).await,
        }
    }
}

/// Something about the trial of a generation, as long as it is under way.
fn running<T>(base: &ControlBase, number: u32, ask: impl FnOnce(&Trial) -> T) -> Option<T> {
    base.trial.borrow().as_ref().filter(|trial| trial.number == number).map(ask)
}

impl Trial {
    fn failed(&self, control: &Control, totals: &VecDeque<Totals>) -> Option<String> {
        let (first, last) = (totals.front()?, totals.back()?);
        // What the second of the switch itself brought is of both configurations.
        let seconds = (totals.len() as u64).saturating_sub(2);
        let holds = self.terms.condition.as_ref().filter(|_| seconds > 0).and_then(|condition| {
            condition.holds(&self.before.readings, &readings(control, first, last, seconds))
        });
        let late = (rt::now() >= self.until)
            .then(|| format!("not confirmed within {}", units::show_duration(self.terms.patience)));
        holds.or(late)
    }
}

/// Runs the configuration before again; tries until it does, or until somebody decides otherwise.
async fn go_back(base: &Rc<ControlBase>, number: u32, why: &str) {
    base.say(Level::Alert, format!("generation {number} has failed its trial: {why}"));
    let mut told = false;
    while running(base, number, |_| ()).is_some() {
        match back(base, &format!("trial of {number}: {why}")).await {
            Ok(_) => return,
            Err(refused) if !told => {
                told = true;
                base.say(Level::Alert, format!("cannot go back yet, trying again: {}", refused.join("; ")));
            }
            Err(_) => {}
        }
        rt::sleep_until(rt::now() + TRIAL_RETRY).await;
    }
}

/// Ends the trial that is under way by going back.
///
/// # Errors
/// What was there before cannot be run any more; the trial goes on.
pub(super) async fn back(base: &Rc<ControlBase>, who: &str) -> Result<Vec<String>, Vec<String>> {
    let Some(_busy) = base.reload.enter() else { return Err(vec!["another reload is under way".to_owned()]) };
    let Some(before) = base.trial.borrow().as_ref().map(|trial| trial.before.clone()) else {
        return Err(vec!["no configuration is on trial".to_owned()]);
    };
    let number = reload::run_again(base, Model::clone(&before.model), before.tls).await?;
    if let Some(trial) = base.trial.take() {
        base.current().restore(trial.dropped);
    }
    let said = format!("generation {number} runs: back to generation {} ({who})", before.number);
    base.say(Level::Notice, said.clone());
    let outcome = Outcome::Ran(number);
    let who = format!("back to {} ({who})", before.number);
    base.generations.borrow_mut().note(Attempt { when: rt::now(), who, outcome, text: before.text });
    Ok(vec![said, FILE_STAYS.to_owned()])
}

/// Said after going back.
pub(super) const FILE_STAYS: &str =
    "the configuration file is as it was: the next reload or start runs what it says";

/// Counters of all proxies together.
#[derive(Clone, Copy, Default)]
struct Totals {
    at: Now,
    requests: u64,
    responses: u64,
    http_4xx: u64,
    http_5xx: u64,
    errors: u64,
}

impl Totals {
    fn of(control: &Control, past: Option<&Past>) -> Totals {
        let collector = control.collector.borrow();
        let mut totals = Totals { at: past.map_or_else(rt::now, |past| past.at), ..Totals::default() };
        for id in control.model.frontends.ids() {
            let sums = match past {
                None => collector.sums::<Frontend>(id),
                Some(past) => collector.past_sums::<Frontend>(id, past),
            };
            let get = |stat| sums.get(stat).unwrap_or(0);
            let statuses = [Stat::Responses2xx, Stat::Responses3xx, Stat::Responses4xx, Stat::Responses5xx];
            let responses: u64 = statuses.into_iter().map(get).sum();
            totals.responses += responses;
            totals.http_4xx += get(Stat::Responses4xx);
            totals.http_5xx += get(Stat::Responses5xx);
            let requests = get(Stat::Requests);
            totals.requests += if requests > 0 { requests } else { get(Stat::SessionsTotal) };
        }
        let errors = |sums: Sums| {
            sums.get(Stat::ConnectErrors).unwrap_or(0) + sums.get(Stat::ResponseErrors).unwrap_or(0)
        };
        for id in control.model.backends.ids() {
            totals.errors += errors(match past {
                None => collector.sums::<Backend>(id),
                Some(past) => collector.past_sums::<Backend>(id, past),
            });
        }
        totals
    }
}

/// What happened between two points in time; durations are those of the last `seconds`.
fn readings(control: &Control, from: &Totals, to: &Totals, seconds: u64) -> Readings {
    let mut histograms = Histograms::default();
    {
        let latency = control.latency.borrow();
        let mut reader = latency.last_seconds(usize::try_from(seconds).unwrap_or(usize::MAX));
        for id in control.model.servers.ids() {
            reader.add(control.cells.servers[id].row(), &mut [&mut histograms]);
        }
    }
    let total = summed_up(&mut histograms)[Lap::Total as usize];
    let states = control.states.borrow();
    let down =
        control.model.servers.ids().filter(|id| control.health_of(&states, *id) == State::Down).count();
    Readings {
        time: to.at.since(from.at),
        requests: to.requests.saturating_sub(from.requests),
        responses: to.responses.saturating_sub(from.responses),
        http_4xx: to.http_4xx.saturating_sub(from.http_4xx),
        http_5xx: to.http_5xx.saturating_sub(from.http_5xx),
        errors: to.errors.saturating_sub(from.errors),
        timed: total.count,
        quantiles: [total.p50, total.p90, total.p99, total.p999].map(u64::from),
        down: down as u64,
    }
}

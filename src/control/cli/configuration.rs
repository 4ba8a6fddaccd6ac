//! Commands about the configuration: reload, generations. They take time, so the socket loop does them.

use std::time::Duration;

use crate::base::limits::{DURATION_MAX, TRIAL_MIN};
use crate::control::cli::parse;
use crate::control::cli::session::{Answer, Call, Reply};
use crate::control::cli::target::{Job, Order, Outcome, Takeover};
use crate::control::trial::Terms;
use crate::policy::abort::Condition;

fn order(order: Order) -> Answer {
    job(Job::Configuration(order))
}

fn job(job: Job) -> Answer {
    let then = |outcome| match outcome {
        Outcome::Text(text) => text,
        _ => String::new(),
    };
    Ok(Reply::Job(job, Box::new(then)))
}

pub(super) fn takeover_sockets(_: &mut Call<'_>) -> Answer {
    job(Job::TakeOver(Takeover::Sockets))
}

pub(super) fn takeover_done(_: &mut Call<'_>) -> Answer {
    job(Job::TakeOver(Takeover::Done))
}

/// Who an order of the admin socket comes from.
fn who() -> String {
    "admin socket".to_owned()
}

pub(super) fn reload(call: &mut Call<'_>) -> Answer {
    order(Order::Reload { who: who(), trial: terms(call.args)? })
}

/// `confirm 2m abort-if http_5xx > 1%`.
fn terms(words: &[String]) -> Result<Option<Terms>, String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (time, rest) = match *words {
        [] => return Ok(None),
        ["confirm", time, ref rest @ ..] => (time, rest),
        _ => return Err("Usage: reload [confirm <time> [abort-if <condition>]]".to_owned()),
    };
    let patience = parse::duration(time, Duration::from_secs(1));
    let patience = patience
        .filter(|time| (TRIAL_MIN..=DURATION_MAX).contains(time))
        .ok_or_else(|| format!("\"{time}\" is no time between 1s and 24d, for example 2m."))?;
    let condition = match rest {
        [] => None,
        ["abort-if", condition @ ..] => {
            Some(Condition::parse(&condition.join(" ")).map_err(|why| format!("abort-if: {why}"))?)
        }
        [other, ..] => return Err(format!("\"{other}\" is unknown here; abort-if <condition> may follow.")),
    };
    Ok(Some(Terms { patience, condition }))
}

pub(super) fn confirm(_: &mut Call<'_>) -> Answer {
    order(Order::Confirm { who: who() })
}

pub(super) fn roll_back(call: &mut Call<'_>) -> Answer {
    order(Order::RollBack { who: who(), to: generation(call)? })
}

pub(super) fn show_history(call: &mut Call<'_>) -> Answer {
    order(Order::ShowHistory(generation(call)?))
}

/// The number of a generation, if one is said.
fn generation(call: &Call<'_>) -> Result<Option<u32>, String> {
    match call.arg(0) {
        "" => Ok(None),
        text => parse::number(text)
            .map(Some)
            .ok_or_else(|| "Require the number of a generation (see show configurations).".to_owned()),
    }
}

pub(super) fn show_generations(_: &mut Call<'_>) -> Answer {
    order(Order::ShowGenerations)
}

pub(super) fn show_configuration(_: &mut Call<'_>) -> Answer {
    order(Order::ShowConfiguration)
}

pub(super) fn show_files(_: &mut Call<'_>) -> Answer {
    order(Order::ShowFiles)
}

pub(super) fn drain_generation(call: &mut Call<'_>) -> Answer {
    match parse::number(call.arg(0)) {
        Some(number) => order(Order::DrainGeneration(number)),
        None => Err("Require the number of a generation (see show generations).".to_owned()),
    }
}

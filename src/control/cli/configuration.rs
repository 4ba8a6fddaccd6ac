//! Commands about the configuration: reload, generations. They take time, so the socket loop does them.

use crate::control::cli::parse;
use crate::control::cli::session::{Answer, Call, Reply};
use crate::control::cli::target::{Job, Order, Outcome};

fn order(order: Order) -> Answer {
    let then = |outcome| match outcome {
        Outcome::Text(text) => text,
        _ => String::new(),
    };
    Ok(Reply::Job(Job::Configuration(order), Box::new(then)))
}

pub(super) fn reload(_: &mut Call<'_>) -> Answer {
    order(Order::Reload { who: "admin socket".to_owned() })
}

pub(super) fn show_generations(_: &mut Call<'_>) -> Answer {
    order(Order::ShowGenerations)
}

pub(super) fn show_configuration(_: &mut Call<'_>) -> Answer {
    order(Order::ShowConfiguration)
}

pub(super) fn drain_generation(call: &mut Call<'_>) -> Answer {
    match parse::number(call.arg(0)) {
        Some(number) => order(Order::DrainGeneration(number)),
        None => Err("Require the number of a generation (see show generations).".to_owned()),
    }
}

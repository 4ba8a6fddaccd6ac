//! Commands about the connection itself.

use std::time::Duration;

use crate::base::limits::ADMIN_WAIT_S_MAX;
use crate::control::cli::parse;
use crate::control::cli::session::{Answer, Call, Mode, Reply, done};
use crate::control::cli::table;
use crate::control::cli::target::Job;
use crate::model::AdminLevel;

pub(super) fn help(call: &mut Call<'_>) -> Answer {
    let candidates = if call.args.is_empty() { Vec::new() } else { table::candidates(call.args) };
    Ok(Reply::Text(table::help(&candidates, call.settings.level)))
}

pub(super) fn prompt(call: &mut Call<'_>) -> Answer {
    call.settings.mode = match (call.arg(0), call.settings.mode) {
        ("", Mode::Prompt) | ("n", _) => Mode::OneShot,
        ("i", _) => Mode::Interactive,
        ("" | "p", _) => Mode::Prompt,
        _ => return Err("'prompt' expects 'i', 'n' or 'p'.".to_owned()),
    };
    done()
}

pub(super) fn quit(_: &mut Call<'_>) -> Answer {
    Ok(Reply::Quit)
}

pub(super) fn user(call: &mut Call<'_>) -> Answer {
    call.settings.level = AdminLevel::User;
    done()
}

pub(super) fn operator(call: &mut Call<'_>) -> Answer {
    if call.settings.level < AdminLevel::Operator {
        return Err("Permission denied".to_owned());
    }
    call.settings.level = AdminLevel::Operator;
    done()
}

pub(super) fn show_level(call: &mut Call<'_>) -> Answer {
    Ok(Reply::Text(table::level_name(call.settings.level).to_owned()))
}

pub(super) fn set_timeout(call: &mut Call<'_>) -> Answer {
    if call.arg(0) != "cli" {
        return Err("'set timeout' only supports 'cli'.".to_owned());
    }
    if call.arg(1).is_empty() {
        return Err("Expects an integer value.".to_owned());
    }
    match parse::duration(call.arg(1), Duration::from_secs(1)) {
        Some(timeout) if !timeout.is_zero() && timeout <= Duration::from_secs(ADMIN_WAIT_S_MAX) => {
            call.settings.timeout = timeout;
            done()
        }
        _ => Err("Invalid timeout value.".to_owned()),
    }
}

/// `set severity-output`: programs that drive HAProxy tell errors from answers by it.
pub(super) fn set_severity(call: &mut Call<'_>) -> Answer {
    call.settings.severity = match call.arg(0) {
        "none" => "",
        "number" => "[3]: ",
        "string" => "[error]: ",
        _ => return Err("one of 'none', 'number', 'string' is a required argument".to_owned()),
    };
    done()
}

/// The audit log has the line.
pub(super) fn note(call: &mut Call<'_>) -> Answer {
    if call.args.is_empty() { Err("What is to be noted?".to_owned()) } else { Ok(Reply::Text(String::new())) }
}

pub(super) fn echo(call: &mut Call<'_>) -> Answer {
    let mut text = call.args.join(" ");
    if let Some(payload) = call.payload {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(payload);
    }
    Ok(Reply::Text(text))
}

pub(super) fn wait(call: &mut Call<'_>) -> Answer {
    match parse::duration(call.arg(0), Duration::from_millis(1)) {
        Some(delay) if delay <= Duration::from_secs(ADMIN_WAIT_S_MAX) => {
            Ok(Reply::Job(Job::Wait(delay), Box::new(|_| "Done.".to_owned())))
        }
        _ => Err("Expects a duration in milliseconds.".to_owned()),
    }
}

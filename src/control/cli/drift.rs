//! Commands about runtime changes: what runs otherwise than configured.

use crate::control::cli::servers;
use crate::control::cli::session::{Answer, Call, Reply};

pub(super) fn show(call: &mut Call<'_>) -> Answer {
    Ok(Reply::Text(call.target.drift(&call.args.join(" "))))
}

pub(super) fn adopt(call: &mut Call<'_>) -> Answer {
    Ok(Reply::Text(call.target.adopt(&call.args.join(" "))))
}

pub(super) fn clear(call: &mut Call<'_>) -> Answer {
    let object = call.args.join(" ");
    match call.target.clear_overrides(&object) {
        0 if !object.is_empty() => Err(format!("There is no override of {object} (see show drift).")),
        count => {
            call.changed(format!("{count} overrides"), "as configured");
            Ok(Reply::Text(format!("{count} overrides cleared.")))
        }
    }
}

pub(super) fn server(call: &mut Call<'_>) -> Answer {
    let id = servers::server(call)?;
    Ok(Reply::Text(call.target.origins(id)))
}

/// The session takes `for <delay>` from the front of a command; alone it says nothing.
pub(super) fn lasting(_: &mut Call<'_>) -> Answer {
    Err("'for' expects a duration and a command.".to_owned())
}

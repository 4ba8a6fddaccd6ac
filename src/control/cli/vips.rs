//! Commands about addresses that move between nodes.

use crate::control::cli::session::{Answer, Call, Reply};
use crate::control::cli::target::VipOrder;
use crate::control::vip::{self, Role};

pub(super) fn show(call: &mut Call<'_>) -> Answer {
    Ok(Reply::Text(vip::table(&call.target.vips())))
}

pub(super) fn set(call: &mut Call<'_>) -> Answer {
    let order = match (call.arg(1), call.arg(2)) {
        ("state", "drain") => Some(VipOrder::Drain(true)),
        ("state", "ready") => Some(VipOrder::Drain(false)),
        ("role", role) => Role::parse(role).map(VipOrder::Role),
        _ => None,
    };
    let Some(order) = order else {
        return Err(
            "Require 'state drain|ready' or 'role master|backup|fault|stop|announced|withdrawn'.".to_owned()
        );
    };
    let name = call.arg(0).to_owned();
    if !call.target.vips().iter().any(|row| row.name == name) {
        return Err(format!("No such vip: {name}."));
    }
    call.target.set_vip(&name, order);
    Ok(Reply::Text(String::new()))
}

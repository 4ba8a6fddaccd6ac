//! `[gateway.INTERFACE]`.

use crate::config::file::Data;
use crate::config::keywords::Scope;
use crate::config::section::{Context, Section};
use crate::model::Gateway;

pub(super) fn gateways(context: &Context<'_>) -> Vec<Gateway> {
    let Some(Data::Table(named)) = context.file.root.entry("gateway").map(|entry| &entry.value.data) else {
        return Vec::new();
    };
    let mut gateways = Vec::new();
    for entry in &named.entries {
        let Data::Table(table) = &entry.value.data else { continue };
        let section = Section::new(context, Scope::Gateway, entry.key_span.start, vec![table]);
        let interface = entry.key.clone();
        super::vip::check_interface(context, entry.key_span.start, &interface);
        let mut addresses = Vec::new();
        for (at, text) in section.texts("addresses") {
            match super::vip::plain(&text.text) {
                Ok(address) => addresses.push(address),
                Err(problem) => context.problem(at, problem),
            }
        }
        if addresses.is_empty() {
            context.error(entry.key_span.start, format!("gateway {interface} has no addresses"), None);
        }
        gateways.push(Gateway { interface, addresses });
    }
    gateways
}

//! Certificates, and where servers are.

use super::{Area, Facts, Finding, Way};
use crate::control::resolve;
use crate::model::{Model, Server, ServerAddress};

const DAY_S: i64 = 86_400;
/// When a certificate should have been renewed: ACME clients do it a month before.
const EXPIRY_WARNING_DAYS: i64 = 21;

pub(super) fn examine(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    certificates(facts, out);
    names(model, facts, out);
    twins(model, out);
}

fn certificates(facts: &Facts, out: &mut Vec<Finding>) {
    out.extend(facts.certificate_errors.iter().map(|error| Finding::broken(Area::Certificates, error)));
    let mut first = None;
    for certificate in &facts.certificates {
        let path = certificate.path.display();
        let days = (certificate.not_after - facts.now).div_euclid(DAY_S);
        if certificate.not_after <= facts.now {
            let text = format!("{path} expired {} days ago; renew it and `shardgate reload`", -days);
            out.push(Finding::broken(Area::Certificates, text));
        } else if certificate.not_before > facts.now {
            let text = format!("{path} is not valid yet; is the clock right?");
            out.push(Finding::broken(Area::Certificates, text));
        } else if days < EXPIRY_WARNING_DAYS {
            let text = format!("{path} expires in {days} days; renew it and `shardgate reload`");
            out.push(Finding::change(Area::Certificates, text));
        }
        first = Some(first.map_or(days, |first: i64| first.min(days)));
    }
    if let Some(days) = first.filter(|days| *days >= EXPIRY_WARNING_DAYS) {
        let text = format!("{} in use, the first expires in {days} days", facts.certificates.len());
        out.push(Finding::fine(Area::Certificates, text));
    }
}

fn names(model: &Model, facts: &Facts, out: &mut Vec<Finding>) {
    let mut found = 0;
    for (name, result) in &facts.names {
        match result {
            Ok(ways) if ways.iter().any(|way| way.routed) => {
                found += 1;
                shared(model, name, ways, out);
            }
            Ok(ways) => out.push(no_way(name, ways)),
            Err(why) => out.push(Finding::broken(
                Area::Dns,
                format!("{name}: {why}: its servers have no address; correct the name, or /etc/resolv.conf"),
            )),
        }
    }
    if found > 0 {
        out.push(Finding::fine(Area::Dns, format!("{found} names of servers have addresses")));
    }
}

/// All addresses of a name are out of reach: most often they are IPv6 alone, and this machine has none.
fn no_way(name: &str, ways: &[Way]) -> Finding {
    let list = ways.iter().map(|way| way.ip.to_string()).collect::<Vec<_>>().join(", ");
    let (of, other) = match ways.iter().all(|way| way.ip.is_ipv6()) {
        true => ("IPv6 addresses alone", "an A record"),
        false => ("addresses", "another address"),
    };
    let text = format!(
        "{name} has {of} ({list}) and this machine has no route there: its servers cannot be reached; add a route, or give the \
         name {other}"
    );
    Finding::broken(Area::Dns, text)
}

/// Several servers of a backend with one name get its addresses as the process would give them out.
fn shared(model: &Model, name: &str, ways: &[Way], out: &mut Vec<Finding>) {
    for (id, backend) in model.backends.iter() {
        let port = |server: &Server| match &server.address {
            ServerAddress::Name { host, port } if host == name => Some(*port),
            _ => None,
        };
        let servers = backend.servers.iter().map(|id| &*model.servers[id]);
        let (names, wishes): (Vec<&str>, Vec<_>) =
            servers.filter_map(|server| Some((server.name.as_str(), (server.lookup, port(server)?)))).unzip();
        if wishes.len() < 2 {
            continue;
        }
        let given = resolve::give_out(&wishes, ways);
        let backend = &model.backends[id].name;
        let without = given.iter().filter(|address| address.is_none()).count();
        if without > 0 {
            // What a template has to spare waits for addresses to come.
            let text = format!(
                "{without} of {} servers of {backend} wait for {name} to have more addresses",
                given.len()
            );
            out.push(Finding::fine(Area::Dns, text));
        }
        let doubled = |at: &usize| given[*at].is_some() && given[..*at].contains(&given[*at]);
        let again: Vec<&str> = (0..given.len()).filter(doubled).map(|at| names[at]).collect();
        if !again.is_empty() {
            let text = format!(
                "{backend}: {name} has fewer addresses than servers: {} have one that another server has, which is checked and \
                 counts maxconn twice; one server with more weight, or resolve-opts = [\"prevent-dup-ip\"]",
                again.join(", ")
            );
            out.push(Finding::change(Area::Dns, text));
        }
    }
}

/// Servers of a backend that are one: in use at the same time, at one address, from the same source.
fn twins(model: &Model, out: &mut Vec<Finding>) {
    for backend in model.backends.values() {
        let servers: Vec<&Server> = backend.servers.iter().map(|id| &*model.servers[id]).collect();
        // Whoever asks one address by different names, or from different ones, means it.
        let fixed = |server: &Server| {
            !matches!(server.address, ServerAddress::Name { .. }) && server.sni.is_none() && !server.disabled
        };
        let are_one = |a: &Server, b: &Server| {
            fixed(a) && fixed(b) && a.address == b.address && a.backup == b.backup && a.source == b.source
        };
        for (at, server) in servers.iter().enumerate() {
            if let Some(first) = servers[..at].iter().find(|first| are_one(first, server)) {
                let text = format!(
                    "{}: {}/{} is where {} is: it is checked twice and counts maxconn twice; one server with more weight",
                    server.origin, backend.name, server.name, first.name
                );
                out.push(Finding::change(Area::Network, text));
            }
        }
    }
}

//! Certificates and names of servers.

use super::{Area, Facts, Finding};

const DAY_S: i64 = 86_400;
/// When a certificate should have been renewed: ACME clients do it a month before.
const EXPIRY_WARNING_DAYS: i64 = 21;

pub(super) fn examine(facts: &Facts, out: &mut Vec<Finding>) {
    certificates(facts, out);
    names(facts, out);
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

fn names(facts: &Facts, out: &mut Vec<Finding>) {
    let mut found = 0;
    for (name, result) in &facts.names {
        match result {
            Ok(_) => found += 1,
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

//! `shardgate gateways`: a connection that came in by one uplink is answered through that uplink's gateway. A bind with
//! `interface` has sockets that are bound to it; a policy rule sends what leaves by such an interface to a routing table of its
//! own, with the gateway of `[gateway.INTERFACE]`. As snippets for systemd-networkd, or installed at once with `ip`.

use std::fmt::Write as _;

use crate::control::transparent::ip;
use crate::model::{Gateway, Model};

/// The number of the first table; each interface has the next one. Also the priority of its rule.
const FIRST_TABLE: u32 = 5401;
/// As many as there are likely to be: how many rules are looked for when they are taken back.
const GATEWAYS_MAX: u32 = 64;

fn tables(model: &Model) -> impl Iterator<Item = (u32, &Gateway)> {
    (FIRST_TABLE..FIRST_TABLE + GATEWAYS_MAX).zip(&model.gateways)
}

/// Drop-ins for the interfaces' files in /etc/systemd/network.
pub fn networkd(model: &Model) -> String {
    let mut out = String::new();
    for (table, gateway) in tables(model) {
        let interface = &gateway.interface;
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "# /etc/systemd/network/FILE-OF-{interface}.network.d/shardgate.conf, then `networkctl reload`"
        );
        for address in &gateway.addresses {
            let _ = writeln!(out, "[Route]\nGateway={address}\nTable={table}\n");
        }
        let (v4, v6) = families(gateway);
        let family = if v4 && v6 {
            "both"
        } else if v6 {
            "ipv6"
        } else {
            "ipv4"
        };
        let _ = writeln!(
            out,
            "[RoutingPolicyRule]\nOutgoingInterface={interface}\nTable={table}\nPriority={table}\nFamily={family}\n"
        );
    }
    if out.is_empty() {
        out.push_str("# There is no [gateway.INTERFACE] in this configuration.\n");
    }
    out
}

fn families(gateway: &Gateway) -> (bool, bool) {
    let v6 = gateway.addresses.iter().any(std::net::IpAddr::is_ipv6);
    (gateway.addresses.iter().any(std::net::IpAddr::is_ipv4), v6)
}

/// Arguments of `ip` that do the same until the next start of the machine.
fn commands(model: &Model) -> Vec<String> {
    let mut lines = Vec::new();
    for (table, gateway) in tables(model) {
        let interface = &gateway.interface;
        for address in &gateway.addresses {
            let family = if address.is_ipv4() { "-4" } else { "-6" };
            lines.push(format!("{family} route replace default via {address} dev {interface} table {table}"));
            lines.push(format!("{family} rule add pref {table} oif {interface} lookup {table}"));
        }
    }
    lines
}

/// Installs the rules in place of those that were there.
///
/// # Errors
/// What `ip` said.
pub fn install(model: &Model) -> Result<(), String> {
    remove();
    commands(model).iter().try_for_each(|line| ip(line).map(drop))
}

/// Removes the rules of all interfaces; the tables are of no use to anybody without them.
pub fn remove() {
    for family in ["-4", "-6"] {
        for rule in ip(&format!("{family} rule show")).unwrap_or_default().lines() {
            let table = rule.split(':').next().and_then(|number| number.parse::<u32>().ok()).unwrap_or(0);
            if (FIRST_TABLE..FIRST_TABLE + GATEWAYS_MAX).contains(&table) {
                // Somebody else may have been quicker.
                let _ = ip(&format!("{family} rule del pref {table}"));
                let _ = ip(&format!("{family} route flush table {table}"));
            }
        }
    }
}

/// What is missing of what the configuration says: an interface and the family.
pub(super) fn missing(model: &Model) -> Vec<String> {
    let mut missing = Vec::new();
    for (_, gateway) in tables(model) {
        for address in &gateway.addresses {
            let (family, name) = if address.is_ipv4() { ("-4", "IPv4") } else { ("-6", "IPv6") };
            let rules = ip(&format!("{family} rule show")).unwrap_or_default();
            if !has_route(&rules, gateway, address, |table| {
                ip(&format!("{family} route show table {table}")).unwrap_or_default()
            }) {
                missing.push(format!("{} ({name} by {address})", gateway.interface));
            }
        }
    }
    missing
}

/// Whether a rule for what leaves by the interface leads to a table with this gateway, whoever made it.
fn has_route(
    rules: &str,
    gateway: &Gateway,
    address: &std::net::IpAddr,
    routes: impl Fn(&str) -> String,
) -> bool {
    let wanted = format!(" oif {} ", gateway.interface);
    let tables = rules.lines().filter(|rule| rule.contains(&wanted)).filter_map(|rule| {
        let (_, table) = rule.split_once("lookup ")?;
        table.split_whitespace().next()
    });
    let route = format!("default via {address} ");
    tables.into_iter().any(|table| routes(table).lines().any(|line| format!("{line} ").starts_with(&route)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::load;

    #[test]
    fn snippets_and_commands_say_the_same() {
        let text = "[defaults]\ntimeout = { client = 1, connect = 1, server = 1 }\n[backend.b.server.s]\n\
                    address = \"192.0.2.1:1\"\n[frontend.f]\nbind = [{ address = \"0.0.0.0:80\", interface = \"eth1\" }]\n\
                    default-backend = \"b\"\n[gateway.eth0]\naddresses = \"192.0.2.254\"\n\
                    [gateway.eth1]\naddresses = [\"198.51.100.254\", \"2001:db8::1\"]\n";
        let (model, diagnostics) = load::from_text("test", text).expect("the machine can be looked at");
        let model = model.unwrap_or_else(|| panic!("{diagnostics:?}"));
        let snippets = networkd(&model);
        for expected in [
            "[Route]\nGateway=192.0.2.254\nTable=5401\n\n[RoutingPolicyRule]\nOutgoingInterface=eth0\nTable=5401\nPriority=5401\n\
             Family=ipv4\n",
            "Gateway=2001:db8::1\nTable=5402\n\n[RoutingPolicyRule]\nOutgoingInterface=eth1\nTable=5402\nPriority=5402\nFamily=both\n",
        ] {
            assert!(snippets.contains(expected), "no {expected:?} in\n{snippets}");
        }
        assert_eq!(
            commands(&model)[2..4],
            [
                "-4 route replace default via 198.51.100.254 dev eth1 table 5402",
                "-4 rule add pref 5402 oif eth1 lookup 5402"
            ]
        );
        let rules =
            "0:\tfrom all lookup local\n5402:\tfrom all oif eth1 lookup 5402\n32766:\tfrom all lookup main\n";
        let gateway = &model.gateways[1];
        let has =
            |routes: &'static str| has_route(rules, gateway, &gateway.addresses[0], |_| routes.to_owned());
        assert!(has("default via 198.51.100.254 dev eth1 proto static"));
        assert!(!has("default via 198.51.100.25 dev eth1") && !has(""));
    }
}

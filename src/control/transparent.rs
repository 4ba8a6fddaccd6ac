//! `shardgate transparent`: the rules of the kernel that bring packets of other hosts' addresses to our sockets, made from the
//! configuration: nftables (TPROXY for new connections, a mark for those that have a socket) and a policy route by that mark.
//! What is to be installed is decided here by pure functions; installing it is `nft` and `ip`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use crate::control::listeners::configured;
use crate::model::{Bind, BindAddress, Model};

/// The table of nftables that is ours.
const TABLE: &str = "shardgate_transparent";
/// Mark, priority of the rule and number of the routing table: all the same, and hardly somebody else's.
pub(super) const MARK: u32 = 0x5347;

/// What the kernel is to be told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// The rules of nftables, each with its comment, which tells it from others.
    pub rules: Vec<(String, String)>,
    /// The families that need the policy route: IPv4, IPv6.
    pub families: (bool, bool),
}

/// What a configuration needs; nothing if it is not transparent anywhere.
pub fn plan(model: &Model) -> Plan {
    let mut plan = Plan::default();
    let sources = model.servers.values().any(|server| server.source_is_client);
    let binds: Vec<(&Bind, SocketAddr)> = model
        .binds
        .values()
        .filter(|bind| bind.transparent)
        .filter_map(|bind| match bind.address {
            BindAddress::Ip(address) => Some((bind, address)),
            _ => None,
        })
        .collect();
    if !sources && binds.is_empty() {
        return plan;
    }
    let rule =
        format!("meta l4proto tcp socket transparent 1 socket wildcard 0 meta mark set {MARK:#x} accept");
    plan.rules.push((rule, "connections that have a socket".to_owned()));
    for (bind, address) in binds {
        let both = address.is_ipv6() && address.ip().is_unspecified() && !bind.v6only;
        if both || address.is_ipv4() {
            plan.families.0 = true;
            plan.rules.push(intercept(model, bind, address, "ip"));
        }
        if address.is_ipv6() {
            plan.families.1 = true;
            plan.rules.push(intercept(model, bind, address, "ip6"));
        }
    }
    if sources {
        // Servers with names may get addresses of both families.
        plan.families = (true, true);
    }
    plan
}

/// The rule that brings new connections to a bind; `family` is `ip` or `ip6`.
fn intercept(model: &Model, bind: &Bind, address: SocketAddr, family: &str) -> (String, String) {
    let port = address.port();
    let mut rule = String::new();
    // Writing to a string cannot fail.
    if let Some(interface) = &bind.interface {
        let _ = write!(rule, "iifname {} ", quoted(interface));
    }
    let to = if address.ip().is_unspecified() {
        let protocol = if family == "ip" { "ipv4" } else { "ipv6" };
        // What is for an address of this machine gets to its socket anyhow, ours or another.
        let _ = write!(rule, "meta nfproto {protocol} fib daddr type != local ");
        format!(":{port}")
    } else {
        let _ = write!(rule, "{family} daddr {} ", address.ip());
        match address.ip() {
            IpAddr::V4(ip) => format!("{ip}:{port}"),
            IpAddr::V6(ip) => format!("[{ip}]:{port}"),
        }
    };
    let _ = write!(rule, "tcp dport {port} meta mark set {MARK:#x} tproxy {family} to {to} accept");
    let name = &model.frontends[bind.frontend].name;
    (rule, format!("{name} {} {family}", configured(&bind.address)))
}

/// A string of nftables, which knows no escapes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace(['"', '\\', '\n'], "_"))
}

/// How nftables shows and takes a comment.
pub(super) fn comment(text: &str) -> String {
    // It takes 128 bytes with the terminating zero.
    let text: String = text.chars().filter(char::is_ascii).take(120).collect();
    format!("comment {}", quoted(&text))
}

impl Plan {
    /// Whether there is nothing to install.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// For `nft -f`: replaces what was there in one transaction.
    pub fn nftables(&self) -> String {
        let mut text = format!("table inet {TABLE}\ndelete table inet {TABLE}\n");
        if self.is_empty() {
            return text;
        }
        let _ = writeln!(text, "table inet {TABLE} {{\n  chain prerouting {{");
        text.push_str("    type filter hook prerouting priority mangle; policy accept;\n");
        for (rule, name) in &self.rules {
            let _ = writeln!(text, "    {rule} {}", comment(name));
        }
        text.push_str("  }\n}\n");
        text
    }

    /// Arguments of `ip` that add the policy route.
    pub fn routes(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (family, _) in [("-4", self.families.0), ("-6", self.families.1)].iter().filter(|(_, on)| *on) {
            lines.push(format!("{family} route replace local default dev lo table {MARK}"));
            lines.push(format!("{family} rule add pref {MARK} fwmark {MARK:#x} lookup {MARK}"));
        }
        lines
    }

    /// What would be done, as a script.
    pub fn script(&self) -> String {
        if self.is_empty() {
            return "# Nothing in this configuration is transparent.\n".to_owned();
        }
        let mut text = format!("nft -f - <<'END'\n{}END\n", self.nftables());
        for line in self.routes() {
            let _ = writeln!(text, "ip {line}");
        }
        text
    }

    /// Installs it in place of what was there.
    ///
    /// # Errors
    /// What `nft` or `ip` said.
    pub fn install(&self) -> Result<(), String> {
        clear_routes();
        nft(&self.nftables())?;
        self.routes().iter().try_for_each(|line| ip(line).map(drop))
    }
}

/// Removes what [`Plan::install`] made; nothing there is no error.
///
/// # Errors
/// What `nft` said.
pub fn remove() -> Result<(), String> {
    clear_routes();
    nft(&Plan::default().nftables())
}

fn clear_routes() {
    for family in ["-4", "-6"] {
        // There may be several from earlier times; the one that is not there ends the loop.
        while ip(&format!("{family} rule del pref {MARK} fwmark {MARK:#x} lookup {MARK}")).is_ok() {}
        let _ = ip(&format!("{family} route flush table {MARK}"));
    }
}

/// Runs `ip`; what it printed.
pub(super) fn ip(line: &str) -> Result<String, String> {
    said("ip", Command::new("ip").args(line.split(' ')).output())
}

fn nft(text: &str) -> Result<(), String> {
    let run = || {
        let mut command = Command::new("nft");
        command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // Dropped after the write: that ends its input.
        child.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_bytes()))?;
        child.wait_with_output()
    };
    said("nft", run()).map(drop)
}

/// What a program wrote, or its complaint.
fn said(name: &str, output: std::io::Result<std::process::Output>) -> Result<String, String> {
    let output = output.map_err(|e| format!("cannot run {name}: {e}; install nftables and iproute2"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// What is installed: the listing of our table, and whether each family has its policy route.
pub(super) fn installed() -> (String, (bool, bool)) {
    let list = Command::new("nft").args(["list", "table", "inet", TABLE]).output();
    let has_route = |family: &str| {
        let ask = |what: &str| ip(&format!("{family} {what}")).unwrap_or_default();
        let rule = ask("rule show").contains(&format!("fwmark {MARK:#x} lookup {MARK}"));
        rule && ask(&format!("route show table {MARK}")).contains("local default")
    };
    (said("nft", list).unwrap_or_default(), (has_route("-4"), has_route("-6")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::load;

    fn plan_of(binds: &str, source: &str) -> Plan {
        let text = format!(
            "[defaults]\ntimeout = {{ client = 1, connect = 1, server = 1 }}\n[backend.b.server.s]\n\
             address = \"192.0.2.1:1\"\n{source}\n[frontend.f]\nbind = [{binds}]\ndefault-backend = \"b\"\n"
        );
        let (model, diagnostics) = load::from_text("test", &text).expect("the machine can be looked at");
        plan(&model.unwrap_or_else(|| panic!("{diagnostics:?}")))
    }

    #[test]
    fn rules_come_from_binds_and_sources() {
        let plain = plan_of("\"0.0.0.0:80\"", "");
        assert!(plain.is_empty() && plain.routes().is_empty());
        let source = plan_of("\"0.0.0.0:80\"", "source = \"client\"");
        assert_eq!((source.rules.len(), source.families), (1, (true, true)));
        for (bind, families, expected) in [
            (
                "address = \"0.0.0.0:80\"",
                (true, false),
                "meta nfproto ipv4 fib daddr type != local tcp dport 80 meta mark set 0x5347 tproxy ip to :80 accept",
            ),
            (
                "address = \"203.0.113.7:443\", interface = \"eth1\"",
                (true, false),
                "iifname \"eth1\" ip daddr 203.0.113.7 tcp dport 443 meta mark set 0x5347 tproxy ip to 203.0.113.7:443 accept",
            ),
            (
                "address = \"[2001:db8::7]:80\"",
                (false, true),
                "ip6 daddr 2001:db8::7 tcp dport 80 meta mark set 0x5347 tproxy ip6 to [2001:db8::7]:80 accept",
            ),
            (
                "address = \"[::]:80\", v4v6 = true",
                (true, true),
                "meta nfproto ipv6 fib daddr type != local tcp dport 80 meta mark set 0x5347 tproxy ip6 to :80 accept",
            ),
        ] {
            let made = plan_of(&format!("{{ {bind}, transparent = true }}"), "");
            assert_eq!(made.families, families, "{bind}");
            assert_eq!(made.rules.last().expect("a rule").0, expected, "{bind}");
        }
    }

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(comment("a\" accept\n\u{e4}b"), "comment \"a_ accept_b\"");
    }
}

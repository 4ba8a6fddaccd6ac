//! `shardgate vip`: keepalived's configuration from `[vip.NAME]`, and what keepalived runs: its track script and its notify
//! hook, both clients of the admin socket. What the process knows about its addresses is `Vips`. Addresses that all nodes have
//! are BIRD's (`bird`); `watch` tells both what the process does.

pub mod bird;
pub mod watch;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::base::time::Now;
use crate::control::ctl;
use crate::model::vip::{Announce, Vip};
use crate::model::{AdminEndpoint, AdminLevel, Model};
use crate::rt::machine;

/// Where Debian's keepalived reads its configuration.
pub const KEEPALIVED_CONF: &str = "/etc/keepalived/keepalived.conf";
/// What a node that does not serve loses. More than priorities of nodes that are alike differ by.
const PENALTY: u8 = 60;

/// What keepalived last said of an address, or the watcher of one that BIRD announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// This node has the addresses.
    Master,
    /// Another node has them.
    Backup,
    /// This node cannot have them: its interface is down, or the process did not answer.
    Fault,
    /// keepalived stopped.
    Stop,
    /// Routers are told to come here.
    Announced,
    /// They are not.
    Withdrawn,
}

impl Role {
    /// As keepalived writes it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Master => "MASTER",
            Role::Backup => "BACKUP",
            Role::Fault => "FAULT",
            Role::Stop => "STOP",
            Role::Announced => "ANNOUNCED",
            Role::Withdrawn => "WITHDRAWN",
        }
    }

    /// In any case.
    pub fn parse(text: &str) -> Option<Role> {
        let all = [Role::Master, Role::Backup, Role::Fault, Role::Stop, Role::Announced, Role::Withdrawn];
        all.into_iter().find(|role| role.name().eq_ignore_ascii_case(text))
    }
}

/// What is known about one `[vip.NAME]`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct VipState {
    /// What keepalived said, and when; `None`: nothing yet.
    pub(super) role: Option<(Role, Now)>,
    /// How often the role changed.
    pub(super) changes: u64,
    /// The operator wants another node to have it.
    pub(super) drain: bool,
}

/// By name: it outlives generations.
pub(super) type Vips = BTreeMap<String, VipState>;

/// A row of `show vip`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VipRow {
    /// Its name.
    pub name: String,
    /// What keepalived said last.
    pub role: Option<Role>,
    /// Since then.
    pub since: Duration,
    /// Changes of the role.
    pub changes: u64,
    /// Whether the operator wants it elsewhere.
    pub drain: bool,
    /// The first backend of `track` without a usable server.
    pub lacks: Option<String>,
    /// Who announces it.
    pub announce: Announce,
    /// With prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// The table of `show vip`.
pub(super) fn table(rows: &[VipRow]) -> String {
    let mut out = "# name role seconds changes admin serves announce addresses\n".to_owned();
    for row in rows {
        let role = row.role.map_or("-", Role::name);
        let admin = if row.drain { "drain" } else { "ready" };
        let serves = row.lacks.as_ref().map_or("yes".to_owned(), |backend| format!("no:{backend}"));
        // Writing to a string cannot fail.
        let _ = write!(out, "{} {role} {} {} {admin} {serves}", row.name, row.since.as_secs(), row.changes);
        let addresses: Vec<String> =
            row.addresses.iter().map(|(ip, prefix)| format!("{ip}/{prefix}")).collect();
        let _ = writeln!(out, " {} {}", row.announce.name(), addresses.join(","));
    }
    out
}

/// keepalived's configuration. `program`: this binary; `local`: whether an address is of this node.
///
/// # Errors
/// What the configuration lacks for it.
pub fn keepalived(
    model: &Model,
    program: &str,
    directory: &Path,
    local: impl Fn(IpAddr) -> bool,
) -> Result<String, String> {
    if !needs_keepalived(model) {
        return Err("there is no [vip.NAME] with announce = \"vrrp\" in this configuration".to_owned());
    }
    let socket = admin_socket(model)?;
    let mut out = "# Made by `shardgate vip keepalived`: change [vip.NAME] and make it again.\n".to_owned();
    let node: String = model.global.node.chars().filter(|c| c.is_ascii_graphic() && *c != '"').collect();
    let _ = write!(
        out,
        "global_defs {{\n  router_id {node}\n  vrrp_version 3\n  script_user root\n  enable_script_security\n}}\n"
    );
    for vip in model.vips.iter().filter(|vip| vip.announce == Announce::Vrrp) {
        track_file(&mut out, &vip.name, directory);
        scripts(&mut out, &vip.name, program, socket, directory);
        instance(&mut out, vip, program, socket, &local)?;
    }
    Ok(out)
}

/// Whether VRRP is spoken.
pub fn needs_keepalived(model: &Model) -> bool {
    model.vips.iter().any(|vip| vip.announce == Announce::Vrrp)
}

/// What `watch` writes: keepalived adds it to the priority the moment that it changes.
fn track_file(out: &mut String, name: &str, directory: &Path) {
    let file = directory.join(name);
    let _ = write!(
        out,
        "\ntrack_file {name}_watch {{\n  file \"{}\"\n  weight 1\n  init_file 0\n}}\n",
        file.display()
    );
}

/// keepalived's words end at a space; a path with one cannot be given to it.
fn admin_socket(model: &Model) -> Result<&str, String> {
    let unix = model.global.admin.iter().filter(|socket| socket.level == AdminLevel::Admin);
    let mut path = unix.filter_map(|socket| match &socket.at {
        AdminEndpoint::Unix(path) => path.to_str(),
        AdminEndpoint::Tcp(_) | AdminEndpoint::Fd(_) => None,
    });
    path.find(|path| !path.contains([' ', '"', '\n'])).ok_or_else(|| {
        "keepalived's scripts ask the admin socket and there is none: add [admin] with socket = \
         \"/run/shardgate/admin.sock\""
            .to_owned()
    })
}

/// The second line, for when nobody watches: keepalived asks by itself. While somebody does they say yes, because what a script
/// once said holds for a second.
fn scripts(out: &mut String, name: &str, program: &str, socket: &str, directory: &Path) {
    // Without the process this node cannot serve at all (weight 0: FAULT); while another serves better it only steps back.
    for (kind, flag, weight) in [("alive", "", 0), ("serves", " --serves", -i16::from(PENALTY))] {
        let _ = write!(
            out,
            "\nvrrp_script {name}_{kind} {{\n  script \"{program} vip check {name}{flag} -s {socket} --watched {}\"\n  \
             interval 1\n  timeout 2\n  rise 1\n  fall 1\n  weight {weight}\n}}\n",
            directory.display()
        );
    }
}

fn instance(
    out: &mut String,
    vip: &Vip,
    program: &str,
    socket: &str,
    local: impl Fn(IpAddr) -> bool,
) -> Result<(), String> {
    let name = &vip.name;
    let _ = write!(
        out,
        "\nvrrp_instance {name} {{\n  state BACKUP\n  interface {}\n  virtual_router_id {}\n  priority {}\n  advert_int {}.{:02}\n",
        vip.interface,
        vip.router_id,
        vip.priority,
        vip.advert_interval.as_secs(),
        vip.advert_interval.subsec_millis() / 10,
    );
    if !vip.preempt {
        out.push_str("  nopreempt\n");
    } else if !vip.preempt_delay.is_zero() {
        let _ = writeln!(out, "  preempt_delay {}", vip.preempt_delay.as_secs());
    }
    if !vip.peers.is_empty() {
        let own: Vec<IpAddr> = vip.peers.iter().copied().filter(|peer| local(*peer)).collect();
        let [own] = own[..] else {
            return Err(format!(
                "{}: {} of unicast-peers are addresses of this machine; list each node once",
                vip.origin,
                own.len()
            ));
        };
        let _ = write!(out, "  unicast_src_ip {own}\n  unicast_peer {{\n");
        for peer in vip.peers.iter().filter(|peer| **peer != own) {
            let _ = writeln!(out, "    {peer}");
        }
        out.push_str("  }\n");
    }
    let first_is_v4 = vip.addresses.first().is_none_or(|(address, _)| address.is_ipv4());
    for (block, is_v4) in [("virtual_ipaddress", first_is_v4), ("virtual_ipaddress_excluded", !first_is_v4)] {
        let own = vip.addresses.iter().filter(|(address, _)| address.is_ipv4() == is_v4);
        let lines: String = own.map(|(address, prefix)| format!("    {address}/{prefix}\n")).collect();
        if !lines.is_empty() {
            let _ = write!(out, "  {block} {{\n{lines}  }}\n");
        }
    }
    let _ = write!(
        out,
        "  track_script {{\n    {name}_alive\n    {name}_serves\n  }}\n  track_file {{\n    {name}_watch\n  }}\n  notify \"{program} vip notify -s {socket}\"\n}}\n"
    );
    Ok(())
}

/// For this machine and this binary.
///
/// # Errors
/// As [`keepalived`].
pub fn keepalived_here(model: &Model, directory: &Path) -> Result<String, String> {
    let program =
        std::env::current_exe().map_err(|e| format!("cannot tell the path of this program: {e}"))?;
    keepalived(model, &program.display().to_string(), directory, machine::is_local)
}

/// keepalived's track script: whether the process answers, and with `serves` whether this node is to have the address.
///
/// # Errors
/// Why not.
pub fn check(socket: &Path, name: &str, serves: bool) -> Result<(), String> {
    let answer = ask(socket, "show vip".to_owned())?;
    let row = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let row = row.ok_or_else(|| format!("the process that runs has no [vip.{name}]"))?;
    let words: Vec<&str> = row.split(' ').collect();
    if !serves {
        return Ok(());
    }
    match words[..] {
        [_, _, _, "ready", "yes", ..] => Ok(()),
        [_, _, _, "drain", ..] => Err(format!("{name} is drained")),
        [_, _, _, _, lacks, ..] => Err(format!("{name} does not serve ({lacks})")),
        _ => Err(format!("cannot read: {row}")),
    }
}

/// keepalived's notify hook: tells the process the role of an address.
///
/// # Errors
/// The process does not answer, or does not take it.
pub fn notify(socket: &Path, name: &str, role: &str) -> Result<(), String> {
    let answer = ask(socket, format!("set vip {name} role {role}"))?;
    if answer.trim().is_empty() { Ok(()) } else { Err(answer.trim().to_owned()) }
}

fn ask(socket: &Path, command: String) -> Result<String, String> {
    let mut answer = Vec::new();
    ctl::run(socket, &[command], &mut answer).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::load;

    fn model(vip: &str) -> Model {
        let text = format!(
            "[global]\nnode = \"lb1\"\n[admin]\nsocket = \"/run/a.sock\"\n[defaults]\n\
             timeout = {{ client = 1, connect = 1, server = 1 }}\n[backend.b.server.s]\naddress = \"192.0.2.1:1\"\n\
             [frontend.f]\nbind = \"0.0.0.0:80\"\ndefault-backend = \"b\"\n\
             [vip.web]\ninterface = \"eth0\"\nvirtual-router-id = 51\n{vip}\n"
        );
        let (model, diagnostics) = load::from_text("test", &text).expect("the machine can be looked at");
        model.unwrap_or_else(|| panic!("{diagnostics:?}"))
    }

    #[test]
    fn the_configuration_of_keepalived_is_made_of_the_vip() {
        let model = model(
            "addresses = [\"192.0.2.10/24\", \"2001:db8::10/64\"]\nadvert-interval = \"50ms\"\npriority = 150\n\
             unicast-peers = [\"192.0.2.2\", \"192.0.2.3\"]\npreempt-delay = \"30s\"\ntrack = \"b\"",
        );
        let local: IpAddr = "192.0.2.2".parse().expect("literal");
        let made =
            keepalived(&model, "/usr/bin/shardgate", Path::new("/run/v"), |ip| ip == local).expect("made");
        for expected in [
            "router_id lb1\n",
            "script \"/usr/bin/shardgate vip check web --serves -s /run/a.sock --watched /run/v\"\n",
            "weight -60\n",
            "track_file web_watch {\n  file \"/run/v/web\"\n  weight 1\n  init_file 0\n}\n",
            "vrrp_instance web {\n  state BACKUP\n  interface eth0\n  virtual_router_id 51\n  priority 150\n  advert_int 0.05\n  \
             preempt_delay 30\n  unicast_src_ip 192.0.2.2\n  unicast_peer {\n    192.0.2.3\n  }\n",
            "virtual_ipaddress {\n    192.0.2.10/24\n  }\n  virtual_ipaddress_excluded {\n    2001:db8::10/64\n  }\n",
            "notify \"/usr/bin/shardgate vip notify -s /run/a.sock\"\n",
        ] {
            assert!(made.contains(expected), "no {expected:?} in\n{made}");
        }
        let neither = keepalived(&model, "shardgate", Path::new("/run/v"), |_| false);
        assert!(neither.as_ref().is_err_and(|e| e.contains("0 of unicast-peers")), "{neither:?}");
    }

    #[test]
    fn multicast_needs_no_addresses_of_nodes() {
        let made = keepalived(
            &model("addresses = \"192.0.2.10/24\"\npreempt = false"),
            "x",
            Path::new("/run/v"),
            |_| false,
        );
        let made = made.expect("made");
        assert!(
            !made.contains("unicast") && made.contains("\n  nopreempt\n") && !made.contains("excluded"),
            "{made}"
        );
    }
}

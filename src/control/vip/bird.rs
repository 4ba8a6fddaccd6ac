//! BIRD's configuration from `[bgp]` and each `[vip.NAME]` with `announce = "bgp"`, and the dialogue with its control socket.
//! Each family of addresses is a protocol of its own that is off at the start: `watch` switches it on while this node serves.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::model::Model;
use crate::model::vip::{Announce, Bgp, Vip};

/// Where Debian's BIRD reads its configuration.
pub const BIRD_CONF: &str = "/etc/bird/bird.conf";
/// Where it takes commands.
pub const BIRD_SOCKET: &str = "/run/bird/bird.ctl";
/// It answers at once, or hangs.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// BIRD's configuration.
///
/// # Errors
/// What the configuration lacks for it.
pub fn configuration(model: &Model) -> Result<String, String> {
    let vips: Vec<&Vip> = model.vips.iter().filter(|vip| vip.announce == Announce::Bgp).collect();
    let Some(bgp) = model.bgp.as_ref().filter(|_| !vips.is_empty()) else {
        return Err("there is no [vip.NAME] with announce = \"bgp\" in this configuration".to_owned());
    };
    let mut out =
        "# Made by `shardgate vip bird`: change [bgp] and [vip.NAME] and make it again.\n".to_owned();
    // Not the service address, which all nodes have.
    let id = bgp.router_id.map_or("from \"-lo\", \"*\"".to_owned(), |id| id.to_string());
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(out, "router id {id};");
    // No protocol for the kernel: routes of this machine are not BIRD's business here.
    out.push_str("log syslog all;\nprotocol device { }\n");
    if bgp.bfd {
        out.push_str("protocol bfd { interface \"*\" { interval 100 ms; multiplier 3; }; }\n");
    }
    for vip in vips {
        for (family, is_v4) in [("ipv4", true), ("ipv6", false)] {
            let addresses = vip.addresses.iter().filter(|(address, _)| address.is_ipv4() == is_v4);
            let routes: String = addresses
                .map(|(address, prefix)| format!("  route {address}/{prefix} blackhole;\n"))
                .collect();
            if !routes.is_empty() {
                let _ = write!(
                    out,
                    "protocol static 'vip:{}:{family}' {{\n  disabled;\n  {family};\n{routes}}}\n",
                    vip.name
                );
            }
        }
    }
    neighbors(&mut out, bgp);
    Ok(out)
}

fn neighbors(out: &mut String, bgp: &Bgp) {
    for (number, (address, remote_as)) in (1..).zip(&bgp.neighbors) {
        let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        let _ = write!(
            out,
            "protocol bgp neighbor{number} {{\n  local as {};\n  neighbor {address} as {remote_as};\n  hold time {};\n",
            bgp.local_as,
            bgp.hold_time.as_secs()
        );
        if bgp.bfd {
            out.push_str("  bfd on;\n");
        }
        // BIRD's own patience (minutes after an error) would keep a node that is back from serving. And one that starts again has
        // nothing to keep: traffic is to leave it.
        out.push_str("  connect delay time 1;\n  connect retry time 5;\n  error wait time 1, 30;\n");
        let _ = write!(
            out,
            "  graceful restart off;\n  {family} {{ import none; export where proto ~ \"vip:*\"; next hop self; }};\n}}\n"
        );
    }
}

/// Announces the addresses of a vip, or withdraws them; `*` is all of them. What is so already stays so.
///
/// # Errors
/// BIRD does not answer, or knows no such addresses.
pub fn switch(socket: &Path, name: &str, announce: bool) -> Result<(), String> {
    let wrong = |e: std::io::Error| format!("BIRD at {}: {e}", socket.display());
    let mut stream = UnixStream::connect(socket).map_err(wrong)?;
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(wrong)?;
    let mut lines = BufReader::new(stream.try_clone().map_err(wrong)?).lines();
    let verb = if announce { "enable" } else { "disable" };
    stream.write_all(format!("{verb} \"vip:{name}:*\"\n").as_bytes()).map_err(wrong)?;
    // The greeting ends with a line of its own, then comes the answer.
    for _ in 0..2 {
        loop {
            let line = lines.next().ok_or_else(|| "BIRD closed the connection".to_owned())?.map_err(wrong)?;
            if last_line(&line)?.is_some() {
                break;
            }
        }
    }
    Ok(())
}

/// BIRD's lines begin with a code: `0001 BIRD 2.0.12 ready.`; with `-` after it more lines follow, 8000 and above are errors.
fn last_line(line: &str) -> Result<Option<&str>, String> {
    let Some((code, text)) = line.split_at_checked(4) else { return Ok(None) };
    match (code.parse::<u16>(), text.strip_prefix(' ')) {
        (Ok(8000..), _) => Err(format!("BIRD: {}", text.trim_start_matches(['-', ' ']))),
        (Ok(_), Some(text)) => Ok(Some(text)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::load;

    fn model(bgp: &str, vip: &str) -> Model {
        let text = format!(
            "[admin]\nsocket = \"/run/a.sock\"\n[defaults]\ntimeout = {{ client = 1, connect = 1, server = 1 }}\n\
             [backend.b.server.s]\naddress = \"192.0.2.1:1\"\n[frontend.f]\nbind = \"0.0.0.0:80\"\ndefault-backend = \"b\"\n\
             {bgp}\n[vip.web]\n{vip}\n"
        );
        let (model, diagnostics) = load::from_text("test", &text).expect("the machine can be looked at");
        model.unwrap_or_else(|| panic!("{diagnostics:?}"))
    }

    #[test]
    fn addresses_are_protocols_that_are_off_until_this_node_serves() {
        let model = model(
            "[bgp]\nlocal-as = 64512\nneighbors = [\"10.0.0.1 64500\", \"fd00::1 64500\"]\nbfd = true",
            "announce = \"bgp\"\naddresses = [\"192.0.2.10/32\", \"2001:db8::10/128\"]",
        );
        let made = configuration(&model).expect("made");
        for expected in [
            "router id from \"-lo\", \"*\";\n",
            "protocol static 'vip:web:ipv4' {\n  disabled;\n  ipv4;\n  route 192.0.2.10/32 blackhole;\n}\n",
            "protocol static 'vip:web:ipv6' {\n  disabled;\n  ipv6;\n  route 2001:db8::10/128 blackhole;\n}\n",
            "protocol bgp neighbor1 {\n  local as 64512;\n  neighbor 10.0.0.1 as 64500;\n  hold time 9;\n  bfd on;\n",
            "  ipv6 { import none; export where proto ~ \"vip:*\"; next hop self; };\n",
        ] {
            assert!(made.contains(expected), "no {expected:?} in\n{made}");
        }
    }

    #[test]
    fn answers_of_bird_are_read_to_their_last_line() {
        for (line, expected) in [
            ("0001 BIRD 2.0.12 ready.", Ok(Some("BIRD 2.0.12 ready."))),
            ("0011-vip:web:ipv4: enabled", Ok(None)),
            (" vip:web:ipv6: enabled", Ok(None)),
            ("0000 ", Ok(Some(""))),
            ("8003 No protocols match", Err("BIRD: No protocols match".to_owned())),
            ("x", Ok(None)),
        ] {
            assert_eq!(last_line(line), expected, "{line}");
        }
    }
}

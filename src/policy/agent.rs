//! `agent-check`: what the one line means that an agent on the server answers. Connecting and reading is the control core's
//! work; it applies the reply to `live` and feeds [`AgentHealth`] to a [`Health`](crate::policy::health::Health) of rise 1 and fall 1.
//! An agent that cannot be reached or talks nonsense changes nothing.

use crate::base::limits::WEIGHT_MAX;
use crate::policy::health::CheckStatus;

/// What an agent said. Words that it did not say leave their part as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AgentReply<'a> {
    /// `up`, `down`, `stopped`, `fail`.
    pub health: Option<AgentHealth>,
    /// `ready`, `drain`, `maint`.
    pub admin: Option<AgentAdmin>,
    /// `75%`: percent of the configured weight.
    pub weight_percent: Option<u32>,
    /// `maxconn:100`.
    pub maxconn: Option<u32>,
    /// What follows a `#`, for the log; empty without one.
    pub description: &'a str,
}

/// The health that an agent reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AgentHealth {
    /// `up`.
    Up,
    /// `down`.
    Down,
    /// `stopped`: switched off on purpose.
    Stopped,
    /// `fail`: broken.
    Failed,
}

impl AgentHealth {
    /// The check result that it counts as.
    pub fn check_status(self) -> CheckStatus {
        match self {
            AgentHealth::Up => CheckStatus::L7Ok,
            AgentHealth::Down | AgentHealth::Stopped | AgentHealth::Failed => CheckStatus::L7Status,
        }
    }
}

/// The admin state that an agent asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AgentAdmin {
    /// `ready`: takes load.
    Ready,
    /// `drain`: takes only what persistence sends.
    Drain,
    /// `maint`: takes nothing.
    Maint,
}

/// Why a reply says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AgentError {
    /// There is no end of line yet: read on.
    Incomplete,
    /// The line is not text.
    NotText,
    /// No word of the line is known.
    NoKnownWord,
}

/// Reads the first line of a reply. Words stand in any order between spaces, tabs or commas, in any case; unknown words are
/// skipped. `at_end` says that the agent has closed, which ends the line too.
pub fn parse_reply(reply: &[u8], at_end: bool) -> Result<AgentReply<'_>, AgentError> {
    let line = match memchr::memchr2(b'\r', b'\n', reply) {
        Some(end) => &reply[..end],
        None if at_end => reply,
        None => return Err(AgentError::Incomplete),
    };
    let line = std::str::from_utf8(line).map_err(|_| AgentError::NotText)?;
    let (words, description) = line.split_once('#').unwrap_or((line, ""));
    let mut said = AgentReply::default();
    for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        read_word(&word.to_ascii_lowercase(), &mut said);
    }
    if said == AgentReply::default() {
        return Err(AgentError::NoKnownWord);
    }
    Ok(AgentReply { description: description.trim(), ..said })
}

fn read_word(word: &str, said: &mut AgentReply<'_>) {
    match word {
        "up" => said.health = Some(AgentHealth::Up),
        "down" => said.health = Some(AgentHealth::Down),
        "stopped" => said.health = Some(AgentHealth::Stopped),
        "fail" | "failed" => said.health = Some(AgentHealth::Failed),
        "ready" => said.admin = Some(AgentAdmin::Ready),
        "drain" => said.admin = Some(AgentAdmin::Drain),
        "maint" => said.admin = Some(AgentAdmin::Maint),
        _ => {
            if let Some(percent) = word.strip_suffix('%') {
                said.weight_percent = percent.parse().ok().or(said.weight_percent);
            } else if let Some(maxconn) = word.strip_prefix("maxconn:") {
                said.maxconn = maxconn.parse().ok().or(said.maxconn);
            }
        }
    }
}

/// A weight of that percentage of the configured one, 0 to [`WEIGHT_MAX`]. Also `set weight N%`.
pub fn percent_of_weight(configured: u32, percent: u32) -> u32 {
    let weight = u64::from(configured) * u64::from(percent) / 100;
    u32::try_from(weight).unwrap_or(WEIGHT_MAX).min(WEIGHT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENT: AgentReply<'static> =
        AgentReply { health: None, admin: None, weight_percent: None, maxconn: None, description: "" };

    #[test]
    fn words_in_any_order_and_case() {
        for (reply, expected) in [
            ("up\n", AgentReply { health: Some(AgentHealth::Up), ..SILENT }),
            ("75%\r\n", AgentReply { weight_percent: Some(75), ..SILENT }),
            ("maxconn:30\n", AgentReply { maxconn: Some(30), ..SILENT }),
            (
                "DRAIN, 0% up\n",
                AgentReply {
                    health: Some(AgentHealth::Up),
                    admin: Some(AgentAdmin::Drain),
                    weight_percent: Some(0),
                    ..SILENT
                },
            ),
            (
                "fail # disk full \nup\n",
                AgentReply { health: Some(AgentHealth::Failed), description: "disk full", ..SILENT },
            ),
            ("hello ready\n", AgentReply { admin: Some(AgentAdmin::Ready), ..SILENT }),
            ("stopped maint\r", {
                AgentReply { health: Some(AgentHealth::Stopped), admin: Some(AgentAdmin::Maint), ..SILENT }
            }),
            ("50% 99999999999%\n", AgentReply { weight_percent: Some(50), ..SILENT }),
        ] {
            assert_eq!(parse_reply(reply.as_bytes(), false), Ok(expected), "{reply:?}");
        }
    }

    #[test]
    fn nonsense_says_nothing() {
        for (reply, at_end, expected) in [
            (&b"up"[..], false, AgentError::Incomplete),
            (b"", false, AgentError::Incomplete),
            (b"", true, AgentError::NoKnownWord),
            (b"\n", false, AgentError::NoKnownWord),
            (b"upper downer\n", false, AgentError::NoKnownWord),
            (b"# up\n", false, AgentError::NoKnownWord),
            (b"-5%\n", false, AgentError::NoKnownWord),
            (b"maxconn:\n", false, AgentError::NoKnownWord),
            (b"up \xff\n", false, AgentError::NotText),
        ] {
            assert_eq!(parse_reply(reply, at_end), Err(expected), "{reply:?}");
        }
        let closed = parse_reply(b"down", true).expect("the end of the reply ends the line");
        assert_eq!(closed.health, Some(AgentHealth::Down));
    }

    #[test]
    fn a_percentage_never_leaves_the_range_of_weights() {
        for (configured, percent, expected) in
            [(100, 50, 50), (1, 50, 0), (100, 0, 0), (100, 1000, 256), (256, u32::MAX, 256), (0, 100, 0)]
        {
            assert_eq!(percent_of_weight(configured, percent), expected, "{percent}% of {configured}");
        }
    }

    #[test]
    fn health_counts_as_a_check() {
        assert_eq!(AgentHealth::Up.check_status(), CheckStatus::L7Ok);
        assert_eq!(AgentHealth::Stopped.check_status(), CheckStatus::L7Status);
    }
}

//! The status words of `show stat`: the vocabulary that HAProxy's tools compare with. Facts in, text out.

use std::borrow::Cow;
use std::fmt;

/// State of a frontend or bind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenStatus {
    /// Accepts.
    Open,
    /// At its connection limit: accepts again when a session ends (binds only).
    Full,
    /// Disabled by the administrator; may be enabled again.
    Paused,
    /// Stopped for good (shutdown, or the address could not be bound).
    Stop,
}

impl fmt::Display for ListenStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListenStatus::Open => "OPEN",
            ListenStatus::Full => "FULL",
            ListenStatus::Paused => "PAUSED",
            ListenStatus::Stop => "STOP",
        })
    }
}

/// Why a server is out of rotation by decision, not by health.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Admin {
    /// It is not.
    #[default]
    Ready,
    /// No new sessions but persistent ones.
    Drain,
    /// Maintenance.
    Maint,
    /// Maintenance because the server it tracks (`backend/server`) is in maintenance.
    MaintVia(String),
    /// Its name does not resolve.
    MaintResolution,
}

impl Admin {
    /// Whether it is in maintenance for any reason.
    pub fn is_maint(&self) -> bool {
        !matches!(self, Admin::Ready | Admin::Drain)
    }
}

/// What the checks say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Health {
    /// It has no check.
    #[default]
    Unchecked,
    /// A check decides.
    Checked {
        /// Whether it takes traffic.
        up: bool,
        /// It asked to leave the rotation (`health stopping`, HTTP 404).
        stopping: bool,
        /// From 0 to rise + fall - 1; the server changes state at `rise`.
        level: u32,
        /// Successes that bring it up.
        rise: u32,
        /// Failures that take it down.
        fall: u32,
    },
}

impl Health {
    /// Whether it takes traffic as far as checks say.
    pub fn is_up(&self) -> bool {
        matches!(self, Health::Unchecked | Health::Checked { up: true, .. })
    }
}

macro_rules! check_results {
    ($($(#[$attribute:meta])+ $result:ident $number:literal $passed:ident $code:literal $words:literal;)*) => {
        /// The result of a health check, in HAProxy's vocabulary.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub enum CheckResult {
            $($(#[$attribute])+ $result,)*
        }

        impl CheckResult {
            /// The short code of `check_status`.
            pub fn code(self) -> &'static str {
                match self { $(CheckResult::$result => $code,)* }
            }
            /// The code in words (`check_desc`).
            pub fn words(self) -> &'static str {
                match self { $(CheckResult::$result => $words,)* }
            }
            /// HAProxy's number of it, in `show servers state`.
            pub fn number(self) -> u32 {
                match self { $(CheckResult::$result => $number,)* }
            }
            /// Whether the check passed; `None`: there is no result yet.
            pub fn passed(self) -> Option<bool> {
                match self { $(CheckResult::$result => $passed,)* }
            }
        }
    };
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

check_results! {
    /// No check has ended yet.
    #[default]
    Init 1 None "INI" "Initializing";
    /// A socket could not be made or used on our side.
    SocketError 5 NO "SOCKERR" "Socket error";
    /// Connected, and that was all that was asked.
    Layer4Ok 6 YES "L4OK" "Layer4 check passed";
    /// No connection in time.
    Layer4Timeout 7 NO "L4TOUT" "Layer4 timeout";
    /// Connection refused or unreachable.
    Layer4Error 8 NO "L4CON" "Layer4 connection problem";
    /// TLS established, and that was all that was asked.
    Layer6Ok 9 YES "L6OK" "Layer6 check passed";
    /// No TLS in time.
    Layer6Timeout 10 NO "L6TOUT" "Layer6 timeout";
    /// TLS failed.
    Layer6Error 11 NO "L6RSP" "Layer6 invalid response";
    /// No answer in time.
    Layer7Timeout 12 NO "L7TOUT" "Layer7 timeout";
    /// The answer was not what was expected.
    Layer7Error 13 NO "L7RSP" "Layer7 invalid response";
    /// The answer was as expected.
    Layer7Ok 15 YES "L7OK" "Layer7 check passed";
    /// The answer said that the server is to be drained.
    Layer7Drain 16 YES "L7OKC" "Layer7 check conditionally passed";
    /// The answer's status says that it is not well.
    Layer7Status 17 NO "L7STS" "Layer7 wrong status";
}

/// The status of a server: `UP`, `UP 1/3`, `DOWN 1/2`, `NOLB`, `DRAIN`, `MAINT (via be/srv)`, `no check`.
///
/// `n/m` appears during a change: while up, how many of `fall` failures are left; while down, how many of `rise`
/// successes there were.
pub fn server_status(admin: &Admin, health: Health) -> Cow<'static, str> {
    match admin {
        Admin::Maint => return "MAINT".into(),
        Admin::MaintVia(server) => return format!("MAINT (via {server})").into(),
        Admin::MaintResolution => return "MAINT (resolution)".into(),
        Admin::Drain | Admin::Ready => {}
    }
    let draining = *admin == Admin::Drain;
    match health {
        Health::Unchecked if draining => "DRAIN".into(),
        Health::Unchecked => "no check".into(),
        Health::Checked { up: true, stopping, level, rise, fall } => {
            let word = match (draining, stopping) {
                (true, _) => "DRAIN",
                (false, true) => "NOLB",
                (false, false) => "UP",
            };
            let full = (rise + fall).saturating_sub(1);
            if level >= full {
                word.into()
            } else {
                format!("{word} {}/{fall}", (level + 1).saturating_sub(rise)).into()
            }
        }
        Health::Checked { up: false, level: 0, .. } => "DOWN".into(),
        Health::Checked { up: false, level, rise, .. } => format!("DOWN {level}/{rise}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_words_are_those_of_haproxy() {
        let checked = |up, level| Health::Checked { up, stopping: false, level, rise: 2, fall: 3 };
        let stopping = Health::Checked { up: true, stopping: true, level: 4, rise: 2, fall: 3 };
        for (admin, health, text) in [
            (Admin::Ready, checked(true, 4), "UP"),
            (Admin::Ready, checked(true, 3), "UP 2/3"),
            (Admin::Ready, checked(true, 2), "UP 1/3"),
            (Admin::Ready, checked(false, 0), "DOWN"),
            (Admin::Ready, checked(false, 1), "DOWN 1/2"),
            (Admin::Ready, stopping, "NOLB"),
            (Admin::Ready, Health::Unchecked, "no check"),
            (Admin::Drain, Health::Unchecked, "DRAIN"),
            (Admin::Drain, checked(true, 4), "DRAIN"),
            (Admin::Drain, checked(true, 3), "DRAIN 2/3"),
            (Admin::Drain, checked(false, 0), "DOWN"),
            (Admin::Maint, checked(true, 4), "MAINT"),
            (Admin::MaintVia("be/s1".to_owned()), Health::Unchecked, "MAINT (via be/s1)"),
            (Admin::MaintResolution, checked(false, 0), "MAINT (resolution)"),
        ] {
            assert_eq!(server_status(&admin, health), text, "{admin:?} {health:?}");
        }
    }
}

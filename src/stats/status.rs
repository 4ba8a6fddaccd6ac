//! The status words of `show stat`: the vocabulary that HAProxy's tools compare with. Facts in, text out.

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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// It has no check.
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

/// The status of a server: `UP`, `UP 1/3`, `DOWN 1/2`, `NOLB`, `DRAIN`, `MAINT (via be/srv)`, `no check`.
///
/// `n/m` appears during a change: while up, how many of `fall` failures are left; while down, how many of `rise`
/// successes there were.
pub fn server_status(admin: &Admin, health: Health) -> String {
    match admin {
        Admin::Maint => return "MAINT".to_owned(),
        Admin::MaintVia(server) => return format!("MAINT (via {server})"),
        Admin::MaintResolution => return "MAINT (resolution)".to_owned(),
        Admin::Drain | Admin::Ready => {}
    }
    let draining = *admin == Admin::Drain;
    match health {
        Health::Unchecked if draining => "DRAIN".to_owned(),
        Health::Unchecked => "no check".to_owned(),
        Health::Checked { up: true, stopping, level, rise, fall } => {
            let word = match (draining, stopping) {
                (true, _) => "DRAIN",
                (false, true) => "NOLB",
                (false, false) => "UP",
            };
            let full = (rise + fall).saturating_sub(1);
            if level >= full {
                word.to_owned()
            } else {
                format!("{word} {}/{fall}", (level + 1).saturating_sub(rise))
            }
        }
        Health::Checked { up: false, level: 0, .. } => "DOWN".to_owned(),
        Health::Checked { up: false, level, rise, .. } => format!("DOWN {level}/{rise}"),
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

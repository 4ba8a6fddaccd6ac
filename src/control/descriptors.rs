//! How many client connections the file descriptors of the process allow. Pure.

use crate::base::limits::{ADMIN_CONNECTIONS_MAX, DESCRIPTORS_PER_CORE, DESCRIPTORS_PROCESS, MAXCONN_MAX};
use crate::model::Model;

/// What limits client connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Budget {
    /// In effect: what the configuration says, or what the descriptors allow.
    pub(super) maxconn: u32,
    /// What the descriptors allow (`Hard_maxconn`).
    pub(super) hard_maxconn: u32,
}

/// Descriptors that are not there for sessions.
pub(super) fn reserved(model: &Model, open_files: u64) -> u64 {
    let count = |n: usize| n as u64;
    let cores = count(model.global.cores.len());
    let checks = count(model.servers.values().filter(|server| server.check.is_some()).count());
    // A relay without a pipe copies instead: pipes take a quarter at most.
    let pipes = (u64::from(model.global.pipes_max) * cores * 2).min(open_files / 4);
    DESCRIPTORS_PROCESS
        + (cores + 1) * DESCRIPTORS_PER_CORE
        + count(model.binds.len()) * cores
        + count(ADMIN_CONNECTIONS_MAX + model.global.admin.len())
        + checks
        + pipes
}

/// A session needs two descriptors: its client's and its server's.
pub(super) fn budget(open_files: u64, reserved: u64, wanted: Option<u32>) -> Budget {
    let sessions = open_files.saturating_sub(reserved) / 2;
    let hard_maxconn = u32::try_from(sessions).unwrap_or(u32::MAX).max(1);
    let maxconn = wanted.unwrap_or(MAXCONN_MAX).min(hard_maxconn);
    Budget { maxconn, hard_maxconn }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maxconn_is_what_the_descriptors_allow_unless_less_is_wanted() {
        for (open_files, reserved, wanted, maxconn, hard) in [
            (1024, 24, None, 500, 500),
            (1024, 24, Some(100), 100, 500),
            (1024, 24, Some(5000), 500, 500),
            (1_000_000_000, 100, None, MAXCONN_MAX, 499_999_950),
            (u64::MAX, 0, None, MAXCONN_MAX, u32::MAX),
            (64, 100, None, 1, 1),
        ] {
            let expected = Budget { maxconn, hard_maxconn: hard };
            assert_eq!(budget(open_files, reserved, wanted), expected, "{open_files} {reserved} {wanted:?}");
        }
    }
}

//! What each core counts about itself and about the process: the lines of `show activity`, and the sums behind
//! `show info`. Cells are [`super::counters::CoreCells`].

use crate::base::time::Now;

macro_rules! core_table {
    ($($stat:ident $name:literal $level:literal $help:literal;)*) => {
        /// A number of one core.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum CoreStat {
            $(#[doc = concat!("`", $name, "`: ", $help)] $stat,)*
        }

        /// All of them, in the order of `show activity`.
        pub const CORE_TABLE: &[CoreRow] = &[$(CoreRow {
            stat: CoreStat::$stat, name: $name, level: $level, help: $help,
        }),*];
    };
}

/// One line of `show activity`.
#[derive(Clone, Copy, Debug)]
pub struct CoreRow {
    /// Its id.
    pub stat: CoreStat,
    /// Its name.
    pub name: &'static str,
    /// Goes up and down, instead of only growing.
    pub level: bool,
    /// One sentence for the operator.
    pub help: &'static str,
}

/// Cells of a core.
pub const CORE_CELLS: usize = CORE_TABLE.len();

core_table! {
    // id              name               level help
    Turns              "loops"            false "Turns of the core's loop.";
    Enters             "enters"           false "io_uring_enter calls.";
    Waits              "waits"            false "Turns that blocked because nothing was runnable.";
    IdleNs             "idle_ns"          false "Nanoseconds spent blocked.";
    CpuNs              "cpu_ns"           false "Nanoseconds of CPU time of the core's thread.";
    Completions        "completions"      false "Operations that completed, but for closes and cancels that did.";
    Submissions        "submissions"      false "Operations submitted to the ring, or done at once.";
    Tasks              "tasks"            true  "Tasks alive.";
    TimersFired        "timers_fired"     false "Deadlines that passed.";
    Connections        "conn_cur"         true  "Client connections open.";
    Parked             "conn_parked"      true  "Quiet HTTP connections that wait without a task.";
    ConnectionsTotal   "conn_tot"         false "Client connections accepted by this core.";
    SessionsTotal      "sess_tot"         false "Sessions started.";
    RequestsTotal      "req_tot"          false "Requests (in TCP mode: none).";
    AcceptErrors       "accept_errors"    false "accept(2) failures.";
    AcceptPauses       "accept_pauses"    false "Times that accepting stopped because no file descriptor was free.";
    HandoversOut       "handover_out"     false "Connections given to another core.";
    HandoversIn        "handover_in"      false "Connections taken from another core.";
    IdleGiven          "idle_given"       false "Idle server connections given to another core that had none.";
    SharedWrites       "shared_writes"    false "Writes to memory that other cores write too: limits of several cores, queues, mailboxes.";
    Messages           "messages"         false "Mailbox messages received.";
    ServerConnections  "server_conn_cur"  true  "Connections to servers: in use, being opened, idle.";
    Buffers            "buf_cur"          true  "Receive buffers in use.";
    BufferWaits        "buf_wait"         false "Receives that found no free buffer.";
    Pipes              "pipe_cur"         true  "Pipes in use for splicing.";
    PipesFree          "pipe_free"        true  "Pipes kept for the next splice.";
    PipeMisses         "pipe_miss"        false "Relays that had to copy because no pipe was free.";
    BytesOut           "bytes_out"        false "Bytes sent to clients and servers.";
    SplicedBytesOut    "spliced_out"      false "Bytes of bytes_out that went through a pipe.";
    TlsConnections     "tls_cur"          true  "TLS connections open, both sides.";
    TlsTotal           "tls_tot"          false "TLS connections since the start, both sides.";
    TlsClientKeys      "tls_full_clients" false "Full TLS handshakes with clients.";
    TlsClientResumed   "tls_resumed_clients" false "TLS handshakes with clients that resumed a session.";
    TlsServerKeys      "tls_full_servers" false "Full TLS handshakes with servers.";
    TlsUnexpected      "tls_unexpected"   false "TLS connections ended, both sides, for a message that has no place behind the handshake: an attempt to renegotiate, for one.";
    TlsBadRecords      "tls_bad_records"  false "TLS connections ended, both sides, for a record that could not be opened.";
    TlsAlerts          "tls_alerts"       false "TLS connections, both sides, that the peer ended with an alert behind the handshake.";
    TlsCut             "tls_cut"          false "TLS connections, both sides, that the peer closed without close_notify.";
    Panics             "panics"           false "Sessions that ended by a panic of ours.";
    TimersLost         "timers_lost"      false "Batches of durations dropped because the control core did not keep up.";
    DroppedLogs        "dropped_logs"     false "Log lines dropped because the sink was full.";
    Resolutions        "resolutions_failed" false "Name resolutions that failed (control core).";
}

/// Marks a cell of `IdleNs` that holds the time that the core did not sleep: less than the 292 years that this leaves.
const STILL: u64 = 1 << 63;

/// What stands in the cell of `IdleNs`. A core that mostly sleeps gives the time, and what it says lasts: as long as it says nothing
/// else it is taken to sleep.
pub fn idle_cell(still_at: Option<Now>, idle_ns: u64) -> u64 {
    still_at.map_or(idle_ns, |now| STILL | now.0.saturating_sub(idle_ns))
}

/// The time that a core has slept, from its cell.
pub fn idle_ns(cell: u64, now: Now) -> u64 {
    if cell & STILL == 0 { cell } else { now.0.saturating_sub(cell & !STILL) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (i, row) in CORE_TABLE.iter().enumerate() {
            assert!(CORE_TABLE[i + 1..].iter().all(|other| other.name != row.name), "{}", row.name);
            assert_eq!(row.stat as usize, i);
        }
    }
}

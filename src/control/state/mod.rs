//! What is remembered beyond a generation and beyond the life of the process: runtime changes as overrides of configured values,
//! and the health of servers. Pure ([`overrides`], [`journal`]) but for the thread that writes the file ([`file`]).

pub(super) mod file;
pub(super) mod journal;
pub(super) mod overrides;
